"""`wait=False`: NumPy answers while a thread compiles; at every moment the answers are right."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom import api, background, entry, records, specialisation
from einloom.backends.base import Array
from einloom.compilation import Compilation
from einloom.ir.errors import ArgumentError, OperandError, RankError
from einloom.tiers import like

MEANWHILE = "llvm: it is being compiled"
ARGMAX = "cascade best(X[M,P]: f32) -> Y, I {\n  Y[p], I[p] = max[m] X[m,p]\n}"

A = np.arange(12, dtype=np.float32).reshape(3, 4)
B = np.arange(20, dtype=np.float32).reshape(4, 5)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Native code is made from when this is set; and nothing has been called or recorded."""
    gate = threading.Event()
    bind = Compilation._bind

    def gated(self: Compilation, backend: str, *args: Any) -> Any:
        if backend == "llvm":
            assert threading.current_thread() is not threading.main_thread()
            assert gate.wait(50)
        return bind(self, backend, *args)

    def nowhere() -> None:
        return None

    monkeypatch.setattr(Compilation, "_bind", gated)
    monkeypatch.setattr(records, "_here", nowhere)
    monkeypatch.setattr(entry, "_calls", {})
    monkeypatch.setattr(entry, "_inline", {})
    monkeypatch.setattr(api, "_compilations", {})
    monkeypatch.setattr(specialisation, "_fallbacks", type(specialisation._fallbacks)())
    yield gate
    gate.set()
    finish()


def finish() -> None:
    """Until the background has nothing left to do."""
    worker = background._worker
    if worker is not None:
        worker.join(50)
        assert not worker.is_alive()


def counted() -> int:
    return el.fallbacks().get(MEANWHILE, 0)


def test_numpy_answers_until_it_is_compiled(gate: threading.Event) -> None:
    f: Any = el.compile("ij,jk->ik", wait=False)
    for number in range(1, 4):
        np.testing.assert_array_equal(f(A, B), A @ B)
        assert counted() == number
    assert f._inline._guarded == []
    gate.set()
    finish()
    for _ in range(3):
        np.testing.assert_array_equal(f(A, B), A @ B)
    assert counted() == 3
    assert len(f._inline._guarded) == 1


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("ij,jk->ik", (A, B), {}),
    ("ij,jk->ik", (A.tolist(), B), {}),
    ("ij,jk->ik", (A.astype(">f4"), B), {}),
    ("ij,jk->ik", (A, B), {"dtype": "f8", "order": "F"}),
    ("ij,jk->ik", (A, B), {"out": np.empty((3, 5))}),
    ("ij,ij->", (A[::-1], A), {}),
    ("ij,jk->ik", (A, B), {"semiring": "max_plus", "sizes": {}}),
    ("ij->ji", (A,), {}),  # a view: nothing is compiled
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_einsum_answers_too(number: int, gate: threading.Event) -> None:
    text, operands, options = CALLS[number]
    expected = el.einsum(text, *operands, **options, backend="numpy")
    for _ in range(2):
        for _ in range(2):
            found = el.einsum(text, *operands, **options, wait=False)
            assert type(found) is type(expected)
            assert found.dtype == expected.dtype
            assert getattr(found, "strides", ()) == getattr(expected, "strides", ())
            np.testing.assert_array_equal(found, expected)
        gate.set()
        finish()
    assert counted() == (0 if text == "ij->ji" else 2)


def test_several_outputs_and_out(gate: threading.Event) -> None:
    f: Any = el.compile(ARGMAX, wait=False)
    for _ in range(2):
        out: Any = np.empty(4, np.float32), np.empty(4, np.int64)
        assert f(A, out=out) is out
        for values, places in (f(A), out):
            np.testing.assert_array_equal(values, A.max(0))
            np.testing.assert_array_equal(places, A.argmax(0))
        gate.set()
        finish()
    assert counted() == 2


def test_mistakes_are_told_at_once(gate: threading.Event) -> None:
    f: Any = el.compile("ij,jk->ik", wait=False)
    with pytest.raises(RankError, match="extent 4"):
        f(A, A)
    with pytest.raises(RankError, match="extent 4"):
        el.einsum("ij,jk->ik", A, A, wait=False)
    with pytest.raises(OperandError, match="must be an array"):
        el.compile(ARGMAX, wait=False)(A, out=[1, 2])


