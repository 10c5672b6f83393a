"""Operands copied so that the register tile reads them in order: whole ones, and blocks of them.

A blocked contraction is the loop structure of GotoBLAS, with any number of variables in the place
of each of m, n and k (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication",
ACM TOMS 34(3), 2008; TBLIS, arXiv 1607.00291, for packing straight from strided tensors):

    for each piece of k             the columns' operand is packed: for each tile, depth x width
      for each block of rows        the rows' operand is packed
        for each tile of columns, for each tile of rows: the register tile
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.dtypes import DType
from ...ir.loop_nodes import Load, Loop, LoopNest, Store
from ...ir.loops import Scratch
from ...ir.ranks import RankExpr, Term, affine
from .schedule import LANES_EXPR, Block, Reading, Schedule, block_side
from .typed import convert, full_loop


@dataclass(frozen=True, slots=True)
class Moved:
    """A copy of an operand: where it is, what reads it, what makes it."""

    scratch: Scratch
    load: Load
    copy: LoopNest


def times(*factors: RankExpr | int) -> RankExpr:
    """The product of sizes and numbers, each of one term."""
    number, sizes = 1, list[str]()
    for factor in factors:
        if isinstance(factor, int):
            number *= factor
        elif factor.terms:
            (term,) = factor.terms
            number *= term.coefficient
            sizes += term.sizes
        else:
            number *= factor.offset
    return RankExpr((Term(number, tuple(sizes)),)) if sizes else RankExpr((), number)


def plus(*exprs: RankExpr) -> RankExpr:
    """The sum, like terms added up."""
    return affine([term for e in exprs for term in e.terms], sum(e.offset for e in exprs))


def minus(a: RankExpr, b: RankExpr) -> RankExpr:
    """The difference."""
    return plus(
        a, RankExpr(tuple(Term(-t.coefficient, t.sizes, t.variable) for t in b.terms), -b.offset)
    )


def variable(name: str) -> RankExpr:
    """The expression that is a variable."""
    return RankExpr.of_variable(name)


def size(name: str) -> RankExpr:
    """The size of a variable's rank."""
    return RankExpr.of_size(name.upper())


def in_order(extents: Sequence[RankExpr | int]) -> tuple[RankExpr, ...]:
    """The strides of a C-ordered buffer of these extents."""
    return tuple(times(*extents[axis + 1 :]) for axis in range(len(extents)))


def moved(name: str, reading: Reading, vector: str, dtype: DType, source: DType) -> Moved:
    """A copy of a whole operand in which the vector variable is consecutive."""
    names = [v for v in reading.access.variables() if v != vector] + [vector]
    extents = [size(v) for v in names]
    scratch = Scratch(name, dtype, in_order(extents), (times(*extents),))
    indices = tuple(variable(v) for v in names)
    store = Store(name, indices, convert(_load(reading, source), dtype))
    copy = copy_loops(reading, names, vector, {v: full_loop(v) for v in names}, store)
    return Moved(scratch, Load(name, indices, dtype), copy)


def _load(reading: Reading, source: DType) -> Load:
    indices = tuple(i for i in reading.access.indices if isinstance(i, RankExpr))
    return Load(reading.access.tensor, indices, source)


def copy_loops(
    reading: Reading,
    names: Sequence[str],
    vector: str,
    ranges: Mapping[str, Loop],
    store: Store,
    vectors: int = 2,
) -> LoopNest:
    """Loops that copy along `vector`; what the source has consecutive is read in square blocks."""
    along = reading.unit if reading.unit != vector and reading.unit in names else None
    loops = [ranges[name] for name in names if name not in (vector, along)]
    tile: list[Loop] = []
    if along is not None:
        vectors = 1
        side = RankExpr((), block_side(store.value.dtype.bits))
        outer, inner = tiled(ranges[along], side, "unroll")
        loops.append(outer)
        tile.append(inner)
    outer, inner = tiled(ranges[vector], times(LANES_EXPR, vectors), "vector")
    return LoopNest((*loops, outer, *tile, inner), (store,))


def tiled(loop: Loop, width: RankExpr, kind: str) -> tuple[Loop, Loop]:
    """A loop in steps of `width`, and inside it the tile loop over a step."""
    name = loop.variable + "'t"
    outer = Loop(name, loop.start, loop.stop, loop.bounds, width)
    start = variable(name)
    bounds = (loop.stop, *loop.bounds)
    stop = plus(start, width)
    if kind == "vector":
        return outer, Loop(loop.variable, start, stop, bounds, kind="vector")
    return outer, Loop(loop.variable, start, stop, bounds, kind="unroll")


