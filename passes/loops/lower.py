"""Cascade -> LoopProgram: one nest for each Einsum, temporaries between them in C order.

The Einsums of a scan become a sweep: their nests, in which the scan's coordinate is a size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import Access, Einsum, Expr, Reduce, children
from ...ir.errors import UnsupportedError
from ...ir.infer import infer_dtypes
from ...ir.loops import ArrayAxis, Buffer, Check, LoopProgram, Nest, Scratch, Size, Sweep
from ...ir.ranks import RankExpr, Term, affine
from ...ir.scans import Scan, Stage, at, stages
from ...ir.windows import Window, kept_extents, narrowed, shifts, windows
from .finish import is_turn, vectors
from .fuse import Chain, chains, formed
from .inner import inner_named
from .nest import NestLowering
from .point import Storage
from .schedule import Limits
from .shifted import shifted

#: What is told of no machine fits this: the caches of servers.
LIMITS = Limits()


def lower(
    cascade: Cascade,
    dtypes: Mapping[str, DType],
    layouts: Mapping[str, int | None],
    limits: Limits = LIMITS,
) -> LoopProgram:
    """The loop nests that compute a Cascade, for any sizes.

    Args:
        cascade: what to compute; the shapes of its ranks, where they are numbers, are hints alone.
        dtypes: the dtype of every input that the Cascade does not declare.
        layouts: for each input and output, the axis whose stride is its itemsize; None: no axis.
        limits: how large blocks are.

    Raises:
        UnsupportedError: a dtype is the host's own.
    """
    types = infer_dtypes(cascade, dtypes)
    for rewrite in (inner_named, shifted):
        written = rewrite(cascade, types)
        if written is not cascade:
            cascade, types = written, infer_dtypes(written, dtypes) | types
    for name, dtype in types.items():
        if dtype.is_host_only:
            raise UnsupportedError(f"{name} is {dtype}, which runs on the NumPy backend only")
    inputs = tuple(
        Buffer(decl.name, decl.extents, types[decl.name], layouts.get(decl.name))
        for decl in cascade.inputs
    )
    whole, found = cascade.extents(), windows(cascade)
    extents = kept_extents(whole, found)
    outputs = tuple(
        Buffer(name, extents[name], types[name], layouts.get(name)) for name in cascade.outputs
    )
    scratch = [
        _temporary(name, extents[name], types[name])
        for name in dict.fromkeys(einsum.name for einsum in cascade.einsums)
        if name not in cascade.outputs
    ]
    units = {buffer.name: buffer.unit for buffer in (*inputs, *outputs)}
    units |= {buffer.name: buffer.unit for buffer in scratch}
    hints = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    storage = Storage(types, extents, units, hints, frozenset(cascade.outputs))
    lowering = _Lowering(storage, limits, scratch, found)
    made = tuple(lowering.stages(stages(cascade), cascade.outputs))
    checks = [check for einsum in cascade.einsums for check in _checks(einsum, whole)]
    return LoopProgram(
        _symbol(cascade.name),
        _sizes(cascade, inputs, outputs),
        inputs,
        outputs,
        tuple(scratch),
        tuple(dict.fromkeys(checks)),
        made,
    )


@dataclass(frozen=True, slots=True)
class _Lowering:
    """Makes nests and sweeps; their buffers join `scratch`."""

    storage: Storage
    limits: Limits
    scratch: list[Scratch]
    windows: Mapping[str, Window]

    def stages(self, stages: Sequence[Stage], outputs: Sequence[str]) -> Iterator[Nest | Sweep]:
        """The nests and sweeps of stages; a chain is one nest, where its last Einsum stands."""
        found: dict[int, _Fused] = {}
        fused: set[str] = set()
        for number, chain in chains(stages, outputs).items():
            made = self._fused(chain)
            if made is not None:
                found[number] = made
                fused |= chain.names
        for number, made in self._formed(stages, outputs, found, fused):
            found[number] = made
            fused |= made.chain.names
        for number, stage in enumerate(stages):
            if number in found:
                yield self._lowered(found[number])
            elif not isinstance(stage, Einsum) or stage.name not in fused:
                yield self.stage(stage, {})

    def _formed(
        self,
        stages: Sequence[Stage],
        outputs: Sequence[str],
        found: Mapping[int, _Fused],
        fused: set[str],
    ) -> Iterator[tuple[int, _Fused]]:
        """The products, those of chains too, that are better off computing what they pack."""
        formers = formed(stages, outputs, self.storage.dtypes)
        for number, stage in enumerate(stages):
            made = found.get(number)
            if not isinstance(stage, Einsum) or (made is None and stage.name in fused):
                continue
            chain = Chain(stage) if made is None else made.chain
            given = tuple(e for e in formers.get(chain.product.name, ()) if e.name not in fused)
            if given:
                chain = replace(chain, formed=given)
                better = self._fused(chain)
                if better is not None:
                    yield number, better

    def _fused(self, chain: Chain) -> _Fused | None:
        """A chain as one nest, if its product is packed; its vectors are what serves the rest."""
        storage, product = self.storage, chain.product
        if is_turn(chain, storage):
            return None
        places = [storage]
        if chain.followers:
            axes = map(product.free.index, vectors(chain, storage))
            places = [
                replace(storage, units={**storage.units, product.name: axis}) for axis in axes
            ]
        for place in places:
            made = _Fused(chain, place)
            if made.lowering(set()).block(self.limits) is not None:
                return made
        return None

    def _lowered(self, fused: _Fused) -> Nest:
        """The nest of a chain; what is not stored is no buffer."""
        gone = fused.chain.names - {fused.chain.last.name}
        self.scratch[:] = [buffer for buffer in self.scratch if buffer.name not in gone]
        lowered = fused.lowering({buffer.name for buffer in self.scratch}).lower(self.limits)
        self.scratch.extend(lowered.scratch)
        return lowered.nest

    def stage(self, stage: Stage, around: Mapping[str, str]) -> Nest | Sweep:
        """The nest of an Einsum, or the sweep of a scan.

        `around` has the coordinates of the sweeps around it, by their variables.
        """
        if not isinstance(stage, Scan):
            return self.nest(narrowed(at(stage, around), self.windows, around))
        coordinate = stage.rank + "'"
        places = {**around, stage.variable: coordinate}
        inside = [self.stage(member, places) for member in stage.members]
        inside += [self.nest(at(shift, around)) for shift in shifts(stage, self.windows)]
        return Sweep(coordinate, RankExpr.of_size(stage.rank), tuple(inside))

    def nest(self, einsum: Einsum) -> Nest:
        """The nest of an Einsum."""
        names = {found.name for found in self.scratch}
        lowered = NestLowering(einsum, self.storage, names).lower(self.limits)
        self.scratch.extend(lowered.scratch)
        return lowered.nest


@dataclass(frozen=True, slots=True)
class _Fused:
    """A chain, and what is known of its tensors."""

    chain: Chain
    storage: Storage

    def lowering(self, names: set[str]) -> NestLowering:
        """What lowers it."""
        return NestLowering(self.chain.product, self.storage, names, self.chain)


def _symbol(name: str) -> str:
    """The name in ASCII: other letters become their numbers."""
    return re.sub(r"[^A-Za-z0-9_]", lambda found: f"u{ord(found.group()):x}", name) or "cascade"


def product(extents: Sequence[RankExpr]) -> RankExpr:
    """The product of expressions in sizes, multiplied out."""
    whole = RankExpr((), 1)
    for extent in extents:
        terms = [
            Term(a.coefficient * b.coefficient, a.sizes + b.sizes)
            for a in _terms(whole)
            for b in _terms(extent)
        ]
        whole = affine(terms, 0)
    return whole


def _terms(size: RankExpr) -> tuple[Term, ...]:
    """The terms of a size, its number as the last."""
    return (*size.terms, Term(size.offset)) if size.offset else size.terms


def _temporary(name: str, extents: tuple[RankExpr, ...], dtype: DType) -> Scratch:
    strides = tuple(product(extents[axis + 1 :]) for axis in range(len(extents)))
    return Scratch(name, dtype, strides, (product(extents),))


def _sizes(
    cascade: Cascade, inputs: tuple[Buffer, ...], outputs: tuple[Buffer, ...]
) -> tuple[Size, ...]:
    """Where each extent comes from: an input's axis, else the declaration, else an output."""
    axes: dict[str, ArrayAxis] = {}
    for buffer in (*inputs, *outputs):
        for axis, extent in enumerate(buffer.extents):
            if extent.rank is not None:
                axes.setdefault(extent.rank, ArrayAxis(buffer.name, axis))
    known: list[Size] = []
    later: list[Size] = []
    given = {buffer.name for buffer in inputs}
    for rank in cascade.ranks:
        found = axes.get(rank.name)
        if found is not None and (found.buffer in given or rank.shape is None):
            known.append(Size(rank.name, found))
        elif isinstance(rank.shape, int):
            known.append(Size(rank.name, RankExpr((), rank.shape)))
        elif rank.shape is not None:
            later.append(Size(rank.name, rank.shape))
        else:
            raise UnsupportedError(f"the extent of rank {rank.name} follows from no array")
    while later:
        ready = [s for s in later if _known(s, known)]
        if not ready:
            raise UnsupportedError(f"the extent of rank {later[0].name} follows from no array")
        known += ready
        later = [s for s in later if s not in ready]
    return tuple(known)


