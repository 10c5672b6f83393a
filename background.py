"""One background thread, for what calls need not wait for.

It lives only while there is something to do. A process that ends waits for the job at hand and no
longer; in a child that was forked the jobs that were not done are started again when `go_on` is
called.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from einloom.backends.llvm.forks import lock_held_over_forks

#: Held while a job is taken or added. Not while one is done.
_LOCK = lock_held_over_forks()

#: What is to be done, the first of them perhaps being done now. A job raises nothing.
_jobs: deque[Callable[[], None]] = deque()
_worker: threading.Thread | None = None


def submit(job: Callable[[], None]) -> None:
    """Has a job done in the background, after those that were submitted before."""
    with _LOCK:
        _jobs.append(job)
    go_on()


def go_on() -> None:
    """Starts the thread, if there is something to do and none that does it."""
    global _worker
    with _LOCK:
        if _jobs and _worker is None:
            # No daemon: one that is inside LLVM when the interpreter ends would end it badly.
            worker = threading.Thread(target=_work, name="einloom-compile", daemon=False)
            _worker = worker
            try:
                worker.start()
            except RuntimeError:  # the interpreter is ending, or the system has no more threads
                _worker = None


def _work() -> None:
    global _worker
    while True:
        with _LOCK:
            if not _jobs or not threading.main_thread().is_alive():
                _worker = None
                return
            job = _jobs[0]
        job()
        with _LOCK:
            _jobs.popleft()


def _forked() -> None:
    global _worker
    _worker = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
