"""Long reductions to few elements, cut along a variable that is reduced.

    nest Y { %r begins add; for k in 0..K { %r add= f(k) }; Y[] = %r }
    -> parallel k by L each ... { nest Y { ...; Y.pieces[K'N] = %r } }
       nest Y { %r begins add; for k'c in 0..K'CL { %r add= Y.pieces[k'c] }; Y[] = %r }

The output has too few elements for threads to share. So the reduction is made piece by piece, the
pieces are shared, and then brought together in their order. How long a piece is follows from the
sizes' magnitudes alone, never from the number of threads: the result is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

from ...ir.loop_nodes import (
    Assign,
    Begin,
    Collapse,
    Contract,
    Fold,
    Load,
    Loop,
    LoopNest,
    Register,
    Statement,
    Store,
    walk,
)
from ...ir.loops import Nest, Parallel, Scratch, Size, Split
from ...ir.parts import SHORTEST_PART
from ...ir.ranks import Quotient, RankExpr, Term
from .parts import each_in, in_part, reads_what_it_writes, renamed_sizes, stem, work_of
from .tile import (
    LANES_EXPR,
    around,
    full_loop,
    in_order,
    minus,
    number,
    plus,
    size,
    tiled,
    times,
    variable,
)

#: Associative and commutative, and what a piece without points comes to leaves all else unchanged.
_OPS = frozenset(("add", "max", "min", "or", "and", "xor", "logaddexp"))

#: Pieces: at most so many, and at least so many for it to pay.
_MOST, _FEWEST = 64, 4

#: The outermost variable that is so long is cut: pieces are then consecutive in memory.
_LONG = 16

#: Picoseconds that one element of one piece takes to be brought together.
_TOGETHER = 200


@dataclass(frozen=True, slots=True)
class Worth:
    """When sharing pays: the least picoseconds of a part; of reductions, the least length of a
    piece that vectors go along, and how small a part of the work bringing pieces together must be.
    """

    shortest: int = SHORTEST_PART
    piece: int = 512
    together: int = 20


@dataclass(frozen=True, slots=True)
class Pieces:
    """A reduction in pieces: the nest of one piece, what brings them together, and what both need.

    `count` is how many pieces there are.
    """

    parallel: Parallel
    together: Nest
    scratch: Scratch
    count: Size


def pieces_of(
    nest: Nest, most: Mapping[str, int], worth: Worth, scratch: Mapping[str, Scratch]
) -> Pieces | None:
    """The nest's reduction in pieces; None if it is none, or too short, or has other parts enough.

    `most`: the largest sizes that are thought of.
    """
    reduction = reduction_of(nest)
    if reduction is None:
        return None
    work = work_of_body(nest)
    if not set(work.sizes()) <= most.keys():
        return None
    elements = times(*map(size, reduction.free)).value(most)
    cut = next((v for v in reduction.reduced if most[v.upper()] >= _LONG), None)
    if cut is None:
        return None
    extent = most[cut.upper()]
    count = max(1, min(_MOST, work.value(most) // worth.shortest))
    length = max(worth.piece if cut in reduction.vectors else 1, -(-extent // count))
    length = 1 << (length - 1).bit_length()
    count = -(-extent // length)
    if count < _FEWEST or count * elements * _TOGETHER * worth.together > work.value(most):
        return None
    return in_pieces(nest, reduction, (Split(cut, number(length), each=True),), scratch)


@dataclass(frozen=True, slots=True)
class Reduction:
    """What a nest reduces: variables, how, and where it begins and ends."""

    free: tuple[str, ...]
    reduced: tuple[str, ...]
    begin: Begin
    loops: tuple[Loop, ...]  # over the free variables
    inside: tuple[Statement, ...]  # a contraction, or what folds into the register
    end: Store

    @property
    def vectors(self) -> set[str]:
        """The reduced variables that are gone through many at a time."""
        if isinstance(self.inside[0], Contract):
            return set(self.reduced)
        return {stem(loop) for loop in each_in(self.inside, Loop) if loop.kind != "serial"}


def reduction_of(nest: Nest) -> Reduction | None:
    """The reduction that is all of a nest; None if it is something else."""
    body = tuple(s for s in nest.body if not isinstance(s, Collapse))
    return _of_contract(body) or _of_loops(body)


def _of_loops(body: tuple[Statement, ...]) -> Reduction | None:
    """Loops over free variables, in them a register that is begun, folded into and stored."""
    loops: tuple[Loop, ...] = ()
    if len(body) == 1 and isinstance(body[0], LoopNest):
        loops, body = body[0].loops, body[0].body
    if len(body) != 3:
        return None
    begin, inside, end = body
    if not (
        isinstance(begin, Begin)
        and isinstance(inside, LoopNest)
        and isinstance(end, Store)
        and begin.op in _OPS
    ):
        return None
    changed = [s for s in walk((inside,)) if isinstance(s, Fold | Assign)]
    begun = {s.register for s in walk((inside,)) if isinstance(s, Begin)}
    if any(s.register not in (begin.register, *begun) for s in changed):
        return None
    if any(isinstance(s, Store | Contract) for s in walk((inside,))):
        return None
    free = tuple(dict.fromkeys(stem(loop) for loop in loops))
    if any(not is_whole(v, loops) for v in free):
        return None
    inner = tuple(each_in(inside, Loop))
    reduced = tuple(dict.fromkeys(stem(loop) for loop in inner))
    others = free + tuple(_of_others(inside, begin))
    reduced = tuple(v for v in reduced if v not in others and is_whole(v, inner))
    return Reduction(_vector_last(free, loops), reduced, begin, loops, (inside,), end)


def _of_others(inside: LoopNest, begin: Begin) -> Iterator[str]:
    """The variables of reductions inside whose results are not just folded into the register."""
    folds = [s for s in walk((inside,)) if isinstance(s, Fold)]
    own = {begin.register}
    for other in [s for s in walk((inside,)) if isinstance(s, Begin)]:
        reads = [r for r in each_in(inside, Register) if r.name == other.register]
        whole = [f for f in folds if isinstance(f.value, Register) and f.value in reads]
        if other.op == begin.op and len(reads) == len(whole) == 1 and whole[0].register in own:
            own.add(other.register)
    for nest in each_in(inside, LoopNest):
        begun = {s.register for s in walk((nest,)) if isinstance(s, Begin)}
        if any(isinstance(s, Fold) and s.register not in own | begun for s in walk((nest,))):
            yield from (stem(loop) for loop in nest.loops)


def _vector_last(free: tuple[str, ...], loops: tuple[Loop, ...]) -> tuple[str, ...]:
    vector = {loop.variable for loop in loops if loop.kind == "vector"}
    return (*(v for v in free if v not in vector), *(v for v in free if v in vector))


def is_whole(name: str, loops: tuple[Loop, ...]) -> bool:
    """Whether these loops go once through the whole rank of a variable, in blocks or not."""
    own = [loop for loop in loops if stem(loop) == name]
    outer = [loop for loop in own if loop.start == RankExpr()]
    names = [loop.variable for loop in own]
    return (
        len(outer) == 1
        and outer[0].stop == size(name)
        and outer[0].kind == "serial"
        and not outer[0].once
        and len(set(names)) == len(names)
        and name in names
        and all(loop.start.variable in names for loop in own if loop is not outer[0])
    )


def _of_contract(body: tuple[Statement, ...]) -> Reduction | None:
    """A contraction into a tensor that has a plain index for each variable."""
    if len(body) != 1 or not isinstance(body[0], Contract):
        return None
    contract = body[0]
    free = (*contract.batch, *contract.rows.variables, *contract.columns.variables)
    plain = [index.variable for index in contract.indices]
    if set(plain) != set(free) or len(plain) != len(free) or contract.op not in _OPS:
        return None
    if reads_what_it_writes(contract, {contract.buffer}) or not _is_plain(contract):
        return None
    ranks = tuple(v.upper() for v in contract.depth)
    dtype = contract.value.dtype
    begin = Begin("r", dtype, contract.op, ranks, contract.empty)
    end = Store(contract.buffer, contract.indices, Register("r", dtype))
    loops = [full_loop(v) for v in free[:-1]]
    loops += tiled(full_loop(free[-1]), LANES_EXPR, "vector")
    return Reduction(free, contract.depth, begin, tuple(loops), body, end)


#: What a contraction says of the sum itself.
_SUM = frozenset(
    ("buffer", "indices", "op", "value", "empty", "rows", "columns", "depth", "batch", "height")
) | frozenset(("vectors", "tall", "deep", "wide", "offsets", "runs"))


def _is_plain(contract: Contract) -> bool:
    """Whether nothing is done to the sum once it is whole, which cannot be done to a piece."""
    return not any(getattr(contract, f.name) for f in fields(contract) if f.name not in _SUM)


def in_pieces(
    nest: Nest, reduction: Reduction, splits: tuple[Split, ...], scratch: Mapping[str, Scratch]
) -> Pieces:
    """The reduction in pieces along the first split's variable, each of so many coordinates but
    the last; the other splits cut what it is free in.
    """
    split = splits[0]
    name, length = split.variable, split.unit
    # Two nests may cut one rank into pieces of two lengths.
    count = Size(
        f"{split.rank}'C{length}", Quotient(plus(size(name), minus(length, number(1))), length)
    )
    pieces = f"{nest.name}.pieces"
    extents = (RankExpr.of_size(count.name), *map(size, reduction.free))
    begin, places = reduction.begin, tuple(map(variable, reduction.free))
    buffer = Scratch(pieces, begin.dtype, in_order(extents), (times(*extents),))
    mine = (RankExpr((Term(1, (split.number,)),)), *places)
    kept = tuple(
        s for s in nest.body if isinstance(s, Collapse) and not _free({s.outer, s.inner}, reduction)
    )
    inside = reduction.inside
    own: tuple[Scratch, ...] = ()
    if isinstance(inside[0], Contract):
        contract = replace(inside[0], buffer=pieces, indices=mine)
        part: tuple[Statement, ...] = (contract,)
        named = {*each_in(contract, str)} - {load.buffer for load in each_in(contract, Load)}
        own = tuple(renamed_sizes(b, splits) for n, b in scratch.items() if n in named)
    else:
        store = Store(pieces, mine, Register(begin.register, begin.dtype))
        part = around(reduction.loops, (begin, *inside, store))
    body = tuple(in_part(s, splits) for s in (*kept, *part))
    chunk = name + "'c"
    load = Load(pieces, (variable(chunk), *places), begin.dtype)
    fold = Fold(begin.register, begin.op, load)
    again = LoopNest((Loop(chunk, RankExpr(), RankExpr.of_size(count.name)),), (fold,))
    together = around(reduction.loops, (begin, again, reduction.end))
    return Pieces(
        Parallel(splits, work_of_body(nest), own, (Nest(nest.name, nest.width, body),)),
        Nest(nest.name, nest.width, together),
        buffer,
        count,
    )


def work_of_body(nest: Nest) -> RankExpr:
    """About how many picoseconds a nest takes."""
    return work_of(LoopNest((), tuple(s for s in nest.body if not isinstance(s, Collapse))))


def _free(ranks: set[str], reduction: Reduction) -> bool:
    return any(v.upper() in ranks for v in reduction.free)
