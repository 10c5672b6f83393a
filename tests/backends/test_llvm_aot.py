"""Files written ahead of time, compiled into C and C++ programs, give NumPy's numbers."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import einloom
from einloom.backends.base import Array
from einloom.backends.llvm import aot, header, target
from einloom.backends.llvm.kernel import LlvmKernel
from einloom.ir.dtypes import DType, as_dtype
from einloom.ir.errors import ArgumentError, UnsupportedError
from einloom.ir.loops import ArrayAxis, Buffer, LoopProgram, Size
from einloom.ir.ranks import RankExpr, Term

from .kernels import kernel_of

needs_gcc = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="gcc is not installed"
)

WARNINGS = ("-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wcast-qual", "-Werror")
LANGUAGES = {
    "C99": ("gcc", "-std=c99", *WARNINGS),
    "C++11": ("g++", "-std=c++11", "-Wold-style-cast", *WARNINGS),
}


def program_text(kernel: LlvmKernel, sizes: Mapping[str, int], language: str) -> str:
    """A program that reads the dense inputs from stdin and writes the outputs to stdout."""
    lines: list[str] = []
    arguments: list[str] = []
    buffers = (*kernel.program.inputs, *kernel.program.outputs)
    for number, buffer in enumerate(buffers):
        count = int(np.prod([extent.value(sizes) for extent in buffer.extents]))
        c_type = header._TYPES[buffer.dtype.name][0]
        is_input = number < len(kernel.program.inputs)
        bytes_ = count * buffer.dtype.itemsize
        cast = f"static_cast<{c_type} *>(%s)" if language == "C++11" else "%s"
        lines.append(f"{c_type} *t{number} = {cast % f'room({bytes_}, {int(is_input)})'};")
        arguments += [f"t{number}", *(["0"] if buffer.extents else [])]
    arguments += [
        str(sizes[size.name]) for size in kernel.program.sizes if isinstance(size.source, ArrayAxis)
    ]
    lines.append(f"const int status = einloom_{kernel.program.name}({', '.join(arguments)});")
    for number, buffer in list(enumerate(buffers))[len(kernel.program.inputs) :]:
        count = int(np.prod([extent.value(sizes) for extent in buffer.extents]))
        lines.append(f"fwrite(t{number}, {buffer.dtype.itemsize}, {count}, stdout);")
    body = "\n  ".join(lines)
    return f"""\
#include <stdio.h>
#include <stdlib.h>
#include "{kernel.program.name}.h"
#include "{kernel.program.name}.h"

static void *room(size_t bytes, int filled) {{
  void *memory = malloc(bytes + 1);
  if (!memory || (filled && fread(memory, 1, bytes, stdin) != bytes)) exit(100);
  return memory;
}}

