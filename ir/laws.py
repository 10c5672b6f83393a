"""Whether an operator has the laws that it claims: tried on random and on extreme values.

A law holds in floating point up to rounding: two values that differ by few units of their dtype's
precision are the same. What survives is not proven; what is refuted comes with its counterexample.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .cascade import Cascade, TensorDecl
from .dtypes import F64, DType
from .einsum import Access, Einsum, Expr, Literal, Map, UserOperator, accesses
from .errors import EinloomError
from .interpreter import evaluate
from .operators import Semiring
from .ranks import Rank, RankExpr

#: A law, and a counterexample to it as text.
Refuted: TypeAlias = tuple[str, str]

_SAMPLES = 200
_TOLERANCE = 64  # units of precision


def refute_operator(op: UserOperator) -> Refuted | None:
    """The first law of an operator that does not hold, and where; None if all seem to."""
    if not (op.laws or op.identity or op.named):
        return None
    dtypes = [parameter.dtype or F64 for parameter in op.parameters]
    values = [_values(dtype, number) for number, dtype in enumerate((*dtypes, dtypes[0]))]
    a, b, c = (Access(name, (RankExpr.of_variable("i"),)) for name in ("A", "B", "C"))
    given = dict(zip("ABC", values, strict=True))

    def times(x: Expr, y: Expr) -> Expr:
        return Map(op, (x, y))

    laws: list[tuple[str, Expr, Expr]] = []
    if "commutative" in op.laws:
        laws.append(("commutative", times(a, b), times(b, a)))
    if "associative" in op.laws:
        laws.append(("associative", times(times(a, b), c), times(a, times(b, c))))
    if "idempotent" in op.laws:
        laws.append(("idempotent", times(a, a), a))
    if op.identity is not None:
        laws.append(("identity", times(a, op.identity), a))
        laws.append(("identity", times(op.identity, a), a))
    for plus in op.distributes_over:
        left = times(a, Map(plus, (b, c)))
        laws.append(("distributes_over", left, Map(plus, (times(a, b), times(a, c)))))
    if op.inverse is not None:
        laws.append(("inverse", Map(op.inverse, (times(a, b), b)), a))
    for law, left, right in laws:
        example = _differ(left, right, given)
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
    if one.dtype.kind in "fc" or other.dtype.kind in "fc":
        sides = [x.astype("f4") if x.dtype.itemsize < 4 else x for x in (one, other)]
        epsilon = max(float(np.finfo(x.dtype).eps) for x in (one, other) if x.dtype.kind in "fc")
        # What cancels is as wrong as the largest of what went in.
        scale = 1 + sum(np.abs(given[name].astype("c16")) for name in names)
        with np.errstate(all="ignore"):
            close = np.abs(sides[0] - sides[1]) <= _TOLERANCE * epsilon * scale**2
        same = close | (one == other) | ((one != one) & (other != other))
    else:
        same = one == other
    if np.all(same):
        return None
    at = int(np.argmin(same))
    values = ", ".join(f"{name.lower()} = {given[name][at]}" for name in names)
    return f"for {values} one side is {one[at]}, the other {other[at]}"
