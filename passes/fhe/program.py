"""One way to write the program of a Cascade: its steps one after another, on what is held.

A number that multiplies a tensor is not multiplied in, but carried along until something takes it
in for nothing: a plain factor, the coefficients of a polynomial, the masks of a move. Only an
output, or a sum of tensors with different numbers, takes a level for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

from ...ir.cascade import Cascade
from ...ir.errors import LevelError
from ...ir.layouts import row_major
from ...ir.slot_counts import count
from ...ir.slots import SlotInput, SlotProgram
from ..rewrite import named
from .builder import Builder
from .candidates import Choice
from .combine import combined
from .held import Held
from .pack import contracted, depth
from .polynomial import evaluated, plan
from .problem import Problem
from .series import Series
from .steps import Combination, Elementwise, Normal, Product, Step
from .tensors import Place, Stored, Tensors, elements_of

#: How far a leading coefficient may be from 1 to be carried: what is stored is larger by that.
_FAR = 2.0**10
#: How many masks more than it should spend a product may need.
_MORE = 4
#: Of how many Einsums the levels are listed where they run out.
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Levels:
    """How many levels below the inputs an Einsum begins (at the deepest of what it reads), ends."""

    einsum: str
    begin: int
    end: int

    def __str__(self) -> str:
        return f"{self.einsum}: {self.end - self.begin} levels, {self.begin} to {self.end}"


@dataclass(frozen=True, slots=True)
class Written:
    """A program, once it is asked for, what it costs, and what belongs to it.

    `plain` is the Cascade in the clear, `levels` are those of each Einsum.
    """

    cost: float
    plain: Cascade
    levels: tuple[Levels, ...]
    program: Callable[[], SlotProgram]


class Lowering:
    """One way to write the program.

    Args:
        masks: how many levels a product may spend on masks, if that saves rotations.
        way: where the results of products lie: as they come, or row-major.
    """

    def __init__(
        self,
        normal: Normal,
        slots: int,
        layout: Choice,
        levels: int | None,
        masks: int,
        way: Choice,
        steady: bool = False,
    ) -> None:
        self._normal, self._layout, self._most = normal, layout, levels
        self._masks = masks
        self._way: Choice = way
        self._build = Builder(normal.name, slots, steady=steady)
        self._tensors = Tensors(normal, self._build)
        if layout == "row-major":
            for name in normal.secret:
                self._tensors.enter(name)
        self._levels: dict[str, Levels] = {}
        self._hidden = {*normal.secret, *map(_made, normal.steps)}
        self._readers: dict[str, list[Step]] = {}
        for step in normal.steps:
            for name in _arguments(step):
                self._readers.setdefault(name, []).append(step)

    @property
    def forced(self) -> bool:
        """Whether scales took a level somewhere."""
        return self._build.forced > 0

    def written(self) -> Written:
        """The whole program."""
        normal, build, tensors = self._normal, self._build, self._tensors
        steps = _products_first(normal) if build.steady else normal.steps
        for step in steps:
            before = self._depth_of(_arguments(step))
            if isinstance(step, Product):
                stored = self._product(step)
            elif isinstance(step, Combination):
                stored = combined(tensors, step, self._folds(step.output.tensor))
            else:
                stored = self._elementwise(step)
            tensors.stored[_made(step)] = stored
            self._took(step.einsum, before, tensors.depth(stored.held))
        ends = [(name, self._output(name)) for name in normal.outputs]
        outputs = [(name, held.layout, held.values) for name, held in ends]
        sketch = build.program(outputs, sketch=True)
        read = {each.tensor for plain in sketch.plains for each in plain.factors if each.tensor}
        for name in (name for name in tensors.shapes if name in read):
            build.input(SlotInput(name, tensors.shapes[name], None))
        plain, levels = tensors.clear({*read, *normal.clear}), tuple(self._levels.values())
        cost = count(replace(sketch, inputs=tuple(build.inputs.values()))).cost
        return Written(cost, plain, levels, partial(build.program, outputs))

    # ---- levels

    def _depth_of(self, names: Collection[str]) -> int:
        stored = self._tensors.stored
        return max((self._tensors.depth(stored[n].held) for n in names if n in stored), default=0)

    def _took(self, einsum: str, before: int, after: int) -> None:
        known = self._levels.get(einsum, Levels(einsum, before, before))
        self._levels[einsum] = Levels(einsum, known.begin, max(known.end, after))
        if self._most is not None and after > self._most:
            raise self._too_deep(einsum, f"it needs {after}")

    def _too_deep(self, einsum: str, needs: str) -> LevelError:
        normal = self._normal
        degrees = [
            each.approximation.degree for each in normal.approximated if each.einsum == einsum
        ]
        hint = "encrypt with more levels, in a larger ring"
        if degrees:
            hint = f"ask for a lower degree than {max(degrees)}, or {hint}"
        return LevelError(
            f"{einsum} runs out of levels: {needs}, and there are {self._most}",
            span=normal.spans.get(einsum),
            deduced=tuple(map(str, self._levels.values()))[-_SHOWN:],
            hint=hint,
        )

    def _folds(self, name: str) -> bool:
        """Whether all that reads a tensor takes a number in for nothing."""
        if name in self._normal.outputs:
            return False
        for step in self._readers.get(name, ()):
            if isinstance(step, Combination):
                if len(step.terms) > 1 or not self._folds(step.output.tensor):
                    return False
            elif isinstance(step, Product):
                clear = any(factor.tensor not in self._hidden for factor in step.factors)
                if not clear and not self._folds(step.output.tensor):
                    return False
        return True

    def _wanted(self, name: str) -> complex | None:
        """The number that spares all that reads a tensor a product, if there is one.

        A Chebyshev series takes a level to bring its interval to a width of 2, unless the tensor
        is stored over half the interval's width.
        """
        found: set[complex | None] = set()
        for step in self._readers.get(name, ()):
            if isinstance(step, Elementwise) and step.series.interval is not None:
                low, high = step.series.interval
                found.add((high - low) / 2)
            elif isinstance(step, Combination):
                wanted = self._wanted(step.output.tensor)
                numbers = {c for c, access in step.terms if access.tensor == name}
                found |= {wanted and wanted / c for c in numbers}
            else:
                found.add(None)
        return found.pop() if len(found) == 1 and name not in self._normal.outputs else None

    # ---- steps

    def _product(self, step: Product) -> Stored:
        tensors, number = self._tensors, step.coefficient
        secret = [factor.tensor for factor in step.factors if factor.tensor in self._hidden]
        held = {name: tensors.stored[name].held for name in secret if name in tensors.stored}
        for name in secret:
            number *= tensors.stored[name].number if name in held else 1
        factors = list(step.factors)
        clear = [at for at, factor in enumerate(factors) if factor.tensor not in secret]
        if clear:
            wanted = self._wanted(step.output.tensor) or 1
            factors[clear[0]] = tensors.times(factors[clear[0]], number / wanted)
            number = wanted
        problem = Problem(
            step.einsum,
            tuple(factors),
            step.output,
            tensors.sizes,
            tensors.shapes,
            frozenset(secret),
        )
        made = self._contracted(problem, held)
        for name in secret:
            tensors.enter(name, self._build.inputs[name].layout if name not in held else None)
        return Stored(made, number)

    def _contracted(self, problem: Problem, held: Mapping[str, Held]) -> Held:
        most = depth(problem) + self._masks
        while True:
            try:
                return contracted(self._build, problem, held, self._way, most)
            except LevelError:
                if most == depth(problem) + self._masks + _MORE:
                    raise
                most += 1

    def _elementwise(self, step: Elementwise) -> Stored:
        stored = self._tensors.enter(step.argument)
        of = step.series.of_multiple(stored.number)
        number = self._wanted(step.output) or self._carried(of, step.output)
        of = of.divided(number)
        layout = stored.held.layout
        zero = layout.zero and of.interval is None
        values = tuple(
            evaluated(self._build, value, of, elements_of(layout, at) if zero else None)
            for at, value in enumerate(stored.held.values)
        )
        return Stored(Held(replace(layout, zero=zero), values), number)

    def _carried(self, of: Series, output: str) -> complex:
        """The number that is left to what reads a polynomial, since that saves it a level."""
        leading = of.coefficients[-1]
        far = not 1 / _FAR <= abs(leading) <= _FAR
        if of.interval is not None or far or not self._folds(output):
            return 1
        return leading if plan(of.divided(leading)).depth < plan(of).depth else 1

    def _output(self, name: str) -> Held:
        build, tensors, stored = self._build, self._tensors, self._tensors.stored[name]
        held, number, before = stored.held, stored.number, tensors.depth(stored.held)
        if self._layout == "row-major":
            variables = tuple(f"v{axis}" for axis in range(len(held.layout.shape)))
            rows = row_major(held.layout.shape, build.slots, zero=False)
            access = named(name, variables)
            held, number = tensors.brought(held, access, variables, rows, Place(number=number))
        if number != 1:
            values = tuple(build.scaled(value, number) for value in held.values)
            held = Held(held.layout, values)
        self._took(name, before, tensors.depth(held))
        return held


def _products_first(normal: Normal) -> list[Step]:
    """The steps with those that multiply by something plain as late as may be.

    So that the scale of what is added to such a product is known when it is made.
    """
    hidden = {*normal.secret, *map(_made, normal.steps)}
    found: list[Step] = []
    there, left = set(normal.secret), list(normal.steps)
    while left:
        ready = [each for each in left if there >= hidden & set(_arguments(each))]
        late = [
            isinstance(each, Product) and any(f.tensor not in hidden for f in each.factors)
            for each in ready
        ]
        step = ready[late.index(False) if False in late else 0]
        found.append(step)
        left.remove(step)
        there.add(_made(step))
    return found


def _made(step: Step) -> str:
    return step.output if isinstance(step, Elementwise) else step.output.tensor


def _arguments(step: Step) -> list[str]:
    if isinstance(step, Product):
        return [factor.tensor for factor in step.factors]
    if isinstance(step, Combination):
        return [access.tensor for _, access in step.terms]
    return [step.argument]
