"""What a traced function works with: expressions and tensors that know their text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn, cast

import numpy as np

from ..ir.dtypes import as_dtype
from ..ir.errors import ArgumentError, OperandError, ResolveError
from ..ir.operators import OPERATORS, Semiring
from ..ir.printer import PRECEDENCE, print_number
from ..ir.verify import RESERVED
from .recording import Line, current
from .scope import SIZE, VARIABLE

_COMPARISON, _UNARY, _PRIMARY = 1, 8, 9

#: NumPy's functions that are an operator of the table by their very formula.
_UFUNCS: dict[str, str] = {
    getattr(np, found[1]).__name__: row.name
    for row in OPERATORS.values()
    if (found := re.fullmatch(r"np\.(\w+)\([abc, ]+\)", row.formula))
}


class Expression:
    """A part of a right side: Python's operators on it write text of the language.

    `+ - * / // % ** & | ^ ~ << >>`, comparisons, `abs` and NumPy's own functions (`np.exp`) make
    larger expressions; so do the operators and reductions of `el.ops`. `over`, `where`, `typed`
    and `with_place` end a right side.
    """

    __slots__ = ("binds", "text")

    def __init__(self, text: str, binds: int = _PRIMARY) -> None:
        self.text = text
        self.binds = binds

    # ---- how a right side ends

    def over(self, semiring: str | Semiring) -> RightSide:
        """The right side over a semiring: what its infix + and * and its sum stand for."""
        return RightSide(self).over(semiring)

    def where(self, condition: Expression, otherwise: Any = None) -> RightSide:
        """The right side at the points at which a condition holds, else `otherwise`."""
        return RightSide(self).where(condition, otherwise)

    def typed(self, dtype: object) -> RightSide:
        """The right side accumulated and stored in a dtype."""
        return RightSide(self).typed(dtype)

    def with_place(self) -> tuple[RightSide, RightSide]:
        """A maximum or minimum and its place: `Y[p], I[p] = el.ops.max[m](X[m, p]).with_place()`"""
        return RightSide(self).with_place()

    # ---- operators

    def __add__(self, other: Any) -> Expression:
        return infix("+", self, other)

    def __radd__(self, other: Any) -> Expression:
        return infix("+", other, self)

    def __sub__(self, other: Any) -> Expression:
        return infix("-", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return infix("-", other, self)

    def __mul__(self, other: Any) -> Expression:
        return infix("*", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return infix("*", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return infix("/", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return infix("/", other, self)

    def __floordiv__(self, other: Any) -> Expression:
        return infix("//", self, other)

    def __rfloordiv__(self, other: Any) -> Expression:
        return infix("//", other, self)

    def __mod__(self, other: Any) -> Expression:
        return infix("%", self, other)

    def __rmod__(self, other: Any) -> Expression:
        return infix("%", other, self)

    def __and__(self, other: Any) -> Expression:
        return infix("&", self, other)

    def __rand__(self, other: Any) -> Expression:
        return infix("&", other, self)

    def __or__(self, other: Any) -> Expression:
        return infix("|", self, other)

    def __ror__(self, other: Any) -> Expression:
        return infix("|", other, self)

    def __xor__(self, other: Any) -> Expression:
        return infix("^", self, other)

    def __rxor__(self, other: Any) -> Expression:
        return infix("^", other, self)

    def __lshift__(self, other: Any) -> Expression:
        return infix("<<", self, other)

    def __rlshift__(self, other: Any) -> Expression:
        return infix("<<", other, self)

    def __rshift__(self, other: Any) -> Expression:
        return infix(">>", self, other)

    def __rrshift__(self, other: Any) -> Expression:
        return infix(">>", other, self)

    def __pow__(self, other: Any) -> Expression:
        return call("pow", self, other)

    def __rpow__(self, other: Any) -> Expression:
        return call("pow", other, self)

    def __neg__(self) -> Expression:
        return Expression("-" + written(self, _UNARY), _UNARY)

    def __invert__(self) -> Expression:
        return Expression("~" + written(self, _UNARY), _UNARY)

    def __abs__(self) -> Expression:
        return call("abs", self)

    def __lt__(self, other: Any) -> Expression:
        return infix("<", self, other)

    def __le__(self, other: Any) -> Expression:
        return infix("<=", self, other)

    def __gt__(self, other: Any) -> Expression:
        return infix(">", self, other)

    def __ge__(self, other: Any) -> Expression:
        return infix(">=", self, other)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return infix("==", self, other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return infix("!=", self, other)

    __hash__ = object.__hash__

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **options: Any) -> Expression:
        """NumPy's functions, and NumPy's scalars on the left of an operator."""
        name = _UFUNCS.get(ufunc.__name__)
        if name is None or method != "__call__" or options:
            raise OperandError(
                f"NumPy's {ufunc.__name__} does not know the traced {self.text}",
                hint="operators and reductions are in el.ops: el.ops.exp(x), el.ops.sum[m](x)",
            )
        symbol = OPERATORS[name].symbol
        if symbol is not None and len(args) == 2:
            return infix(symbol, *args)
        return -self if name == "neg" else ~self if name == "invert" else call(name, *args)

    # ---- what Python would do with a value, of which there is none yet

    def __bool__(self) -> NoReturn:
        raise OperandError(
            f"{self.text} is traced, so it is neither true nor false yet",
            hint="choose by el.ops.select(c, a, b), or filter by .where(c); conditions are "
            "combined by & | ~, a maximum is el.ops.max(a, b)",
        )

    def __iter__(self) -> Iterator[NoReturn]:
        raise OperandError(
            f"{self.text} is traced, so it cannot be gone through",
            hint="a variable stands for every coordinate: write X[m], and name a variable for "
            "each rank",
        )

    def __index__(self) -> NoReturn:
        raise OperandError(
            f"{self.text} is traced, so it is no number yet",
            hint="a size is known only when the cascade is called; a Python loop needs a number",
        )

    __int__ = __float__ = __complex__ = __index__

    def __repr__(self) -> str:
        return f"<traced {self.text}>"


class RightSide(Expression):
    """A right side with what follows the expression: semiring, filter, dtype."""

    __slots__ = ("_dtype", "_otherwise", "_ring", "_where", "expr", "value_of")

    def __init__(self, expr: Expression) -> None:
        super().__init__(expr.text, expr.binds)
        self.expr = expr
        self._ring = self._where = self._otherwise = self._dtype = ""
        self.value_of: RightSide | None = None  # of a place: the maximum that it is the place of

    def over(self, semiring: str | Semiring) -> RightSide:
        if isinstance(semiring, Semiring):
            current(f"the semiring {semiring.name}").use(semiring)
        elif not isinstance(semiring, str):
            raise OperandError(f"{semiring!r} is not a semiring", hint='.over("max_plus")')
        return self._with("_ring", f" over {semiring}")

    def where(self, condition: Expression, otherwise: Any = None) -> RightSide:
        made = self._with("_where", f" where {written(condition)}")
        if otherwise is not None:
            made = made._with("_otherwise", f" else {written(otherwise)}")
        return made

    def typed(self, dtype: object) -> RightSide:
        return self._with("_dtype", f": {as_dtype(dtype)}")

    def with_place(self) -> tuple[RightSide, RightSide]:
        place = RightSide(self.expr)
        place.value_of = self
        return self, place

    def _with(self, part: str, text: str) -> RightSide:
        made = RightSide(self.expr)
        made.value_of = self.value_of
        for name in ("_ring", "_where", "_otherwise", "_dtype"):
            setattr(made, name, text if name == part else getattr(self, name))
        return made

    @property
    def dtype(self) -> str:
        """`: f32`, or nothing."""
        return self._dtype

    def __str__(self) -> str:
        return f"{self.text}{self._ring}{self._where}{self._otherwise}"


class Tensor(Expression):
    """A tensor of a traced function: read as `X[m, 2*p + r]`, defined by `X[m] = ...`.

    A scalar is `G[()]`; read, it may be bare. An index is an integer, a variable, arithmetic on
    these and sizes, or a read of another tensor (a gather).
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}[]")
        self.name = name

    def __getitem__(self, indices: Any) -> Expression:
        return Expression(f"{self.name}[{index_text(indices)}]")

    def at(self, *indices: Any, fill: Any) -> Expression:
        """A read that is `fill` out of range: `X.at(p + r - 1, fill=0)`."""
        return Expression(f"{self.name}[{index_text(indices)} else {written(fill)}]")

    def __setitem__(self, indices: Any, value: Any) -> None:
        target = f"{self.name}[{index_text(indices)}]"
        found = current(f"{target} is defined")
        right = value if isinstance(value, RightSide) else RightSide(Expression(written(value)))
        target += right.dtype
        found.tensors.add(self.name)
        if right.value_of is None:
            found.lines.append(Line([target], str(right), right))
            return
        if not found.lines or found.lines[-1].value is not right.value_of:
            raise ArgumentError(
                "a maximum and its place are defined at once",
                hint="Y[p], I[p] = el.ops.max[m](X[m, p]).with_place()",
            )
        found.lines[-1].targets.append(target)


