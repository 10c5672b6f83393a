"""Scalars and vectors of the language's dtypes in LLVM registers, and how they meet memory.

In registers a bool is an i1, f16 and bf16 are their bits as an i16 (nothing is computed in them),
and a complex number is two values, its real and its imaginary part. In memory a bool is a byte.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.dtypes import C64, DTYPES, DType
from ...ir.operators import Number, value_in
from .builder import Builder
from .isa import Isa


@dataclass(frozen=True, slots=True)
class Vec:
    """A value in registers: `lanes` elements of a dtype; two parts if it is complex."""

    dtype: DType
    parts: tuple[str, ...]
    lanes: int = 1

    @property
    def only(self) -> str:
        """The value of a dtype that is not complex."""
        return self.parts[0]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an element, or the first of a vector of consecutive ones, stands in memory."""

    pointer: str
    align: int = 1
    floor: int = 0  # no load from here may move further out than this scope
    version: int = 0  # changes with each write to the buffer


def component(dtype: DType) -> DType:
    """The dtype of a complex dtype's parts; any other dtype itself."""
    return DTYPES[f"f{dtype.bits // 2}"] if dtype.kind == "complex" else dtype


#: Bytes of a line of the caches.
LINE = 64

_FLOATS = {"f32": "float", "f64": "double"}


def element(dtype: DType) -> str:
    """The LLVM type of (a part of) an element in a register."""
    dtype = component(dtype)
    return "i1" if dtype.kind == "bool" else _FLOATS.get(dtype.name, f"i{dtype.bits}")


def typed(of: str, lanes: int) -> str:
    """The LLVM type of `lanes` of a type."""
    return of if lanes == 1 else f"<{lanes} x {of}>"


def suffix(of: str, lanes: int) -> str:
    """How a type is written in the name of an intrinsic."""
    short = {"float": "f32", "double": "f64", "half": "f16", "ptr": "p0"}.get(of, of)
    return short if lanes == 1 else f"v{lanes}{short}"


def numbers(of: str, values: Sequence[int]) -> str:
    """A constant vector of integers."""
    return "<" + ", ".join(f"{of} {value}" for value in values) + ">"


