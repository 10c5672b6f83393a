"""Operators, numbers and casts as NumPy text."""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Sequence

import numpy as np

from ...ir.dtypes import DType, of_numpy
from ...ir.infer import strong
from ...ir.operators import OPERATORS, Number, Operator, is_chain, result_dtype, value_in
from .values import Value, aligned, aligned_axes

_CALL = re.compile(r"np\.(\w+)\(a(, b)?\)")


def number_text(value: Number) -> str:
    """A Python number as source: `-np.inf`, `2.5`, `complex(0.0, np.nan)`.

    >>> number_text(float("-inf")), number_text(complex(1, float("nan")))
    ('-np.inf', 'complex(1.0, np.nan)')
    """
    if isinstance(value, complex):
        if cmath.isfinite(value) and math.copysign(1, value.real) > 0:
            return repr(value)
        return f"complex({number_text(value.real)}, {number_text(value.imag)})"
    if isinstance(value, float) and math.isinf(value):
        return "np.inf" if value > 0 else "-np.inf"
    if isinstance(value, float) and math.isnan(value):
        return "np.nan"
    return repr(value)


def dtype_text(dtype: DType) -> str:
    """A dtype as source: `np.float32`, `ml_dtypes.bfloat16`, `object`."""
    if dtype.name == "bf16":
        return "ml_dtypes.bfloat16"
    return "object" if dtype.kind == "object" else f"np.{dtype.numpy.type.__name__}"


def constant(value: Number, dtype: DType) -> Number:
    """An identity as it is in a dtype (`operators.value_in`), as a Python number."""
    if dtype.is_host_only:
        return value
    number: Number = value_in(value, dtype.compute).item()
    return number


def literal(value: Number) -> Value:
    """A Python number, weak beside arrays."""
    text = number_text(value)
    dtype = of_numpy(np.asarray(value).dtype)
    return Value(text, (), dtype, atom=not text.startswith("-"), number=value)


def cast(value: Value, dtype: DType) -> Value:
    """The value as an array (or scalar) of `dtype`, converted as C does."""
    if value.weak:
        return Value(f"np.asarray({value.text}).astype({dtype_text(dtype)})", (), dtype)
    if value.dtype == dtype:
        return value
    value = value.natural()
    if value.dtype.kind == "complex" and dtype.kind == "bool":
        return Value(f"{value.operand(value.axes)} != 0", value.axes, dtype, atom=False)
    text = value.operand(value.axes)
    if value.dtype.kind == "complex" and dtype.kind not in ("complex", "object"):
        text = f"np.real({value.text})"
    elif value.dtype.kind == "object" and not value.axes:
        text = f"np.asarray({value.text}, object)"  # NumPy unwraps such a scalar
    return Value(f"{text}.astype({dtype_text(dtype)})", value.axes, dtype)


def bitcast(value: Value, stored: DType, dtype: DType) -> Value:
    """The bits of the value, which has the type `stored`, read as `dtype`."""
    value = cast(value, stored).natural()
    return Value(f"{value.operand(value.axes)}.view({dtype_text(dtype)})", value.axes, dtype)


def apply(op: str, args: Sequence[Value], order: Sequence[str]) -> Value:
    """An operator on values: infix where it has a symbol, else its formula."""
    operator = OPERATORS[op]
    if not is_chain(op) or len(args) == 2:
        return _apply(operator, args, order)
    total = _apply(operator, args[:2], order)
    for arg in args[2:]:
        total = _apply(operator, (total, arg), order, chained=True)
    return total


def _apply(
    operator: Operator, args: Sequence[Value], order: Sequence[str], *, chained: bool = False
) -> Value:
    axes = aligned_axes(args, order)
    places = [aligned(arg, axes) for arg in args]
    known = (arg.dtype if arg.number is None else arg.number for arg in args)
    dtype = strong(result_dtype(operator.name, *known))
    # Between scalars that NumPy unwraps to Python numbers an operator is Python's own: this is
    # meant for objects, but not for what compares them (a NumPy bool), nor for literals.
    unwrapped = dtype.kind == "object" and not axes
    arrays = axes or unwrapped or all(arg.dtype.kind != "object" for arg in args)
    if operator.symbol and len(args) == 2 and arrays and not all(arg.weak for arg in args):
        infix = [arg.operand(place) for arg, place in zip(args, places, strict=True)]
        if chained and places[0] == args[0].axes:
            infix[0] = args[0].text  # Python too folds from the left
        text = f" {operator.symbol} ".join(infix)
        call = None if unwrapped else _call(operator, args, places)
        return Value(text, axes, dtype, atom=False, call=call)
    call = _call(operator, args, places)
    texts = [_argument(arg, place) for arg, place in zip(args, places, strict=True)]
    formula = _formula(operator, args)
    text = re.sub(r"\b[abc]\b", lambda found: texts["abc".index(found[0])], formula)
    return Value(text, axes, dtype, call=call)


def _call(
    operator: Operator, args: Sequence[Value], places: Sequence[Sequence[str | None]]
) -> str | None:
    """The operator as a call of a ufunc, if its formula is one."""
    plain = _CALL.fullmatch(_formula(operator, args))
    if plain is None or not isinstance(getattr(np, plain[1]), np.ufunc):
        return None
    texts = [_argument(arg, place) for arg, place in zip(args, places, strict=True)]
    return f"np.{plain[1]}({', '.join(texts)}"


def _argument(arg: Value, place: Sequence[str | None]) -> str:
    """An argument of a NumPy function, which must not take an object scalar for an i64."""
    text = arg.render(place)
    return f"np.asarray({text}, object)" if arg.dtype.kind == "object" and not arg.axes else text


def _formula(operator: Operator, args: Sequence[Value]) -> str:
    known = (arg.dtype.numpy if arg.number is None else arg.number for arg in args)
    return operator.formula_on(*known)


def duplicates(op: str, args: Sequence[Value]) -> bool:
    """Whether the formula writes an operand twice, so that it should be a name."""
    formula = _formula(OPERATORS[op], args)
    return any(len(re.findall(rf"\b{letter}\b", formula)) > 1 for letter in "abc")
