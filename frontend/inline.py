"""A call of another cascade on whole tensors: its Einsums, under names of the caller's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ..ir.cascade import Cascade, TensorDecl
from ..ir.einsum import Access, Coordinate, Einsum, Expr, rebind, rewrite_leaves
from ..ir.errors import RankError, ResolveError
from ..ir.ranks import Partition, Quotient, Rank, RankExpr
from . import syntax
from .scope import similar
from .syntax import Definition, Name


class Caller:
    """A cascade while its Einsums are being resolved, and what a call needs to know of it.

    `defined` are the tensors that it will define, of which a call's intermediates keep clear.
    """

    def __init__(self, header: Cascade, defined: Collection[str]) -> None:
        self.einsums: list[Einsum] = []
        self.ranks = {rank.name: rank for rank in header.ranks}
        self._header = header
        self._partitions = list(header.partitions)
        self._assumptions = list(header.assumptions)
        self._dtypes = {decl.name: decl.dtype for decl in header.inputs}
        self._extents = {decl.name: decl.extents for decl in header.inputs}
        self._taken = {*self.ranks, *self._extents, *defined}
        self._seen = 0  # the Einsums of which the extents are known
        self._number: dict[str, int] = {}  # below which no name of a stem is free

    def cascade(self) -> Cascade:
        """What it has come to."""
        return replace(
            self._header,
            ranks=tuple(self.ranks.values()),
            einsums=tuple(self.einsums),
            partitions=tuple(self._partitions),
            assumptions=tuple(self._assumptions),
        )

    def call(self, called: Cascade, definition: Definition) -> list[Einsum]:
        """Has the Einsums of `AV = attention(Q, K, V)` at its end, and gives them.

        A rank of the called cascade is the caller's rank that it meets, if it meets one, and no
        other rank has met it; else it is a new rank of that size. An input of another dtype than
        declared is converted first. Intermediates keep their names where these are free.

        Raises:
            ResolveError: the call does not fit the header of what it calls.
            RankError: the tensors' ranks do not.
        """
        call = syntax.ungroup(definition.expr)
        assert isinstance(call, syntax.Call)
        for einsum in self.einsums[self._seen :]:
            if einsum.name not in self._extents or einsum.step is not None:
                self._extents[einsum.name] = einsum.extents()
        self._seen = len(self.einsums)
        arguments = self._arguments(called, call)
        targets = _targets(called, definition)
        met = self._met(called, arguments, call)
        ranks = self._names_of_ranks(called, met)
        tensors = {decl.name: name for decl, name in zip(called.inputs, arguments, strict=True)}
        made: list[Einsum] = []
        for decl in called.inputs:
            given = tensors[decl.name]
            if decl.dtype is not None and self._dtypes.get(given) != decl.dtype:
                tensors[decl.name] = self._fresh(decl.name)
                made.append(_conversion(decl, given, tensors[decl.name], ranks))
        for einsum in called.einsums:
            if einsum.name not in tensors:
                tensors[einsum.name] = targets.get(einsum.name) or self._fresh(einsum.name)
        renamer = _Renamer(tensors, ranks)
        for rank in called.ranks:
            name = ranks[rank.name]
            if name not in self.ranks:
                new = renamer.rank(rank)
                if rank.name in met:
                    new = replace(new, shape=_shape(met[rank.name]))
                self.ranks[name] = new
        made += map(renamer.einsum, called.einsums)
        self.einsums += made
        self._partitions += map(renamer.partition, called.partitions)
        self._assumptions += map(renamer.expr, called.assumptions)
        return made

    def _fresh(self, stem: str) -> str:
        """A new name, as `fresh_name` makes it."""
        name, number = stem, self._number.get(stem, 0)
        while name in self._taken:
            number += 1
            name = f"{stem}{number}"
        self._number[stem] = number
        self._taken.add(name)
        return name

    def _arguments(self, called: Cascade, call: syntax.Call) -> list[str]:
        """The tensors that a call names."""
        names: list[str] = []
        for arg in call.args:
            name = syntax.ungroup(arg)
            if not isinstance(name, Name):
                raise ResolveError(
                    f"{called.name} is called on whole tensors",
                    span=arg.span,
                    hint=f"{called.name}({', '.join(decl.name for decl in called.inputs)}), "
                    "without brackets; compute what is passed in an Einsum before",
                )
            if name.text not in self._extents:
                raise ResolveError(
                    f"{name.text} is not defined here",
                    span=name.span,
                    hint=similar(name.text, self._extents)
                    or "a call is of tensors: inputs, and what Einsums above define",
                )
            names.append(name.text)
        if len(names) != len(called.inputs):
            count = len(called.inputs)
            raise ResolveError(
                f"{called.name} takes {count} tensor{'s' * (count != 1)}, not {len(names)}",
                span=call.span,
                deduced=(f"{called.name}({', '.join(map(str, called.inputs))})",),
                hint="pass one tensor for each input",
            )
        return names

    def _met(
        self, called: Cascade, arguments: Sequence[str], call: syntax.Call
    ) -> dict[str, RankExpr]:
        """The caller's extent that each rank of the called cascade stands for."""
        for decl, name, arg in zip(called.inputs, arguments, call.args, strict=True):
            count = len(self._extents[name])
            if count != len(decl.extents):
                raise RankError(
                    f"{called.name} takes {decl}, but {name} has {count} rank{'s' * (count != 1)}",
                    span=arg.span,
                    hint="bring it into that form in an Einsum before",
                )
        met: dict[str, RankExpr] = {}
        for decl, name in zip(called.inputs, arguments, strict=True):
            for extent, given in zip(decl.extents, self._extents[name], strict=True):
                if extent.rank is not None:
                    met.setdefault(extent.rank, given)
        for decl, name, arg in zip(called.inputs, arguments, call.args, strict=True):
            for extent, given in zip(decl.extents, self._extents[name], strict=True):
                wanted = met[extent.rank] if extent.rank is not None else extent
                if self._root(wanted) != self._root(given):
                    raise RankError(
                        f"{called.name} takes {decl}, where {extent} is {wanted}, "
                        f"but {name} has {given} there",
                        span=arg.span,
                        hint="if they are the same size, declare the alias in `ranks`",
                    )
        return met

    def _names_of_ranks(self, called: Cascade, met: Mapping[str, RankExpr]) -> dict[str, str]:
        """The name here of each rank of the called cascade."""
        used: set[str] = set()
        names: dict[str, str] = {}
        for rank in called.ranks:
            own = met[rank.name].rank if rank.name in met else None
            if own is None or own in used:
                own = self._fresh(rank.name)
            used.add(own)
            names[rank.name] = own
        return names

    def _root(self, extent: RankExpr) -> RankExpr | int:
        """An extent without aliases; a circle of them ends where it closes."""
        seen: set[str] = set()
        while (name := extent.rank) is not None and name not in seen:
            seen.add(name)
            rank = self.ranks.get(name)
            if rank is not None and isinstance(rank.shape, int):
                return rank.shape
            if rank is None or not isinstance(rank.shape, RankExpr):
                break
            extent = rank.shape
        return extent if extent.constant is None else extent.constant


