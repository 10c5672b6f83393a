"""A SlotProgram: its text, what the verifier refuses, what it computes, what is counted."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest

from einloom.ir.errors import ArgumentError, EinloomError, LevelError, ParseError, SlotError
from einloom.ir.layouts import Array
from einloom.ir.slot_counts import count
from einloom.ir.slot_executor import each_value, execute, packed_inputs
from einloom.ir.slot_parser import parse_slots
from einloom.ir.slot_verify import show_scale, trace
from einloom.ir.slots import PlainVector, SlotOp, boxes_of

TEXT = """slots f in 8 levels 2 {
  input A: [4] in 8: d0 4:1 rest any
  input B: plain [2,2]
  plain 0 = B{0<-0+2:1<-2, 2<-1+2:1<-2}
  plain 1 = -0.5 * ones{1+2:2} * B{1<-3}
  plain 2 = complex(0.0,1.5)
  %1, %2 = rotate %0 by 1, -1
  %3 = mul_plain %1, plain 0
  %4 = mul_plain %2, plain 1
  %5 = sub %3, %4
  %6 = rescale %5
  %7 = mul %0, %2
  %8 = relinearize %7
  %9 = rescale %8
  %10 = mul_plain %9, plain 2 like %6
  %11 = rescale %10
  %12 = mod_switch %6
  %13 = add %11, %12
  %14 = neg %13
  %15 = add_plain %14, plain 2
  output Y: [2] in 8: d0 2:1 rest any = %15
}"""


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new)


def test_the_text_reads_back() -> None:
    program = parse_slots(TEXT)
    assert str(program) == TEXT.replace("(0.0,1.5)", "(0.0, 1.5)")
    assert parse_slots(str(program)) == program


def test_what_it_computes() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([[5.0, 6.0], [7.0, 8.0]])
    program = parse_slots(TEXT)
    (vector,) = packed_inputs(program, {"A": a, "B": b}, np.random.default_rng(0))
    assert np.count_nonzero(vector) == 8
    found = execute(program, {"A": a, "B": b}, np.random.default_rng(0))["Y"]
    # Slot 0 reads the garbage of slot 7; slot 1 does not.
    product = a[1] * a[0]
    expected = -((a[2] * b[1, 0] + 0.5 * a[0] * b[1, 1]) + 1.5j * product) + 1.5j
    np.testing.assert_allclose(found[1], expected)


def test_levels_scales_and_counts() -> None:
    program = parse_slots(TEXT)
    states = trace(program)
    assert [state.level for state in states] == [2] * 6 + [1, 2, 2, 1, 1, 0, 0, 0, 0, 0]
    assert show_scale(states[9].scale) == "S^2/q2"
    assert show_scale(states[10].scale) == "S q1"
    assert states[7].parts == 3
    found = count(program)
    assert (found.rotations, found.rotation_keys, found.hoisted) == (2, (-1, 1), 1)
    assert (found.key_switches, found.ct_mults, found.pt_mults, found.rescales) == (3, 1, 3, 3)
    assert (found.encodes, found.constant_encodes, found.levels) == (4, 2, 2)
    assert found.key_bytes(16) == 3 * 2 * 3 * 4 * 16 * 8
    assert "rotations         2 (1 hoisted)" in str(found)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sub %3, %4", "sub %3, %0", "of scales S q2 and S"),
        ("plain 2 like %6", "plain 2", "of scales S^2/q2 and S"),
        ("add %11, %12", "add %11, %6", "levels 0 and 1"),
        ("mul %0, %2", "mul %0, %6", "levels 2 and 1"),
        ("mul %0, %2", "mul %0, %3", "not rescaled"),
        ("mul %0, %2", "mul %0, %99", "%99 is not defined"),
        ("relinearize %7", "relinearize %2", "three parts"),
        ("by 1, -1", "by 8, -1", "less than 8"),
        ("neg %13", "rescale %13", "no level left"),
        ("rescale %5", "rescale %2", "no product"),
        ("= %15", "= %7", "output Y is not finished"),
        ("= %15", "= %15, %14", "2 values for the 1 vectors"),
        ("in 8 levels", "in 16 levels", "vectors of 8 slots"),
        ("in 8 levels", "in 6 levels", "power of two"),
        ("1<-3", "1<-4", "reads elements 4 to 4 of the 4"),
        ("1+2:2", "1+2:7", "slots 1 to 8 of 8"),
        ("* B{", "* C{", "no plaintext input"),
        ("input B", "input A", "two inputs"),
        ("neg %13", "rotate %7 by 1", "three parts"),
        ("1+2:2", "1+2:0", "plain 1 fills a slot twice"),
        ("1+2:2", "1+0:2", "plain 1 has a box without slots"),
    ],
)
def test_what_breaks_a_rule(old: str, new: str, message: str) -> None:
    program = parse_slots(changed(old, new))
    with pytest.raises((SlotError, LevelError), match=message.replace("^", r"\^")):
        trace(program)


def test_operations_of_the_wrong_form() -> None:
    program = parse_slots(TEXT)
    for op in (
        SlotOp("add", (0,)),
        SlotOp("neg", (0,), plain=0),
        SlotOp("mul_plain", (0,)),
        SlotOp("mul_plain", (0,), plain=9),
        SlotOp("neg", (0,), like=0),
        SlotOp("turn", (0,)),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(SlotError):
            trace(replace(program, ops=(op,), outputs=()))


def test_an_input_that_is_missing() -> None:
    with pytest.raises(ArgumentError, match="B"):
        execute(parse_slots(TEXT), {"A": np.zeros(4)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("slots f", "slot f"),
        ("%3 =", "%4 ="),
        ("plain 1 =", "plain 2 ="),
        ("= neg", "= turn"),
        ("%1, %2 = rotate %0 by 1, -1", "%1, %2 = rotate %0 by 1"),
        ("  output", "  out"),
        ("2:1<-2", "2:1"),
        ("neg %13", "neg 13"),
        ("}", "} }"),
        ("complex(0.0,1.5)", "complex(x,1.5)"),
        ("-0.5", "$"),
    ],
)
def test_text_that_is_no_program(old: str, new: str) -> None:
    with pytest.raises(ParseError) as raised:
        parse_slots(changed(old, new))
    assert isinstance(raised.value, EinloomError)
    assert "^" in str(raised.value)


def test_boxes_hold_every_place() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        slots = np.sort(rng.choice(64, int(rng.integers(1, 40)), replace=False))
        elements = rng.integers(0, 5, slots.size)
        found = [box.places() for box in boxes_of(slots, elements)]
        places = np.concatenate([place for place, _ in found])
        order = np.argsort(places)
        np.testing.assert_array_equal(places[order], slots)
        np.testing.assert_array_equal(np.concatenate([e for _, e in found])[order], elements)


def test_a_tensor_may_be_called_ones() -> None:
    text = TEXT.replace("input B", "input ones").replace("B{", "ones{")
    program = parse_slots(text)
    assert [factor.tensor for factor in program.plains[1].factors] == [None, "ones"]
    assert parse_slots(str(program)) == program


def test_what_no_text_says_is_refused() -> None:
    program = parse_slots(TEXT)
    (a, b) = program.inputs
    with pytest.raises(SlotError, match="its layout is of"):
        trace(replace(program, inputs=(replace(a, shape=(3,)), b)))
    with pytest.raises(LevelError, match="-1 levels"):
        trace(replace(program, levels=-1))
    with pytest.raises(SlotError, match="plain 0 is not finite"):
        trace(replace(program, plains=(PlainVector((), float("inf")), *program.plains[1:])))


def test_arrays_of_another_shape_are_refused() -> None:
    program = parse_slots(TEXT)
    for shapes in (((4,), (4, 2)), ((5,), (2, 2))):
        arrays = dict(zip("AB", map(np.zeros, shapes), strict=True))
        with pytest.raises(SlotError, match="an array of"):
            execute(program, arrays)


def test_an_output_holds_what_its_layout_says() -> None:
    text = """slots f in 4 levels 0 {
  input A: [2] in 4: d0 2:1
  %1 = rotate %0 by 1
  output Y: [2] in 4: d0 2:1 rest any = %1
}"""
    a = np.array([1.0, 2.0])
    assert execute(parse_slots(text), {"A": a})["Y"].tolist() == [2, 0]
    with pytest.raises(SlotError, match="slot 3 of vector 0"):
        execute(parse_slots(text.replace(" rest any", "")), {"A": a})
    with pytest.raises(SlotError, match="slot 2 of vector 0"):
        execute(parse_slots(text.replace("d0 2:1 rest any", "copy 2:2, d0 2:1")), {"A": a})


def test_a_constant_is_the_same_in_every_run() -> None:
    plains = parse_slots(TEXT).plains
    assert [plain.constant for plain in plains] == [False, False, True]
    assert PlainVector((), 0.25).constant


def test_values_that_nothing_reads_any_more_are_let_go_of() -> None:
    program = parse_slots(
        "slots chain in 8 levels 0 {\n  input A: [8] in 8: d0 8:1\n  plain 0 = ones{1}\n"
        + "".join(f"  %{n + 1} = add_plain %{n}, plain 0\n" for n in range(50))
        + "  output Y: [8] in 8: d0 8:1 = %50\n}"
    )
    made: list[weakref.ref[Array]] = []
    for value in each_value(program, [np.arange(8.0)], {}):
        made.append(weakref.ref(value))
        del value
        assert sum(each() is not None for each in made[1:]) <= 2
    assert len(made) == 51
    found = execute(program, {"A": np.arange(8.0)})["Y"]
    np.testing.assert_array_equal(found, np.arange(8.0) + 50 * (np.arange(8) == 1))
