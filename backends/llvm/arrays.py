"""Calling native code with NumPy arrays as they are: a built-in function made for one signature.

ctypes takes 0.3 us an argument, and `array.ctypes.data` 2 us. So the function that CPython calls
is native code too (`METH_FASTCALL`): it reads the arrays' fields itself, compares them with what
the kernel was bound to, and calls the kernel. It is the same code for all kernels; what it must
know of one is in a block of numbers, which is its `self`, a `bytes` object.

CPython's and NumPy's object layouts are public and stable, but they are not promised to ctypes:
they are checked once against known arrays, and if they differ, or this is not CPython, arrays are
passed through ctypes.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import numpy as np

from ..base import Array, Call
from .elf import Code
from .runtime import load

#: What to do about a call that did not succeed: takes its status, or a refusal (below); raises.
Failure = Callable[[int], Any]

#: Given to `Failure`: the number of arrays is wrong; and REFUSED - n: array n is not of the
#: signature that the call is bound to.
WRONG_COUNT, REFUSED = -1, -2

#: More arrays than this go through ctypes; the native way keeps their addresses on the stack.
_MOST_ARRAYS = 1024

_WRITEABLE = 0x400  # NPY_ARRAY_WRITEABLE

#: Where a bytes object's contents and an array's fields begin; builds of CPython differ in that.
_BYTES = bytes.__basicsize__ - 1
_HEAD = object.__basicsize__
_DATA, _NDIM, _SHAPE, _STRIDES, _DTYPE, _FLAGS = (_HEAD + n for n in (0, 8, 16, 24, 40, 48))

_NAME = "einloom_call"

# The block: kernel, number of arrays, whether to let go of the GIL, the type ndarray, the function
# `Failure`, where the parameters begin (in bytes); then for each array its dtype, the flags that it
# must have, its number of axes, their extents, their strides; then the parameters.
_CALL = f"""
@_Py_NoneStruct = external global i8
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyObject_CallOneArg(ptr, ptr)
declare i32 @PyObject_RichCompareBool(ptr, ptr, i32)
declare i32 @PyType_IsSubtype(ptr, ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)

