"""A SlotProgram on an engine, operation for operation: a client's side, and a server's.

client = ProgramClient(program, engine)                    # has the secret key
server = ProgramServer(program, engine.evaluator(client.keys()))   # has none
done = server.run(client.encrypt({"A": a}), {"B": b})      # A is encrypted, B is the server's own
client.decrypt(done.outputs)

A program of fewer slots than the engine has runs on copies of its vectors, one after another: a
rotation of all slots then rotates each copy, as if it were alone.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ...ir.errors import ArgumentError, LevelError, SlotError
from ...ir.layouts import Array
from ...ir.slot_executor import packed_inputs, plain_inputs, plain_vector, run_vectors
from ...ir.slot_verify import trace
from ...ir.slots import OpName, SlotOp, SlotProgram
from .counts import Counts
from .engine import Ciphertext, Client, Engine, EvaluationKeys, Evaluator, Plaintext
from .params import Parameters
from .rules import product_scale


@dataclass(frozen=True, slots=True)
class Made:
    """What a value of a program was on an engine: never what it held."""

    level: int
    scale: float
    size: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The ciphertexts of each output, and what every value was, in the order of their numbers."""

    outputs: Mapping[str, tuple[Ciphertext, ...]]
    made: tuple[Made, ...]


def parameters_for(
    program: SlotProgram,
    *,
    precision: int = 20,
    magnitude: float = 1.0,
    insecure: bool = False,
) -> Parameters:
    """The smallest secure parameters with the slots and levels of a program.

    Args:
        precision: bits after the binary point that an operation's noise leaves right.
        magnitude: the largest absolute value of any slot, on the way too.
        insecure: takes the smallest ring, whatever its security.

    Raises:
        ArgumentError: no ring is large enough.
    """
    return Parameters.choose(
        slots=program.slots,
        depth=program.levels,
        precision=precision,
        magnitude=magnitude,
        insecure=insecure,
    )


def largest(program: SlotProgram, given: float = 1.0) -> float:
    """What no slot exceeds on the way, whatever inputs of at most `given` in absolute value."""
    inputs = {each.name: np.full(each.shape, given) for each in program.inputs}
    vectors = [
        np.where((vector >= 0) | (not each.layout.zero), given, 0.0)
        for each in program.inputs
        if each.layout is not None
        for vector in each.layout.table()
    ]
    values = run_vectors(_unsigned(program), vectors, plain_inputs(program, inputs))
    return max((float(np.abs(each).max(initial=1.0)) for each in values), default=1.0)


def _unsigned(program: SlotProgram) -> SlotProgram:
    """The program with nothing that takes away: what it gives for absolute values is a bound."""
    names: dict[OpName, OpName] = {"sub": "add", "neg": "mod_switch"}  # that changes no value
    ops = tuple(replace(op, op=names.get(op.op, op.op)) for op in program.ops)
    plains = tuple(replace(plain, value=abs(plain.value)) for plain in program.plains)
    return replace(program, ops=ops, plains=plains)


def predicted(program: SlotProgram, parameters: Parameters) -> tuple[Made, ...]:
    """What each value will be by the rules alone, with the very scales that engines come to.

    Those are floats, computed as SEAL does, operation by operation: where `trace` finds two scales
    equal they are so within a rounding. In exact numbers a scale would take twice the digits after
    each squaring.

    Raises:
        SlotError, LevelError: the program breaks a rule, or needs more slots or levels; squarings
            one after another, each of which doubles how far a scale is from its prime, have taken
            a scale out of bounds.
    """
    states, number = trace(program), program.encrypted
    _fits(program, parameters)
    found = [Made(program.levels, parameters.scale, 2)] * number
    for op in program.ops:
        state = states[number]
        scale = _scale_after(program, op, found, parameters)
        found += [Made(state.level, scale, state.parts)] * op.results
        number += op.results
    return tuple(found)


