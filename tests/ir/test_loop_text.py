"""A LoopProgram's text reads back to an equal program; what is not one is refused with carets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.ir.dtypes import BOOL, C64, F32, I64, U8
from einloom.ir.errors import ParseError
from einloom.ir.infer import infer_dtypes
from einloom.ir.loop_nodes import Apply, Number, apply_dtype
from einloom.ir.loop_parser import parse_loops
from einloom.ir.loops import LoopProgram
from einloom.passes.loops.lower import LIMITS, lower
from einloom.passes.loops.schedule import Limits

from ..cascades import Sample, classic, generals, products
from ..generated import examples

TINY = Limits(
    longest=7, shared=64, unpacked=0, few=0, few_rows=2, tall=8, deep=16, wide=1, depth=16
)

TEXT = """loops f {
  size N' = A.0
  size M = 2*N'+1
  input A[N',M]: f32 unit 1
  input J[M]: u8
  output Y[N']: c64
  scratch T.copy: f32 strides (M, 1) elements (M*N'+16*Lanes, 4096)
  check 0 <= 2*i-M+1 < M over N', M
  nest Y width 32 {
    collapse N' into M where A 0 1, Y 0 0
    for i' in 0..N' step 2*Lanes once, i in i'..i'+2*Lanes below N' & 7 vector {
      %r: f32 begins add over M, N' else f32(-0.0)
      if i' {
        %r = f32(-inf)
      } else {
        %r max= A[i of N',@i64(J[i']) of M else f32(nan)] where lt(index(i), i64(3))
      }
      when lt(index(i), i64(3)) {
        T.copy[i,0] = f32(0)
      }
      T.copy[i-i',0] = select(bool(true), mul(%r, f32(0.1), f32(1e-07)), bitcast(f32, i32(-1)))
      Y[i] = c64(complex(1.0, -inf))
    }
    special N' 3, M 16 {
      past Y 4096 {
        Y[0] = c64(complex(0.0, 0.0))
      }
    }
  }
}"""


def program(sample: Sample, limits: Limits) -> LoopProgram:
    cascade = sample.cascade
    extents = cascade.extents()
    names = (*(decl.name for decl in cascade.inputs), *cascade.outputs)
    layouts = {name: len(extents[name]) - 1 if extents[name] else None for name in names}
    return lower(cascade, infer_dtypes(cascade, {}), layouts, limits)


@pytest.mark.parametrize("limits", [LIMITS, TINY], ids=["blocks", "tiny_blocks"])
@examples(25)
@given(sample=st.one_of(products(one_dtype=True), generals()))
def test_generated_programs(sample: Sample, limits: Limits) -> None:
    dtypes = infer_dtypes(sample.cascade, {}).values()
    if any(dtype.is_host_only for dtype in dtypes):
        return
    found = program(sample, limits)
    assert parse_loops(str(found)) == found
    assert str(parse_loops(str(found))) == str(found)


def test_every_construct() -> None:
    found = parse_loops(TEXT)
    assert str(found) == TEXT
    assert found.buffer("T.copy").unit == 1
    assert found.buffer("A").unit == 1
    with pytest.raises(KeyError):
        found.buffer("Z")


def test_a_blocked_product() -> None:
    cascade = classic("ij,jk->ik", "f32")
    found = program(Sample(cascade, {}), TINY)
    assert "contract Y" in str(found)
    assert parse_loops(str(found)) == found


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("loops f {", "loop f {", "loop"),
        ("width 32", "width x", "x"),
        (": f32 unit 1", ": f33 unit 1", "f33"),
        ("%r max=", "%r :=", "="),
        ("i of N',@", "i,@", "where"),
        ("mul(%r", "mul(%s", ","),
        ("mul(%r", "mull(%r", "%"),
        ("@i64(J[i'])", "@i64(K[i'])", "i'"),
        ("else f32(nan)", "else %r", "]"),
        ("unit 1\n  input J", "unit 1 $\n  input J", "$"),
        ("complex(1.0, -inf)", "complex(1, -inf)", ")"),
        ("      if i' {", "      whenever i' {", "i'"),
        ("  check 0", "  chek 0", "0"),
    ],
)
def test_what_is_not_a_program_is_refused(old: str, new: str, at: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    with pytest.raises(ParseError) as caught:
        parse_loops(text)
    assert caught.value.span is not None
    assert repr(at)[1:-1] in str(caught.value).split("\n")[0]
    assert "^" in str(caught.value)


@pytest.mark.parametrize("cut", range(0, len(TEXT), 97))
def test_a_part_of_a_program_is_refused(cut: int) -> None:
    with pytest.raises(ParseError):
        parse_loops(TEXT[:cut])
    with pytest.raises(ParseError):
        parse_loops(TEXT + " x")


def test_numbers_are_equal_as_constants_of_their_dtype() -> None:
    one: Any = 1
    assert Number(one, F32) == Number(1.0, F32)
    assert Number(0.0, F32) != Number(-0.0, F32)
    assert Number(float("nan"), F32) == Number(float("nan"), F32)
    assert Number(1, U8) != Number(1, I64)
    assert len({Number(True, BOOL), Number(1, BOOL)}) == 1


def test_an_operators_dtype() -> None:
    assert apply_dtype("lt", (F32, F32)) == BOOL
    assert apply_dtype("select", (BOOL, U8, U8)) == U8
    assert apply_dtype("abs", (C64,)) == F32
    assert Apply("add", (Number(1, U8), Number(2, U8))).dtype == U8


def test_programs_are_values() -> None:
    first = parse_loops(TEXT)
    assert hash(first) == hash(parse_loops(TEXT))
    assert replace(first, name="g") != first
