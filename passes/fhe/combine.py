"""Sums of encrypted tensors that lie differently, with numbers and plain tensors among them.

The deepest that is not broadcast stays where it lies, and the others are brought there. So are the
levels: what is not as deep has one for its number, or to be brought, and is given the scale of the
deepest on the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...ir.einsum import Access
from ...ir.layouts import Layout, Piece, row_major
from .builder import Plain, gathered
from .held import Held
from .steps import Combination
from .tensors import FREE, Place, Stored, Tensors, elements_of, turned


def combined(tensors: Tensors, step: Combination, folds: bool) -> Stored:
    """The sum, as a number times what is held.

    Args:
        folds: whether all that reads it takes a number in for nothing.
    """
    left = tuple(step.output.variables())
    target = _target(tensors, step, left)
    for _, access in step.terms:
        tensors.enter(access.tensor, _needed(target, left, tuple(access.variables())))
    held, number = _best(tensors, step, target, folds)
    return Stored(_with_plain(tensors, step, held, number), number)


def _best(tensors: Tensors, step: Combination, target: Layout, folds: bool) -> tuple[Held, complex]:
    """The sum over the number to be carried that takes the fewest levels, then products."""
    numbers = [c * tensors.stored[access.tensor].number for c, access in step.terms]
    tried: list[tuple[tuple[int, int], complex]] = []
    for number in dict.fromkeys([1, *numbers]):
        trial = tensors.trial()
        held = _summed(trial, step, target, number)
        more = number not in FREE
        depth = trial.depth(held) + (more and not folds)
        tried.append(((depth, len(trial.build.plains) + more), number))
    number = min(tried, key=lambda each: each[0])[1]
    return _summed(tensors, step, target, number), number


def _with_plain(tensors: Tensors, step: Combination, held: Held, number: complex) -> Held:
    """What is held and, over the number, what is plain."""
    build, left, values = tensors.build, tuple(step.output.variables()), list(held.values)
    layout = held.layout
    if step.plain is not None:
        plain = tensors.times(step.plain, 1 / number)
        shape = tensors.shapes[plain.tensor]
        for at, value in enumerate(values):
            values[at] = build.add_plain(value, _at_elements(plain, shape, layout, at, left))
    if step.constant != 0:
        for at, value in enumerate(values):
            factors = elements_of(layout, at).factors if layout.zero else ()
            values[at] = build.add_plain(value, Plain(factors, step.constant / number))
    return Held(layout, tuple(values))


# ---- where it is done


def _target(tensors: Tensors, step: Combination, left: Sequence[str]) -> Layout:
    """Where the deepest of those that are not broadcast lies; row-major if there is none."""
    whole = [
        (tensors.depth(tensors.stored[access.tensor].held), -number, access)
        for number, (_, access) in enumerate(step.terms)
        if set(access.variables()) == set(left) and access.tensor in tensors.stored
    ]
    if not whole:
        return row_major([tensors.sizes[v] for v in left], tensors.build.slots)
    *_, access = max(whole, key=lambda each: each[:2])
    lies = tensors.stored[access.tensor].held.layout
    return turned(lies, tuple(access.variables()), left)


def _summed(tensors: Tensors, step: Combination, target: Layout, number: complex) -> Held:
    """The sum over a number: the deepest first, whose scale those that are moved take on."""
    build, left = tensors.build, tuple(step.output.variables())
    stored = [(c / number, access, tensors.stored[access.tensor]) for c, access in step.terms]
    stored.sort(key=lambda term: -tensors.depth(term[2].held))
    deepest = tensors.depth(stored[0][2].held)
    found: list[tuple[complex, Held]] = []
    like: int | None = None
    for c, access, each in stored:
        place = Place(deepest - tensors.depth(each.held), like, c * each.number)
        held, rest = tensors.brought(each.held, access, left, target, place)
        if like is None and tensors.depth(held) > 0 and len(stored) > 1:
            held = Held(held.layout, tuple(map(build.finished, held.values)))
            like = held.values[0]
        found.append((rest, held))
    values = tuple(
        _sum(tensors, [(c, each.values[at]) for c, each in found]) for at in range(target.vectors)
    )
    return Held(replace(target, zero=all(each.layout.zero for _, each in found)), values)


def _needed(target: Layout, left: Sequence[str], variables: Sequence[str]) -> Layout | None:
    """The layout in which an input of those variables lies as it is needed, with copies."""
    if target.vectors > 1 or target.wrap:
        return None
    axes = {left.index(v): axis for axis, v in enumerate(variables)}
    pieces = tuple(
        Piece(p.extent, p.stride, tuple((axes[at], n) for at, n in p.steps if at in axes))
        for p in target.pieces
    )
    shape = tuple(target.shape[left.index(v)] for v in variables)
    return Layout(target.slots, shape, pieces, target.offset)


def _sum(tensors: Tensors, terms: Sequence[tuple[complex, int]]) -> int:
    """A sum of multiples, of the scale of one that is as deep as all of it will be."""
    build, end = tensors.build, tensors.build.end
    depth = max(end(v) + (c not in FREE) for c, v in terms)
    ready = sorted(terms, key=lambda term: (term[0] not in FREE, -end(term[1])))
    total: int | None = None
    for c, value in ready:
        if c not in FREE:
            total = None if total is None else build.finished(total)
            like = total if total is not None and build.depth[total] == depth else None
            value = build.at_depth(build.finished(value), depth - 1)
            value = build.finished(build.scaled(value, c, like))
            c = 1
        if total is None:
            total = build.scaled(value, c)
            continue
        if abs(c) == 2:
            value = build.add(value, value)
        total = build.sub(total, value) if c.real < 0 else build.add(total, value)
    assert total is not None
    return total


def _at_elements(
    access: Access, shape: Sequence[int], layout: Layout, vector: int, left: Sequence[str]
) -> Plain:
    """A plain tensor of that shape at the elements of one vector of a layout of `left`."""
    table = layout.table()[vector]
    slots = np.flatnonzero(table >= 0)
    held, elements = table[slots], np.zeros(len(slots), np.int64)
    for v, extent in zip(access.variables(), shape, strict=True):
        axis = left.index(v)
        coordinate = held // math.prod(layout.shape[axis + 1 :]) % layout.shape[axis]
        elements = elements * extent + coordinate
    return gathered(access.tensor, slots, elements)
