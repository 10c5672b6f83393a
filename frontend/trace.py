"""From a Python function written with index notation to a Cascade.

The function is run once, on tensors that write down what is done with them; the text that this
gives is read as any other is, so an error shows it with carets. Python's loops, conditions on
numbers and helper functions work, since what they do is all that is written down.
"""

from __future__ import annotations
import __future__

import ast
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast, overload

from ..ir.cascade import Cascade, fresh_name
from ..ir.errors import ArgumentError, OperandError, ResolveError
from ..ir.operators import Semiring
from ..ir.source import Source
from . import syntax
from .definitions import resolve_operator, resolve_semiring
from .handles import Expression, Tensor, written
from .operations import Operation
from .recording import Line, Recording, current, recording
from .resolve import resolve


class Traced:
    """A Cascade that was written in Python, which other traced functions may call.

    `cascade` is the Cascade, and what `compile`, `evaluate`, `rewrite` and `grad` take this for;
    `text` is what the function was written down as. Called in a traced function on whole tensors,
    it gives its outputs as tensors.
    """

    def __init__(self, cascade: Cascade, text: str, function: Callable[..., Any] | None) -> None:
        self.cascade = cascade
        self.text = text
        self.__name__ = cascade.name
        self.__doc__ = function.__doc__ if function is not None else None

    def __call__(self, *tensors: Tensor, names: str = "") -> Any:
        """The outputs for these tensors, under their own names or, `names="A B"`, under others."""
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise OperandError(
                f"{self.__name__} is called on whole tensors, in a traced function",
                hint=f"to run it: el.compile({self.__name__})(...); what is passed on is defined "
                "first: X[m] = ...",
            )
        found = current(f"{self.__name__} is called on tensors")
        found.use(self.cascade)
        given = names.replace(",", " ").split()
        outputs = given or [fresh_name(name, found.tensors) for name in self.cascade.outputs]
        found.tensors.update(outputs)
        passed = ", ".join(tensor.name for tensor in tensors)
        found.lines.append(Line(outputs, f"{self.cascade.name}({passed})"))
        made = tuple(map(Tensor, outputs))
        return made[0] if len(made) == 1 else made

    def __str__(self) -> str:
        return str(self.cascade)

    def __repr__(self) -> str:
        return f"<traced cascade {self.cascade.name}>"


@overload
def trace(what: str, /) -> Callable[[Callable[..., Any]], Traced]: ...
@overload
def trace(what: Callable[..., Any] | Cascade, /) -> Traced: ...
def trace(what: Any, /) -> Any:
    """A Python function as a Cascade: what it does with its tensors, written down.

    Args:
        what: the function. Each parameter is an input, annotated with its axes and dtype,
            `Q: "E,P: f32"`; one with a default is no input, but a Python value. Or the inputs, as
            in the header of a cascade, `@trace("Q[E,P]: f32, K[E,M]: f32")`, which type checkers
            prefer; then the parameters are not annotated. Or a Cascade, to be called in others.

    Returns:
        A Traced: `compile`, `evaluate`, `rewrite` and `grad` take it, other traced functions call
        it. The function returns its outputs: a tensor, or a tuple of them.

    Raises:
        EinloomError: what the function does means nothing; carets show where in the traced text.

    >>> import einloom as el
    >>> @el.trace
    ... def softmax(X: "M,P: f32"):
    ...     m, p = el.variables("m p")
    ...     G, N, D, Y = el.tensors("G N D Y")
    ...     G[p] = el.ops.max[m](X[m, p])
    ...     N[m, p] = el.ops.exp(X[m, p] - G[p])
    ...     D[p] = N[m, p]
    ...     Y[m, p] = N[m, p] / D[p]
    ...     return Y
    >>> print(softmax)
    cascade softmax(X[M,P]: f32) -> Y {
      G[p] = max[m] X[m,p]
      N[m,p] = exp(X[m,p] - G[p])
      D[p] = N[m,p]
      Y[m,p] = N[m,p] / D[p]
    }
    """
    if isinstance(what, str):
        header = what

        def decorated(function: Callable[..., Any]) -> Traced:
            return _traced(function, header)

        return decorated
    if isinstance(what, Cascade):
        return Traced(what, str(what), None)
    return _traced(what, None)


