"""The passes that make a Cascade need fewer passes over its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ...ir.cascade import Cascade
from ...ir.einsum import Access, Coordinate, Einsum, Expr, accesses, rewrite_leaves
from ...ir.errors import PassError, PipelineError
from ...ir.ranks import Partition, Rank
from ..base import Pass
from .emit import Cut, Emitter, kept_dtype, one_or
from .flatten import flattened
from .forms import Fold
from .loop import Loop
from .rebuild import Finals, rebuilt


@dataclass(frozen=True, slots=True)
class Defer(Pass):
    """What does not depend on the rank that is folded multiplies the sum, not its terms.

        A[m,p]   = SN[m,p] / SD[p]
        AV[f,p]  = A[m,p] * V[f,m]
     -> NAV[f,p] = SN[m,p] * V[f,m]
        AV[f,p]  = NAV[f,p] / SD[p]              defer{rank=m}

    So the sum does not wait for SD. Under max, min and logaddexp what is added is deferred, not
    what multiplies.

    Condition: multiplication distributes over the reduction in floating types, up to rounding; what
    is deferred does not have the rank, nor another one that is folded. It is not zero for a sum of
    nothing: the extent is assumed to be at least 1, and a filter that leaves nothing is told
    apart. Source: rule A, deferral: FuseMax (arXiv 2406.10491), Cascade 2.

    Options:
        rank: the variable of the rank that is folded.
        tensor: the one reduction to change; by default every one that waits for another.
        terms: whether a sum of several terms, `(X[m] - U) * (X[m] - U)`, becomes one reduction for
            each (rule A', finite sums). It may cancel where the sum itself does not.

    Raises:
        PassError: `tensor` is given, and does not come apart; the message says why.
    """

    name: ClassVar[str] = "defer"
    rank: str
    tensor: str | None = None
    terms: bool = False

    def __call__(self, cascade: Cascade) -> Cascade:
        check_rank(cascade, self.rank)
        flat = flattened(cascade, self.rank)
        loop = Loop(flat, self.rank, expands=self.terms)
        if self.tensor is not None:
            _check_tensor(loop, self.tensor)
        folds = [f for f in loop.deferring() if self.tensor in (None, f.name)]
        if not folds:
            return cascade
        beside, finals = _deferred(loop, folds)
        return rebuilt(loop, (), finals, beside=beside, repairs=False)


def _deferred(loop: Loop, folds: Sequence[Fold]) -> tuple[dict[str, list[Einsum]], Finals]:
    """The terms of some reductions as reductions of their own, and what each is."""
    beside: dict[str, list[Einsum]] = {}
    finals: dict[tuple[str, int], Access] = {}
    for fold in folds:
        made = beside.setdefault(fold.name, [])
        for number, term in enumerate(fold.terms):
            name = loop.scope.fresh(f"N{fold.name}" + (str(number) if number else ""))
            output = replace(fold.einsum.output, tensor=name, span=None)
            dtype = kept_dtype(loop, fold)
            expr = replace(fold.reduce, expr=_plain(loop, one_or(term.kernel, dtype), made))
            made.append(replace(fold.einsum, output=output, expr=expr, dtype=dtype, span=None))
            finals[fold.name, number] = output
    return beside, finals


def _plain(loop: Loop, expr: Expr, made: list[Einsum]) -> Expr:
    """An expression with kernels as the tensors that they are, made where they are none yet."""

    def leaf(node: Access | Coordinate) -> Expr:
        kernel = loop.separator.kernels.get(node.tensor) if isinstance(node, Access) else None
        if kernel is None or not isinstance(node, Access):
            return node
        if kernel.whole:
            return replace(node, tensor=kernel.einsum.name)
        name = loop.scope.fresh(f"B{kernel.einsum.name}")
        inside = _plain(loop, kernel.expr, made)
        output = replace(kernel.einsum.output, tensor=name)
        made.append(Einsum(output, inside, kernel.einsum.semiring, dtype=kernel.einsum.dtype))
        return replace(node, tensor=name)

    return rewrite_leaves(expr, leaf)


@dataclass(frozen=True, slots=True)
class Online(Pass):
    """Reductions that wait for one another run side by side, each repaired when another moves on.

        GM       = max[m] X[m]
        SD       = sum[m] exp(X[m] - GM)
     -> LGM[m1]  = max[m0] X[m1*M0+m0]           partition M -> M1, M0
        RGM[0]   = -inf
        RGM[m1+1] = max(RGM[m1], LGM[m1])
        SGM[m1]  = select(RGM[m1+1] == -inf, 0, RGM[m1+1])
        LSD[m1]  = sum[m0] exp(X[m1*M0+m0] - SGM[m1])
        PGM[m1]  = exp(RGM[m1] - SGM[m1])
        RSD[0]   = 0
        RSD[m1+1] = RSD[m1] * PGM[m1] + LSD[m1]
        SD       = RSD[M1]                       online{rank=m, tile=256}

    One pass over M in place of two. What can be deferred is deferred first, as `defer` does.

    Condition: the body is a product of exp(x - d), d a maximum of that x, with factors of which
    each either has the rank or is deferred (or exp(x + d), d a minimum; or exp2), so that a repair
    is at most 1 and no prefix is divided by; the reductions are associative; all is floating. S
    guards a prefix of which the maximum is -inf; where that is so in the end, NaN is put back
    unless it is told by 0 / 0. Source: rule B, running repair: FuseMax (arXiv 2406.10491), Cascade
    5; online softmax (arXiv 1805.02867).

    Options:
        rank: the variable of the rank that is folded.
        tile: so many coordinates at once; none: one after another.
        chunk: so many tiles are scanned by themselves, and chunks merged in the end (split-K, as
            FlashDecoding has it); none: all in one scan.
        tensors: the reductions that may take part; none: all.
        terms: as `defer` has it.

    Raises:
        PassError: no reduction waits for another one that it can be repaired for; the message says
            why.
    """

    name: ClassVar[str] = "online"
    rank: str
    tile: int | None = None
    chunk: int | None = None
    tensors: tuple[str, ...] | None = None
    terms: bool = False

    def __call__(self, cascade: Cascade) -> Cascade:
        check_rank(cascade, self.rank)
        check_positive(self, "tile", "chunk")
        if self.chunk is not None and self.tile is None:
            raise PipelineError("online{chunk=...} needs a tile", hint="online{tile=64, chunk=8}")
        return _rounds(self, cascade, self._cut)

    def _cut(self, loop: Loop) -> tuple[Cut, Partition | None]:
        if self.tile is None:
            return Cut(self.rank, step=self.rank), None
        if self.chunk is None:
            partition = _partition(loop, (None, self.tile))
            _, step, tile = (None, *map(str.lower, partition.parts))
            return Cut(self.rank, None, step, tile, partition.coordinate), partition
        partition = _partition(loop, (None, self.chunk, self.tile))
        chunk, step, tile = map(str.lower, partition.parts)
        return Cut(self.rank, chunk, step, tile, partition.coordinate), partition


@dataclass(frozen=True, slots=True)
class Merge(Pass):
    """Each tile is reduced by itself, and the tiles are merged: (d, S) of two make that of both.

        GM      = max[m] X[m]
        SD      = sum[m] exp(X[m] - GM)
     -> LGM[m1] = max[m0] X[m1*M0+m0]            partition M -> M1, M0
        SLGM[m1] = select(LGM[m1] == -inf, 0, LGM[m1])
        LSD[m1] = sum[m0] exp(X[m1*M0+m0] - SLGM[m1])
        GM      = max[m1] LGM[m1]
        PGM[m1] = exp(LGM[m1] - GM)
        SD      = sum[m1] LSD[m1] * PGM[m1]      merge{rank=m, tile=256}

    One traversal of M; over M1 two. Tiles may be folded in any order, and at once: split-K. With
    `tensors=[GM, SD]` alone, attention becomes its two-pass form.

    Condition: as `online` has it, with d of a tile in place of that of a prefix. Source: rule C:
    the pairs are a monoid; FlashDecoding, and the two-pass form of FuseMax (arXiv 2406.10491).

    Options:
        rank, tensors, terms: as `online` has them.
        tile: so many coordinates in a tile.

    Raises:
        PassError: as `online`.
    """

    name: ClassVar[str] = "merge"
    rank: str
    tile: int
    tensors: tuple[str, ...] | None = None
    terms: bool = False

    def __call__(self, cascade: Cascade) -> Cascade:
        check_rank(cascade, self.rank)
        check_positive(self, "tile")
        return _rounds(self, cascade, self._cut)

    def _cut(self, loop: Loop) -> tuple[Cut, Partition | None]:
        partition = _partition(loop, (None, self.tile))
        chunk, tile = map(str.lower, partition.parts)
        return Cut(self.rank, chunk, None, tile, partition.coordinate), partition


def _rounds(
    options: Online | Merge,
    cascade: Cascade,
    cut_of: Callable[[Loop], tuple[Cut, Partition | None]],
) -> Cascade:
    """One loop after another, until no reduction that is left waits for one in its own loop."""
    wanted = None if options.tensors is None else frozenset(options.tensors)
    done: set[str] = set()
    found = flattened(cascade, options.rank)
    refused: dict[str, str] = {}
    changed = False
    while True:
        loop = Loop(found, options.rank, wanted, done, expands=options.terms)
        for tensor in options.tensors or ():
            if not changed:
                _check_tensor(loop, tensor)
        refused |= loop.refused
        folds = _sharing(loop)
        beside, finals = _deferred(loop, [f for f in loop.deferring() if f not in folds])
        done |= set(loop.folds)
        if folds or beside:
            changed = True
            made: list[Einsum] = []
            partitions: tuple[Partition, ...] = ()
            if folds:
                cut, partition = cut_of(loop)
                partitions = () if partition is None else (partition,)
                emitter = Emitter(loop, cut, folds)
                emitter.run()
                made, finals = emitter.made, {**finals, **emitter.finals}
            found = rebuilt(loop, made, finals, partitions, beside)
        if not loop.refused or not loop.folds:
            break
    if not changed:
        raise _nothing(options, refused)
    return found


def _sharing(loop: Loop) -> list[Fold]:
    """The reductions that run in the loop: those repaired, and those that read what these do."""
    repaired = loop.repaired()
    if not any(fold.shifted for fold in repaired):
        return []
    streams: set[str] = set()
    for fold in repaired:
        for term in fold.terms:
            streams |= _streams(loop, term.kernel)
    names = {fold.name for fold in repaired}
    return [
        fold
        for fold in loop.folds.values()
        if fold.name in names or any(_streams(loop, term.kernel) & streams for term in fold.terms)
    ]


def _streams(loop: Loop, expr: Expr | None) -> set[str]:
    """The intermediates along the rank that an expression is made of."""
    found: set[str] = set()
    waiting = [] if expr is None else list(accesses(expr))
    while waiting:
        access = waiting.pop()
        kernel = loop.separator.kernels.get(access.tensor)
        if kernel is not None:
            waiting += accesses(kernel.expr)
            continue
        einsum = loop.einsums.get(access.tensor)
        if einsum is None or access.tensor in found or loop.variable not in einsum.free:
            continue
        found.add(access.tensor)
        waiting += einsum.reads()
    return found


def _nothing(options: Online | Merge, refused: Mapping[str, str]) -> PassError:
    rank = options.rank
    if not refused:
        return PassError(
            f"no reduction over {rank} waits for another one that it could be repaired for",
            hint="`defer` takes out of a sum what does not depend on the rank",
        )
    (name, reason), *others = refused.items()
    more = tuple(f"{other}: {why.splitlines()[0]}" for other, why in others)
    return PassError(f"{name} cannot be repaired while {rank} is walked: {reason}", deduced=more)


def _partition(loop: Loop, sizes: tuple[int | None, ...]) -> Partition:
    """A partition of the rank, its parts in the scope."""
    rank = loop.variable.upper()
    for known in loop.cascade.partitions:
        shapes = [loop.cascade.rank(part).shape for part in known.parts[1:]]
        if known.rank == rank and shapes == list(sizes[1:]):
            return known
    count = len(sizes)
    parts = tuple(loop.scope.fresh(f"{rank}{count - 1 - n}") for n in range(count))
    partition = Partition(rank, parts)
    loop.scope.new_ranks.append(Rank(parts[0], partition.outer_shape))
    loop.scope.new_ranks += [
        Rank(part, size) for part, size in zip(parts[1:], sizes[1:], strict=True)
    ]
    return partition


def check_rank(cascade: Cascade, variable: str) -> None:
    """Whether a pass may walk the rank of a variable.

    Raises:
        PassError: there is no such rank, or it is cut or walked by a scan already.
    """
    rank = variable.upper()
    names = {each.name for each in cascade.ranks}
    if variable != variable.lower() or rank not in names:
        raise PassError(
            f"{cascade.name} has no rank variable {variable}",
            hint=f"its variables are {', '.join(sorted(name.lower() for name in names))}",
        )


def _check_tensor(loop: Loop, tensor: str) -> None:
    if tensor in loop.refused:
        raise PassError(loop.refused[tensor])
    if tensor in loop.folds:
        return
    if tensor in loop.reductions:
        others = [name for name in loop.refused if name != tensor]
        raise PassError(
            f"{tensor} waits for {', '.join(others)}, which cannot take part",
            deduced=[loop.refused[name].splitlines()[0] for name in others],
            hint=f"these can: {', '.join(loop.folds)}" if loop.folds else None,
        )
    raise PassError(
        f"{tensor} is no reduction over {loop.variable}",
        hint=f"these are: {', '.join(loop.reductions) or 'none'}",
    )


def check_positive(options: Pass, *names: str) -> None:
    """Whether options of a pass that are given are at least 1.

    Raises:
        PipelineError: one is not.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise PipelineError(f"{options.name}{{{name}={value}}}: a {name} is at least 1")
