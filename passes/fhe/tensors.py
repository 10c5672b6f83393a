"""The tensors of a Cascade while its program is written: those that are held, and plain ones.

An encrypted tensor is a number times what is held.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from ...ir.cascade import Cascade, fresh_name
from ...ir.einsum import Access, Einsum, Literal, Map
from ...ir.errors import SlotError
from ...ir.layouts import Layout, row_major
from ...ir.slots import SlotInput
from ..rewrite import named, without_unread
from .builder import Builder, Plain, ones_at
from .contract import spread
from .held import Held
from .space import Space
from .steps import Normal

#: What a value is multiplied by without a plain vector.
FREE = (1, -1, 2, -2)
#: The most levels that a tensor may take to be brought somewhere.
_MOST = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that is `number` times what is held."""

    held: Held
    number: complex = 1


@dataclass(frozen=True, slots=True)
class Place:
    """How a tensor is brought somewhere.

    It may take `slack` levels for nothing, get the scale of `like`, and is to be multiplied by
    `number`.
    """

    slack: int = 0
    like: int | None = None
    number: complex = 1


class Tensors:
    """What is there so far, by name."""

    def __init__(self, normal: Normal, build: Builder) -> None:
        self.build, self.sizes = build, normal.sizes
        self.shapes = dict(normal.shapes)
        self.stored: dict[str, Stored] = {}
        self._plain, self._clear = normal.plain, list(normal.plain.einsums)
        self._scaled: dict[tuple[Access, complex], Access] = {}

    def trial(self) -> Tensors:
        """The same with another program, that is thrown away."""
        found = copy(self)
        found.build = self.build.copy()
        return found

    def depth(self, held: Held) -> int:
        """How many levels below the inputs it will be, once it is rescaled."""
        return max(map(self.build.end, held.values))

    # ---- encrypted

    def enter(self, name: str, layout: Layout | None = None) -> Stored:
        """An encrypted input, in a layout or row-major; as it lies, if it is there."""
        if name not in self.stored:
            layout = layout or row_major(self.shapes[name], self.build.slots)
            values = self.build.input(SlotInput(name, self.shapes[name], layout))
            self.stored[name] = Stored(Held(layout, values))
        return self.stored[name]

    def brought(
        self, held: Held, access: Access, left: Sequence[str], target: Layout, place: Place
    ) -> tuple[Held, complex]:
        """A tensor where one at the variables `left` lies, copied along those that it has not.

        Gives the number that it is still to be multiplied by, 1 if masks have taken that in.

        Raises:
            SlotError: two levels are not enough.
        """
        variables, number = tuple(access.variables()), place.number
        if set(variables) == set(left):
            lies = turned(held.layout, variables, left)
            if replace(lies, zero=True) == replace(target, zero=True):
                return Held(lies, held.values), number
        space = Space(tuple(left), target, "")
        sizes = dict(zip(left, target.shape, strict=True))

        def write(build: Builder, number: complex) -> list[int] | None:
            with build.toward(place.like, number):
                for most in (min(max(place.slack, 1), _MOST), _MOST):
                    shape = held.layout.shape
                    values = spread(build, held, access, space, shape, sizes, most)
                    if values is not None:
                        return values
            return None

        if number not in FREE:
            trial = self.build.copy()
            first = len(trial.depth)
            values = write(trial, 1)
            number = 1 if values is not None and trial.once(first, values) else number
        values = write(self.build, place.number if number == 1 else 1)
        if values is None:
            raise SlotError(
                f"{access.tensor} cannot be brought to where it is added",
                span=access.span,
                passed=(str(held.layout), str(target)),
            )
        return Held(replace(target, zero=False), tuple(values)), number

    # ---- in the clear

    def times(self, plain: Access, number: complex) -> Access:
        """What is read of a plain tensor times a number: another one, computed in the clear."""
        if number == 1:
            return plain
        key = (plain, number)
        if key not in self._scaled:
            variables = tuple(dict.fromkeys(plain.variables()))
            output = named(fresh_name(plain.tensor, set(self.shapes)), variables)
            self.shapes[output.tensor] = tuple(self.sizes[v] for v in variables)
            self._clear.append(Einsum(output, Map("mul", (Literal(number), plain))))
            self._scaled[key] = output
        return self._scaled[key]

    def clear(self, wanted: Collection[str]) -> Cascade:
        """The Cascade in the clear that gives those of its tensors."""
        made = dict.fromkeys(einsum.name for einsum in self._clear)
        outputs = tuple(name for name in made if name in wanted)
        einsums = tuple(without_unread(self._clear, outputs))
        return replace(self._plain, einsums=einsums, outputs=outputs)


def turned(layout: Layout, variables: Sequence[str], left: Sequence[str]) -> Layout:
    """The layout of a tensor at `variables` as one of a tensor at `left`, the same in order."""
    axes = {axis: left.index(v) for axis, v in enumerate(variables)}
    pieces = tuple(
        replace(piece, steps=tuple((axes[axis], step) for axis, step in piece.steps))
        for piece in layout.pieces
    )
    shape = tuple(layout.shape[variables.index(v)] for v in left)
    return replace(layout, shape=shape, pieces=pieces)


def elements_of(layout: Layout, vector: int) -> Plain:
    """1 at each element of a vector of a layout."""
    return ones_at(np.flatnonzero(layout.table()[vector] >= 0))
