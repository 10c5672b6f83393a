"""einloom's own packing of one product: where the points of the iteration space lie, and why there.

Every operand is brought to one order of all variables (moved, then copied along the variables that
it has not), multiplied, reduced, and the result is moved to where the output is asked for. All
orders are tried, with exact and power-of-two extents; the fewest key switches win.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal as OneOf
from typing import TypeAlias

import numpy as np

from ...ir.einsum import Access
from ...ir.errors import SlotError, UnsupportedError
from ...ir.layouts import Layout, Padding, Piece, padded, row_major
from ...ir.slot_counts import SlotCounts, count
from ...ir.slots import Gather, PlainVector, SlotInput, SlotProgram, boxes_of
from .builder import Builder, ones_at
from .moves import Digit, moved, places, stages
from .problem import Problem

Choice: TypeAlias = OneOf["row-major", "free"]
#: Orders of more variables than these are not all tried.
MOST = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to pack: the order of the variables, how they are padded, and what it costs."""

    order: tuple[str, ...]
    padding: Padding
    program: SlotProgram
    counts: SlotCounts

    def __str__(self) -> str:
        return f"{','.join(self.order) or '()'} {self.padding}: {self.counts.summary}"


def plans(
    problem: Problem, slots: int, layout: Choice = "row-major", most: int | None = None
) -> tuple[Plan, ...]:
    """The plans that fit, best first: fewest key switches, then least cost.

    Args:
        layout: "row-major": encrypted inputs and outputs are row-major and compact; "free": inputs
            are encrypted as they are needed, and the output lies as it comes.
        most: the most levels; None: as many as EinHops would use at most, one for a permutation,
            one for a mask, and the depth of the products.

    Raises:
        UnsupportedError: an index is not a variable, or one that the output alone has.
        SlotError: the points do not fit the slots.
    """
    terms = [_variables(factor, problem) for factor in problem.factors]
    _variables(problem.output, problem)
    variables = list(dict.fromkeys(v for term in terms for v in term))
    if any(problem.sizes[v] == 0 for v in variables):
        raise UnsupportedError("an extent of 0 leaves nothing to pack")
    depth = math.ceil(math.log2(len(terms)))
    limit = depth + 2 if most is None else most
    orders = permutations(variables) if len(variables) <= MOST else [tuple(variables)]
    found: list[Plan] = []
    for order in orders:
        for padding in ("exact", "power"):
            made = _Packing(problem, slots, order, padding, layout).best(limit)
            found += made
    if not found:
        needed = math.prod(problem.sizes[v] for v in variables)
        raise SlotError(
            f"no packing of {problem.name} fits {slots} slots and {limit} levels",
            deduced=(f"its iteration space has {needed} points",),
        )
    found.sort(key=lambda plan: (plan.counts.key_switches, plan.counts.cost))
    return tuple(found)


def _variables(access: Access, problem: Problem) -> tuple[str, ...]:
    """One variable for each axis but those of extent 1 that are read at 0."""
    found: list[str] = []
    for index in access.indices:
        if isinstance(index, Access) or access.fill is not None:
            raise UnsupportedError(f"{access.tensor} is gathered or filled", span=access.span)
        if index.variable is not None:
            found.append(index.variable)
        elif index.constant != 0:
            raise UnsupportedError(f"{access.tensor} has the index {index}", span=access.span)
    return tuple(found)


def _axis_strides(access: Access, layout: Layout) -> dict[str, int]:
    """The stride of each variable in a layout of one vector; a repeated one adds up."""
    strides = {piece.steps[0][0]: piece.stride for piece in layout.pieces}
    found: dict[str, int] = {}
    for axis, index in enumerate(access.indices):
        for v in index.variables():
            found[v] = found.get(v, 0) + strides.get(axis, 0)
    return found


