"""Exponentials and logarithms of f32 and f64: the same few instructions for a scalar and a vector.

    exp x = 2^n e^t,             n the integer nearest to x / ln 2,  |t| <= ln 2 / 2
    log x = k ln 2 + log(1 + f), x = 2^k (1 + f),                    1 + f in [sqrt 1/2, sqrt 2)
    tanh x = r / (r + 2),        r = e^2x - 1 = 2^n (e^t - 1) + (2^n - 1),              x >= 0

e^t is a polynomial; log(1 + f) is 2 artanh s for s = f / (2 + f), an odd power series in s. The
coefficients make the largest error least on those ranges, so that a value is wrong by less than a
unit in its last place (log1p by 1.5, tanh by 2.5) where multiplications and additions are fused.
ln 2 is taken in two parts, n times the first of which is exact.
(J.-M. Muller, Elementary Functions, 3rd edition, 2016: chapters 3 and 11.)
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.dtypes import DType
from .simd import Simd, element, typed

LN2, _LOG2E = 0.6931471805599453, 1.4426950408889634


@dataclass(frozen=True, slots=True)
class _Format:
    """What differs between the formats of floats."""

    fraction: int  # bits of the fraction that are stored
    bias: int  # of the exponent
    root: int  # the bits of sqrt 1/2
    ln2: tuple[float, float]  # its first bits, and the rest
    exp: tuple[float, ...]  # (e^t - 1 - t) / t^2, from the constant term on
    log: tuple[float, ...]  # (2 artanh s / s - 2) / s^2, in powers of s^2
    range: tuple[float, float]  # e^x is 0 up to the first, inf from the second on


_FORMATS = {
    "f32": _Format(
        23,
        127,
        0x3F3504F3,
        (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cf79abcap-20")),
        (
            *(0.5, 0.16666576666119928, 0.04166655421298415),
            *(0.008363232883682618, 0.0013926250831497611),
        ),
        (0.6666666655404201, 0.4000012221181065, 0.28550778633191964, 0.23331614471843498),
        (-104.0, 89.0),
    ),
    "f64": _Format(
        52,
        1023,
        0x3FE6A09E667F3BCD,
        (float.fromhex("0x1.62e42fefap-1"), float.fromhex("0x1.cf79abc9e3b3ap-40")),
        (
            *(0.5000000000000001, 0.16666666666666669, 0.041666666666623824),
            *(0.008333333333330039, 0.0013888888917367081, 0.00019841269863171557),
            *(2.4801521057868204e-05, 2.7557268276905696e-06, 2.7620201591031547e-07),
            2.5100472505694996e-08,
        ),
        (
            *(0.666666666666667, 0.3999999999989889, 0.28571428626253836, 0.22222211089379496),
            *(0.1818289243253687, 0.15331611722055008, 0.14617807153417325),
        ),
        (-746.0, 710.0),
    ),
}


class Exponential:
    """exp, exp2, log, log1p and tanh of values of one dtype, in one number of lanes."""

    def __init__(self, simd: Simd, dtype: DType, lanes: int) -> None:
        self.simd, self.b = simd, simd.b
        self.dtype, self.lanes = dtype, lanes
        self.format = _FORMATS[dtype.name]
        self.of, self.integer = element(dtype), f"i{dtype.bits}"

    def exp(self, x: str) -> str:
        """e^x."""
        x = self._within(x, *self._range(1.0))
        n, bits, t = self._reduced(x)
        return self._scaled(self._power(t), n, bits)

    def exp2(self, x: str) -> str:
        """2^x."""
        x = self._within(x, *self._range(_LOG2E))
        n, bits = self._nearest(x, 1.0)
        t = self._float("fmul", self._float("fsub", x, n), self._number(LN2))
        return self._scaled(self._power(t), n, bits)

    def log(self, x: str) -> str:
        """The natural logarithm; -inf of 0, NaN below."""
        shift = self.format.fraction + 2
        small = self._compare("olt", x, self._number(2.0 ** (1 - self.format.bias)))
        raised = self._float("fmul", x, self._number(2.0**shift))
        less = self._choose(small, self._number(shift), self._number(0.0))
        found = self._normal_log(self._choose(small, raised, x), less=less)
        return self._of_positive(found, x)

    def log1p(self, x: str) -> str:
        """log(1 + x), without the error of the sum."""
        zero = self._number(0.0)
        total, lost = self._plus_one(x)
        far = self._compare("oge", total, self._number(2.0 ** (self.format.fraction + 2)))
        found = self._normal_log(total, lost=self._choose(far, zero, lost))
        return self._choose(self._compare("oeq", x, zero), x, self._of_positive(found, total))

    def log1p_exp(self, x: str) -> str:
        """log(1 + e^x) for x at most 0."""
        total, lost = self._plus_one(self.exp(x))
        return self._normal_log(total, lost=lost)

    def tanh(self, x: str) -> str:
        """(e^x - e^-x) / (e^x + e^-x)."""
        bias, fraction = self.format.bias, self.format.fraction
        size = self.simd.intrinsic("fabs", self.of, self.lanes, x)
        # From 2^(fraction + 3) on r + 2 is r.
        twice = self._within(self._float("fadd", size, size), 0.0, (fraction + 3) * LN2)
        _, bits, t = self._reduced(twice)
        less_one = self._multiply_add(
            self._float("fmul", t, t), self._polynomial(self.format.exp, t), t
        )
        power = self._value(self._whole("shl", self._whole("add", bits, bias), fraction))
        rest = self._float("fsub", power, self._number(1.0))
        r = self._multiply_add(power, less_one, rest)
        found = self._float("fdiv", r, self._float("fadd", r, self._number(2.0)))
        return self.simd.intrinsic("copysign", self.of, self.lanes, found, x)

    # ---- the parts of an exponential

    def _range(self, factor: float) -> tuple[float, float | None]:
        """Between which numbers, and a little beyond, e^(x / factor) is neither 0 nor inf.

        Above, `scalef` makes inf of whatever is positive, and of NaN times 2^inf; and a polynomial
        for e^t of even degree is positive for any t, however far it is from what it should be.
        """
        least, most = (factor * bound for bound in self.format.range)
        even = len(self.format.exp) % 2 == 1
        return least - 1, None if even and self._has_scalef else most + 1

    @property
    def _has_scalef(self) -> bool:
        return self.simd.bits == 512 == self.lanes * self.dtype.bits

    def _within(self, x: str, least: float, most: float | None) -> str:
        """The nearest number in a range; NaN as it is."""
        for bound, order in ((least, "ogt"), (most, "olt")):
            if bound is not None:
                number = self._number(bound)
                x = self._choose(self._compare(order, number, x), number, x)
        return x

    def _nearest(self, x: str, factor: float) -> tuple[str, str]:
        """The integer nearest to x times a factor, and bits whose low ones are the integer's."""
        magic = self._number(1.5 * 2.0**self.format.fraction)
        sum = self._multiply_add(x, self._number(factor), magic)
        return self._float("fsub", sum, magic), self._bits(sum)

    def _reduced(self, x: str) -> tuple[str, str, str]:
        """n, bits whose low ones are n's, and t."""
        n, bits = self._nearest(x, _LOG2E)
        t = x
        for part in self.format.ln2:
            t = self._multiply_add(n, self._number(-part), t)
        return n, bits, t

    def _power(self, t: str) -> str:
        """e^t, |t| at most ln 2 / 2."""
        return self._polynomial((1.0, 1.0, *self.format.exp), t)

    def _scaled(self, x: str, n: str, bits: str) -> str:
        """x 2^n, rounded once, given `bits` whose low ones are n's."""
        bias, fraction = self.format.bias, self.format.fraction
        if self._has_scalef:
            type = typed(self.of, self.lanes)
            name = f"llvm.x86.avx512.mask.scalef.{'ps' if self.of == 'float' else 'pd'}.512"
            mask = (f"i{max(8, self.lanes)}", "-1")
            given = ((type, x), (type, n), (type, "zeroinitializer"), mask, ("i32", "4"))
            return self.simd.call(type, name, *given)
        # In two steps, of which the first is exact: 2^n itself may be out of range.
        magic = 3 << (fraction - 1) | (bias + fraction) << fraction
        twice = self._whole("sub", bits, magic - 2 * bias)
        first = self._whole("lshr", twice, 1)
        for exponent in (first, self._whole("sub", twice, first)):
            x = self._float("fmul", x, self._value(self._whole("shl", exponent, fraction)))
        return x

    # ---- the parts of a logarithm

    def _plus_one(self, x: str) -> tuple[str, str]:
        """1 + x as the nearest float, and what that lacks, for x not much below 0."""
        one = self._number(1.0)
        total = self._float("fadd", x, one)
        return total, self._float("fsub", x, self._float("fsub", total, one))

    def _of_positive(self, found: str, x: str) -> str:
        """A logarithm `found` for x that are finite and above 0, and the right one for others."""
        zero, endless = self._number(0.0), self._number(float("inf"))
        found = self._choose(self._compare("olt", x, endless), found, x)
        found = self._choose(self._compare("oeq", x, zero), self._number(float("-inf")), found)
        return self._choose(self._compare("olt", x, zero), self._number(float("nan")), found)

    def _normal_log(self, x: str, lost: str | None = None, less: str | None = None) -> str:
        """log(x + lost) - less ln 2, for x finite, above 0 and not subnormal."""
        bias, fraction = self.format.bias, self.format.fraction
        bits = self._bits(x)
        raised = self._whole("add", bits, (bias << fraction) - self.format.root)
        biased = self._whole("lshr", raised, fraction)  # k + bias
        power = self._whole("shl", biased, fraction)
        mantissa = self._whole("add", self._whole("sub", bits, power), bias << fraction)
        f = self._float("fsub", self._value(mantissa), self._number(1.0))
        if lost is not None:
            # 2^(1 - k): 2^-k would be subnormal for the largest x.
            shrink = self._whole("sub", self._splat((2 * bias + 1) << fraction), power)
            shrink = self._float("fmul", self._value(shrink), self._number(0.5))
            f = self._multiply_add(lost, shrink, f)
        # The integer as the last bits of a large float is a float, less that one.
        large = self._value(self._whole("or", biased, (bias + fraction) << fraction))
        k = self._float("fsub", large, self._number(2.0**fraction + bias))
        if less is not None:
            k = self._float("fsub", k, less)
        s = self._float("fdiv", f, self._float("fadd", f, self._number(2.0)))
        square = self._float("fmul", s, s)
        rest = self._float("fmul", square, self._polynomial(self.format.log, square))
        half = self._float("fmul", self._float("fmul", f, self._number(0.5)), f)
        # 2 s = f - s f, and s f = f^2/2 - s f^2/2: the largest term is exact.
        high, low = (self._number(part) for part in self.format.ln2)
        tail = self._float("fmul", k, low)
        tail = self._multiply_add(s, self._float("fadd", half, rest), tail)
        tail = self._float("fsub", self._float("fsub", half, tail), f)
        return self._float("fsub", self._float("fmul", k, high), tail)

    # ---- pieces of text

    def _polynomial(self, coefficients: tuple[float, ...], x: str) -> str:
        found = self._number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            found = self._multiply_add(found, x, self._number(coefficient))
        return found

    def _number(self, value: float) -> str:
        return self.simd.literal(value, self.dtype, self.lanes)

    def _splat(self, value: int) -> str:
        return self.simd.spread(self.integer, str(value), self.lanes)

    def _float(self, op: str, a: str, b: str) -> str:
        return self.b.pure(f"{op} {typed(self.of, self.lanes)} {a}, {b}")

    def _multiply_add(self, a: str, b: str, c: str) -> str:
        return self.simd.intrinsic("fmuladd", self.of, self.lanes, a, b, c)

    def _whole(self, op: str, a: str, b: str | int) -> str:
        b = self._splat(b) if isinstance(b, int) else b
        return self.b.pure(f"{op} {typed(self.integer, self.lanes)} {a}, {b}")

    def _compare(self, order: str, a: str, b: str) -> str:
        return self.b.pure(f"fcmp {order} {typed(self.of, self.lanes)} {a}, {b}")

    def _choose(self, test: str, a: str, b: str) -> str:
        type = typed(self.of, self.lanes)
        return self.b.pure(f"select {typed('i1', self.lanes)} {test}, {type} {a}, {type} {b}")

    def _bits(self, x: str) -> str:
        of, to = typed(self.of, self.lanes), typed(self.integer, self.lanes)
        return self.b.pure(f"bitcast {of} {x} to {to}")

    def _value(self, bits: str) -> str:
        of, to = typed(self.integer, self.lanes), typed(self.of, self.lanes)
        return self.b.pure(f"bitcast {of} {bits} to {to}")
