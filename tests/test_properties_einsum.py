"""Generated einsums: the interpreter, both backends and NumPy agree, on values and on errors.

Integers and booleans agree exactly. For floats, with n terms to sum at a point of k factors each,

    |error| <= C * (n + k) * eps * sum |term|  +  eps' * |result|  +  the least positive float

where eps is that of the type computed in (f32 for f16 and bf16) and eps' that of the type stored.
C is 2: a result is off by half an eps for each rounding, two results that are compared by one, and
the other one is room. Complex arithmetic rounds three times as often, and its C is 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import einloom as el
from einloom.backends.registry import backend_names
from einloom.frontend.subscripts import parse_subscripts
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import of_numpy
from einloom.ir.sizes import infer_sizes
from einloom.templates import subscripts_template

from .generated import FLOATS, INTEGERS, NATIVE, Array, Case, cases, examples

C, C_COMPLEX = 2.0, 6.0

#: NumPy's own types say more than a test of all arguments can keep to.
numpy_einsum: Any = np.einsum
finfo: Any = ml_dtypes.finfo

OPTIMIZE = st.sampled_from((False, "auto", "greedy", "optimal"))


@pytest.fixture(autouse=True)
def nothing_falls_back() -> Iterator[None]:
    """LLVM serves every dtype of its own, whatever the strides."""
    before = el.fallbacks()
    yield
    assert el.fallbacks() == before


def as_cascade(case: Case, **options: Any) -> Cascade:
    """The Cascade of the case as it is written, without a pass."""
    template = subscripts_template(parse_subscripts(case.text), **options)
    dtypes = [of_numpy(operand.dtype) for operand in case.operands]
    return template([operand.shape for operand in case.operands], dtypes)


def interpreted(case: Case, **options: Any) -> Array:
    """What the definition of the language gives."""
    cascade = as_cascade(case, **options)
    names = [decl.name for decl in cascade.inputs]
    inputs: dict[str, Any] = dict(zip(names, case.operands, strict=True))
    return np.asarray(el.evaluate(cascade, **inputs))


def allowed_error(case: Case, result: Array, in_half: bool) -> Array:
    """How far two results of the case may lie apart, at each point: see the top of this file."""
    stored: Any = finfo(result.dtype)
    computed = finfo(np.float32) if stored.bits == 16 and not in_half else stored
    constant = C_COMPLEX if result.dtype.kind == "c" else C
    cascade = as_cascade(case)
    names = [decl.name for decl in cascade.inputs]
    shapes = {n: a.shape for n, a in zip(names, case.operands, strict=True)}
    sizes = infer_sizes(cascade, shapes)
    (definition,) = cascade.einsums
    terms = int(np.prod([sizes[variable.upper()] for variable in definition.reduced]))
    with np.errstate(all="ignore"):
        absolute = [np.abs(operand.astype("c16")).astype("f8") for operand in case.operands]
        total = np.asarray(numpy_einsum(case.text, *absolute), "f8")
        magnitude = np.nan_to_num(np.abs(result.astype("c16")), nan=0.0, posinf=0.0)
    rounding = constant * (terms + len(names)) * float(computed.eps) * np.nan_to_num(total)
    allowed: Array = rounding + float(stored.eps) * magnitude + float(stored.smallest_subnormal)
    return allowed


def assert_agree(case: Case, found: Any, expected: Any, in_half: bool = False) -> None:
    """Same dtype and shape; equal, or near enough for a float; nan and infinity where expected.

    NumPy may add up f16 `in_half`, in f16 itself. Where the result is a view it has the operand's
    byte order.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    assert found.shape == expected.shape
    if expected.dtype.kind in "?biu":
        assert found.tolist() == expected.tolist()
        return
    wide = "c16" if expected.dtype.kind == "c" else "f8"
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(wide) - expected.astype(wide))
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    near = difference <= allowed_error(case, expected, in_half)
    assert (same | near).all(), (found, expected)


# ---- values


@examples(120)
@given(cases(), OPTIMIZE)
def test_all_agree(case: Case, optimize: Any) -> None:
    expected = interpreted(case)
    assert_agree(case, numpy_einsum(case.text, *case.operands), expected, in_half=True)
    for backend in backend_names():
        found = el.einsum(case.text, *case.operands, optimize=optimize, backend=backend)
        assert_agree(case, found, expected)


@examples(60)
@given(st.sampled_from(NATIVE).flatmap(lambda dtype: cases(dtypes=[dtype], plain=True)))
def test_all_agree_in_one_dtype(case: Case) -> None:
    expected = interpreted(case)
    for backend in backend_names():
        assert_agree(case, el.einsum(case.text, *case.operands, backend=backend), expected)


@examples(40)
@given(cases(dtypes=("bf16",)))
def test_bfloat16_agrees(case: Case) -> None:
    expected = interpreted(case)
    assert expected.dtype == ml_dtypes.bfloat16
    for backend in backend_names():
        assert_agree(case, el.einsum(case.text, *case.operands, backend=backend), expected)


