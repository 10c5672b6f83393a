"""From syntax to the IR: what each name is, and every reduction made explicit.

What the extents are is `sizes.py`'s part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..ir.cascade import Cascade, TensorDecl
from ..ir.einsum import Access, Einsum, Map, Reduce, addends, free_variables, walk
from ..ir.einsum import Expr as Node
from ..ir.errors import ParseError, ResolveError
from ..ir.operators import SEMIRINGS, Semiring, reduction_name
from ..ir.ranks import Rank, RankExpr
from ..ir.source import Span
from ..ir.verify import verify
from . import syntax
from .expressions import resolve_expr, resolve_index, resolve_number, resolve_size
from .scope import PLAIN, SIZE, VARIABLE, Scope, new_name, read_dtype, similar
from .sizes import check_reads, deduce
from .syntax import (
    Declaration,
    Definition,
    Indexed,
    Infix,
    Later,
    Name,
    Program,
    RankItem,
    Reduction,
)


def resolve(program: Program) -> Cascade:
    """The Cascade that a text means, verified.

    Raises:
        ParseError: it uses what the language does not have yet.
        ResolveError: a name means nothing, or not what it is used for.
        RankError: an extent is unknown, or does not fit.
        VerifyError: another rule of `verify` is broken.
    """
    _refuse_later(program)
    defined = frozenset(t.name.text for d in _definitions(program) for t in d.targets)
    listed = _listed_ranks(program)
    inputs = tuple(_input(decl, listed) for decl in program.inputs)
    implied = _implied(inputs, listed)
    tensors = defined | {decl.name for decl in inputs}
    unknown = _used_ranks(program, {*listed, *implied}, tensors)
    ranks = (*listed.values(), *implied.values(), *unknown)
    scope = Scope(
        frozenset(rank.name for rank in ranks),
        {decl.name: len(decl.extents) for decl in inputs},
        defined,
        PLAIN,
    )
    einsums: list[Einsum] = []
    for definition in _definitions(program):
        einsums.append(_einsum(definition, scope))
        made = einsums[-1].output
        scope = replace(scope, arity={**scope.arity, made.tensor: len(made.indices)})
    _check_outputs(program, scope)
    cascade = Cascade(
        program.name.text,
        ranks,
        inputs,
        tuple(einsums),
        tuple(output.text for output in program.outputs),
        program.span,
    )
    return check_reads(verify(deduce(cascade)))


def _definitions(program: Program) -> Iterator[Definition]:
    return (s for s in program.statements if isinstance(s, Definition))


def _not_yet(what: str, span: Span, hint: str | None = None) -> ParseError:
    return ParseError(f"{what} not in the language yet", span=span, hint=hint)


def _refuse_later(program: Program) -> None:
    for statement in (*program.before, *program.statements):
        if isinstance(statement, Later):
            raise _not_yet(f"`{statement.keyword}` is", statement.span)


# ---- ranks


def _listed_ranks(program: Program) -> dict[str, Rank]:
    """The ranks of the `ranks` lines, in order."""
    names = {
        item.rank.text
        for statement in program.statements
        if isinstance(statement, tuple)
        for item in statement
        if isinstance(item.rank, Name)
    }
    names |= {
        node.text
        for decl in program.inputs
        for extent in (decl.bracket.indices if decl.bracket else ())
        for node, _ in syntax.walk(extent)
        if isinstance(node, Name)
    }
    listed: dict[str, Rank] = {}
    for statement in program.statements:
        for item in statement if isinstance(statement, tuple) else ():
            rank = _listed_rank(item, names)
            if rank.name in listed:
                raise ResolveError(f"rank {rank.name} is declared twice", span=item.span)
            listed[rank.name] = rank
    return listed


def _listed_rank(item: RankItem, names: Collection[str]) -> Rank:
    rank = item.rank
    if (
        item.shape is None
        and isinstance(rank, Infix)
        and rank.symbol in ("==", "<", "<=", ">", ">=")
    ):
        raise _not_yet("assumptions about sizes are", rank.span)
    if not isinstance(rank, Name) or not SIZE.match(rank.text):
        raise ResolveError(
            "a rank's name is upper case",
            span=rank.span,
            hint="declare ranks as `ranks N = M, T = 128`",
        )
    if item.shape is None:
        return Rank(rank.text, None, rank.span)
    shape = resolve_size(item.shape, names)
    number = shape.constant
    return Rank(rank.text, shape if number is None else number, item.span)


def _input(decl: Declaration, listed: Mapping[str, Rank]) -> TensorDecl:
    extents: list[RankExpr] = []
    if decl.bracket is not None:
        if decl.bracket.fill is not None:
            raise ResolveError("an input has no fill: a read has", span=decl.bracket.fill.span)
        extents = [resolve_size(extent) for extent in decl.bracket.indices]
    dtype = read_dtype(decl.dtype) if decl.dtype else None
    return TensorDecl(new_name(decl.name), tuple(extents), dtype, decl.span)


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
    for definition in _definitions(program):
        brackets = [target.bracket for target in definition.targets if target.bracket]
        for whole in (definition.expr, definition.where):
            for node, _ in syntax.walk(whole) if whole else ():
                if isinstance(node, Indexed | Reduction):
                    brackets.append(node.bracket)
        for index in (index for bracket in brackets for index in bracket.indices):
            for node, _ in syntax.walk(index):
                if isinstance(node, Name) and VARIABLE.match(node.text):
                    name = node.text.upper()
                    if name not in known and node.text not in tensors:
                        found.setdefault(name, Rank(name, None, node.span))
    return tuple(found.values())


# ---- Einsums


def _einsum(definition: Definition, scope: Scope) -> Einsum:
    ring = _semiring(definition.semiring)
    output = _output(definition.targets, scope)
    dtype = definition.targets[0].dtype
    within = replace(scope, ring=ring)
    expr = _implicit(resolve_expr(definition.expr, within), output, ring)
    # A condition is about coordinates, so + and * are themselves there.
    where = resolve_expr(definition.where, replace(scope, ring=PLAIN)) if definition.where else None
    otherwise = resolve_number(definition.otherwise, scope) if definition.otherwise else None
    return Einsum(
        output,
        expr,
        ring.name,
        where,
        otherwise,
        read_dtype(dtype) if dtype else None,
        definition.span,
    )


def _semiring(name: Name | None) -> Semiring:
    if name is None:
        return PLAIN
    if name.text not in SEMIRINGS:
        raise ResolveError(
            f"{name.text} is not a semiring",
            span=name.span,
            hint=similar(name.text, SEMIRINGS) or f"one of {', '.join(SEMIRINGS)}",
        )
    return SEMIRINGS[name.text]


def _output(targets: Sequence[Declaration], scope: Scope) -> Access:
    target, *more = targets
    if more:
        raise _not_yet("several names on the left (the places of a maximum) are", more[0].span)
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
        raise ResolveError("there is no fill on the left", span=target.bracket.fill.span)
    indices: list[RankExpr] = []
    for written in target.bracket.indices:
        index = resolve_index(written, scope)
        if isinstance(index, RankExpr) and (index.variable or index.constant == 0):
            indices.append(index)
        elif isinstance(index, RankExpr) and _is_scan(index):
            raise _not_yet("scans (`X[0] = ...`, `X[v+1] = ...`) are", written.span)
        else:
            raise ResolveError(
                "an index on the left is a variable, or 0",
                span=written.span,
                hint="scatters are not in the language; compute the index on the right",
            )
    return Access(name, tuple(indices), None, target.span)


def _is_scan(index: RankExpr) -> bool:
    """Whether an index on the left is a start, `1`, or a step, `v+1`, of a scan."""
    step = RankExpr(index.terms, 0)
    return index.offset > 0 and (not index.terms or step.variable is not None)


def _implicit(body: Node, output: Access, ring: Semiring) -> Node:
    """The right side with its implicit reduction, over the variables that the left has not."""
    free = set(output.variables())
    missing = tuple(v for v in free_variables(body) if v not in free)
    for node in walk(body):
        if isinstance(node, Reduce):
            for variable in node.variables:
                if variable in missing or variable in free:
                    raise _bound_outside(node, variable, body, output)
    for term in addends(body, ring.add) if missing else ():
        inside = free_variables(term)
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
                hint="outputs are tensors that an Einsum defines"
                if given
                else similar(output.text, scope.defined),
            )
