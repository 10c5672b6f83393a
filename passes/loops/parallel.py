"""Which nests are shared out among threads, and along which variables.

    nest Y { for i in 0..I, ... { Y[i,j] = ... } }
    -> parallel i by 1 work ... { nest Y { for i'p in 0..I'P, ... { Y[i'p+I'0,j] = ... } } }

A variable may be cut into parts if every store has its coordinate in an index of its own, and the
nest reads nothing that it writes: then no two parts touch the same element, and what is done for an
element does not depend on the parts. Of reductions to few elements, pieces are
shared (pieces.py).

Parts begin at whole register tiles. A contraction is cut along its batch, rows and columns; each
part packs its own blocks, for waiting at a barrier until another has packed costs more than packing
twice, and without barriers threads that start late, or not at all, hold nobody up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from ...ir.loop_nodes import (
    LANES,
    Begin,
    Collapse,
    Contract,
    Load,
    Loop,
    LoopNest,
    Past,
    Permute,
    Special,
    Statement,
    Store,
    walk,
)
from ...ir.loops import (
    ArrayAxis,
    LoopProgram,
    Nest,
    Parallel,
    Scratch,
    Size,
    Split,
    Stage,
    Sweep,
)
from ...ir.ranks import RankExpr
from .parts import each_in, in_part, reads_what_it_writes, renamed_sizes, work_of
from .pieces import Worth, pieces_of
from .tile import LANES_EXPR, number, size, times

#: A size that is not known is thought of as large.
_UNKNOWN = 1 << 20

#: A nest that may be cut into so many parts needs no other.
_ENOUGH = 32

_WORTH = Worth()

#: The most variables of a nest that are cut.
_MOST = 3

#: Elements along the rows, and along the columns, of which a part of a copy is a multiple.
_COPIED = 64


def parallel(program: LoopProgram, sizes: Mapping[str, int], worth: Worth = _WORTH) -> LoopProgram:
    """The program, its nests that may be long enough shared out among threads.

    `sizes` are hints: a nest is left alone if it is less than two parts for sizes up to twice as
    large each.
    """
    most = {name: 1 << extent.bit_length() for name, extent in sizes.items()}
    for given in program.sizes:
        source = given.source
        if given.name in most or isinstance(source, ArrayAxis):
            continue
        if set(source.sizes()) <= most.keys():
            most[given.name] = source.value(most)
    found = _Sharing(program, most, worth)
    stages = tuple(made for stage in program.stages for made in found.stage(stage))
    if stages == program.stages:
        return program
    own = {buffer for made in _parallels(stages) for buffer in _names(made.scratch)}
    shared = tuple(buffer for buffer in program.scratch if buffer.name not in own)
    shared += tuple(found.buffers)
    sizes_now = (*program.sizes, *dict.fromkeys(found.counts))
    return replace(program, sizes=sizes_now, scratch=shared, stages=stages)


def _parallels(stages: Sequence[Stage]) -> Iterator[Parallel]:
    for stage in stages:
        if isinstance(stage, Parallel):
            yield stage
        elif isinstance(stage, Sweep):
            yield from _parallels(stage.stages)


def _names(buffers: Sequence[Scratch]) -> list[str]:
    return [buffer.name for buffer in buffers]


class _Sharing:
    """Shares out the nests of a program; `most` has the largest sizes that are thought of."""

    def __init__(self, program: LoopProgram, most: Mapping[str, int], worth: Worth) -> None:
        self.scratch = {buffer.name: buffer for buffer in program.scratch}
        self.most, self.worth = most, worth
        self.buffers: list[Scratch] = []  # of the reductions that are made in pieces,
        self.counts: list[Size] = []  # and how many pieces there are

    def stage(self, stage: Stage) -> tuple[Stage, ...]:
        """What a stage becomes."""
        if isinstance(stage, Sweep):
            inside = tuple(made for each in stage.stages for made in self.stage(each))
            return (replace(stage, stages=inside),)
        return self._nest(stage) if isinstance(stage, Nest) else (stage,)

    def _nest(self, nest: Nest) -> tuple[Stage, ...]:
        """A nest of its own for each statement, if that lets one of them be shared out."""
        before = tuple(s for s in nest.body if isinstance(s, Collapse))
        rest = nest.body[len(before) :]
        if len(rest) > 1 and isinstance(rest[0], Begin):
            return self._in_pieces(nest) or (nest,)
        if not all(isinstance(_inside(s), LoopNest | Contract | Permute) for s in rest):
            return (nest,)
        nests = [replace(nest, body=(*before, s)) for s in rest]
        made = [m for one, s in zip(nests, rest, strict=True) for m in self._one(one, s)]
        return tuple(made) if any(isinstance(m, Parallel) for m in made) else (nest,)

    def _one(self, nest: Nest, statement: Statement) -> tuple[Stage, ...]:
        """The nest of one statement: shared out, in pieces if else there are few parts."""
        made = self._shared(nest, statement)
        if isinstance(made, Parallel) and self._units(made.splits) >= _ENOUGH:
            return (made,)
        return self._in_pieces(nest) or (made,)

    def _units(self, splits: Sequence[Split]) -> int:
        """How many parts there can be."""
        most = {**self.most, LANES: 16}
        units = [-(-self.most.get(s.rank, _UNKNOWN) // max(s.unit.value(most), 1)) for s in splits]
        return prod(units)

    def _in_pieces(self, nest: Nest) -> tuple[Stage, ...]:
        """The reduction of a nest in pieces; nothing if it is not worth it."""
        made = pieces_of(nest, self.most, self.worth, self.scratch)
        if made is None:
            return ()
        self.buffers.append(made.scratch)
        self.counts.append(made.count)
        return made.parallel, made.together

    def _shared(self, nest: Nest, statement: Statement) -> Stage:
        """The nest of one statement, shared out if that pays and may be."""
        work = work_of(statement)
        known = {name: self.most.get(name, _UNKNOWN) for name in work.sizes()}
        if work.value(known) < 2 * self.worth.shortest:
            return nest
        splits = self._splits(statement)[:_MOST]
        if not splits:
            return nest
        used = {load.buffer for load in each_in(statement, Load)}
        if isinstance(statement, Contract | Permute):
            used |= _written(statement)
            own = [b for name, b in self.scratch.items() if name not in used]
            named = set(each_in(statement, str))
            scratch = tuple(renamed_sizes(b, splits) for b in own if b.name in named)
        else:
            scratch = ()
        body = tuple(in_part(s, splits) for s in nest.body)
        return Parallel(tuple(splits), work, scratch, replace(nest, body=body))

    def _splits(self, statement: Statement) -> list[Split]:
        if isinstance(statement, Contract):
            return self._of_contract(statement)
        if isinstance(statement, Permute):
            return self._of_permute(statement)
        constant = {rank for found in each_in(statement, Special) for rank, _ in found.sizes}
        inside = _inside(statement)
        found = _of_loops(inside) if isinstance(inside, LoopNest) else []
        return [split for split in found if split.rank not in constant]

    def _longest(self, variables: Sequence[str]) -> str:
        return max(variables, key=lambda v: self.most.get(v.upper(), _UNKNOWN))

    def _of_contract(self, found: Contract) -> list[Split]:
        """One variable of the batch, one of the rows, one of the columns: the longest of each."""
        if reads_what_it_writes(found, _written(found)):
            return []
        # An epilogue may fold many sums into one element: parts must not share it.
        last = found if found.finish is None else found.finish
        stored = {index.steps_by for index in last.indices}
        splits: list[Split] = []
        for variables, tile in (
            (found.batch, number(1)),
            (found.rows.variables, number(found.height)),
            (found.columns.variables, times(LANES_EXPR, found.vectors)),
        ):
            free = [v for v in variables if v in stored]
            if free:
                longest = self._longest(free)
                unit = tile if longest == variables[-1] else number(1)
                splits.append(Split(longest, unit))
        return splits

    def _of_permute(self, found: Permute) -> list[Split]:
        """The longest of the variables that blocks do not span, then those that they do."""
        spanned = (found.wraps, found.columns, found.rows)
        rest = [v for v in found.loops if v not in spanned]
        splits = [Split(self._longest(rest), number(1))] if rest else []
        if found.wraps is not None and found.rows == found.columns:
            splits.append(Split(found.wraps, number(1)))
        order = dict.fromkeys((found.columns, found.rows))
        return splits + [Split(v, number(_COPIED)) for v in order]


def _written(statement: Contract | Permute) -> set[str]:
    """The buffers that are not a part's own: what it writes."""
    finish = statement.finish if isinstance(statement, Contract) else None
    return {statement.buffer} | ({finish.buffer} if finish is not None else set[str]())


