"""In which pass over one rank family each statement runs: the algorithm of the pass count.

A family is walked from its outermost rank inwards: a *visit* is one coordinate of that rank, with
all that lies under it. What a statement makes is then one of two things:

    Stream(p)   there, at each visit, in pass p
    Done(q)     there as a whole, for pass q and those after it

An input is there in any pass, whichever way it is read. A read at the variable that walks the
family is *aligned*: it needs its Stream in the same pass. A final, reversed, gathered or
many-variable read is *complete*: it needs the whole, so the pass after. A statement that walks the
family runs in the first pass that all it reads allow; it makes a Stream of that pass if it keeps
the outermost rank, and otherwise, having added up over it, is Done for the next pass. One that
walks only some of a family's ranks, over values that are already folded (a maximum for each tile),
takes no pass of its own: it runs inside the pass that makes them, or between two.

Beside the pass goes the count of FuseMax: there a pass that must wait for the one before it counts
as another only if both read one tensor, or what is made of it. `lineage` says, by a bit for each
input, what a Stream is made of; `behind`, what the passes that make up the count have read.

Source: the definition of a pass of FuseMax (arXiv 2406.10491, section 3); the paper gives no
algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import reduce
from types import MappingProxyType
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ...ir.einsum import Access
from ...ir.ranks import RankExpr
from .families import Ranks
from .statements import Group, Statement

#: For each watched tensor, a number of passes over it.
Counts: TypeAlias = "npt.NDArray[np.uint32]"


class Bits(Protocol):
    """The bit of a tensor in a lineage."""

    def __call__(self, tensor: str, *, alone: bool = False) -> int: ...


class Way(Enum):
    """How a read goes along the family."""

    ALIGNED = "aligned"
    PREFIX = "prefix"  # all up to the visit: added up as the pass goes, or read again
    LAST = "last"  # one coordinate, known when the whole is
    COMPLETE = "complete"


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
            np.array_equal(_most((self.counts,)), _most((other.counts,)))
            and np.array_equal(_most((self.waited,)), _most((other.waited,)))
        )


#: Of an intermediate that a family does not touch.
_FREE = State(None, stream=False, number=1)


@dataclass(frozen=True, slots=True)
class Touch:
    """A read along the family."""

    access: Access
    way: Way
    is_input: bool
    whole: bool  # the axis is of all of the family's ranks


class Walk:
    """One family, walked with one of its ranks outermost.

    Args:
        axes: for each tensor, the rank of each of its axes; None where it is of no rank.
        inputs: the names of the inputs.
    """

    def __init__(
        self,
        ranks: Ranks,
        leaves: tuple[str, ...],
        outer: str,
        axes: Mapping[str, tuple[str | None, ...]],
        inputs: frozenset[str],
    ) -> None:
        self.leaves, self.outer = leaves, outer
        self._ranks, self._axes, self._inputs = ranks, axes, inputs
        self._known: dict[int, tuple[Statement, list[Touch]]] = {}

    def covers(self, rank: str) -> bool:
        """Whether a coordinate of that rank says which visit it is of."""
        return self.outer in self._ranks.leaves(rank)

    def driver(self, statement: Statement) -> str | None:
        """The variable with which a statement walks the family."""
        variables = (*statement.kept, *statement.reduced)
        return next((v for v in variables if self.covers(v.upper())), None)

    def keeps(self, statement: Statement) -> bool:
        """Whether what it makes has the outermost rank."""
        return any(self.covers(v.upper()) for v in statement.kept)

    def is_full(self, variables: Sequence[str]) -> bool:
        """Whether these variables walk every rank of the family."""
        walked = {leaf for v in variables for leaf in self._ranks.leaves(v.upper())}
        return walked >= set(self.leaves)

    def touches(self, statement: Statement) -> list[Touch]:
        """The reads that go along the family, and how."""
        known = self._known.get(id(statement))
        if known is None:
            known = (statement, self._touches(statement))  # kept, so that no other has its id
            self._known[id(statement)] = known
        return known[1]

    def _touches(self, statement: Statement) -> list[Touch]:
        driver = self.driver(statement)
        found: list[Touch] = []
        for access in statement.reads:
            is_input = access.tensor in self._inputs
            ways: list[Way] = []
            whole = False
            axes = self._axes.get(access.tensor, ())
            for index, axis in zip(access.indices, axes, strict=False):
                if axis is None:
                    continue
                way = self._way(index, axis, driver, statement, is_input)
                if way is not None:
                    ways.append(way)
                    whole |= set(self._ranks.leaves(axis)) >= set(self.leaves)
            if ways:
                found.append(Touch(access, max(ways, key=_STRICTNESS), is_input, whole))
        return found

    def _way(
        self,
        index: RankExpr | Access,
        axis: str,
        driver: str | None,
        statement: Statement,
        is_input: bool,
    ) -> Way | None:
        along = self.covers(axis)
        if isinstance(index, Access):
            return Way.COMPLETE if along else None
        bare = RankExpr(index.terms).variable
        if bare is not None and bare.upper() != axis:
            # An alias walks the rank of the axis under a name, and so as a rank, of its own.
            of_alias = self._ranks.root(bare.upper()) == self._ranks.root(axis)
            if of_alias and not self.covers(bare.upper()):
                return Way.COMPLETE if along and not is_input else None
            along = along or (of_alias and self.covers(bare.upper()))
        if not along:
            return None
        if not any(True for _ in index.variables()):
            return None if is_input else Way.LAST
        if bare is not None and self.covers(bare.upper()):
            if bare == driver:
                return Way.ALIGNED
            return Way.PREFIX if (bare, driver) in statement.below else Way.COMPLETE
        if driver in tuple(index.variables()) and self._ranks.is_coordinate(index, axis):
            return Way.ALIGNED
        return Way.COMPLETE


_STRICTNESS = tuple(Way).index


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of every statement; of a scan's, after its last round.

    `feedback` are the iterative ranks along which each round takes passes of its own.
    """

    states: Mapping[str, State]
    all: tuple[State, ...]
    feedback: frozenset[str]

    @property
    def generations(self) -> int:
        return max((state.swept for state in self.all), default=0)

    @property
    def passes(self) -> int:
        return max((state.count for state in self.all if state.swept), default=0)

    @property
    def counts(self) -> Counts:
        """The passes over each of the tensors that were watched."""
        return _most([state.counts for state in self.all])


