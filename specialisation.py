"""What is compiled for one set of dtypes and shapes.

A *specialisation* is one set of dtypes and shapes: its Cascade after the passes. A *kernel* is one
set of layouts (which axis of each array has unit stride); its text knows no sizes, and it is shared
by all specialisations whose Cascades differ in sizes of the same magnitude alone. A *bound call* is
one exact signature, strides included: the fast path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from einloom.backends.base import Array, Call, Kernel, Way
from einloom.backends.registry import backend_form, kernel_class
from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import DType
from einloom.ir.einsum import Access, Einsum
from einloom.ir.errors import RankError, UnsupportedError
from einloom.passes.base import Pipeline, Step

Shape: TypeAlias = tuple[int, ...]

_fallbacks: Counter[str] = Counter()


def fallbacks() -> dict[str, int]:
    """How often a call could not be served by the backend that was asked for, by reason.

    Such a call runs on the NumPy backend instead.
    """
    return dict(_fallbacks)


def unit_axis(array: Array) -> int | None:
    """The axis whose stride is the itemsize, the longest one if there are several; or None."""
    best = None
    for axis, (extent, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
        if stride == array.itemsize and (best is None or extent >= array.shape[best]):
            best = axis
    return best


#: So many points of a call are gone through again to explain what was wrong with it.
_EXPLAINED = 1_000_000

#: From a backend's name, and the axis of unit stride of each input and output, to a kernel.
Kernels: TypeAlias = "dict[tuple[str, tuple[int | None, ...]], Kernel]"


@dataclass(frozen=True, slots=True)
class Specialisation:
    """A Cascade with its sizes and dtypes known (or symbolic, for emission), after the passes."""

    written: Cascade
    pipeline: Pipeline
    cascade: Cascade
    dtypes: Mapping[str, DType]
    sizes: Mapping[str, int]
    kernels: Kernels  # filled as layouts turn up; shared by all sizes of a class
    threads: int | None = None  # that share the work of a call; None: as the setting is

    def steps(self) -> tuple[Step, ...]:
        """What the Cascade was before the passes, and after each."""
        first = Step("parse", str(self.written), "the Cascade as written")
        return (first, *self.pipeline.run(self.written)[1])

    def output_shapes(self) -> list[Shape]:
        """The shape of each output."""
        extents = self.cascade.extents()
        return [tuple(e.value(self.sizes) for e in extents[name]) for name in self.cascade.outputs]

    def output_dtypes(self) -> list[DType]:
        """The dtype of each output."""
        return [self.dtypes[name] for name in self.cascade.outputs]

    def names(self) -> tuple[str, ...]:
        """The inputs' names, then the outputs'."""
        return (*(decl.name for decl in self.cascade.inputs), *self.cascade.outputs)

    def form(self, backend: str, layouts: tuple[int | None, ...]) -> Any:
        """The form of the IR that a backend consumes, for arrays with these unit-stride axes."""
        if backend_form(backend) == "Cascade":
            return self.cascade
        from einloom.backends.llvm.machine import caches
        from einloom.backends.llvm.target import host
        from einloom.passes.loops.pieces import Worth
        from einloom.passes.loops.plan import planned
        from einloom.passes.loops.schedule import Limits

        units = dict(zip(self.names(), layouts, strict=True))
        with shallow(self.cascade.name):
            limits = Limits.of(*caches(), host().isa.bits)
            return planned(self.cascade, self.dtypes, units, limits, Worth())

    def kernel(self, backend: str, layouts: tuple[int | None, ...]) -> Kernel:
        """The backend's kernel for these layouts."""
        if backend_form(backend) == "Cascade":
            made: Kernel = kernel_class(backend)(self.cascade)  # what it shares it keeps itself
            return made
        found = self.kernels.get((backend, layouts))
        if found is None:
            found = kernel_class(backend)(self.form(backend, layouts))
            self.kernels[backend, layouts] = found
        return found

    def row_major(self) -> tuple[int | None, ...]:
        """The layouts of C-ordered arrays."""
        extents = self.cascade.extents()
        ranks = [len(extents[name]) for name in self.names()]
        return tuple(rank - 1 if rank else None for rank in ranks)

    def bind(
        self, backend: str, inputs: Sequence[Array], outputs: Sequence[Array]
    ) -> tuple[Call, Way | None, frozenset[int]]:
        """A call for exactly this signature; on the NumPy backend where `backend` cannot.

        And a quick way to do the same, if there is one; and the inputs, by number, that the output
        may be itself.
        """
        call, way, overwritten = self._bind(backend, inputs, outputs)
        reads = (access for einsum in self.cascade.einsums for access in einsum.reads())
        gathers = any(isinstance(index, Access) for access in reads for index in access.indices)
        return partial(self._explained, call) if gathers else call, way, overwritten

    def _bind(
        self, backend: str, inputs: Sequence[Array], outputs: Sequence[Array]
    ) -> tuple[Call, Way | None, frozenset[int]]:
        if backend == "numpy":
            return self.kernel("numpy", ()).bind(inputs, outputs), None, frozenset()
        host = next((dtype for dtype in self.dtypes.values() if dtype.is_host_only), None)
        try:
            if host is not None:
                raise UnsupportedError(f"dtype {host} runs on the NumPy backend only")
            layouts = tuple(unit_axis(array) for array in (*inputs, *outputs))
            kernel = self.kernel(backend, layouts)
            given = inputs, outputs, self.threads
            with shallow(self.cascade.name):
                overwritten = kernel.overwritten(inputs, outputs)
                return kernel.bind(*given), kernel.way(*given), overwritten
        except UnsupportedError as error:
            call, *_ = self._bind("numpy", inputs, outputs)
            return counted(f"{backend}: {error.message}", call), None, frozenset()

    def _explained(self, call: Call, *arrays: Array) -> None:
        """The call; where it reads out of range, the interpreter says which read did.

        Native code tells no more than that some read was. If there is much to go through, that is
        all there is to say.
        """
        try:
            call(*arrays)
        except RankError:
            from einloom.ir.interpreter import evaluate
            from einloom.passes.analysis.cost import cost

            if (cost(self.cascade, self.sizes).points.number or 0) <= _EXPLAINED:
                names = [decl.name for decl in self.cascade.inputs]
                evaluate(self.cascade, dict(zip(names, arrays, strict=False)))
            raise

    def given(
        self, backend: str, constants: Mapping[str, Array]
    ) -> tuple[Specialisation, dict[str, Array]]:
        """What is left to do when these inputs stay the same, and all that then stays the same.

        The Einsums that constants alone decide are evaluated now; the rest reads what they made.
        """
        known = set(constants)
        early: list[Einsum] = []
        late: list[Einsum] = []
        for einsum in self.cascade.einsums:
            settled = einsum.name not in self.cascade.outputs and reads(einsum) <= known
            (early if settled else late).append(einsum)
            known |= {einsum.name} if settled else set()
        needed = {name for einsum in late for name in reads(einsum)}
        made = tuple(einsum for einsum in early if einsum.name in needed)
        inputs = tuple(decl for decl in self.cascade.inputs if decl.name in constants)
        fixed = {name: array for name, array in constants.items() if name in needed}
        if made:
            names = tuple(einsum.name for einsum in made)
            cascade = replace(self.cascade, inputs=inputs, einsums=tuple(early), outputs=names)
            first = replace(self, cascade=cascade, kernels={})
            results = [
                np.empty(shape, dtype.numpy)
                for shape, dtype in zip(first.output_shapes(), first.output_dtypes(), strict=True)
            ]
            arrays = [constants[decl.name] for decl in inputs]
            call, *_ = first.bind(backend, arrays, results)
            call(*arrays, *results)
            fixed |= dict(zip(names, results, strict=True))
        moving = tuple(decl for decl in self.cascade.inputs if decl.name not in constants)
        still = tuple(decl for decl in inputs if decl.name in needed)
        still += tuple(_declared(einsum, self.dtypes[einsum.name]) for einsum in made)
        cascade = replace(self.cascade, inputs=(*moving, *still), einsums=tuple(late))
        return replace(self, cascade=cascade, kernels={}), fixed


def reads(einsum: Einsum) -> set[str]:
    """The tensors that an Einsum reads."""
    return {access.tensor for access in einsum.reads()}


def _declared(einsum: Einsum, dtype: DType) -> TensorDecl:
    """What an Einsum defines, as an input."""
    return TensorDecl(einsum.name, einsum.extents(), dtype)


@contextmanager
def shallow(name: str) -> Generator[None, None, None]:
    """Python's own limit of nesting, which an expression of many hundred terms may reach."""
    try:
        yield
    except RecursionError:
        raise UnsupportedError(
            f"an expression of {name} is too long for native code",
            hint='cut it into several Einsums, or compile with backend="numpy"',
        ) from None


def counted(reason: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call; each time it is counted among the `fallbacks()`."""

    def run(*arrays: Array) -> Any:
        _fallbacks[reason] += 1
        return call(*arrays)

    return run
