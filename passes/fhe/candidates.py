"""Which Spaces are tried for a product, and where its inputs lie on each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, combinations, permutations, zip_longest
from typing import Literal as OneOf
from typing import TypeAlias

from ...ir.layouts import Layout, Piece, row_major
from ...ir.slot_counts import WEIGHTS
from .moves import doublings
from .problem import Problem
from .space import Space, ordered, skewed
from .want import affine

Choice: TypeAlias = OneOf["row-major", "free"]
#: Orders of more variables than these are not all tried.
MOST = 5
#: As many blocks as there is room for.
_MANY = 1 << 62
#: Skewed spaces: blocks, with baby steps, shifted.
_SKEWS = ((1, False, False), (_MANY, False, False), (1, True, False), (1, True, True))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A space, the layouts of the encrypted factors, the vectors among them that are new.

    `in_place` are the factors whose layouts were made for the space. `least` is what it costs at
    least, `likely` with copies of what is not where it is needed, `size` how many slots a plan for
    it looks at.
    """

    space: Space
    layouts: Mapping[str, Layout]
    fresh: int
    in_place: frozenset[str]
    least: float
    likely: float
    size: int


def candidates(
    problem: Problem, slots: int, layout: Choice, held: Mapping[str, Layout]
) -> Iterator[Candidate]:
    """The candidates, likely ones first: ordered and skewed spaces by turns, the cheapest first.

    Args:
        layout: of inputs: "row-major", or "free" to lie as they are needed.
        held: where encrypted factors lie that are there already.
    """
    kinds: dict[tuple[int, bool], list[Candidate]] = {}
    for space in _spaces(problem, slots):
        for kind, (layouts, in_place) in enumerate(_inputs(problem, space, layout, held)):
            fresh = sum(each.vectors for name, each in layouts.items() if name not in held)
            found = _candidate(problem, space, layouts, fresh, in_place)
            kinds.setdefault((kind, space.layout.wrap), []).append(found)
    if layout == "free" and not held:
        kinds.setdefault((0, True), []).extend(_bicyclic(problem, slots))
    for number in (0, 1):  # what is free already lies where it is needed: it is quickly planned
        turns = (kinds.get((number, wrapped), []) for wrapped in (False, True))
        turns = (sorted(each, key=lambda candidate: candidate.likely) for each in turns)
        yield from (each for each in chain.from_iterable(zip_longest(*turns)) if each is not None)


def _candidate(
    problem: Problem,
    space: Space,
    layouts: Mapping[str, Layout],
    fresh: int,
    in_place: frozenset[str],
) -> Candidate:
    kept = frozenset(problem.output.variables())
    encrypted = [factor for factor in problem.factors if factor.tensor in problem.encrypted]
    results = math.prod(piece.extent for piece in space.told_by(kept))
    added = math.prod(p.extent for p in space.inner if not space.along(p) & kept)
    products = math.prod(piece.extent for piece in space.outer)
    least: float = results * (added - 1).bit_length() + 2 * results * (len(encrypted) - 1)
    least += 2 * products * WEIGHTS["mul"] * (len(encrypted) - 1) + fresh * WEIGHTS["encrypt"]
    if len(encrypted) < len(problem.factors):
        least += products * WEIGHTS["encode"]
    size, likely = results // _alike(space, kept), least
    for factor in encrypted:
        names = frozenset(factor.variables())
        told = math.prod(piece.extent for piece in space.told_by(names))
        copies = sum(doublings(p.extent) for p in space.inner if not space.along(p) & names)
        if factor.tensor not in in_place:
            size += told // _alike(space, names & kept)
            likely += told * (copies + 1)  # a rotation each, at the least
    return Candidate(space, layouts, fresh, in_place, least, likely, size * space.slots)


def _bicyclic(problem: Problem, slots: int) -> Iterator[Candidate]:
    """The product of two encrypted matrices with element (s mod n, s mod m) in slot s.

    Where the extents are coprime, what an operand must be is a rotation of one ciphertext.
    """
    terms = [factor.plain for factor in problem.factors]
    output = problem.output.plain
    if len(terms) != 2 or output is None or len(set(problem.inputs) & problem.encrypted) != 2:
        return
    sizes = [problem.sizes[v] for v in variables_of(problem)]
    pairs = [term or () for term in (*terms, output)]
    if len(sizes) != 3 or min(sizes) < 2 or len({frozenset(pair) for pair in pairs}) != 3:
        return
    if any(len(pair) != 2 or len(set(pair)) != 2 for pair in pairs):
        return
    if any(math.gcd(*pair) > 1 for pair in combinations(sizes, 2)):
        return
    (around,) = set(variables_of(problem)) - set(output)
    variables = (*output, around)
    shape = tuple(problem.sizes[v] for v in variables)
    points = shape[0] * shape[1]
    if points > slots or any(problem.shapes[n] != _extents(problem, n) for n in problem.inputs):
        return
    pieces = (
        Piece(shape[2], slots, ((2, 1),)),
        Piece(points, 1, ((0, 1), (1, 1), (2, 1))),
    )
    space = Space(variables, Layout(slots, shape, pieces, wrap=True), "bicyclic")
    round_ = Piece(slots, 1, ((0, 1), (1, 1)))
    layouts = {
        name: Layout(slots, problem.shapes[name], (round_,), wrap=True) for name in problem.inputs
    }
    if all(math.prod(problem.shapes[name]) <= slots for name in problem.inputs):
        yield _candidate(problem, space, layouts, 2, frozenset())


