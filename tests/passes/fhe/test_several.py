"""Tensors of several ciphertexts, diagonal methods, and indices that are more than variables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from einloom.compiler import parse
from einloom.ir.interpreter import evaluate
from einloom.ir.slot_executor import execute
from einloom.passes.fhe.candidates import Choice
from einloom.passes.fhe.pack import Plan, plans
from einloom.passes.fhe.problem import problem_of

#: Text, the shapes of its inputs, how many slots: each has tensors of four vectors and more.
SEVERAL = [
    ("ij,jk->ik", [(8, 8), (8, 8)], 16),
    ("ij,jk->ik", [(7, 5), (5, 6)], 8),
    ("ijl,kl->ijk", [(4, 4, 4), (4, 4)], 16),
    ("ilk,jk,lj->ij", [(4, 4, 4), (4, 4), (4, 4)], 16),
    ("ij->ji", [(8, 8)], 16),
    ("ij->i", [(9, 5)], 8),
    ("i,j->ij", [(8,), (8,)], 8),
    ("nij,njk->nik", [(3, 4, 4), (3, 4, 4)], 16),
]
#: A cascade's Einsum with its declarations, and the shapes of X and W.
INDICES: dict[str, tuple[str, str, str, list[tuple[int, ...]]]] = {
    "convolution": ("X[N], W[R]", "", "Y[p] = X[p+r] * W[r]", [(20,), (3,)]),
    "strided": ("X[N], W[R]", "ranks P = 5", "Y[p] = X[2*p+r] * W[r]", [(12,), (3,)]),
    "reversed": ("X[N]", "", "Y[n] = X[N-1-n]", [(13,)]),
    "filled": (
        "X[H,V], W[R,S]",
        "ranks P = H, Q = V",
        "Y[p,q] = X[p+r-1,q+s-1 else 0] * W[r,s]",
        [(4, 5), (3, 3)],
    ),
    "broadcast": ("X[N]", "ranks J = 3", "Y[n,j] = X[n]", [(5,)]),
    "one row": ("X[H,V]", "", "Y[v] = X[1,v]", [(3, 4)]),
}


def agree(text: str, shapes: list[tuple[int, ...]], slots: int, secret: list[str] | None) -> Plan:
    """The best of the plans, all of which compute what the interpreter does, in both layouts."""
    cascade = parse(text)
    rng = np.random.default_rng(0)
    arrays = {
        decl.name: rng.integers(-4, 5, shape) * 1.0
        for decl, shape in zip(cascade.inputs, shapes, strict=True)
    }
    problem = problem_of(cascade, {name: each.shape for name, each in arrays.items()}, secret)
    wanted = evaluate(cascade, arrays)["Y"]
    layouts: tuple[Choice, Choice] = ("free", "row-major")
    found = [plans(problem, slots, layout, most=5) for layout in layouts]
    for plan in (plan for each in found for plan in each):
        output = execute(plan.program, arrays, rng)["Y"]
        assert np.array_equal(output, wanted), plan.program
    return found[-1][0]


@pytest.mark.parametrize(("text", "shapes", "slots"), SEVERAL, ids=str)
@pytest.mark.parametrize("secret", [None, ["A"]], ids=["all", "A"])
def test_several_ciphertexts(
    text: str, shapes: list[tuple[int, ...]], slots: int, secret: list[str] | None
) -> None:
    plan = agree(text, shapes, slots, secret)
    sizes = [math.prod(shape) for shape in shapes if secret is None or shape is shapes[0]]
    inputs = [each.vectors for each in plan.program.inputs if each.layout is not None]
    if text != "i,j->ij":
        assert max(inputs) >= -(-max(sizes) // slots) > 1


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("slots", [8, 64])
def test_indices_that_are_more_than_variables(name: str, slots: int) -> None:
    inputs, ranks, einsum, shapes = INDICES[name]
    text = f"cascade f({inputs}) -> Y {{\n  {ranks}\n  {einsum}\n}}"
    for secret in (["X"], None):
        agree(text, shapes, slots, secret)


@pytest.mark.parametrize("extent", [16, 64, 256])
def test_a_plain_matrix_takes_the_rotations_of_halevi_and_shoup(extent: int) -> None:
    problem = problem_of(parse("ij,j->i"), {"A": (extent, extent), "B": (extent,)}, ["B"])
    counts = plans(problem, extent)[0].counts
    assert counts.rotations <= 2 * math.isqrt(extent) - 2
    assert counts.levels == 1


@pytest.mark.parametrize("extent", [8, 16])
def test_a_product_of_matrices_takes_no_more_than_that_of_jiang(extent: int) -> None:
    """3d + 5 sqrt d rotations, d products and three levels in d² slots (CCS 2018)."""
    shape = (extent, extent)
    problem = problem_of(parse("ij,jk->ik"), {"A": shape, "B": shape})
    counts = plans(problem, extent * extent)[0].counts
    assert counts.rotations <= 3 * extent + 5 * math.sqrt(extent)
    assert counts.ct_mults <= extent
    assert counts.levels <= 3


def test_two_factors_first_where_that_is_cheaper() -> None:
    shapes = {"A": (8, 8, 8), "B": (8, 8), "C": (8, 8)}
    plan = plans(problem_of(parse("ilk,jk,lj->ij"), shapes), 64)[0]
    assert plan.label.startswith("(A*")


def test_bicyclic_matrices_are_among_the_plans() -> None:
    """Coprime extents: one ciphertext for each matrix, and nothing but rotations of them."""
    shapes = {"A": (4, 3), "B": (3, 5)}
    found = plans(problem_of(parse("ij,jk->ik"), shapes), 32, "free")
    (plan,) = [each for each in found if each.label == "bicyclic"]
    assert (plan.counts.ciphertexts, plan.counts.levels, plan.counts.pt_mults) == (3, 1, 0)
    assert plan.counts.rotations <= 2 * (3 - 1)
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    output = execute(plan.program, arrays, rng)["Y"]
    np.testing.assert_allclose(output, arrays["A"] @ arrays["B"], atol=1e-9)


def test_a_sum_over_all_of_a_tensor_is_one_sum() -> None:
    """Rows of 127 without a gap: with the zeros behind them as many rotations as for 128 x 128."""
    best, *_ = plans(problem_of(parse("ij->"), {"A": (127, 127)}), 16384)
    assert best.counts.rotations == 14
