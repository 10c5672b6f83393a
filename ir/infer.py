"""The dtype of every tensor, from those of the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from .cascade import Cascade
from .dtypes import I64, DType, of_numpy, promote, settle
from .einsum import (
    PLACES,
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Op,
    Reduce,
    UserOperator,
)
from .errors import EinloomError, OperandError
from .operators import Number, is_chain, result_dtype
from .scans import Scan, stages
from .source import Span


def infer_dtypes(cascade: Cascade, inputs: Mapping[str, DType]) -> dict[str, DType]:
    """The dtype of every tensor, inputs included; a declared input dtype counts before `inputs`.

    Raises:
        OperandError: an operator or a semiring is not defined on the dtypes it is given, or the
            dtype of an input is neither declared nor in `inputs`.
    """
    dtypes: dict[str, DType] = {}
    for decl in cascade.inputs:
        dtype = decl.dtype or inputs.get(decl.name)
        if dtype is None:
            raise OperandError(
                f"the dtype of {decl.name} is not known",
                span=decl.span,
                hint=f"declare it ({decl}: f32) or give dtypes=",
            )
        dtypes[decl.name] = dtype
    for stage in stages(cascade):
        _add_dtypes(stage, cascade, dtypes)
    return dtypes


def known_dtypes(cascade: Cascade) -> dict[str, DType]:
    """The dtypes that are declared, and those that follow from them."""
    dtypes = {decl.name: decl.dtype for decl in cascade.inputs if decl.dtype is not None}
    for stage in stages(cascade):
        members = stage.einsums if isinstance(stage, Scan) else (stage,)
        made = {einsum.name for einsum in members}
        read = {access.tensor for einsum in members for access in einsum.reads()}
        if read <= dtypes.keys() | made:
            _add_dtypes(stage, cascade, dtypes)
    return dtypes


def _add_dtypes(stage: Einsum | Scan, cascade: Cascade, dtypes: dict[str, DType]) -> None:
    if isinstance(stage, Einsum):
        # A start's type is that of its scan, which comes later, unless nothing steps.
        dtypes[stage.name] = einsum_dtype(stage, dtypes)
    else:
        _add_scan_dtypes(stage, cascade, dtypes)


def _add_scan_dtypes(scan: Scan, cascade: Cascade, dtypes: dict[str, DType]) -> None:
    """The least types that hold what the starts and the steps give.

    A start that is a bare number is weak. A declared dtype is that of the whole scan.
    """
    made = {einsum.name for einsum in scan.einsums}
    declared: dict[str, DType] = {}
    found: dict[str, DType | Number] = {}
    for einsum in cascade.einsums:
        if einsum.name not in made:
            continue
        if einsum.dtype is not None:
            if declared.setdefault(einsum.name, einsum.dtype) != einsum.dtype:
                raise OperandError(
                    f"{einsum.name} is declared {declared[einsum.name]} and {einsum.dtype}",
                    span=einsum.span,
                )
        elif einsum not in scan.einsums:
            known = {name: dtype for name, dtype in found.items() if isinstance(dtype, DType)}
            if all(access.tensor in dtypes.keys() | known for access in einsum.reads()):
                dtype = _folded_dtype(einsum.expr, {**dtypes, **known})
                found[einsum.name] = _common(found.get(einsum.name), dtype)
    found |= declared
    for _ in range(_SETTLED):
        before = dict(found)
        for einsum in scan.einsums:
            if einsum.name not in declared:
                dtype = _folded_dtype(einsum.expr, {**dtypes, **found})
                found[einsum.name] = _common(found.get(einsum.name), dtype)
        if found == before:
            break
    dtypes |= {name: strong(dtype) for name, dtype in found.items()}
    for einsum in scan.einsums:
        einsum_dtype(einsum, dtypes)


#: More rounds of promotion than there are types.
_SETTLED = 32


def _common(first: DType | Number | None, second: DType | Number) -> DType | Number:
    """The common type of what a scan has been found to hold, and of one more value."""
    if first is None:
        return second
    if isinstance(first, DType) or isinstance(second, DType):
        return result_dtype("select", True, first, second)
    return first if isinstance(first + second, type(first)) else second


def einsum_dtype(einsum: Einsum, dtypes: Mapping[str, DType]) -> DType:
    """The dtype that an Einsum's output has, for these dtypes of the tensors it reads.

    That of a start or a step is what it gives by itself: its scan's may be wider.
    """
    inferred = strong(_folded_dtype(einsum.expr, dtypes))
    if einsum.where is not None:
        condition = strong(expr_dtype(einsum.where, dtypes))
        if condition.kind != "bool":
            raise OperandError(
                f"the condition of {einsum.name} is {condition}, not bool", span=einsum.span
            )
    dtype = einsum.dtype or inferred
    if einsum.otherwise is not None:
        check_fits(einsum.otherwise, dtype, f"the `else` of {einsum.name}", einsum.span)
    if isinstance(einsum.expr, Reduce) and einsum.expr.op not in PLACES:
        _folded(einsum.expr, dtype)
    if einsum.dtype is not None and isinstance(einsum.body, Map) and is_chain(einsum.body.op):
        computed = product_dtype(einsum, dtypes)
        op_dtype(einsum.body.op, [computed, computed])
    if dtype.kind not in einsum.ring.kinds:
        raise OperandError(
            f"semiring {einsum.semiring} is not defined on {dtype}",
            span=einsum.span,
            hint=f"it takes the kinds {', '.join(sorted(einsum.ring.kinds))}; cast the operands",
        )
    return dtype


def check_fits(number: Literal, dtype: DType, what: str, span: Span | None) -> None:
    """A number that stands for values of a dtype has no part that the dtype has not.

    Raises:
        OperandError: it is complex, and they are not.
    """
    if isinstance(number.value, complex) and dtype.kind not in ("complex", "object"):
        raise OperandError(
            f"{what} is {number.value}, which is complex, but the values are {dtype}",
            span=number.span or span,
            hint="give its real part, or cast the values to c64 or c128",
        )


def _under(expr: Expr) -> Expr:
    """What the outermost reduction folds; the declared dtype, if any, is the type it folds in."""
    return expr.expr if isinstance(expr, Reduce) else expr


def _folded_dtype(expr: Expr, dtypes: Mapping[str, DType | Number]) -> DType | Number:
    """The dtype of an Einsum's right side where none is declared."""
    inside = expr_dtype(_under(expr), dtypes)
    return I64 if isinstance(expr, Reduce) and expr.op in PLACES else inside


