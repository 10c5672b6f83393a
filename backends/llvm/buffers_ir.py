"""The native code of the buffer pool: NumPy's memory handler for large results (buffers.py)."""

from __future__ import annotations

from .objects import LARGE

NAME = "einloom_buffers"

#: What `NAME(n)` gives the address of.
FUNCTIONS = ("malloc", "calloc", "realloc", "free", "limit", "new")

# The pool's state, in 64-bit words: whether one is at it, how many bytes it may hold, and holds;
# what `new` calls; which slot is next to be emptied; how many bytes of what it holds the system has
# not been told of; then the slots, each a buffer, or null.
LOCK, LIMIT, HELD, CAPSULE, NEW_FROM_DESCR, SET_HANDLER, HAND, WARM, SLOTS = range(9)
COUNT = 16
STATE_WORDS = SLOTS + COUNT

#: Before the bytes that an array has, a buffer has so many of its own: its size, and whether it is
#: in the pool and the system has not been told.
_HEAD = 64

#: So many bytes at most are warm: the system has not been told that they are its to take. To tell
#: it, and to use them again then, takes 0.1 to 0.2 ms, a third of an exponential of 4 MB.
MOST_WARM = 64 << 20
_PAGE = 1 << 16  # the largest that a system's pages are
_HUGE_PAGES, _FREE = 14, 8  # Linux's advice: use large pages; what is in these is needed no more


def _word(name: str, number: int) -> str:
    return f"  %{name} = getelementptr i64, ptr %pool, i64 {number}"


