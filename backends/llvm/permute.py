"""Copies of a whole tensor: row by row, or, where its ranks change places, in square blocks.

A block is as many rows as make whole lines of the cache, so that each of its columns is lines of
the output. Blocks are transposed in registers. If the output is large and its lines lie as
those of the cache do, they are written past the caches: what is not read again need not push out
what is, and a line that is written whole need not be read first. Reads go in the order of memory,
which the processor's prefetching counts on; writes past the caches may come in any order.

Lines lie askew where columns are no multiple of a line apart. Then large blocks are transposed into
a buffer that stays in the level-2 cache, and go on from there column by column; or all at once if
the columns are short and follow one another. Short rows are brought together in it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ...ir.dtypes import DTYPES, DType
from ...ir.loop_nodes import Permute
from ...ir.ranks import RankExpr
from .builder import OpenLoop
from .simd import LINE, Place
from .transpose import Transposition
from .values import Values

#: How many lines are moved at a time; what is shorter does not go past the caches.
_LINES = 4

#: So many columns at a time, if both sides stay in the caches: it was measured to pay. It may be
#: that the lines written in turn are then on as few pages as a processor keeps at hand for stores.
_SLAB = 64

#: Rows and columns that are shorter, in bytes, are not worth going past the caches one by one.
_SHORT = 1024


@dataclass(frozen=True, slots=True)
class _Side:
    """Where an array stands in the loops: a pointer, and the strides of its rows and columns."""

    pointer: str
    rows: str
    columns: str


class Permutation:
    """Writes one Permute."""

    def __init__(self, values: Values, statement: Permute) -> None:
        self.statement = statement
        self.accesses, self.simd, self.b = values.accesses, values.simd, values.b
        self.dtype: DType = DTYPES[f"i{8 * statement.value.dtype.itemsize}"]  # it is not looked at
        self.step = self.dtype.itemsize
        self.side = max(16, LINE // self.step)  # rows of a block
        self.lanes = min(self.side, self.simd.bits // self.dtype.bits)  # of a column, in a vector
        self.width = min(self.lanes, 16)  # columns of a block
        self._transpose = Transposition(self.dtype, self.side, self.lanes, self.width)

    def write(self) -> None:
        """The statement: past the caches, by way of the buffer, or as it comes."""
        statement, b = self.statement, self.b
        indices = [index for index in statement.value.indices if isinstance(index, RankExpr)]
        self.source, self.inside = self._laid(statement.value.buffer, indices)
        self.target, self.outside = self._laid(statement.buffer, statement.indices)
        self.sizes = {name: self.accesses.size(name.upper()) for name in statement.loops}
        self.all = "1"
        for extent in self.sizes.values():
            self.all = b.mul(self.all, extent)
        size = b.mul(self.all, str(self.step))
        large = b.compare("sge", size, str(statement.streamed))
        if statement.rows == statement.columns:
            short = b.pure(f"and i1 {large}, {self._short_run(statement.wraps)}")
            self._branch(short, self._gathered, lambda: self._copied(large))
        else:
            self.tiles = self._tiles()
            even = self._even()
            dense = self._short_run(statement.columns)
            aside = b.pure(f"or i1 {dense}, {b.pure(f'xor i1 {even}, true')}")
            aside = b.pure(f"and i1 {large}, {aside}")
            self._branch(aside, self._staged, lambda: self._transposed(even, large))
        self._unless(b.pure(f"xor i1 {large}, true"), lambda: b.do("fence seq_cst"))

    def _short_run(self, name: str | None) -> str:
        """Whether rows of the output are short, and from one of `name` to the next is one row."""
        b, statement = self.b, self.statement
        if name is None:
            return "false"
        size = b.mul(self.sizes[statement.rows], str(self.step))
        follow = b.compare("eq", size, self.outside[name])
        return b.pure(f"and i1 {follow}, {b.compare('slt', size, str(_SHORT))}")

    def _laid(self, buffer: str, indices: Sequence[RankExpr]) -> tuple[str, dict[str, str]]:
        """Where a buffer's first element of these is, and the strides of their variables."""
        b, first = self.b, self.accesses.base(buffer)
        strides: dict[str, str] = {}
        for axis, index in enumerate(indices):
            stride = self.accesses.stride(buffer, axis)
            fixed = RankExpr(tuple(t for t in index.terms if t.variable is None), index.offset)
            first = b.gep(first, b.mul(self.accesses.number(fixed), stride))
            strides[str(index.steps_by)] = stride
        return first, strides

    # ---- loops and branches

    @contextmanager
    def _loop(self, length: str, step: str = "1") -> Generator[OpenLoop, None, None]:
        loop = self.b.begin_loop(length, step)
        yield loop
        self.b.end_loop(loop)

    def _branch(self, test: str, then: Callable[[], None], other: Callable[[], None]) -> None:
        b = self.b
        b.begin_arm()
        then()
        arm = b.end_arm()
        b.begin_arm()
        other()
        b.branch(test, arm, b.end_arm(), ())

    def _unless(self, test: str, write: Callable[[], None]) -> None:
        self._branch(test, lambda: None, write)

    def _nested(
        self,
        names: Sequence[str],
        first: str,
        step: str,
        body: Callable[[_Side, _Side, str, dict[str, OpenLoop]], None],
    ) -> None:
        """The loops over these variables; that over the rows goes from `first` on, in steps.

        The body gets both sides, where the rows are, and the other loops.
        """
        statement, b = self.statement, self.b
        source, target = self.source, self.target
        none = b.compare("eq", self.all, "0")
        opened: dict[str, OpenLoop] = {}
        row = first
        for name in names:
            length = self.sizes[name]
            if name == statement.rows:
                length = b.sub(length, first)
            if not opened:  # however many there are, nothing is to be done if others are none
                length = b.pure(f"select i1 {none}, i64 0, i64 {length}")
            if name == statement.rows:
                loop = opened[name] = b.begin_loop(length, step)
                row = b.add(first, loop.counter)
            else:
                loop = opened[name] = b.begin_loop(length)
                source = b.gep(source, b.offset(loop, self.inside[name]))
                target = b.gep(target, b.offset(loop, self.outside[name]))
        rows, columns = statement.rows, statement.columns
        given = _Side(source, self.inside[rows], self.inside[columns])
        made = _Side(target, self.outside[rows], self.outside[columns])
        body(given, made, row, opened)
        for loop in reversed(opened.values()):
            b.end_loop(loop)

    # ---- rows that are rows in the output too

    def _copied(self, past: str) -> None:
        """Row after row; past the caches if the i1 `past` holds."""
        size = self.b.mul(self.sizes[self.statement.columns], str(self.step))

        def row(source: _Side, target: _Side, _: str, __: dict[str, OpenLoop]) -> None:
            self._move(target.pointer, source.pointer, size, past)

        self._nested(self.statement.loops[:-1], "0", "1", row)

    def _gathered(self) -> None:
        """Row after row to the buffer, many at a time from there."""
        statement, b = self.statement, self.b
        if statement.wraps is None:
            return
        size = b.mul(self.sizes[statement.columns], str(self.step))
        room = str(statement.wide * self.step)
        most = b.maximum(b.pure(f"udiv i64 {room}, {b.maximum(size, '1')}"), "1")
        buffer = self.accesses.base(statement.staged)
        inner, count = self.inside[statement.wraps], self.sizes[statement.wraps]

        def rows(source: _Side, target: _Side, _: str, __: dict[str, OpenLoop]) -> None:
            with self._loop(count, most) as part:
                here = b.gep(source.pointer, b.offset(part, inner))
                left = b.minimum(most, b.sub(count, part.counter))
                with self._loop(left) as row:
                    self._copy(
                        b.gep(buffer, b.offset(row, size)), b.gep(here, b.offset(row, inner)), size
                    )
                there = b.gep(target.pointer, b.offset(part, size))
                self._move(there, buffer, b.mul(left, size), "true")

        self._nested(statement.loops[:-2], "0", "1", rows)

    def _move(self, target: str, source: str, size: str, past: str) -> None:
        """Copies so many bytes; past the caches if the i1 `past` holds and they are not few."""
        b = self.b
        long = b.pure(f"and i1 {past}, {b.compare('sge', size, str(LINE * _LINES))}")
        self._branch(
            long,
            lambda: self._move_past(target, source, size),
            lambda: self._copy(target, source, size),
        )

    def _copy(self, target: str, source: str, size: str) -> None:
        arguments = (("ptr", target), ("ptr", source), ("i64", size), ("i1", "false"))
        self.simd.effect("llvm.memcpy.p0.p0.i64", *arguments)

    def _move_past(self, target: str, source: str, size: str) -> None:
        """Whole lines past the caches; what is before the first and after the last, as it comes."""
        b = self.b
        head = self._askew(target, LINE)
        self._copy(target, source, head)
        target, source, size = b.gep(target, head), b.gep(source, head), b.sub(size, head)
        block = LINE * _LINES
        whole = b.pure(f"and i64 {size}, {-block}")
        dtype = DTYPES["i8"]
        with self._loop(whole, str(block)) as loop:
            here = b.gep(source, b.offset(loop, "1"))
            there = b.gep(target, b.offset(loop, "1"))
            found = [
                self.simd.load(Place(b.gep(here, str(n)), 1, b.depth), dtype, LINE)
                for n in range(0, block, LINE)
            ]
            for n, value in enumerate(found):
                self.simd.store_past(b.gep(there, str(n * LINE)), value)
        self._copy(b.gep(target, whole), b.gep(source, whole), b.sub(size, whole))

    def _askew(self, pointer: str, line: int) -> str:
        """How many bytes there are up to the next line."""
        address = self.b.pure(f"ptrtoint ptr {pointer} to i64")
        return self.b.pure(f"and i64 {self.b.sub('0', address)}, {line - 1}")

    # ---- rows that become columns

    def _even(self) -> str:
        """Whether every column of the output is as far from the next line as the first is."""
        b, statement = self.b, self.statement
        together = self._askew(self.target, self.step)  # 0 if elements lie as such do
        for name in statement.loops:
            if name == statement.rows:
                continue
            apart = b.compare("sgt", self.sizes[name], "1")
            stride = b.pure(f"select i1 {apart}, i64 {self.outside[name]}, i64 0")
            together = b.pure(f"or i64 {together}, {stride}")
        rest = b.pure(f"and i64 {together}, {LINE - 1}")
        enough = b.compare("sge", self.sizes[statement.rows], str(4 * self.side))
        return b.pure(f"and i1 {enough}, {b.compare('eq', rest, '0')}")

    def _transposed(self, even: str, large: str) -> None:
        """Block after block, of whole lines if the i1 `even` holds, past the caches if both do."""
        b, statement, side = self.b, self.statement, str(self.side)
        count = self.sizes[statement.rows]
        past = b.pure(f"and i1 {even}, {large}")
        askew = self._askew(self.target, LINE)
        before = b.sub(b.pure(f"udiv i64 {askew}, {self.step}"), side)
        shifted = b.pure(f"and i1 {even}, {b.compare('sgt', askew, '0')}")
        first = b.pure(f"select i1 {shifted}, i64 {before}, i64 0")
        wraps = self._goes_on(even)
        table = self._table()
        columns = self.sizes[statement.columns]
        slab = b.pure(f"select i1 {large}, i64 {b.maximum(columns, '1')}, i64 {_SLAB}")
        part = b.begin_loop(columns, slab)
        wide = b.minimum(slab, b.sub(columns, part.counter))

        def block(source: _Side, target: _Side, row: str, loops: dict[str, OpenLoop]) -> None:
            begin = b.maximum(row, "0")
            end = b.minimum(b.add(row, side), count)
            jump = "0"
            if statement.wraps is not None:
                # The block goes on where the next coordinate begins, whose first block it is.
                loop = loops[statement.wraps]
                more = b.compare("slt", b.add(loop.counter, "1"), self.sizes[statement.wraps])
                more = b.pure(f"and i1 {wraps}, {more}")
                end = b.pure(f"select i1 {more}, i64 {b.add(row, side)}, i64 {end}")
                done = b.pure(f"and i1 {wraps}, {b.compare('sgt', loop.counter, '0')}")
                begin = b.pure(f"select i1 {done}, i64 {self._or_end(row, end)}, i64 {begin}")
                jump = b.sub(self.inside[statement.wraps], b.mul(count, source.rows))
            with self._loop(side) as each:
                place = self._row(b.add(begin, each.counter), source.rows, count, jump)
                b.do(f"store i64 {place}, ptr {b.gep(table, b.offset(each, '8'))}, align 8")
            here = b.gep(source.pointer, b.offset(part, str(self.step)))
            start = b.gep(target.pointer, b.mul(begin, str(self.step)))
            start = b.gep(start, b.offset(part, target.columns))
            goal = _Side(start, target.rows, target.columns)
            self._blocks(here, table, b.sub(end, begin), goal, wide, past)

        self._nested(statement.loops[:-1], first, side, block)
        b.end_loop(part)

    def _or_end(self, row: str, end: str) -> str:
        """`row`, or, if that is before the first, `end`."""
        before = self.b.compare("slt", row, "0")
        return self.b.pure(f"select i1 {before}, i64 {end}, i64 {row}")

    def _goes_on(self, even: str) -> str:
        """Whether the blocks of one coordinate of `wraps` and those of the next are one run."""
        statement, b = self.statement, self.b
        if statement.wraps is None:
            return "false"
        count = self.sizes[statement.rows]
        follow = b.compare("eq", b.mul(count, str(self.step)), self.outside[statement.wraps])
        rest = b.compare("eq", b.pure(f"urem i64 {count}, {self.side}"), "0")
        return b.pure(f"and i1 {even}, {b.pure(f'and i1 {follow}, {rest}')}")

    def _row(self, number: str, stride: str, count: str, jump: str) -> str:
        """Where a row is in the input; `jump`: what is to be added beyond the last."""
        b = self.b
        place = b.mul(number, stride)
        if jump == "0":
            return place
        beyond = b.compare("sge", number, count)
        return b.add(place, b.pure(f"select i1 {beyond}, i64 {jump}, i64 0"))

    def _table(self) -> str:
        """Room for where each row of a block is."""
        return self.b.room(f"[{self.side} x i64]", 8)

    def _evenly(self, apart: str) -> str:
        """The table of rows so many bytes apart."""
        b, table = self.b, self._table()
        with self._loop(str(self.side)) as row:
            place = b.gep(table, b.offset(row, "8"))
            b.do(f"store i64 {b.mul(row.counter, apart)}, ptr {place}, align 8")
        return table

    def _tiles(self) -> tuple[str, str, str]:
        """Room for a block, the table of its rows, and room for what becomes of it."""
        count = self.side * self.width
        rooms = [self.b.room(f"[{count} x i{self.dtype.bits}]", LINE) for _ in range(2)]
        arguments = (("ptr", rooms[0]), ("i8", "0"), ("i64", str(count * self.step)))
        self.simd.effect("llvm.memset.p0.i64", *arguments, ("i1", "false"))
        return rooms[0], self._evenly(str(self.width * self.step)), rooms[1]

    def _blocks(
        self, source: str, table: str, rows: str, target: _Side, columns: str, past: str
    ) -> None:
        """So many columns of the rows in the table: whole blocks, then what is left, in parts.

        If rows lack, all is in parts.
        """
        b, width = self.b, str(self.width)
        full = b.compare("eq", rows, str(self.side))
        whole = b.pure(f"and i64 {columns}, {-self.width}")
        whole = b.pure(f"select i1 {full}, i64 {whole}, i64 0")
        self._turn(source, table, target.pointer, target.columns, whole, past)
        some = b.compare("sgt", rows, "0")
        rest = b.pure(f"select i1 {some}, i64 {b.sub(columns, whole)}, i64 0")
        with self._loop(rest, width) as loop:
            at = b.add(whole, loop.counter)
            here = b.gep(source, b.mul(at, str(self.step)))
            there = b.gep(target.pointer, b.mul(at, target.columns))
            left = b.minimum(b.sub(columns, at), width)
            self._part(here, table, rows, _Side(there, "", target.columns), left)

    def _turn(self, *arguments: str) -> None:
        """Calls the function that transposes whole blocks."""
        pairs = zip(("ptr", "ptr", "ptr", "i64", "i64", "i1"), arguments, strict=True)
        name = self._transpose.name(self.simd)
        self.b.do(f"call void @{name}({', '.join(f'{type} {value}' for type, value in pairs)})")

    def _part(self, source: str, table: str, rows: str, target: _Side, columns: str) -> None:
        """A block that lacks rows or columns: what it has is read and written, nothing else."""
        b = self.b
        room, lines, turned = self.tiles
        with self._loop(rows) as row:
            place = b.here(f"load i64, ptr {b.gep(table, b.offset(row, '8'))}, align 8")
            here = Place(b.gep(source, place), 1, b.depth)
            found = self.simd.load(here, self.dtype, self.width, columns)
            there = b.gep(room, b.offset(row, str(self.width * self.step)))
            self.simd.store(Place(there, self.step), found)
        length = str(self.side * self.step)
        self._turn(room, lines, turned, length, str(self.width), "false")
        with self._loop(columns) as column:
            for first in range(0, self.side, self.lanes):
                begin = b.gep(turned, b.offset(column, length))
                here = Place(b.gep(begin, str(first * self.step)), self.step, b.depth)
                found = self.simd.load(here, self.dtype, self.lanes)
                there = b.gep(target.pointer, b.offset(column, target.columns))
                there = b.gep(there, str(first * self.step))
                self.simd.store(Place(there, 1), found, b.sub(rows, str(first)))

    # ---- by way of the buffer

    def _staged(self) -> None:
        """Blocks of blocks, transposed into the buffer and copied from there."""
        statement, b = self.statement, self.b
        buffer = self.accesses.base(statement.staged)
        table = self._evenly(self.inside[statement.rows])
        count, columns = self.sizes[statement.rows], self.sizes[statement.columns]
        length = b.mul(count, str(self.step))
        dense = self._short_run(statement.columns)
        dense = b.pure(f"and i1 {dense}, {b.compare('sle', count, str(statement.tall))}")
        apart = b.pure(f"select i1 {dense}, i64 {length}, i64 {statement.line * self.step}")

        def block(source: _Side, target: _Side, row: str, _: dict[str, OpenLoop]) -> None:
            tall = b.minimum(str(statement.tall), b.sub(count, row))
            start = b.gep(source.pointer, b.mul(row, source.rows))
            end = b.gep(target.pointer, b.mul(row, str(self.step)))
            with self._loop(columns, str(statement.wide)) as part:
                wide = b.minimum(str(statement.wide), b.sub(columns, part.counter))
                here = b.gep(start, b.offset(part, str(self.step)))
                with self._loop(tall, str(self.side)) as down:
                    left = b.minimum(b.sub(tall, down.counter), str(self.side))
                    one = b.gep(here, b.offset(down, source.rows))
                    into = _Side(b.gep(buffer, b.offset(down, str(self.step))), "", apart)
                    self._blocks(one, table, left, into, wide, "false")
                there = b.gep(end, b.offset(part, target.columns))
                size = b.mul(tall, str(self.step))

                def each() -> None:
                    with self._loop(wide) as column:
                        line = b.gep(buffer, b.offset(column, apart))
                        goal = b.gep(there, b.offset(column, target.columns))
                        self._move(goal, line, size, "true")

                self._branch(
                    dense, lambda: self._move(there, buffer, b.mul(wide, apart), "true"), each
                )

        self._nested(statement.loops[:-1], "0", str(statement.tall), block)
