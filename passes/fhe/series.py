"""Polynomials of one value, as numbers: power series, and Chebyshev series on an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev, polynomial

from ...ir.layouts import Array

#: The most that a power on the way may be, and the terms of a sum against the sum, for a series on
#: an interval to be written in powers: beyond it they cost precision and the size of the modulus.
_LARGEST_POWER, _LARGEST_TERMS = 2.0**14, 2.0**9
#: The largest degree at which that is looked at.
_MOST_POWERS = 32


@dataclass(frozen=True, slots=True)
class Series:
    """`sum over n of coefficients[n] * B_n(x)`; the last coefficient is not 0, but of a constant.

    B_n is x^n, or with an interval (low, high) the Chebyshev polynomial T_n of
    t = (2x - low - high) / (high - low), which is accurate at any degree.
    """

    coefficients: tuple[complex, ...]
    interval: tuple[float, float] | None = None

    @property
    def degree(self) -> int:
        return len(self.coefficients) - 1

    def is_number(self, number: complex) -> bool:
        """Whether it is that constant."""
        return self.degree == 0 and self.coefficients[0] == number

    @property
    def step(self) -> tuple[float, float]:
        """The factor and the summand that make t of x."""
        if self.interval is None:
            return 1.0, 0.0
        low, high = self.interval
        return 2 / (high - low), -(low + high) / (high - low)

    def __call__(self, x: Any) -> Array:
        """Its values at an array."""
        factor, summand = self.step
        evaluate = polynomial.polyval if self.interval is None else chebyshev.chebval
        found: Array = np.asarray(evaluate(np.asarray(x) * factor + summand, self.coefficients))
        return found

    def of_multiple(self, number: complex) -> Series:
        """The series in h for x = number * h.

        >>> Series((1, 1, 1)).of_multiple(2).coefficients
        (1, 2, 4)
        """
        if number == 1:
            return self
        if self.interval is None:
            powers = (c * number**n for n, c in enumerate(self.coefficients))
            return replace(self, coefficients=tuple(powers))
        low, high = (bound / number.real for bound in self.interval)
        if low > high:
            signs = tuple(-c if n % 2 else c for n, c in enumerate(self.coefficients))
            return Series(signs, (high, low))
        return replace(self, interval=(low, high))

    def divided(self, number: complex) -> Series:
        """The series over a number; its leading coefficient over itself is 1."""
        if number == 1:
            return self
        *rest, leading = self.coefficients
        last = 1.0 if leading == number else leading / number
        return replace(self, coefficients=(*(c / number for c in rest), last))

    def split(self, at: int) -> tuple[Series, Series]:
        """The quotient and the rest of a division by B_at."""
        if self.interval is None:
            high, low = self.coefficients[at:], self.coefficients[:at]
        else:
            basis = [0.0] * at + [1.0]
            whole = np.asarray(self.coefficients)
            high, low = (self._pruned(part) for part in chebyshev.chebdiv(whole, basis))
        return series(high, self.interval), series(low, self.interval)

    def __str__(self) -> str:
        """`0.5 + 0.197 x - 0.004 x^3`; `T3` are Chebyshev polynomials on the interval."""
        if self.interval is None:
            names = ["", "x", *(f"x^{n}" for n in range(2, self.degree + 1))]
        else:
            names = ["", *(f"T{n}" for n in range(1, self.degree + 1))]
        parts: list[str] = []
        for c, name in zip(self.coefficients, names, strict=True):
            if c != 0 or self.degree == 0:
                minus = not np.iscomplexobj(c) and c.real < 0
                size = f"{-c if minus else c:.6g}"
                shown = [size] if size != "1" or not name else []
                sign = ("- " if minus else "+ ") if parts else "-" * minus
                parts.append(sign + " ".join([*shown, *([name] if name else [])]))
        on = "" if self.interval is None else " on {:g}..{:g}".format(*self.interval)
        return " ".join(parts) + on

    def _pruned(self, coefficients: Any) -> tuple[complex, ...]:
        """Without what is there by rounding alone: it would be encoded as 0."""
        least = 1e-14 * max(map(abs, self.coefficients))
        return tuple(c if abs(c) > least else 0.0 for c in coefficients.tolist())

    def simplest(self) -> Series:
        """In powers, which need no level to be brought to [-1, 1], if that costs no precision."""
        if self.interval is None or self.degree > _MOST_POWERS:
            return self
        t = polynomial.Polynomial(self.step[::-1])
        x = chebyshev.Chebyshev(self.coefficients).convert(kind=polynomial.Polynomial)(t)
        found = tuple(np.asarray(x.coef).tolist())
        largest = max(map(abs, self.interval))
        terms = sum(abs(c) * largest**n for n, c in enumerate(found))
        power = largest ** (1 << max(self.degree - 1, 0).bit_length() - 1 if self.degree > 1 else 1)
        values = float(np.abs(self(np.linspace(*self.interval, 257))).max())
        if power > _LARGEST_POWER or terms > _LARGEST_TERMS * max(values, 2.0**-9):
            return self
        kept = tuple(c if abs(c) * largest**n > 1e-14 * terms else 0.0 for n, c in enumerate(found))
        return series(kept, None)


def series(coefficients: Sequence[complex], interval: tuple[float, float] | None) -> Series:
    """The series without zeros at its end."""
    kept = list(coefficients)
    while len(kept) > 1 and kept[-1] == 0:
        kept.pop()
    return Series(tuple(kept) or (0.0,), interval)
