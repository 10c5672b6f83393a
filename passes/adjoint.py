"""The adjoint of a Cascade: reverse-mode differentiation as a rewrite into the same language.

Rule 23 of the equivalence rules, bar Tk = #(I, others -> Ik; bar Y, others), with the chain rule
over the cascade and the derivatives of the other operators (derivatives.py). What a tensor is read
as is added up by scatter.py; what several reads contribute is summed in one Einsum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..ir.cascade import Cascade, TensorDecl
from ..ir.einsum import Access, Einsum, Expr, Reduce, substitute
from ..ir.errors import UnsupportedError
from ..ir.infer import infer_dtypes
from ..ir.ranks import RankExpr
from ..ir.scans import Scan, axis_of, stages
from ..ir.verify import verify
from .derivatives import ONE, ZERO, plus
from .differentiable import check, prepared, reached_from
from .pullback import Contribution, Writer, points_of, pullback, reversed_index
from .rewrite import without_unread
from .scatter import Part, Ranks, scatter


def adjoint(cascade: Cascade, wrt: Sequence[str]) -> Cascade:
    """The Cascade from cotangents of the outputs to those of the inputs `wrt`.

    It has the inputs of `cascade` and, for each floating output Y, the input `Y_bar`; if the one
    output is a scalar, its cotangent is 1 and no input. For each X of `wrt` it gives `X_bar`.

    Raises:
        PassError: `wrt` names no input, or one without a cotangent: of integers or bools.
        UnsupportedError: an Einsum has no derivative here.
        OperandError: the dtype of an input is not known.
    """
    check(cascade, wrt)
    cascade = prepared(cascade, wrt)
    maker = _Adjoint(cascade, wrt)
    for stage in reversed(stages(cascade)):
        if isinstance(stage, Scan):
            maker.scan(stage)
        elif stage.name in maker.active:
            maker.einsum(stage)
    return verify(maker.finish())


class _Adjoint:
    """Goes through the stages backwards; `parts` are what the reads so far contribute."""

    def __init__(self, cascade: Cascade, wrt: Sequence[str]) -> None:
        self.cascade = cascade
        self.wrt = wrt
        self.dtypes = infer_dtypes(cascade, {})
        names = cascade.names()
        ranks = Ranks(cascade.ranks, names)
        self.writer = Writer(list(cascade.einsums), names, dict(self.dtypes), ranks)
        reached = reached_from(cascade, wrt)
        self.active = {name for name in reached if self.dtypes[name].is_inexact}
        self.extents = cascade.extents()
        self.parts: dict[str, list[Part]] = {}
        self.starts: dict[str, Expr | None] = {}  # their cotangents, of the scans gone through
        self.along: dict[str, int] = {}  # the axis along which the tensors of those scans step
        self.begun: dict[str, list[Part]] = {}  # what reads of those starts contribute besides
        self.seeds: dict[str, Expr] = {}
        self.inputs: list[TensorDecl] = []
        self.outputs = {name: self.writer.name(f"{name}_bar") for name in wrt}
        scalar = len(cascade.outputs) == 1 and not self.extents[cascade.outputs[0]]
        for name in cascade.outputs:
            if scalar:
                self.seeds[name] = ONE
            elif self.dtypes[name].is_inexact:
                seed = self.writer.name(f"{name}_bar")
                self.inputs.append(TensorDecl(seed, self.extents[name], self.dtypes[name]))
                self.writer.dtypes[seed] = self.dtypes[name]
                self.seeds[name] = Access(seed, self.writer.ranks.axes(self.extents[name]))

    def finish(self) -> Cascade:
        """The adjoint, without what its outputs do not need."""
        for name, output in self.outputs.items():
            if self.close(name, output) is None:
                left = self.writer.ranks.axes(self.extents[name])
                self.writer.define(Access(output, left), ZERO, dtype=self.dtypes[name])
        outputs = tuple(self.outputs.values())
        return replace(
            self.cascade,
            name=self.writer.name(f"{self.cascade.name}_grad"),
            ranks=tuple(self.writer.ranks.ranks),
            inputs=(*self.cascade.inputs, *self.inputs),
            einsums=tuple(without_unread(self.writer.einsums, outputs)),
            outputs=outputs,
        )

    # ---- cotangents

    def close(self, tensor: str, name: str | None = None) -> Expr | None:
        """The cotangent of a tensor at its own axes, with all that was contributed; None: zero."""
        seed, parts = self.seeds.get(tensor), self.parts.pop(tensor, [])
        if not parts and name is None:
            return seed
        left = self.writer.ranks.axes(self.extents[tensor])
        terms = [seed] if seed is not None else []
        return self.total(tensor, left, parts, terms, name)

    def total(
        self,
        tensor: str,
        left: tuple[RankExpr, ...],
        parts: Sequence[Part],
        terms: Sequence[Expr] = (),
        name: str | None = None,
    ) -> Access | None:
        """An Einsum of the sum of `terms`, which are at `left`, and of parts; None: of nothing."""
        if not parts and not terms:
            return None
        stem, dtype = f"{tensor}_bar", self.dtypes[tensor]
        if len(parts) == 1 and not terms:
            (part,) = parts
            output = Access(name or self.writer.name(stem), part.left)
            self.writer.define(output, part.expr, part.where, part.otherwise, dtype)
            return Access(output.tensor, left)
        found = list(terms)
        output = Access(name or self.writer.name(stem), left)
        for part in parts:
            if part.left == left and part.where is None and not isinstance(part.expr, Reduce):
                found.append(part.expr)
                continue
            each = Access(self.writer.name(stem), part.left)
            self.writer.define(each, part.expr, part.where, part.otherwise, dtype.compute)
            found.append(Access(each.tensor, left))
        self.writer.define(output, plus(found), dtype=dtype)
        return output

    # ---- Einsums

    def einsum(self, einsum: Einsum) -> None:
        """What an Einsum that is no part of a scan gives its reads."""
        if einsum.name in self.starts:
            found = self.starts[einsum.name]
            terms, parts = [] if found is None else [found], self.begun.pop(einsum.name, [])
            cotangent = self.total(einsum.name, einsum.left, parts, terms) if parts else found
        else:
            cotangent = self.close(einsum.name)
            if isinstance(cotangent, Access):
                cotangent = replace(cotangent, indices=einsum.left)
        if cotangent is None:
            return
        for each in pullback(einsum, cotangent, self.writer, self.active):
            self.contribute(each, einsum)

    def contribute(self, each: Contribution, einsum: Einsum) -> None:
        """Adds what a read gives to the parts of its tensor."""
        tensor = each.read.tensor
        extents, into = self.extents[tensor], self.parts
        axis = self.along.get(tensor)
        if axis is not None and _is_start(each.read, axis):
            extents, into = _at(extents, axis, RankExpr((), 1)), self.begun
        into.setdefault(tensor, []).append(
            scatter(
                each.read,
                extents,
                each.cotangent,
                each.conditions,
                points_of(einsum),
                self.writer.ranks,
            )
        )

    # ---- scans

    def scan(self, scan: Scan) -> None:
        """A scan is differentiated by a scan that runs backwards.

            X[v+1] = f(X[v], A[v])   ->   XB[0] = G[V],  XB[u+1] = G[V-1-u] + f'(V-1-u) XB[u]

        G is what is contributed from outside; XB[u] is the cotangent of X[V-u]. Condition: one
        rank, and reads of the scan's own tensors at v, or at v+1 what was just defined; a scan of a
        longer step has been brought to that form (lags.py).
        """
        members = [einsum for einsum in scan.einsums if einsum.name in self.active]
        if not members:
            return
        variable = scan.variable
        outside = {einsum.name: self.close(einsum.name) for einsum in members}
        lags = {einsum.name: axis_of(einsum, variable) for einsum in members}
        self.along |= {name: axis for name, (axis, lag) in lags.items() if lag}
        carried = _carried(scan, members, lags)
        begun = len(self.writer.einsums)
        taken = {v for einsum in members for v in points_of(einsum)}
        back = self.writer.ranks.variable(RankExpr.of_size(scan.rank), {*taken, variable})
        now, behind = RankExpr.of_variable(back), reversed_index(variable, back)
        states: dict[str, Access] = {}
        for einsum in members:
            if einsum.name in carried:
                axis, _ = lags[einsum.name]
                last = RankExpr.of_size(scan.rank)
                states[einsum.name] = self._begin(einsum, axis, last, outside[einsum.name])
        same: dict[str, list[Part]] = {}
        following: dict[str, list[Part]] = {}
        for einsum in reversed(members):
            axis, lag = lags[einsum.name]
            left = _at(einsum.left, axis, now)
            cotangent = _read(states.get(einsum.name), left) or _read(
                outside[einsum.name],
                _at(einsum.left, axis, replace(behind, offset=behind.offset + lag)),
            )
            if einsum.name in same:
                terms = [] if cotangent is None else [cotangent]
                cotangent = self.total(einsum.name, left, same[einsum.name], terms)
            if cotangent is None:
                continue
            cotangent = cotangent.substitute({back: reversed_index(variable)})
            for each in pullback(einsum, cotangent, self.writer, self.active):
                at, ahead = lags.get(each.read.tensor, (0, 0))
                if each.read.tensor not in lags or (ahead and _is_start(each.read, at)):
                    self.contribute(each, einsum)
                    continue
                index = each.read.indices[at]
                assert isinstance(index, RankExpr)
                into = same if index.offset == ahead else following
                part = self._behind(each, einsum, at, back, variable, behind)
                into.setdefault(each.read.tensor, []).append(part)
        for einsum in members:
            name, (axis, lag) = einsum.name, lags[einsum.name]
            given = outside[name]
            if name in states:
                more = _read(given, _at(einsum.left, axis, behind))
                self._step(einsum, axis, now, states[name], following.get(name, []), more)
                end = _at(einsum.left, axis, RankExpr.of_size(scan.rank))
                self.starts[name] = replace(states[name], indices=end)
            elif lag:
                self.starts[name] = _read(given, _at(einsum.left, axis, RankExpr()))
        self.writer.einsums[begun:] = _in_order(self.writer.einsums[begun:])

    def _begin(self, einsum: Einsum, axis: int, last: RankExpr, given: Expr | None) -> Access:
        """The start of a backward scan: the cotangent of the last coordinate."""
        name = self.writer.name(f"{einsum.name}_bar")
        output = Access(name, _at(einsum.left, axis, RankExpr()))
        start = _read(given, _at(einsum.left, axis, last))
        self.writer.define(output, start or ZERO, dtype=self.dtypes[einsum.name])
        return output

    def _step(
        self,
        einsum: Einsum,
        axis: int,
        now: RankExpr,
        state: Access,
        parts: Sequence[Part],
        more: Expr | None,
    ) -> None:
        """The step of a backward scan: what later steps and the outside contribute."""
        ahead = Access(state.tensor, _at(einsum.left, axis, replace(now, offset=1)))
        terms = [] if more is None else [more]
        total = self.total(einsum.name, _at(einsum.left, axis, now), parts, terms)
        self.writer.define(ahead, total or ZERO, dtype=self.dtypes[einsum.name])

    def _behind(
        self,
        each: Contribution,
        einsum: Einsum,
        axis: int,
        back: str,
        variable: str,
        behind: RankExpr,
    ) -> Part:
        """What a read of a scan's own tensor contributes, at V-1-u for v."""
        behind_it = {variable: behind}
        return scatter(
            each.read.substitute(behind_it),
            self.extents[each.read.tensor],
            substitute(each.cotangent, behind_it),
            [substitute(condition, behind_it) for condition in each.conditions],
            tuple(back if point == variable else point for point in points_of(einsum)),
            self.writer.ranks,
            (axis, back),
        )


