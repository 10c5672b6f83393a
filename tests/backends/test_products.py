"""Integers and bits multiplied several steps of the depth at a time: what the interpreter says.

For every width of vectors, and with features left out; in each order of memory that a block is
packed from in a way of its own; the least numbers, whose products are the largest, among the rest.
"""

from __future__ import annotations

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
]
ORDERS = [("ij", "jk"), ("ji", "jk"), ("ij", "kj"), ("ji", "kj")]
SIZES = [(37, 45, 70), (5, 1, 33), (20, 33, 64), (3, 0, 4)]
_FEATURES: tuple[Feature, ...] = ("pmadd", "vnni")

#: The width of vectors, and whether bytes are multiplied in one instruction, where they can be.
ISAS = [
    Isa(bits, frozenset(_FEATURES[: 1 + vnni]) & host().isa.features)
    for bits, vnni in ((512, True), (512, False), (256, True), (128, False))
    if bits in WIDTHS
]


def operand(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Any:
    """Any numbers of the dtype, the least one more often."""
    if dtype == "bool":
        return rng.random(shape) < 0.3
    info = np.iinfo(as_dtype(dtype).numpy)
    found = rng.integers(info.min, info.max, shape, as_dtype(dtype).numpy, endpoint=True)
    found[rng.random(shape) < 0.2] = info.min
    return found


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
    rng = np.random.default_rng(number)
    cascade = product(case, ORDERS[number % 4])
    limits = (TINY, SMALL)[number // 4 % 2]
    for size in SIZES:
        extents = dict(zip("ijk", size, strict=True))
        shapes = [tuple(extents[name] for name in order) for order in ORDERS[number % 4]]
        arrays = {
            name: operand(rng, dtype, shape)
            for name, dtype, shape in zip("AB", case, shapes, strict=False)
        }
        status, found = run(cascade, arrays, isa, limits)
        assert status == 0
        want = evaluate(sized(cascade, arrays), arrays)["Y"]
        np.testing.assert_array_equal(found["Y"], want)


def test_only_instructions_that_a_processor_has(tmp_path: Any) -> None:
    if not host().triple.startswith("x86_64"):
        pytest.skip("names of x86-64 processors")
    arrays = {name: np.ones((64, 64), "i1") for name in ("A", "B", "Y")}
    arrays["Y"] = arrays["Y"].astype("i4")
    cascade = sized(product(CASES[1], ORDERS[0]), {"A": arrays["A"], "B": arrays["B"]})
    kernel = LlvmKernel(Native(cascade, arrays, WIDTHS[0], SMALL).program)
    texts: dict[str, str] = {}
    for cpu in ("x86-64", "haswell", "skylake-avx512", "znver4"):
        save(kernel, tmp_path / "kernel.s", cpu=cpu)
        texts[cpu] = (tmp_path / "kernel.s").read_text()
    assert {cpu: "vpdpbusd" in text for cpu, text in texts.items()} == {
        "x86-64": False,
        "haswell": False,
        "skylake-avx512": False,
        "znver4": True,
    }
    assert all("pmaddwd" in texts[cpu] for cpu in ("x86-64", "haswell", "skylake-avx512"))
    assert "%ymm" not in texts["x86-64"]
    assert "%zmm" not in texts["haswell"]
