"""The two sides of a computation on encrypted data: a Client with the secret key, a Server without.

What passes between them are Keys and Messages, as objects, bytes or files; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np

from einloom.arguments import gathered, within
from einloom.backends.ckks import store
from einloom.backends.ckks.counts import Counts
from einloom.backends.ckks.engine import Ciphertext, Engine, EvaluationKeys
from einloom.backends.ckks.rotations import route
from einloom.backends.ckks.rules import no_copy
from einloom.backends.ckks.run import ProgramClient, ProgramServer
from einloom.ir.errors import ArgumentError, OperandError, SlotError, UnsupportedError
from einloom.ir.layouts import Array
from einloom.ir.slots import SlotProgram
from einloom.passes.fhe.lower import Lowered
from einloom.specialisation import Shape

#: Bytes, or the path of a file that holds them.
Stored: TypeAlias = "bytes | str | PathLike[str]"


@dataclass(frozen=True)
class Setting:
    """What both sides know: the program, each side's inputs with their shapes, the engine.

    `outputs` are in order; `limit` is how large an input may be in absolute value.
    """

    lowered: Lowered
    secret: Mapping[str, Shape]
    plain: Mapping[str, Shape]
    outputs: tuple[str, ...]
    engine: Engine
    limit: float = math.inf

    @property
    def program(self) -> SlotProgram:
        """What is run on encrypted slots."""
        return self.lowered.program

    @cached_property
    def digest(self) -> str:
        """A name for the program: a message of another one is refused."""
        return hashlib.sha256(str(self.program).encode()).hexdigest()

    @property
    def label(self) -> str:
        """The engine, in words."""
        return repr(self.engine).strip("<>")


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """Evaluation keys of one client: what a server may hold. They decrypt nothing."""

    setting: Setting
    held: EvaluationKeys

    @property
    def key_bytes(self) -> int:
        """Their size in memory, as SEAL holds them."""
        return self.held.bytes

    def to_bytes(self) -> bytes:
        """The keys as bytes: `f.server` reads them back."""
        return self.setting.engine.to_bytes(self.held)

    def save(self, path: str | PathLike[str]) -> None:
        """Write them to a file, whole or not at all."""
        store.write(Path(path), self.to_bytes())

    def __reduce__(self) -> NoReturn:
        raise _no_pickle("keys")

    def __repr__(self) -> str:
        steps = f"{len(self.held.steps)} rotation steps"
        relin = ", relinearisation" * self.held.relinearization
        return f"<keys: {steps}{relin}, {self.key_bytes:,} bytes; {self.setting.label}>"


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """Encrypted tensors of a program, from a client (its inputs) or from a server (its outputs).

    `real`: nothing that went into them had an imaginary part. `clear` are outputs that depend on
    nothing encrypted; of other outputs, vectors that do not are in the clear, too: arrays.
    """

    setting: Setting
    kind: str
    tensors: Mapping[str, tuple[Ciphertext | Array, ...]]
    real: bool
    clear: Mapping[str, Array] = field(default_factory=dict[str, Array])

    def to_bytes(self) -> bytes:
        """The message as bytes: `Server.run` and `Client.decrypt` read them back."""
        engine = self.setting.engine
        held = [each for name in self.tensors for each in self.tensors[name]]
        parts = [
            _array_bytes(each) if isinstance(each, np.ndarray) else engine.to_bytes(each)
            for each in held
        ]
        parts += map(_array_bytes, self.clear.values())
        meta = {
            "program": self.setting.digest,
            "tensors": {name: len(held) for name, held in self.tensors.items()},
            "clear": list(self.clear),
            "real": self.real,
        }
        payload = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        return store.content(self.kind, engine.name, engine.parameters, meta, payload)

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a file, whole or not at all."""
        store.write(Path(path), self.to_bytes())

    def __reduce__(self) -> NoReturn:
        raise _no_pickle(self.kind)

    def __repr__(self) -> str:
        held = ", ".join(f"{name} in {len(each)}" for name, each in self.tensors.items())
        return f"<{self.kind}: {held} ciphertexts; {self.setting.label}>"


