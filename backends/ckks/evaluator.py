"""What both engines' clients and evaluators share: rules are checked and operations counted once.

An engine supplies the operations that begin with an underscore; they get operands that keep the
rules, and read the level, scale and size of a result off the result itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NoReturn

from numpy.typing import ArrayLike

from . import rules
from .counts import Counts
from .engine import Ciphertext, EvaluationKeys, Plaintext, Slots, Steps
from .params import Parameters
from .rotations import powers_of_two, route


class Encoder(ABC):
    """Turns vectors into plaintexts."""

    #: What is printed of the engine wherever anything is.
    label: str

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    @property
    def parameters(self) -> Parameters:
        """Ring, primes and scale."""
        return self._parameters

    def encode(
        self, values: ArrayLike, *, level: int | None = None, scale: float | None = None
    ) -> Plaintext:
        """Values, real or complex, at most N/2; by default at the top level and the usual scale.

        Raises:
            SlotError: too many values, not finite, or too large for the level.
            LevelError: there is no such level, or the scale does not fit it.
        """
        level = self.parameters.top_level if level is None else level
        scale = self.parameters.scale if scale is None else float(scale)
        rules.level_exists(self.parameters, level)
        slots = rules.slots_of(self.parameters, values)
        rules.encoding_scale(self.parameters, level, scale)
        rules.transformable(self.parameters, level, scale, slots)
        return self._encode(slots, level, scale)

    @abstractmethod
    def _encode(self, slots: Slots, level: int, scale: float) -> Plaintext: ...

    @abstractmethod
    def _knows(self, payload: object) -> bool:
        """Whether a payload is this engine's own."""


class BaseClient(Encoder):
    """The rules of a client."""

    def __init__(self, parameters: Parameters, owner: str) -> None:
        super().__init__(parameters)
        self._owner = owner

    def __repr__(self) -> str:
        return f"<client {self._owner}: {self.label}>"

    def __reduce__(self) -> NoReturn:
        raise rules.no_copy()

    @property
    def owner(self) -> str:
        """The public name of these keys."""
        return self._owner

    def evaluation_keys(self, steps: Steps = (), *, relinearization: bool = True) -> EvaluationKeys:
        """Keys for relinearisation and for rotations by the steps, taken modulo the slots.

        Raises:
            OperandError: a step is no whole number.
        """
        slots = self.parameters.slots
        asked = powers_of_two(slots) if steps == "powers-of-two" else steps
        wanted = frozenset(step % slots for step in rules.whole_steps(asked)) - {0}
        return self._evaluation_keys(wanted, relinearization)

    def encrypt(self, plaintext: Plaintext) -> Ciphertext:
        """A fresh ciphertext at the plaintext's level and scale."""
        rules.encoded_for(self.parameters, plaintext, self._knows(plaintext.payload))
        return self._encrypt(plaintext)

    def decrypt(self, ciphertext: Ciphertext) -> Slots:
        """All N/2 slots; what nothing was stored in holds noise.

        Raises:
            SlotError: the ciphertext is under other keys.
        """
        rules.owned(self._owner, (ciphertext,))
        rules.decodable(self.parameters, ciphertext)
        return self._decrypt(ciphertext)

    @abstractmethod
    def _evaluation_keys(self, steps: frozenset[int], relinearization: bool) -> EvaluationKeys: ...

    @abstractmethod
    def _encrypt(self, plaintext: Plaintext) -> Ciphertext: ...

    @abstractmethod
    def _decrypt(self, ciphertext: Ciphertext) -> Slots: ...


