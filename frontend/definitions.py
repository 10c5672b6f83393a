"""Operators and semirings of the text's own, their laws tested."""

from __future__ import annotations

import typing
from collections.abc import Sequence

from ..ir.einsum import Expr, Law, Literal, Op, Parameter, UserOperator
from ..ir.errors import ResolveError
from ..ir.laws import refute_operator, refute_semiring
from ..ir.operators import REDUCTIONS, Number, Semiring, arity_of, identity_of, user_semiring
from .budget import Budget
from .expressions import resolve_expr, resolve_number
from .scope import PLAIN, Library, Scope, new_name, read_dtype, similar
from .syntax import Expr as Syntax
from .syntax import LawItem, Name, OperatorItem, SemiringItem, ungroup

_LAWS: tuple[Law, ...] = typing.get_args(Law)
_VALUED = ("identity", "distributes_over", "inverse")


def resolve_operator(
    item: OperatorItem, library: Library, budget: Budget | None = None
) -> UserOperator:
    """The operator of an `op` line.

    Raises:
        ResolveError: a name in it means nothing, or a law that it claims is refuted; or it is too
            large, with what stands before it as told by `budget`.
    """
    budget = budget or Budget()
    name = new_name(item.name)
    parameters = tuple(
        Parameter(new_name(p.name), read_dtype(p.dtype) if p.dtype else None)
        for p in item.parameters
    )
    names = [parameter.name for parameter in parameters]
    if not names or len(set(names)) < len(names):
        raise ResolveError(
            f"{name} names each of its parameters once",
            span=item.name.span,
            hint="op halve(a) = a / 2",
        )
    scope = Scope(frozenset(), dict.fromkeys(names, 0), frozenset(names), PLAIN, library)
    body = resolve_expr(item.body, scope)
    laws, valued = _laws(item, scope)
    if (laws or valued) and len(names) != 2:
        raise ResolveError(
            f"{name} has laws, so it takes two operands",
            span=item.name.span,
            hint="leave the laws out: they are of operators that combine two values",
        )
    identity = valued.get("identity", [None])[0]
    made = UserOperator(
        name,
        parameters,
        body,
        tuple(law for law in _LAWS if law in laws),
        resolve_number(identity, scope) if identity is not None else None,
        tuple(_binary(value, library) for value in valued.get("distributes_over", ())),
        next((_binary(value, library) for value in valued.get("inverse", ())), None),
        item.span,
    )
    budget.write_out(made, item.name.span)
    budget.claim(len(item.laws), (made,), item.name.span)
    refuted = refute_operator(made)
    if refuted is not None:
        law, example = refuted
        place = next((i.span for i in item.laws if i.name.text == law), item.name.span)
        raise ResolveError(
            f"{name} does not have the law `{law}` that it claims",
            span=place,
            deduced=(example,),
            hint="leave it out: rewrites rely on what is claimed",
        )
    return made


def _laws(item: OperatorItem, scope: Scope) -> tuple[set[str], dict[str, list[Syntax]]]:
    """The laws that have no value, and the values of those that have one."""
    plain: set[str] = set()
    valued: dict[str, list[Syntax]] = {}
    for law in item.laws:
        text = law.name.text
        if text not in (*_LAWS, *_VALUED):
            raise ResolveError(
                f"{text} is not a law",
                span=law.name.span,
                hint=similar(text, (*_LAWS, *_VALUED)) or f"one of {', '.join((*_LAWS, *_VALUED))}",
            )
        if (law.value is not None) != (text in _VALUED):
            raise _wrong_value(law)
        if law.value is None:
            plain.add(text)
        else:
            valued.setdefault(text, []).append(law.value)
    for once in ("identity", "inverse"):
        if len(valued.get(once, ())) > 1:
            raise ResolveError(
                f"{once} is given twice", span=valued[once][1].span, hint="leave one out"
            )
    return plain, valued


def _wrong_value(law: LawItem) -> ResolveError:
    text = law.name.text
    example = {"identity": "identity = 0", "inverse": "inverse = sub"}
    hint = example.get(text, f"{text} = add") if law.value is None else f"`{text}` alone"
    return ResolveError(
        f"{text} {'needs a' if law.value is None else 'takes no'} value", span=law.span, hint=hint
    )


def _named(expr: Syntax, library: Library) -> Name:
    """An operator that is named as a value."""
    if not isinstance(expr, Name) or library.operator(expr.text) is None:
        raise ResolveError(
            "this is not the name of an operator", span=expr.span, hint="such as add, mul, max"
        )
    return expr


#: How many laws make a semiring; each is tried.
_LAWS_OF_A_SEMIRING = 6


def resolve_semiring(
    item: SemiringItem, library: Library, budget: Budget | None = None
) -> Semiring:
    """The semiring of a `semiring` line.

    Raises:
        ResolveError: a name in it means nothing, or it is no semiring; or there are too many.
    """
    budget = budget or Budget()
    name = new_name(item.name)
    if len(item.args) != 4:
        raise ResolveError(
            f"{name} is made of an addition, a multiplication, a zero and a one",
            span=item.span,
            hint=f"semiring {name}(max, add, -inf, 0)",
        )
    scope = Scope(frozenset(), {}, frozenset(), PLAIN, library)
    add, mul = (_binary(arg, library) for arg in item.args[:2])
    if identity_of(add) is None:
        raise ResolveError(
            f"{add} has no identity, so a sum by it has no value where there is nothing",
            span=item.args[0].span,
            hint="claim one: op f(a, b) [identity = 0] = ...",
        )
    zero, one = _numbers(item.args[2:], scope)
    made = user_semiring(name, add, mul, zero, one)
    budget.claim(_LAWS_OF_A_SEMIRING, (add, mul), item.name.span)
    refuted = refute_semiring(made)
    if refuted is not None:
        law, example = refuted
        raise ResolveError(
            f"{name} is no semiring: {law}",
            span=item.span,
            deduced=(example,),
            hint=f"semiring {name}(addition, multiplication, zero, one), such as "
            f"semiring {name}(max, add, -inf, 0)",
        )
    return made


def _binary(expr: Syntax, library: Library) -> Op:
    text = _named(expr, library).text if not _is_reduction(expr) else REDUCTIONS[expr.text].name
    op = library.operator(text)
    assert op is not None
    if arity_of(op) != 2:
        raise ResolveError(
            f"{text} does not take two operands", span=expr.span, hint="such as add, mul, max"
        )
    return op


def _is_reduction(expr: Syntax) -> typing.TypeGuard[Name]:
    return isinstance(expr, Name) and expr.text in REDUCTIONS


def _numbers(args: Sequence[Syntax], scope: Scope) -> tuple[Number, Number]:
    found: list[Number] = []
    for arg in args:
        value: Expr = resolve_expr(ungroup(arg), scope)
        if not isinstance(value, Literal):
            raise ResolveError(
                "the zero and the one are numbers", span=arg.span, hint="such as 0, 1 or -inf"
            )
        found.append(value.value)
    return found[0], found[1]
