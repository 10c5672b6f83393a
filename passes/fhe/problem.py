"""What there is to pack: one product of tensors, with sizes, and which of them are encrypted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...ir.cascade import Cascade
from ...ir.einsum import Access
from ...ir.errors import ArgumentError, UnsupportedError
from ...ir.ranks import RankExpr
from ...ir.sizes import infer_sizes


@dataclass(frozen=True, slots=True)
class Problem:
    """`output = sum of a product`: the factors in order, the size of each variable.

    Shapes are those of the factors and of the output; `encrypted` are names of inputs.
    """

    name: str
    factors: tuple[Access, ...]
    output: Access
    sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    encrypted: frozenset[str]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that are read, in the order of their shapes."""
        read = {factor.tensor for factor in self.factors}
        return tuple(name for name in self.shapes if name in read)

    def divided(self, one: Access, other: Access) -> tuple[Problem, Problem]:
        """The product of two factors, summed over what only they have, and that of the rest."""
        rest = list(self.factors)
        rest.remove(one)
        rest.remove(other)
        wanted = {v for access in (*rest, self.output) for v in access.variables()}
        kept = tuple(dict.fromkeys(v for f in (one, other) for v in f.variables() if v in wanted))
        name = f"({one.tensor}*{other.tensor})"
        while name in self.shapes:
            name += "'"
        made = Access(name, tuple(RankExpr.of_variable(v) for v in kept))
        shapes = {**self.shapes, name: tuple(self.sizes[v] for v in kept)}
        encrypted = self.encrypted | {name}
        first = Problem(self.name, (one, other), made, self.sizes, shapes, encrypted)
        factors = (made, *rest)
        return first, Problem(self.name, factors, self.output, self.sizes, shapes, encrypted)


def _variables(index: RankExpr | Access) -> tuple[str, ...]:
    if isinstance(index, Access):
        return tuple(v for inner in index.indices for v in _variables(inner))
    return tuple(index.variables())


def problem_of(
    cascade: Cascade, shapes: Mapping[str, Sequence[int]], secret: Collection[str] | None = None
) -> Problem:
    """The Problem that a Cascade of one Einsum is, for arrays of those shapes.

    Args:
        secret: the inputs that are encrypted; None: all of them.

    Raises:
        UnsupportedError: it is more than one product over the sum_product semiring, it sums over a
            variable that no factor has, or nothing in it is encrypted.
        ArgumentError: `secret` names no input.
        RankError: the shapes do not fit.
    """
    names = [decl.name for decl in cascade.inputs]
    wrong = [name for name in secret or () if name not in names]
    if wrong:
        raise ArgumentError(f"{', '.join(wrong)} is no input", passed=(f"inputs: {names}",))
    encrypted = frozenset(names if secret is None else secret)
    if not encrypted:
        raise UnsupportedError("nothing is encrypted", hint="name an input as secret")
    if len(cascade.einsums) != 1:
        raise UnsupportedError(f"{cascade.name} has {len(cascade.einsums)} Einsums, not one")
    (einsum,) = cascade.einsums
    factors = einsum.product()
    if factors is None or einsum.ring.name != "sum_product":
        raise UnsupportedError(
            f"{einsum.name} is no product summed over sum_product", span=einsum.span
        )
    read = {v for factor in factors for index in factor.indices for v in _variables(index)}
    for v in einsum.reduced:
        if v not in read:
            raise UnsupportedError(
                f"{einsum.name} is summed over {v}, which no factor has",
                span=einsum.span,
                hint=f"multiply by a plaintext input of the shape [{v.upper()}] that holds ones",
            )
    extents = infer_sizes(cascade, shapes)
    sizes = {rank.lower(): size for rank, size in extents.items()}
    found = {name: tuple(shapes[name]) for name in names}
    found[einsum.name] = tuple(extent.value(extents) for extent in einsum.extents())
    return Problem(cascade.name, factors, einsum.output, sizes, found, encrypted)


def check_extents(problem: Problem) -> None:
    """Every variable has something to pack.

    Raises:
        UnsupportedError: an extent is 0; the tensor and its axis are named.
    """
    read = {v for access in (*problem.factors, problem.output) for v in access.variables()}
    if all(problem.sizes[v] for v in read):
        return
    for access in (*problem.factors, problem.output):
        shape = problem.shapes[access.tensor]
        if 0 in shape:
            raise UnsupportedError(
                f"axis {shape.index(0)} of {access.tensor} has extent 0: there is nothing to pack",
                span=access.span,
                passed=(f"{access.tensor}: {shape}",),
            )
    raise UnsupportedError("a variable has extent 0: there is nothing to pack")
