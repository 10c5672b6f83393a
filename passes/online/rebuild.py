"""A Cascade with some of its reductions replaced, and all that waits for them below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    accesses,
    free_variables,
    rewrite_leaves,
)
from ...ir.ranks import Partition, RankExpr
from ..rewrite import needed_for
from ..scope import Scope
from .emit import guarded, identity, kept_dtype, named
from .forms import Fold, Outer, chained, signed
from .loop import Loop

#: What each term of a reduction is in the end, by the reduction's name and the term's number.
Finals = Mapping[tuple[str, int], Access]


def rebuilt(
    loop: Loop,
    made: Sequence[Einsum],
    finals: Finals,
    partitions: Sequence[Partition] = (),
    beside: Mapping[str, Sequence[Einsum]] | None = None,
    *,
    repairs: bool = True,
) -> Cascade:
    """The Cascade with the reductions of `finals` taken from `made`.

    `made` stands where all it reads is defined, and above all that waits for it; what is `beside` a
    reduction stands in its place. An intermediate that nothing reads any more is left out.
    """
    cascade = loop.cascade
    folds = {name: loop.folds[name] for name, _ in finals}
    ends = _Ends(loop, folds, finals, repairs=repairs)
    last = max(n for n, einsum in enumerate(cascade.einsums) if einsum.name in folds)
    waiting = set(folds)
    before: list[Einsum] = []
    after: list[Einsum] = []
    for number, einsum in enumerate(cascade.einsums):
        if einsum.name in folds:
            after += (beside or {}).get(einsum.name, ())
            after += ends.of(folds[einsum.name])
        elif any(access.tensor in waiting for access in einsum.reads()):
            waiting.add(einsum.name)
            hoisted, rest = _hoisted(loop, einsum, waiting)
            before += hoisted
            after.append(rest)
        else:
            (before if number < last else after).append(einsum)
    if repairs:
        after = ends.settled(after)
    after = [ends.redirected(einsum) for einsum in after]
    einsums = [*before, *made, *after]
    defined = {einsum.name for einsum in einsums}
    einsums += ends.copies(name for name in cascade.outputs if name not in defined)
    # What nothing read before is kept, as it is no business of this.
    spare = {einsum.name for einsum in cascade.einsums} - needed_for(
        cascade.einsums, cascade.outputs
    )
    needed = needed_for(einsums, {*cascade.outputs, *(spare & {e.name for e in einsums})})
    kept = [einsum for einsum in einsums if einsum.name in needed]
    found = loop.scope.with_einsums(kept)
    found = replace(
        found,
        partitions=tuple(dict.fromkeys((*found.partitions, *partitions))),
        assumptions=tuple(dict.fromkeys((*found.assumptions, *ends.assumptions))),
    )
    return _typed_alike(found, loop.scope.dtypes)


def _typed_alike(cascade: Cascade, dtypes: Mapping[str, DType]) -> Cascade:
    """The Cascade with the dtypes that its tensors had said where they do not follow any more.

    What is computed from parts that are kept in more, an f32 of f16, would be stored in more.
    """
    scope = Scope(cascade)
    einsums: list[Einsum] = []
    for einsum in cascade.einsums:
        wanted = dtypes.get(einsum.name)
        if wanted is not None and scope.alone(einsum) and scope.typed(einsum):
            einsum = scope.stored(einsum, wanted) if scope.dtype(einsum) != wanted else einsum
        scope.define(einsum)
        einsums.append(einsum)
    return replace(cascade, einsums=tuple(einsums))


def _hoisted(loop: Loop, einsum: Einsum, waiting: set[str]) -> tuple[list[Einsum], Einsum]:
    """What an Einsum that waits reads along the rank all the same, read before the loop ends.

    A gather `X[b,T[b]]` of the rank is a traversal of it, which need not wait for anything.
    """
    if loop.variable in einsum.free or loop.variable in set(free_variables(einsum.expr)):
        return [], einsum
    rank = loop.variable.upper()
    extents = {decl.name: decl.extents for decl in loop.cascade.inputs}
    made: list[Einsum] = []

    def leaf(node: Access | Coordinate) -> Expr:
        if not isinstance(node, Access) or any(a.tensor in waiting for a in accesses(node)):
            return node
        along = [
            isinstance(index, Access) and extent.rank == rank
            for index, extent in zip(node.indices, extents.get(node.tensor, ()), strict=False)
        ]
        if not any(along):
            return node
        free = tuple(dict.fromkeys(node.variables()))
        output = Access(loop.scope.fresh(f"G{node.tensor}"), tuple(map(RankExpr.of_variable, free)))
        made.append(Einsum(output, node, einsum.semiring))
        return output

    expr = rewrite_leaves(einsum.expr, leaf)
    return made, einsum if not made else replace(einsum, expr=expr)


class _Ends:
    """What stands for each reduction after the loop."""

    def __init__(
        self, loop: Loop, folds: Mapping[str, Fold], finals: Finals, *, repairs: bool
    ) -> None:
        self.loop, self.folds, self.finals, self.repairs = loop, folds, finals, repairs
        self.assumptions: list[Expr] = []
        self._whole: dict[str, Access] = {}  # what stands for a reduction as it is
        self._present: dict[tuple[str, tuple[str, ...], Expr], Access] = {}
        self._unsettled: dict[str, Fold] = {}

    def of(self, fold: Fold) -> list[Einsum]:
        """The Einsums that a reduction is, from what its terms are in the end."""
        einsum = fold.einsum
        if not fold.deferred:
            final = self.finals[fold.name, 0]
            if fold.hides and self.repairs:
                self._unsettled[fold.name] = fold
                return [replace(einsum, expr=final, where=None, otherwise=None)]
            if final.tensor != fold.name:
                self._whole[fold.name] = final
            return []
        made: list[Einsum] = []
        # What is deferred is not zero for a reduction of nothing, as the reduction is.
        self.assumptions += self._nonempty(fold)
        total: Expr | None = None
        for number, term in enumerate(fold.terms):
            sign, owed = ("add", term.outer) if fold.additive else signed(term.outer)
            owed = tuple((self._apart(fold, each, made), power) for each, power in owed)
            value = self._owed(self.finals[fold.name, number], owed, additive=fold.additive)
            total = value if total is None else chained(sign, total, value)
        assert total is not None
        if fold.hides and self.repairs:
            self._unsettled[fold.name] = fold
        if einsum.where is not None:
            present = self._some(fold, (einsum.where,), made)
            total = Map("select", (present, total, Literal(identity(fold))))
        dtype = einsum.dtype
        if dtype is None and kept_dtype(self.loop, fold) is not None:
            dtype = self.loop.scope.dtype(einsum)
        made.append(replace(einsum, expr=total, where=None, otherwise=None, dtype=dtype))
        return made

    def _apart(self, fold: Fold, expr: Expr, made: list[Einsum]) -> Expr:
        """What is owed, with the reductions in it as Einsums of their own."""
        if isinstance(expr, Reduce):
            return self._anywhere(fold, expr.variables, expr.expr, free_variables(expr), made)
        if isinstance(expr, Map):
            args = tuple(self._apart(fold, arg, made) for arg in expr.args)
            same = all(new is old for new, old in zip(args, expr.args, strict=True))
            return expr if same else replace(expr, args=args)
        return expr

    def _owed(self, final: Expr, outer: Outer, *, additive: bool) -> Expr:
        value = final
        for owed, sign in outer:
            op = ("add" if sign > 0 else "sub") if additive else ("mul" if sign > 0 else "div")
            value = chained(op, value, owed)
        return value

    def _nonempty(self, fold: Fold) -> list[Expr]:
        """That there is anything to reduce, where no size says so."""
        return [
            Map("gt", (Coordinate(variable.upper()), Literal(0)))
            for variable in (self.loop.variable, *fold.others)
            if not self.loop.scope.extent(variable)
        ]

    def _some(self, fold: Fold, conditions: Sequence[Expr], made: list[Einsum]) -> Access:
        """Whether there is any coordinate at which all of some conditions hold."""
        condition = conditions[0] if len(conditions) == 1 else Map("and", tuple(conditions))
        free = fold.einsum.free
        return self._anywhere(fold, fold.reduce.variables, condition, free, made)

    def _anywhere(
        self,
        fold: Fold,
        variables: tuple[str, ...],
        condition: Expr,
        free: tuple[str, ...],
        made: list[Einsum],
    ) -> Access:
        key = fold.name, variables, condition
        if key not in self._present:
            output = named(self.loop.scope.fresh(f"A{fold.name}"), free)
            made.append(Einsum(output, Reduce("or", variables, condition)))
            self._present[key] = output
        return self._present[key]

    # ---- a maximum of -inf

    def settled(self, einsums: Sequence[Einsum]) -> list[Einsum]:
        """With a NaN where a reduction subtracts a maximum of -inf from -inf, which its guard hid.

        A quotient of two that both do needs no more: there it is 0 / 0.
        """
        paired = self._paired(einsums)
        found: list[Einsum] = []
        for einsum in einsums:
            fold = self._unsettled.get(einsum.name)
            if fold is None:
                found.append(einsum)
                continue
            if fold.name in paired:
                if not fold.deferred:
                    self._whole[fold.name] = self.finals[fold.name, 0]
                    continue
                found.append(einsum)
                continue
            made: list[Einsum] = []
            hidden = self._hidden(fold, made)
            expr = Map("select", (hidden, Literal(float("nan")), einsum.expr))
            found += [*made, replace(einsum, expr=expr)]
        return found

    def _hidden(self, fold: Fold, made: list[Einsum]) -> Expr:
        shifts = dict.fromkeys(
            shift.value for term in fold.terms for shift in term.shifts if not shift.guarded
        )
        values: list[Expr] = []
        for value in shifts:
            _, nothing, _ = _select(guarded(self.folds[value.tensor], value))
            values.append(nothing)
        hidden = values[0] if len(values) == 1 else Map("or", tuple(values))
        conditions = [c for term in fold.terms for c in term.active]
        if fold.einsum.where is not None:
            conditions.append(fold.einsum.where)
        some = [self._some(fold, conditions, made)] if conditions else self._nonempty(fold)
        return Map("and", (hidden, *some)) if some else hidden

    def _paired(self, einsums: Sequence[Einsum]) -> set[str]:
        """The reductions that are one over the other, so that both are 0 where a guard hid -inf."""
        under: dict[str, list[str]] = {}
        for fold in self._unsettled.values():
            term, *others = fold.terms
            if others:
                continue
            for owed, sign in term.outer:
                if not isinstance(owed, Access) or sign > 0 or owed.tensor not in self._unsettled:
                    continue
                other = self.folds[owed.tensor].terms[0]
                if (term.shifts, term.active) == (other.shifts, other.active):
                    under.setdefault(owed.tensor, []).append(fold.name)
        found: set[str] = set()
        outputs = set(self.loop.cascade.outputs)
        needed = needed_for(einsums, outputs)
        for name, readers in under.items():
            actual = {
                e.name
                for e in einsums
                if e.name in needed and any(access.tensor == name for access in e.reads())
            }
            if name not in outputs and actual <= set(readers):
                found |= {name, *readers}
        return found

    # ---- readers

    def redirected(self, einsum: Einsum) -> Einsum:
        """An Einsum that reads a reduction where it stands in the end."""

        def leaf(node: Access | Coordinate) -> Expr:
            if not isinstance(node, Access):
                return node
            final = self._whole.get(node.tensor)
            if final is None or node.fill is not None:
                return node
            free = self.folds[node.tensor].einsum.left
            values = {
                variable.variable: index
                for variable, index in zip(free, node.indices, strict=True)
                if variable.variable is not None and isinstance(index, RankExpr)
            }
            return final.substitute(values)

        expr = rewrite_leaves(einsum.expr, leaf)
        where = None if einsum.where is None else rewrite_leaves(einsum.where, leaf)
        same = expr is einsum.expr and where is einsum.where
        return einsum if same else replace(einsum, expr=expr, where=where)

    def copies(self, names: Iterable[str]) -> list[Einsum]:
        """The reductions that are outputs, from where they stand in the end."""
        return [
            replace(self.folds[name].einsum, expr=self._whole[name], where=None, otherwise=None)
            for name in names
        ]


def _select(expr: Expr) -> tuple[Expr, Expr, Expr]:
    assert isinstance(expr, Map)
    condition, chosen, value = expr.args
    return chosen, condition, value
