"""`el.einsum` gives what `np.einsum` gives: values, dtypes, views, scalars, `out`, layouts."""

import threading
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.registry import backend_names

from .support import in_threads

RNG = np.random.default_rng(7)
A, B, C = RNG.random((4, 5)), RNG.random((5, 6)), RNG.random((6, 4))

pytestmark = pytest.mark.parametrize("backend", backend_names())


def both(backend: str, *operands: Any, **options: Any) -> tuple[Any, Any]:
    """What einloom gives, and what NumPy gives."""
    return el.einsum(*operands, backend=backend, **options), np.einsum(*operands, **options)


# ---- values


@pytest.mark.parametrize(
    "operands",
    [
        ("ij,jk->ik", A, B),
        ("ij,jk", A, B),
        ("ij,jk->", A, B),
        ("ij,jk,kl->il", A, B, C),
        ("ij,jk,ki", A, B, C),
        ("i j , j k -> k i", A, B),
        ("ij->", A),
        ("ij->j", A),
        ("ii->i", A[:, :4]),
        ("ii", A[:, :4]),
        ("...j,jk->...k", A, B),
        ("...,...", A, A),
        (",", 2, 3),
        ("", 7),
        ("i,->i", [1, 2, 3], 2.5),
        ("ij,ij->ij", A, A[:1]),
        (A, [0, 1], B, [1, 2], [0, 2]),
        (A, [0, 1], B, [1, 2]),
        (A, [..., 1], B, [1, 2], [..., 2]),
        (A, np.array([0, 1])),
    ],
    ids=lambda operands: str(operands[0])[:12].replace("\n", " "),
)
def test_values_dtypes_and_shapes(backend: str, operands: Any) -> None:
    for _ in range(2):  # the first call compiles, the second is remembered
        ours, theirs = both(backend, *operands)
        assert type(ours) is type(theirs)
        assert np.shape(ours) == np.shape(theirs)
        assert np.result_type(ours) == np.result_type(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize("code", np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?O")
def test_every_dtype_of_numpy(backend: str, code: str) -> None:
    a, b = (np.arange(12).reshape(3, 4).astype(code), np.arange(20).reshape(4, 5).astype(code))
    ours, theirs = both(backend, "ij,jk->ik", a, b)
    assert ours.dtype == theirs.dtype
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("pair", ["bB", "iI", "lL", "ef", "hd", "fF", "dF", "?b", "qQ", "ed", "gf"])
def test_mixed_dtypes_promote_as_in_numpy(backend: str, pair: str) -> None:
    a, b = (
        np.arange(6).reshape(shape).astype(c)
        for shape, c in zip(((2, 3), (3, 2)), pair, strict=True)
    )
    ours, theirs = both(backend, "ij,jk->ik", a, b)
    assert ours.dtype == theirs.dtype
    assert ours.tolist() == theirs.tolist()


def test_integers_wrap_and_bools_are_or_and(backend: str) -> None:
    a = np.full((1, 40), 100, "i1")
    ours, theirs = both(backend, "ij,ij->i", a, a)
    assert ours == theirs == np.array(40 * 100 * 100).astype("i1")
    a = np.array([[True, True], [False, False]])
    ours, theirs = both(backend, "ij,jk->ik", a, a)
    assert ours.dtype == bool
    assert ours.tolist() == theirs.tolist() == [[True, True], [False, False]]


def test_complex_operands_are_not_conjugated(backend: str) -> None:
    z = np.array([1j, 2.0])
    assert el.einsum("i,i", z, z, backend=backend) == 3


def test_acc_is_wider_than_the_operands(backend: str) -> None:
    a = np.full((2, 300), 100, "i1")
    found = el.einsum("ij,kj->ik", a, a, acc="i32", backend=backend)
    assert found.dtype == np.int32
    assert (found == 3_000_000).all()
    half = np.full(3000, 1.0, "f2")
    assert el.einsum("i->", half, acc="f32", backend=backend) == 3000


def test_byte_order_makes_no_difference(backend: str) -> None:
    swapped = A.astype(A.dtype.newbyteorder())
    for _ in range(2):
        ours, theirs = both(backend, "ij,jk->ik", swapped, B)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs)


# ---- dtype=, casting=, order=


def test_dtype_is_what_is_computed_in(backend: str) -> None:
    a = np.full(300, 200, "u1")
    ours, theirs = both(backend, "i->", a, dtype="i8")
    assert ours == theirs == 60_000
    assert ours.dtype == theirs.dtype
    ours, theirs = both(backend, "i,i->i", [1.6, 2.5], [2.0, 2.0], dtype="i4", casting="unsafe")
    assert ours.dtype == theirs.dtype == np.int32
    assert ours.tolist() == theirs.tolist() == [2, 4]
    ours, theirs = both(backend, "ij,ij->ij", A, A, dtype="f4", casting="same_kind")
    assert ours.dtype == theirs.dtype == np.float32


def test_a_dtype_that_is_asked_for_is_given(backend: str) -> None:
    """np.einsum("ij->ij", f4, dtype="f8") returns a view, in f4."""
    single = A.astype("f4")
    found = el.einsum("ij->ij", single, dtype="f8", backend=backend)
    assert found.dtype == np.float64
    assert found.tolist() == single.tolist()
    swapped = A.astype(">f8")
    assert el.einsum("ij->ji", swapped, dtype="f8", backend=backend).dtype == np.dtype("=f8")


@pytest.mark.parametrize("order", ["C", "F", "A", "K", "c", "f", "a", "k", None])
@pytest.mark.parametrize(
    "text",
    ["ij,jk->ik", "ij,jk->ki", "ji,jk->ik", "ij,kl->ijkl", "ij,kl->lkji", "ijk,kl->ljk", "i,j->ij"],
)
def test_the_order_of_a_new_result_is_numpys(backend: str, order: Any, text: str) -> None:
    for layout in ("CC", "FF", "CF", "FC"):
        operands = [
            np.asfortranarray(array) if o == "F" else array
            for term, o in zip(text.split("->")[0].split(","), layout, strict=True)
            for array in [RNG.random((3,) * len(term))]
        ]
        ours, theirs = both(backend, text, *operands, order=order)
        assert ours.strides == theirs.strides
        np.testing.assert_allclose(ours, theirs)


# ---- views


@pytest.mark.parametrize(
    "text",
    ["ijk", "kji", "jki->ijk", "...", "...k->k...", "iij->ij", "iij->ji", "iii->i", "i...i->i..."],
)
def test_one_operand_that_is_only_rearranged_gives_a_view(backend: str, text: str) -> None:
    array = np.arange(27.0).reshape(3, 3, 3)
    ours, theirs = both(backend, text, array)
    assert ours.strides == theirs.strides
    assert ours.shape == theirs.shape
    assert ours.tolist() == theirs.tolist()
    assert ours.base is theirs.base
    ours[...] = 5
    assert array.ravel()[0] == 5
    array.flags.writeable = False
    assert not el.einsum(text, array, backend=backend).flags.writeable


def test_a_view_of_a_view_has_the_owner_as_its_base(backend: str) -> None:
    owner = np.arange(6.0)
    found = el.einsum("ij->ji", owner.reshape(2, 3), backend=backend)
    assert found.base is owner


def test_a_view_of_anything_that_numpy_stores(backend: str) -> None:
    for array in (np.array([["a", "b"]]), np.zeros((1, 2), "M8[s]"), np.zeros((1, 2), "f4,i2")):
        ours, theirs = both(backend, "ij->ji", array)
        assert ours.dtype == theirs.dtype
        assert ours.tolist() == theirs.tolist()


def test_what_repeats_or_sums_is_no_view(backend: str) -> None:
    a = np.arange(4.0).reshape(2, 2)
    for text in ("ij->i", "ii->"):
        assert not np.shares_memory(el.einsum(text, a, backend=backend), a)


# ---- scalars


def test_a_result_without_axes_is_a_scalar(backend: str) -> None:
    for operands in (("i,i", [1, 2], [3, 4]), ("->", 3), ("", np.array(3.5)), ("ij->", A)):
        ours, theirs = both(backend, *operands)
        assert type(ours) is type(theirs)
        assert ours == pytest.approx(theirs)
    assert type(el.einsum("i->", np.array([1, 2], object), backend=backend)) is int


# ---- out=


def test_out_is_filled_and_returned(backend: str) -> None:
    out = np.full((4, 6), np.nan)
    for _ in range(2):
        assert el.einsum("ij,jk->ik", A, B, out=out, backend=backend) is out
        np.testing.assert_allclose(out, A @ B)
        out[...] = np.nan


def test_out_of_any_strides_and_a_wider_dtype(backend: str) -> None:
    whole = np.zeros((12, 8), "c16")
    out = whole[::-2, 1:7]
    el.einsum("ij,jk->ik", A[:, :5].repeat(2, 0)[:6], B, out=out, backend=backend)
    np.testing.assert_allclose(out, A[:, :5].repeat(2, 0)[:6] @ B)
    assert not whole[::2].any()  # what lies between its elements is left alone
    assert not whole[:, 0].any()


@pytest.mark.parametrize("text", ["ij,jk->ik", "ij,jk->ki", "ij,ij->ij", "ij,ji->ij", "ij,kk->ji"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_out_may_be_an_operand(backend: str, text: str, which: int) -> None:
    a, b = RNG.random((2, 9, 9))
    expected = np.einsum(text, a, b)
    out = (a, b, a.T)[which]
    assert el.einsum(text, a, b, out=out, backend=backend) is out
    np.testing.assert_allclose(out, expected)


def test_out_may_overlap_an_operand_in_part(backend: str) -> None:
    memory = RNG.random(30)
    a, out = memory[:20].reshape(4, 5), memory[7:23].reshape(4, 4)
    expected = np.einsum("ij,kj->ik", a, a)
    el.einsum("ij,kj->ik", a, a, out=out, backend=backend)
    np.testing.assert_allclose(out, expected)


def test_out_with_no_axes(backend: str) -> None:
    out = np.array(0.0)
    assert el.einsum("ij->", A, out=out, backend=backend) is out
    assert out == pytest.approx(A.sum())


def test_out_decides_the_dtype_computed_in(backend: str) -> None:
    a = np.full(300, 100, "i1")
    ours, theirs = np.zeros((), "i8"), np.zeros((), "i8")
    el.einsum("i->", a, out=ours, backend=backend)
    np.einsum("i->", a, out=theirs)
    assert ours == theirs == 30_000


# ---- shapes at the edge


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("ij,jk->ik", [(0, 3), (3, 2)]),
        ("ij,jk->ik", [(2, 0), (0, 3)]),
        ("ij,jk->ik", [(2, 3), (3, 0)]),
        ("ij->", [(0, 5)]),
        ("ij->i", [(3, 0)]),
        ("ii->i", [(0, 0)]),
        ("i,j,k->", [(3,), (0,), (2,)]),
        ("ij,jk->ik", [(1, 1), (1, 1)]),
        ("ij,jk->ik", [(2, 1), (5, 3)]),
        ("...,...->...", [(3, 1), (1, 4)]),
    ],
)
def test_extents_of_zero_and_one(backend: str, text: str, shapes: list[tuple[int, ...]]) -> None:
    operands = [np.ones(shape) for shape in shapes]
    ours, theirs = both(backend, text, *operands)
    assert np.shape(ours) == np.shape(theirs)
    np.testing.assert_array_equal(ours, theirs)


def test_rank_64_and_more_than_64_operands(backend: str) -> None:
    wide = np.ones((1,) * 63 + (2,))
    labels = list(range(64))
    assert el.einsum(wide, labels, [63], backend=backend).tolist() == [1, 1]
    assert el.einsum(wide, labels, wide, labels, [], backend=backend) == 2
    many = [np.array([1.0, 2.0])] * 70
    assert el.einsum(",".join("i" * 70) + "->i", *many, backend=backend).tolist() == [1, 2.0**70]


# ---- arrays that are not quite arrays


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_subclasses_are_read_as_arrays(backend: str) -> None:
    matrix = np.matrix([[1, 2], [3, 4]])
    masked = np.ma.masked_array([[1, 2], [3, 4]], mask=[[True, False], [False, False]])
    for operand in (matrix, masked):
        ours, theirs = both(backend, "ij,jk->ik", operand, operand)
        assert type(ours) is type(theirs) is np.ndarray
        assert ours.tolist() == theirs.tolist()


def test_a_memory_map(backend: str, tmp_path: Any) -> None:
    np.save(tmp_path / "a.npy", A)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    np.testing.assert_allclose(el.einsum("ij,jk->ik", mapped, B, backend=backend), A @ B)
    target = np.lib.format.open_memmap(tmp_path / "c.npy", "w+", "f8", (4, 6))
    assert el.einsum("ij,jk->ik", A, B, out=target, backend=backend) is target
    target.flush()
    np.testing.assert_allclose(np.load(tmp_path / "c.npy"), A @ B)


def test_scalars_and_lists_and_what_has_an_array_method(backend: str) -> None:
    class Wrapped:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.array([1.0, 2.0])

    assert el.einsum("i,i", Wrapped(), [3, 4], backend=backend) == 11
    assert el.einsum(",,", np.float32(2), 3, True, backend=backend) == 6


# ---- threads


def test_sixteen_threads_at_once(backend: str) -> None:
    """All compile the same new einsum at once, and then many others, and none disturbs another."""
    start = threading.Barrier(16)

    def work(number: int) -> None:
        rng = np.random.default_rng(number % 4)
        start.wait()
        for n in (3, 17, 64):
            a, b = rng.random((n, n + number)), rng.random((n + number, n))
            for _ in range(5):
                found = el.einsum("ab,bc->ca", a, b, backend=backend)
                np.testing.assert_allclose(found, (a @ b).T)
            out = np.empty((n, n))
            found = el.einsum("ab,bc->ac", a, b, out=out, backend=backend)
            np.testing.assert_allclose(found, a @ b)

    in_threads(16, work)


def test_nothing_to_do_is_done_at_once(backend: str) -> None:
    """However many coordinates there are of one rank, if there are none of another."""
    tall = np.empty((2**40, 0))
    assert el.einsum("ij,ij->", tall, tall, backend=backend) == 0
    assert el.einsum("ij,j->", tall, np.empty(0), backend=backend) == 0
    result = el.einsum("ij,k->jk", tall.T, np.empty(0), backend=backend)
    assert result.shape == (2**40, 0)
