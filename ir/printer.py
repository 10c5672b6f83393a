"""Einsums as text of the language; the text parses back to an equal Einsum.

Three things differ from what a first guess would write: infix `+` and `*` mean the Einsum's own
semiring, so the plain `add` and `mul` are calls inside another one; a chain `a * b * c` is one
Map of three; the outermost reduction is left out where the left side already says it.
"""

from __future__ import annotations

import math

from .einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Op,
    Reduce,
    UserOperator,
    free_variables,
    implies,
    rewrite_leaves,
)
from .operators import OPERATORS, SEMIRINGS, Number, Semiring, is_chain, reduction_name

#: How tightly each infix symbol binds; unary operators bind at 8, calls and accesses at 9.
PRECEDENCE = {
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 1),
    "|": 2,
    "^": 3,
    "&": 4,
    **dict.fromkeys(("<<", ">>"), 5),
    **dict.fromkeys(("+", "-"), 6),
    **dict.fromkeys(("*", "/", "//", "%"), 7),
}
_UNARY, _PRIMARY = 8, 9
_PREFIX = {"neg": "-", "invert": "~"}


def print_einsum(einsum: Einsum) -> str:
    """One line: `Y[i]: f32 = expr over semiring where condition else otherwise`."""
    ring = einsum.ring
    dtype = f": {einsum.dtype}" if einsum.dtype else ""
    text = f"{print_access(einsum.output)}{dtype} = "
    body = einsum.body
    missing = tuple(v for v in free_variables(body) if v not in einsum.free)
    implied = einsum.reduced == missing and implies(body, einsum.free, ring.add)
    if body is not einsum.expr and implied:
        text += print_expr(body, ring)
    else:
        text += print_expr(einsum.expr, ring)
    if einsum.semiring != "sum_product":
        text += f" over {einsum.semiring}"
    if einsum.where is not None:
        text += f" where {print_expr(einsum.where)}"
    if einsum.otherwise is not None:
        text += f" else {print_number(einsum.otherwise.value)}"
    return text


def print_operator(operator: UserOperator) -> str:
    """One line: `op f(a: f32, b) [commutative, identity = 0] = body`."""
    promised: list[str] = list(operator.laws)
    if operator.identity is not None:
        promised.append(f"identity = {print_number(operator.identity.value)}")
    promised += [f"distributes_over = {op}" for op in operator.distributes_over]
    if operator.inverse is not None:
        promised.append(f"inverse = {operator.inverse}")
    laws = f" [{', '.join(promised)}]" if promised else ""
    # A parameter is read as a scalar, and written bare.
    body = rewrite_leaves(
        operator.body,
        lambda leaf: Coordinate(leaf.tensor) if isinstance(leaf, Access) else leaf,
    )
    parameters = ", ".join(map(str, operator.parameters))
    return f"op {operator.name}({parameters}){laws} = {print_expr(body)}"


def print_semiring(ring: Semiring) -> str:
    """One line: `semiring t(max, add, -inf, 0)`."""
    numbers = f"{print_number(ring.zero)}, {print_number(ring.one)}"
    return f"semiring {ring.name}({ring.add}, {ring.mul}, {numbers})"


def print_access(access: Access) -> str:
    """`X[i,2*j+1 else 0]`; a scalar is `X[]`."""
    indices = ",".join(
        print_access(index) if isinstance(index, Access) else str(index) for index in access.indices
    )
    fill = f" else {print_number(access.fill.value)}" if access.fill is not None else ""
    return f"{access.tensor}[{indices}{fill}]"


def print_number(value: Number) -> str:
    """A number as the language writes it: `true`, `-2`, `0.5`, `-inf`, `complex(1.0, 2.0)`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, complex):
        return f"complex({print_number(value.real)}, {print_number(value.imag)})"
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return repr(value)


def print_expr(expr: Expr, ring: Semiring = SEMIRINGS["sum_product"], level: int = 0) -> str:
    """An expression inside an Einsum over `ring`; in parentheses if it binds less than `level`."""
    text, binds = _render(expr, ring)
    return text if binds >= level else f"({text})"


def _render(expr: Expr, ring: Semiring) -> tuple[str, int]:
    if isinstance(expr, Access):
        return print_access(expr), _PRIMARY
    if isinstance(expr, Coordinate):
        return expr.name, _PRIMARY
    if isinstance(expr, Literal):
        text = print_number(expr.value)
        return text, _UNARY if text.startswith("-") else _PRIMARY
    if isinstance(expr, Reduce):
        inner, binds = _render(expr.expr, ring)
        if binds < _PRIMARY or isinstance(expr.expr, Reduce | Literal | Coordinate):
            inner = f"({inner})"
        return f"{reduction_name(expr.op)}[{','.join(expr.variables)}] {inner}", _PRIMARY
    return _render_map(expr, ring)


def _render_map(expr: Map, ring: Semiring) -> tuple[str, int]:
    if isinstance(expr.op, str) and expr.op in _PREFIX:
        # A minus sign before a number would be read as part of the number.
        level = 10 if isinstance(expr.args[0], Literal) else _UNARY
        return _PREFIX[expr.op] + print_expr(expr.args[0], ring, level), _UNARY
    symbol = infix_symbol(expr.op, ring)
    if symbol is None:
        parts = [print_expr(arg, ring) for arg in expr.args]
        if expr.dtype is not None:
            parts.append(str(expr.dtype))
        return f"{expr.op}({', '.join(parts)})", _PRIMARY
    binds = PRECEDENCE[symbol]
    first, *rest = expr.args
    chained = isinstance(first, Map) and first.op == expr.op and is_chain(expr.op)
    tight = chained or binds == PRECEDENCE["=="]
    parts = [print_expr(first, ring, binds + 1 if tight else binds)]
    parts += [print_expr(arg, ring, binds + 1) for arg in rest]
    return f" {symbol} ".join(parts), binds


def infix_symbol(op: Op, ring: Semiring) -> str | None:
    """How `op` is written between operands in an Einsum over `ring`; None if it is a call."""
    if ring.name != "sum_product":
        if op == ring.add:
            return "+"
        if op == ring.mul:
            return "*"
        if op in ("add", "mul"):
            return None
    return OPERATORS[op].symbol if isinstance(op, str) else None
