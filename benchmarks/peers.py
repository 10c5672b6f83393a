"""The peers of an einsum: those that are installed, one thread each, results in C order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np

import einloom as el

from .limits import shortest
from .measure import Row, compare

#: Real operations a multiplication and an addition take, and what they are operations on.
_OPERATIONS = {"f4": (2, "f4"), "f8": (2, "f8"), "c8": (8, "f4"), "c16": (8, "f8")}


def contestants(subscripts: str, *operands: Any) -> dict[str, Callable[[], Any]]:
    """einloom first, then who else computes an einsum, into a new array in C order."""
    found: dict[str, Callable[[], Any]] = {
        "einloom": lambda: el.einsum(subscripts, *operands, order="C"),
        "np.einsum": lambda: np.ascontiguousarray(
            np.einsum(subscripts, *operands, optimize="optimal")
        ),
    }
    contract: Any = import_module("opt_einsum").contract
    found["opt_einsum"] = lambda: np.ascontiguousarray(contract(subscripts, *operands))
    if library := torch():
        tensors = [library.from_numpy(operand) for operand in operands]
        found["torch"] = lambda: library.einsum(subscripts, *tensors).contiguous()
    if (tblis := _module("pytblis")) and len(operands) < 3:
        tblis.set_num_threads(1)
        found["pytblis"] = lambda: tblis.einsum(subscripts, *operands)
    if jax := _module("jax"):
        jax.config.update("jax_enable_x64", True)
        highest = jax.lax.Precision.HIGHEST
        arrays = [jax.numpy.asarray(operand) for operand in operands]
        run = jax.jit(partial(jax.numpy.einsum, subscripts, precision=highest))
        found["jax"] = lambda: np.asarray(run(*arrays))
    return {name: call for name, call in found.items() if name == "einloom" or _serves(call)}


def torch() -> Any:
    """torch, on one thread; None if it is not installed."""
    found = _module("torch")
    if found is not None:
        found.set_num_threads(1)
    return found


def _module(name: str) -> Any:
    return import_module(name) if find_spec(name) else None


def _serves(call: Callable[[], Any]) -> bool:
    """Whether a peer takes such operands at all."""
    try:
        call()
    except Exception:  # each has errors of its own
        return False
    return True


def limit(subscripts: str, *operands: Any) -> float | None:
    """The seconds of the arithmetic of the best order, or of moving each operand and result once.

    None for elements whose arithmetic this does not measure.
    """
    contract_path: Any = import_module("opt_einsum").contract_path
    kind = np.result_type(*operands).str[1:]
    if kind not in _OPERATIONS:
        return None
    shapes = [operand.shape for operand in operands]
    steps: list[int] = []
    info = contract_path(subscripts, *shapes, shapes=True, optimize="optimal")[1]
    for indices, _, pair, *_ in info.contraction_list:
        points = {*pair} & {*info.size_dict}
        steps.append(prod(info.size_dict[i] for i in points) if len(indices) > 1 else 0)
    operations, of = _OPERATIONS[kind]
    result = prod(info.size_dict[i] for i in subscripts.partition("->")[2])
    terms = subscripts.partition("->")[0].split(",")
    # Of an operand whose index is repeated a diagonal is read.
    read = sum(
        operand.itemsize * prod(info.size_dict[i] for i in {*term})
        for term, operand in zip(terms, operands, strict=True)
    )
    written = result * np.dtype(kind).itemsize
    return shortest(operations * float(sum(steps)), read, written, of)


def line(
    name: str,
    calls: dict[str, Callable[[], Any]],
    least: float | None = None,
    seconds: float = 2.0,
) -> Row:
    """A line: times, the best peer's time over einloom's, and what part of the limit is reached."""
    row = compare(name, calls, seconds)
    ratios = dict(row.ratios)
    if ratios:
        ratios = {"best peer / einloom": min(ratios.values()), **ratios}
    if least is not None:
        ratios["of the limit"] = least / row.seconds["einloom"]
    return Row(name, row.seconds, ratios)


def einsum(name: str, subscripts: str, operands: Sequence[Any], seconds: float = 2.0) -> Row:
    """The line of one einsum."""
    calls = contestants(subscripts, *operands)
    return line(name, calls, limit(subscripts, *operands), seconds)
