"""How often a loop nest misses a buffer: bounds from footprints, equal where reuse is clear.

The buffer is fully associative and evicts what was used least recently. What is touched again is
still there exactly if what was touched in between fits beside it. So for each tensor and each loop
that its index lacks, the bytes that lie between two touches of an element are bounded from both
sides by footprints: numbers of elements that the loops inside touch. If the upper bound fits, the
loop costs nothing; if the lower one does not, each of its iterations moves the tensor again; in
between the answer is two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

#: The least and the most of something.
Bounds: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over a variable in steps, `trips` times."""

    variable: str
    step: int
    trips: int


@dataclass(frozen=True, slots=True)
class Touch:
    """A tensor touched at an index: for each axis the factor of each variable, and a constant.

    An axis that is None is gathered: it may be anywhere. `bytes` is the size of an element. What is
    not `certain` is not touched at every point: a filter, a fill, a tile or part that is cut short.
    """

    tensor: str
    axes: tuple[tuple[tuple[tuple[str, int], ...], int] | None, ...]
    bytes: int
    certain: bool = True

    def has(self, loop: Loop) -> bool:
        """Whether the index changes with a loop."""
        return any(
            axis is None or any(variable == loop.variable for variable, _ in axis[0])
            for axis in self.axes
        )

    def elements(self, loops: Sequence[Loop]) -> Bounds:
        """How many elements these loops touch, all others standing still."""
        loops = [loop for loop in loops if loop.trips > 1]
        low, high = 1, 1
        seen: set[str] = set()
        shared = False
        for axis in self.axes:
            if axis is None:
                high *= prod(loop.trips for loop in loops)
                continue
            factors = dict(axis[0])
            terms = [
                (factors[x.variable] * x.step, x.trips) for x in loops if x.variable in factors
            ]
            shared |= not seen.isdisjoint(factors)
            seen |= factors.keys()
            least, most = _values(terms)
            low, high = (max(low, least) if shared else low * least), high * most
        points = prod(loop.trips for loop in loops if self.has(loop))
        high = max(low, min(high, points))
        return (low if self.certain else 0), high

    def is_simple(self, loops: Sequence[Loop]) -> bool:
        """Whether no element is touched at two points that differ in a loop of its index."""
        points = prod(loop.trips for loop in loops if self.has(loop))
        return None not in self.axes and self.elements(loops)[0] == points


def _values(terms: Sequence[tuple[int, int]]) -> Bounds:
    """How many values a sum of factor * (0, 1, ..., trips - 1) takes."""
    count, reach = 1, 1  # so many values, within so many units from the first to the last
    unit = 0
    product = prod(trips for _, trips in terms)
    for factor, trips in sorted((abs(f), t) for f, t in terms if f):
        unit = unit or factor
        stride, rest = divmod(factor, unit)
        if not rest and stride >= reach:
            count *= trips  # apart from one another
        elif not rest and count == reach:
            count = reach + stride * (trips - 1)  # without gaps, as those before
        else:
            return max(count, trips), product
        reach += stride * (trips - 1)
    return count, count


@dataclass(frozen=True, slots=True)
class Inner:
    """A nest of loops, with what it touches at each point.

    It stands inside the first `depth` of the shared loops, before or after the others.
    """

    loops: tuple[Loop, ...]
    touches: tuple[Touch, ...]
    depth: int = 0


def misses(outer: Sequence[Loop], nests: Sequence[Inner], room: int) -> dict[str, Bounds]:
    """How many elements of each tensor are brought into a buffer of `room` bytes, empty at first.

    The nests run one after another at each iteration of the outer loops.
    """
    if len(nests) == 1:
        (nest,) = nests
        loops = (*outer[: nest.depth], *nest.loops)
        return _perfect(loops, nest.touches, room).misses()
    return _Nest(tuple(outer), tuple(nests), room).misses()


def _perfect(loops: tuple[Loop, ...], touches: tuple[Touch, ...], room: int) -> _Nest:
    return _Nest(loops, (Inner((), touches, len(loops)),), room)


