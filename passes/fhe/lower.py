"""A Cascade on encrypted tensors as one SlotProgram: levels and scales over all of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.cascade import Cascade
from ...ir.errors import LevelError
from ...ir.interpreter import evaluate
from ...ir.layouts import Array
from ...ir.slots import SlotProgram
from .approximate import Approximated, Approximation
from .candidates import Choice
from .normal import normal_form
from .program import Levels, Lowering, Written
from .steps import Normal

#: How many levels products may spend on masks, besides their own, to save rotations; all are tried
#: where there is a limit, else the first and the last.
_MASKS = (2, 1, 0)
#: Where the results of products lie.
_WAYS: tuple[Choice, ...] = ("free", "row-major")


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
    most: int | None = None,
) -> Lowered:
    """The program of a Cascade for arrays of those shapes.

    Args:
        secret: the inputs that are encrypted; None: all of them.
        slots: of a ciphertext, a power of two.
        layout: "row-major": encrypted inputs and outputs are row-major and compact; "free": inputs
            are encrypted as they are first needed, and outputs lie as they come.
        approximate: functions that CKKS has not, by their name or that of the tensor.
        levels: the most that there are; None: as many as it takes.
        most: what a ring has at all: more are refused, and none are saved to have as few.

    Raises:
        UnsupportedError: CKKS has not what it takes, and no approximation is asked for.
        LevelError: there are not so many levels; it says which Einsum ran out.
        SlotError: a tensor does not fit.
        ArgumentError, RankError: the arguments do not fit the Cascade.
    """
    normal = normal_form(cascade, shapes, secret, approximate)
    limit = min((each for each in (levels, most) if each is not None), default=None)
    found: list[Written] = []
    for masks in _MASKS if levels is not None else _MASKS[::2]:
        for way in _WAYS:
            found += _written(normal, slots, layout, limit, masks, way)
    if not found:
        Lowering(normal, slots, layout, limit, 0, "free").written()  # raises
    best = min(found, key=lambda each: each.cost)
    return Lowered(best.program(), best.plain, normal.clear, best.levels, normal.approximated)


def _written(
    normal: Normal, slots: int, layout: Choice, levels: int | None, masks: int, way: Choice
) -> list[Written]:
    """The program with the scales that come, and if those take levels, with steady ones."""
    found: list[Written] = []
    for steady in (False, True):
        lowering = Lowering(normal, slots, layout, levels, masks, way, steady)
        with suppress(LevelError):
            found.append(lowering.written())
        if not lowering.forced:
            break
    return found
