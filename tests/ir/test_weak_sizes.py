"""Sizes, and what is made of them and numbers alone: beside floats they take the floats' type."""

from __future__ import annotations

import numpy as np
import pytest

from einloom.compiler import compile, parse
from einloom.ir.dtypes import DTYPES
from einloom.ir.errors import OperandError
from einloom.ir.infer import infer_dtypes
from einloom.ir.interpreter import evaluate
from einloom.passes.spec import parse_pipeline

#: Definitions of Y over X[I], the dtype of X, and the one that Y has.
TYPES = [
    ("Y[i] = X[i] / sqrt(I)", "f32", "f32"),
    ("Y[i] = X[i] - I", "f32", "f32"),
    ("Y[i] = X[i] * sqrt(I) + I / 3", "f32", "f32"),
    ("Y[i] = X[i] / sqrt(2.0)", "f32", "f32"),
    ("Y[i] = X[i] * ((2 * 3) * (I + 1))", "f32", "f32"),
    ("Y[i] = pow(X[i], I - 3)", "f32", "f32"),
    ("Y[i] = max(X[i], I - 2, 1 - 4)", "f32", "f32"),
    ("Y[i] = select(X[i] < I / 3, sqrt(I), X[i])", "f32", "f32"),
    ("Y = max[i] X[i] / sqrt(I)", "f32", "f32"),
    ("Y[i] = X[i] / sqrt(I)", "f16", "f16"),
    ("Y[i] = X[i] * I", "bf16", "bf16"),
    ("Y[i] = X[i] / sqrt(I)", "c64", "c64"),
    ("Y[i] = X[i] - 2j * I", "f32", "c64"),
    ("Y[i] = X[i] * (2j * I)", "f32", "c64"),
    ("Y[0] = 1 / I\nY[i+1] = Y[i] * X[i]", "f32", "f32"),
    ("Y[0] = I\nY[i+1] = Y[i] + I * X[i]", "f32", "f32"),
    ("Y[i] = square(X[i], I)", "f32", "f32"),
    ("Y[i] = twice(I) / X[i]", "f32", "f32"),
    ("Y[i] = declared(X[i], I)", "f32", "f32"),
    # An operator's body is weak where it is a number alone.
    ("Y[i] = X[i] * two(X[i]) - number(X[i])", "f32", "f32"),
    ("Y[i] = X[i] * two(X[i])", "i8", "i8"),
    ("Y[i] = two(X[i])", "i8", "i64"),
    ("Y = sum[i] number(X[i])", "f32", "f64"),
    ("Y[i] = always(X[i], 3)", "f32", "i64"),
    # An integer's type may not hold a size, nor has it fractions.
    ("Y[i] = X[i] * I", "i8", "i64"),
    ("Y[i] = X[i] * (2 * 3)", "i8", "i64"),
    ("Y[i] = X[i] / I", "i8", "f64"),
    ("Y[i] = X[i] * sqrt(I)", "i8", "f64"),
    ("Y[0] = I\nY[i+1] = Y[i] + X[i]", "i8", "i64"),
    # What is cast, stored, or a coordinate is of its own type; so is a size alone.
    ("Y[i] = X[i] * cast(I, f64)", "f32", "f64"),
    ("T = sqrt(I)\nY[i] = X[i] * T[]", "f32", "f64"),
    ("Y[i] = X[i] * i", "f32", "f64"),
    ("Y[i] = select(X[i] < 0, I, 1)", "f32", "i64"),
    ("Y: f64 = sum[i] (X[i] * sqrt(I))", "f32", "f64"),
    ("Y[i] = sqrt(I) * I * (i == 0)", "f32", "f64"),
]

OPERATORS = """op square(a, b) = b * b - a / b
op twice(a) = a * 2.0
op declared(a: f32, b: f32) = a - b
op two(a) = 2
op number(a: f64) = 0.5
op always(a, b) [associative, commutative] = 7
"""


@pytest.mark.parametrize(("lines", "given", "wanted"), TYPES)
def test_types(lines: str, given: str, wanted: str) -> None:
    """As it is inferred, and as all that run it make it; what folds constants keeps it."""
    cascade = parse(f"{OPERATORS}cascade f(X[I]: {given}) -> Y {{\n{lines}\n}}")
    assert str(infer_dtypes(cascade, {})["Y"]) == wanted
    x = np.array([0.75, -3.0, 4.5, 1.25, 2.0]).astype(DTYPES[given].numpy)
    want = evaluate(cascade, {"X": x})["Y"]
    assert want.dtype == DTYPES[wanted].numpy
    rewritten = [parse_pipeline(text).apply(cascade) for text in ("fold_constants", "inline")]
    wide = complex if want.dtype.kind == "c" else float
    eps = 4 * 2.0 ** {"bf16": -8, "f16": -11}.get(wanted, -23)
    for each in (cascade, *rewritten):
        ran = [compile(each, backend=name)(x) for name in ("numpy", "llvm")]
        for got in (evaluate(each, {"X": x})["Y"], *ran):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got.astype(wide), want.astype(wide), rtol=eps, atol=eps)


def test_it_is_computed_before_it_is_converted() -> None:
    """I*I + 1 is exact as an i64, but in f32 the 1 would be lost."""
    cascade = parse("cascade f(X[I]: f32) -> Y { Y = max[i] (X[i] + (I * I + 1 - I * I)) }")
    assert evaluate(cascade, {"X": np.zeros(5000, "f4")})["Y"] == 1


def test_a_parameter_of_integers_takes_no_fraction() -> None:
    text = "op h(a, b: i32) = a + b\ncascade f(X[I]: f32) -> Y {{ Y[i] = h(X[i], {}) }}"
    for argument in ("sqrt(I)", "I"):
        with pytest.raises(OperandError, match="takes b: i32 but was given"):
            infer_dtypes(parse(text.format(argument)), {})
