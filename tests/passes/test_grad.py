"""Adjoint cascades against finite differences, under the interpreter and on both backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import einloom as el
from einloom.ir.cascade import Cascade
from einloom.ir.errors import EinloomError, OperandError, PassError, UnsupportedError
from einloom.ir.infer import infer_dtypes
from einloom.ir.operators import OPERATORS
from einloom.ir.verify import verify
from einloom.passes.derivatives import RULES
from einloom.passes.lags import single_steps

STEP = 1e-6


def outputs_of(cascade: Cascade, arrays: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = el.evaluate(cascade, [], **arrays)
    return dict(found) if isinstance(found, dict) else {cascade.outputs[0]: found}  # pyright: ignore[reportUnknownArgumentType]


def inputs_of(cascade: Cascade, sizes: Mapping[str, int], given: Mapping[str, Any]) -> Any:
    """Random values for what is not given."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for decl in cascade.inputs:
        assert decl.dtype is not None
        shape = tuple(extent.value(sizes) for extent in decl.extents)
        values: Any = rng.standard_normal(shape)
        if decl.dtype.kind == "complex":
            values = values + 1j * rng.standard_normal(shape)
        arrays[decl.name] = np.asarray(given.get(decl.name, values), decl.dtype.numpy)
    return arrays


def differences(
    cascade: Cascade, name: str, arrays: Mapping[str, Any], seeds: Mapping[str, Any]
) -> Any:
    """dL/dx, or of a complex x dL/d(re) - i dL/d(im), by central differences."""

    def loss(changed: Any) -> Any:
        found = outputs_of(cascade, {**arrays, name: changed})
        return sum(np.sum(found[out] * seed) for out, seed in seeds.items()).real

    def slope(place: tuple[int, ...], step: complex) -> Any:
        up, down = arrays[name].copy(), arrays[name].copy()
        up[place] += step
        down[place] -= step
        return (loss(up) - loss(down)) / (2 * STEP)

    found = np.zeros_like(arrays[name])
    for place in np.ndindex(*found.shape):
        found[place] = slope(place, STEP)
        if np.iscomplexobj(found):
            found[place] -= 1j * slope(place, STEP * 1j)
    return found


def check(
    text: str | Cascade,
    wrt: Sequence[str],
    sizes: Mapping[str, int],
    *,
    backends: Sequence[str] = ("numpy", "llvm"),
    rtol: float = 1e-5,
    **given: Any,
) -> Cascade:
    """Holds the adjoint of a cascade in f64 to finite differences; gives it back."""
    cascade = el.parse(text) if isinstance(text, str) else text
    adjoint = el.grad(cascade, wrt=tuple(wrt))
    assert el.parse(str(adjoint)) == adjoint
    arrays = inputs_of(cascade, sizes, given)
    found = outputs_of(cascade, arrays)
    seeds: dict[str, Any] = {}
    rng = np.random.default_rng(1)
    for decl in adjoint.inputs[len(cascade.inputs) :]:
        out = decl.name.removesuffix("_bar")
        seeds[out] = rng.standard_normal(np.shape(found[out]))
        if np.iscomplexobj(found[out]):
            seeds[out] = seeds[out] + 1j * rng.standard_normal(np.shape(found[out]))
    passed = {**arrays, **{f"{out}_bar": seed for out, seed in seeds.items()}}
    got = outputs_of(adjoint, passed)
    for name, out in zip(wrt, adjoint.outputs, strict=True):
        want = differences(cascade, name, arrays, seeds or {cascade.outputs[0]: 1})
        np.testing.assert_allclose(got[out], want, rtol=rtol, atol=1e-6, err_msg=name)
        assert got[out].dtype == arrays[name].dtype
    for backend in backends:
        results: Any = el.compile(adjoint, backend=backend)(**passed)
        for number, out in enumerate(adjoint.outputs):
            result = results[number] if len(adjoint.outputs) > 1 else results
            np.testing.assert_allclose(result, got[out], rtol=1e-9, atol=1e-10)
    return adjoint


# ---- operators


