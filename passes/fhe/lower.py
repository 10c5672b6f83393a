"""A Cascade on encrypted tensors as one SlotProgram: levels and scales over all of it.

A number that multiplies a tensor is not multiplied in, but carried along until something takes it
in for nothing: a plain factor, the coefficients of a polynomial. Only an output, or a sum of
tensors with different numbers, takes a level for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from typing import Literal as OneOf

import numpy as np

from ...ir.cascade import Cascade, fresh_name
from ...ir.einsum import Access, Einsum, Literal, Map
from ...ir.errors import LevelError
from ...ir.interpreter import evaluate
from ...ir.layouts import Array, Layout, row_major
from ...ir.slots import Gather, PlainVector, SlotInput, SlotProgram, boxes_of
from ..rewrite import named, without_unread
from .approximate import Approximated, Approximation
from .builder import Builder, ones_at
from .held import Held
from .normal import normal_form
from .polynomial import evaluated, plan
from .problem import Problem
from .series import Series
from .single import multiplied, placed
from .steps import Combination, Elementwise, Normal, Product, Step

#: How far a leading coefficient may be from 1 to be carried: what is stored is larger by that.
_FAR = 2.0**10
#: What a value is multiplied by without a plain vector.
_FREE = (1, -1, 2, -2)


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


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor is `number` times what is held."""

    held: Held
    number: complex = 1


def lower(
    cascade: Cascade,
    shapes: Mapping[str, Sequence[int]],
    secret: Collection[str] | None = None,
    *,
    slots: int,
    layout: OneOf["row-major", "free"] = "row-major",
    approximate: Mapping[str, Approximation] | None = None,
    levels: int | None = None,
) -> Lowered:
    """The program of a Cascade for arrays of those shapes.

    Args:
        secret: the inputs that are encrypted; None: all of them.
        slots: of a ciphertext, a power of two.
        layout: of the outputs: "row-major" and compact, or "free": as they come.
        approximate: functions that CKKS has not, by their name or that of the tensor.
        levels: the most that there are; None: as many as it takes.

    Raises:
        UnsupportedError: CKKS has not what it takes, and no approximation is asked for.
        LevelError: there are not so many levels; it says which Einsum ran out.
        SlotError: a tensor does not fit.
        ArgumentError, RankError: the arguments do not fit the Cascade.
    """
    normal = normal_form(cascade, shapes, secret, approximate)
    return _Lowering(normal, slots, layout, levels).lowered()


