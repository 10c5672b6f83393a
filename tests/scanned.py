"""Random texts with what a Cascade of one Einsum after another has not, and inputs for them.

Scans, partitions, places of maxima, operators and semirings of the text's own, assumptions, strided
reads of deduced extents, nested reductions, several outputs. The values are small integers in every
dtype, so that sums are exact in any order; NaN and infinities among them if `special`. With `rings`
there are lines over one of many semirings beside these, see rings.py, and values may be any reals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from einloom.ir.dtypes import DTYPES

from . import rings
from .choices import Choices, Drawn
from .rings import RANKS, RINGS, Ring

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: What stands before a Cascade, and the variables of the inputs' axes.
DEFINITIONS = """\
op last(a, b) [associative, identity = 0] = select(b != 0, b, a)
op most(a, b) [commutative, associative, identity = -inf] = select((a > b) | (a != a), a, b)
op plus(a, b) [commutative, identity = 0] = a + b
op mad(a, b, c) = a * b + c
op clip(a: f64) = min(max(a, -3.0), 3.0)
semiring tropic(max, add, -inf, 0)
semiring owned(plus, mul, 0, 1)
"""
AXES = {"A": "vi", "B": "i", "X": "m", "Z": "mi", "W": "h", "F": "r"}


@dataclass(frozen=True)
class Written:
    """A text, and inputs for it; `special` are those that are not all finite."""

    text: str
    arrays: dict[str, Array]
    special: bool

    def __repr__(self) -> str:
        arrays = {name: (str(a.dtype), a.shape, a.tolist()) for name, a in self.arrays.items()}
        return f"{self.text}\n{arrays}"


@st.composite
def written(draw: st.DrawFn, rings: bool = False) -> Written:
    """A text of one to three parts, each a scan, a partition, ...; later ones read earlier ones."""
    return Writer(Drawn(draw), rings=rings).text()


class Writer:
    """Draws lines; `tensors` are those that may be read, by the variables of their axes."""

    def __init__(self, choices: Choices, *, rings: bool = False) -> None:
        self.one, self.maybe, self.between = choices.one, choices.maybe, choices.between
        self.some, self.several = choices.some, choices.several
        self.lines: list[str] = []
        self.ranks: list[str] = []
        self.names: list[str] = []
        self.tensors = dict(AXES)
        self.dtypes = {name: self.one(("f32", "f64", "i64")) for name in AXES}
        self.floats = all(dtype != "i64" for dtype in self.dtypes.values())
        self.sizes = {
            "v": self.one((0, 1, 5)),
            "i": self.one((1, 2, 2, 0)),
            "m": self.between(0, 9),
            "h": self.between(0, 7),
            "r": self.between(1, 3),
        }
        self.part = self.between(1, 4)
        self.parted = self.aliased = False
        self.ring = Ring(self, *self.one(RINGS)) if rings else None
        if self.ring is not None:
            self.sizes |= {"j": self.one((0, 1, 2, 2, 3)), "u": 6}
            self.aliased = True

    def text(self) -> Written:
        kinds = [self.scan, self.scan, self.partition, self.place, self.own, self.strided]
        kinds += [self.nested]
        if self.ring is not None:
            kinds += [self.ring.line] * 3 * len(kinds)
        least, most = (1, 3) if self.ring is None else (2, 9)
        for kind in self.several(kinds, least, most):
            kind()
        if self.between(0, 3) == 0:
            self.ranks.append("R <= 3")
        if self.ring is not None:
            self.tensors |= {n: a for n, a in self.ring.tensors.items() if n in self.names}
        axes, dtypes = self.inputs()
        head = ", ".join(
            f"{name}[{','.join(variables).upper()}]: {dtypes[name]}"
            for name, variables in axes.items()
        )
        outputs = self.some(self.names, 3 if self.ring is None else len(self.names))
        outputs += [name for name in self.names[-1:] if name not in outputs]
        if self.ring is not None:
            known = [f"{v.upper()} = {n}" for v, n in self.sizes.items()] if self.maybe() else []
            self.ranks[:0] = [*known, *RANKS]
        elif self.aliased:
            self.ranks.append("K = I")
        ranks = [f"ranks {', '.join(self.ranks)}"] if self.ranks else []
        if self.parted:
            ranks.append("partition M -> M1, M0")
        lines = "".join(f"  {line}\n" for line in (*ranks, *self.lines))
        body = f"cascade f({head}) -> {', '.join(outputs)} {{\n{lines}}}\n"
        special = self.between(0, 2) == 0
        reals = self.ring is not None and not special and self.maybe()
        return Written(DEFINITIONS + body, self.arrays(axes, dtypes, special, reals), special)

    def inputs(self) -> tuple[dict[str, str], dict[str, str]]:
        """The variables of each input's axes, and its dtype."""
        axes, dtypes = dict(AXES), dict(self.dtypes)
        if self.ring is not None:
            axes |= rings.AXES
            dtypes |= dict.fromkeys(rings.AXES, self.ring.dtype) | {"L": "i64"}
        return axes, dtypes

    def arrays(
        self, axes: dict[str, str], dtypes: dict[str, str], special: bool, reals: bool
    ) -> dict[str, Array]:
        rng = np.random.default_rng(self.between(0, 2**32))
        found: dict[str, Array] = {}
        for name, variables in axes.items():
            dtype, shape = DTYPES[dtypes[name]], [self.sizes[v] for v in variables]
            low = 0 if dtype.kind == "unsigned" else -2
            values: Array = rng.integers(low, 3, shape)
            if dtype.is_inexact:
                values = rng.standard_normal(shape) if reals else values.astype(float)
            if dtype.kind == "complex":
                values = values + 1j * rng.integers(-2, 3, shape)
            if special and dtype.is_inexact:
                rare = np.array([np.nan, np.inf, -np.inf])[rng.integers(0, 3, shape)]
                if dtype.kind == "complex":  # what is infinite has no laws there, even of `*`
                    rare = np.full(shape, complex(np.nan, np.nan))
                values = np.where(rng.random(shape) < 0.3, rare, values)
            found[name] = values.astype(dtype.numpy)
        return found

    # ---- words

    def new(self) -> str:
        """The name of the next tensor."""
        name = f"Y{len(self.names)}"
        self.names.append(name)
        return name

    def define(self, left: Sequence[str], right: str, dtype: str = "") -> str:
        name = self.new()
        self.lines.append(f"{name}[{','.join(left)}]{dtype} = {right}")
        if all(len(v) == 1 for v in left):
            self.tensors[name] = "".join(left)
        return name

    # ---- expressions

    def expr(self, bound: Sequence[str], depth: int = 2, own: Sequence[str] = ()) -> str:
        """An expression of the variables `bound`; `own` are reads that it may hold besides."""
        kind = self.between(0, 9) if depth else 0
        if kind <= 3:
            return self.leaf(bound, own)
        inner = [self.expr(bound, depth - 1, own) for _ in range(3)]
        if kind <= 5:
            return f"({inner[0]} {self.one('+-')} {inner[1]})"
        if kind == 6:
            return f"{self.leaf(bound)} * {self.leaf(bound)}"
        if kind == 7:
            return f"{self.one(('max', 'min'))}({inner[0]}, {inner[1]}, {inner[2]})"
        if kind == 8:
            return f"select({self.condition(bound)}, {inner[0]}, {inner[1]})"
        return str(
            self.one((f"clip({inner[0]})", f"mad({inner[0]}, 2, {inner[1]})", f"-{inner[0]}"))
        )

    def leaf(self, bound: Sequence[str], own: Sequence[str] = ()) -> str:
        reads = [
            f"{name}[{','.join(axes)}]"
            for name, axes in self.tensors.items()
            if all(v in bound for v in axes)
        ]
        if "m0" in bound and "m1" in bound:
            reads += ["X[m1*M0+m0]"] * 2 + ["X[M-1-m1*M0-m0]"]
            if "i" in bound:
                reads += ["Z[m1*M0+m0,i]"] * 2
        if "v" in bound and "i" in bound:
            reads += ["A[V-1-v,i]", "A[v-1,i else 0]", "A[v+1,i else 1]"]
        elif "v" in bound:
            reads += ["sum[i] A[v,i]", "max[i] A[v,i]"]
        reads += [*own, *own, *own]
        if self.maybe(5) or not reads:
            return str(self.one((*bound, "0", "1", "2.0", "M", "V", "(M - 3)", "((V + 1) / 2)")))
        return str(self.one(reads))

    def condition(self, bound: Sequence[str]) -> str:
        left, op = self.one((*bound, self.leaf(bound))), self.one(("<", ">=", "!=", "=="))
        right = self.one(("1", "0", "I"))
        if (op, right) == ("<", "0") or (left, right) == ("i", "I") or left in ("0", "1"):
            op = "!="  # so that the filter may be true
        return f"({left} {op} {right})"

    def where(self, bound: Sequence[str], must: bool = False) -> str:
        """A filter or none; what is else if there `must` be an else."""
        if not self.maybe(3):
            return ""
        otherwise = f" else {self.one((0, 7, -1, 0.5))}" if must or self.maybe() else ""
        return f" where {self.condition(bound)}{otherwise}"

    def fold(self) -> str:
        return str(self.one(("sum", "sum", "max", "min")))

    # ---- parts

    def scan(self) -> None:
        lag = self.one((1, 1, 2))
        free = ["i"] if self.maybe() else []
        names = [self.new() for _ in range(self.one((1, 2)))]
        dtype = self.one(("", "", ": f64"))
        first = self.maybe()

        def at(name: str, place: str) -> str:
            return f"{name}[{','.join((place, *free) if first else (*free, place))}]"

        for name in names:
            for start in range(lag):
                value = self.one(("0", "1", "0.0", "B[i]" if free else "sum[i] B[i]"))
                self.lines.append(f"{at(name, str(start))}{dtype} = {value}")
        middle = self.new() if self.maybe(3) else ""
        before = [at(name, f"v+{d}" if d else "v") for name in names for d in range(lag)]
        bound = ["v", *free]
        for number, name in enumerate(names):
            there = [*before, *(at(done, f"v+{lag}") for done in names[:number])]
            if number and middle:
                there.append(f"{middle}[{','.join(bound)}]")
            value = f"{at(name, 'v')} {self.one('+-')} {self.expr(bound, 2, there)}"
            if free and self.maybe(3):
                op = self.one(("max", "sum", "argmax", "last", "most"))
                other = at(name, "v").replace("i", "k")
                value += f" + {op}[k] ({other} + B[k])"
                self.aliased = True
            if len(names) == 2:
                value += f" + {at(names[1 - number], 'v')}"
            if number and middle and self.maybe():
                value += f" - {middle}[{','.join(bound)}]"
            self.lines.append(f"{at(name, f'v+{lag}')}{dtype} = {value}{self.where(bound, True)}")
            if middle and not number:
                there = [*there, at(name, f"v+{lag}")]
                self.lines.append(f"{middle}[{','.join(bound)}] = {self.expr(bound, 2, there)}")
        self.define(free, f"{self.one(('', '-', '2 * '))}{at(names[-1], f'V+{lag - 1}')}")
        if self.maybe():
            self.define(free, f"{self.one(('argmax', 'argmin', 'sum'))}[v] {at(names[0], 'v')}")

    def partition(self) -> None:
        if not self.parted:
            self.parted = True
            self.ranks.append(f"M0 = {self.part}")
            if self.sizes["m"] % self.part == 0 and self.maybe():
                self.ranks.append(self.one(("M % M0 == 0", f"M % {self.part} == 0")))
        free = ["i"] if self.maybe(3) else []
        both = ["m1", "m0", *free]
        kind = self.between(0, 5)
        if kind == 5:
            name, read = self.new(), "X[m1*M0+m0]"
            self.lines.append(f"{name}[0] = {self.one((0, 1))}")
            self.lines.append(f"{name}[m1+1] = {name}[m1] + {self.fold()}[m0] {read}")
            self.define([], f"{name}[M1]")
        elif kind == 0:
            read = f"X[m1*M0+m0]{' * B[i]' if free else ''}"
            self.define(["m1", *free], read + self.one(("", " over max_plus", " over tropic")))
        elif kind == 1:
            body = f"({self.expr(both)})"
            self.define(["m1", *free], f"{self.fold()}[m0] {body}{self.where(both)}")
        elif kind == 2:
            self.define(free, f"{self.fold()}[m1,m0] ({self.expr(both)}){self.where(both)}")
        elif kind == 3:
            name = self.define(both, f"{self.expr(both)}{self.where(both, True)}")
            read = f"{name}[{','.join(both)}]"
            self.define(["m1", *free], f"{self.fold()}[m0] ({read} + {self.expr(both, 1)})")
        else:
            op = self.one(("argmax", "argmin", "last"))
            self.define(["m1", *free], f"{op}[m0] ({self.expr(both)}){self.where(both)}")

    def place(self) -> None:
        free = ["i"] if self.maybe() else []
        bound = ["m", *free]
        value = f"({self.expr(bound)})" if self.maybe() else "Z[m,i]" if free else "X[m]"
        if self.maybe():
            self.define(free, f"{self.one(('argmax', 'argmin'))}[m] {value}{self.where(bound)}")
            return
        left, right = self.new(), self.new()
        axes = ",".join(free)
        op = self.one(("max", "min"))
        where = f" where {self.condition(bound)}" if self.maybe(3) else ""
        self.lines.append(f"{left}[{axes}], {right}[{axes}] = {op}[m] {value}{where}")
        self.tensors |= {left: "".join(free), right: "".join(free)}

    def own(self) -> None:
        free = ["i"] if self.maybe() else []
        bound = ["m", *free]
        kind = self.between(0, 3)
        if kind == 0:
            self.define(free, f"mad({self.expr(free)}, {self.leaf(free)}, {self.expr(free, 1)})")
        elif kind == 1:
            ring = self.one(("tropic", "owned"))
            self.define(free, f"{'Z[m,i]' if free else 'X[m]'} * {self.leaf(bound)} over {ring}")
        elif kind == 2:
            self.define([], f"{self.one(('last', 'most'))}[m,i] ({self.expr(['m', 'i'])})")
        else:
            op = self.one(("last", "most", "plus"))
            self.define(free, f"{op}[m] ({self.expr(bound)}){self.where(bound)}")

    def strided(self) -> None:
        step = self.one((2, 3))
        name, rank = f"p{len(self.names)}", f"P{len(self.names)}"
        read = f"W[{step}*{name}+r]"
        if self.sizes["h"] < self.sizes["r"]:
            read = f"W[{step}*{name}]"
            self.define([name], f"{read} + {self.leaf([])}")
        elif self.maybe():
            self.define([name], f"{read} * F[r]")
        else:
            self.define([name], f"{self.fold()}[r] ({read} + {self.leaf(['r'])})")
        self.define([], f"{self.fold()}[{name}] {self.names[-1]}[{name}] + {rank}")

    def nested(self) -> None:
        inner = f"{self.fold()}[h] ({self.expr(['m', 'h'], 1)})"
        op = self.one(("sum", "max", "argmax", "last"))
        self.define(["i"], f"{op}[m] ({self.expr(['m', 'i'], 1)} + {inner}) - {self.leaf(['i'])}")
