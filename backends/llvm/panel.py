"""A packed block of an operand: where its elements lie in memory and in the block.

A packed block is tiles one after another; a tile has, for each step of the depth, its elements side
by side.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from ...ir.dtypes import C64, I64
from ...ir.loop_nodes import Convert, Value
from .builder import OpenLoop
from .operand import Operand, load_of
from .products import flip
from .simd import Place, Vec, component
from .values import Values


class Panel:
    """The blocks of one operand, which begins at `source`: addresses, and moving elements.

    A block: `count` own coordinates from `first` on, by `depth` of the depth from `begin` on.
    """

    def __init__(self, values: Values, operand: Operand, source: str) -> None:
        self.operand, self.source = operand, source
        self.accesses, self.simd, self.b = values.accesses, values.simd, values.b
        words = operand.words
        self.lanes = self.accesses.lanes if words is None else self.simd.bits // words.element.bits
        self.target = self.accesses.base(operand.packed.buffer)
        self._convert = values.convert
        self._stored = load_of(operand.packed).dtype
        self._step = operand.dtype.itemsize
        self._row = operand.tile * self._step  # bytes of one step of the depth
        self.first = self.count = self.begin = self.depth = self.room = "0"

    def tile(self, tiles: OpenLoop) -> str:
        """Where the tile of a loop over tiles begins in a packed block."""
        distance = str(self.operand.lane * self._step)
        if not self.operand.in_lines:
            distance = self.b.mul(self.room, str(self.operand.room))
        return self.b.gep(self.target, self.b.offset(tiles, distance))

    def rows(self, tiles: OpenLoop, strip: str, count: int) -> list[tuple[str, int]]:
        """Where so many rows of the tile begin, from `strip` on: so many bytes from a pointer."""
        b, operand = self.b, self.operand
        packed = b.gep(self.tile(tiles), b.mul(strip, str(operand.strides[1])))
        found = [(packed, number * operand.strides[1]) for number in range(count)]
        if operand.lies == "false":
            return found
        lying: list[tuple[str, int]] = []
        first = b.add(tiles.counter, strip)
        for number, (_, offset) in enumerate(found):
            own = b.minimum(b.add(first, str(number)), b.sub(self.count, "1"))
            there = self._from(self._own(own), self._along("0"))
            here = b.gep(packed, str(offset))
            place = b.here(f"select i1 {operand.lies}, ptr {there}, ptr {here}")
            # Each row is stepped through by the loop's counter, as in Accesses.
            lying.append((b.here(f"freeze ptr {place}"), 0))
        return lying

    @property
    def lines(self) -> tuple[str, str, str]:
        """A packed block's lines of elements: how many, how many bytes apart, and how long."""
        b, operand = self.b, self.operand
        count = b.multiple(self.count, operand.tile)
        if operand.in_lines:
            return count, str(operand.lane * self._step), self.depth
        tiles = b.pure(f"udiv i64 {count}, {operand.tile}")
        steps = b.multiple(self.depth, operand.group)
        tile = b.mul(self.room, str(operand.room * operand.tile))
        return tiles, tile, b.mul(steps, str(operand.tile))

    # ---- elements

    def _from(self, own: str, along: str) -> str:
        """Where an element of the operand is, given the entries of the tables."""
        return self.b.gep(self.b.gep(self.source, own), along)

    def _own(self, number: str) -> str:
        return self.operand.own.at(self.b, self.b.add(self.first, number))

    def _along(self, number: str) -> str:
        return self.operand.along.at(self.b, self.b.add(self.begin, number))

    def _to(self, own: str, step: str = "0") -> str:
        """Where an element goes: a coordinate of the block, and a step of the depth."""
        b, tile = self.b, str(self.operand.tile)
        lane = b.pure(f"urem i64 {own}, {tile}")
        whole = b.mul(b.mul(b.sub(own, lane), self.room), str(self.operand.room))
        place = b.gep(b.gep(self.target, whole), b.mul(step, str(self._row)))
        if not self.operand.split:
            return b.gep(place, b.mul(lane, str(self._step)))
        within = b.pure(f"urem i64 {lane}, {self.lanes}")
        place = b.gep(place, b.mul(b.sub(lane, within), str(self._step)))
        return b.gep(place, b.mul(within, str(self._step // 2)))

    def _load(self, pointer: str, lanes: int, count: str | None = None) -> Vec:
        # A pair of f32 moves as one number of 64 bits.
        dtype = I64 if self._stored == C64 and lanes > 1 else self._stored
        return self.simd.load(Place(pointer, 1, self.b.depth), dtype, lanes, count)

    def _store(self, pointer: str, value: Vec, count: str | None = None) -> None:
        """Writes what was loaded as the operand's dtype."""
        if value.dtype == I64 and self._stored == C64:
            value = self.simd.pairs(value)
        value = self._element(value)
        if not self.operand.split:
            self.simd.store(Place(pointer, 1), value, count)
            return
        of = component(value.dtype)
        for number, part in enumerate(value.parts):
            place = self.b.gep(pointer, str(number * self.lanes * of.itemsize))
            self.simd.store(Place(place, 1), Vec(of, (part,), value.lanes), count)

    def _element(self, value: Vec) -> Vec:
        """What was loaded as it is packed, before words are made of it."""
        words = self.operand.words
        if words is None:
            return self._converted(self.operand.packed.value, value)
        value = self._convert.by_value(value, words.element)
        return flip(self.simd, value) if words.flipped else value

    def _converted(self, form: Value, value: Vec) -> Vec:
        if not isinstance(form, Convert):
            return value
        value = self._converted(form.arg, value)
        convert = self._convert.by_bits if form.bitcast else self._convert.by_value
        return convert(value, form.dtype)

    def _zeros(self) -> None:
        """Zero in the last tile, if it is not full: what memory held may be denormal numbers."""
        b = self.b
        over = b.pure(f"urem i64 {self.count}, {self.operand.tile}")
        partial = b.compare("ne", over, "0")
        size = b.pure(f"select i1 {partial}, i64 {b.mul(self.room, str(self._row))}, i64 0")
        arguments = (("ptr", self._to(b.sub(self.count, over))), ("i8", "0"), ("i64", size))
        self.simd.effect("llvm.memset.p0.i64", *arguments, ("i1", "false"))

    def _elements(self, own: tuple[str, str], steps: tuple[str, str]) -> None:
        """One at a time: the coordinates and steps between these."""
        b = self.b
        with self._loop(b.sub(own[1], own[0])) as coordinate:
            number = b.add(own[0], coordinate.counter)
            source, target = self._own(number), self._to(number)
            with self._loop(b.sub(steps[1], steps[0])) as loop:
                step = b.add(steps[0], loop.counter)
                value = self._load(self._from(source, self._along(step)), 1)
                self._store(b.gep(target, b.mul(step, str(self._row))), value)

    # ---- loops and branches

    @contextmanager
    def _loop(self, length: str, step: str = "1") -> Generator[OpenLoop, None, None]:
        loop = self.b.begin_loop(length, step)
        yield loop
        self.b.end_loop(loop)

    def _branch(
        self, test: str, write: Callable[[], None], otherwise: Callable[[], None] | None = None
    ) -> None:
        b = self.b
        b.begin_arm()
        write()
        then = b.end_arm()
        b.begin_arm()
        if otherwise is None:
            self._elements(("0", self.count), ("0", self.depth))
        else:
            otherwise()
        b.branch(test, then, b.end_arm(), ())

    def _divides(self, distance: str, *lengths: str) -> str:
        """Whether all lengths are multiples of a distance."""
        b = self.b
        divisor, test = b.maximum(distance, "1"), "true"
        for length in lengths:
            even = b.compare("eq", b.pure(f"urem i64 {length}, {divisor}"), "0")
            test = even if test == "true" else b.pure(f"and i1 {test}, {even}")
        return test

    def _run(self, number: str) -> str:
        """How far from a coordinate, or a step, on the operand is consecutive."""
        origin = self.begin if self.operand.mode in ("depth", "lines") else self.first
        return self.operand.runs.at(self.b, self.b.add(origin, number))
