"""Many nested loops as one: LLVM takes long over loops nested dozens deep.

The loops' coordinates, and each sum of coordinate * factor that is asked for, are kept in memory
and moved on together, the last coordinate fastest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .builder import OpenLoop
from .simd import Simd

#: One step: the last coordinate that does not wrap goes up by one, those after it back to 0.
_ADVANCE = """define internal void @einloom.advance(ptr %at, ptr %extents, i64 %loops, ptr %sums, \
ptr %factors, i64 %count) {
  br label %next
next:
  %n = phi i64 [%loops, %0], [%d, %moved]
  %d = sub i64 %n, 1
  %here = getelementptr i64, ptr %at, i64 %d
  %bound = getelementptr i64, ptr %extents, i64 %d
  %old = load i64, ptr %here
  %extent = load i64, ptr %bound
  %up = add i64 %old, 1
  %wraps = icmp eq i64 %up, %extent
  %new = select i1 %wraps, i64 0, i64 %up
  store i64 %new, ptr %here
  %step = sub i64 %new, %old
  %row = mul i64 %d, %count
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %sum, label %moved
sum:
  %k = phi i64 [0, %next], [%k1, %sum]
  %place = add i64 %row, %k
  %from = getelementptr i64, ptr %factors, i64 %place
  %to = getelementptr i64, ptr %sums, i64 %k
  %factor = load i64, ptr %from
  %was = load i64, ptr %to
  %by = mul i64 %factor, %step
  %is = add i64 %was, %by
  store i64 %is, ptr %to
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %count
  br i1 %more, label %sum, label %moved
moved:
  %outer = icmp sgt i64 %d, 0
  %on = and i1 %wraps, %outer
  br i1 %on, label %next, label %done
done:
  ret void
}"""


class Odometer:
    """The loop that stands for loops of these extents, from when it is made."""

    def __init__(self, simd: Simd, extents: Sequence[str]) -> None:
        self.b = simd.b
        self._extents = extents
        self._sums: dict[tuple[tuple[int, str], ...], int] = {}
        simd.declared["einloom.advance"] = _ADVANCE
        simd.declared["llvm.memset.p0.i64"] = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"
        # Memory is taken where the function begins; how much is known when the loop ends.
        self._outer = self.b.scopes[-1]
        names = [self.b.reserve(0) for _ in range(4)]
        self._at, self._bounds, self._totals, self._factors = names
        total = "1"
        for extent in extents:
            total = self.b.mul(total, extent)
        self.loop: OpenLoop = self.b.begin_loop(total)

    def sum(self, factors: Mapping[int, str]) -> str:
        """The sum of coordinate * factor, over the numbers of loops."""
        key = tuple(sorted(factors.items()))
        number = self._sums.setdefault(key, len(self._sums))
        place = self.b.gep(self._totals, str(8 * number))
        return self.b.pure(f"load i64, ptr {place}, align 8", floor=self.loop.depth)

    def before_end(self) -> None:
        """The step to the next point; the last of the body."""
        count, loops = len(self._sums), len(self._extents)
        tables = f"ptr {self._at}, ptr {self._bounds}, i64 {loops}, ptr {self._totals}"
        self.b.do(f"call void @einloom.advance({tables}, ptr {self._factors}, i64 {count})")
        self._fill(count, loops)

    def _fill(self, count: int, loops: int) -> None:
        """The tables, in the scope around the loop: coordinates and sums begin at 0."""
        sizes = {
            self._at: loops,
            self._bounds: loops,
            self._totals: max(count, 1),
            self._factors: max(count * loops, 1),
        }
        taken = [f"  {name} = alloca [{size} x i64], align 8" for name, size in sizes.items()]
        lines = self._outer.lines
        for name, size in sizes.items():
            clear = f"ptr {name}, i8 0, i64 {8 * size}, i1 false"
            lines.append(f"  call void @llvm.memset.p0.i64({clear})")
        values = [(self._bounds, n, extent) for n, extent in enumerate(self._extents)]
        values += [
            (self._factors, n * count + number, factor)
            for key, number in self._sums.items()
            for n, factor in key
        ]
        for table, number, value in values:
            place = self.b.reserve(0)
            lines.append(f"  {place} = getelementptr i64, ptr {table}, i64 {number}")
            lines.append(f"  store i64 {value}, ptr {place}, align 8")
        self.b.scopes[0].lines[0:0] = taken
