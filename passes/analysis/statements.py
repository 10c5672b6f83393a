"""The statements of a Cascade: every reduction and map in it, what it reads, and at which indices.

A reduction inside an expression is a statement of its own, read by the one around it, so that
`Y[m] = X[m] / sum[n] X[n]` is analysed as `T = X[n]; Y[m] = X[m] / T` is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...ir.cascade import Cascade
from ...ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Map,
    Reduce,
    children,
    free_variables,
    walk,
)
from ...ir.ranks import RankExpr
from ...ir.scans import Scan, stages
from ..rewrite import rename, without_unread
from .families import Ranks


@dataclass(frozen=True, slots=True)
class Statement:
    """One reduction or map: `tensor[left] = op[reduced] f(reads)`.

    `below` are the pairs (k, i) of variables that its filter keeps in order, k <= i. `is_start`:
    it gives a scan's first values.
    """

    tensor: str
    einsum: Einsum
    left: tuple[RankExpr, ...]
    reduced: tuple[str, ...]
    reads: tuple[Access, ...]
    below: frozenset[tuple[str, str]] = frozenset()
    is_start: bool = False

    @property
    def kept(self) -> tuple[str, ...]:
        """The variables on the left, each once; a scan's own first."""
        step = [index for index in self.left if index.offset]
        found = [v for index in (*step, *self.left) for v in index.variables()]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Group:
    """Statements that run once, or, with a `rank`, again and again along it: those of a scan."""

    statements: tuple[Statement, ...]
    rank: str | None = None


def groups(cascade: Cascade, ranks: Ranks) -> tuple[Group, ...]:
    """The statements that the outputs need, in an order in which they can run."""
    needed = without_unread(cascade.einsums, cascade.outputs)
    axes: dict[str, tuple[str | None, ...]] = {
        decl.name: tuple(map(ranks.of_extent, decl.extents)) for decl in cascade.inputs
    }
    steps = {e.name: e.step[0] for e in needed if e.step is not None}
    found: list[Group] = []
    for stage in stages(replace(cascade, einsums=tuple(needed))):
        made: list[Statement] = []
        for einsum in stage.einsums if isinstance(stage, Scan) else (stage,):
            here = _canonical(einsum, axes, ranks)
            is_start = here.name in steps and not here.left[steps[here.name]].terms
            if not is_start:
                axes[here.name] = tuple(_rank(index) for index in here.left)
            made += _of(here, is_start=is_start)
        found.append(Group(tuple(made), stage.rank if isinstance(stage, Scan) else None))
    return tuple(found)


def _rank(index: RankExpr) -> str | None:
    return next((variable.upper() for variable in index.variables()), None)


def _canonical(einsum: Einsum, axes: dict[str, tuple[str | None, ...]], ranks: Ranks) -> Einsum:
    """The Einsum with a bound alias under the name of the rank that it stands for, where it may.

    A variable of an alias `N = M` is m, if m does not occur beside it, and what it indexes are
    axes of M: renaming a bound variable changes nothing, and so must not change a count.
    """

    def renamed(expr: Expr) -> Expr:
        if isinstance(expr, Map):
            args = tuple(map(renamed, expr.args))
            same = all(new is old for new, old in zip(args, expr.args, strict=True))
            return expr if same else replace(expr, args=args)
        if not isinstance(expr, Reduce):
            return expr
        inside = renamed(expr.expr)
        names: dict[str, str] = {}
        for variable in expr.variables:
            root = ranks.root(variable.upper())
            beside = {*expr.variables, *free_variables(inside), *names.values()} - {variable}
            captured = any(
                isinstance(node, Reduce)
                and root.lower() in node.variables
                and variable in free_variables(node)
                for node in walk(inside)
            )
            alone = all(ranks.root(v.upper()) != root for v in beside) and not captured
            if root.lower() == variable or not alone:
                continue
            if _indexes_only(inside, variable, root, axes):
                names[variable] = root.lower()
        if not names and inside is expr.expr:
            return expr
        bound = tuple(names.get(v, v) for v in expr.variables)
        return replace(expr, variables=bound, expr=rename(inside, names))

    if einsum.where is not None or not ranks.aliased:
        return einsum
    expr = renamed(einsum.expr)
    return einsum if expr is einsum.expr else replace(einsum, expr=expr)


def _indexes_only(
    expr: Expr, variable: str, rank: str, axes: dict[str, tuple[str | None, ...]]
) -> bool:
    """Whether a variable occurs alone, as an index of axes of that rank."""
    if isinstance(expr, Coordinate):
        return expr.name != variable
    if isinstance(expr, Access):
        for index, axis in zip(expr.indices, axes.get(expr.tensor, ()), strict=False):
            if isinstance(index, Access):
                if not _indexes_only(index, variable, rank, axes):
                    return False
            elif variable in index.variables() and axis != rank:
                return False
        return True
    return all(_indexes_only(child, variable, rank, axes) for child in children(expr))


def _of(einsum: Einsum, *, is_start: bool) -> Iterator[Statement]:
    """The statements of one Einsum: its inner reductions, then itself."""
    made: list[Statement] = []

    def reads(expr: Expr) -> Iterator[Access]:
        if isinstance(expr, Reduce):
            name = f"{einsum.name}.{len(made) + 1}"
            kept = free_variables(expr)
            inside = tuple(reads(expr.expr))
            left = tuple(map(RankExpr.of_variable, kept))
            made.append(Statement(name, einsum, left, expr.variables, inside))
            yield Access(name, left, None, expr.span)
            return
        if isinstance(expr, Access):
            yield expr
        for child in children(expr):
            yield from reads(child)

    outer = einsum.expr
    body, reduced = (outer.expr, outer.variables) if isinstance(outer, Reduce) else (outer, ())
    found = tuple(reads(body))
    below: frozenset[tuple[str, str]] = frozenset()
    if einsum.where is not None:
        found += tuple(reads(einsum.where))
        below = frozenset(_ordered(einsum.where))
    yield from made
    yield Statement(einsum.name, einsum, einsum.left, reduced, found, below, is_start)


_ORDERS = {"le": (0, 1), "lt": (0, 1), "ge": (1, 0), "gt": (1, 0)}


def _ordered(where: Expr) -> Iterator[tuple[str, str]]:
    """The pairs of variables that every point of a filter keeps in order."""
    if not isinstance(where, Map) or not isinstance(where.op, str):
        return
    if where.op == "and":
        for arg in where.args:
            yield from _ordered(arg)
    elif where.op in _ORDERS:
        low, high = (where.args[at] for at in _ORDERS[where.op])
        if isinstance(low, Coordinate) and isinstance(high, Coordinate):
            yield low.name, high.name
