"""An Einsum's expression as loop-nest values, each conversion written out.

The types are those of the interpreter: NumPy's, worked out by asking NumPy. Python numbers are
weak; f16 and bf16 tensors are read as f32; a chain converts to its common type first. A Reduce
inside becomes statements: a register, and loops that fold into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Any, TypeAlias

import numpy as np

from ...ir.dtypes import BOOL, F32, F64, I64, DType, of_numpy
from ...ir.einsum import Access, Coordinate, Einsum, Expr, Literal, Map, Reduce, walk
from ...ir.errors import UnsupportedError
from ...ir.infer import beside_floats, expr_dtype, product_dtype, strong
from ...ir.loop_nodes import (
    Apply,
    Assign,
    Begin,
    Convert,
    Fold,
    Index,
    Load,
    Loop,
    LoopNest,
    Number,
    Register,
    Statement,
    Value,
)
from ...ir.operators import OPERATORS, in_table, is_chain, value_in
from ...ir.operators import Number as Scalar
from ...ir.ranks import RankExpr

#: A value, or a Python number, which is weak.
Typed: TypeAlias = Value | Scalar

_BOOL_NAMES = {"add": "or", "mul": "and", "max": "or", "min": "and"}
_COMPARE: dict[str, Any] = {"eq": 0, "ne": 0, "lt": 1, "le": 1, "gt": -1, "ge": -1}


@dataclass(slots=True)
class Scope:
    """Statements inside loops over `variables`, and what is around them."""

    variables: frozenset[str]
    parent: Scope | None = None
    statements: list[Statement] = field(default_factory=list[Statement])

    def inner(self, variables: tuple[str, ...]) -> Scope:
        """The scope inside more loops."""
        return Scope(self.variables | frozenset(variables), self)


class Typing:
    """Makes values of one Einsum; registers are numbered across the whole nest."""

    def __init__(
        self,
        einsum: Einsum,
        dtypes: Mapping[str, DType],
        extents: Mapping[str, tuple[RankExpr, ...]],
        staged: Mapping[Access, Value],
    ) -> None:
        self.einsum = einsum
        self.dtypes = dtypes
        self.extents = extents
        self.staged = staged
        self._registers = 0

    def register(self) -> str:
        """A new register's name."""
        self._registers += 1
        return f"r{self._registers}"

    def value(self, expr: Expr, scope: Scope) -> Value:
        """The expression in a scope in which its variables are bound."""
        return as_value(self._typed(expr, scope))

    def _typed(self, expr: Expr, scope: Scope) -> Typed:
        if isinstance(expr, Literal):
            return expr.value
        if isinstance(expr, Coordinate):
            if expr.name.isupper():
                return Index(RankExpr.of_size(expr.name))
            return Index(RankExpr.of_variable(expr.name))
        if isinstance(expr, Access):
            return self.read(expr, self.dtypes[expr.tensor].compute)
        if isinstance(expr, Reduce):
            return self.reduce(expr, scope)
        return self._map(expr, [self._typed(arg, scope) for arg in expr.args])

    def read(self, access: Access, dtype: DType) -> Value:
        """What an Access reads, as `dtype`; another value in its place if there is one."""
        return convert(self.staged.get(access) or self._load(access), dtype)

    def _load(self, access: Access) -> Load:
        dtype = self.dtypes[access.tensor]
        indices = tuple(
            convert(self._load(index), I64) if isinstance(index, Access) else index
            for index in access.indices
        )
        gathers = any(isinstance(index, Access) for index in access.indices)
        extents = self.extents[access.tensor] if gathers or access.fill is not None else ()
        fill = None if access.fill is None else Number(access.fill.value, dtype)
        return Load(access.tensor, indices, dtype, extents, fill)

    def _map(self, expr: Map, args: list[Typed]) -> Typed:
        if expr.dtype is not None:
            arg = as_value(args[0])
            if expr.op == "cast":
                return convert(convert(arg, expr.dtype), expr.dtype.compute)
            declared = strong(expr_dtype(expr.args[0], self.dtypes))
            bits = Convert(convert(arg, declared), expr.dtype, bitcast=True)
            return convert(bits, expr.dtype.compute)
        if is_chain(expr.op) and not all(isinstance(arg, Literal) for arg in expr.args):
            if expr is self.einsum.body:
                dtype = product_dtype(self.einsum, self.dtypes).compute
            else:
                dtype = strong(expr_dtype(expr, self.dtypes)).compute
            args = [a if isinstance(a, Scalar) else convert(a, dtype) for a in args]
        else:
            to = beside_floats(expr, self.dtypes)
            args = [
                arg if dtype is None else convert(as_value(arg), dtype)
                for arg, dtype in zip(args, to, strict=True)
            ]
        op = in_table(expr.op)
        if not is_chain(op):
            return apply(op, *args)
        return _flat(reduce(lambda total, arg: apply(op, total, arg), args))

    # ---- reductions inside the expression

    def reduce(self, node: Reduce, scope: Scope) -> Value:
        """The register that holds a reduction, written where all that it needs is bound."""
        scope = self._outermost(node, scope)
        dtype = strong(expr_dtype(node.expr, self.dtypes)).compute
        inner = scope.inner(node.variables)
        value = convert(self.value(node.expr, inner), dtype)
        op, total = fold_type(in_table(node.op), dtype)
        zero = self.einsum.ring.zero if node.op == self.einsum.ring.add else None
        name = self.register()
        empty = Number(empty_value(in_table(node.op), zero), total)
        ranks = tuple(variable.upper() for variable in node.variables)
        scope.statements += begin(name, total, op, ranks, empty)
        inner.statements += fold(name, op, convert(value, total), None)
        loops = tuple(
            Loop(variable, RankExpr(), RankExpr.of_size(variable.upper()))
            for variable in node.variables
        )
        scope.statements.append(LoopNest(loops, tuple(inner.statements)))
        return Register(name, total)

    def _outermost(self, node: Reduce, scope: Scope) -> Scope:
        """The outermost scope that binds what it needs; a gather is checked where it stands."""
        if any(isinstance(inside, Access) and _checks(inside) for inside in walk(node)):
            return scope
        needed = frozenset(_free(node))
        while scope.parent is not None and needed <= scope.parent.variables:
            scope = scope.parent
        return scope


