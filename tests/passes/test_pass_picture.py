"""The picture of a pass report: what is in it, that nothing lies on anything, that it is text."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree as ET

import pytest

import einloom as el
from einloom.passes.analysis.pass_picture import Node, Panel, draw

from ..support import ROOT, Golden
from .counted import COUNTED, VECTOR

SVG = "{http://www.w3.org/2000/svg}"
ATTENTION = (ROOT / "examples" / "attention.ein").read_text("utf-8")


def pictured(text: str) -> ET.Element:
    return ET.fromstring(el.count_passes(text).to_svg())


def found(parent: ET.Element, kind: str) -> list[ET.Element]:
    return [e for e in parent.iter() if kind in (e.get("class") or "").split()]


def panel(root: ET.Element, rank: str) -> ET.Element:
    (one,) = (each for each in found(root, "panel") if each.get("data-rank") == rank)
    return one


def box(element: ET.Element) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the rectangle in a group, or of a rectangle."""
    rect = element if element.tag.endswith("rect") else element.find(f"{SVG}rect")
    assert rect is not None
    x, y, w, h = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
    return x, y, x + w, y + h


def apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_attention(golden: Golden) -> None:
    report = el.count_passes(ATTENTION)
    golden("passes/attention.svg", report.to_svg())
    assert report.to_svg() == el.count_passes(ATTENTION).to_svg()


def test_a_band_for_each_pass_with_its_einsums_in_order() -> None:
    shown = panel(pictured(ATTENTION), "M")
    bands = found(shown, "pass-band")
    assert [band.findtext(f"{SVG}text") for band in bands] == [
        f"pass {n} over M" for n in (1, 2, 3)
    ]
    nodes = {e.get("data-name"): box(e) for e in found(shown, "einsum")}
    assert list(nodes) == ["QK", "GM", "SN", "SD", "A", "AV"]
    tops = [top for _, top, _, _ in nodes.values()]
    assert tops == sorted(tops)
    for band, inside in zip(bands, (("QK", "GM"), ("SN", "SD"), ("A", "AV")), strict=True):
        left, top, right, bottom = box(band)
        for name in inside:
            x, y, far, low = nodes[name]
            assert left < x < far < right
            assert top < y < low < bottom
    assert [e.get("data-name") for e in found(shown, "output")] == ["AV"]
    assert {e.get("data-name") for e in found(shown, "input")} == {"Q", "K", "V"}


def test_reads_barriers_and_what_is_held() -> None:
    shown = panel(pictured(ATTENTION), "M")
    edges = {
        (e.get("data-from"), e.get("data-to")): (e.get("class") or "").split()[1]
        for e in found(shown, "edge")
    }
    cascade = el.parse(ATTENTION)
    assert set(edges) == {(r.tensor, e.name) for e in cascade.einsums for r in e.reads()}
    assert {edge for edge, kind in edges.items() if kind == "barrier"} == {
        ("GM", "SN"),
        ("SD", "A"),
    }
    assert {e for e, kind in edges.items() if kind == "crossing"} == {("QK", "SN"), ("SN", "A")}
    held = [(e.get("data-name"), e.get("data-pass")) for e in found(shown, "held")]
    assert held == [("QK", "2"), ("SN", "3")]
    assert "QK held: M elements" in "".join(shown.itertext())
    assert "QK is read again, and needs all of GM" in "".join(shown.itertext())


def test_scans_read_themselves_and_say_what_they_carry() -> None:
    shown = panel(pictured((ROOT / "examples" / "attention_one_pass.ein").read_text("utf-8")), "M")
    selves = {e.get("data-from") for e in found(shown, "self")}
    assert selves == {"RM", "RD", "RNV"}
    assert [e.text for e in found(shown, "carried")] == ["carries 1", "carries 1", "carries F"]
    (band,) = found(shown, "pass-band")
    (last,) = (e for e in found(shown, "einsum") if e.get("data-name") == "AV")
    assert box(last)[1] > box(band)[3]  # it takes no pass over M


