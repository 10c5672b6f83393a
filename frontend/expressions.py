"""Expressions from syntax to the IR: accesses, index arithmetic, operators, reductions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..ir import limits
from ..ir.einsum import Access, Coordinate, Literal, Map, Op, Reduce
from ..ir.einsum import Expr as Node
from ..ir.errors import EinloomError, RankError, ResolveError
from ..ir.operators import INFIX, OPERATORS, REDUCTIONS, is_chain
from ..ir.ranks import Quotient, RankExpr, Term, affine
from .scope import SIZE, Scope, read_dtype, reserved_hint, similar, unknown_tensor
from .syntax import Call, Expr, Group, Indexed, Infix, Name, Number, Prefix, Reduction, ungroup

#: What to do about a rank that nothing declares.
_DECLARE = "name it as an extent of an input, or declare it in a line `ranks N = ...`"

# ---- index expressions


def resolve_size(expr: Expr, known: Collection[str] | None = None) -> RankExpr:
    """An expression in sizes and integers."""
    terms: list[Term] = []
    for coefficient, names in _polynomial(expr):
        for name in names:
            if not SIZE.match(name.text):
                raise ResolveError(
                    f"{name.text} is not a rank: the name of a rank is upper case",
                    span=name.span,
                    hint=f"the size of the rank is {name.text.upper()}",
                )
            if known is not None and name.text not in known:
                raise ResolveError(
                    f"rank {name.text} is declared nowhere",
                    span=name.span,
                    hint=similar(name.text, known) or _DECLARE,
                )
        terms.append(Term(coefficient, tuple(name.text for name in names)))
    return affine(terms, 0, expr.span)


def resolve_shape(expr: Expr, known: Collection[str]) -> int | RankExpr | Quotient:
    """The extent of a rank: a size, or `size // size + number`."""
    inner, offset = ungroup(expr), 0
    match inner:
        case Infix("+", (Infix("//") as quotient, Number(value))) if type(value) is int:
            inner, offset = quotient, value
        case Infix("-", (Infix("//") as quotient, Number(value))) if type(value) is int:
            inner, offset = quotient, -value
        case _:
            pass
    if isinstance(inner, Infix) and inner.symbol == "//":
        dividend, divisor = (resolve_size(arg, known) for arg in inner.args)
        if divisor.constant is not None and divisor.constant < 1:
            raise ResolveError(
                "a size is divided by a positive one",
                span=inner.args[1].span,
                hint="such as `(H-R)//2 + 1`",
            )
        return Quotient(dividend, divisor, offset)
    shape = resolve_size(expr, known)
    return shape if shape.constant is None else shape.constant


def resolve_index(expr: Expr, scope: Scope) -> RankExpr | Access:
    """An index: affine in variables and sizes, or what another tensor holds (a gather)."""
    inner = ungroup(expr)
    if isinstance(inner, Indexed):
        return resolve_access(inner, scope)
    if isinstance(inner, Name) and scope.is_variable(inner.text):
        return RankExpr.of_variable(inner.text, expr.span)
    if (
        isinstance(inner, Name)
        and scope.arity.get(inner.text) == 0
        and not scope.is_rank(inner.text)
    ):
        return Access(inner.text, (), None, inner.span)
    terms: list[Term] = []
    for coefficient, names in _polynomial(expr):
        sizes = tuple(name.text for name in names if SIZE.match(name.text))
        variables = [name for name in names if not SIZE.match(name.text)]
        for name in names:
            if not scope.is_rank(name.text):
                raise _not_an_index(name, scope)
        if len(variables) > 1:
            raise ResolveError(
                "an index has no product of two variables",
                span=expr.span,
                hint="indices are affine: integers, variables, sizes, and a size times a variable",
            )
        terms.append(Term(coefficient, sizes, variables[0].text if variables else None))
    return affine(terms, 0, expr.span)


def _not_an_index(name: Name, scope: Scope) -> ResolveError:
    text = name.text
    if text in scope.arity:
        return ResolveError(
            f"{text} is a tensor: as an index it stands alone",
            span=name.span,
            hint=f"for arithmetic on it, define an Einsum of it first; a read is {text}[...]",
        )
    if SIZE.match(text):
        return ResolveError(
            f"rank {text} is declared nowhere",
            span=name.span,
            hint=similar(text, scope.ranks) or _DECLARE,
        )
    return ResolveError(
        f"{text} is not a rank variable",
        span=name.span,
        hint="a variable is its rank's name in lower case",
    )


def _polynomial(expr: Expr) -> list[tuple[int, tuple[Name, ...]]]:
    """An index expression multiplied out: each term's coefficient and its names."""
    if isinstance(expr, Name):
        return [(1, (expr,))]
    return _multiplied_out(expr, [0])


