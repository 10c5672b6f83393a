"""What a running maximum is subtracted from is nowhere above it: the condition of a repair."""

from __future__ import annotations

from collections.abc import Mapping

from ...ir.einsum import Access, Einsum, Expr, Literal, Map, Reduce, substitute, walk
from ...ir.printer import print_expr
from ...ir.ranks import RankExpr
from ..scope import Scope
from .confirm import exceeds
from .forms import Fold, Form, NotSeparable, Shift
from .separate import Separator


def check_bounded(
    separator: Separator, scope: Scope, folds: Mapping[str, Fold], einsum: Einsum, term: Form
) -> None:
    """What a maximum is subtracted from is nowhere above what that is the maximum of.

    Else the sum of a prefix may overflow that the whole would not, and what a prefix has added
    while its maximum was still that of nothing is lost.
    """
    if term.exponent is None:
        return
    bound: Expr | None = None
    for shift in term.shifts:
        value = _largest(folds[shift.value.tensor], shift)
        bound = value if bound is None else Map("add", (bound, value))
    assert bound is not None
    exponent = term.exponent
    for condition in (*term.active, *([] if einsum.where is None else [einsum.where])):
        exponent = Map("select", (condition, exponent, Literal(float("-inf"))))

    def meaning(access: Access) -> Expr | None:
        return None if separator.moves(access) else _meaning(scope, access)

    if exceeds(separator, exponent, bound, meaning, scope.dtypes):
        names = ", ".join(dict.fromkeys(shift.value.tensor for shift in term.shifts))
        raise NotSeparable(
            f"{names} may be less than `{print_expr(term.exponent)}`, from which it is "
            f"subtracted in {einsum.name}: what is repaired may overflow, or be lost",
            span=einsum.span,
            hint="subtract the maximum of the same values, under the same filter",
        )


def _largest(fold: Fold, shift: Shift) -> Expr:
    """What a shift is the largest of, so that it takes as much from an exponent at least."""
    value = fold.reduce.expr
    if fold.einsum.where is not None:
        nothing = Literal(shift.sign * float("inf"))
        value = Map("select", (fold.einsum.where, value, nothing))
    pairs = zip(fold.einsum.left, shift.value.indices, strict=True)
    value = substitute(
        value,
        {
            variable.variable: index
            for variable, index in pairs
            if variable.variable is not None and isinstance(index, RankExpr)
        },
    )
    if shift.scale is not None:
        value = Map("mul", (value, shift.scale))
    return value if shift.sign < 0 else Map("neg", (value,))


def _meaning(scope: Scope, access: Access) -> Expr | None:
    """What an intermediate is, at an Access, if it does not reduce."""
    einsum = scope.definition(access.tensor)
    if einsum is None or einsum.where is not None or access.fill is not None:
        return None
    if any(isinstance(node, Reduce) for node in walk(einsum.expr)):
        return None
    values: dict[str, RankExpr] = {}
    for variable, index in zip(einsum.left, access.indices, strict=True):
        if variable.variable is None or not isinstance(index, RankExpr):
            return None
        if values.setdefault(variable.variable, index) != index:
            return None
    return substitute(einsum.expr, values)
