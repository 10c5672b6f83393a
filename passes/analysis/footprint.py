"""What a Cascade must hold from one pass to the next, and what holding it, or not, costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...ir.cascade import Cascade
from ...ir.einsum import Access
from ...ir.ranks import RankExpr
from .cost import CostReport, Extents, cost
from .polynomial import Polynomial, total
from .state import State
from .statements import Statement
from .sweep import Swept
from .walk import Walk, Way


@dataclass(frozen=True, slots=True)
class Options:
    """Three ways to have a tensor again in a later pass; None where a dtype is not known.

    `buffer`: bytes held for each fiber. `spill`: bytes moved in all, to write the tensor once and
    read it in the later pass; an input is only read. `recompute`: operations in all to make it
    again, and `reread` the bytes of the inputs it is made of; None for an input.
    """

    buffer: Polynomial | None
    spill: Polynomial | None
    recompute: Polynomial | None
    reread: Polynomial | None


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor that outlives a visit: it is read in pass `number`, which must wait for `until`.

    `elements` are those of each fiber, the ranks that `until` has folded away: no order holds
    fewer, unless it moves them or makes them again. The state of a scan (`is_state`) is carried
    from visit to visit, for each point of what all such values share.
    """

    tensor: str
    number: int
    until: str
    elements: Polynomial
    is_state: bool = False
    price: Callable[[], Options] | None = field(default=None, compare=False, repr=False)

    @property
    def options(self) -> Options | None:
        """What each way to have it again costs; None for a state, which can only be held."""
        return None if self.price is None else self.price()

    def lines(self) -> Iterator[str]:
        """What it is, and the three ways."""
        yield f"{self.tensor} for pass {self.number}, until {self.until}: {self.elements} elements"
        priced = self.options
        if priced is None:
            return
        yield f"    buffer     {_shown(priced.buffer)} bytes for each fiber"
        moved = "moves" if priced.recompute is not None else "is read again:"
        yield f"    spill      {moved} {_shown(priced.spill)} bytes"
        if priced.recompute is not None:
            yield (
                f"    recompute  {priced.recompute} operations, "
                f"reads {_shown(priced.reread)} bytes again"
            )

    def as_dict(self) -> dict[str, Any]:
        """As plain data; polynomials as text."""
        found: dict[str, Any] = {
            "tensor": self.tensor,
            "pass": self.number,
            "until": self.until,
            "elements": str(self.elements),
            "state": self.is_state,
        }
        priced = self.options
        if priced is not None:
            for name in Options.__slots__:
                value: Polynomial | None = getattr(priced, name)
                found[name] = None if value is None else str(value)
        return found


def largest(found: Iterable[Polynomial]) -> list[Polynomial]:
    """The largest of some polynomials, or none; of two that do not compare, the one of more ranks.

    Each is held alone at some time, so the most held is no less than any of them.
    """
    best: Polynomial | None = None
    for each in found:
        if best is None or (not best.covers(each) and _degree(each) >= _degree(best)):
            best = each
    return [] if best is None else [best]


def _degree(value: Polynomial) -> int:
    return max((len(ranks) for ranks, _ in value.terms), default=0)


def held(
    cascade: Cascade,
    walk: Walk,
    swept: Swept,
    statements: Sequence[Statement],
    sizes: Mapping[str, int],
) -> tuple[Held, ...]:
    """What must be held along a family from a pass to a later one, and a scan's state."""
    holding = _Holding(cascade, walk, swept, statements, sizes)
    found: dict[tuple[str, int], Held] = {}
    for statement in statements:
        for each in holding.read_again(statement):
            found.setdefault((each.tensor, each.number), each)
    return (*found.values(), *holding.carried())


