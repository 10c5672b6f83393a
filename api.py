"""`einsum` and `einsum_path`: NumPy's calls, and more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, cast

import numpy as np

from einloom.backends.base import Array
from einloom.backends.numpy.layout import result_axes, take_view, view_plan
from einloom.backends.registry import backend_form
from einloom.compiler import Optimize, as_pipeline, subscripts_template
from einloom.dispatch import Bound, InlineCache, keep, signature
from einloom.executable import Executable, Template, checked_threads
from einloom.frontend.calls import as_array, in_numpys_letters, read_call
from einloom.frontend.subscripts import Subscripts
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import DType, as_dtype, of_numpy, promote
from einloom.ir.errors import ArgumentError, OperandError

_calls: dict[Any, Bound] = {}
#: By the subscripts alone, where there are no options: what tells operands apart is native.
_inline: dict[str, InlineCache] = {}
_executables: dict[Any, Executable] = {}


def einsum(subscripts: Any = "", *operands: Any, out: Array | None = None, **options: Any) -> Any:
    """Evaluates an einsum: `np.einsum`'s call, natively compiled, for the whole dialect.

    Args:
        subscripts: "ij,jk->ik"; or the first operand of the interleaved form
            `einsum(A, [0, 1], B, [1, 2], [0, 2])`.
        *operands: arrays, nested lists or numbers; any shapes, strides and byte orders.
        out: an array to write the result into, which is returned.
        optimize: how to order three or more operands: "auto" (default), False (one loop nest), or
            any path, name, `(name, limit)` or callable that NumPy or opt_einsum takes.
        dtype: what to compute in, read as NumPy reads it ("i8" has 8 bytes); also einloom's names
            where NumPy has none ("f32", "bf16"). None: the common type (`np.result_type`).
        order: the layout of a new result: "C", "F", "A" ("F" if all operands are) or "K" (the
            default), which keeps the operands' own order of axes as NumPy's iterator does.
        casting: which conversions are allowed ("safe" by default), as in `np.can_cast`.
        backend: "llvm" (default) or "numpy".
        semiring: the pair of operators that stands for + and *, such as "max_plus".
        broadcast: "numpy" (an axis of extent 1 fits any extent) or "strict".
        sizes: extents of symbols that occur in the output alone.
        acc: a wider dtype to accumulate in and return, such as "i32" for int8 operands; read as
            `dtype` is.
        notation: "compact" (every letter a symbol) or "named" ("batch i j, batch j k -> ..."; the
            subscripts may then also come last, after the operands).
        repeated_output: whether the output may repeat a symbol ("i->ii" is a diagonal matrix).
        memory_limit: the largest intermediate, in elements, that the order may use.
        threads: how many threads share the work of native code, at most; None: as
            `set_num_threads` says. The result is the same, bit for bit.

    Returns:
        The result, a scalar if it has no axes; for a single operand that is only permuted or whose
        diagonals are taken, a writeable view of it, as from NumPy.

    Raises:
        ParseError, RankError, ArgumentError: ValueErrors; the subscripts or shapes are wrong.
        OperandError: a TypeError; a dtype or a conversion is not allowed.

    >>> einsum("ij,jk->ik", [[1, 2], [3, 4]], [[1, 0], [0, 2]]).tolist()
    [[1, 4], [3, 8]]
    """
    if not options and type(subscripts) is str:
        known = _inline.get(subscripts)
        if known is None:
            known = InlineCache(partial(_einsum, subscripts))
            keep(_inline, subscripts, known)
        return known.head(*operands) if out is None else known.head(*operands, out=out)
    return _einsum(subscripts, *operands, out=out, **options)


def _einsum(subscripts: Any, *operands: Any, out: Any = None, **options: Any) -> Any:
    """A call that native code did not serve, at least not yet."""
    try:
        if out is None:
            found = _calls[(subscripts, *signature(operands), *_option_key(options))]
        else:
            arrays = (*operands, out)
            found = _calls[(subscripts, *signature(arrays), "out", *_option_key(options))]
    except (KeyError, AttributeError, TypeError):
        found = None
    if found is None:
        # Not seen before; or the key cannot be made or hashed: lists, numbers, interleaved.
        found, operands = _prepare(subscripts, operands, out, options)
    if not options and type(subscripts) is str and subscripts in _inline:
        _inline[subscripts].learn(found)
    return found.call(*operands) if out is None else found.call(*operands, out)


def _prepare(
    subscripts: Any, operands: Sequence[Any], out: Any, given_options: Mapping[str, Any]
) -> tuple[Bound, tuple[Array, ...]]:
    """The calls of such operands, kept for the next time, and the operands as arrays."""
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
    try:
        hash(tuple(given_options.values()))
        key += _option_key(given_options)
    except TypeError:
        key += (_hashable(given_options),)  # a path in a list, sizes in a dict
    try:
        found = _calls.get(key)
    except TypeError:
        key, found = None, None  # a path finder that cannot be hashed
    if found is None:
        found = call_for(parsed, arrays, target, options)
        if key is not None:
            keep(_calls, key, found)
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
    executable = _executable(parsed, acc, options)
    converted = _convert(arrays, computed)
    axes = result_axes(written, arrays, options.order) if out is None else None
    bound = executable.bind(converted, out, axes, options.casting, constants)
    moving = [number for number in range(len(arrays)) if number not in constants]
    if all(converted[number] is arrays[number] for number in moving):
        return bound
    call = bound.call
    dtypes = [computed[number] for number in moving]

    def convert_first(*given: Array) -> Any:
        return call(*_convert(given[: len(dtypes)], dtypes), *given[len(dtypes) :])

    return Bound(convert_first)


def _option_key(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """The options, and the type of each, for 1 is not True."""
    return (*options.items(), *map(type, options.values())) if options else ()


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


def _executable(parsed: Subscripts, acc: DType | None, options: Options) -> Executable:
    key: Any = (
        *(parsed, acc, _hashable((options.optimize, options.sizes)), options.memory_limit),
        *(options.backend, options.semiring, options.broadcast, options.repeated_output),
        options.threads,
    )
    try:
        found = _executables.get(key)
    except TypeError:
        key, found = None, None  # a path finder that cannot be hashed
    if found is None:
        pipeline = as_pipeline(None, options.optimize, options.memory_limit)
        template = einsum_template(parsed, acc, options)
        found = Executable(template, pipeline, options.backend, threads=options.threads)
        if key is not None:
            keep(_executables, key, found)
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


def _hashable(value: Any) -> Any:
    """Lists and dicts as tuples, all the way down, with each value's type: 1 is not True."""
    if isinstance(value, Mapping):
        value = tuple(cast(Mapping[Any, Any], value).items())
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in cast(Sequence[Any], value))
    return (type(value), value)


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
