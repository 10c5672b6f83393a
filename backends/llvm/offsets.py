"""Tables that tell what joined variables mean: the offset of each coordinate, and runs of them.

The coordinates of a list of variables, the last one fastest, are numbered; a table has the offset
in bytes of each number in one buffer. Where the code moves vectors it must know how many numbers
from one on are consecutive in memory: a second table has that, up to 255. One variable alone needs
no table: its stride tells both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.ranks import RankExpr
from .access import Accesses
from .builder import Builder, OpenLoop


@dataclass(frozen=True, slots=True)
class Table:
    """The offsets of a buffer along joined variables, or the lengths of runs of them."""

    start: str  # a pointer
    count: str
    step: int  # the itemsize of the buffer
    type: str = "i64"
    stride: str | None = None  # of the one variable, in bytes: nothing is stored

    def at(self, b: Builder, number: str) -> str:
        """The entry of a number, read here."""
        if self.stride is not None and self.type == "i64":
            return b.mul(number, self.stride)
        if self.stride is not None:
            consecutive = b.compare("eq", self.stride, str(self.step))
            return b.pure(f"select i1 {consecutive}, i64 {b.sub(self.count, number)}, i64 1")
        place = b.gep(self.start, b.mul(number, "8" if self.type == "i64" else "1"))
        value = b.here(f"load {self.type}, ptr {place}, align 1")
        return value if self.type == "i64" else b.here(f"zext i8 {value} to i64")


class OffsetTables:
    """Writes tables into two scratch buffers, one after another."""

    def __init__(self, accesses: Accesses, offsets: str, runs: str) -> None:
        self.accesses, self.b = accesses, accesses.b
        self._next = {"i64": accesses.base(offsets), "i8": accesses.base(runs)}

    def count(self, variables: Sequence[str]) -> str:
        """How many coordinates there are."""
        total = "1"
        for name in variables:
            total = self.b.mul(total, self.accesses.size(name.upper()))
        return total

    def at(self, table: Table, number: str) -> str:
        """The entry of a number, read here."""
        return table.at(self.b, number)

    def steps(self, buffer: str, indices: Sequence[RankExpr]) -> tuple[str, dict[str, str]]:
        """How far the first element is from the buffer's, and each variable's stride, in bytes."""
        b, first, strides = self.b, "0", dict[str, str]()
        for axis, index in enumerate(indices):
            stride = self.accesses.stride(buffer, axis)
            first = b.add(first, b.mul(stride, str(index.offset)))
            for term in index.terms:
                factor = b.mul(stride, str(term.coefficient))
                for rank in term.sizes:
                    factor = b.mul(factor, self.accesses.size(rank))
                if term.variable is None:
                    first = b.add(first, factor)
                else:
                    strides[term.variable] = b.add(strides.get(term.variable, "0"), factor)
        return first, strides

    def first(
        self, buffer: str, indices: Sequence[RankExpr], around: Mapping[str, OpenLoop]
    ) -> str:
        """The address of the first element at the coordinates of these loops."""
        offset, strides = self.steps(buffer, indices)
        pointer = self.b.gep(self.accesses.base(buffer), offset)
        for name, loop in around.items():
            pointer = self.b.gep(pointer, self.b.offset(loop, strides.get(name, "0")))
        return pointer

    def add(self, buffer: str, indices: Sequence[RankExpr], variables: Sequence[str]) -> Table:
        """The offsets of a buffer along joined variables."""
        b = self.b
        _, strides = self.steps(buffer, indices)
        itemsize = self.accesses.buffers[buffer].dtype.itemsize
        if len(variables) < 2:
            stride = strides.get(variables[0], "0") if variables else "0"
            return Table("", self.count(variables), itemsize, stride=stride)
        loops = [b.begin_loop(self.accesses.size(name.upper())) for name in variables]
        offset, place = "0", self._next["i64"]
        for number, (name, loop) in enumerate(zip(variables, loops, strict=True)):
            offset = b.add(offset, b.offset(loop, strides.get(name, "0")))
            place = b.gep(place, b.offset(loop, b.mul("8", self.count(variables[number + 1 :]))))
        b.do(f"store i64 {offset}, ptr {place}, align 8")
        for loop in reversed(loops):
            b.end_loop(loop)
        return self._placed("i64", self.count(variables), itemsize)

    def runs(self, table: Table, distance: str) -> Table:
        """How many numbers, each so far from the one before it, are consecutive in memory."""
        if table.stride is not None:
            return replace(table, type="i8")
        b, start = self.b, self._next["i8"]
        loop = b.begin_loop(table.count)
        number = b.sub(b.sub(table.count, "1"), loop.counter)
        following = b.add(number, distance)
        there = b.compare("slt", following, table.count)
        safe = b.pure(f"select i1 {there}, i64 {following}, i64 {number}")
        gap = b.sub(table.at(b, safe), table.at(b, number))
        joins = b.pure(f"and i1 {there}, {b.compare('eq', gap, str(table.step))}")
        before = b.here(f"load i8, ptr {b.gep(start, safe)}, align 1")
        longer = b.pure(f"call i8 @llvm.uadd.sat.i8(i8 {before}, i8 1)")
        run = b.pure(f"select i1 {joins}, i8 {longer}, i8 1")
        b.do(f"store i8 {run}, ptr {b.gep(start, number)}, align 1")
        b.end_loop(loop)
        return self._placed("i8", table.count, table.step)

    def _placed(self, type: str, count: str, step: int) -> Table:
        found = Table(self._next[type], count, step, type)
        size = self.b.mul(count, "8") if type == "i64" else count
        self._next[type] = self.b.gep(self._next[type], size)
        return found
