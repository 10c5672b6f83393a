"""From LLVM IR text to code in memory: the two loaders, the cache, threads, processes, lifetime."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einloom.backends.llvm import cache, elf, loaded, runtime, target
from einloom.backends.llvm.elf import Unfit
from einloom.backends.llvm.image import MAGIC, Code, address_of
from einloom.backends.llvm.image import load as load_image
from einloom.ir.errors import ArgumentError, InternalError, UnsupportedError

from .kernels import ADD, add_parameters, constant, floats

#: Uses all that the loader does: constants, functions of the process and of libm, a table of
#: addresses, another function of the module, the address of a function of the process.
EVERYTHING = """
@numbers = private constant <4 x double> <double 1.0, double 2.0, double 3.0, double 4.0>
@choices = internal constant [2 x ptr] [ptr @twice, ptr @thrice]
declare double @cos(double)
declare ptr @malloc(i64)
declare void @free(ptr)
define internal double @twice(double %x) noinline {
  %r = fmul double %x, 2.0
  ret double %r
}
define internal double @thrice(double %x) noinline {
  %r = fmul double %x, 3.0
  ret double %r
}
define double @apply(ptr %f, double %x) noinline {
  %r = call double %f(double %x)
  ret double %r
}
define i32 @everything(ptr %params, ptr %data) {
  %which = load i64, ptr %params
  %y = load ptr, ptr %data
  %room = call ptr @malloc(i64 32)
  %some = load <4 x double>, ptr @numbers
  store <4 x double> %some, ptr %room, align 8
  %last.p = getelementptr double, ptr %room, i64 3
  %last = load double, ptr %last.p
  call void @free(ptr %room)
  %choice.p = getelementptr ptr, ptr @choices, i64 %which
  %choice = load ptr, ptr %choice.p
  %more = call double %choice(double %last)
  %both = call double @apply(ptr @cos, double %more)
  store double %both, ptr %y, align 8
  ret i32 0
}
"""


def status_of(code: Code) -> int:
    run = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(code.address)
    status: int = run(None, None)
    return status


def add(code: Code) -> None:
    a, b, y = floats(5), floats(5, 10.0), np.zeros(5, np.float32)
    parameters = (ctypes.c_int64 * 4)(*add_parameters(a, b, y))
    data = (ctypes.c_void_p * 3)(a.ctypes.data, b.ctypes.data, y.ctypes.data)
    run = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(code.address)
    assert run(parameters, data) == 0
    np.testing.assert_array_equal(y, a + b)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cache.ObjectCache:
    """Nothing in memory, and an empty folder."""
    monkeypatch.setattr(cache, "_current", cache.ObjectCache(tmp_path / "objects"))
    monkeypatch.setattr(loaded, "_loaded", type(loaded._loaded)())
    return cache.current()


def image_of(text: str) -> bytes:
    return runtime.emit(text, target.host(), "object")


def load_elf(image: bytes, name: str) -> Code:
    if not elf.works_here():
        pytest.skip("not the system that this loader is for")
    return elf.load(image, name, address_of)


LOADERS: list[Callable[[bytes, str], Code]] = [load_elf, runtime.link_with_llvm]


# ---- loading


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("which", [0, 1])
def test_everything_an_object_may_need(loader: Callable[[bytes, str], Code], which: int) -> None:
    code = loader(image_of(EVERYTHING), "everything")
    y = np.zeros(1)
    parameters = (ctypes.c_int64 * 1)(which)
    data = (ctypes.c_void_p * 1)(y.ctypes.data)
    run = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(code.address)
    assert run(parameters, data) == 0
    assert y[0] == pytest.approx(np.cos([8.0, 12.0][which]), abs=1e-15)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_missing_function_is_named(loader: Callable[[bytes, str], Code]) -> None:
    text = """
declare i32 @einloom_no_such_function()
define i32 @f(ptr %params, ptr %data) {
  %r = call i32 @einloom_no_such_function()
  ret i32 %r
}"""
    with pytest.raises(UnsupportedError, match=r"einloom_no_such_function|linked"):
        loader(image_of(text), "f")


def test_what_the_small_loader_cannot_do_llvm_does(fresh: cache.ObjectCache) -> None:
    text = """
