"""What threads gain: all cores beside one, and what it costs to share work out at all.

Wall time, of many rounds the least: several threads at once are what other work on the machine
disturbs first, and all that the others of a round tell is how much of it there was.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

import einloom as el
from einloom.backends.llvm.pool import Team
from einloom.backends.llvm.runtime import load
from einloom.compiler import parse

from .measure import Row, Table

SOFTMAX = """cascade softmax(X[M,N]: f32) -> Y {
  G[m] = max[n] X[m,n]
  S[m,n] = exp(X[m,n] - G[m])
  D[m] = S[m,n]
  Y[m,n] = S[m,n] / D[m]
}"""

CASES: tuple[tuple[str, str, tuple[tuple[int, ...], ...]], ...] = (
    ("matmul", "ij,jk->ik", ((1024, 1024), (1024, 1024))),
    ("matmul", "ij,jk->ik", ((256, 256), (256, 256))),
    ("contraction", "dbea,ec->abcd", ((48, 48, 24, 48), (24, 48))),
    ("contraction", "eafd,fbec->abcd", ((24, 24, 24, 24), (24, 24, 24, 24))),
    ("Gram", "ki,kj->ij", ((1 << 17, 32), (1 << 17, 32))),
    ("matrix and vector", "ij,j->i", ((4096, 4096), (4096,))),
    ("dot", "i,i->", ((1 << 22,), (1 << 22,))),
    ("permute", "abcd->dcba", ((64, 64, 64, 64),)),
    ("row softmax", SOFTMAX, ((4096, 1024),)),
)

#: A function for the pool to run that does nothing.
_NOTHING = "define void @nothing(ptr %job, ptr %grid, i64 %part) {\n  ret void\n}\n"


@contextmanager
def all_cores() -> Generator[int, None, None]:
    """This process on all cores that it is let on; how many they are."""
    if not hasattr(os, "sched_setaffinity"):
        yield os.cpu_count() or 1
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    yield len(os.sched_getaffinity(0))
    os.sched_setaffinity(0, before)


def line(name: str, text: str, shapes: Sequence[tuple[int, ...]], cores: int) -> Row:
    """One computation by one thread, by all of einloom's, and by all of the peers'."""
    rng = np.random.default_rng(0)
    operands = [rng.standard_normal(shape).astype("f4") for shape in shapes]
    one, all_of_them = (el.compile(text, threads=count) for count in (1, cores))
    result = np.asarray(one(*operands))
    assert np.asarray(all_of_them(*operands)).tobytes() == result.tobytes()
    given: dict[str, Any] = {"out": np.empty_like(result)} if result.ndim else {}
    ours = f"einloom, {cores} threads"
    contestants: dict[str, Callable[[], Any]] = {
        ours: lambda: all_of_them(*operands, **given),
        "einloom, 1 thread": lambda: one(*operands, **given),
    }
    if find_spec("torch"):
        torch: Any = import_module("torch")
        torch.set_num_threads(cores)
        tensors = [torch.from_numpy(operand) for operand in operands]
        if text is SOFTMAX:
            contestants["torch"] = lambda: torch.softmax(tensors[0], 1)
        elif len(tensors) == 1:
            term, _, output = text.partition("->")
            axes = [term.index(v) for v in output]
            contestants["torch"] = lambda: tensors[0].permute(axes).contiguous()
        else:
            contestants["torch"] = lambda: torch.einsum(text, *tensors)
    shown = parse(text).name if "{" in text else text
    seconds = least(contestants)
    title = f"{name}, `{shown}` {' '.join('x'.join(map(str, shape)) for shape in shapes)}"
    others = [other for other in contestants if other != ours]
    ratios = {f"{other} / {ours}": seconds[other] / seconds[ours] for other in others}
    return Row(title, seconds, ratios)


def least(contestants: dict[str, Callable[[], Any]], total: float = 3.0) -> dict[str, float]:
    """The least seconds of a call of each, called in turn for so long."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + total
    while time.perf_counter() < end:
        for name, call in contestants.items():
            call()  # the threads of the one before may still be looking for work
            start = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in found.items()}


def fork_and_join(cores: int, calls: int) -> Sequence[Row]:
    """Seconds that it takes to have nothing done by all threads, less those of a call alone."""
    nothing = load(_NOTHING, "nothing")
    shape = (ctypes.c_int64 * 6)(1 << 20, 1, 1, 1, 1, 1)
    teams = {name: Team(count, shortest=1) for name, count in (("one", 1), ("all", cores))}
    run_address = ctypes.c_int64.from_address(teams["one"].address).value
    words = (*[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3)
    run = ctypes.CFUNCTYPE(None, *words)(run_address)

    def seconds(name: str, pause: float) -> float:
        found: list[int] = []
        for _ in range(calls if not pause else calls // 100):
            time.sleep(pause)
            start = time.perf_counter_ns()
            run(teams[name].address, nothing.address, None, ctypes.addressof(shape), 1 << 20, 0, 0)
            found.append(time.perf_counter_ns() - start)
        return statistics.median(found) * 1e-9

    alone = {pause: seconds("one", pause) for pause in (0.0, 0.003)}
    return [
        Row(name, {"one call": seconds("all", pause) - alone[pause]})
        for name, pause in (("at once", 0.0), ("after 3 ms of sleep", 0.003))
    ]


def tables(quick: bool) -> Sequence[Table]:
    """The speed-ups, then the cost; quick: the first cases alone."""
    with all_cores() as cores:
        rows = [line(*case, cores) for case in (CASES[:2] if quick else CASES)]
        costs = fork_and_join(cores, 2_000 if quick else 20_000)
    return [
        Table(f"{cores} cores, least wall time", "ms", rows),
        Table(f"fork and join of {cores} threads", "us", costs),
    ]
