"""Ranks in pieces: slices that are added or stacked, one rank as two, two as one.

The laws are those of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ...ir.cascade import Cascade
from ...ir.einsum import (
    PLACES,
    Access,
    Coordinate,
    Einsum,
    Expr,
    Map,
    Reduce,
    rebind,
    rewrite_leaves,
    substitute,
)
from ...ir.errors import PassError
from ...ir.filters import never_true
from ...ir.operators import identity_of
from ...ir.ranks import RankExpr, Term, affine
from ..base import Pass
from ..rewrite import distinct, has_law, joined, named, rewrite_at
from ..scope import Scope
from .delta import literal_in


@dataclass(frozen=True, slots=True)
class Slice(Pass):
    """One Einsum becomes several, each over a part of a rank; they are added, or stacked.

        Y[i] = A[i,k] * B[k]                     with K = 8
     -> T[i]  = A[i,k1] * B[k1]                  slice{tensor=Y, rank=K, pieces=2}
        T1[i] = A[i,k1+4] * B[k1+4]              with K1 = 4
        Y[i]  = T[i] + T1[i]

    A rank of the output is stacked: each piece is read where it lies, and the semiring's zero
    elsewhere, `Y[k] = T[k else 0] + T1[k-4 else 0]`.

    Condition: the extent is known and no less than the number of pieces. To add: the rank is one of
    the outermost sum's, by the semiring's own operator; under a filter, that operator's identity is
    the semiring's zero. To stack: so too, since zeros are added. A piece whose filter is never true
    is refused, as in a text. Source: rule 20 (SLICE).

    Options:
        tensor: the Einsum, by what it defines.
        rank: the rank, or its variable.
        pieces: how many; as equal as can be, the last ones shorter.

    Raises:
        PassError: the condition does not hold.
    """

    name: ClassVar[str] = "slice"
    tensor: str
    rank: str
    pieces: int = 2

    def __call__(self, cascade: Cascade) -> Cascade:
        return rewrite_at(cascade, self.tensor, self.sliced)

    def sliced(self, einsum: Einsum, scope: Scope) -> tuple[Einsum, ...]:
        """The pieces, defined in the scope, and what puts them together."""
        variable = self.rank.lower()
        if variable not in (*einsum.free, *einsum.reduced):
            raise PassError(f"{self.tensor} has no rank {self.rank.upper()}", span=einsum.span)
        extent = scope.extent(variable)
        if extent is None or not 1 <= self.pieces <= max(extent, 1) or extent == 0:
            shown = "is not known" if extent is None else f"is {extent}"
            raise PassError(
                f"{self.rank.upper()} cannot be cut into {self.pieces} pieces: its extent {shown}",
                hint="declare it, as in `ranks K = 64`",
            )
        if not scope.typed(einsum) or not has_law(einsum.ring.add, "commutative", "associative"):
            raise PassError(f"pieces of {self.tensor} cannot be added up", span=einsum.span)
        if self.pieces == 1:
            return (einsum,)
        if variable in einsum.reduced:
            return self._added(einsum, variable, extent, scope)
        return self._stacked(einsum, variable, extent, scope)

    def _added(
        self, einsum: Einsum, variable: str, extent: int, scope: Scope
    ) -> tuple[Einsum, ...]:
        if einsum.otherwise is not None:
            raise PassError(f"{self.tensor} says what is `else`", span=einsum.span)
        if einsum.where is not None:
            self._check_zero(einsum)
        dtype = scope.dtype(einsum)
        made: list[Einsum] = []
        for piece, offset in self._pieces(variable, extent, scope):
            output = named(scope.fresh("T"), einsum.free)
            cut = replace(self._moved(einsum, variable, piece, offset), output=output)
            made.append(scope.stored(cut, dtype.compute))
            scope.define(made[-1])
        total = joined(einsum.ring.add, [part.output for part in made], einsum.span)
        whole = Einsum(einsum.output, total, einsum.semiring, span=einsum.span)
        return *made, scope.stored(whole, dtype)

    def _stacked(
        self, einsum: Einsum, variable: str, extent: int, scope: Scope
    ) -> tuple[Einsum, ...]:
        self._check_zero(einsum)
        dtype = scope.dtype(einsum)
        if dtype.is_host_only:
            raise PassError(f"{self.tensor} is of Python objects, which have no fill")
        zero = literal_in(einsum.ring.zero, dtype.compute)
        made: list[Einsum] = []
        read: list[Access] = []
        for piece, offset in self._pieces(variable, extent, scope):
            free = tuple(piece if v == variable else v for v in einsum.free)
            output = named(scope.fresh("T"), free)
            cut = replace(self._moved(einsum, variable, piece, offset), output=output)
            made.append(scope.stored(cut, dtype.compute))
            scope.define(made[-1])
            back = affine([Term(1, (), variable)], -offset)
            read.append(replace(output.substitute({piece: back}), fill=zero))
        total = joined(einsum.ring.add, read, einsum.span)
        whole = Einsum(einsum.output, total, einsum.semiring, span=einsum.span)
        return *made, scope.stored(whole, dtype)

    def _check_zero(self, einsum: Einsum) -> None:
        """The zeros that are added must change nothing; those of max_times would, below 0."""
        if identity_of(einsum.ring.add) != einsum.ring.zero:
            raise PassError(
                f"zeros of {einsum.semiring} cannot be added to {self.tensor}: "
                "they are no identity of its sum",
                span=einsum.span,
            )

    def _pieces(self, variable: str, extent: int, scope: Scope) -> Iterable[tuple[str, int]]:
        """A variable for each piece, and where the piece begins."""
        short, longer = divmod(extent, self.pieces)
        names: dict[int, str] = {}
        begin = 0
        for number in range(self.pieces):
            length = short + (number < longer)
            if length not in names:
                names[length] = scope.new_rank(variable.upper(), length)
            yield names[length], begin
            begin += length

    def _moved(self, einsum: Einsum, variable: str, piece: str, offset: int) -> Einsum:
        """The Einsum over a piece of a rank, its left side apart."""
        at = {variable: affine([Term(1, (), piece)], offset)}
        where = None if einsum.where is None else substitute(einsum.where, at)
        if where is not None and never_true(where):
            raise PassError(
                f"no point of the piece of {self.tensor} from {variable} = {offset} passes its "
                "filter",
                span=einsum.span,
                hint="cut it into fewer pieces",
            )
        expr = substitute(einsum.expr, at)
        return replace(
            einsum,
            expr=rebind(expr, lambda bound: _replaced(bound, variable, (piece,))),
            where=where,
        )


def _replaced(bound: tuple[str, ...], variable: str, new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for v in bound for name in (new if v == variable else (v,)))


def _sums(expr: Expr) -> Iterable[Reduce]:
    """The reductions that may be over two variables for one; those that give a place may not."""
    if isinstance(expr, Reduce):
        if expr.op not in PLACES:
            yield expr
        yield from _sums(expr.expr)
    elif isinstance(expr, Map):
        for arg in expr.args:
            yield from _sums(arg)


@dataclass(frozen=True, slots=True)
class Split(Pass):
    """Every reduction over a rank becomes one over two, an outer and an inner one.

        Y[i] = A[i,k] * B[k]                     with K = 8
     -> Y[i] = A[i,4*k1+k0] * B[4*k1+k0]         split{rank=K, size=4}, K1 = 2, K0 = 4

    Where the variable is on the left it stays, and where its place is asked for. Condition: the
    extent is known, and `size` divides it. Exact, for every operator: the coordinates come in the
    same order. Source: rule 22 (SPLIT). Called `divide_loop` in Exo, `split` in Halide and TVM.

    Options:
        rank: the rank, or its variable.
        size: the extent of the inner rank.

    Raises:
        PassError: there is no such rank, or `size` does not divide its extent, or a partition makes
            the rank.
    """

    name: ClassVar[str] = "split"
    rank: str
    size: int

    def __call__(self, cascade: Cascade) -> Cascade:
        variable = self.rank.lower()
        scope = Scope(cascade)
        extent = _extent(cascade, scope, variable)
        if extent is None or self.size < 1 or extent % self.size:
            shown = "not known" if extent is None else extent
            raise PassError(f"{self.size} does not divide {self.rank.upper()}, which is {shown}")
        if not any(variable in node.variables for e in cascade.einsums for node in _sums(e.expr)):
            return cascade
        outer = scope.new_rank(f"{variable.upper()}1", extent // self.size)
        inner = scope.new_rank(f"{variable.upper()}0", self.size)
        at = {variable: affine([Term(self.size, (), outer), Term(1, (), inner)], 0)}
        einsums: list[Einsum] = []
        for einsum in cascade.einsums:
            if any(variable in node.variables for node in _sums(einsum.expr)):
                einsum = _split(einsum, variable, (outer, inner), at)
            einsums.append(einsum)
        return scope.with_einsums(einsums)


def _split(
    einsum: Einsum, variable: str, new: tuple[str, str], at: Mapping[str, RankExpr]
) -> Einsum:
    def split(expr: Expr) -> Expr:
        """The variable means one thing in each Reduce that binds it, and nothing outside."""
        if isinstance(expr, Reduce) and expr.op in PLACES and variable in expr.variables:
            return expr
        if isinstance(expr, Reduce) and variable in expr.variables:
            variables = _replaced(expr.variables, variable, new)
            return replace(expr, variables=variables, expr=substitute(expr.expr, at))
        if isinstance(expr, Reduce):
            return replace(expr, expr=split(expr.expr))
        if isinstance(expr, Map):
            return replace(expr, args=tuple(map(split, expr.args)))
        return expr

    top = einsum.expr
    split_top = isinstance(top, Reduce) and variable in top.variables and top.op not in PLACES
    where = einsum.where
    if where is not None and split_top:
        where = substitute(where, at)
    return replace(einsum, expr=split(einsum.expr), where=where)


@dataclass(frozen=True, slots=True)
class Fuse(Pass):
    """Two ranks that are only ever read as one become one.

        Y[i] = A[i,4*k1+k0] * B[4*k1+k0]         with K1 = 2, K0 = 4
     -> Y[i] = A[i,k] * B[k]                     fuse{ranks=[K1, K0], to=K}, K = 8

    Condition: wherever the two are reduced, they are so one after the other, and occur in no
    coordinate and no index but as `k1*K0+k0`, up to a factor. Exact. Source: rule 22 (FUSE).

    Options:
        ranks: the outer rank and the inner one, or their variables.
        to: the name of the rank that they become.

    Raises:
        PassError: the condition holds nowhere, or the name is in use, or a partition makes a rank.
    """

    name: ClassVar[str] = "fuse"
    ranks: tuple[str, str]
    to: str

    def __call__(self, cascade: Cascade) -> Cascade:
        outer, inner = (name.lower() for name in self.ranks)
        scope = Scope(cascade)
        above, below = (_extent(cascade, scope, variable) for variable in (outer, inner))
        if scope.taken(self.to.upper()):
            raise PassError(f"{self.to.upper()} is in use in {cascade.name}")
        sizes = affine([Term(1, (outer.upper(), inner.upper()), None)], 0)
        both = sizes if above is None or below is None else above * below
        fused = scope.new_rank(self.to.upper(), both)
        einsums = [_fused(e, (outer, inner), fused, below) for e in cascade.einsums]
        if all(new is old for new, old in zip(einsums, cascade.einsums, strict=True)):
            raise PassError(
                f"{outer.upper()} and {inner.upper()} are nowhere read as one rank alone"
            )
        return scope.with_einsums(einsums)


def _extent(cascade: Cascade, scope: Scope, variable: str) -> int | None:
    if any(variable.upper() in partition.parts for partition in cascade.partitions):
        raise PassError(
            f"{variable.upper()} is a part of another rank, whose points its filter keeps",
            hint="`plain` writes the partition out first",
        )
    if all(rank.variable != variable for rank in cascade.ranks):
        known = ", ".join(rank.name for rank in cascade.ranks)
        raise PassError(f"{cascade.name} has no rank {variable.upper()}", hint=f"ranks: {known}")
    return scope.extent(variable)


def _fused(einsum: Einsum, pair: tuple[str, str], new: str, extent: int | None) -> Einsum:
    """The Einsum with an adjacent pair of reduced variables as one; itself where they are not."""
    outer, inner = pair

    def index(found: RankExpr) -> RankExpr | None:
        """The index with the pair as one variable; None if it holds them otherwise."""
        high = {(t.coefficient, tuple(sorted(t.sizes))) for t in found.terms if t.variable == outer}
        low = [t for t in found.terms if t.variable == inner]
        by_size = {(t.coefficient, tuple(sorted((*t.sizes, inner.upper())))) for t in low}
        by_number = {(t.coefficient * (extent or 0), tuple(sorted(t.sizes))) for t in low}
        if high not in (by_size, by_number) or not low:
            return found if not high and not low else None
        terms = [
            replace(t, variable=new if t.variable == inner else t.variable)
            for t in found.terms
            if t.variable != outer
        ]
        return affine(terms, found.offset, found.span)

    fits = True

    def access(found: Access) -> Access:
        nonlocal fits
        indices: list[RankExpr | Access] = []
        for each in found.indices:
            fused = access(each) if isinstance(each, Access) else index(each)
            fits = fits and fused is not None
            indices.append(each if fused is None else fused)
        return replace(found, indices=tuple(indices))

    def leaf(node: Access | Coordinate) -> Expr:
        nonlocal fits
        if isinstance(node, Access):
            return access(node)
        fits = fits and node.name not in pair
        return node

    if not isinstance(einsum.expr, Reduce):
        return einsum
    bound = einsum.expr.variables
    if outer not in bound or inner not in bound or bound.index(inner) != bound.index(outer) + 1:
        return einsum
    body = rewrite_leaves(einsum.expr.expr, leaf)
    where = None if einsum.where is None else rewrite_leaves(einsum.where, leaf)
    if not fits:
        return einsum
    variables = tuple(new if v == inner else v for v in bound if v != outer)
    return replace(
        einsum, expr=replace(einsum.expr, variables=distinct(variables), expr=body), where=where
    )
