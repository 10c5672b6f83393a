"""What a Cascade costs, Einsum by Einsum: operations, bytes, points, the largest intermediate."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import Access, Einsum, Expr, Map, Op, Reduce
from ...ir.ranks import Quotient, RankExpr
from ..scope import Scope
from .polynomial import Polynomial, total


@dataclass(frozen=True, slots=True)
class EinsumCost:
    """What one Einsum costs; each figure a polynomial in the extents that are not known.

    `flops` counts one for each operand beyond the first of an operator and one for each point that
    a reduction folds, so that a matrix product counts two a point. `points` is the size of the
    iteration space. `read` and `written` are bytes if each tensor moves once, None where a dtype is
    not known; `elements` is the size of what the Einsum defines.
    """

    name: str
    points: Polynomial
    flops: Polynomial
    read: Polynomial | None
    written: Polynomial | None
    elements: Polynomial

    @property
    def bytes(self) -> Polynomial | None:
        """The bytes moved, in and out."""
        if self.read is None or self.written is None:
            return None
        return self.read + self.written


@dataclass(frozen=True, slots=True)
class CostReport:
    """The cost of a Cascade; prints itself as a table.

    `largest` are the intermediates that may be the largest: one if the extents are known.
    `elements` are the sizes of all tensors, `itemsizes` the bytes of an element where known.
    """

    cascade: str
    einsums: tuple[EinsumCost, ...]
    largest: tuple[EinsumCost, ...]
    elements: Mapping[str, Polynomial] = field(default_factory=dict[str, Polynomial], repr=False)
    itemsizes: Mapping[str, int] = field(default_factory=dict[str, int], repr=False)

    @property
    def points(self) -> Polynomial:
        return total(each.points for each in self.einsums)

    @property
    def flops(self) -> Polynomial:
        return total(each.flops for each in self.einsums)

    @property
    def bytes(self) -> Polynomial | None:
        """The bytes moved if every Einsum moves its own tensors once."""
        moved = [each.bytes for each in self.einsums]
        known = [each for each in moved if each is not None]
        return total(known) if len(known) == len(moved) else None

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data: numbers where they are known, else polynomials as text."""
        return {
            "cascade": self.cascade,
            "flops": _plain(self.flops),
            "bytes": _plain(self.bytes),
            "points": _plain(self.points),
            "largest": {each.name: _plain(each.elements) for each in self.largest},
            "einsums": [
                {
                    "name": each.name,
                    "flops": _plain(each.flops),
                    "bytes": _plain(each.bytes),
                    "points": _plain(each.points),
                    "elements": _plain(each.elements),
                }
                for each in self.einsums
            ],
        }

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict())

    def __str__(self) -> str:
        head = (self.cascade, "flops", "bytes", "points", "elements")
        lines: list[tuple[str, ...]] = [head]
        lines += [
            (each.name, *map(_shown, (each.flops, each.bytes, each.points, each.elements)))
            for each in self.einsums
        ]
        lines.append(("in all", *map(_shown, (self.flops, self.bytes, self.points)), ""))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        text = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in lines
        ]
        largest = " or ".join(f"{each.name}: {each.elements}" for each in self.largest)
        return "\n".join([*text, f"largest intermediate  {largest or 'none'}"])


def cost(cascade: Cascade, sizes: Mapping[str, int] | None = None) -> CostReport:
    """The cost of a Cascade, for these extents of some of its ranks."""
    scope = Scope.of(cascade)
    extents = Extents(cascade, sizes or {})
    elements = {name: extents.elements(axes) for name, axes in cascade.extents().items()}
    einsums = tuple(_einsum(einsum, scope, extents, elements) for einsum in cascade.einsums)
    inner = [each for each in einsums if each.name not in cascade.outputs]
    itemsizes = {name: dtype.itemsize for name, dtype in scope.dtypes.items()}
    return CostReport(cascade.name, einsums, tuple(_largest(inner)), elements, itemsizes)


