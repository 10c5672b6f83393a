"""What of a body is still being folded, and the body as a sum of that and of the rest."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from ...ir.dtypes import DTYPES, DType, promote
from ...ir.einsum import (
    Access,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    UserOperator,
    accesses,
    free_variables,
    substitute,
    walk,
)
from ...ir.printer import print_expr
from ...ir.ranks import RankExpr
from .forms import Kernel, NotSeparable, Sum, is_infinite, plus


class Around(Protocol):
    """What is asked about the tensors that a body reads."""

    variable: str  # the rank that is folded

    def moves(self, tensor: str) -> bool:
        """Whether a tensor depends on a value that is still being folded."""
        ...

    def folded(self, tensor: str) -> Reduce | None:
        """The reduction that a tensor is, if it is one of those still being folded."""
        ...

    def definition(self, tensor: str) -> Einsum:
        """The Einsum of an intermediate that moves and is no such reduction."""
        ...

    def dtype(self, expr: Expr) -> DType | None:
        """The dtype of an expression; None for a number, or where it is not known."""
        ...


class Addends:
    """Takes bodies apart as `kernel + outer`; `Separator` goes on with factors."""

    def __init__(self, around: Around) -> None:
        self._around = around
        #: The kernels of intermediates, which all that read these share, by names that none has.
        self.kernels: dict[str, Kernel] = {}
        self._addends: dict[tuple[str, bool], Sum] = {}
        #: What the body that is taken apart is computed in, where it is known.
        self._computed: DType | None = None

    @contextmanager
    def inside_of(self, computed: DType | None) -> Generator[None]:
        """While a body of this dtype is taken apart."""
        before, self._computed = self._computed, computed
        try:
            yield
        finally:
            self._computed = before

    def _kept(self, expr: Expr) -> Expr:
        """What stays in a reduction, in the dtype in which it was an operand of the whole body.

        Alone it might be computed in less: an integer that multiplied a float would wrap.
        """
        dtype, computed = self._around.dtype(expr), self._computed
        if dtype is None or computed is None or not computed.is_inexact:
            return expr
        bits = computed.bits // (2 if computed.kind == "complex" else 1)
        if dtype.kind == "complex" or (dtype.kind == "float" and dtype.bits >= bits):
            return expr
        return Map("cast", (expr,), DTYPES[f"f{bits}"] if bits != 16 else computed)

    # ---- what an expression depends on

    def moves(self, expr: Expr) -> bool:
        """Whether it depends on a value that is still being folded."""
        return any(self._around.moves(access.tensor) for access in accesses(expr))

    def walks(self, expr: Expr) -> bool:
        """Whether it has the variable of the rank that is folded."""
        return self._around.variable in free_variables(expr)

    def _unfolded(self, access: Access) -> tuple[Einsum, Expr, dict[str, RankExpr]]:
        """The Einsum of an intermediate that moves, its value, and the indices it is read at."""
        einsum = self._around.definition(access.tensor)
        values: dict[str, RankExpr] = {}
        for variable, index in zip(einsum.left, access.indices, strict=True):
            if not isinstance(index, RankExpr) or variable.variable is None:
                raise NotSeparable(f"{access.tensor} is gathered", span=access.span)
            if variable.variable == self._around.variable and index != variable:
                raise NotSeparable(
                    f"{access.tensor} is read at {index}, away from {variable}", span=access.span
                )
            if values.setdefault(variable.variable, index) != index:
                raise NotSeparable(f"{access.tensor} is a diagonal", span=access.span)
        if access.fill is not None:
            raise NotSeparable(f"{access.tensor} is read with a fill", span=access.span)
        expr = einsum.expr
        if einsum.where is not None:
            if isinstance(expr, Reduce) or einsum.otherwise is None:
                raise NotSeparable(
                    f"{einsum.name} is itself a filtered reduction of what is still being folded",
                    span=access.span,
                )
            expr = Map("select", (einsum.where, expr, einsum.otherwise), span=expr.span)
        if any(isinstance(node, Reduce) for node in walk(expr)):
            raise NotSeparable(
                f"{einsum.name} adds up what depends on a value that is still being folded",
                span=access.span or einsum.span,
            )
        return einsum, expr, values

    def inside(self, access: Access) -> Expr | None:
        """What an intermediate that moves is, at an Access; None for one that is folded."""
        if not self.moves(access):
            return None
        try:
            _, expr, values = self._unfolded(access)
        except NotSeparable:
            return None
        return substitute(expr, values)

    def _kernel(self, einsum: Einsum, way: str, kernel: Expr | None, *, whole: bool) -> Expr | None:
        """A kernel of an intermediate, as a read of it; one that is a read already stays."""
        if kernel is None or isinstance(kernel, Access | Literal):
            return kernel
        name = f"{einsum.name}'{way}"
        self.kernels[name] = Kernel(einsum, kernel, whole)
        return Access(name, einsum.left)

    def _widens(self, expr: Map) -> bool:
        """Whether a cast is one to a float that holds all values of its operand's float type.

        Another one may overflow, or lose what a difference leaves, once the parts are apart.
        """
        dtype = self._around.dtype(expr.args[0])
        kinds = {each.kind for each in (dtype, expr.dtype) if each is not None}
        return (
            dtype is not None
            and expr.dtype is not None
            and kinds == {"float"}
            and promote(dtype, expr.dtype) == expr.dtype
        )

    def _mixed(self, expr: Expr) -> NotSeparable:
        names = dict.fromkeys(a.tensor for a in accesses(expr) if self._around.moves(a.tensor))
        return NotSeparable(
            f"`{print_expr(expr)}` mixes {', '.join(names)} with what is read at each "
            f"{self._around.variable}, so that neither can be taken out of the reduction",
            span=expr.span,
        )

    # ---- addends

    def addends(self, expr: Expr, *, masks: bool = False) -> Sum:
        """An expression apart as `kernel + outer`.

        `masks`: a choice of -inf stays -inf whatever is added, as the argument of an exponential.

        Raises:
            NotSeparable: it does not come apart.
        """
        if not self.moves(expr):
            return Sum(self._kept(expr))
        if not self.walks(expr):
            return self._constant(expr)
        if isinstance(expr, Access):
            return self._read_addends(expr, masks=masks)
        if not isinstance(expr, Map):
            raise self._mixed(expr)
        if isinstance(expr.op, UserOperator):
            return self.addends(expr.op.expand(expr.args))
        if expr.op in ("add", "sub"):
            found = Sum(None)
            for number, arg in enumerate(expr.args):
                sign = -1 if expr.op == "sub" and number else 1
                found = plus(found, self.addends(arg, masks=masks), sign)
            return found
        if expr.op == "neg":
            return plus(Sum(None), self.addends(expr.args[0], masks=masks), -1)
        if expr.op in ("mul", "div"):
            return self._times(expr, masks=masks)
        if expr.op == "select":
            condition, first, second = expr.args
            one = self.addends(first, masks=masks)
            may = masks and not self.moves(condition) and is_infinite(second)
            if may and one.kernel is not None:
                kernel = Map("select", (condition, one.kernel, second), span=expr.span)
                return Sum(kernel, one.outer, (*one.active, condition))
        if expr.op == "cast" and self._widens(expr):
            one = self.addends(expr.args[0], masks=masks)
            inside = None if one.kernel is None else replace(expr, args=(one.kernel,))
            return Sum(inside, one.outer, one.active)
        raise self._mixed(expr)

    def _constant(self, expr: Expr) -> Sum:
        """An expression in d alone, as its addends."""
        if isinstance(expr, Access) and self._around.folded(expr.tensor) is None:
            _, inside, values = self._unfolded(expr)
            return self._constant(substitute(inside, values))
        if isinstance(expr, Map) and expr.op in ("add", "sub"):
            found = Sum(None)
            for number, arg in enumerate(expr.args):
                sign = -1 if expr.op == "sub" and number else 1
                found = plus(found, self._constant(arg), sign)
            return found
        if isinstance(expr, Map) and expr.op == "neg":
            return plus(Sum(None), self._constant(expr.args[0]), -1)
        return Sum(None, ((expr, 1),))

    def _times(self, expr: Map, *, masks: bool) -> Sum:
        """A sum times what neither moves nor walks the rank."""
        moving = [arg for arg in expr.args if self.moves(arg)]
        others = [arg for arg in expr.args if not self.moves(arg)]
        steady = not any(self.walks(arg) for arg in others)
        if len(moving) != 1 or not steady or (expr.op == "div" and moving[0] is not expr.args[0]):
            raise self._mixed(expr)
        inside = self.addends(moving[0], masks=masks)

        def scaled(term: Expr) -> Expr:
            return replace(expr, args=tuple(term if a is moving[0] else a for a in expr.args))

        kernel = None if inside.kernel is None else scaled(inside.kernel)
        outer = tuple((scaled(term), sign) for term, sign in inside.outer)
        return Sum(kernel, outer, inside.active)

    def _read_addends(self, access: Access, *, masks: bool) -> Sum:
        einsum, expr, values = self._unfolded(access)
        key = einsum.name, masks
        if key not in self._addends:
            with self.inside_of(einsum.dtype or self._around.dtype(expr)):
                found = self.addends(expr, masks=masks)
            made = self._kernel(einsum, f"+{masks:d}", found.kernel, whole=not found.outer)
            self._addends[key] = replace(found, kernel=made)
        found = self._addends[key]
        kernel = None if found.kernel is None else substitute(found.kernel, values)
        outer = tuple((substitute(term, values), its) for term, its in found.outer)
        return Sum(kernel, outer, tuple(substitute(each, values) for each in found.active))
