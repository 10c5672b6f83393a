"""The arguments of calls: of `einsum` in all its forms, and of what is compiled by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.errors import ArgumentError, OperandError
from .subscripts import from_interleaved, parse_subscripts, to_cascade
from .terms import Subscripts

#: What NumPy's own parser takes.
_NUMPY_SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NUMPY_TEXT = frozenset(_NUMPY_SYMBOLS + " ,.->")


def read_call(
    subscripts: Any, operands: Sequence[Any], notation: str
) -> tuple[Subscripts, Sequence[Any]]:
    """The subscripts and the operands of a call, in any of the orders that it may have.

    Raises:
        ParseError: the subscripts are not in the grammar.
        ArgumentError: there are no operands.
    """
    if isinstance(subscripts, Subscripts):
        return subscripts, operands
    if isinstance(subscripts, bytes):
        subscripts = subscripts.decode("ascii", "replace")
    if not isinstance(subscripts, str) and notation == "named" and operands:
        *first, last = operands
        if isinstance(last, str):
            subscripts, operands = last, (subscripts, *first)
    if isinstance(subscripts, str):
        if not operands:
            raise ArgumentError("einsum needs the subscripts and at least one operand")
        return parse_subscripts(subscripts, notation=notation), operands
    if not operands:
        raise ArgumentError("einsum needs the subscripts and at least one operand")
    return from_interleaved((subscripts, *operands))


def as_array(operand: Any, number: int) -> np.ndarray[Any, np.dtype[Any]]:
    """An operand as a plain array.

    Raises:
        ArgumentError: it cannot be one: a ragged list.
    """
    try:
        return np.asarray(operand)
    except ValueError as error:
        raise ArgumentError(f"operand {number} cannot be made an array: {error}") from None


def in_numpys_letters(operands: Sequence[Any], notation: str) -> Sequence[Any]:
    """The arguments of a call as NumPy reads them, unchanged where it does."""
    if not operands:
        return operands
    first = operands[0]
    if isinstance(first, str) and notation == "compact" and _NUMPY_TEXT.issuperset(first):
        return operands
    parsed, given = read_call(first, operands[1:], notation)
    labels = list(dict.fromkeys(label for term in parsed.terms for label in term.symbols))
    if not isinstance(first, str) and all(
        isinstance(label, int) and 0 <= label < len(_NUMPY_SYMBOLS) for label in labels
    ):
        return operands
    if len(labels) > len(_NUMPY_SYMBOLS):
        raise ArgumentError(
            f"einsum_path reports in NumPy's {len(_NUMPY_SYMBOLS)} letters; "
            f"these subscripts have {len(labels)} symbols",
            hint="`compile(..., shapes=...).steps` shows the order",
        )
    arrays = [as_array(operand, number) for number, operand in enumerate(given)]
    # Everything that NumPy does not know how to check is checked here; the output is then said.
    to_cascade(parsed, [array.shape for array in arrays])
    letters: dict[Any, Any] = {label: label for label in labels if label in tuple(_NUMPY_SYMBOLS)}
    rest = iter([letter for letter in reversed(_NUMPY_SYMBOLS) if letter not in letters])
    for label in labels:
        if label not in letters:
            letters[label] = next(rest)
    output = parsed.output.labels if parsed.output else _implied_output(parsed)
    terms = [term.labels for term in parsed.terms]
    text = [
        "".join("..." if label is ... else str(letters[label]) for label in term)
        for term in (*terms, output)
    ]
    return (f"{','.join(text[:-1])}->{text[-1]}", *arrays)


def _implied_output(parsed: Subscripts) -> Sequence[Any]:
    """The ellipsis, and the symbols that occur once, sorted."""
    symbols: list[Any] = [symbol for term in parsed.terms for symbol in term.symbols]
    dots = [...] if any(term.has_ellipsis for term in parsed.terms) else []
    return [*dots, *sorted(symbol for symbol in symbols if symbols.count(symbol) == 1)]


def by_name(
    names: Sequence[str], arrays: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """What a call gives for each input, in order and by name.

    Raises:
        OperandError: an input is given twice, or is not one of those.
        ArgumentError: one is missing, or there are more than those.
    """
    inputs = (f"inputs: {', '.join(names) or 'none'}",)
    given = dict(zip(names, arrays, strict=False))
    for name, array in named.items():
        if name not in names:
            raise OperandError(f"{name} is no input here", deduced=inputs)
        if name in given:
            raise OperandError(f"the input {name} is given twice")
        given[name] = array
    missing = [name for name in names if name not in given]
    if missing or len(arrays) > len(names):
        needed, count = len(names), len(arrays) + len(named)
        raise ArgumentError(
            f"{needed} input{' is' if needed == 1 else 's are'} needed, "
            f"{count} {'was' if count == 1 else 'were'} given",
            deduced=inputs,
            hint=f"missing: {', '.join(missing)}" if missing else None,
        )
    return given