# Nobody waits: who finds another at the pool, or a pool that a fork has caught so, goes to the C
# library. Pages of a buffer in the pool are the system's to take back (MADV_FREE), but for those of
# the buffers freed last.
BUFFERS = f"""
declare ptr @malloc(i64)
declare ptr @aligned_alloc(i64, i64)
declare void @free(ptr)
declare i32 @madvise(ptr, i64, i32)
declare void @Py_DecRef(ptr)
declare void @PyErr_Clear()
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.umin.i64(i64, i64)

define ptr @{NAME}(i64 %which) {{
  switch i64 %which, label %none [ {
    " ".join(f"i64 {n}, label %{name}" for n, name in enumerate(FUNCTIONS))
} ]
{"".join(f"{name}:{chr(10)}  ret ptr @{name}.of{chr(10)}" for name in FUNCTIONS)}none:
  ret ptr null
}}

; Whether the pool is now this thread's.
define internal i1 @enter(ptr %pool) {{
{_word("lock", LOCK)}
  %pair = cmpxchg ptr %lock, i64 0, i64 1 acquire monotonic
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  ret i1 %mine
}}

define internal void @leave(ptr %pool) {{
{_word("lock", LOCK)}
  store atomic i64 0, ptr %lock release, align 8
  ret void
}}

; Tells the system about the whole pages of a buffer.
define internal void @advise(ptr %buffer, i32 %what) {{
  %size = load i64, ptr %buffer
  %data = getelementptr i8, ptr %buffer, i64 {_HEAD}
  %from = ptrtoint ptr %data to i64
  %to = add i64 %from, %size
  %up = add i64 %from, {_PAGE - 1}
  %first = and i64 %up, {-_PAGE}
  %last = and i64 %to, {-_PAGE}
  %length = sub i64 %last, %first
  %some = icmp sgt i64 %length, 0
  br i1 %some, label %tell, label %done
tell:
  %page = inttoptr i64 %first to ptr
  %told = call i32 @madvise(ptr %page, i64 %length, i32 %what)
  br label %done
done:
  ret void
}}

; The pool holds so many bytes more.
define internal void @hold(ptr %pool, i64 %change) {{
{_word("held.p", HELD)}
  %held = load i64, ptr %held.p
  %now = add i64 %held, %change
  store i64 %now, ptr %held.p
  ret void
}}

; What leaves the pool is not warm any more.
define internal void @cool(ptr %pool, ptr %buffer) {{
  %flag = getelementptr i64, ptr %buffer, i64 1
  %is.warm = load i64, ptr %flag
  %size = load i64, ptr %buffer
  %less = mul i64 %size, %is.warm
{_word("warm.p", WARM)}
  %warm = load i64, ptr %warm.p
  %now = sub i64 %warm, %less
  store i64 %now, ptr %warm.p
  store i64 0, ptr %flag
  ret void
}}

; Tells the system of all that is warm.
define internal void @cool_all(ptr %pool) {{
entry:
{_word("slots", SLOTS)}
  br label %look
look:
  %n = phi i64 [ 0, %entry ], [ %n.next, %next ]
  %more = icmp ult i64 %n, {COUNT}
  br i1 %more, label %slot, label %done
slot:
  %slot.p = getelementptr ptr, ptr %slots, i64 %n
  %buffer = load ptr, ptr %slot.p
  %empty = icmp eq ptr %buffer, null
  br i1 %empty, label %next, label %full
full:
  %flag = getelementptr i64, ptr %buffer, i64 1
  %warm = load i64, ptr %flag
  %cold = icmp eq i64 %warm, 0
  br i1 %cold, label %next, label %tell
tell:
  call void @cool(ptr %pool, ptr %buffer)
  call void @advise(ptr %buffer, i32 {_FREE})
  br label %next
next:
  %n.next = add i64 %n, 1
  br label %look
done:
  ret void
}}

; Puts a buffer into a slot, and tells the system of what is too much to be warm.
define internal void @put(ptr %pool, ptr %slot, ptr %buffer, i64 %size) {{
  %large = icmp ugt i64 %size, {MOST_WARM}
  br i1 %large, label %tell, label %warms
tell:
  call void @advise(ptr %buffer, i32 {_FREE})
  br label %done
warms:
{_word("warm.p", WARM)}
  %warm = load i64, ptr %warm.p
  %sum = add i64 %warm, %size
  %over = icmp ugt i64 %sum, {MOST_WARM}
  br i1 %over, label %others, label %keep
others:
  call void @cool_all(ptr %pool)
  br label %keep
keep:
  %before = load i64, ptr %warm.p
  %now = add i64 %before, %size
  store i64 %now, ptr %warm.p
  %flag = getelementptr i64, ptr %buffer, i64 1
  store i64 1, ptr %flag
  br label %done
done:
  store ptr %buffer, ptr %slot
  call void @hold(ptr %pool, i64 %size)
  ret void
}}

; Frees what lies in the slot whose turn it is.
define internal void @evict(ptr %pool) {{
{_word("hand.p", HAND)}
{_word("slots", SLOTS)}
  %hand = load i64, ptr %hand.p
  %next = add i64 %hand, 1
  %next.slot = urem i64 %next, {COUNT}
  store i64 %next.slot, ptr %hand.p
  %slot = getelementptr ptr, ptr %slots, i64 %hand
  %buffer = load ptr, ptr %slot
  %empty = icmp eq ptr %buffer, null
  br i1 %empty, label %done, label %release
release:
  store ptr null, ptr %slot
  call void @cool(ptr %pool, ptr %buffer)
  %size = load i64, ptr %buffer
  %less = sub i64 0, %size
  call void @hold(ptr %pool, i64 %less)
  call void @free(ptr %buffer)
  br label %done
done:
  ret void
}}

; Frees as much as must go if there is to be room for so many bytes more.
define internal void @make_room(ptr %pool, i64 %size) {{
entry:
{_word("limit.p", LIMIT)}
{_word("held.p", HELD)}
  %limit = load i64, ptr %limit.p
  br label %look
look:
  %held = load i64, ptr %held.p
  %sum = add i64 %held, %size
  %over = icmp ugt i64 %sum, %limit
  %some = icmp ne i64 %held, 0
  %must = and i1 %over, %some
  br i1 %must, label %one, label %done
one:
  call void @evict(ptr %pool)
  br label %look
done:
  ret void
}}

; The slot that holds a buffer of this size; of size 0: that holds none. Null if there is none such.
define internal ptr @find(ptr %pool, i64 %size) {{
entry:
{_word("slots", SLOTS)}
  %any = icmp eq i64 %size, 0
  br label %look
look:
  %n = phi i64 [ 0, %entry ], [ %n.next, %next ]
  %more = icmp ult i64 %n, {COUNT}
  br i1 %more, label %slot, label %none
slot:
  %slot.p = getelementptr ptr, ptr %slots, i64 %n
  %buffer = load ptr, ptr %slot.p
  %empty = icmp eq ptr %buffer, null
  br i1 %empty, label %is.empty, label %is.full
is.empty:
  br i1 %any, label %found, label %next
is.full:
  %size.is = load i64, ptr %buffer
  %fits = icmp eq i64 %size.is, %size
  br i1 %fits, label %found, label %next
next:
  %n.next = add i64 %n, 1
  br label %look
found:
  ret ptr %slot.p
none:
  ret ptr null
}}

define internal ptr @malloc.of(ptr %pool, i64 %size) {{
entry:
  %large = icmp uge i64 %size, {LARGE}
  br i1 %large, label %ask, label %new
ask:
  %mine = call i1 @enter(ptr %pool)
  br i1 %mine, label %look, label %new
look:
  %slot = call ptr @find(ptr %pool, i64 %size)
  %none = icmp eq ptr %slot, null
  br i1 %none, label %left, label %take
left:
  call void @leave(ptr %pool)
  br label %new
take:
  %kept = load ptr, ptr %slot
  store ptr null, ptr %slot
  call void @cool(ptr %pool, ptr %kept)
  %less = sub i64 0, %size
  call void @hold(ptr %pool, i64 %less)
  call void @leave(ptr %pool)
  %kept.data = getelementptr i8, ptr %kept, i64 {_HEAD}
  ret ptr %kept.data
new:
  %whole = add i64 %size, {2 * _HEAD - 1}
  %round = and i64 %whole, {-_HEAD}
  %overflow = icmp ult i64 %round, %size
  br i1 %overflow, label %missing, label %allocate
allocate:
  %buffer = call ptr @aligned_alloc(i64 {_HEAD}, i64 %round)
  %no = icmp eq ptr %buffer, null
  br i1 %no, label %short, label %made
short:
  br i1 %large, label %short.ask, label %missing
short.ask:
  %short.mine = call i1 @enter(ptr %pool)
  br i1 %short.mine, label %short.empty, label %missing
short.empty:
{_word("limit.p", LIMIT)}
  %all = load i64, ptr %limit.p
  call void @make_room(ptr %pool, i64 %all)
  call void @leave(ptr %pool)
  %second = call ptr @aligned_alloc(i64 {_HEAD}, i64 %round)
  %second.no = icmp eq ptr %second, null
  br i1 %second.no, label %missing, label %made
made:
  %is = phi ptr [ %buffer, %allocate ], [ %second, %short.empty ]
  store i64 %size, ptr %is
  %is.warm = getelementptr i64, ptr %is, i64 1
  store i64 0, ptr %is.warm
  br i1 %large, label %huge, label %give
huge:
  call void @advise(ptr %is, i32 {_HUGE_PAGES})
  br label %give
give:
  %data = getelementptr i8, ptr %is, i64 {_HEAD}
  ret ptr %data
missing:
  ret ptr null
}}

define internal ptr @calloc.of(ptr %pool, i64 %count, i64 %each) {{
  %size = mul i64 %count, %each
  %data = call ptr @malloc.of(ptr %pool, i64 %size)
  %no = icmp eq ptr %data, null
  br i1 %no, label %done, label %clear
clear:
  call void @llvm.memset.p0.i64(ptr %data, i8 0, i64 %size, i1 false)
  br label %done
done:
  ret ptr %data
}}

define internal ptr @realloc.of(ptr %pool, ptr %data, i64 %size) {{
  %other = call ptr @malloc.of(ptr %pool, i64 %size)
  %no = icmp eq ptr %other, null
  %first = icmp eq ptr %data, null
  %nothing = or i1 %no, %first
  br i1 %nothing, label %done, label %copy
copy:
  %buffer = getelementptr i8, ptr %data, i64 {-_HEAD}
  %old = load i64, ptr %buffer
  %both = call i64 @llvm.umin.i64(i64 %old, i64 %size)
  call void @llvm.memcpy.p0.p0.i64(ptr %other, ptr %data, i64 %both, i1 false)
  call void @free.of(ptr %pool, ptr %data, i64 %old)
  br label %done
done:
  ret ptr %other
}}

; What the caller says of the size is not needed: the buffer knows it.
define internal void @free.of(ptr %pool, ptr %data, i64 %told) {{
entry:
  %nothing = icmp eq ptr %data, null
  br i1 %nothing, label %done, label %buffer
buffer:
  %is = getelementptr i8, ptr %data, i64 {-_HEAD}
  %size = load i64, ptr %is
{_word("limit.p", LIMIT)}
  %limit = load atomic i64, ptr %limit.p monotonic, align 8
  %large = icmp uge i64 %size, {LARGE}
  %fits = icmp ule i64 %size, %limit
  %keeps = and i1 %large, %fits
  br i1 %keeps, label %ask, label %release
ask:
  %mine = call i1 @enter(ptr %pool)
  br i1 %mine, label %still, label %release
still:
  ; Another may have lowered the limit meanwhile.
  %limit.now = load i64, ptr %limit.p
  %fits.now = icmp ule i64 %size, %limit.now
  br i1 %fits.now, label %keep, label %leave
leave:
  call void @leave(ptr %pool)
  br label %release
keep:
  call void @make_room(ptr %pool, i64 %size)
  br label %look
look:
  %slot = call ptr @find(ptr %pool, i64 0)
  %full = icmp eq ptr %slot, null
  br i1 %full, label %oldest, label %put
oldest:
  call void @evict(ptr %pool)
  br label %look
put:
  call void @put(ptr %pool, ptr %slot, ptr %is, i64 %size)
  call void @leave(ptr %pool)
  br label %done
release:
  call void @free(ptr %is)
  br label %done
done:
  ret void
}}

; Sets how many bytes the pool may hold, and frees the rest; whether it could.
define internal i64 @limit.of(ptr %pool, i64 %limit) {{
  %mine = call i1 @enter(ptr %pool)
  br i1 %mine, label %set, label %done
set:
{_word("limit.p", LIMIT)}
  store atomic i64 %limit, ptr %limit.p monotonic, align 8
  call void @make_room(ptr %pool, i64 0)
  call void @leave(ptr %pool)
  br label %done
done:
  %could = zext i1 %mine to i64
  ret i64 %could
}}

; NumPy's PyArray_NewFromDescr, with the pool as the handler of its memory.
define internal ptr @new.of(ptr %type, ptr %dtype, i32 %rank, ptr %shape, ptr %strides, ptr %data,
                            i32 %flags, ptr %like, ptr %pool) {{
{_word("capsule.p", CAPSULE)}
{_word("make.p", NEW_FROM_DESCR)}
{_word("set.p", SET_HANDLER)}
  %capsule = load ptr, ptr %capsule.p
  %make = load ptr, ptr %make.p
  %set = load ptr, ptr %set.p
  %before = call ptr %set(ptr %capsule)
  %no = icmp eq ptr %before, null
  br i1 %no, label %failed, label %make.it
failed:
  call void @Py_DecRef(ptr %dtype)
  ret ptr null
make.it:
  %made = call ptr %make(ptr %type, ptr %dtype, i32 %rank, ptr %shape, ptr %strides, ptr %data,
                         i32 %flags, ptr %like)
  %ours = call ptr %set(ptr %before)
  call void @Py_DecRef(ptr %before)
  %lost = icmp eq ptr %ours, null
  br i1 %lost, label %unset, label %drop
unset:
  %unmade = icmp eq ptr %made, null
  br i1 %unmade, label %done, label %clear
clear:
  call void @PyErr_Clear()
  br label %done
drop:
  call void @Py_DecRef(ptr %ours)
  br label %done
done:
  ret ptr %made
}}
"""
