"""Scans: tensors that are defined along a rank, each coordinate from those before it.

    X[0]   = ...        its starts: a number on the left, below the lag
    X[v+c] = ...        its step, of lag c: extent V+c, for every v in order

Einsums that need one another to advance make one Scan, together with those that do not step
themselves but stand above its last step and read what it makes: at each v they are evaluated in the
order of text. A read of one of its tensors is at `v+d`, where d is no more than what is there by
then; or at a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from .cascade import Cascade
from .einsum import Access, Einsum, substitute
from .errors import VerifyError
from .ranks import RankExpr


@dataclass(frozen=True, slots=True)
class Scan:
    """Einsums that advance together along the rank of `variable`."""

    variable: str
    members: tuple[Einsum, ...]

    @property
    def rank(self) -> str:
        return self.variable.upper()


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
    group = _components(einsums)
    together: dict[int, list[Einsum]] = {}
    for einsum, number in zip(einsums, group, strict=True):
        together.setdefault(number, []).append(einsum)
    found: list[Stage] = []
    for einsum, number in zip(einsums, group, strict=True):
        members = together[number]
        if len(members) == 1 and einsum.step is None:
            found.append(einsum)
        elif einsum is members[-1]:
            found.append(_scan(tuple(members)))
    return tuple(found)


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
    together: dict[int, frozenset[str]] = {}
    for stage in stages(cascade):
        if isinstance(stage, Scan):
            names = frozenset(einsum.name for einsum in stage.members)
            together |= {id(einsum): names for einsum in stage.members}
    missing = {name: len(einsums) for name, einsums in parts.items()}
    begun: dict[str, set[int]] = {}
    for einsum in cascade.einsums:
        beside = together.get(id(einsum), ())
        for access in einsum.reads():
            name = access.tensor
            if not missing.get(name) or name in beside:
                continue
            if _start(access, parts[name]) not in begun.get(name, ()):
                raise VerifyError(
                    f"{name} is defined only below",
                    span=access.span or einsum.span,
                    hint="put its definition before the first use; what a tensor needs of "
                    "itself is written as a scan: X[0] = ..., X[v+1] = ...",
                )
        step = parts[einsum.name][-1].step
        if step is not None and (at := einsum.left[step[0]].constant) is not None:
            begun.setdefault(einsum.name, set()).add(at)
        missing[einsum.name] -= 1


def _check_definition(einsums: list[Einsum]) -> None:
    *starts, last = einsums
    step = last.step
    if step is None:
        stepping = next((e for e in starts if e.step is not None), None)
        if stepping is not None:
            raise VerifyError(
                f"a start of {last.name} stands below its step", span=last.output.span or last.span
            )
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
    axis, variable, lag = step
    rest = [index for number, index in enumerate(last.left) if number != axis]
    names = [variable, *(index.variable for index in rest)]
    if None in names or len({*names}) < len(names):
        raise VerifyError(
            f"beside `{variable}+{lag}`, the indices of {last.name} are variables, each once",
            span=last.output.span or last.span,
            hint="a second variable over the same rank is `ranks N = M`",
        )
    seen: set[int] = set()
    for start in starts:
        at = start.left[axis].constant if len(start.left) == len(last.left) else None
        others = [index for number, index in enumerate(start.left) if number != axis]
        if at is None or at >= lag or others != rest or at in seen:
            raise VerifyError(
                f"this does not define a start of {last.name}, which steps by {variable}+{lag}",
                span=start.output.span or start.span,
                also=[last.output.span] if last.output.span else (),
                hint=f"it has the starts 0..{lag - 1} there, each once, the other indices alike",
            )
        seen.add(at)
    if len(seen) < lag:
        first = next(n for n in range(lag) if n not in seen)
        raise VerifyError(
            f"{last.name} has no start at {first}",
            span=last.output.span or last.span,
            hint=f"a step by {variable}+{lag} needs the starts 0..{lag - 1}, above it",
        )


def _start(access: Access, parts: list[Einsum]) -> int | None:
    """The coordinate at which a scan's start is read, if it is a number."""
    step = parts[-1].step
    index = access.indices[step[0]] if step is not None else None
    return index.constant if isinstance(index, RankExpr) else None


