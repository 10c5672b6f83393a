"""How the benchmarks measure: paired rounds in one process on one core, medians of ratios.

A round times every contestant once, in turn, every other round backwards, so that what disturbs
the machine disturbs all of them alike; the ratio of two is taken within each round, and the median
over the rounds is quoted.
Times are CPU time of the process: being pre-empted costs nothing, and a peer's own threads count.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of a table: what was run, seconds for each contestant; ratios to the first, or
    other figures by name.
    """

    name: str
    seconds: Mapping[str, float]
    ratios: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Table:
    """The lines of one benchmark; `unit` scales seconds for print: "s", "ms" or "us"."""

    title: str
    unit: str
    rows: Sequence[Row]

    def markdown(self) -> str:
        """The table as Markdown: times, then how many times as long the others take."""
        scale = {"s": 1.0, "ms": 1e3, "us": 1e6}[self.unit]
        contestants = list(dict.fromkeys(name for row in self.rows for name in row.seconds))
        ratios = list(dict.fromkeys(name for row in self.rows for name in row.ratios))
        head = [self.title, *(f"{name}, {self.unit}" for name in contestants), *ratios]
        lines = [head, ["---", *["---:"] * (len(head) - 1)]]
        for row in self.rows:
            times = [number(row.seconds.get(name), scale) for name in contestants]
            lines.append([row.name, *times, *(number(row.ratios.get(name), 1) for name in ratios)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, scale: float) -> str:
    """Three digits that count; nothing for what was not measured."""
    if value is None:
        return ""
    scaled = value * scale
    return f"{scaled:.0f}" if scaled >= 100 else f"{scaled:.3g}"


def paired(
    contestants: Mapping[str, Callable[[], object]], seconds: float = 0.3, rounds: int = 7
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Times contestants in turn: the median seconds a call of each, and all rounds.

    Each round repeats a contestant as often as fits its share of the time, at least once.
    """
    repeats: dict[str, int] = {}
    for name, call in contestants.items():
        call()
        once = min(timed(call, 1) for _ in range(3))
        share = seconds / rounds / len(contestants)
        repeats[name] = max(1, int(share / max(once, 1e-8)))
    found: list[dict[str, float]] = []
    for number in range(rounds):
        # To and fro: what the threads of one still do after its calls is counted to the one that
        # follows, which is the same one in no more than half of the rounds.
        order = [*contestants.items()][:: -1 if number % 2 else 1]
        found.append({name: timed(call, repeats[name]) / repeats[name] for name, call in order})
    return {name: statistics.median(r[name] for r in found) for name in contestants}, found


def timed(call: Callable[[], object], repeats: int) -> float:
    """CPU seconds of so many calls."""
    times = range(repeats)
    start = time.process_time_ns()
    for _ in times:
        call()
    return (time.process_time_ns() - start) * 1e-9


def compare(
    name: str,
    contestants: Mapping[str, Callable[[], object]],
    seconds: float = 0.3,
    ours: int = 1,
) -> Row:
    """A line: the contestants, and how many times as long as the first the others take.

    The first `ours` contestants are einloom's own; they are not compared with each other.
    """
    medians, rounds = paired(contestants, seconds)
    first, *others = (name for n, name in enumerate(contestants) if n == 0 or n >= ours)
    ratios = {
        f"{other} / {first}": statistics.median(r[other] / r[first] for r in rounds)
        for other in others
    }
    return Row(name, medians, ratios)


def machine() -> str:
    """What the figures were measured on."""
    import llvmlite

    return (
        f"{processor()}, one core; Python {platform.python_version()}, NumPy {np.__version__}, "
        f"llvmlite {llvmlite.__version__}"
    )


def processor() -> str:
    """The processor's name as the system gives it."""
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
