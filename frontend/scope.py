"""What names mean: tensors, ranks and their variables, dtypes; and what to say when nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from ..ir.cascade import Cascade
from ..ir.dtypes import DTYPES, DType
from ..ir.einsum import PLACES, Op, UserOperator
from ..ir.errors import ResolveError
from ..ir.operators import OPERATORS, REDUCTIONS, SEMIRINGS, Semiring, identity_of, reduction_name
from ..ir.source import Span
from ..ir.verify import RESERVED
from .syntax import Name

#: The name of a rank, and that of a variable.
SIZE = re.compile(r"[A-Z][A-Z0-9_]*\Z")
VARIABLE = re.compile(r"[a-z][a-z0-9_]*\Z")

PLAIN = SEMIRINGS["sum_product"]

#: How many names are looked at for one that is similar, which takes some 30 us each.
_LOOKED_AT = 1000


@dataclass(slots=True)
class Library:
    """What stands before a cascade in its text, or is used from other files; it grows."""

    cascades: dict[str, Cascade] = field(default_factory=dict[str, Cascade])
    operators: dict[str, UserOperator] = field(default_factory=dict[str, UserOperator])
    semirings: dict[str, Semiring] = field(default_factory=dict[str, Semiring])

    def operator(self, name: str) -> Op | None:
        """The operator of that name, of the table or of the text's own."""
        return self.operators.get(name) or (name if name in OPERATORS else None)

    def reduction(self, name: str) -> Op | None:
        """The operator that a reduction of that name folds by."""
        own = self.operators.get(name)
        if own is not None:
            return own if own.arity == 2 and identity_of(own) is not None else None
        return REDUCTIONS[name].name if name in REDUCTIONS else name if name in PLACES else None

    def semiring(self, name: str) -> str | Semiring | None:
        """The semiring of that name."""
        return name if name in SEMIRINGS else self.semirings.get(name)

    def add(self, made: Cascade | UserOperator | Semiring, span: Span) -> None:
        """Has one more definition.

        Raises:
            ResolveError: the name is that of another one.
        """
        name = made.name
        found = self.cascades.get(name) or self.operators.get(name) or self.semirings.get(name)
        if found not in (None, made) or name in SEMIRINGS:
            raise ResolveError(
                f"{name} is defined already", span=span, hint="give one of the two another name"
            )
        match made:
            case Cascade():
                self.cascades[name] = made
            case UserOperator():
                self.operators[name] = made
            case Semiring():
                self.semirings[name] = made

    def join(self, other: Library, span: Span) -> None:
        """Has all of another's definitions."""
        for table in (other.cascades, other.operators, other.semirings):
            for made in table.values():
                self.add(made, span)


EMPTY = Library()


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean at one place of the text."""

    ranks: Collection[str]
    arity: Mapping[str, int]  # of the tensors that can be read here
    defined: frozenset[str]  # anywhere in the text
    ring: Semiring
    library: Library

    def is_rank(self, name: str) -> bool:
        """Whether a bare name is a rank, for its size, or a variable, for its coordinate."""
        return name in self.ranks or self.is_variable(name)

    def is_variable(self, name: str) -> bool:
        return bool(VARIABLE.match(name)) and name.upper() in self.ranks


def new_name(name: Name) -> str:
    """The name of a tensor that is declared or defined."""
    if name.text in RESERVED:
        raise ResolveError(
            f"{name.text} is a word of the language",
            span=name.span,
            hint=f"give it another name, such as {name.text}_",
        )
    return name.text


def read_dtype(name: Name) -> DType:
    """The dtype of that name."""
    if name.text not in DTYPES:
        raise ResolveError(
            f"{name.text} is not a dtype", span=name.span, hint=f"one of {', '.join(DTYPES)}"
        )
    return DTYPES[name.text]


def similar(name: str, known: Iterable[str]) -> str | None:
    """A hint, if one of the first known names looks like this one."""
    close = difflib.get_close_matches(name, list(islice(known, _LOOKED_AT)), 1)
    return f"did you mean {close[0]}?" if close else None


def unknown_tensor(name: Name, scope: Scope) -> ResolveError:
    """What is wrong with a name that is read and is no tensor here."""
    if name.text in scope.defined:
        return ResolveError(
            f"{name.text} is defined only below",
            span=name.span,
            hint="put its definition before the first use; what a tensor needs of itself is "
            "written as a scan: X[0] = ..., X[v+1] = ...",
        )
    if name.text in RESERVED:
        return ResolveError(
            f"{name.text} is a word of the language, not a tensor",
            span=name.span,
            hint=reserved_hint(name.text) or "give the tensor another name",
        )
    return ResolveError(
        f"{name.text} is not defined",
        span=name.span,
        deduced=(f"tensors known here: {_listed(scope.arity) or 'none'}",),
        hint=similar(name.text, scope.arity)
        or "a tensor is an input, or stands on the left of an Einsum above",
    )


def _listed(names: Iterable[str]) -> str:
    """The first names; a message has room for no more."""
    return ", ".join(islice(names, 100))


def reserved_hint(name: str) -> str | None:
    """How an operator's or a reduction's name is used."""
    if name in REDUCTIONS:
        return f"a reduction is `{name}[m] (...)`"
    if name in OPERATORS:
        if OPERATORS[name].reducible:
            return f"a reduction by {name} is `{reduction_name(name)}[m] (...)`"
        return f"{name} is called: {name}({', '.join('abc'[: OPERATORS[name].arity])})"
    return None
