"""Products and moves of encrypted tensors that take one vector each, wherever they already lie."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import permutations

from ...ir.einsum import Access
from ...ir.errors import SlotError, UnsupportedError
from ...ir.layouts import Layout, Piece, row_major
from ...ir.slots import Gather, PlainVector, boxes_of
from .builder import Builder, ones_at
from .held import Held
from .moves import Digit, moved, places, stages
from .problem import Problem


def multiplied(build: Builder, problem: Problem, held: Mapping[str, Held]) -> Held:
    """The product, its encrypted factors where they are held; all orders of variables are tried."""
    variables = list(dict.fromkeys(v for f in problem.factors for v in f.variables()))
    best: tuple[tuple[int, int], Builder, Held] | None = None
    for order in list(permutations(variables))[:120]:
        trial = copy.deepcopy(build)
        found = _Order(trial, problem, held, order).product()
        if found is None:
            continue
        (value,) = found.values
        depth = trial.depth[value] + trial.pending[value]
        cost = depth, sum(len(op.steps) for op in trial.ops)
        if best is None or cost < best[0]:
            best = cost, trial, found
    if best is None:
        raise SlotError(f"no packing of {problem.name} fits {build.slots} slots")
    build.__dict__.update(best[1].__dict__)
    return best[2]


def placed(
    build: Builder,
    held: Held,
    variables: Sequence[str],
    target: Layout,
    left: Sequence[str],
    sizes: Mapping[str, int],
) -> Held:
    """A tensor at `variables` brought to the layout of one at `left`, copied along the others."""
    source, to = _strides(held.layout, variables), _strides(target, left)
    (value,) = held.values
    digits = tuple(Digit(sizes[v], source[v], to[v]) for v in variables)
    missing = [v for v in left if v not in variables and sizes[v] > 1]
    plan = stages(digits, 1, build.slots)
    assert plan is not None
    value = moved(build, value, digits, plan)
    zero = held.layout.zero or bool(plan)
    if missing and not zero:
        at = places([(digit.extent, digit.target) for digit in digits])
        value = build.mul_plain(value, ones_at(at))
        zero = True
    for v in missing:
        value = _summed(build, value, -to[v], sizes[v])
    return Held(Layout(target.slots, target.shape, target.pieces, zero=zero), (value,))


def _strides(layout: Layout, variables: Sequence[str]) -> dict[str, int]:
    if layout.vectors > 1:
        raise SlotError("a tensor takes more than one vector", passed=(str(layout),))
    strides = {piece.steps[0][0]: piece.stride for piece in layout.pieces if piece.steps}
    found: dict[str, int] = {}
    for axis, v in enumerate(variables):
        found[v] = found.get(v, 0) + strides.get(axis, 0)
    return found


class _Order:
    def __init__(
        self, build: Builder, problem: Problem, held: Mapping[str, Held], order: Sequence[str]
    ) -> None:
        self.build, self.problem, self.held, self.order = build, problem, held, order
        self.strides: dict[str, int] = {}
        stride = 1
        for v in reversed(order):
            self.strides[v] = stride
            stride *= problem.sizes[v]
        self.points = stride

    def product(self) -> Held | None:
        if self.points > self.build.slots:
            return None
        problem, build = self.problem, self.build
        values: list[int] = []
        plains: tuple[Gather, ...] = ()
        for factor in problem.factors:
            if factor.tensor in self.held:
                values.append(self._operand(factor))
            else:
                plains += self._gathered(factor).factors
        value = _tree(build, values)
        if plains:
            value = build.mul_plain(value, PlainVector(plains))
        variables = _plain(problem.output)
        for v in self.order:
            if v not in variables:
                value = _summed(build, value, self.strides[v], problem.sizes[v])
        shape = problem.shapes[problem.output.tensor]
        if len(set(variables)) < len(variables):
            target = row_major(shape, build.slots)
            to = _strides(target, variables)
            digits = tuple(Digit(problem.sizes[v], self.strides[v], to[v]) for v in to)
            plan = stages(digits, 1, build.slots)
            assert plan is not None
            value = moved(build, value, digits, plan)
            if not plan:
                value = build.mul_plain(
                    value, ones_at(places([(d.extent, d.target) for d in digits]))
                )
            return Held(target, (value,))
        pieces = tuple(
            Piece(shape[axis], self.strides[v], ((axis, 1),))
            for axis, v in enumerate(variables)
            if shape[axis] > 1
        )
        return Held(Layout(build.slots, shape, pieces, zero=False), (value,))

    def _operand(self, factor: Access) -> int:
        held, sizes, build = self.held[factor.tensor], self.problem.sizes, self.build
        (value,) = held.values
        variables = _plain(factor)
        source = _strides(held.layout, variables)
        digits = tuple(Digit(sizes[v], source[v], self.strides[v]) for v in source)
        plan = stages(digits, 1, build.slots)
        assert plan is not None
        value = moved(build, value, digits, plan)
        missing = [v for v in self.order if v not in source and sizes[v] > 1]
        shape = self.problem.shapes[factor.tensor]
        partly = any(shape[axis] != sizes[v] for axis, v in enumerate(variables))
        repeated = len(source) < len(variables)
        if missing and not plan and (repeated or partly or not held.layout.zero):
            at = places([(digit.extent, digit.target) for digit in digits])
            value = build.mul_plain(value, ones_at(at))
        for v in missing:
            value = _summed(build, value, -self.strides[v], sizes[v])
        return value

    def _gathered(self, factor: Access) -> PlainVector:
        sizes = self.problem.sizes
        rows = row_major(self.problem.shapes[factor.tensor], 1 << 62)
        source = _strides(rows, _plain(factor))
        slots = places([(sizes[v], self.strides[v]) for v in self.order])
        elements = places([(sizes[v], source.get(v, 0)) for v in self.order])
        return PlainVector((Gather(factor.tensor, boxes_of(slots, elements)),))


def _plain(access: Access) -> list[str]:
    found: list[str] = []
    for index in access.indices:
        variable = None if isinstance(index, Access) else index.variable
        if variable is None or access.fill is not None:
            raise UnsupportedError(f"{access.tensor} has the index {index}", span=access.span)
        found.append(variable)
    return found


def _tree(build: Builder, values: list[int]) -> int:
    while len(values) > 1:
        pairs = [values[at : at + 2] for at in range(0, len(values), 2)]
        values = [build.mul(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return values[0]


def _summed(build: Builder, value: int, stride: int, extent: int) -> int:
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
