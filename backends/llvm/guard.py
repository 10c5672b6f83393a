"""The native code that stands before every kernel: LLVM IR of one built-in function.

It takes the arrays as CPython passes them (vectorcall), compares each with a record of the
signature, makes results or takes `out=`, and calls the kernel. What differs from one kernel to the
next is data, the block in its `self`, so this is compiled once for all (cached on disk like any).
"""

from __future__ import annotations

from .objects import BYTES, DATA, DTYPE, FLAGS, NDIM, SHAPE, STRIDES, TUPLE_ITEMS, TUPLE_SIZE, TYPE

NAME = "einloom_call"


def _loads(base: str, *names: str) -> str:
    """Loads 64-bit words that follow each other from `base` on, pointers where so marked."""
    lines: list[str] = []
    for number, name in enumerate(names):
        kind, name = ("ptr", name[1:]) if name.startswith("*") else ("i64", name)
        lines += [
            f"  %{name}.p = getelementptr i64, ptr %{base}, i64 {number}",
            f"  %{name} = load {kind}, ptr %{name}.p",
        ]
    return "\n".join(lines)


def _field(kind: str, name: str, base: str, offset: int) -> str:
    return (
        f"  %{name}.p = getelementptr i8, ptr %{base}, i64 {offset}\n"
        f"  %{name} = load {kind}, ptr %{name}.p"
    )


