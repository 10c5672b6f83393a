"""The two grammars, made parsers by lark; nothing else imports it.

lark checks them and makes their LALR(1) tables. Cascade text, which may be long, is then read by
lalr.py, and by lark's own driver what is only compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from operator import sub
from typing import Any

import lark

from ..ir import limits
from ..ir.cascade import Cascade
from ..ir.errors import ParseError
from ..ir.source import Source, Span
from . import hints
from .builder import Builder
from .files import Reader
from .lalr import END, NAME, STRAY, Lexer, Production, Table, Tokens, UnexpectedToken, read
from .syntax import File


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


def parse_file(source: Source, most: int | None = None) -> File:
    """A text as written, of `most` tokens at most; None: as many as there are.

    Raises:
        ParseError: it is not in the grammar, too long, or nested too deeply.
    """
    limits.CHARACTERS.check(len(source.text))
    grammar = _grammar()
    tokens = grammar.lexer.read(source.text, most)
    if not tokens.kinds or tokens.kinds[-1] not in (END, STRAY):
        limits.TOKENS.check(limits.TOKENS.most + 1, at_least=True)
    _check_names(source, tokens)
    try:
        return grammar.read(source, tokens)
    except UnexpectedToken as error:
        raise _syntax_error(error, tokens, source) from None


def _check_names(source: Source, tokens: Tokens) -> None:
    if max(map(sub, tokens.stops, tokens.begins)) <= limits.NAME.most:
        return
    for kind, begin, stop in zip(tokens.kinds, tokens.begins, tokens.stops, strict=True):
        if kind == NAME:
            limits.NAME.check(stop - begin, Span(source, begin, begin + 1))


def read_terms(text: str, notation: str) -> list[list[str]]:
    """The labels of each term of classic subscripts by the grammar, the output's last.

    This is what `subscripts.py`, which is quicker, is held to.

    Raises:
        ParseError: the text is not in the grammar of that notation.
    """
    try:
        tree = _terms(notation).parse(text)
    except lark.UnexpectedInput as error:
        place: Any = error.pos_in_stream
        raise ParseError("unexpected", span=Span(Source(text), place, place + 1)) from None
    return [[str(token) for token in term.children] for term in tree.children]


# lark is typed in part only, so what comes from it is Any here.


def _lark(grammar: str, start: str) -> Any:
    options: Any = {"parser": "lalr", "lexer": "basic", "start": start}
    parser: Any = lark.Lark.open(grammar, rel_to=__file__, **options)  # pyright: ignore[reportUnknownMemberType]
    return parser


@cache
def _terms(notation: str) -> Any:
    return _lark("einsum.lark", notation)


@dataclass(frozen=True, slots=True)
class _Grammar:
    """The grammar of cascade text."""

    lexer: Lexer
    table: Table
    texts: Mapping[str, str]  # of each terminal that has one

    def read(self, source: Source, tokens: Tokens) -> File:
        file: File = read(self.table, tokens, self.lexer.words, Builder(source, tokens))
        return file


@cache
def _grammar() -> _Grammar:
    parser = _lark("cascade.lark", "start")
    texts = {t.name: t.pattern.value for t in parser.terminals if t.pattern.type == "str"}
    words = {text: name for name, text in texts.items() if text.isalpha()}
    rest = [t for t in parser.terminals if t.name not in words.values()]
    # In the order in which lark tries them.
    rest.sort(key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name))
    ignored = set(parser.ignore_tokens)
    lexer = Lexer(
        [(t.name, t.pattern.to_regexp()) for t in rest if t.name not in ignored],
        words,
        [t.pattern.to_regexp() for t in rest if t.name in ignored],
    )
    return _Grammar(lexer, _table(parser), texts)


def _table(parser: Any) -> Table:
    """lark's table with numbers for its states."""
    conf = parser.parse_interactive("").parser_state.parse_conf
    numbers = {state: number for number, state in enumerate(conf.states)}
    productions = {rule: _production(rule) for rule in parser.rules}
    actions: list[dict[str, int | Production]] = []
    gotos: list[dict[str, int]] = []
    for row in conf.states.values():
        actions.append({})
        gotos.append({})
        for symbol, (_, what) in row.items():
            if what in productions:
                actions[-1][END if symbol == "$END" else symbol] = productions[what]
            elif symbol.isupper():
                actions[-1][symbol] = numbers[what]
            else:
                gotos[-1][str(symbol)] = numbers[what]
    end = numbers[conf.end_state]
    actions[end][END] = end
    methods = frozenset(p.method for p in productions.values() if p.method is not None)
    return Table(numbers[conf.start_state], tuple(actions), tuple(gotos), methods)


def _production(rule: Any) -> Production:
    """What a rule makes, as in lark's trees: `_x` a list, `?x` of one symbol the value of that."""
    keep: list[int | None] = []
    places = iter(range(len(rule.expansion)))
    for left_out in rule.options.empty_indices or [False] * len(rule.expansion):
        place = None if left_out else next(places)
        if place is None:
            keep.append(None)
            continue
        symbol = rule.expansion[place]
        if not symbol.is_term and symbol.name.startswith("_"):
            keep.append(~place)
        elif not symbol.is_term or not symbol.filter_out:
            keep.append(place)
    origin = str(rule.origin.name)
    size = len(rule.expansion)
    if rule.options.expand1 and rule.alias is None and keep == [0] and size == 1:
        return Production(size, origin, None, None)
    method = None if origin.startswith("_") else str(rule.alias or origin)
    whole = keep == list(range(size)) and method is not None
    return Production(size, origin, method, None if whole else tuple(keep))


def _syntax_error(error: UnexpectedToken, tokens: Tokens, source: Source) -> ParseError:
    kind = tokens.kinds[error.token]
    begin, stop = tokens.begins[error.token], tokens.stops[error.token]
    text = source.text[begin:stop]
    if kind == STRAY:
        return ParseError(
            f"unexpected {text!r}", span=Span(source, begin, stop), hint=hints.CHARACTERS.get(text)
        )
    hint = _taught().get((error.state, kind)) or hints.TOKENS.get(kind)
    expected = sorted(map(_shown, error.accepts))
    deduced = (f"expected {', '.join(expected)}",) if 0 < len(expected) <= 6 else ()
    if kind in (END, "_NL"):
        message, span = f"unexpected {hints.KINDS[kind]}", Span(source, begin, begin)
    else:
        message, span = f"unexpected {text[:40]!r}", Span(source, begin, stop)
    return ParseError(message, span=span, deduced=deduced, hint=hint)


def _shown(terminal: str) -> str:
    """A kind of token as a reader knows it."""
    return hints.KINDS.get(terminal) or repr(_grammar().texts[terminal])


@cache
def _taught() -> dict[tuple[int, str], str]:
    """What hints.py teaches, by the state and the kind of token at which each example stops."""
    grammar = _grammar()
    taught: dict[tuple[int, str], str] = {}
    for hint, examples in hints.CASCADE.items():
        for example in examples:
            tokens = grammar.lexer.read(example)
            try:
                grammar.read(Source(example), tokens)
            except UnexpectedToken as error:
                taught.setdefault((error.state, tokens.kinds[error.token]), hint)
            except ParseError:
                pass  # what the builder finds it teaches itself
    return taught
