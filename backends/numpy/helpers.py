"""The text of the functions that emitted source defines where it needs them."""

from __future__ import annotations

_AFFINE = '''
def affine(array, start, steps, shape, scope=(), fill=None):
    """The view of `array` at start + steps @ coordinates, for the coordinates of `shape`.

    Outside of the array stands `fill`; without one, to reach there is an IndexError. `scope` has
    the extents of the loops around: if one is 0, nothing is read.
    """
    if 0 in shape or 0 in scope:
        return np.zeros(shape, array.dtype)
    reach = [[step * (extent - 1) for step, extent in zip(row, shape)] for row in steps]
    low = [first + sum(min(r, 0) for r in row) for first, row in zip(start, reach)]
    high = [first + sum(max(r, 0) for r in row) for first, row in zip(start, reach)]
    if any(a < 0 or b >= extent for a, b, extent in zip(low, high, array.shape)):
        if fill is None:
            raise IndexError(f"extents {array.shape} are read at {low} to {high}")
        box = [b - a + 1 for a, b in zip(low, high)]
        if math.prod(box) > 8 * (array.size + math.prod(shape)):
            mesh = np.indices(shape, sparse=True)
            points = [
                first + sum(step * axis for step, axis in zip(row, mesh) if step)
                for first, row in zip(start, steps)
            ]
            return np.broadcast_to(gather(array, points, fill), shape)
        padded = np.full(box, np.asarray(fill).astype(array.dtype))
        inside = [(max(a, 0), min(b + 1, n)) for a, b, n in zip(low, high, array.shape)]
        if all(a < b for a, b in inside):
            to = tuple(slice(a - first, b - first) for (a, b), first in zip(inside, low))
            padded[to] = array[tuple(slice(a, b) for a, b in inside)]
        array, start = padded, [first - a for first, a in zip(start, low)]
    corner = array[tuple(slice(first, first + 1) for first in start)]
    strides = [sum(k * s for k, s in zip(column, array.strides)) for column in zip(*steps)]
    return np.lib.stride_tricks.as_strided(corner, shape, strides, writeable=False)
'''

_GATHER = '''
def gather(array, indices, fill=None, scope=()):
    """array[indices], for integer arrays that broadcast together.

    Outside of the array stands `fill`; without one, to reach there is an IndexError. `scope` has
    the extents of the loops around: if one is 0, or one of the result, nothing is read.
    """
    indices = [np.asarray(index) for index in indices]
    shape = np.broadcast_shapes(*(index.shape for index in indices))
    shape += array.shape[len(indices) :]
    nothing = 0 in scope or 0 in shape
    inside, places = np.True_, []
    for index, extent in zip(indices, array.shape):
        valid = (index >= 0) & (index < extent)
        if fill is None and not nothing and not valid.all():
            reach = f"{index.min()}..{index.max()}"
            raise IndexError(f"an axis of extent {extent} is read at {reach}")
        inside = inside & valid
        places.append(np.where(valid, index, 0))
    if array.size == 0:
        return np.full(shape, np.asarray(0 if fill is None else fill).astype(array.dtype))
    found = array[tuple(places)]
    if fill is None:
        return found
    inside = inside.reshape(inside.shape + (1,) * (array.ndim - len(indices)))
    return np.where(inside, found, np.asarray(fill).astype(array.dtype))
'''

_BLOCKS = '''
def blocks(inner, *extents, points=2**20):
    """Slices that cut axes into blocks, so that at most `points` points are held at a time.

    `inner` points are held for each point of these axes.
    """
    room, steps = max(points // max(inner, 1), 1), []
    for extent in reversed(extents):
        steps.insert(0, max(min(extent, room), 1))
        room = max(room // steps[0], 1)
    for block in np.ndindex(*(-(-extent // step) for extent, step in zip(extents, steps))):
        yield tuple(
            slice(k * step, min(k * step + step, extent))
            for k, step, extent in zip(block, steps, extents)
        )
'''

#: The text of each function by name, those first that others call.
HELPERS = {"gather": _GATHER, "affine": _AFFINE, "blocks": _BLOCKS}
#: What a function needs besides itself.
NEEDS = {"affine": ("gather", "math"), "gather": (), "blocks": ()}