def product_dtype(einsum: Einsum, dtypes: Mapping[str, DType]) -> DType:
    """The dtype that the outermost product is computed in: its factors' and the Einsum's own.

    So `C[i,k]: i32 = A[i,j] * B[j,k]` multiplies i8 factors in i32, as its user expects.
    """
    body = strong(expr_dtype(_under(einsum.expr), dtypes))
    return promote(einsum.dtype, body) if einsum.dtype else body


def regroups(einsum: Einsum, dtypes: Mapping[str, DType]) -> bool:
    """Whether the semiring's laws hold in the types that this Einsum computes in.

    Then factors and sums may be regrouped, up to floating-point rounding. A product that is
    converted before it is summed stands in the way: a float that becomes an integer, or, under an
    order such as max, an integer that loses its upper bits.
    """
    total, product = einsum_dtype(einsum, dtypes), product_dtype(einsum, dtypes)
    ring = einsum.ring
    if not {total.kind, product.kind} <= ring.exact_kinds:
        return False
    if total.is_integer and product.is_integer and total != product:
        modular: set[Op] = {"add", "mul", "and", "or", "xor"}
        return {ring.add, ring.mul} <= modular
    return total.kind == product.kind


def strong(found: DType | Number) -> DType:
    """A dtype, weak no more; for a number the dtype that NumPy gives it alone."""
    if not isinstance(found, DType):
        return of_numpy(np.asarray(found).dtype)
    return replace(found, weak=False) if found.weak else found


def otherwise_as(dtype: DType, otherwise: Literal) -> Expr:
    """What a filter's `else` says as an operand beside values of a dtype, which it does not widen.

    As the filter's it is converted to the dtype of the output, whatever it is.
    """
    value = otherwise.value
    if dtype.is_inexact and not isinstance(value, complex):
        return otherwise
    if dtype.is_integer and type(value) is int and 0 <= value < 2**7:
        return otherwise
    return Map("cast", (otherwise,), dtype)


def expr_dtype(expr: Expr, dtypes: Mapping[str, DType | Number]) -> DType | Number:
    """The dtype of an expression; for a literal its number, which is weak.

    So is a tensor for which `dtypes` has a number: a scan of which only a bare start is known. A
    size is a weak i64, and what is computed of sizes and numbers alone is weak as well.
    """
    if isinstance(expr, Literal):
        return expr.value
    if isinstance(expr, Coordinate):
        return _SIZE if expr.name.isupper() else I64
    if isinstance(expr, Access):
        for index in expr.indices:
            if isinstance(index, Access) and not strong(expr_dtype(index, dtypes)).is_integer:
                raise OperandError(
                    f"{index.tensor} indexes {expr.tensor}, but its dtype is not an integer's",
                    span=index.span or expr.span,
                )
        dtype = dtypes[expr.tensor]
        if expr.fill is not None and isinstance(dtype, DType):
            check_fits(expr.fill, dtype, f"the fill of {expr.tensor}", expr.span)
        return dtype
    if isinstance(expr, Reduce):
        inside = strong(expr_dtype(expr.expr, dtypes))
        return I64 if expr.op in PLACES else _folded(expr, inside)
    args = [expr_dtype(arg, dtypes) for arg in expr.args]
    if expr.dtype is not None:
        if expr.op == "bitcast" and strong(args[0]).bits != expr.dtype.bits:
            raise OperandError(
                f"bitcast from {strong(args[0])} to {expr.dtype} changes the width", span=expr.span
            )
        return expr.dtype
    return _map_dtype(expr, args)


