"""How large blocks are, by the caches of the machine."""

from __future__ import annotations

import os
import sys
from dataclasses import astuple, replace
from itertools import pairwise, product
from typing import Any

import pytest

from einloom.backends.llvm import machine
from einloom.passes.loops.schedule import Limits

FIRST = (0, 4 << 10, 16 << 10, 32 << 10, 48 << 10, 128 << 10)
SECOND = (0, 64 << 10, 256 << 10, 512 << 10, 1 << 20, 1280 << 10, 2 << 20, 16 << 20)


@pytest.mark.parametrize(("first", "second"), list(product(FIRST, SECOND)))
def test_blocks_fit_their_caches(first: int, second: int) -> None:
    limits = Limits.of(first, second)
    columns = limits.wide * limits.deep * 128
    rows = limits.tall * limits.deep * 4
    # A block has something in it, however small the cache.
    assert min(limits.tall, limits.wide, limits.staged) >= 1
    assert limits.deep % limits.depth == 0 < limits.deep <= limits.longest
    assert limits.deep * 128 <= max(first, limits.depth * 128)
    assert limits.wide == 1 or columns <= second * 9 / 16
    assert limits.tall == 1 or rows <= second * 3 / 32
    assert limits.wide == 1 or columns + rows <= second


def test_larger_caches_take_no_smaller_blocks() -> None:
    for first in FIRST:
        for small, large in pairwise(SECOND):
            pair = astuple(Limits.of(first, small)), astuple(Limits.of(first, large))
            assert all(a <= b for a, b in zip(*pair, strict=True))
    assert Limits.of(48 << 10, 2 << 20) == Limits.of(1 << 30, 1 << 30) == Limits()


def test_narrow_vectors_have_all_columns_packed() -> None:
    assert Limits.of(1 << 30, 1 << 30, 256) == replace(Limits(), few=0)


def test_caches_are_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(machine.caches()) > 0

    def said(files: dict[str, str]) -> tuple[int, int]:
        def text(path: str) -> str:
            found = files.get("/".join(path.split("/")[-2:]))
            if found is None:
                raise FileNotFoundError(path)
            return found

        monkeypatch.setattr(machine, "_text", text)
        uncached: Any = machine.caches.__wrapped__
        result: tuple[int, int] = uncached()
        return result

    def processors(_: int) -> set[int]:
        return {3, 7}

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", processors, raising=False)
    level = {"index0/type": "Data", "index0/level": "1", "index0/size": "32K"}
    instructions = {"index1/type": "Instruction", "index1/level": "1", "index1/size": "64K"}
    second = {"index2/type": "Unified", "index2/level": "2", "index2/size": "1024K"}
    third = {"index3/type": "Unified", "index3/level": "3", "index3/size": "32768K"}
    assert said(level | instructions | second | third) == (32 << 10, 1 << 20)
    assert said(second) == (32 << 10, 1 << 20)
    assert said(level | second | {"index0/size": "some", "index2/level": ""}) == (
        32 << 10,
        512 << 10,
    )
    assert said({}) == (32 << 10, 512 << 10)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert said(level | second) == (32 << 10, 512 << 10)
