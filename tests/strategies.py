"""Random Cascades of the whole language, right by `verify` and by the rules of the text.

They are for what reads and writes Cascades (text, JSON, spans); most of them cannot be evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import DTYPES, DType
from einloom.ir.einsum import (
    Access,
    Coordinate,
    Einsum,
    Expr,
    Literal,
    Map,
    Reduce,
    free_variables,
)
from einloom.ir.operators import OPERATORS, SEMIRINGS, is_chain
from einloom.ir.ranks import Rank, RankExpr, Term, affine
from einloom.ir.verify import verify

#: Ranks that the inputs have, and ranks that are declared.
READ, DECLARED = ("I", "M1", "K_2", "E5"), ("N", "T", "M0")

#: Tensors' names; a rank's name, a dtype's and a variable's among them.
NAMES = ("A", "x", "Größe", "f32", "M1", "i", "_t", "overall", "B2", "e5")

#: The least and the greatest integers that the language has.
INTEGERS = st.integers(-9, 9) | st.sampled_from((-(2**63), 2**63 - 1, 2**64 - 1, 10**10))

NUMBERS: st.SearchStrategy[bool | int | float | complex] = (
    INTEGERS | st.booleans() | st.floats() | st.complex_numbers()
)


def literals() -> st.SearchStrategy[Literal]:
    """Any number of the language."""
    return NUMBERS.map(Literal)


@st.composite
def cascades(draw: st.DrawFn) -> Cascade:
    """A Cascade of one to three Einsums."""
    return _Maker(draw).cascade()


class _Maker:
    """Draws the parts of a Cascade; `extents` are the axes of the tensors so far."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.names = list(draw(st.permutations(NAMES)))
        self.extents: dict[str, tuple[RankExpr, ...]] = {}

    def some(self, values: Sequence[str], most: int) -> list[str]:
        return self.draw(st.lists(st.sampled_from(values), max_size=most, unique=True))

    def dtype(self) -> DType | None:
        return (
            DTYPES[self.draw(st.sampled_from(list(DTYPES)))] if self.draw(st.booleans()) else None
        )

    def cascade(self) -> Cascade:
        draw = self.draw
        # Every rank that is read off an axis has one that is just it.
        first = tuple(RankExpr.of_size(rank) for rank in READ)
        inputs = [TensorDecl(self.names.pop(), first, self.dtype())]
        for _ in range(draw(st.integers(0, 2))):
            extents = [self.extent() for _ in range(draw(st.integers(0, 3)))]
            inputs.append(TensorDecl(self.names.pop(), tuple(extents), self.dtype()))
        ranks = [Rank(name) for name in READ]
        for name in self.some(DECLARED, 3):
            shape = self.size([rank.name for rank in ranks])
            number = shape.constant
            ranks.append(Rank(name, shape if number is None else abs(number)))
        if draw(st.booleans()):
            ranks = draw(st.permutations(ranks))
        self.ranks = [rank.name for rank in ranks]
        self.variables = [rank.variable for rank in ranks]
        self.extents = {decl.name: decl.extents for decl in inputs}
        einsums = [self.einsum() for _ in range(draw(st.integers(1, 3)))]
        outputs = draw(
            st.lists(st.sampled_from([e.name for e in einsums]), min_size=1, unique=True)
        )
        return verify(Cascade("c", tuple(ranks), tuple(inputs), tuple(einsums), tuple(outputs)))

    # ---- sizes and indices

    def extent(self) -> RankExpr:
        """Of an input's axis: mostly a rank, or any size."""
        if self.draw(st.booleans()):
            return RankExpr.of_size(self.draw(st.sampled_from(READ)))
        return self.size(READ)

    def size(self, ranks: Sequence[str]) -> RankExpr:
        terms = [
            Term(self.draw(st.integers(-3, 3)), tuple(self.some(ranks, 2)))
            for _ in range(self.draw(st.integers(0, 2)))
        ]
        return affine(terms, self.draw(st.integers(0, 5)))

    def index(self, variables: Sequence[str]) -> RankExpr:
        """Affine in these variables, with sizes as coefficients."""
        terms = [
            Term(
                self.draw(st.integers(-3, 3)),
                tuple(self.some(self.ranks, 2)) if self.draw(st.booleans()) else (),
                self.draw(st.sampled_from([*variables, None])),
            )
            for _ in range(self.draw(st.integers(0, 3)))
        ]
        return affine(terms, self.draw(st.integers(-3, 3)))

    def access(self, bound: Sequence[str], depth: int) -> Access:
        draw = self.draw
        tensor = draw(st.sampled_from(list(self.extents)))
        fill = draw(literals()) if draw(st.integers(0, 3)) == 0 else None
        indices: list[RankExpr | Access] = []
        for extent in self.extents[tensor]:
            own = extent.rank.lower() if extent.rank else ""
            if own in bound and draw(st.booleans()):
                indices.append(RankExpr.of_variable(own))
            elif depth and draw(st.integers(0, 5)) == 0:
                indices.append(self.access(bound, depth - 1))
            else:
                index = self.index(bound)
                # A variable alone would read its own rank; without a fill this axis must be that.
                away = index.variable is not None and fill is None
                indices.append(RankExpr() if away else index)
        return Access(tensor, tuple(indices), fill)

    # ---- expressions

    def expr(self, bound: Sequence[str], depth: int) -> Expr:
        draw = self.draw
        kind = draw(st.integers(0, 8)) if depth else draw(st.integers(0, 3))
        if kind == 0:
            return draw(literals())
        if kind == 1:
            return Coordinate(draw(st.sampled_from([*bound, *self.ranks])))
        if kind <= 3:
            return self.access(bound, depth)
        inside = depth - 1
        free = [variable for variable in self.variables if variable not in bound]
        if kind == 4 and free:
            return self.reduce(bound, free, inside)
        if kind == 5:
            op = draw(st.sampled_from(("cast", "bitcast")))
            dtype = DTYPES[draw(st.sampled_from(list(DTYPES)))]
            return Map(op, (self.expr(bound, inside),), dtype)
        op = draw(st.sampled_from([name for name in OPERATORS if name not in ("cast", "bitcast")]))
        count = OPERATORS[op].arity
        if is_chain(op):
            count = draw(st.integers(2, 4))
        return Map(op, tuple(self.expr(bound, inside) for _ in range(count)))

    def reduce(self, bound: Sequence[str], free: Sequence[str], depth: int) -> Reduce:
        draw = self.draw
        op = draw(st.sampled_from([name for name, row in OPERATORS.items() if row.reducible]))
        variables = draw(st.lists(st.sampled_from(free), min_size=1, max_size=2, unique=True))
        return Reduce(op, tuple(variables), self.expr([*bound, *variables], depth))

    def einsum(self) -> Einsum:
        draw = self.draw
        name = self.names.pop()
        ring = SEMIRINGS[draw(st.sampled_from(list(SEMIRINGS)))]
        left = self.some(self.variables, 3)
        indices = [RankExpr.of_variable(variable) for variable in left]
        form = draw(st.integers(0, 3))
        if left and draw(st.integers(0, 1)) == 0:
            indices.append(draw(st.sampled_from([*indices, RankExpr()])))
        expr = self.expr(left, 3)
        rest = [variable for variable in self.variables if variable not in left]
        if rest and form == 0:
            expr = self.reduce(left, rest, 3)
        elif rest and form == 1:
            # What the text leaves out, or would if every addend held every variable.
            op = draw(st.sampled_from((ring.add, ring.mul, "sub")))
            body = Map(op, (self.expr(self.variables, 2), self.expr(self.variables, 2)))
            summed = tuple(v for v in free_variables(body) if v not in left)
            expr = Reduce(ring.add, summed, body) if summed else body
        bound = [*left, *(expr.variables if isinstance(expr, Reduce) else ())]
        where = self.expr(bound, 2) if draw(st.booleans()) else None
        otherwise = None
        if where is not None and (not isinstance(expr, Reduce) or draw(st.booleans())):
            otherwise = draw(literals())
        self.extents[name] = tuple(
            RankExpr.of_size(index.variable.upper()) if index.variable else RankExpr((), 1)
            for index in indices
        )
        output = Access(name, tuple(indices))
        return Einsum(output, expr, ring.name, where, otherwise, self.dtype())
