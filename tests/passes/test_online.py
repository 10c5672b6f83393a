"""Fewer passes: the forms that are derived, that they are the same function, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pytest

import einloom as el
from einloom.ir.cascade import Cascade
from einloom.ir.errors import ArgumentError, PassError, PipelineError
from einloom.passes.equality import counterexample
from einloom.passes.online.confirm import refuted
from einloom.passes.online.fewest import FewestPasses
from einloom.passes.online.forms import Form, Shift
from einloom.passes.online.loop import Loop
from einloom.passes.spec import parse_pipeline

from ..support import Golden
from .counted import ATTENTION, COUNTED, VECTOR
from .online_cases import CASES, REFUSED

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: Each way to fold tiles: in one scan, coordinate by coordinate, in chunks, all at once.
WAYS = (
    "online{rank=m, tile=3, terms=true}",
    "online{rank=m, terms=true}",
    "online{rank=m, tile=2, chunk=2, terms=true}",
    "merge{rank=m, tile=3, terms=true}",
    "defer{rank=m, terms=true}",
)
KINDS = ("plain", "huge", "some -inf", "all -inf", "nan", "inf")


def inputs(cascade: Cascade, extent: int, kind: str, seed: int) -> dict[str, Any]:
    """Values for the inputs of a case, with M of that extent."""
    rng = np.random.default_rng(seed)
    sizes = {"M": extent, "E": 3, "P": 4, "F": 2, "B": 3, "N": 3}
    if any(rank.name == "P" and rank.shape is not None for rank in cascade.ranks):
        sizes["P"] = extent
    found: dict[str, Any] = {}
    for decl in cascade.inputs:
        shape = tuple(size.value(sizes) for size in decl.extents)
        assert decl.dtype is not None
        if decl.dtype.kind == "bool":
            found[decl.name] = rng.random(shape) < 0.4
        elif decl.dtype.is_integer:
            found[decl.name] = rng.integers(0, extent, shape)
        else:
            found[decl.name] = _drawn(rng, shape, kind)
    return found


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Array:
    values: Array = rng.standard_normal(shape)
    if kind == "huge":
        return values * 1e4
    if kind == "all -inf":
        return np.full(shape, -np.inf)
    some = rng.random(shape) < (0.5 if kind == "some -inf" else 0.1)
    put = {"some -inf": -np.inf, "nan": np.nan, "inf": np.inf}
    return np.where(some, put[kind], values) if kind in put else values


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_the_function_stays(name: str, way: str) -> None:
    """On moderate, huge, infinite and undefined values; A' is for finite ones alone."""
    text, _, _, several = CASES[name]
    before = el.parse(text)
    after = el.rewrite(before, way)
    assert after is not before or way.startswith("defer")
    for seed, extent in enumerate((1, 2, 5, 7)):
        for kind in KINDS[:2] if several else KINDS:
            given = inputs(before, extent, kind, seed)
            with np.errstate(all="ignore"):
                want, got = el.evaluate(before, **given), el.evaluate(after, **given)
            assert got.dtype == want.dtype
            largest = float(np.max(np.abs(want), where=np.isfinite(want), initial=1.0))
            # What is huge is squared where A' subtracts it again.
            close = 1e-11 * largest * (1e8 if several and kind == "huge" else 1)
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=close, equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_the_fewest_passes_are_found(name: str) -> None:
    text, written, fewest, several = CASES[name]
    before = el.parse(text)
    assert el.count_passes(before).passes["M"] == written
    search = FewestPasses("m", 4)
    assert any(getattr(each, "terms", False) for each in search.sequence(before).passes) == several
    assert el.count_passes(search(before)).passes["M"] == fewest
    kept = FewestPasses("m", 4, terms=False)(before)
    assert (el.count_passes(kept).passes["M"] == fewest) is not several


@pytest.mark.parametrize(
    "way", ["online{rank=m, tile=3}", "online{rank=m}", "merge{rank=m, tile=3}"]
)
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_come_apart_is_refused(name: str, way: str) -> None:
    body, reason = REFUSED[name]
    with pytest.raises(PassError, match=reason):
        el.rewrite(VECTOR.format(body), way)


