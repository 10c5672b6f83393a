"""Products of integers and bits that one instruction makes of several steps of the depth.

An operand is packed as *words* of 32 bits, each several steps of the depth of one coordinate; an
accumulator's lane is 32 bits too. The table, its first row that fits being taken:

    bits     32 bools     or, exclusive or of and             everywhere
    bytes     4 i8, u8    vpdpbusd: u8 by i8, summed          vnni
    pairs     2 i16       vpmaddwd and vpaddd, or vpdpwssd    pmadd

All of it is exact modulo 2**32, so sums of 32 bits and less are what they are by one at a time.

Where both operands' bytes are signed, or neither's are, the rows' top bits are flipped: those bytes
are 128 more, or less, of the other kind. What that adds to a sum is 128 times the columns' sum,
which one more row of ones gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ir.dtypes import BOOL, I8, I16, I32, U8, DType
from ...ir.loop_nodes import Apply, Contract, Convert, Load, Packed
from .isa import Feature, Isa
from .simd import Simd, Vec, typed


@dataclass(frozen=True, slots=True)
class Words:
    """Words of so many steps of the depth, made of elements of that dtype.

    `flipped`: the top bit of each element is turned over. `ones`: elements are single bits.
    """

    group: int
    element: DType
    flipped: bool = False

    @property
    def bits(self) -> int:
        """How many bits of a word an element takes."""
        return 32 // self.group


@dataclass(frozen=True, slots=True)
class Product:
    """What the micro-kernel computes with: the operands' words, and how they are combined.

    `ones`: what a word of ones is, if the sum of the columns is needed.
    """

    columns: Words
    rows: Words
    fold: Callable[[Simd, str, str, str], str]
    finish: Callable[[Simd, str, str], str]
    ones: int | None = None


def product_of(contract: Contract, isa: Isa) -> Product | None:
    """The product that serves a contraction on an instruction set; None: one step at a time."""
    value = contract.value
    operands = {contract.columns.value, contract.rows.value}
    if not isinstance(value, Apply) or len(value.args) != 2 or set(value.args) != operands:
        return None
    if value.dtype.is_inexact or value.dtype.bits > 32 or contract.empty.value != 0:
        return None
    columns, rows = (_source(packed) for packed in (contract.columns, contract.rows))
    if columns is None or rows is None:
        return None
    for feature, op, make in _TABLE:
        if (contract.op, value.op) in op and (feature is None or feature in isa.features):
            found = make(contract.op, columns, rows, value.dtype)
            if found is not None:
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
    words = Words(32, U8)
    return Product(words, words, _fold_or if op == "or" else _fold_xor, _finish_bits(op))


def _bytes(_: str, columns: DType, rows: DType, __: DType) -> Product | None:
    if not {columns, rows} <= {I8, U8}:
        return None
    flipped = columns == rows
    # The instruction's first operand is u8; a flipped row is of the kind that its column is not.
    fold = _fold_bytes_by_columns if columns == U8 else _fold_bytes_by_rows
    if not flipped:
        return Product(Words(4, columns), Words(4, rows), fold, _finish_plain)
    finish = _finish_more if columns == U8 else _finish_less
    return Product(Words(4, columns), Words(4, rows, True), fold, finish, 0x01010101)


def _pairs(_: str, columns: DType, rows: DType, total: DType) -> Product | None:
    def fits(dtype: DType) -> bool:
        """Whether an i16 holds all its values, or all that matters of them."""
        return dtype in (I8, U8, I16, BOOL) or max(dtype.bits, total.bits) <= 16

    if not (fits(columns) and fits(rows)):
        return None
    return Product(Words(2, I16), Words(2, I16), _fold_pairs, _finish_plain)


_SUM = frozenset({("add", "mul")})
_TABLE: Sequence[
    tuple[
        Feature | None,
        frozenset[tuple[str, str]],
        Callable[[str, DType, DType, DType], Product | None],
    ]
] = (
    (None, frozenset({("or", "and"), ("xor", "and")}), _bits),
    ("vnni", _SUM, _bytes),
    ("pmadd", _SUM, _pairs),
)


# ---- how words are combined: accumulator, column, row


def _lanes(simd: Simd) -> int:
    return simd.bits // 32


def _line(simd: Simd, op: str, a: str, b: str) -> str:
    return simd.b.pure(f"{op} {typed('i32', _lanes(simd))} {a}, {b}")


def _fold_or(simd: Simd, total: str, column: str, row: str) -> str:
    return _line(simd, "or", total, _line(simd, "and", column, row))


def _fold_xor(simd: Simd, total: str, column: str, row: str) -> str:
    return _line(simd, "xor", total, _line(simd, "and", column, row))


def _fold_bytes_by_columns(simd: Simd, total: str, column: str, row: str) -> str:
    type = typed("i32", _lanes(simd))
    name = f"llvm.x86.avx512.vpdpbusd.{simd.bits}"
    return simd.call(type, name, (type, total), (type, column), (type, row))


def _fold_bytes_by_rows(simd: Simd, total: str, column: str, row: str) -> str:
    return _fold_bytes_by_columns(simd, total, row, column)


def _fold_pairs(simd: Simd, total: str, column: str, row: str) -> str:
    lanes = _lanes(simd)
    wide, narrow = typed("i32", lanes), typed("i16", 2 * lanes)
    halves = [simd.b.pure(f"bitcast {wide} {word} to {narrow}") for word in (column, row)]
    names = {128: "sse2.pmadd.wd", 256: "avx2.pmadd.wd", 512: "avx512.pmaddw.d.512"}
    name = f"llvm.x86.{names[simd.bits]}"
    both = simd.call(wide, name, (narrow, halves[0]), (narrow, halves[1]))
    return _line(simd, "add", total, both)


# ---- what is stored: accumulator, sum of the columns


def _finish_plain(_: Simd, total: str, __: str) -> str:
    return total


def _finish_less(simd: Simd, total: str, columns: str) -> str:
    return _line(simd, "sub", total, _line(simd, "shl", columns, "splat (i32 7)"))


def _finish_more(simd: Simd, total: str, columns: str) -> str:
    return _line(simd, "add", total, _line(simd, "shl", columns, "splat (i32 7)"))


def _finish_bits(op: str) -> Callable[[Simd, str, str], str]:
    """1 if any bit of an accumulator is set, or an odd number of them."""

    def finish(simd: Simd, total: str, _: str) -> str:
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


def joined(simd: Simd, words: Words, elements: Sequence[Vec]) -> str:
    """The words of a group's elements, each a vector along the operand's own coordinates."""
    b, lanes = simd.b, elements[0].lanes
    wide, narrow = typed("i32", lanes), typed(f"i{words.element.bits}", lanes)
    total = ""
    for number, element in enumerate(elements):
        word = b.pure(f"zext {narrow} {element.only} to {wide}")
        if number:
            amount = simd.spread("i32", str(number * words.bits), lanes)
            word = b.pure(f"or {wide} {total}, {b.pure(f'shl {wide} {word}, {amount}')}")
        total = word
    return total


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
