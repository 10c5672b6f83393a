"""Small kernels: written by hand as the code generator writes them, and from subscripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from einloom.backends.base import Array
from einloom.backends.llvm.kernel import LlvmKernel
from einloom.frontend.subscripts import parse_subscripts, to_cascade
from einloom.ir.dtypes import as_dtype
from einloom.ir.infer import infer_dtypes
from einloom.passes.loops.lower import lower

#: y[i] = a[i] + b[i], f32; parameters: the extent, then the stride in bytes of a, b and y.
ADD = """
define i32 @add(ptr %params, ptr %data) {
entry:
  %n = load i64, ptr %params
  %sa.p = getelementptr i64, ptr %params, i64 1
  %sa = load i64, ptr %sa.p
  %sb.p = getelementptr i64, ptr %params, i64 2
  %sb = load i64, ptr %sb.p
  %sy.p = getelementptr i64, ptr %params, i64 3
  %sy = load i64, ptr %sy.p
  %a = load ptr, ptr %data
  %b.p = getelementptr ptr, ptr %data, i64 1
  %b = load ptr, ptr %b.p
  %y.p = getelementptr ptr, ptr %data, i64 2
  %y = load ptr, ptr %y.p
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %exit
body:
  %oa = mul i64 %i, %sa
  %pa = getelementptr i8, ptr %a, i64 %oa
  %va = load float, ptr %pa, align 1
  %ob = mul i64 %i, %sb
  %pb = getelementptr i8, ptr %b, i64 %ob
  %vb = load float, ptr %pb, align 1
  %sum = fadd float %va, %vb
  %oy = mul i64 %i, %sy
  %py = getelementptr i8, ptr %y, i64 %oy
  store float %sum, ptr %py, align 1
  %next = add i64 %i, 1
  br label %head
exit:
  ret i32 0
}
"""


def constant(value: int) -> str:
    """A kernel that only returns a status, as wide as its number."""
    return f"""
define i32 @constant(ptr %params, ptr %data) {{
  ret i32 {value}
}}
"""


def add_parameters(*arrays: Array) -> tuple[int, ...]:
    """What ADD takes for these three arrays."""
    return (len(arrays[0]), *(array.strides[0] for array in arrays))


def floats(count: int, start: float = 0.0) -> Array:
    """start, start + 1, ..., as f32."""
    return np.arange(count, dtype=np.float32) + np.float32(start)


def kernel_of(subscripts: str, dtypes: Sequence[str], name: str = "einsum") -> LlvmKernel:
    """The kernel of classic subscripts for C-ordered arrays."""
    types = [as_dtype(dtype) for dtype in dtypes]
    cascade = to_cascade(parse_subscripts(subscripts), None, types)
    declared = infer_dtypes(
        cascade, dict(zip((decl.name for decl in cascade.inputs), types, strict=True))
    )
    extents = cascade.extents()
    names = (*(decl.name for decl in cascade.inputs), *cascade.outputs)
    layouts = {name: len(extents[name]) - 1 if extents[name] else None for name in names}
    return LlvmKernel(lower(replace(cascade, name=name), declared, layouts))
