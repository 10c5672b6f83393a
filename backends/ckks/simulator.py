"""A CKKS engine without cryptography: exact levels and scales, real rounding, seeded noise.

SIMULATED, NOT SECURE: a ciphertext holds its slots in the clear. What is kept true is what an
engineer plans by: what is refused, how levels and scales go, the encoding's own rounding, the
noise of each operation on each slot, the wrap of values that outgrow the modulus, and the counts.
"""

from __future__ import annotations

import math
import secrets
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...ir.errors import ArgumentError
from . import noise, rules, store, tags
from .embedding import Reals, to_coefficients, to_slots
from .engine import Ciphertext, EvaluationKeys, Plaintext, Slots
from .evaluator import BaseClient, BaseEvaluator, Encoder
from .files import Files
from .overflow import power, wrapped
from .params import Parameters

NAME = "simulated"
#: Too large a product is no mistake here: it wraps, as it would in a ciphertext.
_overflowing = np.errstate(over="ignore", invalid="ignore")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Encoded:
    """Slots as rounding left them; its error's variance; a tag, 0 for the zero polynomial."""

    slots: Slots
    variance: float
    tag: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Encrypted:
    """Slots with their noise; its expected variance in the real part; what stands for c1.

    The tag follows c1 through additions and is 0 where c1 cancels. It seeds the noise that a key
    switch or a rescale adds, which in CKKS too is a function of the ciphertext.
    """

    slots: Slots
    variance: float
    tag: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Keys:
    """What noise needs to know of the secret: |s|² on each slot."""

    spread: Reals


class Simulator(Files):
    """The simulated engine.

    Args:
        parameters: ring, primes and scale.
        seed: of keys, encryption and noise; one seed and one program give the same slots.
        noise: False leaves out all noise but the encoding's rounding, to debug a packing.
        hoisting: whether rotate_many counts its rotations as hoisted.
    """

    name = NAME

    def __init__(
        self, parameters: Parameters, *, seed: int = 0, noise: bool = True, hoisting: bool = True
    ) -> None:
        self.parameters = parameters
        self._seed, self._noise, self._hoisting = seed, noise, hoisting
        self._clients = 0

    def __repr__(self) -> str:
        return f"<CKKS simulated, not secure: N = {self.parameters.degree}>"

    def client(self) -> SimulatedClient:
        """A client with new keys; another one each time."""
        self._clients += 1
        sequence = np.random.SeedSequence((self._seed, self._clients))
        generator = np.random.Generator(np.random.SFC64(sequence))
        secret = generator.integers(-1, 2, self.parameters.degree, dtype=np.int8)
        # Not the seed's: two clients of one seed have one secret, and SEAL's never have.
        owner = f"{NAME}-{secrets.token_hex(8)}"
        return SimulatedClient(self.parameters, owner, secret, generator, self._noise)

    def load_client(self, path: str | Path) -> SimulatedClient:
        """The client whose secret key is in a file."""
        meta, payload = self._read(Path(path).read_bytes(), "secret key", str(path))
        secret = np.frombuffer(payload, np.int8)
        if len(secret) != self.parameters.degree or not ((secret >= -1) & (secret <= 1)).all():
            raise ArgumentError(f"{path} holds no secret key of these parameters")
        # Not the seed's: two runs of a stored client must not encrypt with the same noise.
        generator = np.random.Generator(np.random.SFC64(secrets.randbits(128)))
        owner = store.owner_of(meta)
        return SimulatedClient(self.parameters, owner, secret, generator, self._noise)

    def evaluator(self, keys: EvaluationKeys) -> SimulatedEvaluator:
        """An evaluator with these keys."""
        return SimulatedEvaluator(self.parameters, keys, self._seed, self._noise, self._hoisting)

    def expected_error(self, ciphertext: Ciphertext) -> float:
        """The standard deviation that noise is expected to have in a slot's real part.

        It is over all slots, in units of the values; infinite once a value has wrapped.
        """
        payload: _Encrypted = ciphertext.payload
        return math.sqrt(payload.variance)

    def to_bytes(self, item: Ciphertext | EvaluationKeys) -> bytes:
        """A ciphertext or evaluation keys as bytes."""
        if isinstance(item, Ciphertext):
            held: _Encrypted = item.payload
            body = struct.pack("<dQ", held.variance, held.tag) + held.slots.astype("<c16").tobytes()
        else:
            keys: _Keys = item.payload
            body = keys.spread.astype("<f8").tobytes()
        return store.dump(NAME, self.parameters, item, body)

    def ciphertext_of(self, data: bytes, source: str = "this") -> Ciphertext:
        """The ciphertext in these bytes."""
        meta, payload = self._read(data, "ciphertext", source)
        if len(payload) != 16 + 16 * self.parameters.slots:
            raise ArgumentError(f"{source} holds no ciphertext of these parameters")
        variance, tag = struct.unpack_from("<dQ", payload)
        slots = np.frombuffer(payload, "<c16", offset=16).astype(np.complex128)
        if not (variance >= 0 and tag and np.isfinite(slots).all()):
            raise ArgumentError(f"{source} holds no ciphertext that a simulator wrote")
        return store.ciphertext(meta, self.parameters, _Encrypted(slots, variance, tag))

    def keys_of(self, data: bytes, source: str = "this") -> EvaluationKeys:
        """The evaluation keys in these bytes."""
        meta, payload = self._read(data, "evaluation keys", source)
        if len(payload) != 8 * self.parameters.slots:
            raise ArgumentError(f"{source} holds no evaluation keys of these parameters")
        spread = np.frombuffer(payload, "<f8").astype(np.float64)
        if not (np.isfinite(spread) & (spread >= 0)).all():
            raise ArgumentError(f"{source} holds no evaluation keys that a simulator wrote")
        return store.keys(meta, self.parameters, _Keys(spread))


