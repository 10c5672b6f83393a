"""Microsoft SEAL as an engine, through `tenseal.sealapi` (the extra `fhe`)."""

from __future__ import annotations

import secrets
import tempfile
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...ir.errors import ArgumentError, EinloomError, SlotError, UnsupportedError
from . import rules, store
from .engine import Ciphertext, EvaluationKeys, Plaintext, Slots
from .evaluator import BaseClient, BaseEvaluator, Encoder
from .files import Files
from .params import Parameters

NAME = "seal"
#: The largest ring for which SEAL has a budget of its own; above it, ours is the one enforced.
_SEAL_JUDGES = 32768


def sealapi() -> Any:
    """The module `tenseal.sealapi`.

    Raises:
        UnsupportedError: it is not installed.
    """
    try:
        return import_module("tenseal.sealapi")
    except ImportError as error:
        raise UnsupportedError(
            "the engine 'seal' needs tenseal, which is not installed",
            hint="pip install 'einloom[fhe]', or use the engine 'simulated'",
        ) from error


class Seal(Files):
    """The engine that encrypts in earnest.

    Args:
        parameters: ring, primes and scale.

    Raises:
        UnsupportedError: tenseal is not installed.
    """

    name = NAME

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._context = _Context(parameters)

    def __repr__(self) -> str:
        return f"<CKKS by SEAL{self.parameters.warning}: N = {self.parameters.degree}>"

    def client(self) -> SealClient:
        """A client with new keys."""
        maker = self._context.api.KeyGenerator(self._context.seal)
        return SealClient(self._context, f"{NAME}-{secrets.token_hex(8)}", maker)

    def load_client(self, path: str | Path) -> SealClient:
        """The client whose secret key is in a file."""
        meta, payload = self._read(Path(path).read_bytes(), "secret key", str(path))
        api, context = self._context.api, self._context.seal
        secret = self._context.loaded(api.SecretKey(), payload)
        return SealClient(self._context, store.owner_of(meta), api.KeyGenerator(context, secret))

    def evaluator(self, keys: EvaluationKeys) -> SealEvaluator:
        """An evaluator with these keys."""
        return SealEvaluator(self._context, keys)

    def to_bytes(self, item: Ciphertext | EvaluationKeys) -> bytes:
        """A ciphertext or evaluation keys as bytes."""
        if isinstance(item, Ciphertext):
            body = _dumped(item.payload)
        else:
            keys: _Keys = item.payload
            parts = [_dumped(part) for part in keys if part is not None]
            body = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        return store.dump(NAME, self.parameters, item, body)

    def ciphertext_of(self, data: bytes, source: str = "this") -> Ciphertext:
        """The ciphertext in these bytes."""
        meta, payload = self._read(data, "ciphertext", source)
        held = self._context.loaded(self._context.api.Ciphertext(), payload)
        said = store.ciphertext(meta, self.parameters, held)
        found = self._context.ciphertext(said.owner, held)
        if (said.level, said.scale, said.size) != (found.level, found.scale, found.size):
            raise ArgumentError(f"{source} holds another ciphertext than its header says")
        return found

    def keys_of(self, data: bytes, source: str = "this") -> EvaluationKeys:
        """The evaluation keys in these bytes."""
        meta, payload = self._read(data, "evaluation keys", source)
        said = store.keys(meta, self.parameters, None)
        api, parts = self._context.api, list[bytes]()
        while payload:
            length = int.from_bytes(payload[:8], "little")
            parts.append(payload[8 : 8 + length])
            payload = payload[8 + length :]
        wanted = [said.relinearization, bool(said.steps)]
        if len(parts) != sum(wanted):
            raise ArgumentError(f"{source} holds other keys than its header says")
        relin = galois = None
        if said.relinearization:
            relin = self._context.loaded(api.RelinKeys(), parts.pop(0))
        if said.steps:
            galois = self._context.loaded(api.GaloisKeys(), parts.pop(0))
            if not all(galois.has_key(self._context.element(step)) for step in said.steps):
                raise ArgumentError(f"{source} lacks keys that its header names")
        payload_of = _Keys(relin, galois)
        return EvaluationKeys(
            said.owner, self.parameters, said.relinearization, said.steps, payload_of
        )


class _Keys(NamedTuple):
    """SEAL's keys; None where there is none of the kind."""

    relinearization: Any
    galois: Any


class _Context:
    """A SEALContext, and the way between its objects and ours."""

    def __init__(self, parameters: Parameters) -> None:
        self.api = api = sealapi()
        self.parameters = parameters
        wanted = api.EncryptionParameters(api.SCHEME_TYPE.CKKS)
        wanted.set_poly_modulus_degree(parameters.degree)
        chain = (*parameters.primes, parameters.special)
        wanted.set_coeff_modulus([api.Modulus(q) for q in chain])
        judged = parameters.degree <= _SEAL_JUDGES and not parameters.insecure
        security = api.SEC_LEVEL_TYPE.TC128 if judged else api.SEC_LEVEL_TYPE.NONE
        self.seal = api.SEALContext(wanted, True, security)
        if not self.seal.parameters_set():
            raise ArgumentError(f"SEAL refuses the parameters: {self.seal.parameters_error_name()}")
        self.encoder = api.CKKSEncoder(self.seal)
        self._levels, data = dict[tuple[int, ...], int](), self.seal.first_context_data()
        while data is not None:
            self._levels[tuple(data.parms_id())] = data.chain_index()
            data = data.next_context_data()
        self._ids = {level: list(name) for name, level in self._levels.items()}

    def encode(self, slots: Slots, level: int, scale: float) -> Plaintext:
        held = self.api.Plaintext()
        values = slots.tolist() if slots.imag.any() else slots.real.tolist()
        self.encoder.encode(values, self._ids[level], scale, held)
        return Plaintext(self.parameters, level, scale, held)

    def ciphertext(self, owner: str, held: Any) -> Ciphertext:
        level = self._levels[tuple(held.parms_id())]
        return Ciphertext(owner, level, held.scale, held.size(), held)

    def element(self, step: int) -> int:
        """The Galois element of a rotation: create_galois_keys takes these, not steps."""
        return pow(3, step, 2 * self.parameters.degree)

    def loaded(self, empty: Any, payload: bytes) -> Any:
        """A SEAL object from the bytes it was saved as; SEAL checks that it fits the context."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "held"
            path.touch(0o600)
            path.write_bytes(payload)
            try:
                empty.load(self.seal, str(path))
            except (ValueError, RuntimeError) as error:
                raise ArgumentError("SEAL cannot read what this file holds") from error
        return empty


def _dumped(held: Any) -> bytes:
    """A SEAL object as bytes. It can be saved to a file alone: one in a folder that is ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "held"
        held.save(str(path))
        return path.read_bytes()


