"""The builder places each pure instruction once, where its operands come into being."""

from __future__ import annotations

from einloom.backends.llvm.builder import Builder


def test_equal_instructions_are_one() -> None:
    b = Builder()
    assert b.pure("load i64, ptr %params") == b.pure("load i64, ptr %params")
    assert len(b.scopes[0].lines) == 1
    assert b.pure("load i64, ptr %params", version=1) != b.pure("load i64, ptr %params")


def test_what_a_loop_does_not_change_leaves_it() -> None:
    b = Builder()
    n = b.pure("load i64, ptr %params")
    loop = b.begin_loop(n)
    outside = b.mul(n, "24")
    inside = b.mul(loop.counter, n)
    pinned = b.pure("load i64, ptr %params", floor=1)
    assert [b.depth_of(v) for v in (outside, inside, pinned)] == [0, 1, 1]
    b.end_loop(loop)
    text = "\n".join(b.scopes[0].lines)
    assert text.index(f"{outside} = mul") < text.index("body1:") < text.index(f"{inside} = mul")


def test_constants_fold() -> None:
    b = Builder()
    assert b.add("2", "3") == "5"
    assert b.sub("%x", "%x") == "0"
    assert b.mul("%x", "1") == "%x"
    assert b.mul("0", "%x") == "0"
    assert b.minimum("4", "7", "2") == "2"
    assert b.maximum("4", "7") == "7"
    assert not b.scopes[0].lines


def test_offsets_are_kept_by_addition() -> None:
    b = Builder()
    n = b.pure("load i64, ptr %params")
    loop = b.begin_loop("10", "2")
    first, again = b.offset(loop, n), b.offset(loop, n)
    assert first == again
    assert b.offset(loop, "1") == loop.counter
    assert b.offset(loop, "0") == "0"
    b.end_loop(loop)
    text = "\n".join(b.scopes[0].lines)
    assert f"{first} = phi i64 [0, %entry]" in text
    assert f"= mul i64 2, {n}" in text


def test_a_loop_hands_on_what_it_carries() -> None:
    b = Builder()
    loop = b.begin_loop("%n")
    phi = b.carry(loop, "float", "0.0")
    phi.next = b.here(f"fadd float {phi.name}, 1.0")
    after = b.end_loop(loop)[phi.name]
    lines = b.scopes[0].lines
    assert lines[-1] == f"  {after} = phi float [0.0, %entry], [{phi.next}, %body1]"
    assert any("icmp sgt i64 %n, 0" in line for line in lines)
    sure = Builder()
    sure.end_loop(sure.begin_loop("4"))
    assert not any("sgt" in line for line in sure.scopes[0].lines)


def test_a_branch_merges_what_differs() -> None:
    b = Builder()
    b.begin_arm()
    x = b.here("fadd float 1.0, 2.0")
    then = b.end_arm()
    b.begin_arm()
    otherwise = b.end_arm()
    found = b.branch("%t", then, otherwise, [("float", x, "0.0"), ("i64", "7", "7")])
    assert found[1] == "7"
    assert b.scopes[0].lines[-1] == f"  {found[0]} = phi float [{x}, %arm1], [0.0, %arm2]"
