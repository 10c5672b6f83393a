"""What is known of a nest before it is written."""

from __future__ import annotations

import itertools

from ...ir.loop_nodes import (
    ONE,
    Begin,
    Fold,
    Loop,
    LoopNest,
    Statement,
    Store,
    walk,
)
from ...ir.loops import Nest
from ...ir.ranks import RankExpr
from .isa import Isa

#: Of more plain loops than twice this, only the innermost so many are loops of their own.
_NESTED = 5


def accumulators(body: tuple[Statement, ...]) -> int:
    """The most vectors that an innermost loop folds into, for each point of the tile around it."""
    begun = {s.register: s.dtype for s in walk(body) if isinstance(s, Begin)}
    most = 0
    for nest in walk(body):
        if isinstance(nest, LoopNest) and not any(isinstance(s, LoopNest) for s in walk(nest.body)):
            names = {s.register for s in walk(nest.body) if isinstance(s, Fold)} & begun.keys()
            most = max(most, sum(2 if begun[n].kind == "complex" else 1 for n in names))
    return most


def spaces(nest: Nest) -> dict[str, tuple[str, ...]]:
    """The ranks of more than one that make up a space together: a result's, a reduction's.

    If one is empty then so is the space, and the others, however long, need not be gone through.
    But a rank of two spaces is: a nest that finishes rows may have a result for each empty row.
    """
    spaces: set[tuple[str, ...]] = set()
    for statement in walk(nest.body):
        if isinstance(statement, Begin):
            spaces.add(statement.over)
        elif isinstance(statement, Store):
            plain = [index.variable or "'" for index in statement.indices]
            # A part's own variable has the part's length as its rank.
            own = [index.steps_by or "'" for index in statement.indices]
            names = [name for name in plain if "'" not in name]
            names += [name for name in own if name.endswith("'p")]
            spaces.add(tuple(dict.fromkeys(name.upper() for name in names)))
    found: dict[str, tuple[str, ...]] = {}
    shared: set[str] = set()  # by sums of unlike spaces: the one may have points and the other none
    for space in spaces:
        shared |= found.keys() & set(space)
        found |= dict.fromkeys(space, space)
    return {r: s for r, s in sorted(found.items()) if len(s) > 1 and r not in shared}


def many(loops: tuple[Loop, ...]) -> int:
    """How many loops, from the outside, are too many to nest; 0 if they are few."""
    plain = itertools.takewhile(
        lambda loop: (
            loop.kind == "serial"
            and loop.start == RankExpr()
            and loop.step == ONE
            and not (loop.bounds or loop.once)
        ),
        loops,
    )
    count = sum(1 for _ in plain)
    return max(0, count - _NESTED) if count > 2 * _NESTED else 0


def lanes_of(nest: Nest, isa: Isa) -> int:
    """What Lanes is in a nest, for vectors as wide as an instruction set has."""
    return max(2, isa.bits // nest.width)
