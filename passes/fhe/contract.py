"""One product on one Space: operands brought to it, multiplied, summed, and the result placed.

Every vector of the space is a product of the operands' vectors. Outer pieces that the output does
not depend on are summed by adding vectors, inner ones by rotating and adding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...ir.einsum import Access
from ...ir.errors import UnsupportedError
from ...ir.layouts import Layout, Piece, padded
from ...ir.slot_counts import WEIGHTS
from .align import ways
from .builder import Builder, Plain, gathered, ones_at
from .held import Held, Way
from .moves import doublings, summed
from .placing import End, Key, end_of
from .problem import Problem
from .space import Space, vectors
from .want import Want, want


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A way to do a product, not written yet: its levels and, roughly, key switches and cost.

    `inputs` are the layouts of the encrypted inputs that it places; `emit` writes it.
    """

    label: str
    levels: int
    key_switches: int
    cost: float
    inputs: Mapping[str, Layout]
    output: Layout
    emit: Callable[[Builder, Mapping[str, Held]], Held]

    def then(self, other: Draft, name: str) -> Draft:
        """This one, and another that reads its result under that name."""

        def emit(build: Builder, held: Mapping[str, Held]) -> Held:
            return other.emit(build, {**held, name: self.emit(build, held)})

        return Draft(
            f"{name} {self.label}; {other.label}",
            self.levels + other.levels,
            self.key_switches + other.key_switches,
            self.cost + other.levels * self.key_switches + other.cost,
            {n: at for n, at in {**self.inputs, **other.inputs}.items() if n != name},
            other.output,
            emit,
        )


def drafts(
    problem: Problem,
    space: Space,
    layouts: Mapping[str, Layout],
    output: Layout | None,
    most: int,
    in_place: frozenset[str] = frozenset(),
) -> list[Draft]:
    """The ways to do a product on a space, for each number of masks before and after it.

    Args:
        layouts: of the encrypted factors.
        output: where the result is to lie; None: where it comes to lie.
        most: the most levels, the product's own included.
        in_place: the encrypted factors whose layouts were made for the space.
    """
    return _Product(problem, space, layouts, output, in_place).drafts(most)


@dataclass(frozen=True, slots=True, eq=False)
class _Brought:
    """A factor, what of it is wanted, and, if it is encrypted, the way to bring it."""

    access: Access
    wanted: Want
    way: Way | None

    def write(
        self, build: Builder, held: Mapping[str, Held]
    ) -> Callable[[Mapping[Piece, int]], int | Plain | None]:
        """Writes it; gives what finds the operand's vector for each vector of the space."""
        wanted, tensor = self.wanted, self.access.tensor
        number = {key: n for n, key in enumerate(wanted.keys)}
        made: dict[Key, Sequence[int | Plain]] = {}
        if self.way is None:
            made[()] = [
                gathered(tensor, slots[elements >= 0], elements[elements >= 0])
                for slots, elements in zip(*wanted.whole(), strict=True)
            ]
        else:
            values = {
                key: [build.finished(v) for v in self.way.emit(build, held[tensor].values[at:])]
                for key, at in wanted.offsets()
            }
            depth = max(build.depth[value] for each in values.values() for value in each)
            made |= {key: [build.at_depth(v, depth) for v in each] for key, each in values.items()}

        def find(at: Mapping[Piece, int]) -> int | Plain | None:
            key = number.get(tuple(at[piece] for piece in wanted.outer))
            again = tuple(at[piece] for piece, _ in wanted.again)
            return None if key is None else made[again][key]

        return find

    @property
    def rotations(self) -> int:
        """How many it takes."""
        return 0 if self.way is None else self.way.rotations * self.wanted.times


@dataclass(frozen=True, slots=True, eq=False)
class _Operand:
    """A factor, what of it is wanted, and, if it is encrypted, the ways to bring it."""

    access: Access
    wanted: Want
    ways: Mapping[int, Way] | None

    def by(self, levels: int) -> _Brought:
        way = None if self.ways is None else self.ways[levels]
        return _Brought(self.access, self.wanted, way)


