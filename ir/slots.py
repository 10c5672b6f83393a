"""The packed level, page two: what a program on encrypted vectors is.

    SlotProgram = name, slots, levels, inputs, plain vectors, operations, outputs
    PlainVector = value * product of Gathers           Gather = tensor (or ones), boxes
    SlotOp      = rotate | add | sub | neg | mul | mul_plain | add_plain
                | relinearize | rescale | mod_switch

Values are vectors of `slots` numbers, counted in the order in which they are made: first those of
the encrypted inputs, then what each operation gives. `rotate %0 by k` turns left: slot s of the
result is slot s+k of %0, cyclically; a rotation by several steps gives a value for each, and may
be hoisted. The operations are those of CKKS in residue number form, one for one (Cheon, Han, Kim,
Kim, Song, SAC 2018): every encrypted input has `levels` levels, a rescale takes one away.

`str(program)` prints a text that `slot_parser.parse_slots` reads back to an equal program;
`slot_verify.trace` says what must hold of it, `slot_executor.execute` what it computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf
from typing import TypeAlias, get_args

import numpy as np

from .layouts import Array, Layout
from .printer import print_number

OpName: TypeAlias = OneOf[
    "rotate",
    "add",
    "sub",
    "neg",
    "mul",
    "mul_plain",
    "add_plain",
    "relinearize",
    "rescale",
    "mod_switch",
]
OP_NAMES: tuple[str, ...] = get_args(OpName)
#: How many values an operation takes; the others take one.
BINARY = frozenset({"add", "sub", "mul"})
PLAIN = frozenset({"mul_plain", "add_plain"})


@dataclass(frozen=True, slots=True)
class Box:
    """Slots in arithmetic progressions, and the element of a tensor that each of them reads.

    The first slot is `slot` and reads `element`, counted in C order; each of `steps` is a count, a
    distance in slots and one in elements.
    """

    slot: int
    element: int = 0
    steps: tuple[tuple[int, int, int], ...] = ()

    def places(self) -> tuple[Array, Array]:
        """Every slot, and the element that it reads."""
        slots, elements = np.full(1, self.slot), np.full(1, self.element)
        for count, stride, step in self.steps:
            along = np.arange(count)
            slots = np.add.outer(slots, along * stride).reshape(-1)
            elements = np.add.outer(elements, along * step).reshape(-1)
        return slots, elements

    def text(self, reads: bool) -> str:
        """`3<-0+4:8<-1`, or `3+4:8` if no tensor is read."""
        parts = [(str(self.slot), self.element)]
        parts += [(f"{count}:{stride}", step) for count, stride, step in self.steps]
        return "+".join(f"{text}<-{step}" if reads else text for text, step in parts)


@dataclass(frozen=True, slots=True)
class Gather:
    """The elements of a plaintext input at some slots (1 where `tensor` is None), 0 elsewhere."""

    tensor: str | None
    boxes: tuple[Box, ...]

    def __str__(self) -> str:
        boxes = ", ".join(box.text(self.tensor is not None) for box in self.boxes)
        return f"{self.tensor or 'ones'}{{{boxes}}}"


@dataclass(frozen=True, slots=True)
class PlainVector:
    """A vector that is not encrypted: a number times a product of Gathers; alone, in every slot."""

    factors: tuple[Gather, ...] = ()
    value: float | complex = 1.0

    @property
    def constant(self) -> bool:
        """Whether it is the same in every run, so that it need be encoded only once."""
        return all(factor.tensor is None for factor in self.factors)

    def __str__(self) -> str:
        value = [] if self.factors and self.value == 1.0 else [print_number(self.value)]
        return " * ".join(value + [str(factor) for factor in self.factors])


@dataclass(frozen=True, slots=True)
class SlotOp:
    """One operation. `steps` are those of a rotation, `plain` is the number of a PlainVector.

    A plain vector that is multiplied is encoded at the scale of the prime that the next rescale
    drops, so that the scale of the value stays what it is; if `like` is a value, at the scale that
    gives the product, once rescaled, the scale of that value.
    """

    op: OpName
    args: tuple[int, ...]
    steps: tuple[int, ...] = ()
    plain: int | None = None
    like: int | None = None

    @property
    def results(self) -> int:
        """How many values it gives."""
        return len(self.steps) if self.op == "rotate" else 1

    def text(self, first: int) -> str:
        """One line; `first` is the number of the first value that it gives."""
        made = ", ".join(f"%{first + n}" for n in range(self.results))
        text = f"{made} = {self.op} {', '.join(f'%{arg}' for arg in self.args)}"
        if self.op == "rotate":
            text += f" by {', '.join(map(str, self.steps))}"
        if self.plain is not None:
            text += f", plain {self.plain}"
        return text if self.like is None else f"{text} like %{self.like}"


@dataclass(frozen=True, slots=True)
class SlotInput:
    """An input: encrypted, one value for each vector of its layout, or (None) plaintext."""

    name: str
    shape: tuple[int, ...]
    layout: Layout | None

    @property
    def vectors(self) -> int:
        """How many encrypted values it is."""
        return 0 if self.layout is None else self.layout.vectors

    def __str__(self) -> str:
        plain = f"plain [{','.join(map(str, self.shape))}]"
        return f"{self.name}: {plain if self.layout is None else self.layout}"


@dataclass(frozen=True, slots=True)
class SlotOutput:
    """An output: the values that are the vectors of its layout."""

    name: str
    layout: Layout
    values: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.layout} = {', '.join(f'%{value}' for value in self.values)}"


@dataclass(frozen=True, slots=True)
class SlotProgram:
    """A computation on encrypted vectors, operation by operation."""

    name: str
    slots: int
    levels: int
    inputs: tuple[SlotInput, ...]
    plains: tuple[PlainVector, ...]
    ops: tuple[SlotOp, ...]
    outputs: tuple[SlotOutput, ...]

    @property
    def encrypted(self) -> int:
        """How many values the encrypted inputs are."""
        return sum(each.vectors for each in self.inputs)

    def __str__(self) -> str:
        lines = [f"  input {each}" for each in self.inputs]
        lines += [f"  plain {number} = {plain}" for number, plain in enumerate(self.plains)]
        number = self.encrypted
        for op in self.ops:
            lines.append("  " + op.text(number))
            number += op.results
        lines += [f"  output {output}" for output in self.outputs]
        head = f"slots {self.name} in {self.slots} levels {self.levels} {{"
        return "\n".join([head, *lines, "}"])


def boxes_of(slots: Array, elements: Array) -> tuple[Box, ...]:
    """The fewest boxes that a greedy search finds for those slots, each with its element.

    >>> boxes_of(np.array([0, 1, 8, 9, 20]), np.zeros(5, int))
    (Box(slot=0, element=0, steps=((2, 8, 0), (2, 1, 0))), Box(slot=20, element=0, steps=()))
    """
    order = np.argsort(slots, kind="stable")
    boxes = [
        Box(slot, element)
        for slot, element in zip(slots[order].tolist(), elements[order].tolist(), strict=True)
    ]
    while True:
        merged = _runs(boxes)
        if len(merged) == len(boxes):
            return tuple(boxes)
        boxes = merged


def _runs(boxes: list[Box]) -> list[Box]:
    """Neighbours of one form at equal distances as one box."""
    merged: list[Box] = []
    at = 0
    while at < len(boxes):
        first = boxes[at]
        stop, stride, step = _run(boxes, at)
        if stop - at == 2 and _run(boxes, at + 1)[0] - at > 3:
            stop = at + 1  # a longer run begins at the second
        if stop - at == 1:
            merged.append(first)
        else:
            merged.append(Box(first.slot, first.element, ((stop - at, stride, step), *first.steps)))
        at = stop
    return merged


def _run(boxes: list[Box], at: int) -> tuple[int, int, int]:
    """Where the progression that begins at `at` ends, and its two distances."""
    first, stop = boxes[at], at + 1
    if stop == len(boxes) or boxes[stop].steps != first.steps:
        return stop, 0, 0
    stride, step = boxes[stop].slot - first.slot, boxes[stop].element - first.element
    while (
        stop < len(boxes)
        and boxes[stop].steps == first.steps
        and boxes[stop].slot - boxes[stop - 1].slot == stride
        and boxes[stop].element - boxes[stop - 1].element == step
    ):
        stop += 1
    return stop, stride, step
