"""A design: a Cascade and its binding, which says where and when each of its Einsums runs.

    Design  = architecture, cascade, placements, phases
    Phase   = what is fused: stages one after another; loops, tiles and what the buffer holds
    stage   = lanes side by side;   lane = Einsums one after another

Terms as in TeAAL (Nayak et al., MICRO 2023): a mapping orders and tiles ranks, a binding gives
Einsums to hardware.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ....ir.cascade import Cascade, TensorDecl
from ....ir.einsum import Einsum
from ....ir.errors import ArgumentError
from ..pass_count import count_passes
from .architecture import Architecture, positive

#: Before an Einsum's name in a lane: its array stands while the result moves through its rows.
WAIT = "wait "


@dataclass(frozen=True, slots=True)
class Placement:
    """Einsums on an array; `space[i]` are the ranks that lie, flattened, along its axis i.

    The other ranks of an Einsum's iteration space go by in time.
    """

    array: str
    space: tuple[tuple[str, ...], ...]
    einsums: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """Einsums that are fused: only what they take from others and give to others is moved.

    `stages` follow one another; the lanes of a stage run side by side, the Einsums of a lane one
    after another. `"wait LM"` in a lane stands for the time in which the result of the reduction
    LM moves, a PE at a time, along the axis that its reduced rank lies on.

    `loops` are the outer loops, outermost first, over ranks that all Einsums of the phase share.
    A rank in `tile` goes by tiles of so many coordinates, as many tiles at a time as the buffer
    holds. The buffer holds, of each tensor that the phase reads from outside, what one iteration
    of the loops needs; the state of the scans that the loops carry; and the tensors in `buffer`.
    Tiles are moved whole, the last one too. Without loops each tensor is moved once.

    `traffic`, in bytes by workload and sequence length, is data where no rule gives it.
    """

    stages: tuple[tuple[tuple[str, ...], ...], ...]
    loops: tuple[str, ...] = ()
    tile: Mapping[str, int] = field(default_factory=dict[str, int])
    buffer: tuple[str, ...] = ()
    traffic: Mapping[tuple[str, int], float] | None = None

    @property
    def items(self) -> Iterator[str]:
        """What is in the lanes: names of Einsums, and waits."""
        return (item for stage in self.stages for lane in stage for item in lane)

    @property
    def einsums(self) -> tuple[str, ...]:
        """The Einsums of the phase."""
        return tuple(item for item in self.items if not item.startswith(WAIT))

    @property
    def schedule(self) -> str:
        """The cycles of the phase as a formula: `max(QK + LM, RD) + RM`."""
        stages: list[str] = []
        for stage in self.stages:
            lanes = [" + ".join(lane) for lane in stage if lane]
            if lanes:
                stages.append(lanes[0] if len(lanes) == 1 else f"max({', '.join(lanes)})")
        return " + ".join(stages)


@dataclass(frozen=True, slots=True)
class Design:
    """A Cascade bound to an architecture; `layers` is what runs before and after it.

    `sizes` are extents of ranks that the binding chooses, such as the parts of a partition.
    `cycles` is what a point of an Einsum costs where that is not the sum of its operators.

    Raises:
        ArgumentError: an Einsum is not placed and staged exactly once, a phase reads what a later
            one makes or loops over a rank that it needs several passes over, or a name means
            nothing.
    """

    name: str
    architecture: Architecture
    cascade: Cascade
    placements: tuple[Placement, ...]
    phases: tuple[Phase, ...]
    cycles: Mapping[str, float] = field(default_factory=dict[str, float])
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    layers: Design | None = None
    source: str = ""

    def __post_init__(self) -> None:
        names = dict.fromkeys(einsum.name for einsum in self.cascade.einsums)
        self._once(names, "array", (e for place in self.placements for e in place.einsums))
        self._once(names, "stage", (e for phase in self.phases for e in phase.einsums))
        self._known(self.cycles, names, "cycles", "Einsum")
        ranks = {rank.name: None for rank in self.cascade.ranks}
        self._known(self.sizes, ranks, "sizes", "rank")
        for what, numbers in (("size", self.sizes), ("cycles", self.cycles)):
            for name, value in numbers.items():
                positive(value, f"the {what} of {name} in {self.name}")
        for place in self.placements:
            axes = self.architecture.array(place.array).shape
            if len(place.space) > len(axes):
                raise ArgumentError(
                    f"ranks are given for {len(place.space)} axes of the array {place.array} of "
                    f"{self.name}, but it has {len(axes)}",
                    passed=(f"space: {list(map(list, place.space))}",),
                )
            self._known((rank for axis in place.space for rank in axis), ranks, "space", "rank")
        made: set[str] = set()
        for phase in self.phases:
            self._known(phase.loops, ranks, "loops", "rank")
            self._known(phase.tile, dict.fromkeys(phase.loops), "tile", "loop")
            self._known(phase.buffer, dict.fromkeys(phase.einsums), "buffer", "Einsum of the phase")
            if len(phase.tile) > 1 or any(by < 1 for by in phase.tile.values()):
                raise ArgumentError(
                    f"a phase of {self.name} goes by tiles along one rank, of 1 coordinate or more",
                    passed=(f"tile: {dict(phase.tile)}",),
                )
            waits = (item.removeprefix(WAIT) for item in phase.items if item.startswith(WAIT))
            self._known(waits, dict.fromkeys(phase.einsums), "a wait", "Einsum of the phase")
            made |= set(phase.einsums)
            for name in phase.einsums:
                self._reads_before(name, made)
            self._one_pass(phase)

    def definitions(self, name: str) -> Iterator[Einsum]:
        """The Einsums that define a tensor: one, or the starts and the step of a scan."""
        return (einsum for einsum in self.cascade.einsums if einsum.name == name)

    def placement(self, name: str) -> Placement:
        """Where an Einsum runs."""
        return next(place for place in self.placements if name in place.einsums)

    def _once(self, names: Mapping[str, None], what: str, found: Iterable[str]) -> None:
        counts = Counter(found)
        self._known(counts, names, "the binding", "Einsum")
        for name in names:
            if counts[name] != 1:
                raise ArgumentError(
                    f"the Einsum {name} of {self.name} has {counts[name] or 'no'} {what}"
                    f"{'s' if counts[name] else ''}",
                    span=next(self.definitions(name)).span,
                    hint="every Einsum of the cascade runs on one array, in one stage",
                )

    def _known(
        self, found: Iterable[str], names: Mapping[str, None], where: str, what: str
    ) -> None:
        for name in found:
            if name not in names:
                raise ArgumentError(
                    f"{where} of {self.name} names {name!r}, which is no {what}",
                    deduced=(f"there are: {', '.join(names)}",),
                )

    def _reads_before(self, name: str, made: set[str]) -> None:
        for einsum in self.definitions(name):
            for access in einsum.reads():
                inner = self.cascade.definition(access.tensor) is not None
                if inner and access.tensor not in made:
                    raise ArgumentError(
                        f"{name} of {self.name} reads {access.tensor}, which a later phase makes",
                        span=access.span,
                    )

    def _one_pass(self, phase: Phase) -> None:
        """Refuses a loop over a rank that the Einsums of the phase need more than one pass over."""
        if not phase.loops:
            return
        families = count_passes(self._fused(phase)).families
        for rank in phase.loops:
            family = families.get(rank)
            if family is not None and family.generations != 1:
                raise ArgumentError(
                    f"one loop over {rank} cannot run a whole phase of {self.name}, "
                    f"which takes {family.generations} passes over it",
                    deduced=[f"pass {n}: {', '.join(made)}" for n, made in family.plan().items()],
                    hint=f"take {rank} out of `loops`, so that the buffer holds all of it, or make "
                    "phases of the passes",
                )

    def _fused(self, phase: Phase) -> Cascade:
        """The Einsums of a phase, with what they read of others as inputs."""
        cascade, inside = self.cascade, set(phase.einsums)
        einsums = tuple(einsum for einsum in cascade.einsums if einsum.name in inside)
        read = dict.fromkeys(access.tensor for einsum in einsums for access in einsum.reads())
        extents = cascade.extents()
        return replace(
            cascade,
            inputs=tuple(TensorDecl(name, extents[name]) for name in read if name not in inside),
            einsums=einsums,
            outputs=phase.einsums,
        )
