"""What a pass and a pipeline are: values with a text, applied one after another, each step kept."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache, partial
from typing import Any, ClassVar, cast

from ..ir.cascade import Cascade
from ..ir.einsum import Einsum, Reduce, walk
from ..ir.errors import PipelineError
from ..ir.verify import verify

#: So many names of what was rewritten are said.
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Step:
    """One dump of a compilation: a pass's text, the Cascade after it, what it changed."""

    text: str
    cascade_text: str
    said: str | Callable[[], str]

    @property
    def comment(self) -> str:
        """What changed, in a few words; worked out when it is asked for."""
        return self.said if isinstance(self.said, str) else self.said()

    def __str__(self) -> str:
        return f"# {self.text}: {self.comment}\n{self.cascade_text}"


class Pass(ABC):
    """A rewrite of Cascades; a frozen dataclass whose fields are its options.

    Its text is its name and the options that are not at their defaults: `order{optimize=greedy}`.
    """

    __slots__ = ()
    name: ClassVar[str]

    @abstractmethod
    def __call__(self, cascade: Cascade) -> Cascade:
        """The Cascade rewritten; the same object if nothing changes.

        Raises:
            PassError: the pass was asked for something that this Cascade does not allow.
        """

    def comment(self, before: Cascade, after: Cascade) -> str:
        """What the pass changed, in a few words."""
        if after is before:
            return "nothing changed"
        from .analysis.pass_count import count_passes  # loaded, and run, for who reads comments

        counts = (len(before.einsums), len(after.einsums))
        known = set(before.einsums)
        changed = [einsum.name for einsum in after.einsums if einsum not in known]
        shown = [*changed[:_SHOWN], "..."] if len(changed) > _SHOWN else changed
        said = [f"{', '.join(shown)} rewritten"]
        if counts[0] != counts[1]:
            said = [f"Einsums {counts[0]} -> {counts[1]}"]
        points = (iteration_points(before), iteration_points(after))
        if None not in points and points[0] != points[1]:
            said.append(f"points {points[0]:,} -> {points[1]:,}")
        passes = (count_passes(before).passes, count_passes(after).passes)
        said += [
            f"passes over {rank} {count} -> {passes[1][rank]}"
            for rank, count in passes[0].items()
            if passes[1].get(rank, count) != count
        ]
        return ", ".join(said)

    def __str__(self) -> str:
        options = [
            f"{field.name}={option_text(value)}"
            for field, value in self._options()
            if field.default is MISSING or value != field.default
        ]
        return f"{self.name}{{{', '.join(options)}}}" if options else self.name

    def _options(self) -> list[tuple[Any, Any]]:
        described: Any = self  # every subclass is a dataclass, which this base is not
        return [(field, getattr(self, field.name)) for field in fields(described)]


def option_text(value: Any) -> str:
    """An option's value as `spec.parse_pipeline` reads it; `<...>` for what has no text."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        items = cast("tuple[Any, ...]", value)
        return f"[{', '.join(map(option_text, items))}]"
    if isinstance(value, int | float | str):
        return str(value)
    return f"<{getattr(value, '__name__', type(value).__name__)}>"


def iteration_points(cascade: Cascade) -> int | None:
    """How many points the Einsums' iteration spaces have together; None if a size is unknown."""
    sizes = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}

    def points(einsum: Einsum) -> int:
        variables = set(einsum.free)
        for node in walk(einsum.expr):
            if isinstance(node, Reduce):
                variables.update(node.variables)
        return math.prod(sizes[variable.upper()] for variable in variables)

    try:
        return sum(map(points, cascade.einsums))
    except KeyError:
        return None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Passes to apply in order; its text, `squeeze, order{optimize=dp}`, rebuilds it."""

    passes: Sequence[Pass] = ()

    def __post_init__(self) -> None:
        passes = tuple(self.passes)
        if not all(isinstance(each, Pass) for each in passes):
            raise PipelineError(
                f"a Pipeline is made of passes, not of {self.passes!r}",
                hint="a text is given as `passes=`, or read by `passes.spec.parse_pipeline`",
            )
        object.__setattr__(self, "passes", passes)

    def apply(self, cascade: Cascade) -> Cascade:
        """The rewritten Cascade; raises as `run` does."""
        verify(cascade)
        for rewrite in self.passes:
            after = rewrite(cascade)
            if after is not cascade:
                verify(after)
            cascade = after
        return cascade

    def run(self, cascade: Cascade) -> tuple[Cascade, tuple[Step, ...]]:
        """The rewritten Cascade, and one Step for each pass.

        Raises:
            VerifyError: the Cascade breaks a rule, before or after a pass.
            PassError: a pass does not apply.
        """
        verify(cascade)
        steps: list[Step] = []
        text = ""
        for rewrite in self.passes:
            after = rewrite(cascade)
            if after is not cascade:
                verify(after)
            if after is not cascade or not text:
                text = str(after)
            steps.append(Step(str(rewrite), text, cache(partial(rewrite.comment, cascade, after))))
            cascade = after
        return cascade, tuple(steps)

    def __str__(self) -> str:
        return ", ".join(map(str, self.passes))
