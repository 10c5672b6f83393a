"""Rewrite rules: one law, one function, applied wherever it holds until it holds nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from ..ir.cascade import Cascade
from ..ir.dtypes import DType
from ..ir.einsum import Access, Einsum, Expr, Map, Reduce, accesses, walk
from ..ir.errors import OperandError, PassError
from ..ir.infer import einsum_dtype, known_dtypes, product_dtype, regroups
from ..ir.ranks import RankExpr
from ..ir.scans import Scan, stages
from .base import Pass


@dataclass(frozen=True, slots=True)
class Scope:
    """What is known around an Einsum: its Cascade, and the dtypes that are declared or follow."""

    cascade: Cascade
    dtypes: Mapping[str, DType]

    @classmethod
    def of(cls, cascade: Cascade) -> Scope:
        return cls(cascade, known_dtypes(cascade))

    def extent(self, variable: str) -> int | None:
        """The extent of a variable's rank, if it is a known number."""
        shape = self.cascade.rank(variable.upper()).shape
        return shape if isinstance(shape, int) else None

    def typed(self, einsum: Einsum) -> bool:
        """Whether the dtypes of all that an Einsum reads are known."""
        return all(access.tensor in self.dtypes for access in accesses(einsum.expr))

    def regroups(self, einsum: Einsum) -> bool:
        """Whether a product may be regrouped: the semiring's laws hold in its types.

        Not if an extent is known to be 0: then nothing is read, and a sum over nothing is zero
        where zero times infinity would not be.
        """
        if any(self.extent(variable) == 0 for variable in (*einsum.free, *einsum.reduced)):
            return False
        return self.typed(einsum) and regroups(einsum, self.dtypes)

    def knowing(self, *einsums: Einsum) -> Scope:
        """The scope in which these Einsums are defined as well."""
        dtypes = dict(self.dtypes)
        for einsum in einsums:
            dtypes[einsum.name] = einsum_dtype(einsum, dtypes)
        return replace(self, dtypes=dtypes)

    def intermediate(self, whole: Einsum, part: Einsum) -> Einsum:
        """A part of a product, stored in the type that the whole product is computed in.

        So nothing wraps or rounds earlier than in the whole; f16 and bf16 are kept in f32.
        """
        return self.stored(part, product_dtype(whole, self.dtypes).compute)

    def stored(self, einsum: Einsum, dtype: DType) -> Einsum:
        """The Einsum storing `dtype`, which is said only where it does not follow."""
        plain = replace(einsum, dtype=None)
        try:
            follows = einsum_dtype(plain, self.dtypes) == dtype
        except OperandError:  # bools among floats, of which max_plus makes numbers, but not alone
            follows = False
        return plain if follows else replace(einsum, dtype=dtype)


def product(
    whole: Einsum, output: Access, factors: tuple[Access, ...], summed: tuple[str, ...]
) -> Einsum:
    """A product of these factors over the semiring of `whole`, with no dtype said."""
    ring, span = whole.ring, whole.span
    body: Expr = factors[0] if len(factors) == 1 else Map(ring.mul, factors, span=span)
    expr = Reduce(ring.add, summed, body, span=span) if summed else body
    return Einsum(output, expr, whole.semiring, span=span)


def named(tensor: str, variables: Iterable[str]) -> Access:
    """The Access `tensor[variables]`."""
    return Access(tensor, tuple(RankExpr.of_variable(v) for v in variables))


#: What a law makes of an Einsum: the Einsums in its place, or None where the law does not apply.
Law: TypeAlias = Callable[[Einsum, Scope], "tuple[Einsum, ...] | None"]

#: More applications than any Cascade needs: a law that goes on is a mistake, not an endless loop.
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
        scope = Scope.of(cascade)
        apart = set_apart(cascade)
        position = applied = 0
        while position < len(cascade.einsums):
            einsum = cascade.einsums[position]
            found = None if einsum.name in apart else apply(einsum, scope)
            if found is None:
                position += 1
                continue
            applied += 1
            if applied > _BOUND:
                raise PassError(f"{self.name} does not come to an end on {cascade.name}")
            einsums = (*cascade.einsums[:position], *found, *cascade.einsums[position + 1 :])
            cascade = replace(cascade, einsums=einsums)
            scope = Scope.of(cascade)
        return cascade


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
