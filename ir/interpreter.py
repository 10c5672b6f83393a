"""What every construct means: the definition that backends and rewrites are held to.

An Einsum is evaluated for all points of its output at once, as NumPy arrays over the output's
variables; each reduced coordinate is visited in turn, first variable outermost, and folded in from
the left. A scan's Einsums are evaluated in the order of text at each coordinate in turn. So the
order of every floating-point operation is said, memory is that of the output, and no BLAS, path
or reassociation is involved. f16 and bf16 are computed in f32 and rounded where they are stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from . import partitions
from .cascade import Cascade
from .dtypes import DType, of_numpy
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
from .errors import OperandError, RankError
from .infer import (
    beside_floats,
    einsum_dtype,
    expr_dtype,
    infer_dtypes,
    product_dtype,
    strong,
)
from .operators import OPERATORS, Number, identity_of, in_table, is_chain, value_in
from .ranks import RankExpr
from .scans import Scan, stages
from .sizes import infer_sizes

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def evaluate(
    cascade: Cascade, inputs: Mapping[str, Any], keep: Sequence[str] = ()
) -> dict[str, Array]:
    """The outputs of a Cascade by name, and the tensors that `keep` names.

    Raises:
        OperandError, RankError: the inputs do not fit the Cascade.
    """
    arrays = read_inputs(cascade, inputs)
    sizes = infer_sizes(cascade, {name: array.shape for name, array in arrays.items()})
    dtypes = infer_dtypes(cascade, {n: of_numpy(a.dtype) for n, a in arrays.items()})
    wanted = [*cascade.outputs, *keep]
    for name in keep:
        if name not in dtypes:
            raise OperandError(f"keep= names {name}, which {cascade.name} does not define")
    typed = tuple(replace(decl, dtype=dtypes[decl.name]) for decl in cascade.inputs)
    cascade = partitions.expand(replace(cascade, inputs=typed))
    dtypes = infer_dtypes(cascade, {})
    extents = cascade.extents()
    stepping = {einsum.name for einsum in cascade.einsums if einsum.step is not None}

    def write(einsum: Einsum, fixed: Mapping[str, int]) -> None:
        """The part of a scanned tensor that a start, or a member at a coordinate, defines."""
        if einsum.name not in arrays:
            shape = tuple(extent.value(sizes) for extent in extents[einsum.name])
            arrays[einsum.name] = np.zeros(shape, dtypes[einsum.name].numpy)
        place: list[slice | int] = []
        for index in einsum.left:
            factors, at = index.coefficients(sizes)
            (variable,) = factors or ("",)
            if variable and variable not in fixed:
                place.append(slice(at, at + sizes[variable.upper()]))
            else:
                place.append(at + fixed.get(variable, 0))
        value = _over_free(einsum, arrays, sizes, dtypes, fixed)
        arrays[einsum.name][tuple(place)] = value

    def advance(scan: Scan, fixed: Mapping[str, int]) -> None:
        for coordinate in range(sizes[scan.rank]):
            here = {**fixed, scan.variable: coordinate}
            for member in scan.members:
                if isinstance(member, Scan):
                    advance(member, here)
                else:
                    write(member, here)

    with np.errstate(all="ignore"):
        for stage in stages(cascade):
            if isinstance(stage, Scan):
                advance(stage, {})
                for einsum in stage.einsums:  # what does not step has nothing yet if V is 0
                    shape = tuple(extent.value(sizes) for extent in extents[einsum.name])
                    arrays.setdefault(einsum.name, np.zeros(shape, dtypes[einsum.name].numpy))
            elif stage.name in stepping:
                write(stage, {})
            else:
                arrays[stage.name] = evaluate_einsum(stage, arrays, sizes, dtypes)
    return {name: arrays[name] for name in wanted}


def read_inputs(cascade: Cascade, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Each input as an array of its declared dtype, in native byte order.

    Raises:
        OperandError: one is missing, unknown, or of another dtype than declared.
    """
    declared = [decl.name for decl in cascade.inputs]
    for name in inputs:
        if name not in declared:
            raise OperandError(
                f"{cascade.name} has no input {name}", deduced=(f"inputs: {declared}",)
            )
    arrays: dict[str, Array] = {}
    for decl in cascade.inputs:
        if decl.name not in inputs:
            raise OperandError(f"the input {decl} is missing", passed=(", ".join(inputs),))
        array = np.asarray(inputs[decl.name])
        dtype = decl.dtype or of_numpy(array.dtype)
        if not np.can_cast(array.dtype, dtype.numpy, "safe"):
            raise OperandError(
                f"{decl.name} is declared {dtype} but was given {array.dtype}",
                span=decl.span,
                hint=f"cast it first: {decl.name}.astype({dtype.numpy.name!r})",
            )
        arrays[decl.name] = array.astype(dtype.numpy, copy=False)
    return arrays


