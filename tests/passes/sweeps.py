"""The judge of pass counts: the least number of sweeps over a rank, by search.

A *sweep* visits each coordinate of a rank once, in an order of its own. The model:

- A point of an iteration space that has all coordinates of the rank is executed at their visit,
  where it may read any element of an input. What it makes there, if that has the coordinates too,
  lives only during that visit, and is computed again in later sweeps. With a partition, a visit is
  a coordinate of one leaf, the outermost, with all that lies under it at once; the outermost leaf
  is chosen for the fewest sweeps.
- A point that lacks a coordinate reads an input's element that has them all at that one's visit.
- A reduction takes its terms as they come, in any order, within one sweep. What lacks a coordinate
  of the rank, reduced or partly reduced, lives on once it is complete; what is made of such values
  alone, and has not all coordinates, is computed at any time, between sweeps too.
- A computed element that a point of another visit reads (reversed, gathered, a neighbour), or that
  is read under another name of the rank, is stored and lives on. Such a point is executed at its
  own visit, or where the last of these elements arises; it holds what it has read till then, and
  what it makes is stored, too. But it waits in vain for a value that, as the sweep began, still
  needed every coordinate: that is what a pass is.
- The state of a scan lives on: step v+1 needs step v.

An alias is a rank of its own, or another name: aliases.py says when.

Nothing here knows how passes are counted; it is the definition, on small extents, that the analysis
is held to. An extent of at least the count, and beyond the reach of all neighbours, is needed: on
less, what is complete at the last visit of a sweep gives the next one a start that matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einloom.ir.cascade import Cascade

from .elements import Family, Graph, Node, all_sizes, build, restricted, union


@dataclass(frozen=True)
class Plan:
    """A least sequence of sweeps, each the order of its visits: coordinates of `outermost`."""

    outermost: str
    orders: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.orders)

    def __str__(self) -> str:
        sweeps = "; ".join(" ".join(map(str, order)) for order in self.orders)
        return f"{len(self)} over {self.outermost}: {sweeps}"


def least_sweeps(cascade: Cascade, sizes: Mapping[str, int], family: tuple[str, ...]) -> int:
    """The least number of sweeps over the rank with these leaves after which all outputs are there.

    `sizes` has the extents that do not follow from others.
    """
    return len(best_plan(cascade, sizes, family))


def best_plan(cascade: Cascade, sizes: Mapping[str, int], family: tuple[str, ...]) -> Plan:
    """The sweeps of `least_sweeps`."""
    sizes = all_sizes(cascade, sizes)
    whole = Family.of(cascade, sizes, family)
    plans = [Plan(leaf, _search(build(cascade, sizes, whole, leaf))) for leaf in whole.leaves]
    return min(plans, key=len)


def least_passes(cascade: Cascade, sizes: Mapping[str, int], family: tuple[str, ...]) -> int:
    """FuseMax's count: the most sweeps that any one tensor is the reason of.

    A barrier counts between two reads of one tensor, or of what is made of it coordinate by
    coordinate. So of one tensor at a time the elements have visits, and all else is at hand as soon
    as what it is made of; that tensor's passes are the least sweeps then, and the rank's are the
    most of any tensor, though no more than the sweeps of all tensors together.
    """
    sizes = all_sizes(cascade, sizes)
    whole = Family.of(cascade, sizes, family)
    names = [decl.name for decl in cascade.inputs] + [e.name for e in cascade.einsums]
    counts: list[int] = []
    for leaf in whole.leaves:
        graph = build(cascade, sizes, whole, leaf)
        walked = any(term.home for node in graph.nodes for term in node.terms)
        passes = (len(_search(restricted(graph, name))) for name in dict.fromkeys(names))
        counts.append(max(int(walked), min(max(passes), len(_search(graph)))))
    return min(counts)


def least_tensor_passes(
    cascade: Cascade, sizes: Mapping[str, int], family: tuple[str, ...], tensor: str
) -> int:
    """How often the elements of one tensor, or of what is made of it, must be visited."""
    sizes = all_sizes(cascade, sizes)
    whole = Family.of(cascade, sizes, family)
    graphs = [build(cascade, sizes, whole, leaf) for leaf in whole.leaves]
    return min(len(_search(restricted(graph, tensor))) for graph in graphs)


@dataclass(frozen=True)
class _State:
    """What lives between sweeps: complete elements, and outputs that were written."""

    complete: int
    written: int

    def __le__(self, other: _State) -> bool:
        kept = self.complete & ~other.complete == 0
        return kept and self.written & ~other.written == 0


def _search(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Breadth first over what is complete after each sweep; of two states the lesser is dropped."""
    sweeps = _Sweeps(graph)
    states: dict[_State, tuple[tuple[int, ...], ...]] = {sweeps.between(_State(0, 0)): ()}
    while True:
        for state, orders in states.items():
            if sweeps.is_done(state):
                return orders
        reached: dict[_State, tuple[tuple[int, ...], ...]] = {}
        for state, orders in states.items():
            for after, order in sweeps.after(state).items():
                if after != state:
                    reached.setdefault(after, (*orders, order))
        states = {
            state: orders
            for state, orders in reached.items()
            if not any(state <= other for other in reached if other != state)
        }
        if not states:
            raise AssertionError("no sweep gets any further")


