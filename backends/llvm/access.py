"""Where elements stand: from index expressions to addresses, loads and stores.

An address is a sum of terms, each of which knows the innermost loop that it depends on; they are
added outermost first, so that each partial sum is computed in the loop where it changes. Strides
are in bytes and known only at run time, except that of a unit axis and those of scratch buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from ...ir.dtypes import BOOL, I64
from ...ir.loop_nodes import LANES, Load, Value
from ...ir.loops import Buffer, LoopProgram, Scratch
from ...ir.ranks import RankExpr, affine
from .builder import Builder, OpenLoop
from .odometer import Odometer
from .simd import Place, Simd, Vec, element, numbers, typed

#: A point of the register tile: the number of each tile variable's element or vector.
Point: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SerialVariable:
    """start + the counter of a loop."""

    start: RankExpr
    loop: OpenLoop


@dataclass(frozen=True, slots=True)
class OdometerVariable:
    """The coordinate of one of the loops that an odometer stands for."""

    odometer: Odometer
    number: int


@dataclass(frozen=True, slots=True)
class TileVariable:
    """start + 0, 1, ... : `count` elements (unroll) or vectors; `room` elements are in range."""

    start: RankExpr
    vector: bool
    count: int
    room: str | None


@dataclass(slots=True)
class Offset:
    """A sum: constant + values + counter * factor of loops + lane * factor.

    `clamped`: a point of the tile that is out of range stands where the last one in range does.
    """

    clamped: bool = True
    constant: int = 0
    values: list[str] = field(default_factory=list[str])
    loops: dict[int, tuple[OpenLoop, str]] = field(default_factory=dict[int, tuple[OpenLoop, str]])
    odometers: dict[int, tuple[Odometer, dict[int, str]]] = field(
        default_factory=dict[int, "tuple[Odometer, dict[int, str]]"]
    )
    lane: str = "0"


class Accesses:
    """The buffers of one nest, as seen from inside its loops."""

    def __init__(self, simd: Simd, program: LoopProgram, lanes: int) -> None:
        self.simd = simd
        self.b: Builder = simd.b
        self.lanes = lanes
        self.variables: dict[str, SerialVariable | TileVariable | OdometerVariable] = {}
        self.axes: dict[str, TileVariable] = {}  # the register tile's, outermost first
        self.floors: dict[str, int] = {}  # of a buffer that is written: see Place
        self.versions: dict[str, int] = {}
        self.buffers: dict[str, Buffer | Scratch] = {}
        self._bases: dict[str, tuple[str, int]] = {}  # the table of pointers, and which
        self._first_stride: dict[str, int] = {}
        self._sizes: dict[str, str] = {LANES: str(lanes)}
        self._size_numbers = {size.name: n for n, size in enumerate(program.sizes)}
        at = len(program.sizes)
        for number, buffer in enumerate((*program.inputs, *program.outputs)):
            self.buffers[buffer.name] = buffer
            self._bases[buffer.name] = ("%data", number)
            self._first_stride[buffer.name] = at
            at += len(buffer.extents)
        for number, scratch in enumerate(program.scratch):
            self.buffers[scratch.name] = scratch
            self._bases[scratch.name] = ("%scratch", number)

    # ---- sizes, strides and bases: numbers that no loop changes

    def parameter(self, number: int) -> str:
        """One of the numbers given at run time."""
        where = self.b.gep("%params", str(8 * number))
        return self.b.pure(f"load i64, ptr {where}, align 8")

    def size(self, name: str) -> str:
        """The size of a rank, as far as this nest has collapsed it."""
        if name not in self._sizes:
            self._sizes[name] = self.parameter(self._size_numbers[name])
        return self._sizes[name]

    def resize(self, name: str, value: str) -> None:
        """From here on the rank has this size."""
        self._sizes[name] = value

    def stride(self, buffer: str, axis: int) -> str:
        """The stride of an axis in bytes."""
        found = self.buffers[buffer]
        itemsize = str(found.dtype.itemsize)
        if isinstance(found, Scratch):
            return self.b.mul(self.number(found.strides[axis]), itemsize)
        if found.unit == axis:
            return itemsize
        return self.parameter(self._first_stride[buffer] + axis)

    def base(self, buffer: str) -> str:
        """The address of the first element."""
        table, number = self._bases[buffer]
        where = self.b.gep(table, str(8 * number))
        return self.b.pure(f"load ptr, ptr {where}, align 8")

    # ---- index expressions

    def expand(
        self, index: RankExpr, at: Point, into: Offset, scale: str, lane: int | None = None
    ) -> None:
        """Adds scale * index to an Offset; `lane` picks one lane of the vector variable."""
        into_constant = self.b.mul(scale, str(index.offset))
        self._add_value(into, into_constant)
        for term in index.terms:
            factor = self.b.mul(scale, str(term.coefficient))
            for rank in term.sizes:
                factor = self.b.mul(factor, self.size(rank))
            if term.variable is None:
                self._add_value(into, factor)
                continue
            variable = self.variables[term.variable]
            if isinstance(variable, OdometerVariable):
                odometer = variable.odometer
                _, factors = into.odometers.setdefault(id(odometer), (odometer, {}))
                found = factors.get(variable.number, "0")
                factors[variable.number] = self.b.add(found, factor)
                continue
            self.expand(variable.start, at, into, factor, lane)
            if isinstance(variable, SerialVariable):
                loop, sum = into.loops.get(id(variable.loop), (variable.loop, "0"))
                into.loops[id(variable.loop)] = (loop, self.b.add(sum, factor))
                continue
            coordinate = at.get(term.variable, 0)
            if variable.vector:
                coordinate *= self.lanes
                if lane is None:
                    self._add_value(into, self.b.mul(factor, str(coordinate)))
                    into.lane = self.b.add(into.lane, factor)
                    continue
                coordinate += lane
            if into.clamped and variable.room is not None and coordinate:
                last = self.b.sub(variable.room, "1")
                factor = self.b.mul(factor, self.b.minimum(str(coordinate), last))
            else:
                factor = self.b.mul(factor, str(coordinate))
            self._add_value(into, factor)

    def _add_value(self, into: Offset, value: str) -> None:
        if value[0] == "%":
            into.values.append(value)
        else:
            into.constant += int(value)

    def terms(self, offset: Offset) -> list[str]:
        """The terms of the scalar part, outermost first; the constant comes last."""
        values = list(offset.values)
        values += [self.b.offset(loop, factor) for loop, factor in offset.loops.values()]
        values += [odometer.sum(factors) for odometer, factors in offset.odometers.values()]
        values = [value for value in values if value != "0"]
        values.sort(key=self.b.depth_of)
        return [*values, str(offset.constant)]

    def number(self, index: RankExpr, at: Point | None = None) -> str:
        """An index expression that no vector variable is in, as an i64."""
        offset = Offset()
        self.expand(index, at or {}, offset, "1")
        total = "0"
        for term in self.terms(offset):
            total = self.b.add(total, term)
        return total

    def span(self, start: RankExpr, stop: RankExpr) -> int | None:
        """stop - start, if it is a constant."""
        negated = RankExpr(start.terms, start.offset)
        terms = [*stop.terms]
        terms += [type(t)(-t.coefficient, t.sizes, t.variable) for t in negated.terms]
        difference = affine(terms, stop.offset - start.offset)
        if any(term.variable or set(term.sizes) - {LANES} for term in difference.terms):
            return None
        return difference.value({LANES: self.lanes})

    def index_value(self, index: RankExpr, at: Point) -> Vec:
        """An index expression as an i64, or as a vector of them."""
        offset = Offset()
        self.expand(index, at, offset, "1")
        total = "0"
        for term in self.terms(offset):
            total = self.b.add(total, term)
        if offset.lane == "0":
            return Vec(I64, (total,))
        return Vec(I64, (self._plus_lanes(total, offset.lane),), self.lanes)

    def _plus_lanes(self, total: str, factor: str) -> str:
        type = typed("i64", self.lanes)
        steps = self._iota()
        if factor != "1":
            spread = self.simd.spread("i64", factor, self.lanes)
            steps = self.b.pure(f"mul {type} {steps}, {spread}")
        return self.b.pure(f"add {type} {self.simd.spread('i64', total, self.lanes)}, {steps}")

    def _iota(self) -> str:
        return numbers("i64", range(self.lanes))

    # ---- the vector variable

    def vector_axis(self) -> tuple[str, TileVariable] | None:
        """The vector variable of the tile."""
        return next(((name, axis) for name, axis in self.axes.items() if axis.vector), None)

    def remaining(self, at: Point) -> str | None:
        """How many lanes of this point's vector are in range; None: all."""
        axis = self.vector_axis()
        if axis is None or axis[1].room is None:
            return None
        return self.b.sub(axis[1].room, str(at[axis[0]] * self.lanes))

    # ---- loads and stores

    def _offset(
        self,
        buffer: str,
        indices: Mapping[int, RankExpr],
        at: Point,
        lane: int | None = None,
        clamped: bool = True,
    ) -> Offset:
        offset = Offset(clamped)
        for axis, index in indices.items():
            self.expand(index, at, offset, self.stride(buffer, axis), lane)
        return offset

    def _place(self, buffer: str, offset: Offset, sure: bool = True) -> Place:
        """Where an element lies, and how far out a read of it may move.

        Not out of the arm of a branch, whose test may be what keeps it inside; and unless it is
        `sure` to be inside for every coordinate, not out of a loop, which may run no time at all.
        """
        pointer = self.base(buffer)
        for term in self.terms(offset):
            pointer = self.b.gep(pointer, term)
        found = self.buffers[buffer]
        align = found.dtype.itemsize if isinstance(found, Scratch) else 1
        if found.dtype.kind == "complex" and align > 1:
            align //= 2
        floor = max(self.floors.get(buffer, 0), self.b.guard if sure else self.b.depth)
        return Place(pointer, align, floor, self.versions.get(buffer, 0))

    def _sure(self, buffer: str, indices: Mapping[int, RankExpr]) -> bool:
        """Whether each index is a variable, or a number that the extent is known to exceed."""
        found = self.buffers[buffer]
        if isinstance(found, Scratch):
            return True
        for axis, index in indices.items():
            extent, at = found.extents[axis].constant, index.constant
            if index.variable is None and not (
                at is not None and extent is not None and 0 <= at < extent
            ):
                return False
        return True

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
        buffer = self.buffers[load.buffer]
        padded = isinstance(buffer, Scratch) and buffer.padded
        offset = self._offset(load.buffer, indices, at, clamped=not padded)
        sure = self._sure(load.buffer, indices)
        if offset.lane == "0":
            return self.simd.load(self._place(load.buffer, offset, sure), load.dtype, 1)
        remaining = None if padded else self.remaining(at)
        if offset.lane == str(load.dtype.itemsize):
            split = isinstance(buffer, Scratch) and buffer.split
            place = self._place(load.buffer, offset, sure)
            return self.simd.load(place, load.dtype, self.lanes, remaining, split)
        along = self._unit_axis(load, indices)
        if along is not None:
            rest = tuple((name, at[name]) for name in self.axes if name != along)
            key = (id(load), rest)
            if key not in memo:
                memo[key] = self._load_block(load, indices, at, along)
            return cast("list[Vec]", memo[key])[at[along]]
        steps = self._iota()
        if remaining is not None:
            last = self.simd.spread("i64", self.b.sub(remaining, "1"), self.lanes)
            steps = self.simd.intrinsic("smin", "i64", self.lanes, steps, last)
        factor = self.simd.spread("i64", offset.lane, self.lanes)
        offsets = self.b.pure(f"mul {typed('i64', self.lanes)} {steps}, {factor}")
        place = self._place(load.buffer, offset, sure)
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
            if holders == [unit] and indices[unit].variable == name:
                return name
        return None

    def _load_block(
        self, load: Load, indices: Mapping[int, RankExpr], at: Point, along: str
    ) -> list[Vec]:
        """Vectors along the unrolled axis, transposed: one for each of its elements."""
        axis = self.axes[along]
        start = {**at, along: 0}
        rows: list[Vec] = []
        for lane in range(self.lanes):
            place = self._place(load.buffer, self._offset(load.buffer, indices, start, lane))
            rows.append(self.simd.load(place, load.dtype, axis.count, axis.room))
        return self.simd.transpose(rows)

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
            self.simd.store(place, value, remaining, isinstance(found, Scratch) and found.split)
            return
        factor = self.simd.spread("i64", offset.lane, self.lanes)
        offsets = self.b.pure(f"mul {typed('i64', self.lanes)} {self._iota()}, {factor}")
        mask = None if remaining is None else self.simd.prefix(remaining, self.lanes)
        self.simd.scatter(place, offsets, value, mask)

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
                    self._add_value(offset, self.b.mul(found.only, stride))
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
            offsets = self.b.pure(f"mul {type} {self._iota()}, {factor}")
            for index, stride in moved:
                spread = self.simd.spread("i64", stride, lanes)
                step = self.b.pure(f"mul {type} {index.only}, {spread}")
                offsets = self.b.pure(f"add {type} {offsets}, {step}")
            read = self.simd.gather(place, offsets, dtype, lanes, active)
        if load.fill is None:
            return read
        fill = self.simd.constant(load.fill.value, dtype, lanes)
        return self.simd.choose(inside, read, fill)
