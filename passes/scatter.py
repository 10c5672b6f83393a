"""The adjoint of a read: what is read at an index is added up there.

A gather-form Einsum says so: the axis that is read at a plain variable has that variable on the
left, and any other gets a new variable w and the filter `index == w`. Where the index is affine in
a variable with the factor 1 or -1, that variable is solved for instead of summed over:

    Y[p] = X[p+r] * F[r]   ->   X_bar[h] = sum[r] Y_bar[h-r else 0] * F[r] where 0 <= h-r < P
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..ir.cascade import fresh_name
from ..ir.einsum import (
    Access,
    Coordinate,
    Expr,
    Literal,
    Map,
    Reduce,
    index_value,
    rewrite_leaves,
    walk,
)
from ..ir.ranks import Quotient, Rank, RankExpr, Term, affine
from .derivatives import ZERO, apply


@dataclass(frozen=True, slots=True)
class Part:
    """What one read contributes to the cotangent of what it reads: an Einsum without a name."""

    left: tuple[RankExpr, ...]
    expr: Expr
    where: Expr | None

    @property
    def otherwise(self) -> Literal | None:
        return ZERO if self.where is not None and not isinstance(self.expr, Reduce) else None


class Ranks:
    """The ranks of a cascade, and those that are made for new variables."""

    def __init__(self, ranks: Sequence[Rank], names: set[str]) -> None:
        self.ranks = list(ranks)
        self.names = names
        self._made: dict[RankExpr, list[str]] = {}

    def root(self, extent: RankExpr) -> RankExpr:
        """An extent with aliases and numbers looked up."""
        shapes = {rank.name: rank.shape for rank in self.ranks}
        while extent.rank is not None:
            shape = shapes[extent.rank]
            if isinstance(shape, int):
                return RankExpr((), shape)
            if shape is None or isinstance(shape, Quotient):
                break
            extent = shape
        return replace(extent, span=None)

    def variable(self, extent: RankExpr, taken: set[str]) -> str:
        """A variable over an axis of that extent which is none of those taken; it joins them."""
        own = [extent.rank.lower()] if extent.rank is not None else []
        made = self._made.setdefault(replace(extent, span=None), [])
        found = next((v for v in (*own, *made) if v not in taken), None)
        if found is None:
            name = fresh_name(extent.rank or "R", self.names)
            self.names.add(name)
            shape = extent if extent.constant is None else extent.constant
            self.ranks.append(Rank(name, shape))
            found = name.lower()
            made.append(found)
        taken.add(found)
        return found

    def axes(self, extents: Sequence[RankExpr]) -> tuple[RankExpr, ...]:
        """Left indices for a tensor of these extents."""
        taken: set[str] = set()
        return tuple(
            RankExpr()
            if extent.constant == 1
            else RankExpr.of_variable(self.variable(extent, taken))
            for extent in extents
        )


def scatter(
    read: Access,
    extents: Sequence[RankExpr],
    cotangent: Expr,
    conditions: Sequence[Expr],
    points: Sequence[str],
    ranks: Ranks,
    held: tuple[int, str] | None = None,
) -> Part:
    """What a read contributes to the cotangent of its tensor, whose extents are given.

    Args:
        read: the Access, at each of the `points`.
        extents: of the tensor that is read.
        cotangent: of the value that is read.
        conditions: the points that count are those at which all of these hold.
        points: the variables of the iteration space.
        ranks: where new variables come from.
        held: an axis, and the variable that stands for it on the left whatever its index is.
    """
    inner = (
        node.variables for each in conditions for node in walk(each) if isinstance(node, Reduce)
    )
    taken = {*points, *(v for variables in inner for v in variables)}
    left: dict[int, RankExpr] = {} if held is None else {held[0]: RankExpr.of_variable(held[1])}
    for axis, (index, extent) in enumerate(zip(read.indices, extents, strict=True)):
        if axis in left or isinstance(index, Access):
            continue
        if index.constant == 0 and extent.constant == 1:
            left[axis] = RankExpr()
        elif index.variable in points and index.variable is not None:
            own = RankExpr.of_size(index.variable.upper())
            if ranks.root(own) == ranks.root(extent):
                left[axis] = RankExpr.of_variable(index.variable)
    kept = {variable for index in left.values() for variable in index.variables()}
    where = list(conditions)
    solved: set[str] = set()
    for axis, extent in enumerate(extents):
        if axis in left:
            continue
        place = RankExpr.of_variable(ranks.variable(extent, taken))
        left[axis] = place
        index = read.indices[axis]
        variable = None if isinstance(index, Access) else _solvable(index, points, {*kept, *solved})
        if variable is None or isinstance(index, Access):
            written = index if isinstance(index, Access) else index_value(index)
            where.append(apply("eq", written, index_value(place)))
            continue
        solved.add(variable)
        value = _solution(index, variable, place)
        cotangent, *where = (filled(each, variable, value) for each in (cotangent, *where))
        read = _filled_access(read, variable, value)
        where.append(apply("ge", index_value(value), ZERO))
        where.append(apply("lt", index_value(value), Coordinate(variable.upper())))
    summed = tuple(v for v in points if v not in kept and v not in solved)
    return Part(
        tuple(left[axis] for axis in range(len(extents))),
        Reduce("add", summed, cotangent) if summed else cotangent,
        None if not where else where[0] if len(where) == 1 else Map("and", tuple(where)),
    )


def _solvable(index: RankExpr, points: Sequence[str], bound: set[str]) -> str | None:
    """A variable that the index determines, given the others: its factor is 1 or -1."""
    for term in index.terms:
        if term.coefficient in (1, -1) and not term.sizes and term.variable in points:
            once = sum(term.variable == other.variable for other in index.terms) == 1
            if once and term.variable not in bound:
                return term.variable
    return None


def _solution(index: RankExpr, variable: str, place: RankExpr) -> RankExpr:
    """What a variable is where the index is `place`."""
    (own,) = (term for term in index.terms if term.variable == variable)
    sign = own.coefficient
    rest = [
        replace(term, coefficient=-sign * term.coefficient)
        for term in index.terms
        if term is not own
    ]
    (new,) = place.terms
    return affine([Term(sign, (), new.variable), *rest], -sign * index.offset)


def filled(expr: Expr, variable: str, value: RankExpr) -> Expr:
    """The expression at a variable's value, which may be out of range: reads are 0 there."""

    def leaf(node: Access | Coordinate) -> Expr:
        if isinstance(node, Access):
            return _filled_access(node, variable, value)
        return index_value(value) if node.name == variable else node

    return rewrite_leaves(expr, leaf)


def _filled_access(access: Access, variable: str, value: RankExpr) -> Access:
    if variable not in access.variables():
        return access
    indices = tuple(
        _filled_access(index, variable, value)
        if isinstance(index, Access)
        else index.substitute({variable: value})
        for index in access.indices
    )
    return replace(access, indices=indices, fill=access.fill or ZERO)
