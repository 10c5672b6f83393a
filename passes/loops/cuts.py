"""Along which variables what a statement computes may be cut into parts.

A variable may be cut if every store has its coordinate in an index of its own, and the statement
reads nothing that it writes: then no two parts touch the same element, and what is done for an
element does not depend on the parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.loop_nodes import (
    Contract,
    Loop,
    LoopNest,
    Pack,
    Past,
    Permute,
    Special,
    Statement,
    Store,
    walk,
)
from ...ir.loops import Split
from ...ir.ranks import RankExpr
from .parts import each_in, reads_what_it_writes
from .tile import LANES_EXPR, number, size, times

#: The most variables of a nest that are cut.
MOST_CUT = 3

#: Elements along the rows, and along the columns, of which a part of a copy is a multiple.
_COPIED = 64


def cuts(statement: Statement) -> list[list[Split]]:
    """The variables that may be cut, alike ones together: those of a contraction's rows, say.

    A part is best a multiple of a split's unit long.
    """
    if isinstance(statement, Contract):
        return _of_contract(statement)
    if isinstance(statement, Pack):
        return [[Split(v, number(1))] for v in statement.batch]
    if isinstance(statement, Permute):
        return _of_permute(statement)
    constant = {rank for found in each_in(statement, Special) for rank, _ in found.sizes}
    around = inside(statement)
    found = _of_loops(around) if isinstance(around, LoopNest) else []
    return [[split] for split in found if split.rank not in constant]


def written(statement: Contract | Permute) -> set[str]:
    """The buffers that are not a part's own: what it writes."""
    finish = statement.finish if isinstance(statement, Contract) else None
    return {statement.buffer} | ({finish.buffer} if finish is not None else set[str]())


def workspace(statement: Statement) -> set[str]:
    """The buffers that it fills for its own use."""
    if isinstance(statement, Contract):
        packed = (p.buffer for p in (statement.rows, statement.columns) if p.at is None)
        return {*packed, statement.offsets, statement.runs}
    if isinstance(statement, Pack):
        return {statement.offsets, statement.runs}
    return {statement.staged} if isinstance(statement, Permute) else set()


def inside(statement: Statement) -> Statement:
    """The loops for which code is written twice; any other statement itself."""
    while isinstance(statement, Past | Special) and len(statement.body) == 1:
        statement = statement.body[0]
    return statement


def _of_contract(found: Contract) -> list[list[Split]]:
    """The variables of the batch, of the rows, of the columns."""
    if reads_what_it_writes(found, written(found)):
        return []
    stored = {index.steps_by for index in found.indices}
    if found.finish is not None:
        # An epilogue may fold many sums into one element: parts must not share it.
        stored &= {index.steps_by for index in found.finish.indices}
    groups: list[list[Split]] = []
    for variables, tile in (
        (found.batch, number(1)),
        (found.rows.variables, number(found.height)),
        (found.columns.variables, times(LANES_EXPR, found.vectors)),
    ):
        units = {v: tile if v == variables[-1] else number(1) for v in variables}
        groups.append([Split(v, unit) for v, unit in units.items() if v in stored])
    return [group for group in groups if group]


def _of_permute(found: Permute) -> list[list[Split]]:
    """The variables that blocks do not span, then those that they do."""
    spanned = (found.wraps, found.columns, found.rows)
    groups = [[Split(v, number(1)) for v in found.loops if v not in spanned]]
    if found.wraps is not None and found.rows == found.columns:
        groups.append([Split(found.wraps, number(1))])
    order = dict.fromkeys((found.columns, found.rows))
    groups += [[Split(v, number(_COPIED))] for v in order]
    return [group for group in groups if group]


def _of_loops(nest: LoopNest) -> list[Split]:
    """The variables of a loop nest, outermost first."""
    stores = [s for s in walk((nest,)) if isinstance(s, Store)]
    if not stores or reads_what_it_writes(nest, {store.buffer for store in stores}):
        return []
    everywhere = [loop.variable for loop in each_in(nest, Loop)]
    used = {v for s in nest.body for expr in each_in(s, RankExpr) for v in expr.variables()}
    splits: list[Split] = []
    for loop in nest.loops:
        if loop.start != RankExpr() or loop.kind != "serial" or loop.once:
            continue
        chain = _chain(loop, nest.loops)
        variable = chain[-1].variable
        apart = all(any(i.steps_by == variable for i in s.indices) for s in stores)
        if (
            apart
            and loop.stop == size(variable)
            and all(everywhere.count(link.variable) == 1 for link in chain)
            and not used & {link.variable for link in chain[:-1]}
        ):
            splits.append(Split(variable, loop.step))
    return splits


def _chain(loop: Loop, loops: Sequence[Loop]) -> list[Loop]:
    """The loop, that over each of its steps, and so on."""
    chain = [loop]
    while True:
        last = chain[-1].variable
        inner = next((each for each in loops if each.start.variable == last), None)
        if inner is None:
            return chain
        chain.append(inner)
