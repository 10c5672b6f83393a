"""One Einsum or two: parts of a product on their own, and intermediates put back in their readers.

The laws are those of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from ...ir.cascade import Cascade
from ...ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Reduce,
    children,
    rewrite_leaves,
    substitute,
    walk,
)
from ...ir.errors import PassError
from ...ir.infer import expr_dtype, strong
from ...ir.ranks import RankExpr
from ...ir.verify import MAX_DEPTH
from ..base import Pass
from ..rewrite import (
    distinct,
    factors_of,
    in_range,
    product,
    rename,
    rewrite_at,
    sum_order,
    with_body,
    without_unread,
)
from ..scope import Scope
from .order import check_path, contracted


@dataclass(frozen=True, slots=True)
class Nest(Pass):
    """Some factors of a product become a product of their own, summed over what only they have.

        Y[i,l] = A[i,j] * B[j,k] * C[k,l]
     -> T[i,k] = A[i,j] * B[j,k]
        Y[i,l] = T[i,k] * C[k,l]                 nest{tensor=Y, operands=[0, 1]}

    Condition: multiplication distributes over addition in the types computed in
    (`Semiring.exact_kinds`); no sum is known to be over nothing. T has the type that the whole is
    computed in, and every variable that the other factors or the output have. Source: rule 5
    (NEST); `order` applies it along a contraction path.

    Options:
        tensor: the product, by what it defines.
        operands: the positions of the factors.

    Raises:
        PassError: the laws do not hold, or the Einsum is no product.
        PathError: the positions do not name some of its factors.
    """

    name: ClassVar[str] = "nest"
    tensor: str
    operands: tuple[int, ...]

    def __call__(self, cascade: Cascade) -> Cascade:
        def nested(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...]:
            factors = factors_of(einsum, self.name)
            left = len(factors) - len(self.operands)
            path = (self.operands, tuple(range(left + 1))) if left else (self.operands,)
            check_path(path, len(factors), self.tensor)
            if not scope.regroups(einsum):
                raise PassError(
                    f"the factors of {self.tensor} cannot be regrouped over {einsum.semiring} "
                    "in their types",
                    span=einsum.span,
                )
            return tuple(contracted(einsum, factors, path, scope))

        return rewrite_at(cascade, self.tensor, nested)


#: What puts a definition in the place of a read of it: the reader without that read, or None.
_Inlining: TypeAlias = Callable[[Einsum, Einsum, Scope], Einsum | None]


@dataclass(frozen=True, slots=True)
class Denest(Pass):
    """A product of products becomes one product.

        T[i,k] = A[i,j] * B[j,k]
        Y[i,l] = T[i,k] * C[k,l]
     -> Y[i,l] = A[i,j] * B[j,k] * C[k,l]

    The intermediate's own sums are renamed apart from the reader's variables. Where the
    intermediate is a diagonal, `T[i,i] = ...`, read as `T[x,y]`, x and y become one variable, in
    the output too, which may so gain a repeat.

    Condition: both are over one semiring, and multiplication distributes over addition in the type
    that both are computed and the intermediate is stored in; it is read at plain variables that run
    over its whole axes. Source: rules 6 and 7 (DENEST, DENEST-GENERAL).

    Options:
        tensor: the intermediate, put into all of its readers; by default every one that is read
            once and is no output, so that the Cascade never grows.

    Raises:
        PassError: `tensor` is given, and its definition can be put nowhere.
    """

    name: ClassVar[str] = "denest"
    tensor: str | None = None

    def __call__(self, cascade: Cascade) -> Cascade:
        return _inline(self, self.tensor, cascade, _denested)


@dataclass(frozen=True, slots=True)
class Inline(Pass):
    """An elementwise Einsum is computed where it is read.

        E[m,p] = exp(X[m,p])
        Y[p]   = E[m,p] * V[m]
     -> Y[p]   = exp(X[m,p]) * V[m]

    Condition: the definition has no outermost reduction and no filter, its left side has distinct
    variables, its value is stored in the type that it is computed in, and it is read at plain
    variables that run over its whole axes. An inner reduction keeps its meaning only within one
    semiring. Exact. Source: the definition of a Cascade; rule 6 (DENEST) for maps. Called producer
    fusion in Halide and XLA.

    Options:
        tensor: the intermediate, put into all of its readers; by default every one that is read
            once and is no output.

    Raises:
        PassError: `tensor` is given, and its definition can be put nowhere.
    """

    name: ClassVar[str] = "inline"
    tensor: str | None = None

    def __call__(self, cascade: Cascade) -> Cascade:
        return _inline(self, self.tensor, cascade, _inlined)


def _inline(made: Pass, tensor: str | None, cascade: Cascade, into: _Inlining) -> Cascade:
    if tensor is None:
        counts = Counter(access.tensor for e in cascade.einsums for access in e.reads())
        wanted = {name for name, count in counts.items() if count == 1} - set(cascade.outputs)
    else:
        wanted = {tensor}
    scope = Scope(cascade)
    done: list[Einsum] = []
    inlined: set[str] = set()
    for einsum in cascade.einsums:
        current, again = einsum, scope.alone(einsum)
        while again:
            again = False
            for name in distinct(access.tensor for access in current.reads()):
                definition = scope.definition(name) if name in wanted else None
                if definition is None:
                    continue
                found = into(current, definition, scope)
                if found is not None:
                    current, again = found, True
                    inlined.add(name)
        scope.define(current)
        done.append(current)
    if tensor is not None and not inlined:
        raise PassError(
            f"{made.name} cannot put {tensor} into any of its readers",
            hint=f"see help(einloom.available_passes()['{made.name}']) for its condition",
        )
    if not inlined:
        return cascade
    return scope.with_einsums(without_unread(done, cascade.outputs, inlined))


# ---- products


def _denested(reader: Einsum, definition: Einsum, scope: Scope) -> Einsum | None:
    """The product with the first read of `definition` replaced by its factors."""
    outer, inner = reader.product(), definition.product()
    if outer is None or inner is None or reader.semiring != definition.semiring:
        return None
    number = next((n for n, factor in enumerate(outer) if factor.tensor == definition.name), None)
    if number is None:
        return None
    access = outer[number]
    rest = (*outer[:number], *inner, *outer[number + 1 :])
    summed = (*reader.reduced, *(v for v in definition.reduced if v not in reader.reduced))
    # Types and extents do not depend on names: the conditions are decided before any is made.
    sketch = product(reader, reader.output, rest, summed)
    if not scope.typed(reader) or not scope.typed(definition):
        return None
    whole = replace(sketch, dtype=scope.dtype(reader))
    kept = scope.dtypes[definition.name]
    same = kept == scope.computed(definition) == scope.computed(reader) == scope.computed(whole)
    if not same or not scope.regroups(whole) or not scope.regroups(definition):
        return None
    tied = _tied(reader, definition, access, scope)
    if tied is None:
        return None
    classes, values = tied
    used = {*reader.free, *reader.reduced}
    apart = {v: scope.alias(v) for v in definition.reduced if v in used}
    values |= {old: RankExpr.of_variable(new) for old, new in apart.items()}
    moved = tuple(factor.substitute(values) for factor in inner)
    joined = {old: RankExpr.of_variable(new) for old, new in classes.items()}
    factors = tuple(
        factor.substitute(joined) for factor in (*outer[:number], *moved, *outer[number + 1 :])
    )
    output = reader.output.substitute(joined)
    free = set(output.variables())
    bound = [*reader.reduced, *(apart.get(v, v) for v in definition.reduced)]
    summed = distinct(classes.get(v, v) for v in bound if classes.get(v, v) not in free)
    made = product(reader, output, factors, sum_order(summed, factors))
    return scope.stored(made, scope.dtype(reader))


def _tied(
    reader: Einsum, definition: Einsum, access: Access, scope: Scope
) -> tuple[dict[str, str], dict[str, RankExpr]] | None:
    """Which of the reader's variables become one, and what the definition's variables become."""
    extents = scope.extents(definition.name)
    if extents is None or access.fill is not None:
        return None
    classes: dict[str, str] = {}
    values: dict[str, RankExpr] = {}

    def find(variable: str) -> str:
        while variable in classes:
            variable = classes[variable]
        return variable

    for left, index, extent in zip(definition.output.indices, access.indices, extents, strict=True):
        if not isinstance(index, RankExpr) or not in_range(scope, index, extent):
            return None
        inner = left.variable if isinstance(left, RankExpr) else None
        if inner is None:
            continue
        first = values.setdefault(inner, index)
        if first == index:
            continue
        if first.variable is None or index.variable is None:
            return None
        one, other = find(first.variable), find(index.variable)
        if one != other:  # a variable of the output stays, so that it is not left without one
            keep, drop = (one, other) if one in reader.free else (other, one)
            classes[drop] = keep
    return {v: find(v) for v in classes}, values


# ---- elementwise


def _inlined(reader: Einsum, definition: Einsum, scope: Scope) -> Einsum | None:
    """The reader with every read of `definition`, outside gathers, replaced by its expression."""
    left, expr = definition.output.plain, definition.expr
    extents = scope.extents(definition.name)
    if left is None or extents is None or distinct(left) != left:
        return None
    if definition.where is not None or isinstance(expr, Reduce | Literal | Access):
        return None  # what copies an Access is for `identity`
    if not scope.typed(definition):
        return None
    found = expr_dtype(expr, scope.dtypes)
    kept = scope.dtypes[definition.name]
    if strong(found) is not found or not found == kept == kept.compute:
        return None
    folds = [node for node in walk(expr) if isinstance(node, Reduce)]
    if folds and reader.semiring != definition.semiring:
        return None
    read = [access for access in reader.reads() if access.tensor == definition.name]
    fits = all(
        access.fill is None and in_range(scope, index, extent)
        for access in read
        for index, extent in zip(access.indices, extents, strict=True)
    )
    if not fits or _elsewhere(reader, definition.name, len(read)):
        return None
    body = reader.body
    if reader.dtype is not None and isinstance(body, Access):
        return None  # as the Einsum's own product it would be computed in the declared type
    if _depth(reader.expr) + _depth(expr) > MAX_DEPTH:
        return None
    used = {*reader.free, *(v for node in walk(reader.expr) for v in _bound(node))}
    apart = {v: scope.alias(v) for node in folds for v in node.variables if v in used}

    def leaf(node: Access | Coordinate) -> Expr:
        if not isinstance(node, Access) or node.tensor != definition.name:
            return node
        values = {
            v: index
            for v, index in zip(left, node.indices, strict=True)
            if isinstance(index, RankExpr)
        }
        return substitute(rename(expr, apart), values)

    return with_body(reader, rewrite_leaves(body, leaf))


def _elsewhere(reader: Einsum, tensor: str, count: int) -> bool:
    """Whether some read of a tensor is in the filter or in a gather, where no expression can be."""
    direct = 0

    def leaf(node: Access | Coordinate) -> Expr:
        nonlocal direct
        direct += isinstance(node, Access) and node.tensor == tensor
        return node

    rewrite_leaves(reader.expr, leaf)
    return direct != count


def _bound(node: Expr) -> tuple[str, ...]:
    return node.variables if isinstance(node, Reduce) else ()


def _depth(expr: Expr) -> int:
    deepest, level = 0, [expr]
    while level:
        deepest += 1
        level = [child for node in level for child in children(node)]
    return deepest