class Extents:
    """The extent of each rank, as a polynomial in those that are not known."""

    def __init__(self, cascade: Cascade, sizes: Mapping[str, int]) -> None:
        self._shapes = {rank.name: rank.shape for rank in cascade.ranks}
        self._known = {name: Polynomial.of(size) for name, size in sizes.items()}

    def rank(self, name: str) -> Polynomial:
        if name not in self._known:
            shape = self._shapes[name]
            self._known[name] = Polynomial.of(name)  # stands while its own shape is looked up
            if isinstance(shape, int):
                self._known[name] = Polynomial.of(shape)
            elif isinstance(shape, RankExpr):
                self._known[name] = self.size(shape)
            elif isinstance(shape, Quotient):
                over, by = self.size(shape.dividend).number, self.size(shape.divisor).number
                if over is not None and by:  # else it is a size of its own
                    self._known[name] = Polynomial.of(max(over // by + shape.offset, 0))
        return self._known[name]

    def size(self, shape: RankExpr) -> Polynomial:
        parts = [Polynomial.of(shape.offset)]
        for term in shape.terms:
            part = Polynomial.of(term.coefficient)
            for rank in term.sizes:
                part = part * self.rank(rank)
            parts.append(part)
        found = total(parts)
        return Polynomial() if (found.number or 0) < 0 else found

    def elements(self, axes: Iterable[RankExpr]) -> Polynomial:
        """The size of a tensor with axes of these extents."""
        found = Polynomial.of(1)
        for axis in axes:
            found = found * self.size(axis)
        return found

    def of(self, variables: Iterable[str]) -> Polynomial:
        """The points of these variables."""
        points = Polynomial.of(1)
        for variable in variables:
            points = points * self.rank(variable.upper())
        return points


def _einsum(
    einsum: Einsum, scope: Scope, extents: Extents, sizes: Mapping[str, Polynomial]
) -> EinsumCost:
    free = einsum.free
    variables = dict.fromkeys(free)
    for node in _reductions(einsum.expr):
        variables.update(dict.fromkeys(node.variables))
    flops = total(extents.of(variables) * times for _, variables, times in operations(einsum))
    elements = extents.of(v for v in _left(einsum.output))
    return EinsumCost(
        einsum.name,
        extents.of(variables),
        flops,
        _bytes({access.tensor for access in einsum.reads()}, scope, sizes),
        _sized(elements, scope.dtypes.get(einsum.name)),
        elements,
    )


def _left(output: Access) -> Iterable[str]:
    """The variable of each axis on the left."""
    return (v for index in output.indices if isinstance(index, RankExpr) for v in index.variables())


def _reductions(expr: Expr) -> Iterable[Reduce]:
    if isinstance(expr, Reduce):
        yield expr
        yield from _reductions(expr.expr)
    elif isinstance(expr, Map):
        for arg in expr.args:
            yield from _reductions(arg)


def operations(einsum: Einsum) -> Iterator[tuple[Op, tuple[str, ...], int]]:
    """Each operator of an Einsum, the variables of the points it is done at, how often at each."""
    yield from _operations(einsum.expr, einsum.free)
    if einsum.where is not None:
        outermost = einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()
        yield from _operations(einsum.where, (*einsum.free, *outermost))


def _operations(
    expr: Expr, variables: tuple[str, ...]
) -> Iterator[tuple[Op, tuple[str, ...], int]]:
    if isinstance(expr, Reduce):
        inside = (*variables, *expr.variables)
        yield expr.op, inside, 1
        yield from _operations(expr.expr, inside)
    elif isinstance(expr, Map):
        yield expr.op, variables, max(len(expr.args) - 1, 1)
        for arg in expr.args:
            yield from _operations(arg, variables)


def _bytes(
    tensors: Iterable[str], scope: Scope, sizes: Mapping[str, Polynomial]
) -> Polynomial | None:
    parts: list[Polynomial] = []
    for tensor in sorted(tensors):
        part = _sized(sizes[tensor], scope.dtypes.get(tensor))
        if part is None:
            return None
        parts.append(part)
    return total(parts)


def _sized(elements: Polynomial, dtype: DType | None) -> Polynomial | None:
    return None if dtype is None else elements * dtype.itemsize


def _largest(found: list[EinsumCost]) -> list[EinsumCost]:
    """Those that no other one is surely as large as."""
    kept: list[EinsumCost] = []
    for each in found:
        if any(other.elements.covers(each.elements) for other in kept):
            continue
        kept = [other for other in kept if not each.elements.covers(other.elements)] + [each]
    return kept


def _plain(value: Polynomial | None) -> int | str | None:
    if value is None:
        return None
    return str(value) if value.number is None else value.number


def _shown(value: Polynomial | None) -> str:
    return "?" if value is None else str(value)
