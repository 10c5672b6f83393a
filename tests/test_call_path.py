"""The call path: what native guards serve, what they pass on; results do not tell which did."""

from __future__ import annotations

import copy
import gc
import inspect
import os
import pickle
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom import dispatch, entry, records
from einloom.backends.base import Array
from einloom.backends.llvm import arrays, objects, vectorcall
from einloom.compilation import Compilation
from einloom.ir.errors import ArgumentError, EinloomError, OperandError, RankError

from .support import in_threads

ARGMAX = "cascade best(X[M,P]: f32) -> Y, I {\n  Y[p], I[p] = max[m] X[m,p]\n}"
GATHER = "cascade take(D[B]: f32, J[N]: i32) -> Y {\n  Y[n] = D[J[n]]\n}"


#: What is given in an array's place.
GIVEN: dict[str, Callable[[Array], Any]] = {
    "as it was": lambda a: a,
    "transposed": lambda a: a.T,
    "rows reversed": lambda a: a[::-1],
    "columns reversed": lambda a: a[:, ::-1],
    "strides of 0": lambda a: np.broadcast_to(a[:1], a.shape),
    "column-major": lambda a: np.asfortranarray(a),
    "byte order": lambda a: a.astype(">f4"),
    "other dtype": lambda a: a.astype("f8"),
    "lists": lambda a: a.tolist(),
    "masked": lambda a: np.ma.masked_array(a),
    "matrix": lambda a: a.view(np.matrix),
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), "u1")[1:].view("f4").reshape(a.shape),
    "unpickled": lambda a: pickle.loads(pickle.dumps(a)),
}


def matrices(n: int = 4, dtype: Any = np.float32, seed: int = 0) -> tuple[Array, Array]:
    a, b = np.random.default_rng(seed).integers(-8, 8, (2, n, n))
    return a.astype(dtype), b.astype(dtype)


def guarded(f: Any) -> int:
    """How many guards stand before a compiled function's slower way."""
    return len(f._inline._guarded)


def matmul() -> Any:
    """A compiled product that has served one call, so that a guard stands for its like."""
    f: Any = el.compile("ij,jk->ik")
    f(*matrices())
    return f


#: Calls of a function of A with two outputs that no guard serves.
UNGUARDED: dict[str, Callable[[Any, Array], Any]] = {
    "list": lambda f, a: f(a.tolist()),
    "by name": lambda f, a: f(A=a),
    "two outputs": lambda f, a: f(a, out=(np.zeros(4), np.zeros(4))),
    "all of it": lambda f, a: f(A=a.tolist(), out=[np.zeros(4), np.zeros(4)]),
}


@pytest.mark.parametrize("way", UNGUARDED)
def test_what_was_called_is_bound_once(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "cascade sums(A[I,J]: f64) -> Y, Z {\n  Y[i] = A[i,j]\n  Z[j] = A[i,j]\n}"
    f, (a, b) = el.compile(text), matrices(dtype=np.float64)
    UNGUARDED[way](f, a)

    def refuse(*_: Any) -> Any:
        raise AssertionError("bound again")

    monkeypatch.setattr(Compilation, "bind", refuse)
    y, z = UNGUARDED[way](f, b)
    np.testing.assert_array_equal(y, b.sum(axis=1))
    np.testing.assert_array_equal(z, b.sum(axis=0))


class Untouchable:
    """Stands for the slower way: gives back how it was called."""

    def __call__(self, *arrays: Any, **keywords: Any) -> Any:
        return arrays, keywords


def test_this_process_calls_natively() -> None:
    f = matmul()
    assert objects.layouts_known()
    assert type(f) is not el.Executable
    assert isinstance(f, el.Executable)
    assert type(f.__call__) is type(len)
    assert guarded(f) == 1


def test_the_second_call_does_not_pass_through_python() -> None:
    f = matmul()
    a, b = matrices(seed=1)
    seen: list[str] = []
    sys.setprofile(lambda frame, event, _: seen.append(event) if event == "call" else None)
    try:
        f(a, b)
        f(a, b, out=a.copy())
    finally:
        sys.setprofile(None)
    assert seen == []


def served_natively(f: Any, *arrays: Array) -> bool:
    """Whether a call passes through no code in Python."""
    seen: list[str] = []
    sys.setprofile(lambda frame, event, _: seen.append(event) if event == "call" else None)
    try:
        f(*arrays)
    finally:
        sys.setprofile(None)
    return not seen


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 20])
def test_few_operands_and_many(count: int) -> None:
    f: Any = el.compile(",".join(["i"] * count) + "->i", optimize=False)
    given = [np.full(5, 1 + number % 2, "f8") for number in range(count)]
    for _ in range(3):
        np.testing.assert_array_equal(f(*given), np.prod(given, axis=0))
    assert served_natively(f, *given)
    for number in range(count):
        others = [*given[:number], given[number][:4], *given[number + 1 :]]
        if count > 1:
            with pytest.raises(RankError):
                f(*others)


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 4), (2, 1, 2, 1, 3, 1, 2)])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    f: Any = el.compile("...->...")
    g: Any = el.compile("...,...->...")
    a = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    for _ in range(3):
        np.testing.assert_array_equal(f(a), a)
        np.testing.assert_array_equal(g(a, a), a * a)
    assert served_natively(g, a, a)
    for axis, extent in enumerate(shape):
        if extent > 1:
            flipped = np.flip(a, axis)
            np.testing.assert_array_equal(g(flipped, a), flipped * a)


