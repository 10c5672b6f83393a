"""What only looks like a rule: each is refused, and shown to change the meaning if it were not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from einloom.compiler import evaluate, parse
from einloom.ir.cascade import Cascade
from einloom.ir.errors import PassError
from einloom.ir.verify import verify
from einloom.passes.rewrite import Rewrite
from einloom.passes.rewrites.algebra import distribute, factor, idem_add, idem_mul
from einloom.passes.rewrites.canonical import presum
from einloom.passes.rewrites.delta import DeltaSplit, delta, delta_merge, distinct_output
from einloom.passes.rewrites.naming import Alpha, Commute, identity, transpose
from einloom.passes.rewrites.nesting import Denest, Inline, Nest
from einloom.passes.rewrites.ones import multiple, ones_drop, output_only
from einloom.passes.rewrites.share import Dead, Share
from einloom.passes.rewrites.slices import Fuse, Slice, Split
from einloom.passes.rewrites.structure import components, hadamard


def cascade(text: str) -> Cascade:
    return parse(f"cascade c{text}")


def refused(law: type[Rewrite], text: str) -> None:
    given = cascade(text)
    assert law()(given) is given


# ---- the list of the facts


def test_ones_with_a_variable_of_their_own_are_not_dropped() -> None:
    """They count: dropped, the sum over j would go from 3 A[i] to A[i]."""
    text = "(A[I]: i64) -> Y { ranks I, J = 3\n E[j]: i64 = 1\n Y[i] = A[i] * E[j] }"
    refused(ones_drop, text)
    after = multiple()(cascade(text))
    np.testing.assert_array_equal(evaluate(after, A=[1, 2]), [3, 6])


def test_a_shared_variable_is_not_summed_first() -> None:
    refused(presum, "(A[I,J]: i64, B[J]: i64) -> Y { Y[i] = A[i,j] * B[j] }")
    a, b = np.array([[1, 2]]), np.array([3, 4])
    assert (a * b).sum() != a.sum() * b.sum()


@pytest.mark.parametrize("semiring", ["sum_product", "max_plus", "log"])
def test_equal_operands_are_not_merged(semiring: str) -> None:
    refused(idem_mul, f"(A[I]: f64) -> Y {{ Y[i] = A[i] * A[i] over {semiring} }}")
    if semiring != "max_plus":
        refused(idem_add, f"(A[I]: f64) -> Y {{ Y[i] = A[i] + A[i] over {semiring} }}")


def test_a_diagonal_is_no_broadcast() -> None:
    """`i->ii` writes a diagonal of zeros around; `Y[i,j] = A[i]` fills every row."""
    diagonal, rows = (
        cascade("(A[I]: i64) -> Y { Y[i,i] = A[i] }"),
        cascade("(A[I]: i64) -> Y { ranks I, J = I\n Y[i,j] = A[i] }"),
    )
    refused(output_only, "(A[I]: i64) -> Y { Y[i,i] = A[i] }")
    refused(distinct_output, "(A[I]: i64) -> Y { ranks I, J = I\n Y[i,j] = A[i] }")
    assert not np.array_equal(evaluate(diagonal, A=[1, 2]), evaluate(rows, A=[1, 2]))


def test_denesting_renames_apart() -> None:
    """Both sum over j; one j for both would sum over fewer points."""
    text = "(A[I,J]: i64, B[J]: i64) -> Y { S[i] = A[i,j]\n Y[i] = S[i] * B[j] }"
    before = cascade(text)
    after = Denest("S")(before)
    assert len({*after.einsums[0].reduced}) == 2
    arrays: dict[str, Any] = {"A": [[1, 2], [3, 4]], "B": [5, 6]}
    np.testing.assert_array_equal(evaluate(after, **arrays), evaluate(before, **arrays))
    inner = cascade(
        "(A[I,J]: i64, B[J]: i64) -> Y { S[i] = 2 * sum[j] A[i,j] + 1\n Y[i] = S[i] * B[j] }"
    )
    merged = Inline("S")(inner)
    np.testing.assert_array_equal(evaluate(merged, **arrays), evaluate(inner, **arrays))


def test_repeats_are_no_identity() -> None:
    for text in (
        "(A[I,I]: i64) -> Y { B[i] = A[i,i]\n Y[i] = B[i] * B[i] }",
        "(A[I]: i64) -> Y { ranks I, J = I\n B[i,i] = A[i]\n Y[i,j] = B[i,j] * A[i] }",
        "(A[I,I]: i64) -> Y { ranks I, J = I\n B[i,i] = A[i,i]\n Y[i,j] = B[i,j] * 2 }",
    ):
        refused(identity, text)
        refused(transpose, text)


def test_a_renaming_is_injective() -> None:
    given = parse("ij,jk->ik")
    with pytest.raises(PassError, match="must be injective"):
        Alpha("j", "k")(given)
    with pytest.raises(PassError, match="has no rank Z"):
        Alpha("z", "n")(given)
    with pytest.raises(PassError, match="in use"):
        Alpha("j", "a")(given)  # a tensor's name
    assert Alpha("j", "J")(given) is given


# ---- other conditions


def test_copies_that_are_none() -> None:
    for line in (
        "B[i]: f32 = A[i]",  # converts
        "B[i] = A[i] where i < 2 else 0",
        "B[i] = -A[i]",
    ):
        refused(identity, f"(A[I]: f64) -> Y {{ {line}\n Y[i] = B[i] * B[i] }}")
    refused(identity, "(A[N]: i64) -> Y { ranks N = 5, I = 3\n B[i] = A[i]\n Y[n] = B[n else 0] }")


def test_denest_is_refused() -> None:
    for text in (
        # computed and stored in i8, read in i32
        "(A[I]: i8, B[I]: i8, C[I]: i32) -> Y { T[i] = A[i] * B[i]\n Y[i] = T[i] * C[i] }",
        "(A[I]: f16, B[I]: f16) -> Y { T[i] = A[i] * B[i]\n Y[i] = T[i] * B[i] }",  # rounds
        "(A[I]: f64, B[I]: f64) -> Y { T[i] = A[i] * B[i]\n Y[i] = T[i] * B[i] over max_plus }",
        # max_times: a maximum of products is not a product of maxima of negative numbers
        "(A[I,J]: f64, B[I]: f64) -> Y { T[i] = A[i,j] * B[i] over max_times\n"
        "Y[i] = T[i] * B[i] over max_times }",
        "(A[I]: f64, B[I]: f64) -> T, Y { T[i] = A[i] * B[i]\n Y[i] = T[i] * B[i] }",  # an output
        "(A[I]: f64, B[I]: f64) -> Y { T[i] = A[i] * B[i]\n Y[i] = T[i] * T[i] }",  # read twice
        "(A[I]: f64, B[I]: f64) -> Y { T[i] = A[i] * B[i]\n Y[i] = T[i+1 else 0] * B[i] }",
        "(A[I]: f64) -> Y { ranks I = 0\n T[i] = A[i] * A[i]\n Y = T[i] * A[i] }",
    ):
        given = cascade(text)
        assert Denest()(given) is given
    with pytest.raises(PassError, match="cannot put T"):
        Denest("T")(cascade("(A[I]: f16) -> Y { T[i] = A[i]\n Y[i] = T[i] * A[i] }"))


def test_inline_is_refused() -> None:
    for text in (
        "(A[I]: f16) -> Y { T[i] = exp(A[i])\n Y[i] = T[i] * A[i] }",  # rounds when stored
        "(A[I]: f64, J[I]: i64) -> Y { T[i] = J[i] + 1\n Y[i] = A[T[i] else 0] }",  # in a gather
        "(A[I]: f64) -> Y { T[i] = exp(A[i])\n Y = A[i] where T[i] < 1 }",  # in a filter
        "(A[I]: f64) -> Y { T[i] = exp(A[i])\n Y[i] = T[i+1 else 0] + A[i] }",
        "(A[I]: f64) -> Y { T[i,i] = exp(A[i])\n Y[i] = T[i,i] + A[i] }",
        # an empty maximum is 0 in max_times, -inf elsewhere
        "(A[I,J]: f64) -> Y { T[i] = 1 + max[j] A[i,j] over max_times\n Y[i] = T[i] + A[i,0] }",
        "(A[I]: f32, B[I]: f32) -> Y { T[i] = A[i] * B[i]\n Y: f64 = T[i] }",
    ):
        given = cascade(text)
        assert Inline()(given) is given


def test_inlining_does_not_nest_without_end() -> None:
    lines = ["T0[i] = exp(A[i])"] + [f"T{n}[i] = exp(T{n - 1}[i])" for n in range(1, 400)]
    given = cascade("(A[I]: f64) -> Y { " + "\n".join(lines) + "\nY[i] = T399[i] }")
    after = Inline()(given)
    assert 2 < len(after.einsums) < 20


def test_nest_and_commute_are_refused() -> None:
    with pytest.raises(PassError, match="regrouped"):
        Nest("Y", (0, 1))(cascade(
            "(A[I]: f64, B[I]: f64, C[I]: f64) -> Y { Y = A[i] * B[i] * C[i] over max_times }"
        ))  # fmt: skip
    with pytest.raises(PassError, match="do not commute"):
        Commute("Y", (1, 0))(cascade("(A[I]: f64) -> Y { Y[i] = A[i] - 2 }"))
    with pytest.raises(PassError, match="does not permute"):
        Commute("Y", (0, 0))(parse("ij,jk->ik"))
    with pytest.raises(PassError, match="defines no tensor Z"):
        Commute("Z", (0, 1))(parse("ij,jk->ik"))


def test_laws_that_need_the_semirings_laws() -> None:
    """max_times of floats, which may be negative, has none; nor has max_plus on integers."""
    for ring, dtype in (("max_times", "f64"), ("max_plus", "i64")):
        over = f"over {ring} }}"
        for law, text in (
            (delta_merge, "(A[J]: DT) -> Y { ranks J, N = J\n D[j,j]: DT = ONE OVER\n"
                          "Y[n] = A[j] * D[j,n] "),
            (distinct_output, "(A[I]: DT) -> Y { Y[i,i] = A[i] "),
            (hadamard, "(A[I]: DT) -> Y { Y[i] = A[i] * A[i] * A[i] "),
            (components, "(A[I]: DT, B[J]: DT) -> Y { Y = A[i] * B[j] "),
            (distribute, "(A[I]: DT, B[I]: DT) -> Y { Y = (A[i] + B[i]) * A[i] "),
            (factor, "(A[I]: DT, B[I]: DT) -> Y { S[i] = A[i] * A[i] OVER\n"
                     "T[i] = B[i] * A[i] OVER\nY[i] = S[i] + T[i] "),
        ):  # fmt: skip
            one = "1" if ring == "max_times" else "0"
            filled = text.replace("OVER", over[:-2]).replace("DT", dtype).replace("ONE", one)
            refused(law, filled + over)
        with pytest.raises(PassError, match="do not absorb"):
            DeltaSplit("Y", 0, 0)(cascade(f"(A[I]: {dtype}) -> Y {{ Y[i] = A[i] {over}"))


def test_deltas_that_are_none() -> None:
    for line in ("D[j,j]: f64 = 2", "D[j,n]: f64 = 1", "D[j,j]: f64 = 1 over max_plus"):
        refused(
            delta_merge,
            f"(A[J]: f64) -> Y {{ ranks J, N = J\n {line}\n Y[n] = A[j] * D[j,n] }}",
        )
    for line in (
        "D[i,j] = A[i] where i == j else 1",
        "D[i,j] = A[i] where i <= j else 0",
        "D[i,j] = A[i] where i == j else 0 over max_plus",
    ):
        parts = line.split(" over ")
        head, _, tail = parts[0].partition(" where ")
        over = f" over {parts[1]}" if len(parts) > 1 else ""
        refused(delta, f"(A[I]: f64) -> D {{ ranks I, J = I\n {head}{over} where {tail} }}")
    refused(delta, "(A[I]: f64, B[J]: f64) -> D { D[i,j] = A[i] * B[j] where i == j else 0 }")


def test_ones_that_are_none() -> None:
    for line in ("E[j]: f64 = 2", "E[j,j]: f64 = 1", "E[j]: f64 = 1 where j < 1 else 0"):
        read = "E[j,j]" if "j,j" in line else "E[j]"
        refused(ones_drop, f"(A[J]: f64) -> Y {{ {line}\n Y[j] = A[j] * {read} }}")
    refused(ones_drop, "(A[J]: u16) -> Y { E[j]: u8 = -1 over xor_and\n"
                       "Y[j] = A[j] * E[j] over xor_and }")  # fmt: skip
    refused(multiple, "(A[J]: f64, B[N]: f64) -> Y { Y[j] = sum[n] (A[j]) }")
    refused(idem_add, "(A[J]: f64, B[N]: f64) -> Y { Y[j] = max[n] (A[j]) over max_plus }")
    refused(idem_add, "(A[J]: f64) -> Y { ranks J, N = 0\n Y[j] = max[n] (A[j]) over max_plus }")


def test_slices_splits_and_fusions_are_refused() -> None:
    known = "(A[K]: f64, B[K]: f64) -> Y { ranks K = 6\n Y = A[k] * B[k] }"
    for made in (Slice("Y", "K", 7), Slice("Y", "K", 0), Slice("Y", "N")):
        with pytest.raises(PassError):
            made(cascade(known))
    given = cascade(known)
    assert Slice("Y", "K", 1)(given) is given
    with pytest.raises(PassError, match="not known"):
        Slice("Y", "K")(cascade("(A[K]: f64) -> Y { Y = A[k] }"))
    with pytest.raises(PassError, match="no identity"):  # the empty maximum would be 0
        Slice("Y", "K")(cascade(
            "(A[K]: f64) -> Y { ranks K = 6\n Y = A[k] over max_times where k < 2 }"
        ))  # fmt: skip
    with pytest.raises(PassError, match="says what is"):
        Slice("Y", "K")(cascade("(A[K]: f64) -> Y { ranks K = 6\n Y = A[k] where k < 2 else 1 }"))
    with pytest.raises(PassError, match="from k = 3 passes its filter"):  # no text would say so
        Slice("Y", "K")(cascade("(A[K]: f64) -> Y { ranks K = 6\n Y = A[k] where k < 2 }"))
    with pytest.raises(PassError, match="does not divide"):
        Split("K", 4)(given)
    with pytest.raises(PassError, match="nowhere read as one"):
        Fuse(("I", "J"), "N")(parse("ij->"))
    with pytest.raises(PassError, match="in use"):
        Fuse(("I", "J"), "I")(parse("ij->"))


def test_share_is_refused() -> None:
    for lines in (
        "S[i] = A[i,j]\nT[j] = A[i,j]\nY = S[i] * T[j]",
        "S[i] = A[i,j]\nT[i] = A[j,i]\nY = S[i] * T[i]",
        "S[i] = A[i,j]\nT[i] = A[i,j] over max_plus\nY = S[i] * T[i]",
        "S[i] = A[i,j]\nT[i]: f32 = A[i,j]\nY = S[i] * T[i]",
        "S[i] = A[i,j] where i < j\nT[i] = A[i,j] where i <= j\nY = S[i] * T[i]",
        "S[i] = A[i,j] * 2\nT[i] = A[i,j] * 2.0\nY = S[i] * T[i]",
    ):
        given = cascade(f"(A[I,I]: f64) -> Y {{ ranks I, J = I\n {lines} }}")
        assert Share()(given) is given


def test_what_a_scan_needs_of_another_is_not_dead() -> None:
    cascade = parse(
        """cascade f(X[T]: f64) -> A {
          A[0] = 1.0
          B[0] = 2.0
          C[0] = 3.0
          A[t+1] = B[t] + X[t]
          B[t+1] = A[t] * 0.5
          C[t+1] = A[t]
        }"""
    )
    after = verify(Dead()(cascade))
    assert [einsum.name for einsum in after.einsums] == ["A", "B", "A", "B"]
    x = np.arange(4.0)
    assert np.array_equal(evaluate(after, X=x), evaluate(cascade, X=x))
