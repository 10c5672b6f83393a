"""A packed operand of a contraction: where its elements lie, and how its blocks are copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.dtypes import DType
from ...ir.loop_nodes import Convert, Load, Packed, loads_of
from ...ir.ranks import RankExpr
from .builder import OpenLoop
from .offsets import OffsetTables, Table
from .products import Words
from .values import Values

#: Bytes after which lines fall into the same sets of a level-1 cache.
_WAY = 4096


def load_of(packed: Packed) -> Load:
    """What is packed, before it is converted; the first of what it is computed from."""
    return loads_of(packed.value)[0]


def is_formed(packed: Packed) -> bool:
    """Whether an operand is computed as it is packed (forming.py)."""
    value = packed.value
    while isinstance(value, Convert):
        value = value.arg
    return not isinstance(value, Load)


def unit_of(values: Values, packed: Packed) -> str | None:
    """The variable along which an operand is consecutive."""
    load = load_of(packed)
    indices = [index for index in load.indices if isinstance(index, RankExpr)]
    axis = values.accesses.buffers[load.buffer].unit
    return None if axis is None else indices[axis].steps_by


def _lies(values: Values, packed: Packed, tables: OffsetTables, depth: Sequence[str]) -> str:
    """An i1: whether the depth is consecutive in an operand, and few lines fall into one set."""
    b, load = values.b, load_of(packed)
    _, strides = tables.steps(load.buffer, [i for i in load.indices if isinstance(i, RankExpr)])
    lies, apart = "true", str(load.dtype.itemsize)
    for variable in reversed(depth):
        lies = b.both(lies, b.compare("eq", strides[variable], apart))
        apart = b.mul(apart, values.accesses.size(variable.upper()))
    within = b.pure(f"and i64 {strides[packed.variables[-1]]}, {_WAY // 2 - 1}")
    return b.both(lies, b.compare("ne", within, "0"))


@dataclass(frozen=True, slots=True)
class Operand:
    """A packed operand: its tables, and how its blocks are copied.

    `mode` says what it is consecutive along: "rows", the last of the own variables; "across",
    another of them; "depth", one of the depth; "lines", the last of the depth, and it is not
    transposed; not even copied where `lies`, an i1, holds; "turned", lines of one that is
    consecutive along its own variables, or nothing (turning.py). Its coordinates are `distance`
    apart among the joined ones. `step` and `lane` are how many elements apart a tile has two steps
    of the depth, and two of the own coordinates.
    """

    packed: Packed
    tile: int  # own coordinates
    split: bool  # complex vectors hold their real parts, then the imaginary ones
    tables: OffsetTables
    own: Table
    along: Table
    mode: str
    distance: str
    runs: Table
    step: int
    lane: int = 1
    words: Words | None = None
    lies: str = "false"

    @property
    def dtype(self) -> DType:
        """What it is packed as, before words are made of it."""
        return self.packed.value.dtype if self.words is None else self.words.element

    @property
    def group(self) -> int:
        """How many steps of the depth the micro-kernel takes at a time, at least."""
        return 1 if self.words is None else self.words.multiple

    @property
    def strides(self) -> tuple[int, int]:
        """How many bytes apart two steps (or groups of them) are read, and two rows."""
        step, lane = self.step * self.dtype.itemsize, self.lane * self.dtype.itemsize
        if self.words is None:
            return step, lane
        size = self.words.word.itemsize
        return (size, lane) if self.in_lines else (self.words.count * self.plane, size)

    @property
    def in_lines(self) -> bool:
        """Whether each own coordinate is a line along the depth, and not a tile transposed."""
        return self.mode in ("lines", "turned")

    @property
    def plane(self) -> int:
        """How many bytes apart two words of a group are, or else two steps; not of lines."""
        return self.tile * (self.dtype if self.words is None else self.words.word).itemsize

    @property
    def room(self) -> int:
        """How many bytes a step of the depth of one coordinate needs; not of lines."""
        return self.dtype.itemsize if self.words is None else self.words.room

    @staticmethod
    def of(
        values: Values,
        packed: Packed,
        tile: int,
        tables: OffsetTables,
        depth: Sequence[str],
        split: bool = False,
        line: int = 0,
        words: Words | None = None,
    ) -> Operand:
        """The operand, its tables written; as lines, if those serve, of so many elements at most.

        Lines lie a cache line more than that apart: those of a tile then fall into different sets.
        """
        load = load_of(packed)
        indices = [index for index in load.indices if isinstance(index, RankExpr)]
        own = tables.add(load.buffer, indices, packed.variables)
        along = tables.add(load.buffer, indices, depth)
        unit = unit_of(values, packed)
        split = split and packed.value.dtype.kind == "complex"
        made = (packed, tile, split, tables, own, along)
        dtype = packed.value.dtype if words is None else words.element
        lane = line + 64 // dtype.itemsize
        if is_formed(packed) and line and unit in depth:
            lies = _lies(values, packed, tables, depth) if packed.lying else "false"
            return Operand(*made, "lines", "1", along, 1, lane, lies=lies)
        if is_formed(packed):
            return Operand(*made, "rows", "1", own, tile)
        if unit in depth:
            apart = tables.count(depth[depth.index(unit) + 1 :])
            runs = tables.runs(along, apart)
            lined = words is None or words.count == 1
            if line and lined and apart == "1" and load.dtype.kind != "complex":
                lies = _lies(values, packed, tables, depth) if packed.lying else "false"
                return Operand(*made, "lines", apart, runs, 1, lane, words, lies)
            return Operand(*made, "depth", apart, runs, tile, words=words)
        if line and words is not None and words.whole:
            return Operand(*made, "turned", "1", tables.runs(own, "1"), 1, lane, words)
        if unit in packed.variables[:-1]:
            apart = tables.count(packed.variables[packed.variables.index(unit) + 1 :])
            return Operand(*made, "across", apart, tables.runs(own, apart), tile, words=words)
        return Operand(*made, "rows", "1", tables.runs(own, "1"), tile, words=words)

    def first(self, around: Mapping[str, OpenLoop]) -> str:
        """The address of the operand's first element at the coordinates of these loops."""
        load = load_of(self.packed)
        indices = [index for index in load.indices if isinstance(index, RankExpr)]
        return self.tables.first(load.buffer, indices, around)
