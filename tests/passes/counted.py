"""Cascades whose passes are known, each as its source writes it."""

from __future__ import annotations

ATTENTION = "cascade f(Q[E,P]: f64, K[E,M]: f64, V[F,M]: f64) -> AV {{\n{}\n}}"
VECTOR = "cascade f(X[M]: f64) -> Y {{\n{}\n}}"
LINEAR = "cascade f(X[M]: f64, W[M,N]: f64) -> Y {{\n{}\n}}"
PAIR = "cascade f(A[K]: f64, B[K]: f64) -> Z {{\n{}\n}}"

_SOFTMAX = """
  QK[m,p] = Q[e,p] * K[e,m]
  GM[p]   = max[m] QK[m,p]
  SN[m,p] = exp(QK[m,p] - GM[p])
  SD[p]   = SN[m,p]
"""
_TILES = """
  ranks M0 = 4
  partition M -> M1, M0
  BQK[m1,m0,p]  = Q[e,p] * K[e, m1*M0+m0]
  LM[m1,p]      = max[m0] BQK[m1,m0,p]
  SLN[m1,m0,p]  = exp(BQK[m1,m0,p] - LM[m1,p])
  SLD[m1,p]     = SLN[m1,m0,p]
"""
_MERGED = """
  GM[p]    = max[m1] LM[m1,p]
  PLM[m1,p] = exp(LM[m1,p] - GM[p])
  SD[p]    = SLD[m1,p] * PLM[m1,p]
"""

