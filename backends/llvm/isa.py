"""What instructions generated code may use, as far as the code generator chooses by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: `pmadd`: pairs of i16 are multiplied and added to an i32, in one instruction (every x86-64);
#: `vnni`: so are four u8 by i8, and either sum goes to an accumulator in the same instruction;
#: `digits`: products of i32 are slower than those of three pairs of i16 for two of them;
#: `ifma`: products of 52 bits are added in one instruction, products of i64 take several;
#: `dot`: four products of i8, or of u8, are added to an i32 in one instruction (AArch64);
#: `many`: there are 32 vector registers, and not 16;
#: `bf16`: two products of bf16 are added to an f32 in one instruction (AVX512-BF16), a quick one;
#: `tiles`: blocks of i8 and u8 are multiplied as a whole (AMX), by a process that asked to;
#: `bf16_tiles`: so are blocks of bf16;
#: `masks`: any instruction takes a mask of lanes, for nothing (of vectors of 512 bits: always).
Feature: TypeAlias = Literal[
    "pmadd", "vnni", "digits", "ifma", "dot", "many", "bf16", "tiles", "bf16_tiles", "masks"
]

#: What a process must have asked the system for.
ASKED_FOR: frozenset[Feature] = frozenset({"tiles", "bf16_tiles"})


@dataclass(frozen=True, slots=True)
class Isa:
    """Vectors of at most `bits` bits, and the features that are there at that width.

    512 needs AVX-512 (F, BW, DQ, VL), 256 needs AVX2, FMA and F16C; 128 runs everywhere.
    """

    bits: int
    features: frozenset[Feature] = frozenset()

    @property
    def masks(self) -> bool:
        """Whether any instruction takes a mask of lanes, for nothing."""
        return self.bits == 512 or "masks" in self.features

    def narrowed(self, bits: int) -> Isa:
        """The same instructions, on vectors of fewer bits."""
        masks: frozenset[Feature] = frozenset({"masks"} if self.masks else ())
        return Isa(bits, self.features | masks) if bits < self.bits else self

    @property
    def registers(self) -> int:
        """How many vector registers there are."""
        return 32 if "many" in self.features else 16
