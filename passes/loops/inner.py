"""Reductions inside an expression that are better off as Einsums of their own.

    D[i] = sqrt(sum[j] X[i,j] * X[i,j])    ->  D.sum[i] = X[i,j] * X[i,j]
                                               D[i]     = sqrt(D.sum[i])

The loops of an Einsum suit what it reduces at its top: vectors go along what is summed, products
are packed, long sums are made of pieces. What is reduced inside is folded one by one at each point,
even if many points have it in common, as in X[i,j] / sum[k] X[i,k]. So only short ones stay
there, whose results are in registers then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import (
    Einsum,
    Expr,
    Reduce,
    accesses,
    children,
    free_variables,
)
from ...ir.lift import lift
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
    named = {inner for inner in _inside(einsum.expr) if _is_apart(inner, einsum, sizes)}
    parts, rest = lift(einsum, lambda node: node in named, taken, dtypes, f"{einsum.name}.sum")
    for part in parts:
        yield from _parted(part, dtypes, sizes, taken)
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
    points = math.prod(sizes.get(v.upper(), _UNKNOWN) for v in inner.variables)
    if points < _MANY and not _has_rows_and_columns(replace(einsum, expr=inner, where=None)):
        return False
    return _may_go(inner, free_variables(inner), einsum)


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
