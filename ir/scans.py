"""Scans: tensors that are defined along ranks, each coordinate from those before it.

    X[0]   = ...        its starts: a number on the left, below the lag
    X[v+c] = ...        its step, of lag c: extent V+c, for every v in order

Einsums that need one another to advance make one Scan, together with those that do not step
themselves but stand above its last step and read what it makes: at each v they are evaluated in the
order of text. A read of one of its tensors is at `v+d`, where d is no more than what is there by
then; or at a start.

What still needs itself at a coordinate of v makes a Scan inside, along another rank. So a tensor
may step along two ranks at once: its coordinates come in the order of text, the outer rank first.

    D[i+1,j+1] = D[i,j+1] + D[i+1,j]     for each i, for each j; starts D[0,0], D[0,j+1], D[i+1,0]
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from .cascade import Cascade
from .einsum import Access, Einsum, substitute
from .errors import VerifyError
from .ranks import RankExpr


@dataclass(frozen=True, slots=True)
class Scan:
    """What advances together along the rank of `variable`: Einsums, and scans inside."""

    variable: str
    members: tuple[Stage, ...]

    @property
    def rank(self) -> str:
        return self.variable.upper()

    @property
    def einsums(self) -> tuple[Einsum, ...]:
        """Its Einsums, those of the scans inside included, as they are evaluated."""
        return tuple(
            einsum
            for member in self.members
            for einsum in (member.einsums if isinstance(member, Scan) else (member,))
        )


#: What is evaluated one after another.
Stage: TypeAlias = Einsum | Scan


def stages(cascade: Cascade) -> tuple[Stage, ...]:
    """The Einsums in an order in which they can be evaluated, those of a scan as one stage.

    Raises:
        VerifyError: a scan reads ahead, or cannot advance along one rank.
    """
    einsums = cascade.einsums
    if all(einsum.step is None for einsum in einsums):
        return einsums
    return tuple(
        members[0] if len(members) == 1 and members[0].step is None else _scan(members, ())
        for members in _together(einsums, ())
    )


def check_definitions(cascade: Cascade) -> None:
    """Each tensor is defined once, or by the starts and the step of a scan, before it is read.

    Raises:
        VerifyError: it is not; the message says what is there and what is not.
    """
    parts: dict[str, list[Einsum]] = {}
    for einsum in cascade.einsums:
        parts.setdefault(einsum.name, []).append(einsum)
    for einsums in parts.values():
        _check_definition(einsums)
    beside: dict[int, set[int]] = {}
    for stage in stages(cascade):
        if isinstance(stage, Scan):
            members = set(map(id, stage.einsums))
            beside |= dict.fromkeys(members, members)
    made: set[int] = set()
    for einsum in cascade.einsums:
        here = beside.get(id(einsum), ())
        for access in einsum.reads():
            for part in parts.get(access.tensor, ()):
                if not (id(part) in made or id(part) in here) and not _is_elsewhere(part, access):
                    raise VerifyError(
                        f"{access.tensor} is defined only below",
                        span=access.span or einsum.span,
                        hint="put its definition before the first use; what a tensor needs of "
                        "itself is written as a scan: X[0] = ..., X[v+1] = ...",
                    )
        made.add(id(einsum))


def _check_definition(einsums: list[Einsum]) -> None:
    *starts, last = einsums
    if not last.steps:
        stepping = next((e for e in starts if e.steps), None)
        if stepping is not None:
            raise _below(last)
        if starts:
            raise VerifyError(
                f"{last.name} is defined twice",
                span=last.output.span or last.span,
                hint="every tensor is defined once; use a new name",
            )
        if any(index.offset for index in last.left):
            raise VerifyError(
                f"{last.name} has a start and no step",
                span=last.output.span or last.span,
                hint=f"a scan goes on with {last.name}[v+1] = ...",
            )
        return
    if any(len(start.steps) > len(last.steps) for start in starts):
        raise _below(last)
    along = {axis: lag for axis, _, lag in last.steps}
    names = [RankExpr(index.terms).variable for index in last.left]
    steps = "`" + "`, `".join(f"{variable}+{lag}" for _, variable, lag in last.steps) + "`"
    if None in names or len({*names}) < len(names):
        raise VerifyError(
            f"beside {steps}, the indices of {last.name} are variables, each once",
            span=last.output.span or last.span,
            hint="a second variable over the same rank is `ranks N = M`",
        )
    seen: set[tuple[int | None, ...]] = set()
    for start in starts:
        at = _place(start, last)
        if at is None or at in seen:
            ranges = ", ".join(f"0..{lag - 1}" for lag in along.values())
            raise VerifyError(
                f"this does not define a start of {last.name}, which steps by "
                f"{steps.replace('`', '')}",
                span=start.output.span or start.span,
                also=[last.output.span] if last.output.span else (),
                hint=f"it has the starts {ranges} there, each once, the other indices alike",
            )
        seen.add(at)
    # No further than to a start that cannot be there: a step may be by any number.
    choices = [(*range(min(lag, len(starts) + 1)), None) for lag in along.values()]
    for place in itertools.product(*choices):
        if place not in seen and set(place) != {None}:
            raise _no_start(last, place, steps)


def _below(last: Einsum) -> VerifyError:
    return VerifyError(
        f"a start of {last.name} stands below its step", span=last.output.span or last.span
    )


def _no_start(last: Einsum, place: Sequence[int | None], steps: str) -> VerifyError:
    left = list(map(str, last.left))
    for (axis, _, _), at in zip(last.steps, place, strict=True):
        left[axis] = left[axis] if at is None else str(at)
    if len(place) == 1:
        shown, lag = str(place[0]), last.steps[0][2]
        hint = f"a step by {steps.strip('`')} needs the starts 0..{lag - 1}, above it"
    else:
        shown = f"[{','.join(left)}]"
        hint = f"a step by {steps} needs a start wherever one of them is a number, above it"
    return VerifyError(
        f"{last.name} has no start at {shown}", span=last.output.span or last.span, hint=hint
    )


def _place(start: Einsum, last: Einsum) -> tuple[int | None, ...] | None:
    """Where a start lies along each axis that steps, None for the step itself; None: nowhere."""
    if len(start.left) != len(last.left):
        return None
    along = {axis: lag for axis, _, lag in last.steps}
    found: list[int | None] = []
    for axis, (index, own) in enumerate(zip(start.left, last.left, strict=True)):
        if axis not in along:
            if index != own:
                return None
        elif index.constant is not None and index.constant < along[axis]:
            found.append(index.constant)
        elif index == own:
            found.append(None)
        else:
            return None
    return None if set(found) == {None} else tuple(found)


# ---- what advances together


def _together(einsums: Sequence[Einsum], fixed: Collection[str]) -> list[tuple[Einsum, ...]]:
    """The Einsums by what needs one another, each group where its last one stands.

    At a coordinate of the `fixed` variables, what was made at the ones before is there.
    """
    group = _components(einsums, fixed)
    groups: dict[int, list[Einsum]] = {}
    for einsum, number in zip(einsums, group, strict=True):
        groups.setdefault(number, []).append(einsum)
    return [
        tuple(groups[number])
        for einsum, number in zip(einsums, group, strict=True)
        if einsum is groups[number][-1]
    ]


def _components(einsums: Sequence[Einsum], fixed: Collection[str]) -> list[int]:
    """For each Einsum, the number of the strongly connected component of reads that it is in."""
    import networkx  # only scans need it

    makers: dict[str, list[int]] = {}
    for number, einsum in enumerate(einsums):
        makers.setdefault(einsum.name, []).append(number)
    graph: networkx.DiGraph[int] = networkx.DiGraph()
    graph.add_nodes_from(range(len(einsums)))
    for number, einsum in enumerate(einsums):
        for access in einsum.reads():
            for maker in makers.get(access.tensor, ()):
                if _needs(einsums[maker], access, fixed):
                    graph.add_edge(number, maker)
    found = [0] * len(einsums)
    last: list[int] = []
    for label, component in enumerate(networkx.strongly_connected_components(graph)):
        last.append(max(component))
        for number in component:
            found[number] = label
    for number, einsum in enumerate(einsums):
        # What reads a scan above its end cannot wait for it, so it advances with it.
        ends = {found[maker] for maker in graph.successors(number) if last[found[maker]] > number}
        steps = any(variable not in fixed for _, variable, _ in einsum.steps)
        if not steps and last[found[number]] == number and len(ends) == 1:
            found[number] = ends.pop()
    return found


def _needs(maker: Einsum, access: Access, fixed: Collection[str]) -> bool:
    """Whether a read may be of what this Einsum makes at the same coordinate of `fixed`."""
    if _is_elsewhere(maker, access):
        return False
    for variable in fixed:
        axis, lag = axis_of(maker, variable)
        index = access.indices[axis]
        if isinstance(index, RankExpr) and (index.constant is not None or index.offset < lag):
            return False
    return True


def _is_elsewhere(maker: Einsum, access: Access) -> bool:
    """Whether a read surely is not of what this Einsum makes: a start at another coordinate."""
    pairs = zip(access.indices, maker.left, strict=False)
    return any(_apart(index, left) for index, left in pairs if isinstance(index, RankExpr))


def _apart(index: RankExpr, left: RankExpr) -> bool:
    """Whether an index is surely none of those that a left side has along an axis."""
    if left.constant is None:
        return index.constant is not None and index.constant < left.offset
    if index.constant is not None:
        return index.constant != left.constant
    return RankExpr(index.terms).variable is not None and index.offset > left.constant


def _scan(members: tuple[Einsum, ...], fixed: tuple[str, ...]) -> Scan:
    """The scan of Einsums that need one another at each coordinate of the `fixed` variables."""
    steps = [(e, v) for e in members for _, v, _ in e.steps if v not in fixed]
    if not steps:
        first = members[0]
        raise VerifyError(
            f"{', '.join(dict.fromkeys(e.name for e in members))} is defined by itself, "
            "but nothing steps",
            span=first.span,
            hint="a scan has a start, `X[0] = ...`, and a step, `X[v+1] = ...`",
        )
    candidates = tuple(dict.fromkeys(variable for _, variable in steps))
    failures = [_failure(members, variable, fixed) for variable in candidates]
    if None not in failures:
        raise failures[0] or AssertionError
    variable = candidates[failures.index(None)]
    inside = (*fixed, variable)
    return Scan(
        variable, tuple(_member(each, members, inside) for each in _together(members, inside))
    )


def _member(
    group: tuple[Einsum, ...], members: tuple[Einsum, ...], fixed: tuple[str, ...]
) -> Stage:
    """An Einsum, or a scan inside, of a scan; what it needs now of the others is above it."""
    end = next(number for number, each in enumerate(members) if each is group[-1])
    for einsum in group:
        for access, maker in _reads(einsum, members[end + 1 :], fixed):
            raise _ahead(einsum, access, maker, fixed[-1], now=False)
    if len(group) == 1 and not _reads(group[0], group, fixed):
        return group[0]
    if any(variable not in fixed for einsum in group for _, variable, _ in einsum.steps):
        return _scan(group, fixed)
    for number, einsum in enumerate(group):
        for access, maker in _reads(einsum, group[number:], fixed):
            raise _ahead(einsum, access, maker, fixed[-1], now=False)
    raise AssertionError("a circle of Einsums reads ahead")


def _reads(
    einsum: Einsum, makers: Sequence[Einsum], fixed: Collection[str]
) -> list[tuple[Access, Einsum]]:
    """What an Einsum reads of what these make at the same coordinate of `fixed`."""
    return [
        (access, maker)
        for access in einsum.reads()
        for maker in makers
        if maker.name == access.tensor and _needs(maker, access, fixed)
    ]


def _failure(
    members: tuple[Einsum, ...], variable: str, fixed: tuple[str, ...]
) -> VerifyError | None:
    """Why these Einsums cannot advance along a variable; None if they can."""
    first = next(e for e in members if any(v == variable for _, v, _ in e.steps))
    for einsum in members:
        if any(v == variable for _, v, _ in einsum.steps):
            continue
        if RankExpr.of_variable(variable) in einsum.left:
            continue
        other = next((v for _, v, _ in einsum.steps if v not in fixed), None)
        if other is not None:
            return VerifyError(
                f"{first.name} advances along {variable} and {einsum.name} along {other}, "
                "but each needs the other",
                span=einsum.span,
                hint="scans that depend on each other advance along one rank",
            )
        return VerifyError(
            f"{einsum.name} is in the scan along {variable}, but has no index {variable}",
            span=einsum.span,
        )
    for einsum in members:
        for access, maker in _reads(einsum, members, fixed):
            axis, lag = axis_of(maker, variable)
            index = access.indices[axis]
            if isinstance(index, RankExpr):
                if index.constant is not None and index.constant < lag:
                    continue
                if RankExpr(index.terms).variable == variable and index.offset <= lag:
                    continue
            now = members.index(maker) < members.index(einsum)
            return _ahead(einsum, access, maker, variable, now=now)
    return None


def _ahead(
    einsum: Einsum, access: Access, maker: Einsum, variable: str, *, now: bool
) -> VerifyError:
    _, lag = axis_of(maker, variable)
    there = lag if now else lag - 1
    known = f"{variable}{there:+}" if there else variable
    return VerifyError(
        f"{einsum.name} reads {access.tensor} before it is there: at "
        f"{variable}, {access.tensor} is known up to {known}",
        span=access.span or einsum.span,
        deduced=(f"{maker.name} steps by `{maker.name}[{','.join(map(str, maker.left))}]`",),
        hint="a scan reads what came before: it cannot read ahead",
    )


def axis_of(einsum: Einsum, variable: str) -> tuple[int, int]:
    """The axis of a member along which it advances, and its lag: 0 where it does not step."""
    for axis, stepping, lag in einsum.steps:
        if stepping == variable:
            return axis, lag
    return einsum.left.index(RankExpr.of_variable(variable)), 0


def at(einsum: Einsum, places: Mapping[str, str]) -> Einsum:
    """A member of scans where it stands now: their variables are sizes, by name, and so numbers."""
    place = {variable: RankExpr.of_size(name) for variable, name in places.items()}
    return replace(
        einsum,
        output=einsum.output.substitute(place),
        expr=substitute(einsum.expr, place),
        where=None if einsum.where is None else substitute(einsum.where, place),
    )
