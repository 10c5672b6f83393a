"""The whole flow on one page: what the user wrote -> Cascade -> passes -> Executable.

Each function loads what it needs when it is called: what an earlier process compiled is called
without the language and the passes (records.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from einloom import records
from einloom.executable import Executable
from einloom.ir.errors import OperandError, OutOfMemoryError

if TYPE_CHECKING:
    from typing import Literal as OneOf
    from typing import Unpack

    from einloom.compilation import Compilation
    from einloom.encrypted import Encrypted
    from einloom.encryption import EncryptionOptions
    from einloom.frontend.trace import Traced
    from einloom.ir.cascade import Cascade
    from einloom.passes.base import Pipeline
    from einloom.specialisation import Shape
    from einloom.templates import Optimize


def parse(text: str) -> Cascade:
    """The Cascade of a text in the language; classic subscripts give one of symbolic ranks.

    Raises:
        ParseError, ResolveError, VerifyError: the text is not in the language; carets show where.

    >>> print(parse("ij,jk->ik"))
    cascade einsum(A[I,J], B[J,K]) -> Y {
      Y[i,k] = A[i,j] * B[j,k]
    }
    """
    from einloom.templates import parsed

    return parsed(text)


@overload
def compile(  # type: ignore[overload-overlap]  # a name that is not written out is no "ckks"
    what: str | Cascade | Traced,
    *,
    backend: OneOf["ckks"],
    passes: str | Pipeline | None = None,
    shapes: Sequence[Shape] | Mapping[str, Shape] | None = None,
    notation: str = "compact",
    semiring: str = "sum_product",
    broadcast: str = "numpy",
    sizes: Mapping[Any, int] | None = None,
    name: str | None = None,
    **encryption: Unpack[EncryptionOptions],
) -> Encrypted: ...


@overload
def compile(
    what: str | Cascade | Traced,
    *,
    backend: str = "llvm",
    passes: str | Pipeline | None = None,
    shapes: Sequence[Shape] | Mapping[str, Shape] | None = None,
    dtypes: Any = None,
    optimize: Optimize = "auto",
    memory_limit: int | str | None = None,
    notation: str = "compact",
    semiring: str = "sum_product",
    broadcast: str = "numpy",
    sizes: Mapping[Any, int] | None = None,
    acc: Any = None,
    threads: int | None = None,
    name: str | None = None,
    wait: bool = True,
) -> Executable: ...


def compile(
    what: str | Cascade | Traced,
    *,
    backend: str = "llvm",
    passes: str | Pipeline | None = None,
    shapes: Sequence[Shape] | Mapping[str, Shape] | None = None,
    dtypes: Any = None,
    optimize: Optimize = "auto",
    memory_limit: int | str | None = None,
    notation: str = "compact",
    semiring: str = "sum_product",
    broadcast: str = "numpy",
    sizes: Mapping[Any, int] | None = None,
    acc: Any = None,
    threads: int | None = None,
    name: str | None = None,
    wait: bool = True,
    **encryption: Unpack[EncryptionOptions],
) -> Executable | Encrypted:
    """Compiles an einsum or a cascade into an Executable.

    Args:
        what: subscripts ("ij,jk->ik"), cascade text (contains `{`), a Cascade, or a traced
            function.
        backend: "llvm", "numpy", or "ckks": on encrypted data.
        passes: a pipeline or its text; None: canonical form and contraction order by `optimize`,
            for "ckks" none.
        shapes: the operands' shapes, in order or by name; None: any, known at each call.
        dtypes: one dtype, or one for each operand, in order or by name; None: at each call.
        optimize, memory_limit: how to order a product of many, as `opt_einsum.contract` takes them.
        notation, semiring, broadcast, acc: for subscripts, as `einsum` takes them.
        sizes: extents: of output-only symbols; of a cascade's ranks that nothing else says, such
            as the parts of a partition, {"M0": 128}.
        threads: how many threads share the work of native code, at most; None: as
            `set_num_threads` says. Results are the same, bit for bit.
        name: what the Cascade, and so the function in saved code, is called; None: its own name,
            `einsum` for subscripts.
        wait: whether a call waits until native code is compiled for it. If not, NumPy answers until
            a thread in the background has compiled it; `fallbacks()` counts such calls.
        **encryption: for "ckks" alone: secret, slots, layout, plan, keys, approximate, levels,
            engine, precision, magnitude, bound, seed, insecure. `encryption.Encryption` says what
            they mean.

    Returns:
        An Executable: call it with arrays; look at `.cascade`, `.steps`, `.source`, `.llvm_ir`,
        `.asm`; write it with `.save(path)`. For "ckks" an Encrypted: with `.packed`, `.report`,
        `.client()` and `.server(keys)`.

    Raises:
        EinloomError: the text, a pass's text, or what is asked for does not make sense.

    >>> import numpy as np
    >>> f = compile("ij,jk->ik", backend="numpy")
    >>> f(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    options: dict[str, Any] = {"backend": backend, "passes": passes, "shapes": shapes}
    options |= {"dtypes": dtypes, "optimize": optimize, "memory_limit": memory_limit}
    options |= {"notation": notation, "semiring": semiring, "broadcast": broadcast}
    options |= {"sizes": sizes, "acc": acc, "name": name, "wait": wait}
    options["threads"] = threads
    # A text that uses files is not all that is compiled.
    called = None
    if isinstance(what, str) and not ("{" in what and "use" in what):
        called = records.identity("compile", what, options | encryption)
    if called is not None and records.marked(called):
        return Executable(partial(_compilation, what, deepcopy(options)), backend, called)
    if backend == "ckks":
        from einloom.templates import encrypted_of

        return encrypted_of(what, encryption, **options)
    from einloom.templates import without

    without(encryption, backend)
    return Executable(_compilation(what, options), backend, called)


def _compilation(what: Any, options: Mapping[str, Any]) -> Compilation:
    from einloom.templates import compilation_of

    return compilation_of(what, **options)


def cascade_of(
    what: str | Cascade | Traced,
    *,
    shapes: Sequence[Shape] | Mapping[str, Shape] | None = None,
    dtypes: Any = None,
    notation: str = "compact",
    semiring: str = "sum_product",
    name: str | None = None,
) -> Cascade:
    """The Cascade of what `compile` takes; shapes and dtypes that are given are declared in it.

    Args:
        shapes: the operands' shapes, in order, or those of some by name.
        dtypes, notation, semiring, name: as `compile` takes them.

    Raises:
        EinloomError: as `compile` does.

    >>> print(cascade_of("ij,j->i", shapes={"A": (2, 3)}, dtypes="f32"))
    cascade einsum(A[I,J]: f32, B[J]: f32) -> Y {
      ranks I = 2, J = 3
      Y[i] = A[i,j] * B[j]
    }
    """
    from einloom.arguments import (
        checked_shapes,
        declared,
        dtypes_in_order,
        extents_of,
        in_order,
    )
    from einloom.templates import template_of

    template, count = template_of(what, notation, None, name, semiring=semiring)
    names = [decl.name for decl in template(None, None).inputs]
    given = dtypes_in_order(dtypes, names, count)
    if shapes is not None and not isinstance(shapes, Mapping):
        listed = checked_shapes(in_order(shapes, names, "shapes"), count) or []
        cascade = template(listed, given)
        sizes = extents_of(cascade, dict(zip(names, listed, strict=True)))
    else:
        cascade = template(None, given)
        sizes = extents_of(cascade, shapes or {})
    return declared(cascade, sizes)


def evaluate(
    cascade: str | Cascade | Traced,
    /,
    keep: Sequence[str] = (),
    sizes: Mapping[str, int] | None = None,
    **arrays: Any,
) -> Any:
    """What the definition of the language says a Cascade computes: slow, exact, plain.

    Args:
        cascade: a Cascade, its text, or a traced function.
        keep: names of intermediates to return as well.
        sizes: extents of ranks that nothing else says, such as the parts of a partition.
        **arrays: the inputs by name; so an input cannot be called `keep` or `sizes` here.

    Returns:
        The output; with several outputs, or with `keep`, a dict of arrays by name.

    Raises:
        EinloomError: the inputs do not fit the Cascade, or memory its tensors.
    """
    from einloom.arguments import sized
    from einloom.ir import interpreter
    from einloom.templates import as_cascade

    cascade = sized(as_cascade(cascade), sizes)
    if isinstance(keep, str) or not isinstance(keep, Sequence):
        raise OperandError(f"keep= is a list of names, not {keep!r}")
    try:
        results = interpreter.evaluate(cascade, arrays, keep)
    except MemoryError:
        raise OutOfMemoryError(f"there is no memory for the tensors of {cascade.name}") from None
    return results if keep or len(results) > 1 else results[cascade.outputs[0]]


def rewrite(cascade: str | Cascade | Traced, passes: str | Pipeline) -> Cascade:
    """The Cascade after the passes of a pipeline, or of its text.

    Raises:
        PipelineError: the text names no pass, or an option that it does not have.
        PassError: a pass's condition does not hold.
    """
    from einloom.templates import as_cascade, as_pipeline

    return as_pipeline(passes).apply(as_cascade(cascade))


def counterexample(
    before: str | Cascade | Traced, after: str | Cascade | Traced, *, seed: int = 0
) -> str | None:
    """Inputs on which two Cascades are not the same function, as text; None if none was found.

    Both are evaluated, by the definition, on a few sizes (those declared, else from 1 to 8) and on
    moderate values, on +-1e4, on +-1e-30, and on values with inf and -inf among them. Floats differ
    if they do by more than 10,000 units of precision of the largest value of the output, or in
    which of them are NaN or infinite. A difference is a proof; none is evidence.

    Raises:
        PassError: the Cascades have not the same inputs and outputs.

    >>> total, largest = (f"cascade f(A[I]) -> Y {{ Y = {op}[i] A[i] }}" for op in ("sum", "max"))
    >>> counterexample(total, largest)
    'Y for I = 2, plain values: 1.665595100039622 is not 1.3040000451301372'
    """
    from einloom.passes.equality import counterexample as tried
    from einloom.templates import as_cascade

    return tried(as_cascade(before), as_cascade(after), seed=seed)


def grad(
    cascade: str | Cascade | Traced, /, wrt: str | Sequence[str], *, dtypes: Any = None
) -> Cascade:
    """The adjoint of a Cascade: from a cotangent for each output to one for each of `wrt`.

    Args:
        cascade: a Cascade, its text, or a traced function.
        wrt: the inputs to differentiate by, a name or several; floating or complex.
        dtypes: those of inputs that do not declare theirs, as `compile` takes them.

    Returns:
        A Cascade of the same inputs and, unless the one output is a scalar, of a cotangent `Y_bar`
        for each output Y; its outputs are `X_bar` for each X of `wrt`. It is differentiated
        in turn, compiled and printed as any other.

    Raises:
        PassError: `wrt` names no input, or one of integers; a dtype is not known.
        UnsupportedError: an Einsum has no derivative here; the message says which, and why.

    >>> print(grad("cascade f(A[I]: f32, B[I]: f32) -> Y { Y = A[i] * B[i] }", wrt="A"))
    cascade f_grad(A[I]: f32, B[I]: f32) -> A_bar {
      A_bar[i] = B[i]
    }
    """
    from einloom.arguments import dtypes_in_order
    from einloom.passes.adjoint import adjoint
    from einloom.templates import CascadeTemplate, as_cascade

    cascade = as_cascade(cascade)
    if dtypes is not None:
        names = [decl.name for decl in cascade.inputs]
        given = dtypes_in_order(dtypes, names, len(names))
        cascade = CascadeTemplate(cascade)(None, given)
    if not isinstance(wrt, str) and not isinstance(wrt, Sequence):
        raise OperandError(f"wrt= is a name or a list of names, not {wrt!r}")
    return adjoint(cascade, (wrt,) if isinstance(wrt, str) else tuple(wrt))
