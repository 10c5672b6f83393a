"""A Loop written out as Einsums: tile by tile, repaired as it runs, or merged in the end.

Names say what a tensor is, for a tensor T of the Cascade:

    BT  its values at a tile           LT  its reduction over a tile
    RT  the reduction so far           ST  that, or 0 while it is -inf: what exponentials subtract
    PT  what repairs the sums when T moves on      NT  its reduction before what is deferred
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ...ir.dtypes import DType
from ...ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    free_variables,
    index_value,
    rewrite_leaves,
)
from ...ir.errors import PassError
from ...ir.operators import identity_of
from ...ir.ranks import RankExpr, Term
from .forms import Fold, Form, Shift
from .loop import Loop

_INFINITE = {"max": float("-inf"), "logaddexp": float("-inf"), "min": float("inf")}


@dataclass(frozen=True, slots=True)
class Cut:
    """How a rank is walked: the variables of its parts, outermost first.

    `chunk` are pieces that are folded by themselves and merged in the end, `step` the variable
    along which a chunk is scanned, `tile` the one that is folded at once. A rank that is not cut is
    scanned itself.
    """

    variable: str
    chunk: str | None = None
    step: str | None = None
    tile: str | None = None
    point: RankExpr | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        """What stands in place of the variable."""
        return tuple(v for v in (self.chunk, self.step, self.tile) if v is not None)

    @property
    def lead(self) -> tuple[str, ...]:
        """The axes of a tile's reduction that come before those of the tensor."""
        return tuple(v for v in (self.chunk, self.step) if v is not None)


