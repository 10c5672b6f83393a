"""An operand's block whose elements are computed while they are packed: a contraction's prologue.

What is read must be consecutive where the block is: along the depth in lines, else along the
operand's own variables. Where something is not, so many elements fewer are made at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.loop_nodes import Load, Value, loads_of
from ...ir.ranks import RankExpr
from .builder import OpenLoop
from .compute import compute
from .offsets import OffsetTables, Table
from .operand import Operand
from .packing import Packing
from .simd import Place, Vec
from .values import Values


@dataclass(frozen=True, slots=True)
class _Read:
    """What is read of a buffer: its tables; none where it is the same for all coordinates."""

    own: Table | None
    along: Table | None
    runs: Table | None
    indices: tuple[RankExpr, ...]


class Forming(Packing):
    """Packs the blocks of an operand that is computed from others."""

    def __init__(
        self, values: Values, operand: Operand, depth: Sequence[str], tables: OffsetTables
    ) -> None:
        super().__init__(values, operand, "")
        self._values = values
        self._tables = tables
        self._reads = {
            load: self._read(load, depth, tables) for load in loads_of(operand.packed.value)
        }
        self._firsts: dict[Load, str] = {}

    def _read(self, load: Load, depth: Sequence[str], tables: OffsetTables) -> _Read:
        indices = tuple(index for index in load.indices if isinstance(index, RankExpr))
        used = {v for index in indices for v in index.variables()}
        own = self.operand.packed.variables
        mine = tables.add(load.buffer, indices, own) if used & set(own) else None
        along = tables.add(load.buffer, indices, depth) if used & set(depth) else None
        vector = along if self.operand.mode == "lines" else mine
        runs = None if vector is None else tables.runs(vector, "1")
        return _Read(mine, along, runs, indices)

    def locate(self, around: Mapping[str, OpenLoop]) -> None:
        """Finds the first element of each buffer at the coordinates of these loops."""
        if self.operand.lies != "false":
            self.source = self.operand.first(around)
        self._firsts = {
            load: self._tables.first(load.buffer, read.indices, around)
            for load, read in self._reads.items()
        }

    def _copy(self) -> None:
        if self.operand.mode == "lines" and self.operand.lies != "false":
            self._branch(self.operand.lies, lambda: None, self._formed_lines)
        elif self.operand.mode == "lines":
            self._formed_lines()
        else:
            self._zeros()
            self._formed_tiles()

    def _formed_lines(self) -> None:
        """Line after line, in whole vectors where a run is long; beyond the last, that again."""
        b, tile, lanes = self.b, self.operand.tile, str(self.lanes)
        distance = str(self.operand.lane * self._step)
        with self._loop(b.multiple(self.count, tile)) as row:
            own = b.add(self.first, b.minimum(row.counter, b.sub(self.count, "1")))
            line = b.gep(self.target, b.offset(row, distance))
            with self._loop(self.depth) as step:
                along = b.add(self.begin, step.counter)
                count = self._run_from(along, b.sub(self.depth, step.counter))
                whole = b.pure(f"and i64 {count}, {-self.lanes}")
                place = b.gep(line, b.mul(step.counter, str(self._step)))

                def vectors() -> None:
                    with self._loop(whole, lanes) as loop:
                        value = self._formed(own, b.add(along, loop.counter), None)
                        there = b.gep(place, b.offset(loop, str(self._step)))
                        self.simd.store(Place(there, 1), value)

                def rest() -> None:
                    self.simd.store(Place(place, 1), self._formed(own, along, count), count)

                long = b.compare("sge", count, lanes)
                self._branch(long, vectors, rest)
                step.step = b.pure(f"select i1 {long}, i64 {whole}, i64 {count}")

    def _formed_tiles(self) -> None:
        """As many own coordinates as are together in a tile, step after step of the depth."""
        b, tile = self.b, str(self.operand.tile)
        with self._loop(self.count) as own:
            number = b.add(self.first, own.counter)
            left = b.sub(tile, b.pure(f"urem i64 {own.counter}, {tile}"))
            left = b.minimum(b.sub(self.count, own.counter), left, str(self.lanes))
            count = self._run_from(number, left)
            place = self._to(own.counter)
            with self._loop(self.depth) as step:
                value = self._formed(number, b.add(self.begin, step.counter), count)
                there = b.gep(place, b.offset(step, str(self._row)))
                self.simd.store(Place(there, 1), value, count)
            own.step = count

    def _run_from(self, number: str, left: str) -> str:
        """How many elements from a number on, at most those left, are together in all buffers."""
        runs = [read.runs.at(self.b, number) for read in self._reads.values() if read.runs]
        return self.b.minimum(left, *runs)

    def _formed(self, own: str, along: str, count: str | None) -> Vec:
        b = self.b
        known: dict[Value, Vec] = {}
        for load, read in self._reads.items():
            pointer = self._firsts[load]
            for table, number in ((read.own, own), (read.along, along)):
                pointer = pointer if table is None else b.gep(pointer, table.at(b, number))
            # What all steps of the depth have in common is read once, and what follows from that.
            floor = b.depth_of(own) if read.along is None else b.depth
            place = Place(pointer, 1, floor)
            lanes, most = (1, None) if read.runs is None else (self.lanes, count)
            known[load] = self.simd.load(place, load.dtype, lanes, most)
        value = compute(self._values, self.operand.packed.value, known)
        return self.simd.splat(value, self.lanes)