def _scale_after(
    program: SlotProgram, op: SlotOp, made: Sequence[Made], parameters: Parameters
) -> float:
    """The scale of what an operation gives, from what the values before it are."""
    one = made[op.args[0]]
    if op.op == "rescale":
        return one.scale / parameters.primes[one.level]
    if op.op not in ("mul", "mul_plain"):
        return one.scale
    if op.op == "mul":
        other = made[op.args[1]].scale
    else:
        like = one if op.like is None else made[op.like]
        other = _factor_scale(one, like.scale, parameters)
    try:
        product_scale(parameters, one.level, one.scale, other)
    except LevelError as error:
        raise LevelError(
            f"{program.name} runs out of bounds: {error.message}",
            deduced=error.deduced,
            passed=(op.text(len(made)),),
            hint="each product of two values doubles how far their scales are from the primes: "
            "decrypt after fewer of them, or ask for more precision, whose primes are closer",
        ) from None
    return one.scale * other


class ProgramClient:
    """Packs and encrypts the inputs of a program, decrypts and unpacks its outputs.

    Args:
        client: holds the keys to use; None: new ones are made.

    Raises:
        SlotError, LevelError: the program breaks a rule, or needs more slots or levels.
    """

    def __init__(self, program: SlotProgram, engine: Engine, client: Client | None = None) -> None:
        predicted(program, engine.parameters)  # refused before any key is made
        self._program, self._parameters = program, engine.parameters
        self._client = engine.client() if client is None else client

    def keys(self) -> EvaluationKeys:
        """The keys that the program needs and no others."""
        steps = {step for op in self._program.ops for step in op.steps}
        products = any(op.op == "relinearize" for op in self._program.ops)
        return self._client.evaluation_keys(sorted(steps), relinearization=products)

    def encrypt(self, inputs: Mapping[str, Any]) -> tuple[Ciphertext, ...]:
        """The encrypted inputs' vectors, in order, at the program's top level.

        Raises:
            ArgumentError, SlotError: an encrypted input is missing, has another shape, or holds
                values that are too large.
        """
        copies = self._parameters.slots // self._program.slots
        names = [each.name for each in self._program.inputs for _ in range(each.vectors)]
        found: list[Ciphertext] = []
        for name, vector in zip(names, packed_inputs(self._program, inputs), strict=True):
            with _naming(name):
                slots = np.tile(vector, copies)
                plain = self._client.encode(slots, level=self._program.levels)
            found.append(self._client.encrypt(plain))
        return tuple(found)

    def decrypt(self, outputs: Mapping[str, Sequence[Ciphertext]]) -> dict[str, Array]:
        """Each output, of its shape, c128; imaginary parts of real results are noise."""
        return {
            output.name: output.layout.unpack(
                [self.slots(each)[: self._program.slots] for each in outputs[output.name]]
            )
            for output in self._program.outputs
        }

    def save_secret_key(self, path: str | Path) -> None:
        """Write the secret key to a file that only its owner may read."""
        self._client.save_secret_key(path)

    def slots(self, ciphertext: Ciphertext) -> Array:
        """All slots of the engine: copies of the program's, each with its own noise."""
        return self._client.decrypt(ciphertext)


@dataclass(frozen=True, slots=True)
class _Zero:
    """A value that is 0 in every slot, and no secret: what made it so."""

    because: str


_Value: TypeAlias = "Ciphertext | _Zero"


