"""What is computed from the sums of a contraction, as the Finish of a Contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.dtypes import DType
from ...ir.einsum import Access, Einsum, Reduce, accesses
from ...ir.loop_nodes import (
    LANE,
    Begin,
    Finish,
    Fold,
    Load,
    Loop,
    LoopNest,
    Register,
    Statement,
    Store,
    Value,
)
from ...ir.loops import Scratch
from ...ir.ranks import RankExpr
from .fuse import Chain, reads_besides
from .point import PointWriter, Storage
from .schedule import Block
from .tile import (
    LANES_EXPR,
    around,
    full_loop,
    in_order,
    minus,
    size,
    times,
    variable,
)
from .typed import Scope, convert

#: Columns that are summed up: a contraction of few is not worth its packing again and again.
_FEW = 64


@dataclass(frozen=True, slots=True)
class Finishing:
    """A Finish, and what is done before and after the contraction that it is of."""

    finish: Finish
    before: tuple[Statement, ...] = ()
    after: tuple[Statement, ...] = ()
    scratch: tuple[Scratch, ...] = ()


def vectors(chain: Chain, storage: Storage) -> Iterator[str]:
    """What the columns of the contraction may end with, the best first.

    It is what the result is consecutive along, or, where that is summed, what is read is. Without
    followers that is decided by the product itself.
    """
    last = chain.last
    found: dict[str, None] = {}
    factors = chain.product.product() or ()
    for access in (*reads_besides(chain), *factors):
        unit = _unit(access, storage)
        if unit is not None and unit not in last.free and unit in chain.product.free:
            found[unit] = None
    unit = _unit(last.output, storage)
    if unit is not None:
        found[unit] = None
    found |= dict.fromkeys(reversed(last.free))
    yield from found


def _unit(access: Access, storage: Storage) -> str | None:
    axis = storage.units.get(access.tensor)
    index = None if axis is None else access.indices[axis]
    return index.variable if isinstance(index, RankExpr) else None


def is_turn(chain: Chain, storage: Storage) -> bool:
    """Whether a chain only copies its product, to where it lies along the batch (turned.py)."""
    unit, factors = _unit(chain.last.output, storage), chain.product.product() or ()
    copies = bool(chain.followers) and isinstance(chain.last.expr, Access)
    return copies and all(unit in set(factor.variables()) for factor in factors)


def fitted(block: Block, chain: Chain, sizes: Mapping[str, int]) -> Block | None:
    """The blocks of a contraction whose columns are all summed, or none of them is.

    Columns that are not, where others are, become a batch. None if that is not worth it.
    """
    free = chain.last.free
    kept = [v for v in block.across if v in free]
    if not kept or len(kept) == len(block.across):
        return block
    summed = tuple(v for v in block.across if v not in free)
    length = 1
    for name in summed:
        length *= sizes.get(name.upper(), _FEW)
    if block.across[-1] in kept or length < _FEW:
        return None
    return replace(block, across=summed, batch=(*block.batch, *kept))


def aligned(block: Block, chain: Chain, storage: Storage) -> bool:
    """Whether what is packed is consecutive where all is that it is formed from."""
    for einsum in chain.formed:
        in_rows = block.rows.access.tensor == einsum.name
        along = block.depth[-1] if in_rows else block.across[-1]
        for access in accesses(einsum.expr):
            if along in access.variables() and _unit(access, storage) != along:
                return False
    return True


def formed_values(chain: Chain, storage: Storage) -> dict[str, Value]:
    """What stands for an element of each formed factor, as it would be stored."""
    found: dict[str, Value] = {}
    for einsum in chain.formed:
        point = PointWriter(einsum, storage)
        value = point.value(point.typing({}), Scope(frozenset(einsum.free)), (), ())
        found[einsum.name] = convert(value, point.dtype)
    return found


def in_place(chain: Chain, storage: Storage, carrier: DType) -> bool:
    """Whether sums of pieces may stand where the result goes."""
    last = chain.last
    return not isinstance(last.expr, Reduce) and storage.dtypes[last.name] == carrier


def sums_of_pieces(name: str, product: Einsum, block: Block, dtype: DType) -> Scratch:
    """Where sums of pieces are: no memory if the depth is one piece."""
    extents = [size(v) for v in product.free]
    whole = times(*extents)
    depth = times(whole, *map(size, block.depth))
    return Scratch(name, dtype, in_order(extents), (whole, minus(depth, times(block.deep, whole))))


def finishing(
    chain: Chain,
    storage: Storage,
    block: Block,
    total: Value,
    new_name: Callable[[str], str],
) -> Finishing:
    """What is done with `total`, an element of the product as it is stored."""
    read, value = chain.product.output, total
    for follower in chain.followers:
        point = PointWriter(follower, storage)
        typing = point.typing({read: value})
        scope = Scope(frozenset(chain.product.free))
        if point.reduce is not None:
            term, _ = point.term(typing, scope)
            return _folded(point, term, block, new_name)
        value = convert(point.value(typing, scope, (), ()), point.dtype)
        read = follower.output
    last = chain.last
    return Finishing(Finish(last.name, last.left, value))


def _folded(
    point: PointWriter, term: Value, block: Block, new_name: Callable[[str], str]
) -> Finishing:
    """A term that is folded into an element of the output, or into one for each lane."""
    einsum = point.einsum
    by_lane = not set(block.across) & set(einsum.free)
    name, indices = einsum.name, einsum.left
    scratch: tuple[Scratch, ...] = ()
    if by_lane or point.total != point.dtype:
        name = new_name("folded")
        extents: list[RankExpr] = [size(v) for v in einsum.free]
        indices = tuple(map(variable, einsum.free))
        if by_lane:
            extents.append(LANES_EXPR)
            indices += (variable(LANE),)
        scratch = (Scratch(name, point.total, in_order(extents), (times(*extents),)),)
    finish = Finish(name, indices, term, point.fold_op)
    first, last = "r1", "r2"
    store = Store(name, indices, Register(first, point.total))
    if not by_lane:
        before = _each(einsum, [*point.begin(first), store])
        result: Value = Load(name, indices, point.total)
        body: list[Statement] = []
    else:
        neutral = Begin(first, point.total, point.fold_op, (), point.empty)
        before = _each(einsum, [neutral, _lanes(store)])
        fold = Fold(last, point.fold_op, Load(name, indices, point.total))
        body = [*point.begin(last), _lanes(fold)]
        result = Register(last, point.total)
    if not scratch:
        return Finishing(finish, before)
    body.append(Store(einsum.name, einsum.left, convert(result, point.dtype)))
    return Finishing(finish, before, _each(einsum, body), scratch)


def _lanes(statement: Statement) -> LoopNest:
    return LoopNest((Loop(LANE, RankExpr(), LANES_EXPR, kind="vector"),), (statement,))


def _each(einsum: Einsum, body: Sequence[Statement]) -> tuple[Statement, ...]:
    """The statements at each point of the output."""
    return around([full_loop(v) for v in einsum.free], body)
