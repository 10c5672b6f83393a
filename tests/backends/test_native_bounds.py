"""No kernel reads or writes outside its operands: they lie flush against forbidden memory."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

import einloom as el

from .fences import fences

ORDERS: tuple[Literal["C", "F"], ...] = ("C", "F")
EXTENTS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 67)
EXPRESSIONS = {
    "i": [
        "exp(B[i,0])",
        "exp(B[i,i])",
        "log(B[i,i]) + B[0,i]",
        "sum[j] exp(B[j,i])",
        "max[j] (B[i,j] * B[j,i])",
        "tanh(B[I-1-i,i])",
        "sum[j] B[i,j] where j <= i",
        "exp(B[i,0]) where i % 2 == 0 else 1",
    ],
    "i,j": ["exp(B[j,i])", "sin(B[j,j]) * B[i,0]", "B[j,i] + B[i,j]", "B[i+1,j else 0]"],
}
CASES = [
    (left, expr, dtype)
    for left, exprs in EXPRESSIONS.items()
    for expr in exprs
    for dtype in ("f2", "f4", "f8", "c8")
    # Functions of complex numbers differ from those of real ones in nothing but their loads.
    if dtype != "c8" or not any(word in expr for word in ("max", "exp", "log", "tanh", "sin"))
]


@pytest.mark.parametrize(("left", "expr", "dtype"), CASES)
def test_reads_stay_inside(
    left: str,
    expr: str,
    dtype: str,
) -> None:
    name = {"f2": "f16", "f4": "f32", "f8": "f64", "c8": "c64"}[dtype]
    text = f"cascade c(B[I,J]: {name}) -> Y {{\n  ranks I, J = I\n  Y[{left}] = {expr}\n}}"
    f = el.compile(text)
    reference = el.parse(text)
    rng = np.random.default_rng(3)
    for extent in EXTENTS:
        values = (rng.random((extent, extent)) + 0.5).astype(dtype)
        wanted = el.evaluate(reference, B=values)
        for at_end in (True, False):
            for order in ORDERS:
                given = fences()[0].array(values.shape, dtype, at_end, order)
                out = fences()[1].array(wanted.shape, wanted.dtype, at_end, "C")
                given[...] = values
                f(given, out=out)
                np.testing.assert_allclose(out, wanted, rtol=5e-3 if dtype == "f2" else 1e-5)


PRODUCTS = ["ij,jk->ik", "ij,kj->ki", "ij,j->i", "ij,ij->", "ji,jk->k", "i,j->ij", "iji->j"]


@pytest.mark.parametrize("dtype", ["i1", "?", "f2", "f4", "f8", "c8", "c16", "i8"])
@pytest.mark.parametrize("subscripts", PRODUCTS)
def test_products_stay_inside(
    subscripts: str,
    dtype: str,
) -> None:
    rng = np.random.default_rng(4)
    inputs, output = subscripts.split("->")
    for number, extent in enumerate(EXTENTS):
        sizes = {"i": extent, "j": EXTENTS[-1 - number], "k": EXTENTS[(5 * number) % 12]}
        at_end, order = number % 2 == 0, ORDERS[number // 2 % 2]
        operands: list[Any] = []
        for fence, term in zip(fences(), inputs.split(","), strict=False):
            shape = tuple(sizes[symbol] for symbol in term)
            operand = fence.array(shape, dtype, at_end, order)
            operand[...] = rng.integers(0, 3, shape)
            operands.append(operand)
        shape = tuple(sizes[symbol] for symbol in output)
        out = fences()[2].array(shape, dtype, at_end, order)
        el.einsum(subscripts, *operands, out=out)
        np.testing.assert_array_equal(out, np.einsum(subscripts, *operands))
