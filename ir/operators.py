"""THE table of operators and semirings: one row each, read by every room.

A row gives the operator's name, its infix symbol if it has one, its formula, the identity of a
reduction by it, and its laws. The *formula* is NumPy text over the operands `a`, `b`, `c`; it is
the operator's definition: the interpreter evaluates it and the NumPy backend prints it. Where NumPy
refuses signed integers, they have a formula of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from .dtypes import DType, of_numpy, resolve_bf16, settle
from .dtypes import Number as Number
from .errors import OperandError, UnsupportedError
from .expr import PLACES, Law, Op, UserOperator

INF = float("inf")


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator on scalars.

    `identity` is the value of a reduction of nothing (None: it cannot reduce). `laws` hold on
    every dtype that the operator takes, in floating point up to rounding. `distributes_over`
    names the operators `+` with a*(b+c) = a*b + a*c.
    """

    name: str
    arity: int
    formula: str  # a call, or an operand: indices may follow it
    symbol: str | None = None
    identity: Number | None = None
    laws: frozenset[Law] = frozenset()
    distributes_over: frozenset[str] = frozenset()
    reduction: str | None = None  # the reduction's name where it is not the operator's own
    on_signed: str | None = None  # the formula on integers whose common type is a signed one

    @property
    def reference(self) -> Callable[..., Any]:
        """The operator on NumPy arrays and scalars: its formula, as a function."""
        if self.on_signed is None:
            return _function(self.formula, self.arity)
        return lambda *args: _function(self.formula_on(*args), self.arity)(*args)

    def formula_on(self, *operands: Any) -> str:
        """The formula for such operands: arrays, NumPy dtypes or Python numbers."""
        if self.on_signed is None or any(np.result_type(o).kind not in "biu" for o in operands):
            return self.formula
        return self.on_signed if np.result_type(*operands).kind == "i" else self.formula

    @property
    def reducible(self) -> bool:
        return self.identity is not None


@cache
def _function(formula: str, arity: int) -> Callable[..., Any]:
    parameters = ", ".join("abc"[:arity])
    scope: dict[str, Any] = {"np": np, "math": math}
    return eval(f"lambda {parameters}: {formula}", scope)  # type: ignore[no-any-return]


_C: frozenset[Law] = frozenset({"commutative"})
_CA: frozenset[Law] = frozenset({"commutative", "associative"})
_CAI: frozenset[Law] = frozenset({"commutative", "associative", "idempotent"})
_OVER_ADD = frozenset({"add"})

_ROWS = (
    # name, arity, formula, symbol, identity, laws, distributes over, reduction
    Operator("add", 2, "np.add(a, b)", "+", 0, _CA, frozenset({"max", "min", "logaddexp"}), "sum"),
    Operator("sub", 2, "np.subtract(a, b)", "-"),
    Operator("mul", 2, "np.multiply(a, b)", "*", 1, _CA, _OVER_ADD, "prod"),
    Operator("div", 2, "np.true_divide(a, b)", "/"),
    Operator("floordiv", 2, "np.floor_divide(a, b)", "//"),
    Operator("mod", 2, "np.remainder(a, b)", "%"),
    Operator("neg", 1, "np.negative(a)"),
    Operator("eq", 2, "np.equal(a, b)", "==", None, _C),
    Operator("ne", 2, "np.not_equal(a, b)", "!=", None, _C),
    Operator("lt", 2, "np.less(a, b)", "<"),
    Operator("le", 2, "np.less_equal(a, b)", "<="),
    Operator("gt", 2, "np.greater(a, b)", ">"),
    Operator("ge", 2, "np.greater_equal(a, b)", ">="),
    Operator("and", 2, "np.bitwise_and(a, b)", "&", -1, _CAI, frozenset({"or", "xor"}), "all"),
    Operator("or", 2, "np.bitwise_or(a, b)", "|", 0, _CAI, frozenset({"and"}), "any"),
    Operator("xor", 2, "np.bitwise_xor(a, b)", "^", 0, _CA),
    Operator("invert", 1, "np.invert(a)", "~"),
    Operator("shl", 2, "np.left_shift(a, b)", "<<"),
    Operator("shr", 2, "np.right_shift(a, b)", ">>"),
    Operator("max", 2, "np.maximum(a, b)", None, -INF, _CAI, frozenset({"min"})),
    Operator("min", 2, "np.minimum(a, b)", None, INF, _CAI, frozenset({"max"})),
    Operator("logaddexp", 2, "np.logaddexp(a, b)", None, -INF, _CA),
    # 1 / a**-b, cut to an integer: 0 unless a is 1 or -1.
    Operator(
        "pow",
        2,
        "np.power(a, b)",
        on_signed="np.power("
        "np.where(np.less(b, 0), np.equal(np.abs(a), 1) * a, a), "
        "np.where(np.less(b, 0), 2 - b % 2, b)"
        ").astype(np.result_type(a, b))",
    ),
    Operator("exp", 1, "np.exp(a)"),
    Operator("exp2", 1, "np.exp2(a)"),
    Operator("expm1", 1, "np.expm1(a)"),
    Operator("log", 1, "np.log(a)"),
    Operator("log1p", 1, "np.log1p(a)"),
    Operator("sqrt", 1, "np.sqrt(a)"),
    Operator("rsqrt", 1, "np.true_divide(1, np.sqrt(a))"),
    Operator("tanh", 1, "np.tanh(a)"),
    # Of a power below 1, however far a is from 0; fabs is that of floats, which no integer wraps.
    Operator(
        "sigmoid",
        1,
        "np.true_divide(np.where(np.less(a, 0), np.exp(-np.fabs(a)), 1), 1 + np.exp(-np.fabs(a)))",
    ),
    Operator(
        "erf",
        1,
        'np.vectorize(math.erf, otypes="d")(a).astype(np.exp(a).dtype)',
    ),
    Operator("sin", 1, "np.sin(a)"),
    Operator("cos", 1, "np.cos(a)"),
    Operator("relu", 1, "np.maximum(a, 0)"),
    Operator("abs", 1, "np.abs(a)"),
    Operator("sign", 1, "np.sign(a)"),
    Operator("round", 1, "np.rint(a)"),
    Operator("floor", 1, "np.floor(a)"),
    Operator("ceil", 1, "np.ceil(a)"),
    Operator("conj", 1, "np.conjugate(a)"),
    Operator("select", 3, "np.where(a, b, c)"),
    # The two that name a dtype: their formula is `astype` and `view`, given by the Map node.
    Operator("cast", 1, "a"),
    Operator("bitcast", 1, "a"),
)

