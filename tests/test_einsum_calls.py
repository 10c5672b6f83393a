"""Calls of einsum in its other forms: with options, interleaved; as native as the plain one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom import entry
from einloom.ir.errors import EinloomError, OperandError

from .test_call_path import matrices


@contextmanager
def natively(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """No call may go through Python meanwhile."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("through Python")

    with monkeypatch.context() as patch:
        patch.setattr(entry, "_einsum", refuse)
        yield


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"optimize": True}, "f4"),
        ({"optimize": ["einsum_path", (0, 1)]}, "f4"),
        ({"order": "F", "casting": "safe"}, "f4"),
        ({"dtype": np.float32}, "f4"),
        ({"semiring": "max_plus"}, "f4"),
        ({"sizes": {"i": 4}}, "f4"),
    ],
)
def test_calls_with_options(
    options: dict[str, Any], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = matrices()
    out = np.empty((4, 4), "f4")
    first = el.einsum("ij,jk->ik", a, b, **options)
    el.einsum("ij,jk->ik", a, b, out=out, **options)
    with natively(monkeypatch):
        again = el.einsum("ij,jk->ik", a, b, **options)
        assert again.dtype == wanted
        assert again.strides == first.strides
        assert np.array_equal(again, first)
        assert np.array_equal(el.einsum("ij,jk->ik", a, b, out=out, **options), first)


@pytest.mark.parametrize("output", [[0, 2], None, (2, 0), [...]])
def test_interleaved_calls(output: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = matrices()
    labels: list[Any] = [[0, 1], [1, 2]]
    last = () if output is None else (output,)
    first = el.einsum(a, labels[0], b, labels[1], *last)
    assert np.array_equal(first, np.einsum(a, labels[0], b, labels[1], *last))
    out = np.empty_like(first)
    el.einsum(a, labels[0], b, labels[1], *last, out=out)

    with natively(monkeypatch):
        assert np.array_equal(el.einsum(a, labels[0], b, labels[1], *last), first)
        assert np.array_equal(el.einsum(a, labels[0], b, labels[1], *last, out=out), first)
    # A list may be another at the next call, also where the one before it is still known.
    labels[1][:] = [2, 1]
    turned = el.einsum(a, labels[0], b, labels[1], *last)
    assert np.array_equal(turned, np.einsum(a, labels[0], b, labels[1], *last))
    for wrong in (True, 1.0, None):
        with pytest.raises(OperandError, match="labels"):
            el.einsum(a, [0, wrong], b, [wrong, 2], *last)
    with pytest.raises(EinloomError, match=r"\[0, 1\], \[2, 1\]"):
        el.einsum(a, labels[0], b[:, :3], labels[1], *last)


def test_what_options_hold_may_change_afterwards() -> None:
    a = np.ones(3, "f4")
    sizes = {"j": 2}
    for extent in (2, 5, 2):
        sizes["j"] = extent
        assert el.einsum("i->ij", a, sizes=sizes).shape == (3, extent)
        assert el.einsum("i->ij", a[:2], sizes=sizes).shape == (2, extent)
