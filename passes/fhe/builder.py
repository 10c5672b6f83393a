"""Writes a SlotProgram operation by operation, keeping levels and parts in order by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir.layouts import Array, Layout
from ...ir.slots import Gather, PlainVector, SlotInput, SlotOp, SlotOutput, SlotProgram, boxes_of


@dataclass(frozen=True, slots=True)
class Sparse:
    """Elements of a plaintext tensor (1 where it is None) at some slots, 0 elsewhere.

    `slots` and `elements` are the bytes of arrays of i64: what a plan that is not taken would
    multiply by is compared, and never written as boxes.
    """

    tensor: str | None
    slots: bytes
    elements: bytes

    def gather(self, sketch: bool) -> Gather:
        """The same as a SlotProgram has it, or without the slots."""
        if sketch:
            return Gather(self.tensor, ())
        slots = np.frombuffer(self.slots, np.int64)
        elements = np.frombuffer(self.elements, np.int64) if self.elements else np.zeros_like(slots)
        return Gather(self.tensor, boxes_of(slots, elements))


@dataclass(frozen=True, slots=True)
class Plain:
    """A vector that is not encrypted: a number times a product of Sparse ones."""

    factors: tuple[Sparse, ...] = ()
    value: float | complex = 1.0

    def times(self, other: Plain) -> Plain:
        return Plain(self.factors + other.factors, self.value * other.value)

    def vector(self, sketch: bool = False) -> PlainVector:
        """The same as a SlotProgram has it, or without the slots."""
        return PlainVector(tuple(each.gather(sketch) for each in self.factors), self.value)


def ones_at(slots: Array) -> Plain:
    """1 at those slots, 0 elsewhere."""
    return Plain((Sparse(None, np.unique(slots).astype(np.int64).tobytes(), b""),))


def gathered(tensor: str, slots: Array, elements: Array) -> Plain:
    """Those elements, in C order, of a plaintext input at those slots."""
    order = np.argsort(slots, kind="stable")
    at, read = (each[order].astype(np.int64).tobytes() for each in (slots, elements))
    return Plain((Sparse(tensor, at, read),))


class Builder:
    """Values by number, and how many rescales each has behind it.

    Relinearisation and rescaling are lazy: a product is left as it is while it is added up, and is
    finished when it is rotated, multiplied, or given out: a rotation costs less a level further
    down, by more than the rescale of each giant step costs.
    """

    def __init__(self, name: str, slots: int, inputs: Sequence[SlotInput] = ()) -> None:
        self.name = name
        self.slots = slots
        self.inputs: dict[str, SlotInput] = {}
        self.plains: dict[Plain, int] = {}
        self.depth: list[int] = []
        self.parts: list[int] = []
        self.pending: list[bool] = []
        self._inputs: dict[str, tuple[int, ...]] = {}
        self._made: dict[SlotOp, int] = {}
        for each in inputs:
            self.input(each)

    def copy(self) -> Builder:
        """Another that has got as far, to try something with."""
        found = Builder(self.name, self.slots)
        found.inputs, found.plains = dict(self.inputs), dict(self.plains)
        found.depth, found.parts = list(self.depth), list(self.parts)
        found.pending, found._inputs = list(self.pending), dict(self._inputs)
        found._made = dict(self._made)
        return found

    def input(self, given: SlotInput) -> tuple[int, ...]:
        """The values of an input, none if it is plaintext; one that is there keeps its layout."""
        if given.name not in self.inputs:
            first = len(self.depth)
            self.inputs[given.name] = given
            self._inputs[given.name] = tuple(range(first, first + given.vectors))
            self._values(given.vectors, 0, 2, False)
        return self._inputs[given.name]

    def values_of(self, name: str) -> tuple[int, ...]:
        """The values of an encrypted input."""
        return self._inputs[name]

    # ---- operations

    def rotate(self, value: int, steps: Sequence[int]) -> list[int]:
        """The value turned left by each of the steps; by 0 it is itself."""
        value = self.finished(value)
        half = self.slots // 2
        turned = [(step + half) % self.slots - half for step in steps]
        wanted = tuple(dict.fromkeys(step for step in turned if step))
        found = {0: value}
        if wanted:
            first = self._emit(SlotOp("rotate", (value,), wanted), self.depth[value])
            found |= {step: first + number for number, step in enumerate(wanted)}
        return [found[step] for step in turned]

    def add(self, one: int, other: int) -> int:
        """The sum."""
        if self.pending[one] != self.pending[other]:
            one, other = self.finished(one), self.finished(other)
        one, other = self._level(one, other)
        parts = max(self.parts[one], self.parts[other])
        return self._emit(SlotOp("add", (one, other)), self.depth[one], parts, self.pending[one])

    def mul(self, one: int, other: int) -> int:
        """The product of two ciphertexts."""
        one, other = self._level(self.finished(one), self.finished(other))
        return self._emit(SlotOp("mul", (one, other)), self.depth[one], 3, True)

    def mul_plain(self, value: int, plain: Plain) -> int:
        """The product with a plain vector."""
        value = self.finished(value)
        number = self.plains.setdefault(plain, len(self.plains))
        return self._emit(
            SlotOp("mul_plain", (value,), plain=number), self.depth[value], pending=True
        )

    def finished(self, value: int) -> int:
        """The value with two parts, rescaled."""
        if self.parts[value] == 3:
            value = self._emit(
                SlotOp("relinearize", (value,)), self.depth[value], pending=self.pending[value]
            )
        if self.pending[value]:
            value = self._emit(SlotOp("rescale", (value,)), self.depth[value] + 1)
        return value

    def at_depth(self, value: int, depth: int) -> int:
        """The value brought down to so many levels below the inputs."""
        while self.depth[value] < depth:
            value = self._emit(
                SlotOp("mod_switch", (value,)),
                self.depth[value] + 1,
                self.parts[value],
                self.pending[value],
            )
        return value

    def _level(self, one: int, other: int) -> tuple[int, int]:
        depth = max(self.depth[one], self.depth[other])
        return self.at_depth(one, depth), self.at_depth(other, depth)

    def _emit(self, op: SlotOp, depth: int, parts: int = 2, pending: bool = False) -> int:
        if op not in self._made:
            self._made[op] = len(self.depth)
            self._values(op.results, depth, parts, pending)
        return self._made[op]

    def _values(self, count: int, depth: int, parts: int, pending: bool) -> None:
        self.depth += [depth] * count
        self.parts += [parts] * count
        self.pending += [pending] * count

    # ---- the program

    def program(
        self, outputs: Sequence[tuple[str, Layout, Sequence[int]]], sketch: bool = False
    ) -> SlotProgram:
        """The program that gives those values, with as many levels as it uses.

        Args:
            sketch: without what its plain vectors hold, to be counted only.
        """
        ends = [
            (name, layout, tuple(map(self.finished, values))) for name, layout, values in outputs
        ]
        # Inputs come first in a program, whenever they came here.
        number: dict[int, int] = {}
        for values in self._inputs.values():
            number |= {value: len(number) + n for n, value in enumerate(values)}
        for op, first in self._made.items():
            number |= {first + n: len(number) + n for n in range(op.results)}
        ops = tuple(
            replace(
                op,
                args=tuple(number[arg] for arg in op.args),
                like=None if op.like is None else number[op.like],
            )
            for op in self._made
        )
        made = tuple(
            SlotOutput(name, layout, tuple(number[value] for value in values))
            for name, layout, values in ends
        )
        plains = tuple(plain.vector(sketch) for plain in self.plains)
        levels = max(self.depth, default=0)
        return SlotProgram(
            self.name, self.slots, levels, tuple(self.inputs.values()), plains, ops, made
        )