class Client:
    """The side that holds the secret key: it makes keys, encrypts and decrypts."""

    def __init__(self, setting: Setting, inner: ProgramClient) -> None:
        self._setting, self._inner = setting, inner

    def keys(self) -> Keys:
        """The keys that the program needs and no others: they may be given away."""
        return Keys(self._setting, self._inner.keys())

    def encrypt(self, *arrays: Any, **named: Any) -> Message:
        """The secret inputs, encrypted: those alone, in order or by name.

        Raises:
            EinloomError: one is missing, of another shape, no number, not finite, or too large.
        """
        setting = self._setting
        given = gathered(setting.secret, arrays, named, setting.limit)
        check_real(setting.lowered, given)
        ciphertexts, tensors = list(self._inner.encrypt(given)), dict[str, tuple[Ciphertext, ...]]()
        for name, count in _tensors(setting, INPUTS).items():
            tensors[name] = tuple(ciphertexts[:count])
            del ciphertexts[:count]
        real = not any(np.iscomplexobj(given[name]) for name in tensors)
        return Message(setting, INPUTS, tensors, real)

    def decrypt(self, message: Message | Stored) -> Any:
        """The output, f64 or c128; a tuple of them if there are several.

        Raises:
            EinloomError: the message is of another program, engine or client, or damaged.
        """
        received = read_message(self._setting, message, OUTPUTS)
        found = self._inner.decrypt(received.tensors)
        if received.real:
            found = {name: np.real(output).copy() for name, output in found.items()}
        found |= received.clear
        outputs = [found[name][()] for name in self._setting.outputs]  # a scalar, if it is one
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def save_secret_key(self, path: str | PathLike[str]) -> None:
        """Write the secret key to a file that only its owner may read; `f.client` takes it up."""
        self._inner.save_secret_key(Path(path))

    def __reduce__(self) -> NoReturn:
        raise no_copy()

    def __repr__(self) -> str:
        return f"<client of {self._setting.program.name}; {self._setting.label}>"


class Server:
    """The side that computes: it holds evaluation keys and nothing secret."""

    def __init__(self, setting: Setting, inner: ProgramServer) -> None:
        self._setting, self._inner = setting, inner

    @property
    def counts(self) -> Counts:
        """The operations so far."""
        return self._inner.counts

    def run(self, message: Message | Stored, *arrays: Any, **named: Any) -> Message:
        """The outputs, encrypted, from a client's message and the server's own inputs.

        Raises:
            EinloomError: the message is of another program, engine or client, or damaged; an input
                is missing, of another shape, no number, not finite, or too large.
        """
        setting = self._setting
        received = read_message(setting, message, INPUTS)
        given = gathered(setting.plain, arrays, named)
        check_real(setting.lowered, given)
        made = setting.lowered.inputs(given)
        for each in setting.program.inputs:
            if each.layout is None:
                within(each.name, made[each.name], setting.limit)
        sent = [
            each
            for held in received.tensors.values()
            for each in held
            if not isinstance(each, np.ndarray)
        ]
        done = self._inner.run(sent, made)
        real = received.real and not any(map(np.iscomplexobj, made.values()))
        real &= not any(isinstance(plain.value, complex) for plain in setting.program.plains)
        clear = {name: made[name] for name in setting.lowered.clear}
        return Message(setting, OUTPUTS, done.outputs, real, clear)

    def __reduce__(self) -> NoReturn:
        raise UnsupportedError(
            "a server is not pickled", hint="f.server(keys) makes one wherever the keys are"
        )

    def __repr__(self) -> str:
        return f"<server of {self._setting.program.name}; {self._setting.label}>"


def _no_pickle(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{what} are not pickled, and never unpickled",
        hint="to_bytes() and save(path) give what is read back with checks",
    )


#: The two kinds of Messages, and of Keys.
INPUTS, OUTPUTS, KEYS = "encrypted inputs", "encrypted outputs", "evaluation keys"
#: What the bytes of an array begin with, as np.save writes them.
_ARRAY = b"\x93NUMPY"
#: How many rotations a message lists.
_SHOWN = 12


def read_keys(setting: Setting, keys: Keys | Stored) -> EvaluationKeys:
    """The evaluation keys, from what `Keys` gives.

    Raises:
        ArgumentError: they are of another engine or other parameters, damaged, or lack what the
            program needs.
    """
    if isinstance(keys, Keys):
        theirs, engine = keys.setting.engine, setting.engine
        about = store.description(KEYS, theirs.name, theirs.parameters)
        store.check(about, "this", KEYS, engine.name, engine.parameters)
        held = keys.held
    else:
        held = setting.engine.keys_of(*_content(keys))
    lacking = _lacking(setting.program, held)
    if lacking:
        raise ArgumentError(
            f"these keys lack what {setting.program.name} needs: {lacking}",
            hint="a client of this very program makes the keys for it: f.client().keys()",
        )
    return held


