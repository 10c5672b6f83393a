"""What a Python module that einloom writes needs beside its code: NumPy and ctypes alone.

The text of this file is a part of each such module (module.py), so it imports nothing of einloom.
"""

from __future__ import annotations

import base64
import ctypes
import os
import platform
import sys
import tempfile
import zlib
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

#: NumPy's arrays, of any dtype; checkers of types know no more of what is handed in.
Array = Any


def load_library(code: str, system: str, machine: str) -> ctypes.CDLL:
    """The shared object that the text holds, in memory.

    Raises:
        ImportError: it is for another system or processor, or cannot be loaded.
    """
    names = {"amd64": "x86_64", "arm64": "aarch64"}
    here = platform.machine().lower()
    if (sys.platform, names.get(here, here)) != (system, machine):
        raise ImportError(f"this code is for {machine} on {system}, not {here} on {sys.platform}")
    image = zlib.decompress(base64.b85decode(code.replace("\n", "")))
    try:
        return _loaded_from_memory(image)
    except (AttributeError, OSError):  # no such system call, or no /proc
        pass
    try:
        with tempfile.TemporaryDirectory(prefix="einloom-") as folder:
            path = os.path.join(folder, "code.so")
            with open(path, "wb") as file:
                file.write(image)
            return ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"this code cannot be loaded: {error}") from None


def _loaded_from_memory(image: bytes) -> ctypes.CDLL:
    descriptor = os.memfd_create("einloom")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(image)
        # It stays open: of two libraries with one path the system's loader loads the first only.
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    except OSError:
        os.close(descriptor)
        raise


class Kernel:
    """A native function of arrays, for any shapes and strides."""

    def __init__(self, library: ctypes.CDLL, entry: str, processors: str) -> None:
        self._entry = library[entry]
        self._entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._entry.restype = ctypes.c_int32
        self._processors = processors

    def __call__(
        self,
        sizes: Sequence[int],
        inputs: Sequence[Array],
        outputs: Sequence[tuple[str, tuple[int, ...], Any]],
        out: Any,
    ) -> Any:
        """The outputs, each a (name, shape, dtype): new arrays, or `out`."""
        targets: list[Any] = [None] * len(outputs)
        if out is not None:
            targets = checked_targets(out, outputs)
        results: list[Any] = []
        for target, (_, shape, dtype) in zip(targets, outputs, strict=True):
            direct = target is not None and target.flags.c_contiguous
            if direct and not any(np.may_share_memory(target, array) for array in inputs):
                results.append(target)
            else:
                results.append(np.empty(shape, dtype))
        arrays = [*inputs, *results]
        numbers = [*sizes, *(stride for array in arrays for stride in array.strides), 0]
        parameters = (ctypes.c_int64 * len(numbers))(*numbers)
        pointers = [array.__array_interface__["data"][0] for array in arrays]
        self._succeeded(self._entry(parameters, (ctypes.c_void_p * len(pointers))(*pointers)))
        if out is not None:
            for target, result in zip(targets, results, strict=True):
                if result is not target:
                    target[...] = result
            return out
        found = [result if result.ndim else result[()] for result in results]
        return tuple(found) if len(found) > 1 else found[0]

    def _succeeded(self, status: int) -> None:
        if status == 2:
            raise MemoryError("there is no memory for intermediates")
        if status == 3:
            raise IndexError("an index that is read from an array is out of range")
        if status == 4:
            raise RuntimeError(
                f"this processor cannot run the code, which is for {self._processors}"
            )
        if status:
            raise RuntimeError(f"native code ended with the status {status}")


def as_input(array: Array, name: str, dtype: Any, ndim: int) -> Array:
    """An input, looked at but for its extents."""
    ndarray: Any = np.ndarray
    if not isinstance(array, ndarray):
        raise TypeError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {np.dtype(dtype)}, not {array.dtype}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, not the shape {array.shape}")
    return np.asarray(array)


def check_shape(array: Array, name: str, said: str, shape: tuple[int, ...]) -> None:
    """A ValueError unless the array has the shape, which was said to be `said`."""
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape [{said}] = {shape}, not {array.shape}")


def with_unit_stride(array: Array) -> Array:
    """The array, or a copy whose last axis has unit stride."""
    if array.ndim and array.shape[-1] > 1 and array.strides[-1] != array.itemsize:
        return np.array(array, order="C")
    return array


def checked_targets(out: Any, outputs: Sequence[tuple[str, tuple[int, ...], Any]]) -> list[Array]:
    """The arrays of `out=`, one for each output."""
    several: Any = tuple, list
    targets: list[Array] = list(out) if isinstance(out, several) else [out]
    if len(targets) != len(outputs):
        raise ValueError(f"out= has {len(targets)} arrays for {len(outputs)} outputs")
    for target, (name, shape, dtype) in zip(targets, outputs, strict=True):
        as_input(target, f"out= for {name}", dtype, len(shape))
        if target.shape != shape:
            raise ValueError(f"out= has the shape {target.shape} but {name} has {shape}")
        if not target.flags.writeable:
            raise ValueError(f"out= for {name} is a read-only array")
    if any(np.shares_memory(a, b) for a, b in combinations(targets, 2)):
        raise ValueError("two of the arrays of out= share memory")
    return targets