int main(void) {{
  {body}
  return status;
}}
"""


def run_saved(
    kernel: LlvmKernel,
    inputs: Sequence[Array],
    folder: Path,
    language: str,
    suffix: str,
    cpu: str | Sequence[str] | None = None,
) -> Array:
    """The output of a program that is compiled against the saved header and object."""
    name = kernel.program.name
    aot.save(kernel, folder / f"{name}.h")
    aot.save(kernel, folder / f"{name}{suffix}", cpu=cpu)
    return run_program(kernel, inputs, folder, language, suffix)


def run_program(
    kernel: LlvmKernel,
    inputs: Sequence[Array],
    folder: Path,
    language: str,
    suffix: str,
    flags: Sequence[str] = (),
    compiler: Sequence[str] = (),
    runner: Sequence[str] = (),
) -> Array:
    """The same where both are there; by another compiler, and what runs its programs, if given."""
    name = kernel.program.name
    sizes: dict[str, int] = {}
    arrays = dict(zip((b.name for b in kernel.program.inputs), inputs, strict=True))
    for size in kernel.program.sizes:
        if isinstance(size.source, ArrayAxis):
            sizes[size.name] = arrays[size.source.buffer].shape[size.source.axis]
        else:
            sizes[size.name] = size.source.value(sizes)
    source = folder / ("main.c" if language == "C99" else "main.cc")
    source.write_text(program_text(kernel, sizes, language))
    command = [*(compiler or LANGUAGES[language]), source.name, f"./{name}{suffix}"]
    command += ["-lm", "-o", "main", *flags]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    done = subprocess.run(
        [*runner, "./main"],
        cwd=folder,
        input=b"".join(np.ascontiguousarray(array).tobytes() for array in inputs),
        capture_output=True,
        check=True,
    )
    (output,) = kernel.program.outputs
    shape = tuple(extent.value(sizes) for extent in output.extents)
    return np.frombuffer(done.stdout, output.dtype.numpy).reshape(shape)


def sample(shape: tuple[int, ...], dtype: DType, seed: int) -> Array:
    """Small whole numbers, so that every dtype computes the same exactly."""
    values = np.random.default_rng(seed).integers(0, 4, shape)
    if dtype.kind == "complex":
        return (values + 1j * values[::-1]).astype(dtype.numpy)
    return values.astype(dtype.numpy)


EINSUMS: list[tuple[str, str, list[tuple[int, ...]]]] = [
    ("ij,jk->ik", "f32", [(13, 17), (17, 21)]),
    ("ij,jk->ik", "f64", [(5, 9), (9, 3)]),
    ("bij,bjk->bik", "f64", [(3, 4, 5), (3, 5, 6)]),
    ("ij->j", "i32", [(7, 20)]),
    ("ij,jk->ik", "c64", [(4, 5), (5, 6)]),
    ("ij,j->i", "c128", [(4, 5), (5,)]),
    ("ij,jk->ik", "f16", [(4, 5), (5, 18)]),
    ("ij,jk->ik", "bf16", [(4, 5), (5, 18)]),
    ("ij,ij->i", "bool", [(6, 9), (6, 9)]),
    ("i,j->ij", "u8", [(5,), (40,)]),
    ("ij->ji", "i16", [(6, 9)]),
    ("i,i->", "f32", [(33,), (33,)]),
    (",->", "f64", [(), ()]),
    ("ab,cb,dc,ed->ae", "i64", [(2, 3), (4, 3), (5, 4), (6, 5)]),
    ("ij,jk->ik", "f32", [(0, 3), (3, 4)]),
    ("ij,jk->ik", "f32", [(2, 0), (0, 4)]),
]


@needs_gcc
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("subscripts", "dtype", "shapes"), EINSUMS)
def test_a_program_gives_numpys_numbers(
    subscripts: str, dtype: str, shapes: list[tuple[int, ...]], language: str, tmp_path: Path
) -> None:
    types = [as_dtype(dtype)] * len(shapes)
    kernel = kernel_of(subscripts, [dtype] * len(shapes))
    inputs = [
        sample(shape, kind, n) for n, (shape, kind) in enumerate(zip(shapes, types, strict=True))
    ]
    suffix = ".o" if language == "C99" else ".so"
    result = run_saved(kernel, inputs, tmp_path, language, suffix)
    wide: Any = np.complex128 if types[0].kind == "complex" else np.float64
    want = np.einsum(subscripts, *(array.astype(wide) for array in inputs))
    np.testing.assert_array_equal(result, want.astype(types[0].numpy))


@needs_gcc
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3"])
def test_a_program_for_another_processor(cpu: str, tmp_path: Path) -> None:
    if not target.host().triple.startswith("x86_64"):
        pytest.skip("names of x86-64 processors")
    kernel = kernel_of("ij,jk->ik", ["f32", "f32"])
    inputs = [sample((9, 20), as_dtype("f32"), 1), sample((20, 30), as_dtype("f32"), 2)]
    result = run_saved(kernel, inputs, tmp_path, "C99", ".o", cpu=cpu)
    np.testing.assert_array_equal(result, inputs[0] @ inputs[1])
    aot.save(kernel, tmp_path / "einsum.s", cpu=cpu)
    assert ("%ymm" in (tmp_path / "einsum.s").read_text()) == (cpu == "x86-64-v3")


STRIDED = """\
#include <stdio.h>
#include <complex.h> /* defines I */
#include "matmul.h"

