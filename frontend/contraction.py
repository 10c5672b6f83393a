"""From classic subscripts and shapes to a Cascade of one Einsum.

An axis is known by its *label*: a symbol of the subscripts, or its place under an ellipsis.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..ir.cascade import Cascade, TensorDecl, fresh_name
from ..ir.dtypes import DType
from ..ir.einsum import Access, Einsum, Expr, Map, Reduce
from ..ir.errors import ArgumentError, OperandError, RankError, ResolveError
from ..ir.operators import SEMIRINGS
from ..ir.ranks import Rank, RankExpr
from ..ir.source import Span
from ..ir.verify import RESERVED
from .terms import Label, Subscripts, Term, show_label

Shape: TypeAlias = tuple[int, ...]

_RANK_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")

#: NumPy's arrays have no more axes.
MAX_AXES = 64


def to_cascade(
    subscripts: Subscripts,
    shapes: Sequence[Shape] | None,
    dtypes: Sequence[DType] | None = None,
    *,
    semiring: str = "sum_product",
    broadcast: str = "numpy",
    sizes: Mapping[Any, int] | None = None,
    repeated_output: bool = False,
    acc: DType | None = None,
) -> Cascade:
    """The Cascade of one Einsum that the subscripts mean for operands of these shapes.

    The ranks stay symbolic, but for those whose extent `sizes` gives. An axis of extent 1 that is
    broadcast has the extent `1` and is read at 0; an ellipsis becomes ranks of its own.

    Args:
        subscripts: what `parse_subscripts` or `from_interleaved` gives.
        shapes: the shape of each operand; None: any, which an ellipsis does not allow.
        dtypes: the dtype of each operand, to be declared; None: not declared.
        semiring: the operators that stand for + and *.
        broadcast: "numpy": an axis of extent 1 fits any extent; "strict": extents are equal.
        sizes: extents by symbol, needed for symbols of the output that no operand has.
        repeated_output: whether the output may repeat a symbol.
        acc: the dtype to accumulate in and to return.

    Raises:
        RankError: an operand has the wrong number of axes, or two extents do not agree.
        ResolveError: the output has a symbol twice, or one of which no extent is known.
        ArgumentError: the number of operands is wrong, or an option's value.
        OperandError: labels of the interleaved form have no order, and the output is implied.

    >>> from .subscripts import parse_subscripts
    >>> print(to_cascade(parse_subscripts("ij,jk"), [(2, 1), (5, 3)]))
    cascade einsum(A[I,1], B[J,K]) -> Y {
      Y[i,k] = A[i,0] * B[j,k]
    }
    """
    if semiring not in SEMIRINGS:
        raise ArgumentError(f"unknown semiring {semiring!r}", hint=f"one of {', '.join(SEMIRINGS)}")
    if broadcast not in ("numpy", "strict"):
        raise ArgumentError(f"broadcast is 'numpy' or 'strict', not {broadcast!r}")
    axes = _axes(subscripts, shapes)
    if dtypes is not None and len(dtypes) != len(subscripts.terms):
        count = _count(len(dtypes), "dtype")
        raise ArgumentError(f"{count} for {_count(len(subscripts.terms), 'operand')}")
    output = _output(axes, sizes or {}, repeated_output)
    given = _given_sizes(axes, sizes or {})
    extents = _extents(axes, given, broadcast)

    names = _rank_names([*axes.labels(), *output])
    tensors = _tensor_names(len(axes.operands), set(names.values()))
    reads = tuple(_read(axes, n, name, names, extents) for n, name in enumerate(tensors))
    inputs = tuple(
        TensorDecl(
            read.tensor,
            tuple(_extent(index) for index in read.indices),
            dtypes[number] if dtypes else None,
            read.span,
        )
        for number, read in enumerate(reads)
    )
    ring = SEMIRINGS[semiring]
    expr: Expr = reads[0] if len(reads) == 1 else Map(ring.mul, reads)
    left = tuple(RankExpr.of_variable(names[label].lower()) for label in output)
    # Last, what only stretched axes have: `sizes` may make a sum of such an axis.
    inside = [variable for read in reads for variable in read.variables()]
    inside += [names[label].lower() for label in axes.labels()]
    free = {names[label].lower() for label in output}
    summed = tuple(variable for variable in dict.fromkeys(inside) if variable not in free)
    if summed:
        expr = Reduce(ring.add, summed, expr)
    result = fresh_name("Y", {*tensors, *names.values()})
    einsum = Einsum(Access(result, left), expr, semiring, dtype=acc)
    ranks = _ranks(inputs, names, given)
    return Cascade("einsum", ranks, inputs, (einsum,), (result,))


@dataclass(frozen=True, slots=True)
class _EllipsisAxis:
    """An axis under an ellipsis, counted from the right, since that is how they are aligned."""

    from_right: int

    def __repr__(self) -> str:
        return f"axis -{self.from_right} of the ellipsis"


@dataclass(frozen=True, slots=True)
class _Axes:
    """The label of every axis of every operand, and the labels that the ellipsis stands for."""

    subscripts: Subscripts
    shapes: Sequence[Shape] | None
    operands: tuple[tuple[Label, ...], ...]
    ellipsis: tuple[Label, ...]

    def labels(self) -> dict[Label, None]:
        """The labels of the operands, each once, in order."""
        return dict.fromkeys(label for labels in self.operands for label in labels)

    def marks(self, label: Label, term: Term) -> list[Span]:
        """Where a label stands in a term."""
        sought: Label = ... if isinstance(label, _EllipsisAxis) else label
        return [
            self.subscripts.span(term, position)
            for position, found in enumerate(term.labels)
            if found == sought
        ]

    def passed(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """The shapes of some operands, for a message."""
        shapes = self.shapes or ()
        lines = [f"operand {number}: {tuple(shapes[number])}" for number in numbers]
        return (*lines[:8], "...") if len(lines) > 8 else tuple(lines)


def _axes(subscripts: Subscripts, shapes: Sequence[Shape] | None) -> _Axes:
    terms = subscripts.terms
    if shapes is None:
        for term in terms:
            if ... in term.labels:
                raise RankError(
                    "an ellipsis stands for axes that only the shapes tell",
                    span=subscripts.span(term, term.labels.index(...)),
                    hint="give shapes=, or write a symbol for each axis",
                )
        return _Axes(subscripts, None, tuple(term.labels for term in terms), ())
    axes = _Axes(subscripts, shapes, (), ())
    if len(shapes) != len(terms):
        raise ArgumentError(
            f"the subscripts are for {_count(len(terms), 'operand')}, not for {len(shapes)}",
            span=Span(subscripts.source, terms[0].start, terms[-1].stop),
            passed=axes.passed(range(len(shapes))),
            hint="a comma stands between the terms of two operands",
        )
    widths = [len(shape) - len(term.symbols) for term, shape in zip(terms, shapes, strict=True)]
    for number, (term, width) in enumerate(zip(terms, widths, strict=True)):
        if width < 0 or (width and ... not in term.labels):
            raise _wrong_axes(axes, number, width)
    operands = tuple(
        _spread(term, _ellipsis(width)) for term, width in zip(terms, widths, strict=True)
    )
    return _Axes(subscripts, shapes, operands, _ellipsis(max(widths)))


def _ellipsis(width: int) -> tuple[Label, ...]:
    return tuple(_EllipsisAxis(place) for place in range(width, 0, -1))


def _spread(term: Term, ellipsis: tuple[Label, ...]) -> tuple[Label, ...]:
    """The labels of a term, with others in the place of its ellipsis."""
    if ... not in term.labels:
        return term.labels
    at = term.labels.index(...)
    return (*term.labels[:at], *ellipsis, *term.labels[at + 1 :])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _wrong_axes(axes: _Axes, number: int, width: int) -> RankError:
    term = axes.subscripts.terms[number]
    named = len(term.symbols)
    hint = "write a symbol for each axis"
    if width > 0:
        hint += ", or an ellipsis `...` for those without"
    return RankError(
        f"operand {number} has rank {named + width}, but its subscripts name "
        f"{_count(named, 'symbol')}",
        span=axes.subscripts.span(term),
        passed=axes.passed([number]),
        hint=hint,
    )


def _output(axes: _Axes, sizes: Mapping[Any, int], repeated: bool) -> tuple[Label, ...]:
    """The labels of the output's axes."""
    term = axes.subscripts.output
    if term is None:
        output = (*axes.ellipsis, *_occurring_once(axes.subscripts))
    else:
        output = _spread(term, axes.ellipsis)
        _check_output(axes, term, sizes, repeated)
    if len(output) > MAX_AXES:
        span = Span(axes.subscripts.source, 0, len(axes.subscripts.source.text))
        raise RankError(
            f"the output has {len(output)} axes; an array has {MAX_AXES} at most",
            span=axes.subscripts.span(term) if term else span,
        )
    return output


