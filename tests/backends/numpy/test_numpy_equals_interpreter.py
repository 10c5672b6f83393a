"""The NumPy backend computes what the interpreter says, on generated cascades and at the edges."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given

from einloom.backends.numpy.emit import emit
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import C64, DTYPES, F32, F64, I8, I32, DType
from einloom.ir.einsum import Access, Einsum, Expr, Literal, Map, Reduce
from einloom.ir.errors import EinloomError
from einloom.ir.infer import infer_dtypes
from einloom.ir.interpreter import evaluate
from einloom.ir.operators import OPERATORS, SEMIRINGS, Operator
from einloom.ir.ranks import Rank, RankExpr, Term
from einloom.ir.verify import verify
from einloom.passes.registry import default_pipeline

from ...cascades import (
    KINDS,
    Array,
    Sample,
    access,
    array,
    assert_close,
    classic,
    declaration,
    generals,
    product,
    products,
)
from .running import run


@given(products())
def test_products(sample: Sample) -> None:
    """The bound: |error| <= 4 n eps Σ|terms| + eps |result|, see `assert_close`; integers exact."""
    want = evaluate(sample.cascade, sample.arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # np.einsum gives none either
        got = run(sample.cascade, sample.arrays)
    assert_close(sample, got, want)


@given(products(exact=True))
def test_products_after_the_passes(sample: Sample) -> None:
    after, _ = default_pipeline().run(sample.cascade)
    want, got = evaluate(sample.cascade, sample.arrays), run(after, sample.arrays)
    assert_close(sample, got, want)


@given(generals())
def test_general_cascades(sample: Sample) -> None:
    """Small integers in every dtype, so that sums are exact in any order; errors are the same."""
    try:
        want = evaluate(sample.cascade, sample.arrays)
    except EinloomError as error:
        with pytest.raises(type(error)):
            run(sample.cascade, sample.arrays)
        return
    same_numbers(run(sample.cascade, sample.arrays), want)


def same_numbers(got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
    """Equal, but for rounding where products of many small numbers have grown."""
    for name, wanted in want.items():
        found = got[name]
        assert found.dtype == wanted.dtype
        if wanted.dtype == object:
            same_values(found, wanted)
            continue
        wide = np.float64 if wanted.dtype.kind in "fV" else wanted.dtype
        np.testing.assert_allclose(found.astype(wide), wanted.astype(wide), rtol=1e-4)


# ---- every operator of the table

OPERANDS = {
    "f64": [-2.5, -1.0, -0.0, 0.0, 0.3, 1.0, 2.5, float("inf"), float("-inf"), float("nan")],
    "f16": [-2.5, -1.0, 0.0, 0.3, 1.0, 2.5, float("nan")],
    "bf16": [-2.5, -1.0, 0.0, 0.3, 1.0, 2.5],
    "f32": [-2.5, -1.0, 0.0, 0.3, 1.0, 2.5],
    "longdouble": [-2.5, 0.0, 1.0],
    "i8": [-128, -2, -1, 0, 1, 3, 127],
    "i64": [-(2**63), -2, 0, 1, 3, 2**63 - 1],
    "u8": [0, 1, 2, 3, 255],
    "bool": [False, True],
    "c64": [1 + 2j, -0.5j, 0j, 2 + 0j],
    "c128": [1 + 2j, -0.5j, 2 + 0j],
    "object": [-3, 0, 2, 10**30],
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=lambda row: row.name)
def test_every_operator(operator: Operator) -> None:
    """On every dtype that it takes, and mixed ones: the same bits as the interpreter."""
    taken = 0
    for names in itertools.product(OPERANDS, repeat=min(operator.arity, 2)):
        if operator.arity == 3:
            names = ("bool", *names)
        taken += check_operator(operator, names)
    assert taken, "no dtype is taken"


def check_operator(operator: Operator, names: tuple[str, ...]) -> bool:
    """Applies the operator to all combinations of the operands' values; False if it has no type."""
    variables = "ijk"[: len(names)]
    if set(names) & {"object"} and operator.name in ("div", "mod", "floordiv", "pow", "shl", "shr"):
        return False  # Python raises where 10**30 is divided by zero, or shifted
    args = tuple(access(n, v) for n, v in zip("ABC", variables, strict=False))
    kinds: list[DType | None] = [I32, F32] if operator.name == "cast" else [None]
    if operator.name == "bitcast":
        kinds = [{16: DTYPES["u16"], 32: I32, 64: F64, 8: I8}.get(DTYPES[names[0]].bits)]
    done = False
    for dtype in kinds:
        expr = Map(operator.name, args, dtype)
        inputs = tuple(
            declaration(n, v, DTYPES[d]) for n, v, d in zip("ABC", variables, names, strict=False)
        )
        cascade = Cascade(
            "c",
            tuple(Rank(v.upper()) for v in variables),
            inputs,
            (Einsum(access("Y", variables), expr),),
            ("Y",),
        )
        arrays = {
            decl.name: np.array(OPERANDS[d], object).astype(DTYPES[d].numpy)
            for decl, d in zip(inputs, names, strict=True)
        }
        try:
            verify(cascade)
            infer_dtypes(cascade, {})
        except EinloomError:
            continue
        done = True
        try:
            want = evaluate(cascade, arrays)
        except (TypeError, ValueError, OverflowError):
            continue  # on objects, or a negative power of an integer: NumPy itself refuses
        same_values(run(cascade, arrays)["Y"], want["Y"])
    return done


