"""What a program's sizes decide before it runs.

A kernel is one program for arrays of all shapes, but what is called is bound to one. Where a nest
has code apart for some sizes, it is known then which of the two is taken: the other need not be
compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from ...ir.loop_nodes import Begin, Fold, LoopNest, Past, Special, Statement, Store, walk
from ...ir.loops import LoopProgram, Nest, Parallel, Size, Stage
from ...ir.ranks import RankExpr
from .isa import Isa

#: Ranks, and the sizes of theirs that there is code apart for.
Constants: TypeAlias = tuple[tuple[str, int], ...]


def met(program: LoopProgram, sizes: Mapping[str, int]) -> Constants:
    """Of the sizes that a program has code apart for, those that these sizes are."""
    found: dict[tuple[str, int], None] = {}
    for nest in program.nests:
        for statement in walk(nest.body):
            if isinstance(statement, Special) and all(sizes[r] == n for r, n in statement.sizes):
                found |= dict.fromkeys(statement.sizes)
    return tuple(found)


def settled(program: LoopProgram, constants: Constants) -> LoopProgram:
    """The program for arrays whose sizes meet these alone; nothing in it is there twice for them.

    special I 4, J 4 { ... }  ->  ..., with  size I = 4, size J = 4  if it is met
    """
    known = dict(constants)
    sizes = tuple(
        Size(size.name, RankExpr((), known[size.name])) if size.name in known else size
        for size in program.sizes
    )
    return replace(program, sizes=sizes, stages=tuple(map(_stage, program.stages)))


def filled(program: LoopProgram, isa: Isa) -> Isa:
    """The instruction set with vectors no longer than a settled program fills.

    A row of 4 f32 is a vector of 128 bits. One of 512 would be all but empty, would lie across the
    lines of the caches, and takes a call of 4 x 4 x 4 from 0.10 to 0.11 us.
    """
    sizes = {size.name: size.source for size in program.sizes}
    longest = 0
    for nest in program.nests:
        for statement in walk(nest.body):
            if not isinstance(statement, LoopNest | Begin | Fold | Store):
                return isa
            for loop in statement.loops if isinstance(statement, LoopNest) else ():
                if loop.kind == "vector":
                    size = sizes.get(loop.variable.upper())
                    count = size.constant if isinstance(size, RankExpr) else None
                    if count is None:
                        return isa
                    longest = max(longest, nest.width << (count - 1).bit_length())
    return isa.narrowed(max(longest, 128)) if longest else isa


def _stage(stage: Stage) -> Stage:
    if isinstance(stage, Nest):
        return _nest(stage)
    if isinstance(stage, Parallel):
        return replace(stage, nests=tuple(map(_nest, stage.nests)))
    return replace(stage, stages=tuple(map(_stage, stage.stages)))


def _nest(nest: Nest) -> Nest:
    return replace(nest, body=_body(nest.body))


def _body(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, Special):
            found += statement.body
        elif isinstance(statement, Past):
            found.append(replace(statement, body=_body(statement.body)))
        else:
            found.append(statement)
    return tuple(found)