@counter = internal global i32 40
define i32 @count(ptr %params, ptr %data) {
  %old = load i32, ptr @counter
  %new = add i32 %old, 1
  store i32 %new, ptr @counter
  ret i32 %new
}"""
    with pytest.raises(Unfit, match="variable data"):
        load_elf(image_of(text), "count")
    code = runtime.load(text, "count")
    assert [status_of(code), status_of(code)] == [41, 42]


def test_damaged_objects_are_refused_not_run() -> None:
    image = image_of(EVERYTHING)
    with pytest.raises(Unfit, match="defines no other"):
        load_elf(image, "other")
    for length in (0, 3, 63, 64, 100, len(image) // 2, len(image) - 1):
        with pytest.raises(Unfit):
            load_elf(image[:length], "everything")
    for junk in (b"\x7fELF" + bytes(200), b"not an object", bytes(1000)):
        with pytest.raises(Unfit):
            load_elf(junk, "everything")


def test_unknown_relocations_are_refused() -> None:
    image = bytearray(image_of(EVERYTHING))
    (start,) = struct.unpack_from("<Q", image, 40)
    (count,) = struct.unpack_from("<H", image, 60)
    changed = 0
    for number in range(count):
        kind, offset, size = struct.unpack_from("<4xI16xQQ", image, start + 64 * number)
        if kind == 4:  # a relocation table
            for at in range(offset, offset + size, 24):
                struct.pack_into("<I", image, at + 8, 19)  # R_X86_64_TLSGD
                changed += 1
    assert changed
    with pytest.raises(Unfit, match="relocation type 19"):
        load_elf(bytes(image), "everything")


def test_a_system_that_forbids_to_make_code(monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_of(ADD)

    class Hardened:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.mprotect = self

        def __call__(self, *args: Any) -> int:
            return -1

    load_elf(image, "add")
    monkeypatch.setattr(ctypes, "CDLL", Hardened)
    with pytest.raises(UnsupportedError, match="does not let"):
        load_elf(image, "add")


def test_memory_is_not_writable_once_it_is_code() -> None:
    code = load_elf(image_of(ADD), "add")
    for line in Path("/proc/self/maps").read_text().split("\n"):
        span = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line)
        if span and int(span[1], 16) <= code.address < int(span[2], 16):
            assert span[3].startswith("r-x")
            return
    pytest.fail("the code is not in memory")


# ---- compiling


def test_ir_that_llvm_refuses_is_our_fault_and_says_where() -> None:
    with pytest.raises(InternalError, match="defect in einloom") as caught:
        image_of("define i32 @f() {\n  ret i64 0\n}\n")
    assert "ret i64 0" in str(caught.value)
    with pytest.raises(InternalError, match="Instruction does not dominate"):
        image_of(
            "define i32 @f(i1 %c) {\nentry:\n  br i1 %c, label %a, label %b\n"
            "a:\n  %x = add i32 1, 2\n  br label %b\nb:\n  ret i32 %x\n}\n"
        )
    add(load_elf(image_of(ADD), "add"))  # and LLVM still works


def test_other_forms_of_the_code() -> None:
    here = target.host()
    assembly = runtime.emit(ADD, here, "assembly")
    assert "add:" in assembly
    optimised = runtime.emit(ADD, here, "optimised")
    assert "define i32 @add" in optimised
    whole = runtime.complete(ADD, here)
    assert whole.endswith(ADD)
    assert f'target triple = "{here.triple}"' in whole


def test_targets() -> None:
    here = target.host()
    assert here.isa.bits in (128, 256, 512)
    assert here is target.host()
    assert target.named(here.cpu).isa.bits == here.isa.bits
    if not here.triple.startswith("x86_64"):
        pytest.skip("names of x86-64 processors")
    widths = {name: target.named(name).isa.bits for name in ("x86-64", "x86-64-v3", "x86-64-v4")}
    assert widths == {"x86-64": 128, "x86-64-v3": 256, "x86-64-v4": 512}
    features = {
        name: sorted(target.named(name).isa.features)
        for name in (
            *("x86-64", "haswell", "alderlake", "skylake-avx512", "icelake-server", "znver4"),
            *("aarch64", "neoverse-n1"),
        )
    }
    assert features == {
        "x86-64": ["digits", "pmadd"],
        "haswell": ["pmadd"],
        "alderlake": ["digits", "pmadd", "vnni"],
        "skylake-avx512": ["many", "pmadd"],
        "icelake-server": ["digits", "ifma", "many", "pmadd", "vnni"],
        "znver4": ["digits", "many", "pmadd", "vnni"],
        "aarch64": ["many"],
        "neoverse-n1": ["dot", "many"],
    }
    with pytest.raises(ArgumentError, match=r"pentium5.*\n.*\n.*x86-64-v3"):
        target.named("pentium5")


_NAMES = """
from einloom.backends.llvm import cache, target
cache.configure(None)
for name in target._PROCESSORS.get(target.host().triple.split("-")[0], ()):
    target.named(name)
