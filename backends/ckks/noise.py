"""How much noise each operation adds: variances per slot, in units of the scaled integers.

Average case, for a ternary secret s and errors of standard deviation σ. A polynomial whose N
coefficients are independent of variance V is, on a slot, complex Gaussian of variance N·V/2 in
each part. What a rounding leaves is e0 + e1·s + e2·s² (the last for size 3), each coefficient
uniform within ±1/2, so a slot's noise follows |s| on that slot: it is not alike on all slots.
Sources: eprint 2022/162; Bossuat et al., CiC 2025; eprint 2020/1118.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from .embedding import Reals, exponents
from .engine import Slots
from .params import Parameters

Singles: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float32]]

#: The standard deviation of SEAL's and the standard's error distribution.
SIGMA = 3.2


def rounding(degree: int, spread: Reals, size: int = 2) -> Reals:
    """Variance per part and slot of dividing by a prime and rounding; spread: |s|² on the slots."""
    terms = spread if size == 2 else spread + spread * spread
    return degree / 24 * (1 + terms)


def fresh(parameters: Parameters, level: int, spread: Reals) -> Reals:
    """Of a public-key encryption made modulo one prime more, which is then divided away."""
    n, chain = parameters.degree, (*parameters.primes, parameters.special)
    public = n / 2 * SIGMA**2 * (2 * n / 3 + 1 + spread) / float(chain[level + 1]) ** 2
    return public + rounding(n, spread)


def key_switch(
    parameters: Parameters, level: int, spread: Reals, key: np.random.Generator
) -> Reals:
    """Of a key switch with one digit a prime, as SEAL does it; `key` draws the key's own errors.

    On a slot it is the sum over the digits of digit times error, divided by P. The errors are the
    key's, the same at each use, so what is drawn of them here is their part of the variance. SEAL's
    digits are in [0, q), so their mean q/2 stands out where 1/(1 - ζ) is large.
    """
    n = parameters.degree
    squares = _digit_squares(parameters, level)
    total = math.fsum(squares)
    # The errors of k digits alike give a sum of k exponential variates: Gamma(k).
    alike = total**2 / math.fsum(square**2 for square in squares)
    errors = n / 2 * SIGMA**2 * total * key.standard_gamma(alike, parameters.slots) / alike
    means = 1 / np.abs(1 - np.exp(1j * np.pi / n * exponents(parameters.slots))) ** 2
    digits: Reals = errors * (n / 12 + means)
    return digits + rounding(n, spread)


def key_matters(parameters: Parameters, level: int) -> bool:
    """Whether a key switch has more of its digits' noise, on any slot, than 1% of a rounding's."""
    n = parameters.degree
    most = n / 2 * SIGMA**2 * math.fsum(_digit_squares(parameters, level)) * (n / math.pi) ** 2
    return most > 0.01 * n / 24 * (2 * n / 3)


def _digit_squares(parameters: Parameters, level: int) -> list[float]:
    return [(q / parameters.special) ** 2 for q in parameters.primes[: level + 1]]


def gaussian(generator: np.random.Generator, deviation: Singles, unit: float) -> Slots:
    """Complex noise on each slot, each part of the given deviation times the unit.

    By Box and Muller in single precision: the logarithm and the circle are vectorised, which makes
    this twice as fast as NumPy's normal deviates; seven digits of a noise are enough.
    """
    single = np.float32
    radius, angle = generator.random((2, len(deviation)), dtype=single)
    np.subtract(single(1), radius, out=radius)  # (0, 1]: the logarithm is finite
    np.log(radius, out=radius)
    radius *= single(-2)
    np.sqrt(radius, out=radius)
    radius *= deviation
    angle *= single(2 * math.pi)
    drawn = np.empty(len(deviation), np.complex64)
    np.multiply(np.cos(angle), radius, out=drawn.real)
    np.multiply(np.sin(angle), radius, out=drawn.imag)
    noise = drawn.astype(np.complex128)
    noise *= unit
    return noise
