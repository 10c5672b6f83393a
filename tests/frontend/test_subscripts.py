"""Classic subscripts: what they are read as, and the Cascade that they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.frontend.parser import parse_cascade, read_terms
from einloom.frontend.subscripts import from_interleaved, parse_subscripts, to_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import F32, F64, I8, I32
from einloom.ir.errors import ArgumentError, EinloomError, OperandError, ParseError, RankError
from einloom.ir.interpreter import evaluate
from einloom.ir.operators import SEMIRINGS
from einloom.ir.sizes import infer_sizes
from einloom.ir.verify import verify

Shapes = Sequence[tuple[int, ...]]


def text_of(
    text: str, shapes: Shapes | None = None, notation: str = "compact", **options: Any
) -> str:
    """The Cascade of subscripts, as text: verified, and read back."""
    cascade = to_cascade(parse_subscripts(text, notation=notation), shapes, **options)
    assert parse_cascade(str(verify(cascade))) == cascade
    return str(cascade)


def value(text: str, *operands: Any, **options: Any) -> Any:
    arrays = [np.asarray(operand) for operand in operands]
    cascade = to_cascade(parse_subscripts(text), [array.shape for array in arrays], **options)
    inputs = {decl.name: array for decl, array in zip(cascade.inputs, arrays, strict=True)}
    return evaluate(cascade, inputs)[cascade.outputs[0]]


# ---- reading

#: Pieces that make right and wrong subscripts.
PIECES = (
    "i",
    "j",
    "K",
    "0",
    "_",
    "é",
    "名",
    "ab",
    " ",
    ",",
    "->",
    "...",
    ".",
    "-",
    ">",
    "(",
    "\t",
    "\0",
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=12))
def test_the_grammar_is_what_is_read(text: str) -> None:
    for notation in ("compact", "named"):
        expected = outcome(read_terms, text, notation)
        found = outcome(parse_subscripts, text, notation=notation)
        if isinstance(found, ParseError):
            assert found.span is not None
            assert isinstance(expected, ParseError)
            assert expected.span is not None
            assert found.span.start == expected.span.start
        else:
            terms = (*found.terms, *([found.output] if found.output else []))
            shown = [["..." if label is ... else label for label in term.labels] for term in terms]
            assert shown == expected
            assert ("->" in text) == (found.output is not None)


def outcome(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What it returns, or the error that it raises."""
    try:
        return function(*args, **options)
    except ParseError as error:
        return error


def test_where_things_stand() -> None:
    found = parse_subscripts(" ij , j...-> i ...")
    assert [(term.start, term.stop) for term in found.terms] == [(1, 3), (6, 10)]
    assert found.output is not None
    assert found.output.places == ((13, 14), (15, 18))
    empty = parse_subscripts("i,,->")
    assert [found.start for found in empty.terms] == [0, 2, 3]


def test_subscripts_are_values() -> None:
    first, second = parse_subscripts("ij,jk->ik"), parse_subscripts("ij, jk -> ik")
    assert first == second
    assert hash(first) == hash(second)
    assert first != parse_subscripts("ij,jk")
    assert str(second) == "ij, jk -> ik"


# ---- to a Cascade


def test_symbolic() -> None:
    assert text_of("ij,jk->ik") == (
        "cascade einsum(A[I,J], B[J,K]) -> Y {\n  Y[i,k] = A[i,j] * B[j,k]\n}"
    )
    assert text_of("i->") == "cascade einsum(A[I]) -> Y {\n  Y[] = A[i]\n}"
    assert text_of("") == "cascade einsum(A[]) -> Y {\n  Y[] = A[]\n}"
    assert text_of("ii->i").splitlines()[1] == "  Y[i] = A[i,i]"
    assert text_of("i->ii", repeated_output=True).splitlines()[1] == "  Y[i,i] = A[i]"
    assert text_of("i->...i") == text_of("i->i")


def test_sums_run_in_the_order_of_the_operands() -> None:
    assert to_cascade(parse_subscripts("ba,cb->"), None).einsums[0].reduced == ("b", "a", "c")


def test_the_implied_output_is_in_the_order_of_code_points() -> None:
    assert to_cascade(parse_subscripts("ba"), None).einsums[0].free == ("a", "b")
    assert to_cascade(parse_subscripts("zéA_0"), None).einsums[0].free == (
        *("r2", "a", "r1", "z", "r0"),
    )
    shapes = [(2, 3, 4, 5)]
    assert to_cascade(parse_subscripts("b...a"), shapes).einsums[0].free == ("r0", "r1", "a", "b")


def test_named() -> None:
    assert text_of("batch i j, batch j k -> batch i k", notation="named") == (
        "cascade einsum(A[BATCH,I,J], B[BATCH,J,K]) -> Y {\n"
        "  Y[batch,i,k] = A[batch,i,j] * B[batch,j,k]\n}"
    )
    assert text_of("h w ... -> ... h", [(2, 3, 4)], "named").splitlines()[1] == (
        "  Y[r0,h] = A[h,w,r0]"
    )


