"""What a pass knows around an Einsum while it goes through a Cascade."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from ..ir.cascade import Cascade
from ..ir.dtypes import DType
from ..ir.einsum import Access, Einsum, Expr, Reduce, rebind, substitute, walk
from ..ir.errors import OperandError
from ..ir.infer import einsum_dtype, known_dtypes, product_dtype, regroups
from ..ir.ranks import Rank, RankExpr
from ..ir.scans import Scan, stages


class Scope:
    """What is known around an Einsum: ranks, names in use, the Einsums before it, their dtypes.

    A pass makes one for a Cascade, in which the inputs alone are known, and `define`s each Einsum
    when it is done with it; so a pass that looks at each Einsum once takes linear time.
    """

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.dtypes = {d.name: d.dtype for d in cascade.inputs if d.dtype is not None}
        self._apart = set_apart(cascade)
        if self._apart:
            known = known_dtypes(cascade).items()
            self.dtypes |= {name: dtype for name, dtype in known if name in self._apart}
        self.new_ranks: list[Rank] = []
        self._ranks = {rank.name: rank for rank in cascade.ranks}
        self._extents = {decl.name: decl.extents for decl in cascade.inputs}
        self._definitions: dict[str, Einsum] = {}
        counts = Counter(einsum.name for einsum in cascade.einsums)
        self._taken = {*self._extents, *counts, *self._ranks}
        self._numbers: dict[str, int] = {}

    @classmethod
    def of(cls, cascade: Cascade) -> Scope:
        """The scope after the last Einsum."""
        scope = cls(cascade)
        for einsum in cascade.einsums:
            scope.define(einsum)
        return scope

    def define(self, *einsums: Einsum) -> None:
        """From here on these Einsums are known."""
        for einsum in einsums:
            if einsum.name in self._apart:
                continue
            self._definitions[einsum.name] = einsum
            if all(access.tensor in self.dtypes for access in einsum.reads()):
                self.dtypes[einsum.name] = einsum_dtype(einsum, self.dtypes)

    def definition(self, tensor: str) -> Einsum | None:
        """The one Einsum that defines a tensor; None for an input, or what none yet defines."""
        return self._definitions.get(tensor)

    def extents(self, tensor: str) -> tuple[RankExpr, ...] | None:
        """The extent of each axis of a tensor, as an expression in sizes."""
        if tensor in self._extents:
            return self._extents[tensor]
        einsum = self._definitions.get(tensor)
        return None if einsum is None else einsum.extents()

    def alone(self, einsum: Einsum) -> bool:
        """Whether an Einsum means what it says by itself, so that laws of one apply to it."""
        return einsum.name not in self._apart

    # ---- names

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet, made from `stem`; now it is taken."""
        name = stem
        if stem in self._taken:
            number = self._numbers.get(stem, 1)
            while f"{stem}{number}" in self._taken:
                number += 1
            self._numbers[stem] = number + 1
            name = f"{stem}{number}"
        self._taken.add(name)
        return name

    def taken(self, name: str) -> bool:
        """Whether a rank or a tensor has that name."""
        return name in self._taken

    def alias(self, variable: str) -> str:
        """A new variable over the same rank under another name: `ranks J1 = J`."""
        root = self.root(variable)
        return self.new_rank(root, RankExpr.of_size(root))

    def new_rank(self, stem: str, shape: int | RankExpr | None) -> str:
        """The variable of a new rank of that shape."""
        rank = Rank(self.fresh(stem), shape)
        self._ranks[rank.name] = rank
        self.new_ranks.append(rank)
        return rank.variable

    def with_einsums(self, einsums: Sequence[Einsum]) -> Cascade:
        """The Cascade with these Einsums, and the ranks that were made for them."""
        ranks = (*self.cascade.ranks, *self.new_ranks)
        return replace(self.cascade, ranks=ranks, einsums=tuple(einsums))

    # ---- ranks

    def root(self, variable: str) -> str:
        """The rank of a variable, or the one that it is an alias of: equal roots, equal extents."""
        name = variable.upper()
        seen = {name}
        while isinstance(shape := self._ranks[name].shape, RankExpr):
            if shape.rank is None or shape.rank in seen:
                break
            name = shape.rank
            seen.add(name)
        return name

    def extent(self, variable: str) -> int | None:
        """The extent of a variable's rank, if it is a known number."""
        shape = self._ranks[self.root(variable)].shape
        return shape if isinstance(shape, int) else None

    def extent_of(self, size: RankExpr) -> str | int | None:
        """What tells an axis's extent from others: a number, or its rank's root."""
        if size.constant is not None:
            return size.constant
        if size.rank is None:
            return None
        known = self.extent(size.rank.lower())
        return self.root(size.rank.lower()) if known is None else known

    def covers(self, access: Access) -> bool:
        """Whether an Access by plain variables runs over the whole of its tensor."""
        extents = self.extents(access.tensor)
        if access.plain is None or extents is None:
            return False
        ranks = [self.extent_of(RankExpr.of_size(v.upper())) for v in access.plain]
        return ranks == [self.extent_of(extent) for extent in extents]

    # ---- dtypes

    def typed(self, einsum: Einsum) -> bool:
        """Whether the dtypes of all that an Einsum reads are known."""
        return all(access.tensor in self.dtypes for access in einsum.reads())

    def dtype(self, einsum: Einsum) -> DType:
        """The dtype of what an Einsum defines; only if `typed`."""
        return einsum_dtype(einsum, self.dtypes)

    def computed(self, einsum: Einsum) -> DType:
        """The dtype that an Einsum's outermost product is computed in; only if `typed`."""
        return product_dtype(einsum, self.dtypes).compute

    def regroups(self, einsum: Einsum) -> bool:
        """Whether a product may be regrouped: the semiring's laws hold in its types.

        Not if an extent is known to be 0: then nothing is read, and a sum over nothing is zero
        where zero times infinity would not be.
        """
        if any(self.extent(variable) == 0 for variable in (*einsum.free, *einsum.reduced)):
            return False
        return self.typed(einsum) and regroups(einsum, self.dtypes)

    def intermediate(self, whole: Einsum, part: Einsum) -> Einsum:
        """A part of a product, stored in the type that the whole product is computed in.

        So nothing wraps or rounds earlier than in the whole; f16 and bf16 are kept in f32.
        """
        return self.stored(part, self.computed(whole))

    def stored(self, einsum: Einsum, dtype: DType) -> Einsum:
        """The Einsum storing `dtype`, which is said only where it does not follow."""
        plain = replace(einsum, dtype=None)
        try:
            follows = einsum_dtype(plain, self.dtypes) == dtype
        except OperandError:  # bools among floats, of which max_plus makes numbers, but not alone
            follows = False
        return plain if follows else replace(einsum, dtype=dtype)


