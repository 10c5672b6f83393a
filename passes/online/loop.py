"""Which reductions over a rank can share one loop over it, and what each then folds."""

from __future__ import annotations

from collections.abc import Iterable

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import (
    PLACES,
    Einsum,
    Expr,
    Reduce,
    accesses,
    free_variables,
    walk,
)
from ...ir.infer import expr_dtype
from ...ir.operators import identity_of
from ...ir.printer import print_expr
from ..rewrite import has_law
from ..scope import Scope, bound
from .bounds import check_bounded
from .confirm import refuted
from .forms import Fold, Form, NotSeparable
from .separate import Separator

#: Under these `+` distributes as `*` does under sum: max(a + d, b + d) = max(a, b) + d.
ADDITIVE = frozenset({"max", "min", "logaddexp"})


class Loop:
    """One loop over the rank of a variable: the reductions that may share it, in order.

    Those that read another one of the loop come apart (separate.py); those that do not are left to
    a later loop, with the reason in `refused`.

    Args:
        variable: the rank's.
        wanted: the reductions that may take part; None for all.
        done: reductions that an earlier loop has finished.
        expands: whether a body may come apart as a sum of several terms (rule A').
    """

    def __init__(
        self,
        cascade: Cascade,
        variable: str,
        wanted: frozenset[str] | None = None,
        done: Iterable[str] = (),
        *,
        expands: bool = False,
    ) -> None:
        self.cascade, self.variable = cascade, variable
        self.scope = Scope.of(cascade)
        self.folds: dict[str, Fold] = {}
        self.refused: dict[str, str] = {}
        self.einsums = {einsum.name: einsum for einsum in cascade.einsums}
        self.separator = Separator(self)
        self._later: set[str] = set()  # what waits for a loop after this one
        self._moving: set[str] = set()
        inputs = {decl.name for decl in cascade.inputs}
        finished = set(done)
        for einsum in cascade.einsums:
            reads = {access.tensor for access in einsum.reads()} - inputs
            if reads & self._later:
                self._later.add(einsum.name)
                continue
            if variable in bound(einsum) and variable not in einsum.free:
                if einsum.name in finished:
                    continue
                try:
                    fold = self._fold(einsum, expands=expands)
                    if wanted is not None and einsum.name not in wanted:
                        raise NotSeparable(f"{einsum.name} is not asked for")
                except NotSeparable as error:
                    self.refused[einsum.name] = str(error)
                    self._later.add(einsum.name)
                    continue
                self.folds[einsum.name] = fold
            elif reads & (self._moving | set(self.folds)):
                if not self.scope.alone(einsum):
                    self._later.add(einsum.name)
                    continue
                self._moving.add(einsum.name)

    @property
    def reductions(self) -> tuple[str, ...]:
        """All that is reduced over the rank, whether it may share the loop or not."""
        return tuple(
            einsum.name
            for einsum in self.cascade.einsums
            if self.variable in bound(einsum) and self.variable not in einsum.free
        )

    # ---- what the Separator asks

    def moves(self, tensor: str) -> bool:
        """Whether a tensor depends on a value that this loop folds."""
        return tensor in self.folds or tensor in self._moving

    def folded(self, tensor: str) -> Reduce | None:
        """The reduction that a tensor is, if this loop folds it and nothing of it is deferred."""
        fold = self.folds.get(tensor)
        return None if fold is None or fold.deferred else fold.reduce

    def definition(self, tensor: str) -> Einsum:
        """The Einsum of an intermediate."""
        if tensor in self.folds:
            raise NotSeparable(f"{tensor} is complete only after the loop")
        return self.einsums[tensor]

    def dtype(self, expr: Expr) -> DType | None:
        """The dtype of an expression; None for a number, or where it is not known."""
        if any(access.tensor not in self.scope.dtypes for access in accesses(expr)):
            return None
        found = expr_dtype(expr, self.scope.dtypes)
        return found if isinstance(found, DType) else None

    # ---- one reduction

    def _fold(self, einsum: Einsum, *, expands: bool) -> Fold:
        reduce = einsum.expr
        if not isinstance(reduce, Reduce) or self.variable not in reduce.variables:
            raise NotSeparable(f"{einsum.name} reduces inside an expression", span=einsum.span)
        if not self.scope.alone(einsum):
            raise NotSeparable(
                f"{einsum.name} is part of a scan or of a partition", span=einsum.span
            )
        if einsum.where is not None and self.separator.moves(einsum.where):
            raise NotSeparable(
                f"the filter of {einsum.name} reads what is still being folded", span=einsum.span
            )
        op = reduce.op
        others = tuple(v for v in reduce.variables if v != self.variable)
        if op in PLACES or identity_of(op) is None or not has_law(op, "associative"):
            raise NotSeparable(
                f"{einsum.name} folds by {op}, which cannot be folded in parts", span=einsum.span
            )
        if not has_law(op, "commutative") and others:
            raise NotSeparable(f"{einsum.name} folds several ranks by {op}", span=einsum.span)
        if any(
            isinstance(node, Reduce) and self.variable in node.variables
            for node in walk(reduce.expr)
        ):
            raise NotSeparable(
                f"{einsum.name} reduces over {self.variable} twice", span=einsum.span
            )
        otherwise = einsum.otherwise
        if otherwise is not None and otherwise.value != identity_of(op):
            raise NotSeparable(
                f"{einsum.name} is {print_expr(otherwise)} where its filter leaves nothing, and "
                f"not what {op} of nothing is",
                span=einsum.span,
            )
        additive = op in ADDITIVE
        body = reduce.expr
        if not self.separator.moves(body):
            return Fold(einsum, reduce, others, (Form(body),), additive)
        self._check_type(einsum.name, einsum)
        with self.separator.inside_of(einsum.dtype or self.dtype(body)):
            terms = self._terms(einsum, reduce, additive=additive)
        wrong = refuted(self.separator, body, terms, additive=additive)
        if wrong is not None:
            raise NotSeparable(
                f"`{print_expr(body)}` does not come apart: {wrong}", span=body.span or einsum.span
            )
        if len(terms) > 1 and not expands:
            raise NotSeparable(
                f"`{print_expr(body)}` comes apart only as a sum of {len(terms)} terms, one "
                "reduction for each",
                span=body.span or einsum.span,
                hint="`terms=true` allows that; it may cancel where the sum itself does not",
            )
        for term in terms:
            for shift in term.shifts:
                self._check_type(shift.value.tensor, einsum)
            check_bounded(self.separator, self.scope, self.folds, einsum, term)
            owed = [each for each, _ in term.outer]
            owed += [each for shift in term.shifts for each in (shift.value, shift.scale) if each]
            for each in owed:
                inside = [v for v in free_variables(each) if v in others]
                if inside:
                    raise NotSeparable(
                        f"`{print_expr(each)}` depends on {', '.join(inside)}, which "
                        f"{einsum.name} folds as well",
                        span=einsum.span,
                    )
        return Fold(einsum, reduce, others, tuple(terms), additive)

    def _terms(self, einsum: Einsum, reduce: Reduce, *, additive: bool) -> list[Form]:
        body = reduce.expr
        if additive:
            found = self.separator.addends(body)
            if found.kernel is None:
                raise NotSeparable(f"`{print_expr(body)}` reads nothing at {self.variable}")
            return [Form(found.kernel, found.outer)]
        if reduce.op == "add":
            return self.separator.factors(body)
        raise NotSeparable(
            f"{einsum.name} folds by {reduce.op}, out of which nothing is known to be taken",
            span=einsum.span,
        )

    def _check_type(self, tensor: str, einsum: Einsum) -> None:
        """What is repaired, or deferred, is floating: the laws hold there, up to rounding."""
        dtype = self.scope.dtypes.get(tensor)
        if dtype is not None and dtype.kind not in ("float", "complex"):
            raise NotSeparable(
                f"{tensor} is {dtype}: nothing can be taken out of its reduction", span=einsum.span
            )

    # ---- what shares the loop

    def repaired(self) -> list[Fold]:
        """The reductions that are repaired, and the values that they are repaired for, in order."""
        needed = {
            shift.value.tensor
            for fold in self.folds.values()
            for term in fold.terms
            for shift in term.shifts
        }
        return [fold for fold in self.folds.values() if fold.shifted or fold.name in needed]

    def deferring(self) -> list[Fold]:
        """The reductions of which something is deferred."""
        return [fold for fold in self.folds.values() if fold.deferred]
