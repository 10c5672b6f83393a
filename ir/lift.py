"""Reductions inside an expression as Einsums of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from .cascade import fresh_name
from .dtypes import DType
from .einsum import Access, Einsum, Expr, Map, Reduce, free_variables
from .infer import expr_dtype, strong
from .ranks import RankExpr


def lift(
    einsum: Einsum,
    wanted: Callable[[Reduce], bool],
    names: set[str],
    dtypes: Mapping[str, DType],
    stem: str = "T",
) -> tuple[list[Einsum], Einsum]:
    """The Einsum with the inner reductions that are wanted read from Einsums before it.

        Y[m] = exp(max[k] X[m,k])
     -> T[m] = max[k] X[m,k]
        Y[m] = exp(T[m])

    Equal ones are one. They keep the type that they are computed in, so nothing rounds sooner, and
    the order of the output's variables. `names` grows, by `stem` or what is like it.
    """
    made: dict[Reduce, Einsum] = {}
    known = dict(dtypes)

    def lifted(expr: Expr, *, top: bool = False) -> Expr:
        if isinstance(expr, Map):
            args = tuple(map(lifted, expr.args))
            same = all(new is old for new, old in zip(args, expr.args, strict=True))
            return expr if same else replace(expr, args=args)
        if not isinstance(expr, Reduce):
            return expr
        inner = lifted(expr.expr)
        expr = expr if inner is expr.expr else replace(expr, expr=inner)
        if top or not wanted(expr):
            return expr
        if expr in made:
            return made[expr].output
        name = fresh_name(stem, names)
        names.add(name)
        free = free_variables(expr)
        order = [v for v in einsum.free if v in free]
        order += [v for v in free if v not in order]
        output = Access(name, tuple(map(RankExpr.of_variable, order)), None, expr.span)
        known[name] = strong(expr_dtype(expr, known)).compute
        made[expr] = Einsum(output, expr, einsum.semiring, dtype=known[name], span=einsum.span)
        return output

    expr = lifted(einsum.expr, top=True)
    return list(made.values()), einsum if expr is einsum.expr else replace(einsum, expr=expr)
