"""What a caller gives as shapes, dtypes, sizes and numbers: checked, in the order of the inputs."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from numbers import Real
from typing import Any, cast

import numpy as np

from einloom.backends.base import Array
from einloom.frontend.calls import by_name
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import DType, as_dtype
from einloom.ir.errors import ArgumentError, OperandError, RankError
from einloom.ir.ranks import Quotient, RankExpr, solvable
from einloom.ir.sizes import infer_sizes
from einloom.ir.verify import verify
from einloom.specialisation import Shape


def extents_of(cascade: Cascade, shapes: Mapping[str, Any]) -> dict[str, int]:
    """The extents that the shapes of some inputs say."""
    names = [decl.name for decl in cascade.inputs]
    unknown = [name for name in shapes if name not in names]
    if unknown:
        raise ArgumentError(
            f"{cascade.name} has no input {', '.join(unknown)}", deduced=(f"inputs: {names}",)
        )
    if len(shapes) == len(names):
        given = checked_shapes([shapes[name] for name in names], len(names)) or []
        return infer_sizes(cascade, dict(zip(names, given, strict=True)))
    sizes: dict[str, int] = {}
    for decl in cascade.inputs:
        if decl.name not in shapes:
            continue
        (shape,) = checked_shapes([shapes[decl.name]], 1) or ((),)
        if len(shape) != len(decl.extents):
            raise RankError(f"{decl} was given the shape {shape}", span=decl.span)
        for extent, size in zip(decl.extents, shape, strict=True):
            rank = extent.rank
            known = cascade.rank(rank).shape if rank is not None else extent.constant
            wanted = known if isinstance(known, int) else sizes.get(rank or "", size)
            if wanted != size:
                raise RankError(f"{decl} was given the shape {shape}", span=decl.span)
            if rank is not None:
                sizes[rank] = size
    return sizes


def declared(cascade: Cascade, sizes: Mapping[str, int]) -> Cascade:
    """The Cascade with the extents of the ranks that it leaves open.

    What is said of a rank in terms of another stands: an alias is no rank of its own.
    """
    known = {rank.name: rank.shape for rank in cascade.ranks}
    return sized(cascade, {name: size for name, size in sizes.items() if known[name] is None})


def extents_known(cascade: Cascade) -> dict[str, int]:
    """The extent of every rank, from what is declared alone.

    Raises:
        ArgumentError: one is not known.
    """
    sizes = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    for rank in solvable(cascade.ranks, sizes)[0]:
        if isinstance(rank.shape, RankExpr | Quotient):
            with suppress(ZeroDivisionError):  # then the extent is not known
                sizes.setdefault(rank.name, max(rank.shape.value(sizes), 0))
    unknown = [rank.name for rank in cascade.ranks if rank.name not in sizes]
    if unknown:
        raise ArgumentError(
            f"the extent of {', '.join(unknown)} is not known", hint="give shapes= of the inputs"
        )
    return sizes


def names_of(given: Any, names: Sequence[str], what: str) -> list[str] | None:
    """Inputs that are given by name or position, one or several, as names; "A, B" are two.

    Raises:
        ArgumentError: there is no such input.
        OperandError: they are given as something else.
    """
    if given is None:
        return None
    entries: Iterable[Any] = [given]
    if isinstance(given, str):
        entries = [name.strip() for name in given.split(",")]
    elif isinstance(given, Iterable):
        entries = cast("Iterable[Any]", given)
    found: list[str] = []
    for each in entries:
        name: Any = each
        if not isinstance(each, str):
            if isinstance(each, bool) or not hasattr(each, "__index__"):
                raise OperandError(f"{what}= are names or positions of inputs, not {each!r}")
            position = operator.index(each)
            name = names[position] if 0 <= position < len(names) else None
        if name not in names:
            raise ArgumentError(
                f"there is no input {each}", deduced=(f"inputs: {', '.join(names)}",)
            )
        found.append(name)
    return found


def whole(name: str, value: Any, least: int | None = None) -> int | None:
    """An option that is a whole number, NumPy's too, or None.

    Raises:
        OperandError: it is something else, or less than the least.
    """
    if value is None:
        return None
    with suppress(TypeError):
        found = operator.index(value)
        if not isinstance(value, bool) and (least is None or found >= least):
            return found
    bounds = "" if least is None else f", {least} at least"
    raise OperandError(f"{name}= is a whole number{bounds}, not {value!r}")


def positive(name: str, value: Any) -> float | None:
    """An option that is a finite number above 0, NumPy's too, or None.

    Raises:
        OperandError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, bool) and isinstance(value, Real):
        with suppress(OverflowError):
            found = float(value)
            if 0 < found < math.inf:
                return found
    raise OperandError(f"{name}= is a positive number, not {value!r}")


