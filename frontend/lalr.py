"""Text to tokens to values, by the terminals and the LALR(1) table that lark makes of a grammar.

lark's own driver makes a tree of what it reads, and counts the lines and columns of every token;
this one calls a method for each rule as it is recognised, in a fifth of the time. It keeps its own
stack, so no text is nested too deeply for it.

A word of the language is one where the grammar may go on with it, and a name elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, cast

#: The kinds of what stands at the end of a text, and of a character that begins no token.
END, STRAY = "_END", "_STRAY"

#: The terminal that words of the language are where the grammar has no use for them.
NAME = "NAME"


class Production(NamedTuple):
    """A rule: how many symbols it has, what it is called, and what it makes of their values.

    `method` is called with what is kept, and where the rule begins and stops in the text; None: a
    list of what is kept is the value, or without a `keep` the only symbol's value itself. `keep`
    has the place of each symbol that is kept: ~place if its value is a list of which each is, None
    for a part that was left out. Without one all are kept.
    """

    size: int
    origin: str
    method: str | None
    keep: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Table:
    """What to do in each state: the first is `start`, and the one that shifts END is the last.

    `actions` has the state to go on in after a terminal, or the rule that ends before it; `gotos`
    the state to go on in after a rule, by what the rule is called; `methods` what rules call.
    """

    start: int
    actions: Sequence[Mapping[str, int | Production]]
    gotos: Sequence[Mapping[str, int]]
    methods: Collection[str]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The kinds of a text's tokens, the last of them END, and where each begins and stops."""

    kinds: Sequence[str]
    begins: Sequence[int]
    stops: Sequence[int]


class Lexer:
    """Reads every terminal of a grammar by one expression.

    Args:
        terminals: the name and the expression of each, those that win over others first.
        words: from each word of the language to its terminal.
        between: the expressions of what may stand between tokens.
    """

    def __init__(
        self, terminals: Iterable[tuple[str, str]], words: Mapping[str, str], between: Iterable[str]
    ) -> None:
        named = [*terminals, (END, r"\Z"), (STRAY, "(?s:.)")]
        blank = "|".join(between)
        tokens = "|".join(f"(?P<{name}>{expression})" for name, expression in named)
        self._token = re.compile(f"(?:{blank})*+(?:{tokens})")
        self._words = words
        self.words = frozenset(words.values())

    def read(self, text: str, most: int | None = None) -> Tokens:
        """The tokens of a text to END or the first STRAY; to neither if there are over `most`."""
        words = self._words
        kinds: list[Any] = []
        begins: list[int] = []
        stops: list[int] = []
        for found in islice(self._token.finditer(text), most):
            kind = found.lastgroup
            begin, stop = found.span(kind or 0)
            if kind == NAME:
                kind = words.get(text[begin:stop], NAME)
            kinds.append(kind)
            begins.append(begin)
            stops.append(stop)
            if kind == STRAY:
                break  # nothing can follow
        return Tokens(kinds, begins, stops)


class UnexpectedToken(Exception):
    """The grammar cannot go on: at which token, in which state, and what it could go on with."""

    def __init__(self, token: int, state: int, accepts: frozenset[str]) -> None:
        self.token = token
        self.state = state
        self.accepts = accepts
        super().__init__(token)


def read(table: Table, tokens: Tokens, words: frozenset[str], builder: object) -> Any:
    """What the builder's methods make of the tokens, of which each is known by its number.

    Raises:
        UnexpectedToken: the grammar cannot go on.
    """
    actions, gotos, begins, stops = table.actions, table.gotos, tokens.begins, tokens.stops
    methods = {name: getattr(builder, name) for name in table.methods}
    state = table.start
    states = [state]
    values: list[Any] = []
    first: list[int] = []  # the character at which each value begins
    for at, kind in enumerate(tokens.kinds):
        action = actions[state].get(kind)
        if action is None and kind in words:
            kind = NAME
            action = actions[state].get(NAME)
        while action.__class__ is not int:
            if action is None:
                _settle(table, states)
                raise UnexpectedToken(at, states[-1], _accepts(table, states))
            size, origin, method, keep = cast("Production", action)
            if method is None and keep is None:
                state = states[-1] = gotos[states[-2]][origin]
                action = actions[state].get(kind)
                continue
            if size == 1:
                parts = [values[-1]]
            else:
                parts = values[-size:]
                del values[1 - size :], states[1 - size :], first[1 - size :]
            if keep is not None:
                parts = _kept(parts, keep)
            if method is None:
                values[-1] = parts
            else:
                values[-1] = methods[method](parts, first[-1], stops[at - 1])
            state = states[-1] = gotos[states[-2]][origin]
            action = actions[state].get(kind)
        state = cast("int", action)
        states.append(state)
        values.append(at)
        first.append(begins[at])
    return values[0]


def _kept(parts: list[Any], keep: tuple[int | None, ...]) -> list[Any]:
    """What a rule keeps; a list that stands first is the one that grows."""
    kept: list[Any] = []
    for place in keep:
        if place is None:
            kept.append(None)
        elif place >= 0:
            kept.append(parts[place])
        elif kept:
            kept += parts[~place]
        else:
            kept = parts[~place]
    return kept


def _settle(table: Table, states: list[int]) -> None:
    """Reduces what can only be reduced, so that the state says more of what stands before."""
    while len(only := set(table.actions[states[-1]].values())) == 1:
        (action,) = only
        if not isinstance(action, Production):
            return
        del states[-action.size :]
        states.append(table.gotos[states[-1]][action.origin])


def _accepts(table: Table, states: Sequence[int]) -> frozenset[str]:
    """The terminals that the grammar can go on with: that are shifted, after what they reduce."""
    return frozenset(kind for kind in table.actions[states[-1]] if _shifts(table, states, kind))


def _shifts(table: Table, states: Sequence[int], kind: str) -> bool:
    below, above = len(states) - 1, [states[-1]]
    while isinstance(action := table.actions[above[-1]].get(kind), Production):
        while len(above) <= action.size:
            below -= 1
            above.insert(0, states[below])
        del above[len(above) - action.size :]
        above.append(table.gotos[above[-1]][action.origin])
    return action is not None
