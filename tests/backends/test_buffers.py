"""The buffer pool: large results in memory that others had before, and nothing else to tell."""

from __future__ import annotations

import gc
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.base import Array
from einloom.backends.llvm import buffers
from einloom.backends.llvm.buffers_ir import COUNT, HELD, LOCK, MOST_WARM, WARM
from einloom.backends.llvm.objects import LARGE, layouts_known
from einloom.ir.errors import ArgumentError, OperandError

from ..support import ROOT, in_threads

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not layouts_known(), reason="the pool is for Linux and CPython"
)

ROWS = LARGE // 4096
multiarray: Any = import_module("numpy._core.multiarray")


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    """An empty pool of the size that it has at first."""
    el.set_buffer_pool_limit(0)
    el.set_buffer_pool_limit(buffers.DEFAULT_LIMIT)
    yield
    el.set_buffer_pool_limit(0)
    el.set_buffer_pool_limit(buffers.DEFAULT_LIMIT)


def result(rows: int = ROWS, scale: float = 1.0) -> Array:
    """An array of 4096 bytes a row, whose element i, j is scale * i + j."""
    found: Array = F(np.arange(rows, dtype="f4") * np.float32(scale), COLUMNS)
    return found


COLUMNS = np.arange(1024, dtype="f4")
F = el.compile("i,j->ij", semiring="max_plus")
F(COLUMNS[:ROWS], COLUMNS)


def is_right(array: Array, scale: float = 1.0) -> bool:
    rows = np.arange(len(array), dtype="f4") * np.float32(scale)
    return bool((array == rows[:, None] + COLUMNS).all())


def handler(array: Array) -> str | None:
    found: str | None = multiarray.get_handler_name(array)
    return found


def held() -> int:
    """How many bytes the pool holds."""
    return int(pool().state[HELD])


def pool() -> Any:
    buffers.maker()
    (found,) = buffers._made
    return found


def fresh(rows: int) -> None:
    """Calls of so many rows are native from now on."""
    result(rows)
    gc.collect()


def test_large_results_come_from_the_pool_and_no_others() -> None:
    for rows, name in ((ROWS, "einloom"), (ROWS - 1, "default_allocator"), (ROWS + 7, "einloom")):
        fresh(rows)
        found = result(rows)
        assert handler(found) == name
        assert is_right(found)
        assert found.flags.owndata
    assert handler(np.empty(LARGE, "u1")) == "default_allocator"
    assert multiarray.get_handler_name() == "default_allocator"


def test_so_do_those_that_python_makes() -> None:
    """More signatures than a function has guards for."""
    rows = range(ROWS, ROWS + 12)
    for _ in range(3):
        found = [result(n) for n in rows]
        assert [handler(array) for array in found] == ["einloom"] * len(found)
        assert all(map(is_right, found))
    column_major = el.einsum("i,j->ij", COLUMNS.repeat(8), COLUMNS, order="F")
    assert column_major.flags.f_contiguous
    assert handler(column_major) == "einloom"


def test_memory_is_used_again_by_results_of_its_size_alone() -> None:
    fresh(ROWS)
    fresh(ROWS + 1)
    first = result()
    place = first.ctypes.data
    assert place % 64 == 0
    other = result(ROWS + 1)
    del first
    assert held() >= LARGE
    kept = result(ROWS + 1, 2.0)
    again = result(ROWS, 3.0)
    assert again.ctypes.data == place
    assert is_right(other)
    assert is_right(kept, 2.0)
    assert is_right(again, 3.0)


def test_what_lives_shares_nothing() -> None:
    fresh(ROWS)
    generator = random.Random(0)
    live: list[tuple[float, Array]] = []
    for step in range(40):
        if live and (len(live) > 4 or generator.random() < 0.4):
            scale, found = live.pop(generator.randrange(len(live)))
            assert is_right(found, scale)
        else:
            live.append((float(step), result(ROWS, float(step))))
    places = sorted(array.ctypes.data for _, array in live)
    assert all(b - a >= LARGE for a, b in pairwise(places))
    assert all(is_right(array, scale) for scale, array in live)


def test_it_holds_no_more_than_it_may() -> None:
    sizes = [ROWS + 64 * n for n in range(6)]
    for rows in sizes:
        fresh(rows)
    for limit in (3 * LARGE, LARGE + 300_000, LARGE - 1, 0, 8 * LARGE):
        el.set_buffer_pool_limit(limit)
        assert el.get_buffer_pool_limit() == limit
        assert held() <= limit
        several = [result(rows) for rows in sizes]
        while several:
            several.pop()
            assert held() <= limit
    assert held() == 4096 * sum(sizes)
    el.set_buffer_pool_limit(0)
    assert held() == 0