UNARY = sorted(n for n, row in OPERATORS.items() if row.arity == 1 and n in RULES and n != "cast")
BINARY = sorted(n for n, row in OPERATORS.items() if row.arity == 2 and n in RULES)
FLAT = ("sign", "round", "floor", "ceil")


@pytest.mark.parametrize("name", [*UNARY, *FLAT])
def test_unary(name: str) -> None:
    low = 0.1 if name in ("log", "sqrt", "rsqrt", "log1p") else -2.0
    X = low + np.array([0.07, 0.4, 1.3, 2.6, 3.9])
    text = f"cascade f(X[I]: f64) -> Y {{ Y[i] = {name}(X[i]) * X[i] }}"
    check(text, ["X"], {"I": 5}, X=X)
    check(f"cascade f(X[I]: f64) -> Y {{ Y[i] = {name}(X[i]) }}", ["X"], {"I": 5}, X=X)


@pytest.mark.parametrize("name", [*BINARY, "floordiv"])
def test_binary(name: str) -> None:
    A, B = np.array([0.7, 1.4, 2.3, 3.1]), np.array([1.6, 0.9, -1.2, 2.0])
    check(f"cascade f(A[I]: f64, B[I]: f64) -> Y {{ Y[i] = {name}(A[i], B[i]) }}", "AB", {"I": 4},
          A=A, B=B)  # fmt: skip


@pytest.mark.parametrize("name", ["add", "mul", "max", "min", "logaddexp"])
def test_chains(name: str) -> None:
    text = "cascade f(A[I]: f64, B[I]: f64, C[I]: f64) -> Y { Y[i] = %s(A[i], B[i], C[i], A[i]) }"
    check(text % name, "ABC", {"I": 5})


def test_every_operator_has_a_rule_or_none() -> None:
    """The rest are constant between jumps, or of integers and bits."""
    rest = set(OPERATORS) - set(RULES)
    bits = {"and", "or", "xor", "invert", "shl", "shr", "eq", "ne", "lt", "le", "gt", "ge"}
    assert rest == {*bits, *FLAT, "floordiv", "bitcast"}


def test_select_and_casts() -> None:
    check("cascade f(A[I]: f64, B[I]: f64) -> Y { Y[i] = select(A[i] < B[i], A[i]*B[i], B[i]) }",
          "AB", {"I": 6})  # fmt: skip
    adjoint = check(
        "cascade f(A[I]: f64, N[I]: i32) -> Y {"
        " Y[i] = cast(A[i], f64) * N[i] + cast(cast(A[i], i64), f64) }",
        ["A"], {"I": 3}, N=[1, 2, 3],
    )  # fmt: skip
    assert str(adjoint.einsums[-1].output.tensor) == "A_bar"


def test_powers_at_zero() -> None:
    text = "cascade f(A[I]: f64, B[I]: f64) -> Y { Y[i] = pow(A[i], B[i]) + pow(A[i], 2) }"
    adjoint = el.grad(text, wrt=["A", "B"])
    got = el.evaluate(adjoint, A=[0.0, 0.0, 2.0], B=[2.0, 0.0, 0.0], Y_bar=[1.0, 1, 1])
    np.testing.assert_allclose(got["A_bar"], [0, 0, 4])
    np.testing.assert_allclose(got["B_bar"], [0, 0, np.log(2)])


def test_ties_go_to_the_first() -> None:
    def grads(expr: str, **arrays: Any) -> list[Any]:
        header = ", ".join(f"{name}[I]: f64" for name in arrays)
        adjoint = el.grad(f"cascade f({header}) -> Y {{ Y = sum[i] {expr} }}", wrt=list(arrays))
        found = outputs_of(adjoint, arrays)
        return [found[f"{name}_bar"].tolist() for name in arrays]

    one = [1.0, 1.0]
    assert grads("max(A[i], B[i])", A=one, B=one) == [[1, 1], [0, 0]]
    assert grads("min(A[i], B[i], C[i])", A=one, B=one, C=[0.0, 1.0]) == [[0, 1], [0, 0], [1, 0]]
    assert grads("relu(A[i])", A=[0.0, 1.0]) == [[0, 1]]
    assert grads("abs(A[i])", A=[0.0, -1.0]) == [[0, -1]]
    first = el.grad("cascade f(A[I,J]: f64) -> Y { Y = max[i,j] A[i,j] }", wrt="A")
    assert el.evaluate(first, A=[[0, 1.0], [1.0, 1.0]]).tolist() == [[0, 1], [0, 0]]


