"""A Cascade in which every reduction over a rank is an Einsum over the same variable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...ir.cascade import Cascade
from ...ir.einsum import Einsum, Reduce, walk
from ...ir.errors import PassError
from ...ir.infer import known_dtypes
from ...ir.lift import lift
from ..analysis.families import Ranks
from ..analysis.statements import axes_of, canonical, input_axes


def flattened(cascade: Cascade, variable: str) -> Cascade:
    """The Cascade with every reduction over a variable's rank as an Einsum over that variable.

    Reductions inside expressions become Einsums of their own, over an alias of the rank too, whose
    bound variable becomes the rank's where it may.

    Raises:
        PassError: there is one, and the dtypes that say what it is stored in are not known.
    """
    ranks = Ranks(cascade)
    root = ranks.root(variable.upper())

    def wanted(node: Reduce) -> bool:
        return any(ranks.root(v.upper()) == root for v in node.variables)

    found = _lifted(cascade, variable, wanted)
    axes = input_axes(cascade, ranks)
    einsums: list[Einsum] = []
    for einsum in found.einsums:
        here = canonical(einsum, axes, ranks)
        axes.setdefault(here.name, axes_of(here.left))
        einsums.append(here)
    same = all(new is old for new, old in zip(einsums, found.einsums, strict=True))
    return found if same else replace(found, einsums=tuple(einsums))


def _lifted(cascade: Cascade, variable: str, wanted: Callable[[Reduce], bool]) -> Cascade:
    inner = [
        einsum
        for einsum in cascade.einsums
        for node in walk(einsum.expr)
        if isinstance(node, Reduce) and node is not einsum.expr and wanted(node)
    ]
    if not inner:
        return cascade
    missing = [decl.name for decl in cascade.inputs if decl.dtype is None]
    if missing:
        raise PassError(
            f"{inner[0].name} reduces over {variable} inside an expression, and the dtypes that "
            "say what it is stored in are not known",
            span=inner[0].span,
            hint=f"declare them: `{missing[0]}[...]: f32`; or write the reduction as an Einsum",
        )
    names = cascade.names()
    dtypes = known_dtypes(cascade)
    einsums: list[Einsum] = []
    for einsum in cascade.einsums:
        made, rest = lift(einsum, wanted, names, dtypes)
        einsums += [*made, rest]
    return replace(cascade, einsums=tuple(einsums))