class _Lowering:
    def __init__(self, normal: Normal, slots: int, layout: str, levels: int | None) -> None:
        self._normal, self._layout, self._most = normal, layout, levels
        inputs = [
            SlotInput(name, normal.shapes[name], row_major(normal.shapes[name], slots))
            for name in normal.secret
        ]
        self._build = Builder(normal.name, slots, inputs)
        self._stored = {
            each.name: _Stored(Held(each.layout, self._build.values_of(each.name)))
            for each in inputs
            if each.layout is not None
        }
        self._clear = list(normal.plain.einsums)
        self._shapes = dict(normal.shapes)
        self._scaled: dict[tuple[Access, complex], Access] = {}
        self._levels: dict[str, Levels] = {}
        self._readers = _readers(normal.steps)
        self._hidden = {*normal.secret, *map(_made, normal.steps)}

    def lowered(self) -> Lowered:
        normal, build = self._normal, self._build
        for step in normal.steps:
            before = self._depth_of(_arguments(step))
            if isinstance(step, Product):
                stored = self._product(step)
            elif isinstance(step, Combination):
                stored = self._combination(step)
            else:
                stored = self._elementwise(step)
            self._stored[_made(step)] = stored
            self._took(step.einsum, before, self._depth(stored.held))
        outputs = [(name, *self._output(name)) for name in normal.outputs]
        program = build.program(outputs)
        read = {f.tensor for plain in program.plains for f in plain.factors if f.tensor}
        plains = tuple(SlotInput(n, self._shapes[n], None) for n in self._shapes if n in read)
        program = replace(program, inputs=(*program.inputs, *plains))
        levels = tuple(self._levels.values())
        plain = self._in_the_clear(read)
        return Lowered(program, plain, normal.clear, levels, normal.approximated)

    def _in_the_clear(self, read: Collection[str]) -> Cascade:
        """What is computed in the clear: the outputs that are, and what the program reads."""
        made = dict.fromkeys(einsum.name for einsum in self._clear)
        outputs = tuple(name for name in made if name in read or name in self._normal.clear)
        einsums = tuple(without_unread(self._clear, outputs))
        return replace(self._normal.plain, einsums=einsums, outputs=outputs)

    # ---- levels

    def _depth(self, held: Held) -> int:
        return max(map(self._end, held.values))

    def _held(self, access: Access) -> Held:
        return self._stored[access.tensor].held

    def _end(self, value: int) -> int:
        """The depth of a value once it is rescaled."""
        return self._build.depth[value] + self._build.pending[value]

    def _depth_of(self, names: Collection[str]) -> int:
        return max(
            (self._depth(self._stored[n].held) for n in names if n in self._stored), default=0
        )

    def _took(self, einsum: str, before: int, after: int) -> None:
        known = self._levels.get(einsum, Levels(einsum, before, before))
        self._levels[einsum] = Levels(einsum, known.begin, max(known.end, after))
        if self._most is None or after <= self._most:
            return
        made = [
            found.approximation for found in self._normal.approximated if found.einsum == einsum
        ]
        hints = ["encrypt with more levels, in a larger ring"]
        if made:
            hints.insert(0, f"ask for a lower degree than {max(each.degree for each in made)}")
        raise LevelError(
            f"{einsum} runs out of levels: it needs {after}, and there are {self._most}",
            span=self._normal.spans.get(einsum),
            deduced=tuple(map(str, self._levels.values())),
            hint=", or ".join(hints),
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

    def _product(self, step: Product) -> _Stored:
        number = step.coefficient
        held: dict[str, Held] = {}
        for factor in step.factors:
            if factor.tensor in self._stored:
                number *= self._stored[factor.tensor].number
                held[factor.tensor] = self._stored[factor.tensor].held
        factors = list(step.factors)
        clear = [at for at, factor in enumerate(factors) if factor.tensor not in held]
        if clear and number != 1:
            factors[clear[0]] = self._times(factors[clear[0]], number)
            number = 1
        problem = Problem(
            step.einsum,
            tuple(factors),
            step.output,
            self._normal.sizes,
            self._shapes,
            frozenset(held),
        )
        return _Stored(multiplied(self._build, problem, held), number)

    def _times(self, plain: Access, number: complex) -> Access:
        """What is read of a plain tensor times a number: another one, computed in the clear."""
        if number == 1:
            return plain
        key = (plain, number)
        if key not in self._scaled:
            variables = tuple(dict.fromkeys(plain.variables()))
            output = named(fresh_name(plain.tensor, set(self._shapes)), variables)
            self._shapes[output.tensor] = tuple(self._normal.sizes[v] for v in variables)
            self._clear.append(Einsum(output, Map("mul", (Literal(number), plain))))
            self._scaled[key] = output
        return self._scaled[key]

    def _elementwise(self, step: Elementwise) -> _Stored:
        stored = self._stored[step.argument]
        of = step.series.of_multiple(stored.number)
        number = self._carried(of, step.output)
        of = of.divided(number)
        layout = stored.held.layout
        values: list[int] = []
        keeps = layout.zero and of.interval is None
        for at, value in enumerate(stored.held.values):
            mask = self._mask(layout, at) if keeps else None
            values.append(evaluated(self._build, value, of, mask))
        held = Held(replace(layout, zero=keeps), tuple(values))
        return _Stored(held, number)

    def _carried(self, of: Series, output: str) -> complex:
        """The number that is left to what reads a polynomial, since that saves it a level."""
        leading = of.coefficients[-1]
        far = not 1 / _FAR <= abs(leading) <= _FAR
        if of.interval is not None or far or not self._folds(output):
            return 1
        divided = of.divided(leading)
        return leading if plan(divided).depth < plan(of).depth else 1

    def _mask(self, layout: Layout, vector: int) -> PlainVector:
        return ones_at(np.flatnonzero(layout.table()[vector] >= 0))

    def _combination(self, step: Combination) -> _Stored:
        build, left = self._build, list(step.output.variables())
        sizes = self._normal.sizes
        shape = tuple(sizes[v] for v in left)
        terms = [(c * self._stored[a.tensor].number, a) for c, a in step.terms]
        target = self._target(step, left, shape)
        held: list[tuple[complex, Held]] = []
        like: int | None = None
        for number, access in sorted(terms, key=lambda t: -self._depth(self._held(t[1]))):
            variables = list(access.variables())
            own = self._held(access)
            turned = _turned(own.layout, variables, left) if set(variables) == set(left) else None
            if turned is not None and replace(turned, zero=True) == replace(target, zero=True):
                own = Held(turned, own.values)
            else:
                with build.toward(like):
                    own = placed(build, own, variables, target, left, sizes)
            held.append((number, own))
            if like is None and self._depth(own) > 0:  # what is moved comes to this scale, too
                own = Held(own.layout, tuple(map(build.finished, own.values)))
                held[-1], like = (number, own), own.values[0]
        number = self._common(held, self._folds(step.output.tensor))
        zero = all(each.layout.zero for _, each in held)
        values = [
            self._sum([(c / number, each.values[at]) for c, each in held])
            for at in range(target.vectors)
        ]
        layout = replace(target, zero=zero)
        if step.plain is not None:
            plain = self._times(step.plain, 1 / number)
            values = [
                build.add_plain(value, self._at_elements(plain, layout, at, left))
                for at, value in enumerate(values)
            ]
        if step.constant != 0:
            constant = step.constant / number
            masks = [self._mask(layout, at).factors if zero else () for at in range(len(values))]
            values = [
                build.add_plain(value, PlainVector(mask, constant))
                for value, mask in zip(values, masks, strict=True)
            ]
        return _Stored(Held(layout, tuple(values)), number)

    def _target(self, step: Combination, left: Sequence[str], shape: tuple[int, ...]) -> Layout:
        """Where the deepest of those that are not broadcast lies; row-major if all are."""
        whole = [a for _, a in step.terms if set(a.variables()) == set(left)]
        if not whole:
            return row_major(shape, self._build.slots)
        deepest = max(whole, key=lambda a: self._depth(self._stored[a.tensor].held))
        layout = self._stored[deepest.tensor].held.layout
        return _turned(layout, list(deepest.variables()), left)

    def _common(self, held: Sequence[tuple[complex, Held]], folds: bool) -> complex:
        """The number to be carried by a sum, with the least depth and then the fewest products."""

        def cost(number: complex) -> tuple[int, int]:
            taken = [(self._depth(each), c / number not in _FREE) for c, each in held]
            depth = max(depth + multiplied for depth, multiplied in taken)
            more = number not in _FREE
            return depth + (more and not folds), sum(m for _, m in taken) + more

        return min((1, *(c for c, _ in held)), key=cost)

    def _sum(self, terms: Sequence[tuple[complex, int]]) -> int:
        """A sum of multiples, of the scale of one that is as deep as all of it will be."""
        build = self._build
        depth = max(self._end(v) + (c not in _FREE) for c, v in terms)
        ready = sorted(terms, key=lambda term: (term[0] not in _FREE, -self._end(term[1])))
        total: int | None = None
        for c, value in ready:
            if c not in _FREE:
                total = None if total is None else build.finished(total)
                like = total if total is not None and build.depth[total] == depth else None
                value = build.at_depth(build.finished(value), depth - 1)
                value = build.finished(build.scaled(value, c, like))
                c = 1
            if total is None:
                total = build.scaled(value, c)
                continue
            if abs(c) == 2:
                value = build.add(value, value)
            total = build.sub(total, value) if c.real < 0 else build.add(total, value)
        assert total is not None
        return total

    def _at_elements(
        self, access: Access, layout: Layout, vector: int, left: Sequence[str]
    ) -> PlainVector:
        """A plain tensor at the elements of one vector of a layout of the variables `left`."""
        table = layout.table()[vector]
        slots = np.flatnonzero(table >= 0)
        held, elements = table[slots], np.zeros(len(slots), np.int64)
        for v, extent in zip(access.variables(), self._shapes[access.tensor], strict=True):
            axis = left.index(v)
            coordinate = held // math.prod(layout.shape[axis + 1 :]) % layout.shape[axis]
            elements = elements * extent + coordinate
        return PlainVector((Gather(access.tensor, boxes_of(slots, elements)),))

    def _output(self, name: str) -> tuple[Layout, tuple[int, ...]]:
        stored, build = self._stored[name], self._build
        held, before = stored.held, self._depth(stored.held)
        if stored.number != 1:
            values = tuple(build.scaled(value, stored.number) for value in held.values)
            held = Held(held.layout, values)
        rows = row_major(held.layout.shape, build.slots)
        if self._layout == "row-major" and held.layout.pieces != rows.pieces:
            axes = [f"v{axis}" for axis in range(len(held.layout.shape))]
            sizes = dict(zip(axes, held.layout.shape, strict=True))
            held = placed(build, held, axes, rows, axes, sizes)
        self._took(name, before, self._depth(held))
        return held.layout, held.values


def _turned(layout: Layout, variables: Sequence[str], left: Sequence[str]) -> Layout:
    """The layout of a tensor at `variables` as one of a tensor at `left`, the same in order."""
    axes = {axis: left.index(v) for axis, v in enumerate(variables)}
    pieces = tuple(
        replace(piece, steps=tuple((axes[axis], step) for axis, step in piece.steps))
        for piece in layout.pieces
    )
    shape = tuple(layout.shape[variables.index(v)] for v in left)
    return replace(layout, shape=shape, pieces=pieces)


def _made(step: Step) -> str:
    return step.output if isinstance(step, Elementwise) else step.output.tensor


def _arguments(step: Step) -> list[str]:
    if isinstance(step, Product):
        return [factor.tensor for factor in step.factors]
    if isinstance(step, Combination):
        return [access.tensor for _, access in step.terms]
    return [step.argument]


def _readers(steps: Sequence[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        for name in _arguments(step):
            found.setdefault(name, []).append(step)
    return found
