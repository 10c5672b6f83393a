"""Filters that are never true, whatever the sizes: surely a mistake.

A comparison of affine expressions is `f >= 0`, where each variable of f runs from 0 to below its
rank's size, which is at least 1 where there is a point at all. Two of them that contradict each
other add up to one that is never true. What the ranks are declared to be takes no part, so that a
filter which is empty in one instance only may be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TypeAlias

from .einsum import Coordinate, Expr, Literal, Map
from .errors import ResolveError
from .printer import print_expr

#: From the name of each variable and size to what multiplies it; "" is the constant.
_Affine: TypeAlias = dict[str, int]

#: A number with which a comparison may be true since integers wrap.
_LARGE = 2**31

#: Comparisons of which every pair is looked at.
_PAIRED = 32


def check_filter(name: str, where: Expr) -> None:
    """Refuses the filter of a tensor if no point can pass it.

    Raises:
        ResolveError: a part of it is never true.
    """
    parts = never_true(where)
    if parts:
        raise _never(name, parts)


def never_true(where: Expr) -> list[Expr]:
    """What of a filter no point can pass: one comparison, or two together; else nothing."""
    found: list[tuple[Expr, _Affine]] = []
    for part in _conjuncts(where):
        if part == Literal(False):
            return [part]
        for form in _at_least_zero(part):
            if _greatest(form) < 0:
                return [part]
            found.append((part, form))
    for (one, f), (other, g) in combinations(found[:_PAIRED], 2):
        if one is not other and _greatest(_plus(f, g)) < 0:
            return [one, other]
    return []


def _never(name: str, parts: list[Expr]) -> ResolveError:
    spans = [part.span for part in parts if part.span is not None]
    held = "holds at no coordinate" if len(parts) == 1 else "do not hold together anywhere"
    shown = " and ".join(map(print_expr, parts))
    return ResolveError(
        f"the filter on {name} is never true",
        span=spans[0] if spans else None,
        also=spans[1:],
        deduced=(f"{shown} {held}: a variable m runs from 0 to M-1",),
        hint="turn the comparison, or leave the Einsum out: nothing would pass",
    )


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    if isinstance(expr, Map) and expr.op == "and":
        for arg in expr.args:
            yield from _conjuncts(arg)
    else:
        yield expr


def _at_least_zero(expr: Expr) -> list[_Affine]:
    """A comparison as forms that are at least 0 where it holds; none if it is not affine."""
    if not isinstance(expr, Map) or len(expr.args) != 2:
        return []
    left, right = map(_affine, expr.args)
    if left is None or right is None:
        return []
    if any(abs(coefficient) >= _LARGE for coefficient in (*left.values(), *right.values())):
        return []  # i64 may wrap
    rises, falls = _plus(right, left, -1), _plus(left, right, -1)
    match expr.op:
        case "le":
            return [rises]
        case "lt":
            return [_plus(rises, {"": -1})]
        case "ge":
            return [falls]
        case "gt":
            return [_plus(falls, {"": -1})]
        case "eq":
            return [rises, falls]
        case _:
            return []


def _affine(expr: Expr) -> _Affine | None:
    match expr:
        case Literal(value) if type(value) is int:
            return {"": value}
        case Coordinate(name):
            return {name: 1}
        case Map("add" | "sub" | "neg" | "mul" as op, args):
            forms = [form for form in map(_affine, args) if form is not None]
            if len(forms) < len(args):
                return None
            if op == "neg":
                return _scaled(forms[0], -1)
            first, *rest = forms
            for form in rest:
                if op != "mul":
                    first = _plus(first, form, 1 if op == "add" else -1)
                elif form.keys() <= {""}:
                    first = _scaled(first, form.get("", 0))
                elif first.keys() <= {""}:
                    first = _scaled(form, first.get("", 0))
                else:
                    return None
            return first
        case _:
            return None


def _scaled(form: _Affine, by: int) -> _Affine:
    return {name: by * coefficient for name, coefficient in form.items()}


def _plus(form: _Affine, other: _Affine, times: int = 1) -> _Affine:
    total = dict(form)
    for name, coefficient in other.items():
        total[name] = total.get(name, 0) + times * coefficient
    return total


def _greatest(form: _Affine) -> float:
    """The most that a form can be, over all sizes and at all points."""
    least_sizes = {name.upper(): 1 for name in form if name and not name.isupper()}
    of_sizes: dict[str, int] = {}
    greatest: float = form.get("", 0)
    for name, coefficient in form.items():
        if name.isupper():
            of_sizes[name] = of_sizes.get(name, 0) + coefficient
        elif name and coefficient > 0:
            of_sizes[name.upper()] = of_sizes.get(name.upper(), 0) + coefficient
            greatest -= coefficient
    for name, coefficient in of_sizes.items():
        if coefficient > 0:
            return float("inf")
        greatest += coefficient * least_sizes.get(name, 0)
    return greatest
