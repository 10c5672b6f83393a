"""Texts of scans, partitions, operators and the like: printed, they are read back as they were."""

from __future__ import annotations

from hypothesis import given

from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade

from ..generated import examples
from ..scanned import Written, written


@examples(100)
@given(written())
def test_text_and_json(case: Written) -> None:
    cascade = parse_cascade(case.text)
    text = str(cascade)
    found = parse_cascade(text)
    assert found == cascade
    assert str(found) == text
    assert Cascade.from_json(cascade.to_json()) == cascade
