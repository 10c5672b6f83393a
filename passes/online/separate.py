"""What a reduction's body owes to values that are still being folded: apart, factor by factor.

A reduction S = sum[m] F(x, d) reads other reductions d over the same rank. Apart means

    F(x, d) = k(x, d) * H(d)            H is deferred: it multiplies the sum, once (rule A)
    k(x, d') = k(x, d) * exp(a(d') - a(d))    k is repaired when d moves on to d' (rule B)

with k = exp(x - d) and a = -d the case that matters. Under max, min and logaddexp `+` takes the
place of `*`. A sum of such terms is apart as well, one reduction for each (rule A').

Rule B is for exponentials alone, and only where d is a running maximum that is subtracted (or a
minimum that is added), so that every repair exp(a(d') - a(d)) is at most 1: then no prefix needs an
inverse of 0, and no repair overflows where the sum itself would not. What is not apart is refused
with the reason, never approximated.

Sources: deferral is FuseMax's (arXiv 2406.10491); running repair is that of online softmax
(Milakov and Gimelshein, arXiv 1805.02867) and of Neptune (PLDI 2026); RedFuser (ASPLOS 2026) tests
the same condition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...ir.einsum import (
    Access,
    Expr,
    Literal,
    Map,
    Reduce,
    UserOperator,
)
from ...ir.printer import print_expr
from .addends import Addends, Around
from .forms import (
    Form,
    NotSeparable,
    Shift,
    at,
    collected,
    guarded_value,
    is_zero,
    joined,
    larger,
    negated,
    sign_of,
)


class Separator(Addends):
    """Takes bodies apart, as factors or as addends."""

    def __init__(self, around: Around) -> None:
        super().__init__(around)
        self._factors: dict[str, list[Form]] = {}

    def factors(self, expr: Expr) -> list[Form]:
        """The terms of an expression, each apart as factors.

        Raises:
            NotSeparable: it does not come apart.
        """
        if not self.moves(expr):
            return [Form(self._kept(expr))]
        if not self.walks(expr):
            return [Form(None, ((expr, 1),))]
        if isinstance(expr, Access):
            return self._read_factors(expr)
        if isinstance(expr, Map):
            if isinstance(expr.op, UserOperator):
                return self.factors(expr.op.expand(expr.args))
            handler = self._by_operator().get(expr.op)
            if handler is not None:
                return handler(expr)
        raise self._mixed(expr)

    def _read_factors(self, access: Access) -> list[Form]:
        einsum, expr, values = self._unfolded(access)
        if einsum.name not in self._factors:
            with self.inside_of(einsum.dtype or self._around.dtype(expr)):
                terms = self.factors(expr)
            made: list[Form] = []
            for number, term in enumerate(terms):
                whole = len(terms) == 1 and not term.outer
                kernel = self._kernel(einsum, str(number), term.kernel, whole=whole)
                made.append(replace(term, kernel=kernel))
            self._factors[einsum.name] = made
        return [at(term, values) for term in self._factors[einsum.name]]

    def _by_operator(self) -> dict[str, Callable[[Map], list[Form]]]:
        return {
            "mul": self._product,
            "div": self._quotient,
            "add": self._sum,
            "sub": self._sum,
            "neg": self._negation,
            "pow": self._power,
            "abs": self._absolute,
            "cast": self._cast,
            "select": self._choice,
            "exp": self._exponential,
            "exp2": self._exponential,
        }

    def _product(self, expr: Map) -> list[Form]:
        terms = [Form(None)]
        for arg in expr.args:
            terms = [one.times(other) for one in terms for other in self.factors(arg)]
        return collected(terms)

    def _quotient(self, expr: Map) -> list[Form]:
        over, under = expr.args
        bottom = self.factors(under)
        if len(bottom) > 1 or bottom[0].shifts:
            raise self._mixed(expr)
        (below,) = bottom
        one: Expr = Literal(1)
        found: list[Form] = []
        for term in self.factors(over):
            kernel = term.kernel
            if below.kernel is not None:
                kernel = Map("div", (kernel or one, below.kernel), span=expr.span)
            outer = (*term.outer, *((each, -power) for each, power in below.outer))
            found.append(replace(term, kernel=kernel, outer=outer))
        return found

    def _sum(self, expr: Map) -> list[Form]:
        found: list[Form] = []
        for number, arg in enumerate(expr.args):
            negative = expr.op == "sub" and number > 0
            found += [negated(term) if negative else term for term in self.factors(arg)]
        return collected(found)

    def _negation(self, expr: Map) -> list[Form]:
        return collected([negated(term) for term in self.factors(expr.args[0])])

    def _power(self, expr: Map) -> list[Form]:
        base, exponent = expr.args
        if isinstance(exponent, Literal) and exponent.value in (1, 2, 3, 4):
            return self._product(Map("mul", (base,) * int(exponent.value.real)))
        raise self._mixed(expr)

    def _absolute(self, expr: Map) -> list[Form]:
        """|k * H| = |k| * |H|."""
        terms = self.factors(expr.args[0])
        if len(terms) > 1:
            raise self._mixed(expr)
        (term,) = terms
        kernel = None if term.kernel is None else Map("abs", (term.kernel,))
        outer = tuple((Map("abs", (each,)), power) for each, power in term.outer)
        return [replace(term, kernel=kernel, outer=outer)]

    def _cast(self, expr: Map) -> list[Form]:
        if not self._widens(expr):
            raise self._mixed(expr)
        return [
            term
            if term.kernel is None
            else replace(term, kernel=replace(expr, args=(term.kernel,)))
            for term in self.factors(expr.args[0])
        ]

    def _choice(self, expr: Map) -> list[Form]:
        """A choice between two that owe the same, or between one and zero."""
        condition, first, second = expr.args
        if self.moves(condition):
            raise self._mixed(expr)
        ones, others = self.factors(first), self.factors(second)
        if len(ones) > 1 or len(others) > 1:
            raise self._mixed(expr)
        (one,), (other,) = ones, others
        zero_first, zero_second = is_zero(first), is_zero(second)
        owed = other if zero_first else one
        alike = (one.outer, one.shifts) == (other.outer, other.shifts)
        if not (zero_first or zero_second or alike):
            raise self._mixed(expr)
        given: list[Expr] = [each.kernel or Literal(1) for each in (one, other)]
        kernel = Map("select", (condition, *given), span=expr.span)
        outer, active = owed.outer, owed.active
        if zero_first or zero_second:
            chosen = condition if zero_second else Map("eq", (condition, Literal(False)))
            outer = tuple((self._owed_if(chosen, each), power) for each, power in outer)
            active = (*active, chosen) if owed.shifts else active
        exponent = larger(one.exponent, other.exponent)
        return [Form(kernel, outer, owed.shifts, active, exponent)]

    def _owed_if(self, condition: Expr, owed: Expr) -> Expr:
        """What is owed where a condition holds; one where it holds nowhere.

        A choice of zeros alone is zero, whatever they were not divided by.
        """
        anywhere = condition
        if self.walks(condition):
            anywhere = Reduce("or", (self._around.variable,), condition)
        return Map("select", (anywhere, owed, Literal(1)))

    def _exponential(self, expr: Map) -> list[Form]:
        """exp(x - d + c) = exp(x - d) * exp(c): d stays, to be repaired; c is deferred."""
        op = expr.op
        found = self.addends(expr.args[0], masks=True)
        kept: list[Shift] = []
        rest: list[tuple[Expr, int]] = []
        for term, sign in found.outer:
            shift = self._shift(term, sign, str(op))
            if shift is None:
                rest.append((term, sign))
            else:
                kept.append(shift)
        if not kept or found.kernel is None:
            raise NotSeparable(
                f"`{print_expr(expr)}` would have to be repaired by a factor that may overflow: no "
                "running maximum is subtracted (or minimum added) in it",
                span=expr.span,
                hint="subtract the maximum first, as a stable softmax does",
            )
        exponent = found.kernel
        for shift in kept:
            moved = shift.value if shift.scale is None else Map("mul", (shift.value, shift.scale))
            exponent = Map("sub" if shift.sign < 0 else "add", (exponent, moved))
        outer: list[tuple[Expr, int]] = []
        for term, sign in rest:
            if isinstance(term, Map) and (term.op, op) == ("log", "exp"):
                outer.append((term.args[0], sign))
            else:
                outer.append((Map(op, (term,)), sign))
        kernel = Map(op, (exponent,), span=expr.span)
        return [Form(kernel, tuple(outer), tuple(kept), found.active, found.kernel)]

    def _shift(self, term: Expr, sign: int, base: str) -> Shift | None:
        """The term as what only falls while its value is folded; None if it may rise."""
        scale: Expr | None = None
        while isinstance(term, Map) and term.op in ("mul", "div", "neg"):
            if term.op == "neg":
                term, sign = term.args[0], -sign
                continue
            moving = [arg for arg in term.args if self.moves(arg)]
            others = [arg for arg in term.args if not self.moves(arg)]
            if len(moving) != 1 or (term.op == "div" and moving[0] is not term.args[0]):
                return None
            if any(self.walks(arg) for arg in others):
                return None
            signs = [sign_of(arg) for arg in others]
            if 0 in signs:
                return None
            for each, its in zip(others, signs, strict=True):
                sign *= its
                size: Expr = Map("neg", (each,)) if its < 0 else each
                one: Expr = Literal(1.0)
                if term.op == "div":
                    scale = Map("div", (one if scale is None else scale, size))
                else:
                    scale = joined("mul", scale, size)
            term = moving[0]
        value = guarded_value(term)
        guarded = value is not None
        term = term if value is None else value
        reduction = self._around.folded(term.tensor) if isinstance(term, Access) else None
        if reduction is None or not isinstance(term, Access):
            return None
        rises = {"max": 1, "logaddexp": 1, "min": -1}.get(str(reduction.op), 0)
        return Shift(term, sign, scale, base, guarded) if rises * sign < 0 else None
