"""Rewrite rules: one law, one function, applied wherever it holds until it holds nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from ..ir.cascade import Cascade
from ..ir.dtypes import DType
from ..ir.einsum import (
    PLACES,
    Access,
    Coordinate,
    Einsum,
    Expr,
    Map,
    Op,
    Reduce,
    free_variables,
    rewrite_leaves,
    walk,
)
from ..ir.einsum import Law as OperatorLaw
from ..ir.errors import OperandError, PassError
from ..ir.infer import einsum_dtype, known_dtypes, product_dtype, regroups
from ..ir.operators import laws_of
from ..ir.ranks import Rank, RankExpr
from ..ir.scans import Scan, stages
from .base import Pass


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

    def new_rank(self, stem: str, shape: int | RankExpr) -> str:
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


def has_law(op: Op, *laws: OperatorLaw) -> bool:
    """Whether the table says that an operator has these laws, or the text, which was tested."""
    return op not in PLACES and laws_of(op) >= set(laws)


def product(
    whole: Einsum, output: Access, factors: tuple[Expr, ...], summed: tuple[str, ...]
) -> Einsum:
    """A product of these factors over the semiring of `whole`, with no dtype said."""
    ring, span = whole.ring, whole.span
    body: Expr = factors[0] if len(factors) == 1 else Map(ring.mul, factors, span=span)
    expr = Reduce(ring.add, summed, body, span=span) if summed else body
    return Einsum(output, expr, whole.semiring, span=span)


def named(tensor: str, variables: Iterable[str]) -> Access:
    """The Access `tensor[variables]`."""
    return Access(tensor, tuple(RankExpr.of_variable(v) for v in variables))


def distinct(variables: Iterable[str]) -> tuple[str, ...]:
    """Each variable once, in order of first occurrence."""
    return tuple(dict.fromkeys(variables))


def substitute(access: Access, values: Mapping[str, RankExpr]) -> Access:
    """The Access at these values of some variables, inside gathers too."""
    indices = tuple(
        index.substitute(values) if isinstance(index, RankExpr) else substitute(index, values)
        for index in access.indices
    )
    same = all(new is old for new, old in zip(indices, access.indices, strict=True))
    return access if same else replace(access, indices=indices)


def rename(expr: Expr, names: Mapping[str, str]) -> Expr:
    """The expression with some of its variables, bound ones as well, under other names."""
    if not names:
        return expr
    values = {old: RankExpr.of_variable(new) for old, new in names.items()}

    def leaf(node: Access | Coordinate) -> Expr:
        if isinstance(node, Access):
            return substitute(node, values)
        return replace(node, name=names[node.name]) if node.name in names else node

    return _rebind(rewrite_leaves(expr, leaf), names)


def _rebind(expr: Expr, names: Mapping[str, str]) -> Expr:
    """The variables of every Reduce inside renamed."""
    if isinstance(expr, Reduce):
        variables = tuple(names.get(v, v) for v in expr.variables)
        return replace(expr, variables=variables, expr=_rebind(expr.expr, names))
    if isinstance(expr, Map) and any(isinstance(node, Reduce) for node in walk(expr)):
        return replace(expr, args=tuple(_rebind(arg, names) for arg in expr.args))
    return expr


#: What a law makes of an Einsum: the Einsums in its place, or None where the law does not apply.
Law: TypeAlias = Callable[[Einsum, Scope], "tuple[Einsum, ...] | None"]

#: More applications than any Einsum needs: a law that goes on is a mistake, not an endless loop.
_BOUND = 10_000


def set_apart(cascade: Cascade) -> frozenset[str]:
    """The tensors whose Einsums mean more than they say alone, so that no law of one applies.

    These are the Einsums of a scan, which advance together, and those that a partition filters.
    """
    found = {einsum.name for einsum in cascade.einsums if einsum.step is not None}
    for stage in stages(cascade):
        if isinstance(stage, Scan):
            found |= {einsum.name for einsum in stage.members}
    for partition in cascade.partitions:
        parts = {part.lower() for part in partition.parts}
        found |= {einsum.name for einsum in cascade.einsums if parts <= _bound(einsum)}
    return frozenset(found)


def _bound(einsum: Einsum) -> set[str]:
    """The variables that an Einsum binds anywhere."""
    nodes = (node for node in walk(einsum.expr) if isinstance(node, Reduce))
    return {*einsum.free, *(variable for node in nodes for variable in node.variables)}


class Rewrite(Pass):
    """A pass that applies one law to every Einsum, until it applies to none."""

    __slots__ = ()
    law: ClassVar[Law]

    def __call__(self, cascade: Cascade) -> Cascade:
        apply = type(self).law
        scope = Scope(cascade)
        done: list[Einsum] = []
        changed = False
        for whole in cascade.einsums:
            waiting, applied = [whole], 0
            while waiting:
                einsum = waiting.pop()
                found = apply(einsum, scope) if scope.alone(einsum) else None
                if found is None:
                    scope.define(einsum)
                    done.append(einsum)
                    continue
                applied += 1
                if applied > _BOUND:
                    raise PassError(f"{self.name} does not come to an end on {whole.name}")
                changed = True
                waiting += reversed(found)
        return scope.with_einsums(done) if changed else cascade


def rule(law: Law) -> type[Rewrite]:
    """Makes a pass without options of a law; its name and docstring are the function's.

    The docstring says the law: before -> after, its condition, its source.
    """
    name: str = law.__name__
    body = {
        "name": name,
        "law": staticmethod(law),
        "__doc__": law.__doc__,
        "__module__": law.__module__,
        "__slots__": (),
    }
    return dataclass(frozen=True)(type(name, (Rewrite,), body))


def rewrite_at(
    cascade: Cascade, tensor: str, change: Callable[[Einsum, Scope], Sequence[Einsum]]
) -> Cascade:
    """The Cascade with the Einsum that defines a tensor changed; the same if it comes back alone.

    Raises:
        PassError: no Einsum defines that tensor alone, its left side plain.
    """
    scope = Scope(cascade)
    done: list[Einsum] = []
    found = False
    same = True
    for einsum in cascade.einsums:
        made: Sequence[Einsum] = (einsum,)
        if einsum.name == tensor:
            if not scope.alone(einsum):
                raise PassError(
                    f"{tensor} is part of a scan, or filtered by a partition: this law is of "
                    "Einsums that mean what they say by themselves",
                    span=einsum.span,
                )
            found = True
            made = change(einsum, scope)
            same = len(made) == 1 and made[0] == einsum
        scope.define(*made)
        done += made
    if not found:
        defined = ", ".join(einsum.name for einsum in cascade.einsums[:8])
        raise PassError(f"{cascade.name} defines no tensor {tensor}", hint=f"it defines: {defined}")
    return cascade if same else scope.with_einsums(done)


def factors_of(einsum: Einsum, name: str) -> tuple[Access, ...]:
    """The factors of a product.

    Raises:
        PassError: the Einsum is no product; `name` is the pass that needs one.
    """
    factors = einsum.product()
    if factors is None:
        raise PassError(
            f"{name} needs a product, and {einsum.name} is none",
            span=einsum.span,
            hint="a product of accesses, summed by its own semiring, without a filter",
        )
    return factors


def operands(einsum: Einsum) -> tuple[Expr, ...] | None:
    """What the body multiplies by the semiring's own operator; None under a filter.

    More than `Einsum.product`: numbers and whole expressions are operands too.
    """
    if einsum.where is not None:
        return None
    body = einsum.body
    return body.args if isinstance(body, Map) and body.op == einsum.ring.mul else (body,)


def with_body(einsum: Einsum, body: Expr) -> Einsum:
    """The Einsum with another body under the same reduction."""
    if isinstance(einsum.expr, Reduce) and einsum.body is not einsum.expr:
        return replace(einsum, expr=replace(einsum.expr, expr=body))
    return replace(einsum, expr=body)


def sum_order(summed: Iterable[str], factors: Iterable[Expr]) -> tuple[str, ...]:
    """Summed variables in the order of reading, in which the text leaves a sum out."""
    left = set(summed)
    read = distinct(v for factor in factors for v in free_variables(factor))
    return (*(v for v in read if v in left), *(v for v in summed if v not in read))


def in_range(scope: Scope, index: RankExpr | Access, extent: RankExpr) -> bool:
    """Whether an index runs over exactly an axis, or stands at a number surely inside it."""
    if not isinstance(index, RankExpr):
        return False
    known = scope.extent_of(extent)
    if index.constant is not None:
        return isinstance(known, int) and 0 <= index.constant < known
    variable = index.variable
    return variable is not None and scope.extent_of(RankExpr.of_size(variable.upper())) == known


def without_unread(
    einsums: Sequence[Einsum], outputs: Iterable[str], candidates: Container[str] | None = None
) -> list[Einsum]:
    """The Einsums without those that nothing reads; only `candidates` go, if they are given."""
    needed = set(outputs)
    kept: list[Einsum] = []
    for einsum in reversed(einsums):
        spared = candidates is not None and einsum.name not in candidates
        if spared or einsum.name in needed:
            kept.append(einsum)
            needed.update(access.tensor for access in einsum.reads())
    return kept[::-1]
