"""The micro-kernel of processors that multiply blocks of bytes and of bf16 as a whole (AMX).

A tile register is 16 rows of 64 bytes. One instruction adds to a block of 16 x 16 sums, of 32 bits
each, the products of 16 rows of 64 bytes along the depth by 16 columns of words of four. Four of
the eight registers are a micro-kernel's sums, two rows of blocks by two; the others are filled from
the packed blocks as these lie: rows from lines, columns from words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...ir.loop_nodes import Contract
from .builder import Scope
from .microkernel import MicroKernel, Panels
from .products import Product
from .simd import Place
from .values import Values

#: Rows and columns of a block, bytes of its rows; blocks of a micro-kernel, down and across.
SIDE, _BYTES, ACROSS = 16, 64, 2

#: A micro-kernel's tile.
HEIGHT = ACROSS * SIDE

#: Bytes of a row of its sums.
_LINE = ACROSS * _BYTES

#: So many rows at a time are multiplied by vectors where they cannot be by blocks.
_STRIP = 8

#: What LDTILECFG is told: bytes of it, where it has registers' bytes a row, and their rows.
_CONFIGURATION, _ROW_BYTES, _ROWS, _REGISTERS = 64, 16, 48, 8


class TileKernel:
    """Writes the sums of tiles to a place on the stack, and from there to others."""

    def __init__(self, values: Values, contract: Contract, product: Product) -> None:
        self.simd, self.b, self.product = values.simd, values.b, product
        self.dtype, self.op = contract.value.dtype, contract.op
        self._values = values
        self._lanes = self.simd.bits // product.total.bits
        self._strip = MicroKernel(values, contract, product, _STRIP, contract.vectors, self._lanes)
        # No other place has these types: equal instructions are one.
        self.sums = self.b.pure(f"alloca [{HEIGHT} x [{ACROSS * SIDE} x i32]], align 64")

    @property
    def as_they_are(self) -> bool:
        """Whether the sums are what the output has."""
        return self.product.total == self.dtype

    def begin(self) -> None:
        """All registers are whole blocks; done once by each thread that comes by."""
        b = self.b
        place = b.pure(f"alloca [1 x [{_CONFIGURATION} x i8]], align 64")
        arguments = (("ptr", place), ("i8", "0"), ("i64", str(_CONFIGURATION)), ("i1", "false"))
        self.simd.effect("llvm.memset.p0.i64", *arguments)
        b.do(f"store i8 1, ptr {place}")
        sizes = f"<{_REGISTERS} x i16> splat (i16 {_BYTES})"
        b.do(f"store {sizes}, ptr {b.gep(place, str(_ROW_BYTES))}")
        rows = f"<{_REGISTERS} x i8> splat (i8 {SIDE})"
        b.do(f"store {rows}, ptr {b.gep(place, str(_ROWS))}")
        self.simd.effect("llvm.x86.ldtilecfg", ("ptr", place))

    def end(self) -> None:
        """The registers are given back: those in use are kept at each change of threads."""
        self.simd.effect("llvm.x86.tilerelease")

    def sum(self, panels: Panels, harmless: str) -> None:
        """One tile's sums over a piece of the depth; mended if they are not harmless (or "")."""
        self._sum_blocks(panels)
        if harmless:
            self.b.begin_arm()
            then = self.b.end_arm()
            self.b.begin_arm()
            self._mend(panels)
            self.b.branch(harmless, then, self.b.end_arm(), ())

    def store(self, line: Callable[[str], str], steps: Sequence[str], first: str) -> None:
        """The sums, with those of earlier pieces if this is not the first, row by row.

        `line`: where a row goes; `steps`: how far from there each vector does.
        """
        b, of, arms = self.b, self.product.total, list[Scope]()
        for with_earlier in (False, True):
            b.begin_arm()
            row = b.begin_loop(str(HEIGHT))
            start = line(row.counter)
            found = b.gep(self.sums, b.mul(row.counter, str(_LINE)))
            for v, step in enumerate(steps):
                at = Place(b.gep(found, str(v * self.simd.bits // 8)), 1, b.depth)
                place = Place(b.gep(start, step), 1, b.depth)
                total = self._values.convert.by_value(
                    self.simd.load(at, of, self._lanes), self.dtype
                )
                if with_earlier:
                    both = self.simd.load(place, self.dtype, self._lanes), total
                    total = self._values.arithmetic.apply(self.op, both)
                self.simd.store(place, total)
            b.end_loop(row)
            arms.append(b.end_arm())
        b.branch(first, arms[0], arms[1], ())

    def _mend(self, panels: Panels) -> None:
        """By vectors, some rows at a time: of 512 bits, which every AMX has, a block's row each."""
        b, simd, size = self.b, self.simd, self.simd.bits // 8
        strip = b.begin_loop(str(HEIGHT), str(_STRIP))
        start = b.gep(self.sums, b.offset(strip, str(_LINE)))
        places = [
            [Place(b.gep(start, str(i * _LINE + v * size)), 1, b.depth) for v in range(ACROSS)]
            for i in range(_STRIP)
        ]
        quick = [[simd.load(at, self.product.total, self._lanes) for at in row] for row in places]
        found = self._strip.mended(quick, replace(panels, strip=strip.counter))
        for row, totals in zip(places, found, strict=True):
            for at, total in zip(row, totals, strict=True):
                simd.store(at, total)
        b.end_loop(strip)

    def _sum_blocks(self, panels: Panels) -> None:
        b = self.b
        for register in range(ACROSS * ACROSS):
            self.simd.effect("llvm.x86.tilezero", ("i8", str(register)))
        line = panels.rows.operand.strides[1]
        word_line = panels.columns.operand.strides[0]
        depth = _BYTES // panels.columns.operand.dtype.itemsize
        steps = b.begin_loop(b.pure(f"udiv i64 {panels.columns.room}, {depth}"))
        down = b.gep(panels.rows.tile(panels.down), b.offset(steps, str(_BYTES)))
        panel = panels.columns.tile(panels.across)
        across = b.gep(panel, b.offset(steps, str(SIDE * word_line)))
        # Rows stay in the level-1 cache, columns go by: "t1" keeps them in level 2 alone.
        for i in range(ACROSS):
            self._load(4 + i, b.gep(down, str(i * SIDE * line)), line)
            for j in range(ACROSS):
                if i == 0:
                    self._load(6 + j, b.gep(across, str(j * _BYTES)), word_line, "t1")
                registers = (("i8", str(n)) for n in (ACROSS * i + j, 4 + i, 6 + j))
                self.simd.effect(f"llvm.x86.{self.product.blocks}", *registers)
        b.end_loop(steps)
        for register in range(ACROSS * ACROSS):
            i, j = divmod(register, ACROSS)
            place = b.gep(self.sums, str(i * SIDE * _LINE + j * _BYTES))
            stride = ("i64", str(_LINE))
            self.simd.effect("llvm.x86.tilestored64", ("i8", str(register)), ("ptr", place), stride)

    def _load(self, register: int, place: str, stride: int, hint: str = "") -> None:
        rest = (("ptr", place), ("i64", str(stride)))
        self.simd.effect(f"llvm.x86.tileloadd{hint}64", ("i8", str(register)), *rest)
