"""The register tile of a product: within the registers, and little of it computed for nothing."""

from __future__ import annotations

import pytest

from einloom.passes.loops.registers import product_tile


@pytest.mark.parametrize("depth", [1, 16, 300])
@pytest.mark.parametrize("vectors", [1, 2, 5, 7, 64])
@pytest.mark.parametrize("rows", [1, 3, 8, 67, 1000])
def test_tiles_fit_registers_and_the_problem(rows: int, vectors: int, depth: int) -> None:
    height, width = product_tile(rows, vectors, depth, 32 << 10)
    assert 1 <= height <= rows
    assert 1 <= width <= vectors
    assert height * width + width + 1 <= 32


@pytest.mark.parametrize(("rows", "vectors"), [(64, 4), (96, 6), (80, 5), (16, 1)])
def test_tiles_keep_both_units_busy_and_divide_what_can_be_divided(rows: int, vectors: int) -> None:
    height, width = product_tile(rows, vectors, rows, 32 << 10)
    assert height * width >= 8
    tiles = -(-rows // height) * -(-vectors // width)
    assert tiles * height * width <= 1.07 * rows * vectors
