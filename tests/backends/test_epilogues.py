"""What is computed around a contraction, from its sums and as it packs, is as the interpreter says.

Arrays lie as in test_contractions: in any order, flush against forbidden pages. Depths of more than
one piece, and tiles at every edge, come from blocks that are small.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.interpreter import evaluate
from einloom.ir.loop_nodes import Contract
from einloom.ir.loop_parser import parse_loops
from einloom.passes.loops.schedule import Limits

from ..generated import examples
from .fences import Fenced, fences
from .native import TINY, WIDTHS, Native, run, sized
from .test_contractions import SMALL, contractions, lay

#: Numbers at each point, from the sum T, from C (at some of its coordinates) and from S[].
POINTWISE = (
    "max({T} + {C}, 0)",
    "2*{T} - {C}*{S}",
    "{T}*{C}",
    "select({T} < {C}, {T}, {C})",
    "{T}*{T} + {S}",
    "{C} - {T}",
)
DTYPES = ("f32", "f64", "i64", "i8", "i16", "f16", "c64")
REAL = [form for form in POINTWISE if "<" not in form and "max" not in form]


@st.composite
def cascades(draw: st.DrawFn) -> tuple[str, dict[str, int], str]:
    """A contraction, one or two Einsums that follow it; sizes and the dtype."""
    subscripts, sizes = draw(contractions())
    inputs, out = subscripts.split("->")
    left, right = (",".join(term) for term in inputs.split(","))
    dtype = draw(st.sampled_from(DTYPES))
    forms = REAL if dtype == "c64" else POINTWISE
    some = [v for v in draw(st.permutations(out)) if draw(st.booleans())]
    total, small = f"T[{','.join(out)}]", f"C[{','.join(some)}]"
    form = draw(st.sampled_from(forms)).format(T=total, C=small, S="S[]")
    summed = [v for v in out if draw(st.integers(0, 3)) == 0]
    kept = ",".join(draw(st.permutations([v for v in out if v not in summed])))
    op = draw(st.sampled_from(("sum",) if dtype == "c64" else ("sum", "max")))
    last = f"{op}[{','.join(summed)}] ({form})" if summed else form
    declared = draw(st.sampled_from(("", ": f64"))) if dtype in ("f32", "i64") else ""
    reads = ", ".join(
        f"{name}[{axes.upper()}]: {dtype}"
        for name, axes in (("A", left), ("B", right), ("C", ",".join(some)), ("S", ""))
    )
    steps = [f"{total} = A[{left}] * B[{right}]"]
    if draw(st.booleans()):
        middle = draw(st.sampled_from(forms)).format(T=total, C="S[]", S="S[]")
        steps.append(f"U[{','.join(out)}] = {middle}")
        last = last.replace("T[", "U[")
    steps.append(f"Y[{kept}]{declared} = {last}")
    text = "\n".join(["cascade f(" + reads + ") -> Y {", *steps, "}"])
    return text, sizes, dtype


def check(cascade: Cascade, arrays: dict[str, Any], bits: int, limits: Limits) -> Native:
    """Native code against the interpreter, and its text against itself."""
    given = {name: array for name, array in arrays.items() if name not in cascade.outputs}
    cascade = sized(cascade, given)
    native = Native(cascade, arrays, bits, limits)
    assert parse_loops(str(native.program)) == native.program
    assert native(arrays) == 0
    for name, expected in evaluate(cascade, given).items():
        np.testing.assert_array_equal(arrays[name], expected)
    return native


@examples(50)
@given(st.data(), cascades(), st.sampled_from(WIDTHS), st.sampled_from((TINY, SMALL)))
def test_any_epilogue(
    data: st.DataObject,
    sample: tuple[str, dict[str, int], str],
    bits: int,
    limits: Limits,
) -> None:
    text, sizes, dtype = sample
    cascade = parse_cascade(text)
    rng = np.random.default_rng(0)
    names = {"f": "float", "i": "int", "c": "complex"}
    numpy = names[dtype[0]] + dtype[1:]
    known = {name.upper(): size for name, size in sizes.items()}
    arrays: dict[str, Any] = {}
    for fence, decl in zip(_fences(), cascade.inputs, strict=False):
        shape = tuple(extent.value(known) for extent in decl.extents)
        arrays[decl.name] = array = _laid(fence, data, shape, numpy, False)
        base = array if array.flags.writeable else array.base
        base[...] = rng.integers(-2, 3, base.shape)
    arrays["Y"] = _output(cascade, arrays, _fences()[-1], data)
    check(cascade, arrays, bits, limits)


@cache
def _fences() -> tuple[Fenced, ...]:
    """One for each of four operands and an output."""
    return *fences(), Fenced(), Fenced()


def _laid(fence: Fenced, data: Any, shape: tuple[int, ...], dtype: str, written: bool) -> Any:
    if not shape:
        return fence.array((), dtype, data.draw(st.booleans()), "C")
    return lay(fence, data.draw, shape, dtype, written)


def _output(cascade: Cascade, inputs: dict[str, Any], fence: Fenced, data: Any) -> Any:
    expected = evaluate(sized(cascade, inputs), inputs)["Y"]
    out = _laid(fence, data, expected.shape, str(expected.dtype), True)
    out[...] = 77
    return out


def native(text: str, limits: Limits = SMALL) -> Native:
    """The code of a Cascade, checked on arrays of small whole numbers."""
    cascade = parse_cascade(text)
    rng = np.random.default_rng(1)
    arrays = {
        decl.name: rng.integers(-2, 3, SHAPES[decl.name]).astype(decl.dtype.numpy)
        for decl in cascade.inputs
        if decl.dtype is not None
    }
    known = sized(cascade, arrays)
    arrays |= {
        name: np.full_like(expected, 77) for name, expected in evaluate(known, arrays).items()
    }
    return check(cascade, arrays, WIDTHS[0], limits)


HEAD = "cascade f(A[I,J]: f32, B[J,K]: f32, C[I,K]: f32, b[K]: f32)"
SHAPES = {
    "A": (37, 70),
    "B": (70, 41),
    "C": (37, 41),
    "b": (41,),
    "x": (70,),
    "V": (3,),
    "D": (70, 37),
}

FUSED = {
    "one Einsum": "-> Y { Y[i,k] = max(sum[j] (A[i,j]*B[j,k]) + b[k], 0) }",
    "alpha, beta": "-> Y { Y[i,k] = 2 * (sum[j] (A[i,j]*B[j,k])) - 3*C[i,k] }",
    "a size": "-> Y { Y[i,k] = (sum[j] (A[i,j]*B[j,k])) // J }",
    "two Einsums": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[i,k] = relu(T[i,k] + b[k]) }",
    "three": "-> Y { T[i,k] = A[i,j]*B[j,k]\n U[i,k] = T[i,k]+b[k]\n Y[k,i] = U[i,k]*C[i,k] }",
    "a cast": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[i,k]: f16 = T[i,k] - b[k] }",
    "summed columns": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[i] = T[i,k]*C[i,k] }",
    "summed rows": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[k] = max[i] (T[i,k]*C[i,k]) }",
    "all summed": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[] = T[i,k]*C[i,k] }",
}


@pytest.mark.parametrize("limits", [SMALL, Limits(unpacked=0, few=0, followed=0)])
@pytest.mark.parametrize("body", FUSED.values(), ids=list(FUSED))
def test_fused(body: str, limits: Limits) -> None:
    made = native(f"{HEAD} {body}", limits)
    assert "finish Y" in str(made.program) or "finish T.folded" in str(made.program)
    assert len(made.program.nests) == 1
    assert not {"T", "U"} & {buffer.name for buffer in made.program.scratch}


def test_lines_that_finish_a_tile_are_asked_for() -> None:
    """Of what differs from element to element, not of a row that all tiles read."""
    asked = {
        body: native(f"{HEAD} {FUSED[body]}", Limits(unpacked=0, followed=0)).ir.count(
            "prefetch.p0(ptr %"
        )
        for body in ("two Einsums", "alpha, beta", "summed columns")
    }
    assert asked["alpha, beta"] > asked["two Einsums"]
    assert asked["summed columns"] < asked["alpha, beta"]  # its result is no tile


APART = {
    "an output": "-> T, Y { T[i,k] = A[i,j]*B[j,k]\n Y[i,k] = T[i,k] + b[k] }",
    "two readers": "-> Y, Z { T[i,k] = A[i,j]*B[j,k]\n Y[i,k] = T[i,k] + b[k]\n Z[i,k] = T[i,k] }",
    "more coordinates": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[i,k,l] = T[i,k] * V[l] }",
    "other coordinates": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[k] = T[3,k] + b[k] }",
    "a filter": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[i,k] = T[i,k] where i <= k else 0 }",
    "a coordinate": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[i,k] = T[i,k] + i }",
    "a diagonal": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[i,i,k] = T[i,k] }",
    "read ahead": "-> Y { T[i,k] = A[i,j]*B[j,k]\n Y[i,k] = T[i,k] + T[I-1-i,k] }",
}


@pytest.mark.parametrize("body", APART.values(), ids=list(APART))
def test_not_fused(body: str) -> None:
    head = HEAD.replace("b[K]", "V[L]: f32, b[K]")
    made = native(f"{head} {body}")
    assert "finish" not in str(made.program)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["i8", "u8", "i16", "i32", "i64"])
def test_gathered_in_the_lanes_of_the_sums(dtype: str, bits: int) -> None:
    """Words of several steps make sums in other lanes than the rest of the nest has."""
    cascade = parse_cascade(f"""cascade f(A[I,J]: {dtype}, B[J,K]: {dtype}, b[K]: {dtype}) -> Y {{
      Y[i,k] = (sum[j] (A[i,j] * B[j,k])) - b[k]
    }}""")
    rng = np.random.default_rng(1)
    shapes = {"A": (37, 70), "B": (70, 41), "b": (82,)}
    arrays: dict[str, Any] = {
        decl.name: rng.integers(0, 3, shapes[decl.name]).astype(decl.dtype.numpy)
        for decl in cascade.inputs
        if decl.dtype is not None
    }
    arrays["b"] = arrays["b"][::2]
    arrays["Y"] = np.full((37, 41), 77, arrays["A"].dtype)
    check(cascade, arrays, bits, SMALL)


def test_no_memory_where_the_depth_is_one_piece() -> None:
    """Sums of pieces have a buffer whose size is below 0 then, and so none is asked for."""
    text = f"{HEAD} {FUSED['summed columns']}"
    program = native(text).program
    (sums,) = (b for b in program.scratch if b.name == "T.sums")
    (contract,) = (s for s in program.nests[0].body if isinstance(s, Contract))
    for depth, elements in ((contract.deep, 0), (contract.deep + 1, 37 * 41)):
        sizes = {"I": 37, "J": depth, "K": 41}
        assert min(count.value(sizes) for count in sums.elements) == elements


def test_functions_of_sums() -> None:
    """What is computed is computed as it is elsewhere: the same to the last bit."""
    rng = np.random.default_rng(2)
    arrays = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in SHAPES.items()
        if name in "ABCb"
    }
    product = "T[i,k] = A[i,j]*B[j,k]"
    last = (
        "Y[i,k] = tanh(T[i,k]) * erf(T[i,k] + b[k]) + exp(C[i,k] - T[i,k]) / (1 + sigmoid(T[i,k]))"
    )
    limits = Limits(unpacked=0, few=0, followed=0)
    fused = run(parse_cascade(f"{HEAD} -> Y {{ {product}\n {last} }}"), arrays, limits=limits)[1]
    apart = run(parse_cascade(f"{HEAD} -> Y, T {{ {product}\n {last} }}"), arrays, limits=limits)[1]
    np.testing.assert_array_equal(fused["Y"], apart["Y"])


@st.composite
def prologues(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """A product of which one factor, or both, are computed from others; and sizes."""
    subscripts, sizes = draw(contractions())
    inputs, out = subscripts.split("->")
    reads: list[str] = []
    steps: list[str] = []
    factors: list[str] = []
    for name, axes, made in zip("AB", inputs.split(","), (True, draw(st.booleans())), strict=True):
        factors.append(f"{name}[{','.join(axes)}]")
        if not made:
            reads.append(factors[-1])
            continue
        first = [v for v in draw(st.permutations(axes)) if draw(st.integers(0, 2))]
        second = [v for v in axes if v not in first or draw(st.booleans())]
        reads += [f"X{name}[{','.join(first)}]", f"Z{name}[{','.join(second)}]"]
        form = draw(st.sampled_from(("{0} * {1}", "max({0}, {1}) - 1", "2 * {0} + {1} * {0}")))
        steps.append(f"{factors[-1]} = " + form.format(*reads[-2:]))
    steps.append(f"Y[{','.join(out)}] = {' * '.join(factors)}")
    dtype = draw(st.sampled_from(("f32", "f64", "i64", "i8", "f16")))
    head = ", ".join(f"{read.upper()}: {dtype}" for read in reads)
    return "\n".join([f"cascade f({head}) -> Y {{", *steps, "}"]), sizes


@examples(40)
@given(prologues(), st.sampled_from(WIDTHS), st.sampled_from((TINY, SMALL)))
def test_any_prologue(sample: tuple[str, dict[str, int]], bits: int, limits: Limits) -> None:
    text, sizes = sample
    cascade = parse_cascade(text)
    rng = np.random.default_rng(0)
    known = {name.upper(): size for name, size in sizes.items()}
    arrays: dict[str, Any] = {}
    for fence, decl in zip(_fences(), cascade.inputs, strict=False):
        assert decl.dtype is not None
        shape = tuple(extent.value(known) for extent in decl.extents)
        arrays[decl.name] = fence.array(shape, decl.dtype.numpy, True, "C")
        arrays[decl.name][...] = rng.integers(-2, 3, shape)
    expected = evaluate(sized(cascade, arrays), arrays)["Y"]
    arrays["Y"] = _fences()[-1].array(expected.shape, expected.dtype, True, "C")
    check(cascade, arrays, bits, limits)


PACKED = {
    "rows": "-> Y { X[i,j] = A[i,j] * x[j]\n Y[i,k] = X[i,j]*B[j,k] }",
    "columns": "-> Y { X[j,k] = B[j,k] * b[k] + x[j]\n Y[i,k] = A[i,j]*X[j,k] }",
    "both": "-> Y { X[i,j] = A[i,j] - x[j]\n Z[j,k] = B[j,k]*b[k]\n Y[i,k] = X[i,j]*Z[j,k] }",
    "and after": "-> Y { X[j,k] = B[j,k]*b[k]\n T[i,k] = A[i,j]*X[j,k]\n Y[i] = T[i,k]*C[i,k] }",
}


@pytest.mark.parametrize("body", PACKED.values(), ids=list(PACKED))
def test_computed_as_it_is_packed(body: str) -> None:
    program = native(f"{HEAD.replace('b[K]', 'x[J]: f32, b[K]')} {body}").program
    assert len(program.nests) == 1
    assert not {"X", "Z", "T"} & {buffer.name for buffer in program.scratch}


NOT_PACKED = {
    "across what is packed": "-> Y { X[i,j] = A[i,j] * D[j,i]\n Y[i,k] = X[i,j]*B[j,k] }",
    "read twice": "-> Y { X[i,j] = A[i,j] + D[0,i]\n Y[i,k] = (sum[j] (X[i,j]*B[j,k])) + X[i,0] }",
    "an output": "-> X, Y { X[i,j] = A[i,j] * D[0,i]\n Y[i,k] = X[i,j]*B[j,k] }",
}


@pytest.mark.parametrize("body", NOT_PACKED.values(), ids=list(NOT_PACKED))
def test_not_computed_as_it_is_packed(body: str) -> None:
    program = native(f"{HEAD.replace('b[K]', 'D[J,I]: f32, b[K]')} {body}").program
    assert program.buffer("X") is not None
    assert len(program.nests) > 1