@dataclass(frozen=True, slots=True)
class _Packing:
    problem: Problem
    slots: int
    order: tuple[str, ...]
    padding: Padding
    layout: Choice

    def best(self, limit: int) -> list[Plan]:
        """The plans of each way to share the levels out before and after the product."""
        if math.prod(padded(self.problem.sizes[v], self.padding) for v in self.order) > self.slots:
            return []
        found: list[Plan] = []
        for before in range(3):
            for after in range(3):
                program = self._program(before, after)
                if program is not None and program.levels <= limit:
                    found.append(Plan(self.order, self.padding, program, count(program)))
        return found

    def _strides(self) -> dict[str, int]:
        found: dict[str, int] = {}
        stride = 1
        for v in reversed(self.order):
            found[v] = stride
            stride *= padded(self.problem.sizes[v], self.padding)
        return found

    def _program(self, before: int, after: int) -> SlotProgram | None:
        problem, strides = self.problem, self._strides()
        layouts = {name: self._input(name, strides) for name in problem.inputs}
        inputs = [SlotInput(name, problem.shapes[name], layouts[name]) for name in layouts]
        build = Builder(problem.name, self.slots, inputs)
        plains: list[PlainVector] = []
        values: list[int] = []
        for factor in problem.factors:
            layout = layouts[factor.tensor]
            if layout is None:
                plains.append(self._gathered(factor, strides))
                continue
            value = self._operand(build, factor, layout, strides, before)
            if value is None:
                return None
            values.append(value)
        value = _product(build, values, plains)
        kept = _variables(problem.output, problem)
        for v in self.order:
            if v not in kept:
                value = _summed(build, value, strides[v], problem.sizes[v])
        return self._output(build, value, strides, after)

    # ---- operands

    def _input(self, name: str, strides: Mapping[str, int]) -> Layout | None:
        """Row-major; if it is free and read once, in place and copied along the others."""
        problem = self.problem
        if name not in problem.encrypted:
            return None
        shape = problem.shapes[name]
        reads = [factor for factor in problem.factors if factor.tensor == name]
        variables = _variables(reads[0], problem)
        plain = len(reads) == 1 and len(set(variables)) == len(variables)
        if self.layout == "row-major" or not plain or self._partly(reads[0]):
            return row_major(shape, self.slots)
        pieces = [Piece(problem.sizes[v], strides[v]) for v in self.order if v not in variables]
        for axis, index in enumerate(reads[0].indices):
            pieces += [Piece(shape[axis], strides[v], ((axis, 1),)) for v in index.variables()]
        return Layout(self.slots, shape, tuple(piece for piece in pieces if piece.extent != 1))

    def _operand(
        self, build: Builder, factor: Access, layout: Layout, strides: Mapping[str, int], most: int
    ) -> int | None:
        """The operand at every point of the iteration space."""
        if layout.vectors > 1:
            raise SlotError(f"{factor.tensor} takes {layout.vectors} ciphertexts, not one")
        (value,) = build.values_of(factor.tensor)
        if any(not piece.steps for piece in layout.pieces) or self._lies(factor, layout, strides):
            return value
        source = _axis_strides(factor, layout)
        sizes = self.problem.sizes
        digits = tuple(Digit(sizes[v], source[v], strides[v]) for v in source)
        plan = stages(digits, most, self.slots)
        if plan is None:
            return None
        value = moved(build, value, digits, plan)
        missing = [v for v in self.order if v not in source and sizes[v] > 1]
        repeated = len(source) < len(_variables(factor, self.problem))
        if missing and not plan and (repeated or self._partly(factor) or not layout.zero):
            at = places([(digit.extent, digit.target) for digit in digits])
            value = build.mul_plain(value, ones_at(at))
        for v in missing:
            value = _summed(build, value, -strides[v], sizes[v])
        return value

    def _partly(self, factor: Access) -> bool:
        """Whether an axis is longer than what is read of it."""
        shape = self.problem.shapes[factor.tensor]
        return any(
            shape[axis] != self.problem.sizes[v]
            for axis, index in enumerate(factor.indices)
            for v in index.variables()
        )

    def _lies(self, factor: Access, layout: Layout, strides: Mapping[str, int]) -> bool:
        """Whether a free layout has put it where it is needed."""
        source = _axis_strides(factor, layout)
        return all(source.get(v) == strides[v] for v in self.order if self.problem.sizes[v] > 1)

    def _gathered(self, factor: Access, strides: Mapping[str, int]) -> PlainVector:
        """A plaintext operand lies as it is needed before it is encoded."""
        sizes = self.problem.sizes
        rows = row_major(self.problem.shapes[factor.tensor], 1 << 62)
        source = _axis_strides(factor, rows)
        slots = places([(sizes[v], strides[v]) for v in self.order])
        elements = places([(sizes[v], source.get(v, 0)) for v in self.order])
        return PlainVector((Gather(factor.tensor, boxes_of(slots, elements)),))

    # ---- the output

    def _output(
        self, build: Builder, value: int, strides: Mapping[str, int], most: int
    ) -> SlotProgram | None:
        problem = self.problem
        output, shape = problem.output, problem.shapes[problem.output.tensor]
        variables = _variables(output, problem)
        repeated = len(set(variables)) < len(variables)
        if any(v not in self.order for v in variables):
            raise UnsupportedError("the output has a variable that no input has", span=output.span)
        if self.layout == "free" and not repeated:
            pieces = [
                Piece(shape[axis], strides[v], ((axis, 1),))
                for axis, index in enumerate(output.indices)
                for v in index.variables()
                if shape[axis] > 1
            ]
            layout = Layout(self.slots, shape, tuple(pieces), zero=False)
            return build.program([(output.tensor, layout, [value])])
        layout = row_major(shape, self.slots, zero=False)
        if layout.vectors > 1:
            raise SlotError(f"{output.tensor} takes {layout.vectors} ciphertexts, not one")
        target = _axis_strides(output, layout)
        digits = tuple(Digit(problem.sizes[v], strides[v], target[v]) for v in target)
        plan = stages(digits, most, self.slots)
        if plan is None:
            return None
        value = moved(build, value, digits, plan)
        if repeated and not plan:
            at = places([(digit.extent, digit.target) for digit in digits])
            value = build.mul_plain(value, ones_at(np.asarray(at)))
        return build.program([(output.tensor, layout, [value])])


def _product(build: Builder, values: list[int], plains: Sequence[PlainVector]) -> int:
    """A balanced tree; what is in the clear joins the first value that has no other."""
    factors = tuple(factor for plain in plains for factor in plain.factors)
    left: list[PlainVector] = [PlainVector(factors)] if plains else []
    while len(values) > 1:
        pairs = [values[at : at + 2] for at in range(0, len(values), 2)]
        if len(pairs[-1]) == 1 and left:
            pairs[-1] = [build.mul_plain(pairs[-1][0], left.pop())]
        values = [build.mul(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return build.mul_plain(values[0], left.pop()) if left else values[0]


def _summed(build: Builder, value: int, stride: int, extent: int) -> int:
    """The sum of `extent` slots at that distance: log2 rotations, and one for each further bit."""
    total: int | None = None
    done = 0
    step = 1
    while extent:
        if extent & 1:
            part = build.rotate(value, [done * stride])[0]
            total = part if total is None else build.add(build.finished(total), part)
            done += step
        extent >>= 1
        if extent:
            value = build.add(build.finished(value), build.rotate(value, [step * stride])[0])
            step *= 2
    return value if total is None else total