def _check_output(axes: _Axes, term: Term, sizes: Mapping[Any, int], repeated: bool) -> None:
    read = axes.labels()
    for label in dict.fromkeys(term.symbols):
        marks = axes.marks(label, term)
        if len(marks) > 1 and not repeated:
            raise ResolveError(
                f"the output has the symbol {show_label(label)} {_count(len(marks), 'time')}",
                span=marks[0],
                also=marks[1:],
                hint="for a diagonal, give repeated_output=True",
            )
        if label not in read and label not in sizes:
            symbols = ", ".join(show_label(symbol) for symbol in read)
            raise ResolveError(
                f"the output has the symbol {show_label(label)}, which no operand has",
                span=marks[0],
                deduced=(f"symbols of the operands: {symbols or 'none'}",),
                hint=f"give its extent, as in sizes={{{show_label(label)}: 3}}",
            )


def _occurring_once(subscripts: Subscripts) -> list[Label]:
    """The symbols that occur once over all operands, in their own order."""
    count: dict[Any, int] = {}
    for term in subscripts.terms:
        for label in term.symbols:
            count[label] = count.get(label, 0) + 1
    once = [label for label, times in count.items() if times == 1]
    try:
        return sorted(once)
    except TypeError:
        raise OperandError(
            "the labels have no order, so the output cannot be implied",
            deduced=(f"labels that occur once: {', '.join(map(show_label, once))}",),
            hint="give the output's labels as the last argument",
        ) from None


