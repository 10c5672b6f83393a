"""Every law on random products, equal in the interpreter; and what only looks like the law.

`test_rules.py` has each law's own Cascades, over every semiring.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import I8
from einloom.ir.einsum import Access, Einsum, Literal, Map, Reduce
from einloom.ir.errors import EinloomError, PassError
from einloom.ir.interpreter import evaluate
from einloom.ir.ranks import RankExpr, Term
from einloom.ir.verify import verify
from einloom.passes.base import Pipeline
from einloom.passes.registry import available_passes, default_pipeline
from einloom.passes.rewrite import Rewrite, rule
from einloom.passes.rewrites.canonical import diagonal, presum, squeeze
from einloom.passes.scope import Scope

from ..cascades import Sample, access, assert_close, classic, generals, products
from ..support import Golden

LAWS = {name: made for name, made in available_passes().items() if issubclass(made, Rewrite)}

#: For each law, Cascades that it rewrites.
EXAMPLES: dict[str, Sequence[Cascade]] = {
    "squeeze": [
        classic("bij,bj->i", sizes={"b": 1, "i": 3, "j": 4}),
        classic("ij,jk->ik", sizes={"i": 2, "j": 1, "k": 3}),
        classic("iij->j", "i8", sizes={"i": 1, "j": 3}),
        classic("i->", "f16", "log", {"i": 1}),
    ],
    "diagonal": [
        classic("iij,jk->ik"),
        classic("ii,jj,ij->ij", "f32,f64,i8", "max_times"),
        classic("ii,ii->i", "bool", "boolean"),
        classic("0ii,ij->j"),
    ],
    "presum": [
        classic("ijl,jk->ik"),
        classic("ijl,jkm->ik", "bf16"),
        classic("i,jj->", "i8,f32"),
        classic("ij,j->", "f64", "max_plus"),
        classic("ij,k->k", "i8", acc=I8),
    ],
}


#: Laws that only copy, leave out or name anew: equal to the last bit.
EXACT = {
    *("squeeze", "diagonal", "identity", "transpose", "ones_drop", "output_only"),
    *("idem_mul", "idem_add", "delta"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_before_and_after(name: str, golden: Golden) -> None:
    law = LAWS[name]()
    shown: list[str] = []
    for before in EXAMPLES[name]:
        after = verify(law(before))
        assert after is not before
        assert law(after) is after, "a fixpoint"
        shown.append(f"{before}\n->\n{after}\n")
    golden(f"passes/{name}.txt", "\n".join(shown))


@pytest.mark.parametrize("name", LAWS)
def test_the_meaning_is_kept(name: str) -> None:
    @given(products(most=3))
    def check(sample: Sample) -> None:
        after = verify(LAWS[name]()(sample.cascade))
        want, got = evaluate(sample.cascade, sample.arrays), evaluate(after, sample.arrays)
        assert {n: a.dtype for n, a in got.items()} == {n: a.dtype for n, a in want.items()}
        assert_close(sample, got, want)
        if name in EXACT:
            for output, wanted in want.items():
                exact = wanted.dtype.kind in "fc"
                assert np.array_equal(got[output], wanted, equal_nan=exact)

    check()


@given(generals())
def test_only_products_are_rewritten_and_all_is_kept(sample: Sample) -> None:
    """Affine indices, fills and gathers among the factors; filters and functions left alone."""
    after, _ = default_pipeline().run(sample.cascade)
    rewritten = {e.name for e in sample.cascade.einsums if e.product() is not None}
    for einsum in sample.cascade.einsums:
        assert einsum in after.einsums or einsum.name in rewritten
    try:
        want = evaluate(sample.cascade, sample.arrays)
    except EinloomError as error:
        with pytest.raises(type(error)):
            evaluate(after, sample.arrays)
        return
    for name, got in evaluate(after, sample.arrays).items():
        wide = np.float64 if got.dtype.kind in "fV" else got.dtype
        np.testing.assert_allclose(got.astype(wide), want[name].astype(wide), rtol=1e-4)


# ---- what only looks like the law


def untouched(law: Rewrite, cascade: Cascade) -> bool:
    return law(verify(cascade)) is cascade


def test_squeeze_is_refused() -> None:
    assert untouched(squeeze(), classic("bij,bj->bi"))  # the extent is not known
    assert untouched(squeeze(), classic("bij,bj->bi", sizes={"b": 2, "i": 0, "j": 3}))
    # The output keeps it: another Einsum may read it there.
    assert untouched(squeeze(), classic("bij,bj->bi", sizes={"b": 1, "i": 3, "j": 4}))
    one = classic("ij,j->i", sizes={"i": 2, "j": 1})
    (einsum,) = one.einsums
    condition = Map("eq", (Literal(0), Literal(0)))
    assert untouched(squeeze(), replace(one, einsums=(replace(einsum, where=condition),)))
    scaled = Einsum(einsum.output, Map("exp", (access("B_", "j"),)), dtype=None)
    assert untouched(squeeze(), replace(one, einsums=(replace(scaled, output=access("Y", "j")),)))


def test_squeeze_inside_affine_indices_and_gathers() -> None:
    one = classic("ij,j->", sizes={"i": 1, "j": 5})
    window = RankExpr((Term(2, (), "i"), Term(1, (), "j")), -1)
    shifted = Access("A_", (RankExpr.of_variable("i"), window), Literal(0.5))
    (einsum,) = one.einsums
    body = Map("mul", (shifted, access("B_", "j")))
    moved = replace(einsum, expr=Reduce("add", ("i", "j"), body))
    (after,) = squeeze()(verify(replace(one, einsums=(moved,)))).einsums
    factors = after.product()
    assert factors is not None
    assert [str(index) for index in factors[0].indices] == ["0", "j-1"]


def test_diagonal_is_refused() -> None:
    assert untouched(diagonal(), classic("ii->i"))  # there is no other work to do
    assert untouched(diagonal(), classic("ii->"))
    assert untouched(diagonal(), classic("i,i->ii"))  # a repeat on the left is another matter
    assert untouched(diagonal(), classic("iij,k->jk"))  # presum reads it as it sums
    shifted = classic("ii,i->i", sizes={"i": 3})
    (einsum,) = shifted.einsums
    index = RankExpr((Term(1, (), "i"),), 1)
    filled = Access("A_", (RankExpr.of_variable("i"), index), Literal(0))
    body = Map("mul", (filled, access("B_", "i")))
    assert untouched(diagonal(), replace(shifted, einsums=(replace(einsum, expr=body),)))


def test_presum_is_refused() -> None:
    assert untouched(presum(), classic("ij,jk->ik"))  # j is shared
    assert untouched(presum(), classic("ij->i"))
    assert untouched(presum(), classic("ij,i->ij"))  # j is kept
    assert untouched(presum(), classic("ij,k->ik", "f32", "max_times"))  # negative factors
    assert untouched(presum(), classic("ij,k->ik", "i32", "max_plus"))  # sums that wrap
    assert untouched(presum(), classic("ij,k->ik", "f32,f32", acc=I8))  # rounds each product
    assert untouched(presum(), classic("ij,k->ik", ""))  # dtypes not known: i8 beside f64 wraps
    nothing = classic("ij,k->ik", sizes={"i": 2, "j": 0, "k": 3})
    assert untouched(presum(), nothing)  # 0 times infinity is not 0
    assert presum()(classic("ij,k->ik", sizes={"i": 2, "j": 1, "k": 3})).einsums[1:]


def test_max_of_what_is_cut_off_is_not_the_cut_off_max() -> None:
    """i64 products that are stored as i16: min and max do not go through the conversion."""
    cascade = classic("j,->", "i64", "min_max", {"j": 3}, acc=I8)
    assert untouched(presum(), cascade)


def test_a_law_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("einloom.passes.rewrite._BOUND", 20)

    @rule
    def spin(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...]:
        """Always -> the same, again."""
        return (einsum,)

    with pytest.raises(PassError, match="spin does not come to an end"):
        spin()(classic("i->i"))


def test_laws_say_what_they_are() -> None:
    for name, made in LAWS.items():
        text = " ".join((made.__doc__ or "").split())
        assert "->" in text
        assert "Condition:" in text
        assert "Source: " in text
        assert str(made()) == name
        assert pickle.loads(pickle.dumps(made())) == made()
        assert Pipeline([made()]) == Pipeline((made(),))
