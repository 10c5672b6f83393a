"""Polynomials in the extents of ranks: what a cost is while extents are not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of integers times products of ranks' extents.

    >>> I, J = Polynomial.of("I"), Polynomial.of("J")
    >>> print(I * J * 2 + I + I + 3)
    2*I*J + 2*I + 3
    >>> print((I * J).at({"I": 3}), (I * J).at({"I": 3, "J": 4}).number)
    3*J 12
    """

    #: (ranks in order, coefficient): no ranks twice, no coefficient 0
    terms: tuple[tuple[tuple[str, ...], int], ...] = ()

    @classmethod
    def of(cls, value: int | str) -> Polynomial:
        """A number, or the extent of a rank."""
        if isinstance(value, str):
            return cls((((value,), 1),))
        return cls((((), value),)) if value else cls()

    @property
    def number(self) -> int | None:
        """The number, if it is one."""
        if not self.terms:
            return 0
        (ranks, coefficient), *others = self.terms
        return None if ranks or others else coefficient

    def __add__(self, other: Polynomial | int) -> Polynomial:
        return total((self, other if isinstance(other, Polynomial) else Polynomial.of(other)))

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        factor = other if isinstance(other, Polynomial) else Polynomial.of(other)
        sums: dict[tuple[str, ...], int] = {}
        for ours, a in self.terms:
            for theirs, b in factor.terms:
                ranks = tuple(sorted((*ours, *theirs)))
                sums[ranks] = sums.get(ranks, 0) + a * b
        return _normal(sums)

    def at(self, sizes: Mapping[str, int]) -> Polynomial:
        """The polynomial with some extents known."""
        parts: list[Polynomial] = []
        for ranks, coefficient in self.terms:
            value = reduce(lambda n, rank: n * sizes.get(rank, 1), ranks, coefficient)
            parts.append(Polynomial(((tuple(r for r in ranks if r not in sizes), value),)))
        return total(parts)

    def covers(self, other: Polynomial) -> bool:
        """Whether it is surely no less, whatever the extents, as long as none is 0."""
        left = dict(self.terms)
        for ranks, coefficient in other.terms:
            wanted = Counter(ranks)
            larger = (r for r, c in left.items() if c >= coefficient and wanted <= Counter(r))
            found = ranks if left.get(ranks) == coefficient else next(larger, None)
            if found is None or coefficient < 0:
                return False
            left[found] -= coefficient
        return all(coefficient >= 0 for coefficient in left.values())

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.number:,}"
        parts: list[str] = []
        for ranks, coefficient in self.terms:
            names = list(ranks)
            if abs(coefficient) != 1 or not names:
                names.insert(0, f"{abs(coefficient):,}")
            sign = "-" if coefficient < 0 else "+"
            parts.append(f"{sign} {'*'.join(names)}")
        return " ".join(parts).removeprefix("+ ").replace("- ", "-", parts[0][0] == "-")


def total(parts: Iterable[Polynomial]) -> Polynomial:
    """The sum of polynomials."""
    sums: dict[tuple[str, ...], int] = {}
    for part in parts:
        for ranks, coefficient in part.terms:
            sums[ranks] = sums.get(ranks, 0) + coefficient
    return _normal(sums)


def _normal(sums: Mapping[tuple[str, ...], int]) -> Polynomial:
    """By falling degree, then by name."""
    kept = [(ranks, coefficient) for ranks, coefficient in sums.items() if coefficient]
    return Polynomial(tuple(sorted(kept, key=lambda term: (-len(term[0]), term[0]))))
