"""Moving elements between slots: baby-step giant-step at the stride of the move, in stages.

A move takes the element of each point from one slot to another. In one stage it is the sum over its
shifts of mask * rotation, by baby steps and giant steps that are multiples of what all shifts have
in common (Halevi and Shoup, CRYPTO 2014). In more stages each variable's coordinate is cut in two,
`c*high + low`, and one part is moved after the other: fewer rotations for a level each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import product

import numpy as np

from ...ir.layouts import Array
from .builder import Builder, ones_at


@dataclass(frozen=True, slots=True)
class Digit:
    """A variable's extent, and its strides where it comes from and where it goes."""

    extent: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Stage:
    """Which part of each coordinate it moves, (v // low) % high of each, and its baby steps."""

    parts: tuple[tuple[int, int], ...]
    babies: int
    rotations: int


def places(digits: Sequence[tuple[int, int]]) -> Array:
    """The slot of each point of extents and strides, in C order."""
    found: Array = np.zeros(1, np.int64)
    for extent, stride in digits:
        found = np.add.outer(found, np.arange(extent) * stride).reshape(-1)
    return found


def _shifts(digits: tuple[Digit, ...], parts: Sequence[tuple[int, int]]) -> Array:
    """How far each point is moved by those parts."""
    found: Array = np.zeros(1, np.int64)
    for digit, (low, high) in zip(digits, parts, strict=True):
        part = np.arange(digit.extent) // low % high * low
        found = np.add.outer(found, part * (digit.source - digit.target)).reshape(-1)
    return found


def split(shifts: Array, babies: int) -> tuple[Array, Array]:
    """Each shift as a baby step, one of so many, and a giant step."""
    unit = int(np.gcd.reduce(shifts)) or 1
    counted = shifts // unit
    begin = -int(counted.min()) % babies
    baby = (counted + begin) % babies - begin
    return baby * unit, (counted - baby) * unit


def _rotations(shifts: Array, babies: int, slots: int) -> int:
    baby, giant = split(shifts, babies)
    return sum(len(set((step % slots).tolist()) - {0}) for step in (baby, giant))


def _stage(digits: tuple[Digit, ...], parts: tuple[tuple[int, int], ...], slots: int) -> Stage:
    shifts = np.unique(_shifts(digits, parts))
    unit = int(np.gcd.reduce(shifts)) or 1
    root = math.isqrt(len(shifts)) + 1
    tried = set(range(1, 2 * root + 1))
    for digit in digits:
        stride = abs(digit.source - digit.target) // unit
        tried |= {stride * n for n in range(1, root + 1) if stride}
    best = min((_rotations(shifts, b, slots), b) for b in sorted(tried))
    return Stage(parts, best[1], best[0])


@lru_cache(maxsize=4096)
def stages(digits: tuple[Digit, ...], most: int, slots: int) -> tuple[Stage, ...] | None:
    """The stages with the fewest rotations, at most so many; None if none will do."""
    if all(digit.source == digit.target or digit.extent == 1 for digit in digits):
        return ()
    if most == 0:
        return None
    whole = tuple((1, digit.extent) for digit in digits)
    best: tuple[Stage, ...] = (_stage(digits, whole, slots),)
    if most == 1:
        return best
    source = places([(digit.extent, digit.source) for digit in digits])
    cuts = [
        [1 << n for n in range(1, (digit.extent - 1).bit_length())]
        if digit.source != digit.target and digit.extent > 2
        else [digit.extent]
        for digit in digits
    ]
    if math.prod(map(len, cuts)) > 64:
        return best
    for cut in product(*cuts):
        low = tuple((1, c) for c in cut)
        high = tuple((c, -(-d.extent // c)) for c, d in zip(cut, digits, strict=True))
        for first, second in ((low, high), (high, low)):
            between = (source - _shifts(digits, first)) % slots
            if len(set(between.tolist())) < len(set(source.tolist())):
                continue
            found = (_stage(digits, first, slots), _stage(digits, second, slots))
            if sum(s.rotations for s in found) < sum(s.rotations for s in best):
                best = found
    return best


def moved(
    build: Builder, value: int, digits: tuple[Digit, ...], plan: Sequence[Stage], start: int = 0
) -> int:
    """The value after those stages; all slots but those moved to are then 0."""
    at = places([(digit.extent, digit.source) for digit in digits]) + start
    for stage in plan:
        shifts = _shifts(digits, stage.parts)
        baby, giant = split(shifts, stage.babies)
        after = (at - shifts) % build.slots
        value = shifted(build, value, after, baby, giant)
        at = after
    return value


def shifted(build: Builder, value: int, after: Array, baby: Array, giant: Array) -> int:
    """Sum over giant steps g of rot(sum over baby steps b of mask * rot(x, b), g)."""
    steps = sorted(set(baby.tolist()))
    turned = dict(zip(steps, build.rotate(value, steps), strict=True))
    parts: list[int] = []
    for g in sorted(set(giant.tolist())):
        products = [
            build.mul_plain(
                turned[b], ones_at((after[(giant == g) & (baby == b)] + g) % build.slots)
            )
            for b in sorted(set(baby[giant == g].tolist()))
        ]
        parts += build.rotate(reduce(build.add, products), [g])
    return reduce(build.add, parts)
