"""Which nests are shared out among threads, and along which variables.

    nest Y { for i in 0..I, ... { Y[i,j] = ... } }
    -> parallel i by 1 work ... { nest Y { for i'p in 0..I'P, ... { Y[i'p+I'0,j] = ... } } }

Which variables may be cut is in cuts.py. Of reductions to few elements, pieces are shared
(pieces.py).

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
    LoopNest,
    Pack,
    Permute,
    Statement,
)
from ...ir.loops import (
    LoopProgram,
    Nest,
    Parallel,
    Scratch,
    Size,
    Split,
    Stage,
    Sweep,
)
from .cuts import MOST_CUT, cuts, inside, workspace
from .parts import in_part, magnitudes, renamed_sizes, work_of
from .pieces import Worth, pieces_of

#: A size that is not known is thought of as large.
_UNKNOWN = 1 << 20

#: A nest that may be cut into so many parts needs no other.
_ENOUGH = 32

_WORTH = Worth()


def parallel(program: LoopProgram, sizes: Mapping[str, int], worth: Worth = _WORTH) -> LoopProgram:
    """The program, its nests that may be long enough shared out among threads.

    `sizes` are hints: a nest is left alone if it is less than two parts for sizes up to twice as
    large each.
    """
    found = _Sharing(program, magnitudes(program, sizes), worth)
    stages = tuple(made for stage in program.stages for made in found.stage(stage))
    if stages == program.stages:
        return program
    own = {buffer for made in _parallels(stages) for buffer in _names(made.scratch)}
    shared = tuple(buffer for buffer in program.scratch if buffer.name not in own)
    shared += tuple(found.buffers)
    # Pieces that are there already may be as long.
    sizes_now = tuple(dict.fromkeys((*program.sizes, *found.counts)))
    return replace(program, sizes=sizes_now, scratch=shared, stages=stages)


def _parallels(stages: Sequence[Stage]) -> Iterator[Parallel]:
    for stage in stages:
        if isinstance(stage, Parallel):
            yield stage
        elif isinstance(stage, Sweep):
            yield from _parallels(stage.stages)


def _names(buffers: Sequence[Scratch]) -> list[str]:
    return [buffer.name for buffer in buffers]


def _decided(statement: Statement) -> Statement:
    """The statement, quotients divided as they are packed: whether sums of them may be is seen for
    all rows at once, and would be for each part, which are others for each number of threads.
    """
    if isinstance(statement, Contract) and statement.divisor is not None:
        return replace(statement, rows=replace(statement.rows, lying=False))
    return statement


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
        if not all(isinstance(inside(s), LoopNest | Contract | Pack | Permute) for s in rest):
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
        splits = self._splits(statement)[:MOST_CUT]
        if not splits:
            return nest
        own = workspace(statement)
        scratch = tuple(renamed_sizes(b, splits) for n, b in self.scratch.items() if n in own)
        body = tuple(in_part(_decided(s), splits) for s in nest.body)
        return Parallel(tuple(splits), work, scratch, (replace(nest, body=body),))

    def _splits(self, statement: Statement) -> list[Split]:
        """Of variables that are alike the longest."""
        return [
            max(alike, key=lambda split: self.most.get(split.rank, _UNKNOWN))
            for alike in cuts(statement)
        ]
