"""Why a pass is needed: the two reads that no order brings together, and what lies between."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ...ir.einsum import Access
from .pass_report import Reading, Witness
from .state import State
from .statements import Statement
from .sweep import Swept
from .walk import Walk


class Lineage:
    """A bit for each tensor that others are made of: an input, or one made of none along a rank."""

    def __init__(self, inputs: frozenset[str]) -> None:
        self._inputs = inputs
        self._bits: dict[str, int] = {}
        self._names: list[str] = []

    def bits(self, tensor: str, *, alone: bool = False) -> int:
        """The bit of an input; of an intermediate only if it stands `alone`, made of none."""
        if tensor not in self._inputs and not alone:
            return self._bits.get(tensor, 0)
        if tensor not in self._bits:
            self._bits[tensor] = 1 << len(self._names)
            self._names.append(tensor)
        return self._bits[tensor]

    def of(self, lineage: int) -> Iterator[str]:
        """The names of the tensors in a lineage."""
        while lineage:
            low = lineage & -lineage
            yield self._names[low.bit_length() - 1]
            lineage ^= low


def witnesses(walk: Walk, swept: Swept, names: Lineage) -> Iterator[Witness]:
    """One witness for each pass beyond the first, along one chain of passes."""
    most = swept.passes
    state = next((s for s in swept.all if s.swept and s.count == most), None)
    found: list[Witness] = []
    while state is not None:
        if state.barrier is not None:
            found.append(_witness(walk, swept, state, state.barrier, names))
        state = state.barrier or state.parent
    return reversed(found)


def _witness(walk: Walk, swept: Swept, again: State, barrier: State, names: Lineage) -> Witness:
    shared = again.read & barrier.behind
    chain = [barrier]
    seen = {id(barrier)}
    while True:
        here = chain[-1]
        operands = [s for s in here.operands if s.behind & shared and id(s) not in seen]
        if not operands or (here.swept and here.read & shared and not here.stream):
            break
        seen |= {id(state) for state in operands}
        chain.append(min(operands, key=lambda state: state.stream))  # what is folded, if any is
    first, second = chain[-1].by, again.by
    assert first is not None
    assert second is not None
    shared &= chain[-1].read or shared
    return Witness(
        again.count,
        Reading(first.einsum, _reading(walk, swept, first, shared, names)),
        tuple(dict.fromkeys(s.by.tensor for s in reversed(chain) if s.by and not s.stream)),
        Reading(second.einsum, _reading(walk, swept, second, shared, names)),
        partial(names.of, shared),
    )


def _reading(
    walk: Walk, swept: Swept, statement: Statement, shared: int, names: Lineage
) -> Access | None:
    """The read along the family with which a statement reads what the two share."""
    for touch in walk.touches(statement):
        tensor = touch.access.tensor
        lineage = names.bits(tensor) if touch.is_input else swept.states[tensor].lineage
        if lineage & shared:
            return touch.access
    return None
