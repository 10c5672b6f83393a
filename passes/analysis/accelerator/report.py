"""What the model finds: reports that print themselves, and a table of a whole design space."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from .architecture import Architecture, short_length


@dataclass(frozen=True, slots=True)
class EinsumReport:
    """One Einsum on its array.

    `operations` are how often each operator is done, `cycles` the time on the array, `work` the
    cycles of all its PEs together that do something.
    """

    name: str
    array: str
    operations: Mapping[str, int]
    cycles: float
    work: float


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """One phase: cycles, traffic in bytes, and the seconds that either takes.

    `schedule` is the cycles as a formula of those of the Einsums.
    `tile` is how far a tiled rank goes at a time, `held` the bytes in the buffer meanwhile; both
    are empty where the phase has no loops, or its traffic is data.
    """

    einsums: tuple[str, ...]
    schedule: str
    cycles: float
    traffic: float
    compute: float
    memory: float
    tile: Mapping[str, int]
    held: int

    @property
    def seconds(self) -> float:
        """The longer of the two."""
        return max(self.compute, self.memory)


@dataclass(frozen=True, slots=True)
class DesignReport:
    """A design on a workload at one sequence length; prints itself."""

    design: str
    workload: str
    length: int
    architecture: Architecture
    einsums: tuple[EinsumReport, ...]
    phases: tuple[PhaseReport, ...]
    layers: DesignReport | None

    @property
    def seconds(self) -> float:
        """The time of the design's own cascade."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def total_seconds(self) -> float:
        """That time with the layers around it."""
        return self.seconds + (0.0 if self.layers is None else self.layers.seconds)

    @property
    def cycles(self) -> float:
        """The cycles of the arrays, memory aside."""
        return sum(phase.cycles for phase in self.phases)

    @property
    def traffic(self) -> float:
        """The bytes moved to and from memory."""
        return sum(phase.traffic for phase in self.phases)

    @property
    def utilisation(self) -> dict[str, float]:
        """By array, the part of all its PEs' cycles in which one does something."""
        found: dict[str, float] = {}
        for array in self.architecture.arrays:
            work = sum(einsum.work for einsum in self.einsums if einsum.array == array.name)
            found[array.name] = work / (array.pes * self.seconds * self.architecture.frequency)
        return found

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "design": self.design,
            "workload": self.workload,
            "length": self.length,
            "architecture": self.architecture.name,
            "seconds": self.seconds,
            "total_seconds": self.total_seconds,
            "cycles": self.cycles,
            "traffic_bytes": self.traffic,
            "utilisation": self.utilisation,
            "einsums": [
                {
                    "name": each.name,
                    "array": each.array,
                    "operations": dict(each.operations),
                    "cycles": each.cycles,
                }
                for each in self.einsums
            ],
            "phases": [
                {
                    "einsums": list(each.einsums),
                    "schedule": each.schedule,
                    "cycles": each.cycles,
                    "traffic_bytes": each.traffic,
                    "compute_seconds": each.compute,
                    "memory_seconds": each.memory,
                    "tile": dict(each.tile),
                    "buffer_bytes": each.held,
                }
                for each in self.phases
            ],
            "layers": None if self.layers is None else self.layers.as_dict(),
        }

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict())

    def __str__(self) -> str:
        head = f"{self.design} on {self.architecture.name}: {self.workload}"
        lines = [f"{head}, length {short_length(self.length)}", ""]
        rows: list[tuple[str, ...]] = [("Einsum", "array", "cycles", "operations")]
        for each in self.einsums:
            done = ", ".join(f"{count:,} {op}" for op, count in each.operations.items())
            rows.append((each.name, each.array, f"{each.cycles:,.0f}", done))
        lines += [*_table(rows, left={0, 1, 3}), ""]
        rows = [("phase", "compute s", "memory s", "bytes", "tile", "in the buffer")]
        for number, phase in enumerate(self.phases, 1):
            rows.append(
                (
                    str(number),
                    f"{phase.compute:.6g}",
                    f"{phase.memory:.6g}",
                    f"{phase.traffic:,.0f}",
                    ", ".join(f"{rank} {size:,}" for rank, size in phase.tile.items()),
                    f"{phase.held:,}" if phase.held else "",
                )
            )
        lines += [*_table(rows, left={0, 4}), ""]
        lines += [f"phase {i} = {phase.schedule}" for i, phase in enumerate(self.phases, 1)]
        lines.append("")
        used = ", ".join(f"{name} {part:.1%}" for name, part in self.utilisation.items())
        lines += [f"seconds      {self.seconds:.6g}", f"utilisation  {used}"]
        if self.layers is not None:
            lines.append(f"with layers  {self.total_seconds:.6g}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """Designs on workloads at sequence lengths; prints itself as a table.

    The last design is the one that the others are compared with.
    """

    reports: tuple[DesignReport, ...]

    @property
    def designs(self) -> tuple[str, ...]:
        """The designs, in order."""
        return tuple(dict.fromkeys(report.design for report in self.reports))

    def report(self, design: str, workload: str, length: int) -> DesignReport:
        """The report of one point (a KeyError if there is none)."""
        for report in self.reports:
            if (report.design, report.workload, report.length) == (design, workload, length):
                return report
        raise KeyError((design, workload, length))

    def speedup(self, over: str, *, layers: bool = False, length: int | None = None) -> float:
        """The mean over all points of how much faster the last design is than that one.

        Args:
            over: the other design.
            layers: with the layers around it.
            length: of this sequence length alone.
        """
        ratios: list[float] = []
        for last in self._of(self.designs[-1]):
            if length in (None, last.length):
                other = self.report(over, last.workload, last.length)
                ratios.append(
                    other.total_seconds / last.total_seconds
                    if layers
                    else other.seconds / last.seconds
                )
        return mean(ratios)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "reports": [report.as_dict() for report in self.reports],
            "speedup": {
                name: {
                    "attention": self.speedup(name),
                    "with_layers": self.speedup(name, layers=True),
                }
                for name in self.designs[:-1]
            },
        }

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict())

    def __str__(self) -> str:
        if len(self.reports) == 1:
            return str(self.reports[0])
        names = self.designs
        first = self.reports[0].architecture.arrays[0].name
        seconds = [("seconds", "", *names)]
        used = [(f"{first} in use", "", *names)]
        for last in self._of(names[-1]):
            row = [self.report(name, last.workload, last.length) for name in names]
            head = (last.workload, short_length(last.length))
            seconds.append((*head, *(f"{each.seconds:.6g}" for each in row)))
            parts = (next(iter(each.utilisation.values())) for each in row)
            used.append((*head, *(f"{part:.1%}" for part in parts)))
        tables = [_table(rows, left={0}) for rows in (seconds, used)]
        if len(names) > 1:
            faster = [(f"{names[-1]} is faster", *names[:-1])]
            for label, layers in (("alone", False), ("with layers", True)):
                ratios = (self.speedup(name, layers=layers) for name in names[:-1])
                faster.append((label, *(f"{ratio:.3g}x" for ratio in ratios)))
            tables.append(_table(faster, left={0}))
        return "\n\n".join("\n".join(table) for table in tables)

    def _of(self, design: str) -> list[DesignReport]:
        return [report for report in self.reports if report.design == design]


def _table(rows: list[tuple[str, ...]], left: set[int]) -> list[str]:
    """Rows in columns: those in `left` are set to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
