"""From LLVM IR text to code in memory: the compiler, the tables of its code, threads, processes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from einloom.backends.llvm import cache, elf, loaded, runtime, target
from einloom.ir.errors import ArgumentError, InternalError

from .kernels import ADD, constant
from .objects import add, image_of, load_elf, status_of

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
        "znver4": ["bf16", "digits", "many", "pmadd", "vnni"],
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


def test_the_cache_folder_is_where_the_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from platformdirs import user_cache_dir

    for given in (None, "", "not/absolute", "/somewhere/else"):
        if given is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache._user_cache_dir() == user_cache_dir("einloom", appauthor=False)


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
