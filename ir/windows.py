"""How much of a scanned tensor must be kept: a window of it, where nothing reads the rest.

    S[0] = a,  S[v+1] = f(S[v]),  Y = S[V]      S needs the places v and v+1 alone

A tensor that steps by c then has c+1 places: at v they are those of v, ..., v+c. When all that a
coordinate makes is made, each place takes what is in the next one. A tensor that does not step, and
is read at v alone, has one place. After the last coordinate places 0 to c-1 are those of V, ...,
V+c-1; before the first they are the starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from .cascade import Cascade
from .einsum import Access, Coordinate, Einsum, Expr, rewrite_leaves
from .ranks import RankExpr
from .scans import Scan, axis_of, stages


@dataclass(frozen=True, slots=True)
class Window:
    """Along an axis of a tensor only the places v, ..., v+lag of a scan's variable are kept."""

    axis: int
    variable: str
    lag: int

    def place(self, index: RankExpr, coordinate: str) -> RankExpr:
        """Where an index is found: v+d at d, V+d at d, a start where it is."""
        names = {self.variable.upper(), coordinate}
        if len(index.terms) == 1 and index.terms[0].sizes and set(index.sizes()) <= names:
            return RankExpr((), index.offset)
        return index


def windows(cascade: Cascade) -> dict[str, Window]:
    """The window of every tensor of which no more need be kept."""
    found: dict[str, Window] = {}
    for scan in _scans(cascade):
        members = [member for member in scan.members if isinstance(member, Einsum)]
        for einsum in members:
            others = [variable for _, variable, _ in einsum.steps if variable != scan.variable]
            axis, lag = axis_of(einsum, scan.variable)
            window = Window(axis, scan.variable, lag)
            if not others and _is_enough(einsum, window, scan, cascade):
                found[einsum.name] = window
    return found


def _scans(cascade: Cascade) -> Iterator[Scan]:
    waiting = [stage for stage in stages(cascade) if isinstance(stage, Scan)]
    while waiting:
        scan = waiting.pop()
        yield scan
        waiting += [member for member in scan.members if isinstance(member, Scan)]


def _is_enough(einsum: Einsum, window: Window, scan: Scan, cascade: Cascade) -> bool:
    if einsum.name in cascade.outputs:
        return False
    inside = scan.einsums
    for other in cascade.einsums:
        start = other.name == einsum.name and other is not einsum
        if start and other.left[window.axis].constant is None:
            return False
        for access in other.reads():
            if access.tensor != einsum.name:
                continue
            index = access.indices[window.axis]
            if access.fill is not None or not isinstance(index, RankExpr):
                return False
            last = RankExpr(index.terms).rank == scan.rank and index.offset < window.lag
            now = RankExpr(index.terms).variable == scan.variable
            known = now if other in inside else last or (start and index.constant is not None)
            if not known or index.offset < 0:
                return False
    return True


def narrowed(einsum: Einsum, found: Mapping[str, Window], coordinates: Mapping[str, str]) -> Einsum:
    """An Einsum, at these coordinates of the scans around it, on windows of tensors.

    `coordinates` has the name by which each variable stands as a size.
    """

    def there(access: Access) -> Access:
        indices = [there(i) if isinstance(i, Access) else i for i in access.indices]
        window = found.get(access.tensor)
        if window is not None:
            index = indices[window.axis]
            assert isinstance(index, RankExpr)
            indices[window.axis] = window.place(index, coordinates.get(window.variable, ""))
        return replace(access, indices=tuple(indices))

    def leaf(node: Access | Coordinate) -> Expr:
        return there(node) if isinstance(node, Access) else node

    if einsum.name not in found and not any(a.tensor in found for a in einsum.reads()):
        return einsum
    where = None if einsum.where is None else rewrite_leaves(einsum.where, leaf)
    expr = rewrite_leaves(einsum.expr, leaf)
    return replace(einsum, output=there(einsum.output), expr=expr, where=where)


def shifts(scan: Scan, found: Mapping[str, Window]) -> Iterator[Einsum]:
    """What makes room for the next coordinate, when a coordinate of the scan is done."""
    for einsum in scan.members:
        window = found.get(einsum.name) if isinstance(einsum, Einsum) else None
        if window is None or not isinstance(einsum, Einsum) or window.variable != scan.variable:
            continue
        for place in range(window.lag):
            here, following = (_at(einsum, window, p) for p in (place, place + 1))
            yield Einsum(here, following, span=einsum.span)


def _at(einsum: Einsum, window: Window, place: int) -> Access:
    left = list(einsum.left)
    left[window.axis] = RankExpr((), place)
    return Access(einsum.name, tuple(left))


def kept_extents(
    extents: Mapping[str, tuple[RankExpr, ...]], found: Mapping[str, Window]
) -> dict[str, tuple[RankExpr, ...]]:
    """The extents of what is kept of each tensor."""
    kept = dict(extents)
    for name, window in found.items():
        axes = list(kept[name])
        axes[window.axis] = RankExpr((), window.lag + 1)
        kept[name] = tuple(axes)
    return kept
