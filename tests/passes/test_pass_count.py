"""The pass count: the counts of the papers, the plan, the witnesses, what must be held."""

from __future__ import annotations

import json
import re

import pytest

import einloom as el
from einloom.passes.analysis.polynomial import Polynomial

from ..support import ROOT
from .counted import ATTENTION, COUNTED, PAIR, VECTOR


@pytest.mark.parametrize("name", COUNTED)
def test_passes_are_those_of_the_papers(name: str) -> None:
    text, passes = COUNTED[name]
    found = el.count_passes(text).passes
    assert {rank: found[rank] for rank in passes} == passes


@pytest.mark.parametrize("name", COUNTED)
def test_a_report_prints_and_is_json(name: str) -> None:
    report = el.count_passes(COUNTED[name][0])
    plain = json.loads(report.to_json())
    for rank, family in plain["ranks"].items():
        number = report.passes[rank]
        assert isinstance(number, int)
        assert family["passes"] == number
        assert len(family["witnesses"]) == number - 1
        assert len(family["plan"]) == report.generations[rank]
        assert f"pass {number} over" in str(report) or number == 1


def test_generations_are_loops_even_where_no_tensor_is_read_twice() -> None:
    report = el.count_passes(COUNTED["two tensors"][0])
    assert (report.passes["K"], report.generations["K"]) == (1, 2)
    assert report.plan["K"] == {1: ("S",), 2: ("Z",)}


def test_a_pass_between_two_reads_of_one_tensor_may_read_another() -> None:
    # B's pass lies between A's two, and waits for the first of them.
    text = "cascade f(A[K], B[K]) -> Z {\n S = A[k]\n T = B[k] * S\n Z[k] = A[k] * T\n}"
    report = el.count_passes(text)
    assert (report.passes["K"], report.generations["K"]) == (2, 3)
    assert (report.tensor_passes["A", "K"], report.tensor_passes["B", "K"]) == (2, 1)


def test_attention_tensor_by_tensor() -> None:
    report = el.count_passes(COUNTED["C4, attention"][0])
    assert report.tensor_passes["QK", "M"] == 2
    assert report.tensor_passes["SN", "M"] == 2
    assert report.tensor_passes["V", "M"] == report.tensor_passes["K", "M"] == 1
    assert report.lineage_passes["K", "M"] == 3
    assert report.lineage_passes["V", "M"] == 1
    assert report.plan["M"] == {1: ("QK", "GM"), 2: ("SN", "SD"), 3: ("A", "AV")}
    assert report.footprint["M"] == Polynomial.of("M")
    assert report.footprint["P"] == Polynomial()


def test_one_pass_attention_holds_its_state_alone() -> None:
    report = el.count_passes(COUNTED["C5, attention in one pass"][0])
    assert str(report.footprint["M"]) == "F + 2"
    assert report.footprint["M0"].number == 4
    assert report.generations["M"] == 1


def test_a_witness_names_both_reads_and_the_way_between() -> None:
    report = el.count_passes(COUNTED["C4, attention"][0])
    second, third = report.witnesses["M"]
    assert (second.number, second.through, second.shared) == (2, ("GM",), ("K",))
    assert second.first.einsum.name == "GM"
    assert second.second.einsum.name == "SN"
    assert str(second.first).endswith("max[m] QK[m,p]\n                   ^^^^^^^")
    assert (third.first.einsum.name, third.second.einsum.name) == ("SD", "A")


def test_a_witness_without_source_is_in_the_words_of_the_dump() -> None:
    cascade = el.Cascade.from_json(el.parse(COUNTED["C1"][0]).to_json())
    (witness,) = el.count_passes(cascade).witnesses["K"]
    assert str(witness.first) == "Y[] = A[k] * B[k]\n      ^^^^"
    assert str(witness.second) == "Z[] = Y[] * A[k]\n            ^^^^"


def test_what_is_held_is_priced() -> None:
    report = el.count_passes(COUNTED["C4, attention"][0], Q=(2, 3), K=(2, 5), V=(7, 5))
    held = {each.tensor: each for each in report.families["M"].held}
    assert set(held) == {"QK", "SN"}
    options = held["SN"].options
    assert options is not None
    assert options.buffer == Polynomial.of(5 * 8)
    assert options.spill == Polynomial.of(2 * 3 * 5 * 8)
    # 2*E*M*P for QK, two operations a point for SN.
    assert options.recompute == Polynomial.of(2 * 2 * 5 * 3 + 2 * 5 * 3)
    assert options.reread == Polynomial.of((2 * 3 + 2 * 5) * 8)


