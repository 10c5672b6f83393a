"""One Einsum as a nest: its register tile, its reduction, its store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.cascade import fresh_name
from ...ir.dtypes import BOOL, I16, U8, U16, DType
from ...ir.einsum import Access, Coordinate, Einsum, Map, Reduce, accesses, walk
from ...ir.infer import product_dtype
from ...ir.loop_nodes import (
    Apply,
    Assign,
    Begin,
    Collapse,
    If,
    Index,
    Load,
    Loop,
    LoopNest,
    Number,
    Register,
    Statement,
    Store,
    Value,
    parts,
)
from ...ir.loop_nodes import walk as walk_statements
from ...ir.loops import Nest, Scratch
from ...ir.ranks import RankExpr
from . import pack
from .schedule import LANES_EXPR, Block, Problem, Reading, Schedule, choose
from .typed import (
    Scope,
    Typing,
    apply,
    as_value,
    begin,
    convert,
    empty_value,
    fold,
    fold_type,
    full_loop,
)

#: Operators that take many instructions, or a call: a tile of them would be long code for nothing.
_HEAVY = frozenset(("exp", "exp2", "expm1", "log", "log1p", "tanh", "sigmoid", "erf")) | frozenset(
    ("sin", "cos", "pow", "logaddexp", "floordiv", "mod")
)

#: How many rows are transposed before going on along them: some lines of cache of each operand.
_TRANSPOSED = 64

#: The most pairs of ranks that a nest tries to make one of.
_MOST_COLLAPSES = 8


@dataclass(frozen=True, slots=True)
class Storage:
    """What is known of the tensors: dtypes, extents, unit axes; and of the ranks: their sizes."""

    dtypes: Mapping[str, DType]
    extents: Mapping[str, tuple[RankExpr, ...]]
    units: Mapping[str, int | None]
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A nest and the buffers of its own."""

    nest: Nest
    scratch: tuple[Scratch, ...]


