"""Stores that go past the caches: of results that no cache holds, and that are not read soon.

A line of the caches is written so by stores of all of it. Rows that are long are written up to
their first whole line by way of the caches; those that are not, one way or the other as they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from ...ir.dtypes import U8
from ...ir.loop_nodes import LANES, Loop, LoopNest, Past, Statement, Store, walk
from ...ir.loops import Buffer, Nest
from ...ir.ranks import RankExpr
from .access import Accesses
from .simd import Vec

#: Bytes of a line of the caches; and so many times as large is what goes past them though vectors
#: lie across lines: an f32 softmax of 4 MB takes 1.5 ms so, 0.5 by way of the caches, and of 64 MB
#: 12 for 18.
_LINE, _FAR = 64, 8

_Body: TypeAlias = tuple[Statement, ...]


def goes_past(nests: Sequence[Nest]) -> bool:
    """Whether any of the nests has Past."""
    return any(isinstance(s, Past) for nest in nests for s in walk(nest.body))


class PastWriter:
    """Writes Past, its body by `block`, which knows of the loops around.

    `branch` writes one of two arms, as a test says; `length` is how long a loop is.
    Other threads may see what is written only after a fence, which is for the caller to write.
    """

    def __init__(
        self,
        accesses: Accesses,
        block: Callable[[_Body], None],
        branch: Callable[[str, Sequence[Callable[[], None]]], None],
        length: Callable[[Loop], str],
    ) -> None:
        self.accesses, self.simd, self.b = accesses, accesses.simd, accesses.b
        self._block, self._branch, self._length = block, branch, length
        self._row: Past | None = None  # what is written a row at a time, in the loops over rows
        self._line = self._end = ""  # what is held back of a line, and where its end belongs, or 0

    def write(self, statement: Past) -> None:
        """The body twice: with stores past the caches, and with others."""
        match statement.body:
            case (LoopNest((*around, block, tile), body),) if statement.by_lines:
                if statement is self._row:
                    self._in_row(statement, block, tile, body)
                    return
                self._row = replace(statement, body=(LoopNest((block, tile), body),))
                self._line = self.b.room(f"[{_LINE} x i8]", _LINE)
                self._end = self.b.room("i64", 8)
                self._hold("0")
                if around:
                    self._block((LoopNest(tuple(around), (self._row,)),))
                else:
                    self._in_row(statement, block, tile, body)
                self._let_go(statement, "0")
            case _:
                self._as_rows_lie(statement)

    def _in_row(self, statement: Past, block: Loop, tile: Loop, body: _Body) -> None:
        """A row by lines, if it lies so that it can be."""
        b, accesses = self.b, self.accesses
        buffer = self._buffer(statement)
        itemsize = buffer.dtype.itemsize
        (store,) = (s for s in walk(body) if isinstance(s, Store) and s.buffer == buffer.name)
        first = tuple(i.substitute({tile.variable: RankExpr()}) for i in store.indices)
        lies = accesses.address(buffer.name, first)
        fits = b.compare("eq", b.pure(f"and i64 {lies}, {itemsize - 1}"), "0")
        fits = b.both(fits, b.compare("sge", self._bytes_of(buffer), str(statement.bytes)))
        length = self._length(block)
        fits = b.both(fits, b.compare("sge", b.mul(length, str(itemsize)), str(_LINE)))
        if self.accesses.lanes * itemsize > _LINE:
            fits = "false"
        row = LoopNest((block, tile), body)
        by_lines = partial(self._by_lines, statement, row, lies, length)
        self._branch(fits, [by_lines, lambda: self._block((row,))])

    def _by_lines(self, statement: Past, row: LoopNest, lies: str, length: str) -> None:
        """A row that lies at `lies`: its part of the line that the row before begins, and whole
        lines; the rest is held back.
        """
        b, buffer = self.b, self._buffer(statement)
        itemsize = str(buffer.dtype.itemsize)
        before = b.pure(f"and i64 {b.sub('0', lies)}, {_LINE - 1}")
        first = b.pure(f"udiv i64 {before}, {itemsize}")
        begins = b.add(lies, before)  # the first line that is all of the row
        end = b.add(lies, b.mul(length, itemsize))
        beyond = b.pure(f"and i64 {end}, {_LINE - 1}")
        whole = b.sub(length, b.pure(f"udiv i64 {beyond}, {itemsize}"))
        self._let_go(statement, lies)
        joins = b.compare("eq", b.here(f"load i64, ptr {self._end}, align 8"), lies)
        base = self.accesses.base(buffer.name)
        origin = b.pure(f"ptrtoint ptr {base} to i64")

        def aside(line: str) -> str:
            """Where the buffer would begin, were the line that lies there the one held back."""
            return b.gep(self._line, b.sub(origin, line))

        begun, last = b.sub(begins, str(_LINE)), b.sub(end, beyond)  # lines
        head = b.pure(f"select i1 {joins}, ptr {aside(begun)}, ptr {base}")
        self._part(row, buffer.name, "0", first, head)
        joined = b.gep(base, b.sub(begun, origin))
        self._branch(joins, [lambda: self._write_line(joined), lambda: None])
        self.accesses.past = buffer.name, _LINE
        self._part(row, buffer.name, first, whole)
        self.accesses.past = None
        self._part(row, buffer.name, whole, length, aside(last))
        some = b.compare("ne", beyond, "0")
        self._hold(b.pure(f"select i1 {some}, i64 {end}, i64 0"))

    def _part(self, row: LoopNest, name: str, start: str, end: str, base: str | None = None) -> None:
        """A row from one coordinate to another, a vector at a time, as if the buffer began at
        `base`; or that are whole lines, past the caches.
        """
        accesses = self.accesses
        first, last = (RankExpr.of_size(f"{name}'{which}") for which in ("first", "last"))
        accesses.resize(f"{name}'first", start)
        accesses.resize(f"{name}'last", end)
        block, tile = row.loops
        lanes = RankExpr.of_size(LANES)
        block = replace(block, start=first, bounds=(*block.bounds, last), step=lanes)
        stop = RankExpr((*tile.start.terms, *lanes.terms), tile.start.offset)
        bounds = () if base is None else (*tile.bounds, last)
        tile = replace(tile, stop=stop, bounds=bounds)
        if base is not None:
            accesses.moved[name] = base
        self._block((LoopNest((block, tile), row.body),))
        accesses.moved.pop(name, None)

    def _hold(self, end: str) -> None:
        self.b.do(f"store i64 {end}, ptr {self._end}, align 8")

    def _write_line(self, place: str) -> None:
        """The line that is held back, all of which is there now."""
        value = self.b.here(f"load <{_LINE} x i8>, ptr {self._line}, align {_LINE}")
        self.simd.store_past(place, Vec(U8, (value,), _LINE))

    def _let_go(self, statement: Past, goes_on: str) -> None:
        """What is held back, unless it is followed by what lies at `goes_on`."""
        b, buffer = self.b, self._buffer(statement)
        end = b.here(f"load i64, ptr {self._end}, align 8")
        stale = b.both(b.compare("ne", end, "0"), b.compare("ne", end, goes_on))

        def write() -> None:
            base, itemsize = self.accesses.base(buffer.name), buffer.dtype.itemsize
            beyond = b.pure(f"and i64 {end}, {_LINE - 1}")
            line = b.sub(b.sub(end, beyond), b.pure(f"ptrtoint ptr {base} to i64"))
            place, type = b.gep(base, line), f"i{8 * itemsize}"
            loop = b.begin_loop(beyond, str(itemsize), once=True)
            source, target = (b.gep(pointer, loop.counter) for pointer in (self._line, place))
            value = b.here(f"load {type}, ptr {source}, align {itemsize}")
            b.do(f"store {type} {value}, ptr {target}, align {itemsize}")
            b.end_loop(loop)

        self._branch(stale, [write, lambda: None])

    def _as_rows_lie(self, statement: Past) -> None:
        """All of a body one way or the other."""
        b, accesses = self.b, self.accesses
        buffer = self._buffer(statement)
        length = self._bytes_of(buffer)
        lies = b.pure(f"ptrtoint ptr {accesses.base(buffer.name)} to i64")
        for axis in range(len(buffer.extents)):
            if axis != buffer.unit:
                lies = b.pure(f"or i64 {lies}, {accesses.stride(buffer.name, axis)}")

        def fit(bytes_: int, unit: int) -> str:
            askew = b.pure(f"and i64 {lies}, {unit - 1}")
            large = b.compare("sge", length, str(bytes_))
            return b.both(large, b.compare("eq", askew, "0"))

        def past() -> None:
            accesses.past = buffer.name, self.simd.LEAST_PAST
            self._block(statement.body)
            accesses.past = None

        # Vectors that lie across lines leave some of these half written for a while.
        whole = fit(statement.bytes, _LINE)
        fits = b.pure(f"or i1 {whole}, {fit(_FAR * statement.bytes, self.simd.LEAST_PAST)}")
        self._branch(fits, [past, lambda: self._block(statement.body)])

    def _buffer(self, statement: Past) -> Buffer:
        buffer = self.accesses.buffers[statement.buffer]
        assert isinstance(buffer, Buffer)
        return buffer

    def _bytes_of(self, buffer: Buffer) -> str:
        length = str(buffer.dtype.itemsize)
        for extent in buffer.extents:
            length = self.b.mul(length, self.accesses.extent(extent))
        return length
