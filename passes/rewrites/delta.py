"""Deltas: the tensor that is one where its two indices agree and zero elsewhere.

A delta is an Einsum of its own, `D[i,i] = 1`: its left side repeats a variable, so the definition
of an Einsum puts the semiring's zero off the diagonal. Nothing else in the language has to know
it, and a law sees by that form alone that it has a delta before it (rule 12). The one is the
semiring's own, `D[i,i]: f32 = 0.0 over max_plus`.

The laws are those of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import Access, Coordinate, Einsum, Literal, Map, Reduce
from ...ir.errors import PassError
from ...ir.interpreter import convert
from ...ir.operators import Number, Semiring, value_in
from ...ir.ranks import RankExpr
from ..base import Pass
from ..rewrite import (
    distinct,
    factors_of,
    named,
    product,
    rename,
    rewrite_at,
    rule,
    sum_order,
)
from ..scope import Scope


def literal_in(value: Number, dtype: DType) -> Literal:
    """A semiring's zero or one as a number that a tensor of `dtype` holds: -128 for -inf in i8."""
    return Literal(value if dtype.is_host_only else value_in(value, dtype).item())


def is_value(literal: Literal, value: Number, *dtypes: DType) -> bool:
    """Whether a number, stored in these types one after another, is a semiring's zero or one."""
    if any(dtype.is_host_only for dtype in dtypes):
        return bool(literal.value == value)
    stored = np.asarray(literal.value)
    if stored.dtype.kind in "fc" and not all(dtype.is_inexact for dtype in dtypes):
        return False
    with np.errstate(all="ignore"):
        for dtype in dtypes:
            stored = convert(stored, dtype)
    wanted = np.asarray(value_in(value, dtypes[-1]))
    return stored.tobytes() == wanted.tobytes()  # -0.0 is not 0.0


def unit(einsum: Einsum, output: Access, dtype: DType) -> Einsum:
    """Ones, in the semiring of `einsum` and in this type, at these indices."""
    return Einsum(
        output, literal_in(einsum.ring.one, dtype), einsum.semiring, dtype=dtype, span=einsum.span
    )


def is_delta(access: Access, ring: Semiring, scope: Scope) -> bool:
    """Whether a tensor is a delta over this semiring."""
    definition = scope.definition(access.tensor)
    if definition is None or not isinstance(definition.expr, Literal) or definition.where:
        return False
    left, dtype = definition.output.plain, scope.dtypes.get(access.tensor)
    if left is None or len(left) != 2 or left[0] != left[1] or dtype is None:
        return False
    one, zero = ring.one, ring.zero
    return definition.ring.zero == zero and is_value(definition.expr, one, dtype)


