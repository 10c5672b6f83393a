"""Ranks that may be one rank where the arrays' strides allow it.

A batch of contiguous rows is one long row: if every array steps along `outer` as it would go on
along `inner`, one loop does for both. Strides are known only at run time, so the nest itself
decides (Collapse in ir/loop_nodes.py); here it is found out which pairs may be tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from ...ir.einsum import Access, Coordinate, Einsum, Reduce, accesses, walk
from ...ir.ranks import RankExpr
from .schedule import Schedule

#: Two variables, and where the strides are: (tensor, outer's axis, inner's axis) of each access.
Pair: TypeAlias = tuple[str, str, tuple[tuple[str, int, int], ...]]

#: The most pairs that a nest tries, and that it takes.
_MOST_TRIED, _MOST_TAKEN = 48, 8


class Collapses:
    """The pairs of one Einsum's variables."""

    def __init__(self, einsum: Einsum, extents: Mapping[str, Sequence[RankExpr]]) -> None:
        self.einsum = einsum
        self._axes: list[tuple[str, dict[str, int]]] = []  # of each access, its variables' axes
        self._alone: set[str] = set()  # variables that must keep their own rank
        roots = [einsum.expr] if einsum.where is None else [einsum.expr, einsum.where]
        for root in roots:
            for node in walk(root):
                if isinstance(node, Coordinate):
                    self._alone.add(node.name.lower())
                elif isinstance(node, Reduce) and node is not einsum.expr:
                    self._alone.update(node.variables)
        for access in (einsum.output, *(a for root in roots for a in accesses(root))):
            self._read(access, extents[access.tensor])

    def _read(self, access: Access, extents: Sequence[RankExpr]) -> None:
        axes: dict[str, int] = {}
        for axis, (index, extent) in enumerate(zip(access.indices, extents, strict=True)):
            variable = index.variable if isinstance(index, RankExpr) else None
            if variable is None or variable in axes or access.fill is not None:
                self._alone.update(index.variables())
            else:
                axes[variable] = axis
            # A rank whose size bounds or strides something else keeps that size.
            others = {rank.lower() for rank in extent.sizes()}
            if variable is not None and extent.rank == variable.upper():
                others.discard(variable)  # the axis is the rank itself, not one of M+1
            if isinstance(index, RankExpr):
                others |= {rank.lower() for rank in index.sizes()}
            self._alone |= others
        self._axes.append((access.tensor, axes))

    def pairs(self, schedule: Schedule) -> list[Pair]:
        """The pairs to try, those with the tile's variables; a variable is in one pair as outer."""
        targets = [v for v in (schedule.vector, schedule.rows) if v is not None]
        targets += schedule.reduced[-1:]
        spent, tried = set(targets), 0
        found: list[Pair] = []
        for inner in dict.fromkeys(targets):
            group = schedule.outer if inner in self.einsum.free else schedule.reduced
            for outer in reversed(group):
                if outer in spent or tried == _MOST_TRIED or len(found) == _MOST_TAKEN:
                    continue
                tried += 1
                steps = self._steps(outer, inner)
                if steps:
                    spent.add(outer)
                    found.append((outer, inner, steps))
        return found

    def _steps(self, outer: str, inner: str) -> tuple[tuple[str, int, int], ...]:
        """Where both strides are, in each access that has them; () if they cannot be one rank."""
        if outer in self._alone or inner in self._alone:
            return ()
        found: dict[tuple[str, int, int], None] = {}
        for tensor, axes in self._axes:
            if (outer in axes) != (inner in axes):
                return ()
            if outer in axes:
                found[tensor, axes[outer], axes[inner]] = None
        return tuple(found)


def adjacent(variables: Sequence[str], pairs: Sequence[Pair]) -> list[str]:
    """The variables in an order of memory in which each pair's can be one rank."""
    groups = {variable: [variable] for variable in variables}
    for outer, inner, _ in pairs:
        if outer in groups and inner in groups:
            groups[inner] = groups.pop(outer) + groups[inner]
    return [variable for group in groups.values() for variable in group]


def beside(pairs: Sequence[Pair], name: str, variables: Sequence[str]) -> list[Pair]:
    """The pairs, tried in a buffer too that has these variables for indices."""
    found: list[Pair] = []
    for outer, inner, steps in pairs:
        both = outer in variables and inner in variables
        own = ((name, variables.index(outer), variables.index(inner)),) if both else ()
        found.append((outer, inner, steps + own))
    return found


def likely(pairs: Sequence[Pair]) -> Iterator[tuple[str, str]]:
    """The pairs that are one if every array is in C order."""
    for outer, inner, steps in pairs:
        if all(a + 1 == b for _, a, b in steps):
            yield outer, inner
