"""Emitted source as a Kernel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...ir.cascade import Cascade
from ...ir.dtypes import of_numpy
from ...ir.errors import OperandError, RankError, UnsupportedError
from ...ir.infer import infer_dtypes
from ...ir.sizes import infer_sizes
from ..base import Array, Call
from .emit import emit


class NumpyKernel:
    """The NumPy code of one Cascade, whose inputs all have a declared dtype.

    Its text knows no sizes; it is emitted and compiled when it is first asked for.
    """

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self._source = ""

    @property
    def source(self) -> str:
        """Python source that runs on its own."""
        if not self._source:  # no cached_property, whose lock (before 3.12) a fork may leave shut
            self._source = emit(self.cascade)
        return self._source

    def overwritten(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> frozenset[int]:
        """None: NumPy's functions read what they have written to."""
        return frozenset()

    def way(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int | None = None
    ) -> None:
        """None: no way into NumPy's functions is quicker than `bind`'s."""

    def bind(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int | None = None
    ) -> Call:
        """A call for all arrays with these shapes and dtypes; any strides will do.

        How many threads NumPy uses is its own affair.

        Raises:
            OperandError, RankError: these arrays do not fit the Cascade.
        """
        self._check(inputs, outputs)
        function = load(self.source)
        if _takes_out(function):
            return _guarded(function) if "raise IndexError" in self.source else function
        count = len(inputs)

        def call(*arrays: Array) -> None:
            results = function(*arrays[:count])
            if len(outputs) == 1:
                results = (results,)
            for target, result in zip(arrays[count:], results, strict=True):
                target[...] = result

        return _guarded(call) if "raise IndexError" in self.source else call

    def _check(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        cascade = self.cascade
        names = [decl.name for decl in cascade.inputs]
        if len(inputs) != len(names) or len(outputs) != len(cascade.outputs):
            raise OperandError(
                f"{cascade.name} takes {len(names)} inputs and {len(cascade.outputs)} outputs, "
                f"not {len(inputs)} and {len(outputs)}"
            )
        sizes = infer_sizes(
            cascade, {n: array.shape for n, array in zip(names, inputs, strict=True)}
        )
        extents = cascade.extents()
        for name, array in zip(cascade.outputs, outputs, strict=True):
            shape = tuple(extent.value(sizes) for extent in extents[name])
            if array.shape != shape:
                raise RankError(f"{name} has shape {shape} but was given {array.shape}")
        dtypes = infer_dtypes(cascade, {})
        for name, array in zip((*names, *cascade.outputs), (*inputs, *outputs), strict=True):
            if of_numpy(array.dtype) != dtypes[name]:
                raise OperandError(f"{name} is {dtypes[name]} but was given {array.dtype}")


def save(
    kernel: NumpyKernel, path: str | os.PathLike[str], *, cpu: str | Sequence[str] | None = None
) -> None:
    """Writes the source to a `.py` file, atomically; `cpu` has no meaning here.

    Raises:
        UnsupportedError: the path has another suffix.
        OSError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".py":
        raise UnsupportedError(
            f"the numpy backend does not write {target.suffix or target.name!r} files",
            hint='save a .py file, or compile with backend="llvm"',
        )
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(kernel.source)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


@lru_cache(maxsize=1024)
def load(source: str) -> Callable[..., Any]:
    """The function that emitted source defines; one object for each text."""
    scope: dict[str, Any] = {}
    exec(compile(source, "<einloom numpy source>", "exec"), scope)
    name = source.rpartition("\ndef ")[2].partition("(")[0]
    function: Callable[..., Any] = scope[name]
    return function


def _takes_out(function: Callable[..., Any]) -> bool:
    wrapped: Any = getattr(function, "__wrapped__", function)
    code = wrapped.__code__
    return "out" in code.co_varnames[: code.co_argcount]


def _guarded(function: Call) -> Call:
    """Reads out of range, which the source finds as it runs, as einloom's own error."""

    def call(*arrays: Array) -> None:
        try:
            function(*arrays)
        except IndexError as error:
            raise RankError(
                f"a tensor is read out of range: {error}",
                hint="say what lies outside: `X[... else 0]`",
            ) from None

    return call
