"""What the parser yields: cascade text as written, with nothing looked up yet.

A text is a Program: a header (Declarations) and statements (Definitions, RankItems, Later), over
expressions

    Number  Name  Indexed  Reduction  Call  Infix  Prefix  Group

in which a name may be a tensor, a rank, a variable, an operator or a dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from ..ir.operators import Number as Value
from ..ir.source import Span


@dataclass(frozen=True, slots=True)
class Number:
    """`2`, `0.5`, `2j`, and with its minus sign `-2`."""

    value: Value
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Name:
    """A bare name."""

    text: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Bracket:
    """`[i, 2*j+1 else 0]`."""

    indices: tuple[Expr, ...]
    fill: Expr | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Indexed:
    """`X[i]`."""

    name: Name
    bracket: Bracket
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reduction:
    """`max[m] X[m]`."""

    name: Name
    bracket: Bracket
    body: Expr
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`exp(x)`."""

    name: Name
    args: tuple[Expr, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Infix:
    """`a + b + c`: two operands, or more of one symbol that is written as a chain."""

    symbol: str
    args: tuple[Expr, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Prefix:
    """`-a` or `~a`."""

    symbol: str
    arg: Expr
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Group:
    """An expression in parentheses."""

    inner: Expr
    span: Span = field(compare=False, repr=False)


Expr: TypeAlias = Number | Name | Indexed | Reduction | Call | Infix | Prefix | Group


@dataclass(frozen=True, slots=True)
class Declaration:
    """`A[I,J]: f32`, in the header or on the left; without a bracket, a scalar."""

    name: Name
    bracket: Bracket | None
    dtype: Name | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RankItem:
    """`N = M` or `M`, in a `ranks` line."""

    rank: Expr
    shape: Expr | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Definition:
    """`Y[i]: f32 = expr over semiring where condition else otherwise`."""

    targets: tuple[Declaration, ...]
    expr: Expr
    semiring: Name | None
    where: Expr | None
    otherwise: Expr | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Later:
    """A statement that begins as one that the language does not have yet."""

    keyword: str
    span: Span = field(compare=False, repr=False)


Statement: TypeAlias = tuple[RankItem, ...] | Definition | Later


@dataclass(frozen=True, slots=True)
class Program:
    """A text: what stands before the cascade, its header, its statements."""

    before: tuple[Later, ...]
    name: Name
    inputs: tuple[Declaration, ...]
    outputs: tuple[Name, ...]
    statements: tuple[Statement, ...]
    span: Span = field(compare=False, repr=False)


def parts(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside."""
    match expr:
        case Indexed():
            return expr.bracket.indices
        case Reduction():
            return (expr.body,)
        case Call() | Infix():
            return expr.args
        case Prefix():
            return (expr.arg,)
        case Group():
            return (expr.inner,)
        case Number() | Name():
            return ()


def walk(expr: Expr) -> Iterator[tuple[Expr, int]]:
    """The expression and everything inside it, each with how deeply it is nested (from 1).

    Parentheses are no level of their own.
    """
    stack = [(expr, 1)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        below = depth if isinstance(node, Group) else depth + 1
        stack += [(part, below) for part in reversed(parts(node))]


def ungroup(expr: Expr) -> Expr:
    """The expression without the parentheses around it."""
    while isinstance(expr, Group):
        expr = expr.inner
    return expr