def same_values(found: Array, wanted: Array) -> None:
    """Not a bit is different; any NaN is as good as another, in arrays of objects too."""
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    for a, b in zip(found.reshape(-1).tolist(), wanted.reshape(-1).tolist(), strict=True):
        assert a == b or (a != a and b != b), (found, wanted)


@pytest.mark.parametrize(
    "operator", [row for row in OPERATORS.values() if row.reducible], ids=lambda row: row.name
)
@pytest.mark.parametrize("semiring", ["sum_product", "max_times"])
def test_every_reduction(operator: Operator, semiring: str) -> None:
    """Over some, over nothing, over one of two variables, in a loop, and under a filter."""
    rng = np.random.default_rng(0)
    taken = 0
    for name, sizes in itertools.product(
        OPERANDS, ({"i": 2, "j": 3, "k": 2}, {"i": 2, "j": 0, "k": 2}, {"i": 0, "j": 3, "k": 1})
    ):
        dtype = DTYPES[name]
        plain: Expr = access("A", "ij")
        wide: Expr = Map("mul", (access("A", "ij"), access("B", "jk")))
        where = Map("lt", (access("F", "j"), Literal(1)))
        einsums = [
            Einsum(access("Y0", "i"), Reduce(operator.name, ("j",), plain), semiring),
            Einsum(access("Y1", "ik"), Reduce(operator.name, ("j",), wide), semiring),
            Einsum(access("Y2", "i"), Reduce(operator.name, ("j", "k"), plain), semiring),
            Einsum(access("Y3", "i"), Reduce(operator.name, ("j",), plain), semiring, where),
            Einsum(access("Y4", "ik"), Reduce(operator.name, ("j",), wide), semiring, where),
        ]
        ranks = tuple(Rank(v.upper(), sizes[v]) for v in "ijk")
        inputs = (*(declaration(n, v, dtype) for n, v in (("A", "ij"), ("B", "jk"))),)
        inputs = (*inputs, declaration("F", "j", I8))
        arrays = {
            decl.name: array(rng, decl.dtype or I8, [sizes[v] for v in axes], "small")
            for decl, axes in zip(inputs, ("ij", "jk", "j"), strict=True)
        }
        for einsum in einsums:
            cascade = verify(Cascade("c", ranks, inputs, (einsum,), (einsum.name,)))
            try:
                infer_dtypes(cascade, {})
            except EinloomError:
                continue
            taken += 1
            same_numbers(run(cascade, arrays), evaluate(cascade, arrays))
    assert taken