@dataclass(frozen=True, slots=True)
class _Product:
    problem: Problem
    space: Space
    layouts: Mapping[str, Layout]
    output: Layout | None
    in_place: frozenset[str]

    def drafts(self, most: int) -> list[Draft]:
        depth = math.ceil(math.log2(len(self.problem.factors)))
        operands = [self._operand(factor, most - depth) for factor in self.problem.factors]
        encrypted = [each.ways for each in operands if each.ways is not None]
        found: list[Draft] = []
        for before in range(most - depth + 1):
            ways_ = [ways[before] for ways in encrypted if before in ways]
            used = max((way.levels for way in ways_), default=0)
            if len(ways_) < len(encrypted) or used < before:
                continue
            brought = [each.by(before) for each in operands]
            masked = self._dirty(brought)
            levels = depth + used + masked
            for after in range(most - levels + 1):
                end = end_of(self.problem, self.space, self.output, after)
                if end is not None and end.levels == after:
                    found.append(self._draft(brought, masked, end, levels + after))
        return found

    # ---- operands

    def _operand(self, factor: Access, most: int) -> _Operand:
        problem = self.problem
        if factor.tensor in self.in_place:
            outer = self.space.told_by(frozenset(factor.variables()))
            wanted = Want(outer, tuple(vectors(outer)), (), (), (), self.space.slots)
            as_it_is = Way(0, 0, True, lambda _, values: list(values))
            return _Operand(factor, wanted, dict.fromkeys(range(most + 1), as_it_is))
        held = self.layouts[factor.tensor] if factor.tensor in problem.encrypted else None
        wanted = want(self.space, factor, problem.shapes[factor.tensor], problem.sizes, held)
        if held is None:
            return _Operand(factor, wanted, None)
        return _Operand(
            factor, wanted, ways(held, factor, self.space, wanted, problem.sizes, max(most, 0))
        )

    def _overhang(self) -> list[str]:
        """The variables along which some points of the space lie outside, if they are summed."""
        kept = set(self.problem.output.variables())
        found: list[str] = []
        for axis, v in enumerate(self.space.variables):
            steps = [
                (piece.extent - 1) * step
                for piece in self.space.layout.pieces
                for at, step in piece.steps
                if at == axis
            ]
            beyond = sum(steps) >= self.space.layout.shape[axis]
            if v not in kept and beyond and not self.space.layout.wrap:
                found.append(v)
        return found

    def _dirty(self, brought: Sequence[_Brought]) -> bool:
        """Whether what lies outside the space would be summed: no factor is 0 there."""
        return any(
            not any(
                each.way is None or each.way.clean
                for each in brought
                if v in each.access.variables()
            )
            for v in self._overhang()
        )

    # ---- the product and its sums

    def _draft(self, brought: Sequence[_Brought], masked: bool, end: End, levels: int) -> Draft:
        space = self.space
        kept = frozenset(self.problem.output.variables())
        outer = list(space.told_by(kept))
        inner = [piece for piece in space.inner if not space.along(piece) & kept]
        encrypted = [each.way for each in brought if each.way is not None]
        results = math.prod(piece.extent for piece in outer)
        vectors_ = math.prod(piece.extent for piece in space.outer)
        limbs = end.levels + 1
        sums = self._sums(inner, brought, masked)
        each_sum = sum(doublings(extent) for extent, _ in sums)
        cost: float = end.rotations * limbs + results * limbs * each_sum
        limbs += masked
        switches = results * (len(encrypted) - 1) + sum(each.rotations for each in brought)
        cost += (limbs + 1) * (WEIGHTS["key_switch"] * switches)
        cost += (limbs + 1) * vectors_ * WEIGHTS["mul"] * (len(encrypted) - 1)
        if len(encrypted) < len(brought):
            cost += vectors_ * (WEIGHTS["encode"] + WEIGHTS["mul_plain"] * (limbs + 1))

        def emit(build: Builder, held: Mapping[str, Held]) -> Held:
            finds = [each.write(build, held) for each in brought]
            return end.emit(build, self._summed(build, finds, masked, outer, sums))

        every = switches + end.rotations + results * each_sum
        return Draft(space.label, levels, every, cost, dict(self.layouts), end.layout, emit)

    def _sums(
        self, inner: Sequence[Piece], brought: Sequence[_Brought], masked: bool
    ) -> list[tuple[int, int]]:
        """The sums in each vector, (extent, stride) each; pieces without a gap may be one sum."""
        runs: list[list[Piece]] = []
        for piece in sorted(inner, key=lambda piece: piece.stride):
            if runs and runs[-1][-1].extent * runs[-1][-1].stride == piece.stride:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        found: list[tuple[int, int]] = []
        for run in runs:
            apart = [self._summed_over([piece], brought, masked) for piece in run]
            together = [self._summed_over(run, brought, masked)]
            found += min(together, apart, key=lambda sums: sum(doublings(n) for n, _ in sums))
        return found

    def _summed_over(
        self, run: Sequence[Piece], brought: Sequence[_Brought], masked: bool
    ) -> tuple[int, int]:
        """How many places are summed over: with zeros behind, a power of two is quicker."""
        space, stride, last = self.space, run[0].stride, run[-1]
        extent = math.prod(piece.extent for piece in run)
        wide = padded(extent, "power")
        beyond = [p.stride for p in space.inner if p.stride > last.stride]
        room = min(beyond, default=space.slots) >= wide * stride
        shifted = any(p.stride % space.slots for p in space.outer)
        zero = masked or any(
            each.way is None or each.way.clean
            for each in brought
            if space.along(last) & set(each.access.variables())
        )
        return (wide if room and zero and not shifted else extent), stride

    def _summed(
        self,
        build: Builder,
        finds: Sequence[Callable[[Mapping[Piece, int]], int | Plain | None]],
        masked: bool,
        outer: Sequence[Piece],
        sums: Sequence[tuple[int, int]],
    ) -> dict[Key, int]:
        """For each vector of the output, the sum of the products of the space's vectors."""
        space = self.space
        names = frozenset(space.variables)
        found: dict[Key, int] = {}
        for key in vectors(space.outer):
            at = dict(zip(space.outer, key, strict=True))
            factors = [find(at) for find in finds]
            if any(factor is None for factor in factors):
                continue  # nothing of an operand is there
            values = [factor for factor in factors if isinstance(factor, int)]
            plains = [factor for factor in factors if isinstance(factor, Plain)]
            slots, _ = space.points(space.inner, list(at.items()), names)
            if not slots.size:
                continue
            value = multiplied(build, values, plains)
            if masked:
                value = build.mul_plain(value, ones_at(slots))
            goes = tuple(at[piece] for piece in outer)
            found[goes] = build.add(found[goes], value) if goes in found else value
        if not found:
            raise UnsupportedError(
                f"{self.problem.output.tensor} is 0 everywhere, whatever is encrypted",
                span=self.problem.output.span,
            )
        some = next(iter(found.values()))
        for key in vectors(outer):
            value = found[key] if key in found else build.zero(some)
            for extent, stride in sums:
                value = summed(build, value, stride, extent)
            found[key] = value
        return found


