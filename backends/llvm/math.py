"""Functions of real numbers: exponentials and logarithms as instructions, others by the C library.

A function of the C library on a vector is a small loop over its lanes, written once in the module.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.dtypes import DType
from ...ir.errors import UnsupportedError
from .exponential import LN2, Exponential
from .simd import Simd, element, typed

#: Operators that are one function of the C library.
_LIBM = frozenset({"expm1", "sin", "cos", "erf", "pow"})

_EXPONENTIAL = {
    "exp": Exponential.exp,
    "exp2": Exponential.exp2,
    "log": Exponential.log,
    "log1p": Exponential.log1p,
    "tanh": Exponential.tanh,
}


class Math:
    """Real functions through a Simd."""

    def __init__(self, simd: Simd) -> None:
        self.simd = simd
        self.b = simd.b

    def function(self, op: str, dtype: DType, values: Sequence[str], lanes: int) -> str:
        """The value of an operator that is neither arithmetic nor exact."""
        if op == "logaddexp":
            return self._logaddexp(dtype, *values, lanes=lanes)
        if op in _EXPONENTIAL:
            return _EXPONENTIAL[op](Exponential(self.simd, dtype, lanes), *values)
        if op not in _LIBM:
            raise UnsupportedError(f"native code has no {op} of {dtype}")
        return self.libm(op, dtype, values, lanes)

    def libm(self, name: str, dtype: DType, values: Sequence[str], lanes: int) -> str:
        """A function of the C library, of f32 or f64, in each lane."""
        of = element(dtype)
        if of == "float":
            name += "f"
        if lanes == 1:
            return self.simd.call(of, name, *((of, value) for value in values))
        self.simd.declared[name] = f"declare {of} @{name}({', '.join([of] * len(values))})"
        return self.in_lanes(name, of, values, lanes)

    def in_lanes(self, name: str, of: str, values: Sequence[str], lanes: int) -> str:
        """A scalar function whose operands and value have one type, in each lane."""
        helper, type = f"einloom.{name}.{lanes}", typed(of, lanes)
        if helper not in self.simd.declared:
            self.simd.declared[helper] = _loop_over_lanes(helper, name, of, lanes, len(values))
        operands = ", ".join(f"{type} {value}" for value in values)
        return self.b.pure(f"call {type} @{helper}({operands})")

    def _line(self, op: str, of: str, lanes: int, *operands: str) -> str:
        return self.b.pure(f"{op} {typed(of, lanes)} {', '.join(operands)}")

    def choose(self, of: str, lanes: int, test: str, a: str, b: str) -> str:
        """`a` where the test holds, else `b`."""
        type = typed(of, lanes)
        return self.b.pure(f"select {typed('i1', lanes)} {test}, {type} {a}, {type} {b}")

    def extremum(self, op: str, dtype: DType, values: Sequence[str], lanes: int) -> str:
        """The larger or smaller; NaN if either is."""
        of, (a, b) = element(dtype), values
        better = self._line(f"fcmp {'ogt' if op == 'max' else 'olt'}", of, lanes, a, b)
        found = self.choose(of, lanes, better, a, b)  # b if either is NaN: one instruction on x86
        is_nan = self._line("fcmp uno", of, lanes, a, a)
        return self.choose(of, lanes, is_nan, a, found)

    def _logaddexp(self, dtype: DType, a: str, b: str, *, lanes: int) -> str:
        """max + log1p(exp(-|a - b|)); equal operands, infinite ones too, add ln 2."""
        of = element(dtype)
        difference = self._line("fsub", of, lanes, a, b)
        distance = self.simd.intrinsic("fabs", of, lanes, difference)
        negated = self.b.pure(f"fneg {typed(of, lanes)} {distance}")
        rest = Exponential(self.simd, dtype, lanes).log1p_exp(negated)
        larger = self.extremum("max", dtype, (a, b), lanes)
        total = self._line("fadd", of, lanes, larger, rest)
        equal = self._line("fcmp oeq", of, lanes, a, b)
        doubled = self._line("fadd", of, lanes, a, self.simd.literal(LN2, dtype, lanes))
        return self.choose(of, lanes, equal, doubled, total)

    def divide(self, op: str, dtype: DType, values: Sequence[str], lanes: int) -> str:
        """Floor division of floats, or its remainder, which has the divisor's sign; as NumPy's."""
        of, (a, b) = element(dtype), values
        zero, one = self.simd.literal(0.0, dtype, lanes), self.simd.literal(1.0, dtype, lanes)
        rest = self.libm("fmod", dtype, values, lanes)
        b_negative = self._line("fcmp olt", of, lanes, b, zero)
        rest_negative = self._line("fcmp olt", of, lanes, rest, zero)
        apart = self._line("xor", "i1", lanes, b_negative, rest_negative)
        uneven = self._line("fcmp une", of, lanes, rest, zero)
        down = self._line("and", "i1", lanes, uneven, apart)
        if op == "mod":
            raised = self._line("fadd", of, lanes, rest, b)
            found = self.choose(of, lanes, down, raised, rest)
            none = self.simd.intrinsic("copysign", of, lanes, zero, b)
            return self.choose(of, lanes, uneven, found, none)
        ratio = self._line("fdiv", of, lanes, a, b)
        whole = self._line("fdiv", of, lanes, self._line("fsub", of, lanes, a, rest), b)
        lower = self._line("fsub", of, lanes, whole, one)
        whole = self.choose(of, lanes, down, lower, whole)
        floor = self.simd.intrinsic("floor", of, lanes, whole)
        excess = self._line("fsub", of, lanes, whole, floor)
        half = self.simd.literal(0.5, dtype, lanes)
        rounds_up = self._line("fcmp ogt", of, lanes, excess, half)
        upper = self._line("fadd", of, lanes, floor, one)
        found = self.choose(of, lanes, rounds_up, upper, floor)
        none = self.simd.intrinsic("copysign", of, lanes, zero, ratio)
        is_zero = self._line("fcmp oeq", of, lanes, whole, zero)
        found = self.choose(of, lanes, is_zero, none, found)
        by_zero = self._line("fcmp oeq", of, lanes, b, zero)
        return self.choose(of, lanes, by_zero, ratio, found)

    def integer_power(self, dtype: DType, values: Sequence[str], lanes: int) -> str:
        """base ** exponent, wrapping; what is left of 1 / base ** -exponent if that is negative."""
        of = element(dtype)
        name = f"einloom.pow.{dtype}"
        signed = dtype.kind == "signed"
        self.simd.declared.setdefault(name, _integer_power(name, of, signed))
        if lanes == 1:
            return self.b.pure(f"call {of} @{name}({of} {values[0]}, {of} {values[1]})")
        return self.in_lanes(name, of, values, lanes)


def _loop_over_lanes(helper: str, name: str, of: str, lanes: int, arity: int) -> str:
    type = typed(of, lanes)
    given = range(arity)
    lines = [f"define internal {type} @{helper}({', '.join(f'{type} %a{n}' for n in given)}) {{"]
    lines += [f"  %p{n} = alloca {type}, align 64" for n in given]
    lines += [f"  store {type} %a{n}, ptr %p{n}, align 64" for n in given]
    lines += ["  br label %lane", "lane:", "  %i = phi i64 [0, %0], [%j, %lane]"]
    for n in given:
        lines.append(f"  %q{n} = getelementptr {of}, ptr %p{n}, i64 %i")
        lines.append(f"  %x{n} = load {of}, ptr %q{n}")
    operands = ", ".join(f"{of} %x{n}" for n in given)
    lines += [
        f"  %y = call {of} @{name}({operands})",
        f"  store {of} %y, ptr %q0",
        "  %j = add i64 %i, 1",
        f"  %more = icmp ult i64 %j, {lanes}",
        "  br i1 %more, label %lane, label %done",
        "done:",
        f"  %r = load {type}, ptr %p0, align 64",
        f"  ret {type} %r",
        "}",
    ]
    return "\n".join(lines)


def _integer_power(name: str, of: str, signed: bool) -> str:
    negative = f"icmp slt {of} %n, 0" if signed else "icmp eq i1 true, false"
    return f"""define internal {of} @{name}({of} %x, {of} %n) {{
  %negative = {negative}
  br i1 %negative, label %quotient, label %begin
quotient:
  %is_one = icmp eq {of} %x, 1
  %is_minus_one = icmp eq {of} %x, -1
  %flips = trunc {of} %n to i1
  %alone = select i1 %flips, {of} -1, {of} 1
  %whole = select i1 %is_minus_one, {of} %alone, {of} 0
  %q = select i1 %is_one, {of} 1, {of} %whole
  ret {of} %q
begin:
  br label %next
next:
  %r = phi {of} [1, %begin], [%r1, %next]
  %b = phi {of} [%x, %begin], [%b1, %next]
  %e = phi {of} [%n, %begin], [%e1, %next]
  %odd = trunc {of} %e to i1
  %rb = mul {of} %r, %b
  %r1 = select i1 %odd, {of} %rb, {of} %r
  %b1 = mul {of} %b, %b
  %e1 = lshr {of} %e, 1
  %more = icmp ne {of} %e1, 0
  br i1 %more, label %next, label %done
done:
  ret {of} %r1
}}"""
