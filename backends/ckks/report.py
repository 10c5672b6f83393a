"""A SlotProgram run on both of its sides at once, and what is to be said of the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias
from typing import Literal as OneOf

import numpy as np

from ...ir.errors import ArgumentError, SlotError
from ...ir.layouts import Array
from ...ir.slot_executor import each_value, packed_inputs, plain_inputs
from ...ir.slots import SlotProgram
from .counts import Counts
from .engine import Engine, Evaluator
from .foresight import Made, parameters_for
from .origins import inputs_of, spread
from .overflow import fits, room
from .params import Parameters
from .run import Evaluated, ProgramClient, ProgramServer
from .seal import Seal
from .simulator import Simulator
from .timing import estimate

EngineName: TypeAlias = OneOf["simulated", "seal"]
#: Simulated runs that the expected error is taken over, and what their seeds begin at.
SAMPLES, _SEED = 3, 0x5EED
#: An error beyond so many standard deviations is a mistake: the noise of a slot follows the
#: secret's value there, so its tail is that of a Laplace distribution: exp(-√2·16) = 1e-10.
DEVIATIONS = 16
#: The largest power of two that a float is.
_LARGEST = 2.0**1023


@dataclass(frozen=True, slots=True)
class Error:
    """The error of an output's elements, in units of the values.

    `expected`: the standard deviation over simulated runs of the same program on the same primes;
    `measured`: the root mean square against the exact result; `largest` of all elements. Where a
    value outgrew the modulus on the way and wrapped, the output means nothing: `expected` is NaN.
    """

    expected: float
    measured: float
    largest: float

    @property
    def bound(self) -> float:
        """What the largest error stays below, but for one element in 10^9; NaN if `wrapped`."""
        return DEVIATIONS * self.expected

    @property
    def wrapped(self) -> bool:
        """Whether a value that the output comes from outgrew the modulus."""
        return math.isnan(self.expected)

    def as_dict(self) -> dict[str, float | None]:
        """The numbers by name: what JSON takes, which has no NaN."""
        found = {**asdict(self), "bound": self.bound}
        return {name: None if math.isnan(value) else value for name, value in found.items()}

    def __str__(self) -> str:
        expected, measured = f"{self.expected:.2e} expected", f"{self.measured:.2e} measured"
        if self.wrapped:
            expected = "WRONG, values outgrew the modulus and wrapped"
        return f"{expected}, {measured}, {self.largest:.2e} at most"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did; `print` it, or take its `as_dict()`.

    `levels` are those used, `ciphertexts` those of encrypted inputs and outputs; `made` is the
    trace of levels, scales and sizes; `errors` by output; `seconds` an estimate of the server's
    part by engine (timing.py), not a measurement. `approximated` are functions that polynomials
    stand for, with the largest error on their intervals: `errors` are those of encryption alone.
    `left` are those of them whose arguments left the interval, with the least and the largest of
    them: there the polynomial is another function.
    """

    program: str
    parameters: Parameters
    counts: Counts
    levels: int
    ciphertexts: int
    made: tuple[Made, ...]
    errors: Mapping[str, Error]
    seconds: Mapping[str, float]
    approximated: Mapping[str, float] = field(default_factory=dict[str, float])
    left: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    @property
    def rotations(self) -> int:
        """Rotations, whatever number of key switches each took."""
        return self.counts.rotations.total()

    @property
    def key_switches(self) -> int:
        """Rotations and relinearisations, in keys applied."""
        return self.counts.key_switches

    @property
    def ct_mults(self) -> int:
        """Products of two ciphertexts, squares among them."""
        return self.counts.multiplies

    @property
    def pt_mults(self) -> int:
        """Products of a ciphertext and a plaintext."""
        return self.counts.pt_mults

    @property
    def encodes(self) -> int:
        """Plaintexts that the server encoded in this run; what it kept it does not encode again."""
        return self.counts.encodes

    @property
    def key_bytes(self) -> int:
        """The size in memory of the relinearisation and rotation keys."""
        return self.counts.key_bytes

    @property
    def error(self) -> float:
        """The largest error of any element of any output, approximations left out."""
        return max((each.largest for each in self.errors.values()), default=0.0)

    @property
    def wrapped(self) -> tuple[str, ...]:
        """The outputs that mean nothing: a value outgrew the modulus on the way, and wrapped."""
        return tuple(name for name, each in self.errors.items() if each.wrapped)

    @property
    def scales(self) -> dict[int, tuple[float, ...]]:
        """The scales of the values at each level, from the top, in the order in which they came."""
        levels = sorted({each.level for each in self.made}, reverse=True)
        return {
            level: tuple(dict.fromkeys(each.scale for each in self.made if each.level == level))
            for level in levels
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it by name: what JSON takes."""
        return {
            "program": self.program,
            "simulated": "simulated" in self.counts.engine,
            "degree": self.parameters.degree,
            "prime_bits": [q.bit_length() for q in self.parameters.primes],
            "special_bits": self.parameters.special.bit_length(),
            "secure": self.parameters.secure,
            "levels": self.levels,
            "ciphertexts": self.ciphertexts,
            **self.counts.as_dict(),
            "scales": {str(level): list(scales) for level, scales in self.scales.items()},
            "errors": {name: error.as_dict() for name, error in self.errors.items()},
            "wrapped": list(self.wrapped),
            "approximated": dict(self.approximated),
            "left": {text: list(range_) for text, range_ in self.left.items()},
            "estimated_seconds": dict(self.seconds),
        }

    def __str__(self) -> str:
        steps = ", ".join(
            f"{step} x{count}" if count > 1 else str(step)
            for step, count in sorted(self.counts.rotations.items())
        )
        rows = [("by step", steps)] if steps else []
        rows += [("levels", f"{self.levels} used"), ("ciphertexts", str(self.ciphertexts))]
        for level, scales in self.scales.items():
            text = ", ".join(f"2^{math.log2(scale):.6f}" for scale in scales)
            rows.append((f"scales, level {level}", text))
        rows += [(f"error of {name}", str(error)) for name, error in self.errors.items()]
        for text in self.approximated:
            rows.append(("approximated", text))
            if text in self.left:
                low, high = self.left[text]
                rows.append(("", f"WRONG, its arguments are from {low:.3g} to {high:.3g}"))
        times = ", ".join(f"{engine} {value:.3g} s" for engine, value in self.seconds.items())
        rows += [("estimated time", times)]
        table = [f"{name:<17}{text}" for name, text in rows]
        return "\n".join([f"{self.program} on {self.parameters}", str(self.counts), *table])


@dataclass(frozen=True, slots=True)
class Run:
    """The decrypted outputs by name, f64 or c128, and the report."""

    outputs: Mapping[str, Array] = field(repr=False)
    report: Report


@dataclass(frozen=True, slots=True)
class Exact:
    """A program without encryption, to choose parameters by and to compare with.

    `sizes`: the largest absolute value in the slots of each value, infinite if one is NaN; `ends`:
    those values, by number, that are outputs.
    """

    program: SlotProgram
    inputs: Mapping[str, Any] = field(repr=False)
    sizes: tuple[float, ...] = field(repr=False)
    ends: Mapping[int, Array] = field(repr=False)

    @classmethod
    def of(cls, program: SlotProgram, inputs: Mapping[str, Any]) -> Exact:
        """What it gives for these inputs.

        Raises:
            ArgumentError, SlotError: an input is missing, or has another shape; the inputs lead to
                values that are NaN or over 2^1023.
        """
        wanted = {value for output in program.outputs for value in output.values}
        sizes, ends = list[float](), dict[int, Array]()
        with np.errstate(over="ignore", invalid="ignore"):
            for number, value in enumerate(_values(program, inputs)):
                size = float(np.abs(value).max(initial=0.0))
                sizes.append(math.inf if math.isnan(size) else size)
                if number in wanted:
                    ends[number] = value
        exact = cls(program, inputs, tuple(sizes), ends)
        for number, size in enumerate(sizes):
            if size > _LARGEST:
                raise SlotError(
                    f"{exact._origin(number)} to values in {program.name} that cannot be encrypted",
                    deduced=(f"over 2^{math.log2(_LARGEST):g} in absolute value, or NaN",),
                    hint="scale the inputs down",
                )
        return exact

    @property
    def magnitude(self) -> float:
        """The power of two that no slot exceeds, 1 at least: it tells little of the values."""
        return 2.0 ** math.ceil(math.log2(max(self._largest, 1.0)))

    @property
    def origin(self) -> str:
        """Which inputs lead to the largest value, in words."""
        return self._origin(self.sizes.index(self._largest))

    def _origin(self, value: int) -> str:
        names = sorted(inputs_of(self.program)[value])
        one = len(names) == 1
        return f"the input{'' if one else 's'} {', '.join(names)} lead{'s' if one else ''}"

    @property
    def _largest(self) -> float:
        return max(self.sizes, default=0.0)

    def wrapped(self, parameters: Parameters, made: Sequence[Made]) -> set[str]:
        """The outputs with a value on the way that outgrew the modulus that it was under."""
        near = {
            number
            for number, (size, each) in enumerate(zip(self.sizes, made, strict=True))
            if size >= room(parameters, each.level, each.scale) / 2
        }
        own = [frozenset[int]()] * len(made)
        if near:
            for number, value in enumerate(_values(self.program, self.inputs)):
                # Copies of a vector have its coefficients, further apart.
                slots, each = value.astype(np.complex128), made[number]
                if number in near and not fits(parameters, each.level, each.scale, slots):
                    own[number] = frozenset({number})
        found = spread(self.program, own)
        return {
            output.name
            for output in self.program.outputs
            if any(found[value] for value in output.values)
        }

    def outputs(self) -> dict[str, Array]:
        """Each output, of its shape."""
        return {
            output.name: output.layout.unpack([self.ends[value] for value in output.values])
            for output in self.program.outputs
        }

    def compared(
        self, decrypted: Mapping[str, Array], parameters: Parameters, done: Evaluated, did: Counts
    ) -> Run:
        """The outputs, real where the exact ones are, and what is to be said of a run."""
        expected = _expected(self, parameters)
        expected |= dict.fromkeys(self.wrapped(parameters, done.made), math.nan)
        outputs, errors = dict[str, Array](), dict[str, Error]()
        for name, wanted in self.outputs().items():
            found = decrypted[name]
            found = outputs[name] = found if np.iscomplexobj(wanted) else np.real(found)
            error = np.abs(found - wanted)
            measured = math.sqrt(float(np.mean(error**2))) if error.size else 0.0
            errors[name] = Error(expected[name], measured, float(error.max(initial=0.0)))
        program = self.program
        levels = program.levels - min((each.level for each in done.made), default=program.levels)
        held = program.encrypted + sum(len(output.values) for output in program.outputs)
        seconds = estimate(program, parameters)
        name = program.name
        return Run(outputs, Report(name, parameters, did, levels, held, done.made, errors, seconds))


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
    exact = Exact.of(program, inputs)
    if isinstance(engine, str):
        chosen = parameters_for(program, precision=precision, magnitude=exact.magnitude)
        engine = engine_of(engine, chosen)
    client, server, done = _on(engine, program, inputs)
    return exact.compared(client.decrypt(done.outputs), engine.parameters, done, server.counts)


def engine_of(name: str, parameters: Parameters, seed: int = 0) -> Engine:
    """The engine of that name; the seed is the simulator's.

    Raises:
        ArgumentError: there is no such engine.
        UnsupportedError: SEAL is not installed.
    """
    if name not in ("simulated", "seal"):
        raise ArgumentError(f"there is no engine {name!r}", hint="'simulated' or 'seal'")
    return Simulator(parameters, seed=seed) if name == "simulated" else Seal(parameters)


def _on(
    engine: Engine, program: SlotProgram, inputs: Mapping[str, Any]
) -> tuple[ProgramClient, Evaluator, Evaluated]:
    client = ProgramClient(program, engine)
    evaluator = engine.evaluator(client.keys())
    return client, evaluator, ProgramServer(program, evaluator).run(client.encrypt(inputs), inputs)


def _values(program: SlotProgram, inputs: Mapping[str, Any]) -> Iterator[Array]:
    """Every value in order."""
    return each_value(program, packed_inputs(program, inputs), plain_inputs(program, inputs))


def _expected(exact: Exact, parameters: Parameters) -> dict[str, float]:
    """The standard deviation of each output's elements, over simulated runs and all copies."""
    program = exact.program
    squares: dict[str, list[float]] = {output.name: [] for output in program.outputs}
    for sample in range(SAMPLES):
        client, _, done = _on(Simulator(parameters, seed=_SEED + sample), program, exact.inputs)
        for output in program.outputs:
            vector, slot = np.divmod(output.layout.addresses(), program.slots)
            for number, value in enumerate(output.values):
                at, wanted = slot[vector == number], exact.ends[value]
                held = client.slots(done.outputs[output.name][number])
                error = held.reshape(-1, program.slots)[:, at] - wanted[at]
                error = error if np.iscomplexobj(wanted) else np.real(error)
                squares[output.name] += np.mean(np.abs(error) ** 2, axis=0).tolist()
    return {name: math.sqrt(np.mean(all_)) if all_ else 0.0 for name, all_ in squares.items()}
