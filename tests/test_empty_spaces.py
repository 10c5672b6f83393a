"""An iteration space with no point takes no time, however long its other ranks are."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import einloom as el

LONG = """
import numpy as np
import einloom as el

N = 2**40
CASES = [
    ("ij,ij->", (N, 0), (N, 0)),
    ("ij,ij->", (0, N), (0, N)),
    ("ijk,ijk->i", (2, N, 0), (2, N, 0)),
    ("ijk,ijk->i", (2, 0, N), (2, 0, N)),
    ("ji,ki->", (N, 0), (3, 0)),
    ("ij->j", (N, 0)),
    ("ij,k->jk", (0, N), (0,)),
    ("ij,jk->ik", (0, 3), (3, N)),
    ("ij,jk->ik", (N, 3), (3, 0)),
    ("ii,ij->", (0, 0), (0, N)),
]
for subscripts, *shapes in CASES:
    arrays = [np.broadcast_to(np.float64(1), shape) for shape in shapes]
    result = el.einsum(subscripts, *arrays, backend=BACKEND)
    expected = np.einsum(subscripts, *arrays)
    assert result.shape == expected.shape, subscripts
    assert result.size > 2 or (result == expected).all(), subscripts
"""


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_long_ranks_beside_an_empty_one(backend: str) -> None:
    script = LONG.replace("BACKEND", repr(backend))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (3, 2)])
def test_an_empty_sum_beside_one_that_shares_a_rank(backend: str, shape: tuple[int, int]) -> None:
    text = "cascade f(A[J]: f64, B[J,K]: f64) -> Y { Y[] = (sum[j] A[j]) + sum[j,k] B[j,k] }"
    arrays = [np.ones(shape[0]), np.ones(shape)]
    assert el.compile(text, backend=backend)(*arrays) == shape[0] * (1 + shape[1])


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize(
    "einsum",
    [
        "Y[n] = B[n,X[0]]",
        "Y[n,t] = B[n,X[t]]",
        "Y[t] = max[n] B[n,X[t]]",
        "Y[t] = max[n] C[X[t],n]",
        "Y = B[n,X[0]]",
    ],
)
def test_nothing_is_out_of_range_where_nothing_is_read(backend: str, einsum: str) -> None:
    text = f"cascade f(B[N,S]: f64, C[S,N]: f64, X[T]: i64) -> Y {{ {einsum} }}"
    arrays: dict[str, Any] = {"B": np.zeros((0, 3)), "C": np.zeros((3, 0)), "X": np.array([7])}
    expected = el.evaluate(text, **arrays)
    assert np.array_equal(el.compile(text, backend=backend)(**arrays), expected)
    arrays |= {"B": np.zeros((2, 3)), "C": np.zeros((3, 2))}
    with pytest.raises(el.EinloomError, match=r"read|out of range"):
        el.compile(text, backend=backend)(**arrays)
