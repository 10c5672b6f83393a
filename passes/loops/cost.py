"""What a LoopProgram costs for given sizes, nest by nest: operations, bytes moved, bytes packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod

from ...ir.dtypes import DType
from ...ir.loop_nodes import (
    LANES,
    Apply,
    Assign,
    Contract,
    Fold,
    Loop,
    LoopNest,
    Pack,
    Permute,
    Statement,
    Store,
    Value,
    blocks,
    loads_of,
    parts,
)
from ...ir.loops import ArrayAxis, LoopProgram, Nest, Parallel, Stage
from ...ir.ranks import RankExpr


@dataclass(frozen=True, slots=True)
class NestCost:
    """What one nest costs.

    `operations` counts one for each operand beyond the first of an operator, and one for each fold:
    a matrix product has two at a point. `moved` is the bytes that it reads and writes if each
    element that a statement names moves once; `packed` is the bytes that contractions write to
    their packed blocks, again for each block of the other operand.
    """

    name: str
    operations: float
    moved: float
    packed: float


@dataclass(frozen=True, slots=True)
class LoopCost:
    """The cost of a LoopProgram; prints itself as a table."""

    nests: tuple[NestCost, ...]

    @property
    def operations(self) -> float:
        return sum(nest.operations for nest in self.nests)

    @property
    def moved(self) -> float:
        return sum(nest.moved for nest in self.nests)

    @property
    def packed(self) -> float:
        return sum(nest.packed for nest in self.nests)

    @property
    def summary(self) -> str:
        """`2.1e+06 operations, 49152 bytes moved, 33000 packed`."""
        packed = f", {self.packed:.6g} packed" if self.packed else ""
        return f"{self.operations:.6g} operations, {self.moved:.6g} bytes moved{packed}"

    def __str__(self) -> str:
        width = max(5, *(len(nest.name) for nest in self.nests))
        lines = [f"{'nest':{width}}{'operations':>14}{'bytes moved':>14}{'packed':>14}"]
        rows = [*self.nests, NestCost("total", self.operations, self.moved, self.packed)]
        for row in rows:
            figures = f"{row.operations:>14.6g}{row.moved:>14.6g}{row.packed:>14.6g}"
            lines.append(f"{row.name:{width}}{figures}")
        return "\n".join(lines)


def cost_of(program: LoopProgram, sizes: Mapping[str, int], vector_bytes: int = 64) -> LoopCost:
    """The cost of a program for sizes of its ranks; a sweep's nests count once a coordinate.

    Args:
        program: any LoopProgram.
        sizes: the extents, by rank; those that follow from others need not be there.
        vector_bytes: how wide a vector register is.

    Raises:
        KeyError: a size is not given.
    """
    known = dict(sizes)
    for given in program.sizes:
        if given.name not in known and not isinstance(given.source, ArrayAxis):
            known[given.name] = max(given.source.value(known), 0)
    costs: list[NestCost] = []
    for nest, times in _each(program.stages, 1, known, vector_bytes):
        counting = _Counting({**known, LANES: _lanes(nest, vector_bytes)})
        counting.body(nest.body, float(times))
        moved = times * sum(counting.elements.values())
        costs.append(NestCost(nest.name, counting.operations, moved, times * counting.packed))
    return LoopCost(tuple(costs))


def _each(
    stages: tuple[Stage, ...], times: int, sizes: dict[str, int], vector_bytes: int
) -> Iterator[tuple[Nest, int]]:
    """The nests, and how often each runs."""
    for stage in stages:
        if isinstance(stage, Nest):
            yield stage, times
        elif isinstance(stage, Parallel):
            lanes = max(_lanes(nest, vector_bytes) for nest in stage.nests)
            parts = _parts(stage, sizes, lanes)
            yield from ((nest, times * parts) for nest in stage.nests)
        else:
            sizes[stage.coordinate] = 0
            often = times * stage.extent.value(sizes)
            yield from _each(stage.stages, often, sizes, vector_bytes)


def _lanes(nest: Nest, vector_bytes: int) -> int:
    return max(2, vector_bytes * 8 // nest.width)


def _parts(stage: Parallel, sizes: dict[str, int], lanes: int) -> int:
    """How many parts there are, as if one thread ran them: one, or one for each unit."""
    count = 1
    for split in stage.splits:
        extent = sizes[split.rank]
        sizes |= dict.fromkeys(split.sizes, 0)
        unit = split.unit.value({**sizes, LANES: lanes})
        sizes[split.count] = min(unit, extent) if split.each else extent
        if split.each and extent:
            count *= -(-extent // sizes[split.count])
    return count


@dataclass(frozen=True, slots=True)
class _Range:
    """A loop variable: how many coordinates it has with those that it starts from, and how many of
    them each of its iterations is long.
    """

    root: str
    extent: float
    each: float


class _Counting:
    """Counts one nest."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.operations = self.packed = 0.0
        self.elements: dict[tuple[str, tuple[RankExpr, ...]], float] = {}  # their bytes
        self._ranges: dict[str, _Range] = {}

    def body(self, body: tuple[Statement, ...], points: float) -> None:
        """Statements that run so many times."""
        for statement in body:
            if isinstance(statement, LoopNest):
                inside = points * prod([self._trips(loop) for loop in statement.loops])
                self.body(statement.body, inside)
            elif found := blocks(statement):
                self.body(found[0], points)
            elif isinstance(statement, Contract):
                self._contract(statement, points)
            elif isinstance(statement, Pack):
                packed = statement.packed
                names = (*statement.batch, *packed.variables, *statement.depth)
                self.packed += points * self._whole(names) * packed.value.dtype.itemsize
                self._reads(packed.value)
            elif isinstance(statement, Permute):
                self._whole(statement.loops)
                self._reads(statement.value)
                self._element(statement.buffer, statement.indices, statement.value.dtype)
            elif isinstance(statement, Assign | Fold | Store):
                self._reads(statement.value)
                self.operations += points * _operations(statement.value)
                if isinstance(statement, Fold):
                    self.operations += points
                elif isinstance(statement, Store):
                    self._element(statement.buffer, statement.indices, statement.value.dtype)

    def _trips(self, loop: Loop) -> float:
        """How often a loop's body runs for each time that the loop does."""
        outer = next((self._ranges[v] for v in loop.start.variables() if v in self._ranges), None)
        step = loop.step.value(self.sizes)
        if outer is not None:
            length, extent, root = outer.each, outer.extent, outer.root
        else:
            ends = [bound.value(self.sizes) for bound in (loop.stop, *loop.bounds)]
            length = extent = float(max(min(ends) - loop.start.value(self.sizes), 0))
            root = loop.variable
        trips = length if step == 1 else float(ceil(length / step))
        trips = max(trips, 1.0) if loop.once else trips
        self._ranges[loop.variable] = _Range(root, extent, length / trips if trips else 0.0)
        return trips

    def _whole(self, variables: tuple[str, ...]) -> float:
        """How many coordinates the variables have together; each is a whole rank."""
        for name in variables:
            extent = float(self.sizes[name.upper()])
            self._ranges[name] = _Range(name, extent, 1.0)
        return prod(self._ranges[name].extent for name in variables)

    def _element(self, buffer: str, indices: tuple[RankExpr, ...], dtype: DType) -> None:
        """An element that is moved at each coordinate of the variables in its indices."""
        ranges = [self._ranges.get(v) for index in indices for v in index.variables()]
        extents = {found.root: found.extent for found in ranges if found is not None}
        self.elements[buffer, indices] = prod(extents.values()) * dtype.itemsize

    def _reads(self, value: Value) -> None:
        for load in loads_of(value):
            indices = tuple(i for i in load.indices if isinstance(i, RankExpr))
            self._element(load.buffer, indices, load.dtype)

    def _contract(self, found: Contract, points: float) -> None:
        batch = points * self._whole(found.batch)
        rows, columns = (self._whole(p.variables) for p in (found.rows, found.columns))
        depth = self._whole(found.depth)
        operands = (found.rows.value, found.columns.value)
        each = _operations(found.value, operands) + 1
        self.operations += batch * rows * columns * depth * each
        wide = found.wide * found.vectors * self.sizes[LANES]
        for packed, count, times in (
            (found.rows, rows, ceil(columns / wide)),
            (found.columns, columns, found.columns.at is None),
        ):
            made = batch * count * depth * times
            self.packed += 0 if packed.lying else made * packed.value.dtype.itemsize
            if packed.lying and found.divisor is not None:
                made = batch * rows * columns
            self.operations += made * _operations(packed.value)
            self._reads(packed.value)
        finish = found.finish
        if finish is None:
            self._element(found.buffer, found.indices, found.value.dtype)
            return
        each = _operations(finish.value) + (finish.op is not None)
        self.operations += batch * rows * columns * each
        self._reads(finish.value)
        self._element(finish.buffer, finish.indices, finish.value.dtype)


def _operations(value: Value, known: tuple[Value, ...] = ()) -> int:
    """One for each operand beyond the first of an operator, or one; nothing inside `known`."""
    count, stack = 0, [value]
    while stack:
        node = stack.pop()
        if node in known:
            continue
        if isinstance(node, Apply):
            count += max(len(node.args) - 1, 1)
        stack += parts(node)
    return count
