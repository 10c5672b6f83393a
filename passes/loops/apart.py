"""Rows of a block that are read side by side lie where they do not push each other out of a cache.

    scratch E: f32 strides (J, 1) elements (I'P*J)
    -> scratch E: f32 strides (J+16, 1) elements (I'P*J+16*I'P)

Lines some powers of two apart take the same few places of a level-1 cache. So rows that are likely
to lie so, and of which a register tile reads several, are a line more apart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ...ir.loop_nodes import Contract, Load, Loop, loads_of
from ...ir.loops import Nest, Scratch
from ...ir.ranks import RankExpr, Term, affine
from .parts import each_in
from .tile import plus, scaled

#: Bytes of a line; and those after which lines take the same places of a level-1 cache, or one half
#: of them the same as the other.
_LINE, _SAME = 64, 2048


def apart(
    buffers: Iterable[Scratch],
    nests: Sequence[Nest],
    cut: Mapping[str, Collection[int]],
    likely: Callable[[RankExpr], int],
) -> Iterator[Scratch]:
    """The buffers of a block, whose nests these are; rows where that pays a line more apart.

    `cut` are the axes of which a block has some coordinates, of each tensor that it keeps: rows
    along such an axis are short. `likely` is what a size is for the sizes that are hinted at.
    """
    beside = _side_by_side(nests)
    for buffer in buffers:
        last = len(buffer.strides) - 1
        kept = buffer.name in beside and last > 0 and last not in cut.get(buffer.name, (last,))
        yield _with_a_line(buffer, likely) if kept else buffer


def _side_by_side(nests: Sequence[Nest]) -> set[str]:
    """The buffers of which several rows at a time are read."""
    found: set[str] = set()
    for nest in nests:
        tiled = {loop.variable for loop in each_in(nest.body, Loop) if loop.kind == "unroll"}
        for load in each_in(nest.body, Load):
            rows = [index for index in load.indices[:-1] if isinstance(index, RankExpr)]
            if tiled & {variable for index in rows for variable in index.variables()}:
                found.add(load.buffer)
        for contract in each_in(nest.body, Contract):
            if contract.rows.lying:
                found.add(loads_of(contract.rows.value)[0].buffer)
    return found


def _with_a_line(buffer: Scratch, likely: Callable[[RankExpr], int]) -> Scratch:
    """The buffer with a line more for each row, if rows are likely to be where others push them."""
    row, itemsize = buffer.strides[-2], buffer.dtype.itemsize
    rank = next(row.sizes(), "")
    if row != RankExpr.of_size(rank) or likely(row) * itemsize % _SAME:
        return buffer

    def longer(length: RankExpr) -> RankExpr:
        rows: list[Term] = []
        for term in length.terms:
            names = list(term.sizes)
            names.remove(rank)
            rows.append(replace(term, sizes=tuple(names)))
        return plus(length, scaled(affine(rows, 0), _LINE // itemsize))

    strides = (*map(longer, buffer.strides[:-1]), buffer.strides[-1])
    return replace(buffer, strides=strides, elements=tuple(map(longer, buffer.elements)))
