"""Which element of a tensor lies in which slot: a Layout, a partial map to coordinates.

    Layout = slots, shape, pieces, offset, wrap, zero
    Piece  = extent, stride, steps

An *address* counts the slots of all vectors (ciphertexts) of a tensor one after another: slot s of
vector v has address v*slots + s. A piece with a value p in 0..extent-1 adds p*stride to the address
and, for each (axis, step) of its steps, p*step to the coordinate along that axis; a piece without
steps makes copies. So strides, order, gaps, replication, axes that are split, and tensors of
several vectors are one notation; with `wrap` so are diagonal and bicyclic orders. An axis may
overhang its extent: such slots hold no element, and neither do those that no piece reaches. They
hold 0 if `zero`, else anything.

`str(layout)` writes a piece as CuTe does, extent:stride, after what it counts:

>>> print(row_major((2, 3), 8))
[2,3] in 8: d0 2:3, d1 3:1
>>> print(row_major((2, 3), 8, padding="power").picture())
0,0 0,1 0,2 . 1,0 1,1 1,2 .
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias
from typing import Literal as OneOf

import numpy as np

from .errors import SlotError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
#: How an axis is padded: to its exact extent, or to the next power of two.
Padding: TypeAlias = OneOf["exact", "power"]


@dataclass(frozen=True, slots=True)
class Piece:
    """`extent` places, `stride` slots apart; `steps` are (axis, step) pairs, none for copies."""

    extent: int
    stride: int
    steps: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        counted = "+".join(
            f"d{axis}" if step == 1 else f"d{axis}*{step}" for axis, step in self.steps
        )
        return f"{counted or 'copy'} {self.extent}:{self.stride}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each element of a tensor of that shape lies in vectors of that many slots.

    `offset` is the address of the place at which all pieces are 0. `wrap`: coordinates are taken
    modulo the shape. `zero`: what holds no element holds 0; else it may hold anything.
    """

    slots: int
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    offset: int = 0
    wrap: bool = False
    zero: bool = True

    @property
    def vectors(self) -> int:
        """How many vectors the tensor takes; one at least."""
        last = self.offset + sum((piece.extent - 1) * piece.stride for piece in self.pieces)
        return max(last, 0) // self.slots + 1

    @property
    def size(self) -> int:
        """How many elements the tensor has."""
        return math.prod(self.shape)

    def table(self) -> Array:
        """For each vector and slot the element's number in C order, -1 where there is none.

        Raises:
            SlotError: two elements share a slot, or one lies nowhere.
        """
        return _table(self)

    def addresses(self) -> Array:
        """For each element, in C order, the first address at which it lies."""
        return _addresses(self)

    def pack(self, values: Any, dtype: Any = None) -> Array:
        """The vectors, [vectors, slots], of an array of that shape; 0 where no element lies.

        Raises:
            SlotError: the array has another shape.
        """
        array = np.asarray(values, dtype)
        if array.shape != self.shape:
            raise SlotError(
                f"an array of shape {array.shape} was given to a layout of {self.shape}",
                passed=(str(self),),
            )
        table = self.table()
        flat = np.append(array.reshape(-1), array.dtype.type(0))
        packed: Array = flat[table]
        return packed

    def unpack(self, vectors: Any) -> Array:
        """The array of those vectors, [vectors, slots], read where each element lies first.

        Raises:
            SlotError: the vectors are of another number or length.
        """
        array = np.asarray(vectors)
        if array.shape != (self.vectors, self.slots):
            raise SlotError(
                f"vectors of shape {array.shape} were given to a layout of "
                f"{(self.vectors, self.slots)}",
                passed=(str(self),),
            )
        found: Array = array.reshape(-1)[self.addresses()].reshape(self.shape)
        return found

    def __str__(self) -> str:
        shape = ",".join(map(str, self.shape))
        pieces = ", ".join(map(str, self.pieces)) or "one"
        text = f"[{shape}] in {self.slots}: {pieces}"
        if self.offset:
            text += f" from {self.offset}"
        return text + " wrap" * self.wrap + " rest any" * (not self.zero)

    def picture(self, columns: int = 16, rows: int = 8) -> str:
        """Which coordinates each slot holds, `.` for zero, `?` for anything, cut off at `rows`."""
        table = self.table().reshape(self.vectors, self.slots)
        empty = "." if self.zero else "?"
        lines: list[str] = []
        for number, vector in enumerate(table):
            head = f"vector {number}\n" if self.vectors > 1 else ""
            cells = [_cell(int(element), self.shape, empty) for element in vector[: columns * rows]]
            width = max(map(len, cells))
            cut = [cells[at : at + columns] for at in range(0, len(cells), columns)]
            block = "\n".join(" ".join(cell.rjust(width) for cell in row) for row in cut)
            if self.slots > columns * rows:
                used = int(np.count_nonzero(vector >= 0))
                block += f"\n... {self.slots} slots, {used} with an element"
            lines.append(head + block)
        return "\n".join(lines)