class Emitter:
    """Writes a Loop's reductions out as they are walked by a Cut."""

    def __init__(
        self,
        loop: Loop,
        cut: Cut,
        folds: Sequence[Fold],
        read: Callable[[Access], Access] | None = None,
    ) -> None:
        self.loop, self.cut, self.folds = loop, cut, {fold.name: fold for fold in folds}
        self._read = read
        self.scope = loop.scope
        self.made: list[Einsum] = []
        self.finals: dict[tuple[str, int], Access] = {}
        self._names: dict[str, str] = {}
        self._guards: dict[str, str] = {}
        self._repairs: dict[tuple[Shift, ...], Access] = {}
        self._running: dict[tuple[str, int], str] = {}
        self._local: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        """Fills `made`, and `finals`: what each term of each reduction is in the end."""
        for fold in self.folds.values():
            for number, term in enumerate(fold.terms):
                self._fold(fold, number, term)
        if self.cut.chunk is not None:
            self._repairs.clear()
            for fold in self.folds.values():
                for number, term in enumerate(fold.terms):
                    self._merge(fold, number, term)

    # ---- inside the loop

    def _fold(self, fold: Fold, number: int, term: Form) -> None:
        kept, cut = fold.einsum.free, self.cut
        kernel = self.tiled(one_or(term.kernel, self._type(fold)))
        folded = (*((cut.tile,) if cut.tile else ()), *fold.others)
        stem = self.stem(fold, number)
        value: Expr = kernel
        if folded or fold.einsum.where is not None or cut.step is None:
            name = self.scope.fresh(f"L{stem}")
            output = named(name, (*cut.lead, *kept))
            expr = Reduce(fold.reduce.op, folded, kernel) if folded else kernel
            where = None if fold.einsum.where is None else self.tiled(fold.einsum.where)
            otherwise = None if folded or where is None else Literal(identity(fold))
            self._add(
                Einsum(output, expr, fold.einsum.semiring, where, otherwise, self._type(fold))
            )
            self._local[fold.name, number] = name
            value = output
        if cut.step is None:
            return
        running = self.scope.fresh(f"R{stem}")
        self._running[fold.name, number] = running
        chunk = (cut.chunk,) if cut.chunk else ()
        start = (*map(RankExpr.of_variable, chunk), RankExpr(), *map(RankExpr.of_variable, kept))
        self._add(Einsum(Access(running, start), Literal(identity(fold))))
        before: Expr = self._at(running, 0, kept)
        if term.shifts:
            before = repaired(fold, term, before, self._repair(term.shifts))
        self._add(Einsum(self._at(running, 1, kept), Map(fold.reduce.op, (before, value))))
        self.finals[fold.name, number] = Access(
            running,
            (
                *map(RankExpr.of_variable, chunk),
                RankExpr.of_size(cut.step.upper()),
                *map(RankExpr.of_variable, kept),
            ),
        )

    def _at(self, running: str, ahead: int, kept: Iterable[str]) -> Access:
        step = self.cut.step
        assert step is not None
        chunk = (self.cut.chunk,) if self.cut.chunk else ()
        indices = [*map(RankExpr.of_variable, chunk), RankExpr((Term(1, (), step),), ahead)]
        return Access(running, (*indices, *map(RankExpr.of_variable, kept)))

    def reached(self, access: Access) -> Access:
        """What a folded value is at this tile: the reduction so far, or this tile's own."""
        lead = tuple(map(RankExpr.of_variable, self.cut.lead))
        key = access.tensor, 0
        if self.cut.step is None:
            return Access(self._local[key], (*lead, *access.indices))
        return Access(
            self._running[key], (*lead[:-1], RankExpr(lead[-1].terms, 1), *access.indices)
        )

    def _guard(self, access: Access) -> Access:
        """The value that exponentials subtract: 0 as long as the maximum is that of nothing."""
        fold = self.folds[access.tensor]
        if access.tensor not in self._guards:
            name = self.scope.fresh(f"S{access.tensor}")
            reached = self.reached(named(access.tensor, fold.einsum.free))
            self._add(
                Einsum(named(name, (*self.cut.lead, *fold.einsum.free)), guarded(fold, reached))
            )
            self._guards[access.tensor] = name
        lead = map(RankExpr.of_variable, self.cut.lead)
        return Access(self._guards[access.tensor], (*lead, *access.indices))

    def _repair(self, shifts: tuple[Shift, ...]) -> Access:
        """exp(a(d') - a(d)) from the values before this tile to those after it."""
        if shifts not in self._repairs:
            step = self.cut.step
            assert step is not None

            def before(access: Access) -> Access:
                reached = self.reached(access)
                at = len(self.cut.lead) - 1
                indices = list(reached.indices)
                indices[at] = RankExpr.of_variable(step)
                return replace(reached, indices=tuple(indices))

            self._repairs[shifts] = self.factor(shifts, before, self._guard)
        return self._repairs[shifts]

    def factor(
        self,
        shifts: tuple[Shift, ...],
        before: Callable[[Access], Expr],
        after: Callable[[Access], Expr],
    ) -> Access:
        exponent: Expr | None = None
        for shift in shifts:
            pair = (before(shift.value), after(shift.value))
            moved: Expr = Map("sub", pair if shift.sign < 0 else pair[::-1])
            if shift.scale is not None:
                moved = Map("mul", (moved, shift.scale))
            exponent = moved if exponent is None else Map("add", (exponent, moved))
        assert exponent is not None
        name = self.scope.fresh(f"P{shifts[0].value.tensor}")
        free = free_variables(exponent)
        lead = tuple(v for v in self.cut.lead if v in free)
        output = named(name, (*lead, *(v for v in free if v not in lead)))
        self._add(Einsum(output, Map(shifts[0].base, (exponent,))))
        return output

    # ---- across chunks

    def _merge(self, fold: Fold, number: int, term: Form) -> None:
        """The chunks' reductions together: rule C."""
        kept, chunk = fold.einsum.free, self.cut.chunk
        assert chunk is not None
        part: Expr
        if self.cut.step is None:
            part = named(self._local[fold.name, number], (chunk, *kept))
        else:
            part = self.finals[fold.name, number]
        if term.shifts:
            if term.shifts not in self._repairs:
                self._repairs[term.shifts] = self.factor(term.shifts, self._of_chunk, self._of_all)
            part = repaired(fold, term, part, self._repairs[term.shifts])
        output = named(self.final_name(fold, number), kept)
        self._add(Einsum(output, Reduce(fold.reduce.op, (chunk,), part)))
        self.finals[fold.name, number] = output

    def _of_chunk(self, access: Access) -> Expr:
        chunk, step = self.cut.chunk, self.cut.step
        assert chunk is not None
        lead = (RankExpr.of_variable(chunk),)
        if step is None:
            return Access(self._local[access.tensor, 0], (*lead, *access.indices))
        last = (*lead, RankExpr.of_size(step.upper()))
        return Access(self._running[access.tensor, 0], (*last, *access.indices))

    def _of_all(self, access: Access) -> Expr:
        return guarded(self.folds[access.tensor], replace(access, span=None))

    # ---- tiles

    def tiled(self, expr: Expr) -> Expr:
        """An expression at a point of a tile."""

        def leaf(node: Access | Coordinate) -> Expr:
            cut = self.cut
            if isinstance(node, Coordinate):
                moved = node.name == cut.variable and cut.point is not None
                return index_value(cut.point) if moved and cut.point is not None else node
            if node.tensor in self.loop.separator.kernels:
                return self._stream(node, self._kernel_name(node.tensor))
            if node.tensor in self.folds:
                return self._guard(node)
            if cut.variable not in set(node.variables()):
                return node
            einsum = self.loop.einsums.get(node.tensor)
            if einsum is not None and cut.tile is not None and self._is_stream(einsum):
                return self._stream(node, self._tile_name(einsum))
            if self._read is not None:
                return self._read(node)
            return node if cut.point is None else self._at_point(node, cut.point)

        return rewrite_leaves(expr, leaf)

    def _at_point(self, access: Access, point: RankExpr) -> Access:
        """A read at a point of a tile, of which those past the rank's end are in no sum.

        The partition fills what is read at the point itself there; beside it the read must say so.
        """
        variable = self.cut.variable
        indices = [
            self._at_point(index, point) if isinstance(index, Access) else index
            for index in access.indices
        ]
        beside = any(
            isinstance(index, RankExpr)
            and variable in set(index.variables())
            and index != RankExpr.of_variable(variable)
            for index in indices
        )
        fill = Literal(0) if beside and access.fill is None else access.fill
        return replace(access, indices=tuple(indices), fill=fill).substitute({variable: point})

    def _is_stream(self, einsum: Einsum) -> bool:
        return RankExpr.of_variable(self.cut.variable) in einsum.left

    def _stream(self, access: Access, name: str) -> Access:
        """A read of a tensor that has the cut rank: at the variables of its parts."""
        indices: list[RankExpr | Access] = []
        for index in access.indices:
            if index == RankExpr.of_variable(self.cut.variable):
                indices += map(RankExpr.of_variable, self.cut.axes)
                continue
            if self.cut.variable in set(index.variables()):
                raise PassError(
                    f"{access.tensor} is read at {index}, which another tile may hold",
                    span=access.span,
                )
            indices.append(index)
        return Access(name, tuple(indices), access.fill)

    def _tile_name(self, einsum: Einsum) -> str:
        name = einsum.name
        if name not in self._names:
            if not self.scope.alone(einsum):
                raise PassError(
                    f"{name} is part of a scan or of a partition, and cannot be tiled",
                    span=einsum.span,
                )
            expr = self.tiled(einsum.expr)
            where = None if einsum.where is None else self.tiled(einsum.where)
            self._names[name] = self.scope.fresh(f"B{name}")
            output = self._stream(einsum.output, self._names[name])
            self._add(replace(einsum, output=output, expr=expr, where=where, span=None))
        return self._names[name]

    def _kernel_name(self, name: str) -> str:
        if name not in self._names:
            kernel = self.loop.separator.kernels[name]
            einsum, expr = kernel.einsum, self.tiled(kernel.expr)
            self._names[name] = self.scope.fresh(f"B{einsum.name}")
            output = self._stream(einsum.output, self._names[name])
            self._add(Einsum(output, expr, einsum.semiring, dtype=einsum.dtype))
        return self._names[name]

    # ---- names and types

    def local(self, name: str, number: int) -> Access:
        """A tile's reduction."""
        lead = self.cut.lead
        return named(self._local[name, number], (*lead, *self.folds[name].einsum.free))

    def final_name(self, fold: Fold, number: int) -> str:
        """The name of a term that is merged: the tensor's own if there is no more to it."""
        stem = self.stem(fold, number)
        if fold.deferred:
            return self.scope.fresh(stem)
        return self.scope.fresh(f"N{stem}") if fold.shifted else fold.name

    def stem(self, fold: Fold, number: int) -> str:
        """The name that what is folded goes by: NT if the tensor is more than that."""
        return fold.name if not fold.deferred else f"N{fold.name}" + (str(number) if number else "")

    def _type(self, fold: Fold) -> DType | None:
        """The dtype that parts of a reduction are kept in, where it does not follow."""
        return kept_dtype(self.loop, fold)

    def _add(self, einsum: Einsum) -> None:
        self.made.append(einsum)


