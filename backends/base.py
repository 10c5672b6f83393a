"""What the compiler asks of a backend, and a backend gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: Runs a kernel on arrays of the signature it was bound to: inputs, then outputs, in order.
Call: TypeAlias = Callable[..., None]


class Kernel(Protocol):
    """Compiled code for one Cascade, for every shape.

    The caller gives inputs of exactly the declared dtypes, in native byte order, with any strides,
    and outputs of the right shape and dtype, with any strides, that overlap no input.
    """

    @property
    def source(self) -> str:
        """The code that runs: Python source, or LLVM IR."""
        ...

    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> Call:
        """A call for all arrays with these shapes, strides and dtypes.

        Raises:
            UnsupportedError: this kernel was not made for such strides.
        """
        ...
