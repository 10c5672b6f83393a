"""A matrix that nobody sees times a vector: the packing, then the simulator and Microsoft SEAL.

The matrix is encrypted, the vector is the server's own. EinHops' plan, einloom's for a row-major
matrix, and einloom's where it may choose the layout, each with what it costs; then the last one is
run. SEAL needs the extra `fhe`. Run it from anywhere: python examples/encrypted_matvec.py
"""

import sys

import numpy as np

import einloom as el
from einloom.backends.ckks.report import EngineName
from einloom.ir.errors import UnsupportedError

ROWS = COLUMNS = 64
ENGINES: tuple[EngineName, ...] = ("simulated", "seal")


def main() -> int:
    rng = np.random.default_rng(64)
    a, x = rng.uniform(-1, 1, (ROWS, COLUMNS)), rng.uniform(-1, 1, COLUMNS)
    shapes = [a.shape, x.shape]
    print("== What a matrix-vector product costs")
    plans = {
        "EinHops": el.pack("ij,j->i", shapes=shapes, secret=[0], plan="einhops"),
        "row-major": el.pack("ij,j->i", shapes=shapes, secret=[0]),
        "free": el.pack("ij,j->i", shapes=shapes, secret=[0], layout="free"),
    }
    for name, packed in plans.items():
        print(f"{name:<10}{packed.counts.summary}")

    right = True
    for engine in ENGINES:
        f = el.compile(
            "ij,j->i",
            backend="ckks",
            shapes=shapes,
            secret=[0],
            layout="free",
            engine=engine,
        )
        try:
            found = f(a, x)
        except UnsupportedError as error:
            print(f"\n{error}")
            continue
        largest = float(np.abs(found - a @ x).max())
        print(f"\n== {f!r}\n{f.report}\nthe largest error is {largest:.1e}")
        right &= largest < f.report.errors["Y"].bound
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
