"""Exponentials and logarithms, softmax and log-sum-exp beside NumPy and torch.

All write into arrays that are there already, where a peer can. Softmax is a cascade of four
Einsums, as one writes it; NumPy's is that in whole arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import einloom as el
from einloom.ir.dtypes import as_dtype

from .measure import Row, Table, compare
from .peers import torch

FUNCTIONS = ("exp", "exp2", "log", "log1p")

SOFTMAX = """
  G[i]   = max[j] X[i,j]
  E[i,j] = exp(X[i,j] - G[i])
  S[i]   = E[i,j]
  Y[i,j] = E[i,j] / S[i]
"""


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


def softmax(rows: int, columns: int, dtype: str) -> Row:
    """The softmax of each row."""
    x: Any = np.random.default_rng(0).standard_normal((rows, columns)).astype(as_dtype(dtype).numpy)
    out = np.empty_like(x)
    f = el.compile(f"cascade f(X[I,J]: {dtype}) -> Y {{{SOFTMAX}}}")

    def numpys() -> None:
        powers = np.exp(x - x.max(1, keepdims=True))
        np.divide(powers, powers.sum(1, keepdims=True), out=out)

    contestants: dict[str, Callable[[], Any]] = {"einloom": lambda: f(x, out=out), "numpy": numpys}
    if library := torch():
        tensor = library.from_numpy(x)
        other = library.empty_like(tensor)
        contestants["torch"] = lambda: library.softmax(tensor, 1, out=other)
    return compare(f"softmax of {rows} x {columns} {dtype}", contestants, seconds=0.5)


def log_sum(rows: int, columns: int, dtype: str) -> Row:
    """The logarithm of the sum of the exponentials of each row."""
    x: Any = np.random.default_rng(0).standard_normal((rows, columns)).astype(as_dtype(dtype).numpy)
    f = el.compile(f"cascade f(X[I,J]: {dtype}) -> Y {{ Y[i] = logaddexp[j] X[i,j] }}")

    def numpys() -> Any:
        largest = x.max(1)
        return np.log(np.exp(x - largest[:, None]).sum(1)) + largest

    contestants: dict[str, Callable[[], Any]] = {"einloom": lambda: f(x), "numpy": numpys}
    if library := torch():
        tensor = library.from_numpy(x)
        contestants["torch"] = lambda: library.logsumexp(tensor, 1)
    return compare(f"log-sum-exp of {rows} x {columns} {dtype}", contestants, seconds=0.5)


def tables(quick: bool) -> Sequence[Table]:
    """The functions, and what rows are reduced by."""
    dtypes = ("f32",) if quick else ("f32", "f64")
    count, sizes = (1024, [(16, 64)]) if quick else (16384, [(4096, 64), (256, 1024), (64, 16384)])
    functions = [function(name, dtype, count) for dtype in dtypes for name in FUNCTIONS]
    rows = [row(*size, dtype) for dtype in dtypes for row in (softmax, log_sum) for size in sizes]
    return [Table("functions of each element", "us", functions), Table("rows", "us", rows)]
