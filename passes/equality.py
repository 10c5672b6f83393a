"""Whether two Cascades are the same function: tried on random and extreme inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from ..ir.cascade import Cascade, TensorDecl
from ..ir.dtypes import F64
from ..ir.errors import EinloomError, PassError
from ..ir.interpreter import evaluate
from ..ir.ranks import Quotient, RankExpr

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: How many extents, and how the values of each are drawn.
_EXTENTS = (1, 2, 3, 5, 8)
_KINDS = ("plain", "huge", "tiny", "infinite")
_TOLERANCE = 1e4  # units of precision of what the outputs are stored in


def counterexample(one: Cascade, other: Cascade, *, seed: int = 0) -> str | None:
    """Inputs on which two Cascades differ, as text; None if none was found.

    Both have the same inputs and outputs. The sizes that are not declared are drawn from 1 to 8;
    values are moderate, +-1e4, +-1e-30, and with some of -inf and inf among them. That floats
    differ is said only beyond what rounding explains: by more than 10,000 units of precision of the
    largest value of the output, where all values are finite; in which values are NaN or infinite,
    where they are not.

    Raises:
        PassError: the Cascades have not the same inputs and outputs.
    """
    if (one.inputs, one.outputs) != (other.inputs, other.outputs):
        raise PassError(
            f"{one.name} and {other.name} have not the same inputs and outputs",
            passed=[
                f"{c.name}: {', '.join(map(str, c.inputs))} -> {c.outputs}" for c in (one, other)
            ],
        )
    rng = np.random.default_rng(seed)
    for sizes in _sizes(one):
        for kind in _KINDS:
            given = {decl.name: _drawn(decl, sizes, kind, rng) for decl in one.inputs}
            try:
                with np.errstate(all="ignore"):
                    results = evaluate(one, given), evaluate(other, given)
            except EinloomError:
                continue  # an assumption, or a range, that these sizes do not meet
            for name in one.outputs:
                found = _differ(results[0][name], results[1][name])
                if found is not None:
                    shown = ", ".join(f"{rank} = {size}" for rank, size in sizes.items())
                    return f"{name} for {shown}, {kind} values: {found}"
    return None


def _sizes(cascade: Cascade) -> Iterator[dict[str, int]]:
    free = [rank.name for rank in cascade.ranks if rank.shape is None]
    fixed = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    for turn in range(len(_EXTENTS)):
        sizes = dict(fixed)
        for number, name in enumerate(free):
            sizes[name] = _EXTENTS[(turn + 2 * number) % len(_EXTENTS)]
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
        return rng.integers(0, 3, shape).astype(dtype.numpy)
    values = rng.standard_normal(shape)
    if kind in ("huge", "tiny"):
        values = values * (1e4 if kind == "huge" else 1e-30)
    if kind == "infinite":
        choice = rng.random(shape)
        values = np.where(choice < 0.3, -np.inf, np.where(choice > 0.95, np.inf, values))
    return values.astype(dtype.numpy)


def _differ(one: Array, other: Array) -> str | None:
    if one.dtype != other.dtype or one.shape != other.shape:
        return f"{one.dtype}{list(one.shape)} is not {other.dtype}{list(other.shape)}"
    if one.dtype.kind not in "fc":
        wrong = one != other
    else:
        finite = np.isfinite(one)
        largest = float(np.max(np.abs(one), where=finite, initial=1.0))
        with np.errstate(all="ignore"):
            close = np.abs(one - other) <= _TOLERANCE * np.finfo(one.dtype).eps * largest
        alike = (one == other) | (np.isnan(one) & np.isnan(other))
        wrong = ~(alike | (close & finite))
    if not wrong.any():
        return None
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"{one[at]} is not {other[at]}"
