"""What is written out before lowering: partitions, places of maxima, the text's own operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.compiler import parse
from einloom.ir.cascade import Cascade
from einloom.ir.errors import OperandError, PassError, RankError, UnsupportedError
from einloom.passes.rewrites.plain import Plain

from ..support import Golden

OPS = """\
op last(a, b) [associative, identity = 0] = select(b != 0, b, a)
op near(a: f32, b: f32) [commutative] = bitcast(bitcast(a, i32) + bitcast(b, i32) - 1064828928, f32)
op twice(a) = a + a
"""

TEXTS = {
    "partition": """cascade f(A[M]: f32, B[M]: f32) -> Y, Z, D {
      ranks M0 = 3
      partition M -> M1, M0
      S[m1] = A[m1*M0+m0] * B[m1*M0+m0]
      Y = S[m1]
      E[m1,m0] = exp(A[m1*M0+m0]) where m0 > 0 else 9
      Z[m1] = max[m0] (E[m1,m0] - max[m0] E[m1,m0])
      D[m1] = log(max[m0] E[m1,m0])
    }""".replace("Z[m1] = max[m0] (E[m1,m0] - max[m0] E[m1,m0])", "Z[m1] = max[m0] E[m1,m0]"),
    "even": """cascade f(A[M]: f32) -> Y {
      ranks M0 = 3, M % M0 == 0
      partition M -> M1, M0
      Y[m1] = A[m1*M0+m0]
    }""",
    "three": """cascade f(A[M]: i32) -> Y {
      ranks M1 = 2, M0 = 3
      partition M -> M2, M1, M0
      Y[m2] = A[m2*M1*M0+m1*M0+m0]
    }""",
    "places": """cascade f(A[M,P]: f32) -> Y, I, J {
      Y[p], I[p] = max[m] (A[m,p] * 2) where m > 0
      J[p] = argmin[m] A[m,p]
    }""",
    "operators": OPS
    + """cascade f(A[I,K]: f32, B[K]: f32) -> Y, Z, W, V {
      Y[i] = near(A[i,k], B[k])
      Z[i] = last[k] twice(A[i,k])
      W = last[i,k] A[i,k]
      V[i] = last[k] A[i,k] where A[i,k] < B[k] else 5
    }""",
}

#: The sizes of the first two ranks of the inputs.
SIZES = {
    "partition": [(7, 0), (6, 0), (1, 0), (0, 0)],
    "even": [(6, 0), (0, 0)],
    "three": [(13, 0), (12, 0), (1, 0), (0, 0)],
    "places": [(5, 3), (1, 2), (0, 2), (4, 0)],
    "operators": [(2, 4), (1, 1), (3, 0), (0, 2)],
}


def made(cascade: Cascade, sizes: tuple[int, int]) -> Mapping[str, Any]:
    rng = np.random.default_rng(sum(sizes))
    names = list(dict.fromkeys(n for d in cascade.inputs for e in d.extents for n in e.sizes()))
    known = dict(zip(names, sizes, strict=False))
    arrays: dict[str, Any] = {}
    for decl in cascade.inputs:
        values = rng.integers(-3, 4, [e.value(known) for e in decl.extents])
        arrays[decl.name] = values.astype("i4" if str(decl.dtype) == "i32" else "f4")
    return arrays


@pytest.mark.parametrize("kind", TEXTS)
def test_what_is_written(kind: str, golden: Golden) -> None:
    golden(f"passes/plain_{kind}.txt", f"{Plain()(parse(TEXTS[kind]))}\n")


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("kind", TEXTS)
def test_it_means_the_same(kind: str, backend: str) -> None:
    cascade = parse(TEXTS[kind])
    f = el.compile(cascade, backend=backend)
    before = el.fallbacks()
    for sizes in SIZES[kind]:
        arrays = made(cascade, sizes)
        want = el.evaluate(cascade, keep=cascade.outputs, **arrays)
        written = el.evaluate(Plain()(cascade), keep=cascade.outputs, **arrays)
        got: Any = f(**arrays)
        several: tuple[Any, ...] = got if len(cascade.outputs) > 1 else (got,)
        found = dict(zip(cascade.outputs, several, strict=True))
        for name in cascade.outputs:
            for other in (written[name], np.asarray(found[name])):
                assert other.dtype == want[name].dtype
                np.testing.assert_allclose(other, want[name], rtol=1e-5)
    assert el.fallbacks() == before


def test_nothing_to_write_out() -> None:
    cascade = parse("cascade f(A[I]: f32) -> Y { Y[i] = exp(A[i]) }")
    assert Plain()(cascade) is cascade


def test_a_fold_over_several_variables_must_be_associative() -> None:
    text = "op f(a, b) [identity = 0] = a + b\n"
    text += "cascade g(A[I,J]: f64) -> Y { Y = f[i,j] A[i,j] }"
    with pytest.raises(UnsupportedError, match="claim that it is associative"):
        Plain()(parse(text))
    assert el.evaluate(text, A=np.ones((2, 3))) == 6


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_what_is_the_place_of_nothing(backend: str) -> None:
    text = """cascade f(A[I,K]: f32) -> Y, Z {
      Y[i] = argmax[k] A[i,k] where A[i,k] > 0 else 7
      Z[i] = argmin[k] A[i,k] where A[i,k] > 0
    }"""
    for a in (np.array([[-1, 2], [-1, -2], [np.nan, 0]], "f4"), np.zeros((3, 0), "f4")):
        want = el.evaluate(text, A=a)
        y, z = el.compile(text, backend=backend)(a)
        assert y.tolist() == want["Y"].tolist() == ([1, 7, 7] if a.size else [7, 7, 7])
        assert z.tolist() == want["Z"].tolist() == ([1, -1, -1] if a.size else [-1, -1, -1])


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4"])
@pytest.mark.parametrize("otherwise", ["7", "-1", "300", "0.5", "true"])
@pytest.mark.parametrize(
    "line",
    [
        "Y = argmax[m] X[m] where X[m] > 9",
        "Y = last[m] X[m] where X[m] > 9",
        "Y[m1,m0] = X[m1*M0+m0] where X[m1*M0+m0] > 1",
    ],
)
def test_what_is_else_does_not_widen(line: str, otherwise: str, dtype: str, backend: str) -> None:
    text = f"""{OPS}cascade f(X[M]) -> Y {{
      ranks M0 = 2
      partition M -> M1, M0
      {line} else {otherwise}
    }}"""
    x = np.array([1, 2, 0]).astype(dtype)
    want = el.evaluate(text, X=x)
    found = np.asarray(el.compile(text, backend=backend)(x))
    assert found.dtype == want.dtype
    assert found.tolist() == want.tolist()


def test_a_fold_is_of_its_own_type() -> None:
    text = OPS + "cascade f(X[M]) -> Y { Y = last[m] X[m] }"
    x = np.array([1, 2, 0], "f2")
    for found in (
        el.compile(text)(x),
        el.evaluate(Plain()(parse(text.replace("]) ->", "]: f16) ->"))), X=x),
    ):
        assert found.dtype == np.float16
        assert found == 2


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_a_fold_of_what_a_scan_makes(backend: str) -> None:
    text = f"""{OPS}cascade f(A[V,I]: f64) -> Y {{
      ranks K = I
      Y[0,i] = 1
      Y[v+1,i] = A[v,i] + last[k] Y[v,k]
    }}"""
    a = np.array([[3.0, 4.0], [0.0, -1.0]])
    for each in (
        text,
        text.replace("last[k] Y[v,k]", "last[k] A[v,k] + Y[v,i]"),
        text.replace("A[v,i] + last[k] Y[v,k]", "last[k] Y[v,k] where k <= i else 7"),
        text.replace("last[k] Y[v,k]", "last[k] (Y[v,k] + last[n] (Y[v,n] - A[v,k]))").replace(
            "ranks K = I", "ranks K = I, N = I"
        ),
        text.replace("last[k] Y[v,k]", "last[k,n] (Y[v,k] - A[v,n])").replace(
            "ranks K = I", "ranks K = I, N = I"
        ),
        text.replace("last[k] Y[v,k]", "argmax[k] Y[v,k]"),
    ):
        for given in (a, a[:0], a[:, :0], a[:1, :1]):
            want = el.evaluate(each, A=given)
            assert el.evaluate(Plain()(parse(each)), A=given).tolist() == want.tolist()
            assert el.compile(each, backend=backend)(given).tolist() == want.tolist()
    assert el.evaluate(text, A=a).tolist() == [[1, 1], [4, 5], [5, 4]]


def test_an_operator_that_grows_too_long() -> None:
    lines = ["op f0(a) = a + a"] + [f"op f{n}(a) = f{n - 1}(f{n - 1}(a))" for n in range(1, 5)]
    text = "\n".join([*lines, "cascade g(A[I]: f64) -> Y { Y[i] = f4(A[i]) }"])
    with pytest.raises(UnsupportedError, match="longer than"):
        Plain()(parse(text))


@pytest.mark.parametrize("line", ["Y = argmax[m] A[m]", "Y[m] = twice(A[m])", "Y = last[m] A[m]"])
def test_dtypes_that_are_not_known(line: str) -> None:
    text = f"{OPS}cascade f(A[M], B[M]: f32) -> Y {{ {line} }}"
    with pytest.raises(PassError, match="plain needs the dtypes of A"):
        el.rewrite(text, "plain")
    assert el.rewrite(text.replace("A[M],", "A[M]: f32,"), "plain") != parse(text)


def test_the_parts_of_a_partition_are_an_option() -> None:
    text = "cascade f(A[M]) -> Y {\n  partition M -> M1, M0\n  Y[m1] = A[m1*M0+m0]\n}"
    a = np.arange(7.0)
    for size, want in ((2, [1, 5, 9, 6]), (7, [21]), (100, [21])):
        assert el.evaluate(text, sizes={"M0": size}, A=a).tolist() == want
        for backend in ("numpy", "llvm"):
            assert el.compile(text, sizes={"M0": size}, backend=backend)(a).tolist() == want
    with pytest.raises(RankError, match="the extent of rank M0 follows from no input"):
        el.evaluate(text, A=a)
    with pytest.raises(RankError, match="a division by 0"):
        el.evaluate(text, sizes={"M0": 0}, A=a)
    with pytest.raises(RankError, match="it takes 4 to part M"):
        el.evaluate(text.replace("partition", "ranks M1 = 3\n  partition"), sizes={"M0": 2}, A=a)
    with pytest.raises(RankError, match="no rank of f"):
        el.evaluate(text, sizes={"N0": 2}, A=a)
    with pytest.raises(RankError, match="is declared"):
        el.evaluate(text, sizes={"M1": 2}, A=a)
    with pytest.raises(OperandError, match="whole number"):
        el.evaluate(text, sizes={"M0": 2.0}, A=a)  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
