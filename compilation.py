"""A Cascade compiled on demand, for the dtypes and shapes that it is called with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np

from einloom.backends.base import Array, Kernel
from einloom.backends.registry import backend_form
from einloom.calls import allocating, writing
from einloom.dispatch import Bound, keep, signature
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import F32, DType, of_numpy
from einloom.ir.infer import infer_dtypes
from einloom.ir.sizes import infer_sizes
from einloom.passes.base import Pipeline, Step
from einloom.specialisation import Kernels, Shape, Specialisation, shallow
from einloom.tiers import at_once, like

#: From shapes and dtypes of the operands (None: symbolic) to the Cascade that computes them.
Template: TypeAlias = "Callable[[Sequence[Shape] | None, Sequence[DType] | None], Cascade]"


#: Extents of which register tiles are not full, or hold all: in steps of so many, up to so many.
_STEP, _TILED = 8, 128


def _magnitude(extent: int) -> int:
    """What extents have in common for which the same code is good."""
    if _STEP < extent <= _TILED:
        return -(-extent // _STEP) - _TILED  # negative: no number of bits
    return extent.bit_length()


def _unsaid(cascade: Cascade) -> list[DType]:
    """The inputs' dtypes where a caller says none: those that are declared, else f32."""
    return [decl.dtype or F32 for decl in cascade.inputs]


