"""What a statement has made, as far as one rank family goes, and the passes that lie behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .statements import Statement

#: For each watched tensor, a number of passes over it.
Counts: TypeAlias = "npt.NDArray[np.uint32]"


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a statement has made, as far as one family goes.

    `number` is the pass p of a Stream(p) or Done(p). `swept` is the pass in which the statement
    ran, 0 if it took none. `count` is FuseMax's. `whole`: it keeps every rank of the family.
    `parent` is the operand that the count comes from, or `barrier`, a Done one, raised it.
    `needs` is the operand that gave the pass, if one did; `operands` are all; `waits` are what the
    pass in which it runs had to wait for, as far as its own operands say; `read` is the lineage of
    what its pass reads. Of tensors that are watched, if any are, `counts` are the passes over each
    that lie behind, and `waited` those that its pass waits for.
    """

    by: Statement | None
    stream: bool
    number: int
    swept: int = 0
    count: int = 0
    lineage: int = 0
    behind: int = 0
    whole: bool = False
    parent: State | None = None
    barrier: State | None = None
    needs: State | None = None
    operands: tuple[State, ...] = ()
    waits: tuple[State, ...] = ()
    read: int = 0
    counts: Counts | None = None
    waited: Counts | None = None

    def same(self, other: State | None) -> bool:
        """Whether the two say the same, apart from where they come from."""
        if other is None:
            return False
        ours = (self.stream, self.number, self.count, self.lineage, self.behind)
        theirs = (other.stream, other.number, other.count, other.lineage, other.behind)
        return ours == theirs and (
            np.array_equal(most((self.counts,)), most((other.counts,)))
            and np.array_equal(most((self.waited,)), most((other.waited,)))
        )


#: The state of an intermediate that a family does not touch.
FREE = State(None, stream=False, number=1)


_NONE: Counts = np.zeros(0, np.uint32)


def most(found: Sequence[Counts | None]) -> Counts:
    """The largest number for each watched tensor; an array that is not to be written to."""
    known = [each for each in found if each is not None]
    return reduce(np.maximum, known) if known else _NONE


def either(one: Counts | None, other: Counts | None) -> Counts | None:
    """The larger number for each watched tensor, of what there is."""
    return other if one is None else one if other is None else np.maximum(one, other)


def counted(state: State, watched: int) -> State:
    """The state with the passes over each watched tensor.

    Where it reads one, or what is made of one, there is one more than those it waits for.
    """
    behind = most([each.counts for each in state.operands])
    if not behind.size:
        behind = np.zeros(watched, np.uint32)
    if not state.swept:
        return replace(state, counts=behind)
    waited = most([each.waited if each.stream else each.counts for each in state.operands])
    if state.read:
        packed = np.frombuffer(state.read.to_bytes((watched + 7) // 8, "little"), np.uint8)
        read = np.unpackbits(packed, count=watched, bitorder="little").view(bool)
        behind = behind.copy()
        np.maximum(behind, waited + 1 if waited.size else 1, out=behind, where=read)
    return replace(state, counts=behind, waited=waited if waited.size else None)
