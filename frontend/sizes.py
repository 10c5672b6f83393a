"""Extents: those that nothing declares are deduced, and reads are held to the ranks they read.

A size is a polynomial in the ranks that stand for themselves: `_Sizes.expand` replaces aliases and
declared shapes, so that two sizes are the same if their polynomials are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from ..ir.cascade import Cascade
from ..ir.einsum import Access
from ..ir.errors import RankError
from ..ir.printer import print_access
from ..ir.ranks import Quotient, Rank, RankExpr, Term, affine

#: From sorted rank names to the coefficient of their product.
Polynomial: TypeAlias = dict[tuple[str, ...], int]


def deduce(cascade: Cascade) -> Cascade:
    """The Cascade with a shape for each rank that only affine reads tell about.

    The extent of such a rank is the largest that keeps those reads in range: with X[H] and F[R],
    `X[p+r] * F[r]` gives P = H-R+1. Reads with a fill are in range anywhere and tell nothing.

    Raises:
        RankError: a rank's extent follows from nothing, or not in one way.
    """
    given = _read_off(cascade)
    # How large a partition's parts are may be left to the caller.
    given |= {part for partition in cascade.partitions for part in partition.parts[1:]}
    waiting = [rank for rank in cascade.ranks if rank.shape is None and rank.name not in given]
    while waiting:
        unknown = {rank.name for rank in waiting}
        found = ((rank, _largest(rank, cascade, unknown)) for rank in waiting)
        rank, shape = next((pair for pair in found if pair[1] is not None), (waiting[0], None))
        if shape is None:
            raise _undetermined(rank, cascade)
        waiting.remove(rank)
        ranks = tuple(replace(r, shape=shape) if r is rank else r for r in cascade.ranks)
        cascade = replace(cascade, ranks=ranks)
    _check_circles(cascade, given)
    return cascade


def check_reads(cascade: Cascade) -> Cascade:
    """Gives the Cascade back if each rank is read at its own variable, or at an alias's.

    Raises:
        RankError: `X[n]` reads a rank M, and N is not known to be M.
    """
    sizes = _Sizes(cascade.ranks)
    extents = cascade.extents()
    for read in _reads(cascade):
        for index, extent in zip(read.indices, extents[read.tensor], strict=True):
            if isinstance(index, RankExpr) and index.variable and read.fill is None:
                own = RankExpr.of_size(index.variable.upper())
                if not sizes.fits(own, extent):
                    raise _needs_alias(read, index, extent)
    return cascade


def _read_off(cascade: Cascade) -> set[str]:
    """The ranks whose extent is that of an input's axis."""
    return {
        extent.rank for decl in cascade.inputs for extent in decl.extents if extent.rank is not None
    }


def _reads(cascade: Cascade) -> Iterator[Access]:
    for einsum in cascade.einsums:
        yield from einsum.reads()


class _Sizes:
    """What sizes are, in terms of ranks that have no shape of their own."""

    def __init__(self, ranks: tuple[Rank, ...]) -> None:
        # A quotient is no polynomial: such a rank stands for itself.
        self._shapes: Mapping[str, int | RankExpr | None] = {
            r.name: None if isinstance(r.shape, Quotient) else r.shape for r in ranks
        }
        self._known: dict[str, Polynomial] = {}

    def expand(self, size: RankExpr) -> Polynomial:
        """A size as a polynomial; a shape that refers to itself stands for itself."""
        total: Polynomial = {(): size.offset}
        for term in size.terms:
            product: Polynomial = {(): term.coefficient}
            for name in term.sizes:
                known = self._known.get(name)
                product = _times(product, self._rank(name) if known is None else known)
            for names, coefficient in product.items():
                total[names] = total.get(names, 0) + coefficient
        return {names: coefficient for names, coefficient in total.items() if coefficient}

    def _rank(self, name: str) -> Polynomial:
        """What a rank is, worked out after those that it is made of: a chain may be long."""
        waiting = [(name, False)]
        while waiting:
            rank, ready = waiting.pop()
            shape = self._shapes.get(rank)
            if ready and isinstance(shape, RankExpr):
                self._known[rank] = self.expand(shape)
            elif isinstance(shape, int):
                self._known[rank] = {(): shape} if shape else {}
            elif rank not in self._known:
                self._known[rank] = {(rank,): 1}  # what a circle finds
                if shape is not None:
                    waiting.append((rank, True))
                    waiting += ((other, False) for other in shape.sizes())
        return self._known[name]

    def number(self, size: RankExpr) -> int | None:
        """The number that a size is, if it is one."""
        found = self.expand(size)
        return found.get((), 0) if set(found) <= {()} else None

    def names(self, size: RankExpr) -> set[str]:
        """The ranks without a shape that a size is made of."""
        return {name for names in self.expand(size) for name in names}

    def same(self, first: RankExpr, second: RankExpr) -> bool:
        return self.expand(first) == self.expand(second)

    def fits(self, size: RankExpr, extent: RankExpr) -> bool:
        """Whether the first size is known not to be the larger."""
        low, high = self.expand(size), self.expand(extent)
        rest = {names for names in {*low, *high} if low.get(names) != high.get(names)}
        return rest <= {()} and low.get((), 0) <= high.get((), 0)


