"""From syntax to the IR: what each name is, and every reduction made explicit.

What stands before the Einsums is `ranks.py`'s part, what the extents are `sizes.py`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ..ir.cascade import Cascade
from ..ir.einsum import PLACES, Access, Einsum, Map, Reduce, addends, free_variables, walk
from ..ir.einsum import Expr as Node
from ..ir.errors import ResolveError
from ..ir.filters import check_filter
from ..ir.operators import SEMIRINGS, Semiring, reduction_name
from ..ir.ranks import RankExpr
from ..ir.source import Span
from ..ir.verify import verify
from . import syntax
from .budget import Budget
from .expressions import resolve_expr, resolve_index, resolve_number
from .inline import Caller
from .ranks import assumptions, check_ranks, declared
from .scope import EMPTY, PLAIN, Library, Scope, new_name, read_dtype, similar
from .sizes import check_reads, deduce
from .syntax import Declaration, Definition, Infix, Name, Program


def resolve(program: Program, library: Library = EMPTY, budget: Budget | None = None) -> Cascade:
    """The Cascade that a text means, verified.

    Args:
        program: the cascade as written.
        library: what it may use.
        budget: what stands before it has taken of limits.

    Raises:
        ResolveError: a name means nothing, or not what it is used for.
        RankError: an extent is unknown, or does not fit.
        VerifyError: another rule of `verify` is broken.
    """
    name = new_name(program.name)
    defined = frozenset(t.name.text for d in program.definitions() for t in d.targets)
    found = declared(program, defined)
    scope = Scope(
        frozenset(rank.name for rank in found.ranks),
        {decl.name: len(decl.extents) for decl in found.inputs},
        defined,
        PLAIN,
        library,
    )
    assumed = assumptions(program, scope)
    header = Cascade(name, found.ranks, found.inputs, (), (), found.partitions, assumed)
    cascade, scope = _body(program, header, scope, budget or Budget())
    _check_outputs(program, scope)
    outputs = tuple(output.text for output in program.outputs)
    cascade = replace(cascade, outputs=outputs, span=program.span)
    return check_reads(verify(deduce(cascade)))


def _body(program: Program, header: Cascade, scope: Scope, budget: Budget) -> tuple[Cascade, Scope]:
    """The Cascade with its Einsums, and the scope after them."""
    steps = {
        target.name.text
        for definition in program.definitions()
        for target in definition.targets
        if _steps(target)
    }
    caller = Caller(header, scope.defined)
    # These grow, and the scope with them.
    arity = dict(scope.arity)
    scope = replace(scope, arity=arity, ranks=caller.ranks.keys())
    for definition in program.definitions():
        called = _called(definition, scope)
        if called is None:
            made = _einsums(definition, scope, steps)
            caller.einsums += made
        else:
            budget.inline(called, definition.span)
            made = caller.call(called, definition)
        for einsum in made:
            arity[einsum.name] = len(einsum.output.indices)
    return caller.cascade(), scope


def _called(definition: Definition, scope: Scope) -> Cascade | None:
    """The cascade that a definition calls, if that is what it does."""
    call = syntax.ungroup(definition.expr)
    if isinstance(call, syntax.Call):
        return scope.library.cascades.get(call.name.text)
    return None


# ---- Einsums


def _einsums(definition: Definition, scope: Scope, steps: Collection[str]) -> Sequence[Einsum]:
    """The Einsum of a definition, and a second one for the place of a maximum."""
    ring = _semiring(definition.semiring, scope)
    first, *more = definition.targets
    output = _output(first, scope, steps)
    within = scope if ring == PLAIN.name else replace(scope, ring=_ring(ring))
    expr = _implicit(resolve_expr(definition.expr, within), output, within.ring)
    # A condition is about coordinates, so + and * are themselves there.
    where = resolve_expr(definition.where, scope) if definition.where else None
    if where is not None:
        check_filter(output.tensor, where)
    otherwise = resolve_number(definition.otherwise, scope) if definition.otherwise else None
    dtype = read_dtype(first.dtype) if first.dtype else None
    einsum = Einsum(output, expr, ring, where, otherwise, dtype, definition.span)
    if not more:
        return (einsum,)
    return einsum, _place(einsum, more, scope, steps)


def _place(
    einsum: Einsum, targets: Sequence[Declaration], scope: Scope, steps: Collection[str]
) -> Einsum:
    """What the second target of a maximum or minimum holds: the coordinate at which it is."""
    found = {of: place for place, of in PLACES.items()}
    target, expr = targets[0], einsum.expr
    op = found.get(str(expr.op)) if isinstance(expr, Reduce) else None
    if op is None or not isinstance(expr, Reduce):
        raise ResolveError(
            "two names on the left are for a maximum or a minimum and its place",
            span=target.span,
            hint="write Y[p], I[p] = max[m] X[m,p]; other Einsums define one tensor each",
        )
    if len(targets) > 1 or len(expr.variables) > 1:
        raise ResolveError(
            "the place of a maximum is the coordinate of one variable",
            span=targets[-1].span,
            deduced=(f"the maximum is over {', '.join(expr.variables)}",),
            hint="reduce over one variable, and over the others in another Einsum",
        )
    output = _output(target, scope, steps)
    if set(output.variables()) != set(einsum.free):
        raise ResolveError(
            "a maximum and its place have the same variables",
            span=target.span,
            deduced=(f"{einsum.name} has {', '.join(einsum.free) or 'none'}",),
            hint=f"write {target.name.text}[{','.join(einsum.free)}]",
        )
    dtype = read_dtype(target.dtype) if target.dtype else None
    placed = replace(expr, op=op)
    return replace(einsum, output=output, expr=placed, otherwise=None, dtype=dtype)


def _semiring(name: Name | None, scope: Scope) -> str | Semiring:
    if name is None:
        return PLAIN.name
    found = scope.library.semiring(name.text)
    if found is None:
        known = (*SEMIRINGS, *scope.library.semirings)
        raise ResolveError(
            f"{name.text} is not a semiring",
            span=name.span,
            hint=similar(name.text, known) or f"one of {', '.join(known)}",
        )
    return found


def _ring(semiring: str | Semiring) -> Semiring:
    return SEMIRINGS[semiring] if isinstance(semiring, str) else semiring


def _output(target: Declaration, scope: Scope, steps: Collection[str]) -> Access:
    name = new_name(target.name)
    if target.bracket is None:
        if name in scope.ranks:
            raise ResolveError(
                f"{name} is a rank: a bare {name} is its size",
                span=target.name.span,
                hint=f"write {name}[] for the scalar, or give it another name",
            )
        return Access(name, (), None, target.span)
    if target.bracket.fill is not None:
        raise ResolveError(
            "there is no fill on the left",
            span=target.bracket.fill.span,
            hint="a read has one: X[i else 0]; a filter another: `where ... else 0`",
        )
    check_ranks(target)
    indices: list[RankExpr] = []
    for written in target.bracket.indices:
        index = resolve_index(written, scope)
        if not isinstance(index, RankExpr) or not index.is_left:
            raise ResolveError(
                "an index on the left is a variable, a number, or a scan's step `v+1`",
                span=written.span,
                hint="scatters are not in the language; compute the index on the right",
            )
        if index.constant and name not in steps:
            raise ResolveError(
                f"{name} has a start at {index.constant}, and no step",
                span=written.span,
                hint=f"a scan goes on with {name}[v+1] = ...",
            )
        if index.terms and index.offset and name not in scope.arity:
            raise ResolveError(
                f"{name} steps, but has no start above",
                span=written.span,
                hint=f"a scan begins with {name}[0] = ...",
            )
        indices.append(index)
    return Access(name, tuple(indices), None, target.span)


def _steps(target: Declaration) -> bool:
    """Whether a target is the step of a scan."""
    for written in target.bracket.indices if target.bracket else ():
        index = syntax.ungroup(written)
        if isinstance(index, Infix) and index.symbol == "+" and len(index.args) == 2:
            return True
    return False


def _implicit(body: Node, output: Access, ring: Semiring) -> Node:
    """The right side with its implicit reduction, over the variables that the left has not."""
    free = set(output.variables())
    outside = free_variables(body)
    missing = tuple(v for v in outside if v not in free)
    if not isinstance(body, Access):
        bound = free.union(outside)
        for node in walk(body):
            if isinstance(node, Reduce) and not bound.isdisjoint(node.variables):
                variable = next(v for v in node.variables if v in bound)
                raise _bound_outside(node, variable, body, output)
    for term in addends(body, ring.add) if missing else ():
        inside = set(free_variables(term))
        for variable in missing:
            if variable not in inside:
                raise ResolveError(
                    f"{variable} is summed over the whole right side, but a term has no {variable}",
                    span=term.span or body.span,
                    deduced=(f"{', '.join(missing)}: not on the left, so summed",),
                    hint=f"say what is summed: `{reduction_name(ring.add)}"
                    f"[{','.join(missing)}] (...)` around the terms that hold it",
                )
    return Reduce(ring.add, missing, body, body.span) if missing else body


def _bound_outside(node: Reduce, variable: str, body: Node, output: Access) -> ResolveError:
    name = reduction_name(node.op)
    if variable in output.variables():
        return ResolveError(
            f"{variable} is on the left, and reduced on the right",
            span=node.span,
            also=[output.span] if output.span else (),
            hint="rename one: a second variable over the same rank is `ranks N = M`",
        )
    return ResolveError(
        f"{variable} is reduced by {name}[{','.join(node.variables)}], "
        "but occurs outside of it as well",
        span=_outside(body, variable) or node.span,
        hint=f"a reduction takes what follows it at once: write {name}[{variable}] (...)",
    )


def _outside(body: Node, variable: str) -> Span | None:
    """Where `variable` occurs and no reduction binds it."""
    stack: list[Node] = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, Reduce):
            if variable not in node.variables:
                stack.append(node.expr)
        elif isinstance(node, Map):
            stack += reversed(node.args)
        elif variable in free_variables(node):
            return node.span
    return None


def _check_outputs(program: Program, scope: Scope) -> None:
    for output in program.outputs:
        if output.text not in scope.defined:
            given = any(decl.name.text == output.text for decl in program.inputs)
            raise ResolveError(
                f"the output {output.text} is {'an input' if given else 'not defined'}",
                span=output.span,
                hint=(None if given else similar(output.text, scope.defined))
                or "outputs are tensors that an Einsum defines",
            )
