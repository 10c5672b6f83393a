"""The cost report: figures worked out by hand, symbols, what is printed, mistakes."""

from __future__ import annotations

import json

import pytest

import einloom as el
from einloom.passes.analysis.polynomial import Polynomial, total

from ..support import Golden

ATTENTION = """
cascade attention(Q[E,P]: f32, K[E,M]: f32, V[F,M]: f32) -> AV {
  QK[m,p] = Q[e,p] * K[e,m] / sqrt(E)
  GM[p]   = max[m] QK[m,p]
  SN[m,p] = exp(QK[m,p] - GM[p])
  SD[p]   = SN[m,p]
  A[m,p]  = SN[m,p] / SD[p]
  AV[f,p] = A[m,p] * V[f,m]
}"""


def test_the_report(golden: Golden) -> None:
    shown = [str(el.cost(ATTENTION))]
    shown.append(str(el.cost(ATTENTION, Q=(64, 128), K=(64, 256), V=(32, 256))))
    shown.append(str(el.cost(ATTENTION, Q=(64, 128))))
    shown.append(str(el.cost("ij,jk,kl->il")))
    window = "cascade w(X[H]: f64, F[R]: f64) -> Y { Y[p] = X[p+r] * F[r] where r <= p }"
    shown += [str(el.cost(window)), str(el.cost(window, X=(10,), F=(3,)))]
    golden("passes/cost.txt", "\n\n".join(shown) + "\n")


def test_a_matrix_product() -> None:
    report = el.cost("cascade f(A[I,J]: f32, B[J,K]: f32) -> Y { Y[i,k] = A[i,j] * B[j,k] }")
    assert str(report.flops) == "2*I*J*K"
    known = el.cost("ij,jk->ik", A=(2, 3), B=(3, 4))
    assert (known.flops.number, known.points.number, known.bytes) == (48, 24, None)


def test_the_largest_intermediate_and_plain_data() -> None:
    text = "cascade f(A[I]: i8, B[J]: i8) -> Y { S[i] = A[i]\n T[j] = B[j]\n Y = S[i] * T[j] }"
    report = el.cost(text)
    assert [each.name for each in report.largest] == ["S", "T"]
    known = el.cost(text, A=(5,), B=(7,)).as_dict()
    assert known["largest"] == {"T": 7}
    assert known["einsums"][0] == {
        "name": "S", "flops": 0, "bytes": 10, "points": 5, "elements": 5,
    }  # fmt: skip
    assert json.loads(report.to_json())["points"] == "I*J + I + J"


def test_mistakes() -> None:
    with pytest.raises(el.EinloomError, match="has no input Z"):
        el.cost("ij->i", Z=(2, 3))
    for shape in ((2,), (2, 3, 4)):
        with pytest.raises(el.EinloomError):
            el.cost("ij,jk->ik", A=shape)
    with pytest.raises(el.EinloomError):
        el.cost("ij,jk->ik", A=(2, 3), B=(4, 4))
    with pytest.raises(el.EinloomError):
        el.cost("ii->i", A=(2, 3))


def test_polynomials() -> None:
    i, j = Polynomial.of("I"), Polynomial.of("J")
    assert str(i + j * -1) == "I - J"
    assert str(j * -1 + 4) == "-J + 4"
    assert (i + i * -1).number == 0
    assert i * j == j * i
    assert (i * j + i).covers(i)
    assert not (i * j).covers(i + i)
    assert not i.covers(i * j)
    assert total([]).number == 0


def test_a_scan_moves_its_values_and_its_start() -> None:
    text = """cascade f(X[M]: f32) -> Y {
  S[0]   = 0.0
  S[m+1] = S[m] + X[m]
  Y      = S[M] * 2.0
}"""
    found = el.cost(text, X=(10,))
    assert {each.name: str(each.read) for each in found.einsums[1:]} == {"S": "84", "Y": "44"}
    assert found.bytes is not None
