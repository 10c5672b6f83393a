"""Polynomials in the place of functions: their error, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from einloom.ir.errors import ArgumentError, OperandError
from einloom.ir.operators import OPERATORS
from einloom.passes.fhe.approximate import (
    Approximation,
    approximable,
    approximated,
    parse_approximations,
)

#: (function, interval, degree) and an upper bound of the error.
CASES = [
    ("sigmoid", (-8, 8), 3, 0.12),
    ("sigmoid", (-8, 8), 15, 2e-3),
    ("tanh", (-4, 4), 15, 4e-3),
    ("exp", (-4, 0), 7, 1e-5),
    ("exp", (-8, 8), 31, 1e-10),
    ("erf", (-3, 3), 9, 9e-3),
    ("rsqrt", (0.1, 4), 15, 2e-2),
    ("sqrt", (0, 1), 7, 7e-2),
    ("log", (0.5, 3), 6, 2e-3),
    ("relu", (-1, 1), 8, 4e-2),
    ("sin", (-3.2, 3.2), 9, 1e-3),
    ("div", (0.5, 4), 7, 2e-2),
]


@pytest.mark.parametrize(("function", "interval", "degree", "most"), CASES)
def test_the_error_is_a_bound(
    function: str, interval: tuple[float, float], degree: int, most: float
) -> None:
    found = approximated("P", function, Approximation(*interval, degree))
    x = np.random.default_rng(0).uniform(*interval, 40_000)
    exact = 1 / x if function == "div" else OPERATORS[function].reference(x)
    error = np.abs(found.series(x) - exact).max()
    assert error <= found.error <= most
    assert found.error < 1.5 * error + 1e-12
    assert found.series.degree <= degree


def test_a_high_degree_is_no_worse() -> None:
    """What higher degrees would add is below rounding, and takes no level."""
    errors = [approximated("P", "exp", Approximation(-8, 8, d)).error for d in (31, 127, 511)]
    assert max(errors) < 1e-9
    assert approximated("P", "exp", Approximation(-8, 8, 511)).series.degree < 32


def test_an_odd_function_has_no_even_terms() -> None:
    for degree in (3, 31):
        found = approximated("P", "tanh", Approximation(-4, 4, degree))
        assert all(c == 0 for c in found.series.coefficients[::2])


def test_only_small_powers_are_powers() -> None:
    assert approximated("P", "sigmoid", Approximation(-8, 8, 7)).series.interval is None
    assert approximated("P", "sigmoid", Approximation(-8, 8, 15)).series.interval == (-8, 8)


@pytest.mark.parametrize(
    ("function", "interval"), [("log", (-1, 1)), ("div", (-1, 2)), ("rsqrt", (0, 1))]
)
def test_no_value_on_the_interval(function: str, interval: tuple[float, float]) -> None:
    with pytest.raises(ArgumentError, match="no finite value"):
        approximated("P", function, Approximation(*interval, 3))


def test_bad_intervals_and_degrees() -> None:
    for low, high in ((1, 1), (2, 1), (0, math.inf), (math.nan, 1)):
        with pytest.raises(ArgumentError, match="interval"):
            Approximation(low, high, 3)
    for degree in (0, -1, 10_000):
        with pytest.raises(ArgumentError, match="degree"):
            Approximation(0, 1, degree)


def test_text() -> None:
    asked = {"sigmoid": Approximation(-8, 8, 3), "P": Approximation(1e-2, 2.5, 7)}
    text = ", ".join(f"{name} {each}" for name, each in asked.items())
    assert text == "sigmoid on -8..8 degree 3, P on 0.01..2.5 degree 7"
    assert parse_approximations(text) == asked
    assert parse_approximations(" exp on -1 .. 1 degree 2 ")["exp"] == Approximation(-1, 1, 2)
    for wrong in (
        "",
        "sigmoid",
        "sigmoid on 1..2",
        "sigmoid on 1..x degree 2",
        "exp on 1 degree 2",
    ):
        with pytest.raises(ArgumentError, match="asks for no approximation"):
            parse_approximations(wrong)


def test_what_can_be_approximated() -> None:
    assert all(approximable(name) for name in ("exp", "relu", "abs", "sign", "div", "max", "min"))
    assert not any(approximable(name) for name in ("neg", "conj", "add", "mod", "select", "lmul"))


@pytest.mark.parametrize(
    "given", [("a", 1, 3), (0, None, 3), (0, 1, 3.5), (0, 1, True), (0, 1j, 3), (False, 1, 3)]
)
def test_an_approximation_is_made_of_numbers(given: Any) -> None:
    with pytest.raises(OperandError, match="from a number to a number"):
        Approximation(*given)


def test_numbers_of_numpy_make_an_approximation() -> None:
    given: tuple[Any, ...] = (np.float32(-1), np.float32(1), np.int8(3))
    made = Approximation(*given)
    assert str(made) == "on -1..1 degree 3"
    assert approximated("P", "exp", made) == approximated("P", "exp", Approximation(-1, 1, 3))
    assert {type(number) for number in (made.low, made.high)} == {float}


def test_one_approximation_of_each_name() -> None:
    with pytest.raises(ArgumentError, match="two approximations of tanh"):
        parse_approximations("tanh on -1..1 degree 5, exp on 0..1 degree 2, tanh on -2..2 degree 5")
