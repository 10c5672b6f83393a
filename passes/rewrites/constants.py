"""Constant folding: what numbers alone decide is decided once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.einsum import Einsum, Expr, Literal, Map, Reduce
from ...ir.errors import OperandError
from ...ir.infer import beside_floats, expr_dtype, strong
from ...ir.interpreter import convert
from ...ir.operators import OPERATORS, in_table, is_chain
from ..rewrite import rule
from ..scope import Scope
from .delta import is_value


@rule
def fold_constants(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """An operator on numbers is a number, and an operand that changes nothing goes.

        Y[i] = A[i] * (2.0 * 3.0) + 0
     -> Y[i] = A[i] * 6.0

    An integer is cast to the type that it has unfolded, if not beside floats or sizes: alone it is
    weaker than what it is made of. Condition: an operand goes if it is the operator's identity in
    the type computed in, and that type and the type of the result do not depend on it; a filter
    that is always true goes. Exact, but for the sign of a zero. Source: the definition of Map; the
    table of operators' identities.
    """
    if not scope.typed(einsum):
        return None
    expr = _folded(einsum.expr, scope, None if einsum.dtype is None else einsum)
    where = None if einsum.where is None else _folded(einsum.where, scope, None)
    if expr is einsum.expr and where is einsum.where:
        return None
    made = replace(einsum, expr=expr, where=where)
    if where == Literal(True):
        made = replace(made, where=None, otherwise=None)
    try:
        same = scope.dtype(made) == scope.dtype(einsum)
    except OperandError:
        return None
    return (made,) if same and scope.computed(made) == scope.computed(einsum) else None


def _folded(expr: Expr, scope: Scope, whole: Einsum | None) -> Expr:
    """The expression folded; `whole` is the Einsum whose body is computed in a declared type."""
    if isinstance(expr, Reduce):
        inner = _folded(expr.expr, scope, whole)
        return expr if inner is expr.expr else replace(expr, expr=inner)
    if not isinstance(expr, Map):
        return expr
    body = whole is not None and expr is whole.body
    args = tuple(_folded(arg, scope, None if body else whole) for arg in expr.args)
    if any(new is not old for new, old in zip(args, expr.args, strict=True)):
        expr = replace(expr, args=_bare(expr, args, scope))
        args = expr.args
    if body or expr.op not in OPERATORS:
        return expr
    if expr.dtype is None and all(_number(arg) is not None for arg in args):
        return _value(expr, args) or expr
    return _without_identities(expr, scope)


def _bare(expr: Map, args: tuple[Expr, ...], scope: Scope) -> tuple[Expr, ...]:
    """The folded operands of `expr`, an integer without its cast where it was weak and stays so."""
    found = expr_dtype(expr, scope.dtypes)
    weak = strong(found) is not found
    # The body of an operator of the text's own may let an operand meet others.
    known = isinstance(expr.op, str)
    yields = beside_floats(expr, scope.dtypes) if known else (None,) * len(args)
    bare: list[Expr] = []
    for new, old, floats in zip(args, expr.args, yields, strict=True):
        stays = new is not old and (weak or floats is not None)
        if stays and isinstance(new, Map) and new.op == "cast":
            new = new.args[0]
        bare.append(new)
    return tuple(bare)


def _number(expr: Expr) -> Any:
    """The number that a Literal is, or one that was folded."""
    if isinstance(expr, Literal):
        return expr.value
    if isinstance(expr, Map) and expr.op == "cast" and isinstance(expr.args[0], Literal):
        dtype = expr.dtype
        if dtype is not None and dtype.compute == dtype and not dtype.is_host_only:
            return convert(np.asarray(expr.args[0].value), dtype)[()]
    return None


def _value(expr: Map, args: tuple[Expr, ...]) -> Expr | None:
    """What the operator makes of numbers, in the type that it makes it in."""
    numbers = [_number(arg) for arg in args]
    try:
        found = expr_dtype(expr, {})
        dtype = strong(found)
        reference = OPERATORS[in_table(expr.op)].reference
        with np.errstate(all="ignore"):
            if is_chain(expr.op) and not all(isinstance(arg, Literal) for arg in args):
                numbers = [np.asarray(n).astype(dtype.numpy) for n in numbers]
            value: Any = numbers[0]
            if is_chain(expr.op):
                for number in numbers[1:]:
                    value = reference(value, number)
            else:
                value = reference(*numbers)
    except (OperandError, TypeError, ArithmeticError, ValueError):
        return None
    if dtype.is_host_only or dtype.compute != dtype:
        return None
    number = Literal(np.asarray(value).astype(dtype.numpy).item(), expr.span)
    # A bool is as strong alone as it is cast, and a weak float as weak.
    bare = dtype.kind == "bool" or (dtype.is_inexact and found is not dtype)
    return number if bare else Map("cast", (number,), dtype, expr.span)


def _without_identities(expr: Map, scope: Scope) -> Expr:
    """A chain without the numbers that are its operator's identity."""
    if not is_chain(expr.op):
        return expr
    row = OPERATORS[in_table(expr.op)]
    if row.identity is None:
        return expr
    dtype: DType = strong(expr_dtype(expr, scope.dtypes))
    kept = tuple(
        arg
        for arg in expr.args
        if not (isinstance(arg, Literal) and is_value(arg, row.identity, dtype.compute))
    )
    if len(kept) == len(expr.args) or all(isinstance(arg, Literal) for arg in kept):
        return expr
    made: Expr = kept[0] if len(kept) == 1 else replace(expr, args=kept)
    return made if expr_dtype(made, scope.dtypes) == dtype else expr