#: The dtype of a size.
_SIZE = replace(I64, weak=True)


def beside_floats(expr: Map, dtypes: Mapping[str, DType | Number]) -> tuple[DType | None, ...]:
    """To what each operand is converted before the operator: of sizes alone, to what is beside it.

    None where NumPy's own promotion does: so too in a chain, which converts all to one type, and
    for a literal.
    """
    if expr.dtype is not None or not any(_is_constant(arg, dtypes) for arg in expr.args):
        return (None,) * len(expr.args)
    args = [expr_dtype(arg, dtypes) for arg in expr.args]
    first = 1 if expr.op == "select" else 0
    strongest = [a for a in args[first:] if isinstance(a, DType) and not a.weak]
    settled = [*args[:first], *settle(args[first:])]
    return tuple(
        result_dtype("add", number, promote(*strongest)).compute
        if isinstance(found, DType) and not isinstance(number, DType)
        else None
        for found, number in zip(args, settled, strict=True)
    )


def _is_constant(expr: Expr, dtypes: Mapping[str, DType | Number]) -> bool:
    """Whether an expression may be weak, and is no literal."""
    if isinstance(expr, Coordinate):
        return expr.name.isupper()
    if isinstance(expr, Access):
        known = dtypes.get(expr.tensor)
        return isinstance(known, DType) and known.weak
    if not isinstance(expr, Map) or expr.dtype is not None:
        return False
    return all(isinstance(arg, Literal) or _is_constant(arg, dtypes) for arg in expr.args)


def _folded(node: Reduce, dtype: DType) -> DType:
    """The dtype of a reduction is that of what it folds, so the operator must keep it."""
    if op_dtype(node.op, [dtype, dtype]) != dtype:
        raise OperandError(
            f"{node.op} of {dtype} is not {dtype}, so it cannot reduce it",
            span=node.span,
            hint="cast the operand to a type that the operator keeps, such as f64",
        )
    return dtype


def op_dtype(op: Op, args: Sequence[DType | Number]) -> DType | Number:
    """The dtype of an operator's value; one of the text's own has that of its body, weak as it is.

    Raises:
        OperandError: it is not defined on these dtypes, or a parameter's dtype does not hold them.
    """
    if not isinstance(op, UserOperator):
        return result_dtype(op, *args)
    given: dict[str, DType | Number] = {}
    for parameter, arg in zip(op.parameters, args, strict=True):
        declared = parameter.dtype
        given[parameter.name] = arg if declared is None else declared
        if declared is None or not isinstance(arg, DType) or (arg.weak and declared.is_inexact):
            continue
        if not np.can_cast(arg.numpy, declared.numpy, "safe"):
            raise OperandError(
                f"{op} takes {parameter} but was given {arg}", hint="cast the argument first"
            )
    return expr_dtype(op.body, given)


def _map_dtype(expr: Map, args: list[DType | Number]) -> DType | Number:
    try:
        if not is_chain(expr.op):
            return op_dtype(expr.op, args)
        yields = all(not isinstance(arg, DType) or arg.weak for arg in args)
        args = settle(args)
        # Of all at once: i16, u16 and f32 have the common type f32, i16 and u16 alone have i32.
        dtypes = [arg for arg in args if isinstance(arg, DType)]
        weak: list[DType | Number] = [arg for arg in args if not isinstance(arg, DType)]
        strongest: list[DType | Number] = [promote(*dtypes)] if dtypes else []
        first, second, *rest = strongest * min(len(dtypes), 2) + weak
        pair = op_dtype(expr.op, [first, second])
        found = reduce(lambda total, arg: op_dtype(expr.op, [total, arg]), rest, pair)
        if not isinstance(found, DType):
            return found
        return replace(found, weak=yields and found.kind != "bool")
    except EinloomError as error:
        if error.span is None and expr.span is not None:
            raise OperandError(error.message, span=expr.span) from None
        raise
