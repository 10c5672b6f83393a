"""The whole flow on one page: what the user wrote -> Cascade -> passes -> Executable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

from einloom.executable import Executable, Template
from einloom.frontend.subscripts import Subscripts, parse_subscripts, to_cascade
from einloom.ir import interpreter
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import I64, U64, DType, as_dtype, promote
from einloom.ir.errors import ArgumentError, OperandError
from einloom.ir.infer import infer_sizes
from einloom.ir.verify import verify
from einloom.passes.base import Pipeline
from einloom.specialisation import Shape

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
    if "{" in text:
        from einloom.frontend.parser import parse_cascade

        return parse_cascade(text)
    return subscripts_template(parse_subscripts(text), repeated_output=True)(None, None)


def compile(
    what: str | Cascade,
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
) -> Executable:
    """Compiles an einsum or a cascade into an Executable.

    Args:
        what: subscripts ("ij,jk->ik"), cascade text (contains `{`), or a Cascade.
        backend: "llvm" or "numpy".
        passes: a pipeline or its text; None: canonical form and contraction order by `optimize`.
        shapes: the operands' shapes, in order or by name; None: any, known at each call.
        dtypes: one dtype, or one for each operand, in order or by name; None: at each call.
        optimize, memory_limit: how to order a product of many, as `opt_einsum.contract` takes them.
        notation, semiring, broadcast, sizes, acc: for subscripts, as `einsum` takes them.

    Returns:
        An Executable: call it with arrays; look at `.cascade`, `.steps`, `.source`, `.llvm_ir`,
        `.asm`; write it with `.save(path)`.

    Raises:
        EinloomError: the text, a pass's text, or what is asked for does not make sense.

    >>> import numpy as np
    >>> f = compile("ij,jk->ik", backend="numpy")
    >>> f(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    if isinstance(what, str) and "{" not in what:
        subscripts = parse_subscripts(what, notation=notation)
        count = len(subscripts.terms)
        template = subscripts_template(
            subscripts,
            acc=None if acc is None else as_dtype(acc),
            semiring=semiring,
            broadcast=broadcast,
            sizes=sizes,
            repeated_output=True,
        )
    else:
        cascade = parse(what) if isinstance(what, str) else what
        count = len(cascade.inputs)
        template = _cascade_template(cascade)
    names = _input_names(template, shapes, dtypes)
    given_shapes = _in_order(shapes, names, "shapes")
    return Executable(
        template,
        as_pipeline(passes, optimize, memory_limit),
        backend,
        given_shapes,
        _dtypes_in_order(dtypes, names, count),
    )


def evaluate(cascade: str | Cascade, keep: Sequence[str] = (), **arrays: Any) -> Any:
    """What the definition of the language says a Cascade computes: slow, exact, plain.

    Args:
        cascade: a Cascade or its text.
        keep: names of intermediates to return as well.
        **arrays: the inputs by name.

    Returns:
        The output; with several outputs, or with `keep`, a dict of arrays by name.

    Raises:
        EinloomError: the inputs do not fit the Cascade.
    """
    cascade = verify(parse(cascade) if isinstance(cascade, str) else cascade)
    results = interpreter.evaluate(cascade, arrays, keep)
    if len(results) == 1:
        return results[cascade.outputs[0]]
    return results


def rewrite(cascade: str | Cascade, passes: str | Pipeline) -> Cascade:
    """The Cascade after the passes of a pipeline, or of its text.

    Raises:
        PipelineError: the text names no pass, or an option that it does not have.
        PassError: a pass's condition does not hold.
    """
    cascade = verify(parse(cascade) if isinstance(cascade, str) else cascade)
    return as_pipeline(passes).run(cascade)[0]


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


def subscripts_template(
    subscripts: Subscripts, *, acc: DType | None = None, **options: Any
) -> Template:
    """What makes the Cascade of some subscripts; the options are those of `to_cascade`."""

    def template(shapes: Sequence[Shape] | None, dtypes: Sequence[DType] | None) -> Cascade:
        wider = acc
        if wider is None and options.get("semiring") == "counting" and dtypes:
            # Exact counts: narrow integers and bools would wrap.
            wider = U64 if U64 in dtypes and promote(*dtypes) == U64 else promote(I64, *dtypes)
        return to_cascade(subscripts, shapes, dtypes, acc=wider, **options)

    return template


def _cascade_template(cascade: Cascade) -> Template:
    verify(cascade)

    def template(shapes: Sequence[Shape] | None, dtypes: Sequence[DType] | None) -> Cascade:
        for given in (shapes, dtypes):
            if given is not None and len(given) != len(cascade.inputs):
                raise ArgumentError(
                    f"{cascade.name} takes {len(cascade.inputs)} inputs, not {len(given)}"
                )
        for decl, dtype in zip(cascade.inputs, dtypes or (), strict=False):
            declared = decl.dtype or dtype
            if not _fits(dtype, declared):
                raise OperandError(
                    f"{decl.name} is declared {declared} but was given {dtype}",
                    span=decl.span,
                    hint="cast it first",
                )
        declared_inputs = (
            tuple(
                replace(decl, dtype=decl.dtype or dtype)
                for decl, dtype in zip(cascade.inputs, dtypes, strict=True)
            )
            if dtypes
            else cascade.inputs
        )
        return replace(cascade, inputs=declared_inputs)

    return template


def _fits(given: DType, declared: DType) -> bool:
    import numpy as np

    return given == declared or np.can_cast(given.numpy, declared.numpy, "safe")


def _input_names(template: Template, *mappings: Any) -> list[str]:
    """The inputs' names, worked out only if something is given by name."""
    if not any(isinstance(given, Mapping) for given in mappings):
        return []
    return [decl.name for decl in template(None, None).inputs]


def _in_order(given: Any, names: Sequence[str], what: str) -> list[Any] | None:
    if isinstance(given, Mapping):
        by_name = cast(Mapping[str, Any], given)
        missing = [name for name in names if name not in by_name]
        unknown = [name for name in by_name if name not in names]
        if missing or unknown:
            raise ArgumentError(
                f"{what}= does not fit the inputs {', '.join(names)}",
                hint=f"missing: {missing}; unknown: {unknown}",
            )
        return [by_name[name] for name in names]
    return None if given is None else list(given)


def _dtypes_in_order(given: Any, names: Sequence[str], count: int) -> list[DType] | None:
    if given is None:
        return None
    if isinstance(given, Mapping) or (isinstance(given, Sequence) and not isinstance(given, str)):
        dtypes = [as_dtype(spec) for spec in _in_order(given, names, "dtypes") or ()]
        if len(dtypes) != count:
            raise ArgumentError(f"there are {count} inputs, but {len(dtypes)} dtypes")
        return dtypes
    return [as_dtype(given)] * count
