"""A way into a kernel as text: what another process needs to go the same way, without compiling.

The code itself is named by its key in the object cache. Numbers and names of dtypes, nothing else:

    key of the kernel
    inputs, whether the lock is let go of, how many threads share the work ("-": as is set)
    parameters
    dtype and record of each array
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Bound
from .loaded import from_disk


def written(way: object) -> str | None:
    """The text; None if it would not say all: a dtype without a name, code that is on no disk."""
    if not isinstance(way, Bound):
        return None
    names = [dtype.str for dtype in way.dtypes]
    known = all(np.dtype(name) is dtype for name, dtype in zip(names, way.dtypes, strict=True))
    if not known or not way.kernel.key:
        return None
    lines = [
        way.kernel.key,
        f"{way.inputs} {int(way.release_gil)} {way.threads or '-'}",
        _numbers(way.parameters),
    ]
    at = 0
    for name in names:
        end = at + Bound.HEAD + 2 * way.records[at + Bound.NDIM]
        lines.append(f"{name} {_numbers(way.records[at + 1 : end])}")
        at = end
    return "\n".join(lines)


def read(text: str) -> Bound | None:
    """The way that a text tells of; None if code that it names is on the disk no more.

    Raises:
        ValueError, TypeError, IndexError: it tells of none.
    """
    key, how, parameters, *arrays = text.split("\n")
    kernel = from_disk(key)
    if kernel is None:
        return None
    first, released, shared_by = how.split(" ")
    inputs, threads = int(first), None if shared_by == "-" else int(shared_by)
    dtypes: list[np.dtype[Any]] = []
    records: list[int] = []
    for line in arrays:
        name, *numbers = line.split(" ")
        dtype = np.dtype(name)
        record = (id(dtype), *map(int, numbers))
        if len(record) != Bound.HEAD + 2 * record[Bound.NDIM]:  # native code reads as far as that
            raise ValueError("a record that is cut off")
        dtypes.append(dtype)
        records += record
    if not 0 <= inputs <= len(dtypes) or (threads is not None and threads < 1):
        raise ValueError("a record of other arrays")
    given = tuple(map(int, parameters.split()))
    made = (kernel, given, tuple(dtypes), tuple(records), inputs, released == "1", threads)
    return Bound(*made)


def _numbers(values: tuple[int, ...]) -> str:
    return " ".join(str(int(value)) for value in values)
