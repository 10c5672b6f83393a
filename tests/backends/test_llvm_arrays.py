"""Calling native code with arrays: what is accepted, what is refused, what is kept alive."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest

from einloom.backends.base import Array, Call
from einloom.backends.llvm import arrays, loaded, objects, runtime
from einloom.backends.llvm.arrays import REFUSED, WRONG_COUNT, call_of
from einloom.ir.errors import OutOfMemoryError

from .kernels import ADD, add_parameters, constant, floats


class Failed(Exception):
    pass


def fail(status: int) -> NoReturn:
    raise Failed(status)


#: What makes of an array one that is no longer of its signature.
CHANGES: dict[str, Callable[[Array], Any]] = {
    "shorter": lambda a: a[:4],
    "other stride": lambda a: a[::-1],
    "other dtype": lambda a: a.astype(np.float64),
    "other byte order": lambda a: a.astype(">f4"),
    "other dtype of that size": lambda a: a.view(np.int32),
    "more axes": lambda a: a.reshape(5, 1),
    "a scalar": lambda a: a.sum(),
    "a list": list,
    "None": lambda a: None,
    "a memoryview": lambda a: a.data,
    "a number": lambda a: 3,
    "the type": lambda a: np.ndarray,
}


@pytest.fixture(params=["built-in", "built-in, GIL released", "ctypes"])
def bind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Call]:
    """Binds ADD to three arrays, in each of the ways that there are."""
    if request.param == "ctypes":
        monkeypatch.setattr(arrays, "layouts_known", lambda: False)
    elif not objects.layouts_known():
        pytest.skip("not CPython as it is known")

    def bound(a: Array, b: Array, y: Array, failure: Any = fail) -> Call:
        release = request.param.endswith("released")
        kernel = runtime.load(ADD, "add")
        return call_of(kernel, add_parameters(a, b, y), (a, b), (y,), release, failure)

    return bound


def test_this_process_is_laid_out_as_expected() -> None:
    assert objects.layouts_known()


def test_the_check_of_layouts_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ("DATA", "NDIM", "DTYPE", "FLAGS", "BYTES", "TUPLE_SIZE", "TUPLE_ITEMS", "REFERENCES")
    for name in known:
        with monkeypatch.context() as patch:
            patch.setattr(objects, name, getattr(objects, name) - 8)
            assert not objects.layouts_known.__wrapped__(), name
    for name in ("_NDARRAY", "_ABI"):
        with monkeypatch.context() as patch:
            patch.setattr(objects, name, getattr(objects, name) + 1)
            assert not objects.layouts_known.__wrapped__(), name
    monkeypatch.setattr(sys, "abiflags", "t", raising=False)
    assert not objects.layouts_known.__wrapped__()


def test_calls_with_any_strides(bind: Callable[..., Call]) -> None:
    base = floats(40)
    for a, b, y in [
        (base[:5], base[5:10], np.zeros(5, np.float32)),
        (base[::4], base[::-4], np.zeros(20, np.float32)[::2]),
        (np.broadcast_to(base[3:4], 5), base[:5], np.zeros(5, np.float32)[::-1]),
        (np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)),
        (np.zeros(21, np.uint8)[1:].view(np.float32), base[:5], np.zeros(5, np.float32)),
    ]:
        call = bind(a, b, y)
        assert call(a, b, y) is None
        np.testing.assert_array_equal(y, a + b)


def test_other_arrays_of_the_same_signature(bind: Callable[..., Call]) -> None:
    a, b, y = floats(5), floats(5), floats(5)
    call = bind(a, b, y)
    del a, b, y
    gc.collect()
    for start in range(5):
        given, result = floats(5, start), floats(5)
        call(given, given, result)
        np.testing.assert_array_equal(result, 2 * given)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_arrays_of_another_signature_are_refused(
    bind: Callable[..., Call], position: int, change: Callable[[Array], Any]
) -> None:
    good = [floats(5), floats(5), floats(5)]
    call = bind(*good)
    given: list[Any] = list(good)
    given[position] = change(given[position])
    with pytest.raises(Failed) as caught:
        call(*given)
    assert caught.value.args == (REFUSED - position,)
    np.testing.assert_array_equal(good[2], floats(5))  # nothing was written
    call(*good)


def test_a_wrong_number_of_arrays_is_refused(bind: Callable[..., Call]) -> None:
    a = floats(5)
    call = bind(a, a, floats(5))
    for count in (0, 2, 4):
        with pytest.raises(Failed) as caught:
            call(*[a] * count)
        assert caught.value.args == (WRONG_COUNT,)
    with pytest.raises(TypeError):
        call(a, a, y=a)


def test_a_read_only_output_is_refused_but_not_a_read_only_input(
    bind: Callable[..., Call],
) -> None:
    a, y = floats(5), floats(5)
    call = bind(a, a, y)
    a.flags.writeable = False
    call(a, a, y)
    np.testing.assert_array_equal(y, 2 * a)
    with pytest.raises(Failed) as caught:
        call(a, a, a)
    assert caught.value.args == (REFUSED - 2,)


def test_subclasses_and_equal_dtypes_are_accepted(bind: Callable[..., Call]) -> None:
    class Mine(np.ndarray[Any, Any]):
        pass

    same: Any = np.dtype(np.float32, metadata={"unit": "m"})
    assert same is not np.dtype(np.float32)
    a = floats(5)
    y = np.zeros(5, np.float32)
    bind(a, a, y)(a.view(Mine), a.astype(same), y.view(Mine))
    np.testing.assert_array_equal(y, 2 * a)


def test_whatever_the_failure_raises_comes_through(bind: Callable[..., Call]) -> None:
    a, y = floats(5), floats(5)

    def explode(status: int) -> NoReturn:
        raise ZeroDivisionError(status)

    with pytest.raises(ZeroDivisionError):
        bind(a, a, y, failure=explode)(a, y[:2], y)


@pytest.mark.parametrize("status", [1, 2, 3, -77])
@pytest.mark.parametrize("release", [True, False])
def test_a_kernels_status_is_handed_on(status: int, release: bool) -> None:
    kernel = runtime.load(constant(status), "constant")
    for known in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not known:
                patch.setattr(arrays, "layouts_known", lambda: False)
            call = call_of(kernel, (), (), (), release, fail)
        with pytest.raises(Failed) as caught:
            call()
        assert caught.value.args == (status,)


@pytest.mark.parametrize("release", [True, False])
def test_what_was_overwritten_is_not_gone_through_again(release: bool) -> None:
    """A kernel that fails may have written before."""
    kernel = runtime.load(constant(2), "constant")
    a, b = floats(3), floats(3)
    way = arrays.bound(kernel, (), (a, b), (a,), release, overwritten=(1,))
    assert way is not None

    def otherwise(*given: Array, out: Array) -> int:
        return len(given)

    f = way.writing(otherwise)
    assert f(a, b, out=floats(3)) == 2
    call = call_of(kernel, (), (a, b), (a,), release, fail, overwritten=(1,))
    with pytest.raises(Failed):
        call(a, b, floats(3))
    for overwriting in (lambda: f(a, b, out=b), lambda: call(a, b, b)):
        with pytest.raises(OutOfMemoryError, match="may be overwritten"):
            overwriting()


def test_arrays_without_axes_and_with_many() -> None:
    kernel = runtime.load(constant(0), "constant")
    for shape in ((), (1,) * 64, (2, 0, 3)):
        a = np.zeros(shape, np.complex128)
        call = call_of(kernel, (), (a,), (a.copy(),), False, fail)
        call(a, a.copy())


def test_very_many_arrays() -> None:
    kernel = runtime.load(constant(0), "constant")
    a = floats(3)
    for count in (100, 1024, 3000):
        call = call_of(kernel, (), [a] * (count - 1), [floats(3)], False, fail)
        call(*[a] * count)
        with pytest.raises(Failed):
            call(*[a] * (count - 1), a[1:])


def test_the_call_keeps_all_that_it_needs(bind: Callable[..., Call]) -> None:
    class Failure:
        def __call__(self, status: int) -> NoReturn:
            raise Failed(status)

    failure = Failure()
    gone = weakref.ref(failure)
    a, y = floats(5), floats(5)
    call = bind(a, a, y, failure=failure)
    del failure
    loaded._loaded.clear()
    for _ in range(5):
        gc.collect()
        junk = [bytes(100) for _ in range(100)]
        call(a, a, y)
        del junk
    with pytest.raises(Failed):
        call(a, a)
    assert gone() is not None
    del call
    gc.collect()
    assert gone() is None


def test_reference_counts_stay_as_they_are(bind: Callable[..., Call]) -> None:
    a, y = floats(5), floats(5)
    call = bind(a, a, y)
    gc.collect()  # arrays of other tests hold their dtype as well, until they are collected
    counts = [sys.getrefcount(x) for x in (a, y, fail, a.dtype)]
    for _ in range(1000):
        call(a, a, y)
        with pytest.raises(Failed):
            call(a, a)
        with pytest.raises(Failed):
            call(a, y[1:], y)
    after = [sys.getrefcount(x) for x in (a, y, fail, a.dtype)]
    assert max(abs(new - old) for new, old in zip(after, counts, strict=True)) < 10


def test_many_threads_call_at_once(bind: Callable[..., Call]) -> None:
    example = floats(1000)
    call = bind(example, example, example.copy())
    wrong: list[object] = []

    def work(start: float) -> None:
        a, y = floats(1000, start), floats(1000)
        for _ in range(200):
            call(a, a, y)
            if not (y == 2 * a).all():
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(1000.0 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


SPIN = """
define i32 @spin(ptr %params, ptr %data) {
entry:
  %flag = load ptr, ptr %data
  br label %again
again:
  %seen = load atomic i32, ptr %flag acquire, align 4
  %set = icmp ne i32 %seen, 0
  br i1 %set, label %done, label %again
done:
  ret i32 0
}
"""


def test_other_threads_run_while_the_gil_is_released() -> None:
    flag = np.zeros(1, np.int32)
    call = call_of(runtime.load(SPIN, "spin"), (), (flag,), (), True, fail)
    thread = threading.Thread(target=call, args=(flag,), daemon=True)
    thread.start()
    time.sleep(0.01)
    assert thread.is_alive()  # it is in native code, and this thread runs all the same
    flag[0] = 1
    thread.join(20)
    assert not thread.is_alive()
