"""What several Einsums compute is computed once, and what nothing reads is not computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from ...ir.cascade import Cascade
from ...ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    rewrite_leaves,
)
from ...ir.ranks import RankExpr
from ..base import Pass
from ..rewrite import has_law, without_unread
from ..scope import Scope

#: Equal keys: equal Einsums, up to the names of variables and the order of the output's axes.
Key: TypeAlias = tuple[object, ...]
#: The axes of an output by the names that a key gives them.
Axes: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dead(Pass):
    """An Einsum that no output needs is left out.

        T[i] = A[i,j]
        Y[i] = A[i,i]
     -> Y[i] = A[i,i]

    Condition: neither an output nor an Einsum that stays reads it. Exact. Called dead code
    elimination in compilers.
    """

    name: ClassVar[str] = "dead"

    def __call__(self, cascade: Cascade) -> Cascade:
        kept = without_unread(cascade.einsums, cascade.outputs)
        same = len(kept) == len(cascade.einsums)
        return cascade if same else replace(cascade, einsums=tuple(kept))


@dataclass(frozen=True, slots=True)
class Share(Pass):
    """Of Einsums that are equal up to their variables' names, the first serves all.

        S[i]   = A[i,j] * B[j]
        T[n]   = B[m] * A[n,m]                   with N = I, M = J
        Y[i]   = S[i] / T[i]
     -> S[i]   = A[i,j] * B[j]
        Y[i]   = S[i] / S[i]

    Operands of commutative and associative operators are compared in one order, outputs up to a
    transpose; what reads a shared tensor is compared after that, so sharing goes upwards.

    Condition: the ranks are the same or aliases of one; semiring, filter and declared dtype are
    equal. An output stays, as a copy. Source: common-subexpression elimination; for contractions,
    opt_einsum's shared intermediates. `reuse` orders products so that there is more to share.
    """

    name: ClassVar[str] = "share"

    def __call__(self, cascade: Cascade) -> Cascade:
        scope = Scope(cascade)
        first: dict[Key, tuple[str, Axes]] = {}
        moved: dict[str, tuple[str, tuple[int, ...]]] = {}
        outputs = set(cascade.outputs)
        done: list[Einsum] = []
        for einsum in cascade.einsums:
            here = redirected(einsum, moved)
            scope.define(here)
            found = normal(here, scope) if scope.definition(here.name) is not None else None
            if found is None or (here.name in outputs and isinstance(here.expr, Access)):
                done.append(here)
                continue
            key, axes = found
            tensor, original = first.setdefault(key, (here.name, axes))
            if tensor == here.name:
                done.append(here)
                continue
            places = tuple(map(axes.index, original)) if axes != original else range(len(axes))
            if here.name in outputs:
                read = tuple(here.output.indices[place] for place in places)
                done.append(
                    Einsum(here.output, Access(tensor, read), here.semiring, span=here.span)
                )
            else:
                moved[here.name] = tensor, tuple(places)
        same = len(done) == len(cascade.einsums)
        if same and all(new is old for new, old in zip(done, cascade.einsums, strict=True)):
            return cascade
        return scope.with_einsums(done)


def redirected(einsum: Einsum, moved: Mapping[str, tuple[str, tuple[int, ...]]]) -> Einsum:
    """The Einsum reading, for a tensor that is not computed again, the one that serves for it."""
    if not any(access.tensor in moved for access in einsum.reads()):
        return einsum

    def there(access: Access) -> Access:
        indices = tuple(
            there(index) if isinstance(index, Access) else index for index in access.indices
        )
        tensor, places = moved.get(access.tensor, (access.tensor, range(len(indices))))
        return replace(access, tensor=tensor, indices=tuple(indices[place] for place in places))

    def leaf(node: Access | Coordinate) -> Expr:
        return there(node) if isinstance(node, Access) else node

    where = None if einsum.where is None else rewrite_leaves(einsum.where, leaf)
    return replace(einsum, expr=rewrite_leaves(einsum.expr, leaf), where=where)


def normal(einsum: Einsum, scope: Scope) -> tuple[Key, Axes] | None:
    """A key that only equal Einsums have, and the output's axes in the key's own names.

    None where it does not mean what it says by itself. Equal Einsums may have different keys:
    operands that look alike but for their variables are not sorted by how those are tied together.
    """
    if not scope.alone(einsum):
        return None
    writer = _Writer(scope)
    expr = writer.text(_sorted(einsum.expr, scope))
    where = None if einsum.where is None else writer.text(_sorted(einsum.where, scope))
    left = [index for index in einsum.output.indices if isinstance(index, RankExpr)]
    axes = tuple(writer.index(index) for index in left)
    transposable = len(set(axes)) == len(axes) and einsum.output.plain is not None
    otherwise = None if einsum.otherwise is None else writer.text(einsum.otherwise)
    ranks = tuple(sorted(axes)) if transposable else axes
    return (expr, where, otherwise, einsum.semiring, einsum.dtype, transposable, ranks), axes


class _Writer:
    """Writes expressions with each variable as its rank's root and a number, by occurrence."""

    def __init__(self, scope: Scope, blind: bool = False) -> None:
        self._scope = scope
        self._blind = blind
        self._names: dict[str, str] = {}

    def name(self, variable: str) -> str:
        if self._blind:
            return self._scope.root(variable)
        number = len(self._names)
        return self._names.setdefault(variable, f"{self._scope.root(variable)}.{number}")

    def index(self, index: RankExpr | Access) -> str:
        if isinstance(index, Access):
            return self.text(index)
        terms: list[str] = []
        for term in index.terms:
            sizes = sorted(self._scope.root(size.lower()) for size in term.sizes)
            variable = "" if term.variable is None else self.name(term.variable)
            terms.append(f"{term.coefficient}*{'*'.join(sizes)}*{variable}")
        return f"{'+'.join(terms)}+{index.offset}"

    def text(self, expr: Expr) -> str:
        if isinstance(expr, Literal):
            return f"{type(expr.value).__name__} {expr.value!r}"
        if isinstance(expr, Coordinate):
            size = expr.name.isupper()
            return f"|{self._scope.root(expr.name.lower())}|" if size else self.name(expr.name)
        if isinstance(expr, Access):
            fill = "" if expr.fill is None else f" else {self.text(expr.fill)}"
            return f"{expr.tensor}[{','.join(map(self.index, expr.indices))}{fill}]"
        if isinstance(expr, Map):
            return f"{expr.op}:{expr.dtype}({','.join(map(self.text, expr.args))})"
        inner = self.text(expr.expr)
        variables = [self.name(variable) for variable in expr.variables]
        if has_law(expr.op, "commutative", "associative"):
            variables.sort()
        return f"{expr.op}[{','.join(variables)}]({inner})"


def _sorted(expr: Expr, scope: Scope) -> Expr:
    """The expression with the operands of commutative operators in an order that names none."""
    if isinstance(expr, Reduce):
        return replace(expr, expr=_sorted(expr.expr, scope))
    if not isinstance(expr, Map):
        return expr
    args = tuple(_sorted(arg, scope) for arg in expr.args)
    commutes = has_law(expr.op, "commutative")
    if commutes and (len(args) == 2 or has_law(expr.op, "associative")):
        args = tuple(sorted(args, key=_Writer(scope, blind=True).text))
    return replace(expr, args=args)
