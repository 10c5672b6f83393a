"""The rules that every Cascade keeps; each pass may rely on them and must leave them kept."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .cascade import Cascade
from .einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    children,
    free_variables,
    walk,
)
from .errors import VerifyError
from .operators import OPERATORS, REDUCTIONS, SEMIRINGS, is_chain
from .ranks import RankExpr, affine
from .source import Span

_RANK = re.compile(r"[A-Z][A-Z0-9_]*\Z")
_NAME = re.compile(r"[^\W\d]\w*\Z")

#: Words of the language, which name no tensor, cascade or variable.
RESERVED = frozenset(
    {
        *OPERATORS,
        *REDUCTIONS,
        *("cascade", "ranks", "partition", "use", "op", "semiring", "over", "where", "else"),
        *("inf", "nan", "true", "false", "complex"),
    }
)

#: How deeply expressions may be nested: what reads them recursively must not run out of stack.
MAX_DEPTH = 128

_SIGNED = range(-(2**63), 2**63)
_INTEGERS = range(-(2**63), 2**64)


def verify(cascade: Cascade) -> Cascade:
    """Gives the Cascade back if it keeps every rule.

    The rules: names are identifiers and not words of the language, and a rank's is upper case;
    every rank, tensor, operator and semiring that is used exists; a tensor is defined once, before
    it is read, with as many indices as it has ranks; index expressions are in normal form (what
    `affine` makes) and integers fit in 64 bits; left-hand indices are variables or 0; a variable
    occurs inside the output or inside its reduction, not both; an elementwise filter says what is
    `else`; no expression is nested more deeply than MAX_DEPTH.

    Raises:
        VerifyError: it breaks one; the message shows where.
    """
    if not _NAME.match(cascade.name) or cascade.name in RESERVED:
        _fail(f"{cascade.name!r} cannot be a cascade's name", cascade.span)
    ranks = _verify_ranks(cascade)
    arity: dict[str, int] = {}
    for decl in cascade.inputs:
        _verify_new_name(decl.name, arity, ranks, decl.span)
        arity[decl.name] = len(decl.extents)
        for extent in decl.extents:
            if any(True for _ in extent.variables()):
                _fail(f"the extent {extent} of {decl.name} is not a size", decl.span)
            _verify_index(extent, ranks, decl.span)
    for einsum in cascade.einsums:
        _verify_einsum(einsum, arity, ranks)
        arity[einsum.name] = len(einsum.output.indices)
    if not cascade.outputs:
        _fail("a cascade needs an output", cascade.span)
    for name in cascade.outputs:
        if cascade.definition(name) is None:
            _fail(f"the output {name} is not defined by an Einsum", cascade.span)
    if len(set(cascade.outputs)) < len(cascade.outputs):
        _fail("an output is named twice", cascade.span)
    return cascade


def _fail(message: str, span: Span | None, hint: str | None = None) -> None:
    raise VerifyError(message, span=span, hint=hint)


def _verify_ranks(cascade: Cascade) -> set[str]:
    ranks: set[str] = set()
    for rank in cascade.ranks:
        if not _RANK.match(rank.name):
            _fail(f"a rank's name is upper case, not {rank.name!r}", rank.span)
        if rank.variable in RESERVED:
            _fail(f"the variable of rank {rank.name} is a word of the language", rank.span)
        if rank.name in ranks:
            _fail(f"rank {rank.name} is declared twice", rank.span)
        if isinstance(rank.shape, int) and rank.shape < 0:
            _fail(f"rank {rank.name} has the negative extent {rank.shape}", rank.span)
        if isinstance(rank.shape, int) and rank.shape not in _SIGNED:
            _fail(f"the extent of rank {rank.name} does not fit in 64 bits", rank.span)
        ranks.add(rank.name)
    for rank in cascade.ranks:
        if isinstance(rank.shape, RankExpr):
            if any(True for _ in rank.shape.variables()):
                _fail(f"the shape {rank.shape} of rank {rank.name} is not a size", rank.span)
            if rank.shape.constant is not None:
                _fail(f"the shape of rank {rank.name} is a number, so write it as one", rank.span)
            _verify_index(rank.shape, ranks, rank.span)
    return ranks


def _verify_index(expr: RankExpr, ranks: set[str], span: Span | None) -> None:
    for rank in expr.sizes():
        if rank not in ranks:
            _fail(f"unknown rank {rank}", expr.span or span)
    if expr != affine(list(expr.terms), expr.offset):
        _fail(f"the index {expr} is not in normal form", expr.span or span)
    if not all(value in _SIGNED for value in (expr.offset, *(t.coefficient for t in expr.terms))):
        _fail("a number in an index does not fit in 64 bits", expr.span or span)


def _verify_new_name(name: str, taken: Iterable[str], ranks: set[str], span: Span | None) -> None:
    if not _NAME.match(name):
        _fail(f"a tensor's name is an identifier, not {name!r}", span)
    if name in RESERVED:
        kind = "the name of an operator" if name in OPERATORS else "a word of the language"
        _fail(f"{name} is {kind}", span)
    if name in taken:
        _fail(f"{name} is defined twice", span, "every tensor is defined once; use a new name")


def _verify_einsum(einsum: Einsum, arity: dict[str, int], ranks: set[str]) -> None:
    output = einsum.output
    _verify_new_name(output.tensor, arity, ranks, output.span)
    for index in output.indices:
        if not isinstance(index, RankExpr) or (index.variable is None and index.constant != 0):
            _fail(f"the left index {_show(index)} is not a variable", output.span)
    if output.fill is not None:
        _fail(f"{output.tensor} has a fill on the left", output.span)
    if einsum.semiring not in SEMIRINGS:
        _fail(f"unknown semiring {einsum.semiring}", einsum.span, f"one of {', '.join(SEMIRINGS)}")
    bound = set(einsum.free)
    for variable in bound:
        _verify_variable(variable, ranks, output.span)
    _verify_expr(einsum.expr, bound, arity, ranks)
    if einsum.where is not None:
        folded = einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()
        _verify_expr(einsum.where, bound | set(folded), arity, ranks)
        if not folded and einsum.otherwise is None:
            _fail(
                f"the filter on {einsum.name} has no `else`",
                einsum.span,
                "without a reduction there is no identity to stand where it is false",
            )
    elif einsum.otherwise is not None:
        _fail(f"the `else` of {einsum.name} has no `where`", einsum.span)
    if einsum.otherwise is not None:
        _verify_literal(einsum.otherwise, einsum.span)


def _show(index: RankExpr | Access) -> str:
    return index.tensor if isinstance(index, Access) else str(index)


def _verify_variable(variable: str, ranks: set[str], span: Span | None) -> None:
    if variable.upper() not in ranks or variable != variable.lower():
        _fail(f"variable {variable} has no rank {variable.upper()}", span)


def _verify_expr(expr: Expr, bound: set[str], arity: dict[str, int], ranks: set[str]) -> None:
    _verify_depth(expr)
    for variable in free_variables(expr):
        if variable not in bound:
            _fail(
                f"variable {variable} is neither on the left nor reduced",
                _variable_span(expr, variable),
            )
    for node in walk(expr):
        if isinstance(node, Access):
            _verify_access(node, arity, ranks)
        elif isinstance(node, Coordinate):
            _verify_variable(node.name.lower(), ranks, node.span)
        elif isinstance(node, Map):
            _verify_map(node)
        elif isinstance(node, Reduce):
            _verify_reduce(node, ranks)
        else:
            _verify_literal(node, None)
    _verify_no_rebinding(expr, bound)


def _verify_depth(expr: Expr) -> None:
    stack = [(expr, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > MAX_DEPTH:
            _fail(
                f"an expression is nested more than {MAX_DEPTH} deep",
                node.span,
                "give its parts names: a cascade may have any number of Einsums",
            )
        stack += [(child, depth + 1) for child in children(node)]


def _verify_literal(literal: Literal, span: Span | None) -> None:
    value = literal.value
    if type(value) not in (bool, int, float, complex):
        _fail(f"{value!r} is not a literal of the language", literal.span or span)
    if isinstance(value, int) and value not in _INTEGERS:
        _fail("a number does not fit in 64 bits", literal.span or span)


def _variable_span(expr: Expr, variable: str) -> Span | None:
    for node in walk(expr):
        if isinstance(node, Access) and variable in node.variables():
            return node.span
        if isinstance(node, Coordinate) and node.name == variable:
            return node.span
    return expr.span


def _verify_access(access: Access, arity: dict[str, int], ranks: set[str]) -> None:
    if access.tensor not in arity:
        _fail(f"{access.tensor} is not defined here", access.span)
    if len(access.indices) != arity[access.tensor]:
        _fail(
            f"{access.tensor} has {arity[access.tensor]} ranks, read with {len(access.indices)}",
            access.span,
        )
    if access.fill is not None:
        _verify_literal(access.fill, access.span)
    for index in access.indices:
        if isinstance(index, RankExpr):
            _verify_index(index, ranks, access.span)
            for variable in index.variables():
                _verify_variable(variable, ranks, access.span)


def _verify_map(node: Map) -> None:
    if node.op not in OPERATORS:
        _fail(f"unknown operator {node.op}", node.span)
    arity, given = OPERATORS[node.op].arity, len(node.args)
    if given != arity and not (is_chain(node.op) and given > 2):
        operands = "operand" if arity == 1 else "operands"
        _fail(f"{node.op} takes {arity} {operands}, not {given}", node.span)
    if (node.dtype is not None) != (node.op in ("cast", "bitcast")):
        _fail(f"{node.op} {'takes no' if node.dtype else 'needs a'} dtype", node.span)


def _verify_reduce(node: Reduce, ranks: set[str]) -> None:
    if node.op not in OPERATORS or not OPERATORS[node.op].reducible:
        _fail(f"{node.op} is not a reduction", node.span)
    if not node.variables or len(set(node.variables)) < len(node.variables):
        _fail("a reduction names each of its variables once", node.span)
    for variable in node.variables:
        _verify_variable(variable, ranks, node.span)


def _verify_no_rebinding(expr: Expr, bound: set[str]) -> None:
    """A reduction's variable means nothing outside it, so it must not be bound there too."""
    stack: list[tuple[Expr, set[str]]] = [(expr, bound)]
    while stack:
        node, outer = stack.pop()
        if isinstance(node, Reduce):
            for variable in node.variables:
                if variable in outer:
                    _fail(f"{variable} is reduced, and bound outside as well", node.span)
            stack.append((node.expr, outer | set(node.variables)))
        elif isinstance(node, Map):
            stack += [(arg, outer) for arg in node.args]
