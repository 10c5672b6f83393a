"""The functions that a program calls first: they are quick to load, and load the rest if need be.

What an earlier process compiled is found through its record (records.py): such a call loads neither
the language nor the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from einloom import records
from einloom.dispatch import Bound, InlineCache, keep, option_key, signature

if TYPE_CHECKING:
    from einloom.backends.base import Array

_calls: dict[Any, Bound] = {}
#: By the subscripts alone, where there are no options: what tells operands apart is native.
_inline: dict[str, InlineCache] = {}


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
    if not options and type(subscripts) is str:
        known = _inline.get(subscripts)
        if known is None:
            known = InlineCache(partial(_einsum, subscripts))
            keep(_inline, subscripts, known)
        return known.head(*operands) if out is None else known.head(*operands, out=out)
    return _einsum(subscripts, *operands, out=out, **options)


def _einsum(subscripts: Any, *operands: Any, out: Any = None, **options: Any) -> Any:
    """A call that native code did not serve, at least not yet."""
    given = operands if out is None else (*operands, out)
    key: Any
    try:
        key = (subscripts, *signature(given), *(() if out is None else ("out",)))
        key += option_key(options)
        found = _calls.get(key)
    except (AttributeError, TypeError):
        key, found = None, None  # it cannot be made or hashed: lists, numbers, interleaved
    if found is None:
        if key is not None and type(subscripts) is str:
            found = _recorded(subscripts, operands, out, options)
        if found is None:
            return _prepared(subscripts, operands, out, options)
        keep(_calls, key, found)
    elif found.later is not None:
        found = found.later
        keep(_calls, key, found)
        if type(subscripts) is str:
            records.keep(records.identity("einsum", subscripts, options), operands, out, found)
    return _run(found, subscripts, operands, out, options)


def _run(
    found: Bound, subscripts: Any, operands: Sequence[Any], out: Any, options: Mapping[str, Any]
) -> Any:
    if not options and type(subscripts) is str and subscripts in _inline:
        _inline[subscripts].learn(found)
    return found.call(*operands) if out is None else found.call(*operands, out)


def _prepared(
    subscripts: Any, operands: Sequence[Any], out: Any, options: Mapping[str, Any]
) -> Any:
    """A call not seen before, nor by an earlier process, or one that a record does not serve."""
    from einloom.api import prepare

    found, arrays = prepare(_calls, subscripts, operands, out, options)
    if type(subscripts) is str:
        records.keep(records.identity("einsum", subscripts, options), arrays, out, found)
    return _run(found, subscripts, arrays, out, options)


def _recorded(
    subscripts: str, operands: Sequence[Any], out: Any, options: Mapping[str, Any]
) -> Bound | None:
    """What serves such calls, if an earlier process left a record of it."""

    def otherwise(*arrays: Any, out: Any = None) -> Any:
        return _prepared(subscripts, arrays, out, options)

    return records.find(records.identity("einsum", subscripts, options), operands, out, otherwise)
