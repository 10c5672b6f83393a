"""einloom's own packing of one product: which Space to compute it on, and where its inputs lie.

All orders of the variables are tried, with exact and power-of-two extents, and the skewed spaces of
diagonal methods; what is cheapest by a rough count is written, and counted exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from itertools import combinations, permutations
from typing import Literal as OneOf
from typing import TypeAlias

from ...ir.errors import LevelError, SlotError, UnsupportedError
from ...ir.layouts import Layout, Piece, row_major
from ...ir.slot_counts import WEIGHTS, SlotCounts, count
from ...ir.slots import SlotInput, SlotProgram
from .builder import Builder
from .contract import Draft, drafts
from .held import Held
from .problem import Problem
from .space import Space, affine, ordered, skewed

Choice: TypeAlias = OneOf["row-major", "free"]
#: Orders of more variables than these are not all tried.
MOST = 5
#: As many blocks as there is room for.
MANY = 1 << 62
#: Skewed spaces: blocks, with baby steps, shifted.
_SKEWS = ((1, False, False), (MANY, False, False), (1, True, False), (1, True, True))
#: How many drafts are written out to be counted.
WRITTEN = 8


class Plan:
    """A way to pack: the space, what it costs, and the program, written when it is asked for."""

    def __init__(self, space: Space, build: Builder, output: str, made: Held) -> None:
        self.space = space
        self._write = partial(build.program, [(output, made.layout, made.values)])
        self.counts: SlotCounts = count(self._write(sketch=True))

    @cached_property
    def program(self) -> SlotProgram:
        """The SlotProgram."""
        return self._write()

    def __str__(self) -> str:
        return f"{self.space.label}: {self.counts.summary}"


def plans(
    problem: Problem, slots: int, layout: Choice = "row-major", most: int | None = None
) -> tuple[Plan, ...]:
    """The plans that fit, best first: least cost, that of encrypting the inputs included.

    Args:
        layout: "row-major": encrypted inputs and outputs are row-major and compact; "free": inputs
            are encrypted as they are needed, and the output lies as it comes.
        most: the most levels; None: as many as EinHops would use at most, one for a permutation,
            one for a mask, and the depth of the products.

    Raises:
        UnsupportedError: an index is gathered, or filled with another number than 0.
        LevelError: no plan has so few levels.
    """
    limit = depth(problem) + 2 if most is None else most
    found: list[Plan] = []
    for draft in ranked(problem, slots, layout, limit)[:WRITTEN]:
        build = Builder(problem.name, slots)
        for name in problem.inputs:
            build.input(SlotInput(name, problem.shapes[name], draft.inputs.get(name)))
        held = {name: Held(at, build.values_of(name)) for name, at in draft.inputs.items()}
        plan = Plan(draft.space, build, problem.output.tensor, draft.emit(build, held))
        if plan.counts.levels <= limit:
            found.append(plan)
    if not found:
        name = problem.output.tensor
        raise LevelError(
            f"{name} runs out of levels: no packing of it has {limit} or fewer",
            hint="encrypt with more levels, in a larger ring",
        )
    return tuple(sorted(found, key=lambda plan: _score(plan.counts)))


def contracted(
    build: Builder, problem: Problem, held: Mapping[str, Held], layout: Choice, most: int
) -> Held:
    """Adds the product to a program: where its encrypted factors lie, or are put, and its result.

    Args:
        held: the encrypted factors that are there; the other ones become inputs where the best
            plan needs them.
        layout: "row-major": the result is row-major and compact; "free": it lies as it comes.
        most: the most levels that it may take.

    Raises:
        UnsupportedError: an index is gathered, or filled with another number than 0.
        LevelError: no plan has so few levels.
    """
    lies = {name: each.layout for name, each in held.items()}
    drafts_ = ranked(problem, build.slots, layout, most, lies)
    if not drafts_:
        raise LevelError(f"{problem.output.tensor} takes more than {most} levels")
    best = drafts_[0]
    for name in problem.inputs:
        if name not in held:
            build.input(SlotInput(name, problem.shapes[name], best.inputs.get(name)))
    placed = {
        name: held[name] if name in held else Held(at, build.values_of(name))
        for name, at in best.inputs.items()
    }
    return best.emit(build, placed)


def _score(counts: SlotCounts) -> float:
    """The cost with that of encrypting the inputs."""
    return counts.cost + counts.ciphertexts * (counts.levels + 1) * WEIGHTS["encrypt"]


def depth(problem: Problem) -> int:
    """The levels of the products alone."""
    return math.ceil(math.log2(len(problem.factors)))


def ranked(
    problem: Problem,
    slots: int,
    layout: Choice,
    most: int,
    held: Mapping[str, Layout] | None = None,
) -> list[Draft]:
    """The drafts with at most so many levels, best first by a rough count.

    Args:
        held: where encrypted factors lie that are there already.
    """
    if any(problem.sizes[v] == 0 for v in _variables(problem)):
        raise UnsupportedError("an extent of 0 leaves nothing to pack")
    there = held or {}
    shape = problem.shapes[problem.output.tensor]
    output = row_major(shape, slots, zero=False) if layout == "row-major" else None
    found: list[tuple[tuple[float, int], Draft]] = []
    for number, space in enumerate(_spaces(problem, slots)):
        for layouts in _inputs(problem, space, layout, there):
            fresh = sum(each.vectors for name, each in layouts.items() if name not in there)
            for draft in drafts(problem, space, layouts, output, most):
                made = (fresh + draft.output.vectors) * (draft.levels + 1) * WEIGHTS["encrypt"]
                found.append(((draft.cost + made, number), draft))
    found.sort(key=lambda each: each[0])
    return [draft for _, draft in found]


def _variables(problem: Problem) -> tuple[str, ...]:
    """The variables of the factors, then those of the output alone."""
    read = [v for factor in problem.factors for v in factor.variables()]
    return tuple(dict.fromkeys([*read, *problem.output.variables()]))


def _spaces(problem: Problem, slots: int) -> Iterator[Space]:
    """The spaces that are tried, each once."""
    seen: set[object] = set()
    for space in _all_spaces(problem, slots):
        named = frozenset(
            (piece.extent, piece.stride, frozenset((space.variables[n], s) for n, s in piece.steps))
            for piece in space.layout.pieces
        )
        if named not in seen:
            seen.add(named)
            yield space


def _all_spaces(problem: Problem, slots: int) -> Iterator[Space]:
    variables, sizes = _variables(problem), problem.sizes
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
) -> list[dict[str, Layout]]:
    """The layouts of the encrypted factors that are tried on a space."""
    names = [name for name in problem.inputs if name in problem.encrypted]
    rows = {
        name: held[name] if name in held else row_major(problem.shapes[name], space.slots)
        for name in names
    }
    if layout == "row-major":
        return [rows]
    free = {
        name: rows[name] if name in held else _where_needed(problem, space, name) or rows[name]
        for name in names
    }
    return [free] if free == rows else [free, rows]


def _where_needed(problem: Problem, space: Space, name: str) -> Layout | None:
    """The layout in which an input that is read once lies as it is needed."""
    reads = [factor for factor in problem.factors if factor.tensor == name]
    factors = affine(reads[0], problem.sizes)
    if len(reads) > 1 or reads[0].fill is not None or any(constant for _, constant in factors):
        return None
    shape = problem.shapes[name]
    names = frozenset(v for axis, _ in factors for v in axis)
    number, pieces = 1, list[Piece]()
    for piece in reversed(space.told_by(names)):
        stride = number * space.slots + piece.stride % space.slots
        pieces.insert(0, _along(space, piece, factors, stride))
        number *= piece.extent
    pieces += [_along(space, piece, factors, piece.stride) for piece in space.inner]
    found = Layout(space.slots, shape, tuple(pieces), wrap=space.layout.wrap)
    try:
        found.table()
    except SlotError:  # it is read in part, or along a diagonal
        return None
    return found


def _along(
    space: Space, piece: Piece, factors: list[tuple[dict[str, int], int]], stride: int
) -> Piece:
    steps: list[tuple[int, int]] = []
    for axis, (factor, _) in enumerate(factors):
        step = sum(factor.get(space.variables[at], 0) * n for at, n in piece.steps)
        if step:
            steps.append((axis, step))
    return Piece(piece.extent, stride, tuple(steps))