def _given_sizes(axes: _Axes, sizes: Mapping[Any, int]) -> dict[Label, int]:
    """The extents that `sizes=` gives, checked."""
    output = axes.subscripts.output
    known = {label for term in axes.subscripts.terms for label in term.symbols}
    known |= set(output.symbols) if output else set()
    for label, size in sizes.items():
        shown = show_label(label)
        if label not in known:
            raise ResolveError(
                f"sizes= has {shown}, which the subscripts do not have",
                deduced=(str(axes.subscripts),),
            )
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise OperandError(f"sizes= gives {shown} the extent {size!r}, not an integer")
        if size < 0:
            raise ArgumentError(f"sizes= gives {shown} the negative extent {size}")
    return {label: int(size) for label, size in sizes.items()}


def _extents(axes: _Axes, sizes: Mapping[Label, int], broadcast: str) -> dict[Label, int]:
    """The extent of each label, as far as it is known."""
    extents = dict(sizes)
    origins: dict[Label, int | None] = dict.fromkeys(sizes)  # None: `sizes` itself
    for number, shape in enumerate(axes.shapes or ()):
        own: dict[Label, int] = {}
        for label, extent in zip(axes.operands[number], shape, strict=True):
            if own.setdefault(label, extent) != extent:
                raise _unequal(axes, label, (number, own[label]), (number, extent))
        for label, extent in own.items():
            before, origin = extents.setdefault(label, extent), origins.setdefault(label, number)
            if before == extent or (broadcast == "numpy" and extent == 1):
                continue
            if broadcast == "strict" or before != 1 or origin is None:
                raise _unequal(axes, label, (origin, before), (number, extent))
            extents[label], origins[label] = extent, number
    return extents


