"""How many bytes a Cascade moves between memory and a buffer, under a schedule.

The model: an ideal buffer, fully associative, that evicts what was used least recently, element by
element; it is empty when a group of Einsums begins. A tensor's tile at a loop is what the loops
inside touch of it, its *footprint*; where the footprints of all tensors that lie between two
touches of an element fit, the second touch is free (reuse.py). An output is written once for each
time that it leaves the buffer, and read again where it comes back before it is complete. What only
its own group reads is held in the buffer and moves nothing, if what an iteration of the group's
loops needs of it fits; of a scan that is read at its end from outside, that end is written.

What is exact: `read` and `written` are bounds that hold for such a buffer, so where the two are one
number it is the right one. It is where every index is a variable, a sum without gaps or a
partition's coordinate, each tensor is read at one index, tiles divide their ranks, and what lies
between two touches of an element clearly fits or clearly does not. Filters, fills, gathers and
tiles that are cut short leave the lower bound at 0; several indices of one tensor, and fused
Einsums whose tiles do not fit, leave the bounds wide. Not modelled: lines longer than an element,
associativity, reuse between groups, and the zeros off a diagonal output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ...ir.cascade import Cascade
from ...ir.einsum import Access
from ...ir.errors import ArgumentError
from ...ir.infer import known_dtypes
from ...ir.ranks import RankExpr
from .cost import Extents
from .families import Ranks
from .fusion import Group, Placed, by_passes, one_by_one, place
from .reuse import Bounds, Inner, Touch, misses
from .statements import Statement, groups
from .traffic_report import GroupTraffic, Moved, TrafficReport

#: "unfused", "fused", "fused{rank=m, tile=64}", or groups in order.
Schedule: TypeAlias = str | Sequence[Group]


def traffic(
    cascade: Cascade, sizes: Mapping[str, int], schedule: Schedule, buffer: int
) -> TrafficReport:
    """The bytes moved through a buffer of so many bytes, for these extents of ranks."""
    check_buffer(buffer)
    model = _Model(cascade, sizes, buffer)
    return TrafficReport(cascade.name, buffer, model.groups(schedule))


def check_buffer(buffer: int) -> None:
    """Raises an ArgumentError if it is no size of a buffer."""
    if type(buffer) is not int or buffer < 1:
        raise ArgumentError(f"a buffer has a number of bytes from 1 on, not {buffer!r}")


class _Model:
    def __init__(self, cascade: Cascade, sizes: Mapping[str, int], buffer: int) -> None:
        self.cascade, self.buffer = cascade, buffer
        self.extents = _extents(cascade, sizes)
        self.ranks = Ranks(cascade)
        self.statements = [s for each in groups(cascade, self.ranks) for s in each.statements]
        self.bytes = _element_bytes(cascade, self.statements)
        self.uneven = any(
            self.extents[p.rank] % max(_product(self.extents[x] for x in p.parts[1:]), 1)
            for p in cascade.partitions
        )

    def groups(self, schedule: Schedule) -> tuple[GroupTraffic, ...]:
        plan = self._plan(schedule)
        home: dict[str, int] = {}
        for number, group in enumerate(plan):
            for tensor in group.tensors:
                if home.setdefault(tensor, number) != number:
                    raise ArgumentError(f"the schedule computes {tensor} twice")
        missing = [s.tensor for s in self.statements if s.tensor not in home]
        if missing:
            raise ArgumentError(
                f"the schedule does not compute {', '.join(dict.fromkeys(missing))}",
                hint="each tensor that the outputs need is in one group",
            )
        self._check_order(home)
        starts = [s for s in self.statements if s.is_start]
        found: list[GroupTraffic] = []
        for group in plan:
            body = [s for s in self.statements if not s.is_start]
            placed = place(group, body, self.ranks, self.extents)
            begun = [s for s in starts if s.tensor in group.tensors]
            found.append(self._moved(placed, begun))
        return tuple(found)

    def _plan(self, schedule: Schedule) -> Sequence[Group]:
        if isinstance(schedule, str):
            if schedule == "unfused":
                return one_by_one(self.statements)
            found = re.fullmatch(
                r"fused(\{rank=(?P<rank>\w+)(, *tile=(?P<tile>[1-9]\d*))?\})?", schedule
            )
            if found is None:
                raise ArgumentError(
                    f"no schedule is called {schedule!r}",
                    hint='"unfused", "fused", "fused{rank=m, tile=64}", or a list of el.Group',
                )
            rank, tile = found["rank"], found["tile"]
            return by_passes(
                self.cascade,
                self.statements,
                self.ranks,
                self.extents,
                None if rank is None else rank.upper(),
                None if tile is None else int(tile),
            )
        return schedule

    def _check_order(self, home: Mapping[str, int]) -> None:
        for statement in self.statements:
            for access in statement.reads:
                if home.get(access.tensor, -1) > home[statement.tensor]:
                    raise ArgumentError(
                        f"the schedule computes {statement.tensor} before {access.tensor}, "
                        "which it reads",
                        span=access.span,
                    )

    # ---- one group

    def _moved(self, placed: Placed, starts: Sequence[Statement]) -> GroupTraffic:
        nests = [self._nest(placed, number) for number in range(len(placed.statements))]
        held, ends = self._held(placed)
        size = sum(
            t.elements(nest.loops)[1] * t.bytes
            for t, nest in {t: nest for nest in nests for t in nest.touches}.items()
            if t.tensor in held
        )
        others = {t for nest in nests for t in nest.touches if t.tensor not in held}
        if size + sum(t.bytes for t in others) > self.buffer:
            held, ends, size = set[str](), dict[str, Access](), 0
        kept = [
            replace(nest, touches=tuple(t for t in nest.touches if t.tensor not in held))
            for nest in nests
        ]
        found = misses(placed.loops, kept, self.buffer - size)
        made = {s.tensor for s in placed.statements}
        moved = [
            self._of_tensor(tensor, bounds, placed, kept, made) for tensor, bounds in found.items()
        ]
        moved += [self._written(t, access) for t, access in ends.items()]
        moved += [self._start(s) for s in starts if s.tensor not in held]
        return GroupTraffic(
            placed.group,
            tuple(moved),
            tuple(s.tensor for s in placed.statements if s.tensor in held),
        )

    def _of_tensor(
        self, tensor: str, count: Bounds, placed: Placed, nests: Sequence[Inner], made: set[str]
    ) -> Moved:
        size = self.bytes[tensor]
        low, high = count
        if tensor not in made:
            return Moved(tensor, (low * size, high * size), (0, 0))
        touches = {t: nest for nest in nests for t in nest.touches if t.tensor == tensor}
        outputs = {self._touch(s.tensor, s.left, s, placed, n): nests[n]
                   for n, s in enumerate(placed.statements) if s.tensor == tensor}  # fmt: skip
        each = [
            t.elements((*placed.loops[: nest.depth], *nest.loops)) for t, nest in outputs.items()
        ]
        least, most = (sum(pair[end] for pair in each) for end in (0, 1))
        alone = len(touches) == len(outputs) == 1
        written = (low if alone else least, high)
        read = (max(low - most, 0), max(high - least, 0))
        return Moved(tensor, _times(read, size), _times(written, size))

    def _held(self, placed: Placed) -> tuple[set[str], dict[str, Access]]:
        """What the group alone reads, and what others read of it at the end of a scan."""
        members = {s.tensor for s in placed.statements}
        if len(placed.statements) < 2:
            return set(), {}
        inside = members - set(self.cascade.outputs)
        ends: dict[str, Access] = {}
        for statement in self.statements:
            if statement.tensor in members:
                continue
            for access in statement.reads:
                if access.tensor not in inside:
                    continue
                if self._is_end(access, placed):
                    ends[access.tensor] = access
                else:
                    inside.discard(access.tensor)
        return inside, {t: access for t, access in ends.items() if t in inside}

    def _is_end(self, access: Access, placed: Placed) -> bool:
        steps = [s.einsum.step for s in placed.statements if s.tensor == access.tensor]
        if len(steps) != 1 or steps[0] is None:
            return False
        axis, variable, _ = steps[0]
        index = access.indices[axis]
        walked = dict(zip(placed.group.tensors, placed.names, strict=False)).get(access.tensor, {})
        along = variable in walked or variable in {loop.variable for loop in placed.loops}
        return along and isinstance(index, RankExpr) and not any(True for _ in index.variables())

    def _written(self, tensor: str, access: Access) -> Moved:
        count = 1
        for index in access.indices:
            for variable in dict.fromkeys(index.variables()):
                count *= self.extents[variable.upper()]
        size = count * self.bytes[tensor]
        return Moved(tensor, (0, 0), (size, size))

    def _start(self, statement: Statement) -> Moved:
        count = _product(self.extents[v.upper()] for v in statement.kept)
        size = count * self.bytes[statement.tensor]
        return Moved(statement.tensor, (0, 0), (size, size))

    # ---- touches

    def _nest(self, placed: Placed, number: int) -> Inner:
        statement = placed.statements[number]
        touches = [
            self._touch(access.tensor, access.indices, statement, placed, number, access)
            for access in statement.reads
        ]
        touches.append(self._touch(statement.tensor, statement.left, statement, placed, number))
        return Inner(placed.inner[number], tuple(dict.fromkeys(touches)), placed.depths[number])

    def _touch(
        self,
        tensor: str,
        indices: Sequence[RankExpr | Access],
        statement: Statement,
        placed: Placed,
        number: int,
        access: Access | None = None,
    ) -> Touch:
        names = placed.names[number]
        axes: list[tuple[tuple[tuple[str, int], ...], int] | None] = []
        for index in indices:
            if isinstance(index, Access):
                axes.append(None)
                continue
            factors, constant = index.coefficients(self.extents)
            named = sorted((names.get(v, v), factor) for v, factor in factors.items() if factor)
            axes.append((tuple(named), constant))
        certain = placed.whole and not self.uneven
        if access is not None:
            certain = certain and access.fill is None and statement.einsum.where is None
        return Touch(tensor, tuple(axes), self.bytes[tensor], certain)


def _extents(cascade: Cascade, sizes: Mapping[str, int]) -> dict[str, int]:
    names = {rank.name for rank in cascade.ranks}
    for name, size in sizes.items():
        if name not in names:
            raise ArgumentError(
                f"{cascade.name} has no rank {name}",
                deduced=(f"ranks: {', '.join(sorted(names))}",),
            )
        if type(size) is not int or size < 0:
            raise ArgumentError(f"the extent of rank {name} is a number from 0 on, not {size!r}")
    known = Extents(cascade, sizes)
    found: dict[str, int] = {}
    for rank in cascade.ranks:
        number = known.rank(rank.name).number
        if number is not None:
            found[rank.name] = number
    for partition in cascade.partitions:
        inner = [found.get(part) for part in partition.parts[1:]]
        if partition.rank in found and all(inner):
            found[partition.parts[0]] = partition.outer_shape.value(found)
    missing = [rank.name for rank in cascade.ranks if rank.name not in found]
    if missing:
        raise ArgumentError(
            f"the extent of rank {missing[0]} is not known",
            deduced=tuple(f"{name} = {size}" for name, size in found.items()),
            hint=f"give it: {missing[0]}=64",
        )
    return found


def _element_bytes(cascade: Cascade, statements: Sequence[Statement]) -> dict[str, int]:
    dtypes = known_dtypes(cascade)
    found = {name: dtype.itemsize for name, dtype in dtypes.items()}
    for decl in cascade.inputs:
        if decl.name not in found:
            raise ArgumentError(
                f"the dtype of {decl.name} is not declared, so its bytes are not known",
                span=decl.span,
                hint=f"declare it: {decl}: f32",
            )
    for statement in statements:  # a reduction inside an Einsum is of the Einsum's dtype
        found.setdefault(statement.tensor, found[statement.einsum.name])
    return found


def _product(values: Any) -> int:
    result = 1
    for value in values:
        result *= value
    return result


def _times(pair: Bounds, factor: int) -> Bounds:
    return pair[0] * factor, pair[1] * factor
