"""Sums of products with encrypted factors: what the right side of an Einsum is brought to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from ...ir.einsum import Access, Expr, Literal, Map, Reduce, free_variables


@dataclass(frozen=True, slots=True)
class Term:
    """`coefficient * sum over summed of (the product of secret and plain factors)`."""

    coefficient: complex = 1
    secret: tuple[Access, ...] = ()
    plain: tuple[Expr, ...] = ()
    summed: tuple[str, ...] = ()

    @property
    def number(self) -> bool:
        """Whether it has no factor but its coefficient."""
        return not self.secret and not self.plain

    @property
    def linear(self) -> bool:
        """Whether it is one encrypted element, and a number."""
        return len(self.secret) == 1 and not self.plain and not self.summed

    @property
    def bound(self) -> tuple[str, ...]:
        """The variables of its factors, those that it is summed over included."""
        found = (v for factor in (*self.secret, *self.plain) for v in free_variables(factor))
        return tuple(dict.fromkeys(found))

    @property
    def free(self) -> tuple[str, ...]:
        """The variables that it depends on."""
        return tuple(v for v in self.bound if v not in self.summed)

    def by(self, number: complex) -> Term:
        """The term times a number."""
        return self if number == 1 else replace(self, coefficient=self.coefficient * number)


#: A sum of terms; without any, 0.
Form: TypeAlias = tuple[Term, ...]


def scaled(form: Form, number: complex) -> Form:
    """The form times a number."""
    return tuple(term.by(number) for term in form) if number != 0 else ()


def collected(terms: Iterable[Term]) -> Form:
    """Terms of the same factors as one, in the order of the first; without those that cancel."""
    found: dict[Term, complex] = {}
    for term in terms:
        key = replace(term, coefficient=1)
        found[key] = found.get(key, 0) + term.coefficient
    return tuple(key.by(c) if c != 1 else key for key, c in found.items() if c != 0)


def constant(form: Form) -> complex | None:
    """The number that a form is, if it is one."""
    if all(term.number for term in form):
        return sum(term.coefficient for term in form)
    return None


def variable_of(form: Form) -> Access | None:
    """The one encrypted element that a form is a polynomial in, if it is one."""
    found = {factor for term in form for factor in term.secret}
    plain = any(term.plain or term.summed for term in form)
    return found.pop() if len(found) == 1 and not plain else None


def distributed(one: Form, other: Form) -> Form:
    """The product, term by term; no term is summed."""
    return collected(
        Term(a.coefficient * b.coefficient, a.secret + b.secret, a.plain + b.plain)
        for a in one
        for b in other
    )


def gathered(form: Form) -> Form:
    """The form with what multiplies the same encrypted factors added up in the clear."""
    groups: dict[tuple[tuple[Access, ...], tuple[str, ...]], list[Term]] = {}
    for term in form:
        groups.setdefault((term.secret, term.summed), []).append(term)
    found: list[Term] = []
    for (secret, summed), terms in groups.items():
        if secret and len(terms) > 1 and any(term.plain for term in terms):
            plain = Map("add", tuple(map(plain_product, terms)))
            found.append(Term(1, secret, (plain,), summed))
        else:
            found += terms
    return tuple(found)


def plain_product(term: Term, summed: tuple[str, ...] = ()) -> Expr:
    """The coefficient times the plain factors of a term, summed over some variables of theirs.

    The number comes first: it makes a product of integers one of floats, which does not wrap.
    """
    number = term.coefficient * 1.0
    literal = Literal(number)
    product = Map("mul", (literal, *term.plain)) if term.plain else literal
    return Reduce("add", summed, product) if summed else product
