"""The native code that stands before every kernel: LLVM IR of one function that CPython calls.

It takes the arrays as CPython passes them (vectorcall), compares each with a record of the
signature, makes results or takes `out=`, and calls the kernel. What differs from one kernel to the
next is data, the block in its `self`, so this is compiled once for all (cached on disk like any).
"""

from __future__ import annotations

from collections.abc import Sequence

from .objects import (
    BYTES,
    DATA,
    DTYPE,
    FLAGS,
    HEAD,
    NDIM,
    REFERENCES,
    SHAPE,
    STRIDES,
    TUPLE_ITEMS,
    TUPLE_SIZE,
    TYPE,
)

NAME = "einloom_call"

#: The words that the block begins with, pointers where so marked; then come the records, then the
#: parameters (`arrays.Bound.builtin`).
BLOCK = (
    *("quick", "bare", "*ndarray", "*itself", "*new", "*pool", "release", "*kernel", "*team"),
    *("params.at", "count", "inputs", "out", "*out.name", "*as.scalar", "*otherwise", "*spoilt"),
)

#: The words that a record begins with; then come the extents, then the strides (`arrays._record`).
RECORD = ("*dtype", "flags", "ndim", "low", "high", "plain", "overwritten")

#: More arrays than this are passed another way, for their addresses are on the stack; and so many
#: take the quick way at most, the result among them.
MOST_ARRAYS, QUICK = 64, 8


def _words(layout: Sequence[str], base: str, *names: str, of: str = "") -> str:
    """Loads words of what begins at `base`: `%dtype`, or `%out.dtype` if it is `of="out."`."""
    lines: list[str] = []
    for name in names:
        kind = "ptr" if f"*{name}" in layout else "i64"
        number = layout.index(f"*{name}" if kind == "ptr" else name)
        lines += [
            f"  %{of}{name}.p = getelementptr i64, ptr %{base}, i64 {number}",
            f"  %{of}{name} = load {kind}, ptr %{of}{name}.p",
        ]
    return "\n".join(lines)


def _block(*names: str, of: str = "") -> str:
    """Loads words of the block, where they are used: there are too few registers to keep them."""
    return _words(BLOCK, "block", *names, of=of)


def _field(kind: str, name: str, base: str, offset: int) -> str:
    return (
        f"  %{name}.p = getelementptr i8, ptr %{base}, i64 {offset}\n"
        f"  %{name} = load {kind}, ptr %{name}.p"
    )