class _SimulatedEncoder(Encoder):
    """Rounds the coefficients as a real encoder does."""

    label = "simulated, not secure"

    def _encode(self, slots: Slots, level: int, scale: float) -> Plaintext:
        exact = to_coefficients(slots)
        rules.encoded_size(self.parameters, level, scale, float(np.abs(exact).max()))
        rounded = np.rint(exact * scale)
        stored = to_slots(rounded / scale)
        variance = float(np.mean((stored.real - slots.real) ** 2))
        payload = _Encoded(stored, variance, tags.of(rounded))
        return Plaintext(self.parameters, level, scale, payload)

    def _knows(self, payload: object) -> bool:
        return isinstance(payload, _Encoded | _Keys)


class SimulatedClient(_SimulatedEncoder, BaseClient):
    """A client whose ciphertexts hold their slots in the clear: simulated, not secure."""

    def __init__(
        self,
        parameters: Parameters,
        owner: str,
        secret: np.ndarray[tuple[int], np.dtype[np.int8]],
        generator: np.random.Generator,
        noisy: bool,
    ) -> None:
        super().__init__(parameters, owner)
        self._secret, self._generator, self._noisy = secret, generator, noisy
        self._spread = np.abs(to_slots(secret.astype(np.float64))) ** 2

    def _evaluation_keys(self, steps: frozenset[int], relinearization: bool) -> EvaluationKeys:
        payload = _Keys(self._spread)
        return EvaluationKeys(self._owner, self.parameters, relinearization, steps, payload)

    def _encrypt(self, plaintext: Plaintext) -> Ciphertext:
        encoded: _Encoded = plaintext.payload
        level, scale = plaintext.level, plaintext.scale
        tag = int(self._generator.integers(1, 2**64, dtype=np.uint64))
        slots, variance = encoded.slots, encoded.variance
        if self._noisy:
            each = noise.fresh(self.parameters, level, self._spread)
            slots = slots + noise.gaussian(
                self._generator, np.sqrt(each).astype(np.float32), 1 / scale
            )
            variance += float(each.mean()) / scale / scale
        slots, variance = wrapped(self.parameters, level, scale, slots, variance)
        return Ciphertext(self._owner, level, scale, 2, _Encrypted(slots, variance, tag))

    def _decrypt(self, ciphertext: Ciphertext) -> Slots:
        payload: _Encrypted = ciphertext.payload
        return payload.slots.copy()

    def save_secret_key(self, path: str | Path) -> None:
        """Write the secret key to a file that only its owner may read."""
        store.save_secret(path, NAME, self.parameters, self._owner, self._secret.tobytes())


