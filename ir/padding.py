"""Reads at points past the end of a rank that is partitioned, which are in no iteration space.

    partition M -> M1, M0        Y[m1] = sum[m0] X[m1*M0+m0+1]

m1*M0+m0 is below M; the loops over m1 and m0 go further where M0 does not divide M. Such a read is
filled there (partitions.py), and so its range is held here, over the points that there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .cascade import Cascade
from .einsum import Access, Einsum, Expr, Reduce, children
from .errors import RankError
from .ranks import Partition, RankExpr


def reaches_past(index: RankExpr, extent: RankExpr, partition: Partition) -> bool:
    """Whether an index may stand elsewhere at points past the end than at any other point.

    An outer part alone takes no other value there, nor is any other part out of range of its own.
    """
    inner = {part.lower() for part in partition.parts[1:]}
    if index.variable is not None and extent.rank == index.variable.upper():
        return False
    return not inner.isdisjoint(index.variables())


def check_reads(cascade: Cascade, sizes: Mapping[str, int]) -> None:
    """Holds the range of the reads that are filled past the end of a rank.

    Raises:
        RankError: one is out of range at a point that there is.
    """
    if not cascade.partitions:
        return
    extents = cascade.extents()
    for einsum in cascade.einsums:
        for access, around in _reads(einsum):
            if access.fill is not None or any(sizes[v.upper()] == 0 for v in around):
                continue
            here = [p for p in cascade.partitions if {q.lower() for q in p.parts} <= set(around)]
            for index, extent in zip(access.indices, extents[access.tensor], strict=True):
                if not isinstance(index, RankExpr):
                    continue
                if not any(reaches_past(index, extent, partition) for partition in here):
                    continue
                low, high = _reach(index, here, sizes)
                length = extent.value(sizes)
                if low < 0 or high >= length:
                    raise RankError(
                        f"{access.tensor} is read at {low}..{high} on a rank of extent {length}",
                        span=access.span or einsum.span,
                        hint="say what lies outside: `X[... else 0]`",
                    )


def _reads(einsum: Einsum) -> Iterator[tuple[Access, tuple[str, ...]]]:
    """Every Access, with the variables that are bound where it stands."""
    top = einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()
    stack: list[tuple[Expr, tuple[str, ...]]] = [(einsum.expr, einsum.free)]
    if einsum.where is not None:
        stack.append((einsum.where, (*einsum.free, *top)))
    while stack:
        expr, around = stack.pop()
        if isinstance(expr, Reduce):
            around = (*around, *expr.variables)
        if isinstance(expr, Access):
            yield expr, around
        stack += [(child, around) for child in children(expr)]


def _reach(
    index: RankExpr, partitions: Sequence[Partition], sizes: Mapping[str, int]
) -> tuple[int, int]:
    """The least and the greatest value of an index at the points that there are."""
    factors, constant = index.coefficients(sizes)
    low = high = constant
    for partition in partitions:
        own = [(factors.pop(p.lower(), 0), sizes[p]) for p in partition.parts]
        values = list(_corners(own, sizes[partition.rank] - 1))
        low, high = low + min(values), high + max(values)
    for variable, factor in factors.items():
        last = factor * (sizes[variable.upper()] - 1)
        low, high = low + min(last, 0), high + max(last, 0)
    return low, high


def _corners(digits: Sequence[tuple[int, int]], last: int) -> Iterator[int]:
    """Values of a sum of factor * digit, the extremes among them, over the numbers up to `last`.

    The numbers are written in digits of these extents. Those up to `last` begin as it does, have
    then a smaller digit, and after it any.
    """
    places: list[int] = []
    for _, extent in reversed(digits[1:]):
        places.insert(0, last % extent)
        last //= extent
    places.insert(0, last)
    before = 0
    for number, ((factor, _), place) in enumerate(zip(digits, places, strict=True)):
        if place:
            rest = [f * (extent - 1) for f, extent in digits[number + 1 :]]
            step = factor * (place - 1)
            yield before + min(step, 0) + sum(min(r, 0) for r in rest)
            yield before + max(step, 0) + sum(max(r, 0) for r in rest)
        before += factor * place
    yield before
