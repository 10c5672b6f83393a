"""What `count_passes` says: a report that prints itself, as a table and with its reasons."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from typing import Any, TypeAlias

from ...ir.cascade import Cascade
from ...ir.einsum import Access, Einsum
from ...ir.errors import RankError
from ...ir.printer import print_access, print_einsum, print_expr
from .families import Ranks
from .footprint import Held, largest
from .pass_picture import Node, Panel, draw
from .polynomial import Polynomial, total
from .statements import Statement, groups

#: So many inputs that two reads share are named in words.
_SHOWN = 4

#: A number of passes; a Polynomial where each iteration of a scan takes passes of its own.
Count: TypeAlias = int | Polynomial


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a statement runs: `swept` is its pass, 0 if it takes none; it is there by `number`.

    What takes no pass runs once all it reads is there, before pass `number`.
    """

    tensor: str
    swept: int
    number: int


@dataclass(frozen=True, slots=True)
class Reading:
    """An Einsum, and the read in it that a witness is about (None: it reads nothing there)."""

    einsum: Einsum
    access: Access | None

    def __str__(self) -> str:
        """The source's own line with carets under the read; else the Einsum's text."""
        if self.access is not None and self.access.span is not None:
            return self.access.span.render()
        line = print_einsum(self.einsum)
        read = "" if self.access is None else print_access(self.access)
        at = line.find(read, line.find(" = ")) if read else -1
        return line if at < 0 else f"{line}\n{' ' * at}{'^' * len(read)}"


@dataclass(frozen=True, slots=True)
class Witness:
    """Why pass `number` is another one: `second` reads again what `first` has read.

    `through` are the tensors from the first reader to the last one that `second` waits for; the
    first of them is complete only when `first` has read every coordinate.
    """

    number: int
    first: Reading
    through: tuple[str, ...]
    second: Reading
    sharing: Callable[[], Iterable[str]] = field(compare=False, repr=False)

    @property
    def shared(self) -> tuple[str, ...]:
        """The inputs that both reads are made of; listed when asked for, as they may be many."""
        return tuple(self.sharing())

    def lines(self, rank: str) -> Iterator[str]:
        """The reason in words, over the family of that rank."""
        yield f"pass {self.number} over {rank}: {_again(self)}"
        yield from _indented(str(self.first))
        *_, last = self.through
        yield f"    {self.through[0]} is complete only when that was read at every {rank.lower()}"
        if len(self.through) > 1:
            yield f"    {' -> '.join(self.through)}"
        yield from _indented(str(self.second))
        yield f"    this needs {last}, and a coordinate of {rank} again"


def _again(witness: Witness) -> str:
    names = [r.access.tensor for r in (witness.first, witness.second) if r.access is not None]
    if len(set(names)) == 1:
        return f"{names[0]} is read again"
    first = list(islice(witness.sharing(), _SHOWN + 1))
    shared = " and ".join(first if len(first) <= _SHOWN else [*first[:_SHOWN], "more"])
    return f"{shared} is read again, as {' and '.join(names)}"


def _indented(text: str) -> Iterator[str]:
    return ("    " + line.strip("\n") for line in text.split("\n"))


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """The passes over one rank, the ranks that it is cut into, and iterative ranks along it.

    `outer` is the rank of the family that is outermost; `placed` the plan; `held` what must stay
    beyond a visit. The counts are those of FuseMax (`passes`), of loops that must follow one
    another (`generations`), of each tensor read itself, and of each input read as itself or as what
    is made of it.
    """

    rank: str
    leaves: tuple[str, ...]
    outer: str
    passes: Count
    generations: Count
    tensor_passes: Mapping[str, Count]
    lineage_passes: Mapping[str, Count]
    placed: tuple[Placed, ...]
    witnesses: tuple[Witness, ...]
    held: tuple[Held, ...]

    @property
    def footprint(self) -> Polynomial:
        """Elements that any order must hold at once: the most held across a pass, and states."""
        revisited = [each.elements for each in self.held if not each.is_state]
        states = [each.elements for each in self.held if each.is_state]
        return total((*largest(revisited), *states))

    def plan(self) -> dict[int, tuple[str, ...]]:
        """For each pass, the tensors that its loop makes."""
        found: dict[int, list[str]] = {}
        for each in self.placed:
            if each.swept:
                found.setdefault(each.swept, []).append(each.tensor)
        return {number: tuple(found[number]) for number in sorted(found)}


