"""The judge itself: what it says of cascades whose passes were counted by hand.

Sources: Nayak et al., FuseMax (MICRO 2024) for attention and C1 to C5; Milakov and Gimelshein,
Online normalizer calculation for softmax (2018); Welford, Note on a Method for Calculating
Corrected Sums of Squares and Products (1962); Dao et al., FlashDecoding (2023) for split-K.
"""

from __future__ import annotations

import pytest

import einloom as el

from .sweeps import best_plan, least_passes, least_sweeps, least_tensor_passes

SCORES = """
  QK[m,p] = Q[e,p] * K[e,m]
  GM[p]   = max[m] QK[m,p]
  SN[m,p] = exp(QK[m,p] - GM[p])
  SD[p]   = SN[m,p]
"""
ATTENTION = f"""cascade attention(Q[E,P], K[E,M], V[F,M]) -> AV {{ {SCORES}
  A[m,p]  = SN[m,p] / SD[p]
  AV[f,p] = A[m,p] * V[f,m]
}}"""
DEFERRED = f"""cascade deferred(Q[E,P], K[E,M], V[F,M]) -> AV {{ {SCORES}
  SNV[f,p] = SN[m,p] * V[f,m]
  AV[f,p]  = SNV[f,p] / SD[p]
}}"""
TILES = """
  partition M -> M1, M0
  QK[m1,m0,p]  = Q[e,p] * K[e, m1*M0+m0]
  LM[m1,p]     = max[m0] QK[m1,m0,p]
  SLN[m1,m0,p] = exp(QK[m1,m0,p] - LM[m1,p])
  SLD[m1,p]    = SLN[m1,m0,p]
  GM[p]        = max[m1] LM[m1,p]
  PLM[m1,p]    = exp(LM[m1,p] - GM[p])
  SD[p]        = SLD[m1,p] * PLM[m1,p]
"""
TWO_PASS = f"""cascade two_pass(Q[E,P], K[E,M], V[F,M]) -> AV {{ {TILES}
  A[m1,m0,p] = SLN[m1,m0,p] * PLM[m1,p] / SD[p]
  AV[f,p]    = A[m1,m0,p] * V[f, m1*M0+m0]
}}"""
SPLIT_K = f"""cascade split(Q[E,P], K[E,M], V[F,M]) -> AV {{ {TILES}
  SLNV[f,m1,p] = SLN[m1,m0,p] * V[f, m1*M0+m0]
  AV[f,p]      = sum[m1] (SLNV[f,m1,p] * PLM[m1,p]) / SD[p]
}}"""
ONE_PASS = """cascade one_pass(Q[E,P], K[E,M], V[F,M]) -> AV {
  partition M -> M1, M0
  QK[m1,m0,p]   = Q[e,p] * K[e, m1*M0+m0]
  LM[m1,p]      = max[m0] QK[m1,m0,p]
  RM[0,p]       = -inf
  RM[m1+1,p]    = max(RM[m1,p], LM[m1,p])
  SLN[m1,m0,p]  = exp(QK[m1,m0,p] - RM[m1+1,p])
  SLD[m1,p]     = SLN[m1,m0,p]
  SLNV[f,m1,p]  = SLN[m1,m0,p] * V[f, m1*M0+m0]
  PRM[m1,p]     = exp(RM[m1,p] - RM[m1+1,p])
  RD[0,p]       = 0
  RD[m1+1,p]    = SLD[m1,p] + RD[m1,p] * PRM[m1,p]
  RNV[f,0,p]    = 0
  RNV[f,m1+1,p] = SLNV[f,m1,p] + RNV[f,m1,p] * PRM[m1,p]
  AV[f,p]       = RNV[f,M1,p] / RD[M1,p]
}"""
SELF = """cascade self(X[E,M], V[F,M]) -> AV {
  ranks N = M
  QK[m,n] = X[e,n] * X[e,m]
  GM[n]   = max[m] QK[m,n]
  SN[m,n] = exp(QK[m,n] - GM[n])
  SD[n]   = SN[m,n]
  A[m,n]  = SN[m,n] / SD[n]
  AV[e,n] = A[m,n] * X[e,m]
}"""
ONLINE = """
  ranks I = M
  G[0]   = -inf
  D[0]   = 0
  G[i+1] = max(G[i], X[i])
  D[i+1] = D[i] * exp(G[i] - G[i+1]) + exp(X[i] - G[i+1])
"""
STABLE = "G = max[m] X[m]\n E[m] = exp(X[m] - G)\n D = E[m]\n"
SQUARES = "S = X[m]\n Q = X[m] * X[m]\n V = Q/M - S*S/M/M\n"


