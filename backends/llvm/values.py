"""The registers and values of a nest, at each point of its register tile.

A register is an accumulator for each point of the tile around its beginning, and one for each point
along which it is folded inside; those are brought together where it is read after them. A value
that is the same at several points is computed once for all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ...ir.dtypes import BOOL, DType
from ...ir.errors import UnsupportedError
from ...ir.loop_nodes import (
    Apply,
    Assign,
    Begin,
    Convert,
    Fetch,
    Fold,
    Index,
    Load,
    Loop,
    LoopNest,
    Number,
    Register,
    Statement,
    Store,
    Value,
    When,
    parts,
    walk,
)
from ...ir.operators import OPERATORS
from ...ir.operators import Number as Scalar
from ...ir.ranks import RankExpr
from .access import Accesses
from .arithmetic import Arithmetic
from .convert import Convert as Conversions
from .index import Point
from .simd import Vec

#: The most accumulators that one register is folded into along an unrolled variable.
_MOST_PARTIAL = 8


class Values:
    """Writes the statements that are not loops."""

    def __init__(self, accesses: Accesses) -> None:
        self.accesses = accesses
        self.simd, self.b, self.lanes = accesses.simd, accesses.b, accesses.lanes
        self.arithmetic = Arithmetic(self.simd)
        self.convert = Conversions(self.simd)
        self.registers: dict[str, dict[tuple[int, ...], Vec]] = {}
        self._axes: dict[str, tuple[str, ...]] = {}  # the tile variables of a register's keys
        self._outer_axes: dict[str, tuple[str, ...]] = {}  # those around its beginning
        self._folded_by: dict[str, str] = {}
        self._memo: dict[object, object] = {}  # of the statement being written
        self._dependencies: dict[int, tuple[str, ...]] = {}

    def count(self, loop: Loop) -> int:
        """How many elements (unroll) or vectors a tile loop has."""
        span = self.accesses.span(loop.start, loop.stop)
        if span is None:
            raise ValueError(f"the tile loop {loop} has no constant extent")
        return span // self.lanes if loop.kind == "vector" else span

    # ---- registers

    def begin(self, statement: Begin, following: tuple[Statement, ...]) -> None:
        """One accumulator for each point of the tile, and for each along which it is folded."""
        name, dtype = statement.register, statement.dtype
        here = self.accesses.axes
        inner, is_vector = self._folded_along(name, following)
        axes = {**{axis: found.count for axis, found in here.items()}, **inner}
        start = self.simd.constant(neutral(statement.op, dtype), dtype)
        if statement.over and statement.empty != Number(neutral(statement.op, dtype), dtype):
            is_empty = "false"
            for rank in statement.over:
                none = self.b.compare("eq", self.accesses.size(rank), "0")
                is_empty = self.b.either(is_empty, none)
            empty = self.simd.constant(statement.empty.value, dtype)
            if is_empty != "false":
                start = self.simd.choose(is_empty, empty, start)
        if is_vector or any(axis.vector for axis in here.values()):
            start = self.simd.splat(start, self.lanes)
        self._axes[name] = tuple(axes)
        self._outer_axes[name] = tuple(here)
        self._folded_by[name] = statement.op
        self.registers[name] = {tuple(at.values()): start for at in points(axes)}

    def _folded_along(
        self, register: str, body: tuple[Statement, ...]
    ) -> tuple[dict[str, int], bool]:
        """The tile variables, with their counts, inside which the register is folded into."""
        found: dict[str, int] = {}
        is_vector = False
        for statement in body:
            if not isinstance(statement, LoopNest | When):
                continue
            if not any(isinstance(s, Fold) and s.register == register for s in walk((statement,))):
                continue
            for loop in () if isinstance(statement, When) else statement.loops:
                count = 1 if loop.kind == "serial" else self.count(loop)
                if loop.kind == "vector" or 1 < count <= _MOST_PARTIAL:
                    found[loop.variable] = count
                is_vector |= loop.kind == "vector"
            deeper, vector = self._folded_along(register, statement.body)
            found.update(deeper)
            is_vector |= vector
        return found, is_vector

    def fold(self, statement: Fold) -> None:
        name = statement.register
        axes, values = self._axes[name], self.registers[name]
        self._memo.clear()
        results: dict[tuple[int, ...], Vec] = {}
        for at in self._points():
            key = tuple(at.get(axis, 0) for axis in axes)
            total = results.get(key, values[key])
            folded = self._folded(statement, total, at)
            for test in self._tests(statement, at):
                folded = self.arithmetic.apply("select", (test, folded, total))
            results[key] = self.simd.splat(folded, total.lanes)
        values.update(results)

    def _folded(self, statement: Fold, total: Vec, at: Point) -> Vec:
        value = statement.value
        if statement.op == "add" and isinstance(value, Apply) and value.op == "mul":
            factors = [self.value(arg, at) for arg in value.args]
            return self.arithmetic.multiply_add(factors, total)
        return self.arithmetic.apply(statement.op, (self.value(value, at), total))

    def somewhere(self, value: Value) -> str:
        """Whether a value holds at a point of the tile that is in range, an i1."""
        self._memo.clear()
        found = ""
        for at in self._points():
            here = self.value(value, at)
            for test in self._in_range(at, ()):
                here = self.arithmetic.apply("and", (here, test))
            any_lane = self.simd.any_lane(here)
            found = self.b.pure(f"or i1 {found}, {any_lane}") if found else any_lane
        return found

    def _tests(self, statement: Fold, at: Point) -> Iterator[Vec]:
        """What must hold for the value to count: the filter, and that the point is in range."""
        if statement.where is not None:
            yield self.value(statement.where, at)
        yield from self._in_range(at, self._outer_axes[statement.register])

    def _in_range(self, at: Point, outer: Sequence[str]) -> Iterator[Vec]:
        """That the point is in range along the tile variables that are not among these."""
        for name, axis in self.accesses.axes.items():
            if name in outer or axis.room is None:
                continue
            if axis.vector:
                left = self.b.sub(axis.room, str(at[name] * self.lanes))
                yield Vec(BOOL, (self.simd.prefix(left, self.lanes),), self.lanes)
            elif at[name]:
                yield Vec(BOOL, (self.b.compare("slt", str(at[name]), axis.room),))

    def _read(self, register: Register, at: Point) -> Vec:
        """The register here; what was folded along variables that ended is brought together."""
        name = register.name
        axes, values = self._axes[name], self.registers[name]
        ended = [axis for axis in axes if axis not in self.accesses.axes]
        if not ended:
            return values[tuple(at[axis] for axis in axes)]
        op = self._folded_by[name]
        found: Vec | None = None
        for key, value in values.items():
            coordinates = dict(zip(axes, key, strict=True))
            if all(at[axis] == coordinates[axis] for axis in axes if axis not in ended):
                found = value if found is None else self.arithmetic.apply(op, (found, value))
        assert found is not None
        while found.lanes > 1 and self.accesses.vector_axis() is None:
            found = self.arithmetic.apply(op, self.simd.halves(found))
        return found

    def assign(self, statement: Assign) -> None:
        name = statement.register
        self._memo.clear()
        if name not in self.registers:
            self._axes[name] = self._outer_axes[name] = tuple(self.accesses.axes)
            self.registers[name] = {}
        results: dict[tuple[int, ...], Vec] = {}
        for at in self._points():
            value = self.value(statement.value, at)
            if self.accesses.vector_axis() is not None:
                value = self.simd.splat(value, self.lanes)
            results[tuple(at[axis] for axis in self._axes[name])] = value
        self.registers[name].update(results)

    def store(self, statement: Store) -> None:
        self._memo.clear()
        # From the last point to the first: a point that is out of range writes to the last place in
        # range, what it may, and the point whose place that is comes after it.
        points = self._points()[::-1]
        values = [self.value(statement.value, at) for at in points]
        for at, value in zip(points, values, strict=True):
            self.accesses.store(statement.buffer, statement.indices, value, at)

    def fetch(self, statement: Fetch) -> None:
        for at in self._points():
            self.accesses.fetch(statement.buffer, statement.indices, at)

    # ---- values

    def value(self, value: Value, at: Point) -> Vec:
        """A value at a point of the tile: computed once for all points that it is the same at."""
        key = (id(value), *[at[name] for name in self._depends_on(value) if name in at])
        found = self._memo.get(key)
        if not isinstance(found, Vec):
            found = self._memo[key] = self._computed(value, at)
        return found

    def _computed(self, value: Value, at: Point) -> Vec:
        if isinstance(value, Load):
            return self.accesses.load(value, at, self.value, self._memo)
        if isinstance(value, Apply):
            return self.arithmetic.apply(value.op, [self.value(arg, at) for arg in value.args])
        if isinstance(value, Convert):
            arg = self.value(value.arg, at)
            convert = self.convert.by_bits if value.bitcast else self.convert.by_value
            return convert(arg, value.dtype)
        if isinstance(value, Register):
            return self._read(value, at)
        if isinstance(value, Index):
            return self.accesses.index_value(value.index, at)
        return self.simd.constant(value.value, value.dtype)

    def _depends_on(self, value: Value) -> tuple[str, ...]:
        """The variables in a value."""
        if id(value) not in self._dependencies:
            names = [name for part in parts(value) for name in self._depends_on(part)]
            if isinstance(value, Load):
                names += [
                    v for i in value.indices if isinstance(i, RankExpr) for v in i.variables()
                ]
            elif isinstance(value, Index):
                names += value.index.variables()
            elif isinstance(value, Register):
                names += self._axes[value.name]
            self._dependencies[id(value)] = tuple(dict.fromkeys(names))
        return self._dependencies[id(value)]

    def _points(self) -> list[dict[str, int]]:
        """The points of the current tile."""
        return points({name: axis.count for name, axis in self.accesses.axes.items()})


def points(counts: dict[str, int]) -> list[dict[str, int]]:
    """Every point of a tile with so many of each variable, the last one fastest."""
    ranges = [range(count) for count in counts.values()]
    return [dict(zip(counts, at, strict=True)) for at in itertools.product(*ranges)]


def neutral(op: str, dtype: DType) -> Scalar:
    """What `op` leaves any other value of the dtype unchanged with, to the sign of a zero."""
    identity = OPERATORS[op].identity
    if identity is None:
        raise UnsupportedError(f"{op} is not a reduction")
    if op == "add" and dtype.is_inexact:
        return complex(-0.0, -0.0) if dtype.kind == "complex" else -0.0
    if op in ("max", "min") and dtype.kind == "complex":
        return complex(float(identity.real), float(identity.real))
    return identity
