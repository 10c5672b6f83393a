"""How the statements of a Cascade go along one rank family: which read it, and in which way.

A read at the variable that walks the family is *aligned*. A final, reversed, gathered or
many-variable read is *complete*: it needs the whole of what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ...ir.einsum import Access
from ...ir.ranks import RankExpr
from .families import Ranks
from .statements import Statement


class Way(Enum):
    """How a read goes along the family."""

    BESIDE = "beside"  # an input, at an alias: under another name its elements are read, too
    ALIGNED = "aligned"
    PREFIX = "prefix"  # all up to the visit: added up as the pass goes, or read again
    LAST = "last"  # one coordinate, known when the whole is
    COMPLETE = "complete"


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
        variables = tuple(index.variables())
        if len(variables) == 1 and variables[0].upper() != axis:
            # An alias walks the rank of the axis under a name, and so as a rank, of its own.
            of_alias = self._ranks.root(variables[0].upper()) == self._ranks.root(axis)
            if of_alias and not self.covers(variables[0].upper()):
                if not along:
                    return None
                return Way.COMPLETE if not is_input else Way.BESIDE if driver else None
            along = along or (of_alias and self.covers(variables[0].upper()))
        if not along:
            return None
        if not variables:
            return None if is_input else Way.LAST
        if bare is not None and self.covers(bare.upper()):
            if bare == driver:
                return Way.ALIGNED
            return Way.PREFIX if (bare, driver) in statement.below else Way.COMPLETE
        if driver in variables and self._ranks.is_coordinate(index, axis):
            return Way.ALIGNED
        return Way.COMPLETE


_STRICTNESS = tuple(Way).index