def set_apart(cascade: Cascade) -> frozenset[str]:
    """The tensors whose Einsums mean more than they say alone, so that no law of one applies.

    These are the Einsums of a scan, which advance together, and those that a partition filters.
    """
    found = {einsum.name for einsum in cascade.einsums if einsum.step is not None}
    for stage in stages(cascade):
        if isinstance(stage, Scan):
            found |= {einsum.name for einsum in stage.einsums}
    for partition in cascade.partitions:
        parts = {part.lower() for part in partition.parts}
        found |= {einsum.name for einsum in cascade.einsums if parts <= bound(einsum)}
    return frozenset(found)


def bound(einsum: Einsum) -> set[str]:
    """The variables that an Einsum binds anywhere."""
    nodes = (node for node in walk(einsum.expr) if isinstance(node, Reduce))
    return {*einsum.free, *(variable for node in nodes for variable in node.variables)}


def rename(expr: Expr, names: Mapping[str, str]) -> Expr:
    """The expression with some of its variables, bound ones as well, under other names."""
    if not names:
        return expr
    values = {old: RankExpr.of_variable(new) for old, new in names.items()}
    moved = substitute(expr, values)
    return rebind(moved, lambda bound: tuple(names.get(v, v) for v in bound))


def needed_for(einsums: Iterable[Einsum], outputs: Iterable[str]) -> set[str]:
    """The tensors that these are made of, themselves included; a scan's need one another."""
    read: dict[str, set[str]] = {}
    for einsum in einsums:
        read.setdefault(einsum.name, set()).update(access.tensor for access in einsum.reads())
    needed, waiting = set(outputs), list(outputs)
    while waiting:
        more = read.get(waiting.pop(), set[str]()) - needed
        needed |= more
        waiting += more
    return needed


def without_unread(
    einsums: Sequence[Einsum], outputs: Iterable[str], candidates: Container[str] | None = None
) -> list[Einsum]:
    """The Einsums without those that nothing reads; only `candidates` go, if they are given."""
    spared = {
        einsum.name
        for einsum in einsums
        if candidates is not None and einsum.name not in candidates
    }
    needed = needed_for(einsums, {*outputs, *spared})
    return [einsum for einsum in einsums if einsum.name in needed]
