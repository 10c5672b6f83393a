"""A wrong call of `el.einsum` is an EinloomError of the class that NumPy raises, never a crash."""

from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.registry import backend_names

A, B = np.ones((2, 3)), np.ones((3, 4))
READ_ONLY = np.empty((2, 4))
READ_ONLY.flags.writeable = False


#: Types would forbid what is tested here.
einsum: Any = el.einsum


class Silent:
    """Neither a number, nor an array, nor a sequence."""


VALUE_ERRORS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    # the text
    "no subscripts": ((), {}),
    "no operands": (("ij,jk->ik",), {}),
    "empty, no operands": (("",), {}),
    "a wrong character": (("i%,j->ij", [1], [2]), {}),
    "a wrong character on the right": (("i->&", [1]), {}),
    "half an arrow": (("ij-ji", A), {}),
    "arrow backwards": (("ij<-ji", A), {}),
    "two arrows": (("ij->ji->ij", A), {}),
    "two dots": (("i..", A), {}),
    "four dots": (("i....", A), {}),
    "dots apart": (("i. ..", A), {}),
    "an arrow with a space": (("ij- >ji", A), {}),
    "two ellipses in a term": (("...i...", A), {}),
    "a comma on the right": (("ij->i,j", A), {}),
    "an output symbol from nowhere": (("ij->ik", A), {}),
    "a repeated output symbol": (("ij->ii", A), {}),
    # the operands
    "too many operands": (("ij,jk->ik", A, B, B), {}),
    "too few operands": (("ij,jk->ik", A), {}),
    "too many symbols": (("ijk->i", A), {}),
    "too few symbols": (("i->i", A), {}),
    "symbols for a scalar": (("i->i", 3), {}),
    "an ellipsis of less than nothing": (("ijk...->i", A), {}),
    "extents that differ": (("ij,jk->ik", A, A), {}),
    "a diagonal that is not square": (("ii->i", A), {}),
    "a diagonal of 1 and 3": (("ii->i", np.ones((1, 3))), {}),
    "ellipses that do not broadcast": (("...,...", np.ones(2), np.ones(3)), {}),
    "a ragged list": (("ij->", [[1, 2], [3]]), {}),
    # the keywords
    "an unknown order": (("ij", A), {"order": "Q"}),
    "an unknown casting": (("ij", A), {"casting": "blah"}),
    "NumPy's newest casting": (("ij", A), {"casting": "same_value"}),
    "an unknown backend": (("ij", A), {"backend": "fortran"}),
    "an unknown semiring": (("ij->i", A), {"semiring": "max_over"}),
    "an unknown notation": (("ij->i", A), {"notation": "loud"}),
    "an unknown broadcast": (("ij->i", A), {"broadcast": "maybe"}),
    "an unknown memory_limit": (("ij,jk,kl->il", A, B, B.T), {"memory_limit": "lots"}),
    "a size that does not fit": (("ij->i", A), {"sizes": {"j": 7}}),
    "a negative size": (("i->ij", [1]), {"sizes": {"j": -1}}),
    # out
    "out of another shape": (("ij,jk->ik", A, B), {"out": np.empty((4, 2))}),
    "out of fewer axes": (("ij,jk->ik", A, B), {"out": np.empty(8)}),
    "out of more axes": (("ij,jk->ik", A, B), {"out": np.empty((1, 2, 4))}),
    "out that is read-only": (("ij,jk->ik", A, B), {"out": READ_ONLY}),
    "out that would have to broadcast": (("ij->", A), {"out": np.empty(1)}),
    # interleaved
    "interleaved, too many symbols": ((A, [0, 1, 2]), {}),
    "interleaved, no such output": ((A, [0, 1], [2]), {}),
    "interleaved, a repeated output": ((A, [0, 1], [1, 1]), {}),
    "interleaved, extents that differ": ((A, [0, 1], A, [1, 2]), {}),
    # the path
    "a path that leaves operands": (("a,a,a->a", [1], [2], [3]), {"optimize": [(0, 1)]}),
    "a path past the end": (("a,a,a->a", [1], [2], [3]), {"optimize": [(0, 5), (0, 1)]}),
    "a path with a repetition": (("a,a,a->a", [1], [2], [3]), {"optimize": [(0, 0), (0, 1)]}),
    "a path finder from nowhere": (("a,a,a->a", [1], [2], [3]), {"optimize": "optimall"}),
}

