"""Sums in the log semiring: by way of ordinary ones, and as exact as one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.base import Array
from einloom.compiler import parse
from einloom.ir.cascade import Cascade
from einloom.ir.infer import infer_dtypes
from einloom.ir.interpreter import evaluate
from einloom.passes.loops.lower import LIMITS
from einloom.passes.loops.shifted import shifted

from .native import TINY, WIDTHS, run, sized

SUBSCRIPTS = (
    *("ij,jk->ik", "ij,kj->ik", "ji,jk->ki", "bij,bjk->bik", "aij,jkb->abki", "ijl,jlk->ik"),
)
EXTENTS = {"i": 19, "j": 37, "k": 35, "a": 2, "b": 3, "l": 2}


def cascade_of(subscripts: str) -> Cascade:
    """The einsum in the log semiring."""
    return el.compile(subscripts, semiring="log").cascade


def written(cascade: Cascade, arrays: dict[str, Array]) -> Cascade:
    """The Cascade as ordinary sums, whether it pays or not."""
    whole = sized(cascade, arrays)
    large = replace(whole, ranks=tuple(replace(rank, shape=1024) for rank in whole.ranks))
    found = shifted(large, infer_dtypes(large, {}))
    return replace(found, ranks=whole.ranks)


def operands(cascade: Cascade, extents: dict[str, int], dtype: Any, seed: int) -> dict[str, Array]:
    """Logarithms of some magnitude, among them such as are not finite."""
    rng = np.random.default_rng(seed)
    scale = (1, 30, 300, 1e6)[seed % 4]
    found: dict[str, Array] = {}
    for decl in cascade.inputs:
        shape = tuple(extents[str(extent).lower()] for extent in decl.extents)
        array = (scale * rng.standard_normal(shape)).astype(dtype)
        if seed % 3 == 1:
            array[rng.random(shape) < 0.4] = -np.inf
        if seed % 5 == 2:
            array[rng.random(shape) < 0.01] = rng.choice([np.inf, np.nan])
        found[decl.name] = array
    return found


def assert_as_exact(cascade: Cascade, arrays: dict[str, Array], found: Array) -> None:
    """The values of an evaluation in f64, up to the rounding of the operands and of the sums."""
    with np.errstate(all="ignore"):
        wide = {name: array.astype("f8") for name, array in arrays.items()}
        want = np.asarray(evaluate(sized(cascade, wide), wide)["Y"])
    finite = [np.abs(a[np.isfinite(a)]).max(initial=1.0) for a in arrays.values()]
    bound = 8 * np.finfo(found.dtype).eps * (100 + sum(map(float, finite)))
    exact = np.isfinite(want)
    assert (np.isnan(found) == np.isnan(want)).all()
    np.testing.assert_array_equal(found[~exact], want[~exact].astype(found.dtype))
    np.testing.assert_allclose(found[exact], want[exact], rtol=0, atol=bound)


@pytest.mark.parametrize("subscripts", SUBSCRIPTS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("bits", WIDTHS)
def test_values(subscripts: str, dtype: str, bits: Any) -> None:
    cascade = cascade_of(subscripts)
    for seed in range(12):
        arrays = operands(cascade, EXTENTS, dtype, seed)
        limits = (LIMITS, TINY)[seed % 2]
        made = written(cascade, arrays)
        assert len(made.einsums) > len(cascade.einsums)
        with np.errstate(all="ignore"):
            as_written = np.asarray(evaluate(sized(made, arrays), arrays)["Y"])
        assert_as_exact(cascade, arrays, as_written)
        status, results = run(made, arrays, bits, limits, threads=(None, 2)[seed % 4 // 2])
        assert status == 0
        assert_as_exact(cascade, arrays, results["Y"])


@pytest.mark.parametrize("extent", [0, 1])
@pytest.mark.parametrize("symbol", "ijk")
def test_few_or_no_points(symbol: str, extent: int) -> None:
    cascade = cascade_of("ij,jk->ik")
    arrays = operands(cascade, {**EXTENTS, symbol: extent}, "f4", 0)
    status, results = run(written(cascade, arrays), arrays)
    assert status == 0
    assert_as_exact(cascade, arrays, results["Y"])


def test_maxima_that_do_not_meet() -> None:
    """The terms at which one operand is largest are those at which the other is -1000 or less."""
    f = el.compile("ij,jk->ik", semiring="log")
    a, b = np.zeros((64, 64)), np.zeros((64, 64))
    a[:, ::2], b[1::2] = -1000, -1000
    a[3, 3], a[5] = np.inf, -np.inf
    arrays = {"A": a, "B": b}
    found = f(a, b)
    assert_as_exact(cascade_of("ij,jk->ik"), arrays, found)
    assert found[0, 0] == pytest.approx(np.log(64) - 1000)
    assert found[3, 0] == np.inf
    assert (found[5] == -np.inf).all()


def test_only_such_sums_are_written_so() -> None:
    def same(text: str, shape: int = 1024, dtype: str = "f64") -> bool:
        cascade = parse(text.replace("f64", dtype))
        ranks = tuple(replace(rank, shape=shape) for rank in cascade.ranks)
        cascade = replace(cascade, ranks=ranks)
        return shifted(cascade, infer_dtypes(cascade, {})) is cascade

    head = "cascade f(A[I,J]: f64, B[J,K]: f64) -> Y "
    product = "{ Y[i,k] = A[i,j] + B[j,k] over log }".replace("+", "*")
    assert not same(head + product)
    assert not same(head + "{ Y[i,k] = logaddexp[j] (A[i,j] + B[j,k]) }")
    assert same(head + product, shape=8)  # nothing to gain
    assert same(head + product, dtype="f16")
    assert same(head + "{ Y[i,k] = logaddexp[j] (A[i,j] + B[j,k]) where i <= k }")
    assert same(head + "{ Y[i,k] = logaddexp[j] (A[i,j] - B[j,k]) }")
    assert same(head + "{ Y[i] = logaddexp[j] A[i,j] }")
    assert same(head + "{ Y[i,k] = logaddexp[j] (A[i,j] + B[j,k] + 1.0) }")
    assert same(head + "{ Y[i,k] = A[i,j] * B[j,k] }")
    assert same("cascade f(A[J,J]: f64, B[J,K]: f64) -> Y { Y[k] = A[j,j] * B[j,k] over log }")


WHERE = """cascade f(A[I,J]: f32, B[J,K]: f32, C[I,K]: f32) -> Y {
  Y[i,k] = A[i,j] * B[j,k] where C[i,k] > 0.5
}"""


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 1.0])
def test_sums_that_are_not_needed_are_left_out(kept: float, bits: Any) -> None:
    """A filter on the output's coordinates: what is left out is looked at a vector at a time."""
    cascade = parse(WHERE)
    rng = np.random.default_rng(3)
    for i, k in ((5, 64), (7, 35), (1, 1), (3, 130)):
        arrays = {
            "A": rng.integers(-4, 5, (i, 6)).astype("f4"),
            "B": rng.integers(-4, 5, (6, k)).astype("f4"),
            "C": (rng.random((i, k)) < kept).astype("f4"),
        }
        for threads in (None, 2):
            status, results = run(cascade, arrays, bits, threads=threads)
            assert status == 0
            want = evaluate(sized(cascade, arrays), arrays)["Y"]
            np.testing.assert_array_equal(results["Y"], want)
    f = el.compile(WHERE)
    assert "when gt(C[" in str(f.steps[-1])
