"""Of a scan's tensor no more is kept than is read: in both backends, and with the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.frontend.parser import parse_cascade
from einloom.ir.windows import windows

TOTAL = """cascade total(A[V,I]: f64) -> Y {
  S[0,i] = 1.0
  S[v+1,i] = S[v,i] * 0.5 + A[v,i]
  Y[i] = S[V,i]
}"""

#: A cascade, and the lags of the tensors of which a window is kept.
CASES = {
    TOTAL: {"S": 1},
    TOTAL.replace("-> Y", "-> Y, S"): {},
    TOTAL.replace("Y[i] = S[V,i]", "Y[i] = S[V,i] + S[0,i]"): {},
    TOTAL.replace("Y[i] = S[V,i]", "Y[i] = sum[v] S[v,i]"): {},
    TOTAL.replace("S[v,i] * 0.5", "S[v-1,i else 2] * 0.5"): {},
    TOTAL.replace("Y[i] = S[V,i]", "Y[i] = S[V-1,i else 3]"): {},
    TOTAL.replace("S[v,i] * 0.5", "S[0,i] * 0.5"): {},
    """cascade lags(A[V]: f64) -> Y {
      X[0] = 1.0
      X[1] = X[0] + 1.0
      X[2] = 3.0
      Z[0] = 0.5
      X[v+3] = X[v+2] - X[v] * A[v] + Z[v]
      M[v] = X[v+3] * X[v+1]
      Z[v+1] = M[v] - Z[v]
      Y = X[V+2] + X[V+1] * 10.0 + X[V] * 100.0 + Z[V] * 1000.0
    }""": {"X": 3, "M": 0, "Z": 1},
    """op last(a, b) [associative, identity = 0] = select(b != 0, b, a)
    cascade fold(A[V,I]: f64) -> Y {
      ranks K = I
      T[0,i] = 1.0
      T[v+1,i] = A[v,i] + last[k] T[v,k]
      Y[i] = T[V,i]
    }""": {"T": 1},
    """cascade grid(A[V,I]: f64) -> Y {
      D[0,0] = 1.0
      D[0,i+1] = 2.0
      D[v+1,0] = D[v,0] + 1.0
      D[v+1,i+1] = D[v+1,i] - D[v,i+1] * A[v,i]
      Y = D[V,I]
    }""": {},
}


@pytest.mark.parametrize("text", CASES)
def test_what_is_kept(text: str) -> None:
    found = windows(parse_cascade(text))
    assert {name: window.lag for name, window in found.items()} == CASES[text]


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("text", CASES)
def test_it_means_the_same(text: str, backend: str) -> None:
    cascade = parse_cascade(text)
    compiled = el.compile(cascade, backend=backend)
    before = el.fallbacks()
    for length in (0, 1, 2, 7):
        shape = (length, 3)[: len(cascade.inputs[0].extents)]
        a = np.random.default_rng(length).integers(-2, 3, shape) * 1.0
        want: Any = el.evaluate(cascade, keep=cascade.outputs, A=a)
        got: Any = compiled(a)
        several = got if len(cascade.outputs) > 1 else (got,)
        for name, found in zip(cascade.outputs, several, strict=True):
            assert np.asarray(found).tolist() == want[name].tolist()
    assert el.fallbacks() == before


def test_the_buffers_are_as_long_as_the_window() -> None:
    assert "S = np.empty((2, I), np.float64)" in el.compile(TOTAL, backend="numpy").source
