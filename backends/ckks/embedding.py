"""The canonical embedding: slots <-> coefficients of a real polynomial modulo X^N + 1.

Slot j is the polynomial's value at ζ^(3^j), ζ = exp(iπ/N), as in SEAL. Every such root or its
conjugate is ζ^(4t+1) for one t < N/2, so one transform of length N/2 serves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from .engine import Slots

Reals: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
Integers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]


class _Tables(NamedTuple):
    place: Integers  # slot j -> t
    flip: np.ndarray[tuple[int], np.dtype[np.bool_]]  # where the slot is the conjugate
    twist: Slots  # ζ^i


def exponents(slots: int) -> Integers:
    """Which odd power of ζ each slot is at: 3^j mod 2N."""
    power, found = 1, list[int]()
    for _ in range(slots):
        found.append(power)
        power = power * 3 % (4 * slots)
    return np.array(found)


@lru_cache(maxsize=8)
def _tables(slots: int) -> _Tables:
    order, raw = 4 * slots, exponents(slots)
    flip = raw % 4 == 3
    place = np.where(flip, order - raw, raw) // 4
    return _Tables(place, flip, np.exp(1j * np.pi / (2 * slots) * np.arange(slots)))


def to_coefficients(values: Slots) -> Reals:
    """The N real coefficients of the polynomial with these N/2 slots."""
    slots = len(values)
    table = _tables(slots)
    ordered = np.empty(slots, np.complex128)
    ordered[table.place] = np.where(table.flip, values.conj(), values)
    folded = np.fft.fft(ordered) * table.twist.conj() / slots
    return np.concatenate((folded.real, folded.imag))


def to_slots(coefficients: Reals) -> Slots:
    """The N/2 slots of the polynomial with these N real coefficients."""
    slots = len(coefficients) // 2
    table = _tables(slots)
    folded = (coefficients[:slots] + 1j * coefficients[slots:]) * table.twist
    values = (np.fft.ifft(folded) * slots)[table.place]
    return np.where(table.flip, values.conj(), values)
