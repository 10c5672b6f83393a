"""What a traced function does, written down line by line as text of the language."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ..ir.cascade import Cascade
from ..ir.einsum import UserOperator
from ..ir.errors import ArgumentError
from ..ir.operators import Semiring
from ..ir.source import Source, Span
from .scope import Library


@dataclass(slots=True)
class Line:
    """A statement: what is defined, if anything is, and the text that follows.

    `value` is what Python assigned: a maximum and its place are two assignments and one line.
    """

    targets: list[str]
    text: str
    value: object = None

    def __str__(self) -> str:
        return f"{', '.join(self.targets)} = {self.text}" if self.targets else self.text


@dataclass(slots=True)
class Recording:
    """The lines so far, the tensors named in them, and the definitions that they refer to."""

    name: str
    lines: list[Line] = field(default_factory=list[Line])
    tensors: set[str] = field(default_factory=set[str])
    library: Library = field(default_factory=Library)

    def use(self, made: Cascade | UserOperator | Semiring) -> None:
        """Has a definition stand before the text.

        Raises:
            ResolveError: another one of that name does already.
        """
        self.library.add(made, Span(Source(made.name), 0, len(made.name)))


_current: ContextVar[Recording | None] = ContextVar("einloom.recording", default=None)


@contextmanager
def recording(name: str) -> Generator[Recording]:
    """A new Recording, for what the body of the `with` does."""
    made = Recording(name)
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)


def current(what: str) -> Recording:
    """The Recording of the function that is being traced.

    Raises:
        ArgumentError: none is, so that `what` is said to nobody.
    """
    found = _current.get()
    if found is None:
        raise ArgumentError(
            f"{what} outside of a traced function",
            hint="put it in a function under @el.trace: what that does becomes the cascade",
        )
    return found