def _refusal(error: Exception) -> EinloomError:
    """SEAL's own refusal, of which none but one should get past the rules."""
    if "transparent" in str(error):
        return rules.transparent()
    return SlotError(f"SEAL refuses: {error}")


class _SealEncoder(Encoder):
    """Encodes through SEAL."""

    def __init__(self, context: _Context, *rest: Any) -> None:
        self._context = context
        self.label = f"Microsoft SEAL{context.parameters.warning}"
        super().__init__(context.parameters, *rest)

    def _encode(self, slots: Slots, level: int, scale: float) -> Plaintext:
        try:
            return self._context.encode(slots, level, scale)
        except (ValueError, RuntimeError) as error:
            if "too large" in str(error):
                raise rules.too_large(self.parameters, level, scale) from error
            raise _refusal(error) from error

    def _knows(self, payload: object) -> bool:
        return isinstance(payload, self._context.api.Plaintext | _Keys)


class SealClient(_SealEncoder, BaseClient):
    """Holds a secret key of SEAL's."""

    def __init__(self, context: _Context, owner: str, maker: Any) -> None:
        super().__init__(context, owner)
        api, self._maker = context.api, maker
        public = api.PublicKey()
        maker.create_public_key(public)
        self._encryptor = api.Encryptor(context.seal, public)

    @cached_property
    def _decryptor(self) -> Any:
        return self._context.api.Decryptor(self._context.seal, self._maker.secret_key())

    def _evaluation_keys(self, steps: frozenset[int], relinearization: bool) -> EvaluationKeys:
        relin = galois = None
        if relinearization:
            relin = self._context.api.RelinKeys()
            self._maker.create_relin_keys(relin)
        if steps:
            galois = self._context.api.GaloisKeys()
            elements = [self._context.element(step) for step in sorted(steps)]
            self._maker.create_galois_keys(elements, galois)
        payload = _Keys(relin, galois)
        return EvaluationKeys(self._owner, self.parameters, relinearization, steps, payload)

    def _encrypt(self, plaintext: Plaintext) -> Ciphertext:
        held = self._context.api.Ciphertext()
        self._encryptor.encrypt(plaintext.payload, held)
        return self._context.ciphertext(self._owner, held)

    def _decrypt(self, ciphertext: Ciphertext) -> Slots:
        held = self._context.api.Plaintext()
        self._decryptor.decrypt(ciphertext.payload, held)
        return np.array(self._context.encoder.decode_complex(held), np.complex128)

    def save_secret_key(self, path: str | Path) -> None:
        """Write the secret key to a file that only its owner may read."""
        secret = _dumped(self._maker.secret_key())
        store.save_secret(path, NAME, self.parameters, self._owner, secret)


class SealEvaluator(_SealEncoder, BaseEvaluator):
    """SEAL's Evaluator, with evaluation keys and nothing secret."""

    def __init__(self, context: _Context, keys: EvaluationKeys) -> None:
        super().__init__(context, keys, NAME)
        self._seal = context.api.Evaluator(context.seal)
        held: _Keys = keys.payload
        self._relin, self._galois = held

    def _made(self, method: Any, a: Ciphertext, *rest: Any) -> Ciphertext:
        held = self._context.api.Ciphertext()
        try:
            method(a.payload, *rest, held)
        except (ValueError, RuntimeError) as error:
            raise _refusal(error) from error
        return self._context.ciphertext(a.owner, held)

    def _add(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        return self._made(self._seal.add, a, b.payload)

    def _sub(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        return self._made(self._seal.sub, a, b.payload)

    def _negate(self, a: Ciphertext) -> Ciphertext:
        return self._made(self._seal.negate, a)

    def _add_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        return self._made(self._seal.add_plain, a, b.payload)

    def _sub_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        return self._made(self._seal.sub_plain, a, b.payload)

    def _multiply(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        return self._made(self._seal.multiply, a, b.payload)

    def _square(self, a: Ciphertext) -> Ciphertext:
        return self._made(self._seal.square, a)

    def _multiply_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        return self._made(self._seal.multiply_plain, a, b.payload)

    def _relinearize(self, a: Ciphertext) -> Ciphertext:
        return self._made(self._seal.relinearize, a, self._relin)

    def _rescale(self, a: Ciphertext) -> Ciphertext:
        return self._made(self._seal.rescale_to_next, a)

    def _mod_switch(self, a: Ciphertext) -> Ciphertext:
        return self._made(self._seal.mod_switch_to_next, a)

    def _rotate(self, a: Ciphertext, step: int) -> Ciphertext:
        return self._made(self._seal.rotate_vector, a, step, self._galois)
