"""What the parser yields: cascade text as written, with nothing looked up yet.

A text is a File of items: uses of other files, operators, semirings, and Programs. A Program is a
header (Declarations) and statements (Definitions, RankItems, Partitions), over expressions

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
class Parts:
    """`partition M -> M1, M0`."""

    rank: Name
    parts: tuple[Name, ...]
    span: Span = field(compare=False, repr=False)


Statement: TypeAlias = tuple[RankItem, ...] | Parts | Definition


@dataclass(frozen=True, slots=True)
class Program:
    """A cascade: its header, its statements."""

    name: Name
    inputs: tuple[Declaration, ...]
    outputs: tuple[Name, ...]
    statements: tuple[Statement, ...]
    span: Span = field(compare=False, repr=False)

    def definitions(self) -> Iterator[Definition]:
        return (s for s in self.statements if isinstance(s, Definition))


@dataclass(frozen=True, slots=True)
class Use:
    """`use "a.ein"`."""

    path: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class LawItem:
    """`commutative`, or `identity = 0`."""

    name: Name
    value: Expr | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class OperatorItem:
    """`op name(a: f32, b) [laws] = body`; a parameter is a Declaration without a bracket."""

    name: Name
    parameters: tuple[Declaration, ...]
    laws: tuple[LawItem, ...]
    body: Expr
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SemiringItem:
    """`semiring name(add, mul, zero, one)`."""

    name: Name
    args: tuple[Expr, ...]
    span: Span = field(compare=False, repr=False)


Item: TypeAlias = Use | OperatorItem | SemiringItem | Program


@dataclass(frozen=True, slots=True)
class File:
    """A text, item by item, of so many tokens."""

    items: tuple[Item, ...]
    tokens: int = field(compare=False)
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
