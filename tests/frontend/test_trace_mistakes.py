"""What is wrong in a traced function is told as what is wrong in a text is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

import einloom as el
from einloom.frontend.handles import Expression
from einloom.ir.errors import ArgumentError, EinloomError, OperandError, ResolveError

from .test_trace import attention, halve

T = el.Tensor
Body: TypeAlias = Callable[[Any, Any], Any]
# What a type checker would stop: the mistakes are told apart when it runs.
numpy: Any = np
three: Any = 3
m, p = el.variables("m p")


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
        "  deduced: tensors known here: X\n"
        "  hint: a tensor is an input, or stands on the left of an Einsum above"
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
