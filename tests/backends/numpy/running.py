"""Runs a Cascade on the NumPy backend, through its Kernel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from einloom.backends.numpy.kernel import NumpyKernel
from einloom.ir.cascade import Cascade
from einloom.ir.infer import infer_dtypes
from einloom.ir.sizes import infer_sizes

from ...cascades import Array


def new_outputs(cascade: Cascade, arrays: Mapping[str, Array]) -> list[Array]:
    """Arrays for the outputs, filled with what must not be left there."""
    sizes = infer_sizes(cascade, {name: a.shape for name, a in arrays.items()})
    dtypes = infer_dtypes(cascade, {})
    made: list[Array] = []
    extents = cascade.extents()
    for output in cascade.outputs:
        shape = [extent.value(sizes) for extent in extents[output]]
        made.append(np.ones(shape, np.int8).astype(dtypes[output].numpy) * 77)
    return [np.asarray(a, dtypes[n].numpy) for n, a in zip(cascade.outputs, made, strict=True)]


def run(cascade: Cascade, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name."""
    inputs = [arrays[decl.name] for decl in cascade.inputs]
    outputs = new_outputs(cascade, arrays)
    NumpyKernel(cascade).bind(inputs, outputs)(*inputs, *outputs)
    return dict(zip(cascade.outputs, outputs, strict=True))
