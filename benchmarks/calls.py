"""What a repeated call costs: small matmuls, whose arithmetic is little beside the call itself.

Each time includes what calling the contestant's lambda costs, some 20 to 40 ns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import einloom as el

from .measure import Row, Table, compare


def line(n: int) -> Row:
    """A matmul of two n x n matrices in f32, each call after the first."""
    a, b = np.random.default_rng(0).random((2, n, n), "f4")
    out = np.empty((n, n), "f4")
    f = el.compile("ij,jk->ik")
    contestants = {
        "el.compile": lambda: f(a, b),
        "el.compile out=": lambda: f(a, b, out=out),
        "el.einsum": lambda: el.einsum("ij,jk->ik", a, b),
        "el.einsum out=": lambda: el.einsum("ij,jk->ik", a, b, out=out),
        "np.einsum": lambda: np.einsum("ij,jk->ik", a, b),
        "np.matmul": lambda: np.matmul(a, b),
    }
    return compare(f"{n}² f32", contestants, ours=4)


def tables(quick: bool) -> Sequence[Table]:
    """One table, a line for each size."""
    sizes = (4, 16) if quick else (4, 8, 16, 32, 64)
    return [Table("one call", "us", [line(n) for n in sizes])]
