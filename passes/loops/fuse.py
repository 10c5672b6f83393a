"""Which Einsums are computed from the sums of a contraction while those are near.

    T[i,k] = A[i,j] * B[j,k]
    H[i,k] = relu(T[i,k] + b[k])         ->  one nest, in which T is never stored

The rule: T is no output and one Einsum alone reads it, always at the coordinates that it is defined
at; that Einsum has no other coordinates and no filter, computes from the elements there and from
numbers, and reads other tensors at affine indices. Then each element of T is needed once, just when
it is known. The reader may sum what it computes, over any of T's coordinates. One that does not may
be read in its turn by another, under the same rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...ir.dtypes import DType
from ...ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Reduce,
    accesses,
    walk,
)
from ...ir.ranks import RankExpr
from ...ir.scans import Stage

#: The most nodes of what is computed from a sum: those of one Einsum are repeated in the next.
_MOST_NODES = 100


@dataclass(frozen=True, slots=True)
class Chain:
    """A product, the Einsums that are computed from it one after another, and its formed factors.

    Only what the last of them makes is stored.
    """

    product: Einsum
    followers: tuple[Einsum, ...] = ()
    formed: tuple[Einsum, ...] = ()

    @property
    def last(self) -> Einsum:
        return (self.product, *self.followers)[-1]

    @property
    def names(self) -> set[str]:
        """Of all tensors that it makes."""
        return {einsum.name for einsum in (*self.formed, self.product, *self.followers)}


def chains(stages: Sequence[Stage], outputs: Collection[str]) -> dict[int, Chain]:
    """The longest chains, each by the position of its last Einsum; none share an Einsum."""
    readers: dict[str, list[int]] = {}
    for number, stage in enumerate(stages):
        for name in {access.tensor for e in _einsums(stage) for access in e.reads()}:
            readers.setdefault(name, []).append(number)
    found: dict[int, Chain] = {}
    taken: set[int] = set()
    # From the last on: of two products that one Einsum reads, the later one is at hand.
    for number in range(len(stages) - 1, -1, -1):
        stage = stages[number]
        if not isinstance(stage, Einsum) or number in taken or _factors(stage) is None:
            continue
        followers: list[int] = []
        last: Einsum = stage
        while last.name not in outputs and (not followers or not isinstance(last.expr, Reduce)):
            reading = readers.get(last.name, [])
            reader = stages[reading[0]] if len(reading) == 1 else None
            if not isinstance(reader, Einsum) or reading[0] in taken or not _follows(last, reader):
                break
            followers.append(reading[0])
            last = reader
        while followers:
            chain = Chain(stage, tuple(e for n in followers if isinstance(e := stages[n], Einsum)))
            if _nodes(chain) <= _MOST_NODES:
                found[followers[-1]] = chain
                taken |= {number, *followers}
                break
            followers.pop()
    return found


def formed(
    stages: Sequence[Stage], outputs: Collection[str], dtypes: Mapping[str, DType]
) -> dict[str, tuple[Einsum, ...]]:
    """The Einsums that a product computes as it packs what they make, by the product's name.

        T[i,j,r] = A[i,r] * B[j,r]
        Y[i,j,k] = T[i,j,r] * C[k,r]

    T is read as in a chain, sums nothing, and computes from numbers and elements at its
    coordinates.
    """
    readers: dict[str, list[Stage]] = {}
    for stage in stages:
        for name in {access.tensor for e in _einsums(stage) for access in e.reads()}:
            readers.setdefault(name, []).append(stage)
    found: dict[str, tuple[Einsum, ...]] = {}
    for stage in stages:
        if not isinstance(stage, Einsum) or stage.name in outputs or not _distinct(stage.output):
            continue
        (reader, *others) = readers.get(stage.name, [None])
        if not isinstance(reader, Einsum) or others or dtypes[stage.name].kind == "complex":
            continue
        factors = _factors(reader) or ()
        read = [factor for factor in factors if factor.tensor == stage.name]
        if len(read) == 1 and read[0].indices == stage.output.indices and _is_near(stage):
            found[reader.name] = (*found.get(reader.name, ()), stage)
    return found


def _is_near(einsum: Einsum) -> bool:
    """Whether an Einsum computes from numbers and from elements at its own coordinates."""
    if einsum.where is not None or len(list(accesses(einsum.expr))) < 2:
        return False
    return all(_near(node, einsum.output) for node in walk(einsum.expr))


def _einsums(stage: Stage) -> tuple[Einsum, ...]:
    return (stage,) if isinstance(stage, Einsum) else stage.einsums


def _factors(einsum: Einsum) -> tuple[Access, ...] | None:
    """The two factors of a summed product at plain coordinates, each its own."""
    factors = einsum.product()
    if factors is None or len(factors) != 2 or not einsum.reduced or not _distinct(einsum.output):
        return None
    return factors


def _distinct(access: Access) -> bool:
    plain = access.plain
    return plain is not None and len(set(plain)) == len(plain)


def _follows(einsum: Einsum, reader: Einsum) -> bool:
    """Whether each element that `einsum` makes is needed once, just when it is known."""
    variables = frozenset(einsum.free)
    pointwise = reader.expr
    around = frozenset(reader.free)
    if isinstance(reader.expr, Reduce):
        pointwise = reader.expr.expr
        around |= frozenset(reader.expr.variables)
    if reader.where is not None or not _distinct(reader.output) or around != variables:
        return False
    return all(_near(node, einsum.output) for node in walk(pointwise))


def _near(node: Expr, at: Access) -> bool:
    """Whether a part of what is computed may be: at hand where an element is, or a number."""
    if isinstance(node, Access):
        if node.tensor == at.tensor:
            return node.indices == at.indices and node.fill is None
        return node.fill is None and all(isinstance(index, RankExpr) for index in node.indices)
    if isinstance(node, Coordinate):
        return node.name.isupper()
    return not isinstance(node, Reduce)


def _nodes(chain: Chain) -> int:
    """How large an expression the followers are, each put in the place of its reads."""
    size, name = 1, chain.product.name
    for follower in chain.followers:
        nodes = list(walk(follower.expr))
        reads = sum(1 for n in nodes if isinstance(n, Access) and n.tensor == name)
        size, name = len(nodes) + reads * size, follower.name
    return size


def reads_besides(chain: Chain) -> Iterator[Access]:
    """What the followers read that none of the chain makes."""
    for follower in chain.followers:
        yield from (a for a in accesses(follower.expr) if a.tensor not in chain.names)
