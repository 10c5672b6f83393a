"""Sums of quotients that have their divisor in common are divided once they are made.

    O[m,f] = sum of (E[m,n] / L[m]) * V[n,f]   ->   (sum of E[m,n] * V[n,f]) / L[m]

Then E is read where it lies: nothing is packed, and as many divisions are made as there are sums.
Where no divisor is below 1 in size, and none of these sums overflows, no quotient and no sum of
theirs would have, and both ways differ in nothing but rounding; the second rounds less. Whether it
is so is known in the end: what was not is made again, the first way.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.loop_nodes import TOTAL, Apply, Contract, Finish, Load, Register
from .builder import OpenLoop
from .finish import Finishing
from .simd import Place, Simd, Vec, element, typed


def divided(contract: Contract) -> Contract:
    """The contraction, its sums divided in its epilogue if it has a divisor."""
    if contract.divisor is None:
        return contract
    value = Apply("div", (Register(TOTAL, contract.value.dtype), contract.divisor))
    return replace(contract, finish=Finish(contract.buffer, contract.indices, value))


class Deferred:
    """Tries the second way, then the first one if need be.

    Lanes beyond the columns are looked at as well: there the sums are of zeros or some elements.
    """

    def __init__(self, simd: Simd, contract: Contract, finishing: Finishing) -> None:
        assert isinstance(contract.divisor, Load)
        self.simd, self.b = simd, simd.b
        self.divisor, self.finishing = contract.divisor, finishing
        self.of, self.lanes = element(contract.value.dtype), finishing.lanes
        type = typed(self.of, self.lanes)
        self.wrong = self.b.pure(f"alloca {type}, align 64")
        finishing.seen = self._see

    def begin(self, lies: str, rows: str) -> tuple[OpenLoop, str]:
        """Opens the loop over the ways, given whether the dividends lie so that they can be read;
        and whether it is the second one, of so many rows.
        """
        b = self.b
        again = b.begin_loop("2")
        b.do(f"store {typed(self.of, self.lanes)} zeroinitializer, ptr {self.wrong}, align 64")
        first = b.both(lies, b.compare("eq", again.counter, "0"))
        row = b.begin_loop(rows)
        large = b.carry(row, "i1", first)
        pointer = self.finishing.place(self.divisor, row.counter)
        found = self.simd.load(Place(pointer, 1, b.depth), self.divisor.dtype, 1)
        size = self.simd.intrinsic("fabs", self.of, 1, found.only)
        one = self.simd.literal(1, self.divisor.dtype)
        large.next = b.both(large.name, b.pure(f"fcmp oge {self.of} {size}, {one}"))
        return again, b.end_loop(row)[large.name]

    def end(self, again: OpenLoop) -> None:
        """Closes it."""
        b, type = self.b, typed(self.of, self.lanes)
        wrong = b.here(f"load {type}, ptr {self.wrong}, align 64")
        lanes = b.pure(f"fcmp uno {type} {wrong}, {wrong}")
        held = b.pure(f"bitcast <{self.lanes} x i1> {lanes} to i{self.lanes}")
        again.step = b.pure(f"select i1 {b.pure(f'icmp eq i{self.lanes} {held}, 0')}, i64 2, i64 1")
        b.end_loop(again)

    def _see(self, sums: Vec) -> None:
        """Keeps NaN if one of some sums is not finite."""
        b, type = self.b, typed(self.of, self.lanes)
        wrong = b.here(f"load {type}, ptr {self.wrong}, align 64")
        none = b.pure(f"fsub {type} {sums.only}, {sums.only}")
        b.do(f"store {type} {b.pure(f'fadd {type} {wrong}, {none}')}, ptr {self.wrong}, align 64")
