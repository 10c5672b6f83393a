"""What both ways of a call in native code (guard.py, guard_any.py) read, and do alike.

The block and its records of arrays are numbers, which `arrays.Bound` writes.
"""

from __future__ import annotations

from collections.abc import Sequence

from .objects import DATA, DTYPE, FLAGS, NDIM, SHAPE, STRIDES, TYPE

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


def words(layout: Sequence[str], base: str, *names: str, of: str = "") -> str:
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


def block(*names: str, of: str = "") -> str:
    """Loads words of the block, where they are used: there are too few registers to keep them."""
    return words(BLOCK, "block", *names, of=of)


def field(kind: str, name: str, base: str, offset: int) -> str:
    """Loads what lies so many bytes behind `base`, an object."""
    return (
        f"  %{name}.p = getelementptr i8, ptr %{base}, i64 {offset}\n"
        f"  %{name} = load {kind}, ptr %{name}.p"
    )


def compared(flags: bool) -> str:
    """Compares the array `%arg`, the `%n`th, with `%record`: to `accept`, with its address in
    `%data`, or to `miss`. Only what is written to has flags to compare. `accept` is left open.

    Extents and strides need not lie side by side: NumPy takes axes out of arrays in place. Most
    arrays are matrices.
    """
    after, looks = "axes", ""
    if flags:
        after = "flagged"
        looks = f"""\
flagged:
{words(RECORD, "record", "flags")}
{field("i32", "flags.narrow", "arg", FLAGS)}
  %flags.is = zext i32 %flags.narrow to i64
  %flags.has = and i64 %flags.is, %flags
  %flags.ok = icmp eq i64 %flags.has, %flags
  br i1 %flags.ok, label %axes, label %miss
"""
    return f"""
  %arg.p = getelementptr ptr, ptr %args, i64 %n
  %arg = load ptr, ptr %arg.p
{field("ptr", "type.is", "arg", TYPE)}
  %type.ok = icmp eq ptr %type.is, %ndarray
  br i1 %type.ok, label %fields, label %miss
fields:
{words(RECORD, "record", "dtype", "ndim")}
{field("ptr", "dtype.is", "arg", DTYPE)}
{field("i32", "ndim.is", "arg", NDIM)}
{field("ptr", "shape", "arg", SHAPE)}
{field("ptr", "strides", "arg", STRIDES)}
{field("ptr", "pointer", "arg", DATA)}
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
LEFT = """
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
