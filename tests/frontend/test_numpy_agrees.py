"""Accepts what `np.einsum` accepts, refuses what it refuses, and means the same.

The reference is NumPy's own loop (`optimize=False`). What differs is written here, case by case,
and in docs/dialect.md: where NumPy disagrees with itself, and what einloom takes beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from einloom.frontend.subscripts import from_interleaved, parse_subscripts, to_cascade
from einloom.ir.errors import EinloomError
from einloom.ir.interpreter import evaluate

Array = np.ndarray[Any, np.dtype[Any]]


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[Array]]:
    """Subscripts, mostly right, and operands that mostly fit them."""
    extents = {symbol: draw(st.sampled_from((0, 1, 2, 2, 3))) for symbol in "ijkA"}
    under = draw(st.lists(st.sampled_from((1, 2, 3)), min_size=3, max_size=3))
    terms: list[str] = []
    shapes: list[list[int]] = []
    for _ in range(draw(st.integers(1, 3))):
        term = draw(st.text("iijkA", max_size=3))
        shape = [_mostly(draw, extents[symbol], 1, 2) for symbol in term]
        if draw(st.integers(0, 2)) == 0:
            at, width = draw(st.integers(0, len(term))), draw(st.integers(0, 3))
            middle = [_mostly(draw, extent, 1) for extent in under[3 - width :]]
            term, shape = f"{term[:at]}...{term[at:]}", [*shape[:at], *middle, *shape[at:]]
        if draw(st.integers(0, 19)) == 0:
            shape.append(2)
        terms.append(term)
        shapes.append(shape)
    text = ",".join(terms)
    if draw(st.integers(0, 2)):
        symbols = sorted(set(text) - set(",."))
        chosen = draw(st.permutations(symbols))[: draw(st.integers(0, len(symbols)))]
        output = "".join(chosen) + draw(st.sampled_from(("",) * 9 + ("i", "z")))
        at = draw(st.integers(0, len(output)))
        dots = "..." if "..." in text and draw(st.integers(0, 4)) else ""
        text += f"->{output[:at]}{dots}{output[at:]}"
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        at = draw(st.integers(0, len(text)))
        put = draw(st.sampled_from(("", " ", " ", ".", ",", "-", ">", "i", "A", "%", "\t", "...")))
        text = text[:at] + put + text[at + (not put) :]
    if draw(st.integers(0, 29)) == 0:
        shapes.append([2])
    return text, [_operand(shape) for shape in shapes]


def _mostly(draw: st.DrawFn, usual: int, *others: int) -> int:
    return draw(st.sampled_from((usual,) * 12 + others))


def _operand(shape: Sequence[int]) -> Array:
    return np.arange(1, 1 + int(np.prod(shape)), dtype=np.int64).reshape(shape)


def numpys(*args: Any) -> Array | Exception:
    try:
        return np.asarray(np.einsum(*args, optimize=False))
    except (ValueError, TypeError) as error:
        return error


def ours(*args: Any) -> Array | EinloomError:
    try:
        if isinstance(args[0], str):
            subscripts, operands = parse_subscripts(args[0]), list(args[1:])
        else:
            subscripts, operands = from_interleaved(args)
        arrays = [np.asarray(operand) for operand in operands]
        cascade = to_cascade(subscripts, [array.shape for array in arrays])
    except EinloomError as error:
        return error
    inputs = {decl.name: array for decl, array in zip(cascade.inputs, arrays, strict=True)}
    return evaluate(cascade, inputs)[cascade.outputs[0]]


def of_one_class(found: Exception, expected: Exception) -> bool:
    """A ValueError or a TypeError, as the other is."""
    return isinstance(found, ValueError) == isinstance(expected, ValueError)


def disagrees_with_itself(text: str, operands: Sequence[Array], error: object) -> bool:
    """The two cases that NumPy decides one way here and another way there."""
    if "output has more dimensions" in str(error):
        # An explicit output drops an ellipsis that has axes: with optimize=True, they are summed.
        return True
    # A view of a diagonal whose first axis has extent 0 and whose second has not: NumPy's view
    # reads outside of the array; with the axes the other way round, or summed, it is an error.
    (term, *more) = text.replace(" ", "").partition("->")[0].split(",")
    if more or 0 not in operands[0].shape:
        return False
    width = operands[0].ndim - len(term.replace("...", ""))
    symbols = list(term.replace("...", "." * width))
    axes = {s: [e for t, e in zip(symbols, operands[0].shape, strict=True) if t == s] for s in term}
    return any(found[0] == 0 and any(found) for found in axes.values() if found)


@given(calls())
@settings(max_examples=1500)
def test_the_same_decision_and_the_same_value(call: tuple[str, list[Array]]) -> None:
    text, operands = call
    expected, found = numpys(text, *operands), ours(text, *operands)
    if isinstance(expected, Exception) and isinstance(found, Exception):
        event("refused")
        assert of_one_class(found, expected)
    elif isinstance(found, Exception):
        assert disagrees_with_itself(text, operands, None), found
    elif isinstance(expected, Exception):
        event("accepted, and by NumPy with optimize=True")
        assert disagrees_with_itself(text, operands, expected), expected
        np.testing.assert_array_equal(found, np.einsum(text, *operands, optimize=True))
    else:
        event("accepted")
        np.testing.assert_array_equal(found, expected, strict=True)


LABELS: st.SearchStrategy[Any] = st.sampled_from((0, 1, 2, 2, 30, 51, ..., np.int64(1)))
NO_LABELS: st.SearchStrategy[Any] = st.sampled_from((1.0, True, None, [0], {}, np.float64(2)))
LISTS: st.SearchStrategy[Any] = st.one_of(
    *[st.lists(LABELS, max_size=3)] * 6,
    st.lists(LABELS, max_size=3).map(tuple),
    st.lists(LABELS | NO_LABELS, max_size=3),
    st.sampled_from((None, 3, "ij", b"\0\1", 2.5)),
)


@given(
    st.lists(
        st.tuples(st.sampled_from(((), (2,), (2, 3), (3, 2), (2, 2, 3))), LISTS),
        min_size=1,
        max_size=3,
    ),
    LISTS | st.just("nothing"),
    st.data(),
)
@settings(max_examples=500)
def test_interleaved(
    pairs: list[tuple[tuple[int, ...], Any]], output: Any, data: st.DataObject
) -> None:
    args: list[Any] = []
    for shape, given_labels in pairs:
        args += [_operand(shape), given_labels]
        if type(given_labels) is list and data.draw(st.integers(0, 4)):
            # As many labels as axes, mostly.
            args[-1] = [*args[-1], 0, 1, 2][: len(shape)]
    if output != "nothing":
        args.append(output)
    expected, found = numpys(*args), ours(*args)
    if isinstance(expected, Exception) and isinstance(found, Exception):
        assert of_one_class(found, expected), (found, expected)
    elif isinstance(expected, Exception):
        assert "output has more dimensions" in str(expected)
    else:
        np.testing.assert_array_equal(found, expected, strict=True)


def test_what_einloom_takes_beyond_numpy() -> None:
    calls: tuple[tuple[Any, ...], ...] = (
        ("é,é->é", [1, 2], [3, 4]),
        ("0_->_0", [[1, 2]]),
        (np.ones((2, 3)), [52, -1]),
        (np.ones((2, 3)), ["a", "b"]),
    )
    for call in calls:
        assert isinstance(numpys(*call), Exception)
        assert isinstance(ours(*call), np.ndarray)


def test_a_nul_does_not_end_the_text() -> None:
    # NumPy reads up to it, or with optimize=True refuses it.
    assert isinstance(numpys("i\0%", np.ones(2)), np.ndarray)
    assert "unexpected '\\x00'" in str(ours("i\0%", np.ones(2)))