int main(void) {
  float a[4][8], b[3][5], y[6][7];
  for (int i = 0; i < 4; ++i) for (int j = 0; j < 8; ++j) a[i][j] = (float)(10 * i + j);
  for (int j = 0; j < 3; ++j) for (int k = 0; k < 5; ++k) b[j][k] = (float)(j - k);
  for (int i = 0; i < 6; ++i) for (int k = 0; k < 7; ++k) y[i][k] = -1;
  /* rows of a backwards, of b the same one each time, of y every second one */
  const int64_t as[] = {-8, 1}, bs[] = {0, 1}, ys[] = {14, 1}, across[] = {1, 8};
  if (einloom_matmul(a[0], across, b[0], 0, y[0], 0, 2, 3, 5) != EINLOOM_STRIDES) return 90;
  for (int i = 0; i < 6; ++i) for (int k = 0; k < 7; ++k) if (y[i][k] != -1) return 91;
  if (einloom_matmul(&a[2][0], as, b[1], bs, y[0], ys, 3, 3, 5) != EINLOOM_OK) return 92;
  for (int i = 0; i < 6; ++i)
    for (int k = 0; k < 7; ++k) {
      float want = 0;
      for (int j = 0; j < 3; ++j) want += a[2 - i / 2][j] * b[1][k % 5];
      if (i % 2 || k >= 5) want = -1;
      if (y[i][k] != want) return 93;
    }
  return 0;
}
"""


@needs_gcc
def test_strides_in_c(tmp_path: Path) -> None:
    kernel = kernel_of("ij,jk->ik", ["f32", "f32"], name="matmul")
    aot.save(kernel, tmp_path / "matmul.h")
    aot.save(kernel, tmp_path / "matmul.o")
    (tmp_path / "main.c").write_text(STRIDED)
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")
    command = ["gcc", *flags, "main.c", "matmul.o", "-lm", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


@needs_gcc
def test_two_kernels_in_one_program(tmp_path: Path) -> None:
    for name, subscripts in (("first", "ij,jk->ik"), ("second", "i,i->")):
        kernel = kernel_of(subscripts, ["c64", "c64"], name=name)
        aot.save(kernel, tmp_path / f"{name}.h")
        aot.save(kernel, tmp_path / f"{name}.o")
    (tmp_path / "main.c").write_text(
        '#include "first.h"\n#include "second.h"\nint main(void) {\n'
        "  EinloomC64 a = 3, b = 4, y = 0, z = 0;\n"
        "  if (einloom_first(&a, 0, &b, 0, &y, 0, 1, 1, 1)) return 1;\n"
        "  if (einloom_second(&a, 0, &b, 0, &z, 1)) return 2;\n"
        "  return y != 12 || z != 12;\n}\n"
    )
    command = [*LANGUAGES["C99"], "main.c", "first.o", "second.o", "-lm", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_the_shared_object_is_loaded_as_it_is(tmp_path: Path) -> None:
    kernel = kernel_of("ij->i", ["f64"], name="rows")
    aot.save(kernel, tmp_path / "rows.so")
    a, y = np.arange(12.0).reshape(3, 4), np.zeros(3)
    parameters = (ctypes.c_int64 * 5)(*a.shape, *a.strides, *y.strides)
    data = (ctypes.c_void_p * 2)(a.ctypes.data, y.ctypes.data)
    assert ctypes.CDLL(str(tmp_path / "rows.so")).packed_einloom_rows(parameters, data) == 0
    np.testing.assert_array_equal(y, a.sum(axis=1))


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
@pytest.mark.parametrize("dtype", ["f32", "f64", "c64", "f16", "bf16", "i8", "bool"])
@pytest.mark.parametrize("plain", [True, False])
def test_the_object_defines_one_symbol_and_needs_only_libc(
    dtype: str, plain: bool, tmp_path: Path
) -> None:
    kernel = kernel_of("ij,jk,kl->il", [dtype] * 3, name="chain")
    oldest = "x86-64" if target.host().triple.startswith("x86_64") else "aarch64"
    aot.save(kernel, tmp_path / "chain.o", cpu=oldest if plain else None)
    listing = subprocess.run(
        ["nm", "-g", tmp_path / "chain.o"], check=True, capture_output=True, text=True
    ).stdout
    symbols = re.findall(r"([A-Za-z]) (\w+)$", listing, re.MULTILINE)
    assert [name for kind, name in symbols if kind != "U"] == ["packed_einloom_chain"]
    needed = {name for kind, name in symbols if kind == "U"}
    assert needed <= {"malloc", "free", "memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_"}


def test_llvm_ir_and_assembly(tmp_path: Path) -> None:
    kernel = kernel_of("ij->ji", ["f32"], name="flip")
    aot.save(kernel, tmp_path / "flip.ll")
    text = (tmp_path / "flip.ll").read_text()
    assert "@packed_einloom_flip(" in text
    assert "target triple" in text
    aot.save(kernel, tmp_path / "flip.s")
    assert "packed_einloom_flip:" in (tmp_path / "flip.s").read_text()
    assert "packed_einloom_flip:" in kernel.asm


# ---- headers


def size_of(rank: str) -> RankExpr:
    return RankExpr.of_size(rank)


@needs_gcc
@pytest.mark.parametrize("language", LANGUAGES)
def test_any_name_makes_a_valid_header(language: str, tmp_path: Path) -> None:
    names = ["double", "I", "template", "größe", "α", "β", "params", "data", "size_N", "A_strides"]
    names += ["int64_t", "namespace_packed", "EINLOOM_OK", "einloom_c64", "INT64_MAX"]
    ranks = ["N", "NULL", "Ä", "Ö"]
    sizes = [Size(rank, ArrayAxis("I", axis)) for axis, rank in enumerate(ranks)]
    derived = RankExpr((Term(2, ("N", "Ä")), Term(-1, ("Ö",))), 3)
    extents = (size_of("N"), size_of("M"), size_of("Ö"), RankExpr((), 1))
    every_dtype = zip(names, map(as_dtype, header._TYPES), strict=False)
    program = LoopProgram(
        "namespace",
        (*sizes, Size("M", derived)),
        tuple(Buffer(name, extents, dtype) for name, dtype in every_dtype),
        (Buffer("A", (), as_dtype("c64")), Buffer("else", (size_of("NULL"),), as_dtype("c128"))),
        *((), (), ()),
    )
    text = header.header(program)
    value = "2 * size_N * size_R - 1 * size_R1 + 3"
    assert f"const int64_t size_M = ({value}) < 0 ? 0 : {value};" in text
    (tmp_path / "a.h").write_text(text)
    suffix = "c" if language == "C99" else "cc"
    include = "complex.h" if language == "C99" else "complex"
    (tmp_path / f"a.{suffix}").write_text(f'#include <{include}>\n#include "a.h"\n')
    command = [*LANGUAGES[language], "-Wno-unused-function", "-c", f"a.{suffix}"]
    subprocess.run(command, cwd=tmp_path, check=True)


#: Names that C, its library, LLVM or the header itself has other uses for.
USED = re.findall(
    r"\w+",
    """
    int64_t EINLOOM_OK EINLOOM_f_H EinloomC64 einloom_f packed_einloom_f f f_packed F c64 INT64_MAX
    M_PI NAN I NULL main double template params data memset memcpy malloc free fma fmod hypot
    expf sinh printf j0 y1 gamma index read llvm
    """,
)


@needs_gcc
@pytest.mark.parametrize("language", LANGUAGES)
def test_cascades_and_tensors_named_as_something_else_is(language: str, tmp_path: Path) -> None:
    suffix = "c" if language == "C99" else "cc"
    includes = ["complex.h", "math.h", "stdio.h", "stdlib.h", "string.h", "unistd.h"]
    calls: list[str] = []
    objects: list[str] = []
    for number, name in enumerate(USED):
        # The output is named as the cascade, the input as the next one.
        tensor = USED[number - 1]
        text = f"cascade {name}({tensor}[N,M]: f32) -> {name} {{ {name}[n] = {tensor}[n,m] }}"
        f = einloom.compile(text)
        np.testing.assert_array_equal(f(np.ones((5, 3), np.float32)), np.full(5, 3))
        f.save(tmp_path / f"{number}.h")
        f.save(tmp_path / f"{number}.o")
        includes.append(f"{number}.h")
        objects.append(f"{number}.o")
        calls.append(f"if (einloom_{name}(x, 0, y, 0, 5, 3) || y[4] != 3) return {number + 1};")
    lines = [f'#include "{include}"' for include in includes]
    body = "\n  ".join(["float x[15], y[5];", "for (int i = 0; i < 15; ++i) x[i] = 1;", *calls])
    lines.append(f"int main(void) {{\n  {body}\n  return 0;\n}}\n")
    (tmp_path / f"main.{suffix}").write_text("\n".join(lines))
    command = [*LANGUAGES[language], f"main.{suffix}", *objects, "-lm", "-o", "all"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "all"], check=False).returncode == 0


def test_the_header_says_what_is_what() -> None:
    text = header.header(kernel_of("ij,jk->ik", ["f32", "f32"], name="matmul").program)
    assert "input A: [size_I, size_J], f32; stride 1 on axis 1" in text
    assert "output Y: [size_I, size_K], f32; stride 1 on axis 1" in text
    for argument in (
        "const float *A_data,",
        "float *Y_data,",
        "int64_t size_I,",
        "const int64_t *A_strides",
    ):
        assert argument in text


# ---- mistakes


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    kernel = kernel_of("i->", ["f32"])
    for name in ("x.exe", "x", "x.txt", ".o"):
        with pytest.raises(UnsupportedError, match="does not write"):
            aot.save(kernel, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_unknown_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="there is no processor 'i386'"):
        aot.save(kernel_of("i->", ["f32"]), tmp_path / "x.o", cpu="i386")


def test_a_path_that_cannot_be_written_is_the_systems_error(tmp_path: Path) -> None:
    kernel = kernel_of("i->", ["f32"])
    with pytest.raises(FileNotFoundError):
        aot.save(kernel, tmp_path / "no such folder" / "x.h")
    (tmp_path / "x.ll").mkdir()
    with pytest.raises(IsADirectoryError):
        aot.save(kernel, tmp_path / "x.ll")
    assert [path.name for path in tmp_path.iterdir()] == ["x.ll"]


def test_without_a_linker_there_is_no_shared_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = kernel_of("i->", ["f32"])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", dict[str, str]().get)
        with pytest.raises(UnsupportedError, match=r"there is none\n.*save a \.o"):
            aot.save(kernel, tmp_path / "x.so")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", {"gcc": "/bin/false"}.get)
        with pytest.raises(UnsupportedError, match="made no shared object"):
            aot.save(kernel, tmp_path / "x.so")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("ld") is None, reason="ld is not installed")
def test_a_linker_alone_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", {"ld": shutil.which("ld")}.get)
    aot.save(kernel_of("i->", ["f32"], name="total"), tmp_path / "total.so")
    assert hasattr(ctypes.CDLL(str(tmp_path / "total.so")), "packed_einloom_total")
