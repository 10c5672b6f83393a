"""What the readers of the lower levels' texts share: the tokens, and errors with carets."""

from __future__ import annotations

import re
from typing import NoReturn

from .errors import ParseError
from .source import Source, Span


class TokenReader:
    """The tokens of a text and where it is read; the parser of a notation inherits from it.

    Args:
        text: what is read.
        token: matches one token after blanks; its groups are named, that of the end `end`.

    Raises:
        ParseError: something in the text is no token.
    """

    def __init__(self, text: str, token: re.Pattern[str]) -> None:
        self.source = Source(text)
        self.tokens: list[tuple[str, int]] = []
        self.at = 0
        position = 0
        while True:
            found = token.match(text, position)
            if found is None:
                rest = text[position:]
                start = position + len(rest) - len(rest.lstrip())
                self._fail_at(start, "is not part of the notation")
            word = found.group(found.lastgroup or "end")
            self.tokens.append((word, found.end() - len(word)))
            if found.lastgroup == "end":
                return
            position = found.end()

    def _fail_at(self, position: int, message: str) -> NoReturn:
        text = self.source.text
        word = re.split(r"[ \n]", text[position : position + 20])[0] or "the end"
        span = Span(self.source, position, position + max(len(word), 1))
        raise ParseError(f"{word!r} {message}", span=span)

    def _fail(self, message: str) -> NoReturn:
        self._fail_at(self.tokens[self.at][1], message)

    def _peek(self, ahead: int = 0) -> str:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)][0]

    def _next(self) -> str:
        token = self._peek()
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def _accept(self, token: str) -> bool:
        if self._peek() == token:
            self._next()
            return True
        return False

    def expect(self, *tokens: str) -> None:
        """Those tokens, one after another; "" is the end."""
        for token in tokens:
            if not self._accept(token):
                self._fail(f"stands where {token or 'the end'!r} should")
