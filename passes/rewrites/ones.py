"""Ones: operands that change no product, and sums that only count.

Ones are an Einsum of their own, `E[j]: f32 = 1` with distinct variables on the left, or a number
among the operands; each is the one of the semiring that reads it.

The laws are those of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.einsum import Access, Einsum, Expr, Literal, free_variables
from ...ir.errors import OperandError
from ...ir.operators import OPERATORS, Semiring, value_in
from ..rewrite import distinct, has_law, named, operands, product, rule
from ..scope import Scope
from .delta import is_value, unit


@rule
def ones_drop(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """An operand of ones goes, if its variables occur elsewhere.

        E[j]   = 1
        Y[i,j] = A[i,j] * E[j]
     -> E[j]   = 1
        Y[i,j] = A[i,j]

    Condition: there is another operand; each variable of the ones is one of the output or of
    another operand (one that is not counts how often the rest is added: see `multiple`); without
    them the product is computed in the same type. Exact; but a complex infinity times 1 has a part
    that is NaN. Source: rules 14 (ONES-DROP) and 15.
    """
    found = operands(einsum)
    if found is None or len(found) < 2 or not scope.typed(einsum):
        return None
    for number, operand in enumerate(found):
        if not _is_one(operand, einsum.ring, scope, scope.computed(einsum)):
            continue
        rest = (*found[:number], *found[number + 1 :])
        elsewhere = {*einsum.free, *(v for other in rest for v in free_variables(other))}
        if set(free_variables(operand)) <= elsewhere:
            made = _same_types(einsum, rest, einsum.reduced, scope)
            if made is not None:
                return (made,)
    return None


@rule
def multiple(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A sum over a variable that nothing reads is a multiple, of n ones added up.

        Y[i] = sum[j] A[i]                       with J = 5
     -> Y[i] = A[i] * 5

    In GF(2) five ones are one, in the log semiring they are log(5). Ones among the operands that
    alone have a summed variable count likewise, and go.

    Condition: the extent is known and not 0; addition is not idempotent (see `idem_add`);
    multiplication distributes over it in the types computed in; the multiple has the type that
    the product is computed in. Source: rule 14 (ONES-DROP, the scalar n·1).
    """
    found = operands(einsum)
    if found is None or has_law(einsum.ring.add, "idempotent") or not scope.regroups(einsum):
        return None
    computed = scope.computed(einsum)
    kept = tuple(o for o in found if not _counts(o, found, einsum, scope, computed))
    read = {v for operand in kept for v in free_variables(operand)}
    unread = [v for v in einsum.reduced if v not in read]
    known = [(v, n) for v in unread if (n := scope.extent(v)) is not None]
    if not known or (len(kept) < len(found) and len(known) < len(unread)):
        return None
    number = n_fold(einsum.ring, computed, [n for _, n in known])
    if number is None:
        return None
    gone = {v for v, _ in known}
    summed = tuple(v for v in einsum.reduced if v not in gone)
    made = _same_types(einsum, (*kept, number), summed, scope)
    return None if made is None else (made,)


def _counts(
    operand: Expr, found: tuple[Expr, ...], einsum: Einsum, scope: Scope, computed: DType
) -> bool:
    """Whether an operand is ones, all of whose variables are summed and in no other operand."""
    if not isinstance(operand, Access) or not _is_one(operand, einsum.ring, scope, computed):
        return False
    others = {v for other in found if other is not operand for v in free_variables(other)}
    return set(operand.variables()) <= set(einsum.reduced) - others


def n_fold(ring: Semiring, dtype: DType, extents: list[int]) -> Literal | None:
    """The sum of so many ones, as a number in a type; None where a literal cannot say it."""
    if not isinstance(ring.add, str):
        return None
    add = OPERATORS[ring.add].reference
    total: Any = np.asarray(value_in(ring.one, dtype))
    if dtype.is_host_only:
        return None
    with np.errstate(all="ignore"):
        for extent in extents:
            total = _repeated(add, total, extent)
    return Literal(np.asarray(total).astype(dtype.numpy).item())


def _repeated(add: Any, value: Any, count: int) -> Any:
    """`count` copies of a value added up, by doubling."""
    total: Any = None
    while count:
        if count & 1:
            total = value if total is None else add(total, value)
        value = add(value, value)
        count >>= 1
    return total


@rule
def output_only(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A variable on the left that no operand has is one of an operand of ones.

        Y[i,j] = A[i]
     -> E[j]   = 1
        Y[i,j] = A[i] * E[j]

    Condition: a product of Accesses whose type is known. Exact; `ones_drop` takes it back. Source:
    rule 15 (OUTPUT-ONLY), the extent being the rank's.
    """
    factors = einsum.product()
    if factors is None or not scope.typed(einsum):
        return None
    read = {v for factor in factors for v in factor.variables()}
    missing = tuple(v for v in einsum.free if v not in read)
    computed = scope.computed(einsum)
    if not missing or computed.kind not in einsum.ring.kinds:
        return None
    ones = unit(einsum, named(scope.fresh("E"), missing), computed)
    scope.define(ones)
    made = _same_types(einsum, (*factors, ones.output), einsum.reduced, scope)
    return None if made is None else (ones, made)


def _is_one(operand: Expr, ring: Semiring, scope: Scope, computed: DType) -> bool:
    """Whether an operand is the semiring's one wherever it is read."""
    if isinstance(operand, Literal):
        return is_value(operand, ring.one, computed)
    if not isinstance(operand, Access) or operand.fill is not None:
        return False
    definition = scope.definition(operand.tensor)
    if definition is None or not isinstance(definition.expr, Literal) or definition.where:
        return False
    left = definition.output.plain
    if left is None or distinct(left) != left or not scope.covers(operand):
        return False
    return is_value(definition.expr, ring.one, scope.dtypes[operand.tensor], computed)


def _same_types(
    einsum: Einsum, found: tuple[Expr, ...], summed: tuple[str, ...], scope: Scope
) -> Einsum | None:
    """The product of other operands, if it is computed and stored in the same types."""
    dtype = scope.dtype(einsum)
    made = product(einsum, einsum.output, found, summed)
    for candidate in (made, replace(made, dtype=dtype)):
        try:
            same = scope.dtype(candidate) == dtype
        except OperandError:
            continue
        if same and scope.computed(candidate) == scope.computed(einsum):
            return candidate
    return None
