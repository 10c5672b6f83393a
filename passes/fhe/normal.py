"""A Cascade on encrypted tensors in normal form (steps.py), and what of it is in the clear.

What depends on nothing encrypted is no step: it is left to a plain Cascade that is evaluated in the
clear, beforehand. So are plain subexpressions of what is encrypted, as Einsums of their own:

    P[i] = 2 * X[i] / sqrt(D) * exp(B[i])     with X encrypted
 -> P1[i] = (2 / sqrt(D)) * exp(B[i])         in the clear
    P[i] = X[i] * P1[i]
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ...ir import partitions
from ...ir.cascade import Cascade, fresh_name
from ...ir.einsum import Einsum
from ...ir.errors import ArgumentError, UnsupportedError
from ...ir.ranks import Rank
from ...ir.sizes import infer_sizes
from ..scope import without_unread
from .approximate import Approximation, check_names
from .expressions import Expressions
from .steps import Normal
from .unroll import unrolled
from .writer import Writer


def sized(cascade: Cascade, sizes: Mapping[str, int]) -> Cascade:
    """The Cascade with every extent a number, so that a part of it knows them all."""
    ranks = tuple(Rank(rank.name, sizes[rank.name], rank.span) for rank in cascade.ranks)
    return replace(cascade, ranks=ranks)


def depending(cascade: Cascade, secret: Collection[str]) -> frozenset[str]:
    """The tensors that depend on those, themselves included."""
    found = set(secret)
    while True:
        more = {
            einsum.name
            for einsum in cascade.einsums
            if einsum.name not in found and any(read.tensor in found for read in einsum.reads())
        }
        if not more:
            return frozenset(found)
        found |= more


def checked_secret(cascade: Cascade, secret: Collection[str] | None) -> tuple[str, ...]:
    """The encrypted inputs in order; None: all of them.

    Raises:
        ArgumentError: a name is of no input.
        UnsupportedError: nothing is encrypted, or something of integers.
    """
    names = [decl.name for decl in cascade.inputs]
    wrong = [name for name in secret or () if name not in names]
    if wrong:
        raise ArgumentError(f"{', '.join(wrong)} is no input", passed=(f"inputs: {names}",))
    found = tuple(name for name in names if secret is None or name in secret)
    if not found:
        raise UnsupportedError("nothing is encrypted", hint="name an input as secret")
    for decl in cascade.inputs:
        if decl.name in found and decl.dtype is not None and not decl.dtype.is_inexact:
            raise UnsupportedError(
                f"{decl.name} is encrypted and declared {decl.dtype}: slots hold real numbers",
                span=decl.span,
                hint=f"declare it f64, if its numbers are not to wrap as those of {decl.dtype}",
            )
    return found


def written_out(
    cascade: Cascade, shapes: Mapping[str, Sequence[int]], encrypted: Collection[str]
) -> tuple[Cascade, dict[str, int]]:
    """The Cascade without partitions, encrypted scans and what nothing reads; all its extents."""
    extents = infer_sizes(cascade, shapes)
    cascade = sized(partitions.expand(cascade), extents)
    cascade = replace(cascade, einsums=tuple(without_unread(cascade.einsums, cascade.outputs)))
    cascade = unrolled(cascade, extents, depending(cascade, encrypted))
    extents |= {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    return cascade, extents


def normal_form(
    cascade: Cascade,
    shapes: Mapping[str, Sequence[int]],
    secret: Collection[str] | None = None,
    approximate: Mapping[str, Approximation] | None = None,
) -> Normal:
    """The normal form of a Cascade for arrays of those shapes.

    Args:
        secret: the inputs that are encrypted; None: all of them.
        approximate: by the name of a function, or of a tensor for the functions in its Einsum.

    Raises:
        UnsupportedError: an encrypted Einsum has what CKKS has not, such as max, a comparison, or
            a division by what is encrypted, and no approximation is asked for.
        ArgumentError: a name is wrong, a function has no value on its interval, or nothing uses an
            approximation.
        RankError: the shapes do not fit.
    """
    encrypted = checked_secret(cascade, secret)
    asked = dict(approximate or {})
    check_names(asked, [einsum.name for einsum in cascade.einsums])
    cascade, extents = written_out(cascade, shapes, encrypted)
    hidden = depending(cascade, encrypted)
    writer = Writer(cascade, extents, shapes, hidden)
    expressions = Expressions(writer, asked)
    for einsum in cascade.einsums:
        if einsum.name in hidden:
            _check(einsum)
            expressions.write(einsum)
    expressions.check_used(cascade.einsums)
    spans = {einsum.name: einsum.span for einsum in cascade.einsums if einsum.name in hidden}
    plain = replace(
        cascade,
        name=fresh_name(f"{cascade.name}_plain", cascade.names()),
        inputs=tuple(decl for decl in cascade.inputs if decl.name not in encrypted),
        einsums=(*(e for e in cascade.einsums if e.name not in hidden), *writer.lifted),
        outputs=(),
        assumptions=(),
    )
    return Normal(
        cascade.name,
        tuple(writer.steps),
        plain,
        encrypted,
        tuple(name for name in cascade.outputs if name in hidden),
        tuple(name for name in cascade.outputs if name not in hidden),
        {name.lower(): size for name, size in extents.items()},
        writer.shapes,
        tuple(dict.fromkeys(expressions.approximated)),
        spans,
    )


def _check(einsum: Einsum) -> None:
    """An encrypted Einsum is over the real numbers, and at every coordinate."""
    if einsum.ring.name not in ("sum_product", "counting"):
        raise UnsupportedError(
            f"{einsum.name} is over the semiring {einsum.ring.name}: encrypted slots are added "
            "and multiplied, and nothing else",
            span=einsum.span,
            hint="sums and products as they are usually written; max(a, b) and min(a, b) of two "
            "values can be approximated",
        )
    if einsum.dtype is not None and not einsum.dtype.is_inexact:
        raise UnsupportedError(
            f"{einsum.name} is encrypted and stored as {einsum.dtype}: slots hold real numbers",
            span=einsum.span,
        )
    if any(index.variable is None for index in einsum.left):
        raise UnsupportedError(
            f"{einsum.name} is encrypted and defined at one coordinate",
            span=einsum.span,
            hint="leave that axis out",
        )