def _cell(element: int, shape: tuple[int, ...], empty: str) -> str:
    if element < 0:
        return empty
    return ",".join(str(int(c)) for c in np.unravel_index(element, shape)) if shape else "()"


@lru_cache(maxsize=256)
def _table(layout: Layout) -> Array:
    addresses = np.full(1, layout.offset, np.int64)
    coordinates = [np.zeros(1, np.int64) for _ in layout.shape]
    for piece in layout.pieces:
        along = np.arange(piece.extent, dtype=np.int64)
        addresses = np.add.outer(addresses, along * piece.stride).reshape(-1)
        steps = dict(piece.steps)
        coordinates = [
            np.add.outer(c, along * steps.get(axis, 0)).reshape(-1)
            for axis, c in enumerate(coordinates)
        ]
    inside = np.ones(addresses.shape, bool)
    element = np.zeros(addresses.shape, np.int64)
    for extent, coordinate in zip(layout.shape, coordinates, strict=True):
        if layout.wrap and extent:
            coordinate = coordinate % extent
        inside &= (coordinate >= 0) & (coordinate < extent)
        element = element * extent + coordinate
    addresses, element = addresses[inside], element[inside]
    table = np.full(layout.vectors * layout.slots, -1, np.int64)
    if addresses.size and not 0 <= int(addresses.min()) <= int(addresses.max()) < table.size:
        raise SlotError("an element lies outside the slots", passed=(str(layout),))
    table[addresses] = element
    if not np.array_equal(table[addresses], element):
        raise SlotError("two elements lie in one slot", passed=(str(layout),))
    if np.unique(element).size != layout.size:
        raise SlotError("an element lies in no slot", passed=(str(layout),))
    table.setflags(write=False)
    return table.reshape(layout.vectors, layout.slots)


@lru_cache(maxsize=256)
def _addresses(layout: Layout) -> Array:
    flat = layout.table().reshape(-1)
    places = np.flatnonzero(flat >= 0)
    found = np.zeros(layout.size, np.int64)
    found[flat[places[::-1]]] = places[::-1]  # the first place is written last
    found.setflags(write=False)
    return found


def padded(extent: int, padding: Padding) -> int:
    """The extent an axis takes up: itself, or the next power of two."""
    return extent if padding == "exact" else 1 << max(extent - 1, 0).bit_length()


def row_major(
    shape: Sequence[int], slots: int, padding: Padding = "exact", zero: bool = True
) -> Layout:
    """The axes in order, the last one at stride 1; no gaps but those of the padding.

    A tensor larger than a vector has as many whole slices of its first axes in each as fit.

    >>> print(row_major((4, 4), 8))
    [4,4] in 8: d0*2 2:8, d0 2:4, d1 4:1
    """
    pieces: list[Piece] = []
    stride = 1
    blocks: int | None = None  # once a vector is full, whole vectors are counted
    for axis in reversed(range(len(shape))):
        extent = padded(shape[axis], padding)
        if blocks is not None:
            pieces.append(Piece(extent, blocks * slots, ((axis, 1),)))
            blocks *= max(extent, 1)
        elif stride * extent <= slots:
            pieces.append(Piece(extent, stride, ((axis, 1),)))
            stride *= max(extent, 1)
        else:
            inner = slots // stride
            blocks = -(-extent // inner)
            pieces.append(Piece(inner, stride, ((axis, 1),)))
            pieces.append(Piece(blocks, slots, ((axis, inner),)))
    kept = tuple(piece for piece in reversed(pieces) if piece.extent != 1)
    return Layout(slots, tuple(shape), kept, zero=zero)