def _extents(problem: Problem, name: str) -> tuple[int, ...]:
    """The extents that are read of a tensor."""
    (factor,) = (each for each in problem.factors if each.tensor == name)
    return tuple(problem.sizes[v] for v in factor.variables())


def _alike(space: Space, names: frozenset[str]) -> int:
    """How many vectors what is planned for one of them often serves."""
    alone = [
        piece for piece in space.outer if len(piece.steps) == 1 and space.along(piece) <= names
    ]
    return math.prod(piece.extent for piece in alone)


def variables_of(problem: Problem) -> tuple[str, ...]:
    """The variables of the factors, then those of the output alone."""
    read = [v for factor in problem.factors for v in factor.variables()]
    return tuple(dict.fromkeys([*read, *problem.output.variables()]))


# ---- spaces


def _spaces(problem: Problem, slots: int) -> Iterator[Space]:
    """The spaces that are tried, one for each way to fill a vector."""
    seen: set[object] = set()
    for space in _all_spaces(problem, slots):
        filled: list[object] = []
        for piece in space.layout.pieces:
            steps = frozenset((space.variables[axis], step) for axis, step in piece.steps)
            inner = piece.stride < slots
            filled.append((piece.extent, inner, piece.stride % slots, steps))
        if frozenset(filled) not in seen:
            seen.add(frozenset(filled))
            yield space


def _all_spaces(problem: Problem, slots: int) -> Iterator[Space]:
    variables, sizes = variables_of(problem), problem.sizes
    orders = permutations(variables) if len(variables) <= MOST else [variables]
    for order in orders:
        for padding in ("exact", "power"):
            yield ordered(sizes, order, slots, padding)
    kept = tuple(dict.fromkeys(problem.output.variables()))
    shared = [
        v
        for v in variables
        if v not in kept and sum(v in factor.variables() for factor in problem.factors) > 1
    ]
    for around in shared:
        others = [v for v in variables if v != around]
        for order in permutations(others) if len(others) < MOST else [tuple(others)]:
            for by in [each for n in (1, 2) for each in combinations(reversed(order), n)]:
                if not set(by) <= set(kept):
                    continue
                root = 1 << ((sizes[around].bit_length() - 1) // 2)
                for blocks, babies, shift in _SKEWS:
                    steps = root if babies else None
                    space = skewed(sizes, order, around, by, slots, blocks, steps, shift)
                    if space is not None:
                        yield space


# ---- where inputs lie


def _inputs(
    problem: Problem, space: Space, layout: Choice, held: Mapping[str, Layout]
) -> list[tuple[dict[str, Layout], frozenset[str]]]:
    """The layouts of the encrypted factors that are tried on a space, and those made for it."""
    names = [name for name in problem.inputs if name in problem.encrypted]
    rows = {
        name: held[name] if name in held else row_major(problem.shapes[name], space.slots)
        for name in names
    }
    alone = rows, frozenset[str]()
    if layout == "row-major":
        return [alone]
    needed = {name: _where_needed(problem, space, name) for name in names if name not in held}
    free = {name: each for name, each in needed.items() if each is not None}
    return [({**rows, **free}, frozenset(free)), alone] if free else [alone]


def _where_needed(problem: Problem, space: Space, name: str) -> Layout | None:
    """The layout in which an input that is read once lies as it is needed."""
    reads = [factor for factor in problem.factors if factor.tensor == name]
    variables, shape = reads[0].plain, problem.shapes[name]
    if len(reads) > 1 or variables is None or len(set(variables)) < len(variables):
        return None
    if tuple(problem.sizes[v] for v in variables) != shape:
        return None  # a part of it is not read, and lies nowhere
    factors, names = affine(reads[0], problem.sizes), frozenset(variables)
    number, pieces = 1, list[Piece]()
    for piece in reversed(space.told_by(names)):
        stride = number * space.slots + piece.stride % space.slots
        pieces.insert(0, _along(space, piece, factors, stride))
        number *= piece.extent
    pieces += [_along(space, piece, factors, piece.stride) for piece in space.inner]
    return Layout(space.slots, shape, tuple(pieces), wrap=space.layout.wrap)


def _along(
    space: Space, piece: Piece, factors: list[tuple[dict[str, int], int]], stride: int
) -> Piece:
    steps: list[tuple[int, int]] = []
    for axis, (factor, _) in enumerate(factors):
        step = sum(factor.get(space.variables[at], 0) * n for at, n in piece.steps)
        if step:
            steps.append((axis, step))
    return Piece(piece.extent, stride, tuple(steps))
