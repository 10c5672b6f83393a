"""Calling native code with NumPy arrays as they are: a built-in function made for one signature.

ctypes takes 0.3 us an argument, and `array.ctypes.data` 2 us. So the function that CPython calls
is native code too (`METH_FASTCALL`): it reads the arrays' fields itself, compares them with what
the kernel was bound to, makes the results where that is asked for, and calls the kernel. Whatever
else it is given, or the kernel does not succeed at, it passes on as it came, to the slower way.
It is the same code for all kernels; what it must know of one is in a block of numbers, which is
its `self`, a `bytes` object. Where layouts are not known, arrays are passed through ctypes.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Collection, Sequence
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from ...ir.errors import OutOfMemoryError
from .guard import GUARD
from .guard_words import BLOCK, MOST_ARRAYS, NAME, QUICK, RECORD
from .helpers import helper
from .image import Code
from .objects import BYTES, LARGE, WRITEABLE, array_functions, layouts_known, of_python

if TYPE_CHECKING:
    from ..base import Array, Call

#: What to do about a call that did not succeed: takes its status, or a refusal (below); raises.
Failure = Callable[[int], Any]

#: Given to `Failure`: the number of arrays is wrong; and REFUSED - n: array n is not of the
#: signature that the call is bound to.
WRONG_COUNT, REFUSED = -1, -2

_METH_FASTCALL, _METH_KEYWORDS = 0x80, 0x02


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("ml_name", ctypes.c_char_p),
        ("ml_meth", ctypes.c_void_p),
        ("ml_flags", ctypes.c_int),
        ("ml_doc", ctypes.c_char_p),
    )


class Bound:
    """A kernel for arrays of one signature: what a call of it needs, and no more.

    `kernel`: `i32 kernel(const i64 *parameters, void **data, void *team)`; `parameters`: what it
    gets first. `dtypes`, `records`: of the inputs, then of the outputs, as the guard reads them.
    `inputs`: how many are inputs. `release_gil`: whether other Python threads run meanwhile; worth
    it from 10 us on. `threads`: how many share its work, at most (threads.py).
    """

    # No dataclass: to make one takes a millisecond, and a first call has five.
    __slots__ = ("dtypes", "inputs", "kernel", "parameters", "records", "release_gil", "threads")

    #: A record: so many words, and the extents, and the strides. The third says how many each.
    HEAD, NDIM = len(RECORD), RECORD.index("ndim")

    def __init__(
        self,
        kernel: Code,
        parameters: tuple[int, ...],
        dtypes: tuple[np.dtype[Any], ...],
        records: tuple[int, ...],
        inputs: int,
        release_gil: bool,
        threads: int | None = 1,
    ) -> None:
        self.kernel = kernel
        self.parameters = parameters
        self.dtypes = dtypes
        self.records = records
        self.inputs = inputs
        self.release_gil = release_gil
        self.threads = threads

    def builtin(self, otherwise: Callable[..., Any], *, bare: int, out: bool) -> Callable[..., Any]:
        """A built-in function that runs the kernel, or passes the call on to `otherwise`.

        `bare`: how many arrays it takes without a keyword: the inputs alone, and it makes and
        returns the outputs; all, and it returns None; none (-1). `out`: whether it takes the
        inputs and the output as `out=`, which it returns.
        """
        new, as_scalar = array_functions()
        make, pool = self._maker(new)
        head = {
            "quick": self.inputs if bare == self.inputs and not pool and self._is_quick() else -1,
            "bare": bare,
            "*ndarray": id(np.ndarray),
            "*itself": 0,
            "*new": make,
            "*pool": pool,
            "release": self.release_gil,
            "*kernel": self.kernel.address,
            "*team": _team(self.threads),
            "params.at": 8 * (len(BLOCK) + len(self.records)),
            "count": len(self.dtypes),
            "inputs": self.inputs,
            "out": out,
            "*out.name": id(_OUT),
            "*as.scalar": as_scalar,
            "*otherwise": id(otherwise),
            "*spoilt": id(_spoilt),
        }
        words = (*map(head.__getitem__, BLOCK), *self.records, *self.parameters)
        block = struct.pack(f"={len(words)}q", *words)
        flags = _METH_FASTCALL | _METH_KEYWORDS
        entry = helper(GUARD, NAME)
        definition = _MethodDef(b"einsum", entry.address, flags, None)
        # The built-in function holds its `self` and its `__module__`, and that holds the rest.
        held = (definition, entry, self.kernel, otherwise, self.dtypes)
        made: Callable[..., Any] = _new_builtin()(ctypes.addressof(definition), block, held)
        # Nobody has seen the block yet: it is still ours to write to.
        itself = id(block) + BYTES + 8 * BLOCK.index("*itself")
        ctypes.c_size_t.from_address(itself).value = id(made)
        return made

    def _maker(self, new: int) -> tuple[int, int]:
        """What makes results, `new` or a function as it, and what that takes last."""
        at = 0
        for number, dtype in enumerate(self.dtypes):
            begin, rank = at + self.HEAD, self.records[at + self.NDIM]
            size = dtype.itemsize * prod(self.records[begin : begin + rank])
            if number >= self.inputs and size >= LARGE:
                from .buffers import maker

                return maker()
            at = begin + 2 * rank
        return new, 0

    def _is_quick(self) -> bool:
        """Whether the guard's quick way serves it: one result, an array that lies row by row."""
        if self.release_gil or not 0 < self.inputs == len(self.dtypes) - 1 < QUICK:
            return False
        at = 0
        for _ in range(self.inputs):
            at += self.HEAD + 2 * self.records[at + self.NDIM]
        return bool(self.records[at + self.NDIM] and self.records[at + RECORD.index("plain")])

    def making(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the inputs, or of them and `out=`, that returns the outputs."""
        one = len(self.dtypes) == self.inputs + 1
        return self.builtin(otherwise, bare=self.inputs, out=one)

    def writing(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the inputs and `out=`, which it returns."""
        return self.builtin(otherwise, bare=-1, out=True)


def _spoilt() -> NoReturn:
    """Called by the guard when a kernel has failed that may have overwritten an input."""
    raise OutOfMemoryError("no memory for intermediates; out=, an input, may be overwritten")


#: Keywords' names are interned: that of every call's `out=` is this object.
_OUT = sys.intern("out")


def bound(
    kernel: Code,
    parameters: Sequence[int],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    release_gil: bool,
    threads: int | None = 1,
    overwritten: Collection[int] = (),
) -> Bound | None:
    """A kernel for arrays with these dtypes, shapes and strides; None where it takes ctypes.

    The output may be one of the inputs that are `overwritten`.
    """
    arrays = (*inputs, *outputs)
    if not layouts_known() or len(arrays) > MOST_ARRAYS:
        return None
    records: list[int] = []
    for number, array in enumerate(arrays):
        flags = 0 if number < len(inputs) else WRITEABLE
        records += _record(array, flags, number in overwritten)
    dtypes = tuple(array.dtype for array in arrays)
    made = (kernel, tuple(parameters), dtypes, tuple(records), len(inputs), release_gil, threads)
    return Bound(*made)


def _record(array: Array, flags: int, overwritten: bool) -> list[int]:
    """What GUARD compares an array with, or makes one from."""
    steps = [
        stride * (extent - 1) for stride, extent in zip(array.strides, array.shape, strict=True)
    ]
    low = sum(step for step in steps if step < 0) if array.size else 0
    high = sum(step for step in steps if step > 0) + array.itemsize if array.size else 0
    head = [id(array.dtype), flags, array.ndim, low, high, array.flags.c_contiguous, overwritten]
    return [*head, *array.shape, *array.strides]


def call_of(
    kernel: Code,
    parameters: Sequence[int],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    release_gil: bool,
    failure: Failure,
    threads: int | None = 1,
    overwritten: Collection[int] = (),
) -> Call:
    """A function of arrays with the same dtypes, shapes and strides as these that runs a kernel.

    It may be called by many threads at once, and keeps the kernel's code in memory.

    Args:
        kernel, parameters, release_gil, threads: as in `Bound`.
        overwritten: the inputs that the output may be.
        inputs, outputs: examples of what it will be called with, in this order.
        failure: called with a status other than 0, or with a refusal; it raises.
    """
    slower = _through_ctypes(kernel, parameters, (*inputs, *outputs), len(inputs), failure, threads)
    native = bound(kernel, parameters, inputs, outputs, release_gil, threads, overwritten)
    return slower if native is None else native.builtin(slower, bare=len(native.dtypes), out=False)


def _team(threads: int | None) -> int:
    """The address of the threads that share a kernel's work; 0: nothing is shared."""
    if threads == 1:
        return 0
    from .threads import team

    return team(threads)


@cache
def _new_builtin() -> Callable[..., Any]:
    new: Callable[..., Any] = of_python(
        "PyCFunction_NewEx",
        *(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object),
    )
    return new


def _through_ctypes(
    kernel: Code,
    parameters: Sequence[int],
    arrays: Sequence[Array],
    inputs: int,
    failure: Failure,
    threads: int | None,
) -> Call:
    team = _team(threads)
    run = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)(kernel.address)
    block = (ctypes.c_int64 * max(len(parameters), 1))(*parameters)
    wanted = [_key(array) for array in arrays]
    addresses = ctypes.c_void_p * max(len(wanted), 1)

    def call(*given: Any) -> None:
        if len(given) != len(wanted):
            failure(WRONG_COUNT)
        for number, (array, want) in enumerate(zip(given, wanted, strict=True)):
            fits = isinstance(array, np.ndarray) and _key(cast("Array", array)) == want
            if not fits or (number >= inputs and not array.flags.writeable):
                failure(REFUSED - number)
        status = run(block, addresses(*(array.ctypes.data for array in given)), team)
        if status:
            failure(status)

    call.__dict__["kernel"] = kernel  # its code stays in memory as long as this function
    return call


def _key(array: Array) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.strides
