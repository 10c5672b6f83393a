"""The test modules that NumPy and opt_einsum install, run on calls of einloom."""

from __future__ import annotations

import builtins
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import einloom as el


class Switch:
    """einloom's calls on the backend that a test runs on, counted."""

    backend = "llvm"
    calls = 0

    def einsum(self, *operands: Any, **options: Any) -> Any:
        self.calls += 1
        return el.einsum(*operands, backend=self.backend, **options)

    def einsum_path(self, *operands: Any, **options: Any) -> Any:
        self.calls += 1
        return el.einsum_path(*operands, **options)

    def contract(self, *operands: Any, **options: Any) -> Any:
        for name in ("use_blas", "backend", "shapes"):  # `shapes` is given once, to no effect
            options.pop(name, None)
        return self.einsum(*operands, **options)

    def contract_expression(self, *operands: Any, **options: Any) -> Any:
        self.calls += 1
        return Expression(el.contract_expression(*operands, backend=self.backend, **options))


class Expression:
    """An expression that is told a backend as opt_einsum means it: a library of arrays."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, *arrays: Any, backend: str = "auto", **options: Any) -> Any:
        del backend
        return self._inner(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __str__(self) -> str:
        return str(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)


SWITCH = Switch()


class StandIn(ModuleType):
    """A module some of whose attributes are others; the rest are its own."""

    def __init__(self, original: ModuleType, replaced: Mapping[str, Any]) -> None:
        super().__init__(original.__name__)
        self.__dict__.update(replaced)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def load(module: str, stand_in: StandIn) -> dict[str, Any]:
    """The names of an installed module, executed so that one import gives the stand-in.

    Only imports in that module's own text are changed, `import x` and `from x import y` alike.
    """
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None

    def importer(name: str, *rest: Any, **named: Any) -> Any:
        if name == stand_in.__name__:
            return stand_in
        return builtins.__import__(name, *rest, **named)

    names: dict[str, Any] = {
        "__name__": f"{__name__}.{module}",
        "__file__": spec.origin,
        "__builtins__": {**vars(builtins), "__import__": importer},
    }
    exec(compile(Path(spec.origin).read_text("utf-8"), spec.origin, "exec"), names)
    return names


def collected(names: Mapping[str, Any]) -> dict[str, Any]:
    """What pytest collects of them."""
    return {n: value for n, value in names.items() if n.startswith(("test_", "Test"))}