def test_extents_that_do_not_lie_before_the_strides() -> None:
    """NumPy takes axes out of an array in place: the strides stay where they were."""
    f = matmul()
    a, b = matrices()
    summed = a.reshape(1, 4, 1, 4).sum(axis=(0, 2))
    squeezed = a.reshape(4, 1, 4, 1).squeeze()
    for given in (summed, squeezed):
        np.testing.assert_array_equal(f(given, b), a @ b)
        assert served_natively(f, given, b)


def test_results_are_new_arrays_as_numpy_makes_them() -> None:
    f = matmul()
    a, b = matrices()
    first, second = f(a, b), f(a, b)
    np.testing.assert_array_equal(first, a @ b)
    assert type(first) is np.ndarray
    assert first is not second
    assert not np.shares_memory(first, second)
    assert first.flags.c_contiguous
    assert first.flags.owndata
    assert first.flags.writeable
    assert first.flags.aligned


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i1", "i4", "i8", "u2", "f2", "?"])
def test_scalars_have_numpys_types(dtype: str) -> None:
    f = el.compile("i,i->")
    a = np.ones(5, dtype)
    for _ in range(3):
        result = f(a, a)
        assert type(result) is np.dtype(dtype).type
        assert result == np.einsum("i,i->", a, a)


def test_several_outputs_come_as_a_tuple() -> None:
    f = el.compile(ARGMAX)
    x = np.random.default_rng(0).random((5, 3)).astype("f4")
    for _ in range(3):
        values, places = f(x)
        np.testing.assert_array_equal(values, x.max(0))
        np.testing.assert_array_equal(places, x.argmax(0))
    assert guarded(f) == 1


def test_scalars_among_several_outputs() -> None:
    f = el.compile("cascade best(X[M]: f32) -> Y, I {\n  Y, I = max[m] X[m]\n}")
    for _ in range(3):
        value, place = f(np.array([1, 5, 2], np.float32))
        assert (type(value), value, place) == (np.float32, 5, 1)


def test_out_is_written_and_returned() -> None:
    f = matmul()
    a, b = matrices(seed=2)
    for out in (
        np.empty((4, 4), "f4"),
        np.empty((4, 4), "f4", "F"),
        np.empty((8, 8), "f4")[::2, ::2],
    ):
        for _ in range(3):
            out[...] = 0
            assert f(a, b, out=out) is out
            np.testing.assert_array_equal(out, a @ b)
            assert el.einsum("ij,jk->ik", a, b, out=out) is out
    assert guarded(f) == 3  # the first out is laid out as a new result is
    assert f(a, b).flags.c_contiguous


def test_out_alone_does_not_say_how_a_new_result_is_laid_out() -> None:
    f = el.compile("ij,jk->ik")
    a, b = matrices()
    out = np.empty((4, 4), "f4", "F")
    f(a, b, out=out)
    assert guarded(f) == 1
    assert f(a, b).flags.c_contiguous
    assert f(a, b, out=out) is out


