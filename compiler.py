"""The whole flow on one page: what the user wrote -> Cascade -> passes -> Executable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, overload
from typing import Literal as OneOf

from einloom.arguments import checked_shapes, declared, dtypes_in_order, extents_of, in_order, sized
from einloom.executable import Executable, Template, checked_threads
from einloom.frontend.subscripts import Subscripts, parse_subscripts, to_cascade
from einloom.ir import interpreter
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import I64, U64, DType, as_dtype, promote
from einloom.ir.errors import ArgumentError, OperandError, OutOfMemoryError
from einloom.ir.infer import infer_sizes
from einloom.ir.verify import verify
from einloom.passes.base import Pipeline
from einloom.specialisation import Shape

if TYPE_CHECKING:
    from einloom.encrypted import Encrypted
    from einloom.encryption import EncryptionOptions
    from einloom.frontend.trace import Traced

#: Anything that says how to contract: NumPy's and opt_einsum's `optimize=`.
Optimize: TypeAlias = Any


def parse(text: str) -> Cascade:
    """The Cascade of a text in the language; classic subscripts give one of symbolic ranks.

    Raises:
        ParseError, ResolveError, VerifyError: the text is not in the language; carets show where.

    >>> print(parse("ij,jk->ik"))
    cascade einsum(A[I,J], B[J,K]) -> Y {
      Y[i,k] = A[i,j] * B[j,k]
    }
    """
    if not isinstance(text, str):
        raise OperandError(f"a text is to be parsed, not {type(text).__name__}")
    if "{" in text:
        from einloom.frontend.parser import parse_cascade

        return parse_cascade(text)
    return subscripts_template(parse_subscripts(text), repeated_output=True)(None, None)


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
    options = {"acc": acc, "semiring": semiring, "broadcast": broadcast}
    template, count = _template(what, notation, sizes, name, **options)
    names = _input_names(template, shapes, dtypes)
    given_shapes = checked_shapes(in_order(shapes, names, "shapes"), count)
    if backend == "ckks":
        _without({"optimize": optimize}, backend, "auto")
        given = {"memory_limit": memory_limit, "dtypes": dtypes, "acc": acc, "threads": threads}
        _without(given, backend)
        return encrypted(template, passes, encryption, given_shapes)
    _without(encryption, backend)
    return Executable(
        template,
        as_pipeline(passes, optimize, memory_limit),
        backend,
        given_shapes,
        dtypes_in_order(dtypes, names, count),
        checked_threads(threads),
    )


def encrypted(
    template: Template,
    passes: str | Pipeline | None,
    options: Mapping[str, Any],
    shapes: Sequence[Shape] | None,
) -> Encrypted:
    """The Encrypted executable, with the options of `Encryption`."""
    from einloom.encrypted import Encrypted
    from einloom.encryption import Encryption

    _without({name: options[name] for name in options if not hasattr(Encryption, name)}, "ckks")
    return Encrypted(template, as_pipeline(passes or Pipeline()), Encryption(**options), shapes)


def _without(options: Mapping[str, Any], backend: str, default: Any = None) -> None:
    """Refuses options of another backend, and those of none."""
    given = [name for name, value in options.items() if value is not default]
    if given:
        raise ArgumentError(
            f"the backend {backend!r} takes no {'=, '.join(given)}=",
            hint=None if backend == "ckks" else 'encryption is compiled with backend="ckks"',
        )


def _template(
    what: str | Cascade | Traced,
    notation: str,
    sizes: Mapping[Any, int] | None,
    name: str | None,
    acc: Any = None,
    **options: Any,
) -> tuple[Template, int]:
    """What makes the Cascade of what the user wrote, and how many inputs it has."""
    if isinstance(what, str) and "{" not in what:
        subscripts = parse_subscripts(what, notation=notation)
        acc = None if acc is None else as_dtype(acc)
        options |= {"sizes": sizes, "repeated_output": True}
        made = subscripts_template(subscripts, acc=acc, name=name, **options)
        return made, len(subscripts.terms)
    cascade = named(sized(as_cascade(what), sizes), name)
    return CascadeTemplate(cascade), len(cascade.inputs)


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
    template, count = _template(what, notation, None, name, semiring=semiring)
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
    from einloom.passes.adjoint import adjoint

    cascade = as_cascade(cascade)
    if dtypes is not None:
        names = [decl.name for decl in cascade.inputs]
        given = dtypes_in_order(dtypes, names, len(names))
        cascade = CascadeTemplate(cascade)(None, given)
    if not isinstance(wrt, str) and not isinstance(wrt, Sequence):
        raise OperandError(f"wrt= is a name or a list of names, not {wrt!r}")
    return adjoint(cascade, (wrt,) if isinstance(wrt, str) else tuple(wrt))


def as_pipeline(
    passes: str | Pipeline | None,
    optimize: Optimize = "auto",
    memory_limit: int | str | None = None,
) -> Pipeline:
    """A Pipeline from what `passes=` may be."""
    if isinstance(passes, Pipeline):
        return passes
    if passes is None:
        from einloom.passes.registry import default_pipeline

        return default_pipeline(optimize=optimize, memory_limit=memory_limit)
    if not isinstance(passes, str):
        raise OperandError(f"passes are a Pipeline or its text, not {passes!r}")
    from einloom.passes.spec import parse_pipeline

    return parse_pipeline(passes)


def settle_path(
    template: Template,
    shapes: Sequence[Shape],
    optimize: Optimize = "auto",
    memory_limit: int | str | None = None,
) -> tuple[tuple[int, ...], ...]:
    """The contraction path for operands of these shapes: which to contract at each step.

    Raises:
        RankError: the shapes do not fit.
        PathError: `optimize` names or gives no path that does.
    """
    from einloom.passes.rewrites.order import Order

    cascade = template(shapes, None)
    names = (decl.name for decl in cascade.inputs)
    sizes = infer_sizes(cascade, dict(zip(names, shapes, strict=True)))
    ranks = tuple(replace(rank, shape=sizes[rank.name]) for rank in cascade.ranks)
    return Order(optimize, memory_limit).path(replace(cascade, ranks=ranks))


@dataclass(frozen=True)
class SubscriptsTemplate:
    """What makes the Cascade of some subscripts; the options are those of `to_cascade`."""

    subscripts: Subscripts
    acc: DType | None
    name: str | None
    options: Mapping[str, Any]

    def __call__(self, shapes: Sequence[Shape] | None, dtypes: Sequence[DType] | None) -> Cascade:
        acc = self.acc
        if acc is None and self.options.get("semiring") == "counting" and dtypes:
            # Exact counts: narrow integers and bools would wrap.
            acc = U64 if U64 in dtypes and promote(*dtypes) == U64 else promote(I64, *dtypes)
        cascade = to_cascade(self.subscripts, shapes, dtypes, acc=acc, **self.options)
        return named(cascade, self.name)


def subscripts_template(
    subscripts: Subscripts, *, acc: DType | None = None, name: str | None = None, **options: Any
) -> SubscriptsTemplate:
    """A template with these options of `to_cascade`.

    Raises:
        OperandError: an option is of a wrong type.
    """
    for option in ("semiring", "broadcast"):
        if not isinstance(options.get(option, ""), str):
            raise OperandError(f"{option}= is a name, not {options[option]!r}")
    sizes = options.get("sizes")
    if not (sizes is None or isinstance(sizes, Mapping)):
        raise OperandError(f"sizes= is a dict of extents, not {sizes!r}")
    if not (name is None or str(name).isidentifier()):
        raise ArgumentError(f"{name!r} cannot be a cascade's name")
    return SubscriptsTemplate(subscripts, acc, name, options)


def named(cascade: Cascade, name: str | None) -> Cascade:
    """The Cascade under that name, if one is given."""
    return cascade if name is None else verify(replace(cascade, name=name))


@dataclass(frozen=True)
class CascadeTemplate:
    """What declares the dtypes of a Cascade's inputs."""

    cascade: Cascade

    def __call__(self, shapes: Sequence[Shape] | None, dtypes: Sequence[DType] | None) -> Cascade:
        cascade = self.cascade
        for given in (shapes, dtypes):
            if given is not None and len(given) != len(cascade.inputs):
                count = len(cascade.inputs)
                raise ArgumentError(
                    f"{cascade.name} takes {count} input{'' if count == 1 else 's'}, "
                    f"not {len(given)}",
                    deduced=tuple(map(str, cascade.inputs)),
                )
        if dtypes is None:
            return cascade
        for decl, dtype in zip(cascade.inputs, dtypes, strict=True):
            if decl.dtype is not None and not _fits(dtype, decl.dtype):
                raise OperandError(
                    f"{decl.name} is declared {decl.dtype} but was given {dtype}",
                    span=decl.span,
                    hint="cast it first",
                )
        inputs = tuple(
            replace(decl, dtype=decl.dtype or dtype)
            for decl, dtype in zip(cascade.inputs, dtypes, strict=True)
        )
        return replace(cascade, inputs=inputs)


def _fits(given: DType, declared: DType) -> bool:
    import numpy as np

    return given == declared or np.can_cast(given.numpy, declared.numpy, "safe")


def _input_names(template: Template, *mappings: Any) -> list[str]:
    """The inputs' names, worked out only if something is given by name."""
    if not any(isinstance(given, Mapping) for given in mappings):
        return []
    return [decl.name for decl in template(None, None).inputs]


def as_cascade(what: str | Cascade | Traced) -> Cascade:
    """The Cascade of a text, of a traced function, or itself."""
    if isinstance(what, str):
        return parse(what)
    if isinstance(what, Cascade):
        return verify(what)
    from einloom.frontend.trace import Traced

    if isinstance(what, Traced):
        return what.cascade
    raise OperandError(
        f"a Cascade or its text is needed, not {type(what).__name__}",
        hint="a Python function is made one by @el.trace",
    )