@examples(60)
@given(cases(dtypes=("f2", "f4", "f8"), special=True))
def test_nan_and_infinity_go_where_they_should(case: Case) -> None:
    """Without reordering: infinity times a sum is not the sum of infinity times each."""
    expected = interpreted(case)
    for backend in backend_names():
        found = el.einsum(case.text, *case.operands, optimize=False, backend=backend)
        assert_agree(case, found, expected)
        assert np.isnan(found).tolist() == np.isnan(expected).tolist()
        assert np.isinf(found).tolist() == np.isinf(expected).tolist()


@examples(40)
@given(cases(dtypes=(*INTEGERS, "f4", "f8"), most_operands=4), st.data())
def test_out_and_order_change_nothing(case: Case, data: st.DataObject) -> None:
    for backend in backend_names():
        expected = np.asarray(el.einsum(case.text, *case.operands, backend=backend))
        order = data.draw(st.sampled_from("CFAK"))
        found = np.asarray(el.einsum(case.text, *case.operands, order=order, backend=backend))
        theirs = np.asarray(numpy_einsum(case.text, *case.operands, order=order))
        assert_agree(case, found, expected)
        if len(case.operands) > 1 and found.size:
            for extent, *strides in zip(found.shape, found.strides, theirs.strides, strict=True):
                assert extent == 1 or strides[0] == strides[1]
        whole = np.full(tuple(2 * extent for extent in expected.shape), 77).astype(expected.dtype)
        every_second: Any = (*(slice(None, None, -2) for _ in expected.shape), ...)
        out = whole[every_second]
        el.einsum(case.text, *case.operands, out=out, backend=backend)
        assert_agree(case, out, expected)
        out[...] = 77
        assert (whole == 77).all()


# ---- semirings

REAL = ("f4", "f8")
SEMIRINGS = {
    "max_plus": (*REAL, "i4", "i8"),
    "min_plus": (*REAL, "i4", "i8"),
    "max_times": ("?", "u1", "u4"),
    "min_max": (*REAL, *INTEGERS),
    "max_min": (*REAL, *INTEGERS),
    "boolean": ("?",),
    "counting": (*INTEGERS, "?"),
    "xor_and": ("?", *INTEGERS),
}


@examples(100)
@given(st.data(), OPTIMIZE)
def test_semirings_agree(data: st.DataObject, optimize: Any) -> None:
    name = data.draw(st.sampled_from(sorted(SEMIRINGS)))
    case = data.draw(cases(dtypes=(data.draw(st.sampled_from(SEMIRINGS[name])),)))
    expected = interpreted(case, semiring=name)
    for backend in backend_names():
        found = el.einsum(
            case.text, *case.operands, semiring=name, optimize=optimize, backend=backend
        )
        assert np.asarray(found).dtype == expected.dtype
        if expected.dtype.kind == "f":
            # Sums of two or three values whose order may differ; max and min choose one of them.
            scale = sum(np.abs(operand).max(initial=0) for operand in case.operands)
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=C * 3 * np.finfo(expected.dtype).eps * float(scale)
            )
        else:
            assert np.asarray(found).tolist() == expected.tolist()


@examples(40)
@given(cases(dtypes=REAL), OPTIMIZE)
def test_the_log_semiring_agrees(case: Case, optimize: Any) -> None:
    """Each step of logaddexp loses an eps of the value's own size and one of 1."""
    expected = interpreted(case, semiring="log")
    terms = 600  # generated.MOST_SUMMED
    scale = 1 + sum(float(np.abs(operand).max(initial=0)) for operand in case.operands)
    for backend in backend_names():
        found = np.asarray(
            el.einsum(case.text, *case.operands, semiring="log", optimize=optimize, backend=backend)
        )
        assert found.dtype == expected.dtype
        error = C * terms * float(np.finfo(expected.dtype).eps) * scale
        np.testing.assert_allclose(found, expected, rtol=0, atol=error)


# ---- errors


@st.composite
def wrong_cases(draw: st.DrawFn) -> Case:
    """A case with one thing wrong."""
    case = draw(cases(dtypes=("f8", "i4", "f4"), plain=True))
    text, operands = case.text, list(case.operands)
    left, arrow, right = text.partition("->")
    which = draw(st.integers(0, len(operands) - 1))
    match draw(st.integers(0, 7)):
        case 0:
            operands.append(operands[0])
        case 1:
            operands.pop()
        case 2:
            operands[which] = operands[which][..., np.newaxis]
        case 3:
            text = left + "->" + right + "Q"
        case 4:
            text = draw(st.sampled_from(("%", "$", "->", ".", "é?", "->->"))) + text
        case 5:
            left = left + left[-1:] if left else "q"
            text = left + arrow + right
        case 6:
            # Another extent for every axis of one operand: wrong where a symbol occurs elsewhere.
            text = left + "," + left.split(",")[which] + "z->z"
            operands.append(np.ones((*(n + 2 for n in operands[which].shape), 2)))
        case _:
            operands[which] = np.array(["a", "b"])
    return Case(text, tuple(operands))


