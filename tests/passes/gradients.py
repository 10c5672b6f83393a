"""Adjoint cascades held to finite differences, by the interpreter and on both backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import einloom as el
from einloom.ir.cascade import Cascade

STEP = 1e-6


def outputs_of(cascade: Cascade, arrays: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = el.evaluate(cascade, [], **arrays)
    return dict(found) if isinstance(found, dict) else {cascade.outputs[0]: found}  # pyright: ignore[reportUnknownArgumentType]


def inputs_of(cascade: Cascade, sizes: Mapping[str, int], given: Mapping[str, Any]) -> Any:
    """Random values for what is not given."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for decl in cascade.inputs:
        assert decl.dtype is not None
        shape = tuple(extent.value(sizes) for extent in decl.extents)
        values: Any = rng.standard_normal(shape)
        if decl.dtype.kind == "complex":
            values = values + 1j * rng.standard_normal(shape)
        arrays[decl.name] = np.asarray(given.get(decl.name, values), decl.dtype.numpy)
    return arrays


def differences(
    cascade: Cascade, name: str, arrays: Mapping[str, Any], seeds: Mapping[str, Any]
) -> Any:
    """dL/dx, or of a complex x dL/d(re) - i dL/d(im), by central differences."""

    def loss(changed: Any) -> Any:
        found = outputs_of(cascade, {**arrays, name: changed})
        return sum(np.sum(found[out] * seed) for out, seed in seeds.items()).real

    def slope(place: tuple[int, ...], step: complex) -> Any:
        up, down = arrays[name].copy(), arrays[name].copy()
        up[place] += step
        down[place] -= step
        return (loss(up) - loss(down)) / (2 * STEP)

    found = np.zeros_like(arrays[name])
    for place in np.ndindex(*found.shape):
        found[place] = slope(place, STEP)
        if np.iscomplexobj(found):
            found[place] -= 1j * slope(place, STEP * 1j)
    return found


def check(
    text: str | Cascade,
    wrt: Sequence[str],
    sizes: Mapping[str, int],
    *,
    backends: Sequence[str] = ("numpy", "llvm"),
    rtol: float = 1e-5,
    **given: Any,
) -> Cascade:
    """Holds the adjoint of a cascade in f64 to finite differences; gives it back."""
    cascade = el.parse(text) if isinstance(text, str) else text
    adjoint = el.grad(cascade, wrt=tuple(wrt))
    assert el.parse(str(adjoint)) == adjoint
    arrays = inputs_of(cascade, sizes, given)
    found = outputs_of(cascade, arrays)
    seeds: dict[str, Any] = {}
    rng = np.random.default_rng(1)
    for decl in adjoint.inputs[len(cascade.inputs) :]:
        out = decl.name.removesuffix("_bar")
        seeds[out] = rng.standard_normal(np.shape(found[out]))
        if np.iscomplexobj(found[out]):
            seeds[out] = seeds[out] + 1j * rng.standard_normal(np.shape(found[out]))
    passed = {**arrays, **{f"{out}_bar": seed for out, seed in seeds.items()}}
    got = outputs_of(adjoint, passed)
    for name, out in zip(wrt, adjoint.outputs, strict=True):
        want = differences(cascade, name, arrays, seeds or {cascade.outputs[0]: 1})
        np.testing.assert_allclose(got[out], want, rtol=rtol, atol=1e-6, err_msg=name)
        assert got[out].dtype == arrays[name].dtype
    for backend in backends:
        results: Any = el.compile(adjoint, backend=backend)(**passed)
        for number, out in enumerate(adjoint.outputs):
            result = results[number] if len(adjoint.outputs) > 1 else results
            np.testing.assert_allclose(result, got[out], rtol=1e-9, atol=1e-10)
    return adjoint
