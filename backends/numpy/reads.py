"""How an Access is read: a plain view where it can be, else by strides or by integer arrays."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.dtypes import I64
from ...ir.einsum import Access
from ...ir.errors import UnsupportedError
from ...ir.ranks import RankExpr
from .formulas import constant, number_text
from .frame import Frame, tuple_text
from .values import Value, aligned

#: The most axes that a NumPy array may have.
MAX_AXES = 64


def read(frame: Frame, access: Access, scope: Sequence[str]) -> Value:
    """What an Access reads, over all of its variables.

    `scope` has the variables that are bound where it stands: with an extent of 0 among them nothing
    is read, so no index can be out of range.
    """
    plain = _plain(frame, access)
    if plain is not None:
        return plain
    variables = tuple(dict.fromkeys(access.variables()))
    if len(variables) > MAX_AXES:
        raise UnsupportedError(
            f"{access.tensor} is read at {len(variables)} variables, "
            f"but an array has {MAX_AXES} axes at most",
            span=access.span,
        )
    if all(isinstance(index, RankExpr) for index in access.indices):
        text = _affine(frame, access, variables, scope)
    else:
        text, variables = _gather(frame, access, scope)
    name = frame.define(frame.tensor(access.tensor), text)
    return Value(name, variables, frame.dtypes[access.tensor])


def _plain(frame: Frame, access: Access) -> Value | None:
    """A view by basic indexing and diagonals; None if the indices are not bare, or unchecked."""
    if access.fill is not None:
        return None
    entries: list[str] = []
    axes: list[str] = []
    for axis, index in enumerate(access.indices):
        if not isinstance(index, RankExpr):
            return None
        extent = frame.extents[access.tensor][axis]
        if index.variable is not None and index.variable.upper() == extent.rank:
            entries.append(":")
            axes.append(index.variable)
        elif index.constant is not None and 0 <= index.constant < _known(frame, extent):
            entries.append(str(index.constant))
        elif _is_reached(frame, index, extent):
            entries.append(frame.expression(index))
        else:
            return None
    while entries and entries[-1] == ":":
        entries.pop()
    text = frame.tensor(access.tensor) + (f"[{', '.join(entries)}]" if entries else "")
    while len(set(axes)) < len(axes):
        first, second = _repeated(axes)
        text += f".diagonal(0, {first}, {second})"
        diagonal = axes[first]
        axes = [v for axis, v in enumerate(axes) if axis not in (first, second)] + [diagonal]
    return Value(text, tuple(axes), frame.dtypes[access.tensor])


def _known(frame: Frame, extent: RankExpr) -> int:
    """The least that the extent is known to be."""
    if extent.rank is not None:
        shape = frame.cascade.rank(extent.rank).shape
        return shape if isinstance(shape, int) else 0
    alone = all(term.coefficient > 0 and not term.variable for term in extent.terms)
    return extent.offset if alone else 0


def _is_reached(frame: Frame, index: RankExpr, extent: RankExpr) -> bool:
    """Whether an index is a scan's coordinate plus no more than the extent exceeds its rank."""
    place = RankExpr(index.terms).rank
    if place is None or not frame.is_coordinate(place) or index.offset < 0:
        return False
    return RankExpr(extent.terms).rank == place.rstrip("'") and index.offset <= extent.offset


def _repeated(axes: Sequence[str]) -> tuple[int, int]:
    for second, variable in enumerate(axes):
        first = axes.index(variable)
        if first < second:
            return first, second
    raise ValueError("no variable is repeated")


def _extras(frame: Frame, access: Access, scope: Sequence[str]) -> str:
    """The arguments that say what lies outside, and when nothing is read."""
    text = ""
    around = [v for v in dict.fromkeys(scope) if v not in set(access.variables())]
    if around and access.fill is None:
        text += f", scope={tuple_text([frame.size(v) for v in around])}"
    if access.fill is not None:
        text += f", fill={number_text(constant(access.fill.value, frame.dtypes[access.tensor]))}"
    return text


def _affine(frame: Frame, access: Access, variables: Sequence[str], scope: Sequence[str]) -> str:
    starts: list[str] = []
    rows: list[str] = []
    for index in access.indices:
        assert isinstance(index, RankExpr)
        starts.append(_start(frame, index))
        rows.append(tuple_text([_step(frame, index, variable) for variable in variables]))
    arguments = [
        frame.tensor(access.tensor),
        tuple_text(starts),
        tuple_text(rows),
        tuple_text([frame.size(variable) for variable in variables]),
    ]
    return f"{frame.helper('affine')}({', '.join(arguments)}{_extras(frame, access, scope)})"


def _start(frame: Frame, index: RankExpr) -> str:
    constant = tuple(term for term in index.terms if term.variable is None)
    return frame.expression(RankExpr(constant, index.offset))


def _step(frame: Frame, index: RankExpr, variable: str) -> str:
    steps = [frame.term(term) for term in index.terms if term.variable == variable]
    return " + ".join(steps) if steps else "0"


def _gather(frame: Frame, access: Access, scope: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The call that gathers, and the variables along the axes of what it gives."""
    indices = list(access.indices)
    trailing: list[str] = []
    # Axes at the end that are read whole need no integer arrays.
    while indices:
        last = indices[-1]
        variable = last.variable if isinstance(last, RankExpr) else None
        others = {v for index in indices[:-1] for v in index.variables()}
        extent = frame.extents[access.tensor][len(indices) - 1]
        whole = variable and extent.rank == variable.upper()
        if not variable or not whole or variable in others or variable in trailing:
            break
        trailing.insert(0, variable)
        indices.pop()
    axes = tuple(dict.fromkeys(v for index in indices for v in index.variables()))
    texts: list[str] = []
    for index in indices:
        if isinstance(index, Access):
            value = read(frame, index, scope)
            texts.append(value.render(aligned(value, axes)))
        else:
            texts.append(_index_array(frame, index, axes))
    call = f"{frame.helper('gather')}({frame.tensor(access.tensor)}, {tuple_text(texts)}"
    return f"{call}{_extras(frame, access, scope)})", (*axes, *trailing)


def _index_array(frame: Frame, index: RankExpr, axes: Sequence[str]) -> str:
    parts: list[str] = []
    for variable in dict.fromkeys(index.variables()):
        mesh = Value(f"np.arange({frame.size(variable)})", (variable,), I64)
        step = _step(frame, index, variable)
        text = mesh.render(aligned(mesh, axes))
        if step != "1":
            text = f"{f'({step})' if ' ' in step else step} * {text}"
        parts.append(text)
    start = _start(frame, index)
    if start != "0" or not parts:
        parts.append(start)
    return " + ".join(parts).replace("+ -", "- ")
