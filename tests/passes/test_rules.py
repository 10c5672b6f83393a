"""Every law on every semiring: applied where its laws hold, and then equal in the interpreter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from einloom.ir.cascade import Cascade
from einloom.ir.errors import PassError
from einloom.ir.interpreter import evaluate
from einloom.ir.verify import verify
from einloom.passes.base import Pass
from einloom.passes.registry import pass_names
from einloom.passes.rewrite import Rewrite
from einloom.passes.spec import parse_pipeline

from ..cascades import Array
from ..support import Golden
from .laws import LAWS, RINGS, law_cascade, law_inputs


def law(text: str) -> Pass:
    (made,) = parse_pipeline(text).passes
    assert str(made) == text
    return made


def test_every_pass_is_tried() -> None:
    assert {law(text).name for text in LAWS} == set(pass_names())


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
        scale = np.abs(evaluate(before, inputs)[before.outputs[0]])
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
                try:
                    count += law(text)(before) is not before
                except PassError:
                    pass
            applied.append(f"{count or '-':>7}")
        lines.append(f"{text:46}" + " ".join(applied))
    golden("passes/laws_by_semiring.txt", "\n".join(lines) + "\n")