"""


def test_llvm_knows_every_processor_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NAMES], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- the tables: memory, then disk


def test_one_text_is_compiled_once(fresh: cache.ObjectCache) -> None:
    first = runtime.load(ADD, "add")
    assert runtime.load(ADD, "add") is first
    add(first)
    assert fresh.info().stores == 1


def test_a_warm_start_does_not_load_llvm(fresh: cache.ObjectCache) -> None:
    add(runtime.load(ADD, "add"))
    script = f"""
import sys, numpy
from einloom.backends.llvm import cache, runtime
cache.configure({fresh.folder!r})
code = runtime.load({ADD!r}, "add")
assert code.address
loaded = [name for name in sys.modules if name.startswith("llvmlite.")]
info = cache.current().info()
print(info.hits, info.misses, info.failures, "llvmlite.binding" in loaded)
"""
    # The first process asks LLVM what machine this is, unless this one has had to do that here.
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert outputs[1] == ["2", "0", "0", str(not elf.works_here())]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other machine's"])
def test_a_damaged_file_is_compiled_anew(fresh: cache.ObjectCache, damage: str) -> None:
    runtime.load(constant(7), "constant")
    assert fresh.folder is not None
    (path,) = Path(fresh.folder).iterdir()
    contents = bytearray(path.read_bytes())
    if damage == "flip":
        contents[len(contents) // 2] ^= 1
    elif damage == "truncate":
        del contents[-20:]
    elif damage == "empty":
        contents.clear()
    else:
        contents[20:84] = cache.key_of("elsewhere").encode()
    path.write_bytes(contents)
    loaded._loaded.clear()
    assert status_of(runtime.load(constant(7), "constant")) == 7
    assert fresh.info().rejected == 1
    loaded._loaded.clear()
    runtime.load(constant(7), "constant")
    assert fresh.info().hits == 1


def test_without_a_usable_folder_it_works_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: cache.ObjectCache
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(cache, "_current", cache.ObjectCache(tmp_path / "file"))
    assert status_of(runtime.load(constant(8), "constant")) == 8
    assert cache.current().info().failures > 0


def test_the_key_holds_all_that_the_object_depends_on(
    fresh: cache.ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []

    def recorded(*parts: str) -> str:
        keys.append(cache.key_of(*parts))
        return keys[-1]

    def ready_made(*_: object) -> bytes:
        return image

    def compiled_for(here: target.Target, text: str = constant(1)) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(runtime, "key_of", recorded)
            patch.setattr(runtime, "host", lambda: here)
            patch.setattr(runtime, "emit", ready_made)
            loaded._loaded.clear()
            runtime.load(text, "constant")

    here, image = target.host(), image_of(constant(1))
    compiled_for(here)
    compiled_for(replace(here, cpu="x"))
    compiled_for(replace(here, features="x"))
    compiled_for(replace(here, llvm="x"))
    compiled_for(here, constant(1) + "; changed")
    monkeypatch.setattr(runtime, "PIPELINE", "O3")
    compiled_for(here)
    assert len(set(keys)) == len(keys) == 6


def test_an_interrupt_while_compiling_does_no_harm(
    fresh: cache.ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "emit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runtime.load(ADD, "add")
    add(runtime.load(ADD, "add"))


# ---- threads and processes


def test_threads_compile_and_call_at_once(fresh: cache.ObjectCache) -> None:
    wrong: list[object] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        try:
            start.wait()
            for value in range(number % 2, 20, 2):  # four threads want the same text
                code = runtime.load(constant(value), "constant")
                if status_of(code) != value:
                    wrong.append(value)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert fresh.info().stores == 20


_RACER = """
import ctypes, sys
from einloom.backends.llvm import cache, runtime
cache.configure(sys.argv[1])
text = sys.stdin.read()
code = runtime.load(text, "constant")
print(ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(code.address)(None, None))
info = cache.current().info()
assert info.failures == info.rejected == 0, info
"""


def test_eight_processes_race_on_a_cold_key(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, tmp_path / "objects"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(constant(5))
        racer.stdin.close()
        racer.stdin = None
    outputs = [racer.communicate(timeout=60)[0] for racer in racers]
    assert outputs == ["5\n"] * 8
    assert all(path.suffix == ".einloom" for path in (tmp_path / "objects").iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_child_forked_while_a_thread_compiles_can_compile(fresh: cache.ObjectCache) -> None:
    stop = threading.Event()

    def compile_on() -> None:
        value = 1000
        while not stop.is_set():
            image_of(constant(value))
            value += 1

    thread = threading.Thread(target=compile_on)
    thread.start()
    try:
        for value in range(5):
            child = os.fork()
            if child == 0:
                try:
                    code = runtime.load(constant(value), "constant")
                    os._exit(status_of(code))
                finally:
                    os._exit(99)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == value
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("loader", LOADERS)
def test_code_lives_as_long_as_it_is_referenced(loader: Callable[[bytes, str], Code]) -> None:
    image = image_of(ADD)
    kept = [loader(image, "add") for _ in range(5)]
    for _ in range(20):
        loader(image, "add")
        gc.collect()
    while len(kept) > 1:
        add(kept.pop())
    keeper = weakref.ref(kept[0].keeper)
    kept.clear()
    gc.collect()
    assert keeper() is None


def test_the_table_forgets_the_least_recently_used(
    fresh: cache.ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded, "LOADED_BOUND", 3)
    codes = [runtime.load(constant(n), "constant") for n in range(3)]
    assert runtime.load(constant(0), "constant") is codes[0]
    runtime.load(constant(3), "constant")
    assert runtime.load(constant(0), "constant") is codes[0]
    assert runtime.load(constant(1), "constant") is not codes[1]
    assert status_of(codes[1]) == 1  # but what is referenced still runs
    assert len(loaded._loaded) == 3


def test_forgotten_code_leaves_memory(
    fresh: cache.ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not elf.works_here():
        pytest.skip("not the system that this loader is for")
    monkeypatch.setattr(loaded, "LOADED_BOUND", 4)

    def mapped() -> int:
        gc.collect()
        return len(Path("/proc/self/maps").read_text().split("\n"))

    for value in range(8):
        runtime.load(constant(value), "constant")
    before = mapped()
    for value in range(8, 60):
        runtime.load(constant(value), "constant")
    assert mapped() <= before + 4


# ---- images


def test_what_is_no_image_is_refused() -> None:
    if not elf.works_here():
        pytest.skip("not the system that this linker is for")
    whole = elf.flat(image_of(EVERYTHING), "everything")
    assert status_of(load_image(elf.flat(image_of(constant(3)), "constant"), address_of)) == 3
    head = len(MAGIC)
    places = head + 24
    far = bytearray(whole)
    struct.pack_into("<Q", far, places, 1 << 20)
    unknown = bytearray(whole)
    struct.pack_into("<Q", unknown, places + 8, 99)
    for image in (b"", whole[:head], whole[: places + 8], b"x" + whole[1:], far, unknown):
        with pytest.raises((ValueError, struct.error)):
            load_image(bytes(image), address_of)


def test_the_cache_folder_is_where_the_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from platformdirs import user_cache_dir

    for given in (None, "", "not/absolute", "/somewhere/else"):
        if given is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache._user_cache_dir() == user_cache_dir("einloom", appauthor=False)
