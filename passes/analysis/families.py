"""Rank families: a rank, the parts it is cut into, and the iterative ranks that walk it."""

from __future__ import annotations

from functools import cache

from ...ir.cascade import Cascade
from ...ir.ranks import RankExpr, Term


class Ranks:
    """What a pass analysis asks about the ranks of a Cascade.

    A rank that a partition cuts is walked through its parts: its *leaves* are theirs. An iterative
    rank that is an alias walks the rank it is an alias of, so it has that rank's leaves; any other
    alias is a rank of its own.
    """

    def __init__(self, cascade: Cascade) -> None:
        self._shapes = {rank.name: rank.shape for rank in cascade.ranks}
        # Of two partitions of a rank the first one counts: the other cuts across it.
        cuts = {p.rank: p for p in reversed(cascade.partitions)}
        self._parts = {rank: p.parts for rank, p in cuts.items()}
        self._coordinates = {rank: p.coordinate for rank, p in cuts.items()}
        steps = (step for einsum in cascade.einsums for step in einsum.steps)
        self.iterative = frozenset(variable.upper() for _, variable, _ in steps)
        self.aliased = any(self.root(name) != name for name in self._shapes)
        self.leaves = cache(self._leaves)
        self.forms = cache(self._forms)

    def root(self, rank: str) -> str:
        """The rank that one is an alias of, or itself."""
        seen = {rank}
        while isinstance(shape := self._shapes.get(rank), RankExpr):
            if shape.rank is None or shape.rank in seen:
                break
            rank = shape.rank
            seen.add(rank)
        return rank

    def _leaves(self, rank: str) -> tuple[str, ...]:
        """The ranks that walk this one, outermost first."""
        if rank in self._parts:
            return tuple(leaf for part in self._parts[rank] for leaf in self.leaves(part))
        root = self.root(rank)
        return self.leaves(root) if rank in self.iterative and root != rank else (rank,)

    def _forms(self, rank: str) -> tuple[frozenset[Term], ...]:
        """The affine forms `m1*M0 + m0` in which parts make a coordinate of a rank."""
        if rank not in self._coordinates:
            return ()
        found = [self._coordinates[rank]]
        for form in found:
            for variable in form.variables():
                inner = self._coordinates.get(variable.upper())
                if inner is not None:
                    found.append(form.substitute({variable: inner}))
        return tuple(frozenset(map(_normal, form.terms)) for form in found)

    def of_extent(self, extent: RankExpr) -> str | None:
        """The rank that an axis of this extent is of: M for `M` and for `M+1`."""
        if len(extent.terms) == 1 and len(extent.terms[0].sizes) == 1:
            return extent.terms[0].sizes[0]
        return None

    def is_coordinate(self, index: RankExpr, rank: str) -> bool:
        """Whether an index is a coordinate that parts make, or a part of one, plus a number."""
        terms = frozenset(map(_normal, index.terms))
        return any(terms <= form for form in self.forms(rank))

    def families(self) -> dict[str, tuple[str, ...]]:
        """The leaves of every rank, by its name; a rank's parts come after it."""
        parts = {part for cut in self._parts.values() for part in cut}
        order = [rank for rank in self._shapes if rank not in parts]
        for rank in order:
            order += self._parts.get(rank, ())
        return {rank: self.leaves(rank) for rank in dict.fromkeys((*order, *self._shapes))}


def _normal(term: Term) -> Term:
    return Term(term.coefficient, tuple(sorted(term.sizes)), term.variable)
