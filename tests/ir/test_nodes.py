"""Values of the IR: index arithmetic, spans and errors, JSON, inference."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from einloom.ir.cascade import Cascade, TensorDecl, fresh_name
from einloom.ir.dtypes import BF16, DTYPES, F32, F64, I64, DType, as_dtype, of_numpy
from einloom.ir.einsum import Access, Einsum, Literal, Map, Reduce, free_variables, rewrite_leaves
from einloom.ir.errors import EinloomError, OperandError, ParseError, RankError
from einloom.ir.infer import expr_dtype, infer_dtypes
from einloom.ir.ranks import Rank, RankExpr, Term, affine
from einloom.ir.sizes import infer_sizes
from einloom.ir.source import Source, Span, cover

M0 = Term(1, ("M0",), "m1")


def size(rank: str) -> RankExpr:
    return RankExpr.of_size(rank)


def variable(name: str) -> RankExpr:
    return RankExpr.of_variable(name)


# ---- index expressions


def test_index_expressions_print_as_they_are_written() -> None:
    assert str(RankExpr((M0, Term(1, (), "m0")))) == "m1*M0+m0"
    assert str(RankExpr((Term(1, ("M",), None), Term(-1, (), "m")), -1)) == "M-m-1"
    assert str(RankExpr((Term(-2, (), "m"),))) == "-2*m"
    assert str(RankExpr()) == "0"


def test_substitution_multiplies_out_and_adds_up() -> None:
    index = RankExpr((Term(2, (), "x"), Term(1, (), "r")), -1)
    found = index.substitute({"x": RankExpr((Term(1, (), "r"),), 3)})
    assert found == RankExpr((Term(3, (), "r"),), 5)
    assert index.substitute({"q": variable("r")}) is index
    scaled = RankExpr((M0,)).substitute({"m1": RankExpr((Term(1, (), "k"),), 2)})
    assert scaled.coefficients({"M0": 8}) == ({"k": 8}, 16)


def test_normal_form_drops_what_cancels() -> None:
    assert affine([Term(1, (), "i"), Term(-1, (), "i"), Term(2)], 3) == RankExpr((), 5)


def test_what_an_index_is() -> None:
    assert variable("i").variable == "i"
    assert size("I").rank == "I"
    assert RankExpr((), 4).constant == 4
    mixed = RankExpr((Term(2, (), "i"),))
    assert (mixed.variable, mixed.rank, mixed.constant) == (None, None, None)


# ---- spans and errors


def test_carets_stand_under_what_they_mean_in_a_long_text() -> None:
    text = "a\n\t" + "x" * 500 + "BAD" + "y" * 500 + "\nb"
    start = text.index("BAD")
    line, carets = Span(Source(text), start, start + 3).render().split("\n")
    assert line[carets.index("^") : carets.index("^") + 3] == "BAD"
    assert carets.count("^") == 3
    assert len(line) < 500


def test_a_span_at_the_end_has_a_caret() -> None:
    assert Span(Source("ij->"), 4, 4).render() == "ij->\n    ^"


def test_a_span_covers_two() -> None:
    source = Source("ij,jk")
    assert cover(Span(source, 0, 2), Span(source, 3, 5)) == Span(source, 0, 5)
    assert cover(None, Span(source, 3, 5)) == Span(source, 3, 5)


def test_an_error_has_five_parts_in_order() -> None:
    source = Source("ij,jk->ik", "here")
    error = RankError(
        "what is wrong",
        span=Span(source, 3, 4),
        deduced=("j = 3",),
        passed=("A: (2, 3)", "B: (4, 5)"),
        hint="what to do",
    )
    assert (
        str(error)
        == """\