define ptr @{_NAME}(ptr %self, ptr %args, i64 %given) {{
entry:
  %block = getelementptr i8, ptr %self, i64 {_BYTES}
  %kernel = load ptr, ptr %block
  %count.p = getelementptr i64, ptr %block, i64 1
  %count = load i64, ptr %count.p
  %release.p = getelementptr i64, ptr %block, i64 2
  %release = load i64, ptr %release.p
  %ndarray.p = getelementptr i64, ptr %block, i64 3
  %ndarray = load ptr, ptr %ndarray.p
  %failure.p = getelementptr i64, ptr %block, i64 4
  %failure = load ptr, ptr %failure.p
  %params.p = getelementptr i64, ptr %block, i64 5
  %params.at = load i64, ptr %params.p
  %params = getelementptr i8, ptr %block, i64 %params.at
  %arrays = getelementptr i64, ptr %block, i64 6
  %count.ok = icmp eq i64 %given, %count
  br i1 %count.ok, label %start, label %fail
start:
  %data = alloca ptr, i64 %count
  br label %array
array:
  %n = phi i64 [ 0, %start ], [ %n.next, %accept ]
  %want = phi ptr [ %arrays, %start ], [ %want.next, %accept ]
  %refused = sub i64 {REFUSED}, %n
  %more = icmp slt i64 %n, %count
  br i1 %more, label %type, label %call
type:
  %arg.p = getelementptr ptr, ptr %args, i64 %n
  %arg = load ptr, ptr %arg.p
  %type.p = getelementptr i8, ptr %arg, i64 {_HEAD - 8}
  %type.is = load ptr, ptr %type.p
  %type.ok = icmp eq ptr %type.is, %ndarray
  br i1 %type.ok, label %dtype, label %subtype
subtype:
  %sub = call i32 @PyType_IsSubtype(ptr %type.is, ptr %ndarray)
  %sub.ok = icmp ne i32 %sub, 0
  br i1 %sub.ok, label %dtype, label %fail
dtype:
  %dtype.p = getelementptr i8, ptr %arg, i64 {_DTYPE}
  %dtype.is = load ptr, ptr %dtype.p
  %dtype.want = load ptr, ptr %want
  %dtype.ok = icmp eq ptr %dtype.is, %dtype.want
  br i1 %dtype.ok, label %fields, label %equal
equal:
  %compared = call i32 @PyObject_RichCompareBool(ptr %dtype.is, ptr %dtype.want, i32 2)
  switch i32 %compared, label %error [ i32 0, label %fail
                                       i32 1, label %fields ]
fields:
  %flags.p = getelementptr i8, ptr %arg, i64 {_FLAGS}
  %flags = load i32, ptr %flags.p
  %flags.want.p = getelementptr i64, ptr %want, i64 1
  %flags.want = load i64, ptr %flags.want.p
  %flags.wide = zext i32 %flags to i64
  %flags.lack.not = xor i64 %flags.wide, -1
  %flags.lack = and i64 %flags.lack.not, %flags.want
  %flags.ok = icmp eq i64 %flags.lack, 0
  %ndim.p = getelementptr i8, ptr %arg, i64 {_NDIM}
  %ndim.narrow = load i32, ptr %ndim.p
  %ndim = sext i32 %ndim.narrow to i64
  %ndim.want.p = getelementptr i64, ptr %want, i64 2
  %ndim.want = load i64, ptr %ndim.want.p
  %ndim.ok = icmp eq i64 %ndim, %ndim.want
  %both.ok = and i1 %flags.ok, %ndim.ok
  %shape.want = getelementptr i64, ptr %want, i64 3
  %strides.want = getelementptr i64, ptr %shape.want, i64 %ndim
  %shape.p = getelementptr i8, ptr %arg, i64 {_SHAPE}
  %shape = load ptr, ptr %shape.p
  %strides.p = getelementptr i8, ptr %arg, i64 {_STRIDES}
  %strides = load ptr, ptr %strides.p
  br i1 %both.ok, label %axis, label %fail
axis:
  %a = phi i64 [ 0, %fields ], [ %a.next, %extent ]
  %a.more = icmp slt i64 %a, %ndim
  br i1 %a.more, label %extent, label %accept
extent:
  %extent.p = getelementptr i64, ptr %shape, i64 %a
  %extent.is = load i64, ptr %extent.p
  %extent.want.p = getelementptr i64, ptr %shape.want, i64 %a
  %extent.want = load i64, ptr %extent.want.p
  %extent.ok = icmp eq i64 %extent.is, %extent.want
  %stride.p = getelementptr i64, ptr %strides, i64 %a
  %stride.is = load i64, ptr %stride.p
  %stride.want.p = getelementptr i64, ptr %strides.want, i64 %a
  %stride.want = load i64, ptr %stride.want.p
  %stride.ok = icmp eq i64 %stride.is, %stride.want
  %axis.ok = and i1 %extent.ok, %stride.ok
  %a.next = add i64 %a, 1
  br i1 %axis.ok, label %axis, label %fail
accept:
  %data.p = getelementptr i8, ptr %arg, i64 {_DATA}
  %pointer = load ptr, ptr %data.p
  %data.n = getelementptr ptr, ptr %data, i64 %n
  store ptr %pointer, ptr %data.n
  %want.next = getelementptr i64, ptr %strides.want, i64 %ndim
  %n.next = add i64 %n, 1
  br label %array
call:
  %releases = icmp ne i64 %release, 0
  br i1 %releases, label %released, label %held
held:
  %status.held = call i32 %kernel(ptr %params, ptr %data)
  br label %done
released:
  %thread = call ptr @PyEval_SaveThread()
  %status.released = call i32 %kernel(ptr %params, ptr %data)
  call void @PyEval_RestoreThread(ptr %thread)
  br label %done
done:
  %status = phi i32 [ %status.held, %held ], [ %status.released, %released ]
  %status.wide = sext i32 %status to i64
  %status.ok = icmp eq i32 %status, 0
  br i1 %status.ok, label %none, label %fail
none:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
fail:
  %why = phi i64 [ {WRONG_COUNT}, %entry ], [ %refused, %subtype ], [ %refused, %equal ],
                 [ %refused, %fields ], [ %refused, %extent ], [ %status.wide, %done ]
  %number = call ptr @PyLong_FromLongLong(i64 %why)
  %number.no = icmp eq ptr %number, null
  br i1 %number.no, label %error, label %raise
raise:
  %result = call ptr @PyObject_CallOneArg(ptr %failure, ptr %number)
  call void @Py_DecRef(ptr %number)
  ret ptr %result
error:
  ret ptr null
}}
"""


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("ml_name", ctypes.c_char_p),
        ("ml_meth", ctypes.c_void_p),
        ("ml_flags", ctypes.c_int),
        ("ml_doc", ctypes.c_char_p),
    )


_METH_FASTCALL = 0x80


def call_of(
    kernel: Code,
    parameters: Sequence[int],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    release_gil: bool,
    failure: Failure,
) -> Call:
    """A function of arrays with the same dtypes, shapes and strides as these that runs a kernel.

    It may be called by many threads at once, and keeps the kernel's code in memory.

    Args:
        kernel: `i32 kernel(const i64 *parameters, void **data)`.
        parameters: what the kernel gets first.
        inputs, outputs: examples of what it will be called with, in this order.
        release_gil: whether other Python threads run meanwhile; worth it from some 10 us on.
        failure: called with a status other than 0, or with a refusal; it raises.
    """
    arrays = (*inputs, *outputs)
    if not layouts_known() or len(arrays) > _MOST_ARRAYS:
        return _through_ctypes(kernel, parameters, arrays, len(inputs), failure)
    signature: list[int] = []
    for number, array in enumerate(arrays):
        flags = 0 if number < len(inputs) else _WRITEABLE
        signature += (id(array.dtype), flags, array.ndim, *array.shape, *array.strides)
    head = (kernel.address, len(arrays), release_gil, id(np.ndarray), id(failure))
    words = (*head, 8 * (len(head) + 1 + len(signature)), *signature, *parameters)
    block = struct.pack(f"={len(words)}q", *words)
    entry = load(_CALL, _NAME)
    definition = _MethodDef(b"einsum", entry.address, _METH_FASTCALL, None)
    # The built-in function holds its `self` and its `__module__`, and that holds the rest.
    held = (definition, entry, kernel, failure, [array.dtype for array in arrays])
    call: Call = _new_builtin()(ctypes.addressof(definition), block, held)
    return call


@cache
def _new_builtin() -> Callable[..., Any]:
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    return new


def _through_ctypes(
    kernel: Code,
    parameters: Sequence[int],
    arrays: Sequence[Array],
    inputs: int,
    failure: Failure,
) -> Call:
    run = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(kernel.address)
    block = (ctypes.c_int64 * max(len(parameters), 1))(*parameters)
    wanted = [_key(array) for array in arrays]
    addresses = ctypes.c_void_p * max(len(wanted), 1)

    def call(*given: Any) -> None:
        if len(given) != len(wanted):
            failure(WRONG_COUNT)
        for number, (array, want) in enumerate(zip(given, wanted, strict=True)):
            fits = isinstance(array, np.ndarray) and _key(cast(Array, array)) == want
            if not fits or (number >= inputs and not array.flags.writeable):
                failure(REFUSED - number)
        status = run(block, addresses(*(array.ctypes.data for array in given)))
        if status:
            failure(status)

    call.__dict__["kernel"] = kernel  # its code stays in memory as long as this function
    return call


def _key(array: Array) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.strides


@cache
def layouts_known() -> bool:
    """Whether objects are laid out in this process as `_CALL` reads them."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8:
        return False
    text = b"einloom"
    if ctypes.string_at(id(text) + _BYTES, len(text)) != text:
        return False
    if np.ndarray.__basicsize__ < _FLAGS + 4 or not hasattr(ctypes.pythonapi, "PyCFunction_NewEx"):
        return False
    examples = np.zeros((2, 3, 5), np.int16)[:, ::-1], np.zeros((), np.float64), np.zeros((4, 1))
    examples[2].flags.writeable = False
    return all(_is_laid_out(array) for array in examples)


def _is_laid_out(array: Array) -> bool:
    def word(offset: int) -> int:
        return ctypes.c_int64.from_address(id(array) + offset).value

    def numbers(address: int) -> tuple[int, ...]:
        return tuple((ctypes.c_int64 * array.ndim).from_address(address)) if array.ndim else ()

    def narrow(offset: int) -> int:
        return ctypes.c_int32.from_address(id(array) + offset).value

    # The pointers to the extents and strides are followed only if all that is around them is right.
    return (
        word(_HEAD - 8) == id(type(array))
        and word(_DATA) == array.ctypes.data
        and narrow(_NDIM) == array.ndim
        and word(_DTYPE) == id(array.dtype)
        and bool(narrow(_FLAGS) & _WRITEABLE) == array.flags.writeable
        and numbers(word(_SHAPE)) == array.shape
        and numbers(word(_STRIDES)) == array.strides
    )
