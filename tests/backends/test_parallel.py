"""Work that threads share: as the interpreter has it, and bit for bit whatever their number is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import einloom as el
from einloom.ir.interpreter import evaluate
from einloom.ir.loop_parser import parse_loops
from einloom.passes.loops.lower import LIMITS
from einloom.passes.rewrites.plain import Plain

from ..cascades import Sample, assert_close, generals, products
from ..generated import Case, cases, examples
from ..scanned import Written, written
from ..test_properties_einsum import as_cascade, assert_agree
from .native import TINY, WIDTHS, Native, empty_outputs, run, sized
from .test_codegen_products import native_order

LIMIT_CHOICES = st.sampled_from((LIMITS, TINY))
THREADS = st.integers(2, 8)


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, array in wanted.items():
        assert found[name].tobytes() == array.tobytes()


@examples(50)
@given(cases(), st.sampled_from(WIDTHS), LIMIT_CHOICES, THREADS)
def test_products_of_any_dtypes_and_strides(
    case: Case, bits: int, limits: Any, threads: int
) -> None:
    cascade = as_cascade(case)
    inputs = {d.name: a for d, a in zip(cascade.inputs, native_order(case), strict=True)}
    expected = evaluate(sized(cascade, inputs), inputs)
    status, found = run(cascade, inputs, bits, limits, threads=threads)
    assert status == 0
    for name, wanted in expected.items():
        assert_agree(case, found[name], wanted)
    assert_same(found, run(cascade, inputs, bits, limits, threads=1)[1])


@examples(30)
@given(products(), st.sampled_from(WIDTHS), LIMIT_CHOICES, THREADS)
def test_products_over_any_semiring(sample: Sample, bits: int, limits: Any, threads: int) -> None:
    dtypes = [decl.dtype for decl in sample.cascade.inputs]
    dtypes += [einsum.dtype for einsum in sample.cascade.einsums]
    if any(dtype is not None and dtype.is_host_only for dtype in dtypes):
        return
    status, found = run(sample.cascade, sample.arrays, bits, limits, threads=threads)
    assert status == 0
    assert_close(sample, found, evaluate(sample.cascade, sample.arrays))
    assert_same(found, run(sample.cascade, sample.arrays, bits, limits, threads=1)[1])


@examples(40)
@given(generals(), st.sampled_from(WIDTHS), LIMIT_CHOICES, THREADS)
def test_cascades_of_every_construct(sample: Sample, bits: int, limits: Any, threads: int) -> None:
    try:
        expected = evaluate(sample.cascade, sample.arrays)
    except ValueError:
        assert run(sample.cascade, sample.arrays, bits, limits, threads=threads)[0] == 3
        return
    status, found = run(sample.cascade, sample.arrays, bits, limits, threads=threads)
    assert status == 0
    for name, wanted in expected.items():
        np.testing.assert_array_equal(found[name], wanted)


@examples(40)
@given(written(), THREADS)
def test_scans_and_partitions(case: Written, threads: int) -> None:
    """In each step of a scan the nests are shared out."""
    cascade = Plain()(el.parse(case.text))
    status, found = run(cascade, case.arrays, threads=threads)
    assert status == 0
    if not case.special:
        for name, wanted in evaluate(cascade, case.arrays).items():
            np.testing.assert_array_equal(found[name], wanted, err_msg=name)
    assert_same(found, run(cascade, case.arrays, threads=1)[1])


#: Subscripts, and the variables that are cut; those that are reduced, piece by piece.
CUT = {
    "ij,jk->ik": "ki",
    "bij,bjk->bik": "bki",
    "aij,jbk->aibk": "abk",
    "ij,ij->ij": "ij",
    "ij,j->i": "i",
    "ij,i->j": "i each",
    "ij->ji": "ji",
    "ijk->kji": "ki",
    "l->": "l each",
    "il->": "i each",
    "il->i": "i",
    "la,lb->ab": "l each",
    "li,li->i": "l each",
    "lai,lbj->abij": "ij",
    "lai,lbj->bi": "j each",
}


def operands_of(subscripts: str) -> tuple[Any, ...]:
    rng = np.random.default_rng(5)
    sizes = {"a": 5, "b": 3, "i": 83, "j": 67, "k": 131, "l": 341}
    return tuple(
        rng.standard_normal([sizes[v] for v in term]).astype("f4")
        for term in subscripts.split("->")[0].split(",")
    )


def native_of(subscripts: str, threads: int) -> tuple[Native, dict[str, Any]]:
    """Of so many threads, and its arrays; of larger reductions the sizes are cut down."""
    operands = operands_of(subscripts)
    cascade = as_cascade(Case(subscripts, operands))
    inputs = {d.name: a for d, a in zip(cascade.inputs, operands, strict=True)}
    known = sized(cascade, inputs)
    arrays = {**inputs, **empty_outputs(known)}
    return Native(known, arrays, threads=threads), arrays


@pytest.mark.parametrize("threads", range(1, 9))
@pytest.mark.parametrize("subscripts", CUT)
def test_every_kind_of_nest(subscripts: str, threads: int) -> None:
    native, arrays = native_of(subscripts, threads)
    assert native(arrays) == 0
    wanted = np.einsum(subscripts, *(a.astype("f8") for a in operands_of(subscripts)))
    np.testing.assert_allclose(arrays["Y"], wanted, rtol=0, atol=1e-3)
    alone, others = native_of(subscripts, 1)
    assert alone(others) == 0
    assert_same(arrays, others)


@pytest.mark.parametrize("subscripts", CUT)
def test_what_is_cut(subscripts: str) -> None:
    program = native_of(subscripts, 2)[0].program
    assert parse_loops(str(program)) == program
    (found,) = program.parallels
    each = " each" * found.splits[0].each
    assert "".join(split.variable for split in found.splits) + each == CUT[subscripts]


def test_scratch_lies_as_it_did_where_a_part_collapses_ranks() -> None:
    """Of four ranks three are cut; a part's of c and all of d are one, but c's strides stay."""
    cascade = el.parse("""cascade f(X[A,E,C,D,B]: f64) -> Y {
      T[a,e,c,d] = X[a,e,c,d,b]
      Y[a,e,c] = T[a,e,c,d] * T[a,e,c,d]
    }""")
    given = np.arange(9 * 5 * 2 * 7 * 3.0).reshape(9, 5, 2, 7, 3)
    inputs = {"X": np.moveaxis(given, 0, -1)}  # d has unit stride, the others go on from it
    for threads in range(1, 5):
        status, found = run(sized(cascade, inputs), inputs, threads=threads)
        assert status == 0
        np.testing.assert_array_equal(found["Y"], (given.sum(0) ** 2).sum(-1))


def test_parts_find_a_copy_where_it_was_made() -> None:
    """The copy is made of b and c as one rank; a part of some b goes through c as it is."""
    cascade = el.parse(
        "cascade f(X[A,D]: f64, Z[B,C,A]: f64) -> Y { Y[d,b,c] = X[a,d] * Z[b,c,a] }"
    )
    rng = np.random.default_rng(0)
    inputs = {"X": rng.integers(0, 9, (5, 6)) * 1.0, "Z": rng.integers(0, 9, (4, 7, 5)) * 1.0}
    for threads in range(1, 5):
        status, found = run(sized(cascade, inputs), inputs, threads=threads)
        assert status == 0
        np.testing.assert_array_equal(found["Y"], np.einsum("ad,bca->dbc", *inputs.values()))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_reduction_of_nothing_has_no_pieces(threads: int) -> None:
    """Code for long reductions; a piece that there is no room for would be 4 MB."""
    cascade = el.parse("cascade f(X[I,J]: f32) -> Y { Y[j] = X[i,j] }")
    hints = sized(cascade, {"X": np.empty((1 << 16, 8), "f4")})
    arrays = {"X": np.empty((0, 1 << 20), "f4"), "Y": np.ones(1 << 20, "f4")}
    native = Native(hints, arrays, threads=threads)
    assert any(parallel.each for parallel in native.program.parallels)
    assert native(arrays) == 0
    assert not arrays["Y"].any()


def test_a_reduction_inside_another_is_in_one_piece() -> None:
    """The largest of the least: not of the least of pieces."""
    cascade = el.parse("cascade f(X[I,J]: f64) -> Y { Y = max[i] (1 + min[j] X[i,j]) }")
    x = np.random.default_rng(0).normal(size=(3, 31))
    status, found = run(cascade, {"X": x}, threads=1)
    assert status == 0
    assert found["Y"] == 1 + x.min(1).max()


def test_one_rank_is_cut_into_pieces_of_two_lengths() -> None:
    """What takes longer at each point is worth shorter pieces."""
    f = el.compile(
        "cascade f(X[M]: f32) -> Y, Z { Y = max[m] X[m]\n Z = sum[m] exp(X[m]) }", threads=2
    )
    x = np.linspace(0, 1, 3_000_001, dtype="f4")
    largest, total = f(x)
    text = str(f.steps[-1]).partition("\n")[2]
    counts = {size.name for size in parse_loops(text).sizes if "'C" in size.name}
    assert len(counts) == 2
    assert largest == 1
    np.testing.assert_allclose(total, np.exp(x.astype("f8")).sum(), rtol=1e-6)