def test_passes_that_grow_with_the_iterations() -> None:
    text = """cascade f(B[M], R[T]) -> Z {
  X[0,m]   = B[m]
  S[t]     = X[t,m]
  X[t+1,m] = X[t,m] / S[t] * R[t]
  Z[m]     = X[T,m]
}"""
    report = el.count_passes(text)
    assert str(report.passes["M"]) == "T + 1"
    assert report.passes["T"] == 1
    for rounds in (1, 2, 3, 8, 100):
        assert el.count_passes(text, B=(5,), R=(rounds,)).passes["M"] == rounds + 1


def test_an_inner_reduction_is_a_statement_of_its_own() -> None:
    text = VECTOR.format("  ranks N = M\n  Y[m] = X[m] / sum[n] X[n]")
    report = el.count_passes(text)
    assert report.passes == {"M": 2}


def test_a_reduction_in_a_reduction_is_a_statement_too() -> None:
    text = VECTOR.format(
        "  ranks N = M, L = M\n  Y[m] = exp(X[m]) / sum[n] exp(X[n] - max[l] X[l])"
    )
    report = el.count_passes(text)
    assert report.passes == {"M": 3}
    assert report.plan["M"] == {1: ("Y.1",), 2: ("Y.2",), 3: ("Y",)}


def test_what_a_pass_reads_after_its_first_einsum_is_held_too() -> None:
    text = PAIR.format("  S = A[k] * B[k]\n  T[k] = A[k] * S\n  Z[k] = T[k] + B[k]")
    held = el.count_passes(text).families["K"].held
    assert [(each.tensor, each.number, each.until) for each in held] == [
        ("A", 2, "S"),
        ("B", 2, "S"),
    ]


def test_names_of_bound_variables_do_not_count() -> None:
    one = VECTOR.format("  S = X[m]\n  Y[m] = X[m] / S")
    other = VECTOR.format("  ranks N = M\n  S = sum[n] X[n]\n  Y[m] = X[m] / S")
    assert el.count_passes(one).passes == el.count_passes(other).passes == {"M": 2}


def test_what_no_output_needs_takes_no_pass() -> None:
    text = PAIR.format("  S = A[k]\n  D[k] = A[k] / S\n  Z[k] = A[k] * B[k]")
    assert el.count_passes(text).passes == {"K": 1}


@pytest.mark.parametrize(
    ("line", "passes", "loops"),
    [
        ("Z[k] = A[k] * B[K-1-k]", 1, 1),  # each visit takes what was kept of B
        ("T[k] = A[k] * 2.0\n  Z[k] = T[K-1-k] * B[k]", 2, 2),
        ("T[k] = A[k] * 2.0\n  Z[k] = T[k-1 else 0.0] * B[k]", 1, 1),
    ],
)
def test_a_read_against_the_order_waits_for_the_whole(line: str, passes: int, loops: int) -> None:
    report = el.count_passes(PAIR.format(f"  {line}"))
    assert report.generations["K"] == loops
    assert report.passes["K"] == passes


def test_a_prefix_is_added_up_as_the_pass_goes() -> None:
    text = """cascade f(A[K]: f64) -> Z {
  ranks I = K
  R[0]   = 0.0
  R[i+1] = R[i] + A[i]
  S[i]   = sum[k] A[k] where k <= i
  Z      = S[i] * A[i] * R[i]
}"""
    assert el.count_passes(text).passes["K"] == 1


def test_attention_for_several_queries_is_counted_along_one_rank() -> None:
    text = ATTENTION.format(
        "  QK[m,p] = Q[e,p] * K[e,m]\n  N[p] = sum[m] exp(QK[m,p])\n"
        "  A[m,p] = exp(QK[m,p]) / N[p]\n  AV[f,p] = A[m,p] * V[f,m]"
    )
    assert el.count_passes(text).passes == {"E": 1, "P": 1, "M": 2, "F": 1}


def test_the_report_in_the_documentation_is_the_one_that_is_printed() -> None:
    page = (ROOT / "docs" / "passes.md").read_text("utf-8")
    source, printed = re.findall(r"```(?:text)?\n((?:cascade|passes) .*?)\n```", page, re.DOTALL)
    assert source in (ROOT / "examples" / "attention.ein").read_text("utf-8")
    assert printed == str(el.count_passes(source))
