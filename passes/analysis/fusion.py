"""Which Einsums run together, in which loops: what a traffic report is made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.cascade import Cascade
from ...ir.errors import ArgumentError
from .families import Ranks
from .pass_count import count_passes
from .pass_report import FamilyReport
from .reuse import Loop
from .statements import Statement


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that are computed together, and the loops around them, outermost first.

    A loop is a variable, `m`, or one in tiles, `m/64`. At each iteration the tensors are computed
    in the order of the text, each in the loops of what is left: the variables of its left side,
    then those it reduces over. A tensor that lacks the variables of the last loops is computed
    before or after them. What the group alone reads is held in the buffer, if it fits.
    """

    tensors: tuple[str, ...]
    loops: tuple[str, ...] = ()

    def __str__(self) -> str:
        loops = f" in {' '.join(self.loops)}" if self.loops else ""
        return f"{', '.join(self.tensors)}{loops}"


@dataclass(frozen=True, slots=True)
class Placed:
    """A group with its statements, and by what name each calls the variables of the loops."""

    group: Group
    loops: tuple[Loop, ...]
    statements: tuple[Statement, ...]
    inner: tuple[tuple[Loop, ...], ...]
    depths: tuple[int, ...]  # so many of the loops are around each
    names: tuple[Mapping[str, str], ...]
    whole: bool  # all tiles divide what they cut


def one_by_one(statements: Sequence[Statement]) -> tuple[Group, ...]:
    """Every Einsum by itself; those of scans that need one another in one loop."""
    steps = [s for s in statements if not s.is_start]
    place = {s.tensor: number for number, s in enumerate(steps)}
    groups: list[Group] = []
    stop = 0
    for number in range(len(steps)):
        if number < stop:
            continue
        # What reads ahead of the text runs in one loop with all up to there.
        stop = number + 1
        for other in steps[number:]:
            if place[other.tensor] >= stop:
                break
            stop = max(stop, *(place.get(access.tensor, -1) + 1 for access in other.reads), 0)
        names = tuple(s.tensor for s in steps[number:stop])
        walked = [s.einsum.step[1] for s in steps[number:stop] if s.einsum.step is not None]
        groups.append(Group(names, tuple(walked[:1]) if len(names) > 1 else ()))
    return tuple(groups)


def by_passes(
    cascade: Cascade,
    statements: Sequence[Statement],
    ranks: Ranks,
    sizes: Mapping[str, int],
    rank: str | None = None,
    tile: int | None = None,
) -> tuple[Group, ...]:
    """The Einsums of one pass over a rank together, in a loop over it, or over its outermost part.

    Without a rank it is the one that takes most passes; of several, one that is parted; of those,
    the one that most Einsums walk. What takes no pass is by itself, as soon as what it reads is
    there.

    Raises:
        ArgumentError: nothing walks the rank.
    """
    parts = {part for partition in cascade.partitions for part in partition.parts}
    every = count_passes(cascade, sizes).families
    families = {name: family for name, family in every.items() if name not in parts}
    if rank is not None and rank not in every:
        raise ArgumentError(
            f"no Einsum of {cascade.name} walks a rank {rank}, so none can be fused along it",
            deduced=(f"ranks that are walked: {', '.join(every)}",),
        )
    if not families:
        return one_by_one(statements)

    def passes(family: FamilyReport) -> int:
        found = family.generations
        return found if isinstance(found, int) else found.number or 0

    def weight(family: FamilyReport) -> tuple[int, bool, int]:
        walks = sum(placed.swept > 0 for placed in family.placed)
        return passes(family), len(family.leaves) > 1, walks

    family = max(families.values(), key=weight) if rank is None else every[rank]
    variable = family.outer.lower()
    loop = variable if tile is None else f"{variable}/{tile}"
    along = {
        s.tensor for s in statements if not s.is_start and walker(s, variable, ranks) is not None
    }
    left = {placed.tensor: placed for placed in family.placed}
    groups: list[Group] = []
    for number in range(1, passes(family) + 2):
        for tensor, placed in list(left.items()):
            alone = not placed.swept or tensor not in along
            if alone and max(placed.swept, placed.number) <= number:
                groups.append(Group((tensor,)))
                del left[tensor]
        together = tuple(tensor for tensor, placed in left.items() if placed.swept == number)
        if together:
            groups.append(Group(together, (loop,)))
        for tensor in together:
            del left[tensor]
    return (*groups, *(Group((tensor,)) for tensor in left))


