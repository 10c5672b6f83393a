"""What a partition means: that points past the rank's end are in no iteration space.

`expand` says so with filters and fills, which is the definition, and all that backends need. Where
an Einsum has all the parts of a rank, it gets the filter `m < M` for the coordinate m that they
make, and a read at m is filled with 0 past the end, where nothing uses it. Without a reduction the
output is the semiring's zero there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .cascade import Cascade
from .dtypes import DType
from .einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    index_value,
    rewrite_leaves,
)
from .infer import known_dtypes, otherwise_as
from .lift import lift
from .ranks import Partition, RankExpr


def expand(cascade: Cascade) -> Cascade:
    """The Cascade without partitions; itself if it has none. Every input has a dtype."""
    if not cascade.partitions:
        return cascade
    partitions = [p for p in cascade.partitions if not _is_even(p, cascade)]
    parts = {part for partition in partitions for part in partition.parts}
    names = cascade.names()
    dtypes = known_dtypes(cascade)
    einsums: list[Einsum] = []
    for einsum in cascade.einsums:
        made, rest = lift(
            einsum, lambda node: any(v.upper() in parts for v in node.variables), names, dtypes
        )
        einsums += (_guarded(each, partitions, dtypes) for each in (*made, rest))
    return replace(cascade, einsums=tuple(einsums), partitions=())


def _is_even(partition: Partition, cascade: Cascade) -> bool:
    """Whether the parts are assumed to hold the rank with nothing to spare."""
    if len(partition.parts) != 2:
        return False
    inner = partition.parts[1]
    sizes: list[Expr] = [Coordinate(inner)]
    shape = cascade.rank(inner).shape
    if isinstance(shape, int):
        sizes.append(Literal(shape))
    whole = Coordinate(partition.rank)
    return any(
        Map("eq", (Map("mod", (whole, size)), Literal(0))) in cascade.assumptions for size in sizes
    )


def _guarded(
    einsum: Einsum, partitions: Sequence[Partition], dtypes: Mapping[str, DType]
) -> Einsum:
    bound = set(einsum.free)
    if isinstance(einsum.expr, Reduce):
        bound |= set(einsum.expr.variables)
    for partition in partitions:
        if all(part.lower() in bound for part in partition.parts):
            einsum = _guarded_by(einsum, partition, dtypes)
    return einsum


def _guarded_by(einsum: Einsum, partition: Partition, dtypes: Mapping[str, DType]) -> Einsum:
    inside = Map("lt", (index_value(partition.coordinate), Coordinate(partition.rank)))
    expr, where, otherwise = einsum.expr, einsum.where, einsum.otherwise
    if isinstance(expr, Reduce):
        where = inside if where is None else Map("and", (where, inside))
    else:
        if where is not None and otherwise is not None:
            beside = otherwise_as(dtypes[einsum.name], otherwise)
            expr = Map("select", (where, expr, beside))
        where, otherwise = inside, Literal(einsum.ring.zero)
    expr = rewrite_leaves(expr, lambda leaf: _filled(leaf, partition))
    where = rewrite_leaves(where, lambda leaf: _filled(leaf, partition))
    return replace(einsum, expr=expr, where=where, otherwise=otherwise)


def _filled(leaf: Access | Coordinate, partition: Partition) -> Access | Coordinate:
    if not isinstance(leaf, Access):
        return leaf
    indices = tuple(
        index if isinstance(index, RankExpr) else _filled(index, partition)
        for index in leaf.indices
    )
    kept = tuple(index for index in indices if not isinstance(index, Coordinate))
    fill = leaf.fill
    if fill is None and any(_is_at(index, partition.coordinate) for index in kept):
        fill = Literal(0)
    same = fill is leaf.fill and kept == leaf.indices
    return leaf if same else replace(leaf, indices=kept, fill=fill)


def _is_at(index: RankExpr | Access, coordinate: RankExpr) -> bool:
    def terms(expr: RankExpr) -> set[tuple[int, tuple[str, ...], str | None]]:
        return {(t.coefficient, t.sizes, t.variable) for t in expr.terms}

    return isinstance(index, RankExpr) and not index.offset and terms(index) == terms(coordinate)
