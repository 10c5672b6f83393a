"""Moving elements between slots and vectors: baby-step giant-step at the stride of the move.

A move takes each point from one address to another, an address being vector*slots + slot. A stage
of it is the sum over its shifts of mask * rotation, by baby steps and giant steps that are
multiples of what all shifts have in common (Halevi and Shoup, CRYPTO 2014): baby steps turn each
vector that there is, giant steps each one that is made. In two stages each variable's coordinate
is cut in two, `c*high + low`, and one part is moved after the other: fewer rotations, a level more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise, product
from typing import TypeAlias

import numpy as np

from ...ir.layouts import Array
from .addresses import Digit, distinct
from .builder import Builder, Plain, ones_at

#: Points beyond which not every way to cut the coordinates is tried.
MANY = 1 << 15


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """The address of each point before and after each stage; baby steps, rotations of each."""

    stops: tuple[Array, ...]
    babies: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()

    @property
    def levels(self) -> int:
        """One for the masks of each stage."""
        return len(self.babies)

    @property
    def rotations(self) -> int:
        return sum(self.turns)

    def then(self, other: Move) -> Move:
        """This one and another that begins where it ends."""
        return Move(
            (*self.stops, *other.stops[1:]), self.babies + other.babies, self.turns + other.turns
        )

    def parts(self) -> tuple[Move, Move]:
        """All stages but the last, and that one."""
        return (
            Move(self.stops[:-1], self.babies[:-1], self.turns[:-1]),
            Move(self.stops[-2:], self.babies[-1:], self.turns[-1:]),
        )


def split(shifts: Array, babies: int) -> tuple[Array, Array]:
    """Each shift as a baby step, one of so many, and a giant step."""
    unit = int(np.gcd.reduce(shifts)) or 1
    counted = shifts // unit
    begin = -int(counted.min()) % babies
    baby = (counted + begin) % babies - begin
    return baby * unit, (counted - baby) * unit


def one_stage(source: Array, target: Array, slots: int) -> Move:
    """The move in one stage, with the fewest rotations; more baby steps rather than giant ones."""
    shifts = source % slots - target % slots
    span = 2 * slots
    vectors = int(target.max()) // slots + 1
    triples = distinct((source // slots * vectors + target // slots) * span + (shifts + slots))
    pairs, shifts = triples // span, triples % span - slots
    came, goes = pairs // vectors, pairs % vectors
    unit = int(np.gcd.reduce(shifts)) or 1
    values = distinct(shifts + slots) - slots
    root = math.isqrt(len(values)) + 1
    # Every number of baby steps where that is quick, else powers of two.
    steps = list(range(1, 2 * root + 1))
    if pairs.size > 2048:
        steps = [1 << n for n in range(1, (2 * root).bit_length())]
    if pairs.size > MANY:
        steps = steps[-2:]
    tried = {1, *steps, int(values[-1] - values[0]) // unit + 1}
    for stride in (int(step) // unit for step in np.unique(np.diff(values))[:2]):
        tried |= {stride * n for n in steps if 0 < stride * n < slots}
    best: tuple[int, int] | None = None
    for babies in sorted(tried, reverse=True):
        baby, giant = split(shifts, babies)
        cost = _turned(came, baby, slots) + _turned(goes, giant, slots)
        if best is None or cost < best[0]:
            best = cost, babies
    assert best is not None
    return Move((source, target), (best[1],), (best[0],))


def _turned(vectors: Array, steps: Array, slots: int) -> int:
    """How many rotations those steps of those vectors are."""
    steps = steps % slots
    return int(np.count_nonzero(distinct(vectors * slots + steps) % slots))


@lru_cache(maxsize=1024)
def move(digits: tuple[Digit, ...], most: int, slots: int) -> Move | None:
    """The move with the fewest rotations in at most so many stages; None if none will do.

    Addresses may be taken modulo the slots where there is one vector before and one after.
    """
    source = _addresses([digit.source for digit in digits])
    target = _addresses([digit.target for digit in digits])
    if np.array_equal(source, target):
        return Move((source,))
    if most == 0:
        return None
    best = one_stage(source, target, slots)
    if most == 1 or best.rotations < 3:
        return best
    cuts = [_cuts(digit, source.size > MANY) for digit in digits]
    if math.prod(map(len, cuts)) > 64:
        return best
    one = max(int(source.max()), int(target.max())) < slots
    points = distinct(source).size
    for cut in product(*cuts):
        for low_first in (True, False):
            between = _addresses(
                [_between(d, c, low_first) for d, c in zip(digits, cut, strict=True)]
            )
            between = between % slots if one else between
            if between.min() < 0:
                continue
            used = distinct(between // slots)
            if used.size <= used[-1]:
                continue  # it would take vectors that hold nothing
            if distinct(between).size < points:
                continue
            first = one_stage(source, between, slots)
            if first.rotations >= best.rotations:
                continue
            found = first.then(one_stage(between, target, slots))
            if found.rotations < best.rotations:
                best = found
    return best


def _cuts(digit: Digit, few: bool) -> list[int]:
    extent = len(digit.source)
    if digit.source == digit.target or extent < 3:
        return [extent]
    every = [1 << n for n in range(1, (extent - 1).bit_length())]
    return every[len(every) // 2 : len(every) // 2 + 1] if few else every


def _between(digit: Digit, cut: int, low_first: bool) -> tuple[int, ...]:
    """The part of the address once one part of the coordinate has moved."""
    low, high = (digit.target, digit.source) if low_first else (digit.source, digit.target)
    return tuple(high[x - x % cut] + low[x % cut] for x in range(len(low)))


def _addresses(parts: Sequence[Sequence[int]]) -> Array:
    found: Array = np.zeros(1, np.int64)
    for part in parts:
        found = np.add.outer(found, np.asarray(part, np.int64)).reshape(-1)
    return found


@dataclass(frozen=True, slots=True)
class _Masked:
    """One product of a stage: which vector, turned by which step, is masked with what."""

    vector: int
    step: int
    mask: Plain


#: For each vector that a stage makes, the products that are added and turned by each giant step.
_Parts: TypeAlias = "tuple[tuple[tuple[int, tuple[_Masked, ...]], ...], ...]"


@lru_cache(maxsize=128)
def _parts(plan: Move, stage: int, slots: int) -> _Parts:
    """What a stage is written as, kept: the same is often done to several vectors."""
    source, target = plan.stops[stage : stage + 2]
    baby, giant = split(source % slots - target % slots, plan.babies[stage])
    return _grouped(source // slots, target, baby, giant, slots)


def _grouped(came: Array, target: Array, baby: Array, giant: Array, slots: int) -> _Parts:
    goes = target // slots
    order = np.lexsort((baby, came, giant, goes))
    keys = np.stack([goes[order], giant[order], came[order], baby[order]])
    places = (target[order] + giant[order]) % slots
    starts = np.flatnonzero((np.diff(keys, axis=1) != 0).any(axis=0)) + 1
    found: list[dict[int, list[_Masked]]] = [{} for _ in range(int(goes.max()) + 1)]
    for begin, end in pairwise([0, *starts.tolist(), places.size]):
        to, step, vector, turned = (int(key[begin]) for key in keys)
        masked = _Masked(vector, turned, ones_at(places[begin:end]))
        found[to].setdefault(step, []).append(masked)
    return tuple(tuple((step, tuple(each)) for step, each in by_step.items()) for by_step in found)


def moved(build: Builder, values: Sequence[int], plan: Move) -> list[int]:
    """The vectors after those stages; every slot but those moved to is then 0."""
    found = list(values)
    for stage in range(plan.levels):
        found = _written(build, found, _parts(plan, stage, build.slots))
    return found


def _written(build: Builder, values: Sequence[int], parts: _Parts) -> list[int]:
    """For each vector the sum over giant steps of rot(sum of mask * rot(x, baby step), step)."""
    steps: dict[int, set[int]] = {}
    every = [each for by_step in parts for _, products in by_step for each in products]
    for each in every:
        steps.setdefault(each.vector, set()).add(each.step)
    turned: dict[tuple[int, int], int] = {}
    for vector in sorted(steps):
        babies = sorted(steps[vector])
        for step, value in zip(babies, build.rotate(values[vector], babies), strict=True):
            turned[vector, step] = value
    found: list[int] = []
    for by_step in parts:
        sums: list[int] = []
        for step, products in by_step:
            masked = [build.mul_plain(turned[p.vector, p.step], p.mask) for p in products]
            total: int = reduce(build.add, masked)
            sums += build.rotate(total, [step])
        found.append(reduce(build.add, sums) if sums else build.zero(values[0]))
    return found


def shifted(build: Builder, value: int, after: Array, baby: Array, giant: Array) -> int:
    """What a vector of points at `after` becomes by those baby and giant steps of each."""
    parts = _grouped(np.zeros_like(after), after, baby, giant, build.slots)
    return _written(build, [value], parts)[0]


# ---- copies and sums along a stride


def doublings(extent: int) -> int:
    """The rotations of a sum over an extent, or of so many copies."""
    return (extent.bit_length() - 1) + (extent.bit_count() - 1) if extent > 1 else 0


def summed(build: Builder, value: int, stride: int, extent: int) -> int:
    """The sum of `extent` slots at that distance: log2 rotations, and one for each further bit.

    With -stride the sums lie in front of what is added up: copies, where all else is 0.
    """
    total: int | None = None
    done = 0
    step = 1
    while extent:
        if extent & 1:
            part = build.rotate(value, [done * stride])[0]
            total = part if total is None else build.add(build.finished(total), part)
            done += step
        extent >>= 1
        if extent:
            value = build.add(build.finished(value), build.rotate(value, [step * stride])[0])
            step *= 2
    return value if total is None else total


def copied(build: Builder, value: int, stride: int, extent: int, lane: int = 0) -> int:
    """Copies along a stride of what lies at one lane of it, all else being 0.

    From lane 0 all copies are further on; from another one, of a power of two, each step goes the
    way that stays inside.
    """
    if lane == 0:
        return summed(build, value, -stride, extent)
    step = 1
    while step < extent:
        way = step if lane & step else -step
        value = build.add(build.finished(value), build.rotate(value, [way * stride])[0])
        step *= 2
    return value