@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("position", [0, 1])
def test_whatever_is_given_after_another_signature(
    make: Callable[[Array], Any], position: int
) -> None:
    f = matmul()
    given: list[Any] = list(matrices(seed=3))
    given[position] = make(given[position])
    want = np.einsum("ij,jk->ik", *(np.asarray(x) for x in given))
    for _ in range(3):
        for result in (f(*given), el.einsum("ij,jk->ik", *given)):
            assert type(result) is np.ndarray
            assert result.dtype == want.dtype
            np.testing.assert_array_equal(result, want)
    a, b = matrices()
    np.testing.assert_array_equal(f(a, b), a @ b)


def test_out_that_shares_memory_with_an_input() -> None:
    f = matmul()
    for _ in range(3):
        base = np.arange(48, dtype="f4")
        a, b = base[:16].reshape(4, 4), base[16:32].reshape(4, 4)
        want = a @ b
        for start in (0, 1, 15, 16, 31, 32):
            whole = base.copy()
            a, b = whole[:16].reshape(4, 4), whole[16:32].reshape(4, 4)
            out = whole[start : start + 16].reshape(4, 4)
            np.testing.assert_array_equal(f(a, b, out=out), want)
    a, b = matrices()
    want = a @ b
    assert f(a, b, out=a) is a
    np.testing.assert_array_equal(a, want)


def test_memory_shared_downwards_is_seen_too() -> None:
    f = el.compile("i,i->i")
    base = np.arange(20, dtype="f4")
    for _ in range(3):
        x = base.copy()
        np.testing.assert_array_equal(f(x[9::-1], base[:10], out=x[5:15]), base[9::-1] * base[:10])


def test_mistakes_are_told_as_ever_and_harm_nothing() -> None:
    f = matmul()
    a, b = matrices()
    locked = np.zeros((4, 4), "f4")
    locked.flags.writeable = False
    for _ in range(3):
        with pytest.raises(ArgumentError, match="read-only"):
            f(a, b, out=locked)
        with pytest.raises(ArgumentError, match="shape"):
            f(a, b, out=np.empty((4, 5), "f4"))
        with pytest.raises(OperandError, match="cannot be cast"):
            f(a, b, out=np.empty((4, 4), "i4"))
        with pytest.raises(OperandError, match="must be an array"):
            f(a, b, out=[1])
        for given in ((), (a,), (a, b, a), (a, b[:3])):
            with pytest.raises(EinloomError):
                f(*given)
        with pytest.raises(OperandError, match="no input"):
            f(a, b, inn=a)
        with pytest.raises(OperandError, match="no input"):
            f(a, b, out=a, inn=a)
        with pytest.raises(OperandError, match="unexpected keyword"):
            el.einsum("ij,jk->ik", a, b, inn=a)
        np.testing.assert_array_equal(f(a, b), a @ b)
    assert (locked == 0).all()


def test_names_and_none_and_out_in_a_tuple() -> None:
    f: Any = el.compile("cascade mm(A[I,K], B[K,J]) -> C {\n  C[i,j] = A[i,k] * B[k,j]\n}")
    a, b = matrices()
    out = np.empty((4, 4), "f4")
    for _ in range(3):
        for result in (f(a, b), f(A=a, B=b), f(a, B=b), f(a, b, out=None), f(B=b, A=a, out=out)):
            np.testing.assert_array_equal(result, a @ b)
        assert f(a, b, out=(out,)) == (out,)
        np.testing.assert_array_equal(f(*[a, b], **{str(b"out", "ascii"): out}), a @ b)


def test_a_read_out_of_range_is_explained_every_time() -> None:
    f = el.compile(GATHER)
    data = np.arange(5, dtype="f4")
    good, bad = np.array([4, 0, 1], np.int32), np.array([1, 9, 2], np.int32)
    for _ in range(3):
        np.testing.assert_array_equal(f(data, good), data[good])
        with pytest.raises(RankError, match="9"):
            f(data, bad)
    assert guarded(f) == 1


def test_empty_arrays_and_no_axes() -> None:
    for shape in ((0, 3), (3, 0), (0, 0)):
        a, b = np.ones(shape, "f4"), np.ones(shape[::-1], "f4")
        f = el.compile("ij,jk->ik")
        for _ in range(3):
            np.testing.assert_array_equal(f(a, b), a @ b)
            assert f(a, b).flags == (a @ b).flags
    g = el.compile(",->")
    zero = np.array(3.0)
    out = np.array(0.0)
    for _ in range(3):
        assert g(zero, zero) == 9
        assert g(zero, zero, out=out) is out


