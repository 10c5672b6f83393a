"""Sums of products as steps: the second half of the normal form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ...ir.cascade import Cascade, fresh_name
from ...ir.einsum import Access, Einsum, Expr, free_variables
from ...ir.errors import UnsupportedError
from ..rewrite import joined, named
from .series import Series, series
from .steps import Combination, Elementwise, Product, Step
from .terms import Form, Term, collected, gathered, plain_product, variable_of


class Writer:
    """Writes steps one after another, and lifts what is plain in them.

    `hidden` are the tensors that are encrypted, `shapes` those of all tensors.
    """

    def __init__(
        self,
        cascade: Cascade,
        extents: Mapping[str, int],
        shapes: Mapping[str, Sequence[int]],
        hidden: Iterable[str],
    ) -> None:
        self.steps: list[Step] = []
        self.lifted: list[Einsum] = []
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.shapes |= {
            name: tuple(extent.value(extents) for extent in found)
            for name, found in cascade.extents().items()
        }
        self.extents, self.hidden = extents, set(hidden)
        self.einsum, self.span = "", cascade.span
        self._names = cascade.names()
        self._series: dict[tuple[str, Series], str] = {}
        self._plain: dict[Expr, Access] = {}

    def begin(self, einsum: Einsum) -> None:
        """What is written from here on is for that Einsum."""
        self.einsum, self.span = einsum.name, einsum.span

    def polynomial(self, access: Access, of: Series) -> Form:
        """A series of an access: of all its tensor, read where the access reads."""
        if of.degree == 0:
            return (Term(of.coefficients[0]),) if of.coefficients[0] != 0 else ()
        key = (access.tensor, of)
        if key not in self._series:
            output = self._new(self.einsum)
            self.shapes[output] = self.shapes[access.tensor]
            step = Elementwise(self.einsum, output, access.tensor, of, access.span or self.span)
            self.steps.append(step)
            self._series[key] = output
        return (Term(1, (replace(access, tensor=self._series[key]),)),)

    def _new(self, stem: str) -> str:
        name = fresh_name(stem, self._names)
        self._names.add(name)
        self.hidden.add(name)
        return name

    def named(self, form: Form, variables: Sequence[str] | None = None) -> Access:
        """The form as a tensor over its variables: the access itself, if it is just one."""
        if len(form) == 1 and form[0].linear and form[0].coefficient == 1 and variables is None:
            return form[0].secret[0]
        if variables is None:
            variables = tuple(dict.fromkeys(v for term in form for v in term.free))
        output = named(self._new(self.einsum), variables)
        self.shapes[output.tensor] = tuple(self.extents[v.upper()] for v in variables)
        self.define(output, form)
        return output

    def define(self, output: Access, form: Form) -> None:
        """The steps that make a tensor of a sum of products."""
        form = gathered(self._polynomials(form))
        secret = [term for term in form if term.secret]
        number = sum(term.coefficient for term in form if term.number)
        plain = self._lifted_sum([term for term in form if term.plain and not term.secret])
        if not secret:
            raise UnsupportedError(
                f"{self.einsum} does not depend on what is encrypted, whatever it reads",
                span=self.span,
            )
        if len(secret) == 1 and plain is None and number == 0:
            (term,) = secret
            if not self._whole(term) and set(term.free) >= set(output.variables()):
                factors, coefficient = self._factors(term)
                self.steps.append(Product(self.einsum, output, factors, coefficient, self.span))
                return
        terms = tuple(self._access(term) for term in secret)
        self.steps.append(Combination(self.einsum, output, terms, plain, number, self.span))

    def _whole(self, term: Term) -> bool:
        """Whether it is a tensor read along all of its axes, each at a variable of its own."""
        if not term.linear:
            return False
        access = term.secret[0]
        variables = access.plain
        shape = self.shapes[access.tensor]
        return (
            variables is not None
            and len(set(variables)) == len(variables)
            and all(self.extents[v.upper()] == n for v, n in zip(variables, shape, strict=True))
        )

    def _access(self, term: Term) -> tuple[complex, Access]:
        """A term as a number times a whole tensor."""
        if self._whole(term):
            return term.coefficient, term.secret[0]
        factors, coefficient = self._factors(term)
        output = named(self._new(self.einsum), term.free)
        self.shapes[output.tensor] = tuple(self.extents[v.upper()] for v in term.free)
        self.steps.append(Product(self.einsum, output, factors, 1, self.span))
        return coefficient, output

    def _factors(self, term: Term) -> tuple[tuple[Access, ...], complex]:
        """The factors of a product; its number is part of what is plain, if something is."""
        secret: list[Access] = []
        for factor in dict.fromkeys(term.secret):
            count = term.secret.count(factor)
            if count > 2:
                power = series((0.0,) * count + (1.0,), None)
                secret += (f for t in self.polynomial(factor, power) for f in t.secret)
            else:
                secret += [factor] * count
        if not term.plain:
            return tuple(secret), term.coefficient
        return (*secret, self._lifted(term)), 1

    def _lifted(self, term: Term) -> Access:
        """The plain part of a term as a tensor in the clear."""
        (first, *more) = term.plain
        if term.coefficient == 1 and not more and isinstance(first, Access) and _bare(first):
            return first
        return self._clear(plain_product(term), term.plain)

    def _lifted_sum(self, terms: Sequence[Term]) -> Access | None:
        if not terms:
            return None
        if len(terms) == 1 and not terms[0].summed:
            return self._lifted(terms[0])
        parts = [plain_product(term, term.summed) for term in terms]
        return self._clear(joined("add", parts), parts)

    def _clear(self, expr: Expr, parts: Sequence[Expr]) -> Access:
        if expr not in self._plain:
            variables = tuple(dict.fromkeys(v for part in parts for v in free_variables(part)))
            name = fresh_name(self.einsum, self._names)
            self._names.add(name)
            output = named(name, variables)
            self.shapes[name] = tuple(self.extents[v.upper()] for v in variables)
            self.lifted.append(Einsum(output, expr, span=self.span))
            self._plain[expr] = output
        return self._plain[expr]

    def _polynomials(self, form: Form) -> Form:
        """The form with its powers of one element as one polynomial of it, and its constant."""
        groups: dict[Access, list[Term]] = {}
        for term in form:
            if variable_of((term,)) is not None:
                groups.setdefault(term.secret[0], []).append(term)
        powers = {
            access: group
            for access, group in groups.items()
            if max(len(term.secret) for term in group) > 1
        }
        made = {term for group in powers.values() for term in group}
        rest = [term for term in form if term not in made]
        number = sum(term.coefficient for term in rest if term.number)
        if len(powers) == 1:
            rest = [term for term in rest if not term.number]
        for access, group in powers.items():
            coefficients: list[complex] = [0.0] * (1 + max(len(term.secret) for term in group))
            coefficients[0] = number if len(powers) == 1 else 0.0
            for term in group:
                coefficients[len(term.secret)] = term.coefficient
            rest += self.polynomial(access, series(coefficients, None))
        return collected(rest)


def _bare(access: Access) -> bool:
    return (
        all(
            not isinstance(index, Access) and index.variable is not None for index in access.indices
        )
        and access.fill is None
    )
