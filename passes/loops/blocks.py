"""Which contractions are cut into blocks for caches, and how large: from strides and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .schedule import STEP, Block, Limits, Problem, Reading, Schedule

#: The most variables that are joined: each is a loop where the tables are written.
_MOST_JOINED = 8

#: So many tiles of columns make too little use of rows for packing these to pay.
_FEW_TILES = 8

#: Of 32 registers, 26 hold sums then; the columns of two steps and elements of rows have the rest.
_MOST_ROWS = 13

#: Multiply-adds that are over before an operand is packed; and bytes of lines of which a register
#: tile wants an element each, a part of a level-1 cache.
_LITTLE, _SCRAPS = 1 << 16, 8 << 10

#: Runs through memory that a processor follows side by side: what streams its prefetchers have.
_FORESEEN = 32


def blocked(problem: Problem, limits: Limits, schedule: Schedule) -> Schedule:
    """The schedule with blocks for caches, if it is a contraction that does not fit them."""
    vector = schedule.vector
    if vector is None or vector not in problem.free or not problem.reduced or problem.heavy:
        return schedule
    if problem.ordered or problem.filtered or len(problem.readings) != 2:
        return schedule
    columns, rows = problem.readings
    if vector in rows.variables:
        columns, rows = rows, columns
    depth = frozenset(problem.reduced)
    if not (columns.plain and rows.plain and depth <= columns.variables & rows.variables):
        return schedule
    down = [v for v in problem.free if v in rows.variables - columns.variables]
    across = [v for v in problem.free if v in columns.variables - rows.variables]
    batch = tuple(v for v in problem.free if v not in (*down, *across))
    if any(v not in columns.variables and problem.known(v) != 1 for v in batch):
        return schedule  # the same product several times
    if vector not in across or not down or max(map(len, (down, across, depth))) > _MOST_JOINED:
        return schedule
    scraps = _in_scraps(problem, schedule, down, across, rows)
    few = limits.few_rows // 3 if scraps or columns.unit != vector else limits.few_rows
    if problem.size(*down) < few:
        return schedule
    panel, most = problem.bytes(vector, *problem.reduced), min(limits.unpacked, limits.apart)
    if _few(problem, limits, across, rows):
        most = limits.shared
    elif schedule.nearby:
        most = limits.unpacked
    if panel <= most and not (scraps or _scattered(problem, limits, columns, vector)):
        return schedule
    height = _height(problem, down, rows.unit)
    tall, deep, wide = limits.tall, limits.deep, limits.wide
    order = _last(problem.reduced, (rows.unit, columns.unit))
    tiles = -(-problem.bytes(*across) // STEP)
    # Floats alone are multiplied as they lie.
    lying = problem.sums and problem.parts == 1 and order[-1] == rows.unit and tiles <= _FEW_TILES
    if lying:
        # The longer their runs, the more of them the processor fetches ahead.
        wide = _FEW_TILES
        deep = max(deep, min(limits.longest, limits.shared // (max(tiles, 1) * STEP)))
        tall = tall * limits.deep // deep
    deep = _pieces(problem.known(*problem.reduced), deep, limits.depth)
    block = Block(
        columns,
        _joined(problem, columns, across, (columns.unit, vector)),
        rows,
        _joined(problem, rows, down, (rows.unit,)),
        order,
        batch,
        height,
        2,
        max(1, tall // height) * height,
        deep,
        wide,
        lying,
    )
    return replace(schedule, moved=(), block=block)


def _height(problem: Problem, down: Sequence[str], unit: str | None) -> int:
    """How many rows a register tile has: little left over, and runs of the operand kept whole."""
    most = _MOST_ROWS if problem.parts == 1 else 6
    size = problem.known(*down)
    if size is None or size < 1:
        return most
    run = problem.size(unit) if unit in down else 0

    def cost(height: int) -> tuple[float, int]:
        broken = 1.1 if run % height else 1.0
        return -(-size // height) * (height + 2) * broken, -height

    return min(range(1, most + 1), key=cost)


def _few(problem: Problem, limits: Limits, across: Sequence[str], rows: Reading) -> bool:
    """Whether there are few columns, and steps through both operands are short.

    An element of the rows' operand is used so little then that packing it takes longer than what is
    saved by it; and the columns' operand is read from one end to the other, which is quick from a
    level-2 cache as well.
    """
    near = rows.unit in problem.reduced or problem.bytes(*rows.variables) <= limits.shared
    return near and problem.bytes(*across) <= limits.few


def _scattered(problem: Problem, limits: Limits, columns: Reading, vector: str) -> bool:
    """Whether an operand that no cache keeps had better be packed, however small its panels.

    If its vectors are not consecutive, all of it would be copied beforehand. If each step of its
    depth lies far from the next, as many runs are read side by side as it is deep, and processors
    fetch ahead of few at a time; packed, they are longer.
    """
    if problem.bytes(*columns.variables) < limits.streamed:
        return False
    if columns.unit != vector:
        return True
    order = columns.order()
    inner = order[min(map(order.index, problem.reduced)) :]
    apart = any(v in problem.free and v != vector for v in inner)
    return apart and problem.size(*problem.reduced) > _FORESEEN


def _in_scraps(
    problem: Problem, schedule: Schedule, down: Sequence[str], across: Sequence[str], rows: Reading
) -> bool:
    """Whether the register tile alone would make little use of vectors, or of lines of the caches.

    It goes along one variable of the columns, however short, where packed ones are joined. And if
    an operand's rows are not consecutive along the depth, nor along the variable of the tile, each
    element comes from a line of its own. Packing is the quicker then, unless there is little to do,
    or sums are short (found by 218 contractions that caches hold, of 0.2 to 80 million
    multiply-adds).
    """
    depth, columns = problem.size(*problem.reduced), problem.size(*across)
    if depth < 8 or columns < 16 or problem.size(*down) * columns * depth < _LITTLE:
        return False
    apart = rows.unit not in (*problem.reduced, schedule.rows)
    lines = schedule.row_count * depth * STEP
    short = len(across) > 1 and problem.bytes(schedule.vector) < 3 * STEP and depth >= 32
    return short or (apart and lines >= _SCRAPS)


def _joined(
    problem: Problem, reading: Reading, variables: Sequence[str], last: Sequence[str | None]
) -> tuple[str, ...]:
    """An operand's own variables, with these at the end, as the larger has the others in memory.

    That is the output, or the operand, if it is read in runs that may be long.
    """
    found = _last(variables, last)
    large = problem.size(*reading.variables) > problem.size(*problem.free)
    if not large or found[-1] != reading.unit:
        return found
    return _last(sorted(variables, key=reading.order().index), last)


def _last(variables: Sequence[str], last: Sequence[str | None]) -> tuple[str, ...]:
    """The variables with these, if they are among them, at the end."""
    found = list(variables)
    for variable in last:
        if variable in found:
            found.remove(variable)
            found.append(variable)
    return tuple(found)


def _pieces(size: int | None, most: int, unit: int) -> int:
    """The length, a multiple of `unit`, that cuts `size` into the fewest pieces up to `most`."""
    most = max(most, unit)
    if size is None or size < 1:
        return most // unit * unit
    pieces = -(-size // most)
    return min(most // unit * unit, -(-size // pieces // unit) * unit)
