"""The function being emitted: its lines, the names in it, the sizes and helpers that it uses."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.errors import RankError
from ...ir.ranks import Quotient, RankExpr, Term
from ...ir.windows import kept_extents, windows
from .helpers import HELPERS, NEEDS
from .names import Names


class Frame:
    """Collects what one emitted function needs; the parts of the emitter write into it."""

    def __init__(self, cascade: Cascade, dtypes: Mapping[str, DType]) -> None:
        self.cascade = cascade
        self.dtypes = dict(dtypes)
        self.windows = windows(cascade)
        self.extents = kept_extents(cascade.extents(), self.windows)
        self.roomed: set[str] = set()  # tensors that are written part by part, once they exist
        self.names = Names(frozenset(HELPERS))
        self.function = self.names.fresh(cascade.name or "cascade")
        self.parameters = [self.tensor(decl.name) for decl in cascade.inputs]
        self.lines: list[str] = []
        self.uses: set[str] = set()
        self._depth = 1
        self._sizes: dict[str, str] = {}  # the line that defines each size in use
        self._coordinates: dict[str, str] = {}  # of scans, which are numbers in their loops

    # ---- writing

    def line(self, text: str) -> None:
        self.lines.append("    " * self._depth + text)

    def define(self, stem: str, text: str) -> str:
        """A line that gives `text` a name; the name."""
        name = self.names.fresh(stem)
        self.line(f"{name} = {text}")
        return name

    @contextmanager
    def block(self, head: str) -> Generator[None]:
        """The lines of the block that `head` opens."""
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    def helper(self, name: str) -> str:
        """Notes that a helper (or a module of the standard library) is used."""
        self.uses.add(name)
        for needed in NEEDS.get(name, ()):
            self.helper(needed)
        return name

    # ---- tensors

    def tensor(self, name: str) -> str:
        """The identifier of a tensor."""
        return self.names.of("tensor", name)

    # ---- sizes

    def size(self, variable: str) -> str:
        """The extent of a variable's rank."""
        return self.rank_size(variable.upper())

    def coordinate(self, name: str, variable: str) -> str:
        """The identifier of a scan's coordinate, which stands among the sizes as `name`."""
        if name not in self._coordinates:
            self._coordinates[name] = self.names.fresh(variable)
        return self._coordinates[name]

    def is_coordinate(self, rank: str) -> bool:
        """Whether what stands among the sizes is a scan's coordinate."""
        return rank in self._coordinates

    def rank_size(self, rank: str) -> str:
        """The identifier of a rank's size, read off an input's shape if one has it."""
        if rank in self._coordinates:
            return self._coordinates[rank]
        name = self.names.of("size", rank)
        if rank not in self._sizes:
            self._sizes[rank] = ""  # takes its place in the order after what it is made from
            text = self._size_text(rank)
            del self._sizes[rank]
            self._sizes[rank] = f"{name} = {text}"
        return name

    def size_lines(self) -> list[str]:
        """The lines that define the sizes in use."""
        return ["    " + line for line in self._sizes.values()]

    def _size_text(self, rank: str) -> str:
        for decl in self.cascade.inputs:
            for axis, extent in enumerate(decl.extents):
                if extent.rank == rank:
                    return f"{self.tensor(decl.name)}.shape[{axis}]"
        shape = self.cascade.rank(rank).shape
        if isinstance(shape, RankExpr):
            return f"max({self.expression(shape)}, 0)"
        if isinstance(shape, Quotient):
            over, by = self.expression(shape.dividend), self.expression(shape.divisor)
            offset = f"{shape.offset:+}" if shape.offset else ""
            return f"max(({over}) // ({by}){offset}, 0)"
        if shape is None:
            raise RankError(
                f"the extent of rank {rank} follows from no input",
                hint=f"declare it: `ranks {rank} = 8`, or give sizes=",
            )
        return str(shape)

    def expression(self, expr: RankExpr) -> str:
        """An expression in sizes alone, as source."""
        parts = [self.term(term) for term in expr.terms]
        if expr.offset or not parts:
            parts.append(str(expr.offset))
        return " + ".join(parts).replace("+ -", "- ")

    def term(self, term: Term) -> str:
        """A term without its variable: the coefficient times sizes."""
        sizes = [self.rank_size(rank) for rank in term.sizes]
        if term.coefficient in (1, -1) and sizes:
            return ("-" if term.coefficient < 0 else "") + " * ".join(sizes)
        return " * ".join([str(term.coefficient), *sizes])


def tuple_text(items: list[str]) -> str:
    """A Python tuple of these expressions."""
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
