"""What the cotangent of one Einsum gives each of its reads, at every point of its iteration space.

The reductions come first: a sum gives each term the cotangent, a maximum the first place of it, a
product each factor the others' product, and logaddexp its weights. Then the chain rule, from the
top of the expression down to its reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from ..ir.cascade import fresh_name
from ..ir.dtypes import DType
from ..ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Op,
    Reduce,
    accesses,
    substitute,
)
from ..ir.errors import UnsupportedError
from ..ir.infer import einsum_dtype, expr_dtype, strong
from ..ir.operators import reduction_name
from ..ir.ranks import RankExpr
from .derivatives import ONE, apply, operand_cotangents, plus, select, times, weight
from .scatter import Ranks


@dataclass(slots=True)
class Writer:
    """The Einsums of an adjoint so far, with the names and dtypes that are known."""

    einsums: list[Einsum]
    names: set[str]
    dtypes: dict[str, DType]
    ranks: Ranks

    def name(self, stem: str) -> str:
        """A new name."""
        found = fresh_name(stem, self.names)
        self.names.add(found)
        return found

    def define(
        self,
        output: Access,
        expr: Expr,
        where: Expr | None = None,
        otherwise: Literal | None = None,
        dtype: DType | None = None,
    ) -> None:
        """One more Einsum, of that dtype; None: of the one that it has by itself."""
        einsum = Einsum(output, expr, "sum_product", where, otherwise)
        own = einsum_dtype(einsum, self.dtypes)
        self.dtypes[output.tensor] = dtype or own
        stored = None if dtype in (None, own) else dtype
        self.einsums.append(replace(einsum, dtype=stored))

    def type_of(self, expr: Expr) -> DType:
        return strong(expr_dtype(expr, self.dtypes))


@dataclass(frozen=True, slots=True)
class Contribution:
    """The cotangent of a read at each point; only those count at which the conditions hold."""

    read: Access
    cotangent: Expr
    conditions: tuple[Expr, ...]


def points_of(einsum: Einsum) -> tuple[str, ...]:
    """The variables of an Einsum's iteration space."""
    summed = einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()
    return (*einsum.free, *summed)


def pullback(
    einsum: Einsum, cotangent: Expr, writer: Writer, active: Collection[str]
) -> list[Contribution]:
    """What an Einsum without inner reductions gives each of its reads of the active tensors.

    Raises:
        UnsupportedError: an operator or the reduction has no derivative here.
    """
    whole = Access(einsum.name, einsum.output.indices)
    conditions = [] if einsum.where is None else [einsum.where]
    value: Expr | None = None
    body = einsum.expr
    if isinstance(body, Reduce):
        reduction, body = body, body.expr
        if reduction.op in ("max", "min"):
            conditions += _places(einsum, reduction, writer)
        elif reduction.op == "logaddexp":
            cotangent = times(cotangent, weight(body, whole))
        elif reduction.op == "mul":
            cotangent = times(cotangent, *_others(einsum, reduction, writer))
        elif reduction.op != "add":
            raise UnsupportedError(
                f"{einsum.name} is reduced by {reduction_name(reduction.op)}, which has no "
                "derivative here",
                span=reduction.span or einsum.span,
            )
    elif einsum.where is None and writer.dtypes[einsum.name] == writer.type_of(body).compute:
        value = whole  # it is stored as it was computed, so it is read and not computed again
    found: dict[Access, list[Expr]] = {}
    chain = _Chain(writer, frozenset(active))
    for read, each in chain.down(body, chain.real(body, cotangent), value):
        found.setdefault(read, []).append(each)
    return [Contribution(read, plus(each), tuple(conditions)) for read, each in found.items()]