def variables(names: str) -> tuple[Expression, ...]:
    """Rank variables by name: `m, p = variables("m p")`; in an expression, their coordinates."""
    return tuple(Expression(name) for name in _names(names, VARIABLE, "variable is lower case"))


def sizes(names: str) -> tuple[Expression, ...]:
    """The sizes of ranks by name: `(E,) = sizes("E")`, for `/ el.ops.sqrt(E)`."""
    return tuple(Expression(name) for name in _names(names, SIZE, "rank is upper case"))


def tensors(names: str) -> tuple[Tensor, ...]:
    """Tensors to be defined, by name: `QK, AV = tensors("QK AV")`."""
    named = re.compile(r"[^\W\d]\w*\Z")
    return tuple(Tensor(name) for name in _names(names, named, "tensor is a word"))


def _names(text: str, pattern: re.Pattern[str], rule: str) -> list[str]:
    if not isinstance(text, str):
        raise OperandError(f"names are a text, not {text!r}", hint='variables("m p")')
    found = text.replace(",", " ").split()
    for name in found:
        if not pattern.match(name) or name in RESERVED:
            why = "it is a word of the language" if name in RESERVED else f"the name of a {rule}"
            raise ResolveError(f"{name} names nothing here: {why}")
    return found


# ---- text


def written(value: Any, level: int = 0) -> str:
    """An operand as text, in parentheses if it binds less than `level`.

    Raises:
        OperandError: it is neither traced nor a number.
    """
    if isinstance(value, RightSide):
        raise OperandError(
            f"{value} has ended its right side",
            hint=".over, .where, .typed and .with_place come last: (a + b).where(c)",
        )
    if isinstance(value, Expression):
        return value.text if value.binds >= level else f"({value.text})"
    # A NumPy scalar is a Python number, weak as every number of the language is.
    number = value
    if isinstance(value, np.generic):
        number = number.item()
    if not isinstance(number, bool | int | float | complex):
        raise OperandError(
            f"{type(number).__name__} has no place in a traced expression",
            hint="an array is an input: give it a parameter; numbers are Python's own",
        )
    text = print_number(number)
    return f"({text})" if text.startswith("-") and level > _UNARY else text


def infix(symbol: str, left: Any, right: Any) -> Expression:
    """`left symbol right`."""
    binds = PRECEDENCE[symbol]
    first = written(left, binds + (binds == _COMPARISON))
    return Expression(f"{first} {symbol} {written(right, binds + 1)}", binds)


def call(name: str, *args: Any) -> Expression:
    """`name(args)`."""
    return Expression(f"{name}({', '.join(map(written, args))})")


def index_text(indices: Any) -> str:
    """What stands in a bracket, one index or several."""
    given = cast("tuple[Any, ...]", indices if isinstance(indices, tuple) else (indices,))
    for index in given:
        if isinstance(index, slice) or index is ... or index is None:
            raise OperandError(
                "an index is a variable, arithmetic on variables and sizes, or a read",
                hint="a variable stands for every coordinate: X[m, p], not X[:, p]",
            )
    return ", ".join(map(written, given))
