"""Reads back the text that a SlotProgram, or a Layout, prints as."""

from __future__ import annotations

import re
from typing import cast

from .layouts import Layout, Piece
from .slots import (
    BINARY,
    OP_NAMES,
    PLAIN,
    Box,
    Gather,
    OpName,
    PlainVector,
    SlotInput,
    SlotOp,
    SlotOutput,
    SlotProgram,
)
from .tokens import TokenReader

_TOKEN = re.compile(
    r"[ \t]*(?:(?P<name>[^\W\d]\w*)|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<mark><-|[-+*=%\[\]{}(),:])|(?P<line>\n)|(?P<end>\Z))"
)


def parse_slots(text: str) -> SlotProgram:
    """The program whose `str` is `text`.

    Raises:
        ParseError: `text` is not that of a SlotProgram; carets show where.
    """
    return _Parser(text).program()


def parse_layout(text: str) -> Layout:
    """The layout whose `str` is `text`.

    Raises:
        ParseError: `text` is not that of a Layout; carets show where.

    >>> parse_layout("[4] in 8: d0 4:2 rest any")
    Layout(slots=8, shape=(4,), pieces=(Piece(extent=4, stride=2, steps=((0, 1),)),), offset=0, \
wrap=False, zero=False)
    """
    parser = _Parser(text)
    layout = parser.layout()
    parser.expect("")
    return layout