# ---- reductions, reads, filters


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min", "logaddexp"])
@pytest.mark.parametrize("where", ["", " where i <= j"])
def test_reductions(op: str, where: str) -> None:
    text = "cascade f(X[I,J,K]: f64, B[K]: f64) -> Y { Y[i] = %s[j,k] (X[i,j,k]*B[k])%s }"
    check(text % (op, where), "XB", {"I": 2, "J": 3, "K": 3})


def test_products_with_zeros() -> None:
    X = [[2.0, 3, 4], [0, 3, 4], [0, 0, 4]]
    adjoint = check(
        "cascade f(X[I,J]: f64) -> Y { Y[i] = prod[j] X[i,j] }", ["X"], {"I": 3, "J": 3}, X=X
    )
    got = el.evaluate(adjoint, X=X, Y_bar=[1.0, 1, 1])
    assert got.tolist() == [[12, 8, 6], [12, 0, 0], [0, 0, 0]]


def test_a_maximum_of_nothing_has_no_cotangent() -> None:
    text = "cascade f(X[J]: f64) -> Y { ranks I = 3\n Y[i] = max[j] X[j] where j < i else 5 }"
    check(text, ["X"], {"J": 4})
    check(text.replace("max[j]", "logaddexp[j]"), ["X"], {"J": 4})


CONSTRUCTS = {
    "(A[I]: f64, B: f64, C[J]: f64) -> Y { Y[i] = sum[j] (A[i] * B) }": "AB",
    "(A[I,J]: f64) -> Y { Y[i] = A[i,j] }": "A",
    "(A[I,J]: f64) -> Y { Y = A[i,j] * A[i,j] }": "A",
    "(A[N,N]: f64) -> Y { Y = A[n,n] * A[n,n] }": "A",
    "(A[N,N]: f64) -> Y { ranks M = N\n Y[n] = A[m,n] * A[n,m] }": "A",
    "(A[N]: f64) -> Y { Y[n,n] = sin(A[n]) }": "A",
    "(A[N]: f64) -> Y { Y[n,0] = A[n] * A[n] over max_plus }": "A",
    "(A[1,N]: f64, B[N]: f64) -> Y { Y[n] = A[0,n] * B[n] * A[0,0] }": "AB",
    "(A[N]: f64) -> Y, Z { Y[n] = A[N-1-n] * A[0]\n Z = Y[n] * A[2] }": "A",
    "(A[2*N]: f64, B[N]: f64) -> Y { Y[n] = A[2*n] * A[2*n+1] + B[n] }": "AB",
    "(A[H]: f64, F[R]: f64) -> Y { Y[p] = A[2*p+3*r] * F[r] }": "AF",
    "(A[H]: f64) -> Y { ranks N = 2\n Y[n] = A[n else 0] }": "A",
    "(A[H]: f64) -> Y { ranks N = 9\n Y[n] = A[n else 3] * (n + H) }": "A",
    "(A[I,J]: f64) -> Y { Y[i] = max[j] (A[i,j]) + sum[j] (A[i,j] * A[i,j]) }": "A",
    "(A[I,J]: f64) -> Y { ranks K = J\n Y[i] = exp(max[j] (A[i,j] * sum[k] A[i,k])) }": "A",
    "(A[I,J]: f64, B[J,K]: f64) -> Y { Y[i,k] = A[i,j] * B[j,k] over max_plus }": "AB",
    "(A[I,J]: f64, B[J]: f64) -> Y { Y[i] = A[i,j]*B[j] over min_plus where j != i else 7 }": "AB",
    "(A[I,J]: f64, B[J,K]: f64) -> Y { Y[i,k] = A[i,j] * B[j,k] over log }": "AB",
    "(A[I,J]: f64, B[J,K]: f64) -> Y { Y[i,k] = A[i,j] * B[j,k] over min_max }": "AB",
    "(A[I,J]: f64) -> Y { Y[i,j] = A[i,j] * 2 where i <= j else 4 }": "A",
    "(A[I]: f64) -> Y, I0 { Y, I0 = max[i] A[i] }": "A",
    "(A[I]: f64) -> Y { ranks M0 = 2\n partition I -> M1, M0\n"
    " Y[m1] = A[m1*M0+m0] * A[m1*M0+m0] }": "A",
    "(A[I]: f64) -> Y { Z[i] = A[i]\n Y[i] = Z[i] * Z[i]\n U[i] = floor(Y[i]) }": "A",
    "(A[I]: f64, B[I]: f64) -> Y { Y[i] = B[i] }": "A",
}


