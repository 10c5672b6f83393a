"""Classic subscripts, "ij,jk->ik" and interleaved: `contraction.py` makes a Cascade of them.

einsum.lark is the grammar. It is not what reads: to import lark and to build its table would cost
a first call some 60 ms, a regular expression costs nothing. A test holds that the two accept the
same texts, find the same labels, and stop at the same place where a text is wrong.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..ir.errors import ArgumentError, OperandError, ParseError
from ..ir.source import Source, Span
from .contraction import to_cascade
from .hints import SUBSCRIPT_HINTS
from .terms import Label, Subscripts, Term, show_label

__all__ = ["Subscripts", "from_interleaved", "parse_subscripts", "to_cascade"]

# Possessive quantifiers (*+): a text that does not match fails in linear time.
_SYMBOL = r"[^\x00-/:-@\[-^`{-\xa0\s\ud800-\udfff]"
_COMPACT_TERM = rf"(?:{_SYMBOL}| )*+(?:\.\.\.(?:{_SYMBOL}| )*+)?+"
_NAMES = r" *+(?:[^\W\d]\w*+ *+)*+"
_NAMED_TERM = rf"{_NAMES}(?:\.\.\.{_NAMES})?+"

#: For each notation: what is right, and one label of it.
_NOTATIONS = {
    "compact": (
        re.compile(rf"{_COMPACT_TERM}(?:,{_COMPACT_TERM})*+(?:->{_COMPACT_TERM})?+"),
        re.compile(rf"\.\.\.|{_SYMBOL}"),
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
        notation: "compact" (each letter, digit, `_` or character past ASCII is a symbol) or
            "named".

    Raises:
        ParseError: the text is not in the grammar.
        OperandError: the text is not a string.
        ArgumentError: there is no such notation.

    >>> [term.labels for term in parse_subscripts("ij, j...").terms]
    [('i', 'j'), ('j', Ellipsis)]
    """
    if str(notation) not in _NOTATIONS:  # whatever it is: a list cannot be looked up
        raise ArgumentError(f"notation is 'compact' or 'named', not {notation!r}")
    if not isinstance(text, str):
        raise OperandError(f"the subscripts are a string, not {type(text).__name__}")
    source = Source(text)
    right, label = _NOTATIONS[notation]
    if right.fullmatch(text) is None:
        raise _unexpected(source, right)
    operands, arrow, output = text.partition("->")
    terms: list[Term] = []
    start = 0
    for chunk in operands.split(","):
        terms.append(_term(text, label, start, start + len(chunk)))
        start += len(chunk) + 1
    last = _term(text, label, len(text) - len(output), len(text)) if arrow else None
    return Subscripts(tuple(terms), last, source)


def _unexpected(source: Source, right: re.Pattern[str]) -> ParseError:
    """What is wrong: where the longest beginning that is right ends."""
    match = right.match(source.text)
    at = match.end() if match else 0
    rest = source.text[at : at + 3]
    found = next((token for token in ("...", "->") if rest.startswith(token)), rest[0])
    return ParseError(
        f"unexpected {found!r}",
        span=Span(source, at, at + len(found)),
        hint=SUBSCRIPT_HINTS.get(found),
    )


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
    lists = [_labels(args[2 * n + 1], f"operand {n}") for n in range(pairs)]
    if len(args) % 2:
        lists.append(_labels(args[-1], "the output"))
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
    return Subscripts(tuple(terms), output, Source(text)), [args[2 * n] for n in range(pairs)]


def _labels(given: Any, owner: str) -> list[Label]:
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise OperandError(
            f"the labels of {owner} are a list, not {type(given).__name__}",
            hint="einsum('ij,jk->ik', A, B) or einsum(A, [0, 1], B, [1, 2], [0, 2])",
        )
    try:
        items: list[Any] = list(given)
    except TypeError as error:  # an array of no axes
        raise OperandError(f"the labels of {owner} are a list: {error}") from None
    labels: list[Label] = []
    for item in items:
        labels.append(_label(item, owner))
        if item is ... and labels.count(...) > 1:
            raise ParseError(
                f"one ellipsis a list; the labels of {owner} have two",
                deduced=(f"[{', '.join(map(show_label, items))}]",),
            )
    return labels


def _label(item: Any, owner: str) -> Label:
    try:
        if not _is_refused(item):
            hash(item)
            # NumPy's integers are shown, and sorted, as Python's.
            return operator.index(item) if hasattr(item, "__index__") else cast("Label", item)
    except TypeError:
        pass
    raise OperandError(
        f"{show_label(item)}, among the labels of {owner}, is none",
        hint="labels are integers, other hashable values, and `...`",
    )


def _is_refused(item: object) -> bool:
    refused = bool | float | complex | np.bool_ | np.inexact
    return item is None or isinstance(item, refused)
