"""A text with what it uses: other files, operators and semirings of its own, several cascades."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from ..ir import limits
from ..ir.cascade import Cascade
from ..ir.einsum import UserOperator
from ..ir.errors import ParseError, ResolveError
from ..ir.operators import Semiring
from ..ir.source import Source, Span
from .budget import Budget
from .definitions import resolve_operator, resolve_semiring
from .resolve import resolve
from .scope import Library
from .syntax import File, OperatorItem, Program, SemiringItem, Use


@dataclass(slots=True)
class Reader:
    """Reads a text and what it uses, each file once; `parse` makes syntax of so many tokens."""

    parse: Callable[[Source, int], File]
    _read: dict[str, Library] = field(default_factory=dict[str, Library])
    _reading: list[str] = field(default_factory=list[str])
    _budget: Budget = field(default_factory=Budget)

    def cascade(self, source: Source, folder: str | None = None) -> Cascade:
        """The last cascade of a text; the files that it uses lie in `folder`."""
        file = self._parsed(source)
        *_, last = file.items
        if not isinstance(last, Program):
            raise ParseError(
                "the text ends without a cascade",
                span=last.span,
                hint="its last cascade is what a text means: cascade f(A[I]) -> Y { ... }",
            )
        return self._library(file, folder).cascades[last.name.text]

    def _parsed(self, source: Source) -> File:
        """A text as written, if there is room for it beside those before."""
        file = self.parse(source, limits.TOKENS.most - self._budget.tokens)
        self._budget.tokens += file.tokens
        return file

    def _library(self, file: File, folder: str | None) -> Library:
        library = Library()
        used = set[str]()
        for item in file.items:
            made: Cascade | UserOperator | Semiring
            match item:
                case Use():
                    path = os.path.abspath(os.path.join(folder or "", item.path))
                    if path not in used:
                        library.join(self._used(path, item), item.span)
                        used.add(path)
                    continue
                case OperatorItem():
                    made = resolve_operator(item, library, self._budget)
                case SemiringItem():
                    made = resolve_semiring(item, library, self._budget)
                case Program():
                    made = resolve(item, library, self._budget)
            library.add(made, item.name.span)
        return library

    def _used(self, path: str, use: Use) -> Library:
        if path in self._reading:
            raise ResolveError(f"{use.path} uses itself", span=use.span)
        if path not in self._read:
            limits.FILES.check(len(self._read) + len(self._reading) + 1, use.span, at_least=True)
            text = _contents(path, use.span)
            self._reading.append(path)
            file = self._parsed(Source(text, use.path))
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
        limits.CHARACTERS.check(os.path.getsize(path), span)
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeError) as error:
        raise ResolveError(f"the file cannot be read: {error}", span=span) from None
