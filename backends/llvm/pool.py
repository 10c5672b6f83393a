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
import sys
from functools import cache
from typing import Any

from ...ir.loops import SHORTEST_PART
from .helpers import helper
from .image import Code
from .target import host

_NAME = "einloom_run"

#: Linux's number of the system call futex, and how to say "this is a loop that waits", by machine.
_MACHINES = {
    "x86_64": (202, "call void @llvm.x86.sse2.pause()"),
    "aarch64": (98, "call void @llvm.aarch64.hint(i32 1)"),
}

# Offsets in the pool's block; what different threads write lies in different lines of the cache.
_LEFT, _HELPERS, _EPOCH, _SLEEPERS, _PENDING, _WAITING = 0, 4, 64, 68, 128, 132
_FN, _ARG, _GRID, _CONTROL = 192, 200, 208, 232
_BUSY, _WORKERS, _REFUSED, _SPINS = 256, 260, 264, 268
_SIZE = 320

# A team's block: what to call, the pool, how many threads, how much work is a part.
_RUN, _POOL, _THREADS, _SHORTEST = 0, 8, 16, 24
_TEAM_SIZE = 64

#: How often a waiting thread looks before it sleeps: some 50 us. Not at all where threads are more
#: than processors.
_LOOKS = 1500

#: So many parts for each thread, where that costs nothing: one that other work holds up, or that is
#: on a slower core, then runs fewer of them.
_FINER = 4

_WAIT, _WAKE = 128, 129  # private to the process


def _at(name: str, base: str, offset: int) -> str:
    return f"  %{name} = getelementptr i8, ptr %{base}, i64 {offset}"


