"""Text that means harm, or is noise: an error or the right answer, soon, whatever it is."""

from __future__ import annotations

import random
import sys
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.frontend.parser import parse_cascade
from einloom.frontend.subscripts import parse_subscripts, to_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.einsum import Map
from einloom.ir.errors import EinloomError
from einloom.ir.verify import MAX_DEPTH

from ..strategies import cascades

MANY = 10_000


def body(statement: str) -> str:
    return f"cascade f(A[I], T[I]) -> Y {{\n  {statement}\n}}"


#: Not seconds that a machine may take, but orders of magnitude from what a hang would.
SOON = 30.0

HOSTILE = {
    "opening parentheses": body("Y[i] = " + "(" * MANY),
    "closing parentheses": body("Y[i] = " + ")" * MANY),
    "brackets": body("Y[i] = " + "A[" * MANY),
    "gathers": body("Y[i] = " + "T[" * MANY + "i" + "]" * MANY),
    "calls": body("Y[i] = " + "exp(" * MANY + "A[i]" + ")" * MANY),
    "signs": body("Y[i] = " + "-" * MANY + "A[i]"),
    "reductions": body("Y[i] = " + "sum[i] " * MANY + "A[i]"),
    "differences": body("Y[i] = A[i]" + " - A[i]" * MANY),
    "switching signs": body("Y[i] = A[i]" + " - A[i] + A[i]" * (MANY // 4)),
    "comparisons": body("Y[i] = A[i]" + " < A[i]" * MANY),
    "an index of many terms": body("Y[i] = A[" + "(i+I)*" * MANY + "1]"),
    "an index of many signs": body("Y[i] = A[" + "-" * MANY + "i]"),
    "a long number": body("Y[i] = " + "9" * 100 * MANY),
    "a long number in an index": body("Y[i] = A[" + "9" * 100 * MANY + "]"),
    "a power of numbers": body("Y[i] = A[" + "99999999999*" * MANY + "1]"),
    "a long exponent": body("Y[i] = cast(1e" + "9" * MANY + ", nothing)"),
    "braces": "{" * MANY,
    "cascades": "cascade " * MANY,
    "one long word": body("x" * 100 * MANY),
    "one long line of noise": body("?" * 100 * MANY),
    "nothing": "",
    "newlines": "\n" * 100 * MANY,
    "comments": "#" * 100 * MANY + "\n#" * MANY,
    "nul": body("Y[i] = A[i]\0"),
    "surrogates": body("Y[i] = A[i] \ud800"),
    "a step past all memory": body(f"Y[0] = 1\n  Y[i+{2**62}] = A[i]"),
    "a circle of ranks": body("ranks " + ",".join(f"N{n} = N{(n + 1) % 999}" for n in range(999))),
    "operators that double": "".join(
        f"op f{n + 1}(a) = f{n}(f{n}(a))\n" if n else "op f1(a) = a + a\n" for n in range(60)
    )
    + "cascade c(A[I]) -> Y { Y[i] = f60(A[i]) }",
    "a product of ranks": body(
        "ranks B0 = 2, " + ",".join(f"B{n + 1} = B{n}*B{n}" for n in range(99)) + "\n  Y[b0] = b0+"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_error_comes_soon(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(EinloomError) as caught:
        parse_cascade(HOSTILE[name])
    assert time.monotonic() - began < SOON
    assert len(str(caught.value)) < 10_000


def test_parentheses_nest_without_end() -> None:
    nested = parse_cascade(body("Y[i] = " + "(" * MANY + "A[i]" + ")" * MANY))
    assert nested == parse_cascade(body("Y[i] = A[i]"))


def test_a_chain_of_aliases_is_as_long_as_you_like() -> None:
    chain = ", ".join(f"R{n + 1} = R{n}" for n in range(2000))
    text = f"cascade f(X[R0]) -> Y {{ ranks {chain}\n  Y[r2000] = X[r2000]\n}}"
    assert len(parse_cascade(text).ranks) == 2001


def test_a_chain_is_as_long_as_you_like() -> None:
    (einsum,) = parse_cascade(body("Y[i] = A[i]" + " + A[i]" * MANY)).einsums
    assert isinstance(einsum.expr, Map)
    assert len(einsum.expr.args) == MANY + 1


def test_the_deepest_expression_that_is_allowed_is_handled() -> None:
    deepest = body("Y[i] = " + "exp(" * (MAX_DEPTH - 1) + "A[i]" + ")" * (MAX_DEPTH - 1))
    room = sys.getrecursionlimit()
    cascade = parse_cascade(deepest)
    assert parse_cascade(str(cascade)) == cascade
    assert Cascade.from_json(cascade.to_json()) == cascade
    assert sys.getrecursionlimit() == room
    with pytest.raises(EinloomError, match="deep"):
        parse_cascade(deepest.replace("A[i]", "exp(A[i])"))


def test_a_megabyte_of_noise() -> None:
    noise = random.Random(0)
    for alphabet in ("()[]", "cascade f(A[I])->Y{}=+*", "".join(map(chr, range(32, 127)))):
        text = "".join(noise.choices(alphabet, k=2**20))
        for form in (text, body(text), body("Y[i] = " + text)):
            began = time.monotonic()
            with pytest.raises(EinloomError):
                parse_cascade(form)
            assert time.monotonic() - began < SOON


@given(st.text())
def test_any_text(text: str) -> None:
    for form in (text, body(text)):
        with suppress(EinloomError):
            parse_cascade(form)


@given(cascades(), st.data())
def test_text_that_is_nearly_right(cascade: Cascade, data: st.DataObject) -> None:
    text = str(cascade)
    at = data.draw(st.integers(0, len(text)))
    gone = data.draw(st.integers(0, 3))
    put = data.draw(
        st.sampled_from(("", " ", "(", "]", ",", "=", "-", "\n", "m1", "2", "else", "#"))
    )
    with suppress(EinloomError):
        parse_cascade(text[:at] + put + text[at + gone :])


@pytest.mark.parametrize("notation", ["compact", "named"])
@pytest.mark.parametrize(
    "text",
    [
        *("," * 10**6 + "%", "i " * 10**6 + "%", "i" * 10**6 + "%", "." * 10**6, "->" * 10**6),
        *("..." * 10**6, "i..." * 10**5, "(" * 10**6, "\0", "i\0", "\ud800", "İ->" * 10),
    ],
    ids=lambda text: f"{text[:4]!a} x {len(text)}",
)
def test_subscripts(text: str, notation: str) -> None:
    began = time.monotonic()
    with pytest.raises(EinloomError) as caught:
        parse_subscripts(text, notation=notation)
    assert time.monotonic() - began < SOON
    assert len(str(caught.value)) < 10_000


def test_many_operands() -> None:
    subscripts = parse_subscripts("i," * MANY + "i->i")
    cascade = to_cascade(subscripts, [(2,)] * (MANY + 1))
    assert len(cascade.inputs) == MANY + 1
