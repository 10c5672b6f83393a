"""Functions that CKKS has not, as polynomials on an interval, where that is asked for.

A polynomial of the degree asked for interpolates the function at the Chebyshev points of the
interval, which is within a small factor of the best there is (Trefethen, Approximation Theory and
Approximation Practice, chapter 16). Outside the interval nothing is promised: a polynomial soon
leaves the function there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from ...ir.errors import ArgumentError, OperandError
from ...ir.operators import OPERATORS
from .series import Series, series

#: Names of more than the unary operators: of a/b it is 1/b that is approximated, of max(a, b) and
#: min(a, b) the absolute value of a - b.
STANDS_FOR: dict[str, Callable[[Any], Any]] = {
    "div": np.reciprocal,
    "max": np.abs,
    "min": np.abs,
}
#: Degrees beyond it are refused: no ring has so many levels.
_MOST = 511
#: How many points the error is measured at.
_POINTS = 1 << 14


@dataclass(frozen=True, slots=True)
class Approximation:
    """By a polynomial of at most that degree, for values from `low` to `high`.

    >>> print(Approximation(-8, 8, 3))
    on -8..8 degree 3
    """

    low: float
    high: float
    degree: int

    def __post_init__(self) -> None:
        given: tuple[Any, ...] = (self.low, self.high, self.degree)
        real = all(isinstance(n, Real) and not isinstance(n, bool) for n in given)
        if not (real and isinstance(given[2], Integral)):
            raise OperandError(
                "an approximation is from a number to a number, and its degree a whole number, "
                f"not {', '.join(map(repr, given))}"
            )
        kinds = {"low": float, "high": float, "degree": int}
        for (name, kind), number in zip(kinds.items(), given, strict=True):
            object.__setattr__(self, name, kind(number))  # NumPy's may be of few digits
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ArgumentError(
                f"an approximation is on an interval, and {self.low:g}..{self.high:g} is none"
            )
        if not 1 <= self.degree <= _MOST:
            raise ArgumentError(
                f"an approximation has a degree from 1 to {_MOST}, not {self.degree}"
            )

    def __str__(self) -> str:
        return f"on {self.low:g}..{self.high:g} degree {self.degree}"


@dataclass(frozen=True, slots=True)
class Approximated:
    """What was put in the place of a function: `error` is the largest on the interval.

    It is the largest at 16384 evenly spaced points, and half of the largest change between two
    neighbours besides: a bound where the error has no narrower peak than that.
    """

    einsum: str
    function: str
    approximation: Approximation
    series: Series
    error: float

    def __str__(self) -> str:
        what = "1/x" if self.function == "div" else self.function
        what = "abs" if self.function in ("max", "min") else what
        return f"{self.einsum}: {what} {self.approximation}, error {self.error:.2e}"


def approximable(function: str) -> bool:
    """Whether a polynomial may stand for the operator."""
    row = OPERATORS.get(function)
    exact = {"neg", "conj", "cast", "bitcast", "invert"}
    return function in STANDS_FOR or (row is not None and row.arity == 1 and function not in exact)


@lru_cache(maxsize=256)
def approximated(einsum: str, function: str, asked: Approximation) -> Approximated:
    """The polynomial for a function, and its error.

    Raises:
        ArgumentError: the function has no finite value somewhere on the interval.

    >>> found = approximated("P", "sigmoid", Approximation(-8, 8, 3))
    >>> print(found)
    P: sigmoid on -8..8 degree 3, error 1.16e-01
    """
    exact = STANDS_FOR.get(function) or OPERATORS[function].reference
    middle, half = (asked.low + asked.high) / 2, (asked.high - asked.low) / 2

    def scaled(t: Any) -> Any:
        return np.asarray(exact(middle + half * np.asarray(t)), np.float64)

    points = np.linspace(-1.0, 1.0, _POINTS)
    if asked.low <= 0 <= asked.high:
        points = np.sort(np.append(points, -middle / half))
    with np.errstate(all="ignore"):
        values = scaled(points)
        found = chebyshev.chebinterpolate(scaled, asked.degree)
    if not (np.isfinite(values).all() and np.isfinite(found).all()):
        raise ArgumentError(
            f"{'1/x' if function == 'div' else function} has no finite value everywhere "
            f"{asked}".removesuffix(f" degree {asked.degree}"),
            hint="give an interval that stays away from where it has none",
        )
    noise = 1e-15 * (asked.degree + 9) * np.abs(found).max()
    found[np.abs(found) < noise] = 0.0  # of an odd or even function, or a higher degree than helps
    made = series(found.tolist(), (asked.low, asked.high)).simplest()
    differences = made(middle + half * points) - values
    error = float(np.abs(differences).max() + np.abs(np.diff(differences)).max() / 2)
    return Approximated(einsum, function, asked, made, error)


_TEXT = re.compile(
    r"\s*(?P<name>\w+)\s+on\s+(?P<low>[-+.\deE]+?)\s*\.\.\s*(?P<high>[-+.\deE]+)"
    r"\s+degree\s+(?P<degree>\d+)\s*"
)


def parse_approximations(text: str) -> dict[str, Approximation]:
    """The approximations that a text asks for, by the name of a function or a tensor.

    >>> parse_approximations("sigmoid on -8..8 degree 3, P on 0.5..2 degree 7")["P"]
    Approximation(low=0.5, high=2.0, degree=7)

    Raises:
        ArgumentError: a part is not `name on low..high degree n`, or a name stands twice.
    """
    found: dict[str, Approximation] = {}
    for part in text.split(","):
        match = _TEXT.fullmatch(part)
        try:
            if match is None:
                raise ValueError
            low, high = float(match["low"]), float(match["high"])
        except ValueError:
            raise ArgumentError(
                f"{part.strip()!r} asks for no approximation",
                hint="as in `sigmoid on -8..8 degree 3, exp on -4..0 degree 7`",
            ) from None
        if match["name"] in found:
            raise ArgumentError(
                f"two approximations of {match['name']} are asked for",
                hint="give the tensor's name in the place of the function's for one of them",
            )
        found[match["name"]] = Approximation(low, high, int(match["degree"]))
    return found


def check_names(names: Iterable[str], tensors: Iterable[str]) -> None:
    """An approximation is asked for of a function, or of a tensor that is defined.

    Raises:
        ArgumentError: it is of something else.
    """
    known = set(tensors)
    for name in names:
        if name not in known and not approximable(name):
            raise ArgumentError(
                f"{name} is no function that is approximated, and no tensor of the cascade",
                hint="a function of one value, div, max or min; or the name of a tensor, for the "
                "functions in its Einsum",
            )
