"""What must hold of a SlotProgram: the state of each value, and the rules of each operation.

A ciphertext has a level (how many rescales it has left), a scale, and two or three parts. Scales
are exact: a power of the scale that inputs are encrypted at, times powers of the primes. So two
values are known to have the same scale before the primes are.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .errors import EinloomError, LevelError, SlotError
from .slots import (
    BINARY,
    OP_NAMES,
    PLAIN,
    PlainVector,
    SlotInput,
    SlotOp,
    SlotOutput,
    SlotProgram,
)

#: The power of the inputs' scale, and those of the primes, by the level whose rescale drops them.
Scale: TypeAlias = tuple[int, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a value: levels left, exact scale, parts, products not yet rescaled."""

    level: int
    scale: Scale = (1, ())
    parts: int = 2
    pending: int = 0


def times(one: Scale, other: Scale) -> Scale:
    """The product of two scales."""
    primes = dict(one[1])
    for level, power in other[1]:
        primes[level] = primes.get(level, 0) + power
    return one[0] + other[0], tuple(sorted((n, power) for n, power in primes.items() if power))


def prime(level: int, power: int = 1) -> Scale:
    """The prime that a rescale at that level drops, to a power."""
    return 0, ((level, power),)


def trace(program: SlotProgram) -> tuple[State, ...]:
    """The state of every value, in the order of their numbers.

    Raises:
        SlotError: an operation breaks a rule of CKKS, or names what is not there.
        LevelError: there is no level left to rescale.
    """
    _check_form(program)
    states = [State(program.levels)] * program.encrypted
    for op in program.ops:
        try:
            states += _states(op, states, program)
        except EinloomError as error:
            line = op.text(len(states)) if op.op in OP_NAMES else str(op)
            raise type(error)(error.message, passed=(line,), hint=error.hint) from None
    for output in program.outputs:
        for value in output.values:
            state = _of(value, states)
            if state.parts != 2 or state.pending:
                raise SlotError(
                    f"output {output.name} is not finished",
                    passed=(f"%{value}: {state.parts} parts, {state.pending} to rescale",),
                    hint="relinearize and rescale it",
                )
    return tuple(states)


def _check_form(program: SlotProgram) -> None:
    if program.slots < 1 or program.slots & (program.slots - 1):
        raise SlotError(f"the number of slots is a power of two, not {program.slots}")
    if program.levels < 0:
        raise LevelError(f"{program.name} has {program.levels} levels")
    ends: tuple[SlotInput | SlotOutput, ...] = (*program.inputs, *program.outputs)
    names = [each.name for each in ends]
    for name in names:
        if names.count(name) > 1:
            raise SlotError(f"{name} is the name of two inputs or outputs")
    for each in ends:
        layout = each.layout
        if layout is None:
            continue
        if layout.slots != program.slots:
            raise SlotError(
                f"{each.name} has vectors of {layout.slots} slots, the program of {program.slots}"
            )
        layout.table()
    for given in program.inputs:
        if given.layout is not None and given.layout.shape != given.shape:
            raise SlotError(
                f"{given.name} has shape {given.shape}, but its layout is of {given.layout.shape}"
            )
    for output in program.outputs:
        if len(output.values) != output.layout.vectors:
            raise SlotError(
                f"output {output.name} has {len(output.values)} values "
                f"for the {output.layout.vectors} vectors of its layout"
            )
    sizes = {each.name: math.prod(each.shape) for each in program.inputs if each.layout is None}
    for number, plain in enumerate(program.plains):
        _check_plain(number, plain, sizes, program.slots)


def _check_plain(number: int, plain: PlainVector, sizes: dict[str, int], slots: int) -> None:
    if not cmath.isfinite(plain.value):
        raise SlotError(f"plain {number} is not finite", passed=(str(plain),))
    for factor in plain.factors:
        if factor.tensor is not None and factor.tensor not in sizes:
            raise SlotError(f"plain {number} reads {factor.tensor}, which is no plaintext input")
        if any(count < 1 for box in factor.boxes for count, _, _ in box.steps):
            raise SlotError(f"plain {number} has a box without slots", passed=(str(plain),))
        for box in factor.boxes:
            low, high = _range(box.slot, [(count, stride) for count, stride, _ in box.steps])
            first, last = _range(box.element, [(count, step) for count, _, step in box.steps])
            if low < 0 or high >= slots:
                raise SlotError(
                    f"plain {number} has slots {low} to {high} of {slots}", passed=(str(plain),)
                )
            if factor.tensor is not None and (first < 0 or last >= sizes[factor.tensor]):
                raise SlotError(
                    f"plain {number} reads elements {first} to {last} "
                    f"of the {sizes[factor.tensor]} of {factor.tensor}",
                    passed=(str(plain),),
                )
        filled = [box.places()[0] for box in factor.boxes]
        if filled and len(np.unique(np.concatenate(filled))) < sum(map(len, filled)):
            raise SlotError(f"plain {number} fills a slot twice", passed=(str(plain),))


