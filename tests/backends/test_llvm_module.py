"""Python modules written ahead of time: they need NumPy alone, and take what arrays there are."""

from __future__ import annotations

import base64
import ctypes
import importlib.util
import json
import os
import platform
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.llvm import aot, target
from einloom.ir.dtypes import as_dtype

from .kernels import kernel_of
from .test_llvm_aot import EINSUMS, needs_gcc

pytestmark = needs_gcc


def imported(path: Path) -> ModuleType:
    """The module of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with modules for many kernels, and how to call each."""
    folder = tmp_path_factory.mktemp("modules")
    for number, (subscripts, dtype, shapes) in enumerate(EINSUMS):
        kernel = kernel_of(subscripts, [dtype] * len(shapes), name=f"f{number}")
        # Each for one level: what is chosen among several has a test of its own.
        aot.save(kernel, folder / f"f{number}.py", cpu="x86-64" if number % 2 else None)
    return folder


ALONE = """
import sys

for name in ("einloom", "llvmlite", "lark", "opt_einsum", "networkx"):
    sys.modules[name] = None  # to import it is an ImportError

import json
import importlib
import numpy as np

folder, = sys.argv[1:]
sys.path.insert(0, folder)
cases = json.load(sys.stdin)
for number, (subscripts, dtype, shapes) in enumerate(cases):
    if dtype == "bfloat16":
        import ml_dtypes
    function = getattr(importlib.import_module(f"f{number}"), f"f{number}")
    rng = np.random.default_rng(number)
    arrays = [rng.integers(0, 4, shape).astype(dtype) for shape in shapes]
    wide = np.complex128 if dtype.startswith("complex") else np.float64
    want = np.einsum(subscripts, *(a.astype(wide) for a in arrays)).astype(dtype)
    for order in "CF":
        result = function(*(np.array(a, order=order) for a in arrays))
        np.testing.assert_array_equal(result, want)
        assert result.dtype == dtype
    if want.ndim:
        out = np.full_like(want, 1)
        assert function(*arrays, out=out) is out
        np.testing.assert_array_equal(out, want)
    else:
        assert np.isscalar(result)
print("all", len(cases))
"""


def test_neither_einloom_nor_llvm_is_needed(modules: Path) -> None:
    given = [[subscripts, as_dtype(d).numpy.name, shapes] for subscripts, d, shapes in EINSUMS]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(modules)],
        input=json.dumps(given),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", f"all {len(given)}\n")