def multiplied(build: Builder, values: Sequence[int], plains: Sequence[Plain]) -> int:
    """The two least deep first, as Huffman does; what is in the clear where it adds no level."""
    plain = plains[0] if plains else None
    for other in plains[1:]:
        plain = plain.times(other) if plain else other
    left = list(values)
    if plain is not None and len(left) > 1:
        ends = [build.end(value) for value in left]
        at = max(range(len(left)), key=lambda n: (-ends[n], n))
        early = [end + (n == at) for n, end in enumerate(ends)]
        if _depth(early) == _depth(ends):
            left[at] = build.mul_plain(left[at], plain)
            plain = None
    while len(left) > 1:
        left.sort(key=build.end)
        left = [*left[2:], build.mul(left[0], left[1])]
    return left[0] if plain is None else build.mul_plain(left[0], plain)


def _depth(ends: Sequence[int]) -> int:
    """The depth of the product of values of those depths."""
    left = sorted(ends)
    while len(left) > 1:
        left = sorted([left[1] + 1, *left[2:]])
    return left[0]


def spread(
    build: Builder,
    held: Held,
    access: Access,
    space: Space,
    shape: Sequence[int],
    sizes: Mapping[str, int],
    most: int,
) -> list[int] | None:
    """An operand's values on a space, vector by vector; None if that needs more masks.

    Args:
        shape: of the tensor; sizes: the extent of each variable.
    """
    wanted = want(space, access, shape, sizes)
    found = ways(held.layout, access, space, wanted, sizes, most)
    if not found:
        return None
    find = _Brought(access, wanted, found[most]).write(build, {access.tensor: held})
    values: list[int] = []
    for key in vectors(space.outer):
        value = find(dict(zip(space.outer, key, strict=True)))
        assert isinstance(value, int)  # a vector of a space has points, and no fill
        values.append(value)
    return values
