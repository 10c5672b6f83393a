"""An Executable: what `compile` gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from einloom import records
from einloom.dispatch import Bound, InlineCache, keep, signature
from einloom.ir.errors import OperandError, UnsupportedError

if TYPE_CHECKING:
    from einloom.compilation import Compilation
    from einloom.ir.cascade import Cascade
    from einloom.passes.base import Pipeline, Step


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
        *("__call__", "__weakref__", "_bound", "_called", "_compilation", "_inline", "_served"),
        "backend",
    )
    __call__: Callable[..., Any]

    def __new__(cls, *_: Any, **__: Any) -> Executable:
        from einloom.backends.llvm.vectorcall import quick_type

        quick: Any = quick_type(cast(Any, cls))
        made: Executable = object.__new__(quick)
        return made

    def __init__(
        self,
        compilation: Compilation | Callable[[], Compilation],
        backend: str,
        called: str | None = None,
    ) -> None:
        """Args: what compiles, or what makes that; its backend; what is called, for records."""
        self.backend = backend
        self._called = called
        self._compilation = compilation
        self._bound: dict[Any, Bound] = {}
        self._served: Sequence[Any] | None = None  # operands like those that a record served last
        self._inline = InlineCache(self._call)
        self.__call__ = self._inline.head

    @property
    def __signature__(self) -> Any:
        """For `inspect.signature`: what is called changes, how it is called does not."""
        import inspect

        return inspect.signature(self._call)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a value: what it was made from; code is compiled again where it is needed."""
        return Executable, (self._compiled(), self.backend, self._called)

    def _compiled(self) -> Compilation:
        """What compiles: made now, if records have served until now."""
        found: Any = self._compilation
        if callable(found):
            found = self._compilation = found()
        return cast("Compilation", found)

    # ---- calling

    def _call(self, *arrays: Any, out: Any = None, **named: Any) -> Any:
        """A call that native code did not serve, at least not yet."""
        found = None if named else self._known(arrays, out)
        if found is None:
            return self._call_compiled(*arrays, out=out, **named)
        self._learn(found)
        return found.call(*_all(arrays, out))

    def _known(self, arrays: Sequence[Any], out: Any) -> Bound | None:
        """What serves such a call, of this process or of an earlier one."""
        try:
            key = _key(arrays, out)
        except AttributeError:
            return None  # a list or number among the operands
        found = self._bound.get(key)
        if found is None:
            found = records.find(self._called, arrays, out, self._call_compiled)
            if found is None:
                return None
            keep(self._bound, key, found)
            self._served = [(array.shape, array.dtype) for array in arrays]
        elif found.later is not None:
            found = found.later
            keep(self._bound, key, found)
            self._record(arrays, out, found)
        return found

    def _call_compiled(self, *arrays: Any, out: Any = None, **named: Any) -> Any:
        """A call not seen before, by no earlier process either; or one that a record gave up."""
        from einloom.frontend.calls import as_array, by_name

        if named:
            names = self._compiled().names()
            given_by_name = by_name(names, arrays, named)
            arrays = tuple(given_by_name[name] for name in names)
        operands = [as_array(array, number) for number, array in enumerate(arrays)]
        anew = bool(named) or any(a is not b for a, b in zip(arrays, operands, strict=True))
        found = self._known(operands, out) if anew else None
        if found is None:
            found = self._compiled().bind(operands, out)
            self._served = None
            if all(type(array) is np.ndarray for array in (*operands, *_each(out))):
                keep(self._bound, _key(operands, out), found)
                if not anew:  # no guard serves calls like this one
                    self._learn(found)
            self._record(operands, out, found)
        return found.call(*_all(operands, out))

    def _record(self, arrays: Sequence[Any], out: Any, found: Bound) -> None:
        if records.keep(self._called, arrays, out, found):
            records.mark(self._called)

    def _learn(self, bound: Bound) -> None:
        head = self._inline.learn(bound)
        if head is not self.__call__:
            from einloom.backends.llvm.vectorcall import call_natively

            self.__call__ = head
            call_natively(self)

    # ---- looking inside

    def _shown(self) -> Compilation:
        """What compiles, such that it shows what was called last."""
        compiled = self._compiled()
        if self._served is not None:
            from einloom.ir.dtypes import of_numpy

            shapes, dtypes = zip(*self._served, strict=True)
            compiled.specialise(shapes, [of_numpy(dtype) for dtype in dtypes])
            self._served = None
        return compiled

    @property
    def pipeline(self) -> Pipeline:
        """The passes that are run."""
        return self._compiled().pipeline

    @property
    def cascade(self) -> Cascade:
        """The Cascade after the passes."""
        return self._shown().shown().cascade

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step of the compilation: its pass, its dump and a comment on what it changed."""
        return self._shown().steps()

    @property
    def source(self) -> str:
        """What the backend runs: Python source (numpy) or LLVM IR (llvm), for C-ordered arrays."""
        return self._shown().kernel().source

    @property
    def llvm_ir(self) -> str:
        """The LLVM IR text (llvm backend), for C-ordered arrays."""
        self._need_llvm("llvm_ir")
        return self.source

    @property
    def asm(self) -> str:
        """The assembly of this machine (llvm backend), for C-ordered arrays."""
        self._need_llvm("asm")
        kernel: Any = self._shown().kernel()
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
        kernel: Any = self._shown().kernel()
        if self.backend == "numpy":
            from einloom.backends.numpy.kernel import save as save_source

            save_source(kernel, path, cpu=cpu)
        else:
            from einloom.backends.llvm.aot import save as save_code

            save_code(kernel, path, cpu=cpu)

    def _need_llvm(self, what: str) -> None:
        if self.backend != "llvm":
            raise UnsupportedError(
                f"the {self.backend} backend has no {what}", hint='compile with backend="llvm"'
            )

    def __repr__(self) -> str:
        return f"<einloom.Executable {self.cascade.name} on {self.backend}>"


def _key(arrays: Sequence[Any], out: Any) -> tuple[Any, ...]:
    """What a call is known by: the signature of its arrays, and what they are given as."""
    return (out is None, isinstance(out, tuple | list), *signature((*arrays, *_each(out))))


def _each(out: Any) -> Sequence[Any]:
    """The arrays of `out=`."""
    if isinstance(out, tuple | list):
        return cast("Sequence[Any]", out)
    return () if out is None else (out,)


def _all(arrays: Sequence[Any], out: Any) -> Sequence[Any]:
    return arrays if out is None else (*arrays, out)
