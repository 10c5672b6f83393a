"""Which loops, in which order, and what the register tile is: decided from strides and sizes.

Nothing here changes what is computed. Sizes serve as hints alone: a program is right for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

from ...ir.einsum import Access
from ...ir.ranks import RankExpr
from .registers import product_tile

#: A size that is not known counts as this.
UNKNOWN = 1024

#: Accumulators of a tile without rows: these keep memory busy, and AVX-512's registers hold them.
_STREAMED = (12, 25)

#: Of so many vectors of exponentials, one may be computed for nothing.
_SPARE = 16

#: Multiply-adds of a product for whose sizes code is written apart: of any; of one of whole tiles.
_SMALL, _WHOLE = 16**3, 32**3

#: Bytes of a line of the caches; how far apart lines lie that a level-1 cache keeps in one place.
_LINE, _PAGE = 64, 4096

#: So many elements of a diagonal that no cache keeps are summed side by side: those of a page.
_BESIDE = 4

#: The level-1 data cache and the level-2 cache that `Limits` fits as it is.
_CACHES = (48 << 10, 2 << 20)

#: Bytes of the columns that a register tile reads at each step: two vectors of AVX-512.
STEP = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """What decides how large blocks are; sizes of memory in bytes.

    The rounding error of a sum grows with `longest`, how many numbers are added to an accumulator
    before it is added to another and begun again.
    """

    longest: int = 1024
    near: int = 48 << 10  # a level-1 cache
    shared: int = 1 << 20  # what every block of rows may read all of: half of a level-2 cache
    unpacked: int = 256 << 10  # the largest columns' operand that is read as it lies
    few: int = 512  # bytes of columns so few that it may be as large as what is shared
    apart: int = 96 << 10  # it is smaller if the level-1 cache holds no tile's columns of it,
    followed: int = 8 << 10  # if what follows from the sums would be a pass of its own,
    whole: int = 12 << 10  # of integers, which several at a time are multiplied once packed,
    narrow: int = 2 << 10  # and of what has 16 bits and less: floats are converted as they are
    few_rows: int = 24  # below this many rows packing the columns' operand does not pay
    tall: int = 126  # rows of a block,
    deep: int = 384  # steps of its depth,
    wide: int = 24  # and tiles of columns: together most of a level-2 cache
    depth: int = 32  # what the depth of a block is a multiple of
    staged: int = 256  # rows of a block that is transposed by way of a buffer,
    spread: int = 2048  # and bytes of each of its columns: together part of a level-2 cache
    streamed: int = 4 << 20  # bytes of an output that is not kept in caches
    row: int = 256  # elements of a row that is finished before the next,
    near_row: int = 1024  # and where half of a level-2 cache holds all

    @classmethod
    def of(cls, first: int, second: int, bits: int = 512) -> Limits:
        """What fits caches of these sizes in bytes, of level 1 (for data) and of level 2.

        `bits` are those of a vector: tiles of shorter or fewer ones are so low that columns which
        are read as they lie come from the level-2 cache too often.

        Each limit keeps its share: the columns of a tile, `deep` steps of them, fill the level-1
        cache, as in Low et al., "Analytical modeling is enough for high-performance BLIS" (ACM
        TOMS 2016); a block of columns takes 9/16 of the level-2 cache and a block of rows, of four
        bytes an element, 3/32. No more is taken of larger caches than was found to pay.
        """
        like = cls()
        nearer, farther = (
            min(given, known) for given, known in zip((first, second), _CACHES, strict=True)
        )
        deep = max(like.depth, nearer // STEP // like.depth * like.depth)
        share = farther / _CACHES[1]
        return cls(
            shared=int(like.shared * share),
            near=nearer,
            unpacked=int(like.unpacked * share),
            apart=like.apart * nearer // _CACHES[0],
            few=like.few if bits == 512 else 0,
            tall=max(1, int(like.tall * share * like.deep / deep)),
            deep=deep,
            wide=max(1, int(like.wide * share * like.deep / deep)),
            staged=max(1, int(like.staged * share)),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """An Access as schedules see it."""

    access: Access
    variables: frozenset[str]
    unit: str | None  # the variable along which consecutive elements are read
    plain: bool  # every index is a number or one variable, each variable once

    @property
    def diagonal(self) -> bool:
        """Whether a variable is there twice, and no two elements in order lie together.

        Those of one that no cache holds are not summed as vectors along what is reduced. Several
        at a time would make the caches fetch what lies between them.
        """
        names = [v for i in self.access.indices if isinstance(i, RankExpr) for v in i.variables()]
        affine = all(isinstance(index, RankExpr) for index in self.access.indices)
        return self.unit is None and affine and len(set(names)) < len(names)

    def order(self) -> tuple[str, ...]:
        """The variables, if it is plain, the farthest apart in memory first."""
        names = tuple(self.access.variables())
        return names[::-1] if names[0] == self.unit else names

    def nearest(self, variables: Sequence[str]) -> str | None:
        """Which of these variables the elements lie nearest to each other along, in C order."""
        plain = [i.variable for i in self.access.indices if isinstance(i, RankExpr)]
        return next((v for v in reversed(plain) if v in variables), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """An Einsum as schedules see it."""

    free: tuple[str, ...]
    reduced: tuple[str, ...]
    output_unit: str | None  # the free variable along which the output is consecutive
    column_major: bool
    readings: tuple[Reading, ...]
    sizes: dict[str, int]  # of variables, where known
    width: int  # bits of (a part of) the elements computed with
    parts: int  # registers a value takes: 2 if complex
    heavy: bool  # functions that are calls, or many instructions
    chain: bool  # one alone, of few, each of which waits for the one before
    sums: bool  # the reduction is a sum that rounds
    ordered: bool  # the reduction must be folded one by one
    filtered: bool

    def size(self, *variables: str | None) -> int:
        """The product of the extents."""
        return prod(self.sizes.get(v, UNKNOWN) for v in variables if v is not None)

    def known(self, *variables: str) -> int | None:
        """The product of the extents, if all are known."""
        return self.size(*variables) if all(v in self.sizes for v in variables) else None

    def bytes(self, *variables: str | None) -> int:
        """How much memory a tensor of these variables takes."""
        return self.size(*variables) * self.width * self.parts // 8


@dataclass(frozen=True, slots=True)
class Block:
    """A contraction cut into blocks that caches hold, its operands packed (Contract).

    Variables are joined in this order: of the columns the one that the output is consecutive along
    comes last, of the others the one that an operand is.
    """

    columns: Reading
    across: tuple[str, ...]  # the variables of the columns
    rows: Reading
    down: tuple[str, ...]
    depth: tuple[str, ...]
    batch: tuple[str, ...]
    height: int  # the register tile, in rows
    vectors: int  # and in vectors of columns
    tall: int  # a block: rows,
    deep: int  # steps of the depth,
    wide: int  # tiles of columns
    lying: bool  # rows are read where they are, if the depth is consecutive there


@dataclass(frozen=True, slots=True)
class Schedule:
    """Loops from the outside in: outer, vector blocks, row blocks, the tile, reduced."""

    vector: str | None
    vectors: int
    rows: str | None
    row_count: int
    transposes: bool  # the rows are what an operand is consecutive along: square blocks
    outer: tuple[str, ...]
    reduced: tuple[str, ...]
    folded: frozenset[str]  # all reduced variables, the vector one too
    rows_inside: bool  # of the tile's blocks; else in the order of memory, vectors inside
    chunk: tuple[str, int] | None  # the reduced variable that is summed so much at a time
    moved: tuple[Reading, ...] = ()  # copied beforehand with the vector variable consecutive
    block: Block | None = None
    scattered: bool = False  # what is reduced one by one lies far apart, and in no cache
    special: tuple[tuple[str, int], ...] = ()  # ranks, and sizes to write code apart for
    nearby: bool = False  # a level-1 cache holds a tile's columns, which go through all rows


def block_side(bits: int) -> int:
    """How many elements of so many bits are read at a time to be transposed: a cache line."""
    return min(16, max(2, 512 // bits))


def choose(problem: Problem, limits: Limits) -> Schedule:
    """The schedule of an Einsum."""
    vector, moved = _vector(problem, limits)
    lanes = 512 // problem.width
    rows, row_count, transposes = _rows(problem, vector, moved)
    if transposes:
        vectors = 1
    elif rows is not None and _is_product(problem, vector, rows):
        needed = -(-problem.size(vector) // lanes)
        depth = problem.size(*problem.reduced)
        shape = product_tile(problem.size(rows), needed, depth, _columns_near(limits))
        row_count, vectors = shape
    else:
        vectors = _vectors(problem, vector, rows, row_count, lanes)
    free = tuple(v for v in problem.free if v not in (vector, rows))
    if problem.column_major:
        free = free[::-1]
    reduced = tuple(v for v in _reduction_order(problem, vector) if v not in (vector, rows))
    folded = frozenset(problem.reduced)
    # A block of columns serves all rows; if all columns stay in a cache, memory order is better.
    columns = problem.bytes(*problem.reduced, vector)
    nearby = _nearby(problem, limits, (vector, lanes * vectors), rows)
    most = _columns_near(limits) if nearby else limits.shared
    rows_inside = columns > most and bool(problem.reduced)
    return Schedule(
        vector,
        vectors,
        rows,
        row_count,
        transposes,
        free,
        reduced,
        folded,
        rows_inside,
        _chunk(problem, limits, ((vector, lanes * vectors), (rows, row_count)), reduced),
        moved,
        scattered=rows is not None and _is_scattered(problem, limits),
        special=_special(problem, (vector, lanes * vectors), (rows, row_count)),
        nearby=nearby,
    )


def _strided(problem: Problem, vector: str) -> list[Reading]:
    return [r for r in problem.readings if vector in r.variables and r.unit != vector]


def _is_scattered(problem: Problem, limits: Limits) -> bool:
    """Whether each element that is reduced lies in a line of its own, and no cache holds those."""
    lines = problem.size(*problem.free, *problem.reduced) * _LINE
    large = bool(problem.reduced) and lines > limits.shared // 4
    return large and all(r.diagonal for r in problem.readings)


def _vector(problem: Problem, limits: Limits) -> tuple[str | None, tuple[Reading, ...]]:
    """The vector variable, and the operands that must be copied to be consecutive along it."""
    if _is_scattered(problem, limits):
        return None, ()
    inner = _reduction_vector(problem)
    vector = problem.output_unit
    if vector is None:
        if inner is not None:
            return inner, ()
        vector = problem.free[-1] if problem.free else None
        return vector, ()
    moved: list[Reading] = []
    for reading in _strided(problem, vector):
        others = [v for v in problem.free if v not in reading.variables]
        reuse = problem.size(*others)
        if problem.reduced and reading.plain and reuse >= 4:
            moved.append(reading)
        elif inner is not None and reading.unit in problem.reduced:
            return inner, ()
    if problem.size(vector) == 1 and inner is not None:
        return inner, ()
    return vector, tuple(moved)


def _reduction_vector(problem: Problem) -> str | None:
    """The longest reduced variable along which operands are consecutive.

    Best is one along which all are that have it; else the others must be consecutive along one
    other reduced variable, so that square blocks of them can be transposed.
    """
    if problem.ordered:
        return None
    served: dict[str, tuple[bool, int]] = {}
    for variable in problem.reduced:
        holders = [r for r in problem.readings if variable in r.variables]
        units = {r.unit for r in holders}
        rest = units - {variable}
        blocks = len(rest) == 1 and rest <= set(problem.reduced) and not problem.heavy
        if variable in units and (not rest or blocks):
            served[variable] = (not rest, problem.size(variable))
    return max(served, key=served.__getitem__, default=None)


def _rows(
    problem: Problem, vector: str | None, moved: Sequence[Reading]
) -> tuple[str | None, int, bool]:
    """The second variable of the register tile, how many of it, and whether to transpose."""
    none = (None, 1, False)
    if vector is None:
        if not problem.reduced or problem.heavy or problem.ordered:
            return none
        near = problem.readings[0].nearest(problem.free) if problem.readings else None
        if near is not None and problem.size(near) >= _BESIDE:
            return near, _BESIDE, False
        return _reduction_order(problem, None)[-1], 8, False  # eight accumulators
    candidates = [v for v in problem.free if v != vector]
    # What is consecutive along another variable is read in square blocks and transposed.
    others = candidates if vector in problem.free else problem.reduced
    if not problem.heavy:
        for reading in _strided(problem, vector):
            unit = reading.unit
            if reading not in moved and unit is not None and unit in others:
                side = block_side(problem.width * problem.parts)
                size = problem.size(unit)
                return unit, min(side, max(2, 1 << (size - 1).bit_length())), True
    if not problem.reduced or problem.heavy:
        return none
    shared = [r for r in problem.readings if vector in r.variables]
    best: str | None = None
    for variable in candidates:
        serves = any(variable not in r.variables for r in shared)
        if serves and (best is None or problem.size(variable) > problem.size(best)):
            best = variable
    if best is None:
        return none
    limit = 8 if problem.parts == 1 else 6
    if vector in problem.reduced:
        limit = 4
    return best, _even(problem.sizes.get(best), limit), False


def _is_product(problem: Problem, vector: str | None, rows: str) -> bool:
    """Whether a tile is rows of one operand by columns of another."""
    if problem.parts > 1 or len(problem.readings) != 2 or vector not in problem.free:
        return False
    across = [r for r in problem.readings if vector in r.variables]
    down = [r for r in problem.readings if rows in r.variables]
    return len(across) == len(down) == 1 and across != down and rows in problem.free


def _columns_near(limits: Limits) -> int:
    """Bytes of columns that a level-1 cache holds beside rows."""
    return limits.near * 2 // 3


def _nearby(
    problem: Problem, limits: Limits, across: tuple[str | None, int], rows: str | None
) -> bool:
    """Whether a tile's columns stay in a level-1 cache while they go through all rows.

    What lies a multiple of a page apart takes the same places of it, of which each has few lines.
    """
    vector, width = across
    if vector is None or rows is None or not _is_product(problem, vector, rows):
        return False
    if problem.bytes(rows, *problem.reduced) > limits.shared:
        return False
    (columns,) = (reading for reading in problem.readings if vector in reading.variables)
    if not columns.plain or columns.unit != vector:
        return False
    order = columns.order()
    depth = [order.index(v) for v in problem.reduced if v in columns.variables]
    if not depth:
        return False
    inner = order[max(depth) + 1 :]
    step = gcd(problem.bytes(*inner), _PAGE)
    line = -(-width * problem.width // 8 // _LINE) * _LINE
    held = min(_PAGE, _PAGE // step * line) if step > _LINE else _PAGE
    return problem.size(*problem.reduced) * line * _PAGE <= _columns_near(limits) * held


def _special(
    problem: Problem, across: tuple[str | None, int], down: tuple[str | None, int]
) -> tuple[tuple[str, int], ...]:
    """The sizes of a product that is over in fewer steps than it takes to find how it lies."""
    (vector, width), (rows, height) = across, down
    if vector is None or rows is None or not _is_product(problem, vector, rows):
        return ()
    names = (rows, vector, *problem.reduced)
    size = problem.known(*names)
    if size is None:
        return ()
    whole = problem.sizes[rows] % height == 0 and problem.sizes[vector] % width == 0
    if not 0 < size <= (_WHOLE if whole else _SMALL):
        return ()
    return tuple((name.upper(), problem.sizes[name]) for name in names)


def _even(size: int | None, limit: int) -> int:
    """The largest count up to `limit` that cuts `size` with the least left over."""
    if size is None or size < 1:
        return limit
    return min(range(1, limit + 1), key=lambda n: (-(-size // n) * (n + 2), -n))


def _vectors(
    problem: Problem, vector: str | None, rows: str | None, row_count: int, lanes: int
) -> int:
    """How many vectors wide the tile is."""
    if vector is None or (problem.heavy and not problem.chain):
        return 1
    needed = -(-problem.size(vector) // lanes)
    if problem.chain:
        # Side by side they wait for each other's; few are computed for nothing.
        return next(wide for wide in (4, 3, 2, 1) if -needed % wide * _SPARE <= needed)
    if rows is not None and problem.reduced:
        wide = 2 if row_count > 4 else 4 if row_count > 2 else 6
        if problem.parts == 2:
            wide = min(wide, 2)
        return max(1, min(wide, needed))
    if problem.reduced and vector in problem.free and len(problem.readings) <= 3:
        # Memory is read in long pieces, of which the last is not much shorter.
        least, most = (min(count // problem.parts, max(needed, 1)) for count in _STREAMED)
        return min(range(least, most + 1), key=lambda wide: (-needed % wide, -wide))
    wide = 4 if len(problem.readings) <= 3 else 2 if len(problem.readings) <= 8 else 1
    return max(1, min(wide // problem.parts or 1, needed))


def _reduction_order(problem: Problem, vector: str | None) -> list[str]:
    """Outermost first: those that the operands are consecutive along come last."""

    def rank(variable: str) -> tuple[bool, bool]:
        holders = [r for r in problem.readings if variable in r.variables]
        shares = any(vector in r.variables for r in holders)
        return shares, any(r.unit == variable for r in holders)

    return sorted(problem.reduced, key=rank)


def _chunk(
    problem: Problem,
    limits: Limits,
    tile: Sequence[tuple[str | None, int]],
    reduced: Sequence[str],
) -> tuple[str, int] | None:
    """How a long sum is cut."""
    if not problem.sums:
        return None
    steps = 1
    inner = [(v, wide) for v, wide in tile if v is not None and v in problem.reduced]
    for variable, wide in (*inner, *((v, 1) for v in reversed(reduced))):
        count = -(-problem.size(variable) // wide)
        if steps * count > limits.longest:
            return variable, max(1, limits.longest // steps)
        steps *= count
    return None