def _range(start: int, steps: list[tuple[int, int]]) -> tuple[int, int]:
    spans = [(count - 1) * stride for count, stride in steps]
    return start + sum(min(s, 0) for s in spans), start + sum(max(s, 0) for s in spans)


def _of(value: int, states: list[State]) -> State:
    if not 0 <= value < len(states):
        raise SlotError(f"%{value} is not defined here")
    return states[value]


def _states(op: SlotOp, states: list[State], program: SlotProgram) -> list[State]:
    """The states of what an operation gives."""
    if op.op not in OP_NAMES:
        raise SlotError(f"there is no operation {op.op!r}", hint=f"one of {', '.join(OP_NAMES)}")
    wanted = 2 if op.op in BINARY else 1
    if len(op.args) != wanted:
        raise SlotError(f"{op.op} takes {wanted} values, not {len(op.args)}")
    given = [_of(arg, states) for arg in op.args]
    one = given[0]
    if (op.plain is not None) != (op.op in PLAIN):
        raise SlotError(f"{op.op} takes {'a' if op.op in PLAIN else 'no'} plain vector")
    if op.plain is not None and not 0 <= op.plain < len(program.plains):
        raise SlotError(f"there is no plain {op.plain}")
    if op.like is not None and op.op != "mul_plain":
        raise SlotError(f"{op.op} does not change the scale to that of another value")
    if op.op == "rotate":
        return _rotated(op, one, program.slots)
    if op.op in ("add", "sub"):
        return [_added(op, one, given[1])]
    if op.op in ("mul", "mul_plain"):
        return [_multiplied(op, given, states)]
    if op.op == "relinearize":
        if one.parts != 3:
            raise SlotError("only a value of three parts is relinearized")
        return [State(one.level, one.scale, 2, one.pending)]
    if op.op in ("rescale", "mod_switch"):
        return [_dropped(op, one)]
    return [one]  # neg, add_plain


def _rotated(op: SlotOp, one: State, slots: int) -> list[State]:
    if one.parts != 2:
        raise SlotError("a value of three parts is not rotated", hint="relinearize it first")
    if not op.steps or any(step % slots == 0 or abs(step) >= slots for step in op.steps):
        raise SlotError(f"the steps of a rotation are not 0 and less than {slots}")
    return [one] * len(op.steps)


def _added(op: SlotOp, one: State, other: State) -> State:
    if one.level != other.level:
        raise SlotError(
            f"{op.op} of values at levels {one.level} and {other.level}", hint="mod_switch one"
        )
    if (one.scale, one.pending) != (other.scale, other.pending):
        raise SlotError(
            f"{op.op} of values of scales {show_scale(one.scale)} and {show_scale(other.scale)}",
            hint="multiply one by a plain vector like the other",
        )
    return State(one.level, one.scale, max(one.parts, other.parts), one.pending)


def _multiplied(op: SlotOp, given: list[State], states: list[State]) -> State:
    one = given[0]
    if any(state.pending for state in given):
        raise SlotError(f"{op.op} of a product that is not rescaled", hint="rescale it first")
    if op.op == "mul":
        other = given[1]
        if one.level != other.level:
            raise SlotError(
                f"mul of values at levels {one.level} and {other.level}", hint="mod_switch one"
            )
        if one.parts != 2 or other.parts != 2:
            raise SlotError("mul of a value of three parts", hint="relinearize it first")
        return State(one.level, times(one.scale, other.scale), 3, 1)
    scale = one.scale if op.like is None else _of(op.like, states).scale
    return State(one.level, times(scale, prime(one.level)), one.parts, 1)


def _dropped(op: SlotOp, one: State) -> State:
    if one.level == 0:
        raise LevelError(
            f"there is no level left to {op.op}", hint="encrypt with more levels, or rescale later"
        )
    if op.op == "mod_switch":
        return State(one.level - 1, one.scale, one.parts, one.pending)
    if not one.pending:
        raise SlotError("a value that no product has scaled up is not rescaled")
    scale = times(one.scale, prime(one.level, -1))
    return State(one.level - 1, scale, one.parts, one.pending - 1)


def show_scale(scale: Scale) -> str:
    """`S^2/q3`: the inputs' scale is S, the prime of level 3 is q3."""
    parts = [("S", scale[0]), *((f"q{level}", power) for level, power in scale[1])]
    above = [name + (f"^{p}" if p > 1 else "") for name, p in parts if p > 0]
    below = [name + (f"^{-p}" if p < -1 else "") for name, p in parts if p < 0]
    return "/".join([" ".join(above) or "1", *below])
