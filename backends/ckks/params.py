"""The parameters of a CKKS instance: ring, primes and scale, within a security budget."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ...ir.errors import ArgumentError, OperandError
from .primes import is_prime, ntt_primes
from .security import ESTIMATE_2024, budget

#: SEAL's largest prime, in bits, and its longest chain, the special prime included.
MOST_BITS, MOST_PRIMES = 60, 256
_DEGREES = tuple(2**k for k in range(3, 18))
#: The largest of N/2 Gaussian slots is within so many bits of their standard deviation.
_TAIL_BITS = 3
#: A special prime so many bits above the others makes a key switch no noisier than a rescale, on
#: any slot; with fewer, down to the least, a few slots get more.
_SPECIAL_BITS, _LEAST_SPECIAL_BITS = 10, 4


@dataclass(frozen=True, slots=True)
class Parameters:
    """Ring Z[X]/(X^N + 1), its chain of primes, and the scale that values are encoded at.

    A ciphertext at level l is modulo primes[0]·...·primes[l]; a rescale at level l divides by
    primes[l]. The special prime is in the keys alone, and takes the noise of a key switch away.

    Args:
        degree: N, a power of two; there are N/2 slots.
        primes: q_0, ..., q_L, different primes ≡ 1 mod 2N of at most 60 bits.
        special: the special prime P, another such prime.
        scale: Δ, the factor that values are encoded with unless another is asked for.
        insecure: allows a modulus over the budget of 128-bit security.

    Raises:
        ArgumentError: a prime does not fit, or the modulus is over the budget.
        OperandError: `insecure` is no bool.
    """

    degree: int
    primes: tuple[int, ...]
    special: int
    scale: float
    insecure: bool = False

    def __post_init__(self) -> None:
        insecure: object = self.insecure
        if not isinstance(insecure, bool):
            raise OperandError(f"insecure= is True or False, not {insecure!r}")
        if self.degree not in _DEGREES:
            raise ArgumentError(
                f"the ring degree {self.degree} is not a power of two from 8 to {_DEGREES[-1]}"
            )
        chain = (*self.primes, self.special)
        if not self.primes:
            raise ArgumentError("a chain needs a prime besides the special one")
        if len(chain) > MOST_PRIMES:
            raise ArgumentError(f"a chain has {MOST_PRIMES} primes at most, not {len(chain)}")
        if len(set(chain)) != len(chain):
            raise ArgumentError("the primes of a chain must differ", passed=_listed(chain))
        for q in chain:
            if q.bit_length() > MOST_BITS or q % (2 * self.degree) != 1 or not is_prime(q):
                raise ArgumentError(
                    f"{q} is not a prime of at most {MOST_BITS} bits that is 1 mod 2N",
                    passed=(f"N = {self.degree}",),
                    hint="Parameters.create takes sizes in bits and finds the primes",
                )
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ArgumentError(f"the scale {self.scale} is not a positive number")
        if not self.secure and not self.insecure:
            raise ArgumentError(
                f"a modulus of {self.bits} bits is over the budget of 128-bit security",
                deduced=(f"N = {self.degree} allows {budget(self.degree)} bits",),
                passed=_listed(chain),
                hint="use a larger ring degree or fewer levels; insecure=True for experiments",
            )

    @classmethod
    def create(
        cls,
        degree: int,
        bits: Sequence[int],
        *,
        scale: float | None = None,
        insecure: bool = False,
    ) -> Parameters:
        """Parameters from the sizes of their primes in bits: q_0, ..., q_L, then the special one.

        The primes are those that SEAL's `CoeffModulus::Create` takes. The scale is 2 to the size of
        the second prime (of the first, if there is no second) unless it is given.

        >>> Parameters.create(8192, [60, 40, 40, 60]).primes
        (1152921504606748673, 1099510890497, 1099511480321)

        Raises:
            ArgumentError: as for the class; there are not enough primes of a size.
        """
        if len(bits) < 2:
            raise ArgumentError("a chain needs two primes or more: the last is the special one")
        for size in bits:
            if not 2 <= size <= MOST_BITS:
                raise ArgumentError(f"a prime has 2 to {MOST_BITS} bits, not {size}")
        if degree not in _DEGREES:
            raise ArgumentError(
                f"the ring degree {degree} is not a power of two from 8 to {_DEGREES[-1]}"
            )
        *primes, special = ntt_primes(degree, bits)
        if scale is None:
            scale = 2.0 ** bits[1 if len(bits) > 2 else 0]
        return cls(degree, tuple(primes), special, float(scale), insecure)

    @classmethod
    def choose(
        cls,
        *,
        slots: int,
        depth: int,
        precision: int = 20,
        magnitude: float = 1.0,
        insecure: bool = False,
    ) -> Parameters:
        """The smallest secure ring for `depth` rescales on at least `slots` slots.

        `precision` is the number of bits after the binary point that an operation's noise leaves
        right, for all slots; every value, on the way too, is at most `magnitude`. `insecure` takes
        the smallest ring with so many slots, whatever its security.

        >>> parameters = Parameters.choose(slots=4096, depth=2, precision=20)
        >>> parameters.slots, parameters.top_level
        (4096, 2)

        Raises:
            ArgumentError: no ring of a listed degree is large enough.
        """
        if slots < 1 or depth < 0 or precision < 1 or not 0 < magnitude < math.inf:
            raise ArgumentError(
                "slots, precision and magnitude must be positive, and depth not negative",
                passed=(f"slots={slots}, depth={depth}, precision={precision}", f"{magnitude=}"),
            )
        tried: list[str] = []
        hint = "ask for less precision, or scale the values down"
        for degree in _DEGREES:
            if degree < 2 * slots or not (insecure or budget(degree)):
                continue
            first, middle, special = _sizes(degree, depth, precision, magnitude)
            if special < first + _LEAST_SPECIAL_BITS:
                needed = first + _LEAST_SPECIAL_BITS
                tried.append(f"N = {degree}: a prime of {needed} bits, {MOST_BITS} are allowed")
                continue
            hint = "ask for less depth or precision, or cut the computation in two"
            total = first + depth * middle + special
            if total > budget(degree) and not insecure:
                tried.append(f"N = {degree}: {total} bits, {budget(degree)} are allowed")
                continue
            bits = [first, *[middle] * depth, special]
            return cls.create(degree, bits, scale=2.0**middle, insecure=insecure)
        raise ArgumentError(
            "no ring is large enough for such a depth and precision",
            deduced=tried,
            passed=(f"slots={slots}, depth={depth}, precision={precision}, {magnitude=}",),
            hint=hint,
        )

    @staticmethod
    def most_depth(precision: int = 20, insecure: bool = False) -> int:
        """The largest `depth` that the budget of bits of any ring allows, however many its slots.

        >>> Parameters.most_depth()
        75
        """
        if insecure:
            return MOST_PRIMES - 2
        depth, degree = 0, _DEGREES[-1]
        while True:
            first, middle, special = _sizes(degree, depth + 1, precision, 1.0)
            if first + (depth + 1) * middle + special > budget(degree):
                return depth
            depth += 1

    @property
    def slots(self) -> int:
        """N/2, how many complex values a ciphertext holds."""
        return self.degree // 2

    @property
    def top_level(self) -> int:
        """The level of a fresh ciphertext: how many rescales it allows."""
        return len(self.primes) - 1

    @property
    def bits(self) -> int:
        """The size of the whole modulus, special prime included."""
        return (math.prod(self.primes) * self.special).bit_length()

    @property
    def secure(self) -> bool:
        """Whether the modulus is within the budget of 128-bit security."""
        return self.bits <= budget(self.degree)

    @property
    def warning(self) -> str:
        """What is printed of an engine or a client wherever it is not secure; else nothing."""
        return "" if self.secure else ", NOT SECURE"

    def modulus_bits(self, level: int) -> int:
        """The size in bits of the modulus at a level: SEAL's total_coeff_modulus_bit_count."""
        return _prefix_bits(self.primes)[level]

    def log2_modulus(self, level: int) -> float:
        """log2 of the modulus at a level."""
        return _prefix_log2(self.primes)[level]

    @property
    def ciphertext_bytes(self) -> int:
        """The size of a fresh ciphertext in memory."""
        return 2 * len(self.primes) * self.degree * 8

    @property
    def switching_key_bytes(self) -> int:
        """The size in memory of one key: for relinearisation, or for one rotation step."""
        return 2 * len(self.primes) * (len(self.primes) + 1) * self.degree * 8

    def to_json(self) -> str:
        """The parameters as one line of JSON, from which `from_json` builds them again."""
        return json.dumps(
            {
                "degree": self.degree,
                "primes": self.primes,
                "special": self.special,
                "scale": self.scale.hex(),
                "insecure": self.insecure,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Parameters:
        """The parameters that `to_json` wrote.

        Raises:
            ArgumentError: the text is not of that form, or as for the class.
        """
        try:
            row = json.loads(text)
            degree, primes, special = int(row["degree"]), row["primes"], int(row["special"])
            scale, insecure = float.fromhex(row["scale"]), row["insecure"]
            if not isinstance(insecure, bool):
                raise TypeError
            chain = tuple(int(q) for q in primes)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ArgumentError("these are not CKKS parameters that einloom wrote") from error
        return cls(degree, chain, special, scale, insecure)

    @property
    def digest(self) -> str:
        """A SHA-256 of the parameters: keys and ciphertexts of other parameters do not fit."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __str__(self) -> str:
        allowed, newer = budget(self.degree), ESTIMATE_2024.get(self.degree)
        stricter = f"; newer estimates allow {newer}" if newer not in (None, allowed) else ""
        verdict = "128-bit security" if self.secure else "NOT SECURE"
        primes = " ".join(str(q.bit_length()) for q in self.primes)
        return "\n".join(
            (
                f"CKKS: N = {self.degree}, {self.slots} slots, levels {self.top_level} to 0",
                f"  primes: {primes} bits, special {self.special.bit_length()} bits",
                f"  modulus: {self.bits} bits of {allowed} allowed, {verdict}{stricter}",
                f"  scale: 2^{math.log2(self.scale):.4g}",
            )
        )


def _sizes(degree: int, depth: int, precision: int, magnitude: float) -> tuple[int, int, int]:
    """The bits of the first prime, of those that rescales drop, and of the special one."""
    # A rounding's error on a slot has the standard deviation N/(6 Δ): noise.py.
    noise = math.ceil(math.log2(degree / 6)) + _TAIL_BITS + math.ceil(math.log2(depth + 1))
    middle = max(precision + noise, (2 * degree).bit_length() + 4)
    first = middle + max(1, math.ceil(math.log2(magnitude)) + 1) + 1
    return first, middle, min(first + _SPECIAL_BITS, MOST_BITS)


def _listed(chain: Sequence[int]) -> tuple[str, ...]:
    return ("primes of " + ", ".join(str(q.bit_length()) for q in chain) + " bits",)


@lru_cache(maxsize=256)
def _prefix_bits(primes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(primes[: k + 1]).bit_length() for k in range(len(primes)))


@lru_cache(maxsize=256)
def _prefix_log2(primes: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(math.log2(math.prod(primes[: k + 1])) for k in range(len(primes)))
