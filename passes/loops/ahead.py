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

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
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

#: Bytes of a line.
_LINE = 64


def asked_ahead(program: LoopProgram, sizes: Mapping[str, int], limits: Limits) -> LoopProgram:
    """The program; `sizes` are hints, and inputs whose size is not known are left alone."""
    large = large_inputs(program, sizes, limits)
    if not large:
        return program
    return replace(program, stages=tuple(_stage(stage, large) for stage in program.stages))


def large_inputs(
    program: LoopProgram, sizes: Mapping[str, int], limits: Limits
) -> dict[str, Buffer]:
    """The inputs that no cache holds, as far as hints say."""
    return {b.name: b for b in program.inputs if _bytes(b, sizes) >= limits.streamed}


def _bytes(buffer: Buffer, sizes: Mapping[str, int]) -> int:
    known = all(set(extent.sizes()) <= sizes.keys() for extent in buffer.extents)
    return prod(e.value(sizes) for e in buffer.extents) * buffer.dtype.itemsize if known else 0


def _stage(stage: Stage, large: Mapping[str, Buffer]) -> Stage:
    if isinstance(stage, Nest):
        return replace(stage, body=tuple(_asking(stage.body, large, frozenset())))
    if not isinstance(stage, Parallel):
        return replace(stage, stages=tuple(_stage(inner, large) for inner in stage.stages))
    readers = [{load.buffer for load in each_in(nest.body, Load)} for nest in stage.nests]
    block = next((split for split in stage.splits if split.each), None)
    nests: list[Nest] = []
    for at, nest in enumerate(stage.nests):
        before, after = (set[str]().union(*sets) for sets in (readers[:at], readers[at + 1 :]))
        first = {name: b for name, b in large.items() if name not in before}
        body = nest.body
        if block is not None:
            last = {name: b for name, b in large.items() if name in before - after}
            body = tuple(_asking(body, last, frozenset(), block))
            first = {name: b for name, b in first.items() if name not in after}
        nests.append(replace(nest, body=tuple(_asking(body, first, frozenset()))))
    if block is not None:
        nests = [*_asking_rows(nests, large, block)]
    return replace(stage, nests=tuple(nests))


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


def _asking(
    body: tuple[Statement, ...],
    large: Mapping[str, Buffer],
    vectors: Collection[str],
    block: Split | None = None,
) -> Iterator[Statement]:
    """The statements, before them what asks for elements that they read along one of `vectors`:
    some lines ahead, or as many as a block has.
    """
    loads = [load for s in body if not blocks(s) for load in each_in(s, Load)]
    for load in dict.fromkeys(loads):
        buffer = large.get(load.buffer)
        if buffer is not None and buffer.unit is not None and not load.extents:
            index = load.indices[buffer.unit]
            if isinstance(index, RankExpr) and index.steps_by in vectors:
                places = tuple(i for i in load.indices if isinstance(i, RankExpr))
                if block is None:
                    lines = number(_AHEAD // buffer.dtype.itemsize)
                    yield Fetch(load.buffer, _moved(places, buffer.unit, lines))
                    continue
                axes = [n for n, place in enumerate(places) if place.steps_by == block.own]
                if axes:
                    yield Fetch(load.buffer, _moved(places, axes[0], block.unit))
    for statement in body:
        if isinstance(statement, LoopNest):
            inner = {*vectors, *(lo.variable for lo in statement.loops if lo.kind == "vector")}
            inside = tuple(_asking(statement.body, large, inner, block))
            yield replace(statement, body=inside)
        elif isinstance(statement, Past | When):
            yield replace(statement, body=tuple(_asking(statement.body, large, vectors, block)))
        elif isinstance(statement, If):
            then, otherwise = (
                tuple(_asking(arm, large, vectors, block)) for arm in blocks(statement)
            )
            yield replace(statement, then=then, otherwise=otherwise)
        else:
            yield statement


def _moved(places: tuple[RankExpr, ...], axis: int, steps: RankExpr) -> tuple[RankExpr, ...]:
    """The indices, one of them so many steps ahead."""
    return (*places[:axis], plus(places[axis], steps), *places[axis + 1 :])
