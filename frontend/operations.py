"""The operators and reductions of the language, as a traced function calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ir.dtypes import as_dtype
from ..ir.einsum import PLACES, UserOperator
from ..ir.errors import ResolveError
from ..ir.operators import OPERATORS, REDUCTIONS
from .handles import Expression, call, index_text, written
from .recording import current
from .scope import similar

#: The name of every operator and of every reduction.
_NAMES = (*OPERATORS, *REDUCTIONS, *map(str, PLACES))


class Operation:
    """An operator, called on expressions; or a reduction, `el.ops.max[m](...)`."""

    __slots__ = ("name", "own")

    def __init__(self, name: str, own: UserOperator | None = None) -> None:
        self.name = name
        self.own = own

    def __call__(self, *args: Any) -> Expression:
        """The operator of these arguments; `cast` and `bitcast` take a dtype last."""
        self._used()
        if self.name in ("cast", "bitcast") and len(args) == 2:
            return Expression(f"{self.name}({written(args[0])}, {as_dtype(args[1])})")
        return call(self.name, *args)

    def __getitem__(self, variables: Any) -> Callable[[Any], Expression]:
        """The reduction over these variables, to be called on what it reduces."""
        self._used()
        head = f"{self.name}[{index_text(variables)}]"
        return lambda expr: Expression(f"{head} ({written(expr)})")

    def _used(self) -> None:
        if self.own is not None:
            current(f"the operator {self.name}").use(self.own)

    def __repr__(self) -> str:
        return f"<operator {self.name}>"


class Operations:
    """Every operator and reduction of the language by name: `el.ops.exp`, `el.ops.sum`.

    Names that are Python's own words end in an underscore: `el.ops.and_`.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Operation:
        if name.startswith("_"):
            raise AttributeError(name)
        plain = name.removesuffix("_")
        if plain not in _NAMES:
            raise ResolveError(f"there is no operator {name}", hint=similar(name, _NAMES))
        return Operation(plain)

    def __dir__(self) -> list[str]:
        return sorted({*_NAMES})


#: The operators and reductions of the language.
ops = Operations()