class _Holding:
    def __init__(
        self,
        cascade: Cascade,
        walk: Walk,
        swept: Swept,
        statements: Sequence[Statement],
        sizes: Mapping[str, int],
    ) -> None:
        self.walk, self.swept, self.statements = walk, swept, statements
        self.extents = Extents(cascade, sizes)
        self.partitions = cascade.partitions
        self.cascade, self.sizes = cascade, sizes
        self._costs: CostReport | None = None
        self._flops: dict[str, Polynomial] = {}
        self.first: dict[str, State] = {}
        self._barriers: dict[int, State | None] = {}
        self.makers = {s.tensor: s for s in statements}
        for statement in statements:
            state = swept.states[statement.tensor]
            if state.swept:
                for touch in walk.touches(statement):
                    known = self.first.get(touch.access.tensor)
                    if known is None or state.swept < known.swept:
                        self.first[touch.access.tensor] = state

    def read_again(self, statement: Statement) -> Iterator[Held]:
        """What a statement reads that an earlier pass made, or read, and the value it waits for."""
        state = self.swept.states[statement.tensor]
        if not state.swept:
            return
        for touch in self.walk.touches(statement):
            tensor = touch.access.tensor
            if touch.way is Way.COMPLETE:
                continue
            made = self.swept.states.get(tensor)
            earlier = self.first[tensor].swept if made is None else made.number
            if earlier >= state.swept or (made is not None and not made.stream):
                continue
            barrier = self._barrier(state)
            if barrier is None or barrier.by is None:
                return
            kept = {v for v in barrier.by.kept if not self.walk.covers(v.upper())}
            elements = self._fiber(touch.access, kept)
            yield Held(
                tensor,
                state.swept,
                barrier.by.tensor,
                elements,
                price=partial(self._options, tensor, elements),
            )

    def _barrier(self, state: State) -> State | None:
        """What a pass waits for: the value that is not of the pass, behind those that are."""
        passed: list[int] = []
        found: State | None = state
        while found is not None and (found is state or found.stream):
            passed.append(id(found))
            if found.swept and id(found) in self._barriers:
                found = self._barriers[id(found)]
                break
            found = found.needs
        self._barriers.update(dict.fromkeys(passed, found))
        return found

    def carried(self) -> Iterator[Held]:
        """The state of each scan along the family: its last values, for each point of the rest."""
        scans = {
            s.tensor: s
            for s in self.statements
            if any(index.offset and self.walk.covers(_rank(index)) for index in s.left)
        }
        folded = [
            s
            for s in self.statements
            if self.swept.states[s.tensor].swept and not self.walk.keeps(s)
        ]
        shared: set[str] | None = None
        for statement in (*scans.values(), *folded):
            kept = {v for v in statement.kept if not self.walk.covers(v.upper())}
            shared = kept if shared is None else shared & kept
        for name, statement in scans.items():
            lag = next(index.offset for index in statement.left if index.offset)
            rest = [
                v
                for v in statement.kept
                if not self.walk.covers(v.upper()) and v not in (shared or ())
            ]
            number = self.swept.states[name].swept
            yield Held(name, number, name, self.extents.of(rest) * lag, is_state=True)

    def _fiber(self, access: Access, kept: set[str]) -> Polynomial:
        """The elements of what is read, over the ranks that the barrier has folded away."""
        variables = [v for v in dict.fromkeys(access.variables()) if v not in kept]
        ranks = [v.upper() for v in variables]
        for partition in self.partitions:
            if set(partition.parts) <= set(ranks):
                at = ranks.index(partition.parts[0])
                ranks[at] = partition.rank
                ranks = [rank for rank in ranks if rank not in partition.parts]
        return self.extents.of(rank.lower() for rank in ranks)

    def _options(self, tensor: str, elements: Polynomial) -> Options:
        if self._costs is None:
            self._costs = cost(self.cascade, self.sizes)
            self._flops = {each.name: each.flops for each in self._costs.einsums}
        size, whole = self._costs.itemsizes.get(tensor), self._costs.elements.get(tensor)
        moved = None if size is None or whole is None else whole * size
        buffer = None if size is None else elements * size
        if tensor not in self.makers:
            return Options(buffer, moved, None, None)
        made, inputs = self._ancestors(tensor)
        again = total(self._flops[name] for name in made if name in self._flops)
        parts = [
            (self._costs.itemsizes.get(name), self._costs.elements.get(name)) for name in inputs
        ]
        known = [n * size for size, n in parts if size is not None and n is not None]
        reread = total(known) if len(known) == len(parts) else None
        return Options(buffer, None if moved is None else moved * 2, again, reread)

    def _ancestors(self, tensor: str) -> tuple[list[str], list[str]]:
        """The Einsums that make a Stream anew from the inputs, and these."""
        made: dict[str, None] = {}
        inputs: dict[str, None] = {}
        waiting = [tensor]
        while waiting:
            name = waiting.pop()
            maker = self.makers.get(name)
            if maker is None:
                inputs[name] = None
                continue
            if name in made or not self.swept.states[name].stream:
                continue
            made[name] = None
            waiting += [access.tensor for access in maker.reads]
        return list(made), list(inputs)


def _rank(index: RankExpr) -> str:
    return next(iter(index.variables())).upper()


def _shown(value: Polynomial | None) -> str:
    return "?" if value is None else str(value)