def sized(cascade: Cascade, sizes: Mapping[str, int] | None) -> Cascade:
    """The Cascade with the extents of some ranks that it leaves open."""
    if sizes is None:
        return cascade
    if not isinstance(sizes, Mapping):
        raise OperandError(f"sizes= is a dict of extents, not {sizes!r}")
    shapes = {rank.name: rank.shape for rank in cascade.ranks}
    for name, size in sizes.items():
        if name not in shapes:
            raise RankError(
                f"sizes= names {name!r}, which is no rank of {cascade.name}",
                deduced=(f"ranks: {', '.join(shapes)}",),
            )
        if type(size) is not int or size < 0:
            raise OperandError(f"the extent of {name} is a whole number, not {size!r}")
        if shapes[name] not in (None, size):
            raise RankError(f"rank {name} is declared {shapes[name]}, so it cannot be {size}")
    ranks = tuple(replace(rank, shape=sizes.get(rank.name, rank.shape)) for rank in cascade.ranks)
    return verify(replace(cascade, ranks=ranks))


def checked_shapes(given: list[Any] | None, count: int) -> list[Shape] | None:
    """So many shapes, as tuples of numbers."""
    if given is None:
        return None
    if len(given) != count:
        raise ArgumentError(f"there are {count} inputs, but {len(given)} shapes")
    try:
        shapes = [tuple(map(operator.index, shape)) for shape in given]
    except TypeError:
        raise OperandError(f"shapes are tuples of whole numbers, not {given!r}") from None
    if any(extent < 0 for shape in shapes for extent in shape):
        raise ArgumentError(f"an extent is negative in {given!r}")
    return shapes


def in_order(given: Any, names: Sequence[str], what: str) -> list[Any] | None:
    """What is given in order, or by the names of the inputs, as a list."""
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
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise OperandError(f"{what}= is a list or a dict, not {given!r}")
    return list(cast("Sequence[Any]", given))


def dtypes_in_order(given: Any, names: Sequence[str], count: int) -> list[DType] | None:
    """One dtype for all inputs, or one for each, as a list."""
    if given is None:
        return None
    if isinstance(given, Mapping) or (isinstance(given, Sequence) and not isinstance(given, str)):
        dtypes = [as_dtype(spec) for spec in in_order(given, names, "dtypes") or ()]
        if len(dtypes) != count:
            raise ArgumentError(f"there are {count} inputs, but {len(dtypes)} dtypes")
        return dtypes
    return [as_dtype(given)] * count


def gathered(
    wanted: Mapping[str, Shape | None],
    arrays: Sequence[Any],
    named: Mapping[str, Any],
    limit: float = math.inf,
) -> dict[str, Array]:
    """The arrays of those inputs, as `numbers` gives them; no message tells what they hold.

    Args:
        wanted: the inputs in order, with their shapes; None: any.

    Raises:
        OperandError: an input is given twice, is not one of those, or holds no numbers.
        ArgumentError: one is missing, or holds what is not finite or is larger than the limit.
        RankError: one has another shape.
    """
    given = by_name(list(wanted), arrays, named)
    return {
        name: _checked(name, numbers(name, given[name]), shape, limit)
        for name, shape in wanted.items()
    }


def numbers(name: str, value: Any) -> Array:
    """An input as an array of f64 or c128, or of the whole numbers that it is.

    Raises:
        OperandError: it holds no numbers.
        ArgumentError: it cannot be an array, or a value is NaN or infinite.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ArgumentError(f"the input {name} cannot be made an array: {error}") from None
    if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
        raise OperandError(f"the input {name} holds {array.dtype}, not numbers")
    found: Array = array
    if array.dtype.kind not in "biu":
        found = array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)
    if not np.isfinite(found).all():
        raise ArgumentError(
            f"the input {name} holds values that are NaN or infinite",
            hint="encrypted numbers are finite: replace them first",
        )
    return found


def _checked(name: str, array: Array, shape: Shape | None, limit: float) -> Array:
    if shape is not None and array.shape != shape:
        raise RankError(
            f"the input {name} has the shape {array.shape}, and {shape} is compiled",
            passed=(f"{name}: {array.shape}",),
        )
    return within(name, array, limit)


def within(name: str, array: Array, limit: float) -> Array:
    """The values of an input, or of what is computed in the clear, if they are not too large.

    Raises:
        ArgumentError: they are.
    """
    if np.abs(array * 1.0).max(initial=0.0) > limit:  # the least i8 has no absolute value
        raise ArgumentError(
            f"the input {name} holds larger values than the parameters were chosen for",
            deduced=(f"at most {limit:g} in absolute value",),
            hint="compile with magnitude= the largest absolute value of any input",
        )
    return array


def checked_threads(threads: object) -> int | None:
    """What was given as `threads=`.

    Raises:
        OperandError, ArgumentError: it is no number from 1 on.
    """
    if threads is None:
        return None
    from einloom.backends.llvm.threads import checked

    return checked(threads)