@pytest.mark.parametrize("text", CONSTRUCTS)
def test_constructs(text: str) -> None:
    sizes = {"I": 3, "J": 3, "K": 2, "N": 3, "H": 8, "R": 3}
    check(f"cascade f{text}", CONSTRUCTS[text], sizes)


def test_gathers() -> None:
    check(
        "cascade f(D[N,E]: f64, J[B]: i64) -> Y { Y[b,e] = D[J[b],e] * D[J[b],0] }",
        ["D"], {"N": 4, "E": 2, "B": 5}, J=[0, 3, 3, 1, 0],
    )  # fmt: skip
    check(
        "cascade f(D[N]: f64, J[B]: i64) -> Y { ranks P = B\n Y[p] = D[J[p+1 else -1] else 2] }",
        ["D"], {"N": 4, "B": 5}, J=[0, 3, 3, 9, 0],
    )  # fmt: skip


def test_operators_of_the_texts_own() -> None:
    check(
        "op hyp(a: f64, b: f64) [commutative] = sqrt(a*a + b*b)\n"
        "op plus(a: f64, b: f64) [commutative, associative, identity = 0] = a + b\n"
        "semiring own(plus, mul, 0, 1)\n"
        "cascade f(A[I,J]: f64, B[I]: f64) -> Y, Z, U {\n"
        "  Y[i] = hyp(A[i,j], B[i])\n Z[i] = plus[j] (A[i,j]*B[i])\n"
        "  U[i] = A[i,j] * B[i] over own }",
        "AB", {"I": 2, "J": 3},
    )  # fmt: skip


# ---- cascades people write

ATTENTION = """
cascade attention(Q[E,P]: f64, K[E,M]: f64, V[F,M]: f64) -> AV {
  QK[m,p] = Q[e,p] * K[e,m] / sqrt(E)
  GM[p]   = max[m] QK[m,p] where m <= p + 1
  SN[m,p] = exp(QK[m,p] - GM[p]) where m <= p + 1 else 0
  SD[p]   = SN[m,p]
  A[m,p]  = SN[m,p] / SD[p]
  AV[f,p] = A[m,p] * V[f,m]
}"""

ONE_PASS = """
cascade attention1(Q[E,P]: f64, K[E,M]: f64, V[F,M]: f64) -> AV {
  ranks M0 = 2
  partition M -> M1, M0
  QK[m1,m0,p]   = Q[e,p] * K[e, m1*M0+m0]
  LM[m1,p]      = max[m0] QK[m1,m0,p]
  RM[0,p]       = -inf
  RM[m1+1,p]    = max(RM[m1,p], LM[m1,p])
  SH[m1,p]      = select(RM[m1+1,p] == -inf, 0, RM[m1+1,p])
  SLN[m1,m0,p]  = exp(QK[m1,m0,p] - SH[m1,p])
  PRM[m1,p]     = exp(RM[m1,p] - SH[m1,p])
  SLD[m1,p]     = SLN[m1,m0,p]
  SLNV[f,m1,p]  = SLN[m1,m0,p] * V[f, m1*M0+m0]
  RD[0,p]       = 0
  RD[m1+1,p]    = SLD[m1,p] + RD[m1,p]*PRM[m1,p]
  RNV[f,0,p]    = 0
  RNV[f,m1+1,p] = SLNV[f,m1,p] + RNV[f,m1,p]*PRM[m1,p]
  AV[f,p]       = RNV[f,M1,p] / RD[M1,p]
}"""

