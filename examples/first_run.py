"""Finds the odd ones among 20,000 sensor readings: an einsum compiled, shown, run and checked.

A reading of 32 sensors is odd if it lies far from the mean, measured in the readings' own spread
(the Mahalanobis distance): with centred readings x and the inverse P of their covariance, that is
x[n,i] * P[i,j] * x[n,j], summed over i and j. Run it from anywhere: python examples/first_run.py
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import einloom as el

READINGS, SENSORS, ODD = 20_000, 32, (137, 4_242, 19_999)


def make_data(path: Path) -> None:
    """Readings that move together, three of them with one sensor that does not."""
    rng = np.random.default_rng(2026)
    causes = rng.normal(size=(READINGS, 5))
    readings = causes @ rng.normal(size=(5, SENSORS)) + 0.1 * rng.normal(size=(READINGS, SENSORS))
    readings[ODD, [3, 14, 15]] += 2.0  # within what each sensor alone may show
    np.save(path, readings)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder, "readings.npy"))
        readings = np.load(Path(folder, "readings.npy"))
    x = readings - readings.mean(axis=0)
    precision = np.linalg.inv(np.cov(x.T))

    f = el.compile("ni,ij,nj->n", shapes=[x.shape, precision.shape, x.shape], dtypes="f64")
    print("== What the compiler did, step by step\n")
    for step in f.steps:
        changed = step.comment != "nothing changed"
        print(f"{step}\n" if changed else f"# {step.text}: {step.comment}\n")
    source, asm = f.llvm_ir.splitlines(), f.asm.splitlines()
    print(f"== The native code: {len(source)} lines of LLVM IR, {len(asm)} of assembly")
    print("\n".join(line for line in source if line.startswith("define")), "\n")

    distances = f(x, precision, x)
    expected = np.einsum("ni,ij,nj->n", x, precision, x)
    error = float(np.max(np.abs(distances - expected) / expected))
    odd = tuple(sorted(int(n) for n in np.argsort(distances)[-len(ODD) :]))
    print(f"== The result: {distances.dtype} {distances.shape}, on {f!r}")
    print(f"the odd readings are {odd}; the largest relative difference to NumPy is {error:.1e}")

    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(9):  # in turn, so that what disturbs one disturbs the other
        ours.append(seconds(lambda: f(x, precision, x)))
        theirs.append(seconds(lambda: np.einsum("ni,ij,nj->n", x, precision, x)))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"einloom {statistics.median(ours) * 1e3:.2f} ms, np.einsum {ratio:.1f} times that")

    if el.fallbacks() or odd != ODD or not error < 1e-12:
        print(f"WRONG: fallbacks {el.fallbacks()}, found {odd}, error {error}", file=sys.stderr)
        return 1
    return 0


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
