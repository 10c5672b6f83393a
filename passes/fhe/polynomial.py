"""Polynomials of a ciphertext: the least depth, and for that the fewest multiplications.

As Paterson and Stockmeyer (SIAM J. Comput. 1973) split a polynomial, `p = q * B_g + r` for the
basis polynomial B_g of a power of two g, again and again until what is left is a sum of numbers
times a few low B_n (Chen, Chillotti, Song, Eurocrypt 2019, do so in the Chebyshev basis). Degree d
in powers takes ceil(log2(d+1)) levels, or ceil(log2 d) where its leading coefficient is 1 and d a
power of two; a Chebyshev series one more, for the map to [-1, 1].

The scale of q * B_g is what it comes to; what is added to it is brought to that scale: a sum of
multiples by the numbers that it is multiplied with, something else by a factor of 1, at a level
that it would have passed anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

from .builder import Builder, Plain
from .series import Series


@dataclass(frozen=True, slots=True)
class Sum:
    """Numbers times B_n: no product of ciphertexts."""

    series: Series


@dataclass(frozen=True, slots=True)
class Split:
    """`quotient * B_at + rest`; no quotient is 1, no rest is 0."""

    at: int
    quotient: Node | None
    rest: Node | None


Node = Sum | Split
#: How far a factor may be from 1 that is 1 but for rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Plan:
    """How a series is evaluated: its depth, products of ciphertexts, and the B_n that are made."""

    root: Node
    depth: int
    ct_mults: int
    basis: frozenset[int]
    chebyshev: bool


def depth_of(n: int) -> int:
    """The depth of B_n above that of B_1."""
    return (n - 1).bit_length() if n else 0


def halves(n: int, made: frozenset[int], chebyshev: bool) -> tuple[int, int]:
    """Two that B_n is the product of, without depth, those that are made if there are such."""
    fits = [
        (n - low, low)
        for low in range(n // 2, 0, -1)
        if max(depth_of(n - low), depth_of(low)) < depth_of(n)
    ]
    for high, low in fits:
        if {high, low} <= made and (not chebyshev or high - low in made | {0}):
            return high, low
    return fits[0]


def closed(wanted: frozenset[int], chebyshev: bool) -> frozenset[int]:
    """Those and all that they are made of; B_1 is there."""
    made = frozenset({1}) | {n for n in wanted if n}
    for n in range(max(made), 1, -1):
        if n in made:
            high, low = halves(n, made, chebyshev)
            made |= {high, low, *({high - low} if chebyshev and high > low else set[int]())}
    return made


@lru_cache(maxsize=256)
def plan(series: Series) -> Plan:
    """The plan of the least depth, and of those that are tried one of the fewest products.

    Raises:
        ValueError: the series is a constant.
    """
    if series.degree < 1:
        raise ValueError("a constant needs no plan")
    chebyshev = series.interval is not None
    depth = depth_of(series.degree)
    while True:
        found = [
            made
            for most in range(1, min(series.degree, 16) + 1)
            if (made := _Search(most, chebyshev).plan(series, depth)) is not None
        ]
        if found:
            return min(found, key=lambda made: (made.ct_mults, len(made.basis)))
        depth += 1


class _Search:
    """The splits for sums of B_1 to B_most; what is found of a part is kept."""

    def __init__(self, most: int, chebyshev: bool) -> None:
        self._most, self._chebyshev = most, chebyshev
        self._found: dict[tuple[Series, int], tuple[Node, int, frozenset[int]] | None] = {}

    def plan(self, series: Series, depth: int) -> Plan | None:
        found = self._node(series, depth)
        if found is None:
            return None
        root, splits, wanted = found
        basis = closed(wanted, self._chebyshev)
        return Plan(root, depth, splits + len(basis) - 1, basis, self._chebyshev)

    def _node(self, series: Series, depth: int) -> tuple[Node, int, frozenset[int]] | None:
        """The node of a part, how many products its splits are, and the B_n that it reads."""
        key = (series, depth)
        if key not in self._found:
            self._found[key] = self._sum(series, depth) or self._split(series, depth)
        return self._found[key]

    def _sum(self, series: Series, depth: int) -> tuple[Node, int, frozenset[int]] | None:
        read = [n for n, c in enumerate(series.coefficients) if c != 0 and n]
        if all(n <= self._most and depth_of(n) < depth for n in read):
            return Sum(series), 0, frozenset(read)
        return None

    def _split(self, series: Series, depth: int) -> tuple[Node, int, frozenset[int]] | None:
        best: tuple[Node, int, frozenset[int]] | None = None
        least = math.inf
        top = 1 << series.degree.bit_length() - 1
        for at in dict.fromkeys((top, max(top // 2, 2 if series.degree > 1 else 1))):
            made = self._at(series, depth, at)
            if made is not None:
                cost = made[1] + len(closed(made[2], self._chebyshev))
                if cost < least:
                    best, least = made, cost
        return best

    def _at(self, series: Series, depth: int, at: int) -> tuple[Node, int, frozenset[int]] | None:
        quotient, rest = _split(series, at)
        high: Node | None = None
        splits, read = 0, frozenset({at})
        if not quotient.is_number(1):
            if quotient.degree == 0 or depth_of(at) >= depth:
                return None  # a number times B_at is part of a sum
            found = self._node(quotient, depth - 1)
            if found is None:
                return None
            high, splits, read = found[0], found[1] + 1, read | found[2]
        elif depth_of(at) > depth:
            return None
        if rest.is_number(0):
            return Split(at, high, None), splits, read
        # A sum takes the scale of the product; anything else needs a level for it.
        found = self._sum(rest, depth) or self._node(rest, depth - 1)
        if found is None:
            return None
        return Split(at, high, found[0]), splits + found[1], read | found[2]


@lru_cache(maxsize=4096)
def _split(series: Series, at: int) -> tuple[Series, Series]:
    return series.split(at)


def evaluated(build: Builder, value: int, series: Series, constant: Plain | None = None) -> int:
    """The series of each slot of a value.

    Args:
        constant: 1 where the constant of a power series is to be added; None: in every slot.
    """
    chosen = plan(series)
    if series.interval is not None:
        factor, summand = series.step
        if abs(factor - 1) > _ROUNDING:
            value = build.finished(build.scaled(value, factor))
        value = build.add_plain(value, Plain((), summand)) if summand else value
    return _Writer(build, value, chosen, constant).root()


class _Writer:
    """Writes a plan down; the constant at the end of the outermost rest is kept apart."""

    def __init__(self, build: Builder, value: int, chosen: Plan, constant: Plain | None) -> None:
        self._build, self._plan, self._constant = build, chosen, constant
        self._basis = {1: build.finished(value)}

    def root(self) -> int:
        value, constant = self._node(self._plan.root, None)
        return self._plus(value, constant, outermost=True)

    def _plus(self, value: int, constant: complex, outermost: bool = False) -> int:
        if constant == 0:
            return value
        plain = Plain((), constant)
        if outermost and self._constant is not None:
            plain = Plain(self._constant.factors, constant)
        return self._build.add_plain(value, plain)

    def _b(self, n: int) -> int:
        """B_n, of two parts and rescaled."""
        if n not in self._basis:
            build = self._build
            high, low = halves(n, self._plan.basis, self._plan.chebyshev)
            product = build.mul(self._b(high), self._b(low))
            if self._plan.chebyshev:  # T_(a+b) = 2 T_a T_b - T_(a-b)
                product = build.add(product, product)
                if high == low:
                    product = build.add_plain(build.finished(product), Plain((), -1.0))
                else:
                    product = build.sub(build.finished(product), self._b(high - low))
            self._basis[n] = build.finished(product)
        return self._basis[n]

    def _node(self, node: Node, like: int | None) -> tuple[int, complex]:
        """The value, and a constant to be added to it."""
        if isinstance(node, Sum):
            return self._sum(node.series, like), node.series.coefficients[0]
        build = self._build
        value = self._b(node.at)
        if node.quotient is not None:
            high = self._plus(*self._node(node.quotient, None))
            value = build.finished(build.mul(high, value))
        if node.rest is None:
            return value, 0
        if isinstance(node.rest, Sum) and node.rest.series.degree == 0:
            return value, node.rest.series.coefficients[0]
        rest, constant = self._node(node.rest, value)
        return build.add(value, rest), constant

    def _sum(self, series: Series, like: int | None) -> int:
        """Without its constant; of the scale of `like`."""
        build = self._build
        terms: Sequence[tuple[int, complex]] = [
            (self._b(n), c) for n, c in enumerate(series.coefficients) if n and c != 0
        ]
        if like is None:  # one for all of them: that of products there, or of the deepest
            deepest = max((value for value, _ in terms), key=lambda value: build.depth[value])
            if len(terms) == 1 and terms[0][1] == 1:
                return deepest
            depth = build.depth[deepest]
            like = build.reference(depth + 1)
            like = deepest if like is None else like
            parts = [
                build.mul_plain(build.at_depth(value, depth), Plain((), c), like)
                for value, c in terms
            ]
        else:
            parts = [build.scaled(value, c, like) for value, c in terms]
        return build.finished(reduce(build.add, parts))