class ProgramServer:
    """Runs a program with evaluation keys alone; what it encodes the same each time it keeps.

    Raises:
        SlotError, LevelError: the program breaks a rule, or needs more slots or levels.
    """

    def __init__(self, program: SlotProgram, evaluator: Evaluator) -> None:
        self._predicted = predicted(program, evaluator.parameters)
        self._program, self.evaluator = program, evaluator
        self._kept: dict[tuple[int, int, float], Plaintext | _Zero] = {}
        self._last = _last_uses(program)

    @property
    def counts(self) -> Counts:
        """The operations so far."""
        return self.evaluator.counts

    def run(
        self, ciphertexts: Sequence[Ciphertext], inputs: Mapping[str, Any] | None = None
    ) -> Evaluated:
        """The outputs' ciphertexts.

        Args:
            ciphertexts: the vectors of the encrypted inputs, as `ProgramClient.encrypt` gives them.
            inputs: the plaintext inputs by name.

        Raises:
            ArgumentError: a plaintext input is missing, or there are more or fewer ciphertexts.
            SlotError, LevelError: what the engine refuses; an output that is 0 whatever is
                encrypted, since the plaintexts that it is multiplied by are.
        """
        self._check(ciphertexts)
        given = plain_inputs(self._program, inputs or {})
        values: dict[int, _Value] = dict(enumerate(ciphertexts))
        made = [_made(each) for each in ciphertexts]
        encoded: dict[tuple[int, int, float], Plaintext | _Zero] = {}
        for number, op in enumerate(self._program.ops):
            results = self._without_zeros(op, values)
            if results is None:
                plain = None
                if op.plain is not None:
                    plain = self._plain(op, values, made, given, encoded)
                if isinstance(plain, _Zero):
                    results = (plain,)
                else:
                    results = self._applied(op, values, plain)
            for result in results:
                values[len(made)] = result
                would = self._predicted[len(made)]
                made.append(would if isinstance(result, _Zero) else _made(result))
            for value in self._last.get(number, ()):
                values.pop(value, None)
        outputs = {
            output.name: tuple(_encrypted(values[value], output.name) for value in output.values)
            for output in self._program.outputs
        }
        return Evaluated(outputs, tuple(made))

    def _without_zeros(self, op: SlotOp, values: Mapping[int, _Value]) -> tuple[_Value, ...] | None:
        """What an operation gives if a value is 0 in the clear; None: none is, it is to be done.

        A product with a plaintext of zeros is not encrypted, so no engine makes one: it is left out
        of the sums that it is in.
        """
        given = [values[arg] for arg in op.args]
        zeros = [each for each in given if isinstance(each, _Zero)]
        rest = [each for each in given if not isinstance(each, _Zero)]
        if not zeros:
            if op.op == "relinearize" and rest[0].size == 2:  # all else in the sum was 0
                return (rest[0],)
            return None
        if op.op == "add_plain":
            raise SlotError(
                f"plain {op.plain} would be added to nothing encrypted",
                deduced=(f"0 because of {zeros[0].because}",),
            )
        if op.op in ("add", "sub") and rest:
            turned = op.op == "sub" and isinstance(given[0], _Zero)
            return (self.evaluator.negate(rest[0]) if turned else rest[0],)
        return (zeros[0],) * op.results

    def _check(self, ciphertexts: Sequence[Ciphertext]) -> None:
        wanted = Made(self._program.levels, self.evaluator.parameters.scale, 2)
        if len(ciphertexts) != self._program.encrypted:
            raise ArgumentError(
                f"{len(ciphertexts)} ciphertexts are given, "
                f"and the encrypted inputs are {self._program.encrypted}"
            )
        for number, each in enumerate(ciphertexts):
            if _made(each) != wanted:
                raise LevelError(
                    f"input %{number} was encrypted for another program",
                    passed=(str(_made(each)),),
                    deduced=(f"wanted: {wanted}",),
                )

    def _plain(
        self,
        op: SlotOp,
        values: Mapping[int, _Value],
        made: Sequence[Made],
        given: Mapping[str, Array],
        encoded: dict[tuple[int, int, float], Plaintext | _Zero],
    ) -> Plaintext | _Zero:
        """The plain vector at the level and the scale that the operation asks for."""
        factor = values[op.args[0]]
        assert op.plain is not None
        assert not isinstance(factor, _Zero)
        scale = factor.scale
        if op.op == "mul_plain":
            wanted = factor.scale if op.like is None else made[op.like].scale
            scale = _factor_scale(factor, wanted, self.evaluator.parameters)
        plain, key = self._program.plains[op.plain], (op.plain, factor.level, scale)
        held = self._kept if plain.constant else encoded
        if key not in held:
            vector = plain_vector(plain, self._program.slots, given)
            copies = self.evaluator.parameters.slots // self._program.slots
            names = dict.fromkeys(each.tensor for each in plain.factors if each.tensor)
            name = ", ".join(names) or f"plain {op.plain}"
            if op.op == "mul_plain" and not vector.any():
                held[key] = _Zero(name)
            else:
                with _naming(name):
                    held[key] = self.evaluator.encode(
                        np.tile(vector, copies), level=factor.level, scale=scale
                    )
        return held[key]

    def _applied(
        self, op: SlotOp, values: Mapping[int, _Value], plain: Plaintext | None
    ) -> tuple[Ciphertext, ...]:
        do = self.evaluator
        one, *others = (_encrypted(values[arg], op.op) for arg in op.args)
        if plain is not None:
            return ((do.add_plain if op.op == "add_plain" else do.multiply_plain)(one, plain),)
        if others:
            if op.op == "mul" and op.args[0] == op.args[1]:
                return (do.square(one),)
            return ({"add": do.add, "sub": do.sub, "mul": do.multiply}[op.op](one, *others),)
        if op.op == "rotate":
            return do.rotate_many(one, op.steps)
        unary = {
            "neg": do.negate,
            "relinearize": do.relinearize,
            "rescale": do.rescale,
            "mod_switch": do.mod_switch,
        }
        return (unary[op.op](one),)