def _known(size: Size, known: list[Size]) -> bool:
    names = {found.name for found in known}
    return not isinstance(size.source, ArrayAxis) and names.issuperset(size.source.sizes())


def _checks(einsum: Einsum, extents: Mapping[str, tuple[RankExpr, ...]]) -> list[Check]:
    """What must hold so that no affine index without a fill leaves its tensor."""
    found: list[Check] = []
    top = einsum.expr.variables if isinstance(einsum.expr, Reduce) else ()
    roots: list[tuple[Expr, tuple[str, ...]]] = [(einsum.expr, einsum.free)]
    if einsum.where is not None:
        roots.append((einsum.where, (*einsum.free, *top)))
    while roots:
        expr, around = roots.pop()
        if isinstance(expr, Reduce):
            around = (*around, *expr.variables)
        if isinstance(expr, Access) and expr.fill is None:
            for index, extent in zip(expr.indices, extents[expr.tensor], strict=True):
                if isinstance(index, RankExpr) and not _surely_inside(index, extent):
                    ranks = tuple(variable.upper() for variable in around)
                    found.append(Check(index, extent, ranks))
        roots += [(child, around) for child in children(expr)]
    return found


def _surely_inside(index: RankExpr, extent: RankExpr) -> bool:
    if index.variable is not None:
        return extent.rank == index.variable.upper()
    return extent.constant is not None and index.constant in range(extent.constant)
