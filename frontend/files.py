"""A text with what it uses: other files, operators and semirings of its own, several cascades."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from ..ir.cascade import Cascade
from ..ir.einsum import UserOperator
from ..ir.errors import ParseError, ResolveError
from ..ir.operators import Semiring
from ..ir.source import Source, Span
from .definitions import resolve_operator, resolve_semiring
from .resolve import resolve
from .scope import Library
from .syntax import File, Item, OperatorItem, Program, SemiringItem, Use


@dataclass(slots=True)
class Reader:
    """Reads texts, each file once; `parse` makes syntax of a text."""

    parse: Callable[[Source], File]
    _read: dict[str, Library] = field(default_factory=dict[str, Library])
    _reading: list[str] = field(default_factory=list[str])

    def cascade(self, source: Source, folder: str | None = None) -> Cascade:
        """The last cascade of a text; the files that it uses lie in `folder`."""
        file = self.parse(source)
        *_, last = file.items
        if not isinstance(last, Program):
            raise ParseError(
                "the text ends without a cascade",
                span=last.span,
                hint="its last cascade is what a text means: cascade f(A[I]) -> Y { ... }",
            )
        return self._library(file, folder).cascades[last.name.text]

    def _library(self, file: File, folder: str | None) -> Library:
        library = Library()
        for item in file.items:
            library = self._with(library, item, folder)
        return library

    def _with(self, library: Library, item: Item, folder: str | None) -> Library:
        """The library with one more item in it."""
        made: Cascade | UserOperator | Semiring
        match item:
            case Use():
                return library.joined(self._used(item, folder), item.span)
            case OperatorItem():
                made = resolve_operator(item, library)
            case SemiringItem():
                made = resolve_semiring(item, library)
            case Program():
                made = resolve(item, library)
        return library.having(made, item.name.span)

    def _used(self, use: Use, folder: str | None) -> Library:
        path = os.path.abspath(os.path.join(folder or "", use.path))
        if path in self._reading:
            raise ResolveError(f"{use.path} uses itself", span=use.span)
        if path not in self._read:
            text = _contents(path, use.span)
            self._reading.append(path)
            file = self.parse(Source(text, use.path))
            self._read[path] = self._library(file, os.path.dirname(path))
            self._reading.pop()
        return self._read[path]


def _contents(path: str, span: Span) -> str:
    if not os.path.isfile(path):  # a device would never end
        raise ResolveError(
            "there is no such file",
            span=span,
            hint="a path is relative to the file that it stands in; of a text given as a string, "
            "to the current folder",
        )
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeError) as error:
        raise ResolveError(f"the file cannot be read: {error}", span=span) from None
