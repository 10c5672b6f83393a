"""What a partition means: that points past the rank's end are in no iteration space.

`expand` says so with filters and fills, which is the definition, and all that backends need. Where
an Einsum has all the parts of a rank, it gets the filter `m < M` for the coordinate m that they
make, and a read at its parts is filled with 0 past the end, where nothing uses it: its range at all
other points is held by padding.py. Without a reduction the output is the semiring's zero there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

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
from .padding import reaches_past
from .ranks import Partition, RankExpr

Extents: TypeAlias = Mapping[str, tuple[RankExpr, ...]]


def expand(cascade: Cascade) -> Cascade:
    """The Cascade without partitions; itself if it has none. Every input has a dtype."""
    if not cascade.partitions:
        return cascade
    partitions = [p for p in cascade.partitions if not _is_even(p, cascade)]
    parts = {part for partition in partitions for part in partition.parts}
    names = cascade.names()
    dtypes = known_dtypes(cascade)
    extents = cascade.extents()
    einsums: list[Einsum] = []
    for einsum in cascade.einsums:
        made, rest = lift(
            einsum, lambda node: any(v.upper() in parts for v in node.variables), names, dtypes
        )
        extents |= {each.name: each.extents() for each in made}
        einsums += (_guarded(each, partitions, dtypes, extents) for each in (*made, rest))
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
    einsum: Einsum,
    partitions: Sequence[Partition],
    dtypes: Mapping[str, DType],
    extents: Extents,
) -> Einsum:
    bound = set(einsum.free)
    if isinstance(einsum.expr, Reduce):
        bound |= set(einsum.expr.variables)
    for partition in partitions:
        if all(part.lower() in bound for part in partition.parts):
            einsum = _guarded_by(einsum, partition, dtypes, extents)
    return einsum


def _guarded_by(
    einsum: Einsum, partition: Partition, dtypes: Mapping[str, DType], extents: Extents
) -> Einsum:
    inside = Map("lt", (index_value(partition.coordinate), Coordinate(partition.rank)))
    expr, where, otherwise = einsum.expr, einsum.where, einsum.otherwise
    if isinstance(expr, Reduce):
        where = inside if where is None else Map("and", (where, inside))
    else:
        if where is not None and otherwise is not None:
            beside = otherwise_as(dtypes[einsum.name], otherwise)
            expr = Map("select", (where, expr, beside))
        where, otherwise = inside, Literal(einsum.ring.zero)

    def leaf(node: Access | Coordinate) -> Access | Coordinate:
        return _filled(node, partition, extents) if isinstance(node, Access) else node

    expr, where = rewrite_leaves(expr, leaf), rewrite_leaves(where, leaf)
    return replace(einsum, expr=expr, where=where, otherwise=otherwise)


def _filled(access: Access, partition: Partition, extents: Extents) -> Access:
    """The Access, and those it gathers by, filled where it stands past the end of the rank."""
    indices = tuple(
        _filled(index, partition, extents) if isinstance(index, Access) else index
        for index in access.indices
    )
    past = any(
        isinstance(index, RankExpr) and reaches_past(index, extent, partition)
        for index, extent in zip(indices, extents[access.tensor], strict=True)
    )
    fill = Literal(0) if past and access.fill is None else access.fill
    return replace(access, indices=indices, fill=fill)
