"""Ways of computing a contraction that are quick, and right where its operands are harmless.

Each packed block is gone through once, and a tile takes the quick way if both its blocks let it.
Where two ways round in other places, blocks that do not are looked at more closely: each element of
the output is computed by what its row and its column let it, wherever blocks begin and end.

A maximum that hands NaN on takes several instructions, x86's own one. Whether NaN can turn up is
told by the operands: a sum is NaN if an operand is, or for infinities of both signs; a product if
an operand is, or for an infinity by zero.

Instructions that multiply pairs of bf16 take what is tiny for 0 (exponents.py).
"""

from __future__ import annotations

from typing import Protocol

from ...ir.dtypes import U16
from ...ir.loop_nodes import Apply, Contract
from .exponents import NOTHING, exponent, least, normal
from .packing import Packing
from .products import Product
from .simd import Place, Simd, Vec, element, typed


class Test(Protocol):
    """How blocks are told to be harmless."""

    def survey(self, block: Packing) -> str:
        """What is to be known of a block that has been packed."""
        ...

    def both(self, columns: str, rows: str) -> str:
        """An i1: whether two blocks of which this is known are harmless together."""
        ...


def test_of(simd: Simd, contract: Contract, product: Product | None) -> Test | None:
    """What decides between two ways of computing a contraction; None if there is one way alone."""
    if product is not None:
        return _NothingTiny(simd) if product.normal else None
    return _NoNaN(simd, contract) if _may_be_quick(contract) else None


def _may_be_quick(contract: Contract) -> bool:
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


class _Survey:
    """Goes through a block, `lanes` elements of so many bytes at a time, and folds what it finds.

    `type` is that of what is folded; it begins as `start`, which leaves all else unchanged.
    """

    def __init__(self, simd: Simd, size: int, type: str, start: str) -> None:
        self.simd, self.b = simd, simd.b
        self.lanes = simd.bits // (8 * size)
        self._size, self._type, self._start = size, typed(type, self.lanes), start

    def _fold(self, total: str, pointer: str, count: str | None) -> str:
        """What was found, and the elements there; those beyond `count` are zero."""
        raise NotImplementedError

    def _all(self, block: Packing) -> str:
        """What is found of a block: a vector."""
        b = self.b
        count, distance, length = block.lines
        most = b.pure(f"and i64 {length}, {-self.lanes}")
        lines = b.begin_loop(count)
        outer = b.carry(lines, self._type, self._start)
        line = b.gep(block.target, b.offset(lines, distance))
        steps = b.begin_loop(most, str(self.lanes))
        inner = b.carry(steps, self._type, outer.name)
        here = b.gep(line, b.offset(steps, str(self._size)))
        inner.next = self._fold(inner.name, here, None)
        found = b.end_loop(steps)[inner.name]
        rest = b.gep(line, b.mul(most, str(self._size)))
        outer.next = self._fold(found, rest, b.sub(length, most))
        return b.end_loop(lines)[outer.name]


class _NoNaN(_Survey):
    """Of a maximum of sums all elements are below inf, of products all finite."""

    def __init__(self, simd: Simd, contract: Contract) -> None:
        self.dtype = contract.value.dtype
        super().__init__(simd, self.dtype.itemsize, "i1", "splat (i1 true)")
        assert isinstance(contract.value, Apply)
        self.is_sum = contract.value.op == "add"
        self.op = contract.op

    def survey(self, block: Packing) -> str:
        name = f"llvm.vector.reduce.and.v{self.lanes}i1"
        return self.simd.call("i1", name, (self._type, self._all(block)))

    def both(self, columns: str, rows: str) -> str:
        return self.b.pure(f"and i1 {columns}, {rows}")

    def _fold(self, total: str, pointer: str, count: str | None) -> str:
        b = self.b
        type = typed(element(self.dtype), self.lanes)
        found = self.simd.load(Place(pointer, 1, b.depth), self.dtype, self.lanes, count).only
        worst = self.simd.literal(float("inf"), self.dtype, self.lanes)
        if not self.is_sum:
            found = self.simd.intrinsic("fabs", element(self.dtype), self.lanes, found)
        elif self.op == "min":
            found = b.pure(f"fneg {type} {found}")
        fine = b.pure(f"fcmp olt {type} {found}, {worst}")
        return b.pure(f"and {self._type} {total}, {fine}")


class _NothingTiny(_Survey):
    """Of bf16 the least exponent of a block; of two blocks, whether their sum is large enough."""

    def __init__(self, simd: Simd) -> None:
        super().__init__(simd, U16.itemsize, "i16", f"splat (i16 {NOTHING})")

    def survey(self, block: Packing) -> str:
        b, name = self.b, f"llvm.vector.reduce.umin.v{self.lanes}i16"
        found = self.simd.call("i16", name, (self._type, self._all(block)))
        return exponent(self.simd, b.pure(f"zext i16 {found} to i32"), 1)

    def both(self, columns: str, rows: str) -> str:
        return normal(self.simd, columns, rows, 1)

    def _fold(self, total: str, pointer: str, count: str | None) -> str:
        found = self.simd.load(Place(pointer, 1, self.b.depth), U16, self.lanes, count).only
        return least(self.simd, total, found, "i16", self.lanes)
