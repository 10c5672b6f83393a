"""What native code depends on in this process: the processor, and the LLVM that made the code."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.util import find_spec


@cache
def identity_here() -> tuple[str, ...] | None:
    """All of it in words, found without loading LLVM; None if it cannot be."""
    description = _cpu_description()
    spec = find_spec("llvmlite")
    if not description or spec is None or spec.origin is None:
        return None
    try:
        library = os.stat(os.path.join(os.path.dirname(spec.origin), "binding", "libllvmlite.so"))
    except OSError:
        return None
    build = f"{library.st_size} {library.st_mtime_ns}"
    here = (platform.machine(), description, _running_features(), str(caches()), str(has_tiles()))
    return (*here, spec.origin, build)


@cache
def has_tiles() -> bool:
    """Whether this process may use AMX's tiles: Linux wants to be asked first, and is."""
    if platform.machine() != "x86_64" or "amx_int8" not in _cpu_description():
        return False
    from ctypes import CDLL

    ask, permission, tiles = 158, 0x1023, 18  # arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA
    return bool(CDLL(None).syscall(ask, permission, tiles) == 0)


@cache
def caches() -> tuple[int, int]:
    """Bytes of the level-1 data cache and of the level-2 cache; small ones if Linux does not say.

    Those of the first processor that this process may run on.
    """
    found = {1: 32 << 10, 2: 512 << 10}
    if not sys.platform.startswith("linux"):
        return found[1], found[2]
    folder = f"/sys/devices/system/cpu/cpu{min(os.sched_getaffinity(0))}/cache"
    for index in range(4):
        try:
            kind, level, size = (
                _text(f"{folder}/index{index}/{name}") for name in ("type", "level", "size")
            )
            if kind != "Instruction" and int(level) in found:
                found[int(level)] = int(size.removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    return found[1], found[2]


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(64).decode("ascii").strip()


def _cpu_description() -> str:
    """The lines of /proc/cpuinfo that tell one kind of processor from another ("" elsewhere)."""
    if not sys.platform.startswith("linux"):
        return ""
    telling = (
        *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
        *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
    )
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(8192).decode("latin-1").split("\n\n")[0]
    except OSError:
        return ""
    return "\n".join(line for line in first.split("\n") if line.split("\t")[0].rstrip() in telling)


def _running_features() -> str:
    """What NumPy found the processor able to do, by asking the processor itself.

    An emulator may show its own instruction set there, but the machine's in /proc/cpuinfo.
    """
    module = sys.modules.get("numpy._core._multiarray_umath")
    found: dict[str, bool] = getattr(module, "__cpu_features__", {})
    return " ".join(sorted(name for name, there in found.items() if there))
