"""The two grammars, read by lark; nothing else imports it.

The parsers are LALR(1) and keep their own stack, so no text is nested too deeply for them; what
comes after them is recursive, so deeper than MAX_DEPTH is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from itertools import groupby
from typing import Any, cast

import lark

from ..ir.cascade import Cascade
from ..ir.errors import ParseError
from ..ir.printer import PRECEDENCE
from ..ir.source import Source, Span
from ..ir.verify import MAX_DEPTH
from . import hints
from .files import Reader
from .syntax import (
    Bracket,
    Call,
    Declaration,
    Definition,
    Expr,
    File,
    Group,
    Indexed,
    Infix,
    LawItem,
    Name,
    Number,
    OperatorItem,
    Parts,
    Prefix,
    Program,
    RankItem,
    Reduction,
    SemiringItem,
    Use,
    ungroup,
    walk,
)

#: How much deeper than what it means a text may be: an index expression is no level of the IR.
_SLACK = 8

#: Symbols of which a run is one chain, whatever the semiring.
_CHAINS = frozenset("+*&|^")

#: Numbers that are written as names.
_CONSTANTS: Mapping[str, bool | float] = {
    "inf": float("inf"),
    "nan": float("nan"),
    "true": True,
    "false": False,
}


def parse_cascade(text: str, name: str = "", folder: str | None = None) -> Cascade:
    """The Cascade of a text in the language: its last one, which may call those before it.

    Args:
        text: the text.
        name: what errors call it.
        folder: where the files lie that it uses; None: the current one.

    Raises:
        ParseError: the text is not in the grammar.
        ResolveError: a name in it means nothing, or not what it is used for.
        RankError: the extents of its ranks are unknown or do not fit.
        VerifyError: it breaks another rule of `verify`.

    >>> print(parse_cascade("cascade f(A[I,J]) -> Y { Y[j] = A[i,j] }"))
    cascade f(A[I,J]) -> Y {
      Y[j] = A[i,j]
    }
    """
    return Reader(parse_file).cascade(Source(text, name), folder)


def parse_file(source: Source) -> File:
    """A text as written.

    Raises:
        ParseError: it is not in the grammar, or nested too deeply.
    """
    _check_brackets(source)
    parser = _lark("cascade.lark", "start")
    builder = cast("Any", _Builder(source))
    try:
        file: File = builder.transform(parser.parse(source.text))
    except lark.UnexpectedInput as error:
        raise _syntax_error(error, parser, source) from None
    except lark.exceptions.VisitError as error:
        raise error.orig_exc from None
    return file


#: More brackets inside one another than any text needs; each costs the parser some time.
_MOST_OPEN = 20_000


def _check_brackets(source: Source) -> None:
    depth = 0
    for found in re.finditer(r"[(\[)\]]", source.text):
        depth += 1 if found[0] in "([" else -1
        if depth > _MOST_OPEN:
            raise ParseError(
                f"more than {_MOST_OPEN:,} brackets are open",
                span=Span(source, found.start(), found.end()),
            )


def read_terms(text: str, notation: str) -> list[list[str]]:
    """The labels of each term of classic subscripts by the grammar, the output's last.

    This is what `subscripts.py`, which is quicker, is held to.

    Raises:
        ParseError: the text is not in the grammar of that notation.
    """
    try:
        tree = _lark("einsum.lark", notation).parse(text)
    except lark.UnexpectedInput as error:
        place: Any = error.pos_in_stream
        raise ParseError("unexpected", span=Span(Source(text), place, place + 1)) from None
    return [[str(token) for token in term.children] for term in tree.children]


# lark is typed in part only, so what comes from it is Any here.


@cache
def _lark(grammar: str, start: str) -> Any:
    options: Any = {"parser": "lalr", "start": start, "propagate_positions": True}
    parser: Any = lark.Lark.open(grammar, rel_to=__file__, **options)  # pyright: ignore[reportUnknownMemberType]
    return parser


def _syntax_error(error: Any, parser: Any, source: Source) -> ParseError:
    at: int = error.pos_in_stream
    token: Any = getattr(error, "token", None)
    if token is None:
        found = source.text[at]
        hint = hints.CHARACTERS.get(found)
        return ParseError(f"unexpected {found!r}", span=Span(source, at, at + 1), hint=hint)
    kind: str = token.type
    hint = _taught(parser).get((error.state.position, kind)) or hints.TOKENS.get(kind)
    expected = sorted(_shown(name, parser) for name in error.accepts)
    deduced = (f"expected {', '.join(expected)}",) if 0 < len(expected) <= 6 else ()
    at = len(source.text) if kind == "$END" else token.start_pos
    if kind in ("$END", "_NL"):
        message, span = f"unexpected {hints.KINDS[kind]}", Span(source, at, at)
    else:
        message, span = f"unexpected {str(token)[:40]!r}", Span(source, at, at + len(token))
    return ParseError(message, span=span, deduced=deduced, hint=hint)


def _shown(terminal: str, parser: Any) -> str:
    """A kind of token as a reader knows it."""
    if terminal in hints.KINDS:
        return hints.KINDS[terminal]
    return repr(parser.get_terminal(terminal).pattern.value)


@cache
def _taught(parser: Any) -> dict[tuple[int, str], str]:
    """What hints.py teaches, by the state and the kind of token at which each example stops."""
    taught: dict[tuple[int, str], str] = {}
    for hint, examples in hints.CASCADE.items():
        for example in examples:
            try:
                parser.parse(example)
            except lark.UnexpectedToken as unexpected:
                error: Any = unexpected
                taught.setdefault((error.state.position, error.token.type), hint)
    return taught


@lark.v_args(meta=True)  # pyright: ignore[reportUnknownMemberType]
class _Builder(lark.visitors.Transformer_NonRecursive[lark.Token, Program]):
    """From lark's tree to syntax: one method for each rule of cascade.lark that has a meaning."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source

    def _span(self, meta: Any) -> Span:
        return Span(self.source, meta.start_pos, meta.end_pos)

    def _name(self, token: lark.Token) -> Name:
        at = token.start_pos or 0
        return Name(str(token), Span(self.source, at, at + len(token)))

    # ---- statements

    def start(self, meta: Any, children: list[Any]) -> File:
        return File(tuple(children), Span(self.source, 0, len(self.source.text)))

    def use(self, meta: Any, children: list[lark.Token]) -> Use:
        return Use(str(children[0])[1:-1], self._span(meta))

    def operator(self, meta: Any, children: list[Any]) -> OperatorItem:
        name, *parameters, laws, body = children
        given = tuple(parameter for parameter in parameters if parameter is not None)
        whole = self._whole(body)
        return OperatorItem(self._name(name), given, laws or (), whole, self._span(meta))

    def parameter(self, meta: Any, children: list[Any]) -> Declaration:
        name, dtype = children
        return Declaration(self._name(name), None, dtype and self._name(dtype), self._span(meta))

    def laws(self, meta: Any, children: list[Any]) -> tuple[LawItem, ...]:
        return tuple(child for child in children if child is not None)

    def law(self, meta: Any, children: list[Any]) -> LawItem:
        name, value = children
        return LawItem(self._name(name), value and self._whole(value), self._span(meta))

    def semiring(self, meta: Any, children: list[Any]) -> SemiringItem:
        name, *args = children
        return SemiringItem(self._name(name), tuple(map(self._whole, args)), self._span(meta))

    def cascade(self, meta: Any, children: list[Any]) -> Program:
        name, inputs, outputs, *statements = children
        named = self._name(name)
        return Program(named, inputs or (), outputs, tuple(statements), named.span)

    def inputs(self, meta: Any, children: list[Declaration]) -> tuple[Declaration, ...]:
        return tuple(children)

    def outputs(self, meta: Any, children: list[lark.Token]) -> tuple[Name, ...]:
        return tuple(map(self._name, children))

    def input(self, meta: Any, children: list[Any]) -> Declaration:
        name, bracket, dtype = children
        return Declaration(self._name(name), bracket, dtype and self._name(dtype), self._span(meta))

    target = input

    def ranks(self, meta: Any, children: list[RankItem]) -> tuple[RankItem, ...]:
        return tuple(children)

    def rank(self, meta: Any, children: list[Any]) -> RankItem:
        rank, shape = children
        return RankItem(self._whole(rank), shape and self._whole(shape), self._span(meta))

    def definition(self, meta: Any, children: list[Any]) -> Definition:
        *targets, expr, semiring, where, otherwise = children
        return Definition(
            tuple(targets),
            self._whole(expr),
            semiring and self._name(semiring),
            where and self._whole(where),
            otherwise and self._whole(otherwise),
            self._span(meta),
        )

    def partition(self, meta: Any, children: list[lark.Token]) -> Parts:
        rank, *parts = map(self._name, children)
        return Parts(rank, tuple(parts), self._span(meta))

    def _whole(self, expr: Expr) -> Expr:
        """The expression, if what comes after can bear how deeply it is nested."""
        for node, depth in walk(expr):
            if depth > MAX_DEPTH + _SLACK:
                raise ParseError(
                    f"an expression is nested more than {MAX_DEPTH} deep",
                    span=node.span,
                    hint="give its parts names: a cascade may have any number of Einsums",
                )
        return expr

    # ---- expressions

    def number(self, meta: Any, children: list[lark.Token]) -> Number:
        return Number(_value(str(children[0]), self._span(meta)), self._span(meta))

    def name(self, meta: Any, children: list[lark.Token]) -> Name | Number:
        text = str(children[0])
        if text in _CONSTANTS:
            return Number(_CONSTANTS[text], self._span(meta))
        return Name(text, self._span(meta))

    def bracket(self, meta: Any, children: list[Any]) -> Bracket:
        *indices, fill = children
        return Bracket(tuple(i for i in indices if i is not None), fill, self._span(meta))

    def indexed(self, meta: Any, children: list[Any]) -> Indexed:
        name, bracket = children
        return Indexed(self._name(name), bracket, self._span(meta))

    def reduction(self, meta: Any, children: list[Any]) -> Reduction:
        name, bracket, body = children
        return Reduction(self._name(name), bracket, body, self._span(meta))

    def call(self, meta: Any, children: list[Any]) -> Call:
        name, *args = children
        given = tuple(arg for arg in args if arg is not None)
        return Call(self._name(name), given, self._span(meta))

    def group(self, meta: Any, children: list[Expr]) -> Group:
        # Parentheses in parentheses are one Group, so that no text makes a deep stack of them.
        return Group(ungroup(children[0]), self._span(meta))

    def prefix(self, meta: Any, children: list[Any]) -> Prefix | Number:
        symbol, arg = children
        if symbol == "-" and isinstance(arg, Number) and not isinstance(arg.value, bool):
            return Number(-arg.value, self._span(meta))
        return Prefix(str(symbol), arg, self._span(meta))

    def expr(self, meta: Any, children: list[Any]) -> Expr:
        """Operands and the operators between them, grouped by how tightly these bind."""
        operands: list[Expr] = children[::2]
        tokens: list[lark.Token] = children[1::2]
        self._check_comparisons(tokens)
        for level in sorted({PRECEDENCE[token] for token in tokens}, reverse=True):
            operands, tokens = self._grouped(operands, tokens, level)
        return operands[0]

    def _grouped(
        self, operands: list[Expr], tokens: list[lark.Token], level: int
    ) -> tuple[list[Expr], list[lark.Token]]:
        """Each run of operators of one level made one operand; what binds less is left."""
        made, left = [operands[0]], list[lark.Token]()
        run: list[tuple[lark.Token, Expr]] = []
        for token, operand in zip(tokens, operands[1:], strict=True):
            if PRECEDENCE[token] == level:
                run.append((token, operand))
                continue
            made[-1] = self._folded(made[-1], run)
            run = []
            made.append(operand)
            left.append(token)
        made[-1] = self._folded(made[-1], run)
        return made, left

    def _folded(self, first: Expr, run: list[tuple[lark.Token, Expr]]) -> Expr:
        """A run of operators that bind alike, from the left; a run of one symbol is a chain."""
        for symbol, pairs in groupby(run, _symbol):
            operands = [operand for _, operand in pairs]
            chain = [operands] if symbol in _CHAINS else [[operand] for operand in operands]
            for rest in chain:
                span = Span(self.source, first.span.start, rest[-1].span.stop)
                first = Infix(symbol, (first, *rest), span)
        return first

    def _check_comparisons(self, tokens: list[lark.Token]) -> None:
        found = [token for token in tokens if token.type == "COMPARISON"]
        if len(found) > 1:
            second = self._name(found[1])
            raise ParseError(f"unexpected {second.text!r}", span=second.span, hint=hints.CHAINED)


def _symbol(pair: tuple[lark.Token, Expr]) -> str:
    return str(pair[0])


def _value(text: str, span: Span) -> int | float | complex:
    if text.endswith("j"):
        return complex(0.0, float(text[:-1]))
    if not text.isdigit():
        return float(text)
    if len(text) > 20:
        raise ParseError("the number does not fit in 64 bits", span=span)
    return int(text)
