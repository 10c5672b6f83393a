"""The operator table: every row's identity and laws hold on every dtype that it takes."""

from __future__ import annotations

import ast
import itertools
from typing import Any

import numpy as np
import pytest

from einloom.ir.dtypes import BF16, BOOL, DTYPES, F16, F32, F64, I8, I64, U8, DType, promote
from einloom.ir.errors import OperandError
from einloom.ir.operators import (
    INF,
    OPERATORS,
    REDUCTIONS,
    SEMIRINGS,
    Operator,
    in_table,
    result_dtype,
    value_in,
)

NATIVE = [dtype for dtype in DTYPES.values() if not dtype.is_host_only and dtype != BF16]


def samples(dtype: DType) -> np.ndarray[Any, np.dtype[Any]]:
    """A few values of the dtype, its extremes among them where arithmetic on them is exact."""
    if dtype.kind == "bool":
        return np.array([False, True])
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return np.array([0, 1, 2, 3, 100, info.max, info.min], dtype.numpy)
    if dtype.kind == "complex":
        return np.array([0, 1, -2, 1j, 0.5 - 1j], dtype.numpy)
    return np.array([0.0, 1.0, -2.0, 0.5, 4.0, -INF], dtype.numpy)


def defined(operator: Operator, dtype: DType) -> bool:
    """Whether the operator maps this dtype into itself, so that its laws make sense."""
    try:
        return result_dtype(operator.name, *[dtype] * operator.arity) == dtype
    except OperandError:
        return False


def agree(x: Any, y: Any) -> bool:
    return bool(np.allclose(x, y, rtol=1e-3, atol=1e-6, equal_nan=True))


PAIRS = [
    pytest.param(operator, dtype, id=f"{operator.name}-{dtype}")
    for operator in OPERATORS.values()
    if operator.arity == 2
    for dtype in NATIVE
    if defined(operator, dtype)
]


@pytest.mark.parametrize(("operator", "dtype"), PAIRS)
@np.errstate(all="ignore")
def test_laws_hold(operator: Operator, dtype: DType) -> None:
    apply = operator.reference
    values = samples(dtype)
    if operator.identity is not None:
        identity = value_in(operator.identity, dtype)
        kept = values if operator.name != "logaddexp" else values[np.isfinite(values)]
        assert agree(apply(np.full_like(kept, identity), kept), kept)
    for a, b, c in itertools.product(values, repeat=3):
        if "commutative" in operator.laws:
            assert agree(apply(a, b), apply(b, a))
        if "associative" in operator.laws:
            assert agree(apply(apply(a, b), c), apply(a, apply(b, c)))
        if "idempotent" in operator.laws:
            assert agree(apply(a, a), a)


SEMIRING_CASES = [
    pytest.param(ring.name, dtype, id=f"{ring.name}-{dtype}")
    for ring in SEMIRINGS.values()
    for dtype in NATIVE
    if dtype.kind in ring.exact_kinds
]


@pytest.mark.parametrize(("name", "dtype"), SEMIRING_CASES)
@np.errstate(all="ignore")
def test_semiring_laws_hold_on_its_exact_kinds(name: str, dtype: DType) -> None:
    ring = SEMIRINGS[name]
    add, mul = (OPERATORS[in_table(op)].reference for op in (ring.add, ring.mul))
    zero, one = value_in(ring.zero, dtype), value_in(ring.one, dtype)
    values = samples(dtype)
    if dtype.kind == "float" and name in ("sum_product", "min_plus"):
        values = values[np.isfinite(values)]  # inf * 0 and inf - inf are not numbers
    for a in values:
        assert agree(add(zero, a), a)
        assert agree(mul(one, a), a)
        assert agree(mul(zero, a), zero)
    for a, b, c in itertools.product(values, repeat=3):
        assert agree(mul(a, add(b, c)), add(mul(a, b), mul(a, c)))


def test_max_times_does_not_distribute_over_negative_numbers() -> None:
    # The reason why its exact kinds leave the signed types out.
    a, b, c = -1.0, 2.0, 3.0
    assert a * max(b, c) != max(a * b, a * c)
    assert "float" not in SEMIRINGS["max_times"].exact_kinds


def test_identities_in_types_without_infinity() -> None:
    assert value_in(-INF, I8) == -128
    assert value_in(INF, U8) == 255
    assert value_in(-1, U8) == 255
    assert value_in(-INF, BOOL) == np.False_
    assert value_in(INF, BOOL) == np.True_


def test_result_dtypes_are_numpys() -> None:
    assert result_dtype("div", I64, I64) == F64
    assert result_dtype("exp", I8) == F16
    assert result_dtype("add", F32, 2.5) == F32
    assert result_dtype("lt", F32, F64) == BOOL
    assert result_dtype("add", BF16, 1) == BF16
    assert result_dtype("add", BF16, F16) == F32
    with pytest.raises(OperandError, match="sub is not defined"):
        result_dtype("sub", BOOL, BOOL)
    with pytest.raises(OperandError, match="add is not defined"):
        result_dtype("add", U8, 300)


def test_bf16_promotes_as_f16() -> None:
    others = [d for d in NATIVE if d != F16]
    for dtype in others:
        expected = promote(F16, dtype)
        assert promote(BF16, dtype) == (BF16 if expected == F16 else expected)
    assert promote(BF16, F16) == F32


def test_each_reduction_has_one_name() -> None:
    assert REDUCTIONS["sum"].name == "add"
    assert REDUCTIONS["any"].name == "or"
    assert len(REDUCTIONS) == sum(operator.reducible for operator in OPERATORS.values())
    assert DTYPES["f32"] == F32


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=list(OPERATORS))
def test_indices_may_follow_a_formula(operator: Operator) -> None:
    """`f(a, b)[:, None]` has the index for all of it, where `a / f(b)[:, None]` would not."""
    for formula in (operator.formula, operator.on_signed or operator.formula):
        assert isinstance(ast.parse(formula, mode="eval").body, ast.Call | ast.Name)
