"""What stands on the right side of an Einsum.

    expr      = Access | Literal | Coordinate | Map | Reduce
    Access    = tensor [ index, ... ] else fill      an index is a RankExpr or, a gather, an Access
    Map       = operator (expr, ...)                 elementwise
    Reduce    = operator [ variables ] expr          over the variables' whole ranks
    operator  = a name in the table of operators.py, or a UserOperator: parameters and a body

Nodes are values: an operator of the text's own is part of each node that applies it, so that an
expression means the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal as OneOf
from typing import TypeAlias

from .dtypes import I64, DType, Number
from .ranks import RankExpr
from .source import Span

#: What an operator may promise; each holds on every dtype it takes, in floats up to rounding.
Law: TypeAlias = OneOf["commutative", "associative", "idempotent"]


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

    def substitute(self, values: Mapping[str, RankExpr]) -> Access:
        """The Access at these values of some variables, inside gathers too; itself if none is."""
        indices = tuple(index.substitute(values) for index in self.indices)
        same = all(new is old for new, old in zip(indices, self.indices, strict=True))
        return self if same else replace(self, indices=indices)

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

    op: Op
    args: tuple[Expr, ...]
    dtype: DType | None = None
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reduce:
    """A left fold of `expr` by an operator over the ranks of some variables, first one outermost.

    The fold starts with the first value; a fold over nothing is the operator's identity (the
    semiring's zero where the operator is the Einsum's semiring's own). `argmax` and `argmin` give
    the coordinate of the first largest or smallest value, the first NaN if there is one, as an
    i64; of nothing, -1.
    """

    op: Op
    variables: tuple[str, ...]
    expr: Expr
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a UserOperator; a declared dtype converts the argument."""

    name: str
    dtype: DType | None = None

    def __str__(self) -> str:
        return self.name if self.dtype is None else f"{self.name}: {self.dtype}"


@dataclass(frozen=True, slots=True)
class UserOperator:
    """An operator of the text's own: `op name(a, b) [laws] = body`.

    Applied, it is its body with each parameter replaced by the argument. The body reads a
    parameter as a scalar tensor, `Access("a")`, and is made of literals and Maps besides.
    `identity` is what a reduction by it is of nothing (None: it cannot reduce); `distributes_over`
    has the operators `+` with a*(b+c) = a*b + a*c, `inverse` is the operator that undoes it:
    inverse(a*b, b) = a. Laws are the author's word, tested on random values where text is read.
    """

    name: str
    parameters: tuple[Parameter, ...]
    body: Expr
    laws: tuple[Law, ...] = ()
    identity: Literal | None = None
    distributes_over: tuple[Op, ...] = ()
    inverse: Op | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def arity(self) -> int:
        return len(self.parameters)

    @property
    def named(self) -> tuple[Op, ...]:
        """The operators that its laws name."""
        return (*self.distributes_over, *(() if self.inverse is None else (self.inverse,)))

    def __str__(self) -> str:
        return self.name

    def expand(self, args: tuple[Expr, ...]) -> Expr:
        """What it is of these arguments, with no operator of this name in it."""
        given = {
            parameter.name: arg
            if parameter.dtype is None
            else Map("cast", (arg,), parameter.dtype, arg.span)
            for parameter, arg in zip(self.parameters, args, strict=True)
        }
        return rewrite_leaves(
            self.body, lambda leaf: given[leaf.tensor] if isinstance(leaf, Access) else leaf
        )


#: An operator: the name of one in the table, or one of the text's own.
Op: TypeAlias = str | UserOperator
Expr: TypeAlias = Access | Literal | Coordinate | Map | Reduce

#: The reductions that give a coordinate, and the operator whose value it is the coordinate of.
PLACES: dict[Op, str] = {"argmax": "max", "argmin": "min"}


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


def levels(expr: Expr) -> Iterator[tuple[Expr, int]]:
    """The same, each with how deeply it is nested, from 1."""
    stack = [(expr, 1)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack += [(child, depth + 1) for child in reversed(children(node))]


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


def addends(expr: Expr, add: Op) -> tuple[Expr, ...]:
    """The terms that `expr` adds up by the operator `add`, or subtracts, at its top."""
    if isinstance(expr, Map) and expr.op in (add, "sub", "neg"):
        return tuple(term for arg in expr.args for term in addends(arg, add))
    return (expr,)


def implies(expr: Expr, free: Collection[str], add: Op) -> bool:
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


def substitute(expr: Expr, values: Mapping[str, RankExpr]) -> Expr:
    """The expression at these values of some variables, none of which it reduces over."""

    def leaf(node: Access | Coordinate) -> Expr:
        if isinstance(node, Access):
            return node.substitute(values)
        return index_value(values[node.name]) if node.name in values else node

    return rewrite_leaves(expr, leaf)


def index_value(index: RankExpr) -> Expr:
    """The value of an index as an expression, an i64 as a coordinate is."""
    terms: list[Expr] = []
    for term in index.terms:
        factors: list[Expr] = [] if term.coefficient == 1 else [Literal(term.coefficient)]
        factors += [Coordinate(name) for name in (term.variable, *term.sizes) if name is not None]
        terms.append(factors[0] if len(factors) == 1 else Map("mul", tuple(factors)))
    if not terms:
        return Map("cast", (Literal(index.offset),), I64)
    if index.offset:
        terms.append(Literal(index.offset))
    value = terms[0] if len(terms) == 1 else Map("add", tuple(terms))
    # Of sizes alone it would be weak.
    return value if any(index.variables()) else Map("cast", (value,), I64)


def rebind(expr: Expr, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Expr:
    """The expression with what every Reduce inside binds changed; itself if nothing is."""
    if isinstance(expr, Reduce):
        variables, inner = change(expr.variables), rebind(expr.expr, change)
        if variables == expr.variables and inner is expr.expr:
            return expr
        return replace(expr, variables=variables, expr=inner)
    if isinstance(expr, Map):
        args = tuple(rebind(arg, change) for arg in expr.args)
        same = all(new is old for new, old in zip(args, expr.args, strict=True))
        return expr if same else replace(expr, args=args)
    return expr