@dataclass
class _Walk:
    """A sweep up to some visit: terms taken into reductions, and reads that points hold."""

    complete: int
    written: int
    taken: frozenset[tuple[int, int]]
    held: dict[tuple[int, int], tuple[int, int]]
    order: tuple[int, ...]

    def key(self) -> object:
        return (
            frozenset(self.order), self.complete, self.written, self.taken,
            frozenset(self.held.items()),
        )  # fmt: skip


class _Sweeps:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.transient, self.tied = _classify(graph)
        self.stored = union(
            1 << n
            for n, node in enumerate(graph.nodes)
            if node.home and not self.transient >> n & 1
        )
        self.reads = [[union(1 << r for r in t.reads) for t in node.terms] for node in graph.nodes]
        self.visits = [[t.visits for t in node.terms] for node in graph.nodes]
        self.of_tensor: dict[str, int] = {}
        for number, node in enumerate(graph.nodes):
            name = node.key[0]
            self.of_tensor[name] = self.of_tensor.get(name, 0) | 1 << number
        self.outputs = union(1 << n for n, node in enumerate(graph.nodes) if node.output)

    def is_done(self, state: _State) -> bool:
        return self.outputs & ~(state.complete | state.written) == 0

    def between(self, state: _State) -> _State:
        """What can be computed of what lives on, outside of visits."""
        walk = _Walk(state.complete, state.written, frozenset(), {}, ())
        self._visit(walk, 0, 0)
        return _State(walk.complete, walk.written)

    def after(self, state: _State) -> dict[_State, tuple[int, ...]]:
        """What one more sweep leaves, with an order of visits for each."""
        barriers = self._barriers(state)
        walks = [_Walk(state.complete, state.written, frozenset(), {}, ())]
        for _ in range(self.graph.extent):
            reached: dict[object, _Walk] = {}
            for walk in walks:
                for visit in range(self.graph.extent):
                    if visit not in walk.order:
                        further = _Walk(
                            walk.complete, walk.written, walk.taken, dict(walk.held),
                            (*walk.order, visit),
                        )  # fmt: skip
                        self._visit(further, 1 << visit, barriers)
                        reached.setdefault(further.key(), further)
            walks = list(reached.values())
        found: dict[_State, tuple[int, ...]] = {}
        for walk in walks:
            found.setdefault(self.between(_State(walk.complete, walk.written)), walk.order)
        return found

    def _barriers(self, state: _State) -> int:
        """The elements that still need every visit, as a sweep begins."""
        everything = (1 << self.graph.extent) - 1
        # What a scan has of its way behind it does not make the rest a shorter one.
        done = state.complete
        for group in self.of_tensor.values():
            if group & self.stored & ~state.complete:
                done &= ~group
        covers: list[int] = []
        barriers = 0
        for number, node in enumerate(self.graph.nodes):
            cover = 0
            if not done >> number & 1:
                for place, term in enumerate(node.terms):
                    visits = self.visits[number][place]
                    needed = visits | union(covers[r] for r in term.reads)
                    # What is stored, or made of reduced values alone, is gone through at home.
                    fresh = (self.transient | self.stored) & ~done
                    own = self.of_tensor[node.key[0]] if node.carried else 0
                    moving = visits or self.reads[number][place] & fresh & ~own
                    away = moving and not self.tied[number][place]
                    cover |= needed if away else needed | term.home
            covers.append(cover)
            if cover == everything:
                barriers |= 1 << number
        return barriers

    def _visit(self, walk: _Walk, visit: int, barriers: int) -> None:
        """Executes what can be executed at a visit; 0 stands for a time between sweeps."""
        live = 0
        arisen = 0
        taken = set(walk.taken)
        for number, node in enumerate(self.graph.nodes):
            bit = 1 << number
            if walk.complete & bit:
                continue
            if self.transient & bit:
                at_hand = walk.complete | live
                if node.home == visit and all(r & ~at_hand == 0 for r in self.reads[number]):
                    live |= bit
                    if node.output:
                        walk.written |= bit
                continue
            whole = True
            for place in range(len(node.terms)):
                if (number, place) in taken:
                    continue
                if self._executes(number, place, node, walk, visit, barriers, live, arisen):
                    taken.add((number, place))
                    walk.held.pop((number, place), None)
                else:
                    whole = False
            if whole:
                walk.complete |= bit
                if self.stored & bit:
                    arisen |= bit
        walk.taken = frozenset(t for t in taken if not walk.complete >> t[0] & 1)

    def _executes(
        self, number: int, place: int, node: Node, walk: _Walk, visit: int, barriers: int,
        live: int, arisen: int,
    ) -> bool:  # fmt: skip
        """Whether a point has all it reads by now, and may be executed here; else what it holds."""
        term, visits = node.terms[place], self.visits[number][place]
        reads = self.reads[number][place]
        if self.tied[number][place]:
            at_hand = visits & ~visit == 0 and reads & ~(walk.complete | live) == 0
            return at_hand and (not term.home or term.home == visit)
        seen, kept = walk.held.get((number, place), (0, 0))
        if reads & barriers & ~(walk.complete | live | kept) == 0:
            seen |= visits & visit
            kept |= reads & live
        if visits & ~seen == 0 and reads & ~(walk.complete | kept) == 0:
            if not term.home or term.home & visit or seen or kept:
                return True
            # A scan does not run through several of its steps because the first has arisen.
            arisen &= ~(self.of_tensor[node.key[0]] if node.carried else 0)
            return bool(reads & arisen & ~barriers)
        if seen or kept:
            walk.held[number, place] = seen, kept
        return False


