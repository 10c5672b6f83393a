"""Classic subscripts as read: Subscripts of Terms of labels."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeAlias

from ..ir.source import Source, Span

#: A symbol of classic subscripts: a letter, a name, or any hashable of the interleaved form; or
#: `...`, the ellipsis.
Label: TypeAlias = Hashable


def show_label(label: Label) -> str:
    """A label as Python shows it, in one short line."""
    text = "..." if label is ... else " ".join(repr(label).split())
    return text if len(text) <= 30 else text[:27] + "..."


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
