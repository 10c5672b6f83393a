"""The tables' ratios as a picture: how many times as long as einloom each peer takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .measure import Table

#: Inches of height for a row, and for what stands around the rows of a table.
_ROW, _AROUND = 0.26, 0.9


def plot(tables: Sequence[Table], machine: str, path: str) -> None:
    """Writes a picture, by matplotlib: a panel for each table that compares einloom with others."""
    from matplotlib.figure import Figure

    shown = [(table, peers) for table in tables if (peers := _peers(table))]
    if not shown:
        return
    heights = [_AROUND + _ROW * len(table.rows) for table, _ in shown]
    figure: Any = Figure(figsize=(10, sum(heights)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (table, peers) in zip(panels, shown, strict=True):
        _panel(axes, table, peers)
    figure.suptitle(machine, fontsize=8)
    figure.savefig(path)


def _peers(table: Table) -> list[str]:
    """The ratios that are a peer's time over einloom's."""
    names = dict.fromkeys(name for row in table.rows for name in row.ratios)
    return [name for name in names if " / " in name and not name.startswith("best peer")]


def _panel(axes: Any, table: Table, peers: Sequence[str]) -> None:
    for number, name in enumerate(peers):
        found = [(at, row.ratios[name]) for at, row in enumerate(table.rows) if name in row.ratios]
        places, ratios = [at for at, _ in found], [ratio for _, ratio in found]
        label = name.partition(" / ")[0]
        axes.plot(ratios, places, linestyle="", marker="os^Dv<>P"[number % 8], label=label)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(table.rows)), [row.name for row in table.rows], fontsize=8)
    axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.set_title(f"{table.title}: time / einloom's (right of 1: einloom is faster)", fontsize=9)
    axes.legend(fontsize=8)
