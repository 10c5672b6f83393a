"""What einloom raises: one shape of message for every mistake.

A message has up to five parts, in this order: what is wrong; the source line with carets; what
was deduced; what was passed; what to do. Each class is also the built-in exception that NumPy
raises for such a mistake, so code written for `np.einsum` keeps working.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .source import Span

#: A line of a message is cut to so many characters: a subscript may have a million.
_LINE = 600


def _shortened(line: str) -> str:
    return line if len(line) <= _LINE else f"{line[:_LINE]} ..."


class EinloomError(Exception):
    """The base of all of einloom's errors.

    >>> print(RankError("symbol 'j' has extents 3 and 4", passed=("A: (2, 3)", "B: (4, 5)")))
    symbol 'j' has extents 3 and 4
      passed: A: (2, 3)
              B: (4, 5)
    """

    def __init__(
        self,
        message: str,
        *,
        span: Span | None = None,
        also: Sequence[Span] = (),
        deduced: Sequence[str] = (),
        passed: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.span = span
        self.also = tuple(also)
        self.deduced = tuple(deduced)
        self.passed = tuple(passed)
        self.hint = hint
        super().__init__(self._render())

    def _render(self) -> str:
        parts = [self.message]
        if self.span is not None:
            source = self.span.source
            many = "\n" in source.text.strip("\n")
            if source.name or many:
                parts.append(f"  {source.name or 'line'}:{self.span.line_number()}")
            parts += ["  " + line for line in self.span.render(*self.also).split("\n")]
        for label, lines in (("deduced", self.deduced), ("passed", self.passed)):
            for number, line in enumerate(lines):
                head = f"{label}: " if number == 0 else " " * (len(label) + 2)
                parts.append("  " + head + line)
        if self.hint:
            parts.append(f"  hint: {self.hint}")
        return "\n".join(map(_shortened, "\n".join(parts).split("\n")))

    def __str__(self) -> str:
        return self._render()


class ParseError(EinloomError, ValueError):
    """The text is not in the grammar."""


class ResolveError(EinloomError, ValueError):
    """A name in the text means nothing, or not what it is used for."""


class RankError(EinloomError, ValueError):
    """Ranks or extents do not fit one another."""


class VerifyError(EinloomError, ValueError):
    """A Cascade breaks a rule that every Cascade keeps."""


class PipelineError(EinloomError, ValueError):
    """A pipeline's text, or a pass's option, is not valid."""


class PathError(PipelineError, KeyError, RuntimeError):
    """A contraction path, or the name of a way to find one, is not valid.

    NumPy raises RuntimeError for a path that does not end in one tensor, and KeyError for a name.
    """


class PassError(EinloomError, ValueError):
    """A pass cannot be applied to this Cascade; the message says which condition fails."""


class ArgumentError(EinloomError, ValueError):
    """An argument of a call has a value that it may not have."""


class OperandError(EinloomError, TypeError):
    """An argument of a call has a type or dtype that it may not have."""


class UnsupportedError(EinloomError, TypeError):
    """Valid, but not something that this backend can do; the message says what can."""


class SlotError(EinloomError, ValueError):
    """Slots, vectors and elements do not fit one another, or a SlotProgram breaks a rule."""


class LevelError(EinloomError, ValueError):
    """A ciphertext has no level left for what is to be done; the message says where it ran out."""


class OutOfMemoryError(EinloomError, MemoryError):
    """The system has no memory left for an intermediate."""


class InternalError(EinloomError, RuntimeError):
    """einloom has gone against its own rules: a defect in einloom, not in what was asked of it."""
