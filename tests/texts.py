"""Random texts of the whole language, quick to make: each line is one of its constructs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from einloom.ir.dtypes import DTYPES
from einloom.ir.einsum import PLACES
from einloom.ir.operators import OPERATORS, REDUCTIONS, SEMIRINGS

DEFINITIONS = (
    "op halve(a) [] = a / 2",
    "op clip(a: f64, b) = min(a, b)",
    "cascade g(A[I]: f32) -> B { T[i] = 2 * A[i]\n  B[i] = T[i] + 1 }",
    "cascade two(A[I,J]) -> P, Q { ranks N = 3\n  P[i] = A[i,j]\n  Q[n] = n + I }",
)

LAWFUL = (
    "op largest(a, b) [commutative, associative, identity = -inf] = max(a, b)",
    "op minus(a, b) = a - b",
    "op plus(a, b) [commutative, associative, identity = 0, inverse = minus] = a + b",
    "op times(a, b) [commutative, identity = 1, distributes_over = add, distributes_over = plus]"
    " = a * b",
    "op again(a, b) [inverse = div, distributes_over = sum] = times(a, b)",
    "op both(a: bool, b: bool) [idempotent] = a & b",
    "semiring tropic(max, add, -inf, 0)",
    "semiring owned(plus, times, 0, 1)",
)

#: The inputs, by the variables of their axes.
TENSORS = {"A": "ij", "B": "j", "X": "m", "T": "j", "S": ""}
HEADER = (
    *("A[I,J]: f32", "B[J]", "X[M]: f64", "T[J]: i32", "S: c64"),
    *("D[2*K-1, 3]: i8", "E[]", "F[R]: bf16", "H[K]"),
)

RINGS = tuple(SEMIRINGS)
FOLDS = (*REDUCTIONS, *map(str, PLACES))
#: The operators that are called by their names, by how many operands they take.
CALLED = {
    arity: [n for n, row in OPERATORS.items() if row.arity == arity and "cast" not in n]
    for arity in (1, 2, 3)
}
BINARY = (
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "&",
    "|",
    "^",
    "<<",
    ">>",
    "<",
    "<=",
    "==",
    "!=",
    ">",
    ">=",
)
NUMBERS = ("0", "1", "2.5", "-3", "1e-9", "2j", "inf", "-inf", "nan", "true", "false",
           "complex(1.0, -0.0)", ".5", "7.", "18446744073709551615")  # fmt: skip


class Writer:
    """Writes one text; `lawful`: with operators and semirings whose laws are tried, slowly."""

    def __init__(self, rng: random.Random, lawful: bool = True) -> None:
        self.rng = rng
        self.lawful = lawful
        self.rings = (*RINGS, "tropic", "owned") if lawful else RINGS
        self.own_folds = ("largest", "plus", "times") if lawful else ("max", "sum", "prod")
        self.lines: list[str] = []
        self.names: list[str] = []

    def text(self) -> str:
        one = self.rng.choice
        statements: Sequence[Callable[[], None]] = (
            *(self.plain, self.plain, self.summed, self.filtered, self.place, self.scan),
            *(self.parted, self.strided, self.gather, self.own, self.call, self.left, self.typed),
        )
        for _ in range(self.rng.randrange(1, 5)):
            one(statements)()
        ranks = ["N = I", "V = 5", "M0 = 4", "K2 = K//2+1", "K3 = (K+3)//(2*I)", "L = 2*K+I*J-1"]
        assumed = ["M % M0 == 0", "I <= 8", "K//2 > J*I"]
        chosen = [*ranks, *self.rng.sample(assumed, self.rng.randrange(3))]
        listed = one((", ", ",\n    ")).join(chosen)
        head = one((", ", ",\n  ")).join(HEADER)
        outputs = self.rng.sample(self.names, self.rng.randrange(1, len(self.names) + 1))
        body = "\n  ".join([f"ranks {listed}", "partition M -> M1, M0", *self.lines])
        comment = one(("", "  # so it is", "\n\n  # on a line of its own"))
        return (
            "\n".join((*DEFINITIONS, *(LAWFUL if self.lawful else ())))
            + f"\ncascade f({head}) -> {', '.join(outputs)} {{\n  {body}{comment}\n}}\n"
        )

    def new(self) -> str:
        self.names.append(f"Y{len(self.names)}")
        return self.names[-1]

    def add(self, line: str) -> None:
        self.lines.append(line)

    # ---- expressions of the variables i and j, or fewer

    def leaf(self, bound: str) -> str:
        reads = [f"{t}[{','.join(axes)}]" for t, axes in TENSORS.items() if {*axes} <= {*bound}]
        fill = self.rng.choice(("0", "-1", "nan", "true"))
        reads += ["S", "E[]", *bound, "I", "K", "V", self.rng.choice(NUMBERS), "A[0,J-1]"]
        if "i" in bound:
            reads += [
                f"A[i-1,2*i+{self.rng.randrange(4)} else {fill}]",
                f"A[I-1-i,T[0] else {fill}]",
            ]
        return self.rng.choice(reads)

    def expr(self, bound: str, depth: int = 3) -> str:
        kind = self.rng.randrange(11) if depth else 0
        if kind < 3:
            return self.leaf(bound)
        a, b, c = (self.expr(bound, depth - 1) for _ in range(3))
        match kind:
            case 3 | 4:
                return f"({a} {self.rng.choice(BINARY)} {b})"
            case 5:
                return f"{self.rng.choice((*CALLED[1], 'halve'))}({a})"
            case 6:
                arity = self.rng.choice((2, 2, 3))
                return f"{self.rng.choice(CALLED[arity])}({', '.join((a, b, c)[:arity])})"
            case 7:
                return (
                    f"{self.rng.choice(('cast', 'bitcast'))}({a}, {self.rng.choice(tuple(DTYPES))})"
                )
            case 8:
                return f"{self.rng.choice('-~')}({a})"
            case 9:
                symbol = self.rng.choice("+*&|^")
                return f"(({a}) {symbol} ({b}) {symbol} ({c}))"
            case _:
                fold = self.rng.choice((*FOLDS, self.own_folds[0]))
                inside = self.expr(f"{bound}n", depth - 1) if "n" not in bound else "B[0]"
                return f"{fold}[n] (A[n,0] * ({inside}))" if "n" not in bound else f"clip({a}, {b})"

    # ---- statements

    def plain(self) -> None:
        left = self.rng.choice(("", "i", "j", "ij", "ji"))
        over = f" over {self.rng.choice(self.rings)}" if self.rng.random() < 0.3 else ""
        self.add(f"{self.new()}[{','.join(left)}] = {self.expr(left)}{over}")

    def summed(self) -> None:
        ring = self.rng.choice(self.rings)
        self.add(f"{self.new()}[i] = A[i,j] * B[j] over {ring}")

    def filtered(self) -> None:
        otherwise = self.rng.choice(("", f" else {self.rng.choice(NUMBERS)}"))
        self.add(
            f"{self.new()}[i] = A[i,j] where (i <= j) & ({self.expr('ij', 2)} != j){otherwise}"
        )

    def place(self) -> None:
        fold = self.rng.choice(("max", "min"))
        if self.rng.random() < 0.5:
            self.add(f"{self.new()}[i], {self.new()}[i]: i64 = {fold}[j] A[i,j]")
        else:
            self.add(f"{self.new()}[i] = arg{fold}[j] (A[i,j] + B[j])")

    def scan(self) -> None:
        name, lag = self.new(), self.rng.choice((1, 2, 3))
        for start in range(lag):
            self.add(f"{name}[{start},i] = {self.expr('i', 1)}")
        self.add(f"{name}[v+{lag},i] = {name}[v,i] + {name}[v+{lag - 1},i] * {self.expr('i', 2)}")
        self.add(f"{self.new()}[i] = {name}[V+{lag - 1},i]")

    def parted(self) -> None:
        fold = self.rng.choice(("sum", "max"))
        self.add(f"{self.new()}[m1] = {fold}[m0] (X[m1*M0+m0] * {self.leaf('')})")

    def strided(self) -> None:
        name = self.new()
        p = name.lower().replace("y", "p")
        self.add(f"{name}[{p}] = H[{self.rng.choice((2, 3))}*{p}+r] * F[r]")

    def gather(self) -> None:
        fill = self.rng.choice(("", " else 0"))
        self.add(f"{self.new()}[j] = A[T[j],{self.rng.choice(('j', 'T[J-1-j]', '0'))}{fill}]")

    def own(self) -> None:
        if self.lawful:
            self.add(f"{self.new()}[j] = again(B[j], {self.leaf('j')})")
        self.add(f"{self.new()} = {self.rng.choice(self.own_folds)}[i,j] A[i,j]")

    def call(self) -> None:
        if self.rng.random() < 0.5:
            self.add(f"{self.new()} = g({self.rng.choice('BT')})")
        else:
            self.add(f"{self.new()}, {self.new()} = two(A)")

    def left(self) -> None:
        left = self.rng.choice(("i,i", "0,i", "i,0", "i,j,i"))
        self.add(f"{self.new()}[{left}] = A[i,0]")

    def typed(self) -> None:
        self.add(f"{self.new()}[i]: {self.rng.choice(tuple(DTYPES))} = A[i,j] * B[j] + A[i,j]")