def _compared(flags: bool) -> str:
    """Compares the array `%arg`, the `%n`th, with `%record`: to `accept`, with its address in
    `%data`, or to `miss`. Only what is written to has flags to compare.

    Extents and strides need not lie side by side: NumPy takes axes out of arrays in place. Most
    arrays are matrices.
    """
    after, looks = "axes", ""
    if flags:
        after = "flagged"
        looks = f"""\
flagged:
{_words(RECORD, "record", "flags")}
{_field("i32", "flags.narrow", "arg", FLAGS)}
  %flags.is = zext i32 %flags.narrow to i64
  %flags.has = and i64 %flags.is, %flags
  %flags.ok = icmp eq i64 %flags.has, %flags
  br i1 %flags.ok, label %axes, label %miss
"""
    return f"""
  %arg.p = getelementptr ptr, ptr %args, i64 %n
  %arg = load ptr, ptr %arg.p
{_field("ptr", "type.is", "arg", TYPE)}
  %type.ok = icmp eq ptr %type.is, %ndarray
  br i1 %type.ok, label %fields, label %miss
fields:
{_words(RECORD, "record", "dtype", "ndim")}
{_field("ptr", "dtype.is", "arg", DTYPE)}
{_field("i32", "ndim.is", "arg", NDIM)}
{_field("ptr", "shape", "arg", SHAPE)}
{_field("ptr", "strides", "arg", STRIDES)}
{_field("ptr", "pointer", "arg", DATA)}
  %data.n = getelementptr ptr, ptr %data, i64 %n
  store ptr %pointer, ptr %data.n
  %dtype.ok = icmp eq ptr %dtype.is, %dtype
  br i1 %dtype.ok, label %rank, label %miss
rank:
  %ndim.narrow = trunc i64 %ndim to i32
  %ndim.ok = icmp eq i32 %ndim.is, %ndim.narrow
  br i1 %ndim.ok, label %{after}, label %miss
{looks}axes:
  %shape.want = getelementptr i64, ptr %record, i64 {len(RECORD)}
  %strides.want = getelementptr i64, ptr %shape.want, i64 %ndim
  %record.next = getelementptr i64, ptr %strides.want, i64 %ndim
  %matrix = icmp eq i64 %ndim, 2
  br i1 %matrix, label %pairs, label %axis
pairs:
  %shape.is.2 = load <2 x i64>, ptr %shape, align 8
  %shape.want.2 = load <2 x i64>, ptr %shape.want, align 8
  %strides.is.2 = load <2 x i64>, ptr %strides, align 8
  %strides.want.2 = load <2 x i64>, ptr %strides.want, align 8
  %shape.differs = xor <2 x i64> %shape.is.2, %shape.want.2
  %strides.differ = xor <2 x i64> %strides.is.2, %strides.want.2
  %pairs.differ = or <2 x i64> %shape.differs, %strides.differ
  %pairs.all = bitcast <2 x i64> %pairs.differ to i128
  %pairs.ok = icmp eq i128 %pairs.all, 0
  br i1 %pairs.ok, label %accept, label %miss
axis:
  %a = phi i64 [ 0, %axes ], [ %a.next, %extent ]
  %a.more = icmp slt i64 %a, %ndim
  br i1 %a.more, label %extent, label %accept
extent:
  %extent.p = getelementptr i64, ptr %shape, i64 %a
  %extent.is = load i64, ptr %extent.p
  %extent.want.p = getelementptr i64, ptr %shape.want, i64 %a
  %extent.want = load i64, ptr %extent.want.p
  %extent.ok = icmp eq i64 %extent.is, %extent.want
  %stride.p = getelementptr i64, ptr %strides, i64 %a
  %stride.is = load i64, ptr %stride.p
  %stride.want.p = getelementptr i64, ptr %strides.want, i64 %a
  %stride.want = load i64, ptr %stride.want.p
  %stride.ok = icmp eq i64 %stride.is, %stride.want
  %axis.ok = and i1 %extent.ok, %stride.ok
  %a.next = add i64 %a, 1
  br i1 %axis.ok, label %axis, label %miss
accept:
  %n.next = add i64 %n, 1
"""


#: Lets go of the function that `%references` counts the holders of, last of all, and returns.
_LEFT = """
  %held.last = load i64, ptr %references
  %free = icmp eq i64 %held.last, 1
  br i1 %free, label %freed, label %stays
freed:
  call void @Py_DecRef(ptr %itself)
  ret ptr %gives
stays:
  %held.after = sub i64 %held.last, 1
  store i64 %held.after, ptr %references
  ret ptr %gives
"""

