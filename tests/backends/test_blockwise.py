"""Nests that run block by block: the interpreter's results, on cascades of several Einsums."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.ir.interpreter import evaluate
from einloom.ir.loop_nodes import Collapse, Contract, Fetch, Load, Loop, LoopNest, Store
from einloom.ir.loop_parser import parse_loops
from einloom.ir.loops import Nest, Parallel
from einloom.ir.ranks import Quotient
from einloom.passes.loops.cost import cost_of
from einloom.passes.loops.lower import LIMITS
from einloom.passes.loops.parts import each_in
from einloom.passes.loops.schedule import Limits

from ..cascades import known_sizes
from .native import TINY, WIDTHS, Native, empty_outputs, native, run, sized, unit_axis
from .test_contractions import SMALL

#: Blocks of a few rows each, products in register tiles of their usual kinds.
FEW = Limits(near=32, shared=1024)

#: Blocks of some rows, products packed.
SOME = Limits(unpacked=64, shared=4096, followed=64, few=0)

SOFTMAX = """
cascade softmax(X[I,J]: f32) -> Y {
  G[i]   = max[j] X[i,j]
  E[i,j] = exp(X[i,j] - G[i])
  D[i]   = E[i,j]
  Y[i,j] = E[i,j] / D[i]
}"""

ATTENTION = """
cascade attention(Q[B,M,D]: f32, K[B,N,D]: f32, V[B,N,F]: f32) -> O {
  S[b,m,n] = Q[b,m,d] * K[b,n,d]
  G[b,m]   = max[n] S[b,m,n]
  E[b,m,n] = exp(S[b,m,n] - G[b,m])
  L[b,m]   = E[b,m,n]
  P[b,m,n] = E[b,m,n] / L[b,m]
  O[b,m,f] = P[b,m,n] * V[b,n,f]
}"""


def blocked(made: Native) -> list[tuple[str, tuple[str, ...]]]:
    """Of each stage that goes by blocks, what is cut and the nests."""
    return [
        ("".join(split.variable for split in stage.splits), tuple(n.name for n in stage.nests))
        for stage in made.program.stages
        if isinstance(stage, Parallel) and len(stage.nests) > 1
    ]


def test_the_rows_of_a_softmax_are_a_block() -> None:
    made = native(SOFTMAX, X=(8192, 100))
    assert blocked(made) == [("i", ("G", "D", "Y"))]
    assert parse_loops(str(made.program)) == made.program
    assert not made.program.scratch


def test_the_pass_analysis_is_the_plan() -> None:
    """The rows are gone through once; each pass over a row is a nest, or, of long rows, a loop."""
    report = el.count_passes(SOFTMAX)
    assert report.passes["I"] == 1
    passes = [set(names) for names in report.plan["J"].values()]
    (stage,) = native(SOFTMAX, X=(8192, 100)).program.stages
    assert isinstance(stage, Parallel)
    assert [{a.buffer for a in each_in(n.body, Store)} for n in stage.nests] == passes
    (row,) = native(SOFTMAX, X=(256, 1024)).program.stages
    assert isinstance(row, Parallel)
    match row.nests:
        case (Nest(body=(LoopNest((Loop(variable="i'p"),), body),)),):
            loops = [s for s in body if isinstance(s, LoopNest)]
            read = [{load.buffer for load in each_in(loop, Load)} for loop in loops]
            stored = [{a.buffer for a in each_in(loop, Store)} for loop in loops]
        case _:
            raise AssertionError(row)
    assert read == [{"X"}, {"X", "G"}, {"E", "D"}]
    assert stored == [set(), {"E"}, {"Y"}]
    assert {a.buffer for a in each_in(body, Store)} == set().union(*passes)


def test_a_sum_that_wants_more_accumulators_is_a_nest_of_its_own() -> None:
    made = native(SOFTMAX, replace(LIMITS, row=1 << 20), X=(64, 1 << 15))
    assert blocked(made) == [("i", ("G", "E", "D", "Y"))]


def test_a_block_of_attention_has_rows_of_one_head() -> None:
    for length in (500, 2048):
        made = native(ATTENTION, Q=(8, 300, 64), K=(8, length, 64), V=(8, length, 64))
        assert blocked(made) == [("mb", ("S", "G", "L", "O"))]
        assert all(".panel" in buffer.name for buffer in made.program.scratch)


def test_exponentials_are_kept_where_the_scores_were() -> None:
    made = native(ATTENTION, Q=(4, 1024, 64), K=(4, 1024, 64), V=(4, 1024, 64))
    (*_, stage) = made.program.stages
    assert isinstance(stage, Parallel)
    stored = [a.buffer for nest in stage.nests for a in each_in(nest.body, Store)]
    assert stored == ["G", "S", "L"]
    assert "E" not in [b.name for b in (*stage.scratch, *made.program.scratch)]


def test_memory_is_lent_from_one_to_the_next() -> None:
    text = """
    cascade c(A[I,J]: f32, B[J,I]: f32) -> Z {
      S[i,j] = A[i,j] * B[j,i]
      G[i]   = max[j] S[i,j]
      E[i,j] = S[i,j] - G[i]
      L[i]   = max[j] (E[i,j] * E[i,j])
      P[i,j] = E[i,j] / L[i]
      H[i]   = max[j] P[i,j]
      Z[i,j] = P[i,j] - H[i]
    }"""
    made = native(text, A=(400, 1000), B=(1000, 400))
    (*_, stage) = made.program.stages
    assert isinstance(stage, Parallel)
    assert {b.name for b in stage.scratch} & {"S", "E", "P"} == {"S"}


def test_a_block_leaves_the_cache_to_what_all_of_them_read() -> None:
    """Keys and values, which are packed for all of them."""
    made = native(ATTENTION, Q=(8, 2048, 64), K=(8, 2048, 64), V=(8, 2048, 64))
    (unit,) = (size for size in made.program.sizes if size.name == "M'U")
    assert isinstance(unit.source, Quotient)
    rows = 13 * unit.source.value({"N": 2048, "D": 64, "F": 64})
    assert rows * 2048 * 4 < LIMITS.shared / 4


@pytest.mark.parametrize(("length", "apart"), [(2048, "N+16"), (2000, "N")])
def test_rows_that_are_read_side_by_side_do_not_push_each_other_out(
    length: int, apart: str
) -> None:
    text = """
    cascade c(Q[M,D]: f32, K[N,D]: f32, V[N,F]: f32) -> O {
      S[m,n] = Q[m,d] * K[n,d]
      O[m,f] = S[m,n] * V[n,f]
    }"""
    made = native(text, Q=(2000, 64), K=(length, 64), V=(length, 64))
    (*_, stage) = made.program.stages
    assert isinstance(stage, Parallel)
    (scores,) = (buffer for buffer in stage.scratch if buffer.name == "S")
    assert [*map(str, scores.strides)] == [apart, "1"]


def test_scores_are_near_when_they_are_stored() -> None:
    made = native(ATTENTION, Q=(8, 300, 64), K=(8, 500, 64), V=(8, 500, 64))
    found = [c for stage in made.program.stages for c in each_in(stage, Contract)]
    assert [(c.buffer, c.near) for c in found] == [("S", True), ("O", False)]
    assert parse_loops(str(made.program)) == made.program
    assert "llvm.prefetch" in made.ir


@pytest.mark.parametrize("bits", WIDTHS)
def test_rows_that_the_next_block_packs_are_asked_for(bits: int) -> None:
    """While exponentials are computed; those of inputs that a cache holds are not."""
    rng = np.random.default_rng(6)
    shapes = {"Q": (2, 300, 20), "K": (2, 90, 20), "V": (2, 90, 33)}
    given: dict[str, Any] = {k: rng.standard_normal(s).astype("f4") for k, s in shapes.items()}
    known = sized(el.parse(ATTENTION), given)
    for streamed, asks in ((given["Q"].nbytes, True), (given["Q"].nbytes + 1, False)):
        arrays = {**given, **empty_outputs(known)}
        made = Native(known, arrays, bits, replace(SOME, streamed=streamed))
        (*_, stage) = made.program.stages
        assert isinstance(stage, Parallel)
        fetched = [[str(f.indices[1]) for f in each_in(nest.body, Fetch)] for nest in stage.nests]
        unit = stage.splits[0].unit
        assert fetched == [[], [], [f"m'p+M'0+{unit}"] * asks, []]
        assert parse_loops(str(made.program)) == made.program
        assert made(arrays) == 0
        scores = given["Q"] @ given["K"].transpose(0, 2, 1)
        powers = np.exp(scores - scores.max(2, keepdims=True))
        wanted = powers @ given["V"] / powers.sum(2, keepdims=True)
        np.testing.assert_allclose(arrays["O"], wanted, 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("Y[i] = sum[j] E[i,j]", {"G", "S"}),
        ("Y[i] = sum[j] (E[i,j] * S[i,j])", {"G", "S", "E"}),  # S is read later
        ("Y[i] = sum[j] E[i,j]\n  Z[j,i] = S[i,j]", {"G", "S", "E"}),
    ],
)
def test_what_is_read_later_lends_nothing(last: str, kept: set[str]) -> None:
    text = f"""
    cascade c(A[I,J]: f32, B[I,J]: f32) -> {"Y, Z" if "Z" in last else "Y"} {{
      S[i,j] = A[i,j] * B[i,j]
      G[i]   = max[j] S[i,j]
      E[i,j] = exp(S[i,j] - G[i])
      {last}
    }}"""
    rng = np.random.default_rng(2)
    arrays = {name: rng.standard_normal((300, 700)).astype("f4") for name in "AB"}
    known = sized(el.parse(text), arrays)
    arrays |= empty_outputs(known)
    made = Native(known, arrays)
    (*_, stage) = (s for s in made.program.stages if isinstance(s, Parallel))
    assert {b.name for b in (*stage.scratch, *made.program.scratch)} & {"G", "S", "E"} == kept
    assert made(arrays) == 0
    for name, wanted in el.evaluate(known, keep=["Y"], A=arrays["A"], B=arrays["B"]).items():
        np.testing.assert_allclose(arrays[name], wanted, 1e-5)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (1, 2, 0)])
def test_columns_of_all_blocks_are_packed_before_them(
    axes: tuple[int, ...], dtype: str, bits: int
) -> None:
    """For other sizes too than those that it was planned for, however keys and values lie."""
    rng = np.random.default_rng(4)

    def arrays(b: int, m: int, n: int, d: int, f: int) -> dict[str, Any]:
        shapes = {"Q": (b, m, d), "K": (b, n, d), "V": (b, n, f)}
        found: dict[str, Any] = {k: rng.standard_normal(shapes[k]).astype(dtype) for k in shapes}
        for name in "KV":
            lies = np.argsort(axes)
            found[name] = np.ascontiguousarray(found[name].transpose(axes)).transpose(lies)
        return found

    text = ATTENTION.replace("f32", {"f4": "f32", "f8": "f64"}[dtype])
    given = arrays(3, 200, 90, 7, 37)
    known = sized(el.parse(text), given)
    made = Native(known, {**given, **empty_outputs(known)}, bits, SOME, threads=2)
    program = str(made.program)
    assert re.search(r"pack n of K\[.*\] in S.K.panel\[.*\] depth d", program)
    if dtype == "f4":  # of f64 that nest is none of the blocks: it would pack too much
        assert re.search(r"pack f of V\[.*\] in O.V.panel\[.*\] depth n", program)
    assert parse_loops(program) == made.program
    for extents in ((3, 200, 90, 7, 37), (1, 5, 33, 16, 64), (2, 31, 1, 1, 1), (4, 17, 64, 400, 3)):
        given = arrays(*extents)
        given["O"] = np.full((*given["Q"].shape[:2], extents[-1]), 7, dtype)
        if any(
            unit_axis(given[n]) != b.unit
            for n, b in zip("KV", made.program.inputs[1:], strict=True)
        ):
            continue
        assert made(given) == 0
        scores = given["Q"] @ given["K"].transpose(0, 2, 1)
        powers = np.exp(scores - scores.max(2, keepdims=True))
        wanted = powers @ given["V"] / powers.sum(2, keepdims=True)
        np.testing.assert_allclose(given["O"], wanted, 1e-4, 1e-4)


def test_factors_that_blocks_write_are_packed_in_them() -> None:
    text = """cascade c(A[M,N]: f32, W[N,F]: f32) -> O {
      S[m,n] = exp(A[m,n])
      G[m]   = max[n] S[m,n]
      T[m,n] = S[m,n] - G[m]
      O[f,m] = W[n,f] * T[m,n]
    }"""
    made = native(text, A=(2000, 512), W=(512, 512))
    assert "pack " not in str(made.program)


def test_what_a_cache_holds_is_left_as_it_is() -> None:
    assert not blocked(native(SOFTMAX, X=(8, 16)))


def test_rows_that_no_cache_holds_are_not_blocks() -> None:
    """But cut into pieces, of which the last to go through rows has nothing to keep."""
    assert blocked(native(SOFTMAX, X=(4, 1 << 22))) == [("ji", ("G", "D"))]


def test_large_factors_are_not_packed_for_each_block() -> None:
    chain = "cascade c(A[I,J]: f32, B[J,K]: f32, C[K,L]: f32) -> Y {\n"
    chain += "  T[i,k] = A[i,j] * B[j,k]\n  Y[i,l] = T[i,k] * C[k,l]\n}"
    assert not blocked(native(chain, A=(1024, 1024), B=(1024, 1024), C=(1024, 1024)))
    assert blocked(native(chain, A=(40000, 16), B=(16, 2048), C=(2048, 16)))


def test_sums_that_are_folded_by_lanes_are_part_of_a_block() -> None:
    """How many lanes there are is not known where the sizes of blocks are."""
    text = """
    cascade c(A[I,J]: f32, B[J,K]: f32, V[L]: f32) -> Y {
      T[i,k] = A[i,j] * B[j,k]
      G[i]   = T[i,k] * T[i,k]
      H[i,l] = G[i] * V[l]
      Y[i]   = max[l] H[i,l]
    }"""
    rng = np.random.default_rng(0)
    a, b, v = (rng.integers(-2, 3, shape).astype("f4") for shape in ((600, 64), (64, 96), (500,)))
    assert blocked(native(text, A=a.shape, B=b.shape, V=v.shape)) == [("i", ("G", "Y"))]
    status, found = run(el.parse(text), {"A": a, "B": b, "V": v})
    assert status == 0
    wanted = (((a @ b) ** 2).sum(1)[:, None] * v).max(1)
    np.testing.assert_allclose(found["Y"], wanted, rtol=1e-5)


def test_copies_of_inputs_are_made_once_for_all_blocks() -> None:
    """The sum factorisation of finite elements: nothing of an element but its values is large."""
    text = """
    cascade c(A[A,I]: f32, B[B,J]: f32, C[C,K]: f32, X[E,I,J,K]: f32) -> Y {
      T[j,e,a,k]   = A[a,i] * X[e,i,j,k]
      U[e,a,b,k]   = T[j,e,a,k] * B[b,j]
      Y[e,a,b,c]   = U[e,a,b,k] * C[c,k]
    }"""
    made = native(text, A=(9, 8), B=(9, 8), C=(9, 8), X=(2000, 8, 8, 8))
    assert blocked(made) == [("e", ("T", "U", "Y"))]
    copies = made.program.stages[0]
    assert isinstance(copies, Nest)
    assert not any(each_in(copies.body, Collapse))
    assert [b.name for b in made.program.scratch] == ["Y.C.copy"]


ELSEWHERE = {
    "transposed": "T[i,j] = 2 * X[i,j]\n  Y[i,j] = T[i,j] + T[j,i]",
    "shifted": "T[i,j] = 2 * X[i,j]\n  Y[i,j] = T[i,j] + T[i+1,j else 0]",
    "summed": "T[i,j] = 2 * X[i,j]\n  S[j] = T[i,j]\n  Y[i,j] = T[i,j] * S[j]",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_reads_other_rows_is_not_cut_along_them(name: str) -> None:
    text = f"cascade c(X[I,J]: f32) -> Y {{\n  ranks J = I\n  {ELSEWHERE[name]}\n}}"
    made = native(text, FEW, X=(40, 40))
    assert all("i" not in cut for cut, _ in blocked(made))


NUMPY = {"f64": np.float64, "f32": np.float32, "i64": np.int64}


class _Maker:
    """Makes cascades whose Einsums read what those before them made, mostly at the same place."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ranks = "ijk"[: self.rng.integers(2, 4)]
        self.tensors = {"X": self.ranks, "Z": self._some(self.ranks), "W": self._some(self.ranks)}
        self.lines: list[str] = []

    def _some(self, variables: str) -> str:
        kept = [v for v in variables if self.rng.random() < 0.75] or [variables[0]]
        self.rng.shuffle(kept)
        return "".join(kept)

    def _read(self) -> str:
        names = list(self.tensors)
        name = names[-1 - int(self.rng.geometric(0.5) - 1) % len(names)]
        indices = list(self.tensors[name])
        if indices and self.rng.random() < 0.1:
            at = self.rng.integers(len(indices))
            indices[at] += "+1"
            return f"{name}[{','.join(indices)} else 0]"
        return f"{name}[{','.join(indices)}]"

    def _einsum(self, name: str, dtype: str) -> None:
        kind = self.rng.integers(5)
        reads = [self._read() for _ in range(int(self.rng.integers(1, 4)))]
        there = [v for v in self.ranks if any(v in read.split("[")[1] for read in reads)]
        left = self._some("".join(there))
        gone = [v for v in there if v not in left]
        value = ("*" if kind < 2 else "+").join(reads)
        if kind == 3 and gone:
            value = f"max[{','.join(gone)}] ({value})"
        elif kind == 4 and dtype[0] == "f":
            value = f"exp(0 - abs({reads[0]}))"
            left = "".join(v for v in self.ranks if v in reads[0].split("[")[1])
        elif gone:
            value = f"sum[{','.join(gone)}] ({value})"
        self.tensors[name] = left
        self.lines.append(f"{name}[{','.join(left)}] = {value}")

    def text(self, dtype: str) -> str:
        """The text of a cascade."""
        count = int(self.rng.integers(2, 7))
        for number in range(count):
            self._einsum(f"T{number}", dtype)
        more = [f"T{n}" for n in range(count - 1) if self.rng.random() < 0.15]
        inputs = ", ".join(
            f"{n}[{','.join(self.tensors[n].upper())}]: {dtype}" for n in ("X", "Z", "W")
        )
        lines = "\n  ".join(self.lines)
        return f"cascade c({inputs}) -> {', '.join([*more, f'T{count - 1}'])} {{\n  {lines}\n}}"


