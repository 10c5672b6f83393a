"""Records: what an earlier process compiled is called as it is; results do not tell."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import einloom as el
from einloom import compiler, entry, records
from einloom.backends.llvm import cache, loaded
from einloom.ir.errors import ArgumentError, EinloomError, ParseError, RankError

from .support import ROOT


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object cache without a file in it, and a process that has called nothing."""
    monkeypatch.setattr(cache, "_current", cache.ObjectCache(tmp_path / "objects"))
    monkeypatch.setattr(records, "written_now", 0)
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new process would not know."""
    monkeypatch.setattr(entry, "_calls", {})
    monkeypatch.setattr(entry, "_inline", {})
    monkeypatch.setattr(loaded, "_loaded", type(loaded._loaded)())


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what has been called, and lets nothing be compiled from then on."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("compiled, though there was a record")

    def anew() -> None:
        forget(monkeypatch)
        monkeypatch.setattr(entry, "_prepared", refuse)

    return anew


def integers(*shape: int, dtype: Any = "f4", seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


A, B, C = integers(3, 4), integers(4, 5, seed=1), integers(5, 2, seed=2)

CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "matmul": ("ij,jk->ik", (A, B), {}),
    "implicit": ("ij,jk", (A, B), {}),
    "scalar": ("ij,ij->", (A, A), {}),
    "three": ("ij,jk,kl->il", (A, B, C), {}),
    "order K": ("ij,jk->ki", (A.T.copy().T, B.T.copy().T), {}),
    "order F": ("ij,jk->ik", (A, B), {"order": "F"}),
    "strides": ("ij,jk->ik", (A[::-1], B[:, ::2]), {}),
    "no elements": ("ij,jk->ik", (A[:, :0], B[:0]), {}),
    "broadcast": ("...i,i->...", (integers(2, 1, 4), integers(4)), {}),
    "widened": ("ij,jk->ik", (integers(3, 4, dtype="i2"), B), {}),
    "dtype": ("ij,jk->ik", (A, B), {"dtype": "f8"}),
    "acc": ("ij,jk->ik", (A.astype("i1"), B.astype("i1")), {"acc": "i4"}),
    "complex": ("ij,jk->ik", (A * 1j, B), {}),
    "bool": ("ij,jk->ik", (A > 0, B > 0), {}),
    "semiring": ("ij,jk->ik", (A, B), {"semiring": "max_plus"}),
    "sizes": ("i->ij", (integers(3),), {"sizes": {"j": 4}}),
    "optimize": ("ij,jk,kl->il", (A, B, C), {"optimize": False}),
    "named": ("row mid, mid col -> row col", (A, B), {"notation": "named"}),
    "diagonal": ("i->ii", (integers(3),), {"repeated_output": True}),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_record_gives_what_the_compiler_gives(name: str, anew: Callable[[], None]) -> None:
    text, operands, options = CALLS[name]
    first = el.einsum(text, *operands, **options)
    anew()
    again = el.einsum(text, *operands, **options)
    assert type(again) is type(first)
    assert again.dtype == first.dtype
    assert getattr(again, "strides", ()) == getattr(first, "strides", ())
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(el.einsum(text, *operands, **options), first)


def test_out_is_written_to(anew: Callable[[], None]) -> None:
    out = np.empty((3, 5), np.float32)
    assert el.einsum("ij,jk->ik", A, B, out=out) is out
    anew()
    out[:] = -1
    for _ in range(2):
        assert el.einsum("ij,jk->ik", A, B, out=out) is out
        np.testing.assert_array_equal(out, A @ B)


def test_lists_leave_a_record_for_arrays(anew: Callable[[], None]) -> None:
    el.einsum("ij,jk->ik", A.astype("f8").tolist(), B.astype("f8").tolist())
    anew()
    np.testing.assert_array_equal(el.einsum("ij,jk->ik", A.astype("f8"), B.astype("f8")), A @ B)


def test_calls_again_leave_nothing_more() -> None:
    f: Any = el.compile("ij,jk->ik", name="product")
    ways: list[Callable[[], Any]] = [
        lambda: el.einsum("ij,jk->ik", A.tolist(), B),
        lambda: f(A.tolist(), B),
        lambda: f(B=B, A=A),
    ]
    for way in ways:
        way()
        before = records.written_now
        assert before
        np.testing.assert_array_equal(way(), A @ B)
        assert records.written_now == before


def test_what_the_code_cannot_do_the_compiler_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that `out=` shares with an operand, one that is read-only; and then as before."""
    square = integers(4, 4)
    right = square @ square
    el.einsum("ij,jk->ik", square, square, out=np.empty_like(square))
    forget(monkeypatch)
    for _ in range(2):
        shared = square.copy()
        assert el.einsum("ij,jk->ik", shared, shared, out=shared) is shared
        np.testing.assert_array_equal(shared, right)
        fixed = np.zeros_like(square)
        fixed.flags.writeable = False
        with pytest.raises(EinloomError, match="read-only"):
            el.einsum("ij,jk->ik", square, square, out=fixed)
        out = np.empty_like(square)
        np.testing.assert_array_equal(el.einsum("ij,jk->ik", square, square, out=out), right)


