"""Orders of several products at once: common intermediates computed once, or kept small."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from ...ir.cascade import Cascade
from ...ir.einsum import Access, Einsum
from ...ir.errors import PassError
from ..base import Pass
from ..rewrite import named, product, sum_order
from ..scope import Scope
from .order import NOMINAL, Node, Order, Path, contracted, path_steps
from .share import Key, Share, normal
from .slices import Slice


@dataclass(frozen=True, slots=True)
class Reuse(Pass):
    """Contraction orders of several products that have intermediates in common.

        Y[i] = A[i,j] * B[j,k] * C[k]
        Z[i] = D[i,j] * B[j,k] * C[k]
     -> T[j] = B[j,k] * C[k]
        Y[i] = A[i,j] * T[j]
        Z[i] = D[i,j] * T[j]

    Each product in turn gets, of the order that the path finder gives and those that begin with a
    pair of factors which other products have too, the one that costs the fewest points beyond what
    was computed before. Then `share` computes equal intermediates once. Condition: as for `order`.
    Source: rule 5 (NEST); opt_einsum's shared intermediates; greedy, so not the best of all.

    Options:
        optimize: one of opt_einsum's path finders, as `order` takes them by name.
    """

    name: ClassVar[str] = "reuse"
    optimize: str = "auto"

    def __call__(self, cascade: Cascade) -> Cascade:
        order = Order(self.optimize)
        scope = Scope.of(cascade)
        ordered = {e.name for e in cascade.einsums if _ordered(e, scope)}
        keys = _Keys(scope)
        pairs: Counter[int] = Counter()
        for einsum in cascade.einsums:
            if einsum.name in ordered:
                pairs.update({key for key, _ in keys.pairs(einsum)})
        known: set[int] = set()
        done: list[Einsum] = []
        for einsum in cascade.einsums:
            if einsum.name not in ordered:
                done.append(einsum)
                continue
            factors = einsum.product() or ()
            begun = [pair for key, pair in keys.pairs(einsum) if pairs[key] > 1]
            paths = [order.found(einsum, factors, scope)]
            paths += [_path_from(order, einsum, pair, scope) for pair in begun]
            best = min(paths, key=lambda path: keys.cost(einsum, path, known))
            known.update(key for key, _ in keys.steps(einsum, best))
            done += contracted(einsum, factors, best, scope)
        if len(done) == len(cascade.einsums):
            return cascade
        return Share()(scope.with_einsums(done))


def _ordered(einsum: Einsum, scope: Scope) -> bool:
    factors = einsum.product()
    long = factors is not None and len(factors) > 2
    return long and scope.alone(einsum) and scope.regroups(einsum)


def _path_from(order: Order, einsum: Einsum, pair: tuple[int, int], scope: Scope) -> Path:
    """The pair, then what the path finder makes of its product and the other factors."""
    factors = einsum.product() or ()
    (made, *_) = path_steps(einsum, factors, (pair, tuple(range(len(factors) - 1))))
    rest = (
        *(factor for n, factor in enumerate(factors) if n not in pair),
        named("_", sorted(made.variables)),
    )
    if len(rest) == 2:
        return pair, (0, 1)
    left = {v for factor in rest for v in factor.variables()}
    summed = tuple(v for v in einsum.reduced if v in left)
    return pair, *order.found(product(einsum, einsum.output, rest, summed), rest, scope)


class _Keys:
    """A number for each intermediate: equal numbers, equal tensors computed in the same way."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._numbers: dict[Key, int] = {}

    def pairs(self, einsum: Einsum) -> Iterator[tuple[int, tuple[int, int]]]:
        """Each pair of factors that share a variable, with the number of its product."""
        factors = einsum.product() or ()
        for pair in combinations(range(len(factors)), 2):
            one, other = (set(factors[n].variables()) for n in pair)
            if one & other:
                path = (pair, tuple(range(len(factors) - 1)))
                yield next(self.steps(einsum, path))[0], pair

    def steps(self, einsum: Einsum, path: Path) -> Iterator[tuple[int, int]]:
        """The number of each intermediate of a path, and the points it costs."""
        read: dict[int, Access] = {}
        for step in path_steps(einsum, einsum.product() or (), path):
            operands = tuple(node.factor or read[id(node)] for node in step.operands)
            inside = {v for operand in operands for v in operand.variables()}
            kept = sorted(step.variables)
            summed = [v for v in einsum.reduced if v in inside and v not in step.variables]
            made = product(einsum, named("_", kept), operands, sum_order(summed, operands))
            found = normal(made, self._scope)
            assert found is not None  # its left side is plain
            key, axes = found
            number = self._numbers.setdefault(key, len(self._numbers))
            # In the key's own order, so that a reader's key does not depend on the variables.
            order = sorted(kept, key=lambda v: axes[kept.index(v)])
            read[id(step)] = named(f"#{number}", order)
            yield number, points(inside, self._scope)

    def cost(self, einsum: Einsum, path: Path, known: set[int]) -> int:
        """The points of a path that is not yet computed."""
        return sum(cost for key, cost in self.steps(einsum, path) if key not in known)