def test_symbols_without_case_and_clashes_become_ranks_of_their_own() -> None:
    assert text_of("aA->Aa").splitlines()[0] == "cascade einsum(T0[A,R0]) -> Y {"
    assert text_of("1é名_->_").splitlines()[1] == "  Y[r3] = A[r0,r1,r2,r3]"
    assert text_of("r0 y1 R0 -> r0", notation="named").splitlines()[0] == (
        "cascade einsum(A[R0,Y1,R1]) -> Y {"
    )
    # Words of the language are no variables.
    assert text_of("max over -> max", notation="named").splitlines()[0] == (
        "cascade einsum(A[R0,R1]) -> Y {"
    )


def test_names_of_tensors() -> None:
    assert text_of("iy->iy").splitlines()[0] == "cascade einsum(A[I,Y]) -> Y1 {"
    assert text_of("ij,bj->i").splitlines()[0] == "cascade einsum(T0[I,J], T1[B,J]) -> Y {"
    many = to_cascade(parse_subscripts(",".join("i" * 27)), None)
    assert [decl.name for decl in many.inputs] == [f"T{n}" for n in range(27)]
    named = to_cascade(parse_subscripts("a t0,t0->a", notation="named"), None)
    assert len({decl.name for decl in named.inputs} | {rank.name for rank in named.ranks}) == 4


def test_extents_of_1_are_stretched() -> None:
    assert text_of("ij,j->ij", [(2, 1), (3,)]).splitlines()[:2] == [
        "cascade einsum(A[I,1], B[J]) -> Y {",
        "  Y[i,j] = A[i,0] * B[j]",
    ]
    assert text_of("ij,j->ij", [(2, 1), (1,)]) == text_of("ij,j->ij")
    assert text_of("ii,i->i", [(1, 1), (3,)]).splitlines()[1] == "  Y[i] = A[0,0] * B[i]"
    assert text_of("i,i->i", [(1,), (0,)]).splitlines()[1] == "  Y[i] = A[0] * B[i]"
    with pytest.raises(RankError):
        text_of("ij,j->ij", [(2, 1), (3,)], broadcast="strict")


def test_an_ellipsis_is_aligned_at_the_right() -> None:
    assert text_of("...,...", [(2, 3), (3,)]).splitlines()[:2] == [
        "cascade einsum(A[R0,R1], B[R1]) -> Y {",
        "  Y[r0,r1] = A[r0,r1] * B[r1]",
    ]
    assert text_of("i...,...->i", [(2, 3), (1,)]).splitlines()[1] == "  Y[i] = A[i,r0] * B[0]"
    assert text_of("i...->i", [(2,)]) == text_of("i->i")


def test_sizes() -> None:
    assert text_of("i->ij", sizes={"j": 3}) == (
        "cascade einsum(A[I]) -> Y {\n  ranks I, J = 3\n  Y[i,j] = A[i]\n}"
    )
    assert text_of("ij->i", sizes={"j": 3}).splitlines()[1] == "  ranks I, J = 3"
    np.testing.assert_array_equal(value("i->ij", [1, 2], sizes={"j": 2}), [[1, 1], [2, 2]])
    # An axis of extent 1 is stretched to it, and summed as often.
    assert value("i->", [3], sizes={"i": 5}) == 15
    assert value("i,i->i", [3], [2], sizes={"i": np.int64(4)}).tolist() == [6] * 4
    with pytest.raises(RankError, match="extent 3 in sizes= but 2 in operand 0"):
        text_of("i->i", [(2,)], sizes={"i": 3})
    with pytest.raises(RankError):
        text_of("i->i", [(1,)], sizes={"i": 3}, broadcast="strict")


@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_semirings(semiring: str) -> None:
    ring = SEMIRINGS[semiring]
    cascade = to_cascade(parse_subscripts("ij,j->i"), None, semiring=semiring)
    (einsum,) = verify(cascade).einsums
    assert einsum.semiring == semiring
    assert len(einsum.product() or ()) == 2
    assert einsum.reduced == ("j",)
    assert f" over {ring.name}" in str(cascade) or semiring == "sum_product"


def test_dtypes() -> None:
    cascade = to_cascade(parse_subscripts("i,i->"), None, [F32, F64], acc=F64)
    assert [decl.dtype for decl in cascade.inputs] == [F32, F64]
    assert cascade.einsums[0].dtype is F64
    wide = value("i,i->", np.full(9, 100, "i1"), np.full(9, 100, "i1"), acc=I32)
    assert (wide.dtype, wide) == (np.int32, 90000)
    assert to_cascade(parse_subscripts("i->"), None, [I8]).einsums[0].dtype is None