@examples(150)
@given(wrong_cases())
def test_all_raise_alike(case: Case) -> None:
    """Where NumPy raises a ValueError or a TypeError, so does einloom, and an EinloomError."""
    theirs = _raised(numpy_einsum, case.text, *case.operands)
    for backend in backend_names():
        ours = _raised(el.einsum, case.text, *case.operands, backend=backend)
        if theirs is None:
            assert ours is None
        else:
            assert isinstance(ours, el.EinloomError), (ours, theirs)
            assert isinstance(ours, ValueError if isinstance(theirs, ValueError) else TypeError)


def _raised(call: Any, *operands: Any, **options: Any) -> Exception | None:
    try:
        call(*operands, **options)
    except (ValueError, TypeError) as error:
        return error
    return None


def test_the_generator_makes_all_that_it_should() -> None:
    """Zero extents, all kinds of strides, and every dtype turn up."""
    seen: set[str] = set()

    @settings(max_examples=300, database=None)
    @given(cases(dtypes=(*NATIVE, *FLOATS)))
    def look(case: Case) -> None:
        for operand in case.operands:
            seen.add(operand.dtype.str.lstrip("<>|"))
            seen.update(
                f"{word}"
                for word, found in (
                    ("empty", 0 in operand.shape),
                    ("scalar", operand.ndim == 0),
                    ("backwards", min(operand.strides, default=0) < 0),
                    (
                        "still",
                        any(
                            s == 0 and n > 1
                            for s, n in zip(operand.strides, operand.shape, strict=True)
                        ),
                    ),
                    ("unaligned", not operand.flags.aligned),
                    ("swapped", operand.dtype.byteorder == ">"),
                    ("not contiguous", not operand.flags.forc),
                )
                if found
            )

    look()
    wanted = {"empty", "scalar", "backwards", "still", "unaligned", "swapped", "not contiguous"}
    assert wanted | {np.dtype(d).str.lstrip("<>|") for d in NATIVE} <= seen


# ---- sizes beyond a block

LARGE = (
    ("ij,jk->ik", (257, 519, 131)),
    ("ij,jk->ki", (131, 257, 519)),
    ("ji,jk->ik", (300, 70, 1030)),
    ("ij,kj->ik", (129, 1025, 65)),
    ("ij,jk->ik", (1, 5000, 3)),
    ("ij,jk->ik", (5, 2, 7001)),
    ("bij,bjk->bik", (17, 33, 65, 34)),
    ("ibj,jbk->kib", (40, 9, 130, 70)),
    ("ijk,jil->kl", (33, 21, 130, 67)),
    ("ijkl,lkm->mji", (19, 23, 17, 31, 40)),
    ("ij,j->i", (700, 801)),
    ("i,ij->j", (700, 801)),
    ("ij,ij->", (700, 801)),
    ("ij,ij->j", (801, 700)),
    ("ijk->kj", (130, 70, 65)),
    ("ijk->", (130, 70, 65)),
    ("ijkk->ji", (130, 70, 17)),
    ("i,j,ij->ij", (515, 523)),
)


PAIRS = (("f4", "u1"), ("f8", "f2"), ("c8", "i4"), ("f4", "?"))


@pytest.mark.parametrize(
    ("text", "sizes", "dtype"),
    [(*case, dtype) for n, case in enumerate(LARGE) for dtype in PAIRS[n % len(PAIRS)]],
)
def test_large_operands_in_any_layout(text: str, sizes: tuple[int, ...], dtype: str) -> None:
    """Whole and ragged blocks, packed or read in place, as a wider type gives them."""
    rng = np.random.default_rng(len(text) + sum(sizes))
    left = text.split("->")[0]
    symbols = dict(zip(dict.fromkeys(left.replace(",", "")), sizes, strict=True))
    wide = {"f": "f8", "c": "c16", "i": "i8", "u": "u8", "b": "i8"}[np.dtype(dtype).kind]
    for layout in range(3):
        operands: list[Array] = []
        for term in left.split(","):
            shape = tuple(symbols[symbol] for symbol in term)
            # Few small values: every sum is exact in every float, and few overflow an integer.
            array = rng.integers(-2 if dtype not in ("u1", "?") else 0, 3, shape).astype(dtype)
            if layout == 1:
                array = np.asfortranarray(array)
            elif layout == 2:
                array = np.repeat(array, 2, axis=-1)[..., ::-2][..., ::-1]
            operands.append(array)
        exact = numpy_einsum(text, *(array.astype(wide) for array in operands), optimize=True)
        expected = np.asarray(exact != 0 if dtype == "?" else exact).astype(dtype)
        found = np.asarray(el.einsum(text, *operands))
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, expected)
