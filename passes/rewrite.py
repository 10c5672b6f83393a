"""Rewrite rules: one law, one function, applied wherever it holds until it holds nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import ClassVar, TypeAlias

from ..ir.cascade import Cascade
from ..ir.einsum import (
    PLACES,
    Access,
    Einsum,
    Expr,
    Map,
    Op,
    Reduce,
    free_variables,
)
from ..ir.einsum import Law as OperatorLaw
from ..ir.errors import PassError
from ..ir.operators import is_chain, laws_of
from ..ir.ranks import RankExpr
from ..ir.source import Span
from .base import Pass
from .scope import Scope
from .scope import needed_for as needed_for
from .scope import rename as rename
from .scope import without_unread as without_unread


def has_law(op: Op, *laws: OperatorLaw) -> bool:
    """Whether the table says that an operator has these laws, or the text, which was tested."""
    return op not in PLACES and laws_of(op) >= set(laws)


def joined(op: Op, args: Sequence[Expr], span: Span | None = None) -> Expr:
    """`a op b op ...`: one Map where the operator is a chain, else Maps of two, from the left."""
    if len(args) > 1 and is_chain(op):
        return Map(op, tuple(args), span=span)
    return reduce(lambda left, right: Map(op, (left, right), span=span), args)


def product(
    whole: Einsum, output: Access, factors: tuple[Expr, ...], summed: tuple[str, ...]
) -> Einsum:
    """A product of these factors over the semiring of `whole`, with no dtype said."""
    ring, span = whole.ring, whole.span
    body = joined(ring.mul, factors, span)
    expr = Reduce(ring.add, summed, body, span=span) if summed else body
    return Einsum(output, expr, whole.semiring, span=span)


def named(tensor: str, variables: Iterable[str]) -> Access:
    """The Access `tensor[variables]`."""
    return Access(tensor, tuple(RankExpr.of_variable(v) for v in variables))


def distinct(variables: Iterable[str]) -> tuple[str, ...]:
    """Each variable once, in order of first occurrence."""
    return tuple(dict.fromkeys(variables))


#: What a law makes of an Einsum: the Einsums in its place, or None where the law does not apply.
Law: TypeAlias = Callable[[Einsum, Scope], "tuple[Einsum, ...] | None"]

#: More applications than any Einsum needs: a law that goes on is a mistake, not an endless loop.
_BOUND = 10_000


class Rewrite(Pass):
    """A pass that applies one law to every Einsum, until it applies to none."""

    __slots__ = ()
    law: ClassVar[Law]

    def __call__(self, cascade: Cascade) -> Cascade:
        apply = type(self).law
        scope = Scope(cascade)
        done: list[Einsum] = []
        changed = False
        for whole in cascade.einsums:
            waiting, applied = [whole], 0
            while waiting:
                einsum = waiting.pop()
                found = apply(einsum, scope) if scope.alone(einsum) else None
                if found is None:
                    scope.define(einsum)
                    done.append(einsum)
                    continue
                applied += 1
                if applied > _BOUND:
                    raise PassError(f"{self.name} does not come to an end on {whole.name}")
                changed = True
                waiting += reversed(found)
        return scope.with_einsums(done) if changed else cascade


def rule(law: Law) -> type[Rewrite]:
    """Makes a pass without options of a law; its name and docstring are the function's.

    The docstring says the law: before -> after, its condition, its source.
    """
    name: str = law.__name__
    body = {
        "name": name,
        "law": staticmethod(law),
        "__doc__": law.__doc__,
        "__module__": law.__module__,
        "__slots__": (),
    }
    return dataclass(frozen=True)(type(name, (Rewrite,), body))


def rewrite_at(
    cascade: Cascade, tensor: str, change: Callable[[Einsum, Scope], Sequence[Einsum]]
) -> Cascade:
    """The Cascade with the Einsum that defines a tensor changed; the same if it comes back alone.

    Raises:
        PassError: no Einsum defines that tensor alone, its left side plain.
    """
    scope = Scope(cascade)
    done: list[Einsum] = []
    found = False
    same = True
    for einsum in cascade.einsums:
        made: Sequence[Einsum] = (einsum,)
        if einsum.name == tensor:
            if not scope.alone(einsum):
                raise PassError(
                    f"{tensor} is part of a scan, or filtered by a partition: this law is of "
                    "Einsums that mean what they say by themselves",
                    span=einsum.span,
                )
            found = True
            made = change(einsum, scope)
            same = len(made) == 1 and made[0] == einsum
        scope.define(*made)
        done += made
    if not found:
        defined = ", ".join(einsum.name for einsum in cascade.einsums[:8])
        raise PassError(f"{cascade.name} defines no tensor {tensor}", hint=f"it defines: {defined}")
    return cascade if same else scope.with_einsums(done)


def factors_of(einsum: Einsum, name: str) -> tuple[Access, ...]:
    """The factors of a product.

    Raises:
        PassError: the Einsum is no product; `name` is the pass that needs one.
    """
    factors = einsum.product()
    if factors is None:
        raise PassError(
            f"{name} needs a product, and {einsum.name} is none",
            span=einsum.span,
            hint="a product of accesses, summed by its own semiring, without a filter",
        )
    return factors


def operands(einsum: Einsum) -> tuple[Expr, ...] | None:
    """What the body multiplies by the semiring's own operator; None under a filter.

    More than `Einsum.product`: numbers and whole expressions are operands too.
    """
    if einsum.where is not None:
        return None
    body = einsum.body
    return body.args if isinstance(body, Map) and body.op == einsum.ring.mul else (body,)


def with_body(einsum: Einsum, body: Expr) -> Einsum:
    """The Einsum with another body under the same reduction."""
    if isinstance(einsum.expr, Reduce) and einsum.body is not einsum.expr:
        return replace(einsum, expr=replace(einsum.expr, expr=body))
    return replace(einsum, expr=body)


def sum_order(summed: Iterable[str], factors: Iterable[Expr]) -> tuple[str, ...]:
    """Summed variables in the order of reading, in which the text leaves a sum out."""
    left = set(summed)
    read = distinct(v for factor in factors for v in free_variables(factor))
    return (*(v for v in read if v in left), *(v for v in summed if v not in read))


def in_range(scope: Scope, index: RankExpr | Access, extent: RankExpr) -> bool:
    """Whether an index runs over exactly an axis, or stands at a number surely inside it."""
    if not isinstance(index, RankExpr):
        return False
    known = scope.extent_of(extent)
    if index.constant is not None:
        return isinstance(known, int) and 0 <= index.constant < known
    variable = index.variable
    return variable is not None and scope.extent_of(RankExpr.of_size(variable.upper())) == known
