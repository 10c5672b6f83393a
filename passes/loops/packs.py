"""Columns that every block of rows multiplies are packed once, before the blocks.

    parallel m by 13*M'U each { nest S { contract S[m'p,n] ... columns n of K[n,d] in S.K.panel } }
    -> nest S { pack n of K[n,d] in S.K.panel[] depth d ... }
       parallel m by 13*M'U each { nest S { contract S[m'p,n] ... in S.K.panel[] } }

It takes as much memory as the operand does, and a sixteenth of attention's time less.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from ...ir.loop_nodes import Apply, Contract, Load, Pack
from ...ir.loops import Nest, Scratch
from ...ir.ranks import RankExpr
from .parts import each_in
from .tile import number, plus, scaled, size, times, variable

#: The most columns of a tile in a vector, and how far packing writes beyond a tile's end.
_LANES, _SLACK = 16, 64


@dataclass(frozen=True, slots=True)
class Ahead:
    """A contraction whose columns are packed before it: what does so, and the buffers."""

    contract: Contract
    nest: Nest
    scratch: tuple[Scratch, ...]


def may_be_ahead(contract: Contract, cut: Collection[str], written: Collection[str]) -> bool:
    """Whether parts along the variables `cut`, which write these buffers, have columns in common.

    Floats are packed as they are, however the code multiplies them.
    """
    packed, value = contract.columns, contract.value
    if contract.op != "add" or not isinstance(value, Apply) or value.op != "mul":
        return False
    if not isinstance(packed.value, Load) or value.dtype.name not in ("f32", "f64"):
        return False
    own = {*packed.variables, *contract.depth}
    return packed.value.buffer not in written and not own & set(cut)


def ahead(name: str, width: int, contract: Contract, tables: Scratch, runs: Scratch) -> Ahead:
    """The contraction of a nest of that name and width, its columns packed before it."""
    packed = contract.columns
    assert isinstance(packed.value, Load)
    used = {v for index in each_in(packed.value, RankExpr) for v in index.variables()}
    batch = tuple(v for v in contract.batch if v in used)
    columns = times(*map(size, packed.variables))
    depth = times(*map(size, contract.depth))
    tile = contract.vectors * _LANES
    # One coordinate of the batch after another, each with room for what packing writes beyond.
    each = plus(times(columns, depth), scaled(depth, tile), number(tile * _LANES + _SLACK))
    strides: list[RankExpr] = []
    for count in range(len(batch), 0, -1):
        inner = times(*map(size, batch[len(batch) - count + 1 :]))
        strides.append(_product(each, inner))
    whole = _product(each, times(*map(size, batch)))
    scratch = Scratch(packed.buffer, packed.value.dtype, tuple(strides), (whole,))
    own = (
        replace(tables, name=f"{packed.buffer}.offsets"),
        replace(runs, name=f"{packed.buffer}.runs"),
    )
    there = replace(packed, at=tuple(map(variable, batch)))
    pack = Pack(there, contract.depth, batch, contract.vectors, own[0].name, own[1].name)
    return Ahead(replace(contract, columns=there), Nest(name, width, (pack,)), (scratch, *own))


def _product(expr: RankExpr, factor: RankExpr) -> RankExpr:
    """The product of a sum and one term, multiplied out."""
    terms = [times(RankExpr((term,)), factor) for term in expr.terms]
    return plus(*terms, times(number(expr.offset), factor))