#: Every operator by name.
OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}
#: Binary operators by infix symbol.
INFIX: dict[str, Operator] = {row.symbol: row for row in _ROWS if row.symbol and row.arity == 2}
#: Reductions by the name they have in the language: `sum[j]`, `max[m]`.
REDUCTIONS: dict[str, Operator] = {row.reduction or row.name: row for row in _ROWS if row.reducible}


def reduction_name(operator: Op) -> str:
    """The name that a reduction by `operator` has in the language: `add` reduces as `sum`."""
    row = OPERATORS.get(str(operator))
    return (row and row.reduction) or str(operator)


def is_chain(operator: Op) -> bool:
    """Whether `a op b op c` is one Map of three: one of the table, commutative and associative."""
    return operator in _CHAINS


_CHAINS: frozenset[Op] = frozenset(
    row.name for row in _ROWS if {"commutative", "associative"} <= row.laws
)


def in_table(operator: Op) -> str:
    """The name of an operator of the table, where one of the text's own cannot stand.

    Raises:
        UnsupportedError: it is one of the text's own.
    """
    if isinstance(operator, str):
        return operator
    raise UnsupportedError(
        f"{operator} is an operator of the text's own, which has no form of its own here",
        span=operator.span,
    )


def arity_of(operator: Op) -> int:
    """How many operands an operator takes; of one of the table that is a chain, two."""
    return operator.arity if isinstance(operator, UserOperator) else OPERATORS[operator].arity


def laws_of(operator: Op) -> frozenset[Law]:
    """The laws that an operator has, or claims."""
    if isinstance(operator, UserOperator):
        return frozenset(operator.laws)
    return OPERATORS[operator].laws


def identity_of(operator: Op) -> Number | None:
    """What a reduction of nothing by an operator is; None if it cannot reduce."""
    if isinstance(operator, UserOperator):
        return None if operator.identity is None else operator.identity.value
    return -1 if operator in PLACES else OPERATORS[operator].identity


def distributes(operator: Op, over: Op) -> bool:
    """Whether a*(b+c) = a*b + a*c, `operator` being the first of these and `over` the second."""
    if isinstance(operator, UserOperator):
        return over in operator.distributes_over
    return over in OPERATORS[operator].distributes_over


