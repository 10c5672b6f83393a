"""What can be differentiated, and the form in which it is: one reduction, at the top, an Einsum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..ir import partitions
from ..ir.cascade import Cascade
from ..ir.einsum import Access, Einsum, Map, Reduce, UserOperator, walk
from ..ir.errors import PassError, UnsupportedError
from ..ir.infer import infer_dtypes
from ..ir.lift import lift
from .lags import single_steps
from .rewrite import without_unread
from .rewrites.plain import Plain


def check(cascade: Cascade, wrt: Sequence[str]) -> None:
    """Raises a PassError if there is nothing to differentiate, or nothing to do so by."""
    dtypes = infer_dtypes(cascade, {})
    inputs = [decl.name for decl in cascade.inputs]
    for name in wrt:
        if name not in inputs:
            raise PassError(
                f"{name} is not an input of {cascade.name}",
                deduced=(f"inputs: {', '.join(map(str, cascade.inputs))}",),
            )
        if not dtypes[name].is_inexact:
            raise PassError(
                f"{name} is {dtypes[name]}, so nothing is differentiable by it",
                hint="floating and complex inputs have cotangents; others are constants",
            )
    if not wrt or len(set(wrt)) < len(wrt):
        raise PassError("wrt= names one input or more, each once")
    if not any(dtypes[name].is_inexact for name in cascade.outputs):
        raise PassError(f"no output of {cascade.name} is floating or complex")


def reached_from(cascade: Cascade, wrt: Sequence[str]) -> set[str]:
    """The tensors that depend on the inputs `wrt`; those of a scan on one another."""
    reached, before = set(wrt), -1
    while len(reached) != before:
        before = len(reached)
        for einsum in cascade.einsums:
            if any(access.tensor in reached for access in einsum.reads()):
                reached.add(einsum.name)
    return reached


def prepared(cascade: Cascade, wrt: Sequence[str]) -> Cascade:
    """Without what is unused, partitions, operators of the text's own, and inner reductions.

    Scans step by one.
    """
    einsums = tuple(without_unread(cascade.einsums, cascade.outputs))
    cascade = replace(cascade, einsums=einsums)
    own = any(
        isinstance(node, Map | Reduce) and isinstance(node.op, UserOperator)
        for einsum in einsums
        for node in walk(einsum.expr)
    )
    cascade = single_steps(Plain()(cascade) if own else partitions.expand(cascade))
    reached = reached_from(cascade, wrt)
    names, dtypes = cascade.names(), infer_dtypes(cascade, {})
    flat: list[Einsum] = []
    for einsum in cascade.einsums:
        if einsum.name not in reached:
            flat.append(einsum)
            continue
        _check_bits(einsum, reached)
        made, rest = lift(einsum, lambda node: True, names, dtypes)
        flat += [*made, rest]
    return replace(cascade, einsums=tuple(flat))


def _check_bits(einsum: Einsum, reached: set[str]) -> None:
    for node in walk(einsum.expr):
        if isinstance(node, Map) and node.op == "bitcast" and node.dtype and node.dtype.is_inexact:
            reads = {inner.tensor for inner in walk(node) if isinstance(inner, Access)}
            if reads & reached:
                raise UnsupportedError(
                    f"{einsum.name} makes floating values of bits, which has no derivative",
                    span=node.span or einsum.span,
                    hint="give the values a formula, or leave what they depend on out of wrt=",
                )
