"""Pictures as SVG: pure text, the same each time, with what all of them share.

Text is escaped; colours follow the reader's light or dark scheme.
"""

from __future__ import annotations

import unicodedata
from xml.etree import ElementTree as ET

#: Sizes in pixels: of a character, a line of text, the margin.
CHAR, LINE, PAD = 7.4, 17, 16
#: So many characters of a line are drawn; the whole is there to point at.
LONGEST = 76

STYLE = """
  .paper { fill: #ffffff } text { fill: #1f2328; font: 12px ui-monospace, Menlo, Consolas,
    'DejaVu Sans Mono', monospace }
  .title { font-weight: bold; font-size: 14px } .quiet { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 } }
"""


def picture(title: str, style: str) -> ET.Element:
    """An SVG to draw on: its title, and what it styles besides."""
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "style").text = STYLE.rstrip() + style
    paper = ET.SubElement(root, "rect", {"class": "paper", "width": "100%", "height": "100%"})
    paper.tail = "\n"
    return root


def finished(root: ET.Element, right: float, bottom: float) -> str:
    """The text of an SVG of that size."""
    root.set("width", shown(right))
    root.set("height", shown(bottom))
    root.set("viewBox", f"0 0 {shown(right)} {shown(bottom)}")
    return ET.tostring(root, encoding="unicode") + "\n"


def add_group(parent: ET.Element, kind: str, **data: str) -> ET.Element:
    """A group of a class, with `data-` attributes."""
    named = {f"data-{name}": value for name, value in data.items()}
    return ET.SubElement(parent, "g", {"class": kind} | named if kind else named)


def add_rect(
    parent: ET.Element, x: float, y: float, wide: float, high: float, kind: str | None
) -> None:
    """A rectangle with round corners."""
    sizes = {"x": shown(x), "y": shown(y), "width": shown(wide), "height": shown(high), "rx": "4"}
    ET.SubElement(parent, "rect", sizes if kind is None else {"class": kind, **sizes})


def add_text(parent: ET.Element, x: float, y: float, kind: str | None, text: str) -> str:
    """Writes a line, cut if it is long; the text that is shown."""
    place = {"x": shown(x), "y": shown(y)}
    made = ET.SubElement(parent, "text", place if kind is None else {"class": kind, **place})
    made.text = short = shorten(text)
    if short != text:
        ET.SubElement(made, "title").text = text
    return short


def shorten(text: str) -> str:
    """The text as far as it is drawn."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def width_of(text: str) -> float:
    """The width of a line of text, in pixels."""
    twice = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return (len(text) + twice) * CHAR


def shown(value: float) -> str:
    """A coordinate, with no more digits than can be seen."""
    return f"{value:.1f}".removesuffix(".0")
