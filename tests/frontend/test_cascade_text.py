"""What cascade text means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import DTYPES, F32, I32
from einloom.ir.einsum import Access, Coordinate, Expr, Literal, Map, Reduce
from einloom.ir.errors import EinloomError
from einloom.ir.interpreter import evaluate
from einloom.ir.operators import INFIX, OPERATORS, REDUCTIONS
from einloom.ir.ranks import Rank, RankExpr
from einloom.ir.source import Span

from ..support import ROOT

RNG = np.random.default_rng(0)

ATTENTION = """
# Scaled dot-product attention, in three passes over M.
cascade attention(Q[E,P]: f32,   # queries
                  K[E,M]: f32,
                  V[F,M]: f32) -> AV {

  QK[m,p] = Q[e,p] * K[e,m] / sqrt(E)
  GM[p]   = max[m] QK[m,p]        # for stability
  SN[m,p] = exp(QK[m,p] - GM[p])
  SD[p]   = SN[m,p]

  # The second pass ends here.
  A[m,p]  = SN[m,p] / SD[p]
  AV[f,p] = A[m,p] * V[f,m]
}

"""


def one(expr: str, left: str = "Y[i,j]", ranks: str = "") -> Cascade:
    """A cascade of one Einsum."""
    return parse_cascade(
        f"cascade f(A[I,J], B[J], X[H], D[V,J], T[I]: i32, G, s[]) -> Y {{ {ranks}\n"
        f"  {left} = {expr}\n}}"
    )


def expr_of(text: str, left: str = "Y[i,j]", ranks: str = "") -> Expr:
    return one(text, left, ranks).einsums[0].expr


def result(text: str, **arrays: Any) -> Any:
    cascade = parse_cascade(text)
    results = evaluate(cascade, arrays)
    return results[cascade.outputs[0]]


def a(*indices: str) -> Access:
    return Access("A", tuple(map(RankExpr.of_variable, indices or "ij")))


B = Access("B", (RankExpr.of_variable("j"),))


def test_attention() -> None:
    q, k, v = (RNG.normal(size=shape).astype("f4") for shape in ((4, 3), (4, 5), (2, 5)))
    weights = np.exp((k.T @ q) / 2)
    expected = v @ (weights / weights.sum(0))
    np.testing.assert_allclose(result(ATTENTION, Q=q, K=k, V=v), expected, rtol=1e-5)


def test_comments_and_newlines_mean_nothing_more() -> None:
    plain = "\n".join(line.partition("#")[0].rstrip() for line in ATTENTION.splitlines())
    assert parse_cascade(plain) == parse_cascade(ATTENTION)
    assert parse_cascade(ATTENTION.replace("\n", "\r\n")) == parse_cascade(ATTENTION)


def test_one_line_and_no_space() -> None:
    assert str(parse_cascade("cascade f(A[I])->Y{Y[i]=A[i]}")).count("\n") == 2


def test_spans_point_at_the_text() -> None:
    cascade = parse_cascade(ATTENTION, "attention.ein")
    einsum = cascade.einsums[1]

    def shown(span: Span | None) -> str:
        assert span is not None
        assert span.source.name == "attention.ein"
        return span.source.text[span.start : span.stop]

    assert shown(einsum.span) == "GM[p]   = max[m] QK[m,p]"
    assert shown(einsum.output.span) == "GM[p]"
    assert isinstance(einsum.expr, Reduce)
    assert shown(einsum.expr.span) == "max[m] QK[m,p]"
    assert shown(einsum.expr.expr.span) == "QK[m,p]"
    assert shown(cascade.inputs[0].span) == "Q[E,P]: f32"


# ---- expressions


def test_precedence_is_pythons() -> None:
    """Each text means what Python makes of the same text."""
    names = {"a": 13, "b": 7, "c": 3, "d": 2}
    header = "cascade f(a: i64, b: i64, c: i64, d: i64) -> Y { Y = "
    for text in (
        *("a+b*c", "a-b-c", "a-(b-c)", "a//b//c", "a%b*c", "-a%b", "~a+b", "a<<c>>d", "a|b&c^d"),
        *("a&b==c", "a+b<c*d", "a-b+c-d", "a*b//c*d", "-a-b", "--a", "~~a", "-(2)%c", "a- -2"),
        *("(a|b)&c", "a<<c+d", "a^b|c", "a^b&c", "a//(b%c)", "a+b<<d", "a>b|c"),
    ):
        assert result(header + text + " }", **names) == eval(text, dict(names)), text


def test_a_run_of_one_symbol_is_a_chain() -> None:
    chain = Map("add", (a(), a(), a()))
    assert expr_of("A[i,j] + A[i,j] + A[i,j]") == chain
    assert expr_of("(A[i,j] + A[i,j]) + A[i,j]") == Map("add", (Map("add", (a(), a())), a()))
    assert expr_of("A[i,j] + (A[i,j] + A[i,j])") == Map("add", (a(), Map("add", (a(), a()))))
    assert expr_of("A[i,j] - A[i,j] - A[i,j]") == Map("sub", (Map("sub", (a(), a())), a()))
    mixed = expr_of("A[i,j] + A[i,j] - A[i,j] + A[i,j] + A[i,j]")
    assert mixed == Map("add", (Map("sub", (Map("add", (a(), a())), a())), a(), a()))


@pytest.mark.parametrize("symbol", INFIX)
def test_infix_symbols(symbol: str) -> None:
    assert expr_of(f"A[i,j] {symbol} B[j]") == Map(INFIX[symbol].name, (a(), B))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_called_by_its_name(name: str) -> None:
    row = OPERATORS[name]
    dtype = F32 if name in ("cast", "bitcast") else None
    written = ", ".join(["A[i,j]", "B[j]", "B[j]"][: row.arity] + (["f32"] if dtype else []))
    assert expr_of(f"{name}({written})") == Map(name, (a(), B, B)[: row.arity], dtype)


def test_a_call_of_many() -> None:
    assert expr_of("max(A[i,j], B[j], 0)") == Map("max", (a(), B, Literal(0)))
    with pytest.raises(EinloomError, match="sub takes 2 operands, not 3"):
        one("sub(A[i,j], B[j], 0)")


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str) -> None:
    assert expr_of(f"{name}[j] A[i,j]", "Y[i]") == Reduce(REDUCTIONS[name].name, ("j",), a())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0", 0), ("-3", -3), ("--3", 3), ("2.", 2.0), (".5", 0.5), ("1e3", 1000.0)),
        *(("-0.0", -0.0), ("2E-3", 0.002), ("inf", float("inf")), ("-inf", float("-inf"))),
        *(("nan", float("nan")), ("true", True), ("false", False), ("2j", 2j), ("-1.5e1j", -15j)),
        *(("complex(1, -2.5)", 1 - 2.5j), ("complex(-0.0, nan)", complex(-0.0, float("nan")))),
        *(("18446744073709551615", 2**64 - 1), ("-9223372036854775808", -(2**63))),
    ],
)
def test_numbers(text: str, value: complex) -> None:
    assert expr_of(text) == Literal(value)


def test_a_sign_in_front_of_parentheses_is_an_operator() -> None:
    assert expr_of("-(2)") == Map("neg", (Literal(2),))
    assert expr_of("-true") == Map("neg", (Literal(True),))


def test_bare_names() -> None:
    assert expr_of("I") == Coordinate("I")
    assert expr_of("i") == Coordinate("i")
    assert expr_of("G") == expr_of("G[]") == Access("G")
    assert expr_of("s") == Access("s")
    # A rank of that name comes first.
    assert expr_of("s", "Y[s]", "ranks S = 2") == Coordinate("s")
    assert expr_of("s[]", ranks="ranks S = 2") == Access("s")


def test_a_dtype_on_the_left() -> None:
    (einsum,) = one("A[i,j]", "Y[i]: i32").einsums
    assert einsum.dtype is I32
    assert (
        parse_cascade("cascade f(A[I]: bf16) -> Y { Y = A[i] }").inputs[0].dtype is DTYPES["bf16"]
    )


# ---- indices


def test_indices_are_affine() -> None:
    cases = {
        "2*h+1": "2*h+1",
        "h+h": "2*h",
        "(h)": "h",
        "H-1-h": "H-h-1",
        "3*(h-1)": "3*h-3",
        "h*J+j": "h*J+j",
        "J*J*h": "h*J*J",
        "(h+1)*(J-1)": "h*J-h+J-1",
        "-h": "-h",
        "h-h": "0",
        "2*3": "6",
    }
    for written, expected in cases.items():
        read = expr_of(f"X[{written} else 0]", "Y[h,j]")
        assert isinstance(read, Access)
        assert str(read.indices[0]) == expected


def test_gathers() -> None:
    gather = Access("D", (Access("T", (RankExpr.of_variable("i"),)), RankExpr.of_variable("j")))
    assert expr_of("D[T[i],j]") == gather
    assert expr_of("X[G]", "Y") == Access("X", (Access("G"),))


def test_fills() -> None:
    assert expr_of("X[h-1 else -inf]", "Y[h]") == Access(
        "X", (expr_index("h-1"),), Literal(float("-inf"))
    )
    assert expr_of("X[h else complex(1, 2)]", "Y[h]") == Access(
        "X", (expr_index("h"),), Literal(1 + 2j)
    )


def expr_index(text: str) -> RankExpr:
    read = expr_of(f"X[{text} else 0]", "Y[h]")
    assert isinstance(read, Access)
    assert isinstance(read.indices[0], RankExpr)
    return read.indices[0]


def test_the_left_side() -> None:
    assert one("B[j]", "Y[j,j]").einsums[0].output.indices == (RankExpr.of_variable("j"),) * 2
    assert one("B[j]", "Y[0,j]").einsums[0].output.indices[0] == RankExpr()
    assert one("B[j]", "Y").einsums[0].output == Access("Y")


# ---- sums


def test_what_is_not_on_the_left_is_summed() -> None:
    assert expr_of("A[i,j] * B[j]", "Y[i]") == Reduce("add", ("j",), Map("mul", (a(), B)))
    assert expr_of("A[i,j]", "Y") == Reduce("add", ("i", "j"), a())
    assert expr_of("exp(A[i,j])", "Y[i]") == Reduce("add", ("j",), Map("exp", (a(),)))
    assert expr_of("A[i,j] - B[j]", "Y[i]") == Reduce("add", ("j",), Map("sub", (a(), B)))
    assert expr_of("i * A[i,j]", "Y[j]") == Reduce(
        "add", ("i",), Map("mul", (Coordinate("i"), a()))
    )


def test_explicit_and_implicit_sums_nest() -> None:
    assert expr_of("max[j] A[i,j]", "Y") == Reduce("add", ("i",), Reduce("max", ("j",), a()))
    assert expr_of("max[i] sum[j] A[i,j]", "Y") == Reduce("max", ("i",), Reduce("add", ("j",), a()))
    both = "(sum[j] B[j]) * (max[j] B[j])"
    assert expr_of(both, "Y") == Map("mul", (Reduce("add", ("j",), B), Reduce("max", ("j",), B)))


def test_a_semiring_changes_infix_and_the_implicit_sum() -> None:
    (einsum,) = one("A[i,j] * B[j] over max_plus", "Y[i]").einsums
    assert einsum.semiring == "max_plus"
    assert einsum.expr == Reduce("max", ("j",), Map("add", (a(), B)))
    assert expr_of("A[i,j] + B[j] over max_plus") == Map("max", (a(), B))
    assert expr_of("mul(A[i,j], add(B[j], B[j])) over max_plus") == Map(
        "mul", (a(), Map("add", (B, B)))
    )
    assert expr_of("A[i,j] - B[j] over max_plus") == Map("sub", (a(), B))


def test_a_condition_is_plain_arithmetic_over_any_semiring() -> None:
    (einsum,) = one("A[i,j] over max_plus where i + 1 <= 2 * j", "Y[i]").einsums
    ahead = Map("add", (Coordinate("i"), Literal(1)))
    assert einsum.where == Map("le", (ahead, Map("mul", (Literal(2), Coordinate("j")))))


def test_filters() -> None:
    x = np.arange(12.0).reshape(3, 4)
    masked = "cascade f(X[M,P]) -> Y { Y[p] = X[m,p] where m <= p }"
    np.testing.assert_array_equal(result(masked, X=x), np.triu(x).sum(0))
    chosen = "cascade f(X[M,P]) -> Y { Y[m,p] = X[m,p] where m <= p else -inf }"
    expected = np.where(np.tri(4, 3, dtype=bool).T, x, -np.inf)
    np.testing.assert_array_equal(result(chosen, X=x), expected)


# ---- sizes


def shape_of(cascade: Cascade, rank: str) -> str:
    return str(cascade.rank(rank).shape)


@pytest.mark.parametrize(
    ("index", "ranks", "expected"),
    [
        ("p+r", "", "H-R+1"),
        ("p-r+R-1", "", "H-R+1"),
        ("p+2*r", "", "H-2*R+2"),
        ("H-1-p", "", "H"),
        ("H-1-p-r", "", "H-R+1"),
        ("p+3", "", "H-3"),
        ("2*p+r", "ranks H = 10, R = 3", "4"),
        ("8-3*p", "", "3"),
        ("p+R*r", "", "H-R*R+R"),
    ],
)
def test_the_largest_extent_that_stays_in_range(index: str, ranks: str, expected: str) -> None:
    text = f"cascade f(X[H], F[R]) -> Y {{ {ranks}\n  Y[p] = X[{index}] * F[r]\n}}"
    if "r" not in index:
        text = text.replace(" * F[r]", "")
    cascade = parse_cascade(text)
    assert shape_of(cascade, "P") == expected
    found = result(text, X=np.arange(10), F=np.arange(3))
    # One more would be out of range.
    longer = parse_cascade(text.replace("{ ", f"{{ ranks P = {len(found) + 1}\n", 1))
    with pytest.raises(EinloomError, match=r"is read at"):
        evaluate(longer, {"X": np.arange(10), "F": np.arange(3)})


def test_sizes_that_follow_from_one_another() -> None:
    text = "cascade f(X[H], F[R]) -> Z { Y[p] = X[p+r] * F[r]\n  Z[q] = Y[q+r] * F[r] }"
    cascade = parse_cascade(text)
    assert [rank.name for rank in cascade.ranks] == ["H", "R", "P", "Q"]
    assert (shape_of(cascade, "P"), shape_of(cascade, "Q")) == ("H-R+1", "P-R+1")
    assert result(text, X=np.arange(9), F=np.ones(3)).shape == (5,)


def test_the_least_of_two_numbers() -> None:
    cascade = parse_cascade("cascade f(X[9], F[7]) -> Y { Y[p] = X[p+1] * F[p] }")
    assert cascade.rank("P") == Rank("P", 7)


def test_equal_sizes_of_two_reads() -> None:
    cascade = parse_cascade("cascade f(X[H], F[N]) -> Y { ranks N = H\n  Y[p] = X[p+1] * F[p+1] }")
    assert shape_of(cascade, "P") == "H-1"


def test_declared_ranks() -> None:
    cascade = one("A[n,j]", "Y[n]", "ranks N = I, T = 128,\n    K = 2*I*J-T\n  ranks Z = 1")
    shown = [str(rank) for rank in cascade.ranks]
    assert shown == ["N = I", "T = 128", "K = 2*I*J-T", "Z = 1", "I", "J", "H", "V"]
    assert isinstance(cascade.rank("T").shape, int)


def test_an_alias_reads_a_rank_at_a_second_variable() -> None:
    text = "cascade f(X[M]) -> Y { ranks N = M\n  Y[m,n] = X[m] * X[n] }"
    np.testing.assert_array_equal(result(text, X=np.arange(3)), np.outer(range(3), range(3)))


def test_numbers_that_fit_need_no_alias() -> None:
    text = "cascade f(X[M]) -> Y { ranks M = 5, N = 3\n  Y[n] = X[n] }"
    np.testing.assert_array_equal(result(text, X=np.arange(5)), range(3))
    with pytest.raises(EinloomError, match="is read at n"):
        parse_cascade(text.replace("N = 3", "N = 6"))


def test_a_later_tensor_has_the_ranks_of_its_left_side() -> None:
    with pytest.raises(EinloomError, match="T has rank I there, but is read at j"):
        parse_cascade("cascade f(A[I,J]) -> Y { T[i] = A[i,j]\n  Y[j] = T[j] }")
    cascade = parse_cascade("cascade f(A[I,J]) -> Y { T[0] = A[i,j]\n  Y[i] = T[0] * A[i,j] }")
    assert cascade.einsums[0].output.indices == (RankExpr(),)


def test_broadcast_axes() -> None:
    cascade = parse_cascade("cascade f(A[1,J], B[J]) -> Y { Y[j] = A[0,j] * B[j] }")
    assert cascade.inputs[0].extents[0] == RankExpr((), 1)


def test_an_operator_that_only_a_law_names_is_printed() -> None:
    text = """
op minus(a, b) = a - b
op plus(a, b) [commutative, inverse = minus] = a + b
cascade f(A[I], B[I]) -> Y {
  Y[i] = plus(A[i], B[i])
}""".strip()
    assert str(parse_cascade(text)) == text
    assert parse_cascade(str(parse_cascade(text))) == parse_cascade(text)


def test_the_page_has_the_grammar() -> None:
    page = (ROOT / "docs" / "language.md").read_text("utf-8")
    grammar = (ROOT / "frontend" / "cascade.lark").read_text("utf-8")
    assert f"```lark\n{grammar}```" in page