def _is_start(access: Access, axis: int) -> bool:
    """Whether a scan's tensor, which steps by 1 along an axis, is read at its start."""
    index = access.indices[axis]
    return isinstance(index, RankExpr) and index.constant == 0


def _at(indices: Sequence[RankExpr], axis: int, index: RankExpr) -> tuple[RankExpr, ...]:
    return (*indices[:axis], index, *indices[axis + 1 :])


def _read(cotangent: Expr | None, indices: tuple[RankExpr, ...]) -> Access | None:
    """A cotangent at other indices than its tensor's own."""
    return replace(cotangent, indices=indices) if isinstance(cotangent, Access) else None


def _in_order(einsums: Sequence[Einsum]) -> list[Einsum]:
    """The Einsums with those that need one another together, each after what it reads.

    An operator without a derivative breaks the circle that a scan is, so that a part of its
    adjoint may be read by what stands above.
    """
    import networkx  # only scans need it

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    first = {einsum.name: number for number, einsum in reversed(list(enumerate(einsums)))}
    graph.add_nodes_from(first)
    for einsum in einsums:
        for access in einsum.reads():
            if access.tensor in first:
                graph.add_edge(access.tensor, einsum.name)
    whole = networkx.condensation(graph)
    names: dict[int, set[str]] = {node: whole.nodes[node]["members"] for node in whole.nodes}

    def earliest(node: int) -> int:
        return min(first[name] for name in names[node])

    order = networkx.lexicographical_topological_sort(whole, key=earliest)
    place = {name: number for number, node in enumerate(order) for name in names[node]}
    return sorted(einsums, key=lambda einsum: place[einsum.name])


def _carried(scan: Scan, members: Sequence[Einsum], lags: dict[str, tuple[int, int]]) -> set[str]:
    """The tensors of which a later step reads what an earlier one made; if none reads otherwise."""
    carried: set[str] = set()
    inner = next((each for each in scan.members if isinstance(each, Scan)), None)
    if inner is not None and members:
        raise _unsupported(inner.einsums[0], f"steps along {inner.variable} inside another scan")
    for einsum in members:
        for access in einsum.reads():
            if access.tensor not in lags:
                continue
            axis, lag = lags[access.tensor]
            if lag and _is_start(access, axis):
                continue
            index = access.indices[axis]
            if not isinstance(index, RankExpr) or RankExpr(index.terms).variable != scan.variable:
                raise _unsupported(einsum, f"reads {access.tensor} at {index}")
            if index.offset not in (0, lag):
                raise _unsupported(einsum, f"reads {access.tensor} at {index}")
            if index.offset < lag:
                carried.add(access.tensor)
    return carried


def _unsupported(einsum: Einsum, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"the scan of {einsum.name} is not differentiated: it {why}",
        span=einsum.span,
        hint="a scan has an adjoint here if it steps along one rank and reads its own tensors at v "
        "and above, or at their starts",
    )
