"""Names and places: the order of operands, the names of variables, copies and transposes.

The laws are those of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...ir.cascade import Cascade
from ...ir.einsum import Access, Coordinate, Einsum, Expr, Map, rewrite_leaves
from ...ir.errors import PassError
from ...ir.ranks import Quotient, RankExpr
from ..base import Pass
from ..rewrite import distinct, has_law, rename, rewrite_at, rule, with_body
from ..scope import Scope


@dataclass(frozen=True, slots=True)
class Commute(Pass):
    """The operands of an Einsum in another order.

        Y[i,k] = A[i,j] * B[j,k] * C[k]
     -> Y[i,k] = C[k] * A[i,j] * B[j,k]          commute{tensor=Y, order=[2, 0, 1]}

    Condition: the operator is commutative and, for three or more operands, associative. Any
    operator of the table will do, not the semiring's product alone. Source: rule 1 (COMM).

    Options:
        tensor: the Einsum, by what it defines.
        order: for each new place, the old one.

    Raises:
        PassError: the operator does not commute, or `order` does not permute its operands.
    """

    name: ClassVar[str] = "commute"
    tensor: str
    order: tuple[int, ...]

    def __call__(self, cascade: Cascade) -> Cascade:
        return rewrite_at(cascade, self.tensor, self._permuted)

    def _permuted(self, einsum: Einsum, scope: Scope) -> tuple[Einsum]:
        body = einsum.body
        if not isinstance(body, Map) or not has_law(body.op, "commutative"):
            raise PassError(f"the operands of {self.tensor} do not commute", span=einsum.span)
        if len(body.args) > 2 and not has_law(body.op, "associative"):
            raise PassError(f"{body.op} is not associative", span=einsum.span)
        if sorted(self.order) != list(range(len(body.args))):
            raise PassError(
                f"{list(self.order)} does not permute the {len(body.args)} operands of "
                f"{self.tensor}",
                span=einsum.span,
            )
        args = tuple(body.args[number] for number in self.order)
        return (with_body(einsum, replace(body, args=args)),)


@dataclass(frozen=True, slots=True)
class Alpha(Pass):
    """A rank, and with it its variable, under another name throughout the Cascade.

        Y[i,k] = A[i,j] * B[j,k]
     -> Y[i,k] = A[i,n] * B[n,k]                 alpha{rank=J, to=N}

    Condition: nothing has the new name; two ranks that became one would tie their variables
    together. Exact. Source: rule 2 (ALPHA), an injective renaming.

    Options:
        rank: the rank, or its variable.
        to: the new name, in upper or lower case.

    Raises:
        PassError: there is no such rank, or the new name is in use.
    """

    name: ClassVar[str] = "alpha"
    rank: str
    to: str

    def __call__(self, cascade: Cascade) -> Cascade:
        old, new = self.rank.upper(), self.to.upper()
        scope = Scope(cascade)
        if all(rank.name != old for rank in cascade.ranks):
            known = ", ".join(rank.name for rank in cascade.ranks)
            raise PassError(f"{cascade.name} has no rank {old}", hint=f"its ranks: {known}")
        if old == new:
            return cascade
        if scope.taken(new):
            raise PassError(
                f"{new} is in use in {cascade.name}",
                hint="two ranks under one name would be one: a renaming must be injective",
            )

        def rank_name(name: str) -> str:
            return new if name == old else name

        def sized(expr: RankExpr) -> RankExpr:
            return expr.rename_sizes(rank_name)

        def moved(access: Access) -> Access:
            indices = tuple(
                sized(index) if isinstance(index, RankExpr) else moved(index)
                for index in access.indices
            )
            return replace(access, indices=indices)

        def leaf(node: Access | Coordinate) -> Expr:
            if isinstance(node, Access):
                return moved(node)
            return replace(node, name=new) if node.name == old else node

        def renamed(expr: Expr) -> Expr:
            return rewrite_leaves(rename(expr, {old.lower(): new.lower()}), leaf)

        ranks = tuple(
            replace(
                rank,
                name=rank_name(rank.name),
                shape=rank.shape.rename_sizes(rank_name)
                if isinstance(rank.shape, RankExpr | Quotient)
                else rank.shape,
            )
            for rank in cascade.ranks
        )
        inputs = tuple(
            replace(decl, extents=tuple(map(sized, decl.extents))) for decl in cascade.inputs
        )
        einsums: list[Einsum] = []
        for einsum in cascade.einsums:
            output = renamed(einsum.output)
            assert isinstance(output, Access)
            where = None if einsum.where is None else renamed(einsum.where)
            einsums.append(replace(einsum, output=output, expr=renamed(einsum.expr), where=where))
        partitions = tuple(
            replace(each, rank=rank_name(each.rank), parts=tuple(map(rank_name, each.parts)))
            for each in cascade.partitions
        )
        assumptions = tuple(rewrite_leaves(each, leaf) for each in cascade.assumptions)
        return replace(
            cascade,
            ranks=ranks,
            inputs=inputs,
            einsums=tuple(einsums),
            partitions=partitions,
            assumptions=assumptions,
        )


@rule
def identity(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """What reads a copy reads the original.

        B[i,j] = A[i,j]
        Y[i,k] = B[i,j] * C[j,k]
     -> B[i,j] = A[i,j]
        Y[i,k] = A[i,j] * C[j,k]

    Condition: the variables of the copy are distinct, run over the whole of the original, and
    stand in the same order (`transpose` takes any other); its dtype is the original's. A copy of a
    diagonal, `B[i] = A[i,i]`, and a diagonal made of a vector, `B[i,i] = A[i]`, are no copies.
    Exact; `dead` then removes the copy. Source: rule 3 (ID).
    """
    return _read_through(einsum, scope, permuted=False)


@rule
def transpose(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """What reads a transpose reads the original, its indices permuted.

        B[j,i] = A[i,j]
        Y[k,i] = B[k,i]
     -> B[j,i] = A[i,j]
        Y[k,i] = A[i,k]

    Condition: as for `identity`, with the variables in any other order; two transposes in a row
    compose. Exact. Source: rule 4 (TRANS).
    """
    return _read_through(einsum, scope, permuted=True)


def _read_through(einsum: Einsum, scope: Scope, *, permuted: bool) -> tuple[Einsum, ...] | None:
    def through(access: Access) -> Access:
        """The Access, and what it gathers by, at the originals of copies."""
        indices = tuple(
            through(index) if isinstance(index, Access) else index for index in access.indices
        )
        if any(new is not old for new, old in zip(indices, access.indices, strict=True)):
            access = replace(access, indices=indices)
        definition = scope.definition(access.tensor)
        source = None if definition is None else _source(definition, scope)
        if definition is None or source is None or source.plain is None:
            return access
        places = [definition.free.index(variable) for variable in source.plain]
        if (places != sorted(places)) != permuted:
            return access
        read = tuple(access.indices[place] for place in places)
        return replace(access, tensor=source.tensor, indices=read)

    def leaf(node: Access | Coordinate) -> Expr:
        return through(node) if isinstance(node, Access) else node

    expr = rewrite_leaves(einsum.expr, leaf)
    where = None if einsum.where is None else rewrite_leaves(einsum.where, leaf)
    if expr is einsum.expr and where is einsum.where:
        return None
    return (replace(einsum, expr=expr, where=where),)


def _source(definition: Einsum, scope: Scope) -> Access | None:
    """What an Einsum copies, whole and unconverted, if that is all it does."""
    source, left = definition.expr, definition.output.plain
    if not isinstance(source, Access) or source.plain is None or left is None:
        return None
    if definition.where is not None:
        return None
    if distinct(left) != left or distinct(source.plain) != source.plain:
        return None
    if set(left) != set(source.plain) or not scope.covers(source):
        return None
    if definition.dtype is not None and definition.dtype != scope.dtypes.get(source.tensor):
        return None
    return source
