"""A call of another cascade on whole tensors: its Einsums, under names of the caller's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..ir.cascade import Cascade, TensorDecl, fresh_name
from ..ir.einsum import Access, Coordinate, Einsum, Expr, rebind, rewrite_leaves
from ..ir.errors import RankError, ResolveError
from ..ir.ranks import Partition, Quotient, Rank, RankExpr
from . import syntax
from .scope import similar
from .syntax import Definition, Name


def inline(caller: Cascade, called: Cascade, definition: Definition) -> Cascade:
    """The caller with the Einsums of `AV = attention(Q, K, V)` at its end.

    A rank of the called cascade is the caller's rank that it meets, if it meets one, and no other
    rank has met it; else it is a new rank of that size. An input of another dtype than declared is
    converted first. Intermediates keep their names where these are free.

    Raises:
        ResolveError: the call does not fit the header of what it calls.
        RankError: the tensors' ranks do not.
    """
    call = syntax.ungroup(definition.expr)
    assert isinstance(call, syntax.Call)
    arguments = _arguments(caller, called, call)
    targets = _targets(called, definition)
    taken = {decl.name for decl in caller.inputs} | {e.name for e in caller.einsums}
    taken |= set(targets.values())
    ranks = _ranks(caller, called, arguments, call)
    taken |= {rank.name for rank in caller.ranks} | set(ranks.values())
    tensors = {decl.name: name for decl, name in zip(called.inputs, arguments, strict=True)}
    converted: list[Einsum] = []
    for decl in called.inputs:
        if decl.dtype is not None and not _has_dtype(caller, tensors[decl.name], decl):
            name = fresh_name(decl.name, taken)
            taken.add(name)
            converted.append(_conversion(decl, tensors[decl.name], name, ranks))
            tensors[decl.name] = name
    for einsum in called.einsums:
        if einsum.name not in tensors:
            tensors[einsum.name] = targets.get(einsum.name) or fresh_name(einsum.name, taken)
            taken.add(tensors[einsum.name])
    renamer = _Renamer(tensors, ranks)
    known = {rank.name for rank in caller.ranks}
    fresh = (renamer.rank(rank) for rank in called.ranks)
    extents = _met(caller, called, arguments)
    added = [
        replace(rank, shape=_shape(extents[name]) if name in extents else rank.shape)
        for name, rank in zip((r.name for r in called.ranks), fresh, strict=True)
        if rank.name not in known
    ]
    return replace(
        caller,
        ranks=(*caller.ranks, *added),
        einsums=(*caller.einsums, *converted, *map(renamer.einsum, called.einsums)),
        partitions=(*caller.partitions, *map(renamer.partition, called.partitions)),
        assumptions=(*caller.assumptions, *map(renamer.expr, called.assumptions)),
    )


def _arguments(caller: Cascade, called: Cascade, call: syntax.Call) -> list[str]:
    """The tensors that a call names."""
    known = caller.extents()
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
        if name.text not in known:
            raise ResolveError(
                f"{name.text} is not defined here",
                span=name.span,
                hint=similar(name.text, known),
            )
        names.append(name.text)
    if len(names) != len(called.inputs):
        count = len(called.inputs)
        raise ResolveError(
            f"{called.name} takes {count} tensor{'s' * (count != 1)}, not {len(names)}",
            span=call.span,
            deduced=(f"{called.name}({', '.join(map(str, called.inputs))})",),
        )
    return names


def _targets(called: Cascade, definition: Definition) -> dict[str, str]:
    """From each output of the called cascade to the tensor that it is here."""
    for part in (definition.semiring, definition.where):
        if part is not None:
            raise ResolveError("a call stands alone on the right side", span=part.span)
    for target in definition.targets:
        if target.bracket is not None or target.dtype is not None:
            raise ResolveError(
                f"a call defines whole tensors: write {target.name.text} = {called.name}(...)",
                span=target.span,
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


def _met(caller: Cascade, called: Cascade, arguments: Sequence[str]) -> dict[str, RankExpr]:
    """The caller's extent that each rank of the called cascade stands for."""
    known = caller.extents()
    found: dict[str, RankExpr] = {}
    for decl, name in zip(called.inputs, arguments, strict=True):
        for extent, given in zip(decl.extents, known[name], strict=False):
            if extent.rank is not None:
                found.setdefault(extent.rank, given)
    return found


def _ranks(
    caller: Cascade, called: Cascade, arguments: Sequence[str], call: syntax.Call
) -> dict[str, str]:
    """The name here of each rank of the called cascade."""
    known = caller.extents()
    for decl, name, arg in zip(called.inputs, arguments, call.args, strict=True):
        if len(known[name]) != len(decl.extents):
            raise RankError(
                f"{called.name} takes {decl}, but {name} has {len(known[name])} "
                f"rank{'s' * (len(known[name]) != 1)}",
                span=arg.span,
            )
    met = _met(caller, called, arguments)
    for decl, name, arg in zip(called.inputs, arguments, call.args, strict=True):
        for extent, given in zip(decl.extents, known[name], strict=True):
            wanted = met[extent.rank] if extent.rank is not None else extent
            if not _same(wanted, given, caller):
                raise RankError(
                    f"{called.name} takes {decl}, where {extent} is {wanted}, "
                    f"but {name} has {given} there",
                    span=arg.span,
                    hint="if they are the same size, declare the alias in `ranks`",
                )
    taken = {rank.name for rank in caller.ranks}
    used: set[str] = set()
    names: dict[str, str] = {}
    for rank in called.ranks:
        own = met[rank.name].rank if rank.name in met else None
        if own is not None and own not in used:
            names[rank.name] = own
            used.add(own)
        else:
            names[rank.name] = fresh_name(rank.name, taken)
            taken.add(names[rank.name])
    return names


def _same(wanted: RankExpr, given: RankExpr, caller: Cascade) -> bool:
    """Whether two extents are known to be the same."""
    shapes = {rank.name: rank.shape for rank in caller.ranks}

    def root(extent: RankExpr) -> RankExpr | int:
        while extent.rank is not None:
            shape = shapes.get(extent.rank)
            if isinstance(shape, int):
                return shape
            if not isinstance(shape, RankExpr):
                break
            extent = shape
        return extent if extent.constant is None else extent.constant

    return root(wanted) == root(given)


def _shape(extent: RankExpr) -> int | RankExpr:
    return extent if extent.constant is None else extent.constant


def _has_dtype(caller: Cascade, tensor: str, decl: TensorDecl) -> bool:
    given = caller.declaration(tensor)
    return given is not None and given.dtype == decl.dtype


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
