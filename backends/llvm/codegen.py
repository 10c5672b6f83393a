"""LoopProgram -> LLVM IR text.

    define i32 @packed_einloom_NAME(ptr %params, ptr %data)

`params` is an array of i64: the size of each of `program.sizes` in order, then the byte strides of
each input's axes, then those of each output's. `data` is an array of pointers: inputs, outputs.
The function returns 0 when done, 1 where an axis that was promised unit stride has another (nothing
is written), 2 out of memory, 3 where an index is out of range. It keeps no state: any number of
threads may be in it. Where threads may share the work there is another entry,

    define i32 @packed_einloom_NAME_team(ptr %params, ptr %data, ptr %team)

with the team that does it (pool.py); through the first one the calling thread does all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...ir.loops import LoopProgram, Nest, Parallel, Stage, Sweep, nests_of
from ...ir.ranks import RankExpr
from .builder import Builder
from .index import Indices, Tables
from .isa import Isa
from .nest import NestWriter
from .parallel import shared
from .past import goes_past
from .scratch import allocate
from .simd import Simd
from .survey import lanes_of


def entry_name(program: LoopProgram) -> str:
    """The name of the function that is called: none of C's, whatever the program's name is."""
    return f"packed_einloom_{program.name}"


def team_entry_name(program: LoopProgram) -> str:
    """The name of the function that is called with a team, if there is anything to share."""
    return f"{entry_name(program)}_team"


def generate(program: LoopProgram, isa: Isa, bound: bool = False) -> str:
    """The program's LLVM IR, for vectors of 512, 256 or 128 bits.

    `bound`: it is run on arrays only of which it is known that what is promised of their strides
    is so and that each output has an element; the code does not ask.
    """
    declared: dict[str, str] = {}
    functions: list[str] = []
    tables = Tables(program, bound)
    alone = bound and _is_one_nest(program)
    for number, stage in enumerate(program.leaves):
        name, nests = f"{entry_name(program)}.{number}", nests_of(stage)
        names = [f"{name}.{nest}" for nest in range(len(nests))] if len(nests) > 1 else [name]
        for own, nest in zip(names, nests, strict=True):
            lines = NestWriter(tables, nest, isa, declared).body()
            if goes_past((nest,)) and not isinstance(stage, Parallel):
                lines.insert(-1, "  fence seq_cst")
            head = f"define internal i32 @{own}(ptr %params, ptr %data, ptr %scratch)"
            if alone:
                head = f"define i32 @{entry_name(program)}(ptr %params, ptr %data)"
            functions.append("\n".join([f"; {nest.name}", f"{head} #0 {{", *lines, "}"]))
        if isinstance(stage, Parallel):
            functions.append(shared(name, names, program, stage, tables, isa, declared))
    if not alone:
        functions.append(_entry(program, tables, isa, declared, bound))
    attributes = f'nounwind "prefer-vector-width"="{isa.bits}"'
    functions.append(f"attributes #0 = {{ {attributes} }}")
    if program.parallels:  # of what runs once for a long part (parallel.py)
        functions.append(f"attributes #1 = {{ {attributes} noinline optnone }}")
    return "\n\n".join([*declared.values(), *functions]) + "\n"


def _is_one_nest(program: LoopProgram) -> bool:
    """Whether there is nothing to do around the one nest."""
    nest = len(program.stages) == 1 and isinstance(program.stages[0], Nest)
    return nest and not (program.checks or program.scratch)


def _entry(
    program: LoopProgram, tables: Tables, isa: Isa, declared: dict[str, str], bound: bool
) -> str:
    """The function that is called: guards, checks, scratch memory, then each nest."""
    b = Builder()
    simd = Simd(b, isa, declared)
    indices = Indices(simd, tables, 1)
    if not bound:
        _guard(program, b, indices)
    for check in program.checks:
        _check(b, indices, check.index, check.extent, check.over)
    if not bound:
        _leave_if_empty(program, b, indices)
    table = "null"
    if program.scratch:
        table = b.pure(f"alloca [{len(program.scratch)} x ptr], align 8")
    lanes = max((lanes_of(nest, isa) for nest in program.nests), default=0)
    memory, failed = allocate(simd, indices, program.scratch, lanes, table)
    params = _with_coordinates(program, b, indices)
    places = {
        sweep.coordinate: (
            indices.number(sweep.extent),
            b.gep(params, str(8 * tables.size_numbers[sweep.coordinate])),
        )
        for sweep in program.sweeps
    }
    flow = _Flow(program, f"ptr {params}, ptr %data, ptr {table}", places)
    flow.sources = [] if failed == "false" else [f"[2, %{b.scopes[0].label}]"]
    first = "br label %stage0"
    if failed != "false":
        first = f"br i1 {failed}, label %end, label %stage0"
    lines = ["entry:", *b.scopes[0].lines, f"  {first}"]
    flow.stages("stage", program.stages, "end")
    lines += [*flow.lines, "end:", f"  %status = phi i32 {', '.join(flow.sources)}"]
    if memory:
        declared["free"] = "declare void @free(ptr)"
    lines += [f"  call void @free(ptr {block})" for block in memory]
    lines += ["  ret i32 %status", "}"]
    name, team = entry_name(program), team_entry_name(program)
    if not program.parallels:
        return "\n".join([f"define i32 @{name}(ptr %params, ptr %data) #0 {{", *lines])
    alone = [
        f"define i32 @{name}(ptr %params, ptr %data) #0 {{",
        f"  %status = call i32 @{team}(ptr %params, ptr %data, ptr null)",
        "  ret i32 %status",
        "}",
    ]
    head = f"define i32 @{team}(ptr %params, ptr %data, ptr %team) #0 {{"
    return "\n".join([head, *lines, "", *alone])


def _with_coordinates(program: LoopProgram, b: Builder, indices: Indices) -> str:
    """What the nests get as their parameters: a copy with room for coordinates, if there are any.

    The caller's own are shared by all threads.
    """
    given, more = indices.tables.given, len(program.coordinates)
    if not more:
        return "%params"
    copy = b.pure(f"alloca [{given + more} x i64], align 8")
    for number in range(given):
        value = indices.parameter(number)
        b.do(f"store i64 {value}, ptr {b.gep(copy, str(8 * number))}, align 8")
    return copy


class _Flow:
    """The blocks that call nests one after another, until one gives a status that is not 0.

    `places` has, for each sweep's coordinate, its limit and where it stands while nests are called.
    """

    def __init__(
        self, program: LoopProgram, arguments: str, places: Mapping[str, tuple[str, str]]
    ) -> None:
        self.name = entry_name(program)
        self.arguments = arguments
        self.places = places
        self.lines: list[str] = []
        self.sources: list[str] = []  # the status with which each block goes to the end
        self._calls = 0

    def stages(self, label: str, stages: Sequence[Stage], after: str) -> None:
        """Stages in order, at `label` and a number; then on to `after`."""
        for number, stage in enumerate(stages):
            then = f"{label}{number + 1}" if number + 1 < len(stages) else after
            if isinstance(stage, Sweep):
                self._sweep(f"{label}{number}", stage, then)
            else:
                self._nest(f"{label}{number}", then, isinstance(stage, Parallel))

    def _nest(self, label: str, after: str, shared: bool) -> None:
        """A call of the next nest, by a team if it is shared out."""
        number, self._calls = self._calls, self._calls + 1
        status = f"%status{number}"
        called = f"@{self.name}.{number}({self.arguments})"
        if shared:
            called = f"@{self.name}.{number}.shared({self.arguments}, ptr %team)"
        self.lines.append(f"{label}:")
        self.lines.append(f"  {status} = call i32 {called}")
        self.sources.append(f"[{status}, %{label}]")
        if after == "end":
            self.lines.append("  br label %end")
        else:
            self.lines.append(f"  %done{number} = icmp eq i32 {status}, 0")
            self.lines.append(f"  br i1 %done{number}, label %{after}, label %end")

    def _sweep(self, label: str, sweep: Sweep, after: str) -> None:
        """A loop over the coordinate of a sweep."""
        limit, place = self.places[sweep.coordinate]
        at, following = f"%{label}.at", f"%{label}.next"
        self.lines += [
            f"{label}:",
            f"  br label %{label}.head",
            f"{label}.head:",
            f"  {at} = phi i64 [0, %{label}], [{following}, %{label}.again]",
            f"  %{label}.more = icmp slt i64 {at}, {limit}",
            f"  br i1 %{label}.more, label %{label}.body, label %{after}",
            f"{label}.body:",
            f"  store i64 {at}, ptr {place}, align 8",
            f"  br label %{label}.0",
        ]
        if after == "end":
            self.sources.append(f"[0, %{label}.head]")
        self.stages(f"{label}.", sweep.stages, f"{label}.again")
        self.lines += [
            f"{label}.again:",
            f"  {following} = add i64 {at}, 1",
            f"  br label %{label}.head",
        ]


def _guard(program: LoopProgram, b: Builder, indices: Indices) -> None:
    """Status 1 unless each unit axis has unit stride, or fewer than two elements to step over."""
    at = len(program.sizes)
    broken = ""
    for buffer in (*program.inputs, *program.outputs):
        if buffer.unit is not None:
            stride = indices.parameter(at + buffer.unit)
            other = b.compare("ne", stride, str(buffer.dtype.itemsize))
            long = b.compare("sgt", indices.number(buffer.extents[buffer.unit]), "1")
            wrong = b.pure(f"and i1 {other}, {long}")
            for axis, extent in enumerate(buffer.extents):
                if axis != buffer.unit:  # an empty array has any strides
                    some = b.compare("ne", indices.number(extent), "0")
                    wrong = b.pure(f"and i1 {wrong}, {some}")
            broken = b.pure(f"or i1 {broken}, {wrong}") if broken else wrong
        at += len(buffer.extents)
    if broken:
        b.leave(broken, 1)


def _leave_if_empty(program: LoopProgram, b: Builder, indices: Indices) -> None:
    """Status 0 if no output has an element: intermediates may be large all the same."""
    empty = "true"
    for buffer in program.outputs:
        none = "false"
        for extent in buffer.extents:
            if extent.constant is None:
                zero = b.compare("eq", indices.number(extent), "0")
                none = zero if none == "false" else b.pure(f"or i1 {none}, {zero}")
        if none == "false":
            return
        empty = none if empty == "true" else b.pure(f"and i1 {empty}, {none}")
    b.leave(empty, 0)


def _check(
    b: Builder, indices: Indices, index: RankExpr, extent: RankExpr, over: tuple[str, ...]
) -> None:
    """Status 3 if an index leaves 0 .. extent-1 anywhere, unless there is no point at all."""
    low = high = indices.number(RankExpr(tuple(t for t in index.terms if t.variable is None)))
    low = high = b.add(low, str(index.offset))
    factors: dict[str, str] = {}
    for term in index.terms:
        if term.variable is not None:
            factor = indices.number(RankExpr((type(term)(term.coefficient, term.sizes),)))
            factors[term.variable] = b.add(factors.get(term.variable, "0"), factor)
    for variable, factor in factors.items():
        last = b.sub(indices.size(variable.upper()), "1")
        reach = b.mul(factor, last)
        low = b.add(low, b.minimum(reach, "0"))
        high = b.add(high, b.maximum(reach, "0"))
    below = b.compare("slt", low, "0")
    above = b.compare("sge", high, indices.number(extent))
    outside = b.pure(f"or i1 {below}, {above}")
    for rank in over:
        some = b.compare("sgt", indices.size(rank), "0")
        outside = b.pure(f"and i1 {outside}, {some}")
    b.leave(outside, 3)
