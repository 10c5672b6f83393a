"""Which inputs a program's output may be: those that are read only where it is written.

    Y[i] = 2 * X[i] + A[i]     # the output may be X itself, or A: nothing reads an element later

Nothing else may be written there. Nor may a program find an input at fault once something is: an
input that is gone cannot be gone through again. Parts that threads share may find no memory; then
the call fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from .loop_nodes import (
    Assign,
    Contract,
    Finish,
    Fold,
    Pack,
    Permute,
    Statement,
    Store,
    Value,
    When,
    loads_of,
    walk,
)
from .loops import LoopProgram
from .ranks import RankExpr


@dataclass(frozen=True, slots=True)
class _Computed:
    """A value, and the element that it is stored to, if it is at once."""

    value: Value
    buffer: str | None = None
    indices: tuple[RankExpr, ...] = ()


def overwritable(program: LoopProgram, sizes: Mapping[str, int]) -> frozenset[str]:
    """The inputs whose memory may be the output's, if it has the same dtype, shape and strides.

    `sizes` are the program's.
    """
    if len(program.outputs) != 1 or program.checks or program.sweeps:
        return frozenset()
    name = program.outputs[0].name
    statements = [s for nest in program.nests for s in walk(nest.body)]
    if any(_writes_twice(s, name, sizes) for s in statements):
        return frozenset()
    computed = [found for statement in statements for found in _computed(statement)]
    if sum(found.buffer == name for found in computed) != 1:
        return frozenset()
    there, elsewhere = set[str](), {name}
    for found in computed:
        for load in loads_of(found.value):
            here = found.buffer == name and load.indices == found.indices and load.fill is None
            (there if here else elsewhere).add(load.buffer)
    return frozenset({buffer.name for buffer in program.inputs} & (there - elsewhere))


def _writes_twice(statement: Statement, name: str, sizes: Mapping[str, int]) -> bool:
    """Whether a statement may write to a buffer before, or not as, it is `_computed`."""
    match statement:
        case Contract(finish=finish):
            folds = finish is not None and finish.buffer == name and finish.op is not None
            depth = prod(sizes.get(v.upper(), statement.deep + 1) for v in statement.depth)
            in_pieces = finish is None or depth > statement.deep
            return folds or (statement.buffer == name and in_pieces)
        case Permute():
            return statement.buffer == name
        case _:
            return False


def _computed(statement: Statement) -> Iterator[_Computed]:
    """What a statement computes."""
    match statement:
        case Store(buffer, indices, value) | Permute(buffer, indices, value):
            yield _Computed(value, buffer, indices)
        case Assign() | When():
            yield _Computed(statement.value)
        case Fold(_, _, value, where):
            yield _Computed(value)
            if where is not None:
                yield _Computed(where)
        case Contract(finish=finish):
            yield _Computed(statement.value)
            if isinstance(finish, Finish):
                yield _Computed(finish.value, finish.buffer, finish.indices)
        case Pack(packed):
            yield _Computed(packed.value)
        case _:
            pass
