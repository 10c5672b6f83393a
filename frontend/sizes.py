"""Extents: those that nothing declares are deduced, and reads are held to the ranks they read.

A size is a polynomial in the ranks that stand for themselves: `_Sizes.expand` replaces aliases and
declared shapes, so that two sizes are the same if their polynomials are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from ..ir import limits
from ..ir.cascade import Cascade
from ..ir.einsum import Access
from ..ir.errors import RankError
from ..ir.printer import print_access
from ..ir.ranks import Quotient, Rank, RankExpr, Term, affine, solvable

#: From sorted rank names to the coefficient of their product.
Polynomial: TypeAlias = dict[tuple[str, ...], int]

#: A read, an index of it, and the extent of the axis there.
_Read: TypeAlias = tuple[Access, RankExpr, RankExpr]

_Shape: TypeAlias = int | RankExpr | Quotient

#: How many of what may be thousands a message names.
_SHOWN = 10


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
    waiting = {r.name: r for r in cascade.ranks if r.shape is None and r.name not in given}
    if waiting:
        found = _deduced(cascade, waiting)
        ranks = (replace(r, shape=found[r.name]) if r.name in found else r for r in cascade.ranks)
        cascade = replace(cascade, ranks=tuple(ranks))
    _check_circles(cascade, given)
    return cascade


def _deduced(cascade: Cascade, waiting: Mapping[str, Rank]) -> dict[str, _Shape]:
    """The shapes of the ranks that are waited for."""
    sizes = _Sizes(cascade.ranks)
    reads = _reads_of(cascade, waiting)
    found: dict[str, _Shape] = {}
    unknown = set(waiting)
    blocked: dict[str, list[str]] = {}  # by a rank without which a bound says nothing
    ready = deque(waiting)
    while ready:
        name = ready.popleft()
        shape = _largest(waiting[name], reads[name], unknown, sizes)
        if isinstance(shape, str):
            blocked.setdefault(shape, []).append(name)
        elif shape is not None:
            found[name] = shape
            unknown.remove(name)
            sizes.settle(name, shape)
            ready += blocked.pop(name, ())
    for name, rank in waiting.items():
        if name not in found:
            raise _undetermined(rank, reads[name], sizes)
    return found


def check_reads(cascade: Cascade) -> Cascade:
    """Gives the Cascade back if each rank is read at its own variable, or at an alias's.

    Raises:
        RankError: `X[n]` reads a rank M, and N is not known to be M.
    """
    sizes = _Sizes(cascade.ranks)
    extents = cascade.extents()
    fit: set[tuple[str, RankExpr]] = set()
    for einsum in cascade.einsums:
        for read in einsum.reads():
            for index, extent in zip(read.indices, extents[read.tensor], strict=True):
                if not isinstance(index, RankExpr) or read.fill is not None:
                    continue
                variable = index.variable
                if variable is None or extent.rank == (rank := variable.upper()):
                    continue
                if (rank, extent) not in fit:
                    if not sizes.fits(RankExpr.of_size(rank), extent):
                        raise _needs_alias(read, index, extent)
                    fit.add((rank, extent))
    return cascade


def _read_off(cascade: Cascade) -> set[str]:
    """The ranks whose extent is that of an input's axis."""
    return {
        extent.rank for decl in cascade.inputs for extent in decl.extents if extent.rank is not None
    }


def _reads_of(cascade: Cascade, ranks: Collection[str]) -> dict[str, list[_Read]]:
    """For each of these ranks, the indices in which its variable stands, once for each."""
    extents = cascade.extents()
    found: dict[str, list[_Read]] = {name: [] for name in ranks}
    for einsum in cascade.einsums:
        for read in einsum.reads():
            for index, extent in zip(read.indices, extents[read.tensor], strict=True):
                if isinstance(index, RankExpr):
                    for variable in dict.fromkeys(index.variables()):
                        if variable.upper() in found:
                            found[variable.upper()].append((read, index, extent))
    return found


