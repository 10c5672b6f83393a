"""One nest as an LLVM function: loops, register tiles, statements.

The unroll and vector loops around a statement are its register tile: the statement is written once
for each element of the unrolled variables and each vector, side by side. What a value does not
depend on it is not computed again for: its loads, and all that follows from them, are shared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ...ir.dtypes import BOOL, DType
from ...ir.errors import UnsupportedError
from ...ir.loop_nodes import (
    ONE,
    Apply,
    Assign,
    Begin,
    Collapse,
    Convert,
    Fold,
    If,
    Index,
    Load,
    Loop,
    LoopNest,
    Number,
    Register,
    Statement,
    Store,
    Value,
    parts,
    walk,
)
from ...ir.loops import LoopProgram, Nest
from ...ir.operators import OPERATORS
from ...ir.operators import Number as Scalar
from ...ir.ranks import RankExpr
from .access import Accesses, OdometerVariable, Point, SerialVariable, TileVariable
from .arithmetic import Arithmetic
from .builder import Builder, OpenLoop, Phi, Scope
from .convert import Convert as Conversions
from .odometer import Odometer
from .simd import Simd, Vec, element, typed

#: Of more plain loops than twice this, only the innermost so many are loops of their own.
_NESTED = 5

#: The most accumulators that one register is folded into along an unrolled variable.
_MOST_PARTIAL = 8


@dataclass(frozen=True, slots=True)
class _Opened:
    """A loop being written, the registers that it carries, and what to restore after it."""

    loop: OpenLoop
    carried: dict[str, dict[tuple[int, ...], list[Phi]]]
    floors: dict[str, int]
    last: Callable[[], None] = lambda: None


class NestWriter:
    """Writes the body of a nest's function."""

    def __init__(
        self, program: LoopProgram, nest: Nest, bits: int, declared: dict[str, str]
    ) -> None:
        self.b = Builder()
        self.simd = Simd(self.b, bits, declared)
        self.lanes = lanes_of(nest, bits)
        self.accesses = Accesses(self.simd, program, self.lanes)
        self.arithmetic = Arithmetic(self.simd)
        self.convert = Conversions(self.simd)
        self.nest = nest
        self.registers: dict[str, dict[tuple[int, ...], Vec]] = {}
        self._axes: dict[str, tuple[str, ...]] = {}  # the tile variables of a register's keys
        self._outer_axes: dict[str, tuple[str, ...]] = {}  # those around its beginning
        self._folded_by: dict[str, str] = {}
        self._memo: dict[object, object] = {}  # of the statement being written
        self._dependencies: dict[int, tuple[str, ...]] = {}
        self._vector_registers = 32 if bits == 512 else 16

    def body(self) -> list[str]:
        """The lines of the function, up to its return."""
        self._block(self.nest.body)
        return ["entry:", *self.b.scopes[0].lines, "  ret i32 0"]

    # ---- statements

    def _block(self, body: tuple[Statement, ...]) -> None:
        for number, statement in enumerate(body):
            if isinstance(statement, LoopNest):
                self._loops(statement.loops, statement.body)
                self._wrote({s.buffer for s in walk(statement.body) if isinstance(s, Store)})
            elif isinstance(statement, Begin):
                self._begin(statement, body[number + 1 :])
            elif isinstance(statement, Fold):
                self._fold(statement)
            elif isinstance(statement, Assign):
                self._assign(statement)
            elif isinstance(statement, Store):
                self._store(statement)
                self._wrote({statement.buffer})
            elif isinstance(statement, If):
                self._if(statement)
            else:
                self._collapse(statement)

    def _wrote(self, buffers: set[str]) -> None:
        for buffer in buffers:
            self.accesses.versions[buffer] = self.accesses.versions.get(buffer, 0) + 1

    def _collapse(self, statement: Collapse) -> None:
        outer, inner = (self.accesses.size(rank) for rank in (statement.outer, statement.inner))
        fits = "true"
        for buffer, a, b in statement.steps:
            reach = self.b.mul(inner, self.accesses.stride(buffer, b))
            even = self.b.compare("eq", self.accesses.stride(buffer, a), reach)
            fits = even if fits == "true" else self.b.pure(f"and i1 {fits}, {even}")
        both = self.b.mul(outer, inner)
        chosen = [
            self.b.pure(f"select i1 {fits}, i64 {new}, i64 {old}")
            for new, old in ((both, inner), ("1", outer))
        ]
        self.accesses.resize(statement.inner, chosen[0])
        self.accesses.resize(statement.outer, chosen[1])

    def _if(self, statement: If) -> None:
        test = self.b.compare("ne", self.accesses.number(statement.test), "0")
        then, otherwise = statement.then, statement.otherwise
        self._branch(test, [lambda: self._block(then), lambda: self._block(otherwise)])

    def _branch(self, test: str, writers: Sequence[Callable[[], None]]) -> None:
        """Writes both arms; afterwards a register has the value of the arm that was taken."""
        before = self.registers
        ends: list[dict[str, dict[tuple[int, ...], Vec]]] = []
        scopes: list[Scope] = []
        for write in writers:
            self.registers = {name: dict(values) for name, values in before.items()}
            self.b.begin_arm()
            write()
            scopes.append(self.b.end_arm())
            ends.append(self.registers)
        then, otherwise = ends
        rows: list[tuple[str, str, str]] = []
        shared = [n for n in then if n in otherwise and then[n].keys() == otherwise[n].keys()]
        kept = [(name, key) for name in shared for key in then[name]]
        for name, key in kept:
            value, other = then[name][key], otherwise[name][key]
            type = typed(element(value.dtype), value.lanes)
            rows += [(type, a, b) for a, b in zip(value.parts, other.parts, strict=True)]
        merged = iter(self.b.branch(test, scopes[0], scopes[1], rows))
        self.registers = {}
        for name, key in kept:
            value = then[name][key]
            found = replace(value, parts=tuple(next(merged) for _ in value.parts))
            self.registers.setdefault(name, {})[key] = found

    # ---- loops

    def _loops(self, loops: tuple[Loop, ...], body: tuple[Statement, ...]) -> None:
        """Loops around a body; not by recursion, for they may be hundreds deep."""
        opened: list[_Opened] = []
        count = _many(loops)
        if count:
            opened.append(self._odometer(loops[:count], body))
        for number, loop in enumerate(loops):
            if number < count:
                continue
            if loop.kind != "serial":
                end = number
                while end < len(loops) and loops[end].kind != "serial":
                    end += 1
                rest = (LoopNest(loops[end:], body),) if end < len(loops) else body
                self._tile(loops[number:end], rest)
                break
            opened.append(self._open(loop.variable, loop.start, self._loop_of(loop), body))
        else:
            self._block(body)
        for handle in reversed(opened):
            self._close(handle)

    def _odometer(self, loops: tuple[Loop, ...], body: tuple[Statement, ...]) -> _Opened:
        """One loop for many."""
        odometer = Odometer(self.simd, [self._length(loop) for loop in loops])
        for number, loop in enumerate(loops):
            self.accesses.variables[loop.variable] = OdometerVariable(odometer, number)
        return replace(self._carry(odometer.loop, body), last=odometer.before_end)

    def _loop_of(self, loop: Loop) -> OpenLoop:
        length, step = self._length(loop), self.accesses.number(loop.step)
        return self.b.begin_loop(length, step, loop.once)

    def _length(self, loop: Loop) -> str:
        """How far the loop goes: the least of stop and bounds, less start."""
        span = self.accesses.span(loop.start, loop.stop)
        limits = [self._beyond(bound, loop.start) for bound in loop.bounds]
        if span is not None:
            return self.b.minimum(str(span), *limits)
        return self.b.minimum(self._beyond(loop.stop, loop.start), *limits)

    def _beyond(self, bound: RankExpr, start: RankExpr) -> str:
        return self.b.sub(self.accesses.number(bound), self.accesses.number(start))

    def _open(
        self, variable: str, start: RankExpr, loop: OpenLoop, body: tuple[Statement, ...]
    ) -> _Opened:
        """Registers that the body changes are carried round; what it writes is read anew in it."""
        self.accesses.variables[variable] = SerialVariable(start, loop)
        return self._carry(loop, body)

    def _carry(self, loop: OpenLoop, body: tuple[Statement, ...]) -> _Opened:
        opened = _Opened(loop, {}, dict(self.accesses.floors))
        for statement in walk(body):
            if isinstance(statement, Store):
                self.accesses.floors[statement.buffer] = self.b.depth
            elif isinstance(statement, Fold | Assign):
                name = statement.register
                if name not in self.registers or name in opened.carried:
                    continue
                phis = opened.carried[name] = {}
                for key, value in self.registers[name].items():
                    type = typed(element(value.dtype), value.lanes)
                    phis[key] = [self.b.carry(loop, type, part) for part in value.parts]
                    found = tuple(phi.name for phi in phis[key])
                    self.registers[name][key] = replace(value, parts=found)
        return opened

    def _close(self, opened: _Opened) -> None:
        opened.last()
        rows = [
            (n, key, phis) for n, found in opened.carried.items() for key, phis in found.items()
        ]
        for name, key, phis in rows:
            for phi, part in zip(phis, self.registers[name][key].parts, strict=True):
                phi.next = part
        results = self.b.end_loop(opened.loop)
        for name, key, phis in rows:
            found = tuple(results[phi.name] for phi in phis)
            self.registers[name][key] = replace(self.registers[name][key], parts=found)
        self.accesses.floors = opened.floors

    # ---- register tiles

    def _tile(self, loops: tuple[Loop, ...], body: tuple[Statement, ...]) -> None:
        loops = self._fit(loops, body)
        if loops[0].kind == "serial":
            self._loops(loops, body)
            return
        full: dict[str, TileVariable] = {}
        partial: dict[str, TileVariable] = {}
        fits = "true"
        for loop in loops:
            count = self._count(loop)
            axis = TileVariable(loop.start, loop.kind == "vector", count, None)
            full[loop.variable] = partial[loop.variable] = axis
            if loop.bounds:
                room = self._room(loop)
                elements = count * self.lanes if axis.vector else count
                partial[loop.variable] = replace(axis, room=room)
                enough = self.b.compare("sge", room, str(elements))
                fits = enough if fits == "true" else self.b.pure(f"and i1 {fits}, {enough}")
        if fits == "true":
            self._inside(full, body)
        elif self._vector_registers == 32 and self._is_long(loops, body):
            # Where masks cost little, long code is written once: its vectors are always masked.
            self._inside(partial, body)
        else:
            writers = [lambda: self._inside(full, body), lambda: self._strips(partial, body)]
            self._branch(fits, writers)

    def _is_long(self, loops: tuple[Loop, ...], body: tuple[Statement, ...]) -> bool:
        """Whether a tile has loops inside, or rows, as blocks that are transposed have."""
        inner = any(isinstance(statement, LoopNest) for statement in body)
        return inner or any(loop.kind == "unroll" for loop in loops)

    def _count(self, loop: Loop) -> int:
        span = self.accesses.span(loop.start, loop.stop)
        if span is None:
            raise ValueError(f"the tile loop {loop} has no constant extent")
        return span // self.lanes if loop.kind == "vector" else span

    def _room(self, loop: Loop) -> str:
        limits = [self._beyond(bound, loop.start) for bound in loop.bounds]
        return self.b.minimum(limits[0], *limits[1:])

    def _fit(self, loops: tuple[Loop, ...], body: tuple[Statement, ...]) -> tuple[Loop, ...]:
        """Splits an unrolled loop whose accumulators the registers cannot hold."""
        begun = [s for s in walk(body) if isinstance(s, Begin)]
        counts = [self._count(loop) for loop in loops]
        total = sum(2 if s.dtype.kind == "complex" else 1 for s in begun)
        for count in counts:
            total *= count
        outer = next((n for n, loop in enumerate(loops) if loop.kind == "unroll"), None)
        room = self._vector_registers - 4
        if outer is None or total <= room or not any(isinstance(s, LoopNest) for s in body):
            return loops
        loop = loops[outer]
        chunk = max(1, counts[outer] * room // total)
        if chunk == counts[outer]:
            return loops
        name = loop.variable + "'s"
        start = RankExpr.of_variable(name)
        step = RankExpr((), chunk)
        serial = replace(loop, variable=name, step=step, kind="serial")
        stop = RankExpr(start.terms, chunk)
        inner = replace(loop, start=start, stop=stop, bounds=(*loop.bounds, loop.stop))
        rest = (*loops[:outer], inner, *loops[outer + 1 :])
        return (serial, *rest)

    def _inside(self, axes: dict[str, TileVariable], body: tuple[Statement, ...]) -> None:
        """The body with these tile variables."""
        outer = dict(self.accesses.axes)
        self.accesses.axes = {**outer, **axes}
        self.accesses.variables.update(axes)
        self._block(body)
        self.accesses.axes = outer
        for name in axes:
            del self.accesses.variables[name]

    def _strips(self, axes: dict[str, TileVariable], body: tuple[Statement, ...]) -> None:
        """The body for a tile that is not full, one vector at a time."""
        wide = next((name for name, axis in axes.items() if axis.vector and axis.count > 1), None)
        if wide is None:
            self._inside(axes, body)
            return
        axis = axes[wide]
        total = str(axis.count * self.lanes)
        room = axis.room or total
        loop = self.b.begin_loop(self.b.minimum(total, room), str(self.lanes))
        name = wide + "'v"
        opened = self._open(name, axis.start, loop, body)
        left = self.b.sub(room, loop.counter)
        strip = TileVariable(RankExpr.of_variable(name), True, 1, left)
        self._inside({**axes, wide: strip}, body)
        self._close(opened)

    # ---- registers

    def _begin(self, statement: Begin, following: tuple[Statement, ...]) -> None:
        """One accumulator for each point of the tile, and for each along which it is folded."""
        name, dtype = statement.register, statement.dtype
        here = self.accesses.axes
        inner, is_vector = self._folded_along(name, following)
        axes = {**{axis: found.count for axis, found in here.items()}, **inner}
        start = self.simd.constant(neutral(statement.op, dtype), dtype)
        if statement.over and statement.empty != Number(neutral(statement.op, dtype), dtype):
            is_empty = ""
            for rank in statement.over:
                none = self.b.compare("eq", self.accesses.size(rank), "0")
                is_empty = self.b.pure(f"or i1 {is_empty}, {none}") if is_empty else none
            empty = self.simd.constant(statement.empty.value, dtype)
            start = self.simd.choose(is_empty, empty, start)
        if is_vector or any(axis.vector for axis in here.values()):
            start = self.simd.splat(start, self.lanes)
        self._axes[name] = tuple(axes)
        self._outer_axes[name] = tuple(here)
        self._folded_by[name] = statement.op
        self.registers[name] = {tuple(at.values()): start for at in _points(axes)}

    def _folded_along(
        self, register: str, body: tuple[Statement, ...]
    ) -> tuple[dict[str, int], bool]:
        """The tile variables, with their counts, inside which the register is folded into."""
        found: dict[str, int] = {}
        is_vector = False
        for statement in body:
            if not isinstance(statement, LoopNest):
                continue
            if not any(isinstance(s, Fold) and s.register == register for s in walk((statement,))):
                continue
            for loop in statement.loops:
                count = 1 if loop.kind == "serial" else self._count(loop)
                if loop.kind == "vector" or 1 < count <= _MOST_PARTIAL:
                    found[loop.variable] = count
                is_vector |= loop.kind == "vector"
            deeper, vector = self._folded_along(register, statement.body)
            found.update(deeper)
            is_vector |= vector
        return found, is_vector

    def _fold(self, statement: Fold) -> None:
        name = statement.register
        axes, values = self._axes[name], self.registers[name]
        self._memo.clear()
        results: dict[tuple[int, ...], Vec] = {}
        for at in self._here():
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
            factors = [self._value(arg, at) for arg in value.args]
            return self.arithmetic.multiply_add(factors, total)
        return self.arithmetic.apply(statement.op, (self._value(value, at), total))

    def _tests(self, statement: Fold, at: Point) -> Iterator[Vec]:
        """What must hold for the value to count: the filter, and that the point is in range."""
        if statement.where is not None:
            yield self._value(statement.where, at)
        for name, axis in self.accesses.axes.items():
            if name in self._outer_axes[statement.register] or axis.room is None:
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

    def _assign(self, statement: Assign) -> None:
        name = statement.register
        self._memo.clear()
        if name not in self.registers:
            self._axes[name] = self._outer_axes[name] = tuple(self.accesses.axes)
            self.registers[name] = {}
        results: dict[tuple[int, ...], Vec] = {}
        for at in self._here():
            value = self._value(statement.value, at)
            if self.accesses.vector_axis() is not None:
                value = self.simd.splat(value, self.lanes)
            results[tuple(at[axis] for axis in self._axes[name])] = value
        self.registers[name].update(results)

    def _store(self, statement: Store) -> None:
        self._memo.clear()
        # From the last point to the first: a point that is out of range writes to the last place in
        # range, what it may, and the point whose place that is comes after it.
        points = self._here()[::-1]
        values = [self._value(statement.value, at) for at in points]
        for at, value in zip(points, values, strict=True):
            self.accesses.store(statement.buffer, statement.indices, value, at)

    # ---- values

    def _value(self, value: Value, at: Point) -> Vec:
        """A value at a point of the tile: computed once for all points that it is the same at."""
        key = (id(value), *[at[name] for name in self._depends_on(value) if name in at])
        found = self._memo.get(key)
        if not isinstance(found, Vec):
            found = self._memo[key] = self._computed(value, at)
        return found

    def _computed(self, value: Value, at: Point) -> Vec:
        if isinstance(value, Load):
            return self.accesses.load(value, at, self._value, self._memo)
        if isinstance(value, Apply):
            return self.arithmetic.apply(value.op, [self._value(arg, at) for arg in value.args])
        if isinstance(value, Convert):
            arg = self._value(value.arg, at)
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

    def _here(self) -> list[dict[str, int]]:
        """The points of the current tile."""
        return _points({name: axis.count for name, axis in self.accesses.axes.items()})


def _many(loops: tuple[Loop, ...]) -> int:
    """How many loops, from the outside, are too many to nest; 0 if they are few."""
    plain = itertools.takewhile(
        lambda loop: (
            loop.kind == "serial"
            and loop.start == RankExpr()
            and loop.step == ONE
            and not (loop.bounds or loop.once)
        ),
        loops,
    )
    count = sum(1 for _ in plain)
    return max(0, count - _NESTED) if count > 2 * _NESTED else 0


def lanes_of(nest: Nest, bits: int) -> int:
    """What Lanes is in a nest, for vectors of so many bits."""
    return max(2, bits // nest.width)


def _points(counts: dict[str, int]) -> list[dict[str, int]]:
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
