"""What the parser yields: the text as written, with nothing looked up yet.

Classic subscripts are Subscripts of Terms. Cascade text is a Program: a header (Declarations) and
statements (Definitions, RankItems, Later), over expressions

    Number  Name  Indexed  Reduction  Call  Infix  Prefix  Group

in which a name may be a tensor, a rank, a variable, an operator or a dtype.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from ..ir.operators import Number as Value
from ..ir.source import Source, Span

#: A symbol of classic subscripts: a letter, a name, or any hashable of the interleaved form; or
#: `...`, the ellipsis.
Label: TypeAlias = Hashable


def show_label(label: Label) -> str:
    """A label as Python shows it, in one short line."""
    text = "..." if label is ... else " ".join(repr(label).split())
    return text if len(text) <= 20 else text[:17] + "..."


@dataclass(frozen=True, slots=True)
class Term:
    """The labels of one operand, `...` among them at most once; `places` are their characters."""

    labels: tuple[Label, ...]
    places: tuple[tuple[int, int], ...] = field(compare=False, repr=False)
    start: int = field(compare=False, repr=False)
    stop: int = field(compare=False, repr=False)

    @property
    def symbols(self) -> tuple[Label, ...]:
        """The labels without the ellipsis."""
        return tuple(label for label in self.labels if label is not ...)

    @property
    def has_ellipsis(self) -> bool:
        return ... in self.labels


@dataclass(frozen=True, slots=True)
class Subscripts:
    """Classic subscripts: a term for each operand, and the output's unless it is implied."""

    terms: tuple[Term, ...]
    output: Term | None
    source: Source = field(compare=False)

    def __str__(self) -> str:
        return self.source.text

    def span(self, term: Term, position: int | None = None) -> Span:
        """Where a term stands in the text, or the label at that position of it."""
        if position is None:
            return Span(self.source, term.start, term.stop)
        return Span(self.source, *term.places[position])

    def spans_of(self, label: Label) -> list[Span]:
        """Everywhere that a label stands."""
        terms = (*self.terms, self.output) if self.output else self.terms
        return [
            self.span(term, position)
            for term in terms
            for position, found in enumerate(term.labels)
            if found == label and found is not ...
        ]


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