def test_new_results_keep_numpys_order_of_axes() -> None:
    a = np.arange(60, dtype="f4").reshape(3, 4, 5).transpose(1, 2, 0)
    for _ in range(3):
        result, want = el.einsum("abc,abc->abc", a, a), np.einsum("abc,abc->abc", a, a)
        assert result.strides == want.strides
        np.testing.assert_array_equal(result, want)
    for _ in range(3):
        result = el.einsum("abc,abc->abc", a.T, a.T)
        assert result.strides == np.einsum("abc,abc->abc", a.T, a.T).strides


def test_more_signatures_than_guards() -> None:
    f: Any = el.compile("ij,jk->ik")
    pairs = [matrices(n) for n in range(1, 2 * dispatch._MOST_GUARDS)]
    for _ in range(60):
        for a, b in pairs:
            np.testing.assert_array_equal(f(a, b), a @ b)
            assert guarded(f) <= dispatch._MOST_GUARDS
    steady = pairs[:3]
    for _ in range(dispatch._PATIENCE):
        for a, b in steady:
            f(a, b)
    before = f.__call__
    for a, b in steady:
        f(a, b)
    assert f.__call__ is before  # those that are called now have their guards


def test_code_is_shared_by_sizes_that_it_is_good_for() -> None:
    """Register tiles are chosen for small extents; large ones hold many of any shape."""
    f: Any = el.compile("ij,jk->ik")

    def served_by(n: int) -> str:
        f(*matrices(n))
        source: str = f.source
        return source

    assert served_by(120) == served_by(119)
    assert served_by(300) == served_by(400)
    assert served_by(40) != served_by(17)


def test_what_guards_do_not_serve_adds_none() -> None:
    f = matmul()
    a, b = matrices()
    f(a, b, out=a)
    head = f.__call__
    for _ in range(20):
        f(a.tolist(), b)
        f(a, b, out=a)
    assert f.__call__ is head


def test_reference_counts_and_memory_stay_as_they_are() -> None:
    f, best, take = matmul(), el.compile(ARGMAX), el.compile(GATHER)
    dot = el.compile("i,i->")
    a, b = matrices()
    out, v = np.empty((4, 4), "f4"), np.ones(3, "f4")
    places = np.array([0, 9], np.int32)

    def calls(count: int) -> None:
        for _ in range(count):
            f(a, b)
            f(a, b, out=out)
            best(a)
            dot(v, v)
            el.einsum("ij,jk->ik", a, b)
            el.einsum("ij,jk->ik", a, b, out=out)

    def faults(count: int) -> None:
        for _ in range(count):
            with pytest.raises(RankError):
                take(v, places)
            f(a, b, out=a)

    watched = (a, b, out, v, places, f, best, a.dtype, None, f.__call__, np.ndarray, "out")
    calls(100)
    faults(10)
    gc.collect()
    counts = [sys.getrefcount(x) for x in watched]
    calls(100_000)
    faults(1000)
    gc.collect()
    after = [sys.getrefcount(x) for x in watched]
    # One reference lost a call, or a fault, is a thousand; what else runs in this process (the
    # caches of modules, the test runner's own threads) moves the count of None by tens.
    assert max(abs(new - old) for new, old in zip(after, counts, strict=True)) < 500
    tracemalloc.start()
    try:
        calls(10)
        first = tracemalloc.get_traced_memory()[0]
        calls(3000)
        last = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert last - first < 3000


def test_a_compiled_function_is_freed_with_all_that_it_holds() -> None:
    f: Any = matmul()
    a, b = matrices()
    f(a, b)
    f(a, b, out=np.empty((4, 4), "f4", "F"))
    gone, call = weakref.ref(f), f.__call__
    del f
    gc.collect()
    assert gone() is not None  # the built-in function falls back on it
    np.testing.assert_array_equal(call(a, b), a @ b)
    np.testing.assert_array_equal(call(a.T, b), a.T @ b)
    del call
    gc.collect()
    assert gone() is None


def test_copies_and_pickles_compile_again() -> None:
    f = matmul()
    a, b = matrices()
    for other in (copy.copy(f), copy.deepcopy(f), pickle.loads(pickle.dumps(f))):
        assert type(other) is type(f)
        for _ in range(2):
            np.testing.assert_array_equal(other(a, b), a @ b)
    assert pickle.loads(pickle.dumps(el.einsum)) is el.einsum


