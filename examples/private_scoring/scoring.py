"""What client and server agree on: the cascade, what of it is secret, and how large values get."""

from __future__ import annotations

import einloom as el
from einloom.backends.ckks.report import EngineName

CUSTOMERS, FEATURES = 16, 8

#: Logistic regression; the sigmoid is the polynomial of degree 3 near it on -5..5.
SCORING = """
cascade scoring(X[B,F], W[F], C[]) -> P {
  Z[b] = X[b,f] * W[f]
  L[b] = Z[b] + C
  P[b] = sigmoid(L[b])
}
"""
SIGMOID = el.Approximation(-5, 5, 3)  # as far as weights and bias can lead from features in -1..1


def compiled(engine: EngineName) -> el.Encrypted:
    """The same on both sides: the same program, the same parameters."""
    return el.compile(
        SCORING,
        backend="ckks",
        shapes=[(CUSTOMERS, FEATURES), (FEATURES,), ()],
        secret="X",
        layout="free",
        approximate={"sigmoid": SIGMOID},
        engine=engine,
        magnitude=1,
        bound=8,
    )