def test_refusals(golden: Golden) -> None:
    shown: list[str] = []
    for name, (body, _) in REFUSED.items():
        with pytest.raises(PassError) as found:
            el.rewrite(VECTOR.format(body), "online{rank=m}")
        shown.append(f"# {name}\n{found.value}\n")
    golden("passes/online_refused.txt", "\n".join(shown))


DERIVED = (
    "defer{rank=m}",
    "online{rank=m}",
    "online{rank=m, tile=256}",
    "online{rank=m, tile=64, chunk=4}",
    "merge{rank=m, tile=256}",
    "merge{rank=m, tile=256, tensors=[GM, SD]}",
)


def test_derived_forms_of_attention(golden: Golden) -> None:
    before = el.parse(COUNTED["C4, attention"][0])
    shown: list[str] = []
    for text in DERIVED:
        after = el.rewrite(before, text)
        shown.append(f"# {text}: passes {el.count_passes(after).passes}\n{after}\n")
    golden("passes/online_attention.txt", "\n".join(shown))


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("defer{rank=m}", {"M": 2}),
        ("online{rank=m}", {"M": 1}),
        ("online{rank=m, tile=256}", {"M": 1, "M1": 1, "M0": 2, "P": 1, "E": 1, "F": 1}),
        ("online{rank=m, tile=64, chunk=4}", {"M": 1, "M2": 2}),
        ("merge{rank=m, tile=256}", {"M": 1, "M1": 2}),
        ("merge{rank=m, tile=256, tensors=[GM, SD]}", {"M": 2}),
        ("fewest-passes{rank=m, tile=256}", {"M": 1}),
    ],
)
def test_from_attention_to_each_form(text: str, passes: Mapping[str, int]) -> None:
    """FuseMax's C5, the two-pass form, split-K and FlashDecoding, from C4 alone."""
    found = el.count_passes(el.rewrite(COUNTED["C4, attention"][0], text)).passes
    assert {rank: found[rank] for rank in passes} == passes


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("name", ["attention", "causal, filtered", "log-sum-exp", "exp2"])
def test_backends_run_the_derived_forms(name: str, backend: str) -> None:
    before = el.parse(CASES[name][0])
    given = inputs(before, 7, "plain", 3)
    want = el.evaluate(before, **given)
    for way in WAYS[:4]:
        got = el.compile(before, backend=backend, passes=way)(**given)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_the_error_is_that_of_the_stable_form() -> None:
    """Median over 100 seeds, in f32 against f64: at most 1.2 times that of three passes."""
    single = COUNTED["C4, attention"][0].replace("f64", "f32")
    three, one = el.parse(single), el.rewrite(single, "online{rank=m, tile=8}")
    exact = el.parse(COUNTED["C4, attention"][0])
    errors: dict[str, list[float]] = {"three": [], "one": []}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        shapes = {"Q": (4, 3), "K": (4, 37), "V": (2, 37)}
        given: dict[str, Any] = {n: rng.standard_normal(s).astype("f4") for n, s in shapes.items()}
        wide: dict[str, Any] = {n: a.astype("f8") for n, a in given.items()}
        want = el.evaluate(exact, **wide)
        for name, cascade in (("three", three), ("one", one)):
            errors[name].append(float(np.max(np.abs(el.evaluate(cascade, **given) - want))))
    assert np.median(errors["one"]) <= 1.2 * np.median(errors["three"])


def test_a_masked_first_tile_does_not_poison_the_rest() -> None:
    text = COUNTED["log-sum-exp, stable"][0]
    after = el.rewrite(text, "online{rank=m, tile=2}")
    values = np.array([-np.inf, -np.inf, -np.inf, 1.0, 2.0])
    assert np.isclose(el.evaluate(after, X=values), np.log(np.exp(1.0) + np.exp(2.0)))
    with np.errstate(all="ignore"):
        nothing = np.full(5, -np.inf)
        assert np.isnan(el.evaluate(text, X=nothing))
        assert np.isnan(el.evaluate(after, X=nothing))


