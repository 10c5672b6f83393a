"""What NumPy says about a result before anything is computed: that it is a view, how it lies.

Both are for Cascades of one Einsum, as classic subscripts give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ...ir.cascade import Cascade
from ...ir.einsum import Access, accesses
from ..base import Array

#: For each output axis, the input axes that it runs along: several make a diagonal.
ViewPlan: TypeAlias = tuple[tuple[int, ...], ...]


def view_plan(cascade: Cascade) -> ViewPlan | None:
    """How the result is a view of the one input; None if it is none.

    It is one if the Einsum only permutes axes or takes diagonals: it sums nothing, repeats nothing.
    """
    (definition,) = cascade.einsums
    read, left = definition.expr, definition.output.plain
    if not isinstance(read, Access) or read.plain is None or left is None:
        return None
    variables = read.plain
    if len(set(left)) < len(left) or set(left) != set(variables):
        return None
    return tuple(
        tuple(axis for axis, variable in enumerate(variables) if variable == out) for out in left
    )


def take_view(array: Array, plan: ViewPlan) -> Array:
    """The view of `array` whose axes run along the given axes of it; writeable if it is."""
    view = array.view()
    # A diagonal takes two axes away and puts one last; so the axes still there are tracked.
    names = list(range(array.ndim))
    for axes in plan:
        for axis in axes[1:]:
            view = view.diagonal(0, names.index(axes[0]), names.index(axis))
            names = [name for name in names if name not in (axes[0], axis)] + [axes[0]]
    view = view.transpose([names.index(axes[0]) for axes in plan])
    if array.flags.writeable:
        view.flags.writeable = True  # a diagonal is not, of itself
    return view


def result_axes(cascade: Cascade, inputs: Sequence[Array], order: str) -> tuple[int, ...] | None:
    """The result's axes from the outermost in memory to the innermost; None in C order.

    "F" reverses them; "A" does if all inputs are Fortran contiguous; "K" keeps the inputs' order:
    the axes of the iteration space are sorted as NumPy's iterator sorts them.
    """
    (definition,) = cascade.einsums
    left = definition.output.plain
    if left is None or len(set(left)) < len(left) or len(left) < 2:
        return None
    if order == "A":
        order = "F" if all(array.flags.f_contiguous for array in inputs) else "C"
    if order != "K":
        return tuple(reversed(range(len(left)))) if order == "F" else None
    reads = list(accesses(definition.expr))
    summed = sorted({v for read in reads for v in read.variables()} - set(left))
    strides = [
        tuple(_stride(read, array, variable) for read, array in zip(reads, inputs, strict=True))
        for variable in (*left, *summed)
    ]
    axes = tuple(axis for axis in _iteration_order(strides) if axis < len(left))
    return None if axes == tuple(range(len(left))) else axes


def _stride(read: Access, array: Array, variable: str) -> int:
    """How far a step of the variable goes in the array, without its sign; 0 if it stays."""
    steps = (
        stride
        for index, extent, stride in zip(read.indices, array.shape, array.strides, strict=True)
        if extent != 1 and variable in index.variables()
    )
    return abs(sum(steps))


def _iteration_order(strides: Sequence[tuple[int, ...]]) -> list[int]:
    """Axes from outermost to innermost, for each axis its stride in every operand.

    The insertion sort of NumPy's iterator (`npyiter_find_best_axis_ordering`): the smaller stride
    goes inside where all operands that move along both axes say so, else the axes stay.
    """
    inside_out = list(reversed(range(len(strides))))
    for start in range(1, len(inside_out)):
        axis, place = inside_out[start], start
        for before in reversed(range(start)):
            other = inside_out[before]
            pairs = [p for p in zip(strides[axis], strides[other], strict=True) if p[0] and p[1]]
            if pairs and not all(mine < others for mine, others in pairs):
                break
            if pairs:
                place = before
        inside_out.insert(place, inside_out.pop(start))
    return inside_out[::-1]
