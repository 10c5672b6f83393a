"""The operators on bool, integers and floats in registers; defined for every operand.

Each is what its formula in ir/operators.py makes of the same values: integers wrap, division by
zero gives 0, a shift by the width or more shifts everything out, maxima and minima hand NaN on.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.dtypes import DType
from ...ir.loop_nodes import apply_dtype
from .complex import Complex
from .division import divided, pays
from .math import Math
from .simd import Simd, Vec, element, typed

_ORDER = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_BOOL = {"and": "and", "mul": "and", "min": "and", "or": "or", "add": "or", "max": "or"}
_SAME = frozenset({"conj", "floor", "ceil", "round"})


class Arithmetic:
    """Operators through a Simd."""

    def __init__(self, simd: Simd) -> None:
        self.simd = simd
        self.b = simd.b
        self.math = Math(simd)
        self.complex = Complex(simd, self.math)

    def apply(self, op: str, args: Sequence[Vec]) -> Vec:
        """The operator's value on operands of the types that it computes in."""
        if op == "select":
            return self._select(*args)
        if len(args) > 2:
            first = self.apply(op, args[:2])
            return self.apply(op, (first, *args[2:]))
        lanes = max(arg.lanes for arg in args)
        if op == "div" and pays(self.simd, args[1], lanes):
            return divided(self.simd, self.simd.splat(args[0], lanes), args[1])
        args = [self.simd.splat(arg, lanes) for arg in args]
        kind = args[0].dtype.kind
        if kind == "complex":
            return self.complex.apply(op, args)
        if op in _ORDER:
            return self._compare(op, *args)
        values = [arg.only for arg in args]
        dtype = apply_dtype(op, tuple(arg.dtype for arg in args))
        if kind == "bool":
            found = self._bool(op, values, lanes)
        elif kind == "float":
            found = self._float(op, args[0].dtype, values, lanes)
        else:
            found = self._integer(op, args[0].dtype, values, lanes)
        return Vec(dtype, (found,), lanes)

    def multiply_add(self, factors: Sequence[Vec], total: Vec) -> Vec:
        """total + product of the factors; of floats, the last product is not rounded by itself."""
        product = factors[0] if len(factors) == 2 else self.apply("mul", factors[:-1])
        last = factors[-1]
        if total.dtype.kind not in ("float", "complex"):
            return self.apply("add", (total, self.apply("mul", (product, last))))
        lanes = max(v.lanes for v in (product, last, total))
        product, last, total = (self.simd.splat(v, lanes) for v in (product, last, total))
        of = element(total.dtype)
        if total.dtype.kind == "float":
            given = (product.only, last.only, total.only)
            return Vec(total.dtype, (self.simd.intrinsic("fmuladd", of, lanes, *given),), lanes)
        return self.complex.multiply_add(product, last, total)

    def _select(self, test: Vec, a: Vec, b: Vec) -> Vec:
        lanes = max(v.lanes for v in (test, a, b))
        a, b = self.simd.splat(a, lanes), self.simd.splat(b, lanes)
        if test.lanes == 1 and lanes > 1:
            type = typed(element(a.dtype), lanes)
            parts = tuple(
                self.b.pure(f"select i1 {test.only}, {type} {x}, {type} {y}")
                for x, y in zip(a.parts, b.parts, strict=True)
            )
            return Vec(a.dtype, parts, lanes)
        return self.simd.choose(test.only, a, b)

    def _compare(self, op: str, a: Vec, b: Vec) -> Vec:
        lanes, of = a.lanes, element(a.dtype)
        dtype = apply_dtype(op, (a.dtype,))
        if a.dtype.kind == "float":
            predicate = "une" if op == "ne" else "o" + op
            return Vec(dtype, (self._line(f"fcmp {predicate}", of, lanes, a.only, b.only),), lanes)
        signed = "s" if a.dtype.kind == "signed" else "u"
        predicate = op if op in ("eq", "ne") else signed + op
        found = self._line(f"icmp {predicate}", of, lanes, a.only, b.only)
        if a.dtype.kind == b.dtype.kind:
            return Vec(dtype, (found,), lanes)
        # Of different signs (i64 beside u64): a negative one is less than any unsigned one.
        predicate = op if op in ("eq", "ne") else "u" + op
        found = self._line(f"icmp {predicate}", of, lanes, a.only, b.only)
        signed_one = a.only if a.dtype.kind == "signed" else b.only
        below = self._line("icmp slt", of, lanes, signed_one, self._number(0, a.dtype, lanes))
        less = op in ("ne", "lt", "le") if a.dtype.kind == "signed" else op in ("ne", "gt", "ge")
        answer = self.simd.spread("i1", "true" if less else "false", lanes)
        return Vec(dtype, (self._choose("i1", lanes, below, answer, found),), lanes)

    # ---- pieces of text

    def _line(self, op: str, of: str, lanes: int, a: str, b: str) -> str:
        return self.b.pure(f"{op} {typed(of, lanes)} {a}, {b}")

    def _choose(self, of: str, lanes: int, test: str, a: str, b: str) -> str:
        type = typed(of, lanes)
        return self.b.pure(f"select {typed('i1', lanes)} {test}, {type} {a}, {type} {b}")

    def _number(self, value: float, dtype: DType, lanes: int) -> str:
        return self.simd.constant(value, dtype, lanes).only

    # ---- bool

    def _bool(self, op: str, values: list[str], lanes: int) -> str:
        if op == "abs" or op in _SAME:
            return values[0]
        if op == "invert":
            return self._line("xor", "i1", lanes, values[0], self.simd.spread("i1", "true", lanes))
        return self._line(_BOOL.get(op, op), "i1", lanes, *values)

    # ---- integers

    def _integer(self, op: str, dtype: DType, values: list[str], lanes: int) -> str:
        of, signed = element(dtype), dtype.kind == "signed"
        if op in ("add", "sub", "mul", "and", "or", "xor"):
            return self._line(op, of, lanes, *values)
        zero = self._number(0, dtype, lanes)
        if op in ("max", "min"):
            return self.simd.intrinsic(f"{'s' if signed else 'u'}{op}", of, lanes, *values)
        if op == "neg":
            return self._line("sub", of, lanes, zero, values[0])
        if op == "invert":
            ones = self.simd.spread(of, "-1", lanes)
            return self._line("xor", of, lanes, values[0], ones)
        if op in _SAME or (op == "abs" and not signed):
            return values[0]
        if op == "abs":
            negative = self._line("icmp slt", of, lanes, values[0], zero)
            negated = self._line("sub", of, lanes, zero, values[0])
            return self._choose(of, lanes, negative, negated, values[0])
        if op == "sign":
            one = self._number(1, dtype, lanes)
            above = self._line(f"icmp {'s' if signed else 'u'}gt", of, lanes, values[0], zero)
            found = self._choose(of, lanes, above, one, zero)
            if not signed:
                return found
            below = self._line("icmp slt", of, lanes, values[0], zero)
            return self._choose(of, lanes, below, self._number(-1, dtype, lanes), found)
        if op in ("shl", "shr"):
            return self._shift(op, dtype, values, lanes)
        if op in ("floordiv", "mod"):
            return self._divide(op, dtype, values, lanes)
        return self.math.integer_power(dtype, values, lanes)

    def _shift(self, op: str, dtype: DType, values: list[str], lanes: int) -> str:
        of, (value, amount) = element(dtype), values
        width = self._number(dtype.bits, dtype, lanes)
        zero = self._number(0, dtype, lanes)
        inside = self._line("icmp ult", of, lanes, amount, width)
        safe = self._choose(of, lanes, inside, amount, zero)
        arithmetic = op == "shr" and dtype.kind == "signed"
        name = "shl" if op == "shl" else "ashr" if arithmetic else "lshr"
        shifted = self._line(name, of, lanes, value, safe)
        gone = zero
        if arithmetic:
            gone = self._line("ashr", of, lanes, value, self._number(dtype.bits - 1, dtype, lanes))
        return self._choose(of, lanes, inside, shifted, gone)

    def _divide(self, op: str, dtype: DType, values: list[str], lanes: int) -> str:
        """Floor division and its remainder; by 0 both are 0, and the least number by -1 wraps."""
        of, (a, b) = element(dtype), values
        zero, one = self._number(0, dtype, lanes), self._number(1, dtype, lanes)
        by_zero = self._line("icmp eq", of, lanes, b, zero)
        if dtype.kind == "unsigned":
            safe = self._choose(of, lanes, by_zero, one, b)
            quotient = self._line("udiv", of, lanes, a, safe)
            remainder = self._line(
                "sub", of, lanes, a, self._line("mul", of, lanes, quotient, safe)
            )
            found = quotient if op == "floordiv" else remainder
            return self._choose(of, lanes, by_zero, zero, found)
        least = self._number(-(1 << (dtype.bits - 1)), dtype, lanes)
        at_least = self._line("icmp eq", of, lanes, a, least)
        by_minus_one = self._line("icmp eq", of, lanes, b, self._number(-1, dtype, lanes))
        overflows = self._line("and", "i1", lanes, at_least, by_minus_one)
        unsafe = self._line("or", "i1", lanes, by_zero, overflows)
        safe = self._choose(of, lanes, unsafe, one, b)
        quotient = self._line("sdiv", of, lanes, a, safe)
        remainder = self._line("sub", of, lanes, a, self._line("mul", of, lanes, quotient, safe))
        rest = self._line("icmp ne", of, lanes, remainder, zero)
        apart = self._line("icmp slt", of, lanes, self._line("xor", of, lanes, remainder, b), zero)
        down = self._line("and", "i1", lanes, rest, apart)
        if op == "floordiv":
            lower = self._line("sub", of, lanes, quotient, one)
            found = self._choose(of, lanes, down, lower, quotient)
        else:
            raised = self._line("add", of, lanes, remainder, b)
            found = self._choose(of, lanes, down, raised, remainder)
        return self._choose(of, lanes, by_zero, zero, found)

    # ---- floats

    def _float(self, op: str, dtype: DType, values: list[str], lanes: int) -> str:
        of = element(dtype)
        if op in ("add", "sub", "mul", "div"):
            return self._line("f" + op, of, lanes, *values)
        if op in ("max", "min"):
            return self.math.extremum(op, dtype, values, lanes)
        if op == "neg":
            return self.b.pure(f"fneg {typed(of, lanes)} {values[0]}")
        if op == "conj":
            return values[0]
        if op in ("sqrt", "floor", "ceil"):
            return self.simd.intrinsic(op, of, lanes, *values)
        if op in ("abs", "round"):
            return self.simd.intrinsic({"abs": "fabs", "round": "rint"}[op], of, lanes, *values)
        if op == "sign":
            zero = self._number(0, dtype, lanes)
            above = self._line("fcmp ogt", of, lanes, values[0], zero)
            below = self._line("fcmp olt", of, lanes, values[0], zero)
            # What is neither is 0 of either sign, which NumPy makes 0.0, or NaN.
            rest = self._line("fadd", of, lanes, values[0], zero)
            found = self._choose(of, lanes, below, self._number(-1, dtype, lanes), rest)
            return self._choose(of, lanes, above, self._number(1, dtype, lanes), found)
        if op in ("floordiv", "mod"):
            return self.math.divide(op, dtype, values, lanes)
        return self.math.function(op, dtype, values, lanes)
