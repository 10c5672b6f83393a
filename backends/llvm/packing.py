"""An operand's block copied so that a micro-kernel reads it in order.

A packed block is tiles one after another; a tile has, for each step of the depth, its elements side
by side. How it is copied depends on what the operand is consecutive along:

    its own variables, the last        whole vectors
    its own variables, the last but one    square blocks, transposed in registers across tiles
    the depth                          square blocks, transposed in registers; or lines
    nothing                            one element at a time

The last but one variable of the depth serves too: then a square block's columns lie as far apart as
the last variable is long.

Of the rows' operand single elements are read, from anywhere in the level-1 cache, so it need not be
transposed: its lines, each one own coordinate along the depth, are copied a fixed distance apart.

What a tile holds beyond the operand is zero or some element of it.

Where the micro-kernel takes several steps of the depth at a time, as a word (products.py), a block
is copied as that word's elements and these are joined to words in their place.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.dtypes import I32
from .builder import OpenLoop
from .panel import Panel
from .products import Lanes, Words, word_of_bits
from .simd import LINE, Place, Vec

#: So many elements of consecutive tiles are copied before those of the next step.
_TOGETHER = 64

#: So many elements are transposed at a time where their columns lie apart.
_APART = 8


def powers(count: int, most: int) -> list[tuple[int, int]]:
    """Where pieces of `count` begin, and how long they are: powers of 2, at most `most`."""
    pieces: list[tuple[int, int]] = []
    at = 0
    while at < count:
        wide = min(most, 1 << ((count - at).bit_length() - 1))
        pieces.append((at, wide))
        at += wide
    return pieces


class Packing(Panel):
    """Packs the blocks of one operand."""

    def find(self, start: str, first: str, begin: str, depth: str) -> None:
        """Finds a block among all of the operand, which lies packed from `start` on, `depth` deep.

        It begins with a tile.
        """
        b, self.room = self.b, depth
        across = b.mul(b.mul(first, depth), str(self.operand.room))
        self.target = b.gep(b.gep(start, across), b.mul(begin, str(self._row)))

    def write(self, first: str, count: str, begin: str, depth: str) -> None:
        """Packs a block; a tile has room for whole groups of steps."""
        self.first, self.count, self.begin, self.depth = first, count, begin, depth
        self.room = self.b.multiple(depth, self.operand.group)
        self._copy()
        words, mode = self.operand.words, self.operand.mode
        if words is None or mode in ("rows", "turned"):
            return
        if mode != "lines":
            self._join(words)
        elif words.bits < words.element.bits:
            self._join_lines(words)

    def _copy(self) -> None:
        operand, b = self.operand, self.b
        if operand.mode == "lines" and operand.lies != "false":
            self._branch(operand.lies, lambda: None, self._lines)
            return
        if operand.mode == "lines":
            self._lines()
            return
        self._zeros()
        if operand.mode == "rows":
            self._rows()
        elif operand.mode == "depth" and operand.distance == "1":
            self._depth()
        elif operand.mode == "depth":
            even = self._divides(operand.distance, self.begin, self.depth)
            self._branch(even, self._depth_apart)
        else:
            even = self._divides(operand.distance, self.first, self.count)
            side = str(min(_APART, self.lanes))
            whole = b.compare("eq", b.pure(f"srem i64 {operand.distance}, {side}"), "0")
            self._branch(b.pure(f"and i1 {even}, {whole}"), self._across)

    # ---- vectors along the own variables

    def _rows(self) -> None:
        """Tile after tile; or several side by side, where a step of one is a part of lines."""
        b, tile = self.b, self.operand.tile
        if tile * self._stored.itemsize % LINE == 0:
            self._one_by_one("0", self.count)
            return
        side = max(1, _TOGETHER // tile) * tile
        with self._loop(self.count, str(side)) as tiles:
            have = b.minimum(str(side), b.sub(self.count, tiles.counter))
            run = b.minimum(have, self._run(tiles.counter))
            self._branch(
                b.compare("eq", run, str(side)),
                lambda: self._side_by_side(tiles, side),
                lambda: self._one_by_one(tiles.counter, have),
            )

    def _side_by_side(self, tiles: OpenLoop, side: int) -> None:
        """Tiles that are consecutive: each step of the depth of all of them, then the next one."""
        b, tile = self.b, self.operand.tile
        source, target = self._own(tiles.counter), self.tile(tiles)
        between = b.mul(self.room, str(self.operand.room * tile))
        with self._loop(self.depth) as step:
            begin = self._from(source, self._along(step.counter))
            line = b.gep(target, b.offset(step, str(self._row)))
            for number in range(side // tile):
                for at, wide in powers(tile, self.lanes):
                    place = b.gep(begin, str((number * tile + at) * self._stored.itemsize))
                    self._store(b.gep(line, str(at * self._step)), self._load(place, wide))
                line = b.gep(line, between)
        if self.operand.words is not None:
            with self._loop(str(side // tile)) as which:
                self._join_tile(self.operand.words, b.gep(target, b.offset(which, between)))

    def _one_by_one(self, origin: str, count: str) -> None:
        """Tiles of so many coordinates; one that is not consecutive in as many pieces as it has."""
        b, tile = self.b, self.operand.tile
        chunks = powers(tile, self.lanes)
        with self._loop(count, str(tile)) as tiles:
            first = b.add(origin, tiles.counter)
            have = b.minimum(str(tile), b.sub(count, tiles.counter))
            whole = b.compare("eq", have, str(tile))
            for at, wide in chunks:
                run = self._run(b.add(first, str(at)))
                whole = b.here(f"and i1 {whole}, {b.compare('sge', run, str(wide))}")
            target = self._to(first)
            self._branch(
                whole,
                lambda: self._whole_tile(first, target, chunks),
                lambda: self._part_of_tile(first, target, have),
            )

    def _whole_tile(self, first: str, target: str, chunks: Sequence[tuple[int, int]]) -> None:
        b, words = self.b, self.operand.words
        sources = [self._own(b.add(first, str(at))) for at, _ in chunks]
        done = groups = "0"
        if words is not None and words.room == self._step:
            groups = b.pure(f"udiv i64 {self.depth}, {words.group}")
            done = b.mul(groups, str(words.group))
            self._whole_groups(words, sources, target, chunks, groups)
        with self._loop(b.sub(self.depth, done)) as loop:
            step = b.add(done, loop.counter)
            along = self._along(step)
            line = b.gep(b.gep(target, b.mul(done, str(self._row))), b.offset(loop, str(self._row)))
            for (at, wide), source in zip(chunks, sources, strict=True):
                self._store(
                    b.gep(line, str(at * self._step)), self._load(self._from(source, along), wide)
                )
        if words is not None:
            self._join_tile(words, target, groups)

    def _whole_groups(
        self,
        words: Words,
        sources: Sequence[str],
        target: str,
        chunks: Sequence[tuple[int, int]],
        groups: str,
    ) -> None:
        """So many words along the depth, made of elements as they are read."""
        b = self.b
        with self._loop(groups) as loop:
            steps = b.mul(loop.counter, str(words.group))
            alongs = [self._along(b.add(steps, str(n))) for n in range(words.group)]
            place = b.gep(target, b.offset(loop, str(self.operand.strides[0])))
            for (at, wide), source in zip(chunks, sources, strict=True):
                loaded = [self._load(self._from(source, along), wide) for along in alongs]
                made = words.join(self.simd, words, [self._element(value) for value in loaded])
                self._store_words(words, place, at, wide, made)

    def _part_of_tile(self, first: str, target: str, have: str) -> None:
        self._pieces(first, target, have)
        if self.operand.words is not None:
            self._join_tile(self.operand.words, target)

    def _pieces(self, first: str, target: str, have: str) -> None:
        b = self.b
        if self._stored.kind == "complex" or self.operand.split:
            self._elements((first, b.add(first, have)), ("0", self.depth))
            return
        with self._loop(have) as piece:
            number = b.add(first, piece.counter)
            count = b.minimum(self._run(number), b.sub(have, piece.counter), str(self.lanes))
            source = self._own(number)
            place = b.gep(target, b.mul(piece.counter, str(self._step)))
            with self._loop(self.depth) as step:
                value = self._load(self._from(source, self._along(step.counter)), self.lanes, count)
                self._store(b.gep(place, b.offset(step, str(self._row))), value, count)
            piece.step = count

    # ---- words

    def _join(self, words: Words) -> None:
        with self._loop(self.count, str(self.operand.tile)) as tiles:
            self._join_tile(words, self.tile(tiles))

    def _join_tile(self, words: Words, target: str, joined: str = "0") -> None:
        """The words of a tile, but for groups that are joined, in their elements' place.

        Beyond the depth those are 0.
        """
        b = self.b
        chunks = powers(self.operand.tile, self.simd.bits // words.word.bits)
        self._clear(b.gep(target, b.mul(self.depth, str(self._row))), self._row)
        groups = b.pure(f"udiv i64 {self.room}, {words.group}")
        with self._loop(b.sub(groups, joined)) as loop:
            number = b.add(joined, loop.counter)
            if words.room > self._step:  # from the last on, not to write over the next
                number = b.sub(b.sub(groups, "1"), loop.counter)
            source = b.gep(target, b.mul(number, str(words.group * self._row)))
            place = b.gep(target, b.mul(number, str(self.operand.strides[0])))
            found = [self._joined(words, source, at, wide) for at, wide in chunks]
            for (at, wide), made in zip(chunks, found, strict=True):
                self._store_words(words, place, at, wide, made)

    def _store_words(self, words: Words, place: str, at: int, lanes: int, made: Lanes) -> None:
        """The words of a group, of so many coordinates of a tile from `at` on."""
        for which, word in enumerate(made):
            to = which * self.operand.plane + words.word.itemsize * at
            value = Vec(words.word, (word,), lanes)
            self.simd.store(Place(self.b.gep(place, str(to)), 1), value)

    def _clear(self, end: str, size: int) -> None:
        """Zero in the steps beyond the depth, of so many bytes each."""
        rest = self.b.mul(self.b.sub(self.room, self.depth), str(size))
        arguments = (("ptr", end), ("i8", "0"), ("i64", rest), ("i1", "false"))
        self.simd.effect("llvm.memset.p0.i64", *arguments)

    def _joined(self, words: Words, source: str, at: int, lanes: int) -> Lanes:
        places = [
            self.b.gep(source, str(number * self._row + at * self._step))
            for number in range(words.group)
        ]
        here = self.b.depth
        elements = [self.simd.load(Place(p, 1, here), words.element, lanes) for p in places]
        return words.join(self.simd, words, elements)

    def _join_lines(self, words: Words) -> None:
        """Single bits of elements that lie along the depth."""
        b, tile = self.b, self.operand.tile
        groups = b.pure(f"udiv i64 {self.room}, {words.group}")
        with self._loop(b.multiple(self.count, tile)) as row:
            line = b.gep(self.target, b.offset(row, str(self.operand.lane * self._step)))
            with self._loop(groups) as number:
                place = Place(b.gep(line, b.offset(number, str(words.group))), 1, b.depth)
                found = word_of_bits(self.simd, self.simd.load(place, words.element, words.group))
                at = b.gep(line, b.offset(number, "4"))
                self.simd.store(Place(at, 1), Vec(I32, (found,)))

    # ---- lines

    def _lines(self) -> None:
        """Line after line, in whole vectors where a run is long; beyond the last, that again."""
        b, tile, lanes, words = self.b, self.operand.tile, str(self.lanes), self.operand.words
        distance = str(self.operand.lane * self._step)
        with self._loop(b.multiple(self.count, tile)) as row:
            source = self._own(b.minimum(row.counter, b.sub(self.count, "1")))
            line = b.gep(self.target, b.offset(row, distance))
            with self._loop(self.depth) as step:
                count = b.minimum(self._run(step.counter), b.sub(self.depth, step.counter))
                whole = b.pure(f"and i64 {count}, {-self.lanes}")
                begin = self._from(source, self._along(step.counter))
                target = b.gep(line, b.mul(step.counter, str(self._step)))

                def vectors() -> None:
                    with self._loop(whole, lanes) as loop:
                        place = b.gep(begin, b.offset(loop, str(self._stored.itemsize)))
                        value = self._load(place, self.lanes)
                        self._store(b.gep(target, b.offset(loop, str(self._step))), value)

                def rest() -> None:
                    self._store(target, self._load(begin, self.lanes, count), count)

                long = b.compare("sge", count, lanes)
                self._branch(long, vectors, rest)
                step.step = b.pure(f"select i1 {long}, i64 {whole}, i64 {count}")
            if words is not None and words.element.is_inexact:
                # Columns are 0 there: what memory held may be NaN.
                self._clear(b.gep(line, b.mul(self.depth, str(self._step))), self._step)

    # ---- square blocks

    def _side(self) -> int:
        """How many elements are transposed at a time: a cache line."""
        return min(16, max(2, 512 // self._stored.bits))

    def _depth(self) -> None:
        """Consecutive along the last variable of the depth.

        A block's columns beyond a run, and the lanes beyond a tile, are written over by what is
        packed after them.
        """
        b, tile = self.b, self.operand.tile
        # In pieces of a tile: one block across if a tile is several of those, else the whole tile.
        side = min(self.lanes, max(2, 1 << (tile - 1).bit_length()))
        piece = side if tile % side == 0 else tile
        chunks: list[tuple[int, int]] = []
        at = 0
        while at < piece:
            wide = min(self.lanes, max(2, 1 << (piece - at - 1).bit_length()))
            chunks.append((at, wide))
            at += wide
        with self._loop(self.count, str(piece)) as pieces:
            first, target = pieces.counter, self._to(pieces.counter)
            sources = [[self._clamped(first, at + n) for n in range(wide)] for at, wide in chunks]
            with self._loop(self.depth) as step:
                count = b.minimum(
                    self._run(step.counter),
                    b.sub(self.depth, step.counter),
                    str(self._side()),
                )
                along = self._along(step.counter)
                line = b.gep(target, b.mul(step.counter, str(self._row)))
                self._square(chunks, sources, along, line, count)
                step.step = count

    def _clamped(self, first: str, number: int) -> str:
        """The table's entry of a coordinate; beyond the block, of the last."""
        b = self.b
        return self._own(b.minimum(b.add(first, str(number)), b.sub(self.count, "1")))

    def _square(
        self,
        group: Sequence[tuple[int, int]],
        sources: Sequence[Sequence[str]],
        along: str,
        line: str,
        count: str | None,
    ) -> None:
        """Blocks of one piece of the depth."""
        b = self.b
        columns = [
            self.simd.transpose(
                [self._load(self._from(source, along), self._side(), count) for source in rows]
            )
            for rows in sources
        ]
        for number in range(self._side()):
            for (at, _), found in zip(group, columns, strict=True):
                place = str(number * self._row + at * self._step)
                self._store(b.gep(line, place), found[number])

    def _depth_apart(self) -> None:
        """Consecutive along the last but one variable of the depth."""
        b, tile, distance = self.b, self.operand.tile, self.operand.distance
        blocks = b.pure(f"udiv i64 {self.depth}, {b.maximum(distance, '1')}")
        chunks = [(at, min(self.lanes, tile - at)) for at in range(0, tile, self.lanes)]
        with self._loop(self.count, str(tile)) as tiles:
            end = b.add(tiles.counter, b.minimum(str(tile), b.sub(self.count, tiles.counter)))
            target = self.tile(tiles)
            with self._loop(blocks) as block:
                begin = b.mul(block.counter, distance)
                count = b.minimum(self._run(begin), b.sub(blocks, block.counter), str(_APART))

                def whole() -> None:
                    for at, wide in chunks:
                        self._apart(tiles, at, wide, begin, target)

                def rest() -> None:
                    last = b.add(begin, b.mul(count, distance))
                    self._elements((tiles.counter, end), (begin, last))

                self._branch(b.compare("eq", count, str(_APART)), whole, rest)
                block.step = count

    def _apart(self, tiles: OpenLoop, at: int, wide: int, begin: str, target: str) -> None:
        """Some rows of a tile, by a block of the depth for each coordinate of the last variable."""
        b, distance = self.b, self.operand.distance
        full = max(2, 1 << (wide - 1).bit_length())
        sources = [self._clamped(tiles.counter, at + n) for n in range(full)]
        jump = b.mul(distance, str(self._row))
        with self._loop(distance) as last:
            step = b.add(begin, last.counter)
            along = self._along(step)
            rows = [self._load(self._from(source, along), _APART) for source in sources]
            line = b.gep(target, b.mul(step, str(self._row)))
            for number, column in enumerate(self.simd.transpose(rows)):
                place = b.gep(line, b.mul(jump, str(number)))
                count = None if wide == full else str(wide)
                self._store(b.gep(place, str(at * self._step)), column, count)

    def _across(self) -> None:
        """Consecutive along the last but one own variable: a block goes to several tiles."""
        b, distance = self.b, self.operand.distance
        side = min(_APART, self.lanes)
        blocks = b.pure(f"udiv i64 {self.count}, {b.maximum(distance, '1')}")
        with self._loop(blocks) as block:
            begin = b.mul(block.counter, distance)
            count = b.minimum(self._run(begin), b.sub(blocks, block.counter), str(_APART))

            def whole() -> None:
                with self._loop(distance, str(side)) as last:
                    number = b.add(begin, last.counter)
                    sources = [self._own(b.add(number, str(n))) for n in range(side)]
                    targets = [
                        self._to(b.add(number, b.mul(distance, str(n)))) for n in range(_APART)
                    ]
                    with self._loop(self.depth) as step:
                        along = self._along(step.counter)
                        rows = [self._load(self._from(source, along), _APART) for source in sources]
                        jump = b.offset(step, str(self._row))
                        columns = self.simd.transpose(rows)
                        for target, column in zip(targets, columns, strict=True):
                            self._store(b.gep(target, jump), column)

            def rest() -> None:
                end = b.add(begin, b.mul(count, distance))
                self._elements((begin, end), ("0", self.depth))

            self._branch(b.compare("eq", count, str(_APART)), whole, rest)
            block.step = count