def walker(statement: Statement, variable: str, ranks: Ranks) -> str | None:
    """The variable by which a statement walks the rank of another: itself, or an iterative one."""
    own = (*statement.kept, *statement.reduced)
    if variable in own:
        return variable
    leaves = ranks.leaves(variable.upper())
    return next((v for v in own if ranks.leaves(v.upper()) == leaves), None)


def place(
    group: Group, statements: Sequence[Statement], ranks: Ranks, extents: Mapping[str, int]
) -> Placed:
    """The group's statements, with the loops around them and those inside.

    Raises:
        ArgumentError: it names a tensor or a variable that is not there.
    """
    members = tuple(s for s in statements if s.tensor in group.tensors)
    missing = set(group.tensors) - {s.tensor for s in members}
    if missing:
        raise ArgumentError(
            f"the schedule computes {', '.join(sorted(missing))}, which the cascade does not need",
            deduced=(f"it needs {', '.join(dict.fromkeys(s.tensor for s in statements))}",),
        )
    rest: dict[str, int] = {}
    loops: list[Loop] = []
    whole = True
    for text in group.loops:
        variable, _, tile = text.partition("/")
        if variable.upper() not in extents:
            raise ArgumentError(f"the loop {text!r} of {group} is over no rank of the cascade")
        size = rest.get(variable, extents[variable.upper()])
        if tile and (not tile.isdecimal() or not int(tile)):
            raise ArgumentError(f"the tile of the loop {text!r} is not a number from 1 on")
        step = min(int(tile), size) if tile else 1
        loops.append(Loop(variable, step, -(-size // step) if size else 0))
        whole = whole and size % max(step, 1) == 0
        rest[variable] = step
    inner: list[tuple[Loop, ...]] = []
    depths: list[int] = []
    names: list[Mapping[str, str]] = []
    for member in members:
        called: dict[str, str] = {}
        depth = 0
        for number, loop in enumerate(loops):
            own = walker(member, loop.variable, ranks)
            if own is not None and depth < number:
                raise ArgumentError(
                    f"{member.tensor} has the variable {loop.variable}, but not "
                    f"{loops[depth].variable} of the loop around it",
                    span=member.einsum.span,
                    hint="put it into a group of its own, or the loops in another order",
                )
            if own is not None:
                called[own] = loop.variable
                depth = number + 1
        order = dict.fromkeys((*member.kept, *member.reduced))
        left = {v: rest.get(called.get(v, ""), extents[v.upper()]) for v in order}
        inner.append(tuple(Loop(called.get(v, v), 1, size) for v, size in left.items()))
        depths.append(depth)
        names.append(called)
    if loops and not any(depths):
        raise ArgumentError(f"no tensor of {group} has the variable {loops[0].variable}")
    placed = Placed(group, tuple(loops), members, tuple(inner), tuple(depths), tuple(names), whole)
    _check_complete(placed)
    return placed


def _check_complete(placed: Placed) -> None:
    """A sum over a loop of the group is read outside that loop alone."""
    sums: dict[str, str] = {}
    inside: dict[str, int] = {}
    for statement, names in zip(placed.statements, placed.names, strict=True):
        for number, loop in enumerate(placed.loops):
            if loop.variable in {names.get(v) for v in statement.reduced}:
                sums.setdefault(statement.tensor, loop.variable)
                inside.setdefault(statement.tensor, number)
    for statement, depth in zip(placed.statements, placed.depths, strict=True):
        for access in statement.reads:
            if depth > inside.get(access.tensor, depth):
                raise ArgumentError(
                    f"{statement.tensor} reads {access.tensor} inside the loop over "
                    f"{sums[access.tensor]}, which {access.tensor} adds up over",
                    span=access.span or statement.einsum.span,
                    hint=f"compute {statement.tensor} in a later group",
                )
