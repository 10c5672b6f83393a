"""The IR, page one: what an Einsum is.

    Einsum    = output Access, expr, semiring, where/otherwise, dtype
    expr      = Access | Literal | Coordinate | Map | Reduce
    Access    = tensor [ index, ... ] else fill      an index is a RankExpr or, a gather, an Access
    Map       = operator (expr, ...)                 elementwise
    Reduce    = operator [ variables ] expr          over the variables' whole ranks

An Einsum says: for every point of its output's variables, the output at that point is the value
of `expr`. Reductions are always explicit here; the text leaves out the outermost one when it is
the semiring's own over exactly the variables missing on the left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from .dtypes import DType
from .operators import SEMIRINGS, Number, Semiring
from .ranks import RankExpr
from .source import Span


@dataclass(frozen=True, slots=True)
class Literal:
    """A number; weak, as a Python number is beside NumPy arrays (NEP 50)."""

    value: Number
    span: Span | None = field(default=None, compare=False, repr=False)

    def __eq__(self, other: object) -> bool:
        # 1, 1.0 and True are different literals, -0.0 is not 0.0, and nan is itself.
        return isinstance(other, Literal) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[type, str]:
        return type(self.value), repr(self.value)


@dataclass(frozen=True, slots=True)
class Access:
    """A tensor read (or, on the left, written) at an index for each of its ranks.

    `fill` is the value outside the tensor's range; without one, outside is an error.
    """

    tensor: str
    indices: tuple[RankExpr | Access, ...] = ()
    fill: Literal | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    def variables(self) -> Iterator[str]:
        """The rank variables in the indices, in order, possibly repeated."""
        for index in self.indices:
            yield from index.variables()

    @property
    def plain(self) -> tuple[str, ...] | None:
        """The variables, if every index is exactly one variable and there is no fill."""
        found: list[str] = []
        for index in self.indices:
            variable = index.variable if isinstance(index, RankExpr) else None
            if variable is None or self.fill is not None:
                return None
            found.append(variable)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Coordinate:
    """As an i64, the coordinate of a variable (`m`) or the size of a rank (`M`)."""

    name: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Map:
    """An operator applied elementwise; an associative and commutative one takes two or more.

    Such a chain converts all of its operands to their common type first, then folds from the left.
    `dtype` is given for `cast` and `bitcast` alone: the type they make.
    """

    op: str
    args: tuple[Expr, ...]
    dtype: DType | None = None
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reduce:
    """A left fold of `expr` by an operator over the ranks of some variables, first one outermost.

    The fold starts with the first value; a fold over nothing is the operator's identity (the
    semiring's zero where the operator is the Einsum's semiring's own).
    """

    op: str
    variables: tuple[str, ...]
    expr: Expr
    span: Span | None = field(default=None, compare=False, repr=False)


Expr: TypeAlias = Access | Literal | Coordinate | Map | Reduce


@dataclass(frozen=True, slots=True)
class Einsum:
    """One definition: `output = expr over semiring where condition else otherwise`.

    A variable that the output repeats makes a diagonal: elsewhere the value is the semiring's
    zero. `where` keeps the points of the iteration space at which it is true. `dtype` is what the
    outermost reduction accumulates in and the output stores, and a product under that reduction
    is computed in no less (`infer.product_dtype`); None: what `expr` gives.
    """

    output: Access
    expr: Expr
    semiring: str = "sum_product"
    where: Expr | None = None
    otherwise: Literal | None = None
    dtype: DType | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The tensor it defines."""
        return self.output.tensor

    @property
    def ring(self) -> Semiring:
        return SEMIRINGS[self.semiring]

    @property
    def free(self) -> tuple[str, ...]:
        """The output's variables, each once, in order."""
        return tuple(dict.fromkeys(self.output.variables()))

    @property
    def body(self) -> Expr:
        """`expr` without its outermost reduction by the semiring's own operator."""
        if isinstance(self.expr, Reduce) and self.expr.op == self.ring.add:
            return self.expr.expr
        return self.expr

    @property
    def reduced(self) -> tuple[str, ...]:
        """The variables of that outermost reduction."""
        if isinstance(self.expr, Reduce) and self.expr.op == self.ring.add:
            return self.expr.variables
        return ()

    def product(self) -> tuple[Access, ...] | None:
        """The factors, if this is a pure product of Accesses reduced by its own semiring.

        That is the form of a classic einsum; None for anything else (a filter, a function, an
        inner reduction, a declared dtype on a cast).
        """
        if self.where is not None:
            return None
        body = self.body
        if isinstance(body, Access):
            return (body,)
        if isinstance(body, Map) and body.op == self.ring.mul:
            factors = tuple(arg for arg in body.args if isinstance(arg, Access))
            return factors if len(factors) == len(body.args) else None
        return None


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside; the Accesses of a gather count as inside."""
    if isinstance(expr, Map):
        return expr.args
    if isinstance(expr, Reduce):
        return (expr.expr,)
    if isinstance(expr, Access):
        return tuple(index for index in expr.indices if isinstance(index, Access))
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and everything inside it, outermost first, left to right."""
    stack: list[Expr] = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


def accesses(expr: Expr) -> Iterator[Access]:
    """Every Access inside, left to right."""
    return (node for node in walk(expr) if isinstance(node, Access))


def free_variables(expr: Expr) -> tuple[str, ...]:
    """The variables that occur and are not bound by a Reduce inside, each once, in order."""
    if isinstance(expr, Access):
        return tuple(dict.fromkeys(expr.variables()))
    if isinstance(expr, Coordinate):
        return () if expr.name.isupper() else (expr.name,)
    found = dict.fromkeys(v for child in children(expr) for v in free_variables(child))
    if isinstance(expr, Reduce):
        return tuple(v for v in found if v not in expr.variables)
    return tuple(found)


def addends(expr: Expr, add: str) -> tuple[Expr, ...]:
    """The terms that `expr` adds up by the operator `add`, or subtracts, at its top."""
    if isinstance(expr, Map) and expr.op in (add, "sub", "neg"):
        return tuple(term for arg in expr.args for term in addends(arg, add))
    return (expr,)


def implies(expr: Expr, free: Collection[str], add: str) -> bool:
    """Whether `expr` can be written without a reduction by `add` over what is not in `free`.

    The text leaves such a reduction out only if every addend holds each of its variables, since
    `A[i,k]*B[k] + C[i]` would sum C as often as there are k.
    """
    missing = {variable for variable in free_variables(expr) if variable not in free}
    return all(missing <= set(free_variables(term)) for term in addends(expr, add))


def rewrite_leaves(expr: Expr, leaf: Callable[[Access | Coordinate], Expr]) -> Expr:
    """`expr` with each Access and Coordinate replaced by `leaf` of it; itself if none changes."""
    if isinstance(expr, Access | Coordinate):
        return leaf(expr)
    if isinstance(expr, Map):
        args = tuple(rewrite_leaves(arg, leaf) for arg in expr.args)
        same = all(new is old for new, old in zip(args, expr.args, strict=True))
        return expr if same else replace(expr, args=args)
    if isinstance(expr, Reduce):
        inner = rewrite_leaves(expr.expr, leaf)
        return expr if inner is expr.expr else replace(expr, expr=inner)
    return expr
