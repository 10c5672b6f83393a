"""Attention scores Q K^T / sqrt(d) of queries that nobody sees against keys that the server has.

What depends on no secret, the division of the keys by sqrt(d), is worked out in the clear. Then the
same with keys that are encrypted, too. Run it from anywhere:
python examples/encrypted_attention_scores.py
"""

import sys

import numpy as np

import einloom as el

SCORES = """
cascade scores(Q[M,D], K[N,D]) -> S {
  S[m,n] = Q[m,d] * K[n,d] / sqrt(D)
}
"""
QUERIES, KEYS, DEPTH = 8, 8, 16


def main() -> int:
    rng = np.random.default_rng(8)
    q, k = rng.normal(size=(QUERIES, DEPTH)), rng.normal(size=(KEYS, DEPTH))
    exact = q @ k.T / np.sqrt(DEPTH)
    right = True
    for secret in (["Q"], ["Q", "K"]):
        f = el.compile(
            SCORES, backend="ckks", shapes=[q.shape, k.shape], secret=secret, layout="free"
        )
        found = f(q, k)
        error = float(np.abs(found - exact).max())
        print(f"== {' and '.join(secret)} encrypted: {f.packed.counts.summary}")
        if f.packed.lowered.plain.einsums:
            print(f"in the clear:\n{f.packed.lowered.plain}")
        print(f"{f.report}\nthe largest error is {error:.1e}\n")
        right &= error < f.report.errors["S"].bound
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
