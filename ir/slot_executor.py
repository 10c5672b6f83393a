"""What a SlotProgram computes, exactly: NumPy vectors in the place of ciphertexts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, SlotError
from .layouts import Array
from .slot_verify import trace
from .slots import PlainVector, SlotInput, SlotOp, SlotOutput, SlotProgram


def execute(
    program: SlotProgram, inputs: Mapping[str, Any], garbage: np.random.Generator | None = None
) -> dict[str, Array]:
    """The outputs, each of its shape, f64 or c128.

    Args:
        inputs: an array for each input by name.
        garbage: fills the slots of inputs of which their layout says nothing; None: with zeros.

    Raises:
        SlotError, LevelError: the program breaks a rule, an array has another shape, or an output
            does not hold what its layout says: copies that differ, or no 0 where it says 0.
        ArgumentError: an input is missing.
    """
    trace(program)
    vectors = packed_inputs(program, inputs, garbage)
    ends = {value for output in program.outputs for value in output.values}
    every = enumerate(each_value(program, vectors, plain_inputs(program, inputs)))
    values = {number: value for number, value in every if number in ends}
    return {output.name: _unpacked(output, values) for output in program.outputs}


def _unpacked(output: SlotOutput, values: Mapping[int, Array]) -> Array:
    """The array that an output's vectors hold, once every slot that its layout speaks of agrees."""
    vectors = np.stack([values[value] for value in output.values])
    array = output.layout.unpack(vectors)
    error: Array = np.abs(vectors - output.layout.pack(array))
    said = (output.layout.table() >= 0) | output.layout.zero
    wrong = said & (error > 1e-9 * np.abs(vectors).max(initial=0.0))
    if wrong.any():
        vector, slot = (int(at[0]) for at in np.nonzero(wrong))
        raise SlotError(
            f"output {output.name} does not hold what its layout says in slot {slot} "
            f"of vector {vector}",
            deduced=(f"it holds {vectors[vector, slot]}",),
            passed=(f"output {output}",),
            hint="a mask is missing, or the layout should leave the rest open: zero=False",
        )
    return array


def packed_inputs(
    program: SlotProgram, inputs: Mapping[str, Any], garbage: np.random.Generator | None = None
) -> list[Array]:
    """The vectors of the encrypted inputs, in order; arguments and errors as for `execute`."""
    encrypted = [each for each in program.inputs if each.layout is not None]
    arrays = _arrays(encrypted, inputs)
    vectors: list[Array] = []
    for each in program.inputs:
        if each.layout is None:
            continue
        given = arrays[each.name]
        packed = each.layout.pack(given, np.complex128 if given.dtype.kind == "c" else np.float64)
        if garbage is not None and not each.layout.zero:
            noise = np.asarray(garbage.uniform(-9.0, 9.0, packed.size)).reshape(packed.shape)
            packed = np.where(each.layout.table() < 0, noise, packed)
        vectors += list(packed)
    return vectors


def plain_inputs(program: SlotProgram, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """The plaintext inputs by name; errors as for `execute`."""
    return _arrays([each for each in program.inputs if each.layout is None], inputs)


def _arrays(wanted: Sequence[SlotInput], inputs: Mapping[str, Any]) -> dict[str, Array]:
    missing = [each.name for each in wanted if each.name not in inputs]
    if missing:
        raise ArgumentError(f"no array is given for {', '.join(missing)}")
    arrays = {each.name: np.asarray(inputs[each.name]) for each in wanted}
    for each in wanted:
        shape = arrays[each.name].shape
        if shape != each.shape:
            raise SlotError(
                f"{each.name} has shape {each.shape}, and an array of {shape} was given"
            )
    return arrays


def each_value(
    program: SlotProgram, vectors: Sequence[Array], inputs: Mapping[str, Any]
) -> Iterator[Array]:
    """Every value in order, from the vectors of the encrypted inputs and the plaintext arrays.

    What no later operation reads is let go of: all values of a large program fit no memory.
    """
    yield from vectors
    values, made = dict(enumerate(vectors)), len(vectors)
    plains: dict[int, Array] = {}
    last = last_uses(program)
    last_plain = {op.plain: number for number, op in enumerate(program.ops)}
    for number, op in enumerate(program.ops):
        plain = None
        if op.plain is not None:
            plain = plains.pop(op.plain, None)
            if plain is None:
                plain = plain_vector(program.plains[op.plain], program.slots, inputs)
            if last_plain[op.plain] > number:
                plains[op.plain] = plain
        for value in applied(op, [values[arg] for arg in op.args], plain):
            values[made] = value
            made += 1
            yield value
        for dead in last.get(number, ()):
            del values[dead]


def last_uses(program: SlotProgram) -> dict[int, tuple[int, ...]]:
    """The values that an operation is the last to read, so that they need not be held longer."""
    last: dict[int, int] = {}
    made = program.encrypted
    for number, op in enumerate(program.ops):
        last |= dict.fromkeys(range(made, made + op.results), number)  # unless it is read later
        last |= dict.fromkeys(op.args, number)
        made += op.results
    for output in program.outputs:
        for value in output.values:
            last.pop(value, None)
    found: dict[int, tuple[int, ...]] = {}
    for value, number in last.items():
        found[number] = (*found.get(number, ()), value)
    return found


def plain_vector(plain: PlainVector, slots: int, inputs: Mapping[str, Any]) -> Array:
    """The vector of that many slots, of the plaintext inputs by name."""
    vector: Array = np.full(slots, plain.value)
    for factor in plain.factors:
        array = None if factor.tensor is None else np.asarray(inputs[factor.tensor]).reshape(-1)
        kind = np.complex128 if array is not None and array.dtype.kind == "c" else np.float64
        gathered: Array = np.zeros(slots, kind)
        for box in factor.boxes:
            places, elements = box.places()
            gathered[places] = 1 if array is None else array[elements]
        vector = vector * gathered
    return vector


def applied(op: SlotOp, args: Sequence[Array], plain: Array | None = None) -> list[Array]:
    """What an operation gives of the vectors that it reads, and its plain one."""
    one = args[0]
    if op.op == "rotate":
        return [np.roll(one, -step) for step in op.steps]
    if op.op == "add":
        return [one + args[1]]
    if op.op == "sub":
        return [one - args[1]]
    if op.op == "mul":
        return [one * args[1]]
    if op.op == "neg":
        return [-one]
    if plain is not None:
        return [one * plain if op.op == "mul_plain" else one + plain]
    return [one]  # relinearize, rescale, mod_switch change no value
