"""What a contraction does with a tile of sums while it is near: its epilogue.

The tile is on the stack, in the level-1 cache. It is gone through in as many columns at a time as
are consecutive in all that is read and written there, row by row, so the code is short however
large the tile is and whatever is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...ir.dtypes import DType
from ...ir.loop_nodes import TOTAL, Contract, Finish, Load, Register, Value, loads_of
from ...ir.ranks import RankExpr
from .builder import OpenLoop
from .compute import compute
from .offsets import OffsetTables, Table
from .simd import LINE, Place, Vec, typed
from .values import Values


@dataclass(frozen=True, slots=True)
class _Buffer:
    """A buffer seen from a tile: its tables along the rows and the columns, if it has any.

    `runs` tells how many columns are consecutive in it; None if that does not matter: because it
    is the same for all columns, or because its elements are gathered.
    """

    name: str
    indices: tuple[RankExpr, ...]
    down: Table | None
    across: Table | None
    runs: Table | None

    @staticmethod
    def of(
        values: Values,
        name: str,
        indices: Sequence[RankExpr],
        contract: Contract,
        tables: OffsetTables,
        written: bool,
    ) -> _Buffer:
        """The buffer, its tables written; one that is written is not gathered."""
        rows, columns = contract.rows.variables, contract.columns.variables
        used = {v for index in indices for v in index.variables()}
        down = tables.add(name, indices, rows) if used & set(rows) else None
        if not used & set(columns):
            return _Buffer(name, tuple(indices), down, None, None)
        across = tables.add(name, indices, columns)
        unit = values.accesses.buffers[name].unit
        along = written or (unit is not None and columns[-1] in indices[unit].variables())
        runs = tables.runs(across, "1") if along else None
        return _Buffer(name, tuple(indices), down, across, runs)


class Finishing:
    """Writes the Finish of a contraction, whose tables it makes at once.

    It computes in vectors of so many `lanes`, which a row of the tile is a multiple of.
    """

    def __init__(
        self, values: Values, contract: Contract, tables: OffsetTables, lanes: int
    ) -> None:
        assert contract.finish is not None
        self.values, self.tables = values, tables
        self.accesses, self.simd, self.b = values.accesses, values.simd, values.b
        self.lanes = lanes
        self.finish: Finish = contract.finish
        self.dtype: DType = contract.value.dtype

        def seen(name: str, indices: Sequence[RankExpr], written: bool = False) -> _Buffer:
            return _Buffer.of(values, name, indices, contract, tables, written)

        self.target = seen(self.finish.buffer, self.finish.indices, True)
        self.read = {load: seen(load.buffer, _affine(load)) for load in loads_of(self.finish.value)}
        self.firsts: dict[int, str] = {}
        self.seen: Callable[[Vec], None] | None = None  # told what is computed

    def locate(self, around: Mapping[str, OpenLoop]) -> None:
        """Finds the first element of each buffer at the coordinates of these loops."""
        self.firsts = {
            id(found): self.tables.first(found.name, found.indices, around)
            for found in (self.target, *self.read.values())
        }

    def place(self, load: Load, row: str) -> str:
        """Where what is read lies that is the same for all columns of a row."""
        found = self.read[load]
        first = self.firsts[id(found)]
        return first if found.down is None else self.b.gep(first, found.down.at(self.b, row))

    def fetch(self, width: int, left: tuple[str, str], rows: tuple[str, str]) -> None:
        """Asks for the lines that finishing a tile, so wide if it is whole, will meet.

        What is the same for all rows or columns is near, and what is gathered may be anywhere.
        """
        b = self.b
        places: list[tuple[str, Table, bool]] = []
        for found in (self.target, *self.read.values()):
            if found.down is None or found.across is None or found.runs is None:
                continue
            step = max(1, LINE // self.accesses.buffers[found.name].dtype.itemsize)
            for number in (*range(0, width, step), width - 1):
                at = b.minimum(b.add(left[0], str(number)), b.sub(b.add(*left), "1"))
                start = b.gep(self.firsts[id(found)], found.across.at(b, at))
                places.append((start, found.down, found is self.target))
        line = b.begin_loop(rows[1])
        number = b.add(rows[0], line.counter)
        for start, down, write in places:
            self.simd.fetch(b.gep(start, down.at(b, number)), write)
        b.end_loop(line)

    def write(self, tile: str, width: int, left: tuple[str, str], rows: tuple[str, str]) -> None:
        """Finishes a tile; `left` and `rows` are where it begins, and how many there are."""
        b = self.b
        run = b.begin_loop(left[1])
        begin = b.add(left[0], run.counter)
        limits = [f.runs.at(b, begin) for f in (self.target, *self.read.values()) if f.runs]
        count = b.minimum(str(self.lanes), b.sub(left[1], run.counter), *limits)
        here = b.gep(tile, b.mul(run.counter, str(self.dtype.itemsize)))
        if self.simd.bits == 512:
            self._lines(here, width, begin, rows, count)
        else:
            # Masks cost much.
            full = b.compare("eq", count, str(self.lanes))
            b.begin_arm()
            self._lines(here, width, begin, rows, None)
            then = b.end_arm()
            b.begin_arm()
            self._lines(here, width, begin, rows, count)
            b.branch(full, then, b.end_arm(), ())
        run.step = count
        b.end_loop(run)

    def _lines(
        self, tile: str, width: int, begin: str, rows: tuple[str, str], count: str | None
    ) -> None:
        """So many columns of all rows."""
        b = self.b
        corners = {id(f): self._corner(f, begin) for f in (self.target, *self.read.values())}
        line = b.begin_loop(rows[1])
        number = b.add(rows[0], line.counter)

        def place(found: _Buffer) -> str:
            corner = corners[id(found)]
            return corner if found.down is None else b.gep(corner, found.down.at(b, number))

        known: dict[Value, Vec] = {
            load: self._load(load, f, place(f), begin, count) for load, f in self.read.items()
        }
        here = b.gep(tile, b.offset(line, str(width * self.dtype.itemsize)))
        total = Register(TOTAL, self.dtype)
        known[total] = self.simd.load(Place(here, 1, b.depth), self.dtype, self.lanes)
        value = self.simd.splat(compute(self.values, self.finish.value, known), self.lanes)
        if self.seen is not None:
            self.seen(value)
        target = place(self.target)
        if self.finish.op is not None:
            old = self.simd.load(Place(target, 1, b.depth), value.dtype, self.lanes, count)
            value = self.values.arithmetic.apply(self.finish.op, (old, value))
        self.simd.store(Place(target, 1), value, count)
        b.end_loop(line)

    def _corner(self, found: _Buffer, begin: str) -> str:
        """Where a buffer has the first of some columns; of one that is gathered, the first."""
        first = self.firsts[id(found)]
        if found.across is None or found.runs is None:
            return first
        return self.b.gep(first, found.across.at(self.b, begin))

    def _load(self, load: Load, found: _Buffer, pointer: str, begin: str, count: str | None) -> Vec:
        """What is read of a buffer along some columns."""
        b, simd = self.b, self.simd
        if found.across is None:
            return simd.load(Place(pointer, 1, b.guard), load.dtype, 1)
        if found.runs is not None:
            return simd.load(Place(pointer, 1, b.guard), load.dtype, self.lanes, count)
        mask = None if count is None else simd.prefix(count, self.lanes)
        offsets = self._offsets(found.across, begin)
        return simd.gather(Place(pointer, 1, b.guard), offsets, load.dtype, self.lanes, mask)

    def _offsets(self, across: Table, begin: str) -> str:
        """How far the columns from `begin` on are from the first, in the lanes."""
        b, type = self.b, typed("i64", self.lanes)
        if across.stride is None:
            place = b.gep(across.start, b.mul(begin, "8"))
            return b.here(f"load {type}, ptr {place}, align 1")
        return self.accesses.plus_lanes(b.mul(begin, across.stride), across.stride, self.lanes)


def _affine(load: Load) -> list[RankExpr]:
    return [index for index in load.indices if isinstance(index, RankExpr)]
