"""What the inputs decide: the size of every rank and the dtype of every tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from .cascade import Cascade
from .dtypes import DType, of_numpy, promote
from .einsum import Access, Coordinate, Einsum, Expr, Literal, Map, Reduce
from .errors import EinloomError, OperandError, RankError
from .operators import Number, is_chain, result_dtype
from .ranks import RankExpr


def infer_sizes(cascade: Cascade, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The extent of every rank, from the shapes of the inputs.

    Raises:
        RankError: an input has the wrong number of axes; a rank gets two extents, or none.
    """
    passed = tuple(f"{name}: {tuple(shape)}" for name, shape in shapes.items())
    sizes = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    first = dict.fromkeys(sizes, "the declaration")
    for decl in cascade.inputs:
        shape = tuple(shapes[decl.name])
        if len(shape) != len(decl.extents):
            raise RankError(
                f"{decl.name} has {len(decl.extents)} ranks but was given an array of {len(shape)}",
                span=decl.span,
                deduced=(str(decl),),
                passed=passed,
            )
        for extent, length in zip(decl.extents, shape, strict=True):
            rank = extent.rank
            if rank is None:
                continue
            if sizes.setdefault(rank, length) != length:
                raise RankError(
                    f"rank {rank} has extent {sizes[rank]} in {first[rank]} "
                    f"but {length} in {decl.name}",
                    span=decl.span,
                    passed=passed,
                )
            first.setdefault(rank, decl.name)
    _solve_aliases(cascade, sizes, passed)
    for decl in cascade.inputs:
        for extent, length in zip(decl.extents, shapes[decl.name], strict=True):
            if extent.value(sizes) != length:
                raise RankError(
                    f"an axis of {decl.name} has extent {length}, "
                    f"but it is declared {extent} = {extent.value(sizes)}",
                    span=decl.span,
                    passed=passed,
                )
    return sizes


def _solve_aliases(cascade: Cascade, sizes: dict[str, int], passed: tuple[str, ...]) -> None:
    """Evaluates the shapes that are expressions, and checks those that were read off an input."""
    waiting = [rank for rank in cascade.ranks if isinstance(rank.shape, RankExpr)]
    while waiting:
        later = [r for r in waiting if isinstance(r.shape, RankExpr) and not _known(r.shape, sizes)]
        for rank in waiting:
            if rank in later or not isinstance(rank.shape, RankExpr):
                continue
            value = max(rank.shape.value(sizes), 0)
            if sizes.setdefault(rank.name, value) != value:
                raise RankError(
                    f"rank {rank.name} has extent {sizes[rank.name]}, "
                    f"but it is declared {rank} = {value}",
                    span=rank.span,
                    passed=passed,
                )
        if len(later) == len(waiting):
            break
        waiting = later
    for rank in cascade.ranks:
        if rank.name not in sizes:
            raise RankError(
                f"the extent of rank {rank.name} follows from no input",
                span=rank.span,
                passed=passed,
                hint=f"declare it: `ranks {rank.name} = 8`, or give sizes=",
            )


def _known(expr: RankExpr, sizes: Mapping[str, int]) -> bool:
    return all(rank in sizes for rank in expr.sizes())


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
    for einsum in cascade.einsums:
        dtypes[einsum.name] = einsum_dtype(einsum, dtypes)
    return dtypes


def einsum_dtype(einsum: Einsum, dtypes: Mapping[str, DType]) -> DType:
    """The dtype that an Einsum's output has, for these dtypes of the tensors it reads."""
    inferred = strong(expr_dtype(_under(einsum.expr), dtypes))
    if einsum.where is not None:
        condition = strong(expr_dtype(einsum.where, dtypes))
        if condition.kind != "bool":
            raise OperandError(
                f"the condition of {einsum.name} is {condition}, not bool", span=einsum.span
            )
    dtype = einsum.dtype or inferred
    if isinstance(einsum.expr, Reduce):
        _folded(einsum.expr, dtype)
    if einsum.dtype is not None and isinstance(einsum.body, Map) and is_chain(einsum.body.op):
        computed = product_dtype(einsum, dtypes)
        result_dtype(einsum.body.op, computed, computed)
    if dtype.kind not in einsum.ring.kinds:
        raise OperandError(
            f"semiring {einsum.semiring} is not defined on {dtype}",
            span=einsum.span,
            hint=f"it takes the kinds {', '.join(sorted(einsum.ring.kinds))}; cast the operands",
        )
    return dtype


def _under(expr: Expr) -> Expr:
    """What the outermost reduction folds; the declared dtype, if any, is the type it folds in."""
    return expr.expr if isinstance(expr, Reduce) else expr


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
        return {ring.add, ring.mul} <= {"add", "mul", "and", "or", "xor"}
    return total.kind == product.kind


def strong(found: DType | Number) -> DType:
    """A dtype as it is, a number as the dtype that NumPy gives it alone."""
    return found if isinstance(found, DType) else of_numpy(np.asarray(found).dtype)


def expr_dtype(expr: Expr, dtypes: Mapping[str, DType]) -> DType | Number:
    """The dtype of an expression; for a literal its number, which is weak."""
    if isinstance(expr, Literal):
        return expr.value
    if isinstance(expr, Coordinate):
        return of_numpy(np.dtype(np.int64))
    if isinstance(expr, Access):
        for index in expr.indices:
            if isinstance(index, Access) and not strong(expr_dtype(index, dtypes)).is_integer:
                raise OperandError(
                    f"{index.tensor} indexes {expr.tensor}, but its dtype is not an integer's",
                    span=index.span or expr.span,
                )
        return dtypes[expr.tensor]
    if isinstance(expr, Reduce):
        return _folded(expr, strong(expr_dtype(expr.expr, dtypes)))
    args = [expr_dtype(arg, dtypes) for arg in expr.args]
    if expr.dtype is not None:
        if expr.op == "bitcast" and strong(args[0]).bits != expr.dtype.bits:
            raise OperandError(
                f"bitcast from {strong(args[0])} to {expr.dtype} changes the width", span=expr.span
            )
        return expr.dtype
    return _map_dtype(expr, args)


def _folded(node: Reduce, dtype: DType) -> DType:
    """The dtype of a reduction is that of what it folds, so the operator must keep it."""
    if result_dtype(node.op, dtype, dtype) != dtype:
        raise OperandError(
            f"{node.op} of {dtype} is not {dtype}, so it cannot reduce it",
            span=node.span,
            hint="cast the operand to a type that the operator keeps, such as f64",
        )
    return dtype


def _map_dtype(expr: Map, args: list[DType | Number]) -> DType:
    try:
        if not is_chain(expr.op):
            return result_dtype(expr.op, *args)
        # Of all at once: i16, u16 and f32 have the common type f32, i16 and u16 alone have i32.
        dtypes = [arg for arg in args if isinstance(arg, DType)]
        weak: list[DType | Number] = [arg for arg in args if not isinstance(arg, DType)]
        strongest: list[DType | Number] = [promote(*dtypes)] if dtypes else []
        first, second, *rest = strongest * min(len(dtypes), 2) + weak
        pair = result_dtype(expr.op, first, second)
        return reduce(lambda total, arg: result_dtype(expr.op, total, arg), rest, pair)
    except EinloomError as error:
        if error.span is None and expr.span is not None:
            raise OperandError(error.message, span=expr.span) from None
        raise