# ---- the edges


@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_extent_zero_gives_the_zero(semiring: str) -> None:
    for kind in SEMIRINGS[semiring].kinds:
        for name in KINDS[kind]:
            for equation in ("ij,jk->ik", "ij,jk->", "ij->i", "ij,jk->iik", "j->", "ij,ij->i"):
                for sizes in ({"i": 2, "j": 0, "k": 3}, {"i": 0, "j": 2, "k": 0}):
                    cascade = classic(equation, name, semiring, sizes)
                    terms = equation.partition("->")[0].split(",")
                    arrays = {
                        decl.name: np.zeros([sizes[v] for v in term], DTYPES[name].numpy)
                        for decl, term in zip(cascade.inputs, terms, strict=True)
                    }
                    want, got = evaluate(cascade, arrays), run(cascade, arrays)
                    np.testing.assert_array_equal(got["Y"], want["Y"])
                    assert got["Y"].dtype == want["Y"].dtype


def test_integers_wrap_and_are_exact() -> None:
    big = np.array([[2**62, 3], [5, 2**53 + 1]], np.int64)
    cascade = classic("ij,jk->ik", "i64")
    got = run(cascade, {"A_": big, "B_": big})["Y"]
    want = np.array(
        [
            [sum(int(big[i, j]) * int(big[j, k]) for j in range(2)) for k in range(2)]
            for i in range(2)
        ],
        object,
    )
    assert got.tolist() == ((want + 2**63) % 2**64 - 2**63).tolist()
    small = np.full((2, 300), 100, np.int8)
    narrow = run(classic("ij,kj->ik", "i8"), {"A_": small, "B_": small})["Y"]
    assert narrow.tolist() == [[(10_000 * 300 + 128) % 256 - 128] * 2] * 2
    wide = run(classic("ij,kj->ik", "i8", acc=I32), {"A_": small, "B_": small})["Y"]
    assert wide.tolist() == [[3_000_000] * 2] * 2


def test_bool_is_or_of_and() -> None:
    ones = np.ones((2, 70_000), bool)
    assert run(classic("ij,kj->ik", "bool"), {"A_": ones, "B_": ones})["Y"].all()
    none = np.zeros((2, 70_000), bool)
    assert not run(classic("ij,kj->ik", "bool"), {"A_": ones, "B_": none})["Y"].any()


def test_f16_is_summed_in_f32() -> None:
    ones = np.ones((1, 5000), np.float16)
    got = run(classic("ij,kj->ik", "f16"), {"A_": ones, "B_": ones})["Y"]
    assert got.tolist() == [[5000.0]]  # in f16 it would stop at 2048
    assert got.dtype == np.float16


def test_objects_are_python_numbers() -> None:
    a = np.array([[10**30, 1], [2, 3]], object)
    assert run(classic("ij,jk->ik", "object"), {"A_": a, "B_": a})["Y"].tolist() == (a @ a).tolist()
    got = run(classic("ij,ij->", "object"), {"A_": a, "B_": a})["Y"]
    assert got[()] == 10**60 + 1 + 4 + 9
    scalar = classic(",,->", "object")
    arrays = {name: np.array(10**12, object) for name in ("A_", "B_", "C_")}
    assert run(scalar, arrays)["Y"][()] == 10**36


def test_filters_of_max_times_leave_zero() -> None:
    """Nothing left is 0, but a negative maximum stays."""
    where = Map("gt", (access("M", "j"), Literal(0)))
    reduce = Reduce("max", ("j",), access("A", "ij"))
    einsum = Einsum(access("Y", "i"), reduce, "max_times", where)
    inputs = (declaration("A", "ij", F32), declaration("M", "j", F32))
    cascade = verify(Cascade("c", (Rank("I"), Rank("J")), inputs, (einsum,), ("Y",)))
    a = np.array([[-3, -2], [-5, -7]], np.float32)
    for mask, want in (([1, 1], [-2, -5]), ([1, 0], [-3, -5]), ([0, 0], [0, 0])):
        arrays = {"A": a, "M": np.array(mask, np.float32)}
        assert run(cascade, arrays)["Y"].tolist() == want
        same_numbers(run(cascade, arrays), evaluate(cascade, arrays))


