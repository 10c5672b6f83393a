"""Whole cascades on encrypted slots: what they compute, their levels, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from einloom.backends.ckks.report import run
from einloom.backends.ckks.simulator import Simulator
from einloom.compiler import parse
from einloom.ir.errors import ArgumentError, EinloomError, LevelError, UnsupportedError
from einloom.ir.interpreter import evaluate
from einloom.ir.slot_counts import count
from einloom.ir.slot_executor import execute
from einloom.passes.fhe.approximate import Approximation
from einloom.passes.fhe.candidates import Choice
from einloom.passes.fhe.lower import Lowered, lower
from einloom.passes.fhe.normal import normal_form

from ...support import Golden

CHOICES: tuple[Choice, ...] = ("row-major", "free")
Shapes = Mapping[str, tuple[int, ...]]

LOGISTIC = """cascade logistic(X[B,F], W[F]) -> P {
  Z[b] = X[b,f] * W[f]
  P[b] = 0.5 + 0.197*Z[b] - 0.004*Z[b]*Z[b]*Z[b]
}"""
SIGMOID = """cascade logistic(X[B,F], W[F]) -> P {
  Z[b] = X[b,f] * W[f]
  P[b] = sigmoid(Z[b])
}"""
NETWORK = """cascade network(X[I], W1[H,I], B1[H], W2[O,H], B2[O]) -> Y {
  A[h] = sum[i] (W1[h,i]*X[i]) + B1[h]
  S[h] = 0.125*A[h]*A[h] + 0.5*A[h] + 0.25
  Y[o] = sum[h] (W2[o,h]*S[h]) + B2[o]
}"""
SCORES = """cascade scores(Q[M,D], K[N,D]) -> S {
  S[m,n] = Q[m,d]*K[n,d] / sqrt(D)
}"""
VARIANCE = """cascade variance(X[I]) -> V {
  M = X[i] / I
  E[] = X[i]*X[i] / I
  V[] = E[] - M[]*M[]
}"""
SOFTMAX = """cascade softmax(X[B]) -> Y {
  E[b] = exp(X[b])
  D    = E[b]
  Y[b] = E[b] / D
}"""
BROADCAST = """cascade f(A[I,J], B[J], C[I], W[I,J]) -> Y {
  Y[i,j] = 2*A[i,j] + B[j] - C[i]*W[i,j] + 3
}"""
PLAIN = """cascade f(X[I], A[I], B[I], J[I]: i64) -> Y, Z {
  C[i] = exp(B[i])
  Y[i] = A[i]*C[i]*X[i] / sqrt(I) + select(i < J[i], X[i], B[i])
  Z[i] = C[i] + A[i]
}"""

LAYERNORM = """cascade layernorm(X[I], G[I]) -> Y {
  M    = X[i] / I
  C[i] = X[i] - M
  V    = C[i]*C[i] / I
  Y[i] = G[i] * C[i] * rsqrt(V + 0.01)
}"""
ATTENTION = """cascade attention(Q[P,E], K[M,E], V[M,F]) -> A {
  S[p,m] = exp(Q[p,e]*K[m,e] / sqrt(E))
  D[p]   = S[p,m]
  N[p,f] = S[p,m]*V[m,f]
  A[p,f] = N[p,f] / D[p]
}"""
MAXIMUM = """cascade f(A[I], B[I]) -> Y {
  Y[i] = max(A[i], 2*B[i], 0.5) - erf(A[i] / 2)
}"""
CONV = """cascade conv(X[H], F[R]) -> Y {
  ranks H, R, P = H-R+1
  Z[p] = X[p+r] * F[r]
  Y[p] = Z[p]*Z[p] - Z[p] + X[p+1]
}"""
ASKED = {"exp": Approximation(-2, 2, 11), "div": Approximation(0.5, 24, 23)}
WIDE = {"max": Approximation(-4, 4, 12), "erf": Approximation(-1, 1, 7)}
#: Text, shapes, what is encrypted (None: all), what is approximated; levels of a free layout.
CASES: list[tuple[str, Shapes, list[str] | None, Mapping[str, Approximation], int]] = [
    (LOGISTIC, {"X": (4, 8), "W": (8,)}, ["X"], {}, 3),
    (LOGISTIC, {"X": (4, 8), "W": (8,)}, None, {}, 3),
    (SIGMOID, {"X": (4, 8), "W": (8,)}, ["X"], {"sigmoid": Approximation(-8, 8, 7)}, 4),
    (SIGMOID, {"X": (4, 8), "W": (8,)}, ["X"], {"P": Approximation(-8, 8, 31)}, 6),
    (NETWORK, {"X": (4,), "W1": (3, 4), "B1": (3,), "W2": (2, 3), "B2": (2,)}, ["X"], {}, 4),
    (NETWORK, {"X": (4,), "W1": (3, 4), "B1": (3,), "W2": (2, 3), "B2": (2,)}, None, {}, 5),
    (SCORES, {"Q": (3, 4), "K": (2, 4)}, ["Q"], {}, 1),
    (SCORES, {"Q": (3, 4), "K": (2, 4)}, None, {}, 2),
    (VARIANCE, {"X": (6,)}, None, {}, 2),
    (SOFTMAX, {"X": (4,)}, None, ASKED, 12),
    (BROADCAST, {"A": (3, 4), "B": (4,), "C": (3,), "W": (3, 4)}, ["B"], {}, 0),
    (BROADCAST, {"A": (3, 4), "B": (4,), "C": (3,), "W": (3, 4)}, ["A", "B", "C"], {}, 1),
    (BROADCAST, {"A": (3, 4), "B": (4,), "C": (3,), "W": (3, 4)}, None, {}, 1),
    (LAYERNORM, {"X": (5,), "G": (5,)}, ["X"], {"rsqrt": Approximation(0.005, 1, 15)}, 9),
    (ATTENTION, {"Q": (2, 4), "K": (3, 4), "V": (3, 2)}, None, ASKED, 14),
    (ATTENTION, {"Q": (2, 4), "K": (3, 4), "V": (3, 2)}, ["Q"], ASKED, 14),
    (MAXIMUM, {"A": (5,), "B": (5,)}, ["A"], WIDE, 11),
    (CONV, {"X": (6,), "F": (2,)}, ["X"], {}, 3),
    (PLAIN, {"X": (5,), "A": (5,), "B": (5,), "J": (5,)}, ["X"], {}, 1),
]
IDS = [
    f"{text.split('(')[0][8:]}-{'all' if s is None else ''.join(s)}" for text, _, s, _, _ in CASES
]


def arrays(shapes: Shapes) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        name: rng.integers(0, 5, shape) if name == "J" else rng.uniform(-1, 1, shape)
        for name, shape in shapes.items()
    }


def tolerance(made: Lowered) -> float:
    """What approximations leave of the exact values: a few times what they say."""
    return 1e-9 + 30 * sum(each.error for each in made.approximated)


@cache
def lowered(number: int, layout: Choice) -> Lowered:
    text, shapes, secret, asked, _ = CASES[number]
    return lower(parse(text), shapes, secret, slots=64, layout=layout, approximate=asked)


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_what_it_computes(number: int) -> None:
    text, shapes, _, _, levels = CASES[number]
    given = arrays(shapes)
    wanted = evaluate(parse(text), given)
    for layout in CHOICES:
        made = lowered(number, layout)
        inputs = made.inputs(given)
        found = execute(made.program, inputs) | {name: inputs[name] for name in made.clear}
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance(made))
        used = max(each.end for each in made.levels)
        assert used == made.program.levels == count(made.program).levels
        assert layout != "free" or used == levels


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_simulated(number: int) -> None:
    text, shapes, _, _, levels = CASES[number]
    given, made = arrays(shapes), lowered(number, "free")
    done = run(made.program, made.inputs(given))
    assert done.report.levels == levels
    wanted = evaluate(parse(text), given)
    for name, error in done.report.errors.items():
        assert error.largest < error.bound < 1e-4
        measured = np.abs(done.outputs[name] - wanted[name]).max()
        assert measured < error.bound + tolerance(made)


@pytest.mark.parametrize("number", [0, 4, 6], ids=[IDS[n] for n in (0, 4, 6)])
def test_seal(number: int) -> None:
    """SEAL leaves the trace of the simulator: every level, scale and size."""
    text, shapes, _, _, _ = CASES[number]
    given, made = arrays(shapes), lowered(number, "free")
    real = run(made.program, made.inputs(given), "seal")
    ours = run(made.program, made.inputs(given), Simulator(real.report.parameters, hoisting=False))
    assert real.report.made == ours.report.made
    assert real.report.counts == ours.report.counts
    for name, value in evaluate(parse(text), given).items():
        assert np.abs(real.outputs[name] - value).max() < real.report.errors[name].bound


def test_normal_forms(golden: Golden) -> None:
    texts = [
        f"{text}\n\n{normal_form(parse(text), shapes, secret, asked)}\n"
        for text, shapes, secret, asked, _ in CASES
    ]
    golden("passes/fhe/normal_forms.txt", "\n".join(texts))


def test_a_number_goes_into_plain_weights() -> None:
    """0.125 x^2 + 0.5 x + 0.25 takes one level, since W2 takes the 0.125."""
    text, shapes, secret, _, _ = CASES[4]
    levels = lower(parse(text), shapes, secret, slots=64).levels
    assert [str(each) for each in levels] == [
        "A: 1 levels, 0 to 1",
        "S: 1 levels, 1 to 2",
        "Y: 2 levels, 2 to 4",
    ]


REFUSED = [
    ("Y[i] = max(X[i], 0)", "max"),
    ("Y = max[i] X[i]", "reduction by max"),
    ("Y[i] = exp(X[i])", "exp"),
    ("Y[i] = W[i] / X[i]", "division"),
    ("Y[i] = select(X[i] > 0, X[i], 0)", "select"),
    ("Y[i] = X[i] > W[i]", "gt"),
    ("Y[i] = X[i] // 2", "floordiv"),
    ("Y[i] = pow(X[i], 0.5)", "power of 0.5"),
    ("Y[i] = pow(W[i], X[i])", "exponent"),
    ("Y[i] = W[i] where X[i] > 0 else 0", "filter"),
    ("Y[i] = W[i] * X[i] over max_plus", "semiring max_plus"),
    ("Y[i] = X[i] / 0", "divides by 0"),
    ("Y[i] = cast(X[i], i64)", "cast"),
    ("Y[i]: i64 = X[i]", "i64"),
    ("Y[i] = conj(X[i])", "conj"),
    ("Y[i] = X[i] * inf", "inf"),
    ("Y[i] = X[i] - X[i]", "does not depend"),
    ("Y[0] = X[i]", "one coordinate"),
    ("Y[i] = W[X[i]]", "encrypted indices"),
]


@pytest.mark.parametrize(("line", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_refused(line: str, says: str) -> None:
    cascade = parse(f"cascade f(X[I], W[I]) -> Y {{\n  {line}\n}}")
    with pytest.raises(UnsupportedError, match=says) as caught:
        lower(cascade, {"X": (4,), "W": (4,)}, ["X"], slots=16)
    assert "^" in str(caught.value)


def messages() -> list[str]:
    shapes = {"X": (4, 8), "W": (8,)}
    sigmoid, found = parse(SIGMOID), list[str]()
    for secret, asked, levels in (
        (["X"], {}, None),
        (["X"], {"sigmoid": Approximation(-8, 8, 31)}, 5),
        (["X"], {"sigmod": Approximation(-8, 8, 31)}, None),
        (["Y"], {}, None),
        ([], {}, None),
    ):
        with pytest.raises(EinloomError) as caught:
            lower(sigmoid, shapes, secret, slots=64, approximate=asked, levels=levels)
        found.append(f"{type(caught.value).__name__}: {caught.value}")
    return found


def test_messages(golden: Golden) -> None:
    golden("passes/fhe/lower_errors.txt", "\n\n".join(messages()) + "\n")


def test_levels_that_suffice() -> None:
    text, shapes, secret, asked, levels = CASES[3]
    lower(parse(text), shapes, secret, slots=64, layout="free", approximate=asked, levels=levels)
    with pytest.raises(LevelError, match="P runs out"):
        lower(parse(text), shapes, secret, slots=64, layout="free", approximate=asked, levels=5)


def test_a_name_that_is_none() -> None:
    with pytest.raises(ArgumentError, match="nothing"):
        lower(parse(VARIANCE), {"X": (4,)}, ["X"], slots=16, approximate={"nothing": ASKED["exp"]})


@pytest.mark.parametrize(
    ("line", "levels"),
    [
        ("A[i]*B[i] + C[i]*W[i]", 1),
        ("C[i]*W[i] + A[i]*B[i]", 1),
        ("A[i]*B[i]*C[i] + A[i]*B[i]*C[i]*D[i]", 2),
        ("A[i]*B[i]*C[i] + A[i]*B[i]*C[i]*D[i] + pow(A[i], 3) + pow(A[i], 4)", 2),
        ("pow(A[i], 3)*B[i] + pow(A[i], 4)*W[i] + C[i]*C[i]*B[i]", 3),
        ("(A[i]*W[i] + B[i]*C[i]) * (W[i]*D[i]) + A[i]*B[i]*W[i] + C[i]", 2),
    ],
)
def test_scales_take_no_level(line: str, levels: int) -> None:
    """Sums of products of unlike depths have no more levels than their products."""
    cascade = parse(f"cascade f(A[I], B[I], C[I], D[I], W[I]) -> Y {{\n  Y[i] = {line}\n}}")
    shapes = dict.fromkeys("ABCDW", (4,))
    made = lower(cascade, shapes, "ABCD", slots=16)
    given = arrays(shapes)
    found = execute(made.program, made.inputs(given))["Y"]
    np.testing.assert_allclose(found, evaluate(cascade, given)["Y"], atol=1e-9)
    assert made.program.levels == levels
