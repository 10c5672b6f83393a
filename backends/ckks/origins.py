"""What the values of a SlotProgram come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ...ir.slots import SlotProgram

_T = TypeVar("_T")


def inputs_of(program: SlotProgram) -> list[frozenset[str]]:
    """The inputs, plaintext ones too, that each value comes from."""
    found = [frozenset({each.name}) for each in program.inputs for _ in range(each.vectors)]
    for op in program.ops:
        factors = () if op.plain is None else program.plains[op.plain].factors
        found += [frozenset(each.tensor for each in factors if each.tensor)] * op.results
    return spread(program, found)


def spread(program: SlotProgram, own: Sequence[frozenset[_T]]) -> list[frozenset[_T]]:
    """What each value has of its own, with what all those have that it comes from."""
    found = list(own[: program.encrypted])
    for op in program.ops:
        below = frozenset[_T]().union(*(found[arg] for arg in op.args))
        found += [below | own[len(found) + n] for n in range(op.results)]
    return found
