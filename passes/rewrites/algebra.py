"""Laws of the semiring's two operators: distribution, and idempotence.

The laws are those of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir.einsum import Access, Einsum, Expr, Literal, Map, Reduce, free_variables
from ...ir.infer import expr_dtype, strong
from ...ir.ranks import RankExpr
from ..rewrite import (
    distinct,
    has_law,
    joined,
    named,
    operands,
    product,
    rule,
    sum_order,
    with_body,
)
from ..scope import Scope


@rule
def distribute(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A product with a sum of tensors is a sum of products.

        Y[i]  = (A[i,j] + B[i,j]) * C[j]
     -> T[i]  = A[i,j] * C[j]
        T1[i] = B[i,j] * C[j]
        Y[i]  = T[i] + T1[i]

    A reduction of a sum is likewise a sum of reductions. (`inline` brings a sum that is an Einsum
    of its own into its reader.) Condition: the sum is the semiring's own, in the type that the
    product is computed in; multiplication distributes over it there; no reduction is known to be
    over nothing. Source: rule 8 (DIST).
    """
    found = operands(einsum)
    if found is None or not scope.regroups(einsum):
        return None
    ring, computed = einsum.ring, scope.computed(einsum)
    for number, operand in enumerate(found):
        if not isinstance(operand, Map) or operand.op != ring.add:
            continue
        if len(found) == 1 and not einsum.reduced:  # nothing to distribute over
            return None
        if strong(expr_dtype(operand, scope.dtypes)).compute != computed:
            continue
        made: list[Einsum] = []
        for addend in operand.args:
            terms = addend.args if isinstance(addend, Map) and addend.op == ring.mul else (addend,)
            read = (*found[:number], *terms, *found[number + 1 :])
            if len(terms) > 1 and strong(expr_dtype(addend, scope.dtypes)).compute != computed:
                read = (*found[:number], addend, *found[number + 1 :])
            output = named(scope.fresh("T"), einsum.free)
            part = product(einsum, output, read, sum_order(einsum.reduced, read))
            made.append(scope.intermediate(einsum, part))
        scope.define(*made)
        total = joined(ring.add, [part.output for part in made], einsum.span)
        whole = Einsum(einsum.output, total, einsum.semiring, span=einsum.span)
        return *made, scope.stored(whole, scope.dtype(einsum))
    return None


