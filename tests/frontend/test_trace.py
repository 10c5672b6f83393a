"""A Python function written with index notation gives the Cascade of the text it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

import einloom as el
from einloom.frontend.handles import Expression
from einloom.frontend.trace import Traced
from einloom.ir.errors import ArgumentError, EinloomError, OperandError, ResolveError
from einloom.ir.operators import OPERATORS, REDUCTIONS

T = el.Tensor
Body: TypeAlias = Callable[[Any, Any], Any]

#: Untyped, to be given what it does not take.
numpy: Any = np
three: Any = 3
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


# ---- mistakes


def text_of(function: Callable[..., Any], header: str = "X[M,P]: f32") -> str:
    """What the error of a trace says."""
    with pytest.raises(EinloomError) as caught:
        el.trace(header)(function)
    return str(caught.value)


def use(body: Body) -> Callable[[T], T]:
    """A traced function that does one thing, with X to read and Y to define."""

    def traced(X: T) -> T:
        (Y,) = el.tensors("Y")
        body(X, Y)
        return Y

    return traced


def put(tensor: T, indices: Any, value: Any) -> None:
    tensor[indices] = value


def test_a_tensor_is_defined_before_it_is_read() -> None:
    (Z,) = el.tensors("Z")
    said = text_of(use(lambda X, Y: put(Y, m, X[m, 0] + Z[m])))
    assert said == (
        "Z is not defined\n"
        "  trace of traced:2\n"
        "    Y[m] = X[m, 0] + Z[m]\n"
        "                     ^\n"
        "  deduced: tensors known here: X"
    )


#: What is done in a traced function, what the error says, and what its hint.
MISTAKES: list[tuple[Body, str, str | None]] = [
    (lambda X, Y: list(X), "X[] is traced, so it cannot be gone through", "write X[m]"),
    (lambda X, Y: put(Y, m, max(X[m, 0], 0)), "neither true nor false", "el.ops.max(a, b)"),
    (lambda X, Y: 0 < X[m, 0] < 1, "neither true nor false", "combined by & | ~"),
    (lambda X, Y: range(el.sizes("M")[0]), "it is no number yet", "needs a number"),
    (lambda X, Y: float(X[m, 0]), "it is no number yet", "needs a number"),
    (lambda X, Y: put(Y, m, "X"), "str has no place", "numbers are Python's own"),
    (lambda X, Y: put(Y, m, np.ones(3)), "ndarray has no place", "an array is an input"),
    (lambda X, Y: X[m, 0] + np.ones(3), "ndarray has no place", "an array"),
    (lambda X, Y: numpy.sum(X[m, p]), "NumPy's add", "el.ops.sum[m](x)"),
    (lambda X, Y: numpy.modf(X[m, p]), "NumPy's modf", "el.ops.exp"),
    (lambda X, Y: X[:, p], "an index is a variable", "X[m, p], not X[:, p]"),
    (lambda X, Y: X[..., p], "an index is a variable", "not X[:, p]"),
    (lambda X, Y: X[m, 0].where(m < 1) + 1, "has ended its right side", "come last"),
    (lambda X, Y: put(Y, m, X[m, 0].over(three)), "3 is not a semiring", "max_plus"),
    (lambda X, Y: put(Y, m, X[m, 0].over("max_plu")), "not a semiring", "max_plus"),
    (lambda X, Y: put(Y, m, X[m, 0].typed("f31")), "'f31' is not a dtype", "f32"),
    (lambda X, Y: el.ops.expp(X[m, 0]), "there is no operator expp", "did you mean exp"),
    (lambda X, Y: put(Y, p, el.ops.exp[m](X[m, p])), "exp is not a reduction", "exp(a)"),
    (lambda X, Y: put(Y, m, el.ops.exp(X[m, 0], 1)), "exp takes 1 operand, not 2", None),
    (lambda X, Y: put(Y, m, X[m]), "X has 2 ranks, read with 1 index", "write X[i, j]"),
    (lambda X, Y: put(Y, m + 1, X[m, 0]), "Y steps, but has no start", "Y[0] = ..."),
    (lambda X, Y: put(Y, m, X[m, 0] + X), "X has 2 ranks, read with 0", "write X[i, j]"),
    (lambda X, Y: put(Y, m, attention(X)), "takes 3 tensors, not 1", None),
    (lambda X, Y: attention(X[m, p]), "called on whole tensors", "el.compile(attention)"),
    (lambda X, Y: put(Y, m, X[m, 0].with_place()), "tuple has no place", None),
    (lambda X, Y: put(Y, m, X[m, 0].with_place()[1]), "are defined at once", ".with_place()"),
    (lambda X, Y: el.variables("M"), "a variable is lower case", None),
    (lambda X, Y: el.sizes("m"), "a rank is upper case", None),
    (lambda X, Y: el.tensors("exp"), "a word of the language", None),
    (lambda X, Y: el.variables(three), "names are a text", None),
    (lambda X, Y: el.ranks("m = 3"), "upper case", None),
    (lambda X, Y: el.partition("M"), "unexpected", None),
]


@pytest.mark.parametrize(("body", "said", "hint"), MISTAKES)
def test_a_mistake_is_told(body: Body, said: str, hint: str | None) -> None:
    found = text_of(use(body))
    assert said in found
    assert hint is None or hint in found.partition("hint: ")[2]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "traced returns nothing"),
        ((), "traced returns no tensor"),
        (m, "traced returns <traced m>"),
        (3, "traced returns 3"),
    ],
)
def test_what_is_returned_is_a_tensor(returned: Any, said: str) -> None:
    def traced(X: T) -> Any:
        return returned

    assert said in text_of(traced)


def test_outside_of_a_trace_nothing_is_defined() -> None:
    (Y,) = el.tensors("Y")
    for act in (
        lambda: put(Y, m, 1),
        lambda: el.ranks("N = M"),
        lambda: el.partition("M -> M1, M0"),
        lambda: attention(Y, Y, Y),
        lambda: halve(m),
    ):
        with pytest.raises(ArgumentError, match="outside of a traced function"):
            act()


def test_what_is_no_function_is_not_traced() -> None:
    with pytest.raises(OperandError, match="a function is to be traced"):
        el.trace(three)
    with pytest.raises(OperandError, match=r"made one by @el\.trace"):
        el.compile(three)
    with pytest.raises(ArgumentError, match="the axes of function"):
        el.trace(text_of)

    def several(*X: T) -> T:
        return X[0]

    with pytest.raises(ArgumentError, match=r"not told by \*X"):
        el.trace(several)
    with pytest.raises(EinloomError, match="unexpected"):
        el.trace("X[")(use(lambda X, Y: put(Y, m, X[m])))


def test_operators_and_semirings_are_checked() -> None:
    def added(a: Expression, b: Expression) -> Expression:
        return a + b

    def define(a: Expression) -> None:
        put(T("Y"), m, a)

    with pytest.raises(ResolveError, match="does not have the law `idempotent`"):
        el.operator(laws="idempotent")(added)
    with pytest.raises(ResolveError, match="is no semiring"):
        el.semiring("wrong", "add", "max", 0, 1)
    with pytest.raises(EinloomError, match="defines tensors"):
        el.operator(define)
    said = text_of(use(lambda X, Y: put(Y, m, halve(X[m, 0]) + other_halve(X[m, 0]))))
    assert "halve is defined already" in said


def _named_halve() -> Any:
    def halve(a: Expression) -> Expression:
        return a * 0.5

    return el.operator(halve)


other_halve = _named_halve()
