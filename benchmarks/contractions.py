"""Contractions of two tensors beside NumPy, opt_einsum, torch and TBLIS: kinds of the tccg suite.

Springer and Bientinesi, "Design of a high-performance GEMM-like tensor-tensor multiplication", ACM
TOMS 44(3), 2018. All results in C order; what gives back another order is made contiguous.
Contestants that are not installed are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .measure import Row, Table
from .peers import einsum

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
    operands = [rng.random([sizes[index] for index in term], "f4") for term in terms]
    return einsum(subscripts, subscripts, operands, seconds=3)


def tables(quick: bool) -> Sequence[Table]:
    """One table; quick: every size a third as large."""
    rows: list[Row] = []
    for subscripts, given in CASES:
        sizes = sizes_of(subscripts, given)
        rows.append(line(subscripts, {k: n // 3 if quick else n for k, n in sizes.items()}))
    return [Table("contraction, f32", "ms", rows)]