class _Sizes:
    """What sizes are, in terms of ranks that have no shape of their own."""

    def __init__(self, ranks: Iterable[Rank]) -> None:
        # A quotient is no polynomial: such a rank stands for itself.
        self._shapes: dict[str, int | RankExpr | None] = {
            r.name: None if isinstance(r.shape, Quotient) else r.shape for r in ranks
        }
        self._known: dict[str, Polynomial] = {}
        self._made_of: dict[str, list[str]] = {}  # what is known in terms of a rank
        self._terms = 0

    def settle(self, rank: str, shape: _Shape) -> None:
        """From now on a rank without a shape has this one."""
        self._shapes[rank] = None if isinstance(shape, Quotient) else shape
        for name in self._made_of.pop(rank, ()):
            self._known.pop(name, None)

    def expand(self, size: RankExpr) -> Polynomial:
        """A size as a polynomial; a shape that refers to itself stands for itself."""
        if (name := size.rank) is not None:
            return self._rank(name)
        total: Polynomial = {(): size.offset}
        for term in size.terms:
            product: Polynomial = {(): term.coefficient}
            for name in term.sizes:
                product = self._times(product, self._rank(name))
            for names, coefficient in product.items():
                total[names] = total.get(names, 0) + coefficient
        return {names: coefficient for names, coefficient in total.items() if coefficient}

    def _times(self, first: Polynomial, second: Polynomial) -> Polynomial:
        # How long the names of a product are counts too: they are written anew for each factor.
        longest = max(map(len, first), default=0)
        self._terms += len(first) * len(second) * (1 + longest)
        limits.SIZE_TERMS.check(self._terms, None, RankError, at_least=True)
        product: Polynomial = {}
        for left, a in first.items():
            for right, b in second.items():
                names = tuple(sorted(left + right))
                product[names] = product.get(names, 0) + a * b
        return product

    def _rank(self, name: str) -> Polynomial:
        """What a rank is, worked out after those that it is made of: a chain may be long."""
        if name in self._known:
            return self._known[name]
        waiting = [(name, False)]
        while waiting:
            rank, ready = waiting.pop()
            shape = self._shapes.get(rank)
            if ready and isinstance(shape, RankExpr):
                self._known[rank] = self.expand(shape)
                for other in {other for names in self._known[rank] for other in names}:
                    self._made_of.setdefault(other, []).append(rank)
            elif isinstance(shape, int):
                self._known[rank] = {(): shape} if shape else {}
            elif rank not in self._known:
                self._known[rank] = {(rank,): 1}  # what a circle finds
                self._made_of.setdefault(rank, []).append(rank)
                if shape is not None:
                    waiting.append((rank, True))
                    waiting += ((other, False) for other in shape.sizes())
        return self._known[name]

    def number(self, size: RankExpr) -> int | None:
        """The number that a size is, if it is one."""
        found = self.expand(size)
        return found.get((), 0) if found.keys() <= {()} else None

    def names(self, size: RankExpr) -> set[str]:
        """The ranks without a shape that a size is made of."""
        return {name for names in self.expand(size) for name in names}

    def same(self, first: RankExpr, second: RankExpr) -> bool:
        return self.expand(first) == self.expand(second)

    def fits(self, size: RankExpr, extent: RankExpr) -> bool:
        """Whether the first size is known not to be the larger."""
        if size == extent:
            return True
        low, high = self.expand(size), self.expand(extent)
        rest = {names for names in {*low, *high} if low.get(names) != high.get(names)}
        return rest <= {()} and low.get((), 0) <= high.get((), 0)


def _largest(
    rank: Rank, reads: Iterable[_Read], unknown: Collection[str], sizes: _Sizes
) -> _Shape | str | None:
    """The largest extent of a rank that keeps every read in range.

    None: that is not known; the name of an unknown rank: not before that one is.
    """
    bounds: list[RankExpr | Quotient] = []
    for read, index, extent in reads:
        if read.fill is not None or rank.name in extent.sizes():
            continue  # a scan's own tensor is as long as the rank makes it
        if index.variable and extent.rank is not None:
            raise _needs_alias(read, index, extent)
        bound = _bound(rank.variable, index, extent, sizes)
        if bound is None:
            return None
        made_of = dict.fromkeys(bound.sizes())
        if isinstance(bound, RankExpr):
            made_of |= dict.fromkeys(sizes.names(bound))
        blocker = next((name for name in made_of if name in unknown), None)
        if blocker is not None:
            return blocker
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
    own, *more = (term for term in index.terms if term.variable == variable)
    if own.sizes or more:
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
    known = given | {rank.name for rank in cascade.ranks if isinstance(rank.shape, int)}
    _, waiting = solvable((rank for rank in cascade.ranks if rank.name not in known), known)
    if waiting:
        raise RankError(
            f"the extent of rank {waiting[0].name} follows from no input",
            span=waiting[0].span,
            deduced=tuple(map(str, waiting[:_SHOWN])),
            hint="these ranks are declared by one another: give one of them a number",
        )


def _undetermined(rank: Rank, reads: Sequence[_Read], sizes: _Sizes) -> RankError:
    shown: list[str] = []
    several = False
    for read, index, extent in reads[:_SHOWN]:
        bound = None
        if read.fill is None and rank.name not in extent.sizes():
            bound = _bound(rank.variable, index, extent, sizes)
        if bound is None:
            shown.append(f"{print_access(read)} is read at {rank.variable}")
        else:
            several = several or len(shown) > 0
            shown.append(f"{print_access(read)} is in range up to {rank.name} = {bound}")
    follows = "follows in several ways from" if several else "does not follow from"
    return RankError(
        f"the extent of rank {rank.name} is not declared, and {follows} the reads",
        span=rank.span,
        deduced=shown,
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
