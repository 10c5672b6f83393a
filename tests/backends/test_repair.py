"""Reductions that wait for one another, made piece by piece: the interpreter's results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.ir.interpreter import evaluate
from einloom.ir.loop_nodes import Fetch, Load
from einloom.ir.loop_parser import parse_loops
from einloom.ir.loops import nests_of
from einloom.passes.loops.cost import cost_of
from einloom.passes.loops.parts import each_in
from einloom.passes.loops.schedule import Limits

from ..cascades import known_sizes
from .native import WIDTHS, Native, empty_outputs, native, sized

#: Arrays of some thousand elements are large, and pieces are of 8 KB.
LARGE = Limits(near=24 << 10, shared=2 << 10, streamed=16 << 10)

SOFTMAX = """
cascade softmax(X[B,M]: f32) -> Y {
  G[b]   = max[m] X[b,m]
  E[b,m] = exp(X[b,m] - G[b])
  D[b]   = E[b,m]
  Y[b,m] = E[b,m] / D[b]
}"""


def together(made: Native) -> list[tuple[str, tuple[str, ...]]]:
    """Of each stage that goes piece by piece, the variables that are cut and the nests."""
    return [
        ("".join(s.variable for s in stage.splits), tuple(nest.name for nest in stage.nests))
        for stage in made.program.parallels
        if len(stage.nests) > 1 and stage.splits[0].unit.constant is not None
    ]


def test_rows_that_no_cache_holds() -> None:
    made = native(SOFTMAX, Limits(), X=(4, 1 << 20))
    assert together(made) == [("mb", ("G", "D"))]
    assert parse_loops(str(made.program)) == made.program


def test_one_run_less_through_memory_is_one_pass_less() -> None:
    """X is read by as many stages as the merged Cascade has passes."""
    stages = [
        stage
        for stage in native(SOFTMAX, Limits(), X=(4, 1 << 20)).program.leaves
        if any(load.buffer == "X" for load in each_in(nests_of(stage), Load))
    ]
    merged = el.rewrite(SOFTMAX, "merge{rank=m, tile=4096}")
    assert len(stages) == el.count_passes(merged).passes["M"] == 2
    assert el.count_passes(SOFTMAX).passes["M"] == 3


def test_the_last_to_read_a_piece_asks_for_the_next() -> None:
    first, *_ = native(SOFTMAX, Limits(), X=(4, 1 << 20)).program.parallels
    offsets = [[f.indices[1].offset for f in each_in(nest.body, Fetch)] for nest in first.nests]
    assert offsets == [[], [4096]]


def test_so_does_the_last_to_read_a_block() -> None:
    made = native(SOFTMAX, Limits(), X=(32768, 100))
    (stage,) = made.program.parallels
    assert [nest.name for nest in stage.nests] == ["G", "D", "Y"]
    fetched = [list(each_in(nest.body, Fetch)) for nest in stage.nests]
    assert [len(found) for found in fetched] == [0, 1, 0]
    (rows, _) = fetched[1][0].indices
    assert str(rows) == "b'p+B'0+B'U"
    assert parse_loops(str(made.program)) == made.program


@pytest.mark.parametrize(("columns", "ahead"), [(512, 2), (1024, 1), (4096, 1)])
def test_so_does_the_last_to_read_a_row(columns: int, ahead: int) -> None:
    """For a later row, some lines ahead at least, if a cache holds rows."""
    made = native(SOFTMAX, Limits(), X=((1 << 24) // columns, columns))
    found = {str(f.indices[0]) for n in made.program.nests for f in each_in(n.body, Fetch)}
    assert found == {f"b'p+B'0+{ahead}"}
    assert parse_loops(str(made.program)) == made.program


@pytest.mark.parametrize("shape", [(64, 16384), (1024, 1024), (1, 1 << 19)])
def test_rows_that_a_cache_holds_are_left_alone(shape: tuple[int, int]) -> None:
    made = native(SOFTMAX, Limits(), X=shape)
    assert not any("pieces" in b.name and "G" in b.name for b in made.program.scratch)


@pytest.mark.parametrize(
    "body",
    [
        "D[b] = sum[m] exp(X[b,m] - G[b] + U[b])",  # owes exp(U): not what is repaired alone
        "D[b] = sum[m] (exp(X[b,m] - G[b]) * V[m])",  # V may be large where X is far below
        "D[b] = sum[m] (exp(X[b,m] - G[b]) * exp(X[b,m] - G[b]))",
        "D[b] = sum[m] exp(X[b,m] + G[b])",  # may overflow
        "D[b] = sum[m] X[b,m] * G[b]",
        "D[b] = sum[m] exp(X[b,m] - G[b]) where m > 3",
        "D[b] = max[m] exp(X[b,m] - G[b])",
        "D[b] = sum[m] exp(X[b,m] - G[b] * U[b])",
        "D[b] = sum[m] exp(2 * X[b,m] - G[b])",
        "D[b] = sum[m] exp(1e30 * (1e30 * (X[b,m] - G[b])))",  # no f32 is so large
        "D[b] = sum[m] exp((X[b,m] - G[b]) / 1e30 / 1e30)",
    ],
)
def test_what_cannot_be_repaired_is_left_alone(body: str) -> None:
    text = f"cascade c(X[B,M]: f32, U[B]: f32, V[M]: f32) -> D {{ G[b] = max[m] X[b,m]\n {body} }}"
    assert not together(native(text, LARGE, X=(3, 8000), U=(3,), V=(8000,)))


def test_a_rounded_maximum_is_not_repaired_for() -> None:
    text = """cascade c(X[B,M]: f32) -> D {
      G[b]: f16 = max[m] X[b,m]
      D[b] = sum[m] exp(X[b,m] - G[b])
    }"""
    assert not together(native(text, LARGE, X=(3, 8000)))


def test_rows_so_long_that_a_piece_is_few_are_left_alone() -> None:
    """What pieces come to would be as much as what they are made of."""
    text = """cascade c(X[M,B]: f32) -> D {
      G[b] = max[m] X[m,b]
      D[b] = sum[m] exp(X[m,b] - G[b])
    }"""
    assert together(native(text, Limits(), X=(4096, 1024))) == [("m", ("G", "D"))]
    assert not together(native(text, Limits(), X=(4096, 2048)))


def test_pieces_as_long_as_those_that_threads_share() -> None:
    text = """cascade c(X[M,B]: f32) -> D, H {
      G[b] = max[m] X[m,b]
      D[b] = sum[m] exp(X[m,b] - G[b])
      H[b] = sum[m] (X[m,b] * X[m,b])
    }"""
    rng = np.random.default_rng(0)
    arrays = {"X": rng.standard_normal((2500, 2)).astype("f4")}
    known = sized(el.parse(text), arrays)
    out = empty_outputs(known)
    code = Native(known, {**arrays, **out}, limits=replace(LARGE, near=3 << 9), threads=2)
    assert together(code)
    names = [size.name for size in code.program.sizes]
    assert sorted(set(names)) == sorted(names)
    assert code({**arrays, **out}) == 0
    for name, wanted in evaluate(known, arrays).items():
        np.testing.assert_allclose(out[name], wanted, 1e-5)


#: Of each: the text, how X is shaped, and what is cut.
FORMS = [
    ("G[b] = max[m] X[b,m]; D[b] = exp(X[b,m] - G[b])", "bm", "mb"),
    ("G[b] = min[m] X[b,m]; D[b] = exp(G[b] - X[b,m])", "bm", "mb"),
    ("G[b] = max[m] X[b,m]; D[b] = exp2(3 * (X[b,m] - G[b]) / 7)", "bm", "mb"),
    ("G = max[m,b] X[b,m]; D = exp(X[b,m] - G)", "bm", "b"),
    ("G[b] = max[m] X[m,b]; D[b] = exp(X[m,b] - G[b])", "mb", "m"),
    (
        "G[b] = max[m] X[b,m]; S[b] = exp(X[b,m] - select(G[b] == -inf, 0, G[b])); D[b] = S[b]",
        "bm",
        "mb",
    ),
    (
        "G[b] = max[m] X[b,m]; S[b] = exp(X[b,m] - G[b]); H[b] = exp((X[b,m] - G[b]) / 8); "
        "D[b] = H[b] / S[b]",
        "bm",
        "mb",
    ),
    (
        "G[b] = max[m] X[b,m]; E[b,m] = exp(X[b,m] - G[b]); S[b] = E[b,m]; D[b,m] = E[b,m] / S[b]",
        "bm",
        "mb",
    ),
    ("G[b] = max[m,a] X[b,m,a]; D[b,a] = exp(X[b,m,a] - G[b])", "bma", "mb"),
    (
        "G[a,b,c] = max[m] X[a,b,c,m]; D[a,b,c] = exp(X[a,b,c,m] - G[a,b,c])",
        "abcm",
        "mab",
    ),
]


def _values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, what: int) -> Any:
    """Random ones; large ones; some or all -inf; with inf; with NaN; descending, ascending."""
    x = rng.standard_normal(shape)
    where = rng.random(shape)
    match what:
        case 1:
            x *= 1e4
        case 2:
            x[where < 0.5] = -np.inf
        case 3:
            x[...] = -np.inf
        case 4:
            x[where < 0.01] = np.inf
        case 5:
            x[where < 0.01] = np.nan
        case 6:
            x = np.sort(x, -1)[..., ::-1] * 50
        case 7:
            x = np.sort(x, -1) * 50
        case 8:
            x[..., : x.shape[-1] // 2] = -np.inf
        case _:
            pass
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("form", range(len(FORMS)))
def test_pieces_brought_together(form: int, dtype: str) -> None:
    body, axes, cut = FORMS[form]
    kind = {"f2": "f16", "f4": "f32", "f8": "f64"}[dtype]
    text = f"cascade c(X[{','.join(axes.upper())}]: {kind}) -> D {{ {body.replace(';', chr(10))} }}"
    rng = np.random.default_rng(form)
    hints = {"a": 2, "b": 3, "c": 2, "m": 9000}
    hinted = el.parse(text)
    large = {"X": np.zeros([hints[v] for v in axes], dtype)}
    known = sized(hinted, large)
    for bits in WIDTHS:
        code = Native(known, {**large, **empty_outputs(known)}, bits, LARGE, 1 + form % 3)
        if dtype == "f2" and "E[b,m]" in body:  # is rounded, and so it is stored
            assert not together(code)
            continue
        ((splits, _),) = together(code)
        assert splits == cut
        assert parse_loops(str(code.program)) == code.program
        assert cost_of(code.program, known_sizes(known)).summary
        for number, length in enumerate((8000, 1, 0, 511, 512, 513, 2047, 2049, 4096)):
            sizes = {**hints, "m": length, "b": (3, 1, 17)[number % 3]}
            arrays = {"X": _values(rng, tuple(sizes[v] for v in axes), dtype, number)}
            here = sized(hinted, arrays)
            with np.errstate(all="ignore"):
                wanted = evaluate(here, arrays)["D"]
            out = empty_outputs(here)
            assert code({**arrays, **out}) == 0
            rough = {"f2": 4e-3, "f4": 3e-5, "f8": 1e-12}[dtype]
            np.testing.assert_allclose(out["D"], wanted, rough, rough, err_msg=f"{sizes} {number}")
            alone = Native(known, {**large, **empty_outputs(known)}, bits, LARGE, 1)
            again = empty_outputs(here)
            assert alone({**arrays, **again}) == 0
            assert again["D"].tobytes() == out["D"].tobytes()
