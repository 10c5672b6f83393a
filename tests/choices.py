"""Choices that a generator makes: drawn by hypothesis, which shrinks them, or by a seed."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices(ABC):
    """All are made of whole numbers from a range; simpler ones come first."""

    @abstractmethod
    def between(self, least: int, most: int) -> int:
        """One of `least`, ..., `most`."""

    def one(self, values: Sequence[T]) -> T:
        return values[self.between(0, len(values) - 1)]

    def maybe(self, chance: int = 2) -> bool:
        """Once in so many times; shrinks to no."""
        return self.between(0, chance - 1) == chance - 1

    def several(self, values: Sequence[T], least: int, most: int) -> list[T]:
        """From `least` to `most` of the values, any of them more than once."""
        return [self.one(values) for _ in range(self.between(least, most))]

    def some(self, values: Sequence[T], most: int, least: int = 0) -> list[T]:
        """From `least` to `most` of the values in any order, none of them twice."""
        left = list(values)
        count = self.between(min(least, len(left)), min(most, len(left)))
        return [left.pop(self.between(0, len(left) - 1)) for _ in range(count)]


class Drawn(Choices):
    """Made by hypothesis."""

    def __init__(self, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def between(self, least: int, most: int) -> int:
        return self._draw(st.integers(least, most))


class Seeded(Choices):
    """Made by a seed, each number as often as another."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def between(self, least: int, most: int) -> int:
        return self._random.randint(least, most)
