"""The IR, page one: what an Einsum is.

    Einsum    = output Access, expr, semiring, where/otherwise, dtype      (expr: see expr.py)

An Einsum says: for every point of its output's variables, the output at that point is the value
of `expr`. Reductions are always explicit here; the text leaves out the outermost one when it is
the semiring's own over exactly the variables missing on the left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .dtypes import DType
from .expr import (
    PLACES,
    Access,
    Coordinate,
    Expr,
    Law,
    Literal,
    Map,
    Op,
    Parameter,
    Reduce,
    UserOperator,
    accesses,
    addends,
    children,
    free_variables,
    implies,
    index_value,
    levels,
    rebind,
    rewrite_leaves,
    substitute,
    walk,
)
from .operators import SEMIRINGS, Semiring
from .ranks import RankExpr, Term
from .source import Span

__all__ = [
    "PLACES",
    "Access",
    "Coordinate",
    "Einsum",
    "Expr",
    "Law",
    "Literal",
    "Map",
    "Op",
    "Parameter",
    "Reduce",
    "UserOperator",
    "accesses",
    "addends",
    "children",
    "free_variables",
    "implies",
    "index_value",
    "levels",
    "rebind",
    "rewrite_leaves",
    "substitute",
    "walk",
]


@dataclass(frozen=True, slots=True)
class Einsum:
    """One definition: `output = expr over semiring where condition else otherwise`.

    A variable that the output repeats makes a diagonal: elsewhere the value is the semiring's
    zero. An index `v+c` of the output is a scan's step, a number one of its starts (scans.py).
    `semiring` is a name, or a semiring of the text's own. `where` keeps the points of the iteration
    space at which it is true. `dtype` is what the outermost reduction accumulates in and the output
    stores, and a product under that reduction is computed in no less (`infer.product_dtype`); None:
    what `expr` gives.
    """

    output: Access
    expr: Expr
    semiring: str | Semiring = "sum_product"
    where: Expr | None = None
    otherwise: Literal | None = None
    dtype: DType | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The tensor it defines."""
        return self.output.tensor

    @property
    def ring(self) -> Semiring:
        return SEMIRINGS[self.semiring] if isinstance(self.semiring, str) else self.semiring

    @property
    def free(self) -> tuple[str, ...]:
        """The output's variables, each once, in order."""
        return tuple(dict.fromkeys(self.output.variables()))

    @property
    def left(self) -> tuple[RankExpr, ...]:
        """The output's indices."""
        return tuple(index for index in self.output.indices if isinstance(index, RankExpr))

    @property
    def steps(self) -> tuple[tuple[int, str, int], ...]:
        """The axis, the variable v and the lag c of each index `v+c` on the left."""
        return tuple(
            (axis, variable, index.offset)
            for axis, index in enumerate(self.left)
            if index.offset
            for variable in index.variables()
        )

    @property
    def step(self) -> tuple[int, str, int] | None:
        """The first of them, if there is one."""
        return next(iter(self.steps), None)

    @property
    def body(self) -> Expr:
        """`expr` without its outermost reduction by the semiring's own operator."""
        if isinstance(self.expr, Reduce) and self.expr.op == self.ring.add:
            return self.expr.expr
        return self.expr

    @property
    def reduced(self) -> tuple[str, ...]:
        """The variables of that outermost reduction."""
        if isinstance(self.expr, Reduce) and self.expr.op == self.ring.add:
            return self.expr.variables
        return ()

    def product(self) -> tuple[Access, ...] | None:
        """The factors, if this is a pure product of Accesses reduced by its own semiring.

        That is the form of a classic einsum; None for anything else (a filter, a function, an
        inner reduction, a declared dtype on a cast).
        """
        if self.where is not None:
            return None
        body = self.body
        if isinstance(body, Access):
            return (body,)
        if isinstance(body, Map) and body.op == self.ring.mul:
            factors = tuple(arg for arg in body.args if isinstance(arg, Access))
            return factors if len(factors) == len(body.args) else None
        return None

    def reads(self) -> Iterator[Access]:
        """Every Access on the right, gathers and the filter's included."""
        yield from accesses(self.expr)
        if self.where is not None:
            yield from accesses(self.where)

    def extents(self) -> tuple[RankExpr, ...]:
        """The extent that the left side gives each axis: V for v, V+c for v+c, n+1 for n."""
        return tuple(
            RankExpr(
                tuple(Term(1, (v.upper(),)) for v in index.variables()),
                index.offset + (0 if index.terms else 1),
            )
            for index in self.left
        )