TYPE_ERRORS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "an unknown keyword": (("ij", A), {"speed": "high"}),
    "a misspelt keyword": (("ij", A), {"backed": "llvm"}),
    "out that is no array": (("ij,jk->ik", A, B), {"out": "result"}),
    "out that is a list": (("i->i", [1, 2]), {"out": [0, 0]}),
    "an order that is no text": (("ij", A), {"order": 3}),
    "no dtype": (("ij", A), {"dtype": "float33"}),
    "a dtype without arithmetic": (("ij->i", A), {"dtype": "M8[s]"}),
    "an unsafe dtype": (("ij->i", A), {"dtype": "f4"}),
    "an unsafe cast to int": (("ij->i", A), {"dtype": "i8", "casting": "same_kind"}),
    "an unsafe out": (("ij,jk->ik", A, B), {"out": np.empty((2, 4), "i8")}),
    "a narrower out": (("ij,jk->ik", A, B), {"out": np.empty((2, 4), "f4")}),
    "a cast that is no cast": (("ij->i", A), {"dtype": "f4", "casting": "no"}),
    "strings": (("ij->i", [["a", "b"]]), {}),
    "bytes": (("i,i", [b"a"], [b"b"]), {}),
    "dates": (("i->", np.zeros(3, "M8[s]")), {}),
    "spans of time": (("i,i->i", np.zeros(3, "m8[s]"), [1, 2, 3]), {}),
    "records": (("i->", np.zeros(3, "f4,i2")), {}),
    "none": (("i,i", [None], [1]), {}),
    "objects that do not multiply": (("i,i", [Silent()], [Silent()]), {}),
    "subscripts that are a number": ((0, 0), {}),
    "subscripts that are none": ((None, A), {}),
    "interleaved, a label that is a list": ((A, [0, [1]]), {}),
    "interleaved, a label that is a dict": ((A, [..., {}]), {}),
    "interleaved, no labels": ((A, 3), {}),
    "63 times none": ((None,) * 63, {}),
    "sizes that are no dict": (("i->ij", [1]), {"sizes": 3}),
    "a size that is no number": (("i->ij", [1]), {"sizes": {"j": "three"}}),
    "no path": (("a,a,a->a", [1], [2], [3]), {"optimize": 17}),
    "a path of words": (("a,a,a->a", [1], [2], [3]), {"optimize": [("a", "b")]}),
}


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("case", VALUE_ERRORS)
def test_wrong_values(case: str, backend: str) -> None:
    operands, options = VALUE_ERRORS[case]
    options = {"backend": backend, **options}
    for _ in range(2):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            einsum(*operands, **options)
        assert isinstance(caught.value, el.EinloomError)


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("case", TYPE_ERRORS)
def test_wrong_types(case: str, backend: str) -> None:
    operands, options = TYPE_ERRORS[case]
    options = {"backend": backend, **options}
    with pytest.raises(TypeError) as caught:
        einsum(*operands, **options)
    if "objects" not in case and "none" not in case:
        # Arithmetic of Python objects raises what it raises; all else is said by einloom.
        assert isinstance(caught.value, el.EinloomError)


def test_the_message_names_the_symbol_the_operands_and_both_extents() -> None:
    with pytest.raises(ValueError, match="j") as caught:
        el.einsum("ij,jk->ik", A, A)
    said = str(caught.value)
    assert all(part in said for part in ("ij,jk->ik", "^", "3", "2", "(2, 3)"))


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("extent", [2**44, 2**62])
def test_a_result_that_no_memory_holds(backend: str, extent: int) -> None:
    with pytest.raises(MemoryError) as caught:
        el.einsum("i->ij", np.ones(3), sizes={"j": extent}, backend=backend)
    assert isinstance(caught.value, el.EinloomError)


def test_extents_that_the_definition_cannot_hold() -> None:
    text = "cascade f(A[I]: f64) -> Y {{\n  ranks N = {}, K = N*N\n  Y[n] = n + A[0]\n}}"
    with pytest.raises(el.EinloomError, match="extent of rank K does not fit in 64 bits"):
        el.evaluate(text.format(2**33), A=[1.0])
    with pytest.raises(el.EinloomError, match="no memory for the tensors of f") as caught:
        el.evaluate(text.format(2**50).replace(", K = N*N", ""), A=[1.0])
    assert isinstance(caught.value, MemoryError)


def test_a_failed_call_writes_nothing() -> None:
    out = np.full((2, 4), 7.0)
    for bad in (np.ones((4, 4)), np.ones((3, 5)), np.array([["a"] * 4] * 3)):
        with pytest.raises((ValueError, TypeError)):
            el.einsum("ij,jk->ik", A, bad, out=out)
    assert (out == 7).all()


def test_read_only_is_found_again_at_a_later_call() -> None:
    """Whether `out` may be written is no part of the signature under which a call is kept."""
    out = np.empty((2, 4))
    el.einsum("ij,jk->ik", A, B, out=out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        el.einsum("ij,jk->ik", A, B, out=out)


def test_errors_of_the_operands_own_arithmetic_pass_through() -> None:
    class Refusal(Exception):
        pass

    class Refuses:
        def __mul__(self, other: object) -> object:
            raise Refusal

        __rmul__ = __mul__

    for _ in range(2):
        with pytest.raises(Refusal):
            el.einsum("i,i", np.array([Refuses()]), np.array([Refuses()]))


def test_objects_are_computed_once() -> None:
    """A KeyError inside a remembered call is no sign that the call was not remembered."""
    calls: list[object] = []

    class Picky:
        def __mul__(self, other: object) -> object:
            calls.append(other)
            if len(calls) > 1:
                raise KeyError("mine")
            return 1

    operands = np.array([Picky()]), np.array([2], object)
    el.einsum("i,i->i", *operands)
    with pytest.raises(KeyError, match="mine"):
        el.einsum("i,i->i", *operands)
    assert len(calls) == 2