class SimulatedEvaluator(_SimulatedEncoder, BaseEvaluator):
    """Computes on the slots and adds the noise: simulated, not secure."""

    def __init__(
        self,
        parameters: Parameters,
        keys: EvaluationKeys,
        seed: int = 0,
        noisy: bool = True,
        hoisting: bool = True,
    ) -> None:
        super().__init__(parameters, keys, NAME)
        self.hoists = hoisting
        self._seed, self._noisy = seed, noisy
        held: _Keys = keys.payload
        self._spread = held.spread
        self._key_seed = zlib.crc32(held.spread.tobytes())  # of one secret, the same keys
        # Few, and each serves many operations; bounded where there are many keys.
        self._deviation = lru_cache(maxsize=64)(self._switching_deviation)
        self._rounding = lru_cache(maxsize=None)(self._rounding_deviation)

    def _add(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        x, y = _held(a), _held(b)
        return self._sum(a, b.size, x.slots + y.slots, x.variance + y.variance, x.tag + y.tag)

    def _sub(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        x, y = _held(a), _held(b)
        return self._sum(a, b.size, x.slots - y.slots, x.variance + y.variance, x.tag - y.tag)

    def _negate(self, a: Ciphertext) -> Ciphertext:
        x = _held(a)
        return self._sum(a, a.size, -x.slots, x.variance, -x.tag)

    def _add_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        x, y = _held(a), _encoded(b)
        return self._sum(a, a.size, x.slots + y.slots, x.variance + y.variance, x.tag)

    def _sub_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        x, y = _held(a), _encoded(b)
        return self._sum(a, a.size, x.slots - y.slots, x.variance + y.variance, x.tag)

    @_overflowing
    def _multiply(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        x, y = _held(a), _held(b)
        tag = tags.mixed(min(x.tag, y.tag), max(x.tag, y.tag), tags.MULTIPLY)
        return self._product(a, b.scale, 3, x.slots * y.slots, _product_variance(x, y), tag)

    @_overflowing
    def _square(self, a: Ciphertext) -> Ciphertext:
        x = _held(a)
        # Both factors have the same noise: 2·z·e, not z1·e2 + z2·e1 with two that are independent.
        variance = 4 * power(x.slots) * x.variance + 2 * x.variance * x.variance
        tag = tags.mixed(x.tag, x.tag, tags.MULTIPLY)
        return self._product(a, a.scale, 3, x.slots * x.slots, variance, tag)

    @_overflowing
    def _multiply_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        x, y = _held(a), _encoded(b)
        variance = _product_variance(x, y)
        return self._product(a, b.scale, a.size, x.slots * y.slots, variance, x.tag * y.tag)

    def _relinearize(self, a: Ciphertext) -> Ciphertext:
        x = _held(a)
        tag = tags.mixed(x.tag, 0, tags.RELINEARIZE)
        added = self._switching(a.level, 0) if self._noisy else None
        return self._noised(a, a.level, a.scale, 2, x.slots, x.variance, tag, added)

    def _rotate(self, a: Ciphertext, step: int) -> Ciphertext:
        x = _held(a)
        slots = np.concatenate((x.slots[step:], x.slots[:step]))
        tag = tags.mixed(x.tag, step, tags.ROTATE)
        added = self._switching(a.level, step) if self._noisy else None
        return self._noised(a, a.level, a.scale, 2, slots, x.variance, tag, added)

    def _rescale(self, a: Ciphertext) -> Ciphertext:
        x = _held(a)
        scale = a.scale / self.parameters.primes[a.level]
        tag = tags.mixed(x.tag, a.level, tags.RESCALE)
        added = self._rounding(a.size) if self._noisy else None
        return self._noised(a, a.level - 1, scale, a.size, x.slots, x.variance, tag, added)

    def _mod_switch(self, a: Ciphertext) -> Ciphertext:
        x = _held(a)
        return self._made(a, a.level - 1, a.scale, a.size, x.slots, x.variance, x.tag)

    def _sum(self, a: Ciphertext, size: int, slots: Slots, variance: float, tag: int) -> Ciphertext:
        return self._made(a, a.level, a.scale, max(a.size, size), slots, variance, tag)

    def _product(
        self, a: Ciphertext, scale: float, size: int, slots: Slots, variance: float, tag: int
    ) -> Ciphertext:
        return self._made(a, a.level, a.scale * scale, size, slots, variance, tag)

    def _noised(
        self,
        a: Ciphertext,
        level: int,
        scale: float,
        size: int,
        slots: Slots,
        variance: float,
        tag: int,
        added: tuple[noise.Singles, float] | None,
    ) -> Ciphertext:
        """With Gaussian noise of the given deviation per slot, in units of the scaled integers."""
        if added is not None:
            deviation, mean = added
            generator = np.random.Generator(np.random.SFC64((self._seed, tag)))
            drawn = noise.gaussian(generator, deviation, 1 / scale)
            drawn += slots
            slots = drawn
            variance += mean / scale / scale
        return self._made(a, level, scale, size, slots, variance, tag)

    def _made(
        self,
        a: Ciphertext,
        level: int,
        scale: float,
        size: int,
        slots: Slots,
        variance: float,
        tag: int,
    ) -> Ciphertext:
        tag &= tags.MASK
        variance = math.inf if math.isnan(variance) else variance  # 0 times a lost value
        if tag == 0:
            raise rules.transparent()
        slots, variance = wrapped(self.parameters, level, scale, slots, variance)
        return Ciphertext(a.owner, level, scale, size, _Encrypted(slots, variance, tag))

    def _switching(self, level: int, step: int) -> tuple[noise.Singles, float]:
        """For the key of a step, or of relinearisation (0); for all alike where it is all one."""
        return self._deviation(level, step if noise.key_matters(self.parameters, level) else 0)

    def _switching_deviation(self, level: int, step: int) -> tuple[noise.Singles, float]:
        seed = (self._seed, self._key_seed, step)
        key = np.random.Generator(np.random.SFC64(seed))
        variance = noise.key_switch(self.parameters, level, self._spread, key)
        return np.sqrt(variance).astype(np.float32), float(variance.mean())

    def _rounding_deviation(self, size: int) -> tuple[noise.Singles, float]:
        variance = noise.rounding(self.parameters.degree, self._spread, size)
        return np.sqrt(variance).astype(np.float32), float(variance.mean())


def _held(ciphertext: Ciphertext) -> _Encrypted:
    payload: _Encrypted = ciphertext.payload
    return payload


def _encoded(plaintext: Plaintext) -> _Encoded:
    payload: _Encoded = plaintext.payload
    return payload


def _product_variance(x: _Encrypted, y: _Encrypted | _Encoded) -> float:
    """z1·e2 + z2·e1 + e1·e2, messages and noise taken for independent."""
    each = power(x.slots) * y.variance + power(y.slots) * x.variance
    return each + 2 * x.variance * y.variance