class Blocking:
    """The buffers and loops of a blocked contraction."""

    def __init__(self, schedule: Schedule, block: Block, dtype: DType) -> None:
        self.schedule = schedule
        self.wide = times(LANES_EXPR, schedule.vectors, block.wide)
        self.block = block
        self.dtype = dtype
        assert schedule.vector is not None
        assert schedule.rows is not None
        self.vector, self.rows = schedule.vector, schedule.rows
        self.width = times(LANES_EXPR, schedule.vectors)
        self.others = tuple(v for v in schedule.reduced if v != block.along)

    # ---- pieces: k' of k, j'' of j in `wide` steps, i'' of i in `tall` steps

    @property
    def piece(self) -> RankExpr:
        return variable(self.block.along + "'")

    def piece_loop(self) -> Loop:
        """The loop over pieces of the reduction; an empty one still has to be stored."""
        along = self.block.along
        step = RankExpr((), self.block.depth)
        return Loop(along + "'", RankExpr(), size(along), step=step, once=True)

    def depth_loop(self) -> Loop:
        """The loop over one piece."""
        along = self.block.along
        stop = plus(self.piece, RankExpr((), self.block.depth))
        return Loop(along, self.piece, stop, (size(along),))

    def outer_loop(self, name: str, step: RankExpr) -> Loop:
        """The loop over blocks of a free variable."""
        return Loop(name + "''", RankExpr(), size(name), step=step)

    def block_loop(self, name: str, step: RankExpr, tile: RankExpr) -> Loop:
        """The loop over the tiles of one block."""
        start = variable(name + "''")
        stop = plus(start, step)
        return Loop(name + "'", start, stop, (size(name),), tile)

    # ---- the operand of the columns: tile after tile, each depth x width

    def pack_columns(self, name: str, source: DType) -> Moved:
        """The packed operand of the vector variable."""
        rest = [size(v) for v in self.others]
        depth = self.block.depth
        layout: list[RankExpr | int] = [*rest, depth, self.width]
        strides = (times(depth, *rest), *in_order(layout))
        per_column = strides[0]
        padding = times(per_column, self.width)
        elements = tuple(
            plus(times(per_column, columns), padding) for columns in (size(self.vector), self.wide)
        )
        split = self.dtype.kind == "complex"
        scratch = Scratch(name, self.dtype, strides, elements, True, split)
        tile = variable(self.vector + "'")
        indices = (
            minus(tile, variable(self.vector + "''")),
            *(variable(v) for v in self.others),
            minus(variable(self.block.along), self.piece),
            minus(variable(self.vector), tile),
        )
        load = Load(name, indices, self.dtype)
        value = convert(_load(self.block.columns, source), self.dtype)
        store = Store(name, indices, value)
        return Moved(scratch, load, self._column_copy(store))

    def _column_copy(self, store: Store) -> LoopNest:
        along = self.block.columns.unit
        tile = variable(self.vector + "'")
        loops = [self.block_loop(self.vector, self.wide, self.width)]
        vector = Loop(
            self.vector, tile, plus(tile, self.width), (size(self.vector),), kind="vector"
        )
        if along is not None and along != self.vector:
            blocks = Loop(self.vector, tile, plus(tile, self.width), (size(self.vector),))
            outer, vector = tiled(blocks, LANES_EXPR, "vector")
            loops.append(outer)
        ranges = {v: full_loop(v) for v in self.others}
        ranges[self.block.along] = self.depth_loop()
        tiles: list[Loop] = []
        for name, loop in ranges.items():
            if name == along:
                side = RankExpr((), block_side(self.dtype.bits))
                outer, inner = tiled(loop, side, "unroll")
                loops.append(outer)
                tiles.append(inner)
            else:
                loops.append(loop)
        return LoopNest((*loops, *tiles, vector), (store,))

    # ---- the operand of the rows: as it lies, but close together

    def pack_rows(self, name: str, reading: Reading, source: DType) -> Moved:
        """The packed operand of the row variable."""
        first, along = variable(self.rows + "''"), self.block.along
        names = [self.rows, *self.others, along]
        extents: dict[str, RankExpr | int] = {v: size(v) for v in self.others}
        extents |= {self.rows: self.block.tall, along: self.block.depth}
        last = reading.unit if reading.unit in names else along
        names = [v for v in names if v != last] + [last]
        strides = in_order([extents[v] for v in names])
        elements = times(*(extents[v] for v in names))
        scratch = Scratch(name, self.dtype, strides, (elements,), True)
        origin = {self.rows: first, along: self.piece}
        indices = tuple(
            minus(variable(v), origin[v]) if v in origin else variable(v) for v in names
        )
        ranges = {v: full_loop(v) for v in self.others}
        ranges[along] = self.depth_loop()
        stop = plus(first, RankExpr((), self.block.tall))
        ranges[self.rows] = Loop(self.rows, first, stop, (size(self.rows),))
        store = Store(name, indices, convert(_load(reading, source), self.dtype))
        copy = copy_loops(reading, names, last, ranges, store, vectors=4)
        return Moved(scratch, Load(name, indices, self.dtype), copy)
