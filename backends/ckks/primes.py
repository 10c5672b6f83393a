"""NTT primes: q ≡ 1 mod 2N, so that a ring of degree N has all its roots of unity modulo q."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...ir.errors import ArgumentError

# Deterministic for every n < 3.3e24 (Sorenson and Webster, 2015), far above 64 bits.
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def is_prime(n: int) -> bool:
    """Whether n < 2^64 is prime (Miller-Rabin with enough witnesses to be exact)."""
    if n < 2:
        return False
    for witness in _WITNESSES:
        if n % witness == 0:
            return n == witness
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(n, witness, odd, twos) for witness in _WITNESSES)


def _passes(n: int, witness: int, odd: int, twos: int) -> bool:
    power = pow(witness, odd, n)
    if power in (1, n - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % n
        if power == n - 1:
            return True
    return False


def ntt_primes(degree: int, bits: Sequence[int]) -> tuple[int, ...]:
    """Different primes ≡ 1 mod 2·degree of the given sizes, the same as SEAL would take.

    The largest of a size are used, and the smallest of those comes first: SEAL's
    `CoeffModulus::Create`.

    Raises:
        ArgumentError: there are not so many primes of a size.
    """
    found = {size: _largest(2 * degree, size, count) for size, count in Counter(bits).items()}
    return tuple(found[size].pop() for size in bits)


def _largest(factor: int, bits: int, count: int) -> list[int]:
    primes: list[int] = []
    value = ((1 << bits) - 1) // factor * factor + 1
    while len(primes) < count:
        if value <= 1 << (bits - 1):
            raise ArgumentError(
                f"there are only {len(primes)} primes of {bits} bits that are 1 mod {factor}",
                passed=(f"{count} primes of {bits} bits are asked for",),
                hint="take larger primes, or a smaller ring degree",
            )
        if is_prime(value):
            primes.append(value)
        value -= factor
    return primes
