"""Plaintexts of zeros: their products are left out, since no engine makes a ciphertext of them."""

from __future__ import annotations

import numpy as np
import pytest

from einloom.backends.ckks.report import EngineName
from einloom.compiler import compile
from einloom.ir.errors import SlotError

ENGINES: list[EngineName] = ["simulated", "seal"]
SCAN = """cascade s(X[I], A[I]) -> S {
  S[0]   = 0
  S[i+1] = S[i] * X[i] + A[i]
}"""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("slots", [8, 64])
def test_a_sparse_matrix_of_weights(engine: EngineName, slots: int) -> None:
    f = compile(
        "ij,j->i", backend="ckks", shapes=[(8, 8), (8,)], secret=[1], slots=slots, engine=engine
    )
    x = np.arange(8.0)
    for weights in (np.eye(8), np.eye(8) + np.diag(np.ones(7), 1), np.diag(np.ones(5), -3)):
        np.testing.assert_allclose(f(weights, x), weights @ x, atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scan_that_begins_at_zero(engine: EngineName) -> None:
    f = compile(SCAN, backend="ckks", shapes=[(3,), (3,)], slots=4, engine=engine)
    x, a = np.array([0.5, 2.0, -1.0]), np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(f(x, a), [0, 1, 4, -1], atol=1e-3)


def test_an_output_of_nothing_encrypted_is_refused() -> None:
    f = compile("ij,j->i", backend="ckks", shapes=[(4, 4), (4,)], secret=[1])
    with pytest.raises(SlotError, match="Y is 0 whatever is encrypted"):
        f(np.zeros((4, 4)), np.ones(4))
