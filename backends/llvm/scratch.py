"""The memory of scratch buffers: a function asks for it when it begins, and frees it at its end."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.loop_nodes import LANES
from ...ir.loops import Scratch
from .builder import Builder
from .index import Indices
from .simd import Simd

_ALIGNMENT = 64


def allocate(
    simd: Simd,
    indices: Indices,
    buffers: Sequence[Scratch],
    lanes: int,
    table: str,
    first: int = 0,
) -> tuple[list[str], str]:
    """Asks for the buffers' memory; puts where they are into `table`, from entry `first` on.

    Gives the blocks to be freed, and an i1: whether one of them is missing.
    """
    b = simd.b
    memory: list[str] = []
    failed = "false"
    for number, scratch in enumerate(buffers, first):
        block = simd.call("ptr", "malloc", ("i64", _bytes(b, indices, scratch, lanes)), pure=False)
        memory.append(block)
        missing = b.here(f"icmp eq ptr {block}, null")
        failed = missing if failed == "false" else b.here(f"or i1 {failed}, {missing}")
        address = b.here(f"ptrtoint ptr {block} to i64")
        raised = b.here(f"add i64 {address}, {_ALIGNMENT - 1}")
        aligned = b.here(f"and i64 {raised}, {-_ALIGNMENT}")
        pointer = b.here(f"inttoptr i64 {aligned} to ptr")
        b.do(f"store ptr {pointer}, ptr {b.gep(table, str(8 * number))}, align 8")
    return memory, failed


def _bytes(b: Builder, indices: Indices, scratch: Scratch, lanes: int) -> str:
    """How much memory to ask for; more than there can be if the product overflows."""
    indices.resize(LANES, str(lanes))
    found: list[str] = []
    for elements in scratch.elements:
        total = "0"
        for term in (*elements.terms, None):
            value = str(elements.offset) if term is None else str(term.coefficient)
            for rank in () if term is None else term.sizes:
                value = saturating(b, value, indices.size(rank))
            total = b.add(total, value)
        found.append(saturating(b, total, str(scratch.dtype.itemsize)))
    return b.add(b.maximum(b.minimum(found[0], *found[1:]), "0"), str(_ALIGNMENT))


def saturating(b: Builder, value: str, size: str) -> str:
    """value * size, at most 2**62."""
    if value[0] != "%" and size[0] != "%":
        return b.mul(value, size)
    pair = b.pure(f"call {{ i64, i1 }} @llvm.smul.with.overflow.i64(i64 {value}, i64 {size})")
    product = b.pure(f"extractvalue {{ i64, i1 }} {pair}, 0")
    over = b.pure(f"extractvalue {{ i64, i1 }} {pair}, 1")
    return b.minimum(b.pure(f"select i1 {over}, i64 {1 << 62}, i64 {product}"), str(1 << 62))
