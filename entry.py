"""The functions that a program calls first: they are quick to load, and load the rest if need be.

What an earlier process compiled is found through its record (records.py): such a call loads neither
the language nor the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from einloom import records
from einloom.dispatch import Bound, InlineCache, keep, option_key, signature

if TYPE_CHECKING:
    from einloom.backends.base import Array

_calls: dict[Any, Bound] = {}
#: By the subscripts and the options: what tells operands apart is native.
_inline: dict[Any, InlineCache] = {}


def einsum(subscripts: Any = "", *operands: Any, out: Array | None = None, **options: Any) -> Any:
    """Evaluates an einsum: `np.einsum`'s call, natively compiled, for the whole dialect.

    Args:
        subscripts: "ij,jk->ik"; or the first operand of the interleaved form
            `einsum(A, [0, 1], B, [1, 2], [0, 2])`.
        *operands: arrays, nested lists or numbers; any shapes, strides and byte orders.
        out: an array to write the result into, which is returned.
        optimize: how to order three or more operands: "auto" (default), False (one loop nest), or
            any path, name, `(name, limit)` or callable that NumPy or opt_einsum takes.
        dtype: what to compute in, read as NumPy reads it ("i8" has 8 bytes); also einloom's names
            where NumPy has none ("f32", "bf16"). None: the common type (`np.result_type`).
        order: the layout of a new result: "C", "F", "A" ("F" if all operands are) or "K" (the
            default), which keeps the operands' own order of axes as NumPy's iterator does.
        casting: which conversions are allowed ("safe" by default), as in `np.can_cast`.
        backend: "llvm" (default) or "numpy".
        semiring: the pair of operators that stands for + and *, such as "max_plus".
        broadcast: "numpy" (an axis of extent 1 fits any extent) or "strict".
        sizes: extents of symbols that occur in the output alone.
        acc: a wider dtype to accumulate in and return, such as "i32" for int8 operands; read as
            `dtype` is.
        notation: "compact" (every letter a symbol) or "named" ("batch i j, batch j k -> ..."; the
            subscripts may then also come last, after the operands).
        repeated_output: whether the output may repeat a symbol ("i->ii" is a diagonal matrix).
        memory_limit: the largest intermediate, in elements, that the order may use.
        threads: how many threads share the work of native code, at most; None: as
            `set_num_threads` says. The result is the same, bit for bit.
        wait: whether a call waits until native code is compiled for it (the default). If not, NumPy
            answers until a thread in the background has compiled it.

    Returns:
        The result, a scalar if it has no axes; for a single operand that is only permuted or whose
        diagonals are taken, a writeable view of it, as from NumPy.

    Raises:
        ParseError, RankError, ArgumentError: ValueErrors; the subscripts or shapes are wrong.
        OperandError: a TypeError; a dtype or a conversion is not allowed.

    >>> einsum("ij,jk->ik", [[1, 2], [3, 4]], [[1, 0], [0, 2]]).tolist()
    [[1, 4], [3, 8]]
    """
    key: Any = subscripts
    arrays: Sequence[Any] = operands
    if options or type(subscripts) is not str:
        key, arrays = _key(subscripts, operands, options)
    known = _inline.get(key)
    if known is None:
        if key is None:
            return _einsum(None, subscripts, operands, out, options)
        known = InlineCache(partial(_again, key, *_own(subscripts, operands, options)))
        keep(_inline, key, known)
    return known.head(*arrays) if out is None else known.head(*arrays, out=out)


def _key(
    subscripts: Any, operands: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Any, Sequence[Any]]:
    """What is called, as a key, and the arrays; no key (None) if it has none."""
    what: Any = subscripts
    arrays = operands
    if type(subscripts) is not str:
        lists, arrays = _apart(subscripts, operands)
        if any(type(labels) is not list and type(labels) is not tuple for labels in lists):
            return None, operands
        labels = [label for labels in lists for label in labels]
        what = (len(arrays), *map(len, lists), *labels, *map(type, labels))
    key = (what, *option_key(options))
    try:
        hash(key)
    except TypeError:
        return None, operands
    return key, arrays


def _apart(first: Any, rest: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The lists of labels of the interleaved form, the output's last; and the arrays."""
    given = (first, *rest)
    pairs = len(given) // 2
    return [*given[1 : 2 * pairs : 2], *given[2 * pairs :]], [*given[: 2 * pairs : 2]]


def _own(
    subscripts: Any, operands: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """What is called, and how, without the arrays; whatever becomes of the lists and dicts."""
    own = {name: _copied(value) for name, value in options.items()}
    if type(subscripts) is str:
        return subscripts, own
    return [list(labels) for labels in _apart(subscripts, operands)[0]], own


def _copied(value: Any) -> Any:
    """What nobody else changes."""
    if not isinstance(value, list | dict):
        return value
    from copy import deepcopy  # few calls need it, and it takes as long to load as native code

    return deepcopy(cast("Any", value))


def _again(key: Any, what: Any, options: Mapping[str, Any], *arrays: Any, out: Any = None) -> Any:
    """A call that no native code serves, at least not yet: of what `_own` gave."""
    if type(what) is str:
        return _einsum(key, what, arrays, out, options)
    given: list[Any] = [x for pair in zip(arrays, what, strict=False) for x in pair]
    given += what[len(arrays) :]
    first, *operands = given
    return _einsum(key, first, operands, out, options)


def _einsum(
    key: Any, subscripts: Any, operands: Sequence[Any], out: Any, options: Mapping[str, Any]
) -> Any:
    """A call that native code did not serve; `key`: what finds its native code later on."""
    given = operands if out is None else (*operands, out)
    entry: Any
    try:
        entry = (subscripts, *signature(given), *(() if out is None else ("out",)))
        entry += option_key(options)
        found = _calls.get(entry)
    except (AttributeError, TypeError):
        entry, found = None, None  # it cannot be made or hashed: lists, numbers, interleaved
    if found is None:
        if entry is not None and type(subscripts) is str:
            found = _recorded(key, subscripts, operands, out, options)
        if found is None:
            return _prepared(key, subscripts, operands, out, options)
        keep(_calls, entry, found)
    elif found.later is not None:
        found = found.later
        keep(_calls, entry, found)
        if type(subscripts) is str:
            records.keep(records.identity("einsum", subscripts, options), operands, out, found)
    return _run(key, found, operands, out)


def _run(key: Any, found: Bound, operands: Sequence[Any], out: Any) -> Any:
    known = _inline.get(key)
    if known is not None:
        known.learn(found)
    return found.call(*operands) if out is None else found.call(*operands, out)


def _prepared(
    key: Any, subscripts: Any, operands: Sequence[Any], out: Any, options: Mapping[str, Any]
) -> Any:
    """A call not seen before, nor by an earlier process, or one that a record does not serve."""
    from einloom.api import prepare

    found, arrays = prepare(_calls, subscripts, operands, out, options)
    return _run(key, found, arrays, out)


def _recorded(
    key: Any, subscripts: str, operands: Sequence[Any], out: Any, options: Mapping[str, Any]
) -> Bound | None:
    """What serves such calls, if an earlier process left a record of it."""

    def otherwise(*arrays: Any, out: Any = None) -> Any:
        return _prepared(key, subscripts, arrays, out, options)

    return records.find(records.identity("einsum", subscripts, options), operands, out, otherwise)
