"""Nodes as JSON and back: each an object of its class's name and its fields, spans left out.

Both ways go through Python's own coder, which keeps the stack: no node is nested too deeply for it.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache
from typing import Any, NoReturn, TypeAlias, TypeVar

from . import limits
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

#: Whether a value is of some type.
_Check: TypeAlias = Callable[[Any], bool]


def encode(node: object) -> str:
    """The JSON text of a node."""
    return json.dumps(node, separators=(",", ":"), default=_entry)


def _entry(node: Any) -> dict[str, Any]:
    """A node as an object of JSON; what it holds is encoded after it."""
    if isinstance(node, DType):
        return {"dtype": node.name}
    cls = typing.cast("type[Any]", type(node))
    values = {f.name: _value(getattr(node, f.name)) for f in _fields(cls)}
    return {"node": cls.__name__, **values}


def _value(value: Any) -> Any:
    """A field's value; numbers that JSON would round are written by their bits."""
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, frozenset):
        return {"set": sorted(typing.cast("frozenset[str]", value))}
    return value


def _fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(cls) if f.name != "span"]


def decode(text: str, expected: type[T], more: Iterable[type[Any]] = ()) -> T:
    """The node that `encode` wrote, which must be an `expected`; `more` are classes beyond ours.

    Raises:
        ParseError: the text is not JSON, or not that of such a node; or it is too long.
    """
    if not isinstance(text, str):
        raise OperandError(f"JSON text is needed, not {type(text).__name__}")
    limits.JSON_CHARACTERS.check(len(text))
    limits.JSON_VALUES.check(sum(map(text.count, ",[{")))
    classes = {cls.__name__: cls for cls in (*_NODES, *more)}
    try:
        node: object = json.loads(
            text,
            object_hook=lambda entry: _node(entry, classes),
            parse_float=_refuse,
            parse_constant=_refuse,
        )
    except ParseError:
        raise
    except RecursionError:
        raise ParseError("the JSON is nested too deeply") from None
    except ValueError as error:  # not JSON, or an integer of thousands of digits
        raise ParseError(f"not JSON: {error}") from None
    if not isinstance(node, expected):
        raise ParseError(f"not the JSON of a {expected.__name__}")
    return node


def _refuse(number: str) -> NoReturn:
    raise ParseError(f"not the JSON of a node: {number:.40} (a float is written by its bits)")


def _node(entry: dict[str, Any], classes: Mapping[str, type[Any]]) -> Any:
    """What an object of JSON is, in which everything is a node already."""
    try:
        if "node" in entry:
            return _made(entry, classes)
        ((kind, value),) = entry.items()
        if kind == "dtype":
            return DTYPES[value]
        if kind == "float":
            return float.fromhex(value)
        if kind == "set":
            return frozenset(value)
        if kind == "complex":
            real, imaginary = value
            return complex(float.fromhex(real), float.fromhex(imaginary))
    except ParseError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ParseError(f"not the JSON of a node: {error!r:.200}") from None
    raise ParseError(f"not the JSON of a node: an object of {kind!r:.40}")


def _made(entry: dict[str, Any], classes: Mapping[str, type[Any]]) -> Any:
    cls = classes[entry.pop("node")]
    checks = _checks(typing.cast("Hashable", cls))
    if entry.keys() != checks.keys():
        raise ParseError(f"{cls.__name__} has the fields {', '.join(checks)}")
    for name, value in entry.items():
        if isinstance(value, list):
            value = entry[name] = tuple(typing.cast("list[Any]", value))
        if not checks[name](value):
            raise ParseError(f"{cls.__name__}.{name} cannot be {value!r:.200}")
    return cls(**entry)


@cache
def _checks(cls: Hashable) -> Mapping[str, _Check]:
    """What each field of a class may hold."""
    hints = typing.get_type_hints(cls)
    return {f.name: _check(hints[f.name]) for f in _fields(typing.cast("type[Any]", cls))}


def _check(hint: Any) -> _Check:
    """Whether a value is of an annotated type (unions, and tuples of any length)."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (tuple, frozenset):
        of_item = _check(args[0])
        return lambda value: value.__class__ is origin and all(map(of_item, value))
    if origin is typing.Literal:
        return lambda value: isinstance(value, str) and value in args
    if origin in (typing.Union, types.UnionType):
        options = tuple(map(_check, args))
        return lambda value: any(option(value) for option in options)
    if hint is type(None):
        return lambda value: value is None
    if hint is int:  # bool is an int to Python, not to the language
        return lambda value: type(value) is int
    return lambda value: isinstance(value, hint)
