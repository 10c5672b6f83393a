"""A network of two layers on an encrypted picture: the weights are plain, the activation is x^2.

As in CryptoNets (Gilad-Bachrach et al., ICML 2016) the square stands where a comparison would,
since slots can only be added and multiplied. The network is made to tell two patterns apart. Run it
from anywhere: python examples/encrypted_network.py
"""

import sys

import numpy as np

import einloom as el

NETWORK = """
cascade network(X[N], W[H,N], B[H], V[C,H], D[C]) -> Y {
  Z[h] = W[h,n] * X[n]
  A[h] = Z[h] + B[h]
  S[h] = A[h] * A[h]
  U[c] = V[c,h] * S[h]
  Y[c] = U[c] + D[c]
}
"""
PIXELS, HIDDEN, CLASSES = 64, 16, 2


def main() -> int:
    rng = np.random.default_rng(1)
    patterns = rng.choice([-1.0, 1.0], (CLASSES, PIXELS))
    # Unit h looks for a pattern and for its negative alike, as a square does.
    w = patterns[np.arange(HIDDEN) % CLASSES] / PIXELS + rng.normal(0, 0.01, (HIDDEN, PIXELS))
    v = (np.arange(HIDDEN) % CLASSES == np.arange(CLASSES)[:, None]) / (HIDDEN / CLASSES)
    weights = {"W": w, "B": np.zeros(HIDDEN), "V": v, "D": np.zeros(CLASSES)}
    shapes = {"X": (PIXELS,)} | {name: value.shape for name, value in weights.items()}
    f = el.compile(
        NETWORK, backend="ckks", shapes=shapes, secret="X", layout="free", magnitude=2, bound=16
    )
    client = f.client()
    server = f.server(client.keys())
    print(f"== {f.packed.counts.summary}")
    for each in f.packed.lowered.levels:
        print(each)
    right = True
    for number in range(2 * CLASSES):
        truth = number % CLASSES
        picture = patterns[truth] * rng.choice([-1.0, 1.0]) * 0.7
        picture += rng.uniform(-0.5, 0.5, PIXELS)
        scores = client.decrypt(server.run(client.encrypt(picture), **weights))
        exact = v @ (w @ picture) ** 2
        error = float(np.abs(scores - exact).max())
        print(f"pattern {truth}: scores {scores.round(3)}, the largest error is {error:.1e}")
        right &= int(scores.argmax()) == truth and error < 1e-3
    print(f"\n== The server\n{server.counts}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
