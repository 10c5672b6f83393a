"""Inputs that no cache holds are asked for before they are read.

    for i, j in vectors { Y[i,j] = exp(X[i,j]) }
    -> for i, j in vectors { fetch X[i,j+1024]; Y[i,j] = exp(X[i,j]) }

Processors foresee runs through memory, but not far enough where much is computed from each line, or
lines are stored past the caches: exponentials of rows of four million f32, divided by a number of
the row, take 7.8 ms in place of 19.4 (Emerald Rapids). Of nests that go block by block the first
would read from memory, and the others from a cache. There the last one asks for the next block, so
that memory is not idle while these compute: softmax of 32768 x 512 f32 takes 8 ms in place of 9. Of
rows that a product packs the next ones are asked for while exponentials are computed: attention of
8 x 2048 x 64 f32 takes 53.3 ms in place of 53.8.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from math import prod

from ...ir.loop_nodes import (
    Contract,
    Fetch,
    If,
    Load,
    Loop,
    LoopNest,
    Past,
    Statement,
    Value,
    When,
    blocks,
)
from ...ir.loops import Buffer, LoopProgram, Nest, Parallel, Split, Stage
from ...ir.ranks import RankExpr
from .parts import each_in
from .schedule import Limits
from .tile import number, plus, size

#: How many bytes ahead: by then a line has come from memory, and level 1 has room for what waits.
_AHEAD = 4096

#: A row, the next, what is made of it, and what lines of a level-2 cache are lost to.
_HELD = 4

#: Bytes of a line.
_LINE = 64


def asked_ahead(program: LoopProgram, sizes: Mapping[str, int], limits: Limits) -> LoopProgram:
    """The program; `sizes` are hints, and inputs whose size is not known are left alone."""
    large = large_inputs(program, sizes, limits)
    if not large:
        return program
    asking = _Asking(large, sizes, limits)
    return replace(program, stages=tuple(map(asking.stage, program.stages)))


def large_inputs(
    program: LoopProgram, sizes: Mapping[str, int], limits: Limits
) -> dict[str, Buffer]:
    """The inputs that no cache holds, as far as hints say."""
    return {b.name: b for b in program.inputs if _bytes(b, sizes) >= limits.streamed}


def _bytes(buffer: Buffer, sizes: Mapping[str, int]) -> int:
    known = all(set(extent.sizes()) <= sizes.keys() for extent in buffer.extents)
    return prod(e.value(sizes) for e in buffer.extents) * buffer.dtype.itemsize if known else 0


@dataclass(frozen=True, slots=True)
class _Later:
    """What is gone through later is so many coordinates of a variable on."""

    variable: str
    steps: RankExpr


class _Asking:
    """Writes what asks for the `large` inputs; `sizes` are hints."""

    def __init__(
        self, large: Mapping[str, Buffer], sizes: Mapping[str, int], limits: Limits
    ) -> None:
        self.large, self.sizes, self.limits = large, sizes, limits

    def stage(self, stage: Stage) -> Stage:
        """The stage, which asks."""
        if isinstance(stage, Nest):
            (body,) = self._in_turn([stage.body], self.large.keys())
            return replace(stage, body=body)
        if not isinstance(stage, Parallel):
            return replace(stage, stages=tuple(map(self.stage, stage.stages)))
        block = next((split for split in stage.splits if split.each), None)
        later = None if block is None else _Later(block.own, block.unit)
        bodies = self._in_turn([nest.body for nest in stage.nests], self.large.keys(), later=later)
        nests = [replace(n, body=body) for n, body in zip(stage.nests, bodies, strict=True)]
        if block is not None:
            nests = [*_asking_rows(nests, self.large, block)]
        return replace(stage, nests=tuple(nests))

    def _in_turn(
        self,
        bodies: Sequence[tuple[Statement, ...]],
        names: Set[str],
        vectors: Set[str] = frozenset(),
        later: _Later | None = None,
    ) -> Iterator[tuple[Statement, ...]]:
        """Statements that run one after another. What one alone reads it asks for some lines
        ahead; of what several read the first would wait for memory, and the last asks for what is
        read `later`.
        """
        readers = [{load.buffer for load in each_in(body, Load)} for body in bodies]
        for at, body in enumerate(bodies):
            before, after = (set[str]().union(*sets) for sets in (readers[:at], readers[at + 1 :]))
            first, found = names - before, body
            if later is not None:
                found = tuple(self._asked(body, names & (before - after), vectors, later))
                first -= after
            yield tuple(self._asked(found, first, vectors))

    def _asked(
        self,
        body: tuple[Statement, ...],
        names: Set[str],
        vectors: Set[str],
        later: _Later | None = None,
    ) -> Iterator[Statement]:
        """The statements, before them what asks for elements that they read along one of
        `vectors`: some lines ahead, or those that are read `later`.
        """
        loads = [load for s in body if not blocks(s) for load in each_in(s, Load)]
        for load in dict.fromkeys(loads):
            if load.buffer in names:
                yield from _fetch(load, self.large[load.buffer], vectors, later)
        for statement in body:
            if isinstance(statement, LoopNest):
                inner = vectors | {lo.variable for lo in statement.loops if lo.kind == "vector"}
                row = self._later_row(statement) if later is None else None
                if row is None:
                    inside = tuple(self._asked(statement.body, names, inner, later))
                else:
                    each = [(one,) for one in statement.body]
                    made = self._in_turn(each, names, inner, row)
                    inside = tuple(chain.from_iterable(made))
                yield replace(statement, body=inside)
            elif isinstance(statement, Past | When):
                inside = tuple(self._asked(statement.body, names, vectors, later))
                yield replace(statement, body=inside)
            elif isinstance(statement, If):
                then, otherwise = (
                    tuple(self._asked(arm, names, vectors, later)) for arm in blocks(statement)
                )
                yield replace(statement, then=then, otherwise=otherwise)
            else:
                yield statement

    def _later_row(self, statement: LoopNest) -> _Later | None:
        """A row that comes soon, if the statement goes several times through rows that a cache
        holds.
        """
        last = statement.loops[-1]
        if last.kind != "serial" or sum(isinstance(s, LoopNest) for s in statement.body) < 2:
            return None
        around = {loop.variable for loop in statement.loops}
        longest = 0
        for load in each_in(statement.body, Load):
            if (buffer := self.large.get(load.buffer)) is not None:
                axes = zip(load.indices, buffer.extents, strict=True)
                row = [e.value(self.sizes) for i, e in axes if not _steps(i, around)]
                longest = max(longest, prod(row) * buffer.dtype.itemsize)
        if not longest or _HELD * longest > self.limits.shared:
            return None
        return _Later(last.variable, number(-(-_AHEAD // longest)))


def _fetch(
    load: Load, buffer: Buffer, vectors: Collection[str], later: _Later | None
) -> Iterator[Fetch]:
    """What asks for an element that is read along one of `vectors`."""
    places = tuple(i for i in load.indices if isinstance(i, RankExpr))
    if buffer.unit is None or len(places) < len(load.indices) or load.extents:
        return
    if places[buffer.unit].steps_by in vectors:
        if later is None:
            lines = number(_AHEAD // buffer.dtype.itemsize)
            yield Fetch(load.buffer, _moved(places, buffer.unit, lines))
            return
        axes = [n for n, place in enumerate(places) if place.steps_by == later.variable]
        if axes:
            yield Fetch(load.buffer, _moved(places, axes[0], later.steps))


def _asking_rows(
    nests: Sequence[Nest], large: Mapping[str, Buffer], block: Split
) -> Iterator[Nest]:
    """The nests; what goes through the rows of a block, and computes much for each, asks for those
    of the next block that a product will pack.
    """
    asking: dict[int, LoopNest] = {}
    for contract in each_in(tuple(nests), Contract):
        load = contract.rows.value
        found = _row_of_next(load, large, block) if isinstance(load, Load) else None
        if found is not None and found.loops[0].variable in contract.depth:
            rows = {v for i in each_in(load, RankExpr) for v in i.variables()}
            rows.remove(found.loops[0].variable)
            last = max(
                (at for at, nest in enumerate(nests) if _goes_through(nest) == rows), default=-1
            )
            asking[last] = found
    for at, nest in enumerate(nests):
        match nest.body:
            case (LoopNest() as loops,) if at in asking:
                yield replace(nest, body=(replace(loops, body=(asking[at], *loops.body)),))
            case _:
                yield nest


def _goes_through(nest: Nest) -> set[str]:
    """The variables of the loops around all else."""
    match nest.body:
        case (LoopNest(loops),) if all(loop.kind == "serial" for loop in loops):
            return {loop.variable for loop in loops}
        case _:
            return set()


def _row_of_next(load: Load, large: Mapping[str, Buffer], block: Split) -> LoopNest | None:
    """What asks for a row of an input, as many rows on as a block has; None: of no such input."""
    buffer = large.get(load.buffer)
    if buffer is None or buffer.unit is None:
        return None
    places = tuple(i for i in load.indices if isinstance(i, RankExpr))
    axes = [n for n, place in enumerate(places) if place.steps_by == block.own]
    along = places[buffer.unit].variable
    if not axes or along is None:
        return None
    loop = Loop(along, RankExpr(), size(along), (), number(_LINE // buffer.dtype.itemsize))
    return LoopNest((loop,), (Fetch(load.buffer, _moved(places, axes[0], block.unit)),))


def _steps(index: RankExpr | Value, around: Collection[str]) -> bool:
    """Whether the index is another at each coordinate of one of these variables."""
    return isinstance(index, RankExpr) and index.steps_by in around


def _moved(places: tuple[RankExpr, ...], axis: int, steps: RankExpr) -> tuple[RankExpr, ...]:
    """The indices, one of them so many steps ahead."""
    return (*places[:axis], plus(places[axis], steps), *places[axis + 1 :])