@dataclass(frozen=True, slots=True)
class Semiring:
    """A commutative semiring: `add` aggregates, `mul` combines, `zero` absorbs.

    `kinds` are the dtype kinds it is defined on; `exact_kinds` those on which every law holds,
    so that rewrites may use them (max_plus has no integer -inf; max_times needs non-negative
    values). Source: the semirings of tropical, probabilistic and formal-language computing.
    """

    name: str
    add: Op
    mul: Op
    zero: Number
    one: Number
    kinds: frozenset[str] = frozenset({"bool", "signed", "unsigned", "float", "complex", "object"})
    exact_kinds: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


def user_semiring(name: str, add: Op, mul: Op, zero: Number, one: Number) -> Semiring:
    """A semiring of the text's own: its laws hold in floats if its operators have them.

    They are not relied on in other kinds: integers have no infinity and wrap.
    """
    both = {"commutative", "associative"}
    holds = both <= laws_of(add) and both <= laws_of(mul) and distributes(mul, add)
    kinds = frozenset({"float"}) if holds else frozenset[str]()
    return Semiring(name, add, mul, zero, one, exact_kinds=kinds)


_ANY = frozenset({"bool", "signed", "unsigned", "float", "complex", "object"})
_REAL = frozenset({"bool", "signed", "unsigned", "float"})
_INTEGER = frozenset({"bool", "signed", "unsigned"})
_NUMBER = frozenset({"signed", "unsigned", "float"})
_COUNT = frozenset({"signed", "unsigned"})
_FLOAT = frozenset({"float"})

#: Every named semiring.
SEMIRINGS: dict[str, Semiring] = {
    row.name: row
    for row in (
        Semiring("sum_product", "add", "mul", 0, 1, _ANY, _ANY),
        Semiring("max_plus", "max", "add", -INF, 0, _NUMBER, _FLOAT),
        Semiring("min_plus", "min", "add", INF, 0, _NUMBER, _FLOAT),
        Semiring("max_times", "max", "mul", 0, 1, _REAL, frozenset({"bool"})),
        Semiring("min_max", "min", "max", INF, -INF, _REAL, _REAL),
        Semiring("max_min", "max", "min", -INF, INF, _REAL, _REAL),
        Semiring("log", "logaddexp", "add", -INF, 0, _FLOAT, _FLOAT),
        Semiring("boolean", "or", "and", False, True, frozenset({"bool"}), frozenset({"bool"})),
        Semiring("counting", "add", "mul", 0, 1, _COUNT, _COUNT),
        Semiring("xor_and", "xor", "and", 0, -1, _INTEGER, _INTEGER),
    )
}


def value_in(value: Number, dtype: DType) -> Any:
    """An identity as a scalar of `dtype`: -inf is the least integer, -1 is all ones, in bool True.

    >>> from .dtypes import I8, U8, BOOL
    >>> int(value_in(-INF, I8)), int(value_in(-1, U8)), bool(value_in(INF, BOOL))
    (-128, 255, True)
    """
    if dtype.kind == "bool":
        return np.bool_(value != -INF and bool(value))
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        if value == INF:
            return dtype.numpy.type(info.max)
        if value == -INF:
            return dtype.numpy.type(info.min)
        if value == -1 and dtype.kind == "unsigned":
            return dtype.numpy.type(info.max)
    if dtype.kind == "object":
        return value
    return np.asarray(value).astype(dtype.numpy)[()]


def result_dtype(operator: str, *operands: DType | Number) -> DType:
    """The dtype of an operator's value: NumPy's, with Python numbers weak (NEP 50).

    Of weak operands alone it is weak, unless it is bool.

    Raises:
        OperandError: the operator is not defined on these dtypes.
    """
    chosen = operands[1:] if operator == "select" else operands
    settled = (*operands[: len(operands) - len(chosen)], *settle(chosen))
    found = _result_dtype(operator, tuple((type(o), o) for o in settled))
    weak = all(not isinstance(o, DType) or o.weak for o in operands)
    return replace(found, weak=True) if weak and found.kind != "bool" else found


@cache
def _result_dtype(operator: str, typed: tuple[tuple[type, DType | Number], ...]) -> DType:
    operands = tuple(operand for _, operand in typed)
    dtypes = tuple(o for o in operands if isinstance(o, DType))
    # bf16 is no NumPy type: work the answer out with f16, which promotes alike.
    samples = [
        np.ones(1, "f2" if o.name == "bf16" else o.numpy) if isinstance(o, DType) else o
        for o in operands
    ]
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(OPERATORS[operator].reference(*samples))
    except (TypeError, ArithmeticError, ValueError) as error:
        shown = ", ".join(map(str, operands))
        raise OperandError(f"{operator} is not defined on ({shown}): {error}") from None
    return resolve_bf16(of_numpy(value.dtype), dtypes)