def test_what_cannot_be_compiled_numpy_goes_on_with(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    bind = Compilation._bind

    def failing(self: Compilation, backend: str, *args: Any) -> Any:
        if backend == "llvm":
            raise MemoryError("no memory for LLVM\nnone at all")
        return bind(self, backend, *args)

    monkeypatch.setattr(Compilation, "_bind", failing)
    f: Any = el.compile("ij,jk->ik", wait=False)
    np.testing.assert_array_equal(f(A, B), A @ B)
    finish()
    before = counted()
    for number in range(1, 4):
        np.testing.assert_array_equal(f(A, B), A @ B)
        assert el.fallbacks()["llvm: no memory for LLVM"] == number
    assert counted() == before


def test_many_threads_at_once(gate: threading.Event) -> None:
    f: Any = el.compile("ij,jk->ik", wait=False)
    wrong: list[object] = []
    start = threading.Barrier(9)
    right = A @ B

    def work(extent: int) -> None:
        start.wait()
        for number in range(200):
            columns = 1 + (extent + number) % 5
            found = f(A, B[:, :columns])
            other = el.einsum("ij,jk->ik", A, B[:, :columns], wait=False)
            if not np.array_equal(found, right[:, :columns]) or not np.array_equal(found, other):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    gate.set()
    for thread in threads:
        thread.join(50)
    finish()
    assert not wrong
    before = counted()
    np.testing.assert_array_equal(f(A, B), right)
    assert counted() == before


@pytest.mark.parametrize(
    "array",
    [A, A.T, A[::-1, ::2], A[:0], A[:, :0].T, np.float32(3) * np.ones(()), A[1:1, ::-1]],
)
def test_like(array: Array) -> None:
    for each in (array, np.broadcast_to(array[..., None], (*array.shape, 3))):
        made = like(each)
        assert (made.dtype, made.shape, made.strides) == (each.dtype, each.shape, each.strides)
        assert not np.may_share_memory(made, each)
        made.copy()  # all of it is memory of its own


def test_wait_is_a_truth() -> None:
    call: Any = el.compile
    with pytest.raises(OperandError, match="wait="):
        call("ij,jk->ik", wait=1)
    with pytest.raises(OperandError, match="wait="):
        el.einsum("ij,jk->ik", A, B, wait="no")
    with pytest.raises(ArgumentError, match="takes no wait="):
        call("ij,jk->ik", backend="ckks", shapes=[(2, 2), (2, 2)], wait=False)


def run(script: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")


_ENDING = """
import numpy, einloom
from einloom.backends.llvm import cache
cache.configure(None)
for n in range(1, 12):
    x = numpy.ones((n, 3), "f4")
    y = einloom.einsum("ij,ij,ij->" + "ij"[n % 2], x, x, x, wait=False)
    assert y.tolist() == [3.0] * n if n % 2 == 0 else [n] * 3
print("done")
"""


def test_a_process_may_end_while_it_compiles() -> None:
    assert run(_ENDING) == ["done", ""]


_FORKING = """
import os, sys, time, warnings
import numpy, einloom
from einloom import background
from einloom.backends.llvm import cache
from einloom.compilation import Compilation

warnings.simplefilter("ignore")
cache.configure(None)
bind = Compilation._bind

def gated(self, backend, *args):
    while backend == "llvm" and not os.path.exists(sys.argv[1]):
        time.sleep(0.001)
    return bind(self, backend, *args)

Compilation._bind = gated
x = numpy.arange(12.0).reshape(3, 4)
f = einloom.compile("ij,kj->ik", wait=False)

def right():
    return numpy.array_equal(f(x, x), x @ x.T)

assert right()
child = os.fork()
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), right())
else:
    assert right()
    open(sys.argv[1], "w").close()
    for _ in range(1000):
        assert right()
        if f._inline._guarded:
            os._exit(7)
        time.sleep(0.01)
    os._exit(1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_compiles_for_itself(tmp_path: Any) -> None:
    assert run(_FORKING, str(tmp_path / "open")) == ["7 True", ""]
