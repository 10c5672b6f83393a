"""Semiring homomorphisms: a function of a sum of products is a sum of products of the function.

The law is that of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...ir.dtypes import DType
from ...ir.einsum import Access, Einsum, Literal, Map
from ...ir.infer import expr_dtype, strong
from ...ir.operators import Number
from ...ir.ranks import RankExpr
from ..rewrite import distinct, named, product, rule
from ..scope import Scope


@dataclass(frozen=True, slots=True)
class Homomorphism:
    """A function f with f(a + b) = f(a) + f(b) and f(a * b) = f(a) * f(b), zero and one kept.

    On the left the operators are those of `source`, on the right those of `target`. The function is
    `op(x)`, or `op(x, number)`, or, of `cast`, a conversion. `fits` tells the types (before, after)
    in which the laws hold: in floats up to rounding, in all others exactly. `positive`: on values
    that are not negative alone.
    """

    op: str
    source: str
    target: str
    fits: Callable[[DType, DType], bool]
    number: Number | None = None
    positive: bool = False


def _floats(before: DType, after: DType) -> bool:
    return before.kind == after.kind == "float"


def _truncates(before: DType, after: DType) -> bool:
    """To an integer of no more bits: arithmetic modulo 2^n, n the bits of the result."""
    return before.is_integer and after.is_integer and after.bits <= before.bits


def _integers(before: DType, after: DType) -> bool:
    return before.is_integer and after == before


def _truth(before: DType, after: DType) -> bool:
    return before.kind == "bool" and (after.is_integer or after.is_inexact)


#: Every homomorphism that `hom` knows.
HOMOMORPHISMS = (
    Homomorphism("exp", "max_plus", "max_times", _floats),
    Homomorphism("exp2", "max_plus", "max_times", _floats),
    Homomorphism("exp", "log", "sum_product", _floats),
    Homomorphism("log", "sum_product", "log", _floats, positive=True),
    Homomorphism("log", "max_times", "max_plus", _floats, positive=True),
    Homomorphism("neg", "max_plus", "min_plus", _floats),
    Homomorphism("neg", "min_plus", "max_plus", _floats),
    Homomorphism("neg", "max_min", "min_max", _floats),
    Homomorphism("neg", "min_max", "max_min", _floats),
    Homomorphism("cast", "sum_product", "sum_product", _truncates),
    Homomorphism("cast", "counting", "counting", _truncates),
    Homomorphism("cast", "xor_and", "xor_and", _truncates),
    Homomorphism("cast", "boolean", "max_times", _truth),
    Homomorphism("and", "sum_product", "xor_and", _integers, 1),
    Homomorphism("and", "counting", "xor_and", _integers, 1),
)

#: Functions whose values are not negative.
_POSITIVE = frozenset({"exp", "exp2", "sigmoid", "abs", "relu"})


@rule
def hom(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A semiring homomorphism commutes with a product: it is applied to the factors.

        S[i] = A[i,j] * B[j] over max_plus
        Y[i] = exp(S[i])
     -> S[i] = A[i,j] * B[j] over max_plus
        A1[i,j] = exp(A[i,j])
        B1[j] = exp(B[j])
        Y[i] = A1[i,j] * B1[j] over max_times

    The logarithm of a sum of exponentials so becomes one over the log semiring; `dead` removes what
    is then read no more. Condition: the function is in the table HOMOMORPHISMS for the semiring of
    the product and in its types, and the product is computed in the type that it is stored in; a
    logarithm needs factors that a function such as exp made. Source: rule 26 (HOM).
    """
    expr = einsum.expr
    if not isinstance(expr, Map) or einsum.where is not None or not scope.typed(einsum):
        return None
    inner = expr.args[0]
    if not isinstance(inner, Access) or not scope.covers(inner) or einsum.dtype is not None:
        return None
    definition = scope.definition(inner.tensor)
    if definition is None or inner.plain is None:
        return None
    factors, left = definition.product(), definition.output.plain
    if factors is None or left is None or distinct(left) != left:
        return None
    if set(inner.plain) != set(einsum.free):
        return None
    before, after = scope.dtypes[inner.tensor], strong(expr_dtype(expr, scope.dtypes))
    types = {scope.dtypes[factor.tensor] for factor in factors}
    if types != {before} or before != before.compute or scope.computed(definition) != before:
        return None
    found = next((h for h in HOMOMORPHISMS if _is(h, expr, definition.ring.name)), None)
    if found is None or not found.fits(before, after):
        return None
    if found.positive and not all(_positive(factor, scope) for factor in factors):
        return None
    if any(scope.extent(v) == 0 for v in definition.reduced):
        return None
    return _applied(einsum, expr, definition, found, scope)


def _is(row: Homomorphism, expr: Map, semiring: str) -> bool:
    rest = () if row.number is None else (Literal(row.number),)
    return expr.op == row.op and row.source == semiring and expr.args[1:] == rest


def _positive(factor: Access, scope: Scope) -> bool:
    definition = scope.definition(factor.tensor)
    expr = None if definition is None or definition.where is not None else definition.expr
    return factor.fill is None and isinstance(expr, Map) and expr.op in _POSITIVE


def _applied(
    einsum: Einsum, expr: Map, definition: Einsum, row: Homomorphism, scope: Scope
) -> tuple[Einsum, ...]:
    """The product over the other semiring, of factors that the function was applied to."""
    made: dict[Access, Einsum] = {}
    factors = definition.product() or ()
    for factor in factors:
        if factor not in made:
            output = named(scope.fresh(factor.tensor), distinct(factor.variables()))
            mapped = replace(expr, args=(factor, *expr.args[1:]))
            made[factor] = Einsum(output, mapped, span=einsum.span)
            scope.define(made[factor])
    # The definition's own variables, renamed apart from those that the reader reads it at.
    used = set(einsum.free)
    apart = {v: scope.alias(v) for v in definition.reduced if v in used}
    values = {old: RankExpr.of_variable(new) for old, new in apart.items()}
    inner = expr.args[0]
    assert isinstance(inner, Access)
    values |= {
        v: index
        for v, index in zip(definition.free, inner.indices, strict=True)
        if isinstance(index, RankExpr)
    }
    read = tuple(made[factor].output.substitute(values) for factor in factors)
    summed = tuple(apart.get(v, v) for v in definition.reduced)
    whole = replace(einsum, semiring=row.target)
    moved = product(whole, einsum.output, read, summed)
    return *made.values(), scope.stored(moved, scope.dtype(einsum))
