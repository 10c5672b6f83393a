"""Nests that follow one another are run block by block of coordinates that all of them have.

    nest E { for i in 0..I, ... { E[i,j] = ... X[i,j] } }
    nest D { for i in 0..I, ... { D[i] = ... E[i,j] } }
    -> parallel i by I'U each work ... {
         scratch E: ... elements (I'P*J)
         nest E { for i'p in 0..I'P, ... { E[i'p,j] = ... X[i'p+I'0,j] } }
         nest D { for i'p in 0..I'P, ... { D[i'p+I'0] = ... E[i'p,j] } }
       }

A rank that no Einsum reduces, shifts or gathers along is gone through once, whatever the others
need (docs/passes.md): what one makes for a coordinate the next reads at that coordinate alone. So
the nests may be run for a few coordinates at a time, so few that what one leaves to the next is
still in a cache, and what nobody else reads is no larger than a block. Blocks are as large as their
bytes allow, whatever the number of threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeAlias, cast

from ...ir.loop_nodes import (
    LANES,
    Collapse,
    Contract,
    Fetch,
    Finish,
    Load,
    LoopNest,
    Permute,
    Special,
    Statement,
    Store,
)
from ...ir.loops import Buffer, LoopProgram, Nest, Parallel, Scratch, Size, Split, Stage, nests_of
from ...ir.ranks import Quotient, RankExpr, Term, affine
from .apart import apart
from .cuts import cuts, inside, workspace
from .lend import lent
from .lower import product
from .merge import merged
from .packs import ahead, may_be_ahead
from .parts import each_in, in_part, magnitudes, rebuilt, renamed_sizes, work_of
from .rowwise import of_a_row, rowwise
from .schedule import Limits
from .tile import minus, number, plus, scaled, size, times

#: What reads or writes an element of a buffer: all have its name and the indices.
_Access: TypeAlias = Load | Store | Fetch | Contract | Finish | Permute

#: A size that is not known is thought of as neither small nor large.
_UNKNOWN = 1 << 10

#: How many elements a vector is thought of as having, where sizes are known before vectors are.
_LANES = 16

#: Picoseconds that it takes to pack a byte, 16 steps of a product (backends/llvm/parallel.py), and
#: that are surely saved where one stays in a cache until it has been read twice: textbook attention
#: of 8 x 2048 x 64 saves twice as much.
_PACKED, _KEPT = 80, 225

#: What nests leave to one another is little if it is such a part of all that they touch.
_LITTLE = 64

#: Beside what is packed for all blocks, and read by each of them, a block has so much less of a
#: level-2 cache.
_SHARES = 6

#: Threads have enough to share if there are so many blocks.
_ENOUGH = 32


def blockwise(program: LoopProgram, sizes: Mapping[str, int], limits: Limits) -> LoopProgram:
    """The program, its nests that had better go block by block made to do so.

    `sizes` are hints: of the whole program, what a cache holds is left alone.
    """
    parted = replace(program, stages=_copies_first(program))
    found = _Blocking(parted, sizes, limits)
    stages = tuple(found.stages())
    if stages == parted.stages:
        return program
    own = {buffer.name for s in stages if isinstance(s, Parallel) for buffer in s.scratch}
    own |= found.lent | {buffer.name for buffer in found.ahead}
    scratch = tuple(buffer for buffer in program.scratch if buffer.name not in own)
    scratch += tuple(found.ahead)
    return replace(program, sizes=(*program.sizes, *found.units), scratch=scratch, stages=stages)


@dataclass(frozen=True, slots=True)
class _Run:
    """Nests that follow one another, and what all of them may be cut along, with units."""

    nests: tuple[Nest, ...]
    splits: Mapping[str, RankExpr]

    def accesses(self) -> Iterator[_Access]:
        """What reads and writes in all of them."""
        for nest in self.nests:
            yield from _accesses(nest)

    def linked(self) -> _Run:
        """Without the nests at its ends that share nothing with the others."""
        nests = self.nests
        while nests and not _reads(nests[-1]) & _written(nests[:-1]):
            nests = nests[:-1]
        while nests and not _written(nests[:1]) & set().union(*map(_reads, nests[1:])):
            nests = nests[1:]
        return replace(self, nests=nests)


def _copies_first(program: LoopProgram) -> tuple[Stage, ...]:
    """The stages; what copies inputs for one of them is a nest of its own, made before all."""
    given, scratch = ({b.name for b in group} for group in (program.inputs, program.scratch))
    first: list[Stage] = []
    rest: list[Stage] = []
    for stage in program.stages:
        if isinstance(stage, Nest):
            ranks = tuple(s for s in stage.body if isinstance(s, Collapse))
            *copies, last = _statements(stage)
            # Without the collapsed ranks: those look at buffers that may become a block's own.
            copying = replace(stage, body=tuple(copies))
            only_copies = _reads(copying) <= given and _written((copying,)) <= scratch
            if copies and only_copies and all(isinstance(s, LoopNest | Permute) for s in copies):
                first.append(copying)
                stage = replace(stage, body=(*ranks, last))
        rest.append(stage)
    return (*first, *rest)


class _Blocking:
    """Finds the runs of a program."""

    def __init__(self, program: LoopProgram, sizes: Mapping[str, int], limits: Limits) -> None:
        self.program, self.sizes, self.limits = program, sizes, limits
        self.most = magnitudes(program, sizes)
        self.scratch = {b.name: b for b in program.scratch}
        self.buffers: dict[str, Buffer | Scratch] = {
            **{b.name: b for b in (*program.inputs, *program.outputs)},
            **self.scratch,
        }
        self.units: list[Size] = []
        self.lent: set[str] = set()  # what is kept in the memory of others,
        self.ahead: list[Scratch] = []  # and what is packed before the blocks

    def stages(self) -> Iterator[Stage]:
        """The program's stages, runs of them as one."""
        stages = self.program.stages
        at = 0
        while at < len(stages):
            run = self._longest(stages[at:])
            made = self._made(run) if run is not None else ()
            if run is None or not made:
                yield stages[at]
                at += 1
            else:
                yield from made
                at += len(run.nests)

    def _longest(self, stages: Sequence[Stage]) -> _Run | None:
        """The longest run that begins with the first stage; None if that goes with no other."""
        run: _Run | None = None
        for stage in stages:
            longer = _joined(run, stage) if isinstance(stage, Nest) else None
            if longer is None or not (_aligned(longer) and self._fits(longer)):
                break
            run = longer
        if run is None:
            return None
        found = run.linked()
        return found if found.nests[:1] == run.nests[:1] and len(found.nests) > 1 else None

    def _fits(self, run: _Run) -> bool:
        """Whether what several nests touch for the smallest block fits a cache."""
        left = self._left(run.nests)
        ranks = {v.upper() for v in run.splits}
        least = self._number(times(*run.splits.values()))
        bytes_ = plus(*(_bytes(buffer, ranks) for buffer in left))
        return least * self._number(bytes_) <= 4 * self.limits.shared

    def _left(self, nests: Sequence[Nest]) -> list[Buffer | Scratch]:
        """What several nests touch."""
        touched = Counter(name for nest in nests for name in {a.buffer for a in _accesses(nest)})
        return [self.buffers[name] for name, count in touched.items() if count > 1]

    def _number(self, expr: RankExpr) -> int:
        """The value for the largest sizes that are thought of."""
        known = {name: self.most.get(name, _UNKNOWN) for name in expr.sizes()}
        return expr.value({**known, LANES: _LANES})

    def _likely(self, expr: RankExpr) -> int:
        """The value for the sizes that are hinted at."""
        known = {name: self.sizes.get(name, _UNKNOWN) for name in expr.sizes()}
        return expr.value({**known, LANES: _LANES})

    def _made(self, run: _Run) -> tuple[Stage, ...]:
        """A run block by block, after what packs for all blocks.

        Nothing if a cache holds all that it leaves from nest to nest, or if that is little.
        """
        local = self._local(run)
        kept = replace(run, nests=self._together(run.nests, local))
        names = dict.fromkeys(access.buffer for access in kept.accesses())
        used = [self.buffers[name] for name in names]
        left, whole = self._bytes_of(self._left(run.nests)), self._bytes_of(used)
        if not local or left <= whole // _LITTLE:
            return ()
        if (parts := self._in_rows(run, local, whole)) is not None:
            return (parts,)
        if left <= self.limits.near:
            return ()
        contracts = [c for nest in run.nests for c in each_in(nest.body, Contract)]
        budget = self.limits.shared if contracts else self.limits.near
        budget = min(budget, whole // _ENOUGH)
        rows = self._rows(run, used, budget)
        if not self._pays(run, local, contracts, rows):
            return ()
        self.lent |= local.keys() - names
        before: tuple[Nest, ...] = ()
        if rows is not None:
            before, kept = self._packed_ahead(kept)
            if before:
                budget //= _SHARES
        splits = self._splits(run, used, budget)
        of_own = {n for nest in kept.nests for s in _statements(nest) for n in workspace(s)}
        of_own |= local.keys() & names
        cut = {name: axes.values() for name, axes in local.items()}
        buffers = [b for name, b in self.scratch.items() if name in of_own]
        own = [renamed_sizes(b, splits) for b in apart(buffers, kept.nests, cut, self._likely)]
        return (*before, _parts(kept.nests, splits, _work(run), own, local))

    def _together(self, nests: Sequence[Nest], local: Collection[str]) -> tuple[Nest, ...]:
        """The nests, as few as they can be, with as little memory of their own."""
        found = merged(nests, self.sizes, self.limits.longest)
        return lent(found, {name: self.scratch[name] for name in local})

    def _in_rows(
        self, run: _Run, local: Mapping[str, Mapping[str, int]], whole: int
    ) -> Parallel | None:
        """A run, of so many bytes, that finishes a row before the next; None: not of these rows."""
        nests = self._together([replace(n, body=_statements(n)) for n in run.nests], local)
        least = self.limits.near_row if whole <= self.limits.shared else self.limits.row
        row = rowwise(nests, run.splits, self._likely, least)
        if row is None:
            return None
        names = dict.fromkeys(access.buffer for access in _accesses(row))
        self.lent |= local.keys() - names
        splits = tuple(Split(variable, number(1)) for variable in reversed([*run.splits]))
        own = [of_a_row(self.scratch[n], axes) for n, axes in local.items() if n in names]
        return _parts((row,), splits, _work(run), own, local)

    def _bytes_of(self, buffers: Iterable[Buffer | Scratch]) -> int:
        """How many bytes they have, for the largest sizes that are thought of."""
        return self._number(plus(*(_bytes(buffer, set()) for buffer in buffers)))

    def _rows(self, run: _Run, used: Sequence[Buffer | Scratch], budget: int) -> int | None:
        """How many coordinates of what is cut last a block is likely to have; None: all."""
        ranks = {v.upper() for v in run.splits}
        variable, tile = tuple(run.splits.items())[-1]
        bytes_ = plus(*(_bytes(b, ranks) for b in used if variable.upper() in _elements(b).sizes()))
        rows = tile.value({LANES: _LANES}) + budget // (self._likely(bytes_) + 1)
        return rows if rows < self.sizes.get(variable.upper(), _UNKNOWN) else None

    def _pays(
        self,
        run: _Run,
        local: Collection[str],
        contracts: Sequence[Contract],
        rows: int | None,
    ) -> bool:
        """Whether packing what each block of rows of a product reads anew costs less than is saved.

        Both are counted for one coordinate of all that is cut.
        """
        if rows is None:
            return True
        ranks = {v.upper() for v in run.splits}
        variable = tuple(run.splits)[-1]
        packed = 0
        for contract in contracts:
            for operand in (contract.rows, contract.columns):
                if variable not in (*operand.variables, *contract.batch):
                    extents = map(size, (*operand.variables, *contract.depth))
                    packed += self._likely(times(operand.value.dtype.itemsize, *extents))
        kept = self._likely(plus(*(_bytes(self.scratch[name], ranks) for name in local)))
        return packed * _PACKED <= kept * _KEPT * rows

    def _packed_ahead(self, run: _Run) -> tuple[tuple[Nest, ...], _Run]:
        """What packs columns once for all blocks, and the run without that."""
        before: list[Nest] = []
        nests: list[Nest] = []
        variable, written = tuple(run.splits)[-1], _written(run.nests)
        for nest in run.nests:
            body = list(nest.body)
            for at, statement in enumerate(body):
                if not isinstance(statement, Contract) or variable in statement.batch:
                    continue
                if may_be_ahead(statement, run.splits, written):
                    tables = self.scratch[statement.offsets], self.scratch[statement.runs]
                    made = ahead(nest.name, nest.width, statement, *tables)
                    body[at] = made.contract
                    before.append(made.nest)
                    self.ahead += made.scratch
            nests.append(replace(nest, body=tuple(body)))
        return tuple(before), replace(run, nests=tuple(nests))

    def _local(self, run: _Run) -> dict[str, dict[str, int]]:
        """What nobody outside the run reads, and which axis each variable that is cut has there."""
        outside = {
            access.buffer
            for stage in self.program.stages
            if stage not in run.nests
            for nest in _nests(stage)
            for access in _accesses(nest)
        }
        inside = (_written(run.nests) & self.scratch.keys()) - outside
        found: dict[str, dict[str, int]] = {}
        for access in run.accesses():
            name = access.buffer
            if name in inside:
                plain = [i.variable if isinstance(i, RankExpr) else None for i in access.indices]
                if set(run.splits) <= set(plain):
                    found[name] = {v: plain.index(v) for v in run.splits}
        return found

    def _splits(
        self, run: _Run, used: Sequence[Buffer | Scratch], budget: int
    ) -> tuple[Split, ...]:
        """What is cut, the innermost first, into units that together have so many bytes."""
        gone = {v.upper() for v in run.splits}
        splits: list[Split] = []
        for variable, tile in reversed(tuple(run.splits.items())):
            rank = variable.upper()
            bytes_ = plus(*(_bytes(b, gone) for b in used if rank in _elements(b).sizes()))
            gone.remove(rank)
            unit = tile.value({LANES: _LANES})
            name = f"{rank}'U"
            while name in {found.name for found in self.units}:
                name += "U"
            divisor = plus(scaled(bytes_, unit), number(1))
            self.units.append(Size(name, Quotient(number(budget), divisor, 1)))
            splits.append(Split(variable, times(tile, RankExpr.of_size(name)), each=True))
        return tuple(splits)


def _work(run: _Run) -> RankExpr:
    """About how many picoseconds a run takes."""
    return plus(*(work_of(s) for nest in run.nests for s in _statements(nest)))


def _parts(
    nests: Sequence[Nest],
    splits: tuple[Split, ...],
    work: RankExpr,
    own: Sequence[Scratch],
    local: Mapping[str, Mapping[str, int]],
) -> Parallel:
    """The nests for parts, of which `own` are the buffers, and `local` what the nests leave to one
    another: which axis each variable has there.
    """
    places = {n: {axes[s.variable]: s for s in splits} for n, axes in local.items()}
    made: list[Nest] = []
    for nest in nests:
        body = (_near(in_part(s, splits), places) for s in _unfetched(nest.body, local))
        made.append(replace(nest, body=tuple(body)))
    return Parallel(splits, work, tuple(own), tuple(made))


def _nests(stage: Stage) -> tuple[Nest, ...]:
    if isinstance(stage, Nest | Parallel):
        return nests_of(stage)
    return tuple(nest for inner in stage.stages for nest in _nests(inner))


def _statements(nest: Nest) -> tuple[Statement, ...]:
    return tuple(s for s in nest.body if not isinstance(s, Collapse))


def _unfetched(body: tuple[Statement, ...], local: Collection[str]) -> Iterator[Statement]:
    """The statements; nothing asks for what the caches hold anyhow."""
    for statement in body:
        if isinstance(statement, LoopNest | Special):
            yield replace(statement, body=tuple(_unfetched(statement.body, local)))
        elif isinstance(statement, Contract):
            yield replace(statement, near=statement.buffer in local)
        elif not (isinstance(statement, Fetch) and statement.buffer in local):
            yield statement


def _joined(run: _Run | None, nest: Nest) -> _Run | None:
    """The run with one more nest; None if there is nothing to cut all of it along."""
    statements = _statements(nest)
    if not all(isinstance(inside(s), LoopNest | Contract | Permute) for s in statements):
        return None
    each = [{s.variable: s.unit for alike in cuts(st) for s in alike} for st in statements]
    if run is not None:
        each.insert(0, dict(run.splits))
    splits = reduce(_both, each)
    return _Run((*(run.nests if run is not None else ()), nest), splits) if splits else None


def _both(one: dict[str, RankExpr], other: dict[str, RankExpr]) -> dict[str, RankExpr]:
    """The variables that both have, with the larger units."""
    known = {LANES: _LANES}
    return {
        v: max(unit, other[v], key=lambda e: e.value(known))
        for v, unit in one.items()
        if v in other
    }


def _aligned(run: _Run) -> bool:
    """Whether what is written is read at its own coordinates alone, of those that are cut."""
    written, axes = _written(run.nests), dict[tuple[str, str], int]()
    counts = Counter(access.buffer for access in run.accesses())
    for access in run.accesses():
        if access.buffer not in written or counts[access.buffer] == 1:
            continue
        affines = [i if isinstance(i, RankExpr) else None for i in access.indices]
        for variable in run.splits:
            found = [a for a, i in enumerate(affines) if i is None or variable in i.variables()]
            if len(found) != 1 or (i := affines[found[0]]) is None or i.variable != variable:
                return False
            if axes.setdefault((access.buffer, variable), found[0]) != found[0]:
                return False
    return True


def _accesses(nest: Nest) -> Iterator[_Access]:
    return (node for node in each_in(nest.body, object) if isinstance(node, _Access))


def _reads(nest: Nest) -> set[str]:
    return {load.buffer for load in each_in(nest.body, Load)}


def _written(nests: Sequence[Nest]) -> set[str]:
    found = (access for nest in nests for access in _accesses(nest))
    return {access.buffer for access in found if not isinstance(access, Load)}


def _elements(buffer: Buffer | Scratch) -> RankExpr:
    """How many elements a buffer has."""
    return buffer.elements[0] if isinstance(buffer, Scratch) else product(buffer.extents)


def _bytes(buffer: Buffer | Scratch, gone: set[str]) -> RankExpr:
    """How many bytes a buffer has, at one coordinate of each of these ranks."""
    elements = _elements(buffer)
    terms = [
        Term(
            t.coefficient * _LANES ** t.sizes.count(LANES),
            tuple(rank for rank in t.sizes if rank not in (*gone, LANES)),
        )
        for t in elements.terms
    ]
    return scaled(affine(terms, elements.offset), buffer.dtype.itemsize)


def _near(statement: Statement, places: Mapping[str, Mapping[int, Split]]) -> Statement:
    """The statement, in which buffers of the part's own begin with the part."""

    def change(node: object, changed: dict[str, Any]) -> None:
        if isinstance(node, _Access) and node.buffer in places:
            axes = places[node.buffer]
            changed["indices"] = tuple(
                minus(index, size(axes[axis].first)) if axis in axes else index
                for axis, index in enumerate(changed["indices"])
            )

    return cast("Statement", rebuilt(statement, change))
