"""A product whose result lies along its batch is made along its columns first, and turned.

    Y[n,m,h] = A[n,h,d] * B[m,h,d]
    -> T[h,n,m] = A[n,h,d] * B[m,h,d]
       Y[n,m,h] = T[h,n,m]

That is how results lie that follow their operands (`order="K"`). Each element of a register tile
would be stored alone, a line of the caches or more from the next: with sides of 96, f64, that takes
30 ms, in place of 2.9 to make it and 0.8 to turn it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from ...ir.cascade import Cascade, fresh_name
from ...ir.einsum import Access, Einsum
from ...ir.ranks import RankExpr

#: Multiply-adds that are over before a result is turned.
_LITTLE = 1 << 16


def turned(
    cascade: Cascade, layouts: Mapping[str, int | None], sizes: Mapping[str, int]
) -> Cascade:
    """The Cascade, in which no large product lies along its batch.

    `layouts` has the axis along which each output is consecutive; `sizes` are hints.
    """
    names = {decl.name for decl in cascade.inputs} | {e.name for e in cascade.einsums}
    names |= {rank.name for rank in cascade.ranks}
    made: list[Einsum] = []
    for einsum in cascade.einsums:
        unit = layouts.get(einsum.name) if einsum.name in cascade.outputs else None
        order = None if unit is None else _order(einsum, unit, sizes)
        if order is None:
            made.append(einsum)
            continue
        names.add(name := fresh_name("T", names))
        held = Access(name, tuple(map(RankExpr.of_variable, order)))
        made.append(replace(einsum, output=held))
        made.append(Einsum(einsum.output, held, dtype=einsum.dtype))
    return cascade if len(made) == len(cascade.einsums) else replace(cascade, einsums=tuple(made))


def _order(einsum: Einsum, unit: int, sizes: Mapping[str, int]) -> tuple[str, ...] | None:
    """The indices of the result, those of the batch first; None if it is well where it is."""
    factors, free = einsum.product(), einsum.output.plain
    if factors is None or len(factors) != 2 or free is None or len(set(free)) < len(free):
        return None
    one, other = (frozenset(factor.variables()) for factor in factors)
    batch = [v for v in free if v in one & other]
    rest = [v for v in free if v not in batch]
    if free[unit] not in batch or not (set(rest) & one and set(rest) & other):
        return None
    points = prod(sizes.get(v.upper(), 1) for v in (*free, *einsum.reduced))
    return (*batch, *rest) if einsum.reduced and points >= _LITTLE else None
