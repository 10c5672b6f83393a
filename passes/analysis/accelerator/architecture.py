"""What a design runs on, and what it runs: arrays of PEs, memory, the extents of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, prod

from ....ir.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Array:
    """An array of processing elements (PEs).

    `shape` is the number of PEs along each axis. `cycles` is what an operator costs one PE, in
    cycles; `mac` is a multiplication and the addition that follows it. An operator that is not
    there cannot run on this array.
    """

    name: str
    shape: tuple[int, ...]
    cycles: Mapping[str, float]

    def __post_init__(self) -> None:
        for extent in self.shape:
            if type(extent) is not int or extent < 1:
                raise ArgumentError(
                    f"the shape of the array {self.name} is of whole numbers, not {extent!r}"
                )
        for operator, cost in self.cycles.items():
            positive(cost, f"the cycles of {operator} on the array {self.name}")

    @property
    def pes(self) -> int:
        """How many PEs there are."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Arrays, a global buffer (bytes) and memory; frequency in Hz, bandwidth in bytes a second.

    `word` is the size of an element in bytes.
    """

    name: str
    frequency: float
    bandwidth: float
    buffer: int
    word: int
    arrays: tuple[Array, ...]
    source: str = ""

    def __post_init__(self) -> None:
        for what in ("frequency", "bandwidth", "buffer", "word"):
            positive(getattr(self, what), f"the {what} of the architecture {self.name}")

    def array(self, name: str) -> Array:
        """The array of that name.

        Raises:
            ArgumentError: there is none.
        """
        for array in self.arrays:
            if array.name == name:
                return array
        raise ArgumentError(
            f"the architecture {self.name} has no array {name!r}",
            deduced=(f"arrays: {', '.join(array.name for array in self.arrays)}",),
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """The extents of a model's ranks; those in `length` have the sequence length as theirs."""

    name: str
    sizes: Mapping[str, int]
    length: tuple[str, ...] = ("M", "P")
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for rank, size in self.sizes.items():
            if type(size) is not int or size < 1:
                raise ArgumentError(
                    f"the extent of {rank} in the workload {self.name} is a whole number of at "
                    f"least 1, not {size!r}"
                )

    def at(self, length: int) -> dict[str, int]:
        """The extents for one sequence length."""
        return {**self.sizes, **dict.fromkeys(self.length, length)}


def sequence_length(given: int | str) -> int:
    """A sequence length from a number or its short form.

    Raises:
        ArgumentError: it is neither.

    >>> sequence_length("64K"), sequence_length("1M"), sequence_length(100)
    (65536, 1048576, 100)
    """
    found = re.fullmatch(r"([0-9]+)([KM]?)", str(given)) if not isinstance(given, bool) else None
    if found is None or not int(found[1]):
        raise ArgumentError(
            f"{given!r} is no sequence length", hint='a number, or one like "4K", "1M"'
        )
    return int(found[1]) * {"": 1, "K": 2**10, "M": 2**20}[found[2]]


def short_length(length: int) -> str:
    """The short form of a sequence length."""
    for unit, size in (("M", 2**20), ("K", 2**10)):
        if length % size == 0:
            return f"{length // size}{unit}"
    return str(length)


def positive(value: object, what: str) -> None:
    """Refuses what is no number of more than 0.

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{what} is a number, not {value!r}")
    if not (isfinite(value) and value > 0):
        raise ArgumentError(f"{what} is more than 0, not {value!r}")
