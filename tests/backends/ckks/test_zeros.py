"""What depends on nothing encrypted is known: no engine makes a ciphertext of it, and none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einloom.backends.ckks.report import EngineName
from einloom.compiler import compile, evaluate, parse

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


def test_an_output_of_nothing_encrypted_is_known() -> None:
    f = compile("ij,j->i", backend="ckks", shapes=[(4, 4), (4,)], secret=[1])
    assert not f(np.zeros((4, 4)), np.ones(4)).any()


#: Cascades with vectors, or operands of vectors, that hold no element, or lose what is encrypted.
EMPTY = {
    "an operand is nowhere": ("B[K]", "Q[k,k] = B[k] * B[k]\n S[k] = Q[0,k] * B[k]"),
    "shifted by whole vectors": ("A[K]", "S[k] = A[k-4 else 0] + A[k]"),
    "a product with what is shifted": ("A[K]", "S[k] = A[k-4 else 0] * A[k]"),
    "shifted": ("A[K]", "S[k] = A[k-4 else 0]"),
    "read outside": ("A[K]", "S[k] = A[k+K else 0] * A[k] + A[k]"),
    "nothing but 2 is left": ("A[K]", "S[k] = A[k+K else 2] * A[k]"),
    "one element is 0": ("A[K]", "S[k] = A[k] - A[0]"),
    "the middle is 0": ("A[K]", "S[k] = A[k] - A[K-1-k]"),
    "either way round": ("A[K]", "ranks J = K\n S[j,k] = A[j]*A[k] - A[k]*A[j] + A[j]*A[0]"),
    "from a number": ("A[I]", "S[0] = 2\n S[i+1] = S[i] * A[i] + A[i]"),
    "nothing reads it": ("A[K]", "P[k] = A[K-1-k]*A[k]*A[k]\n S[k] = P[k]*P[k]*0 - A[k-1 else 0]"),
    "twice by one name": ("A[K]", "ranks J = K\n S[k,j] = A[0] * A[j] * A[k] * A[k]"),
}


@pytest.mark.parametrize("slots", [1, 4, 8])
@pytest.mark.parametrize("what", EMPTY)
def test_vectors_of_nothing(what: str, slots: int) -> None:
    given, text = EMPTY[what]
    cascade = parse(f"cascade t({given}) -> S {{\n {text}\n}}")
    (name,) = (decl.name for decl in cascade.inputs)
    array = np.linspace(-1, 1, 7) if what != "twice by one name" else np.linspace(-1, 1, 3)
    arrays: dict[str, Any] = {name: array}
    f = compile(cascade, backend="ckks", shapes=[array.shape], slots=slots)
    np.testing.assert_allclose(f(array), evaluate(cascade, **arrays), atol=1e-4)


def test_what_nothing_reads_is_not_computed() -> None:
    given, text = EMPTY["nothing reads it"]
    f = compile(f"cascade t({given}) -> S {{\n {text}\n}}", backend="ckks", shapes=[(3,)], slots=4)
    assert (f.packed.counts.rotations, f.packed.counts.ct_mults, f.packed.counts.levels) == (
        1,
        0,
        0,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_vectors_in_the_clear_are_sent(engine: EngineName, tmp_path: Path) -> None:
    """A message holds vectors that are known beside those that are encrypted, by file as well."""
    text = "cascade t(A[K], M[J,K], B[J]) -> Y {\n Y[j] = sum[k] (M[j,k] * A[k]) + B[j]\n}"
    shapes = [(4,), (6, 4), (6,)]
    f = compile(
        text, backend="ckks", shapes=shapes, secret=["A"], slots=2, engine=engine, magnitude=8
    )
    client = f.client()
    server = f.server(client.keys())
    matrix, bias = np.diag(np.ones(5), -1)[:, :4], np.arange(6.0)
    matrix[2:4] = 0
    x = np.array([1.0, -2.0, 3.0, 0.5])
    path = tmp_path / "reply"
    server.run(client.encrypt(x), matrix, bias).save(path)
    np.testing.assert_allclose(client.decrypt(path), matrix @ x + bias, atol=1e-3)
