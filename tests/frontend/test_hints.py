"""Every example in hints.py is told what it teaches."""

from __future__ import annotations

import pytest

from einloom.frontend.hints import CASCADE, CHARACTERS, SUBSCRIPT_HINTS
from einloom.frontend.parser import parse_file
from einloom.frontend.subscripts import parse_subscripts
from einloom.ir.errors import ParseError
from einloom.ir.source import Source


@pytest.mark.parametrize("hint", CASCADE)
def test_examples(hint: str) -> None:
    for example in CASCADE[hint]:
        with pytest.raises(ParseError) as caught:
            parse_file(Source(example))
        assert caught.value.hint == hint, example


@pytest.mark.parametrize("character", CHARACTERS)
def test_characters(character: str) -> None:
    text = f"cascade f(A[I]) -> Y {{\n  Y[i] = 2{character}x\n}}"
    if character.isdigit():
        text = f"cascade f(A[I]) -> Y {{\n  Y[i] = {character}x\n}}"
    with pytest.raises(ParseError) as caught:
        parse_file(Source(text))
    assert caught.value.hint == CHARACTERS[character]


@pytest.mark.parametrize("found", SUBSCRIPT_HINTS)
def test_subscripts(found: str) -> None:
    text = "...i->i..." if found in ("->", "...", ",") else "i "
    with pytest.raises(ParseError) as caught:
        parse_subscripts(text + found, notation="named" if found.isdigit() else "compact")
    assert caught.value.hint == SUBSCRIPT_HINTS[found]
