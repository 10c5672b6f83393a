"""Cascades for tests: classic products by their subscripts, and generated ones of every kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import BOOL, DTYPES, DType, of_numpy, promote
from einloom.ir.einsum import Access, Coordinate, Einsum, Expr, Literal, Map, Reduce
from einloom.ir.errors import EinloomError
from einloom.ir.infer import einsum_dtype, infer_dtypes, product_dtype
from einloom.ir.interpreter import evaluate
from einloom.ir.operators import SEMIRINGS
from einloom.ir.ranks import Rank, RankExpr, Term, affine
from einloom.ir.verify import verify

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: dtypes by kind, the NumPy-only ones included.
KINDS = {
    kind: [name for name, dtype in DTYPES.items() if dtype.kind == kind]
    for kind in ("bool", "signed", "unsigned", "float", "complex", "object")
}


def index(text: str) -> RankExpr:
    """A variable, or a number such as "0"."""
    return RankExpr((), int(text)) if text.isdigit() else RankExpr.of_variable(text)


def access(tensor: str, indices: Sequence[str]) -> Access:
    return Access(tensor, tuple(map(index, indices)))


def declaration(tensor: str, indices: Sequence[str], dtype: DType | None) -> TensorDecl:
    """An input with the rank of each variable as an extent; 1 where it is read at 0."""
    extents = [RankExpr((), 1) if i == "0" else RankExpr.of_size(i.upper()) for i in indices]
    return TensorDecl(tensor, tuple(extents), dtype)


def classic(
    subscripts: str,
    dtypes: str = "f32",
    semiring: str = "sum_product",
    sizes: Mapping[str, int] | None = None,
    acc: DType | None = None,
) -> Cascade:
    """The Cascade of a classic einsum: "ij,jk->ik", "0" for an axis of extent 1.

    `dtypes` has one name for all operands, one for each, or "" to leave them undeclared.
    """
    left, _, output = subscripts.partition("->")
    terms = left.split(",")
    each = dtypes.split(",") if "," in dtypes else [dtypes] * len(terms)
    return product(
        [list(term) for term in terms],
        list(output),
        [DTYPES[name] if name else None for name in each],
        semiring,
        sizes or {},
        acc,
    )


def product(
    terms: Sequence[Sequence[str]],
    output: Sequence[str],
    dtypes: Sequence[DType | None],
    semiring: str,
    sizes: Mapping[str, int],
    acc: DType | None,
) -> Cascade:
    ring = SEMIRINGS[semiring]
    names = ["ABCDEFGH"[n] + "_" if len(terms) <= 8 else f"A_{n}" for n in range(len(terms))]
    factors = tuple(map(access, names, terms))
    body: Expr = factors[0] if len(factors) == 1 else Map(ring.mul, factors)
    variables = dict.fromkeys(i for term in (*terms, output) for i in term if not i.isdigit())
    summed = tuple(v for v in variables if v not in output)
    expr = Reduce(ring.add, summed, body) if summed else body
    einsum = Einsum(access("Y", output), expr, semiring, dtype=acc)
    ranks = tuple(Rank(v.upper(), sizes.get(v)) for v in variables)
    inputs = tuple(map(declaration, names, terms, dtypes))
    return verify(Cascade("einsum", ranks, inputs, (einsum,), ("Y",)))


class Sample:
    """A Cascade and inputs for it."""

    def __init__(self, cascade: Cascade, arrays: dict[str, Array]) -> None:
        self.cascade = cascade
        self.arrays = arrays

    def __repr__(self) -> str:
        arrays = {name: (a.dtype, a.shape, a.tolist()) for name, a in self.arrays.items()}
        return f"{self.cascade}\n{arrays}"


def array(rng: np.random.Generator, dtype: DType, shape: Sequence[int], like: str = "any") -> Array:
    """A random array; `like`: "any" values, or "small" integers in every dtype."""
    values: Any
    if dtype.kind == "bool":
        values = rng.random(shape) < 0.5
    elif dtype.kind == "object":
        numbers = rng.integers(-9, 9, shape)
        values = np.empty(shape, object)
        for place in np.ndindex(*shape):
            number = int(numbers[place])
            values[place] = 10**20 * number if like == "any" else number
    elif dtype.is_integer:
        low = 0 if dtype.kind == "unsigned" else -3
        values = rng.integers(low, 4, shape)
        if like == "any" and rng.random() < 0.3:  # so that products wrap
            values = values * int(np.iinfo(dtype.numpy).max // 3)
    elif like == "small":
        values = rng.integers(-3, 4, shape)
    else:
        values = rng.standard_normal(shape)
    if dtype.kind == "complex":
        values = values + 1j * rng.permutation(np.reshape(values, -1)).reshape(shape)
    return restrided(rng, np.asarray(values).astype(dtype.numpy))


def restrided(rng: np.random.Generator, values: Array) -> Array:
    """The same values with other strides: reversed, permuted, every second one, or one repeated."""
    order = rng.permutation(values.ndim)
    result = np.ascontiguousarray(values.transpose(order)).reshape(
        [values.shape[axis] for axis in order]
    )
    result = result.transpose(np.argsort(order))
    for axis in range(values.ndim):
        kind = rng.integers(4)
        if kind == 0:
            result = np.flip(np.flip(result, axis).copy(), axis)
        elif kind == 1:
            doubled = np.repeat(result, 2, axis)
            result = doubled[(slice(None),) * axis + (slice(None, None, 2),)]
        elif kind == 2 and values.shape[axis] > 1 and rng.random() < 0.2:
            first = result[(slice(None),) * axis + (slice(0, 1),)]
            result = np.broadcast_to(first, values.shape)
    return result


@st.composite
def products(
    draw: st.DrawFn,
    semirings: Sequence[str] = tuple(SEMIRINGS),
    most: int = 4,
    one_dtype: bool = False,
    exact: bool = False,
) -> Sample:
    """A classic einsum over any semiring: repeated, broadcast and output-only indices, zeros.

    `exact`: only dtypes on which the semiring's laws hold.
    """
    semiring = draw(st.sampled_from(semirings))
    ring = SEMIRINGS[semiring]
    kinds = sorted(ring.exact_kinds if exact else ring.kinds)
    count = draw(st.integers(1, most))
    if count > 1 and "bool" not in kinds and not exact:
        kinds.append("bool")  # beside another type it takes part as a number
    variables = draw(st.lists(st.sampled_from("ijkl"), min_size=1, max_size=4, unique=True))
    sizes = {v: draw(st.sampled_from((0, 1, 2, 2, 3, 3))) for v in variables}
    choices = st.sampled_from([*variables, *variables, "0"])
    terms = [draw(st.lists(choices, max_size=3)) for _ in range(count)]
    output = draw(st.lists(choices, max_size=3))
    names = [draw(st.sampled_from(KINDS[draw(st.sampled_from(kinds))])) for _ in terms]
    dtypes = [DTYPES[names[0] if one_dtype else name] for name in names]
    acc = None
    if draw(st.integers(0, 3)) == 0:
        acc = DTYPES[draw(st.sampled_from(KINDS[draw(st.sampled_from(kinds))]))]
    if any(dtype.kind == "object" for dtype in (*dtypes, acc or BOOL)):
        # Python integers, exact however they are grouped: not beside floats.
        dtypes = [DTYPES["object"] if dtype.is_inexact else dtype for dtype in dtypes]
        acc = None if acc is None else DTYPES["object"]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    cascade = product(terms, output, dtypes, semiring, sizes, acc)
    if not typed(cascade) or out_of_range(cascade):
        # Such as i64 beside u64, which is a float, in an integer semiring.
        allowed = [dtype for dtype in dtypes if dtype.kind in ring.kinds]
        dtypes = [allowed[0] if allowed else DTYPES[KINDS[kinds[0]][0]]] * count
        cascade = product(terms, output, dtypes, semiring, sizes, None)
    arrays: dict[str, Array] = {}
    for decl, term in zip(cascade.inputs, terms, strict=True):
        assert decl.dtype is not None
        shape = [1 if i == "0" else sizes[i] for i in term]
        arrays[decl.name] = array(rng, decl.dtype, shape)
    return Sample(cascade, arrays)


def typed(cascade: Cascade) -> bool:
    """Whether the operators are defined on the declared dtypes."""
    try:
        infer_dtypes(cascade, {})
    except EinloomError:
        return False
    return True


def out_of_range(cascade: Cascade) -> bool:
    """Whether floats become integers, which C does not define for large ones."""
    (einsum,) = cascade.einsums
    dtypes = infer_dtypes(cascade, {})
    return dtypes["Y"].is_integer and product_dtype(einsum, dtypes).is_inexact


def magnitude(sample: Sample) -> dict[str, Any]:
    """For each output, Σ|terms| in f64; for another semiring than + and *, the largest operand."""
    (einsum,) = sample.cascade.einsums
    arrays = {
        name: np.asarray(np.abs(a if a.dtype.kind == "O" else a.astype(complex)), float)
        for name, a in sample.arrays.items()
    }
    if einsum.ring.mul != "mul":
        largest = sum(float(np.max(a, initial=0)) for a in arrays.values())
        return {"Y": largest + 10}
    inputs = tuple(replace(d, dtype=DTYPES["f64"]) for d in sample.cascade.inputs)
    absolute = replace(sample.cascade, inputs=inputs, einsums=(replace(einsum, dtype=None),))
    return dict(evaluate(absolute, arrays))


def assert_close(sample: Sample, got: Mapping[str, Any], want: Mapping[str, Array]) -> None:
    """|error| <= 4 n eps Σ|terms|, n the number of terms and factors; integers exactly.

    eps is that of the type that is computed in, and half a unit of the type that is stored.
    """
    (einsum,) = sample.cascade.einsums
    sizes = known_sizes(sample.cascade)
    terms = math.prod(sizes[v.upper()] for v in einsum.reduced)
    n = terms + len(sample.arrays) + 1
    for name, wanted in want.items():
        found = np.asarray(got[name])
        assert found.shape == wanted.shape
        dtype = of_numpy(wanted.dtype)
        if not dtype.is_inexact:
            np.testing.assert_array_equal(found.astype(wanted.dtype), wanted)
            continue
        inside = [d for decl in sample.cascade.inputs if (d := decl.dtype) is not None]
        computed = (
            [dtype, promote(dtype, *inside)] if all(d.is_inexact for d in inside) else [dtype]
        )
        eps = max(epsilon(d.compute) for d in computed)
        scale = np.asarray(magnitude(sample)[name], float)
        rounding = 2 * epsilon(dtype) * np.abs(wanted.astype(complex))
        bound = 4 * n * eps * np.maximum(scale, 1e-30) + rounding
        wide = complex if dtype.kind == "complex" else float
        with np.errstate(all="ignore"):
            error = np.abs(found.astype(wide) - wanted.astype(wide))
        same = found.astype(wide) == wanted.astype(wide)
        both_nan = np.isnan(found.astype(wide)) & np.isnan(wanted.astype(wide))
        assert np.all(same | both_nan | (error <= bound)), (found, wanted, bound)


def known_sizes(cascade: Cascade) -> dict[str, int]:
    """The extents that are declared as numbers."""
    return {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}


def epsilon(dtype: DType) -> float:
    if dtype.name == "bf16":
        return 2.0**-7
    return float(np.finfo(dtype.numpy).eps)


# ---- Einsums of every kind -------------------------------------------------------------------

_SMALL = ("bool", "i8", "i32", "u8", "f16", "bf16", "f32", "f64")
_UNARY = ("neg", "abs", "relu", "sign", "floor", "invert")
_BINARY = ("add", "sub", "mul", "max", "min", "eq", "lt", "ge", "and", "or", "xor", "floordiv")
_FOLDS = ("add", "mul", "max", "min", "or", "and", "xor")


@st.composite
def generals(draw: st.DrawFn) -> Sample:
    """A cascade of one to three Einsums of every construct, on small integers.

    Filters, fills, gathers, affine indices, nested reductions, casts, literals, coordinates; the
    values are small integers in every dtype, so that sums are exact in any order.
    """
    maker = _Maker(draw)
    einsums: list[Einsum] = []
    for number in range(draw(st.integers(1, 3))):
        einsum = maker.einsum(f"Y{number}")
        if maker.keep(einsum):
            einsums.append(einsum)
    if not einsums:
        einsums.append(Einsum(access("Y0", ()), access("S", ())))
    cascade = verify(
        Cascade("c", maker.ranks, maker.inputs, tuple(einsums), tuple(e.name for e in einsums))
    )
    return Sample(cascade, maker.arrays)


class _Maker:
    """Draws the parts of a Cascade: `A`, `B` and what was defined before, `J` to gather by."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.sizes = {v: draw(st.sampled_from((1, 2, 3, 3))) for v in "ijkl"}
        if draw(st.integers(0, 5)) == 0:
            self.sizes[draw(st.sampled_from("ijkl"))] = 0
        self.ranks = tuple(Rank(v.upper(), n) for v, n in self.sizes.items())
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        tensors = {"S": "", "A": draw(st.sampled_from(("i", "ij", "iij", "jkl"))), "B": "jk"}
        self.tensors = {name: tuple(axes) for name, axes in tensors.items()}
        dtypes = {name: DTYPES[draw(st.sampled_from(_SMALL))] for name in tensors}
        self.arrays = {
            name: array(rng, dtypes[name], [self.sizes[v] for v in axes], "small")
            for name, axes in tensors.items()
        }
        self.tensors["J"], dtypes["J"] = ("k",), DTYPES[draw(st.sampled_from(("i32", "u8", "i64")))]
        picks = rng.integers(0, max(self.sizes["i"], 1), self.sizes["k"])
        self.arrays["J"] = picks.astype(dtypes["J"].numpy)
        self.inputs = tuple(declaration(n, axes, dtypes[n]) for n, axes in self.tensors.items())
        self.dtypes = dict(dtypes)

    def keep(self, einsum: Einsum) -> bool:
        """Whether the Einsum has a type; then later ones may read it."""
        try:
            verify(Cascade("c", self.ranks, self.inputs, (einsum,), (einsum.name,)))
            self.dtypes[einsum.name] = einsum_dtype(einsum, self.dtypes)
        except EinloomError:
            return False
        return True

    def einsum(self, name: str) -> Einsum:
        draw = self.draw
        free = draw(st.lists(st.sampled_from("ijkl"), max_size=3, unique=True))
        output = [*free, *draw(st.lists(st.sampled_from([*free, "0"]), max_size=1))]
        semiring = draw(
            st.sampled_from(("sum_product",) * 4 + ("max_plus", "max_times", "min_max"))
        )
        if draw(st.integers(0, 3)) == 0:
            return self.product(name, free, output, semiring)
        expr = self.expr(free, 3)
        ring = SEMIRINGS[semiring]
        if draw(st.booleans()):
            others = [v for v in "ijkl" if v not in free]
            bound = draw(st.lists(st.sampled_from(others), min_size=1, max_size=2, unique=True))
            op = ring.add if draw(st.booleans()) else draw(st.sampled_from(_FOLDS))
            expr = Reduce(op, tuple(bound), self.expr([*free, *bound], 3))
            free = [*free, *bound]
        where = otherwise = None
        if draw(st.integers(0, 2)) == 0:
            where = Map(draw(st.sampled_from(("le", "ne"))), (self.number(free), self.number(free)))
            if not isinstance(expr, Reduce) or draw(st.booleans()):
                otherwise = Literal(draw(st.sampled_from((0, 1, 1.0))))
        dtype = DTYPES[draw(st.sampled_from(_SMALL))] if draw(st.integers(0, 5)) == 0 else None
        return Einsum(access(name, output), expr, semiring, where, otherwise, dtype)

    def product(
        self, name: str, free: Sequence[str], output: Sequence[str], semiring: str
    ) -> Einsum:
        """A pure product, of Accesses with indices of every kind."""
        ring = SEMIRINGS[semiring]
        factors = [self.read("ijkl") for _ in range(3)]
        body = Map(ring.mul, tuple(factors))
        inside = dict.fromkeys(v for factor in factors for v in factor.variables())
        summed = tuple(v for v in inside if v not in free)
        expr = Reduce(ring.add, summed, body) if summed else body
        return Einsum(access(name, output), expr, semiring)

    def number(self, bound: Sequence[str]) -> Expr:
        """What a filter compares: coordinates, sizes, numbers."""
        names = [*bound, *bound, "I", "K"]
        if self.draw(st.integers(0, 3)) == 0:
            return Literal(self.draw(st.integers(0, 2)))
        return Coordinate(self.draw(st.sampled_from(names)))

    def expr(self, bound: Sequence[str], depth: int) -> Expr:
        draw = self.draw
        kind = draw(st.integers(0, 9)) if depth else 0
        if kind <= 2:
            return self.leaf(bound)
        inner = [self.expr(bound, depth - 1) for _ in range(3)]
        if kind == 3:
            return Map(draw(st.sampled_from(_UNARY)), (inner[0],))
        if kind == 4:
            dtype = DTYPES[draw(st.sampled_from(_SMALL))]
            return Map("cast", (inner[0],), dtype)
        if kind == 5:
            condition = Map("lt", (inner[0], inner[1]))
            return Map("select", (condition, inner[1], inner[2]))
        others = [v for v in "ijkl" if v not in bound]
        if kind == 6 and others:
            variables = draw(st.lists(st.sampled_from(others), min_size=1, max_size=2, unique=True))
            body = self.expr([*bound, *variables], depth - 1)
            return Reduce(draw(st.sampled_from(_FOLDS)), tuple(variables), body)
        if kind == 7:
            return Map(draw(st.sampled_from(("mul", "add", "max"))), tuple(inner))
        op = draw(st.sampled_from(_BINARY))
        return Map(op, (inner[0], inner[1]))

    def leaf(self, bound: Sequence[str]) -> Expr:
        draw = self.draw
        kind = draw(st.integers(0, 7))
        if kind == 0:
            return Literal(draw(st.sampled_from((0, 1, 2, -1, 2.0, True))))
        if kind == 1 and bound:
            return Coordinate(draw(st.sampled_from(bound)))
        return self.read(bound)

    def read(self, bound: Sequence[str]) -> Access:
        draw = self.draw
        name = draw(st.sampled_from([n for n in self.tensors if n != "J"]))
        axes = self.tensors[name]
        if name == "A" and "k" in bound and axes[0] == "i" and draw(st.integers(0, 3)) == 0:
            rest = tuple(self.affine(v, bound) for v in axes[1:])
            return Access("A", (Access("J", (index("k"),)), *rest), Literal(0))
        indices = tuple(self.affine(v, bound) for v in axes)
        if all(i.variable == v for i, v in zip(indices, axes, strict=True)):
            return Access(name, indices)
        if draw(st.integers(0, 9)) == 0:
            return Access(name, indices)  # out of range, more often than not
        return Access(name, indices, Literal(draw(st.sampled_from((0, 1, -1)))))

    def affine(self, axis: str, bound: Sequence[str]) -> RankExpr:
        """An index into the axis of a variable: itself if it is bound, or anything else."""
        draw = self.draw
        if axis in bound and draw(st.integers(0, 3)):
            return RankExpr.of_variable(axis)
        variables = draw(st.lists(st.sampled_from([*bound, None]), max_size=2, unique=True))
        terms = [
            Term(draw(st.sampled_from((1, 1, -1, 2))), draw(st.sampled_from(((), (), ("I",)))), v)
            for v in variables
        ]
        return affine(terms, draw(st.integers(-1, 2)))