def test_inner_reductions_are_nodes_of_their_own() -> None:
    text = """cascade f(X[M]: f64) -> Y {
  ranks N = M, L = M
  Y[m] = exp(X[m]) / sum[n] exp(X[n] - max[l] X[l])
}"""
    shown = panel(pictured(text), "M")
    texts = [e.findtext(f"{SVG}text") for e in found(shown, "einsum")]
    assert texts[:2] == ["Y.1[] = max[m] X[m]", "Y.2[] = sum[m] exp(X[m] - max[m] X[m])"]


@pytest.mark.parametrize("name", COUNTED)
def test_nothing_lies_on_anything(name: str) -> None:
    root = pictured(COUNTED[name][0])
    page = (0, 0, float(root.get("width", "")), float(root.get("height", "")))
    for shown in found(root, "panel"):
        boxes = [box(e) for kind in ("node", "held") for e in found(shown, kind)]
        for one, other in itertools.combinations(boxes, 2):
            assert apart(one, other)
        for one, other in itertools.combinations(map(box, found(shown, "pass-band")), 2):
            assert apart(one, other)
        for each in boxes:
            assert not apart(each, page)
            assert each[2] < page[2]
            assert each[3] < page[3]
        # An edge is upright only in the lanes, where no box is.
        for edge in found(shown, "edge"):
            for part in (edge.get("d") or "").split("H")[1:]:
                if "V" in part:
                    x = float(part.split("V")[0])
                    assert all(x < left or x > right for left, _, right, _ in boxes)


def test_lanes_of_two_tensors_never_meet() -> None:
    shown = panel(pictured(COUNTED["C5, attention in one pass"][0]), "M")
    spans: dict[tuple[str, float], list[float]] = {}
    for edge in found(shown, "edge"):
        start, *parts = (edge.get("d") or "").removeprefix("M").split("H")
        for part in parts:
            if "V" in part:
                x, end = map(float, part.split("V"))
                at = (edge.get("data-from") or "", x)
                spans.setdefault(at, []).extend((float(start.split()[1]), end))
    assert len(spans) > 5
    for (one, lane), (other, beside) in itertools.combinations(spans, 2):
        if lane == beside and one != other:
            a, b = spans[one, lane], spans[other, beside]
            assert max(a) < min(b) or max(b) < min(a)


def test_text_is_escaped_and_cut() -> None:
    node = Node("<&\">'", ("x < y & z" * 30,), 1, True, ("]]>",))
    text = draw("a <b> & c", [Panel("<M>", "<M>: & more", (node,))])
    root = ET.fromstring(text)
    assert root.findtext(f"{SVG}title") == "a <b> & c"
    (shown,) = found(root, "einsum")
    assert shown.get("data-name") == "<&\">'"
    line = shown.find(f"{SVG}text")
    assert line is not None
    assert (line.text or "").endswith("…")
    assert line.findtext(f"{SVG}title") == "x < y & z" * 30
    assert [e.get("data-name") for e in found(root, "input")] == ["]]>"]


def test_dark_and_light_colours_are_in_the_text() -> None:
    assert "prefers-color-scheme: dark" in el.count_passes(ATTENTION).to_svg()


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_it_draws_one_einsum_and_a_thousand(count: int) -> None:
    lines = "\n".join(
        f"  G{n} = max[m] {x}[m]\n  X{n}[m] = {x}[m] - G{n}"
        for n, x in enumerate(["X", *(f"X{n}" for n in range(count // 2))][: max(count // 2, 1)])
    )
    text = (
        "cascade f(X[M]) -> Y { Y = X[m] }"
        if count == 1
        else VECTOR.format(f"{lines}\n  Y[m] = X{count // 2 - 1}[m]")
    )
    shown = panel(pictured(text), "M")
    assert len(found(shown, "einsum")) == (1 if count == 1 else count + 1)
    assert len(found(shown, "pass-band")) == (1 if count == 1 else count // 2 + 1)


def test_a_cascade_without_ranks_has_an_empty_picture() -> None:
    root = pictured("cascade f(A[], B[]) -> Y { Y = A[] * B[] }")
    assert not found(root, "panel")
    assert root.findtext(f"{SVG}title") == "passes of f"
