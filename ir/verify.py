"""The rules that every Cascade keeps; each pass may rely on them and must leave them kept."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import get_args

from .cascade import Cascade
from .einsum import (
    PLACES,
    Access,
    Coordinate,
    Einsum,
    Expr,
    Law,
    Literal,
    Map,
    Op,
    Reduce,
    UserOperator,
    children,
    levels,
    walk,
)
from .errors import VerifyError
from .operators import OPERATORS, REDUCTIONS, SEMIRINGS, Semiring, arity_of, identity_of, is_chain
from .ranks import Quotient, Rank, RankExpr, affine
from .scans import check_definitions
from .source import Span

_RANK = re.compile(r"[A-Z][A-Z0-9_]*\Z")
_NAME = re.compile(r"[^\W\d]\w*\Z")

#: Words of the language, which name no tensor, cascade or variable.
RESERVED = frozenset(
    {
        *OPERATORS,
        *REDUCTIONS,
        *map(str, PLACES),
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
    it is read, with as many indices as it has ranks; the starts and the step of a scan define one
    tensor together, and read only what is there by then; index expressions are in normal form (what
    `affine` makes) and integers fit in 64 bits; left-hand indices are variables, 0, or those of a
    scan; a variable occurs inside the output or inside its reduction, not both; an elementwise
    filter says what is `else`; the text's own operators and semirings have one name each; no
    expression is nested more deeply than MAX_DEPTH.

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
    _verify_partitions(cascade, ranks)
    for assumption in cascade.assumptions:
        _verify_assumption(assumption, ranks)
    _verify_definitions(cascade, arity, ranks)
    inputs = frozenset(arity)
    for einsum in cascade.einsums:
        if einsum.name not in arity:
            _verify_new_name(einsum.name, arity, ranks, einsum.output.span)
        elif einsum.name in inputs:
            _fail(
                f"{einsum.name} is an input, and defined as well",
                einsum.output.span,
                "an Einsum changes no tensor, it defines one: use a new name",
            )
        arity.setdefault(einsum.name, len(einsum.output.indices))
    for einsum in cascade.einsums:
        _verify_einsum(einsum, arity, ranks)
    check_definitions(cascade)
    if not cascade.outputs:
        _fail("a cascade needs an output", cascade.span)
    for name in cascade.outputs:
        if name not in arity or name in inputs:
            _fail(f"the output {name} is not defined by an Einsum", cascade.span)
    if len(set(cascade.outputs)) < len(cascade.outputs):
        _fail("an output is named twice", cascade.span, "leave one out: an output is given once")
    return cascade


def _fail(message: str, span: Span | None, hint: str | None = None) -> None:
    raise VerifyError(message, span=span, hint=hint)


def _verify_ranks(cascade: Cascade) -> set[str]:
    ranks: set[str] = set()
    for rank in cascade.ranks:
        if not _RANK.match(rank.name):
            _fail(f"a rank's name is upper case, not {rank.name!r}", rank.span)
        if rank.variable in RESERVED:
            _fail(
                f"the variable of rank {rank.name} is a word of the language",
                rank.span,
                f"give the rank another name: its variable would be {rank.variable}",
            )
        if rank.name in ranks:
            _fail(f"rank {rank.name} is declared twice", rank.span)
        if isinstance(rank.shape, int) and rank.shape < 0:
            _fail(
                f"rank {rank.name} has the negative extent {rank.shape}",
                rank.span,
                "an extent is 0 or more",
            )
        if isinstance(rank.shape, int) and rank.shape not in _SIGNED:
            _fail(f"the extent of rank {rank.name} does not fit in 64 bits", rank.span)
        ranks.add(rank.name)
    for rank in cascade.ranks:
        if not isinstance(rank.shape, RankExpr | Quotient):
            continue
        if any(True for _ in rank.shape.variables()):
            _fail(f"the shape {rank.shape} of rank {rank.name} is not a size", rank.span)
        if isinstance(rank.shape, Quotient):
            _verify_quotient(rank.shape, ranks, rank)
            continue
        if rank.shape.constant is not None:
            _fail(f"the shape of rank {rank.name} is a number, so write it as one", rank.span)
        _verify_index(rank.shape, ranks, rank.span)
    return ranks


def _verify_quotient(shape: Quotient, ranks: set[str], rank: Rank) -> None:
    _verify_index(shape.dividend, ranks, rank.span)
    _verify_index(shape.divisor, ranks, rank.span)
    if shape.divisor.constant is not None and shape.divisor.constant < 1:
        _fail(f"the shape {shape} of rank {rank.name} divides by no positive size", rank.span)
    if shape.offset not in _SIGNED:
        _fail(f"a number in the shape of rank {rank.name} does not fit in 64 bits", rank.span)


def _verify_partitions(cascade: Cascade, ranks: set[str]) -> None:
    parts: set[str] = set()
    for partition in cascade.partitions:
        for name in (partition.rank, *partition.parts):
            if name not in ranks:
                _fail(f"unknown rank {name}", partition.span)
        if len(partition.parts) < 2:
            _fail(f"a partition of {partition.rank} has two parts or more", partition.span)
        for part in partition.parts:
            if part in parts or part == partition.rank:
                _fail(
                    f"rank {part} is a part twice",
                    partition.span,
                    "each part is a rank of its own: partition M -> M1, M0",
                )
            parts.add(part)


def _verify_assumption(expr: Expr, ranks: set[str]) -> None:
    """An assumption is a comparison, made of sizes, integers and operators of the table."""
    if not isinstance(expr, Map) or expr.op not in _COMPARISONS:
        _fail("an assumption is a comparison", expr.span, "such as `M % 128 == 0`")
    for node in walk(expr):
        if isinstance(node, Coordinate) and node.name in ranks:
            continue
        if isinstance(node, Literal) and type(node.value) is int:
            _verify_literal(node, expr.span)
            continue
        if isinstance(node, Map) and node.op in _SIZE_OPERATORS:
            _verify_map(node)
            continue
        _fail(
            "an assumption is made of sizes and integers",
            node.span or expr.span,
            "such as `M % 128 == 0`, in upper case",
        )


_COMPARISONS: frozenset[Op] = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
_SIZE_OPERATORS = _COMPARISONS | {"add", "sub", "mul", "floordiv", "mod"}


def _verify_definitions(cascade: Cascade, arity: dict[str, int], ranks: set[str]) -> None:
    """The text's own operators and semirings: one of each name, and the names are free."""
    operators, semirings = cascade.definitions()
    taken: dict[str, UserOperator | Semiring] = {}
    every: tuple[UserOperator | Semiring, ...] = (*operators, *semirings)
    reserved = {*arity, *SEMIRINGS}
    for made in every:
        span = made.span if isinstance(made, UserOperator) else None
        _verify_new_name(made.name, reserved, ranks, span)
        if taken.setdefault(made.name, made) != made:
            _fail(f"{made.name} is defined twice, in two ways", span)
    for operator in operators:
        _verify_operator(operator)
        if operator.identity is not None:
            _verify_literal(operator.identity, operator.span)
    for ring in semirings:
        for number in (ring.zero, ring.one):
            _verify_literal(Literal(number), None)
        for op in (ring.add, ring.mul):
            _verify_op(op, None)
            if arity_of(op) != 2:
                _fail(f"{op} does not take two operands, so it is no part of {ring.name}", None)
        if identity_of(ring.add) is None:
            _fail(f"{ring.add} has no identity, so {ring.name} cannot add with it", None)


