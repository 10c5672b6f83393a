"""Writes a SlotProgram operation by operation, keeping levels and parts in order by itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal as OneOf

import numpy as np

from ...ir.layouts import Array, Layout
from ...ir.slot_verify import Scale, prime, times
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
    """1 at those slots, each given once, 0 elsewhere."""
    return Plain((Sparse(None, np.sort(slots).astype(np.int64).tobytes(), b""),))


def gathered(tensor: str, slots: Array, elements: Array) -> Plain:
    """Those elements, in C order, of a plaintext input at those slots."""
    order = np.argsort(slots, kind="stable")
    at, read = (each[order].astype(np.int64).tobytes() for each in (slots, elements))
    return Plain((Sparse(tensor, at, read),))


#: 1 in every slot.
_ONE = Plain()


class Builder:
    """Values by number, how many rescales each has behind it, and its exact scale.

    Relinearisation and rescaling are lazy: a product is left as it is while it is added up, and is
    finished when it is rotated, multiplied, or given out: a rotation costs less a level further
    down, by more than the rescale of each giant step costs. The primes of a scale are counted by
    the depth at which they are dropped. What is known to be 0 is left out of sums.

    Args:
        steady: whether values that go down levels, or are multiplied by plain vectors, get the
            scale that products of ciphertexts have there (Kim, Papadimitriou, Polyakov, CT-RSA
            2022), so that sums of unlike things take no level; where there are such products.
    """

    def __init__(
        self, name: str, slots: int, inputs: Sequence[SlotInput] = (), steady: bool = False
    ) -> None:
        self.name = name
        self.slots = slots
        self.inputs: dict[str, SlotInput] = {}
        self.plains: dict[Plain, int] = {}
        self.depth: list[int] = []
        self.parts: list[int] = []
        self.pending: list[bool] = []
        self.scale: list[Scale] = []
        self.steady = steady
        self.forced = 0
        self._steady: dict[int, int] = {}
        self._toward: int | None = None
        self._number: complex = 1
        self._inputs: dict[str, tuple[int, ...]] = {}
        self._made: dict[SlotOp, int] = {}
        self._zeros: set[int] = set()
        for each in inputs:
            self.input(each)

    def copy(self) -> Builder:
        """Another that has got as far, to try something with."""
        found = Builder(self.name, self.slots, steady=self.steady)
        found.forced, found._steady = self.forced, dict(self._steady)
        found.inputs, found.plains = dict(self.inputs), dict(self.plains)
        found.depth, found.parts = list(self.depth), list(self.parts)
        found.pending, found.scale = list(self.pending), list(self.scale)
        found._inputs, found._made = dict(self._inputs), dict(self._made)
        found._zeros = set(self._zeros)
        found._toward, found._number = self._toward, self._number
        return found

    def input(self, given: SlotInput) -> tuple[int, ...]:
        """The values of an input, none if it is plaintext; one that is there keeps its layout."""
        if given.name not in self.inputs:
            first = len(self.depth)
            self.inputs[given.name] = given
            self._inputs[given.name] = tuple(range(first, first + given.vectors))
            self._values(given.vectors, 0, 2, False, (1, ()))
        return self._inputs[given.name]

    def values_of(self, name: str) -> tuple[int, ...]:
        """The values of an encrypted input."""
        return self._inputs[name]

    @contextmanager
    def toward(self, like: int | None, number: complex = 1) -> Generator[None]:
        """Inside, plain vectors that are multiplied are so by a number, too.

        Products with them that end at the depth of `like` get its scale.
        """
        before = self._toward, self._number
        self._toward, self._number = like, number
        try:
            yield
        finally:
            self._toward, self._number = before

    def once(self, first: int, values: Sequence[int]) -> bool:
        """Whether each value is a sum of what was there before `first` times one plain vector."""
        products: dict[int, set[int]] = {}
        for op, made in self._made.items():
            if made >= first:
                found = {n for arg in op.args for n in products.get(arg, {0})}
                found = {n + (op.op == "mul_plain") for n in found}
                products |= dict.fromkeys(range(made, made + op.results), found)
        return all(products.get(value) == {1} for value in values)

    def end(self, value: int) -> int:
        """How many levels below the inputs the value will be, once it is rescaled."""
        return self.depth[value] + self.pending[value]

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
        """The sum; what has another scale is multiplied by 1 first, at a level that it passes."""
        return self._sum("add", one, other)

    def sub(self, one: int, other: int) -> int:
        """The difference, as for `add`."""
        return self._sum("sub", one, other)

    def neg(self, value: int) -> int:
        """The negative."""
        op = SlotOp("neg", (value,))
        return self._emit(op, self.depth[value], self.parts[value], self.pending[value])

    def add_plain(self, value: int, plain: Plain) -> int:
        """The sum with a plain vector."""
        op = SlotOp("add_plain", (value,), plain=self._numbered(plain))
        return self._emit(op, self.depth[value], self.parts[value], self.pending[value])

    def zero(self, like: int) -> int:
        """0 in every slot, as deep as that value."""
        return self._sum("sub", like, like)

    def mul(self, one: int, other: int) -> int:
        """The product of two ciphertexts."""
        one, other = sorted(self._level(self.finished(one), self.finished(other)))
        depth = self.depth[one]
        value = self._emit(SlotOp("mul", (one, other)), depth, 3, True)
        if self.steady and self.scale[one] == self.scale[other] == self._steady_scale(depth):
            self._steady.setdefault(depth + 1, value)
        return value

    def mul_plain(self, value: int, plain: Plain, like: int | None = None) -> int:
        """The product with a plain vector; once rescaled it has the scale of `like`."""
        value = self.finished(value)
        if self._number != 1:
            plain = replace(plain, value=plain.value * self._number)
        if like is None and self._toward is not None:
            like = self._toward if self.depth[self._toward] == self.depth[value] + 1 else None
        if like is None:
            like = self.reference(self.depth[value] + 1)
        if like is not None and self.scale[like] == self.scale[value]:
            like = None
        op = SlotOp("mul_plain", (value,), plain=self._numbered(plain), like=like)
        return self._emit(op, self.depth[value], pending=True)

    def scaled(self, value: int, number: complex, like: int | None = None) -> int:
        """The value times a number, by no more than a sign or one doubling without a level."""
        if like is None and number in (1, -1, 2, -2):
            value = self.add(value, value) if abs(number) == 2 else value
            return value if number in (1, 2) else self.neg(value)
        if like is not None:
            value = self.at_depth(self.finished(value), self.depth[like] - 1)
        return self.mul_plain(value, Plain((), number), like)

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
        like = None if self.depth[value] == depth else self.reference(depth)
        if like is not None and not self.pending[value] and self.scale[value] != self.scale[like]:
            return self.finished(self.mul_plain(self._down(value, depth - 1), _ONE, like))
        return self._down(value, depth)

    def reference(self, depth: int) -> int | None:
        """A value of the steady scale of a depth, rescaled."""
        if depth not in self._steady:
            return None
        self._steady[depth] = self.finished(self._steady[depth])
        return self._steady[depth]

    def _steady_scale(self, depth: int) -> Scale | None:
        if depth == 0:
            return (1, ())
        like = self.reference(depth)
        return None if like is None else self.scale[like]

    def _down(self, value: int, depth: int) -> int:
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

    def _sum(self, name: OneOf["add", "sub"], one: int, other: int) -> int:
        if other in self._zeros:
            return one
        if one in self._zeros:
            return other if name == "add" else self.neg(other)
        if self._state(one) != self._state(other):
            one, other = self._alike(self.finished(one), self.finished(other))
        parts = max(self.parts[one], self.parts[other])
        op = SlotOp(name, (one, other))
        return self._emit(op, self.depth[one], parts, self.pending[one])

    def _state(self, value: int) -> tuple[object, ...]:
        return self.depth[value], self.scale[value], self.pending[value]

    def _alike(self, one: int, other: int) -> tuple[int, int]:
        """Two finished values at one depth and scale, with one level more only if they must."""
        if self.depth[one] > self.depth[other]:
            other, one = self._alike(other, one)
            return one, other
        if self.scale[one] != self.scale[other]:
            self.forced += self.depth[one] == self.depth[other]
            deep = max(self.depth[other], self.depth[one] + 1)
            other = self._down(other, deep)
            one = self.mul_plain(self._down(one, deep - 1), _ONE, other)
        return self._level(self.finished(one), other)

    def _numbered(self, plain: Plain) -> int:
        return self.plains.setdefault(plain, len(self.plains))

    def _emit(self, op: SlotOp, depth: int, parts: int = 2, pending: bool = False) -> int:
        if op not in self._made:
            self._made[op] = first = len(self.depth)
            self._values(op.results, depth, parts, pending, self._scale(op))
            nothing = op.op == "sub" and op.args[0] == op.args[1]
            if nothing or (op.op != "add_plain" and self._zeros.intersection(op.args)):
                self._zeros.update(range(first, first + op.results))
        return self._made[op]

    def _values(self, count: int, depth: int, parts: int, pending: bool, scale: Scale) -> None:
        self.depth += [depth] * count
        self.parts += [parts] * count
        self.pending += [pending] * count
        self.scale += [scale] * count

    def _scale(self, op: SlotOp) -> Scale:
        """As `slot_verify.trace` has it."""
        first = op.args[0]
        if op.op == "mul":
            return times(self.scale[first], self.scale[op.args[1]])
        if op.op == "mul_plain":
            like = self.scale[first if op.like is None else op.like]
            return times(like, prime(self.depth[first]))
        if op.op == "rescale":
            return times(self.scale[first], prime(self.depth[first], -1))
        return self.scale[first]

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
        needed = self._needed({value for *_, values in ends for value in values})
        # Inputs come first in a program, whenever they came here.
        number: dict[int, int] = {}
        for values in self._inputs.values():
            number |= {value: len(number) + n for n, value in enumerate(values)}
        used: list[SlotOp] = []
        for op, first in self._made.items():
            results = [first + n for n in range(op.results) if first + n in needed]
            if results:
                kept = tuple(step for n, step in enumerate(op.steps) if first + n in needed)
                used.append(replace(op, steps=kept))
                number |= {value: len(number) + n for n, value in enumerate(results)}
        plains = sorted({op.plain for op in used if op.plain is not None})
        plain_at = {plain: n for n, plain in enumerate(plains)}
        ops = tuple(
            replace(
                op,
                args=tuple(number[arg] for arg in op.args),
                plain=None if op.plain is None else plain_at[op.plain],
                like=None if op.like is None else number[op.like],
            )
            for op in used
        )
        made = tuple(
            SlotOutput(name, layout, tuple(number[value] for value in values))
            for name, layout, values in ends
        )
        return SlotProgram(
            self.name,
            self.slots,
            max((self.depth[value] for value in number), default=0),
            tuple(self.inputs.values()),
            tuple(each.vector(sketch) for each, n in self.plains.items() if n in plain_at),
            ops,
            made,
        )

    def _needed(self, outputs: set[int]) -> set[int]:
        """The values that those depend on, themselves included."""
        found = set(outputs)
        for op, first in reversed(self._made.items()):
            if not found.isdisjoint(range(first, first + op.results)):
                found.update(op.args)
                found |= set() if op.like is None else {op.like}
        return found
