"""What a reduction's body owes to values that are still being folded: apart, factor by factor.

A reduction S = sum[m] F(x, d) reads other reductions d over the same rank. Apart means

    F(x, d) = k(x, d) * H(d)            H is deferred: it multiplies the sum, once (rule A)
    k(x, d') = k(x, d) * exp(a(d') - a(d))    k is repaired when d moves on to d' (rule B)

with k = exp(x - d) and a = -d the case that matters. Under max, min and logaddexp `+` takes the
place of `*`. A sum of such terms is apart as well, one reduction for each (rule A').

Rule B is for exponentials alone, and only where d is a running maximum that is subtracted (or a
minimum that is added), so that every repair exp(a(d') - a(d)) is at most 1: then no prefix needs an
inverse of 0, and no repair overflows where the sum itself would not. What is not apart is refused
with the reason, never approximated.

Sources: deferral is FuseMax's (arXiv 2406.10491); running repair is that of online softmax
(Milakov and Gimelshein, arXiv 1805.02867) and of Neptune (PLDI 2026); RedFuser (ASPLOS 2026) tests
the same condition.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
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
from .forms import (
    Form,
    Kernel,
    NotSeparable,
    Shift,
    Sum,
    at,
    collected,
    guarded_value,
    is_infinite,
    is_zero,
    joined,
    larger,
    negated,
    plus,
    sign_of,
)


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


class Separator:
    """Takes bodies apart, as factors or as addends."""

    def __init__(self, around: Around) -> None:
        self._around = around
        #: The kernels of intermediates, which all that read these share, by names that none has.
        self.kernels: dict[str, Kernel] = {}
        self._factors: dict[str, list[Form]] = {}
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

    def _read_factors(self, access: Access) -> list[Form]:
        einsum, expr, values = self._unfolded(access)
        if einsum.name not in self._factors:
            with self.inside_of(einsum.dtype or self._around.dtype(expr)):
                terms = self.factors(expr)
            made: list[Form] = []
            for number, term in enumerate(terms):
                whole = len(terms) == 1 and not term.outer
                kernel = self._kernel(einsum, str(number), term.kernel, whole=whole)
                made.append(replace(term, kernel=kernel))
            self._factors[einsum.name] = made
        return [at(term, values) for term in self._factors[einsum.name]]

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

    # ---- factors

    def factors(self, expr: Expr) -> list[Form]:
        """The terms of an expression, each apart as factors.

        Raises:
            NotSeparable: it does not come apart.
        """
        if not self.moves(expr):
            return [Form(self._kept(expr))]
        if not self.walks(expr):
            return [Form(None, ((expr, 1),))]
        if isinstance(expr, Access):
            return self._read_factors(expr)
        if isinstance(expr, Map):
            if isinstance(expr.op, UserOperator):
                return self.factors(expr.op.expand(expr.args))
            handler = self._by_operator().get(expr.op)
            if handler is not None:
                return handler(expr)
        raise self._mixed(expr)

    def _by_operator(self) -> dict[str, Callable[[Map], list[Form]]]:
        return {
            "mul": self._product,
            "div": self._quotient,
            "add": self._sum,
            "sub": self._sum,
            "neg": self._negation,
            "pow": self._power,
            "abs": self._absolute,
            "cast": self._cast,
            "select": self._choice,
            "exp": self._exponential,
            "exp2": self._exponential,
        }

    def _product(self, expr: Map) -> list[Form]:
        terms = [Form(None)]
        for arg in expr.args:
            terms = [one.times(other) for one in terms for other in self.factors(arg)]
        return collected(terms)

    def _quotient(self, expr: Map) -> list[Form]:
        over, under = expr.args
        bottom = self.factors(under)
        if len(bottom) > 1 or bottom[0].shifts:
            raise self._mixed(expr)
        (below,) = bottom
        one: Expr = Literal(1)
        found: list[Form] = []
        for term in self.factors(over):
            kernel = term.kernel
            if below.kernel is not None:
                kernel = Map("div", (kernel or one, below.kernel), span=expr.span)
            outer = (*term.outer, *((each, -power) for each, power in below.outer))
            found.append(replace(term, kernel=kernel, outer=outer))
        return found

    def _sum(self, expr: Map) -> list[Form]:
        found: list[Form] = []
        for number, arg in enumerate(expr.args):
            negative = expr.op == "sub" and number > 0
            found += [negated(term) if negative else term for term in self.factors(arg)]
        return collected(found)

    def _negation(self, expr: Map) -> list[Form]:
        return collected([negated(term) for term in self.factors(expr.args[0])])

    def _power(self, expr: Map) -> list[Form]:
        base, exponent = expr.args
        if isinstance(exponent, Literal) and exponent.value in (1, 2, 3, 4):
            return self._product(Map("mul", (base,) * int(exponent.value.real)))
        raise self._mixed(expr)

    def _absolute(self, expr: Map) -> list[Form]:
        """|k * H| = |k| * |H|."""
        terms = self.factors(expr.args[0])
        if len(terms) > 1:
            raise self._mixed(expr)
        (term,) = terms
        kernel = None if term.kernel is None else Map("abs", (term.kernel,))
        outer = tuple((Map("abs", (each,)), power) for each, power in term.outer)
        return [replace(term, kernel=kernel, outer=outer)]

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

    def _cast(self, expr: Map) -> list[Form]:
        if not self._widens(expr):
            raise self._mixed(expr)
        return [
            term
            if term.kernel is None
            else replace(term, kernel=replace(expr, args=(term.kernel,)))
            for term in self.factors(expr.args[0])
        ]

    def _choice(self, expr: Map) -> list[Form]:
        """A choice between two that owe the same, or between one and zero."""
        condition, first, second = expr.args
        if self.moves(condition):
            raise self._mixed(expr)
        ones, others = self.factors(first), self.factors(second)
        if len(ones) > 1 or len(others) > 1:
            raise self._mixed(expr)
        (one,), (other,) = ones, others
        zero_first, zero_second = is_zero(first), is_zero(second)
        owed = other if zero_first else one
        alike = (one.outer, one.shifts) == (other.outer, other.shifts)
        if not (zero_first or zero_second or alike):
            raise self._mixed(expr)
        given: list[Expr] = [each.kernel or Literal(1) for each in (one, other)]
        kernel = Map("select", (condition, *given), span=expr.span)
        outer, active = owed.outer, owed.active
        if zero_first or zero_second:
            chosen = condition if zero_second else Map("eq", (condition, Literal(False)))
            outer = tuple((self._owed_if(chosen, each), power) for each, power in outer)
            active = (*active, chosen) if owed.shifts else active
        exponent = larger(one.exponent, other.exponent)
        return [Form(kernel, outer, owed.shifts, active, exponent)]

    def _owed_if(self, condition: Expr, owed: Expr) -> Expr:
        """What is owed where a condition holds; one where it holds nowhere.

        A choice of zeros alone is zero, whatever they were not divided by.
        """
        anywhere = condition
        if self.walks(condition):
            anywhere = Reduce("or", (self._around.variable,), condition)
        return Map("select", (anywhere, owed, Literal(1)))

    def _exponential(self, expr: Map) -> list[Form]:
        """exp(x - d + c) = exp(x - d) * exp(c): d stays, to be repaired; c is deferred."""
        op = expr.op
        found = self.addends(expr.args[0], masks=True)
        kept: list[Shift] = []
        rest: list[tuple[Expr, int]] = []
        for term, sign in found.outer:
            shift = self._shift(term, sign, str(op))
            if shift is None:
                rest.append((term, sign))
            else:
                kept.append(shift)
        if not kept or found.kernel is None:
            raise NotSeparable(
                f"`{print_expr(expr)}` would have to be repaired by a factor that may overflow: no "
                "running maximum is subtracted (or minimum added) in it",
                span=expr.span,
                hint="subtract the maximum first, as a stable softmax does",
            )
        exponent = found.kernel
        for shift in kept:
            moved = shift.value if shift.scale is None else Map("mul", (shift.value, shift.scale))
            exponent = Map("sub" if shift.sign < 0 else "add", (exponent, moved))
        outer: list[tuple[Expr, int]] = []
        for term, sign in rest:
            if isinstance(term, Map) and (term.op, op) == ("log", "exp"):
                outer.append((term.args[0], sign))
            else:
                outer.append((Map(op, (term,)), sign))
        kernel = Map(op, (exponent,), span=expr.span)
        return [Form(kernel, tuple(outer), tuple(kept), found.active, found.kernel)]

    def _shift(self, term: Expr, sign: int, base: str) -> Shift | None:
        """The term as what only falls while its value is folded; None if it may rise."""
        scale: Expr | None = None
        while isinstance(term, Map) and term.op in ("mul", "div", "neg"):
            if term.op == "neg":
                term, sign = term.args[0], -sign
                continue
            moving = [arg for arg in term.args if self.moves(arg)]
            others = [arg for arg in term.args if not self.moves(arg)]
            if len(moving) != 1 or (term.op == "div" and moving[0] is not term.args[0]):
                return None
            if any(self.walks(arg) for arg in others):
                return None
            signs = [sign_of(arg) for arg in others]
            if 0 in signs:
                return None
            for each, its in zip(others, signs, strict=True):
                sign *= its
                size: Expr = Map("neg", (each,)) if its < 0 else each
                one: Expr = Literal(1.0)
                if term.op == "div":
                    scale = Map("div", (one if scale is None else scale, size))
                else:
                    scale = joined("mul", scale, size)
            term = moving[0]
        value = guarded_value(term)
        guarded = value is not None
        term = term if value is None else value
        reduction = self._around.folded(term.tensor) if isinstance(term, Access) else None
        if reduction is None or not isinstance(term, Access):
            return None
        rises = {"max": 1, "logaddexp": 1, "min": -1}.get(str(reduction.op), 0)
        return Shift(term, sign, scale, base, guarded) if rises * sign < 0 else None

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

    def _mixed(self, expr: Expr) -> NotSeparable:
        names = dict.fromkeys(a.tensor for a in accesses(expr) if self._around.moves(a.tensor))
        return NotSeparable(
            f"`{print_expr(expr)}` mixes {', '.join(names)} with what is read at each "
            f"{self._around.variable}, so that neither can be taken out of the reduction",
            span=expr.span,
        )
