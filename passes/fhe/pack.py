"""einloom's own packing of one product: which Space to compute it on, and where its inputs lie.

All orders of the variables are tried, with exact and power-of-two extents, and the skewed spaces of
diagonal methods; what is cheapest by a rough count is written, and counted exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, partial
from itertools import combinations

from ...ir.errors import LevelError
from ...ir.layouts import Layout, row_major
from ...ir.slot_counts import WEIGHTS, SlotCounts, count
from ...ir.slots import SlotInput, SlotProgram
from .builder import Builder
from .candidates import Choice, candidates, variables_of
from .contract import Draft, drafts
from .held import Held
from .problem import Problem, check_extents

#: How many drafts are written out to be counted.
WRITTEN = 8
#: Slots that plans look at before no more candidates are tried.
ENOUGH = 1 << 24
#: How many times as much as the best one a plan may cost to be sought, and shown beside it.
_SHOWN = 2.0
#: What a draft may cost, whatever the best one costs, to be written.
_FAR = 100.0
#: How many pairs of factors are tried to be multiplied first, and drafts of each.
_PAIRS, _DRAFTS = 3, 2


class Plan:
    """A way to pack: its label, what it costs, and the program, written when it is asked for."""

    def __init__(self, label: str, build: Builder, output: str, made: Held) -> None:
        self.label = label
        self._write = partial(build.program, [(output, made.layout, made.values)])
        self.counts: SlotCounts = count(self._write(sketch=True))

    @cached_property
    def program(self) -> SlotProgram:
        """The SlotProgram."""
        return self._write()

    def __str__(self) -> str:
        return f"{self.label}: {self.counts.summary}"


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
    drafts_ = ranked(problem, slots, layout, limit)[:WRITTEN]
    far = max(_FAR, 4 * min((draft.cost for draft in drafts_), default=0.0))
    for draft in drafts_:
        if found and draft.cost > far:
            continue  # a long program that would not be chosen
        build = Builder(problem.name, slots)
        for name in problem.inputs:
            build.input(SlotInput(name, problem.shapes[name], draft.inputs.get(name)))
        held = {name: Held(at, build.values_of(name)) for name, at in draft.inputs.items()}
        plan = Plan(draft.label, build, problem.output.tensor, draft.emit(build, held))
        if plan.counts.levels <= limit:
            found.append(plan)
    if not found:
        output = problem.output
        raise LevelError(
            f"{output.tensor} runs out of levels: no packing of it has {limit} or fewer",
            span=output.span,
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
    check_extents(problem)
    there = held or {}
    shape = problem.shapes[problem.output.tensor]
    output = row_major(shape, slots, zero=False) if layout == "row-major" else None
    found: list[tuple[float, Draft]] = []
    spent, best, alike = 0, math.inf, set[tuple[float, int]]()
    for each in candidates(problem, slots, layout, there):
        worth = best if len(alike) >= WRITTEN else _SHOWN * best
        if each.least >= worth or (found and spent > ENOUGH):
            continue
        spent += each.size
        for draft in drafts(problem, each.space, each.layouts, output, most, each.in_place):
            vectors = each.fresh + draft.output.vectors
            cost = draft.cost + vectors * (draft.levels + 1) * WEIGHTS["encrypt"]
            if (cost, vectors) not in alike:  # one plan of those that cost the same is enough
                alike.add((cost, vectors))
                found.append((cost, draft))
                best = min(best, cost)
    if len(problem.factors) > 2:
        found += _by_pairs(problem, slots, layout, most, there)
    found.sort(key=lambda each: each[0])
    return [draft for _, draft in found]


def _by_pairs(
    problem: Problem, slots: int, layout: Choice, most: int, held: Mapping[str, Layout]
) -> list[tuple[float, Draft]]:
    """The drafts that multiply and sum two factors first, then the others with the result."""
    if layout == "row-major":
        rows = {
            name: row_major(problem.shapes[name], slots)
            for name in problem.inputs
            if name in problem.encrypted
        }
        held = {**rows, **held}
    tried: list[tuple[int, Problem, Problem]] = []
    for one, other in combinations(problem.factors, 2):
        if {one.tensor, other.tensor} & problem.encrypted:
            first, rest = problem.divided(one, other)
            points = math.prod(problem.sizes[v] for v in variables_of(first))
            tried.append((points, first, rest))
    found: list[tuple[float, Draft]] = []
    for _, first, rest in sorted(tried, key=lambda each: each[0])[:_PAIRS]:
        for begun in ranked(first, slots, "free", most - depth(rest), held)[:_DRAFTS]:
            made = {**held, **begun.inputs, first.output.tensor: begun.output}
            for ended in ranked(rest, slots, layout, most - begun.levels, made)[:_DRAFTS]:
                draft = begun.then(ended, first.output.tensor)
                fresh = sum(at.vectors for name, at in draft.inputs.items() if name not in held)
                vectors = fresh + draft.output.vectors
                found.append(
                    (draft.cost + vectors * (draft.levels + 1) * WEIGHTS["encrypt"], draft)
                )
    return found
