"""Random cascades for the judge of pass counts, and smaller ones with the same fault.

One to eight definitions over one rank: maps, reductions, broadcasts, reductions over a part, scans,
sums of prefixes, filters, halos, reversed reads, gathers, reads at an alias, several inputs, and
definitions that nothing needs. A half of them part the rank. What is computed does not matter, only
what is read: a right side is a product.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

#: The variables of the rank that is walked and of its parts; `p` is of another rank.
PLAIN = ("k", "n", "p")
PARTED = ("m1", "m0", "p")


@dataclass(frozen=True)
class Statement:
    """`name[left] = op[over] (product of factors) where ...`, after its start if it is a scan."""

    name: str
    left: tuple[str, ...]
    over: tuple[str, ...]
    op: str
    factors: tuple[str, ...]
    where: str = ""
    start: str = ""

    def lines(self) -> Iterator[str]:
        if self.start:
            yield self.start
        body = " * ".join(self.factors or ("1",))
        fold = f"{self.op}[{','.join(self.over)}] " if self.over else ""
        otherwise = " else 0" if self.where and not self.over else ""
        where = f" where {self.where}{otherwise}" if self.where else ""
        yield f"{self.name}[{','.join(self.left)}] = {fold}({body}){where}"


@dataclass(frozen=True)
class Made:
    """A cascade as its statements; `parted` says which inputs it has."""

    parted: bool
    statements: tuple[Statement, ...]
    outputs: tuple[str, ...]

    @property
    def text(self) -> str:
        lines = [line for statement in self.statements for line in statement.lines()]
        if self.parted:
            head = "A[M], B[M], C[M1], W[M,P]"
            ranks = ["partition M -> M1, M0"]
        else:
            head = "A[K], B[K], W[K,P], J[K]: i64"
            ranks = [f"ranks {', '.join(f'{alias} = K' for alias in self.aliases())}"]
            ranks = ranks if self.aliases() else []
        body = "".join(f"  {line}\n" for line in (*ranks, *lines))
        return f"cascade f({head}) -> {', '.join(self.outputs)} {{\n{body}}}\n"

    def aliases(self) -> list[str]:
        """The aliases of K that are used."""
        used = "".join(f" {line}" for s in self.statements for line in s.lines())
        return [alias for alias in ("I", "N") if _has_variable(used, alias.lower())]

    def families(self) -> list[tuple[tuple[str, ...], dict[str, int]]]:
        """The leaves of each family that is judged, with extents long enough for it."""
        if self.parted:
            sizes = {"M": 16, "M0": 4, "P": 1}
            few = {"M": 8, "P": 1}
            return [
                (("M1", "M0"), sizes),
                (("M1",), {**few, "M0": 2}),
                (("M0",), {**few, "M0": 4}),
            ]
        long = {"K": 4, "P": 1}
        others = [(("N",), long)] if "N" in self.aliases() else []
        return [(("K",), long), *others]


def _has_variable(text: str, variable: str) -> bool:
    words = "".join(c if c.isalnum() else " " for c in text).split()
    return variable in words


def make(seed: int) -> Made:
    """A random cascade; the same for the same seed."""
    rng = random.Random(seed)
    maker = _Parted(rng) if rng.random() < 0.5 else _Plain(rng)
    for _ in range(rng.choice((1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8))):
        maker.add()
    names = [statement.name for statement in maker.statements]
    outputs = {names[-1], *(n for n in names if rng.random() < 0.15)}
    return Made(maker.parted, tuple(maker.statements), tuple(n for n in names if n in outputs))


class _Maker:
    """Adds statements; `tensors` are those that may be read, by the variables of their axes."""

    parted: bool
    variables: tuple[str, ...]
    walking: tuple[str, ...]

    def __init__(self, rng: random.Random, tensors: dict[str, tuple[str, ...]]) -> None:
        self.rng = rng
        self.tensors = tensors
        self.statements: list[Statement] = []
        self.scans: set[str] = set()
        self.near: set[str] = set()  # what was made of neighbours: read at its own place

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance

    def add(self) -> None:
        name = f"T{len(self.statements)}"
        kinds: tuple[Callable[[str], None], ...] = (self.product, self.scan, self.special)
        self.rng.choices(kinds, (8, 1.5, 1.5))[0](name)

    def keep(self, statement: Statement, axes: tuple[str, ...]) -> None:
        self.statements.append(statement)
        self.tensors[statement.name] = axes

    def product(self, name: str) -> None:
        """A map, a reduction or a broadcast: whatever the variables make it."""
        rng = self.rng
        left = self.left()
        wanted = self.picked()
        body = dict.fromkeys(left)
        for tensor in wanted:
            for axis in self.tensors[tensor]:
                body.setdefault(self.at(axis, tuple(body)))
        factors = tuple(self.read(tensor, tuple(body), name) for tensor in wanted)
        over = tuple(v for v in body if v not in left)
        if not over and self.maybe(0.1):
            over = tuple(v for v in self.walking if v not in left)[:1]
        walked = tuple(v for v in over if v in self.walking)
        where = self.filter(walked) if walked and self.maybe(0.12) else ""
        statement = Statement(name, left, over, rng.choice(("sum", "max")), factors, where)
        self.keep(statement, left)

    def picked(self) -> list[str]:
        """One to three tensors, late ones rather."""
        names = list(self.tensors)
        weights = [1 + 2 * number / len(names) for number in range(len(names))]
        return self.rng.choices(names, weights, k=self.rng.choice((1, 2, 2, 2, 3)))

    def left(self) -> tuple[str, ...]:
        raise NotImplementedError

    def at(self, axis: str, bound: tuple[str, ...]) -> str:
        """The variable at which an axis is read: mostly its own, or one that is bound."""
        raise NotImplementedError

    def read(self, tensor: str, bound: tuple[str, ...], into: str) -> str:
        raise NotImplementedError

    def filter(self, over: tuple[str, ...]) -> str:
        raise NotImplementedError

    def scan(self, name: str) -> None:
        raise NotImplementedError

    def special(self, name: str) -> None:
        raise NotImplementedError


class _Plain(_Maker):
    parted = False
    variables = PLAIN
    walking = ("k", "n")

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng, {"A": ("k",), "B": ("k",), "W": ("k", "p")})
        self.aliased = rng.random() < 0.3

    def left(self) -> tuple[str, ...]:
        choices = [(), (), (), ("k",), ("k",), ("k",), ("k",), ("p",), ("k", "p")]
        if self.aliased:
            choices += [("n",), ("n",), ("k", "n")]
        return self.rng.choice(choices)

    def at(self, axis: str, bound: tuple[str, ...]) -> str:
        if axis == "p":
            return axis
        own = [v for v in bound if v in self.walking]
        if own and not (self.aliased and self.maybe(0.1)):
            return self.rng.choice(own)
        return self.rng.choice(self.walking) if self.aliased and self.maybe(0.5) else "k"

    def read(self, tensor: str, bound: tuple[str, ...], into: str) -> str:
        indices: list[str] = []
        fill = ""
        for axis in self.tensors[tensor]:
            if axis == "p":
                indices.append("p")
                continue
            variable = self.rng.choice([v for v in bound if v in self.walking])
            index = variable
            chance = self.rng.random()
            if tensor in self.scans:
                index = self.rng.choice((variable, f"{variable}+1", "K", f"{variable}+1"))
                self.near.add(into)  # at the last visit it is of all others
            elif chance < 0.05:
                index = f"K-1-{variable}"
            elif chance < 0.1 and tensor not in self.near:
                index, fill = self.rng.choice((f"{variable}-1", f"{variable}+1")), " else 0"
                self.near.add(into)
            elif chance < 0.13:
                index = f"J[{variable}]"
            indices.append(index)
            if tensor in self.near:
                self.near.add(into)
        return f"{tensor}[{','.join(indices)}{fill}]"

    def filter(self, over: tuple[str, ...]) -> str:
        return f"{over[0]} {self.rng.choice(('>= 1', '!= 2', '<= 2'))}"

    def scan(self, name: str) -> None:
        factors = self.steps(name)
        statement = Statement(
            name, ("i+1",), (), "sum", (f"{name}[i]", *factors), start=f"{name}[0] = 1"
        )
        self.scans.add(name)
        self.keep(statement, ("k",))

    def steps(self, name: str) -> list[str]:
        found: list[str] = []
        for tensor in self.picked():
            axes = self.tensors[tensor]
            if "p" in axes or len(axes) > 1:
                continue
            index = "i"
            if tensor in self.scans:
                index = self.rng.choice(("i", "i+1", "K"))
            elif self.maybe(0.1):
                index = "K-1-i"
            found.append(f"{tensor}[{index}]" if axes else tensor)
            if tensor in self.near:
                self.near.add(name)
        return found

    def special(self, name: str) -> None:
        """A sum of prefixes, or of what follows."""
        vectors = [t for t, axes in self.tensors.items() if axes == ("k",) and t not in self.scans]
        tensor = self.rng.choice(vectors)
        where = self.rng.choice(("k <= n", "k <= n", "k < n", "k >= n"))
        self.keep(Statement(name, ("n",), ("k",), "sum", (f"{tensor}[k]",), where), ("n",))


class _Parted(_Maker):
    parted = True
    variables = PARTED
    walking = ("m1", "m0")

    def __init__(self, rng: random.Random) -> None:
        inputs = {"A": ("m1", "m0"), "B": ("m1", "m0"), "C": ("m1",), "W": ("m1", "m0", "p")}
        super().__init__(rng, dict(inputs))
        self.whole = {"A", "B", "W"}

    def left(self) -> tuple[str, ...]:
        full = ("m1", "m0")
        choices = ((), (), full, full, full, ("m1",), ("m1",), ("m1",), ("m0",), ("p",))
        return self.rng.choice(choices)

    def at(self, axis: str, bound: tuple[str, ...]) -> str:
        return axis

    def read(self, tensor: str, bound: tuple[str, ...], into: str) -> str:
        axes = self.tensors[tensor]
        if tensor in self.whole:
            index = "M-1-m1*M0-m0" if self.maybe(0.04) else "m1*M0+m0"
            return f"{tensor}[{','.join((index, *axes[2:]))}]"
        indices = list(axes)
        if tensor in self.scans:
            indices[0] = self.rng.choice(("m1", "m1+1", "m1+1", "M1"))
        elif indices and self.maybe(0.06):
            place = self.rng.randrange(len(indices))
            if indices[place] != "p":
                indices[place] = f"{indices[place].upper()}-1-{indices[place]}"
        return f"{tensor}[{','.join(indices)}]"

    def filter(self, over: tuple[str, ...]) -> str:
        return f"{over[0]} {self.rng.choice(('>= 1', '<= 2'))}"

    def scan(self, name: str) -> None:
        factors: list[str] = []
        for tensor in self.picked():
            axes = self.tensors[tensor]
            if axes in ((), ("m1",)):
                factors.append(self.read(tensor, ("m1",), name))
        statement = Statement(
            name, ("m1+1",), (), "sum", (f"{name}[m1]", *factors), start=f"{name}[0] = 1"
        )
        self.scans.add(name)
        self.keep(statement, ("m1",))

    def special(self, name: str) -> None:
        """Over the whole rank, which later ones read in parts."""
        factor = self.rng.choice(("A", "B"))
        scalars = [t for t, axes in self.tensors.items() if not axes]
        factors = (f"{factor}[m]", *self.rng.choices(scalars, k=1 if scalars else 0))
        self.whole.add(name)
        self.keep(Statement(name, ("m",), (), "sum", factors), ("m1", "m0"))


def shrunk(made: Made, faulty: Callable[[Made], bool]) -> Made:
    """A cascade with the same fault from which nothing more can be left out."""
    found = True
    while found:
        found = False
        for smaller in _smaller(made):
            if faulty(smaller):
                made, found = smaller, True
                break
    return made


def _smaller(made: Made) -> Iterator[Made]:
    if len(made.outputs) > 1:
        for output in made.outputs:
            yield replace(made, outputs=(output,))
    for number, statement in enumerate(made.statements):
        rest = made.statements[:number] + made.statements[number + 1 :]
        if not any(_has_variable(line, statement.name) for s in rest for line in s.lines()):
            outputs = tuple(o for o in made.outputs if o != statement.name)
            if outputs:
                yield replace(made, statements=rest, outputs=outputs)
            elif rest:
                yield replace(made, statements=rest, outputs=(rest[-1].name,))
    for number, statement in enumerate(made.statements):
        for place in range(bool(statement.start), len(statement.factors)):
            factors = statement.factors[:place] + statement.factors[place + 1 :]
            if factors:
                yield _with(made, number, replace(statement, factors=factors))
        if statement.where:
            yield _with(made, number, replace(statement, where=""))


def _with(made: Made, number: int, statement: Statement) -> Made:
    statements = (*made.statements[:number], statement, *made.statements[number + 1 :])
    return replace(made, statements=statements)
