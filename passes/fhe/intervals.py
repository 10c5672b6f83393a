"""Whether the arguments of approximated functions stayed in the intervals that were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...ir.cascade import Cascade, fresh_name
from ...ir.einsum import Einsum, Expr, Map, free_variables, walk
from ...ir.errors import EinloomError
from ...ir.interpreter import evaluate
from ...ir.verify import verify
from ..rewrite import named
from .approximate import Approximated


def ranges(
    cascade: Cascade, approximated: Sequence[Approximated], arrays: Mapping[str, Any]
) -> dict[Approximated, tuple[float, float]]:
    """The least and the largest argument of each approximated function, by the exact functions.

    An argument that is no expression of the Cascade's own, as in an operator of the text's own, is
    left out.
    """
    watched: dict[str, Approximated] = {}
    einsums, names = list(cascade.einsums), cascade.names()
    for each in approximated:
        for einsum in cascade.einsums:
            for node in walk(einsum.expr) if einsum.name == each.einsum else ():
                argument = _argument(node, each.function)
                if argument is None:
                    continue
                name = fresh_name("argument", names)
                names.add(name)
                free = tuple(dict.fromkeys(free_variables(argument)))
                einsums.append(Einsum(named(name, free), argument))
                watched[name] = each
    whole = replace(cascade, einsums=tuple(einsums), outputs=tuple(watched))
    found: dict[Approximated, tuple[float, float]] = {}
    try:
        verify(whole)
        made = evaluate(whole, arrays) if watched else {}
    except EinloomError:
        return {}
    for name, each in watched.items():
        values = np.real(made[name])
        if values.size:
            low, high = found.get(each, (np.inf, -np.inf))
            found[each] = min(low, float(values.min())), max(high, float(values.max()))
    return found


def _argument(node: Expr, function: str) -> Expr | None:
    """What the polynomial is evaluated at, if a node is that function."""
    if not isinstance(node, Map) or node.op != function:
        return None
    if function in ("max", "min"):
        return Map("sub", node.args[:2])
    return node.args[1 if function == "div" else 0]
