"""Stores that go past the caches: of results that no cache holds, and that are not read soon.

A line of the caches is written so by stores of all of it. Of a row that is long the end that is
less than a line is held back, on the stack, until the next row has the rest of that line: a line
that is written in two goes, by way of the caches, is read from memory first, and the stores behind
it wait (softmax of 32768 x 512 f32 then takes half as long again). Rows that are short go one way
or the other as they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from ...ir.dtypes import U8
from ...ir.loop_nodes import LANES, Loop, LoopNest, Past, Statement, Store, walk
from ...ir.loops import Buffer, Nest
from ...ir.ranks import RankExpr
from .access import Accesses
from .simd import Vec

#: Bytes of a line of the caches.
_LINE = 64

#: What goes past the caches though its vectors lie across lines is so many times as large as what
#: does so otherwise: an f32 softmax of 4 MB takes 1.5 ms past them and 0.5 by way of them, one of
#: 64 MB 12 and 18.
_FAR = 8

_Body: TypeAlias = tuple[Statement, ...]


def goes_past(nests: Sequence[Nest]) -> bool:
    """Whether any of the nests has Past."""
    return any(isinstance(s, Past) for nest in nests for s in walk(nest.body))


def _marked(body: _Body, past: Past) -> Iterator[Statement]:
    """The statements, in them the loops along a row, which is stored by lines, as such a Past."""
    for statement in body:
        match statement:
            case LoopNest((*around, block, Loop(kind="vector") as tile), body):
                row: Statement = statement
                if any(isinstance(s, Store) and s.buffer == past.buffer for s in walk(body)):
                    row = replace(past, body=(LoopNest((block, tile), body),))
                    row = LoopNest(tuple(around), (row,)) if around else row
                yield row
            case LoopNest(body=body) | Past(body=body):
                yield replace(statement, body=tuple(_marked(body, past)))
            case _:
                yield statement


@dataclass(frozen=True, slots=True)
class _Held:
    """What is held back of a line, and a number: where its end belongs, or 0."""

    line: str
    end: str


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
        self._rows: dict[str, _Held] = {}  # by buffer, inside what is written by lines

    def write(self, statement: Past) -> None:
        """The body, with stores past the caches; and with others, for where those may not be."""
        name = statement.buffer
        if name in self._rows:
            (row,) = statement.body
            assert isinstance(row, LoopNest)
            self._in_row(statement, row, self._rows[name])
        elif statement.by_lines:
            held = _Held(self.b.room(f"[{_LINE} x i8]", _LINE), self.b.room("i64", 8))
            self._rows[name] = held
            self._hold(held, "0")
            self._block(tuple(_marked(statement.body, statement)))
            self._let_go(statement, held, "0")
            del self._rows[name]
        else:
            self._as_rows_lie(statement)

    def _in_row(self, statement: Past, row: LoopNest, held: _Held) -> None:
        """A row by lines, if it lies so that it can be."""
        b, accesses = self.b, self.accesses
        buffer = self._buffer(statement)
        itemsize = buffer.dtype.itemsize
        if accesses.lanes * itemsize > _LINE:
            self._block((row,))
            return
        block, tile = row.loops
        (store,) = (s for s in walk(row.body) if isinstance(s, Store) and s.buffer == buffer.name)
        first = tuple(i.substitute({tile.variable: RankExpr()}) for i in store.indices)
        lies = accesses.address(buffer.name, first)
        fits = b.compare("eq", b.pure(f"and i64 {lies}, {itemsize - 1}"), "0")
        fits = b.both(fits, b.compare("sge", self._bytes_of(buffer), str(statement.bytes)))
        length = self._length(block)
        fits = b.both(fits, b.compare("sge", b.mul(length, str(itemsize)), str(_LINE)))
        by_lines = partial(self._by_lines, statement, row, held, lies, length)
        self._branch(fits, [by_lines, lambda: self._block((row,))])

    def _by_lines(
        self, statement: Past, row: LoopNest, held: _Held, lies: str, length: str
    ) -> None:
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
        self._let_go(statement, held, lies)
        joins = b.compare("eq", b.here(f"load i64, ptr {held.end}, align 8"), lies)
        base = self.accesses.base(buffer.name)
        origin = b.pure(f"ptrtoint ptr {base} to i64")

        def aside(line: str) -> str:
            """Where the buffer would begin, were the line that lies there the one held back."""
            return b.gep(held.line, b.sub(origin, line))

        begun, last = b.sub(begins, str(_LINE)), b.sub(end, beyond)  # lines
        head = b.pure(f"select i1 {joins}, ptr {aside(begun)}, ptr {base}")
        self._part(row, buffer.name, "0", first, head)
        joined = b.gep(base, b.sub(begun, origin))
        self._branch(joins, [lambda: self._write_line(held, joined), lambda: None])
        self.accesses.past = buffer.name, _LINE
        self._part(row, buffer.name, first, whole)
        self.accesses.past = None
        self._part(row, buffer.name, whole, length, aside(last))
        some = b.compare("ne", beyond, "0")
        self._hold(held, b.pure(f"select i1 {some}, i64 {end}, i64 0"))

    def _part(
        self, row: LoopNest, name: str, start: str, end: str, base: str | None = None
    ) -> None:
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

    def _hold(self, held: _Held, end: str) -> None:
        self.b.do(f"store i64 {end}, ptr {held.end}, align 8")

    def _write_line(self, held: _Held, place: str) -> None:
        """The line that is held back, all of which is there now."""
        value = self.b.here(f"load <{_LINE} x i8>, ptr {held.line}, align {_LINE}")
        self.simd.store_past(place, Vec(U8, (value,), _LINE))

    def _let_go(self, statement: Past, held: _Held, goes_on: str) -> None:
        """What is held back, unless it is followed by what lies at `goes_on`."""
        b, buffer = self.b, self._buffer(statement)
        end = b.here(f"load i64, ptr {held.end}, align 8")
        stale = b.both(b.compare("ne", end, "0"), b.compare("ne", end, goes_on))

        def write() -> None:
            base, itemsize = self.accesses.base(buffer.name), buffer.dtype.itemsize
            beyond = b.pure(f"and i64 {end}, {_LINE - 1}")
            line = b.sub(b.sub(end, beyond), b.pure(f"ptrtoint ptr {base} to i64"))
            place, type = b.gep(base, line), f"i{8 * itemsize}"
            loop = b.begin_loop(beyond, str(itemsize), once=True)
            source, target = (b.gep(pointer, loop.counter) for pointer in (held.line, place))
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
