"""A tensor copied as it is, its ranks in another order: the statement and its buffer."""

from __future__ import annotations

from ...ir.einsum import Access, Einsum
from ...ir.loop_nodes import Load, Permute
from ...ir.loops import Scratch
from ...ir.ranks import RankExpr
from .point import Storage
from .schedule import Limits
from .tile import number, plus, size, times

#: Below this extent square blocks are too empty, and above this rank loops too many.
_LEAST, _MOST = 8, 8

#: Bytes of short rows that are brought together: part of a level-1 cache.
_GATHERED = 16 << 10

#: Elements of a buffer that no array asks for.
_SLACK = 64


def permuted(
    einsum: Einsum, storage: Storage, limits: Limits, staged: str
) -> tuple[Permute, Scratch] | None:
    """The statement that copies the Einsum's one operand, and its buffer; None: it is no copy.

    `staged` is the buffer's name.
    """
    source = einsum.expr
    output = einsum.output
    if not isinstance(source, Access) or einsum.where is not None or source.fill is not None:
        return None
    dtype = storage.dtypes[output.tensor]
    if storage.dtypes[source.tensor] != dtype or dtype.itemsize > 8:
        return None
    inside, outside = _variables(source), _variables(output)
    if inside is None or outside is None or set(inside) != set(outside):
        return None
    units = storage.units[source.tensor], storage.units[output.tensor]
    if units[0] is None or units[1] is None or len(inside) > _MOST:
        return None
    rows, columns = outside[units[1]], inside[units[0]]
    extents = (storage.sizes.get(name.upper(), _LEAST) for name in (rows, columns))
    if rows != columns and min(extents) < _LEAST:
        return None
    inside = inside[::-1] if units[0] == 0 else inside
    outside = outside[::-1] if units[1] == 0 else outside
    before = outside.index(rows) - 1
    wraps = outside[before] if before >= 0 and outside[before] != columns else None
    last = [columns]
    if rows == columns and wraps is not None:
        last = [wraps, columns]  # rows that follow one another are brought together
    loops = (*(name for name in inside if name not in last), *last)
    by_rows = rows == columns
    statement = Permute(
        output.tensor,
        _plain(output),
        Load(source.tensor, _plain(source), dtype),
        loops,
        rows,
        columns,
        wraps,
        limits.streamed,
        staged,
        tall=1 if by_rows else limits.staged,
        wide=(_GATHERED if by_rows else limits.spread) // dtype.itemsize,
    )
    # What is small needs no more room than it has itself.
    most = number(statement.wide if by_rows else statement.wide * statement.line)
    whole = plus(times(*map(size, inside)), number(_SLACK))
    room = most, whole if by_rows else times(size(columns), statement.line)
    return statement, Scratch(staged, dtype, (number(1),), room)


def _variables(access: Access) -> tuple[str, ...] | None:
    """The variables that the indices are, if each is another one."""
    names = tuple(
        index.variable if isinstance(index, RankExpr) else None for index in access.indices
    )
    if not names or len(set(names)) < len(names):
        return None
    found = tuple(name for name in names if name is not None)
    return found if len(found) == len(names) else None


def _plain(access: Access) -> tuple[RankExpr, ...]:
    return tuple(index for index in access.indices if isinstance(index, RankExpr))
