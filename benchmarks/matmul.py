"""Matmul beside OpenBLAS (`np.matmul`) and NumPy's own loops (`np.einsum`, not optimised).

All write into an output that is there already, in C order. A layout names the orders of the two
operands: C, or F where one is stored by columns. Sizes are rows x summed x columns; the ragged ones
are no multiple of a vector or of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

import einloom as el

from .limits import shortest
from .measure import Row, Table, compare

BLAS = ("f4", "f8", "c8", "c16")
OTHERS = ("i1", "i4", "i8", "f2", "?")
RAGGED = ((67, 65, 71), (129, 64, 193), (255, 257, 259), (1001, 999, 1003))

Sizes: TypeAlias = tuple[int, int, int]


def line(sizes: Sizes, dtype: str, layout: str) -> Row:
    """One size, dtype and layout; without those of NumPy's loops that would take minutes."""
    m, k, n = sizes
    a, b = matrix(m, k, dtype, layout[0]), matrix(k, n, dtype, layout[1])
    out = np.empty((m, n), dtype)
    contestants: dict[str, Callable[[], Any]] = {
        "einloom": lambda: el.einsum("ij,jk->ik", a, b, out=out),
    }
    if dtype in BLAS or n < 300:
        contestants["np.matmul"] = lambda: np.matmul(a, b, out=out)
    contestants["np.einsum"] = lambda: np.einsum("ij,jk->ik", a, b, out=out)
    size = f"{n}³" if m == k == n else f"{m} x {k} x {n}"
    row = compare(f"{size} {np.dtype(dtype).name} {layout}", contestants, seconds=0.5)
    if dtype in ("f4", "f8"):
        least = shortest(2 * m * k * n, a.nbytes + b.nbytes, out.nbytes, dtype)
        return replace(row, ratios={**row.ratios, "of the limit": least / row.seconds["einloom"]})
    return row


def matrix(rows: int, columns: int, dtype: str, order: str) -> Any:
    """A full matrix, stored by rows (C) or by columns (F)."""
    values = (np.random.default_rng(0).random((rows, columns)) * 4).astype(dtype)
    return np.asfortranarray(values) if order == "F" else values


def tables(quick: bool) -> Sequence[Table]:
    """One table: sizes in f32 and f64, ragged ones too, then layouts, then dtypes."""
    sizes = (64, 256) if quick else (64, 128, 256, 512, 1024)
    rows = [line((n, n, n), dtype, "CC") for dtype in ("f4", "f8") for n in sizes]
    ragged = RAGGED[:2] if quick else RAGGED
    rows += [line(shape, dtype, "CC") for dtype in ("f4", "f8") for shape in ragged]
    rows += [line((n, n, n), "f4", layout) for n in sizes[:3] for layout in ("CF", "FC", "FF")]
    rows += [line((256, 256, 256), dtype, "CC") for dtype in (*BLAS[2:], *OTHERS)]
    return [Table("matmul", "us", rows)]
