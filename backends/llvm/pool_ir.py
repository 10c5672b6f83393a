"""The native code of the pool: what a worker does, and the function that kernels call (pool.py)."""

from __future__ import annotations

from .grid import CUT

NAME = "einloom_run"

#: Linux's number of the system call futex, and how to say "this is a loop that waits", by machine.
MACHINES = {
    "x86_64": (202, "call void @llvm.x86.sse2.pause()"),
    "aarch64": (98, "call void @llvm.aarch64.hint(i32 1)"),
}

# Offsets in the pool's block; what different threads write lies in different lines of the cache.
LEFT, HELPERS, EPOCH, SLEEPERS, PENDING, WAITING = 0, 4, 64, 68, 128, 132
FN, ARG, GRID, CONTROL = 192, 200, 208, 232
BUSY, WORKERS, REFUSED, SPINS = 256, 260, 264, 268
POOL_SIZE = 320

# A team's block: what to call, the pool, how many threads, how much work is a part, how often who
# waits looks before he sleeps.
RUN, POOL, THREADS, SHORTEST, LOOKS = 0, 8, 16, 24, 32
TEAM_SIZE = 64

#: So many parts for each thread, where that costs nothing: one that other work holds up, or that is
#: on a slower core, then runs fewer of them.
FINER = 4

WAIT, WAKE = 128, 129  # private to the process


def _at(name: str, base: str, offset: int) -> str:
    return f"  %{name} = getelementptr i8, ptr %{base}, i64 {offset}"


def pool_ir(machine: str) -> str:
    """The IR text for a machine among `MACHINES`."""
    number, pause = MACHINES[machine]
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
{_at("left", "pool", LEFT)}
{_at("pending", "pool", PENDING)}
{_at("waiting", "pool", WAITING)}
{_at("fn.p", "pool", FN)}
{_at("arg.p", "pool", ARG)}
{_at("grid", "pool", GRID)}
{_at("control", "pool", CONTROL)}
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
  fence seq_cst ; for what goes past the caches
  %before = atomicrmw sub ptr %pending, i32 1 seq_cst
  %last = icmp eq i32 %before, 1
  br i1 %last, label %tell, label %look
tell:
  %sleeps = load atomic i32, ptr %waiting seq_cst, align 4
  %asleep = icmp ne i32 %sleeps, 0
  br i1 %asleep, label %wake, label %look
wake:
  %woken = {futex("%pending", WAKE, "1")}
  br label %look
none:
  ret void
}}

; Whether there is work, and a helper wanted.
define internal i1 @is_wanted(ptr %pool) alwaysinline {{
{_at("helpers", "pool", HELPERS)}
  %n = load atomic i32, ptr %pool seq_cst, align 4
  %h = load atomic i32, ptr %helpers seq_cst, align 4
  %any = icmp sgt i32 %n, 0
  %some = icmp sgt i32 %h, 0
  %both = and i1 %any, %some
  ret i1 %both
}}

define internal ptr @worker(ptr %pool) {{
entry:
{_at("helpers", "pool", HELPERS)}
{_at("epoch", "pool", EPOCH)}
{_at("sleepers", "pool", SLEEPERS)}
{_at("spins.p", "pool", SPINS)}
  br label %begin
begin:
  %spins = load atomic i32, ptr %spins.p monotonic, align 4
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
  %waited = {futex("%epoch", WAIT, "%now")}
  br label %awake
awake:
  %down = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %begin
}}

; Makes workers until there are so many, or the system refuses.
define internal i32 @start(ptr %pool, i32 %wanted) {{
entry:
{_at("workers.p", "pool", WORKERS)}
{_at("refused.p", "pool", REFUSED)}
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

{CUT}
; fn(arg, grid, part) for every part of the grid, by as many threads as the team has. `fixed`: how
; many parts there are, of the first variable; 0: as many as serve.
define void @{NAME}(ptr %team, ptr %fn, ptr %arg, ptr %shape, i64 %work, i64 %packing,
                     i64 %fixed) {{
entry:
{_at("pool.p", "team", POOL)}
{_at("threads.p", "team", THREADS)}
{_at("shortest.p", "team", SHORTEST)}
{_at("looks.p", "team", LOOKS)}
  %pool = load ptr, ptr %pool.p
{_at("busy", "pool", BUSY)}
{_at("left", "pool", LEFT)}
{_at("epoch", "pool", EPOCH)}
{_at("sleepers", "pool", SLEEPERS)}
{_at("pending", "pool", PENDING)}
{_at("waiting", "pool", WAITING)}
{_at("fn.p", "pool", FN)}
{_at("arg.p", "pool", ARG)}
{_at("grid", "pool", GRID)}
{_at("control", "pool", CONTROL)}
{_at("spins.p", "pool", SPINS)}
  %ones = alloca [3 x i64], align 8
{_at("ones1", "ones", 8)}
{_at("ones2", "ones", 16)}
{_at("helpers", "pool", HELPERS)}
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
  %each.has = select i1 %finer, i64 {FINER}, i64 1
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
  %looks = load i32, ptr %looks.p
  store atomic i32 %looks, ptr %spins.p monotonic, align 4
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
  %woken = {futex("%epoch", WAKE, "%wanted.most")}
  br label %begin
begin:
  %mine.wide = sext i32 %mine to i64
  call void %fn(ptr %arg, ptr %grid, i64 %mine.wide)
  %done.one = atomicrmw sub ptr %pending, i32 1 seq_cst
  call void @help(ptr %pool)
  br label %look
look:
  %looked = phi i32 [ 0, %begin ], [ %looked.next, %again ]
  %rest = load atomic i32, ptr %pending seq_cst, align 4
  %all = icmp eq i32 %rest, 0
  br i1 %all, label %end, label %again
again:
  {pause}
  %looked.next = add i32 %looked, 1
  %more = icmp slt i32 %looked.next, %looks
  br i1 %more, label %look, label %sleep
sleep:
  store atomic i32 1, ptr %waiting seq_cst, align 4
  br label %still
still:
  %rest.then = load atomic i32, ptr %pending seq_cst, align 4
  %all.then = icmp eq i32 %rest.then, 0
  br i1 %all.then, label %awake, label %wait
wait:
  %waited = {futex("%pending", WAIT, "%rest.then")}
  br label %still
awake:
  store atomic i32 0, ptr %waiting seq_cst, align 4
  br label %end
end:
  store atomic i32 0, ptr %busy seq_cst, align 4
  ret void
}}
"""
