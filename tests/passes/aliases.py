"""By which rank an Einsum walks an axis that has several names, for the judge of pass counts.

With `ranks N = M` an axis may be read at m or at n. Where both stand in an Einsum, each is a loop
of its own; so it is where a tensor of such an Einsum is read at n later. Where n stands alone, on
axes of M, it is but another name of m. A reduction inside an expression counts by itself.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from einloom.ir.cascade import Cascade
from einloom.ir.einsum import Access, Einsum, Expr, Reduce
from einloom.ir.expr import free_variables, walk
from einloom.ir.ranks import RankExpr


class Names:
    """The rank that each variable of the Einsum that was entered last walks."""

    def __init__(self, cascade: Cascade) -> None:
        self.shapes = {rank.name: rank.shape for rank in cascade.ranks}
        self.iterative = {e.step[1].upper() for e in cascade.einsums if e.step is not None}
        self.axes: dict[str, tuple[str | None, ...]] = {
            decl.name: tuple(extent.rank for extent in decl.extents) for decl in cascade.inputs
        }
        self.renamed: dict[str, str] = {}

    def axis(self, rank: str) -> str:
        """The rank that one is an alias of, or itself."""
        shape = self.shapes.get(rank)
        target = shape.rank if isinstance(shape, RankExpr) else None
        return rank if target is None or target == rank else self.axis(target)

    def rank(self, variable: str) -> str:
        return self.renamed.get(variable, variable.upper())

    def walked(self, rank: str, index: RankExpr | Access) -> str:
        """The rank by which an index walks an axis: an alias that is a loop of its own, or it."""
        variables = tuple(index.variables()) if isinstance(index, RankExpr) else ()
        if len(variables) == 1:
            own = self.rank(variables[0])
            if self.axis(own) == self.axis(rank):
                return own
        return rank

    def enter(self, einsum: Einsum) -> None:
        parts = [einsum.expr] if einsum.where is None else [einsum.expr, einsum.where]
        bound = einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()
        self.renamed = self._found(parts, (*einsum.free, *bound))
        step = einsum.step
        if step is None or einsum.left[step[0]].terms:
            self.axes[einsum.name] = tuple(
                next((self.rank(v) for v in index.variables()), None) for index in einsum.left
            )

    @contextmanager
    def inside(self, reduction: Reduce) -> Generator[None]:
        """Within a reduction inside an expression."""
        outside = self.renamed
        own = self._found([reduction], (*reduction.variables, *free_variables(reduction)))
        self.renamed = outside | own
        yield
        self.renamed = outside

    def _found(self, parts: Sequence[Expr], variables: Iterable[str]) -> dict[str, str]:
        used = dict.fromkeys((*variables, *(v for part in parts for v in free_variables(part))))
        names: dict[str, str] = {}
        for variable in used:
            axis = self.axis(variable.upper())
            others = [v for v in used if v != variable and self.axis(v.upper()) == axis]
            apart = others or variable.upper() in self.iterative
            if not apart and all(self._is_of(axis, variable, part) for part in parts):
                names[variable] = axis
        return names

    def _is_of(self, axis: str, variable: str, expr: Expr) -> bool:
        """Whether what a variable indexes are axes of that rank."""
        return all(
            rank == axis
            for node in walk(expr)
            if isinstance(node, Access)
            for index, rank in zip(node.indices, self.axes.get(node.tensor, ()), strict=False)
            if isinstance(index, RankExpr) and variable in index.variables()
        )
