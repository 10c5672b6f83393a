"""An output that is one of the inputs: where that is read only where it is written, in place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.ir.overwriting import overwritable

from .native import native

HEAD = "cascade f(A[I,J]: f32, B[J,K]: f32, C[I,K]: f32) -> Y"

#: Cascades, and the inputs that the output may be.
IN_PLACE = {
    f"{HEAD} {{ T[i,k] = A[i,j] * B[j,k]\n Y[i,k] = 2 * T[i,k] + 3 * C[i,k] }}": {"C"},
    f"{HEAD} {{ Y[i,k] = 2 * sum[j](A[i,j] * B[j,k]) + C[i,k] * C[i,k] }}": {"C"},
    "cascade f(X[I,J]: f64, A[I,J]: f64) -> Y { Y[i,j] = 2 * X[i,j] + A[i,j] }": {"X", "A"},
    "cascade f(X[I,J]: f64, a[J]: f64) -> Y { Y[i,j] = relu(X[i,j]) * a[j] }": {"X"},
}

#: What reads an element once it may be another.
NOT = [
    "cascade f(X[I,J]: f32) -> Y { ranks J = I\n Y[i,j] = X[j,i] }",
    "cascade f(X[I,J]: f32) -> Y { S[i] = X[i,j]\n Y[i,j] = X[i,j] - S[i] }",
    "cascade f(X[I,J]: f32, A[I,J]: f32) -> Y { ranks J = I\n Y[i,j] = X[i,j] + A[j,i] * X[j,i] }",
    "cascade f(X[I,J]: f32, A[J,K]: f32) -> Y { Y[i,k] = X[i,j] * A[j,k] }",
    "cascade f(X[I,J]: f32) -> Y, Z { Y[i,j] = 2 * X[i,j]\n Z[i,j] = 3 * X[i,j] }",
    "cascade f(X[I,J]: f32) -> Y { ranks J = I\n T[i,j] = 2 * X[i,j]\n Y[i,j] = T[j,i] + X[i,j] }",
]


def operands(text: str, n: int) -> dict[str, Any]:
    """Whole numbers for the inputs of a cascade, each of its ranks so long."""
    rng = np.random.default_rng(n)
    found = re.findall(r"(\w+)\[([A-Z,]+)\]: f(\d+)", text.partition("->")[0])
    return {
        name: rng.integers(-4, 5, (n,) * len(ranks.split(","))).astype(f"f{int(bits) // 8}")
        for name, ranks, bits in found
    }


@pytest.mark.parametrize("text", IN_PLACE)
@pytest.mark.parametrize("n", [1, 3, 16, 37, 130])
def test_the_output_is_an_input(text: str, n: int) -> None:
    arrays = operands(text, n)
    f = el.compile(text)
    want = f(*arrays.values())
    for name in arrays:
        if arrays[name].shape != want.shape:
            continue
        for _ in range(3):  # later calls come by the guard
            given = {key: array.copy() for key, array in arrays.items()}
            assert f(*given.values(), out=given[name]) is given[name]
            np.testing.assert_array_equal(given.pop(name), want)
            assert all((given[key] == arrays[key]).all() for key in given)


@pytest.mark.parametrize("threads", [1, 2])
def test_products_that_threads_share(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their parts ask for memory once others have written."""
    text = next(iter(IN_PLACE))
    a, b, c = operands(text, 333).values()
    a, b, c = a[:, :100].copy(), np.hstack([b, b])[:100], np.hstack([c, -c])
    shapes = [a.shape, b.shape, c.shape]
    assert "parallel" in str(el.compile(text, shapes=shapes).steps[-1])
    f = el.compile(text, threads=threads)
    monkeypatch.delattr(np, "copyto")  # as what is made aside is
    for _ in range(3):
        given = c.copy()
        assert f(a, b, given, out=given) is given
        np.testing.assert_array_equal(given, 2 * (a @ b) + 3 * c)


#: Ways for an array to lie in memory.
VIEWS: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda x: x.T,
    "upwards": lambda x: x[::-1],
    "backwards": lambda x: x[:, ::-1],
    "apart": lambda x: x[1::2, ::3],
    "askew": lambda x: x[:, 1:],
    "strided": lambda x: np.stack([x, x], 2)[:, :, 1],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("n", [9, 70, 900])
def test_however_it_lies(view: str, n: int) -> None:
    f = el.compile("cascade f(X[I,J]: f64, A[I,J]: f64) -> Y { Y[i,j] = 2 * X[i,j] + A[i,j] }")
    x, a = np.random.default_rng(n).integers(-9, 9, (2, n, n)).astype("f8")
    lying = VIEWS[view]
    want = 2 * lying(x) + lying(a)
    for _ in range(3):
        given = lying(x.copy())
        np.testing.assert_array_equal(f(given, lying(a), out=given), want)


@pytest.mark.parametrize("text", NOT)
def test_others_are_read_first(text: str) -> None:
    arrays = operands(text, 20)
    f = el.compile(text)
    want = f(*arrays.values())
    if isinstance(want, tuple):
        return
    for name in arrays:
        for _ in range(3):
            given = {key: array.copy() for key, array in arrays.items()}
            f(*given.values(), out=given[name])
            np.testing.assert_array_equal(given[name], want)


def test_memory_that_is_not_the_same_is_not_overwritten() -> None:
    """Inputs that the output lies across, or has in another order."""
    f = el.compile("cascade f(X[I,J]: f64, A[I,J]: f64) -> Y { Y[i,j] = 2 * X[i,j] + A[i,j] }")
    numbers = np.random.default_rng(0).integers(-9, 9, (2, 31, 31)).astype("f8")
    want = 2 * numbers[0, :30, :30] + numbers[1, :30, :30]
    for place in ((slice(1, 31), slice(0, 30)), (slice(0, 30), slice(1, 31))):
        for _ in range(3):
            x, a = numbers.copy()
            found = f(x[:30, :30], a[:30, :30], out=x[place])
            np.testing.assert_array_equal(found, want)
    square = numbers[0, :30, :30]
    for _ in range(3):
        x = square.copy()
        np.testing.assert_array_equal(f(x, x.T, out=x), 2 * square + square.T)
        x = square.copy()
        np.testing.assert_array_equal(f(x, square, out=x.T).copy(), 3 * square)


@pytest.mark.parametrize("text", [*IN_PLACE, *NOT])
def test_which_they_are(text: str) -> None:
    for n in (16, 64):
        shapes = {name: array.shape for name, array in operands(text, n).items()}
        found = overwritable(native(text, **shapes).program, dict.fromkeys("IJK", n))
        assert found == IN_PLACE.get(text, set())


def test_sums_of_pieces_that_stand_in_the_output() -> None:
    """Of a long depth there are some, and the input would be gone."""
    text = next(iter(IN_PLACE))
    program = native(text, A=(64, 5000), B=(5000, 64), C=(64, 64)).program
    assert not overwritable(program, {"I": 64, "J": 5000, "K": 64})
    a, b = np.ones((64, 5000), "f4"), np.ones((5000, 64), "f4")
    c = np.full((64, 64), 2, "f4")
    f = el.compile(text)
    for _ in range(3):
        given = c.copy()
        np.testing.assert_array_equal(f(a, b, given, out=given), 10006)
