"""A product over more variables than an array has axes, as products of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...ir.cascade import Cascade, fresh_name
from ...ir.dtypes import DType
from ...ir.einsum import Access, Einsum, Expr, Map, Reduce
from ...ir.infer import einsum_dtype, infer_dtypes, product_dtype, regroups
from ...ir.ranks import RankExpr


def in_pairs(cascade: Cascade, limit: int) -> Cascade:
    """Each product over more than `limit` variables from left to right, summed as soon as may be.

    NumPy cannot hold such an iteration space, nor loop over it in any time. Left as it is: a
    product whose semiring's laws do not hold in its types, or that sums over nothing.
    """
    dtypes = infer_dtypes(cascade, {})
    einsums: list[Einsum] = []
    taken = {d.name for d in cascade.inputs} | {e.name for e in cascade.einsums}
    taken |= {rank.name for rank in cascade.ranks}
    for einsum in cascade.einsums:
        factors = einsum.product()
        over = len({*einsum.free, *einsum.reduced}) > limit
        nothing = any(cascade.rank(v.upper()).shape == 0 for v in einsum.reduced)
        if factors and len(factors) > 2 and over and not nothing and regroups(einsum, dtypes):
            einsums += _pairs(einsum, factors, dtypes, taken)
        else:
            einsums.append(einsum)
    same = len(einsums) == len(cascade.einsums)
    return cascade if same else replace(cascade, einsums=tuple(einsums))


def _pairs(
    einsum: Einsum, factors: tuple[Access, ...], dtypes: Mapping[str, DType], taken: set[str]
) -> list[Einsum]:
    made: list[Einsum] = []
    product = product_dtype(einsum, dtypes).compute
    remaining = einsum.reduced
    left = factors[0]
    for number, factor in enumerate(factors[1:-1], 1):
        later = {v for other in factors[number + 1 :] for v in other.variables()}
        inside = dict.fromkeys((*left.variables(), *factor.variables()))
        summed = tuple(v for v in remaining if v in inside and v not in later)
        remaining = tuple(v for v in remaining if v not in summed)
        name = fresh_name("T", taken)
        taken.add(name)
        kept = (RankExpr.of_variable(v) for v in inside if v not in summed)
        output = Access(name, tuple(kept))
        made.append(_product(einsum, output, (left, factor), summed, product))
        left = output
    dtype = einsum_dtype(einsum, dtypes)
    return [*made, _product(einsum, einsum.output, (left, factors[-1]), remaining, dtype)]


def _product(
    whole: Einsum,
    output: Access,
    factors: tuple[Access, ...],
    summed: tuple[str, ...],
    dtype: DType,
) -> Einsum:
    body: Expr = Map(whole.ring.mul, factors)
    expr = Reduce(whole.ring.add, summed, body) if summed else body
    return Einsum(output, expr, whole.semiring, dtype=dtype)
