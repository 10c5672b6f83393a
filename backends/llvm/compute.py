"""Values whose parts are in registers."""

from __future__ import annotations

from collections.abc import Mapping

from ...ir.dtypes import I64
from ...ir.loop_nodes import Apply, Convert, Index, Number, Value
from .simd import Vec
from .values import Values


def compute(values: Values, value: Value, known: Mapping[Value, Vec]) -> Vec:
    """A value, given those of its parts that are not numbers, sizes or computed from others."""
    found = known.get(value)
    if found is not None:
        return found
    if isinstance(value, Apply):
        args = [compute(values, arg, known) for arg in value.args]
        return values.arithmetic.apply(value.op, args)
    if isinstance(value, Convert):
        convert = values.convert.by_bits if value.bitcast else values.convert.by_value
        return convert(compute(values, value.arg, known), value.dtype)
    if isinstance(value, Index):
        return Vec(I64, (values.accesses.number(value.index),))
    assert isinstance(value, Number)
    return values.simd.constant(value.value, value.dtype)
