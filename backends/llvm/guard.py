"""The native code that stands before every kernel: LLVM IR of one function that CPython calls.

It takes the arrays as CPython passes them (vectorcall), compares each with a record of the
signature, makes results or takes `out=`, and calls the kernel. What differs from one kernel to the
next is data, the block in its `self`, so this is compiled once for all (cached on disk like any).
"""

from __future__ import annotations

from .guard_any import ANY
from .guard_words import BLOCK, LEFT, NAME, QUICK, RECORD, block, compared, field, words
from .objects import BYTES, DATA, HEAD, REFERENCES, TYPE

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
# does, and over before another thread would have had its turn. All else is `.any` (guard_any.py).
#
# A kernel that has nothing to share out takes no team, and NumPy's own function that makes arrays
# no pool: by the calling conventions of all systems that layouts are known on, a function may be
# given more than it takes.
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
{field("ptr", "self.type", "self", TYPE)}
  %own = icmp eq ptr %self.type, @PyBytes_Type
  br i1 %own, label %known, label %slot
slot:
{field("ptr", "target", "self", HEAD)}
  %some = icmp ne ptr %target, null
  br i1 %some, label %kind, label %foreign
kind:
{field("ptr", "target.type", "target", TYPE)}
  %builtin = icmp eq ptr %target.type, @PyCFunction_Type
  br i1 %builtin, label %code, label %foreign
code:
{field("ptr", "definition", "target", HEAD)}
{field("ptr", "function", "definition", 8)}
{field("ptr", "target.self", "target", HEAD + 8)}
  %ours = icmp eq ptr %function, @{NAME}
  br i1 %ours, label %known, label %foreign
known:
  %bytes = phi ptr [ %self, %entry ], [ %target.self, %code ]
  %given = and i64 %passed, {(1 << 63) - 1}
  %block = getelementptr i8, ptr %bytes, i64 {BYTES}
  %records = getelementptr i64, ptr %block, i64 {len(BLOCK)}
{block("quick", "ndarray")}
  %plain = icmp eq ptr %names, null
  %given.ok = icmp eq i64 %given, %quick
  %is.quick = and i1 %plain, %given.ok
  br i1 %is.quick, label %array, label %any
array:
  %n = phi i64 [ 0, %known ], [ %n.next, %accept ]
  %record = phi ptr [ %records, %known ], [ %record.next, %accept ]
{compared(False)}
  %more = icmp slt i64 %n.next, %given
  br i1 %more, label %array, label %make
make:
{block("itself", "new")}
{words(RECORD, "record.next", "dtype", "ndim", of="made.")}
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
{field("ptr", "made.data", "made", DATA)}
  %data.last = getelementptr ptr, ptr %data, i64 %n.next
  store ptr %made.data, ptr %data.last
{block("kernel", "team", "params.at")}
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
{LEFT}
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
{field("ptr", "target", "self", HEAD)}
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
{block("otherwise")}
  call void @Py_IncRef(ptr %otherwise)
  %result = call ptr @PyObject_Vectorcall(ptr %otherwise, ptr %args, i64 %given, ptr %names)
  call void @Py_DecRef(ptr %otherwise)
  ret ptr %result
}}

{ANY}"""
