"""Writes a SlotProgram operation by operation, keeping levels and parts in order by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.layouts import Array, Layout
from ...ir.slots import (
    Gather,
    PlainVector,
    SlotInput,
    SlotOp,
    SlotOutput,
    SlotProgram,
    boxes_of,
)


class Builder:
    """Values by number, and how many rescales each has behind it.

    Relinearisation and rescaling are lazy: a product is left as it is while it is added up, and is
    finished when it is rotated, multiplied, or given out.
    """

    def __init__(self, name: str, slots: int, inputs: Sequence[SlotInput]) -> None:
        self.name = name
        self.slots = slots
        self.inputs = tuple(inputs)
        self.ops: list[SlotOp] = []
        self.plains: dict[PlainVector, int] = {}
        made = sum(each.vectors for each in inputs)
        self.depth = [0] * made
        self.parts = [2] * made
        self.pending = [False] * made
        self._made: dict[SlotOp, int] = {}

    def values_of(self, name: str) -> tuple[int, ...]:
        """The values of an encrypted input."""
        first = 0
        for each in self.inputs:
            if each.name == name:
                return tuple(range(first, first + each.vectors))
            first += each.vectors
        raise KeyError(name)

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

    def mul_plain(self, value: int, plain: PlainVector) -> int:
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
            self.ops.append(op)
            self.depth += [depth] * op.results
            self.parts += [parts] * op.results
            self.pending += [pending] * op.results
        return self._made[op]

    # ---- the program

    def program(self, outputs: Sequence[tuple[str, Layout, Sequence[int]]]) -> SlotProgram:
        """The program that gives those values, with as many levels as it uses."""
        made = tuple(
            SlotOutput(name, layout, tuple(map(self.finished, values)))
            for name, layout, values in outputs
        )
        levels = max(self.depth, default=0)
        plains = tuple(self.plains)
        return SlotProgram(
            self.name, self.slots, levels, self.inputs, plains, tuple(self.ops), made
        )


def ones_at(slots: Array) -> PlainVector:
    """1 at those slots, 0 elsewhere."""
    places = np.unique(slots)
    return PlainVector((Gather(None, boxes_of(places, np.zeros_like(places))),))
