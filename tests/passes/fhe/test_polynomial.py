"""Polynomials of a ciphertext: their values, their depth, and how many products they take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.ir.layouts import row_major
from einloom.ir.slot_counts import count
from einloom.ir.slot_executor import execute
from einloom.ir.slots import SlotInput, SlotProgram
from einloom.passes.fhe.builder import Builder, ones_at
from einloom.passes.fhe.polynomial import evaluated, plan
from einloom.passes.fhe.series import Series, series

from ...generated import examples

SLOTS = 16


def program(of: Series) -> SlotProgram:
    layout = row_major((SLOTS,), SLOTS)
    build = Builder("p", SLOTS, [SlotInput("X", (SLOTS,), layout)])
    (value,) = build.values_of("X")
    return build.program([("Y", layout, [evaluated(build, value, of)])])


def checked(of: Series) -> SlotProgram:
    """Its program, held to the values of the series and to the plan."""
    made = program(of)
    x = np.linspace(*(of.interval or (-1.25, 1.25)), SLOTS)
    wanted = of(x)
    np.testing.assert_allclose(execute(made, {"X": x})["Y"], wanted, rtol=1e-9, atol=1e-9)
    counts, chosen = count(made), plan(of)
    assert counts.ct_mults == chosen.ct_mults
    assert counts.relinearizations <= counts.ct_mults
    assert made.levels == chosen.depth + (of.interval is not None)
    return made


@pytest.mark.parametrize(
    ("coefficients", "levels", "mults"),
    [
        ((3, 1), 0, 0),
        ((3, 2), 1, 0),
        ((0, 0, 1), 1, 1),
        ((0.25, 4, 1), 1, 1),
        ((0.25, 0.5, 0.125), 2, 1),
        ((0.5, 0.197, 0, -0.004), 2, 2),
        ((0, 0, 0, 1), 2, 2),
        ((1, 2, 3, 4), 2, 2),
        ((0, 0, 0, 0, 1), 2, 2),
        ((2, 3, 4, 5, 1), 2, 2),
        ((0, 0, 0, 0, 0, 0, 0, 0, 1), 3, 3),
        ((1, 0, 2, 0, 3, 0, 4), 3, 3),
        ((1, 2, 3, 4, 5, 6, 7, 8), 3, 5),
        (tuple(range(1, 17)), 4, 9),
        (tuple(range(1, 33)), 5, 15),
    ],
)
def test_depth_and_products(coefficients: tuple[float, ...], levels: int, mults: int) -> None:
    made = checked(Series(coefficients))
    assert made.levels == levels
    assert count(made).ct_mults == mults


@examples(60)
@given(
    st.lists(st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, 2.0, -0.75]), min_size=2, max_size=24),
    st.booleans(),
)
def test_any_polynomial(coefficients: list[float], chebyshev: bool) -> None:
    of = series(coefficients, (-2.0, 3.0) if chebyshev else None)
    if of.degree:
        made = checked(of)
        assert made.levels <= of.degree.bit_length() + chebyshev


@pytest.mark.parametrize("degree", [1, 2, 3, 7, 8, 15, 16, 27, 31, 63])
def test_least_depth(degree: int) -> None:
    """ceil(log2(degree + 1)), in powers; one more in the Chebyshev basis."""
    coefficients = tuple(np.random.default_rng(degree).uniform(-1, 1, degree + 1).tolist())
    assert checked(Series(coefficients)).levels == degree.bit_length()
    assert checked(Series(coefficients, (-3.0, 5.0))).levels == degree.bit_length() + 1


def test_a_constant_where_it_is_asked_for() -> None:
    layout = row_major((2,), 4)
    build = Builder("p", 4, [SlotInput("X", (2,), layout)])
    value = evaluated(build, 0, Series((5.0, 0.0, 1.0)), ones_at(np.arange(2)))
    made = build.program([("Y", layout, [value])])
    assert execute(made, {"X": [1, 2]})["Y"].tolist() == [6, 9]


@pytest.mark.parametrize("interval", [(-2.0, 3.0), None])
@pytest.mark.parametrize("number", [0.5, -3.0])
def test_of_a_multiple(interval: tuple[float, float] | None, number: float) -> None:
    of = Series((1.0, -2.0, 0.5, 0.25), interval)
    h = np.linspace(-0.5, 0.5, 7)
    np.testing.assert_allclose(of.of_multiple(number)(h), of(number * h), atol=1e-12)


def test_text() -> None:
    assert str(Series((0.5, 0.197, 0.0, -0.004))) == "0.5 + 0.197 x - 0.004 x^3"
    assert str(Series((0.0, 1.0, -1.0), (-8, 8))) == "T1 - T2 on -8..8"