def _lacking(program: SlotProgram, keys: EvaluationKeys) -> str:
    """What a program does that these keys do not serve, in its own words."""
    steps: list[str] = []
    for step in sorted({step for op in program.ops for step in op.steps}, key=abs):
        try:
            route(step % keys.parameters.slots, keys.steps, keys.parameters.slots)
        except SlotError:
            steps.append(str(step))
    more = ", ..." if len(steps) > _SHOWN else ""
    lacking = [f"rotations by {', '.join(steps[:_SHOWN])}{more}"] if steps else []
    if not keys.relinearization and any(op.op == "relinearize" for op in program.ops):
        lacking.append("relinearisation")
    return " and ".join(lacking)


def read_message(setting: Setting, message: Message | Stored, kind: str) -> Message:
    """The message, checked: of that kind and of this program.

    Raises:
        ArgumentError: it is another's, or damaged.
    """
    wanted = _tensors(setting, kind)
    engine = setting.engine
    if isinstance(message, Message):
        theirs = message.setting
        if message.kind != kind:
            raise ArgumentError(
                f"these are {message.kind} of {theirs.program.name}",
                hint=f"{kind} of {setting.program.name} are needed",
            )
        about = store.description(kind, theirs.engine.name, theirs.engine.parameters)
        store.check(about, f"this message of {kind}", kind, engine.name, engine.parameters)
        if theirs.digest != setting.digest:
            raise _another_program(f"this message of {kind}", setting, theirs)
        return message
    data, source = _content(message)
    meta, payload = store.read(data, source, kind, engine.name, engine.parameters)
    clear = setting.lowered.clear if kind == OUTPUTS else ()
    said = (meta.get("program"), meta.get("tensors"), meta.get("clear"))
    if said != (setting.digest, wanted, list(clear)):
        raise _another_program(source, setting)
    parts = list(_parts(payload))
    if len(parts) != sum(wanted.values()) + len(clear):
        raise ArgumentError(f"{source} holds other parts than its header says")
    rest = iter(parts)
    tensors = {
        name: tuple(
            _vector_of(part, setting)
            if kind == OUTPUTS and part.startswith(_ARRAY)
            else engine.ciphertext_of(part, source)
            for part in islice(rest, count)
        )
        for name, count in wanted.items()
    }
    arrays = {name: _array_of(next(rest)) for name in clear}
    return Message(setting, kind, tensors, meta.get("real") is True, arrays)


def _another_program(source: str, setting: Setting, theirs: Setting | None = None) -> ArgumentError:
    """The refusal of what another program made; two of one name are told apart by their digests."""
    both = (("its", theirs), ("this", setting))
    return ArgumentError(
        f"{source} is of another program than {setting.program.name}",
        passed=tuple(
            f"{whose} program: {each.program.name}, digest {each.digest[:16]}"
            for whose, each in both
            if each is not None and theirs is not None
        ),
        hint="compile the same text with the same options on both sides",
    )


def _parts(payload: bytes) -> Iterator[bytes]:
    """What was put one after another, each with its length before it."""
    while payload:
        length = int.from_bytes(payload[:8], "little")
        yield payload[8 : 8 + length]
        payload = payload[8 + length :]


def _array_bytes(array: Array) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def _vector_of(data: bytes, setting: Setting) -> Array:
    """A vector of an output that is in the clear."""
    found = _array_of(data)
    if found.shape != (setting.program.slots,) or found.dtype.kind not in "fc":
        raise ArgumentError("a part in the clear is no vector of slots")
    return found


def _array_of(data: bytes) -> Array:
    try:
        found: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ArgumentError("an output in the clear cannot be read") from error
    return found


def _tensors(setting: Setting, kind: str) -> dict[str, int]:
    """How many ciphertexts each tensor of a message of that kind is."""
    if kind == INPUTS:
        return {each.name: each.vectors for each in setting.program.inputs if each.layout}
    return {each.name: len(each.values) for each in setting.program.outputs}


def _content(given: Stored) -> tuple[bytes, str]:
    """The bytes, and what to call them."""
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given), "this"
    if not isinstance(given, str | PathLike):
        raise OperandError(
            f"bytes or the path of a file are needed, not {type(given).__name__}",
        )
    return Path(given).read_bytes(), str(given)


def check_real(lowered: Lowered, arrays: Mapping[str, Array]) -> None:
    """Inputs are real where a function is approximated.

    Raises:
        OperandError: one has an imaginary part.
    """
    for name, array in arrays.items():
        if lowered.approximated and np.iscomplexobj(array) and np.imag(array).any():
            raise OperandError(
                f"the input {name} is complex, and an approximation is on a real interval",
                deduced=(str(lowered.approximated[0]),),
            )
