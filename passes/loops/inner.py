"""Reductions inside an expression that are better off as Einsums of their own.

    D[i] = sqrt(sum[j] X[i,j] * X[i,j])    ->  D.sum[i] = X[i,j] * X[i,j]
                                               D[i]     = sqrt(D.sum[i])

The loops of an Einsum suit what it reduces at its top: vectors go along what is summed, products
are packed, long sums are made of pieces. What is reduced inside is folded one by one at each point,
even if many points have it in common, as in X[i,j] / sum[k] X[i,k]. So only short ones stay
there, whose results are in registers then.

A number that each term of a long sum is multiplied or divided by last is applied to the sum:

    S[i,k] = Q[i,e] * K[e,k] / sqrt(E)     ->  S.sum[i,k] = Q[i,e] * K[e,k]
                                               S[i,k]     = S.sum[i,k] / sqrt(max(E, 1))

It is finite and not 0; E is reduced, so where it is 0 there are no terms. A product of matrices is
one so, and the rest its epilogue.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import (
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    accesses,
    children,
    free_variables,
)
from ...ir.infer import expr_dtype, strong
from ...ir.lift import lift
from ...ir.operators import value_in
from ...ir.scans import stages

#: So many points of a reduction are many; a size that is not known is large.
_MANY, _UNKNOWN = 32, 1024


def inner_named(cascade: Cascade, dtypes: Mapping[str, DType]) -> Cascade:
    """The Cascade with such reductions given names; none inside a scan."""
    alone = {id(stage) for stage in stages(cascade) if isinstance(stage, Einsum)}
    sizes = {r.name: r.shape for r in cascade.ranks if isinstance(r.shape, int)}
    taken = {*dtypes}
    found: list[Einsum] = []
    for einsum in cascade.einsums:
        found += _parted(einsum, dtypes, sizes, taken) if id(einsum) in alone else (einsum,)
    if len(found) == len(cascade.einsums):
        return cascade
    return replace(cascade, einsums=tuple(found))


def _parted(
    einsum: Einsum, dtypes: Mapping[str, DType], sizes: Mapping[str, int], taken: set[str]
) -> Iterator[Einsum]:
    """The Einsums that stand for one, itself last; their names join `taken`."""
    einsum = _number_last(einsum, dtypes, sizes)
    named = {inner for inner in _inside(einsum.expr) if _is_apart(inner, einsum, sizes)}
    parts, rest = lift(einsum, lambda node: node in named, taken, dtypes, f"{einsum.name}.sum")
    known = {**dtypes, **{part.name: part.dtype for part in parts if part.dtype is not None}}
    for part in parts:
        yield from _parted(part, known, sizes, taken)
    yield rest


def _inside(expr: Expr) -> Iterator[Reduce]:
    """The outermost reductions below the top."""
    for child in children(expr):
        if isinstance(child, Reduce):
            yield child
        else:
            yield from _inside(child)


def _is_apart(inner: Reduce, einsum: Einsum, sizes: Mapping[str, int]) -> bool:
    """Whether it is better off, and may be, an Einsum of its own."""
    return _is_long(inner, einsum, sizes) and _may_go(inner, free_variables(inner), einsum)


def _is_long(inner: Reduce, einsum: Einsum, sizes: Mapping[str, int]) -> bool:
    """Whether it has many points, or is a product of matrices."""
    points = math.prod(sizes.get(v.upper(), _UNKNOWN) for v in inner.variables)
    return points >= _MANY or _has_rows_and_columns(replace(einsum, expr=inner, where=None))


def _number_last(einsum: Einsum, dtypes: Mapping[str, DType], sizes: Mapping[str, int]) -> Einsum:
    """The Einsum; of a long sum of floats, all terms of which end in a number, that of the sum."""
    total, dtype = einsum.expr, dtypes[einsum.name]
    if not isinstance(total, Reduce) or total.op != "add" or einsum.where is not None:
        return einsum
    term = total.expr
    if not isinstance(term, Map) or term.op not in ("mul", "div") or dtype.kind != "float":
        return einsum
    *first, last = term.args
    rest = first[0] if len(first) == 1 else Map("mul", tuple(first))
    kept = replace(total, expr=rest)
    if any(strong(expr_dtype(expr, dtypes)) != dtype for expr in (term, rest)):
        return einsum
    number = _number(last, total.variables, dtype)
    if number is None or einsum.ring.zero != 0 or not _is_long(kept, einsum, sizes):
        return einsum
    return replace(einsum, expr=Map(term.op, (kept, number)))


def _number(expr: Expr, reduced: tuple[str, ...], dtype: DType) -> Expr | None:
    """A number, neither 0 nor infinite also where one of its sizes is 0; None if it is none."""
    if isinstance(expr, Literal):
        size = abs(value_in(expr.value, dtype.compute))
        return expr if 0 < size < math.inf else None
    if isinstance(expr, Coordinate) and expr.name.isupper() and expr.name.lower() in reduced:
        return Map("max", (expr, Literal(1)))
    if isinstance(expr, Map) and expr.op == "sqrt":
        inside = _number(expr.args[0], reduced, dtype)
        return None if inside is None else replace(expr, args=(inside,))
    return None


def _may_go(inner: Reduce, free: tuple[str, ...], einsum: Einsum) -> bool:
    """Whether it is computed wherever it was, and reads nothing out of range elsewhere; and has
    fewer elements than the Einsum has points.
    """
    if set(free) == set(einsum.free):
        return True
    around = {*einsum.free, *(einsum.expr.variables if isinstance(einsum.expr, Reduce) else ())}
    return set(free) < around and all(
        access.plain is not None or access.fill is not None for access in accesses(inner)
    )


def _has_rows_and_columns(einsum: Einsum) -> bool:
    """Whether it is a product of two, of which neither has all that the other is read at."""
    factors = [set(factor.variables()) for factor in einsum.product() or ()]
    return len(factors) == 2 and bool(factors[0] - factors[1] and factors[1] - factors[0])
