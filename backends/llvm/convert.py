"""Conversions between dtypes in registers, as NumPy makes them where C defines them.

A float that an integer type cannot hold becomes what x86's vector instructions make of it, as NumPy
does there (C leaves it open): the low bits of a 32-bit integer if it is one, else the least one.
f16 and bf16 round once, to nearest even, from f32 and from f64.
"""

from __future__ import annotations

from ...ir.dtypes import BOOL, F32, F64, U32, U64, DType
from .simd import Simd, Vec, component, element, suffix, typed


class Convert:
    """Conversions through a Simd."""

    def __init__(self, simd: Simd) -> None:
        self.simd = simd
        self.b = simd.b

    def by_value(self, value: Vec, to: DType) -> Vec:
        """The value as another dtype; complex to real keeps the real part."""
        source = value.dtype
        if source == to:
            return value
        if source.kind == "complex":
            real, imaginary = (Vec(component(source), (p,), value.lanes) for p in value.parts)
            if to.kind == "bool":
                a, b = (self.by_value(part, BOOL).only for part in (real, imaginary))
                type = typed("i1", value.lanes)
                return Vec(BOOL, (self.b.pure(f"or {type} {a}, {b}"),), value.lanes)
            if to.kind != "complex":
                return self.by_value(real, to)
            parts = tuple(self.by_value(p, component(to)).only for p in (real, imaginary))
            return Vec(to, parts, value.lanes)
        if to.kind == "complex":
            real = self.by_value(value, component(to))
            zero = self.simd.constant(0, component(to), value.lanes)
            return Vec(to, (real.only, zero.only), value.lanes)
        return Vec(to, (self._real(value, to),), value.lanes)

    def by_bits(self, value: Vec, to: DType) -> Vec:
        """The same bits as another dtype of the same width."""
        source, lanes = value.dtype, value.lanes
        if source == to:
            return value
        if source.kind == "bool":
            value = Vec(to, (self._op("zext", "i1", value.only, "i8", lanes),), lanes)
            return value if to.bits == 8 else self.by_value(value, to)
        if source.kind == "complex" or to.kind == "complex":
            return self._complex_bits(value, to)
        if to.kind == "bool":
            zero = "0" if lanes == 1 else "zeroinitializer"
            nonzero = self.b.pure(f"icmp ne {typed('i8', lanes)} {value.only}, {zero}")
            return Vec(to, (nonzero,), lanes)
        if element(source) == element(to):
            return Vec(to, value.parts, lanes)
        return Vec(
            to, (self._op("bitcast", element(source), value.only, element(to), lanes),), lanes
        )

    def _complex_bits(self, value: Vec, to: DType) -> Vec:
        """Between a complex dtype and f64 / i64 / u64 (or another complex one): through i64."""
        lanes = value.lanes
        if value.dtype.bits != 64 or component(value.dtype) == component(to):
            return Vec(to, value.parts, lanes)
        wide, narrow = typed("i64", lanes), typed("i32", lanes)
        if value.dtype.kind == "complex":
            halves = [
                self._op("zext", "i32", self._op("bitcast", "float", p, "i32", lanes), "i64", lanes)
                for p in value.parts
            ]
            shift = self.simd.spread("i64", "32", lanes)
            high = self.b.pure(f"shl {wide} {halves[1]}, {shift}")
            both = self.b.pure(f"or {wide} {halves[0]}, {high}")
            if element(to) == "i64":
                return Vec(to, (both,), lanes)
            return Vec(to, (self._op("bitcast", "i64", both, element(to), lanes),), lanes)
        bits = value.only
        if element(value.dtype) != "i64":
            bits = self._op("bitcast", element(value.dtype), bits, "i64", lanes)
        parts: list[str] = []
        for amount in ("0", "32"):
            shifted = self.b.pure(f"lshr {wide} {bits}, {self.simd.spread('i64', amount, lanes)}")
            part = self.b.pure(f"trunc {wide} {shifted} to {narrow}")
            parts.append(self._op("bitcast", "i32", part, "float", lanes))
        return Vec(to, tuple(parts), lanes)

    def _op(self, op: str, source: str, value: str, to: str, lanes: int) -> str:
        return self.b.pure(f"{op} {typed(source, lanes)} {value} to {typed(to, lanes)}")

    def _real(self, value: Vec, to: DType) -> str:
        source, lanes, given = value.dtype, value.lanes, value.only
        if source.kind == "float" and source.bits == 16:
            if to.kind == "bool":
                mask = self.simd.spread("i16", "32767", lanes)
                magnitude = self.b.pure(f"and {typed('i16', lanes)} {given}, {mask}")
                return self._nonzero("icmp ne", "i16", magnitude, lanes)
            wide = self._widen_half(value)
            return wide.only if to == F32 else self._real(wide, to)
        if to.kind == "bool":
            compare = "fcmp une" if source.kind == "float" else "icmp ne"
            return self._nonzero(compare, element(source), given, lanes)
        if to.kind == "float" and to.bits == 16:
            if source == F64:
                return self._narrow_half(self._to_odd(value), to)
            return self._narrow_half(self.by_value(value, F32), to)
        if source.kind == "float":
            if to.kind == "float":
                op = "fpext" if to.bits > source.bits else "fptrunc"
                return self._op(op, element(source), given, element(to), lanes)
            return self._to_integer(value, to)
        signed = source.kind == "signed"
        if to.kind == "float":
            op = "sitofp" if signed else "uitofp"
            return self._op(op, element(source), given, element(to), lanes)
        if element(source) == element(to):
            return given
        shrinks = source.kind != "bool" and to.bits < source.bits
        op = "trunc" if shrinks else "sext" if signed else "zext"
        return self._op(op, element(source), given, element(to), lanes)

    def _to_integer(self, value: Vec, to: DType) -> str:
        lanes, of = value.lanes, element(value.dtype)
        wide = "i64" if to.bits == 64 else "i32"
        found = self._truncated(value.only, value.dtype, wide, lanes)
        if to in (U32, U64):
            # What is not below half the range goes through the range that is that much lower.
            half = 1 << (to.bits - 1)
            border = self.simd.literal(float(half), value.dtype, lanes)
            lower = self.b.pure(f"fsub {typed(of, lanes)} {value.only}, {border}")
            high = self._truncated(lower, value.dtype, wide, lanes)
            top = self.simd.spread(wide, str(-half), lanes)
            high = self.b.pure(f"xor {typed(wide, lanes)} {high}, {top}")
            below = self.b.pure(f"fcmp ult {typed(of, lanes)} {value.only}, {border}")
            return self._choose(below, found, high, lanes, wide)
        return found if element(to) == wide else self._op("trunc", wide, found, element(to), lanes)

    def _truncated(self, value: str, source: DType, to: str, lanes: int) -> str:
        """Toward zero; the least integer if it is out of range, or NaN."""
        of = element(source)
        name = f"llvm.fptosi.sat.{suffix(to, lanes)}.{suffix(of, lanes)}"
        found = self.simd.call(typed(to, lanes), name, (typed(of, lanes), value))
        bits = int(to[1:])
        border = self.simd.literal(2.0 ** (bits - 1), source, lanes)
        outside = self.b.pure(f"fcmp uge {typed(of, lanes)} {value}, {border}")
        least = self.simd.spread(to, str(-(1 << (bits - 1))), lanes)
        return self._choose(outside, least, found, lanes, to)

    def _nonzero(self, compare: str, of: str, value: str, lanes: int) -> str:
        zero = "zeroinitializer" if lanes > 1 else "0" if of[0] == "i" else "0.0"
        return self.b.pure(f"{compare} {typed(of, lanes)} {value}, {zero}")

    # ---- f16 and bf16: bits as i16 on one side, f32 on the other

    def _widen_half(self, value: Vec) -> Vec:
        lanes = value.lanes
        if value.dtype.name == "bf16":
            bits = self._op("zext", "i16", value.only, "i32", lanes)
            bits = self._int("shl", bits, 16, lanes)
        elif self.simd.bits > 128:  # AVX2 and AVX-512 come with conversions of f16
            half = self._op("bitcast", "i16", value.only, "half", lanes)
            return Vec(F32, (self._op("fpext", "half", half, "float", lanes),), lanes)
        else:
            bits = self._widen_f16(self._op("zext", "i16", value.only, "i32", lanes), lanes)
        return Vec(F32, (self._op("bitcast", "i32", bits, "float", lanes),), lanes)

    def _narrow_half(self, value: Vec, to: DType) -> str:
        lanes = value.lanes
        if to.name == "f16" and self.simd.bits > 128:
            half = self._op("fptrunc", "float", value.only, "half", lanes)
            return self._op("bitcast", "half", half, "i16", lanes)
        bits = self._op("bitcast", "float", value.only, "i32", lanes)
        narrow = self._narrow_f16 if to.name == "f16" else self._narrow_bf16
        return self._op("trunc", "i32", narrow(bits, lanes), "i16", lanes)

    def _int(self, op: str, value: str, constant: int, lanes: int) -> str:
        operand = self.simd.spread("i32", str(constant), lanes)
        return self.b.pure(f"{op} {typed('i32', lanes)} {value}, {operand}")

    def _choose(self, test: str, a: str, b: str, lanes: int, of: str = "i32") -> str:
        type = typed(of, lanes)
        return self.b.pure(f"select {typed('i1', lanes)} {test}, {type} {a}, {type} {b}")

    def _nearest_even(self, bits: str, dropped: int, lanes: int) -> str:
        """`bits` without its lowest `dropped` bits, rounded to nearest even."""
        odd = self._int("and", self._int("lshr", bits, dropped, lanes), 1, lanes)
        half = self._int("add", bits, (1 << (dropped - 1)) - 1, lanes)
        total = self.b.pure(f"add {typed('i32', lanes)} {half}, {odd}")
        return self._int("lshr", total, dropped, lanes)

    def _narrow_bf16(self, bits: str, lanes: int) -> str:
        magnitude = self._int("and", bits, 0x7FFFFFFF, lanes)
        is_nan = self._int("icmp ugt", magnitude, 0x7F800000, lanes)
        quiet = self._int("or", self._int("lshr", bits, 16, lanes), 0x40, lanes)
        return self._choose(is_nan, quiet, self._nearest_even(bits, 16, lanes), lanes)

    def _narrow_f16(self, bits: str, lanes: int) -> str:
        sign = self._int("and", self._int("lshr", bits, 16, lanes), 0x8000, lanes)
        magnitude = self._int("and", bits, 0x7FFFFFFF, lanes)
        rebased = self._int("sub", magnitude, 112 << 23, lanes)
        normal = self._nearest_even(rebased, 13, lanes)
        # Adding 0.5 moves the last bit of a subnormal f16, 2**-24, to the last place of an f32.
        small = self._op("bitcast", "i32", magnitude, "float", lanes)
        half = self.simd.literal(0.5, F32, lanes)
        moved = self.b.pure(f"fadd {typed('float', lanes)} {small}, {half}")
        subnormal = self._op("bitcast", "float", moved, "i32", lanes)
        subnormal = self._int("sub", subnormal, 0x3F000000, lanes)
        is_small = self._int("icmp ult", magnitude, 0x38800000, lanes)
        found = self._choose(is_small, subnormal, normal, lanes)
        is_large = self._int("icmp uge", magnitude, 0x47800000, lanes)
        found = self._choose(is_large, self.simd.spread("i32", "31744", lanes), found, lanes)
        is_nan = self._int("icmp ugt", magnitude, 0x7F800000, lanes)
        found = self._choose(is_nan, self.simd.spread("i32", "32256", lanes), found, lanes)
        return self.b.pure(f"or {typed('i32', lanes)} {sign}, {found}")

    def _widen_f16(self, bits: str, lanes: int) -> str:
        type = typed("i32", lanes)
        sign = self._int("shl", self._int("and", bits, 0x8000, lanes), 16, lanes)
        moved = self._int("shl", self._int("and", bits, 0x7FFF, lanes), 13, lanes)
        normal = self._int("add", moved, 112 << 23, lanes)
        special = self._int("add", moved, 224 << 23, lanes)
        is_special = self._int("icmp uge", moved, 0x0F800000, lanes)
        raised = self._op(
            "bitcast", "i32", self._int("add", moved, 113 << 23, lanes), "float", lanes
        )
        least = self.simd.literal(2.0**-14, F32, lanes)
        exact = self.b.pure(f"fsub {typed('float', lanes)} {raised}, {least}")
        subnormal = self._op("bitcast", "float", exact, "i32", lanes)
        is_small = self._int("icmp ult", moved, 0x00800000, lanes)
        found = self._choose(is_special, special, normal, lanes)
        return self.b.pure(f"or {type} {sign}, {self._choose(is_small, subnormal, found, lanes)}")

    def _to_odd(self, value: Vec) -> Vec:
        """f64 to f32 rounded to odd, after which rounding once more is as rounding once."""
        lanes = value.lanes
        double, single = typed("double", lanes), typed("float", lanes)
        nearest = self._op("fptrunc", "double", value.only, "float", lanes)
        back = self._op("fpext", "float", nearest, "double", lanes)
        fabs = [self.simd.intrinsic("fabs", "double", lanes, v) for v in (back, value.only)]
        over = self.b.pure(f"fcmp ogt {double} {fabs[0]}, {fabs[1]}")
        inexact = self.b.pure(f"fcmp one {double} {back}, {value.only}")
        bits = self._op("bitcast", "float", nearest, "i32", lanes)
        truncated = self._choose(over, self._int("sub", bits, 1, lanes), bits, lanes)
        odd = self._choose(inexact, self._int("or", truncated, 1, lanes), truncated, lanes)
        found = self.b.pure(f"bitcast {typed('i32', lanes)} {odd} to {single}")
        return Vec(F32, (found,), lanes)
