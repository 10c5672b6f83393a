"""A contraction of two operands, blocked and packed: the statement and its scratch buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ...ir.dtypes import BF16, I64, U8, DType
from ...ir.loop_nodes import (
    Apply,
    Contract,
    Convert,
    Finish,
    Load,
    Packed,
    Value,
    loads_of,
    parts,
    replaced,
)
from ...ir.loops import Scratch
from ...ir.ranks import RankExpr
from .point import PointWriter
from .schedule import Block, Reading
from .tile import LANES_EXPR, number, plus, scaled, size, times

#: Packing may write so many steps of the depth, and elements, beyond a block's end.
_SLACK_STEPS, _SLACK = 16, 64

#: Of integers, bools and bf16 the depth may be packed in multiples of so many steps, and so many
#: rows at a time.
_GROUP, _ROWS = 64, 32


def contraction(
    block: Block,
    total: str,
    indices: tuple[RankExpr, ...],
    point: PointWriter,
    term: Value,
    names: Sequence[str],
    finish: Finish | None = None,
    formed: Mapping[str, Value] = MappingProxyType({}),
) -> tuple[Contract, tuple[Scratch, ...]]:
    """The contraction that folds `term` into total[indices], and the buffers that it needs.

    `names` are those of the packed rows, the packed columns, and the tables of offsets and runs;
    `finish` is what is done with the sums, `formed` what some operands are computed from.
    """
    packed_rows, packed_columns, offsets, runs = names
    element = _operand(term, block.rows)
    lying = block.lying and isinstance(element, Load)
    rows = Packed(element, block.down, packed_rows, lying=lying)
    columns = Packed(_operand(term, block.columns), block.across, packed_columns)
    contract = Contract(
        *(total, indices, point.fold_op, term, point.empty, rows, columns),
        *(block.depth, block.batch),
        *(block.height, block.vectors, block.tall, block.deep, block.wide),
        *(offsets, runs),
        finish,
    )
    for name, value in formed.items():
        contract = formed_in(contract, name, value)
    if block.lying and _is_deferrable(contract):
        contract = replace(contract, rows=replace(contract.rows, lying=True))
    m, n, k = (times(*map(size, v)) for v in (block.down, block.across, block.depth))
    # One variable alone needs no table.
    down, across, depth = (
        count if len(v) > 1 else number(0)
        for count, v in ((m, block.down), (n, block.across), (k, block.depth))
    )
    more = 0 if finish is None else 1 + len(loads_of(finish.value))
    more += sum(len(loads_of(value)) for value in formed.values())
    more += 0 if contract.divisor is None else 2  # for the sums, and for what divides them
    width = times(block.vectors, LANES_EXPR)
    height = max(block.height, _ROWS if _in_words(rows.value) else 0)
    # Lines lie a cache line more apart than they are long.
    line = block.deep + 64 // rows.value.dtype.itemsize
    table = plus(*(down, across, depth) * (2 + more), number(_SLACK))
    buffers = (
        _panel(rows, m, number(height), times(max(block.tall, height)), (number(line),)),
        _panel(columns, n, width, times(block.wide, width), (number(block.deep), k)),
        _flat(offsets, I64, table),
        _flat(runs, U8, table),
    )
    return contract, buffers


def formed_in(contract: Contract, name: str, value: Value) -> Contract:
    """The contraction with a value in the place of the elements of a buffer."""
    made, *operands = replaced(
        (contract.value, contract.rows, contract.columns),
        lambda node: value if isinstance(node, Load) and node.buffer == name else None,
    )
    rows, columns = (
        replace(packed, lying=packed.lying and isinstance(packed.value, Load))
        for packed in operands
    )
    return replace(contract, value=made, rows=rows, columns=columns)


def _is_deferrable(contract: Contract) -> bool:
    """Whether rows are floats that are stored, divided by what all of the depth has in common."""
    rows, value = contract.rows.value, contract.value
    match rows:
        case Apply("div", (Load() as dividend, Load() as divisor)):
            pass
        case _:
            return False
    indices = [index for index in divisor.indices if isinstance(index, RankExpr)]
    shared = not set(contract.depth) & {v for index in indices for v in index.variables()}
    factors = rows, contract.columns.value
    product = value in [Apply("mul", factors), Apply("mul", factors[::-1])]
    plain = contract.op == "add" and contract.finish is None and rows.dtype.name in ("f32", "f64")
    return shared and product and plain and dividend.dtype == rows.dtype


def _operand(term: Value, reading: Reading) -> Value:
    """What a term takes of an operand: converted, if it is so wherever it stands."""
    found: set[Value] = set()
    stack = [term]
    while stack:
        node = stack.pop()
        inside = node
        while isinstance(inside, Convert):
            inside = inside.arg
        if isinstance(inside, Load):
            if inside.buffer == reading.access.tensor and inside.indices == reading.access.indices:
                found.add(node)
        else:
            stack += parts(node)
    if len(found) == 1:
        return found.pop()
    value = found.pop()
    while isinstance(value, Convert):
        value = value.arg
    return value


def _in_words(value: Value) -> bool:
    """Whether several steps of the depth may be packed as one word, to be multiplied at once."""
    if not value.dtype.is_inexact:
        return True
    while isinstance(value, Convert):
        value = value.arg
    return isinstance(value, Load) and value.dtype == BF16


def _panel(
    packed: Packed, count: RankExpr, tile: RankExpr, most: RankExpr, steps: Sequence[RankExpr]
) -> Scratch:
    """Room for a block of whole tiles, which is at most each of `steps` deep."""
    dtype = packed.value.dtype
    more = _GROUP - 1 if _in_words(packed.value) else 0
    slack = plus(times(_SLACK_STEPS, tile), number(_SLACK))
    elements = (
        plus(times(most, steps[0]), times(most, more), slack),
        *(
            plus(*(times(d, c) for d in (deep, more) for c in (count, tile)), slack)
            for deep in steps
        ),
    )
    # Integers may be packed four bytes deep, whatever they are computed in; those of eight, twelve.
    deeper = 1 if dtype.is_inexact else {1: 4, 2: 2, 4: 1, 8: 2}[dtype.itemsize]
    most_elements = tuple(scaled(e, deeper) for e in elements)
    return Scratch(packed.buffer, dtype, (number(1),), most_elements)


def _flat(name: str, dtype: DType, elements: RankExpr) -> Scratch:
    return Scratch(name, dtype, (number(1),), (elements,))
