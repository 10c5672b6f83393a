"""What is printed is read back as what it was: as text, and as JSON."""

from __future__ import annotations

import pytest
from hypothesis import Phase, find, given, settings

from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.einsum import Einsum, implies
from einloom.ir.errors import RankError
from einloom.ir.interpreter import evaluate

from ..cascades import Sample, generals
from ..strategies import cascades


@given(cascades())
def test_text(cascade: Cascade) -> None:
    text = str(cascade)
    found = parse_cascade(text)
    assert found == cascade
    assert str(found) == text


@given(cascades())
def test_json(cascade: Cascade) -> None:
    assert Cascade.from_json(cascade.to_json()) == cascade


@given(generals())
def test_text_of_what_can_be_evaluated(sample: Sample) -> None:
    text = str(sample.cascade)
    if any(0 in array.shape for array in sample.arrays.values()):
        return  # nothing is read
    try:
        found = parse_cascade(text)
    except RankError:
        # The text may not read a rank at the variable of a longer one, and nor may anything.
        with pytest.raises(RankError):
            evaluate(sample.cascade, sample.arrays)
    else:
        assert found == sample.cascade


def test_sums_that_the_text_must_not_leave_out_are_generated() -> None:
    def ambiguous(einsum: Einsum) -> bool:
        adds = einsum.body is not einsum.expr
        return adds and not implies(einsum.body, einsum.free, einsum.ring.add)

    found = find(
        cascades(),
        lambda cascade: any(map(ambiguous, cascade.einsums)),
        settings=settings(phases=[Phase.generate]),  # the least of them is of no interest
    )
    assert parse_cascade(str(found)) == found
