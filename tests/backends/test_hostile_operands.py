"""Nothing reads or writes beyond hostile operands: a few of the cases of guarded.py, each way."""

from __future__ import annotations

import pytest

from .guarded import WAYS, check, guarded


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", range(20))
def test_hostile_operands(number: int, way: str) -> None:
    check(guarded(number), way)


@pytest.mark.parametrize("way", WAYS)
def test_no_columns_of_which_rows_are_read_where_they_lie(way: str) -> None:
    """Planning divided by how many there are, where elements lie so apart that they are packed."""
    check(guarded(8100319), way)