def _components(einsums: Sequence[Einsum]) -> list[int]:
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
                if not _is_other_start(einsums[maker], access):
                    graph.add_edge(number, maker)
    found = [0] * len(einsums)
    last: list[int] = []
    for label, component in enumerate(networkx.strongly_connected_components(graph)):
        last.append(max(component))
        for number in component:
            found[number] = label
    for number in range(len(einsums)):
        # What reads a scan above its end cannot wait for it, so it advances with it.
        ends = {found[maker] for maker in graph.successors(number) if last[found[maker]] > number}
        if einsums[number].step is None and last[found[number]] == number and len(ends) == 1:
            found[number] = ends.pop()
    return found


def _is_other_start(maker: Einsum, access: Access) -> bool:
    """Whether a read surely is not of what this Einsum makes: a start at another coordinate."""
    for index, left in zip(access.indices, maker.left, strict=False):
        if isinstance(index, RankExpr) and index.constant is not None:
            if left.constant is not None and left.constant != index.constant:
                return True
            if left.constant is None and left.offset > index.constant:
                return True
    return False


def _scan(members: tuple[Einsum, ...]) -> Scan:
    stepping = [einsum for einsum in members if einsum.step is not None]
    if not stepping:
        first = members[0]
        raise VerifyError(
            f"{', '.join(dict.fromkeys(e.name for e in members))} is defined by itself, "
            "but nothing steps",
            span=first.span,
            hint="a scan has a start, `X[0] = ...`, and a step, `X[v+1] = ...`",
        )
    variable = _variable(stepping[0])
    for einsum in members:
        other = _variable(einsum) if einsum.step is not None else None
        if other not in (None, variable):
            raise VerifyError(
                f"{stepping[0].name} advances along {variable} and {einsum.name} along {other}, "
                "but each needs the other",
                span=einsum.span,
                hint="scans that depend on each other advance along one rank",
            )
        if other is None and RankExpr.of_variable(variable) not in einsum.left:
            raise VerifyError(
                f"{einsum.name} is in the scan along {variable}, but has no index {variable}",
                span=einsum.span,
            )
    scan = Scan(variable, members)
    makers: dict[str, list[int]] = {}
    for number, einsum in enumerate(members):
        makers.setdefault(einsum.name, []).append(number)
    for position, einsum in enumerate(members):
        for access in einsum.reads():
            _check_read(scan, position, access, makers.get(access.tensor, ()))
    return scan


def _variable(einsum: Einsum) -> str:
    step = einsum.step
    assert step is not None
    return step[1]


def axis_of(einsum: Einsum, variable: str) -> tuple[int, int]:
    """The axis of a member along which it advances, and its lag: 0 where it does not step."""
    if einsum.step is not None:
        axis, _, lag = einsum.step
        return axis, lag
    return einsum.left.index(RankExpr.of_variable(variable)), 0


def _check_read(scan: Scan, position: int, access: Access, makers: Sequence[int]) -> None:
    """Whether what a member reads is there by then, where these members make it."""
    for number in makers:
        maker = scan.members[number]
        axis, lag = axis_of(maker, scan.variable)
        index = access.indices[axis]
        there = lag if number < position else lag - 1
        if isinstance(index, RankExpr):
            if index.constant is not None and index.constant < lag:
                return
            if RankExpr(index.terms).variable == scan.variable and index.offset <= there:
                return
        known = f"{scan.variable}{there:+}" if there else scan.variable
        raise VerifyError(
            f"{scan.members[position].name} reads {access.tensor} before it is there: at "
            f"{scan.variable}, {access.tensor} is known up to {known}",
            span=access.span or scan.members[position].span,
            deduced=(f"{maker.name} steps by `{maker.name}[{','.join(map(str, maker.left))}]`",),
            hint="a scan reads what came before: it cannot read ahead",
        )


def at(einsum: Einsum, variable: str, name: str) -> Einsum:
    """A member of a scan where it stands now: its variable is the size `name`, a number."""
    place = {variable: RankExpr.of_size(name)}
    return replace(
        einsum,
        output=einsum.output.substitute(place),
        expr=substitute(einsum.expr, place),
        where=None if einsum.where is None else substitute(einsum.where, place),
    )
