"""The loop-nest level, page one: loops, statements and values.

    statement   = LoopNest | Special | Past | When | Collapse | If | Begin | Fold | Assign | Store
                | Fetch | Contract | Pack | Permute
    value       = Load | Number | Index | Register | Apply | Convert       (every one of one dtype)

Each schedule decision is a value here: loop order, tiles (a loop that steps, and inside it a loop
over the step), the register tile (`unroll`, `vector`), packed operands (a Scratch buffer, filled
by a nest and read in place of the operand). None of them changes the meaning, which is that of
plain nested loops over registers and buffers: the points of a register tile are independent,
except that a `Fold` inside it may fold in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar, cast

from .dtypes import BOOL, DTYPES, I64, DType
from .operators import Number as Scalar
from .operators import value_in
from .ranks import RankExpr

LoopKind: TypeAlias = Literal["serial", "unroll", "vector"]

_T = TypeVar("_T")

#: In an expression, a size: how many elements of the nest's width a vector register holds.
LANES = "Lanes"

ONE = RankExpr((), 1)

#: In what a contraction does with its sums: the register that is a sum.
TOTAL = "total"

#: There too, as the last index of where it goes: a column's number modulo Lanes.
LANE = "lane'"


# ---- values


@dataclass(frozen=True, slots=True)
class Load:
    """An element of a buffer; an index that is a Value is a gather.

    Outside the buffer's range it is `fill`; without one, a gather from outside ends the program
    with status 3, and any other index is known to be inside.
    """

    buffer: str
    indices: tuple[RankExpr | Value, ...]
    dtype: DType
    extents: tuple[RankExpr, ...] = ()  # given where the range matters: for a fill or a gather
    fill: Number | None = None


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: Scalar
    dtype: DType

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, DType]:
        return repr(value_in(self.value, self.dtype)), self.dtype


@dataclass(frozen=True, slots=True)
class Index:
    """The value of an index expression, as an i64."""

    index: RankExpr

    @property
    def dtype(self) -> DType:
        return I64


@dataclass(frozen=True, slots=True)
class Register:
    """The value that a register has now."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator of ir/operators.py on operands of the types that it computes in.

    An associative and commutative one takes two or more and folds from the left.
    """

    op: str
    args: tuple[Value, ...]

    @property
    def dtype(self) -> DType:
        return apply_dtype(self.op, tuple(arg.dtype for arg in self.args))


@dataclass(frozen=True, slots=True)
class Convert:
    """The operand as another dtype, by value as C does it, or (`bitcast`) by its bits."""

    arg: Value
    dtype: DType
    bitcast: bool = False


Value: TypeAlias = Load | Number | Index | Register | Apply | Convert

_COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})


def apply_dtype(op: str, args: tuple[DType, ...]) -> DType:
    """The dtype of an operator's value, given the types that it computes in."""
    if op in _COMPARISONS:
        return BOOL
    if op == "select":
        return args[1]
    if op == "abs" and args[0].kind == "complex":
        return DTYPES[f"f{args[0].bits // 2}"]
    return args[0]


# ---- statements


@dataclass(frozen=True, slots=True)
class Loop:
    """`variable` = start, start+step, ... while it is below `stop` and below each of `bounds`.

    A `serial` loop with `once` runs its body once more where that would be never. `unroll` and
    `vector` loops make a register tile: stop - start is a constant (`vector`: a multiple of
    Lanes), the step is 1.
    """

    variable: str
    start: RankExpr
    stop: RankExpr
    bounds: tuple[RankExpr, ...] = ()
    step: RankExpr = ONE
    kind: LoopKind = "serial"
    once: bool = False


