"""Einsums as people write them: each a real use, at the size of that use, beside the best peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import einloom as el
from einloom.ir.dtypes import as_dtype

from .measure import Row, Table
from .peers import einsum, line, torch


@dataclass(frozen=True, slots=True)
class Workload:
    """An einsum, its sizes ("a10 b20", or one number for all), its dtype, and what it is."""

    name: str
    subscripts: str
    sizes: str | int
    dtype: str
    what: str


WORKLOADS = (
    Workload("matrix product", "ij,jk->ik", 1024, "f4", "the limit of arithmetic"),
    Workload("tiny products", "bij,bjk->bik", "b100000 i4 j4 k4", "f4", "calls dominate BLAS"),
    Workload("chain", "ab,bc,cd,de->ae", "a10 b1000 c10 d1000 e10", "f4", "order matters"),
    Workload("CCSD(T)", "dega,gfbc->abcdef", "a24 b20 c20 d24 e20 f20 g24", "f4", "large result"),
    Workload("mode product", "ebad,ce->abcd", "a96 b84 c24 d84 e96", "f4", "thin matrix"),
    Workload(
        *("integrals", "ijkl,ia,jb,kc,ld->abcd", "i40 j40 k40 l40 a20 b20 c20 d20", "f8"),
        "atomic to molecular orbitals",
    ),
    Workload("density", "gi,ij,gj->g", "g20000 i100 j100", "f8", "a batch, no product of BLAS"),
    Workload(
        *("sum factorisation", "ai,bj,ck,eijk->eabc", "e2000 a9 b9 c9 i8 j8 k8", "f8"),
        "spectral elements",
    ),
    Workload("MTTKRP", "ijk,ja,ka->ia", "i200 j200 k200 a32", "f4", "CP decomposition"),
    Workload("CP", "ir,jr,kr->ijk", "i200 j200 k200 r32", "f4", "from its factors"),
    Workload("Tucker", "abc,ai,bj,ck->ijk", "a120 b120 c120 i32 j32 k32", "f4", "mode products"),
    Workload(
        *("gate", "abcdefghijklmnopqrst,kU->abcdefghijUlmnopqrst", 2, "c16"),
        "one qubit of 20",
    ),
    Workload("partial trace", "abcb->ac", 64, "c16", "a diagonal"),
    Workload(
        *("linear attention", "bhnd,bhmd,bhme->bhne", "b4 h8 n2048 m2048 d64 e64", "f4"),
        "order matters",
    ),
    Workload("bilinear layer", "bn,anm,bm->ba", "b128 a64 n256 m256", "f4", "torch.nn.Bilinear"),
    Workload("triangles", "ij,jk,ki->", 1024, "i8", "of a graph"),
)


def operands_of(each: Workload, part: int = 1) -> list[Any]:
    """Its operands, each size divided by `part`, but none below 2."""
    inputs = each.subscripts.partition("->")[0]
    if isinstance(each.sizes, int):
        sizes = dict.fromkeys(filter(str.isalpha, inputs), each.sizes)
    else:
        sizes = {word[0]: int(word[1:]) for word in each.sizes.split()}
    rng = np.random.default_rng(0)
    found: list[Any] = []
    for term in inputs.split(","):
        shape = [max(2, sizes[index] // part) for index in term]
        values = rng.random(shape) * 2 - (0 if each.dtype == "i8" else 1)
        found.append((values + (1j * values if each.dtype[0] == "c" else 0)).astype(each.dtype))
    return found


def semirings(part: int) -> list[Row]:
    """What no peer has as an einsum: the peers' best is written out with broadcasting."""
    rng = np.random.default_rng(0)
    d: Any = rng.random((512 // part, 512 // part), "f4")
    rows = [
        line("shortest paths, min-plus f4", _beside("ij,jk->ik", "min_plus", np.min, d, d)),
    ]
    small = max(256 // part, 2)
    a: Any = rng.random((small, 64))
    t: Any = np.log(rng.random((64, 64)))
    o: Any = rng.random((small, 64))
    rows.append(line("hidden Markov step, log f8", _beside("bi,ij,bj->bj", "log", _lse, a, t, o)))
    a, o = rng.random((2, 2048 // part, 64), "f4")
    t = t.astype("f4")
    rows.append(
        line("Viterbi step, max-plus f4", _beside("bi,ij,bj->bj", "max_plus", np.max, a, t, o))
    )
    return rows


def _lse(values: Any, axis: int) -> Any:
    return np.logaddexp.reduce(values, axis)


def _beside(
    subscripts: str, semiring: str, fold: Callable[..., Any], a: Any, b: Any, *more: Any
) -> dict[str, Callable[[], Any]]:
    """einloom, NumPy, and torch if it folds so."""
    found: dict[str, Callable[[], Any]] = {
        "einloom": lambda: el.einsum(subscripts, a, b, *more, semiring=semiring),
        "numpy": lambda: sum(more, fold(a[:, :, None] + b, 1)),
    }
    if library := torch():
        folds: Mapping[Any, Any] = {
            np.min: library.amin,
            np.max: library.amax,
            _lse: library.logsumexp,
        }
        x, y, *rest = (library.from_numpy(each) for each in (a, b, *more))
        found["torch"] = lambda: sum(rest, folds[fold](x[:, :, None] + y, 1))
    return found


def integers(part: int) -> Row:
    """8-bit integers summed in 32 bits: the peers convert first, as they must."""
    n = 512 // part
    a, b = np.random.default_rng(0).integers(-128, 128, (2, n, n), "i1")
    calls: dict[str, Callable[[], Any]] = {
        "einloom": lambda: el.einsum("ij,jk->ik", a, b, acc="i32"),
        "np.matmul": lambda: np.matmul(a.astype("i4"), b.astype("i4")),
    }
    if library := torch():
        x, y = library.from_numpy(a), library.from_numpy(b)
        calls["torch"] = lambda: library._int_mm(x, y)
    return line("matrix product, i1 to i4", calls)


def halves(part: int) -> Row:
    """bf16 summed in f32 and rounded: NumPy has it by way of f32."""
    n = 512 // part
    a, b = np.random.default_rng(0).standard_normal((2, n, n)).astype(as_dtype("bf16").numpy)
    calls: dict[str, Callable[[], Any]] = {
        "einloom": lambda: el.einsum("ij,jk->ik", a, b),
        "np.matmul": lambda: (a.astype("f4") @ b.astype("f4")).astype(a.dtype),
    }
    if library := torch():
        x, y = (library.from_numpy(v.view("i2")).view(library.bfloat16) for v in (a, b))
        calls["torch"] = lambda: library.mm(x, y)
    return line("matrix product, bf16", calls)


def tables(quick: bool) -> Sequence[Table]:
    """One table; quick: every size an eighth as large."""
    part = 8 if quick else 1
    rows = [
        einsum(
            f"{each.name} `{each.subscripts}` {each.dtype}",
            each.subscripts,
            operands_of(each, part),
        )
        for each in WORKLOADS
    ]
    return [Table("workload", "ms", [*rows, *semirings(part), integers(part), halves(part)])]