def made(seed: int, dtype: str) -> tuple[Any, dict[str, Any]]:
    """A cascade, and arrays for it: of few and of many elements, some of none."""
    maker = _Maker(seed)
    cascade = el.parse(maker.text(dtype))
    sizes = {
        v: int(maker.rng.choice([0, 1, 2, 3, 5, 17, 33], p=[0.04] + [0.16] * 6)) for v in "ijk"
    }
    arrays: dict[str, Any] = {}
    for name in "XZW":
        shape = [sizes[v] for v in maker.tensors[name]]
        large = maker.rng.integers(-4, 5, size=[2 * n + 1 for n in shape]).astype(NUMPY[dtype])
        # Of every other element, backwards or not, or of an array as it is.
        step = int(maker.rng.choice([1, 1, 2, -1]))
        cut = tuple(slice(None, None, step) for _ in shape)
        arrays[name] = large[cut][tuple(slice(0, n) for n in shape)]
    return cascade, arrays


@pytest.mark.parametrize("seed", range(36))
def test_cascades_of_several_einsums(seed: int) -> None:
    dtype = ("f64", "f32", "i64")[seed % 3]
    cascade, arrays = made(seed, dtype)
    with np.errstate(all="ignore"):
        wanted = evaluate(sized(cascade, arrays), arrays)
    for limits, bits in ((TINY, WIDTHS[seed % len(WIDTHS)]), (FEW, WIDTHS[0]), (SMALL, WIDTHS[-1])):
        status, found = run(cascade, arrays, bits, limits)
        assert status == 0
        known = sized(cascade, arrays)
        program = Native(known, {**arrays, **empty_outputs(known)}, bits, limits).program
        assert parse_loops(str(program)) == program
        assert cost_of(program, known_sizes(known)).summary
        again = {**arrays, **empty_outputs(known)}
        if all(again[name].size for name in known.outputs):
            assert Native(known, again, bits, limits).bound(again)(again) == 0
            for name in wanted:
                assert again[name].tobytes() == found[name].tobytes()
        shared = run(cascade, arrays, bits, limits, threads=1 + seed % 5)[1]
        alone = run(cascade, arrays, bits, limits, threads=1)[1]
        for name, value in wanted.items():
            rough = 1e-3 if dtype == "f32" else 1e-9
            near = np.isclose(found[name], value, rough, rough * _largest(value), equal_nan=True)
            assert near.all(), f"{name} of {cascade}"
            assert shared[name].tobytes() == alone[name].tobytes()


def _largest(values: Any) -> float:
    finite = np.abs(values[np.isfinite(values)]) if values.size else values
    return float(finite.max(initial=1))


def test_most_of_them_go_by_blocks() -> None:
    """What is tested above is what it is meant to be."""
    count = 0
    for seed in range(30):
        cascade, arrays = made(seed, "f32")
        known = sized(cascade, arrays)
        count += bool(blocked(Native(known, {**arrays, **empty_outputs(known)}, limits=FEW)))
    assert count >= 10
