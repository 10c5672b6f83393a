"""The adjoint of a product: what a factor's cotangent is, as a product again.

The law is that of *The Syntax and Semantics of einsum* (arXiv 2509.20020), by its number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...ir.cascade import Cascade, TensorDecl
from ...ir.einsum import Access, Einsum
from ...ir.errors import PassError
from ...ir.ranks import RankExpr
from ..base import Pass
from ..rewrite import factors_of, product, sum_order
from ..scope import Scope


def adjoint(einsum: Einsum, operand: int, cotangent: str, name: str) -> Einsum:
    """The Einsum that defines, as `name`, the cotangent of one factor of a product.

    It is linear in the tensor `cotangent`, which is laid out as the product's output. A repeated
    index of the output reads its diagonal; one of the factor writes one, with zeros beside it. A
    variable that the factor alone has, and that is summed, is on the left only: the ones that the
    formal language needs there are implied here. Of a factor that occurs twice, each occurrence
    has a cotangent of its own; they add up. Over a semiring without derivatives it is the transpose
    of the product, seen as a function of that factor: ⊕ dY ⊗ Y = ⊕ dA ⊗ A.

    Source: rule 23 (ADJOINT): `#(I, others, ones -> Ik; dY, others)`.

    Raises:
        PassError: the Einsum is no product, or the factor is read at an index that is neither a
            variable nor 0, or with a fill.

    >>> from einloom.compiler import parse
    >>> from einloom.ir.printer import print_einsum
    >>> (einsum,) = parse("ij,jk->ik").einsums
    >>> print_einsum(adjoint(einsum, 1, "dY", "dB"))
    'dB[j,k] = dY[i,k] * A[i,j]'
    """
    factors = factors_of(einsum, "adjoint")
    if not 0 <= operand < len(factors):
        raise PassError(f"{einsum.name} has {len(factors)} factors", span=einsum.span)
    factor = factors[operand]
    readable = all(
        isinstance(index, RankExpr) and (index.variable is not None or index.constant == 0)
        for index in factor.indices
    )
    if not readable or factor.fill is not None:
        raise PassError(
            f"the cotangent of {factor.tensor} cannot be written at the indices it is read at",
            span=factor.span,
            hint="they must be variables or 0",
        )
    rest = (*factors[:operand], *factors[operand + 1 :])
    read = (Access(cotangent, einsum.output.indices), *rest)
    output = Access(name, factor.indices)
    written = set(output.variables())
    inside = dict.fromkeys((*einsum.free, *einsum.reduced))
    summed = sum_order([v for v in inside if v not in written], read)
    return product(einsum, output, read, summed)


@dataclass(frozen=True, slots=True)
class Adjoint(Pass):
    """The Cascade that takes a product's cotangent as a further input to that of one factor.

        Y[i,k]  = A[i,j] * B[j,k]
     -> dB[j,k] = dY[i,k] * A[i,j]               adjoint{tensor=Y, operand=1}

    Not an equality but a derivation: the result is another function. Condition: as for the function
    `adjoint`; the product reads inputs, or what is defined before it; over another semiring than
    that of sums of products, its laws hold in the types computed in. Source: rule 23 (ADJOINT).

    Options:
        tensor: the product, by what it defines.
        operand: the position of the factor.

    Raises:
        PassError: there is no such product or factor, the factor is read at other indices, or the
            semiring's laws do not hold.
    """

    name: ClassVar[str] = "adjoint"
    tensor: str
    operand: int = 0

    def __call__(self, cascade: Cascade) -> Cascade:
        scope = Scope(cascade)
        before: list[Einsum] = []
        for einsum in cascade.einsums:
            scope.define(einsum)
            if einsum.name == self.tensor:
                break
            before.append(einsum)
        else:
            raise PassError(f"{cascade.name} defines no tensor {self.tensor}")
        factors = factors_of(einsum, self.name)
        extents = scope.extents(self.tensor)
        if extents is None or not 0 <= self.operand < len(factors):
            raise PassError(f"{self.tensor} has {len(factors)} factors", span=einsum.span)
        ring = einsum.ring
        if (ring.add, ring.mul) != ("add", "mul") and not scope.regroups(einsum):
            raise PassError(
                f"the laws of {ring} do not hold in the types of {self.tensor}", span=einsum.span
            )
        cotangent = scope.fresh(f"d{self.tensor}")
        made = adjoint(
            einsum, self.operand, cotangent, scope.fresh(f"d{factors[self.operand].tensor}")
        )
        decl = TensorDecl(cotangent, extents, scope.dtypes.get(self.tensor))
        return replace(
            cascade,
            inputs=(*cascade.inputs, decl),
            einsums=(*before, made),
            outputs=(made.name,),
        )
