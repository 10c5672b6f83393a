"""Tags: 64-bit numbers that stand for the random part of a ciphertext.

They add and subtract as it does, so that one tells when it cancels and the result is no longer
encrypted ("transparent"); and they seed the noise of key switches and rescales, which in CKKS too
is a function of the ciphertext.
"""

from __future__ import annotations

import numpy as np

from .embedding import Reals

MASK = 2**64 - 1
#: Kinds of operations: they keep apart the tags of what is made from one ciphertext.
RESCALE, RELINEARIZE, ROTATE, MULTIPLY = range(1, 5)


def of(coefficients: Reals) -> int:
    """0 for the zero polynomial; else odd, so that it cancels no ciphertext's tag."""
    if not coefficients.any():
        return 0
    weights = np.arange(1, 2 * len(coefficients), 2, dtype=np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    return int((coefficients.view(np.uint64) * weights).sum(dtype=np.uint64)) | 1


def mixed(a: int, b: int, kind: int) -> int:
    """A tag that stands for an operation on what the tags a and b stand for; never 0."""
    mixed = (a * 0x9E3779B97F4A7C15 + b * 0xBF58476D1CE4E5B9 + kind * 0x94D049BB133111EB) & MASK
    mixed ^= mixed >> 31
    mixed = mixed * 0xD6E8FEB86659FD93 & MASK
    return mixed ^ mixed >> 29 or 1
