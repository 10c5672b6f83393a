"""What a rewrite was worth: passes, footprint, traffic and operations, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...ir.cascade import Cascade
from ...ir.errors import ArgumentError
from .cost import cost
from .pass_count import count_passes
from .polynomial import Polynomial
from .reuse import Bounds
from .traffic import check_buffer, traffic

#: One figure of a Cascade, or the least and the most; None where it is not known.
Figure = int | Polynomial | Bounds | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of two Cascades, by name; prints itself as a table.

    `passes over M` and `footprint over M` (in elements) are there for every rank of either that
    takes more than one pass, or holds anything, or whose figures differ. `traffic` are the bytes
    moved if every Einsum moves its own tensors once; `fused traffic`, where all extents and dtypes
    are known, those that move through a buffer if the Einsums of one pass run together.
    """

    figures: Mapping[str, tuple[Figure, Figure]]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """As plain data: numbers where they are known, else polynomials as text."""
        return {
            name: {"before": _plain(before), "after": _plain(after)}
            for name, (before, after) in self.figures.items()
        }

    def __str__(self) -> str:
        lines = [("", "before", "after")]
        lines += [(name, _shown(a), _shown(b)) for name, (a, b) in self.figures.items()]
        first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
        return "\n".join(
            "  ".join([name.ljust(first), *map(str.rjust, found, others)]) for name, *found in lines
        )


def compare(before: Cascade, after: Cascade, buffer: int = 1 << 20) -> Comparison:
    """The figures of a Cascade and of what a rewrite made of it, with a buffer of so many bytes."""
    check_buffer(buffer)
    counts = len(before.einsums), len(after.einsums)
    figures: dict[str, tuple[Figure, Figure]] = {"Einsums": counts}
    reports = [count_passes(cascade) for cascade in (before, after)]
    for rank in dict.fromkeys(rank for report in reports for rank in report.families):
        for name, found in (
            ("passes", [report.passes.get(rank) for report in reports]),
            ("footprint", [report.footprint.get(rank) for report in reports]),
        ):
            least = 1 if name == "passes" else Polynomial()
            if found[0] != found[1] or found[0] != least:
                figures[f"{name} over {rank}"] = (found[0], found[1])
    costs = [cost(cascade) for cascade in (before, after)]
    figures["traffic, bytes"] = (costs[0].bytes, costs[1].bytes)
    moved = _traffic(before, buffer), _traffic(after, buffer)
    if moved != (None, None):
        figures["fused traffic, bytes"] = moved
    figures["operations"] = (costs[0].flops, costs[1].flops)
    return Comparison(figures)


def _traffic(cascade: Cascade, buffer: int) -> Figure:
    """The bytes moved through the buffer, pass by pass; None where an extent is a symbol."""
    try:
        low, high = traffic(cascade, {}, "fused", buffer).bytes
    except ArgumentError:
        return None
    return low if low == high else (low, high)


def _plain(figure: Figure) -> int | str | list[int] | None:
    if isinstance(figure, Polynomial):
        return str(figure) if figure.number is None else figure.number
    return list(figure) if isinstance(figure, tuple) else figure


def _shown(figure: Figure) -> str:
    if isinstance(figure, tuple):
        return "..".join(f"{each:,}" for each in figure)
    return "-" if figure is None else f"{figure:,}" if isinstance(figure, int) else str(figure)
