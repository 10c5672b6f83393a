"""An Executable: a Cascade compiled on demand for the dtypes and shapes it is called with.

Three levels keep what can be kept. A *specialisation* is one set of dtypes and shapes: its Cascade
after the passes. A *kernel* is one set of layouts (which axis of each array has unit stride); its
text knows no sizes, and it is shared by all specialisations whose Cascades differ in sizes of the
same magnitude alone. A *bound call* is one exact signature, strides included: the fast path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import Any, TypeAlias, cast

import numpy as np
from numpy import may_share_memory

from einloom.backends.base import Array, Call, Kernel
from einloom.backends.registry import backend_form, kernel_class
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import F32, DType, of_numpy
from einloom.ir.errors import ArgumentError, OperandError, UnsupportedError
from einloom.ir.infer import infer_dtypes, infer_sizes
from einloom.ir.ranks import RankExpr
from einloom.passes.base import Pipeline, Step

Shape: TypeAlias = tuple[int, ...]
#: From shapes and dtypes of the operands (None: symbolic) to the Cascade that computes them.
Template: TypeAlias = "Callable[[Sequence[Shape] | None, Sequence[DType] | None], Cascade]"

#: How many signatures each table keeps before it starts afresh.
TABLE_BOUND = 4096

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

    def steps(self) -> tuple[Step, ...]:
        """What the Cascade was before the passes, and after each."""
        first = Step("parse", str(self.written), "the Cascade as written")
        return (first, *self.pipeline.run(self.written)[1])

    def output_shapes(self) -> list[Shape]:
        """The shape of each output."""
        return [
            tuple(
                self.sizes[index.variable.upper()] if index.variable else 1
                for index in access.indices
                if isinstance(index, RankExpr)
            )
            for access in self.cascade.output_accesses()
        ]

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
        from einloom.passes.loops.lower import lower

        return lower(self.cascade, self.dtypes, dict(zip(self.names(), layouts, strict=True)))

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
        ranks = [len(decl.extents) for decl in self.cascade.inputs]
        ranks += [len(access.indices) for access in self.cascade.output_accesses()]
        return tuple(rank - 1 if rank else None for rank in ranks)

    def bind(self, backend: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> Call:
        """A call for exactly this signature; on the NumPy backend where `backend` cannot."""
        if backend == "numpy":
            return self.kernel("numpy", ()).bind(inputs, outputs)
        host = next((dtype for dtype in self.dtypes.values() if dtype.is_host_only), None)
        try:
            if host is not None:
                raise UnsupportedError(f"dtype {host} runs on the NumPy backend only")
            layouts = tuple(unit_axis(array) for array in (*inputs, *outputs))
            return self.kernel(backend, layouts).bind(inputs, outputs)
        except UnsupportedError as error:
            return _counted(f"{backend}: {error.message}", self.bind("numpy", inputs, outputs))


def _counted(reason: str, call: Call) -> Call:
    def run(*arrays: Array) -> None:
        _fallbacks[reason] += 1
        call(*arrays)

    return run


class Executable:
    """A compiled einsum or cascade; call it with arrays.

    `f(*arrays, out=None)` takes the inputs in the order of `f.cascade.inputs`, or by name, and
    returns the output, a tuple of them if there are several. It compiles for each new set of
    dtypes, and of shapes if their sizes are of other magnitudes; `f.steps`, `f.source`, `f.llvm_ir`
    and `f.asm` show what was called last, or, before the first call, the form for the shapes and
    dtypes given to `compile` (symbolic shapes and f32 where none were given).
    """

    def __init__(
        self,
        template: Template,
        pipeline: Pipeline,
        backend: str,
        shapes: Sequence[Shape] | None = None,
        dtypes: Sequence[DType] | None = None,
    ) -> None:
        backend_form(backend)  # a wrong name is an error now, not at the first call
        self.backend = backend
        self.pipeline = pipeline
        self._template = template
        self._specialised: dict[Any, Specialisation] = {}
        self._kernels: dict[Cascade, Kernels] = {}
        self._bound: dict[Any, Callable[..., Any]] = {}
        self._dtypes = dtypes
        self._shown: Specialisation | None = None
        if shapes is not None:
            self.specialise(shapes, dtypes or [F32] * len(shapes))

    # ---- compiling

    def specialise(self, shapes: Sequence[Shape], dtypes: Sequence[DType]) -> Specialisation:
        """The specialisation for operands of these shapes and dtypes."""
        key = (tuple(shapes), tuple(dtypes))
        found = self._specialised.get(key)
        if found is None:
            cascade = self._template(shapes, dtypes)
            inputs = dict(zip((d.name for d in cascade.inputs), shapes, strict=True))
            sizes = infer_sizes(cascade, inputs)
            found = self._specialise(cascade, sizes, dtypes)
            _keep(self._specialised, key, found)
        self._shown = found
        return found

    def _show(self) -> Specialisation:
        if self._shown is None:
            cascade = self._template(None, self._dtypes)
            dtypes = self._dtypes or [decl.dtype or F32 for decl in cascade.inputs]
            self._shown = self._specialise(cascade, {}, dtypes)
        return self._shown

    def _specialise(
        self, cascade: Cascade, sizes: Mapping[str, int], dtypes: Sequence[DType]
    ) -> Specialisation:
        """Writes sizes and dtypes into the Cascade's declarations, then runs the passes on it."""
        declared = infer_dtypes(
            cascade, dict(zip((d.name for d in cascade.inputs), dtypes, strict=True))
        )
        open_ranks = {rank.name for rank in cascade.ranks if rank.shape is None}
        written = replace(
            cascade,
            inputs=tuple(replace(decl, dtype=declared[decl.name]) for decl in cascade.inputs),
            ranks=tuple(
                replace(rank, shape=sizes.get(rank.name, rank.shape)) for rank in cascade.ranks
            ),
        )
        rewritten = self.pipeline.apply(written)
        # Code knows no sizes; what they serve for, hints, is the same for all of one magnitude.
        magnitudes = replace(
            rewritten,
            ranks=tuple(
                replace(rank, shape=rank.shape.bit_length())
                if rank.name in open_ranks and isinstance(rank.shape, int)
                else rank
                for rank in rewritten.ranks
            ),
        )
        kernels = self._kernels.get(magnitudes)
        if kernels is None:
            kernels = {}
            _keep(self._kernels, magnitudes, kernels)
        dtypes_now = infer_dtypes(rewritten, {})
        return Specialisation(written, self.pipeline, rewritten, dtypes_now, sizes, kernels)

    # ---- calling

    def __call__(self, *arrays: Any, out: Any = None, **named: Any) -> Any:
        if out is None and not named:
            try:
                known = self._bound[signature(arrays)]
            except (AttributeError, KeyError):
                pass  # not seen before, or a list or number among the operands
            else:
                return known(*arrays)
        if named:
            arrays = self._positional(arrays, named)
        operands = [np.asarray(array) for array in arrays]
        call = self.bind(operands, out)
        if out is not None:
            return call(*operands, out)
        if all(type(array) is np.ndarray for array in arrays):
            _keep(self._bound, signature(arrays), call)
        return call(*operands)

    def bind(
        self,
        operands: Sequence[Array],
        out: Any = None,
        axes: Sequence[int] | None = None,
        casting: Any = "safe",
    ) -> Callable[..., Any]:
        """A function for operands of exactly these shapes, strides and dtypes.

        It takes the operands and returns a new result, a scalar if it has no axes; if `out` is
        given it takes an array like `out` (or a tuple of them) last, and returns that. `axes` are
        the axes of a new result from the outermost in memory to the innermost (None: C order).
        Operands that are not of the declared dtype or byte order are converted at each call.

        Raises:
            EinloomError: the operands do not fit the Cascade; the message says how.
        """
        dtypes = [of_numpy(operand.dtype) for operand in operands]
        found = self.specialise([operand.shape for operand in operands], dtypes)
        declared = [found.dtypes[name].numpy for name in found.names()[: len(operands)]]
        converted = [
            operand.astype(d, copy=False) for operand, d in zip(operands, declared, strict=True)
        ]
        if out is None:
            call = _allocating(found, self.backend, converted, axes)
        else:
            call = _writing(found, self.backend, converted, out, casting)
        if all(new is old for new, old in zip(converted, operands, strict=True)):
            return call
        count = len(declared)

        def convert_first(*arrays: Any) -> Any:
            native = [a.astype(d, copy=False) for a, d in zip(arrays, declared, strict=False)]
            return call(*native, *arrays[count:])

        return convert_first

    def _positional(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        names = [decl.name for decl in self.cascade.inputs]
        given = dict(zip(names, arrays, strict=False))
        for name, array in named.items():
            if name not in names:
                raise OperandError(f"there is no input {name}", deduced=(f"inputs: {names}",))
            if name in given:
                raise OperandError(f"the input {name} is given twice")
            given[name] = array
        missing = [name for name in names if name not in given]
        if missing or len(arrays) > len(names):
            raise ArgumentError(
                f"{len(names)} inputs are needed, {len(arrays) + len(named)} were given",
                deduced=(f"inputs: {names}",),
                hint=f"missing: {', '.join(missing)}" if missing else None,
            )
        return tuple(given[name] for name in names)

    # ---- looking inside

    @property
    def cascade(self) -> Cascade:
        """The Cascade after the passes."""
        return self._show().cascade

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step of the compilation: its pass, its dump and a comment on what it changed."""
        found = self._show()
        if backend_form(self.backend) == "Cascade":
            last = Step("emit", self.source, "Python source")
        else:
            nest = str(found.form(self.backend, found.row_major()))
            last = Step("lower", nest, "loop nests, for C-ordered arrays")
        return (*found.steps(), last)

    @property
    def source(self) -> str:
        """What the backend runs: Python source (numpy) or LLVM IR (llvm), for C-ordered arrays."""
        return self._kernel().source

    @property
    def llvm_ir(self) -> str:
        """The LLVM IR text (llvm backend), for C-ordered arrays."""
        self._need_llvm("llvm_ir")
        return self.source

    @property
    def asm(self) -> str:
        """The assembly of this machine (llvm backend), for C-ordered arrays."""
        self._need_llvm("asm")
        kernel: Any = self._kernel()
        text: str = kernel.asm
        return text

    def save(self, path: str | PathLike[str], *, cpu: str | None = None) -> None:
        """Writes the compiled code for C-ordered arrays, atomically.

        The suffix says what: `.ll` LLVM IR, `.s` assembly, `.o` object, `.so` shared object, `.h`
        the C header that goes with the object; `.py` the source, on the numpy backend.

        Args:
            path: the file to write.
            cpu: the LLVM name of the processor to compile for; None: this machine's.

        Raises:
            UnsupportedError: this backend does not write such a file.
            OSError: the file cannot be written.
        """
        kernel: Any = self._kernel()
        if backend_form(self.backend) == "Cascade":
            from einloom.backends.numpy.kernel import save as save_source

            save_source(kernel, path, cpu=cpu)
        else:
            from einloom.backends.llvm.aot import save as save_code

            save_code(kernel, path, cpu=cpu)

    def _kernel(self) -> Kernel:
        found = self._show()
        return found.kernel(self.backend, found.row_major())

    def _need_llvm(self, what: str) -> None:
        if self.backend != "llvm":
            raise UnsupportedError(
                f"the {self.backend} backend has no {what}", hint='compile with backend="llvm"'
            )

    def __repr__(self) -> str:
        return f"<einloom.Executable {self._show().cascade.name} on {self.backend}>"


def _keep(table: dict[Any, Any], key: Any, value: Any) -> None:
    if len(table) >= TABLE_BOUND:
        table.clear()
    table[key] = value


def signature(arrays: Sequence[Any]) -> tuple[Any, ...]:
    """What a bound call is made for: type, dtype, shape and strides of each operand.

    The type is part of it because native code reads the array object itself.
    """
    key: list[Any] = []
    for array in arrays:
        key += (type(array), array.dtype, array.shape, array.strides)
    return tuple(key)


def _allocating(
    found: Specialisation, backend: str, inputs: Sequence[Array], axes: Sequence[int] | None
) -> Callable[..., Any]:
    """A function of the inputs that makes the outputs."""
    makers = [
        _maker(shape, dtype.numpy, axes)
        for shape, dtype in zip(found.output_shapes(), found.output_dtypes(), strict=True)
    ]
    run = found.bind(backend, inputs, [make() for make in makers])
    if len(makers) == 1:
        (make,) = makers
        scalar = not make().ndim

        def call(*arrays: Array) -> Any:
            result = make()
            run(*arrays, result)
            return result[()] if scalar else result

        return call

    def call_many(*arrays: Array) -> Any:
        results = [make() for make in makers]
        run(*arrays, *results)
        return tuple(result if result.ndim else result[()] for result in results)

    return call_many


def _maker(shape: Shape, dtype: np.dtype[Any], axes: Sequence[int] | None) -> Callable[[], Array]:
    """A function that makes an array whose axes lie in memory in that order, outermost first."""
    if axes is None or list(axes) == sorted(axes):
        return partial(np.empty, shape, dtype)
    if list(axes) == sorted(axes, reverse=True):
        return partial(np.empty, shape, dtype, "F")
    stored = tuple(shape[axis] for axis in axes)
    back = tuple(axes.index(axis) for axis in range(len(shape)))
    return lambda: np.empty(stored, dtype).transpose(back)


def _writing(
    found: Specialisation, backend: str, inputs: Sequence[Array], out: Any, casting: Any
) -> Callable[..., Any]:
    """A function of the inputs and of `out` that writes there."""
    targets = _check_out(out, found, casting)
    dtypes = [dtype.numpy for dtype in found.output_dtypes()]
    # Whether a target can be written to directly is the same for all of one signature, but for
    # memory that it shares with an input: a kernel reads inputs after it has begun to write.
    direct = all(
        target.dtype == dtype and not _overlaps_itself(target)
        for target, dtype in zip(targets, dtypes, strict=True)
    )
    run = found.bind(backend, inputs, targets) if direct else None

    def call(*arrays: Any) -> Any:
        given, last = arrays[:-1], arrays[-1]
        outs = _arrays_of(last)
        if not all(target.flags.writeable for target in outs):
            raise ArgumentError("out= is a read-only array")
        shared = any(
            may_share_memory(target, other)
            for number, target in enumerate(outs)
            for other in (*given, *outs[:number])
        )
        if run is not None and not shared:
            run(*given, *outs)
            return last
        results = [np.empty(t.shape, dtype) for t, dtype in zip(outs, dtypes, strict=True)]
        found.bind(backend, given, results)(*given, *results)
        for target, result in zip(outs, results, strict=True):
            np.copyto(target, result, casting="unsafe")  # the rule was checked when this was made
        return last

    def call_one(*arrays: Array) -> Any:
        """The same for one output that can be written to directly, in a third of the time."""
        target = arrays[-1]
        if target.flags.writeable:
            for given in arrays[:-1]:
                if may_share_memory(target, given):
                    break
            else:
                write(*arrays)
                return target
        return call(*arrays)

    if run is None or isinstance(out, tuple | list):
        return call
    write = run
    return call_one


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
