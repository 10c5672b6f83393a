"""What a reduction may fold, when a product may be regrouped, and scalars of unusual types."""

from __future__ import annotations

import numpy as np
import pytest

from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import BOOL, C64, DTYPES, F16, F32, F64, I8, I16, I32, I64, U8, DType
from einloom.ir.einsum import Einsum, Expr, Literal, Map, Reduce
from einloom.ir.errors import OperandError
from einloom.ir.infer import infer_dtypes, regroups
from einloom.ir.interpreter import evaluate
from einloom.ir.ranks import Rank
from einloom.ir.verify import verify

from ..cascades import access, classic, declaration

OBJECT = DTYPES["object"]


def one(expr: Expr, dtype: DType, indices: str = "i", output: str = "") -> Cascade:
    """`Y[output] = expr` over one input A."""
    ranks = tuple(Rank(v.upper()) for v in dict.fromkeys(indices + output))
    inputs = (declaration("A", indices, dtype),)
    return verify(Cascade("c", ranks, inputs, (Einsum(access("Y", output), expr),), ("Y",)))


@pytest.mark.parametrize(
    ("op", "dtype", "allowed"),
    [
        ("or", F32, False),
        ("xor", F64, False),
        ("logaddexp", I32, False),  # its value is a float, which the sum would not keep
        ("logaddexp", F16, True),
        ("add", BOOL, True),
        ("max", C64, True),
        ("and", OBJECT, True),
    ],
)
def test_a_reduction_keeps_its_type(op: str, dtype: DType, allowed: bool) -> None:
    cascade = one(Reduce(op, ("i",), access("A", "i")), dtype)
    if allowed:
        assert infer_dtypes(cascade, {})["Y"] == dtype
    else:
        with pytest.raises(OperandError):
            infer_dtypes(cascade, {})


def test_the_declared_type_is_reduced_and_multiplied_in() -> None:
    with pytest.raises(OperandError):
        infer_dtypes(classic("i->", "i8", "boolean", acc=I8), {})
    with pytest.raises(OperandError):  # u64 and i8 meet in f64, which has no bits to combine
        infer_dtypes(classic("i,i->", "u64,bool", "xor_and", acc=I8), {})
    assert infer_dtypes(classic("i,i->", "u8,bool", "xor_and", acc=I8), {})["Y"] == I8
    wide = classic("i->", "bool", "log", {"i": 3}, acc=F32)  # bools are folded as floats
    got = evaluate(wide, {"A_": np.array([True, False, True])})["Y"]
    np.testing.assert_allclose(got, np.log(2 * np.e + 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("dtypes", "semiring", "acc", "answer"),
    [
        ("f32", "sum_product", None, True),
        ("f16", "sum_product", F32, True),
        ("i8", "sum_product", I32, True),
        ("i64", "sum_product", U8, True),  # all of it modulo 256
        ("f32", "sum_product", I8, False),  # each product loses its fraction first
        ("i64", "sum_product", BOOL, False),  # 1 + -1 is nothing, true or true is something
        ("i64", "min_max", I16, False),  # the least of what is cut off is not the least cut off
        ("i64", "min_max", None, True),
        ("i8", "min_max", I64, True),
        ("f32", "max_times", None, False),
        ("bool", "max_times", None, True),
        ("i32", "max_plus", None, False),
        ("f32", "max_plus", F64, True),
        ("u8", "xor_and", None, True),
    ],
)
def test_regroups(dtypes: str, semiring: str, acc: DType | None, answer: bool) -> None:
    cascade = classic("ij,jk->ik", dtypes, semiring, acc=acc)
    assert regroups(cascade.einsums[0], infer_dtypes(cascade, {})) is answer


def test_bits_are_those_of_the_stored_type() -> None:
    """f16 is computed in f32, but its bits are its own; a scalar has bits too."""
    halves = np.array([1.5, -2], np.float16)
    bits = Map("bitcast", (access("A", "i"),), I16)
    got = evaluate(one(bits, F16, "i", "i"), {"A": halves})["Y"]
    assert got.tolist() == halves.view(np.int16).tolist()
    scalar = Map("bitcast", (access("A", ""),), I32)
    assert evaluate(one(scalar, F32, ""), {"A": np.float32(1)})["Y"] == 0x3F800000


def test_object_scalars_stay_objects() -> None:
    """NumPy unwraps them to Python numbers, of which it would make an i64."""
    a = access("A", "")
    square: Expr = Map("mul", (a, a))
    expr = Map("mul", (Map("add", (square, square)), Map("add", (square, square))))
    got = evaluate(one(expr, OBJECT, ""), {"A": np.array(10**12, object)})["Y"]
    assert got[()] == 4 * 10**48
    cast = Map("cast", (access("A", ""),), OBJECT)
    assert evaluate(one(cast, C64, ""), {"A": np.complex64(1 + 2j)})["Y"][()] == 1 + 2j


def test_literals_alone() -> None:
    expr = Map("add", (Literal(1), Literal(2.5), Literal(3)))
    cascade = one(expr, F32, "i")
    assert infer_dtypes(cascade, {})["Y"] == F64
    assert evaluate(cascade, {"A": np.zeros(1, np.float32)})["Y"] == 6.5
    with pytest.raises(OperandError):
        infer_dtypes(one(Map("floordiv", (access("A", ""), Literal(0))), OBJECT, ""), {})
