"""Sums of products in the log semiring, by way of ordinary ones.

    Y[i,j] = A[i,k] + B[k,j] over log                   (the logarithm of sum[k] exp(A) * exp(B))

    ->  a[i]   = max[k] A[i,k], or 0 if that is not finite                          b[j] likewise
        S[i,j] = exp(A[i,k] - a[i]) * exp(B[k,j] - b[j])                           a matrix product
        R[i,j] = A[i,k] + B[k,j] over log, where S is too small, infinite or NaN
        Y[i,j] = R[i,j] there, else log(S[i,j]) + (a[i] + b[j])

An exponential for each element of A and of B, and a logarithm for each of Y, take the place of one
for each point. No term exceeds 1, so nothing overflows. Terms that underflow are below the least
normal number; beside a sum that is at least its square root they do not count. Smaller sums, of
maxima that do not meet, and all that is not finite, are computed as they are written. The error is
some units in the last place of the largest terms: a sum near 0 of large ones has that, too.

Source: the shift is that of the log-sum-exp function (Blanchard, Higham, Higham: "Accurately
computing the log-sum-exp and softmax functions", IMA J. Numer. Anal. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ...ir.cascade import Cascade, fresh_name
from ...ir.dtypes import F32, F64, DType
from ...ir.einsum import Access, Einsum, Expr, Literal, Map, Reduce
from ...ir.ranks import RankExpr
from ...ir.scans import stages

#: The square root of the least normal number of a dtype, about.
_LEAST = {F32: 2.0**-63, F64: 2.0**-511}

#: A size that is not known counts as this.
_UNKNOWN = 1024

#: It pays if there are so many points for each function that takes their place.
_WORTH = 4


def shifted(cascade: Cascade, dtypes: Mapping[str, DType]) -> Cascade:
    """The Cascade with such sums written as ordinary ones, where that pays."""
    alone = {id(stage) for stage in stages(cascade) if isinstance(stage, Einsum)}
    sizes = {r.name: r.shape for r in cascade.ranks if isinstance(r.shape, int)}
    taken = {*dtypes}
    found: list[Einsum] = []
    for einsum in cascade.einsums:
        terms = _terms(einsum) if id(einsum) in alone else None
        if terms is not None and _pays(einsum, terms, dtypes, sizes):
            found += _written(einsum, terms, _LEAST[dtypes[einsum.name]], taken)
        else:
            found.append(einsum)
    if len(found) == len(cascade.einsums):
        return cascade
    return replace(cascade, einsums=tuple(found))


def _terms(einsum: Einsum) -> tuple[Access, Access] | None:
    """The two terms of an Einsum that is such a sum, both of them with all that is summed over."""
    expr = einsum.expr
    if not isinstance(expr, Reduce) or expr.op != "logaddexp" or einsum.where is not None:
        return None
    body = expr.expr
    if not isinstance(body, Map) or body.op != "add" or len(body.args) != 2:
        return None
    output, *terms = (_variables(node) for node in (einsum.output, *body.args))
    if output is None or any(found is None or not found >= set(expr.variables) for found in terms):
        return None
    first, second = body.args
    return (first, second) if isinstance(first, Access) and isinstance(second, Access) else None


def _variables(node: Expr) -> set[str] | None:
    """The variables of an Access that has each for one index."""
    plain = node.plain if isinstance(node, Access) else None
    return None if plain is None or len(set(plain)) < len(plain) else set(plain)


def _pays(
    einsum: Einsum, terms: Sequence[Access], dtypes: Mapping[str, DType], sizes: Mapping[str, int]
) -> bool:
    """Whether it is of a dtype that there are bounds for, and has many points to each element."""
    names = (einsum.name, *(term.tensor for term in terms))
    if len({dtypes[name] for name in names}) > 1 or dtypes[einsum.name] not in _LEAST:
        return False

    def count(variables: Iterator[str] | set[str]) -> int:
        return math.prod(sizes.get(variable.upper(), _UNKNOWN) for variable in variables)

    points = count({v for access in (einsum.output, *terms) for v in access.variables()})
    return points >= _WORTH * sum(count(a.variables()) for a in (einsum.output, *terms))


def _written(
    einsum: Einsum, terms: Sequence[Access], least: float, taken: set[str]
) -> Iterator[Einsum]:
    """The Einsums that stand for such a sum; their names join `taken`."""
    assert isinstance(einsum.expr, Reduce)
    reduced, output = einsum.expr.variables, einsum.output

    def new(stem: str, variables: Sequence[str]) -> Access:
        name = fresh_name(f"{einsum.name}.{stem}", taken)
        taken.add(name)
        return Access(name, tuple(map(RankExpr.of_variable, variables)))

    shifts: list[Access] = []
    factors: list[Access] = []
    for term in terms:
        own = [v for v in term.variables() if v not in reduced]
        largest = new(f"{term.tensor}.max", own)
        yield Einsum(largest, Reduce("max", reduced, term))
        shift = new(f"{term.tensor}.shift", own)
        is_finite = Map("lt", (Map("abs", (largest,)), Literal(math.inf)))
        yield Einsum(shift, Map("select", (is_finite, largest, Literal(0.0))))
        factor = new(f"{term.tensor}.exp", list(term.variables()))
        yield Einsum(factor, Map("exp", (Map("sub", (term, shift)),)))
        shifts.append(shift)
        factors.append(factor)
    total = new("sum", list(output.variables()))
    yield Einsum(total, Reduce("add", reduced, Map("mul", tuple(factors))))
    fails = Map(
        "or",
        (
            Map("lt", (total, Literal(least))),
            Map("eq", (total, Literal(math.inf))),
            Map("ne", (total, total)),
        ),
    )
    other = new("other", list(output.variables()))
    yield replace(einsum, output=other, where=fails)
    value = Map("add", (Map("log", (total,)), Map("add", tuple(shifts))))
    yield Einsum(output, Map("select", (fails, other, value)), span=einsum.span)