class NestLowering:
    """Lowers one Einsum."""

    def __init__(self, einsum: Einsum, storage: Storage) -> None:
        self.einsum = einsum
        self.storage = storage
        self.dtype = storage.dtypes[einsum.name]
        self.reduce = einsum.expr if isinstance(einsum.expr, Reduce) else None
        self.reduced = self.reduce.variables if self.reduce is not None else ()
        self.carrier = self._carrier()

    # ---- what is computed in

    def _carrier(self) -> DType:
        """The dtype that the outermost reduction accumulates in.

        A product of small integers is summed in wider lanes, which multiply faster and give the
        same low bits; bools are combined as bytes.
        """
        compute = self.dtype.compute
        if self.reduce is None or self.einsum.product() is None:
            return compute
        if any(isinstance(i, Access) for f in self.einsum.product() or () for i in f.indices):
            return compute
        if compute.kind == "bool" and product_dtype(self.einsum, self.storage.dtypes) == BOOL:
            return U8
        if product_dtype(self.einsum, self.storage.dtypes) != compute or compute.bits != 8:
            return compute
        if (self.reduce.op, self.einsum.ring.mul) != ("add", "mul"):
            return compute
        return {"signed": I16, "unsigned": U16}.get(compute.kind, compute)

    @property
    def ordered(self) -> bool:
        """Whether the reduction is folded one by one: a complex product has no neutral start."""
        return self.reduce is not None and self.reduce.op == "mul" and self.dtype.kind == "complex"

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
        variables = list(access.variables())
        plain = access.plain is not None and len(set(variables)) == len(variables)
        return Reading(access, frozenset(variables), self._unit(access), plain)

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
        axis = self.storage.units[einsum.name]
        roots = [einsum.expr] if einsum.where is None else [einsum.expr, einsum.where]
        heavy = any(
            (isinstance(node, Map) and node.op in _HEAVY)
            or (isinstance(node, Reduce) and node.op in _HEAVY)
            for root in roots
            for node in walk(root)
        )
        bits = [self.storage.dtypes[access.tensor].compute for access in found]
        width = max((_bits(dtype) for dtype in (*bits, self.carrier)), default=8)
        return Problem(
            einsum.free,
            self.reduced,
            output.unit if output.plain or _constants_aside(einsum.output) else None,
            axis == 0 and len(einsum.output.indices) > 1,
            readings,
            sizes,
            width,
            2 if self.carrier.kind == "complex" else 1,
            heavy,
            self.ordered,
            einsum.where is not None,
        )

    # ---- the nest

    def lower(self) -> Lowered:
        """The nest, and the buffers that it needs."""
        schedule = choose(self._problem({}))
        pairs = list(self._collapses(schedule))
        schedule = choose(self._problem(dict(self._likely(pairs))))
        pairs = list(self._collapses(schedule))
        scratch: list[Scratch] = []
        staged: dict[Access, Load] = {}
        body: list[Statement] = [Collapse(o.upper(), i.upper(), s) for o, i, s in pairs]
        if self.einsum.output.plain != self.einsum.free:
            body += self._zeros()
        for reading in schedule.moved:
            assert schedule.vector is not None
            name = self._name(reading.access.tensor + ".copy", scratch)
            types = self._staged_dtype(reading.access), self._source(reading)
            moved = pack.moved(name, reading, schedule.vector, *types)
            scratch.append(moved.scratch)
            staged[reading.access] = moved.load
            body.append(moved.copy)
        if schedule.block is not None:
            body += self._blocked(schedule, schedule.block, staged, scratch)
        else:
            body += self._plain(schedule, staged)
        width = self._width(schedule, tuple(body))
        return Lowered(Nest(self.einsum.name, width, tuple(body)), tuple(scratch))

    def _name(self, stem: str, scratch: Sequence[Scratch]) -> str:
        return fresh_name(f"{self.einsum.name}.{stem}", {found.name for found in scratch})

    def _source(self, reading: Reading) -> DType:
        return self.storage.dtypes[reading.access.tensor]

    def _staged_dtype(self, access: Access) -> DType:
        if self.einsum.product() is not None and self.reduce is not None:
            return self.carrier
        return self.storage.dtypes[access.tensor].compute

    def _plain(self, schedule: Schedule, staged: Mapping[Access, Load]) -> tuple[Statement, ...]:
        """Loops over the free variables, the register tile, in it the reduction and the store."""
        typing = Typing(self.einsum, self.storage.dtypes, self.storage.extents, staged)
        scope = Scope(frozenset(self.einsum.free))
        inner = reduction_loops(schedule)
        value = self.value(typing, scope, inner)
        scope.statements.append(self.final_store(value))
        blocks: list[Loop] = []
        tile: list[Loop] = []
        vector_block, vector = vector_loops(schedule)
        row_block, row = row_loops(schedule)
        if schedule.vector in self.einsum.free:
            # Blocks of vectors go outside if all rows read the same; else memory order counts.
            order = (vector_block, row_block) if self.reduced else (row_block, vector_block)
            blocks += [loop for loop in order if loop is not None]
            if schedule.transposes and row_block is not None:
                between = [loop for loop in blocks if loop is not row_block]
                blocks = split(row_block, _TRANSPOSED, between)
            tile += [loop for loop in (row, vector) if loop is not None]
        elif schedule.rows in self.einsum.free:
            blocks += [loop for loop in (row_block,) if loop is not None]
            tile += [loop for loop in (row,) if loop is not None]
        loops = (*(full_loop(v) for v in schedule.outer), *blocks, *tile)
        return around(loops, scope.statements)

    def _blocked(
        self,
        schedule: Schedule,
        block: Block,
        staged: dict[Access, Load],
        scratch: list[Scratch],
    ) -> Iterator[Statement]:
        """The loops of a blocked contraction (pack.py), partial sums kept where the output goes."""
        blocking = pack.Blocking(schedule, block, self.carrier)
        columns, across = block.columns, block.across
        name = self._name(columns.access.tensor + ".panel", scratch)
        panel = blocking.pack_columns(name, self._source(columns))
        name = self._name(across.access.tensor + ".block", [*scratch, panel.scratch])
        rows = blocking.pack_rows(name, across, self._source(across))
        scratch += [panel.scratch, rows.scratch]
        staged |= {columns.access: panel.load, across.access: rows.load}
        typing = Typing(self.einsum, self.storage.dtypes, self.storage.extents, staged)
        total, indices = self._total(blocking.vector, scratch)
        tile = self._partial_sum(typing, total, indices, blocking)
        only = frozenset(schedule.outer)
        in_columns = only & (columns.variables - across.variables)
        in_rows = only & (across.variables - columns.variables)
        tile_loops = [loop for loop in (row_loops(schedule)[1], vector_loops(schedule)[1]) if loop]
        outside = [v for v in schedule.outer if v not in in_columns and v not in in_rows]
        tall = RankExpr((), block.tall)
        tiles = (
            blocking.block_loop(blocking.vector, blocking.wide, blocking.width),
            blocking.block_loop(blocking.rows, tall, RankExpr((), schedule.row_count)),
        )
        inner = LoopNest((*tiles, *tile_loops), tile)
        middle_loops = [full_loop(v) for v in schedule.outer if v in in_rows]
        middle_loops.append(blocking.outer_loop(blocking.rows, tall))
        middle = LoopNest(tuple(middle_loops), (rows.copy, inner))
        outer_loops = [full_loop(v) for v in outside]
        outer_loops.append(blocking.outer_loop(blocking.vector, blocking.wide))
        outer_loops += [full_loop(v) for v in schedule.outer if v in in_columns]
        outer_loops.append(blocking.piece_loop())
        yield LoopNest(tuple(outer_loops), (panel.copy, middle))
        if total != self.einsum.name:
            yield self._from_total(total, indices, blocking.vector)

    def _total(self, vector: str, scratch: list[Scratch]) -> tuple[str, tuple[RankExpr, ...]]:
        """Where partial sums are kept: the output if it has their dtype, else a buffer."""
        output = self.einsum.output
        if self.carrier == self.dtype:
            indices = tuple(i for i in output.indices if isinstance(i, RankExpr))
            return self.einsum.name, indices
        names = [v for v in self.einsum.free if v != vector] + [vector]
        extents = [pack.size(v) for v in names]
        name = self._name("total", scratch)
        strides = pack.in_order(extents)
        scratch.append(Scratch(name, self.carrier, strides, (pack.times(*extents),)))
        return name, tuple(pack.variable(v) for v in names)

    def _partial_sum(
        self,
        typing: Typing,
        total: str,
        indices: tuple[RankExpr, ...],
        blocking: pack.Blocking,
    ) -> tuple[Statement, ...]:
        """One tile of one piece of the reduction: goes on from the piece before."""
        assert self.reduce is not None
        inner = Scope(frozenset((*self.einsum.free, *self.reduced)))
        term, _ = self.term(typing, inner)
        op, dtype = fold_type(self.reduce.op, self.carrier)
        op = self._carried_op(op)
        name = typing.register()
        before = (Assign(name, Load(total, indices, dtype)),)
        first = self.begin(name, op, dtype, self._empty())
        inner.statements += fold(name, op, term, None)
        loops = (*(full_loop(v) for v in blocking.others), blocking.depth_loop())
        return (
            If(blocking.piece, before, first),
            LoopNest(loops, tuple(inner.statements)),
            Store(total, indices, Register(name, dtype)),
        )

    def _from_total(self, total: str, indices: tuple[RankExpr, ...], vector: str) -> LoopNest:
        """The totals as what the output stores."""
        loops = [full_loop(v) for v in self.einsum.free if v != vector]
        outer, inner = pack.tiled(full_loop(vector), pack.times(LANES_EXPR, 4), "vector")
        store = self.final_store(Load(total, indices, self.carrier))
        return LoopNest((*loops, outer, inner), (store,))

    def final_store(self, value: Value) -> Store:
        """The store of the Einsum's value, as its dtype."""
        indices = tuple(i for i in self.einsum.output.indices if isinstance(i, RankExpr))
        return Store(self.einsum.name, indices, convert(value, self.dtype))

    def _zeros(self) -> Iterator[Statement]:
        """The semiring's zero everywhere: a diagonal does not write the rest."""
        variables: list[str] = []
        for axis, index in enumerate(self.einsum.output.indices):
            assert isinstance(index, RankExpr)
            variables.append(f"{index.variable or 'one'}'{axis}")
        loops = tuple(
            Loop(name, RankExpr(), extent)
            for name, extent in zip(variables, self.storage.extents[self.einsum.name], strict=True)
        )
        zero = Number(self.einsum.ring.zero, self.dtype)
        indices = tuple(RankExpr.of_variable(name) for name in variables)
        yield from around(loops, [Store(self.einsum.name, indices, zero)])

    # ---- the value at a point

    def value(self, typing: Typing, scope: Scope, loops: tuple[Loop, ...]) -> Value:
        """What is stored at a point; the reduction's statements go into the scope."""
        einsum = self.einsum
        if self.reduce is None:
            value = typing.value(einsum.expr, scope)
            if einsum.where is not None and einsum.otherwise is not None:
                keep = typing.value(einsum.where, scope)
                value = as_value(apply("select", keep, value, einsum.otherwise.value))
            return value
        inner = scope.inner(self.reduced)
        term, where = self.term(typing, inner)
        op, total = fold_type(self.reduce.op, self.carrier)
        op = self._carried_op(op)
        empty = self._empty()
        name = typing.register()
        scope.statements += self.begin(name, op, total, empty)
        result: Value = Register(name, total)
        kept: Value | None = None
        if where is not None:
            any_kept = typing.register()
            scope.statements.append(Begin(any_kept, BOOL, "or", (), Number(False, BOOL)))
            inner.statements += fold(any_kept, "or", where, None)
            kept = Register(any_kept, BOOL)
            result = Apply("select", (kept, result, _constant(empty, total)))
        inner.statements += fold(name, op, convert(term, total), where)
        scope.statements.append(LoopNest(loops, tuple(inner.statements)))
        result = convert(result, self.dtype.compute)
        if kept is not None and einsum.otherwise is not None:
            result = as_value(apply("select", kept, result, einsum.otherwise.value))
        return result

    def _empty(self) -> Number:
        """What the outermost reduction is of nothing."""
        assert self.reduce is not None
        zero = self.einsum.ring.zero if self.reduce.op == self.einsum.ring.add else None
        return Number(empty_value(self.reduce.op, zero), self.dtype.compute)

    def begin(self, register: str, op: str, total: DType, empty: Number) -> tuple[Statement, ...]:
        """The beginning of the outermost reduction."""
        ranks = tuple(variable.upper() for variable in self.reduced)
        return begin(register, total, op, ranks, _constant(empty, total))

    def term(self, typing: Typing, scope: Scope) -> tuple[Value, Value | None]:
        """What the outermost reduction folds, and the filter."""
        assert self.reduce is not None
        factors = self.einsum.product()
        if factors is not None and self.carrier != self.dtype.compute:
            values = tuple(typing.read(factor, self.carrier) for factor in factors)
            op = self._carried_op(self.einsum.ring.mul)
            return (values[0] if len(values) == 1 else Apply(op, values)), None
        value = typing.value(self.reduce.expr, scope)
        value = convert(value, self.carrier)
        where = self.einsum.where
        return value, None if where is None else typing.value(where, scope)

    def _carried_op(self, op: str) -> str:
        if self.dtype.kind == "bool" and self.carrier == U8:
            return {"add": "or", "mul": "and", "max": "or", "min": "and"}.get(op, op)
        return op

    # ---- collapsing ranks

    def _collapses(
        self, schedule: Schedule
    ) -> Iterator[tuple[str, str, tuple[tuple[str, int, int], ...]]]:
        """Pairs of variables that may be one where strides allow it, and the strides' places."""
        targets = [v for v in (schedule.vector, schedule.rows) if v is not None]
        targets += [schedule.block.along] if schedule.block is not None else schedule.reduced[-1:]
        spent: set[str] = set(targets)
        count = 0
        for inner in dict.fromkeys(targets):
            group = schedule.outer if inner in self.einsum.free else schedule.reduced
            for outer in reversed(group):
                if outer in spent or count == _MOST_COLLAPSES:
                    continue
                steps = self._steps(outer, inner)
                if steps is not None:
                    spent.add(outer)
                    count += 1
                    yield outer, inner, steps

    def _steps(self, outer: str, inner: str) -> tuple[tuple[str, int, int], ...] | None:
        found: list[tuple[str, int, int]] = []
        reads = [self.einsum.output, *accesses(self.einsum.expr)]
        roots = [self.einsum.expr]
        if self.einsum.where is not None:
            reads += accesses(self.einsum.where)
            roots.append(self.einsum.where)
        for root in roots:
            for node in walk(root):
                if isinstance(node, Coordinate) and node.name.lower() in (outer, inner):
                    return None
                if isinstance(node, Reduce) and node is not self.reduce:
                    bound = (v in node.variables for v in (outer, inner))
                    if any(bound):
                        return None
        for access in reads:
            places: dict[str, list[int]] = {outer: [], inner: []}
            for axis, index in enumerate(access.indices):
                for variable in index.variables():
                    if variable in places:
                        if not isinstance(index, RankExpr) or index.variable != variable:
                            return None
                        places[variable].append(axis)
                sizes = index.sizes() if isinstance(index, RankExpr) else ()
                if any(rank.lower() in places for rank in sizes):
                    return None
            a, b = places[outer], places[inner]
            if not a and not b:
                continue
            if len(a) != 1 or len(b) != 1 or access.fill is not None:
                return None
            found.append((access.tensor, a[0], b[0]))
        return tuple(dict.fromkeys(found)) or None

    def _likely(
        self, pairs: list[tuple[str, str, tuple[tuple[str, int, int], ...]]]
    ) -> Iterator[tuple[str, str]]:
        """The pairs that will collapse if every array is in C order."""
        for outer, inner, steps in pairs:
            if all(a + 1 == b for _, a, b in steps):
                yield outer, inner

    # ---- lanes

    def _width(self, schedule: Schedule, body: tuple[Statement, ...]) -> int:
        """The bits of the widest element in a vector register."""
        vector = schedule.vector
        width = 8
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


