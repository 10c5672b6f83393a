"""Nests that are shared out among threads: what calls the pool, and what runs one part.

    define i32 @STAGE.shared(ptr %params, ptr %data, ptr %scratch, ptr %team)
    define void @STAGE.part(ptr %job, ptr %grid, i64 %part)

The first is called as a nest is, with a team (pool.py; null: no threads), whose first word is the
function that runs the parts. A part has parameters of its own: the caller's, then where its
coordinates begin and how many they are; and its own scratch buffers. It runs the nests one after
another. What it writes past the caches is seen by other threads after a fence: the pool's, or, of
the parts that the caller's thread runs, one at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.loop_nodes import Contract
from ...ir.loops import LoopProgram, Parallel, Split
from .builder import Builder
from .index import Indices, Tables
from .isa import Isa
from .past import goes_past
from .scratch import allocate, saturating
from .simd import Simd
from .survey import lanes_of

#: Packing an element for a part takes as long as so many steps of the contraction with it.
_PACKING = 16

#: The variables of a nest that are cut; a grid has as many numbers.
_SPLITS = 3


def shared(
    name: str,
    nests: Sequence[str],
    program: LoopProgram,
    parallel: Parallel,
    tables: Tables,
    isa: Isa,
    declared: dict[str, str],
) -> str:
    """The two functions of the stage `name`, beside those of its `nests`."""
    writer = _Writer(name, nests, program, parallel, tables, isa, declared)
    return writer.caller() + "\n\n" + writer.part()


class _Writer:
    def __init__(
        self,
        name: str,
        nests: Sequence[str],
        program: LoopProgram,
        parallel: Parallel,
        tables: Tables,
        isa: Isa,
        declared: dict[str, str],
    ) -> None:
        self.name, self.nests, self.program, self.parallel = name, nests, program, parallel
        self.tables, self.isa, self.declared = tables, isa, declared
        # Pieces that are parts each are short, and what is around each counts.
        self.attributes = "#0" if parallel.each else "#1"

    def _indices(self) -> Indices:
        simd = Simd(Builder(), self.isa, self.declared)
        lanes = max(lanes_of(nest, self.isa) for nest in self.parallel.nests)
        return Indices(simd, self.tables, lanes)

    def _units(self, indices: Indices, split: Split) -> tuple[str, str]:
        """How many units there are of a variable, and the elements of one.

        There is one at least where units are shared out: those of a grid are not 0.
        """
        b, unit = indices.b, indices.number(split.unit)
        up = b.add(indices.size(split.rank), b.sub(unit, "1"))
        units = b.pure(f"udiv i64 {up}, {unit}")
        return units if split.each else b.maximum(units, "1"), unit

    def caller(self) -> str:
        """What gathers what a part must know, and asks the team."""
        indices = self._indices()
        b, parallel = indices.b, self.parallel
        job = b.pure("alloca [4 x i64], align 8")
        for number, value in enumerate(("%params", "%data", "%scratch")):
            b.do(f"store ptr {value}, ptr {b.gep(job, str(8 * number))}, align 8")
        status = b.gep(job, "24")
        b.do(f"store i64 0, ptr {status}, align 8")
        shape = b.pure(f"alloca [{2 * _SPLITS} x i64], align 8")
        for number in range(_SPLITS):
            units = unit = "1"
            if number < len(parallel.splits):
                units, unit = self._units(indices, parallel.splits[number])
            for offset, value in ((0, units), (8, unit)):
                place = b.gep(shape, str(16 * number + offset))
                b.do(f"store i64 {value}, ptr {place}, align 8")
        work = "0"
        for term in parallel.work.terms:
            value = str(term.coefficient)
            for rank in term.sizes:
                value = saturating(b, value, indices.size(rank))
            work = b.add(work, value)
        packing = _PACKING if isinstance(parallel.nests[-1].body[-1], Contract) else 0
        fixed, none = "0", "false"
        if parallel.each:
            fixed = "1"
            for split in parallel.splits:
                fixed = b.mul(fixed, self._units(indices, split)[0])
            none = b.pure(f"icmp eq i64 {fixed}, 0")
        arguments = f"ptr @{self.name}.part, ptr {job}, ptr {shape}, i64 {work}, i64 {packing}"
        arguments += f", i64 {fixed}"
        return "\n".join(
            (
                f"define internal i32 @{self.name}.shared"
                f"(ptr %params, ptr %data, ptr %scratch, ptr %team) {self.attributes} {{",
                "entry:",
                *b.scopes[0].lines,
                f"  br i1 {none}, label %end, label %begin",
                "begin:",
                "  %nobody = icmp eq ptr %team, null",
                "  br i1 %nobody, label %alone, label %ask",
                "ask:",
                "  %run = load ptr, ptr %team, align 8",
                f"  call void %run(ptr %team, {arguments})",
                "  br label %end",
                "alone:",
                f"  %count = call i64 @llvm.umax.i64(i64 {fixed}, i64 1)",
                f"  %grid = alloca [{_SPLITS} x i64], align 8",
                *(
                    f"  %one{n} = getelementptr i64, ptr %grid, i64 {n}\n"
                    f"  store i64 {'1' if n else '%count'}, ptr %one{n}, align 8"
                    for n in range(_SPLITS)
                ),
                "  br label %each",
                "each:",
                "  %number = phi i64 [ 0, %alone ], [ %following, %each ]",
                f"  call void @{self.name}.part(ptr {job}, ptr %grid, i64 %number)",
                "  %following = add i64 %number, 1",
                "  %more = icmp ult i64 %following, %count",
                "  br i1 %more, label %each, label %end",
                "end:",
                *(["  fence seq_cst"] if goes_past(self.parallel.nests) else []),
                f"  %status = load i64, ptr {status}, align 8",
                "  %narrow = trunc i64 %status to i32",
                "  ret i32 %narrow",
                "}",
            )
        )

    def part(self) -> str:
        """What runs one part."""
        indices = self._indices()
        b, tables = indices.b, self.tables
        given = 8 * (tables.given + len(self.program.coordinates))
        count = tables.given + len(tables.own)
        memcpy = "llvm.memcpy.p0.p0.i64"
        copy = (("ptr", "%params"), ("ptr", "%params.given"), ("i64", str(given)), ("i1", "false"))
        indices.simd.effect(memcpy, *copy)
        self._places(indices)
        table, shared = "%scratch.given", len(self.program.scratch)
        own = self.parallel.scratch
        if own:
            table = b.pure(f"alloca [{shared + len(own)} x ptr], align 8")
        if own and shared:
            size = ("i64", str(8 * shared))
            copy = (("ptr", table), ("ptr", "%scratch.given"), size, ("i1", "false"))
            indices.simd.effect(memcpy, *copy)
        memory, failed = allocate(indices.simd, indices, own, indices.lanes, table, shared)
        arguments = f"(ptr %params, ptr %data, ptr {table})"
        lines = [
            f"define internal void @{self.name}.part"
            f"(ptr %job, ptr %grid, i64 %part) {self.attributes} {{",
            "entry:",
            f"  %params = alloca [{count} x i64], align 8",
            "  %params.given = load ptr, ptr %job, align 8",
            "  %data.p = getelementptr ptr, ptr %job, i64 1",
            "  %data = load ptr, ptr %data.p, align 8",
            "  %scratch.p = getelementptr ptr, ptr %job, i64 2",
            "  %scratch.given = load ptr, ptr %scratch.p, align 8",
            *b.scopes[0].lines,
            f"  br i1 {failed}, label %end, label %nest0",
        ]
        ends = [f"[ 2, %{b.scopes[0].label} ]"]
        for number, nest in enumerate(self.nests):
            if number:
                lines += [
                    f"  %done{number} = icmp eq i32 %found{number - 1}, 0",
                    f"  br i1 %done{number}, label %nest{number}, label %end",
                ]
            lines += [f"nest{number}:", f"  %found{number} = call i32 @{nest}{arguments}"]
            ends.append(f"[ %found{number}, %nest{number} ]")
        lines += [
            "  br label %end",
            "end:",
            f"  %narrow = phi i32 {', '.join(ends)}",
            "  %fine = icmp eq i32 %narrow, 0",
            "  br i1 %fine, label %done, label %tell",
            "tell:",
            "  %status = zext i32 %narrow to i64",
            "  %status.p = getelementptr i64, ptr %job, i64 3",
            "  %before = atomicrmw umax ptr %status.p, i64 %status monotonic",
            "  br label %done",
            "done:",
        ]
        if memory:
            self.declared["free"] = "declare void @free(ptr)"
        lines += [f"  call void @free(ptr {block})" for block in memory]
        return "\n".join([*lines, "  ret void", "}"])

    def _places(self, indices: Indices) -> None:
        """Where the part's coordinates begin, and how many they are."""
        b, rest = indices.b, "%part"
        for number, split in enumerate(self.parallel.splits):
            units, unit = self._units(indices, split)
            entry = b.gep("%grid", str(8 * number))
            parts = units if split.each else b.pure(f"load i64, ptr {entry}, align 8")
            which = b.pure(f"urem i64 {rest}, {parts}")
            rest = b.pure(f"udiv i64 {rest}, {parts}")
            ends: list[str] = []
            for following in (which, b.add(which, "1")):
                place = b.pure(f"udiv i64 {b.mul(units, following)}, {parts}")
                ends.append(b.minimum(b.mul(place, unit), indices.size(split.rank)))
            begin, end = ends
            for name, value in zip(split.sizes, (begin, b.sub(end, begin), which), strict=False):
                slot = b.gep("%params", str(8 * self.tables.size_numbers[name]))
                b.do(f"store i64 {value}, ptr {slot}, align 8")
