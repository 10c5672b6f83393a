"""How many passes over the data a Cascade takes: rank by rank, with a witness for each pass.

Source: FuseMax (arXiv 2406.10491, section 3), which defines the pass and counts by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...ir.cascade import Cascade
from ...ir.ranks import RankExpr
from .families import Ranks
from .footprint import held
from .pass_report import Count, FamilyReport, PassReport, Placed
from .polynomial import Polynomial
from .statements import groups, input_axes
from .sweep import Bits, Swept, sweep, usual_rounds
from .walk import Walk
from .witness import Lineage, witnesses


def count_passes(cascade: Cascade, sizes: Mapping[str, int] | None = None) -> PassReport:
    """The passes over every rank of a Cascade, for these extents of some of its ranks."""
    ranks = Ranks(cascade)
    counter = _Counter(cascade, ranks, dict(sizes or {}))
    reports: dict[tuple[str, ...], FamilyReport | None] = {}
    found: dict[str, FamilyReport] = {}
    for rank, leaves in ranks.families().items():
        if leaves not in reports:
            reports[leaves] = counter.family(rank, leaves)
        report = reports[leaves]
        if report is not None:
            found[rank] = report
    return PassReport(cascade, found)


class _Counter:
    def __init__(self, cascade: Cascade, ranks: Ranks, sizes: dict[str, int]) -> None:
        self.cascade, self.ranks = cascade, ranks
        known = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
        self.sizes = known | sizes
        self.groups = groups(cascade, ranks)
        self.inputs = frozenset(decl.name for decl in cascade.inputs)
        self.axes = input_axes(cascade, ranks)
        self.statements = [s for group in self.groups for s in group.statements]
        walked: set[str] = set()
        for statement in self.statements:
            if not statement.is_start:
                self.axes[statement.tensor] = statement.axes
            walked |= {v.upper() for v in (*statement.kept, *statement.reduced)}
        self.walked = {leaf for rank in walked for leaf in ranks.leaves(rank)}

    def family(self, rank: str, leaves: tuple[str, ...]) -> FamilyReport | None:
        """The count over one family; None if nothing walks it."""
        if not self.walked & set(leaves):
            return None
        names = Lineage(self.inputs)
        best: tuple[tuple[int, int], Walk, Swept] | None = None
        for outer in leaves if self._may_reorder(leaves) else leaves[:1]:
            walk = Walk(self.ranks, leaves, outer, self.axes, self.inputs)
            swept = self._sweep(walk, names.bits)
            measure = (swept.generations, swept.passes)
            if best is None or measure < best[0]:
                best = (measure, walk, swept)
        assert best is not None
        _, walk, swept = best
        more = {v: self._sweep(walk, names.bits, more={v: 1}) for v in sorted(swept.feedback)}
        tensor_passes, lineage_passes = self._by_tensor(walk, swept, names)
        return FamilyReport(
            rank,
            leaves,
            walk.outer,
            self._total(swept.passes, {v: each.passes for v, each in more.items()}),
            self._total(swept.generations, {v: each.generations for v, each in more.items()}),
            tensor_passes,
            lineage_passes,
            tuple(
                Placed(s.tensor, swept.states[s.tensor].swept, swept.states[s.tensor].number)
                for s in self.statements
                if not s.is_start
            ),
            tuple(witnesses(walk, swept, names)),
            held(self.cascade, walk, swept, self.statements, self.sizes),
        )

    def _may_reorder(self, leaves: tuple[str, ...]) -> bool:
        """Whether any rank may be outermost: nothing goes along several of them in order."""
        if len(leaves) < 2:
            return False

        def several(rank: str | None) -> bool:
            return rank is not None and len(set(leaves) & set(self.ranks.leaves(rank))) > 1

        if any(group.rank is not None and several(group.rank) for group in self.groups):
            return False
        for statement in self.statements:
            if any(several(high.upper()) for _, high in statement.below):
                return False
            for access in statement.reads:
                axes = self.axes.get(access.tensor, ())
                for index, axis in zip(access.indices, axes, strict=False):
                    if isinstance(index, RankExpr) and index.offset and several(axis):
                        return False  # a neighbour may be under another coordinate
        return True

    def _sweep(
        self,
        walk: Walk,
        bits: Bits,
        *,
        inherits: bool = True,
        more: Mapping[str, int] | None = None,
        watched: int = 0,
    ) -> Swept:
        return sweep(
            walk,
            self.groups,
            bits,
            inherits=inherits,
            rounds=self.sizes.get,
            more=more or {},
            watched=watched,
        )

    def _total(self, found: int, more: Mapping[str, int]) -> Count:
        """A count that grows with each round of some scans, by so much as one more round adds."""
        value = Polynomial.of(found)
        for rank, larger in more.items():
            rounds = max(usual_rounds(g) for g in self.groups if g.rank == rank)
            value = value + (Polynomial.of(rank) + -rounds) * (larger - found)
        value = value.at(self.sizes)
        return value if value.number is None else value.number

    # ---- tensor by tensor

    def _by_tensor(
        self, walk: Walk, swept: Swept, names: Lineage
    ) -> tuple[dict[str, Count], dict[str, Count]]:
        """The passes over each tensor, read itself, and read as what is made of it."""
        reads: dict[str, set[int]] = {}
        by_pass: dict[int, int] = {}
        for statement in self.statements:
            state = swept.states[statement.tensor]
            for touch in walk.touches(statement):
                passes = reads.setdefault(touch.access.tensor, set())
                if state.swept:
                    passes.add(state.swept)
            by_pass[state.swept] = by_pass.get(state.swept, 0) | state.read
        once = again = 0
        for read in by_pass.values():
            again |= once & read
            once |= read
        often = [t for t, passes in reads.items() if len(passes) > 1 or swept.feedback]
        direct: dict[str, Count] = dict.fromkeys(reads, 1)
        direct |= self._passes_over(walk, swept, often, inherits=False)
        made: dict[str, Count] = {t: 1 for t in names.of(once) if t in self.inputs}
        often = [t for t in names.of(once if swept.feedback else again) if t in self.inputs]
        made |= self._passes_over(walk, swept, often, inherits=True)
        return direct, made

    def _passes_over(
        self, walk: Walk, swept: Swept, tensors: Sequence[str], *, inherits: bool
    ) -> dict[str, Count]:
        """The passes over each of these by itself, all counted in one sweep."""
        if not tensors:
            return {}
        own = {tensor: 1 << number for number, tensor in enumerate(tensors)}

        def bits(tensor: str, *, alone: bool = False) -> int:
            return 0 if alone else own.get(tensor, 0)

        def counts(more: Mapping[str, int]) -> list[int]:
            again = self._sweep(walk, bits, inherits=inherits, more=more, watched=len(tensors))
            return [max(int(count), 1) for count in again.counts]

        found = counts({})
        more = {rank: counts({rank: 1}) for rank in sorted(swept.feedback)}
        return {
            tensor: self._total(found[n], {rank: each[n] for rank, each in more.items()})
            for n, tensor in enumerate(tensors)
        }