def sweep(
    walk: Walk,
    groups: Sequence[Group],
    bits: Bits,
    *,
    inherits: bool = True,
    rounds: Callable[[str], int | None] = lambda rank: None,
    more: Mapping[str, int] = MappingProxyType({}),
    watched: int = 0,
) -> Swept:
    """Runs the algorithm over the statements.

    Args:
        bits: a tensor's own bit of lineage; 0 for one whose lineage is not asked for. `alone`: one
            that is made of no other along the family.
        inherits: whether what is made of a tensor has its lineage.
        rounds: how many iterations an iterative rank has, if that is known.
        more: rounds beyond the usual for a scan whose iterations take passes of their own.
        watched: for so many bits, from the lowest, the passes over each are counted by themselves.
    """
    states: dict[str, State] = {}
    every: list[State] = []

    def run(statement: Statement) -> State:
        state = _run(walk, statement, states, bits, inherits)
        return _counted(state, watched) if watched else state

    feedback: set[str] = set()
    for group in groups:
        if group.rank is None:
            for statement in group.statements:
                states[statement.tensor] = run(statement)
                every.append(states[statement.tensor])
            continue
        known, usual = rounds(group.rank), usual_rounds(group)
        wanted = usual + more.get(group.rank, 0)
        last: dict[str, State] = {}
        settled = False
        for turn in range(wanted if known is None else max(min(known, wanted), 1)):
            round_before = last
            # A scan's starts stand once, its steps again and again.
            again = [s for s in group.statements if turn == 0 or not s.is_start]
            for statement in again:
                after = run(statement)
                states[statement.tensor] = _joined(states.get(statement.tensor), after)
            last = {s.tensor: states[s.tensor] for s in group.statements}
            settled = all(state.same(round_before.get(name)) for name, state in last.items())
            if settled:
                break
        if not settled and (known is None or known > usual):
            feedback.add(group.rank)
        every += last.values()
    return Swept(states, tuple(every), frozenset(feedback))


def usual_rounds(group: Group) -> int:
    """So many rounds settle a scan whose iterations take no passes of their own."""
    return len(group.statements) + 2


def _joined(one: State | None, other: State) -> State:
    """What a scan's tensor is, of which its starts or an earlier round gave `one`."""
    if one is None:
        return other
    latest = max(one.number, other.number)
    if one.stream and not other.stream:
        latest = max(one.number + 1, other.number)
    first = one if one.count > other.count else other
    return replace(
        other,
        number=latest,
        swept=max(one.swept, other.swept),
        count=first.count,
        lineage=one.lineage | other.lineage,
        behind=_behind(first.count, (one, other)),
        parent=first.parent,
        barrier=first.barrier,
        operands=(*other.operands, one),
        waits=_waits((one, other), ()),
        read=one.read | other.read,
        counts=_either(one.counts, other.counts),
        waited=_either(one.waited, other.waited),
    )


