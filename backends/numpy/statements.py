"""The statements of one Einsum, construct by construct as `ir.interpreter` defines them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from ...ir.dtypes import BOOL, I64, DType
from ...ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    accesses,
    children,
    free_variables,
)
from ...ir.infer import beside_floats, expr_dtype, product_dtype, strong
from ...ir.operators import Number, in_table, is_chain
from ...ir.ranks import RankExpr
from .contraction import contract
from .formulas import apply, bitcast, cast, dtype_text, duplicates, literal, number_text
from .frame import Frame, tuple_text
from .reads import MAX_AXES, read
from .reductions import Fold
from .values import Value, aligned

#: The most operands of a chain that stand on one line.
_CHAIN = 8


class EinsumEmitter:
    """Emits one Einsum: `emit` is the way in, the other methods follow `ir.interpreter`."""

    def __init__(self, frame: Frame, einsum: Einsum) -> None:
        self.frame = frame
        self.einsum = einsum
        self.dtype = frame.dtypes[einsum.name]
        self.product = product_dtype(einsum, frame.dtypes).compute
        self._order: tuple[str, ...] = einsum.free  # the order of axes where operands differ
        self._cuts: dict[str, str] = {}  # variables in blocks -> the name of their slice
        self._fixed: dict[str, str] = {}  # variables in a loop -> the name of their coordinate
        self._reads: dict[Access, Value] = {}

    def emit(self) -> Value:
        """Writes the statements before the last; the Value of the output itself."""
        return self._placed(self._whole())

    def over_free(self) -> str:
        """The same for what is written in a place of its output: over its variables, in order."""
        value = self._whole()
        return value.render(aligned(value, self.einsum.free))

    def _whole(self) -> Value:
        """Writes the statements; what the Einsum defines, over its variables in any order."""
        einsum = self.einsum
        self._prepare(einsum.expr, einsum.free)
        if einsum.where is not None:
            bound = einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()
            self._prepare(einsum.where, (*einsum.free, *bound))
        if isinstance(einsum.expr, Reduce):
            value = self._reduce(einsum.expr, einsum.where, self.dtype.compute)
        elif isinstance(einsum.expr, Access) and einsum.where is None:
            value = self._reads[einsum.expr]  # only copied: f16 need not go through f32
        else:
            value = self._value(einsum.expr)
            if einsum.where is not None and einsum.otherwise is not None:
                value = self._chosen(self._value(einsum.where), value, einsum.otherwise.value)
        return cast(value, self.dtype)

    # ---- reading

    def _prepare(self, expr: Expr, scope: tuple[str, ...]) -> None:
        """Reads every Access once, before any loop."""
        if isinstance(expr, Reduce):
            scope = (*scope, *expr.variables)
        if isinstance(expr, Access):
            if expr not in self._reads:
                self._reads[expr] = read(self.frame, expr, scope)
            return
        for child in children(expr):
            self._prepare(child, scope)

    def _read(self, access: Access) -> Value:
        """The Access in the block that is being computed, in the type that it is computed in."""
        value = self._reads[access]
        if any(variable in self._fixed for variable in value.axes):
            entries = [self._fixed.get(variable, ":") for variable in value.axes]
            axes = tuple(variable for variable in value.axes if variable not in self._fixed)
            value = Value(f"{value.text}[{', '.join(entries)}]", axes, value.dtype)
        if any(variable in self._cuts for variable in value.axes):
            index = tuple(self._cuts.get(variable, ":") for variable in value.axes)
            value = replace(value, index=index)
        return cast(value, value.dtype.compute)

    def _coordinate(self, name: str) -> Value:
        if name.isupper():
            return Value(f"np.int64({self.frame.rank_size(name)})", (), I64)
        if name in self._fixed:
            return Value(f"np.int64({self._fixed[name]})", (), I64)
        index = (self._cuts[name],) if name in self._cuts else None
        return Value(f"np.arange({self.frame.size(name)})", (name,), I64, index=index)

    def _size(self, variable: str) -> str:
        """The extent of a variable in the block that is being computed."""
        cut = self._cuts.get(variable)
        return f"({cut}.stop - {cut}.start)" if cut else self.frame.size(variable)

    # ---- expressions

    def _value(self, expr: Expr) -> Value:
        if isinstance(expr, Literal):
            return literal(expr.value)
        if isinstance(expr, Coordinate):
            return self._coordinate(expr.name)
        if isinstance(expr, Access):
            return self._read(expr)
        if isinstance(expr, Reduce):
            return self._reduce(expr, None, self._stored(expr.expr).compute)
        return self._map(expr, [self._value(arg) for arg in expr.args])

    def _stored(self, expr: Expr) -> DType:
        return strong(expr_dtype(expr, self.frame.dtypes))

    def _chain_dtype(self, expr: Map) -> DType:
        """The type to which a chain converts its operands."""
        return self.product if expr is self.einsum.body else self._stored(expr).compute

    def _map(self, expr: Map, args: list[Value]) -> Value:
        if expr.op == "cast" and expr.dtype is not None:
            return cast(cast(args[0], expr.dtype), expr.dtype.compute)
        if expr.op == "bitcast" and expr.dtype is not None:
            made = bitcast(args[0], self._stored(expr.args[0]), expr.dtype)
            return cast(made, expr.dtype.compute)
        if is_chain(expr.op) and not all(isinstance(arg, Literal) for arg in expr.args):
            dtype = self._chain_dtype(expr)
            args = [arg if arg.weak else cast(arg, dtype) for arg in args]
        else:
            to = beside_floats(expr, self.frame.dtypes)
            args = [
                arg if dtype is None else cast(arg, dtype)
                for arg, dtype in zip(args, to, strict=True)
            ]
        op = in_table(expr.op)
        if duplicates(op, args):
            args = [self._bound(arg) for arg in args]
        if len(args) > _CHAIN:
            args = [self._folded_chain(op, args[:-_CHAIN]), *args[-_CHAIN:]]
        return apply(op, args, self._order)

    def _folded_chain(self, op: str, args: Sequence[Value]) -> Value:
        """The first operands of a long chain, a few to a line: Python's parser has its limits."""
        total = args[0]
        name = self.frame.names.fresh("chain")
        for start in range(1, len(args), _CHAIN):
            value = apply(op, [total, *args[start : start + _CHAIN]], self._order).natural()
            self.frame.line(f"{name} = {value.text}")
            total = Value(name, value.axes, value.dtype)
        return total

    def _bound(self, value: Value) -> Value:
        """The value under a name, for a formula that writes it twice."""
        value = value.natural()
        if value.text.isidentifier():
            return value
        return Value(self.frame.define("value", value.text), value.axes, value.dtype)

    # ---- reductions

    def _reduce(self, node: Reduce, where: Expr | None, dtype: DType) -> Value:
        """The reduction at every point of the variables around it."""
        product = self._contraction(node, dtype) if where is None else None
        if product is not None:
            return product
        ring = self.einsum.ring
        fold = Fold(in_table(node.op), dtype, ring.zero if node.op == ring.add else None)
        if fold.differs:
            fold = replace(fold, points=" and ".join(map(self._size, node.variables)))
        inside = _variables(node.expr, where)
        present = tuple(v for v in node.variables if v in inside)
        missing = tuple(v for v in node.variables if v not in inside)
        leaf = self._covering(node.expr, where, inside)
        with self._ordered((*(leaf or ()), *self._order_with(node.variables), *inside)):
            if present and leaf is None:
                value, kept = self._looped(node, where, fold, present)
            else:
                value, kept = self._masked(node.expr, where, fold)
                value, kept = self._folded(fold, value, kept, present)
            value, kept = self._folded(fold, value, kept, missing)
            if kept is None:
                return value
            otherwise = self.einsum.otherwise
            number = fold.empty_number if otherwise is None else otherwise.value
            return self._chosen(kept, value, number)

    def _covering(
        self, expr: Expr, where: Expr | None, inside: Sequence[str]
    ) -> tuple[str, ...] | None:
        """The axes of an operand with as many points as the block; None if there is none."""
        space = {v for v in inside if v not in self._cuts and v not in self._fixed}
        if len(space) <= 1:
            return tuple(space)
        for part in (expr, where):
            for access in accesses(part) if part is not None else ():
                if access in self._reads and space <= set(self._reads[access].axes):
                    return self._reads[access].axes
        return None

    def _masked(self, expr: Expr, where: Expr | None, fold: Fold) -> tuple[Value, Value | None]:
        """The values to reduce, neutral where the filter drops them; and where it keeps them."""
        value = cast(self._value(expr), fold.dtype)
        if where is None:
            return value, None
        kept = cast(self._value(where), BOOL)
        value = cast(self._chosen(kept, value, fold.neutral_number), fold.dtype)
        return value, kept if self._asks_kept(fold) else None

    def _asks_kept(self, fold: Fold) -> bool:
        """Whether it must be known where a filter leaves nothing."""
        return self.einsum.otherwise is not None or fold.differs

    def _chosen(self, condition: Value, value: Value, otherwise: Number) -> Value:
        return apply("select", (condition, value, literal(otherwise)), self._order)

    def _folded(
        self, fold: Fold, value: Value, kept: Value | None, variables: Sequence[str]
    ) -> tuple[Value, Value | None]:
        """The reduction over these variables, and whether anything was kept."""
        if not variables:
            return value, kept
        if kept is not None:
            kept = self._reduced(Fold("or", BOOL, None), kept, variables)
        return self._reduced(fold, value, variables), kept

    def _reduced(self, fold: Fold, value: Value, variables: Sequence[str]) -> Value:
        value = value.natural()
        if not set(variables) <= set(value.axes):
            value = self._spread(value, {*value.axes, *variables})
        positions = sorted(value.axes.index(variable) for variable in variables)
        axis = str(positions[0]) if len(positions) == 1 else str(tuple(positions))
        call = f"{fold.ufunc}.reduce({value.text}, axis={axis}{fold.options()}"
        axes = tuple(v for v in value.axes if v not in variables)
        return Value(f"{call})", axes, fold.dtype, call=call)

    def _spread(self, value: Value, variables: set[str]) -> Value:
        """The value repeated along variables that it does not depend on."""
        axes = tuple(v for v in dict.fromkeys(self._order) if v in variables)
        text = value.render(aligned(value, axes))
        if not value.axes and value.dtype.kind == "object":
            text = f"np.asarray({text}, object)"
        shape = tuple_text([self._size(v) for v in axes])
        return Value(f"np.broadcast_to({text}, {shape})", axes, value.dtype)

    def _looped(
        self, node: Reduce, where: Expr | None, fold: Fold, present: Sequence[str]
    ) -> tuple[Value, Value | None]:
        """The reduction block by block, so that what is held at a time stays small."""
        inside = [v for v in _variables(node.expr, where) if v not in self._fixed]
        axes = tuple(v for v in dict.fromkeys(self._order) if v in inside and v not in present)
        shape = tuple_text([self._size(v) for v in axes])
        full = f"np.full({shape}, {fold.initial}, {dtype_text(fold.dtype)})"
        total = self.frame.define("total", full)
        seen = (
            self.frame.define("kept", f"np.zeros({shape}, bool)")
            if (where is not None and self._asks_kept(fold))
            else None
        )
        # More axes than an array can have: the first variables one coordinate at a time.
        excess = max(len(inside) - MAX_AXES, 0)
        fixed, cut = present[:excess], present[excess:]
        with ExitStack() as loops:
            if fixed:
                loops.enter_context(self._loop(fixed, "np.ndindex", self._fixed))
            if cut:
                held = " * ".join(map(self._size, axes)) or "1"
                loops.enter_context(self._loop(cut, self.frame.helper("blocks"), self._cuts, held))
            value, kept = self._masked(node.expr, where, fold)
            # A block is never empty: its own reduction starts from the neutral value.
            value, kept = self._folded(fold.of_some, value, kept, cut)
            part = value.render(aligned(value, axes))
            self.frame.line(f"{fold.ufunc}({total}, {part}, out={total})")
            if seen is not None and kept is not None:
                self.frame.line(f"{seen} |= {kept.render(aligned(kept, axes))}")
        kept = Value(seen, axes, BOOL) if seen is not None else None
        return Value(total, axes, fold.dtype), kept

    @contextmanager
    def _loop(
        self, variables: Sequence[str], iterator: str, bound: dict[str, str], *first: str
    ) -> Generator[None]:
        """A loop that binds variables to coordinates or slices, for the statements within."""
        extents = [*first, *map(self._size, variables)]
        names = [self.frame.names.of(iterator, variable) for variable in variables]
        targets = ", ".join(names) if len(names) > 1 else f"({names[0]},)"
        with self.frame.block(f"for {targets} in {iterator}({', '.join(extents)}):"):
            bound.update(zip(variables, names, strict=True))
            yield
            for variable in variables:
                del bound[variable]

    def _order_with(self, variables: Sequence[str]) -> tuple[str, ...]:
        """The order with reduced variables in it; the axis of the innermost loop stays last."""
        return (*self._order[:-1], *variables, *self._order[-1:])

    @contextmanager
    def _ordered(self, order: Sequence[str]) -> Generator[None]:
        """What order axes take in the expressions within, where operands differ."""
        before, self._order = self._order, tuple(dict.fromkeys(order))
        yield
        self._order = before

    # ---- contractions

    def _contraction(self, node: Reduce, dtype: DType) -> Value | None:
        """A sum of a product of two as a matrix product; None if it is not one."""
        expr = node.expr
        if not isinstance(expr, Map) or len(expr.args) != 2 or not is_chain(expr.op):
            return None
        product = self._chain_dtype(expr)
        if not _is_contraction(in_table(node.op), in_table(expr.op), product, dtype):
            return None
        inside = [[v for v in free_variables(arg) if v not in self._fixed] for arg in expr.args]
        if not set(node.variables) <= set(inside[0]) & set(inside[1]):
            return None
        # A stack of matrices may need an axis more than its operands have.
        if len({*inside[0], *inside[1]}) > MAX_AXES - 3 or not all(map(self._is_held, expr.args)):
            return None
        with self._ordered((*self._order_with(node.variables), *inside[0], *inside[1])):
            a, b = (cast(self._value(arg), product) for arg in expr.args)
            found = contract(a, b, node.variables, self._order, self._size)
        return None if found is None else cast(found, dtype)

    def _is_held(self, expr: Expr) -> bool:
        """Whether an operand or the output has as many points as the expression."""
        variables = free_variables(expr)
        if isinstance(expr, Access) or set(variables) <= set(self.einsum.free):
            return True
        return self._covering(expr, None, variables) is not None

    # ---- the left side

    def _placed(self, value: Value) -> Value:
        """The value at the left side's own indices: its axes, diagonals, axes of extent 1."""
        free = self.einsum.free
        if set(value.axes) != set(free):
            value = self._spread(value, set(free))
        left = self.einsum.output.plain
        if left == free:
            if value.axes == free and value.index is None:
                return value
            return Value(value.render(free), free, value.dtype)
        indices = [i for i in self.einsum.output.indices if isinstance(i, RankExpr)]
        if left is None and sum(1 for i in indices if i.variable) == len(free):
            return Value(value.render([index.variable for index in indices]), free, value.dtype)
        zero = number_text(Fold("or", self.dtype, self.einsum.ring.zero).empty_number)
        extents = [self._size(index.variable) if index.variable else "1" for index in indices]
        name = self.frame.define(
            "result", f"np.full({tuple_text(extents)}, {zero}, {dtype_text(self.dtype)})"
        )
        strides = [
            " + ".join(f"{name}.strides[{n}]" for n, i in enumerate(indices) if i.variable == v)
            for v in free
        ]
        shape = tuple_text([self._size(v) for v in free])
        diagonal = f"np.lib.stride_tricks.as_strided({name}, {shape}, {tuple_text(strides)})"
        self.frame.line(f"{diagonal}[...] = {value.render(free)}")
        return Value(name, free, value.dtype)


def _variables(expr: Expr, where: Expr | None) -> tuple[str, ...]:
    """The free variables of a reduction's expression and filter, each once."""
    more = free_variables(where) if where is not None else ()
    return tuple(dict.fromkeys((*free_variables(expr), *more)))


def _is_contraction(add: str, mul: str, product: DType, total: DType) -> bool:
    """Whether these operators in these types are what a matrix product computes."""
    if product.kind == total.kind == "bool":
        return add in ("add", "or", "max") and mul in ("mul", "and", "min")
    # Integers wrap alike whichever is converted first; a float that becomes an integer does not.
    alike = product.kind == total.kind or (product.is_integer and total.is_integer)
    return add == "add" and mul == "mul" and alike and "bool" not in (product.kind, total.kind)
