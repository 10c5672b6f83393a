"""Code for several processors in one file: each variant computes the same, and CPUID chooses."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.llvm import aot, runtime, target, variants
from einloom.ir.dtypes import as_dtype
from einloom.ir.errors import ArgumentError, OperandError

from .kernels import kernel_of
from .test_llvm_aot import needs_gcc, run_program, run_saved, sample

if not target.host().triple.startswith("x86_64"):
    pytest.skip("levels of x86-64", allow_module_level=True)

LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64")

#: level -> what Linux calls the instructions that it adds
FLAGS = {
    "x86-64": "",
    "x86-64-v2": "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3",
    "x86-64-v3": "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
    "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
}


def levels_here() -> list[str]:
    """The levels that this machine has, by what Linux says of it."""
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = set(found[1].split()) if found else set[str]()
    here: list[str] = []
    for level, needed in FLAGS.items():
        if not flags.issuperset(needed.split()):
            break
        here.append(level)
    return here


needs_linux = pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="reads /proc/cpuinfo")

CASES = [
    ("ij,jk->ik", "f32", [(19, 33), (33, 40)]),
    ("ij,jk->ik", "f16", [(5, 9), (9, 35)]),
    ("abc->cba", "i16", [(9, 10, 33)]),
    ("ij,j->i", "c64", [(7, 12), (12,)]),
]


@needs_gcc
@needs_linux
@pytest.mark.parametrize(("subscripts", "dtype", "shapes"), CASES)
def test_every_variant_and_the_choice(
    subscripts: str, dtype: str, shapes: list[tuple[int, ...]], tmp_path: Path
) -> None:
    kernel = kernel_of(subscripts, [dtype] * len(shapes))
    inputs = [sample(shape, as_dtype(dtype), n) for n, shape in enumerate(shapes)]
    wide: Any = np.complex128 if dtype == "c64" else np.float64
    want = np.einsum(subscripts, *(array.astype(wide) for array in inputs))
    entry = "packed_einloom_einsum"
    aot.save(kernel, tmp_path / "einsum.h")
    aot.save(kernel, tmp_path / "einsum.o", cpu=LEVELS)
    for level in (None, *levels_here()):
        flags: list[str] = []
        if level is not None:  # the program calls the variant by its name
            name = variants.variant_name(entry, level)
            flags = [f"-D{entry}=forced", f"-Wl,--defsym=forced={name}"]
        result = run_program(kernel, inputs, tmp_path, "C99", ".o", flags)
        np.testing.assert_array_equal(result, want.astype(result.dtype))


@needs_gcc
def test_the_shared_object_chooses_too(tmp_path: Path) -> None:
    kernel = kernel_of("ij,jk->ik", ["f64", "f64"])
    inputs = [sample((13, 17), as_dtype("f64"), 1), sample((17, 21), as_dtype("f64"), 2)]
    result = run_saved(kernel, inputs, tmp_path, "C++11", ".so", LEVELS)
    np.testing.assert_array_equal(result, inputs[0] @ inputs[1])
    if shutil.which("nm"):
        command = ["nm", "-D", "--defined-only", str(tmp_path / "einsum.so")]
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert re.findall(r"\w*einloom[\w.]*", names) == ["packed_einloom_einsum"]


@needs_gcc
def test_assembly_and_ir_of_several(tmp_path: Path) -> None:
    kernel = kernel_of("ij,jk->ik", ["f32", "f32"], name="matmul")
    aot.save(kernel, tmp_path / "matmul.s", cpu=LEVELS)
    text = (tmp_path / "matmul.s").read_text()
    parts = dict(
        re.findall(r"^(packed\w+(?:\.\w+)*):\n(.*?)^\.Lfunc_end", text, re.MULTILINE | re.DOTALL)
    )
    for number, level in enumerate(reversed(LEVELS)):
        nest = parts["packed_einloom_matmul.0." + level.replace("-", "_")]
        assert ("%zmm" in nest, "%ymm" in nest) == (number == 3, number == 2), level
        assert ("vfmadd" in nest) == (number >= 2)
        assert ("%k1" in nest) == (number == 3)
    subprocess.run(["gcc", "-c", "matmul.s", "-o", "a.o"], cwd=tmp_path, check=True)


def test_every_function_of_a_variant_is_for_its_processor(tmp_path: Path) -> None:
    """Else a vector would be passed in other registers than it is looked for in."""
    text = "cascade c(A[I]: f32, B[I]: c64) -> Y, Z { Y[i] = pow(A[i], 3)\n Z[i] = exp(B[i])/B[i] }"
    f = el.compile(text)
    f.save(tmp_path / "c.ll", cpu=LEVELS)
    functions = re.findall(r"^define .*", (tmp_path / "c.ll").read_text(), re.MULTILINE)
    marked = [line for line in functions if '"target-cpu"=' in line]
    plain = [line for line in functions if '"target-cpu"=' not in line]
    assert len(marked) > 4 * 3
    assert re.findall(r"@([\w.]+)", "\n".join(plain)) == [
        f"packed_einloom_c{end}" for end in ("", ".choose", ".level")
    ]


#: What code for a level may not have, and what it has in some of these kernels.
ABOVE = {
    "x86-64-v3": (r"%zmm|\{%k|%[xy]mm(1[6-9]|2\d|3\d)\b", r"%ymm"),
    "x86-64-v2": (r"^\tv|%ymm", r"\tp(shufb|mulld|blend)"),
    "x86-64": (r"^\tv|%ymm|\tp(shufb|mulld|blendvb|test|minsd|maxsd|cnt)|\tpopcnt", r"\tmulps"),
}


@pytest.mark.parametrize("level", ABOVE)
def test_no_instruction_of_a_higher_level(level: str, tmp_path: Path) -> None:
    text = ""
    for subscripts, dtype in [
        *(("ij,jk->ik", dtype) for dtype in ("f32", "f16", "bf16", "i8", "i32", "c128", "bool")),
        ("abc->cba", "i16"),
        ("ij->j", "f64"),
    ]:
        kernel = kernel_of(subscripts, [dtype] * len(subscripts.split("->")[0].split(",")))
        aot.save(kernel, tmp_path / "x.s", cpu=level)
        text += (tmp_path / "x.s").read_text()
    never, somewhere = ABOVE[level]
    assert not re.findall(rf".*(?:{never}).*", text, re.MULTILINE)
    assert re.search(somewhere, text)


def test_many_threads_make_the_first_call_at_once(tmp_path: Path) -> None:
    aot.save(kernel_of("ij->i", ["f64"], name="rows"), tmp_path / "rows.so", cpu=LEVELS)
    entry = ctypes.CDLL(str(tmp_path / "rows.so")).packed_einloom_rows
    a = np.arange(12.0).reshape(3, 4)
    parameters = (ctypes.c_int64 * 5)(*a.shape, *a.strides, 8)
    together = Barrier(8)

    def call(_: int) -> Any:
        y = np.zeros(3)
        data = (ctypes.c_void_p * 2)(a.ctypes.data, y.ctypes.data)
        together.wait()
        assert entry(parameters, data) == 0
        return y

    with ThreadPoolExecutor(8) as pool:
        for y in pool.map(call, range(8)):
            np.testing.assert_array_equal(y, a.sum(axis=1))


# ---- what is chosen

#: What a processor says: leaf of CPUID -> (eax, ebx, ecx, edx), and what XGETBV says.
FULL = {
    0: (13, 0, 0, 0),
    1: (0, 0, 0x3FFFFFFF, 0),
    7: (0, 0xFFFFFFFF, 0, 0),
    0x8000_0001: (0, 0, 0xFFFFFFFF, 0),
}


def level_of(leaves: Mapping[int, Sequence[int]], saved: int) -> int:
    """The number of the level that the generated code takes such a processor for."""
    text = variants._level("x").replace("define internal i32 @x.level()", "define i32 @level()")
    four = "{ i32, i32, i32, i32 }"
    for leaf, registers in leaves.items():
        value = f"{four} {{ {', '.join(f'i32 {r}' for r in registers)} }}"
        given = r" = call [^\n]*" + re.escape(f"(i32 {leaf}, i32 0)") + "\n"
        text = re.sub(rf"(%\w+\.all){given}", rf"\1 = select i1 true, {value}, {value}\n", text)
    pair = f"{{ i32, i32 }} {{ i32 {saved}, i32 0 }}"
    text = re.sub(
        r'call \{ i32, i32 \} asm "xgetbv"[^\n]*', f"select i1 true, {pair}, {pair}", text
    )
    assert "asm" not in text
    code = runtime.load(text, "level")
    found: int = ctypes.CFUNCTYPE(ctypes.c_int)(code.address)()
    return found


def without(leaf: int, register: int, bit: int) -> dict[int, tuple[int, ...]]:
    """FULL less one bit."""
    values = list(FULL[leaf])
    values[register] &= ~(1 << bit)
    return {**FULL, leaf: tuple(values)}


LACKING = [
    *((without(1, 2, bit), 0xFF, 0) for bit in (0, 9, 13, 19, 20, 23)),
    (without(0x8000_0001, 2, 0), 0xFF, 0),
    *((without(1, 2, bit), 0xFF, 1) for bit in (12, 22, 27, 28, 29)),
    *((without(7, 1, bit), 0xFF, 1) for bit in (3, 5, 8)),
    (without(0x8000_0001, 2, 5), 0xFF, 1),
    *((without(7, 1, bit), 0xFF, 2) for bit in (16, 17, 28, 30, 31)),
    (FULL, 0xFF, 3),
    (FULL, 0x00, 1),  # the system saves no wide registers
    (FULL, 0x03, 1),
    (FULL, 0x07, 2),
    (FULL, 0x67, 2),
    ({**FULL, 0: (6, 0, 0, 0)}, 0xFF, 1),  # there is no leaf 7
]


@pytest.mark.parametrize(("leaves", "saved", "level"), LACKING)
def test_one_thing_that_lacks(leaves: dict[int, tuple[int, ...]], saved: int, level: int) -> None:
    assert level_of(leaves, saved) == level


@needs_linux
def test_this_processor() -> None:
    text = variants._level("x").replace("define internal i32 @x.level()", "define i32 @here()")
    with target.LOCK:
        target.llvm().initialize_native_asmparser()
    code = runtime.load(text, "here")
    assert ctypes.CFUNCTYPE(ctypes.c_int)(code.address)() == len(levels_here()) - 1


def test_no_variant_for_this_processor() -> None:
    text = variants.combined(
        {"x86-64-v4": "define i32 @f(ptr %p, ptr %d) {\n  ret i32 7\n}\n"}, "f"
    )
    for level, status in ((2, variants.NO_PROCESSOR), (3, 7)):
        head, _, _ = text.partition("define internal i32 @f.level()")
        known = f"{head}define internal i32 @f.level() {{\n  ret i32 {level}\n}}\n"
        code = runtime.load(known, "f")
        assert ctypes.CFUNCTYPE(ctypes.c_int)(code.address)() == status


# ---- mistakes


@pytest.mark.parametrize("cpu", [(), ("x86-64-v3", "znver4"), ["neoverse-n1", "x86-64"]])
def test_what_is_no_level_is_refused(cpu: Sequence[str], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="levels of x86-64"):
        aot.save(kernel_of("i->", ["f32"]), tmp_path / "x.o", cpu=cpu)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cpu", [7, ["x86-64", 3], [None]])
def test_what_is_no_name_is_refused(cpu: Any, tmp_path: Path) -> None:
    f = el.compile("i->", shapes=[(3,)])
    with pytest.raises(OperandError, match="cpu= is the name of a processor"):
        f.save(tmp_path / "x.o", cpu=cpu)
