"""Objects made of LLVM IR text, loaded and called."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest

from einloom.backends.llvm import elf, runtime, target
from einloom.backends.llvm.image import Code, address_of

from .kernels import add_parameters, floats


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


def image_of(text: str) -> bytes:
    return runtime.emit(text, target.host(), "object")


def load_elf(image: bytes, name: str) -> Code:
    if not elf.works_here():
        pytest.skip("not the system that this loader is for")
    return elf.load(image, name, address_of)


LOADERS: list[Callable[[bytes, str], Code]] = [load_elf, runtime.link_with_llvm]
