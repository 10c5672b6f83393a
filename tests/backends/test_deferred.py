"""Sums of quotients with a common divisor, divided once made: the interpreter's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.ir.interpreter import evaluate
from einloom.ir.loop_nodes import Contract
from einloom.ir.loop_parser import parse_loops
from einloom.passes.loops.parts import each_in

from .native import WIDTHS, Native, empty_outputs, native, sized
from .test_blockwise import ATTENTION, SOME

QUOTIENTS = """
cascade c(E[M,N]: f32, L[M]: f32, V[N,F]: f32) -> O {
  P[m,n] = E[m,n] / L[m]
  O[m,f] = P[m,n] * V[n,f]
}"""

EXTENTS = [(300, 200, 40), (29, 150, 33), (1, 64, 1), (40, 1, 8), (30, 0, 8), (0, 60, 8)]

#: What the divisors may be.
DIVISORS = {
    "large": [1, 2, -3, 1e3, 7],
    "small": [1, 0.5, 3, 4, 5],
    "none": [1, 2, 0, 4, 5],
    "endless": [1, 2, np.inf, 4, 5],
    "unknown": [1, 2, np.nan, 4, 5],
}


def divisors(program: Any) -> list[str]:
    return [str(c.divisor) for c in each_in(program, Contract) if c.divisor is not None]


@pytest.mark.parametrize(("last", "deferred"), [(64, True), (2000, False)])
def test_weights_of_attention_are_read_where_they_lie(last: int, deferred: bool) -> None:
    """Not where columns are so many that packing pays."""
    made = native(ATTENTION, Q=(8, 2048, 64), K=(8, 2048, 64), V=(8, 2048, last))
    text = str(made.program)
    assert ("rows m'p of div(S[b'p,m'p,n], L[b'p,m'p]) or in O.P.block" in text) == deferred
    assert ("scratch S: f32 strides (M'P*N+16*M'P, N+16, 1)" in text) == deferred
    assert len(divisors(made.program)) == deferred
    assert parse_loops(text) == made.program


@pytest.mark.parametrize(
    "text",
    [
        QUOTIENTS.replace("L[M]", "L[N]").replace("L[m]", "L[n]"),  # another for each term
        QUOTIENTS.replace("L[M]", "L[M,N]").replace("L[m]", "L[m,n]"),
        QUOTIENTS.replace("P[m,n] * V[n,f]", "max[n] (P[m,n] * V[n,f])"),
        QUOTIENTS.replace("P[m,n] * V[n,f]", "sum[n] (P[m,n] + V[n,f])"),
        QUOTIENTS.replace("E[m,n] / L[m]", "L[m] / E[m,n]"),
    ],
)
def test_what_is_no_product_of_such_quotients_is_divided_at_once(text: str) -> None:
    lengths = {"M": 2000, "N": 1024}
    ranks = text.split("L[")[1].split("]")[0].split(",")
    made = native(text, E=(2000, 1024), L=tuple(lengths[r] for r in ranks), V=(1024, 64))
    assert not divisors(made.program)
    assert divisors(native(QUOTIENTS, E=(2000, 1024), L=(2000,), V=(1024, 64)).program)


def test_dividends_of_another_dtype_are_packed() -> None:
    arrays: dict[str, Any] = {"E": np.ones((2000, 1024)), "L": np.ones(2000)}
    arrays = {name: array.astype("f4") for name, array in arrays.items()}
    arrays |= {"E": arrays["E"].astype("f2"), "V": np.ones((1024, 64), "f4")}
    known = sized(el.parse(QUOTIENTS), arrays)
    assert not divisors(Native(known, {**arrays, **empty_outputs(known)}).program)


def bounds(arrays: dict[str, Any]) -> Any:
    """The sums of the terms' sizes."""
    dividends, divisors, values = (abs(arrays[name].astype("f8")) for name in "ELV")
    return (dividends / divisors[:, None]) @ values


def check(code: Native, arrays: dict[str, Any]) -> None:
    """That the code computes what the interpreter does, up to the rounding of sums."""
    known = sized(el.parse(QUOTIENTS.replace("f32", str(name_of(arrays)))), arrays)
    with np.errstate(all="ignore"):
        wanted = evaluate(known, arrays)["O"]
        sizes = bounds(arrays)
    given = {**arrays, **empty_outputs(known, 0x7F)}
    assert code(given) == 0
    found = given["O"]
    plain = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~plain], wanted[~plain])
    depth = arrays["E"].shape[1]
    error = abs(found[plain].astype("f8") - wanted[plain])
    assert (error <= 2 * (depth + 2) * np.finfo(found.dtype).eps * sizes[plain]).all()


