"""How long a SlotProgram should take on each engine: an estimate, by formulas fitted to timings.

SEAL 4.1 (through tenseal 0.3.18) and the simulator: medians of single calls, one core of an Intel
Xeon with AVX-512, N = 4096 to 32768 with 2 to 12 limbs (`python -m benchmarks ckks` times the
same calls), fitted within 45% at every point, within 15% at most. A key switch at l limbs takes
l·(l+1) number-theoretic transforms, everything else of the order of l; a transform is N·log N.
OpenFHE: timings at N = 2^15 (issue facts: 2, 5 and 11 limbs, two cores), interpolated and taken to
other rings by N·log N; it shares the decomposition of rotations of one value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ...ir.slot_verify import State, trace
from ...ir.slots import SlotOp, SlotProgram
from .params import Parameters

#: Nanoseconds: SEAL, as multiples of N·log2(N)·l², N·log2(N)·l, N·l and N.
SEAL: Mapping[str, tuple[float, float, float, float]] = {
    "rotate": (1.015, 5.64, 0, 0),
    "relinearize": (1.064, 4.91, 0, 0),
    "mul": (0, 0, 16.8, 0),
    "square": (0, 0, 12.9, 0),
    "mul_plain": (0, 0, 7.94, 0),
    "add": (0, 0, 3.09, 0),
    "sub": (0, 0, 3.09, 0),
    "add_plain": (0, 0, 2.18, 0),
    "neg": (0, 0, 2.29, 0),
    "rescale": (0, 1.9, 0, 0),
    "mod_switch": (0, 0, 0.72, 0),
    "encode": (0, 1.46, 0, 35.4),
}
#: Nanoseconds: the simulator, a multiple of N, and a part that is always the same.
SIMULATED: Mapping[str, tuple[float, float]] = {
    "rotate": (6.3, 38000),
    "relinearize": (5.9, 32000),
    "mul": (1.28, 16400),
    "square": (0.99, 12200),
    "mul_plain": (1.33, 14600),
    "add": (0.59, 8700),
    "sub": (0.59, 8700),
    "add_plain": (0.64, 8600),
    "neg": (1.33, 7600),
    "rescale": (5.7, 30300),
    "mod_switch": (0.35, 6400),
    "encode": (26.0, 23000),
}
#: Milliseconds at N = 2^15 with so many limbs: OpenFHE. `hoisted` is a rotation after the first.
_LIMBS = (2, 5, 11)
OPENFHE: Mapping[str, tuple[float, float, float]] = {
    "rotate": (59, 175, 385),
    "hoisted": (48, 107, 214),
    "relinearize": (59, 175, 385),
    "mul": (12, 39, 60),  # what a product with its relinearisation takes beyond a key switch
    "mul_plain": (0.3, 1.3, 2),
    "add": (0.1, 0.5, 0.8),
    "rescale": (2, 30, 97),
    "encode": (28, 40, 60),
}


def estimate(program: SlotProgram, parameters: Parameters) -> dict[str, float]:
    """Seconds of the server's first run on each engine, its encodings included, keys not."""
    return {
        "simulated": _total(program, parameters, _simulated),
        "seal": _total(program, parameters, _seal),
        "openfhe": _total(program, parameters, _openfhe),
    }


#: Seconds of an operation: its name, N, limbs, how many rotations share one decomposition.
_Price = Callable[[str, int, int, int], float]


def _total(program: SlotProgram, parameters: Parameters, price: _Price) -> float:
    states = trace(program)
    degree, seconds = parameters.degree, 0.0
    encoded: set[tuple[int, int, bool]] = set()
    for op in program.ops:
        limbs = states[op.args[0]].level + 1
        seconds += price(_name(op), degree, limbs, len(op.steps)) * _parts(op, states) / 2
        if op.plain is not None:
            encoded.add((op.plain, limbs, op.op == "mul_plain"))
    return seconds + sum(price("encode", degree, limbs, 1) for _, limbs, _ in encoded)


def _name(op: SlotOp) -> str:
    return "square" if op.op == "mul" and op.args[0] == op.args[1] else op.op


def _parts(op: SlotOp, states: tuple[State, ...]) -> int:
    """How many polynomials the operation goes through; a key switch or product has its own cost."""
    if op.op in ("rotate", "relinearize", "mul"):
        return 2
    return max(states[arg].parts for arg in op.args)


def _seal(op: str, degree: int, limbs: int, steps: int) -> float:
    transform = degree * math.log2(degree)
    basis = (transform * limbs * limbs, transform * limbs, degree * limbs, degree)
    each = sum(factor * size for factor, size in zip(SEAL[op], basis, strict=True))
    return 1e-9 * each * max(steps, 1)


def _simulated(op: str, degree: int, limbs: int, steps: int) -> float:
    del limbs
    slope, constant = SIMULATED[op]
    return 1e-9 * (slope * degree + constant) * max(steps, 1)


def _openfhe(op: str, degree: int, limbs: int, steps: int) -> float:
    size = degree * math.log2(degree) / (2**15 * 15)
    name = {"square": "mul", "sub": "add", "add_plain": "add", "neg": "add", "mod_switch": "add"}
    found = float(np.interp(limbs, _LIMBS, OPENFHE[name.get(op, op)]))
    if op == "rotate" and steps > 1:
        found += (steps - 1) * float(np.interp(limbs, _LIMBS, OPENFHE["hoisted"]))
    return 1e-3 * size * found
