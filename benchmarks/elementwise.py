"""Exponentials and logarithms beside NumPy and torch; all write into arrays that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import einloom as el
from einloom.ir.dtypes import as_dtype

from .measure import Row, Table, compare
from .peers import torch

FUNCTIONS = ("exp", "exp2", "log", "log1p", "tanh")


def function(name: str, dtype: str, count: int) -> Row:
    """A function of each element of an array that stays in a cache."""
    x: Any = np.random.default_rng(0).random(count).astype(as_dtype(dtype).numpy)
    out = np.empty_like(x)
    f = el.compile(f"cascade f(X[I]: {dtype}) -> Y {{ Y[i] = {name}(X[i]) }}")
    contestants: dict[str, Callable[[], Any]] = {
        "einloom": lambda: f(x, out=out),
        "numpy": lambda: getattr(np, name)(x, out=out),
    }
    if library := torch():
        tensor = library.from_numpy(x)
        other = library.empty_like(tensor)
        contestants["torch"] = lambda: getattr(library, name)(tensor, out=other)
    return compare(f"{name}, {count} {dtype}", contestants, seconds=0.5)


def tables(quick: bool) -> Sequence[Table]:
    """The functions."""
    dtypes, count = (("f32",), 1024) if quick else (("f32", "f64"), 16384)
    functions = [function(name, dtype, count) for dtype in dtypes for name in FUNCTIONS]
    return [Table("functions of each element", "us", functions)]
