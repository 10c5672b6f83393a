"""The statements of a Cascade: every reduction and map in it, what it reads, and at which indices.

A reduction inside an expression is a statement of its own, read by the one around it, so that
`Y[m] = X[m] / sum[n] X[n]` is analysed as `T = X[n]; Y[m] = X[m] / T` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

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
from ..scope import rename, without_unread
from .families import Ranks

#: The rank of each axis of a tensor; None where it is of no rank.
Axes: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One reduction or map: `tensor[left] = op[reduced] f(reads)`.

    `expr` is what it computes, its reduction and all. `below` are the pairs (k, i) of variables
    that its filter keeps in order, k <= i. `is_start`: it gives a scan's first values.
    """

    tensor: str
    einsum: Einsum
    expr: Expr
    left: tuple[RankExpr, ...]
    reduced: tuple[str, ...]
    reads: tuple[Access, ...]
    below: frozenset[tuple[str, str]] = frozenset()
    is_start: bool = False

    @property
    def axes(self) -> Axes:
        """The ranks of the axes of what it makes."""
        return axes_of(self.left)

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
    axes = input_axes(cascade, ranks)
    steps = {e.name: e.step[0] for e in needed if e.step is not None}
    found: list[Group] = []
    for stage in stages(replace(cascade, einsums=tuple(needed))):
        made: list[Statement] = []
        for einsum in stage.einsums if isinstance(stage, Scan) else (stage,):
            here = canonical(einsum, axes, ranks, split=True)
            is_start = here.name in steps and not here.left[steps[here.name]].terms
            if not is_start:
                axes[here.name] = axes_of(here.left)
            made += _of(here, is_start=is_start)
        found.append(Group(tuple(made), stage.rank if isinstance(stage, Scan) else None))
    return tuple(found)


def input_axes(cascade: Cascade, ranks: Ranks) -> dict[str, Axes]:
    """The ranks of the inputs' axes."""
    return {decl.name: tuple(map(ranks.of_extent, decl.extents)) for decl in cascade.inputs}


def axes_of(left: Iterable[RankExpr]) -> Axes:
    """The ranks of the axes of what a left side defines."""
    return tuple(next((v.upper() for v in index.variables()), None) for index in left)


def canonical(
    einsum: Einsum, axes: Mapping[str, Axes], ranks: Ranks, *, split: bool = False
) -> Einsum:
    """The Einsum with aliases under the name of the rank that they stand for, where they may be.

    A variable of an alias `N = M` is m, if m does not occur beside it, and what it indexes are
    axes of M: a rank is walked by whatever name, and a bound variable's name says nothing. What a
    reduction inside binds is beside it, unless that will be `split` off: then m may be both.
    """
    if not ranks.aliased:
        return einsum
    einsum = _renamed_free(einsum, axes, ranks, split)
    expr = _renamed_bound(einsum.expr, axes, ranks, einsum.free)
    return einsum if expr is einsum.expr else replace(einsum, expr=expr)


def _renamed_free(einsum: Einsum, axes: Mapping[str, Axes], ranks: Ranks, split: bool) -> Einsum:
    """The aliases that stand in an Einsum without another name of their rank."""
    parts = [einsum.expr] if einsum.where is None else [einsum.expr, einsum.where]
    used = dict.fromkeys(einsum.free)
    for part in parts:
        bound = [v for node in walk(part) if isinstance(node, Reduce) for v in node.variables]
        if split:
            bound = list(part.variables) if isinstance(part, Reduce) else []
        used |= dict.fromkeys((*bound, *free_variables(part)))
    found: dict[str, list[str]] = {}
    for variable in used:
        found.setdefault(ranks.root(variable.upper()), []).append(variable)
    names: dict[str, str] = {}
    for root, variables in found.items():
        (variable, *others) = variables
        if others or variable == root.lower() or variable.upper() in ranks.iterative:
            continue
        if any(_captures(part, root.lower(), variable) for part in parts):
            continue
        if all(_indexes_only(part, variable, root, axes) for part in parts):
            names[variable] = root.lower()
    if not names:
        return einsum
    values = {old: RankExpr.of_variable(new) for old, new in names.items()}
    return replace(
        einsum,
        output=einsum.output.substitute(values),
        expr=rename(einsum.expr, names),
        where=None if einsum.where is None else rename(einsum.where, names),
    )


def _renamed_bound(
    expr: Expr, axes: Mapping[str, Axes], ranks: Ranks, kept: Sequence[str] = ()
) -> Expr:
    """The aliases that a reduction binds, without another name of their rank in it.

    `kept` are the variables of the left side, which stand beside those of the outermost reduction.
    """
    if isinstance(expr, Map):
        args = tuple(_renamed_bound(arg, axes, ranks) for arg in expr.args)
        same = all(new is old for new, old in zip(args, expr.args, strict=True))
        return expr if same else replace(expr, args=args)
    if not isinstance(expr, Reduce):
        return expr
    inside = _renamed_bound(expr.expr, axes, ranks)
    names: dict[str, str] = {}
    for variable in expr.variables:
        root = ranks.root(variable.upper())
        beside = {*kept, *expr.variables, *free_variables(inside), *names.values()} - {variable}
        alone = all(ranks.root(v.upper()) != root for v in beside)
        alone = alone and not _captures(inside, root.lower(), variable)
        if root.lower() == variable or not alone:
            continue
        if _indexes_only(inside, variable, root, axes):
            names[variable] = root.lower()
    if not names and inside is expr.expr:
        return expr
    bound = tuple(names.get(v, v) for v in expr.variables)
    return replace(expr, variables=bound, expr=rename(inside, names))


def _captures(expr: Expr, bound: str, variable: str) -> bool:
    """Whether a variable occurs free in a reduction that binds another one."""
    return any(
        isinstance(node, Reduce) and bound in node.variables and variable in free_variables(node)
        for node in walk(expr)
    )


def _indexes_only(expr: Expr, variable: str, rank: str, axes: Mapping[str, Axes]) -> bool:
    """Whether what a variable indexes are axes of that rank."""
    for node in walk(expr):
        if isinstance(node, Access):
            for index, axis in zip(node.indices, axes.get(node.tensor, ()), strict=False):
                if isinstance(index, Access) or variable not in index.variables():
                    continue
                if axis != rank:
                    return False
    return True


def _of(einsum: Einsum, *, is_start: bool) -> Iterator[Statement]:
    """The statements of one Einsum: its inner reductions, then itself."""
    made: list[Statement] = []

    def reads(expr: Expr) -> Iterator[Access]:
        if isinstance(expr, Reduce):
            kept = free_variables(expr)
            inside = tuple(reads(expr.expr))
            name = f"{einsum.name}.{len(made) + 1}"  # after those inside it
            left = tuple(map(RankExpr.of_variable, kept))
            made.append(Statement(name, einsum, expr, left, expr.variables, inside))
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
    yield Statement(einsum.name, einsum, outer, einsum.left, reduced, found, below, is_start)


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
