"""The operators on complex numbers, their parts in registers of their own."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.dtypes import BOOL, DType
from ...ir.errors import UnsupportedError
from .math import Math
from .simd import Simd, Vec, component, element, typed

#: Operators that are a function of the C library, there with a c in front.
_LIBM = frozenset({"exp", "log", "sqrt", "sin", "cos", "tanh", "pow"})
_LN2 = 0.6931471805599453


class Complex:
    """Complex operators through a Simd."""

    def __init__(self, simd: Simd, math: Math) -> None:
        self.simd = simd
        self.math = math
        self.b = simd.b

    def apply(self, op: str, args: Sequence[Vec]) -> Vec:
        """The operator's value; the operands have one dtype and one number of lanes."""
        a = args[0]
        of, lanes = element(a.dtype), a.lanes
        if op in ("add", "sub"):
            return self._parts(a, *(self._line("f" + op, of, lanes, *p) for p in _pairs(args)))
        if op in ("neg", "conj"):
            flipped = [self.b.pure(f"fneg {typed(of, lanes)} {part}") for part in a.parts]
            return self._parts(a, a.parts[0] if op == "conj" else flipped[0], flipped[1])
        if op == "round":
            return self._parts(a, *(self.simd.intrinsic("rint", of, lanes, p) for p in a.parts))
        if op == "mul":
            return self._multiply(*args)
        if op == "div":
            return self._divide(*args)
        if op in ("eq", "ne", "lt", "le", "gt", "ge"):
            return Vec(BOOL, (self._compare(op, *args),), lanes)
        if op in ("max", "min"):
            return self._extremum(op, *args)
        if op == "abs":
            return Vec(component(a.dtype), (self._real("hypot", a.dtype, lanes, *a.parts),), lanes)
        if op == "sign":
            return self._sign(a)
        if op == "pow":
            return self._power(*args)
        if op in _LIBM:
            return self._libm("c" + op, args)
        if op in ("exp2", "log1p", "expm1"):
            return self._composed(op, a)
        raise UnsupportedError(f"native code has no {op} of {a.dtype}")

    def multiply_add(self, a: Vec, b: Vec, total: Vec) -> Vec:
        """total + a * b in four fused steps."""
        of, lanes = element(a.dtype), a.lanes
        minus = self.b.pure(f"fneg {typed(of, lanes)} {a.parts[1]}")
        real, imaginary = total.parts
        real = self.simd.intrinsic("fmuladd", of, lanes, a.parts[0], b.parts[0], real)
        real = self.simd.intrinsic("fmuladd", of, lanes, minus, b.parts[1], real)
        imaginary = self.simd.intrinsic("fmuladd", of, lanes, a.parts[0], b.parts[1], imaginary)
        imaginary = self.simd.intrinsic("fmuladd", of, lanes, a.parts[1], b.parts[0], imaginary)
        return self._parts(a, real, imaginary)

    def _parts(self, like: Vec, real: str, imaginary: str) -> Vec:
        return Vec(like.dtype, (real, imaginary), like.lanes)

    def _line(self, op: str, of: str, lanes: int, *operands: str) -> str:
        return self.b.pure(f"{op} {typed(of, lanes)} {', '.join(operands)}")

    def _real(self, name: str, dtype: DType, lanes: int, *values: str) -> str:
        return self.math.libm(name, component(dtype), values, lanes)

    def _number(self, value: float, like: Vec) -> str:
        return self.simd.literal(value, component(like.dtype), like.lanes)

    def _multiply(self, a: Vec, b: Vec) -> Vec:
        of, lanes = element(a.dtype), a.lanes
        (ar, ai), (br, bi) = a.parts, b.parts
        products = [
            self._line("fmul", of, lanes, *p) for p in ((ar, br), (ai, bi), (ar, bi), (ai, br))
        ]
        real = self._line("fsub", of, lanes, products[0], products[1])
        return self._parts(a, real, self._line("fadd", of, lanes, products[2], products[3]))

    def _divide(self, a: Vec, b: Vec) -> Vec:
        """Smith's method, as NumPy: scaled by the larger part of the divisor."""
        of, lanes = element(a.dtype), a.lanes
        fabs = [self.simd.intrinsic("fabs", of, lanes, part) for part in b.parts]
        by_real = self._line("fcmp oge", of, lanes, fabs[0], fabs[1])

        def pick(x: str, y: str) -> str:
            return self.math.choose(of, lanes, by_real, x, y)

        large, small = pick(*b.parts), pick(b.parts[1], b.parts[0])
        ratio = self._line("fdiv", of, lanes, small, large)
        scaled = self._line("fmul", of, lanes, small, ratio)
        whole = self._line("fadd", of, lanes, large, scaled)
        scale = self._line("fdiv", of, lanes, self._number(1.0, a), whole)
        ar, ai = a.parts
        kept, added = pick(ar, ai), self._line("fmul", of, lanes, pick(ai, ar), ratio)
        real = self._line("fmul", of, lanes, self._line("fadd", of, lanes, kept, added), scale)
        # (ai - ar * ratio) * scale, or (ai * ratio - ar) * scale
        first = pick(ai, self._line("fmul", of, lanes, ai, ratio))
        second = pick(self._line("fmul", of, lanes, ar, ratio), ar)
        difference = self._line("fsub", of, lanes, first, second)
        imaginary = self._line("fmul", of, lanes, difference, scale)
        zero = self._number(0.0, a)
        is_zero = [self._line("fcmp oeq", of, lanes, part, zero) for part in fabs]
        by_zero = self._line("and", "i1", lanes, *is_zero)
        plain = [self._line("fdiv", of, lanes, part, fabs[0]) for part in a.parts]
        found = (real, imaginary)
        parts = [
            self.math.choose(of, lanes, by_zero, p, f) for p, f in zip(plain, found, strict=True)
        ]
        return self._parts(a, *parts)

    def _compare(self, op: str, a: Vec, b: Vec) -> str:
        """By the real parts, then the imaginary ones; NaN anywhere compares as NumPy has it."""
        of, lanes = element(a.dtype), a.lanes
        if op in ("eq", "ne"):
            predicate, joint = ("fcmp oeq", "and") if op == "eq" else ("fcmp une", "or")
            both = [self._line(predicate, of, lanes, *pair) for pair in _pairs((a, b))]
            return self._line(joint, "i1", lanes, *both)
        (ar, ai), (br, bi) = a.parts, b.parts
        strict = self._line(f"fcmp o{op[0]}t", of, lanes, ar, br)
        ordered = self._line("fcmp ord", of, lanes, ai, bi)
        equal = self._line("fcmp oeq", of, lanes, ar, br)
        then = self._line(f"fcmp o{op}", of, lanes, ai, bi)
        first = self._line("and", "i1", lanes, strict, ordered)
        return self._line("or", "i1", lanes, first, self._line("and", "i1", lanes, equal, then))

    def _extremum(self, op: str, a: Vec, b: Vec) -> Vec:
        keep = self._compare("ge" if op == "max" else "le", a, b)
        is_nan = self._line("fcmp uno", element(a.dtype), a.lanes, *a.parts)
        return self.simd.choose(self._line("or", "i1", a.lanes, keep, is_nan), a, b)

    def _sign(self, a: Vec) -> Vec:
        """a / |a|; of an infinite part its direction, NaN if both are; 0 of 0."""
        of, lanes = element(a.dtype), a.lanes
        size = self._real("hypot", a.dtype, lanes, *a.parts)
        zero, one, infinity = (self._number(v, a) for v in (0.0, 1.0, float("inf")))
        infinite = self._line("fcmp oeq", of, lanes, size, infinity)
        is_zero = self._line("fcmp oeq", of, lanes, size, zero)
        directions: list[str] = []
        for part in a.parts:
            magnitude = self.simd.intrinsic("fabs", of, lanes, part)
            endless = self._line("fcmp oeq", of, lanes, magnitude, infinity)
            unit = self.simd.intrinsic("copysign", of, lanes, one, part)
            directions.append(self.math.choose(of, lanes, endless, unit, zero))
        both = self._line("fmul", of, lanes, *directions)
        both = self._line("fcmp une", of, lanes, both, zero)
        parts: list[str] = []
        for part, direction in zip(a.parts, directions, strict=True):
            far = self.math.choose(of, lanes, both, self._number(float("nan"), a), direction)
            near = self._line("fdiv", of, lanes, part, size)
            near = self.math.choose(of, lanes, is_zero, zero, near)
            parts.append(self.math.choose(of, lanes, infinite, far, near))
        return self._parts(a, *parts)

    def _power(self, a: Vec, b: Vec) -> Vec:
        """a ** b; anything to the 0 is 1; 0 to b is 0 if the real part is positive, else NaN."""
        of, lanes = element(a.dtype), a.lanes
        zero = self.simd.constant(0, a.dtype, lanes)
        found = self._libm("cpow", (a, b))
        found = self._whole_power(a, b, found)
        defined = self._line("fcmp ogt", of, lanes, b.parts[0], zero.parts[0])
        nan = self.simd.constant(complex("nan+nanj"), a.dtype, lanes)
        of_zero = self.simd.choose(defined, zero, nan)
        found = self.simd.choose(self._compare("eq", a, zero), of_zero, found)
        one = self.simd.constant(1, a.dtype, lanes)
        return self.simd.choose(self._compare("eq", b, zero), one, found)

    def _whole_power(self, a: Vec, b: Vec, otherwise: Vec) -> Vec:
        """a ** b by products for whole numbers below 100, as NumPy, which is what is exact."""
        of, lanes = element(a.dtype), a.lanes
        zero = self.simd.constant(0, a.dtype, lanes)
        exponent, imaginary = b.parts
        size = self.simd.intrinsic("fabs", of, lanes, exponent)
        whole = self.simd.intrinsic("trunc", of, lanes, exponent)
        tests = [
            self._line("fcmp oeq", of, lanes, imaginary, zero.parts[0]),
            self._line("fcmp olt", of, lanes, size, self._number(100.0, a)),
            self._line("fcmp oeq", of, lanes, exponent, whole),
        ]
        small = self._line("and", "i1", lanes, tests[0], tests[1])
        small = self._line("and", "i1", lanes, small, tests[2])
        count = self.simd.choose(small, b, zero)
        name = f"einloom.products.{of}"
        self.simd.declared.setdefault(name, _products(name, of))
        found = self._in_lanes(name, (a, count), wide=of)
        inverse = self._divide(self.simd.constant(1, a.dtype, lanes), found)
        negative = self._line("fcmp olt", of, lanes, exponent, zero.parts[0])
        return self.simd.choose(small, self.simd.choose(negative, inverse, found), otherwise)

    def _composed(self, op: str, a: Vec) -> Vec:
        of, lanes, dtype = element(a.dtype), a.lanes, a.dtype
        real, imaginary = a.parts
        if op == "exp2":
            scaled = [self._line("fmul", of, lanes, p, self._number(_LN2, a)) for p in a.parts]
            return self._libm("cexp", (self._parts(a, *scaled),))
        if op == "log1p":
            above = self._line("fadd", of, lanes, real, self._number(1.0, a))
            size = self._real("hypot", dtype, lanes, above, imaginary)
            angle = self._real("atan2", dtype, lanes, imaginary, above)
            return self._parts(a, self._real("log", dtype, lanes, size), angle)
        half = self._line("fmul", of, lanes, imaginary, self._number(0.5, a))
        sine = self._real("sin", dtype, lanes, half)
        square = self._line("fmul", of, lanes, sine, sine)
        twice = self._line("fadd", of, lanes, square, square)
        grown = self._real("expm1", dtype, lanes, real)
        cosine = self._real("cos", dtype, lanes, imaginary)
        first = self._line("fmul", of, lanes, grown, cosine)
        exponential = self._real("exp", dtype, lanes, real)
        second = self._real("sin", dtype, lanes, imaginary)
        product = self._line("fmul", of, lanes, exponential, second)
        return self._parts(a, self._line("fsub", of, lanes, first, twice), product)

    def _libm(self, name: str, args: Sequence[Vec]) -> Vec:
        """A complex function of the C library, computed in c128, in each lane."""
        pairs = ", ".join(["double, double"] * len(args))
        self.simd.declared[name] = f"declare {{ double, double }} @{name}({pairs})"
        return self._in_lanes(name, args, wide="double")

    def _in_lanes(self, name: str, args: Sequence[Vec], wide: str) -> Vec:
        """A function of single complex numbers whose parts are `wide`, in each lane."""
        a = args[0]
        of, lanes = element(a.dtype), a.lanes
        type = typed(of, lanes)
        helper = f"einloom.lanes.{name}.{of}.{lanes}"
        if helper not in self.simd.declared:
            self.simd.declared[helper] = _loop_over_lanes(helper, name, of, wide, lanes, len(args))
        operands = ", ".join(f"{type} {part}" for arg in args for part in arg.parts)
        both = f"{{ {type}, {type} }}"
        result = self.b.pure(f"call {both} @{helper}({operands})")
        real, imaginary = (self.b.pure(f"extractvalue {both} {result}, {n}") for n in (0, 1))
        return self._parts(a, real, imaginary)


