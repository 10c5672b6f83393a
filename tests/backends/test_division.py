"""Vectors divided by a number that they have in common: as NumPy divides, bit for bit."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import einloom as el

from .native import WIDTHS, Native, empty_outputs, run, sized
from .test_contractions import SMALL

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0]


def numbers(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Any:
    """Of any size, most of them near 1, some special; and next to where rounding turns."""
    size = np.dtype(dtype).itemsize
    anything = np.frombuffer(rng.bytes(size * int(np.prod(shape))), dtype).reshape(shape)
    near = (rng.uniform(1, 2, shape) * 2.0 ** rng.integers(-38, 39, shape)).astype(dtype)
    near *= rng.choice([-1, 1], shape).astype(dtype)
    found = np.where(rng.random(shape) < 0.002, anything, near)
    special = rng.choice(np.array(SPECIAL, dtype), shape)
    found = np.where(rng.random(shape) < 0.001, special, found)
    ones = np.array(1, dtype) + rng.integers(-3, 4, shape).astype(dtype) * np.finfo(dtype).eps
    return np.where(rng.random(shape) < 0.1, ones, found)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rows_divided_by_a_number_each(dtype: str, bits: int) -> None:
    rng = np.random.default_rng(3)
    x, d = numbers(rng, dtype, (300, 1003)), numbers(rng, dtype, (300,))
    kind = {"f4": "f32", "f8": "f64"}[dtype]
    text = f"cascade c(X[I,J]: {kind}, D[I]: {kind}) -> Y {{ Y[i,j] = X[i,j] / D[i] }}"
    status, found = run(el.parse(text), {"X": x, "D": d}, bits)
    assert status == 0
    with np.errstate(all="ignore"):
        wanted = x / d[:, None]
    same = (found["Y"] == wanted) & (np.signbit(found["Y"]) == np.signbit(wanted))
    assert (same | (np.isnan(found["Y"]) & np.isnan(wanted))).all()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("dtype", "reach"), [("f4", 150), ("f8", 1080)])
def test_dividends_of_any_size(dtype: str, reach: int, bits: int) -> None:
    """Quotients, and what is left of a dividend, may underflow."""
    rng = np.random.default_rng(5)
    exponents = np.sort(rng.integers(-reach, reach, (160, 320)))
    with np.errstate(all="ignore"):
        x = np.ldexp(rng.uniform(1, 2, exponents.shape).astype(dtype), exponents)
        d = np.ldexp(
            rng.uniform(1, 2, 160).astype(dtype), rng.integers(-reach // 3, reach // 3, 160)
        )
    kind = {"f4": "f32", "f8": "f64"}[dtype]
    text = f"cascade c(X[I,J]: {kind}, D[I]: {kind}) -> Y {{ Y[i,j] = X[i,j] / D[i] }}"
    status, found = run(el.parse(text), {"X": x, "D": d}, bits)
    assert status == 0
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found["Y"], x / d[:, None])


@pytest.mark.parametrize(("dtype", "bits"), [("f4", 24), ("f8", 53)])
def test_quotients_next_to_where_rounding_turns(dtype: str, bits: int) -> None:
    """a/d = m/2^bits + c/(d 2^bits), for small c and odd m: halfway between two numbers."""
    rng, rows = np.random.default_rng(7), list[list[int]]()
    divisors = [int(d) | 1 for d in rng.integers(1 << (bits - 1), 1 << bits, 60)]
    for divisor in divisors:
        found: list[int] = []
        for more, c in ((more, c) for more in (bits, bits + 1) for c in range(-99, 100, 2)):
            m = -c * pow(divisor, -1, 1 << more) % (1 << more)
            m += 0 if m >> bits else 1 << bits
            a, rest = divmod(m * divisor + c, 1 << more)
            if rest == 0 and 1 << (bits - 1) <= a < 1 << bits:
                found.append(a)
        rows.append([*found, *[1 << (bits - 1)] * (200 - len(found))])
    x, d = np.array(rows, dtype), np.array(divisors, dtype)
    assert all(len(set(row)) > 10 for row in rows)
    kind = {"f4": "f32", "f8": "f64"}[dtype]
    text = f"cascade c(X[I,J]: {kind}, D[I]: {kind}) -> Y {{ Y[i,j] = X[i,j] / D[i] }}"
    status, made = run(el.parse(text), {"X": x, "D": d}, WIDTHS[0])
    assert status == 0
    np.testing.assert_array_equal(made["Y"], x / d[:, None])


def test_a_packed_row_is_divided_by_one_reciprocal() -> None:
    """One by so many columns that it is packed (test_deferred.py has the others)."""
    if WIDTHS[0] < 512:
        pytest.skip("the machine has no vectors of 512 bits")
    text = """
    cascade c(X[I,J]: f32, D[I]: f32, B[J,K]: f32) -> Y {
      P[i,j] = X[i,j] / D[i]
      Y[i,k] = P[i,j] * B[j,k]
    }"""
    rng = np.random.default_rng(3)
    x, d, b = (rng.uniform(1, 2, shape).astype("f4") for shape in ((37, 67), (37,), (67, 300)))
    arrays = {"X": x, "D": d, "B": b}
    cascade = sized(el.parse(text), arrays)
    native = Native(cascade, {**arrays, **empty_outputs(cascade)}, 512, limits=SMALL)
    assert "of div(X[" in str(native.program)
    assert native.ir.count("fdiv float") == 1
    made = {**arrays, "Y": np.empty((37, 300), "f4")}
    assert native(made) == 0
    np.testing.assert_allclose(made["Y"], x / d[:, None] @ b, rtol=1e-5)


def test_wide_vectors_are_not_divided_one_by_one() -> None:
    """What is tested above is what it is meant to be."""
    if WIDTHS[0] < 512:
        pytest.skip("the machine has no vectors of 512 bits")
    f = el.compile("cascade c(X[I,J]: f32, D[I]: f32) -> Y { Y[i,j] = X[i,j] / D[i] }")
    f(np.ones((40, 1000), "f4"), np.ones(40, "f4"))
    assert "llvm.fma.v16f32" in f.source


@pytest.mark.parametrize("bits", WIDTHS)
def test_what_is_the_same_for_a_row_is_read_once(bits: int) -> None:
    """Whether a vector is whole does not matter to it; whether a row has elements does."""
    text = "cascade c(X[I,J]: f32, D[I]: f32) -> Y { Y[i,j] = exp(X[i,j]) / D[i] }"
    x, d = np.ones((7, 37), "f4"), np.full(7, 2, "f4")
    cascade = sized(el.parse(text), {"X": x, "D": d})
    native = Native(cascade, {"X": x, "D": d, **empty_outputs(cascade)}, bits)
    lines = native.ir.split("\n")
    reads = [line for line in lines if re.search(r"= load float, ptr", line)]
    assert len(reads) == 1
    for columns in (37, 16, 3, 0):
        arrays = {"X": x[:, :columns].copy(), "D": d, "Y": np.empty((7, columns), "f4")}
        assert native(arrays) == 0
        np.testing.assert_allclose(arrays["Y"], np.exp(np.float32(1)) / 2)
