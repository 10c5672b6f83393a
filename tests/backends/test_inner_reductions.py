"""Reductions inside an expression: the interpreter's results, by way of nests of their own."""

from __future__ import annotations

import numpy as np
import pytest

import einloom as el
from einloom.ir.dtypes import DTYPES
from einloom.ir.interpreter import evaluate
from einloom.passes.loops.lower import LIMITS

from .native import TINY, WIDTHS, Native, empty_outputs, run, sized
from .test_contractions import SMALL

#: Bodies that read X[I,J], Z[J] and G[I], whose elements are coordinates of I.
BODIES = {
    "mean": "Y[i] = (sum[j] X[i,j]) / J",
    "norm": "Y[i] = sqrt(sum[j] (X[i,j] * X[i,j]))",
    "variance": "Y[i] = (sum[j] (X[i,j] * X[i,j])) - (sum[j] X[i,j]) * (sum[j] X[i,j])",
    "largest": "Y[i] = 2 * (max[j] X[i,j]) - (min[j] X[i,j])",
    "columns": "Y[j] = 2 * (sum[i] X[i,j])",
    "of sums": "Y = max[i] (sum[j] X[i,j])",
    "within": "Y[i] = 2 * (max[j] (X[i,j] + (sum[m] X[i,m])))",
    "of each row": "Y[i,j] = X[i,j] - (sum[m] X[i,m])",
    "of all": "Y[i,j] = X[i,j] * (sum[l] (max[m] X[l,m]))",
    "product": "Y[i,l] = 2 * (sum[j] (X[i,j] * X[l,j])) + X[l,0]",
    "gathered": "Y[i,j] = Z[j] * (sum[m] X[G[i],m])",
    "filtered": "Y[i] = X[i,0] + (sum[j] X[i,j]) where i < 2 else 0",
    "shifted": "Y[i] = 2 * (sum[j] X[i+1,j else 0])",
}
#: Those that order what they read.
ORDERING = ("largest", "of sums", "within", "of all")


def cascade(body: str, dtype: str) -> el.Cascade:
    ranks = "ranks L = I, M = J"
    return el.parse(
        f"cascade c(X[I,J]: {dtype}, Z[J]: {dtype}, G[I]: i64) -> Y {{\n  {ranks}\n  {body}\n}}"
    )


def arrays(dtype: str, i: int, j: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(i + 10 * j)
    return {
        "X": rng.integers(-4, 5, (i, j)).astype(DTYPES[dtype].numpy),
        "Z": rng.integers(-4, 5, j).astype(DTYPES[dtype].numpy),
        "G": rng.integers(0, max(i, 1), i),
    }


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in BODIES
        for dtype in ("f64", "f32", "f16", "c64", "i64", "i8")
        if dtype != "c64" or name not in ORDERING
    ],
)
def test_results(name: str, dtype: str) -> None:
    made = cascade(BODIES[name], dtype)
    for number, (i, j) in enumerate([(5, 70), (70, 5), (1, 1), (3, 0), (0, 3)]):
        if name in ("product", "filtered") and j == 0:
            continue  # X[l,0] is not there
        given = arrays(dtype, i, j)
        with np.errstate(all="ignore"):
            wanted = evaluate(sized(made, given), given)["Y"]
        for limits in (TINY, SMALL, LIMITS):
            status, found = run(made, given, WIDTHS[number % len(WIDTHS)], limits)
            assert status == 0
            assert found["Y"].dtype == wanted.dtype
            near = {"f16": 2e-3, "f32": 1e-5}.get(dtype, 1e-6)
            np.testing.assert_allclose(found["Y"], wanted, near, near, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "nests"),
    [
        ("mean", ["Y.sum", "Y"]),
        ("variance", ["Y.sum", "Y.sum1", "Y"]),
        ("within", ["Y.max.sum", "Y.max", "Y"]),
        ("of each row", ["Y.sum", "Y"]),
        ("of all", ["Y.sum.max", "Y.sum", "Y"]),
        ("columns", ["Y"]),  # its vectors lie along the result
        ("filtered", ["Y"]),
    ],
)
def test_the_nests(name: str, nests: list[str]) -> None:
    given = arrays("f32", 40, 60)
    known = sized(cascade(BODIES[name], "f32"), given)
    program = Native(known, {**given, **empty_outputs(known)}).program
    assert [nest.name for nest in program.nests] == nests