def test_the_ranks_stay_symbolic() -> None:
    cascade = to_cascade(parse_subscripts("ij,jk->ik"), [(2, 3), (3, 4)])
    assert all(rank.shape is None for rank in cascade.ranks)
    assert cascade == to_cascade(parse_subscripts("ij,jk->ik"), [(5, 6), (6, 7)])
    assert infer_sizes(cascade, {"A": (2, 3), "B": (3, 4)}) == {"I": 2, "J": 3, "K": 4}


def test_64_axes_and_many_symbols() -> None:
    symbols = "".join(map(chr, range(0x4E00, 0x4E00 + 64)))
    shape = (1,) * 63 + (2,)
    assert value(f"{symbols}->{symbols[::-1]}", np.ones(shape)).shape == shape[::-1]
    assert value("...->...", np.ones(shape)).shape == shape
    two = "".join(map(chr, range(0x4E00, 0x4E00 + 128)))
    both = parse_subscripts(f"{two[:64]},{two[64:]}->{two[0]}")
    assert len(to_cascade(both, [shape, shape]).ranks) == 128
    with pytest.raises(RankError, match="128 axes"):
        to_cascade(parse_subscripts(f"{two[:64]},{two[64:]}"), [shape, shape])


def test_more_than_64_operands() -> None:
    operands = [np.array([2.0, 1.0])] * 100
    assert value(",".join("i" * 100) + "->i", *operands).tolist() == [2.0**100, 1]


# ---- the interleaved form


def interleaved(*args: Any) -> Cascade:
    subscripts, operands = from_interleaved(args)
    return verify(to_cascade(subscripts, [np.shape(operand) for operand in operands]))


def test_interleaved() -> None:
    a, b = np.ones((2, 3)), np.ones((3, 4))
    subscripts, operands = from_interleaved((a, [0, 1], b, [1, 2], [0, 2]))
    assert [operand is given for operand, given in zip(operands, (a, b), strict=True)] == [True] * 2
    assert str(subscripts) == "[0, 1], [1, 2] -> [0, 2]"
    assert [term.labels for term in subscripts.terms] == [(0, 1), (1, 2)]
    expected = "Y[r0,r2] = A[r0,r1] * B[r1,r2]"
    assert expected in str(interleaved(a, [0, 1], b, [1, 2], [0, 2]))
    assert expected in str(interleaved(a, (0, 1), b, range(1, 3), np.array([0, 2])))
    assert interleaved(a, ["row", "k"], b, ["k", "col"]).einsums[0].free == ("col", "row")
    assert interleaved(a, [(1,), (0,)]).einsums[0].free == ("r1", "r0")
    assert from_interleaved((a, [np.int64(0), 1])) == from_interleaved((a, [0, 1]))


def test_interleaved_output_is_sorted_by_value() -> None:
    cascade = interleaved(np.ones((2, 3, 4)), [100, 9, -2])
    assert cascade.einsums[0].free == ("r2", "r1", "r0")
    assert interleaved(np.ones((2, 3)), [..., 5], []).einsums[0].free == ()
    assert interleaved(np.ones((2, 3)), [5, ...]).einsums[0].free == ("r1", "r0")
    # Without an order the output can be given, not implied.
    assert interleaved(np.ones((2, 3)), ["a", 1], [1, "a"]).einsums[0].free == ("r0", "a")
    with pytest.raises(OperandError, match="no order"):
        interleaved(np.ones((2, 3)), ["a", 1])


def test_spans_of_the_interleaved_form() -> None:
    with pytest.raises(RankError) as caught:
        interleaved(np.ones(2), ["left"], np.ones(3), ["left"])
    assert "  ['left'], ['left']\n   ^^^^^^    ^^^^^^\n" in str(caught.value)


# ---- options


def test_options_that_do_not_exist() -> None:
    subscripts = parse_subscripts("i")
    wrong: dict[str, tuple[type[EinloomError], dict[str, Any]]] = {
        "broadcast is": (ArgumentError, {"broadcast": "maybe"}),
        "unknown semiring 'tropical'": (ArgumentError, {"semiring": "tropical"}),
        "not an integer": (OperandError, {"sizes": {"i": 2.0}}),
        "True, not an integer": (OperandError, {"sizes": {"i": True}}),
        "negative": (ArgumentError, {"sizes": {"i": -1}}),
        "do not have": (EinloomError, {"sizes": {"j": 1}}),
        "2 dtypes for 1 operand": (ArgumentError, {"dtypes": [F32, F32]}),
    }
    for message, (error, options) in wrong.items():
        with pytest.raises(error, match=message):
            to_cascade(subscripts, None, **options)
    with pytest.raises(ArgumentError, match="notation is"):
        parse_subscripts("i", notation="einops")
    for nothing in (None, 3, b"i"):
        with pytest.raises(OperandError, match="are a string"):
            parse_subscripts(nothing)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
