"""Bringing an operand to a Space: which ways there are, and what each of them costs.

A vector that is wanted may be a rotation of one that is held: no mask, no level. Else the elements
are moved (moves.py), at one copy of each, and copied along what the operand does not depend on;
or the first vector is, and the others are made of that one, as in the matrix product of Jiang,
Kim, Lauter and Song (CCS 2018). The *lane* of a vector is the copy that a move brings the elements
to, before the others are made of it: the nearest one takes the fewest rotations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...ir.einsum import Access
from ...ir.layouts import Array, Layout
from .addresses import Digit, by_axis, distinct, places
from .builder import Builder
from .held import Way
from .moves import Move, copied, doublings, move, moved, one_stage
from .space import Space, by_variable
from .turns import by_going_round, by_rotation, element_table, rotations_of
from .want import Want, affine

#: Copies: (extent, stride) each.
Copies: TypeAlias = "tuple[tuple[int, int], ...]"


def ways(
    held: Layout, access: Access, space: Space, wanted: Want, sizes: Mapping[str, int], most: int
) -> dict[int, Way]:
    """The best way for each number of levels up to `most`, where there is one."""
    found: list[Way] = []
    whole = wanted.whole()
    table = element_table(held)
    turned = rotations_of(table, *whole)
    if turned is not None:
        found.append(by_rotation(turned))
    else:
        found += by_going_round(table, *whole)
    found += _by_copies(held, table, access, space, wanted, sizes, most)
    if len(wanted.keys) > 1 and most > 0:
        found += _by_first(held, access, space, wanted, sizes, most)
    best: dict[int, Way] = {}
    for levels in range(most + 1):
        fit = [way for way in found if way.levels <= levels]
        if fit:
            best[levels] = min(fit, key=lambda way: (way.rotations, way.levels, not way.clean))
    return best


# ---- one copy of each element, then the others


def _by_copies(
    held: Layout,
    table: Array,
    access: Access,
    space: Space,
    wanted: Want,
    sizes: Mapping[str, int],
    most: int,
) -> list[Way]:
    found: list[Way] = []
    if wanted.copies:
        turned = rotations_of(table, wanted.slots, wanted.elements)
        if turned is not None and turned.clean:
            found.append(_then_copies(by_rotation(turned), wanted))
    if most == 0:
        return found
    digits = _digits(held, access, space, wanted, sizes)
    for levels in range(1, most + 1):
        plan = None if digits is None else move(digits, levels, space.slots)
        if levels == 1 and (plan is None or plan.levels == 0):  # then it is but masked
            source, target = _points(held, wanted, space.slots)
            plan = one_stage(source, target, space.slots) if source.size else None
        if plan is not None and plan.levels == levels:
            found += [_by_move(each, wanted) for each in _variants(plan, held, wanted)]
    return found


def _then_copies(way: Way, wanted: Want) -> Way:
    count = sum(doublings(extent) for extent, _ in wanted.copies) * len(wanted.keys)

    def emit(build: Builder, values: Sequence[int]) -> list[int]:
        found = way.emit(build, values)
        for extent, stride in wanted.copies:
            found = [copied(build, value, stride, extent) for value in found]
        return found

    return Way(way.levels, way.rotations + count, way.clean, emit)


def _points(held: Layout, wanted: Want, slots: int) -> tuple[Array, Array]:
    """The addresses that each wanted element comes from and goes to."""
    addresses = held.addresses()
    source: list[Array] = []
    target: list[Array] = []
    for number, (at, element) in enumerate(zip(wanted.slots, wanted.elements, strict=True)):
        real = element >= 0
        source.append(addresses[element[real]])
        target.append(at[real] + number * slots)
    return np.concatenate(source), np.concatenate(target)


def _digits(
    held: Layout, access: Access, space: Space, wanted: Want, sizes: Mapping[str, int]
) -> tuple[Digit, ...] | None:
    """The move variable by variable, where both layouts add up what each variable says."""
    if space.layout.wrap or access.fill is not None:
        return None
    factors = affine(access, sizes)
    names = frozenset(v for axis, _ in factors for v in axis)
    every = math.prod(piece.extent for piece in space.told_by(names))
    if every != len(wanted.keys) * wanted.times:
        return None  # some of the vectors alone
    if any(len(axis) > 1 or constant for axis, constant in factors):
        return None
    lies = by_axis(held)
    if lies is None:
        return None
    start, along = lies
    found = [Digit((start,), (0,))]
    for v in dict.fromkeys(v for axis, _ in factors for v in axis):
        extent = sizes[v] // math.prod(p.extent for p, _ in wanted.again if v in space.along(p))
        source = np.zeros(extent, np.int64)
        for part, (axis, _) in zip(along, factors, strict=True):
            if v in axis:
                source += part[np.arange(extent) * axis[v]]
        target = by_variable(space, v, wanted.outer, extent)
        found.append(Digit(tuple(source.tolist()), tuple(target.tolist())))
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Variant:
    """A move, its last stage apart; copies before that and after; the lane each vector is at."""

    first: Move
    before: Copies
    last: Move
    after: Copies
    lanes: tuple[tuple[int, ...], ...]


def _variants(plan: Move, held: Layout, wanted: Want) -> list[_Variant]:
    """With copies after the move, or some of them before its last stage; at lane 0 or others."""
    first, last = plan.parts()
    tried: list[tuple[Copies, Move, Copies]] = [((), last, wanted.copies)]
    if len(wanted.keys) > 1 and wanted.copies:
        before, after = _early(last, plan.levels, held, wanted)
        if before:
            more = places(before)
            wide = [np.add.outer(more, stop).reshape(-1) for stop in last.stops]
            tried.append((before, one_stage(wide[0], wide[1], wanted.span), after))
    found: list[_Variant] = []
    for early, stage, late in tried:
        lanes = [(0,) * len(late)] * len(wanted.keys)
        found.append(_Variant(first, early, stage, late, tuple(lanes)))
        if len(wanted.keys) > 1:
            lanes = _lanes(stage, late, wanted)
            nearer = _at_lanes(stage, late, lanes, wanted.span)
            found.append(_Variant(first, early, nearer, late, tuple(lanes)))
    return found


def _early(last: Move, levels: int, held: Layout, wanted: Want) -> tuple[Copies, Copies]:
    """The copies that there is room for before the last stage, and those that are left."""
    stop, slots = last.stops[0], wanted.span
    if levels == 1:
        rows = held.table()[distinct(stop // slots)]
        if not held.zero or np.count_nonzero(rows >= 0) != stop.size:
            return (), wanted.copies
    before: list[tuple[int, int]] = []
    after: list[tuple[int, int]] = []
    for extent, stride in wanted.copies:
        fit = 1
        while fit < extent and extent % (2 * fit) == 0:
            wide = np.add.outer(np.arange(2 * fit) * stride, stop)
            inside = (wide // slots == stop // slots).all()
            if not inside or distinct(wide.reshape(-1)).size < wide.size:
                break
            fit *= 2
        if fit > 1:
            before.append((fit, stride))
            stop = np.add.outer(np.arange(fit) * stride, stop).reshape(-1)
        if fit < extent:
            after.append((extent // fit, stride * fit))
    return tuple(before), tuple(after)


def _lanes(last: Move, copies: Sequence[tuple[int, int]], wanted: Want) -> list[tuple[int, ...]]:
    """For each vector the lane of each copy that lies nearest to where its points come from."""
    source, target = last.stops
    slots = wanted.span
    nearest = np.full(len(wanted.keys), slots)
    np.minimum.at(nearest, target // slots, source % slots - target % slots)
    found: list[tuple[int, ...]] = []
    for left in nearest.tolist():
        lanes = [0] * len(copies)
        for at in sorted(range(len(copies)), key=lambda n: -copies[n][1]):
            extent, stride = copies[at]
            if extent & (extent - 1) == 0 and left >= stride:
                lanes[at] = min(extent - 1, left // stride)
                left -= lanes[at] * stride
        found.append(tuple(lanes))
    return found


def _at_lanes(
    last: Move, copies: Sequence[tuple[int, int]], lanes: Sequence[tuple[int, ...]], slots: int
) -> Move:
    source, target = last.stops
    further = np.array(
        [sum(n * stride for n, (_, stride) in zip(each, copies, strict=True)) for each in lanes]
    )
    return one_stage(source, target + further[target // slots], slots)


def _by_move(variant: _Variant, wanted: Want) -> Way:
    first, last = variant.first, variant.last
    before = sum(doublings(extent) for extent, _ in variant.before)
    after = sum(doublings(extent) for extent, _ in variant.after)
    vectors = int(last.stops[0].max()) // wanted.span + 1

    def emit(build: Builder, values: Sequence[int]) -> list[int]:
        found = moved(build, values, first)
        for extent, stride in variant.before:
            found = [copied(build, value, stride, extent) for value in found]
        found = moved(build, found, last)
        for at, (extent, stride) in enumerate(variant.after):
            found = [
                copied(build, value, stride, extent, variant.lanes[number][at])
                for number, value in enumerate(found)
            ]
        return found

    rotations = first.rotations + before * vectors + last.rotations + after * len(wanted.keys)
    return Way(first.levels + 1, rotations, True, emit)


# ---- the first vector, and the others from it


def _by_first(
    held: Layout,
    access: Access,
    space: Space,
    wanted: Want,
    sizes: Mapping[str, int],
    most: int,
) -> list[Way]:
    first = wanted.first()
    slots, elements = wanted.whole()
    table = np.full((1, space.slots), -1, np.int64)
    table[0, slots[0]] = elements[0]
    found: list[Way] = []
    for way in ways(held, access, space, first, sizes, most).values():
        if not way.clean:
            continue
        turned = rotations_of(table, slots[1:], elements[1:])
        if turned is not None:
            found.append(_chained(way, by_rotation(turned)))
        elif way.levels < most:
            others = _others(table, slots[1:], elements[1:])
            if others is not None:
                found.append(_chained(way, others))
    return found


def _others(table: Array, slots: Sequence[Array], elements: Sequence[Array]) -> Way | None:
    """The vectors of elements that the first one has, by masks and rotations of it alone."""
    row = table[0]
    held = np.flatnonzero(row >= 0)
    held = held[np.argsort(row[held] * row.size + held)]
    ranked = row[held] * row.size + held
    source: list[Array] = []
    target: list[Array] = []
    for number, (at, element) in enumerate(zip(slots, elements, strict=True)):
        real = element >= 0
        at, element = at[real], element[real]
        # Of several places of an element the nearest one is taken.
        after: Array = np.asarray(ranked.searchsorted(element * row.size + at))
        near = [held[np.clip(after - back, 0, held.size - 1)] for back in (0, 1)]
        far = [np.where(row[n] == element, np.abs(n - at), row.size) for n in near]
        if (np.minimum(*far) == row.size).any():
            return None
        source.append(np.where(far[0] <= far[1], *near))
        target.append(at + number * row.size)
    plan = one_stage(np.concatenate(source), np.concatenate(target), row.size)

    def emit(build: Builder, values: Sequence[int]) -> list[int]:
        return moved(build, values, plan)

    return Way(1, plan.rotations, True, emit)


def _chained(first: Way, others: Way) -> Way:
    def emit(build: Builder, values: Sequence[int]) -> list[int]:
        (made,) = first.emit(build, values)
        return [made, *others.emit(build, [made])]

    return Way(
        first.levels + others.levels,
        first.rotations + others.rotations,
        first.clean and others.clean,
        emit,
    )
