"""A value inside the emitted source: a Python expression whose axes run along rank variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...ir.dtypes import DType
from ...ir.operators import Number


@dataclass(frozen=True, slots=True)
class Value:
    """An array or scalar expression.

    `axes` names the variable along each of its axes. `index`, if given, still has to be applied:
    what stands at each axis in the brackets, a slice's name or ":". `atom` says that brackets and
    methods may follow the text as it is. `call` is the text as a call that takes `out=`, without
    its closing parenthesis, if it is one. `number` is the value if it is a Python number, whose
    type yields to the one beside it (NEP 50).
    """

    text: str
    axes: tuple[str, ...]
    dtype: DType
    atom: bool = True
    index: tuple[str, ...] | None = None
    call: str | None = None
    number: Number | None = None

    @property
    def weak(self) -> bool:
        return self.number is not None

    def natural(self) -> Value:
        """The value with its index applied."""
        if self.index is None:
            return self
        return replace(self, text=self.render(self.axes), index=None, atom=True, call=None)

    def render(self, order: Sequence[str | None]) -> str:
        """The expression with its axes in this order; None makes a new axis of extent 1."""
        text = self.text
        permutation = [self.axes.index(variable) for variable in order if variable is not None]
        index = self.index or (":",) * len(self.axes)
        entries = iter([index[axis] for axis in permutation])
        parts = ["None" if variable is None else next(entries) for variable in order]
        moved = permutation != sorted(permutation)
        if not self.axes and parts and self.dtype.kind == "object":
            text = f"np.asarray({text}, object)"  # NumPy unwraps such a scalar
        elif not self.atom and (moved or any(part != ":" for part in parts)):
            text = f"({text})"
        if moved:
            reverse = permutation == list(range(len(permutation)))[::-1]
            text += ".T" if reverse else f".transpose({', '.join(map(str, permutation))})"
        while parts and parts[-1] == ":" and "None" not in parts:
            parts.pop()  # what is left out at the end is whole
        if any(part != ":" for part in parts):
            text += f"[{', '.join(parts)}]"
        return text

    def operand(self, order: Sequence[str | None]) -> str:
        """`render`, in parentheses where it stands beside an operator."""
        text = self.render(order)
        return f"({text})" if text == self.text and not self.atom else text


def aligned_axes(values: Sequence[Value], order: Sequence[str]) -> tuple[str, ...]:
    """The axes of values that are combined elementwise: their own if alike, else in `order`."""
    shaped = [value.axes for value in values if value.axes]
    if len(set(shaped)) == 1:
        return shaped[0]
    present = dict.fromkeys(variable for axes in shaped for variable in axes)
    return tuple(v for v in dict.fromkeys((*order, *present)) if v in present)


def aligned(value: Value, axes: Sequence[str]) -> tuple[str | None, ...]:
    """What `render` needs to make `value` broadcast along `axes`; leading new axes are implied."""
    entries = [variable if variable in value.axes else None for variable in axes]
    while entries and entries[0] is None:
        entries.pop(0)
    return tuple(entries)
