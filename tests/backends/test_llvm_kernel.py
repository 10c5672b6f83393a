"""What binding a kernel checks, and what its statuses become."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from einloom.backends.llvm import kernel as module
from einloom.backends.llvm.kernel import LlvmKernel
from einloom.ir.dtypes import F32, I64
from einloom.ir.errors import (
    ArgumentError,
    EinloomError,
    InternalError,
    OutOfMemoryError,
    RankError,
    UnsupportedError,
)
from einloom.ir.loops import ArrayAxis, Buffer, Check, LoopProgram, Size
from einloom.ir.ranks import RankExpr, Term

from .kernels import ADD, constant, floats, kernel_of

N = RankExpr.of_size("N")


def kernel_with(
    monkeypatch: pytest.MonkeyPatch, text: str, name: str, unit: int | None = None
) -> LlvmKernel:
    """A kernel of two inputs and an output of extent N, with this code."""
    text = text.replace(f"@{name}(", f"@packed_einloom_{name}(")
    monkeypatch.setattr(module, "_generated", lambda *_: text)  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    a, b, y = (Buffer(tensor, (N,), F32, unit) for tensor in "ABY")
    check = Check(RankExpr((), 1), N, ())
    sizes = (Size("N", ArrayAxis("A", 0)),)
    return LlvmKernel(LoopProgram(name, sizes, (a, b), (y,), (), (check,), ()))


def test_one_kernel_for_all_shapes_and_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kernel_with(monkeypatch, ADD, "add")
    assert kernel.source == ADD.replace("@add(", "@packed_einloom_add(")
    assert "add:" in kernel.asm
    for count in (0, 1, 7):
        for step in (1, 2, -1):
            a, b = floats(3 * count)[::step][:count], floats(count, 5.0)
            y = np.zeros(count, np.float32)
            kernel.bind((a, b), (y,))(a, b, y)
            np.testing.assert_array_equal(y, a + b)


def test_binding_checks_shapes_dtypes_and_unit_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kernel_with(monkeypatch, ADD, "add", unit=0)
    a = floats(6)
    kernel.bind((a, a), (a.copy(),))
    kernel.bind((a[::6], a[:1]), (a[:1].copy(),))  # one element has no stride to keep
    with pytest.raises(ArgumentError, match=r"B must be f32 of shape \(6,\), not float32 of .*5"):
        kernel.bind((a, a[1:]), (a,))
    with pytest.raises(ArgumentError, match=r"Y must be f32 of shape \(6,\), not float64"):
        kernel.bind((a, a), (np.zeros(6),))
    with pytest.raises(UnsupportedError, match="axis 0 of A must have unit stride"):
        kernel.bind((a[::2], a[:3]), (a[:3],))
    with pytest.raises(UnsupportedError, match="axis 0 of B must have unit stride"):
        kernel.bind((a[:3], a[::-2]), (a[:3],))


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (1, UnsupportedError, "not made for such strides"),
        (2, OutOfMemoryError, "no memory"),
        (2, MemoryError, "no memory"),
        (3, RankError, r"out of range\n  deduced: it must be that 0 <= 1 < N"),
        (3, ValueError, "out of range"),
        (4, InternalError, "unknown status 4"),
    ],
)
def test_statuses_are_errors(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception], message: str
) -> None:
    kernel = kernel_with(monkeypatch, constant(status), "constant")
    a = floats(3)
    call = kernel.bind((a, a), (a.copy(),))
    with pytest.raises(kind, match=message) as caught:
        call(a, a, a)
    assert isinstance(caught.value, EinloomError)


def test_a_call_refuses_what_it_was_not_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kernel_with(monkeypatch, ADD, "add")
    a = floats(3)
    call = kernel.bind((a, a), (a.copy(),))
    with pytest.raises(ArgumentError, match="add takes 3 arrays: A, B, Y"):
        call(a, a)
    with pytest.raises(ArgumentError, match="B is not of the dtype, shape and strides"):
        call(a, a[1:], a)
    a.flags.writeable = False
    with pytest.raises(ArgumentError, match=r"Y .*or is a read-only output"):
        call(a, a, a)


def test_sizes_may_follow_from_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
define i32 @packed_einloom_sizes(ptr %params, ptr %data) {
  %m.p = getelementptr i64, ptr %params, i64 1
  %m = load i64, ptr %m.p
  %y = load ptr, ptr %data
  store i64 %m, ptr %y
  ret i32 0
}"""
    monkeypatch.setattr(module, "_generated", lambda *_: text)  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    sizes = (
        Size("N", ArrayAxis("Y", 0)),
        Size("M", RankExpr((Term(3, ("N", "N"), None),), -1)),
    )
    kernel = LlvmKernel(LoopProgram("sizes", sizes, (), (Buffer("Y", (N,), I64),), (), (), ()))
    y = np.zeros(2, np.int64)
    kernel.bind((), (y,))(y)
    assert y[0] == 11


def test_equal_programs_are_written_once() -> None:
    first, second = (kernel_of("ij,j->i", ["f32", "f32"]) for _ in range(2))
    assert first.program is not second.program
    assert first.source is second.source
    assert kernel_of("ij,j->i", ["f64", "f64"]).source != first.source


@pytest.mark.parametrize("count", [10, 1 << 15])
def test_small_and_large_kernels_from_many_threads(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    kernel = kernel_with(monkeypatch, ADD, "add")
    wrong: list[object] = []

    def work(start: float) -> None:
        a, y = floats(count, start), np.zeros(count, np.float32)
        for _ in range(10):
            kernel.bind((a, a), (y,))(a, a, y)
            if not (y == 2 * a).all():
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(100.0 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
