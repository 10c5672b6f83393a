"""Reductions that wait for one another go once through what no cache holds, piece by piece.

    nest G { %r begins max; for m in 0..M { %r max= X[m] }; G[] = %r }
    nest D { %r begins add; for m in 0..M { %r add= exp(X[m] - G[]) }; D[] = %r }
    -> parallel m by L each ... {
         nest G { ... G.pieces[M'N] = %r }
         nest D { ... %r add= exp(X[m] - G.pieces[M'N]) ...; D.pieces[M'N] = %r }
       }
       nest G { ... for m'c in 0..M'CL { %r max= G.pieces[m'c] }; G[] = %r }
       nest D { ... for m'c in 0..M'CL { %r add= D.pieces[m'c] * exp(G.pieces[m'c] - G[]) }; ... }

A piece is so short that a cache keeps it until the last of its reductions has read it. Each is made
with the piece's own maximum in place of that of all, and repaired where pieces are brought
together. That this may be done, and by which factor, is what `merge{rank=m}` asks (passes/online):
one pass less there is one run through memory less here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from ...ir.cascade import Cascade
from ...ir.dtypes import I64, DType
from ...ir.einsum import Access, Expr, Literal, Map
from ...ir.errors import PassError
from ...ir.loop_nodes import (
    Apply,
    Convert,
    Index,
    Load,
    Number,
    Register,
    Value,
    replaced,
)
from ...ir.loops import LoopProgram, Nest, Parallel, Scratch, Size, Split, Stage
from ...ir.operators import identity_of
from ...ir.ranks import RankExpr
from .ahead import large_inputs
from .cuts import MOST_CUT
from .parts import each_in
from .pieces import Pieces, Reduction, Worth, in_pieces, is_whole, reduction_of, work_of_body
from .schedule import Limits
from .tile import number, plus, variable

if TYPE_CHECKING:
    from ..online.forms import Fold, Shift

#: The least length of a piece that vectors go along.
_LEAST = Worth().piece

#: What differences of maxima are multiplied or divided by at most.
_LARGEST = 1e9

#: A piece reads so many times what each of its reductions comes to, which is read again, at least.
_FEWEST = 4


def repaired(
    program: LoopProgram, cascade: Cascade, sizes: Mapping[str, int], limits: Limits
) -> LoopProgram:
    """The program; `cascade` is what was lowered to it, and `sizes` are hints.

    An input whose size is not known is left alone, and so are reductions that have a filter, sum
    anything but exponentials, owe a factor beside the repair, or are computed in another dtype than
    what they are repaired for.
    """
    large = large_inputs(program, sizes, limits).keys()
    if not large:
        return program
    found = _Repairs(program, cascade, sizes, limits, large)
    stages = tuple(found.stages())
    if not found.buffers:
        return program
    return replace(
        program,
        sizes=(*program.sizes, *dict.fromkeys(found.counts)),
        scratch=(*program.scratch, *found.buffers),
        stages=stages,
    )


@dataclass(frozen=True, slots=True)
class _Wait:
    """A reduction for which another one is repaired: the read of it, and what the rules say."""

    load: Load
    shift: Shift
    scale: float


@dataclass(frozen=True, slots=True)
class _Member:
    """A nest that reduces over the rank that is cut."""

    nest: Nest
    reduction: Reduction
    loads: tuple[Load, ...]
    plain: bool = False  # whether it reduces what it reads, as it is
    wait: _Wait | None = None  # what it is repaired for; None if it waits for nothing

    @property
    def name(self) -> str:
        return self.nest.name

    @property
    def dtype(self) -> DType:
        return self.reduction.begin.dtype


class _Repairs:
    """Finds reductions that follow one another, and makes them piece by piece."""

    def __init__(
        self,
        program: LoopProgram,
        cascade: Cascade,
        sizes: Mapping[str, int],
        limits: Limits,
        large: Collection[str],
    ) -> None:
        self.program, self.cascade, self.sizes, self.limits = program, cascade, sizes, limits
        self.large = large
        self.buffers: list[Scratch] = []
        self.counts: list[Size] = []

    def stages(self) -> Iterator[Stage]:
        """The program's stages, such reductions as one that goes through the pieces."""
        stages = self.program.stages
        at = 0
        while at < len(stages):
            made, used = self._at(stages[at:])
            yield from made or stages[at : at + 1]
            at += used or 1

    def _at(self, stages: Sequence[Stage]) -> tuple[tuple[Stage, ...], int]:
        """What the first stages become, and how many these are; none if they are left alone."""
        group: list[_Member] = []
        for stage in stages:
            member = _member(stage)
            if member is None or (group and not _waits(member, group)):
                break
            group.append(member)
        while len(group) > 1:
            for cut in _common(group):
                known = self._with_folds(cut, group)
                made = self._made(cut, known) if known else ()
                if made:
                    return made, len(group)
            group.pop()
        return (), 0

    def _with_folds(self, cut: str, group: Sequence[_Member]) -> list[_Member] | None:
        """The group with what its members are repaired for; None if one cannot be."""
        if not any(load.buffer in self.large for load in group[0].loads):
            return None
        from ..online.flatten import flattened
        from ..online.loop import Loop

        try:
            flat = flattened(self.cascade, cut)
        except PassError:
            return None
        rules = Loop(flat, cut, frozenset(member.name for member in group))
        found: dict[str, _Member] = {}
        for member in group:
            known = _known(member, rules.folds.get(member.name), found)
            if known is None:
                return None
            found[member.name] = known
        return [*found.values()]

    def _made(self, cut: str, group: Sequence[_Member]) -> tuple[Stage, ...]:
        """The pieces, and what brings them together; nothing if a cache holds all of it."""
        beside = self._beside(group)
        apart = {split.variable for split in beside}
        loads = {load.buffer: load for member in group for load in member.loads}
        step = sum(
            load.dtype.itemsize * self._points(load, {cut, *apart})
            for load in loads.values()
            if cut in _variables(load)
        )
        if step * self.sizes.get(cut.upper(), 0) < self.limits.streamed:
            return ()
        # A third of the level-1 cache, which the next piece comes to as well; a power of two.
        length = 1 << (max(self.limits.near // 3 // step, 1)).bit_length() - 1
        if length < _LEAST and any(cut in m.reduction.vectors for m in group):
            return ()
        if length * step < _FEWEST * max(self._left(member, apart) for member in group):
            return ()
        splits = (Split(cut, number(length), each=True), *beside)
        mine, given = RankExpr.of_size(splits[0].number), {member.name: member for member in group}
        nests: list[Nest] = []
        ends: list[Nest] = []
        for member in group:
            made = in_pieces(member.nest, _local(member, given, mine), splits, {})
            nests += made.parallel.nests
            ends.append(_together(member, given, made))
            self.buffers.append(made.scratch)
            self.counts.append(made.count)
        work = plus(*(work_of_body(member.nest) for member in group))
        return (Parallel(splits, work, (), tuple(nests)), *ends)

    def _beside(self, group: Sequence[_Member]) -> list[Split]:
        """What all are free in and go through one by one: each coordinate has pieces of its own."""
        names = {member.name: member for member in group}
        reads = [member.wait.load for member in group if member.wait is not None]
        found = [
            v
            for v in group[0].reduction.free
            if all(_is_serial(v, member.reduction) for member in group)
            and all(_places(names[load.buffer], load)[v] == variable(v) for load in reads)
        ]
        longest = sorted(found, key=lambda v: -self.sizes.get(v.upper(), 0))[: MOST_CUT - 1]
        return [Split(v, number(1), each=True) for v in found if v in longest]

    def _points(self, load: Load, gone: set[str]) -> int:
        """How many elements a piece reads at each coordinate of its rank."""
        return prod(self.sizes.get(v.upper(), 1) for v in _variables(load) - gone)

    def _left(self, member: _Member, gone: set[str]) -> int:
        """How many bytes a piece of a reduction comes to."""
        kept = (v for v in member.reduction.free if v not in gone)
        return member.dtype.itemsize * prod(self.sizes.get(v.upper(), 1) for v in kept)


def _member(stage: Stage) -> _Member | None:
    """A nest that is a reduction in loops of its own."""
    if not isinstance(stage, Nest):
        return None
    reduction = reduction_of(stage)
    if reduction is None:
        return None
    loads = tuple(load for statement in reduction.inside for load in each_in(statement, Load))
    plain = all(isinstance(index, RankExpr) for load in loads for index in load.indices)
    return _Member(stage, reduction, loads) if plain else None


def _known(member: _Member, fold: Fold | None, before: Mapping[str, _Member]) -> _Member | None:
    """The member with what it is repaired for, which is `before` it; None if it cannot be.

    What is repaired is a sum of exponentials alone. With a factor it might overflow in a piece, or
    be infinite, whose maximum is so far below that of all that the whole does not see it.
    """
    if fold is None or fold.deferred or fold.einsum.where is not None or fold.terms[0].active:
        return None
    loads = [*dict.fromkeys(load for load in member.loads if load.buffer in before)]
    shifts, term = fold.terms[0].shifts, fold.reduce.expr
    if not loads and not shifts:
        return replace(member, plain=isinstance(term, Access))
    if not (len(loads) == len(shifts) == 1 and isinstance(term, Map) and term.op == shifts[0].base):
        return None
    (load,), (shift,) = loads, shifts
    given, scale = before[load.buffer], _number(shift.scale)
    if load.buffer != shift.value.tensor or given.wait is not None or not _is_kept(given, load):
        return None
    if member.dtype != given.dtype or member.dtype.kind != "float":
        return None
    # No dtype makes these infinite, or 0, neither of which is a repair.
    if scale is None or not _LARGEST**-1 <= scale <= _LARGEST:
        return None
    return replace(member, wait=_Wait(load, shift, scale))


def _is_kept(given: _Member, load: Load) -> bool:
    """Whether a reduction is stored as it was computed: of f16 if all that it reduces is f16.

    One that is rounded may become an infinity that no piece has.
    """
    here = load.dtype == given.dtype
    return here or (given.plain and all(of.dtype == load.dtype for of in given.loads))


def _waits(member: _Member, group: Sequence[_Member]) -> bool:
    """Whether exponentials in it read what one of the group reduces to."""
    names = {each.name for each in group}
    found = (a for a in each_in(member.reduction.inside, Apply) if a.op in ("exp", "exp2"))
    return any(load.buffer in names for apply in found for load in each_in(apply, Load))


def _is_serial(name: str, reduction: Reduction) -> bool:
    """Whether a variable that the reduction is free in is gone through one by one."""
    if name not in reduction.free or not is_whole(name, reduction.loops):
        return False
    return all(loop.kind == "serial" for loop in reduction.loops if loop.variable == name)


def _common(group: Sequence[_Member]) -> tuple[str, ...]:
    first, *others = (member.reduction.reduced for member in group)
    return tuple(v for v in first if all(v in other for other in others))


def _variables(load: Load) -> set[str]:
    return {v for i in load.indices if isinstance(i, RankExpr) for v in i.variables()}


def _number(scale: Expr | None) -> float | None:
    """What a product or quotient of numbers is, 1 if there is none; None for anything else."""
    if scale is None:
        return 1.0
    if isinstance(scale, Literal):
        return scale.value if isinstance(scale.value, int | float) else None
    if not isinstance(scale, Map) or scale.op not in ("mul", "div"):
        return None
    first, *others = map(_number, scale.args)
    for other in others:
        if first is None or not other:
            return None
        first = first * other if scale.op == "mul" else first / other
    return first


# ---- values


def _local(member: _Member, given: Mapping[str, _Member], mine: RankExpr) -> Reduction:
    """The reduction of a piece: with the value of that piece in place of that of all."""
    wait = member.wait
    if wait is None:
        return member.reduction
    of = given[wait.load.buffer]
    part: Value = _piece(of, wait.load, mine)
    part = part if wait.shift.guarded else _guarded(of, part)
    inside = replaced(member.reduction.inside, lambda value: part if value == wait.load else None)
    return replace(member.reduction, inside=inside)


def _piece(given: _Member, whole: Load, part: RankExpr) -> Load:
    """An element of what a reduction comes to in a piece, where `whole` is that of all."""
    at = _places(given, whole)
    return Load(f"{given.name}.pieces", (part, *(at[v] for v in given.reduction.free)), given.dtype)


def _computed(given: _Member, whole: Load) -> Value:
    """An element of a reduction in the dtype it is computed in, as its pieces are."""
    return whole if whole.dtype == given.dtype else Convert(whole, given.dtype)


def _places(given: _Member, whole: Load) -> dict[str | None, RankExpr | Value]:
    """At which coordinates of its variables a reduction is read."""
    stored = (index.variable for index in given.reduction.end.indices)
    return dict(zip(stored, whole.indices, strict=True))


def _is_nothing(given: _Member, value: Value) -> Value:
    """Whether a maximum is that of nothing."""
    found = identity_of(given.reduction.begin.op)
    assert found is not None
    return Apply("eq", (value, Number(found, given.dtype)))


def _guarded(given: _Member, value: Value) -> Value:
    """A maximum, or 0 where it is that of nothing: what an exponential subtracts."""
    return Apply("select", (_is_nothing(given, value), Number(0, given.dtype), value))


def _together(member: _Member, given: Mapping[str, _Member], made: Pieces) -> Nest:
    """What brings a reduction's pieces together, each repaired."""
    wait = member.wait
    if wait is None:
        return made.together
    of = given[wait.load.buffer]
    register = Register(member.reduction.begin.register, member.dtype)

    def one(value: Value) -> Value | None:
        if isinstance(value, Load) and value.buffer == made.scratch.name:
            (part, *_) = value.indices
            assert isinstance(part, RankExpr)
            return Apply("mul", (value, _repair(of, wait, part)))
        return _told(value, member, of, wait) if value == register else None

    return replaced(made.together, one)


def _repair(of: _Member, wait: _Wait, part: RankExpr) -> Value:
    """exp(a(d') - a(d)) from the value d' of a piece to that of all."""
    pair = _piece(of, wait.load, part), _computed(of, wait.load)
    moved: Value = Apply("sub", pair if wait.shift.sign < 0 else pair[::-1])
    # An infinity less itself is NaN, which no element of the piece need be.
    moved = Apply("select", (Apply("eq", pair), Number(0, of.dtype), moved))
    if wait.scale != 1:
        moved = Apply("mul", (moved, Number(wait.scale, of.dtype)))
    return Apply(wait.shift.base, (moved,))


def _told(value: Value, member: _Member, of: _Member, wait: _Wait) -> Value:
    """The sum; NaN where a guard alone hid that -inf was subtracted from -inf."""
    if wait.shift.guarded:
        return value
    some = (
        Apply("gt", (Index(RankExpr.of_size(rank)), Number(0, I64)))
        for rank in member.reduction.begin.over
    )
    hidden = Apply("and", (_is_nothing(of, _computed(of, wait.load)), *some))
    return Apply("select", (hidden, Number(float("nan"), member.dtype), value))