def _verify_operator(operator: UserOperator) -> None:
    names = [parameter.name for parameter in operator.parameters]
    for name in names:
        if not _NAME.match(name) or name in RESERVED:
            _fail(f"{name!r} cannot be a parameter's name", operator.span)
    if not names or len(set(names)) < len(names):
        _fail(f"{operator.name} names each of its parameters once", operator.span)
    binary = operator.laws or operator.identity or operator.named
    if binary and len(names) != 2:
        _fail(f"{operator.name} has laws, so it takes two operands", operator.span)
    if operator.laws != tuple(law for law in get_args(Law) if law in operator.laws):
        _fail(f"the laws of {operator.name} are not in order, each once", operator.span)
    for op in operator.named:
        _verify_op(op, operator.span)
        if arity_of(op) != 2:
            _fail(f"{op} does not take two operands, so no law of {operator.name} has it", None)
    _verify_depth(operator.body)
    for node in walk(operator.body):
        if isinstance(node, Access) and node == Access(node.tensor) and node.tensor in names:
            continue
        if isinstance(node, Map):
            _verify_map(node)
        elif isinstance(node, Literal):
            _verify_literal(node, operator.span)
        else:
            _fail(
                "the body of an operator is made of its parameters, numbers and operators",
                node.span or operator.span,
            )


def _verify_index(expr: RankExpr, ranks: set[str], span: Span | None) -> None:
    for rank in expr.sizes():
        if rank not in ranks:
            _fail(f"unknown rank {rank}", expr.span or span)
    if expr.variable is not None:
        return
    if expr != affine(list(expr.terms), expr.offset):
        _fail(f"the index {expr} is not in normal form", expr.span or span)
    if not all(value in _SIGNED for value in (expr.offset, *(t.coefficient for t in expr.terms))):
        _fail("a number in an index does not fit in 64 bits", expr.span or span)


def _verify_new_name(name: str, taken: Container[str], ranks: set[str], span: Span | None) -> None:
    if not _NAME.match(name):
        _fail(f"a tensor's name is an identifier, not {name!r}", span)
    if name in RESERVED:
        kind = "the name of an operator" if name in OPERATORS else "a word of the language"
        _fail(f"{name} is {kind}", span)
    if name in taken:
        _fail(f"{name} is defined twice", span, "every tensor is defined once; use a new name")


