"""The model: what the iteration spaces of a design's Einsums and its binding say about time.

1. An Einsum takes, on its array, the cycles of its operators at each step of its iteration space;
   the ranks that lie along the array's axes are done side by side.
2. The stages of a phase follow one another; a stage takes as long as its longest lane.
3. A phase moves what it reads from outside and what others need of it; what an inner loop does not
   index stays in the buffer, what an outer loop does not index is moved again.
4. A phase takes the longer of its cycles and its traffic; phases follow one another.

Source: the rules of TeAAL (Nayak et al., MICRO 2023), as FuseMax (MICRO 2024) applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ....ir.errors import ArgumentError
from ....ir.sizes import infer_sizes
from .architecture import Workload, sequence_length, short_length
from .buffer import phase_traffic
from .cycles import einsum_cycles, wait_cycles
from .design import WAIT, Design, Phase
from .report import DesignReport, EinsumReport, PhaseReport


def evaluate(design: Design, workload: Workload, length: int | str) -> DesignReport:
    """Time, traffic and utilisation of a design on a workload at one sequence length.

    Args:
        design: the cascade and its binding.
        workload: the extents of the cascade's ranks.
        length: the extent of the workload's `length` ranks, a number or "4K".

    Returns:
        A DesignReport: `print` it, or take its `as_dict()`.

    Raises:
        ArgumentError: an extent is missing, an array lacks an operator, the buffer is too small.
        RankError: the extents do not fit the cascade.
    """
    at = sequence_length(length)
    sizes = _sizes(design, workload, at)
    names = dict.fromkeys(einsum.name for einsum in design.cascade.einsums)
    einsums = {name: einsum_cycles(design, name, sizes) for name in names}
    phases = tuple(
        _phase(design, phase, (workload.name, at), sizes, einsums) for phase in design.phases
    )
    return DesignReport(
        design.name,
        workload.name,
        at,
        design.architecture,
        tuple(einsums.values()),
        phases,
        None if design.layers is None else evaluate(design.layers, workload, at),
    )


def _sizes(design: Design, workload: Workload, length: int) -> dict[str, int]:
    """The extent of every rank."""
    given = {**workload.at(length), **design.sizes}
    declared = {rank.name: rank.shape for rank in design.cascade.ranks}
    for name, shape in declared.items():
        if isinstance(shape, int) and given.setdefault(name, shape) != shape:
            raise ArgumentError(f"rank {name} is declared {shape}, so it cannot be {given[name]}")
    shapes: dict[str, tuple[int, ...]] = {}
    for decl in design.cascade.inputs:
        missing = [name for extent in decl.extents for name in extent.sizes() if name not in given]
        if missing:
            raise ArgumentError(
                f"the workload {workload.name} has no extent for the rank {missing[0]} of "
                f"{decl.name}",
                span=decl.span,
                deduced=(f"it has: {', '.join(given)}",),
            )
        shapes[decl.name] = tuple(extent.value(given) for extent in decl.extents)
    ranks = tuple(
        replace(rank, shape=given.get(rank.name)) if rank.shape is None else rank
        for rank in design.cascade.ranks
    )
    return infer_sizes(replace(design.cascade, ranks=ranks), shapes)


def _phase(
    design: Design,
    phase: Phase,
    point: tuple[str, int],
    sizes: Mapping[str, int],
    einsums: Mapping[str, EinsumReport],
) -> PhaseReport:
    cycles = 0.0
    for stage in phase.stages:
        lanes = (sum(_duration(design, item, einsums) for item in lane) for lane in stage)
        cycles += max(lanes, default=0)
    architecture = design.architecture
    tile: Mapping[str, int] = {}
    held = 0
    if phase.traffic is None:
        found = phase_traffic(design, phase, sizes)
        moved, tile, held = float(found.moved * architecture.word), found.tile, found.held
    else:
        moved = _given(phase.traffic, design, point)
    return PhaseReport(
        phase.einsums,
        phase.schedule,
        cycles,
        moved,
        cycles / architecture.frequency,
        moved / architecture.bandwidth,
        tile,
        held * architecture.word,
    )


def _duration(design: Design, item: str, einsums: Mapping[str, EinsumReport]) -> float:
    """The cycles of an Einsum, or of a wait for one."""
    if item.startswith(WAIT):
        return wait_cycles(design, einsums[item.removeprefix(WAIT)])
    return einsums[item].cycles


def _given(
    traffic: Mapping[tuple[str, int], float], design: Design, point: tuple[str, int]
) -> float:
    if point not in traffic:
        known = [short_length(length) for name, length in traffic if name == point[0]]
        raise ArgumentError(
            f"the traffic of {design.name} is data, and there is none for {point[0]} at "
            f"length {short_length(point[1])}",
            deduced=(f"lengths: {', '.join(known) or 'none'}",),
        )
    return traffic[point]
