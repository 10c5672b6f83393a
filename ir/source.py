"""Where a node was written: a source text and a half-open range of its characters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """A text given to a parser; `name` is a file's name, or what the caller calls it."""

    text: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `stop` (exclusive) of `source`."""

    source: Source
    start: int
    stop: int

    def __repr__(self) -> str:
        return f"Span({self.start}, {self.stop})"

    def line_number(self) -> int:
        """The number, from 1, of the line in which the span begins."""
        return self.source.text.count("\n", 0, self.start) + 1

    def render(self, *also: Span) -> str:
        """The line in which the span begins, and a line of carets under it.

        Spans in `also` that begin in the same line get carets too.

        >>> text = Source("ij,jk->il")
        >>> print(Span(text, 8, 9).render())
        ij,jk->il
                ^
        >>> print(Span(text, 1, 2).render(Span(text, 3, 4)))
        ij,jk->il
         ^ ^
        """
        text = self.source.text
        begin = text.rfind("\n", 0, self.start) + 1
        end = text.find("\n", self.start)
        end = len(text) if end < 0 else end
        # A window keeps a line of a million characters readable.
        low = max(begin, self.start - 200)
        high = min(end, low + 400)
        marked: set[int] = set()
        for span in (self, *also):
            if span.source is self.source and low <= span.start <= high:
                # An empty span, or one at the end of the line, has a caret all the same.
                marked |= {span.start, *range(span.start, min(span.stop, high))}
        # Tabs are kept in the margin so that the carets stand under the characters they mean.
        carets = "".join(
            "^" if at in marked else "\t" if text[at] == "\t" else " "
            for at in range(low, max(marked) + 1)
        )
        return f"{text[low:high]}\n{carets}"


def cover(first: Span | None, last: Span | None) -> Span | None:
    """The span from the beginning of `first` to the end of `last`."""
    if first is None or last is None or first.source is not last.source:
        return first or last
    return Span(first.source, min(first.start, last.start), max(first.stop, last.stop))