def _verify_einsum(einsum: Einsum, arity: dict[str, int], ranks: set[str]) -> None:
    output = einsum.output
    for index in output.indices:
        if not isinstance(index, RankExpr) or not index.is_left:
            _fail(f"the left index {_show(index)} is not a variable", output.span)
    if output.fill is not None:
        _fail(f"{output.tensor} has a fill on the left", output.span)
    if isinstance(einsum.semiring, str) and einsum.semiring not in SEMIRINGS:
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
    """Every node, with how deeply it is nested, and the variables that are bound there."""
    stack: list[tuple[Expr, int, set[str]]] = [(expr, 1, bound)]
    while stack:
        node, depth, inside = stack.pop()
        _verify_depth_of(node, depth)
        if isinstance(node, Access):
            # What is bound has a rank: on the left or in a reduction it was looked up.
            for variable in node.variables():
                _verify_bound(variable, inside, node.span or expr.span)
            _verify_access(node, arity, ranks)
        elif isinstance(node, Coordinate):
            if not node.name.isupper():
                _verify_bound(node.name, inside, node.span or expr.span)
            else:
                _verify_variable(node.name.lower(), ranks, node.span)
        elif isinstance(node, Map):
            _verify_map(node)
        elif isinstance(node, Reduce):
            _verify_reduce(node, ranks)
            # A reduction's variable means nothing outside it, so it must not be bound there too.
            for variable in node.variables:
                if variable in inside:
                    other = next((name for name in "NKPQ" if name not in ranks), "OTHER")
                    _fail(
                        f"{variable} is reduced, and bound outside as well",
                        node.span,
                        "take a second variable over the same rank: "
                        f"`ranks {other} = {variable.upper()}`, and {other.lower()} here",
                    )
            inside = inside.union(node.variables)
        else:
            _verify_literal(node, None)
        below = depth + 1
        stack += [(child, below, inside) for child in reversed(children(node))]


def _verify_bound(variable: str, bound: set[str], span: Span | None) -> None:
    if variable not in bound:
        _fail(
            f"variable {variable} is neither on the left nor reduced",
            span,
            f"put it on the left, or say how it is reduced: sum[{variable}] (...), which a filter "
            "does not",
        )


def _verify_depth(expr: Expr) -> None:
    for node, depth in levels(expr):
        _verify_depth_of(node, depth)


def _verify_depth_of(node: Expr, depth: int) -> None:
    if depth > MAX_DEPTH:
        _fail(
            f"an expression is nested more than {MAX_DEPTH} deep",
            node.span,
            "give its parts names: a cascade may have any number of Einsums",
        )


def _verify_literal(literal: Literal, span: Span | None) -> None:
    value = literal.value
    if type(value) not in (bool, int, float, complex):
        _fail(f"{value!r} is not a literal of the language", literal.span or span)
    if isinstance(value, int) and value not in _INTEGERS:
        _fail(
            "a number does not fit in 64 bits",
            literal.span or span,
            "as a float it may: write 1e30",
        )


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


def _verify_map(node: Map) -> None:
    _verify_op(node.op, node.span)
    op = node.op
    arity = op.arity if isinstance(op, UserOperator) else OPERATORS[op].arity
    given = len(node.args)
    if given != arity and not (is_chain(op) and given > 2):
        operands = "operand" if arity == 1 else "operands"
        letters = ", ".join("abcdefgh"[:arity])
        _fail(f"{op} takes {arity} {operands}, not {given}", node.span, f"write {op}({letters})")
    if (node.dtype is not None) != (op in ("cast", "bitcast")):
        _fail(f"{op} {'takes no' if node.dtype else 'needs a'} dtype", node.span)


def _verify_op(op: Op, span: Span | None) -> None:
    if isinstance(op, str) and op not in OPERATORS:
        _fail(f"unknown operator {op}", span)


def _verify_reduce(node: Reduce, ranks: set[str]) -> None:
    known = isinstance(node.op, UserOperator) or node.op in PLACES or node.op in OPERATORS
    if not known or identity_of(node.op) is None:
        _fail(f"{node.op} is not a reduction", node.span, "it has no identity" if known else None)
    if isinstance(node.op, UserOperator) and node.op.arity != 2:
        _fail(f"{node.op} does not take two operands, so it cannot reduce", node.span)
    if node.op in PLACES and len(node.variables) != 1:
        _fail(
            f"{node.op} gives the coordinate of one variable",
            node.span,
            f"write {node.op}[m] (...), over one",
        )
    if not node.variables or len(set(node.variables)) < len(node.variables):
        _fail("a reduction names each of its variables once", node.span, "such as sum[i, j] (...)")
    for variable in node.variables:
        _verify_variable(variable, ranks, node.span)
