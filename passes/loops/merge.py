"""A nest that reduces what the nest before it made does so while that is in a register.

    nest E { for i, j in vectors { E[i,j] = exp(X[i,j]) } }
    nest D { for i { %r begins; for j in vectors { %r add= E[i,j] }; D[i] = %r } }
    -> nest D { for i { %r begins; for j in vectors {
                  %now = exp(X[i,j]); E[i,j] = %now; %r add= %now }; D[i] = %r } }

These are Einsums of one pass (docs/passes.md): an element is needed by the second as soon as the
first has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from ...ir.loop_nodes import (
    Assign,
    Begin,
    Fold,
    Load,
    Loop,
    LoopNest,
    Register,
    Store,
    replaced,
)
from ...ir.loops import Nest
from .parts import each_in, stem

#: The register that holds an element between the two.
_NOW = "now"


def merged(nests: Iterable[Nest], sizes: Mapping[str, int], longest: int) -> tuple[Nest, ...]:
    """The nests, of pairs that go through the same points one.

    `sizes` are hints; `longest` is how many numbers may be added to one accumulator, of which
    there are fewer then: as many as vectors of 512 bits have lanes.
    """
    found: list[Nest] = []
    for nest in nests:
        pair = _pair(found[-1], nest, sizes, longest) if found else None
        found[-1:] = [pair] if pair is not None else [*found[-1:], nest]
    return tuple(found)


def _pair(first: Nest, second: Nest, sizes: Mapping[str, int], longest: int) -> Nest | None:
    """Both as one; None if they are not of that kind."""
    match first.body:
        case (LoopNest(loops, (Store() as store,)),):
            pass
        case _:
            return None
    match second.body:
        case (LoopNest(outer, (Begin() as begin, LoopNest(inner, (Fold() as fold,)), end)),):
            pass
        case _:
            return None
    reads = [load for load in each_in(fold, Load) if load.buffer == store.buffer]
    if not reads or any(load.indices != store.indices for load in reads):
        return None
    if any(load.dtype != store.value.dtype for load in reads) or first.width != second.width:
        return None
    around, within = loops[: len(outer)], loops[len(outer) :]
    if around != outer or [*map(_kind, within)] != [*map(_kind, inner)]:
        return None
    most = longest * (512 // first.width)
    numbers = prod(sizes.get(name.upper(), most + 1) for name in {stem(loop) for loop in inner})
    if begin.op == "add" and numbers > most:
        return None
    now = Register(_NOW, store.value.dtype)
    body = (
        Assign(now.name, store.value),
        replace(store, value=now),
        replaced(fold, lambda value: now if value in reads else None),
    )
    return replace(second, body=(LoopNest(outer, (begin, LoopNest(within, body), end)),))


def _kind(loop: Loop) -> tuple[Any, ...]:
    """What two loops have in common that go through the same points, in steps of any length."""
    return loop.variable, loop.kind, loop.once, loop.start, loop.bounds or loop.stop
