"""Code for AArch64, written on any machine: assembled; and run, where an emulator is installed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einloom.backends.llvm import aot, target
from einloom.backends.llvm.kernel import LlvmKernel
from einloom.ir.dtypes import as_dtype
from einloom.ir.errors import UnsupportedError
from einloom.ir.interpreter import evaluate

from .kernels import kernel_of
from .native import Native, sized
from .test_contractions import SMALL
from .test_llvm_aot import run_program, sample
from .test_products import ORDERS, operand, product

CROSS = [
    ("ij,jk->ik", "f32"),
    ("ij,jk->ik", "f64"),
    ("ij,jk->ik", "c64"),
    ("ij,jk->ik", "f16"),
    ("ij,jk->ik", "bf16"),
    ("ij,jk->ik", "i8"),
    ("ij,jk->ik", "bool"),
    ("ijk->kji", "f32"),
    ("ij->j", "f64"),
]


@pytest.mark.parametrize(("subscripts", "dtype"), CROSS)
@pytest.mark.parametrize("cpu", ["aarch64", "neoverse-n1"])
def test_objects_for_aarch64(subscripts: str, dtype: str, cpu: str, tmp_path: Path) -> None:
    kernel = kernel_of(subscripts, [dtype] * len(subscripts.split("->")[0].split(",")))
    aot.save(kernel, tmp_path / "x.o", cpu=cpu)
    image = (tmp_path / "x.o").read_bytes()
    assert image[:4] == b"\x7fELF"
    assert image[16:20] == bytes([1, 0, 183, 0])  # ET_REL, EM_AARCH64
    assert b"packed_einloom_einsum\0" in image
    aot.save(kernel, tmp_path / "x.s", cpu=cpu)
    text = (tmp_path / "x.s").read_text()
    assert "%rdi" not in text
    if dtype in ("f32", "f64") and "," in subscripts:
        assert re.search(r"fmla\tv\d+\.(4s|2d), v\d+\.", text)


def test_the_ir_for_aarch64(tmp_path: Path) -> None:
    aot.save(kernel_of("i->", ["f32"]), tmp_path / "x.ll", cpu="aarch64")
    assert 'target triple = "aarch64-' in (tmp_path / "x.ll").read_text()


def test_without_a_linker_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", {"gcc": "/bin/true", "ld": "/bin/true"}.get)
    with pytest.raises(UnsupportedError, match="aarch64-linux-gnu-gcc"):
        aot.save(kernel_of("i->", ["f32"]), tmp_path / "x.so", cpu="neoverse-n1")


def test_without_a_code_generator_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_target(triple: str) -> Any:
        raise RuntimeError(f"No available targets are compatible with triple {triple!r}")

    monkeypatch.setattr(target.llvm().Target, "from_triple", no_target)
    with pytest.raises(UnsupportedError, match="writes no code for aarch64"):
        target._load_generator("aarch64-unknown-linux-gnu")


EXTENTS = {"i": 37, "j": 45, "k": 21}

# ---- dot products of bytes


#: Operands, result; and what multiplies them: a processor with these instructions, and one without.
BYTES = [
    ("i8", "i8", "i32", "sdot"),
    ("u8", "u8", "u32", "udot"),
    ("u8", "i8", "i32", "sdot"),
    ("i8", "u8", "i32", "udot"),
    ("i8", "i8", "i8", "sdot"),
]


def kernel_of_bytes(case: tuple[str, str, str, str], order: int, arrays: dict[str, Any]) -> Any:
    """The kernel of a product of bytes, packed, and what it computes of these arrays."""
    cascade = sized(product((*case[:3], "sum_product"), ORDERS[order]), arrays)
    want = evaluate(cascade, arrays)["Y"]
    kernel = LlvmKernel(Native(cascade, {**arrays, "Y": want}, 128, SMALL).program)
    return kernel, want


def bytes_of(case: tuple[str, str, str, str], order: int, number: int) -> dict[str, Any]:
    """Operands of a product of bytes."""
    rng = np.random.default_rng(number)
    return {
        name: operand(rng, dtype, tuple(EXTENTS[axis] for axis in axes))
        for name, dtype, axes in zip("AB", case, ORDERS[order], strict=False)
    }


@pytest.mark.parametrize("case", BYTES, ids=" ".join)
def test_dot_products_where_there_are_some(case: tuple[str, str, str, str], tmp_path: Path) -> None:
    kernel, _ = kernel_of_bytes(case, 0, bytes_of(case, 0, 0))
    found: list[bool] = []
    for cpu in ("aarch64", "cortex-a72", "neoverse-n1", "apple-m1"):
        aot.save(kernel, tmp_path / "x.s", cpu=cpu)
        text = (tmp_path / "x.s").read_text()
        found.append(len(re.findall(rf"\t{case[3]}\tv", text)) > 50)
        aot.save(kernel, tmp_path / "x.o", cpu=cpu)
        assert (tmp_path / "x.o").read_bytes()[16:20] == bytes([1, 0, 183, 0])
    assert found == [False, False, True, True]


# ---- run by an emulator


COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"

needs_emulator = pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason=f"{COMPILER} and {EMULATOR} are not installed",
)


def emulated(kernel: Any, inputs: list[Any], cpu: str, folder: Path) -> Any:
    """What a program for AArch64 makes of the inputs."""
    aot.save(kernel, folder / f"{kernel.program.name}.o", cpu=cpu)
    aot.save(kernel, folder / f"{kernel.program.name}.h", cpu=cpu)
    compiler = (COMPILER, "-std=c99", "-static")
    runner = (EMULATOR, "-cpu", "max")
    return run_program(kernel, inputs, folder, "C99", ".o", (), compiler, runner)


@needs_emulator
@pytest.mark.parametrize(("subscripts", "dtype"), CROSS)
@pytest.mark.parametrize("cpu", ["aarch64", "neoverse-n1"])
def test_an_emulator_gives_numpys_numbers(
    subscripts: str, dtype: str, cpu: str, tmp_path: Path
) -> None:
    operands, _, _ = subscripts.partition("->")
    inputs = [
        sample(tuple(EXTENTS[axis] for axis in axes), as_dtype(dtype), number)
        for number, axes in enumerate(operands.split(","))
    ]
    found = emulated(kernel_of(subscripts, [dtype] * len(inputs)), inputs, cpu, tmp_path)
    wide: Any = np.complex128 if dtype == "c64" else np.float64
    want = np.einsum(subscripts, *(array.astype(wide) for array in inputs))
    np.testing.assert_array_equal(found, want.astype(found.dtype))


@needs_emulator
@pytest.mark.parametrize("order", range(len(ORDERS)))
@pytest.mark.parametrize("case", BYTES, ids=" ".join)
def test_dot_products_of_any_bytes(
    case: tuple[str, str, str, str], order: int, tmp_path: Path
) -> None:
    arrays = bytes_of(case, order, order)
    kernel, want = kernel_of_bytes(case, order, arrays)
    found = emulated(kernel, [arrays["A"], arrays["B"]], "neoverse-n1", tmp_path)
    np.testing.assert_array_equal(found, want)
