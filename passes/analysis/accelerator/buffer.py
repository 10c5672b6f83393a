"""What a phase moves between memory and the buffer, and what the buffer holds meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from ....ir.einsum import Access
from ....ir.errors import ArgumentError
from ....ir.ranks import RankExpr
from .design import Design, Phase


@dataclass(frozen=True, slots=True)
class Traffic:
    """The elements that a phase moves and holds; `tile`: how far its tiled rank goes at a time."""

    moved: int
    held: int
    tile: Mapping[str, int]


def phase_traffic(design: Design, phase: Phase, sizes: Mapping[str, int]) -> Traffic:
    """The traffic of a phase, with the largest tiles that the buffer holds.

    A tile is a divisor of the number of tiles, so that all are of one size.

    Raises:
        ArgumentError: the buffer does not hold a single one.
    """
    whole = _Loops(design, phase, sizes, {})
    if not phase.loops:
        return Traffic(whole.moved(), 0, {})
    tried = whole
    for tile in _tiles(phase, sizes):
        tried = _Loops(design, phase, sizes, tile)
        if tried.held() * design.architecture.word <= design.architecture.buffer:
            return Traffic(tried.moved(), tried.held(), tile)
    raise ArgumentError(
        f"the buffer of {design.architecture.name} does not hold one iteration of the loops "
        f"{', '.join(phase.loops)} of {design.name}: {tried.held() * design.architecture.word:,} "
        f"bytes, and it has {design.architecture.buffer:,}",
        deduced=tuple(f"{name}: {words:,} elements" for name, words in tried.contents()),
    )


def _tiles(phase: Phase, sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """What to try, the largest first."""
    if not phase.tile:
        yield {}
    for rank, by in phase.tile.items():
        count = -(-sizes[rank] // by)
        for several in range(count, 0, -1):
            if count % several == 0:
                yield {rank: min(several * by, sizes[rank])}


class _Loops:
    """A phase under its outer loops, the tiled one going by so many coordinates."""

    def __init__(
        self, design: Design, phase: Phase, sizes: Mapping[str, int], tile: Mapping[str, int]
    ) -> None:
        self._design = design
        self._phase = phase
        self._sizes = sizes
        #: by variable: how many coordinates one iteration has
        self._span = {rank.lower(): tile.get(rank, 1) for rank in phase.loops}
        self._extents = design.cascade.extents()

    def moved(self) -> int:
        """What is read from outside the phase and written for others, with every repetition."""
        read: dict[str, int] = {}
        for access in self._outside():
            words = self._words(access) * self._trips(access)
            read[access.tensor] = max(read.get(access.tensor, 0), words)
        made = (self._output(name) for name in self._phase.einsums if self._is_needed(name))
        return sum(read.values()) + sum(self._words(out) * self._trips(out) for out in made)

    def held(self) -> int:
        """How much the buffer holds during one iteration."""
        return sum(words for _, words in self.contents())

    def contents(self) -> Iterator[tuple[str, int]]:
        """The tensors in the buffer and how much of each."""
        read: dict[str, int] = {}
        for access in self._outside():
            read[access.tensor] = max(read.get(access.tensor, 0), self._words(access))
        yield from read.items()
        for name in self._phase.einsums:
            *_, last = self._design.definitions(name)
            carried = last.step is not None and last.step[1] in self._span
            if carried or name in self._phase.buffer:
                yield name, self._words(last.output)

    def _outside(self) -> Iterable[Access]:
        """What the phase reads of tensors that it does not make."""
        inside = set(self._phase.einsums)
        for name in self._phase.einsums:
            for einsum in self._design.definitions(name):
                yield from (read for read in einsum.reads() if read.tensor not in inside)

    def _output(self, name: str) -> Access:
        *_, last = self._design.definitions(name)
        return last.output

    def _is_needed(self, name: str) -> bool:
        """Whether anything outside the phase reads the tensor."""
        cascade, inside = self._design.cascade, set(self._phase.einsums)
        others = (einsum for einsum in cascade.einsums if einsum.name not in inside)
        return name in cascade.outputs or any(
            read.tensor == name for einsum in others for read in einsum.reads()
        )

    def _words(self, access: Access) -> int:
        """The elements of a tensor that one iteration touches through an Access."""
        words = 1
        for index, extent in zip(access.indices, self._extents[access.tensor], strict=True):
            size = extent.value(self._sizes)
            if isinstance(index, RankExpr):
                factors, _ = index.coefficients(self._sizes)
                spans = (abs(f) * (self._coordinates(v) - 1) for v, f in factors.items())
                size = min(size, 1 + sum(spans))
            words *= size
        return words

    def _coordinates(self, variable: str) -> int:
        size = self._sizes[variable.upper()]
        return min(size, self._span.get(variable, size))

    def _trips(self, access: Access) -> int:
        """How often it is moved: at each iteration down to the last loop that it depends on."""
        indexed = set(access.variables())
        depth = max((i for i, v in enumerate(self._span, 1) if v in indexed), default=0)
        loops = list(self._span.items())[:depth]
        return prod(-(-self._sizes[v.upper()] // span) for v, span in loops)
