"""What an operand, or a result, must hold on a Space: which element in which slot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.einsum import Access
from ...ir.errors import UnsupportedError
from ...ir.layouts import Array, Layout, Piece
from ...ir.printer import print_number
from ...ir.ranks import RankExpr
from .addresses import distinct, places
from .space import Space, vectors


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
