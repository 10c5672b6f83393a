"""A SlotProgram on an engine, operation for operation: a client's side, and a server's.

client = ProgramClient(program, engine)                    # has the secret key
server = ProgramServer(program, engine.evaluator(client.keys()))   # has none
done = server.run(client.encrypt({"A": a}), {"B": b})      # A is encrypted, B is the server's own
client.decrypt(done.outputs)

A program of fewer slots than the engine has runs on copies of its vectors, one after another: a
rotation of all slots then rotates each copy, as if it were alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ...ir.errors import ArgumentError, LevelError, SlotError
from ...ir.layouts import Array
from ...ir.slot_executor import applied, last_uses, packed_inputs, plain_inputs, plain_vector
from ...ir.slots import SlotOp, SlotProgram
from .counts import Counts
from .engine import Ciphertext, Client, Engine, EvaluationKeys, Evaluator, Plaintext
from .foresight import Made, factor_scale, predicted


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The vectors of each output, and what every value was, in the order of their numbers.

    A vector that depends on nothing encrypted, as one of zeros, is in the clear: all its slots.
    """

    outputs: Mapping[str, tuple[Ciphertext | Array, ...]]
    made: tuple[Made, ...]


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

    def decrypt(self, outputs: Mapping[str, Sequence[Ciphertext | Array]]) -> dict[str, Array]:
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

    def slots(self, vector: Ciphertext | Array) -> Array:
        """All slots of the engine: copies of the program's, each with its own noise, if any."""
        if isinstance(vector, np.ndarray):
            return np.tile(vector, self._parameters.slots // self._program.slots)
        return self._client.decrypt(vector)


@dataclass(frozen=True, slots=True, eq=False)
class _Clear:
    """A value that depends on nothing encrypted, since all that was did cancel: its slots."""

    slots: Array


_Value: TypeAlias = "Ciphertext | _Clear"
#: Bytes of encoded plaintexts that a server keeps, and so many more during a run.
_KEPT_BYTES = 1 << 30


class _Kept:
    """Encoded plaintexts by vector, level and scale: those that came first, of so many bytes."""

    def __init__(self, size: int) -> None:
        self._room = _KEPT_BYTES // size
        self._held: dict[tuple[int, int, float], Plaintext | _Clear] = {}

    def get(
        self, key: tuple[int, int, float], make: Callable[[], Plaintext | _Clear]
    ) -> Plaintext | _Clear:
        """What is kept under a key, or else is made now."""
        found = self._held.get(key)
        if found is None:
            found = make()
            if len(self._held) < self._room:
                self._held[key] = found
        return found


class ProgramServer:
    """Runs a program with evaluation keys alone; what it encodes the same each time it keeps.

    Of up to 1 GiB: the masks of a large program are as many as its operations.

    Raises:
        SlotError, LevelError: the program breaks a rule, or needs more slots or levels.
    """

    def __init__(self, program: SlotProgram, evaluator: Evaluator) -> None:
        self._predicted = predicted(program, evaluator.parameters)
        self._program, self.evaluator = program, evaluator
        self._kept = self._new_kept()
        self._last = last_uses(program)

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
            SlotError, LevelError: what the engine refuses; where, in the program's own text.
        """
        self._check(ciphertexts)
        given = plain_inputs(self._program, inputs or {})
        values: dict[int, _Value] = dict(enumerate(ciphertexts))
        made = [_made(each) for each in ciphertexts]
        encoded = self._new_kept()
        for number, op in enumerate(self._program.ops):
            try:
                results = self._results(op, values, made, given, encoded)
            except (SlotError, LevelError) as error:
                error.deduced += (f"at {op.text(len(made))}",)
                raise
            for result in results:
                values[len(made)] = result
                would = self._predicted[len(made)]
                made.append(would if isinstance(result, _Clear) else _made(result))
            for value in self._last.get(number, ()):
                values.pop(value, None)
        outputs = {
            output.name: tuple(_sent(values[value]) for value in output.values)
            for output in self._program.outputs
        }
        return Evaluated(outputs, tuple(made))

    def _results(
        self,
        op: SlotOp,
        values: Mapping[int, _Value],
        made: Sequence[Made],
        given: Mapping[str, Array],
        encoded: _Kept,
    ) -> tuple[_Value, ...]:
        """What an operation gives; in the clear where that is known without the secret key.

        No engine makes a ciphertext of what is not encrypted, as a product with zeros.
        """
        args = [values[arg] for arg in op.args]
        if op.op == "sub" and op.args[0] == op.args[1]:
            return (_nothing(self._program),)
        hidden = [each for each in args if not isinstance(each, _Clear)]
        clear = [each.slots for each in args if isinstance(each, _Clear)]
        if not hidden:
            plain = None
            if op.plain is not None:
                plain = plain_vector(self._program.plains[op.plain], self._program.slots, given)
            return tuple(_Clear(slots) for slots in applied(op, clear, plain))
        if clear:
            return (self._with_clear(op, hidden[0], clear[0], args, made),)
        if op.op == "relinearize" and hidden[0].size == 2:  # of a product in the clear
            return (hidden[0],)
        if op.plain is None:
            return self._applied(op, hidden, None)
        factor = self._plain(op, hidden[0], made, given, encoded)
        return (factor,) if isinstance(factor, _Clear) else self._applied(op, hidden, factor)

    def _with_clear(
        self,
        op: SlotOp,
        one: Ciphertext,
        clear: Array,
        args: Sequence[_Value],
        made: Sequence[Made],
    ) -> _Value:
        """A sum, difference or product of a ciphertext and a vector in the clear."""
        do = self.evaluator
        if op.op == "mul":
            at = op.args[[isinstance(each, _Clear) for each in args].index(True)]
            if not clear.any():
                return _nothing(self._program)
            return do.multiply_plain(one, self._encoded(clear, one.level, made[at].scale))
        if op.op == "sub":
            clear = -clear if args[0] is one else clear
            one = one if args[0] is one else do.negate(one)
        if not clear.any():
            return one
        return do.add_plain(one, self._encoded(clear, one.level, one.scale))

    def _encoded(self, vector: Array, level: int, scale: float) -> Plaintext:
        """The program's slots, as often as they fit in the engine's."""
        copies = self.evaluator.parameters.slots // self._program.slots
        return self.evaluator.encode(np.tile(vector, copies), level=level, scale=scale)

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
        factor: Ciphertext,
        made: Sequence[Made],
        given: Mapping[str, Array],
        encoded: _Kept,
    ) -> Plaintext | _Clear:
        """The plain vector at the level and scale that the operation asks for, unless it is 0."""
        assert op.plain is not None
        scale = factor.scale
        if op.op == "mul_plain":
            wanted = factor.scale if op.like is None else made[op.like].scale
            scale = factor_scale(factor, wanted, self.evaluator.parameters)
        plain, key = self._program.plains[op.plain], (op.plain, factor.level, scale)

        def make() -> Plaintext | _Clear:
            vector = plain_vector(plain, self._program.slots, given)
            if op.op == "mul_plain" and not vector.any():
                return _nothing(self._program)
            names = dict.fromkeys(each.tensor for each in plain.factors if each.tensor)
            with _naming(", ".join(names) or f"plain {op.plain}"):
                return self._encoded(vector, factor.level, scale)

        return (self._kept if plain.constant else encoded).get(key, make)

    def _new_kept(self) -> _Kept:
        parameters = self.evaluator.parameters
        return _Kept(8 * parameters.degree * (self._program.levels + 1))

    def _applied(
        self, op: SlotOp, args: Sequence[Ciphertext], plain: Plaintext | None
    ) -> tuple[Ciphertext, ...]:
        do = self.evaluator
        one, *others = args
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


def _sent(value: _Value) -> Ciphertext | Array:
    return value.slots if isinstance(value, _Clear) else value


def _nothing(program: SlotProgram) -> _Clear:
    return _Clear(np.zeros(program.slots))


def _made(ciphertext: Ciphertext) -> Made:
    return Made(ciphertext.level, ciphertext.scale, ciphertext.size)