def test_a_row_that_a_filter_empties_stays_zero() -> None:
    name = "causal, filtered"
    after = el.rewrite(CASES[name][0], "online{rank=m, tile=2}")
    given = inputs(after, 5, "plain", 0)
    found = el.evaluate(after, **given)
    assert not found[:, 0].any()
    assert np.isfinite(found).all()


def test_an_empty_rank_is_assumed_away_only_where_it_matters() -> None:
    deferred = el.rewrite(COUNTED["C4, attention"][0], "online{rank=m, tile=4}")
    assert "M > 0" in str(deferred)
    with pytest.raises(el.EinloomError, match="M > 0"):
        el.evaluate(deferred, Q=np.ones((2, 3)), K=np.ones((2, 0)), V=np.ones((1, 0)))
    kept = el.rewrite(
        VECTOR.format("  G = min[m] X[m]\n  D = sum[m] (exp(G - X[m]) * X[m])\n  Y = G + D"),
        "online{rank=m, tile=4}",
    )
    assert "M0 = 4\n" in str(kept)
    assert el.evaluate(kept, X=np.ones(0)) == np.inf
    assert np.isnan(el.evaluate(kept, X=np.array([np.inf])))


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_dtypes_stay(dtype: str) -> None:
    before = el.parse(COUNTED["C4, attention"][0].replace("f64", dtype))
    for way in WAYS[:4]:
        after = el.rewrite(before, way.replace(", terms=true", ""))
        rng = np.random.default_rng(0)
        numpy = before.inputs[0].dtype
        assert numpy is not None
        shapes = {"Q": (2, 3), "K": (2, 9), "V": (2, 9)}
        given: dict[str, Any] = {
            n: rng.standard_normal(s).astype(numpy.numpy) for n, s in shapes.items()
        }
        want, got = el.evaluate(before, **given), el.evaluate(after, **given)
        assert got.dtype == want.dtype
        far = {"f16": 3e-3, "bf16": 3e-2, "f32": 1e-5, "f64": 1e-13}[dtype]
        np.testing.assert_allclose(got.astype("f8"), want.astype("f8"), atol=far)


@pytest.mark.parametrize(
    "body",
    [
        "sum[m] (K[m] * D)",
        "sum[m] (K[m] / D)",
        "sum[m] (-(K[m] * D))",
        "sum[m] (K[m] * D * K[m])",
        "sum[m] (K[m] * D - X[m] * D)",
        "max[m] (K[m] + D + K[m])",
    ],
)
@pytest.mark.parametrize("dtype", ["u8", "i8", "bool", "f16", "f32"])
def test_what_is_left_in_a_sum_is_computed_in_no_less(dtype: str, body: str) -> None:
    if dtype == "bool" and "max" in body:
        body = "max[m] (K[m] + D)"
    before = el.parse(f"cascade f(X[M]: f64, K[M]: {dtype}) -> Y {{\n  D = X[m]\n  Y = {body}\n}}")
    after = el.rewrite(before, "defer{rank=m}")
    assert after != before
    declared = before.inputs[1].dtype
    assert declared is not None
    large = {"u8": 200, "i8": -100, "bool": True, "f16": 60000, "f32": 1e38}[dtype]
    given: dict[str, Any] = {
        "X": np.array([1.0, 2.0, 0.5]),
        "K": np.array([large] * 3, declared.numpy),
    }
    want, got = el.evaluate(before, **given), el.evaluate(after, **given)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("way", [*WAYS, "defer{rank=m, terms=true}"])
@pytest.mark.parametrize("dtype", ["f16", "f32"])
@pytest.mark.parametrize("body", ["sum[m] exp(X[m] - D)", "sum[m] ((X[m] - D) * (X[m] - D))"])
def test_outputs_are_stored_as_before(body: str, dtype: str, way: str) -> None:
    before = el.parse(f"cascade f(X[M]: {dtype}) -> D, Y {{\n  D = max[m] X[m]\n  Y = {body}\n}}")
    try:
        after = el.rewrite(before, way)
    except PassError:
        pytest.skip("refused")
    x = np.linspace(-1, 1, 7, dtype="f2" if dtype == "f16" else "f4")
    want, got = el.evaluate(before, X=x), el.evaluate(after, X=x)
    assert {n: v.dtype for n, v in got.items()} == {n: v.dtype for n, v in want.items()}


