"""Exponents of bf16: which products are exact by instructions that take tiny numbers for 0.

The instructions that multiply pairs of bf16 take numbers below 2**-126 for 0, operands and sums
(Intel, "Instruction Set Extensions and Future Features", VDPBF16PS, TDPBF16PS). A bf16 of exponent
e is a multiple of 2**(e - 7), so products of exponents d and e are multiples of 2**(d + e - 14),
and so are their sums, however f32 rounds these: where d + e is at least -112 for any two that are
not 0, nothing but 0 is below 2**-126.
"""

from __future__ import annotations

from .simd import Simd, typed

#: The least exponent of a product of bf16, as these have it, each with 127 added.
_LEAST = 2 * 127 - 112

#: The least magnitude of bf16, less one, of none or of zeros alone.
NOTHING = 0x7FFF


def least(simd: Simd, total: str, found: str, of: str, lanes: int) -> str:
    """The least magnitude, less one, which makes 0 the largest: of those before, and of these."""
    type = typed(of, lanes)
    found = simd.b.pure(f"and {type} {found}, {simd.spread(of, str(NOTHING), lanes)}")
    found = simd.b.pure(f"add {type} {found}, {simd.spread(of, '-1', lanes)}")
    return simd.intrinsic("umin", of, lanes, total, found)


def least_of_words(simd: Simd, total: str, words: str, lanes: int) -> str:
    """The same of both halves of words."""
    above = simd.b.pure(f"lshr {typed('i32', lanes)} {words}, {simd.spread('i32', '16', lanes)}")
    return least(simd, least(simd, total, words, "i32", lanes), above, "i32", lanes)


def exponent(simd: Simd, found: str, lanes: int) -> str:
    """That of the least magnitude: 0 for numbers below 2**-126, 256 if there are zeros alone."""
    type = typed("i32", lanes)
    more = simd.b.pure(f"add {type} {found}, {simd.spread('i32', '1', lanes)}")
    return simd.b.pure(f"lshr {type} {more}, {simd.spread('i32', '7', lanes)}")


def normal(simd: Simd, columns: str, rows: str, lanes: int) -> str:
    """Whether nothing that follows from elements of such exponents, or more, is tiny but 0."""
    b, type, mask = simd.b, typed("i32", lanes), typed("i1", lanes)
    total = b.pure(f"add {type} {columns}, {rows}")
    limit = simd.spread("i32", str(_LEAST), lanes)
    found = b.pure(f"icmp uge {type} {total}, {limit}")
    for each in (columns, rows):
        test = b.pure(f"icmp ne {type} {each}, {simd.spread('i32', '0', lanes)}")
        found = b.pure(f"and {mask} {found}, {test}")
    return found