def test_an_error_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    el.einsum("ij,jk->ik", A, B)
    forget(monkeypatch)
    with pytest.raises(RankError, match="extent 4 in operand 0 but 3"):
        el.einsum("ij,jk->ik", A, A)


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_what_was_not_compiled_leaves_none(backend: str) -> None:
    """Views, and what the NumPy backend computes."""
    el.einsum("ij->ji", A, backend=backend)
    el.einsum("ij,jk->ik", A, B, backend="numpy")
    el.einsum("ij,jk->ik", A.astype(">f4"), B, backend=backend)
    assert records.written_now == 0


def test_options_that_are_no_words_leave_none() -> None:
    class Path:
        def __call__(self, *_: Any, **__: Any) -> Any:
            return [(0, 1), (0, 1)]

    el.einsum("ij,jk,kl->il", A, B, C, optimize=Path())
    assert records.written_now == 0


def test_every_part_of_a_call_tells() -> None:
    """No two different calls have one key."""
    options: list[dict[str, Any]] = [
        {},
        {"order": "F"},
        {"sizes": {"a": 1}},
        {"sizes": {"a": True}},
    ]
    called = [
        records.identity(kind, text, given)
        for kind in ("einsum", "compile")
        for text in ("ij,jk->ik", "ij,jk->ki")
        for given in options
    ]
    operands: list[tuple[Any, ...]] = [
        (A, B),
        (A.astype("f8"), B),
        (A, B.T.copy().T),
        (A[::-1], B),
        (A[:2], B),
        (A,),
    ]
    keys = [
        records._key(each, given, out) for each in called for given in operands for out in (None, B)
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_the_key_holds_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [records._here.__wrapped__()]

    def other(*_: Any) -> list[str]:
        return ["another"]

    for name in ("_files", "identity_here"):
        with monkeypatch.context() as patch:
            patch.setattr(records, name, other)
            keys.append(records._here.__wrapped__())
    with monkeypatch.context() as patch:
        patch.setattr(np, "__version__", "0")
        keys.append(records._here.__wrapped__())
    assert None not in keys
    assert len(set(keys)) == 4


def test_a_changed_file_is_another_key(tmp_path: Path) -> None:
    for name in ("a.py", "ir/b.py", "passes/loops/c.py", "tests/d.py", "ir/__pycache__/e.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    before = records._files(str(tmp_path))
    assert [line.split()[0].removeprefix(f"{tmp_path}/") for line in before] == [
        *("a.py", "ir/b.py", "passes/loops/c.py")
    ]
    (tmp_path / "passes/loops/c.py").write_text("12")
    assert records._files(str(tmp_path)) != before


def test_all_that_einloom_consists_of_is_looked_at() -> None:
    from .test_layout import MODULES

    listed = {line.split()[0] for line in records._files(str(ROOT))}
    assert {str(path) for path in MODULES.values()} == listed


@pytest.mark.parametrize("text", ["", "x", "0\n2 0\n1\n<f4 1", "\n\n\n", "cut", "few"])
def test_what_is_no_record_is_a_miss(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    el.einsum("ij,jk->ik", A, B)
    key = records._key(records.identity("einsum", "ij,jk->ik", {}), (A, B), None)
    assert key is not None
    record = cache.current().load(key)
    assert record is not None
    if text == "cut":
        record = record[:-2]
    elif text == "few":
        record = record.replace(b"\n2 0 1\n", b"\n9 0 1\n")
    else:
        record = text.encode()
    cache.current().store(key, record)
    forget(monkeypatch)
    np.testing.assert_array_equal(el.einsum("ij,jk->ik", A, B), A @ B)
    assert cache.current().load(key) != record


def test_a_record_whose_code_is_gone_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    el.einsum("ij,jk->ik", A, B)
    key = records._key(records.identity("einsum", "ij,jk->ik", {}), (A, B), None)
    folder = cache.current().folder
    assert folder is not None
    assert key is not None
    for path in Path(folder).iterdir():
        if path.stem != key:
            path.unlink()
    forget(monkeypatch)
    np.testing.assert_array_equal(el.einsum("ij,jk->ik", A, B), A @ B)


def test_without_a_folder_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_current", cache.ObjectCache(None))
    np.testing.assert_array_equal(el.einsum("ij,jk->ik", A, B), A @ B)
    assert records.written_now == 0


def test_a_process_writes_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_MOST_WRITTEN", 2)
    for extent in range(1, 5):
        el.einsum("i,i->", A[0, :extent], B[:extent, 0])
    assert records.written_now == 2


# ---- compiled functions

any_compile: Any = el.compile

ARGMAX = "cascade best(X[M,P]: f32) -> Y, I {\n  Y[p], I[p] = max[m] X[m,p]\n}"
GATHER = "cascade take(D[B]: f32, J[N]: i32) -> Y {\n  Y[n] = D[J[n]]\n}"
SOFTMAX = """
cascade softmax(X[M,P]) -> Y {
  G[p] = max[m] X[m,p]
  S[m,p] = exp(X[m,p] - G[p])
  T[p] = S[m,p]
  Y[m,p] = S[m,p] / T[p]
}"""


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what has been called, and lets nothing be compiled from then on."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("compiled, though there was a record")

    def asleep() -> None:
        forget(monkeypatch)
        monkeypatch.setattr(compiler, "_compilation", refuse)

    return asleep


@pytest.mark.parametrize(
    ("what", "operands", "options"),
    [
        ("ij,jk->ik", (A, B), {}),
        ("ij,jk->ik", (A, B), {"dtypes": np.float32, "shapes": [(3, 4), (4, 5)]}),
        ("ij,jk->ik", (A, B), {"passes": "squeeze, order", "name": "product"}),
        ("i,i->", (A[0], A[1]), {}),
        (SOFTMAX, (A,), {}),
        (SOFTMAX, (A.astype("f8"),), {"dtypes": {"X": "f64"}}),
        (ARGMAX, (A,), {}),
        (GATHER, (B[0], np.array([2, 0, 1, 4], "i4")), {}),
    ],
)
def test_a_record_serves_a_compiled_function(
    what: str, operands: tuple[Any, ...], options: Any, asleep: Callable[[], None]
) -> None:
    first: Any = any_compile(what, **options)(*operands)
    asleep()
    f: Any = any_compile(what, **options)
    for _ in range(2):
        again: Any = f(*operands)
        assert type(again) is type(first)
        for one, other in zip(tupled(again), tupled(first), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def tupled(value: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", value) if isinstance(value, tuple) else (value,)


def test_what_a_record_served_is_shown_when_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[tuple[str, ...]] = []
    for _ in range(2):
        f = el.compile(SOFTMAX)
        f(A)
        texts.append((str(f.cascade), f.source, repr(f), *map(str, f.steps)))
        f(integers(2, 3, 1)[..., 0])  # of other sizes
        texts.append((str(f.cascade), f.source))
        forget(monkeypatch)
    assert texts[:2] == texts[2:]


def test_a_gather_out_of_range_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record's code fails, and the compiler says where; then it serves as before."""
    good, bad = np.array([2, 0], "i4"), np.array([2, 99], "i4")
    el.compile(GATHER)(B[0], good)
    forget(monkeypatch)
    f = el.compile(GATHER)
    np.testing.assert_array_equal(f(B[0], good), B[0][good])
    for _ in range(2):
        with pytest.raises(RankError, match="99"):
            f(B[0], bad)
        np.testing.assert_array_equal(f(B[0], good), B[0][good])


def test_a_function_that_records_serve_is_a_function_like_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    el.compile("ij,jk->ik")(A, B)
    forget(monkeypatch)
    f: Any = el.compile("ij,jk->ik")
    g = pickle.loads(pickle.dumps(f))
    out = np.empty((3, 5), np.float32)
    for each in (f, g):
        np.testing.assert_array_equal(each(A, B), A @ B)
        np.testing.assert_array_equal(each(A=A, B=B), A @ B)
        np.testing.assert_array_equal(each(A.tolist(), B), A @ B)
        np.testing.assert_array_equal(each(A, B[:, :2]), A @ B[:, :2])
        assert each(A, B, out=out) is out
        with pytest.raises(RankError, match="extent 4"):
            each(A, A)


def test_files_are_read_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A text that uses another file is not all that is compiled."""
    monkeypatch.chdir(tmp_path)
    text = 'use "other.ein"\ncascade f(X[I]: f32) -> Y {\n  Y = g(X)\n}'
    for factor in (2, 3):
        Path("other.ein").write_text(f"cascade g(X[I]: f32) -> Y {{\n  Y[i] = {factor} * X[i]\n}}")
        np.testing.assert_array_equal(el.compile(text)(A[0]), factor * A[0])
        forget(monkeypatch)


def test_a_text_that_is_wrong_leaves_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with pytest.raises(ParseError):
            el.compile("ij,jk-ik")
        with pytest.raises(ArgumentError, match="takes no"):
            any_compile("ij,jk->ik", secret=[0])
        forget(monkeypatch)


FIRST = """
import sys, numpy, einloom
from einloom.backends.llvm import cache
cache.configure(sys.argv[1])
a = numpy.arange(12, dtype="f4").reshape(3, 4)
print(einloom.einsum("ij,kj->ik", a, a).tolist())
f = einloom.compile("cascade f(X[I,J]: f32) -> Y { Y[i] = max[j] X[i,j] }")
assert f(a).tolist() == [3.0, 7.0, 11.0]
wide = numpy.ones((64, 64), "f4")  # what threads share
assert (einloom.einsum("ij,jk->ik", wide, wide, threads=2) == 64).all()
print([name for name in sys.modules if name.startswith(("llvmlite", "einloom.", "dataclasses"))])
"""


def test_a_new_process_loads_no_compiler(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FIRST, str(tmp_path / "of its own")]
    cold, warm = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
        for _ in range(2)
    )
    a = np.arange(12).reshape(3, 4)
    assert cold[0] == warm[0] == str((a @ a.T).astype(float).tolist())
    assert "einloom.templates" in cold[1]
    for heavy in ("llvmlite", "dataclasses", "frontend", "passes", "templates", "calls"):
        assert heavy not in warm[1]
