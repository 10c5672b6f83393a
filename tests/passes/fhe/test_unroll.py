"""Scans of what is encrypted."""

from __future__ import annotations

import numpy as np
import pytest

from einloom.compiler import parse
from einloom.ir.errors import UnsupportedError
from einloom.ir.interpreter import evaluate
from einloom.ir.scans import Scan, stages
from einloom.ir.sizes import infer_sizes
from einloom.ir.slot_executor import execute
from einloom.passes.fhe.lower import lower
from einloom.passes.fhe.normal import depending
from einloom.passes.fhe.unroll import unrolled

AVERAGE = """cascade average(X[V,P], A[V]) -> Y {
  S[0,p] = 0
  S[v+1,p] = 0.5*S[v,p] + A[v]*X[v,p]
  Y[p] = S[V,p]
}"""
RECURRENT = """cascade recurrent(X[V,P], W[P,Q], B[V]) -> Y, H, C {
  ranks V, P, Q = P
  C[0] = 1
  C[v+1] = C[v] * B[v]
  H[0,p] = 0.1
  Z[v,q] = H[v,p]*W[p,q]
  H[v+1,p] = 0.5*X[v,p] + Z[v,p] - 0.1*Z[v,p]*Z[v,p] + C[v]
  Y[p] = H[V,p]
}"""
LAG = """cascade lag(X[P], B[V]) -> Y {
  F[0,p] = X[p]
  F[1,p] = 2*X[p]
  F[v+2,p] = F[v+1,p] + B[v]*F[v,p]
  Y[p] = F[V+1,p]
}"""
GRID = """cascade grid(X[I], Y[J]) -> D {
  D[0,0] = 1
  D[0,j+1] = Y[j]
  D[i+1,0] = X[i]
  D[i+1,j+1] = D[i,j+1] + D[i+1,j] - 0.5*D[i,j]
}"""
BACKWARD = """cascade backward(X[V]) -> Y {
  S[0] = X[V-1]
  S[v+1] = S[v]*X[V-1-v]
  Y[v] = S[v+1] - X[v]
}"""
CASES = [
    (AVERAGE, {"X": (3, 4), "A": (3,)}, ["X"]),
    (RECURRENT, {"X": (2, 3), "W": (3, 3), "B": (2,)}, ["X"]),
    (LAG, {"X": (3,), "B": (3,)}, ["X"]),
    (GRID, {"X": (2,), "Y": (2,)}, ["X", "Y"]),
    (BACKWARD, {"X": (3,)}, ["X"]),
]


@pytest.mark.parametrize(
    ("text", "shapes", "secret"), CASES, ids=[c[0].split("(")[0] for c in CASES]
)
def test_scans(text: str, shapes: dict[str, tuple[int, ...]], secret: list[str]) -> None:
    cascade, rng = parse(text), np.random.default_rng(0)
    arrays = {name: rng.uniform(-1, 1, shape) for name, shape in shapes.items()}
    wanted = evaluate(cascade, arrays)
    sizes = infer_sizes(cascade, shapes)
    written = unrolled(cascade, sizes, depending(cascade, secret))
    hidden = {
        each.name for stage in stages(written) if isinstance(stage, Scan) for each in stage.einsums
    }
    assert hidden <= {"C"}  # the scan in the clear is left as it is
    made = lower(cascade, shapes, secret, slots=32)
    inputs = made.inputs(arrays)
    found = execute(made.program, inputs, rng) | {name: inputs[name] for name in made.clear}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-9)


def test_nothing_to_write_out() -> None:
    cascade = parse(AVERAGE)
    assert unrolled(cascade, {"V": 3, "P": 4}, {"Y"}) is cascade


def test_too_many_parts() -> None:
    with pytest.raises(UnsupportedError, match="more than 512 parts"):
        lower(parse(AVERAGE), {"X": (600, 1), "A": (600,)}, ["X"], slots=1024)