def test_a_cast_that_loses_is_not_taken_apart() -> None:
    body = "  D = max[m] X[m]\n  Y = sum[m] exp(cast(X[m] - D, f32))"
    with pytest.raises(PassError, match="mixes D"):
        el.rewrite(VECTOR.format(body), "online{rank=m}")


def test_a_filter_that_leaves_nothing() -> None:
    text = """cascade f(X[M]: f64, W[P]: f64) -> Y {{
  D    = max[m] X[m]
  Y[p] = max[m] (X[m] - D) where m < p{}
}}"""
    for otherwise in ("", " else -inf"):
        before = el.parse(text.format(otherwise))
        after = el.rewrite(before, "defer{rank=m}")
        assert after != before
        given: dict[str, Any] = {"X": np.array([1.0, 3.0]), "W": np.zeros(3)}
        want = el.evaluate(before, **given)
        np.testing.assert_array_equal(el.evaluate(after, **given), want)
        np.testing.assert_array_equal(want, [-np.inf, -2.0, 0.0])
    with pytest.raises(PassError, match="Y is 7 where its filter leaves nothing"):
        el.rewrite(text.format(" else 7"), "defer{rank=m, tensor=Y}")


@pytest.mark.parametrize(
    "body",
    [
        "Y = sum[m] select(B[m], X[m] / D, 0)",
        "Y = sum[m] select(B[m], 0, X[m] / D)",
        "E[m] = X[m] / D where B[m] else 0\n  Y = sum[m] (E[m] * X[m])",
        "E[m] = exp(X[m] - G)\n  Y = sum[m] (select(B[m], E[m] / D, 0) * X[m]) where m > 0",
    ],
)
def test_a_choice_of_zeros_stays_zero(body: str) -> None:
    before = el.parse(
        f"cascade f(X[M]: f64, B[M]: bool) -> Y {{\n  G = max[m] X[m]\n  D = X[m]\n  {body}\n}}"
    )
    after = el.rewrite(before, "defer{rank=m}")
    assert after != before
    for chosen in (False, True):
        given: dict[str, Any] = {"X": np.array([1.0, -1.0]), "B": np.array([chosen] * 2)}
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(
                np.isfinite(el.evaluate(after, **given)), np.isfinite(el.evaluate(before, **given))
            )


@pytest.mark.parametrize(
    "way", ["online{rank=m, tile=4}", "online{rank=m, tile=2, chunk=2}", "merge{rank=m, tile=3}"]
)
@pytest.mark.parametrize(
    ("ranks", "read"),
    [("", "X[m+r] * F[r]"), ("ranks M = H//2", "X[2*m+1]"), ("ranks N = H, M = N-1", "X[J[m+1]]")],
)
def test_a_tile_reads_nothing_past_the_end(ranks: str, read: str, way: str) -> None:
    before = el.parse(
        f"cascade f(X[H]: f64, F[R]: f64, J[H]: i64) -> Y {{\n  {ranks or 'ranks H'}\n"
        f"  S[m] = {read}\n  D = max[m] S[m]\n  Y = sum[m] exp(S[m] - D)\n}}"
    )
    after = el.rewrite(before, way)
    given: dict[str, Any] = {
        "X": np.linspace(-1, 1, 11),
        "F": np.array([0.5, 2.0]),
        "J": np.arange(11)[::-1].copy(),
    }
    want = el.evaluate(before, **given)
    np.testing.assert_allclose(el.evaluate(after, **given), want, rtol=1e-13)
    for backend in ("numpy", "llvm"):
        found = el.compile(after, backend=backend)(*given.values())
        np.testing.assert_allclose(found, want, rtol=1e-13)


def test_integers_are_not_repaired() -> None:
    text = "cascade f(X[M]: i32) -> Y {\n  G = max[m] X[m]\n  Y = sum[m] exp(X[m] - G)\n}"
    with pytest.raises(PassError, match="G is i32"):
        el.rewrite(text, "online{rank=m}")