class _Parser(TokenReader):
    def __init__(self, text: str) -> None:
        super().__init__(text, _TOKEN)

    # ---- tokens

    def _name(self) -> str:
        if not re.fullmatch(r"[^\W\d]\w*", self._peek()):
            self._fail("is not a name")
        return self._next()

    def _integer(self) -> int:
        sign = -1 if self._accept("-") else 1
        if not self._peek().isdecimal():
            self._fail("is not an integer")
        return sign * int(self._next())

    def _integers(self) -> tuple[int, ...]:
        found = [self._integer()]
        while self._accept(","):
            found.append(self._integer())
        return tuple(found)

    def _shape(self) -> tuple[int, ...]:
        self.expect("[")
        shape = () if self._peek() == "]" else self._integers()
        self.expect("]")
        return shape

    def _value(self) -> int:
        self.expect("%")
        return self._integer()

    def _values(self) -> tuple[int, ...]:
        found = [self._value()]
        while self._accept(","):
            found.append(self._value())
        return tuple(found)

    # ---- layouts

    def layout(self) -> Layout:
        """A layout, as its text says it."""
        shape = self._shape()
        self.expect("in")
        slots = self._integer()
        self.expect(":")
        pieces: list[Piece] = []
        if not self._accept("one"):
            pieces.append(self._piece())
            while self._accept(","):
                pieces.append(self._piece())
        offset = self._integer() if self._accept("from") else 0
        wrap = self._accept("wrap")
        zero = True
        if self._accept("rest"):
            self.expect("any")
            zero = False
        return Layout(slots, shape, tuple(pieces), offset, wrap, zero)

    def _piece(self) -> Piece:
        steps: list[tuple[int, int]] = []
        if not self._accept("copy"):
            steps.append(self._step())
            while self._accept("+"):
                steps.append(self._step())
        extent = self._integer()
        self.expect(":")
        return Piece(extent, self._integer(), tuple(steps))

    def _step(self) -> tuple[int, int]:
        if not re.fullmatch(r"d\d+", self._peek()):
            self._fail("is not an axis: d0, d1, ... or copy")
        axis = int(self._next()[1:])
        return axis, self._integer() if self._accept("*") else 1

    # ---- plain vectors

    def _plain(self) -> PlainVector:
        value: float | complex = 1.0
        factors: list[Gather] = []
        if self._peek() in ("-", "complex") or self._peek()[:1].isdigit():
            value = self._number()
            if not self._accept("*"):
                return PlainVector((), value)
        factors.append(self._gather())
        while self._accept("*"):
            factors.append(self._gather())
        return PlainVector(tuple(factors), value)

    def _number(self) -> float | complex:
        if self._accept("complex"):
            self.expect("(")
            real = self._float()
            self.expect(",")
            number = complex(real, self._float())
            self.expect(")")
            return number
        return self._float()

    def _float(self) -> float:
        sign = -1.0 if self._accept("-") else 1.0
        if not self._peek()[:1].isdigit():
            self._fail("is not a number")
        return sign * float(self._next())

    def _gather(self) -> Gather:
        name = self._name()
        self.expect("{")
        # `ones{3<-0}` reads a tensor of that name
        reads = name != "ones" or self.tokens[min(self.at + 1, len(self.tokens) - 1)][0] == "<-"
        boxes: list[Box] = []
        while not self._accept("}"):
            if boxes:
                self.expect(",")
            boxes.append(self._box(reads))
        return Gather(name if reads else None, tuple(boxes))

    def _box(self, reads: bool) -> Box:
        slot = self._integer()
        element = self._element(reads)
        steps: list[tuple[int, int, int]] = []
        while self._accept("+"):
            count = self._integer()
            self.expect(":")
            stride = self._integer()
            steps.append((count, stride, self._element(reads)))
        return Box(slot, element, tuple(steps))

    def _element(self, reads: bool) -> int:
        if not reads:
            return 0
        self.expect("<-")
        return self._integer()

    # ---- the program

    def program(self) -> SlotProgram:
        """A whole program."""
        self.expect("slots")
        name = self._name()
        self.expect("in")
        slots = self._integer()
        self.expect("levels")
        levels = self._integer()
        self.expect("{", "\n")
        inputs: list[SlotInput] = []
        plains: list[PlainVector] = []
        ops: list[SlotOp] = []
        outputs: list[SlotOutput] = []
        made = 0
        while not self._accept("}"):
            if self._accept("input"):
                inputs.append(self._input())
                made += inputs[-1].vectors
            elif self._accept("plain"):
                if self._integer() != len(plains):
                    self._fail("follows a plain vector out of order")
                self.expect("=")
                plains.append(self._plain())
            elif self._peek() == "%":
                ops.append(self._op(made))
                made += ops[-1].results
            elif self._accept("output"):
                outputs.append(self._output())
            else:
                self._fail("begins nothing here")
            self.expect("\n")
        self._accept("\n")
        self.expect("")
        return SlotProgram(
            name, slots, levels, tuple(inputs), tuple(plains), tuple(ops), tuple(outputs)
        )

    def _input(self) -> SlotInput:
        name = self._name()
        self.expect(":")
        if self._accept("plain"):
            return SlotInput(name, self._shape(), None)
        layout = self.layout()
        return SlotInput(name, layout.shape, layout)

    def _output(self) -> SlotOutput:
        name = self._name()
        self.expect(":")
        layout = self.layout()
        self.expect("=")
        return SlotOutput(name, layout, self._values())

    def _op(self, first: int) -> SlotOp:
        start = self.at
        made = self._values()
        if made != tuple(range(first, first + len(made))):
            self.at = start
            self._fail(f"does not begin values counted from %{first}")
        self.expect("=")
        word = self._peek()
        if word not in OP_NAMES:
            self._fail("is not an operation")
        op = cast(OpName, self._next())
        args = [self._value()]
        if op in BINARY:
            self.expect(",")
            args.append(self._value())
        steps: tuple[int, ...] = ()
        if op == "rotate":
            self.expect("by")
            steps = self._integers()
        plain: int | None = None
        if op in PLAIN:
            self.expect(",", "plain")
            plain = self._integer()
        like = self._value() if self._accept("like") else None
        if len(made) != (len(steps) if op == "rotate" else 1):
            self._fail(f"ends an operation that does not give {len(made)} values")
        return SlotOp(op, tuple(args), steps, plain, like)
