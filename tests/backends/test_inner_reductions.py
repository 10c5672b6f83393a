"""Reductions inside an expression: named where they are long, and the interpreter's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.ir.dtypes import DTYPES
from einloom.ir.interpreter import evaluate
from einloom.passes.loops.lower import LIMITS

from .native import TINY, WIDTHS, Native, empty_outputs, run, sized

#: What stands in a cascade, and what is named in it, its reductions long.
CASES = {
    "Y[i] = sqrt(sum[j] (X[i,j] * X[i,j]))": ["Y.sum"],
    "Y[i] = (max[j] X[i,j]) - (min[j] X[i,j])": ["Y.sum", "Y.sum1"],
    "Y[i] = (sum[j] X[i,j]) * (sum[j] X[i,j])": ["Y.sum"],
    "Y[i,k] = V[i,k] / (1 + sum[j] abs(X[i,j]))": ["Y.sum"],
    "Y[k] = sum[i] (V[i,k] / (1 + sum[j] abs(X[i,j])))": ["Y.sum"],
    "Y[i,k] = 1 + sum[j] X[i,j] where i <= k else 7": ["Y.sum"],
    "Y[i]: f64 = (sum[j] X[i,j]) / J": ["Y.sum"],
    "Y[k] = 2 * sum[j] Z[P[j],k]": ["Y.sum"],
    "Y[i] = X[i,j] / J": ["Y.sum"],
    "Y[i] = X[i,j] * 0.5 / sqrt(J)": ["Y.sum.sum", "Y.sum"],
    # These are no numbers, or no usual ones, wherever they stand.
    "Y[i] = X[i,j] * 0": [],
    "Y[i] = X[i,j] * inf": [],
    "Y[i] = X[i,j] / I": [],
    "Y[i] = X[i,j] / K": [],
    "Y[i] = X[i,j] / 2 where i <= j": [],
    "Y[i]: f64 = X[i,j] / 3": [],
    # It would read Z where Y has no elements.
    "Y[i,k] = V[i,k] + sum[j] Z[P[j],k]": [],
    # As many elements as there are points.
    "Y[i] = sum[k] (V[i,k] * (max[j] (X[i,j] - Z[j,k])))": [],
}


def text_of(line: str) -> str:
    inputs = "X[I,J]: f32, Z[J,K]: f32, V[I,K]: f32, P[J]: i64"
    return f"cascade c({inputs}) -> Y {{\n  {line}\n}}"


def arrays_of(i: int, j: int, k: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    shapes = {"X": (i, j), "Z": (j, k), "V": (i, k)}
    arrays: dict[str, Any] = {
        name: rng.integers(-4, 5, shape).astype("f4") for name, shape in shapes.items()
    }
    return {**arrays, "P": rng.integers(0, max(j, 1), j)}


def named(line: str, arrays: dict[str, Any]) -> list[str]:
    """The tensors that are made before the last."""
    cascade = sized(el.parse(text_of(line)), arrays)
    program = Native(cascade, {**arrays, **empty_outputs(cascade)}).program
    return [nest.name for nest in program.nests[:-1]]


@pytest.mark.parametrize("line", CASES)
def test_long_ones_are_einsums_of_their_own(line: str) -> None:
    assert named(line, arrays_of(35, 37, 33)) == CASES[line]
    assert not named(line, arrays_of(35, 3, 33))


@pytest.mark.parametrize("value", ["max(sum[j] (X[i,j] * Z[j,k]), 0)", "X[i,j] * Z[j,k] / sqrt(J)"])
def test_a_product_of_matrices_is_one_however_short(value: str) -> None:
    line = f"Y[i,k] = {value}"
    assert named(line, arrays_of(9, 3, 8)) == ["Y.sum"]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("sizes", [(35, 37, 33), (3, 64, 2), (5, 0, 4), (0, 40, 3), (2, 33, 0)])
@pytest.mark.parametrize("line", CASES)
def test_they_are_what_the_interpreter_says(
    line: str, sizes: tuple[int, int, int], bits: int
) -> None:
    cascade, arrays = el.parse(text_of(line)), arrays_of(*sizes)
    known = sized(cascade, arrays)
    wanted = evaluate(known, arrays)["Y"]
    for limits in (LIMITS, TINY):
        status, found = run(known, arrays, bits, limits)
        assert status == 0
        np.testing.assert_allclose(found["Y"], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8"])
def test_a_result_has_its_dtype_whatever_a_part_is_computed_in(dtype: str) -> None:
    f = el.compile(f"cascade c(X[I,J]: {dtype}) -> Y {{ Y[i] = 1 + sum[j] X[i,j] }}")
    x = np.ones((3, 40), DTYPES[dtype].numpy)
    found = f(x)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found.astype("f8"), [41, 41, 41])
