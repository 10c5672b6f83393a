"""The protocol of both engines: a client with the secret key, an evaluator without it.

engine = Simulator(parameters)            # or Seal(parameters)
client = engine.client()                  # has the secret key
keys = client.evaluation_keys((1, 2))     # may be given away
server = engine.evaluator(keys)           # never sees the secret key
y = server.rotate(client.encrypt(client.encode(x)), 1)
client.decrypt(y)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .counts import Counts
from .params import Parameters

#: All slots of a decrypted ciphertext: [N/2], complex128; padding holds noise.
Slots: TypeAlias = np.ndarray[tuple[int], np.dtype[np.complex128]]

#: Steps that keys are asked for; the name stands for every ±2^k.
Steps: TypeAlias = Iterable[int] | Literal["powers-of-two"]


@dataclass(frozen=True, slots=True, eq=False)
class Plaintext:
    """An encoded vector, at a level and a scale; `payload` is the engine's own."""

    parameters: Parameters = field(repr=False)
    level: int
    scale: float
    payload: Any = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Ciphertext:
    """An encrypted vector: `level` rescales are left, so level + 1 primes ("limbs").

    `size` is 2, and 3 after a multiply until it is relinearised. `owner` names the keys it was
    encrypted under; it is random and tells nothing about them. `payload` is the engine's own.
    """

    owner: str
    level: int
    scale: float
    size: int
    payload: Any = field(repr=False)

    @property
    def limbs(self) -> int:
        """How many primes are left of the modulus."""
        return self.level + 1


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationKeys:
    """The public, relinearisation and rotation keys of one client: what a server may hold.

    `steps` are in [0, slots). `payload` is the engine's own.
    """

    owner: str
    parameters: Parameters = field(repr=False)
    relinearization: bool
    steps: frozenset[int]
    payload: Any = field(repr=False)

    @property
    def bytes(self) -> int:
        """The size in memory of the switching keys, as SEAL holds them."""
        return (len(self.steps) + self.relinearization) * self.parameters.switching_key_bytes


class Client(Protocol):
    """Holds the secret key: makes keys, encrypts and decrypts."""

    @property
    def owner(self) -> str:
        """The public name of these keys."""
        ...

    def evaluation_keys(self, steps: Steps = (), *, relinearization: bool = True) -> EvaluationKeys:
        """Keys for relinearisation and for the rotations by the given steps."""
        ...

    def encode(
        self, values: ArrayLike, *, level: int | None = None, scale: float | None = None
    ) -> Plaintext:
        """Values, real or complex, at most N/2; the slots after them are 0."""
        ...

    def encrypt(self, plaintext: Plaintext) -> Ciphertext:
        """A fresh ciphertext at the plaintext's level and scale, by the public key."""
        ...

    def decrypt(self, ciphertext: Ciphertext) -> Slots:
        """All N/2 slots."""
        ...

    def save_secret_key(self, path: str | Path) -> None:
        """Write the secret key to a file that only its owner may read."""
        ...


class Evaluator(Protocol):
    """Computes on ciphertexts with evaluation keys alone; counts what it does.

    Operands of an addition need one level and one scale, those of a multiplication one level.
    Each operation raises SlotError or LevelError where SEAL refuses.
    """

    @property
    def parameters(self) -> Parameters:
        """The parameters of the keys."""
        ...

    @property
    def counts(self) -> Counts:
        """The operations so far."""
        ...

    def encode(
        self, values: ArrayLike, *, level: int | None = None, scale: float | None = None
    ) -> Plaintext:
        """Values, real or complex, at most N/2; the slots after them are 0."""
        ...

    def add(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """a + b."""
        ...

    def sub(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """a - b."""
        ...

    def negate(self, a: Ciphertext) -> Ciphertext:
        """-a."""
        ...

    def add_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        """a + b."""
        ...

    def sub_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        """a - b."""
        ...

    def multiply(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """a · b, of size 3, at the product of the scales."""
        ...

    def square(self, a: Ciphertext) -> Ciphertext:
        """a · a, of size 3, at the square of the scale."""
        ...

    def multiply_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        """a · b, at the product of the scales."""
        ...

    def relinearize(self, a: Ciphertext) -> Ciphertext:
        """The same at size 2."""
        ...

    def rescale(self, a: Ciphertext) -> Ciphertext:
        """The same one level down, the scale divided by the prime that is dropped."""
        ...

    def mod_switch(self, a: Ciphertext) -> Ciphertext:
        """The same one level down, at the same scale."""
        ...

    def rotate(self, a: Ciphertext, step: int) -> Ciphertext:
        """Slot i of the result is slot i + step of `a`, modulo N/2: a positive step is left."""
        ...

    def rotate_many(self, a: Ciphertext, steps: Iterable[int]) -> tuple[Ciphertext, ...]:
        """`a` rotated by each step; hoisted where the engine can."""
        ...


class Engine(Protocol):
    """Makes clients and evaluators for one set of parameters; writes and reads their files."""

    @property
    def name(self) -> str:
        """`simulated` or `seal`."""
        ...

    @property
    def parameters(self) -> Parameters:
        """Ring, primes and scale."""
        ...

    def client(self) -> Client:
        """A client with new keys."""
        ...

    def load_client(self, path: str | Path) -> Client:
        """The client whose secret key `save_secret_key` wrote."""
        ...

    def evaluator(self, keys: EvaluationKeys) -> Evaluator:
        """An evaluator that holds these keys and nothing secret."""
        ...

    def to_bytes(self, item: Ciphertext | EvaluationKeys) -> bytes:
        """A ciphertext or evaluation keys as bytes, with a header and a digest."""
        ...

    def ciphertext_of(self, data: bytes, source: str = "this") -> Ciphertext:
        """The ciphertext in these bytes, checked; `source` names them in what is refused."""
        ...

    def keys_of(self, data: bytes, source: str = "this") -> EvaluationKeys:
        """The evaluation keys in these bytes, checked."""
        ...

    def save(self, item: Ciphertext | EvaluationKeys, path: str | Path) -> None:
        """Write a ciphertext or evaluation keys to a file, whole or not at all."""
        ...

    def load_ciphertext(self, path: str | Path) -> Ciphertext:
        """The ciphertext in a file, checked."""
        ...

    def load_keys(self, path: str | Path) -> EvaluationKeys:
        """The evaluation keys in a file, checked."""
        ...
