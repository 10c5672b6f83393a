"""Maxima and minima of sums and products, quick where no NaN can turn up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from einloom.ir.interpreter import evaluate

from .native import TINY, WIDTHS, run, sized
from .test_contractions import SMALL
from .test_products import ORDERS, product

INF = float("inf")

#: What stands in a few places of the two operands.
RARE = [
    ((), ()),
    ((-INF,), (-INF,)),
    ((INF,), ()),
    ((INF,), (-INF,)),
    ((-INF,), (INF, 0.0)),
    ((INF, -INF), (0.0,)),
    ((float("nan"),), ()),
    ((), (float("nan"),)),
    ((1e300,), (-1e300, -0.0)),
]


def operand(rng: np.random.Generator, dtype: str, shape: tuple[int, ...], rare: Any) -> Any:
    """Numbers of either sign, the rare ones in one place each."""
    found = rng.integers(-9, 9, shape).astype(dtype)
    for value in rare if found.size else ():
        with np.errstate(over="ignore"):
            found[tuple(rng.integers(0, extent) for extent in shape)] = np.array(value).astype(
                dtype
            )
    return found


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("ring", ["max_plus", "min_plus", "max_times"])
def test_what_follows_from_nan_and_infinities(ring: str, dtype: str, bits: int) -> None:
    number = WIDTHS.index(bits) + ("f32", "f64").index(dtype)
    order = ORDERS[number % 4]
    cascade = product((dtype, dtype, dtype, ring), order)
    rng = np.random.default_rng(number)
    name = {"f32": "f4", "f64": "f8"}[dtype]
    for limits in (TINY, SMALL)[number % 2 :][:1]:
        for size in ((37, 20, 70), (9, 1, 33)):
            extents = dict(zip("ijk", size, strict=True))
            a, b = (tuple(extents[v] for v in names) for names in order)
            for left, right in RARE:
                arrays = {"A": operand(rng, name, a, left), "B": operand(rng, name, b, right)}
                status, found = run(cascade, arrays, bits, limits)
                assert status == 0
                with np.errstate(all="ignore"):
                    want = evaluate(sized(cascade, arrays), arrays)["Y"]
                np.testing.assert_array_equal(found["Y"], want)
