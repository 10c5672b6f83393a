"""Tables of a TOML file, read key by key: what is missing, misspelt or of a wrong type is named."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any, cast

from ....ir.errors import ArgumentError, OperandError, ParseError


class Table:
    """A table and where it stands; `close` refuses the keys that nothing asked for.

    Every method raises ArgumentError for a key that is missing and has no default, OperandError
    for a value of another type.
    """

    def __init__(self, values: dict[str, Any], path: str) -> None:
        self._values = values
        self._asked: list[str] = []
        self._path = path

    @classmethod
    def read(cls, text: str, name: str) -> Table:
        """The table of a whole file.

        Raises:
            ParseError: the text is not TOML.
        """
        try:
            return cls(tomllib.loads(text), name)
        except tomllib.TOMLDecodeError as error:
            raise ParseError(f"{name} is not TOML: {error}") from None

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        return str(self._take(key, (str,), "a text", default))

    def number(self, key: str) -> float:
        """A number."""
        return float(self._take(key, (int, float), "a number", None))

    def whole(self, key: str) -> int:
        """A whole number."""
        return int(self._take(key, (int,), "a whole number", None))

    def numbers(self, key: str) -> dict[str, float]:
        """Numbers by name; none if the key is missing."""
        inner = self._inner(key)
        return {name: inner.number(name) for name in inner._values}

    def wholes(self, key: str) -> dict[str, int]:
        """Whole numbers by name; none if the key is missing."""
        inner = self._inner(key)
        return {name: inner.whole(name) for name in inner._values}

    def items(self, key: str) -> tuple[Any, ...]:
        """A list of anything; empty if the key is missing."""
        return tuple(self._take(key, (list,), "a list", []))

    def names(self, key: str) -> tuple[str, ...]:
        """A list of names; empty if the key is missing."""
        return tuple(self._name(each, key) for each in self.items(key))

    def groups(self, key: str) -> tuple[tuple[str, ...], ...]:
        """A list of lists of names."""
        return tuple(
            tuple(self._name(name, key) for name in self._list(group, key))
            for group in self._take(key, (list,), "a list of lists", None)
        )

    def stages(self, key: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """A list of lists of lists of names."""
        found = self._take(key, (list,), "a list of lists of lists", None)
        return tuple(Table({key: self._list(each, key)}, self._path).groups(key) for each in found)

    def tables(self, key: str) -> Iterator[tuple[str, Table]]:
        """Tables by name; none if the key is missing."""
        inner = self._inner(key)
        for name in inner._values:
            values = inner._take(name, (dict,), "a table", None)
            yield name, Table(values, f"{key} {name}")

    def listed(self, key: str) -> Iterator[Table]:
        """A list of tables."""
        for number, values in enumerate(self._take(key, (list,), "a list of tables", None), 1):
            if not isinstance(values, dict):
                raise OperandError(f"{key!r} of {self._path} is a list of tables, not {values!r}")
            yield Table(cast("dict[str, Any]", values), f"{key} {number} of {self._path}")

    def close(self) -> None:
        """Refuses what nothing asked for.

        Raises:
            ArgumentError: there is such a key.
        """
        for key in self._values:
            if key not in self._asked:
                raise ArgumentError(
                    f"{self._path} has a key {key!r}, which means nothing",
                    deduced=(f"keys: {', '.join(self._asked)}",),
                )

    def _take(self, key: str, kinds: tuple[type, ...], what: str, default: Any) -> Any:
        self._asked.append(key)
        value = self._values.get(key, default)
        if value is None:
            raise ArgumentError(f"{self._path} has no {key!r}, {what}")
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise OperandError(f"{key!r} of {self._path} is {what}, not {value!r}")
        return value

    def _inner(self, key: str) -> Table:
        return Table(self._take(key, (dict,), "a table", {}), f"{key} of {self._path}")

    def _list(self, value: Any, key: str) -> list[Any]:
        if not isinstance(value, list):
            raise OperandError(f"in {key!r} of {self._path} there is {value!r} in place of a list")
        return cast("list[Any]", value)

    def _name(self, value: Any, key: str) -> str:
        if not isinstance(value, str):
            raise OperandError(f"in {key!r} of {self._path} there is {value!r} in place of a name")
        return value
