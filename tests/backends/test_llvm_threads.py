"""The threads that native code is shared out among: how many, forks, the end, many callers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.llvm import threads
from einloom.backends.llvm.pool import can_share, workers
from einloom.ir.errors import ArgumentError, OperandError

pytestmark = pytest.mark.skipif(not can_share(), reason="this system has no pool")

#: Large enough for two parts and more.
SIZE = 256


@pytest.fixture(autouse=True)
def same_setting_afterwards() -> Iterator[None]:
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def operands() -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((SIZE, SIZE)), rng.standard_normal((SIZE, SIZE))


def run_script(script: str, **environment: str) -> str:
    """What a Python process prints."""
    known = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**known, **environment},
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


# ---- how many


def test_workers_help_and_the_result_is_the_same() -> None:
    a, b = operands()
    wanted = el.einsum("ij,jk->ik", a, b, threads=1)
    for count in (2, 3, 8):
        assert el.einsum("ij,jk->ik", a, b, threads=count).tobytes() == wanted.tobytes()
    np.testing.assert_allclose(wanted, a @ b, rtol=1e-10, atol=1e-10)
    assert workers() >= 1


def test_the_setting_holds_for_what_is_compiled_already() -> None:
    a, b = operands()
    el.set_num_threads(1)
    f = el.compile("ij,jk->ik")
    wanted = f(a, b)
    counts: list[Any] = [2, np.int64(5), 1]
    for count in counts:
        el.set_num_threads(count)
        assert el.get_num_threads() == count
        assert f(a, b).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("wrong", [True, 1.0, "2", [1]])
def test_what_is_no_integer_is_refused(wrong: Any) -> None:
    for call in (
        lambda: el.set_num_threads(wrong),
        lambda: el.einsum("i->", [1.0], threads=wrong),
        lambda: el.compile("i->", threads=wrong),
    ):
        with pytest.raises(OperandError, match="a number of threads is an integer, not"):
            call()


@pytest.mark.parametrize("wrong", [0, -1])
def test_what_is_less_than_one_is_refused(wrong: int) -> None:
    for call in (
        lambda: el.set_num_threads(wrong),
        lambda: el.einsum("i->", [1.0], threads=wrong),
        lambda: el.compile("i->", threads=wrong),
    ):
        with pytest.raises(ArgumentError, match=rf"at least one thread \(got {wrong}\)"):
            call()


def test_encrypted_work_takes_no_threads() -> None:
    with pytest.raises(el.EinloomError, match="threads"):
        el.compile("i,i->", backend="ckks", shapes=[(4,), (4,)], threads=2)


def test_numpy_takes_the_keyword() -> None:
    assert el.einsum("i,i->", [1.0, 2.0], [3.0, 4.0], backend="numpy", threads=2) == 11.0


ASK = "import einloom as el; print(el.get_num_threads())"


def test_the_environment_says_how_many() -> None:
    assert run_script(ASK, EINLOOM_NUM_THREADS="3", OMP_NUM_THREADS="2") == "3"
    assert run_script(ASK, OMP_NUM_THREADS="2,1") == "2"
    alone = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    assert run_script(alone + ASK, OMP_NUM_THREADS="many") == "1"


@pytest.mark.parametrize("wrong", ["0", "-1", "two", ""])
def test_an_environment_that_says_no_number_is_an_error(wrong: str) -> None:
    script = f"""
import einloom as el
try:
    {ASK.rpartition(";")[2].strip()}
except el.EinloomError as error:
    print(error.message)
"""
    found = run_script(script, EINLOOM_NUM_THREADS=wrong)
    assert found == f"EINLOOM_NUM_THREADS must be a number from 1 on (got {wrong!r})"


def test_a_control_group_limits_it(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "a" / "cpu.max").write_text("250000 100000\n")
    (inner / "cpu.max").write_text("400000 100000\n")
    lines = ["1:name=systemd:/a", "0::/a/b"]
    assert threads.quota(lines, tmp_path) == 3
    assert threads.quota(["0::/"], tmp_path) is None
    assert threads.quota([], tmp_path) is None


# ---- many callers, forks, the end


def test_many_python_threads_at_once() -> None:
    el.set_num_threads(8)
    a, b = operands()
    f, g = el.compile("ij,jk->ik"), el.compile("ij->ji")
    large = np.arange(1 << 20, dtype=np.float64).reshape(1024, 1024)
    wanted, turned = f(a, b).tobytes(), large.T.tobytes()

    def call(_: int) -> bool:
        found: tuple[bytes, bytes] = f(a, b).tobytes(), g(large).tobytes()
        return found == (wanted, turned)

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(call, range(100)))


CALL = """
import ctypes, os, sys, threading
import numpy as np
import einloom as el
from einloom.backends.llvm.pool import workers

el.set_num_threads(4)
a = np.arange(1 << 20, dtype=np.float64).reshape(1024, 1024)
y = np.empty_like(a)
f = el.compile("ij,ij->ij")

def right():
    y.fill(0)
    f(a, a, out=y)
    return bool((y == a * a).all())
"""


def test_a_child_makes_workers_of_its_own() -> None:
    script = """
assert right() and workers() >= 1
child = os.fork()
if child == 0:
    none = workers() == 0
    os._exit(0 if none and right() and workers() >= 1 and right() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert right()
"""
    run_script(CALL + script)


def test_a_child_that_python_knows_nothing_of_does_the_work_alone() -> None:
    """Its workers are gone, and nothing has said so."""
    script = """
assert right() and workers() >= 1
child = ctypes.CDLL(None).fork()
if child == 0:
    os._exit(0 if right() and right() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    run_script(CALL + script)


def test_forks_while_others_are_at_work() -> None:
    script = """
assert right()  # what it imports is there: Python's own locks of imports do not outlive a fork
stop = threading.Event()

def work():
    z = np.empty_like(a)
    while not stop.is_set():
        f(a, a, out=z)

others = [threading.Thread(target=work) for _ in range(3)]
for other in others:
    other.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(0 if right() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
for other in others:
    other.join()
"""
    run_script(CALL + script)


def test_workers_do_not_keep_the_process_alive() -> None:
    assert run_script(CALL + "print(right())") == "True"
    assert run_script(CALL + "print(right()); sys.stdout.flush(); os._exit(0)") == "True"


def test_the_process_may_end_while_threads_are_at_work() -> None:
    script = """
def work():
    z = np.empty_like(a)
    while True:
        f(a, a, out=z)

print(right())
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
"""
    assert run_script(CALL + script) == "True"


def test_where_the_system_makes_no_threads_the_work_is_done_without() -> None:
    """There is no address space left for another stack."""
    script = """
import resource

el.set_num_threads(1)
right()
el.set_num_threads(4)
pages = int(open("/proc/self/statm").read().split()[0])
room = pages * os.sysconf("SC_PAGE_SIZE") + (4 << 20)
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (room, hard))
f(a, a, out=y)
f(a, a, out=y)
count = workers()
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
print(count, bool((y == a * a).all()))
"""
    assert run_script(CALL + script) == "0 True"
