"""Records: what the calls of one signature need, kept on disk for the processes that come later.

A record names the code, in the object cache, and holds the numbers that go with it
(backends/llvm/stored.py). With it the first call of a process needs no language, no passes and no
LLVM: it costs some milliseconds where these cost hundreds. Its key is a digest of all that it
depends on: what is called, the dtypes, shapes and strides, einloom's own files, Python, NumPy, the
processor and LLVM. A record that is damaged, or whose code is gone, is none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np

from einloom.backends.llvm.cache import current, key_of
from einloom.backends.llvm.machine import identity_here
from einloom.backends.llvm.objects import layouts_known
from einloom.backends.llvm.stored import read, written
from einloom.dispatch import Bound

#: So many records are written by one process: a program whose every shape is new needs none.
_MOST_WRITTEN = 1024

#: Where what is compiled comes from: of the package, these folders and the files beside them.
_ROOMS = ("backends", "frontend", "ir", "passes")

_PLAIN = (str, int, float, complex, bool)

#: How many this process has written.
written_now: int = 0


def identity(kind: str, text: str, options: Mapping[str, Any]) -> str | None:
    """What is called, in words; None if its options are more than words and numbers.

    Whether it waits is no part of it: that is over when there is a record.
    """
    if not all(map(_is_plain, options.values())):
        return None
    given = sorted(
        (name, value)
        for name, value in options.items()
        if name != "wait" or type(value) is not bool
    )
    return repr((kind, text, given))


def _is_plain(value: Any) -> bool:
    """Whether it says by its text all that it is."""
    if isinstance(value, np.dtype):
        return value.kind in "biufc"
    if isinstance(value, type):
        return value in _PLAIN or value.__module__ == "numpy"
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, cast("dict[Any, Any]", value).items()))
    return type(value) in _PLAIN or value is None


def find(
    called: str | None, operands: Sequence[Any], out: Any, otherwise: Callable[..., Any]
) -> Bound | None:
    """What serves calls of operands like these, and of `out`, if there is a record of it.

    Args:
        called: what `identity` gave.
        operands, out: what the call was given.
        otherwise: `f(*operands, out=...)`: takes the calls that the code does not succeed at.
    """
    key = _key(called, operands, out)
    text = None if key is None else current().load(key)
    if text is None:
        return None
    try:
        way = read(text.decode())
    except (ValueError, TypeError, IndexError):  # written by something else, under our name
        return None
    if way is None:
        return None
    if out is None:
        return Bound(way.making(otherwise), way, recorded=True)
    native = way.writing(otherwise)

    def write(*given: Any) -> Any:
        return native(*given[:-1], out=given[-1])

    return Bound(write, way, writes=True, recorded=True)


def keep(called: str | None, operands: Sequence[Any], out: Any, bound: Bound) -> bool:
    """Leaves a record of what serves calls of operands like these, if it is native code."""
    global written_now
    if bound.way is None or bound.recorded or written_now >= _MOST_WRITTEN:
        return False
    key = _key(called, operands, out)
    text = None if key is None else written(bound.way)
    if key is None or text is None:
        return False
    written_now += 1
    current().store(key, text.encode())
    return True


def mark(called: str | None) -> None:
    """Leaves word that what is called can be compiled: that there is nothing wrong with it."""
    here = _here()
    if called is not None and here is not None and not marked(called):
        current().store(key_of("mark", here, called), b"")


def marked(called: str) -> bool:
    """Whether an earlier process left such word."""
    here = None if current().folder is None else _here()
    return here is not None and current().load(key_of("mark", here, called)) is not None


def _key(called: str | None, operands: Sequence[Any], out: Any) -> str | None:
    """The key of a record; None if there can be none."""
    if called is None or current().folder is None:
        return None
    parts: list[str] = []
    for array in operands if out is None else (*operands, out):
        if type(array) is not np.ndarray or array.dtype.kind not in "biufc":
            return None
        parts.append(f"{array.dtype.str} {array.shape} {array.strides}")
    here = _here()
    if here is None:
        return None
    return key_of("record", here, called, "new" if out is None else "out", *parts)


@cache
def _here() -> str | None:
    """All that is the same for every record of this process, as a digest."""
    machine = identity_here()
    if machine is None or not layouts_known():
        return None
    try:
        files = _files(os.path.dirname(os.path.abspath(__file__)))
    except OSError:  # not in a folder
        return None
    return key_of(*machine, sys.version, np.__version__, "\n".join(files))


def _files(root: str) -> list[str]:
    """The files that einloom consists of, with the time and size of each: not what is in them.

    To read them takes as long as to load them.
    """
    found: list[str] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as listing:
            for entry in listing:
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    found.append(f"{entry.path} {status.st_size} {status.st_mtime_ns}")
                elif (
                    (entry.name in _ROOMS or folder != root)
                    and entry.name != "__pycache__"
                    and entry.is_dir()
                ):
                    folders.append(entry.path)
    return sorted(found)
