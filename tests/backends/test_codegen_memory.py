"""What generated code touches, how it ends, and shapes at the edge of what arrays can be."""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from einloom.backends.llvm import elf, runtime
from einloom.backends.llvm.codegen import entry_name
from einloom.backends.llvm.image import address_of
from einloom.backends.llvm.target import host
from einloom.frontend.subscripts import parse_subscripts, to_cascade
from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import of_numpy
from einloom.ir.einsum import Access, Coordinate, Einsum, Literal, Map, Reduce
from einloom.ir.interpreter import evaluate
from einloom.ir.loop_nodes import Contract
from einloom.ir.ranks import Rank, RankExpr, Term
from einloom.passes.loops.lower import LIMITS
from einloom.passes.loops.schedule import Limits

from ..cascades import classic
from .native import TINY, WIDTHS, Array, Native, empty_outputs, run, sized

PAGE = mmap.PAGESIZE


class Guarded:
    """Memory between two pages that nobody may touch."""

    def __init__(self, pages: int = 4) -> None:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        self.memory = mmap.mmap(-1, (pages + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for at in (start, start + (pages + 1) * PAGE):
            assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(PAGE), 0) == 0
        self.bytes: Array = np.frombuffer(self.memory, np.uint8)[PAGE:-PAGE]

    def array(self, values: Array, at_end: bool) -> Array:
        """A C-ordered copy whose first or last byte is next to such a page."""
        count = values.size * values.itemsize
        part = self.bytes[len(self.bytes) - count :] if at_end else self.bytes[:count]
        found: Array = part.view(values.dtype).reshape(values.shape)
        found[...] = values
        return found


class Poisoned:
    """A malloc whose memory is full of numbers that no arithmetic takes without raising a flag."""

    FE_INVALID = 1

    def __init__(self) -> None:
        self.libc: Any = ctypes.CDLL(None)
        self.libc.malloc.restype = ctypes.c_void_p
        self.libm: Any = ctypes.CDLL("libm.so.6")
        self.asked = 0
        prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)
        self.function: Any = prototype(self._malloc)
        self.number = 0

    def _malloc(self, size: int) -> int:
        block: int = self.libc.malloc(ctypes.c_size_t(size))
        words = (ctypes.c_uint64 * (size // 8)).from_address(block)
        words[:] = [self.number] * len(words)
        self.asked += 1
        return block

    def _resolve(self, symbol: str) -> int | None:
        if symbol == "malloc":
            return ctypes.cast(self.function, ctypes.c_void_p).value
        return address_of(symbol)

    def flags(self, native: Native, arrays: dict[str, Array], number: int) -> int:
        """Whether the code computes with what memory held before: the flag that it leaves."""
        image = runtime.emit(native.ir, host(), "object")
        native.code = elf.load(image, entry_name(native.program), self._resolve)
        self.number = number
        self.libm.feclearexcept(self.FE_INVALID)
        assert native(arrays) == 0
        return int(self.libm.fetestexcept(self.FE_INVALID))


def reversed_axes(array: Array) -> Array:
    return array[tuple(slice(None, None, -1) for _ in array.shape)]


SUBSCRIPTS = ["ij,jk->ik", "ij,kj->ik", "ij->ji", "ij,ij->ij", "ij->i", "ij->j", "ii->i", "ij,ji->"]


@pytest.mark.skipif(
    not elf.works_here() or platform.machine() != "x86_64", reason="glibc's numbers of the flags"
)
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "c16"])
@pytest.mark.parametrize("subscripts", ["ij,jk->ik", "ij,kj->ik", "ji,jk->ik", "ijl,jlk->ik"])
@pytest.mark.parametrize("limits", [TINY, replace(TINY, wide=4, tall=32)], ids=["tile", "tiles"])
def test_nothing_is_computed_with_what_memory_held(
    subscripts: str, dtype: str, bits: int, limits: Limits
) -> None:
    """The parts of packed tiles beyond the operands are read, so they are written: as zeros."""
    sizes = {"i": 13, "j": 21, "k": 37, "l": 3}
    terms = subscripts.partition("->")[0].split(",")
    arrays: dict[str, Array] = {
        name: np.ones([sizes[letter] for letter in term], dtype)
        for name, term in zip("AB", terms, strict=True)
    }
    cascade = sized(classic_named(subscripts, arrays), arrays)
    arrays |= empty_outputs(cascade)
    native = Native(cascade, arrays, bits, limits)
    poisoned = Poisoned()
    signalling = 0x7FA000007FA00000 if dtype in ("f4", "c8") else 0x7FF4000000000000
    statements = [found for nest in native.program.nests for found in nest.body]
    assert any(isinstance(found, Contract) for found in statements)
    assert not poisoned.flags(native, arrays, signalling)
    assert poisoned.asked


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect through libc")
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["?", "f2", "f4", "c16"])
def test_nothing_is_touched_beside_the_arrays(dtype: str, bits: int) -> None:
    """Each operand and result lies against a page that ends the process if it is touched."""
    rng = np.random.default_rng(1)
    places = [Guarded() for _ in range(3)]
    for subscripts in SUBSCRIPTS:
        terms, output = subscripts.split("->")
        for n in (1, 17):
            sizes = dict.fromkeys("ijk", n) | ({"j": 5} if "ii" not in terms else {})
            shapes = [[sizes[v] for v in term] for term in terms.split(",")]
            given = [rng.integers(0, 3, shape).astype(dtype) for shape in shapes]
            want = np.einsum(subscripts, *given)
            native: Native | None = None
            for at_end in (False, True):
                arrays = [place.array(a, at_end) for place, a in zip(places, given, strict=False)]
                result = places[2].array(np.zeros([sizes[v] for v in output], dtype), at_end)
                cascade = to_cascade(
                    parse_subscripts(subscripts),
                    [a.shape for a in arrays],
                    [of_numpy(a.dtype) for a in arrays],
                )
                names = [decl.name for decl in cascade.inputs]
                named = dict(zip((*names, *cascade.outputs), (*arrays, result), strict=True))
                native = native or Native(cascade, named, bits, TINY)
                assert native(named) == 0
                np.testing.assert_allclose(result.astype("c16"), want.astype("c16"), rtol=1e-3)
            backwards = {name: reversed_axes(array) for name, array in named.items()}
            assert Native(cascade, backwards, bits)(backwards) == 0


