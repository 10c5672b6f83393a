"""Reads back the text that a LoopProgram prints as."""

from __future__ import annotations

from .loops import (
    ArrayAxis,
    Buffer,
    Check,
    LoopProgram,
    Nest,
    Parallel,
    Scratch,
    Size,
    Split,
    Stage,
    Sweep,
)
from .ranks import Quotient, RankExpr
from .statement_parser import StatementReader


def parse_loops(text: str) -> LoopProgram:
    """The program whose `str` is `text`.

    Raises:
        ParseError: `text` is not that of a LoopProgram; carets show where.
    """
    return _Parser(text).program()


class _Parser(StatementReader):
    def program(self) -> LoopProgram:
        self.expect("loops")
        name = self._name()
        self.expect("{")
        sizes: list[Size] = []
        arrays: dict[str, list[Buffer]] = {"input": [], "output": []}
        scratch: list[Scratch] = []
        checks: list[Check] = []
        stages: list[Stage] = []
        while not self._accept("}"):
            word = self._name()
            if word == "size":
                size = self._name()
                self.expect("=")
                sizes.append(Size(size, self._source()))
            elif word in arrays:
                arrays[word].append(self._array())
            elif word == "scratch":
                scratch.append(self._scratch())
            elif word == "check":
                for mark in ("0", "<="):
                    self.expect(mark)
                index = self._index()
                self.expect("<")
                extent = self._index()
                checks.append(Check(index, extent, self._names() if self._accept("over") else ()))
            elif word in ("nest", "parallel", "sweep"):
                stages.append(self._stage(word))
            else:
                self._fail(f"follows {word}, which begins nothing here")
        if self._peek():
            self._fail("stands after the end")
        inputs, outputs = tuple(arrays["input"]), tuple(arrays["output"])
        return LoopProgram(
            name, tuple(sizes), inputs, outputs, tuple(scratch), tuple(checks), tuple(stages)
        )

    def _stage(self, word: str) -> Stage:
        if word == "nest":
            return self._nest()
        return self._parallel() if word == "parallel" else self._sweep()

    def _nest(self) -> Nest:
        name = self._name()
        self.dtypes = {n: d for n, d in self.dtypes.items() if not n.startswith("%")}
        self.expect("width")
        return Nest(name, self._integer(), self._block())

    def _parallel(self) -> Parallel:
        splits = [self._split()]
        while self._accept(","):
            splits.append(self._split())
        self.expect("work")
        work = self._index()
        self.expect("{")
        scratch: list[Scratch] = []
        while self._accept("scratch"):
            scratch.append(self._scratch())
        nests: list[Nest] = []
        while not nests or not self._accept("}"):
            self.expect("nest")
            nests.append(self._nest())
        return Parallel(tuple(splits), work, tuple(scratch), tuple(nests))

    def _split(self) -> Split:
        variable = self._name()
        self.expect("by")
        return Split(variable, self._index(), self._accept("each"))

    def _sweep(self) -> Sweep:
        coordinate = self._name()
        self.expect("below")
        extent = self._index()
        self.expect("{")
        stages: list[Stage] = []
        while not self._accept("}"):
            word = self._peek()
            if word not in ("nest", "parallel", "sweep"):
                self._fail("begins no stage")
            stages.append(self._stage(self._next()))
        return Sweep(coordinate, extent, tuple(stages))

    def _source(self) -> ArrayAxis | RankExpr | Quotient:
        if self._accept("("):
            dividend = self._index()
            for mark in (")", "/", "("):
                self.expect(mark)
            divisor = self._index()
            for mark in (")", "+"):
                self.expect(mark)
            return Quotient(dividend, divisor, self._index().offset)
        if self._peek(1) == "." and self._peek(2).isdecimal():
            buffer = self._name()
            self.expect(".")
            return ArrayAxis(buffer, self._integer())
        return self._index()

    def _array(self) -> Buffer:
        name = self._name()
        self.expect("[")
        extents = self._index_list("]")
        self.expect(":")
        self.dtypes[name] = self._dtype()
        unit = self._integer() if self._accept("unit") else None
        return Buffer(name, extents, self.dtypes[name], unit)

    def _scratch(self) -> Scratch:
        name = self._name()
        self.expect(":")
        self.dtypes[name] = self._dtype()
        for mark in ("strides", "("):
            self.expect(mark)
        strides = self._index_list(")")
        for mark in ("elements", "("):
            self.expect(mark)
        return Scratch(name, self.dtypes[name], strides, self._index_list(")"))
