"""A SlotProgram run on both of its sides at once, and what is to be said of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from typing import Literal as OneOf

import numpy as np

from ...ir.errors import ArgumentError
from ...ir.layouts import Array
from ...ir.slot_executor import packed_inputs, plain_inputs, run_vectors
from ...ir.slots import SlotProgram
from .counts import Counts
from .engine import Engine, Evaluator
from .params import Parameters
from .run import Evaluated, Made, ProgramClient, ProgramServer, parameters_for
from .seal import Seal
from .simulator import Simulator

EngineName: TypeAlias = OneOf["simulated", "seal"]
#: Simulated runs that the expected error is taken over, and what their seeds begin at.
SAMPLES, _SEED = 3, 0x5EED
#: An error beyond so many standard deviations is a mistake: the noise of a slot follows the
#: secret's value there, so its tail is that of a Laplace distribution: exp(-√2·16) = 1e-10.
DEVIATIONS = 16


@dataclass(frozen=True, slots=True)
class Error:
    """The error of an output's elements, in units of the values.

    `expected`: the standard deviation over simulated runs of the same program on the same primes;
    `measured`: the root mean square against the exact result; `largest` of all elements.
    """

    expected: float
    measured: float
    largest: float

    @property
    def bound(self) -> float:
        """What the largest error stays below, but for one element in 10^9."""
        return DEVIATIONS * self.expected

    def __str__(self) -> str:
        expected, measured = f"{self.expected:.2e} expected", f"{self.measured:.2e} measured"
        return f"{expected}, {measured}, {self.largest:.2e} at most"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. `levels` are those used; `made` is the trace of levels, scales and sizes."""

    program: str
    parameters: Parameters
    counts: Counts
    levels: int
    made: tuple[Made, ...]
    errors: Mapping[str, Error]

    def __str__(self) -> str:
        rows = [f"{'levels':<17}{self.levels} used"]
        for level in sorted({each.level for each in self.made}, reverse=True):
            scales = dict.fromkeys(each.scale for each in self.made if each.level == level)
            text = ", ".join(f"2^{math.log2(scale):.6f}" for scale in scales)
            rows.append(f"{f'scales, level {level}':<17}{text}")
        rows += [f"{f'error of {name}':<17}{error}" for name, error in self.errors.items()]
        return "\n".join([f"{self.program} on {self.parameters}", str(self.counts), *rows])


@dataclass(frozen=True, slots=True)
class Run:
    """The decrypted outputs by name, f64 or c128, and the report."""

    outputs: Mapping[str, Array] = field(repr=False)
    report: Report


def run(
    program: SlotProgram,
    inputs: Mapping[str, Any],
    engine: Engine | EngineName = "simulated",
    *,
    precision: int = 20,
) -> Run:
    """Encrypts the inputs, runs a program, decrypts the outputs, and compares them to exact ones.

    Args:
        inputs: an array for each input by name.
        engine: with parameters of its own, or a name; then they are chosen for the program and
            for the largest value that these inputs lead to.
        precision: of chosen parameters: bits after the binary point.

    Raises:
        ArgumentError: an input is missing, no ring is large enough, there is no such engine.
        SlotError, LevelError: the program breaks a rule, or the engine refuses it.
        UnsupportedError: SEAL is not installed.
    """
    vectors, plain = packed_inputs(program, inputs), plain_inputs(program, inputs)
    exact = run_vectors(program, vectors, plain)
    if isinstance(engine, str):
        magnitude = max((float(np.abs(each).max(initial=1.0)) for each in exact), default=1.0)
        engine = _named(engine, parameters_for(program, precision=precision, magnitude=magnitude))
    client, server, done = _on(engine, program, inputs)
    decrypted = client.decrypt(done.outputs)
    expected = _expected(program, inputs, engine.parameters, exact)
    outputs, errors = dict[str, Array](), dict[str, Error]()
    for output in program.outputs:
        wanted = output.layout.unpack([exact[value] for value in output.values])
        found = decrypted[output.name]
        found = outputs[output.name] = found if np.iscomplexobj(wanted) else np.real(found)
        error = np.abs(found - wanted)
        measured = math.sqrt(float(np.mean(error**2))) if error.size else 0.0
        errors[output.name] = Error(expected[output.name], measured, float(error.max(initial=0.0)))
    levels = program.levels - min((each.level for each in done.made), default=program.levels)
    report = Report(program.name, engine.parameters, server.counts, levels, done.made, errors)
    return Run(outputs, report)


def _named(name: str, parameters: Parameters) -> Engine:
    if name not in ("simulated", "seal"):
        raise ArgumentError(f"there is no engine {name!r}", hint="'simulated' or 'seal'")
    return Simulator(parameters) if name == "simulated" else Seal(parameters)


def _on(
    engine: Engine, program: SlotProgram, inputs: Mapping[str, Any]
) -> tuple[ProgramClient, Evaluator, Evaluated]:
    client = ProgramClient(program, engine)
    evaluator = engine.evaluator(client.keys())
    return client, evaluator, ProgramServer(program, evaluator).run(client.encrypt(inputs), inputs)


def _expected(
    program: SlotProgram, inputs: Mapping[str, Any], parameters: Parameters, exact: list[Array]
) -> dict[str, float]:
    """The standard deviation of each output's elements, over simulated runs and all copies."""
    squares: dict[str, list[float]] = {output.name: [] for output in program.outputs}
    for sample in range(SAMPLES):
        client, _, done = _on(Simulator(parameters, seed=_SEED + sample), program, inputs)
        for output in program.outputs:
            vector, slot = np.divmod(output.layout.addresses(), program.slots)
            for number, value in enumerate(output.values):
                at = slot[vector == number]
                held = client.slots(done.outputs[output.name][number])
                error = held.reshape(-1, program.slots)[:, at] - exact[value][at]
                error = error if np.iscomplexobj(exact[value]) else np.real(error)
                squares[output.name] += np.mean(np.abs(error) ** 2, axis=0).tolist()
    return {name: math.sqrt(np.mean(all_)) if all_ else 0.0 for name, all_ in squares.items()}