# CPython calls this as the code of a built-in function, whose `self` is the block; or as what calls
# an object (vectorcall.py), whose first slot mostly holds such a built-in function.
#
# While a call is under way others may put another function in the place of this one, which is then
# freed: when the lock is let go of, or when Python code runs. So it holds itself (the built-in
# function, which holds the rest) from before the first such place on, and lets go of itself last.
# The count of references is a word that only the thread with the lock touches; where the lower half
# is negative, CPython alone says what it means (PEP 683).
#
# Most calls are quick: of few arrays, for one result that NumPy lays out and makes as it always
# does, and over before another thread would have had its turn. All else is `.any`.
#
# A kernel that has nothing to share out takes no team, and NumPy's own function that makes arrays
# no pool: by the calling conventions of all systems that layouts are known on, a function may be
# given more than it takes.
#
# Memory that `out=` shares with an input is looked for by the bounds of both, as NumPy's
# may_share_memory does. It may be an input that is read only where it writes (ir/overwriting.py).
#
# A kernel that fails has not been seen to succeed: its results are dropped
# and the slower way goes through it all again, which says what is wrong. Not so where an input may
# have been overwritten meanwhile: that is an error.
GUARD = f"""
@_Py_NoneStruct = external global i8
@PyBytes_Type = external global i8
@PyCFunction_Type = external global i8
@PyExc_TypeError = external global ptr
@nothing = private constant [16 x i8] c"nothing to call\\00"
@calling = private constant [25 x i8] c" while calling an einsum\\00"
declare void @PyErr_SetString(ptr, ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare i32 @Py_EnterRecursiveCall(ptr)
declare void @Py_LeaveRecursiveCall()
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)

define ptr @{NAME}(ptr %self, ptr %args, i64 %passed, ptr %names) {{
entry:
  %data = alloca [{QUICK} x ptr]
{_field("ptr", "self.type", "self", TYPE)}
  %own = icmp eq ptr %self.type, @PyBytes_Type
  br i1 %own, label %known, label %slot
slot:
{_field("ptr", "target", "self", HEAD)}
  %some = icmp ne ptr %target, null
  br i1 %some, label %kind, label %foreign
kind:
{_field("ptr", "target.type", "target", TYPE)}
  %builtin = icmp eq ptr %target.type, @PyCFunction_Type
  br i1 %builtin, label %code, label %foreign
code:
{_field("ptr", "definition", "target", HEAD)}
{_field("ptr", "function", "definition", 8)}
{_field("ptr", "target.self", "target", HEAD + 8)}
  %ours = icmp eq ptr %function, @{NAME}
  br i1 %ours, label %known, label %foreign
known:
  %bytes = phi ptr [ %self, %entry ], [ %target.self, %code ]
  %given = and i64 %passed, {(1 << 63) - 1}
  %block = getelementptr i8, ptr %bytes, i64 {BYTES}
  %records = getelementptr i64, ptr %block, i64 {len(BLOCK)}
{_block("quick", "ndarray")}
  %plain = icmp eq ptr %names, null
  %given.ok = icmp eq i64 %given, %quick
  %is.quick = and i1 %plain, %given.ok
  br i1 %is.quick, label %array, label %any
array:
  %n = phi i64 [ 0, %known ], [ %n.next, %accept ]
  %record = phi ptr [ %records, %known ], [ %record.next, %accept ]
{_compared(False)}
  %more = icmp slt i64 %n.next, %given
  br i1 %more, label %array, label %make
make:
{_block("itself", "new")}
{_words(RECORD, "record.next", "dtype", "ndim", of="made.")}
  %references = getelementptr i8, ptr %itself, i64 {REFERENCES}
  %held.before = load i64, ptr %references
  %held = add i64 %held.before, 1
  store i64 %held, ptr %references
  %made.shape = getelementptr i64, ptr %record.next, i64 {len(RECORD)}
  %made.rank = trunc i64 %made.ndim to i32
  %uses = getelementptr i8, ptr %made.dtype, i64 {REFERENCES}
  %used.before = load i64, ptr %uses
  %used.low = trunc i64 %used.before to i32
  %immortal = icmp slt i32 %used.low, 0
  br i1 %immortal, label %forever, label %count
forever:
  call void @Py_IncRef(ptr %made.dtype)
  br label %made.of
count:
  %used = add i64 %used.before, 1
  store i64 %used, ptr %uses
  br label %made.of
made.of:
  %made = call ptr %new(ptr %ndarray, ptr %made.dtype, i32 %made.rank, ptr %made.shape, ptr null,
                        ptr null, i32 0, ptr null)
  %none = icmp eq ptr %made, null
  br i1 %none, label %leave, label %run
run:
{_field("ptr", "made.data", "made", DATA)}
  %data.last = getelementptr ptr, ptr %data, i64 %n.next
  store ptr %made.data, ptr %data.last
{_block("kernel", "team", "params.at")}
  %params = getelementptr i8, ptr %block, i64 %params.at
  %status = call i32 %kernel(ptr %params, ptr %data, ptr %team)
  %status.ok = icmp eq i32 %status, 0
  br i1 %status.ok, label %leave, label %failed
failed:
  call void @Py_DecRef(ptr %made)
  %slower = call ptr @{NAME}.pass(ptr %bytes, ptr %args, i64 %given, ptr null)
  br label %leave
leave:
  %gives = phi ptr [ null, %made.of ], [ %made, %run ], [ %slower, %failed ]
{_LEFT}
miss:
  %missed = musttail call ptr @{NAME}.pass(ptr %bytes, ptr %args, i64 %given, ptr %names)
  ret ptr %missed
any:
  %other = musttail call ptr @{NAME}.any(ptr %bytes, ptr %args, i64 %given, ptr %names)
  ret ptr %other
foreign:
  %called = musttail call ptr @{NAME}.foreign(ptr %self, ptr %args, i64 %passed, ptr %names)
  ret ptr %called
}}

define internal ptr @{NAME}.foreign(ptr %self, ptr %args, i64 %given, ptr %names) {{
{_field("ptr", "target", "self", HEAD)}
  %some = icmp ne ptr %target, null
  br i1 %some, label %call, label %none
call:
  %deep = call i32 @Py_EnterRecursiveCall(ptr @calling)
  %fine = icmp eq i32 %deep, 0
  br i1 %fine, label %deeper, label %refused
deeper:
  call void @Py_IncRef(ptr %target)
  %result = call ptr @PyObject_Vectorcall(ptr %target, ptr %args, i64 %given, ptr %names)
  call void @Py_DecRef(ptr %target)
  call void @Py_LeaveRecursiveCall()
  ret ptr %result
refused:
  ret ptr null
none:
  %error = load ptr, ptr @PyExc_TypeError
  call void @PyErr_SetString(ptr %error, ptr @nothing)
  ret ptr null
}}

define internal ptr @{NAME}.pass(ptr %self, ptr %args, i64 %given, ptr %names) {{
  %block = getelementptr i8, ptr %self, i64 {BYTES}
{_block("otherwise")}
  call void @Py_IncRef(ptr %otherwise)
  %result = call ptr @PyObject_Vectorcall(ptr %otherwise, ptr %args, i64 %given, ptr %names)
  call void @Py_DecRef(ptr %otherwise)
  ret ptr %result
}}

define internal ptr @{NAME}.any(ptr %self, ptr %args, i64 %given, ptr %names) {{
entry:
  %data = alloca [{MOST_ARRAYS} x ptr]
  %made = alloca [{MOST_ARRAYS} x ptr]
  %block = getelementptr i8, ptr %self, i64 {BYTES}
  %records = getelementptr i64, ptr %block, i64 {len(BLOCK)}
{_block("bare", "ndarray", "itself")}
  %references = getelementptr i8, ptr %itself, i64 {REFERENCES}
  %plain = icmp eq ptr %names, null
  br i1 %plain, label %positional, label %keyword
positional:
  %bare.ok = icmp eq i64 %given, %bare
  br i1 %bare.ok, label %start, label %miss
keyword:
{_block("inputs", "out", "out.name")}
{_field("i64", "names.size", "names", TUPLE_SIZE)}
  %one.name = icmp eq i64 %names.size, 1
  %given.ok = icmp eq i64 %given, %inputs
  %out.taken = icmp ne i64 %out, 0
  %keyword.some = and i1 %one.name, %given.ok
  %keyword.ok = and i1 %keyword.some, %out.taken
  br i1 %keyword.ok, label %name, label %miss
name:
{_field("ptr", "name.is", "names", TUPLE_ITEMS)}
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
{_compared(True)}  br label %array
accepted:
{_block("count")}
  %making = sub i64 %count, %total
  %some = icmp ne i64 %total, 0
  %made.all = icmp eq i64 %making, 0
  %writes = and i1 %some, %made.all
  br i1 %writes, label %apart, label %results
apart:
  %last = sub i64 %total, 1
{_words(RECORD, "before", "low", "high", of="out.")}
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
{_words(RECORD, "of.i", "ndim", "low", "high", "overwritten", of="i.")}
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
{_block("new", "pool")}
{_words(RECORD, "of.m", "dtype", "ndim", "plain", of="m.")}
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
{_field("ptr", "m.data", "m.is", DATA)}
  %m.place = add i64 %total, %m
  %data.m = getelementptr ptr, ptr %data, i64 %m.place
  store ptr %m.data, ptr %data.m
  %of.m.next = getelementptr i64, ptr %m.strides, i64 %m.ndim
  %m.next = add i64 %m, 1
  br label %result
run:
{_block("release", "kernel", "team", "params.at")}
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
{_block("spoilt")}
  %raised = call ptr @PyObject_Vectorcall(ptr %spoilt, ptr null, i64 0, ptr null)
  br label %leave
return:
  switch i64 %making, label %several [ i64 1, label %single
                                       i64 0, label %nothing ]
single:
  %single.is = load ptr, ptr %made
{_field("i32", "single.ndim", "single.is", NDIM)}
  %single.scalar = icmp eq i32 %single.ndim, 0
  br i1 %single.scalar, label %scalar, label %leave
scalar:
{_block("as.scalar")}
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
{_field("i32", "item.ndim", "item.is", NDIM)}
  %item.scalar = icmp eq i32 %item.ndim, 0
  br i1 %item.scalar, label %item.convert, label %item.set
item.convert:
{_block("as.scalar", of="item.")}
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
{_LEFT}
}}
"""
