"""Canonical form of products: no sum over one point, no diagonal, no private sum left inside.

The laws are those of *The Syntax and Semantics of einsum* (arXiv 2509.20020), numbered as in
that list; each leaves everything but a pure product of Accesses as it is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ...ir.einsum import Access, Einsum
from ...ir.ranks import RankExpr
from ..rewrite import named, product, rule
from ..scope import Scope


@rule
def squeeze(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A rank of extent 1 that is summed is read at coordinate 0, and leaves the sums.

        Y[i] = A[b,i,j] * B[b,j]   with B = 1
     -> Y[i] = A[0,i,j] * B[0,j]

    Condition: the rank's extent is known to be 1. One that the output has is left where it is:
    along it an Einsum reads what another wrote at the same coordinate. Needs no law of the
    semiring, and is exact: a sum over one point is that point. Source: rule 21 (SIZE-1).
    """
    factors = einsum.product()
    if factors is None:
        return None
    single = {v: RankExpr() for v in einsum.reduced if scope.extent(v) == 1}
    if not single:
        return None
    read = tuple(factor.substitute(single) for factor in factors)
    summed = tuple(v for v in einsum.reduced if v not in single)
    squeezed = product(einsum, einsum.output, read, summed)
    return (replace(squeezed, dtype=einsum.dtype),)


@rule
def diagonal(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A variable that one factor repeats becomes a diagonal, taken first.

        Y[i,k]  = A[i,i,j] * B[j,k]
     -> A1[i,j] = A[i,i,j]
        Y[i,k]  = A1[i,j] * B[j,k]

    Condition: there is another factor; the indices of the factor are variables and numbers, and
    none of its variables is private to it (`presum` then reads the diagonal while it sums). Needs
    no law of the semiring, and is exact: it copies. Source: rule 17 (DIAG-FIRST).
    """
    factors = einsum.product()
    if factors is None or len(factors) < 2:
        return None
    for number, factor in enumerate(factors):
        variables = tuple(dict.fromkeys(factor.variables()))
        repeats = len(variables) < sum(1 for _ in factor.variables())
        if repeats and _is_bare(factor) and not _private(einsum, factors, number):
            output = named(scope.fresh(factor.tensor), variables)
            taken = Einsum(output, factor, span=einsum.span)
            read = tuple(output if other == factor else other for other in factors)
            rest = product(einsum, einsum.output, read, einsum.reduced)
            return taken, replace(rest, dtype=einsum.dtype)
    return None


@rule
def presum(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A variable that only one factor has, and that is summed, is summed in that factor first.

        Y[i,k] = A[i,j,l] * B[j,k]
     -> A1[i,j] = A[i,j,l]
        Y[i,k] = A1[i,j] * B[j,k]

    Condition: there is another factor; multiplication distributes over addition in the types
    computed in (`Semiring.exact_kinds`); the sums are not known to be over nothing. A1 has the type
    that the product is computed in. Source: rule 16 (PRESUM).
    """
    factors = einsum.product()
    if factors is None or len(factors) < 2 or not scope.regroups(einsum):
        return None
    for number, factor in enumerate(factors):
        private = _private(einsum, factors, number)
        if private:
            kept = (v for v in dict.fromkeys(factor.variables()) if v not in private)
            output = named(scope.fresh(factor.tensor), kept)
            inner = tuple(v for v in einsum.reduced if v in private)
            summed = scope.intermediate(einsum, product(einsum, output, (factor,), inner))
            outer = tuple(v for v in einsum.reduced if v not in private)
            read = (*factors[:number], output, *factors[number + 1 :])
            rest = product(einsum, einsum.output, read, outer)
            scope.define(summed)
            return summed, scope.stored(rest, scope.dtype(einsum))
    return None


def _private(einsum: Einsum, factors: tuple[Access, ...], number: int) -> set[str]:
    """The summed variables that occur in that factor alone."""
    count = Counter(v for factor in factors for v in set(factor.variables()))
    return {v for v in factors[number].variables() if count[v] == 1} & set(einsum.reduced)


def _is_bare(factor: Access) -> bool:
    """Whether the indices are variables and numbers, and all are in range."""
    return factor.fill is None and all(
        isinstance(index, RankExpr) and (index.variable or index.constant is not None)
        for index in factor.indices
    )
