"""Cascades of many Einsums: seconds to parse, verify and rewrite, and how they grow.

They are parsed without the limit on tokens, above which the largest of them lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from einloom.frontend.parser import parse_file
from einloom.frontend.resolve import resolve
from einloom.frontend.scope import Library
from einloom.frontend.syntax import Program
from einloom.ir.cascade import Cascade
from einloom.ir.source import Source
from einloom.ir.verify import verify
from einloom.passes.base import Pipeline
from einloom.passes.registry import default_pipeline
from einloom.passes.spec import parse_pipeline

from .measure import Row, Table, timed

#: Rewritten to a fixpoint: every law that makes a cascade simpler, and is told nothing.
LAWS = (
    "identity, transpose, inline, squeeze, diagonal, delta, delta_merge, distinct_output, "
    "ones_drop, multiple, output_only, idem_mul, idem_add, hom, fold_constants, hadamard, presum, "
    "order, share, dead"
)


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


def _body(*lines: str, inputs: str = "A[I], B[I]") -> str:
    return f"cascade c({inputs}) -> Y {{\n" + "\n".join([*lines, "Y[i] = A[i]"]) + "\n}"


#: Texts that are wide rather than long, of so many of something.
SHAPES: dict[str, Callable[[int], str]] = {
    "reads of one input": lambda count: _body(*(f"T{n}[i] = A[i] * B[i]" for n in range(count))),
    "terms": lambda count: _body(f"T[i] = A[i]{' + A[i]' * count}"),
    "inputs": lambda count: _body(inputs=", ".join(["A[I]", *(f"B{n}[I]" for n in range(count))])),
    "ranks": lambda count: _body(f"ranks {', '.join(f'N{n} = 2*I' for n in range(count))}"),
    "ranks deduced": lambda count: _body(*(f"T{n}[p{n}] = A[2*p{n}]" for n in range(count))),
    "scans": lambda count: _body(
        *(f"T{n}[0] = 0\nT{n}[i+1] = T{n}[i] + A[i]" for n in range(count))
    ),
    "partitions": lambda count: _body(*(f"partition I -> P{n}, Q{n}" for n in range(count))),
    "calls": lambda count: (
        "cascade g(A[I]) -> B { T[i] = A[i]\n B[i] = T[i] }\n"
        + _body(*(f"T{n} = g(A)" for n in range(count)))
    ),
}


def parse(text: str) -> Cascade:
    """The Cascade of a text, verified, however long it is."""
    library = Library()
    *before, last = (item for item in parse_file(Source(text)).items if isinstance(item, Program))
    for program in before:
        library.add(resolve(program, library), program.span)
    return resolve(last, library)


def to_fixpoint(laws: Pipeline, cascade: Cascade) -> Cascade:
    """The Cascade to which none of these laws applies any more."""
    while (after := laws.apply(cascade)) is not cascade:
        cascade = after
    return cascade


def slope(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of the line through (log count, log seconds), by least squares."""
    x, y = [math.log(n) for n in counts], [math.log(s) for s in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)


def tables(quick: bool) -> Sequence[Table]:
    """One table: a line for each number of Einsums; the last line is the slope, in log-log."""
    counts = [10, 100, 1000] if quick else [10, 30, 100, 300, 1000, 3000, 10_000]
    default, laws = default_pipeline(), parse_pipeline(LAWS)
    rows: list[Row] = []
    for count in counts:
        text = chain(count)
        cascade = parse(text)

        steps: dict[str, Callable[[], object]] = {
            "parse and verify": partial(parse, text),
            "verify": partial(verify, cascade),
            "default passes": partial(default.run, cascade),
            "to a fixpoint": partial(to_fixpoint, laws, cascade),
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
    chains = Table("chain", "ms", [*rows, Row("from 100 on, log-log", {}, slopes)])
    return [chains, shapes([100, 1000] if quick else [1000, 3000, 10_000])]


def shapes(counts: Sequence[int]) -> Table:
    """Parsing and verifying: a line for each shape, with how it grows in log-log."""
    rows: list[Row] = []
    for name, text in SHAPES.items():
        seconds = [min(timed(partial(parse, text(n)), 1) for _ in range(2)) for n in counts]
        each = {f"{count:,}": s for count, s in zip(counts, seconds, strict=True)}
        rows.append(Row(name, each, {"slope": slope(counts, seconds)}))
    return Table("parse and verify so many", "ms", rows)
