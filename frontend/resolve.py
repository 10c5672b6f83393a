"""From syntax to the IR: what each name is, and every reduction made explicit.

What the extents are is `sizes.py`'s part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..ir import limits
from ..ir.cascade import Cascade, TensorDecl
from ..ir.einsum import PLACES, Access, Einsum, Map, Reduce, addends, free_variables, walk
from ..ir.einsum import Expr as Node
from ..ir.errors import RankError, ResolveError
from ..ir.filters import check_filter
from ..ir.operators import SEMIRINGS, Semiring, reduction_name
from ..ir.ranks import Partition, Rank, RankExpr
from ..ir.source import Span
from ..ir.verify import verify
from . import syntax
from .budget import Budget
from .expressions import resolve_expr, resolve_index, resolve_number, resolve_shape, resolve_size
from .inline import Caller
from .scope import EMPTY, PLAIN, SIZE, VARIABLE, Library, Scope, new_name, read_dtype, similar
from .sizes import check_reads, deduce
from .syntax import (
    Declaration,
    Definition,
    Indexed,
    Infix,
    Name,
    Program,
    RankItem,
    Reduction,
)


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
    listed = _listed_ranks(program)
    inputs = tuple(_input(decl, listed) for decl in program.inputs)
    implied = _implied(inputs, listed)
    partitions = tuple(_partition(s, listed, implied) for s in _parts(program))
    tensors = defined | {decl.name for decl in inputs}
    unknown = _used_ranks(program, {*listed, *implied}, tensors)
    ranks = (*listed.values(), *implied.values(), *unknown)
    scope = Scope(
        frozenset(rank.name for rank in ranks),
        {decl.name: len(decl.extents) for decl in inputs},
        defined,
        PLAIN,
        library,
    )
    header = Cascade(name, ranks, inputs, (), (), partitions, _assumptions(program, scope))
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


# ---- ranks


_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def _rank_items(program: Program) -> Iterator[RankItem]:
    """The items of the `ranks` lines, in order."""
    for statement in program.statements:
        if isinstance(statement, tuple):
            yield from statement


def _is_assumption(item: RankItem) -> bool:
    written = syntax.ungroup(item.rank)
    return item.shape is None and isinstance(written, Infix) and written.symbol in _COMPARISONS


def _assumptions(program: Program, scope: Scope) -> tuple[Node, ...]:
    """The conditions on sizes of the `ranks` lines."""
    return tuple(
        resolve_expr(item.rank, scope) for item in _rank_items(program) if _is_assumption(item)
    )


def _listed_ranks(program: Program) -> dict[str, Rank]:
    """The ranks of the `ranks` lines, in order."""
    names = {item.rank.text for item in _rank_items(program) if isinstance(item.rank, Name)}
    names |= {name.text for parts in _parts(program) for name in (parts.rank, *parts.parts)}
    names |= {
        node.text
        for decl in program.inputs
        for extent in (decl.bracket.indices if decl.bracket else ())
        for node, _ in syntax.walk(extent)
        if isinstance(node, Name)
    }
    listed: dict[str, Rank] = {}
    for item in _rank_items(program):
        if _is_assumption(item):
            continue
        rank = _listed_rank(item, names)
        if rank.name in listed:
            raise ResolveError(
                f"rank {rank.name} is declared twice", span=item.span, hint="leave one out"
            )
        listed[rank.name] = rank
    return listed


def _listed_rank(item: RankItem, names: Collection[str]) -> Rank:
    rank = item.rank
    if not isinstance(rank, Name) or not SIZE.match(rank.text):
        raise ResolveError(
            "a rank's name is upper case",
            span=rank.span,
            hint="declare ranks as `ranks N = M, T = 128`, or assume `M % 128 == 0`",
        )
    if item.shape is None:
        return Rank(rank.text, None, rank.span)
    return Rank(rank.text, resolve_shape(item.shape, names), item.span)


def _parts(program: Program) -> Iterator[syntax.Parts]:
    return (s for s in program.statements if isinstance(s, syntax.Parts))


def _partition(
    written: syntax.Parts, listed: dict[str, Rank], implied: dict[str, Rank]
) -> Partition:
    """The partition; its ranks that are not listed join those that are implied."""
    for name in (written.rank, *written.parts):
        if not SIZE.match(name.text):
            raise ResolveError(
                "a rank's name is upper case", span=name.span, hint=f"write {name.text.upper()}"
            )
    outer, *inner = written.parts
    if not inner:
        raise ResolveError(
            "a partition has two parts or more",
            span=written.span,
            hint=f"partition {written.rank.text} -> {written.rank.text}1, {written.rank.text}0",
        )
    if written.rank.text not in listed and written.rank.text not in implied:
        raise ResolveError(
            f"rank {written.rank.text} is declared nowhere",
            span=written.rank.span,
            hint=similar(written.rank.text, (*listed, *implied))
            or "a partition is of a rank that an input has, or a line of `ranks` declares",
        )
    partition = Partition(
        written.rank.text, tuple(name.text for name in written.parts), written.span
    )
    for part in inner:
        if part.text not in listed:
            implied.setdefault(part.text, Rank(part.text, None, part.span))
    if outer.text not in listed:
        implied.setdefault(outer.text, Rank(outer.text, partition.outer_shape, outer.span))
    elif listed[outer.text].shape is None:
        listed[outer.text] = replace(listed[outer.text], shape=partition.outer_shape)
    return partition


def _input(decl: Declaration, listed: Mapping[str, Rank]) -> TensorDecl:
    extents: list[RankExpr] = []
    if decl.bracket is not None:
        if decl.bracket.fill is not None:
            raise ResolveError(
                "an input has no fill: a read has",
                span=decl.bracket.fill.span,
                hint=f"{decl.name.text}[i else 0], where it is read",
            )
        _check_ranks(decl)
        extents = [resolve_size(extent) for extent in decl.bracket.indices]
    dtype = read_dtype(decl.dtype) if decl.dtype else None
    return TensorDecl(new_name(decl.name), tuple(extents), dtype, decl.span)


def _check_ranks(decl: Declaration) -> None:
    if decl.bracket is not None:
        limits.RANKS.check(len(decl.bracket.indices), decl.name.span, RankError)


def _implied(inputs: Iterable[TensorDecl], listed: Mapping[str, Rank]) -> dict[str, Rank]:
    """The ranks that the inputs name, beyond the listed ones."""
    implied: dict[str, Rank] = {}
    for decl in inputs:
        for extent in decl.extents:
            for name in extent.sizes():
                if name not in listed:
                    implied.setdefault(name, Rank(name, None, extent.span))
    return implied


def _used_ranks(
    program: Program, known: Collection[str], tensors: Collection[str]
) -> tuple[Rank, ...]:
    """The ranks of variables that index something, where nothing declares them.

    A tensor among the indices is a gather, so its name makes no rank.
    """
    found: dict[str, Rank] = {}
    seen: set[str] = set()
    for definition in program.definitions():
        for node in _in_brackets(definition):
            if node.text in seen:
                continue
            seen.add(node.text)
            if VARIABLE.match(node.text) and node.text not in tensors:
                name = node.text.upper()
                if name not in known:
                    found.setdefault(name, Rank(name, None, node.span))
    return tuple(found.values())


def _in_brackets(definition: Definition) -> Iterator[Name]:
    """The names that are part of an index, or that a reduction binds."""
    for target in definition.targets:
        yield from _names(target.bracket.indices if target.bracket else ())
    stack = [part for part in (definition.where, definition.expr) if part is not None]
    while stack:
        node = stack.pop()
        if isinstance(node, Indexed | Reduction):
            yield from _names(node.bracket.indices)
        if not isinstance(node, Indexed):
            stack += reversed(syntax.parts(node))


def _names(indices: Iterable[syntax.Expr]) -> Iterator[Name]:
    for index in indices:
        if isinstance(index, Name):
            yield index
        else:
            yield from (node for node, _ in syntax.walk(index) if isinstance(node, Name))


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
    _check_ranks(target)
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
