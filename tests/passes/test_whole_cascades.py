"""Every rewrite of the registry on random cascades of every construct, over many semirings.

What it gives is what the interpreter gives of the cascade as it was: equal in exact types, and in
floats within the bound of tests/rounding.py. A new pass is tried as soon as it is registered; if it
has an option of a new name, `Options` below has to say what values that takes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from einloom.compiler import parse
from einloom.ir.cascade import Cascade
from einloom.ir.errors import PassError, UnsupportedError
from einloom.ir.interpreter import evaluate
from einloom.ir.verify import verify
from einloom.passes.base import Pass
from einloom.passes.registry import available_passes
from einloom.passes.spec import parse_pipeline

from ..cascades import Array
from ..choices import Choices, Drawn, Seeded
from ..generated import examples
from ..rounding import assert_near, bounds
from ..scanned import Writer, Written

#: `adjoint` is a derivation, not an equality; the others need reductions that wait for one another,
#: as those of test_online.py do.
APART = {"adjoint", "defer", "online", "merge", "shared_prefix", "fewest-passes"}
PASSES = {name: made for name, made in available_passes().items() if name not in APART}

#: Tried once in ten times, and alone.
SLOW = {"search"}


def says(name: str, pattern: str) -> bool:
    """Whether the docstring of a pass has a pattern."""
    return re.search(pattern, " ".join((PASSES[name].__doc__ or "").split())) is not None


def exact(name: str) -> bool:
    """Whether a pass changes no value, NaN and infinities included."""
    return name == "plain" or says(name, r"\bExact\b|is exact")


class Options:
    """Draws values for the options of passes, by their names."""

    def __init__(self, choices: Choices, cascade: Cascade) -> None:
        self.choose = choices
        self.cascade = cascade

    def made(self, name: str) -> Pass:
        described: Any = PASSES[name]
        wanted = [f for f in fields(described) if f.default is MISSING or name in _ALL]
        products = [e for e in self.cascade.einsums if len(e.product() or ()) > 1]
        self.tensor = self.choose.one(products or self.cascade.einsums)
        return PASSES[name](**{field.name: getattr(self, f"_{field.name}")() for field in wanted})

    def _tensor(self) -> str:
        return self.tensor.name

    def _count(self) -> int:
        return len(self.tensor.product() or (0, 0))

    def _operands(self) -> tuple[int, ...]:
        return tuple(self.choose.some(range(self._count()), self._count(), 1))

    def _order(self) -> tuple[int, ...]:
        return tuple(self.choose.some(range(self._count()), self._count(), self._count()))

    def _operand(self) -> int | None:
        number = self.choose.between(-1, self._count() - 1)
        return None if number < 0 else number

    def _axis(self) -> int:
        return self.choose.between(0, 1)

    def _rank(self) -> str:
        own = [v.upper() for v in (*self.tensor.free, *self.tensor.reduced)]
        every = [rank.name for rank in self.cascade.ranks]
        return self.choose.one(self.choose.one((every, own or every)))

    def _ranks(self) -> tuple[str, str]:
        return "Q1", "Q0"

    def _to(self) -> str:
        return self.choose.one(("NEW", "NEW", "I"))

    def _pieces(self) -> int:
        return self.choose.between(1, 3)

    _size = _pieces

    def _elements(self) -> int:
        return self.choose.one((1, 2, 4))

    def _steps(self) -> int:
        return self.choose.between(1, 2)


#: Passes of which the options that have defaults are drawn as well.
_ALL = {"delta_split", "slice"}


class Tried:
    """One case, its outputs and what they may be wrong by."""

    def __init__(self, case: Written) -> None:
        self.case = case
        self.cascade = parse(case.text)
        self.want = evaluate(self.cascade, case.arrays)
        self._within: Mapping[str, Array] | None = None
        self._empty = any(0 in array.shape for array in case.arrays.values())

    def holds(self, name: str) -> bool:
        """Whether a pass is tried here: not each keeps what is not finite.

        A zero does not absorb NaN or infinity, nor does a sum of nothing.
        """
        absorbs = self._empty or says(name, "zeros absorb")
        return exact(name) or not (self.case.special and absorbs)

    def hold(self, after: Cascade, *, same: bool) -> None:
        """Holds a rewritten Cascade to the values; if `same`, to the bit, NaN and all."""
        verify(after)
        got = evaluate(after, self.case.arrays)
        if same:
            for name, wanted in self.want.items():
                assert got[name].dtype == wanted.dtype
                np.testing.assert_array_equal(got[name], wanted, err_msg=name)
            return
        if all(_equal(got[name], wanted) for name, wanted in self.want.items()):
            return
        if self._within is None:
            self._within = bounds(self.cascade, self.case.arrays)
        assert_near(got, self.want, self._within, bounds(after, self.case.arrays))


def _equal(got: Array, want: Array) -> bool:
    return got.dtype == want.dtype and np.array_equal(got, want, equal_nan=want.dtype.kind in "fc")


def test_every_pass_alone() -> None:
    changed: Counter[str] = Counter()
    for seed in range(examples(100).max_examples):
        choices = Seeded(seed)
        tried = Tried(Writer(choices, rings=True).text())
        for name in PASSES:
            if name in SLOW and not choices.maybe(10):
                continue
            made = Options(choices, tried.cascade).made(name)
            try:
                after = made(tried.cascade)
            except (PassError, UnsupportedError):
                continue
            if after is tried.cascade or not tried.holds(name):
                continue
            changed[name] += 1
            try:
                tried.hold(after, same=exact(name))
            except Exception as error:
                error.add_note(f"seed {seed}: {tried.case}\n{made}\n{after}")
                raise
    idle = [name for name in PASSES if not changed[name]]
    assert not idle, f"nothing was rewritten by {', '.join(idle)}"


@settings(examples(100), suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_passes_in_any_order(data: st.DataObject) -> None:
    choices = Drawn(data.draw)
    tried = Tried(Writer(choices, rings=True).text())
    after, applied = tried.cascade, list[str]()
    for name in choices.several(list(PASSES), 3, 9):
        if name in SLOW or not tried.holds(name):
            continue
        try:
            made = Options(choices, after).made(name)
            after = made(after)
        except (PassError, UnsupportedError):
            continue
        applied.append(str(made))
        assert str(parse_pipeline(str(made))) == str(made)
    if after is tried.cascade:
        return
    try:
        tried.hold(after, same=False)
    except Exception as error:
        error.add_note(f"{tried.case}\n{', '.join(applied)}\n{after}")
        raise