def test_more_buffers_than_slots() -> None:
    el.set_buffer_pool_limit(1 << 40)
    fresh(ROWS)
    several = [result() for _ in range(COUNT + 3)]
    while several:
        several.pop()
    assert held() == COUNT * LARGE
    assert is_right(result())


def warm() -> int:
    """How many bytes the pool holds that it has not told the system of."""
    found: int = buffers._made[0].state[WARM]
    return found


def test_the_system_may_take_what_was_not_freed_last() -> None:
    kept = [result(4 * ROWS - n) for n in range(4)]  # all of 16 MB, which may be warm
    del kept
    assert 15 * LARGE < warm() <= MOST_WARM
    for _ in range(3):
        assert is_right(result(4 * ROWS))  # is used again, and again
    assert 15 * LARGE < warm() <= MOST_WARM
    result(2 * ROWS)  # too much: of the others the system is told
    assert warm() == 2 * LARGE
    result(MOST_WARM // 4096 + 1)  # is too large to be warm
    assert warm() == 2 * LARGE
    assert is_right(result(4 * ROWS))
    assert warm() == 6 * LARGE
    el.set_buffer_pool_limit(0)
    assert warm() == 0


def test_arrays_do_what_arrays_do() -> None:
    fresh(ROWS)
    found = result()
    view = found[5:, ::2]
    del found
    assert view.base is not None
    assert is_right(view.base)
    found = result()
    found.resize((ROWS + 3, 1024), refcheck=False)
    assert is_right(found[:ROWS])
    assert not found[ROWS:].any()
    found.resize((2, 1024), refcheck=False)
    assert is_right(found)
    other = pickle.loads(pickle.dumps(result()))
    assert is_right(other)
    assert is_right(result().copy())
    with np.errstate(all="raise"):
        assert float(result().sum(dtype="f8")) > 0


def test_who_finds_another_at_the_pool_goes_without() -> None:
    fresh(ROWS)
    state = pool().state
    gc.collect()
    before = state[HELD]
    state[LOCK] = 1  # as a fork might catch it
    try:
        several = [result(ROWS, 2.0) for _ in range(3)]
        assert all(is_right(array, 2.0) for array in several)
        several.clear()
        el.set_buffer_pool_limit(0)
        assert state[HELD] == before
    finally:
        state[LOCK] = 0


def test_many_threads_at_once() -> None:
    fresh(ROWS)

    def work(number: int) -> None:
        for step in range(4):
            scale = float(8 * number + step)
            assert is_right(result(ROWS, scale), scale)

    in_threads(4, work)
    assert held() <= el.get_buffer_pool_limit()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    fresh(ROWS)
    kept = result(ROWS, 2.0)
    child = os.fork()
    if child == 0:
        right = all(is_right(result(ROWS, float(n)), float(n)) for n in range(3))
        os._exit(0 if right and is_right(kept, 2.0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_right(kept, 2.0)
    assert is_right(result())


def test_tracemalloc_sees_it_come_and_go() -> None:
    fresh(ROWS)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = result()
        assert tracemalloc.get_traced_memory()[0] - before >= LARGE
        del found
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()


SCRIPT = """
import resource, sys
import numpy as np
import einloom as el
el.set_num_threads(1)
f, a, b = el.compile("i,j->ij"), np.ones(1 << 14, "f4"), np.ones(1 << 10, "f4")
f(a, b)
{then}
"""

#: To the end of a process arrays are freed, when most else has gone; and where memory is scarce,
#: the pool's is there for who needs it.
THENS = {
    "ends": """
class Late:
    x = f(a, b)

sys.modules["late"] = Late
kept = [f(a, b), Late]
""",
    "ends in a circle": "kept = [f(a, b)]; kept.append(kept)",
    "scarce": """
several = [f(a, b) for _ in range(3)]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (80 << 20), resource.RLIM_INFINITY))
del several
c = np.ones(5 << 13, "f4")
assert (f(c, b) == 1).all()
assert (f(c, b) == 1).all()
try:
    f(np.ones(1 << 20, "f4"), b)
except MemoryError:
    pass
else:
    raise AssertionError("there was memory")
assert (f(a, b) == 1).all()
""",
}


@pytest.mark.parametrize("then", THENS)
def test_processes(then: str) -> None:
    code = SCRIPT.format(then=THENS[then])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("limit", [1.5, "1", None])
def test_what_is_no_number_of_bytes(limit: Any) -> None:
    with pytest.raises(OperandError, match="an integer"):
        el.set_buffer_pool_limit(limit)


@pytest.mark.parametrize("limit", [-1, 1 << 63])
def test_what_no_memory_has(limit: int) -> None:
    with pytest.raises(ArgumentError, match="not a number of bytes"):
        el.set_buffer_pool_limit(limit)
    assert el.get_buffer_pool_limit() == buffers.DEFAULT_LIMIT