#: name -> (text, FuseMax's passes by rank)
COUNTED: dict[str, tuple[str, dict[str, int]]] = {
    "C1": (PAIR.format("  Y = A[k] * B[k]\n  Z = Y * A[k]"), {"K": 2}),
    "C2, deferral": (PAIR.format("  Y = A[k] * B[k]\n  X = A[k]\n  Z = Y * X"), {"K": 1}),
    "C3, iterative": (
        PAIR.format(
            """
  ranks I = K
  RY[0]   = 0.0
  RY[i+1] = RY[i] + A[i] * B[i]
  RZ[0]   = 0.0
  RZ[i+1] = RZ[i] * RY[i+1] / RY[i] + RY[i+1] * A[i]
  Z       = RZ[K]"""
        ),
        {"K": 1, "I": 1},
    ),
    "C4, attention": (
        ATTENTION.format(
            _SOFTMAX + "  A[m,p] = SN[m,p] / SD[p]\n  AV[f,p] = A[m,p] * V[f,m]",
        ),
        {"M": 3, "P": 1, "E": 1, "F": 1},
    ),
    "C4, division deferred": (
        ATTENTION.format(
            _SOFTMAX + "  SNV[f,p] = SN[m,p] * V[f,m]\n  AV[f,p] = SNV[f,p] / SD[p]",
        ),
        {"M": 2},
    ),
    "attention in two passes": (
        ATTENTION.format(
            _TILES
            + _MERGED
            + "  A[m1,m0,p] = SLN[m1,m0,p] * PLM[m1,p] / SD[p]\n"
            + "  AV[f,p] = A[m1,m0,p] * V[f, m1*M0+m0]"
        ),
        {"M": 2},
    ),
    "C5, attention in one pass": (
        ATTENTION.format(
            """
  ranks M0 = 4
  partition M -> M1, M0
  BQK[m1,m0,p]  = Q[e,p] * K[e, m1*M0+m0]
  LM[m1,p]      = max[m0] BQK[m1,m0,p]
  RM[0,p]       = -inf
  RM[m1+1,p]    = max(RM[m1,p], LM[m1,p])
  SLN[m1,m0,p]  = exp(BQK[m1,m0,p] - RM[m1+1,p])
  SLD[m1,p]     = SLN[m1,m0,p]
  SLNV[f,m1,p]  = SLN[m1,m0,p] * V[f, m1*M0+m0]
  PRM[m1,p]     = exp(RM[m1,p] - RM[m1+1,p])
  RD[0,p]       = 0.0
  RD[m1+1,p]    = SLD[m1,p] + RD[m1,p] * PRM[m1,p]
  RNV[f,0,p]    = 0.0
  RNV[f,m1+1,p] = SLNV[f,m1,p] + RNV[f,m1,p] * PRM[m1,p]
  AV[f,p]       = RNV[f,M1,p] / RD[M1,p]"""
        ),
        {"M": 1, "M0": 2, "P": 1, "E": 1, "F": 1},
    ),
    "split-K attention": (
        ATTENTION.format(
            _TILES
            + "  SLNV[f,m1,p] = SLN[m1,m0,p] * V[f, m1*M0+m0]\n"
            + _MERGED
            + "  SNV[f,p] = SLNV[f,m1,p] * PLM[m1,p]\n  AV[f,p] = SNV[f,p] / SD[p]"
        ),
        {"M": 1, "M1": 2},
    ),
    "softmax, stable": (
        VECTOR.format(
            "  G = max[m] X[m]\n  N[m] = exp(X[m] - G)\n  D = N[m]\n  Y[m] = N[m] / D",
        ),
        {"M": 3},
    ),
    "softmax, unstable": (
        VECTOR.format("  N[m] = exp(X[m])\n  D = N[m]\n  Y[m] = N[m] / D"),
        {"M": 2},
    ),
    "softmax, online": (
        VECTOR.format(
            """
  G[0]   = -inf
  G[m+1] = max(G[m], X[m])
  D[0]   = 0.0
  D[m+1] = D[m] * exp(G[m] - G[m+1]) + exp(X[m] - G[m+1])
  Y[m]   = exp(X[m] - G[M]) / D[M]"""
        ),
        {"M": 2},
    ),
    "log-sum-exp, stable": (
        VECTOR.format("  G = max[m] X[m]\n  D = sum[m] exp(X[m] - G)\n  Y = log(D) + G"),
        {"M": 2},
    ),
    "log-sum-exp, online": (
        VECTOR.format(
            """
  G[0]   = -inf
  G[m+1] = max(G[m], X[m])
  D[0]   = 0.0
  D[m+1] = D[m] * exp(G[m] - G[m+1]) + exp(X[m] - G[m+1])
  Y      = log(D[M]) + G[M]"""
        ),
        {"M": 1},
    ),
    "variance, two passes": (
        VECTOR.format("  S = X[m]\n  U = S / M\n  Y = sum[m] ((X[m] - U) * (X[m] - U))"),
        {"M": 2},
    ),
    "variance, E[x^2]": (
        VECTOR.format("  S = X[m]\n  T = X[m] * X[m]\n  Y = T / M - S / M * (S / M)"),
        {"M": 1},
    ),
    "variance, Welford": (
        VECTOR.format(
            """
  U[0]   = 0.0
  U[m+1] = U[m] + (X[m] - U[m]) / (m + 1)
  S[0]   = 0.0
  S[m+1] = S[m] + (X[m] - U[m]) * (X[m] - U[m+1])
  Y      = S[M] / M"""
        ),
        {"M": 1},
    ),
    "layernorm, two-pass variance": (
        VECTOR.format(
            "  S = X[m]\n  D[m] = X[m] - S / M\n  T = D[m] * D[m]\n  Y[m] = D[m] / sqrt(T / M)",
        ),
        {"M": 3},
    ),
    "layernorm, E[x^2]": (
        VECTOR.format(
            "  S = X[m]\n  T = X[m] * X[m]\n"
            "  Y[m] = (X[m] - S / M) / sqrt(T / M - S / M * (S / M))",
        ),
        {"M": 2},
    ),
    "layernorm, then linear, deferred": (
        LINEAR.format(
            """
  S    = X[m]
  T    = X[m] * X[m]
  L[n] = X[m] * W[m,n]
  C[n] = W[m,n]
  Y[n] = (L[n] - S / M * C[n]) / sqrt(T / M - S / M * (S / M))"""
        ),
        {"M": 1},
    ),
    "RMSNorm": (VECTOR.format("  T = X[m] * X[m]\n  Y[m] = X[m] / sqrt(T / M)"), {"M": 2}),
    "RMSNorm, then linear, deferred": (
        LINEAR.format("  T = X[m] * X[m]\n  L[n] = X[m] * W[m,n]\n  Y[n] = L[n] / sqrt(T / M)"),
        {"M": 1},
    ),
    "linear attention": (
        ATTENTION.format("  KV[e,f] = K[e,m] * V[f,m]\n  AV[f,p] = Q[e,p] * KV[e,f]"),
        {"M": 1},
    ),
    "A'Ax": (
        "cascade f(A[M,N]: f64, X[N]: f64) -> Z {\n  Y[m] = A[m,n] * X[n]\n"
        "  Z[n] = A[m,n] * Y[m]\n}",
        {"N": 2, "M": 1},
    ),
    "a convolution, normalised": (
        "cascade f(X[H]: f64, F[R]: f64) -> Z {\n  Y[p] = X[p+r] * F[r]\n"
        "  G = max[p] Y[p]\n  Z[h] = X[h] * G\n}",
        {"H": 2},
    ),
    "rows, then columns, of one rank": (
        """cascade f(X[M]: f64) -> Z {
  ranks M0 = 4
  partition M -> M1, M0
  E[m1,m0] = exp(X[m1*M0+m0])
  S[m1]    = sum[m0] E[m1,m0]
  A[m1,m0] = E[m1,m0] / S[m1]
  T[m0]    = sum[m1] A[m1,m0]
  Z[m1,m0] = A[m1,m0] / T[m0]
}""",
        {"M": 2},
    ),
    "self-attention": (
        """cascade f(X[M,E]: f64) -> Y {
  ranks N = M
  QK[m,n] = X[m,e] * X[n,e]
  GM[m]   = max[n] QK[m,n]
  SN[m,n] = exp(QK[m,n] - GM[m])
  SD[m]   = SN[m,n]
  A[m,n]  = SN[m,n] / SD[m]
  Y[m,e]  = A[m,n] * X[n,e]
}""",
        {"N": 3, "M": 1},
    ),
    "two tensors": (PAIR.format("  S = A[k]\n  Z[k] = B[k] * S"), {"K": 1}),
}
