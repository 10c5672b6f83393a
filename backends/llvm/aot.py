"""Ahead-of-time output: what a kernel is written to a file as."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from tempfile import TemporaryDirectory

from ...ir.errors import ArgumentError, UnsupportedError
from .cache import write_atomically
from .codegen import entry_name
from .header import header
from .isa import ASKED_FOR
from .kernel import LlvmKernel
from .module import module
from .runtime import complete, emit
from .target import LOCK, Target, host, is_native, llvm, named
from .variants import LEVELS, combined

_SUFFIXES = {
    ".ll": "LLVM IR",
    ".s": "assembly",
    ".o": "an object file",
    ".so": "a shared object",
    ".h": "the C header of the object file",
    ".py": "a Python module that needs NumPy alone",
}

_LINKERS: tuple[str, ...] = ("cc", "gcc", "clang", "ld")


def save(
    kernel: LlvmKernel, path: str | PathLike[str], *, cpu: str | Sequence[str] | None = None
) -> None:
    """Writes a kernel to a file, whole or not at all; the suffix says as what.

    `.ll` LLVM IR, `.s` assembly, `.o` object file, `.so` shared object (by the system's compiler
    or linker), `.h` the header to both. The code needs nothing but libc and libm. `.py` a Python
    module with the shared object in it, which needs NumPy alone.

    Args:
        kernel: what to write.
        path: the file; one that is there is replaced.
        cpu: the processor to compile for, by LLVM's name ("x86-64-v3", "neoverse-n1"); None: this
            machine's. Several levels of x86-64 ("x86-64-v4", "x86-64-v3", "x86-64"): code for each,
            of which the first call chooses the highest that the processor has. That is also what
            None means for a `.py` on x86-64.

    Raises:
        UnsupportedError: the suffix is another one; there is nothing to link a `.so` with; or LLVM
            was built without the architecture.
        ArgumentError: there is no such processor, or it is no level.
        OSError: the file cannot be written.
    """
    suffix = os.path.splitext(path)[1]
    if suffix not in _SUFFIXES:
        raise UnsupportedError(
            f"the llvm backend does not write {suffix or 'a file without a suffix'}",
            passed=(str(path),),
            hint="; ".join(f"{known} is {what}" for known, what in _SUFFIXES.items()),
        )
    if suffix == ".h":
        write_atomically(path, header(kernel.program).encode())
        return
    if suffix == ".py":
        cpu = _portable(cpu)
    text, target = _code(kernel, cpu)
    if suffix == ".py":
        machine = target.triple.split("-")[0]
        built_for = cpu if isinstance(cpu, str) else ", ".join(cpu or (target.cpu,))
        library = _shared(text, target)
        made = module(kernel.program, library, sys.platform, machine, built_for)
        write_atomically(path, made.encode())
    elif suffix == ".ll":
        write_atomically(path, complete(text, target).encode())
    elif suffix == ".s":
        write_atomically(path, emit(text, target, "assembly").encode())
    elif suffix == ".o":
        write_atomically(path, emit(text, target, "object"))
    else:
        write_atomically(path, _shared(text, target), mode=0o777)


def _portable(cpu: str | Sequence[str] | None) -> str | Sequence[str] | None:
    """For a module that finds out by itself whether the processor can run it, where that can be."""
    if cpu is None and is_native(named(LEVELS[0])):
        return [LEVELS[3], LEVELS[2], LEVELS[0]]
    return [cpu] if isinstance(cpu, str) and cpu in LEVELS else cpu


def _code(kernel: LlvmKernel, cpu: str | Sequence[str] | None) -> tuple[str, Target]:
    """The IR, and what the parts of it that name no processor are compiled for."""
    if cpu is None or isinstance(cpu, str):
        target = host() if cpu is None else named(cpu)
        isa = target.isa  # what a process must ask for is left out
        return kernel.source_for(replace(isa, features=isa.features - ASKED_FOR)), target
    levels = sorted(set(cpu), key=lambda level: (level not in LEVELS, level))
    if not levels or levels[-1] not in LEVELS:
        raise ArgumentError(
            "a file with code for several processors has it for levels of x86-64",
            passed=(f"cpu={list(cpu)!r}",),
            hint=f"some of {', '.join(LEVELS)}",
        )
    base = named(LEVELS[0])
    if not is_native(base):
        raise UnsupportedError("code that asks CPUID is written on an x86-64 machine only")
    texts = {level: kernel.source_for(named(level).isa) for level in levels}
    with LOCK:
        llvm().initialize_native_asmparser()  # CPUID is inline assembly
    return combined(texts, entry_name(kernel.program)), base


def _shared(text: str, target: Target) -> bytes:
    """A shared object, made of an object file by the system's compiler, or its linker."""
    image = emit(text, target, "object")
    names = _LINKERS
    if not is_native(target):
        architecture = target.triple.split("-")[0]
        names = tuple(f"{architecture}-linux-gnu-{name}" for name in ("gcc", "ld"))
    tool = next((found for name in names if (found := shutil.which(name))), None)
    if tool is None:
        raise UnsupportedError(
            f"a .so is made by the system's compiler ({names[0]}) or linker ({names[-1]}), "
            "and there is none",
            hint="install one, or save a .o",
        )
    with TemporaryDirectory(prefix="einloom-") as folder:
        before, after = os.path.join(folder, "kernel.o"), os.path.join(folder, "kernel.so")
        with open(before, "wb") as file:
            file.write(image)
        done = subprocess.run(
            [tool, "-shared", "-o", after, before, "-lm"],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            raise UnsupportedError(
                f"{tool} made no shared object", deduced=done.stderr.strip().split("\n")
            )
        with open(after, "rb") as file:
            return file.read()
