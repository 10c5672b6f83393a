"""Ahead-of-time output: what a kernel is written to a file as."""

from __future__ import annotations

import os
import shutil
import subprocess
from os import PathLike
from tempfile import TemporaryDirectory

from ...ir.errors import UnsupportedError
from .cache import write_atomically
from .header import header
from .kernel import LlvmKernel
from .runtime import complete, emit
from .target import host, named

_SUFFIXES = {
    ".ll": "LLVM IR",
    ".s": "assembly",
    ".o": "an object file",
    ".so": "a shared object",
    ".h": "the C header of the object file",
}


def save(kernel: LlvmKernel, path: str | PathLike[str], *, cpu: str | None = None) -> None:
    """Writes a kernel to a file, whole or not at all; the suffix says as what.

    `.ll` LLVM IR, `.s` assembly, `.o` object file, `.so` shared object (by the system's compiler
    or linker), `.h` the header to both. The code needs nothing but libc and libm.

    Args:
        kernel: what to write.
        path: the file; one that is there is replaced.
        cpu: the processor to compile for, by LLVM's name ("x86-64-v3"); None: this machine's.

    Raises:
        UnsupportedError: the suffix is another one; or there is nothing to link a `.so` with.
        ArgumentError: there is no such processor.
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
    target = host() if cpu is None else named(cpu)
    text = kernel.source_for(target.isa)
    if suffix == ".ll":
        write_atomically(path, complete(text, target).encode())
    elif suffix == ".s":
        write_atomically(path, emit(text, target, "assembly").encode())
    elif suffix == ".o":
        write_atomically(path, emit(text, target, "object"))
    else:
        write_atomically(path, _shared(emit(text, target, "object")), mode=0o777)


def _shared(image: bytes) -> bytes:
    """A shared object made of an object file by the system's compiler, or its linker."""
    tool = next(
        (found for name in ("cc", "gcc", "clang", "ld") if (found := shutil.which(name))), None
    )
    if tool is None:
        raise UnsupportedError(
            "a .so is made by the system's compiler (cc) or linker (ld), and there is none",
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
