"""Copies of operands, made so that the register tile reads them in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.dtypes import DType
from ...ir.loop_nodes import Load, Loop, LoopNest, Store, Value
from ...ir.loops import Scratch
from ...ir.ranks import RankExpr
from .schedule import Reading, block_side
from .tile import LANES_EXPR, full_loop, in_order, number, size, tiled, times, variable
from .typed import convert


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of an operand: where it is, what reads it, what makes it."""

    scratch: Scratch
    load: Load
    loops: tuple[LoopNest, ...]


def source_of(reading: Reading, source: DType, dtype: DType) -> Value:
    """What is copied: the operand's element, as `dtype`."""
    indices = tuple(i for i in reading.access.indices if isinstance(i, RankExpr))
    return convert(Load(reading.access.tensor, indices, source), dtype)


def moved(name: str, reading: Reading, names: Sequence[str], dtype: DType, source: DType) -> Copy:
    """A copy of a whole operand, its variables in this order: the vector variable is the last."""
    vector = names[-1]
    extents = [size(v) for v in names]
    scratch = Scratch(name, dtype, in_order(extents), (times(*extents),))
    indices = tuple(variable(v) for v in names)
    store = Store(name, indices, source_of(reading, source, dtype))
    ranges = {v: full_loop(v) for v in names}
    loops = copy_loops(reading.unit, names, vector, ranges, store, vectors=2)
    return Copy(scratch, Load(name, indices, dtype), (loops,))


def copy_loops(
    unit: str | None,
    names: Sequence[str],
    vector: str,
    ranges: Mapping[str, Loop],
    store: Store,
    vectors: int,
) -> LoopNest:
    """Loops that copy along `vector`; what is consecutive along `unit` is read in square blocks."""
    along = unit if unit != vector and unit in names else None
    loops = [ranges[name] for name in names if name not in (vector, along)]
    tile: list[Loop] = []
    if along is not None:
        vectors = 1
        side = number(block_side(store.value.dtype.bits))
        outer, inner = tiled(ranges[along], side, "unroll", "'t")
        loops.append(outer)
        tile.append(inner)
    outer, inner = tiled(ranges[vector], times(LANES_EXPR, vectors), "vector", "'t")
    return LoopNest((*loops, outer, *tile, inner), (store,))