def name_of(arrays: dict[str, Any]) -> str:
    return {4: "f32", 8: "f64"}[arrays["E"].dtype.itemsize]


@pytest.fixture(scope="module", params=[(b, d) for b in WIDTHS for d in ("f4", "f8")])
def made(request: pytest.FixtureRequest) -> tuple[Native, str]:
    """Code for any sizes, planned for some."""
    bits, dtype = request.param
    arrays = {"E": np.ones((300, 200)), "L": np.ones(300), "V": np.ones((200, 40))}
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    known = sized(el.parse(QUOTIENTS.replace("f32", name_of(arrays))), arrays)
    found = Native(known, {**arrays, **empty_outputs(known)}, bits, SOME)
    assert len(divisors(found.program)) == 1
    return found, dtype


def some(extents: tuple[int, int, int], dtype: str, kind: str) -> dict[str, Any]:
    rng = np.random.default_rng(sum(extents))
    m, n, f = extents
    shapes = {"E": (m, n), "V": (n, f)}
    found: dict[str, Any] = {k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()}
    return {**found, "L": np.resize(np.array(DIVISORS[kind], dtype), m)}


@pytest.mark.parametrize("kind", DIVISORS)
@pytest.mark.parametrize("extents", EXTENTS)
def test_divisors_of_every_kind(
    made: tuple[Native, str], extents: tuple[int, int, int], kind: str
) -> None:
    code, dtype = made
    check(code, some(extents, dtype, kind))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, "huge", "tiny"])
@pytest.mark.parametrize("name", ["E", "V"])
def test_numbers_of_every_kind(made: tuple[Native, str], name: str, special: Any) -> None:
    code, dtype = made
    numbers = np.finfo(dtype)
    value = {"huge": numbers.max / 16, "tiny": numbers.smallest_subnormal * 5}.get(special, special)
    for extents in EXTENTS[:2]:
        arrays = some(extents, dtype, "large")
        arrays[name][7, 13] = value
        check(code, arrays)


def test_sums_that_overflow_before_they_are_divided(made: tuple[Native, str]) -> None:
    code, dtype = made
    arrays = some((300, 200, 40), dtype, "large")
    arrays["E"] = abs(arrays["E"])
    arrays["L"] = arrays["E"].sum(1)
    arrays["V"][...] = np.finfo(dtype).max / 2
    check(code, arrays)
    arrays["V"][:, 1:] = 1  # in one column alone
    check(code, arrays)


def test_a_row_of_nan_leaves_others_alone() -> None:
    """Where scores are infinite; others are what they would be without it."""
    rng = np.random.default_rng(3)
    shapes = {"Q": (2, 200, 5), "K": (2, 300, 5), "V": (2, 300, 33)}
    arrays: dict[str, Any] = {k: rng.standard_normal(s).astype("f4") for k, s in shapes.items()}
    known = sized(el.parse(ATTENTION), arrays)
    code = Native(known, {**arrays, **empty_outputs(known)}, limits=SOME)
    assert divisors(code.program)
    found: list[Any] = []
    for value in (1, np.inf):
        arrays["Q"][1, 7] = value
        given = {**arrays, **empty_outputs(known)}
        assert code(given) == 0
        found.append(given["O"])
    assert np.isnan(found[1][1, 7]).all()
    others = np.delete(np.arange(200), 7)
    np.testing.assert_allclose(found[1][1, others], found[0][1, others], 1e-5, 1e-6)
    np.testing.assert_array_equal(found[1][0], found[0][0])


def test_the_number_of_threads_changes_nothing() -> None:
    """What some rows forbid is not for a thread to decide, whose rows are others each time."""
    rng = np.random.default_rng(0)
    e, v = rng.standard_normal((1000, 700), "f4"), rng.standard_normal((700, 64), "f4")
    divisor = rng.uniform(1, 4, 1000).astype("f4")
    divisor[777] = 0.5
    found = [el.compile(QUOTIENTS, threads=n)(e, divisor, v) for n in (None, 1, 2, 3)]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
