"""Placing the result of a product: where it comes to lie, or moved to a layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.einsum import Access
from ...ir.layouts import Array, Layout, Piece, row_major
from .addresses import Digit, by_axis, distinct
from .builder import Builder
from .held import Held, Way
from .moves import move, moved, one_stage
from .problem import Problem
from .space import Space, by_variable
from .want import Want, want

#: The digits of a vector of the result: its place along each outer piece that the output has.
Key = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """A way to place the result: levels and rotations, where it then lies, and what writes it."""

    levels: int
    rotations: int
    layout: Layout
    emit: Callable[[Builder, dict[Key, int]], Held]


def end_of(problem: Problem, space: Space, output: Layout | None, most: int) -> End | None:
    """What places the result with at most so many masks; None if nothing does.

    Args:
        output: where the result is to lie; None: where it comes to lie.
    """
    access, shape = problem.output, problem.shapes[problem.output.tensor]
    variables = tuple(access.variables())
    repeated = len(set(variables)) < len(variables)
    layout = output
    if layout is None and not repeated:
        lies = layout = _as_it_comes(space, access, shape)
        if space.giant is None:
            return End(0, 0, lies, lambda build, parts: _as_is(lies, parts))
    if layout is None:
        layout = row_major(shape, space.slots, zero=False)
    return _Placing(problem, space, layout, repeated).end(most)


def _as_is(layout: Layout, parts: Mapping[Key, int]) -> Held:
    return Held(layout, tuple(parts[key] for key in sorted(parts)))


def _as_it_comes(space: Space, output: Access, shape: Sequence[int]) -> Layout:
    """Where the output lies, the partial sums of later giant steps left out."""
    axes = {v: axis for axis, index in enumerate(output.indices) for v in index.variables()}
    kept = frozenset(axes)
    inner = [piece for piece in space.inner if space.along(piece) & kept]
    number, pieces = 1, list[Piece]()
    for piece in reversed(space.told_by(kept)):
        if piece != space.giant:
            pieces.insert(0, _kept(space, piece, axes, number * space.slots))
            number *= piece.extent
    pieces += [_kept(space, piece, axes, piece.stride) for piece in inner]
    return Layout(space.slots, tuple(shape), tuple(pieces), wrap=space.layout.wrap, zero=False)


def _kept(space: Space, piece: Piece, axes: Mapping[str, int], stride: int) -> Piece:
    steps = tuple(
        (axes[space.variables[axis]], step)
        for axis, step in piece.steps
        if space.variables[axis] in axes
    )
    return Piece(piece.extent, stride, steps)


@dataclass(frozen=True, slots=True, eq=False)
class _Placing:
    """Moves the vectors of a result to a layout."""

    problem: Problem
    space: Space
    layout: Layout
    repeated: bool

    def end(self, most: int) -> End | None:
        """The way with at most so many masks; None if there is none."""
        space, problem, layout = self.space, self.problem, self.layout
        output, shape = problem.output, problem.shapes[problem.output.tensor]
        wanted = want(space, output, shape, problem.sizes, layout)
        source, target = self._points(wanted)
        made = distinct(target // self.slots)
        apart = made.size * wanted.times == layout.vectors and made[-1] == made.size - 1
        if wanted.again and not apart:
            wanted = want(space, output, shape, problem.sizes)
            source, target = self._points(wanted)
        way = self._way(wanted, source, target, most)
        if way is None:
            return None

        def emit(build: Builder, parts: dict[Key, int]) -> Held:
            found: dict[int, int] = {}
            for again, offset in wanted.offsets():
                values = self._values(wanted, again, parts)
                found |= {offset + n: v for n, v in enumerate(way.emit(build, values))}
            return Held(layout, tuple(found[number] for number in range(layout.vectors)))

        return End(way.levels, wanted.times * way.rotations, layout, emit)

    @property
    def slots(self) -> int:
        """In a vector."""
        return self.space.slots

    def _values(self, wanted: Want, again: Key, parts: Mapping[Key, int]) -> list[int]:
        """The vectors of a result at one place along what is done again."""
        space = self.space
        outer = space.told_by(frozenset(self.problem.output.variables()))
        fixed = {piece: value for (piece, _), value in zip(wanted.again, again, strict=True)}
        found: list[int] = []
        for key in wanted.keys:
            at = fixed | dict(zip(wanted.outer, key, strict=True))
            found.append(parts[tuple(at[piece] for piece in outer)])
        return found

    def _points(self, wanted: Want) -> tuple[Array, Array]:
        """The addresses that each element of the output comes from, and goes to."""
        addresses = self.layout.addresses()
        source = [slots + number * self.slots for number, slots in enumerate(wanted.slots)]
        target = [addresses[elements] for elements in wanted.elements]
        return np.concatenate(source), np.concatenate(target)

    def _way(self, wanted: Want, source: Array, target: Array, most: int) -> Way | None:
        """The way to move those points with at most so many masks."""
        turn = self._turn(source, target)
        if turn is not None:
            return turn if most == 0 else None
        if most == 0:
            return None
        digits = self._digits(wanted) if most > 1 else None
        plan = None if digits is None else move(digits, most, self.slots)
        plan = one_stage(source, target, self.slots) if plan is None else plan

        def emit(build: Builder, values: Sequence[int]) -> list[int]:
            return moved(build, values, plan)

        return Way(plan.levels, plan.rotations, True, emit)

    def _turn(self, source: Array, target: Array) -> Way | None:
        """Rotations and sums alone, if nothing else comes to lie where an element does."""
        slots = self.slots
        if self.layout.zero or (self.repeated and self.layout.size != distinct(target).size):
            return None
        came, goes = source // slots, target // slots
        results = int(goes.max()) + 1
        full = [distinct(target[goes == number]).size for number in range(results)]
        steps: dict[tuple[int, int], int] = {}
        pairs = came * results + goes
        every: list[int] = distinct(pairs).tolist()
        for pair in every:
            here = pairs == pair
            shifts = distinct((source[here] - target[here]) % slots)
            if shifts.size > 1 or np.count_nonzero(here) < full[pair % results]:
                return None  # or what it holds elsewhere would be added in
            steps[divmod(pair, results)] = int(shifts[0])
        turned = len({(one, step) for (one, _), step in steps.items() if step})

        def emit(build: Builder, values: Sequence[int]) -> list[int]:
            made: dict[int, int] = {}
            for (one, to), step in steps.items():
                (value,) = build.rotate(values[one], [step]) if step else [values[one]]
                made[to] = build.add(build.finished(made[to]), value) if to in made else value
            return [made[to] for to in sorted(made)]

        return Way(0, turned, False, emit)

    def _digits(self, wanted: Want) -> tuple[Digit, ...] | None:
        """The move variable by variable, where both layouts add up what each says."""
        space, problem = self.space, self.problem
        lies = by_axis(self.layout)
        if lies is None or space.layout.wrap:
            return None
        start, along = lies
        found = [Digit((0,), (start,))]
        for v in dict.fromkeys(problem.output.variables()):
            again = (piece.extent for piece, _ in wanted.again if v in space.along(piece))
            extent = problem.sizes[v] // math.prod(again)
            source = by_variable(space, v, wanted.outer, extent)
            target = np.zeros(extent, np.int64)
            for part, index in zip(along, problem.output.indices, strict=True):
                if v in tuple(index.variables()):
                    target += part[:extent]
            found.append(Digit(tuple(source.tolist()), tuple(target.tolist())))
        return tuple(found)
