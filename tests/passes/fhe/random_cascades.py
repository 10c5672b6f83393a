"""Cascades of sums, products, polynomials and what is in the clear among them, at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

SIZES = {"i": 3, "j": 2}
INPUTS = {"A": "ij", "B": "j", "C": "i", "D": "ij", "s": ""}


@dataclass(frozen=True)
class Sample:
    """The text of a Cascade, its encrypted inputs, and a seed for their values."""

    text: str
    secret: tuple[str, ...]
    seed: int


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """One to four Einsums; at least one input is encrypted."""
    axes = dict(INPUTS)
    lines: list[str] = []
    for name in ("P", "Q", "R", "Y")[-draw(st.integers(1, 4)) :]:
        left = "".join(draw(st.permutations("ij"))[: draw(st.integers(0, 2))])
        lines.append(f"  {name}[{','.join(left)}] = {_expr(draw, axes, left, 3)}")
        axes[name] = left
    secret = draw(st.lists(st.sampled_from(list(INPUTS)), min_size=1, unique=True))
    inputs = ", ".join(f"{n}[{','.join(v.upper() for v in a)}]" for n, a in INPUTS.items())
    outputs = ["Y", *draw(st.lists(st.sampled_from([n for n in axes if n in "PQR"] or ["Y"])))]
    head = f"cascade f({inputs}) -> {', '.join(dict.fromkeys(outputs))} {{"
    return Sample("\n".join([head, *lines, "}"]), tuple(secret), draw(st.integers(0, 99)))


def _expr(draw: st.DrawFn, axes: dict[str, str], bound: str, depth: int) -> str:
    """An expression whose variables are all in `bound`."""
    kind = draw(st.integers(0, 11)) if depth else draw(st.integers(0, 2))
    if kind == 0:
        return draw(st.sampled_from(["2", "0.5", "-3", "I", "sqrt(J)", "1.25"]))
    if kind <= 2:
        return _access(draw, axes, bound)
    inside = [_expr(draw, axes, bound, depth - 1) for _ in range(2)]
    if kind <= 4:
        return f"({inside[0]} {draw(st.sampled_from('+-'))} {inside[1]})"
    if kind <= 6:
        return f"({inside[0]} * {inside[1]})"
    if kind == 7:
        return f"pow({inside[0]}, {draw(st.integers(0, 3))})"
    if kind == 8:
        x = _access(draw, axes, bound)
        a, b, c = (draw(st.sampled_from(["0.5", "2", "-1", "0.25"])) for _ in range(3))
        return f"({a} + {b}*{x} {draw(st.sampled_from('+-'))} {c}*{x}*{x}*{x})"
    if kind == 9:
        return f"(-{inside[0]})"
    if kind == 10:
        return f"({inside[0]} / {draw(st.sampled_from(['4', 'I', '(J+1)']))})"
    free = [v for v in "ij" if v not in bound]
    if not free:
        return inside[0]
    over = draw(st.sampled_from(free))
    return f"sum[{over}] ({_expr(draw, axes, bound + over, depth - 1)})"


def _access(draw: st.DrawFn, axes: dict[str, str], bound: Sequence[str]) -> str:
    fits = [name for name, own in axes.items() if set(own) <= set(bound)]
    name = draw(st.sampled_from(fits))
    return f"{name}[{','.join(axes[name])}]" if axes[name] else f"{name}[]"
