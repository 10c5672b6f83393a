"""Ranks, and the affine expressions that index them.

A *rank* is a named axis, upper case (`M`); its *rank variable* is the same name in lower case
(`m`) and ranges over the coordinates 0 .. shape-1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .source import Span


@dataclass(frozen=True, slots=True)
class Term:
    """`coefficient * size * size * ... * variable`; a term without a variable is a size.

    `m1*M0` is `Term(1, ("M0",), "m1")`; the size `M` is `Term(1, ("M",), None)`.
    """

    coefficient: int
    sizes: tuple[str, ...] = ()
    variable: str | None = None

    def __str__(self) -> str:
        names = [self.variable] if self.variable is not None else []
        names += list(self.sizes)
        if self.coefficient in (1, -1) and names:
            return ("-" if self.coefficient < 0 else "") + "*".join(names)
        return "*".join([str(self.coefficient), *names])


@dataclass(frozen=True, slots=True)
class RankExpr:
    """An affine expression over rank variables; coefficients may be sizes of ranks.

    >>> str(RankExpr((Term(2, (), "x"), Term(1, (), "r")), -1))
    '2*x+r-1'
    """

    terms: tuple[Term, ...] = ()
    offset: int = 0
    span: Span | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_variable(cls, variable: str, span: Span | None = None) -> RankExpr:
        return cls((Term(1, (), variable),), 0, span)

    @classmethod
    def of_size(cls, rank: str, span: Span | None = None) -> RankExpr:
        return cls((Term(1, (rank,), None),), 0, span)

    @property
    def variable(self) -> str | None:
        """The variable `v` if the expression is exactly `v`."""
        if self.offset == 0 and len(self.terms) == 1:
            term = self.terms[0]
            if term.coefficient == 1 and not term.sizes:
                return term.variable
        return None

    @property
    def steps_by(self) -> str | None:
        """The variable `v` if the expression is `v` plus what no variable is in."""
        return RankExpr(tuple(term for term in self.terms if term.variable is not None)).variable

    @property
    def is_left(self) -> bool:
        """Whether it may stand on the left: a variable, a number, or a scan's step `v+c`."""
        bare = RankExpr(self.terms).variable
        return self.offset >= 0 and (bare is not None or not self.terms)

    @property
    def rank(self) -> str | None:
        """The rank `R` if the expression is exactly the size `R`."""
        if self.offset == 0 and len(self.terms) == 1:
            term = self.terms[0]
            if term.coefficient == 1 and term.variable is None and len(term.sizes) == 1:
                return term.sizes[0]
        return None

    @property
    def constant(self) -> int | None:
        """The number, if the expression is one."""
        return None if self.terms else self.offset

    def variables(self) -> Iterator[str]:
        """The rank variables, in order of writing, possibly repeated."""
        return (term.variable for term in self.terms if term.variable is not None)

    def sizes(self) -> Iterator[str]:
        """The ranks whose sizes occur, possibly repeated."""
        return (rank for term in self.terms for rank in term.sizes)

    def coefficients(self, sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
        """The number that multiplies each variable, and the constant, for these sizes."""
        factors: dict[str, int] = {}
        constant = self.offset
        for term in self.terms:
            value = term.coefficient
            for rank in term.sizes:
                value *= sizes[rank]
            if term.variable is None:
                constant += value
            else:
                factors[term.variable] = factors.get(term.variable, 0) + value
        return factors, constant

    def value(self, sizes: Mapping[str, int]) -> int:
        """The value of an expression that has no variables."""
        return self.coefficients(sizes)[1]

    def substitute(self, mapping: Mapping[str, RankExpr]) -> RankExpr:
        """Each variable in `mapping` replaced by an expression; `self` if none occurs."""
        if not any(variable in mapping for variable in self.variables()):
            return self
        terms: list[Term] = []
        offset = self.offset
        for term in self.terms:
            if term.variable is None or term.variable not in mapping:
                terms.append(term)
                continue
            new = mapping[term.variable]
            terms += [
                Term(term.coefficient * t.coefficient, t.sizes + term.sizes, t.variable)
                for t in new.terms
            ]
            if new.offset and term.sizes:
                terms.append(Term(term.coefficient * new.offset, term.sizes, None))
            else:
                offset += term.coefficient * new.offset
        return affine(terms, offset, self.span)

    def rename_sizes(self, name: Callable[[str], str]) -> RankExpr:
        """Each rank's name in a size replaced by `name(rank)`."""
        if not any(name(rank) != rank for rank in self.sizes()):
            return self
        terms = [
            Term(t.coefficient, tuple(name(rank) for rank in t.sizes), t.variable)
            for t in self.terms
        ]
        return affine(terms, self.offset, self.span)

    def __str__(self) -> str:
        parts = [str(term) for term in self.terms]
        if self.offset or not parts:
            parts.append(str(self.offset))
        return "+".join(parts).replace("+-", "-")


def affine(terms: list[Term], offset: int, span: Span | None = None) -> RankExpr:
    """A RankExpr in normal form: like terms added up, in order of first occurrence."""
    totals: dict[tuple[tuple[str, ...], str | None], int] = {}
    for term in terms:
        key = (tuple(sorted(term.sizes)), term.variable)
        totals[key] = totals.get(key, 0) + term.coefficient
    for key in [key for key in totals if key == ((), None)]:
        offset += totals.pop(key)
    kept = tuple(Term(c, sizes, variable) for (sizes, variable), c in totals.items() if c)
    return RankExpr(kept, offset, span)


@dataclass(frozen=True, slots=True)
class Quotient:
    """`dividend // divisor + offset`, rounded down, of expressions in sizes.

    >>> size = RankExpr.of_size("M")
    >>> str(Quotient(size, RankExpr((), 2), 1)), Quotient(size, RankExpr((), 2), 1).value({"M": 7})
    ('M//2+1', 4)
    """

    dividend: RankExpr
    divisor: RankExpr
    offset: int = 0

    def sizes(self) -> Iterator[str]:
        """The ranks whose sizes occur, possibly repeated."""
        yield from self.dividend.sizes()
        yield from self.divisor.sizes()

    def variables(self) -> Iterator[str]:
        """The rank variables, of which there should be none."""
        yield from self.dividend.variables()
        yield from self.divisor.variables()

    def value(self, sizes: Mapping[str, int]) -> int:
        """The number, for these sizes; a ZeroDivisionError if the divisor is 0."""
        return self.dividend.value(sizes) // self.divisor.value(sizes) + self.offset

    def rename_sizes(self, name: Callable[[str], str]) -> Quotient:
        """Each rank's name replaced by `name(rank)`."""
        dividend, divisor = (e.rename_sizes(name) for e in (self.dividend, self.divisor))
        return Quotient(dividend, divisor, self.offset)

    def __str__(self) -> str:
        parts = [
            str(e)
            if len(e.terms) + bool(e.offset) < 2 and (plain or "*" not in str(e))
            else f"({e})"
            for e, plain in ((self.dividend, True), (self.divisor, False))
        ]
        return f"{'//'.join(parts)}{self.offset:+}" if self.offset else "//".join(parts)


@dataclass(frozen=True, slots=True)
class Partition:
    """`partition M -> M1, M0`: the coordinates of a rank as those of several, outermost first.

    m = m1*M0 + m0; the outermost has as many coordinates as it takes, and points past M are in no
    iteration space.
    """

    rank: str
    parts: tuple[str, ...]
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def coordinate(self) -> RankExpr:
        """The coordinate of the whole rank, from the variables of its parts."""
        return RankExpr(
            tuple(
                Term(1, tuple(sorted(self.parts[number + 1 :])), part.lower())
                for number, part in enumerate(self.parts)
            )
        )

    @property
    def outer_shape(self) -> Quotient:
        """The size of the outermost part: the whole over the product of the others, rounded up."""
        inner = Term(1, tuple(sorted(self.parts[1:])))
        return Quotient(RankExpr((Term(1, (self.rank,)), inner), -1), RankExpr((inner,)), 0)

    def __str__(self) -> str:
        return f"partition {self.rank} -> {', '.join(self.parts)}"


@dataclass(frozen=True, slots=True)
class Rank:
    """A named axis; `shape` is its extent: a number, an expression in sizes, or not yet known.

    `Rank("N", RankExpr.of_size("M"))` is an alias: the same axis under a second variable.
    """

    name: str
    shape: int | RankExpr | Quotient | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def variable(self) -> str:
        return self.name.lower()

    def __str__(self) -> str:
        return self.name if self.shape is None else f"{self.name} = {self.shape}"


def solvable(ranks: Iterable[Rank], known: Iterable[str]) -> tuple[list[Rank], list[Rank]]:
    """The ranks whose shapes are expressions, in an order in which they can be worked out.

    Besides, those that cannot, since they wait for one another or for what is not `known`.
    """
    waiting = {r.name: r for r in ranks if isinstance(r.shape, RankExpr | Quotient)}
    settled = set(known)
    missing: dict[str, set[str]] = {}
    needed_by: dict[str, list[str]] = {}
    for name, rank in waiting.items():
        assert isinstance(rank.shape, RankExpr | Quotient)
        missing[name] = set(rank.shape.sizes()) - settled
        for other in missing[name]:
            needed_by.setdefault(other, []).append(name)
    ready = deque(name for name in waiting if not missing[name])
    found: list[Rank] = []
    while ready:
        name = ready.popleft()
        found.append(waiting.pop(name))
        for other in needed_by.get(name, ()) if name not in settled else ():
            missing[other].discard(name)
            if not missing[other]:
                ready.append(other)
    return found, list(waiting.values())
