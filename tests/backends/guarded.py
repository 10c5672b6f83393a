"""Random einsums of hostile operands between forbidden pages, numbered: each number is one case.

Every operand, and the output, touches an end of its memory, beyond which lies memory that nothing
may touch. Axes have any order, run backwards, skip elements or stand still; arrays are unaligned;
operands overlap. Elements are small whole numbers, so that results are exact. All memory but the
output's elements must stay what it was.

As a program it goes through many cases; one that ends the process is the last that it names:

    python -m tests.backends.guarded --first 0 --count 3000
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

import einloom as el
from einloom.passes.loops.lower import LIMITS

from ..generated import Case
from ..test_properties_einsum import as_cascade, interpreted
from .fences import SIZE, Fenced, fences
from .native import TINY, WIDTHS, Native, sized
from .test_contractions import SMALL

Generator: TypeAlias = np.random.Generator

EXTENTS = (1, 1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 31, 32, 33, 61, 64, 67)
DTYPES = [
    np.dtype(name)
    for name in (
        *("f4", "f4", "f4", "f8", "f8", "c8", "c16", "f2", ml_dtypes.bfloat16, "?"),
        *("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"),
    )
]
MOST_RANKS = 8  # of an array
MOST_POINTS = 1 << 17
MOST_INTERPRETED = 1 << 14

#: How a case may be run: by code for so wide vectors, or through the whole library.
WAYS = (*map(str, WIDTHS), "einsum")


@dataclass(frozen=True)
class Layout:
    """Where an array lies in `SIZE` bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    strides: tuple[int, ...]

    def of(self, memory: Any) -> Any:
        """The array, in that memory."""
        return np.ndarray(self.shape, self.dtype, memory, self.offset, self.strides)


@dataclass(frozen=True)
class Guarded:
    """A case: subscripts, where each operand lies, and in which memory; where the output lies."""

    number: int
    text: str
    operands: tuple[tuple[Layout, int], ...]
    out: Layout

    def __str__(self) -> str:
        layouts = [*(layout for layout, _ in self.operands), self.out]
        shown = [f"{a.dtype.name}{a.shape} strides {a.strides} at {a.offset}" for a in layouts]
        return f"case {self.number}: {self.text!r} of {'; '.join(shown)}"