def _unequal(
    axes: _Axes, label: Label, first: tuple[int | None, int], second: tuple[int, int]
) -> RankError:
    (origin, before), (number, extent) = first, second
    shown = show_label(label)
    what = shown if isinstance(label, _EllipsisAxis) else f"symbol {shown}"
    if origin == number:
        message = f"{what} stands in operand {number} for extents {before} and {extent}"
        hint = "a symbol repeated in one operand is a diagonal: its extents are equal"
    else:
        place = "sizes=" if origin is None else f"operand {origin}"
        message = f"{what} has extent {before} in {place} but {extent} in operand {number}"
        hint = "a symbol has one extent wherever it stands"
        if isinstance(label, _EllipsisAxis):
            hint = "axes under an ellipsis are aligned at the right"
        if extent == 1 or (before == 1 and origin is not None):
            hint += "; with broadcast='numpy' extent 1 fits any other"
    numbers = sorted({number} if origin is None else {origin, number})
    terms = [axes.subscripts.terms[n] for n in numbers]
    marks = [mark for term in terms for mark in axes.marks(label, term)]
    return RankError(message, span=marks[0], also=marks[1:], passed=axes.passed(numbers), hint=hint)


def _read(
    axes: _Axes,
    number: int,
    tensor: str,
    names: Mapping[Label, str],
    extents: Mapping[Label, int],
) -> Access:
    """The read of an operand; an axis that is stretched is read at 0."""
    labels = axes.operands[number]
    shape = axes.shapes[number] if axes.shapes is not None else (None,) * len(labels)
    indices = tuple(
        RankExpr()
        if extent == 1 and extents[label] != 1
        else RankExpr.of_variable(names[label].lower())
        for label, extent in zip(labels, shape, strict=True)
    )
    return Access(tensor, indices, None, axes.subscripts.span(axes.subscripts.terms[number]))


def _extent(index: RankExpr | Access) -> RankExpr:
    """The extent to declare for an axis that is read at this index: a variable, or 0."""
    variable = index.variable if isinstance(index, RankExpr) else None
    return RankExpr((), 1) if variable is None else RankExpr.of_size(variable.upper())


def _ranks(
    inputs: Iterable[TensorDecl], names: Mapping[Label, str], sizes: Mapping[Label, int]
) -> tuple[Rank, ...]:
    """The ranks, in the order in which the inputs name them, then the others."""
    given = {names[label]: size for label, size in sizes.items()}
    read = (name for decl in inputs for extent in decl.extents for name in extent.sizes())
    return tuple(Rank(name, given.get(name)) for name in dict.fromkeys((*read, *names.values())))


def _rank_names(labels: Iterable[Label]) -> dict[Label, str]:
    """A rank for each label: its own name in upper case, or R0, R1, ... where that is none.

    That is where the label has no case, is no ASCII name, is a word of the language, or clashes
    with an earlier one (`a` with `A`).
    """
    names: dict[Label, str] = {}
    taken: set[str] = set()
    rest: list[Label] = []
    for label in dict.fromkeys(labels):
        name = label.upper() if isinstance(label, str) else ""
        if _RANK_NAME.match(name) and name not in taken and name.lower() not in RESERVED:
            names[label] = name
            taken.add(name)
        else:
            rest.append(label)
    free = (name for name in map("R{}".format, itertools.count()) if name not in taken)
    return names | dict(zip(rest, free, strict=False))


def _tensor_names(count: int, ranks: Collection[str]) -> list[str]:
    """A, B, C, ...; T0, T1, ... if a rank has one of those names, or there are too many."""
    letters = [chr(ord("A") + number) for number in range(min(count, 26))]
    if count <= 26 and not set(ranks).intersection(letters):
        return letters
    taken = set(ranks)
    names: list[str] = []
    for number in range(count):
        names.append(fresh_name(f"T{number}", taken))
        taken.add(names[-1])
    return names
