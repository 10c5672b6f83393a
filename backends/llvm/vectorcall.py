"""Objects that call native code without a detour through Python (CPython's vectorcall, PEP 590).

CPython calls an instance of a class by making a tuple of the arguments, looking up `__call__`, and
calling what that gives: 60 ns. A type may have a native function for that instead, in each of its
instances; where there is none (NULL) the call goes the usual way. Classes written in Python cannot
say so, but a type made by `PyType_FromSpecWithBases` can, and it may have such a class as its base.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, cast

from .guard import GUARD
from .guard_words import NAME
from .helpers import helper
from .objects import HEAD, layouts_known, of_python

_HAVE_VECTORCALL = 1 << 11  # Py_TPFLAGS_HAVE_VECTORCALL
_SSIZE, _READONLY = 19, 1  # T_PYSSIZET, READONLY
_MEMBERS = 72  # Py_tp_members
_MAKE = "PyType_FromSpecWithBases"


class _Member(ctypes.Structure):
    """CPython's PyMemberDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Slot(ctypes.Structure):
    """CPython's PyType_Slot."""

    _fields_ = (("slot", ctypes.c_int), ("value", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    """CPython's PyType_Spec."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    )


@cache
def quick_type(plain: Any) -> Any:
    """A subclass whose instances may be called natively (`call_natively`).

    `plain` itself where that cannot be. It is a class with `__slots__` alone, without `__dict__`,
    and the first of its slots is `__call__`.
    """
    if not hasattr(ctypes.pythonapi, _MAKE) or not layouts_known():
        return plain
    make = of_python(_MAKE, ctypes.py_object, ctypes.POINTER(_Spec), ctypes.py_object)
    offset = plain.__basicsize__
    members = (_Member * 2)(_Member(b"__vectorcalloffset__", _SSIZE, offset, _READONLY, None))
    slots = (_Slot * 2)(_Slot(_MEMBERS, ctypes.addressof(members)))
    name = f"{plain.__module__}.{plain.__qualname__}".encode()
    spec = _Spec(name, offset + ctypes.sizeof(ctypes.c_void_p), 0, _HAVE_VECTORCALL, slots)
    made: type[Any] = make(ctypes.byref(spec), (plain,))
    _made[made] = (members, slots, spec, name)  # older CPythons do not copy all of it
    return made


_made: dict[type[Any], Any] = {}


def call_natively(instance: Any) -> None:
    """From now on calls of it go straight to what it holds in `__call__`.

    Does nothing for an instance of another type than `quick_type` makes.
    """
    quick = cast(type[Any], type(instance))
    plain = quick.__base__
    if plain is None or quick not in _made:
        return
    slot = ctypes.c_size_t.from_address(id(instance) + HEAD)
    if slot.value == id(instance.__call__):
        pointer = ctypes.c_size_t.from_address(id(instance) + plain.__basicsize__)
        pointer.value = helper(GUARD, NAME).address
