"""Random text and JSON: whatever it is, an EinloomError or a Cascade, and what lark would say."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

import lark
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.frontend.hints import CHAINED
from einloom.frontend.parser import parse_cascade, parse_file
from einloom.ir.cascade import Cascade
from einloom.ir.errors import EinloomError, ParseError
from einloom.ir.source import Source
from einloom.ir.verify import verify

from ..cascades import Sample, generals
from ..generated import examples
from ..support import ROOT
from ..texts import Writer

_WRITTEN = random.Random(0)
EXAMPLES = [
    *(path.read_text("utf-8") for path in sorted(ROOT.glob("examples/*.ein"))),
    *(Writer(_WRITTEN, lawful=False).text() for _ in range(50)),
]

#: Everything that the grammar is made of, and some that it is not.
TOKENS = """
    ( ) [ ] { } , : = + - * / // % < <= > >= == != & | ^ ~ << >> -> ; @ . " ' ! ? \\ #
    cascade ranks partition use op semiring over where else sum max argmax exp select
    A B Y I J M M0 i j m v f f32 i8 inf nan true 0 1 2 0.5 1e9 2j 99999999999999999999
    commutative identity max_plus é İ ﬁ 𝔸
"""
WORDS = (*TOKENS.split(), "\n", "\r\n", "\t", "\0", "\ud800")

#: How many random texts each kind of fuzzer reads.
ROUNDS = 1000


def read(text: str) -> Cascade | None:
    """The Cascade, or None; anything but an EinloomError comes through."""
    with suppress(EinloomError):
        return parse_cascade(text)
    return None


def soup(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(40)))


def stew(rng: random.Random) -> str:
    """Soup where an expression belongs."""
    return f"cascade f(A[I,J], B[J]) -> Y {{\n  Y[i] = {soup(rng)}\n}}"


def noise(rng: random.Random) -> str:
    return rng.randbytes(rng.randrange(80)).decode("utf-8", "replace")


def letters(rng: random.Random) -> str:
    return "".join(chr(rng.randrange(0x11_0000)) for _ in range(rng.randrange(40)))


def mutated(rng: random.Random) -> str:
    """An example in which some tokens are others, gone, twice, or in another place."""
    tokens = re.findall(r"\w+|\s+|.", rng.choice(EXAMPLES))
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        match rng.randrange(5):
            case 0:
                tokens[at] = rng.choice(WORDS)
            case 1:
                tokens[at] = ""
            case 2:
                tokens[at] *= 2
            case 3:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case _:
                tokens[at] = tokens[other]
    return "".join(tokens)


def cut(rng: random.Random) -> str:
    """The beginning of one example and the end of another."""
    one, other = rng.choices(EXAMPLES, k=2)
    return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]


TEXTS: tuple[Callable[[random.Random], str], ...] = (soup, stew, noise, letters, mutated, cut)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text.__name__))
def test_any_text_is_read_or_refused(text: Callable[[random.Random], str]) -> None:
    rng = random.Random(0)
    for _ in range(ROUNDS):
        found = read(text(rng))
        if found is not None:
            assert parse_cascade(str(found)) == found


@examples(300)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=30))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    read(" ".join(words))
    read(f"cascade f(A[I,J], B[J]) -> Y {{ Y[i] = A[i,j]{' '.join(words)} }}")


GLUED = re.compile(r"\b(cascade|ranks|partition|use|op|semiring|over|where|else)\w")


@cache
def larks() -> Any:
    grammar = str(ROOT / "frontend" / "cascade.lark")
    options: Any = {"parser": "lalr", "start": "start"}
    parser: Any = lark.Lark.open(grammar, **options)  # pyright: ignore[reportUnknownMemberType]
    return parser


@pytest.mark.parametrize("text", [stew, mutated, cut], ids=lambda text: str(text.__name__))
def test_the_grammar_is_larks(text: Callable[[random.Random], str]) -> None:
    """Our driver of lark's tables takes what lark's own takes.

    But for words that run into a name, such as `overlog`, which are names to us alone.
    """
    rng = random.Random(1)
    for _ in range(ROUNDS // 3):
        given = text(rng)
        refused = False
        try:
            larks().parse(given)
        except lark.UnexpectedInput:
            refused = True
        try:
            parse_file(Source(given))
        except ParseError as error:
            if not refused:
                # What the grammar leaves to us: chains of comparisons, numbers, depth.
                ours = "unexpected" not in error.message or error.hint == CHAINED
                assert ours or GLUED.search(given), given
        else:
            assert not refused, given


# ---- JSON


#: Values that are of the wrong type, more often than not; 2^70 and 2^64 are among them.
WRONG = """[
    null, true, 0, -1, 0.5, 1180591620717411303424, "", "A", "add", [], ["A"], [[]], {}, {"a": 1},
    {"dtype": "f32"}, {"dtype": []}, {"float": "x"}, {"float": "inf"}, {"set": [[]]},
    {"complex": ["0"]}, {"node": "Term", "coefficient": 0, "sizes": [], "variable": "i"},
    {"node": "RankExpr", "terms": [], "offset": 18446744073709551616}, {"node": []},
    {"node": "Literal", "value": "1"}, {"node": "Coordinate", "name": ""}, {"node": "Cascade"},
    {"node": "Access", "tensor": "A", "indices": [], "fill": null}
]"""


def wrong(rng: random.Random) -> Any:
    return rng.choice(json.loads(WRONG))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def damaged(data: Any, rng: random.Random) -> Any:
    """JSON with one value in it replaced, left out, or put twice."""
    places: list[tuple[Any, Any]] = []
    stack = [data]
    while stack:
        node = stack.pop()
        keys: Iterable[Any] = node if _is_object(node) else range(len(node))
        for key in keys:
            places.append((node, key))
            if _is_object(node[key]) or _is_list(node[key]):
                stack.append(node[key])
    node, key = rng.choice(places)
    match rng.randrange(3):
        case 0 if _is_object(node):
            del node[key]
        case 1 if _is_list(node):
            node.append(node[key])
        case _:
            node[key] = wrong(rng)
    return data


@examples(300)
@given(generals(), st.integers(0, 2**32))
def test_json_that_is_nearly_right(sample: Sample, seed: int) -> None:
    rng = random.Random(seed)
    data = json.loads(sample.cascade.to_json())
    for _ in range(rng.choice((1, 1, 3))):
        data = damaged(data, rng)
    with suppress(EinloomError):
        cascade = verify(Cascade.from_json(json.dumps(data)))
        with suppress(EinloomError):
            parse_cascade(str(cascade))


def test_json_of_an_example_that_is_nearly_right() -> None:
    rng = random.Random(0)
    texts = [parse_cascade(text).to_json() for text in EXAMPLES if "use" not in text]
    for _ in range(ROUNDS):
        data = damaged(json.loads(rng.choice(texts)), rng)
        with suppress(EinloomError):
            verify(Cascade.from_json(json.dumps(data)))
