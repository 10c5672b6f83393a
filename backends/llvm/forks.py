"""Locks that a forked child finds open."""

from __future__ import annotations

import os
from _thread import RLock


def lock_held_over_forks() -> RLock:
    """A lock that no fork happens inside of, but for the thread's own that holds it.

    A child has only the thread that forked: a lock that another held then is shut for ever. The
    lock is re-entrant, because a signal handler or a finaliser may run while this thread holds it.
    """
    lock = RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock
