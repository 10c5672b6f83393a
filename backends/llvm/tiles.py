"""The micro-kernel of processors that multiply blocks of bytes as a whole (AMX).

A tile register is 16 rows of 64 bytes. One instruction adds to a block of 16 x 16 sums, each an
i32, the products of 16 rows of 64 steps of the depth by 16 columns of words of four. Four of the
eight registers are a micro-kernel's sums, two rows of blocks by two; the others are filled from the
packed blocks as these lie: rows from lines, columns from words.
"""

from __future__ import annotations

from .microkernel import Panels
from .simd import Simd

#: Rows and columns of a block, bytes of its rows; blocks of a micro-kernel, down and across.
SIDE, _BYTES, ACROSS = 16, 64, 2

#: A micro-kernel's tile, and how many steps of the depth it takes at a time.
HEIGHT, STEPS = ACROSS * SIDE, _BYTES

#: What LDTILECFG is told: bytes of it, where it has registers' bytes a row, and their rows.
_CONFIGURATION, _ROW_BYTES, _ROWS, _REGISTERS = 64, 16, 48, 8


class TileKernel:
    """Writes the sums of tiles to a place on the stack."""

    def __init__(self, simd: Simd, instruction: str) -> None:
        self.simd, self.b, self.instruction = simd, simd.b, instruction
        # No other place has these types: equal instructions are one.
        self.sums = self.b.pure(f"alloca [{HEIGHT} x [{ACROSS * SIDE} x i32]], align 64")

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

    def sum(self, panels: Panels) -> None:
        """One tile's sums over a piece of the depth."""
        b = self.b
        for register in range(ACROSS * ACROSS):
            self.simd.effect("llvm.x86.tilezero", ("i8", str(register)))
        line = panels.rows.operand.strides[1]
        word_line = panels.columns.operand.strides[0]
        steps = b.begin_loop(b.pure(f"udiv i64 {panels.columns.room}, {STEPS}"))
        down = b.gep(panels.rows.tile(panels.down), b.offset(steps, str(_BYTES)))
        panel = panels.columns.tile(panels.across)
        across = b.gep(panel, b.offset(steps, str(SIDE * word_line)))
        for i in range(ACROSS):
            self._load(4 + i, b.gep(down, str(i * SIDE * line)), line)
            for j in range(ACROSS):
                if i == 0:
                    self._load(6 + j, b.gep(across, str(j * _BYTES)), word_line)
                registers = (("i8", str(n)) for n in (ACROSS * i + j, 4 + i, 6 + j))
                self.simd.effect(f"llvm.x86.{self.instruction}", *registers)
        b.end_loop(steps)
        for register in range(ACROSS * ACROSS):
            i, j = divmod(register, ACROSS)
            place = b.gep(self.sums, str((i * SIDE * ACROSS + j) * _BYTES))
            stride = ("i64", str(ACROSS * _BYTES))
            self.simd.effect("llvm.x86.tilestored64", ("i8", str(register)), ("ptr", place), stride)

    def _load(self, register: int, place: str, stride: int) -> None:
        rest = (("ptr", place), ("i64", str(stride)))
        self.simd.effect("llvm.x86.tileloadd64", ("i8", str(register)), *rest)
