"""The loop-nest level, page two: what a native kernel is.

    LoopProgram = name, sizes, inputs, outputs, scratch buffers, checks, stages
    stage       = Nest | Parallel | Sweep
    Nest        = the statements that compute one tensor (ir/loop_nodes.py)
    Parallel    = Nests, run one after another on each part of coordinates that threads share
    Sweep       = stages run one after another at each coordinate of a scan

`str(program)` prints a text that `loop_parser.parse_loops` reads back to an equal program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from .dtypes import DType
from .loop_nodes import Statement
from .loop_printer import print_block
from .ranks import Quotient, RankExpr, Term


@dataclass(frozen=True, slots=True)
class ArrayAxis:
    """The extent of one axis of an input or output: `A.0`."""

    buffer: str
    axis: int

    def __str__(self) -> str:
        return f"{self.buffer}.{self.axis}"


@dataclass(frozen=True, slots=True)
class Size:
    """A number given at run time: the extent of an array's axis, or from the sizes before it."""

    name: str
    source: ArrayAxis | RankExpr | Quotient

    def __str__(self) -> str:
        if not isinstance(self.source, Quotient):
            return f"{self.name} = {self.source}"
        dividend, divisor = self.source.dividend, self.source.divisor
        return f"{self.name} = ({dividend}) / ({divisor}) + {self.source.offset}"


@dataclass(frozen=True, slots=True)
class Buffer:
    """An input or output: strides in bytes come at run time, whatever they are.

    `unit` is the axis whose stride is the itemsize (unless its extent is below 2); None if no axis
    promises that.
    """

    name: str
    extents: tuple[RankExpr, ...]
    dtype: DType
    unit: int | None = None

    def __str__(self) -> str:
        unit = "" if self.unit is None else f" unit {self.unit}"
        return f"{self.name}[{','.join(map(str, self.extents))}]: {self.dtype}{unit}"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A buffer of the program's own, of the least of `elements` elements.

    `strides` are in elements, one for each index.
    """

    name: str
    dtype: DType
    strides: tuple[RankExpr, ...]
    elements: tuple[RankExpr, ...]

    @property
    def unit(self) -> int | None:
        """The index that has stride 1."""
        return next((n for n, stride in enumerate(self.strides) if stride.constant == 1), None)

    def __str__(self) -> str:
        strides, elements = (", ".join(map(str, given)) for given in (self.strides, self.elements))
        return f"{self.name}: {self.dtype} strides ({strides}) elements ({elements})"


@dataclass(frozen=True, slots=True)
class Check:
    """At entry: `0 <= index < extent` for all coordinates of the ranks `over`, else status 3."""

    index: RankExpr
    extent: RankExpr
    over: tuple[str, ...]

    def __str__(self) -> str:
        over = f" over {', '.join(self.over)}" if self.over else ""
        return f"0 <= {self.index} < {self.extent}{over}"


@dataclass(frozen=True, slots=True)
class Nest:
    """What computes one tensor; `width` is the bits of the element that Lanes counts."""

    name: str
    width: int
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """The coordinates of `variable` cut into parts, each but the last a multiple of `unit` long.

    In a nest the variable of rank `I` is `i'p`, which counts from the part's first coordinate,
    the size `I'0`, and has the part's length, `I'P`, as its extent. If `each` unit is a part,
    however many threads there are, the part's number is the size `I'N`.
    """

    variable: str
    unit: RankExpr
    each: bool = False

    @property
    def rank(self) -> str:
        """The rank whose coordinates are shared out."""
        return self.variable.upper()

    @property
    def own(self) -> str:
        """The variable inside a part."""
        return self.variable + "'p"

    @property
    def count(self) -> str:
        """The size that is a part's length."""
        return self.rank + "'P"

    @property
    def first(self) -> str:
        """The size that is a part's first coordinate."""
        return self.rank + "'0"

    @property
    def number(self) -> str:
        """The size that is a part's number, where each unit is a part."""
        return self.rank + "'N"

    @property
    def sizes(self) -> tuple[str, ...]:
        """The sizes that a part has of its own."""
        return (self.first, self.count, self.number) if self.each else (self.first, self.count)

    @property
    def whole(self) -> RankExpr:
        """The variable's coordinate, said inside a part."""
        return RankExpr((Term(1, (), self.own), Term(1, (self.first,))))

    def __str__(self) -> str:
        return f"{self.variable} by {self.unit}" + " each" * self.each


