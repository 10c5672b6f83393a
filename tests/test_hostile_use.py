"""Hostile use: threads, interrupts, aliases, arrays that go or change during a call.

What may end the process, or never return, runs in a process of its own.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

import einloom as el
from einloom.ir.errors import ArgumentError, EinloomError

from .support import in_threads

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

TEXT = "ij,jk->ik"


def ways() -> dict[str, Callable[..., Any]]:
    """What computes a product of matrices."""
    return {
        "compiled": el.compile(TEXT),
        "einsum": lambda *arrays, **out: el.einsum(TEXT, *arrays, **out),
        "expression": el.contract_expression(TEXT, (2, 2), (2, 2)),
    }


WAYS = tuple(ways())


def numbers(*shape: int, seed: int = 0) -> Array:
    """Small whole numbers, whose products are exact."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def run(script: str, timeout: float = 120) -> str:
    """What a process says that runs the script; it must end well, and in time."""
    command = [sys.executable, "-X", "faulthandler", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


# ---- threads


def test_a_thousand_threads() -> None:
    given = ways()

    def work(number: int) -> None:
        f = given[WAYS[number % len(WAYS)]]
        n = 2 + number % 13
        a, b = numbers(n, n + 1, seed=number), numbers(n + 1, n, seed=number + 1)
        for turn in range(3):
            np.testing.assert_array_equal(f(a, b), a @ b)
            if turn == 1:
                with pytest.raises(EinloomError):
                    f(a, a)

    in_threads(1000, work)


def test_threads_write_where_others_read() -> None:
    """Which numbers are read then is open; each call is whole, and nothing else is harmed."""
    f: Any = el.compile(TEXT)
    shared = np.ones((40, 40), np.float32)
    own = [numbers(40, 40, seed=n) for n in range(8)]

    def work(number: int) -> None:
        for turn in range(60):
            if turn % 2:
                f(own[number], own[number], out=shared)
            else:
                f(shared, shared)
            np.testing.assert_array_equal(f(own[number], own[number]), own[number] @ own[number])

    in_threads(8, work)


def test_one_signature_is_new_to_many_threads() -> None:
    for factor in range(2, 8):
        text = f"cascade fresh(A[I,J]: f32) -> Y {{ Y[i] = A[i,j] * {factor} }}"
        call_at_once(el.compile(text), factor)


def call_at_once(f: Any, factor: int) -> None:
    a = numbers(5, 6)
    together = threading.Barrier(12)

    def work(_: int) -> None:
        together.wait()
        np.testing.assert_array_equal(f(a), a.sum(axis=1) * factor)

    in_threads(12, work)


# ---- interrupts

INTERRUPTED = """
import signal
import sys
import einloom as el
import numpy as np

class Interrupt(KeyboardInterrupt):
    pass

def interrupt(*_):
    raise Interrupt

def dropped(what):
    # Python drops what is raised as an object is freed: the interrupt itself, in one of llvmlite's;
    # and what those lack that an interrupt kept from being made.
    if what.exc_type is Interrupt:
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
    elif what.exc_type is not AttributeError or "llvmlite" not in what.object.__module__:
        sys.__unraisablehook__(what)

sys.unraisablehook = dropped
signal.signal(signal.SIGALRM, interrupt)
rng = np.random.default_rng(0)
f = el.compile("ij,jk->ik")
caught = 0
for turn in range(TURNS):
    n = int(rng.integers(1, SIZE))
    a = rng.integers(-4, 5, (n, n)).astype(np.float32)
    want = a @ a
    names = [f"x{turn}y", "j", f"z{turn}w"]
    text = f"{names[0]} j, j {names[2]} -> {names[0]} {names[2]}"
    try:
        signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(1e-5, LONGEST)))
        while True:
            out = np.empty_like(a)
            assert (f(a, a, out=out) == want).all()
            assert (el.einsum(text, a, a, notation="named") == want).all()
            el.einsum("ij,jk->ik", a[: n // 2 + 1], a)
    except Interrupt:
        caught += 1
    assert (f(a, a) == want).all()
    assert (el.einsum("ij,jk->ik", a, a) == want).all()
print(caught)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGALRM")
@pytest.mark.parametrize(("size", "longest", "turns"), [(8, 0.02, 120), (400, 0.01, 60)])
def test_interrupted_calls(size: int, longest: float, turns: int) -> None:
    script = INTERRUPTED.replace("TURNS", str(turns)).replace("SIZE", str(size))
    assert run(script.replace("LONGEST", str(longest))) == f"{turns}\n"


REENTERED = """
import signal
import einloom as el
import numpy as np

f = el.compile("ij,jk->ik")
a = np.arange(16, dtype=np.float32).reshape(4, 4) % 5
seen = 0

def call(*_):
    global seen
    b = a[:, : 1 + seen % 4]
    assert (f(a, b) == a @ b).all()
    assert (el.einsum("ij,jk->ik", b.T, a) == b.T @ a).all()
    seen += 1
    signal.setitimer(signal.ITIMER_REAL, 1e-3)

call()  # a module cannot be asked for what it has not got to yet, as it is loaded
signal.signal(signal.SIGALRM, call)
signal.setitimer(signal.ITIMER_REAL, 1e-3)
turn = 0
while seen < 50:
    turn += 1
    n = 1 + turn % 30
    b = np.ones((4, n), np.float32)
    assert (f(a, b) == a @ b).all()
    text = f"cascade c{turn % 40}(A[I,J]: f32) -> Y {{ Y[i] = A[i,j] * {turn % 40} }}"
    assert (el.compile(text)(a) == (a * (turn % 40)).sum(1)).all()
signal.setitimer(signal.ITIMER_REAL, 0)
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGALRM")
def test_signal_handlers_that_call() -> None:
    assert run(REENTERED) == "done\n"


ENDS = """
import threading
import time
import einloom as el
import numpy as np

f = el.compile("ij,jk->ik")
a = np.ones((SIZE, SIZE), np.float32)
f(a, a)

def work():
    while True:
        f(a, a)
        el.einsum("ij,jk->ik", a, a)

for _ in range(6):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
print("main ends")
"""


@pytest.mark.parametrize("size", [4, 200])
def test_the_process_ends_during_calls(size: int) -> None:
    """Daemon threads are in native code, or about to take the lock again, as Python goes down."""
    assert run(ENDS.replace("SIZE", str(size))) == "main ends\n"


# ---- aliases


@pytest.mark.parametrize("way", WAYS)
def test_outputs_over_inputs(way: str) -> None:
    f = ways()[way]
    rng = np.random.default_rng(5)
    for _ in range(60):
        n = int(rng.integers(1, 12))
        memory = numbers(n * n * 3 + 40)
        starts = rng.integers(0, 40 + n * n, 3)
        a, b, out = (memory[s : s + n * n].reshape(n, n) for s in starts.tolist())
        if rng.random() < 0.3:
            a = a.T
        if rng.random() < 0.3:
            out = out[::-1]
        want = a.copy() @ b.copy()
        before = memory.copy()
        assert f(a, b, out=out) is out
        np.testing.assert_array_equal(out, want)
        touched = np.zeros(memory.shape, bool)
        touched[starts[2] : starts[2] + n * n] = True
        np.testing.assert_array_equal(memory[~touched], before[~touched])


@pytest.mark.parametrize("way", WAYS)
def test_outputs_that_overlap_themselves(way: str) -> None:
    """As in NumPy each element is written, in some order; nothing beyond the array is."""
    f, a = ways()[way], np.ones((3, 3), np.float32)
    memory = np.zeros(10, np.float32)
    out = np.lib.stride_tricks.as_strided(memory, (3, 3), (4, 4))
    for _ in range(3):
        f(a, a, out=out)
    np.testing.assert_array_equal(memory, [3] * 5 + [0] * 5)


@pytest.mark.parametrize("way", WAYS)
def test_read_only_outputs(way: str) -> None:
    f, a = ways()[way], numbers(4, 4)
    out = np.zeros((4, 4), np.float32)
    f(a, a, out=out)
    f(a, a, out=out)
    kept = out.copy()
    out.flags.writeable = False
    for _ in range(3):
        with pytest.raises(ArgumentError, match="read-only"):
            f(a + 1, a, out=out)
    np.testing.assert_array_equal(out, kept)
    a.flags.writeable = False
    np.testing.assert_array_equal(f(a, a), a @ a)


# ---- arrays that go, and change


class Told(np.ndarray[Any, np.dtype[Any]]):
    """An array of a class of its own."""


@pytest.mark.parametrize("way", WAYS)
def test_arrays_that_only_the_call_holds(way: str) -> None:
    f = ways()[way]
    want = numbers(50, 50) @ numbers(50, 50, seed=1)
    for _ in range(30):
        np.testing.assert_array_equal(f(numbers(50, 50), numbers(50, 50, seed=1)), want)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_kept(way: str) -> None:
    f = ways()[way]
    for kind in (np.ndarray, Told):
        a = numbers(6, 6).view(kind)
        out = np.empty((6, 6), np.float32).view(kind)
        result = f(a, a)
        for _ in range(3):
            result = f(a, a)
            assert f(a, a, out=out) is out
            with pytest.raises(EinloomError):
                f(a, a[:3])
            f(a, a, out=a.copy())
        gone = [weakref.ref(x) for x in (a, out, result)]
        del a, out, result
        gc.collect()
        assert [x() for x in gone] == [None, None, None]


def test_a_thousand_failed_calls_leave_nothing() -> None:
    f: Any = el.compile(TEXT)
    a, out = numbers(4, 4), np.empty((4, 4), np.float32)
    wrong: tuple[Callable[[], Any], ...] = (
        lambda: f(a),
        lambda: f(a, a[:2]),
        lambda: f(a, a, out=out[:2]),
        lambda: f(a, "text"),
        lambda: f(a, a, more=a),
        lambda: el.einsum(TEXT, a, a[:2]),
        lambda: el.einsum("ij,jk->iz", a, a),
    )

    def fail(times: int) -> None:
        for _ in range(times):
            for call in wrong:
                with pytest.raises((EinloomError, TypeError)):
                    call()

    fail(3)
    gc.collect()
    counts = [sys.getrefcount(x) for x in (a, out, a.dtype, f)]
    fail(150)
    gc.collect()
    after = [sys.getrefcount(x) for x in (a, out, a.dtype, f)]
    assert max(abs(new - old) for new, old in zip(after, counts, strict=True)) < 10


def test_arrays_that_change_between_calls() -> None:
    f: Any = el.compile(TEXT)
    a: Any = numbers(6, 6)
    b: Any = numbers(6, 6, seed=1)
    for _ in range(2):
        np.testing.assert_array_equal(f(a, b), a @ b)
    a.resize((4, 9), refcheck=False)
    with pytest.raises(EinloomError):
        f(a, b)
    a.resize((3, 6), refcheck=False)
    np.testing.assert_array_equal(f(a, b), a @ b)
    b.dtype = np.dtype(np.int32)
    want = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_array_equal(f(a, b), want)
    b.setflags(write=False)
    np.testing.assert_array_equal(f(a, b), want)


def test_an_array_in_use_is_not_resized() -> None:
    """The call holds what it reads, so NumPy refuses to move it from under it."""
    f: Any = el.compile(TEXT)
    a = np.ones((600, 600), np.float32)
    running = threading.Event()
    stop = threading.Event()
    wrong: list[Any] = []

    def work(array: Array) -> None:
        while not stop.is_set():
            running.set()
            result = f(array, array)
            if not (result == 600).all():
                wrong.append(result)

    thread = threading.Thread(target=work, args=(a,))
    thread.start()
    running.wait()
    for _ in range(20):
        with pytest.raises(ValueError, match="resize"):
            a.resize((10, 10))
    stop.set()
    thread.join()
    assert not wrong


# ---- operands that call back


class Asks:
    """Becomes an array by way of another einsum."""

    def __init__(self, f: Callable[..., Any], array: Array) -> None:
        self.f, self.array = f, array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        del dtype, copy
        return np.asarray(self.f(self.array, self.array))


class Breaks:
    """Becomes no array."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise RuntimeError("no array")


@pytest.mark.parametrize("way", WAYS)
def test_operands_that_call_back(way: str) -> None:
    f, a = ways()[way], numbers(3, 3)
    for _ in range(3):
        np.testing.assert_array_equal(f(Asks(f, a), a), a @ a @ a)
        with pytest.raises((RuntimeError, EinloomError), match="no array"):
            f(a, Breaks())
    np.testing.assert_array_equal(f(a, a), a @ a)


class Finaliser:
    """Calls as it goes."""

    def __init__(self, f: Callable[..., Any], seen: list[Any]) -> None:
        self.f, self.seen, self.me = f, seen, self

    def __del__(self) -> None:
        a = numbers(2, 2)
        self.seen.append((self.f(a, a) == a @ a).all())


@pytest.mark.parametrize("way", WAYS)
def test_finalisers_that_call(way: str) -> None:
    f = ways()[way]
    seen: list[Any] = []
    for n in range(1, 12):
        Finaliser(f, seen)
        gc.collect()
        a = numbers(n, n)
        np.testing.assert_array_equal(f(a, a), a @ a)
    assert seen == [True] * 11


NEIGHBOUR = """
import ctypes, numpy as np, einloom as el

WRONG = [ctypes.c_char_p] * 3
names = "PyCFunction_NewEx PyCapsule_GetPointer PyCapsule_New PyType_FromSpecWithBases Py_IncRef"

def spoil():
    for name in names.split():
        function = getattr(ctypes.pythonapi, name)
        function.argtypes, function.restype = WRONG, ctypes.c_int

a = np.random.rand(4, 4)
big = np.random.rand(1024, 1024)
spoil()
f = el.compile("ij,jk->ik", threads=2)
np.testing.assert_allclose(f(a, a), a @ a)
np.testing.assert_allclose(f(big, big), big @ big)
spoil()
for shape in ((3, 5), (2048, 700)):
    b = np.random.rand(*shape)
    np.testing.assert_allclose(f(b, b.T), b @ b.T)
    np.testing.assert_array_equal(el.einsum("ij->ji", b), b.T)
for name in names.split():
    assert getattr(ctypes.pythonapi, name).argtypes == WRONG
print("right")
"""


def test_what_others_say_of_the_functions_of_python() -> None:
    """Types that are set for functions of `ctypes.pythonapi` are seen by all who use them."""
    assert run(NEIGHBOUR).split() == ["right"]
