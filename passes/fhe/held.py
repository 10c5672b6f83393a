"""An encrypted tensor as it lies in the slots of a program that is being written."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.layouts import Layout


@dataclass(frozen=True, slots=True)
class Held:
    """Where each element lies, and the Builder's values that are the vectors of that layout."""

    layout: Layout
    values: tuple[int, ...]
