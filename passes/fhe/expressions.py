"""Encrypted expressions as sums of products, and those as steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...ir.einsum import (
    Access,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    UserOperator,
    accesses,
    free_variables,
    walk,
)
from ...ir.errors import ArgumentError, UnsupportedError
from ...ir.interpreter import evaluate_einsum
from ...ir.operators import OPERATORS
from ...ir.ranks import RankExpr
from ...ir.source import Span
from .approximate import Approximated, Approximation, approximable, approximated
from .steps import Product
from .terms import (
    Form,
    Term,
    collected,
    constant,
    distributed,
    plain_product,
    scaled,
    variable_of,
)
from .writer import Writer

#: What to do where no polynomial is made for what is refused.
_INSTEAD = (
    "encrypted numbers are added and multiplied, functions of one value and max(a, b) or min(a, b) "
    "can be approximated: write it with those, or decrypt first"
)
#: The largest exponent of what is encrypted.
_MOST_POWER = 1023


class Expressions:
    """Brings the right side of one encrypted Einsum after another to sums of products."""

    def __init__(self, writer: Writer, approximate: Mapping[str, Approximation]) -> None:
        self.approximated: list[Approximated] = []
        self._used: set[str] = set()
        self._writer, self._approximate = writer, approximate

    @property
    def _einsum(self) -> str:
        return self._writer.einsum

    @property
    def _span(self) -> Span | None:
        return self._writer.span

    def check_used(self, einsums: Sequence[Einsum]) -> None:
        """Every approximation that is asked for stands for something in these Einsums.

        Raises:
            ArgumentError: one does not.
        """
        unused = [name for name in self._approximate if name not in self._used]
        if not unused:
            return
        left = [each.expr for each in einsums if each.name not in self._approximate]
        clear = {node.op for expr in left for node in walk(expr) if isinstance(node, Map)}
        of = {name: "a divisor" if name == "div" else "what it is of" for name in unused}
        raise ArgumentError(
            f"nothing encrypted uses the approximation of {' or '.join(unused)}",
            deduced=tuple(
                f"{name}: {what} is plain, and it is computed in the clear, exactly"
                for name, what in of.items()
                if name in clear
            ),
            passed=tuple(f"{name} {self._approximate[name]}" for name in unused),
            hint="leave it out; one of a tensor's name goes before one of a function's",
        )

    def write(self, einsum: Einsum) -> None:
        """The steps of one Einsum."""
        self._writer.begin(einsum)
        variables = einsum.free
        form = self._filtered(einsum)
        whole = einsum.output.plain
        if whole is not None and len(set(whole)) == len(whole):
            self._writer.define(einsum.output, form)
            return
        inner = self._writer.named(form, variables)  # a diagonal
        self._writer.steps.append(Product(self._einsum, einsum.output, (inner,), 1, self._span))

    def _filtered(self, einsum: Einsum) -> Form:
        if einsum.where is None:
            return self._form(einsum.expr)
        self._in_the_clear(einsum.where, "the filter")
        mask = Map("select", (einsum.where, Literal(1.0), Literal(0.0)))
        inside = self._times([self._form(einsum.body), self._form(mask)])
        otherwise = 0 if einsum.otherwise is None else einsum.otherwise.value
        if einsum.reduced:
            if otherwise != 0:
                raise UnsupportedError(
                    f"{einsum.name} is {otherwise} where nothing is left to sum",
                    span=einsum.span,
                    hint="leave out the else, or put it in an Einsum of its own",
                )
            return self._summed(inside, einsum.reduced)
        outside = Map("select", (einsum.where, Literal(0.0), Literal(otherwise)))
        return collected((*inside, *(self._form(outside) if otherwise != 0 else ())))

    # ---- what is encrypted, and what is not

    def _secret(self, expr: Expr) -> bool:
        return any(access.tensor in self._writer.hidden for access in accesses(expr))

    def _in_the_clear(self, expr: Expr, what: str) -> None:
        if self._secret(expr):
            raise UnsupportedError(
                f"{what} of {self._einsum} depends on what is encrypted: CKKS has no comparison "
                "and no choice",
                span=getattr(expr, "span", None) or self._span,
                hint="write it with a polynomial, or decrypt first",
            )

    def _number(self, expr: Expr) -> complex | None:
        """The number that an expression of numbers and sizes is."""
        if free_variables(expr) or any(True for _ in accesses(expr)):
            return None
        with np.errstate(all="ignore"):
            value = evaluate_einsum(Einsum(Access("number"), expr), {}, self._writer.extents, {})
        found: complex = value.item() * 1.0
        if not np.isfinite(found):
            raise UnsupportedError(
                f"{self._einsum} has the number {found}: slots hold finite numbers",
                span=getattr(expr, "span", None) or self._span,
            )
        return found

    # ---- expressions

    def _form(self, expr: Expr) -> Form:
        """The expression as a sum of products."""
        if not self._secret(expr):
            number = self._number(expr)
            if number is None:
                return (Term(1, (), (expr,)),)
            return (Term(number),) if number != 0 else ()
        if isinstance(expr, Access):
            if expr.tensor not in self._writer.hidden or any(
                isinstance(index, Access) and self._secret(index) for index in expr.indices
            ):
                raise UnsupportedError(
                    f"{expr.tensor} is read at encrypted indices",
                    span=expr.span or self._span,
                    hint="multiply by an encrypted one-hot vector instead, and sum",
                )
            if expr.fill is not None and self._outside(expr):
                return (Term(expr.fill.value),) if expr.fill.value != 0 else ()
            return (Term(1, (expr,)),)
        if isinstance(expr, Reduce):
            if expr.op != "add":
                raise self._refused(expr, f"CKKS has no reduction by {expr.op}", _INSTEAD)
            return self._summed(self._form(expr.expr), expr.variables)
        assert isinstance(expr, Map)
        return self._map(expr)

    def _outside(self, access: Access) -> bool:
        """Whether an axis is read out of range wherever it is read."""
        extents = self._writer.extents
        for index, extent in zip(access.indices, self._writer.shapes[access.tensor], strict=True):
            if isinstance(index, RankExpr):
                steps, least = index.coefficients(extents)
                most = least
                for v, step in steps.items():
                    far = step * (extents[v.upper()] - 1)
                    least, most = least + min(far, 0), most + max(far, 0)
                if most < 0 or least >= extent:
                    return True
        return False

    def _map(self, expr: Map) -> Form:
        op, args = expr.op, expr.args
        if isinstance(op, UserOperator):
            return self._form(op.expand(args))
        if op == "add":
            return collected(term for arg in args for term in self._form(arg))
        if op == "sub":
            return collected((*self._form(args[0]), *scaled(self._form(args[1]), -1)))
        if op == "neg":
            return scaled(self._form(args[0]), -1)
        if op == "mul":
            return self._times([self._form(arg) for arg in args])
        if op == "div" and not self._secret(args[1]):
            number = self._number(args[1])
            if number is None:
                return self._times([self._form(args[0]), self._form(_one_over(args[1]))])
            if number == 0:
                raise self._refused(expr, f"{self._einsum} divides by 0")
            return tuple(
                replace(term, coefficient=term.coefficient / number) for term in self._form(args[0])
            )
        if op == "div":
            inverse = self._function(expr, "div", self._form(args[1]))
            return self._times([self._form(args[0]), inverse])
        if op == "pow":
            return self._power(expr)
        if op == "select" and not self._secret(args[0]):
            masks = (
                Map("select", (args[0], Literal(a), Literal(b)))
                for a, b in ((1.0, 0.0), (0.0, 1.0))
            )
            chosen = [
                self._times([self._form(arg), self._form(mask)])
                for arg, mask in zip(args[1:], masks, strict=True)
            ]
            return collected((*chosen[0], *chosen[1]))
        if op == "cast" and expr.dtype is not None and expr.dtype.is_inexact:
            return self._form(args[0])
        if op in ("max", "min"):
            return self._largest(expr)
        if approximable(op):
            return self._function(expr, op, self._form(args[0]))
        raise self._refused(expr, f"CKKS has no {op}", _INSTEAD)

    def _refused(self, expr: Expr, message: str, hint: str | None = None) -> UnsupportedError:
        own = "it is of encrypted values in " + self._einsum
        return UnsupportedError(
            message, span=getattr(expr, "span", None) or self._span, deduced=(own,), hint=hint
        )

    def _power(self, expr: Map) -> Form:
        base, exponent = expr.args
        self._in_the_clear(exponent, "an exponent")
        number = self._number(exponent)
        natural = number is not None and number in range(_MOST_POWER + 1)
        if number is None or not natural:
            shown = "a tensor" if number is None else f"{number:g}"
            raise self._refused(
                expr,
                f"CKKS has no power of {shown}",
                "sqrt, rsqrt and division can be approximated; a natural exponent is a product",
            )
        form, times = self._form(base), int(number.real)
        if times == 0:
            return (Term(1),)
        if len(form) == 1 and variable_of(form) is not None:
            (term,) = form
            return (Term(term.coefficient**times, term.secret * times),)
        return (Term(1, (self._writer.named(form),) * times),)

    def _largest(self, expr: Map) -> Form:
        """max(a, b) = (a + b + |a - b|) / 2."""
        total = self._form(expr.args[0])
        for arg in expr.args[1:]:
            other = self._form(arg)
            apart = self._function(expr, str(expr.op), collected((*total, *scaled(other, -1))))
            half = 0.5 if expr.op == "max" else -0.5
            total = collected((*scaled((*total, *other), 0.5), *scaled(apart, half)))
        return total

    def _function(self, expr: Map, op: str, form: Form) -> Form:
        """A function of what is encrypted, as the polynomial that is asked for."""
        name = self._einsum if self._einsum in self._approximate else op
        asked = self._approximate.get(name)
        self._used.add(name)
        what = "division by what is encrypted" if op == "div" else op
        if asked is None:
            raise self._refused(
                expr,
                f"CKKS has no {what}",
                f'ask for a polynomial in its place: approximate="{op} on low..high degree n"',
            )
        if constant(form) is not None:
            exact = OPERATORS[op].reference
            return (Term(complex(exact(constant(form))).real),)
        found = approximated(self._einsum, op, asked)
        self.approximated.append(found)
        term = form[0]
        if not (len(form) == 1 and term.linear):
            term = Term(1, (self._writer.named(form),))
        return self._writer.polynomial(term.secret[0], found.series.of_multiple(term.coefficient))

    # ---- products and sums

    def _times(self, forms: Sequence[Form]) -> Form:
        """The product: distributed where that costs nothing, else of sums that are named."""
        total: Form = (Term(1),)
        for form in forms:
            total = self._product(total, form)
        return total

    def _product(self, one: Form, other: Form) -> Form:
        if not one or not other:
            return ()
        for form, number in ((one, constant(other)), (other, constant(one))):
            if number is not None:
                return scaled(form, number)
        if variable_of(one) is not None and variable_of(one) == variable_of(other):
            return distributed(one, other)
        secret = [any(term.secret for term in form) for form in (one, other)]
        if all(secret):
            return distributed(self._factor(one), self._factor(other))
        (mixed, clear) = (one, other) if secret[0] else (other, one)
        bare = sum(1 for term in mixed if term.secret and not term.plain)
        if bare > 1 or any(term.summed for term in mixed) or len(clear) > 1:
            mixed = self._factor(mixed)
        return distributed(mixed, clear)

    def _factor(self, form: Form) -> Form:
        """A form of one product that is not summed."""
        if len(form) == 1 and not form[0].summed:
            return form
        return (Term(1, (self._writer.named(form),)),)

    def _summed(self, form: Form, variables: Sequence[str]) -> Form:
        """The sum over variables, each term over its own."""
        alike: dict[frozenset[str], list[Term]] = {}
        terms: list[Term] = []
        for term in form:
            if term.linear:
                alike.setdefault(frozenset(term.bound), []).append(term)
            else:
                terms.append(term)
        for group in alike.values():  # one sum of all of them is cheaper than a sum of each
            first = group[0] if len(group) == 1 else Term(1, (self._writer.named(tuple(group)),))
            terms.append(first)
        return collected(self._sum(term, variables) for term in terms)

    def _sum(self, term: Term, variables: Sequence[str]) -> Term:
        over = [v for v in variables if v in term.free]
        times = math.prod(self._writer.extents[v.upper()] for v in variables if v not in term.free)
        term = term.by(times)
        read = {v for factor in term.secret for v in free_variables(factor)}
        inner = tuple(v for v in over if v not in read)
        if inner and term.plain:
            whole = plain_product(replace(term, coefficient=1), inner)
            term = replace(term, plain=(whole,))
        return replace(term, summed=(*term.summed, *(v for v in over if v in read)))


def _one_over(expr: Expr) -> Expr:
    return Map("div", (Literal(1.0), expr), span=getattr(expr, "span", None))
