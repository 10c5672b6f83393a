"""The derivatives of the elementwise operators: what a cotangent of the value gives the operands.

A cotangent of a complex z = x + iy is dL/dx - i dL/dy, so that products and analytic functions
need no conjugation. Of equal operands of max or min the first takes all; relu and abs have the
derivative 0 at 0.

    zero      comparisons, bit operators, sign, round, floor, ceil, floordiv: constant between jumps
    refused   sign of complex numbers; bitcast to floats of what depends on `wrt` (see adjoint.py)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from ..ir.dtypes import DType
from ..ir.einsum import Expr, Literal, Map
from ..ir.errors import UnsupportedError

#: From the cotangent, the value and the operands to each operand's cotangent; None: zero.
Rule: TypeAlias = Callable[[Expr, Expr, tuple[Expr, ...]], tuple[Expr | None, ...]]

ZERO, ONE = Literal(0), Literal(1)


def apply(op: str, *args: Expr) -> Expr:
    """The operator of these operands."""
    return Map(op, args)


def times(*factors: Expr) -> Expr:
    """The product, as one chain without its ones."""
    flat = [
        each
        for factor in factors
        for each in (factor.args if isinstance(factor, Map) and factor.op == "mul" else (factor,))
        if each != ONE
    ]
    return Map("mul", tuple(flat)) if len(flat) > 1 else flat[0] if flat else ONE


def plus(terms: list[Expr]) -> Expr:
    """The sum of one or more."""
    return Map("add", tuple(terms)) if len(terms) > 1 else terms[0]


def negated(expr: Expr) -> Expr:
    """The negative, which of the seed 1 is a number."""
    return Literal(-1) if expr == ONE else apply("neg", expr)


def over(expr: Expr, divisor: Expr) -> Expr:
    """The quotient."""
    return apply("div", expr, divisor)


def select(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """The elementwise choice."""
    return apply("select", condition, yes, no)


def _add(g: Expr, y: Expr, args: tuple[Expr, ...]) -> tuple[Expr | None, ...]:
    return (g,) * len(args)


def _mul(g: Expr, y: Expr, args: tuple[Expr, ...]) -> tuple[Expr | None, ...]:
    return tuple(times(g, *args[:at], *args[at + 1 :]) for at in range(len(args)))


def _pow(g: Expr, y: Expr, args: tuple[Expr, ...]) -> tuple[Expr | None, ...]:
    a, b = args
    if isinstance(b, Literal):
        lower = Literal(b.value - 1)
        return times(g, b, a if lower == ONE else apply("pow", a, lower)), None
    # At an exponent of 0, and at a base of 0, the derivative is 0 and not 0 * inf.
    lower_by_one = select(apply("eq", b, ZERO), ONE, apply("sub", b, ONE))
    base = apply("log", select(apply("eq", a, ZERO), ONE, a))
    return times(g, b, apply("pow", a, lower_by_one)), times(g, y, base)


def _chosen(better: str) -> Rule:
    """max and min: a left fold, of which the operand so far wins ties."""

    def rule(g: Expr, y: Expr, args: tuple[Expr, ...]) -> tuple[Expr | None, ...]:
        *first, last = args
        op = "max" if better == "ge" else "min"
        so_far = first[0] if len(first) == 1 else Map(op, tuple(first))
        wins = apply(better, so_far, last)
        kept, taken = select(wins, g, ZERO), select(wins, ZERO, g)
        return (kept, taken) if len(first) == 1 else (*rule(kept, so_far, tuple(first)), taken)

    return rule


def weight(part: Expr, total: Expr) -> Expr:
    """exp(part - total), the derivative of logaddexp; 0 where both are -inf."""
    low = Literal(-math.inf)
    return apply("exp", select(apply("eq", total, low), low, apply("sub", part, total)))


def _logaddexp(g: Expr, y: Expr, args: tuple[Expr, ...]) -> tuple[Expr | None, ...]:
    return tuple(times(g, weight(arg, y)) for arg in args)


def _abs(g: Expr, y: Expr, args: tuple[Expr, ...]) -> tuple[Expr | None, ...]:
    # conj(a)/|a|, which of real numbers is their sign.
    return (times(g, over(apply("conj", args[0]), select(apply("eq", y, ZERO), ONE, y))),)


def _one(slope: Callable[[Expr, Expr], Expr]) -> Rule:
    """An operator of one operand a, with the value y: its derivative from y and a."""
    return lambda g, y, args: (times(g, slope(y, args[0])),)


def _nothing(g: Expr, y: Expr, args: tuple[Expr, ...]) -> tuple[Expr | None, ...]:
    return (None,) * len(args)


_TWO = Literal(2)

#: The operators whose derivative is not zero.
RULES: dict[str, Rule] = {
    "add": _add,
    "sub": lambda g, y, args: (g, negated(g)),
    "mul": _mul,
    "div": lambda g, y, args: (over(g, args[1]), negated(over(times(g, y), args[1]))),
    "mod": lambda g, y, args: (g, negated(times(g, apply("floordiv", *args)))),
    "neg": lambda g, y, args: (negated(g),),
    "pow": _pow,
    "max": _chosen("ge"),
    "min": _chosen("le"),
    "logaddexp": _logaddexp,
    "exp": _one(lambda y, a: y),
    "exp2": _one(lambda y, a: times(y, Literal(math.log(2)))),
    "expm1": _one(lambda y, a: apply("exp", a)),
    "log": lambda g, y, args: (over(g, args[0]),),
    "log1p": lambda g, y, args: (over(g, plus([args[0], ONE])),),
    "sqrt": lambda g, y, args: (over(g, times(_TWO, y)),),
    "rsqrt": lambda g, y, args: (negated(over(times(g, y), times(_TWO, args[0]))),),
    "tanh": _one(lambda y, a: apply("sub", ONE, times(y, y))),
    "sigmoid": _one(lambda y, a: times(y, apply("sub", ONE, y))),
    "erf": _one(lambda y, a: times(Literal(2 / math.sqrt(math.pi)), apply("exp", _bell(a)))),
    "sin": _one(lambda y, a: apply("cos", a)),
    "cos": _one(lambda y, a: negated(apply("sin", a))),
    "relu": lambda g, y, args: (select(apply("gt", args[0], ZERO), g, ZERO),),
    "abs": _abs,
    "conj": lambda g, y, args: (apply("conj", g),),
    "select": lambda g, y, args: (None, select(args[0], g, ZERO), select(args[0], ZERO, g)),
    "cast": lambda g, y, args: (g,),
}


def _bell(a: Expr) -> Expr:
    return negated(times(a, a))


def operand_cotangents(
    node: Map, cotangent: Expr, value: Expr, dtype: DType
) -> tuple[Expr | None, ...]:
    """The cotangent of each operand of `node`, an operator of the table; None: zero.

    Args:
        node: the operator and its operands.
        cotangent: that of its value.
        value: an expression for its value, which may be `node` itself.
        dtype: that of its value.

    Raises:
        UnsupportedError: it has no derivative here.
    """
    if node.op == "sign" and dtype.kind == "complex":
        raise UnsupportedError("the sign of complex numbers has no derivative here", span=node.span)
    return RULES.get(str(node.op), _nothing)(cotangent, value, node.args)
