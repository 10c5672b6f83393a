"""An Executable: a Cascade compiled on demand for the dtypes and shapes it is called with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, TypeAlias, cast

import numpy as np

from einloom.backends.base import Array, Kernel
from einloom.backends.registry import backend_form
from einloom.calls import allocating, writing
from einloom.dispatch import Bound, InlineCache, keep, signature
from einloom.frontend.calls import as_array, by_name
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import F32, DType, of_numpy
from einloom.ir.errors import OperandError, UnsupportedError
from einloom.ir.infer import infer_dtypes, infer_sizes
from einloom.passes.base import Pipeline, Step
from einloom.specialisation import Kernels, Shape, Specialisation, shallow

#: From shapes and dtypes of the operands (None: symbolic) to the Cascade that computes them.
Template: TypeAlias = "Callable[[Sequence[Shape] | None, Sequence[DType] | None], Cascade]"


class Executable:
    """A compiled einsum or cascade; call it with arrays.

    `f(*arrays, out=None)` takes the inputs in the order of `f.cascade.inputs`, or by name, and
    returns the output, a tuple of them if there are several. It compiles for each new set of
    dtypes, and of shapes if their sizes are of other magnitudes; `f.steps`, `f.source`, `f.llvm_ir`
    and `f.asm` show what was called last, or, before the first call, the form for the shapes and
    dtypes given to `compile` (symbolic shapes and f32 where none were given).
    """

    # `f(...)` finds the function to call in the slot: no code in Python runs before that.
    __slots__ = (
        *("__call__", "__weakref__", "_bound", "_dtypes", "_inline", "_kernels", "_shown"),
        *("_specialised", "_template", "backend", "pipeline", "threads"),
    )
    __call__: Callable[..., Any]

    def __new__(cls, *_: Any, **__: Any) -> Executable:
        from einloom.backends.llvm.vectorcall import quick_type

        quick: Any = quick_type(cast(Any, cls))
        made: Executable = object.__new__(quick)
        return made

    def __init__(
        self,
        template: Template,
        pipeline: Pipeline,
        backend: str,
        shapes: Sequence[Shape] | None = None,
        dtypes: Sequence[DType] | None = None,
        threads: int | None = None,
    ) -> None:
        backend_form(backend)  # a wrong name is an error now, not at the first call
        self.backend = backend
        self.threads = threads
        self.pipeline = pipeline
        self._template = template
        self._specialised: dict[Any, Specialisation] = {}
        self._kernels: dict[Cascade, Kernels] = {}
        self._bound: dict[Any, Bound] = {}
        self._inline = InlineCache(self._call)
        self.__call__ = self._inline.head
        self._dtypes = dtypes
        self._shown: Specialisation | None = None
        if shapes is not None:
            self.specialise(shapes, dtypes or [F32] * len(shapes))

    @property
    def __signature__(self) -> Any:
        """For `inspect.signature`: what is called changes, how it is called does not."""
        import inspect

        return inspect.signature(self._call)

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
            keep(self._specialised, key, found)
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
        pipeline, rewritten = self._rewritten(written)
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
            keep(self._kernels, magnitudes, kernels)
        dtypes_now = infer_dtypes(rewritten, {})
        made = (written, pipeline, rewritten, dtypes_now, sizes, kernels)
        return Specialisation(*made, self.threads)

    def _rewritten(self, cascade: Cascade) -> tuple[Pipeline, Cascade]:
        """The passes that were run, and what they made of a Cascade.

        Before them, and after them where they make such, what no backend has a form for is written
        out.
        """
        from einloom.passes.rewrites.plain import Plain, needs_plain

        passes = self.pipeline.passes
        if needs_plain(cascade):
            passes = (Plain(), *passes)
        found = Pipeline(passes).apply(cascade)
        if needs_plain(found):
            passes = (*passes, Plain())
            found = Plain()(found)
        return Pipeline(passes), found

    # ---- calling

    def _call(self, *arrays: Any, out: Any = None, **named: Any) -> Any:
        """A call that native code did not serve, at least not yet."""
        if not named:
            try:
                known = self._bound[out is None, *signature(_all(arrays, out))]
            except (AttributeError, KeyError):
                pass  # not seen before, or a list or number among the operands
            else:
                self._learn(known)
                return known.call(*_all(arrays, out))
        if named:
            arrays = self._positional(arrays, named)
        operands = [as_array(array, number) for number, array in enumerate(arrays)]
        found = self.bind(operands, out)
        given = _all(arrays, out)
        if all(type(array) is np.ndarray for array in given):
            keep(self._bound, (out is None, *signature(given)), found)
            self._learn(found)
        return found.call(*_all(operands, out))

    def _learn(self, bound: Bound) -> None:
        head = self._inline.learn(bound)
        if head is not self.__call__:
            from einloom.backends.llvm.vectorcall import call_natively

            self.__call__ = head
            call_natively(self)

    def bind(
        self,
        operands: Sequence[Array],
        out: Any = None,
        axes: Sequence[int] | None = None,
        casting: Any = "safe",
        constants: Collection[int] = (),
    ) -> Bound:
        """The calls of operands of exactly these shapes, strides and dtypes.

        They take the operands but those whose positions are `constants`, and return a new result,
        a scalar if it has no axes; if `out` is given they take an array like `out` (or a tuple of
        them) last, and return that. `axes` are the axes of a new result from the outermost in
        memory to the innermost (None: C order). Operands that are not of the declared dtype or
        byte order are converted at each call; what constants alone decide is worked out now.

        Raises:
            EinloomError: the operands do not fit the Cascade; the message says how.
        """
        dtypes = [of_numpy(operand.dtype) for operand in operands]
        found = self.specialise([operand.shape for operand in operands], dtypes)
        declared = [found.dtypes[name].numpy for name in found.names()[: len(operands)]]
        converted = [
            operand.astype(d, copy=False) for operand, d in zip(operands, declared, strict=True)
        ]
        moving = [number for number in range(len(operands)) if number not in constants]
        same = all(converted[number] is operands[number] for number in moving)
        fixed: list[Array] = []
        if constants:
            names = found.names()
            held = {names[number]: converted[number] for number in constants}
            found, stays = found.given(self.backend, held)
            fixed = [stays[name] for name in found.names() if name in stays]
            converted = [*(converted[number] for number in moving), *fixed]
        if out is None:
            bound = allocating(found, self.backend, converted, axes)
        else:
            bound = writing(found, self.backend, converted, out, casting)
        if same and not fixed:
            return bound
        call = bound.call
        count = len(moving)
        natives = [declared[number] for number in moving]

        def prepare_first(*arrays: Any) -> Any:
            given = [a.astype(d, copy=False) for a, d in zip(arrays, natives, strict=False)]
            return call(*given, *fixed, *arrays[count:])

        return Bound(prepare_first)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a value: what it was made from; code is compiled again where it is needed."""
        made = (self._template, self.pipeline, self.backend, None, self._dtypes, self.threads)
        return Executable, made

    def _positional(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        names = [decl.name for decl in self._template(None, self._dtypes).inputs]
        given = by_name(names, arrays, named)
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
            with shallow(found.cascade.name):
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

    def save(self, path: str | PathLike[str], *, cpu: str | Sequence[str] | None = None) -> None:
        """Writes the compiled code for C-ordered arrays, atomically.

        The suffix says what: `.ll` LLVM IR, `.s` assembly, `.o` object, `.so` shared object, `.h`
        the C header that goes with the object; `.py` a Python module that needs NumPy alone: the
        source (numpy), or a function with native code in it (llvm).

        Args:
            path: the file to write.
            cpu: the LLVM name of the processor to compile for; None: this machine's. Several levels
                of x86-64, such as ("x86-64-v4", "x86-64-v3", "x86-64"): code for each, of which the
                first call chooses.

        Raises:
            UnsupportedError: this backend does not write such a file.
            OSError: the file cannot be written.
        """
        if not isinstance(path, str | PathLike):
            raise OperandError(f"a path is needed, not {path!r}")
        given: Any = () if cpu is None else cpu
        if not isinstance(given, Sequence) or any(not isinstance(n, str) for n in cpu or ()):
            raise OperandError(f"cpu= is the name of a processor, or several, not {cpu!r}")
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


def checked_threads(threads: object) -> int | None:
    """What was given as `threads=`.

    Raises:
        OperandError, ArgumentError: it is no number from 1 on.
    """
    if threads is None:
        return None
    from einloom.backends.llvm.threads import checked

    return checked(threads)


def _all(arrays: Sequence[Any], out: Any) -> Sequence[Any]:
    return arrays if out is None else (*arrays, out)
