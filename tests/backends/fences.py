"""Memory between forbidden pages: what reads or writes beyond an array in it ends the process."""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("forbidding memory needs mprotect", allow_module_level=True)

PAGES = 64
SIZE = PAGES * mmap.PAGESIZE


class Fenced:
    """Memory between two forbidden regions; arrays are cut from either end of it."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 3 * SIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for region in (start, start + 2 * SIZE):
            assert protect(ctypes.c_void_p(region), ctypes.c_size_t(SIZE), 0) == 0

    def array(
        self, shape: tuple[int, ...], dtype: Any, at_end: bool, order: Literal["C", "F"]
    ) -> Any:
        """An array that begins where the memory does, or ends where it ends."""
        count = int(np.prod(shape))
        length = count * np.dtype(dtype).itemsize
        offset = 2 * SIZE - length if at_end else SIZE
        flat = np.frombuffer(self.memory, dtype, count, offset)
        return flat.reshape(shape, order=order)


@cache
def fences() -> tuple[Fenced, Fenced, Fenced]:
    """One for each of two operands and an output."""
    return Fenced(), Fenced(), Fenced()


def fenced(subscripts: str, sizes: dict[str, int], dtype: str, at_end: bool) -> list[Any]:
    """Two operands of small whole numbers, then an output full of others."""
    rng = np.random.default_rng(6)
    found: list[Any] = []
    for fence, term in zip(fences(), subscripts.replace("->", ",").split(","), strict=True):
        array = fence.array(tuple(sizes[name] for name in term), dtype, at_end, "C")
        array[...] = rng.integers(0, 4, array.shape)
        found.append(array)
    found[2][...] = 77
    return found
