"""Scans along two ranks at once: for each i, for each j, from what came before in that order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.errors import EinloomError, UnsupportedError, VerifyError
from einloom.ir.infer import infer_dtypes
from einloom.ir.loop_parser import parse_loops
from einloom.ir.scans import Scan, stages
from einloom.passes.loops.lower import lower
from einloom.passes.registry import default_pipeline

HOWS = ("interpreter", "numpy", "llvm")
SIZES = ((0, 0), (0, 3), (2, 0), (1, 1), (4, 6), (9, 5))


def run(text: str, how: str, arrays: Mapping[str, Any]) -> Any:
    if how == "interpreter":
        return el.evaluate(text, **arrays)
    before = el.fallbacks()
    found = el.compile(text, backend=how)(**arrays)
    assert el.fallbacks() == before
    return found


def words(sizes: tuple[int, int]) -> tuple[Any, Any]:
    rng = np.random.default_rng(sum(sizes))
    s, t = (rng.integers(0, 3, n).astype("i4") for n in sizes)
    return s, t


LCS = """cascade lcs(S[I]: i32, T[J]: i32) -> N {
  D[0,0] = 0
  D[0,j+1] = 0
  D[i+1,0] = 0
  D[i+1,j+1] = select(S[i] == T[j], D[i,j] + 1, max(D[i,j+1], D[i+1,j]))
  N = D[I,J]
}"""


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("sizes", SIZES)
def test_longest_common_subsequence(sizes: tuple[int, int], how: str) -> None:
    s, t = words(sizes)
    common = [
        set(itertools.chain(*(itertools.combinations(w.tolist(), n) for n in range(len(w) + 1))))
        for w in (s, t)
    ]
    want = max(map(len, common[0] & common[1]))
    assert run(LCS, how, {"S": s, "T": t}) == want


LOCAL = """cascade align(S[I]: i32, T[J]: i32) -> H, BEST {
  H[0,0] = 0
  H[0,j+1] = 0
  H[i+1,0] = 0
  H[i+1,j+1] = max(0, H[i,j] + select(S[i] == T[j], 3, -3), H[i,j+1] - 2, H[i+1,j] - 2)
  BEST = max[i,j] H[i+1,j+1]
}"""


@pytest.mark.parametrize("how", HOWS)
def test_smith_waterman(how: str) -> None:
    # The example of the algorithm's article in Wikipedia: TGTTACGG and GGTTGACTA score 13.
    s, t = (np.array(list(map(ord, word)), "i4") for word in ("TGTTACGG", "GGTTGACTA"))
    table, best = (
        run(LOCAL, how, {"S": s, "T": t}).values()
        if how == "interpreter"
        else run(LOCAL, how, {"S": s, "T": t})
    )
    assert best == 13
    assert table[1:, 1:].max() == 13
    assert not table[0].any()
    assert not table[:, 0].any()


ROWS = """cascade rows(A[I,J]: f64) -> R {
  R[0,0] = 0
  R[0,j+1] = R[0,j] + 1
  R[i+1,0] = R[i,J]
  R[i+1,j+1] = R[i+1,j] + A[i,j] * R[i,j]
}"""


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_row_that_goes_on_where_the_last_one_ended(sizes: tuple[int, int], how: str) -> None:
    """A start of each row is part of the scan along i, before the scan along j inside."""
    a = np.random.default_rng(1).integers(-1, 2, sizes).astype(float)
    want = np.zeros((sizes[0] + 1, sizes[1] + 1))
    want[0] = np.arange(sizes[1] + 1)
    for i in range(sizes[0]):
        want[i + 1, 0] = want[i, -1]
        for j in range(sizes[1]):
            want[i + 1, j + 1] = want[i + 1, j] + a[i, j] * want[i, j]
    assert run(ROWS, how, {"A": a}).tolist() == want.tolist()


PASCAL = """cascade pascal(A[I,J]: i64) -> C {
  C[0,0] = 1
  C[0,j+1] = 0
  C[i+1,0] = 1
  C[i+1,j+1] = C[i,j] + C[i,j+1]
}"""


@pytest.mark.parametrize("how", HOWS)
def test_what_needs_only_the_row_before_is_made_a_row_at_a_time(how: str) -> None:
    found = run(PASCAL, how, {"A": np.zeros((4, 3), "i8")})
    assert found.tolist() == [
        [1, 0, 0, 0], [1, 1, 0, 0], [1, 2, 1, 0], [1, 3, 3, 1], [1, 4, 6, 4],
    ]  # fmt: skip
    *_, last = stages(parse_cascade(PASCAL))
    assert isinstance(last, Scan)
    assert not any(isinstance(member, Scan) for member in last.members)


BATCHED = """cascade batched(A[B,I,J]: f64, W[I]: f64) -> Y, Z {
  D[b,0,0] = 1.0
  D[b,0,1] = 2.0
  D[b,0,j+2] = 0.5
  D[b,i+1,0] = W[i]
  D[b,i+1,1] = D[b,i,1] + 1.0
  M[b,i] = max[j] D[b,i,j+2]
  D[b,i+1,j+2] = D[b,i+1,j] - D[b,i,j+1] + A[b,i,j] + 0.25 * M[b,i]
  Y[b] = sum[i,j] D[b,i+1,j+2]
  Z[b] = D[b,I,J+1]
}"""


@pytest.mark.parametrize("how", HOWS[1:])
@pytest.mark.parametrize("sizes", SIZES)
def test_other_ranks_lags_and_what_does_not_step(sizes: tuple[int, int], how: str) -> None:
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {
        "A": rng.integers(-2, 3, (3, *sizes)) * 1.0,
        "W": rng.integers(0, 3, sizes[0]) * 1.0,
    }
    want = el.evaluate(BATCHED, **arrays)
    y, z = run(BATCHED, how, arrays)
    assert y.tolist() == want["Y"].tolist()
    assert z.tolist() == want["Z"].tolist()


ALL = (LCS, LOCAL, ROWS, PASCAL, BATCHED)


@pytest.mark.parametrize("text", ALL)
def test_they_are_read_back(text: str) -> None:
    cascade = parse_cascade(text)
    assert parse_cascade(str(cascade)) == cascade
    assert Cascade.from_json(cascade.to_json()) == cascade
    assert default_pipeline().run(cascade)[0].einsums == cascade.einsums
    dtypes = infer_dtypes(cascade, {})
    names = [decl.name for decl in cascade.inputs] + list(cascade.outputs)
    program = lower(cascade, dtypes, dict.fromkeys(names))
    assert parse_loops(str(program)) == program


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("D[i+1,j+1] = D[i+1,j+1]", "reads D before it is there"),
        ("D[i+1,j+1] = D[i+1,j] + D[i+2,j]", None),  # for each j, for each i
        ("D[i+1,j+1] = D[i+1,j] + D[i,j+2]", None),
        ("D[i+1,j+1] = D[i+1,j+2]", "reads D before it is there"),
        ("D[i+1,j+1] = D[i+1,j+2] + D[i+2,j]", "reads D before it is there"),
        ("D[i+1,j+1] = D[i+1,I-1-i]", "reads D before it is there"),
        ("D[i+1,j+2] = D[i,j]", r"not define a start of D, which steps by i\+1, j\+2"),
        ("D[i+1,j+1] = 0\nD[i+1,0] = 1", "a start of D stands below its step"),
        ("D[i+1,j] = D[i,j]", r"not define a start of D, which steps by i\+1"),
    ],
)
def test_what_cannot_be_ordered(line: str, message: str | None) -> None:
    text = f"""cascade f(A[I,J]: f64) -> Y {{
      D[0,0] = 0.0
      D[0,j+1] = 0.0
      D[i+1,0] = 0.0
      {line}
      Y = D[0,0]
    }}"""
    if message is None:
        assert isinstance(stages(parse_cascade(text))[-2], Scan)
        return
    with pytest.raises(VerifyError, match=message):
        parse_cascade(text)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("D[0,0]", "D steps, but has no start above"),
        ("D[0,j+1]", "D has no start at [0,j+1]"),
        ("D[i+1,0]", "D has no start at [i+1,0]"),
    ],
)
def test_every_start_is_needed(start: str, message: str) -> None:
    text = PASCAL.replace("C[", "D[").replace("-> C", "-> D")
    without = "\n".join(line for line in text.split("\n") if f"{start} =" not in line)
    with pytest.raises(EinloomError) as found:
        parse_cascade(without)
    assert message in str(found.value)


def test_reads_in_the_next_column_need_the_other_order() -> None:
    text = """cascade f(A[I,J]: f64) -> D {
      D[0,0] = 1.0
      D[0,j+1] = 1.0
      D[i+1,0] = 1.0
      D[i+1,j+1] = D[i+1,j] + D[i+2,j else 0] + A[i,j]
    }"""
    a = np.arange(6.0).reshape(2, 3)
    want = np.ones((3, 4))
    for j in range(3):
        for i in range(2):
            above = want[i + 2, j] if i + 2 < 3 else 0
            want[i + 1, j + 1] = want[i + 1, j] + above + a[i, j]
    for how in HOWS:
        assert run(text, how, {"A": a}).tolist() == want.tolist()


def test_starts_of_another_part_are_not_there_yet() -> None:
    text = """cascade f(A[I,J]: f64) -> D {
      D[0,0] = 1.0
      D[i+1,0] = D[i,J]
      D[0,j+1] = 1.0
      D[i+1,j+1] = A[i,j]
    }"""
    with pytest.raises(VerifyError, match="D is defined only below"):
        parse_cascade(text)


def test_they_have_no_adjoint_yet() -> None:
    with pytest.raises(UnsupportedError, match="steps along j inside another scan"):
        el.grad(ROWS, wrt=["A"])
    assert issubclass(UnsupportedError, EinloomError)
