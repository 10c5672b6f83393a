"""Each operator on each dtype through the code generator, on ordinary and on special operands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import BOOL, DTYPES, F32, F64, I8, DType
from einloom.ir.einsum import Access, Einsum, Expr, Literal, Map, Reduce
from einloom.ir.errors import EinloomError
from einloom.ir.infer import infer_dtypes
from einloom.ir.interpreter import evaluate
from einloom.ir.operators import OPERATORS
from einloom.ir.ranks import Rank, RankExpr

from .native import WIDTHS, Array, run, sized

NATIVE = [dtype for dtype in DTYPES.values() if not dtype.is_host_only]

#: Other pairs of operands: different kinds, widths and signs.
PAIRS = (
    *(("i8", "f32"), ("u64", "i64"), ("i64", "u64"), ("f16", "f32"), ("bf16", "f16")),
    *(("bool", "i8"), ("i32", "c64"), ("u8", "i16"), ("f32", "f64")),
)

#: A length that no vector divides, and more than the longest tile.
LENGTH = 131

#: Operators whose last digits depend on the C library, in units of the last place.
LOOSE = frozenset(
    ("exp", "exp2", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "cos")
) | frozenset(("pow", "logaddexp", "abs", "sign", "div", "rsqrt", "sqrt"))


@pytest.fixture(autouse=True)
def nothing_to_say() -> Iterator[None]:
    """NaN, infinities and overflow are meant here."""
    with np.errstate(all="ignore"):
        yield


def operands(rng: np.random.Generator, dtype: DType, count: int) -> Array:
    """Ordinary values, and the special ones of the dtype."""
    kind = dtype.numpy
    if dtype.kind == "bool":
        return rng.random(count) < 0.5
    if dtype.is_integer:
        info = np.iinfo(kind)
        found: Array = rng.integers(max(info.min, -9), 9, count).astype(kind)
        special: Any = [info.min, info.max, 0, 1, info.max - 1, info.min + 1, 7, 8]
        if dtype.kind == "signed":
            special += [-1, -2]
    elif dtype.kind == "complex":
        return (rng.normal(size=count) + 1j * rng.normal(size=count)).astype(kind)
    else:
        found = (3 * rng.normal(size=count)).astype(kind)
        special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 2.5, -2.5, 1e-3, 40.0]
    chosen = rng.random(count) < 0.4
    found[chosen] = rng.choice(np.array(special, kind), int(chosen.sum()))
    return found


def elementwise(maps: list[tuple[Map, list[DType]]], seed: int = 0) -> tuple[Cascade, Any]:
    """A Cascade of one Einsum for each Map that is defined; Maps read A0, A1, ... of their own."""
    rng = np.random.default_rng(seed)
    inputs: list[TensorDecl] = []
    arrays: dict[str, Array] = {}
    einsums: list[Einsum] = []
    index = (RankExpr.of_variable("i"),)
    for number, (node, dtypes) in enumerate(maps):
        names = [f"A{number}_{n}" for n in range(len(dtypes))]
        args: list[Expr] = [Access(name, index) for name in names]
        args += [arg for arg in node.args if isinstance(arg, Literal)]
        einsum = Einsum(Access(f"Y{number}", index), Map(node.op, tuple(args), node.dtype))
        decls = [
            TensorDecl(name, (RankExpr.of_size("I"),), dtype)
            for name, dtype in zip(names, dtypes, strict=True)
        ]
        whole = Cascade("f", (Rank("I", LENGTH),), tuple(decls), (einsum,), (einsum.name,))
        try:
            infer_dtypes(whole, {})
        except EinloomError:
            continue
        inputs += decls
        einsums.append(einsum)
        for name, dtype in zip(names, dtypes, strict=True):
            arrays[name] = operands(rng, dtype, LENGTH)
    cascade = Cascade(
        "f",
        (Rank("I", LENGTH),),
        tuple(inputs),
        tuple(einsums),
        tuple(einsum.name for einsum in einsums),
    )
    return cascade, arrays


def assert_same(node: str, found: Array, wanted: Array) -> None:
    """Equal; for functions of the C library up to some units in the last place."""
    assert found.dtype == wanted.dtype
    if wanted.dtype.kind in "?biu":
        np.testing.assert_array_equal(found, wanted)
        return
    wide = "c16" if wanted.dtype.kind == "c" else "f8"
    a: Any = found.astype(wide)
    b: Any = wanted.astype(wide)
    for x, y in ((a.real, b.real), (a.imag, b.imag)):
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        np.testing.assert_array_equal(x[np.isinf(y)], y[np.isinf(y)])
    finite = np.isfinite(b)
    single = wanted.dtype.kind == "c" and wanted.dtype.itemsize == 8
    finfo: Any = ml_dtypes.finfo
    eps = float(finfo(np.dtype("f4") if single else wanted.dtype).eps)
    if wanted.dtype.itemsize == 16:
        eps = float(np.finfo("f8").eps)
    slack = 64 if node in LOOSE else 4
    allowed = slack * eps * (np.abs(b[finite]) + (1 if node in LOOSE else 0))
    assert (np.abs(a[finite] - b[finite]) <= allowed).all()


def check(cascade: Cascade, arrays: Any, bits: int, op: str) -> None:
    status, found = run(cascade, arrays, bits)
    assert status == 0
    for name, wanted in evaluate(sized(cascade, arrays), arrays).items():
        assert_same(op, found[name], wanted)


@pytest.mark.parametrize("op", [op for op in OPERATORS if op not in ("cast", "bitcast")])
def test_each_operator_on_each_dtype(op: str) -> None:
    arity = OPERATORS[op].arity
    groups = [[dtype] * arity for dtype in NATIVE]
    if op == "select":
        groups = [[BOOL, dtype, dtype] for dtype in NATIVE]
    if arity == 2:
        groups += [[DTYPES[a], DTYPES[b]] for a, b in PAIRS]
    maps = [(Map(op, ()), group) for group in groups]
    if arity == 2:
        literals: list[bool | int | float] = [2, 0.5, -3, True]
        maps += [
            (Map(op, (Literal(number),)), [dtype])
            for dtype in (NATIVE if op == "pow" else NATIVE[::3])
            for number in literals
        ]
    cascade, arrays = elementwise(maps)
    check(cascade, arrays, WIDTHS[0], op)


@pytest.mark.parametrize("bits", WIDTHS[1:])
def test_some_operators_in_narrow_vectors(bits: int) -> None:
    ops = ["floordiv", "mod", "max", "sign", "round", "pow"]
    for op in ops:
        arity = OPERATORS[op].arity
        maps = [
            (Map(op, ()), [DTYPES[d]] * arity) for d in ("i8", "u16", "i64", "f16", "f32", "f64")
        ]
        check(*elementwise(maps), bits, op)


@pytest.mark.parametrize("bits", WIDTHS)
def test_each_cast(bits: int) -> None:
    for op in ("cast", "bitcast"):
        maps = [(Map(op, (), to), [dtype]) for dtype in NATIVE for to in NATIVE]
        maps = [(m, d) for m, d in maps if not (d[0].is_inexact and _integer(m.dtype))]
        check(*elementwise(maps), bits, op)


def _integer(dtype: DType | None) -> bool:
    return dtype is not None and dtype.is_integer


def test_floats_become_integers_toward_zero() -> None:
    """Where C defines it; in range, both signs, fractions."""
    values = np.array([0.0, -0.0, 0.5, -0.5, 1.9, -1.9, 100.7, -100.7, 127.0, -128.0])
    for source in (F32, F64):
        for to in (I8, DTYPES["i16"], DTYPES["i32"], DTYPES["i64"]):
            cascade, _ = elementwise([(Map("cast", (), to), [source])])
            array = np.resize(values, LENGTH).astype(source.numpy)
            status, found = run(cascade, {"A0_0": array})
            assert status == 0
            np.testing.assert_array_equal(found["Y0"], np.trunc(array).astype(to.numpy))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_sixteen_bit_floats_round_once(name: str, bits: int) -> None:
    """Every value widens exactly; ties, subnormals, overflow and NaN narrow as NumPy has them."""
    half: Any = np.dtype("f2") if name == "f16" else np.dtype(ml_dtypes.bfloat16)
    every = np.arange(1 << 16, dtype=np.uint16)
    widened = convert(every.view(half), F32, bits)
    expected = every.view(half).astype("f4")
    np.testing.assert_array_equal(widened, expected)
    # Between each two neighbours: the middle, and its own neighbours.
    middle = expected.view("u4") + (1 << (12 if name == "f16" else 15))
    near = np.concatenate([middle - 1, middle, middle + 1]).view("f4")
    narrowed = convert(near, DTYPES[name], bits).astype("f4")
    np.testing.assert_array_equal(narrowed, near.astype(half).astype("f4"))
    # A double beside such a middle does not round to it first.
    doubles = middle.view("f4").astype("f8")
    doubles = doubles[np.isfinite(doubles)]
    middles = doubles.astype("f4")
    for sign in (1, -1):
        beside = np.nextafter(middles, np.sign(middles) * np.float32(sign * np.inf))
        wanted = beside.astype(half).astype("f4")
        found = convert(doubles * (1 + sign * 2.0**-45), DTYPES[name], bits)
        np.testing.assert_array_equal(found.astype("f4"), wanted)


def convert(values: Array, to: DType, bits: int) -> Array:
    index = (RankExpr.of_variable("i"),)
    einsum = Einsum(Access("Y", index), Map("cast", (Access("A", index),), to))
    decl = TensorDecl("A", (RankExpr.of_size("I"),))
    status, found = run(Cascade("f", (Rank("I"),), (decl,), (einsum,), ("Y",)), {"A": values}, bits)
    assert status == 0
    return found["Y"]


@pytest.mark.parametrize("op", [op for op, row in OPERATORS.items() if row.reducible])
def test_each_reduction(op: str) -> None:
    """Along the vector, across it, and of nothing; NaN, infinities and signs of zero included."""
    rng = np.random.default_rng(5)
    index = [RankExpr.of_variable(v) for v in "ij"]
    einsums: list[Einsum] = []
    arrays: dict[str, Array] = {}
    inputs: list[TensorDecl] = []
    sizes = {"I": 5, "J": 37, "K": 0}
    for number, dtype in enumerate(NATIVE):
        name = f"A{number}"
        decl = TensorDecl(name, (RankExpr.of_size("I"), RankExpr.of_size("J")), dtype)
        empty = TensorDecl(name + "e", (RankExpr.of_size("I"), RankExpr.of_size("K")), dtype)
        read = Access(name, tuple(index))
        none = Access(name + "e", (index[0], RankExpr.of_variable("k")))
        own = [
            Einsum(Access(f"R{number}", (index[0],)), Reduce(op, ("j",), read)),
            Einsum(Access(f"C{number}", (index[1],)), Reduce(op, ("i",), read)),
            Einsum(Access(f"E{number}", (index[0],)), Reduce(op, ("k",), none)),
        ]
        ranks = tuple(Rank(rank, extent) for rank, extent in sizes.items())
        try:
            if op == "logaddexp" and not dtype.is_inexact:
                continue
            values = operands(rng, dtype, 5 * 37).reshape(5, 37)
            if op in ("add", "mul", "logaddexp") and dtype.kind == "float":
                values = rng.uniform(0.5, 1.5, (5, 37)).astype(dtype.numpy)
                values[0, 3], values[1, 0], values[2, 5] = np.inf, np.nan, -np.inf
            trial = Cascade("f", ranks, (decl, empty), tuple(own), tuple(e.name for e in own))
            infer_dtypes(trial, {})
            given = {name: values, name + "e": np.empty((5, 0), dtype.numpy)}
            evaluate(trial, given)
        except (EinloomError, TypeError):
            continue  # NumPy has no such loop
        arrays |= given
        inputs += [decl, empty]
        einsums += own
    ranks = tuple(Rank(rank, extent) for rank, extent in sizes.items())
    names = tuple(einsum.name for einsum in einsums)
    cascade = Cascade("f", ranks, tuple(inputs), tuple(einsums), names)
    expected = evaluate(cascade, arrays)
    for bits in WIDTHS if op in ("max", "add") else WIDTHS[:1]:
        status, found = run(cascade, arrays, bits)
        assert status == 0
        for name, wanted in expected.items():
            assert_same("div", found[name], wanted)


def test_a_sum_keeps_the_sign_of_zero() -> None:
    values = np.full((3, 40), -0.0, "f4")
    index = [RankExpr.of_variable(v) for v in "ij"]
    einsum = Einsum(Access("Y", (index[0],)), Reduce("add", ("j",), Access("A", tuple(index))))
    decl = TensorDecl("A", (RankExpr.of_size("I"), RankExpr.of_size("J")))
    cascade = Cascade("f", (Rank("I"), Rank("J")), (decl,), (einsum,), ("Y",))
    assert np.signbit(run(cascade, {"A": values})[1]["Y"]).all()
    assert not np.signbit(run(cascade, {"A": values[:, :0]})[1]["Y"]).any()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["c64", "c128"])
def test_whole_powers_of_complex_numbers_are_numpys_to_the_bit(dtype: str, bits: int) -> None:
    parts = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e30, 3.42, 1e-30, 300]
    exponents = [1, 2, 3, 4, 5, 31, -1, -2, -3, -7, 0]
    kind = DTYPES[dtype]
    points = [(complex(x, y), n) for x in parts for y in parts for n in exponents]
    cascade, arrays = elementwise([(Map("pow", ()), [kind, kind]), (Map("rsqrt", ()), [kind])])
    cascade = replace(cascade, ranks=(Rank("I", len(points)),))
    first, second, third = arrays
    arrays = {
        first: np.array([point for point, _ in points], kind.numpy),
        second: np.array([exponent for _, exponent in points], kind.numpy),
        third: np.zeros(len(points), kind.numpy),
    }
    status, found = run(cascade, arrays, bits)
    assert status == 0
    for name, wanted in evaluate(sized(cascade, arrays), arrays).items():
        np.testing.assert_array_equal(found[name], wanted)
