"""The guard's slower way in native code: any call that a kernel's arrays fit (guard.py).

It takes `out=`, makes several results, scalars, or arrays from the pool, and lets other threads
run.
"""

from __future__ import annotations

from .guard_words import BLOCK, LEFT, MOST_ARRAYS, NAME, RECORD, block, compared, field, words
from .objects import BYTES, DATA, NDIM, REFERENCES, TUPLE_ITEMS, TUPLE_SIZE

# Memory that `out=` shares with an input is looked for by the bounds of both, as NumPy's
# may_share_memory does. It may be an input that is read only where it writes (ir/overwriting.py).
#
# A kernel that fails has not been seen to succeed: its results are dropped, and the slowest way, in
# Python, goes through it all again, which says what is wrong. Not so where an input may have been
# overwritten meanwhile: that is an error.
ANY = f"""\
define internal ptr @{NAME}.any(ptr %self, ptr %args, i64 %given, ptr %names) {{
entry:
  %data = alloca [{MOST_ARRAYS} x ptr]
  %made = alloca [{MOST_ARRAYS} x ptr]
  %block = getelementptr i8, ptr %self, i64 {BYTES}
  %records = getelementptr i64, ptr %block, i64 {len(BLOCK)}
{block("bare", "ndarray", "itself")}
  %references = getelementptr i8, ptr %itself, i64 {REFERENCES}
  %plain = icmp eq ptr %names, null
  br i1 %plain, label %positional, label %keyword
positional:
  %bare.ok = icmp eq i64 %given, %bare
  br i1 %bare.ok, label %start, label %miss
keyword:
{block("inputs", "out", "out.name")}
{field("i64", "names.size", "names", TUPLE_SIZE)}
  %one.name = icmp eq i64 %names.size, 1
  %given.ok = icmp eq i64 %given, %inputs
  %out.taken = icmp ne i64 %out, 0
  %keyword.some = and i1 %one.name, %given.ok
  %keyword.ok = and i1 %keyword.some, %out.taken
  br i1 %keyword.ok, label %name, label %miss
name:
{field("ptr", "name.is", "names", TUPLE_ITEMS)}
  %name.ok = icmp eq ptr %name.is, %out.name
  %with.out = add i64 %given, 1
  br i1 %name.ok, label %start, label %miss
start:
  %total = phi i64 [ %given, %positional ], [ %with.out, %name ]
  br label %array
array:
  %n = phi i64 [ 0, %start ], [ %n.next, %accept ]
  %record = phi ptr [ %records, %start ], [ %record.next, %accept ]
  %before = phi ptr [ %records, %start ], [ %record, %accept ]
  %more = icmp slt i64 %n, %total
  br i1 %more, label %type, label %accepted
type:
{compared(True)}  br label %array
accepted:
{block("count")}
  %making = sub i64 %count, %total
  %some = icmp ne i64 %total, 0
  %made.all = icmp eq i64 %making, 0
  %writes = and i1 %some, %made.all
  br i1 %writes, label %apart, label %results
apart:
  %last = sub i64 %total, 1
{words(RECORD, "before", "low", "high", of="out.")}
  %out.data.p = getelementptr ptr, ptr %data, i64 %last
  %out.data = load ptr, ptr %out.data.p
  %out.begin = getelementptr i8, ptr %out.data, i64 %out.low
  %out.end = getelementptr i8, ptr %out.data, i64 %out.high
  br label %apart.input
apart.input:
  %i = phi i64 [ 0, %apart ], [ %i.next, %apart.look ]
  %of.i = phi ptr [ %records, %apart ], [ %of.next, %apart.look ]
  %overwrites = phi i1 [ false, %apart ], [ %overwrites.next, %apart.look ]
  %i.more = icmp slt i64 %i, %last
  br i1 %i.more, label %apart.look, label %results
apart.look:
{words(RECORD, "of.i", "ndim", "low", "high", "overwritten", of="i.")}
  %i.data.p = getelementptr ptr, ptr %data, i64 %i
  %i.data = load ptr, ptr %i.data.p
  %i.begin = getelementptr i8, ptr %i.data, i64 %i.low
  %i.end = getelementptr i8, ptr %i.data, i64 %i.high
  %begins = icmp ult ptr %i.begin, %out.end
  %ends = icmp ult ptr %out.begin, %i.end
  %some.shared = and i1 %begins, %ends
  %is.other = icmp ne ptr %i.data, %out.data
  %is.kept = icmp eq i64 %i.overwritten, 0
  %no.place = or i1 %is.other, %is.kept
  %shared = and i1 %some.shared, %no.place
  %overwrites.next = or i1 %overwrites, %some.shared
  %of.axes = getelementptr i64, ptr %of.i, i64 {len(RECORD)}
  %of.strides = getelementptr i64, ptr %of.axes, i64 %i.ndim
  %of.next = getelementptr i64, ptr %of.strides, i64 %i.ndim
  %i.next = add i64 %i, 1
  br i1 %shared, label %miss, label %apart.input
results:
  %overwritten = phi i1 [ false, %accepted ], [ %overwrites, %apart.input ]
  %held.before = load i64, ptr %references
  %held = add i64 %held.before, 1
  store i64 %held, ptr %references
  br label %result
result:
  %m = phi i64 [ 0, %results ], [ %m.next, %result.keep ]
  %of.m = phi ptr [ %record, %results ], [ %of.m.next, %result.keep ]
  %m.more = icmp slt i64 %m, %making
  br i1 %m.more, label %make, label %run
make:
{block("new", "pool")}
{words(RECORD, "of.m", "dtype", "ndim", "plain", of="m.")}
  %m.shape = getelementptr i64, ptr %of.m, i64 {len(RECORD)}
  %m.strides = getelementptr i64, ptr %m.shape, i64 %m.ndim
  %m.row.major = icmp ne i64 %m.plain, 0
  %m.given = select i1 %m.row.major, ptr null, ptr %m.strides
  %m.rank = trunc i64 %m.ndim to i32
  call void @Py_IncRef(ptr %m.dtype)
  %m.is = call ptr %new(ptr %ndarray, ptr %m.dtype, i32 %m.rank, ptr %m.shape, ptr %m.given,
                        ptr null, i32 0, ptr null, ptr %pool)
  %m.no = icmp eq ptr %m.is, null
  br i1 %m.no, label %drop, label %result.keep
result.keep:
  %made.m = getelementptr ptr, ptr %made, i64 %m
  store ptr %m.is, ptr %made.m
{field("ptr", "m.data", "m.is", DATA)}
  %m.place = add i64 %total, %m
  %data.m = getelementptr ptr, ptr %data, i64 %m.place
  store ptr %m.data, ptr %data.m
  %of.m.next = getelementptr i64, ptr %m.strides, i64 %m.ndim
  %m.next = add i64 %m, 1
  br label %result
run:
{block("release", "kernel", "team", "params.at")}
  %params = getelementptr i8, ptr %block, i64 %params.at
  %releases = icmp ne i64 %release, 0
  br i1 %releases, label %released, label %locked
locked:
  %status.locked = call i32 %kernel(ptr %params, ptr %data, ptr %team)
  br label %done
released:
  %thread = call ptr @PyEval_SaveThread()
  %status.released = call i32 %kernel(ptr %params, ptr %data, ptr %team)
  call void @PyEval_RestoreThread(ptr %thread)
  br label %done
done:
  %status = phi i32 [ %status.locked, %locked ], [ %status.released, %released ]
  %status.ok = icmp eq i32 %status, 0
  br i1 %status.ok, label %return, label %failed
failed:
  br i1 %overwritten, label %spoil, label %drop
spoil:
{block("spoilt")}
  %raised = call ptr @PyObject_Vectorcall(ptr %spoilt, ptr null, i64 0, ptr null)
  br label %leave
return:
  switch i64 %making, label %several [ i64 1, label %single
                                       i64 0, label %nothing ]
single:
  %single.is = load ptr, ptr %made
{field("i32", "single.ndim", "single.is", NDIM)}
  %single.scalar = icmp eq i32 %single.ndim, 0
  br i1 %single.scalar, label %scalar, label %leave
scalar:
{block("as.scalar")}
  %scalar.is = call ptr %as.scalar(ptr %single.is)
  br label %leave
nothing:
  br i1 %plain, label %give, label %given.out
given.out:
  %out.given.p = getelementptr ptr, ptr %args, i64 %given
  %out.is = load ptr, ptr %out.given.p
  br label %give
give:
  %back = phi ptr [ @_Py_NoneStruct, %nothing ], [ %out.is, %given.out ]
  call void @Py_IncRef(ptr %back)
  br label %leave
several:
  %tuple = call ptr @PyTuple_New(i64 %making)
  %tuple.no = icmp eq ptr %tuple, null
  br i1 %tuple.no, label %drop, label %item
item:
  %t = phi i64 [ 0, %several ], [ %t.next, %item.set ]
  %lacks = phi i1 [ false, %several ], [ %lacks.next, %item.set ]
  %t.more = icmp slt i64 %t, %making
  br i1 %t.more, label %item.make, label %full
item.make:
  %made.t = getelementptr ptr, ptr %made, i64 %t
  %item.is = load ptr, ptr %made.t
{field("i32", "item.ndim", "item.is", NDIM)}
  %item.scalar = icmp eq i32 %item.ndim, 0
  br i1 %item.scalar, label %item.convert, label %item.set
item.convert:
{block("as.scalar", of="item.")}
  %item.converted = call ptr %item.as.scalar(ptr %item.is)
  br label %item.set
item.set:
  %item.done = phi ptr [ %item.is, %item.make ], [ %item.converted, %item.convert ]
  %item.no = icmp eq ptr %item.done, null
  %lacks.next = or i1 %lacks, %item.no
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %t, ptr %item.done)
  %t.next = add i64 %t, 1
  br label %item
full:
  br i1 %lacks, label %incomplete, label %leave
incomplete:
  call void @Py_DecRef(ptr %tuple)
  br label %leave
drop:
  %retry = phi i1 [ false, %make ], [ true, %failed ], [ false, %several ]
  %drop.count = phi i64 [ %m, %make ], [ %making, %failed ], [ %making, %several ]
  br label %drop.next
drop.next:
  %d = phi i64 [ 0, %drop ], [ %d.next, %drop.one ]
  %d.more = icmp slt i64 %d, %drop.count
  br i1 %d.more, label %drop.one, label %dropped
drop.one:
  %made.d = getelementptr ptr, ptr %made, i64 %d
  %drop.is = load ptr, ptr %made.d
  call void @Py_DecRef(ptr %drop.is)
  %d.next = add i64 %d, 1
  br label %drop.next
dropped:
  br i1 %retry, label %pass, label %leave
pass:
  %passed.on = call ptr @{NAME}.pass(ptr %self, ptr %args, i64 %given, ptr %names)
  br label %leave
miss:
  %missed = musttail call ptr @{NAME}.pass(ptr %self, ptr %args, i64 %given, ptr %names)
  ret ptr %missed
leave:
  %gives = phi ptr [ %single.is, %single ], [ %scalar.is, %scalar ], [ %back, %give ],
                    [ %tuple, %full ], [ null, %incomplete ], [ null, %dropped ],
                    [ %passed.on, %pass ], [ %raised, %spoil ]
{LEFT}
}}
"""