def _times(first: Polynomial, second: Polynomial) -> Polynomial:
    product: Polynomial = {}
    for left, a in first.items():
        for right, b in second.items():
            names = tuple(sorted(left + right))
            product[names] = product.get(names, 0) + a * b
    return product


def _largest(rank: Rank, cascade: Cascade, unknown: set[str]) -> int | RankExpr | Quotient | None:
    """The largest extent of a rank that keeps every read in range; None if that is not known."""
    sizes = _Sizes(cascade.ranks)
    extents = cascade.extents()
    bounds: list[RankExpr | Quotient] = []
    for read in _reads(cascade):
        for index, extent in zip(read.indices, extents[read.tensor], strict=True):
            if isinstance(index, Access) or read.fill is not None:
                continue
            if rank.variable not in index.variables() or rank.name in extent.sizes():
                continue  # a scan's own tensor is as long as the rank makes it
            if index.variable and extent.rank is not None:
                raise _needs_alias(read, index, extent)
            bound = _bound(rank.variable, index, extent, sizes)
            if bound is None or unknown.intersection(bound.sizes()):
                return None
            if isinstance(bound, RankExpr) and sizes.names(bound) & unknown:
                return None
            bounds.append(bound)
    affines = [bound for bound in bounds if isinstance(bound, RankExpr)]
    numbers = [number for bound in affines if (number := sizes.number(bound)) is not None]
    if len(numbers) == len(bounds):
        return max(min(numbers), 0) if numbers else None
    if all(bound == bounds[0] for bound in bounds):
        return bounds[0]
    same = len(affines) == len(bounds) and all(sizes.same(b, affines[0]) for b in affines)
    return affines[0] if same else None


def _bound(
    variable: str, index: RankExpr, extent: RankExpr, sizes: _Sizes
) -> RankExpr | Quotient | None:
    """The largest extent of `variable` with which `index` stays in range(extent).

    As the variable leaves 0, a rising index must stay below the extent and a falling one at or
    above 0, wherever the other variables are.
    """
    (own,) = (term for term in index.terms if term.variable == variable)
    if own.sizes:
        return None
    sign = 1 if own.coefficient > 0 else -1
    worst = [Term(index.offset)]
    for term in index.terms:
        if term.variable is None:
            worst.append(term)
        elif term is not own and term.coefficient * sign > 0:
            last = (*term.sizes, term.variable.upper())
            worst += [Term(term.coefficient, last), Term(-term.coefficient, term.sizes)]
    room = [*extent.terms, Term(extent.offset - 1)] if sign > 0 else []
    room += [replace(term, coefficient=-sign * term.coefficient) for term in worst]
    step = abs(own.coefficient)
    if step == 1:
        return affine(room, 1)
    reach = affine(room, 0)
    number = sizes.number(reach)
    return (
        Quotient(reach, RankExpr((), step), 1)
        if number is None
        else RankExpr((), number // step + 1)
    )


def _check_circles(cascade: Cascade, given: set[str]) -> None:
    settled = given | {rank.name for rank in cascade.ranks if isinstance(rank.shape, int)}
    waiting = [rank for rank in cascade.ranks if rank.name not in settled]
    while waiting:
        for rank in waiting:
            shape = rank.shape
            if isinstance(shape, RankExpr | Quotient) and settled.issuperset(shape.sizes()):
                settled.add(rank.name)
        later = [rank for rank in waiting if rank.name not in settled]
        if len(later) == len(waiting):
            raise RankError(
                f"the extent of rank {waiting[0].name} follows from no input",
                span=waiting[0].span,
                deduced=tuple(map(str, waiting)),
                hint="these ranks are declared by one another: give one of them a number",
            )
        waiting = later


def _undetermined(rank: Rank, cascade: Cascade) -> RankError:
    reads = [read for read in _reads(cascade) if rank.variable in read.variables()]
    return RankError(
        f"the extent of rank {rank.name} is not declared, and does not follow from the reads",
        span=rank.span,
        deduced=(f"read at {rank.variable}: {', '.join(map(print_access, reads))}",)
        if reads
        else (),
        hint=f"declare it: `ranks {rank.name} = ...`, a number or an expression in other ranks",
    )


def _needs_alias(read: Access, index: RankExpr, extent: RankExpr) -> RankError:
    variable, rank = index.variable or "", (index.variable or "").upper()
    if extent.constant is not None:
        message = f"an axis of {read.tensor} has extent {extent}, but is read at {variable}"
        hint = f"read it at 0, or declare `ranks {rank} = {extent}`"
    else:
        what = f"rank {extent.rank}" if extent.rank else f"an axis of extent {extent}"
        message = f"{read.tensor} has {what} there, but is read at {variable}"
        hint = f"if they are the same axis, declare the alias: `ranks {rank} = {extent}`"
    return RankError(message, span=index.span or read.span, hint=hint)
