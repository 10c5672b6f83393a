"""Scans, partitions, places and operators of the text's own mean the same wherever they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import einloom as el
from einloom.ir import interpreter
from einloom.ir.cascade import Cascade
from einloom.ir.sizes import infer_sizes
from einloom.passes.registry import default_pipeline
from einloom.passes.rewrites.plain import Plain

from ..generated import examples
from ..scanned import Written, written


def evaluated(case: Written, cascade: Cascade) -> Mapping[str, Any]:
    """The outputs by the interpreter."""
    return interpreter.evaluate(cascade, case.arrays)


def assert_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, want in wanted.items():
        assert np.asarray(found[name]).dtype == want.dtype, name
        np.testing.assert_array_equal(found[name], want, err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@examples(60)
@given(case=written())
def test_a_backend_equals_the_interpreter(backend: str, case: Written) -> None:
    cascade = el.parse(case.text)
    before = el.fallbacks()
    # What is not finite tells in which order it is multiplied and added.
    compiled = el.compile(cascade, backend=backend, optimize=False if case.special else "auto")
    got: Any = compiled(**case.arrays)
    several: tuple[Any, ...] = got if len(cascade.outputs) > 1 else (got,)
    assert_same(dict(zip(cascade.outputs, several, strict=True)), evaluated(case, cascade))
    assert el.fallbacks() == before


@examples(60)
@given(written())
def test_the_passes_keep_the_meaning(case: Written) -> None:
    cascade = el.parse(case.text)
    wanted = evaluated(case, cascade)
    optimize = False if case.special else "auto"
    plain = Plain()(cascade)
    assert_same(evaluated(case, plain), wanted)
    sizes = infer_sizes(plain, {name: array.shape for name, array in case.arrays.items()})
    sized = replace(
        plain, ranks=tuple(replace(rank, shape=sizes[rank.name]) for rank in plain.ranks)
    )
    for each in (cascade, plain, sized):
        rewritten = default_pipeline(optimize).run(each)[0]
        assert_same(evaluated(case, rewritten), wanted)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_inputs_by_name_of_dtypes_that_are_not_declared(backend: str) -> None:
    text = "cascade f(X[M], J[I]) -> Y { Y[i] = X[J[i]] }"
    found = el.compile(text, backend=backend)(X=np.array([1.0, 2.0]), J=np.array([1, 0]))
    assert found.tolist() == [2, 1]


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("shape", [(2, 2, 4), (3, 2, 4), (2, 3, 4), (1, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("read", ["R[a,b,p]", "R[a,b+1,p]", "exp(R[a,b,p] - R[a,b+1,p])"])
def test_a_rank_on_an_axis_that_is_longer(backend: str, shape: tuple[int, ...], read: str) -> None:
    """The axis of R has B + 1 places: b and p on it are not one rank of B*P places."""
    text = f"""cascade f(L[A,B,P]: f64) -> Y {{
      R[a,0,p] = -inf
      R[a,b+1,p] = max(R[a,b,p], L[a,b,p])
      Y[a,b,p] = {read}
    }}"""
    array = np.random.default_rng(0).standard_normal(shape)
    found = el.compile(text, backend=backend)(array)
    np.testing.assert_allclose(found, el.evaluate(text, L=array), rtol=1e-14)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_a_gather_out_of_range_is_named(backend: str) -> None:
    text = "cascade f(X[M]: f64, J[N]: i64) -> Y {\n  T[n] = X[J[n]]\n  Y[n] = T[n] * 2.0\n}"
    f = el.compile(text, backend=backend)
    assert f(np.arange(3.0), np.array([2, 0])).tolist() == [4, 0]
    with pytest.raises(
        el.EinloomError, match=r"X is read at 0\.\.9 .* extent 3\n  line:2\n.*X\[J\[n"
    ):
        f(np.arange(3.0), np.array([0, 9]))
