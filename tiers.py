"""Calls that do not wait: NumPy answers while native code is compiled in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from einloom import background
from einloom.backends.base import Array
from einloom.dispatch import Bound
from einloom.specialisation import counted


def at_once(plain: Bound, compiled: Callable[[], Bound], backend: str) -> Bound:
    """Calls that `plain` answers until `compiled()`, done in the background, gives what does.

    Those that it answers are counted among the `fallbacks()` of `backend`; all of them, with the
    reason, if `compiled()` raises.
    """
    meanwhile = counted(f"{backend}: it is being compiled", plain.call)

    def call(*arrays: Any) -> Any:
        if bound.later is None:
            background.go_on()  # in a child that was forked meanwhile
            return meanwhile(*arrays)
        return bound.later.call(*arrays)

    def compile_now() -> None:
        try:
            bound.later = compiled()
        except BaseException as error:  # whatever it is: there is nobody to tell but the counter
            reason = str(error).split("\n")[0] or type(error).__name__
            bound.later = Bound(counted(f"{backend}: {reason}", plain.call))

    bound = Bound(call)
    background.submit(compile_now)
    return bound


def like(array: Array) -> Array:
    """An array of the same dtype, shape and strides, in memory of its own that is never touched.

    So that nobody's array is kept from being freed, or resized, by what is done in the background.
    """
    steps = [s * (n - 1) for s, n in zip(array.strides, array.shape, strict=True) if array.size]
    below = -sum(step for step in steps if step < 0)
    above = sum(step for step in steps if step > 0) + array.itemsize
    memory = np.empty(below + above, np.uint8)
    return np.ndarray(array.shape, array.dtype, memory, below, array.strides)
