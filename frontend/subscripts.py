"""Classic subscripts, "ij,jk->ik" and interleaved: `contraction.py` makes a Cascade of them.

Right subscripts are read here, by one regular expression: lark, and the table of einsum.lark, would
cost a first call some 60 ms. Wrong ones are given to the grammar, which explains; a test holds that
the two accept the same texts.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..ir.errors import ArgumentError, OperandError, ParseError
from ..ir.source import Source
from .contraction import to_cascade
from .syntax import Label, Subscripts, Term, show_label

__all__ = ["Subscripts", "from_interleaved", "parse_subscripts", "to_cascade"]

# Possessive quantifiers (*+): a text that does not match fails in linear time.
_COMPACT_TERM = r"[\w ]*+(?:\.\.\.[\w ]*+)?+"
_NAMES = r" *+(?:[^\W\d]\w*+ *+)*+"
_NAMED_TERM = rf"{_NAMES}(?:\.\.\.{_NAMES})?+"

#: For each notation: what is right, and one label of it.
_NOTATIONS = {
    "compact": (
        re.compile(rf"{_COMPACT_TERM}(?:,{_COMPACT_TERM})*+(?:->{_COMPACT_TERM})?+"),
        re.compile(r"\.\.\.|\w"),
    ),
    "named": (
        re.compile(rf"{_NAMED_TERM}(?:,{_NAMED_TERM})*+(?:->{_NAMED_TERM})?+"),
        re.compile(r"\.\.\.|\w+"),
    ),
}


def parse_subscripts(text: str, *, notation: str = "compact") -> Subscripts:
    """Subscripts as written: a term for each operand, and the output's if there is an arrow.

    Args:
        text: "ij,jk->ik", or in the named notation "batch i j, batch j k -> batch i k".
        notation: "compact" (each letter, digit or `_` is a symbol) or "named".

    Raises:
        ParseError: the text is not in the grammar.
        OperandError: the text is not a string.
        ArgumentError: there is no such notation.

    >>> [term.labels for term in parse_subscripts("ij, j...").terms]
    [('i', 'j'), ('j', Ellipsis)]
    """
    if notation not in _NOTATIONS:
        raise ArgumentError(f"notation is 'compact' or 'named', not {notation!r}")
    if not isinstance(text, str):
        raise OperandError(f"the subscripts are a string, not {type(text).__name__}")
    source = Source(text)
    right, label = _NOTATIONS[notation]
    if right.fullmatch(text) is None:
        from .parser import check_subscripts  # lark: only to say what is wrong

        check_subscripts(source, notation)
    operands, arrow, output = text.partition("->")
    terms: list[Term] = []
    start = 0
    for chunk in operands.split(","):
        terms.append(_term(text, label, start, start + len(chunk)))
        start += len(chunk) + 1
    last = _term(text, label, len(text) - len(output), len(text)) if arrow else None
    return Subscripts(tuple(terms), last, source)


def _term(text: str, label: re.Pattern[str], start: int, stop: int) -> Term:
    found = list(label.finditer(text, start, stop))
    labels = tuple(... if match[0] == "..." else match[0] for match in found)
    places = tuple(match.span() for match in found)
    if places:
        start, stop = places[0][0], places[-1][1]
    return Term(labels, places, start, stop)


# ---- the interleaved form


def from_interleaved(args: Sequence[Any]) -> tuple[Subscripts, list[Any]]:
    """The subscripts and the operands of `einsum(A, [0, 1], B, [1, 2], [0, 2])`.

    Labels are integers, other hashable values (but no floats, booleans or None), and `...`.

    Raises:
        OperandError: what stands in the place of a list of labels is none.
        ParseError: a list has two ellipses.
        ArgumentError: there is no operand with its labels.

    >>> subscripts, operands = from_interleaved(("A", [0, 1], "B", [1, 2]))
    >>> str(subscripts), operands
    ('[0, 1], [1, 2]', ['A', 'B'])
    """
    if len(args) < 2:
        raise ArgumentError("einsum needs at least one operand and its labels")
    pairs = len(args) // 2
    lists = [_labels(args[2 * n + 1], f"after operand {n}") for n in range(pairs)]
    if len(args) % 2:
        lists.append(_labels(args[-1], "last, for the output"))
    # The terms need a text to point at: the one that Python shows.
    text = ""
    terms: list[Term] = []
    for number, labels in enumerate(lists):
        text += " -> " if number == pairs else ", " if number else ""
        start = len(text)
        places: list[tuple[int, int]] = []
        text += "["
        for label in labels:
            text += ", " if places else ""
            shown = show_label(label)
            places.append((len(text), len(text) + len(shown)))
            text += shown
        text += "]"
        terms.append(Term(tuple(labels), tuple(places), start, len(text)))
    output = terms.pop() if len(args) % 2 else None
    subscripts = Subscripts(tuple(terms), output, Source(text))
    for term in (*terms, *([output] if output else [])):
        if term.labels.count(...) > 1:
            raise ParseError("one ellipsis a list of labels", span=subscripts.span(term))
    return subscripts, [args[2 * n] for n in range(pairs)]


def _labels(given: Any, where: str) -> list[Label]:
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise OperandError(
            f"{where} a list of labels is missing: {type(given).__name__} is none",
            hint="einsum('ij,jk->ik', A, B) or einsum(A, [0, 1], B, [1, 2], [0, 2])",
        )
    try:
        items: list[Any] = list(given)
    except TypeError as error:  # an array of no axes
        raise OperandError(f"{where} a list of labels is missing: {error}") from None
    return [_label(item, where) for item in items]


def _label(item: Any, where: str) -> Label:
    try:
        if not _is_refused(item):
            hash(item)
            # NumPy's integers are shown, and sorted, as Python's.
            return operator.index(item) if hasattr(item, "__index__") else cast("Label", item)
    except TypeError:
        pass
    raise OperandError(
        f"{where} {show_label(item)} is no label",
        hint="labels are integers, other hashable values, and `...`",
    )


def _is_refused(item: object) -> bool:
    refused = bool | float | complex | np.bool_ | np.inexact
    return item is None or isinstance(item, refused)