LAYERNORM = """
cascade layernorm(X[B,D]: f64, G[D]: f64, C[D]: f64) -> Y {
  U[b] = sum[d] (X[b,d]) / D
  S[b] = sum[d] (pow(X[b,d] - U[b], 2)) / D
  Y[b,d] = (X[b,d] - U[b]) * rsqrt(S[b] + 0.00001) * G[d] + C[d]
}"""

HMM = """
cascade hmm(T[S,R]: f64, E[V,S]: f64, A0[S]: f64) -> L, A {
  ranks R = S
  A[0,s] = A0[s]
  A[v+1,s] = A[v,r] * T[s,r] * E[v,s] over log
  L = A[V,s] over log
}"""

LSTM = """
cascade cell(X[V,D]: f64, W[H,D]: f64, U[H,G]: f64, Z0[H]: f64) -> S, O {
  ranks G = H
  S[0,h] = Z0[h]
  C[0,h] = tanh(Z0[h])
  I[v,h] = sigmoid(sum[d] (W[h,d] * X[v,d]) + sum[g] (U[h,g] * S[v,g]))
  C[v+1,h] = C[v,h] * I[v,h] + (1 - I[v,h]) * tanh(X[v,0])
  S[v+1,h] = I[v,h] * tanh(C[v+1,h])
  O[h] = C[V,h] * S[1,h] * I[0,h]
}"""


def test_attention() -> None:
    check(ATTENTION, "QKV", {"E": 2, "P": 3, "M": 4, "F": 2})
    check(ONE_PASS, "QKV", {"E": 2, "P": 2, "M": 5, "F": 2}, rtol=1e-4)


def test_layernorm() -> None:
    check(LAYERNORM, "XGC", {"B": 2, "D": 4})


def test_convolution() -> None:
    text = """
    cascade conv(X[C,H,W]: f64, F[O,C,R,S]: f64) -> Y {
      ranks P = (H-1)//2+1, Q = (W-1)//2+1
      Y[o,p,q] = X[c,2*p+r-1,2*q+s-1 else 0] * F[o,c,r,s]
    }"""
    check(text, "XF", {"C": 2, "H": 5, "W": 4, "O": 2, "R": 3, "S": 3})


def test_scans() -> None:
    check(HMM, ["T", "E", "A0"], {"S": 3, "V": 4, "R": 3})
    check(HMM.replace("over log", "over max_plus"), ["T", "E", "A0"], {"S": 3, "V": 4, "R": 3})
    check(HMM, ["T", "E", "A0"], {"S": 2, "V": 0, "R": 2})
    check(LSTM, ["X", "W", "U", "Z0"], {"V": 4, "D": 2, "H": 2, "G": 2})


LAGS = """cascade lags(A[I,V]: f64, S[I]: f64, W[I,I]: f64) -> Y, Z, X {
  ranks J = I
  X[i,0] = S[i]
  X[i,1] = 1.0
  X[i,2] = S[i] * X[i,0]
  U[0,i] = S[i]
  X[i,v+3] = A[i,v] * X[i,v+2] - X[i,v] * U[v,i]
  M[v,i] = W[i,j] * X[j,v+3]
  U[v+1,i] = M[v,i] * 0.5 + sin(X[i,v+1])
  Y = sum[i] (X[i,V+2] * U[V,i])
  Z[i] = sum[v] (X[i,v] * U[v,i] * X[i,1])
}"""


