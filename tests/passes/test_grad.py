"""Adjoints of every operator and construct against finite differences, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import einloom as el
from einloom.ir.errors import EinloomError, OperandError, PassError, UnsupportedError
from einloom.ir.infer import infer_dtypes
from einloom.ir.operators import OPERATORS
from einloom.passes.derivatives import RULES

from .gradients import check, outputs_of

# ---- operators


UNARY = sorted(n for n, row in OPERATORS.items() if row.arity == 1 and n in RULES and n != "cast")
BINARY = sorted(n for n, row in OPERATORS.items() if row.arity == 2 and n in RULES)
FLAT = ("sign", "round", "floor", "ceil")


@pytest.mark.parametrize("name", [*UNARY, *FLAT])
def test_unary(name: str) -> None:
    low = 0.1 if name in ("log", "sqrt", "rsqrt", "log1p") else -2.0
    X = low + np.array([0.07, 0.4, 1.3, 2.6, 3.9])
    text = f"cascade f(X[I]: f64) -> Y {{ Y[i] = {name}(X[i]) * X[i] }}"
    check(text, ["X"], {"I": 5}, X=X)
    check(f"cascade f(X[I]: f64) -> Y {{ Y[i] = {name}(X[i]) }}", ["X"], {"I": 5}, X=X)


@pytest.mark.parametrize("name", [*BINARY, "floordiv"])
def test_binary(name: str) -> None:
    A, B = np.array([0.7, 1.4, 2.3, 3.1]), np.array([1.6, 0.9, -1.2, 2.0])
    check(f"cascade f(A[I]: f64, B[I]: f64) -> Y {{ Y[i] = {name}(A[i], B[i]) }}", "AB", {"I": 4},
          A=A, B=B)  # fmt: skip


@pytest.mark.parametrize("name", ["add", "mul", "max", "min", "logaddexp"])
def test_chains(name: str) -> None:
    text = "cascade f(A[I]: f64, B[I]: f64, C[I]: f64) -> Y { Y[i] = %s(A[i], B[i], C[i], A[i]) }"
    check(text % name, "ABC", {"I": 5})


def test_every_operator_has_a_rule_or_none() -> None:
    """The rest are constant between jumps, or of integers and bits."""
    rest = set(OPERATORS) - set(RULES)
    bits = {"and", "or", "xor", "invert", "shl", "shr", "eq", "ne", "lt", "le", "gt", "ge"}
    assert rest == {*bits, *FLAT, "floordiv", "bitcast"}


def test_select_and_casts() -> None:
    check("cascade f(A[I]: f64, B[I]: f64) -> Y { Y[i] = select(A[i] < B[i], A[i]*B[i], B[i]) }",
          "AB", {"I": 6})  # fmt: skip
    adjoint = check(
        "cascade f(A[I]: f64, N[I]: i32) -> Y {"
        " Y[i] = cast(A[i], f64) * N[i] + cast(cast(A[i], i64), f64) }",
        ["A"], {"I": 3}, N=[1, 2, 3],
    )  # fmt: skip
    assert str(adjoint.einsums[-1].output.tensor) == "A_bar"


def test_powers_at_zero() -> None:
    text = "cascade f(A[I]: f64, B[I]: f64) -> Y { Y[i] = pow(A[i], B[i]) + pow(A[i], 2) }"
    adjoint = el.grad(text, wrt=["A", "B"])
    got = el.evaluate(adjoint, A=[0.0, 0.0, 2.0], B=[2.0, 0.0, 0.0], Y_bar=[1.0, 1, 1])
    np.testing.assert_allclose(got["A_bar"], [0, 0, 4])
    np.testing.assert_allclose(got["B_bar"], [0, 0, np.log(2)])


def test_ties_go_to_the_first() -> None:
    def grads(expr: str, **arrays: Any) -> list[Any]:
        header = ", ".join(f"{name}[I]: f64" for name in arrays)
        adjoint = el.grad(f"cascade f({header}) -> Y {{ Y = sum[i] {expr} }}", wrt=list(arrays))
        found = outputs_of(adjoint, arrays)
        return [found[f"{name}_bar"].tolist() for name in arrays]

    one = [1.0, 1.0]
    assert grads("max(A[i], B[i])", A=one, B=one) == [[1, 1], [0, 0]]
    assert grads("min(A[i], B[i], C[i])", A=one, B=one, C=[0.0, 1.0]) == [[0, 1], [0, 0], [1, 0]]
    assert grads("relu(A[i])", A=[0.0, 1.0]) == [[0, 1]]
    assert grads("abs(A[i])", A=[0.0, -1.0]) == [[0, -1]]
    first = el.grad("cascade f(A[I,J]: f64) -> Y { Y = max[i,j] A[i,j] }", wrt="A")
    assert el.evaluate(first, A=[[0, 1.0], [1.0, 1.0]]).tolist() == [[0, 1], [0, 0]]


# ---- reductions, reads, filters


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min", "logaddexp"])
@pytest.mark.parametrize("where", ["", " where i <= j"])
def test_reductions(op: str, where: str) -> None:
    text = "cascade f(X[I,J,K]: f64, B[K]: f64) -> Y { Y[i] = %s[j,k] (X[i,j,k]*B[k])%s }"
    check(text % (op, where), "XB", {"I": 2, "J": 3, "K": 3})


def test_products_with_zeros() -> None:
    X = [[2.0, 3, 4], [0, 3, 4], [0, 0, 4]]
    adjoint = check(
        "cascade f(X[I,J]: f64) -> Y { Y[i] = prod[j] X[i,j] }", ["X"], {"I": 3, "J": 3}, X=X
    )
    got = el.evaluate(adjoint, X=X, Y_bar=[1.0, 1, 1])
    assert got.tolist() == [[12, 8, 6], [12, 0, 0], [0, 0, 0]]


def test_a_maximum_of_nothing_has_no_cotangent() -> None:
    text = "cascade f(X[J]: f64) -> Y { ranks I = 3\n Y[i] = max[j] X[j] where j < i else 5 }"
    check(text, ["X"], {"J": 4})
    check(text.replace("max[j]", "logaddexp[j]"), ["X"], {"J": 4})


CONSTRUCTS = {
    "(A[I]: f64, B: f64, C[J]: f64) -> Y { Y[i] = sum[j] (A[i] * B) }": "AB",
    "(A[I,J]: f64) -> Y { Y[i] = A[i,j] }": "A",
    "(A[I,J]: f64) -> Y { Y = A[i,j] * A[i,j] }": "A",
    "(A[N,N]: f64) -> Y { Y = A[n,n] * A[n,n] }": "A",
    "(A[N,N]: f64) -> Y { ranks M = N\n Y[n] = A[m,n] * A[n,m] }": "A",
    "(A[N]: f64) -> Y { Y[n,n] = sin(A[n]) }": "A",
    "(A[N]: f64) -> Y { Y[n,0] = A[n] * A[n] over max_plus }": "A",
    "(A[1,N]: f64, B[N]: f64) -> Y { Y[n] = A[0,n] * B[n] * A[0,0] }": "AB",
    "(A[N]: f64) -> Y, Z { Y[n] = A[N-1-n] * A[0]\n Z = Y[n] * A[2] }": "A",
    "(A[2*N]: f64, B[N]: f64) -> Y { Y[n] = A[2*n] * A[2*n+1] + B[n] }": "AB",
    "(A[H]: f64, F[R]: f64) -> Y { Y[p] = A[2*p+3*r] * F[r] }": "AF",
    "(A[H]: f64) -> Y { ranks N = 2\n Y[n] = A[n else 0] }": "A",
    "(A[H]: f64) -> Y { ranks N = 9\n Y[n] = A[n else 3] * (n + H) }": "A",
    "(A[I,J]: f64) -> Y { Y[i] = max[j] (A[i,j]) + sum[j] (A[i,j] * A[i,j]) }": "A",
    "(A[I,J]: f64) -> Y { ranks K = J\n Y[i] = exp(max[j] (A[i,j] * sum[k] A[i,k])) }": "A",
    "(A[I,J]: f64, B[J,K]: f64) -> Y { Y[i,k] = A[i,j] * B[j,k] over max_plus }": "AB",
    "(A[I,J]: f64, B[J]: f64) -> Y { Y[i] = A[i,j]*B[j] over min_plus where j != i else 7 }": "AB",
    "(A[I,J]: f64, B[J,K]: f64) -> Y { Y[i,k] = A[i,j] * B[j,k] over log }": "AB",
    "(A[I,J]: f64, B[J,K]: f64) -> Y { Y[i,k] = A[i,j] * B[j,k] over min_max }": "AB",
    "(A[I,J]: f64) -> Y { Y[i,j] = A[i,j] * 2 where i <= j else 4 }": "A",
    "(A[I]: f64) -> Y, I0 { Y, I0 = max[i] A[i] }": "A",
    "(A[I]: f64) -> Y { ranks M0 = 2\n partition I -> M1, M0\n"
    " Y[m1] = A[m1*M0+m0] * A[m1*M0+m0] }": "A",
    "(A[I]: f64) -> Y { Z[i] = A[i]\n Y[i] = Z[i] * Z[i]\n U[i] = floor(Y[i]) }": "A",
    "(A[I]: f64, B[I]: f64) -> Y { Y[i] = B[i] }": "A",
}


@pytest.mark.parametrize("text", CONSTRUCTS)
def test_constructs(text: str) -> None:
    sizes = {"I": 3, "J": 3, "K": 2, "N": 3, "H": 8, "R": 3}
    check(f"cascade f{text}", CONSTRUCTS[text], sizes)


def test_gathers() -> None:
    check(
        "cascade f(D[N,E]: f64, J[B]: i64) -> Y { Y[b,e] = D[J[b],e] * D[J[b],0] }",
        ["D"], {"N": 4, "E": 2, "B": 5}, J=[0, 3, 3, 1, 0],
    )  # fmt: skip
    check(
        "cascade f(D[N]: f64, J[B]: i64) -> Y { ranks P = B\n Y[p] = D[J[p+1 else -1] else 2] }",
        ["D"], {"N": 4, "B": 5}, J=[0, 3, 3, 9, 0],
    )  # fmt: skip


def test_operators_of_the_texts_own() -> None:
    check(
        "op hyp(a: f64, b: f64) [commutative] = sqrt(a*a + b*b)\n"
        "op plus(a: f64, b: f64) [commutative, associative, identity = 0] = a + b\n"
        "semiring own(plus, mul, 0, 1)\n"
        "cascade f(A[I,J]: f64, B[I]: f64) -> Y, Z, U {\n"
        "  Y[i] = hyp(A[i,j], B[i])\n Z[i] = plus[j] (A[i,j]*B[i])\n"
        "  U[i] = A[i,j] * B[i] over own }",
        "AB", {"I": 2, "J": 3},
    )  # fmt: skip


# ---- dtypes and names


def test_complex() -> None:
    check("cascade f(A[I,J]: c128, B[J]: c128) -> Y { Y[i] = exp(A[i,j] * conj(B[j])) }", "AB",
          {"I": 2, "J": 3})  # fmt: skip
    check("cascade f(A[I]: c128, B[I]: f64) -> Y { Y = abs(A[i]) * B[i] }", "AB", {"I": 3})
    check("cascade f(A[I]: c128, B[I]: f64) -> Y { Y[i] = A[i] * B[i] * 2j }", "AB", {"I": 3})
    check("cascade f(A[I]: c128) -> Y { Y[i]: f64 = A[i] * A[i] }", "A", {"I": 3})
    check("cascade f(A[I]: f64) -> Y { Y[i] = cast(A[i], c128) * 3j }", "A", {"I": 3})


def test_dtypes_are_those_of_the_inputs() -> None:
    text = "cascade f(A[I,J]: f16, B[J]: f32, S: f64) -> Y { Y[i] = A[i,j] * B[j] * S * (i + 1) }"
    adjoint = el.grad(text, wrt=["A", "B", "S"])
    found = infer_dtypes(adjoint, {})
    assert [str(found[name]) for name in ("A_bar", "B_bar", "S_bar")] == ["f16", "f32", "f64"]
    compact = el.grad("ij,jk->ik", wrt="A", dtypes="f32")
    assert "A_bar[i,j] = Y_bar[i,k] * B[j,k]" in str(compact)


def test_names_are_not_taken_twice() -> None:
    adjoint = el.grad("cascade f(X[I]: f64, X_bar[I]: f64) -> Y { Y = X[i] * X_bar[i] }", wrt="X")
    assert adjoint.outputs == ("X_bar1",)


# ---- refusals


@pytest.mark.parametrize(
    ("text", "wrt", "kind", "said"),
    [
        ("(A[I]: f64) -> Y { Y = A[i] }", ["B"], PassError, "B is not an input"),
        ("(A[I]: i64) -> Y { Y = A[i] / 2 }", ["A"], PassError, "A is i64"),
        ("(A[I]: f64) -> Y { Y = A[i] }", [], PassError, "one input or more"),
        ("(A[I]: f64) -> Y { Y = A[i] }", ["A", "A"], PassError, "each once"),
        ("(A[I]: f64) -> Y { Y = argmax[i] A[i] }", ["A"], PassError, "no output of f"),
        ("(A[I]) -> Y { Y = A[i] }", ["A"], OperandError, "the dtype of A is not known"),
        ("(A[I]: f32) -> Y { Y[i] = bitcast(bitcast(A[i], i32) + 1, f32) }", ["A"],
         UnsupportedError, "makes floating values of bits"),
        ("(A[I]: c64) -> Y { Y[i] = sign(A[i]) }", ["A"], UnsupportedError, "sign of complex"),
        ("(A[V]: f64) -> X { X[0] = 1.0\n X[v+1] = X[v] * X[v-1 else 0] * A[v] }", ["A"],
         UnsupportedError, "reads X at v-1"),
    ],
)  # fmt: skip
def test_refusals(text: str, wrt: list[str], kind: type[EinloomError], said: str) -> None:
    with pytest.raises(kind) as caught:
        el.grad(f"cascade f{text}", wrt=wrt)
    assert said in str(caught.value)


def test_wrt_is_a_name_or_names() -> None:
    three: Any = 3
    with pytest.raises(OperandError, match="wrt= is a name or a list"):
        el.grad("ij->i", wrt=three, dtypes="f64")


# ---- random cascades

_LEAVES = ("A[i,j]", "B[j,k]", "A[i,0]", "C[k+i else 0.5]", "B[J[i],k]", "0.7", "(k + 1)", "S")
_CALLS = ("sin", "tanh", "cos", "relu", "abs", "sigmoid", "neg")
_PAIRS = ("{} * {}", "{} + {}", "{} - {}", "max({}, {})", "min({}, {})", "{} / (2 + abs({}))",
          "select(i < j, {}, {})", "logaddexp({}, {})")  # fmt: skip


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(_LEAVES))
    if draw(st.booleans()):
        return f"{draw(st.sampled_from(_CALLS))}({draw(expressions(depth - 1))})"
    one, two = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    return f"({draw(st.sampled_from(_PAIRS)).format(one, two)})"


@settings(max_examples=60)
@given(
    expressions(),
    st.sampled_from(["sum", "max", "min", "logaddexp", "prod"]),
    st.sampled_from(["", " where j <= k + i", " where A[i,j] < B[j,k] else 0.3"]),
    st.sampled_from(["Y[i]", "Y[k,i]", "Y[i,i]", "Y"]),
)
def test_random_cascades(expr: str, op: str, where: str, left: str) -> None:
    reduced = [v for v in "ijk" if v not in left[1:]]
    text = (
        "cascade f(A[I,J]: f64, B[J,K]: f64, C[H]: f64, S: f64, J0[I]: i64) -> Z {\n"
        f"  {left} = {op}[{','.join(reduced)}] ({expr.replace('J[i]', 'J0[i]')}){where}\n"
        f"  Z{left[1:]} = sin({left}) \n}}"
    )
    check(text, ["A", "B", "C", "S"], {"I": 2, "J": 3, "K": 2, "H": 3}, J0=[2, 0], rtol=1e-3,
          backends=())  # fmt: skip
