"""Whether a body comes apart as it is said to, tried on numbers.

What separate.py finds by rules is evaluated, whole and apart, at random points: F(x, d) against the
kernel and what is deferred, and the kernel at d' against the kernel at d, repaired. And so is that
an exponent is nowhere above what the maximum is one of, without which a prefix may overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...ir.cascade import Cascade, TensorDecl
from ...ir.dtypes import DType
from ...ir.einsum import Access, Coordinate, Einsum, Expr, Map, Reduce, rewrite_leaves, substitute
from ...ir.errors import EinloomError
from ...ir.interpreter import evaluate
from ...ir.ranks import Rank, RankExpr
from .forms import Form
from .separate import Separator

_SAMPLES = 64
_TOLERANCE = 1e-9
#: Two exponents are the same up to the rounding of a cast to f16.
_ROUNDED = 1e-2


def refuted(
    separator: Separator, body: Expr, terms: Sequence[Form], *, additive: bool
) -> str | None:
    """A point at which a body is not what its terms say, as text; None if there is none found."""
    points = _Points(separator)
    whole = points.at(body)
    total: Expr | None = None
    pairs: list[tuple[Expr, Expr]] = []
    for term in terms:
        value: Expr | None = None if term.kernel is None else points.at(term.kernel)
        if value is not None and term.shifts:
            pairs.append(points.repair(value, term))
        for owed, sign in term.outer:
            op = ("add" if sign > 0 else "sub") if additive else ("mul" if sign > 0 else "div")
            start: Expr = points.neutral(0.0 if additive else 1.0)
            value = Map(op, (start if value is None else value, points.at(owed)))
        if value is not None:
            total = value if total is None else Map("add", (total, value))
    if total is not None:
        pairs.append((whole, total))
    for one, other in pairs:
        found = points.differ(one, other)
        if found is not None:
            return found
    return None


def exceeds(
    separator: Separator,
    exponent: Expr,
    bound: Expr,
    definition: Callable[[Access], Expr | None],
    dtypes: Mapping[str, DType],
) -> bool:
    """Whether an exponent is above its bound at some point, or cannot be compared with it.

    `definition` says what an intermediate is that is as much a name for an expression.
    """
    points = _Signed(separator, definition, dtypes)
    try:
        found = points.values(points.at(exponent), points.at(bound))
    except EinloomError:
        return True
    value, limit = np.real(found[0]), np.real(found[1])
    with np.errstate(all="ignore"):
        room = _ROUNDED * (np.abs(value) + np.abs(limit))
        above = value > limit + np.where(np.isfinite(room), room, 0)
    known = ~(np.isnan(value) | np.isnan(limit))
    return not known.any() or bool((above & known).any())


class _Points:
    """Random values for the leaves of expressions, each leaf a vector over all points."""

    def __init__(self, separator: Separator) -> None:
        self._separator = separator
        self._names: dict[object, str] = {}
        self._values: dict[str, np.ndarray] = {}
        self._rng = np.random.default_rng(0)

    def at(self, expr: Expr) -> Expr:
        """The expression with every leaf, and every reduction that is none, a value."""
        if isinstance(expr, Reduce) and expr.op == "or":  # where it holds nowhere, all is zero
            return self._vector("anywhere", np.ones(_SAMPLES, bool))
        if isinstance(expr, Reduce):
            return self._leaf(expr, moves=False)
        if isinstance(expr, Map):
            args = tuple(map(self.at, expr.args))
            if expr.op == "cast" and expr.dtype is not None and expr.dtype.kind == "float":
                return args[0]  # that numbers are rounded does not tell two forms apart
            if expr.op == "select" and isinstance(expr.args[0], Access):
                args = (
                    self._vector(("true", expr.args[0]), self._rng.random(_SAMPLES) < 0.5),
                    *args[1:],
                )
            return Map(expr.op, args, expr.dtype)
        if isinstance(expr, Access):
            kernel = self._separator.kernels.get(expr.tensor)
            if kernel is not None:
                values = {
                    v.variable: index
                    for v, index in zip(kernel.einsum.left, expr.indices, strict=True)
                    if v.variable is not None and isinstance(index, RankExpr)
                }
                return self.at(substitute(kernel.expr, values))
            inside = self._separator.inside(expr)
            if inside is not None:
                return self.at(inside)
            return self._leaf(expr, moves=self._separator.moves(expr))
        if isinstance(expr, Coordinate):
            return self._leaf(expr, moves=False)
        return expr

    def neutral(self, value: float) -> Access:
        """A number, as a vector."""
        return self._vector(("number", value), np.full(_SAMPLES, value))

    def repair(self, kernel: Expr, term: Form) -> tuple[Expr, Expr]:
        """The kernel at other values of what it is repaired for, and the kernel repaired."""
        exponent: Expr | None = None
        moved: dict[str, Access] = {}
        for shift in term.shifts:
            here = self._leaf(shift.value, moves=True)
            there = self._vector(("moved", shift.value), self._values[here.tensor] + 0.5)
            moved[here.tensor] = there
            pair: tuple[Expr, Expr] = (here, there)
            step: Expr = Map("sub", pair if shift.sign < 0 else pair[::-1])
            if shift.scale is not None:
                step = Map("mul", (step, self.at(shift.scale)))
            exponent = step if exponent is None else Map("add", (exponent, step))
        assert exponent is not None
        repaired = Map("mul", (kernel, Map(term.shifts[0].base, (exponent,))))

        def leaf(node: Access | Coordinate) -> Expr:
            return moved.get(node.tensor, node) if isinstance(node, Access) else node

        return rewrite_leaves(kernel, leaf), repaired

    def _leaf(self, node: Expr, *, moves: bool) -> Access:
        # What is still folded is mostly a maximum: above what it is one of.
        low = 1.0 if moves else 0.0
        return self._vector(node, np.abs(self._rng.normal(size=_SAMPLES)) + low)

    def _vector(self, key: object, values: np.ndarray) -> Access:
        if key not in self._names:
            self._names[key] = f"X{len(self._names)}"
            self._values[self._names[key]] = values
        return Access(self._names[key], (RankExpr.of_variable("i"),))

    def values(self, one: Expr, other: Expr) -> tuple[np.ndarray, np.ndarray]:
        """Two expressions at every point.

        Raises:
            EinloomError: numbers stand where the text has other types.
        """
        output = (RankExpr.of_variable("i"),)
        cascade = Cascade(
            "points",
            (Rank("I", _SAMPLES),),
            tuple(TensorDecl(name, (RankExpr.of_size("I"),)) for name in self._values),
            (Einsum(Access("ONE", output), one), Einsum(Access("OTHER", output), other)),
            ("ONE", "OTHER"),
        )
        with np.errstate(all="ignore"):
            found = evaluate(cascade, self._values)
        return np.asarray(found["ONE"]), np.asarray(found["OTHER"])

    def differ(self, one: Expr, other: Expr) -> str | None:
        """Where two expressions differ, as text."""
        try:
            first, second = self.values(one, other)
        except EinloomError:
            return None
        with np.errstate(all="ignore"):
            far = np.abs(first - second) > _TOLERANCE * (1 + np.abs(first) + np.abs(second))
        both = np.isfinite(first) & np.isfinite(second)
        if not (far & both).any():
            return None
        at = int(np.argmax(far & both))
        return f"{first[at]:.6g} is not {second[at]:.6g}"


class _Signed(_Points):
    """Values of either sign, of their tensors' types, and of intermediates from what they are."""

    def __init__(
        self,
        separator: Separator,
        definition: Callable[[Access], Expr | None],
        dtypes: Mapping[str, DType],
    ) -> None:
        super().__init__(separator)
        self._definition, self._dtypes = definition, dtypes

    def at(self, expr: Expr) -> Expr:
        if isinstance(expr, Access) and expr not in self._names:
            inside = self._definition(expr)
            if inside is not None:
                value = self.at(inside)
                return self._vector(expr, self.values(value, value)[0])
        return super().at(expr)

    def _leaf(self, node: Expr, *, moves: bool) -> Access:
        values: np.ndarray = self._rng.normal(size=_SAMPLES)
        if isinstance(node, Coordinate):  # a size is positive, and no coordinate is negative
            values = np.ceil(4 * np.abs(values)) - (not node.name.isupper())
        elif isinstance(node, Access) and node.tensor in self._dtypes:
            dtype = self._dtypes[node.tensor]
            values = values > 0 if dtype.kind == "bool" else values
            values = np.round(4 * values) if dtype.is_integer else values
        return self._vector(node, values)