def points(variables: set[str] | frozenset[str], scope: Scope) -> int:
    """The size of an iteration space; an extent that is not known counts as a nominal one."""
    extents = (scope.extent(v) for v in variables)
    return math.prod(NOMINAL if extent is None else extent for extent in extents)


@dataclass(frozen=True, slots=True)
class Fit(Pass):
    """Products are sliced until no intermediate of their contraction order is too large.

        Y[i,l] = A[i,j] * B[j,k] * C[k,l]        with I = J = K = L = 8, fit{elements=32}
     -> T[i1,k] = A[i1,j] * B[j,k]
        T1[i1,l] = T[i1,k] * C[k,l]              with I1 = 4, and so on for the other half of I

    Each slice is ordered on its own, so a bound that one cut does not meet is met by more. The
    parts of the output are not counted: they are no larger than it. Condition: as for `order` and
    `slice`; the extents are known. Source: rules 20 (SLICE) and 5 (NEST); called slicing in
    cotengra (Gray and Kourtis, Quantum 5, 410, 2021).

    Options:
        elements: the most that an intermediate may have.
        optimize: one of opt_einsum's path finders, as `order` takes them by name.

    Raises:
        PassError: `elements` is not positive, or an extent in a product is not known.
    """

    name: ClassVar[str] = "fit"
    elements: int
    optimize: str = "auto"

    def __post_init__(self) -> None:
        if self.elements < 1:
            raise PassError(f"an intermediate cannot have at most {self.elements} elements")

    def __call__(self, cascade: Cascade) -> Cascade:
        scope = Scope(cascade)
        done: list[Einsum] = []
        for einsum in cascade.einsums:
            made = self._fitted(einsum, scope) if _ordered(einsum, scope) else (einsum,)
            scope.define(*made)
            done += made
        same = len(done) == len(cascade.einsums)
        return cascade if same else scope.with_einsums(done)

    def _fitted(self, einsum: Einsum, scope: Scope) -> Sequence[Einsum]:
        factors = einsum.product() or ()
        if any(scope.extent(v) is None for v in (*einsum.free, *einsum.reduced)):
            raise PassError(
                f"an extent in {einsum.name} is not known, so its intermediates' sizes are not",
                span=einsum.span,
                hint="declare the extents, or give shapes=",
            )
        path = Order(self.optimize).found(einsum, factors, scope)
        inner = path_steps(einsum, factors, path)[:-1]
        largest = max(inner, key=lambda step: points(step.variables, scope), default=None)
        if largest is None or points(largest.variables, scope) <= self.elements:
            return contracted(einsum, factors, path, scope)
        cut = self._cut(einsum, largest, scope)
        *parts, whole = cut.sliced(einsum, scope)
        done: list[Einsum] = []
        for part in parts:
            made = self._fitted(part, scope) if _ordered(part, scope) else (part,)
            scope.define(*made)
            done += made
        return *done, whole

    def _cut(self, einsum: Einsum, largest: Node, scope: Scope) -> Slice:
        """The slicing of a rank of the largest intermediate: one of the output's if there is one.

        Stacked pieces do no work twice that the sum's pieces would not do as well, and need no sum.
        """
        stackable = einsum.output.plain is not None and scope.dtype(einsum).kind != "object"
        extents = {v: scope.extent(v) or 1 for v in sorted(largest.variables)}
        free = [v for v in extents if v in einsum.free and extents[v] > 1 and stackable]
        summed = [v for v in extents if v in einsum.reduced and extents[v] > 1]
        candidates = free or summed
        if not candidates:
            raise PassError(f"no rank of {einsum.name} can be sliced", span=einsum.span)
        rank = max(candidates, key=lambda v: extents[v])
        wanted = -(-points(largest.variables, scope) // self.elements)
        return Slice(einsum.name, rank, min(wanted, extents[rank]))