def repaired(fold: Fold, term: Form, value: Expr, repair: Expr) -> Expr:
    """A sum repaired; one that has seen nothing stays 0, whatever maximum it has not seen."""
    product = Map("mul", (value, repair))
    if not term.active and fold.einsum.where is None:
        return product
    return Map("select", (Map("eq", (value, Literal(0))), Literal(0), product))


def kept_dtype(loop: Loop, fold: Fold) -> DType | None:
    """The dtype that parts of a reduction are kept in: what the whole is computed in."""
    einsum, scope = fold.einsum, loop.scope
    if not scope.typed(einsum):
        return einsum.dtype
    computed = scope.computed(einsum) if fold.reduce.op == einsum.ring.add else scope.dtype(einsum)
    return computed if computed != scope.dtype(einsum) else einsum.dtype


def guarded(fold: Fold, value: Expr) -> Expr:
    """A maximum, or 0 where it is that of nothing: what an exponential subtracts."""
    nothing = Literal(_INFINITE[str(fold.reduce.op)])
    return Map("select", (Map("eq", (value, nothing)), Literal(0), value))


def identity(fold: Fold) -> int | float | complex | bool:
    """What a reduction of nothing is."""
    found = identity_of(fold.reduce.op)
    assert found is not None
    return found


def one_or(kernel: Expr | None, dtype: DType | None) -> Expr:
    """A kernel, or one where there is none."""
    if kernel is not None:
        return kernel
    return Literal(1) if dtype is None else Map("cast", (Literal(1),), dtype)


def named(tensor: str, variables: Iterable[str]) -> Access:
    """The Access `tensor[variables]`."""
    return Access(tensor, tuple(map(RankExpr.of_variable, variables)))
