"""What the machine allows: arithmetic and memory, measured in the same run as what is held to it.

Loops in native code, made as einloom makes its own: fused multiply-adds that wait for nothing,
loads that are added up, stores past the caches and into them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np

from einloom.backends.llvm.runtime import load
from einloom.backends.llvm.target import host

from .measure import timed

#: Accumulators that wait for nothing: as many as the latency and the ports of a core can use.
_CHAINS = 16

_LOOP = """
define i32 @{name}(i64 %count, i64 %mask, ptr %memory) {{
begin:
  br label %loop
loop:
  %i = phi i64 [0, %begin], [%next, %loop]
{phis}
{body}
  %next = add i64 %i, {step}
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %end
end:
{end}
  ret i32 0
}}
"""

#: Where a loop through memory is: a power of two bytes, gone through again and again.
_AT = "  %o = and i64 %i, %mask\n  %at = getelementptr i8, ptr %memory, i64 %o\n"


def _native(name: str, step: int, body: str, phis: str = "", end: str = "", rest: str = "") -> str:
    return _LOOP.format(name=name, step=step, body=body, phis=phis, end=end) + rest


def _runner(text: str, name: str) -> Callable[[int, int, int], int]:
    code = load(text, name)
    arguments = ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *arguments)(code.address)

    def run(count: int, mask: int, memory: int) -> int:
        return int(function(count, mask, memory))

    run.__dict__["code"] = code  # stays in memory as long as this function
    return run


@cache
def peak(of: str) -> float:
    """Operations a second, an addition and a multiplication each one; `of`: "f4" or "f8"."""
    element, size = {"f4": ("float", 4), "f8": ("double", 8)}[of]
    lanes = host().isa.bits // 8 // size
    vector = f"<{lanes} x {element}>"
    chains = range(_CHAINS)
    start = f"splat ({element} 1.0)"
    phis = [f"  %a{n} = phi {vector} [{start}, %begin], [%b{n}, %loop]" for n in chains]
    fma = f"@llvm.fma.v{lanes}f{8 * size}"
    body = [
        f"  %b{n} = call {vector} {fma}({vector} %a{n}, {vector} {start}, {vector} %a{n})"
        for n in chains
    ]
    ends = [
        f"  %p{n} = getelementptr i8, ptr %memory, i64 {64 * n}\n"
        f"  store {vector} %b{n}, ptr %p{n}, align 4"
        for n in chains
    ]
    declared = f"declare {vector} {fma}({vector}, {vector}, {vector})\n"
    text = _native("peak", 1, "\n".join(body), "\n".join(phis), "\n".join(ends), declared)
    run = _runner(text, "peak")
    memory = np.zeros(64 * _CHAINS, "u1")
    count = 200_000
    seconds = min(timed(lambda: run(count, 0, memory.ctypes.data), 1) for _ in range(15))
    return 2.0 * lanes * _CHAINS * count / seconds


def reading(size: int) -> float:
    """Bytes a second that are read from memory of so many bytes, gone through again and again."""
    return _reading(max(4096, 1 << (size - 1).bit_length()))


@cache
def _reading(size: int) -> float:
    chains = range(8)
    phis = [f"  %a{n} = phi <8 x i64> [zeroinitializer, %begin], [%b{n}, %loop]" for n in chains]
    body = [
        f"  %p{n} = getelementptr i8, ptr %at, i64 {64 * n}\n"
        f"  %v{n} = load <8 x i64>, ptr %p{n}, align 64\n"
        f"  %b{n} = add <8 x i64> %a{n}, %v{n}"
        for n in chains
    ]
    ends = [
        f"  %e{n} = getelementptr i8, ptr %memory, i64 {64 * n}\n"
        f"  store <8 x i64> %b{n}, ptr %e{n}, align 64"
        for n in chains
    ]
    text = _native("reading", 512, _AT + "\n".join(body), "\n".join(phis), "\n".join(ends))
    return _moved(_runner(text, "reading"), size)


def writing(size: int) -> float:
    """Bytes a second that are written to memory of so many bytes, the quicker of two ways."""
    return _writing(max(4096, 1 << (size - 1).bit_length()))


@cache
def _writing(size: int) -> float:
    found: list[float] = []
    for name, mark in (("filling", ""), ("passing", ", !nontemporal !0")):
        body = [
            f"  %p{n} = getelementptr i8, ptr %at, i64 {64 * n}\n"
            f"  store <8 x i64> splat (i64 1), ptr %p{n}, align 64{mark}"
            for n in range(8)
        ]
        rest = "!0 = !{i32 1}\n" if mark else ""
        text = _native(name, 512, _AT + "\n".join(body), rest=rest)
        found.append(_moved(_runner(text, name), size))
    return max(found)


def _moved(run: Callable[[int, int, int], int], size: int) -> float:
    """Bytes a second of a loop through memory of that size, a power of two."""
    memory = np.ones(size + 64, "u1")  # what nobody has written is one page of zeros
    start = memory.ctypes.data + -memory.ctypes.data % 64
    count = max(size, 8 << 20)
    run(size, size - 1, start)
    return count / min(timed(lambda: run(count, size - 1, start), 1) for _ in range(7))


def shortest(flops: float, read: int, written: int, of: str) -> float:
    """The seconds that no code can do with less: of arithmetic, and of moving each byte once."""
    moving = read / reading(read + written) + written / writing(read + written)
    return max(flops / peak(of), moving)


def processor_limits() -> dict[str, float]:
    """What one core can do: operations a second, and bytes through 64 MB of memory."""
    size = 64 << 20
    return {
        "GFLOP/s of f32": peak("f4") / 1e9,
        "GFLOP/s of f64": peak("f8") / 1e9,
        "GB/s read": reading(size) / 1e9,
        "GB/s written": writing(size) / 1e9,
    }
