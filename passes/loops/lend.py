"""A tensor that nobody reads any more lends its memory to the one that is computed from it.

    nest E { for i, j { E[i,j] = exp(sub(S[i,j], G[i])) } }
    nest D { for i, j { D[i] ... E[i,j] } }
    -> nest E { for i, j { S[i,j] = exp(sub(S[i,j], G[i])) } }
       nest D { for i, j { D[i] ... S[i,j] } }

Each element is read and then written, once and in one place, so blocks of twice as many rows are
held by the same cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from ...ir.loop_nodes import (
    Collapse,
    Fetch,
    Load,
    Loop,
    LoopNest,
    Statement,
    Store,
    blocks,
    walk,
)
from ...ir.loops import Nest, Scratch
from .parts import each_in, rebuilt, stem


def lent(nests: Sequence[Nest], local: Mapping[str, Scratch]) -> tuple[Nest, ...]:
    """The nests, which run one after another; nobody else reads the `local` buffers."""
    found = list(nests)
    for number in range(len(found)):
        for store, before in _plain_stores(found[number]):
            lender = _lender(store, before, found[number:], local)
            if lender is not None and not _named(found[:number], store.buffer):
                found[number:] = [_renamed(n, store.buffer, lender) for n in found[number:]]
    return tuple(found)


def _plain_stores(nest: Nest) -> Iterator[tuple[Store, tuple[Statement, ...]]]:
    """What a nest stores in a place of its own at each point, which it comes to once.

    And the statements of its block up to it.
    """
    stack: list[tuple[tuple[Loop, ...], tuple[Statement, ...]]] = [((), nest.body)]
    while stack:
        around, body = stack.pop()
        once = all(loop.kind != "unroll" and not loop.once for loop in around)
        for number, statement in enumerate(body, 1):
            if isinstance(statement, LoopNest):
                stack.append(((*around, *statement.loops), statement.body))
            elif isinstance(statement, Store) and once:
                plain = [index.variable for index in statement.indices]
                if None not in plain and {stem(loop) for loop in around} == set(plain):
                    yield statement, tuple(s for s in body[:number] if not blocks(s))


def _lender(
    store: Store,
    before: Sequence[Statement],
    nests: Sequence[Nest],
    local: Mapping[str, Scratch],
) -> str | None:
    """The buffer that is read just before the first nest stores there, and nowhere else after."""
    here, later = nests[0], nests[1:]
    borrower = local.get(store.buffer)
    if borrower is None or _stores(here).count(store.buffer) != 1:
        return None
    reads = [load for s in before for load in each_in(s, Load)]
    for name in dict.fromkeys(load.buffer for load in reads):
        lender = local.get(name)
        if lender is None or name == store.buffer or name in _stores(here):
            continue
        near = [load.indices == store.indices for load in reads if load.buffer == name]
        only = len(near) == sum(load.buffer == name for load in each_in(here, Load))
        alike = replace(lender, name=borrower.name) == borrower
        if alike and all(near) and only and not _named(later, name):
            return name
    return None


def _stores(nest: Nest) -> list[str]:
    return [s.buffer for s in walk(nest.body) if isinstance(s, Store)]


def _named(nests: Sequence[Nest], buffer: str) -> bool:
    return any(name == buffer for nest in nests for name in each_in(nest.body, str))


def _renamed(nest: Nest, old: str, new: str) -> Nest:
    """The nest with another buffer for one of its own."""

    def change(node: object, changed: dict[str, Any]) -> None:
        if isinstance(node, Collapse):
            steps = ((new if name == old else name, *axes) for name, *axes in node.steps)
            changed["steps"] = tuple(steps)
        elif isinstance(node, Load | Store | Fetch) and node.buffer == old:
            changed["buffer"] = new

    return cast("Nest", rebuilt(nest, change))
