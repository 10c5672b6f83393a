"""Every rule of `verify`, broken once; the message names what broke it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import F32
from einloom.ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Parameter,
    Reduce,
    UserOperator,
)
from einloom.ir.errors import VerifyError
from einloom.ir.ranks import Quotient, Rank, RankExpr, Term
from einloom.ir.verify import verify

VI, VJ = RankExpr.of_variable("i"), RankExpr.of_variable("j")
A = TensorDecl("A", (RankExpr.of_size("I"), RankExpr.of_size("J")))
READ = Access("A", (VI, VJ))
GOOD = Cascade(
    "c",
    (Rank("I"), Rank("J")),
    (A,),
    (Einsum(Access("Y", (VI,)), Reduce("add", ("j",), READ)),),
    ("Y",),
)


def nested(depth: int) -> Expr:
    expr: Expr = Literal(1)
    for _ in range(depth - 1):
        expr = Map("neg", (expr,))
    return expr


def with_expr(expr: Expr, *left: RankExpr, **options: object) -> Cascade:
    output = Access("Y", left)
    return replace(GOOD, einsums=(replace(Einsum(output, expr), **options),))  # type: ignore[arg-type]


def lawful(**laws: Any) -> Cascade:
    """With an operator f of these laws."""
    f = UserOperator("f", (Parameter("a"), Parameter("b")), Access("a"), **laws)
    return with_expr(Map(f, (READ, READ)), VI, VJ)


def test_a_good_one_is_given_back() -> None:
    assert verify(GOOD) is GOOD


BROKEN = {
    "a rank's name is upper case": replace(GOOD, ranks=(Rank("i"), Rank("J"))),
    "rank I is declared twice": replace(GOOD, ranks=(Rank("I"), Rank("I"), Rank("J"))),
    "negative extent -1": replace(GOOD, ranks=(Rank("I", -1), Rank("J"))),
    "the shape i of rank I is not a size": replace(GOOD, ranks=(Rank("I", VI), Rank("J"))),
    "unknown rank Q": replace(GOOD, ranks=(Rank("I", RankExpr.of_size("Q")), Rank("J"))),
    "unknown rank J": replace(GOOD, ranks=(Rank("I"),)),
    "the extent i of A is not a size": replace(GOOD, inputs=(TensorDecl("A", (VI, VJ)),)),
    "a tensor's name is an identifier": replace(GOOD, inputs=(replace(A, name="2A"),)),
    "exp is the name of an operator": replace(GOOD, inputs=(replace(A, name="exp"),)),
    "sum is a word of the language": replace(GOOD, inputs=(replace(A, name="sum"),)),
    "the variable of rank WHERE is a word": replace(GOOD, ranks=(*GOOD.ranks, Rank("WHERE"))),
    "'over' cannot be a cascade's name": replace(GOOD, name="over"),
    "'2c' cannot be a cascade's name": replace(GOOD, name="2c"),
    "the shape J//0 of rank I divides by no positive size": replace(
        GOOD, ranks=(Rank("I", Quotient(RankExpr.of_size("J"), RankExpr())), Rank("J"))
    ),
    "a number in the shape of rank I does not fit in 64 bits": replace(
        GOOD, ranks=(Rank("I", Quotient(RankExpr(), RankExpr.of_size("J"), 2**63)), Rank("J"))
    ),
    "an assumption is a comparison": replace(
        GOOD, assumptions=(Map("add", (Coordinate("I"), Literal(1))),)
    ),
    "the laws of f are not in order": lawful(laws=("commutative", "commutative")),
    "unknown operator foo": lawful(inverse="foo"),
    "neg does not take two operands, so no law of f has it": lawful(distributes_over=("neg",)),
    "number does not fit in 64 bits": replace(
        GOOD, assumptions=(Map("le", (Coordinate("I"), Literal(2**64))),)
    ),
    "the extent of rank I does not fit in 64 bits": replace(
        GOOD, ranks=(Rank("I", 2**63), Rank("J"))
    ),
    "the shape of rank I is a number, so write it as one": replace(
        GOOD, ranks=(Rank("I", RankExpr((), 2)), Rank("J"))
    ),
    "Y has a fill on the left": replace(
        GOOD, einsums=(Einsum(Access("Y", (VI,), Literal(0)), Literal(1)),)
    ),
    "the index i+i is not in normal form": with_expr(
        Access("A", (RankExpr((*VI.terms, *VI.terms)), VJ)), VI, VJ
    ),
    "a number in an index does not fit in 64 bits": with_expr(
        Access("A", (RankExpr((), 2**63), VJ)), VI, VJ
    ),
    "a number does not fit in 64 bits": with_expr(Literal(2**64)),
    "a number does not fit in 64 bits ": with_expr(Literal(10**5000)),
    "1.0) is not a literal of the language": with_expr(Literal(np.float64(1))),
    "an expression is nested more than 128 deep": with_expr(nested(129)),
    "A is defined twice": replace(GOOD, inputs=(A, A)),
    "Y is defined twice": replace(GOOD, einsums=GOOD.einsums * 2),
    "a cascade needs an output": replace(GOOD, outputs=()),
    "the output Z is not defined": replace(GOOD, outputs=("Z",)),
    "an output is named twice": replace(GOOD, outputs=("Y", "Y")),
    "the left index -1 is not a variable": with_expr(Literal(1), RankExpr((), -1)),
    "Y has a start and no step": with_expr(Literal(1), RankExpr((), 1)),
    "unknown semiring tropical": with_expr(Literal(1), semiring="tropical"),
    "variable k has no rank K": with_expr(Literal(1), RankExpr.of_variable("k")),
    "variable j is neither on the left nor reduced": with_expr(READ, VI),
    "B is not defined here": with_expr(Access("B", (VI, VJ)), VI, VJ),
    "A has 2 ranks, read with 1": with_expr(Access("A", (VI,)), VI),
    "unknown rank K": with_expr(Access("A", (VI, RankExpr((Term(1, ("K",), "j"),)))), VI, VJ),
    "variable k has no rank K ": with_expr(Coordinate("K"), VI),
    "unknown operator frob": with_expr(Map("frob", (READ,)), VI, VJ),
    "exp takes 1 operand, not 2": with_expr(Map("exp", (READ, READ)), VI, VJ),
    "sub takes 2 operands, not 3": with_expr(Map("sub", (READ, READ, READ)), VI, VJ),
    "cast needs a dtype": with_expr(Map("cast", (READ,)), VI, VJ),
    "exp takes no dtype": with_expr(Map("exp", (READ,), F32), VI, VJ),
    "sub is not a reduction": with_expr(Reduce("sub", ("j",), READ), VI),
    "names each of its variables once": with_expr(Reduce("add", ("j", "j"), READ), VI),
    "j is reduced, and bound outside": with_expr(Reduce("add", ("j",), READ), VI, VJ),
    "i is reduced, and bound outside": with_expr(
        Reduce("add", ("i",), Reduce("max", ("i", "j"), READ))
    ),
    "the filter on Y has no `else`": with_expr(
        READ, VI, VJ, where=Map("lt", (Coordinate("i"), Coordinate("j")))
    ),
    "the `else` of Y has no `where`": with_expr(READ, VI, VJ, otherwise=Literal(0)),
    "variable k is neither on the left": with_expr(
        READ, VI, VJ, where=Coordinate("k"), otherwise=Literal(0)
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_rule_is_named(message: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify(BROKEN[message])
    assert message.strip() in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_hint_names_a_rank_that_is_not_taken() -> None:
    text = "cascade c(X[M]) -> Y { ranks N = M\n Y = sum[n] (X[n] - (max[n] X[n])) }"
    with pytest.raises(VerifyError, match="`ranks K = N`, and k here"):
        el.parse(text)