@dataclass(frozen=True, slots=True)
class _Chain:
    writer: Writer
    active: frozenset[str]

    def down(
        self, expr: Expr, cotangent: Expr, value: Expr | None
    ) -> Iterator[tuple[Access, Expr]]:
        """The cotangent of every active read inside; `value` is the expression's, if it is kept."""
        if isinstance(expr, Access):
            yield expr, cotangent
        if not isinstance(expr, Map):
            return
        dtype = self.writer.type_of(expr)
        passed = operand_cotangents(expr, cotangent, value or expr, dtype)
        for arg, each in zip(expr.args, passed, strict=True):
            if each is not None and self.varies(arg):
                yield from self.down(arg, self.real(arg, each), None)

    def varies(self, expr: Expr) -> bool:
        """Whether an expression is floating or complex, and made of an active tensor."""
        reads = any(access.tensor in self.active for access in accesses(expr))
        return reads and self.writer.type_of(expr).is_inexact

    def real(self, expr: Expr, cotangent: Expr) -> Expr:
        """The cotangent of `expr`, of which a real one has the real part alone."""
        dtype = self.writer.type_of(expr)
        if dtype.kind == "complex" or self.writer.type_of(cotangent).kind != "complex":
            return cotangent
        return Map("cast", (cotangent,), dtype.compute)


# ---- reductions: one variable after another, outermost first


def _inner(
    einsum: Einsum, reduction: Reduce, start: Expr, where: Expr | None, writer: Writer
) -> list[tuple[Expr, Expr | None]]:
    """For each variable, outermost first, what is folded over it, and under which filter.

    max[m,n] X[m,n] is max[m] T[m] with T[m] = max[n] X[m,n]; the filter is that of the innermost.
    """
    folded: list[tuple[Expr, Expr | None]] = [(start, where)]
    for number in range(len(reduction.variables) - 1, 0, -1):
        variables = (*einsum.free, *reduction.variables[:number])
        part = Access(writer.name("T"), _indices(variables))
        expr, condition = folded[0]
        node = Reduce(reduction.op, (reduction.variables[number],), expr)
        writer.define(part, node, condition, dtype=writer.type_of(expr).compute)
        folded.insert(0, (part, None))
    return folded


def _indices(variables: Sequence[str]) -> tuple[RankExpr, ...]:
    return tuple(map(RankExpr.of_variable, variables))


def _places(einsum: Einsum, reduction: Reduce, writer: Writer) -> list[Expr]:
    """The conditions that hold at the first place of a maximum or minimum alone."""
    op: Op = "argmax" if reduction.op == "max" else "argmin"
    conditions: list[Expr] = []
    for number, (expr, where) in enumerate(
        _inner(einsum, reduction, reduction.expr, einsum.where, writer)
    ):
        variable = reduction.variables[number]
        variables = (*einsum.free, *reduction.variables[:number])
        place = Access(writer.name("I"), _indices(variables))
        writer.define(place, Reduce(op, (variable,), expr), where)
        conditions.append(apply("eq", Coordinate(variable), place))
    return conditions


def _others(einsum: Einsum, reduction: Reduce, writer: Writer) -> list[Expr]:
    """Factors whose product is that of all factors but the one at the point, zeros or not.

    L[0] = 1, L[m+1] = L[m]*X[m] has the product of those before m, R[m+1] = R[m]*X[M-1-m] of those
    after M-1-m; so the others are L[m] * R[M-1-m].
    """
    body = reduction.expr
    if einsum.where is not None:
        body = select(einsum.where, body, ONE)
    found: list[Expr] = []
    for number, (expr, _) in enumerate(_inner(einsum, reduction, body, None, writer)):
        variable = reduction.variables[number]
        rest = _indices((*einsum.free, *reduction.variables[:number]))
        here, dtype = RankExpr.of_variable(variable), writer.type_of(expr).compute
        back = reversed_index(variable)
        turned = substitute(expr, {variable: back})
        for stem, factor, place in (("L", expr, here), ("R", turned, back)):
            name = writer.name(stem)
            writer.define(Access(name, (RankExpr(), *rest)), ONE, dtype=dtype)
            now, following = Access(name, (here, *rest)), replace(here, offset=1)
            writer.define(Access(name, (following, *rest)), times(now, factor), dtype=dtype)
            found.append(Access(name, (place, *rest)))
    return found


def reversed_index(variable: str, back: str | None = None) -> RankExpr:
    """`V-1-v`; with another variable over the same rank, `V-1-u`."""
    (size,) = RankExpr.of_size(variable.upper()).terms
    (term,) = RankExpr.of_variable(back or variable).terms
    return RankExpr((size, replace(term, coefficient=-1)), -1)