class BaseEvaluator(Encoder):
    """The rules and the counting of an evaluator."""

    #: Whether rotations of one ciphertext share its decomposition.
    hoists = False

    def __init__(self, parameters: Parameters, keys: EvaluationKeys, engine: str) -> None:
        super().__init__(parameters)
        rules.fits(parameters, keys, engine, self._knows(keys.payload))
        self._keys = keys
        self.counts = Counts(key_bytes=keys.bytes, engine=self.label)

    def __repr__(self) -> str:
        return f"<evaluator for {self._keys.owner}: {self.label}>"

    def encode(
        self, values: ArrayLike, *, level: int | None = None, scale: float | None = None
    ) -> Plaintext:
        """As for every encoder, and counted."""
        plaintext = super().encode(values, level=level, scale=scale)
        self.counts.encodes += 1
        return plaintext

    def add(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """a + b."""
        self._alike("add", a, b)
        result = self._add(a, b)
        self.counts.adds += 1
        return result

    def sub(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """a - b."""
        self._alike("sub", a, b)
        result = self._sub(a, b)
        self.counts.adds += 1
        return result

    def negate(self, a: Ciphertext) -> Ciphertext:
        """-a."""
        self._owned(a)
        result = self._negate(a)
        self.counts.negations += 1
        return result

    def add_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        """a + b."""
        self._with_plain("add_plain", a, b)
        rules.same_scale("add_plain", a, b)
        result = self._add_plain(a, b)
        self.counts.plain_adds += 1
        return result

    def sub_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        """a - b."""
        self._with_plain("sub_plain", a, b)
        rules.same_scale("sub_plain", a, b)
        result = self._sub_plain(a, b)
        self.counts.plain_adds += 1
        return result

    def multiply(self, a: Ciphertext, b: Ciphertext) -> Ciphertext:
        """a · b, of size 3."""
        self._owned(a, b)
        rules.same_level("multiply", a, b)
        rules.size_two("multiply", a)
        rules.size_two("multiply", b)
        rules.product_scale(self.parameters, a.level, a.scale, b.scale)
        result = self._multiply(a, b)
        self.counts.ct_mults += 1
        return result

    def square(self, a: Ciphertext) -> Ciphertext:
        """a · a, of size 3."""
        self._owned(a)
        rules.size_two("square", a)
        rules.product_scale(self.parameters, a.level, a.scale, a.scale)
        result = self._square(a)
        self.counts.squares += 1
        return result

    def multiply_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext:
        """a · b."""
        self._with_plain("multiply_plain", a, b)
        rules.product_scale(self.parameters, a.level, a.scale, b.scale)
        result = self._multiply_plain(a, b)
        self.counts.pt_mults += 1
        return result

    def relinearize(self, a: Ciphertext) -> Ciphertext:
        """The same at size 2; a ciphertext of size 2 is given back as it is."""
        self._owned(a)
        if a.size == 2:
            return a
        rules.can_relinearize(self._keys)
        result = self._relinearize(a)
        self.counts.relinearizations += 1
        self.counts.key_switches += 1
        return result

    def rescale(self, a: Ciphertext) -> Ciphertext:
        """One level down, the scale divided by that level's prime."""
        self._owned(a)
        rules.one_below("rescale", a)
        result = self._rescale(a)
        self.counts.rescales += 1
        return result

    def mod_switch(self, a: Ciphertext) -> Ciphertext:
        """One level down at the same scale."""
        self._owned(a)
        rules.one_below("mod_switch", a)
        rules.switched_scale(self.parameters, a)
        result = self._mod_switch(a)
        self.counts.mod_switches += 1
        return result

    def rotate(self, a: Ciphertext, step: int) -> Ciphertext:
        """Left by `step`, modulo the slots; by 0 it is `a` itself."""
        return self.rotate_many(a, (step,))[0]

    def rotate_many(self, a: Ciphertext, steps: Iterable[int]) -> tuple[Ciphertext, ...]:
        """`a` rotated by each step; the keys that serve it directly share one decomposition."""
        self._owned(a)
        slots = self.parameters.slots
        wanted = [step % slots for step in rules.whole_steps(steps)]
        if any(wanted):
            rules.size_two("rotate", a)
        routes = {k: route(k, self._keys.steps, slots) for k in wanted if k}
        done = {0: a}
        for step, parts in routes.items():
            turned = a
            for part in parts:
                turned = self._rotate(turned, part)
            done[step] = turned
            self.counts.rotations[step] += 1
            self.counts.key_switches += len(parts)
        direct = sum(len(parts) == 1 for parts in routes.values())
        if self.hoists and direct > 1:
            self.counts.hoisted += direct - 1
        return tuple(done[k] for k in wanted)

    def _owned(self, *operands: Ciphertext) -> None:
        rules.owned(self._keys.owner, operands)

    def _alike(self, operation: str, a: Ciphertext, b: Ciphertext) -> None:
        self._owned(a, b)
        rules.same_level(operation, a, b)
        rules.same_scale(operation, a, b)

    def _with_plain(self, operation: str, a: Ciphertext, b: Plaintext) -> None:
        self._owned(a)
        rules.encoded_for(self.parameters, b, self._knows(b.payload))
        rules.same_level(operation, a, b)

    @abstractmethod
    def _add(self, a: Ciphertext, b: Ciphertext) -> Ciphertext: ...

    @abstractmethod
    def _sub(self, a: Ciphertext, b: Ciphertext) -> Ciphertext: ...

    @abstractmethod
    def _negate(self, a: Ciphertext) -> Ciphertext: ...

    @abstractmethod
    def _add_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext: ...

    @abstractmethod
    def _sub_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext: ...

    @abstractmethod
    def _multiply(self, a: Ciphertext, b: Ciphertext) -> Ciphertext: ...

    @abstractmethod
    def _square(self, a: Ciphertext) -> Ciphertext: ...

    @abstractmethod
    def _multiply_plain(self, a: Ciphertext, b: Plaintext) -> Ciphertext: ...

    @abstractmethod
    def _relinearize(self, a: Ciphertext) -> Ciphertext: ...

    @abstractmethod
    def _rescale(self, a: Ciphertext) -> Ciphertext: ...

    @abstractmethod
    def _mod_switch(self, a: Ciphertext) -> Ciphertext: ...

    @abstractmethod
    def _rotate(self, a: Ciphertext, step: int) -> Ciphertext: ...
