"""Products of matrices in every dtype and semiring beside NumPy and torch, where they have them.

einloom writes into an output that is there already. Where NumPy has no such product it is made of
what it has: the sum in a wider type by `np.matmul`, other semirings row by row with whole-array
operators, products of bits by BLAS in f32, their parity taken after. torch has matmul alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import einloom as el
from einloom.ir.dtypes import as_dtype

from .measure import Row, Table, compare
from .peers import torch


@dataclass(frozen=True)
class Case:
    """A product: operands' dtypes, the dtype it is summed and stored in, the semiring."""

    left: str
    right: str
    out: str
    ring: str = "sum_product"

    @property
    def name(self) -> str:
        ring = "" if self.ring == "sum_product" else f" {self.ring}"
        return f"{self.left} * {self.right} -> {self.out}{ring}"


CASES = (
    *(Case(name, name, name) for name in ("i8", "u8", "i16", "i32", "i64", "u32")),
    *(Case("i8", "i8", "i32"), Case("u8", "i8", "i32"), Case("u8", "u8", "u32")),
    *(Case("i16", "i16", "i32"), Case("f16", "f16", "f16"), Case("f16", "f16", "f32")),
    *(Case("bf16", "bf16", "bf16"), Case("bf16", "bf16", "f32"), Case("f32", "f32", "f32")),
    *(Case("f64", "f64", "f64"), Case("c64", "c64", "c64"), Case("c128", "c128", "c128")),
    *(Case("bool", "bool", "bool"), Case("bool", "bool", "bool", "xor_and")),
    *(Case("f32", "f32", "f32", ring) for ring in ("max_plus", "min_plus", "max_times", "log")),
    *(Case("f64", "f64", "f64", "max_plus"), Case("f64", "f64", "f64", "log")),
    *(Case("i32", "i32", "i32", "max_plus"), Case("i32", "i32", "i32", "counting")),
)


def line(case: Case, size: int) -> Row:
    """One product of square matrices."""
    rng = np.random.default_rng(0)
    a, b = (operand(rng, name, size) for name in (case.left, case.right))
    over = "" if case.ring == "sum_product" else f" over {case.ring}"
    f = el.compile(
        f"cascade product(A[I,J]: {case.left}, B[J,K]: {case.right}) -> Y "
        f"{{ Y[i,k]: {case.out} = A[i,j] * B[j,k]{over} }}"
    )
    out = np.empty((size, size), as_dtype(case.out).numpy)
    contestants: dict[str, Callable[[], Any]] = {"einloom": lambda: f(a, b, out=out)}
    contestants["numpy"] = numpys(case, a, b, out)
    contestants |= torchs(case, a, b)
    return compare(f"{size}³ {case.name}", contestants, seconds=0.5)


def operand(rng: np.random.Generator, name: str, size: int) -> Any:
    """A full matrix; integers over their whole range."""
    dtype: Any = as_dtype(name).numpy
    if name == "bool":
        return rng.random((size, size)) < 0.01
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, (size, size), dtype)
    return rng.standard_normal((size, size)).astype(dtype)


def numpys(case: Case, a: Any, b: Any, out: Any) -> Callable[[], Any]:
    """The quickest that NumPy has for it."""
    if case.ring == "xor_and":
        return lambda: (a.astype("f4") @ b.astype("f4")).astype("i4") & 1
    if case.left in ("f16", "bf16"):
        return lambda: (a.astype("f4") @ b.astype("f4")).astype(out.dtype)
    if case.ring in ("sum_product", "counting"):
        return lambda: np.matmul(a, b, out=out, dtype=out.dtype, casting="unsafe")
    add, mul = {
        "max_plus": (np.maximum, np.add),
        "min_plus": (np.minimum, np.add),
        "max_times": (np.maximum, np.multiply),
        "log": (np.logaddexp, np.add),
    }[case.ring]

    def by_rows() -> None:
        for row, found in zip(a, out, strict=True):
            add.reduce(mul(row[:, None], b), axis=0, out=found)

    return by_rows


def torchs(case: Case, a: Any, b: Any) -> dict[str, Callable[[], Any]]:
    """torch's own product, where it has one."""
    same = case.left == case.right == case.out
    bytes_to_i32 = case.name == "i8 * i8 -> i32"
    if case.ring not in ("sum_product", "counting") or not (same or bytes_to_i32):
        return {}
    if case.left in ("bool", "u32"):
        return {}
    library = torch()
    if library is None:
        return {}
    if case.left == "bf16":
        x, y = (library.from_numpy(v.view("i2")).view(library.bfloat16) for v in (a, b))
    else:
        x, y = library.from_numpy(a), library.from_numpy(b)
    if bytes_to_i32:
        return {"torch": lambda: library._int_mm(x, y)}
    return {"torch": lambda: library.mm(x, y)}


def tables(quick: bool) -> Sequence[Table]:
    """One table of all cases in each size."""
    sizes = (128,) if quick else (512, 1024)
    return [Table(f"{size}³", "ms", [line(case, size) for case in CASES]) for size in sizes]