def test_unaligned_arrays() -> None:
    for dtype in ("f4", "c16", "i2", "f8"):
        memory = np.zeros(4096, np.uint8)
        arrays: dict[str, Array] = {}
        for number, name in enumerate("ABY"):
            arrays[name] = memory[1 + 1000 * number :][: 49 * np.dtype(dtype).itemsize]
            arrays[name] = arrays[name].view(dtype).reshape(7, 7)
        arrays["A"][...] = np.arange(49).reshape(7, 7)
        arrays["B"][...] = np.eye(7)
        cascade = classic_named("ij,jk->ik", arrays)
        assert Native(cascade, arrays)(arrays) == 0
        np.testing.assert_array_equal(arrays["Y"], arrays["A"])


def classic_named(subscripts: str, arrays: dict[str, Array]) -> Cascade:
    given = [array for name, array in arrays.items() if name != "Y"]
    cascade = to_cascade(
        parse_subscripts(subscripts),
        [array.shape for array in given],
        [of_numpy(array.dtype) for array in given],
    )
    assert cascade.outputs == ("Y",)
    return cascade


# ---- how it ends


def test_a_unit_axis_is_guarded() -> None:
    """Status 1, and nothing written, where an axis that was promised unit stride has another."""
    a = np.ones((3, 8), "f4")
    arrays = {"A": a, "Y": np.zeros((8, 3), "f4")}
    native = Native(classic_named("ij->ji", arrays), arrays)
    other = {"A": np.ones((3, 16), "f4")[:, ::2], "Y": np.zeros((8, 3), "f4")}
    assert native(other) == 1
    assert not other["Y"].any()
    # One element has no stride to speak of.
    single = {"A": np.ones((3, 2), "f4")[:, ::2], "Y": np.zeros((1, 3), "f4")}
    assert native(single) == 0
    assert single["Y"].all()


def chain(rank: int | None = None) -> Cascade:
    """Y[] = sum of T[i,j], T = A[i] * B[j]: T is a temporary."""
    i, j = (RankExpr.of_variable(v) for v in "ij")
    inputs = (
        TensorDecl("A", (RankExpr.of_size("I"),), of_numpy(np.dtype("f4"))),
        TensorDecl("B", (RankExpr.of_size("J"),), of_numpy(np.dtype("f4"))),
    )
    einsums = (
        Einsum(Access("T", (i, j)), Map("mul", (Access("A", (i,)), Access("B", (j,))))),
        Einsum(Access("Y"), Reduce("add", ("i", "j"), Access("T", (i, j)))),
    )
    return Cascade("c", (Rank("I", rank), Rank("J", rank)), inputs, einsums, ("Y",))


def test_out_of_memory_is_a_status() -> None:
    """Sizes of arrays that cannot be: nothing is touched before the memory is there."""
    array = np.ones(8, "f4")
    arrays = {"A": array, "B": array, "Y": np.zeros((), "f4")}
    native = Native(chain(), arrays)
    operands = [arrays[name] for name in "ABY"]
    for extent in (1 << 31, 1 << 40, (1 << 62) - 1):
        assert native.call([extent, extent, 4, 4], operands) == 2
    assert native(arrays) == 0
    assert arrays["Y"] == 64


