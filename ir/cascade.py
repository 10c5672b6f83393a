"""The IR, page two: what a Cascade is.

    Cascade    = name, ranks, inputs (TensorDecl), Einsums in order, output names,
                 partitions of ranks, assumptions about sizes

Each Einsum defines one tensor and reads inputs and tensors defined before it; the starts and the
step of a scan define one tensor together (scans.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .dtypes import DType
from .einsum import Einsum, Expr, Map, Op, Reduce, UserOperator, walk
from .operators import Semiring
from .printer import print_einsum, print_expr, print_operator, print_semiring
from .ranks import Partition, Rank, RankExpr
from .serialize import decode, encode
from .source import Span


@dataclass(frozen=True, slots=True)
class TensorDecl:
    """An input: its name, an extent for each axis (mostly a bare rank), its dtype if declared.

    An extent is an expression in sizes, so an axis of extent 1 that is broadcast is `1`.
    """

    name: str
    extents: tuple[RankExpr, ...] = ()
    dtype: DType | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        dtype = f": {self.dtype}" if self.dtype else ""
        return f"{self.name}[{','.join(map(str, self.extents))}]{dtype}"


@dataclass(frozen=True, slots=True)
class Cascade:
    """A list of Einsums, each tensor defined once, with its inputs and outputs by name.

    `assumptions` are conditions on sizes that every call must meet, such as `M % 128 == 0`.
    """

    name: str
    ranks: tuple[Rank, ...]
    inputs: tuple[TensorDecl, ...]
    einsums: tuple[Einsum, ...]
    outputs: tuple[str, ...]
    partitions: tuple[Partition, ...] = ()
    assumptions: tuple[Expr, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        operators, semirings = self.definitions()
        lines = [*map(print_operator, operators), *map(print_semiring, semirings)]
        head = f"cascade {self.name}({', '.join(map(str, self.inputs))}) -> "
        lines.append(f"{head}{', '.join(self.outputs)} {{")
        listed = [] if self.ranks == self._implied_ranks() else list(map(str, self.ranks))
        listed += map(print_expr, self.assumptions)
        if listed:
            lines.append("  ranks " + ", ".join(listed))
        lines += [f"  {partition}" for partition in self.partitions]
        lines += ["  " + print_einsum(einsum) for einsum in self.einsums]
        return "\n".join([*lines, "}"])

    def _implied_ranks(self) -> tuple[Rank, ...]:
        """The ranks that a reader knows from the inputs and partitions alone, in that order."""
        names = (name for decl in self.inputs for extent in decl.extents for name in extent.sizes())
        ranks = {name: Rank(name) for name in names}
        for partition in self.partitions:
            outer, *inner = partition.parts
            ranks.setdefault(outer, Rank(outer, partition.outer_shape))
            for part in inner:
                ranks.setdefault(part, Rank(part))
        return tuple(ranks.values())

    def definitions(self) -> tuple[tuple[UserOperator, ...], tuple[Semiring, ...]]:
        """The text's own operators and semirings, each after those that it is made of."""
        operators: dict[UserOperator, None] = {}
        seen: set[int] = set()
        semirings: dict[Semiring, None] = {}
        for einsum in self.einsums:
            if not isinstance(einsum.semiring, str):
                _collect((einsum.ring.add, einsum.ring.mul), operators, seen)
                semirings[einsum.semiring] = None
            for root in (einsum.expr, einsum.where):
                if root is not None:
                    _collect(_applied(root), operators, seen)
        return tuple(operators), tuple(semirings)

    def to_json(self) -> str:
        """The Cascade as JSON text, spans left out; `from_json` gives an equal one back."""
        return encode(self)

    @staticmethod
    def from_json(text: str) -> Cascade:
        """The Cascade that `to_json` wrote; `verify` it if it comes from elsewhere.

        Raises:
            ParseError: `text` is not JSON, or not that of a Cascade.
        """
        return decode(text, Cascade, (Cascade, TensorDecl, Partition))

    def extents(self) -> dict[str, tuple[RankExpr, ...]]:
        """The extent of each axis of each tensor; a scan's step says what its starts do not."""
        found = {decl.name: decl.extents for decl in self.inputs}
        for einsum in self.einsums:
            if einsum.name not in found or einsum.step is not None:
                found[einsum.name] = einsum.extents()
        return found

    def rank(self, name: str) -> Rank:
        """The rank of that name (a KeyError if there is none)."""
        for rank in self.ranks:
            if rank.name == name:
                return rank
        raise KeyError(name)

    def declaration(self, name: str) -> TensorDecl | None:
        """The input of that name, or None."""
        return next((decl for decl in self.inputs if decl.name == name), None)

    def definition(self, name: str) -> Einsum | None:
        """The Einsum that defines that tensor, or None."""
        return next((einsum for einsum in self.einsums if einsum.name == name), None)

    def fresh(self, stem: str) -> str:
        """A tensor name not yet in use, made from `stem`."""
        return fresh_name(stem, self.names())

    def names(self) -> set[str]:
        """The names of all tensors and ranks."""
        tensors = {d.name for d in self.inputs} | {e.name for e in self.einsums}
        return tensors | {rank.name for rank in self.ranks}


def fresh_name(stem: str, taken: set[str]) -> str:
    """`stem`, or `stem` with the least number that makes a name not in `taken`."""
    if stem not in taken:
        return stem
    number = 1
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"


def _applied(expr: Expr) -> Iterator[Op]:
    return (node.op for node in walk(expr) if isinstance(node, Map | Reduce))


def _collect(ops: Iterable[Op], into: dict[UserOperator, None], seen: set[int]) -> None:
    """Adds the text's own operators, those that one is made of first; `seen` were met before.

    They are met by their identity, for to compare two is to compare all that they are made of.
    """
    for op in ops:
        if isinstance(op, UserOperator) and id(op) not in seen:
            seen.add(id(op))
            _collect((*op.named, *_applied(op.body)), into, seen)
            into[op] = None