def _text(machine: str) -> str:
    number, pause = _MACHINES[machine]
    floats = machine == "x86_64"

    def futex(word: str, operation: int, value: str) -> str:
        call = f"call i64 (i64, ...) @syscall(i64 {number}, ptr {word}, i32 {operation}"
        return f"{call}, i32 {value}, ptr null, ptr null, i32 0)"

    save = "call void @llvm.x86.sse.stmxcsr(ptr %control)" if floats else ""
    restore = "call void @llvm.x86.sse.ldmxcsr(ptr %control)" if floats else ""
    return f"""
declare i64 @syscall(i64, ...)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)

; Runs parts as long as there are any to claim.
define internal void @help(ptr %pool) {{
entry:
{_at("left", "pool", _LEFT)}
{_at("pending", "pool", _PENDING)}
{_at("waiting", "pool", _WAITING)}
{_at("fn.p", "pool", _FN)}
{_at("arg.p", "pool", _ARG)}
{_at("grid", "pool", _GRID)}
{_at("control", "pool", _CONTROL)}
  br label %look
look:
  %n = load atomic i32, ptr %left seq_cst, align 4
  %any = icmp sgt i32 %n, 0
  br i1 %any, label %claim, label %none
claim:
  %part = sub i32 %n, 1
  %tried = cmpxchg ptr %left, i32 %n, i32 %part seq_cst seq_cst
  %claimed = extractvalue {{ i32, i1 }} %tried, 1
  br i1 %claimed, label %run, label %look
run:
  ; The job stays as it is until every claimed part is done.
  %fn = load ptr, ptr %fn.p
  %arg = load ptr, ptr %arg.p
  %number = zext i32 %part to i64
  {restore}
  call void %fn(ptr %arg, ptr %grid, i64 %number)
  %before = atomicrmw sub ptr %pending, i32 1 seq_cst
  %last = icmp eq i32 %before, 1
  br i1 %last, label %tell, label %look
tell:
  %sleeps = load atomic i32, ptr %waiting seq_cst, align 4
  %asleep = icmp ne i32 %sleeps, 0
  br i1 %asleep, label %wake, label %look
wake:
  %woken = {futex("%pending", _WAKE, "1")}
  br label %look
none:
  ret void
}}

; Whether there is work, and a helper wanted.
define internal i1 @is_wanted(ptr %pool) alwaysinline {{
{_at("helpers", "pool", _HELPERS)}
  %n = load atomic i32, ptr %pool seq_cst, align 4
  %h = load atomic i32, ptr %helpers seq_cst, align 4
  %any = icmp sgt i32 %n, 0
  %some = icmp sgt i32 %h, 0
  %both = and i1 %any, %some
  ret i1 %both
}}

define internal ptr @worker(ptr %pool) {{
entry:
{_at("helpers", "pool", _HELPERS)}
{_at("epoch", "pool", _EPOCH)}
{_at("sleepers", "pool", _SLEEPERS)}
{_at("spins.p", "pool", _SPINS)}
  br label %begin
begin:
  %spins = load i32, ptr %spins.p
  br label %look
look:
  %looked = phi i32 [ 0, %begin ], [ %looked.next, %again ]
  %wanted = call i1 @is_wanted(ptr %pool)
  br i1 %wanted, label %offer, label %again
offer:
  %before = atomicrmw sub ptr %helpers, i32 1 seq_cst
  %taken = icmp sgt i32 %before, 0
  br i1 %taken, label %work, label %again
work:
  call void @help(ptr %pool)
  br label %begin
again:
  {pause}
  %looked.next = add i32 %looked, 1
  %more = icmp slt i32 %looked.next, %spins
  br i1 %more, label %look, label %sleep
sleep:
  %now = load atomic i32, ptr %epoch seq_cst, align 4
  %up = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %wanted.then = call i1 @is_wanted(ptr %pool)
  br i1 %wanted.then, label %awake, label %wait
wait:
  %waited = {futex("%epoch", _WAIT, "%now")}
  br label %awake
awake:
  %down = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %begin
}}

; Makes workers until there are so many, or the system refuses.
define internal i32 @start(ptr %pool, i32 %wanted) {{
entry:
{_at("workers.p", "pool", _WORKERS)}
{_at("refused.p", "pool", _REFUSED)}
  %all = alloca [128 x i8], align 8
  %old = alloca [128 x i8], align 8
  %thread = alloca i64, align 8
  %have = load i32, ptr %workers.p
  %refused = load i32, ptr %refused.p
  %enough = icmp sge i32 %have, %wanted
  %no = icmp ne i32 %refused, 0
  %done = or i1 %enough, %no
  br i1 %done, label %end, label %begin
begin:
  ; Signals go to the threads that Python knows.
  call void @llvm.memset.p0.i64(ptr %all, i8 -1, i64 128, i1 false)
  %masked = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %old)
  br label %make
make:
  %n = phi i32 [ %have, %begin ], [ %n.next, %made ]
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr %pool)
  %ok = icmp eq i32 %failed, 0
  br i1 %ok, label %made, label %refuse
made:
  %id = load i64, ptr %thread
  %detached = call i32 @pthread_detach(i64 %id)
  %n.next = add i32 %n, 1
  store i32 %n.next, ptr %workers.p
  %more = icmp slt i32 %n.next, %wanted
  br i1 %more, label %make, label %restore
refuse:
  store i32 1, ptr %refused.p
  br label %restore
restore:
  %unmasked = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  br label %end
end:
  %found = load i32, ptr %workers.p
  ret i32 %found
}}

; Into how many parts to cut each of three variables, of shape (units, elements in one) each, at
; most so many in all: those whose largest part takes least. A part of a by b by c elements counts
; as a * (b * c + packing * (b + c)).
define internal i64 @cut(ptr %shape, i64 %most, i64 %packing, ptr %grid) {{
entry:
{_at("unit0.p", "shape", 8)}
{_at("units1.p", "shape", 16)}
{_at("unit1.p", "shape", 24)}
{_at("units2.p", "shape", 32)}
{_at("unit2.p", "shape", 40)}
{_at("grid1", "grid", 8)}
{_at("grid2", "grid", 16)}
  %units0 = load i64, ptr %shape
  %unit0 = load i64, ptr %unit0.p
  %units1 = load i64, ptr %units1.p
  %unit1 = load i64, ptr %unit1.p
  %units2 = load i64, ptr %units2.p
  %unit2 = load i64, ptr %unit2.p
  %best = alloca i64, align 8
  store i64 -1, ptr %best
  %most0 = call i64 @llvm.smin.i64(i64 %most, i64 %units0)
  br label %outer
outer:
  %a = phi i64 [ %most0, %entry ], [ %a.next, %outer.next ]
  %a.some = icmp sgt i64 %a, 0
  br i1 %a.some, label %inside, label %end
inside:
  %rest = udiv i64 %most, %a
  %most1 = call i64 @llvm.smin.i64(i64 %rest, i64 %units1)
  br label %inner
inner:
  %b = phi i64 [ %most1, %inside ], [ %b.next, %inner.next ]
  %b.some = icmp sgt i64 %b, 0
  br i1 %b.some, label %try, label %outer.next
try:
  %rest2 = udiv i64 %rest, %b
  %c = call i64 @llvm.smin.i64(i64 %rest2, i64 %units2)
  %x = call i64 @span(i64 %units0, i64 %a, i64 %unit0)
  %y = call i64 @span(i64 %units1, i64 %b, i64 %unit1)
  %z = call i64 @span(i64 %units2, i64 %c, i64 %unit2)
  %face = mul i64 %y, %z
  %edge = add i64 %y, %z
  %packed = mul i64 %packing, %edge
  %one = add i64 %face, %packed
  %cost = mul i64 %x, %one
  %least = load i64, ptr %best
  %better = icmp ult i64 %cost, %least
  br i1 %better, label %take, label %inner.next
take:
  store i64 %cost, ptr %best
  store i64 %a, ptr %grid
  store i64 %b, ptr %grid1
  store i64 %c, ptr %grid2
  br label %inner.next
inner.next:
  %b.next = sub i64 %b, 1
  br label %inner
outer.next:
  %a.next = sub i64 %a, 1
  br label %outer
end:
  %found0 = load i64, ptr %grid
  %found1 = load i64, ptr %grid1
  %found2 = load i64, ptr %grid2
  %found01 = mul i64 %found0, %found1
  %found = mul i64 %found01, %found2
  ret i64 %found
}}

; The elements of the largest of so many parts.
define internal i64 @span(i64 %units, i64 %parts, i64 %unit) alwaysinline {{
  %up = add i64 %units, %parts
  %less = sub i64 %up, 1
  %whole = udiv i64 %less, %parts
  %size = mul i64 %whole, %unit
  ret i64 %size
}}

; fn(arg, grid, part) for every part of the grid, by as many threads as the team has. `fixed`: how
; many parts there are, of the first variable; 0: as many as serve.
define void @{_NAME}(ptr %team, ptr %fn, ptr %arg, ptr %shape, i64 %work, i64 %packing,
                     i64 %fixed) {{
entry:
{_at("pool.p", "team", _POOL)}
{_at("threads.p", "team", _THREADS)}
{_at("shortest.p", "team", _SHORTEST)}
  %pool = load ptr, ptr %pool.p
{_at("busy", "pool", _BUSY)}
{_at("left", "pool", _LEFT)}
{_at("epoch", "pool", _EPOCH)}
{_at("sleepers", "pool", _SLEEPERS)}
{_at("pending", "pool", _PENDING)}
{_at("waiting", "pool", _WAITING)}
{_at("fn.p", "pool", _FN)}
{_at("arg.p", "pool", _ARG)}
{_at("grid", "pool", _GRID)}
{_at("control", "pool", _CONTROL)}
{_at("spins.p", "pool", _SPINS)}
  %ones = alloca [3 x i64], align 8
{_at("ones1", "ones", 8)}
{_at("ones2", "ones", 16)}
{_at("helpers", "pool", _HELPERS)}
{_at("grid1", "grid", 8)}
{_at("grid2", "grid", 16)}
  %is.fixed = icmp ne i64 %fixed, 0
  %threads = load atomic i64, ptr %threads.p monotonic, align 8
  %shortest = load i64, ptr %shortest.p
  %worth = udiv i64 %work, %shortest
  %most = call i64 @llvm.smin.i64(i64 %threads, i64 %worth)
  %several = icmp sgt i64 %most, 1
  br i1 %several, label %enter, label %alone
alone:
  %count = call i64 @llvm.umax.i64(i64 %fixed, i64 1)
  store i64 %count, ptr %ones
  store i64 1, ptr %ones1
  store i64 1, ptr %ones2
  br label %each
each:
  %number = phi i64 [ 0, %alone ], [ %following, %each ]
  call void %fn(ptr %arg, ptr %ones, i64 %number)
  %following = add i64 %number, 1
  %each.more = icmp ult i64 %following, %count
  br i1 %each.more, label %each, label %alone.end
alone.end:
  ret void
enter:
  %tried = cmpxchg ptr %busy, i32 0, i32 1 seq_cst seq_cst
  %entered = extractvalue {{ i32, i1 }} %tried, 1
  br i1 %entered, label %share, label %alone
share:
  %most.narrow = trunc i64 %most to i32
  %wanted = sub i32 %most.narrow, 1
  %workers = call i32 @start(ptr %pool, i32 %wanted)
  %there = add i32 %workers, 1
  %there.wide = sext i32 %there to i64
  %finer = icmp eq i64 %packing, 0
  %each.has = select i1 %finer, i64 {_FINER}, i64 1
  %wished = mul i64 %there.wide, %each.has
  %now = call i64 @llvm.smin.i64(i64 %wished, i64 %worth)
  br i1 %is.fixed, label %given, label %choose
given:
  store i64 %fixed, ptr %grid
  store i64 1, ptr %grid1
  store i64 1, ptr %grid2
  br label %chosen
choose:
  %cut.parts = call i64 @cut(ptr %shape, i64 %now, i64 %packing, ptr %grid)
  br label %chosen
chosen:
  %parts.wide = phi i64 [ %fixed, %given ], [ %cut.parts, %choose ]
  %parts = trunc i64 %parts.wide to i32
  %some = icmp sgt i32 %parts, 1
  br i1 %some, label %publish, label %leave.alone
leave.alone:
  store atomic i32 0, ptr %busy seq_cst, align 4
  br label %alone
publish:
  store ptr %fn, ptr %fn.p
  store ptr %arg, ptr %arg.p
  {save}
  store atomic i32 %parts, ptr %pending seq_cst, align 4
  ; The caller takes the last part without asking.
  %mine = sub i32 %parts, 1
  %wanted.most = call i32 @llvm.smin.i32(i32 %wanted, i32 %mine)
  store atomic i32 %wanted.most, ptr %helpers seq_cst, align 4
  store atomic i32 %mine, ptr %left seq_cst, align 4
  %older = atomicrmw add ptr %epoch, i32 1 seq_cst
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %sleeping = icmp ne i32 %asleep, 0
  br i1 %sleeping, label %wake, label %begin
wake:
  %woken = {futex("%epoch", _WAKE, "%wanted.most")}
  br label %begin
begin:
  %mine.wide = sext i32 %mine to i64
  call void %fn(ptr %arg, ptr %grid, i64 %mine.wide)
  %done.one = atomicrmw sub ptr %pending, i32 1 seq_cst
  call void @help(ptr %pool)
  %spins = load i32, ptr %spins.p
  br label %look
look:
  %looked = phi i32 [ 0, %begin ], [ %looked.next, %again ]
  %rest = load atomic i32, ptr %pending seq_cst, align 4
  %all = icmp eq i32 %rest, 0
  br i1 %all, label %end, label %again
again:
  {pause}
  %looked.next = add i32 %looked, 1
  %more = icmp slt i32 %looked.next, %spins
  br i1 %more, label %look, label %sleep
sleep:
  store atomic i32 1, ptr %waiting seq_cst, align 4
  br label %still
still:
  %rest.then = load atomic i32, ptr %pending seq_cst, align 4
  %all.then = icmp eq i32 %rest.then, 0
  br i1 %all.then, label %awake, label %wait
wait:
  %waited = {futex("%pending", _WAIT, "%rest.then")}
  br label %still
awake:
  store atomic i32 0, ptr %waiting seq_cst, align 4
  br label %end
end:
  store atomic i32 0, ptr %busy seq_cst, align 4
  ret void
}}
"""


