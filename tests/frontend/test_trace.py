"""A Python function written with index notation gives the Cascade of the text it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.frontend.handles import Expression
from einloom.frontend.trace import Traced
from einloom.ir.operators import OPERATORS, REDUCTIONS

T = el.Tensor

#: Untyped, to be given what it does not take.
numpy: Any = np
RNG = np.random.default_rng(0)

b, e, f, i, j, k, m, p, r, s, v = el.variables("b e f i j k m p r s v")
m0, m1 = el.variables("m0 m1")

#: Each traced function with the text that means the same.
PAIRS: dict[str, tuple[Traced, str]] = {}


def same_as(text: str) -> Callable[[Callable[..., Any]], Traced]:
    """Traces a function with the inputs that the text declares, to be compared with it."""
    header = text[text.rindex("cascade") :]
    inputs = header[header.index("(") + 1 : header.index(") ->")]

    def decorated(function: Callable[..., Any]) -> Traced:
        traced = el.trace(inputs)(function)
        PAIRS[function.__name__] = traced, text
        return traced

    return decorated


@same_as("""
cascade attention(Q[E,P]: f32, K[E,M]: f32, V[F,M]: f32) -> AV {
  QK[m,p] = Q[e,p] * K[e,m] / sqrt(E)
  GM[p]   = max[m] QK[m,p]
  SN[m,p] = exp(QK[m,p] - GM[p])
  SD[p]   = SN[m,p]
  A[m,p]  = SN[m,p] / SD[p]
  AV[f,p] = A[m,p] * V[f,m]
}""")
def attention(Q: T, K: T, V: T) -> T:
    QK, GM, SN, SD, A, AV = el.tensors("QK GM SN SD A AV")
    (E,) = el.sizes("E")
    QK[m, p] = Q[e, p] * K[e, m] / el.ops.sqrt(E)
    GM[p] = el.ops.max[m](QK[m, p])
    SN[m, p] = el.ops.exp(QK[m, p] - GM[p])
    SD[p] = SN[m, p]
    A[m, p] = SN[m, p] / SD[p]
    AV[f, p] = A[m, p] * V[f, m]
    return AV


@same_as(
    """