def _targets(called: Cascade, definition: Definition) -> dict[str, str]:
    """From each output of the called cascade to the tensor that it is here."""
    for part in (definition.semiring, definition.where):
        if part is not None:
            raise ResolveError(
                "a call stands alone on the right side",
                span=part.span,
                hint="`over` and `where` belong to Einsums: write one that reads what is called",
            )
    for target in definition.targets:
        if target.bracket is not None or target.dtype is not None:
            raise ResolveError(
                "a call defines whole tensors",
                span=target.span,
                hint=f"write {target.name.text} = {called.name}(...)",
            )
    names = [target.name.text for target in definition.targets]
    if len(names) != len(called.outputs) or len(set(names)) < len(names):
        outputs = ", ".join(called.outputs)
        raise ResolveError(
            f"{called.name} gives {outputs}, so as many names stand on the left",
            span=definition.targets[0].span,
            hint=f"write {outputs} = {called.name}(...)",
        )
    return dict(zip(called.outputs, names, strict=True))


def _shape(extent: RankExpr) -> int | RankExpr:
    return extent if extent.constant is None else extent.constant


def _conversion(decl: TensorDecl, tensor: str, name: str, ranks: Mapping[str, str]) -> Einsum:
    """An Einsum that copies a tensor into an input's declared dtype."""
    indices = tuple(
        RankExpr() if extent.rank is None else RankExpr.of_variable(ranks[extent.rank].lower())
        for extent in decl.extents
    )
    return Einsum(Access(name, indices), Access(tensor, indices), dtype=decl.dtype, span=decl.span)


class _Renamer:
    """Nodes with other names of tensors and ranks."""

    def __init__(self, tensors: Mapping[str, str], ranks: Mapping[str, str]) -> None:
        self.tensors = tensors
        self.ranks = ranks
        self.variables = {old.lower(): new.lower() for old, new in ranks.items()}
        self.places = {old: RankExpr.of_variable(new) for old, new in self.variables.items()}

    def rank(self, rank: Rank) -> Rank:
        shape = rank.shape
        if isinstance(shape, RankExpr | Quotient):
            shape = shape.rename_sizes(self._size)
        return replace(rank, name=self._size(rank.name), shape=shape)

    def partition(self, partition: Partition) -> Partition:
        parts = tuple(map(self._size, partition.parts))
        return replace(partition, rank=self._size(partition.rank), parts=parts)

    def einsum(self, einsum: Einsum) -> Einsum:
        where = None if einsum.where is None else self.expr(einsum.where)
        output = self._access(einsum.output)
        return replace(einsum, output=output, expr=self.expr(einsum.expr), where=where)

    def expr(self, expr: Expr) -> Expr:
        renamed = rewrite_leaves(expr, self._leaf)
        return rebind(renamed, lambda bound: tuple(self.variables.get(v, v) for v in bound))

    def _leaf(self, leaf: Access | Coordinate) -> Expr:
        if isinstance(leaf, Access):
            return self._access(leaf)
        name = self.ranks.get(leaf.name) or self.variables.get(leaf.name, leaf.name)
        return replace(leaf, name=name)

    def _access(self, access: Access) -> Access:
        indices = tuple(
            self._access(index) if isinstance(index, Access) else self._index(index)
            for index in access.indices
        )
        return replace(
            access, tensor=self.tensors.get(access.tensor, access.tensor), indices=indices
        )

    def _index(self, index: RankExpr) -> RankExpr:
        return index.rename_sizes(self._size).substitute(self.places)

    def _size(self, rank: str) -> str:
        return self.ranks.get(rank, rank)
