"""A contraction in blocks that caches hold, its operands packed.

The loop structure of GotoBLAS, with any number of variables in the place of each of m, n and k
(Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008;
for packing straight from strided tensors: TBLIS, arXiv 1607.00291):

    for each piece of k             the columns' operand is packed: tile after tile, depth x width
      for each block of rows        the rows' operand is packed
        for each tile of columns, for each tile of rows: the register tile

k' is the beginning of a piece of k, j'' and i'' that of a block of columns and rows, j' and i' that
of a tile. The sums of a piece go on from where the output has those of the pieces before.

The register tile reads whole tiles, the last one too. What a tile holds beyond the operand takes no
part in any result, but it is zero: a processor can take a hundred times longer over a denormal
number, and what memory held before, an address for example, often is one.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.dtypes import DType
from ...ir.loop_nodes import Load, Loop, LoopNest, Number, Store
from ...ir.loops import Scratch
from ...ir.ranks import RankExpr
from .pack import Copy, copy_loops, source_of
from .schedule import Block, Reading, Schedule, block_side
from .tile import (
    LANES_EXPR,
    full_loop,
    in_order,
    minus,
    number,
    plus,
    row_loops,
    size,
    tiled,
    times,
    variable,
    vector_loops,
)


class Blocking:
    """The buffers and loops of a blocked contraction that is summed in `dtype`."""

    def __init__(self, schedule: Schedule, block: Block, dtype: DType) -> None:
        self.schedule = schedule
        self.block = block
        self.dtype = dtype
        self.vector, self.rows = schedule.vector or "", schedule.rows or ""
        self.width = times(LANES_EXPR, schedule.vectors)
        self.wide = times(self.width, block.wide)
        self.tall = number(block.tall)
        self.others = tuple(v for v in schedule.reduced if v != block.along)

    @property
    def piece(self) -> RankExpr:
        """The beginning of the piece of the reduction."""
        return variable(self.block.along + "'")

    def reduction(self) -> tuple[Loop, ...]:
        """The loops over one piece."""
        return (*(full_loop(v) for v in self.others), self._depth_loop())

    def _depth_loop(self) -> Loop:
        along = self.block.along
        return Loop(along, self.piece, plus(self.piece, number(self.block.depth)), (size(along),))

    def outer_loops(self) -> tuple[Loop, ...]:
        """What is around the packing of the columns' operand."""
        columns, across = self.block.columns.variables, self.block.across.variables
        outer = self.schedule.outer
        around = [v for v in outer if v not in columns - across and v not in across - columns]
        inside = [v for v in outer if v in columns - across]
        along = self.block.along
        # An empty reduction still has to be stored: its loop runs once.
        pieces = Loop(
            along + "'", RankExpr(), size(along), step=number(self.block.depth), once=True
        )
        blocks = Loop(self.vector + "''", RankExpr(), size(self.vector), step=self.wide)
        return (*map(full_loop, around), blocks, *map(full_loop, inside), pieces)

    def middle_loops(self) -> tuple[Loop, ...]:
        """What is around the packing of the rows' operand."""
        only = self.block.across.variables - self.block.columns.variables
        inside = [full_loop(v) for v in self.schedule.outer if v in only]
        return (*inside, Loop(self.rows + "''", RankExpr(), size(self.rows), step=self.tall))

    def inner_loops(self) -> tuple[Loop, ...]:
        """The tiles of one block, and the register tile."""
        tiles = (
            self._tiles(self.vector, self.wide, self.width),
            self._tiles(self.rows, self.tall, number(self.schedule.row_count)),
        )
        return (*tiles, row_loops(self.schedule)[1], vector_loops(self.schedule)[1])

    def _tiles(self, name: str, block: RankExpr, tile: RankExpr) -> Loop:
        start = variable(name + "''")
        return Loop(name + "'", start, plus(start, block), (size(name),), tile)

    def pack_columns(self, name: str, source: DType) -> Copy:
        """The packed operand of the vector variable."""
        depth, rest = self.block.depth, [size(v) for v in self.others]
        per_column = times(depth, *rest)
        layout: list[RankExpr | int] = [*rest, depth, self.width]
        padding = times(per_column, self.width)
        elements = tuple(
            plus(times(per_column, columns), padding) for columns in (size(self.vector), self.wide)
        )
        split = self.dtype.kind == "complex"
        strides = (per_column, *in_order(layout))
        scratch = Scratch(name, self.dtype, strides, elements, padded=True, split=split)
        tile = variable(self.vector + "'")
        indices = (
            minus(tile, variable(self.vector + "''")),
            *(variable(v) for v in self.others),
            minus(variable(self.block.along), self.piece),
            minus(variable(self.vector), tile),
        )
        store = Store(name, indices, source_of(self.block.columns, source, self.dtype))
        beyond = Loop(self.vector, size(self.vector), plus(tile, self.width))
        zeros = self._zeros(store, beyond, self.vector)
        tiles = self._tiles(self.vector, self.wide, self.width)
        loops = LoopNest((tiles,), (zeros, self._column_copy(store)))
        return Copy(scratch, Load(name, indices, self.dtype), (loops,))

    def _zeros(self, store: Store, beyond: Loop, vector: str) -> LoopNest:
        """Zeros in place of what is stored, in the part of a tile that is beyond the operand."""
        loops = [beyond, *self.reduction()]
        at = next(n for n, loop in enumerate(loops) if loop.variable == vector)
        loops[at], inner = tiled(loops[at], LANES_EXPR, "vector", "'t")
        return LoopNest((*loops, inner), (replace(store, value=Number(0, self.dtype)),))

    def _column_copy(self, store: Store) -> LoopNest:
        """One tile of columns."""
        along = self.block.columns.unit
        loops: list[Loop] = []
        tiles: list[Loop] = []
        for loop in self.reduction():
            if loop.variable == along:
                blocks, block = tiled(loop, number(block_side(self.dtype.bits)), "unroll", "'t")
                loops.append(blocks)
                tiles.append(block)
            else:
                loops.append(loop)
        vector = vector_loops(self.schedule)[1]
        if tiles:
            # Square blocks are a single vector wide.
            whole = replace(vector, kind="serial")
            blocks, vector = tiled(whole, LANES_EXPR, "vector", "'t")
            loops.append(blocks)
        return LoopNest((*loops, *tiles, vector), (store,))

    def pack_rows(self, name: str, source: DType) -> Copy:
        """The packed operand of the row variable: as it lies, but close together."""
        reading: Reading = self.block.across
        first, along = variable(self.rows + "''"), self.block.along
        extents: dict[str, RankExpr | int] = {v: size(v) for v in self.others}
        extents |= {self.rows: self.block.tall, along: self.block.depth}
        names = [self.rows, *self.others, along]
        last = reading.unit if reading.unit in names else along
        names = [v for v in names if v != last] + [last]
        strides = in_order([extents[v] for v in names])
        elements = times(*(extents[v] for v in names))
        scratch = Scratch(name, self.dtype, strides, (elements,), padded=True)
        origin = {self.rows: first, along: self.piece}
        indices = tuple(
            minus(variable(v), origin[v]) if v in origin else variable(v) for v in names
        )
        ranges = {loop.variable: loop for loop in self.reduction()}
        ranges[self.rows] = Loop(self.rows, first, plus(first, self.tall), (size(self.rows),))
        store = Store(name, indices, source_of(reading, source, self.dtype))
        copy = copy_loops(reading.unit, names, last, ranges, store, vectors=4)
        rest = number(self.schedule.row_count - 1)
        beyond = Loop(
            self.rows, size(self.rows), plus(size(self.rows), rest), (plus(first, self.tall),)
        )
        zeros = self._zeros(store, beyond, last)
        return Copy(scratch, Load(name, indices, self.dtype), (zeros, copy))
