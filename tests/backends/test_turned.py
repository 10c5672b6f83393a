"""Products whose results lie along their batch: the interpreter's results, made and then turned."""

from __future__ import annotations

import numpy as np
import pytest

import einloom as el
from einloom.ir.interpreter import evaluate
from einloom.ir.loop_nodes import Contract, Permute
from einloom.passes.loops.parts import each_in

from .native import WIDTHS, Native, sized

TEXT = "cascade c(A[N,H,D]: DT, B[M,H,D]: DT) -> Y { Y[h,n,m] = A[n,h,d] * B[m,h,d] }"


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "c8"])
@pytest.mark.parametrize(("n", "h", "m", "d"), [(40, 9, 33, 30), (64, 16, 50, 8), (65, 1, 40, 40)])
def test_the_result_is_made_and_turned(n: int, h: int, m: int, d: int, dtype: str) -> None:
    rng = np.random.default_rng(2)
    given = {"A": rng.integers(-4, 5, (n, h, d)).astype(dtype)}
    given["B"] = rng.integers(-4, 5, (m, h, d)).astype(dtype)
    names = {"f4": "f32", "f8": "f64", "i4": "i32", "c8": "c64"}
    cascade = sized(el.parse(TEXT.replace("DT", names[dtype])), given)
    wanted = evaluate(cascade, given)["Y"]
    for bits in WIDTHS:
        for threads in (None, 3):
            y = np.full((n, m, h), 7, dtype).transpose(2, 0, 1)
            made = Native(cascade, {**given, "Y": y}, bits, threads=threads)
            nests = made.program.nests
            turns = any(load for nest in nests for load in each_in(nest.body, Permute))
            assert turns or h == 1 or dtype == "c8"
            contracts = [c for nest in nests for c in each_in(nest.body, Contract)]
            assert all(c.finish is None for c in contracts)
            assert made({**given, "Y": y}) == 0
            np.testing.assert_array_equal(y, wanted)


def test_what_lies_along_rows_or_columns_is_made_where_it_goes() -> None:
    a, b = np.ones((40, 9, 30), "f4"), np.ones((33, 9, 30), "f4")
    cascade = sized(el.parse(TEXT.replace("DT", "f32")), {"A": a, "B": b})
    for y in (np.empty((9, 40, 33), "f4"), np.empty((9, 33, 40), "f4").transpose(0, 2, 1)):
        made = Native(cascade, {"A": a, "B": b, "Y": y})
        assert "T" not in [b.name for b in made.program.scratch]


def test_little_is_made_where_it_goes() -> None:
    a = np.ones((4, 3, 5), "f4")
    y = np.empty((4, 4, 3), "f4").transpose(2, 0, 1)
    cascade = sized(el.parse(TEXT.replace("DT", "f32")), {"A": a, "B": a})
    made = Native(cascade, {"A": a, "B": a, "Y": y})
    assert "T" not in [b.name for b in made.program.scratch]
    assert made({"A": a, "B": a, "Y": y}) == 0
    assert (y == 5).all()


def test_the_call_has_strides_like_numpy() -> None:
    a = np.random.default_rng(3).standard_normal((70, 12, 40))
    made, wanted = el.einsum("nhd,mhd->hnm", a, a), np.einsum("nhd,mhd->hnm", a, a)
    assert made.strides == wanted.strides
    np.testing.assert_allclose(made, wanted, 1e-12, 1e-12)