cascade infixes(A[I]: f64, B[I]: f64, N[I]: i32) -> Y, Z {
  Y[i] = A[i] + B[i] - 2 * A[i] / (B[i] + 1) - (A[i] - B[i]) - -1.5 + pow(A[i], 2) + pow(2, A[i])
         * abs(A[i]) + -A[i] * (1 - A[i])
  Z[i] = (N[i] // 2 % 3 + 1 << 1 >> 1 & 7 | 1 ^ ~N[i]) * (2 // N[i]) - 5 % N[i] + (1 << N[i])
}""".replace("\n         ", " ")
)
def infixes(A: T, B: T, N: T) -> tuple[T, T]:
    Y, Z = el.tensors("Y Z")
    Y[i] = (
        A[i]
        + B[i]
        - 2 * A[i] / (B[i] + 1)
        - (A[i] - B[i])
        - -1.5
        + A[i] ** 2
        + 2 ** A[i] * abs(A[i])
        + -A[i] * (1 - A[i])
    )
    Z[i] = (N[i] // 2 % 3 + 1 << 1 >> 1 & 7 | 1 ^ ~N[i]) * (2 // N[i]) - 5 % N[i] + (1 << N[i])
    return Y, Z


@same_as(
    """
cascade comparisons(A[I]: f64, B[I]: f64) -> Y {
  Y[i] = select((A[i] < B[i]) & (A[i] <= 1) | (A[i] > B[i]) ^ (A[i] >= 2), 1, 0)
       + select((A[i] == B[i]) == (A[i] != 0), nan, -inf)
}""".replace("\n       +", " +")
)
def comparisons(A: T, B: T) -> T:
    (Y,) = el.tensors("Y")
    less = (A[i] < B[i]) & (A[i] <= 1) | (A[i] > B[i]) ^ (A[i] >= 2)
    equal = (A[i] == B[i]) == (A[i] != 0)
    Y[i] = el.ops.select(less, 1, 0) + el.ops.select(equal, np.nan, -np.inf)
    return Y


@same_as("""
cascade numpys(A[I]: f64, N[I]: i64) -> Y {
  Y[i] = exp(A[i]) * 2.0 + max(A[i], 0) - 3.0 / A[i] + -A[i] * ~N[i]
}""")
def numpys(A: T, N: T) -> T:
    """NumPy's functions are operators of the table where the table says so."""
    (Y,) = el.tensors("Y")
    Y[i] = (
        numpy.exp(A[i]) * numpy.float64(2)
        + numpy.maximum(A[i], 0)
        - numpy.float64(3) / A[i]
        + numpy.negative(A[i]) * numpy.invert(N[i])
    )
    return Y


@same_as("""
cascade nested(A[I,J,K]: f64) -> Y {
  Y[i] = max[j] (sum[k] A[i,j,k] - 1) + prod[j,k] (A[i,j,k])
}""")
def nested(A: T) -> T:
    (Y,) = el.tensors("Y")
    Y[i] = el.ops.max[j](el.ops.sum[k](A[i, j, k]) - 1) + el.ops.prod[j, k](A[i, j, k])
    return Y


@same_as("""
cascade conv(X[H]: f32, F[R]: f32) -> Y, Z {
  ranks P = H
  Y[p] = X[p+r-1 else 0] * F[r]
  Z[] = Y[H-1] * (H + 1) + X[0]
}""")
def conv(X: T, F: T) -> tuple[T, T]:
    Y, Z = el.tensors("Y Z")
    (H,) = el.sizes("H")
    el.ranks("P = H")
    Y[p] = X.at(p + r - 1, fill=0) * F[r]
    Z[()] = Y[H - 1] * (H + 1) + X[0]
    return Y, Z


@same_as("""
cascade strided(X[H]: f32, F[R]: f32, S: f32) -> Y {
  Y[p] = X[2*p+r] * F[r] * S
}""")
def strided(X: T, F: T, S: T) -> T:
    (Y,) = el.tensors("Y")
    Y[p] = X[2 * p + r] * F[r] * S
    return Y


@same_as("""
cascade coordinates(A[M,P]: f32, S[]: f32) -> Y {
  Y[m,p] = A[m,p] + S * (m - p) * M
}""")
def coordinates(A: T, S: T) -> T:
    (Y,) = el.tensors("Y")
    (M,) = el.sizes("M")
    Y[m, p] = A[m, p] + S * (m - p) * M
    return Y


@same_as("""
cascade gather(D[N,E]: f32, J[B]: i64, G[]: i64) -> Y, Z {
  Y[b,e] = D[J[b],e]
  Z[e] = D[G,e]
}""")
def gather(D: T, J: T, G: T) -> tuple[T, T]:
    Y, Z = el.tensors("Y Z")
    Y[b, e] = D[J[b], e]
    Z[e] = D[G, e]
    return Y, Z


@same_as("""
cascade filters(X[M]: f32, L[M,P]: f32) -> Y, S, Z {
  Y[p] = X[m] * L[m,p] where m <= p
  S[m,p] = L[m,p] where (m <= p) & (X[m] > 0) else -inf
  Z[p] = X[m] + L[m,p] over min_plus where m != p else 0
}""")
def filters(X: T, L: T) -> tuple[T, T, T]:
    Y, S, Z = el.tensors("Y S Z")
    Y[p] = (X[m] * L[m, p]).where(m <= p)
    S[m, p] = L[m, p].where((m <= p) & (X[m] > 0), -np.inf)
    Z[p] = (X[m] + L[m, p]).where(m != p, otherwise=0).over("min_plus")
    return Y, S, Z


@same_as("""
cascade typed(A[I,J]: i8, B[J]: i8) -> Y, Z {
  Y[i]: i32 = A[i,j] * B[j]
  Z[i]: f16 = cast(Y[i], f32) + bitcast(Y[i], f32)
}""")
def typed(A: T, B: T) -> tuple[T, T]:
    Y, Z = el.tensors("Y Z")
    Y[i] = (A[i, j] * B[j]).typed("i32")
    Z[i] = (el.ops.cast(Y[i], "f32") + el.ops.bitcast(Y[i], np.float32)).typed("float16")
    return Y, Z


@same_as("""
cascade places(X[M,P]: f32) -> Y, I, J {
  Y[p], I[p]: i32 = max[m] X[m,p] where m < p
  J[p] = argmin[m] X[m,p]
}""")
def places(X: T) -> tuple[T, T, T]:
    Y, I, J = el.tensors("Y I J")  # noqa: E741
    best, place = el.ops.max[m](X[m, p]).where(m < p).with_place()
    Y[p], I[p] = best, place.typed("i32")
    J[p] = el.ops.argmin[m](X[m, p])
    return Y, I, J


@same_as("""
cascade hmm(T[S,R]: f32, B[V,S]: f32, A0[S]: f32) -> A, L {
  ranks R = S
  A[0,s] = A0[s]
  A[v+1,s] = A[v,r] * T[s,r] * B[v,s] over log
  L = A[V,s] over log
}""")
def hmm(T: T, B: T, A0: T) -> tuple[T, T]:
    A, L = el.tensors("A L")
    (V,) = el.sizes("V")
    el.ranks("R = S")
    A[0, s] = A0[s]
    A[v + 1, s] = (A[v, r] * T[s, r] * B[v, s]).over("log")
    L[()] = A[V, s].over("log")
    return A, L


@same_as("""
cascade attention1(Q[E,P]: f32, K[E,M]: f32) -> RM {
  ranks M0 = 4, M % 4 == 0
  partition M -> M1, M0
  QK[m1,m0,p]   = Q[e,p] * K[e, m1*M0+m0]
  LM[m1,p]      = max[m0] QK[m1,m0,p]
  RM[0,p]       = -inf
  RM[m1+1,p]    = max(RM[m1,p], LM[m1,p])
}""")
def attention1(Q: T, K: T) -> T:
    (M0,) = el.sizes("M0")
    QK, LM, RM = el.tensors("QK LM RM")
    el.ranks("M0 = 4, M % 4 == 0")
    el.partition("M -> M1, M0")
    QK[m1, m0, p] = Q[e, p] * K[e, m1 * M0 + m0]
    LM[m1, p] = el.ops.max[m0](QK[m1, m0, p])
    RM[0, p] = -np.inf
    RM[m1 + 1, p] = el.ops.max(RM[m1, p], LM[m1, p])
    return RM


@same_as("""
cascade diagonal(A[I]: f32, B[I,1]: f32) -> Y {
  Y[i,i,0] = A[i] * B[i,0] + A[0]
}""")
def diagonal(A: T, B: T) -> T:
    (Y,) = el.tensors("Y")
    Y[i, i, 0] = A[i] * B[i, 0] + A[0]
    return Y


@el.operator("a: f32, b: f32", laws="commutative, identity = 0")
def plus(a: Expression, b: Expression) -> Expression:
    return a + b


@el.operator
def halve(a: Expression) -> Expression:
    return a / 2


tropical = el.semiring("tropical", el.ops.max, "add", -np.inf, 0)


@same_as("""
op plus(a: f32, b: f32) [commutative, identity = 0] = a + b
op halve(a) = a / 2
semiring tropical(max, add, -inf, 0)
cascade own(A[I,J]: f32, B[J]: f32) -> Y, Z {
  Y[i] = plus[j] (halve(A[i,j]))
  Z[i] = A[i,j] * B[j] over tropical
}""")
def own(A: T, B: T) -> tuple[T, T]:
    Y, Z = el.tensors("Y Z")
    Y[i] = plus[j](halve(A[i, j]))
    Z[i] = (A[i, j] * B[j]).over(tropical)
    return Y, Z


softmax = el.trace(el.parse("cascade softmax(X[M]: f32) -> N, D { N[m] = exp(X[m])\n D = N[m] }"))


@same_as("""
cascade softmax(X[M]: f32) -> N, D { N[m] = exp(X[m])
 D = N[m] }
cascade calls(A[K]: f32) -> N, D, N1, Z {
  N, D = softmax(A)
  N1, Z = softmax(N)
}""")
def calls(A: T) -> tuple[T, T, T, T]:
    first, total = softmax(A)
    second, other = softmax(first, names="N1 Z")
    return first, total, second, other


@same_as("""
cascade loops(A[I]: f64) -> Y2 {
  Y0[i] = A[i] * 1
  Y1[i] = Y0[i] * 2
  Y2[i] = Y1[i] * 3
}""")
def loops(A: T) -> T:
    """Python's own loops and numbers are gone when the text is written."""
    last = A
    for number in range(3):
        (step,) = el.tensors(f"Y{number}")
        step[i] = last[i] * (number + 1)
        last = step
    return last


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_trace_is_its_text(name: str) -> None:
    traced, text = PAIRS[name]
    assert str(traced) == str(el.parse(text))
    assert traced.cascade == el.parse(text)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_by_name(name: str) -> None:
    row = OPERATORS[name]
    kind = "i64" if name in ("and", "or", "xor", "invert", "shl", "shr") else "f64"
    extra = {"cast": ("f32",), "bitcast": ("i64",)}.get(name, ())

    def traced(A: T) -> T:
        (Y,) = el.tensors("Y")
        args: list[Any] = [A[i]] * row.arity
        if name == "select":
            args[0] = A[i] > 0
        Y[i] = getattr(el.ops, name + "_" * (name in ("and", "or")))(*args, *extra)
        return Y

    args = ", ".join([*("A[i]",) * row.arity, *extra]).replace("A[i]", "A[i] > 0", name == "select")
    text = f"cascade traced(A[I]: {kind}) -> Y {{ Y[i] = {name}({args}) }}"
    assert el.trace(f"A[I]: {kind}")(traced).cascade == el.parse(text)


@pytest.mark.parametrize("name", [*REDUCTIONS, "argmax", "argmin"])
def test_every_reduction_by_name(name: str) -> None:
    kind = "i64" if name in ("all", "any", "xor") else "f64"

    def traced(A: T) -> T:
        (Y,) = el.tensors("Y")
        Y[i] = getattr(el.ops, name)[j](A[i, j])
        return Y

    text = f"cascade traced(A[I,J]: {kind}) -> Y {{ Y[i] = {name}[j] (A[i,j]) }}"
    assert el.trace(f"A[I,J]: {kind}")(traced).cascade == el.parse(text)


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
def test_annotations_are_inputs_and_defaults_are_not(future: str) -> None:
    source = f"""
{future}
import einloom as el
@el.operator
def twice(a: "f32"):
    return a + a
@el.trace
def scaled(X: "I: f32", S: ": f32", Z: "", by=3):
    (i,), (Y,) = el.variables("i"), el.tensors("Y")
    Y[i] = X[i] * S * by + twice(Z)
    return Y
"""
    scope: dict[str, Any] = {}
    exec(compile(source, "scaled", "exec", dont_inherit=True), scope)
    assert str(scope["scaled"]) == (
        "op twice(a: f32) = a + a\n"
        "cascade scaled(X[I]: f32, S[]: f32, Z[]) -> Y {\n"
        "  Y[i] = X[i] * S[] * 3 + twice(Z[])\n"
        "}"
    )


def test_what_takes_a_cascade_takes_a_traced_function() -> None:
    arrays = [RNG.standard_normal(shape).astype("f") for shape in ((3, 4), (3, 5), (2, 5))]
    named: dict[str, Any] = dict(zip("QKV", arrays, strict=True))
    want = el.evaluate(attention.cascade, **named)
    np.testing.assert_array_equal(el.evaluate(attention, **named), want)
    np.testing.assert_allclose(el.compile(attention, backend="numpy")(*arrays), want, rtol=1e-5)
    assert el.rewrite(attention, "squeeze") == el.rewrite(attention.cascade, "squeeze")