def _inside(statement: Statement) -> Statement:
    """The loops for which code is written twice; any other statement itself."""
    while isinstance(statement, Past | Special) and len(statement.body) == 1:
        statement = statement.body[0]
    return statement


def _of_loops(nest: LoopNest) -> list[Split]:
    """The variables of a loop nest that may be cut, outermost first."""
    stores = [s for s in walk((nest,)) if isinstance(s, Store)]
    if not stores or reads_what_it_writes(nest, {store.buffer for store in stores}):
        return []
    everywhere = [loop.variable for loop in each_in(nest, Loop)]
    used = {v for s in nest.body for expr in each_in(s, RankExpr) for v in expr.variables()}
    splits: list[Split] = []
    for loop in nest.loops:
        if loop.start != RankExpr() or loop.kind != "serial" or loop.once:
            continue
        chain = _chain(loop, nest.loops)
        variable = chain[-1].variable
        apart = all(any(i.steps_by == variable for i in s.indices) for s in stores)
        if (
            apart
            and loop.stop == size(variable)
            and all(everywhere.count(link.variable) == 1 for link in chain)
            and not used & {link.variable for link in chain[:-1]}
        ):
            splits.append(Split(variable, loop.step))
    return splits


def _chain(loop: Loop, loops: Sequence[Loop]) -> list[Loop]:
    """The loop, that over each of its steps, and so on."""
    chain = [loop]
    while True:
        last = chain[-1].variable
        inner = next((each for each in loops if each.start.variable == last), None)
        if inner is None:
            return chain
        chain.append(inner)
