"""The threads that native code is shared out among: how many, forks, the end, many callers."""

from __future__ import annotations

import ctypes
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
from einloom.backends.llvm.runtime import load
from einloom.backends.llvm.target import host
from einloom.ir.errors import ArgumentError, OperandError
from einloom.ir.loop_parser import parse_loops
from einloom.ir.loops import ArrayAxis

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


@pytest.mark.parametrize(
    "subscripts", ["gi,ij,gj->g", "gi,ij,gj->j", "gi,ij,gj->", "ir,jr,kr->ijk"]
)
def test_what_is_done_around_a_contraction_is_shared_out(subscripts: str) -> None:
    """Sums of many elements of a tile into one: no two parts add to the same one."""
    rng = np.random.default_rng(5)
    sizes = {"g": 700, "i": 130, "j": 150, "r": 130, "k": 150}
    terms = subscripts.split("->")[0].split(",")
    arrays = [rng.integers(-3, 4, [sizes[v] for v in term]).astype(np.float64) for term in terms]
    wanted = np.einsum(subscripts, *arrays, optimize=True)
    for count in (1, 2, 5):
        np.testing.assert_array_equal(el.einsum(subscripts, *arrays, threads=count), wanted)


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


# ---- what a part needs of its caller


def test_parts_treat_denormals_as_the_caller_does() -> None:
    """A caller may have set its processor to take them for zeros; its workers then do so too."""
    if host().triple.partition("-")[0] != "x86_64":
        pytest.skip("this processor has another register for it")
    tiny = np.full(1 << 20, 1e-40, np.float32)
    f = el.compile("i,->i", threads=8)
    half, out = np.float32(0.5), np.empty_like(tiny)
    f(tiny, half, out=out)
    assert (out > 0).all()
    usual = set_control(FLUSH)
    try:
        f(tiny, half, out=out)
    finally:
        set_control(usual)
    assert (out == 0).all()
    f(tiny, half, out=out)
    assert (out > 0).all()


#: Of the register of control and status: everything masked, denormals read and written as zeros.
FLUSH = 0x9FC0

CONTROL = """
define i32 @control(i32 %new) {
  %place = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %place)
  %old = load i32, ptr %place
  store i32 %new, ptr %place
  call void @llvm.x86.sse.ldmxcsr(ptr %place)
  ret i32 %old
}
"""


def set_control(new: int) -> int:
    """Sets this thread's register; gives what it was."""
    function = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)
    code = load(CONTROL, "control")
    old: int = function(code.address)(new)
    return old


@pytest.mark.parametrize(("subscripts", "side"), [("ij,jk->ik", 400), ("ij,ij->", 1500)])
def test_saved_code_runs_on_the_thread_that_calls_it(
    subscripts: str, side: int, tmp_path: Path
) -> None:
    a, b = np.random.default_rng(4).standard_normal((2, side, side))
    f = el.compile(subscripts, shapes=[a.shape, b.shape], dtypes="f64", name="saved")
    found = np.empty_like(np.asarray(f(a, b)))
    program = parse_loops(f.steps[-1].cascade_text)
    assert program.parallels
    sizes: dict[str, int] = {}
    for size in program.sizes:
        sizes[size.name] = side if isinstance(size.source, ArrayAxis) else size.source.value(sizes)
    f.save(tmp_path / "saved.so")
    numbers = [*sizes.values(), *a.strides, *b.strides, *found.strides]
    parameters = (ctypes.c_int64 * len(numbers))(*numbers)
    arrays = (ctypes.c_void_p * 3)(*(array.ctypes.data for array in (a, b, found)))
    library = ctypes.CDLL(str(tmp_path / "saved.so"))
    assert library.packed_einloom_saved(parameters, arrays) == 0
    assert found.tobytes() == np.asarray(f(a, b)).tobytes()


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


def test_no_more_threads_are_asked_for_than_there_can_be_of_use() -> None:
    before = el.get_num_threads()
    try:
        el.set_num_threads(10**6)
        assert el.get_num_threads() == 1024
    finally:
        el.set_num_threads(before)
