"""A product of two arrays summed over variables that both have: a call of BLAS where it can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...ir.dtypes import BOOL, F32
from .formulas import cast
from .frame import tuple_text
from .values import Value


def contract(
    a: Value,
    b: Value,
    summed: Sequence[str],
    order: Sequence[str],
    size: Callable[[str], str],
) -> Value | None:
    """sum[summed] a * b, for values of one dtype; None where an elementwise product serves better.

    `order` is the order that the result's axes are wanted in; `size` gives a variable's extent.
    """
    if a.dtype == BOOL:
        # or of and: a count in f32 is a sum of non-negative terms, so it is 0 only if all are.
        count = contract(cast(a, F32), cast(b, F32), summed, order, size)
        if count is None:
            return None
        return Value(f"{count.operand(count.axes)} != 0", count.axes, BOOL, atom=False)
    kept = [v for v in order if (v in a.axes or v in b.axes) and v not in summed]
    both = all(
        any(v not in other.axes for v in kept if v in own.axes) for own, other in ((a, b), (b, a))
    )
    if both and kept[-1] not in b.axes:
        a, b = b, a  # the last output axis belongs to the second matrix
    batch = [v for v in kept if v in a.axes and v in b.axes]
    rows = [v for v in kept if v in a.axes and v not in b.axes]
    columns = [v for v in kept if v in b.axes and v not in a.axes]
    sums = [v for v in a.axes if v in summed]
    if batch:
        if rows or columns:
            return _batched(a, b, (batch, rows, sums, columns), size)
        return _vector_product(a, b, batch, sums)
    if len(rows) <= 1 and len(columns) <= 1 and len(sums) == 1:
        call = f"np.matmul({a.render([*rows, *sums])}, {b.render([*sums, *columns])}"
        return Value(f"{call})", (*rows, *columns), a.dtype, call=call)
    return _tensordot(a, b, sums)


def _tensordot(a: Value, b: Value, sums: Sequence[str]) -> Value:
    first = tuple_text([str(a.axes.index(v)) for v in sums])
    second = tuple_text([str(b.axes.index(v)) for v in sums])
    axes = [v for v in (*a.axes, *b.axes) if v not in sums]
    text = f"np.tensordot({a.render(a.axes)}, {b.render(b.axes)}, axes=({first}, {second}))"
    return Value(text, tuple(axes), a.dtype)


def _vector_product(a: Value, b: Value, batch: Sequence[str], sums: Sequence[str]) -> Value | None:
    """One dot product for each point of the batch, if the summed axis is the last of both."""
    # np.vecdot conjugates its first operand.
    if a.dtype.kind in ("complex", "object") or len(sums) != 1:
        return None
    if a.axes[-1] != sums[0] or b.axes[-1] != sums[0]:
        return None
    call = f"np.vecdot({a.render([*batch, *sums])}, {b.render([*batch, *sums])}"
    return Value(f"{call})", tuple(batch), a.dtype, call=call)


def _batched(
    a: Value,
    b: Value,
    groups: tuple[Sequence[str], Sequence[str], Sequence[str], Sequence[str]],
    size: Callable[[str], str],
) -> Value:
    """A stack of matrix products; several rows, columns or summed variables count as one axis."""
    batch, rows, sums, columns = groups
    call = (
        f"np.matmul({_matrix(a, batch, rows, sums, size)}, {_matrix(b, batch, sums, columns, size)}"
    )
    axes = (*batch, *rows, *columns)
    if len(rows) == 1 and len(columns) == 1:
        return Value(f"{call})", axes, a.dtype, call=call)
    if len(rows) <= 1 and len(columns) <= 1:
        # A vector stood as a matrix of one row, or of one column.
        dropped = ":, " * len(batch) + (":, 0" if rows else "0")
        return Value(f"{call})[{dropped}]", axes, a.dtype)
    return Value(f"{call}).reshape({', '.join(map(size, axes))})", axes, a.dtype)


def _matrix(
    value: Value,
    batch: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    size: Callable[[str], str],
) -> str:
    """The value as a stack of matrices: the variables of each group along one axis."""
    if len(first) <= 1 and len(second) <= 1:
        one: list[str | None] = [None]
        return value.render([*batch, *(first or one), *(second or one)])
    text = value.operand([*batch, *first, *second])
    extents = [
        *map(size, batch),
        *(" * ".join(map(size, group)) or "1" for group in (first, second)),
    ]
    return f"{text}.reshape({', '.join(extents)})"