class Team:
    """So many threads of the pool, for a kernel to be given: the address of its block.

    `shortest`: how much work is a part of its own, in picoseconds.
    """

    __slots__ = ("address",)

    def __init__(self, threads: int, shortest: int = SHORTEST_PART) -> None:
        run, pool = _pool()
        self.address = _lasting(_TEAM_SIZE)
        words = {_RUN: run, _POOL: pool, _THREADS: threads, _SHORTEST: shortest}
        for offset, value in words.items():
            ctypes.c_int64.from_address(self.address + offset).value = value
        _spin(pool, threads)

    @property
    def threads(self) -> int:
        """How many threads, the caller's among them, share a kernel's work at most."""
        return ctypes.c_int64.from_address(self.address + _THREADS).value

    @threads.setter
    def threads(self, threads: int) -> None:
        ctypes.c_int64.from_address(self.address + _THREADS).value = threads
        _spin(_pool()[1], threads)


def can_share() -> bool:
    """Whether this system has what the pool is made of."""
    return sys.platform == "linux" and host().triple.partition("-")[0] in _MACHINES


def workers() -> int:
    """How many threads the pool has made in this process."""
    return ctypes.c_int32.from_address(_pool()[1] + _WORKERS).value


@cache
def _pool() -> tuple[int, int]:
    """The addresses of the function that shares work out, and of the pool's block."""
    code = helper(_text(host().triple.partition("-")[0]), _NAME)
    _keep(code)
    pool = _lasting(_SIZE)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _clear(pool))
    return code.address, pool


def _clear(pool: int) -> None:
    """In a child there are no workers, and nobody is at work but the thread that forked."""
    for offset in range(0, _SIZE, 4):
        if offset != _SPINS:
            ctypes.c_int32.from_address(pool + offset).value = 0


def _spin(pool: int, threads: int) -> None:
    looks = _LOOKS if threads <= (os.cpu_count() or 1) else 1
    ctypes.c_int32.from_address(pool + _SPINS).value = looks


def _keep(code: Code) -> None:
    """The workers run it for as long as the process lives, longer than the interpreter does."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))


def _lasting(size: int) -> int:
    """Zeroed memory, by lines of the cache, that is never freed."""
    libc: Any = ctypes.CDLL(None)
    libc.aligned_alloc.restype = ctypes.c_void_p
    libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    address = libc.aligned_alloc(64, size)
    if not address:
        raise MemoryError
    ctypes.memset(address, 0, size)
    return int(address)
