"""EinHops' steps: the counts that are known of them, and what they compute."""

from __future__ import annotations

import numpy as np
import pytest

from einloom.compiler import parse
from einloom.ir.errors import SlotError, UnsupportedError
from einloom.ir.slot_counts import count
from einloom.ir.slot_executor import execute
from einloom.ir.slot_parser import parse_slots
from einloom.ir.slots import SlotProgram
from einloom.passes.fhe.einhops import einhops
from einloom.passes.fhe.problem import problem_of

N = 128
#: subscripts, shapes -> rotations, multiplies by plaintexts and ciphertexts, levels.
TABLE: list[tuple[str, list[tuple[int, ...]], tuple[int, ...]]] = [
    ("ij->ji", [(N, N)], (254, 256, 0, 2)),
    ("ij->", [(N, N)], (14, 1, 0, 1)),
    ("ij->j", [(N, N)], (7, 1, 0, 1)),
    ("ij->i", [(N, N)], (261, 256, 0, 2)),
    ("ik,k->i", [(N, N), (N,)], (522, 384, 1, 3)),
    ("ik,kj->ij", [(16, 32), (32, 32)], (110, 65, 1, 3)),
    ("i,i->", [(16384,), (16384,)], (14, 1, 1, 2)),
    ("ij,ij->ij", [(N, N), (N, N)], (0, 1, 1, 2)),
    ("i,j->ij", [(N,), (N,)], (268, 129, 1, 3)),
]

SMALL: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ij->ji", [(3, 5)]),
    ("ij->", [(3, 5)]),
    ("ij->j", [(3, 5)]),
    ("ij->i", [(3, 5)]),
    ("ik,k->i", [(3, 5), (5,)]),
    ("ik,kj->ij", [(5, 4), (4, 4)]),
    ("i,i->", [(7,), (7,)]),
    ("ij,ij->ij", [(3, 5), (3, 5)]),
    ("i,j->ij", [(6,), (5,)]),
    ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 4)]),
    ("bij,bjk->bik", [(2, 3, 2), (2, 2, 3)]),
    ("ijk->kji", [(2, 3, 4)]),
    ("i,i,i->i", [(5,), (5,), (5,)]),
    (",i->i", [(), (3,)]),
    ("a,ab,b->", [(3,), (3, 4), (4,)]),
]


def packed(
    text: str, shapes: list[tuple[int, ...]], slots: int, secret: tuple[int, ...] | None = None
) -> SlotProgram:
    cascade = parse(text)
    names = [decl.name for decl in cascade.inputs]
    chosen = None if secret is None else [names[n] for n in secret]
    return einhops(problem_of(cascade, dict(zip(names, shapes, strict=True)), chosen), slots)


@pytest.mark.parametrize(("text", "shapes", "known"), TABLE, ids=[row[0] for row in TABLE])
def test_the_counts_of_einhops(
    text: str, shapes: list[tuple[int, ...]], known: tuple[int, ...]
) -> None:
    program = packed(text, shapes, 16384)
    found = count(program)
    assert (found.rotations, found.pt_mults, found.ct_mults, found.levels) == known
    rng = np.random.default_rng(0)
    arrays = {
        each.name: rng.normal(size=shape)
        for each, shape in zip(program.inputs, shapes, strict=True)
    }
    (output,) = execute(program, arrays, rng).values()
    np.testing.assert_allclose(output, np.einsum(text, *arrays.values()), atol=1e-9)


@pytest.mark.parametrize(("text", "shapes"), SMALL, ids=[row[0] for row in SMALL])
@pytest.mark.parametrize("slots", [128, 512])
def test_what_it_computes(text: str, shapes: list[tuple[int, ...]], slots: int) -> None:
    rng = np.random.default_rng(1)
    for secret in (None, (0,), (len(shapes) - 1,)):
        program = packed(text, shapes, slots, secret)
        assert parse_slots(str(program)) == program
        arrays = {
            each.name: rng.normal(size=shape)
            for each, shape in zip(program.inputs, shapes, strict=True)
        }
        (output,) = execute(program, arrays, rng).values()
        np.testing.assert_allclose(output, np.einsum(text, *arrays.values()), atol=1e-9)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("ii->i", [(3, 3)], "repeats a variable"),
        ("ii->", [(3, 3)], "repeats a variable"),
        ("i->ii", [(3,)], "repeats a variable"),
    ],
)
def test_what_it_would_get_wrong_is_refused(
    text: str, shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        packed(text, shapes, 64)


def test_broadcasting_is_refused() -> None:
    cascade = parse("cascade f(A[1,J], B[I,J]) -> Y { Y[i,j] = A[0,j] * B[i,j] }")
    with pytest.raises(UnsupportedError, match="broadcast"):
        einhops(problem_of(cascade, {"A": (1, 3), "B": (2, 3)}), 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ranks K = J-1\n Y[i,k] = A[i,k]", "k goes over 4 of the 5 of A"),
        ("ranks K = 3\n Y[i,j] = sum[k] A[i,j]", "summed over k, which no factor has"),
    ],
)
def test_variables_that_do_not_fit_the_axes_are_refused(text: str, message: str) -> None:
    cascade = parse(f"cascade f(A[I,J]) -> Y {{ {text} }}")
    with pytest.raises(UnsupportedError, match=message):
        einhops(problem_of(cascade, {"A": (3, 5)}), 64)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SlotError, match="64 slots are needed, and there are 32"):
        packed("ij,jk->ik", [(3, 3), (3, 3)], 32)