def begin(
    register: str, dtype: DType, op: str, over: tuple[str, ...], empty: Number
) -> tuple[Statement, ...]:
    """The statements that make a register to fold into."""
    start = Begin(register, dtype, op, over, empty)
    if not _starts_with_first(op, dtype):
        return (start,)
    return start, Begin(register + "_begun", BOOL, "or", (), Number(False, BOOL))


def fold(register: str, op: str, value: Value, where: Value | None) -> tuple[Statement, ...]:
    """The statements that fold a value into a register."""
    if not _starts_with_first(op, value.dtype):
        return (Fold(register, op, value, where),)
    total, begun = Register(register, value.dtype), Register(register + "_begun", BOOL)
    following: Value = Apply("select", (begun, Apply(op, (total, value)), value))
    if where is not None:
        following = Apply("select", (where, following, total))
    kept = Number(True, BOOL) if where is None else where
    return Assign(register, following), Fold(begun.name, "or", kept)


def _starts_with_first(op: str, dtype: DType) -> bool:
    """Whether nothing is neutral: 1 times a complex infinity has a part that is not a number."""
    return op == "mul" and dtype.kind == "complex"


def _checks(access: Access) -> bool:
    return access.fill is None and any(isinstance(index, Access) for index in access.indices)


def _free(expr: Expr) -> set[str]:
    if isinstance(expr, Access):
        return set(expr.variables())
    if isinstance(expr, Coordinate):
        return set() if expr.name.isupper() else {expr.name}
    if isinstance(expr, Map):
        return {v for arg in expr.args for v in _free(arg)}
    if isinstance(expr, Reduce):
        return _free(expr.expr) - set(expr.variables)
    return set()


# ---- types


def as_value(typed: Typed) -> Value:
    """A value as it is, a number as a constant of the dtype that NumPy gives it alone."""
    return Number(typed, strong(typed)) if isinstance(typed, Scalar) else typed


def convert(value: Value, dtype: DType) -> Value:
    """The value as another dtype; as it is if it has that one."""
    if value.dtype == dtype:
        return value
    if isinstance(value, Number) and value.dtype.kind != "complex":
        exact = value_in(value.value, value.dtype)
        if dtype.compute == dtype and (dtype.is_inexact or not value.dtype.is_inexact):
            return Number(exact.astype(dtype.numpy).item(), dtype)
    return Convert(value, dtype)


def fold_type(op: str, dtype: DType) -> tuple[str, DType]:
    """The operator that folds values of a dtype, and the dtype of the total."""
    if dtype.kind == "bool":
        return _BOOL_NAMES.get(op, op), dtype
    if op == "logaddexp" and not dtype.is_inexact:
        return op, F64
    return op, dtype


def empty_value(op: str, zero: Scalar | None) -> Scalar:
    """What a reduction of nothing is: the semiring's zero if it is its own, else the identity."""
    if zero is not None:
        return zero
    identity = OPERATORS[op].identity
    if identity is None:
        raise UnsupportedError(f"{op} is not a reduction")
    return identity


