"""Adjoints of cascades that people write: attention, layers, scans, gradients of gradients."""

from __future__ import annotations

import pytest

import einloom as el
from einloom.ir.verify import verify
from einloom.passes.lags import single_steps

from .gradients import check, inputs_of, outputs_of

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

CONVOLUTION = """
cascade conv(X[C,H,W]: f64, F[O,C,R,S]: f64) -> Y {
  ranks P = (H-1)//2+1, Q = (W-1)//2+1
  Y[o,p,q] = X[c,2*p+r-1,2*q+s-1 else 0] * F[o,c,r,s]
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
    check(CONVOLUTION, "XF", {"C": 2, "H": 5, "W": 4, "O": 2, "R": 3, "S": 3})


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