def of_x(lines: str, inputs: str = "X[M]") -> str:
    return f"cascade f({inputs}) -> Z {{ {lines} }}"


SMALL = {"E": 1, "F": 1, "P": 1}
TILED = {**SMALL, "M": 8, "M0": 2}
M = {"M": 4}
K = {"K": 4}

#: text, extents, leaves of the family, sweeps, FuseMax's passes
COUNTS: dict[str, tuple[str, dict[str, int], tuple[str, ...], int, int]] = {
    "C1": ("cascade f(A[K], B[K]) -> Z { Y = A[k]*B[k]\n Z = Y*A[k] }", K, ("K",), 2, 2),
    "C2": ("cascade f(A[K], B[K]) -> Z { Y = A[k]*B[k]\n X = A[k]\n Z = Y*X }", K, ("K",), 1, 1),
    "C3": (
        "cascade f(A[K], B[K]) -> Z { ranks I = K\n RY[0] = 0\n RZ[0] = 0\n"
        "RY[i+1] = RY[i] + A[i]*B[i]\n RZ[i+1] = RZ[i]*RY[i+1]/RY[i] + RY[i+1]*A[i]\n Z = RZ[K] }",
        K, ("K",), 1, 1,
    ),
    "C4, M": (ATTENTION, {**SMALL, **M}, ("M",), 3, 3),
    "C4, P": (ATTENTION, {**SMALL, "M": 2, "P": 4}, ("P",), 1, 1),
    "C4, E": (ATTENTION, {**SMALL, "M": 2, "E": 4}, ("E",), 1, 1),
    "C4, F": (ATTENTION, {**SMALL, "M": 2, "F": 4}, ("F",), 1, 1),
    "C4 with the division deferred": (DEFERRED, {**SMALL, **M}, ("M",), 2, 2),
    "two-pass attention": (TWO_PASS, TILED, ("M1", "M0"), 2, 2),
    "C5": (ONE_PASS, TILED, ("M1", "M0"), 1, 1),
    "C5, a part left over": (ONE_PASS, {**TILED, "M": 7}, ("M1", "M0"), 1, 1),
    "C5, a tile": (ONE_PASS, {**TILED, "M0": 4}, ("M0",), 2, 2),
    "split-K, M": (SPLIT_K, TILED, ("M1", "M0"), 1, 1),
    "split-K, M1": (SPLIT_K, TILED, ("M1",), 2, 2),
    "self-attention at two aliases": (SELF, {**SMALL, **M}, ("M",), 3, 3),
    "linear attention": (
        "cascade f(Q[E,P], K[E,M], V[F,M]) -> Z {"
        "KV[e,f] = K[e,m] * V[f,m]\n Z[f,p] = Q[e,p] * KV[e,f] }", {**SMALL, **M}, ("M",), 1, 1,
    ),
    "softmax, stable": (of_x(STABLE + "Z[m] = E[m] / D"), M, ("M",), 3, 3),
    "softmax, unstable": (of_x("E[m] = exp(X[m])\n D = E[m]\n Z[m] = E[m] / D"), M, ("M",), 2, 2),
    "softmax, online": (of_x(ONLINE + "Z[m] = exp(X[m] - G[M]) / D[M]"), M, ("M",), 2, 2),
    "log-sum-exp, stable": (of_x(STABLE + "Z = log(D) + G"), M, ("M",), 2, 2),
    "log-sum-exp, online": (of_x(ONLINE + "Z = log(D[M]) + G[M]"), M, ("M",), 1, 1),
    "variance, two-pass": (
        of_x("S = X[m]\n D[m] = X[m] - S/M\n V = D[m] * D[m]\n Z = V/M"), M, ("M",), 2, 2,
    ),
    "variance, E[x^2]": (of_x(SQUARES + "Z = V"), M, ("M",), 1, 1),
    "variance, Welford": (
        of_x("ranks I = M\n U[0] = 0\n V[0] = 0\n U[i+1] = U[i] + (X[i] - U[i]) / (i+1)\n"
        "V[i+1] = V[i] + (X[i] - U[i]) * (X[i] - U[i+1])\n Z = V[M] / M"), M, ("M",), 1, 1,
    ),
    "layernorm, two-pass": (
        of_x("S = X[m]\n D[m] = X[m] - S/M\n V = D[m] * D[m]\n Z[m] = D[m] / sqrt(V/M)"),
        M, ("M",), 3, 3,
    ),
    "layernorm, E[x^2]": (of_x(SQUARES + "Z[m] = (X[m] - S/M) / sqrt(V)"), M, ("M",), 2, 2),
    "layernorm, E[x^2], into a linear layer": (
        of_x(SQUARES + "XW[n] = X[m] * W[m,n]\n SW[n] = W[m,n]\n"
        "Z[n] = (XW[n] - S/M * SW[n]) / sqrt(V)", "X[M], W[M,N]"), {**M, "N": 2}, ("M",), 1, 1,
    ),
    "RMSNorm": (of_x("Q = X[m] * X[m]\n Z[m] = X[m] / sqrt(Q/M)"), M, ("M",), 2, 2),
    "RMSNorm, into a linear layer": (
        of_x("Q = X[m] * X[m]\n XW[n] = X[m] * W[m,n]\n Z[n] = XW[n] / sqrt(Q/M)",
        "X[M], W[M,N]"), {**M, "N": 2}, ("M",), 1, 1,
    ),
    "AT A x, N": (
        of_x("Y[m] = A[m,n] * X[n]\n Z[n] = A[m,n] * Y[m]", "A[M,N], X[N]"),
        {"M": 2, "N": 4}, ("N",), 2, 2,
    ),
    "AT A x, M": (
        of_x("Y[m] = A[m,n] * X[n]\n Z[n] = A[m,n] * Y[m]", "A[M,N], X[N]"),
        {"M": 4, "N": 2}, ("M",), 1, 1,
    ),
    "a convolution, its maximum, and the input again": (
        of_x("Y[p] = X[p+r] * F[r]\n G = max[p] Y[p]\n Z[h] = X[h] * G", "X[H], F[R]"),
        {"H": 4, "R": 2}, ("H",), 2, 2,
    ),
    "a row softmax over m0, then a normalisation over m1": (
        of_x("partition M -> M1, M0\n X2[m1,m0] = X[m1*M0+m0]\n G[m1] = max[m0] X2[m1,m0]\n"
        "E[m1,m0] = exp(X2[m1,m0] - G[m1])\n D[m1] = E[m1,m0]\n S[m1,m0] = E[m1,m0] / D[m1]\n"
        "N[m0] = S[m1,m0]\n Z[m1,m0] = S[m1,m0] / N[m0]"), {"M": 16, "M0": 4}, ("M1", "M0"), 2, 2,
    ),
    "a reduction, then another input": (
        of_x("S = A[k]\n Z[k] = B[k] * S", "A[K], B[K]"), K, ("K",), 2, 1,
    ),
    "an intermediate of no input, twice": (
        of_x("S = A[k]\n X[k] = S * k\n G = X[k]\n Z[k] = X[k] * G", "A[K]"), K, ("K",), 3, 2,
    ),
    "an alias reads again": (of_x("ranks N = M\n S = X[m]\n Z[n] = X[n] * S"), M, ("M",), 2, 2),
    "a reduction inside": (of_x("ranks N = M\n Z[m] = X[m] / sum[n] X[n]"), M, ("M",), 2, 2),
    "an alias and a reduction inside": (
        of_x("ranks N = M\n Z[n] = X[n] / sum[m] X[m]"), M, ("M",), 2, 2,
    ),
    "the last value of a scan alone": (
        of_x("ranks I = M\n S[0] = 0\n S[i+1] = S[i] + X[i]\n Z[m] = S[M]"), M, ("M",), 2, 1,
    ),
    "what no output needs": (of_x("S = X[m]\n T[m] = X[m] * S\n Z = S"), M, ("M",), 1, 1),
    "a reversed read": (of_x("Z[k] = B[k] * A[K-1-k]", "A[K], B[K]"), K, ("K",), 1, 1),
    "a reversed read, and a reduction": (
        of_x("S = A[k]\n Z[k] = A[K-1-k] * S", "A[K]"), K, ("K",), 2, 2,
    ),
    "neighbours": (
        of_x("Y[k] = A[k-1 else 0] + A[k] + A[k+1 else 0]\n Z[k] = Y[k] * B[k]", "A[K], B[K]"),
        K, ("K",), 1, 1,
    ),
    "neighbours, and a reduction of them": (
        of_x("Y[k] = A[k-1 else 0] + A[k] + A[k+1 else 0]\n S = Y[k]\n Z[k] = Y[k] * S", "A[K]"),
        K, ("K",), 2, 2,
    ),
    "sums of prefixes": (
        of_x("ranks N = M\n Y[n] = X[m] where m <= n\n Z[m] = X[m] * Y[m]"), M, ("M",), 1, 1,
    ),
    "sums of prefixes and of suffixes": (
        of_x("ranks N = M\n Y[n] = X[m] where m <= n\n W[n] = X[m] where m >= n\n"
        "Z[m] = X[m] * Y[m] * W[m]"), M, ("M",), 2, 2,
    ),
    "a scan, then one that runs backwards on it": (
        of_x("ranks I = M\n F[0] = 0\n F[i+1] = F[i] + X[i]\n B[0] = 0\n"
        "B[i+1] = B[i] * F[M-1-i]\n Z = B[M]"), M, ("M",), 2, 2,
    ),
    "two elements that all need": (
        of_x("Y[k] = A[k] * 2\n Z[k] = B[k] * Y[0] * Y[2]", "A[K], B[K]"), K, ("K",), 1, 1,
    ),
    "a gather": (of_x("Z[b] = A[J[b]]", "A[K], J[B]: i64"), {**K, "B": 2}, ("K",), 1, 1),
    "a gather of what was reduced over": (
        of_x("S = A[k]\n Z[b] = A[J[b]] * S", "A[K], J[B]: i64"), {**K, "B": 2}, ("K",), 2, 2,
    ),
    "passes as many as steps": (
        "cascade f(A[K], T[I]) -> Z { X[0,k] = A[k]\n S[i] = X[i,k] * T[i]\n"
        "X[i+1,k] = X[i,k] * S[i]\n Z[k] = X[I,k] }", {**K, "I": 3}, ("K",), 4, 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_hand_counts(name: str) -> None:
    text, sizes, family, sweeps, passes = COUNTS[name]
    cascade = el.parse(text)
    assert least_sweeps(cascade, sizes, family) == sweeps
    assert least_passes(cascade, sizes, family) == passes


@pytest.mark.parametrize("name", ["C1", "C3", "softmax, stable", "layernorm, E[x^2]"])
def test_a_longer_rank_needs_no_more_sweeps(name: str) -> None:
    text, sizes, family, sweeps, _ = COUNTS[name]
    assert least_sweeps(el.parse(text), dict.fromkeys(sizes, 5), family) == sweeps


def test_passes_of_one_tensor() -> None:
    cascade, sizes = el.parse(ATTENTION), {**SMALL, **M}
    found = {n: least_tensor_passes(cascade, sizes, ("M",), n) for n in ("K", "QK", "SN", "A", "V")}
    assert found == {"K": 3, "QK": 3, "SN": 2, "A": 1, "V": 1}
    assert least_tensor_passes(cascade, sizes, ("M",), "Q") == 0


def test_the_order_that_a_scan_needs() -> None:
    text = (
        "ranks I = M\n B[0] = 0\n B[i+1] = B[i] * 2 + X[M-1-i]\n Y[m] = B[M-1-m] * X[m]\n Z = Y[m]"
    )
    plan = best_plan(el.parse(of_x(text)), M, ("M",))
    assert str(plan).startswith("1 over M: ")
    forwards = "F[0] = 0\n F[i+1] = F[i] * 2 + X[i]\n Y[m] = F[m] * X[m]\n Z = Y[m]"
    assert best_plan(el.parse(of_x("ranks I = M\n" + forwards)), M, ("M",)).orders == (
        (0, 1, 2, 3),
    )
    text = "ranks N = M\n Y[n] = X[m] where m >= n\n Z[m] = X[m] * Y[m]"
    plan = best_plan(el.parse(of_x(text)), M, ("M",))
    assert plan.orders[0][-1] == 0


def test_the_outermost_leaf_is_chosen() -> None:
    text = "partition M -> M1, M0\n G[m0] = max[m1] X[m1*M0+m0]\n Z[m1,m0] = X[m1*M0+m0] - G[m0]"
    cascade = el.parse(of_x(text))
    plan = best_plan(cascade, {"M": 16, "M0": 4}, ("M1", "M0"))
    assert (plan.outermost, len(plan)) == ("M0", 1)
    assert least_sweeps(cascade, {"M": 16, "M0": 4}, ("M1",)) == 2
