"""The buffer pool: the memory of large results that nobody holds any more serves the next ones.

The C library gives large memory back to the system, some of it at once, and the system clears each
page of the next such result: that takes longer than most einsums that fill it. So large results get
their memory from a handler (NumPy's NEP 49) that keeps a few of the buffers freed last. The system
may take their pages back whenever it is short of memory; what it clears then costs what it did.
"""

from __future__ import annotations

import ctypes
import operator
import os
import sys
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...ir.errors import ArgumentError, OperandError
from .buffers_ir import (
    BUFFERS,
    CAPSULE,
    FUNCTIONS,
    LIMIT,
    NAME,
    NEW_FROM_DESCR,
    SET_HANDLER,
    STATE_WORDS,
)
from .forks import lock_held_over_forks
from .helpers import helper
from .objects import (
    LARGE,
    array_functions,
    data_handler_setter,
    keep_for_ever,
    layouts_known,
    of_python,
)

if TYPE_CHECKING:
    from ..base import Array


def _at_first() -> int:
    if not hasattr(os, "sysconf"):
        return _MOST
    return min(_MOST, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 16)


#: So many bytes it may hold at first: a gigabyte, or a sixteenth of the memory if that is less.
_MOST = 1 << 30
DEFAULT_LIMIT = _at_first()

_setting: list[int] = [DEFAULT_LIMIT]


#: What NumPy wants the capsule of a handler to be called.
_CAPSULE_NAME = b"mem_handler"


class _Allocator(ctypes.Structure):
    """NumPy's PyDataMem_Handler, with its PyDataMemAllocator."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in FUNCTIONS[:4]),
    )


class _Pool:
    """The pool of this process. Arrays free their memory into it to the very end: it stays."""

    def __init__(self) -> None:
        code = helper(BUFFERS, NAME)
        find = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_int64)(code.address)
        addresses = {name: find(number) for number, name in enumerate(FUNCTIONS)}
        self.state: Any = (ctypes.c_uint64 * STATE_WORDS)()
        self.new = addresses["new"]
        # Arrays come and go under the interpreter's lock: while this holds it, the pool is free.
        self.limit: Any = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(
            addresses["limit"]
        )
        allocator = _Allocator(
            *(b"einloom", 1, ctypes.addressof(self.state)),
            *(addresses[name] for name in FUNCTIONS[:4]),
        )
        make = of_python(
            "PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
        )
        self.capsule = capsule = make(ctypes.addressof(allocator), _CAPSULE_NAME, None)
        set_handler = data_handler_setter()
        self.handle: Any = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(set_handler)
        self.state[LIMIT] = _setting[0]
        self.state[CAPSULE] = id(capsule)
        self.state[NEW_FROM_DESCR] = array_functions()[0]
        self.state[SET_HANDLER] = set_handler
        keep_for_ever(code, self.state, allocator, capsule)


_lock = lock_held_over_forks()
_made: list[_Pool] = []


def _pool() -> _Pool | None:
    """The pool; None where results are as NumPy makes them: elsewhere than on Linux."""
    if sys.platform != "linux" or not layouts_known():
        return None
    with _lock:
        if not _made:
            _made.append(_Pool())
        return _made[0]


def maker() -> tuple[int, int]:
    """What makes a large result, and the pool that it takes last: two addresses.

    The first is that of a function as NumPy's PyArray_NewFromDescr.
    """
    pool = _pool()
    return (array_functions()[0], 0) if pool is None else (pool.new, ctypes.addressof(pool.state))


def empty(shape: tuple[int, ...], dtype: np.dtype[Any], order: Literal["C", "F"] = "C") -> Array:
    """`np.empty`; a large array's memory is from the pool, and goes back there."""
    pool = _pool() if dtype.itemsize * prod(shape) >= LARGE else None
    if pool is None:
        return np.empty(shape, dtype, order)
    before = pool.handle(pool.capsule)
    try:
        return np.empty(shape, dtype, order)
    finally:
        pool.handle(before)


def get_buffer_pool_limit() -> int:
    """How many bytes of large results that nobody holds any more are kept for the next ones."""
    return _setting[0]


def set_buffer_pool_limit(nbytes: int) -> None:
    """Sets how many bytes of freed large results are kept for the next ones; frees the rest.

    Results of 4 MB and more are made in memory that others had before, if there is some of the
    same size: that saves the time in which the system clears it, which may be more than all else
    takes. The system takes what is kept back itself when it is short of memory. At first the limit
    is a gigabyte, or a sixteenth of the memory if that is less; 0 keeps nothing.

    Raises:
        OperandError: it is no integer.
        ArgumentError: it is negative.
    """
    try:
        limit = operator.index(nbytes)
    except TypeError:
        raise OperandError(f"a number of bytes is an integer, not {nbytes!r}") from None
    if not 0 <= limit < 1 << 62:
        raise ArgumentError(f"{limit} is not a number of bytes that memory may have")
    with _lock:
        _setting[0] = limit
        for pool in _made:
            pool.limit(ctypes.addressof(pool.state), limit)
