"""What a text says before its Einsums: ranks, inputs, partitions, assumptions.

A rank is listed in a line of `ranks`, named by an input or by a partition, or is that of a variable
alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..ir import limits
from ..ir.cascade import TensorDecl
from ..ir.einsum import Expr as Node
from ..ir.errors import RankError, ResolveError
from ..ir.ranks import Partition, Rank, RankExpr
from . import syntax
from .expressions import resolve_expr, resolve_shape, resolve_size
from .scope import SIZE, VARIABLE, Scope, new_name, read_dtype, similar
from .syntax import Declaration, Definition, Indexed, Infix, Name, Program, RankItem, Reduction

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Declared:
    """The ranks, listed ones first; the inputs; the partitions."""

    ranks: tuple[Rank, ...]
    inputs: tuple[TensorDecl, ...]
    partitions: tuple[Partition, ...]


def declared(program: Program, defined: Collection[str]) -> Declared:
    """What a text declares; `defined` are the tensors that its Einsums define."""
    listed = _listed_ranks(program)
    inputs = tuple(_input(decl, listed) for decl in program.inputs)
    implied = _implied(inputs, listed)
    partitions = tuple(_partition(s, listed, implied) for s in _parts(program))
    tensors = {*defined, *(decl.name for decl in inputs)}
    unknown = _used_ranks(program, {*listed, *implied}, tensors)
    return Declared((*listed.values(), *implied.values(), *unknown), inputs, partitions)


def _rank_items(program: Program) -> Iterator[RankItem]:
    """The items of the `ranks` lines, in order."""
    for statement in program.statements:
        if isinstance(statement, tuple):
            yield from statement


def _is_assumption(item: RankItem) -> bool:
    written = syntax.ungroup(item.rank)
    return item.shape is None and isinstance(written, Infix) and written.symbol in _COMPARISONS


def assumptions(program: Program, scope: Scope) -> tuple[Node, ...]:
    """The conditions on sizes of the `ranks` lines."""
    return tuple(
        resolve_expr(item.rank, scope) for item in _rank_items(program) if _is_assumption(item)
    )


def _listed_ranks(program: Program) -> dict[str, Rank]:
    """The ranks of the `ranks` lines, in order."""
    names = {item.rank.text for item in _rank_items(program) if isinstance(item.rank, Name)}
    names |= {name.text for parts in _parts(program) for name in (parts.rank, *parts.parts)}
    names |= {
        node.text
        for decl in program.inputs
        for extent in (decl.bracket.indices if decl.bracket else ())
        for node, _ in syntax.walk(extent)
        if isinstance(node, Name)
    }
    listed: dict[str, Rank] = {}
    for item in _rank_items(program):
        if _is_assumption(item):
            continue
        rank = _listed_rank(item, names)
        if rank.name in listed:
            raise ResolveError(
                f"rank {rank.name} is declared twice", span=item.span, hint="leave one out"
            )
        listed[rank.name] = rank
    return listed


def _listed_rank(item: RankItem, names: Collection[str]) -> Rank:
    rank = item.rank
    if not isinstance(rank, Name) or not SIZE.match(rank.text):
        raise ResolveError(
            "a rank's name is upper case",
            span=rank.span,
            hint="declare ranks as `ranks N = M, T = 128`, or assume `M % 128 == 0`",
        )
    if item.shape is None:
        return Rank(rank.text, None, rank.span)
    return Rank(rank.text, resolve_shape(item.shape, names), item.span)


def _parts(program: Program) -> Iterator[syntax.Parts]:
    return (s for s in program.statements if isinstance(s, syntax.Parts))


def _partition(
    written: syntax.Parts, listed: dict[str, Rank], implied: dict[str, Rank]
) -> Partition:
    """The partition; its ranks that are not listed join those that are implied."""
    for name in (written.rank, *written.parts):
        if not SIZE.match(name.text):
            raise ResolveError(
                "a rank's name is upper case", span=name.span, hint=f"write {name.text.upper()}"
            )
    outer, *inner = written.parts
    if not inner:
        raise ResolveError(
            "a partition has two parts or more",
            span=written.span,
            hint=f"partition {written.rank.text} -> {written.rank.text}1, {written.rank.text}0",
        )
    if written.rank.text not in listed and written.rank.text not in implied:
        raise ResolveError(
            f"rank {written.rank.text} is declared nowhere",
            span=written.rank.span,
            hint=similar(written.rank.text, (*listed, *implied))
            or "a partition is of a rank that an input has, or a line of `ranks` declares",
        )
    partition = Partition(
        written.rank.text, tuple(name.text for name in written.parts), written.span
    )
    for part in inner:
        if part.text not in listed:
            implied.setdefault(part.text, Rank(part.text, None, part.span))
    if outer.text not in listed:
        implied.setdefault(outer.text, Rank(outer.text, partition.outer_shape, outer.span))
    elif listed[outer.text].shape is None:
        listed[outer.text] = replace(listed[outer.text], shape=partition.outer_shape)
    return partition


def _input(decl: Declaration, listed: Mapping[str, Rank]) -> TensorDecl:
    extents: list[RankExpr] = []
    if decl.bracket is not None:
        if decl.bracket.fill is not None:
            raise ResolveError(
                "an input has no fill: a read has",
                span=decl.bracket.fill.span,
                hint=f"{decl.name.text}[i else 0], where it is read",
            )
        check_ranks(decl)
        extents = [resolve_size(extent) for extent in decl.bracket.indices]
    dtype = read_dtype(decl.dtype) if decl.dtype else None
    return TensorDecl(new_name(decl.name), tuple(extents), dtype, decl.span)


def check_ranks(decl: Declaration) -> None:
    """A tensor has no more ranks than there may be."""
    if decl.bracket is not None:
        limits.RANKS.check(len(decl.bracket.indices), decl.name.span, RankError)


def _implied(inputs: Iterable[TensorDecl], listed: Mapping[str, Rank]) -> dict[str, Rank]:
    """The ranks that the inputs name, beyond the listed ones."""
    implied: dict[str, Rank] = {}
    for decl in inputs:
        for extent in decl.extents:
            for name in extent.sizes():
                if name not in listed:
                    implied.setdefault(name, Rank(name, None, extent.span))
    return implied


def _used_ranks(
    program: Program, known: Collection[str], tensors: Collection[str]
) -> tuple[Rank, ...]:
    """The ranks of variables that index something, where nothing declares them.

    A tensor among the indices is a gather, so its name makes no rank.
    """
    found: dict[str, Rank] = {}
    seen: set[str] = set()
    for definition in program.definitions():
        for node in _in_brackets(definition):
            if node.text in seen:
                continue
            seen.add(node.text)
            if VARIABLE.match(node.text) and node.text not in tensors:
                name = node.text.upper()
                if name not in known:
                    found.setdefault(name, Rank(name, None, node.span))
    return tuple(found.values())


def _in_brackets(definition: Definition) -> Iterator[Name]:
    """The names that are part of an index, or that a reduction binds."""
    for target in definition.targets:
        yield from _names(target.bracket.indices if target.bracket else ())
    stack = [part for part in (definition.where, definition.expr) if part is not None]
    while stack:
        node = stack.pop()
        if isinstance(node, Indexed | Reduction):
            yield from _names(node.bracket.indices)
        if not isinstance(node, Indexed):
            stack += reversed(syntax.parts(node))


def _names(indices: Iterable[syntax.Expr]) -> Iterator[Name]:
    for index in indices:
        if isinstance(index, Name):
            yield index
        else:
            yield from (node for node, _ in syntax.walk(index) if isinstance(node, Name))
