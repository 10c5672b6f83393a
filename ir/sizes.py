"""The size of every rank, from the shapes of the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from .cascade import Cascade
from .einsum import Coordinate, Expr, Literal, Map, walk
from .errors import RankError
from .operators import OPERATORS
from .padding import check_reads
from .printer import print_expr
from .ranks import Quotient, RankExpr, solvable


def infer_sizes(cascade: Cascade, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The extent of every rank, from the shapes of the inputs.

    Raises:
        RankError: an input has the wrong number of axes; a rank gets two extents, or none; a
            tensor is read out of range at the coordinates of a partition.
    """
    passed = tuple(f"{name}: {tuple(shape)}" for name, shape in shapes.items())
    sizes = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    first = dict.fromkeys(sizes, "the declaration")
    for decl in cascade.inputs:
        shape = tuple(shapes[decl.name])
        if len(shape) != len(decl.extents):
            raise RankError(
                f"{decl.name} has {len(decl.extents)} ranks but was given an array of {len(shape)}",
                span=decl.span,
                deduced=(str(decl),),
                passed=passed,
            )
        for extent, length in zip(decl.extents, shape, strict=True):
            rank = extent.rank
            if rank is None:
                continue
            if sizes.setdefault(rank, length) != length:
                raise RankError(
                    f"rank {rank} has extent {sizes[rank]} in {first[rank]} "
                    f"but {length} in {decl.name}",
                    span=decl.span,
                    passed=passed,
                )
            first.setdefault(rank, decl.name)
    _solve_shapes(cascade, sizes, passed)
    for decl in cascade.inputs:
        for extent, length in zip(decl.extents, shapes[decl.name], strict=True):
            if extent.value(sizes) != length:
                raise RankError(
                    f"an axis of {decl.name} has extent {length}, "
                    f"but it is declared {extent} = {extent.value(sizes)}",
                    span=decl.span,
                    passed=passed,
                )
    _check_partitions(cascade, sizes, passed)
    _check_assumptions(cascade, sizes, passed)
    check_reads(cascade, sizes)
    return sizes


def _solve_shapes(cascade: Cascade, sizes: dict[str, int], passed: tuple[str, ...]) -> None:
    """Evaluates the shapes that are expressions, and checks those that were read off an input."""
    for rank in solvable(cascade.ranks, sizes)[0]:
        assert isinstance(rank.shape, RankExpr | Quotient)
        try:
            value = max(rank.shape.value(sizes), 0)
        except ZeroDivisionError:
            raise RankError(
                f"the extent of rank {rank} is a division by 0", span=rank.span, passed=passed
            ) from None
        if sizes.setdefault(rank.name, value) != value:
            raise RankError(
                f"rank {rank.name} has extent {sizes[rank.name]}, "
                f"but it is declared {rank} = {value}",
                span=rank.span,
                passed=passed,
            )
        if value >= 2**63:
            raise RankError(
                f"the extent of rank {rank.name} does not fit in 64 bits",
                span=rank.span,
                deduced=(f"{rank} = {value}",),
                passed=passed,
            )
    for rank in cascade.ranks:
        if rank.name not in sizes:
            raise RankError(
                f"the extent of rank {rank.name} follows from no input",
                span=rank.span,
                passed=passed,
                hint=f"declare it: `ranks {rank.name} = 8`, or give sizes=",
            )


def _check_partitions(cascade: Cascade, sizes: Mapping[str, int], passed: tuple[str, ...]) -> None:
    """The parts of a rank have to hold it, with no part to spare."""
    for partition in cascade.partitions:
        parts = {part: sizes[part] for part in partition.parts}
        if any(parts[part] < 1 for part in partition.parts[1:]):
            raise RankError(
                f"the parts of {partition.rank} have the extents {parts}: only the first may be 0",
                span=partition.span,
                passed=passed,
            )
        wanted = partition.outer_shape.value(sizes)
        if parts[partition.parts[0]] != wanted:
            raise RankError(
                f"rank {partition.parts[0]} has extent {parts[partition.parts[0]]}, but it takes "
                f"{wanted} to part {partition.rank} = {sizes[partition.rank]}",
                span=partition.span,
                passed=passed,
            )


def _check_assumptions(cascade: Cascade, sizes: Mapping[str, int], passed: tuple[str, ...]) -> None:
    for assumption in cascade.assumptions:
        if not size_value(assumption, sizes):
            names = dict.fromkeys(
                node.name for node in walk(assumption) if isinstance(node, Coordinate)
            )
            raise RankError(
                f"{cascade.name} assumes {print_expr(assumption)}",
                span=assumption.span,
                deduced=(", ".join(f"{name} = {sizes[name]}" for name in names),),
                passed=passed,
            )


def size_value(expr: Expr, sizes: Mapping[str, int]) -> int:
    """An expression of sizes and numbers, as a number (a comparison as 0 or 1)."""
    if isinstance(expr, Coordinate):
        return sizes[expr.name]
    if isinstance(expr, Literal) and isinstance(expr.value, int):
        return int(expr.value)
    assert isinstance(expr, Map)
    args = [size_value(arg, sizes) for arg in expr.args]
    return int(reduce(OPERATORS[str(expr.op)].reference, args))
