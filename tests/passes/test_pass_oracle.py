"""The pass analysis against the judge of sweeps.py, on random cascades.

The analysis is never below, in generations and in passes. In generations it is above for one of
these reasons alone, each with an example below:

- *reversed*, *gather*, *alias*: a read of a computed tensor away from the visit is taken to need
  the whole of it, though a reader may take each element as it arises;
- *prefix*: sums of prefixes that are kept at an alias are taken to be there as a whole only.

In passes the judge is a lower bound: it looks at one tensor at a time, while FuseMax counts the
barriers that follow one another, be they of several tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import einloom as el

from .elements import all_sizes
from .random_passes import Made, make, shrunk
from .sweeps import best_plan, least_passes, least_sweeps

SEEDS = 300
PARTS = 6
#: Why the analysis may be above the judge.
REASONS = {"reversed", "gather", "prefix", "alias"}


def traits(made: Made) -> set[str]:
    """What a cascade reads in another way than at its own place, and whether aliases occur."""
    right = "\n".join(
        line.split(" = ", 1)[1] for statement in made.statements for line in statement.lines()
    )
    found = {
        "reversed": re.search(r"(K|M|M1|M0)-1-", right),
        "gather": re.search(r"J\[", right),
        "prefix": re.search(r"where k (<|<=|>=) n", right),
        "alias": "N" in made.aliases(),
    }
    return {name for name, holds in found.items() if holds}


def counted(made: Made, family: tuple[str, ...], sizes: dict[str, int], *, passes: bool) -> int:
    """What the analysis says of a family, at these extents."""
    cascade = el.parse(made.text)
    report = el.count_passes(cascade)
    found = report.passes if passes else report.generations
    name = family[0] if len(family) == 1 else "M"
    value = found.get(name, 0)
    if isinstance(value, int):
        return value
    known = value.at(all_sizes(cascade, sizes)).number
    assert known is not None
    return known


def compared(seeds: range) -> Iterator[tuple[Made, tuple[str, ...], dict[str, int], set[str]]]:
    """Random cascades, and each of their families."""
    for seed in seeds:
        made = make(seed)
        for family, sizes in made.families():
            yield made, family, sizes, traits(made)


def least(made: Made, family: tuple[str, ...], sizes: dict[str, int], *, passes: bool) -> int:
    """What the judge says."""
    return (least_passes if passes else least_sweeps)(el.parse(made.text), sizes, family)


def complaint(made: Made, family: tuple[str, ...], sizes: dict[str, int], *, passes: bool) -> str:
    """The smallest cascade with a difference of the same sign, with both answers."""

    def sign(smaller: Made) -> int:
        analysis = counted(smaller, family, sizes, passes=passes)
        judged = least(smaller, family, sizes, passes=passes)
        return (analysis > judged) - (analysis < judged)

    wanted = sign(made)
    smallest = shrunk(made, lambda smaller: sign(smaller) == wanted)
    analysis = counted(smallest, family, sizes, passes=passes)
    judged = least(smallest, family, sizes, passes=passes)
    plan = best_plan(el.parse(smallest.text), sizes, family)
    what = "passes" if passes else "generations"
    return f"{what} {family}: analysis {analysis}, judge {judged} ({plan})\n{smallest.text}"


def some(part: int) -> range:
    return range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS)


@pytest.mark.parametrize("part", range(PARTS))
def test_generations_on_random_cascades(part: int) -> None:
    equal = 0
    for made, family, sizes, found in compared(some(part)):
        analysis = counted(made, family, sizes, passes=False)
        judged = least(made, family, sizes, passes=False)
        assert analysis >= judged, complaint(made, family, sizes, passes=False)
        if analysis > judged:
            assert found & REASONS, complaint(made, family, sizes, passes=False)
        equal += analysis == judged
    assert equal >= 80


@pytest.mark.parametrize("part", range(PARTS))
def test_passes_on_random_cascades(part: int) -> None:
    equal = 0
    for made, family, sizes, _ in compared(some(part)[::2]):
        analysis = counted(made, family, sizes, passes=True)
        judged = least(made, family, sizes, passes=True)
        assert analysis >= judged, complaint(made, family, sizes, passes=True)
        assert analysis <= counted(made, family, sizes, passes=False)
        equal += analysis == judged
    assert equal >= 40


#: cascade, leaves, what the analysis says, what the judge says
CONSERVATIVE = {
    "reversed": ("T[k] = A[k]\n Z[k] = T[K-1-k]", ("K",), 2, 1),
    "alias": ("ranks N = K\n T[k] = A[k]\n Z[k] = sum[n] (A[k] * T[n])", ("K",), 2, 1),
    "gather": ("T[k] = A[k]\n Z[k] = T[J[k]]", ("K",), 2, 1),
    "prefix": ("ranks N = K\n T[n] = A[k] where k <= n\n Z = sum[k] T[k]", ("K",), 2, 1),
}


@pytest.mark.parametrize("reason", CONSERVATIVE)
def test_where_the_analysis_is_conservative(reason: str) -> None:
    lines, family, analysis, judged = CONSERVATIVE[reason]
    cascade = el.parse(f"cascade f(A[K], J[K]: i64) -> Z {{ {lines} }}")
    assert el.count_passes(cascade).generations["K"] == analysis
    assert least_sweeps(cascade, {"K": 4}, family) == judged


def test_every_reason_has_an_example() -> None:
    assert set(CONSERVATIVE) == REASONS


def test_the_random_cascades_are_of_all_kinds() -> None:
    texts = [make(seed).text for seed in range(SEEDS)]
    assert [make(seed).text for seed in range(SEEDS)] == texts
    for part in (
        "partition",
        "J[",
        "-1-",
        " else 0]",
        "k <= n",
        "[i+1]",
        "[m1+1]",
        "N = K",
        ">= 1",
    ):
        assert sum(part in text for text in texts) >= 5, part
    assert {text.count("\n  T") for text in texts} >= set(range(1, 9))
