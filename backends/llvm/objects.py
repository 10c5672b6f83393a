"""How CPython and NumPy lay out the objects that native code reads, and what it calls of theirs.

The layouts are public and stable, but they are not promised to ctypes: they are checked once
against known objects. If they differ, or this is not CPython with its lock, `layouts_known` is
False and arrays are passed through ctypes instead.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..base import Array


#: Where fields begin, in bytes; builds of CPython differ in that.
HEAD = object.__basicsize__
REFERENCES, TYPE = HEAD - 16, HEAD - 8
BYTES = bytes.__basicsize__ - 1
TUPLE_SIZE, TUPLE_ITEMS = HEAD, tuple.__basicsize__
DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = (HEAD + n for n in (0, 8, 16, 24, 40, 48))

WRITEABLE = 0x400  # NPY_ARRAY_WRITEABLE

#: Arrays of so many bytes are large: the C library may give them back to the system once freed.
LARGE = 4 << 20

_ABI = 0x02000000  # NumPy 2's
#: Where NumPy's C interface has what is needed here (`numpy/__multiarray_api.h`).
_VERSION, _NDARRAY, _RETURN, _NEW_FROM_DESCR, _SET_HANDLER = 0, 2, 76, 94, 304


@cache
def array_functions() -> tuple[int, int]:
    """The addresses of NumPy's `PyArray_NewFromDescr` and `PyArray_Return`."""
    table = _array_api()
    return table[_NEW_FROM_DESCR], table[_RETURN]


def data_handler_setter() -> int:
    """The address of NumPy's `PyDataMem_SetHandler`."""
    found: int = _array_api()[_SET_HANDLER]
    return found


def of_python(name: str, returns: Any, *takes: Any) -> Any:
    """A function of CPython's, of these types.

    An attribute of `ctypes.pythonapi` is everybody's: what one sets for it, as its `argtypes`,
    another may set otherwise.

    Raises:
        AttributeError: there is none of that name.
    """
    return ctypes.PYFUNCTYPE(returns, *takes)((name, ctypes.pythonapi))


def keep_for_ever(*objects: Any) -> None:
    """None of them is ever collected: native code may use them to the very end of the process."""
    hold = of_python("Py_IncRef", None, ctypes.py_object)
    for each in objects:
        hold(each)


def _array_api() -> Any:
    """The table that NumPy offers to extension modules."""
    pointer = of_python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    capsule = sys.modules["numpy._core._multiarray_umath"].__dict__["_ARRAY_API"]
    return ctypes.cast(pointer(capsule, None), ctypes.POINTER(ctypes.c_size_t))


@cache
def layouts_known() -> bool:
    """Whether objects are laid out in this process as native code reads them."""
    locked = "t" not in getattr(sys, "abiflags", "")  # a build without the global lock has the t
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or not locked:
        return False
    needed = ("PyCFunction_NewEx", "PyObject_Vectorcall")
    if not all(hasattr(ctypes.pythonapi, name) for name in needed):
        return False
    text = b"einloom"
    if ctypes.string_at(id(text) + BYTES, len(text)) != text:
        return False
    built_in: Any = len
    if _words(id(len) + HEAD + 8, 1) != (id(built_in.__self__),):
        return False
    if ctypes.c_char_p.from_address(*_words(id(len) + HEAD, 1)).value != b"len":
        return False
    pair = (text, needed)
    (before,) = _words(id(pair) + REFERENCES, 1)
    more = [pair] * 5
    if _words(id(pair) + REFERENCES, 1) != (before + len(more),):
        return False
    if _words(id(pair) + TUPLE_SIZE, 1) != (2,):
        return False
    if _words(id(pair) + TUPLE_ITEMS, 2) != (id(text), id(needed)):
        return False
    if np.ndarray.__basicsize__ < FLAGS + 4 or not _has_array_api():
        return False
    examples = np.zeros((2, 3, 5), np.int16)[:, ::-1], np.zeros((), np.float64), np.zeros((4, 1))
    examples[2].flags.writeable = False
    return all(_is_laid_out(array) for array in examples)


def _has_array_api() -> bool:
    try:
        table = _array_api()
    except (KeyError, ValueError):
        return False
    version = ctypes.CFUNCTYPE(ctypes.c_uint)(table[_VERSION])
    return bool(table[_NDARRAY] == id(np.ndarray) and version() == _ABI)


def _is_laid_out(array: Array) -> bool:
    def word(offset: int) -> int:
        return _words(id(array) + offset, 1)[0]

    def narrow(offset: int) -> int:
        return ctypes.c_int32.from_address(id(array) + offset).value

    # The pointers to the extents and strides are followed only if all that is around them is right.
    return (
        word(TYPE) == id(type(array))
        and word(DATA) == array.ctypes.data
        and narrow(NDIM) == array.ndim
        and word(DTYPE) == id(array.dtype)
        and bool(narrow(FLAGS) & WRITEABLE) == array.flags.writeable
        and _words(word(SHAPE), array.ndim) == array.shape
        and _words(word(STRIDES), array.ndim) == array.strides
    )


def _words(address: int, count: int) -> tuple[int, ...]:
    return tuple((ctypes.c_int64 * count).from_address(address)) if count else ()
