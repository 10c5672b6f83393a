"""Products read as they lie: code for some sizes is right for these and for all others.

Operands and output lie flush against forbidden pages. Tiles of rows and columns are full, cut short
on either side, or both; sizes are those that code was written apart for, or are not.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.ir.dtypes import as_dtype
from einloom.ir.loop_nodes import Special, walk
from einloom.ir.loops import Nest
from einloom.ir.ranks import RankExpr

from ..generated import Case
from ..test_properties_einsum import as_cascade
from .fences import fenced
from .native import WIDTHS, Native, sized

SUBSCRIPTS = ("ij,jk->ik", "bij,bjk->bik", "bij,bkj->bik", "ji,bjk->bik", "ij,i->j", "ij,ij->j")

#: Sizes i, j, k, b: those that code is made for, those that it is called with.
SIZES = (
    ((4, 4, 4, 5), (4, 4, 4, 3), (4, 4, 5, 2), (3, 4, 4, 2), (0, 4, 4, 2), (4, 0, 4, 2)),
    ((3, 5, 3, 2), (3, 5, 3, 2), (3, 5, 4, 2)),
    ((2, 3, 2, 3), (2, 3, 2, 3), (2, 3, 5, 1)),
    ((8, 8, 8, 3), (8, 8, 8, 3), (8, 7, 8, 0), (19, 3, 9, 1)),
    ((13, 11, 16, 2), (13, 11, 16, 2), (14, 11, 16, 2), (29, 17, 33, 2)),
    ((32, 32, 32, 2), (32, 32, 32, 2), (32, 31, 32, 2), (32, 32, 31, 2), (25, 32, 32, 2)),
    ((26, 40, 24, 2), (26, 40, 24, 2), (27, 5, 31, 1), (13, 3, 17, 2), (12, 3, 24, 1)),
    ((50, 9, 50, 1), (50, 9, 50, 1), (67, 2, 71, 2), (1, 1, 1, 1)),
    ((30, 400, 65, 1), (30, 400, 65, 1), (9, 389, 81, 1), (3, 64, 1, 1)),
)


def named(sizes: tuple[int, ...]) -> dict[str, int]:
    return dict(zip("ijkb", sizes, strict=True))


@pytest.mark.parametrize(
    ("dtype", "bits"), [("f4", bits) for bits in WIDTHS] + [("f8", bits) for bits in WIDTHS[:1]]
)
@pytest.mark.parametrize("subscripts", SUBSCRIPTS)
def test_any_sizes_after_those_it_was_made_for(subscripts: str, dtype: str, bits: int) -> None:
    for first, *others in SIZES:
        a, b, out = fenced(subscripts, named(first), dtype, True)
        cascade = as_cascade(Case(subscripts, (a, b)))
        names = [decl.name for decl in cascade.inputs]
        hinted = sized(cascade, dict(zip(names, (a, b), strict=True)))
        native = Native(hinted, {names[0]: a, names[1]: b, "Y": out}, bits)
        for number, given in enumerate((first, *others)):
            a, b, out = fenced(subscripts, named(given), dtype, number % 2 == 0)
            arrays = {names[0]: a, names[1]: b, "Y": out}
            wanted = np.einsum(subscripts, a, b)  # exact: the numbers are small and whole
            for code in (native, native.bound(arrays)) if out.size else (native,):
                out[...] = -1
                assert code(arrays) == 0
                np.testing.assert_array_equal(out, wanted, err_msg=f"{given} by code for {first}")


@pytest.mark.parametrize("given", [(8, 8, 8, 3), (8, 8, 7, 3)])
def test_of_code_that_is_written_apart_a_call_compiles_one(given: tuple[int, ...]) -> None:
    a, b, out = fenced("bij,bjk->bik", named((8, 8, 8, 3)), "f4", True)
    cascade = as_cascade(Case("bij,bjk->bik", (a, b)))
    names = [decl.name for decl in cascade.inputs]
    hinted = sized(cascade, dict(zip(names, (a, b), strict=True)))
    native = Native(hinted, {names[0]: a, names[1]: b, "Y": out})
    arrays = dict(zip((*names, "Y"), fenced("bij,bjk->bik", named(given), "f4", True), strict=True))
    bound = native.bound(arrays)
    (nest,) = bound.program.nests
    assert not any(isinstance(statement, Special) for statement in walk(nest.body))
    known = {size.name for size in bound.program.sizes if isinstance(size.source, RankExpr)}
    assert known == ({"I", "J", "K"} if given == (8, 8, 8, 3) else set())
    assert native.ir.count("define ") == 2
    assert bound.ir.count("define ") == 1
    assert bound.ir.count("fmuladd") < native.ir.count("fmuladd")


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
@pytest.mark.parametrize("columns", [2, 3, 4, 5, 7, 8])
def test_vectors_are_no_longer_than_the_columns_of_a_small_product(
    dtype: str, columns: int
) -> None:
    sizes = {"i": 4, "j": 4, "k": columns}
    a, b, out = fenced("ij,jk->ik", sizes, dtype, True)
    cascade = as_cascade(Case("ij,jk->ik", (a, b)))
    names = [decl.name for decl in cascade.inputs]
    arrays = {names[0]: a, names[1]: b, "Y": out}
    hinted = sized(cascade, dict(zip(names, (a, b), strict=True)))
    for bits in WIDTHS:
        bound = Native(hinted, arrays, bits).bound(arrays)
        out[...] = -1
        assert bound(arrays) == 0
        np.testing.assert_array_equal(out, np.einsum("ij,jk->ik", a, b))
        longest = max(map(int, re.findall(r"<(\d+) x (?:float|double|i32)>", bound.ir)))
        most, least = bits // (8 * a.itemsize), 128 // (8 * a.itemsize)
        assert longest == min(most, max(least, 1 << (columns - 1).bit_length()))


def test_no_code_is_written_for_edges_that_there_are_not() -> None:
    a, b, out = fenced("ij,jk->ik", named((32, 5, 32, 1)), "f4", True)
    cascade = as_cascade(Case("ij,jk->ik", (a, b)))
    arrays = {**dict(zip((decl.name for decl in cascade.inputs), (a, b), strict=True)), "Y": out}
    native = Native(sized(cascade, {name: arrays[name] for name in arrays if name != "Y"}), arrays)
    assert "masked" in native.ir or "smin" in native.ir
    bound = native.bound(arrays)
    assert "masked" not in bound.ir
    assert "smin" not in bound.ir


def test_code_is_written_apart_for_small_sizes_alone() -> None:
    sizes = (((8, 8, 8, 3), 1), ((32, 32, 32, 3), 1), ((31, 31, 31, 3), 0), ((64, 64, 64, 3), 0))
    for given, wanted in sizes:
        a, b, out = fenced("bij,bjk->bik", named(given), "f4", True)
        cascade = as_cascade(Case("bij,bjk->bik", (a, b)))
        names = [decl.name for decl in cascade.inputs]
        hinted = sized(cascade, dict(zip(names, (a, b), strict=True)))
        program = Native(hinted, {names[0]: a, names[1]: b, "Y": out}).program
        (nest,) = program.stages
        assert isinstance(nest, Nest)
        assert sum(isinstance(statement, Special) for statement in walk(nest.body)) == wanted


@pytest.mark.parametrize("columns", [2, 3, 17, 33, 49, 65])
def test_one_last_column_is_rounded_and_stored_alone(columns: int) -> None:
    """LLVM 22 made a masked store of one rounded number one of twice the width."""
    bf16 = as_dtype("bf16").numpy
    product = el.compile("ij,jk->ik")
    for rows in (2, 3, 33):
        orders: Any = ("C", "F")
        for order in orders:
            a = np.ones((rows, 13), bf16, order)
            b = np.ones((13, columns), bf16, order)
            memory = np.zeros(rows * columns + 1, bf16)
            out = memory[:-1].reshape((rows, columns), order=order)
            for _ in range(2):
                assert (product(a, b) == 13).all()
                assert (product(a, b, out=out) == 13).all()
            assert memory[-1] == 0