def test_scans_that_step_by_more_than_one() -> None:
    fibonacci = """cascade f(A[V]: f64, B[V]: f64, S: f64, T: f64) -> X {
      X[0] = S
      X[1] = S * T
      X[v+2] = A[v] * X[v+1] + sin(X[v]) * B[v]
    }"""
    for length in (0, 1, 2, 5):
        check(fibonacci, "ABST", {"V": length})
        check(LAGS, "ASW", {"V": length, "I": 2})


def test_scans_that_read_their_starts() -> None:
    for length in (1, 4):
        for line in ("X[v+1] = sin(X[v]) * X[0] * A[v]", "B = X[0] * 2\n X[v+1] = X[v] * B + A[v]"):
            check(f"cascade f(A[V]: f64, S: f64) -> X {{ X[0] = exp(S) * A[0]\n {line} }}", "AS",
                  {"V": length})  # fmt: skip
    check("cascade f(A[I,V]: f64, S[I]: f64) -> X {\n ranks J = I\n X[0,i] = S[i] * S[i]\n"
          " B[i] = sum[j] (X[0,j] * X[0,i])\n X[v+1,i] = X[v,i] * B[i] + A[i,v] * X[0,i] }",
          "AS", {"V": 3, "I": 2})  # fmt: skip


@pytest.mark.parametrize("length", [0, 1, 2, 6])
def test_scans_brought_to_a_step_of_one_mean_the_same(length: int) -> None:
    cascade = el.parse(LAGS)
    arrays = inputs_of(cascade, {"V": length, "I": 3}, {})
    single = verify(single_steps(cascade))
    assert all(lag == 1 for einsum in single.einsums for _, _, lag in einsum.steps)
    want = outputs_of(cascade, arrays)
    for name, found in outputs_of(single, arrays).items():
        assert found.tolist() == want[name].tolist()


def test_a_scan_whose_circle_is_broken() -> None:
    """Where floor stands, no cotangent goes back, so that the adjoint is no one scan."""
    check(
        "cascade f(A[V]: f64, X0: f64) -> X {\n X[0] = X0\n Z[v] = floor(X[v]) * A[v]\n"
        " X[v+1] = A[v] * sin(Z[v]) }",
        ["A", "X0"], {"V": 4},
    )  # fmt: skip


def test_gradients_of_gradients() -> None:
    first = el.grad("cascade f(X[I]: f64, W[I]: f64) -> Y { Y = exp(W[i] * X[i]) }", wrt="X")
    check(first, ["X", "W"], {"I": 3})
    check(el.grad(ATTENTION, wrt="Q"), ["K", "AV_bar"], {"E": 2, "P": 2, "M": 3, "F": 1}, rtol=1e-4)
    check(el.grad(HMM, wrt="T"), ["E"], {"S": 2, "V": 2, "R": 2}, backends=(), rtol=1e-4)


def test_complex() -> None:
    check("cascade f(A[I,J]: c128, B[J]: c128) -> Y { Y[i] = exp(A[i,j] * conj(B[j])) }", "AB",
          {"I": 2, "J": 3})  # fmt: skip
    check("cascade f(A[I]: c128, B[I]: f64) -> Y { Y = abs(A[i]) * B[i] }", "AB", {"I": 3})
    check("cascade f(A[I]: c128, B[I]: f64) -> Y { Y[i] = A[i] * B[i] * 2j }", "AB", {"I": 3})
    check("cascade f(A[I]: c128) -> Y { Y[i]: f64 = A[i] * A[i] }", "A", {"I": 3})
    check("cascade f(A[I]: f64) -> Y { Y[i] = cast(A[i], c128) * 3j }", "A", {"I": 3})


def test_dtypes_are_those_of_the_inputs() -> None:
    text = "cascade f(A[I,J]: f16, B[J]: f32, S: f64) -> Y { Y[i] = A[i,j] * B[j] * S * (i + 1) }"
    adjoint = el.grad(text, wrt=["A", "B", "S"])
    found = infer_dtypes(adjoint, {})
    assert [str(found[name]) for name in ("A_bar", "B_bar", "S_bar")] == ["f16", "f32", "f64"]
    compact = el.grad("ij,jk->ik", wrt="A", dtypes="f32")
    assert "A_bar[i,j] = Y_bar[i,k] * B[j,k]" in str(compact)


