"""Random lines over one semiring: what the laws of einsum rewrite, and what looks like it.

Each tensor here has the dtype of the semiring, and one or two axes over the ranks I and J, which
have the aliases K and N. A line reads what the lines before it made, so that laws meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from einloom.ir.dtypes import DTYPES
from einloom.ir.operators import SEMIRINGS, reduction_name
from einloom.ir.printer import print_number
from einloom.passes.rewrites.delta import literal_in
from einloom.passes.rewrites.homomorphism import HOMOMORPHISMS

if TYPE_CHECKING:
    from .scanned import Writer

#: Each semiring with a dtype on which all of its laws hold, sum_product with three.
RINGS = (
    *(("sum_product", name) for name in ("f64", "i32", "c128")),
    *(("max_plus", "f64"), ("min_plus", "f64"), ("max_times", "bool"), ("min_max", "i8")),
    *(("max_min", "f32"), ("log", "f64"), ("boolean", "bool"), ("counting", "i64")),
    ("xor_and", "u8"),
)

#: The inputs of these lines, by the variables of their axes; `L` is an index into J.
AXES = {"C": "ij", "D": "ji", "E": "ii", "G": "j", "S": "i", "T": "", "U": "u", "L": "i"}

#: What these lines declare.
RANKS = ("K = I", "N = J", "Q1 = 2", "Q0 = 3")

#: Names of the variables over a rank.
VARIABLES = {"i": "ik", "j": "jn", "v": "v", "u": "u"}


class Ring:
    """Writes lines over one semiring by way of a Writer."""

    def __init__(self, writer: Writer, semiring: str, dtype: str) -> None:
        self.writer = writer
        self.dtype = dtype
        self.ring = SEMIRINGS[semiring]
        self.over = f" over {semiring}"
        self.sum = reduction_name(self.ring.add)
        zero, one = (literal_in(n, DTYPES[dtype]) for n in (self.ring.zero, self.ring.one))
        self.zero, self.one = print_number(zero.value), print_number(one.value)
        self.tensors = {name: axes for name, axes in AXES.items() if name not in "UL"}

    @property
    def floats(self) -> bool:
        return self.dtype.startswith("f")

    def line(self) -> None:
        """One more line, or a few that belong together."""
        kinds = [self.product] * 3 + [self.total, self.chain, self.repeated, self.constants]
        kinds += [self.copy, self.filtered, self.ones, self.delta, self.scan, self.gathered] * 2
        kinds += [self.unread, self.factored, self.mapped, self.paired] * 2
        self.writer.one(kinds)()

    # ---- words

    def new(self, axes: str, variables: Sequence[str], right: str, dtype: str = "") -> str:
        """A tensor with these axes at these variables."""
        name = self.writer.new()
        self.writer.lines.append(f"{name}[{','.join(variables)}]{dtype} = {right}")
        self.tensors[name] = axes
        return name

    def read(self, bound: Sequence[str] = "ijkn", name: str = "") -> tuple[str, str]:
        """An access at some of the variables, and which they are."""
        one = self.writer.one
        known = [
            n
            for n, axes in self.tensors.items()
            if all(any(v in bound for v in VARIABLES[axis]) for axis in axes)
        ]
        name = name or one(known[-6:] if self.writer.maybe() else known)
        at = "".join(one([v for v in VARIABLES[axis] if v in bound]) for axis in self.tensors[name])
        return f"{name}[{','.join(at)}]", at

    def some(self, variables: str, most: int) -> str:
        found = self.writer.some(sorted(set(variables)), most)
        return "".join(found)

    def axes(self, variables: str) -> str:
        return "".join("i" if v in "ik" else "j" for v in variables)

    # ---- lines

    def product(self, least: int = 1) -> None:
        factors = [self.read() for _ in range(self.writer.between(least, 4))]
        if self.writer.maybe(4):
            factors.append(factors[0])
        used = "".join(at for _, at in factors)
        left = self.some(used if used and self.writer.maybe() else "ijkn", 2)
        if left and self.writer.maybe():
            left += left[0]
        self.new(self.axes(left), left, f"{' * '.join(f for f, _ in factors)}{self.over}")

    def chain(self) -> None:
        """Products in a row, with intermediates that they may share."""
        names = [self.writer.one([n for n, a in self.tensors.items() if len(a) == 2])]
        for _ in range(2):
            one, _ = self.read("ij", names[-1])
            right = f"{one} * D[n,k] * E[k,i]" if self.writer.maybe() else f"{one} * G[j]"
            names.append(self.new("ij", "ij", f"{right}{self.over}"))
        if self.writer.maybe():
            self.new("i", "i", f"D[n,k] * E[k,i] * {names[0]}[{self.at(names[0])}]{self.over}")

    def at(self, name: str) -> str:
        return ",".join(self.read("ij", name)[1])

    def total(self) -> None:
        """A sum of products, alone or times something, summed over or not."""
        addends = [
            " * ".join(self.read("ij")[0] for _ in range(self.writer.between(1, 2)))
            for _ in range(self.writer.between(2, 3))
        ]
        if self.writer.maybe(4):
            addends.append(addends[0])
        body = " + ".join(addends)
        if self.writer.maybe():
            self.new("ij", "ij", f"{body}{self.over}")
        elif self.writer.maybe():
            self.new("i", "i", f"({body}) * C[i,j] * G[j]{self.over}")
        else:
            self.new("i", "i", f"{self.sum}[j] ({body}){self.over}")

    def copy(self) -> None:
        name = self.writer.one([n for n, a in self.tensors.items() if len(a) == 2])
        first, other = list(self.tensors[name])
        second = VARIABLES[other][first == other]
        left = self.writer.one((first + second, second + first))
        made = self.new(self.axes(left), left, f"{name}[{first},{second}]")
        self.new("i", "i", f"{self.read(name=made)[0]} * S[i]{self.over}")

    def filtered(self) -> None:
        read, other = self.read("ij")[0], self.read("ijn")[0]
        condition = self.writer.one(("i <= j", "i != 1", "j < I"))
        if self.writer.maybe():
            self.new("ij", "ij", f"{read}{self.over} where {condition} else {self.zero}")
        else:
            right = f"{self.sum}[j,n] ({read} * {other} * C[i,j] * G[n]){self.over}"
            otherwise = self.writer.one(("", f" else {self.one}"))
            self.new("i", "i", f"{right} where {condition}{otherwise}")

    def ones(self) -> None:
        name = self.new("j", "j", self.one, f": {self.dtype}")
        other, at = self.read()
        left = self.some(at, 1) + self.writer.one(("", "j"))
        left = "".join(dict.fromkeys(left))
        self.new(self.axes(left), left, f"{other} * {name}[j]{self.over}")

    def delta(self) -> None:
        if self.writer.maybe():
            name = self.new("ii", "ii", f"{self.one}{self.over}", f": {self.dtype}")
        else:
            right = f"{self.one}{self.over} where k == i else {self.zero}"
            name = self.new("ii", "ik", right, f": {self.dtype}")
        factors = [f"{name}[i,k]", *(self.read("ijk")[0] for _ in range(self.writer.between(1, 2)))]
        left = self.some("ik", 2)
        self.new(self.axes(left), left, f"{' * '.join(factors)}{self.over}")

    def repeated(self) -> None:
        """What a line says once more, read beside the first."""
        one, other = self.read("ij")[0], self.read("ij")[0]
        first, second = (self.new("ij", "ij", f"{one} * {other} * C[i,j]{self.over}") for _ in "ab")
        self.new("i", "i", f"{first}[i,j] * {second}[i,j]{self.over}")

    def unread(self) -> None:
        (read, at), unread = self.read("i"), self.writer.one(("n", "q0"))
        self.new("i", "i", f"{self.sum}[{unread}] {read if at else 'S[i]'}{self.over}")

    def gathered(self) -> None:
        self.new("i", "i", f"G[L[i] else {self.zero}] * S[i]{self.over}")

    def scan(self) -> None:
        name = self.writer.new()
        start = self.read("i")[0]
        self.writer.lines.append(f"{name}[0,i] = {start if '[i]' in start else 'S[i]'}")
        self.writer.lines.append(f"{name}[v+1,i] = {name}[v,k] * E[k,i]{self.over}")
        self.new("i", "i", f"{name}[V,i] * {self.read('ij')[0]} * G[j]{self.over}")

    def factored(self) -> None:
        """A sum of products that have a factor in common."""
        one, other = (self.new("i", "i", f"{x} * G[j]{self.over}") for x in ("C[i,j]", "D[j,i]"))
        self.new("i", "i", f"{one}[i] + {other}[i]{self.over}")

    def mapped(self) -> None:
        """A function of a product: mostly a homomorphism."""
        known = [row for row in HOMOMORPHISMS if row.source == self.ring.name]
        if self.floats:
            one = self.new("ij", "ij", "abs(C[i,j])")
            other = self.new("j", "j", "exp(G[j])")
            made = self.new("i", "i", f"{one}[i,j] * {other}[j]{self.over}")
            op = self.writer.one([row.op for row in known if row.op != "cast"] * 2 + ["exp2"])
        else:
            made = self.new("i", "i", f"C[i,j] * G[j]{self.over}")
            op = self.writer.one(("cast", "and"))
        if op in ("cast", "and") and (self.dtype.startswith("c") or self.floats):
            op = "neg"
        smaller = {"i32": "i16", "i64": "i32", "bool": "f64"}.get(self.dtype, self.dtype)
        rest = {"cast": f", {smaller}", "and": ", true" if self.dtype == "bool" else ", 1"}
        name = self.writer.new()
        self.writer.lines.append(f"{name}[i] = {op}({made}[i]{rest.get(op, '')})")

    def paired(self) -> None:
        """Two ranks that are read as one."""
        self.new("i", "i", f"U[3*q1+q0] * S[i]{self.over}")

    def constants(self) -> None:
        read = self.read("ij")[0]
        number = f"cast({self.one}, {self.dtype})"
        self.new("ij", "ij", f"{read} + ({self.zero} + {number}) + {self.zero}{self.over}")
