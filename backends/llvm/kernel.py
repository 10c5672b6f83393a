"""The kernel that the llvm backend makes of a LoopProgram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import NoReturn

from ...ir.errors import ArgumentError, InternalError, OutOfMemoryError, RankError, UnsupportedError
from ...ir.loops import ArrayAxis, Buffer, LoopProgram
from ...ir.overwriting import overwritable
from ..base import Array, Call, Way
from .arrays import REFUSED, WRONG_COUNT, bound, call_of
from .codegen import entry_name, generate, team_entry_name
from .image import Code
from .isa import Isa
from .runtime import emit, load
from .settled import Constants, filled, met, settled
from .target import host

#: A kernel of more points than this (a few us of vector code) lets other Python threads run.
_RELEASES_FROM = 1 << 15


#: Programs do not know sizes, so each new shape brings an equal one along.
_generated = lru_cache(maxsize=256)(generate)


class LlvmKernel:
    """Native code for a LoopProgram: one object for all shapes and strides.

    `source`: its LLVM IR. What calls run is written for what is known of their arrays
    (settled.py); those with the same IR share their code.
    """

    def __init__(self, program: LoopProgram) -> None:
        self.program = program
        self._source = ""
        self._bound: dict[Constants, str] = {}

    @property
    def source(self) -> str:
        """The LLVM IR, for this machine's instructions."""
        # Not a cached_property: before Python 3.12 that has a lock, which stays shut in a child
        # that is forked while another thread is inside.
        if not self._source:
            self._source = self.source_for(host().isa)
        return self._source

    def _source_bound(self, sizes: Mapping[str, int]) -> str:
        """The LLVM IR for arrays of these sizes that were looked at; each output has an element."""
        constants = met(self.program, sizes)
        found = self._bound.get(constants)
        if found is None:
            program, isa = settled(self.program, constants), host().isa
            found = _generated(program, filled(program, isa) if constants else isa, True)
            self._bound[constants] = found
        return found

    def source_for(self, isa: Isa) -> str:
        """The LLVM IR for an instruction set."""
        return _generated(self.program, isa)

    @property
    def asm(self) -> str:
        """The assembly for this machine."""
        return emit(self.source, host(), "assembly")

    def bind(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int | None = None
    ) -> Call:
        """A call for all arrays with these dtypes, shapes and strides.

        So many `threads` share its work; None: as the setting is (threads.py).

        Given others it raises an OperandError; if the system has no memory for intermediates, an
        OutOfMemoryError; if an index that is read from an array is out of range, a RankError.

        Raises:
            UnsupportedError: an axis that must have unit stride has not.
        """
        arguments = self._arguments(inputs, outputs)
        overwritten = self.overwritten(inputs, outputs)
        return call_of(*arguments, self._fail, self._shared_by(threads), overwritten)

    def way(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int | None = None
    ) -> Way | None:
        """A quick way for such arrays; None where they are passed through ctypes."""
        given = self._arguments(inputs, outputs)
        return bound(*given, self._shared_by(threads), self.overwritten(inputs, outputs))

    def overwritten(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> frozenset[int]:
        """Which of these inputs, by number, the one output may be itself, as it is laid out."""
        if len(outputs) != 1:
            return frozenset()
        names = overwritable(self.program, sizes_of(self.program, self._named(inputs, outputs)))
        (output,) = outputs
        want = output.dtype, output.shape, output.strides
        return frozenset(
            number
            for number, (buffer, array) in enumerate(zip(self.program.inputs, inputs, strict=True))
            if buffer.name in names and (array.dtype, array.shape, array.strides) == want
        )

    def _shared_by(self, threads: int | None) -> int | None:
        """How many threads share the work, if there is anything to share."""
        return threads if self.program.parallels else 1

    def _arguments(
        self, inputs: Sequence[Array], outputs: Sequence[Array]
    ) -> tuple[Code, tuple[int, ...], Sequence[Array], Sequence[Array], bool]:
        """The code, what it gets first, the arrays, and whether it lets go of the GIL."""
        program = self.program
        arrays = self._named(inputs, outputs)
        sizes = sizes_of(program, arrays)
        for buffer in (*program.inputs, *program.outputs):
            _check(buffer, arrays[buffer.name], sizes)
        strides = [stride for array in arrays.values() for stride in array.strides]
        points = prod(sizes[size.name] for size in program.sizes)
        name = team_entry_name(program) if program.parallels else entry_name(program)
        some = all(array.size for array in outputs)
        code = load(self._source_bound(sizes) if some else self.source, name)
        return code, (*sizes.values(), *strides), inputs, outputs, points >= _RELEASES_FROM

    def _named(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> dict[str, Array]:
        names = (buffer.name for buffer in (*self.program.inputs, *self.program.outputs))
        return dict(zip(names, (*inputs, *outputs), strict=True))

    def _fail(self, status: int) -> NoReturn:
        """Says what a status of the kernel, or a refusal of its call, means."""
        program = self.program
        names = [buffer.name for buffer in (*program.inputs, *program.outputs)]
        if status == 1:
            raise UnsupportedError(f"the kernel {program.name} was not made for such strides")
        if status == 2:
            raise OutOfMemoryError(f"no memory for the intermediates of {program.name}")
        if status == 3:
            checks = [f"it must be that {check}" for check in program.checks]
            raise RankError(f"an index in {program.name} is out of range", deduced=checks)
        if status == WRONG_COUNT:
            raise ArgumentError(f"{program.name} takes {len(names)} arrays: {', '.join(names)}")
        if REFUSED - len(names) < status <= REFUSED:
            raise ArgumentError(
                f"{names[REFUSED - status]} is not of the dtype, shape and strides that this call "
                f"of {program.name} was made for, or is a read-only output"
            )
        raise InternalError(f"the kernel {program.name} ended with the unknown status {status}")


def sizes_of(program: LoopProgram, arrays: Mapping[str, Array]) -> dict[str, int]:
    """A program's sizes, for arrays of its buffers."""
    sizes: dict[str, int] = {}
    for size in program.sizes:
        if isinstance(size.source, ArrayAxis):
            sizes[size.name] = arrays[size.source.buffer].shape[size.source.axis]
        else:
            sizes[size.name] = max(size.source.value(sizes), 0)
    return sizes


def _check(buffer: Buffer, array: Array, sizes: dict[str, int]) -> None:
    shape = tuple(extent.value(sizes) for extent in buffer.extents)
    if array.shape != shape or array.dtype != buffer.dtype.numpy:
        raise ArgumentError(
            f"{buffer.name} must be {buffer.dtype} of shape {shape}, "
            f"not {array.dtype} of shape {array.shape}"
        )
    axis = buffer.unit
    if axis is not None and array.shape[axis] > 1 and array.strides[axis] != array.itemsize:
        raise UnsupportedError(f"axis {axis} of {buffer.name} must have unit stride")