def _multiplied_out(expr: Expr, made: list[int]) -> list[tuple[int, tuple[Name, ...]]]:
    """The same; `made` holds how many terms products were made of so far."""
    match expr:
        case Group():
            return _multiplied_out(expr.inner, made)
        case Number(value) if type(value) is int:
            return [(value, ())]
        case Name():
            return [(1, (expr,))]
        case Prefix("-", arg):
            return [(-c, names) for c, names in _multiplied_out(arg, made)]
        case Infix("+", args):
            return [term for arg in args for term in _multiplied_out(arg, made)]
        case Infix("-", (left, right)):
            negative = [(-c, names) for c, names in _multiplied_out(right, made)]
            return [*_multiplied_out(left, made), *negative]
        case Infix("*", args):
            product: list[tuple[int, tuple[Name, ...]]] = [(1, ())]
            for arg in args:
                factor = _multiplied_out(arg, made)
                made[0] += len(product) * len(factor)
                limits.INDEX_TERMS.check(made[0], expr.span, ResolveError, at_least=True)
                product = [(c * d, m + n) for c, m in product for d, n in factor]
            return product
        case _:
            raise ResolveError(
                "an index is affine in integers, variables and sizes",
                span=expr.span,
                hint="2*x+r, M-1-m, m1*M0+m0; or, a gather, one access: D[J[b]]",
            )


# ---- expressions


def resolve_expr(expr: Expr, scope: Scope) -> Node:
    """The IR's expression; the scope's semiring says what infix + and * are."""
    match expr:
        case Group():
            return resolve_expr(expr.inner, scope)
        case Number():
            return Literal(expr.value, expr.span)
        case Name():
            return _bare(expr, scope)
        case Indexed():
            return resolve_access(expr, scope)
        case Reduction():
            return _reduce(expr, scope)
        case Call():
            return _call(expr, scope)
        case Prefix():
            prefix = "neg" if expr.symbol == "-" else "invert"
            return Map(prefix, (resolve_expr(expr.arg, scope),), None, expr.span)
        case Infix():
            ring: dict[str, Op] = {"+": scope.ring.add, "*": scope.ring.mul}
            infix = ring.get(expr.symbol) or INFIX[expr.symbol].name
            first, *rest = [resolve_expr(arg, scope) for arg in expr.args]
            if is_chain(infix) or len(rest) == 1:
                return Map(infix, (first, *rest), None, expr.span)
            for arg in rest:
                first = Map(infix, (first, arg), None, expr.span)
            return first


def _bare(name: Name, scope: Scope) -> Coordinate | Access:
    if scope.is_rank(name.text):
        return Coordinate(name.text, name.span)
    arity = scope.arity.get(name.text)
    if arity == 0:
        return Access(name.text, (), None, name.span)
    if arity is not None:
        raise ResolveError(
            f"{name.text} has {arity} rank{'s' * (arity > 1)}, so it is read with a bracket",
            span=name.span,
            hint=f"write {name.text}[{', '.join('ijklmn'[:arity])}]",
        )
    raise unknown_tensor(name, scope)


def resolve_access(expr: Indexed, scope: Scope) -> Access:
    """A read of a tensor that is known here, with as many indices as it has ranks."""
    name = expr.name
    if name.text not in scope.arity:
        raise unknown_tensor(name, scope)
    indices = tuple([resolve_index(index, scope) for index in expr.bracket.indices])
    if len(indices) != scope.arity[name.text]:
        arity = scope.arity[name.text]
        raise RankError(
            f"{name.text} has {arity} rank{'s' * (arity != 1)}, read with {len(indices)} "
            f"ind{'ex' if len(indices) == 1 else 'ices'}",
            span=expr.span,
            hint=f"write {name.text}[{', '.join('ijklmn'[:arity])}]",
        )
    fill = resolve_number(expr.bracket.fill, scope) if expr.bracket.fill else None
    return Access(name.text, indices, fill, expr.span)