class _Nest:
    """Loops around a body. If the body is a point, each touch is; else it is a footprint."""

    def __init__(self, loops: tuple[Loop, ...], nests: tuple[Inner, ...], room: int) -> None:
        self.loops = tuple(loop for loop in loops if loop.trips > 1)
        self.nests, self.room = nests, room
        self.is_point = len(nests) == 1 and not nests[0].loops
        self.inner: dict[Touch, tuple[Loop, ...]] = {}
        self.depths: dict[Touch, int] = {}
        for nest in nests:
            depth = sum(loop.trips > 1 for loop in loops[: nest.depth])
            for touch in nest.touches:
                self.inner.setdefault(touch, nest.loops)
                self.depths[touch] = max(depth, self.depths.get(touch, 0))
        self.levels = [
            {t: t.elements((*self._around(t)[depth:], *inner)) for t, inner in self.inner.items()}
            for depth in range(len(self.loops) + 1)
        ]

    def _around(self, touch: Touch) -> tuple[Loop, ...]:
        return self.loops[: self.depths[touch]]

    def misses(self) -> dict[str, Bounds]:
        found: dict[str, list[Touch]] = {}
        for touch in self.inner:
            found.setdefault(touch.tensor, []).append(touch)
        base = self._body()
        result: dict[str, Bounds] = {}
        for tensor, touches in found.items():
            most = sum(self._most(touch, base[touch][1]) for touch in touches)
            if len(touches) == 1:
                least = self._least(touches[0], base[touches[0]][0])
            else:  # each may find what another one brought
                least = max(self.levels[0][touch][0] for touch in touches)
                if self._held(0) <= self.room:
                    most = min(most, sum(self.levels[0][touch][1] for touch in touches))
            result[tensor] = least, max(least, most)
        return result

    def _body(self) -> dict[Touch, Bounds]:
        """The misses of one iteration, begun with an empty buffer (or, at least, with any)."""
        footprint = self.levels[-1]
        if self.is_point or self._held(len(self.loops)) <= self.room:
            return footprint
        found: dict[Touch, Bounds] = {}
        for nest in self.nests:
            alone = _perfect(nest.loops, nest.touches, self.room)
            for touch in nest.touches:
                most = alone._most(touch, 1)
                low, high = found.get(touch, (footprint[touch][0], 0))
                found[touch] = low, high + most
        return found

    def _held(self, depth: int) -> int:
        """The most bytes that the loops from a depth on touch."""
        return sum(count * touch.bytes for touch, (_, count) in self.levels[depth].items())

    def _next(self, touch: Touch, depth: int) -> int:
        """The first loop inside `depth` that the index changes with."""
        inside = range(depth + 1, self.depths[touch])
        return next((d for d in inside if touch.has(self.loops[d])), len(self.loops))

    def _most(self, touch: Touch, misses: int) -> int:
        for depth in reversed(range(self.depths[touch])):
            loop = self.loops[depth]
            if self._held(depth) <= self.room:
                misses = self.levels[depth][touch][1]
            elif touch.has(loop):
                misses *= loop.trips
            else:
                inside = self._next(touch, depth)
                between = 0
                for other, (_, count) in self.levels[inside].items():
                    moves = any(other.has(x) for x in self.loops[depth:inside])
                    between += count * other.bytes * (2 if moves else 1)
                again = misses
                if between <= self.room:  # what is touched first in each iteration is still there
                    again = max(misses - self.levels[depth + 1][touch][0], 0)
                misses += (loop.trips - 1) * again
        return misses

    def _least(self, touch: Touch, misses: int) -> int:
        every = (*self._around(touch), *self.inner[touch])
        if not touch.is_simple(every):
            return self.levels[0][touch][0]
        for depth in reversed(range(self.depths[touch])):
            loop = self.loops[depth]
            if touch.has(loop) or self._surely_gone(touch, depth):
                misses *= loop.trips
        return misses

    def _surely_gone(self, touch: Touch, depth: int) -> bool:
        """Whether more than fits lies between an element's touches in two iterations."""
        inside = self._next(touch, depth)
        if inside == len(self.loops):
            return False
        loop = self.loops[inside]
        between: dict[str, int] = {}
        for other, (count, _) in self.levels[inside].items():
            if self.depths[other] <= inside:
                continue
            # Those under one iteration of the next loop may lie within the element's own touches.
            own = other == touch and self.is_point
            near = self.levels[inside + 1][other][1] if other.has(loop) and not own else 0
            size = max(count - near, 0) * other.bytes
            between[other.tensor] = max(between.get(other.tensor, 0), size)
        return sum(between.values()) > self.room
