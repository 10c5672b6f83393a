"""Every law on every semiring: applied where its laws hold, and then equal in the interpreter."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from einloom.compiler import parse
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import DTYPES
from einloom.ir.errors import EinloomError, PassError
from einloom.ir.interpreter import evaluate
from einloom.ir.operators import OPERATORS, SEMIRINGS, value_in
from einloom.ir.verify import verify
from einloom.passes.base import Pass
from einloom.passes.registry import available_passes, pass_names
from einloom.passes.rewrite import Rewrite
from einloom.passes.rewrites.adjoint import Adjoint
from einloom.passes.rewrites.homomorphism import HOMOMORPHISMS, Homomorphism, hom
from einloom.passes.spec import parse_pipeline

from ..cascades import Array, Sample, assert_close, generals, products
from ..support import Golden
from .laws import LAWS, RINGS, RULES, law_cascade, law_inputs


def law(text: str) -> Pass:
    (made,) = parse_pipeline(text).passes
    assert str(made) == text
    return made


def test_every_pass_is_tried() -> None:
    # Of one semiring each, or another function, or of several Einsums: tested apart.
    others = {"hom", "adjoint", "plain"}
    others |= {"defer", "online", "merge", "shared_prefix", "fewest-passes"}
    assert {law(text).name for text in LAWS} | others == set(pass_names())


_CITED = re.compile(r"rules? (\d+)(?: \([^)]*\))?(?: and (\d+))?")


def test_every_rule_is_a_pass(golden: Golden) -> None:
    """A table: each rule, the passes whose docstrings cite it, and how many Cascades try it."""
    cited: dict[int, list[str]] = {number: [] for number in range(1, len(RULES) + 1)}
    for name, made in available_passes().items():
        text = " ".join((made.__doc__ or "").split())
        for number in {int(n) for found in _CITED.findall(text) for n in found if n}:
            cited[number].append(name)
    tried = Counter(law(text).name for text, sources in LAWS.items() for _ in sources)
    lines: list[str] = []
    for number, names in cited.items():
        shown = ", ".join(f"{name} {tried[name] or '(below)'}" for name in sorted(names))
        lines.append(f"{number:2} {RULES[number - 1]:26}{shown}")
        assert shown, f"no pass cites rule {number}"
    golden("passes/rules.txt", "\n".join(lines) + "\n")


def near(before: Cascade, arrays: Mapping[str, Array], got: Array, want: Array) -> bool:
    """Equal, or in floats within c n eps Σ|terms|."""
    if want.dtype.kind not in "fc":
        return got.dtype == want.dtype and np.array_equal(got, want)
    positive = {name: np.abs(a) if a.dtype.kind in "fc" else a for name, a in arrays.items()}
    ring = before.einsums[-1].ring
    scale: Array = np.asarray(10 + 4 * sum(float(np.max(np.abs(a), initial=0)) for a in
                              positive.values() if a.dtype.kind in "fc"))  # fmt: skip
    if ring.mul == "mul":
        inputs = {n: a.astype(arrays[n].dtype) for n, a in positive.items()}
        scale = np.abs(evaluate(before, inputs)["Y"])
    eps = float(np.finfo(want.dtype).eps)
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
    fits = (got == want) | (np.isnan(got) & np.isnan(want)) | (error <= 200 * eps * scale)
    return got.dtype == want.dtype and got.shape == want.shape and bool(np.all(fits))


@pytest.mark.parametrize("text", LAWS)
def test_before_and_after(text: str, golden: Golden) -> None:
    made = law(text)
    shown: list[str] = []
    for source in LAWS[text]:
        ring = ("max_min", "f32") if made.name == "idem_mul" else ("sum_product", "f64")
        if made.name == "idem_add":
            ring = ("max_plus", "f64")
        before = law_cascade(source, *ring)
        after = verify(made(before))
        assert after is not before
        shown.append(f"{before}\n->\n{after}\n")
        if isinstance(made, Rewrite):
            assert made(after) is after, "a fixpoint"
    file = text.replace("{", ".").replace("}", "").replace("=", "-").replace(", ", ".")
    golden(f"passes/laws/{file.replace('[', '').replace(']', '')}.txt", "\n".join(shown))


@pytest.mark.parametrize(("semiring", "dtype"), RINGS)
@pytest.mark.parametrize("text", LAWS)
def test_the_meaning_is_kept(text: str, semiring: str, dtype: str) -> None:
    made = law(text)
    for source in LAWS[text]:
        before = law_cascade(source, semiring, dtype)
        try:
            after = verify(made(before))
        except PassError:
            continue
        for seed in range(6):
            arrays = law_inputs(before, seed, least=seed % 3 != 0)
            want, got = evaluate(before, arrays)["Y"], evaluate(after, arrays)["Y"]
            assert near(before, arrays, got, want), (after, arrays, got, want)


def test_where_each_law_applies(golden: Golden) -> None:
    """A table: laws by semirings, with the number of the examples that each law rewrites."""
    head = f"{'':46}" + " ".join(f"{s[:7]:>7}" for s, _ in RINGS)
    lines = [head, f"{'':46}" + " ".join(f"{d:>7}" for _, d in RINGS)]
    for text, sources in LAWS.items():
        applied: list[str] = []
        for ring in RINGS:
            count = 0
            for source in sources:
                before = law_cascade(source, *ring)
                with contextlib.suppress(PassError):
                    count += law(text)(before) is not before
            applied.append(f"{count or '-':>7}")
        lines.append(f"{text:46}" + " ".join(applied))
    golden("passes/laws_by_semiring.txt", "\n".join(lines) + "\n")


# ---- laws one after another, on random Cascades

#: Passes that need no options.
FREE = [
    name
    for name, made in available_passes().items()
    if name != "search" and all(field.default is not MISSING for field in fields(cast("Any", made)))
]


@given(
    products(most=4, exact=True),
    st.lists(st.sampled_from([*FREE, "search{steps=2}"]), min_size=2, max_size=6),
)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_laws_in_any_order(sample: Sample, names: list[str]) -> None:
    after = parse_pipeline(", ".join(names)).apply(sample.cascade)
    want, got = evaluate(sample.cascade, sample.arrays), evaluate(after, sample.arrays)
    assert {n: a.dtype for n, a in got.items()} == {n: a.dtype for n, a in want.items()}
    assert_close(sample, got, want)


@given(generals(), st.lists(st.sampled_from(FREE), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_laws_on_every_construct(sample: Sample, names: list[str]) -> None:
    """Filters, fills, gathers, affine indices, nested reductions, casts."""
    after = parse_pipeline(", ".join(names)).apply(sample.cascade)
    try:
        want = evaluate(sample.cascade, sample.arrays)
    except EinloomError as error:
        with pytest.raises(type(error)):
            evaluate(after, sample.arrays)
        return
    for name, got in evaluate(after, sample.arrays).items():
        assert got.dtype == want[name].dtype
        wide = np.float64 if got.dtype.kind in "fV" else got.dtype
        np.testing.assert_allclose(got.astype(wide), want[name].astype(wide), rtol=1e-4)


# ---- rule 26: homomorphisms

_KINDS = {
    "_floats": ("f64", "f64"),
    "_truncates": ("i64", "i16"),
    "_truth": ("bool", "i32"),
    "_integers": ("i64", "i64"),
}


@pytest.mark.parametrize("row", HOMOMORPHISMS, ids=lambda row: f"{row.op}-{row.source}")
def test_homomorphisms(row: Homomorphism) -> None:
    """f(zero), f(one), f(a + b) and f(a * b), as the rule makes it of a product."""
    before, after = _KINDS[row.fits.__name__]
    source, target = SEMIRINGS[row.source], SEMIRINGS[row.target]
    rest = f", {row.number}" if row.number is not None else ""
    rest = f", {after}" if row.op == "cast" else rest
    positive = "abs(X[i,j])" if row.positive else "X[i,j]"
    text = (
        f"cascade h(X[I,J]: {before}, B[J]: {before}) -> Y {{\n"
        + (f"A[i,j] = {positive}\nC[j] = abs(B[j])\n" if row.positive else "")
        + f"S[i] = {'A[i,j] * C[j]' if row.positive else 'X[i,j] * B[j]'} over {row.source}\n"
        f"Y[i] = {row.op}(S[i]{rest}) }}"
    )
    cascade = parse(text)
    rewritten = verify(hom()(cascade))
    assert rewritten.einsums[-1].semiring == row.target
    for seed in range(8):
        arrays = law_inputs(cascade, seed, least=0)
        want, got = evaluate(cascade, arrays)["Y"], evaluate(rewritten, arrays)["Y"]
        assert want.dtype == got.dtype
        if want.dtype.kind == "f":
            with np.errstate(all="ignore"):
                close = np.abs(got - want) <= 1e-13 * (1 + np.abs(want))
            assert np.all(close | (got == want))
        else:
            np.testing.assert_array_equal(got, want)
    in_source, in_target = DTYPES[before], DTYPES[after]
    numbers = [] if row.number is None else [np.asarray(row.number, in_source.numpy)]
    for left, right in ((source.zero, target.zero), (source.one, target.one)):
        value = np.asarray(value_in(left, in_source))
        if row.number is not None and left == source.one:
            continue  # 1, the one of what the function maps to, not of all of xor_and
        with np.errstate(all="ignore"):
            mapped = OPERATORS[row.op].reference(value, *numbers)
        wanted = value_in(right, in_target)
        assert np.asarray(mapped).astype(in_target.numpy) == wanted


def test_homomorphisms_are_refused() -> None:
    refused = [
        "Y[i] = exp(S[i])",  # of a sum of products: not a homomorphism
        "Y[i] = log(S[i])",  # factors that may be negative
        "Y[i] = cast(S[i], i64)",  # rounds
        "Y[i] = neg(S[i])",  # a negated product negates one factor, not each
    ]
    for line in refused:
        text = f"cascade h(A[I,J]: f64, B[J]: f64) -> Y {{ S[i] = A[i,j] * B[j]\n {line} }}"
        assert hom()(cascade := parse(text)) is cascade
    widened = parse(
        "cascade h(A[I]: i8, B[I]: i8) -> Y { S[i] = A[i] * B[i]\n Y[i] = cast(S[i], i32) }"
    )
    assert hom()(widened) is widened  # the product wraps in i8, and would not in i32


# ---- rule 23: adjoints


#: Products, and the factor to which each has its adjoint.
TRANSPOSED = [
    ("(A[I,J]: DT, B[J,K]: DT) -> Y { Y[i,k] = A[i,j] * B[j,k] over SR }", 1),
    ("(A[I,J]: DT, B[K]: DT) -> Y { Y[i] = A[i,j] * B[k] over SR }", 0),  # j is A's own
    ("(A[I]: DT, B[J]: DT) -> Y { Y[i,i] = A[i] * B[j] over SR }", 0),
    ("(A[I,I,J]: DT, B[I]: DT) -> Y { Y[j] = A[i,i,j] * B[i] over SR }", 0),
    ("(A[J]: DT, B[J]: DT) -> Y { ranks I = 2, J\n Y[i] = SUM[j] (A[j] * B[j]) over SR }", 0),
    ("(A[1,J]: DT, B[J]: DT) -> Y { ranks N = 3, J\n Y = SUM[j,n] (A[0,j] * B[j]) over SR }", 0),
    ("(A[J]: DT) -> Y { Y[j,j] = A[j] * A[j] over SR }", 1),
]


@pytest.mark.parametrize(("semiring", "dtype"), RINGS)
@pytest.mark.parametrize(("text", "operand"), TRANSPOSED)
def test_the_adjoint_is_the_transpose(text: str, operand: int, semiring: str, dtype: str) -> None:
    """<dY, Y(A)> = <dA(dY), A> in the semiring, since Y is linear in each factor."""
    cascade = law_cascade(text, semiring, dtype)
    (einsum,) = cascade.einsums
    factor = (einsum.product() or ())[operand]
    derived = verify(Adjoint("Y", operand)(cascade))
    ring = SEMIRINGS[semiring]
    inner = parse(f"cascade d(A[N]: {dtype}, B[N]: {dtype}) -> Y {{ Y = A[n] * B[n] over {ring} }}")
    for seed in range(4):
        arrays = law_inputs(derived, seed)
        forward = evaluate(cascade, {n: a for n, a in arrays.items() if n != "dY"})["Y"]
        (backward,) = evaluate(derived, arrays).values()
        assert backward.shape == arrays[factor.tensor].shape
        paired = (arrays["dY"], forward), (backward, arrays[factor.tensor])
        left, right = ({"A": a.ravel(), "B": b.ravel()} for a, b in paired)
        got, want = evaluate(inner, right)["Y"], evaluate(inner, left)["Y"]
        assert near(inner, left, got, want), (derived, arrays, got, want)


def test_adjoints_are_refused() -> None:
    for text, match in (
        ("(A[N]: f64, B[J]: f64) -> Y { ranks J, I = N-J+1\n Y[i] = A[i+j] * B[j] }", "indices"),
        ("(A[I]: i64, B[I]: i64) -> Y { Y[i] = A[i] * B[i] over max_plus }", "laws of max_plus"),
        ("(A[I]: f64, B[I]: f64) -> Y { Y[i] = A[i] * B[i] over max_times }", "laws of max_times"),
        ("(A[I]: f64, B[I]: f64) -> Y { Y[i] = exp(A[i]) * B[i] }", "needs a product"),
    ):
        with pytest.raises(PassError, match=match):
            Adjoint("Y", 0)(parse(f"cascade f{text}"))
    with pytest.raises(PassError, match="defines no tensor Z"):
        Adjoint("Z", 0)(parse("i->i"))


OWN = """op most(a, b) [commutative, associative, idempotent, identity = -inf] = max(a, b)
op plus(a, b) [commutative, associative, identity = 0, distributes_over = most] = a + b
semiring own(most, plus, -inf, 0)
"""


@pytest.mark.parametrize(
    ("line", "laws"),
    [
        ("Y[i] = A[i,j] * B[j] over own", ("slice{tensor=Y, rank=i, pieces=3}",)),
        ("Y[i] = A[i,j] * B[j] over own", ("slice{tensor=Y, rank=j, pieces=4}",)),
        (
            "Y[i] = most[j] plus(B[j], most(plus(A[i,j], B[j]), A[i,j])) over own",
            ("distribute", "factor"),
        ),
    ],
)
def test_operators_of_two_operands_take_no_more(line: str, laws: tuple[str, ...]) -> None:
    """A chain `a + b + c` is one Map of the table's operators; of the text's own it is two."""
    cascade = parse(
        f"{OWN}cascade f(A[I,J]: f64, B[J]: f64) -> Y {{ ranks I = 3, J = 4\n {line} }}"
    )
    given = {"A": np.arange(12.0).reshape(3, 4) % 5, "B": np.arange(4.0)}
    want = evaluate(cascade, given)["Y"]
    for each in laws:
        after = verify(law(each)(cascade))
        assert parse(str(after)) == after
        assert np.array_equal(evaluate(after, given)["Y"], want)
