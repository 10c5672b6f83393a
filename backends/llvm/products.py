"""Products of integers, bits and bf16 that one instruction makes of several steps of the depth.

An operand is packed as *words* of so many bits, of several steps of the depth of one coordinate;
an accumulator's lane is as wide. The table, its first row that fits being taken:

    bits    32    32 bools     or, exclusive or of and                   everywhere
    blocks  32     4 i8, u8    tdpbssd and the like                      tiles
    bytes   32     4 i8, u8    vpdpbusd: u8 by i8, summed                vnni
    dots    32     4 i8, u8    sdot or udot, of equal kinds              dot
    pairs   32     2 i16       vpmaddwd and vpaddd, or vpdpwssd          pmadd
    digits  32     2 i32       the same, of pairs of digits              digits
    parts   64     2 i64       vpmadd52luq, vpmadd52huq, and the same    ifma
    halves  32     2 bf16      tdpbf16ps; or vdpbf16ps, to f32           bf16_tiles, bf16

That of integers is exact modulo 2**32, or 2**64, so sums of so many bits and less are what they are
by one at a time.

An i32 is two digits of 16 bits, the lower one signed: x = low + 2**16 high. Of two steps there are
two words, the pair of low digits and that of high ones, and two sums, of low by low and of low by
high, which counts 2**16: three instructions for what takes six by vpmulld and vpaddd.

An i64 is two parts, of its lower 52 bits and its upper 12: x = low + 2**52 high. Of two steps there
are three words, the numbers themselves and what of them makes low by high, of which only 12 bits
matter; and three sums: the lower 52 bits of low by low, the rest of it, and low by high, both of
which count 2**52. They are five instructions for what takes eight by vpmullq and vpaddq.

Where both operands' bytes are signed, or neither's are, vpdpbusd has the rows' top bits flipped:
those bytes are 128 more, or less, of the other kind. What that adds to a sum is 128 times the
columns' sum, which one more row of ones gives. Where one operand's are signed, sdot and udot do.

What multiplies bf16 takes numbers that f32 has no normal ones for as 0. So where a block may have
some, or give some (harmless.py), the halves of words are multiplied as the f32 that they begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ...ir.dtypes import BF16, BOOL, F32, I8, I16, I32, I64, U8, DType
from ...ir.loop_nodes import Apply, Contract, Convert, Load, Packed
from .isa import Feature, Isa
from .simd import Simd, Vec, typed

#: The values of words, or of accumulators, one after another.
Lanes: TypeAlias = tuple[str, ...]

#: What makes new accumulators of accumulators, a column's words and a row's; and what makes sums of
#: accumulators and the sums of the columns.
Fold: TypeAlias = "Callable[[Simd, Lanes, Lanes, Lanes], Lanes]"
Finish: TypeAlias = "Callable[[Simd, Lanes, Lanes], str]"


@dataclass(frozen=True, slots=True)
class Words:
    """The words of so many steps of the depth, made of elements of that dtype.

    `join` makes them of the elements of these steps, each a vector along the operand's own
    coordinates. `flipped`: the top bit of each element is turned over. There are `count` words,
    each held as a `word`. `groups`: the depth is packed in multiples of so many groups.
    """

    group: int
    element: DType
    join: Callable[[Simd, Words, Sequence[Vec]], Lanes]
    flipped: bool = False
    count: int = 1
    word: DType = I32
    groups: int = 1

    @property
    def multiple(self) -> int:
        """The steps that the depth is packed in multiples of."""
        return self.group * self.groups

    @property
    def whole(self) -> bool:
        """Whether they are of an instruction that takes blocks."""
        return self.groups > 1

    @property
    def bits(self) -> int:
        """How many bits an element takes."""
        return self.word.bits * self.count // self.group

    @property
    def room(self) -> int:
        """How many bytes a step of the depth needs, as an element or its part of the words."""
        return max(self.element.itemsize, self.bits // 8)


@dataclass(frozen=True, slots=True)
class Product:
    """What the micro-kernel computes with: the operands' words, and how they are combined.

    `ones`: what a word of ones is, if the sum of the columns is needed. `sums`: how many
    accumulators an element of the output has, and `total` what each is. `blocks`: the instruction
    that does it, instead of `fold`, with blocks of both operands, of which the rows' are lines
    (tiles.py). `normal`: `blocks`, or else `quick`, is right for blocks alone in which nothing is
    tiny, and `fold` for all others (harmless.py).
    """

    columns: Words
    rows: Words
    fold: Fold | None
    finish: Finish
    ones: int | None = None
    sums: int = 1
    total: DType = I32
    blocks: str = ""
    quick: Fold | None = None
    normal: bool = False

    @property
    def word(self) -> DType:
        """What words are held as."""
        return self.columns.word


def product_of(contract: Contract, isa: Isa, lines: bool) -> Product | None:
    """The product that serves a contraction on an instruction set; None: one step at a time.

    `lines`: the rows' operand can be packed as lines.
    """
    value = contract.value
    operands = {contract.columns.value, contract.rows.value}
    if not isinstance(value, Apply) or len(value.args) != 2 or set(value.args) != operands:
        return None
    columns, rows = (_source(packed) for packed in (contract.columns, contract.rows))
    if columns is None or rows is None or contract.empty.value != 0:
        return None
    inexact = {dtype for dtype in (value.dtype, columns, rows) if dtype.is_inexact}
    if inexact and not (value.dtype == F32 and columns == rows == BF16):
        return None
    for feature, bits, op, make in _FLOATS if inexact else _TABLE:
        has = feature is None or feature in isa.features
        if has and (contract.op, value.op) in op and value.dtype.bits <= bits:
            found = make(contract.op, columns, rows, value.dtype)
            if found is not None and (not found.blocks or (lines and contract.vectors == 2)):
                return found
    return None


def _source(packed: Packed) -> DType | None:
    """The dtype that an operand has in memory; None if it is not its value that is packed."""
    value = packed.value
    if isinstance(value, Convert) and not value.bitcast:
        value = value.arg
    return value.dtype if isinstance(value, Load) else None


# ---- the table


def _bits(op: str, columns: DType, rows: DType, _: DType) -> Product | None:
    if not columns.kind == rows.kind == "bool":
        return None
    words = Words(32, U8, _join_fields)
    return Product(words, words, _fold_or if op == "or" else _fold_xor, _finish_bits(op))


def _blocks(_: str, columns: DType, rows: DType, __: DType) -> Product | None:
    if not {columns, rows} <= {I8, U8}:
        return None
    across, down = (Words(4, dtype, _join_fields, groups=16) for dtype in (columns, rows))
    kinds = "".join("u" if dtype == U8 else "s" for dtype in (rows, columns))
    return Product(across, down, None, _finish_plain, blocks=f"tdpb{kinds}d")


def _bytes(_: str, columns: DType, rows: DType, __: DType) -> Product | None:
    if not {columns, rows} <= {I8, U8}:
        return None
    flipped = columns == rows
    # The instruction's first operand is u8; a flipped row is of the kind that its column is not.
    fold = _fold_bytes_by_columns if columns == U8 else _fold_bytes_by_rows
    more_or_less = _finish_more if columns == U8 else _finish_less
    finish = more_or_less if flipped else _finish_plain
    return _of_bytes(columns, rows, flipped, fold, finish)


def _dots(_: str, columns: DType, rows: DType, __: DType) -> Product | None:
    if not {columns, rows} <= {I8, U8}:
        return None
    flipped = columns != rows
    fold = _fold_unsigned_dots if columns == U8 else _fold_signed_dots
    less_or_more = _finish_less if columns == U8 else _finish_more
    finish = less_or_more if flipped else _finish_plain
    return _of_bytes(columns, rows, flipped, fold, finish)


def _of_bytes(
    columns: DType,
    rows: DType,
    flipped: bool,
    fold: Fold,
    finish: Finish,
) -> Product:
    across, down = Words(4, columns, _join_fields), Words(4, rows, _join_fields, flipped)
    return Product(across, down, fold, finish, 0x01010101 if flipped else None)


def _pairs(_: str, columns: DType, rows: DType, total: DType) -> Product | None:
    def fits(dtype: DType) -> bool:
        """Whether an i16 holds all its values, or all that matters of them."""
        return dtype in (I8, U8, I16, BOOL) or max(dtype.bits, total.bits) <= 16

    if not (fits(columns) and fits(rows)):
        return None
    words = Words(2, I16, _join_fields)
    return Product(words, words, _fold_pairs, _finish_plain)


def _digits(_: str, __: DType, ___: DType, ____: DType) -> Product:
    words = Words(2, I32, _join_digits, count=2)
    return Product(words, words, _fold_digits, _finish_digits, sums=2)


def _parts(_: str, __: DType, ___: DType, ____: DType) -> Product:
    across = Words(2, I64, _join_low_high, count=3, word=I64)
    down = replace(across, join=_join_high_low)
    return Product(across, down, _fold_parts, _finish_parts, sums=3, total=I64)


def _half_blocks(_: str, __: DType, ___: DType, ____: DType) -> Product:
    words = Words(2, BF16, _join_fields, groups=16)
    return replace(_of_halves(words), blocks="tdpbf16ps")


def _half_dots(_: str, __: DType, ___: DType, ____: DType) -> Product:
    return replace(_of_halves(Words(2, BF16, _join_fields)), quick=_fold_half_dots)


def _of_halves(words: Words) -> Product:
    return Product(words, words, _fold_halves, _finish_plain, total=F32, normal=True)


_SUM = frozenset({("add", "mul")})
_Row: TypeAlias = tuple[
    Feature | None,
    int,
    frozenset[tuple[str, str]],
    Callable[[str, DType, DType, DType], Product | None],
]
_TABLE: Sequence[_Row] = (
    (None, 32, frozenset({("or", "and"), ("xor", "and")}), _bits),
    ("tiles", 32, _SUM, _blocks),
    ("vnni", 32, _SUM, _bytes),
    ("dot", 32, _SUM, _dots),
    ("pmadd", 32, _SUM, _pairs),
    ("digits", 32, _SUM, _digits),
    ("ifma", 64, _SUM, _parts),
)
_FLOATS: Sequence[_Row] = (
    ("bf16_tiles", 32, _SUM, _half_blocks),
    ("bf16", 32, _SUM, _half_dots),
)


# ---- how words are combined: accumulator, column, row


def _lanes(simd: Simd) -> int:
    return simd.bits // 32


def _line(simd: Simd, op: str, a: str, b: str) -> str:
    return simd.b.pure(f"{op} {typed('i32', _lanes(simd))} {a}, {b}")


def _fold_or(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    return (_line(simd, "or", total[0], _line(simd, "and", column[0], row[0])),)


def _fold_xor(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    return (_line(simd, "xor", total[0], _line(simd, "and", column[0], row[0])),)


def _fold_bytes_by_columns(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    type = typed("i32", _lanes(simd))
    name = f"llvm.x86.avx512.vpdpbusd.{simd.bits}"
    return (simd.call(type, name, (type, total[0]), (type, column[0]), (type, row[0])),)


def _fold_bytes_by_rows(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    return _fold_bytes_by_columns(simd, total, row, column)


def _fold_signed_dots(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    return (_add_dots(simd, "sdot", total[0], column[0], row[0]),)


def _fold_unsigned_dots(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    return (_add_dots(simd, "udot", total[0], column[0], row[0]),)


def _add_dots(simd: Simd, name: str, total: str, column: str, row: str) -> str:
    wide, narrow = typed("i32", 4), typed("i8", 16)
    bytes = [simd.b.pure(f"bitcast {wide} {word} to {narrow}") for word in (column, row)]
    given = ((wide, total), (narrow, bytes[0]), (narrow, bytes[1]))
    return simd.call(wide, f"llvm.aarch64.neon.{name}.v4i32.v16i8", *given)


def _fold_pairs(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    return (_add_pairs(simd, total[0], column[0], row[0]),)


def _fold_digits(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    low = _add_pairs(simd, total[0], column[0], row[0])
    cross = _add_pairs(simd, total[1], column[1], row[0])
    return low, _add_pairs(simd, cross, column[0], row[1])


def _fold_parts(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    lanes = simd.bits // 64
    type, pairs = typed("i64", lanes), typed("i32", 2 * lanes)
    sums = list(total[:2])
    for x, y in zip(column[:2], row[:2], strict=True):
        for number, half in enumerate("lh"):
            name = f"llvm.x86.avx512.vpmadd52{half}.uq.{simd.bits}"
            sums[number] = simd.call(type, name, (type, sums[number]), (type, x), (type, y))
    cross = [simd.b.pure(f"bitcast {type} {x} to {pairs}") for x in (total[2], column[2], row[2])]
    crossed = simd.b.pure(f"bitcast {pairs} {_add_pairs(simd, *cross)} to {type}")
    return sums[0], sums[1], crossed


def _fold_halves(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    """The upper half of an f32 is a bf16."""
    b, type = simd.b, typed("float", _lanes(simd))
    found = total[0]
    for op, other in (("shl", "splat (i32 16)"), ("and", "splat (i32 -65536)")):
        halves = [_line(simd, op, word, other) for word in (column[0], row[0])]
        x, y = (b.pure(f"bitcast {typed('i32', _lanes(simd))} {half} to {type}") for half in halves)
        found = simd.intrinsic("fma", "float", _lanes(simd), x, y, found)
    return (found,)


def _fold_half_dots(simd: Simd, total: Lanes, column: Lanes, row: Lanes) -> Lanes:
    lanes = _lanes(simd)
    wide, narrow = typed("float", lanes), typed("bfloat", 2 * lanes)
    halves = [
        simd.b.pure(f"bitcast {typed('i32', lanes)} {word} to {narrow}")
        for word in (column[0], row[0])
    ]
    name = f"llvm.x86.avx512bf16.dpbf16ps.{simd.bits}"
    return (simd.call(wide, name, (wide, total[0]), *((narrow, half) for half in halves)),)


def _add_pairs(simd: Simd, total: str, column: str, row: str) -> str:
    lanes = _lanes(simd)
    wide, narrow = typed("i32", lanes), typed("i16", 2 * lanes)
    halves = [simd.b.pure(f"bitcast {wide} {word} to {narrow}") for word in (column, row)]
    names = {128: "sse2.pmadd.wd", 256: "avx2.pmadd.wd", 512: "avx512.pmaddw.d.512"}
    name = f"llvm.x86.{names[simd.bits]}"
    both = simd.call(wide, name, (narrow, halves[0]), (narrow, halves[1]))
    return _line(simd, "add", total, both)


# ---- what is stored: accumulators, sum of the columns


def _finish_plain(_: Simd, total: Lanes, __: Lanes) -> str:
    return total[0]


def _finish_less(simd: Simd, total: Lanes, columns: Lanes) -> str:
    return _line(simd, "sub", total[0], _line(simd, "shl", columns[0], "splat (i32 7)"))


def _finish_more(simd: Simd, total: Lanes, columns: Lanes) -> str:
    return _line(simd, "add", total[0], _line(simd, "shl", columns[0], "splat (i32 7)"))


def _finish_digits(simd: Simd, total: Lanes, _: Lanes) -> str:
    return _line(simd, "add", total[0], _line(simd, "shl", total[1], "splat (i32 16)"))


def _finish_parts(simd: Simd, total: Lanes, _: Lanes) -> str:
    def line(op: str, a: str, b: str) -> str:
        return simd.b.pure(f"{op} {typed('i64', simd.bits // 64)} {a}, {b}")

    # A lane has two sums of low by high, of 32 bits each.
    crossed = line("add", total[2], line("lshr", total[2], "splat (i64 32)"))
    above = line("add", total[1], crossed)
    return line("add", total[0], line("shl", above, "splat (i64 52)"))


def _finish_bits(op: str) -> Finish:
    """1 if any bit of an accumulator is set, or an odd number of them."""

    def finish(simd: Simd, totals: Lanes, _: Lanes) -> str:
        total = totals[0]
        if op == "or":
            lanes = _lanes(simd)
            some = simd.b.pure(f"icmp ne {typed('i32', lanes)} {total}, zeroinitializer")
            return simd.b.pure(f"zext {typed('i1', lanes)} {some} to {typed('i32', lanes)}")
        for amount in (16, 8, 4, 2, 1):
            half = _line(simd, "lshr", total, f"splat (i32 {amount})")
            total = _line(simd, "xor", total, half)
        return _line(simd, "and", total, "splat (i32 1)")

    return finish


# ---- words


def _join_fields(simd: Simd, words: Words, elements: Sequence[Vec]) -> Lanes:
    """One word of all elements, the first lowest."""
    b, lanes = simd.b, elements[0].lanes
    wide, narrow = typed("i32", lanes), typed(f"i{words.element.bits}", lanes)
    total = ""
    for number, element in enumerate(elements):
        word = b.pure(f"zext {narrow} {element.only} to {wide}")
        if number:
            amount = simd.spread("i32", str(number * words.bits), lanes)
            word = b.pure(f"or {wide} {total}, {b.pure(f'shl {wide} {word}, {amount}')}")
        total = word
    return (total,)


def _join_digits(simd: Simd, _: Words, elements: Sequence[Vec]) -> Lanes:
    """The pair of low digits and the pair of high ones."""
    line, number = _on(simd, elements[0])
    # A lower digit from 2**15 on counts 2**16 less, and the higher one is 1 more.
    carries = [line("and", line("shl", x.only, number(1)), number(1 << 16)) for x in elements]
    first, second = (line("add", x.only, c) for x, c in zip(elements, carries, strict=True))
    low = line("or", line("and", first, number(0xFFFF)), line("shl", second, number(16)))
    high = line("or", line("lshr", first, number(16)), line("and", second, number(-1 << 16)))
    return low, high


def _join_low_high(simd: Simd, _: Words, elements: Sequence[Vec]) -> Lanes:
    """The elements; and of each its lowest and its highest 12 bits, each as 16."""
    return _with_ends(simd, elements, 0)


def _join_high_low(simd: Simd, _: Words, elements: Sequence[Vec]) -> Lanes:
    """The elements; and of each its highest and its lowest 12 bits, each as 16."""
    return _with_ends(simd, elements, 16)


def _with_ends(simd: Simd, elements: Sequence[Vec], low: int) -> Lanes:
    """The elements, and a word of their ends, an element's lower end `low` bits up in its half."""
    line, number = _on(simd, elements[0])
    ends: list[str] = []
    for place, x in zip((0, 32), elements, strict=True):
        lower = line("shl", line("and", x.only, number(0xFFF)), number(place + low))
        upper = line("shl", line("lshr", x.only, number(52)), number(place + 16 - low))
        ends.append(line("or", lower, upper))
    return (*(x.only for x in elements), line("or", *ends))


def _on(simd: Simd, element: Vec) -> tuple[Callable[[str, str, str], str], Callable[[int], str]]:
    """Operators on vectors like this one, and numbers as such vectors."""
    of = f"i{element.dtype.bits}"
    type = typed(of, element.lanes)
    return (
        lambda op, a, b: simd.b.pure(f"{op} {type} {a}, {b}"),
        lambda value: simd.spread(of, str(value), element.lanes),
    )


def word_of_bits(simd: Simd, elements: Vec) -> str:
    """The word of 32 elements, each 0 or not."""
    test = simd.b.pure(f"icmp ne {typed('i8', 32)} {elements.only}, zeroinitializer")
    return simd.b.pure(f"bitcast {typed('i1', 32)} {test} to i32")


def flip(simd: Simd, value: Vec) -> Vec:
    """Bytes with their top bits turned over."""
    mask = simd.spread("i8", "-128", value.lanes)
    found = simd.b.pure(f"xor {typed('i8', value.lanes)} {value.only}, {mask}")
    return Vec(value.dtype, (found,), value.lanes)


def unit(simd: Simd, product: Product) -> Vec:
    """The row of ones."""
    return simd.constant(product.ones or 0, I32, _lanes(simd))
