"""How a nest is cut into parts: LLVM IR of the function that the pool asks."""

from __future__ import annotations

CUT = """
; Into how many parts to cut each of three variables, of shape (units, elements in one) each, at
; most so many in all: those whose largest part takes least. A part of a by b by c elements counts
; as a * (b * c + packing * (b + c)).
define internal i64 @cut(ptr %shape, i64 %most, i64 %packing, ptr %grid) {
entry:
  %unit0.p = getelementptr i8, ptr %shape, i64 8
  %units1.p = getelementptr i8, ptr %shape, i64 16
  %unit1.p = getelementptr i8, ptr %shape, i64 24
  %units2.p = getelementptr i8, ptr %shape, i64 32
  %unit2.p = getelementptr i8, ptr %shape, i64 40
  %grid1 = getelementptr i8, ptr %grid, i64 8
  %grid2 = getelementptr i8, ptr %grid, i64 16
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
}

; The elements of the largest of so many parts.
define internal i64 @span(i64 %units, i64 %parts, i64 %unit) alwaysinline {
  %up = add i64 %units, %parts
  %less = sub i64 %up, 1
  %whole = udiv i64 %less, %parts
  %size = mul i64 %whole, %unit
  ret i64 %size
}
"""
