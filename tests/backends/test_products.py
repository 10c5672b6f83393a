"""Integers, bits and bf16 multiplied several steps of the depth at a time: the interpreter's words.

For every width of vectors, and with features left out; in each order of memory that a block is
packed from in a way of its own; the least numbers, whose products are the largest, among the rest.
Of bf16 numbers whose sums are exact in f32, in any order, also where all of them are tiny.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import einloom
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

_ALL: tuple[Feature, ...] = ("pmadd", "vnni", "digits", "ifma", "many", "bf16")
_SOME: tuple[Feature, ...] = ("pmadd", "digits")

#: What this machine has; of some instructions also if code for it is not quicker by them.
_DOTS: frozenset[Feature] = frozenset(("bf16",) if "+avx512bf16" in host().features else ())
_HERE: frozenset[Feature] = host().isa.features | _DOTS

#: The width of vectors, and the features chosen by, where this machine has them.
ISAS = [
    Isa(bits, frozenset(features) & _HERE)
    for bits, features in ((512, _ALL), (512, _SOME[:1]), (256, _ALL), (128, _SOME), (128, ()))
    if bits in WIDTHS
]


def named(isa: Isa) -> str:
    return "-".join([str(isa.bits), *sorted(isa.features)])


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


@pytest.mark.parametrize("isa", ISAS, ids=named)
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_products(case: tuple[str, str, str, str], isa: Isa) -> None:
    number = CASES.index(case) + ISAS.index(isa)
    limits = (TINY, SMALL)[number // 4 % 2]
    check(case, ORDERS[number % 4], SIZES, isa, limits)


#: Exponents of two operands: of products, or of elements, that f32 has no normal numbers for, too.
EXPONENTS = [(0, 0), (-56, -56), (-60, -56), (-70, -75), (-133, 10), (10, -133), (-126, 0)]


@pytest.mark.parametrize("isa", dict.fromkeys((host().isa, *ISAS)), ids=named)
@pytest.mark.parametrize("exponents", EXPONENTS, ids=str)
def test_halves(exponents: tuple[int, int], isa: Isa) -> None:
    number = EXPONENTS.index(exponents)
    for limits in (TINY, SMALL):
        for size in [*SIZES, (33, 130, 31), (65, 64, 97)]:
            number += 1
            out, order = ("f32", "bf16")[number % 2], ORDERS[number % 4]
            check_halves(order, out, size, isa, limits, exponents)


def check_halves(
    order: tuple[str, str],
    out: str,
    size: tuple[int, int, int],
    isa: Isa,
    limits: Limits,
    exponents: Sequence[int],
) -> None:
    rng = np.random.default_rng(sum(size))
    cascade = product(("bf16", "bf16", out, "sum_product"), order)
    extents = dict(zip("ijk", size, strict=True))
    arrays: dict[str, Any] = {}
    for name, axes, exponent in zip("AB", order, exponents, strict=True):
        shape = tuple(extents[axis] for axis in axes)
        numbers = np.ldexp(rng.integers(-8, 9, shape).astype("f4"), exponent)
        numbers[rng.random(shape) < 0.01] = np.inf
        numbers[rng.random(shape) < 0.001] = np.nan
        arrays[name] = numbers.astype(as_dtype("bf16").numpy)
    status, found = run(cascade, arrays, isa, limits)
    assert status == 0
    want = evaluate(sized(cascade, arrays), arrays)["Y"]
    np.testing.assert_array_equal(found["Y"].astype("f4"), want.astype("f4"))


@pytest.mark.parametrize("isa", dict.fromkeys((host().isa, *ISAS)), ids=named)
def test_sums_of_halves_that_cancel(isa: Isa) -> None:
    """Products that are normal, and whose sums are not: 200 * 200 - 199 * 201 is 1."""
    for total in (-112, -113, -115, -118, -123):
        a, b = np.zeros((40, 70), "f4"), np.zeros((70, 40), "f4")
        a[:, 8], b[8] = 200, 200
        a[:, 9], b[9] = 199, -201
        arrays = {
            name: np.ldexp(array, exponent - 7).astype(as_dtype("bf16").numpy)
            for name, array, exponent in (("A", a, -50), ("B", b, total + 50))
        }
        cascade = product(("bf16", "bf16", "f32", "sum_product"), ORDERS[0])
        status, found = run(cascade, arrays, isa, SMALL)
        assert status == 0
        want = evaluate(sized(cascade, arrays), arrays)["Y"]
        assert want.all()
        np.testing.assert_array_equal(found["Y"], want)


def test_blocks_are_at_least_as_deep_as_what_their_depth_is_a_multiple_of() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 5, (50, 70)), rng.integers(-4, 5, (70, 40))
    arrays = {"A": a.astype("f4"), "B": b.astype("f4")}
    cascade = product(("f32", "f32", "f32", "sum_product"), ORDERS[0])
    status, found = run(cascade, arrays, host().isa, replace(SMALL, deep=8, depth=32))
    assert status == 0
    np.testing.assert_array_equal(found["Y"], a @ b)


def test_one_tiny_number_in_a_block() -> None:
    """A single product below all normal numbers of f32, far inside."""
    a, b = (np.zeros((200, 200), as_dtype("bf16").numpy) for _ in range(2))
    a[150, 77], b[77, 190] = 2.0**-100, 2.0**-30
    found = einloom.einsum("ij,jk->ik", a, b, dtype=np.float32)
    assert found[150, 190] == 2.0**-130
    assert np.count_nonzero(found) == 1


def test_halves_do_not_depend_on_where_blocks_begin() -> None:
    """Each element is multiplied by what its row and column let it, whatever is beside it."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 300, 300)).astype(as_dtype("bf16").numpy)
    a[290, 5] = 2.0**-128
    product = einloom.compile("ij,jk->ik", acc=np.float32)
    whole = product(a, b)
    np.testing.assert_allclose(whole, a.astype("f8") @ b.astype("f8"), rtol=1e-3, atol=1e-3)
    for first in (1, 13, 77):
        np.testing.assert_array_equal(product(a[first:], b), whole[first:])
        np.testing.assert_array_equal(product(a, b[:, first:]), whole[:, first:])
    for threads in (1, 2, 3):
        shared = einloom.compile("ij,jk->ik", acc=np.float32, threads=threads)
        np.testing.assert_array_equal(shared(a, b), whole)


def test_what_lies_beyond_a_packed_block_does_not_matter() -> None:
    """NaN that a call left there, beyond steps of the depth and beyond rows."""
    product = einloom.compile("ij,jk->ik")
    nan, one = (np.full((200, 200), value, as_dtype("bf16").numpy) for value in (np.nan, 1))
    for size in (170, 131, 97):
        assert np.isnan(product(nan, nan)).all()
        found = product(one[:size, :size], one[:size, :size])
        np.testing.assert_array_equal(found, np.full((size, size), size, found.dtype))


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
def test_halves_are_multiplied_by_what_a_processor_has(tmp_path: Path) -> None:
    case = ("bf16", "bf16", "f32", "sum_product")
    texts = assembly(case, tmp_path, ("haswell", "sapphirerapids", "znver4"))
    assert {cpu: "vdpbf16ps" in text for cpu, text in texts.items()} == {
        "haswell": False,
        "sapphirerapids": False,
        "znver4": True,
    }


@needs_x86
def test_files_need_nothing_that_a_process_must_ask_for(tmp_path: Path) -> None:
    """AMX's registers: a program that has not asked for them is ended when it uses them."""
    for case in (CASES[1], ("bf16", "bf16", "f32", "sum_product")):
        texts = assembly(case, tmp_path, ("sapphirerapids", None))
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
