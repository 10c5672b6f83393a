"""What an Einsum is at one point: its reduction as registers and loops, and its value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.dtypes import BOOL, I16, U8, U16, DType
from ...ir.einsum import Access, Coordinate, Einsum, Reduce, accesses, walk
from ...ir.infer import product_dtype
from ...ir.loop_nodes import (
    Apply,
    Assign,
    Begin,
    Loop,
    LoopNest,
    Number,
    Register,
    Statement,
    Value,
    When,
)
from ...ir.operators import OPERATORS, in_table
from ...ir.ranks import RankExpr
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
)


@dataclass(frozen=True, slots=True)
class Storage:
    """What is known of the tensors, dtypes, extents, unit axes; of the ranks, their sizes; and
    which tensors are outputs.
    """

    dtypes: Mapping[str, DType]
    extents: Mapping[str, tuple[RankExpr, ...]]
    units: Mapping[str, int | None]
    sizes: Mapping[str, int]
    outputs: frozenset[str] = frozenset()


class PointWriter:
    """Writes the statements inside the loops over the output's variables.

    `dtype` is what the Einsum stores, `carrier` what its outermost reduction accumulates in.
    """

    def __init__(self, einsum: Einsum, storage: Storage) -> None:
        self.einsum = einsum
        self.storage = storage
        self.dtype = storage.dtypes[einsum.name]
        self.reduce = einsum.expr if isinstance(einsum.expr, Reduce) else None
        self.reduced = self.reduce.variables if self.reduce is not None else ()
        self.carrier = self._carrier()

    def _carrier(self) -> DType:
        """A product of small integers is summed in wider lanes, bools are combined as bytes.

        Wider lanes multiply faster, and give the same low bits.
        """
        compute = self.dtype.compute
        factors = self.einsum.product()
        if self.reduce is None or factors is None:
            return compute
        if any(isinstance(index, Access) for factor in factors for index in factor.indices):
            return compute
        if product_dtype(self.einsum, self.storage.dtypes) != compute or compute.bits != 8:
            return compute
        if compute.kind == "bool":
            return U8
        if (self.reduce.op, self.einsum.ring.mul) != ("add", "mul"):
            return compute
        return I16 if compute.kind == "signed" else U16

    def staged_dtype(self, access: Access) -> DType:
        """The dtype of an operand's copy: what it is computed with."""
        if self.einsum.product() is not None and self.reduce is not None:
            return self.carrier
        return self.storage.dtypes[access.tensor].compute

    def typing(self, staged: Mapping[Access, Value]) -> Typing:
        """What makes values, with these operands read from copies, or taken, as they are here."""
        return Typing(self.einsum, self.storage.dtypes, self.storage.extents, staged)

    @property
    def fold_op(self) -> str:
        """The operator that folds in the carrier."""
        assert self.reduce is not None
        return self._carried(fold_type(in_table(self.reduce.op), self.carrier)[0])

    @property
    def total(self) -> DType:
        """The dtype of the outermost reduction's register."""
        assert self.reduce is not None
        return fold_type(in_table(self.reduce.op), self.carrier)[1]

    def _carried(self, op: str) -> str:
        if self.dtype.kind == "bool" and self.carrier == U8:
            return {"add": "or", "mul": "and", "max": "or", "min": "and"}.get(op, op)
        return op

    @property
    def sums_exponentials(self) -> bool:
        """Whether the outermost reduction is the logarithm of a sum of exponentials."""
        return (
            self.reduce is not None
            and self.fold_op == "logaddexp"
            and self.total.kind == "float"
            and self.empty.value == float("-inf")
        )

    @property
    def empty(self) -> Number:
        """What the outermost reduction is of nothing."""
        assert self.reduce is not None
        zero = self.einsum.ring.zero if self.reduce.op == self.einsum.ring.add else None
        number = Number(empty_value(in_table(self.reduce.op), zero), self.dtype.compute)
        found = convert(number, self.total)
        return found if isinstance(found, Number) else number

    def begin(self, register: str) -> tuple[Statement, ...]:
        """The beginning of the outermost reduction."""
        ranks = tuple(variable.upper() for variable in self.reduced)
        return begin(register, self.total, self.fold_op, ranks, self.empty)

    def term(self, typing: Typing, scope: Scope) -> tuple[Value, Value | None]:
        """What the outermost reduction folds, as the register's dtype, and the filter."""
        assert self.reduce is not None
        factors = self.einsum.product()
        if factors is not None and self.carrier != self.dtype.compute:
            values = tuple(typing.read(factor, self.carrier) for factor in factors)
            op = self._carried(in_table(self.einsum.ring.mul))
            return (values[0] if len(values) == 1 else Apply(op, values)), None
        value = convert(typing.value(self.reduce.expr, scope), self.carrier)
        where = self.einsum.where
        kept = None if where is None else typing.value(where, scope)
        return convert(value, self.total), kept

    def value(
        self,
        typing: Typing,
        scope: Scope,
        outer: Sequence[Loop],
        loops: Sequence[Loop],
        first: Sequence[Statement] = (),
    ) -> Value:
        """What is stored at a point; statements that it needs go into the scope.

        `loops` are those of the outermost reduction, in which `first` comes first; if there are
        `outer` ones around them, each time around is summed by itself, so that fewer numbers are
        added to a large one.
        """
        einsum = self.einsum
        if self.reduce is None:
            value = typing.value(einsum.expr, scope)
            if einsum.where is not None and einsum.otherwise is not None:
                keep = typing.value(einsum.where, scope)
                value = as_value(apply("select", keep, value, einsum.otherwise.value))
            return value
        inner = scope.inner(self.reduced)
        inner.statements += first
        term, where = self.term(typing, inner)
        if where is None and self.sums_exponentials and not inner.statements:
            return convert(self._log_of_sum(typing, scope, term, outer, loops), self.dtype.compute)
        name = typing.register()
        scope.statements += self.begin(name)
        result: Value = Register(name, self.total)
        kept: Value | None = None
        if where is not None:
            any_kept = typing.register()
            scope.statements.append(Begin(any_kept, BOOL, "or", (), Number(False, BOOL)))
            inner.statements += fold(any_kept, "or", where, None)
            kept = Register(any_kept, BOOL)
            result = Apply("select", (kept, result, self.empty))
        reduction = self._reduction(typing, name, self.fold_op, term, where, inner, outer, loops)
        if where is not None and self._is_settled():
            assert einsum.where is not None
            reduction = (When(typing.value(einsum.where, scope), reduction),)
        scope.statements += reduction
        result = convert(result, self.dtype.compute)
        if kept is not None and einsum.otherwise is not None:
            result = as_value(apply("select", kept, result, einsum.otherwise.value))
        return result

    def _is_settled(self) -> bool:
        """Whether the filter is the same for all that is folded into one element."""
        where = self.einsum.where
        assert where is not None
        variables = {v for access in accesses(where) for v in access.variables()}
        variables |= {node.name for node in walk(where) if isinstance(node, Coordinate)}
        plain = all(access.plain is not None for access in accesses(where))
        inside = any(isinstance(node, Reduce) for node in walk(where))
        return plain and not inside and variables.isdisjoint(self.reduced)

    def _log_of_sum(
        self,
        typing: Typing,
        scope: Scope,
        term: Value,
        outer: Sequence[Loop],
        loops: Sequence[Loop],
    ) -> Value:
        """log sum exp(term) as m + log sum exp(term - m): one exponential a term, and no overflow.

        m is the largest term, or 0 where that is infinite or NaN, and so the sum as well.
        """
        most, shift, total = (Register(typing.register(), self.total) for _ in range(3))

        def fold_all(into: Register, op: str, value: Value) -> None:
            start = Number(OPERATORS[op].identity or 0, into.dtype)
            scope.statements += begin(into.name, into.dtype, op, (), start)
            inner = scope.inner(self.reduced)
            scope.statements += self._reduction(
                typing, into.name, op, value, None, inner, outer, loops
            )

        fold_all(most, "max", term)
        finite = Apply("lt", (Apply("abs", (most,)), Number(float("inf"), self.total)))
        chosen = Apply("select", (finite, most, Number(0.0, self.total)))
        scope.statements.append(Assign(shift.name, chosen))
        fold_all(total, "add", Apply("exp", (Apply("sub", (term, shift)),)))
        return Apply("add", (shift, Apply("log", (total,))))

    def _reduction(
        self,
        typing: Typing,
        name: str,
        op: str,
        term: Value,
        where: Value | None,
        inner: Scope,
        outer: Sequence[Loop],
        loops: Sequence[Loop],
    ) -> tuple[Statement, ...]:
        if not outer:
            inner.statements += fold(name, op, term, where)
            return (LoopNest(tuple(loops), tuple(inner.statements)),)
        part = typing.register()
        inner.statements += fold(part, op, term, where)
        block = (
            *begin(part, self.total, op, (), self.empty),
            LoopNest(tuple(loops), tuple(inner.statements)),
            *fold(name, op, Register(part, self.total), None),
        )
        return (LoopNest(tuple(outer), block),)
