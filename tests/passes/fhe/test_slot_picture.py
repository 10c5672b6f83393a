"""The picture of the slots: every slot once, one colour an element, nothing that is no XML."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest

import einloom as el
from einloom.ir.layouts import Layout
from einloom.passes.fhe.choice import LAYOUTS, LayoutName
from einloom.passes.fhe.slot_picture import COLUMNS, ROWS, VECTORS

SVG = "{http://www.w3.org/2000/svg}"


def drawn(root: ET.Element, kind: str) -> list[ET.Element]:
    return [e for e in root.iter(f"{SVG}g") if kind in (e.get("class") or "").split()]


def pictured(what: str, slots: int, shapes: list[tuple[int, ...]]) -> ET.Element:
    return ET.fromstring(el.pack(what, slots, shapes=shapes).to_svg())


def check(tensor: ET.Element, layout: Layout) -> None:
    """Cells are those of the layout's own table, in order, and each element has its colour."""
    table, colours = layout.table(), dict[str, str]()
    vectors = drawn(tensor, "vector")
    assert len(vectors) == min(layout.vectors, VECTORS)
    for vector, row in zip(vectors, table, strict=False):
        cells = drawn(vector, "cell")
        assert 0 < len(cells) <= COLUMNS * ROWS
        held = [int(cell.get("data-element", "")) for cell in cells]
        np.testing.assert_array_equal(held, row[: len(held)])
        for cell, element in zip(cells, held, strict=True):
            said = cell.findtext(f"{SVG}text", "")
            rect = cell.find(f"{SVG}rect")
            assert rect is not None
            if element < 0:
                assert said == ("·" if layout.zero else "?")
                assert rect.get("fill") is None
            else:
                place = np.unravel_index(element, layout.shape)
                assert said == ",".join(str(int(c)) for c in place)
                colour = rect.get("fill", "")
                assert colours.setdefault(said, colour) == colour
    assert len(set(colours.values())) == len(colours)


@pytest.mark.parametrize(
    ("what", "slots", "shapes"),
    [
        ("ij->ji", 16, [(3, 5)]),
        ("ij,jk->ik", 32, [(4, 6), (6, 3)]),
        ("ij,j->i", 256, [(12, 10), (10,)]),
        ("ij->ji", 16, [(12, 10)]),
        ("i->", 4096, [(4000,)]),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_slot_is_drawn(
    what: str, slots: int, shapes: list[tuple[int, ...]], layout: LayoutName
) -> None:
    packed = el.pack(what, slots, shapes=shapes, layout=layout)
    tensors = drawn(ET.fromstring(packed.to_svg()), "tensor")
    wanted = [each.layout for each in packed.program.inputs]
    wanted += [each.layout for each in packed.program.outputs]
    for tensor, held in zip(tensors, wanted, strict=True):
        assert held is not None
        if held.shape:
            check(tensor, held)
    assert packed.to_svg() == packed.to_svg()


def test_cells_do_not_overlap_and_lie_in_the_picture() -> None:
    root = pictured("ij,jk->ik", 32, [(4, 6), (6, 3)])
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    boxes: list[tuple[float, ...]] = []
    for cell in drawn(root, "cell"):
        rect = cell.find(f"{SVG}rect")
        assert rect is not None
        x, y, w, h = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
        boxes.append((x, y, x + w, y + h))
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            apart = one[2] <= other[0] or other[2] <= one[0]
            assert apart or one[3] <= other[1] or other[3] <= one[1]


def test_what_is_cut_off_is_said() -> None:
    root = pictured("i->", 4096, [(4000,)])
    said = [e.text or "" for e in root.iter(f"{SVG}text")]
    assert "… of 4096 slots, 4000 with an element" in said
    root = pictured("ij->ji", 16, [(12, 10)])
    assert any(
        text.startswith("… of ") and text.endswith(" vectors")
        for text in (e.text or "" for e in root.iter(f"{SVG}text"))
    )


def test_plain_inputs_have_no_slots() -> None:
    packed = el.pack("ij,j->i", 16, shapes=[(2, 4), (4,)], secret=["A"])
    tensors = drawn(ET.fromstring(packed.to_svg()), "tensor")
    names = [tensor.get("data-name") for tensor in tensors]
    assert names == ["A", "B", "Y"]
    assert not drawn(tensors[1], "cell")
    assert tensors[1].findtext(f"{SVG}text") == "input B: plaintext"
