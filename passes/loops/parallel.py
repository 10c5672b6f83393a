"""Which nests are shared out among threads, and along which variables.

    nest Y { for i in 0..I, ... { Y[i,j] = ... } }
    -> parallel i by 1 work ... { nest Y { for i'p in 0..I'P, ... { Y[i'p+I'0,j] = ... } } }

A variable may be cut into parts if every store has its coordinate in an index of its own, and the
nest reads nothing that it writes: then no two parts touch the same element, and what is done for an
element does not depend on the parts. Reductions are not cut here.

Parts begin at whole register tiles. A contraction is cut along its batch, rows and columns; each
part packs its own blocks, for waiting at a barrier until another has packed costs more than packing
twice, and without barriers threads that start late, or not at all, hold nobody up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from ...ir.dtypes import DType
from ...ir.loop_nodes import (
    Apply,
    Collapse,
    Contract,
    Load,
    Loop,
    LoopNest,
    Permute,
    Statement,
    Store,
    walk,
)
from ...ir.loops import (
    SHORTEST_PART,
    ArrayAxis,
    LoopProgram,
    Nest,
    Parallel,
    Scratch,
    Split,
    Stage,
    Sweep,
)
from ...ir.ranks import RankExpr
from .nest import HEAVY
from .tile import LANES_EXPR, number, size, times

#: A size that is not known is thought of as large.
_UNKNOWN = 1 << 20

#: The most variables of a nest that are cut.
_MOST = 3

#: Picoseconds, roughly: a step of a contraction and an element copied, per byte; a point of other
#: loops; and each function in it that is long.
_STEP, _COPY, _POINT, _FUNCTION = 5, 25, 100, 500

#: Elements along the rows, and along the columns, of which a part of a copy is a multiple.
_COPIED = 64


def parallel(
    program: LoopProgram, sizes: Mapping[str, int], shortest: int = SHORTEST_PART
) -> LoopProgram:
    """The program, its nests that may be long enough shared out among threads.

    `sizes` are hints: a nest is left alone if it is less than two parts of `shortest` picoseconds
    for sizes up to twice as large each.
    """
    most = {name: 1 << extent.bit_length() for name, extent in sizes.items()}
    for given in program.sizes:
        source = given.source
        if given.name in most or isinstance(source, ArrayAxis):
            continue
        if set(source.sizes()) <= most.keys():
            most[given.name] = source.value(most)
    found = _Sharing(program, most, shortest)
    stages = tuple(made for stage in program.stages for made in found.stage(stage))
    if stages == program.stages:
        return program
    own = {buffer for made in _parallels(stages) for buffer in _names(made.scratch)}
    shared = tuple(buffer for buffer in program.scratch if buffer.name not in own)
    return replace(program, scratch=shared, stages=stages)


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

    def __init__(self, program: LoopProgram, most: Mapping[str, int], shortest: int) -> None:
        self.scratch = {buffer.name: buffer for buffer in program.scratch}
        self.most, self.shortest = most, shortest

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
        if not all(isinstance(s, LoopNest | Contract | Permute) for s in rest):
            return (nest,)
        made = [self._shared(replace(nest, body=(*before, s)), s) for s in rest]
        return tuple(made) if any(isinstance(m, Parallel) for m in made) else (nest,)

    def _shared(self, nest: Nest, statement: Statement) -> Stage:
        """The nest of one statement, shared out if that pays and may be."""
        work = _work(statement)
        known = {name: self.most.get(name, _UNKNOWN) for name in work.sizes()}
        if work.value(known) < 2 * self.shortest:
            return nest
        splits = self._splits(statement)[:_MOST]
        if not splits:
            return nest
        used = {load.buffer for load in _found(statement, Load)}
        if isinstance(statement, Contract | Permute):
            used.add(statement.buffer)
            own = [b for name, b in self.scratch.items() if name not in used]
            named = set(_found(statement, str))
            scratch = tuple(_renamed_sizes(b, splits) for b in own if b.name in named)
        else:
            scratch = ()
        body = tuple(_part(s, splits) for s in nest.body)
        return Parallel(tuple(splits), work, scratch, replace(nest, body=body))

    def _splits(self, statement: Statement) -> list[Split]:
        if isinstance(statement, Contract):
            return self._of_contract(statement)
        if isinstance(statement, Permute):
            return self._of_permute(statement)
        return _of_loops(statement) if isinstance(statement, LoopNest) else []

    def _longest(self, variables: Sequence[str]) -> str:
        return max(variables, key=lambda v: self.most.get(v.upper(), _UNKNOWN))

    def _of_contract(self, found: Contract) -> list[Split]:
        """One variable of the batch, one of the rows, one of the columns: the longest of each."""
        if found.buffer in {load.buffer for load in _found(found, Load)}:
            return []
        stored = {index.steps_by for index in found.indices}
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


def _of_loops(nest: LoopNest) -> list[Split]:
    """The variables of a loop nest that may be cut, outermost first."""
    stores = [s for s in walk((nest,)) if isinstance(s, Store)]
    loads = {load.buffer for load in _found(nest, Load)}
    if not stores or any(store.buffer in loads for store in stores):
        return []
    everywhere = [loop.variable for loop in _found(nest, Loop)]
    used = {v for s in nest.body for expr in _found(s, RankExpr) for v in expr.variables()}
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


# ---- what it costs


def _work(statement: Statement) -> RankExpr:
    """About how many picoseconds a statement takes."""
    if isinstance(statement, Contract):
        dtype = statement.value.dtype
        cost = _STEP * dtype.itemsize * (2 if dtype.kind == "complex" else 1)
        names = (*statement.batch, *statement.rows.variables, *statement.columns.variables)
        return times(cost, *map(size, (*names, *statement.depth)))
    if isinstance(statement, Permute):
        return times(_COPY * statement.value.dtype.itemsize, *map(size, statement.loops))
    long = sum(1 for found in _found(statement, Apply) if found.op in HEAVY)
    stops = dict.fromkeys(loop.stop for loop in _found(statement, Loop) if loop.start == RankExpr())
    plain = [stop for stop in stops if len(stop.terms) + bool(stop.offset) == 1]
    return times(_POINT + _FUNCTION * long, *plain)


# ---- the nest of one part

#: The fields that hold names of variables.
_VARIABLES = frozenset(("variables", "depth", "batch", "loops", "rows", "columns", "wraps"))

_T = TypeVar("_T")


def _found(node: Any, kind: type[_T]) -> Iterator[_T]:
    """Every value of that kind in a statement, itself included."""
    stack: list[Any] = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, kind):
            yield here
        if isinstance(here, tuple):
            stack += here
        elif is_dataclass(here) and not isinstance(here, DType | RankExpr):
            stack += [getattr(here, field.name) for field in fields(here)]


def _renamed_sizes(scratch: Scratch, splits: Sequence[Split]) -> Scratch:
    """A buffer that is as large as a part asks for."""
    names = {split.rank: split.count for split in splits}
    elements = tuple(e.rename_sizes(lambda name: names.get(name, name)) for e in scratch.elements)
    return replace(scratch, elements=elements)


def _part(statement: Statement, splits: Sequence[Split]) -> Statement:
    """The statement for the coordinates of one part."""
    for split in splits:
        statement = _Cut(split).node(statement)
    return statement


class _Cut:
    """Rewrites a statement for a part of one variable's coordinates."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.place = {split.variable: split.whole}

    def node(self, node: Any, name: str = "") -> Any:
        """What stands for a node; `name` is the field that it is in."""
        split = self.split
        if isinstance(node, RankExpr):
            return node.substitute(self.place)
        if isinstance(node, str):
            return split.own if node == split.variable and name in _VARIABLES else node
        if isinstance(node, tuple):
            return tuple(self.node(each, name) for each in cast("tuple[Any, ...]", node))
        if isinstance(node, Loop):
            return self._loop(node)
        if isinstance(node, Collapse):
            outer, inner = (self._size(rank) for rank in (node.outer, node.inner))
            return replace(node, outer=outer, inner=inner)
        if not is_dataclass(node) or isinstance(node, DType):
            return node
        found: Any = node
        changed = {f.name: self.node(getattr(found, f.name), f.name) for f in fields(found)}
        return replace(found, **changed)

    def _size(self, rank: str) -> str:
        return self.split.count if rank == self.split.rank else rank

    def _loop(self, loop: Loop) -> Loop:
        """Loops over the variable, and those over blocks of it, go up to the part's length."""
        if loop.variable.partition("'")[0] != self.split.variable:
            return loop
        stop, *bounds = (e.rename_sizes(self._size) for e in (loop.stop, *loop.bounds))
        own = loop.variable == self.split.variable
        variable = self.split.own if own else loop.variable
        return replace(loop, variable=variable, stop=stop, bounds=tuple(bounds))