def test_complex_max_of_the_least() -> None:
    reduce = Reduce("max", ("i",), access("A", "i"))
    inputs = (declaration("A", "i", C64),)
    cascade = verify(Cascade("c", (Rank("I"),), inputs, (Einsum(access("Y", ""), reduce),), ("Y",)))
    least = complex(-np.inf, -np.inf)
    for values in ([least, least], [complex(-np.inf, -5)], []):
        arrays = {"A": np.array(values, np.complex64)}
        np.testing.assert_array_equal(run(cascade, arrays)["Y"], evaluate(cascade, arrays)["Y"])


def test_what_lies_far_outside_does_not_take_memory() -> None:
    far = RankExpr((Term(10**6, (), "i"),), -5)
    einsum = Einsum(access("Y", "i"), Access("A", (far,), Literal(7)))
    cascade = verify(
        Cascade("c", (Rank("I", 1000),), (declaration("A", "0", F32),), (einsum,), ("Y",))
    )
    got = run(cascade, {"A": np.ones(1, np.float32)})["Y"]
    assert got.tolist() == [7.0] * 1000


@pytest.mark.parametrize(
    ("equation", "semiring"),
    [("ij,jk->ik", "max_plus"), ("ij,jk,kl->il", "sum_product"), ("ij,jk,ki->", "min_plus")],
)
def test_memory_is_bounded(equation: str, semiring: str) -> None:
    """An iteration space of 10^9 points is not held: some blocks of a million are."""
    n = 600
    sizes = dict.fromkeys("ijkl", n if equation.count(",") == 1 else 180)
    cascade = classic(equation, "f32", semiring, sizes)
    rng = np.random.default_rng(0)
    arrays = {
        decl.name: rng.standard_normal((sizes["i"],) * 2).astype(np.float32)
        for decl in cascade.inputs
    }
    tracemalloc.start()
    try:
        run(cascade, arrays)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


# ---- more of everything than NumPy has


def variables(count: int) -> list[str]:
    return [f"v{n}" for n in range(count)]


def test_many_operands_and_symbols_without_an_order() -> None:
    """A chain of 90 matrices in one Einsum: the space of 2^91 points is not walked."""
    names = variables(91)
    terms = [[names[n], names[n + 1]] for n in range(90)]
    cascade = product(
        terms, [names[0], names[-1]], [F64] * 90, "sum_product", dict.fromkeys(names, 2), None
    )
    rng = np.random.default_rng(0)
    arrays = {decl.name: rng.standard_normal((2, 2)) for decl in cascade.inputs}
    want = np.linalg.multi_dot(list(arrays.values()))
    np.testing.assert_allclose(run(cascade, arrays)["Y"], want, rtol=1e-9)


@pytest.mark.parametrize("semiring", ["sum_product", "max_plus", "min_max", "max_times"])
def test_a_product_of_many(semiring: str) -> None:
    count = 300
    cascade = product([["i"]] * count, ["i"], [F64] * count, semiring, {"i": 2}, None)
    arrays = {decl.name: np.array([1.001, 0.999]) for decl in cascade.inputs}
    want, got = evaluate(cascade, arrays), run(cascade, arrays)
    np.testing.assert_allclose(got["Y"], want["Y"], rtol=1e-9)


