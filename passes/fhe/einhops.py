"""EinHops' packing (arXiv 2507.07972), step by step as it is written there.

One ciphertext for each tensor, every axis padded to a power of two, the contracted variables
outermost: simple, and the measure of what einloom's own packing saves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...ir.einsum import Access
from ...ir.errors import SlotError, UnsupportedError
from ...ir.layouts import Array, padded, row_major
from ...ir.slots import SlotInput, SlotProgram
from .addresses import places
from .builder import Builder, Plain, gathered, ones_at
from .moves import shifted
from .problem import Problem, check_extents

#: A value on the way: a ciphertext's number, or a plain vector.
Operand = int | Plain


def einhops(problem: Problem, slots: int) -> SlotProgram:
    """The SlotProgram of a product, by EinHops' six steps.

    Raises:
        UnsupportedError: a variable is repeated or broadcast, which EinHops gets wrong in silence,
            or goes over a part of an axis alone.
        SlotError: all padded variables together do not fit the slots.
    """
    terms, output = _validated(problem)  # 1
    # 2. The variables that are summed, then those of the output; padded to powers of two.
    everywhere = dict.fromkeys(v for term in terms for v in term)
    reduced = [v for v in everywhere if v not in output]
    order = [*reduced, *output]
    extents = {v: padded(problem.sizes[v], "power") for v in order}
    strides = _strides(order, extents)
    needed = math.prod(extents.values())
    if needed > slots:
        raise SlotError(
            f"{needed} slots are needed, and there are {slots}",
            deduced=tuple(f"{v}: {problem.sizes[v]}, padded to {n}" for v, n in extents.items()),
            hint="EinHops has one ciphertext for each tensor",
        )
    build = Builder(problem.name, slots, _inputs(problem, slots))
    operands = [
        _matched(build, problem, factor, variables, extents, strides)  # 3
        for factor, variables in zip(problem.factors, terms, strict=True)
    ]
    value = _product(build, operands)  # 4
    for v in reversed(reduced):  # 5
        value = _doubled(build, value, strides[v], extents[v])
    shape = problem.shapes[problem.output.tensor]
    layout = row_major(shape, slots, "power")
    value = build.mul_plain(value, ones_at(layout.addresses()))  # 6
    return build.program([(problem.output.tensor, layout, [value])])


def _validated(problem: Problem) -> tuple[list[list[str]], list[str]]:
    """The variables of each factor and of the output."""
    terms: list[list[str]] = []
    for access in (*problem.factors, problem.output):
        variables = access.plain
        repeated = variables is not None and len(set(variables)) < len(variables)
        if variables is None or repeated:
            what = "repeats a variable" if repeated else "is broadcast or indexed"
            raise UnsupportedError(
                f"{access.tensor} {what}: EinHops would give a wrong result",
                span=access.span,
                passed=(f"shape: {problem.shapes[access.tensor]}",),
            )
        shape = problem.shapes[access.tensor]
        for v, length in zip(variables, shape, strict=True):
            if problem.sizes[v] != length:
                raise UnsupportedError(
                    f"{v} goes over {problem.sizes[v]} of the {length} of {access.tensor}: "
                    "EinHops reads whole axes",
                    span=access.span,
                    passed=(f"shape: {shape}",),
                )
        terms.append(list(variables))
    output = terms.pop()
    missing = [v for v in output if not any(v in term for term in terms)]
    if missing:
        raise UnsupportedError(f"EinHops has no output variable that no input has: {missing}")
    check_extents(problem)
    return terms, output


def _strides(order: Sequence[str], extents: dict[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    stride = 1
    for v in reversed(order):
        found[v] = stride
        stride *= extents[v]
    return found


def _inputs(problem: Problem, slots: int) -> list[SlotInput]:
    found: list[SlotInput] = []
    for name in problem.inputs:
        shape = problem.shapes[name]
        layout = row_major(shape, slots, "power") if name in problem.encrypted else None
        found.append(SlotInput(name, shape, layout))
    return found


def _matched(
    build: Builder,
    problem: Problem,
    factor: Access,
    variables: list[str],
    extents: dict[str, int],
    strides: dict[str, int],
) -> Operand:
    """3. The operand in the order of all variables, with copies along those that it has not."""
    missing = [v for v in strides if v not in variables]
    if factor.tensor not in problem.encrypted:
        return _gathered(problem, factor, variables, missing, strides)
    source = _strides(variables, extents)
    (value,) = build.values_of(factor.tensor)
    moved, came = (places([(extents[v], of[v]) for v in variables]) for of in (strides, source))
    if not np.array_equal(moved, came):
        value = _permuted(build, value, came, moved)
    for v in reversed(missing):
        value = _doubled(build, value, -strides[v], extents[v])
    return value


def _gathered(
    problem: Problem,
    factor: Access,
    variables: list[str],
    missing: list[str],
    strides: dict[str, int],
) -> Plain:
    """A plaintext operand is permuted and copied before it is encoded."""
    order = [*variables, *missing]
    slots = places([(problem.sizes[v], strides[v]) for v in order])
    sizes = dict(problem.sizes)
    rows = _strides(variables, sizes)
    elements = places([(problem.sizes[v], rows.get(v, 0)) for v in order])
    return gathered(factor.tensor, slots, elements)


def _permuted(build: Builder, value: int, came: Array, moved: Array) -> int:
    """Baby-step giant-step: sum over g of rot(sum over b of mask * rot(x, b), g)."""
    slots = build.slots
    babies = 1 << -(-(slots.bit_length() - 1) // 2)
    shift = (came - moved) % slots
    baby, giant = shift % babies, shift - shift % babies
    return shifted(build, value, moved, baby, giant)


def _doubled(build: Builder, value: int, stride: int, extent: int) -> int:
    """The sum along a stride, or copies against it: log2 of the extent rotations."""
    while extent > 1:
        (turned,) = build.rotate(value, [stride])
        value = build.add(build.finished(value), turned)
        stride, extent = 2 * stride, extent // 2
    return value


def _product(build: Builder, operands: list[Operand]) -> int:
    """4. A balanced tree of products."""
    while len(operands) > 1:
        pairs = [operands[at : at + 2] for at in range(0, len(operands), 2)]
        operands = [_multiplied(build, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    (value,) = operands
    if isinstance(value, Plain):
        raise UnsupportedError("no factor is encrypted")
    return value


def _multiplied(build: Builder, one: Operand, other: Operand) -> Operand:
    if isinstance(one, Plain):
        if isinstance(other, Plain):
            return one.times(other)
        return build.mul_plain(other, one)
    return build.mul_plain(one, other) if isinstance(other, Plain) else build.mul(one, other)
