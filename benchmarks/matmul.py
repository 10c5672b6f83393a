"""Matmul beside OpenBLAS (`np.matmul`) and NumPy's own loops (`np.einsum`, not optimised).

All write into an output that is there already, in C order. A layout names the orders of the two
operands: C, or F where one is stored by columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import einloom as el

from .measure import Row, Table, compare

BLAS = ("f4", "f8", "c8", "c16")
OTHERS = ("i1", "i4", "i8", "f2", "?")


def line(n: int, dtype: str, layout: str) -> Row:
    """One size, dtype and layout; without those of NumPy's loops that would take minutes."""
    a, b = (matrix(n, dtype, order) for order in layout)
    out = np.empty((n, n), dtype)
    contestants: dict[str, Callable[[], Any]] = {
        "einloom": lambda: el.einsum("ij,jk->ik", a, b, out=out),
    }
    if dtype in BLAS or n <= 256:
        contestants["np.matmul"] = lambda: np.matmul(a, b, out=out)
    if n <= 512:
        contestants["np.einsum"] = lambda: np.einsum("ij,jk->ik", a, b, out=out)
    return compare(f"{n}³ {np.dtype(dtype).name} {layout}", contestants, seconds=0.5)


def matrix(n: int, dtype: str, order: str) -> Any:
    """A full matrix, stored by rows (C) or by columns (F)."""
    values = (np.random.default_rng(0).random((n, n)) * 4).astype(dtype)
    return np.asfortranarray(values) if order == "F" else values


def tables(quick: bool) -> Sequence[Table]:
    """One table: sizes in f32 and f64, then layouts, then dtypes."""
    sizes = (64, 256) if quick else (64, 128, 256, 512, 1024)
    rows = [line(n, dtype, "CC") for dtype in ("f4", "f8") for n in sizes]
    rows += [line(n, "f4", layout) for n in sizes[:3] for layout in ("CF", "FC", "FF")]
    rows += [line(256, dtype, "CC") for dtype in (*BLAS[2:], *OTHERS)]
    return [Table("matmul", "us", rows)]