def _pairs(args: Sequence[Vec]) -> list[tuple[str, ...]]:
    return list(zip(*(arg.parts for arg in args), strict=True))


def _products(name: str, of: str) -> str:
    """a ** |n|, n whole, in NumPy's order of products; n is the real part of the second operand."""

    def product(into: str, x: str, y: str) -> str:
        return f"""\
  %{into}.a = fmul {of} %{x}r, %{y}r
  %{into}.b = fmul {of} %{x}i, %{y}i
  %{into}.c = fmul {of} %{x}r, %{y}i
  %{into}.d = fmul {of} %{x}i, %{y}r
  %{into}r = fsub {of} %{into}.a, %{into}.b
  %{into}i = fadd {of} %{into}.c, %{into}.d"""

    def returned(x: str) -> str:
        both = f"{{ {of}, {of} }}"
        return f"""\
  %{x}.s = insertvalue {both} poison, {of} %{x}r, 0
  %{x}.t = insertvalue {both} %{x}.s, {of} %{x}i, 1
  ret {both} %{x}.t"""

    return f"""define internal {{ {of}, {of} }} @{name}({of} %ar, {of} %ai, {of} %nr, {of} %ni) {{
  %n = fptosi {of} %nr to i64
  switch i64 %n, label %many [ i64 1, label %one
                               i64 2, label %two
                               i64 3, label %three ]
one:
{returned("a")}
two:
{product("w", "a", "a")}
{returned("w")}
three:
{product("v", "a", "a")}
{product("u", "a", "v")}
{returned("u")}
many:
  %m = call i64 @llvm.abs.i64(i64 %n, i1 false)
  br label %next
next:
  %tr = phi {of} [1.0, %many], [%kr, %next]
  %ti = phi {of} [0.0, %many], [%ki, %next]
  %pr = phi {of} [%ar, %many], [%qr, %next]
  %pi = phi {of} [%ai, %many], [%qi, %next]
  %e = phi i64 [%m, %many], [%f, %next]
  %odd = trunc i64 %e to i1
{product("x", "t", "p")}
  %kr = select i1 %odd, {of} %xr, {of} %tr
  %ki = select i1 %odd, {of} %xi, {of} %ti
{product("q", "p", "p")}
  %f = lshr i64 %e, 1
  %more = icmp ne i64 %f, 0
  br i1 %more, label %next, label %done
done:
{returned("k")}
}}"""


