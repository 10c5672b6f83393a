"""`contract_expression`: opt_einsum's reusable contraction."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from einloom.api import Options, call_for, einsum_template, read_options
from einloom.backends.base import Array
from einloom.dispatch import Bound, InlineCache, keep, signature
from einloom.frontend.calls import as_array, read_call
from einloom.frontend.subscripts import Subscripts
from einloom.ir.errors import ArgumentError, OperandError
from einloom.specialisation import Shape
from einloom.templates import Optimize, settle_path


class ContractExpression:
    """A contraction whose order is settled: call it with the operands that are not constant.

    Made by `contract_expression`; `opt_einsum.ContractExpression`'s calls.
    """

    def __init__(
        self,
        text: str,
        parsed: Subscripts,
        path: tuple[tuple[int, ...], ...],
        constants: Mapping[int, Array],
        options: Options,
    ) -> None:
        self.subscripts = text
        self.path = path
        self.constants = dict(constants)
        self._parsed = parsed
        self._options = replace(options, optimize=path, memory_limit=None)
        self._calls: dict[Any, Bound] = {}
        self._inline = InlineCache(self._call)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a value: what it was made from; its calls are prepared again where they are made."""
        made = (self.subscripts, self._parsed, self.path, self.constants, self._options)
        return ContractExpression, made

    def __call__(self, *arrays: Any, out: Array | None = None, backend: str | None = None) -> Any:
        """The contraction of these operands; the order is the one that was settled.

        What constants alone decide is worked out at the first call with operands of such dtypes and
        shapes, and kept.
        """
        if backend is not None:
            return self._call(*arrays, out=out, backend=backend)
        head = self._inline.head
        return head(*arrays) if out is None else head(*arrays, out=out)

    def _call(self, *arrays: Any, out: Any = None, backend: str | None = None) -> Any:
        """A call that native code did not serve, at least not yet."""
        given: Sequence[Any] = arrays if out is None else (*arrays, out)
        try:
            found = self._calls[backend, out is None, *signature(given)]
        except (KeyError, AttributeError, TypeError):
            found, given = self._prepare(arrays, out, backend)
        if backend is None:
            self._inline.learn(found)
        return found.call(*given)

    def _prepare(
        self, arrays: Sequence[Any], out: Array | None, backend: str | None
    ) -> tuple[Bound, Sequence[Array]]:
        """The calls of such operands, kept for the next time, and the operands as arrays."""
        wanted = len(self._parsed.terms) - len(self.constants)
        if len(arrays) != wanted:
            raise ArgumentError(
                f"this `ContractExpression` takes exactly {wanted} array arguments "
                f"but received {len(arrays)}",
                deduced=(str(self),),
            )
        if not (out is None or isinstance(out, np.ndarray)):
            raise OperandError(f"out= must be an array, not {type(out).__name__}")
        given = iter([as_array(array, number) for number, array in enumerate(arrays)])
        operands = [
            self.constants[number] if number in self.constants else next(given)
            for number in range(len(self._parsed.terms))
        ]
        moving = [a for number, a in enumerate(operands) if number not in self.constants]
        moving += [] if out is None else [out]
        key = (backend, out is None, *signature(moving))
        found = self._calls.get(key)
        if found is None:
            options = self._options
            if backend is not None:
                options = read_options({**asdict(options), "backend": backend})
            found = call_for(self._parsed, operands, out, options, self.constants)
            keep(self._calls, key, found)
        return found, moving

    def __str__(self) -> str:
        constants = f", constants={sorted(self.constants)}" if self.constants else ""
        return f"<ContractExpression({self.subscripts!r}{constants}, path={self.path})>"

    __repr__ = __str__


def contract_expression(
    subscripts: Any = "",
    *shapes: Any,
    constants: Collection[int] | None = None,
    use_blas: bool = True,
    optimize: Optimize = True,
    memory_limit: int | str | None = None,
    **options: Any,
) -> ContractExpression:
    """A reusable contraction for operands of these shapes: opt_einsum's call.

    Args:
        subscripts: as for `einsum`, interleaved ones (with shapes for operands) too.
        *shapes: a shape for each operand; an array where `constants` names the operand.
        constants: the positions of the operands that are given now and stay the same.
        use_blas: for opt_einsum's sake: there is no BLAS here to forgo.
        optimize, memory_limit: how to order the contraction; it is settled now, and kept for
            operands of the same ranks and other extents.
        **options: further keywords of `einsum` (backend, dtype, semiring, ...).

    Raises:
        ParseError, RankError, PathError: the subscripts, the shapes or the path are wrong.
        ArgumentError, OperandError: another argument is.

    >>> import numpy as np
    >>> expression = contract_expression("ab,bc->ac", (2, 3), (3, 4))
    >>> expression(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    del use_blas
    if "out" in options:
        raise ArgumentError("out= is given when the expression is called", hint="expression(out=)")
    if optimize is False:
        raise ArgumentError("an expression settles an order, so optimize=False has no meaning")
    checked = read_options({**options, "optimize": optimize, "memory_limit": memory_limit})
    parsed, given = read_call(subscripts, shapes, checked.notation)
    if not (constants is None or isinstance(constants, Collection)):
        raise OperandError(f"constants= is a list of positions, not {constants!r}")
    held: dict[int, Array] = {}
    for number in constants or ():
        if isinstance(number, bool) or not isinstance(number, int):
            raise OperandError(f"constants= holds {number!r}, not the position of an operand")
        if not 0 <= number < len(given):
            raise ArgumentError(f"constants= names operand {number} of {len(given)}")
        held[number] = as_array(given[number], number).copy()
    known = [
        held[number].shape if number in held else _as_shape(shape, number)
        for number, shape in enumerate(given)
    ]
    path = settle_path(einsum_template(parsed, None, checked), known, optimize, memory_limit)
    text = subscripts if isinstance(subscripts, str) else str(parsed)
    return ContractExpression(text, parsed, path, held, checked)


def _as_shape(shape: Any, number: int) -> Shape:
    try:
        extents = tuple(operator.index(extent) for extent in shape)
    except TypeError:
        raise OperandError(
            f"operand {number} is given as {shape!r}, not by its shape",
            hint="an array is given where constants= names its position",
        ) from None
    if any(extent < 0 for extent in extents):
        raise ArgumentError(f"operand {number} has a negative extent: {extents}")
    return extents
