"""The IR, page two: what a Cascade is.

    Cascade    = name, ranks, inputs (TensorDecl), Einsums in order, output names

Each Einsum defines one tensor and reads inputs and tensors defined before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .dtypes import DType
from .einsum import Access, Einsum
from .printer import print_einsum
from .ranks import Rank, RankExpr
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
    """A list of Einsums, each tensor defined once, with its inputs and outputs by name."""

    name: str
    ranks: tuple[Rank, ...]
    inputs: tuple[TensorDecl, ...]
    einsums: tuple[Einsum, ...]
    outputs: tuple[str, ...]
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        lines = [f"cascade {self.name}({', '.join(map(str, self.inputs))}) -> "]
        lines[0] += ", ".join(self.outputs) + " {"
        if self.ranks != self._implied_ranks():
            lines.append("  ranks " + ", ".join(map(str, self.ranks)))
        lines += ["  " + print_einsum(einsum) for einsum in self.einsums]
        return "\n".join([*lines, "}"])

    def _implied_ranks(self) -> tuple[Rank, ...]:
        """The ranks that a reader knows from the inputs alone, in that order."""
        names = (name for decl in self.inputs for extent in decl.extents for name in extent.sizes())
        return tuple(Rank(name) for name in dict.fromkeys(names))

    def to_json(self) -> str:
        """The Cascade as JSON text, spans left out; `from_json` gives an equal one back."""
        return encode(self)

    @staticmethod
    def from_json(text: str) -> Cascade:
        """The Cascade that `to_json` wrote; `verify` it if it comes from elsewhere.

        Raises:
            ParseError: `text` is not JSON, or not that of a Cascade.
        """
        return decode(text, Cascade, (Cascade, TensorDecl))

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

    def output_accesses(self) -> Iterator[Access]:
        """The left side of the Einsum that defines each output."""
        for name in self.outputs:
            einsum = self.definition(name)
            if einsum is not None:
                yield einsum.output

    def fresh(self, stem: str) -> str:
        """A tensor name not yet in use, made from `stem`."""
        taken = {d.name for d in self.inputs} | {e.name for e in self.einsums}
        taken |= {rank.name for rank in self.ranks}
        return fresh_name(stem, taken)


def fresh_name(stem: str, taken: set[str]) -> str:
    """`stem`, or `stem` with the least number that makes a name not in `taken`."""
    if stem not in taken:
        return stem
    number = 1
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"
