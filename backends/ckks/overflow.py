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


def wrapped(
    parameters: Parameters, level: int, scale: float, slots: Slots, variance: float
) -> tuple[Slots, float]:
    """The slots, their coefficients taken modulo the level's modulus as a ciphertext has them.

    No coefficient exceeds the root of the slots' mean square, so the usual case is told cheaply.
    """
    square = power(slots)
    room = parameters.log2_modulus(level) - math.log2(scale)
    if square == 0 or (math.isfinite(square) and 0.5 * math.log2(square) < room - 1):
        return slots, variance
    period = 2.0 ** min(room, 1000.0)
    if math.isfinite(square):
        coefficients = to_coefficients(slots)
        if np.abs(coefficients).max() < period / 2:
            return slots, variance
        coefficients -= period * np.rint(coefficients / period)
    else:  # too large even for a float: nothing of the value is left
        generator = np.random.Generator(np.random.SFC64(int(parameters.digest[:16], 16)))
        coefficients = period * (generator.random(2 * len(slots)) - 0.5)
    return to_slots(coefficients), math.inf
