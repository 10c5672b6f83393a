"""Wrong types and values for every public argument: an EinloomError that says what is wrong."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import einloom as el

X = np.ones(3)
EYE = np.eye(2)
TWO = "cascade c(A[I]: f64) -> Y, Z {\n  Y[i] = A[i] * 2\n  Z[i] = A[i]\n}"

# Typed as Any: what a type checker would refuse is what is tried here.
einsum: Any = el.einsum
compile: Any = el.compile
evaluate: Any = el.evaluate
rewrite: Any = el.rewrite
parse: Any = el.parse
from_json: Any = el.Cascade.from_json
pipeline: Any = el.Pipeline
contract_expression: Any = el.contract_expression


def _no_path(*_: object) -> int:
    return 3


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "backend": (lambda: compile("i->i", backend=[]), "no backend"),
    "semiring": (lambda: compile("i->i", semiring=[]), "semiring= is a name"),
    "notation": (lambda: compile("i->i", notation={}), "notation is 'compact' or 'named'"),
    "einsum's names": (lambda: einsum("i->i", X, broadcast=[]), "broadcast= is a name"),
    "passes": (lambda: compile("ij,jk->ik", passes=1), "passes are a Pipeline or its text"),
    "sizes": (lambda: compile("i->ij", sizes=3), "sizes= is a dict"),
    "shapes": (lambda: compile("ij,jk->ik", shapes=3), "shapes= is a list"),
    "fractions": (lambda: compile("i->i", shapes=[(2.5,)]), "tuples of whole numbers"),
    "negative extents": (lambda: compile("i->i", shapes=[(-1,)]), "negative"),
    "too few shapes": (lambda: compile("ij,jk->ik", shapes=[(2, 2)]), "2 inputs, but 1 shapes"),
    "too few dtypes": (lambda: compile("ij,jk->ik", dtypes=["f32"]), "2 inputs, but 1 dtypes"),
    "text": (lambda: parse(1), "is to be parsed"),
    "cascade": (lambda: evaluate(None), "a Cascade or its text"),
    "rewritten": (lambda: rewrite(1, "order"), "a Cascade or its text"),
    "keep": (lambda: evaluate("i->i", keep="Y", A=X), "keep= is a list"),
    "path": (lambda: compile("i->").save(None), "a path is needed"),
    "cpu": (lambda: compile("i->").save("x.o", cpu=[1]), "cpu= is the name"),
    "JSON": (lambda: from_json(None), "JSON text"),
    "pipeline": (lambda: pipeline("squeeze"), "made of passes"),
    "finder": (lambda: einsum("i,i,i->i", X, X, X, optimize=_no_path), "no path"),
    "constants": (lambda: contract_expression("i->i", X, constants=1), "list of positions"),
    "name": (lambda: compile("i->", name="sum all"), "cannot be a cascade's name"),
    "narrow acc": (lambda: einsum("i->", np.array([1j]), acc="f4"), "cannot hold"),
    "input's name": (lambda: compile(TWO)(Q=X), "Q is no input"),
    "operands": (lambda: compile("ij,jk->ik")(EYE), "for 2 operands, not for 1"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_explained(what: str) -> None:
    call, words = MISTAKES[what]
    with pytest.raises(el.EinloomError) as caught:
        call()
    assert isinstance(caught.value, ValueError | TypeError)
    assert words in str(caught.value)


def test_two_outputs_need_memory_of_their_own() -> None:
    f = el.compile(TWO)
    one, both = np.zeros(3), np.zeros(4)
    for outs in ((one, one), (both[:3], both[1:])):
        with pytest.raises(ValueError, match="share memory"):
            f(X, out=outs)
    f(X, out=(one, both[:3]))
    np.testing.assert_array_equal((one, both[:3]), (2 * X, X))


@pytest.mark.parametrize("terms", [500, 1200])
def test_an_expression_of_many_terms(terms: int) -> None:
    before = sum(el.fallbacks().values())
    f = el.compile(f"cascade c(A[I]: f64) -> Y {{\n  Y[i] = {'+'.join(['A[i]'] * terms)}\n}}")
    np.testing.assert_array_equal(f(X), terms * X)
    if sum(el.fallbacks().values()) > before:  # too deep for Python: said so, and counted
        with pytest.raises(el.EinloomError, match="too long for native code"):
            _ = f.llvm_ir


def test_a_message_stays_readable() -> None:
    with pytest.raises(el.EinloomError) as caught:
        el.einsum("i" * 100_000, X)
    assert len(str(caught.value)) < 3000


def test_an_executable_is_a_value() -> None:
    f = el.compile("ij,jk->ik", name="product")
    again = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(again(EYE, EYE), EYE)
    assert again.cascade.name == "product"


def test_an_option_is_judged_by_its_type() -> None:
    einsum("ij,jk->ik", EYE, EYE, optimize=True)
    with pytest.raises(TypeError):
        einsum("ij,jk->ik", EYE, EYE, optimize=1)  # equal to True, and no path
