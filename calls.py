"""The calls of a specialisation: they make the results, or write them to `out=`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import Any, cast

import numpy as np
from numpy import may_share_memory

from einloom.backends.base import Array, Call, Way
from einloom.backends.llvm.buffers import empty
from einloom.dispatch import Bound
from einloom.ir.errors import ArgumentError, OperandError, OutOfMemoryError
from einloom.specialisation import Shape, Specialisation


def allocating(
    found: Specialisation, backend: str, inputs: Sequence[Array], axes: Sequence[int] | None
) -> Bound:
    """Calls of the inputs that make the outputs."""
    makers = [
        _maker(shape, dtype.numpy, axes)
        for shape, dtype in zip(found.output_shapes(), found.output_dtypes(), strict=True)
    ]
    try:
        blank = [make() for make in makers]
    except (MemoryError, ValueError):  # NumPy's ValueError: more bytes than a pointer reaches
        shapes = ", ".join(map(str, found.output_shapes()))
        raise OutOfMemoryError(f"there is no memory for a result of the shape {shapes}") from None
    run, way, _ = found.bind(backend, inputs, blank)
    if len(makers) == 1:
        (make,) = makers
        scalar = not blank[0].ndim

        def call(*arrays: Array) -> Any:
            result = make()
            run(*arrays, result)
            return result[()] if scalar else result

        return Bound(call, way)

    def call_many(*arrays: Array) -> Any:
        results = [make() for make in makers]
        run(*arrays, *results)
        return tuple(result if result.ndim else result[()] for result in results)

    return Bound(call_many, way)


def _maker(shape: Shape, dtype: np.dtype[Any], axes: Sequence[int] | None) -> Callable[[], Array]:
    """A function that makes an array whose axes lie in memory in that order, outermost first."""
    if axes is None or list(axes) == sorted(axes):
        return partial(empty, shape, dtype)
    if list(axes) == sorted(axes, reverse=True):
        return partial(empty, shape, dtype, "F")
    stored = tuple(shape[axis] for axis in axes)
    back = tuple(axes.index(axis) for axis in range(len(shape)))
    return lambda: empty(stored, dtype).transpose(back)


def writing(
    found: Specialisation, backend: str, inputs: Sequence[Array], out: Any, casting: Any
) -> Bound:
    """Calls of the inputs and of `out` that write there."""
    targets = _check_out(out, found, casting)
    dtypes = [dtype.numpy for dtype in found.output_dtypes()]
    # Whether a target can be written to directly is the same for all of one signature, but for
    # memory that it shares with an input: a kernel reads inputs after it has begun to write, all
    # but those that are read only where it writes.
    direct = all(
        target.dtype == dtype and not _overlaps_itself(target)
        for target, dtype in zip(targets, dtypes, strict=True)
    )
    run: Call | None = None
    way: Way | None = None
    overwritten: frozenset[int] = frozenset()
    if direct:
        run, way, overwritten = found.bind(backend, inputs, targets)
    aside: list[Call] = []  # the call that writes into new arrays, once it is needed

    def in_the_way(target: Array, given: Sequence[Array]) -> bool:
        """Whether an input lies in memory that is written to."""
        for number, other in enumerate(given):
            if may_share_memory(target, other):
                same = number in overwritten and other.ctypes.data == target.ctypes.data
                if not same:
                    return True
        return False

    def call(*arrays: Any) -> Any:
        given, last = arrays[:-1], arrays[-1]
        outs = _arrays_of(last)
        if not all(target.flags.writeable for target in outs):
            raise ArgumentError("out= is a read-only array")
        if any(np.shares_memory(a, b) for a, b in combinations(outs, 2)):
            raise ArgumentError("two of the arrays of out= share memory")
        shared = any(in_the_way(target, given) for target in outs)
        if run is not None and not shared:
            run(*given, *outs)
            return last
        results = [np.empty(t.shape, dtype) for t, dtype in zip(outs, dtypes, strict=True)]
        if not aside:
            aside.append(found.bind(backend, given, results)[0])
        aside[0](*given, *results)
        for target, result in zip(outs, results, strict=True):
            np.copyto(target, result, casting="unsafe")  # the rule was checked when this was made
        return last

    def call_one(*arrays: Array) -> Any:
        """The same for one output that can be written to directly, in a third of the time."""
        target = arrays[-1]
        if target.flags.writeable and not in_the_way(target, arrays[:-1]):
            write(*arrays)
            return target
        return call(*arrays)

    if run is None or isinstance(out, tuple | list):
        return Bound(call)
    write = run
    return Bound(call_one, way, writes=True)


def _arrays_of(out: Any) -> list[Any]:
    """What `out=` holds: one array, or one for each output."""
    if isinstance(out, tuple | list):
        return list(cast(Sequence[Any], out))
    return [out]


def _check_out(out: Any, found: Specialisation, casting: Any) -> list[Any]:
    """The arrays of `out=`, checked."""
    targets = _arrays_of(out)
    if len(targets) != len(found.cascade.outputs):
        raise ArgumentError(
            f"out= has {len(targets)} arrays for {len(found.cascade.outputs)} outputs"
        )
    for target, shape, dtype in zip(
        targets, found.output_shapes(), found.output_dtypes(), strict=True
    ):
        if not isinstance(target, np.ndarray):
            raise OperandError(f"out= must be an array, not {type(target).__name__}")
        array = cast(Array, target)
        if array.shape != shape:
            raise ArgumentError(f"out= has shape {array.shape} but the result has {shape}")
        if not np.can_cast(dtype.numpy, array.dtype, casting):
            raise OperandError(
                f"the result is {dtype}, which cannot be cast to the {array.dtype} of out= "
                f"by the rule {casting!r}"
            )
    return targets


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements may share memory: an axis steps within the reach of smaller strides."""
    reach = array.itemsize
    for stride, extent in sorted(
        (abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1
    ):
        if stride < reach:
            return True
        reach += stride * (extent - 1)
    return False
