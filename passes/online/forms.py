"""What a body is apart into: terms of factors, sums of addends, and what is done with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ...ir.einsum import Access, Coordinate, Einsum, Expr, Literal, Map, Reduce, substitute
from ...ir.errors import PassError
from ...ir.ranks import RankExpr

#: What is taken out of a term: expressions in d, each with the power 1 or -1.
Outer: TypeAlias = tuple[tuple[Expr, int], ...]


class NotSeparable(PassError):
    """A body cannot be taken apart; the message says which part, and why."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A term `sign * scale * tensor[...]` of the exponent of a repair, to the base exp or exp2.

    `guarded`: the text itself reads 0 for a maximum of -inf.
    """

    value: Access
    sign: int
    scale: Expr | None = None
    base: str = "exp"
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """One term of a body: `kernel * over(outer) / under(outer)`, with the exponent of its repair.

    `kernel` None is one. `active`: the conditions under which the kernel's exponential counts.
    `exponent`: what the exponentials are of that the shifts are subtracted from.
    """

    kernel: Expr | None
    outer: Outer = ()
    shifts: tuple[Shift, ...] = ()
    active: tuple[Expr, ...] = ()
    exponent: Expr | None = field(default=None, compare=False)

    def times(self, other: Form) -> Form:
        if {shift.base for shift in (*self.shifts, *other.shifts)} == {"exp", "exp2"}:
            raise NotSeparable("exp and exp2 are multiplied, whose repairs are not alike")
        return Form(
            joined("mul", self.kernel, other.kernel),
            (*self.outer, *other.outer),
            (*self.shifts, *other.shifts),
            (*self.active, *other.active),
            joined("add", self.exponent, other.exponent),
        )


@dataclass(frozen=True, slots=True)
class Fold:
    """A reduction over the rank, and the terms that its body is apart in.

    `others` are the variables that it folds beside the rank's. One term that owes nothing is the
    body itself. With `additive` terms, `+` stands for `*`.
    """

    einsum: Einsum
    reduce: Reduce
    others: tuple[str, ...]
    terms: tuple[Form, ...]
    additive: bool

    @property
    def name(self) -> str:
        return self.einsum.name

    @property
    def shifted(self) -> bool:
        """Whether its terms are to be repaired while the loop runs."""
        return any(term.shifts for term in self.terms)

    @property
    def hides(self) -> bool:
        """Whether a guard hides from it what the text does not: -inf less a maximum of -inf."""
        return any(not shift.guarded for term in self.terms for shift in term.shifts)

    @property
    def deferred(self) -> bool:
        """Whether something of it is left for after the loop."""
        return len(self.terms) > 1 or any(term.outer for term in self.terms)


@dataclass(frozen=True, slots=True)
class Sum:
    """The same with `+` for `*`: `kernel + outer`, each of `outer` with its sign.

    Where one of `active` is false, the kernel is -inf.
    """

    kernel: Expr | None
    outer: Outer = ()
    active: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Kernel:
    """What of an intermediate stays in a reduction; `whole`: it owes nothing but repairs."""

    einsum: Einsum
    expr: Expr
    whole: bool


def joined(op: str, first: Expr | None, second: Expr | None) -> Expr | None:
    """One of two operands that may be missing, or both by an operator; a chain stays one."""
    if first is None or second is None:
        return first if second is None else second
    return chained(op, first, second)


def larger(first: Expr | None, second: Expr | None) -> Expr | None:
    """The larger of two exponents that may be missing."""
    if first is None or second is None or first == second:
        return second if first is None else first
    return Map("max", (first, second))


def chained(op: str, first: Expr, second: Expr) -> Expr:
    """Two operands by an operator; a chain of additions or products stays one."""
    chain = isinstance(first, Map) and first.op == op and op in ("add", "mul")
    left = first.args if isinstance(first, Map) and chain else (first,)
    return Map(op, (*left, second))


def at(term: Form, values: Mapping[str, RankExpr]) -> Form:
    """A term at the indices at which its intermediate is read."""
    if not values:
        return term

    def at(expr: Expr) -> Expr:
        return substitute(expr, values)

    return Form(
        None if term.kernel is None else at(term.kernel),
        tuple((at(each), power) for each, power in term.outer),
        tuple(
            replace(
                shift,
                value=shift.value.substitute(values),
                scale=None if shift.scale is None else at(shift.scale),
            )
            for shift in term.shifts
        ),
        tuple(map(at, term.active)),
        None if term.exponent is None else at(term.exponent),
    )


def negated(term: Form) -> Form:
    """The term with a minus sign."""
    return replace(term, outer=(*term.outer, (Literal(-1), 1)))


def plus(one: Sum, other: Sum, sign: int) -> Sum:
    """A sum with another one added, or with the sign -1 subtracted."""
    kernel = one.kernel
    if other.kernel is not None:
        if kernel is None:
            kernel = other.kernel if sign > 0 else Map("neg", (other.kernel,))
        else:
            kernel = Map("add" if sign > 0 else "sub", (kernel, other.kernel))
    outer = (*one.outer, *((term, sign * its) for term, its in other.outer))
    return Sum(kernel, outer, (*one.active, *other.active))


def collected(terms: list[Form]) -> list[Form]:
    """The terms that owe alike as one: `a*d - b*d` is (a - b)*d, and `x*d + x*d` is 2 times x*d.

    Of several terms each owes its number last; that of a term alone is part of its kernel.
    """
    groups: dict[tuple[Form, bool], dict[Expr | None, int]] = {}
    exponents: dict[tuple[Form, bool], Expr | None] = {}
    for term in terms:
        number, owed = _numbered(term)
        key = replace(term, kernel=None, outer=owed), term.kernel is None
        numbers = groups.setdefault(key, {})
        exponents[key] = larger(exponents.get(key), term.exponent)
        numbers[term.kernel] = numbers.get(term.kernel, 0) + number
    made: list[Form] = []
    for key, numbers in groups.items():
        form, _ = key
        (kernel, number), *others = numbers.items()
        if others or (len(groups) == 1 and kernel is not None):
            kernel, number = _added(numbers), 1
        more = () if number == 1 else ((Literal(number), 1),)
        outer = (*form.outer, *more)
        made.append(replace(form, kernel=kernel, outer=outer, exponent=exponents[key]))
    return made


def _added(numbers: Mapping[Expr | None, int]) -> Expr | None:
    """The sum of some kernels, each so many times."""
    total: Expr | None = None
    for kernel, number in numbers.items():
        if total is None or number > 0:
            total = joined("add", total, _times(kernel, number))
        else:
            total = Map("sub", (total, _times(kernel, -number)))
    return total


def _numbered(term: Form) -> tuple[int, Outer]:
    """The whole number that a term has for a factor, and what else it owes."""
    number = 1
    owed: list[tuple[Expr, int]] = []
    for expr, power in term.outer:
        if power > 0 and isinstance(expr, Literal) and type(expr.value) is int:
            number *= expr.value
        else:
            owed.append((expr, power))
    return number, tuple(owed)


def signed(outer: Outer) -> tuple[str, Outer]:
    """How a term is joined to those before it, "add" or "sub", and what it owes then."""
    *owed, (number, power) = outer or ((Literal(1), 1),)
    if not isinstance(number, Literal) or sign_of(number) >= 0:
        return "add", outer
    left = Literal(-number.value)
    return "sub", tuple(owed) if left.value == 1 else (*owed, (left, power))


def _times(kernel: Expr | None, number: int) -> Expr:
    one = Literal(1) if kernel is None else kernel
    if number in (1, -1):
        return one if number > 0 else Map("neg", (one,))
    return Map("mul", (Literal(number), one))


def guarded_value(expr: Expr) -> Access | None:
    """The value d of `select(d == -inf, 0, d)`."""
    if not isinstance(expr, Map) or expr.op != "select":
        return None
    test, zero, value = expr.args
    if not isinstance(value, Access) or not is_zero(zero):
        return None
    nothing = [Map("eq", (value, Literal(sign * float("inf")))) for sign in (1, -1)]
    return value if test in nothing else None


def is_zero(expr: Expr) -> bool:
    """Whether it is the number 0."""
    return isinstance(expr, Literal) and expr.value == 0


def is_infinite(expr: Expr) -> bool:
    """Whether it is the number -inf."""
    return isinstance(expr, Literal) and expr.value == float("-inf")


def sign_of(expr: Expr) -> int:
    """1 if it is surely positive, -1 if surely negative, 0 if that is not known."""
    if isinstance(expr, Literal):
        value = expr.value.real
        return (value > 0) - (value < 0)
    if isinstance(expr, Coordinate):
        return int(expr.name.isupper())
    if isinstance(expr, Map):
        if expr.op in ("exp", "exp2", "sigmoid"):
            return 1
        if expr.op in ("sqrt", "rsqrt", "cast"):
            return sign_of(expr.args[0])
        if expr.op == "neg":
            return -sign_of(expr.args[0])
        if expr.op in ("mul", "div"):
            found = 1
            for arg in expr.args:
                found *= sign_of(arg)
            return found
    return 0
