"""Equality search: the cheapest Cascade that the laws reach in a bounded number of steps."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, count
from typing import ClassVar, TypeAlias

from ..ir.cascade import Cascade
from ..ir.errors import PassError
from .analysis.cost import cost
from .base import Pass
from .registry import pass_class
from .rewrites.nesting import Denest, Inline, Nest
from .rewrites.order import NOMINAL
from .rewrites.share import Dead, Key, Share, normal, redirected
from .scope import Scope

#: What a Cascade is judged by: flops, then elements written, then the number of Einsums.
Cost: TypeAlias = tuple[int, int, int]

#: The laws that may make a Cascade cheaper, or another law apply.
LAWS = (
    *("squeeze", "presum", "components", "hadamard", "distribute", "factor", "identity"),
    *("transpose", "delta", "delta_merge", "ones_drop", "multiple", "idem_mul", "idem_add"),
    "fold_constants",
)


@dataclass(frozen=True, slots=True)
class Search(Pass):
    """The cheapest Cascade found by applying laws in any order, best first.

        T[i] = A[i,j] * C[j]
        U[i] = B[i,j] * C[j]
        Y[i] = T[i] + U[i]
     -> Y[i] = (A[i,j] + B[i,j]) * C[j]

    A step takes the cheapest Cascade not yet expanded and applies to it every law of `laws`, every
    `nest` of two factors, every `denest` and every `inline`; equal parts are then shared, and what
    is not read is dropped. Cascades are equal if they are so up to names and the order of Einsums.
    The cost is that of the cost report: flops, then elements written; an extent that is not known
    counts as 64. Condition: each law's own. Source: best-first search over rewrites; equality
    saturation (Willsey et al., egg, POPL 2021) keeps all equal forms at once instead.

    Options:
        steps: how many Cascades are expanded at most.
        laws: the laws without options to apply; by default those that may make a Cascade cheaper.

    Raises:
        PassError: `laws` names a pass with options.
    """

    name: ClassVar[str] = "search"
    steps: int = 50
    laws: tuple[str, ...] = LAWS

    def __call__(self, cascade: Cascade) -> Cascade:
        keys = _Keys()
        number = count()
        best, least = cascade, _cost(cascade)
        seen = {keys.of(cascade)}
        heap = [(least, next(number), cascade)]
        for _ in range(self.steps):
            if not heap:
                break
            _, _, current = heapq.heappop(heap)
            for found in self._neighbours(current):
                tidy = Dead()(Share()(found))
                key = keys.of(tidy)
                if key in seen:
                    continue
                seen.add(key)
                reached = _cost(tidy)
                heapq.heappush(heap, (reached, next(number), tidy))
                if reached < least:
                    best, least = tidy, reached
        return best

    def _neighbours(self, cascade: Cascade) -> Iterator[Cascade]:
        """Every Cascade that one law makes of this one."""
        for law in self._moves(cascade):
            try:
                found = law(cascade)
            except PassError:
                continue
            if found is not cascade:
                yield found

    def _moves(self, cascade: Cascade) -> Iterator[Pass]:
        for name in self.laws:
            try:
                yield pass_class(name)()
            except TypeError:
                raise PassError(f"{name} needs options, so search cannot apply it") from None
        for einsum in cascade.einsums:
            factors = einsum.product() or ()
            if len(factors) > 2:
                for pair in combinations(range(len(factors)), 2):
                    yield Nest(einsum.name, pair)
            if einsum.name not in cascade.outputs:
                yield Denest(einsum.name)
                yield Inline(einsum.name)


def _cost(cascade: Cascade) -> Cost:
    report = cost(cascade)
    sizes = {rank.name: NOMINAL for rank in cascade.ranks}
    written = sum(each.elements.at(sizes).number or 0 for each in report.einsums)
    return report.flops.at(sizes).number or 0, written, len(cascade.einsums)


class _Keys:
    """What tells Cascades apart: their outputs, each as what is computed, whatever the names."""

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}

    def of(self, cascade: Cascade) -> frozenset[tuple[object, ...]]:
        scope = Scope.of(cascade)
        moved: dict[str, tuple[str, tuple[int, ...]]] = {}
        outputs: set[tuple[object, ...]] = set()
        for einsum in cascade.einsums:
            found = normal(redirected(einsum, moved), scope)
            if found is None:  # a scan: by its name and as it is written
                outputs.add((einsum,))
                continue
            key, axes = found
            number = self._numbers.setdefault(key, len(self._numbers))
            places = sorted(range(len(axes)), key=lambda place: axes[place])
            if len(set(axes)) < len(axes) or einsum.output.plain is None:
                places = list(range(len(axes)))
            moved[einsum.name] = f"#{number}", tuple(places)
            if einsum.name in cascade.outputs:
                outputs.add((einsum.name, number, tuple(places)))
        return frozenset(outputs)
