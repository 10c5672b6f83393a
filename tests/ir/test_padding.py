"""Reads at the parts of a rank: points past its end are none, and at all others one is in range."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import einloom as el
from einloom.ir.errors import OperandError, RankError

from ..generated import examples

HOWS = ("interpreter", "numpy", "llvm")


def run(text: str, how: str, **arrays: Any) -> Any:
    if how == "interpreter":
        return el.evaluate(text, **arrays)
    return el.compile(text, backend=how)(**arrays)


HALO = """cascade f(X[H]: f64, A[M]: f64) -> Y {
  ranks M0 = 2, H
  partition M -> M1, M0
  Y[m1] = sum[m0] (X[m1*M0+m0+1] * A[m1*M0+m0])
}"""


@pytest.mark.parametrize("how", HOWS)
def test_a_halo_is_read_to_its_end_and_no_further(how: str) -> None:
    x, a = np.arange(6.0), np.ones(5)
    assert run(HALO, how, X=x, A=a).tolist() == [3, 7, 5]
    with pytest.raises(RankError, match=r"X is read at 1\.\.5 on a rank of extent 5"):
        run(HALO, how, X=x[:5], A=a)


@pytest.mark.parametrize("how", HOWS)
def test_a_shorter_tensor_is_not_filled(how: str) -> None:
    text = HALO.replace("m0+1]", "m0]")
    with pytest.raises(RankError, match=r"X is read at 0\.\.4 on a rank of extent 3"):
        run(text, how, X=np.ones(3), A=np.ones(5))


@examples(40)
@given(st.data())
def test_the_range_is_that_of_the_points_there_are(data: st.DataObject) -> None:
    size, *parts = (data.draw(st.integers(n, 7 - 2 * n)) for n in (0, 1, 1))
    factors = [data.draw(st.integers(-3, 3)) for _ in range(3)]
    offset, length = data.draw(st.integers(-2, 12)), data.draw(st.integers(1, 24))
    assume(offset or sorted(factors) != [0, 0, 1])  # a bare variable reads its own rank
    text = f"""cascade f(X[H]: f64, A[M]: f64) -> Y {{
      ranks M1 = {parts[0]}, M0 = {parts[1]}
      partition M -> M2, M1, M0
      Y[m2] = sum[m1,m0] (X[{factors[0]}*m2+{factors[1]}*m1+{factors[2]}*m0+{offset}]
        * A[m2*M1*M0+m1*M0+m0])
    }}""".replace("\n        *", " *").replace("+-", "-")
    x, a = np.arange(length) * 1.0, np.arange(size) + 1.0
    outer = -(-size // (parts[0] * parts[1]))
    want, outside = np.zeros(outer), False
    for digits in itertools.product(*map(range, (outer, *parts))):
        m = (digits[0] * parts[0] + digits[1]) * parts[1] + digits[2]
        at = sum(f * d for f, d in zip(factors, digits, strict=True)) + offset
        if m < size:
            outside |= at not in range(length)
        if m < size and not outside:
            want[digits[0]] += x[at] * a[m]
    for how in HOWS:
        if outside:
            with pytest.raises(RankError):
                run(text, how, X=x, A=a)
        else:
            assert run(text, how, X=x, A=a).tolist() == want.tolist()


@pytest.mark.parametrize("how", HOWS)
def test_what_a_filter_drops_is_read_all_the_same(how: str) -> None:
    x = np.arange(3.0)
    for line in ("Y[p] = X[p+1] where p + 1 < M else 0", "Y = sum[p] X[p+1] where p + 1 < M"):
        text = f"cascade f(X[M]: f64) -> Y {{ ranks P = M\n {line} }}"
        with pytest.raises(RankError):
            run(text, how, X=x)
        filled = text.replace("X[p+1]", "X[p+1 else 9]")
        assert np.sum(run(filled, how, X=x)) == 3


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Y[m] = X[m] where X[m] > 1 else 2j", "the `else` of Y is 2j, which is complex"),
        ("Y[m]: i32 = X[m] where X[m] > 1 else 2j", "but the values are i32"),
        ("Y[p] = X[p+1 else complex(1, 0)]", "the fill of X is .*, which is complex"),
        ("Y = sum[p] exp(X[p+1 else 2j])", "the fill of X is 2j"),
    ],
)
def test_a_complex_number_stands_for_no_real_one(line: str, message: str, how: str) -> None:
    text = f"cascade f(X[M]) -> Y {{ ranks P = M\n {line} }}"
    with pytest.raises(OperandError, match=message):
        run(text, how, X=np.ones(3))
    if "i32" not in line:
        assert np.asarray(run(text, how, X=np.ones(3, complex))).dtype == complex
