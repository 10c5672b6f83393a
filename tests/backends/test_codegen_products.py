"""Products through the code generator are what the interpreter says, at every vector width."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.ir.interpreter import evaluate
from einloom.ir.operators import SEMIRINGS
from einloom.passes.loops.lower import LIMITS

from ..cascades import Sample, assert_close, classic, generals, products
from ..generated import NATIVE, Array, Case, cases, examples, laid_out
from ..test_properties_einsum import as_cascade, assert_agree
from .native import TINY, WIDTHS, Native, run, sized

LIMIT_CHOICES = st.sampled_from((LIMITS, TINY))


def check_case(case: Case, bits: int, limits: Any) -> None:
    cascade = as_cascade(case)
    inputs = {d.name: a for d, a in zip(cascade.inputs, native_order(case), strict=True)}
    expected = evaluate(sized(cascade, inputs), inputs)
    status, found = run(cascade, inputs, bits, limits)
    assert status == 0
    for name, wanted in expected.items():
        assert_agree(case, found[name], wanted)


def native_order(case: Case) -> list[Array]:
    """The operands in native byte order: the caller of native code sees to that."""
    return [np.asarray(a).astype(a.dtype.newbyteorder("="), copy=False) for a in case.operands]


@examples(60)
@given(cases(), st.sampled_from(WIDTHS), LIMIT_CHOICES)
def test_products_of_any_dtypes_and_strides(case: Case, bits: int, limits: Any) -> None:
    check_case(case, bits, limits)


@examples(40)
@given(
    st.sampled_from(NATIVE).flatmap(lambda dtype: cases(dtypes=[dtype], plain=True)),
    st.sampled_from(WIDTHS),
    LIMIT_CHOICES,
)
def test_products_of_one_dtype(case: Case, bits: int, limits: Any) -> None:
    check_case(case, bits, limits)


@examples(40)
@given(products(), st.sampled_from(WIDTHS), LIMIT_CHOICES)
def test_products_over_any_semiring(sample: Sample, bits: int, limits: Any) -> None:
    if any(decl.dtype is not None and decl.dtype.is_host_only for decl in sample.cascade.inputs):
        return
    if any(
        einsum.dtype is not None and einsum.dtype.is_host_only for einsum in sample.cascade.einsums
    ):
        return
    status, found = run(sample.cascade, sample.arrays, bits, limits)
    assert status == 0
    assert_close(sample, found, evaluate(sample.cascade, sample.arrays))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize(
    "subscripts", ["ij,jk->ik", "ij,kj->ik", "ji,jk->ki", "bij,bjk->ibk", "ijk,jlk->il"]
)
def test_blocked_contractions(subscripts: str, dtype: str, bits: int) -> None:
    """Several blocks of every kind, packed, of sizes that no block and no vector divides."""
    rng = np.random.default_rng(7)
    sizes = {"i": 19, "j": 37, "k": 23, "l": 21, "b": 3}
    if subscripts.startswith("ijk"):
        sizes |= {"j": 5, "l": 37}
    operands = tuple(
        rng.integers(0, 3, [sizes[v] for v in term]).astype(dtype)
        for term in subscripts.split("->")[0].split(",")
    )
    case = Case(subscripts, operands)
    cascade = as_cascade(case)
    inputs = {d.name: a for d, a in zip(cascade.inputs, operands, strict=True)}
    sizes_known = sized(cascade, inputs)
    status, found = run(cascade, inputs, bits, TINY)
    assert status == 0
    assert_agree(case, found["Y"], evaluate(sizes_known, inputs)["Y"])


def test_the_blocked_form_is_what_is_tested() -> None:
    a = np.ones((19, 37), "f4")
    arrays = {"A": a, "B": np.ones((37, 23), "f4"), "Y": np.ones((19, 23), "f4")}
    cascade = as_cascade(Case("ij,jk->ik", (arrays["A"], arrays["B"])))
    text = str(Native(sized(cascade, {n: arrays[n] for n in "AB"}), arrays, limits=TINY).program)
    assert "Y.B.panel" in text
    assert "contract Y" in text


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_lines_of_a_tile_are_asked_for_before_its_sums(bits: int) -> None:
    a = np.ones((19, 37), "f4")
    arrays = {"A": a, "B": np.ones((37, 23), "f4"), "Y": np.ones((19, 23), "f4")}
    cascade = as_cascade(Case("ij,jk->ik", (arrays["A"], arrays["B"])))
    ir = Native(sized(cascade, {n: arrays[n] for n in "AB"}), arrays, bits, TINY).ir
    asked = re.findall(r"prefetch\.p0\(ptr (%[\w.]+), i32 1,", ir)
    stored = 0
    for place in asked:
        store = re.search(rf"store\b.*ptr (nonnull )?(align \d+ )?{re.escape(place)}\b", ir)
        if store is not None:
            stored += 1
            assert ir.index(f"ptr {place}, i32 1,") < store.start()
    # Of a row, where its two vectors begin, and where it ends.
    assert 0 < stored * 3 == len(asked) * 2


@pytest.mark.parametrize("limits", [LIMITS, TINY], ids=["blocks", "tiny_blocks"])
@pytest.mark.parametrize("bits", WIDTHS)
@examples(15)
@given(sample=generals())
def test_cascades_of_every_construct(sample: Sample, bits: int, limits: Any) -> None:
    """Filters, fills, gathers, affine indices, nested reductions; also what is out of range."""
    try:
        expected = evaluate(sample.cascade, sample.arrays)
    except ValueError:
        assert run(sample.cascade, sample.arrays, bits, limits)[0] == 3
        return
    status, found = run(sample.cascade, sample.arrays, bits, limits)
    assert status == 0
    for name, wanted in expected.items():
        np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("semiring", SEMIRINGS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_a_matrix_product_over_each_semiring(semiring: str, bits: int) -> None:
    rng = np.random.default_rng(3)
    ring = SEMIRINGS[semiring]
    dtype = "f32" if "float" in ring.kinds else "i16" if "signed" in ring.kinds else "bool"
    cascade = classic("ij,jk->ik", dtype, semiring)
    values = [rng.integers(-3, 4, shape) for shape in ((9, 21), (21, 35))]
    kind = {"f32": "f4", "i16": "i2", "bool": "?"}[dtype]
    arrays = {d.name: v.astype(kind) for d, v in zip(cascade.inputs, values, strict=True)}
    status, found = run(cascade, arrays, bits, TINY)
    assert status == 0
    cascade = sized(cascade, arrays)
    assert_close(Sample(cascade, arrays), found, evaluate(cascade, arrays))


@examples(30)
@given(st.data(), st.sampled_from(WIDTHS))
def test_outputs_of_any_strides(data: st.DataObject, bits: int) -> None:
    """The output lies in memory in any way that does not overlap itself."""
    case = data.draw(cases(plain=True))
    cascade = as_cascade(case)
    inputs = {d.name: a for d, a in zip(cascade.inputs, native_order(case), strict=True)}
    (name,) = cascade.outputs
    wanted = evaluate(sized(cascade, inputs), inputs)[name]
    target = data.draw(laid_out(np.zeros_like(wanted)))
    if 0 in target.strides or not target.dtype.isnative:
        return
    status, found = run(cascade, inputs, bits, outputs={name: target})
    assert status == 0
    assert_agree(case, found[name], wanted)
