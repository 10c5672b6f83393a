"""A Cascade on encrypted tensors as one SlotProgram: levels and scales over all of it.

A number that multiplies a tensor is not multiplied in, but carried along until something takes it
in for nothing: a plain factor, the coefficients of a polynomial. Only an output, or a sum of
tensors with different numbers, takes a level for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...ir.cascade import Cascade
from ...ir.errors import LevelError
from ...ir.interpreter import evaluate
from ...ir.layouts import Array, row_major
from ...ir.slot_counts import count
from ...ir.slots import SlotInput, SlotProgram
from ..rewrite import named
from .approximate import Approximated, Approximation
from .builder import Builder
from .candidates import Choice
from .combine import combined
from .held import Held
from .normal import normal_form
from .pack import contracted, depth
from .polynomial import evaluated, plan
from .problem import Problem
from .series import Series
from .steps import Combination, Elementwise, Normal, Product, Step
from .tensors import Place, Stored, Tensors, elements_of

#: How far a leading coefficient may be from 1 to be carried: what is stored is larger by that.
_FAR = 2.0**10
#: How many levels a product may spend on masks besides its own, and where its result may lie.
_MASKS = 2
_WAYS: tuple[Choice, ...] = ("free", "row-major")


@dataclass(frozen=True, slots=True)
class Levels:
    """How many levels below the inputs an Einsum begins (at the deepest of what it reads), ends."""

    einsum: str
    begin: int
    end: int

    def __str__(self) -> str:
        return f"{self.einsum}: {self.end - self.begin} levels, {self.begin} to {self.end}"


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program on encrypted slots, and what the side that runs it computes in the clear before.

    `plain` is evaluated on the plaintext inputs: some of its outputs are plaintext inputs of the
    program, and `clear` are outputs of the Cascade themselves.
    """

    program: SlotProgram
    plain: Cascade
    clear: tuple[str, ...]
    levels: tuple[Levels, ...]
    approximated: tuple[Approximated, ...]

    def inputs(self, arrays: Mapping[str, Any]) -> dict[str, Array]:
        """All that the program reads, and the outputs that are in the clear, from all inputs."""
        wanted = {decl.name for decl in self.plain.inputs}
        given = {name: np.asarray(array) for name, array in arrays.items()}
        made = evaluate(self.plain, {name: a for name, a in given.items() if name in wanted})
        return given | made


def lower(
    cascade: Cascade,
    shapes: Mapping[str, Sequence[int]],
    secret: Collection[str] | None = None,
    *,
    slots: int,
    layout: Choice = "row-major",
    approximate: Mapping[str, Approximation] | None = None,
    levels: int | None = None,
) -> Lowered:
    """The program of a Cascade for arrays of those shapes.

    Args:
        secret: the inputs that are encrypted; None: all of them.
        slots: of a ciphertext, a power of two.
        layout: "row-major": encrypted inputs and outputs are row-major and compact; "free": inputs
            are encrypted as they are first needed, and outputs lie as they come.
        approximate: functions that CKKS has not, by their name or that of the tensor.
        levels: the most that there are; None: as many as it takes.

    Raises:
        UnsupportedError: CKKS has not what it takes, and no approximation is asked for.
        LevelError: there are not so many levels; it says which Einsum ran out.
        SlotError: a tensor does not fit.
        ArgumentError, RankError: the arguments do not fit the Cascade.
    """
    normal = normal_form(cascade, shapes, secret, approximate)
    found: list[_Written] = []
    for masks in range(_MASKS + 1):
        for way in _WAYS:
            with suppress(LevelError):
                found.append(_Lowering(normal, slots, layout, levels, masks, way).written())
    if not found:
        _Lowering(normal, slots, layout, levels, 0, "free").written()  # raises
    return min(found, key=lambda each: each.cost).lowered()


@dataclass(frozen=True, slots=True)
class _Written:
    """What a program costs, and the program, once it is asked for."""

    cost: float
    lowered: Callable[[], Lowered]


class _Lowering:
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
    ) -> None:
        self._normal, self._layout, self._most = normal, layout, levels
        self._masks = masks
        self._way: Choice = way
        self._build = Builder(normal.name, slots)
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

    def written(self) -> _Written:
        """The whole program."""
        normal, build, tensors = self._normal, self._build, self._tensors
        for step in normal.steps:
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
        read = {each.tensor for plain in build.plains for each in plain.factors if each.tensor}
        for name in (name for name in tensors.shapes if name in read):
            build.input(SlotInput(name, tensors.shapes[name], None))
        outputs = [(name, held.layout, held.values) for name, held in ends]
        plain, levels = tensors.clear({*read, *normal.clear}), tuple(self._levels.values())
        cost = count(build.program(outputs, sketch=True)).cost

        def lowered() -> Lowered:
            program = build.program(outputs)
            return Lowered(program, plain, normal.clear, levels, normal.approximated)

        return _Written(cost, lowered)

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
            deduced=tuple(map(str, self._levels.values())),
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
            factors[clear[0]] = tensors.times(factors[clear[0]], number)
            number = 1
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
                if most == depth(problem) + 2 * _MASKS:
                    raise
                most += 1

    def _elementwise(self, step: Elementwise) -> Stored:
        stored = self._tensors.enter(step.argument)
        of = step.series.of_multiple(stored.number)
        number = self._carried(of, step.output)
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


def _made(step: Step) -> str:
    return step.output if isinstance(step, Elementwise) else step.output.tensor


def _arguments(step: Step) -> list[str]:
    if isinstance(step, Product):
        return [factor.tensor for factor in step.factors]
    if isinstance(step, Combination):
        return [access.tensor for _, access in step.terms]
    return [step.argument]