@dataclass(frozen=True, slots=True)
class LoopNest:
    """Loops, outermost first, around a body."""

    loops: tuple[Loop, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Special:
    """The body; where the ranks have these sizes, by code in which they are constants."""

    sizes: tuple[tuple[str, int], ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """The body; if the buffer is at least so many bytes, what it stores there in whole vectors goes
    past the caches: where its rows lie so that it can, or, `by_lines`, whole lines of the caches.
    Of those the parts that two rows have may be there only at the end: nothing in the body reads
    them.
    """

    buffer: str
    bytes: int
    body: tuple[Statement, ...]
    by_lines: bool = False


@dataclass(frozen=True, slots=True)
class When:
    """The body, which does nothing at the points of the register tile where the value is false; it
    is left out where it is false at all of them.
    """

    value: Value
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Collapse:
    """Two ranks become one where all of `steps` (buffer, outer index, inner index) allow it.

    If stride(outer) = inner * stride(inner) in all of them, then from here on in this nest the
    size of `inner` is outer * inner, and that of `outer` is 1.
    """

    outer: str
    inner: str
    steps: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """A new register, about to be folded into by `op`.

    It holds `empty` if one of the sizes `over` is 0, else what `op` leaves alone: -0.0 for add.
    """

    register: str
    dtype: DType
    op: str
    over: tuple[str, ...]
    empty: Number


@dataclass(frozen=True, slots=True)
class Fold:
    """register = op(register, value), where `where` holds (None: everywhere)."""

    register: str
    op: str
    value: Value
    where: Value | None = None


@dataclass(frozen=True, slots=True)
class Assign:
    """register = value; the first assignment in a block makes the register."""

    register: str
    value: Value


@dataclass(frozen=True, slots=True)
class Store:
    """buffer[indices] = value."""

    buffer: str
    indices: tuple[RankExpr, ...]
    value: Value


@dataclass(frozen=True, slots=True)
class Fetch:
    """buffer[indices], wherever it is, had better be near: the nest stores it, or reads it."""

    buffer: str
    indices: tuple[RankExpr, ...]


@dataclass(frozen=True, slots=True)
class If:
    """`then` if the expression is not 0, else `otherwise`."""

    test: RankExpr
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Packed:
    """An operand of a contraction, copied tile by tile to a scratch buffer.

    `value` is a Load, perhaps converted, or computed from several as it is copied; `variables`,
    joined, are what the operand has beside the depth and the batch. The buffer has a block at a
    time; or, of columns that a Pack has copied, all of them from the element at `at` on. Rows that
    are `lying` are read where they are, not copied, if the depth is consecutive there; if they are
    quotients, their dividends are (Contract.divisor).
    """

    value: Value
    variables: tuple[str, ...]
    buffer: str
    at: tuple[RankExpr, ...] | None = None
    lying: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """What is done with each sum of a contraction, once, while it is near: its epilogue.

    buffer[indices] = value, in which the register `total` is the sum; with an `op`, what is there
    is first folded with it: buffer[indices] = op(buffer[indices], value). Many sums may go to one
    element then.
    """

    buffer: str
    indices: tuple[RankExpr, ...]
    value: Value
    op: str | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """buffer[indices] = `op` over the depth of `value`, an operator of the two operands' elements.

    Each list of variables is joined: its coordinates are numbered, the last variable fastest. A
    register tile is `height` rows by `vectors` of the columns; a packed block of the rows' operand
    has up to `tall` rows, one of the columns' operand up to `wide` tiles, both up to `deep` of the
    depth, or as many times that as integers are packed into four bytes; sums go on from piece to
    piece of it. Over an empty depth the value is `empty`. With a `finish` the buffer holds sums of
    pieces alone: none if the depth is one piece. Nothing asks for the lines of a tile's sums before
    these are made where the buffer is `near`, in a cache.
    """

    buffer: str
    indices: tuple[RankExpr, ...]
    op: str
    value: Value
    empty: Number
    rows: Packed
    columns: Packed
    depth: tuple[str, ...]
    batch: tuple[str, ...]
    height: int
    vectors: int
    tall: int
    deep: int
    wide: int
    offsets: str  # the scratch buffers of the tables that say what joined coordinates mean
    runs: str
    finish: Finish | None = None
    near: bool = False

    @property
    def divisor(self) -> Value | None:
        """What rows that are `lying` are divided by: the same for all of the depth.

        The sums are divided then, where that comes to the same but for rounding.
        """
        match self.rows:
            case Packed(Apply("div", (_, divisor)), lying=True):
                return divisor
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Pack:
    """The columns of contractions, copied before those: at each coordinate of the batch all of
    them, in tiles of so many vectors, each along the whole depth.
    """

    packed: Packed
    depth: tuple[str, ...]
    batch: tuple[str, ...]
    vectors: int
    offsets: str
    runs: str


@dataclass(frozen=True, slots=True)
class Permute:
    """buffer[indices] = value, an element of a buffer of the same dtype, for all coordinates.

    The output is consecutive along `rows`, the input along `columns`; if they are two, square
    blocks are transposed in registers. `loops` are all variables, from the outermost loop to the
    innermost, which is `columns`. Where the output goes on from one coordinate of `wraps` to the
    next, what is moved may span both. An output of `streamed` bytes or more goes past the caches,
    where its lines do not lie as theirs do by way of `staged`, a buffer of `tall` rows by `wide`
    columns.
    """

    buffer: str
    indices: tuple[RankExpr, ...]
    value: Load
    loops: tuple[str, ...]
    rows: str
    columns: str
    wraps: str | None
    streamed: int
    staged: str
    tall: int
    wide: int

    @property
    def line(self) -> int:
        """How many elements apart two columns are in the buffer: a cache line more than `tall`."""
        return self.tall + 64 // self.value.dtype.itemsize


Statement: TypeAlias = (
    LoopNest
    | Special
    | Past
    | When
    | Collapse
    | Begin
    | Fold
    | Assign
    | Store
    | Fetch
    | If
    | Contract
    | Pack
    | Permute
)


def blocks(statement: Statement) -> tuple[tuple[Statement, ...], ...]:
    """The statement lists directly inside."""
    if isinstance(statement, LoopNest | Special | Past | When):
        return (statement.body,)
    if isinstance(statement, If):
        return (statement.then, statement.otherwise)
    return ()


def walk(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """Every statement in a list and inside it, in order of text."""
    stack = list(reversed(body))
    while stack:
        statement = stack.pop()
        yield statement
        for block in reversed(blocks(statement)):
            stack.extend(reversed(block))


def parts(value: Value) -> tuple[Value, ...]:
    """The values directly inside."""
    if isinstance(value, Apply):
        return value.args
    if isinstance(value, Convert):
        return (value.arg,)
    if isinstance(value, Load):
        return tuple(index for index in value.indices if not isinstance(index, RankExpr))
    return ()


def loads_of(value: Value) -> tuple[Load, ...]:
    """The elements that a value reads, each once."""
    found, stack = dict[Load, None](), [value]
    while stack:
        node = stack.pop()
        if isinstance(node, Load):
            found[node] = None
        stack += reversed(parts(node))
    return tuple(found)


def replaced(node: _T, by: Callable[[Value], Value | None]) -> _T:
    """A statement or value in which those values stand that `by` gives for others; None: as is."""
    here: Any = node
    if isinstance(here, tuple):
        return cast("_T", tuple(replaced(each, by) for each in cast("tuple[Any, ...]", here)))
    if not is_dataclass(here) or isinstance(here, DType | RankExpr):
        return node
    found: Any = by(here) if isinstance(here, Value) else None
    if found is not None:
        return cast("_T", found)
    changed = {f.name: replaced(getattr(here, f.name), by) for f in fields(here)}
    return cast("_T", replace(cast("Any", here), **changed))