def gather(tensor_extent: int) -> Cascade:
    b, e = RankExpr.of_variable("b"), RankExpr.of_variable("e")
    inputs = (
        TensorDecl("D", (RankExpr((), tensor_extent), RankExpr.of_size("E"))),
        TensorDecl("J", (RankExpr.of_size("B"),)),
    )
    read = Access("D", (Access("J", (b,)), e))
    return Cascade(
        "c", (Rank("B"), Rank("E")), inputs, (Einsum(Access("Y", (b, e)), read),), ("Y",)
    )


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("bad", [-1, 5, 127, -128])
def test_a_gather_from_outside_is_a_status(bad: int, bits: int) -> None:
    table = np.arange(15.0).reshape(5, 3)
    picks: Array = np.array([0, 4, 2, 2, 1, 3, 0, 4, 1], np.int8)
    status, found = run(gather(5), {"D": table, "J": picks}, bits)
    assert status == 0
    np.testing.assert_array_equal(found["Y"], table[picks])
    picks[-1] = bad
    assert run(gather(5), {"D": table, "J": picks}, bits)[0] == 3
    # No point at all: nothing is read.
    assert run(gather(5), {"D": table[:, :0], "J": picks}, bits)[0] == 0


def test_an_affine_index_is_checked_for_the_sizes_given() -> None:
    p, r = RankExpr.of_variable("p"), RankExpr.of_variable("r")
    index = RankExpr((Term(1, (), "p"), Term(1, (), "r")))
    inputs = (TensorDecl("X", (RankExpr.of_size("H"),)), TensorDecl("F", (RankExpr.of_size("R"),)))
    body = Map("mul", (Access("X", (index,)), Access("F", (r,))))
    einsum = Einsum(Access("Y", (p,)), Reduce("add", ("r",), body))
    ranks = (Rank("H"), Rank("R"), Rank("P", 30))
    cascade = Cascade("c", ranks, inputs, (einsum,), ("Y",))
    x, f = np.arange(32.0), np.array([1.0, 2.0, 4.0])
    status, found = run(cascade, {"X": x, "F": f})
    assert status == 0
    np.testing.assert_allclose(found["Y"], np.convolve(x, f[::-1], "valid"))
    assert run(cascade, {"X": x[:-1], "F": f})[0] == 3
    assert run(cascade, {"X": x[:-1], "F": f[:0]})[0] == 0


# ---- shapes at the edge


def test_tensors_of_sixty_four_ranks() -> None:
    rng = np.random.default_rng(0)
    variables = [f"i{n}" for n in range(64)]
    shape = [2 if n % 9 == 0 else 1 for n in range(64)]
    values = rng.normal(size=shape)
    order = [int(axis) for axis in rng.permutation(64)]
    left = tuple(RankExpr.of_variable(variables[axis]) for axis in order)
    read = Access("A", tuple(map(RankExpr.of_variable, variables)))
    ranks = tuple(Rank(v.upper()) for v in variables)
    decl = TensorDecl("A", tuple(RankExpr.of_size(v.upper()) for v in variables))
    cascade = Cascade("c", ranks, (decl,), (Einsum(Access("Y", left), read),), ("Y",))
    for bits in WIDTHS:
        status, found = run(cascade, {"A": values}, bits)
        assert status == 0
        np.testing.assert_array_equal(found["Y"], values.transpose(order))


def test_hundreds_of_variables() -> None:
    """A product of 150 matrices, most of them 1 by 1, as one Einsum."""
    rng = np.random.default_rng(0)
    extents = [3 if n % 40 == 0 else 1 for n in range(151)]
    names = [f"k{n}" for n in range(151)]
    matrices = {f"A{n}": rng.normal(size=(extents[n], extents[n + 1])) for n in range(150)}
    factors = tuple(
        Access(f"A{n}", (RankExpr.of_variable(names[n]), RankExpr.of_variable(names[n + 1])))
        for n in range(150)
    )
    inputs = tuple(
        TensorDecl(f"A{n}", tuple(RankExpr.of_size(names[m].upper()) for m in (n, n + 1)))
        for n in range(150)
    )
    left = Access("Y", (RankExpr.of_variable(names[0]), RankExpr.of_variable(names[-1])))
    einsum = Einsum(left, Reduce("add", tuple(names[1:-1]), Map("mul", factors)))
    cascade = Cascade("c", tuple(Rank(n.upper()) for n in names), inputs, (einsum,), ("Y",))
    status, found = run(cascade, matrices)
    assert status == 0
    wanted: Array = np.linalg.multi_dot(list(matrices.values()))
    np.testing.assert_allclose(found["Y"], wanted, rtol=1e-12)


