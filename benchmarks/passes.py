"""Counting the passes of cascades of many Einsums: seconds, and how they grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from einloom.reports import count_passes

from .chains import chain, parse, slope
from .measure import Row, Table, timed


def attention(count: int) -> str:
    """Layers of self-attention, seven Einsums each, every one added to what it reads."""
    lines, before = ["ranks N = M"], "X"
    for n in range(count // 7):
        lines += [
            f"QK{n}[m,n] = {before}[m,e] * {before}[n,e]",
            f"GM{n}[m]   = max[n] QK{n}[m,n]",
            f"SN{n}[m,n] = exp(QK{n}[m,n] - GM{n}[m])",
            f"SD{n}[m]   = SN{n}[m,n]",
            f"A{n}[m,n]  = SN{n}[m,n] / SD{n}[m]",
            f"Y{n}[m,e]  = A{n}[m,n] * {before}[n,e]",
            f"Z{n}[m,e]  = Y{n}[m,e] + {before}[m,e]",
        ]
        before = f"Z{n}"
    return _text("X[M,E]: f32", before, lines)


def weights(count: int) -> str:
    """Layers with a weight of their own each, two Einsums a layer, all over one rank."""
    lines, before = ["ranks N = M"], "X"
    for n in range(count // 2):
        lines += [f"Y{n}[m] = {before}[n] * W{n}[m,n]", f"Z{n}[m] = relu(Y{n}[m])"]
        before = f"Z{n}"
    inputs = ["X[M]: f32", *(f"W{n}[M,M]: f32" for n in range(count // 2))]
    return _text(", ".join(inputs), before, lines)


def there_and_back(count: int) -> str:
    """Many inputs, each read on the way to a sum and, after it, on the way back."""
    half = count // 2
    lines = ["T0[m] = A0[m]", *(f"T{n}[m] = T{n - 1}[m] + A{n}[m]" for n in range(1, half))]
    lines += [f"G = T{half - 1}[m]", f"U{half}[m] = A0[m] * G"]
    lines += [f"U{n}[m] = U{n + 1}[m] + A{n}[m]" for n in reversed(range(1, half))]
    return _text(", ".join(f"A{n}[M]: f32" for n in range(half)), "U1", lines)


def scans(count: int) -> str:
    """Scans along one rank, each of what the one before it gives."""
    lines, before = list[str](), "X"
    for n in range(count // 3):
        lines += [
            f"R{n}[0] = 0.0",
            f"R{n}[m+1] = R{n}[m] * 0.5 + {before}[m]",
            f"S{n}[m] = tanh(R{n}[m+1])",
        ]
        before = f"S{n}"
    return _text("X[M]: f32", before, lines)


#: What is counted: a name, and the text of a cascade of so many Einsums.
KINDS: dict[str, Callable[[int], str]] = {
    "chain": chain,
    "attention": attention,
    "weights": weights,
    "there and back": there_and_back,
    "scans": scans,
}


def tables(quick: bool) -> Sequence[Table]:
    """One table: a line for each number of Einsums; the last line is the slope, in log-log."""
    counts = [100, 300, 1000] if quick else [100, 300, 1000, 3000, 10_000]
    rows = [Row(f"{count:,} Einsums", seconds(count)) for count in counts]
    slopes = {
        f"slope of {name}": slope(counts, [row.seconds[name] for row in rows]) for name in KINDS
    }
    return [Table("passes", "ms", [*rows, Row("log-log", {}, slopes)])]


def seconds(count: int) -> dict[str, float]:
    """The seconds that counting takes on each kind of so many Einsums."""
    found: dict[str, float] = {}
    for name, kind in KINDS.items():
        cascade = parse(kind(count))
        rounds = 3 if count < 1000 else 1
        found[name] = min(timed(partial(count_passes, cascade), 1) for _ in range(rounds))
    return found


def _text(inputs: str, output: str, lines: Sequence[str]) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"cascade many({inputs}) -> {output} {{\n{body}\n}}"
