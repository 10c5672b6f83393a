"""Cascades straight through the code generator: any vector width, any block sizes, any memory."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, TypeAlias

import numpy as np

from einloom.backends.llvm.codegen import entry_name, generate, team_entry_name
from einloom.backends.llvm.image import Code
from einloom.backends.llvm.isa import Isa
from einloom.backends.llvm.kernel import sizes_of
from einloom.backends.llvm.pool import Team
from einloom.backends.llvm.runtime import _linkable, _linked, emit, load
from einloom.backends.llvm.settled import filled, met, settled
from einloom.backends.llvm.target import Target, host, named
from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import of_numpy
from einloom.ir.infer import infer_dtypes
from einloom.ir.loops import LoopProgram
from einloom.ir.sizes import infer_sizes
from einloom.passes.loops.lower import LIMITS
from einloom.passes.loops.pieces import Worth
from einloom.passes.loops.plan import planned
from einloom.passes.loops.schedule import Limits

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: The vector widths that this machine can run.
WIDTHS = [bits for bits in (512, 256, 128) if bits <= host().isa.bits]

#: The least processor whose vectors are so wide: code for it has no instruction of a wider one.
PROCESSORS = {512: "x86-64-v4", 256: "x86-64-v3", 128: "x86-64"}


def processor(bits: int) -> Target:
    """This machine, or the least processor with such vectors."""
    if not host().triple.startswith("x86_64") or bits == WIDTHS[0]:
        return host()
    return named(PROCESSORS[bits])


@lru_cache(maxsize=256)
def restricted(text: str, name: str, target: Target) -> Code:
    """The function of an IR text, without an instruction that the processor lacks."""
    if target is host():
        return load(text, name)
    return _linked(_linkable(emit(text, target, "object"), name), name)


#: Blocks so small that small arrays have several of each kind, and are large.
TINY = Limits(
    longest=7,
    shared=64,
    unpacked=0,
    few=0,
    few_rows=2,
    tall=8,
    deep=16,
    wide=1,
    depth=16,
    streamed=128,
)

#: Everything that may be shared out is, reductions in pieces of a few points.
EAGER = Worth(shortest=1, piece=4, together=0)


def unit_axis(array: Array) -> int | None:
    """The longest axis whose stride is the itemsize."""
    axes = [a for a, stride in enumerate(array.strides) if stride == array.itemsize]
    return max(axes, key=lambda axis: (array.shape[axis], axis), default=None)


def sized(cascade: Cascade, arrays: Mapping[str, Array]) -> Cascade:
    """The Cascade with its inputs' dtypes and ranks' extents declared as the arrays have them."""
    sizes = infer_sizes(cascade, {name: array.shape for name, array in arrays.items()})
    return replace(
        cascade,
        ranks=tuple(replace(rank, shape=sizes[rank.name]) for rank in cascade.ranks),
        inputs=tuple(replace(d, dtype=of_numpy(arrays[d.name].dtype)) for d in cascade.inputs),
    )


def empty_outputs(cascade: Cascade, fill: int = 0x5A) -> dict[str, Array]:
    """C-ordered arrays for the outputs of a sized Cascade, each byte `fill`."""
    dtypes = infer_dtypes(cascade, {})
    found: dict[str, Array] = {}
    sizes = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    extents = cascade.extents()
    for name in cascade.outputs:
        shape = [extent.value(sizes) for extent in extents[name]]
        dtype = dtypes[name].numpy
        count = int(np.prod(shape))
        memory = np.full(count * dtype.itemsize, fill, np.uint8)
        found[name] = memory.view(dtype).reshape(shape)
    return found


class Native:
    """The code of one Cascade for arrays that lie in memory as these do.

    `threads`: how many share what can be shared; None: nothing is.
    """

    def __init__(
        self,
        cascade: Cascade,
        arrays: Mapping[str, Array],
        bits: int | Isa = WIDTHS[0],
        limits: Limits = LIMITS,
        threads: int | None = None,
    ) -> None:
        layouts = {name: unit_axis(array) for name, array in arrays.items()}
        dtypes = {decl.name: of_numpy(arrays[decl.name].dtype) for decl in cascade.inputs}
        worth = None if threads is None else EAGER
        self.program: LoopProgram = planned(cascade, dtypes, layouts, limits, worth)
        shared = threads is not None and bool(self.program.parallels)
        self.team = team(threads).address if shared and threads else 0
        target = host() if isinstance(bits, Isa) else processor(bits)
        isa = bits if isinstance(bits, Isa) else target.isa
        self.ir = generate(self.program, isa)
        name = team_entry_name if shared else entry_name
        self.code: Code = restricted(self.ir, name(self.program), target)
        self._made = isa, name(self.program), target

    def bound(self, arrays: Mapping[str, Array]) -> Native:
        """The code that a kernel runs for such arrays, of which no output is empty."""
        isa, name, target = self._made
        found = copy(self)
        constants = met(self.program, sizes_of(self.program, arrays))
        found.program = settled(self.program, constants)
        found.ir = generate(found.program, filled(found.program, isa) if constants else isa, True)
        found.code = restricted(found.ir, name, target)
        return found

    def __call__(self, arrays: Mapping[str, Array]) -> int:
        """Runs on arrays of the program's buffers; gives the status."""
        buffers = [b.name for b in (*self.program.inputs, *self.program.outputs)]
        strides = [stride for name in buffers for stride in arrays[name].strides]
        given = [*sizes_of(self.program, arrays).values(), *strides]
        return self.call(given, [arrays[name] for name in buffers])

    def call(self, numbers: Sequence[int], arrays: Sequence[Array]) -> int:
        """Runs with these parameters; gives the status."""
        parameters = np.array([*numbers, 0], np.int64)
        pointers = np.array(
            [*(array.__array_interface__["data"][0] for array in arrays), 0], np.int64
        )
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)
        given = parameters.ctypes.data, pointers.ctypes.data, self.team
        status: int = prototype(self.code.address)(*given)
        return status


@cache
def team(threads: int) -> Team:
    """A team for which no part is too short."""
    return Team(threads, shortest=1)


def run(
    cascade: Cascade,
    inputs: Mapping[str, Array],
    bits: int | Isa = WIDTHS[0],
    limits: Limits = LIMITS,
    outputs: Mapping[str, Array] | None = None,
    threads: int | None = None,
) -> tuple[int, dict[str, Array]]:
    """The status and the outputs of a Cascade on these inputs."""
    cascade = sized(cascade, inputs)
    found = dict(outputs) if outputs is not None else empty_outputs(cascade)
    arrays = {**inputs, **found}
    return Native(cascade, arrays, bits, limits, threads)(arrays), found


def native(text: str, limits: Limits = LIMITS, **shapes: tuple[int, ...]) -> Native:
    """The code of a Cascade's text for f32 arrays of these shapes."""
    arrays = {name: np.zeros(shape, "f4") for name, shape in shapes.items()}
    known = sized(parse_cascade(text), arrays)
    return Native(known, {**arrays, **empty_outputs(known)}, limits=limits)
