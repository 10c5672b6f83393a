"""Cascades of many Einsums: seconds to parse, verify, print and rewrite, and how they grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from einloom.compiler import parse
from einloom.ir.verify import verify
from einloom.passes.registry import default_pipeline
from einloom.passes.spec import parse_pipeline

from .measure import Row, Table, timed

#: Rewritten to a fixpoint: every law that makes a chain simpler.
FIXPOINT = "identity, transpose, inline, squeeze, diagonal, presum, order, share, dead"


def chain(count: int) -> str:
    """A cascade of so many Einsums, each of which reads the one before it.

    Products with a diagonal, with a private sum, of three factors, and maps, in turn.
    """
    kinds = (
        "{0}[i,k] = {1}[i,j] * B[j,j] * C[j,k]",
        "{0}[i,j] = {1}[i,j] * D[j,k]",
        "{0}[i,j] = {1}[i,j]",
        "{0}[i,j] = tanh({1}[i,j]) + B[i,j]",
        "{0}[i,k] = {1}[i,j] * B[j,k] * C[k,k]",
    )
    lines = ["  ranks I = 8, J = 8, K = 8"]
    before = "A"
    for number in range(count):
        lines.append("  " + kinds[number % len(kinds)].format(f"T{number}", before))
        before = f"T{number}"
    head = ", ".join(f"{name}[I,I]: f32" for name in "ABCD")
    return f"cascade chain({head}) -> {before} {{\n" + "\n".join(lines) + "\n}"


def slope(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of the line through (log count, log seconds), by least squares."""
    x, y = [math.log(n) for n in counts], [math.log(s) for s in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)


def tables(quick: bool) -> Sequence[Table]:
    """One table: a line for each number of Einsums; the last line is the slope, in log-log."""
    counts = [10, 100, 1000] if quick else [10, 30, 100, 300, 1000, 3000, 10_000]
    default, fixpoint = default_pipeline(), parse_pipeline(FIXPOINT)
    rows: list[Row] = []
    for count in counts:
        text = chain(count)
        cascade = parse(text)

        steps: dict[str, Callable[[], object]] = {
            "parse and verify": partial(parse, text),
            "verify": partial(verify, cascade),
            "default passes": partial(default.run, cascade),
            "to a fixpoint": partial(fixpoint.run, cascade),
        }
        rounds = 3 if count < 1000 else 1
        seconds = {name: min(timed(step, 1) for _ in range(rounds)) for name, step in steps.items()}
        rows.append(Row(f"{count:,} Einsums", seconds))
    larger = [n for n, count in enumerate(counts) if count >= 100]
    slopes = {
        f"slope of {name}": slope(
            [counts[n] for n in larger], [rows[n].seconds[name] for n in larger]
        )
        for name in rows[0].seconds
    }
    return [Table("chain", "ms", [*rows, Row("from 100 on, log-log", {}, slopes)])]
