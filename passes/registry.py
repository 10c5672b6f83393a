"""The passes by name, each loaded when it is first asked for."""

from __future__ import annotations

from difflib import get_close_matches
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
    "commute": ("rewrites.naming", "Commute"),
    "alpha": ("rewrites.naming", "Alpha"),
    "identity": ("rewrites.naming", "identity"),
    "transpose": ("rewrites.naming", "transpose"),
    "nest": ("rewrites.nesting", "Nest"),
    "denest": ("rewrites.nesting", "Denest"),
    "inline": ("rewrites.nesting", "Inline"),
    "distribute": ("rewrites.algebra", "distribute"),
    "factor": ("rewrites.algebra", "factor"),
    "idem_mul": ("rewrites.algebra", "idem_mul"),
    "idem_add": ("rewrites.algebra", "idem_add"),
    "delta": ("rewrites.delta", "delta"),
    "delta_split": ("rewrites.delta", "DeltaSplit"),
    "delta_merge": ("rewrites.delta", "delta_merge"),
    "distinct_output": ("rewrites.delta", "distinct_output"),
    "ones_drop": ("rewrites.ones", "ones_drop"),
    "multiple": ("rewrites.ones", "multiple"),
    "output_only": ("rewrites.ones", "output_only"),
    "hadamard": ("rewrites.structure", "hadamard"),
    "components": ("rewrites.structure", "components"),
    "slice": ("rewrites.slices", "Slice"),
    "split": ("rewrites.slices", "Split"),
    "fuse": ("rewrites.slices", "Fuse"),
    "adjoint": ("rewrites.adjoint", "Adjoint"),
    "hom": ("rewrites.homomorphism", "hom"),
    "share": ("rewrites.share", "Share"),
    "dead": ("rewrites.share", "Dead"),
    "reuse": ("rewrites.reuse", "Reuse"),
    "fit": ("rewrites.reuse", "Fit"),
    "search": ("search", "Search"),
    "defer": ("online.passes", "Defer"),
    "online": ("online.passes", "Online"),
    "merge": ("online.passes", "Merge"),
    "shared_prefix": ("online.prefix", "SharedPrefix"),
    "fewest-passes": ("online.fewest", "FewestPasses"),
    "fold_constants": ("rewrites.constants", "fold_constants"),
}

#: What to do about a name that is none.
NAMES_HINT = "einloom.available_passes() says what there is"


def pass_names() -> tuple[str, ...]:
    """Every pass's name."""
    return tuple(_PASSES)


def names_hint(name: str) -> str:
    """The passes whose names are nearest to one that is none."""
    near = get_close_matches(name, _PASSES, 3, 0.7)
    return f"did you mean {' or '.join(near)}?" if near else NAMES_HINT


def pass_class(name: str) -> type[Pass]:
    """The pass of that name.

    Raises:
        PipelineError: there is none.
    """
    if name not in _PASSES:
        raise PipelineError(f"there is no pass {name!r}", hint=names_hint(name))
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
