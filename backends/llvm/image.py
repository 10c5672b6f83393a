"""Code as it is kept on disk: the bytes that go into memory, and the words in them to complete.

A first call that finds its code on disk imports this and not what made it (elf.py), so it is short.

    magic, head, fixes, names, contents

The head: how many fixes, how long the names are, where the function begins. A fix is the place of a
64-bit word and what is added to it: 0, the address where the contents begin; n, that of name n - 1.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from ...ir.errors import UnsupportedError

MAGIC = b"einloom image 1\n"
#: What is done to a module (runtime.py); part of every object's key.
PIPELINE = "sroa, simplifycfg; codegen 2, pic, small; image 1"
_HEAD = struct.Struct("<QQQ")

_PROT_READ, _PROT_EXEC = 1, 4

#: From the name of a function or variable of the process to its address; None: there is none.
Resolve = Callable[[str], int | None]


class Code:
    """A function in memory, for as long as this object lives; `key`: that of its object on disk."""

    # No dataclass: to make one takes longer than to load the code.
    __slots__ = ("address", "keeper", "key")

    def __init__(self, address: int, keeper: Any, key: str = "") -> None:
        self.address = address
        self.keeper = keeper
        self.key = key


def packed(contents: bytes, entry: int, fixes: Sequence[tuple[int, str | None]]) -> bytes:
    """The image of code whose function begins at `entry`; fixes name what is added (None: it)."""
    names = list(dict.fromkeys(name for _, name in fixes if name is not None))
    numbers: dict[str | None, int] = {name: number + 1 for number, name in enumerate(names)}
    words = [word for place, name in fixes for word in (place, numbers.get(name, 0))]
    text = "\n".join(names).encode()
    head = _HEAD.pack(len(fixes), len(text), entry)
    return b"".join((MAGIC, head, struct.pack(f"<{len(words)}Q", *words), text, contents))


def load(image: bytes, resolve: Resolve) -> Code:
    """The code in memory, ready to be called.

    Raises:
        ValueError: these bytes are no image.
        UnsupportedError: it needs a function that the process does not have, or the system forbids
            to make code while running.
    """
    from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap

    start = len(MAGIC) + _HEAD.size
    if image[: len(MAGIC)] != MAGIC or len(image) < start:
        raise ValueError("no image")
    count, length, entry = _HEAD.unpack_from(image, len(MAGIC))
    names_at = start + 16 * count
    at = names_at + length
    size = len(image) - at
    if not 0 <= entry < size:
        raise ValueError("an image that is cut off")
    words = struct.unpack_from(f"<{2 * count}Q", image, start)
    names = image[names_at:at].decode().split("\n") if length else []
    try:
        memory = mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS, prot=PROT_READ | PROT_WRITE)
    except OSError as error:
        raise UnsupportedError(f"there is no memory for native code: {error}") from None
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[:] = image[at:]
    added = [base, *(_address(name, resolve) for name in names)]
    for place, which in zip(words[::2], words[1::2], strict=True):
        if place > size - 8 or which >= len(added):
            raise ValueError("an image with a fix outside")
        (word,) = struct.unpack_from("<Q", memory, place)
        struct.pack_into("<Q", memory, place, (word + added[which]) % 2**64)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(base, size, _PROT_READ | _PROT_EXEC) != 0:
        raise UnsupportedError("the system does not let this process make code while it runs")
    return Code(base + entry, memory)


def _address(name: str, resolve: Resolve) -> int:
    found = resolve(name)
    if found is None:
        raise UnsupportedError(f"native code needs {name}(), which is nowhere to be found")
    return found


@cache
def _library(name: str | None) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def address_of(symbol: str) -> int | None:
    """The address of a function or variable of this process; None if there is none."""
    for name in (None, "libm.so.6", "libgcc_s.so.1"):  # the process; C's mathematics; helpers
        library = _library(name)
        if library is not None:
            try:
                return ctypes.addressof(ctypes.c_char.in_dll(library, symbol))
            except ValueError:
                continue
    return None
