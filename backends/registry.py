"""The backends by name, each loaded when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..ir.errors import ArgumentError

#: name -> (module, class of its kernel, the form that the class is made from)
_BACKENDS = {
    "numpy": ("numpy.kernel", "NumpyKernel", "Cascade"),
    "llvm": ("llvm.kernel", "LlvmKernel", "LoopProgram"),
}


def backend_names() -> tuple[str, ...]:
    """Every backend's name."""
    return tuple(_BACKENDS)


def backend_form(name: str) -> str:
    """The form that a backend consumes: "Cascade" or "LoopProgram".

    Raises:
        ArgumentError: there is no such backend.
    """
    return _row(name)[2]


def kernel_class(name: str) -> type[Any]:
    """The class that makes a Kernel from the backend's form."""
    module, attribute, _ = _row(name)
    loaded = import_module(f"..{module}", __name__)
    found: type[Any] = getattr(loaded, attribute)
    return found


def _row(name: str) -> tuple[str, str, str]:
    if name == "ckks":  # no row: what it runs encrypts, and never falls back to NumPy
        raise ArgumentError(
            "the backend 'ckks' is compiled for shapes and secrets",
            hint='el.compile(..., backend="ckks")',
        )
    if str(name) not in _BACKENDS:  # whatever it is: a list cannot be looked up
        raise ArgumentError(f"there is no backend {name!r}", hint=f"one of {', '.join(_BACKENDS)}")
    return _BACKENDS[name]
