"""Layouts: what lies where, what is refused, and that their text reads back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.ir.errors import ParseError, SlotError
from einloom.ir.layouts import Layout, Padding, Piece, row_major
from einloom.ir.slot_parser import parse_layout

from ..generated import examples

LAYOUTS = {
    "strided": Layout(16, (2, 3), (Piece(2, 1, ((0, 1),)), Piece(3, 4, ((1, 1),)))),
    "copies": Layout(16, (4,), (Piece(2, 8), Piece(4, 1, ((0, 1),))), zero=False),
    "split": Layout(16, (6,), (Piece(2, 1, ((0, 1),)), Piece(3, 5, ((0, 2),))), offset=1),
    "overhang": Layout(16, (5,), (Piece(3, 4, ((0, 2),)), Piece(2, 1, ((0, 1),)))),
    "two_vectors": Layout(8, (3, 4), (Piece(3, 4, ((0, 1),)), Piece(4, 1, ((1, 1),)))),
    "diagonal": Layout(
        16, (4, 4), (Piece(4, 4, ((1, 1),)), Piece(4, 1, ((0, 1), (1, 1)))), wrap=True
    ),
    "bicyclic": Layout(16, (3, 5), (Piece(15, 1, ((0, 1), (1, 1))),), wrap=True),
    "scalar": Layout(4, (), (), offset=2),
    "empty": Layout(4, (0, 2), (Piece(0, 2, ((0, 1),)), Piece(2, 1, ((1, 1),)))),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_it_packs_and_unpacks(layout: Layout) -> None:
    values = np.arange(1.0, layout.size + 1).reshape(layout.shape)
    packed = layout.pack(values)
    assert packed.shape == (layout.vectors, layout.slots)
    np.testing.assert_array_equal(layout.unpack(packed), values)
    assert set(packed[layout.table() < 0].tolist()) <= {0.0}
    assert parse_layout(str(layout)) == layout


def test_pictures() -> None:
    assert LAYOUTS["copies"].picture(columns=8) == "0 1 2 3 ? ? ? ?\n0 1 2 3 ? ? ? ?"
    assert LAYOUTS["diagonal"].picture(columns=4) == (
        "0,0 1,1 2,2 3,3\n0,1 1,2 2,3 3,0\n0,2 1,3 2,0 3,1\n0,3 1,0 2,1 3,2"
    )
    assert LAYOUTS["two_vectors"].picture(columns=4, rows=1) == (
        "vector 0\n0,0 0,1 0,2 0,3\n... 8 slots, 8 with an element\n"
        "vector 1\n2,0 2,1 2,2 2,3\n... 8 slots, 4 with an element"
    )
    assert LAYOUTS["scalar"].picture() == " .  . ()  ."


@examples(50)
@given(
    shape=st.lists(st.integers(1, 7), max_size=3),
    padding=st.sampled_from(["exact", "power"]),
    slots=st.sampled_from([8, 16, 64]),
)
def test_row_major_of_any_shape(shape: list[int], padding: Padding, slots: int) -> None:
    layout = row_major(shape, slots, padding)
    values = np.arange(1.0, layout.size + 1).reshape(shape)
    np.testing.assert_array_equal(layout.unpack(layout.pack(values)), values)
    if padding == "exact" and layout.vectors == 1:
        np.testing.assert_array_equal(layout.pack(values)[0, : values.size], values.reshape(-1))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(8, (2, 2), (Piece(2, 1, ((0, 1),)), Piece(2, 1, ((1, 1),)))), "one slot"),
        (Layout(8, (3,), (Piece(2, 1, ((0, 1),)),)), "in no slot"),
        (Layout(8, (2,), (Piece(2, -1, ((0, 1),)),)), "outside the slots"),
    ],
)
def test_what_is_no_layout(layout: Layout, message: str) -> None:
    with pytest.raises(SlotError, match=message):
        layout.table()


def test_arrays_that_do_not_fit() -> None:
    layout = row_major((2, 3), 8)
    with pytest.raises(SlotError, match="shape"):
        layout.pack(np.zeros((3, 2)))
    with pytest.raises(SlotError, match="vectors of shape"):
        layout.unpack(np.zeros((2, 8)))


@pytest.mark.parametrize(
    "text", ["[2] in 8: e0 2:1", "[2] in 8: d0 2", "[2 in 8: one", "[2] in 8: one x"]
)
def test_text_that_is_no_layout(text: str) -> None:
    with pytest.raises(ParseError):
        parse_layout(text)
