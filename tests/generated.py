"""Generated einsums: subscripts, extents, dtypes, and operands that lie in memory in any way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
FLOATS = ("f2", "f4", "f8", "c8", "c16")
NATIVE = ("?", *INTEGERS, *FLOATS)

#: Extents around the sizes of vectors and of blocks, and the two that are special.
EXTENTS = (0, 1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 9, 16, 17, 33)

#: The most points that an iteration space may have, and the most that are summed: the interpreter
#: visits each of those in turn.
MOST_POINTS, MOST_SUMMED = 20_000, 600


def examples(count: int) -> settings:
    """So many examples, or more under `--hypothesis-profile=explore`."""
    return settings(max_examples=count * settings().max_examples // 100)


@dataclass(frozen=True)
class Case:
    """One call: subscripts and operands."""

    text: str
    operands: tuple[Array, ...]

    def __repr__(self) -> str:
        shown = [f"{a.dtype.str}{a.shape} strides {a.strides}" for a in self.operands]
        return f"{self.text!r} of {'; '.join(shown)}"


@st.composite
def cases(
    draw: st.DrawFn,
    dtypes: Sequence[str] = NATIVE,
    most_operands: int = 3,
    special: bool = False,
    plain: bool = False,
) -> Case:
    """A classic einsum that NumPy takes.

    Args:
        dtypes: of the operands; each has one of them.
        most_operands: how many there may be.
        special: whether floats may be nan, inf, zero of either sign, or the least there is.
        plain: without size-1 broadcasting and ellipses.
    """
    symbols = draw(st.lists(st.sampled_from("abcdeXYZ"), min_size=1, max_size=5, unique=True))
    sizes = {symbol: draw(st.sampled_from(EXTENTS)) for symbol in symbols}
    count = draw(st.integers(1, most_operands))
    terms = [draw(st.lists(st.sampled_from(symbols), max_size=4)) for _ in range(count)]
    used = sorted({symbol for term in terms for symbol in term})
    broadcast = [] if plain else draw(st.lists(st.sampled_from((1, 2, 3)), max_size=2))
    spread = [bool(broadcast) and draw(st.booleans()) for _ in terms]
    output = draw(st.none() | st.permutations(used).flatmap(_some))
    kept = _output(terms, output)
    _shrink(sizes, used, kept, int(np.prod(broadcast)))
    texts: list[str] = []
    shapes: list[tuple[int, ...]] = []
    for term, has_ellipsis in zip(terms, spread, strict=True):
        shape = [sizes[symbol] for symbol in term]
        if not plain and len(set(term)) == len(term):
            shape = [1 if draw(st.integers(0, 9)) == 0 else extent for extent in shape]
        text, at = "".join(term), draw(st.integers(0, len(term)))
        if has_ellipsis:
            missing = draw(st.integers(0, len(broadcast)))
            middle = [1 if draw(st.booleans()) else n for n in broadcast[missing:]]
            text, shape = f"{text[:at]}...{text[at:]}", [*shape[:at], *middle, *shape[at:]]
        texts.append(text)
        shapes.append(tuple(shape))
    arrow = ""
    if output is not None:
        at = draw(st.integers(0, len(output)))
        dots = "..." if any(spread) else ""
        arrow = f"->{''.join(output[:at])}{dots}{''.join(output[at:])}"
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    operands = [_values(rng, shape, draw(st.sampled_from(dtypes)), special) for shape in shapes]
    return Case(",".join(texts) + arrow, tuple(draw(laid_out(operand)) for operand in operands))


def _some(symbols: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.integers(0, len(symbols)).map(lambda count: list(symbols[:count]))


def _output(terms: Sequence[Sequence[str]], output: Sequence[str] | None) -> set[str]:
    if output is not None:
        return set(output)
    everywhere = [symbol for term in terms for symbol in term]
    return {symbol for symbol in everywhere if everywhere.count(symbol) == 1}


def _shrink(sizes: dict[str, int], used: Sequence[str], kept: set[str], others: int) -> None:
    """Makes the largest extents smaller until the interpreter can visit all points in no time."""
    for limit, symbols, factor in (
        (MOST_SUMMED, [s for s in used if s not in kept], 1),
        (MOST_POINTS, list(used), max(others, 1)),
    ):
        while factor * int(np.prod([max(sizes[s], 1) for s in symbols])) > limit:
            largest = max(symbols, key=lambda symbol: sizes[symbol])
            sizes[largest] //= 2


def _values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, special: bool) -> Array:
    """Small integers; floats of both signs over a few powers of two; some of them special."""
    kind: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16 if dtype == "bf16" else dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind in "iu":
        least = -99 if kind.kind == "i" else 0
        return rng.integers(least, 99, shape, endpoint=True).astype(kind)
    values: Array = rng.normal(size=shape) * np.exp2(rng.integers(-3, 4, shape))
    if special:
        values = _with_special(rng, values, kind)
    if kind.kind == "c":
        imaginary = rng.normal(size=shape)
        values = values + 1j * imaginary
    return values.astype(kind)


def _with_special(rng: np.random.Generator, values: Array, kind: Any) -> Array:
    finfo: Any = ml_dtypes.finfo
    least = float(finfo(kind).smallest_subnormal) if kind.kind != "c" else 0.0
    chosen: Array = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, least])
    shape: tuple[int, ...] = values.shape
    picked = chosen[rng.integers(0, chosen.size, shape)]
    return np.where(rng.random(shape) < 0.1, picked, values)


@st.composite
def laid_out(draw: st.DrawFn, values: Array) -> Array:
    """An array of the same shape and dtype that lies in memory in another way.

    Its axes in another order, steps between its elements, some of them backwards, axes of stride 0
    (whose values are then all the first), not aligned, of the other byte order.
    """
    if draw(st.booleans()):
        return values
    order = draw(st.permutations(range(values.ndim)))
    steps = [draw(st.sampled_from((1, 1, 1, 2, 3, -1, -2))) for _ in range(values.ndim)]
    still = [draw(st.integers(0, 5)) == 0 and extent > 0 for extent in values.shape]
    dtype = values.dtype
    if dtype.kind != "V" and dtype.isbuiltin == 1 and draw(st.integers(0, 3)) == 0:
        dtype = dtype.newbyteorder()
    offset = draw(st.sampled_from((0, 0, 1, dtype.itemsize)))
    whole = [
        1 if stays else extent * abs(step)
        for extent, step, stays in zip(values.shape, steps, still, strict=True)
    ]
    stored = [whole[axis] for axis in order]
    memory = np.zeros(int(np.prod(stored)) * dtype.itemsize + offset, np.uint8)
    array: Array = np.ndarray(tuple(stored), dtype, memory.data, offset)
    array = array.transpose(np.argsort(order)) if order else array
    first = at(values, [slice(0, 1) if stays else slice(None) for stays in still])
    view = at(array, [slice(None, None, step) for step in steps])
    # A slice of step 3 over 3 n places holds n elements, forwards and backwards.
    view = at(view, [slice(0, extent) for extent in first.shape])
    view[...] = first
    return np.broadcast_to(view, values.shape) if any(still) else view


def at(array: Array, slices: Sequence[Any]) -> Array:
    """A view of the array, of no axes too, where an index of none would give a scalar."""
    index: Any = (*slices, ...)
    view: Array = array[index]
    return view
