"""Cascades of several Einsums, as one writes them, beside NumPy and torch.

Softmax, log-sum-exp and attention: NumPy's go in whole arrays, torch's are kernels written for
them, called by name. All write into arrays that are there already, where a peer can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import einloom as el
from einloom.ir.dtypes import as_dtype

from .measure import Row, Table, compare
from .peers import torch

SOFTMAX = """
  G[i]   = max[j] X[i,j]
  E[i,j] = exp(X[i,j] - G[i])
  S[i]   = E[i,j]
  Y[i,j] = E[i,j] / S[i]
"""

ATTENTION = """
cascade attention(Q[B,M,D]: f32, K[B,N,D]: f32, V[B,N,F]: f32) -> O {
  S[b,m,n] = Q[b,m,d] * K[b,n,d]
  G[b,m]   = max[n] S[b,m,n]
  E[b,m,n] = exp(S[b,m,n] - G[b,m])
  L[b,m]   = E[b,m,n]
  P[b,m,n] = E[b,m,n] / L[b,m]
  O[b,m,f] = P[b,m,n] * V[b,n,f]
}
"""


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


def attention(heads: int, length: int, depth: int) -> Row:
    """Textbook attention: queries, keys and values of so many heads, not scaled."""
    rng = np.random.default_rng(0)
    q, k, v = (
        (rng.standard_normal((heads, length, depth)) * 0.3).astype(np.float32) for _ in range(3)
    )
    f = el.compile(ATTENTION)

    def numpys() -> Any:
        scores = q @ k.transpose(0, 2, 1)
        powers = np.exp(scores - scores.max(2, keepdims=True))
        return (powers / powers.sum(2, keepdims=True)) @ v

    contestants: dict[str, Callable[[], Any]] = {"einloom": lambda: f(q, k, v), "numpy": numpys}
    if library := torch():
        # torch has its fused kernel for a batch in front, if of one, and a slow way without.
        given = [library.from_numpy(x)[None] for x in (q, k, v)]
        attend = library.nn.functional.scaled_dot_product_attention
        contestants["torch"] = lambda: attend(*given, scale=1.0)
    return compare(f"attention of {heads} x {length} x {depth} f32", contestants, seconds=2)


def tables(quick: bool) -> Sequence[Table]:
    """What rows are reduced by, and attention."""
    dtypes = ("f32",) if quick else ("f32", "f64")
    sizes = (
        [(16, 64)]
        if quick
        else [
            *((4096, 64), (256, 1024), (64, 16384)),
            *((32768, 512), (4096, 4096), (4, 1 << 22)),
        ]
    )
    rows = [row(*size, dtype) for dtype in dtypes for row in (softmax, log_sum) for size in sizes]
    heads = [attention(2, 64, 16)] if quick else [attention(8, 512, 64), attention(8, 2048, 64)]
    return [Table("rows", "us", rows), Table("attention", "ms", heads)]
