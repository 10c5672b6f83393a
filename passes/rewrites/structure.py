"""The hypergraph of a product: factors inside others, and parts that share no variable.

The laws are those of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its numbers.
"""

from __future__ import annotations

from ...ir.einsum import Access, Einsum
from ..rewrite import distinct, named, product, rule
from ..scope import Scope


@rule
def hadamard(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A factor whose variables another one has is multiplied into it first.

        Y[i,k] = A[i,j] * B[j] * C[j,k]
     -> T[i,j] = A[i,j] * B[j]
        Y[i,k] = T[i,j] * C[j,k]

    Condition: there is a third factor; the larger one is read at plain variables, so that T is no
    larger than what is read; the semiring's laws hold in the types computed in; no sum is known to
    be over nothing. Source: rule 18 (HADAMARD-MERGE).
    """
    factors = einsum.product()
    if factors is None or len(factors) < 3 or not scope.regroups(einsum):
        return None
    variables = [set(factor.variables()) for factor in factors]
    for a, large in enumerate(factors):
        if large.plain is None:
            continue
        for b, small in enumerate(factors):
            if a == b or not variables[b] <= variables[a]:
                continue
            output = named(scope.fresh("T"), distinct(large.plain))
            pair = (large, small) if a < b else (small, large)
            merged = scope.intermediate(einsum, product(einsum, output, pair, ()))
            scope.define(merged)
            read = tuple(
                output if n == min(a, b) else f for n, f in enumerate(factors) if n != max(a, b)
            )
            rest = product(einsum, einsum.output, read, einsum.reduced)
            return merged, scope.stored(rest, scope.dtype(einsum))
    return None


@rule
def components(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """Factors that share no variable with the others become a product of their own.

        Y[i,k] = A[i,j] * B[j] * C[k,l] * D[l]
     -> T[i]   = A[i,j] * B[j]
        T1[k]  = C[k,l] * D[l]
        Y[i,k] = T[i] * T1[k]

    Condition: the factors fall into two or more parts, one of which has two factors or a sum;
    multiplication distributes over addition in the types computed in; no sum is known to be over
    nothing. Source: rule 19 (SPLIT-COMPONENTS of the symbol hypergraph).
    """
    factors = einsum.product()
    if factors is None or len(factors) < 2:
        return None
    parts = _parts(factors)
    if len(parts) < 2 or not scope.regroups(einsum):
        return None
    made: list[Einsum] = []
    read: list[Access] = []
    left = list(einsum.reduced)
    for part in parts:
        inside = distinct(v for factor in part for v in factor.variables())
        summed = tuple(v for v in inside if v in left)
        if len(part) == 1 and not summed:
            read.append(part[0])
            continue
        kept = (v for v in einsum.free if v in inside)
        output = named(scope.fresh("T"), kept)
        made.append(scope.intermediate(einsum, product(einsum, output, tuple(part), summed)))
        left = [v for v in left if v not in summed]
        read.append(output)
    if not made:
        return None
    scope.define(*made)
    last = product(einsum, einsum.output, tuple(read), tuple(left))
    return *made, scope.stored(last, scope.dtype(einsum))


def _parts(factors: tuple[Access, ...]) -> list[list[Access]]:
    """The factors by connected component, in order of first occurrence."""
    owner: dict[str, int] = {}
    parts: dict[int, list[int]] = {}
    for number, factor in enumerate(factors):
        met = sorted({owner[v] for v in factor.variables() if v in owner})
        first = met[0] if met else number
        joined = sorted([number, *(n for part in met for n in parts.pop(part))])
        parts[first] = joined
        for n in joined:
            owner |= dict.fromkeys(factors[n].variables(), first)
    return [[factors[n] for n in parts[first]] for first in sorted(parts)]
