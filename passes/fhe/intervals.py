"""Whether the arguments of approximated functions stayed in the intervals that were given."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...ir.cascade import Cascade, fresh_name
from ...ir.einsum import Einsum, Expr, Map, UserOperator, accesses, children, free_variables
from ...ir.interpreter import evaluate
from ...ir.verify import verify
from ..rewrite import named
from .approximate import Approximated
from .normal import depending, written_out


def ranges(
    cascade: Cascade,
    secret: Collection[str],
    approximated: Sequence[Approximated],
    arrays: Mapping[str, Any],
) -> dict[Approximated, tuple[float, float]]:
    """The least and the largest argument of each approximated function, by the exact functions."""
    if not approximated:
        return {}
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    cascade, _ = written_out(cascade, shapes, secret)
    hidden = depending(cascade, secret)
    watched: dict[str, Approximated] = {}
    einsums, names = list(cascade.einsums), cascade.names()
    for each in approximated:
        for einsum in cascade.einsums:
            for argument in _arguments(einsum.expr, each.function):
                read = {access.tensor for access in accesses(argument)}
                if einsum.name == each.einsum and read & hidden:
                    name = fresh_name("argument", names)
                    names.add(name)
                    free = tuple(dict.fromkeys(free_variables(argument)))
                    einsums.append(Einsum(named(name, free), argument))
                    watched[name] = each
    whole = replace(cascade, einsums=tuple(einsums), outputs=tuple(watched))
    verify(whole)
    with np.errstate(all="ignore"):
        made = evaluate(whole, arrays)
    found: dict[Approximated, tuple[float, float]] = {}
    for name, each in watched.items():
        values = np.real(made[name])
        if values.size:
            low, high = found.get(each, (np.inf, -np.inf))
            found[each] = min(low, float(values.min())), max(high, float(values.max()))
    return found


def _arguments(expr: Expr, function: str) -> Iterator[Expr]:
    """What the polynomial is evaluated at, wherever an expression has that function."""
    if isinstance(expr, Map) and isinstance(expr.op, UserOperator):
        yield from _arguments(expr.op.expand(expr.args), function)
        return
    if isinstance(expr, Map) and expr.op == function:
        if function in ("max", "min"):
            so_far = expr.args[0]
            for other in expr.args[1:]:
                yield Map("sub", (so_far, other))
                so_far = Map(function, (so_far, other))
        else:
            yield expr.args[1 if function == "div" else 0]
    for child in children(expr):
        yield from _arguments(child, function)
