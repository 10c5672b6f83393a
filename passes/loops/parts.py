"""Statements looked through, costed, and rewritten for the coordinates of one part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from ...ir.dtypes import DType
from ...ir.loop_nodes import (
    Apply,
    Begin,
    Collapse,
    Contract,
    Load,
    Loop,
    LoopNest,
    Pack,
    Permute,
    Statement,
)
from ...ir.loops import ArrayAxis, LoopProgram, Scratch, Split
from ...ir.ranks import RankExpr
from .nest import HEAVY
from .tile import size, times

#: Picoseconds, roughly: a step of a contraction and an element copied, per byte; a point of other
#: loops; and each function in it that is long.
_STEP, _COPY, _POINT, _FUNCTION = 5, 25, 100, 500

# ---- what it costs


def work_of(statement: Statement) -> RankExpr:
    """About how many picoseconds a statement takes."""
    if isinstance(statement, LoopNest) and not statement.loops and len(statement.body) == 1:
        return work_of(statement.body[0])
    if isinstance(statement, Contract):
        dtype = statement.value.dtype
        cost = _STEP * dtype.itemsize * (2 if dtype.kind == "complex" else 1)
        names = (*statement.batch, *statement.rows.variables, *statement.columns.variables)
        return times(cost, *map(size, (*names, *statement.depth)))
    if isinstance(statement, Pack):
        names = (*statement.batch, *statement.packed.variables, *statement.depth)
        return times(_COPY * statement.packed.value.dtype.itemsize, *map(size, names))
    if isinstance(statement, Permute):
        return times(_COPY * statement.value.dtype.itemsize, *map(size, statement.loops))
    long = sum(1 for each in each_in(statement, Apply) if each.op in HEAVY)
    stops = dict.fromkeys(
        loop.stop for loop in each_in(statement, Loop) if loop.start == RankExpr()
    )
    plain = [stop for stop in stops if len(stop.terms) + bool(stop.offset) == 1]
    return times(_POINT + _FUNCTION * long, *plain)


def magnitudes(program: LoopProgram, sizes: Mapping[str, int]) -> dict[str, int]:
    """The largest sizes that are thought of, for these hints: up to twice as large."""
    most = {name: 1 << extent.bit_length() for name, extent in sizes.items()}
    for given in program.sizes:
        source = given.source
        if given.name in most or isinstance(source, ArrayAxis):
            continue
        if set(source.sizes()) <= most.keys():
            most[given.name] = source.value(most)
    return most


# ---- what is there


def stem(loop: Loop) -> str:
    """The variable that a loop is over, or over blocks of which it goes."""
    return loop.variable.partition("'")[0]


def reads_what_it_writes(statement: Statement, stored: set[str]) -> bool:
    """Whether a statement loads from one of the buffers that it stores to."""
    return any(load.buffer in stored for load in each_in(statement, Load))


# ---- the nest of one part

#: The fields that hold names of variables.
_VARIABLES = frozenset(("variables", "depth", "batch", "loops", "rows", "columns", "wraps"))

_T = TypeVar("_T")


def each_in(node: Any, kind: type[_T]) -> Iterator[_T]:
    """Every value of that kind in a statement, itself included, in order."""
    stack: list[Any] = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, kind):
            yield here
        if isinstance(here, tuple):
            stack += reversed(cast("tuple[Any, ...]", here))
        elif is_dataclass(here) and not isinstance(here, DType | RankExpr):
            stack += [getattr(here, field.name) for field in reversed(fields(here))]


def rebuilt(node: Any, change: Callable[[Any, dict[str, Any]], None]) -> Any:
    """A statement or value made anew from its parts; `change` alters the new fields of a node."""
    if isinstance(node, tuple):
        return tuple(rebuilt(each, change) for each in cast("tuple[Any, ...]", node))
    if not is_dataclass(node) or isinstance(node, DType | RankExpr):
        return node
    found: Any = node
    changed = {f.name: rebuilt(getattr(found, f.name), change) for f in fields(found)}
    change(found, changed)
    return replace(found, **changed)


def renamed_sizes(scratch: Scratch, splits: Sequence[Split]) -> Scratch:
    """A buffer that is as large as a part asks for."""
    names = {split.rank: split.count for split in splits}
    strides, elements = (
        tuple(e.rename_sizes(lambda name: names.get(name, name)) for e in given)
        for given in (scratch.strides, scratch.elements)
    )
    return replace(scratch, strides=strides, elements=elements)


def in_part(statement: Statement, splits: Sequence[Split]) -> Statement:
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
        if isinstance(node, Begin):
            return replace(node, over=tuple(self._size(rank) for rank in node.over))
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
        if stem(loop) != self.split.variable:
            return loop
        stop, *bounds = (e.rename_sizes(self._size) for e in (loop.stop, *loop.bounds))
        own = loop.variable == self.split.variable
        variable = self.split.own if own else loop.variable
        return replace(loop, variable=variable, stop=stop, bounds=tuple(bounds))
