"""How calls of `einsum` are prepared, and `einsum_path`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np

from einloom import records
from einloom.arguments import checked_threads
from einloom.backends.base import Array
from einloom.backends.numpy.layout import result_axes, take_view, view_plan
from einloom.backends.registry import backend_form
from einloom.compilation import Compilation, Template
from einloom.dispatch import Bound, hashable, keep, option_key, signature
from einloom.frontend.calls import as_array, in_numpys_letters, read_call
from einloom.frontend.subscripts import Subscripts
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import DType, as_dtype, of_numpy, promote
from einloom.ir.errors import ArgumentError, OperandError
from einloom.templates import Optimize, as_pipeline, subscripts_template

_compilations: dict[Any, Compilation] = {}


def prepare(
    table: dict[Any, Bound],
    subscripts: Any,
    operands: Sequence[Any],
    out: Any,
    given_options: Mapping[str, Any],
) -> tuple[Bound, tuple[Array, ...]]:
    """The calls of such operands, kept in the table from now on, and the operands as arrays."""
    options = read_options(given_options)
    parsed, given = read_call(subscripts, operands, options.notation)
    arrays = tuple(as_array(operand, number) for number, operand in enumerate(given))
    if not (out is None or isinstance(out, np.ndarray)):
        raise OperandError(f"out= must be an array, not {type(out).__name__}")
    target = cast("Array | None", out)
    # The key under which `einsum` looks, so that arrays in the place of lists find it at once.
    text = subscripts if given is operands else parsed
    key: Any = (text, *signature(arrays if target is None else (*arrays, target)))
    key += () if target is None else ("out",)
    key += option_key(given_options)
    try:
        found = table.get(key)
    except TypeError:
        key, found = None, None  # a path finder that cannot be hashed
    if found is None or found.recorded:
        found = call_for(parsed, arrays, target, options)
        if key is not None:
            keep(table, key, found)
        if isinstance(subscripts, str):
            records.keep(records.identity("einsum", subscripts, given_options), arrays, out, found)
    return found, arrays


def call_for(
    parsed: Subscripts,
    arrays: Sequence[Array],
    out: Array | None,
    options: Options,
    constants: Collection[int] = (),
) -> Bound:
    """The calls of arrays like these, without those at the positions that are `constants`."""
    # What is wrong with the subscripts or the shapes is said before what is with the dtypes.
    written = einsum_template(parsed, None, options)([array.shape for array in arrays], None)
    if out is None and not constants:
        view = _view_call(written, arrays, options)
        if view is not None:
            return Bound(view)
    computed, acc = _dtypes(arrays, out, options)
    compilation = _compilation(parsed, acc, options)
    converted = _convert(arrays, computed)
    axes = result_axes(written, arrays, options.order) if out is None else None
    bound = compilation.bind(converted, out, axes, options.casting, constants)
    moving = [number for number in range(len(arrays)) if number not in constants]
    if all(converted[number] is arrays[number] for number in moving):
        return bound
    call = bound.call
    dtypes = [computed[number] for number in moving]

    def convert_first(*given: Array) -> Any:
        return call(*_convert(given[: len(dtypes)], dtypes), *given[len(dtypes) :])

    return Bound(convert_first)


@dataclass(frozen=True, slots=True)
class Options:
    """The keywords of `einsum` with their defaults."""

    optimize: Optimize = "auto"
    dtype: Any = None
    order: str = "K"
    casting: Any = "safe"
    backend: str = "llvm"
    semiring: str = "sum_product"
    broadcast: str = "numpy"
    sizes: Mapping[Any, int] | None = None
    acc: Any = None
    notation: str = "compact"
    repeated_output: bool = False
    memory_limit: int | str | None = None
    threads: int | None = None
    wait: bool = True


_OPTION_NAMES = frozenset(field.name for field in fields(Options))


_CASTING = ("no", "equiv", "safe", "same_kind", "unsafe")


def read_options(given: Mapping[str, Any]) -> Options:
    """The keywords, checked as far as they can be without the operands."""
    for name in given:
        if name not in _OPTION_NAMES:
            raise OperandError(
                f"einsum() got an unexpected keyword argument {name!r}",
                hint=f"it takes {', '.join(sorted(_OPTION_NAMES))}, out",
            )
    options = Options(**given)
    for name in ("backend", "semiring", "broadcast", "notation"):
        if not isinstance(getattr(options, name), str):
            raise OperandError(f"{name}= is a name, not {getattr(options, name)!r}")
    backend_form(options.backend)
    if not isinstance(options.wait, bool):
        raise OperandError(f"wait= is True or False, not {options.wait!r}")
    if options.casting not in _CASTING:
        raise ArgumentError(f"casting must be one of {_CASTING} (got {options.casting!r})")
    if options.sizes is not None and not isinstance(options.sizes, Mapping):
        raise OperandError(f"sizes= is a dict of extents, not {options.sizes!r}")
    order: Any = "K" if given.get("order") is None else options.order
    if not isinstance(order, str):
        raise OperandError(f"order must be a str, not {type(order).__name__}")
    if order.upper() not in ("C", "F", "A", "K"):
        raise ArgumentError(f"order must be one of 'C', 'F', 'A', or 'K' (got {order!r})")
    return replace(options, order=order.upper(), threads=checked_threads(options.threads))


def _convert(arrays: Sequence[Array], dtypes: Sequence[np.dtype[Any]]) -> list[Array]:
    return [
        array if array.dtype == dtype else array.astype(dtype)
        for array, dtype in zip(arrays, dtypes, strict=True)
    ]


def _compilation(parsed: Subscripts, acc: DType | None, options: Options) -> Compilation:
    key: Any = (
        *(parsed, acc, hashable((options.optimize, options.sizes)), options.memory_limit),
        *(options.backend, options.semiring, options.broadcast, options.repeated_output),
        *(options.threads, options.wait),
    )
    try:
        found = _compilations.get(key)
    except TypeError:
        key, found = None, None  # a path finder that cannot be hashed
    if found is None:
        pipeline = as_pipeline(None, options.optimize, options.memory_limit)
        template = einsum_template(parsed, acc, options)
        found = Compilation(
            *(template, pipeline, options.backend), threads=options.threads, wait=options.wait
        )
        if key is not None:
            keep(_compilations, key, found)
    return found


def einsum_template(parsed: Subscripts, acc: DType | None, options: Options) -> Template:
    """What makes the Cascade of a call of `einsum`."""
    return subscripts_template(
        parsed,
        acc=acc,
        semiring=options.semiring,
        broadcast=options.broadcast,
        sizes=options.sizes,
        repeated_output=options.repeated_output,
    )


def _read_dtype(spec: Any) -> DType:
    """NumPy's names come first in NumPy's call: "i8", "u8" and "f16" count bytes there."""
    try:
        given = np.dtype(spec)
    except TypeError:
        return as_dtype(spec)
    return of_numpy(given)


def _dtypes(
    arrays: Sequence[Array], out: Array | None, options: Options
) -> tuple[list[np.dtype[Any]], DType | None]:
    """The dtype to convert each operand to, and the one to accumulate in (None: their own).

    As in NumPy, `out` takes part in the common type, and `casting` is the rule for getting there.
    """
    own = [of_numpy(array.dtype) for array in arrays]
    common = promote(*own, *([of_numpy(out.dtype)] if out is not None else []))
    wanted = _read_dtype(options.dtype) if options.dtype is not None else None
    target = wanted or common
    for number, (array, dtype) in enumerate(zip(arrays, own, strict=True)):
        if dtype != target and not np.can_cast(array.dtype, target.numpy, options.casting):
            raise OperandError(
                f"operand {number} is {dtype}, which cannot be cast to {target} "
                f"by the rule {options.casting!r}",
                passed=tuple(f"operand {n}: {a.dtype} {a.shape}" for n, a in enumerate(arrays)),
                hint="give casting='unsafe' or another dtype=",
            )
    acc = _read_dtype(options.acc) if options.acc is not None else None
    if acc is not None and not np.can_cast(target.numpy, acc.numpy, options.casting):
        raise OperandError(
            f"acc={acc} cannot hold what is computed in {target}, by the rule {options.casting!r}",
            hint="acc= is for a wider dtype; dtype= says what to compute in",
        )
    if acc is None and target != promote(*own):
        acc = target
    # Widening happens inside the kernel; a narrower or unlike type is converted to beforehand.
    fits = [promote(dtype, target) == target for dtype in own]
    computed = [(dtype if fit else target).numpy for dtype, fit in zip(own, fits, strict=True)]
    return computed, acc


def _view_call(
    written: Cascade, arrays: Sequence[Array], options: Options
) -> Callable[..., Any] | None:
    """For one operand that is only permuted, or whose diagonals are taken: a view of it."""
    if len(arrays) != 1 or options.acc is not None or options.semiring != "sum_product":
        return None
    if options.dtype is not None and _read_dtype(options.dtype).numpy != arrays[0].dtype:
        return None
    plan = view_plan(written)
    if plan is None:
        return None
    order = options.order

    def call(given: Array) -> Any:
        view = take_view(given, plan)
        if order == "C" and not view.flags.c_contiguous:
            return view.copy("C")
        if order == "F" and not view.flags.f_contiguous:
            return view.copy("F")
        return view if view.ndim else view[()]

    return call


def einsum_path(
    *operands: Any, optimize: Any = "greedy", einsum_call: Any = False, notation: str = "compact"
) -> Any:
    """The contraction order of an einsum and a printable report: `np.einsum_path`'s own results.

    Symbols that NumPy does not take (Unicode, names, other hashables) stand as letters in it.

    Raises:
        ArgumentError: there are more symbols than NumPy has letters.
        ValueError, TypeError, KeyError, RuntimeError: as from NumPy.

    >>> import numpy as np
    >>> einsum_path("ij,jk->ik", np.ones((2, 2)), np.ones((2, 2)))[0]
    ['einsum_path', (0, 1)]
    """
    given = in_numpys_letters(operands, notation)
    return np.einsum_path(*given, optimize=optimize, einsum_call=einsum_call)
