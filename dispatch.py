"""Finding what serves a call: by guards in native code, then by its signature in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from einloom.backends.base import Way

#: How many signatures each table keeps before it starts afresh.
TABLE_BOUND = 4096

#: How many guards a call goes through at most. One that lets it pass on costs some 10 ns.
_MOST_GUARDS = 8

#: After so many calls that a full row of guards let through, it is made anew, of those seen then.
_PATIENCE = 64


class Bound:
    """What serves the calls of one signature.

    `call`: takes the operands, and what is given as `out=` last. `way`: native code that does the
    same, if there is any; `writes`: whether that is for calls with `out=`. `recorded`: it is from a
    record, and leaves to the compiler what it cannot do itself, errors above all. `later`: what is
    to serve them from now on; it was compiled meanwhile.
    """

    # No dataclass: a first call, which imports this, has less time than it takes to make one.
    __slots__ = ("call", "later", "recorded", "way", "writes")

    def __init__(
        self,
        call: Callable[..., Any],
        way: Way | None = None,
        *,
        writes: bool = False,
        recorded: bool = False,
    ) -> None:
        self.call = call
        self.way = way
        self.writes = writes
        self.recorded = recorded
        self.later: Bound | None = None

    def before(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """The native code before another function, which gets what that code does not serve."""
        if self.way is None:
            return otherwise
        return self.way.writing(otherwise) if self.writes else self.way.making(otherwise)


class InlineCache:
    """What to call now, `head`: native code for the signatures of late, then `slow`.

    A polymorphic inline cache (Hölzle, Chambers, Ungar: ECOOP 1991). `slow` gets the calls that no
    guard serves, and says with `learn` what does.
    """

    __slots__ = ("_guarded", "_missed", "_slow", "head")

    def __init__(self, slow: Callable[..., Any]) -> None:
        self.head = self._slow = slow
        self._guarded: list[Bound] = []
        self._missed = 0

    def learn(self, bound: Bound) -> Callable[..., Any]:
        """Takes in what serves a call that came through; what to call from now on."""
        if bound.way is not None and bound not in self._guarded:
            if len(self._guarded) >= _MOST_GUARDS:
                self._missed += 1
                if self._missed < _PATIENCE:
                    return self.head
                self.head, self._guarded, self._missed = self._slow, [], 0
            self.head = bound.before(self.head)
            self._guarded.append(bound)
        return self.head


def signature(arrays: Sequence[Any]) -> tuple[Any, ...]:
    """What a bound call is made for: type, dtype, shape and strides of each operand.

    The type is part of it because native code reads the array object itself.
    """
    key: list[Any] = []
    for array in arrays:
        key += (type(array), array.dtype, array.shape, array.strides)
    return tuple(key)


def option_key(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """The options, and the type of each, for 1 is not True."""
    if not options:
        return ()
    try:
        hash(tuple(options.values()))
    except TypeError:
        return (hashable(options),)  # a path in a list, sizes in a dict
    return (*options.items(), *map(type, options.values()))


def hashable(value: Any) -> Any:
    """Lists and dicts as tuples, all the way down, with each value's type: 1 is not True."""
    if isinstance(value, Mapping):
        value = tuple(cast("Mapping[Any, Any]", value).items())
    if isinstance(value, list | tuple):
        return tuple(hashable(item) for item in cast("Sequence[Any]", value))
    return (type(value), value)


def keep(table: dict[Any, Any], key: Any, value: Any) -> None:
    """Adds to a table, which is emptied first if it is full."""
    if len(table) >= TABLE_BOUND:
        table.clear()
    table[key] = value
