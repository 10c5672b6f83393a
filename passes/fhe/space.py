"""Where the points of an iteration space lie: a Space, and the spaces that there are.

A Space is a Layout whose axes are the variables of a product. Its *inner* pieces lie in a vector,
the *outer* ones count vectors, and may shift what lies in them. A piece may step along several
variables at once: with `wrap`, `k = i + j + t` modulo K is a skewed space, as that of Halevi and
Shoup (CRYPTO 2014), where a piece of t counts diagonals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from ...ir.layouts import Array, Layout, Padding, Piece, padded

#: The value that a piece has, for some of the pieces.
Digits = Sequence[tuple[Piece, int]]


@dataclass(frozen=True, slots=True)
class Space:
    """The variables, a Layout with an axis for each, and what it is called in a report.

    The vectors along `giant` are partial sums of one output, each shifted by as much.
    """

    variables: tuple[str, ...]
    layout: Layout
    label: str
    giant: Piece | None = None

    @property
    def slots(self) -> int:
        return self.layout.slots

    @property
    def inner(self) -> tuple[Piece, ...]:
        """The pieces that lie in a vector."""
        return tuple(piece for piece in self.layout.pieces if piece.stride < self.slots)

    @property
    def outer(self) -> tuple[Piece, ...]:
        """The pieces that count vectors."""
        return tuple(piece for piece in self.layout.pieces if piece.stride >= self.slots)

    def along(self, piece: Piece) -> frozenset[str]:
        """The variables that a piece steps along."""
        return frozenset(self.variables[axis] for axis, _ in piece.steps)

    def told_by(self, names: frozenset[str]) -> tuple[Piece, ...]:
        """The outer pieces that a tensor of those variables depends on, an operand or a result."""
        return tuple(
            piece for piece in self.outer if self.along(piece) & names or piece.stride % self.slots
        )

    def points(
        self, inner: Sequence[Piece], outer: Digits, names: frozenset[str]
    ) -> tuple[Array, dict[str, Array]]:
        """The slots of the points of a vector, and their coordinates along those variables.

        Args:
            inner: the pieces that are gone through; the others are at 0.
            outer: the vector. Points that overhang along one of `names` are left out.
        """
        slots, held = _points(self, tuple(inner))
        slots = slots + sum(value * (piece.stride % self.slots) for piece, value in outer)
        coordinates: dict[str, Array] = {}
        inside = np.ones(slots.shape, bool)
        for axis, name in enumerate(self.variables):
            if name not in names:
                continue
            fixed = sum(value * dict(piece.steps).get(axis, 0) for piece, value in outer)
            extent = self.layout.shape[axis]
            found = held[axis] + fixed
            if self.layout.wrap:
                found = found % extent
            inside &= (found >= 0) & (found < extent)
            coordinates[name] = found
        if inside.all():
            return slots, coordinates
        return slots[inside], {name: each[inside] for name, each in coordinates.items()}


@lru_cache(maxsize=512)
def _points(space: Space, inner: tuple[Piece, ...]) -> tuple[Array, tuple[Array, ...]]:
    slots = np.zeros(1, np.int64)
    coordinates = [np.zeros(1, np.int64) for _ in space.variables]
    for piece in inner:
        along, steps = np.arange(piece.extent, dtype=np.int64), dict(piece.steps)
        slots = np.add.outer(slots, along * piece.stride).reshape(-1)
        coordinates = [
            np.add.outer(each, along * steps.get(axis, 0)).reshape(-1)
            for axis, each in enumerate(coordinates)
        ]
    return slots, tuple(coordinates)


def ordered(sizes: Mapping[str, int], order: Sequence[str], slots: int, padding: Padding) -> Space:
    """The variables in that order, the last at stride 1; what overflows a vector is outer."""
    pieces: list[Piece] = []
    stride, vectors = 1, 1
    for axis in reversed(range(len(order))):
        extent = sizes[order[axis]]
        wide = padded(extent, padding)
        if vectors == 1 and stride * wide <= slots:
            pieces.append(Piece(extent, stride, ((axis, 1),)))
            stride *= wide
            continue
        room = slots // stride if vectors == 1 else 1
        count = -(-extent // room)
        inner = -(-extent // count)  # as even as it may be, so that little overhangs
        if padding == "power":
            inner = padded(inner, padding)
            count = -(-extent // inner)
        if inner > 1:
            pieces.append(Piece(inner, stride, ((axis, 1),)))
            stride *= inner
        pieces.append(Piece(count, vectors * slots, ((axis, inner),)))
        vectors *= count
        stride = slots  # the vector is closed
    shape = tuple(sizes[v] for v in order)
    kept = tuple(piece for piece in reversed(pieces) if piece.extent > 1)
    label = f"{','.join(order) or '()'} {padding}"
    return Space(tuple(order), Layout(slots, shape, kept), label)


def skewed(
    sizes: Mapping[str, int],
    order: Sequence[str],
    around: str,
    by: Sequence[str],
    slots: int,
    blocks: int = 1,
    babies: int | None = None,
    shift: bool = False,
) -> Space | None:
    """`around = by[0] + by[1] + ... + t` modulo its extent; None if that gives nothing.

    The variables of `order` lie in it as in `ordered`; t counts vectors, of which each has up to
    `blocks` where there is room. With `babies`, t = g + b, and the last of `by`, of the same extent
    as `around`, lies g places further: modulo that extent, so that the operands that it does not
    index serve for all g; or, with `shift`, beyond it, where it is outermost and there is room.
    """
    base = ordered(sizes, order, slots, "exact")
    variables = (*order, around)
    axis, extent = len(order), sizes[around]
    steps = {variables.index(v) for v in by}
    points = math.prod(piece.extent for piece in base.layout.pieces)
    if points > math.prod(sizes[v] for v in order):
        return None  # what overhangs would come round again
    if extent < 2 or any(
        piece.stride >= slots and dict(piece.steps).keys() & steps for piece in base.layout.pieces
    ):
        return None
    pieces = [
        Piece(p.extent, p.stride, (*p.steps, *((axis, n) for at, n in p.steps if at in steps)))
        for p in base.layout.pieces
    ]
    stride, giant = base.layout.vectors * slots, None
    if babies is None:
        room = min(slots // points, blocks)
        fit = math.gcd(extent, 1 << room.bit_length() >> 1) if room > 1 else 1
        if fit == extent:
            return None  # then nothing is gained by diagonals
        if fit > 1:
            pieces.insert(0, Piece(fit, points, ((axis, 1),)))
        pieces.insert(0, Piece(extent // fit, stride, ((axis, fit),)))
    else:
        last, giants = variables.index(by[-1]), extent // babies
        if extent % babies or not 1 < babies < extent:
            return None
        pieces.insert(0, Piece(babies, stride, ((axis, 1),)))
        if shift:
            step = points // sizes[by[-1]] * babies
            if last != 0 or points + step * (giants - 1) > slots:
                return None
            giant = Piece(giants, babies * stride + step, ((axis, babies),))
        elif sizes[by[-1]] != extent:
            return None
        else:
            giant = Piece(giants, babies * stride, ((last, -babies),))
        pieces.insert(0, giant)
    label = f"{','.join(order)} {around}={'+'.join((*by, 't'))}"
    label += "" if babies is None else f" babies {babies}{' shifted' if shift else ''}"
    label += " in blocks" if blocks > 1 else ""
    shape = tuple(sizes[v] for v in variables)
    return Space(variables, Layout(slots, shape, tuple(pieces), wrap=True), label, giant)


def by_variable(space: Space, v: str, outer: Sequence[Piece], extent: int) -> Array:
    """What a variable adds to an address on a space of which the vectors of `outer` are counted."""
    number, found = 1, np.zeros(extent, np.int64)
    axis = space.variables.index(v)
    pieces = [(piece, piece.stride) for piece in space.inner]
    for piece in reversed(outer):
        pieces.append((piece, number * space.slots))
        number *= piece.extent
    for piece, stride in pieces:
        step = dict(piece.steps).get(axis)
        if step is not None:
            found += np.arange(extent) // step % piece.extent * stride
    return found


def vectors(outer: Sequence[Piece]) -> Iterator[tuple[int, ...]]:
    """The values of those pieces, vector by vector."""
    return product(*(range(piece.extent) for piece in outer))
