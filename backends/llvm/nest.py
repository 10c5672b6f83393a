"""One nest as an LLVM function: loops, register tiles, statements.

The unroll and vector loops around a statement are its register tile: the statement is written once
for each element of the unrolled variables and each vector, side by side. What a value does not
depend on it is not computed again for: its loads, and all that follows from them, are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from ...ir.loop_nodes import (
    Assign,
    Begin,
    Collapse,
    Contract,
    Fetch,
    Fold,
    If,
    Loop,
    LoopNest,
    Pack,
    Past,
    Permute,
    Special,
    Statement,
    Store,
    When,
    walk,
)
from ...ir.loops import Nest
from ...ir.ranks import RankExpr
from .access import Accesses
from .builder import Builder, OpenLoop, Phi, Scope
from .contract import Contraction, write_pack
from .index import OdometerVariable, SerialVariable, Tables, TileVariable
from .isa import Isa
from .odometer import Odometer
from .past import PastWriter
from .permute import Permutation
from .simd import Simd, Vec, element, typed
from .survey import accumulators, lanes_of, many, spaces
from .values import Values

#: A tile of few vectors that is not full is computed at once if it has all rows and a part of its
#: last vector, else vector by vector; one of up to `_MASKED`, for which there are registers for
#: masks, as it is; a wider one so many vectors at a time.
_NARROW, _MASKED, _STRIP = 3, 6, 4


@dataclass(frozen=True, slots=True)
class _Opened:
    """A loop being written, the registers that it carries, and what to restore after it."""

    loop: OpenLoop
    carried: dict[str, dict[tuple[int, ...], list[Phi]]]
    floors: dict[str, int]
    last: Callable[[], None] = lambda: None


class NestWriter:
    """Writes the body of a nest's function."""

    def __init__(self, tables: Tables, nest: Nest, isa: Isa, declared: dict[str, str]) -> None:
        self.b = Builder()
        self.simd = Simd(self.b, isa, declared)
        self.lanes = lanes_of(nest, isa)
        self.accesses = Accesses(self.simd, tables, self.lanes)
        stored = (s.buffer for s in walk(nest.body) if isinstance(s, Store))
        self.accesses.stored = frozenset(stored)
        self.values = Values(self.accesses)
        self.nest = nest
        self._isa = isa
        self._pointless: dict[str, str] = {}  # rank: whether a space that it is in has no point
        self._past = PastWriter(self.accesses, self._block, self._branch, self._length)

    def body(self) -> list[str]:
        """The lines of the function, up to its return."""
        for rank, space in spaces(self.nest).items():
            empty = "false"
            for other in space:
                if other in self.accesses.tables.inhabited:
                    continue
                none = self.b.compare("eq", self.accesses.size(other), "0")
                empty = self.b.either(empty, none)
            if empty != "false":
                self._pointless[rank] = empty
        self._block(self.nest.body)
        return ["entry:", *self.b.scopes[0].lines, "  ret i32 0"]

    # ---- statements

    def _block(self, body: tuple[Statement, ...]) -> None:
        for number, statement in enumerate(body):
            if isinstance(statement, LoopNest):
                outside = set(self.values.registers)
                self._loops(statement.loops, statement.body)
                # A register that began inside has ended.
                for name in self.values.registers.keys() - outside:
                    del self.values.registers[name]
                self._wrote({s.buffer for s in walk(statement.body) if isinstance(s, Store)})
            elif isinstance(statement, Special):
                self._special(statement)
            elif isinstance(statement, Past):
                self._past.write(statement)
            elif isinstance(statement, When):
                self._when(statement)
            elif isinstance(statement, Begin):
                self.values.begin(statement, body[number + 1 :])
            elif isinstance(statement, Fold):
                self.values.fold(statement)
            elif isinstance(statement, Assign):
                self.values.assign(statement)
            elif isinstance(statement, Store):
                self.values.store(statement)
                self._wrote({statement.buffer})
            elif isinstance(statement, Fetch):
                self.values.fetch(statement)
            elif isinstance(statement, If):
                self._if(statement)
            elif isinstance(statement, Contract):
                Contraction(self.values, statement).write()
                finish = statement.finish
                self._wrote({statement.buffer} | ({finish.buffer} if finish else set()))
            elif isinstance(statement, Pack):
                write_pack(self.values, statement)
            elif isinstance(statement, Permute):
                Permutation(self.values, statement).write()
                self._wrote({statement.buffer})
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
            fits = self.b.both(fits, even)
        both = self.b.mul(outer, inner)
        chosen = [
            self.b.pure(f"select i1 {fits}, i64 {new}, i64 {old}")
            for new, old in ((both, inner), ("1", outer))
        ]
        self.accesses.collapse(statement.inner, chosen[0])
        self.accesses.collapse(statement.outer, chosen[1])

    def _special(self, statement: Special) -> None:
        """The body twice: with numbers for sizes, if it is these that they are, and as it is."""
        b, accesses = self.b, self.accesses
        given = {rank: accesses.size(rank) for rank, _ in statement.sizes}
        same = "true"
        for rank, size in statement.sizes:
            test = b.compare("eq", given[rank], str(size))
            same = b.both(same, test)

        def special() -> None:
            pointless, self._pointless = self._pointless, {}
            for rank, size in statement.sizes:
                accesses.resize(rank, str(size))
            self._block(statement.body)
            for rank, register in given.items():
                accesses.resize(rank, register)
            self._pointless = pointless

        self._branch(same, [special, lambda: self._block(statement.body)])

    def _when(self, statement: When) -> None:
        somewhere = self.values.somewhere(statement.value)
        self._branch(somewhere, [lambda: self._block(statement.body), lambda: None])

    def _if(self, statement: If) -> None:
        test = self.b.compare("ne", self.accesses.number(statement.test), "0")
        then, otherwise = statement.then, statement.otherwise
        writers = [lambda: self._block(then), lambda: self._block(otherwise)]
        self._branch(test, writers, new=True)

    def _branch(
        self,
        test: str,
        writers: Sequence[Callable[[], None]],
        new: bool = False,
        full: frozenset[str] = frozenset(),
    ) -> None:
        """Writes both arms; afterwards a register has the value of the arm that was taken.

        `new`: those that begin in both arms live on as well. `full`: the variables of a tile, where
        the test is whether it is full.
        """
        before = self.values.registers
        ends: list[dict[str, dict[tuple[int, ...], Vec]]] = []
        scopes: list[Scope] = []
        for write in writers:
            self.values.registers = {name: dict(values) for name, values in before.items()}
            self.b.begin_arm()
            if full:
                self.accesses.full[self.b.depth] = full
            write()
            self.accesses.full.pop(self.b.depth, None)
            scopes.append(self.b.end_arm())
            ends.append(self.values.registers)
        then, otherwise = ends
        rows: list[tuple[str, str, str]] = []
        shared = [n for n in then if n in before or (new and n in otherwise)]
        kept = [(name, key) for name in shared for key in then[name]]
        for name, key in kept:
            value, other = then[name][key], otherwise[name][key]
            type = typed(element(value.dtype), value.lanes)
            rows += [(type, a, b) for a, b in zip(value.parts, other.parts, strict=True)]
        merged = iter(self.b.branch(test, scopes[0], scopes[1], rows))
        self.values.registers = {}
        for name, key in kept:
            value = then[name][key]
            found = replace(value, parts=tuple(next(merged) for _ in value.parts))
            self.values.registers.setdefault(name, {})[key] = found

    # ---- loops

    def _loops(self, loops: tuple[Loop, ...], body: tuple[Statement, ...]) -> None:
        """Loops around a body; not by recursion, for they may be hundreds deep."""
        opened: list[_Opened] = []
        count = many(loops)
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
            if self._is_single(loop):
                self.accesses.variables[loop.variable] = TileVariable(loop.start, False, 1, None)
                continue
            opened.append(self._open(loop.variable, loop.start, self._loop_of(loop), body))
        else:
            self._block(body)
        for handle in reversed(opened):
            self._close(handle)

    def _is_single(self, loop: Loop) -> bool:
        """Whether it is known that a loop's body runs once."""
        length, step = self._length(loop), self.accesses.number(loop.step)
        return length.isdecimal() and step.isdecimal() and 0 < int(length) <= int(step)

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
        end = self.accesses.number(bound)
        if bound.rank in self._pointless:
            end = self.b.pure(f"select i1 {self._pointless[bound.rank]}, i64 0, i64 {end}")
        return self.b.sub(end, self.accesses.number(start))

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
                if name not in self.values.registers or name in opened.carried:
                    continue
                phis = opened.carried[name] = {}
                for key, value in self.values.registers[name].items():
                    type = typed(element(value.dtype), value.lanes)
                    phis[key] = [self.b.carry(loop, type, part) for part in value.parts]
                    found = tuple(phi.name for phi in phis[key])
                    self.values.registers[name][key] = replace(value, parts=found)
        return opened

    def _close(self, opened: _Opened) -> None:
        opened.last()
        rows = [
            (n, key, phis) for n, found in opened.carried.items() for key, phis in found.items()
        ]
        for name, key, phis in rows:
            for phi, part in zip(phis, self.values.registers[name][key].parts, strict=True):
                phi.next = part
        results = self.b.end_loop(opened.loop)
        for name, key, phis in rows:
            found = tuple(results[phi.name] for phi in phis)
            self.values.registers[name][key] = replace(
                self.values.registers[name][key], parts=found
            )
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
            count = self.values.count(loop)
            axis = TileVariable(loop.start, loop.kind == "vector", count, None)
            full[loop.variable] = partial[loop.variable] = axis
            if loop.bounds:
                room = self._room(loop)
                elements = count * self.lanes if axis.vector else count
                if self._is_whole(loop, elements):
                    continue
                partial[loop.variable] = replace(axis, room=room)
                enough = self.b.compare("sge", room, str(elements))
                fits = self.b.both(fits, enough)
        sums = any(isinstance(statement, LoopNest) for statement in walk(body))
        if fits == "true":
            self._inside(full, body)
        elif fits == "false":
            self._partial(partial, body)
        elif self._isa.masks and not sums and self._is_long(loops):
            # Where masks cost little, long code is written once: its vectors are always masked.
            # Not so where sums keep both units for multiply-adds busy, one of which masks need.
            self._inside(partial, body)
        elif sums and not any(loop.kind == "vector" for loop in loops):
            # Rows past the end are the last row again, which no sum takes longer for.
            self._inside(partial, body)
        else:
            writers = [lambda: self._inside(full, body), lambda: self._partial(partial, body)]
            self._branch(fits, writers, full=frozenset(full))

    def _is_long(self, loops: tuple[Loop, ...]) -> bool:
        """Whether a tile has rows, as blocks that are transposed have."""
        return any(loop.kind == "unroll" for loop in loops)

    def _is_whole(self, loop: Loop, elements: int) -> bool:
        """Whether it is known that tiles of so many elements, one after another, all fit."""
        block = self.accesses.variables.get(loop.start.variable or "")
        if not isinstance(block, SerialVariable) or block.start != RankExpr():
            return False
        limits = [self.accesses.number(bound) for bound in loop.bounds]
        whole = all(limit.isdecimal() and int(limit) % elements == 0 for limit in limits)
        return whole and block.loop.step == str(elements)

    def _room(self, loop: Loop) -> str:
        limits = [self._beyond(bound, loop.start) for bound in loop.bounds]
        return self.b.minimum(limits[0], *limits[1:])

    def _fit(self, loops: tuple[Loop, ...], body: tuple[Statement, ...]) -> tuple[Loop, ...]:
        """Splits a tile loop whose accumulators the registers cannot hold."""
        counts = [self.values.count(loop) for loop in loops]
        total = accumulators(body) * prod(counts)
        outer = next((n for n, loop in enumerate(loops) if loop.kind == "unroll"), 0)
        room = self._isa.registers - 4
        if total <= room or not any(isinstance(s, LoopNest) for s in walk(body)):
            return loops
        loop = loops[outer]
        chunk = max(1, counts[outer] * room // total)
        if chunk == counts[outer]:
            return loops
        name = loop.variable + "'s"
        start = RankExpr.of_variable(name)
        step = RankExpr((), chunk * (self.lanes if loop.kind == "vector" else 1))
        serial = replace(loop, variable=name, step=step, kind="serial")
        stop = RankExpr(start.terms, step.offset)
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

    def _partial(self, axes: dict[str, TileVariable], body: tuple[Statement, ...]) -> None:
        """The body for a tile that is not full: with masks, or a few vectors at a time."""
        wide = next((name for name, axis in axes.items() if axis.vector), None)
        if wide is None:
            self._inside(axes, body)
            return
        narrow = len(axes) > 1 and axes[wide].count <= _NARROW and axes[wide].room is not None
        sums = any(isinstance(statement, LoopNest) for statement in walk(body))
        edge, reaches = self._edge(axes, wide)
        if not (self._isa.masks and narrow and sums) or reaches == "false":
            self._strips(axes, wide, body)
        elif reaches == "true":
            self._inside(edge, body)
        else:
            writers = [lambda: self._inside(edge, body), lambda: self._strips(axes, wide, body)]
            self._branch(reaches, writers)

    def _edge(
        self, axes: dict[str, TileVariable], wide: str
    ) -> tuple[dict[str, TileVariable], str]:
        """The tile with all of its rows and a part of its last vector, and whether it is that."""
        edge, reaches = dict(axes), "true"
        for name, axis in axes.items():
            if axis.room is None:
                continue
            last = axis.count - 1
            edge[name] = replace(axis, whole=last) if name == wide else replace(axis, room=None)
            beyond = last * self.lanes if name == wide else last
            if beyond:
                reaches = self.b.both(reaches, self.b.compare("sgt", axis.room, str(beyond)))
        return edge, reaches

    def _strips(
        self, axes: dict[str, TileVariable], wide: str, body: tuple[Statement, ...]
    ) -> None:
        """The body for so many of a tile's vectors at a time."""
        axis = axes[wide]
        strip = self._strip(axis.count)
        if strip == axis.count:
            self._inside(axes, body)
            return
        total = str(axis.count * self.lanes)
        room = axis.room or total
        loop = self.b.begin_loop(self.b.minimum(total, room), str(strip * self.lanes))
        name = wide + "'v"
        opened = self._open(name, axis.start, loop, body)
        left = self.b.sub(room, loop.counter)
        part = TileVariable(RankExpr.of_variable(name), True, strip, left)
        self._inside({**axes, wide: part}, body)
        self._close(opened)

    def _strip(self, vectors: int) -> int:
        """How many vectors at a time, of a tile of so many that is not full."""
        if not self._isa.masks or vectors <= _NARROW:
            return 1
        return vectors if vectors <= _MASKED else _STRIP
