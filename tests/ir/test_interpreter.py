"""The interpreter against loops over single elements, and every construct against its equation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import F16, F32, I32
from einloom.ir.einsum import Access, Coordinate, Einsum, Expr, Literal, Map, Reduce
from einloom.ir.errors import OperandError, RankError
from einloom.ir.interpreter import evaluate
from einloom.ir.operators import SEMIRINGS
from einloom.ir.ranks import Rank, RankExpr, Term
from einloom.ir.verify import verify


def read(tensor: str, variables: str) -> Access:
    return Access(tensor, tuple(RankExpr.of_variable(v) for v in variables))


def decl(tensor: str, variables: str) -> TensorDecl:
    return TensorDecl(tensor, tuple(RankExpr.of_size(v.upper()) for v in variables))


def cascade(einsum: Einsum, **inputs: str) -> Cascade:
    """One Einsum over inputs given by their variables; further ranks have extent 3."""
    declared = tuple(decl(name, variables) for name, variables in inputs.items())
    known = dict.fromkeys(v for variables in inputs.values() for v in variables)
    more = [v for v in einsum.free if v not in known]
    ranks = tuple(Rank(v.upper()) for v in known) + tuple(Rank(v.upper(), 3) for v in more)
    return verify(Cascade("c", ranks, declared, (einsum,), (einsum.name,)))


def product(terms: list[str], output: str, semiring: str = "sum_product") -> Cascade:
    ring = SEMIRINGS[semiring]
    names = "ABCDEFG"[: len(terms)]
    factors: tuple[Expr, ...] = tuple(read(n, t) for n, t in zip(names, terms, strict=True))
    body = factors[0] if len(factors) == 1 else Map(ring.mul, factors)
    summed = tuple(dict.fromkeys(v for t in terms for v in t if v not in output))
    expr = Reduce(ring.add, summed, body) if summed else body
    einsum = Einsum(read("Y", output), expr, semiring)
    return cascade(einsum, **dict(zip(names, terms, strict=True)))


ADD: dict[str, Callable[[float, float], float]] = {
    "sum_product": lambda a, b: a + b,
    "max_plus": max,
    "min_plus": min,
    "max_times": max,
    "min_max": min,
    "max_min": max,
    "log": lambda a, b: (
        max(a, b) + math.log1p(math.exp(-abs(a - b))) if a != b else a + math.log(2)
    ),
}
MUL: dict[str, Callable[[float, float], float]] = {
    "sum_product": lambda a, b: a * b,
    "max_plus": lambda a, b: a + b,
    "min_plus": lambda a, b: a + b,
    "max_times": lambda a, b: a * b,
    "min_max": max,
    "max_min": min,
    "log": lambda a, b: a + b,
}


def brute_force(
    terms: list[str], output: str, arrays: list[Any], sizes: dict[str, int], semiring: str
) -> Any:
    """The sum over all global positions, in Python numbers: the definition of arXiv 2509.20020."""
    add, mul = ADD[semiring], MUL[semiring]
    result = np.full([sizes[v] for v in output], complex(SEMIRINGS[semiring].zero).real)
    begun: set[tuple[int, ...]] = set()
    symbols = sorted(set("".join(terms) + output))
    for position in itertools.product(*(range(sizes[s]) for s in symbols)):
        at = dict(zip(symbols, position, strict=True))
        value: float | None = None
        for term, array in zip(terms, arrays, strict=True):
            factor = float(array[tuple(at[v] for v in term)])
            value = factor if value is None else mul(value, factor)
        here = tuple(at[v] for v in output)
        assert value is not None
        result[here] = add(float(result[here]), value) if here in begun else value
        begun.add(here)
    return result


CASES = [
    (["ij", "jk"], "ik"),
    (["ij"], "ji"),
    (["ii"], "i"),
    (["i"], "ii"),
    (["iij"], "j"),
    (["i", "j", "ij"], ""),
    (["ij", "jj"], "iji"),
    (["i"], "ij"),
    (["", "i"], "i"),
    ([""], ""),
    (["bij", "bjk", "bk"], "bi"),
]


@pytest.mark.parametrize("semiring", sorted(ADD))
@pytest.mark.parametrize(("terms", "output"), CASES, ids=str)
@pytest.mark.parametrize("extent", [0, 1, 3])
def test_products_equal_the_definition(
    terms: list[str], output: str, semiring: str, extent: int
) -> None:
    rng = np.random.default_rng(1)
    sizes = {"i": extent, "j": 3, "k": 2, "b": 2}
    arrays = [rng.standard_normal([sizes[v] for v in term]) for term in terms]
    inputs = dict(zip("ABCDEFG", arrays, strict=False))
    found = evaluate(product(terms, output, semiring), inputs)["Y"]
    expected = brute_force(terms, output, arrays, sizes, semiring)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def one(expr: Expr, output: str, arrays: dict[str, Any], **options: Any) -> Any:
    """The value of one Einsum of `expr`, its inputs indexed by i, j, ... in order."""
    inputs = {name: "ijkl"[: np.ndim(array)] for name, array in arrays.items()}
    return evaluate(cascade(Einsum(read("Y", output), expr, **options), **inputs), arrays)["Y"]


X = np.arange(12.0).reshape(3, 4)


def test_a_nested_reduction() -> None:
    softmax = Map(
        "div",
        (Map("exp", (read("X", "ij"),)), Reduce("add", ("k",), Map("exp", (read("X", "ik"),)))),
    )
    einsum = Einsum(read("Y", "ij"), softmax)
    ranks = (Rank("I"), Rank("J"), Rank("K", RankExpr.of_size("J")))
    c = verify(Cascade("c", ranks, (decl("X", "ij"),), (einsum,), ("Y",)))
    expected = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    np.testing.assert_allclose(evaluate(c, {"X": X})["Y"], expected)


def test_a_filter_keeps_points_and_leaves_the_identity() -> None:
    causal = Map("lt", (Coordinate("j"), Coordinate("i")))
    found = one(Reduce("max", ("j",), read("X", "ij")), "i", {"X": X}, where=causal)
    np.testing.assert_array_equal(found, [-np.inf, 4, 9])


def test_an_elementwise_filter_has_an_else() -> None:
    causal = Map("lt", (Coordinate("j"), Coordinate("i")))
    found = one(read("X", "ij"), "ij", {"X": X}, where=causal, otherwise=Literal(-1))
    np.testing.assert_array_equal(found, np.where(np.tril(np.ones((3, 4)), -1), X, -1))


def window(variable: str, offset: int, fill: Literal | None = None) -> Access:
    index = RankExpr((Term(1, (), variable), Term(1, (), "r")), offset)
    return Access("X", (index,), fill)


def test_affine_reads_and_fills() -> None:
    x, f = np.arange(1.0, 6.0), np.array([1.0, 10.0, 100.0])
    ranks = (Rank("H"), Rank("R"), Rank("P", RankExpr((Term(1, ("H",)), Term(-1, ("R",))), 1)))
    inputs = (decl("X", "h"), decl("F", "r"))
    inner = Reduce("add", ("r",), Map("mul", (window("p", 0), read("F", "r"))))
    valid = verify(Cascade("c", ranks, inputs, (Einsum(read("Y", "p"), inner),), ("Y",)))
    np.testing.assert_array_equal(evaluate(valid, {"X": x, "F": f})["Y"], [321, 432, 543])
    padded = Reduce("add", ("r",), Map("mul", (window("h", -1, Literal(0)), read("F", "r"))))
    same = verify(Cascade("c", ranks[:2], inputs, (Einsum(read("Y", "h"), padded),), ("Y",)))
    np.testing.assert_array_equal(evaluate(same, {"X": x, "F": f})["Y"], [210, 321, 432, 543, 54])
    outside = Reduce("add", ("r",), Map("mul", (window("h", -1), read("F", "r"))))
    wrong = verify(Cascade("c", ranks[:2], inputs, (Einsum(read("Y", "h"), outside),), ("Y",)))
    with pytest.raises(RankError, match=r"X is read at -1\.\.3 on a rank of extent 5"):
        evaluate(wrong, {"X": x, "F": f})


def test_a_gather_reads_where_another_tensor_says() -> None:
    gather = Access("X", (read("J", "b"), RankExpr.of_variable("e")))
    ranks = (Rank("V"), Rank("E"), Rank("B"))
    inputs = (decl("X", "ve"), decl("J", "b"))
    c = verify(Cascade("c", ranks, inputs, (Einsum(read("Y", "be"), gather),), ("Y",)))
    np.testing.assert_array_equal(evaluate(c, {"X": X, "J": np.array([2, 0])})["Y"], X[[2, 0]])
    for outside in (3, -1):
        with pytest.raises(RankError, match="X is read at"):
            evaluate(c, {"X": X, "J": np.array([0, outside])})


def test_coordinates_sizes_and_literals_are_values() -> None:
    value = Map("add", (Map("mul", (Coordinate("i"), Coordinate("J"))), Coordinate("j")))
    found = one(Map("sub", (value, read("X", "ij"))), "ij", {"X": X})
    np.testing.assert_array_equal(found, np.zeros((3, 4)))


def test_a_declared_dtype_widens_the_product_and_the_sum() -> None:
    a = np.full((2, 2), 100, np.int8)
    expr = Reduce("add", ("j",), Map("mul", (read("A", "ij"), read("B", "ij"))))
    np.testing.assert_array_equal(one(expr, "i", {"A": a, "B": a}, dtype=I32), [20000, 20000])
    narrow = one(expr, "i", {"A": a, "B": a})
    assert narrow.dtype == np.int8
    np.testing.assert_array_equal(narrow, np.array([20000] * 2).astype(np.int8))


def test_half_precision_rounds_once() -> None:
    a = np.full(3000, 1, np.float16)
    total = one(Reduce("add", ("i",), read("A", "i")), "", {"A": a})
    assert total.dtype == np.float16
    assert total == 3000  # folding in f16 would stop at 2048
    product = Map("mul", (read("A", "i"), Literal(1e6), Literal(1e-6)))
    np.testing.assert_allclose(one(product, "i", {"A": a}), a, rtol=1e-3)


def test_a_chain_converts_to_the_common_type_first() -> None:
    a = np.array([100], np.int8)
    product = Map("mul", (read("A", "i"), read("B", "i"), read("C", "i")))
    np.testing.assert_array_equal(
        one(product, "i", {"A": a, "B": a, "C": np.array([1.0])}), [10000]
    )


def test_casts() -> None:
    z = np.array([1.5 + 2j, -2.5])
    np.testing.assert_array_equal(
        one(Map("cast", (read("Z", "i"),), F32), "i", {"Z": z}), [1.5, -2.5]
    )
    bits = one(Map("bitcast", (read("X", "i"),), I32), "i", {"X": np.array([1.0], np.float32)})
    assert bits[0] == 0x3F800000
    rounded = Map("sub", (Map("cast", (read("X", "i"),), F16), read("X", "i")))
    assert one(rounded, "i", {"X": np.array([2049.0], np.float32)})[0] == -1


def test_a_tensor_of_64_ranks() -> None:
    names = [f"R{number}" for number in range(64)]
    ranks = tuple(Rank(name) for name in names)
    variables = tuple(RankExpr.of_variable(name.lower()) for name in names)
    decl64 = TensorDecl("X", tuple(RankExpr.of_size(name) for name in names))
    flipped = Einsum(Access("Y", variables[::-1]), Access("X", variables))
    x = np.arange(4.0).reshape((2,) + (1,) * 62 + (2,))
    c = verify(Cascade("c", ranks, (decl64,), (flipped,), ("Y",)))
    np.testing.assert_array_equal(evaluate(c, {"X": x})["Y"].reshape(2, 2), [[0, 2], [1, 3]])


def test_keep_returns_intermediates() -> None:
    double = Einsum(read("D", "ij"), Map("add", (read("X", "ij"), read("X", "ij"))))
    total = Einsum(Access("Y"), Reduce("add", ("i", "j"), read("D", "ij")))
    c = verify(Cascade("c", (Rank("I"), Rank("J")), (decl("X", "ij"),), (double, total), ("Y",)))
    found = evaluate(c, {"X": X}, keep=["D"])
    np.testing.assert_array_equal(found["D"], 2 * X)
    assert found["Y"] == 2 * X.sum()
    with pytest.raises(OperandError, match="keep= names Z"):
        evaluate(c, {"X": X}, keep=["Z"])


def test_inputs_that_do_not_fit() -> None:
    c = product(["ij", "jk"], "ik")
    with pytest.raises(RankError, match="rank J has extent 4 in A but 3 in B"):
        evaluate(c, {"A": X, "B": X})
    with pytest.raises(RankError, match="A has 2 ranks but was given an array of 1"):
        evaluate(c, {"A": X[0], "B": X})
    with pytest.raises(OperandError, match="is missing"):
        evaluate(c, {"A": X})
    with pytest.raises(OperandError, match="has no input Q"):
        evaluate(c, {"A": X, "B": X, "Q": X})
    with pytest.raises(OperandError, match="no einsum arithmetic"):
        evaluate(c, {"A": X, "B": np.array([["a"]])})


def test_a_fill_is_read_as_identities_are() -> None:
    for fill, expected in ((float("inf"), 127), (float("-inf"), -128), (2.7, 2), (-1, -1)):
        access = Access("X", (RankExpr((Term(1, (), "i"),), 1),), Literal(fill))
        found = one(access, "i", {"X": np.zeros(2, np.int8)})
        np.testing.assert_array_equal(found, [0, expected])
    nonzero = Access("X", (RankExpr((Term(1, (), "i"),), 1),), Literal(-2.5))
    np.testing.assert_array_equal(one(nonzero, "i", {"X": np.zeros(2, bool)}), [False, True])


def test_a_gather_from_nothing_gives_nothing() -> None:
    gather = Map("mul", (Access("A", (read("X", "i"), RankExpr.of_variable("i"))), read("A", "ji")))
    inputs = (decl("A", "ji"), decl("X", "i"))
    ranks = (Rank("J"), Rank("I"))
    c = verify(Cascade("c", ranks, inputs, (Einsum(read("Y", "ij"), gather),), ("Y",)))
    found = evaluate(c, {"A": np.zeros((0, 3)), "X": np.zeros(3, np.int64)})["Y"]
    assert found.shape == (3, 0)


def test_what_reads_a_scan_above_its_end_advances_with_it() -> None:
    text = """
    cascade f(A[V,N]: f64) -> I, G, Y {
      ranks M = N
      D[0,n]         = 0
      F[v,n], I[v,n] = max[m] (D[v,m] + A[v,m] * n)
      G[v]           = max[n] F[v,n]
      D[v+1,n]       = F[v,n]
      Y[n]           = D[V,n]
    }"""
    a = np.array([[1.0, 3.0], [2.0, -5.0]])
    state, places, largest = np.zeros(2), list[Any](), list[Any]()
    for row in a:
        weights = state + row * np.arange(2.0)[:, None]
        places.append(weights.argmax(1))
        state = weights.max(1)
        largest.append(state.max())
    found = evaluate(parse_cascade(text), {"A": a})
    np.testing.assert_array_equal(found["I"], places)
    np.testing.assert_array_equal(found["G"], largest)
    np.testing.assert_array_equal(found["Y"], state)