def test_names_are_not_taken_twice() -> None:
    adjoint = el.grad("cascade f(X[I]: f64, X_bar[I]: f64) -> Y { Y = X[i] * X_bar[i] }", wrt="X")
    assert adjoint.outputs == ("X_bar1",)


# ---- refusals


@pytest.mark.parametrize(
    ("text", "wrt", "kind", "said"),
    [
        ("(A[I]: f64) -> Y { Y = A[i] }", ["B"], PassError, "B is not an input"),
        ("(A[I]: i64) -> Y { Y = A[i] / 2 }", ["A"], PassError, "A is i64"),
        ("(A[I]: f64) -> Y { Y = A[i] }", [], PassError, "one input or more"),
        ("(A[I]: f64) -> Y { Y = A[i] }", ["A", "A"], PassError, "each once"),
        ("(A[I]: f64) -> Y { Y = argmax[i] A[i] }", ["A"], PassError, "no output of f"),
        ("(A[I]) -> Y { Y = A[i] }", ["A"], OperandError, "the dtype of A is not known"),
        ("(A[I]: f32) -> Y { Y[i] = bitcast(bitcast(A[i], i32) + 1, f32) }", ["A"],
         UnsupportedError, "makes floating values of bits"),
        ("(A[I]: c64) -> Y { Y[i] = sign(A[i]) }", ["A"], UnsupportedError, "sign of complex"),
        ("(A[V]: f64) -> X { X[0] = 1.0\n X[v+1] = X[v] * X[v-1 else 0] * A[v] }", ["A"],
         UnsupportedError, "reads X at v-1"),
    ],
)  # fmt: skip
def test_refusals(text: str, wrt: list[str], kind: type[EinloomError], said: str) -> None:
    with pytest.raises(kind) as caught:
        el.grad(f"cascade f{text}", wrt=wrt)
    assert said in str(caught.value)


def test_wrt_is_a_name_or_names() -> None:
    three: Any = 3
    with pytest.raises(OperandError, match="wrt= is a name or a list"):
        el.grad("ij->i", wrt=three, dtypes="f64")


# ---- random cascades

_LEAVES = ("A[i,j]", "B[j,k]", "A[i,0]", "C[k+i else 0.5]", "B[J[i],k]", "0.7", "(k + 1)", "S")
_CALLS = ("sin", "tanh", "cos", "relu", "abs", "sigmoid", "neg")
_PAIRS = ("{} * {}", "{} + {}", "{} - {}", "max({}, {})", "min({}, {})", "{} / (2 + abs({}))",
          "select(i < j, {}, {})", "logaddexp({}, {})")  # fmt: skip


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(_LEAVES))
    if draw(st.booleans()):
        return f"{draw(st.sampled_from(_CALLS))}({draw(expressions(depth - 1))})"
    one, two = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    return f"({draw(st.sampled_from(_PAIRS)).format(one, two)})"


@settings(max_examples=60)
@given(
    expressions(),
    st.sampled_from(["sum", "max", "min", "logaddexp", "prod"]),
    st.sampled_from(["", " where j <= k + i", " where A[i,j] < B[j,k] else 0.3"]),
    st.sampled_from(["Y[i]", "Y[k,i]", "Y[i,i]", "Y"]),
)
def test_random_cascades(expr: str, op: str, where: str, left: str) -> None:
    reduced = [v for v in "ijk" if v not in left[1:]]
    text = (
        "cascade f(A[I,J]: f64, B[J,K]: f64, C[H]: f64, S: f64, J0[I]: i64) -> Z {\n"
        f"  {left} = {op}[{','.join(reduced)}] ({expr.replace('J[i]', 'J0[i]')}){where}\n"
        f"  Z{left[1:]} = sin({left}) \n}}"
    )
    check(text, ["A", "B", "C", "S"], {"I": 2, "J": 3, "K": 2, "H": 3}, J0=[2, 0], rtol=1e-3,
          backends=())  # fmt: skip
