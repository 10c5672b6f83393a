"""One Einsum as a nest: its register tile, its reduction, its store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from ...ir.cascade import fresh_name
from ...ir.dtypes import DType
from ...ir.einsum import Access, Einsum, Map, Reduce, accesses, walk
from ...ir.loop_nodes import (
    TOTAL,
    Begin,
    Collapse,
    Contract,
    Fetch,
    Index,
    Load,
    Loop,
    LoopNest,
    Number,
    Past,
    Register,
    Special,
    Statement,
    Store,
    Value,
    parts,
)
from ...ir.loop_nodes import walk as walk_statements
from ...ir.loops import Nest, Scratch
from ...ir.ranks import RankExpr
from .blocks import blocked
from .collapse import Collapses, adjacent, beside, likely
from .contract import contraction
from .finish import aligned, finishing, fitted, formed_values, in_place, sums_of_pieces
from .fuse import Chain
from .pack import moved
from .permute import permuted
from .point import PointWriter, Storage
from .schedule import Block, Limits, Problem, Reading, Schedule, choose
from .tile import (
    LANES_EXPR,
    around,
    full_loop,
    number,
    plus,
    reduction_loops,
    row_loops,
    split,
    tiled,
    times,
    variable,
    vector_loops,
)
from .typed import Scope, convert

#: Operators that take many instructions, or a call: a tile of them would be long code for nothing.
HEAVY = frozenset(("exp", "exp2", "expm1", "log", "log1p", "tanh", "sigmoid", "erf")) | frozenset(
    ("sin", "cos", "pow", "logaddexp", "floordiv", "mod")
)

#: Those of them that are few instructions, each of which waits for the one before.
_CHAINS = frozenset(("exp", "exp2"))

#: Bytes of a row of which the parts of lines at its ends, which other rows share, are little.
_LONG_ROW = 1 << 10

#: How many rows are transposed before going on along them: some lines of cache of each operand.
_TRANSPOSED = 64

#: How many steps of a reduction ahead lines are asked for: about what memory can have under way.
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Lowered:
    """A nest and the buffers of its own."""

    nest: Nest
    scratch: tuple[Scratch, ...]


class NestLowering:
    """Lowers one Einsum, or a product and what is computed from its sums."""

    def __init__(
        self, einsum: Einsum, storage: Storage, names: set[str], chain: Chain | None = None
    ) -> None:
        self.einsum = einsum
        self.chain = chain  # whose product it is
        self.names = names  # of the buffers that there are
        self.storage = storage
        self.point = PointWriter(einsum, storage)
        self.dtype, self.carrier = self.point.dtype, self.point.carrier
        self.reduced = self.point.reduced

    # ---- how it is scheduled

    def _unit(self, access: Access) -> str | None:
        """The variable along which an Access reads consecutive elements."""
        axis = self.storage.units[access.tensor]
        if axis is None:
            return None
        index = access.indices[axis]
        if not isinstance(index, RankExpr):
            return None
        names = [t.variable for t in index.terms if t.coefficient == 1 and not t.sizes]
        others = [v for n, i in enumerate(access.indices) if n != axis for v in i.variables()]
        found = [v for v in names if v is not None and v not in others]
        free = [v for v in found if v in self.einsum.free]
        return next(iter(free or found), None)

    def _reading(self, access: Access) -> Reading:
        affine = [i for i in access.indices if isinstance(i, RankExpr)]
        alone = len(affine) == len(access.indices) and all(
            i.variable is not None or i.constant is not None for i in affine
        )
        plain = alone and _each_once(access) and access.fill is None
        return Reading(access, frozenset(access.variables()), self._unit(access), plain)

    def _problem(self, collapsed: Mapping[str, str]) -> Problem:
        einsum = self.einsum
        found = list(accesses(einsum.expr))
        if einsum.where is not None:
            found += accesses(einsum.where)
        readings = tuple(dict.fromkeys(self._reading(access) for access in found))
        sizes = {rank.lower(): size for rank, size in self.storage.sizes.items()}
        for outer, inner in collapsed.items():
            if outer in sizes and inner in sizes:
                sizes[inner] *= sizes[outer]
                sizes[outer] = 1
        output = self._reading(einsum.output)
        reduce_op = einsum.expr.op if isinstance(einsum.expr, Reduce) else None
        axis = self.storage.units[einsum.name]
        roots = [einsum.expr] if einsum.where is None else [einsum.expr, einsum.where]
        functions = [
            node.op
            for root in roots
            for node in walk(root)
            if isinstance(node, Map | Reduce) and node.op in HEAVY
        ]
        bits = [self.storage.dtypes[access.tensor].compute for access in found]
        width = max((_bits(dtype) for dtype in (*bits, self.carrier)), default=8)
        return Problem(
            einsum.free,
            self.reduced,
            output.unit if _each_once(einsum.output) else None,
            axis == 0 and len(einsum.output.indices) > 1,
            readings,
            sizes,
            width,
            2 if self.carrier.kind == "complex" else 1,
            bool(functions),
            len(functions) == 1 and functions[0] in _CHAINS and self.carrier.kind == "float",
            self.carrier.is_inexact and reduce_op in ("add", "logaddexp"),
            reduce_op == "mul" and self.carrier.kind == "complex",
            einsum.where is not None,
        )

    # ---- the nest

    def lower(self, limits: Limits) -> Lowered:
        """The nest, and the buffers that it needs."""
        collapses = Collapses(self.einsum, self.storage.extents)
        schedule = self._schedule(collapses, limits)
        pairs = collapses.pairs(schedule) if schedule.block is None else []
        scratch: list[Scratch] = []
        staged: dict[Access, Load] = {}
        body: list[Statement] = []
        if not _each_once(self.einsum.output):
            body += self._zeros()
        for reading in schedule.moved:
            assert schedule.vector is not None
            name = self._name(reading.access.tensor + ".copy", scratch)
            names = [v for v in reading.access.variables() if v != schedule.vector]
            order = adjacent((*names, schedule.vector), pairs)
            types = self.point.staged_dtype(reading.access), self._source(reading)
            copy = moved(name, reading, order, *types)
            pairs = beside(pairs, name, order)
            scratch.append(copy.scratch)
            staged[reading.access] = copy.load
            body += copy.loops
        body[:0] = [Collapse(o.upper(), i.upper(), s) for o, i, s in pairs]
        found = permuted(self.einsum, self.storage, limits, self._name("block", scratch))
        if found is not None:
            body.append(found[0])
            scratch.append(found[1])
        elif schedule.block is not None:
            body += self._blocked(schedule.block, scratch)
        else:
            plain = self._plain(schedule, staged, limits)
            past = self._goes_past(schedule, limits)
            by_lines = past and self._has_long_rows(plain)
            whole = Past(self.einsum.name, limits.streamed, plain, by_lines)
            body += (whole,) if past else plain
        width = self._width(schedule, tuple(body))
        name = self.einsum.name if self.chain is None else self.chain.last.name
        return Lowered(Nest(name, width, tuple(body)), tuple(scratch))

    def _schedule(self, collapses: Collapses, limits: Limits) -> Schedule:
        most = [limits.unpacked]
        if self.chain is not None:
            most.append(limits.followed)
        expr = self.einsum.expr
        sums = isinstance(expr, Reduce) and expr.op in ("add", "or", "xor")
        bits = [self.storage.dtypes[access.tensor].bits for access in accesses(expr)]
        short = max(bits, default=0) <= 16
        if sums and (short or not self.carrier.is_inexact):
            most.append(limits.narrow if short else limits.whole)
        if len(most) > 1:
            limits = replace(limits, unpacked=min(most), few=0)
        schedule = choose(self._problem({}), limits)
        problem = self._problem(dict(likely(collapses.pairs(schedule))))
        return blocked(problem, limits, choose(problem, limits))

    def block(self, limits: Limits) -> Block | None:
        """The blocks of the chain's product, if it is packed and the rest can be done near it."""
        assert self.chain is not None
        found = self._schedule(Collapses(self.einsum, self.storage.extents), limits).block
        if found is None or not aligned(found, self.chain, self.storage):
            return None
        return fitted(found, self.chain, self.storage.sizes)

    def _name(self, stem: str, scratch: Sequence[Scratch]) -> str:
        taken = self.names | {found.name for found in scratch}
        return fresh_name(f"{self.einsum.name}.{stem}", taken)

    def _source(self, reading: Reading) -> DType:
        return self.storage.dtypes[reading.access.tensor]

    def _plain(
        self, schedule: Schedule, staged: Mapping[Access, Load], limits: Limits
    ) -> tuple[Statement, ...]:
        """Loops over the free variables, the register tile, in it the reduction and the store."""
        scope = Scope(frozenset(self.einsum.free))
        outer, inner = reduction_loops(schedule)
        ahead = self._ahead(schedule) if schedule.scattered else ()
        value = self.point.value(self.point.typing(staged), scope, outer, inner, ahead)
        store = self.final_store(value)
        scope.statements.append(store)
        if self._waits(schedule, limits):
            scope.statements.insert(0, Fetch(store.buffer, store.indices))
        rows, vectors = row_loops(schedule), vector_loops(schedule)
        if schedule.vector is None or schedule.vector in schedule.folded:
            pairs = [rows] if schedule.rows in self.einsum.free else []
        else:
            pairs = [pair for pair in (rows, vectors) if pair]
        blocks = [block for block, _ in pairs]
        if schedule.transposes and len(blocks) == 2:
            blocks = split(blocks[0], _TRANSPOSED, blocks[1:])
        elif schedule.rows_inside:
            blocks.reverse()
        tile = [tile for _, tile in pairs]
        loops = [*(full_loop(v) for v in schedule.outer), *blocks, *tile]
        body = around(loops, scope.statements)
        return (Special(schedule.special, body),) if schedule.special else body

    def _ahead(self, schedule: Schedule) -> tuple[Statement, ...]:
        """Asks for what is reduced some steps later, where no processor would guess it."""
        last = schedule.rows if schedule.rows in schedule.folded else schedule.reduced[-1]
        assert last is not None
        later = {last: plus(RankExpr.of_variable(last), number(_AHEAD))}
        found: list[Statement] = []
        for access in accesses(self.einsum.expr):
            plain = [index for index in access.indices if isinstance(index, RankExpr)]
            found.append(Fetch(access.tensor, tuple(index.substitute(later) for index in plain)))
        return tuple(found)

    def _goes_past(self, schedule: Schedule, limits: Limits) -> bool:
        """Whether the output is known to be large, and is written in the order of memory."""
        name, unit = self.einsum.name, self.storage.units[self.einsum.name]
        output = self._reading(self.einsum.output)
        if self.reduced or schedule.transposes or unit is None or not output.plain:
            return False
        if schedule.vector is None or schedule.vector != output.unit:
            return False
        if name not in self.storage.outputs or self.dtype.kind in ("complex", "bool"):
            return False
        return self._is_large(limits)

    def _has_long_rows(self, body: tuple[Statement, ...]) -> bool:
        """Whether these are loops along long rows of the output, one row at a time."""
        match body:
            case (LoopNest((*_, block, tile)),):
                row = self.storage.sizes.get(tile.variable.upper(), 0) * self.dtype.itemsize
                kinds = block.kind, tile.kind
                return row >= _LONG_ROW and kinds == ("serial", "vector") and not block.once
            case _:
                return False

    def _waits(self, schedule: Schedule, limits: Limits) -> bool:
        """Whether stores of sums along an output that is known to be large wait for its lines."""
        output = self._reading(self.einsum.output)
        along = schedule.vector is not None and schedule.vector == output.unit
        return along and output.plain and bool(self.reduced) and self._is_large(limits)

    def _is_large(self, limits: Limits) -> bool:
        """Whether the output is known to be kept in no cache."""
        known = [self.storage.sizes.get(v.upper()) for v in self.einsum.free]
        sizes = [size for size in known if size is not None]
        return len(sizes) == len(known) and prod(sizes) * self.dtype.itemsize >= limits.streamed

    def _blocked(self, block: Block, scratch: list[Scratch]) -> Iterator[Statement]:
        """A blocked contraction; partial sums stand in the output, if they have its dtype."""
        chain = self.chain or Chain(self.einsum)
        formed = formed_values(chain, self.storage)
        found = None
        if chain.followers or self.carrier != self.dtype:
            block = fitted(block, chain, self.storage.sizes) or block
            total, indices = self._partial(chain, block, scratch)
            sums = convert(Register(TOTAL, self.carrier), self.dtype)
            new_name = partial(self._name, scratch=scratch)
            found = finishing(chain, self.storage, block, sums, new_name)
            scratch += found.scratch
        else:
            total, indices = self.einsum.name, self.einsum.left
        inner = Scope(frozenset((*self.einsum.free, *self.reduced)))
        term, _ = self.point.term(self.point.typing({}), inner)
        names = [
            self._name(stem, scratch)
            for stem in (
                f"{block.rows.access.tensor}.block",
                f"{block.columns.access.tensor}.panel",
            )
        ]
        names += [self._name(stem, scratch) for stem in ("offsets", "runs")]
        finish = None if found is None else found.finish
        contract, buffers = contraction(
            block, total, indices, self.point, term, names, finish, formed
        )
        scratch += buffers
        if found is None:
            yield contract
        else:
            yield from (*found.before, contract, *found.after)

    def _partial(
        self, chain: Chain, block: Block, scratch: list[Scratch]
    ) -> tuple[str, tuple[RankExpr, ...]]:
        """Where partial sums are kept that do not go to the output as they are."""
        if in_place(chain, self.storage, self.carrier):
            return chain.last.name, chain.last.left
        name = self._name("sums", scratch)
        scratch.append(sums_of_pieces(name, self.einsum, block, self.carrier))
        return name, self.einsum.left

    def final_store(self, value: Value) -> Store:
        """The store of the Einsum's value, as its dtype."""
        return Store(self.einsum.name, self.einsum.left, convert(value, self.dtype))

    def _zeros(self) -> Iterator[Statement]:
        """The semiring's zero everywhere: a diagonal does not write the rest."""
        name = self.einsum.name
        extents, unit = self.storage.extents[name], self.storage.units[name]
        names = [f"z'{axis}" for axis in range(len(extents))]
        loops = [Loop(v, RankExpr(), e) for v, e in zip(names, extents, strict=True)]
        if unit is not None:
            loops += tiled(loops.pop(unit), times(LANES_EXPR, 4), "vector")
        zero = Number(self.einsum.ring.zero, self.dtype)
        yield from around(loops, [Store(name, tuple(map(variable, names)), zero)])

    # ---- lanes

    def _width(self, schedule: Schedule, body: tuple[Statement, ...]) -> int:
        """The bits of the widest element in a vector register."""
        vector = schedule.vector
        width = 8
        for statement in body:
            if isinstance(statement, Contract):
                values = (statement.value, statement.columns.value, statement.rows.value)
                return max(_bits(value.dtype) for value in values)
        if vector is None:
            return 64
        problem = self._problem({})
        for statement in walk_statements(body):
            for value in _values(statement):
                for node in _walk_values(value):
                    if _depends(node, vector):
                        width = max(width, _bits(node.dtype))
            if isinstance(statement, Begin):
                width = max(width, _bits(statement.dtype))
        strided = any(vector in r.variables and r.unit != vector for r in problem.readings)
        strided |= vector in self.einsum.free and problem.output_unit != vector
        if not strided:
            return width
        # Few lanes for a short variable: each lane that is not consecutive is work of its own.
        lanes = 1 << max(1, (problem.size(vector) - 1).bit_length())
        return max(width, 32, min(128, 512 // lanes))


def _each_once(access: Access) -> bool:
    """Whether no variable is there twice."""
    variables = list(access.variables())
    return len(set(variables)) == len(variables)


def _bits(dtype: DType) -> int:
    return dtype.bits // 2 if dtype.kind == "complex" else dtype.bits


def _values(statement: Statement) -> Iterator[Value]:
    for name in ("value", "where"):
        value = getattr(statement, name, None)
        if value is not None:
            yield value


def _walk_values(value: Value) -> Iterator[Value]:
    stack = [value]
    while stack:
        node = stack.pop()
        yield node
        stack += parts(node)


def _depends(value: Value, variable: str) -> bool:
    for node in _walk_values(value):
        if isinstance(node, Load):
            if any(isinstance(i, RankExpr) and variable in i.variables() for i in node.indices):
                return True
        elif isinstance(node, Index):
            if variable in node.index.variables():
                return True
        elif isinstance(node, Register):
            return True
    return False