def _run(
    walk: Walk,
    statement: Statement,
    states: Mapping[str, State],
    bits: Bits,
    inherits: bool,
) -> State:
    touched = {id(touch.access): touch for touch in walk.touches(statement)}
    walks = walk.driver(statement) is not None
    streams: list[State] = []
    done: list[State] = []
    lineage, whole, traversal = 0, False, False
    for access in statement.reads:
        touch = touched.get(id(access))
        if touch is not None and touch.is_input:
            lineage |= bits(access.tensor)
            whole |= touch.whole and touch.way is not Way.COMPLETE
            traversal |= touch.way is Way.COMPLETE
            continue
        state = states.get(access.tensor, _FREE)
        if touch is not None and touch.way is not Way.LAST:
            lineage |= bits(access.tensor) | (state.lineage if inherits else 0)
        if not state.stream:
            done.append(state)
        elif touch is None or touch.way in (Way.COMPLETE, Way.LAST):
            done.append(replace(state, stream=False, number=state.number + 1))
        else:
            streams.append(state)
            whole |= state.whole
    operands = (*streams, *done)
    needs = max(operands, key=_number, default=None)
    latest = 1 if needs is None else needs.number
    full = traversal or (walks and (whole or walk.is_full((*statement.kept, *statement.reduced))))
    inside = walks and any(state.number == latest for state in streams)
    if not full and not inside:
        # Between two passes, once all it reads is there.
        parent = max(operands, key=lambda state: state.count, default=None)
        count = 0 if parent is None else parent.count
        return State(
            statement,
            False,
            latest,
            count=count,
            lineage=bits(statement.tensor, alone=walk.keeps(statement)),
            behind=_behind(count, operands),
            parent=parent,
            needs=needs,
            operands=operands,
        )
    own = lineage or bits(statement.tensor, alone=True)
    waits = _waits(streams, done)
    count, parent, barrier = 1, None, None
    for each in operands:
        if each.count > count or parent is None:
            count, parent = max(each.count, count), each
    for each in waits:
        if each.behind & own and each.count + 1 > count:
            count, parent, barrier = each.count + 1, None, each
    walked = (*statement.kept, *statement.reduced)
    keeps = walk.keeps(statement) and (walk.is_full(walked) or not traversal)
    unreduced = full and keeps and walk.is_full(statement.kept)
    return State(
        statement,
        keeps,
        latest if keeps else latest + 1,
        latest,
        count,
        own if unreduced else bits(statement.tensor, alone=True),
        own | _behind(count, operands),
        unreduced,
        parent,
        barrier,
        needs,
        operands,
        waits,
        own,
    )


def _waits(streams: Sequence[State], done: Sequence[State]) -> tuple[State, ...]:
    """The values that a pass must wait for, of the highest count: its own, and its Streams'."""
    found = [*done, *(each for state in streams for each in state.waits)]
    most = max((state.count for state in found), default=0)
    kept: list[State] = []
    behind = 0
    for state in found:
        if most and state.count == most and state.behind & ~behind:
            behind |= state.behind
            kept.append(state)
    return tuple(kept)


_NONE: Counts = np.zeros(0, np.uint32)


def _most(found: Sequence[Counts | None]) -> Counts:
    """The largest number for each watched tensor; an array that is not to be written to."""
    known = [each for each in found if each is not None]
    return reduce(np.maximum, known) if known else _NONE


def _either(one: Counts | None, other: Counts | None) -> Counts | None:
    return other if one is None else one if other is None else np.maximum(one, other)


def _counted(state: State, watched: int) -> State:
    """The state with the passes over each watched tensor.

    Where it reads one, or what is made of one, there is one more than those it waits for.
    """
    behind = _most([each.counts for each in state.operands])
    if not behind.size:
        behind = np.zeros(watched, np.uint32)
    if not state.swept:
        return replace(state, counts=behind)
    waited = _most([each.waited if each.stream else each.counts for each in state.operands])
    if state.read:
        packed = np.frombuffer(state.read.to_bytes((watched + 7) // 8, "little"), np.uint8)
        read = np.unpackbits(packed, count=watched, bitorder="little").view(bool)
        behind = behind.copy()
        np.maximum(behind, waited + 1 if waited.size else 1, out=behind, where=read)
    return replace(state, counts=behind, waited=waited if waited.size else None)


def _number(state: State) -> int:
    return state.number


def _behind(count: int, states: Sequence[State]) -> int:
    found = 0
    for state in states:
        if state.count == count:
            found |= state.behind
    return found
