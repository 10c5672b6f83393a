"""Integers and bits multiplied several steps of the depth at a time: what the interpreter says.

For every width of vectors, and with features left out; in each order of memory that a block is
packed from in a way of its own; the least numbers, whose products are the largest, among the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einloom.backends.llvm.aot import save
from einloom.backends.llvm.isa import Feature, Isa
from einloom.backends.llvm.kernel import LlvmKernel
from einloom.backends.llvm.target import host
from einloom.compiler import parse
from einloom.ir.dtypes import as_dtype
from einloom.ir.interpreter import evaluate
from einloom.passes.loops.schedule import Limits

from .native import TINY, WIDTHS, Native, run, sized
from .test_contractions import SMALL

#: Operands, result, semiring.
CASES = [
    ("i8", "i8", "i8", "sum_product"),
    ("i8", "i8", "i32", "sum_product"),
    ("u8", "u8", "u32", "sum_product"),
    ("u8", "i8", "i32", "sum_product"),
    ("i8", "u8", "i16", "sum_product"),
    ("i16", "i16", "i16", "sum_product"),
    ("u16", "u16", "u16", "sum_product"),
    ("u16", "u16", "u32", "sum_product"),
    ("i16", "u8", "i32", "sum_product"),
    ("bool", "bool", "bool", "boolean"),
    ("bool", "bool", "bool", "xor_and"),
    ("bool", "bool", "i32", "sum_product"),
    ("i32", "i32", "i32", "sum_product"),
    ("u32", "u32", "u32", "sum_product"),
    ("i32", "u16", "i32", "sum_product"),
    ("i64", "i64", "i64", "sum_product"),
    ("u64", "u64", "u64", "sum_product"),
    ("i32", "i64", "i64", "sum_product"),
]
ORDERS = [("ij", "jk"), ("ji", "jk"), ("ij", "kj"), ("ji", "kj")]
SIZES = [(37, 45, 70), (5, 1, 33), (20, 33, 64), (3, 0, 4)]

_ALL: tuple[Feature, ...] = ("pmadd", "vnni", "digits", "ifma", "many")
_SOME: tuple[Feature, ...] = ("pmadd", "digits")

#: The width of vectors, and the features chosen by, where this machine has them.
ISAS = [
    Isa(bits, frozenset(features) & host().isa.features)
    for bits, features in ((512, _ALL), (512, _SOME[:1]), (256, _ALL), (128, _SOME), (128, ()))
    if bits in WIDTHS
]


def operand(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Any:
    """Any numbers of the dtype, the least one and what ends in many zeros or ones more often."""
    if dtype == "bool":
        return rng.random(shape) < 0.3
    info = np.iinfo(as_dtype(dtype).numpy)
    found = rng.integers(info.min, info.max, shape, as_dtype(dtype).numpy, endpoint=True)
    found[rng.random(shape) < 0.2] = info.min
    zeros, ones = (rng.random(shape) < 0.1 for _ in range(2))
    found[zeros] &= found.dtype.type(-1 << info.bits // 2 & info.max)
    found[ones] |= found.dtype.type((1 << info.bits // 2) - 1)
    return found


#: Those whose operands are bytes.
BYTES = [case for case in CASES if {case[0], case[1]} <= {"i8", "u8"}]


def product(case: tuple[str, str, str, str], order: tuple[str, str]) -> Any:
    left, right, out, ring = case
    a, b = (",".join(names) for names in order)
    return parse(
        f"cascade p(A[{a.upper()}]: {left}, B[{b.upper()}]: {right}) -> Y "
        f"{{ Y[i,k]: {out} = A[{a}] * B[{b}] over {ring} }}"
    )


@pytest.mark.parametrize(
    "isa", ISAS, ids=lambda isa: "-".join([str(isa.bits), *sorted(isa.features)])
)
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_products(case: tuple[str, str, str, str], isa: Isa) -> None:
    number = CASES.index(case) + ISAS.index(isa)
    limits = (TINY, SMALL)[number // 4 % 2]
    check(case, ORDERS[number % 4], SIZES, isa, limits)


@pytest.mark.skipif("tiles" not in host().isa.features, reason="needs AMX")
@pytest.mark.parametrize("order", ORDERS, ids=",".join)
@pytest.mark.parametrize("case", BYTES, ids=" ".join)
def test_blocks_of_bytes(case: tuple[str, str, str, str], order: tuple[str, str]) -> None:
    """By tile registers: parts of them, several of them, the depth in pieces."""
    sizes = [*SIZES, (33, 130, 31), (65, 64, 97)]
    for limits in (TINY, SMALL):
        check(case, order, sizes, host().isa, limits)


def check(
    case: tuple[str, str, str, str],
    order: tuple[str, str],
    sizes: Sequence[tuple[int, int, int]],
    isa: Isa,
    limits: Limits,
) -> None:
    """Products of any numbers of these sizes, against the interpreter."""
    rng = np.random.default_rng(len(sizes))
    cascade = product(case, order)
    for size in sizes:
        extents = dict(zip("ijk", size, strict=True))
        shapes = [tuple(extents[name] for name in axes) for axes in order]
        arrays = {
            name: operand(rng, dtype, shape)
            for name, dtype, shape in zip("AB", case, shapes, strict=False)
        }
        status, found = run(cascade, arrays, isa, limits)
        assert status == 0
        want = evaluate(sized(cascade, arrays), arrays)["Y"]
        np.testing.assert_array_equal(found["Y"], want)


def assembly(
    case: tuple[str, str, str, str], folder: Path, processors: Sequence[str | None]
) -> dict[str | None, str]:
    """What a product of square matrices is for some processors."""
    arrays = {
        name: np.ones((64, 64), as_dtype(dtype).numpy)
        for name, dtype in zip("ABY", case, strict=False)
    }
    cascade = sized(product(case, ORDERS[0]), {"A": arrays["A"], "B": arrays["B"]})
    kernel = LlvmKernel(Native(cascade, arrays, WIDTHS[0], SMALL).program)
    texts: dict[str | None, str] = {}
    for cpu in processors:
        save(kernel, folder / "kernel.s", cpu=cpu)
        texts[cpu] = (folder / "kernel.s").read_text()
    return texts


needs_x86 = pytest.mark.skipif(
    not host().triple.startswith("x86_64"), reason="names of x86-64 processors"
)


@needs_x86
def test_only_instructions_that_a_processor_has(tmp_path: Path) -> None:
    texts = assembly(CASES[1], tmp_path, ("x86-64", "haswell", "skylake-avx512", "znver4"))
    assert {cpu: "vpdpbusd" in text for cpu, text in texts.items()} == {
        "x86-64": False,
        "haswell": False,
        "skylake-avx512": False,
        "znver4": True,
    }
    assert all("pmaddwd" in texts[cpu] for cpu in ("x86-64", "haswell", "skylake-avx512"))
    assert "%ymm" not in texts["x86-64"]
    assert "%zmm" not in texts["haswell"]


@needs_x86
def test_files_need_nothing_that_a_process_must_ask_for(tmp_path: Path) -> None:
    """AMX's registers: a program that has not asked for them is ended when it uses them."""
    processors = ("sapphirerapids", None)
    texts = assembly(CASES[1], tmp_path, processors)
    assert not any("tdpb" in text for text in texts.values())


@needs_x86
def test_wide_integers_by_what_is_quick(tmp_path: Path) -> None:
    """Pairs of digits where one instruction sums them; parts where products of i64 are slow."""
    processors = ("haswell", "skylake-avx512", "icelake-server", "znver4")
    texts = assembly(("i32", "i32", "i32", "sum_product"), tmp_path, processors)
    found = [(text.count("vpdpwssd") > 9, "vpmaddwd" in text) for text in texts.values()]
    assert found == [(False, False), (False, False), (True, False), (True, False)]
    texts = assembly(("i64", "i64", "i64", "sum_product"), tmp_path, processors)
    found = [("vpmadd52luq" in text, "vpmullq" in text) for text in texts.values()]
    assert found == [(False, False), (False, True), (True, False), (False, True)]
