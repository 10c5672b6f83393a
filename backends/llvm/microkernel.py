"""The micro-kernel: a register tile of a contraction, summed over a piece of the depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

from ...ir.dtypes import DType
from ...ir.loop_nodes import Apply, Contract, Value
from .builder import OpenLoop, Scope
from .compute import compute
from .exponents import NOTHING, exponent, least_of_words, normal
from .harmless import quick
from .operand import Operand
from .packing import Packing
from .products import Product, unit
from .simd import Place, Vec, element, typed
from .values import Values

#: How many steps of the depth the micro-kernel's loop makes at a time, if each is short.
_UNROLLED = 2

#: How many steps of the depth ahead the panel of columns is fetched.
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Panels:
    """The packed blocks that a tile is computed from: of so many steps of the depth.

    `across` and `down` are the loops over their tiles; of a tile's rows those from `strip` on are
    multiplied.
    """

    columns: Packing
    rows: Packing
    depth: str
    across: OpenLoop
    down: OpenLoop
    strip: str = "0"


class MicroKernel:
    """Writes tiles of `height` rows by `vectors` vectors of so many `lanes`."""

    def __init__(
        self,
        values: Values,
        contract: Contract,
        product: Product | None,
        height: int,
        vectors: int,
        lanes: int,
    ) -> None:
        self.values, self.contract, self.product = values, contract, product
        self.simd, self.b = values.simd, values.b
        self.height, self.vectors, self.lanes = height, vectors, lanes
        self.width = vectors * lanes
        self.dtype: DType = contract.value.dtype
        self.summed: DType = self.dtype if product is None else product.total

    def totals(self, start: Vec, panels: Panels, harmless: str) -> list[list[Vec]]:
        """What the tile's sums over a piece of the depth are, in the output's dtype.

        `harmless`: an i1, whether there is a quick way; "" if there is none (harmless.py).
        """
        product = self.product
        if product is None:
            totals = [[start] * self.vectors for _ in range(self.height)]
            return self._either(totals, panels, panels.depth, harmless)
        more = 0 if product.ones is None else 1
        zero = self.simd.constant(0, product.total, self.lanes).only
        zeros = Vec(product.total, (zero,) * product.sums, self.lanes)
        totals = [[zeros] * self.vectors for _ in range(self.height + more)]
        totals = self._either(totals, panels, self._groups(panels), harmless)
        ones = totals[-1]
        return [
            [
                self.values.convert.by_value(
                    replace(total, parts=(product.finish(self.simd, total.parts, extra.parts),)),
                    self.dtype,
                )
                for total, extra in zip(line, ones, strict=True)
            ]
            for line in totals[: self.height]
        ]

    def _either(
        self, totals: list[list[Vec]], panels: Panels, depth: str, harmless: str
    ) -> list[list[Vec]]:
        """The accumulators after the loop over the depth, which is quick where that is right."""
        if not harmless:
            return self._summed(totals, panels, depth)
        found: list[list[list[Vec]]] = []
        arms: list[Scope] = []
        for is_quick in (True, False):
            self.b.begin_arm()
            if is_quick or self.product is None:
                found.append(self._summed(totals, panels, depth, is_quick))
            else:
                found.append(self.mended(self._summed(totals, panels, depth, True), panels))
            arms.append(self.b.end_arm())
        return self.merged(harmless, arms, found)

    def mended(self, quick: list[list[Vec]], panels: Panels) -> list[list[Vec]]:
        """Sums of bf16 that are right, given the quick ones, where some of these may be wrong."""
        b, simd, lanes = self.b, self.simd, self.lanes
        groups = self._groups(panels)
        columns, rows = self._exponents(panels, groups)
        masks = [
            [normal(simd, column, simd.spread("i32", row, lanes), lanes) for column in columns]
            for row in rows
        ]
        type = typed("i1", lanes)
        all_of = reduce(
            lambda one, other: b.pure(f"and {type} {one}, {other}"),
            (mask for line in masks for mask in line),
        )
        fine = simd.call("i1", f"llvm.vector.reduce.and.v{lanes}i1", (type, all_of))
        b.begin_arm()
        then = b.end_arm()
        b.begin_arm()
        zero = simd.constant(0, self.summed, lanes)
        slow = self._summed([[zero] * self.vectors for _ in quick], panels, groups)
        chosen = [
            [simd.choose(*each) for each in zip(*lines, strict=True)]
            for lines in zip(masks, quick, slow, strict=True)
        ]
        return self.merged(fine, (then, b.end_arm()), (quick, chosen))

    def _groups(self, panels: Panels) -> str:
        """How many words deep the panels are."""
        words = panels.columns.operand.words
        assert words is not None
        return self.b.pure(f"udiv i64 {panels.columns.room}, {words.group}")

    def _exponents(self, panels: Panels, groups: str) -> tuple[list[str], list[str]]:
        """The least exponent of each column, in vectors, and of each row."""
        b, simd, lanes = self.b, self.simd, self.lanes
        columns, rows = panels.columns.operand, panels.rows.operand
        panel = panels.columns.tile(panels.across)
        lines = panels.rows.rows(panels.down, panels.strip, self.height)
        loop = b.begin_loop(groups)
        start = simd.spread("i32", str(NOTHING), lanes)
        least = [b.carry(loop, typed("i32", lanes), start) for _ in range(self.vectors)]
        lowest = [b.carry(loop, "i32", str(NOTHING)) for _ in lines]
        across = self._stepped(panel, columns, "0", loop)
        for v, phi in enumerate(least):
            words = self._element(b.gep(across, str(v * simd.bits // 8)), columns, lanes).only
            phi.next = least_of_words(simd, phi.name, words, lanes)
        for (line, at), phi in zip(lines, lowest, strict=True):
            place = b.gep(self._stepped(line, rows, "0", loop), str(at))
            phi.next = least_of_words(simd, phi.name, self._element(place, rows, 1).only, 1)
        found = b.end_loop(loop)
        return (
            [exponent(simd, found[phi.name], lanes) for phi in least],
            [exponent(simd, found[phi.name], 1) for phi in lowest],
        )

    def _summed(
        self,
        totals: list[list[Vec]],
        panels: Panels,
        depth: str,
        is_quick: bool = False,
    ) -> list[list[Vec]]:
        """The accumulators after the loop over the depth: over its steps, or groups of them."""
        b, contract = self.b, self.contract
        columns, rows = panels.columns, panels.rows
        panel = columns.tile(panels.across)
        lines = rows.rows(panels.down, panels.strip, self.height)
        short = isinstance(contract.value, Apply) and len(contract.value.args) == 2
        unrolled = _UNROLLED if short and self.dtype.kind != "complex" else 1
        most = b.pure(f"and i64 {depth}, {-unrolled}")
        stages = [("0", most, unrolled), (most, b.sub(depth, most), 1)]
        for origin, length, count in stages if unrolled > 1 else stages[:1]:
            loop = b.begin_loop(length, str(count))
            type = typed(element(self.summed), self.lanes)
            phis = [
                [[b.carry(loop, type, part) for part in value.parts] for value in line]
                for line in totals
            ]
            found = [
                [Vec(self.summed, tuple(phi.name for phi in value), self.lanes) for value in line]
                for line in phis
            ]
            across = self._stepped(panel, columns.operand, origin, loop)
            down = [(self._stepped(line, rows.operand, origin, loop), at) for line, at in lines]
            for n in range(count):
                self._fetch(b.gep(across, str((n + _AHEAD) * columns.operand.strides[0])))
            for n in range(count):
                found = self._step(found, across, down, n, columns.operand, rows.operand, is_quick)
            flat = [phi for line in phis for value in line for phi in value]
            ends = [part for line in found for value in line for part in value.parts]
            for phi, end in zip(flat, ends, strict=True):
                phi.next = end
            results = b.end_loop(loop)
            totals = [
                [
                    Vec(self.summed, tuple(results[phi.name] for phi in value), self.lanes)
                    for value in line
                ]
                for line in phis
            ]
        return totals

    def _stepped(self, start: str, operand: Operand, origin: str, loop: OpenLoop) -> str:
        """Where a loop over steps of the depth is, which begins with step `origin`."""
        step = str(operand.strides[0])
        return self.b.gep(self.b.gep(start, self.b.mul(origin, step)), self.b.offset(loop, step))

    def _fetch(self, line: str) -> None:
        """Brings a later step of the panel near: it comes from the level-2 cache."""
        size = self.contract.columns.value.dtype.itemsize
        count = self.vectors
        if self.product is not None:
            size, count = self.product.word.itemsize, self.vectors * self.product.columns.count
        for v in range(count):
            self.simd.fetch(self.b.gep(line, str(v * self.lanes * size)))

    def _step(
        self,
        totals: list[list[Vec]],
        panel: str,
        lines: Sequence[tuple[str, int]],
        number: int,
        columns: Operand,
        rows: Operand,
        is_quick: bool,
    ) -> list[list[Vec]]:
        """One step of the depth: a row of the panel by a column of the block."""
        b, lanes = self.b, self.lanes
        panel = b.gep(panel, str(number * columns.strides[0]))
        size = (columns.dtype if self.product is None else self.product.word).itemsize
        across = [
            self._element(b.gep(panel, str(v * lanes * size)), columns, lanes)
            for v in range(self.vectors)
        ]
        found: list[list[Vec]] = []
        for i, line in enumerate(totals):
            if self.product is not None and i == self.height:
                one = unit(self.simd, self.product)
            else:
                start, at = lines[i]
                place = b.gep(start, str(number * rows.strides[0] + at))
                one = self._element(place, rows, 1)
            found.append(
                [self._fold(total, v, one, is_quick) for total, v in zip(line, across, strict=True)]
            )
        return found

    def _element(self, pointer: str, operand: Operand, lanes: int) -> Vec:
        """Elements of one step of the depth, or the words of a group of steps."""
        if operand.words is None:
            return self.read(pointer, operand.dtype, lanes, split=True)
        places = [
            self.b.gep(pointer, str(n * operand.plane)) if n else pointer
            for n in range(operand.words.count)
        ]
        word = operand.words.word
        return Vec(word, tuple(self.read(place, word, lanes).only for place in places), lanes)

    def _fold(self, total: Vec, column: Vec, row: Vec, is_quick: bool) -> Vec:
        arithmetic, contract = self.values.arithmetic, self.contract
        if self.product is not None:
            fold = self.product.quick if is_quick else self.product.fold
            assert fold is not None
            words = self.simd.splat(row, self.lanes).parts
            return replace(total, parts=fold(self.simd, total.parts, column.parts, words))
        value = contract.value
        if contract.op == "add" and isinstance(value, Apply) and value.op == "mul":
            factors = [self._value(arg, column, row) for arg in value.args]
            found = arithmetic.multiply_add(factors, total)
        elif is_quick:
            found = quick(self.simd, contract.op, self._value(value, column, row), total)
        else:
            found = arithmetic.apply(contract.op, (self._value(value, column, row), total))
        return self.simd.splat(found, self.lanes)

    def _value(self, value: Value, column: Vec, row: Vec) -> Vec:
        """What is folded, given an element of each operand."""
        known = {self.contract.columns.value: column, self.contract.rows.value: row}
        return compute(self.values, value, known)

    def merged(
        self, test: str, arms: Sequence[Scope], totals: Sequence[list[list[Vec]]]
    ) -> list[list[Vec]]:
        """The accumulators of the first of two arms if the test holds, else of the second."""
        type = typed(element(totals[0][0][0].dtype), self.lanes)
        parts = [[part for line in of for total in line for part in total.parts] for of in totals]
        pairs = [(type, *pair) for pair in zip(*parts, strict=True)]
        merged = iter(self.b.branch(test, arms[0], arms[1], pairs))
        return [
            [replace(total, parts=tuple(next(merged) for _ in total.parts)) for total in line]
            for line in totals[0]
        ]

    def read(
        self,
        pointer: str,
        dtype: DType,
        lanes: int,
        count: str | None = None,
        split: bool = False,
    ) -> Vec:
        """A load that stays in its place."""
        return self.simd.load(Place(pointer, 1, self.b.depth), dtype, lanes, count, split)
