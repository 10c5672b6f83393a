"""Blocked contractions over any number of joined ranks are what the interpreter says.

Operands and output lie in memory in any order, flush against forbidden pages; axes run backwards or
stand still. Blocks are so small, or extents so chosen, that every way to pack is taken.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.ir.interpreter import evaluate
from einloom.passes.loops.schedule import Limits

from ..generated import Case, examples
from ..test_properties_einsum import as_cascade
from .fences import Fenced, fences
from .native import TINY, WIDTHS, Native, sized

#: Blocks of several tiles, in which square blocks across tiles and along the depth have room.
SMALL = Limits(
    longest=7, shared=64, unpacked=0, few=0, few_rows=1, tall=9, deep=64, wide=8, depth=8
)
LARGE = Limits(unpacked=0, shared=0, few_rows=1)
EXTENTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 16, 17, 23, 33)


@st.composite
def contractions(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """Subscripts with up to three ranks in each group, and sizes."""
    names = iter("abcdefghijk")
    groups = [
        [next(names) for _ in range(draw(st.integers(low, high)))]
        for low, high in ((1, 3), (1, 3), (1, 3), (0, 1))
    ]
    rows, columns, depth, batch = groups
    left, right, out = (
        "".join(draw(st.permutations([*group, *batch])))
        for group in (rows + depth, columns + depth, rows + columns)
    )
    sizes: dict[str, int] = {}
    points = 60_000
    for name in draw(st.permutations([*rows, *columns, *depth, *batch])):
        sizes[name] = draw(st.sampled_from([n for n in EXTENTS if n <= max(points, 1)]))
        points //= max(sizes[name], 1)
    return f"{left},{right}->{out}", sizes


def lay(fence: Fenced, draw: Any, shape: tuple[int, ...], dtype: str, written: bool) -> Any:
    """An array in any memory order at an end of the fence, some axes backwards or of stride 0."""
    order: list[int] = draw(st.permutations(range(len(shape))))
    still = [] if written else [axis for axis in order if draw(st.integers(0, 9)) == 0]
    stored = tuple(1 if axis in still else shape[axis] for axis in order)
    array = fence.array(stored, dtype, draw(st.booleans()), "C")
    array = array.transpose(np.argsort(order))
    turns = [slice(None, None, draw(st.sampled_from((1, 1, 1, -1)))) for _ in shape]
    return np.broadcast_to(array[tuple(turns)], shape) if still else array[tuple(turns)]


def check(
    subscripts: str,
    arrays: list[Any],
    bits: int,
    limits: Limits,
    rng: np.random.Generator,
) -> Native:
    *inputs, out = arrays
    for array in inputs:
        base = array if array.flags.writeable else array.base
        base[...] = rng.integers(0, 3, base.shape)
    out[...] = 77
    case = Case(subscripts, tuple(inputs))
    cascade = as_cascade(case)
    given = {d.name: a for d, a in zip(cascade.inputs, inputs, strict=True)}
    cascade = sized(cascade, given)
    native = Native(cascade, {**given, "Y": out}, bits, limits)
    assert native({**given, "Y": out}) == 0
    np.testing.assert_array_equal(out, evaluate(cascade, given)["Y"])
    return native


@examples(60)
@given(st.data(), contractions(), st.sampled_from(WIDTHS), st.sampled_from((TINY, SMALL)))
def test_any_contraction(
    data: st.DataObject,
    contraction: tuple[str, dict[str, int]],
    bits: int,
    limits: Limits,
) -> None:
    subscripts, sizes = contraction
    dtype = data.draw(st.sampled_from(("f4", "f4", "f8", "i4", "c8", "c16", "f2", "i1", "?")))
    terms = subscripts.replace("->", ",").split(",")
    arrays = [
        lay(fence, data.draw, tuple(sizes[name] for name in term), dtype, number == 2)
        for number, (fence, term) in enumerate(zip(fences(), terms, strict=True))
    ]
    check(subscripts, arrays, bits, limits, np.random.default_rng(0))


#: Subscripts and sizes for which an operand's unit rank is not the last of those it is joined with.
APART = [
    ("cba,cd->dab", {"a": 19, "b": 16, "c": 5, "d": 3}),  # across tiles of columns
    ("cba,cd->dab", {"a": 19, "b": 12, "c": 5, "d": 3}),
    ("akl,lbk->ba", {"a": 17, "b": 13, "k": 21, "l": 3}),  # along the depth
    ("akl,lbk->ba", {"a": 40, "b": 29, "k": 17, "l": 5}),
    ("kal,kbl->ab", {"a": 35, "b": 15, "k": 3, "l": 21}),  # both operands along the depth
]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "c8", "?"])
@pytest.mark.parametrize(("subscripts", "sizes"), APART)
def test_operands_whose_blocks_lie_apart(
    subscripts: str,
    sizes: dict[str, int],
    dtype: str,
    bits: int,
) -> None:
    terms = subscripts.replace("->", ",").split(",")
    for at_end in (True, False):
        arrays = [
            fence.array(tuple(sizes[name] for name in term), dtype, at_end, "C")
            for fence, term in zip(fences(), terms, strict=True)
        ]
        assert all(prod(array.shape) for array in arrays)
        check(subscripts, arrays, bits, SMALL, np.random.default_rng(1))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i4", "c8", "f2", "?"])
@pytest.mark.parametrize(
    ("subscripts", "sizes"),
    [
        ("ki,kj->ij", {"k": 21, "i": 157, "j": 35}),
        ("aki,kj->aij", {"a": 2, "k": 5, "i": 101, "j": 17}),
        ("kai,kj->aij", {"a": 3, "k": 5, "i": 67, "j": 17}),
    ],
)
def test_rows_whose_tiles_lie_side_by_side(
    subscripts: str, sizes: dict[str, int], dtype: str, bits: int
) -> None:
    """In long runs: several tiles of rows are packed together, and the rest one by one."""
    terms = subscripts.replace("->", ",").split(",")
    for at_end in (True, False):
        arrays = [
            fence.array(tuple(sizes[name] for name in term), dtype, at_end, "C")
            for fence, term in zip(fences(), terms, strict=True)
        ]
        limits = LARGE
        check(subscripts, arrays, bits, limits, np.random.default_rng(1))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("limits", [SMALL, LARGE], ids=["small", "large"])
def test_rows_that_are_read_where_they_lie(dtype: str, limits: Limits, bits: int) -> None:
    """Unless their lines fall into the same sets, or the depth turns out not to be consecutive."""
    rng = np.random.default_rng(2)
    one, other, target = fences()
    for length, start in ((64, 0), (64, 1), (61, 0), (61, 2), (512, 0)):
        shapes = (17, 3, length), (3, length - start, 9), (17, 9)
        a, b, y = (
            fence.array(shape, dtype, True, "C")
            for fence, shape in zip((one, other, target), shapes, strict=True)
        )
        native = check("ijk,jka->ia", [a[:, :, start:], b, y], bits, limits, rng)
        assert "rows i of T0[i,j,k] or in Y.T0.block" in str(native.program)
