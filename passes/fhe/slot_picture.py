"""Draws which element lies in which slot: each tensor's vectors as rows of coloured cells."""

from __future__ import annotations

import math
from colorsys import hls_to_rgb
from xml.etree import ElementTree as ET

import numpy as np

from ...ir.layouts import Layout
from ...ir.slots import SlotProgram
from ..svg import CHAR, LINE, PAD, add_group, add_rect, add_text, finished, picture, width_of

#: So many rows of a vector are drawn, so many cells in a row at most, so many vectors of a tensor.
ROWS, COLUMNS, VECTORS = 8, 16, 4
#: The height of a cell, what lies between two of them.
_HIGH, _GAP = 22, 2
#: Degrees of hue from one coordinate to the next: never the same again.
_GOLDEN = 137.508

STYLE = """
  .cell text { fill: #1f2328; text-anchor: middle; font-size: 11px }
  .zero rect { fill: none; stroke: #8b949e; stroke-opacity: .4 }
  .any rect { fill: none; stroke: #8b949e; stroke-dasharray: 2 2 }
  .zero text, .any text { fill: #8b949e }
"""


def draw(program: SlotProgram) -> str:
    """One SVG of the layouts of a program's encrypted inputs and of its outputs.

    Cells that hold one element have one colour: its hue follows the first coordinate, its lightness
    the others. `·` is a slot with 0, `?` one that may hold anything. A large vector is cut off.
    """
    root = picture(f"{program.name} in {program.slots} slots", STYLE)
    bottom, right = float(PAD), 0.0
    held = [(f"input {each.name}", each.layout) for each in program.inputs]
    held += [(f"output {each.name}", each.layout) for each in program.outputs]
    for name, layout in held:
        group = add_group(root, "tensor", name=name.partition(" ")[2])
        said = f"{name}: {'plaintext' if layout is None else layout}"
        right = max(right, PAD + width_of(add_text(group, PAD, bottom + LINE, "title", said)) * 1.2)
        bottom += 2 * LINE
        if layout is not None:
            bottom, across = _vectors(group, layout, bottom)
            right = max(right, across)
    return finished(root, right + PAD, bottom + PAD)


def _vectors(parent: ET.Element, layout: Layout, top: float) -> tuple[float, float]:
    """The vectors of a layout from `top` on; where they end, downwards and across."""
    columns = _columns(layout)
    last = max(int(np.flatnonzero(vector >= 0).max(initial=0)) for vector in layout.table())
    rows = min(last // columns + 2, ROWS)  # and one that is empty, if there is one
    table = layout.table()[:VECTORS, : columns * rows]
    labels = {element: _label(layout, element) for element in np.unique(table).tolist()}
    wide = max(map(len, labels.values())) * CHAR + 10
    y, right = top, PAD + columns * (wide + _GAP)
    for number, vector in enumerate(table):
        group = add_group(parent, "vector", number=str(number))
        if layout.vectors > 1:
            add_text(group, PAD, y + LINE - 4, "quiet", f"vector {number}")
            y += LINE + 4
        for slot, element in enumerate(vector.tolist()):
            row, column = divmod(slot, columns)
            x, high = PAD + column * (wide + _GAP), y + row * (_HIGH + _GAP)
            _cell(group, layout, element, labels[element], (x, high, wide))
        y += math.ceil(len(vector) / columns) * (_HIGH + _GAP)
        if len(vector) < layout.slots:
            used = int(np.count_nonzero(layout.table()[number] >= 0))
            said = f"… of {layout.slots} slots, {used} with an element"
            right = max(right, PAD + width_of(add_text(group, PAD, y + LINE - 4, "quiet", said)))
            y += LINE + 4
    if layout.vectors > VECTORS:
        add_text(parent, PAD, y + LINE - 4, "quiet", f"… of {layout.vectors} vectors")
        y += LINE + 4
    return y + LINE, right


def _columns(layout: Layout) -> int:
    """Cells in a row: whole rows of the tensor, where they are short enough."""
    stride = min((p.stride for p in layout.pieces if 4 <= p.stride <= COLUMNS), default=1)
    return min(COLUMNS // stride * stride, layout.slots)


def _cell(
    parent: ET.Element,
    layout: Layout,
    element: int,
    label: str,
    place: tuple[float, float, float],
) -> None:
    x, y, wide = place
    kind = "cell" if element >= 0 else "cell zero" if layout.zero else "cell any"
    group = add_group(parent, kind, element=str(element))
    add_rect(group, x, y, wide, _HIGH, None)
    if element >= 0:
        group[-1].set("fill", _colour(layout, element))
    add_text(group, x + wide / 2, y + _HIGH - 7, None, label)


def _label(layout: Layout, element: int) -> str:
    if element < 0:
        return "·" if layout.zero else "?"
    return ",".join(map(str, _coordinates(layout, element))) or "()"


def _coordinates(layout: Layout, element: int) -> list[int]:
    return [int(c) for c in np.unravel_index(element, layout.shape)] if layout.shape else []


def _colour(layout: Layout, element: int) -> str:
    first, *_ = [*_coordinates(layout, element), 0]
    inner = max(math.prod(layout.shape[1:]), 1)
    light = 0.88 - 0.26 * (element % inner) / inner
    red, green, blue = hls_to_rgb(first * _GOLDEN % 360 / 360, light, 0.7)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