def _loop_over_lanes(helper: str, name: str, of: str, wide: str, lanes: int, arity: int) -> str:
    type = typed(of, lanes)
    given = range(2 * arity)
    both = f"{{ {type}, {type} }}"
    lines = [f"define internal {both} @{helper}({', '.join(f'{type} %a{n}' for n in given)}) {{"]
    lines += [f"  %p{n} = alloca {type}, align 64" for n in given]
    lines += [f"  store {type} %a{n}, ptr %p{n}, align 64" for n in given]
    lines += ["  br label %lane", "lane:", "  %i = phi i64 [0, %0], [%j, %lane]"]
    for n in given:
        lines.append(f"  %q{n} = getelementptr {of}, ptr %p{n}, i64 %i")
        lines.append(f"  %x{n} = load {of}, ptr %q{n}")
        if of != wide:
            lines.append(f"  %w{n} = fpext {of} %x{n} to {wide}")
    operands = ", ".join(f"{wide} %{'x' if of == wide else 'w'}{n}" for n in given)
    lines.append(f"  %y = call {{ {wide}, {wide} }} @{name}({operands})")
    for n in (0, 1):
        lines.append(f"  %y{n} = extractvalue {{ {wide}, {wide} }} %y, {n}")
        if of != wide:
            lines.append(f"  %z{n} = fptrunc {wide} %y{n} to {of}")
        lines.append(f"  store {of} %{'y' if of == wide else 'z'}{n}, ptr %q{n}")
    lines += [
        "  %j = add i64 %i, 1",
        f"  %more = icmp ult i64 %j, {lanes}",
        "  br i1 %more, label %lane, label %done",
        "done:",
        f"  %r0 = load {type}, ptr %p0, align 64",
        f"  %r1 = load {type}, ptr %p1, align 64",
        f"  %s = insertvalue {both} poison, {type} %r0, 0",
        f"  %t = insertvalue {both} %s, {type} %r1, 1",
        f"  ret {both} %t",
        "}",
    ]
    return "\n".join(lines)
