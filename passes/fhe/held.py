"""An encrypted tensor as it lies in a program that is being written, and ways to bring it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ...ir.layouts import Layout
from .builder import Builder

#: Writes the vectors that are wanted, from those that are held.
Emit: TypeAlias = "Callable[[Builder, Sequence[int]], list[int]]"


@dataclass(frozen=True, slots=True)
class Held:
    """Where each element lies, and the Builder's values that are the vectors of that layout."""

    layout: Layout
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A way to bring an operand: levels and rotations that it takes, and what writes it.

    `clean`: whether every slot that nothing is wanted in holds 0.
    """

    levels: int
    rotations: int
    clean: bool
    emit: Emit
