"""Reading and writing the buffers of a nest at the points of its register tile.

What is consecutive along the vector variable is moved as vectors; what is consecutive along an
unrolled variable of the tile as square blocks, transposed in registers; anything else lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import cast

from ...ir.dtypes import BOOL, C64, I64
from ...ir.loop_nodes import Load, Value
from ...ir.loops import Scratch
from ...ir.ranks import RankExpr
from .index import Indices, OdometerVariable, Offset, Point, Tables
from .simd import Place, Simd, Vec, element, typed


class Accesses(Indices):
    """The buffers of one nest, as seen from inside its loops."""

    def __init__(self, simd: Simd, tables: Tables, lanes: int) -> None:
        super().__init__(simd, tables, lanes)
        self.floors: dict[str, int] = {}  # of a buffer that is written: see Place
        self.versions: dict[str, int] = {}
        self.stored: frozenset[str] = frozenset()  # the buffers that the nest writes
        #: The buffer whose whole vectors go past the caches, and what these are aligned to.
        self.past: tuple[str, int] | None = None
        self.moved: dict[str, str] = {}  # where buffers begin whose elements are put aside
        #: Of the arms of branches that ask whether a tile is full, by depth: the tile's variables.
        self.full: dict[int, frozenset[str]] = {}

    # ---- loads and stores

    def _offset(
        self,
        buffer: str,
        indices: Mapping[int, RankExpr],
        at: Point,
        lane: int | None = None,
    ) -> Offset:
        offset = Offset()
        for axis, index in indices.items():
            self.expand(index, at, offset, self.stride(buffer, axis), lane)
        return offset

    def _place(self, buffer: str, offset: Offset, floor: int = 0) -> Place:
        """Where an element lies, and that a read of it may move out to depth `floor`."""
        pointer, near = self.moved.get(buffer) or self.base(buffer), offset.near
        *terms, constant = self.terms(replace(offset, near="0"))
        last = terms.pop() if offset.values and offset.loops else "0"
        for term in terms:
            pointer = self.b.gep(pointer, term)
        if last != "0":
            # So that each row is stepped through by the loop's counter: seeing how the rows lie,
            # LLVM works out the place of one from that of the one before, a chain of additions.
            pointer = self.b.pure(f"freeze ptr {pointer}")
        pointer = self.b.gep(pointer, last)
        if near != "0" and last != "0":
            pointer = self.b.pure(f"freeze ptr {pointer}")
        pointer = self.b.gep(pointer, near)
        pointer = self.b.gep(pointer, constant)
        found = self.buffers[buffer]
        align = found.dtype.itemsize if isinstance(found, Scratch) else 1
        if found.dtype.kind == "complex" and align > 1:
            align //= 2
        floor = max(self.floors.get(buffer, 0), floor)
        return Place(pointer, align, floor, self.versions.get(buffer, 0))

    def _floor(self, indices: Collection[RankExpr]) -> int:
        """How far out a read at these indices may move.

        Not out of the arm of a branch, whose test may be what keeps it inside; only whether a tile
        is full does not matter to what is the same for all of it. And where an index has to be
        checked, not out of a loop, which may run no time at all.
        """
        if any(index in self.tables.checked for index in indices):
            return self.b.depth
        used: set[str] = set()
        names = [name for index in indices for name in index.variables()]
        while names:
            name = names.pop()
            used.add(name)
            if not isinstance(variable := self.variables[name], OdometerVariable):
                names += variable.start.variables()
        arms = reversed(self.b.arms)
        return next(depth for depth in arms if depth not in self.full or self.full[depth] & used)

    def load(
        self,
        load: Load,
        at: Point,
        evaluate: Callable[[Value, Point], Vec],
        memo: dict[object, object],
    ) -> Vec:
        """The element at a point of the tile, or the vector of elements."""
        if load.extents:
            return self._load_checked(load, at, evaluate)
        indices = {
            axis: index for axis, index in enumerate(load.indices) if isinstance(index, RankExpr)
        }
        offset = self._offset(load.buffer, indices, at)
        floor = self._floor(indices.values())
        if offset.lane == "0":
            return self.simd.load(self._place(load.buffer, offset, floor), load.dtype, 1)
        remaining = self.remaining(at)
        if offset.lane == str(load.dtype.itemsize):
            place = self._place(load.buffer, offset, floor)
            return self.simd.load(place, load.dtype, self.lanes, remaining)
        along = self._unit_axis(load, indices)
        if along is not None:
            rest = tuple((name, at[name]) for name in self.axes if name != along)
            key = (id(load), rest)
            if key not in memo:
                memo[key] = self._load_block(load, indices, at, along, floor)
            return cast("list[Vec]", memo[key])[at[along]]
        steps = self.iota()
        if remaining is not None:
            last = self.simd.spread("i64", self.b.sub(remaining, "1"), self.lanes)
            steps = self.simd.intrinsic("smin", "i64", self.lanes, steps, last)
        factor = self.simd.spread("i64", offset.lane, self.lanes)
        offsets = self.b.pure(f"mul {typed('i64', self.lanes)} {steps}, {factor}")
        place = self._place(load.buffer, offset, floor)
        return self.simd.gather(place, offsets, load.dtype, self.lanes, None)

    def _unit_axis(self, load: Load, indices: Mapping[int, RankExpr]) -> str | None:
        """The unrolled variable along which the elements are consecutive, if blocks serve."""
        unit = self.buffers[load.buffer].unit
        if unit is None:
            return None
        for name, axis in self.axes.items():
            if axis.vector or axis.count < 2 or axis.count & (axis.count - 1):
                continue
            holders = [number for number, index in indices.items() if name in index.variables()]
            if holders == [unit] and indices[unit].steps_by == name:
                return name
        return None

    def _load_block(
        self, load: Load, indices: Mapping[int, RankExpr], at: Point, along: str, floor: int
    ) -> list[Vec]:
        """Vectors along the unrolled axis, transposed: one for each of its elements."""
        axis = self.axes[along]
        start = {**at, along: 0}
        # A pair of f32 moves as one number of 64 bits.
        dtype = I64 if load.dtype == C64 else load.dtype
        rows: list[Vec] = []
        for lane in range(self.lanes):
            offset = self._offset(load.buffer, indices, start, lane)
            place = self._place(load.buffer, offset, floor)
            rows.append(self.simd.load(place, dtype, axis.count, axis.room))
        columns = self.simd.transpose(rows)
        return [self.simd.pairs(column) for column in columns] if load.dtype == C64 else columns

    def address(self, buffer: str, indices: tuple[RankExpr, ...]) -> str:
        """Where the element lies that no variable of a tile is in, as a number."""
        place = self._place(buffer, self._offset(buffer, dict(enumerate(indices)), {}))
        return self.b.pure(f"ptrtoint ptr {place.pointer} to i64")

    def store(self, buffer: str, indices: tuple[RankExpr, ...], value: Vec, at: Point) -> None:
        """Writes the element, or the vector of elements, at a point of the tile."""
        offset = self._offset(buffer, dict(enumerate(indices)), at)
        place = self._place(buffer, offset)
        found = self.buffers[buffer]
        if offset.lane == "0":
            self.simd.store(place, value)
            return
        value = self.simd.splat(value, self.lanes)
        remaining = self.remaining(at)
        if offset.lane == str(found.dtype.itemsize):
            if self.past is not None and buffer == self.past[0] and remaining is None:
                self.simd.store_past(place.pointer, value, self.past[1])
            else:
                self.simd.store(place, value, remaining)
            return
        factor = self.simd.spread("i64", offset.lane, self.lanes)
        offsets = self.b.pure(f"mul {typed('i64', self.lanes)} {self.iota()}, {factor}")
        mask = None if remaining is None else self.simd.prefix(remaining, self.lanes)
        self.simd.scatter(place, offsets, value, mask)

    def fetch(self, buffer: str, indices: tuple[RankExpr, ...], at: Point) -> None:
        """Asks for the line in which an element is, or the first of a vector."""
        place = self._place(buffer, self._offset(buffer, dict(enumerate(indices)), at))
        self.simd.fetch(place.pointer, write=buffer in self.stored)

    # ---- reads that may be out of range

    def _load_checked(self, load: Load, at: Point, evaluate: Callable[[Value, Point], Vec]) -> Vec:
        """A gather (which ends the program if it reads outside) or a read with a fill."""
        offset = Offset()
        moved: list[tuple[Vec, str]] = []  # vectors of indices, and their strides
        tests: list[Vec] = []
        for axis, (index, extent) in enumerate(zip(load.indices, load.extents, strict=True)):
            stride = self.stride(load.buffer, axis)
            if isinstance(index, RankExpr):
                self.expand(index, at, offset, stride)
                found = self.index_value(index, at)
            else:
                found = evaluate(index, at)
                if found.lanes > 1:
                    moved.append((found, stride))
                else:
                    self.add_value(offset, self.b.mul(found.only, stride))
            if load.fill is not None or not isinstance(index, RankExpr):
                limit = self.simd.spread("i64", self.number(extent), found.lanes)
                type = typed("i64", found.lanes)
                inside = self.b.pure(f"icmp ult {type} {found.only}, {limit}")
                tests.append(Vec(BOOL, (inside,), found.lanes))
        lanes = self.lanes if moved or offset.lane != "0" else 1
        width = max(lanes, *(test.lanes for test in tests)) if tests else lanes
        inside = self.simd.spread("i1", "true", width)
        for test in tests:
            inside = self._and(inside, self.simd.splat(test, width).only, width)
        if load.fill is None:
            self._leave_unless(inside, width, at)
        floor = self.b.depth
        place = self._place(load.buffer, offset)
        place = Place(place.pointer, place.align, floor, place.version)
        if width == 1:
            return self._load_one(load, place, inside)
        return self._load_lanes(load, place, inside, offset.lane, moved, at, width)

    def _and(self, a: str, b: str, lanes: int) -> str:
        return b if "true" in a else self.b.pure(f"and {typed('i1', lanes)} {a}, {b}")

    def _leave_unless(self, inside: str, lanes: int, at: Point) -> None:
        type = typed("i1", lanes)
        outside = self.b.pure(f"xor {type} {inside}, {self.simd.spread('i1', 'true', lanes)}")
        remaining = self.remaining(at) if lanes > 1 else None
        if remaining is not None:
            outside = self._and(outside, self.simd.prefix(remaining, lanes), lanes)
        if lanes > 1:
            name = f"llvm.vector.reduce.or.v{lanes}i1"
            outside = self.simd.call("i1", name, (type, outside))
        scope = self.b.scopes[-1]
        if f"left if {outside}" not in scope.known:
            scope.known[f"left if {outside}"] = outside
            self.b.leave(outside, 3)

    def _load_one(self, load: Load, place: Place, inside: str) -> Vec:
        if load.fill is None:
            return self.simd.load(place, load.dtype, 1)
        spare = self.b.pure("alloca [16 x i8], align 16")
        pointer = self.b.pure(f"select i1 {inside}, ptr {place.pointer}, ptr {spare}")
        place = Place(pointer, 1, place.floor, place.version)
        read = self.simd.load(place, load.dtype, 1)
        return self.simd.choose(inside, read, self.simd.constant(load.fill.value, load.dtype))

    def _load_lanes(
        self,
        load: Load,
        place: Place,
        inside: str,
        lane: str,
        moved: list[tuple[Vec, str]],
        at: Point,
        lanes: int,
    ) -> Vec:
        remaining = self.remaining(at)
        active = inside
        if remaining is not None:
            active = self._and(inside, self.simd.prefix(remaining, lanes), lanes)
        dtype = load.dtype
        if not moved and lane == str(dtype.itemsize) and dtype.kind not in ("complex", "bool"):
            of = element(dtype)
            read = Vec(dtype, (self.simd.load_masked(place, of, lanes, active),), lanes)
        else:
            type = typed("i64", lanes)
            factor = self.simd.spread("i64", lane, lanes)
            offsets = self.b.pure(f"mul {type} {self.iota()}, {factor}")
            for index, stride in moved:
                spread = self.simd.spread("i64", stride, lanes)
                step = self.b.pure(f"mul {type} {index.only}, {spread}")
                offsets = self.b.pure(f"add {type} {offsets}, {step}")
            read = self.simd.gather(place, offsets, dtype, lanes, active)
        if load.fill is None:
            return read
        fill = self.simd.constant(load.fill.value, dtype, lanes)
        return self.simd.choose(inside, read, fill)