class Compilation:
    """What is compiled of one einsum or cascade, for each set of shapes and dtypes.

    Args:
        template: makes the Cascade.
        pipeline: what is done to it.
        backend: what runs it.
        threads: how many share the work of a call at most; None: as the setting is.
        wait: whether calls wait until it is compiled; if not, NumPy answers meanwhile.
        shapes, dtypes: compiled now, if they are given.
    """

    def __init__(
        self,
        template: Template,
        pipeline: Pipeline,
        backend: str,
        shapes: Sequence[Shape] | None = None,
        dtypes: Sequence[DType] | None = None,
        *,
        threads: int | None = None,
        wait: bool = True,
    ) -> None:
        backend_form(backend)  # a wrong name is an error now, not at the first call
        self.template = template
        self.pipeline = pipeline
        self.backend = backend
        self.threads = threads
        self.wait = wait
        self.dtypes = dtypes
        self._specialised: dict[Any, Specialisation] = {}
        self._kernels: dict[Cascade, Kernels] = {}
        self._tiers: dict[Any, Bound] = {}
        self._shown: Specialisation | None = None
        if shapes is not None:
            self.specialise(shapes, dtypes or _unsaid(template(shapes, None)))

    def __reduce__(self) -> tuple[Any, ...]:
        """As a value: what it was made from; code is compiled again where it is needed."""
        made = (self.template, self.pipeline, self.backend, None, self.dtypes)
        return partial(Compilation, threads=self.threads, wait=self.wait), made

    def specialise(self, shapes: Sequence[Shape], dtypes: Sequence[DType]) -> Specialisation:
        """The specialisation for operands of these shapes and dtypes."""
        key = (tuple(shapes), tuple(dtypes))
        found = self._specialised.get(key)
        if found is None:
            cascade = self.template(shapes, dtypes)
            inputs = dict(zip((d.name for d in cascade.inputs), shapes, strict=True))
            sizes = infer_sizes(cascade, inputs)
            found = self._specialise(cascade, sizes, dtypes)
            keep(self._specialised, key, found)
        self._shown = found
        return found

    def shown(self) -> Specialisation:
        """What was called last; before that, the form for the shapes and dtypes given, or any."""
        if self._shown is None:
            cascade = self.template(None, self.dtypes)
            self._shown = self._specialise(cascade, {}, self.dtypes or _unsaid(cascade))
        return self._shown

    def _specialise(
        self, cascade: Cascade, sizes: Mapping[str, int], dtypes: Sequence[DType]
    ) -> Specialisation:
        """Writes sizes and dtypes into the Cascade's declarations, then runs the passes on it."""
        declared = infer_dtypes(
            cascade, dict(zip((d.name for d in cascade.inputs), dtypes, strict=True))
        )
        open_ranks = {rank.name for rank in cascade.ranks if rank.shape is None}
        written = replace(
            cascade,
            inputs=tuple(replace(decl, dtype=declared[decl.name]) for decl in cascade.inputs),
            ranks=tuple(
                replace(rank, shape=sizes.get(rank.name, rank.shape)) for rank in cascade.ranks
            ),
        )
        pipeline, rewritten = self._rewritten(written)
        # Code knows no sizes; what they serve for, hints, is the same for all of one magnitude.
        magnitudes = replace(
            rewritten,
            ranks=tuple(
                replace(rank, shape=_magnitude(rank.shape))
                if rank.name in open_ranks and isinstance(rank.shape, int)
                else rank
                for rank in rewritten.ranks
            ),
        )
        kernels = self._kernels.get(magnitudes)
        if kernels is None:
            kernels = {}
            keep(self._kernels, magnitudes, kernels)
        dtypes_now = infer_dtypes(rewritten, {})
        made = (written, pipeline, rewritten, dtypes_now, sizes, kernels)
        return Specialisation(*made, self.threads)

    def _rewritten(self, cascade: Cascade) -> tuple[Pipeline, Cascade]:
        """The passes that were run, and what they made of a Cascade.

        Before them, and after them where they make such, what no backend has a form for is written
        out.
        """
        from einloom.passes.rewrites.plain import Plain, needs_plain

        passes = self.pipeline.passes
        if needs_plain(cascade):
            passes = (Plain(), *passes)
        found = Pipeline(passes).apply(cascade)
        if needs_plain(found):
            passes = (*passes, Plain())
            found = Plain()(found)
        return Pipeline(passes), found

    def bind(
        self,
        operands: Sequence[Array],
        out: Any = None,
        axes: Sequence[int] | None = None,
        casting: Any = "safe",
        constants: Collection[int] = (),
    ) -> Bound:
        """The calls of operands of exactly these shapes, strides and dtypes.

        They take the operands but those whose positions are `constants`, and return a new result,
        a scalar if it has no axes; if `out` is given they take an array like `out` (or a tuple of
        them) last, and return that. `axes` are the axes of a new result from the outermost in
        memory to the innermost (None: C order). Operands that are not of the declared dtype or
        byte order are converted at each call; what constants alone decide is worked out now.

        Raises:
            EinloomError: the operands do not fit the Cascade; the message says how.
        """
        given = (axes, casting, constants)
        if self.wait or constants or self.backend == "numpy":
            return self._bind(self.backend, operands, out, *given)
        several = isinstance(out, tuple | list)
        outs = cast("Sequence[Array]", out) if several else [] if out is None else [out]
        if not all(isinstance(each, np.ndarray) for each in outs):
            return self._bind("numpy", operands, out, *given)  # which says what is wrong
        key = (len(outs), axes and tuple(axes), casting, *signature([*operands, *outs]))
        found = self._tiers.get(key)
        if found is None:
            plain = self._bind("numpy", operands, out, *given)
            target = [like(each) for each in outs] if several else out if out is None else like(out)
            examples = [like(operand) for operand in operands]
            compiled = partial(self._bind, self.backend, examples, target, *given)
            found = at_once(plain, compiled, self.backend)
            keep(self._tiers, key, found)
        return found.later or found

    def _bind(
        self,
        backend: str,
        operands: Sequence[Array],
        out: Any,
        axes: Sequence[int] | None,
        casting: Any,
        constants: Collection[int],
    ) -> Bound:
        dtypes = [of_numpy(operand.dtype) for operand in operands]
        found = self.specialise([operand.shape for operand in operands], dtypes)
        declared = [found.dtypes[name].numpy for name in found.names()[: len(operands)]]
        converted = [
            operand.astype(d, copy=False) for operand, d in zip(operands, declared, strict=True)
        ]
        moving = [number for number in range(len(operands)) if number not in constants]
        same = all(converted[number] is operands[number] for number in moving)
        fixed: list[Array] = []
        if constants:
            names = found.names()
            held = {names[number]: converted[number] for number in constants}
            found, stays = found.given(backend, held)
            fixed = [stays[name] for name in found.names() if name in stays]
            converted = [*(converted[number] for number in moving), *fixed]
        if out is None:
            bound = allocating(found, backend, converted, axes)
        else:
            bound = writing(found, backend, converted, out, casting)
        if same and not fixed:
            return bound
        call = bound.call
        count = len(moving)
        natives = [declared[number] for number in moving]

        def prepare_first(*arrays: Any) -> Any:
            given = [a.astype(d, copy=False) for a, d in zip(arrays, natives, strict=False)]
            return call(*given, *fixed, *arrays[count:])

        return Bound(prepare_first)

    def names(self) -> list[str]:
        """The inputs' names."""
        return [decl.name for decl in self.template(None, self.dtypes).inputs]

    def steps(self) -> tuple[Step, ...]:
        """Every step of the compilation: its pass, its dump and a comment on what it changed."""
        found = self.shown()
        if backend_form(self.backend) == "Cascade":
            last = Step("emit", self.kernel().source, "Python source")
        else:
            from einloom.passes.loops.cost import cost_of

            said = "loop nests, for C-ordered arrays"
            with shallow(found.cascade.name):
                nests = found.form(self.backend, found.row_major())
                if all(rank.name in found.sizes for rank in found.cascade.ranks):
                    said += f": {cost_of(nests, found.sizes).summary}"
                last = Step("lower", str(nests), said)
        return (*found.steps(), last)

    def kernel(self) -> Kernel:
        """The kernel for C-ordered arrays, with its source."""
        found = self.shown()
        kernel = found.kernel(self.backend, found.row_major())
        with shallow(found.cascade.name):
            _ = kernel.source
        return kernel
