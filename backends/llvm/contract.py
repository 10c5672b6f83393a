"""A contraction in cache blocks: packing, the loops around the micro-kernel, the micro-kernel.

The loops are those of GotoBLAS (Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication", ACM TOMS 34(3), 2008), over joined variables. What a joined coordinate means is
told by tables of offsets, as in TBLIS (Matthews, "High-performance tensor contraction without
transposition", SIAM J. Sci. Comput. 40(1), 2018), so one code serves all shapes and strides:

    for each coordinate of the batch
      for each block of columns, for each piece of the depth      the columns' operand is packed
        for each block of rows                                    the rows' operand is packed
          for each tile of rows, for each tile of columns         the micro-kernel

A tile of rows stays in the level-1 cache while the block of columns comes by, from level 2.

A micro-kernel's tile lies in the output as whole vectors, with masks at the edges; or is copied
there from a tile on the stack: at the edges where masks cost much, and where a vector of columns is
not consecutive. What is done with whole sums
(finish.py) is done with those of a tile on the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ...ir.dtypes import DType
from ...ir.loop_nodes import Contract, Number, Pack
from .builder import Builder, OpenLoop, Scope
from .deferred import Deferred, divided
from .finish import Finishing
from .forming import Forming
from .harmless import test_of
from .microkernel import MicroKernel, Panels
from .offsets import OffsetTables
from .operand import Operand, is_formed, unit_of
from .packing import Packing
from .products import product_of
from .simd import Place, Vec, element
from .tiles import HEIGHT, TileKernel
from .turning import packing_of
from .values import Values, neutral


@dataclass(frozen=True, slots=True)
class _Goal:
    """Where a tile goes: `direct`, to the output, else to the stack.

    Of each vector of its columns so many elements (None: all); of its rows so many, if given, and
    the others to the stack.
    """

    direct: str
    counts: tuple[str | None, ...]
    rows: str | None

    def has(self, b: Builder, row: str) -> str:
        """Whether a row goes to the output."""
        if self.rows is None:
            return self.direct
        return b.here(f"and i1 {self.direct}, {b.compare('slt', row, self.rows)}")


def write_pack(values: Values, pack: Pack) -> None:
    """Writes one Pack."""
    accesses, b, packed = values.accesses, values.b, pack.packed
    assert packed.at is not None
    tables = OffsetTables(accesses, pack.offsets, pack.runs)
    width = pack.vectors * accesses.lanes
    operand = Operand.of(values, packed, width, tables, pack.depth, split=True)
    loops = [b.begin_loop(accesses.size(v.upper())) for v in pack.batch]
    around = dict(zip(pack.batch, loops, strict=True))
    packing = Packing(values, operand, operand.first(around))
    packing.target = tables.first(packed.buffer, packed.at, around)
    packing.write("0", tables.count(packed.variables), "0", tables.count(pack.depth))
    for loop in reversed(loops):
        b.end_loop(loop)


class Contraction:
    """Writes one Contract."""

    def __init__(self, values: Values, contract: Contract) -> None:
        contract = divided(contract)
        self.contract = contract
        self.values = values
        self.accesses, self.simd, self.b = values.accesses, values.simd, values.b
        self.dtype: DType = contract.value.dtype
        rows = contract.rows
        lines = not is_formed(rows) and unit_of(values, rows) not in contract.depth[:-1]
        self.product = product_of(contract, self.simd.isa, lines)
        narrow, self.lanes = 1, self.accesses.lanes
        if self.product is not None:
            narrow = max(1, 4 // self.product.columns.element.itemsize)
            self.lanes = self.simd.bits // self.product.word.bits
        self.deep = contract.deep * narrow
        self.vectors = contract.vectors
        self.height = max(1, min(contract.height, self._most_rows()))
        self.blocks: TileKernel | None = None
        if self.product is not None and self.product.blocks:
            self.height = HEIGHT
            self.blocks = TileKernel(values, contract, self.product)
        self.width = self.vectors * self.lanes
        self.kernel = MicroKernel(
            *(values, contract, self.product), self.height, self.vectors, self.lanes
        )
        self.tables = OffsetTables(self.accesses, contract.offsets, contract.runs)

    def _most_rows(self) -> int:
        """How many rows of accumulators registers hold, beside a step's columns and two rows."""
        registers, product = self.simd.isa.registers, self.product
        if product is None:
            parts = 2 if self.dtype.kind == "complex" else 1
            return (registers - 4) // (self.vectors * parts)
        ones = 0 if product.ones is None else 1
        room = registers - self.vectors * product.columns.count - 2 - ones
        return room // (self.vectors * product.sums) - ones

    def write(self) -> None:
        """The statement: tables, then the blocks of each coordinate of the batch."""
        contract, b, tables = self.contract, self.b, self.tables
        n, m, k = contract.columns.variables, contract.rows.variables, contract.depth
        self.out_n = tables.add(contract.buffer, contract.indices, n)
        self.out_m = tables.add(contract.buffer, contract.indices, m)
        self.out_runs = tables.runs(self.out_n, "1")
        of_columns = of_rows = None
        if self.product is not None:
            of_columns, of_rows = self.product.columns, self.product.rows
        columns = Operand.of(
            *(self.values, contract.columns, self.width, tables, k), split=True, words=of_columns
        )
        rows = Operand.of(
            *(self.values, contract.rows, self.height, tables, k), line=self.deep, words=of_rows
        )
        self.finishing: Finishing | None = None
        self.deferred: Deferred | None = None
        if contract.finish is not None:
            self.finishing = Finishing(self.values, contract, tables, self.lanes)
            if contract.divisor is not None:
                self.deferred = Deferred(self.simd, contract, self.finishing)
        self.count_n, self.count_m, self.count_k = (tables.count(v) for v in (n, m, k))
        formed = {
            id(operand): Forming(self.values, operand, k, tables)
            for operand in (columns, rows)
            if is_formed(operand.packed)
        }
        self._make_tile()
        if self.blocks is not None:
            self.blocks.begin()
        loops = [b.begin_loop(self.accesses.size(v.upper())) for v in contract.batch]
        around = dict(zip(contract.batch, loops, strict=True))
        self.out = tables.first(contract.buffer, contract.indices, around)
        if self.finishing is not None:
            self.finishing.locate(around)
        for forming in formed.values():
            forming.locate(around)
        packings = [
            formed.get(id(operand)) or packing_of(self.values, operand, operand.first(around))
            for operand in (columns, rows)
        ]
        at, self.packed = contract.columns.at, ""
        if at is not None:
            self.packed = tables.first(contract.columns.buffer, at, around)
        self._ways(*packings)
        for loop in reversed(loops):
            b.end_loop(loop)
        if self.blocks is not None:
            self.blocks.end()

    def _make_tile(self) -> None:
        """The tile on the stack; zero, for what lies there is computed with."""
        of, parts = element(self.dtype), 2 if self.dtype.kind == "complex" else 1
        count = self.height * self.width * parts
        size = count * self.dtype.itemsize // parts
        self.tile = self.b.pure(f"alloca [{count} x {of}], align 64")
        arguments = (("ptr", self.tile), ("i8", "0"), ("i64", str(size)), ("i1", "false"))
        self.simd.effect("llvm.memset.p0.i64", *arguments)

    # ---- the loops around the micro-kernel

    def _loop(self, length: str, step: str, body: Callable[[OpenLoop], None]) -> None:
        loop = self.b.begin_loop(length, step)
        body(loop)
        self.b.end_loop(loop)

    def _ways(self, columns: Packing, rows: Packing) -> None:
        """The blocks of one contraction; of quotients once more if they must not be deferred."""
        if self.deferred is None:
            self._blocks(columns, rows)
            return
        again, late = self.deferred.begin(rows.operand.lies, self.count_m)
        rows.operand = replace(rows.operand, lies=late)
        self._blocks(columns, rows)
        self.deferred.end(again)

    def _blocks(self, columns: Packing, rows: Packing) -> None:
        """The blocks of one contraction."""
        contract, b = self.contract, self.b
        wide, deep = str(contract.wide * self.width), self._depth_of_pieces()
        if not self.packed:
            wide = self._rounded(wide, columns.operand, "across")
            deep = self._rounded(deep, columns.operand, "depth")
        deep = self._rounded(deep, rows.operand, "depth")
        tall = str(max(1, contract.tall // self.height) * self.height)
        block = b.begin_loop(self.count_n, wide)
        n = b.minimum(wide, b.sub(self.count_n, block.counter))
        # An empty sum still has to be stored: its loop runs once.
        piece = b.begin_loop(self.count_k, deep, once=True)
        k = b.minimum(deep, b.sub(self.count_k, piece.counter))
        if self.packed:
            columns.find(self.packed, block.counter, piece.counter, self.count_k)
        else:
            columns.write(block.counter, n, piece.counter, k)
        self.harmless = ""
        test = test_of(self.simd, contract, self.product)
        known = "" if test is None else test.survey(columns)
        part = b.begin_loop(self.count_m, tall)
        m = b.minimum(tall, b.sub(self.count_m, part.counter))
        rows.write(part.counter, m, piece.counter, k)
        if test is not None:
            self.harmless = test.both(known, test.survey(rows))
        write_tile = partial(self._tile, columns, rows, piece, k)
        down = b.begin_loop(m, str(self.height))
        top = b.add(part.counter, down.counter), b.sub(m, down.counter)
        across = b.begin_loop(n, str(self.width))
        left = b.add(block.counter, across.counter), b.sub(n, across.counter)
        write_tile(across, down, left, top)
        for loop in (across, down, part, piece, block):
            b.end_loop(loop)

    def _depth_of_pieces(self) -> str:
        """How deep a block is at most; of words all pieces of the depth are about as long."""
        b, product = self.b, self.product
        if product is None:
            return str(self.deep)
        pieces = b.pure(f"udiv i64 {b.multiple(self.count_k, self.deep)}, {self.deep}")
        pieces = b.maximum(pieces, "1")
        even = b.pure(f"udiv i64 {b.add(self.count_k, b.sub(pieces, '1'))}, {pieces}")
        return b.maximum(b.multiple(even, product.columns.multiple), "1")

    def _rounded(self, length: str, operand: Operand, mode: str) -> str:
        """A block's length, less what is no multiple of how far apart the operand's blocks are."""
        distance = operand.distance
        if operand.mode != mode or distance == "1":
            return length
        b = self.b
        fits = b.compare("sle", distance, length)
        whole = b.mul(b.pure(f"sdiv i64 {length}, {b.maximum(distance, '1')}"), distance)
        fits = b.pure(f"and i1 {fits}, {b.compare('sgt', distance, '0')}")
        return b.pure(f"select i1 {fits}, i64 {whole}, i64 {length}")

    # ---- one tile

    def _tile(
        self,
        columns: Packing,
        rows: Packing,
        piece: OpenLoop,
        depth: str,
        across: OpenLoop,
        down: OpenLoop,
        left: tuple[str, str],
        top: tuple[str, str],
    ) -> None:
        """One tile: `left` and `top` are where it begins in the output, and how much there is."""
        b, dtype = self.b, self.dtype
        whole, last = self._is_whole(left, top), "false"
        if self.finishing is not None:
            # What is finished does not go to the output as it is.
            last = b.compare("sge", b.add(piece.counter, depth), self.count_k)
            if self.deferred is not None:  # else the quotients are multiplied
                last = b.both(last, rows.operand.lies)
            whole = b.here(f"select i1 {last}, i1 false, i1 {whole}")
        first = b.compare("eq", piece.counter, "0")
        corner = b.gep(self.out, self.tables.at(self.out_n, left[0]))
        panels = Panels(columns, rows, depth, across, down)
        steps = ["0"]
        for v in range(1, self.vectors):
            there = self._distance(left[0], v)
            here = str(v * self.lanes * dtype.itemsize)
            steps.append(b.here(f"select i1 {whole}, i64 {there}, i64 {here}"))

        goal = self._goal(left, top, whole, last)

        def line(number: str) -> str:
            """Where a row of the tile goes."""
            there = b.gep(corner, self.tables.at(self.out_m, b.add(top[0], number)))
            here = b.gep(self.tile, b.mul(number, str(self.width * dtype.itemsize)))
            return b.here(f"select i1 {goal.has(b, number)}, ptr {there}, ptr {here}")

        def fetch() -> None:
            """Earlier sums, to the tile on the stack."""
            aside = b.here(f"or i1 {goal.direct}, {first}")
            self._unless(aside, lambda: self._copy_tile(self.tile, left, top, out=False))

        tile, blocks = self.tile, self.blocks
        if blocks is not None:
            blocks.sum(panels, self.harmless)

            def store() -> None:
                fetch()
                blocks.store(line, steps, first)

            # First sums that do not go to the output are taken from where they are.
            stays = b.here(f"select i1 {goal.direct}, i1 false, i1 {first}")
            stays = stays if blocks.as_they_are else "false"
            self._unless(stays, store)
            tile = b.here(f"select i1 {stays}, ptr {blocks.sums}, ptr {tile}")
        else:
            starts = [line(str(i)) for i in range(self.height)]
            places = [[b.gep(start, step) for step in steps] for start in starts]
            if not self.contract.near:
                self._fetch(places, left, top, last)
            totals = self.kernel.totals(self._begin(), panels, self.harmless)
            fetch()
            self._store_totals(totals, first, places, goal.counts)
        self._unless(goal.direct, lambda: self._store_tile(tile, left, top, last))

    def _goal(self, left: tuple[str, str], top: tuple[str, str], whole: str, last: str) -> _Goal:
        """Where a tile goes: to the output if it is `whole` there, to the stack if it is the `last`
        and finished there; and, where masks cost nothing, at an edge to the output too.
        """
        b = self.b
        if not self.simd.isa.masks or self.blocks is not None or self.dtype.kind == "complex":
            return _Goal(whole, (None,) * self.vectors, None)
        columns = b.minimum(left[1], str(self.width))
        together = b.compare("sge", self.out_runs.at(b, left[0]), columns)
        edge = b.here(f"select i1 {last}, i1 false, i1 {together}")
        cut = b.here(f"select i1 {whole}, i1 false, i1 {edge}")
        count = b.here(f"select i1 {cut}, i64 {columns}, i64 {self.width}")
        counts = tuple(b.sub(count, str(v * self.lanes)) for v in range(self.vectors))
        return _Goal(b.here(f"or i1 {whole}, {edge}"), counts, top[1])

    def _fetch(
        self, places: list[list[str]], left: tuple[str, str], top: tuple[str, str], last: str
    ) -> None:
        """Asks for the lines that a tile's sums meet in memory, before they are made: stores wait
        for lines that come from there. Vectors may begin within a line, and end in another one.
        """
        end = str(self.lanes * self.dtype.itemsize - 1)

        def written() -> None:
            for line in places:
                for place in (*line, self.b.gep(line[-1], end)):
                    self.simd.fetch(place, write=True)

        finishing, there = self.finishing, self._inside(left, top)
        if finishing is None:
            written()
        else:
            self._branch(last, lambda: finishing.fetch(self.width, *there), written)

    def _store_totals(
        self,
        totals: list[list[Vec]],
        first: str,
        places: list[list[str]],
        counts: Sequence[str | None],
    ) -> None:
        """A tile's sums in registers, with earlier ones; of each column so many lanes."""
        totals = self._with_earlier(first, totals, places, counts)
        for line, found in zip(places, totals, strict=True):
            for pointer, total, count in zip(line, found, counts, strict=True):
                self.simd.store(Place(pointer, 1), total, count)

    def _store_tile(
        self, tile: str, left: tuple[str, str], top: tuple[str, str], last: str
    ) -> None:
        """What becomes of a tile on the stack."""
        finishing, there = self.finishing, self._inside(left, top)
        if finishing is None:
            self._copy_tile(tile, left, top, out=True)
            return
        self._branch(
            last,
            lambda: finishing.write(tile, self.width, *there),
            lambda: self._copy_tile(tile, left, top, out=True),
        )

    def _inside(
        self, left: tuple[str, str], top: tuple[str, str]
    ) -> tuple[tuple[str, str], tuple[str, str]]:
        """Where a tile's columns and rows begin, and how many there are."""
        columns = self.b.minimum(left[1], str(self.width))
        return (left[0], columns), (top[0], self.b.minimum(top[1], str(self.height)))

    def _is_whole(self, left: tuple[str, str], top: tuple[str, str]) -> str:
        """Whether a tile is full, and each vector of it consecutive in the output."""
        b = self.b
        whole = b.pure(
            f"and i1 {b.compare('sge', left[1], str(self.width))}, "
            f"{b.compare('sge', top[1], str(self.height))}"
        )
        for v in range(self.vectors):
            run = self.out_runs.at(b, b.add(left[0], str(v * self.lanes)))
            whole = b.here(f"and i1 {whole}, {b.compare('sge', run, str(self.lanes))}")
        return whole

    def _distance(self, left: str, vector: int) -> str:
        """How far a vector of a tile lies from the tile's first, in the output."""
        b, tables = self.b, self.tables
        other = tables.at(self.out_n, b.add(left, str(vector * self.lanes)))
        return b.sub(other, tables.at(self.out_n, left))

    def _unless(self, test: str, write: Callable[[], None]) -> None:
        self._branch(test, lambda: None, write)

    def _branch(self, test: str, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        arms: list[Scope] = []
        for write in (then, otherwise):
            self.b.begin_arm()
            write()
            arms.append(self.b.end_arm())
        self.b.branch(test, arms[0], arms[1], ())

    def _begin(self) -> Vec:
        """What an accumulator begins with: it leaves all else unchanged."""
        b, contract = self.b, self.contract
        start = self.simd.constant(neutral(contract.op, self.dtype), self.dtype)
        if contract.empty != Number(neutral(contract.op, self.dtype), self.dtype):
            none = b.compare("eq", self.count_k, "0")
            empty = self.simd.constant(contract.empty.value, self.dtype)
            start = self.simd.choose(none, empty, start)
        return self.simd.splat(start, self.lanes)

    def _with_earlier(
        self,
        first: str,
        totals: list[list[Vec]],
        places: list[list[str]],
        counts: Sequence[str | None],
    ) -> list[list[Vec]]:
        """The accumulators, and what earlier pieces of the depth came to, if there were any."""
        b, contract = self.b, self.contract
        b.begin_arm()
        then = b.end_arm()
        b.begin_arm()
        sums = [
            self.values.arithmetic.apply(
                contract.op, (self.kernel.read(place, self.dtype, self.lanes, count), total)
            )
            for line, found in zip(places, totals, strict=True)
            for place, total, count in zip(line, found, counts, strict=True)
        ]
        arms = then, b.end_arm()
        later = iter(sums)
        return self.kernel.merged(
            first, arms, (totals, [[next(later) for _ in line] for line in totals])
        )

    # ---- the tile on the stack

    def _copy_tile(self, tile: str, left: tuple[str, str], top: tuple[str, str], out: bool) -> None:
        """Between a tile and the output, as many columns at a time as are consecutive there."""
        b, dtype = self.b, self.dtype
        columns = b.minimum(left[1], str(self.width))
        rows = b.minimum(top[1], str(self.height))
        step = str(dtype.itemsize)
        run = b.begin_loop(columns)
        begin = b.add(left[0], run.counter)
        count = b.minimum(self.out_runs.at(b, begin), b.sub(columns, run.counter), str(self.lanes))
        there = b.gep(self.out, self.tables.at(self.out_n, begin))
        here = b.gep(tile, b.mul(run.counter, step))
        line = b.begin_loop(rows)
        there = b.gep(there, self.tables.at(self.out_m, b.add(top[0], line.counter)))
        here = b.gep(here, b.offset(line, b.mul(step, str(self.width))))
        source, target = (here, there) if out else (there, here)
        value = self.simd.load(Place(source, 1, b.depth), dtype, self.lanes, count)
        self.simd.store(Place(target, 1), value, count)
        b.end_loop(line)
        run.step = count
        b.end_loop(run)
