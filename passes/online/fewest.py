"""The search for the rewrites that leave the fewest passes over a rank."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

from ...ir.cascade import Cascade
from ...ir.errors import PassError
from ..analysis.cost import cost
from ..analysis.pass_count import count_passes
from ..analysis.polynomial import Polynomial
from ..base import Pass, Pipeline
from .passes import Defer, Online, check_positive, check_rank

#: So many rewrites in a row: each loop over the rank may need one.
_DEPTH = 3
#: What stands for an extent that is not known when two costs are compared.
_EXTENT = 1024


@dataclass(frozen=True, slots=True)
class FewestPasses(Pass):
    """The sequence of `defer` and `online` that leaves the fewest passes over a rank.

        attention: 3 passes over M
     -> attention: 1 pass over M                 fewest-passes{rank=m, tile=256}

    Of sequences that leave as few, one without sums of several terms (`terms`, rule A', which may
    cancel) is taken before one with them, then the one of fewer operations, then the shorter.

    Condition: that of the passes it is made of, each of which decides its own.

    Options:
        rank: the variable of the rank.
        tile: as `online` has it.
        terms: whether rule A' may be used.
    """

    name: ClassVar[str] = "fewest-passes"
    rank: str
    tile: int | None = None
    terms: bool = True

    def __call__(self, cascade: Cascade) -> Cascade:
        return self.sequence(cascade).apply(cascade)

    def sequence(self, cascade: Cascade) -> Pipeline:
        """The passes that it found; none if none helps.

        Raises:
            PassError: there is no such rank.
            PipelineError: the tile is less than 1.
        """
        check_rank(cascade, self.rank)
        check_positive(self, "tile")
        best = self._measure(cascade, ())
        found: tuple[Pass, ...] = ()
        waiting: deque[tuple[Cascade, tuple[Pass, ...]]] = deque([(cascade, ())])
        seen = {cascade}
        while waiting:
            here, taken = waiting.popleft()
            for step in self._steps():
                try:
                    there = step(here)
                except PassError:
                    continue
                if there in seen:
                    continue
                seen.add(there)
                passes = (*taken, step)
                measure = self._measure(there, passes)
                if measure < best:
                    best, found = measure, passes
                if len(passes) < _DEPTH:
                    waiting.append((there, passes))
        return Pipeline(found)

    def comment(self, before: Cascade, after: Cascade) -> str:
        """The sequence that was found, and what it changed."""
        if after is before:
            return "no sequence leaves fewer passes"
        return f"{self.sequence(before)}; {Pass.comment(self, before, after)}"

    def _steps(self) -> tuple[Pass, ...]:
        plain: tuple[Pass, ...] = (Defer(self.rank), Online(self.rank, self.tile))
        if not self.terms:
            return plain
        several: tuple[Pass, ...] = (
            Defer(self.rank, terms=True),
            Online(self.rank, self.tile, terms=True),
        )
        return (*plain, *several)

    def _measure(self, cascade: Cascade, passes: tuple[Pass, ...]) -> tuple[int, ...]:
        report = count_passes(cascade).families.get(self.rank.upper())
        counts = (0, 0) if report is None else (_number(report.passes), _number(report.generations))
        several = any(isinstance(p, Defer | Online) and p.terms for p in passes)
        return (*counts, int(several), _number(cost(cascade).flops), len(passes))


def _number(value: int | Polynomial) -> int:
    if isinstance(value, int):
        return value
    sizes = {rank: _EXTENT for ranks, _ in value.terms for rank in ranks}
    return value.at(sizes).number or 0
