"""How many threads share the work of native code: the setting, and the teams that follow it."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ...ir.errors import ArgumentError, OperandError
from .forks import lock_held_over_forks
from .pool import Team, can_share

#: The environment variable that has the number, for who starts the process.
VARIABLE = "EINLOOM_NUM_THREADS"

#: More threads than any processor has begin for nothing, and take seconds to.
_MOST = 1 << 10

_lock = lock_held_over_forks()
_teams: dict[int | None, Team] = {}
_setting: list[int] = []


def get_num_threads() -> int:
    """How many threads share the work of native code, the caller's among them, unless a call says.

    From the start it is what the environment variable EINLOOM_NUM_THREADS says, else
    OMP_NUM_THREADS, else as many as there are processors that this process may use: those of its
    affinity, and of its share where a control group limits that.

    Raises:
        ArgumentError: EINLOOM_NUM_THREADS is not a number from 1 on.
    """
    if not _setting:
        with _lock:
            if not _setting:
                _setting.append(_from_environment() or available())
    return _setting[0]


def set_num_threads(threads: int) -> None:
    """Sets how many threads share the work of native code, for all calls that do not say.

    More than 1024 are taken for 1024. What has been compiled follows at once; results stay the
    same, bit for bit.

    Raises:
        OperandError: it is no integer.
        ArgumentError: it is less than 1.
    """
    threads = checked(threads)
    with _lock:
        _setting[:] = [threads]
        if None in _teams:
            _teams[None].threads = threads


def checked(threads: Any) -> int:
    """A number of threads that a caller gave.

    Raises:
        OperandError, ArgumentError: as `set_num_threads`.
    """
    try:
        if isinstance(threads, bool):
            raise TypeError
        number = operator.index(threads)
    except TypeError:
        raise OperandError(f"a number of threads is an integer, not {threads!r}") from None
    if number < 1:
        raise ArgumentError(
            f"there must be at least one thread (got {number})",
            hint="threads=1 is the calling thread alone",
        )
    return min(number, _MOST)


def team(threads: int | None) -> int:
    """The address of a team of so many threads for a kernel; None: as the setting is. 0: none."""
    if threads == 1 or not can_share():
        return 0
    with _lock:
        if threads not in _teams:
            _teams[threads] = Team(get_num_threads() if threads is None else threads)
        return _teams[threads].address


@cache
def available() -> int:
    """The number of processors that this process may use."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        count = os.cpu_count() or 1
    groups: list[str] = []
    with suppress(OSError):
        groups = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    allowed = quota(groups, Path("/sys/fs/cgroup"))
    return max(1, count if allowed is None else min(count, allowed))


def quota(groups: Sequence[str], root: Path) -> int | None:
    """How many processors' time the control groups allow, rounded up; None: any.

    `groups`: the lines of /proc/self/cgroup; `root`: where version 2's tree of groups lies.
    """
    least: int | None = None
    for line in groups:
        number, _, path = line.split(":", 2)
        if number != "0":  # version 1
            continue
        place = root / path.strip("/")
        for group in (place, *place.parents):
            with suppress(OSError, ValueError):
                limit, period = (group / "cpu.max").read_text("ascii").split()
                if limit != "max":
                    found = -(-int(limit) // int(period))
                    least = found if least is None else min(least, found)
            if group == root:
                break
    return least


def _from_environment() -> int | None:
    given = os.environ.get(VARIABLE)
    if given is not None:
        if not given.strip().isdecimal() or int(given) < 1:
            raise ArgumentError(f"{VARIABLE} must be a number from 1 on (got {given!r})")
        return min(int(given), _MOST)
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(first), _MOST) if first.isdecimal() and int(first) > 0 else None
