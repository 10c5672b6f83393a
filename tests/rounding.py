"""How far apart two computations of one Cascade may be: |error| <= c n eps sum|terms|, in general.

The bound is a Cascade itself, which the interpreter evaluates: for each tensor Y one tensor of
what Y may be wrong by, in units of the precision, to first order. A sum of n terms is wrong by what
its terms are wrong by and by n eps sum|terms|, in whatever order they are added; a product by each
factor's error times the other factors; a maximum by the largest error. Where a value jumps, as a
comparison does between numbers that are equal up to their errors, the bound is infinite: nothing is
said there, nor where infinities and NaN are added or multiplied, which no law of a semiring holds
for. Inputs are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import F64, DType, of_numpy
from einloom.ir.einsum import (
    PLACES,
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
)
from einloom.ir.infer import expr_dtype, infer_dtypes, strong
from einloom.ir.interpreter import evaluate
from einloom.ir.ranks import RankExpr
from einloom.passes.rewrites.plain import Plain

from .cascades import Array, epsilon

#: What is added for each operation: small, so that errors of errors do not count.
_UNIT = 2.0**-20
#: Operations that one operation may become: the `c` of the bound.
_FACTOR = 8

ZERO, INFINITE = Literal(0.0), Literal(math.inf)
#: Makes a reduction: operator, variables, what is folded, and what it is of nothing.
Folded: TypeAlias = Callable[[str, tuple[str, ...], Expr, float], Expr]
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def bounds(cascade: Cascade, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """What each output may differ by; NaN or infinite where nothing is said."""
    inputs = tuple(
        replace(decl, dtype=decl.dtype or of_numpy(arrays[decl.name].dtype))
        for decl in cascade.inputs
    )
    cascade = Plain()(replace(cascade, inputs=inputs))
    dtypes = infer_dtypes(cascade, {})
    inexact = [dtype.compute for dtype in dtypes.values() if dtype.is_inexact]
    unit = max(map(epsilon, (*inexact, F64)))
    writer = _Writer(cascade, dtypes)
    errors = (made for einsum in cascade.einsums for made in writer.error(einsum))
    einsums = (*cascade.einsums, *errors)
    names = {name: writer.names[name] for name in cascade.outputs}
    found = evaluate(replace(cascade, einsums=einsums, outputs=tuple(names.values())), arrays)
    return {name: _FACTOR * unit / _UNIT * np.abs(found[made]) for name, made in names.items()}


def assert_near(
    got: Mapping[str, Array], want: Mapping[str, Array], *within: Mapping[str, Array]
) -> None:
    """Equal dtypes, shapes and values; floats differ by no more than the bounds added up.

    Where a bound is not finite nothing is held of the value.
    """
    for name, wanted in want.items():
        found = got[name]
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
        if wanted.dtype.kind not in "fc":
            known = np.all([np.isfinite(each[name]) for each in within], axis=0)
            assert np.array_equal(found[known], wanted[known]), (name, found, wanted)
            continue
        bound = sum(each[name] for each in within)
        with np.errstate(all="ignore"):
            near = np.abs(found.astype("c16") - wanted.astype("c16")) <= bound
        same = (found == wanted) | ((found != found) & (wanted != wanted))
        assert np.all(near | same | ~np.isfinite(bound)), (name, found, wanted, bound)


class _Writer:
    """Makes, for each Einsum, those of its error; `names` has the error's by the tensor's."""

    def __init__(self, cascade: Cascade, dtypes: Mapping[str, DType]) -> None:
        self.dtypes = dtypes
        self.taken = cascade.names()
        self.names = {
            name: self.fresh(f"{name}_error")
            for name in dict.fromkeys(einsum.name for einsum in cascade.einsums)
        }
        self.zero: float = 0.0

    def fresh(self, stem: str) -> str:
        name = next(n for k in range(10**6) if (n := f"{stem}{k or ''}") not in self.taken)
        self.taken.add(name)
        return name

    def error(self, einsum: Einsum) -> list[Einsum]:
        self.zero = float(np.real(einsum.ring.zero)) if einsum.ring.mul == "add" else 0.0
        output = replace(einsum.output, tensor=self.names[einsum.name])
        made: list[Einsum] = []

        def folded(op: str, variables: tuple[str, ...], expr: Expr, otherwise: float) -> Expr:
            """A reduction of its own, of the points that the filter keeps."""
            if expr == ZERO and op != "mul":
                return ZERO
            free = tuple(map(RankExpr.of_variable, einsum.free))
            here = Access(self.fresh("F"), free)
            found = Reduce(op, variables, Map("cast", (expr,), F64))
            where = einsum.where
            other = None if where is None else Literal(otherwise)
            made.append(Einsum(here, found, "sum_product", where, other))
            return here

        expr, dtype = einsum.expr, self.dtypes[einsum.name]
        if isinstance(expr, Reduce):
            total = self._reduced(expr, folded)
            if einsum.where is not None:
                free = tuple(map(RankExpr.of_variable, einsum.free))
                unsure = Access(self.fresh("F"), free)
                error = self.of(einsum.where)
                if error != ZERO:
                    made.append(Einsum(unsure, Reduce("max", expr.variables, error)))
                    total = _plus(total, Map("max", (unsure, ZERO)))
        else:
            total = self.of(expr)
            if einsum.where is not None:
                total = Map("select", (einsum.where, total, ZERO)) if total != ZERO else ZERO
                total = _plus(total, self.of(einsum.where))
        if dtype.is_inexact:
            total = _plus(total, _times(Literal(_UNIT), self.size(einsum.output, here=True)))
        else:
            total = _jump(total)
        made.append(Einsum(output, Map("cast", (total,), F64)))
        return made

    def _reduced(self, node: Reduce, folded: Folded) -> Expr:
        """The error of a reduction; `folded` makes one, of nothing a number."""
        variables, body = node.variables, node.expr
        error = self.of(body)
        if node.op in PLACES or not self.inexact(body):
            largest = folded("max", variables, error, 0.0)
            return ZERO if largest == ZERO else _jump(Map("max", (largest, ZERO)))
        if node.op == "add":
            points: list[Expr] = [Coordinate(v.upper()) for v in variables]
            per_term = _times(Literal(_UNIT), *points, self.size(body))
            return folded("add", variables, _plus(error, per_term), 0.0)
        if node.op == "mul":
            size = self.size(body)
            high = folded("mul", variables, _plus(_times(size, Literal(1 + _UNIT)), error), 1.0)
            return Map("sub", (high, folded("mul", variables, size, 1.0)))
        largest = Map("max", (folded("max", variables, error, 0.0), ZERO))
        if node.op == "logaddexp":
            points = [Coordinate(v.upper()) for v in variables]
            size = folded("max", variables, self.size(body, masked=True), 0.0)
            each = _times(Literal(_UNIT), *points, _plus(Literal(1.0), Map("max", (size, ZERO))))
            return _plus(largest, each)
        return largest

    def inexact(self, expr: Expr) -> bool:
        return strong(expr_dtype(expr, self.dtypes)).is_inexact

    def size(self, expr: Expr, *, masked: bool = False, here: bool = False) -> Expr:
        """|expr|; if `masked`, 0 for the semiring's zero, which is exact and absorbs."""
        if not here and isinstance(expr, Literal):
            return Literal(abs(float(abs(expr.value))))
        value = expr if self.inexact(expr) else Map("cast", (expr,), F64)
        size = Map("abs", (value,))
        if masked and math.isinf(self.zero):
            return Map("select", (Map("eq", (value, Literal(self.zero))), ZERO, size))
        return size

    # ---- expressions

    def of(self, expr: Expr) -> Expr:
        """The error of an expression at a point."""
        if isinstance(expr, Literal | Coordinate):
            return ZERO
        if isinstance(expr, Access):
            return self._access(expr)
        if isinstance(expr, Reduce):
            return self._reduced(
                expr,
                lambda op, variables, body, _: (
                    ZERO if body == ZERO and op != "mul" else Reduce(op, variables, body)
                ),
            )
        errors = [self.of(arg) for arg in expr.args]
        if expr.op in _COMPARISONS:
            return self._compared(expr, errors)
        if expr.op == "select":
            chosen: Expr = ZERO
            if errors[1:] != [ZERO, ZERO]:
                chosen = Map("select", (expr.args[0], errors[1], errors[2]))
            return _plus(chosen, errors[0])
        if not self.inexact(expr):
            return _jump(_plus(*errors))
        return self._operator(expr, errors)

    def _access(self, expr: Access) -> Expr:
        made = self.names.get(expr.tensor)
        fill = None if expr.fill is None else ZERO
        errors = [self.of(index) for index in expr.indices if isinstance(index, Access)]
        own: list[Expr] = []
        if made is not None:
            own = [replace(expr, tensor=made, fill=fill)]
        return _plus(*own, *errors)

    def _compared(self, expr: Map, errors: list[Expr]) -> Expr:
        total = _plus(*errors)
        if total == ZERO:
            return ZERO
        wide = [Map("cast", (arg,), F64) if not self.inexact(arg) else arg for arg in expr.args]
        near = Map("le", (Map("abs", (Map("sub", (wide[0], wide[1])),)), total))
        unsure = Map("and", (near, Map("gt", (total, ZERO))))
        return Map("select", (unsure, INFINITE, ZERO))

    def _operator(self, expr: Map, errors: list[Expr]) -> Expr:
        sizes = [self.size(arg) for arg in expr.args]
        total = _plus(*errors)
        rounding = _times(Literal(_UNIT), self.size(expr))
        if expr.op in ("neg", "abs", "relu", "conj"):
            return total
        if expr.op == "cast":
            return _plus(total, rounding)
        if expr.op in ("max", "min"):
            return total if total == ZERO else Map("max", (*errors, ZERO))
        if expr.op in ("add", "sub"):
            sizes = [self.size(arg, masked=True) for arg in expr.args]
            return _plus(total, _times(Literal(_UNIT * len(sizes)), _plus(*sizes)))
        if expr.op == "logaddexp":
            sizes = [self.size(arg, masked=True) for arg in expr.args]
            return _plus(total, _times(Literal(_UNIT * len(sizes)), _plus(Literal(1.0), *sizes)))
        if expr.op == "mul":
            error, size = errors[0], sizes[0]
            for e, s in zip(errors[1:], sizes[1:], strict=True):
                error = _plus(_times(error, s), _times(size, e), _times(error, e))
                size = _times(size, s)
            return _plus(error, _times(Literal(_UNIT * len(sizes)), size))
        if expr.op == "exp":
            return _times(expr, _plus(errors[0], Literal(_UNIT)))
        if expr.op == "log":
            relative = ZERO if errors[0] == ZERO else Map("div", (errors[0], sizes[0]))
            return _plus(relative, Literal(_UNIT), rounding)
        if expr.op == "div":
            passed = _plus(errors[0], _times(self.size(expr), errors[1]))
            each = ZERO if passed == ZERO else Map("div", (passed, self.size(expr.args[1])))
            return _plus(each, rounding)
        return _plus(_jump(total), rounding)


def _plus(*terms: Expr) -> Expr:
    kept = tuple(term for term in terms if term != ZERO)
    return ZERO if not kept else kept[0] if len(kept) == 1 else Map("add", kept)


def _times(*factors: Expr) -> Expr:
    if ZERO in factors:
        return ZERO
    return factors[0] if len(factors) == 1 else Map("mul", factors)


def _jump(error: Expr) -> Expr:
    """Nothing is known of what jumps by what has an error."""
    if error == ZERO:
        return ZERO
    return Map("select", (Map("gt", (error, ZERO)), INFINITE, Map("mul", (error, ZERO))))
