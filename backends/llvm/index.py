"""Where a nest stands: its sizes and strides, its variables, the value of index expressions.

The value of an index expression is a sum of terms, each of which knows the innermost loop that it
depends on; they are added outermost first, so that each partial sum is computed in the loop where
it changes. Strides are in bytes and known only at run time, except that of a unit axis and those of
scratch buffers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ...ir.dtypes import I64
from ...ir.loop_nodes import LANES
from ...ir.loops import Buffer, LoopProgram, Scratch
from ...ir.ranks import RankExpr, affine
from .builder import Builder, OpenLoop
from .odometer import Odometer
from .simd import Simd, Vec, numbers, typed

#: A point of the register tile: the number of each tile variable's element or vector.
Point: TypeAlias = Mapping[str, int]

#: So many rows may have pointers of their own; of more, as many share one as a processor adds up
#: addresses for by itself: pointer, pointer + stride, pointer + 2 * stride.
_MOST_POINTERS, _SHARED = 8, 3


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
    """start + 0, 1, ... : `count` elements (unroll) or vectors; `room` elements are in range.

    Of the vectors the first `whole` are known to be.
    """

    start: RankExpr
    vector: bool
    count: int
    room: str | None
    whole: int = 0


@dataclass(slots=True)
class Offset:
    """A sum: constant + values + counter * factor of loops + lane * factor.

    A point of the tile that is out of range stands where the last one in range does.
    """

    constant: int = 0
    values: list[str] = field(default_factory=list[str])
    loops: dict[int, tuple[OpenLoop, str]] = field(default_factory=dict[int, tuple[OpenLoop, str]])
    odometers: dict[int, tuple[Odometer, dict[int, str]]] = field(
        default_factory=dict[int, "tuple[Odometer, dict[int, str]]"]
    )
    lane: str = "0"
    near: str = "0"  # how far a row lies from the one that its pointer is of


class Tables:
    """Where a program's parameters and buffers are found: one for all of its nests.

    `bound`: whether each output is known to have an element (codegen.py).
    """

    def __init__(self, program: LoopProgram, bound: bool = False) -> None:
        extents = (extent for buffer in program.outputs for extent in buffer.extents)
        #: The ranks that are known to have a coordinate.
        self.inhabited = {extent.rank for extent in extents if bound}
        self.inputs = {buffer.name for buffer in program.inputs}
        self.buffers: dict[str, Buffer | Scratch] = {}
        self.bases: dict[str, tuple[str, int]] = {}  # the table of pointers, and which
        self.first_stride: dict[str, int] = {}
        self.size_numbers = {size.name: n for n, size in enumerate(program.sizes)}
        self.constants: dict[str, str] = {}  # the sizes that are
        for size in program.sizes:
            if isinstance(size.source, RankExpr) and size.source.constant is not None:
                self.constants[size.name] = str(max(size.source.constant, 0))
        self.checked = {check.index for check in program.checks}
        at = len(program.sizes)
        for number, buffer in enumerate((*program.inputs, *program.outputs)):
            self.buffers[buffer.name] = buffer
            self.bases[buffer.name] = ("%data", number)
            self.first_stride[buffer.name] = at
            at += len(buffer.extents)
        self.given = at  # what the caller gives; then each sweep's coordinate
        self.own = dict.fromkeys(program.coordinates)  # and what each part has of its own
        for number, name in enumerate(program.coordinates, at):
            self.size_numbers[name] = number
            # An index inside a sweep has the coordinate as a size.
            place = {name.rstrip("'").lower(): RankExpr.of_size(name)}
            self.checked |= {index.substitute(place) for index in self.checked}
        for number, scratch in enumerate(program.scratch):
            self.buffers[scratch.name] = scratch
            self.bases[scratch.name] = ("%scratch", number)
        for parallel in program.parallels:
            for split in parallel.splits:
                for name in split.sizes:
                    self.size_numbers.setdefault(name, self.given + len(self.own))
                    self.own.setdefault(name)
                place = {split.variable: split.whole}
                self.checked |= {index.substitute(place) for index in self.checked}
            for number, scratch in enumerate(parallel.scratch, len(program.scratch)):
                self.buffers[scratch.name] = scratch
                self.bases[scratch.name] = ("%scratch", number)


class Indices:
    """The sizes, strides and variables of one nest, as seen from inside its loops."""

    def __init__(self, simd: Simd, tables: Tables, lanes: int) -> None:
        self.simd = simd
        self.b: Builder = simd.b
        self.lanes = lanes
        self.variables: dict[str, SerialVariable | TileVariable | OdometerVariable] = {}
        self.axes: dict[str, TileVariable] = {}  # the register tile's, outermost first
        self.tables = tables
        self.buffers = tables.buffers
        self._sizes: dict[str, str] = {LANES: str(lanes), **tables.constants}
        self._uncollapsed: dict[str, str] = {}  # of the ranks that are collapsed

    # ---- sizes, strides and bases: numbers that no loop changes

    def parameter(self, number: int) -> str:
        """One of the numbers given at run time."""
        where = self.b.gep("%params", str(8 * number))
        return self.b.pure(f"load i64, ptr {where}, align 8")

    def size(self, name: str) -> str:
        """The size of a rank, as far as this nest has collapsed it."""
        if name not in self._sizes:
            self._sizes[name] = self.parameter(self.tables.size_numbers[name])
        return self._sizes[name]

    def resize(self, name: str, value: str) -> None:
        """From here on the rank has this size."""
        self._sizes[name] = value

    def collapse(self, name: str, value: str) -> None:
        """From here on the nest goes through so many coordinates of the rank.

        Buffers lie as they did, for every nest and every part alike.
        """
        self._uncollapsed.setdefault(name, self.size(name))
        self.resize(name, value)

    def extent(self, extent: RankExpr) -> str:
        """An extent of a buffer, or a stride in elements, whatever is collapsed."""
        total = str(extent.offset)
        for term in extent.terms:
            value = str(term.coefficient)
            for rank in term.sizes:
                value = self.b.mul(value, self._uncollapsed.get(rank) or self.size(rank))
            total = self.b.add(total, value)
        return total

    def stride(self, buffer: str, axis: int) -> str:
        """The stride of an axis in bytes."""
        found = self.buffers[buffer]
        itemsize = str(found.dtype.itemsize)
        if isinstance(found, Scratch):
            return self.b.mul(self.extent(found.strides[axis]), itemsize)
        if found.unit == axis:
            return itemsize
        return self.parameter(self.tables.first_stride[buffer] + axis)

    def base(self, buffer: str) -> str:
        """The address of the first element."""
        table, number = self.tables.bases[buffer]
        where = self.b.gep(table, str(8 * number))
        return self.b.pure(f"load ptr, ptr {where}, align 8")

    # ---- index expressions

    def expand(
        self, index: RankExpr, at: Point, into: Offset, scale: str, lane: int | None = None
    ) -> None:
        """Adds scale * index to an Offset; `lane` picks one lane of the vector variable."""
        self.add_value(into, self.b.mul(scale, str(index.offset)))
        for term in index.terms:
            factor = self.b.mul(scale, str(term.coefficient))
            for rank in term.sizes:
                factor = self.b.mul(factor, self.size(rank))
            if term.variable is None:
                self.add_value(into, factor)
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
                    self.add_value(into, self.b.mul(factor, str(coordinate)))
                    into.lane = self.b.add(into.lane, factor)
                    continue
                coordinate += lane
            if variable.room is not None and coordinate:
                last = self.b.sub(variable.room, "1")
                factor = self.b.mul(factor, self.b.minimum(str(coordinate), last))
            elif factor[0] == "%" and variable.count > _MOST_POINTERS and not variable.vector:
                beyond = coordinate % _SHARED
                into.near = self.b.add(into.near, self.b.mul(factor, str(beyond)))
                factor = self.b.mul(factor, str(coordinate - beyond))
            else:
                factor = self.b.mul(factor, str(coordinate))
            self.add_value(into, factor)

    def add_value(self, into: Offset, value: str) -> None:
        """Adds a number to an Offset."""
        if value[0] == "%":
            into.values.append(value)
        else:
            into.constant += int(value)

    def terms(self, offset: Offset) -> list[str]:
        """The terms of the scalar part, outermost first; the constant comes last."""
        values = list(offset.values)
        values += [self.b.offset(loop, factor) for loop, factor in offset.loops.values()]
        values += [odometer.sum(factors) for odometer, factors in offset.odometers.values()]
        values = [value for value in (*values, offset.near) if value != "0"]
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
        terms = [*stop.terms, *(replace(t, coefficient=-t.coefficient) for t in start.terms)]
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
        return Vec(I64, (self.plus_lanes(total, offset.lane, self.lanes),), self.lanes)

    def plus_lanes(self, total: str, factor: str, lanes: int) -> str:
        """total, total + factor, ... as a vector."""
        type = typed("i64", lanes)
        steps = numbers("i64", range(lanes))
        if factor != "1":
            spread = self.simd.spread("i64", factor, lanes)
            steps = self.b.pure(f"mul {type} {steps}, {spread}")
        return self.b.pure(f"add {type} {self.simd.spread('i64', total, lanes)}, {steps}")

    def iota(self) -> str:
        """0, 1, ... in the lanes."""
        return numbers("i64", range(self.lanes))

    # ---- the vector variable

    def vector_axis(self) -> tuple[str, TileVariable] | None:
        """The vector variable of the tile."""
        return next(((name, axis) for name, axis in self.axes.items() if axis.vector), None)

    def remaining(self, at: Point) -> str | None:
        """How many lanes of this point's vector are in range; None: all."""
        axis = self.vector_axis()
        if axis is None or axis[1].room is None or at[axis[0]] < axis[1].whole:
            return None
        return self.b.sub(axis[1].room, str(at[axis[0]] * self.lanes))
