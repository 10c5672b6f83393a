"""Nodes as JSON and back: each a list of its class name and its fields, spans left out."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from .dtypes import DTYPES, DType
from .einsum import Access, Coordinate, Einsum, Literal, Map, Parameter, Reduce, UserOperator
from .errors import OperandError, ParseError
from .operators import Semiring
from .ranks import Quotient, Rank, RankExpr, Term

_NODES: tuple[type[Any], ...] = (
    *(Access, Coordinate, Einsum, Literal, Map, Reduce),
    *(Parameter, UserOperator, Semiring),
    *(Quotient, Rank, RankExpr, Term),
)
T = TypeVar("T")


def encode(node: object) -> str:
    """The JSON text of a node."""
    return json.dumps(_encode(node), indent=None, separators=(",", ":"))


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, frozenset):
        return {"set": sorted(typing.cast("frozenset[str]", value))}
    if isinstance(value, tuple):
        return [_encode(item) for item in typing.cast("tuple[Any, ...]", value)]
    fields = {
        f.name: _encode(getattr(value, f.name))
        for f in _fields(typing.cast("type[Any]", type(value)))
    }
    return {"node": type(value).__name__, **fields}


def _fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(cls) if f.name != "span"]


def decode(text: str, expected: type[T], more: Iterable[type[Any]] = ()) -> T:
    """The node that `encode` wrote, which must be an `expected`; `more` are classes beyond ours.

    Raises:
        ParseError: the text is not JSON, or not that of such a node.
    """
    if not isinstance(text, str):
        raise OperandError(f"JSON text is needed, not {type(text).__name__}")
    classes = {cls.__name__: cls for cls in (*_NODES, *more)}
    try:
        node = _decode(json.loads(text), classes)
    except json.JSONDecodeError as error:
        raise ParseError(f"not JSON: {error}") from None
    except RecursionError:
        raise ParseError("the JSON is nested too deeply") from None
    if not isinstance(node, expected):
        raise ParseError(f"not the JSON of a {expected.__name__}")
    return node


def _decode(data: Any, classes: dict[str, type[Any]]) -> Any:
    if data is None or isinstance(data, bool | int | str):
        return data
    if isinstance(data, list):
        return tuple(_decode(item, classes) for item in typing.cast("list[Any]", data))
    if isinstance(data, dict):
        entry = typing.cast("dict[str, Any]", data)
        try:
            if entry.keys() == {"dtype"}:
                return DTYPES[entry["dtype"]]
            if entry.keys() == {"float"}:
                return float.fromhex(entry["float"])
            if entry.keys() == {"set"}:
                return frozenset(_decode(entry["set"], classes))
            if entry.keys() == {"complex"}:
                real, imaginary = entry["complex"]
                return complex(float.fromhex(real), float.fromhex(imaginary))
            return _decode_node(entry, classes)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, ParseError):
                raise
            raise ParseError(f"not the JSON of a node: {error!r}") from None
    raise ParseError(f"not the JSON of a node: {data!r}")


def _decode_node(entry: dict[str, Any], classes: dict[str, type[Any]]) -> Any:
    cls = classes[entry["node"]]
    names = [f.name for f in _fields(cls)]
    if set(entry) != {"node", *names}:
        raise ParseError(f"{cls.__name__} has the fields {', '.join(names)}")
    values = {name: _decode(entry[name], classes) for name in names}
    hints = typing.get_type_hints(cls)
    for name, value in values.items():
        if not _matches(value, hints[name]):
            raise ParseError(f"{cls.__name__}.{name} cannot be {value!r}")
    return cls(**values)


def _matches(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type (unions, and tuples of any length)."""
    origin = typing.get_origin(hint)
    if origin is tuple:
        (item, _) = typing.get_args(hint)
        return isinstance(value, tuple) and all(
            _matches(part, item) for part in typing.cast("tuple[Any, ...]", value)
        )
    if origin is frozenset:
        (item,) = typing.get_args(hint)
        return isinstance(value, frozenset) and all(
            _matches(part, item) for part in typing.cast("frozenset[Any]", value)
        )
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, option) for option in typing.get_args(hint))
    if hint is type(None):
        return value is None
    # bool is an int to Python, not to the language.
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
