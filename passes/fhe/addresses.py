"""Addresses: of elements in a layout, and of what is moved from one to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.layouts import Array, Layout


@dataclass(frozen=True, slots=True)
class Digit:
    """A variable's part of an address, coordinate by coordinate: where it comes from, and goes."""

    source: tuple[int, ...]
    target: tuple[int, ...]


def by_axis(layout: Layout) -> tuple[int, tuple[Array, ...]] | None:
    """The address of the first element and what each axis adds to it, if they add up."""
    addresses = layout.addresses().reshape(layout.shape)
    start = int(addresses.reshape(-1)[0])
    parts = tuple(
        np.moveaxis(addresses, axis, -1).reshape(-1, extent)[0] - start
        for axis, extent in enumerate(layout.shape)
    )
    total = np.full((), start, np.int64)
    for part in parts:
        total = np.add.outer(total, part)
    return (start, parts) if np.array_equal(total, addresses) else None


def distinct(values: Array) -> Array:
    """The different ones of numbers that are not negative, in order: by a table if it is small.

    np.unique takes several times as long for a million of them.
    """
    last = int(values.max())
    if last > 1 << 26:
        ranked = np.sort(values)
        found: Array = ranked[np.append(True, np.diff(ranked) != 0)]
        return found
    seen = np.zeros(last + 1, bool)
    seen[values] = True
    return np.flatnonzero(seen)


def places(digits: Sequence[tuple[int, int]]) -> Array:
    """The slot of each point of extents and strides, in C order."""
    found: Array = np.zeros(1, np.int64)
    for extent, stride in digits:
        found = np.add.outer(found, np.arange(extent) * stride).reshape(-1)
    return found
