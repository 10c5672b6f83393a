"""Scans of what is encrypted, written out: each coordinate's part is a tensor of its own.

    X[0] = A                     X_0 = A
    X[v+1] = X[v] * B[v]      -> X_1 = X_0 * B[0]    (V = 2)
    Y = X[V]                     X_2 = X_1 * B[1]
                                 Y = X_2

A scanned tensor that is read along its scan, or given out, is put together again from its parts, by
masks, in a product for each of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import product

from ...ir.cascade import Cascade, fresh_name
from ...ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    rewrite_leaves,
    substitute,
)
from ...ir.errors import UnsupportedError
from ...ir.ranks import Rank, RankExpr
from ...ir.scans import Scan, stages
from ..rewrite import joined

#: The most parts that scans are written out in.
_MOST = 512


def unrolled(cascade: Cascade, sizes: Mapping[str, int], hidden: Collection[str]) -> Cascade:
    """The Cascade without the scans that define one of the `hidden`; itself if it has none.

    Args:
        sizes: the extent of every rank.

    Raises:
        UnsupportedError: there are more than 512 parts.
    """
    scans = [stage for stage in stages(cascade) if isinstance(stage, Scan)]
    apart = [{each.name for each in scan.einsums} for scan in scans]
    names = {name for found in apart if found & set(hidden) for name in found}
    if not names:
        return cascade
    return _Unrolling(cascade, sizes, names).cascade()


class _Unrolling:
    def __init__(self, cascade: Cascade, sizes: Mapping[str, int], names: set[str]) -> None:
        self._cascade, self._sizes = cascade, sizes
        self._taken = cascade.names()
        self._parts: dict[tuple[str, tuple[int, ...]], str] = {}
        self._made: list[Einsum] = []
        self._ranks: list[Rank] = []
        self._whole: set[str] = set()
        scanned = {v for stage in stages(cascade) for v in _variables(stage)}
        self._axes = {
            name: tuple(sorted({axis for e in _of(cascade, name) for axis in _axes(e, scanned)}))
            for name in names
        }

    def cascade(self) -> Cascade:
        for stage in stages(self._cascade):
            einsums = stage.einsums if isinstance(stage, Scan) else (stage,)
            if not any(einsum.name in self._axes for einsum in einsums):
                self._made += map(self._reader, einsums)
            elif isinstance(stage, Scan):
                self._advance(stage, {})
            else:
                self._write(stage, {})
        for name in self._cascade.outputs:
            if name in self._axes:
                self._together(name)
        ranks = (*self._cascade.ranks, *self._ranks)
        return replace(self._cascade, ranks=ranks, einsums=tuple(self._made))

    def _advance(self, scan: Scan, fixed: Mapping[str, int]) -> None:
        for coordinate in range(self._sizes[scan.rank]):
            here = {**fixed, scan.variable: coordinate}
            for member in scan.members:
                if isinstance(member, Scan):
                    self._advance(member, here)
                else:
                    self._write(member, here)

    def _write(self, einsum: Einsum, fixed: Mapping[str, int]) -> None:
        """The parts that an Einsum defines at the coordinates of its scans."""
        axes = self._axes[einsum.name]
        left = einsum.left
        free = [v for axis in axes for v in left[axis].variables() if v not in fixed]
        for values in product(*(range(self._sizes[v.upper()]) for v in free)):
            here = {**fixed, **dict(zip(free, values, strict=True))}
            at = {v: RankExpr((), n) for v, n in here.items()}
            place = tuple(left[axis].substitute(at).value(self._sizes) for axis in axes)
            indices = tuple(index for axis, index in enumerate(left) if axis not in axes)
            output = Access(self._part(einsum.name, place), indices, None, einsum.output.span)
            where = None if einsum.where is None else self._read(substitute(einsum.where, at))
            made = replace(
                einsum, output=output, expr=self._read(substitute(einsum.expr, at)), where=where
            )
            self._made.append(made)
            if len(self._parts) > _MOST:
                raise UnsupportedError(
                    f"the scan of {einsum.name} is encrypted, and has more than {_MOST} parts",
                    span=einsum.span,
                )

    def _part(self, name: str, place: tuple[int, ...]) -> str:
        key = (name, place)
        if key not in self._parts:
            found = fresh_name("_".join([name, *map(str, place)]), self._taken)
            self._taken.add(found)
            self._parts[key] = found
        return self._parts[key]

    def _reader(self, einsum: Einsum) -> Einsum:
        expr = self._read(einsum.expr)
        where = None if einsum.where is None else self._read(einsum.where)
        return replace(einsum, expr=expr, where=where)

    def _read(self, expr: Expr) -> Expr:
        """The expression reading parts, or what is put together of them."""

        def leaf(node: Access | Coordinate) -> Expr:
            if not isinstance(node, Access) or node.tensor not in self._axes:
                return node
            axes = self._axes[node.tensor]
            along = [node.indices[axis] for axis in axes]
            if node.fill is None and not any(True for i in along for _ in i.variables()):
                place = tuple(i.value(self._sizes) for i in along if isinstance(i, RankExpr))
                kept = tuple(i for axis, i in enumerate(node.indices) if axis not in axes)
                if len(place) == len(axes):
                    return replace(node, tensor=self._part(node.tensor, place), indices=kept)
            self._together(node.tensor)
            return node

        return rewrite_leaves(expr, leaf)

    def _together(self, name: str) -> None:
        """The whole tensor, as a sum of its parts where each belongs."""
        if name in self._whole:
            return
        self._whole.add(name)
        axes = self._axes[name]
        places = [place for known, place in self._parts if known == name]
        extents = self._cascade.extents()[name]
        variables: list[str] = []
        for extent in extents:
            rank = Rank(fresh_name("R", self._taken), extent.value(self._sizes))
            self._taken.add(rank.name)
            self._ranks.append(rank)
            variables.append(rank.variable)
        index = [RankExpr.of_variable(v) for v in variables]
        kept = tuple(i for axis, i in enumerate(index) if axis not in axes)
        terms: list[Expr] = []
        for place in places:
            here = tuple(
                Map("eq", (Coordinate(variables[axis]), Literal(at)))
                for axis, at in zip(axes, place, strict=True)
            )
            condition = joined("and", here)
            part = Access(self._parts[name, place], kept)
            terms.append(Map("select", (condition, part, Literal(0.0))))
        span = _of(self._cascade, name)[0].span
        output = Access(name, tuple(index))
        self._made.append(Einsum(output, joined("add", terms), span=span))


def _variables(stage: Einsum | Scan) -> set[str]:
    if isinstance(stage, Einsum):
        return set()
    return {stage.variable} | {v for member in stage.members for v in _variables(member)}


def _of(cascade: Cascade, name: str) -> list[Einsum]:
    return [einsum for einsum in cascade.einsums if einsum.name == name]


def _axes(einsum: Einsum, scanned: Collection[str]) -> set[int]:
    """The axes at which a definition is at one coordinate of a scan."""
    return {
        axis
        for axis, index in enumerate(einsum.left)
        if index.variable is None or index.variable in scanned
    }
