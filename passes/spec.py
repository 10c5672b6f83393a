"""The text of a pipeline: `squeeze, order{optimize=greedy, memory_limit=1000}`.

    pipeline = [pass {"," pass}]
    pass     = name ["{" [option {"," option}] "}"]
    option   = name "=" value
    value    = number | word | "true" | "false" | "none" | "[" values "]" | "(" values ")"

A pass's options are the fields of its dataclass; a value must be of the field's type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from ..ir.errors import EinloomError, PipelineError
from ..ir.source import Source, Span, cover
from .base import Pass, Pipeline
from .registry import NAMES_HINT, names_hint, pass_class, pass_names

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w.]))"
    r"|(?P<word>[A-Za-z_][\w.-]*)|(?P<mark>[{}\[\](),=])|(?P<other>[^\s{}\[\](),=]+))"
)
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str | None  # None: the end of the text
    text: str
    span: Span


def parse_pipeline(text: str) -> Pipeline:
    """The Pipeline that a text says; `str` of it gives an equal text back.

    Raises:
        PipelineError: the text is not in the grammar, names no pass, gives an option that the
            pass does not have, or a value that the option cannot have; carets show where.

    >>> parse_pipeline("order{optimize=[(0, 1), (0, 1)]}").passes[0].optimize
    ((0, 1), (0, 1))
    >>> parse_pipeline("squeeze, sort")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    einloom.ir.errors.PipelineError: there is no pass 'sort'
      squeeze, sort
               ^^^^
      hint: einloom.available_passes() says what there is
    """
    return _Parser(text).pipeline()


def _tokens(text: str) -> Iterator[_Token]:
    source = Source(text)
    stripped = len(text.rstrip())
    position = 0
    while position < stripped:
        found = _TOKEN.match(text, position)
        kind = found.lastgroup if found else None
        if found is None or kind is None:  # never: the pattern's last branch takes anything
            break
        start, position = found.span(kind)
        yield _Token(kind, found[kind], Span(source, start, position))
    yield _Token(None, "the end", Span(source, stripped, stripped))


class _Parser:
    """One token of look-ahead."""

    def __init__(self, text: str) -> None:
        self._rest = _tokens(text)
        self._next = next(self._rest)

    def pipeline(self) -> Pipeline:
        passes: list[Pass] = []
        if self._next.kind is not None:
            passes.append(self._pass())
            while self._accept(","):
                passes.append(self._pass())
        if self._next.kind is not None:
            raise self._unexpected("`,` or the end")
        return Pipeline(tuple(passes))

    def _pass(self) -> Pass:
        name = self._word("the name of a pass", NAMES_HINT)
        if name.text not in pass_names():
            raise PipelineError(
                f"there is no pass {name.text!r}",
                span=name.span,
                hint=names_hint(name.text),
            )
        made = pass_class(name.text)
        given: dict[str, Any] = {}
        span: Span | None = name.span
        if self._accept("{"):
            while self._next.text != "}":
                self._option(made, given)
                if not self._accept(","):
                    break
            span = cover(name.span, self._next.span)
            self._expect("}")
        described: Any = made
        needed = [f.name for f in fields(described) if f.default is MISSING]
        missing = [option for option in needed if option not in given]
        if missing:
            raise PipelineError(
                f"{made.name} needs {' and '.join(missing)}",
                span=span,
                hint=f"write {made.name}{{{', '.join(f'{option}=...' for option in needed)}}}",
            )
        try:
            return made(**given)
        except EinloomError as error:
            raise type(error)(error.message, span=span, hint=error.hint) from None

    def _option(self, made: type[Pass], given: dict[str, Any]) -> None:
        described: Any = made  # every pass is a dataclass
        names = [field.name for field in fields(described)]
        hint = f"options of {made.name}: {', '.join(names) or 'none'}"
        key = self._word("the name of an option", hint)
        if key.text not in names:
            raise PipelineError(f"{made.name} has no option {key.text!r}", span=key.span, hint=hint)
        if key.text in given:
            raise PipelineError(f"{key.text} is given twice", span=key.span)
        self._expect("=")
        first = self._next.span
        value, last = self._value()
        wanted = get_type_hints(made)[key.text]
        if not _fits(value, wanted):
            raise PipelineError(
                f"{key.text} of {made.name} cannot be that",
                span=cover(first, last),
                hint=f"it takes {_type_text(wanted)}",
            )
        given[key.text] = value

    def _value(self) -> tuple[Any, Span]:
        """A value, and the span of its last token."""
        token = self._take()
        if token.kind == "number":
            return (int(token.text) if token.text.lstrip("+-").isdigit() else float(token.text)), (
                token.span
            )
        if token.kind == "word":
            return _CONSTANTS.get(token.text, token.text), token.span
        closing = {"[": "]", "(": ")"}.get(token.text)
        if closing is None:
            raise self._unexpected("a value", token)
        items: list[Any] = []
        while self._next.text != closing:
            items.append(self._value()[0])
            if not self._accept(","):
                break
        return tuple(items), self._expect(closing).span

    def _take(self) -> _Token:
        token = self._next
        if token.kind is not None:
            self._next = next(self._rest)
        return token

    def _accept(self, mark: str) -> bool:
        if self._next.kind == "mark" and self._next.text == mark:
            self._take()
            return True
        return False

    def _expect(self, mark: str) -> _Token:
        if self._next.kind != "mark" or self._next.text != mark:
            raise self._unexpected(f"`{mark}`")
        return self._take()

    def _word(self, what: str, hint: str) -> _Token:
        if self._next.kind != "word":
            raise self._unexpected(what, hint=hint)
        return self._take()

    def _unexpected(
        self, wanted: str, token: _Token | None = None, hint: str | None = None
    ) -> PipelineError:
        token = token or self._next
        return PipelineError(f"expected {wanted}, not {token.text}", span=token.span, hint=hint)


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of a field's type; a bool is no int, and an int will do for a float."""
    origin = get_origin(wanted)
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in get_args(wanted))
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        items = cast("tuple[Any, ...]", value)
        kinds = get_args(wanted)
        if len(kinds) == 2 and kinds[1] is ...:
            return all(_fits(item, kinds[0]) for item in items)
        return len(items) == len(kinds) and all(map(_fits, items, kinds))
    if wanted in (None, NoneType):
        return value is None
    if wanted is float:
        return type(value) in (int, float)
    return type(value) is wanted


def _type_text(wanted: Any) -> str:
    """The types that a text can give, in words."""
    if get_origin(wanted) in (Union, UnionType):
        said = [_type_text(choice) for choice in get_args(wanted)]
        return ", ".join(dict.fromkeys(filter(None, said)))
    if get_origin(wanted) is tuple:
        items = ["..." if item is ... else _type_text(item) for item in get_args(wanted)]
        return f"[{', '.join(items)}]"
    names: dict[Any, str] = {
        NoneType: "none",
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a word",
    }
    return names.get(wanted, "")
