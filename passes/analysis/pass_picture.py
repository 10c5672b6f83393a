"""Draws the passes of a Cascade as SVG: pure text, from what each rank's panel is to show.

A panel reads from top to bottom, in the order of the plan: an Einsum is a box on a row of its own,
a pass a band of rows, and what takes no pass lies between two bands. What is read runs beside the
boxes in a lane of its own, an input's on the left, an intermediate's on the right, so that no edge
and no label lies on a box, and the picture grows with the Cascade and no faster.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from ..svg import (
    LINE,
    PAD,
    add_group,
    add_rect,
    add_text,
    finished,
    picture,
    shorten,
    shown,
    width_of,
)

#: Sizes in pixels: what lies between two lanes or two ports.
LANE, PORT = 11, 11

STYLE = """
  .pass { font-weight: bold }
  .band { fill: #eaf1fb; stroke: #b6cdee } .einsum rect { fill: #ffffff; stroke: #8b949e }
  .output rect { stroke: #1f2328; stroke-width: 2 } .input rect { fill: #eef7ee; stroke: #5a9a63 }
  .held rect { fill: #fff4dc; stroke: #b7791f; stroke-dasharray: 4 2 }
  path { fill: none; stroke: #8b949e; stroke-width: 1.2 } path.crossing { stroke: #b7791f;
    stroke-width: 2 } path.barrier { stroke: #cf222e; stroke-width: 2.4 }
  path.self { stroke: #0969da; stroke-dasharray: 5 2 }
  path.leader { stroke: #b7791f; stroke-dasharray: 1 3 }
  .tip { fill: #8b949e } .crossing-tip, .mark { fill: #b7791f } .barrier-tip { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    .band { fill: #14233a; stroke: #2d4a73 } .einsum rect { fill: #0d1117; stroke: #8b949e }
    .output rect { stroke: #e6edf3 } .input rect { fill: #12261a; stroke: #4c9a5c }
    .held rect { fill: #2e2410; stroke: #d9a13b } path.barrier { stroke: #ff7b72 }
    path.self { stroke: #58a6ff } path.crossing, path.leader { stroke: #d9a13b }
    .crossing-tip, .mark { fill: #d9a13b } .barrier-tip { fill: #ff7b72 } }
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A box: a tensor, the lines of text that define it, and what it reads, each once.

    It lies in the band of pass `number`, or, if it is not `swept`, above that band.
    """

    name: str
    lines: tuple[str, ...]
    number: int
    swept: bool
    reads: tuple[str, ...]
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """What one rank shows: `title`, then the nodes in an order in which they can run.

    `reasons` say why a pass is needed, `held` are (tensor, pass, text) for what a pass has from
    before it, `barriers` are the reads (tensor, reader) that make a pass wait, `carried` says what
    a scan keeps from visit to visit.
    """

    rank: str
    title: str
    nodes: Sequence[Node]
    reasons: Mapping[int, str] = field(default_factory=dict[int, str])
    held: Sequence[tuple[str, int, str]] = ()
    barriers: frozenset[tuple[str, str]] = frozenset()
    carried: Mapping[str, str] = field(default_factory=dict[str, str])


def draw(title: str, panels: Iterable[Panel]) -> str:
    """One SVG of all panels, one below the other."""
    root = picture(title, STYLE)
    bottom, right = float(PAD), 0.0
    for panel in panels:
        drawing = _Drawing(root, panel, bottom)
        bottom, right = drawing.bottom + PAD, max(right, drawing.right)
    bottom, width = _legend(root, bottom)
    right = max(right, width) + PAD
    return finished(root, right, bottom)


class _Drawing:
    """One panel, drawn below `top`."""

    def __init__(self, root: ET.Element, panel: Panel, top: float) -> None:
        self.panel = panel
        self.group = add_group(root, "panel", rank=panel.rank)
        self.made = {node.name: node for node in panel.nodes}
        # Bands lie under lanes, and lanes under boxes.
        self.bands, self.edges, self.boxes = (add_group(self.group, n) for n in ("", "edges", ""))
        self.ins: dict[tuple[str, str], float] = {}  # (tensor, reader) -> where it comes in
        self.outs: dict[str, float] = {}
        self.chips: dict[str, float] = {}  # input -> where its box is
        self.notes: list[tuple[str, int, str, float]] = []
        held = {(tensor, number) for tensor, number, _ in panel.held}
        self.kinds = {
            (name, node.name): "barrier"
            if (name, node.name) in panel.barriers
            else "crossing"
            if (name, node.number) in held and node.swept
            else "read"
            for node in panel.nodes
            for name in node.reads
        }
        self.read = {name for name, _ in self.kinds}
        self._place(top)
        self._draw()

    # ---- where everything is: first downwards, then across

    def _place(self, top: float) -> None:
        """The rows: where each box begins and ends."""
        self.top, self.y = top, top + 2 * LINE
        self.rows: dict[str, tuple[float, float]] = {}
        self.strips: list[tuple[int, float, float]] = []  # pass, top, bottom
        last = max((node.number for node in self.panel.nodes), default=0)
        found: dict[tuple[int, bool], list[Node]] = {}
        for node in self.panel.nodes:
            found.setdefault((node.number, node.swept), []).append(node)
        waiting: dict[int, list[tuple[str, str]]] = {}
        for tensor, number, text in self.panel.held:
            waiting.setdefault(number, []).append((tensor, text))
        for number in range(1, last + 1):
            for node in found.get((number, False), ()):
                self._row(node)
            for tensor, text in waiting.get(number, ()):
                self.notes.append((tensor, number, text, self.y + 12))
                self.y += 30
            if (number, True) not in found:
                continue
            start = self.y
            self.y += LINE * (2 if number in self.panel.reasons else 1) + 12
            for node in found[number, True]:
                self._row(node)
            self.strips.append((number, start, self.y))
            self.y += PAD
        self.bottom = self.y

    def _row(self, node: Node) -> None:
        """The row of one box, with a port for each read: inputs left, intermediates right."""
        left, right = self.y + 12, self.y + 12
        for name in node.reads:
            if name in self.made:
                self.ins[name, node.name] = right
                right += PORT
                continue
            if name not in self.chips:
                left = max(left, *(y + 24 for y in self.chips.values())) if self.chips else left
                self.chips[name] = left
            self.ins[name, node.name] = left
            left += 24 if self.chips[name] == left else PORT
        self.outs[node.name] = max(right, self.y + len(node.lines) * LINE)
        below = max(self.outs[node.name] + 9, left - 3)
        self.rows[node.name] = (self.y, below)
        self.y = below + 12

    def _draw(self) -> None:
        panel = self.panel
        ends: dict[str, list[float]] = {}
        for (name, _), y in self.ins.items():
            ends.setdefault(name, [self.outs.get(name, self.chips.get(name, y))]).append(y)
        spans = {name: (min(ys), max(ys)) for name, ys in ends.items()}
        left = _lanes({n: s for n, s in spans.items() if n in self.chips and s[0] < s[1]})
        right = _lanes({n: s for n, s in spans.items() if n in self.made})
        chip = max((width_of(name) + 16 for name in self.chips), default=0)
        self.chip_end = PAD + 8 + chip
        self.start = self.chip_end + (max(left.values(), default=-1) + 1) * LANE + 26
        carried = {name: f"{text}  " for name, text in panel.carried.items()}
        texts = [shorten(line) + carried.get(n.name, "") for n in panel.nodes for line in n.lines]
        texts += [text for _, _, text in panel.held] + list(map(shorten, panel.reasons.values()))
        texts += [f"pass {len(self.strips)} over {panel.rank}"]
        self.end = self.start + max(map(width_of, texts)) + 24
        self.lanes = {n: self.end + 18 + k * LANE for n, k in right.items()}
        self.lanes |= {n: self.start - 18 - k * LANE for n, k in left.items()}
        self.right = self.end + 18 + (max(right.values(), default=-1) + 1) * LANE + PAD
        title = add_text(self.group, PAD, self.top + LINE, "title", panel.title)
        self.right = max(self.right, PAD + width_of(title) * 14 / 12)
        for number, top, bottom in self.strips:
            self._band(number, top, bottom)
        for name, y in self.chips.items():
            self._input(name, y)
        for node in panel.nodes:
            self._einsum(node)
        order = ("read", "crossing", "barrier")  # what matters lies on top
        for (name, reader), kind in sorted(self.kinds.items(), key=lambda e: order.index(e[1])):
            self._edge(name, reader, kind)
        for note in self.notes:
            self._note(*note)

    # ---- the parts

    def _band(self, number: int, top: float, bottom: float) -> None:
        group = add_group(self.bands, "pass-band", **{"pass": str(number)})
        add_rect(group, PAD / 2, top, self.right - PAD, bottom - top, "band")
        add_text(group, self.start, top + LINE, "pass", f"pass {number} over {self.panel.rank}")
        if number in self.panel.reasons:
            add_text(group, self.start, top + 2 * LINE, "quiet", self.panel.reasons[number])

    def _input(self, name: str, y: float) -> None:
        group = add_group(self.boxes, "node input", name=name)
        wide = width_of(shorten(name)) + 16
        add_rect(group, self.chip_end - wide, y - 10, wide, 20, None)
        add_text(group, self.chip_end - wide + 8, y + 4, None, name)

    def _einsum(self, node: Node) -> None:
        kind = "node einsum output" if node.is_output else "node einsum"
        group = add_group(self.boxes, kind, name=node.name)
        if node.swept:
            group.set("data-pass", str(node.number))
        top, bottom = self.rows[node.name]
        add_rect(group, self.start, top, self.end - self.start, bottom - top, None)
        middle = (top + bottom - len(node.lines) * LINE) / 2
        for number, line in enumerate(node.lines, 1):
            add_text(group, self.start + 12, middle + number * LINE - 4, None, line)
        if node.name in self.panel.carried:
            text = self.panel.carried[node.name]
            at = self.end - width_of(text) - 8
            add_text(group, at, middle + len(node.lines) * LINE - 4, "quiet carried", text)

    def _edge(self, name: str, reader: str, kind: str) -> None:
        end = self.ins[name, reader]
        if name in self.chips:
            begin, start, stop, out = self.chips[name], self.chip_end, self.start, 1
        else:
            begin, start, stop, out = self.outs[name], self.end, self.end, -1
        style = f"edge {kind} self" if name == reader else f"edge {kind}"
        path = f"M{shown(start)} {shown(begin)}"
        if begin != end:
            lane = self.lanes[name]
            path += f"H{shown(lane)}V{shown(end)}"
        path += f"H{shown(stop - 5 * out)}"
        data = {"data-from": name, "data-to": reader}
        ET.SubElement(self.edges, "path", {"class": style, "d": path, **data})
        tip = "tip" if kind == "read" else f"{kind}-tip"
        corner = f"{shown(stop)},{shown(end)}"
        back = shown(stop - 7 * out)
        points = f"{corner} {back},{shown(end - 3.5)} {back},{shown(end + 3.5)}"
        ET.SubElement(self.edges, "polygon", {"class": tip, "points": points})

    def _note(self, tensor: str, number: int, text: str, y: float) -> None:
        """What is held, at the place where its lane comes into the pass."""
        group = add_group(self.boxes, "held", name=tensor, **{"pass": str(number)})
        lane = self.lanes[tensor]
        wide = width_of(text) + 20
        near = self.start if lane < self.start else self.start + wide
        path = f"M{shown(lane)} {shown(y)}H{shown(near)}"
        ET.SubElement(group, "path", {"class": "leader", "d": path})
        corners = ((lane - 5, y), (lane, y - 5), (lane + 5, y), (lane, y + 5))
        points = " ".join(f"{shown(a)},{shown(b)}" for a, b in corners)
        ET.SubElement(group, "polygon", {"class": "mark", "points": points})
        add_rect(group, self.start, y - 10, wide, 20, None)
        add_text(group, self.start + 10, y + 4, None, text)


def _lanes(spans: Mapping[str, tuple[float, float]]) -> dict[str, int]:
    """A lane for each span, such that no two on one lane meet; short spans lie innermost."""
    taken: list[list[tuple[float, float]]] = []
    found: dict[str, int] = {}

    def is_free(lane: list[tuple[float, float]], span: tuple[float, float]) -> bool:
        at = bisect_left(lane, span)
        before = at == 0 or lane[at - 1][1] < span[0]
        return before and (at == len(lane) or span[1] < lane[at][0])

    for name, span in sorted(spans.items(), key=lambda item: (item[1][1] - item[1][0], item[1])):
        lane = next((n for n, lane in enumerate(taken) if is_free(lane, span)), len(taken))
        if lane == len(taken):
            taken.append([])
        insort(taken[lane], span)
        found[name] = lane
    return found


def _legend(root: ET.Element, top: float) -> tuple[float, float]:
    """What the lines mean; where it ends, downwards and across."""
    group = add_group(root, "legend")
    x = float(PAD)
    for kind, text in (
        ("read", "is read"),
        ("crossing", "is read again in a later pass"),
        ("barrier", "is there only after a whole pass"),
        ("self", "the value of the step before"),
    ):
        data = {"class": kind, "d": f"M{shown(x)} {shown(top + 8)}H{shown(x + 22)}"}
        ET.SubElement(group, "path", data)
        add_text(group, x + 30, top + 12, "quiet", text)
        x += 30 + width_of(text) + 24
    return top + 12 + PAD, x
