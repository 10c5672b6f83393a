"""NumpyKernel: bound calls, outputs of any layout, errors, saved files, and the whole backend."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einloom.backends.numpy.emit import emit
from einloom.backends.numpy.kernel import NumpyKernel, load, save
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import F32, I32
from einloom.ir.einsum import Access, Einsum, Reduce
from einloom.ir.errors import OperandError, RankError, UnsupportedError
from einloom.ir.ranks import Rank, RankExpr, Term
from einloom.ir.verify import verify

from ...cascades import Array, access, classic, declaration

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.arange(12, dtype=np.float32).reshape(3, 4)


def bound(equation: str, *arrays: Array, out: Array) -> Any:
    return NumpyKernel(classic(equation)).bind(arrays, [out])


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,kj->ik"])
def test_a_matrix_product_is_written_in_place(equation: str) -> None:
    right = B if equation == "ij,jk->ik" else B.T
    out = np.empty((2, 4), np.float32)
    call = bound(equation, A, right, out=out)
    call(A, right, out)
    np.testing.assert_array_equal(out, A @ B)
    call(A + 1, right, out)
    np.testing.assert_array_equal(out, (A + 1) @ B)


@pytest.mark.parametrize(
    "equation", ["ij,jk->ik", "ij,jk->ki", "ij->ji", "ij->", "ij,ij->i", "ij->ij"]
)
def test_outputs_of_any_layout(equation: str) -> None:
    """The values are put where the output's strides say, and nowhere else."""
    operands = [A, B][: equation.count(",") + 1]
    if equation == "ij,ij->i":
        operands = [A, A]
    want = np.einsum(equation, *operands)
    for step in (1, 2, -1) if want.ndim else ():
        around = np.full([2 * n + 2 for n in want.shape], -1, np.float32)
        place: Any = tuple(
            slice(2, None, step) if step > 0 else slice(n, 0, -1) for n in want.shape
        )
        target = around[place][tuple(slice(n) for n in want.shape)]
        assert target.shape == want.shape
        bound(equation, *operands, out=target)(*operands, target)
        np.testing.assert_array_equal(target, want)
        target[...] = -1
        assert np.all(around == -1)
    fortran = np.empty(want.shape, np.float32, order="F")
    bound(equation, *operands, out=fortran)(*operands, fortran)
    np.testing.assert_array_equal(fortran, want)


def test_one_function_serves_all_shapes() -> None:
    first, second = (
        NumpyKernel(classic("ij,jk->ik")),
        NumpyKernel(classic("ij,jk->ik", sizes={"i": 9})),
    )
    assert first.source == second.source
    assert load(first.source) is load(second.source)


def test_arrays_that_do_not_fit() -> None:
    kernel = NumpyKernel(classic("ij,jk->ik"))
    out = np.zeros((2, 4), np.float32)
    with pytest.raises(RankError, match="rank J has extent 3"):
        kernel.bind([A, B.T], [out])
    with pytest.raises(RankError, match="2 ranks but was given an array of 1"):
        kernel.bind([A, B[0]], [out])
    with pytest.raises(OperandError, match="A_ is f32 but was given float64"):
        kernel.bind([A.astype(float), B], [out])
    with pytest.raises(OperandError, match="Y is f32 but was given int8"):
        kernel.bind([A, B], [out.astype(np.int8)])
    with pytest.raises(OperandError, match="2 inputs"):
        kernel.bind([A], [out])
    with pytest.raises(RankError, match=r"Y has shape \(2, 4\)"):
        kernel.bind([A, B], [np.empty((4, 2), np.float32)])
    with pytest.raises(OperandError, match="dtype of A_ is not known"):
        NumpyKernel(classic("ij,jk->ik", "")).bind([A, B], [out])


def gather_cascade() -> Cascade:
    read = Access("D", (Access("J", (RankExpr.of_variable("b"),)),))
    einsum = Einsum(access("Y", "b"), read)
    inputs = (declaration("D", "v", F32), declaration("J", "b", I32))
    return verify(Cascade("c", (Rank("V"), Rank("B")), inputs, (einsum,), ("Y",)))


def test_a_gather_out_of_range_is_an_error() -> None:
    """Found as it runs, for it depends on the values; -1 is not the last."""
    kernel = NumpyKernel(gather_cascade())
    table, out = np.arange(3, dtype=np.float32), np.empty(2, np.float32)
    good = np.array([2, 0], np.int32)
    call = kernel.bind([table, good], [out])
    call(table, good, out)
    assert out.tolist() == [2, 0]
    for bad in ([0, 3], [-1, 0]):
        with pytest.raises(RankError, match="extent 3 is read at"):
            call(table, np.array(bad, np.int32), out)


def test_a_window_out_of_range_is_an_error() -> None:
    index = RankExpr((Term(1, (), "p"), Term(1, (), "r")))
    reduce = Reduce("add", ("r",), Access("X", (index,)))
    ranks = (Rank("H"), Rank("P", 4), Rank("R", 3))
    inputs = (declaration("X", "h", F32),)
    cascade = verify(Cascade("c", ranks, inputs, (Einsum(access("Y", "p"), reduce),), ("Y",)))
    out = np.empty(4, np.float32)
    right, short = np.arange(6, dtype=np.float32), np.arange(5, dtype=np.float32)
    NumpyKernel(cascade).bind([right], [out])(right, out)
    assert out.tolist() == [3, 6, 9, 12]
    with pytest.raises(RankError, match="out of range"):
        NumpyKernel(cascade).bind([short], [out])(short, out)


def test_several_outputs() -> None:
    """An intermediate may be an output as well."""
    first = Einsum(access("S", "i"), Reduce("add", ("j",), access("A", "ij")))
    second = Einsum(access("T", ""), Reduce("max", ("i",), access("S", "i")))
    cascade = verify(
        Cascade(
            "c", (Rank("I"), Rank("J")), (declaration("A", "ij", F32),), (first, second), ("T", "S")
        )
    )
    outs = [np.empty((), np.float32), np.empty(2, np.float32)]
    NumpyKernel(cascade).bind([A], outs)(A, *outs)
    assert outs[0] == 12
    assert outs[1].tolist() == [3, 12]


def test_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    """np.einsum warns of neither."""
    bad = np.array([[np.inf, np.nan], [3e38, -np.inf]], np.float32)
    out = np.empty((2, 2), np.float32)
    bound("ij,jk->ik", bad, bad, out=out)(bad, bad, out)
    bound("ij,ij->ij", bad, bad, out=out)(bad, bad, out)
    np.einsum("ij,jk->ik", bad, bad)
    assert not recwarn.list


def test_save(tmp_path: Path) -> None:
    kernel = NumpyKernel(classic("ij,jk->ik"))
    target = tmp_path / "product.py"
    save(kernel, target)
    assert target.read_text("utf-8") == kernel.source == emit(classic("ij,jk->ik"))
    save(kernel, str(target), cpu="any")
    assert os.listdir(tmp_path) == ["product.py"]
    with pytest.raises(UnsupportedError, match=r"'.so' files"):
        save(kernel, tmp_path / "product.so")
    with pytest.raises(OSError, match="nowhere"):
        save(kernel, tmp_path / "nowhere" / "product.py")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(OSError, match=r"folder.py"):
        save(kernel, tmp_path / "folder.py")
    assert sorted(os.listdir(tmp_path)) == ["folder.py", "product.py"]
