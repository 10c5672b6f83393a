"""einloom's own packing: what it computes, and how much fewer key switches it needs."""

from __future__ import annotations

import numpy as np
import pytest

from einloom.compiler import parse
from einloom.ir.slot_counts import count
from einloom.ir.slot_executor import execute
from einloom.ir.slot_parser import parse_slots
from einloom.passes.fhe.candidates import Choice
from einloom.passes.fhe.pack import Plan, plans
from einloom.passes.fhe.problem import problem_of

from .test_einhops import SMALL, TABLE, packed

#: The most rotations of a row-major plan (stride-aware BSGS), and of a free one.
MOST = {
    "ij->ji": (30, 0),
    "ij->": (14, 14),
    "ij->j": (7, 7),
    "ij->i": (37, 7),
    "ik,k->i": (65, 7),
    "ik,kj->ij": (34, 5),
    "i,i->": (14, 14),
    "ij,ij->ij": (0, 0),
    "i,j->ij": (35, 0),
}

MORE: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ii->i", [(5, 5)]),
    ("ii->", [(5, 5)]),
    ("i->ii", [(4,)]),
    ("ii,ij->j", [(4, 4), (4, 3)]),
    ("iij,j->ij", [(2, 2, 3), (3,)]),
    ("ij,ij->", [(1, 3), (1, 3)]),
    (",->", [(), ()]),
]


def best(
    text: str,
    shapes: list[tuple[int, ...]],
    slots: int,
    layout: Choice,
    secret: tuple[int, ...] | None = None,
) -> Plan:
    cascade = parse(text)
    names = [decl.name for decl in cascade.inputs]
    chosen = None if secret is None else [names[n] for n in secret]
    given = dict(zip(names, shapes, strict=True))
    return plans(problem_of(cascade, given, chosen), slots, layout)[0]


@pytest.mark.parametrize(("text", "shapes", "known"), TABLE, ids=[row[0] for row in TABLE])
def test_fewer_rotations_than_einhops_and_no_more_levels(
    text: str, shapes: list[tuple[int, ...]], known: tuple[int, ...]
) -> None:
    choices: tuple[Choice, Choice] = ("row-major", "free")
    for layout, most in zip(choices, MOST[text], strict=True):
        plan = best(text, shapes, 16384, layout)
        assert plan.counts.rotations <= most
        assert plan.counts.levels <= count(packed(text, shapes, 16384)).levels == known[3]
        rng = np.random.default_rng(0)
        arrays = {
            each.name: rng.normal(size=shape)
            for each, shape in zip(plan.program.inputs, shapes, strict=True)
        }
        (output,) = execute(plan.program, arrays, rng).values()
        np.testing.assert_allclose(output, np.einsum(text, *arrays.values()), atol=1e-9)


def expected(text: str, arrays: list[np.ndarray]) -> np.ndarray:
    return np.diag(arrays[0]) if text == "i->ii" else np.asarray(np.einsum(text, *arrays))


@pytest.mark.parametrize(
    ("text", "shapes"), [*SMALL, *MORE], ids=[row[0] for row in [*SMALL, *MORE]]
)
@pytest.mark.parametrize("layout", ["row-major", "free"])
def test_what_it_computes(text: str, shapes: list[tuple[int, ...]], layout: Choice) -> None:
    rng = np.random.default_rng(1)
    for slots in (128, 512):
        for secret in (None, (0,), (len(shapes) - 1,)):
            program = best(text, shapes, slots, layout, secret).program
            assert parse_slots(str(program)) == program
            arrays = {
                each.name: rng.normal(size=shape)
                for each, shape in zip(program.inputs, shapes, strict=True)
            }
            (output,) = execute(program, arrays, rng).values()
            np.testing.assert_allclose(
                output, expected(text, list(arrays.values())), atol=1e-9, err_msg=str(program)
            )