def around(loops: tuple[Loop, ...], body: Sequence[Statement]) -> tuple[Statement, ...]:
    """The statements inside the loops, if there are any loops."""
    return (LoopNest(loops, tuple(body)),) if loops else tuple(body)


def split(loop: Loop, step: int, between: list[Loop]) -> list[Loop]:
    """The loop in longer steps, then other loops, then the loop over each of those steps."""
    outer = replace(loop, variable=loop.variable + "'", step=RankExpr((), step))
    start = RankExpr.of_variable(outer.variable)
    stop = RankExpr(start.terms, step)
    inner = replace(loop, start=start, stop=stop, bounds=(loop.stop,))
    return [outer, *between, inner]


def vector_loops(schedule: Schedule) -> tuple[Loop | None, Loop | None]:
    """The loop over blocks of vectors, and the vector loop."""
    vector = schedule.vector
    if vector is None:
        return None, None
    wide = scaled(LANES_EXPR, schedule.vectors)
    block = vector + "'"
    start, end = RankExpr.of_variable(block), RankExpr.of_size(vector.upper())
    stop = RankExpr((*start.terms, *wide.terms))
    return (
        Loop(block, RankExpr(), end, step=wide),
        Loop(vector, start, stop, (end,), kind="vector"),
    )


def row_loops(schedule: Schedule) -> tuple[Loop | None, Loop | None]:
    """The loop over blocks of rows, and the unrolled loop."""
    rows = schedule.rows
    if rows is None:
        return None, None
    block = rows + "'"
    start, end = RankExpr.of_variable(block), RankExpr.of_size(rows.upper())
    count = RankExpr((), schedule.row_count)
    stop = RankExpr(start.terms, schedule.row_count)
    return (
        Loop(block, RankExpr(), end, step=count),
        Loop(rows, start, stop, (end,), kind="unroll"),
    )


def reduction_loops(schedule: Schedule) -> tuple[Loop, ...]:
    """The loops of the outermost reduction; those of a vector variable in it are innermost."""
    loops = [full_loop(variable) for variable in schedule.reduced]
    if schedule.vector in schedule.folded:
        tiled = [vector_loops(schedule)]
        if schedule.rows in schedule.folded:
            tiled.insert(0, row_loops(schedule))
        loops += [block for block, _ in tiled if block is not None]
        loops += [tile for _, tile in tiled if tile is not None]
    return tuple(loops)


def scaled(expr: RankExpr, factor: int) -> RankExpr:
    """factor * expr."""
    terms = tuple(replace(t, coefficient=t.coefficient * factor) for t in expr.terms)
    return RankExpr(terms, expr.offset * factor)


def _constants_aside(access: Access) -> bool:
    variables = list(access.variables())
    return len(set(variables)) == len(variables)


def _constant(number: Number, dtype: DType) -> Number:
    found = convert(number, dtype)
    assert isinstance(found, Number)
    return found


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
