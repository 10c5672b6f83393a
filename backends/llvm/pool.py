"""A pool of threads that kernels share their work out to: fork and join in about a microsecond.

The threads are made with `pthread_create` and run native code alone: no Python thread, no GIL, so
they neither keep the process alive nor care how the interpreter ends. One block of memory, which is
never freed, is all that they and their callers meet in:

- A caller writes down the job, then how many parts are `left` to claim. Whoever claims a part, a
  worker or the caller, takes one from `left` and runs it; the caller, out of parts, waits for those
  that others have claimed. Nobody waits for a thread that has claimed nothing: one that is late,
  or is not there at all (after a fork, or where the system refused to make it), costs no more than
  its help.
- Of the workers only as many help as the team asks for: each takes one of `helpers` first.
- A worker without work looks at `left` for some 50 us, then sleeps (futex) until `epoch` changes.
- The pool serves one caller at a time. Another that comes meanwhile, from another Python thread,
  does its work alone.

How many parts there are changes no result (ir/loops.py, Parallel).
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from typing import Any

from ...ir.errors import OutOfMemoryError
from ...ir.parts import SHORTEST_PART
from .helpers import helper
from .objects import keep_for_ever
from .pool_ir import (
    LOOKS,
    MACHINES,
    NAME,
    POOL,
    POOL_SIZE,
    RUN,
    SHORTEST,
    TEAM_SIZE,
    THREADS,
    WORKERS,
    pool_ir,
)

#: How often a waiting thread looks before it sleeps: some 50 us. Once where threads are more than
#: processors.
_LOOKS = 1500


class Team:
    """So many threads of the pool, for a kernel to be given: the address of its block.

    `shortest`: how much work is a part of its own, in picoseconds.
    """

    __slots__ = ("address",)

    def __init__(self, threads: int, shortest: int = SHORTEST_PART) -> None:
        run, pool = _pool()
        self.address = _lasting(TEAM_SIZE)
        for offset, value in ((RUN, run), (POOL, pool), (SHORTEST, shortest)):
            ctypes.c_int64.from_address(self.address + offset).value = value
        self.threads = threads

    @property
    def threads(self) -> int:
        """How many threads, the caller's among them, share a kernel's work at most."""
        return ctypes.c_int64.from_address(self.address + THREADS).value

    @threads.setter
    def threads(self, threads: int) -> None:
        looks = _LOOKS if threads <= (os.cpu_count() or 1) else 1
        for offset, value in ((THREADS, threads), (LOOKS, looks)):
            ctypes.c_int64.from_address(self.address + offset).value = value


def can_share() -> bool:
    """Whether this system has what the pool is made of."""
    return sys.platform == "linux" and platform.machine() in MACHINES


def workers() -> int:
    """How many threads the pool has made in this process."""
    return ctypes.c_int32.from_address(_pool()[1] + WORKERS).value


@cache
def _pool() -> tuple[int, int]:
    """The addresses of the function that shares work out, and of the pool's block."""
    code = helper(pool_ir(platform.machine()), NAME)
    # The workers run it for as long as the process lives, longer than the interpreter does.
    keep_for_ever(code)
    pool = _lasting(POOL_SIZE)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _clear(pool))
    return code.address, pool


def _clear(pool: int) -> None:
    """In a child there are no workers, and nobody is at work but the thread that forked."""
    ctypes.memset(pool, 0, POOL_SIZE)


def _lasting(size: int) -> int:
    """Zeroed memory, by lines of the cache, that is never freed."""
    libc: Any = ctypes.CDLL(None)
    libc.aligned_alloc.restype = ctypes.c_void_p
    libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    address = libc.aligned_alloc(64, size)
    if not address:
        raise OutOfMemoryError("there is no memory for threads")
    ctypes.memset(address, 0, size)
    return int(address)
