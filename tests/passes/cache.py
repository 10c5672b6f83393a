"""The judge of traffic: the loops of a schedule, run element by element through a cache."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from einloom.ir.cascade import Cascade
from einloom.ir.einsum import Access, Einsum, Expr, Map, Reduce, accesses
from einloom.ir.expr import Coordinate, Literal
from einloom.ir.ranks import RankExpr
from einloom.passes.analysis.traffic_report import TrafficReport

Env = dict[str, int]
Key = tuple[str, tuple[int, ...]]


@dataclass
class Cache:
    """Elements of any sizes; what was used least recently goes, and is written if it changed."""

    room: int
    read: dict[str, int] = field(default_factory=dict[str, int])
    written: dict[str, int] = field(default_factory=dict[str, int])
    lines: OrderedDict[Key, tuple[int, bool]] = field(
        default_factory=OrderedDict[Key, tuple[int, bool]]
    )
    used: int = 0

    def touch(self, key: Key, size: int, *, write: bool, fetch: bool) -> None:
        dirty = False
        if key in self.lines:
            _, dirty = self.lines.pop(key)
            self.used -= size
        elif fetch:
            self.read[key[0]] = self.read.get(key[0], 0) + size
        self.lines[key] = size, dirty or write
        self.used += size
        while self.used > self.room:
            self._evict()

    def flush(self) -> None:
        while self.lines:
            self._evict()

    def _evict(self) -> None:
        key, (size, dirty) = self.lines.popitem(last=False)
        self.used -= size
        if dirty:
            self.written[key[0]] = self.written.get(key[0], 0) + size


def simulate(
    cascade: Cascade, sizes: Mapping[str, int], bytes_of: Mapping[str, int], report: TrafficReport
) -> tuple[dict[str, int], dict[str, int]]:
    """The bytes read and written of each tensor under the groups of a report.

    Each Einsum has at most one reduction, outermost. What a group holds is in the buffer beside the
    cache, as much of it as an iteration of the group's loops touches; what other groups read of it
    is written, once.
    """
    run = _Run(cascade, sizes, bytes_of)
    read: dict[str, int] = {}
    written: dict[str, int] = {}
    for each in report.groups:
        cache = run.group(each.group.tensors, each.group.loops, set(each.held), report.buffer)
        for into, found in ((read, cache.read), (written, cache.written)):
            for tensor, moved in found.items():
                into[tensor] = into.get(tensor, 0) + moved
    return read, written


class _Run:
    def __init__(
        self, cascade: Cascade, sizes: Mapping[str, int], bytes_of: Mapping[str, int]
    ) -> None:
        self.cascade, self.sizes, self.bytes = cascade, sizes, bytes_of
        self.extents = {
            name: tuple(extent.value(sizes) for extent in axes)
            for name, axes in cascade.extents().items()
        }
        self.made: set[Key] = set()

    def group(
        self, tensors: Sequence[str], loops: Sequence[str], held: set[str], buffer: int
    ) -> Cache:
        steps: list[tuple[str, int, int]] = []
        rest: dict[str, int] = {}
        for text in loops:
            variable, _, tile = text.partition("/")
            size = rest.get(variable, self.sizes[variable.upper()])
            step = min(int(tile or 1), size)
            steps.append((variable, step, size))
            rest[variable] = step
        einsums = [e for e in self.cascade.einsums if e.name in tensors]
        scans = {e.name for e in einsums if e.step is not None}
        trace: list[tuple[Key, bool]] = []
        written_inside: set[Key] = set()
        shares: dict[tuple[str, str], int] = {}

        def depth_of(einsum: Einsum) -> int:
            bound = {*einsum.free, *reduced(einsum)}
            inside = [number + 1 for number, step in enumerate(steps) if step[0] in bound]
            return max(inside, default=0)

        def execute(einsum: Einsum, base: Env) -> None:
            order = list(dict.fromkeys((*einsum.free, *reduced(einsum))))
            ranges = [range(rest.get(v, self.sizes[v.upper()])) for v in order]
            here: dict[tuple[str, str], set[Key]] = {}
            for inner in itertools.product(*ranges):
                env = {v: base.get(v, 0) + x for v, x in zip(order, inner, strict=True)}
                if all(env[v] < self.sizes[v.upper()] for v in order) and self.inside(env):
                    for key, write, index in self.point(einsum, env):
                        if key[0] in held:
                            if write:
                                written_inside.add(key)
                            here.setdefault((key[0], index), set()).add(key)
                        else:
                            trace.append((key, write))
            is_start = einsum.name in scans and einsum.step is None
            for name, keys in here.items() if not is_start else ():  # a step has the place for it
                shares[name] = max(shares.get(name, 0), len(keys) * self.bytes[name[0]])

        def walk(depth: int, members: Sequence[Einsum], base: Env) -> None:
            deeper = [e for e in members if depth_of(e) > depth]
            first = members.index(deeper[0]) if deeper else len(members)
            here = [(n, e) for n, e in enumerate(members) if depth_of(e) == depth]
            for _, einsum in here[: sum(n < first for n, _ in here)]:
                execute(einsum, base)
            if deeper:
                variable, step, size = steps[depth]
                for value in range(0, size, step):
                    walk(depth + 1, deeper, {**base, variable: base.get(variable, 0) + value})
            for n, einsum in here:
                if n > first:
                    execute(einsum, base)

        walk(0, einsums, {})
        most = sum(shares.values())
        cache = Cache(buffer - most)
        for key, write in trace:
            fetch = not write or key in self.made
            cache.touch(key, self.bytes[key[0]], write=write, fetch=fetch)
            if write:
                self.made.add(key)
        cache.flush()
        for tensor, _ in self.read_outside(tensors) & written_inside:
            cache.written[tensor] = cache.written.get(tensor, 0) + self.bytes[tensor]
        return cache

    def read_outside(self, tensors: Sequence[str]) -> set[Key]:
        """What the other groups read."""
        found: set[Key] = set()
        for einsum in self.cascade.einsums:
            if einsum.name not in tensors:
                order = dict.fromkeys((*einsum.free, *reduced(einsum)))
                for at in itertools.product(*(range(self.sizes[v.upper()]) for v in order)):
                    env = dict(zip(order, at, strict=True))
                    if self.inside(env):
                        found |= {key for key, _, _ in self.point(einsum, env)}
        return found

    def inside(self, env: Env) -> bool:
        return all(
            self.value(p.coordinate, env) < self.sizes[p.rank]
            for p in self.cascade.partitions
            if all(part.lower() in env for part in p.parts)
        )

    def point(self, einsum: Einsum, env: Env) -> Iterator[tuple[Key, bool, str]]:
        """What a point touches, in order: what it reads, then what it makes; with the index."""
        if einsum.where is None or holds(einsum.where, env):
            for access in accesses(einsum.expr):
                at = [self.index(index, env) for index in access.indices]
                extents = self.extents[access.tensor]
                if all(0 <= x < extent for x, extent in zip(at, extents, strict=True)):
                    yield (access.tensor, tuple(at)), False, ",".join(map(str, access.indices))
        place = tuple(self.value(index, env) for index in einsum.left)
        yield (einsum.name, place), True, ",".join(map(str, einsum.left))

    def index(self, index: RankExpr | Access, env: Env) -> int:
        if isinstance(index, RankExpr):
            return self.value(index, env)
        # What an index tensor holds is anything in range: a hash of its place.
        at = tuple(self.index(inner, env) for inner in index.indices)
        return (sum(at) * 7 + 3) % self.gathered(index.tensor)

    def gathered(self, tensor: str) -> int:
        """The extent of the axis that a tensor's elements index."""
        for einsum in self.cascade.einsums:
            for access in einsum.reads():
                for index, extent in zip(access.indices, self.extents[access.tensor], strict=True):
                    if isinstance(index, Access) and index.tensor == tensor:
                        return extent
        raise KeyError(tensor)

    def value(self, index: RankExpr, env: Env) -> int:
        factors, constant = index.coefficients(self.sizes)
        return constant + sum(factor * env[v] for v, factor in factors.items())


def reduced(einsum: Einsum) -> tuple[str, ...]:
    return einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()


def holds(where: Expr, env: Env) -> bool:
    """Whether a filter `v <= 2` or `v <= w` keeps a point."""
    assert isinstance(where, Map)
    assert where.op == "le"
    low, high = (
        env[arg.name] if isinstance(arg, Coordinate) else arg.value
        for arg in where.args
        if isinstance(arg, Coordinate | Literal)
    )
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low <= high
