"""Objects and images in memory: the two loaders, what they refuse, how long code lives."""

from __future__ import annotations

import ctypes
import gc
import re
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einloom.backends.llvm import cache, elf, runtime
from einloom.backends.llvm.elf import Unfit
from einloom.backends.llvm.image import MAGIC, Code, address_of
from einloom.backends.llvm.image import load as load_image
from einloom.ir.errors import UnsupportedError

from .kernels import ADD, constant
from .objects import LOADERS, add, image_of, load_elf, status_of

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
