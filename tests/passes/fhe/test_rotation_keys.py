"""Programs with fewer rotation keys: the same values, and what that costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import einloom as el
from einloom.ir.errors import ArgumentError
from einloom.ir.layouts import row_major
from einloom.ir.slot_counts import count
from einloom.ir.slot_executor import execute
from einloom.ir.slot_parser import parse_slots
from einloom.ir.slots import SlotInput, SlotOp, SlotOutput, SlotProgram
from einloom.passes.fhe.rotation_keys import KEYS, KeysName, with_keys

CASES: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ij->ji", [(8, 8)]),
    ("ij,jk->ik", [(4, 4), (4, 4)]),
    ("ij,j->i", [(8, 8), (8,)]),
    ("ij->", [(5, 7)]),
]


def rotated(slots: int, rotations: list[list[int]]) -> SlotProgram:
    """A program that gives out those rotations of one input, each list by an operation."""
    layout = row_major((slots,), slots)
    ops = tuple(SlotOp("rotate", (0,), tuple(steps)) for steps in rotations)
    outputs = tuple(
        SlotOutput(f"Y{n}", layout, (n + 1,)) for n in range(sum(len(each) for each in rotations))
    )
    return SlotProgram("r", slots, 0, (SlotInput("X", (slots,), layout),), (), ops, outputs)


@pytest.mark.parametrize("keys", ["few", "powers-of-two"])
@given(data=st.data())
def test_any_rotations(keys: KeysName, data: st.DataObject) -> None:
    slots = data.draw(st.sampled_from([2, 4, 16, 64]))
    steps = st.integers(1 - slots, slots - 1).filter(bool)
    lists = data.draw(st.lists(st.lists(steps, min_size=1, max_size=9, unique=True), max_size=3))
    program = rotated(slots, lists)
    made = with_keys(program, keys)
    assert parse_slots(str(made)) == made
    x = np.arange(slots)
    found = execute(made, {"X": x})
    for n, step in enumerate(step for each in lists for step in each):
        assert found[f"Y{n}"].tolist() == np.roll(x, -step).tolist()
    before, after = count(program), count(made)
    if keys == "few":
        asked = {step % slots for step in before.rotation_keys}
        assert after.rotations == sum(len({step % slots for step in each}) for each in lists)
        assert {step % slots for step in after.rotation_keys} <= asked
    else:
        assert all(abs(step).bit_count() == 1 for step in after.rotation_keys)
        assert after.rotations <= slots * max(1, len(lists))


@pytest.mark.parametrize(
    ("rotations", "few"),
    [
        ([[1, 2, 3]], {1}),
        ([[-8, -16, -24, 64]], {-8, 64}),
        ([[3, 5]], {3, 5}),  # their difference is no rotation that is wanted
        ([[1, 2, 3, 4], [2, 4]], {1, 2}),
        ([[1], [2], [4]], {1, 2, 4}),  # of one value each: none follows from another
        ([list(range(1, 128)), list(range(-127, 0))], {1, -1}),
    ],
    ids=str,
)
def test_how_few(rotations: list[list[int]], few: set[int]) -> None:
    program = rotated(256, rotations)
    found = count(with_keys(program, "few"))
    assert set(found.rotation_keys) == few
    assert found.rotations == count(program).rotations


def test_what_it_looks_like() -> None:
    """Rotations of what is rotated share a decomposition where they can."""
    program = rotated(16, [[1, 2, 3, 5], [-6]])
    assert with_keys(program, "each") is program
    few = [(*op.args, op.steps) for op in with_keys(program, "few").ops]
    assert few == [(0, (1, 2)), (1, (2,)), (3, (2,)), (0, (-6,))]
    powers = [(*op.args, op.steps) for op in with_keys(program, "powers-of-two").ops]
    assert powers == [(0, (1, 2)), (2, (1,)), (3, (2,)), (0, (8,)), (5, (2,))]


@pytest.mark.parametrize(("text", "shapes"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("layout", ["row-major", "free"])
def test_packed_einsums(text: str, shapes: list[tuple[int, ...]], layout: Any) -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.uniform(-1, 1, shape) for shape in shapes]
    made = {keys: el.pack(text, 64, shapes=shapes, layout=layout, keys=keys) for keys in KEYS}
    each, few, powers = (made[keys].counts for keys in KEYS)
    for packed in made.values():
        named = {x.name: a for x, a in zip(packed.program.inputs, arrays, strict=True)}
        (found,) = execute(packed.program, named, rng).values()
        np.testing.assert_allclose(found, np.einsum(text, *arrays), atol=1e-9)
    assert few.key_switches == each.key_switches <= powers.key_switches
    assert len(few.rotation_keys) <= len(each.rotation_keys)
    assert few.levels == powers.levels == each.levels


def test_a_call_with_fewer_keys() -> None:
    a, v = np.random.default_rng(4).uniform(-1, 1, (2, 8, 8))
    sizes: dict[str, int] = {}
    for keys in KEYS:
        f = el.compile("ij,jk->ik", backend="ckks", keys=keys, slots=64, insecure=True)
        np.testing.assert_allclose(f(a, v), a @ v, atol=f.report.errors["Y"].bound)
        assert f.report.key_switches == f.packed.counts.key_switches
        assert f.client().keys().key_bytes == f.report.key_bytes
        sizes[keys] = f.report.key_bytes
    assert sizes["few"] < sizes["each"]
    assert sizes["powers-of-two"] < sizes["each"]
    assert "keys few" in el.pack("ij->ji", 64, shapes=[(8, 8)], keys="few").chosen


def test_keys_that_are_not_there() -> None:
    wrong: Any = "none"
    with pytest.raises(ArgumentError, match="each, few, powers-of-two"):
        el.pack("ij->", 16, shapes=[(4, 4)], keys=wrong)