CASCADE = """
cascade conv(len[I]: f32, out[J]: f32, D[M,I]: f32) -> Y, Z, S {
  Y[i] = len[i] * 3
  Z[q] = len[q+j] * out[j]
  S = len[i]
}
"""


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function of several outputs, with a derived size, and names that Python uses otherwise."""
    path = tmp_path_factory.mktemp("conv") / "some.py"
    text = CASCADE.replace("S = len[i]", "S[] = len[i] * D[m,i]")
    el.compile(text).save(path, cpu=["x86-64"])
    return imported(path).conv


def test_several_outputs(conv: Any) -> None:
    a, b = np.arange(7, dtype=np.float32), np.ones(3, np.float32)
    d = np.ones((2, 7), np.float32)
    y, z, s = results = conv(a, b, d)
    np.testing.assert_array_equal(y, a * 3)
    np.testing.assert_array_equal(z, [3, 6, 9, 12, 15])
    assert s == 42
    assert results[2].dtype == np.float32
    outs = np.empty_like(y), np.empty_like(z), np.empty((), np.float32)
    assert conv(a, b, d, out=outs) is outs
    np.testing.assert_array_equal(outs[1], z)
    assert outs[2] == 42
    assert conv(a, np.ones(9, np.float32), d)[1].shape == (0,)
    assert "len[I]: f32" in conv.__doc__


def test_strides_and_memory_that_is_shared(modules: Path) -> None:
    matmul = imported(modules / "f1.py").f1  # f64
    a = np.arange(35.0).reshape(5, 7)
    b = np.arange(70.0).reshape(7, 10)[:, ::-2]
    np.testing.assert_array_equal(matmul(a, b), a @ b)
    wide = np.broadcast_to(np.arange(7.0)[:, None], (7, 5))
    np.testing.assert_array_equal(matmul(a, wide), a @ wide)
    square = np.arange(25.0).reshape(5, 5)
    want = square @ square
    assert matmul(square, square, out=square) is square
    np.testing.assert_array_equal(square, want)
    out = np.zeros((10, 5)).T
    matmul(a, np.arange(70.0).reshape(7, 10), out=out)
    np.testing.assert_array_equal(out, a @ np.arange(70.0).reshape(7, 10))
    memory = np.zeros(8 * 36 + 1, np.uint8)
    off = memory[1 : 8 * 35 + 1].view(np.float64).reshape(5, 7)
    off[...] = a
    np.testing.assert_array_equal(matmul(off, b), a @ b)
    np.testing.assert_array_equal(matmul(np.ma.masked_array(a), b), a @ b)


ARRAY = np.ones((2, 3))


@pytest.mark.parametrize(
    ("arrays", "out", "error", "says"),
    [
        (([[1.0]], ARRAY), None, TypeError, "A must be a NumPy array, not list"),
        ((ARRAY.astype("f4"), ARRAY.T), None, TypeError, "A must be float64, not float32"),
        ((ARRAY.astype(">f8"), ARRAY.T), None, TypeError, "A must be float64, not >f8"),
        ((ARRAY, np.ones(3)), None, ValueError, r"B must have 2 axes, not the shape \(3,\)"),
        (
            (ARRAY, ARRAY),
            None,
            ValueError,
            r"B must have the shape \[J,K\] = \(3, 3\), not \(2, 3\)",
        ),
        ((ARRAY,), None, TypeError, "missing 1 required positional argument: 'B'"),
        ((ARRAY, ARRAY.T), np.ones((2, 3)), ValueError, r"shape \(2, 3\) but Y has \(2, 2\)"),
        ((ARRAY, ARRAY.T), np.ones((2, 2), "f4"), TypeError, "out= for Y must be float64"),
        ((ARRAY, ARRAY.T), [np.ones((2, 2))] * 2, ValueError, "2 arrays for 1 outputs"),
        (
            (ARRAY, ARRAY.T),
            np.broadcast_to(1.0, (2, 2)),
            ValueError,
            "out= for Y is a read-only array",
        ),
    ],
)
def test_what_does_not_fit(
    arrays: tuple[Any, ...], out: Any, error: type[Exception], says: str, modules: Path
) -> None:
    with pytest.raises(error, match=says):
        imported(modules / "f1.py").f1(*arrays, out=out)


def test_outputs_that_share_memory(conv: Any) -> None:
    memory = np.empty(9, np.float32)
    outs = (memory[:7], memory[4:], np.empty((), np.float32))
    with pytest.raises(ValueError, match="share memory"):
        conv(np.ones(7, "f4"), np.ones(3, "f4"), np.ones((1, 7), "f4"), out=outs)


def test_an_index_out_of_range(tmp_path: Path) -> None:
    text = "cascade g(D[V]: f32, J[B]: i64) -> Y { Y[b] = D[J[b]] }"
    el.compile(text).save(tmp_path / "g.py", cpu="x86-64")
    gather = imported(tmp_path / "g.py").g
    np.testing.assert_array_equal(gather(np.ones(3, "f4"), np.array([0, 2])), [1, 1])
    with pytest.raises(IndexError, match="out of range"):
        gather(np.ones(3, "f4"), np.array([0, 3]))


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (2, MemoryError, "no memory"),
        (4, RuntimeError, "is for x86-64"),
        (9, RuntimeError, "the status 9"),
    ],
)
def test_what_native_code_may_say(
    status: int, error: type[Exception], says: str, modules: Path
) -> None:
    module: Any = imported(modules / "f1.py")
    returns = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
    module._kernel._entry = returns(lambda *_: status)
    with pytest.raises(error, match=says):
        module.f1(ARRAY, ARRAY.T)


def test_by_default_it_is_for_all_processors_of_the_architecture(modules: Path) -> None:
    if not target.host().triple.startswith("x86_64"):
        pytest.skip("levels of x86-64")
    text = (modules / "f0.py").read_text()
    assert text.startswith('"""f0: made by einloom for x86-64-v4, x86-64-v3, x86-64 on linux.')
    assert max(len(line) for line in text.split("\n")) <= 110


def test_names_that_are_taken(tmp_path: Path) -> None:
    inputs = ", ".join(f"{name}[I]: f32" for name in ("class", "size_I", "Kernel"))
    text = f"cascade np({inputs}) -> Y {{ Y[i] = class[i] * size_I[i] * Kernel[i] }}"
    el.compile(text).save(tmp_path / "x.py", cpu="x86-64")
    arrays = [np.full(4, n, np.float32) for n in (2, 3, 5)]
    np.testing.assert_array_equal(imported(tmp_path / "x.py").np_(*arrays), np.full(4, 30))


def test_several_modules_at_once_and_threads(modules: Path) -> None:
    """Libraries in memory have paths; no two may have the same."""
    loaded = [imported(modules / "f1.py"), imported(modules / "f3.py"), imported(modules / "f1.py")]
    a = np.arange(12.0).reshape(3, 4)
    ints = np.arange(12, dtype=np.int32).reshape(3, 4)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(loaded[0].f1, a, a.T) for _ in range(50)]
        for result in (future.result() for future in futures):
            np.testing.assert_array_equal(result, a @ a.T)
    np.testing.assert_array_equal(loaded[1].f3(ints), ints.sum(axis=0))
    np.testing.assert_array_equal(loaded[2].f1(a, a.T), a @ a.T)


def test_where_memory_has_no_path(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> int:
        raise OSError("no memfd_create")

    monkeypatch.setattr(os, "memfd_create", refuses)
    module = imported(modules / "f1.py")
    np.testing.assert_array_equal(module.f1(ARRAY, ARRAY.T), ARRAY @ ARRAY.T)


def test_another_machine_is_an_import_error(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ImportError, match="this code is for x86_64 on linux, not riscv64 on linux"):
        imported(modules / "f1.py")


def test_what_is_no_library_is_an_import_error(modules: Path, tmp_path: Path) -> None:
    text = (modules / "f1.py").read_text()
    head, _, tail = text.partition('_CODE = """')
    code = base64.b85encode(zlib.compress(b"no library")).decode()
    (tmp_path / "x.py").write_text(f'{head}_CODE = """{code}"""{tail.partition(chr(34) * 3)[2]}')
    with pytest.raises(ImportError, match="cannot be loaded"):
        imported(tmp_path / "x.py")
