"""Stores that go past the caches: of results that no cache holds, and that are not read soon.

A line of the caches is written so by stores of all of it. Rows that are long are written up to
their first whole line by way of the caches; those that are not, one way or the other as they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from ...ir.loop_nodes import Loop, LoopNest, Past, Statement, Store, walk
from ...ir.loops import Buffer
from ...ir.ranks import RankExpr
from .access import Accesses

#: Bytes of a line of the caches; and so many times as large is what goes past them though vectors
#: lie across lines: an f32 softmax of 4 MB takes 1.5 ms so, 0.5 by way of the caches, and of 64 MB
#: 12 for 18.
_LINE, _FAR = 64, 8

_Body: TypeAlias = tuple[Statement, ...]


class PastWriter:
    """Writes Past, its body by `block`, which knows of the loops around.

    `branch` writes one of two arms, as a test says; `length` is how long a loop is.
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

    def write(self, statement: Past) -> None:
        """The body twice: with stores past the caches, and with others."""
        match statement.body:
            case (LoopNest((*around, block, tile), body),) if statement.by_lines:
                if statement is self._row:
                    self._in_row(statement, block, tile, body)
                    return
                self._row = replace(statement, body=(LoopNest((block, tile), body),))
                if around:
                    self._block((LoopNest(tuple(around), (self._row,)),))
                else:
                    self._in_row(statement, block, tile, body)
                self.b.do("fence seq_cst")
            case _:
                self._as_rows_lie(statement)

    def _in_row(self, statement: Past, block: Loop, tile: Loop, body: _Body) -> None:
        """A row up to the first line of the caches that is all of it, or to its end; and the rest,
        past the caches.
        """
        b, accesses = self.b, self.accesses
        buffer = self._buffer(statement)
        itemsize = buffer.dtype.itemsize
        (store,) = (s for s in walk(body) if isinstance(s, Store) and s.buffer == buffer.name)
        first = tuple(i.substitute({tile.variable: RankExpr()}) for i in store.indices)
        lies = accesses.address(buffer.name, first)
        whole = b.compare("eq", b.pure(f"and i64 {lies}, {itemsize - 1}"), "0")
        fits = b.both(b.compare("sge", self._bytes_of(buffer), str(statement.bytes)), whole)
        before = b.pure(f"and i64 {b.sub('0', lies)}, {_LINE - 1}")
        length = self._length(block)
        some = b.minimum(b.pure(f"udiv i64 {before}, {itemsize}"), length)
        name = f"{buffer.name}'line"
        accesses.resize(name, b.pure(f"select i1 {fits}, i64 {some}, i64 {length}"))
        line = RankExpr.of_size(name)
        short = (replace(loop, bounds=(*loop.bounds, line)) for loop in (block, tile))
        self._block((LoopNest(tuple(short), body),))
        accesses.past = buffer.name, _LINE
        self._block((LoopNest((replace(block, start=line), tile), body),))
        accesses.past = None

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
            b.do("fence seq_cst")

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