def test_a_claimed_step_is_tried() -> None:
    """exp(QK - GM) as exp(QK - LM), without what corrects it."""
    three = el.parse(COUNTED["C4, attention"][0])
    claimed = el.parse(
        ATTENTION.format(
            """
  ranks M0 = 2
  partition M -> M1, M0
  QK[m1,m0,p] = Q[e,p] * K[e, m1*M0+m0]
  LM[m1,p]    = max[m0] QK[m1,m0,p]
  SN[m1,m0,p] = exp(QK[m1,m0,p] - LM[m1,p])
  SD[p]       = SN[m1,m0,p]
  NV[f,p]     = SN[m1,m0,p] * V[f, m1*M0+m0]
  AV[f,p]     = NV[f,p] / SD[p]"""
        )
    )
    found = counterexample(three, claimed)
    assert found is not None
    assert found.startswith("AV for ")
    for way in DERIVED:
        assert counterexample(three, el.rewrite(three, way)) is None
    with pytest.raises(PassError, match="same inputs"):
        counterexample(three, el.parse(VECTOR.format("  Y = X[m]")))


@pytest.mark.parametrize(
    ("inputs", "one", "other", "says"),
    [
        ("X[M]: c128", "Y[m] = conj(X[m])", "Y[m] = X[m]", "is not"),
        ("X[M]: i64", "Y[m] = abs(X[m])", "Y[m] = X[m]", "negative values: "),
        ("X[M]: f64", "Y = M", "Y = max(M, 1)", "for M = 0, "),
        ("X[M]: f16", "Y[m] = X[m]", "Y[m] = X[m] * 1.5", "is not"),
        ("X[M]: f64", "Y[m] = X[m] - 1", "Y[m] = (sum[n] X[n]) - 1", "is not"),
        ("X[M]: f64", "Y[m] = X[m]", "Y[m] = X[m+1]", "fails: X is read at"),
    ],
)
def test_what_tells_two_cascades_apart(inputs: str, one: str, other: str, says: str) -> None:
    first, second = (
        el.parse(f"cascade f({inputs}) -> Y {{\n  ranks M, N = M\n  {body}\n}}")
        for body in (one, other)
    )
    found = counterexample(first, second)
    assert found is not None
    assert says in found
    assert counterexample(first, first) is None


def test_bf16_differs_by_rounding_alone() -> None:
    three = el.parse(COUNTED["C4, attention"][0].replace("f64", "bf16"))
    assert counterexample(three, el.rewrite(three, "online{rank=m, tile=3}")) is None


def test_what_was_never_tried_is_not_the_same() -> None:
    text = "cascade f(X[M]: f64) -> Y {{\n  ranks M, M % 16 == 0\n  Y[m] = {} * X[m]\n}}"
    with pytest.raises(PassError, match="nothing was compared"):
        counterexample(el.parse(text.format(1)), el.parse(text.format(2)))
    with pytest.raises(ArgumentError, match="a seed is a whole number"):
        el.counterexample(text.format(1), text.format(1), seed=-1)


def test_numbers_refute_what_rules_would_claim() -> None:
    """The confirmation does not trust the rules: wrong forms of exp(X - D) are found out."""
    cascade = el.parse(VECTOR.format("  D = max[m] X[m]\n  Y = sum[m] exp(X[m] - D)"))
    loop = Loop(cascade, "m")
    fold = loop.folds["Y"]
    body, (right,) = fold.reduce.expr, fold.terms
    (shift,) = right.shifts

    def tried(term: Form) -> str | None:
        return refuted(loop.separator, body, (term,), additive=False)

    assert tried(right) is None
    assert tried(Form(right.kernel, (), (Shift(shift.value, +1),))) is not None
    assert tried(Form(right.kernel, ((shift.value, 1),), right.shifts)) is not None
    assert tried(Form(loop.folds["D"].reduce.expr, (), ())) is not None


