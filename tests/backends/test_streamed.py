"""Outputs that are large go past the caches where their rows lie for it, and are the same anyhow.

Arrays lie flush against forbidden pages: at an end of them, so mostly askew, or at the beginning.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import einloom as el
from einloom.backends.llvm.pool_ir import MACHINES, pool_ir
from einloom.ir.dtypes import as_dtype
from einloom.ir.loop_nodes import Past, walk
from einloom.ir.loop_parser import parse_loops
from einloom.ir.loops import LoopProgram, Nest
from einloom.passes.loops.lower import LIMITS

from ..generated import Case
from ..test_properties_einsum import as_cascade
from .fences import fenced
from .native import WIDTHS, Native, empty_outputs, sized

#: What is large, in bytes, in these tests.
LARGE = replace(LIMITS, streamed=4096)


def is_streamed(program: LoopProgram) -> bool:
    """Whether a nest of it stores past the caches."""
    return any(
        isinstance(statement, Past)
        for nest in program.stages
        if isinstance(nest, Nest)
        for statement in walk(nest.body)
    )


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["i1", "f2", "f4", "f8", "i4"])
@pytest.mark.parametrize("subscripts", ["i,j->ij", "ij,ij->ij", "ij,j->ij", "ij,i->ij"])
def test_products_past_the_caches(subscripts: str, dtype: str, bits: int) -> None:
    large = {"i": 64, "j": 160}
    a, b, out = fenced(subscripts, large, dtype, True)
    cascade = as_cascade(Case(subscripts, (a, b)))
    names = [decl.name for decl in cascade.inputs]
    hinted = sized(cascade, dict(zip(names, (a, b), strict=True)))
    native = Native(hinted, {names[0]: a, names[1]: b, "Y": out}, bits, LARGE)
    assert is_streamed(native.program)
    # Rows that lie askew, that are whole lines, that are shorter than a vector; too few; none.
    for columns in (160, 161, 172, 200, 3, 0):
        for rows, at_end in ((64, True), (64, False), (63, True), (2, False), (0, True)):
            a, b, out = fenced(subscripts, {"i": rows, "j": columns}, dtype, at_end)
            inputs = dict(zip(names, (a, b), strict=True))
            assert native({**inputs, "Y": out}) == 0
            np.testing.assert_array_equal(out, np.einsum(subscripts, a, b))


@pytest.mark.parametrize(
    ("subscripts", "sizes"),
    [
        ("ij,jk->ik", {"i": 64, "j": 3, "k": 64}),  # sums are stored tile by tile
        ("ij,ji->ij", {"i": 64, "j": 64}),  # square blocks
        ("i,j->ij", {"i": 9, "j": 64}),  # small
    ],
)
def test_what_stays_in_the_caches(subscripts: str, sizes: dict[str, int]) -> None:
    a, b, out = fenced(subscripts, sizes, "f4", True)
    cascade = as_cascade(Case(subscripts, (a, b)))
    names = [decl.name for decl in cascade.inputs]
    hinted = sized(cascade, dict(zip(names, (a, b), strict=True)))
    native = Native(hinted, {names[0]: a, names[1]: b, "Y": out}, WIDTHS[0], LARGE)
    assert not is_streamed(native.program)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i1"])
@pytest.mark.parametrize("subscripts", ["i,j->ij", "ij,ij->ij"])
def test_threads_share_what_goes_past_the_caches(subscripts: str, dtype: str, threads: int) -> None:
    for rows, columns, at_end in ((64, 160, False), (61, 173, True), (3, 1600, False)):
        a, b, out = fenced(subscripts, {"i": rows, "j": columns}, dtype, at_end)
        cascade = as_cascade(Case(subscripts, (a, b)))
        inputs = dict(zip([decl.name for decl in cascade.inputs], (a, b), strict=True))
        known = sized(cascade, inputs)
        given = {**inputs, "Y": out}
        native = Native(known, given, WIDTHS[0], replace(LARGE, streamed=1024), threads=threads)
        assert native.program.parallels
        assert native(given) == 0
        np.testing.assert_array_equal(out, np.einsum(subscripts, a, b))


def test_what_went_past_the_caches_is_fenced_before_others_are_told() -> None:
    """So a stage ends, whether it is a nest or parts, and each part that a helper ran."""
    text = "cascade c(X[I,J]: f32) -> Y { Y[i,j] = X[i,j] + 1 }"
    arrays = {"X": np.zeros((64, 160), "f4"), "Y": np.zeros((64, 160), "f4")}
    known = sized(el.parse(text), arrays)
    for threads, end in ((None, "  ret i32 0"), (2, "  %status = load i64, ptr")):
        native = Native(known, arrays, WIDTHS[0], LARGE, threads)
        assert "past Y" in str(native.program)
        assert native.ir.count("fence seq_cst") == 1
        assert f"  fence seq_cst\n{end}" in native.ir
    for machine in MACHINES:
        ran = pool_ir(machine).split("call void %fn(ptr %arg, ptr %grid, i64 %number)\n")[1]
        assert re.match(r"  fence seq_cst.*\n  %before = atomicrmw sub ptr %pending", ran)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_a_batch_of_small_products(threads: int) -> None:
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 4, (2, 300, 8, 8)).astype("f4")
    cascade = as_cascade(Case("bij,bjk->bik", (a, b)))
    inputs = dict(zip([decl.name for decl in cascade.inputs], (a, b), strict=True))
    given = {**inputs, "Y": np.empty((300, 8, 8), "f4")}
    native = Native(sized(cascade, inputs), given, threads=threads)
    (found,) = native.program.parallels
    assert [split.variable for split in found.splits] == ["b"]
    assert native(given) == 0
    np.testing.assert_array_equal(given["Y"], np.matmul(a, b))


def test_sums_whose_stores_would_wait_ask_for_their_lines_first() -> None:
    cascade = el.parse("cascade c(A[I,J]: f32, B[J,K]: f32) -> Y { Y[i,k] = A[i,j] * B[j,k] }")
    large, small = np.ones((40000, 8), "f4"), np.ones((300, 8), "f4")
    for rows, asks in ((large, True), (small, False)):
        arrays = {"A": rows, "B": np.ones((8, 48), "f4")}
        known = sized(cascade, arrays)
        arrays |= empty_outputs(known)
        native = Native(known, arrays)
        assert parse_loops(str(native.program)) == native.program
        assert ("fetch Y[i,k]" in str(native.program)) == asks
        assert native(arrays) == 0
        assert (arrays["Y"] == 8).all()


def test_inputs_that_no_cache_holds_are_asked_for_ahead() -> None:
    text = """cascade c(X[I,J]: f32) -> Y {
      G[i]   = max[j] X[i,j]
      E[i,j] = exp(X[i,j] - G[i])
      S[i]   = E[i,j]
      Y[i,j] = E[i,j] / S[i]
    }"""
    rng = np.random.default_rng(3)
    for shape, asks in (((64, 3000), 1), ((64, 20), 0)):
        x = rng.standard_normal(shape).astype("f4")
        known = sized(el.parse(text), {"X": x})
        arrays = {"X": x, **empty_outputs(known)}
        native = Native(known, arrays, WIDTHS[0], replace(LIMITS, streamed=1 << 16))
        program = str(native.program)
        assert parse_loops(program) == native.program
        # The last to read a row asks for the next one.
        assert program.count("fetch X[i'p+I'0+1,j]") == asks
        assert program.count("fetch") == asks
        assert ("prefetch.p0(ptr" in native.ir) == bool(asks)
        assert native(arrays) == 0
        wanted = np.exp(x.astype("f8") - x.max(1, keepdims=True))
        wanted /= wanted.sum(1, keepdims=True)
        np.testing.assert_allclose(arrays["Y"], wanted, 2e-6)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("columns", [0, 1, 31, 160, 1600])
def test_what_is_asked_for_may_lie_anywhere(columns: int, at_end: bool) -> None:
    """Beyond the last row there is no memory."""
    x, _, out = fenced("ij,ij->ij", {"i": 5, "j": columns}, "f4", at_end)
    cascade = el.parse("cascade c(X[I,J]: f32) -> Y { Y[i,j] = exp(X[i,j]) }")
    hinted = sized(cascade, {"X": np.ones((5, 1600), "f4")})
    native = Native(hinted, {"X": x, "Y": out}, WIDTHS[0], LARGE)
    assert "fetch X[" in str(native.program)
    assert native({"X": x, "Y": out}) == 0
    np.testing.assert_allclose(out, np.exp(x), 1e-6)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["i1", "f2", "f4", "f8"])
def test_rows_go_past_the_caches_from_their_first_whole_line(dtype: str, bits: int) -> None:
    text = f"cascade c(X[I,J]: {as_dtype(dtype)}) -> Y {{ Y[i,j] = X[i,j] + X[i,j] }}"
    large = np.zeros((64, 1200), dtype)
    known = sized(el.parse(text), {"X": large})
    native = Native(known, {"X": large, **empty_outputs(known)}, bits, LARGE)
    assert f"align {32 if dtype == 'f2' else 64}, !nontemporal" in native.ir or bits < 512
    rng = np.random.default_rng(1)
    size = large.itemsize
    for columns, apart in (
        (1200, 1200),
        (160, 160),
        (150, 160),
        (161, 161),
        (33, 40),
        (7, 9),
        (1, 1),
        (0, 4),
    ):
        for start in (0, size, 16, 48, 64 - size, 3, 1):  # the last two are askew
            rows = 8192 // size // apart + 2
            memory = np.full((rows * apart + 256) * size, 0x5A, np.uint8)
            begin = -memory.ctypes.data % 64 + start
            held = memory[begin : begin + rows * apart * size].view(dtype).reshape(rows, apart)
            before = memory.copy()
            x = rng.integers(-9, 9, (rows, columns)).astype(dtype)
            assert native({"X": x, "Y": held[:, :columns]}) == 0
            np.testing.assert_array_equal(held[:, :columns], x + x)
            held[:, :columns] = before[begin : begin + held.nbytes].view(dtype)[0] if columns else 0
            assert memory.tobytes() == before.tobytes()