@dataclass(frozen=True, slots=True)
class _Point:
    """Where an expression is evaluated: free variables are axes, reduced ones are numbers."""

    arrays: Mapping[str, Array]
    sizes: Mapping[str, int]
    dtypes: Mapping[str, DType]
    axes: Mapping[str, int]
    shape: tuple[int, ...]
    fixed: Mapping[str, int]
    zeros: Mapping[Op, Number]  # of the Einsum's semiring: what its own reduction of nothing is
    product: tuple[Expr, DType] | None  # the Einsum's outermost product, and what computes it
    given: Mapping[str, Any]  # in the body of an operator of the text's own: its arguments

    def fix(self, coordinates: Mapping[str, int]) -> _Point:
        fixed = {**self.fixed, **coordinates}
        return replace(self, fixed=fixed)


def evaluate_einsum(
    einsum: Einsum,
    arrays: Mapping[str, Array],
    sizes: Mapping[str, int],
    dtypes: Mapping[str, DType],
) -> Array:
    """The tensor that one Einsum, which is no part of a scan, defines."""
    value = _over_free(einsum, arrays, sizes, dtypes, {})
    return _place(einsum, value, sizes, of_numpy(value.dtype))


def _over_free(
    einsum: Einsum,
    arrays: Mapping[str, Array],
    sizes: Mapping[str, int],
    dtypes: Mapping[str, DType],
    fixed: Mapping[str, int],
) -> Array:
    """What an Einsum defines, over its output's variables but those that are `fixed`."""
    dtype = dtypes.get(einsum.name) or einsum_dtype(einsum, dtypes)
    free = [variable for variable in einsum.free if variable not in fixed]
    axes = {variable: axis for axis, variable in enumerate(free)}
    shape = tuple(sizes[variable.upper()] for variable in free)
    zeros = {einsum.ring.add: einsum.ring.zero}
    product = (einsum.body, product_dtype(einsum, dtypes).compute)
    point = _Point(arrays, sizes, dtypes, axes, shape, fixed, zeros, product, {})
    if isinstance(einsum.expr, Reduce):
        value = _fold(einsum.expr, point, einsum.where, dtype.compute)
    else:
        value = np.asarray(_value(einsum.expr, point))
    if einsum.where is not None and einsum.otherwise is not None:
        keep = _any_kept(einsum, point)
        value = np.where(keep, value, einsum.otherwise.value)
    return convert(np.broadcast_to(value, shape), dtype)


def _any_kept(einsum: Einsum, point: _Point) -> Array:
    """Where the filter leaves at least one point."""
    assert einsum.where is not None
    keep = np.zeros(point.shape, bool)
    reduced = einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()
    for coordinates in _coordinates(reduced, point.sizes):
        keep |= _value(einsum.where, point.fix(coordinates))
    return keep


def _place(einsum: Einsum, value: Array, sizes: Mapping[str, int], dtype: DType) -> Array:
    """`value`, over the free variables, at the left-hand side's own indices (diagonals, zeros)."""
    if einsum.output.plain == einsum.free:
        return value
    left = [index for index in einsum.output.indices if isinstance(index, RankExpr)]
    extents = [sizes[index.variable.upper()] if index.variable else 1 for index in left]
    result = np.full(extents, value_in(einsum.ring.zero, dtype), dtype.numpy)
    strides = [0] * len(einsum.free)
    for index, stride in zip(left, result.strides, strict=True):
        if index.variable:
            strides[einsum.free.index(index.variable)] += stride
    np.lib.stride_tricks.as_strided(result, value.shape, strides)[...] = value
    return result


