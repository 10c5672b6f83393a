"""Maxima and minima of sums and products that cannot be NaN, in one instruction each.

A maximum that hands NaN on takes several instructions, x86's own one. Whether NaN can turn up is
told by the operands: a sum is NaN if an operand is, or for infinities of both signs; a product if
an operand is, or for an infinity by zero. So each packed block is gone through once, and a tile
takes the quick way if both its blocks let it.
"""

from __future__ import annotations

from ...ir.loop_nodes import Apply, Contract
from .builder import Builder
from .packing import Packing
from .simd import Place, Simd, Vec, element, typed


def may_be_quick(contract: Contract) -> bool:
    """Whether a contraction is a maximum or minimum that NaN makes slow, of one sum or product."""
    value = contract.value
    operands = {contract.columns.value, contract.rows.value}
    return (
        contract.op in ("max", "min")
        and value.dtype.name in ("f32", "f64")
        and isinstance(value, Apply)
        and value.op in ("add", "mul")
        and len(value.args) == 2
        and set(value.args) == operands
    )


def quick(simd: Simd, op: str, value: Vec, total: Vec) -> Vec:
    """The larger or smaller of two vectors without NaN."""
    b, of = simd.b, typed(element(total.dtype), total.lanes)
    better = b.pure(f"fcmp {'ogt' if op == 'max' else 'olt'} {of} {value.only}, {total.only}")
    return simd.choose(better, value, total)


class Harmless:
    """Finds whether all elements of a packed block are harmless: no NaN follows from them."""

    def __init__(self, simd: Simd, contract: Contract) -> None:
        self.simd, self.b = simd, simd.b
        self.dtype = contract.value.dtype
        self.lanes = simd.bits // self.dtype.bits
        assert isinstance(contract.value, Apply)
        self.is_sum = contract.value.op == "add"
        self.op = contract.op

    def test(self, block: Packing) -> str:
        """An i1: whether a block that has been packed is."""
        b, mask = self.b, typed("i1", self.lanes)
        count, distance, length = block.lines
        most = b.pure(f"and i64 {length}, {-self.lanes}")
        lines = b.begin_loop(count)
        outer = b.carry(lines, mask, "splat (i1 true)")
        line = b.gep(block.target, b.offset(lines, distance))
        steps = b.begin_loop(most, str(self.lanes))
        inner = b.carry(steps, mask, outer.name)
        here = b.gep(line, b.offset(steps, str(self.dtype.itemsize)))
        inner.next = self._both(inner.name, self._harmless(here, None))
        found = b.end_loop(steps)[inner.name]
        rest = b.gep(line, b.mul(most, str(self.dtype.itemsize)))
        outer.next = self._both(found, self._harmless(rest, b.sub(length, most)))
        found = b.end_loop(lines)[outer.name]
        name = f"llvm.vector.reduce.and.v{self.lanes}i1"
        return self.simd.call("i1", name, (mask, found))

    def _both(self, a: str, b: str) -> str:
        return self.b.pure(f"and {typed('i1', self.lanes)} {a}, {b}")

    def _harmless(self, pointer: str, count: str | None) -> str:
        """Whether elements are: in a maximum of sums all below inf, of products all finite."""
        b: Builder = self.b
        type = typed(element(self.dtype), self.lanes)
        found = self.simd.load(Place(pointer, 1, b.depth), self.dtype, self.lanes, count).only
        worst = self.simd.literal(float("inf"), self.dtype, self.lanes)
        if not self.is_sum:
            found = self.simd.intrinsic("fabs", element(self.dtype), self.lanes, found)
        elif self.op == "min":
            found = b.pure(f"fneg {type} {found}")
        return b.pure(f"fcmp olt {type} {found}, {worst}")
