"""Exponentials and logarithms in native code: how exact they are, for each width of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import DTYPES
from einloom.ir.einsum import Access, Einsum, Map, Reduce
from einloom.ir.interpreter import evaluate
from einloom.ir.operators import OPERATORS
from einloom.ir.ranks import Rank, RankExpr
from einloom.passes.loops.lower import LIMITS

from .native import TINY, WIDTHS, Array, run

#: How far from the exact value each may be, in units in the last place.
ULPS = {"exp": 1.0, "exp2": 1.0, "log": 1.0, "log1p": 1.5, "sigmoid": 2.5, "tanh": 2.5}

#: And how much farther on the least processor, which rounds each product.
UNFUSED = 0.25


def applied(op: str, values: Any, bits: int) -> Array:
    """The operator on each value of an array, or on a scalar."""
    values = np.asarray(values)
    dtype = next(d for d in DTYPES.values() if d.numpy == values.dtype)
    index = tuple(RankExpr.of_variable("i") for _ in values.shape)
    ranks = (Rank("I", values.size),) if values.shape else ()
    decl = TensorDecl("X", tuple(RankExpr.of_size("I") for _ in values.shape), dtype)
    einsum = Einsum(Access("Y", index), Map(op, (Access("X", index),)))
    status, found = run(Cascade("f", ranks, (decl,), (einsum,), ("Y",)), {"X": values}, bits)
    assert status == 0
    return found["Y"]


def arguments(op: str, dtype: str) -> Array:
    """All over the range of the function's finite values and past it, and close to 0 and 1."""
    info = np.finfo(dtype)
    far = float(np.log(info.max)) * (1 if op != "exp2" else 1 / np.log(2))
    near = np.concatenate([np.linspace(-2, 2, 4001), np.linspace(-1e-3, 1e-3, 1001)])
    if op in ("exp", "exp2", "sigmoid", "tanh"):
        points = np.concatenate([np.linspace(-1.2 * far, 1.01 * far, 40_001), near])
        points = np.concatenate([points, np.arange(-1100.0, 1030.0)])
    else:
        small = float(-np.log(float(info.tiny)) + info.nmant * 0.7)
        powers: Array = np.exp(np.linspace(-small, far * 0.999, 40_001))
        points = np.concatenate([powers, -powers[::8], near, 1 + near])
    return points.astype(dtype)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("op", ULPS)
def test_values_are_exact_up_to_their_last_place(op: str, dtype: str, bits: int) -> None:
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("there is no wider format to compare with")
    x = arguments(op, dtype)
    with np.errstate(all="ignore"):
        exact: Any = OPERATORS[op].reference(x.astype(np.longdouble))
        wanted: Any = exact.astype(dtype)
    found = applied(op, x, bits)
    finite = np.isfinite(wanted)
    unit = np.spacing(np.abs(wanted[finite])).astype(np.longdouble)
    assert np.isfinite(found[finite]).all()
    assert (np.abs(found[finite] - exact[finite]) / unit).max() <= ULPS[op] + (
        UNFUSED if bits == 128 else 0
    )
    np.testing.assert_array_equal(found[~finite], wanted[~finite])


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("op", ULPS)
def test_special_values_are_numpys_and_a_scalar_is_as_one_of_many(
    op: str, dtype: str, bits: int
) -> None:
    info = np.finfo(dtype)
    special = [0.0, -0.0, 1.0, -1.0, -2.0, np.inf, -np.inf, np.nan, info.max, -info.max]
    special += [info.tiny, -info.tiny, info.smallest_subnormal, info.eps, 0.3, 17.5]
    x = np.array(special, dtype)
    with np.errstate(all="ignore"):
        wanted: Any = OPERATORS[op].reference(x)
    found = applied(op, x, bits)
    np.testing.assert_allclose(found, wanted, rtol=2 * float(info.eps))
    np.testing.assert_array_equal(np.signbit(found[wanted == 0]), np.signbit(wanted[wanted == 0]))
    alone = [applied(op, each, bits) for each in x]
    np.testing.assert_array_equal(alone, found)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("left", "right"), [("ik", "kj"), ("ik", "jk"), ("ki", "kj")])
def test_products_over_log_neither_overflow_nor_underflow(
    left: str, right: str, dtype: str, bits: int
) -> None:
    rng = np.random.default_rng(3)
    sizes = {"i": 9, "k": 23, "j": 37}
    a, b = (rng.normal(size=[sizes[v] for v in names]).astype(dtype) for names in (left, right))
    a *= rng.choice([1, 30, 3000], a.shape)
    by_row, by_column = a.swapaxes(0, left.index("i")), b.swapaxes(0, right.index("j"))
    by_row[0, ::2], by_row[0, 1::2] = -3e4, 3e4
    by_column[0, ::2], by_column[0, 1::2] = 3e4, -3e4  # no term is near the sum of the maxima
    by_row[1], by_row[2, 5], by_row[3, 7] = -np.inf, np.inf, np.nan
    by_column[1, 3], by_column[2] = -np.inf, -np.inf
    f32_or_64 = next(d for d in DTYPES.values() if d.numpy == np.dtype(dtype))
    decls = [
        TensorDecl(name, tuple(RankExpr.of_size(v.upper()) for v in names), f32_or_64)
        for name, names in (("A", left), ("B", right))
    ]
    reads = [
        Access(name, tuple(RankExpr.of_variable(v) for v in names))
        for name, names in (("A", left), ("B", right))
    ]
    output = Access("Y", (RankExpr.of_variable("i"), RankExpr.of_variable("j")))
    term = Reduce("logaddexp", ("k",), Map("add", tuple(reads)))
    ranks = tuple(Rank(v.upper(), size) for v, size in sizes.items())
    cascade = Cascade("f", ranks, tuple(decls), (Einsum(output, term),), ("Y",))
    arrays = {"A": a, "B": b}
    with np.errstate(all="ignore"):
        wanted = evaluate(cascade, arrays)["Y"]
    assert all(test(wanted).any() for test in (np.isfinite, np.isnan, np.isinf))
    for limits in (LIMITS, TINY):
        for threads in (None, 3):
            status, found = run(cascade, arrays, bits, limits, threads=threads)
            assert status == 0
            eps = float(np.finfo(dtype).eps)
            np.testing.assert_allclose(found["Y"], wanted, rtol=4 * eps, atol=30 * eps)