def test_it_looks_like_what_it_is() -> None:
    f = matmul()
    assert callable(f)
    assert type(f).__name__ == "Executable"
    for g in (f, el.compile("ij->i")):
        assert list(inspect.signature(g).parameters) == ["arrays", "out", "named"]


def test_the_slot_may_hold_anything() -> None:
    f: Any = matmul()
    a, b = matrices()
    f.__call__ = Untouchable()
    assert f(a, b, out=a) == ((a, b), {"out": a})
    f.__call__ = len
    assert f(a) == 4
    f.__call__ = matmul().__call__  # of another function, which nobody else holds
    np.testing.assert_array_equal(f(a, b), a @ b)
    np.testing.assert_array_equal(f(a.T, b), a.T @ b)
    f.__call__ = f
    for _ in range(2):  # what was entered is left again
        with pytest.raises(RecursionError, match="calling an einsum"):
            f(a, b)
    del f.__call__
    with pytest.raises(TypeError, match="nothing to call"):
        f(a, b)
    vectorcall.call_natively(object())  # of no type that can: nothing happens


def test_without_known_layouts_all_goes_through_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "layouts_known", lambda: False)
    monkeypatch.setattr(records, "_here", lambda: None)
    monkeypatch.setattr(vectorcall, "layouts_known", lambda: False)
    monkeypatch.setattr(vectorcall, "quick_type", vectorcall.quick_type.__wrapped__)
    monkeypatch.setattr(entry, "_calls", {})
    monkeypatch.setattr(entry, "_inline", {})
    f: Any = el.compile("ij,jk->ik")
    a, b = matrices()
    out = np.empty((4, 4), "f4")
    for _ in range(3):
        np.testing.assert_array_equal(f(a, b), a @ b)
        assert f(a, b, out=out) is out
        np.testing.assert_array_equal(el.einsum("ij,jk->ik", a, b), a @ b)
    assert type(f) is el.Executable
    assert guarded(f) == 0


def test_many_threads_with_many_signatures_at_once() -> None:
    f: Any = el.compile("ij,jk->ik")
    wrong: list[object] = []
    start = threading.Barrier(16)

    def work(seed: int) -> None:
        start.wait()
        for turn in range(120):
            # Temporaries: nothing but the call itself keeps them. 40: the lock is let go of.
            n = 40 if turn % 8 == seed % 8 else 1 + (turn + seed) % 11
            a, b = matrices(n, seed=seed)
            want = a @ b
            out = np.empty((n, n), "f4")
            found = [f(a.copy(), b.copy()), el.einsum("ij,jk->ik", a.copy(), b)]
            found += [f(a, b, out=out), f(a, b, out=a)]
            if not all((result == want).all() for result in found):
                wrong.append((seed, n))

    in_threads(16, work)
    assert not wrong


@pytest.mark.parametrize("n", [4, 40])
def test_what_is_called_may_be_replaced_and_freed_meanwhile(n: int) -> None:
    """By the slower way that a call is passed on to, or, of 40, while the lock is let go of."""
    shown: Any = el.compile("ij,jk->ik")
    a, b = matrices(n)
    want = a @ b
    done = threading.Event()
    wrong: list[object] = []

    def replace(*_: Any, **__: Any) -> str:
        shown.__call__ = fresh()
        gc.collect()
        return "passed on"

    def fresh() -> Any:
        f: Any = el.compile("ij,jk->ik")
        f(a, b)
        (bound,) = f._inline._guarded
        return bound.way.making(replace)

    def change() -> None:
        while not done.is_set():
            shown.__call__ = fresh()

    shown(a, b)
    shown.__call__ = fresh()
    assert served_natively(shown, a, b)
    assert shown(a.tolist(), b) == "passed on"
    changing = threading.Thread(target=change)
    changing.start()
    try:
        for turn in range(300):
            result = shown(a, b)
            if not (result == want).all():
                wrong.append(result)
            if turn % 10 == 0 and shown(b.T, a, out=a) != "passed on":
                wrong.append(turn)
    finally:
        done.set()
        changing.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_goes_on() -> None:
    f = matmul()
    a, b = matrices()
    child = os.fork()
    if child == 0:
        fine = (f(a, b) == a @ b).all() and (f(a[:2], b) == a[:2] @ b).all()
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