def _classify(graph: Graph) -> tuple[int, list[list[bool]]]:
    """The elements that live during their own visit alone, and which terms are tied to one visit.

    A term is tied if all that it reads is at hand at one visit, its own if it has one: inputs and
    transient elements of that visit, reduced values, and the state of a scan up to there. A scan
    whose steps are tied goes through the visits in order, and so its state is kept, not stored.
    """
    transient = 0
    strict = 0
    tied: list[list[bool]] = []
    fetched = union(
        1 << read
        for node in graph.nodes
        for term in node.terms
        for read in term.reads
        if term.home and graph.nodes[read].home not in (0, term.home)
    ) | union(1 << n for n, node in enumerate(graph.nodes) if node.stored)
    for number, node in enumerate(graph.nodes):
        flags: list[bool] = []
        for term in node.terms:
            at = term.home | term.visits
            for read in term.reads:
                other = graph.nodes[read]
                if transient >> read & 1:
                    at |= other.home
                elif other.home and not (strict >> read & 1 and other.home <= (term.home or at)):
                    at |= -1
            flags.append(at >= 0 and at.bit_count() <= 1)
        tied.append(flags)
        if node.home and all(flags) and all(term.home == node.home for term in node.terms):
            if node.carried:
                strict |= 1 << number
            elif node.home.bit_count() == 1 and not fetched >> number & 1:
                transient |= 1 << number
    return transient, tied
