"""`einsum`, `einsum_path` and `contract_expression`: NumPy's and opt_einsum's calls, and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from einloom.backends.base import Array
from einloom.compiler import Optimize, as_pipeline, subscripts_template
from einloom.executable import TABLE_BOUND, Executable, Shape, signature
from einloom.frontend.subscripts import Subscripts, from_interleaved, parse_subscripts
from einloom.ir.dtypes import DType, as_dtype, of_numpy, promote
from einloom.ir.einsum import Access
from einloom.ir.errors import ArgumentError, OperandError

_calls: dict[Any, Callable[..., Any]] = {}
_executables: dict[Any, Executable] = {}


def einsum(subscripts: Any, *operands: Any, out: Array | None = None, **options: Any) -> Any:
    """Evaluates an einsum: `np.einsum`'s call, natively compiled, for the whole dialect.

    Args:
        subscripts: "ij,jk->ik"; or the first operand of the interleaved form
            `einsum(A, [0, 1], B, [1, 2], [0, 2])`.
        *operands: arrays, nested lists or numbers; any shapes, strides and byte orders.
        out: an array to write the result into, which is returned.
        optimize: how to order three or more operands: "auto" (default), False (one loop nest), or
            any path, name, `(name, limit)` or callable that NumPy or opt_einsum takes.
        dtype: what to compute in; None: the operands' common type (`np.result_type`).
        order: "C", "F", "A" or "K" (the default; here the same as "C") layout of a new result.
        casting: which conversions are allowed ("safe" by default), as in `np.can_cast`.
        backend: "llvm" (default) or "numpy".
        semiring: the pair of operators that stands for + and *, such as "max_plus".
        broadcast: "numpy" (an axis of extent 1 fits any extent) or "strict".
        sizes: extents of symbols that occur in the output alone.
        acc: a wider dtype to accumulate in and return, such as "i32" for int8 operands.
        notation: "compact" (every letter a symbol) or "named" ("batch i j, batch j k -> ..."; the
            subscripts may then also come last, after the operands).
        repeated_output: whether the output may repeat a symbol ("i->ii" is a diagonal matrix).
        memory_limit: the largest intermediate, in elements, that the order may use.

    Returns:
        The result, a scalar if it has no axes; for a single operand that is only permuted or whose
        diagonals are taken, a writeable view of it, as from NumPy.

    Raises:
        ParseError, RankError, ArgumentError: ValueErrors; the subscripts or shapes are wrong.
        OperandError: a TypeError; a dtype or a conversion is not allowed.

    >>> einsum("ij,jk->ik", [[1, 2], [3, 4]], [[1, 0], [0, 2]]).tolist()
    [[1, 4], [3, 8]]
    """
    try:
        if out is None:
            call = _calls[(subscripts, *signature(operands), *options.items())]
            return call(*operands)
        call = _calls[(subscripts, *signature((*operands, out)), "out", *options.items())]
        return call(*operands, out)
    except (KeyError, AttributeError, TypeError):
        # Not seen before; or the key cannot be made or hashed: lists, numbers, interleaved.
        pass
    call, arrays = _prepare(subscripts, operands, out, options)
    return call(*arrays) if out is None else call(*arrays, out)


def _prepare(
    subscripts: Any,
    operands: Sequence[Any],
    out: Any,
    given_options: Mapping[str, Any],
) -> tuple[Callable[..., Any], list[Array]]:
    """A call for these operands, kept for the next time where it can be; and them as arrays."""
    options = _Options(**_known_options(given_options))
    parsed, given = read_call(subscripts, operands, options.notation)
    arrays = [np.asarray(operand) for operand in given]
    if out is not None and not isinstance(out, np.ndarray):
        raise OperandError(f"out= must be an array, not {type(out).__name__}")
    call = _view_call(parsed, arrays, out, options) or _bound_call(parsed, arrays, out, options)
    if given == operands and all(type(array) is np.ndarray for array in operands):
        _keep(_calls, _call_key(subscripts, operands, out, given_options), call)
    return call, arrays


@dataclass(frozen=True, slots=True)
class _Options:
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


_OPTION_NAMES = frozenset(field.name for field in fields(_Options))


def _known_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in options:
        if name not in _OPTION_NAMES:
            raise OperandError(
                f"einsum() got an unexpected keyword argument {name!r}",
                hint=f"it takes {', '.join(sorted(_OPTION_NAMES))}, out",
            )
    if options.get("order", "K") not in ("C", "F", "A", "K"):
        raise ArgumentError(
            f"order must be one of 'C', 'F', 'A', or 'K' (got {options['order']!r})"
        )
    return options


def read_call(
    subscripts: Any, operands: Sequence[Any], notation: str
) -> tuple[Subscripts, Sequence[Any]]:
    """The subscripts and the operands of a call, in any of the orders that it may have.

    Raises:
        ParseError: the subscripts are not in the grammar.
        ArgumentError: there are no operands.
    """
    if isinstance(subscripts, bytes):
        subscripts = subscripts.decode("ascii", "replace")
    if not isinstance(subscripts, str) and notation == "named" and operands:
        *first, last = operands
        if isinstance(last, str):
            subscripts, operands = last, (subscripts, *first)
    if isinstance(subscripts, str):
        if not operands:
            raise ArgumentError("einsum needs the subscripts and at least one operand")
        return parse_subscripts(subscripts, notation=notation), operands
    if not operands:
        raise ArgumentError("einsum needs the subscripts and at least one operand")
    return from_interleaved((subscripts, *operands))


def _call_key(
    subscripts: Any, operands: Sequence[Any], out: Any, options: Mapping[str, Any]
) -> tuple[Any, ...]:
    # Must be built as `einsum` builds it.
    if out is None:
        return (subscripts, *signature(operands), *options.items())
    return (subscripts, *signature((*operands, out)), "out", *options.items())


def _keep(table: dict[Any, Any], key: Any, value: Any) -> None:
    try:
        if len(table) >= TABLE_BOUND:
            table.clear()
        table[key] = value
    except TypeError:
        pass  # an option that cannot be hashed (a path as a list): worked out at each call


def _bound_call(
    parsed: Subscripts, arrays: Sequence[Array], out: Array | None, options: _Options
) -> Callable[..., Any]:
    """The compiled call; conversions that its signature needs are part of it."""
    computed, acc = _dtypes(arrays, out, options)
    executable = _executable(parsed, acc, options)
    order = options.order
    if order == "A":
        fortran = [a.flags.f_contiguous and not a.flags.c_contiguous for a in arrays]
        order = "F" if fortran and all(fortran) else "C"
    converted = _convert(arrays, computed)
    call = executable.bind(
        converted, out=out, order="F" if order == "F" else "C", casting=options.casting
    )
    if any(new is not old for new, old in zip(converted, arrays, strict=True)):
        exact = call

        def call(*given: Array) -> Any:
            return exact(*_convert(given[: len(computed)], computed), *given[len(computed) :])

    return call


def _convert(arrays: Sequence[Array], dtypes: Sequence[np.dtype[Any]]) -> list[Array]:
    return [
        array if array.dtype == dtype else array.astype(dtype)
        for array, dtype in zip(arrays, dtypes, strict=True)
    ]


def _executable(parsed: Subscripts, acc: DType | None, options: _Options) -> Executable:
    sizes = tuple(options.sizes.items()) if options.sizes else None
    path = _hashable(options.optimize)
    key = (
        *(parsed, acc, path, options.memory_limit, sizes),
        *(options.backend, options.semiring, options.broadcast, options.repeated_output),
    )
    try:
        found = _executables.get(key)
    except TypeError:
        found = None
    if found is None:
        template = subscripts_template(
            parsed,
            acc=acc,
            semiring=options.semiring,
            broadcast=options.broadcast,
            sizes=options.sizes,
            repeated_output=options.repeated_output,
        )
        pipeline = as_pipeline(None, options.optimize, options.memory_limit)
        found = Executable(template, pipeline, options.backend)
        _keep(_executables, key, found)
    return found


def _hashable(value: Any) -> Any:
    """Lists as tuples, all the way down, with the type beside each value: 1 is not True."""
    if isinstance(value, list | tuple):
        return tuple(_hashable(item) for item in value)
    return (type(value), value)


def _dtypes(
    arrays: Sequence[Array], out: Array | None, options: _Options
) -> tuple[list[np.dtype[Any]], DType | None]:
    """The dtype to convert each operand to, and the one to accumulate in (None: their own).

    As in NumPy, `out` takes part in the common type, and `casting` is the rule for getting there.
    """
    own = [of_numpy(array.dtype) for array in arrays]
    common = promote(*own, *([of_numpy(out.dtype)] if out is not None else []))
    wanted = as_dtype(options.dtype) if options.dtype is not None else None
    target = wanted or common
    for number, (array, dtype) in enumerate(zip(arrays, own, strict=True)):
        if dtype != target and not np.can_cast(array.dtype, target.numpy, options.casting):
            raise OperandError(
                f"operand {number} is {dtype}, which cannot be cast to {target} "
                f"by the rule {options.casting!r}",
                passed=tuple(f"operand {n}: {a.dtype} {a.shape}" for n, a in enumerate(arrays)),
                hint="give casting='unsafe' or another dtype=",
            )
    acc = as_dtype(options.acc) if options.acc is not None else None
    if acc is None and target != promote(*own):
        acc = target
    # Widening happens inside the kernel; a narrower or unlike type is converted to beforehand.
    fits = [promote(dtype, target) == target for dtype in own]
    computed = [(dtype if fit else target).numpy for dtype, fit in zip(own, fits, strict=True)]
    return computed, acc


def _view_call(
    parsed: Subscripts, arrays: Sequence[Array], out: Array | None, options: _Options
) -> Callable[..., Any] | None:
    """For one operand that is only permuted, or whose diagonals are taken: a view of it."""
    if len(arrays) != 1 or out is not None or options.acc is not None:
        return None
    if options.dtype is not None and np.dtype(options.dtype) != arrays[0].dtype:
        return None
    plan = view_plan(parsed, arrays[0].shape)
    if plan is None:
        return None
    order = options.order

    def call(array: Array) -> Any:
        view = take_view(array, plan)
        if order in "CF" and not view.flags[f"{order}_CONTIGUOUS"]:
            return view.copy(order)
        return view if view.ndim else view[()]

    return call


def view_plan(parsed: Subscripts, shape: Shape) -> tuple[tuple[int, ...], ...] | None:
    """For each output axis, the input axes it runs along; None if the result is no view."""
    cascade = subscripts_template(parsed)([shape], None)
    (definition,) = cascade.einsums
    read = definition.expr
    if not isinstance(read, Access) or read.plain is None:
        return None
    left = definition.output.plain
    if left is None or len(set(left)) < len(left) or set(left) != set(read.plain):
        return None
    return tuple(
        tuple(axis for axis, variable in enumerate(read.plain) if variable == out) for out in left
    )


def take_view(array: Array, plan: tuple[tuple[int, ...], ...]) -> Array:
    """The view of `array` whose axes run along the given axes of it, writeable if it is."""
    writeable = array.flags.writeable
    order = [axes[0] for axes in plan]
    # A diagonal takes two axes away and puts one last; so the axes still there are tracked.
    names = list(range(array.ndim))
    for axes in plan:
        for axis in axes[1:]:
            first, second = names.index(axes[0]), names.index(axis)
            array = array.diagonal(0, first, second)
            names = [name for name in names if name not in (axes[0], axis)] + [axes[0]]
    view = array.transpose([names.index(axis) for axis in order])
    if writeable and not view.flags.writeable:
        view.flags.writeable = True
    return view


def einsum_path(*operands: Any, optimize: Any = "greedy", einsum_call: bool = False) -> Any:
    """The contraction order of an einsum and a printable report: `np.einsum_path`'s own results.

    Subscripts beyond NumPy's grammar (Unicode, more than 52 symbols) are renamed for NumPy first.

    >>> import numpy as np
    >>> einsum_path("ij,jk->ik", np.ones((2, 2)), np.ones((2, 2)))[0]
    ['einsum_path', (0, 1)]
    """
    return np.einsum_path(*operands, optimize=optimize, einsum_call=einsum_call)


class ContractExpression:
    """A contraction whose order is settled: call it with arrays of the shapes it was made for.

    Made by `contract_expression`; `opt_einsum.ContractExpression`'s calls.
    """

    def __init__(
        self,
        subscripts: str,
        shapes: Sequence[Shape],
        constants: Mapping[int, Array],
        options: Mapping[str, Any],
    ) -> None:
        self.subscripts = subscripts
        self._shapes = tuple(shapes)
        self._constants = dict(constants)
        self._options = dict(options)

    def __call__(self, *arrays: Any, out: Array | None = None, **options: Any) -> Any:
        wanted = len(self._shapes) - len(self._constants)
        if len(arrays) != wanted:
            raise ArgumentError(
                f"this expression takes {wanted} arrays, {len(arrays)} were given",
                deduced=(str(self),),
            )
        rest = iter(arrays)
        operands = [
            self._constants[number] if number in self._constants else next(rest)
            for number in range(len(self._shapes))
        ]
        for number, (operand, shape) in enumerate(zip(operands, self._shapes, strict=True)):
            if np.ndim(operand) != len(shape):
                raise ArgumentError(
                    f"operand {number} has {np.ndim(operand)} axes, the expression was made "
                    f"for {len(shape)}",
                    deduced=(str(self),),
                    passed=(f"operand {number}: {np.shape(operand)}",),
                )
        return einsum(self.subscripts, *operands, out=out, **{**self._options, **options})

    def __str__(self) -> str:
        constants = sorted(self._constants)
        return f"<ContractExpression({self.subscripts!r}, constants={constants})>"

    __repr__ = __str__


def contract_expression(
    subscripts: str,
    *shapes: Any,
    constants: Sequence[int] = (),
    optimize: Optimize = "auto",
    memory_limit: int | str | None = None,
    **options: Any,
) -> ContractExpression:
    """A reusable contraction for operands of these shapes: opt_einsum's call.

    Args:
        subscripts: as for `einsum`.
        *shapes: a shape for each operand; an array where `constants` names the operand.
        constants: the positions of the operands that are given now and stay the same.
        optimize, memory_limit: how to order the contraction; it is settled now.
        **options: further keywords of `einsum` (backend, dtype, semiring, ...).

    Raises:
        ParseError, RankError: the subscripts or the shapes are wrong.

    >>> import numpy as np
    >>> expression = contract_expression("ab,bc->ac", (2, 3), (3, 4))
    >>> expression(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    if "out" in options:
        raise ArgumentError("'out' should only be given when the expression is called")
    held = {number: np.asarray(shapes[number]) for number in constants}
    known = [
        held[number].shape if number in held else tuple(shape)
        for number, shape in enumerate(shapes)
    ]
    # Checked, and its order settled, now rather than at the first call.
    expression_options = {**options, "optimize": optimize, "memory_limit": memory_limit}
    return ContractExpression(subscripts, known, held, expression_options)