@dataclass(frozen=True, slots=True)
class Parallel:
    """Nests that each part, a box of the coordinates of `splits`, runs in order; parts may run at
    the same time.

    No part reads what another writes, and each element is computed by the same operations in the
    same order however many threads there are. `work` is about how many picoseconds all of it takes.
    Each part has buffers `scratch` of its own. Of all splits units are parts each, or of none.
    """

    splits: tuple[Split, ...]
    work: RankExpr
    scratch: tuple[Scratch, ...]
    nests: tuple[Nest, ...]

    @property
    def each(self) -> bool:
        """Whether each unit is a part."""
        return self.splits[0].each


@dataclass(frozen=True, slots=True)
class Sweep:
    """For `coordinate` = 0, 1, ... below `extent`: the stages in order, in which it is a size."""

    coordinate: str
    extent: RankExpr
    stages: tuple[Stage, ...]


Stage: TypeAlias = Nest | Parallel | Sweep


@dataclass(frozen=True, slots=True)
class LoopProgram:
    """A Cascade as loops. Sizes and strides are known only when it runs."""

    name: str
    sizes: tuple[Size, ...]
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    scratch: tuple[Scratch, ...]
    checks: tuple[Check, ...]
    stages: tuple[Stage, ...]

    @property
    def nests(self) -> tuple[Nest, ...]:
        """Every nest, in order of text."""
        return tuple(nest for stage in self.leaves for nest in nests_of(stage))

    @property
    def parallels(self) -> tuple[Parallel, ...]:
        """What is shared out, in order of text."""
        return tuple(stage for stage in self.leaves if isinstance(stage, Parallel))

    @property
    def leaves(self) -> tuple[Nest | Parallel, ...]:
        """Every nest that is not shared out, and what is, in order of text."""
        return tuple(stage for stage in _each(self.stages) if not isinstance(stage, Sweep))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The coordinates of its sweeps, each once."""
        return tuple(dict.fromkeys(sweep.coordinate for sweep in self.sweeps))

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        """Every sweep, in order of text."""
        return tuple(stage for stage in _each(self.stages) if isinstance(stage, Sweep))

    def __str__(self) -> str:
        lines = [f"  size {size}" for size in self.sizes]
        lines += [f"  input {buffer}" for buffer in self.inputs]
        lines += [f"  output {buffer}" for buffer in self.outputs]
        lines += [f"  scratch {scratch}" for scratch in self.scratch]
        lines += [f"  check {check}" for check in self.checks]
        for stage in self.stages:
            lines += _print_stage(stage, 1)
        return "\n".join([f"loops {self.name} {{", *lines, "}"])

    def buffer(self, name: str) -> Buffer | Scratch:
        """The buffer of that name (a KeyError if there is none)."""
        own = [buffer for parallel in self.parallels for buffer in parallel.scratch]
        buffers: tuple[Buffer | Scratch, ...] = (*self.inputs, *self.outputs, *self.scratch, *own)
        for buffer in buffers:
            if buffer.name == name:
                return buffer
        raise KeyError(name)


def nests_of(stage: Nest | Parallel) -> tuple[Nest, ...]:
    """A nest itself, or those that are shared out."""
    return stage.nests if isinstance(stage, Parallel) else (stage,)


def _each(stages: tuple[Stage, ...]) -> Iterator[Stage]:
    """The stages and those inside sweeps, in order of text."""
    for stage in stages:
        yield stage
        if isinstance(stage, Sweep):
            yield from _each(stage.stages)


def _print_stage(stage: Stage, depth: int) -> list[str]:
    margin = "  " * depth
    if isinstance(stage, Nest):
        head = f"{margin}nest {stage.name} width {stage.width} {{"
        return [head, *print_block(stage.body, depth + 1), margin + "}"]
    if isinstance(stage, Parallel):
        head = f"parallel {', '.join(map(str, stage.splits))} work {stage.work}"
        inside = [f"{margin}  scratch {buffer}" for buffer in stage.scratch]
        inside += [line for nest in stage.nests for line in _print_stage(nest, depth + 1)]
        return [f"{margin}{head} {{", *inside, margin + "}"]
    inside = [line for each in stage.stages for line in _print_stage(each, depth + 1)]
    return [f"{margin}sweep {stage.coordinate} below {stage.extent} {{", *inside, margin + "}"]
