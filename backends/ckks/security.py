"""How many bits a modulus may have before a ring of a given degree no longer hides the secret."""

from __future__ import annotations

#: Ring degree -> most bits of the whole modulus, special prime included, for 128-bit classical
#: security with a ternary secret: HomomorphicEncryption.org standard, 2018. SEAL refuses by it.
STANDARD_2018 = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}

#: The same by the newer estimates of https://ia.cr/2024/463: stricter, and for larger rings.
ESTIMATE_2024 = {
    1024: 26,
    2048: 53,
    4096: 106,
    8192: 214,
    16384: 430,
    32768: 868,
    65536: 1747,
    131072: 3523,
}

#: What is enforced: the standard where it speaks, as in SEAL; the newer estimate above it.
BUDGET = {**ESTIMATE_2024, **STANDARD_2018}


def budget(degree: int) -> int:
    """The most bits of a modulus at 128 bits of security; 0 for a degree that is not listed."""
    return BUDGET.get(degree, 0)