def apply(op: str, *args: Typed) -> Typed:
    """An operator of the language, as operators on the types that NumPy computes it in."""
    if all(isinstance(arg, Scalar) for arg in args):
        with np.errstate(all="ignore"):
            found = np.asarray(OPERATORS[op].reference(*args))
        return Number(found.item(), of_numpy(found.dtype))
    if op == "select":
        return _select(*args)
    if op == "relu":
        return apply("max", args[0], 0)
    if op == "rsqrt":
        return apply("div", 1, apply("sqrt", args[0]))
    if op == "sigmoid":
        real = convert(as_value(args[0]), as_value(apply("exp", args[0])).dtype)
        power = apply("exp", apply("neg", apply("abs", real)))
        above = apply("select", apply("lt", real, 0), power, 1)
        return apply("div", above, apply("add", 1, power))
    if op == "erf":
        result = as_value(apply("exp", args[0])).dtype
        return convert(Apply("erf", (convert(as_value(args[0]), F64),)), result)
    if op == "pow" and isinstance(args[1], Scalar) and args[1] in (0.5, 2):
        # NumPy's own shortcuts; the square root of -inf is NaN, where C's power is inf.
        result = _resolved("pow", (_given(args[0]), type(args[1])))[-1]
        base = convert(as_value(args[0]), result)
        return apply("mul", base, base) if args[1] == 2 else apply("sqrt", base)
    if op in _COMPARE:
        known = _compare_far(op, *args)
        if known is not None:
            return Number(known, BOOL)
    return _ufunc(op, args)


def _ufunc(op: str, args: tuple[Typed, ...]) -> Value:
    given = tuple(map(_given, args))
    *operands, result = _resolved(op, given)
    values = tuple(
        Number(arg, dtype) if isinstance(arg, Scalar) else convert(arg, dtype)
        for arg, dtype in zip(args, operands, strict=True)
    )
    if any(dtype.name == "f16" for dtype in operands):
        values = tuple(convert(v, F32) if v.dtype.name == "f16" else v for v in values)
    if all(value.dtype.kind == "bool" for value in values):
        op = _BOOL_NAMES.get(op, op)
    return convert(Apply(op, values), result)


def _given(arg: Typed) -> Any:
    return type(arg) if isinstance(arg, Scalar) else arg.dtype


@cache
def _resolved(op: str, given: tuple[Any, ...]) -> tuple[DType, ...]:
    """The dtypes that NumPy computes an operator in, the result's last; a type is a weak number."""
    names = {"div": "true_divide", "round": "rint", "conj": "conjugate", "abs": "absolute"}
    names |= {"sub": "subtract", "mul": "multiply", "floordiv": "floor_divide"}
    names |= {"mod": "remainder", "neg": "negative", "pow": "power"}
    names |= {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal"}
    names |= {"gt": "greater", "ge": "greater_equal", "max": "maximum", "min": "minimum"}
    names |= {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
    names |= {"shl": "left_shift", "shr": "right_shift"}
    ufunc = getattr(np, names.get(op, op))
    operands = [
        np.dtype(bool) if g is bool else g.numpy if isinstance(g, DType) else g for g in given
    ]
    return tuple(of_numpy(dtype) for dtype in ufunc.resolve_dtypes((*operands, None)))


def _compare_far(op: str, a: Typed, b: Typed) -> bool | None:
    """The answer where an integer is compared with a number that its dtype cannot hold."""
    number, value, turn = (b, a, 1) if isinstance(b, Scalar) else (a, b, -1)
    if not isinstance(number, int) or isinstance(number, bool) or isinstance(value, Scalar):
        return None
    if not value.dtype.is_integer:
        return None
    limits = np.iinfo(value.dtype.numpy)
    if limits.min <= number <= limits.max:
        return None
    if op in ("eq", "ne"):
        return op == "ne"
    less: bool = (number > limits.max) == (turn > 0)
    return less == (op in ("lt", "le"))


def _select(test: Typed, a: Typed, b: Typed) -> Value:
    kinds = [x if isinstance(x, Scalar) else x.dtype.numpy for x in (a, b)]
    dtype = of_numpy(np.result_type(*kinds))
    values = [Number(x, dtype) if isinstance(x, Scalar) else convert(x, dtype) for x in (a, b)]
    return Apply("select", (convert(as_value(test), BOOL), *values))


def _flat(total: Typed) -> Typed:
    """op(op(a, b), c) of one type as op(a, b, c)."""
    args: list[Value] = []
    node: Typed = total
    while (
        isinstance(node, Apply)
        and is_chain(node.op)
        and isinstance(total, Apply)
        and node.op == total.op
        and node.dtype == total.dtype
        and len(node.args) == 2
    ):
        args.append(node.args[1])
        node = node.args[0]
    if len(args) < 2 or not isinstance(total, Apply) or isinstance(node, Scalar):
        return total
    return Apply(total.op, (node, *reversed(args)))
