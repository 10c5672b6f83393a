"""Cascades that need fewer passes than they are written with, and bodies that do not come apart."""

from __future__ import annotations

from .counted import ATTENTION, LINEAR, VECTOR


def attention(scores: str, *, ranks: str = "", where: str = "") -> str:
    """Attention of these scores S[m,p], in three passes over the keys."""
    return ATTENTION.format(
        f"""{ranks}
{scores}
  GM[p]   = max[m] S[m,p]{where}
  SN[m,p] = exp(S[m,p] - GM[p])
  SD[p]   = sum[m] SN[m,p]{where}
  A[m,p]  = SN[m,p] / SD[p]
  AV[f,p] = sum[m] (A[m,p] * V[f,m]){where}"""
    )


_QK = "  QK[m,p] = Q[e,p] * K[e,m]\n"
_SOFTMAX = "  G = max[m] X[m]\n  N[m] = exp(X[m] - G)\n  D = N[m]\n"

#: name -> (text, passes over M as written, the fewest, whether that takes rule A')
CASES: dict[str, tuple[str, int, int, bool]] = {
    "attention": (attention(_QK + "  S[m,p] = QK[m,p]"), 3, 1, False),
    "with a scale and a bias": (
        attention("  S[m,p] = sum[e] (Q[e,p] * K[e,m]) / sqrt(E) + m * p * 0.01"),
        3,
        1,
        False,
    ),
    "causal, masked with -inf": (
        attention(_QK + "  S[m,p] = QK[m,p] where m <= p else -inf", ranks="  ranks P = M"),
        3,
        1,
        False,
    ),
    "causal, filtered": (
        attention(_QK + "  S[m,p] = QK[m,p]", ranks="  ranks P = M", where=" where m < p"),
        3,
        1,
        False,
    ),
    "with a softcap": (attention(_QK + "  S[m,p] = tanh(QK[m,p] / 30.0) * 30.0"), 3, 1, False),
    "with ALiBi": (
        attention(_QK + "  S[m,p] = QK[m,p] - 0.25 * abs(m - p)", ranks="  ranks P = M"),
        3,
        1,
        False,
    ),
    "with a scale inside": (
        ATTENTION.format(
            _QK + "  GM[p] = max[m] QK[m,p]\n  SN[m,p] = exp((QK[m,p] - GM[p]) * 0.125)\n"
            "  SD[p] = SN[m,p]\n  AV[f,p] = sum[m] (SN[m,p] / SD[p] * V[f,m])"
        ),
        3,
        1,
        False,
    ),
    "by its log-sum-exp": (
        ATTENTION.format(
            _QK + "  GM[p] = max[m] QK[m,p]\n  SD[p] = sum[m] exp(QK[m,p] - GM[p])\n"
            "  L[p] = log(SD[p]) + GM[p]\n  AV[f,p] = sum[m] (exp(QK[m,p] - L[p]) * V[f,m])"
        ),
        3,
        1,
        False,
    ),
    "in one expression": (
        ATTENTION.format(
            "  ranks N = M\n" + _QK + "  SN[m,p] = exp(QK[m,p] - max[n] QK[n,p])\n"
            "  AV[f,p] = sum[m] (SN[m,p] * V[f,m]) / sum[n] SN[n,p]"
        ),
        2,
        1,
        False,
    ),
    "softmax": (VECTOR.format(_SOFTMAX + "  Y[m] = N[m] / D"), 3, 2, False),
    "log-sum-exp": (VECTOR.format(_SOFTMAX + "  Y = log(D) + G"), 2, 1, False),
    "cross-entropy with a label": (
        """cascade f(X[B,M]: f64, T[B]: i64) -> Y {
  G[b] = max[m] X[b,m]
  D[b] = sum[m] exp(X[b,m] - G[b])
  Y[b] = log(D[b]) + G[b] - X[b,T[b]]
}""",
        3,
        1,
        False,
    ),
    "cross-entropy with weights": (
        """cascade f(X[B,M]: f64, T[B,M]: f64) -> Y {
  G[b]   = max[m] X[b,m]
  D[b]   = sum[m] exp(X[b,m] - G[b])
  L[b]   = log(D[b]) + G[b]
  P[b,m] = L[b] - X[b,m]
  Y[b]   = T[b,m] * P[b,m]
}""",
        3,
        1,
        True,
    ),
    "layernorm, then linear": (
        LINEAR.format(
            """  S    = X[m]
  D[m] = X[m] - S / M
  T    = D[m] * D[m]
  Z[m] = D[m] / sqrt(T / M + 1e-5)
  Y[n] = Z[m] * W[m,n]"""
        ),
        3,
        1,
        True,
    ),
    "RMSNorm, then linear": (
        LINEAR.format(
            "  T = X[m] * X[m]\n  Z[m] = X[m] / sqrt(T / M + 1e-5)\n  Y[n] = Z[m] * W[m,n]"
        ),
        2,
        1,
        False,
    ),
    "variance": (
        VECTOR.format("  S = X[m]\n  U = S / M\n  Y = sum[m] ((X[m] - U) * (X[m] - U))"),
        2,
        1,
        True,
    ),
    "variance by a power": (
        VECTOR.format("  S = X[m]\n  U = S / M\n  Y = sum[m] pow(X[m] - U, 2)"),
        2,
        1,
        True,
    ),
    "cosine similarity": (
        """cascade f(A[M]: f64, B[M]: f64) -> Y {
  SA = A[m] * A[m]
  SB = B[m] * B[m]
  NA[m] = A[m] / sqrt(SA)
  NB[m] = B[m] / sqrt(SB)
  Y = NA[m] * NB[m]
}""",
        2,
        1,
        False,
    ),
    "max-plus": (
        VECTOR.format("  G = max[m] X[m]\n  N[m] = X[m] - G\n  Y = max[m] (N[m] + m)"),
        2,
        1,
        False,
    ),
    "the log semiring": (
        """cascade f(X[M]: f64, B[M]: f64) -> Y {
  G    = logaddexp[m] X[m]
  N[m] = X[m] - G
  Y    = N[m] * B[m] over log
}""",
        2,
        1,
        False,
    ),
    "a minimum": (
        VECTOR.format("  G = min[m] X[m]\n  N[m] = exp(G - X[m])\n  Y = N[m] * X[m]"),
        2,
        1,
        False,
    ),
    "exp2": (
        VECTOR.format(
            "  G = max[m] X[m]\n  N[m] = exp2(X[m] - G)\n  D = N[m]\n  Y = sum[m] (N[m] * X[m]) / D"
        ),
        2,
        1,
        False,
    ),
    "a softmax of a softmax": (
        """cascade f(X[M]: f64, B[M]: f64) -> Y {
  G     = max[m] X[m]
  N[m]  = exp(X[m] - G)
  D     = N[m]
  A[m]  = N[m] / D * B[m]
  G2    = max[m] A[m]
  N2[m] = exp(A[m] - G2)
  D2    = N2[m]
  Y     = sum[m] (N2[m] * X[m]) / D2
}""",
        4,
        2,
        False,
    ),
    "a mask beside the exponential": (
        """cascade f(X[M]: f64, B[M]: bool) -> Y {
  G    = max[m] X[m]
  N[m] = select(B[m], exp(X[m] - G), 0.0)
  Y    = N[m]
}""",
        2,
        1,
        False,
    ),
    "a mask inside the exponential, of a value with two names": (
        """cascade f(X[M]: f64, B[M]: bool) -> Y {
  S[m] = 2.0 * X[m]
  T[m] = X[m] + X[m]
  G    = max[m] select(B[m] & (m > 0), S[m], -inf)
  Y    = sum[m] exp(select(B[m] & (m > 0), T[m] - G, -inf))
}""",
        2,
        1,
        False,
    ),
    "a mask inside the exponential": (
        """cascade f(X[M]: f64, B[M]: bool) -> Y {
  G    = max[m] X[m]
  N[m] = exp(select(B[m], X[m] - G, -inf))
  Y    = N[m]
}""",
        2,
        1,
        False,
    ),
}

