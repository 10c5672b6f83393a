"""Whether an operator has the laws that it claims: tried on random and on special values.

A law holds in floating point up to rounding: two values that differ by few units of their dtype's
precision are the same, and so are NaN and NaN, 0 and -0. What survives is not proven; what is
refuted comes with its counterexample.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from .cascade import Cascade, TensorDecl
from .dtypes import BOOL, F64, I64, U8, DType, of_numpy
from .einsum import Access, Einsum, Expr, Literal, Map, UserOperator, accesses
from .errors import EinloomError, OperandError
from .infer import op_dtype
from .interpreter import evaluate
from .operators import Semiring
from .ranks import Rank, RankExpr

#: A law, and a counterexample to it as text.
Refuted: TypeAlias = tuple[str, str]

#: Each a value of a, b and c at every place.
Samples: TypeAlias = list[list[Any]]

#: The precision of a floating type.
_EPSILON = {
    "f16": 2.0**-10,
    "bf16": 2.0**-7,
    "f32": 2.0**-23,
    "c64": 2.0**-23,
    "f64": 2.0**-52,
    **dict.fromkeys(("c128", "longdouble", "clongdouble"), 2.0**-52),
}

_SAMPLES = 200
_TOLERANCE = 64  # units of precision


def refute_operator(op: UserOperator) -> Refuted | None:
    """The first law of an operator that does not hold, and where; None if all seem to.

    What rewrites rely on wherever the operator stands has to hold of every value: of NaN and
    infinities, and of the integers that wrap. An identity is one of numbers, NaN aside;
    `distributes_over` and `inverse` are laws of finite numbers, as they are of `*` and `+`. An
    operator that declares no dtype is tried on floats, integers and bools, where it keeps the type;
    a parameter that declares none beside one that does, on the dtype of that one.
    """
    if not (op.laws or op.identity or op.named):
        return None
    return _tried(op)


@lru_cache(maxsize=256)
def _tried(op: UserOperator) -> Refuted | None:
    typed = [parameter.dtype for parameter in op.parameters]
    declared = next(filter(None, typed), None)
    if declared is not None:  # laws put either operand in the other's place
        return _refuted(op, [dtype or declared for dtype in typed])
    first, *rest = [dtype for dtype in (F64, I64, U8, BOOL) if _keeps(op, dtype)] or [F64]
    found = _refuted(op, [first, first])
    order = replace(op, identity=None, distributes_over=(), inverse=None)
    for dtype in rest:
        found = found or _refuted(order, [dtype, dtype])
    return found


def _keeps(op: UserOperator, dtype: DType) -> bool:
    try:
        return op_dtype(op, [dtype, dtype]) == dtype
    except OperandError:
        return False


def _refuted(op: UserOperator, dtypes: list[DType]) -> Refuted | None:
    """The first law that does not hold of these dtypes."""
    a, b, c = (Access(name, (RankExpr.of_variable("i"),)) for name in ("A", "B", "C"))
    three = [*dtypes, dtypes[0]]
    ordinary = [_values(dtype, number) for number, dtype in enumerate(three)]
    special = list(map(np.ravel, np.meshgrid(*map(_special, three), indexing="ij")))
    numbers = ~np.any([_is_nan(values) for values in special], axis=0)
    finite = [ordinary]
    known = [ordinary, [values[numbers] for values in special]]
    every = [ordinary, special]

    def times(x: Expr, y: Expr) -> Expr:
        return Map(op, (x, y))

    laws: list[tuple[str, Expr, Expr, Samples]] = []
    if "commutative" in op.laws:
        laws.append(("commutative", times(a, b), times(b, a), every))
    if "associative" in op.laws:
        laws.append(("associative", times(times(a, b), c), times(a, times(b, c)), every))
    if "idempotent" in op.laws:
        laws.append(("idempotent", times(a, a), a, every))
    if op.identity is not None:
        laws.append(("identity", times(a, op.identity), a, known))
        laws.append(("identity", times(op.identity, a), a, known))
    for plus in op.distributes_over:
        apart = Map(plus, (times(a, b), times(a, c)))
        laws.append(("distributes_over", times(a, Map(plus, (b, c))), apart, finite))
    if op.inverse is not None:
        laws.append(("inverse", Map(op.inverse, (times(a, b), b)), a, finite))
    for law, left, right, samples in laws:
        for values in samples:
            example = _differ(left, right, dict(zip("ABC", values, strict=True)))
            if example is not None:
                return law, example
    return None


def refute_semiring(ring: Semiring) -> Refuted | None:
    """What keeps operators from being a semiring in f64: its zero, its one, or distributivity."""
    own = (op for op in (ring.add, ring.mul) if isinstance(op, UserOperator))
    typed = next((p.dtype for op in own for p in op.parameters if p.dtype is not None), F64)
    # Small numbers that are not negative: max_times is a semiring of these.
    rng = np.random.default_rng(0)
    given = {n: np.asarray(rng.integers(0, 9, _SAMPLES)).astype(typed.numpy) for n in "ABC"}
    a, b, c = (Access(name, (RankExpr.of_variable("i"),)) for name in ("A", "B", "C"))
    zero, one = Literal(ring.zero), Literal(ring.one)

    def plus(x: Expr, y: Expr) -> Expr:
        return Map(ring.add, (x, y))

    def times(x: Expr, y: Expr) -> Expr:
        return Map(ring.mul, (x, y))

    laws: tuple[tuple[str, Expr, Expr], ...] = (
        ("its zero changes what it is added to", plus(a, zero), a),
        ("its one changes what it multiplies", times(a, one), a),
        ("its zero does not absorb", times(a, zero), plus(zero, zero)),
        ("its addition does not commute", plus(a, b), plus(b, a)),
        ("its addition is not associative", plus(plus(a, b), c), plus(a, plus(b, c))),
        (
            "its multiplication does not distribute over its addition",
            times(a, plus(b, c)),
            plus(times(a, b), times(a, c)),
        ),
    )
    for law, left, right in laws:
        example = _differ(left, right, given)
        if example is not None:
            return law, example
    return None


def _special(dtype: DType) -> Any:
    """Where laws break that hold elsewhere: not numbers, infinities, zeros, what wraps."""
    if dtype.kind == "bool":
        return np.array([False, True])
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        found = [info.min, info.min + 1, info.max - 1, info.max, 0, 1, 2]
        return np.array(found, dtype.numpy)
    if dtype.kind == "complex":  # infinite ones have no laws, even of `*`
        return np.array([complex(np.nan, np.nan), 0, 1, -1, 1j, 2], dtype.numpy)
    return np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1, -1, 2, 0.5], dtype.numpy)


def _is_nan(values: Any) -> Any:
    with np.errstate(all="ignore"):
        return values != values


def _values(dtype: DType, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    if dtype.kind == "bool":
        return rng.integers(0, 2, _SAMPLES).astype(bool)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        values = rng.integers(info.min, info.max, _SAMPLES, dtype.numpy.type, endpoint=True)
        small = rng.integers(0, 9, _SAMPLES).astype(dtype.numpy)
        return np.where(rng.random(_SAMPLES) < 0.5, values, small)
    values = rng.standard_normal(_SAMPLES) * 10.0 ** rng.integers(-3, 4, _SAMPLES)
    if dtype.kind == "complex":
        values = values + 1j * rng.standard_normal(_SAMPLES)
    return values.astype(dtype.numpy)


def _differ(left: Expr, right: Expr, given: dict[str, Any]) -> str | None:
    """Values at which the two sides differ, as text."""
    names = sorted({a.tensor for side in (left, right) for a in accesses(side)})
    index = (RankExpr.of_variable("i"),)
    einsums = tuple(
        Einsum(Access(name, index), side) for name, side in (("Left", left), ("Right", right))
    )
    inputs = tuple(TensorDecl(name, (RankExpr.of_size("I"),)) for name in names)
    cascade = Cascade("law", (Rank("I"),), inputs, einsums, ("Left", "Right"))
    try:
        found = evaluate(cascade, {name: given[name] for name in names})
    except EinloomError as error:
        return error.message
    one, other = found["Left"], found["Right"]
    stored = [of_numpy(side.dtype) for side in (one, other)]
    if any(dtype.is_inexact for dtype in stored):
        sides = [x.astype(d.compute.numpy) for x, d in zip((one, other), stored, strict=True)]
        epsilon = max(_EPSILON.get(d.name, 0.0) for d in stored)
        with np.errstate(all="ignore"):
            # What cancels is as wrong as the largest of what went in.
            scale = 1 + sum(np.abs(given[name].astype("c16")) for name in names)
            scale = np.where(np.isfinite(scale), scale, 0)
            close = np.abs(sides[0] - sides[1]) <= _TOLERANCE * epsilon * scale**2
        same = close | (one == other) | ((one != one) & (other != other))
    else:
        same = one == other
    if np.all(same):
        return None
    at = int(np.argmin(same))
    values = ", ".join(f"{name.lower()} = {given[name][at]}" for name in names)
    return f"for {values} one side is {one[at]}, the other {other[at]}"