def _traced(function: Callable[..., Any], header: str | None) -> Traced:
    parameters = _parameters(function)
    inputs = header
    if inputs is None:
        inputs = ", ".join(_input(function, parameter) for parameter in parameters)
    name = _name(function)
    with recording(name) as found:
        found.tensors.update(parameter.name for parameter in parameters)
        given = [Tensor(parameter.name) for parameter in parameters]
        outputs = _outputs(name, function(*given))
    lines = "".join(f"  {line}\n" for line in found.lines)
    text = f"cascade {name}({inputs}) -> {', '.join(outputs)} {{\n{lines}}}"
    item = _item(text, name)
    if not isinstance(item, syntax.Program):
        raise ArgumentError(f"{header!r} does not declare inputs", hint='"Q[E,P]: f32, K[E,M]"')
    return Traced(resolve(item, found.library), text, function)


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    return name if name.isidentifier() else "traced"


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters that are tensors: those without a default."""
    if not callable(function):
        raise OperandError(
            f"a function is to be traced, not {type(function).__name__}",
            hint="@el.trace stands above a function; el.parse reads a text",
        )
    found: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ArgumentError(
                f"the inputs of {_name(function)} are not told by *{parameter.name}",
                hint="give each input a parameter of its own",
            )
        if parameter.default is parameter.empty:
            if parameter.kind is parameter.KEYWORD_ONLY:
                raise ArgumentError(f"{parameter.name} is an input, so it is not keyword-only")
            found.append(parameter)
    return found


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> str | None:
    """The text that a parameter is annotated with, if it is a text and no type."""
    found = parameter.annotation
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if isinstance(found, str) and flags & __future__.annotations.compiler_flag:
        # Every annotation is text then, and a text is quoted once more.
        try:
            found = ast.literal_eval(found)
        except (ValueError, SyntaxError):
            return None
    return found if isinstance(found, str) else None


def _input(function: Callable[..., Any], parameter: inspect.Parameter) -> str:
    axes = _annotation(function, parameter)
    if axes is None:
        raise ArgumentError(
            f"the axes of {parameter.name}, an input of {_name(function)}, are not given",
            hint=f'annotate it, {parameter.name}: "M,P: f32"; or name the inputs in the '
            f'decorator, @el.trace("{parameter.name}[M,P]: f32")',
        )
    extents, colon, dtype = axes.partition(":")
    return f"{parameter.name}[{extents.strip()}]{colon}{dtype}"


def _outputs(name: str, returned: Any) -> list[str]:
    many = isinstance(returned, tuple | list)
    outputs = cast("Sequence[Any]", returned if many else (returned,))
    for output in outputs:
        if not isinstance(output, Tensor):
            what = "nothing" if output is None else repr(output)
            raise ResolveError(
                f"{name} returns {what}, which is no tensor",
                hint="return what was defined, whole: Y[m] = ...; return Y",
            )
    if not outputs:
        raise ResolveError(f"{name} returns no tensor", hint="end it with `return Y`")
    return [output.name for output in outputs]


def _item(text: str, name: str) -> syntax.Item:
    from .parser import parse_file  # lark waits until something is traced

    return parse_file(Source(text, f"trace of {name}")).items[-1]


# ---- statements that are no Einsum


def ranks(text: str) -> None:
    """Declares ranks and assumes sizes, as a `ranks` line does: `ranks("N = M, M % 128 == 0")`."""
    current("ranks are declared").lines.append(Line([], f"ranks {text}"))


def partition(text: str) -> None:
    """Parts a rank, as a `partition` line does: `partition("M -> M1, M0")`."""
    current("a rank is parted").lines.append(Line([], f"partition {text}"))


# ---- operators and semirings


@overload
def operator(
    what: str = "", /, *, laws: str = "", uses: Sequence[Operation] = ()
) -> Callable[[Callable[..., Any]], Operation]: ...
@overload
def operator(what: Callable[..., Any], /) -> Operation: ...
def operator(what: Any = "", /, *, laws: str = "", uses: Sequence[Operation] = ()) -> Any:
    """A Python function of scalars as an operator of the language.

    Args:
        what: the function, its parameters annotated with a dtype where it matters (`a: "f32"`); or
            the parameters, `"a: f32, b: f32"`.
        laws: what it promises, as in the text: "commutative, associative, identity = 0".
        uses: operators of Python's own that the laws name.

    Returns:
        An Operation, called on expressions; with an identity it reduces, too: `f[m](...)`.

    Raises:
        ResolveError: a law that it claims is refuted by random values.

    >>> import einloom as el
    >>> @el.operator(laws="commutative, associative, identity = 0")
    ... def hypotenuse(a, b):
    ...     return (a * a + b * b) ** 0.5
    Traceback (most recent call last):
        ...
    einloom.ir.errors.ResolveError: hypotenuse does not have the law `identity` that it claims
    ...
    """
    if isinstance(what, str):
        header = what

        def decorated(function: Callable[..., Any]) -> Operation:
            return _operation(function, header, laws, uses)

        return decorated
    return _operation(what, "", laws, uses)


def _operation(
    function: Callable[..., Any], header: str, laws: str, uses: Sequence[Operation]
) -> Operation:
    name = _name(function)
    parameters = _parameters(function)
    typed = (
        parameter.name if dtype is None else f"{parameter.name}: {dtype}"
        for parameter in parameters
        for dtype in (_annotation(function, parameter),)
    )
    with recording(name) as found:
        _use(found, uses)
        returned = function(*(Expression(parameter.name) for parameter in parameters))
    if found.lines:
        raise ArgumentError(
            f"{name} defines tensors, but an operator is one expression",
            hint="what defines tensors goes under @el.trace",
        )
    body, promised = written(returned), f" [{laws}]" if laws else ""
    item = _item(f"op {name}({header or ', '.join(typed)}){promised} = {body}", name)
    if not isinstance(item, syntax.OperatorItem):
        raise ArgumentError(f"{name} is no operator: its laws do not read as such")
    return Operation(name, resolve_operator(item, found.library))


def semiring(
    name: str, add: str | Operation, mul: str | Operation, zero: float, one: float
) -> Semiring:
    """A semiring of your own: `Y[i] = (A[i, j] * B[j]).over(semiring("t", "max", "add", ...))`.

    Raises:
        ResolveError: random values show that it is none.

    >>> print(semiring("tropical", "max", "add", float("-inf"), 0))
    tropical
    """
    named = [op.name if isinstance(op, Operation) else op for op in (add, mul)]
    with recording(name) as found:
        _use(found, [op for op in (add, mul) if isinstance(op, Operation)])
    numbers = f"{written(zero)}, {written(one)}"
    item = _item(f"semiring {name}({', '.join(named)}, {numbers})", name)
    if not isinstance(item, syntax.SemiringItem):
        raise ArgumentError(f"{name!r} cannot be a semiring's name")
    return resolve_semiring(item, found.library)


def _use(found: Recording, uses: Sequence[Operation]) -> None:
    for op in uses:
        if op.own is not None:
            found.use(op.own)
