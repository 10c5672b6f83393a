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
from types import MappingProxyType
from typing import Protocol

from .state import FREE, Counts, State, counted, either, most
from .statements import Group, Statement
from .walk import Walk, Way


class Bits(Protocol):
    """The bit of a tensor in a lineage."""

    def __call__(self, tensor: str, *, alone: bool = False) -> int: ...


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
        return most([state.counts for state in self.all])


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
        return counted(state, watched) if watched else state

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
        counts=either(one.counts, other.counts),
        waited=either(one.waited, other.waited),
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
    lineage, beside, whole, traversal = 0, 0, False, False
    for access in statement.reads:
        touch = touched.get(id(access))
        if touch is not None and touch.way is Way.BESIDE:
            beside |= bits(access.tensor)
            continue
        if touch is not None and touch.is_input:
            lineage |= bits(access.tensor)
            whole |= touch.whole and touch.way is not Way.COMPLETE
            traversal |= touch.way is Way.COMPLETE
            continue
        state = states.get(access.tensor, FREE)
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
    read = own | beside
    waits = _waits(streams, done)
    count, parent, barrier = 1, None, None
    for each in operands:
        if each.count > count or parent is None:
            count, parent = max(each.count, count), each
    for each in waits:
        if each.behind & read and each.count + 1 > count:
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
        read | _behind(count, operands),
        unreduced,
        parent,
        barrier,
        needs,
        operands,
        waits,
        read,
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


def _number(state: State) -> int:
    return state.number


def _behind(count: int, states: Sequence[State]) -> int:
    found = 0
    for state in states:
        if state.count == count:
            found |= state.behind
    return found
