"""Vectors that are wanted as rotations of those that are held: no mask, no level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ...ir.layouts import Array, Layout
from .builder import Builder
from .held import Way
from .moves import copied, doublings

#: How many places of one element are looked at for a rotation.
_PLACES = 256


def element_table(layout: Layout) -> Array:
    """The element in each slot; -1 is a 0, -2 is anything."""
    table = layout.table()
    return table if layout.zero else np.where(table < 0, -2, table)


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """For each vector that is wanted, the vector that is held and the step; is all else 0?"""

    vectors: tuple[tuple[int, int], ...]
    clean: bool

    @property
    def rotations(self) -> int:
        return len({each for each in self.vectors if each[1]})


def rotations_of(table: Array, slots: Sequence[Array], elements: Sequence[Array]) -> Turned | None:
    """Every wanted vector as a rotation of one that is held, if they all are."""
    flat = table.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    found: list[tuple[int, int]] = []
    clean = True
    for at, element in zip(slots, elements, strict=True):
        real = np.flatnonzero(element >= 0)
        if not real.size:
            return None
        first = int(real[0])
        begin, end = np.searchsorted(ranked, [element[first], element[first] + 1])
        sample = np.linspace(0, at.size - 1, min(at.size, 16)).astype(np.int64)
        here = None
        for address in islice(order[begin:end].tolist(), _PLACES):
            vector, slot = divmod(address, table.shape[1])
            step = slot - int(at[first])
            row = table[vector]
            if np.array_equal(row[(at[sample] + step) % row.size], element[sample]) and (
                np.array_equal(row[(at + step) % row.size], element)
            ):
                here = vector, step % row.size
                if step == 0:
                    break
        if here is None:
            return None
        found.append(here)
        row = table[here[0]]
        clean &= bool(np.count_nonzero(row != -1) == real.size)
    return Turned(tuple(found), clean)


def by_rotation(turned: Turned) -> Way:
    """The way of those rotations: the steps of each vector together."""

    def emit(build: Builder, values: Sequence[int]) -> list[int]:
        made: dict[tuple[int, int], int] = {}
        for vector in dict.fromkeys(vector for vector, _ in turned.vectors):
            steps = list(dict.fromkeys(s for v, s in turned.vectors if v == vector))
            for step, value in zip(steps, build.rotate(values[vector], steps), strict=True):
                made[vector, step] = value
        return [made[each] for each in turned.vectors]

    return Way(0, turned.rotations, turned.clean, emit)


def by_going_round(table: Array, slots: Sequence[Array], elements: Sequence[Array]) -> list[Way]:
    """Rotations of what is held once it is repeated behind itself, where there is room."""
    size = int(np.flatnonzero((table >= 0).any(axis=0))[-1]) + 1
    room = 1 << (table.shape[1] // size).bit_length() >> 1
    found: list[Way] = []
    for copies in sorted({min(2, room), room} - {0, 1}):
        if (table == -2).any():
            break
        wide, made = table, 1
        while made < copies:
            wide, made = np.maximum(wide, np.roll(wide, made * size, axis=1)), 2 * made
        turned = rotations_of(wide, slots, elements)
        if turned is not None:
            found.append(_repeated(turned, copies, size))
            break
    return found


def _repeated(turned: Turned, copies: int, size: int) -> Way:
    then = by_rotation(turned)
    used = list(dict.fromkeys(vector for vector, _ in turned.vectors))

    def emit(build: Builder, values: Sequence[int]) -> list[int]:
        wide = {at: copied(build, values[at], size, copies) for at in used}
        return then.emit(build, [wide.get(at, value) for at, value in enumerate(values)])

    return Way(0, then.rotations + doublings(copies) * len(used), then.clean, emit)
