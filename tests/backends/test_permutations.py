"""Tensors copied in another order of ranks are what NumPy makes of them.

They lie in memory in any order, flush against forbidden pages; axes run backwards or stand still.
What goes past the caches, and by way of a buffer, is so small that small arrays take every way.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from einloom.ir.loop_nodes import Permute, walk
from einloom.passes.loops.lower import LIMITS
from einloom.passes.loops.schedule import Limits

from ..generated import Case, examples
from ..test_properties_einsum import as_cascade
from .fences import fences
from .native import WIDTHS, Native, sized
from .test_contractions import lay

PAST = replace(LIMITS, streamed=0)
SMALL = replace(LIMITS, streamed=0, staged=40, spread=160)
EXTENTS = (0, 1, 2, 3, 5, 8, 9, 16, 17, 31, 32, 48, 64, 70, 128)
DTYPES = ("f4", "f4", "f8", "f8", "i1", "?", "f2", "u2", "i4", "i8", "c8", "c16")


@st.composite
def permutations(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """Subscripts of one operand of one to four ranks, and sizes."""
    names = "abcd"[: draw(st.integers(1, 4))]
    out = "".join(draw(st.permutations(names)))
    sizes: dict[str, int] = {}
    points = 30_000
    for name in draw(st.permutations(names)):
        sizes[name] = draw(st.sampled_from([n for n in EXTENTS if n <= max(points, 1)]))
        points //= max(sizes[name], 1)
    return f"{names}->{out}", sizes


def check(subscripts: str, given: Any, out: Any, bits: int, limits: Limits) -> Native:
    """Runs the copy; `given` is filled with numbers that tell each element from those near it."""
    base: Any = given if given.flags.writeable else given.base
    base[...] = np.resize(np.arange(251), base.shape)
    out[...] = 77
    cascade = as_cascade(Case(subscripts, (given,)))
    arrays = {cascade.inputs[0].name: given, "Y": out}
    native = Native(sized(cascade, {cascade.inputs[0].name: given}), arrays, bits, limits)
    assert native(arrays) == 0
    term, result = subscripts.split("->")
    np.testing.assert_array_equal(out, given.transpose([term.index(name) for name in result]))
    return native


@examples(80)
@drawn(
    st.data(),
    permutations(),
    st.sampled_from(WIDTHS),
    st.sampled_from((LIMITS, PAST, SMALL)),
    st.sampled_from(DTYPES),
)
def test_any_permutation(
    data: st.DataObject,
    permutation: tuple[str, dict[str, int]],
    bits: int,
    limits: Limits,
    dtype: str,
) -> None:
    subscripts, sizes = permutation
    given, out = [
        lay(fence, data.draw, tuple(sizes[name] for name in term), dtype, number == 1)
        for number, (fence, term) in enumerate(zip(fences(), subscripts.split("->"), strict=False))
    ]
    check(subscripts, given, out, bits, limits)


#: Subscripts and sizes by which each way to go is taken, whatever the dtype.
WAYS = [
    ("ab->ba", {"a": 128, "b": 33}),  # whole lines
    ("abc->cba", {"a": 256, "b": 3, "c": 17}),  # that span two coordinates
    ("abc->acb", {"a": 3, "b": 65, "c": 21}),  # columns that follow one another
    ("abc->cba", {"a": 67, "b": 5, "c": 43}),  # lines that lie askew
    ("abc->bac", {"a": 9, "b": 7, "c": 80}),  # rows that follow one another
    ("ab->ab", {"a": 3, "b": 1000}),
]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["i1", "f4", "f8"])
@pytest.mark.parametrize("limits", [PAST, SMALL], ids=["past", "small"])
@pytest.mark.parametrize(("subscripts", "sizes"), WAYS)
def test_every_way(
    subscripts: str, sizes: dict[str, int], limits: Limits, dtype: str, bits: int
) -> None:
    term, result = subscripts.split("->")
    shapes = [tuple(sizes[name] for name in names) for names in (term, result)]
    itemsize = np.dtype(dtype).itemsize
    count = prod(shapes[0])
    # Beside the ends of the memory, results that begin at each place in a line of the cache.
    room = np.empty(count * itemsize + 128, np.uint8)
    start = -room.__array_interface__["data"][0] % 64
    outs = [fences()[1].array(shapes[1], dtype, at_end, "C") for at_end in (True, False)]
    for shift in (0, 3, itemsize, 24, 60):
        flat = room[start + shift : start + shift + count * itemsize]
        outs.append(flat.view(dtype).reshape(shapes[1]))
    for number, out in enumerate(outs):
        given = fences()[0].array(shapes[0], dtype, number % 2 == 0, "C")
        found = check(subscripts, given, out, bits, limits)
        statements = walk(found.program.nests[0].body)
        assert any(isinstance(statement, Permute) for statement in statements)
