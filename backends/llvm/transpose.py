"""The function that transposes square blocks: one for all the copies in a module."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.dtypes import DType
from .builder import Builder
from .simd import Place, Simd, Vec


@dataclass(frozen=True, slots=True)
class Transposition:
    """The function that transposes whole blocks of `side` rows by `width` columns.

    Its arguments: where the columns begin in the input, the table of the rows' offsets from there,
    where they go, how far apart in bytes they go, how many there are, and whether past the caches.
    """

    dtype: DType
    side: int
    lanes: int
    width: int

    def name(self, simd: Simd) -> str:
        """The function's name; it is among what is declared."""
        found = f"einloom.transpose.{self.dtype}"
        if found not in simd.declared:
            simd.declared[found] = self._text(found, simd)
        return found

    def _text(self, name: str, outer: Simd) -> str:
        b = Builder()
        simd, step = Simd(b, outer.isa, outer.declared), self.dtype.itemsize
        table = [b.gep("%table", str(8 * n)) for n in range(self.side)]
        offsets = [b.pure(f"load i64, ptr {place}, align 8") for place in table]
        loop = b.begin_loop("%count", str(self.width))
        here = b.gep("%source", b.offset(loop, str(step)))
        there = b.gep("%target", b.offset(loop, "%apart"))
        pieces: list[list[Vec]] = []
        for first in range(0, self.side, self.lanes):
            starts = [b.gep(here, offset) for offset in offsets[first : first + self.lanes]]
            rows = [simd.load(Place(p, 1, b.depth), self.dtype, self.width) for p in starts]
            pieces.append(simd.transpose(rows))
        moves = [
            (b.gep(b.gep(there, b.mul(str(n), "%apart")), str(at * self.lanes * step)), piece[n])
            for n in range(self.width)
            for at, piece in enumerate(pieces)
        ]
        b.begin_arm()
        for place, value in moves:
            simd.store_past(place, value)
        then = b.end_arm()
        b.begin_arm()
        for place, value in moves:
            simd.store(Place(place, 1), value)
        b.branch("%past", then, b.end_arm(), ())
        b.end_loop(loop)
        head = "ptr %source, ptr %table, ptr %target, i64 %apart, i64 %count, i1 %past"
        lines = ["entry:", *b.scopes[0].lines, "  ret void", "}"]
        return "\n".join([f"define internal void @{name}({head}) noinline #0 {{", *lines])
