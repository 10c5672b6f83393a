"""What the compiler asks of a backend, and a backend gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: Runs a kernel on arrays of the signature it was bound to: inputs, then outputs, in order.
Call: TypeAlias = Callable[..., None]


class Way(Protocol):
    """A quick way into a kernel, for arrays of one signature: dtypes, shapes, strides, no subclass.

    Each method gives a function that passes what it does not serve on to `otherwise`, as it came:
    other arrays, lists, keywords, memory that an output shares with an input; and what it does not
    succeed at, for `otherwise` to do again and to say what is wrong.
    """

    def making(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """`f(*inputs)` makes the outputs as they are laid out in the signature and returns them.

        A scalar for an output without axes, a tuple for several. `f(*inputs, out=array)`, if there
        is one output, writes there.
        """
        ...

    def writing(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """`f(*inputs, out=array)` writes the one output there, and returns it."""
        ...


class Kernel(Protocol):
    """Compiled code for one Cascade, for every shape.

    The caller gives inputs of exactly the declared dtypes, in native byte order, with any strides,
    and outputs of the right shape and dtype, with any strides, that overlap no input but those that
    are `overwritten`.
    """

    @property
    def source(self) -> str:
        """The code that runs: Python source, or LLVM IR."""
        ...

    def overwritten(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> frozenset[int]:
        """Which of these inputs, by number, the one output may be itself, as it is laid out."""
        ...

    def bind(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int | None = None
    ) -> Call:
        """A call for all arrays with these shapes, strides and dtypes.

        At most so many `threads` share its work, if it can be shared; None: as the setting is.

        Raises:
            UnsupportedError: this kernel was not made for such strides.
        """
        ...

    def way(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int | None = None
    ) -> Way | None:
        """A quick way for such arrays, where `bind` gives a call; None if this backend has none."""
        ...