#: name -> (body of a sum that reads D, a fold of X over the same rank; what the refusal says)
REFUSED: dict[str, tuple[str, str]] = {
    "a square, without A'": (
        "  D = X[m]\n  Y = sum[m] ((X[m] - D) * (X[m] - D))",
        "comes apart only as a sum of",
    ),
    "relu": ("  D = X[m]\n  Y = sum[m] relu(X[m] - D)", "mixes D"),
    "rounding": ("  D = max[m] X[m]\n  Y = sum[m] (round(X[m] / D) * X[m])", "mixes D"),
    "exp of a product": ("  D = max[m] X[m]\n  Y = sum[m] exp(X[m] * D)", "mixes D"),
    "sigmoid": ("  D = max[m] X[m]\n  Y = sum[m] sigmoid(X[m] - D)", "mixes D"),
    "a logarithm": ("  D = X[m]\n  Y = sum[m] log(X[m] + D)", "mixes D"),
    "exp less a mean": ("  D = X[m]\n  Y = sum[m] exp(X[m] - D / M)", "may overflow"),
    "exp plus a maximum": ("  D = max[m] X[m]\n  Y = sum[m] exp(X[m] + D)", "may overflow"),
    "exp less a minimum": ("  D = min[m] X[m]\n  Y = sum[m] exp(X[m] - D)", "may overflow"),
    "a maximum of quotients": ("  D = X[m]\n  Y = max[m] (X[m] / D)", "mixes D"),
    "a maximum less a minimum, scaled": (
        "  D = max[m] X[m]\n  U = min[m] X[m]\n  Y = sum[m] exp((X[m] - D) * (U - 1.0))",
        "mixes D",
    ),
    "the other side of a quotient": (
        "  D = max[m] X[m]\n  Y = sum[m] (1.0 / exp(X[m] - D))",
        "mixes D",
    ),
    "a product of all": ("  D = max[m] X[m]\n  Y = prod[m] (X[m] - D)", "nothing is known"),
    "the place of a maximum": ("  D = max[m] X[m]\n  Y = argmax[m] (X[m] - D)", "in parts"),
    "a maximum of other values": (
        "  D = max[m] (0.5 * X[m])\n  Y = sum[m] exp(X[m] - D)",
        "D may be less than",
    ),
    "a maximum of fewer values": (
        "  D = max[m] X[m] where m > 0\n  Y = sum[m] exp(X[m] - D)",
        "D may be less than",
    ),
    "more than the maximum is of": (
        "  D = max[m] X[m]\n  Y = sum[m] exp(X[m] + X[m] - D)",
        "D may be less than",
    ),
    "a maximum that leaves out what a mask of -inf does not": (
        "  D = max[m] select(X[m] > 0, X[m], -inf)\n  Y = sum[m] exp(X[m] - D)",
        "D may be less than",
    ),
    "a choice by it": ("  D = max[m] X[m]\n  Y = sum[m] select(X[m] < D, 1.0, X[m])", "mixes D"),
}
