"""Which keys serve a rotation: its own, or several whose steps add up to it."""

from __future__ import annotations

from collections.abc import Sequence, Set

from ...ir.errors import SlotError
from ...ir.rotations import signed_digits

#: How many steps a message lists.
_SHOWN = 12


def powers_of_two(slots: int) -> tuple[int, ...]:
    """The steps ±2^k modulo the slots: with keys for these, every rotation is possible."""
    powers = [1 << k for k in range((slots - 1).bit_length())]
    return tuple(sorted({*powers, *(slots - step for step in powers)}))


def route(step: int, held: Set[int], slots: int) -> tuple[int, ...]:
    """The steps of held keys whose rotations, one after another, are a rotation by `step`.

    One where the step has its own key; else the non-adjacent form (fewest powers of two with
    signs, SEAL's way) or the binary digits, whichever has its keys. All steps are in [0, slots).

    >>> route(7, {1, 2, 4, 255}, 256)
    (1, 2, 4)
    >>> route(7, {8, 255}, 256)
    (255, 8)

    Raises:
        SlotError: the keys for it are missing.
    """
    if step in held:
        return (step,)
    ways = (signed_digits(step), signed_digits(step - slots), _digits(step))
    # Steps modulo the slots: a whole turn is none.
    reduced = [tuple(part % slots for part in way if part % slots) for way in ways]
    possible = [way for way in reduced if all(part in held for part in way)]
    if not possible:
        raise SlotError(
            f"there is no key for the rotation by {step}",
            deduced=(f"it needs {_needed(step, reduced)}",),
            passed=(f"keys for the steps {_listed(sorted(held))}",),
            hint="ask the client for evaluation_keys with this step",
        )
    return min(possible, key=len)


def _digits(step: int) -> list[int]:
    return [1 << k for k in range(step.bit_length()) if step >> k & 1]


def _needed(step: int, ways: Sequence[tuple[int, ...]]) -> str:
    """Each set of keys that would do, once."""
    sets = dict.fromkeys(tuple(sorted(set(way))) for way in ways)
    several = [f"those of {_listed(way)} together" for way in sets if len(way) > 1]
    return ", or ".join([f"the key of step {step}", *several])


def _listed(steps: Sequence[int]) -> str:
    more = ", ..." if len(steps) > _SHOWN else ""
    return (", ".join(map(str, steps[:_SHOWN])) or "none") + more
