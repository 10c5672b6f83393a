"""What becomes of slots whose coefficients outgrow the modulus: they wrap, and nobody is told."""

from __future__ import annotations

import math

import numpy as np

from .embedding import to_coefficients, to_slots
from .engine import Slots
from .params import Parameters


def power(slots: Slots) -> float:
    """The mean of |z|². By einsum: BLAS would start its threads, which cost more than the sum."""
    parts = slots.view(np.float64)
    return float(np.einsum("i,i->", parts, parts)) / len(slots)


def fits(parameters: Parameters, level: int, scale: float, slots: Slots) -> bool:
    """Whether no coefficient outgrows the level's modulus.

    None exceeds the root of the slots' mean square, so the usual case is told cheaply.
    """
    square, half = power(slots), room(parameters, level, scale) / 2
    if math.sqrt(square) < half:
        return True
    return math.isfinite(square) and bool(np.abs(to_coefficients(slots)).max() < half)


def room(parameters: Parameters, level: int, scale: float) -> float:
    """The level's modulus in units of the values."""
    return math.pow(2.0, min(parameters.log2_modulus(level) - math.log2(scale), 1000.0))


def wrapped(
    parameters: Parameters, level: int, scale: float, slots: Slots, variance: float
) -> tuple[Slots, float]:
    """The slots, their coefficients taken modulo the level's modulus as a ciphertext has them."""
    if fits(parameters, level, scale, slots):
        return slots, variance
    period = room(parameters, level, scale)
    if math.isfinite(power(slots)):
        coefficients = to_coefficients(slots)
        coefficients -= period * np.rint(coefficients / period)
    else:  # too large even for a float: nothing of the value is left
        generator = np.random.Generator(np.random.SFC64(int(parameters.digest[:16], 16)))
        coefficients = period * (generator.random(2 * len(slots)) - 0.5)
    return to_slots(coefficients), math.inf