@dataclass(frozen=True, slots=True)
class PassReport:
    """The passes of a Cascade, rank by rank; prints itself as a table with the reasons under it.

    A rank with the same leaves as another (an iterative one that walks it) has the same report.
    """

    cascade: Cascade
    families: Mapping[str, FamilyReport]

    @property
    def passes(self) -> dict[str, Count]:
        """FuseMax's number of passes over each rank."""
        return {rank: family.passes for rank, family in self.families.items()}

    @property
    def generations(self) -> dict[str, Count]:
        """The loops over each rank that must run one after another."""
        return {rank: family.generations for rank, family in self.families.items()}

    @property
    def tensor_passes(self) -> dict[tuple[str, str], Count]:
        """The passes over each tensor along each rank, by (tensor, rank)."""
        return {
            (tensor, rank): count
            for rank, family in self.families.items()
            for tensor, count in family.tensor_passes.items()
        }

    @property
    def lineage_passes(self) -> dict[tuple[str, str], Count]:
        """The passes over each input along each rank, read as what is made of it too."""
        return {
            (tensor, rank): count
            for rank, family in self.families.items()
            for tensor, count in family.lineage_passes.items()
        }

    @property
    def footprint(self) -> dict[str, Polynomial]:
        """The elements that must be held along each rank, whatever the order; a lower bound."""
        return {rank: family.footprint for rank, family in self.families.items()}

    @property
    def plan(self) -> dict[str, dict[int, tuple[str, ...]]]:
        """For each rank, pass by pass, the tensors that its loop makes: the fusion plan."""
        return {rank: family.plan() for rank, family in self.families.items()}

    @property
    def witnesses(self) -> dict[str, tuple[Witness, ...]]:
        """For each rank, the reason of each pass beyond the first."""
        return {rank: family.witnesses for rank, family in self.families.items()}

    def along(self, rank: str) -> PassReport:
        """The report on one rank alone.

        Raises:
            RankError: it is no rank that an Einsum walks.
        """
        if rank not in self.families:
            near = get_close_matches(rank.upper(), self.families, 1, 0.6)
            raise RankError(
                f"nothing in {self.cascade.name} walks a rank {rank}",
                deduced=(f"ranks: {', '.join(self.families) or 'none'}",),
                hint=f"did you mean {near[0]}?" if near else "ranks are in upper case",
            )
        return replace(self, families={rank: self.families[rank]})

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data; counts are numbers, or text where they grow with a rank."""
        return {
            "cascade": self.cascade.name,
            "ranks": {
                rank: {
                    "leaves": list(family.leaves),
                    "outermost": family.outer,
                    "passes": _plain(family.passes),
                    "generations": _plain(family.generations),
                    "footprint": str(family.footprint),
                    "tensors": {t: _plain(n) for t, n in family.tensor_passes.items()},
                    "lineage": {t: _plain(n) for t, n in family.lineage_passes.items()},
                    "plan": {str(n): list(names) for n, names in family.plan().items()},
                    "witnesses": [
                        {
                            "pass": witness.number,
                            "first": print_einsum(witness.first.einsum),
                            "first_read": _read(witness.first),
                            "through": list(witness.through),
                            "second": print_einsum(witness.second.einsum),
                            "second_read": _read(witness.second),
                            "shared": list(witness.shared),
                        }
                        for witness in family.witnesses
                    ],
                    "held": [each.as_dict() for each in family.held],
                }
                for rank, family in self.families.items()
            },
        }

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict())

    def to_svg(self) -> str:
        """A picture: for each rank the Einsums in the order of the plan, each pass a band.

        Ranks that are walked alike share a panel. What a band has from before it, and each value
        that it must wait for, is marked. The text is the same each time, and needs nothing else.
        """
        made = [s for group in groups(self.cascade, Ranks(self.cascade)) for s in group.statements]
        alike: dict[tuple[str, ...], list[str]] = {}
        for rank, family in self.families.items():
            alike.setdefault(family.leaves, []).append(rank)
        panels = (
            _panel(self.families[ranks[0]], ranks, made, self.cascade.outputs)
            for ranks in alike.values()
        )
        return draw(f"passes of {self.cascade.name}", panels)

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("rank", "passes", "loops", "footprint", "pass by pass")]
        for rank, family in self.families.items():
            plan = "; ".join(f"{n}: {', '.join(names)}" for n, names in family.plan().items())
            counts = (str(family.passes), str(family.generations), str(family.footprint))
            lines.append((rank, *counts, plan))
        text = [f"passes of {self.cascade.name}", *_table(lines)]
        tensors: list[tuple[str, ...]] = [
            (tensor, rank, str(count), str(self.lineage_passes.get((tensor, rank), count)))
            for (tensor, rank), count in self.tensor_passes.items()
            if max(_size(count), _size(self.lineage_passes.get((tensor, rank), 1))) > 1
        ]
        if tensors:
            text += ["", *_table([("tensor", "rank", "passes", "lineage"), *tensors])]
        shown: set[tuple[str, ...]] = set()
        for rank, family in self.families.items():
            if family.leaves in shown:
                continue
            shown.add(family.leaves)
            for witness in family.witnesses:
                text += ["", *witness.lines(rank)]
            revisited = [each for each in family.held if not each.is_state]
            if revisited:
                text += ["", f"held along {rank}, or moved, or made again"]
                text += [f"    {line}" for each in revisited for line in each.lines()]
        return "\n".join(text)


def _panel(
    family: FamilyReport,
    ranks: Sequence[str],
    statements: Sequence[Statement],
    outputs: Sequence[str],
) -> Panel:
    """What a picture shows of a family: its statements as nodes, by the place of each."""
    lines: dict[str, list[str]] = {}
    reads: dict[str, dict[str, None]] = {}
    makers: dict[str, list[str]] = {}
    for s in statements:
        inner = s.tensor != s.einsum.name
        text = f"{print_access(Access(s.tensor, s.left))} = {print_expr(s.expr)}"
        lines.setdefault(s.tensor, []).append(text if inner else print_einsum(s.einsum))
        reads.setdefault(s.tensor, {}).update((access.tensor, None) for access in s.reads)
        makers.setdefault(s.einsum.name, []).append(s.tensor)
    nodes = tuple(
        Node(
            each.tensor,
            tuple(lines[each.tensor]),
            each.swept or each.number,
            bool(each.swept),
            tuple(reads[each.tensor]),
            each.tensor in outputs,
        )
        for each in family.placed
    )
    swept = {node.name: node.number for node in nodes}
    reasons: dict[int, str] = {}
    barriers: set[tuple[str, str]] = set()
    for witness in family.witnesses:
        *_, last = witness.through
        waiting = [n for n in makers[witness.second.einsum.name] if last in reads[n]]
        barriers.update((last, name) for name in waiting)
        for name in waiting:
            reasons[swept[name]] = f"{_again(witness)}, and needs all of {last}"
    counts = f"passes {family.passes}, loops {family.generations}, footprint {family.footprint}"
    return Panel(
        family.rank,
        f"{', '.join(ranks)}: {counts}",
        nodes,
        reasons,
        tuple(
            (each.tensor, each.number, f"{each.tensor} held: {each.elements} elements")
            for each in family.held
            if not each.is_state
        ),
        frozenset(barriers),
        {each.tensor: f"carries {each.elements}" for each in family.held if each.is_state},
    )


def _read(reading: Reading) -> str | None:
    return None if reading.access is None else print_access(reading.access)


def _plain(count: Count) -> int | str:
    return count if isinstance(count, int) else str(count)


def _size(count: Count) -> int:
    return count if isinstance(count, int) else 2


def _table(lines: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(map(str.ljust, line, widths)).rstrip()
