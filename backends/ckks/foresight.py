"""What is known of a run before it: the parameters that it takes, and what its values will be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir.errors import LevelError, SlotError
from ...ir.slot_executor import each_value, plain_inputs
from ...ir.slot_verify import trace
from ...ir.slots import OpName, SlotOp, SlotProgram
from .engine import Ciphertext
from .params import Parameters
from .rules import product_scale


@dataclass(frozen=True, slots=True)
class Made:
    """What a value of a program was on an engine: never what it held."""

    level: int
    scale: float
    size: int


def parameters_for(
    program: SlotProgram,
    *,
    precision: int = 20,
    magnitude: float = 1.0,
    insecure: bool = False,
) -> Parameters:
    """The smallest secure parameters with the slots and levels of a program.

    Args:
        precision: bits after the binary point that an operation's noise leaves right.
        magnitude: the largest absolute value of any slot, on the way too.
        insecure: takes the smallest ring, whatever its security.

    Raises:
        ArgumentError: no ring is large enough.
    """
    return Parameters.choose(
        slots=program.slots,
        depth=program.levels,
        precision=precision,
        magnitude=magnitude,
        insecure=insecure,
    )


def largest(program: SlotProgram, given: float = 1.0) -> float:
    """What no slot exceeds on the way, whatever inputs of at most `given` in absolute value."""
    inputs = {each.name: np.full(each.shape, given) for each in program.inputs}
    vectors = [
        np.where((vector >= 0) | (not each.layout.zero), given, 0.0)
        for each in program.inputs
        if each.layout is not None
        for vector in each.layout.table()
    ]
    values = each_value(_unsigned(program), vectors, plain_inputs(program, inputs))
    return max((float(np.abs(each).max(initial=1.0)) for each in values), default=1.0)


def _unsigned(program: SlotProgram) -> SlotProgram:
    """The program with nothing that takes away: what it gives for absolute values is a bound."""
    names: dict[OpName, OpName] = {"sub": "add", "neg": "mod_switch"}  # that changes no value
    ops = tuple(replace(op, op=names.get(op.op, op.op)) for op in program.ops)
    plains = tuple(replace(plain, value=abs(plain.value)) for plain in program.plains)
    return replace(program, ops=ops, plains=plains)


def predicted(program: SlotProgram, parameters: Parameters) -> tuple[Made, ...]:
    """What each value will be by the rules alone, with the very scales that engines come to.

    Those are floats, computed as SEAL does, operation by operation: where `trace` finds two scales
    equal they are so within a rounding. In exact numbers a scale would take twice the digits after
    each squaring.

    Raises:
        SlotError, LevelError: the program breaks a rule, or needs more slots or levels; squarings
            one after another, each of which doubles how far a scale is from its prime, have taken
            a scale out of bounds.
    """
    states, number = trace(program), program.encrypted
    check_fits(program, parameters)
    found = [Made(program.levels, parameters.scale, 2)] * number
    for op in program.ops:
        state = states[number]
        scale = _scale_after(program, op, found, parameters)
        found += [Made(state.level, scale, state.parts)] * op.results
        number += op.results
    return tuple(found)


def _scale_after(
    program: SlotProgram, op: SlotOp, made: Sequence[Made], parameters: Parameters
) -> float:
    """The scale of what an operation gives, from what the values before it are."""
    one = made[op.args[0]]
    if op.op == "rescale":
        return one.scale / parameters.primes[one.level]
    if op.op not in ("mul", "mul_plain"):
        return one.scale
    if op.op == "mul":
        other = made[op.args[1]].scale
    else:
        like = one if op.like is None else made[op.like]
        other = factor_scale(one, like.scale, parameters)
    try:
        product_scale(parameters, one.level, one.scale, other)
    except LevelError as error:
        raise LevelError(
            f"{program.name} runs out of bounds: {error.message}",
            deduced=error.deduced,
            passed=(op.text(len(made)),),
            hint="each product of two values doubles how far their scales are from the primes: "
            "decrypt after fewer of them, or ask for more precision, whose primes are closer",
        ) from None
    return one.scale * other


def factor_scale(factor: Ciphertext | Made, wanted: float, parameters: Parameters) -> float:
    """The scale of a plain factor with which the product, once rescaled, has the wanted scale.

    It is the prime, within a rounding: (a·q)/q is not always a, and sums need one scale.
    """
    prime = float(parameters.primes[factor.level])
    about = prime if wanted == factor.scale else wanted * prime / factor.scale
    tried = (about, math.nextafter(about, math.inf), math.nextafter(about, 0.0))
    return next((each for each in tried if factor.scale * each / prime == wanted), about)


def check_fits(program: SlotProgram, parameters: Parameters) -> None:
    """An engine has the slots and levels of a program.

    Raises:
        SlotError, LevelError: it has not.
    """
    if program.slots > parameters.slots:
        raise SlotError(
            f"{program.name} has {program.slots} slots, the engine {parameters.slots}",
            hint="parameters_for(program) chooses large enough ones",
        )
    if program.levels > parameters.top_level:
        raise LevelError(
            f"{program.name} needs {program.levels} levels, the engine has {parameters.top_level}",
            hint="parameters_for(program) chooses enough of them",
        )