def test_sizes_are_not_baked_in() -> None:
    """One code, made for one shape, serves all; blocks and tiles included."""
    rng = np.random.default_rng(2)

    def operands(m: int, k: int, n: int) -> dict[str, Array]:
        a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
        return {"A": a, "B": b, "Y": np.full((m, n), np.nan)}

    for limits in (TINY, LIMITS):
        first = operands(40, 40, 40)
        cascade = classic_named("ij,jk->ik", first)
        native = Native(cascade, first, limits=limits)
        for shape in ((1, 1, 1), (0, 3, 4), (3, 0, 4), (3, 4, 0), (7, 100, 33), (90, 17, 65)):
            arrays = operands(*shape)
            assert native(arrays) == 0
            np.testing.assert_allclose(arrays["Y"], arrays["A"] @ arrays["B"], atol=1e-12)


def test_many_threads_in_one_kernel() -> None:
    rng = np.random.default_rng(2)
    arrays = {
        "A": rng.normal(size=(50, 60)),
        "B": rng.normal(size=(60, 70)),
        "Y": np.empty((50, 70)),
    }
    native = Native(classic_named("ij,jk->ik", arrays), arrays, limits=TINY)
    each = [{**arrays, "Y": np.full((50, 70), np.nan)} for _ in range(16)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(native, each)) == {0}
    for result in each:
        np.testing.assert_allclose(result["Y"], arrays["A"] @ arrays["B"])


def test_coordinates_filters_and_fills_together() -> None:
    """A causal band: Y[i] = sum of X[j] * (i - j) where j <= i, and X[i-2] or 7 outside."""
    i, j = RankExpr.of_variable("i"), RankExpr.of_variable("j")
    behind = Access("X", (RankExpr((Term(1, (), "i"),), -2),), Literal(7))
    distance = Map("sub", (Coordinate("i"), Coordinate("j")))
    body = Map("mul", (Access("X", (j,)), distance))
    below = Map("le", (Coordinate("j"), Coordinate("i")))
    einsums = (
        Einsum(Access("Y", (i,)), Reduce("add", ("j",), body), where=below),
        Einsum(Access("Z", (i,)), Map("add", (behind, Access("Y", (i,))))),
    )
    inputs = (TensorDecl("X", (RankExpr.of_size("I"),)),)
    ranks = (Rank("I"), Rank("J", RankExpr.of_size("I")))
    cascade = Cascade("c", ranks, inputs, einsums, ("Y", "Z"))
    x = np.arange(1, 24, dtype="i4")
    for bits in WIDTHS:
        status, found = run(cascade, {"X": x}, bits)
        assert status == 0
        expected = evaluate(sized(cascade, {"X": x}), {"X": x})
        for name in ("Y", "Z"):
            np.testing.assert_array_equal(found[name], expected[name])


def test_registers_of_inner_loops_end_with_them() -> None:
    """A reduction inside a reduction along the vector, whose last vector is not full."""
    i, j, k = (RankExpr.of_variable(v) for v in "ijk")
    inner = Reduce("max", ("k",), Map("mul", (Access("A", (i, j)), Access("B", (k,)))))
    einsum = Einsum(Access("Y", (i,)), Reduce("add", ("j",), Map("mul", (inner, inner))))
    inputs = (
        TensorDecl("A", (RankExpr.of_size("I"), RankExpr.of_size("J"))),
        TensorDecl("B", (RankExpr.of_size("K"),)),
    )
    cascade = Cascade("c", (Rank("I"), Rank("J"), Rank("K")), inputs, (einsum,), ("Y",))
    rng = np.random.default_rng(4)
    for extent in (1, 37):
        a, b = rng.integers(-3, 4, (2, extent)), rng.integers(-3, 4, 5)
        wanted = ((a[:, :, None] * b).max(-1) ** 2).sum(-1)
        for bits in WIDTHS:
            for limits in (LIMITS, TINY):
                status, found = run(cascade, {"A": a, "B": b}, bits, limits)
                assert status == 0
                np.testing.assert_array_equal(found["Y"], wanted)


def test_bfloat16_output_has_its_own_dtype() -> None:
    arrays = {"A_": np.ones((5, 9), ml_dtypes.bfloat16), "B_": np.ones((9, 3), ml_dtypes.bfloat16)}
    cascade = sized(classic("ij,jk->ik", "bf16"), arrays)
    assert empty_outputs(cascade)["Y"].dtype == ml_dtypes.bfloat16
    assert (run(cascade, arrays)[1]["Y"] == 9).all()
