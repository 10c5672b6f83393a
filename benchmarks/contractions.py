"""Contractions of two tensors beside NumPy, opt_einsum, torch and TBLIS: kinds of the tccg suite.

Springer and Bientinesi, "Design of a high-performance GEMM-like tensor-tensor multiplication", ACM
TOMS 44(3), 2018. All results in C order; what gives back another order is made contiguous.
Contestants that are not installed are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

import einloom as el

from .measure import Row, Table, compare

#: Subscripts and sizes; a size given once holds for every index.
CASES: tuple[tuple[str, str | int], ...] = (
    ("efbad,cf->abcde", "a48 b32 c24 d32 e48 f32"),
    ("dbea,ec->abcd", "a72 b72 c24 d72 e72"),
    ("dega,gfbc->abcdef", "a24 b16 c16 d24 e16 f16 g24"),
    ("aebf,dfce->abcd", 48),
    ("abcd,dbea->ec", 72),
    ("eafd,fbec->abcd", 48),
    ("bda,dc->abc", "a312 b312 c296 d312"),
)


def sizes_of(subscripts: str, sizes: str | int) -> dict[str, int]:
    """The size of each index."""
    if isinstance(sizes, int):
        return dict.fromkeys(filter(str.isalpha, subscripts), sizes)
    return {word[0]: int(word[1:]) for word in sizes.split()}


def line(subscripts: str, sizes: Mapping[str, int]) -> Row:
    """One contraction in f32, every contestant into a new array."""
    terms = subscripts.split("->")[0].split(",")
    rng = np.random.default_rng(0)
    a, b = (rng.random([sizes[index] for index in term], "f4") for term in terms)
    contestants: dict[str, Callable[[], Any]] = {
        "einloom": lambda: el.einsum(subscripts, a, b),
        "np.einsum": lambda: np.ascontiguousarray(np.einsum(subscripts, a, b, optimize=True)),
    }
    if find_spec("opt_einsum"):
        contract: Any = import_module("opt_einsum").contract
        contestants["opt_einsum"] = lambda: np.ascontiguousarray(contract(subscripts, a, b))
    if find_spec("torch"):
        torch: Any = import_module("torch")
        torch.set_num_threads(1)
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        contestants["torch"] = lambda: torch.einsum(subscripts, x, y).contiguous()
    if find_spec("pytblis"):
        tblis: Any = import_module("pytblis")
        tblis.set_num_threads(1)
        contestants["pytblis"] = lambda: tblis.einsum(subscripts, a, b)
    return compare(subscripts, contestants, seconds=3)


def tables(quick: bool) -> Sequence[Table]:
    """One table; quick: every size a third as large."""
    rows: list[Row] = []
    for subscripts, given in CASES:
        sizes = sizes_of(subscripts, given)
        rows.append(line(subscripts, {k: n // 3 if quick else n for k, n in sizes.items()}))
    return [Table("contraction, f32", "ms", rows)]
