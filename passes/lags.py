"""Scans that step by more than one as scans that step by one, which carry the values between.

    X[0] = a,  X[1] = b,  X[v+2] = f(X[v+1], X[v])
 -> P[0] = a,  Q[0] = b,  P[v+1] = Q[v],  Q[v+1] = f(Q[v], P[v])
    X[w] = select(w == 0, P[0], Q[w-1 else 0])          with W = V+2

P[v] is X[v] and Q[v] is X[v+1]. The adjoint is made of scans of this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..ir.cascade import Cascade, fresh_name
from ..ir.dtypes import DType
from ..ir.einsum import Access, Coordinate, Einsum, Expr, Literal, Map, rewrite_leaves
from ..ir.infer import infer_dtypes
from ..ir.ranks import Rank, RankExpr, affine
from ..ir.scans import Scan, stages
from .derivatives import ZERO, select


@dataclass(frozen=True, slots=True)
class _Carried:
    """A tensor that steps by `variable`+lag along an axis; `parts[k]` at v is the tensor at v+k."""

    axis: int
    variable: str
    parts: tuple[str, ...]
    dtype: DType
    rank: Rank  # of the whole axis
    scan: Scan

    @property
    def lag(self) -> int:
        return len(self.parts)


def single_steps(cascade: Cascade) -> Cascade:
    """The Cascade in which every scan along one rank steps by one; itself if all do."""
    found = _carried(cascade)
    if not found:
        return cascade
    einsums: list[Einsum] = []
    waiting: list[Einsum] = []
    for einsum in cascade.einsums:
        moved = _read(einsum, found)
        own = found.get(einsum.name)
        if own is None:
            einsums.append(moved)
        elif einsum.step is None:
            einsums.append(_start(moved, own))
        else:
            einsums += _steps(moved, own)
            waiting.append(_whole(einsum, own))
        # The whole tensor is read from outside, so it stands below what advances together.
        for whole in [w for w in waiting if einsum is found[w.name].scan.einsums[-1]]:
            waiting.remove(whole)
            einsums.append(whole)
    ranks = (*cascade.ranks, *(each.rank for each in found.values()))
    return replace(cascade, ranks=ranks, einsums=tuple(einsums))


def _carried(cascade: Cascade) -> dict[str, _Carried]:
    dtypes, names = infer_dtypes(cascade, {}), cascade.names()
    found: dict[str, _Carried] = {}

    def new(stem: str) -> str:
        name = fresh_name(stem, names)
        names.add(name)
        return name

    for scan in stages(cascade):
        if not isinstance(scan, Scan):
            continue
        for einsum in scan.einsums:
            if len(einsum.steps) != 1 or einsum.steps[0][2] == 1:
                continue
            axis, variable, lag = einsum.steps[0]
            parts = tuple(new(einsum.name) for _ in range(lag))
            (size,) = RankExpr.of_size(variable.upper()).terms
            rank = Rank(new(variable.upper()), affine([size], lag))
            found[einsum.name] = _Carried(axis, variable, parts, dtypes[einsum.name], rank, scan)
    return found


def _read(einsum: Einsum, carried: Mapping[str, _Carried]) -> Einsum:
    """The Einsum reading parts: starts, and what it needs of a scan that it is in."""

    def there(access: Access) -> Access:
        indices = tuple(
            there(index) if isinstance(index, Access) else index for index in access.indices
        )
        own = carried.get(access.tensor)
        if own is not None:
            index = indices[own.axis]
            assert isinstance(index, RankExpr) or einsum not in own.scan.einsums
            number = index.constant if isinstance(index, RankExpr) else None
            if number is not None and number < own.lag:
                return _at(access, own, number, RankExpr(), indices)
            if einsum in own.scan.einsums and isinstance(index, RankExpr):
                now = RankExpr.of_variable(own.variable)
                number = min(index.offset, own.lag - 1)
                if number >= 0:
                    return _at(
                        access, own, number, replace(now, offset=index.offset - number), indices
                    )
        return replace(access, indices=indices)

    def leaf(node: Access | Coordinate) -> Expr:
        return there(node) if isinstance(node, Access) else node

    where = None if einsum.where is None else rewrite_leaves(einsum.where, leaf)
    return replace(einsum, expr=rewrite_leaves(einsum.expr, leaf), where=where)


def _at(
    access: Access,
    own: _Carried,
    number: int,
    index: RankExpr,
    indices: tuple[RankExpr | Access, ...] | None = None,
) -> Access:
    """A part of the tensor in place of the whole, at an index along the axis that steps."""
    kept = access.indices if indices is None else indices
    placed = (*kept[: own.axis], index, *kept[own.axis + 1 :])
    return replace(access, tensor=own.parts[number], indices=placed)


def _start(einsum: Einsum, own: _Carried) -> Einsum:
    number = einsum.left[own.axis].offset
    output = _at(einsum.output, own, number, RankExpr())
    return replace(einsum, output=output, dtype=own.dtype)


def _steps(einsum: Einsum, own: _Carried) -> list[Einsum]:
    now = RankExpr.of_variable(own.variable)
    following = replace(now, offset=1)
    made = [
        Einsum(
            _at(einsum.output, own, number, following),
            _at(einsum.output, own, number + 1, now),
            dtype=own.dtype,
            span=einsum.span,
        )
        for number in range(own.lag - 1)
    ]
    output = _at(einsum.output, own, own.lag - 1, following)
    return [*made, replace(einsum, output=output, dtype=own.dtype)]


def _whole(einsum: Einsum, own: _Carried) -> Einsum:
    """All of the tensor: its starts, then the last of the parts."""
    place = own.rank.variable
    back = affine(list(RankExpr.of_variable(place).terms), 1 - own.lag)
    expr: Expr = replace(_at(einsum.output, own, own.lag - 1, back), fill=ZERO)
    for number in reversed(range(own.lag - 1)):
        here = Map("eq", (Coordinate(place), Literal(number)))
        expr = select(here, _at(einsum.output, own, number, RankExpr()), expr)
    left = list(einsum.left)
    left[own.axis] = RankExpr.of_variable(place)
    return Einsum(Access(einsum.name, tuple(left)), expr, dtype=own.dtype, span=einsum.span)
