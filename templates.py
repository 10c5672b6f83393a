"""From what the user wrote to what makes its Cascade, for any shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from einloom.arguments import checked_shapes, checked_threads, dtypes_in_order, in_order, sized
from einloom.compilation import Compilation, Template
from einloom.frontend.subscripts import Subscripts, parse_subscripts, to_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import I64, U64, DType, as_dtype, promote
from einloom.ir.errors import ArgumentError, OperandError
from einloom.ir.sizes import infer_sizes
from einloom.ir.verify import verify
from einloom.passes.base import Pipeline
from einloom.specialisation import Shape

if TYPE_CHECKING:
    from einloom.encrypted import Encrypted
    from einloom.frontend.trace import Traced

#: Anything that says how to contract: NumPy's and opt_einsum's `optimize=`.
Optimize: TypeAlias = Any


def parsed(text: str) -> Cascade:
    """The Cascade of a text in the language, or of classic subscripts."""
    if not isinstance(text, str):
        raise OperandError(f"a text is to be parsed, not {type(text).__name__}")
    if "{" in text:
        from einloom.frontend.parser import parse_cascade

        return parse_cascade(text)
    return subscripts_template(parse_subscripts(text), repeated_output=True)(None, None)


def compilation_of(
    what: str | Cascade | Traced,
    *,
    backend: str,
    passes: str | Pipeline | None,
    shapes: Sequence[Shape] | Mapping[str, Shape] | None,
    dtypes: Any,
    optimize: Optimize,
    memory_limit: int | str | None,
    threads: int | None,
    wait: bool,
    **options: Any,
) -> Compilation:
    """What compiles it; the arguments are those of `compile`."""
    if not isinstance(wait, bool):
        raise OperandError(f"wait= is True or False, not {wait!r}")
    template, count = template_of(what, **options)
    names = input_names(template, shapes, dtypes)
    given_shapes = checked_shapes(in_order(shapes, names, "shapes"), count)
    return Compilation(
        template,
        as_pipeline(passes, optimize, memory_limit),
        backend,
        given_shapes,
        dtypes_in_order(dtypes, names, count),
        threads=checked_threads(threads),
        wait=wait,
    )


def encrypted_of(
    what: str | Cascade | Traced,
    encryption: Mapping[str, Any],
    *,
    backend: str,
    passes: str | Pipeline | None,
    shapes: Sequence[Shape] | Mapping[str, Shape] | None,
    dtypes: Any,
    optimize: Optimize,
    memory_limit: int | str | None,
    acc: Any,
    threads: int | None,
    wait: bool,
    **options: Any,
) -> Encrypted:
    """The Encrypted executable, with the options of `Encryption`."""
    from einloom.encrypted import Encrypted
    from einloom.encryption import Encryption

    template, count = template_of(what, acc=acc, **options)
    names = input_names(template, shapes, dtypes)
    given_shapes = checked_shapes(in_order(shapes, names, "shapes"), count)
    without({"optimize": optimize}, backend, "auto")
    without({"wait": wait}, backend, True)
    without({"memory_limit": memory_limit, "dtypes": dtypes, "acc": acc}, backend)
    without({"threads": threads}, backend)
    without({n: encryption[n] for n in encryption if not hasattr(Encryption, n)}, backend)
    pipeline = as_pipeline(passes or Pipeline())
    return Encrypted(template, pipeline, Encryption(**encryption), given_shapes)


def without(options: Mapping[str, Any], backend: str, default: object = None) -> None:
    """Refuses options of another backend, and those of none."""
    given = [name for name, value in options.items() if value is not default]
    if given:
        raise ArgumentError(
            f"the backend {backend!r} takes no {'=, '.join(given)}=",
            hint=None if backend == "ckks" else 'encryption is compiled with backend="ckks"',
        )


def template_of(
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


def input_names(template: Template, *mappings: Any) -> list[str]:
    """The inputs' names, worked out only if something is given by name."""
    if not any(isinstance(given, Mapping) for given in mappings):
        return []
    return [decl.name for decl in template(None, None).inputs]


def as_cascade(what: str | Cascade | Traced) -> Cascade:
    """The Cascade of a text, of a traced function, or itself."""
    if isinstance(what, str):
        return parsed(what)
    if isinstance(what, Cascade):
        return verify(what)
    from einloom.frontend.trace import Traced

    if isinstance(what, Traced):
        return what.cascade
    raise OperandError(
        f"a Cascade or its text is needed, not {type(what).__name__}",
        hint="a Python function is made one by @el.trace",
    )


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
