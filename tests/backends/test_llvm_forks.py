"""No fork leaves a lock shut in the child."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: A thread holds a lock, or generates code, while the process forks.
FORK_WITHOUT_LLVM = """
import os, sys, threading
from einloom.backends.llvm import cache, kernel, target

inside, leave = threading.Event(), threading.Event()

def stay():
    inside.set()
    leave.wait()

def hold(lock):
    with lock:
        stay()

def generate(program, isa):
    if program == "slow":
        stay()
    return "text"

kernel._generated = generate
target.host()
assert not target.llvm.cache_info().currsize, "the cache serves this process"
tasks = {
    "llvm": lambda: hold(target.LOCK),
    "cache": lambda: hold(cache.COUNTING),
    "source": lambda: kernel.LlvmKernel("slow").source,
}
threading.Thread(target=tasks[sys.argv[1]], daemon=True).start()
inside.wait()
threading.Timer(0.2, leave.set).start()
child = os.fork()
if child == 0:
    threading.Timer(5, os._exit, [1]).start()
    with target.LOCK, cache.COUNTING:
        os._exit(0 if kernel.LlvmKernel("quick").source == "text" else 2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("where", ["llvm", "cache", "source"])
def test_a_child_finds_no_lock_shut_though_llvm_was_never_loaded(
    tmp_path: Path, where: str
) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    warm = "from einloom.backends.llvm import kernel, target; target.host()"
    for script in (warm, FORK_WITHOUT_LLVM):
        command = [sys.executable, "-c", script, where]
        subprocess.run(command, check=True, timeout=60, env=environment)


# ---- lifetime