# The block: `arrays.Bound.builtin` writes its head, then the records, then the parameters. A
# record: `arrays._record`; `Bound.HEAD` words, the extents, the strides.
#
# A kernel that has nothing to share out takes no team, and NumPy's own function that makes arrays
# no pool: by the calling conventions of all systems that layouts are known on, a function may be
# given more than it takes.
#
# Memory that `out=` shares with an input is looked for by the bounds of both, as NumPy's
# may_share_memory does. A kernel that fails has not been seen to succeed: its results are dropped
# and the slower way goes through it all again, which says what is wrong.
GUARD = f"""
@_Py_NoneStruct = external global i8
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)

define ptr @{NAME}(ptr %self, ptr %args, i64 %given, ptr %names) {{
entry:
  %block = getelementptr i8, ptr %self, i64 {BYTES}
{
    _loads(
        "block",
        *("*kernel", "*team", "inputs", "count", "release", "*otherwise", "bare", "out"),
        *("*ndarray", "*out.name", "*new", "*pool", "*as.scalar", "params.at"),
    )
}
  %records = getelementptr i64, ptr %block, i64 14
  %params = getelementptr i8, ptr %block, i64 %params.at
  %plain = icmp eq ptr %names, null
  %bare.ok = icmp eq i64 %given, %bare
  br i1 %plain, label %positional, label %keyword
positional:
  br i1 %bare.ok, label %start, label %miss
keyword:
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
  br i1 %name.ok, label %start, label %miss
start:
  %total = phi i64 [ %given, %positional ], [ %count, %name ]
  %data = alloca ptr, i64 %count
  %low = alloca ptr, i64 %count
  %high = alloca ptr, i64 %count
  br label %array
array:
  %n = phi i64 [ 0, %start ], [ %n.next, %accept ]
  %record = phi ptr [ %records, %start ], [ %record.next, %accept ]
  %more = icmp slt i64 %n, %total
  br i1 %more, label %type, label %accepted
type:
  %arg.p = getelementptr ptr, ptr %args, i64 %n
  %arg = load ptr, ptr %arg.p
{_field("ptr", "type.is", "arg", TYPE)}
  %type.ok = icmp eq ptr %type.is, %ndarray
  br i1 %type.ok, label %fields, label %miss
fields:
{_loads("record", "*dtype.want", "flags.want", "ndim.want", "low.at", "high.at")}
{_field("ptr", "dtype.is", "arg", DTYPE)}
{_field("i32", "flags.narrow", "arg", FLAGS)}
{_field("i32", "ndim.narrow", "arg", NDIM)}
{_field("ptr", "shape", "arg", SHAPE)}
{_field("ptr", "strides", "arg", STRIDES)}
  %dtype.ok = icmp eq ptr %dtype.is, %dtype.want
  %flags.is = zext i32 %flags.narrow to i64
  %flags.has = and i64 %flags.is, %flags.want
  %flags.ok = icmp eq i64 %flags.has, %flags.want
  %ndim = sext i32 %ndim.narrow to i64
  %ndim.ok = icmp eq i64 %ndim, %ndim.want
  %some.ok = and i1 %dtype.ok, %flags.ok
  %fields.ok = and i1 %some.ok, %ndim.ok
  %shape.want = getelementptr i64, ptr %record, i64 6
  %strides.want = getelementptr i64, ptr %shape.want, i64 %ndim
  br i1 %fields.ok, label %axis, label %miss
axis:
  %a = phi i64 [ 0, %fields ], [ %a.next, %extent ]
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
{_field("ptr", "pointer", "arg", DATA)}
  %data.n = getelementptr ptr, ptr %data, i64 %n
  store ptr %pointer, ptr %data.n
  %low.is = getelementptr i8, ptr %pointer, i64 %low.at
  %low.n = getelementptr ptr, ptr %low, i64 %n
  store ptr %low.is, ptr %low.n
  %high.is = getelementptr i8, ptr %pointer, i64 %high.at
  %high.n = getelementptr ptr, ptr %high, i64 %n
  store ptr %high.is, ptr %high.n
  %record.next = getelementptr i64, ptr %strides.want, i64 %ndim
  %n.next = add i64 %n, 1
  br label %array
accepted:
  br i1 %plain, label %results, label %apart
apart:
  %out.low.p = getelementptr ptr, ptr %low, i64 %inputs
  %out.low = load ptr, ptr %out.low.p
  %out.high.p = getelementptr ptr, ptr %high, i64 %inputs
  %out.high = load ptr, ptr %out.high.p
  br label %apart.input
apart.input:
  %i = phi i64 [ 0, %apart ], [ %i.next, %apart.look ]
  %i.more = icmp slt i64 %i, %inputs
  br i1 %i.more, label %apart.look, label %results
apart.look:
  %low.i.p = getelementptr ptr, ptr %low, i64 %i
  %low.i = load ptr, ptr %low.i.p
  %high.i.p = getelementptr ptr, ptr %high, i64 %i
  %high.i = load ptr, ptr %high.i.p
  %begins = icmp ult ptr %low.i, %out.high
  %ends = icmp ult ptr %out.low, %high.i
  %shared = and i1 %begins, %ends
  %i.next = add i64 %i, 1
  br i1 %shared, label %miss, label %apart.input
results:
  %making = sub i64 %count, %total
  %made = alloca ptr, i64 %making
  br label %result
result:
  %m = phi i64 [ 0, %results ], [ %m.next, %result.keep ]
  %want = phi ptr [ %record, %results ], [ %want.next, %result.keep ]
  %m.more = icmp slt i64 %m, %making
  br i1 %m.more, label %make, label %run
make:
{_loads("want", "*make.dtype", "make.flags", "make.ndim", "make.low", "make.high", "make.plain")}
  %make.shape = getelementptr i64, ptr %want, i64 6
  %make.strides = getelementptr i64, ptr %make.shape, i64 %make.ndim
  %make.row.major = icmp ne i64 %make.plain, 0
  %make.given = select i1 %make.row.major, ptr null, ptr %make.strides
  %make.rank = trunc i64 %make.ndim to i32
  call void @Py_IncRef(ptr %make.dtype)
  %result.is = call ptr %new(ptr %ndarray, ptr %make.dtype, i32 %make.rank, ptr %make.shape,
                             ptr %make.given, ptr null, i32 0, ptr null, ptr %pool)
  %result.no = icmp eq ptr %result.is, null
  br i1 %result.no, label %drop, label %result.keep
result.keep:
  %made.m = getelementptr ptr, ptr %made, i64 %m
  store ptr %result.is, ptr %made.m
{_field("ptr", "result.data", "result.is", DATA)}
  %place = add i64 %total, %m
  %data.m = getelementptr ptr, ptr %data, i64 %place
  store ptr %result.data, ptr %data.m
  %want.next = getelementptr i64, ptr %make.strides, i64 %make.ndim
  %m.next = add i64 %m, 1
  br label %result
run:
  %releases = icmp ne i64 %release, 0
  br i1 %releases, label %released, label %held
held:
  %status.held = call i32 %kernel(ptr %params, ptr %data, ptr %team)
  br label %done
released:
  %thread = call ptr @PyEval_SaveThread()
  %status.released = call i32 %kernel(ptr %params, ptr %data, ptr %team)
  call void @PyEval_RestoreThread(ptr %thread)
  br label %done
done:
  %status = phi i32 [ %status.held, %held ], [ %status.released, %released ]
  %status.ok = icmp eq i32 %status, 0
  br i1 %status.ok, label %return, label %drop
return:
  switch i64 %making, label %several [ i64 0, label %nothing
                                       i64 1, label %single ]
nothing:
  br i1 %plain, label %give, label %given.out
given.out:
  %out.given.p = getelementptr ptr, ptr %args, i64 %inputs
  %out.is = load ptr, ptr %out.given.p
  br label %give
give:
  %back = phi ptr [ @_Py_NoneStruct, %nothing ], [ %out.is, %given.out ]
  call void @Py_IncRef(ptr %back)
  ret ptr %back
single:
  %single.is = load ptr, ptr %made
  %single.done = call ptr @finished(ptr %single.is, ptr %as.scalar)
  ret ptr %single.done
several:
  %tuple = call ptr @PyTuple_New(i64 %making)
  %tuple.no = icmp eq ptr %tuple, null
  br i1 %tuple.no, label %drop, label %item
item:
  %t = phi i64 [ 0, %several ], [ %t.next, %item.set ]
  %lacks = phi i1 [ false, %several ], [ %lacks.next, %item.set ]
  %t.more = icmp slt i64 %t, %making
  br i1 %t.more, label %item.set, label %full
item.set:
  %made.t = getelementptr ptr, ptr %made, i64 %t
  %item.is = load ptr, ptr %made.t
  %item.done = call ptr @finished(ptr %item.is, ptr %as.scalar)
  %item.no = icmp eq ptr %item.done, null
  %lacks.next = or i1 %lacks, %item.no
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %t, ptr %item.done)
  %t.next = add i64 %t, 1
  br label %item
full:
  br i1 %lacks, label %incomplete, label %complete
complete:
  ret ptr %tuple
incomplete:
  call void @Py_DecRef(ptr %tuple)
  br label %error
drop:
  %retry = phi i1 [ false, %make ], [ true, %done ], [ false, %several ]
  %drop.count = phi i64 [ %m, %make ], [ %making, %done ], [ %making, %several ]
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
  br i1 %retry, label %miss, label %error
miss:
  %passed.on = call ptr @PyObject_Vectorcall(ptr %otherwise, ptr %args, i64 %given, ptr %names)
  ret ptr %passed.on
error:
  ret ptr null
}}

define internal ptr @finished(ptr %array, ptr %as.scalar) {{
{_field("i32", "ndim", "array", NDIM)}
  %scalar = icmp eq i32 %ndim, 0
  br i1 %scalar, label %convert, label %keep
convert:
  %converted = call ptr %as.scalar(ptr %array)
  ret ptr %converted
keep:
  ret ptr %array
}}
"""
