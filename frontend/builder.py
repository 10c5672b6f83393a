"""From the rules of cascade.lark to syntax: one method for each that has a meaning.

A method is given the values of what its rule keeps, and the characters at which the rule begins
and stops. The value of a token is its number; of a part that was left out, None.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from ..ir.errors import ParseError
from ..ir.printer import PRECEDENCE
from ..ir.source import Source, Span
from ..ir.verify import MAX_DEPTH
from . import hints
from .lalr import Tokens
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


class Builder:
    """Makes the syntax of one text, given its tokens."""

    def __init__(self, source: Source, tokens: Tokens) -> None:
        self._source = source
        self._text = source.text
        self._tokens = tokens

    def _name(self, token: int) -> Name:
        begin, stop = self._tokens.begins[token], self._tokens.stops[token]
        return Name(self._text[begin:stop], Span(self._source, begin, stop))

    def _symbol(self, token: int) -> str:
        return self._text[self._tokens.begins[token] : self._tokens.stops[token]]

    # ---- statements

    def start(self, kept: list[Any], begin: int, stop: int) -> File:
        whole = Span(self._source, 0, len(self._text))
        return File(tuple(kept), len(self._tokens.kinds), whole)

    def use(self, kept: list[int], begin: int, stop: int) -> Use:
        return Use(self._symbol(kept[0])[1:-1], Span(self._source, begin, stop))

    def operator(self, kept: list[Any], begin: int, stop: int) -> OperatorItem:
        name, *parameters, laws, body = kept
        given = tuple(parameter for parameter in parameters if parameter is not None)
        whole = self._whole(body)
        return OperatorItem(
            self._name(name), given, laws or (), whole, Span(self._source, begin, stop)
        )

    def parameter(self, kept: list[Any], begin: int, stop: int) -> Declaration:
        name, dtype = kept
        return self._declaration(name, None, dtype, begin, stop)

    def laws(self, kept: list[Any], begin: int, stop: int) -> tuple[LawItem, ...]:
        return tuple(law for law in kept if law is not None)

    def law(self, kept: list[Any], begin: int, stop: int) -> LawItem:
        name, value = kept
        return LawItem(
            self._name(name), value and self._whole(value), Span(self._source, begin, stop)
        )

    def semiring(self, kept: list[Any], begin: int, stop: int) -> SemiringItem:
        name, *args = kept
        given = tuple(map(self._whole, args))
        return SemiringItem(self._name(name), given, Span(self._source, begin, stop))

    def cascade(self, kept: list[Any], begin: int, stop: int) -> Program:
        name, inputs, outputs, *statements = kept
        named = self._name(name)
        return Program(named, inputs or (), outputs, tuple(statements), named.span)

    def inputs(self, kept: list[Declaration], begin: int, stop: int) -> tuple[Declaration, ...]:
        return tuple(kept)

    def outputs(self, kept: list[int], begin: int, stop: int) -> tuple[Name, ...]:
        return tuple(map(self._name, kept))

    def input(self, kept: list[Any], begin: int, stop: int) -> Declaration:
        name, bracket, dtype = kept
        return self._declaration(name, bracket, dtype, begin, stop)

    target = input

    def _declaration(
        self, name: int, bracket: Bracket | None, dtype: int | None, begin: int, stop: int
    ) -> Declaration:
        typed = None if dtype is None else self._name(dtype)
        return Declaration(self._name(name), bracket, typed, Span(self._source, begin, stop))

    def ranks(self, kept: list[RankItem], begin: int, stop: int) -> tuple[RankItem, ...]:
        return tuple(kept)

    def rank(self, kept: list[Any], begin: int, stop: int) -> RankItem:
        rank, shape = kept
        return RankItem(
            self._whole(rank), shape and self._whole(shape), Span(self._source, begin, stop)
        )

    def definition(self, kept: list[Any], begin: int, stop: int) -> Definition:
        *targets, expr, semiring, where, otherwise = kept
        return Definition(
            tuple(targets),
            self._whole(expr),
            None if semiring is None else self._name(semiring),
            where and self._whole(where),
            otherwise and self._whole(otherwise),
            Span(self._source, begin, stop),
        )

    def partition(self, kept: list[int], begin: int, stop: int) -> Parts:
        rank, *parts = map(self._name, kept)
        return Parts(rank, tuple(parts), Span(self._source, begin, stop))

    def _whole(self, expr: Expr) -> Expr:
        """The expression, if what comes after can bear how deeply it is nested."""
        span = expr.span
        if span.stop - span.start < MAX_DEPTH:
            return expr  # a level takes a character at least
        for node, depth in walk(expr):
            if depth > MAX_DEPTH + _SLACK:
                raise ParseError(
                    f"an expression is nested more than {MAX_DEPTH} deep",
                    span=node.span,
                    hint="give its parts names: a cascade may have any number of Einsums",
                )
        return expr

    # ---- expressions

    def number(self, kept: list[int], begin: int, stop: int) -> Number:
        span = Span(self._source, begin, stop)
        return Number(_value(self._text[begin:stop], span), span)

    def name(self, kept: list[int], begin: int, stop: int) -> Name | Number:
        text = self._text[begin:stop]
        if text in _CONSTANTS:
            return Number(_CONSTANTS[text], Span(self._source, begin, stop))
        return Name(text, Span(self._source, begin, stop))

    def bracket(self, kept: list[Any], begin: int, stop: int) -> Bracket:
        *indices, fill = kept
        given = () if indices[0] is None else tuple(indices)
        return Bracket(given, fill, Span(self._source, begin, stop))

    def indexed(self, kept: list[Any], begin: int, stop: int) -> Indexed:
        name, bracket = kept
        return Indexed(self._name(name), bracket, Span(self._source, begin, stop))

    def reduction(self, kept: list[Any], begin: int, stop: int) -> Reduction:
        name, bracket, body = kept
        return Reduction(self._name(name), bracket, body, Span(self._source, begin, stop))

    def call(self, kept: list[Any], begin: int, stop: int) -> Call:
        name, *args = kept
        given = tuple(arg for arg in args if arg is not None)
        return Call(self._name(name), given, Span(self._source, begin, stop))

    def group(self, kept: list[Expr], begin: int, stop: int) -> Group:
        # Parentheses in parentheses are one Group, so that no text makes a deep stack of them.
        return Group(ungroup(kept[0]), Span(self._source, begin, stop))

    def prefix(self, kept: list[Any], begin: int, stop: int) -> Prefix | Number:
        token, arg = kept
        symbol = self._symbol(token)
        if symbol == "-" and isinstance(arg, Number) and not isinstance(arg.value, bool):
            return Number(-arg.value, Span(self._source, begin, stop))
        return Prefix(symbol, arg, Span(self._source, begin, stop))

    def expr(self, kept: list[Any], begin: int, stop: int) -> Expr:
        """Operands and the operators between them, grouped by how tightly these bind."""
        operands: list[Expr] = kept[::2]
        tokens: list[int] = kept[1::2]
        symbols = list(map(self._symbol, tokens))
        levels = {PRECEDENCE[symbol] for symbol in symbols}
        if _COMPARISON in levels:
            self._check_comparisons(tokens, symbols)
        for level in sorted(levels, reverse=True):
            operands, symbols = self._grouped(operands, symbols, level)
        return operands[0]

    def _grouped(
        self, operands: list[Expr], symbols: list[str], level: int
    ) -> tuple[list[Expr], list[str]]:
        """Each run of operators of one level made one operand; what binds less is left."""
        made, left = [operands[0]], list[str]()
        run: list[tuple[str, Expr]] = []
        for symbol, operand in zip(symbols, operands[1:], strict=True):
            if PRECEDENCE[symbol] == level:
                run.append((symbol, operand))
                continue
            made[-1] = self._folded(made[-1], run)
            run = []
            made.append(operand)
            left.append(symbol)
        made[-1] = self._folded(made[-1], run)
        return made, left

    def _folded(self, first: Expr, run: list[tuple[str, Expr]]) -> Expr:
        """A run of operators that bind alike, from the left; a run of one symbol is a chain."""
        for symbol, pairs in groupby(run, _first):
            operands = [operand for _, operand in pairs]
            chain = [operands] if symbol in _CHAINS else [[operand] for operand in operands]
            for rest in chain:
                span = Span(self._source, first.span.start, rest[-1].span.stop)
                first = Infix(symbol, (first, *rest), span)
        return first

    def _check_comparisons(self, tokens: list[int], symbols: list[str]) -> None:
        found = [
            token
            for token, symbol in zip(tokens, symbols, strict=True)
            if PRECEDENCE[symbol] == _COMPARISON
        ]
        if len(found) > 1:
            second = self._name(found[1])
            raise ParseError(f"unexpected {second.text!r}", span=second.span, hint=hints.CHAINED)


_COMPARISON = PRECEDENCE["=="]


def _first(pair: tuple[str, Expr]) -> str:
    return pair[0]


def _value(text: str, span: Span) -> int | float | complex:
    if text.endswith("j"):
        return complex(0.0, float(text[:-1]))
    if not text.isdigit():
        return float(text)
    if len(text) > 20:
        raise ParseError(
            "the number does not fit in 64 bits", span=span, hint="as a float it may: write 1e30"
        )
    return int(text)
