"""Cascade -> LoopProgram, all of it: what is stored, what goes block by block, what threads share.

A tensor that no cache holds is written to memory and read from there again. Where each element of
it follows from few others, and blocks do not keep it near (blockwise.py), it is computed anew in
each place that reads it:

    E[i,j] = exp(X[i,j] - G[i])
    D[i]   = E[i,j]                    ->   D[i]   = exp(X[i,j] - G[i])
    Y[i,j] = E[i,j] / D[i]                  Y[i,j] = exp(X[i,j] - G[i]) / D[i]
"""

from __future__ import annotations

from collections.abc import Mapping

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import Einsum
from ...ir.errors import PassError
from ...ir.infer import infer_dtypes
from ...ir.loops import LoopProgram
from ..rewrites.nesting import Inline
from .ahead import asked_ahead
from .blockwise import blockwise
from .lower import lower
from .parallel import parallel
from .parts import magnitudes
from .pieces import Worth
from .repair import repaired
from .schedule import Limits
from .turned import turned

#: The most Einsums in which an element is computed anew.
_READERS = 2


def planned(
    cascade: Cascade,
    dtypes: Mapping[str, DType],
    layouts: Mapping[str, int | None],
    limits: Limits,
    worth: Worth | None = None,
) -> LoopProgram:
    """The loops of a Cascade, whose sizes, where it has them, are hints.

    `dtypes` and `layouts` are as `lower` has them. `worth`: when threads share; None: never.
    """
    sizes = {r.name: r.shape for r in cascade.ranks if isinstance(r.shape, int)}
    cascade = turned(cascade, layouts, sizes)

    def loops(cascade: Cascade) -> LoopProgram:
        program = repaired(lower(cascade, dtypes, layouts, limits), cascade, sizes, limits)
        return blockwise(program, sizes, limits)

    program = loops(cascade)
    anew = _computed_anew(cascade, program, dtypes, sizes, limits)
    program = asked_ahead(program if anew is cascade else loops(anew), sizes, limits)
    return program if worth is None else parallel(program, sizes, worth)


def _computed_anew(
    cascade: Cascade,
    program: LoopProgram,
    dtypes: Mapping[str, DType],
    sizes: Mapping[str, int],
    limits: Limits,
) -> Cascade:
    """The Cascade without the tensors that had better not be stored."""
    stored = {buffer.name for buffer in program.scratch}
    if not stored:
        return cascade
    most, types = magnitudes(program, sizes), infer_dtypes(cascade, dtypes)
    extents = cascade.extents()

    def bytes_of(name: str) -> int:
        size = types[name].itemsize
        for extent in extents[name]:
            size *= extent.value(most) if most.keys() >= set(extent.sizes()) else 0
        return size

    for einsum in cascade.einsums:
        name, large = einsum.name, bytes_of(einsum.name)
        if name not in stored or large < limits.streamed:
            continue
        readers = [e for e in cascade.einsums if any(a.tensor == name for a in e.reads())]
        if not 0 < len(readers) <= _READERS or any(map(_is_contraction, readers)):
            continue
        # What is read instead, in each place, is not much more.
        if 2 * sum(map(bytes_of, {access.tensor for access in einsum.reads()})) > 3 * large:
            continue
        try:
            cascade = Inline(name)(cascade)
        except PassError:
            continue
    return cascade


def _is_contraction(einsum: Einsum) -> bool:
    """Whether it is a product whose sums are made from blocks that caches keep."""
    factors = einsum.product()
    return factors is not None and len(factors) > 1 and bool(einsum.reduced)