@rule
def factor(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A sum of products that differ in one factor is a product with a sum.

        T[i]   = A[i,j] * C[j]
        T1[i]  = B[i,k] * C[k]                   with K = J
        Y[i]   = T[i] + T1[i]
     -> S[i,j] = A[i,j] + B[i,j]
        Y[i]   = S[i,j] * C[j]

    The products that are then read no more are left to `dead`. Condition: two addends are whole
    products over the semiring of the sum, which share all factors but one up to a renaming of what
    they sum over, and the two that differ have the same variables; all is computed and stored in
    one type, in which multiplication distributes over addition. Source: rule 8 (DIST), backwards.
    """
    body, ring = einsum.expr, einsum.ring
    if einsum.where is not None or not isinstance(body, Map) or body.op != ring.add:
        return None
    if not scope.regroups(einsum):
        return None
    addends = [_addend(arg, einsum, scope) for arg in body.args]
    for p, first in enumerate(addends):
        for q in range(p + 1, len(addends)):
            second = addends[q]
            if first is None or second is None:
                continue
            common = _common(first, second, scope)
            if common is None:
                continue
            one, other, rest = common
            output = named(scope.fresh("S"), distinct(one.variables()))
            added = Map(ring.add, (one, other), span=einsum.span)
            whole = Einsum(output, added, einsum.semiring, span=einsum.span)
            added_up = scope.stored(whole, scope.computed(einsum))
            scope.define(added_up)
            read = (output, *rest)
            summed = sum_order(first.reduced, read)
            left = tuple(arg for n, arg in enumerate(body.args) if n not in (p, q))
            if not left:
                made = scope.stored(
                    product(einsum, einsum.output, read, summed), scope.dtype(einsum)
                )
                return added_up, made
            target = named(scope.fresh("T"), einsum.free)
            part = scope.intermediate(einsum, product(einsum, target, read, summed))
            scope.define(part)
            args = (*left[:p], target, *left[p:])
            return added_up, part, with_body(einsum, replace(body, args=args))
    return None


def _addend(arg: Expr, whole: Einsum, scope: Scope) -> Einsum | None:
    """The product that an addend reads whole, at the indices of `whole`, if its types are all one.

    It has two factors or more, all at plain variables.
    """
    if not isinstance(arg, Access) or not scope.covers(arg):
        return None
    definition, computed = scope.definition(arg.tensor), scope.computed(whole)
    if definition is None or definition.semiring != whole.semiring:
        return None
    factors, left = definition.product(), definition.output.plain
    if factors is None or len(factors) < 2 or left is None or distinct(left) != left:
        return None
    if any(f.plain is None for f in factors) or set(arg.plain or ()) != set(whole.free):
        return None
    if not scope.dtypes[arg.tensor] == computed == scope.computed(definition):
        return None
    if set(definition.reduced) & set(whole.free) or not scope.regroups(definition):
        return None
    at = {v: index for v, index in zip(left, arg.indices, strict=True) if _is_index(index)}
    values = {v: index for v, index in at.items() if isinstance(index, RankExpr)}
    read = tuple(each.substitute(values) for each in factors)
    return product(definition, arg, read, definition.reduced)


def _is_index(index: RankExpr | Access) -> bool:
    return isinstance(index, RankExpr)


def _common(
    first: Einsum, second: Einsum, scope: Scope
) -> tuple[Access, Access, tuple[Access, ...]] | None:
    """The factor that differs in each, in the first's variables, and what they share."""
    ours, theirs = first.product() or (), second.product() or ()
    if len(ours) != len(theirs) or len(first.reduced) != len(second.reduced):
        return None
    for a, one in enumerate(ours):
        rest = sorted((*ours[:a], *ours[a + 1 :]), key=lambda access: access.tensor)
        for b, other in enumerate(theirs):
            others = sorted((*theirs[:b], *theirs[b + 1 :]), key=lambda access: access.tensor)
            names = _renaming(rest, others, first, second, scope)
            if names is None:
                continue
            values = {old: RankExpr.of_variable(new) for old, new in names.items()}
            moved = other.substitute(values)
            if set(moved.variables()) == set(one.variables()):
                return one, moved, (*ours[:a], *ours[a + 1 :])
    return None


def _renaming(
    ours: Sequence[Access], theirs: Sequence[Access], first: Einsum, second: Einsum, scope: Scope
) -> dict[str, str] | None:
    """What makes their factors ours: a one-to-one renaming of what they sum over."""
    names: dict[str, str] = {}
    for one, other in zip(ours, theirs, strict=True):
        if one.tensor != other.tensor:
            return None
        for new, old in zip(one.variables(), other.variables(), strict=True):
            if old in second.reduced and new in first.reduced:
                if names.setdefault(old, new) != new or scope.root(old) != scope.root(new):
                    return None
            elif old != new:
                return None
    left = [v for v in first.reduced if v not in names.values()]
    for old in (v for v in second.reduced if v not in names):
        # What only the differing factors have may be matched in any way that fits.
        match = next((v for v in left if scope.root(v) == scope.root(old)), None)
        if match is None:
            return None
        names[old] = match
        left.remove(match)
    return names if len(set(names.values())) == len(names) else None


@rule
def idem_mul(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """A factor that occurs twice counts once.

        Y[i] = A[i,j] * A[i,j] * B[j] over max_min
     -> Y[i] = A[i,j] * B[j] over max_min

    Condition: the semiring's multiplication is idempotent, by the table of operators: that of
    max_min, min_max, boolean, xor_and is, that of sum_product is not. Exact. Source: rule 24
    (IDEM-MUL).
    """
    body = einsum.body
    if not isinstance(body, Map) or body.op != einsum.ring.mul:
        return None
    return _once(einsum, body)


@rule
def idem_add(einsum: Einsum, scope: Scope) -> tuple[Einsum, ...] | None:
    """What is added to itself counts once: a term that occurs twice, or a sum that repeats one.

        Y[i] = T[i] + U[i] + T[i] over max_plus
     -> Y[i] = T[i] + U[i] over max_plus
        Y[i] = max[j] A[i] over max_plus         with J = 5
     -> Y[i] = A[i] over max_plus

    Condition: the semiring's addition is idempotent, by the table of operators; a variable that
    nothing reads, neither the body nor a filter, has an extent that is known and not 0. Exact.
    Source: rule 25 (IDEM-ADD).
    """
    body, ring = einsum.body, einsum.ring
    if not has_law(ring.add, "idempotent"):
        return None
    if isinstance(body, Map) and body.op == ring.add:
        once = _once(einsum, body)
        if once is not None:
            return once
    read = set(free_variables(body))
    if einsum.where is not None:
        read.update(free_variables(einsum.where))
    gone = [v for v in einsum.reduced if v not in read and scope.extent(v)]
    if not gone or not isinstance(einsum.expr, Reduce) or not scope.typed(einsum):
        return None
    left = tuple(v for v in einsum.reduced if v not in gone)
    if einsum.where is not None and not left:
        return None  # the filter would lose the reduction whose identity stands where it is false
    made = replace(einsum, expr=replace(einsum.expr, variables=left) if left else body)
    same = scope.dtype(made) == scope.dtype(einsum)
    return (made,) if same and not isinstance(body, Literal) else None


def _once(einsum: Einsum, body: Map) -> tuple[Einsum, ...] | None:
    """The Einsum with each operand of an idempotent operator once."""
    args = [*dict.fromkeys(body.args)]
    if len(args) == len(body.args) or not has_law(body.op, "idempotent"):
        return None
    if all(isinstance(arg, Literal) for arg in args):
        return None  # a lone number is weak
    return (with_body(einsum, replace(body, args=tuple(args)) if len(args) > 1 else args[0]),)
