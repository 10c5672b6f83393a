"""The einsums of NumPy's and opt_einsum's own tests, encrypted: equal to the interpreter.

The subscripts are read off the installed test modules, each once up to the names of its symbols.
Their tests themselves ask for exact dtypes and exact integers, which no CKKS gives; here the result
must lie within the error that the report says.
"""

from __future__ import annotations

import ast
import importlib.util
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.frontend.subscripts import parse_subscripts
from einloom.ir.errors import EinloomError

from ...encrypting import compiled

MODULES = [
    "numpy._core.tests.test_einsum",
    *(f"opt_einsum.tests.test_{name}" for name in ("contract", "edge_cases", "input", "paths")),
]
#: Words with commas that are no subscripts, though they would parse.
WORDS = {
    "string,constants",
    "expression,operands",
    "alg,expression,order",
    "expression,order",
    "minimize,cost,width,path",
    "inp,benchmark",
}
#: What is refused, and why.
GAPS = {"i->ij": "no operand has j: its extent needs sizes=, and ones to multiply by"}


def einsums() -> list[str]:
    """The subscripts, in the order in which they are first found."""
    found: dict[str, str] = {}
    for module in MODULES:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        for node in ast.walk(ast.parse(Path(spec.origin).read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value.replace(" ", "")
                if is_einsum(text):
                    found.setdefault(renamed(text), text)
    return list(found.values())


def is_einsum(text: str) -> bool:
    if text in WORDS or not re.fullmatch(r"[A-Za-z.,>-]+", text) or not re.search(",|->", text):
        return False
    try:
        parse_subscripts(text)
    except EinloomError:
        return False
    return True


def renamed(text: str) -> str:
    """With the symbols a, b, ... in order of appearance, if what is written decides the output."""
    if "->" not in text:
        return text
    names: dict[str, str] = {}
    return "".join(
        names.setdefault(c, chr(ord("a") + len(names))) if c.isalpha() else c for c in text
    )


def shapes_of(text: str) -> list[tuple[int, ...]]:
    """Extents of 2 and 3 for up to three symbols, chosen by the text alone, 1 for the others."""
    terms = text.partition("->")[0].split(",")
    labels = sorted(set("".join(terms)) - {"."})
    chosen = random.Random(text).sample(labels, min(3, len(labels)))
    sizes = dict.fromkeys(labels, 1) | {label: 2 + n % 2 for n, label in enumerate(chosen)}
    return [
        tuple(2 if label == "*" else sizes[label] for label in term.replace("...", "*"))
        for term in terms
    ]


def check(text: str, **options: Any) -> None:
    rng = np.random.default_rng(len(text))
    arrays = [rng.uniform(-1, 1, shape) for shape in shapes_of(text)]
    f = compiled(text, **options)
    found = f(*arrays)
    given: dict[str, Any] = dict(zip((decl.name for decl in f.cascade.inputs), arrays, strict=True))
    wanted = el.evaluate(f.cascade, **given)
    (error,) = f.report.errors.values()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max(initial=0.0) <= error.bound < 1e-2


EINSUMS = einsums()


@pytest.mark.parametrize("text", EINSUMS)
def test_simulated(text: str) -> None:
    layout = "free" if EINSUMS.index(text) % 2 else "row-major"
    options: dict[str, Any] = {"layout": layout, "insecure": True}
    if text not in GAPS:
        check(text, **options)
        return
    with pytest.raises(EinloomError):
        check(text, **options)


@pytest.mark.parametrize(
    "text",
    ["ij,jk", "ii->i", "...ii->...i", "ij...,j...->i...", "i,->", "ijij->", "a,b,ab->ab", "ij->ji"],
)
def test_by_seal(text: str) -> None:
    assert text in {*EINSUMS, "ij->ji"}
    check(text, engine="seal")


def test_the_right_ones_are_found() -> None:
    """Later versions may hold others; this is what ran when it was written."""
    assert len(EINSUMS) > 140
    assert {"ij,jk->ik", "ii->i", "i,->", "bbcdc->d", "...lmn,lmno->...o", "i->ij"} <= set(EINSUMS)
