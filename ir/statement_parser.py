"""The loop-nest level read from text: values, indices and statements (ir/loop_nodes.py)."""

from __future__ import annotations

import math
import re

from .dtypes import DTYPES, DType
from .loop_nodes import (
    ONE,
    TOTAL,
    Apply,
    Assign,
    Begin,
    Collapse,
    Contract,
    Convert,
    Fetch,
    Finish,
    Fold,
    If,
    Index,
    Load,
    Loop,
    LoopKind,
    LoopNest,
    Number,
    Pack,
    Packed,
    Past,
    Permute,
    Register,
    Special,
    Statement,
    Store,
    Value,
    When,
)
from .operators import OPERATORS
from .operators import Number as Scalar
from .ranks import RankExpr, Term
from .tokens import TokenReader

_NAME = r"[^\W\d][\w']*(?:\.[^\W\d][\w']*)*"
_TOKEN = re.compile(
    rf"\s*(?:(?P<name>{_NAME})|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<mark>\.\.|<=|[-+*/=<>()\[\]{},:%@&.])|(?P<end>\Z))"
)


class StatementReader(TokenReader):
    """Reads the statements of a nest."""

    def __init__(self, text: str) -> None:
        super().__init__(text, _TOKEN)
        self.dtypes: dict[str, DType] = {}  # of buffers, and of registers under %name

    # ---- tokens

    def _name(self) -> str:
        if not re.fullmatch(_NAME, self._peek()):
            self._fail("is not a name")
        return self._next()

    def _integer(self) -> int:
        if not self._peek().isdecimal():
            self._fail("is not an integer")
        return int(self._next())

    def _dtype(self) -> DType:
        if self._peek() not in DTYPES:
            self._fail("is not a dtype")
        return DTYPES[self._next()]

    def _names(self) -> tuple[str, ...]:
        names = [self._name()]
        while self._accept(","):
            names.append(self._name())
        return tuple(names)

    # ---- index expressions

    def _index(self) -> RankExpr:
        terms: list[Term] = []
        offset = 0
        sign = -1 if self._accept("-") else 1
        while True:
            coefficient, sizes, variable = sign, list[str](), None
            while True:
                if self._peek().isdecimal():
                    coefficient *= self._integer()
                else:
                    name = self._name()
                    if name[0].isupper():
                        sizes.append(name)
                    else:
                        variable = name
                if not self._accept("*"):
                    break
            if sizes or variable is not None:
                terms.append(Term(coefficient, tuple(sizes), variable))
            else:
                offset += coefficient
            if self._peek() not in ("+", "-"):
                return RankExpr(tuple(terms), offset)
            sign = -1 if self._next() == "-" else 1

    def _index_list(self, close: str) -> tuple[RankExpr, ...]:
        found: list[RankExpr] = []
        while not self._accept(close):
            if found:
                self.expect(",")
            found.append(self._index())
        return tuple(found)

    # ---- values

    def _value(self) -> Value:
        if self._accept("%"):
            name = self._name()
            if "%" + name not in self.dtypes:
                self._fail(f"follows the unknown register {name}")
            return Register(name, self.dtypes["%" + name])
        name = self._name()
        if self._accept("["):
            return self._load(name)
        self.expect("(")
        value: Value
        if name == "index":
            value = Index(self._index())
        elif name == "bitcast":
            dtype = self._dtype()
            self.expect(",")
            value = Convert(self._value(), dtype, bitcast=True)
        elif name in DTYPES:
            number = self._scalar()
            if number is None:
                value = Convert(self._value(), DTYPES[name])
            else:
                value = Number(number, DTYPES[name])
        elif name in OPERATORS:
            args = [self._value()]
            while self._accept(","):
                args.append(self._value())
            value = Apply(name, tuple(args))
        else:
            self._fail(f"follows {name}, which is neither a dtype nor an operator")
        self.expect(")")
        return value

    def _scalar(self) -> Scalar | None:
        """A number, if one stands here."""
        negative = self._peek() == "-"
        word = self._peek(1 if negative else 0)
        if word in ("inf", "nan", "true", "false", "complex"):
            if (self._peek(1 + negative) == "(") != (word == "complex"):
                return None
            if self._peek(1 + negative) == "[":
                return None
        elif not word[:1].isdigit():
            return None
        if negative:
            self._next()
        self._next()
        value: Scalar
        if word in ("true", "false"):
            return word == "true"
        if word == "complex":
            self.expect("(")
            real = self._scalar()
            self.expect(",")
            imaginary = self._scalar()
            self.expect(")")
            if not isinstance(real, float) or not isinstance(imaginary, float):
                self._fail("follows a part of a complex number that is no float")
            return complex(real, imaginary)
        if word in ("inf", "nan"):
            value = math.inf if word == "inf" else math.nan
        else:
            value = int(word) if word.isdecimal() else float(word)
        return -value if negative else value

    def _load(self, buffer: str) -> Load:
        if buffer not in self.dtypes:
            self._fail(f"follows the unknown buffer {buffer}")
        indices: list[RankExpr | Value] = []
        extents: list[RankExpr] = []
        fill: Number | None = None
        while not self._accept("]"):
            if self._accept("else"):
                found = self._value()
                if not isinstance(found, Number):
                    self._fail("follows a fill that is no number")
                fill = found
                continue
            if indices:
                self.expect(",")
            indices.append(self._value() if self._accept("@") else self._index())
            if self._accept("of"):
                extents.append(self._index())
        if extents and len(extents) < len(indices):
            self._fail(f"follows an index of {buffer} that does not say of what")
        return Load(buffer, tuple(indices), self.dtypes[buffer], tuple(extents), fill)

    # ---- statements

    def _block(self) -> tuple[Statement, ...]:
        self.expect("{")
        body: list[Statement] = []
        while not self._accept("}"):
            body.append(self._statement())
        return tuple(body)

    def _statement(self) -> Statement:
        if self._peek() == "%":
            return self._register_statement()
        name = self._name()
        if self._accept("["):
            indices = self._index_list("]")
            self.expect("=")
            return Store(name, indices, self._value())
        if name == "fetch":
            buffer = self._name()
            self.expect("[")
            return Fetch(buffer, self._index_list("]"))
        if name == "for":
            loops = [self._loop()]
            while self._accept(","):
                loops.append(self._loop())
            return LoopNest(tuple(loops), self._block())
        if name == "if":
            test = self._index()
            then = self._block()
            return If(test, then, self._block() if self._accept("else") else ())
        if name == "past":
            buffer, bytes_, by_lines = self._name(), self._integer(), self._accept("by")
            if by_lines:
                self.expect("lines")
            return Past(buffer, bytes_, self._block(), by_lines)
        if name == "when":
            return When(self._value(), self._block())
        if name == "special":
            sizes = [(self._name(), self._integer())]
            while self._accept(","):
                sizes.append((self._name(), self._integer()))
            return Special(tuple(sizes), self._block())
        if name == "contract":
            return self._contract()
        if name == "pack":
            return self._pack()
        if name == "permute":
            return self._permute()
        if name == "collapse":
            outer = self._name()
            self.expect("into")
            inner = self._name()
            self.expect("where")
            steps = [(self._name(), self._integer(), self._integer())]
            while self._accept(","):
                steps.append((self._name(), self._integer(), self._integer()))
            return Collapse(outer, inner, tuple(steps))
        return self._fail(f"follows {name}, which begins no statement")

    def _contract(self) -> Contract:
        buffer = self._name()
        self.expect("[")
        indices = self._index_list("]")
        op = self._name()
        self.expect("=")
        value = self._value()
        self.expect("else")
        empty = self._number()
        near = self._accept("near")
        self.expect("depth")
        depth = self._names()
        batch = self._names() if self._accept("batch") else ()
        self.expect("rows")
        rows = self._packed()
        self.expect("columns")
        columns = self._packed()
        finish = self._finish(value.dtype) if self._accept("finish") else None
        self.expect("tile")
        height = self._integer()
        self.expect("by")
        vectors = self._integer()
        self.expect("block")
        tall = self._integer()
        self.expect("by")
        deep = self._integer()
        self.expect("by")
        wide = self._integer()
        self.expect("tables")
        offsets = self._name()
        self.expect(",")
        runs = self._name()
        blocks = (height, vectors, tall, deep, wide)
        made = (buffer, indices, op, value, empty, rows, columns, depth, batch)
        return Contract(*made, *blocks, offsets, runs, finish, near)

    def _pack(self) -> Pack:
        packed = self._packed()
        self.expect("depth")
        depth = self._names()
        batch = self._names() if self._accept("batch") else ()
        self.expect("tile")
        vectors = self._integer()
        self.expect("tables")
        offsets = self._name()
        self.expect(",")
        return Pack(packed, depth, batch, vectors, offsets, self._name())

    def _finish(self, dtype: DType) -> Finish:
        buffer = self._name()
        self.expect("[")
        indices = self._index_list("]")
        op = None if self._peek() == "=" else self._name()
        self.expect("=")
        self.dtypes["%" + TOTAL] = dtype
        return Finish(buffer, indices, self._value(), op)

    def _permute(self) -> Permute:
        buffer = self._name()
        self.expect("[")
        indices = self._index_list("]")
        self.expect("=")
        value = self._value()
        if not isinstance(value, Load):
            self._fail("follows what is no element of a buffer")
        self.expect("loops")
        loops = self._names()
        self.expect("rows")
        rows = self._name()
        self.expect("columns")
        columns = self._name()
        wraps = self._name() if self._accept("wraps") else None
        self.expect("streamed")
        made = (buffer, indices, value, loops, rows, columns, wraps, self._integer())
        self.expect("block")
        tall = self._integer()
        self.expect("by")
        wide = self._integer()
        self.expect("in")
        return Permute(*made, self._name(), tall, wide)

    def _packed(self) -> Packed:
        variables = self._names()
        self.expect("of")
        value = self._value()
        lying = self._accept("or")
        self.expect("in")
        buffer = self._name()
        at = self._index_list("]") if self._accept("[") else None
        return Packed(value, variables, buffer, at, lying)

    def _number(self) -> Number:
        value = self._value()
        if not isinstance(value, Number):
            self._fail("follows what is no number")
        return value

    def _register_statement(self) -> Statement:
        self.expect("%")
        register = self._name()
        if self._accept(":"):
            dtype = self._dtype()
            self.expect("begins")
            op = self._name()
            over = self._names() if self._accept("over") else ()
            self.expect("else")
            empty = self._number()
            self.dtypes["%" + register] = dtype
            return Begin(register, dtype, op, over, empty)
        if self._accept("="):
            value = self._value()
            self.dtypes.setdefault("%" + register, value.dtype)
            return Assign(register, value)
        op = self._name()
        self.expect("=")
        value = self._value()
        return Fold(register, op, value, self._value() if self._accept("where") else None)

    def _loop(self) -> Loop:
        variable = self._name()
        self.expect("in")
        start = self._index()
        self.expect("..")
        stop = self._index()
        bounds: list[RankExpr] = []
        if self._accept("below"):
            bounds.append(self._index())
            while self._accept("&"):
                bounds.append(self._index())
        step = self._index() if self._accept("step") else ONE
        kind: LoopKind = "serial"
        if self._accept("unroll"):
            kind = "unroll"
        elif self._accept("vector"):
            kind = "vector"
        return Loop(variable, start, stop, tuple(bounds), step, kind, self._accept("once"))

    # ---- the program