what is wrong
  here:1
  ij,jk->ik
     ^
  deduced: j = 3
  passed: A: (2, 3)
          B: (4, 5)
  hint: what to do"""
    )


def test_every_error_is_one_that_numpys_users_expect() -> None:
    classes = EinloomError.__subclasses__()
    assert len(classes) >= 9
    # The two that are nobody's mistake: no memory left, and a defect of einloom's own.
    others = {"OutOfMemoryError", "InternalError"}
    assert all(issubclass(c, ValueError | TypeError) for c in classes if c.__name__ not in others)


# ---- dtypes


def test_dtypes_have_numpys_names_and_ours() -> None:
    for name, dtype in DTYPES.items():
        assert as_dtype(name) == dtype
        assert of_numpy(dtype.numpy) == dtype
        assert dtype.itemsize == dtype.numpy.itemsize
    assert as_dtype(np.float32) == as_dtype("float32") == as_dtype(np.dtype(">f4")) == F32
    assert as_dtype("bfloat16") == BF16
    for wrong in ("f33", "U3", object(), np.dtype([("x", "f4")])):
        with pytest.raises(OperandError):
            as_dtype(wrong)


# ---- literals


def test_literals_are_equal_only_to_themselves() -> None:
    values = [0, 0.0, -0.0, False, 1, True, 0j, float("nan"), float("inf")]
    literals = [Literal(value) for value in values]
    assert len(set(literals)) == len(values)
    assert Literal(float("nan")) == Literal(float("nan"))


# ---- expressions


def test_free_variables_and_rewriting() -> None:
    read = Access("A", (variable("i"), variable("j")))
    total = Reduce("add", ("j",), Map("exp", (read,)))
    assert free_variables(total) == ("i",)
    assert rewrite_leaves(total, lambda leaf: leaf) is total
    other = Access("B", read.indices)
    assert rewrite_leaves(total, lambda _: other) == Reduce("add", ("j",), Map("exp", (other,)))


def test_fresh_names() -> None:
    assert fresh_name("T", set()) == "T"
    assert fresh_name("T", {"T", "T1"}) == "T2"


# ---- JSON


def example() -> Cascade:
    read = Access("A", (variable("i"), RankExpr((M0,), 2)), Literal(float("-inf")))
    body = Map("cast", (Map("mul", (read, Literal(2 - 1j), Literal(True))),), F64)
    return Cascade(
        "c",
        (Rank("I", 3), Rank("M0", RankExpr((), 4)), Rank("M1")),
        (TensorDecl("A", (size("I"), RankExpr((), 1)), F32),),
        (Einsum(Access("Y", (variable("i"),)), body, "max_plus", None, None, I64),),
        ("Y",),
    )


def test_json_round_trips() -> None:
    cascade = example()
    assert Cascade.from_json(cascade.to_json()) == cascade


def test_json_that_is_not_a_cascade_is_refused() -> None:
    text = example().to_json()
    data = json.loads(text)
    wrong = [
        "",
        "3",
        "[]",
        "{}",
        "nope",
        '{"node":"os.system"}',
        '{"dtype":"f99"}',
        json.dumps({**data, "extra": 1}),
        json.dumps({**data, "name": 3}),
        json.dumps({**data, "einsums": {"node": "Rank", "name": "I", "shape": None}}),
        json.dumps({**data, "outputs": "Y"}),
        text.replace('"coefficient":1', '"coefficient":true'),
        text.replace('"coefficient":1', '"coefficient":{"float":"zz"}'),
        text[:-1],
        "[" * 100_000,
    ]
    for bad in wrong:
        assert bad != text
        with pytest.raises(ParseError):
            Cascade.from_json(bad)


# ---- inference


def test_sizes_follow_through_aliases_in_any_order() -> None:
    ranks = (
        Rank("P", RankExpr((Term(1, ("N",)), Term(-1, ("R",))), 1)),
        Rank("N", size("H")),
        Rank("H"),
        Rank("R", 3),
    )
    c = Cascade("c", ranks, (TensorDecl("X", (size("H"),)),), (), ())
    assert infer_sizes(c, {"X": (10,)}) == {"R": 3, "H": 10, "N": 10, "P": 8}
    assert infer_sizes(c, {"X": (1,)})["P"] == 0  # a window wider than its input fits nowhere


def test_sizes_that_contradict_each_other() -> None:
    twice = (TensorDecl("X", (size("H"),)), TensorDecl("Z", (size("H"),)))
    with pytest.raises(RankError, match="rank H has extent 2 in X but 3 in Z"):
        infer_sizes(Cascade("c", (Rank("H"),), twice, (), ()), {"X": (2,), "Z": (3,)})
    fixed = Cascade("c", (Rank("H", 4),), twice[:1], (), ())
    with pytest.raises(RankError, match="rank H has extent 4 in the declaration but 2 in X"):
        infer_sizes(fixed, {"X": (2,)})
    ones = Cascade("c", (), (TensorDecl("X", (RankExpr((), 1),)),), (), ())
    with pytest.raises(RankError, match="an axis of X has extent 2, but it is declared 1"):
        infer_sizes(ones, {"X": (2,)})
    free = Cascade("c", (Rank("H"), Rank("K")), twice[:1], (), ())
    with pytest.raises(RankError, match="the extent of rank K follows from no input"):
        infer_sizes(free, {"X": (2,)})
    circle = (Rank("H", size("K")), Rank("K", size("H")))
    with pytest.raises(RankError, match="follows from no input"):
        infer_sizes(Cascade("c", circle, (), (), ()), {})


def test_dtypes_that_do_not_fit() -> None:
    read = Access("X", (variable("h"),))
    decl = TensorDecl("X", (size("H"),))

    def infer(einsum: Einsum, dtype: str) -> object:
        cascade = Cascade("c", (Rank("H"),), (decl,), (einsum,), ("Y",))
        return infer_dtypes(cascade, {"X": DTYPES[dtype]})["Y"]

    left = Access("Y", (variable("h"),))
    assert infer(Einsum(left, Map("exp", (read,))), "bf16") == BF16
    with pytest.raises(OperandError, match="semiring log is not defined on i32"):
        infer(Einsum(left, read, "log"), "i32")
    with pytest.raises(OperandError, match="not bool"):
        infer(Einsum(left, read, where=read, otherwise=Literal(0)), "f32")
    with pytest.raises(OperandError, match="changes the width"):
        infer(Einsum(left, Map("bitcast", (read,), F64)), "f32")
    with pytest.raises(OperandError, match="indexes X"):
        infer(Einsum(left, Access("X", (read,))), "f32")
    with pytest.raises(OperandError, match="the dtype of X is not known"):
        infer_dtypes(Cascade("c", (Rank("H"),), (decl,), (), ()), {})


def test_a_chain_has_the_common_type_of_all_its_operands() -> None:
    names = "bool", "i16", "u16", "i8", "f16", "f32", "c64"
    for kinds in itertools.product(names, repeat=3):
        reads = tuple(Access(name, ()) for name in "ABC")
        dtypes = dict(zip("ABC", (DTYPES[kind] for kind in kinds), strict=True))
        found = expr_dtype(Map("mul", (*reads, Literal(2))), dtypes)
        expected = np.result_type(*(dtype.numpy for dtype in dtypes.values()), 2)
        assert isinstance(found, DType)
        assert found.numpy == expected