def resolve_number(expr: Expr, scope: Scope) -> Literal:
    """What stands after an `else`: a number."""
    found = resolve_expr(expr, scope)
    if not isinstance(found, Literal):
        raise ResolveError(
            "after `else` stands a number",
            span=expr.span,
            hint="select(condition, a, b) chooses between expressions",
        )
    return found


def _reduce(expr: Reduction, scope: Scope) -> Reduce:
    name = expr.name
    op = scope.library.reduction(name.text)
    if op is None:
        if name.text in scope.library.operators:
            lacks = scope.library.operators[name.text].arity == 2
            raise ResolveError(
                f"{name.text} {'has no identity, so it ' if lacks else ''}is not a reduction",
                span=name.span,
                hint="a reduction takes two operands and has an identity: "
                f"op {name.text}(a, b) [identity = 0] = ...",
            )
        if name.text in OPERATORS:
            raise ResolveError(
                f"{name.text} is not a reduction",
                span=name.span,
                hint=reserved_hint(name.text),
            )
        raise ResolveError(
            "an operator is missing between these two",
            span=expr.span,
            hint="write `*` between factors; there is no reduction of the name " + name.text,
        )
    if expr.bracket.fill is not None:
        raise ResolveError(
            "a reduction has no fill",
            span=expr.bracket.fill.span,
            hint="a read has: X[i else 0]; of nothing, a reduction is its operator's identity",
        )
    variables: list[str] = []
    for index in expr.bracket.indices:
        if not isinstance(index, Name) or not scope.is_variable(index.text):
            raise ResolveError(
                "a reduction names rank variables",
                span=index.span,
                hint="`sum[i, j] (...)`; a variable is its rank's name in lower case",
            )
        variables.append(index.text)
    return Reduce(op, tuple(variables), resolve_expr(expr.body, scope), expr.span)


def _call(expr: Call, scope: Scope) -> Node:
    name = expr.name.text
    if name == "complex":
        return Literal(_complex(expr), expr.span)
    op = scope.library.operator(name)
    if op is None:
        raise _not_an_operator(expr, scope)
    args: Sequence[Expr] = expr.args
    dtype = None
    if name in ("cast", "bitcast"):
        match expr.args:
            case (value, Name() as kind):
                args, dtype = [value], read_dtype(kind)
            case _:
                raise ResolveError(
                    f"{name} takes an expression and a dtype",
                    span=expr.span,
                    hint=f"write {name}(x, f32)",
                )
    return Map(op, tuple([resolve_expr(arg, scope) for arg in args]), dtype, expr.span)


def _not_an_operator(expr: Call, scope: Scope) -> EinloomError:
    name, span = expr.name.text, expr.name.span
    if name in scope.arity or name in scope.defined:
        return ResolveError(
            f"{name} is a tensor, not an operator", span=span, hint=f"write {name}[...] to read it"
        )
    if name in REDUCTIONS:
        return ResolveError(
            f"{name} is a reduction and names its variables",
            span=span,
            hint=f"write {name}[m] (...)",
        )
    if name in scope.library.cascades:
        return ResolveError(
            f"{name} is a cascade, which is called on whole tensors, alone on the right side",
            span=span,
            hint=f"Y = {name}(A, B)",
        )
    known = (*OPERATORS, *scope.library.operators, *scope.library.cascades)
    return ResolveError(
        f"there is no operator {name}",
        span=span,
        hint=similar(name, known) or "define it before the cascade: op f(a, b) = ...",
    )


def _complex(expr: Call) -> complex:
    parts = [arg.value for arg in map(ungroup, expr.args) if isinstance(arg, Number)]
    real = [part for part in parts if isinstance(part, int | float) and not isinstance(part, bool)]
    if len(expr.args) == len(real) == 2:
        return complex(*real)
    raise ResolveError(
        "complex takes two real numbers",
        span=expr.span,
        hint="write a + b*1j to make complex values of real ones",
    )