@rule
def delta(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A filter that keeps the diagonal alone is a repeated index on the left.

        D[i,j]: f32 = 1 where i == j else 0
     -> D[i,i]: f32 = 1

    Condition: the condition is `i == j` of two variables on the left, of one rank; nothing is
    reduced; what stands elsewhere is the semiring's zero, in the type of the tensor. Any
    expression may stand in the place of 1, at i for j. Exact. Source: rule 12.
    """
    where, left = einsum.where, einsum.output.plain
    if not isinstance(where, Map) or where.op != "eq" or isinstance(einsum.expr, Reduce):
        return None
    one, other = where.args
    if not isinstance(one, Coordinate) or not isinstance(other, Coordinate) or left is None:
        return None
    i, j = one.name, other.name
    if i == j or distinct(left) != left or not {i, j} <= set(left) or not scope.typed(einsum):
        return None
    dtype = scope.dtype(einsum)
    if scope.root(i) != scope.root(j) or einsum.otherwise is None:
        return None
    if not is_value(einsum.otherwise, einsum.ring.zero, dtype):
        return None
    output = einsum.output.substitute({j: RankExpr.of_variable(i)})
    made = Einsum(output, rename(einsum.expr, {j: i}), einsum.semiring, span=einsum.span)
    return (replace(made, dtype=einsum.dtype),)


@dataclass(frozen=True, slots=True)
class DeltaSplit(Pass):
    """One occurrence of a variable gets a name of its own, and a delta that ties the two.

        Y[i,k]  = A[i,j] * B[j,k]
     -> D[j,j]  = 1
        Y[i,k]  = A[i,j] * B[j1,k] * D[j,j1]     delta_split{tensor=Y, axis=0, operand=1}

    With no operand the occurrence is one on the left: `Y[i1,k] = A[i,j] * B[j,k] * D[i,i1]`.

    Condition: a sum of products in types in which the semiring's laws hold, so that zeros absorb;
    the index is a variable. Source: rules 9 and 10 (DELTA-SPLIT).

    Options:
        tensor: the product, by what it defines.
        axis: which index of the operand.
        operand: the position of the factor; none: the left side.

    Raises:
        PassError: there is no such occurrence, or the laws do not hold.
    """

    name: ClassVar[str] = "delta_split"
    tensor: str
    axis: int
    operand: int | None = None

    def __call__(self, cascade: Cascade) -> Cascade:
        return rewrite_at(cascade, self.tensor, self._split)

    def _split(self, einsum: Einsum, scope: Scope) -> tuple[Einsum, ...]:
        factors = factors_of(einsum, self.name)
        if not scope.regroups(einsum):
            raise PassError(
                f"the zeros of a delta do not absorb in {einsum.semiring} in these types",
                span=einsum.span,
            )
        if self.operand is None:
            return _output_split(einsum, self._variable(einsum.output), self.axis, scope)
        if not 0 <= self.operand < len(factors):
            raise PassError(f"{self.tensor} has {len(factors)} factors", span=einsum.span)
        factor = factors[self.operand]
        variable = self._variable(factor)
        ones = _delta_of(einsum, variable, scope)
        new = scope.alias(variable)
        split = _at_axis(factor, self.axis, new)
        read = tuple(split if n == self.operand else f for n, f in enumerate(factors))
        read = (*read, named(ones.name, (variable, new)))
        made = product(einsum, einsum.output, read, sum_order((*einsum.reduced, new), read))
        scope.define(ones)
        return ones, scope.stored(made, scope.dtype(einsum))

    def _variable(self, access: Access) -> str:
        index = access.indices[self.axis] if 0 <= self.axis < len(access.indices) else None
        variable = index.variable if isinstance(index, RankExpr) else None
        if variable is None or access.fill is not None:
            raise PassError(f"axis {self.axis} of {access.tensor} is at no variable")
        return variable


@rule
def distinct_output(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A variable that the left side repeats is written once more under another name.

        Y[i,i]  = A[i,j]
     -> D[i,i]  = 1
        Y[i,i1] = A[i,j] * D[i,i1]

    A delta itself stays. Condition: a sum of products in types in which the semiring's laws hold,
    so that zeros absorb. Source: rule 13.
    """
    left = einsum.output.plain
    if left is None or distinct(left) == left or einsum.product() is None:
        return None
    if not scope.regroups(einsum):
        return None
    axis = next(n for n, variable in enumerate(left) if variable in left[:n])
    return _output_split(einsum, left[axis], axis, scope)


def _output_split(einsum: Einsum, variable: str, axis: int, scope: Scope) -> tuple[Einsum, ...]:
    """An occurrence on the left under a new name, tied by a delta."""
    ones = _delta_of(einsum, variable, scope)
    new = scope.alias(variable)
    output = _at_axis(einsum.output, axis, new)
    read = (*(einsum.product() or ()), named(ones.name, (variable, new)))
    gone = (variable,) if variable not in output.variables() else ()
    made = product(einsum, output, read, sum_order((*einsum.reduced, *gone), read))
    scope.define(ones)
    return ones, scope.stored(made, scope.dtype(einsum))


def _delta_of(einsum: Einsum, variable: str, scope: Scope) -> Einsum:
    return unit(einsum, named(scope.fresh("D"), (variable, variable)), scope.computed(einsum))


def _at_axis(access: Access, axis: int, variable: str) -> Access:
    indices = list(access.indices)
    indices[axis] = RankExpr.of_variable(variable)
    return replace(access, indices=tuple(indices))


@rule
def delta_merge(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """Two variables that a delta ties become one, and the delta goes.

        D[i,i] = 1
        Y[i,k] = A[i,j] * B[n,k] * D[j,n]        with N = J
     -> D[i,i] = 1
        Y[i,k] = A[i,j] * B[j,k]

    Where no other factor has the variable the sum over it stays, `sum[j] ...`: this language can
    say it without the ones that the formal one must keep. Two variables of the left side become
    one that is repeated.

    Condition: there is another factor; the two run over one rank, the delta's own; multiplication
    distributes over addition in the types computed in, so that zeros absorb; no sum is known to
    be over nothing. Source: rule 11 (DELTA-MERGE).
    """
    factors = einsum.product()
    if factors is None or len(factors) < 2:
        return None
    for number, factor in enumerate(factors):
        tied = factor.plain
        if tied is None or not is_delta(factor, einsum.ring, scope) or not scope.covers(factor):
            continue
        if not scope.regroups(einsum):
            return None
        i, j = tied
        keep, drop = (i, j) if i in einsum.free or j not in einsum.free else (j, i)
        joined = {drop: RankExpr.of_variable(keep)} if keep != drop else {}
        rest = (*factors[:number], *factors[number + 1 :])
        read = tuple(other.substitute(joined) for other in rest)
        output = einsum.output.substitute(joined)
        summed = tuple(v for v in einsum.reduced if v not in joined)
        made = product(einsum, output, read, sum_order(summed, read))
        made = scope.stored(made, scope.dtype(einsum))
        if scope.computed(made) != scope.computed(einsum):
            return None
        return (made,)
    return None