@contextmanager
def _naming(name: str) -> Generator[None]:
    """What is refused within is refused of an input of that name."""
    try:
        yield
    except SlotError as error:
        raise SlotError(
            f"{name}: {error.message}",
            deduced=error.deduced,
            passed=error.passed,
            hint=error.hint,
        ) from None


def _encrypted(value: _Value, name: str) -> Ciphertext:
    """A value that is no 0 in the clear.

    Raises:
        SlotError: it is.
    """
    if isinstance(value, _Zero):
        raise SlotError(
            f"{name} is 0 whatever is encrypted: a ciphertext of it would hide nothing",
            deduced=(f"because of the plaintext values of {value.because}",),
        )
    return value


def _made(ciphertext: Ciphertext) -> Made:
    return Made(ciphertext.level, ciphertext.scale, ciphertext.size)


def _factor_scale(factor: Ciphertext | Made, wanted: float, parameters: Parameters) -> float:
    """The scale of a plain factor with which the product, once rescaled, has the wanted scale.

    It is the prime, within a rounding: (a·q)/q is not always a, and sums need one scale.
    """
    prime = float(parameters.primes[factor.level])
    about = prime if wanted == factor.scale else wanted * prime / factor.scale
    tried = (about, math.nextafter(about, math.inf), math.nextafter(about, 0.0))
    return next((each for each in tried if factor.scale * each / prime == wanted), about)


def _last_uses(program: SlotProgram) -> dict[int, tuple[int, ...]]:
    """The values that an operation is the last to read, so that they need not be held longer."""
    last: dict[int, int] = {}
    made = program.encrypted
    for number, op in enumerate(program.ops):
        last |= dict.fromkeys(range(made, made + op.results), number)  # unless it is read later
        last |= dict.fromkeys(op.args, number)
        made += op.results
    for output in program.outputs:
        for value in output.values:
            last.pop(value, None)
    found: dict[int, tuple[int, ...]] = {}
    for value, number in last.items():
        found[number] = (*found.get(number, ()), value)
    return found


def _fits(program: SlotProgram, parameters: Parameters) -> None:
    if program.slots > parameters.slots:
        raise SlotError(
            f"{program.name} has {program.slots} slots, the engine {parameters.slots}",
            hint="parameters_for(program) chooses large enough ones",
        )
    if program.levels > parameters.top_level:
        raise LevelError(
            f"{program.name} needs {program.levels} levels, the engine has {parameters.top_level}",
            hint="parameters_for(program) chooses enough of them",
        )
