"""Where the points of an iteration space lie: a Space, and what an operand must hold there.

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

from ...ir.einsum import Access
from ...ir.errors import UnsupportedError
from ...ir.layouts import Array, Layout, Padding, Piece, padded
from ...ir.printer import print_number
from ...ir.ranks import RankExpr

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


@dataclass(frozen=True, slots=True, eq=False)
class Want:
    """Which element of a tensor is needed in which slot, for each vector that tells its own.

    `outer` are the pieces that tell vectors apart, `keys` their values, vector by vector, without
    vectors that hold no element;
    `slots` and `elements` go together, an element of -1 being a 0 that must be there. All of it
    is repeated along `copies`, (extent, stride) each. A vector has `span` slots.

    Along the outer pieces of `again` the same is wanted of vectors further on in the layout, so
    many for each step; what is said here is for their first values.
    """

    outer: tuple[Piece, ...]
    keys: tuple[tuple[int, ...], ...]
    slots: tuple[Array, ...]
    elements: tuple[Array, ...]
    copies: tuple[tuple[int, int], ...]
    span: int
    again: tuple[tuple[Piece, int], ...] = ()

    @property
    def times(self) -> int:
        """How often the same is wanted."""
        return math.prod(piece.extent for piece, _ in self.again)

    def offsets(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """The values of the pieces of `again`, and how many vectors further on that is."""
        for key in vectors([piece for piece, _ in self.again]):
            steps = zip(key, self.again, strict=True)
            yield key, sum(value * apart for value, (_, apart) in steps)

    def first(self) -> Want:
        """What is wanted in the first vector alone."""
        return Want(
            (), ((),), self.slots[:1], self.elements[:1], self.copies, self.span, self.again
        )

    def whole(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """The slots and elements with all copies."""
        if not self.copies:
            return self.slots, self.elements
        ways = places(self.copies)
        return (
            tuple(np.add.outer(ways, each).reshape(-1) for each in self.slots),
            tuple(np.tile(each, ways.size) for each in self.elements),
        )


def want(
    space: Space,
    access: Access,
    shape: Sequence[int],
    sizes: Mapping[str, int],
    layout: Layout | None = None,
) -> Want:
    """What a tensor must hold on a space, as an access reads it or gives it.

    Args:
        layout: where it lies, or is to lie; with it, what is the same for several vectors is said
            once.

    Raises:
        UnsupportedError: it is gathered, or filled with another number than 0.
    """
    factors = affine(access, sizes)
    names = frozenset(v for axis, _ in factors for v in axis)
    outer = space.told_by(names)
    alike = [
        piece
        for piece in outer
        if layout is not None and access.fill is None and _most_significant(space, piece)
    ]
    while True:
        rest = tuple(piece for piece in outer if piece not in alike)
        keys, slots, elements = _wanted(space, access, shape, factors, rest)
        again = _again(space, alike, factors, elements, layout) if layout and alike else ()
        if len(again) == len(alike):
            break
        alike = [piece for piece, _ in again]
    copies = tuple(
        (piece.extent, piece.stride) for piece in space.inner if not space.along(piece) & names
    )
    return Want(rest, keys, slots, elements, copies, space.slots, again)


def _wanted(
    space: Space,
    access: Access,
    shape: Sequence[int],
    factors: Sequence[tuple[dict[str, int], int]],
    outer: Sequence[Piece],
) -> tuple[tuple[tuple[int, ...], ...], tuple[Array, ...], tuple[Array, ...]]:
    """The keys, slots and elements of a Want."""
    names = frozenset(v for axis, _ in factors for v in axis)
    inner = tuple(piece for piece in space.inner if space.along(piece) & names)
    keys: list[tuple[int, ...]] = []
    slots: list[Array] = []
    elements: list[Array] = []
    for key in vectors(outer):
        at, coordinates = space.points(inner, list(zip(outer, key, strict=True)), names)
        element, inside = np.zeros(at.shape, np.int64), np.ones(at.shape, bool)
        for (axis, constant), extent in zip(factors, shape, strict=True):
            place = constant + sum(
                (coordinates[v] * step for v, step in axis.items()), np.zeros(at.shape, np.int64)
            )
            inside &= (place >= 0) & (place < extent)
            element = element * extent + place
        if access.fill is None and not inside.all():
            raise UnsupportedError(f"{access.tensor} is read out of range", span=access.span)
        if inside.any():
            keys.append(key)
            slots.append(at)
            elements.append(np.where(inside, element, -1))
    if not keys:
        raise UnsupportedError(
            f"{access.tensor} is read outside its range alone, where it is 0", span=access.span
        )
    return tuple(keys), tuple(slots), tuple(elements)


def _most_significant(space: Space, piece: Piece) -> bool:
    """Whether a piece steps along one variable alone, by the largest steps, and all fit."""
    if len(piece.steps) != 1 or piece.stride % space.slots or piece == space.giant:
        return False
    axis, step = piece.steps[0]
    touching = [each for each in space.layout.pieces if axis in dict(each.steps)]
    last = sum((each.extent - 1) * dict(each.steps)[axis] for each in touching)
    extent = space.layout.shape[axis]
    return (
        all(len(each.steps) == 1 for each in touching)
        and last == extent - 1
        and step * piece.extent == extent
    )


def _again(
    space: Space,
    alike: Sequence[Piece],
    factors: Sequence[tuple[dict[str, int], int]],
    elements: Sequence[Array],
    layout: Layout,
) -> tuple[tuple[Piece, int], ...]:
    """The pieces of which each step leads as many vectors further on, whatever the element."""
    strides = [math.prod(layout.shape[axis + 1 :]) for axis in range(len(layout.shape))]
    addresses, found = layout.addresses(), list[tuple[Piece, int]]()
    known = distinct(np.concatenate(elements)) if elements else np.zeros(0, np.int64)
    for piece in alike:
        axis, step = piece.steps[0]
        name = space.variables[axis]
        apart = sum(
            factor.get(name, 0) * step * stride
            for (factor, _), stride in zip(factors, strides, strict=True)
        )
        further = np.add.outer(np.arange(piece.extent) * apart, known)
        if not known.size or further.max() >= addresses.size:
            continue
        moved = addresses[further] - addresses[known]
        vectors_ = int(moved[1, 0]) // layout.slots
        steps = np.arange(piece.extent) * vectors_ * layout.slots
        if vectors_ > 0 and (moved == steps[:, None]).all():
            found.append((piece, vectors_))
            known = further.reshape(-1)
    return tuple(found)


def affine(access: Access, sizes: Mapping[str, int]) -> list[tuple[dict[str, int], int]]:
    """For each axis, what multiplies each variable, and the constant.

    Raises:
        UnsupportedError: the access is gathered, or filled with another number than 0.
    """
    if access.fill is not None and access.fill.value != 0:
        raise UnsupportedError(
            f"{access.tensor} is filled with {print_number(access.fill.value)}: slots are filled "
            "with 0 alone",
            span=access.span,
            hint="write `else 0`, and add a plaintext tensor that holds the number where what is "
            "read is out of range, and 0 elsewhere",
        )
    ranks = {v.upper(): extent for v, extent in sizes.items()}
    found: list[tuple[dict[str, int], int]] = []
    for index in access.indices:
        if not isinstance(index, RankExpr):
            raise UnsupportedError(f"{access.tensor} is gathered", span=access.span)
        factors, constant = index.coefficients(ranks)
        found.append(({v: step for v, step in factors.items() if step}, constant))
    return found


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


# ---- spaces to choose from


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


def vectors(outer: Sequence[Piece]) -> Iterator[tuple[int, ...]]:
    """The values of those pieces, vector by vector."""
    return product(*(range(piece.extent) for piece in outer))
