"""Whether two Cascades are the same function: tried on random and extreme inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from ..ir.cascade import Cascade, TensorDecl
from ..ir.dtypes import BF16, F64, of_numpy
from ..ir.errors import ArgumentError, EinloomError, PassError
from ..ir.interpreter import evaluate
from ..ir.ranks import Quotient, RankExpr
from ..ir.sizes import infer_sizes

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: How many extents, and how the values of each are drawn.
_EXTENTS = (1, 2, 3, 5, 8)
_KINDS = ("plain", "huge", "tiny", "infinite")
_TOLERANCE = 1e4  # units of precision of what the outputs are stored in
#: But at most this part of the largest value, which 10,000 units of f16 are more than.
_PART = 0.1


def counterexample(one: Cascade, other: Cascade, *, seed: int = 0) -> str | None:
    """Inputs on which two Cascades differ, as text; None if none was found.

    Both have the same inputs and outputs. The sizes that are not declared are drawn from 1 to 8,
    and each is 0 once; values are moderate, +-1e4, +-1e-30, and with some of -inf and inf among
    them, integers 0 to 2, and -3 to 3. That floats differ is said only beyond what rounding
    explains: by more than 10,000 units of precision of the largest value of the output, or a tenth
    of it, where all values are finite; in which values are NaN or infinite, where they are not.

    Inputs on which `one` fails are passed over, and sizes that an assumption of either excludes.

    Raises:
        PassError: the Cascades have not the same inputs and outputs, or no inputs are left to try.
        ArgumentError: `seed` is no whole number from 0.
    """
    number: object = seed
    if not isinstance(number, int) or number < 0:
        raise ArgumentError(f"a seed is a whole number from 0, not {seed!r}")
    if (one.inputs, one.outputs) != (other.inputs, other.outputs):
        raise PassError(
            f"{one.name} and {other.name} have not the same inputs and outputs",
            passed=[
                f"{c.name}: {', '.join(map(str, c.inputs))} -> {c.outputs}" for c in (one, other)
            ],
        )
    rng = np.random.default_rng(seed)
    tried = False
    signed = any(decl.dtype is not None and decl.dtype.kind == "signed" for decl in one.inputs)
    kinds = (*_KINDS, "negative") if signed else _KINDS
    for sizes in _sizes(one):
        for kind in kinds:
            given = {decl.name: _drawn(decl, sizes, kind, rng) for decl in one.inputs}
            try:
                infer_sizes(other, {name: array.shape for name, array in given.items()})
                with np.errstate(all="ignore"):
                    want = evaluate(one, given)
            except EinloomError:
                continue  # an assumption, or a range, that these sizes do not meet
            tried = tried or 0 not in sizes.values()
            found = _tried(other, given, want)
            if found is not None:
                name, said = found
                shown = ", ".join(f"{rank} = {size}" for rank, size in sizes.items())
                return f"{name} for {shown}, {kind} values: {said}"
    if not tried:
        raise PassError(
            f"no inputs were found that {one.name} takes, so nothing was compared",
            hint=f"an extent that is not declared is tried at {', '.join(map(str, _EXTENTS))}",
        )
    return None


def _tried(
    other: Cascade, given: Mapping[str, Array], want: Mapping[str, Array]
) -> tuple[str, str] | None:
    """The first output that is not what is wanted, and how; None if there is none."""
    try:
        with np.errstate(all="ignore"):
            got = evaluate(other, given)
    except EinloomError as error:
        return other.name, f"fails: {error.message}"
    for name in other.outputs:
        found = _differ(want[name], got[name])
        if found is not None:
            return name, found
    return None


def _sizes(cascade: Cascade) -> Iterator[dict[str, int]]:
    free = [rank.name for rank in cascade.ranks if rank.shape is None]
    fixed = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    count = len(_EXTENTS)
    drawn = [
        {name: _EXTENTS[(turn + 2 * number) % count] for number, name in enumerate(free)}
        for turn in range(count)
    ]
    drawn += [{name: 0 if name == empty else 2 for name in free} for empty in free]
    for extents in drawn:
        sizes = fixed | extents
        made = [rank for rank in cascade.ranks if isinstance(rank.shape, RankExpr | Quotient)]
        for _ in made:  # a size may be made of one that stands below
            for rank in made:
                shape = rank.shape
                if isinstance(shape, RankExpr | Quotient) and set(shape.sizes()) <= set(sizes):
                    sizes[rank.name] = shape.value(sizes)
        yield sizes


def _drawn(
    decl: TensorDecl, sizes: Mapping[str, int], kind: str, rng: np.random.Generator
) -> Array:
    shape = tuple(extent.value(sizes) for extent in decl.extents)
    dtype = decl.dtype or F64
    if dtype.kind == "bool":
        return rng.random(shape) < 0.5
    if dtype.is_integer:
        low, high = (-3, 4) if kind == "negative" and dtype.kind == "signed" else (0, 3)
        return rng.integers(low, high, shape).astype(dtype.numpy)
    values = rng.standard_normal(shape)
    if dtype.kind == "complex":
        values = values + 1j * rng.standard_normal(shape)
    if kind in ("huge", "tiny"):
        values = values * (1e4 if kind == "huge" else 1e-30)
    if kind == "infinite":
        choice = rng.random(shape)
        values = np.where(choice < 0.3, -np.inf, np.where(choice > 0.95, np.inf, values))
    return values.astype(dtype.numpy)


def _differ(one: Array, other: Array) -> str | None:
    if one.dtype != other.dtype or one.shape != other.shape:
        return f"{one.dtype}{list(one.shape)} is not {other.dtype}{list(other.shape)}"
    dtype = of_numpy(one.dtype)
    if not dtype.is_inexact:
        wrong = one != other
    else:
        eps = 2.0**-7 if dtype == BF16 else float(np.finfo(one.dtype).eps)
        if dtype.bits == 16:
            one, other = one.astype("f4"), other.astype("f4")
        finite = np.isfinite(one)
        largest = float(np.max(np.abs(one), where=finite, initial=1.0))
        with np.errstate(all="ignore"):
            close = np.abs(one - other) <= min(_TOLERANCE * eps, _PART) * largest
        alike = (one == other) | (np.isnan(one) & np.isnan(other))
        wrong = ~(alike | (close & finite))
    if not wrong.any():
        return None
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"{one[at]} is not {other[at]}"