def test_a_loop_over_axes_that_an_array_cannot_have() -> None:
    """70 variables where the semiring's laws do not hold, so that nothing may be regrouped."""
    names = variables(70)
    sizes = dict.fromkeys(names, 1) | {"v0": 3, "v35": 2, "v69": 4}
    cascade = product([names[:40], names[30:]], [], [F64] * 2, "max_times", sizes, None)
    rng = np.random.default_rng(1)
    arrays = {
        decl.name: -np.abs(rng.standard_normal([sizes[v] for v in term]))
        for decl, term in zip(cascade.inputs, (names[:40], names[30:]), strict=True)
    }
    assert "np.ndindex" in emit(cascade).rpartition("@np.errstate")[2]
    left, right = arrays["A_"].reshape(3, 2), arrays["B_"].reshape(2, 4)
    want = (left[:, :, None] * right).max()
    np.testing.assert_allclose(run(cascade, arrays)["Y"], want)


@pytest.mark.parametrize("kind", ["transpose", "product", "contraction", "matrix product"])
def test_rank_64(kind: str) -> None:
    names = variables(62)
    sizes = dict.fromkeys(names, 1) | {"v0": 2, "v61": 3, "i": 2, "j": 3, "k": 4}
    first, second = [*names, "i", "j"], [*names, "j", "k"]
    rng = np.random.default_rng(0)
    a = rng.standard_normal([sizes[v] for v in first])
    b = rng.standard_normal([sizes[v] for v in second])
    if kind == "transpose":
        cascade = product([first], first[::-1], [F64], "sum_product", sizes, None)
        np.testing.assert_array_equal(run(cascade, {"A_": a})["Y"], a.T)
        return
    if kind == "product":
        cascade = product([first, first], first[::-1], [F64] * 2, "sum_product", sizes, None)
        np.testing.assert_array_equal(run(cascade, {"A_": a, "B_": a})["Y"], (a * a).T)
        return
    if kind == "contraction":
        cascade = product([first, first], names, [F64] * 2, "sum_product", sizes, None)
        got = run(cascade, {"A_": a, "B_": a})["Y"]
        np.testing.assert_allclose(got, (a * a).sum((-1, -2)))
        return
    cascade = product([first, second], [*names, "i", "k"], [F64] * 2, "sum_product", sizes, None)
    np.testing.assert_allclose(run(cascade, {"A_": a, "B_": b})["Y"], a @ b)


# ---- strides


@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,jk->ki", "ij,ij->i", "ij->ji", "ij,kj->ik"])
@pytest.mark.parametrize("dtype", ["f32", "c128", "i16"])
def test_strides(equation: str, dtype: str) -> None:
    numpy = DTYPES[dtype].numpy
    base = np.arange(7 * 9).reshape(7, 9).astype(numpy)
    unaligned = np.frombuffer(b"x" + base.tobytes(), np.uint8)[1:].view(numpy).reshape(7, 9)
    views = [base[:4, :4], base[::-1, ::-1][:4, :4], base[::2, ::2][:4, :4], base.T[:4, :4]]
    views += [np.broadcast_to(base[:1, :4], (4, 4)), np.broadcast_to(base[:4, :1], (4, 4))]
    views += [unaligned[:4, :4], base[3:, 1::2]]
    cascade = classic(equation, dtype)
    for a, b in itertools.product(views, repeat=2):
        arrays = {"A_": a, "B_": b}
        arrays = {decl.name: arrays[decl.name] for decl in cascade.inputs}
        want = evaluate(cascade, arrays)["Y"]
        np.testing.assert_allclose(run(cascade, arrays)["Y"], want, rtol=1e-6)


def test_a_window_over_a_strided_array() -> None:
    window = RankExpr((Term(1, (), "p"), Term(1, (), "r")))
    einsum = Einsum(access("Y", "p"), Reduce("max", ("r",), Access("X", (window,))))
    inputs = (declaration("X", "h", F64),)
    cascade = verify(
        Cascade("c", (Rank("H"), Rank("P", 4), Rank("R", 3)), inputs, (einsum,), ("Y",))
    )
    base = np.arange(20.0)
    for x in (base[:6], base[::-1][:6], base[::3][:6], np.broadcast_to(base[5:6], (6,))):
        np.testing.assert_array_equal(run(cascade, {"X": x})["Y"], evaluate(cascade, {"X": x})["Y"])
