"""The register tile of a product of rows by columns: how many rows, how many vectors of columns."""

from __future__ import annotations

#: Vector registers, as AVX-512 and AArch64 have them; with fewer a tile is cut into strips of rows.
_REGISTERS = 32

#: Of more rows and vectors no tile that registers hold takes less.
_MOST_ROWS, _MOST_VECTORS = 16, 6

#: A tile of at most so many vectors that is not full is computed one vector at a time.
_NARROW = 3

#: Multiply-adds that must be under way to keep two units busy, each with a latency of 4 cycles.
_IN_FLIGHT = 8

#: Bytes of a vector.
_VECTOR = 64

#: Cycles beside multiply-adds: of a row, of a vector of columns, and more from the level-2 cache;
#: once for a tile and for each of its accumulators. Fitted to the tiles of 27 products of 17 to 200
#: rows, on an Intel Xeon (Emerald Rapids): those that are chosen take 0.9 % longer than the best.
_ROW, _COLUMN, _FAR, _BEGIN, _STORE = 0.2, 0.6, 0.5, 20, 1.5

#: Rows whose pointers stay in registers; cycles of each other one.
_POINTERS, _SPILLED = 9, 0.3

#: Vectors that code keeps under way, with rows read ahead; each beyond these is a cycle.
_UNDER_WAY = 38


def product_tile(rows: int, vectors: int, depth: int, near: int) -> tuple[int, int]:
    """The tile of the least cycles for so many rows and vectors of columns, so deep a sum.

    `near`: bytes of columns that a level-1 cache holds.
    """

    def tile(height: int, width: int) -> float:
        far = _FAR if width * depth * _VECTOR > near else 0.0
        step = max(height * width, _IN_FLIGHT, height + 2 * width) / 2
        step += _ROW * height + (_COLUMN + far) * width
        step += _SPILLED * max(0, height - _POINTERS)
        step += max(0, height * width + height + width - _UNDER_WAY)
        return depth * step + _BEGIN + _STORE * height * width

    def cost(shape: tuple[int, int]) -> float:
        height, width = shape
        full, left = divmod(vectors, width)
        tall, low = divmod(rows, height)
        whole, single = tile(height, width), tile(height, 1)
        if width > _NARROW:
            return (tall + bool(low)) * (full + bool(left)) * whole
        return tall * (full * whole + left * single) + bool(low) * vectors * single

    shapes = (
        (height, width)
        for height in range(1, min(_MOST_ROWS, max(rows, 1)) + 1)
        for width in range(1, min(_MOST_VECTORS, max(vectors, 1)) + 1)
        if height * width + width + 1 <= _REGISTERS
    )
    return min(shapes, key=cost)
