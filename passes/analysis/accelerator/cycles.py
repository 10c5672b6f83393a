"""What an Einsum costs its array: its operators at each point, and the steps through the points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from ....ir.einsum import Einsum, Reduce
from ....ir.errors import ArgumentError
from ..cost import operations
from .architecture import Array
from .design import Design, Placement
from .report import EinsumReport


def einsum_cycles(design: Design, name: str, sizes: Mapping[str, int]) -> EinsumReport:
    """The operations and cycles of what defines one tensor.

    Raises:
        ArgumentError: the array lacks an operator.
    """
    place = design.placement(name)
    array = design.architecture.array(place.array)
    counts: dict[str, int] = {}
    cycles = work = 0.0
    for einsum in design.definitions(name):
        for operator, variables, times in _operators(einsum, array):
            points = times * _points(design, variables, sizes)
            counts[operator] = counts.get(operator, 0) + points
            if name not in design.cycles:
                cost = _cost(operator, design, einsum, array)
                cycles += cost * times * _steps(variables, place, array, sizes)
                work += cost * points
    if name in design.cycles:
        *_, einsum = design.definitions(name)
        variables = (*einsum.free, *reduced(einsum))
        cycles = design.cycles[name] * _steps(variables, place, array, sizes)
        work = design.cycles[name] * _points(design, variables, sizes)
    return EinsumReport(name, array.name, counts, cycles, work)


def wait_cycles(design: Design, einsum: EinsumReport) -> float:
    """How long the result of a reduction moves along the axis that it reduces over.

    Raises:
        ArgumentError: the Einsum reduces no rank that lies along an axis.
    """
    *_, definition = design.definitions(einsum.name)
    ranks = {variable.upper() for variable in reduced(definition)}
    space = design.placement(einsum.name).space
    for along, extent in zip(space, design.architecture.array(einsum.array).shape, strict=False):
        if ranks.intersection(along):
            return einsum.cycles * extent
    raise ArgumentError(
        f"there is nothing to wait for: {einsum.name} of {design.name} reduces no rank that lies "
        f"along an axis of the array {einsum.array}",
        span=definition.span,
        deduced=(f"space: {list(map(list, space))}",),
    )


def reduced(einsum: Einsum) -> tuple[str, ...]:
    """The variables of the outermost reduction."""
    return einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()


def _operators(einsum: Einsum, array: Array) -> list[tuple[str, tuple[str, ...], int]]:
    """The operators of an Einsum as this array does them: a product in a sum is a `mac`."""
    counts: dict[tuple[tuple[str, ...], str], int] = {}
    for op, variables, times in operations(einsum):
        key = variables, op if isinstance(op, str) else op.name
        counts[key] = counts.get(key, 0) + times
    if "mac" in array.cycles:
        for variables in dict.fromkeys(variables for variables, _ in counts):
            both = min(counts.get((variables, op), 0) for op in ("mul", "add"))
            for op, change in (("mul", -both), ("add", -both), ("mac", both)):
                counts[variables, op] = counts.get((variables, op), 0) + change
    return [(op, variables, times) for (variables, op), times in counts.items() if times]


def _cost(operator: str, design: Design, einsum: Einsum, array: Array) -> float:
    if operator not in array.cycles:
        raise ArgumentError(
            f"the array {array.name} of {design.architecture.name} has no operator {operator}, "
            f"which {einsum.name} of {design.name} needs",
            span=einsum.span,
            deduced=(f"it has: {', '.join(array.cycles)}",),
            hint=f"give {operator} a cost in the array's `cycles`, or {einsum.name} one in the "
            "design's",
        )
    return array.cycles[operator]


def _steps(
    variables: Iterable[str], place: Placement, array: Array, sizes: Mapping[str, int]
) -> int:
    """How often the array steps to go through these variables."""
    left = {variable.upper() for variable in variables}
    steps = 1
    for ranks, extent in zip(place.space, array.shape, strict=False):
        along = prod(sizes[rank] for rank in ranks if rank in left)
        steps *= -(-along // extent)
        left.difference_update(ranks)
    return steps * prod(sizes[rank] for rank in left)


def _points(design: Design, variables: Iterable[str], sizes: Mapping[str, int]) -> int:
    """The points of these variables; a partitioned rank has none past its end."""
    left = {variable.upper() for variable in variables}
    points = 1
    for partition in design.cascade.partitions:
        if left.issuperset(partition.parts):
            left.difference_update(partition.parts)
            points *= sizes[partition.rank]
    return points * prod(sizes[rank] for rank in left)
