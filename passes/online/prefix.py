"""A shared prefix: what a batch has in common is read once for all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...ir.cascade import Cascade, TensorDecl
from ...ir.einsum import Access, Einsum, Expr, Map
from ...ir.errors import PassError
from ...ir.ranks import Rank, RankExpr, Term
from ..base import Pass
from .emit import Cut, Emitter, guarded, named, repaired
from .flatten import flattened
from .forms import Fold, Form
from .loop import Loop
from .passes import check_rank
from .rebuild import rebuilt


@dataclass(frozen=True, slots=True)
class SharedPrefix(Pass):
    """A rank falls into a prefix, in which some inputs are those of a whole batch, and a suffix.

        cascade f(Q[B,E], K[B,E,M], V[B,F,M]) -> AV
     -> cascade f(Q[B,E], K_prefix[E,MP], K_suffix[B,E,MS], V_prefix[F,MP], V_suffix[B,F,MS]) -> AV
                                       shared_prefix{rank=m, batch=b, tensors=[K, V]}

    Both parts are reduced by themselves, the prefix for the whole batch against one K and V, and
    merged as `merge` merges tiles. Every input along the rank becomes two; those of `tensors` have
    no batch rank in their prefix.

    Condition: that of `merge`, for every reduction over the rank; the result is that of the
    Cascade for inputs whose prefix is the same all over the batch. Source: rule C; Hydragen (arXiv
    2402.05099), RelayAttention (2402.14808), ChunkAttention (2402.15220).

    Options:
        rank: the variable of the rank that falls into two.
        batch: the variable of the batch.
        tensors: the inputs that share their prefix.

    Raises:
        PassError: a reduction over the rank cannot be merged, or an input is not as described.
    """

    name: ClassVar[str] = "shared_prefix"
    rank: str
    batch: str
    tensors: tuple[str, ...]

    def __call__(self, cascade: Cascade) -> Cascade:
        check_rank(cascade, self.rank)
        check_rank(cascade, self.batch)
        if self.batch == self.rank:
            raise PassError(f"the batch is another rank than {self.rank}, which falls into two")
        loop = Loop(flattened(cascade, self.rank), self.rank)
        for name, reason in loop.refused.items():
            raise PassError(f"{name} cannot be merged: {reason}")
        if not loop.folds:
            raise PassError(f"nothing is reduced over {self.rank}")
        split = {
            decl.name: self._axis(decl)
            for decl in cascade.inputs
            if any(extent.rank == self.rank.upper() for extent in decl.extents)
        }
        for tensor in self.tensors:
            if tensor not in split:
                raise PassError(
                    f"{tensor} is no input with an axis {self.rank.upper()}",
                    hint=f"these are: {', '.join(split) or 'none'}",
                )
        rank = self.rank.upper()
        prefix = loop.scope.new_rank(f"{rank}P", None)
        suffix = loop.scope.new_rank(f"{rank}S", None)
        length = Term(1, (prefix.upper(),))
        parts = [
            self._part(loop, "prefix", prefix, RankExpr.of_variable(prefix)),
            self._part(loop, "suffix", suffix, RankExpr((Term(1, (), suffix), length))),
        ]
        merger = _Merger(loop, parts)
        merger.run()
        made = [*parts[0].made, *parts[1].made, *merger.made]
        found = rebuilt(loop, made, merger.finals)
        return self._with_inputs(found, split, prefix.upper(), suffix.upper())

    def _axis(self, decl: TensorDecl) -> int:
        rank = self.rank.upper()
        axes = [n for n, extent in enumerate(decl.extents) if extent.rank == rank]
        batches = [n for n, e in enumerate(decl.extents) if e.rank == self.batch.upper()]
        if len(axes) > 1 or (decl.name in self.tensors and len(batches) != 1):
            raise PassError(
                f"{decl} needs one axis {rank}, and one {self.batch.upper()} if it shares its "
                "prefix",
                span=decl.span,
            )
        return axes[0]

    def _part(self, loop: Loop, part: str, variable: str, point: RankExpr) -> Emitter:
        def read(access: Access) -> Access:
            """A read of an input along the rank, as one of its part."""
            if loop.cascade.declaration(access.tensor) is None:
                return access.substitute({self.rank: point})
            here = {self.rank: RankExpr.of_variable(variable)}
            if RankExpr.of_variable(self.rank) not in access.indices:
                raise PassError(
                    f"{access.tensor} is read away from {self.rank}, in the other part",
                    span=access.span,
                )
            indices = list(access.substitute(here).indices)
            if part == "prefix" and access.tensor in self.tensors:
                del indices[self._batch_axis(loop, access)]
            return Access(f"{access.tensor}_{part}", tuple(indices), access.fill)

        emitter = Emitter(
            loop, Cut(self.rank, tile=variable, point=point), list(loop.folds.values()), read
        )
        emitter.run()
        return emitter

    def _batch_axis(self, loop: Loop, access: Access) -> int:
        decl = loop.cascade.declaration(access.tensor)
        assert decl is not None
        return next(n for n, e in enumerate(decl.extents) if e.rank == self.batch.upper())

    def _with_inputs(
        self, cascade: Cascade, split: dict[str, int], prefix: str, suffix: str
    ) -> Cascade:
        for einsum in cascade.einsums:
            for access in einsum.reads():
                if access.tensor in split:
                    raise PassError(
                        f"{einsum.name} reads {access.tensor} whole, beside what is merged",
                        span=einsum.span,
                    )
        inputs: list[TensorDecl] = []
        for decl in cascade.inputs:
            if decl.name not in split:
                inputs.append(decl)
                continue
            for part, rank in (("prefix", prefix), ("suffix", suffix)):
                extents = list(decl.extents)
                extents[split[decl.name]] = RankExpr.of_size(rank)
                if part == "prefix" and decl.name in self.tensors:
                    extents = [e for e in extents if e.rank != self.batch.upper()]
                inputs.append(
                    replace(decl, name=f"{decl.name}_{part}", extents=tuple(extents), span=None)
                )
        whole = RankExpr((Term(1, (prefix,)), Term(1, (suffix,))))
        ranks = [
            Rank(rank.name, whole) if rank.name == self.rank.upper() else rank
            for rank in cascade.ranks
        ]
        # A size is declared before what is made of it.
        ranks.sort(key=lambda rank: rank.name == self.rank.upper())
        return replace(cascade, ranks=tuple(ranks), inputs=tuple(inputs))


class _Merger:
    """Two parts that were reduced by themselves, as one."""

    def __init__(self, loop: Loop, parts: list[Emitter]) -> None:
        self.loop, self.parts = loop, parts
        self.made: list[Einsum] = []
        self.finals: dict[tuple[str, int], Access] = {}
        self._repairs: dict[tuple[object, ...], list[Access]] = {}

    def run(self) -> None:
        for fold in self.loop.folds.values():
            for number, term in enumerate(fold.terms):
                self._merge(fold, number, term)

    def _merge(self, fold: Fold, number: int, term: Form) -> None:
        values: list[Expr] = [part.local(fold.name, number) for part in self.parts]
        if term.shifts:
            if term.shifts not in self._repairs:
                self._repairs[term.shifts] = [
                    part.factor(term.shifts, part.reached, self._whole) for part in self.parts
                ]
                for part in self.parts:
                    self.made.append(part.made.pop())
            pairs = zip(values, self._repairs[term.shifts], strict=True)
            values = [repaired(fold, term, value, by) for value, by in pairs]
        output = named(self.parts[0].final_name(fold, number), fold.einsum.free)
        self.made.append(Einsum(output, Map(fold.reduce.op, tuple(values))))
        self.finals[fold.name, number] = output

    def _whole(self, access: Access) -> Expr:
        return guarded(self.loop.folds[access.tensor], replace(access, span=None))
