"""The passes by name, each loaded when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..ir.errors import PipelineError
from .base import Pass, Pipeline

#: name -> (module, the pass in it)
_PASSES = {
    "squeeze": ("rewrites.canonical", "squeeze"),
    "diagonal": ("rewrites.canonical", "diagonal"),
    "presum": ("rewrites.canonical", "presum"),
    "order": ("rewrites.order", "Order"),
    "plain": ("rewrites.plain", "Plain"),
}


def pass_names() -> tuple[str, ...]:
    """Every pass's name."""
    return tuple(_PASSES)


def pass_class(name: str) -> type[Pass]:
    """The pass of that name.

    Raises:
        PipelineError: there is none.
    """
    if name not in _PASSES:
        raise PipelineError(f"there is no pass {name!r}", hint=f"passes: {', '.join(_PASSES)}")
    module, attribute = _PASSES[name]
    loaded = import_module(f".{module}", __package__)
    found: type[Pass] = getattr(loaded, attribute)
    return found


def available_passes() -> dict[str, type[Pass]]:
    """Every pass by name; the docstring of each is its law or what it does."""
    return {name: pass_class(name) for name in _PASSES}


def default_pipeline(optimize: Any = "auto", memory_limit: int | str | None = None) -> Pipeline:
    """What `compile` runs if it is told nothing else: canonical form, then contraction order.

    With `optimize=False` nothing is summed in another order than it is written in.

    Args:
        optimize, memory_limit: as `rewrites.order.Order` takes them.

    >>> print(default_pipeline(optimize="greedy"))
    squeeze, diagonal, presum, order{optimize=greedy}
    """
    from .rewrites.canonical import diagonal, presum, squeeze
    from .rewrites.order import Order

    order = Order(optimize, memory_limit)
    if order.optimize is False:
        return Pipeline((squeeze(), diagonal()))
    return Pipeline((squeeze(), diagonal(), presum(), order))