class Simd:
    """Vectors as an instruction set has them, through a Builder.

    `declared` collects what is called.
    """

    #: What writes past the caches must be aligned to, in bytes: pieces of so many are written.
    LEAST_PAST = 16

    def __init__(self, builder: Builder, isa: Isa, declared: dict[str, str]) -> None:
        self.b = builder
        self.isa = isa
        self.bits = isa.bits
        self.declared = declared

    # ---- calls and constants

    def call(self, returns: str, name: str, *args: tuple[str, str], pure: bool = True) -> str:
        """A call of a function of (type, value) pairs that has no effects on memory."""
        self.declared[name] = f"declare {returns} @{name}({', '.join(t for t, _ in args)})"
        text = f"call {returns} @{name}({', '.join(f'{t} {v}' for t, v in args)})"
        return self.b.pure(text) if pure else self.b.here(text)

    def effect(self, name: str, *args: tuple[str, str]) -> None:
        """A call of a function that returns nothing."""
        self.declared[name] = f"declare void @{name}({', '.join(t for t, _ in args)})"
        self.b.do(f"call void @{name}({', '.join(f'{t} {v}' for t, v in args)})")

    def fetch(self, pointer: str, write: bool = False) -> None:
        """Asks for the line that a byte is in; any address will do."""
        how = (("i32", str(int(write))), ("i32", "3"), ("i32", "1"))
        self.effect("llvm.prefetch.p0", ("ptr", pointer), *how)

    def intrinsic(self, name: str, of: str, lanes: int, *values: str) -> str:
        """An intrinsic whose operands and result have one type."""
        type = typed(of, lanes)
        return self.call(type, f"llvm.{name}.{suffix(of, lanes)}", *((type, v) for v in values))

    def constant(self, value: Number, dtype: DType, lanes: int = 1) -> Vec:
        """A number, or a vector of equal ones."""
        exact = value_in(value, dtype)
        if dtype.kind == "complex":
            found = (exact.real.item(), exact.imag.item())
            parts = tuple(self.literal(part, component(dtype), lanes) for part in found)
            return Vec(dtype, parts, lanes)
        return Vec(dtype, (self.literal(exact.item(), dtype, lanes),), lanes)

    def literal(self, value: Number | complex, dtype: DType, lanes: int = 1) -> str:
        """The text of a constant of a dtype that is not complex."""
        if dtype.name in _FLOATS:
            text = "0x" + struct.pack(">d", value_in(value, dtype)).hex().upper()
        elif dtype.kind == "float":
            text = str(int(value_in(value, dtype).view("i2")))
        elif dtype.kind == "bool":
            text = "true" if value else "false"
        else:
            text = str(value)
        return text if lanes == 1 else f"splat ({element(dtype)} {text})"

    def splat(self, value: Vec, lanes: int) -> Vec:
        """A scalar in every lane; a vector as it is."""
        if value.lanes == lanes or lanes == 1:
            return value
        of = element(value.dtype)
        return Vec(value.dtype, tuple(self.spread(of, part, lanes) for part in value.parts), lanes)

    def spread(self, of: str, part: str, lanes: int) -> str:
        """An LLVM scalar in every lane."""
        if lanes == 1:
            return part
        if not part.startswith("%"):
            return f"splat ({of} {part})"
        type = typed(of, lanes)
        first = self.b.pure(f"insertelement {type} poison, {of} {part}, i64 0")
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self.b.pure(f"shufflevector {type} {first}, {type} poison, {zeros}")

    # ---- masks

    def prefix(self, count: str, lanes: int) -> str:
        """The mask of the first `count` (an i64) lanes."""
        of = f"i{min(max(self.bits // lanes, 8), 64)}"
        type = typed(of, lanes)
        count = self.b.maximum(self.b.minimum(count, str(lanes)), "0")
        if of != "i64":
            count = self.b.pure(f"trunc i64 {count} to {of}")
        limit = self.spread(of, count, lanes)
        return self.b.pure(f"icmp ult {type} {numbers(of, range(lanes))}, {limit}")

    def any_lane(self, mask: Vec) -> str:
        """Whether a mask holds in a lane, an i1."""
        if mask.lanes == 1:
            return mask.only
        bits = self.b.pure(f"bitcast {typed('i1', mask.lanes)} {mask.only} to i{mask.lanes}")
        return self.b.pure(f"icmp ne i{mask.lanes} {bits}, 0")

    def choose(self, mask: str, a: Vec, b: Vec) -> Vec:
        """`a` in the lanes (or, if `mask` is an i1, wholly) where the mask holds, else `b`."""
        type = typed(element(a.dtype), a.lanes)
        of = typed("i1", a.lanes)
        parts = tuple(
            self.b.pure(f"select {of} {mask}, {type} {x}, {type} {y}")
            for x, y in zip(a.parts, b.parts, strict=True)
        )
        return Vec(a.dtype, parts, a.lanes)

    # ---- memory, consecutive elements

    def load(
        self, at: Place, dtype: DType, lanes: int, count: str | None = None, split: bool = False
    ) -> Vec:
        """`lanes` elements; of `count`, if given, only the first so many are touched."""
        if dtype.kind != "complex":
            return self._from_memory(self._load(at, _stored(dtype), lanes, count), dtype, lanes)
        of, step = element(dtype), component(dtype).itemsize
        second = Place(self.b.gep(at.pointer, str(step * lanes)), at.align, at.floor, at.version)
        if lanes == 1 or split:
            parts = (self._load(at, of, lanes, None), self._load(second, of, lanes, None))
            return Vec(dtype, parts, lanes)
        halves = self._pair_counts(count, lanes)
        low = self._load(at, of, lanes, halves[0])
        high = self._load(second, of, lanes, halves[1])
        type = typed(of, lanes)
        evens, odds = (range(first, 2 * lanes, 2) for first in (0, 1))
        parts = (self._shuffle(type, low, high, evens), self._shuffle(type, low, high, odds))
        return Vec(dtype, parts, lanes)

    def store(self, at: Place, value: Vec, count: str | None = None) -> None:
        """Writes a vector; of `count`, if given, only the first so many elements."""
        dtype, lanes = value.dtype, value.lanes
        if dtype.kind != "complex":
            self._store(at, _stored(dtype), lanes, self._to_memory(value), count)
            return
        of, step = element(dtype), component(dtype).itemsize
        second = Place(self.b.gep(at.pointer, str(step * lanes)), at.align)
        low, high = found = (value.parts[0], value.parts[1])
        counts: tuple[str | None, str | None] = (None, None)
        if lanes > 1:
            type = typed(of, lanes)
            pairs = [k // 2 + (k % 2) * lanes for k in range(2 * lanes)]
            halves = (pairs[:lanes], pairs[lanes:])
            low, high = (self._shuffle(type, *found, half) for half in halves)
            counts = self._pair_counts(count, lanes)
        self._store(at, of, lanes, low, counts[0])
        self._store(second, of, lanes, high, counts[1])

    def store_past(self, pointer: str, value: Vec, align: int = 64) -> None:
        """Writes a vector, not complex, past the caches, to a multiple of its size, or of `align`.

        Other threads may see it only after a fence.
        """
        self.declared["nontemporal"] = "!0 = !{i32 1}"
        type = typed(_stored(value.dtype), value.lanes)
        align = min(align, value.lanes * value.dtype.itemsize)
        hint = f"align {align}, !nontemporal !0"
        self.b.do(f"store {type} {self._to_memory(value)}, ptr {pointer}, {hint}")

    def _pair_counts(self, count: str | None, lanes: int) -> tuple[str | None, str | None]:
        if count is None:
            return None, None
        doubled = self.b.mul(count, "2")
        return doubled, self.b.sub(doubled, str(lanes))

    def _from_memory(self, bits: str, dtype: DType, lanes: int) -> Vec:
        if dtype.kind == "bool":
            bits = self.b.pure(f"icmp ne {typed('i8', lanes)} {bits}, {_zero('i8', lanes)}")
        return Vec(dtype, (bits,), lanes)

    def _to_memory(self, value: Vec) -> str:
        if value.dtype.kind != "bool":
            return value.only
        lanes = value.lanes
        return self.b.pure(f"zext {typed('i1', lanes)} {value.only} to {typed('i8', lanes)}")

    def _masks_are_cheap(self, of: str) -> bool:
        return self.bits == 512 or (self.bits == 256 and of not in ("i8", "i16"))

    def _load(self, at: Place, of: str, lanes: int, count: str | None) -> str:
        type = typed(of, lanes)
        if count is None:
            text = f"load {type}, ptr {at.pointer}, align {at.align}"
            return self.b.pure(text, at.floor, at.version)
        if self._masks_are_cheap(of):
            return self.load_masked(at, of, lanes, self.prefix(count, lanes))
        room = self._room(of, lanes)
        self.b.do(f"store {type} zeroinitializer, ptr {room}, align 64")
        self._copy(room, at.pointer, of, lanes, count)
        return self.b.here(f"load {type}, ptr {room}, align 64")

    def _store(self, at: Place, of: str, lanes: int, value: str, count: str | None) -> None:
        type = typed(of, lanes)
        if count is None:
            self.b.do(f"store {type} {value}, ptr {at.pointer}, align {at.align}")
        elif self._masks_are_cheap(of):
            name = f"llvm.masked.store.{suffix(of, lanes)}.p0"
            if of in ("i8", "i16", "i32"):
                # Of a vector that was made narrower LLVM 22 stores one lane, if it knows that it is
                # one, as wide as before: so it is not told.
                count = self.b.pure(f'call i64 asm "", "=r,0"(i64 {count})')
            mask = (typed("i1", lanes), self.prefix(count, lanes))
            self.effect(name, (type, value), ("ptr", at.pointer), ("i32", "1"), mask)
        else:
            room = self._room(of, lanes)
            self.b.do(f"store {type} {value}, ptr {room}, align 64")
            self._copy(at.pointer, room, of, lanes, count)

    def _room(self, of: str, lanes: int) -> str:
        """A place on the stack: partial vectors go through it where there are no masked moves."""
        return self.b.pure(f"alloca {typed(of, lanes)}, align 64")

    def _copy(self, to: str, source: str, of: str, lanes: int, count: str) -> None:
        size = {"float": 4, "double": 8}.get(of) or int(of[1:]) // 8
        count = self.b.maximum(self.b.minimum(count, str(lanes)), "0")
        arguments = (("ptr", to), ("ptr", source), ("i64", self.b.mul(count, str(size))))
        self.effect("llvm.memcpy.p0.p0.i64", *arguments, ("i1", "false"))

    # ---- memory, any elements

    def load_masked(
        self, at: Place, of: str, lanes: int, mask: str, other: str | None = None
    ) -> str:
        """Consecutive elements where the mask holds, `other` (or 0) elsewhere."""
        type = typed(of, lanes)
        name = f"llvm.masked.load.{suffix(of, lanes)}.p0"
        args = (("ptr", at.pointer), ("i32", "1"), (typed("i1", lanes), mask))
        return self._read(type, name, at, *args, (type, other or "zeroinitializer"))

    def gather(self, at: Place, offsets: str, dtype: DType, lanes: int, mask: str | None) -> Vec:
        """The elements at `offsets` (a vector of i64, in bytes) where the mask holds, else 0."""
        of = _stored(dtype)
        parts: list[str] = []
        for part in range(2 if dtype.kind == "complex" else 1):
            base = self.b.gep(at.pointer, str(part * component(dtype).itemsize))
            where = self.b.pure(f"getelementptr i8, ptr {base}, <{lanes} x i64> {offsets}")
            type = typed(of, lanes)
            name = f"llvm.masked.gather.{suffix(of, lanes)}.{suffix('ptr', lanes)}"
            pointers = (typed("ptr", lanes), where)
            chosen = (typed("i1", lanes), mask or "splat (i1 true)")
            args = (pointers, ("i32", "1"), chosen, (type, "zeroinitializer"))
            parts.append(self._read(type, name, at, *args))
        if len(parts) == 1:
            return self._from_memory(parts[0], dtype, lanes)
        return Vec(dtype, tuple(parts), lanes)

    def scatter(self, at: Place, offsets: str, value: Vec, mask: str | None) -> None:
        """Writes the lanes where the mask holds to `offsets` (a vector of i64, in bytes)."""
        of, lanes = _stored(value.dtype), value.lanes
        given = value.parts if len(value.parts) == 2 else (self._to_memory(value),)
        for number, part in enumerate(given):
            base = self.b.gep(at.pointer, str(number * component(value.dtype).itemsize))
            where = self.b.pure(f"getelementptr i8, ptr {base}, <{lanes} x i64> {offsets}")
            name = f"llvm.masked.scatter.{suffix(of, lanes)}.{suffix('ptr', lanes)}"
            chosen = (typed("i1", lanes), mask or "splat (i1 true)")
            pointers = (typed("ptr", lanes), where)
            self.effect(name, (typed(of, lanes), part), pointers, ("i32", "1"), chosen)

    def _read(self, returns: str, name: str, at: Place, *args: tuple[str, str]) -> str:
        self.declared[name] = f"declare {returns} @{name}({', '.join(t for t, _ in args)})"
        text = f"call {returns} @{name}({', '.join(f'{t} {v}' for t, v in args)})"
        return self.b.pure(text, at.floor, at.version)

    # ---- moving lanes

    def _shuffle(self, type: str, a: str, b: str, lanes: Sequence[int]) -> str:
        chosen = f"<{len(lanes)} x i32> {numbers('i32', lanes)}"
        return self.b.pure(f"shufflevector {type} {a}, {type} {b}, {chosen}")

    def pairs(self, value: Vec) -> Vec:
        """The c64 that i64 hold the bits of, on a machine that stores the low half first."""
        type, lanes = typed("float", 2 * value.lanes), value.lanes
        bits = self.b.pure(f"bitcast {typed('i64', lanes)} {value.only} to {type}")
        parts = [self._shuffle(type, bits, bits, range(n, 2 * lanes, 2)) for n in (0, 1)]
        return Vec(C64, tuple(parts), lanes)

    def transpose(self, rows: Sequence[Vec]) -> list[Vec]:
        """From vectors along one axis to vectors along the other; both counts are powers of 2."""
        dtype, width = rows[0].dtype, rows[0].lanes
        planes: list[list[str]] = []
        for part in range(len(rows[0].parts)):
            of = element(dtype)
            if dtype.kind == "bool":
                of, lines = "i8", [self._to_memory(row) for row in rows]
            else:
                lines = [row.parts[part] for row in rows]
            planes.append(self._transpose(of, lines, width))
        if dtype.kind == "bool":
            return [self._from_memory(line, dtype, len(rows)) for line in planes[0]]
        columns = zip(*planes, strict=True)
        return [Vec(dtype, column, len(rows)) for column in columns]

    def _transpose(self, of: str, rows: list[str], width: int) -> list[str]:
        count = len(rows)
        if count > width:
            tops = self._transpose(of, rows[: count // 2], width)
            bottoms = self._transpose(of, rows[count // 2 :], width)
            type = typed(of, count // 2)
            return [
                self._join(of, a, b, count // 2)
                if count == 2
                else self._shuffle(type, a, b, range(count))
                for a, b in zip(tops, bottoms, strict=True)
            ]
        if count < width:
            type, half = typed(of, width), width // 2
            sides = [
                [self._shuffle(type, row, row, range(first, first + half)) for row in rows]
                for first in (0, half)
            ]
            return [line for side in sides for line in self._transpose(of, side, half)]
        if count * int({"float": "f32", "double": "f64"}.get(of, of)[1:]) <= 128:
            return self._transpose_small(of, rows)
        return self._transpose_square(of, rows)

    def _join(self, of: str, a: str, b: str, lanes: int) -> str:
        first = self.b.pure(f"insertelement <2 x {of}> poison, {of} {a}, i64 0")
        return self.b.pure(f"insertelement <2 x {of}> {first}, {of} {b}, i64 1")

    def _transpose_small(self, of: str, rows: list[str]) -> list[str]:
        """log2(n) rounds of interleaving line k with line k + n/2: single instructions on x86."""
        half = len(rows) // 2
        type = typed(of, 2 * half)
        pairs = [lane for k in range(2 * half) for lane in (k, k + 2 * half)]
        for _ in range(half.bit_length()):
            rows = [
                self._shuffle(type, rows[k], rows[k + half], lanes)
                for k in range(half)
                for lanes in (pairs[: 2 * half], pairs[2 * half :])
            ]
        return rows

    def _transpose_square(self, of: str, rows: list[str]) -> list[str]:
        """log2(n) rounds; round s exchanges blocks of s by s across the diagonal of 2s by 2s."""
        count, size = len(rows), 1
        type = typed(of, count)
        while size < count:
            low = [k if not k & size else count + k - size for k in range(count)]
            high = [k + size if not k & size else count + k for k in range(count)]
            following = list(rows)
            for k in range(count):
                if not k & size:
                    pair = rows[k], rows[k + size]
                    following[k] = self._shuffle(type, *pair, low)
                    following[k + size] = self._shuffle(type, *pair, high)
            rows, size = following, 2 * size
        return rows

    def halves(self, value: Vec) -> tuple[Vec, Vec]:
        """The lower and the upper half of the lanes."""
        half = value.lanes // 2
        of = element(value.dtype)
        type = typed(of, value.lanes)
        found: list[Vec] = []
        for first in (0, half):
            if half == 1:
                parts = tuple(
                    self.b.pure(f"extractelement {type} {p}, i64 {first}") for p in value.parts
                )
            else:
                lanes = range(first, first + half)
                parts = tuple(self._shuffle(type, p, p, lanes) for p in value.parts)
            found.append(Vec(value.dtype, parts, half))
        return found[0], found[1]


def _stored(dtype: DType) -> str:
    """The LLVM type of (a part of) an element in memory."""
    return "i8" if dtype.kind == "bool" else element(dtype)


def _zero(of: str, lanes: int) -> str:
    return "0" if lanes == 1 else "zeroinitializer"