def guarded(number: int) -> Guarded:
    """The case of a number."""
    rng = np.random.default_rng(number)
    terms, output = _contraction(rng) if rng.random() < 0.5 else _any(rng)
    dtype = DTYPES[rng.integers(len(DTYPES))]
    sizes = _sizes(rng, [*terms, output], SIZE // dtype.itemsize // 4)  # some leave out 3 in 4
    memories = [n if n < 2 and rng.random() < 0.8 else int(rng.integers(2)) for n in range(3)]
    memories = memories[: len(terms)]
    operands: list[tuple[Layout, int]] = []
    for term, memory in zip(terms, memories, strict=True):
        # The elements of arrays that overlap are whole numbers only if they are a whole way apart.
        off = int(rng.integers(dtype.itemsize)) if memories.count(memory) == 1 else 0
        shape = tuple(sizes[name] for name in term)
        operands.append((_layout(rng, shape, dtype, off, written=False), memory))
    shape = tuple(sizes[name] for name in output)
    off = int(rng.integers(dtype.itemsize))
    out = _layout(rng, shape, dtype, off, written=True)
    return Guarded(number, f"{','.join(terms)}->{output}", tuple(operands), out)


def _any(rng: Generator) -> tuple[list[str], str]:
    """Up to three operands of any ranks, and what is left of them."""
    names = "abcdefghijkl"[: rng.integers(1, 13 if rng.random() < 0.3 else 7)]
    terms = [_some(rng, names) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    if rng.random() < 0.15 and 0 < len(terms[0]) < MOST_RANKS:
        terms[0] += terms[0][0]  # a diagonal
    return terms, _some(rng, sorted(set("".join(terms))))


def _some(rng: Generator, names: Sequence[str]) -> str:
    """Some of the names, in any order."""
    count = rng.integers(0, min(MOST_RANKS, len(names)) + 1)
    return "".join(rng.permutation(list(names))[:count])


def _contraction(rng: Generator) -> tuple[list[str], str]:
    """Two operands, and ranks of each kind that a product of matrices has."""
    most = 4 if rng.random() < 0.4 else 2
    names = iter("abcdefghijklmn")
    counts = *rng.integers(1, most + 1, 3).tolist(), int(rng.choice((0, 0, 1, 2)))
    rows, columns, depth, batch = ([next(names) for _ in range(min(n, 4))] for n in counts)
    shared = batch[: MOST_RANKS - max(len(rows + depth), len(columns + depth), len(rows + columns))]
    groups = rows + depth, depth + columns, rows + columns
    left, right, out = ("".join(rng.permutation([*group, *shared])) for group in groups)
    return [left, right], out


def _sizes(rng: Generator, terms: Sequence[str], most: int) -> dict[str, int]:
    """Extents such that no array has too many elements, nor the iteration space points."""
    names = sorted(set("".join(terms)))
    sizes = dict.fromkeys(names, 1)
    for name in rng.permutation(names):
        for extent in (*rng.choice(EXTENTS, 3).tolist(), 2):
            tried = {**sizes, name: extent}
            arrays = [prod(tried[n] for n in term) for term in terms]
            if prod(tried.values()) <= MOST_POINTS and max(arrays) <= most:
                sizes = tried
                break
    if names and rng.random() < 0.1:
        sizes[str(rng.choice(names))] = 0
    return sizes


def _layout(
    rng: Generator, shape: tuple[int, ...], dtype: np.dtype[Any], off: int, *, written: bool
) -> Layout:
    """An array at an end of the memory; in some, axes are odd, or the end is `off` bytes away."""
    rank = len(shape)
    odd = rng.random() < 0.5
    order = rng.permutation(rank) if rng.random() < 0.6 else np.arange(rank)
    gapped = rng.integers(rank) if rank and odd and rng.random() < 0.4 else -1
    strides = [0] * rank
    step = dtype.itemsize
    low = 0
    for axis in reversed(order.tolist()):
        gap = int(rng.integers(2, 5)) if axis == gapped else 1
        if odd and not written and rng.random() < 0.15:
            continue  # it stands still
        steps = max(shape[axis] - 1, 0)
        strides[axis] = step * gap
        if odd and rng.random() < 0.3:
            strides[axis] = -strides[axis]
            low += steps * strides[axis]
        step *= steps * gap + 1
    off *= int(odd and rng.random() < 0.5)
    begin = off if rng.random() < 0.5 else SIZE - step - off
    return Layout(shape, dtype, begin - low, tuple(strides))


def check(case: Guarded, way: str) -> None:
    """Runs a case and holds all memory to what it should be afterwards."""
    memories = [_inside(fence) for fence in fences()]
    whole: Any = np.random.default_rng((case.number, 1)).integers
    for memory in memories:
        np.frombuffer(memory, np.uint8)[...] = 0x5A
    operands = tuple(layout.of(memories[memory]) for layout, memory in case.operands)
    for operand in operands:
        operand[...] = whole(0, 3, operand.shape).astype(operand.dtype)
        if operand.dtype.kind == "c":
            operand.imag = whole(0, 2, operand.shape)
    out = case.out.of(memories[2])
    before = [bytes(memory) for memory in memories]
    given = Case(case.text, operands)
    want = _by_numpy(given)
    if case.number % 8 == 0 and _points(case) <= MOST_INTERPRETED:
        np.testing.assert_array_equal(want, interpreted(given), err_msg=str(case))
    if way == "einsum":
        assert el.einsum(case.text, *operands, out=out) is out
    else:
        cascade = as_cascade(given)
        arrays = {d.name: a for d, a in zip(cascade.inputs, operands, strict=True)}
        cascade = sized(cascade, arrays)
        arrays[cascade.outputs[0]] = out
        limits = (LIMITS, TINY, SMALL)[case.number % 3]
        native = Native(cascade, arrays, int(way), limits)
        if out.size and case.number % 2:
            native = native.bound(arrays)
        assert native(arrays) == 0, case
    np.testing.assert_array_equal(out, want, err_msg=f"{case} by {way}")
    out[...] = want  # a zero of the other sign is as good
    shadow = bytearray(before[2])
    case.out.of(shadow)[...] = want
    for memory, known in zip(memories, [before[0], before[1], bytes(shadow)], strict=True):
        assert bytes(memory) == known, f"{case} by {way}: other memory was written"


def _points(case: Guarded) -> int:
    """How many there are in the iteration space."""
    sizes: dict[str, int] = {}
    for term, (layout, _) in zip(
        case.text.partition("->")[0].split(","), case.operands, strict=True
    ):
        sizes |= zip(term, layout.shape, strict=True)
    return prod(sizes.values())


def _inside(fence: Fenced) -> Any:
    """The memory that may be touched."""
    return memoryview(fence.memory)[SIZE : 2 * SIZE]


def _by_numpy(given: Case) -> Any:
    """The exact result, as whole numbers, in the dtype of the operands."""
    dtype = given.operands[0].dtype
    wide: Any = {"c": np.complex128, "i": np.int64, "u": np.uint64}.get(dtype.kind, np.float64)
    result = np.einsum(given.text, *(operand.astype(wide) for operand in given.operands))
    return np.asarray(result).astype(dtype)


def main() -> None:
    """Goes through cases and says how many there were."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    options = parser.parse_args()
    faulthandler.enable()
    wrong, began = 0, time.process_time()
    for number in range(options.first, options.first + options.count):
        case = guarded(number)
        for way in options.ways:
            sys.stderr.write(f"\r{number} {way:8}")
            try:
                check(case, way)
            except Exception as error:
                wrong += 1
                sys.stdout.write(f"{case} by {way}\n{type(error).__name__}: {error}\n")
    spent = time.process_time() - began
    ways = ", ".join(options.ways)
    sys.stdout.write(f"{options.count} cases by {ways}: {wrong} wrong; {spent:.0f} s\n")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
