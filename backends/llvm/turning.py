"""Lines of an operand that is consecutive along its own variables: transposed in registers.

What multiplies blocks (tiles.py) reads the rows' operand along the depth. So many own coordinates
as a vector has words are packed at a time, for as many words of the depth: vectors of elements are
joined to words, and these transposed.
"""

from __future__ import annotations

from ...ir.dtypes import I32
from .operand import Operand
from .packing import Packing
from .simd import Place, Vec
from .values import Values


def packing_of(values: Values, operand: Operand, source: str) -> Packing:
    """What packs the blocks of an operand that begins at `source`."""
    kind = Turning if operand.mode == "turned" else Packing
    return kind(values, operand, source)


class Turning(Packing):
    """Packs the blocks of such an operand."""

    def _copy(self) -> None:
        """Line after line where too few coordinates are together; beyond the last, that again."""
        b, operand = self.b, self.operand
        words = operand.words
        assert words is not None
        side = self.simd.bits // I32.bits
        distance = str(operand.lane * self._step)
        most = b.pure(f"udiv i64 {self.depth}, {words.multiple}")
        most = b.mul(most, str(words.multiple))
        with self._loop(b.multiple(self.count, operand.tile), str(side)) as own:
            lines = b.gep(self.target, b.offset(own, distance))
            left = b.sub(self.count, own.counter)
            together = b.minimum(left, self._run(b.minimum(own.counter, b.sub(self.count, "1"))))

            def turned() -> None:
                with self._loop(most, str(words.multiple)) as step:
                    self._turn(own.counter, step.counter, lines, None)
                with self._loop(b.sub(self.depth, most), str(words.multiple)):
                    self._turn(own.counter, most, lines, str(side))

            def line_by_line() -> None:
                with self._loop(str(side)) as row:
                    number = b.minimum(b.add(own.counter, row.counter), b.sub(self.count, "1"))
                    source, line = self._own(number), b.gep(lines, b.offset(row, distance))
                    with self._loop(self.depth) as step:
                        value = self._load(self._from(source, self._along(step.counter)), 1)
                        self._store(b.gep(line, b.offset(step, str(self._step))), value)
                    self._clear(b.gep(line, b.mul(self.depth, str(self._step))), self._step)

            self._branch(b.compare("sge", together, str(side)), turned, line_by_line)

    def _turn(self, own: str, begin: str, lines: str, count: str | None) -> None:
        """A vector of words of each of as many lines; with a count, zero beyond the depth."""
        b, words = self.b, self.operand.words
        assert words is not None
        side = self.simd.bits // I32.bits
        source, last = self._own(own), b.sub(self.depth, "1")
        rows: list[Vec] = []
        for number in range(side):
            elements: list[Vec] = []
            for n in range(words.group):
                step = b.add(begin, str(number * words.group + n))
                have = count
                if count is not None:
                    inside = b.compare("sle", step, last)
                    have = b.pure(f"select i1 {inside}, i64 {count}, i64 0")
                    step = b.minimum(step, last)
                value = self._load(self._from(source, self._along(step)), side, have)
                elements.append(self._element(value))
            rows.append(Vec(I32, words.join(self.simd, words, elements), side))
        place = b.gep(lines, b.mul(begin, str(self._step)))
        for number, line in enumerate(self.simd.transpose(rows)):
            there = b.gep(place, str(number * self.operand.lane * self._step))
            self.simd.store(Place(there, 1), line)
