"""Copies in another order of ranks beside NumPy's, and a plain copy of as many bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import einloom as el

from .measure import Row, Table, compare
from .peers import torch

CASES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("abcd->dcba", (64, 64, 64, 64)),
    ("abcd->cdab", (64, 64, 64, 64)),
    ("abcd->badc", (64, 64, 64, 64)),
    ("abcd->acbd", (64, 64, 64, 64)),
    ("abc->cba", (200, 210, 220)),
    ("abc->acb", (128, 256, 256)),
    ("ij->ji", (4096, 4096)),
    ("ij->ji", (1000, 1003)),
    ("ij->ji", (256, 256)),
    ("ij->ij", (4096, 4096)),
)


def line(subscripts: str, shape: Sequence[int], dtype: str) -> Row:
    """One copy into an output in C order that is there already."""
    given = np.random.default_rng(0).random(shape).astype(dtype)
    term, result = subscripts.split("->")
    axes = [term.index(name) for name in result]
    turned = given.transpose(axes)
    out = np.empty(turned.shape, dtype)
    flat: tuple[Any, Any] = out.reshape(-1), given.reshape(-1)
    f = el.compile(subscripts)
    contestants: dict[str, Callable[[], Any]] = {
        "einloom": lambda: f(given, out=out),
        "np.copyto": lambda: np.copyto(out, turned),
        "plain copy": lambda: np.copyto(*flat),
    }
    if library := torch():
        source, target = library.from_numpy(given).permute(axes), library.from_numpy(out)
        contestants["torch"] = lambda: target.copy_(source)
    size = " x ".join(map(str, shape))
    return compare(f"{subscripts} {size} {np.dtype(dtype).name}", contestants, seconds=1)


def tables(quick: bool) -> Sequence[Table]:
    """One table; quick: every size a quarter as large."""
    part = 4 if quick else 1
    rows = [
        line(subscripts, [extent // part for extent in shape], dtype)
        for dtype in ("f4", "f8")
        for subscripts, shape in CASES
    ]
    return [Table("permute", "us", rows)]