def _coordinates(variables: Sequence[str], sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    ranges = [range(sizes[variable.upper()]) for variable in variables]
    return (dict(zip(variables, values, strict=True)) for values in itertools.product(*ranges))


def _fold(node: Reduce, point: _Point, where: Expr | None, dtype: DType | None = None) -> Array:
    """The reduction at every point of the output; `where` drops coordinates of the outermost."""
    if node.op in PLACES:
        return _fold_place(node, point, where)
    if dtype is None:
        dtype = strong(expr_dtype(node.expr, point.dtypes)).compute
    empty = point.zeros.get(node.op, identity_of(node.op))
    assert empty is not None
    total = np.full(point.shape, value_in(empty, dtype), dtype.numpy)
    begun = np.zeros(point.shape, bool)
    for number, coordinates in enumerate(_coordinates(node.variables, point.sizes)):
        here = point.fix(coordinates)
        value = convert(np.asarray(_value(node.expr, here)), dtype)
        if where is None:
            total = value if number == 0 else _folded(node.op, total, value, dtype, point)
            continue
        kept = _value(where, here)
        folded = np.where(begun, _folded(node.op, total, value, dtype, point), value)
        total = np.where(kept, folded, total).astype(dtype.numpy)
        begun = begun | kept
    return total


def _folded(op: Op, total: Array, value: Array, dtype: DType, point: _Point) -> Array:
    if isinstance(op, UserOperator):
        return convert(np.asarray(_applied(op, [total, value], [dtype, dtype], point)), dtype)
    return np.asarray(OPERATORS[op].reference(total, value))


def _fold_place(node: Reduce, point: _Point, where: Expr | None) -> Array:
    """The coordinate of the first largest, or smallest, value; NaN is both, as in NumPy."""
    (variable,) = node.variables
    better = np.greater if PLACES[node.op] == "max" else np.less
    best: Any = None
    place = np.full(point.shape, -1, np.int64)
    for coordinate in range(point.sizes[variable.upper()]):
        here = point.fix({variable: coordinate})
        value = np.broadcast_to(np.asarray(_value(node.expr, here)), point.shape)
        if best is None:
            best = value.copy()
        first = np.isnan(value) & ~np.isnan(best) if value.dtype.kind in "fc" else False
        wins = (place < 0) | (better(value, best) | first)
        if where is not None:
            wins &= np.asarray(_value(where, here))
        best = np.where(wins, value, best)
        place = np.where(wins, coordinate, place)
    return place


def _value(expr: Expr, point: _Point) -> Any:
    """The expression at every point of the output, as an array that broadcasts to its shape."""
    if isinstance(expr, Literal):
        return expr.value
    if isinstance(expr, Coordinate):
        if expr.name in point.sizes:
            return np.int64(point.sizes[expr.name])
        return _affine(RankExpr.of_variable(expr.name), point)
    if isinstance(expr, Access):
        if expr.tensor in point.given:
            return point.given[expr.tensor]
        value = _read(expr, point)
        compute = point.dtypes[expr.tensor].compute.numpy
        return value if value.dtype == compute else value.astype(compute)
    if isinstance(expr, Reduce):
        return _fold(expr, point, None)
    args = [_value(arg, point) for arg in expr.args]
    if isinstance(expr.op, UserOperator):
        return _applied(expr.op, args, [expr_dtype(a, point.dtypes) for a in expr.args], point)
    if is_chain(expr.op) and not all(isinstance(arg, Literal) for arg in expr.args):
        if point.product is not None and expr is point.product[0]:
            dtype = point.product[1]
        else:
            dtype = strong(expr_dtype(expr, point.dtypes)).compute
        args = [arg if type(arg) in _NUMBERS else arg.astype(dtype.numpy) for arg in args]
    else:
        to = beside_floats(expr, point.dtypes)
        args = [
            arg if dtype is None else np.asarray(arg).astype(dtype.numpy)
            for arg, dtype in zip(args, to, strict=True)
        ]
    if expr.op == "bitcast":
        # The bits are those of the type that the operand has, not of the one it is computed in.
        stored = strong(expr_dtype(expr.args[0], point.dtypes))
        args = [np.asarray(args[0]).astype(stored.numpy)]
    value = _apply(expr, args)
    # NumPy unwraps an object scalar to a Python number, which would then be weak.
    numpys = isinstance(value, np.ndarray | np.generic)
    return value if numpys else np.asarray(value, object)  # pyright: ignore[reportUnknownVariableType]


#: What is weak; NumPy's own numbers, some of which are subclasses of these, are not.
_NUMBERS: frozenset[type] = frozenset({bool, int, float, complex})


def _applied(
    op: UserOperator, args: list[Any], dtypes: Sequence[DType | Number], point: _Point
) -> Any:
    """The body of an operator of the text's own, with these arguments for its parameters."""
    given: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for parameter, value, dtype in zip(op.parameters, args, dtypes, strict=True):
        given[parameter.name], types[parameter.name] = value, dtype
        if parameter.dtype is not None:
            stored = convert(np.asarray(value), parameter.dtype)
            given[parameter.name] = stored.astype(parameter.dtype.compute.numpy, copy=False)
            types[parameter.name] = parameter.dtype
    inside = replace(point, dtypes=types, given=given, product=None)
    return _value(op.body, inside)


def _apply(node: Map, args: list[Any]) -> Any:
    if node.dtype is not None:
        value = np.asarray(args[0])
        value = convert(value, node.dtype) if node.op == "cast" else value.view(node.dtype.numpy)
        return value.astype(node.dtype.compute.numpy, copy=False)
    reference = OPERATORS[in_table(node.op)].reference
    return reduce(reference, args) if is_chain(node.op) else reference(*args)


def convert(value: Array, dtype: DType) -> Array:
    """A cast as C does it; complex to real keeps the real part."""
    if np.iscomplexobj(value) and dtype.kind not in ("complex", "object"):
        value = value != 0 if dtype.kind == "bool" else np.real(value)
    return value.astype(dtype.numpy)


def _affine(index: RankExpr, point: _Point) -> Array:
    """The values of an index expression over the output's axes, as an open mesh."""
    factors, constant = index.coefficients(point.sizes)
    total = np.full((1,) * len(point.shape), constant, np.int64)
    for variable, factor in factors.items():
        if variable in point.fixed:
            total = total + factor * point.fixed[variable]
        else:
            axis = point.axes[variable]
            mesh = [1] * len(point.shape)
            mesh[axis] = point.shape[axis]
            total = total + factor * np.arange(point.shape[axis]).reshape(mesh)
    return total


def _read(access: Access, point: _Point) -> Array:
    """What an Access reads, over the output's axes."""
    source = point.arrays[access.tensor]
    affine = [index for index in access.indices if isinstance(index, RankExpr)]
    if access.fill is None and len(affine) == len(access.indices):
        return _read_strided(access, affine, source, point)
    shape = point.shape
    indices: list[Array] = []
    inside: Any = np.ones((1,) * len(shape), bool)
    for index, extent in zip(access.indices, source.shape, strict=True):
        at = _read(index, point) if isinstance(index, Access) else _affine(index, point)
        if access.fill is None and at.size and 0 not in shape:
            _check_range(access, int(at.min()), int(at.max()), extent)
        valid = (at >= 0) & (at < extent)
        indices.append(np.where(valid, at, 0))
        inside = inside & valid
    if access.fill is None:
        return source[tuple(indices)] if source.size else np.empty(shape, source.dtype)
    fill = value_in(access.fill.value, point.dtypes[access.tensor])
    if source.size == 0:
        return np.broadcast_to(fill, shape)
    return np.where(inside, source[tuple(indices)], fill)


def _read_strided(access: Access, indices: list[RankExpr], source: Array, point: _Point) -> Array:
    """An affine read without a fill is a view of the source: it costs no copy and has any rank."""
    strides = [0] * len(point.shape)
    start: list[int] = []
    for index, extent, stride in zip(indices, source.shape, source.strides, strict=True):
        factors, constant = index.coefficients(point.sizes)
        low = high = constant
        for variable, factor in factors.items():
            if variable in point.fixed:
                step = factor * point.fixed[variable]
                low, high, constant = low + step, high + step, constant + step
                continue
            axis = point.axes[variable]
            reach = factor * (point.shape[axis] - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
            strides[axis] += factor * stride
        if 0 not in point.shape:
            _check_range(access, low, high, extent)
        start.append(constant)
    if 0 in point.shape:
        return np.empty(point.shape, source.dtype)
    corner = source[tuple(slice(at, at + 1) for at in start)]
    return np.lib.stride_tricks.as_strided(corner, point.shape, strides, writeable=False)


def _check_range(access: Access, low: int, high: int, extent: int) -> None:
    if low < 0 or high >= extent:
        raise RankError(
            f"{access.tensor} is read at {low}..{high} on a rank of extent {extent}",
            span=access.span,
            hint="say what lies outside: `X[... else 0]`",
        )
