"""What a Cascade on encrypted tensors is brought to: steps that the slots can do, one kind each.

Product       Y[i] = c * sum of a product of accesses, some of them encrypted
Combination   Y[i,j] = numbers * accesses + plain + a number, each access broadcast
Elementwise   Y = a polynomial of each element of X
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ...ir.cascade import Cascade
from ...ir.einsum import Access
from ...ir.printer import print_access, print_einsum
from ...ir.source import Span
from .approximate import Approximated
from .series import Series


@dataclass(frozen=True, slots=True)
class Product:
    """`output = coefficient * sum of the product of the factors`."""

    einsum: str
    output: Access
    factors: tuple[Access, ...]
    coefficient: complex = 1
    span: Span | None = None

    def __str__(self) -> str:
        number = [] if self.coefficient == 1 else [f"{self.coefficient:.6g}"]
        factors = " * ".join([*number, *map(print_access, self.factors)])
        return f"{print_access(self.output)} = {factors}"


@dataclass(frozen=True, slots=True)
class Combination:
    """`output = sum of number * access + plain + constant`; accesses are of whole plain axes."""

    einsum: str
    output: Access
    terms: tuple[tuple[complex, Access], ...]
    plain: Access | None = None
    constant: complex = 0
    span: Span | None = None

    @property
    def one(self) -> Access | None:
        """The access, if it is no more than one."""
        if len(self.terms) > 1 or self.plain is not None or self.constant != 0:
            return None
        return next((access for number, access in self.terms if number == 1), None)

    def __str__(self) -> str:
        parts = [
            print_access(access) if number == 1 else f"{number:.6g} * {print_access(access)}"
            for number, access in self.terms
        ]
        parts += [] if self.plain is None else [print_access(self.plain)]
        parts += [] if self.constant == 0 else [f"{self.constant:.6g}"]
        return f"{print_access(self.output)} = {' + '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Elementwise:
    """`output = series of argument`, element by element, whatever their axes."""

    einsum: str
    output: str
    argument: str
    series: Series
    span: Span | None = None

    def __str__(self) -> str:
        return f"{self.output} = {self.series} of {self.argument}"


Step: TypeAlias = Product | Combination | Elementwise


@dataclass(frozen=True, slots=True)
class Normal:
    """The steps, and the Cascade in the clear that gives the plain tensors that they read.

    `outputs` are those that are encrypted, `clear` the others. `sizes` are extents by variable,
    `shapes` those of all tensors. `spans` are of the Einsums that are encrypted, in order.
    """

    name: str
    steps: tuple[Step, ...]
    plain: Cascade
    secret: tuple[str, ...]
    outputs: tuple[str, ...]
    clear: tuple[str, ...]
    sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    approximated: tuple[Approximated, ...]
    spans: Mapping[str, Span | None]

    def __str__(self) -> str:
        """What is computed in the clear, and then each step, on a line of its own."""
        clear = [f"  {print_einsum(einsum)}" for einsum in self.plain.einsums]
        lines = [f"encrypted {', '.join(self.secret)}"]
        lines += ["in the clear", *clear] if clear else []
        return "\n".join([*lines, "on slots", *(f"  {step}" for step in self.steps)])