def test_a_shared_prefix() -> None:
    text = """cascade decode(Q[B,E]: f64, K[B,E,M]: f64, V[B,F,M]: f64, W[B,M]: f64) -> AV {
  QK[b,m] = Q[b,e] * K[b,e,m]
  S[b,m]  = QK[b,m] + W[b,m]
  GM[b]   = max[m] S[b,m]
  SN[b,m] = exp(S[b,m] - GM[b])
  SD[b]   = SN[b,m]
  A[b,m]  = SN[b,m] / SD[b]
  AV[b,f] = A[b,m] * V[b,f,m]
}"""
    shared = el.rewrite(text, "shared_prefix{rank=m, batch=b, tensors=[K, V]}")
    online = el.rewrite(shared, "online{rank=mp, tile=2}, online{rank=ms, tile=3}")
    assert [str(decl) for decl in shared.inputs][1:3] == [
        "K_prefix[E,MP]: f64",
        "K_suffix[B,E,MS]: f64",
    ]
    passes = el.count_passes(online).passes
    assert passes["MP"] == passes["MS"] == 1
    rng = np.random.default_rng(0)
    for prefix, suffix in ((4, 3), (1, 1), (5, 0), (0, 2)):
        parts: dict[str, Any] = {
            "K_prefix": rng.standard_normal((2, prefix)),
            "K_suffix": rng.standard_normal((3, 2, suffix)),
            "V_prefix": rng.standard_normal((5, prefix)),
            "V_suffix": rng.standard_normal((3, 5, suffix)),
            "W_prefix": rng.standard_normal((3, prefix)),
            "W_suffix": rng.standard_normal((3, suffix)),
        }
        query = rng.standard_normal((3, 2))
        whole: dict[str, Any] = {
            name: np.concatenate(
                [
                    np.broadcast_to(
                        parts[f"{name}_prefix"], (3, *parts[f"{name}_suffix"].shape[1:-1], prefix)
                    ),
                    parts[f"{name}_suffix"],
                ],
                axis=-1,
            )
            for name in ("K", "V", "W")
        }
        want = el.evaluate(text, Q=query, **whole)
        for cascade in (shared, online):
            np.testing.assert_allclose(el.evaluate(cascade, Q=query, **parts), want, rtol=1e-12)


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("online{rank=z}", "no rank variable z"),
        ("online{rank=M}", "no rank variable M"),
        ("online{rank=m, tensors=[QK]}", "QK is no reduction over m"),
        ("online{rank=m, tensors=[QK]}", "these are: GM, SD, AV"),
        ("online{rank=m, tensors=[SD]}", "SD waits for GM, which cannot take part"),
        ("shared_prefix{rank=m, batch=m, tensors=[K]}", "another rank than m"),
        ("merge{rank=e, tile=4}", "no reduction over e waits"),
        ("shared_prefix{rank=m, batch=p, tensors=[Q]}", "Q is no input with an axis M"),
        ("shared_prefix{rank=m, batch=p, tensors=[K]}", "one P if it shares"),
        ("defer{rank=m, tensor=QK}", "QK is no reduction over m"),
    ],
)
def test_mistakes(way: str, says: str) -> None:
    with pytest.raises(PassError, match=says):
        el.rewrite(COUNTED["C4, attention"][0], way)


@pytest.mark.parametrize(
    "way",
    [
        "online{rank=m, tile=0}",
        "merge{rank=m, tile=-1}",
        "online{rank=m, chunk=2}",
        "fewest-passes{rank=m, tile=0}",
    ],
)
def test_options_that_cannot_be(way: str) -> None:
    with pytest.raises(PipelineError, match=way.partition("{")[0]):
        el.rewrite(COUNTED["C4, attention"][0], way)


@pytest.mark.parametrize("way", [*WAYS, *DERIVED, "shared_prefix{rank=m, batch=b, tensors=[K, V]}"])
def test_a_pass_is_its_text(way: str) -> None:
    assert str(parse_pipeline(way)) == way


def test_nothing_to_defer_is_nothing_changed() -> None:
    cascade = el.parse(COUNTED["C2, deferral"][0])
    assert el.rewrite(cascade, "defer{rank=k}") == cascade
    assert el.rewrite(cascade, "fewest-passes{rank=k}") == cascade
