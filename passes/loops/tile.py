"""The loops of a register tile, and index arithmetic to write them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir.loop_nodes import LANES, Loop, LoopKind, LoopNest, Statement
from ...ir.ranks import RankExpr, Term, affine
from .schedule import Schedule

LANES_EXPR = RankExpr((Term(1, (LANES,)),))


def times(*factors: RankExpr | int) -> RankExpr:
    """The product of sizes and numbers, each of one term."""
    number, sizes = 1, list[str]()
    for factor in factors:
        if isinstance(factor, int):
            number *= factor
        elif factor.terms:
            (term,) = factor.terms
            number *= term.coefficient
            sizes += term.sizes
        else:
            number *= factor.offset
    return RankExpr((Term(number, tuple(sizes)),)) if sizes else RankExpr((), number)


def plus(*exprs: RankExpr) -> RankExpr:
    """The sum, like terms added up."""
    return affine([term for e in exprs for term in e.terms], sum(e.offset for e in exprs))


def scaled(expr: RankExpr, factor: int) -> RankExpr:
    """So many times the expression."""
    terms = tuple(replace(t, coefficient=factor * t.coefficient) for t in expr.terms)
    return RankExpr(terms, factor * expr.offset)


def minus(a: RankExpr, b: RankExpr) -> RankExpr:
    """The difference."""
    return plus(a, scaled(b, -1))


def number(value: int) -> RankExpr:
    """The expression that is a number."""
    return RankExpr((), value)


def variable(name: str) -> RankExpr:
    """The expression that is a variable."""
    return RankExpr.of_variable(name)


def size(name: str) -> RankExpr:
    """The size of a variable's rank."""
    return RankExpr.of_size(name.upper())


def in_order(extents: Sequence[RankExpr | int]) -> tuple[RankExpr, ...]:
    """The strides of a C-ordered buffer of these extents."""
    return tuple(times(*extents[axis + 1 :]) for axis in range(len(extents)))


def full_loop(name: str) -> Loop:
    """The loop over a variable's whole rank."""
    return Loop(name, RankExpr(), size(name))


def around(loops: Sequence[Loop], body: Sequence[Statement]) -> tuple[Statement, ...]:
    """The statements inside the loops, if there are any loops."""
    return (LoopNest(tuple(loops), tuple(body)),) if loops else tuple(body)


def tiled(loop: Loop, width: RankExpr, kind: LoopKind, mark: str = "'") -> list[Loop]:
    """A loop in steps of `width`, and the tile loop, or serial loop, over each of its steps."""
    name = loop.variable + mark
    start = variable(name)
    outer = replace(loop, variable=name, step=width)
    bounds = (loop.stop, *loop.bounds)
    inner = replace(loop, start=start, stop=plus(start, width), bounds=bounds, kind=kind)
    return [outer, inner]


def vector_loops(schedule: Schedule) -> list[Loop]:
    """The loop over blocks of vectors, and the vector loop; none if there is no vector variable."""
    if schedule.vector is None:
        return []
    return tiled(full_loop(schedule.vector), times(LANES_EXPR, schedule.vectors), "vector")


def row_loops(schedule: Schedule) -> list[Loop]:
    """The loop over blocks of rows, and the unrolled loop; none if there are no rows."""
    if schedule.rows is None:
        return []
    return tiled(full_loop(schedule.rows), number(schedule.row_count), "unroll")


def reduction_loops(schedule: Schedule) -> tuple[list[Loop], list[Loop]]:
    """The loops of the outermost reduction: those around each chunk of the sum, those over one."""
    loops = [[full_loop(name)] for name in schedule.reduced]
    tile: list[list[Loop]] = []
    if schedule.rows in schedule.folded:
        tile.append(row_loops(schedule))
    if schedule.vector in schedule.folded:
        tile.append(vector_loops(schedule))
    loops += [pair[:1] for pair in tile]
    flat = [loop for found in loops for loop in found] + [pair[1] for pair in tile]
    if schedule.chunk is None:
        return [], flat
    name, steps = schedule.chunk
    at = next(n for n, loop in enumerate(flat) if loop.variable in (name, name + "'"))
    outer, inner = tiled(flat[at], times(flat[at].step, steps), "serial", "'s")
    return [*flat[:at], outer], [replace(inner, step=flat[at].step), *flat[at + 1 :]]


def split(loop: Loop, step: int, between: Sequence[Loop]) -> list[Loop]:
    """A loop that steps, in longer steps, then other loops, then the loop over each of those."""
    outer, inner = tiled(loop, number(step), "serial")
    return [replace(outer, step=number(step)), *between, replace(inner, step=loop.step)]
