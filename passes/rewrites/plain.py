"""What no backend has a form of its own for, written out: the first rewrite of a compilation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...ir import partitions
from ...ir.cascade import Cascade, fresh_name
from ...ir.dtypes import I64, DType
from ...ir.einsum import (
    PLACES,
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Op,
    Reduce,
    UserOperator,
    walk,
)
from ...ir.errors import PassError, UnsupportedError
from ...ir.infer import einsum_dtype, expr_dtype, known_dtypes, otherwise_as, strong
from ...ir.lift import lift
from ...ir.operators import identity_of, laws_of
from ...ir.ranks import RankExpr
from ..base import Pass

#: The largest i64: what no coordinate is.
_NOWHERE = 2**63 - 1

#: The most nodes that an expression may grow to by writing operators out.
_MOST = 4096


@dataclass(frozen=True, slots=True)
class Plain(Pass):
    """Writes out partitions, the places of maxima, and operators of the text's own.

        Y[p], I[p] = max[m] X[m,p]
     -> Y[p]  = max[m] X[m,p]
        I1[p] = max[m] X[m,p]
        I2[p] = min[m] select(X[m,p] == I1[p], m, 9223372036854775807)
        I[p]  = select(I2[p] == 9223372036854775807, -1, I2[p])

    A partition becomes filters and fills (ir/partitions.py), an operator its body, and a reduction
    by one a scan that folds as the interpreter does. Nothing changes in value. Condition: the
    dtypes of the inputs are known; a reduction over several variables by an operator of the
    text's own needs its `associative`.

    Raises:
        PassError: the dtype of an input is not known.
        UnsupportedError: such a reduction is not associative; an operator's body grows too long.
    """

    name: ClassVar[str] = "plain"

    def __call__(self, cascade: Cascade) -> Cascade:
        if not needs_plain(cascade):
            return cascade
        _check_types(cascade)
        cascade = partitions.expand(cascade)
        writer = _Writer(cascade)
        for einsum in cascade.einsums:
            writer.write(einsum)
        return replace(cascade, einsums=tuple(writer.einsums))


def needs_plain(cascade: Cascade) -> bool:
    """Whether there is anything to write out."""
    return bool(cascade.partitions) or any(
        _is_own(node.op) or node.op in PLACES
        for einsum in cascade.einsums
        for root in (einsum.expr, einsum.where)
        for node in (walk(root) if root is not None else ())
        if isinstance(node, Map | Reduce)
    )


def _check_types(cascade: Cascade) -> None:
    missing = [decl for decl in cascade.inputs if decl.dtype is None]
    if missing:
        raise PassError(
            f"plain needs the dtypes of {', '.join(decl.name for decl in missing)}: what it stores "
            "on the way is of the types that the whole is computed in",
            span=missing[0].span,
            hint=f"declare them, as in `{missing[0].name}[...]: f32`",
        )


def _is_own(op: Op) -> bool:
    return isinstance(op, UserOperator)


class _Writer:
    """Writes Einsums one after another, each with all that it needs before it."""

    def __init__(self, cascade: Cascade) -> None:
        self.einsums: list[Einsum] = []
        self.names = cascade.names()
        self.dtypes: dict[str, DType] = known_dtypes(cascade)

    def write(self, einsum: Einsum) -> None:
        made, rest = lift(
            einsum, lambda node: _is_own(node.op) or node.op in PLACES, self.names, self.dtypes
        )
        for each in (*made, rest):
            self._write(each)

    def _write(self, einsum: Einsum) -> None:
        if einsum.name not in self.dtypes:
            self.dtypes[einsum.name] = einsum_dtype(einsum, self.dtypes)
        if isinstance(einsum.expr, Reduce) and einsum.expr.op in PLACES:
            self._place(einsum, einsum.expr)
        elif isinstance(einsum.expr, Reduce) and isinstance(einsum.expr.op, UserOperator):
            self._fold(einsum, einsum.expr, einsum.expr.op)
        else:
            self._add(einsum)

    def _add(self, einsum: Einsum) -> None:
        """One more Einsum, its operators written out."""
        where = None if einsum.where is None else _written(einsum.where)
        self.einsums.append(replace(einsum, expr=_written(einsum.expr), where=where))
        if einsum.name not in self.dtypes:
            self.dtypes[einsum.name] = einsum_dtype(einsum, self.dtypes)

    def _new(self, stem: str, variables: tuple[str, ...]) -> Access:
        name = fresh_name(stem, self.names)
        self.names.add(name)
        return Access(name, tuple(RankExpr.of_variable(v) for v in variables))

    # ---- the place of a maximum

    def _place(self, einsum: Einsum, node: Reduce) -> None:
        value, span = node.expr, einsum.span
        if not isinstance(value, Access):
            # Stored once, so that the maximum is equal to what it was found among.
            dtype = strong(expr_dtype(value, self.dtypes)).compute
            stored = self._new(einsum.name, (*einsum.free, *node.variables))
            self._add(Einsum(stored, value, dtype=dtype, span=span))
            value = stored
        best = self._new(einsum.name, einsum.free)
        where = einsum.where
        self._add(Einsum(best, replace(node, op=PLACES[node.op], expr=value), where=where))
        hit: Expr = Map("eq", (value, best))
        if self.dtypes[value.tensor].is_inexact:
            nan = Map("and", (Map("ne", (value, value)), Map("ne", (best, best))))
            hit = Map("or", (hit, nan))
        nowhere = Literal(_NOWHERE)
        found = self._new(einsum.name, einsum.free)
        place = Map("select", (hit, Coordinate(node.variables[0]), nowhere))
        self._add(Einsum(found, Reduce("min", node.variables, place), where=where, span=span))
        none: Expr = Literal(-1)
        if einsum.otherwise is not None:
            none = otherwise_as(I64, einsum.otherwise)
        shown = Map("select", (Map("eq", (found, nowhere)), none, found))
        self._add(replace(einsum, expr=shown, where=None, otherwise=None))

    # ---- reductions by operators of the text's own

    def _fold(self, einsum: Einsum, node: Reduce, op: UserOperator) -> None:
        """A left fold as a scan: its state after each coordinate."""
        variable, *others = node.variables
        if others:
            einsum, node = self._inner(einsum, node, op)
        own = op == einsum.ring.add
        empty = Literal(einsum.ring.zero) if own else Literal(identity_of(op) or 0)
        dtype, where = self.dtypes[einsum.name].compute, einsum.where
        start, here, step, end = self._scanned(einsum, variable)
        if where is None:
            begun: Expr = Map("ne", (Coordinate(variable), Literal(0)))
            ever = begun  # not asked for
        else:
            none, begun, now, ever = self._scanned(einsum, variable)
            self._add(Einsum(none, Literal(False), span=einsum.span))
            self._add(Einsum(now, Map("or", (begun, where)), span=einsum.span))
        following: Expr = Map("select", (begun, Map(op, (here, node.expr)), node.expr))
        if where is not None:
            following = Map("select", (where, following, here))
        self._add(Einsum(start, empty, dtype=dtype, span=einsum.span))
        self._add(Einsum(step, following, dtype=dtype, span=einsum.span))
        total: Expr = end
        if where is not None and einsum.otherwise is not None:
            total = Map("select", (ever, end, otherwise_as(dtype, einsum.otherwise)))
        if dtype != self.dtypes[einsum.name]:
            total = Map("cast", (total,), self.dtypes[einsum.name])
        self._add(replace(einsum, expr=total, where=None, otherwise=None))

    def _scanned(self, einsum: Einsum, variable: str) -> tuple[Access, Access, Access, Access]:
        """A new tensor along a variable, as it starts, stands, is stepped to, and ends."""
        name = self._new(einsum.name, ()).tensor
        free = tuple(RankExpr.of_variable(v) for v in einsum.free)
        now = RankExpr.of_variable(variable)
        places = RankExpr(), now, replace(now, offset=1), RankExpr.of_size(variable.upper())
        start, here, step, end = (Access(name, (place, *free)) for place in places)
        return start, here, step, end

    def _inner(self, einsum: Einsum, node: Reduce, op: UserOperator) -> tuple[Einsum, Reduce]:
        """The last variables folded first, one Einsum for each; what is left has one variable."""
        if "associative" not in laws_of(op) or einsum.where is not None:
            raise UnsupportedError(
                f"{einsum.name} is reduced by {op} over {', '.join(node.variables)} at once",
                span=node.span or einsum.span,
                hint="reduce one variable at a time, or, without a filter, claim that it is "
                f"associative: op {op}(...) [associative, ...] = ...",
            )
        first, *rest = node.variables
        inner = self._new(einsum.name, (*einsum.free, first))
        dtype = self.dtypes[einsum.name].compute
        part = Einsum(inner, replace(node, variables=tuple(rest)), einsum.semiring, dtype=dtype)
        self._write(part)
        outer = replace(node, variables=(first,), expr=inner)
        return replace(einsum, expr=outer), outer


def _written(expr: Expr) -> Expr:
    """The expression with each operator of the text's own replaced by its body."""
    if not any(isinstance(node, Map) and _is_own(node.op) for node in walk(expr)):
        return expr
    if isinstance(expr, Reduce):
        return replace(expr, expr=_written(expr.expr))
    assert isinstance(expr, Map)
    args = tuple(map(_written, expr.args))
    if not isinstance(expr.op, UserOperator):
        return replace(expr, args=args)
    body = _written(expr.op.expand(args))
    if sum(1 for _ in walk(body)) > _MOST:
        raise UnsupportedError(
            f"{expr.op}, written out, is longer than {_MOST} operators",
            span=expr.span,
            hint="give its arguments names: an Einsum for each",
        )
    return body
