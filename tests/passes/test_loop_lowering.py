"""Which loops a Cascade becomes: golden dumps of the kinds there are, and what decides them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

import einloom as el
from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import DTYPES, F32
from einloom.ir.einsum import Access, Coordinate, Einsum, Literal, Map, Reduce
from einloom.ir.errors import UnsupportedError
from einloom.ir.infer import infer_dtypes
from einloom.ir.loop_nodes import Contract
from einloom.ir.loops import ArrayAxis, LoopProgram
from einloom.ir.ranks import Rank, RankExpr, Term
from einloom.ir.verify import verify
from einloom.passes.loops.lower import lower
from einloom.passes.loops.schedule import Limits
from einloom.passes.rewrites.canonical import squeeze

from ..cascades import classic
from ..support import Golden


def lowered(
    cascade: Cascade, layouts: Mapping[str, int | None] | None = None, limits: Limits | None = None
) -> LoopProgram:
    """For arrays in C order, but for those whose layout is given."""
    extents = cascade.extents()
    names = (*(decl.name for decl in cascade.inputs), *cascade.outputs)
    found = {name: len(extents[name]) - 1 if extents[name] else None for name in names}
    dtypes = infer_dtypes(cascade, {})
    return lower(cascade, dtypes, {**found, **(layouts or {})}, limits or Limits())


def sizes(**extents: int) -> dict[str, int]:
    return extents


SMALL = {"i": 64, "j": 64, "k": 64, "b": 8}
LARGE = {"i": 1000, "j": 700, "k": 900}

PROGRAMS: dict[str, tuple[str, str, dict[str, int]]] = {
    "small_matmul": ("ij,jk->ik", "f32", SMALL),
    "large_matmul": ("ij,jk->ik", "f32", LARGE),
    "large_complex": ("ij,jk->ik", "c64", LARGE),
    "large_half": ("ij,jk->ik", "f16", LARGE),
    "small_transposed": ("ij,kj->ik", "f64", SMALL),
    "small_integers": ("ij,jk->ik", "i8", SMALL),
    "booleans": ("ij,jk->ik", "bool", SMALL),
    "batched": ("bij,bjk->bik", "f32", {**SMALL, "i": 4, "j": 4, "k": 4}),
    "elementwise": ("ij,ij->ij", "f32", SMALL),
    "permutation": ("ijk->kji", "f32", SMALL),
    "row_sums": ("ij->i", "f32", {"i": 100, "j": 9}),
    "long_sum": ("i->", "f64", {"i": 1_000_000}),
    "dot": ("i,i->", "c128", {"i": 1000}),
    "matrix_vector": ("ij,j->i", "f32", SMALL),
    "trace": ("ii->", "f32", SMALL),
    "diagonal": ("i->ii", "f32", SMALL),
    "crossed": ("ij,ji->", "f32", SMALL),
    "chain": ("ij,jk,kl->il", "f32", {**SMALL, "l": 64}),
    "scalar": (",->", "f32", {}),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_loops(name: str, golden: Golden) -> None:
    subscripts, dtype, extents = PROGRAMS[name]
    cascade = classic(subscripts, dtype, sizes=extents)
    golden(f"passes/loops/{name}.txt", f"{lowered(cascade)}\n")


def general() -> Cascade:
    """A filter, a fill, a gather, a nested reduction, coordinates, a cast."""
    i, j, k = (RankExpr.of_variable(v) for v in "ijk")
    before = Access("X", (RankExpr((Term(1, (), "i"),), -1), j), Literal(0))
    picked = Access("X", (Access("J", (i,)), j))
    inner = Reduce("max", ("k",), Map("exp", (Access("X", (k, j)),)))
    total = Reduce("add", ("j",), Map("add", (before, Map("mul", (picked, inner)))))
    where = Map("le", (Coordinate("j"), Coordinate("i")))
    n = RankExpr.of_size("N")
    inputs = (
        TensorDecl("X", (n, RankExpr.of_size("J")), F32),
        TensorDecl("J", (RankExpr.of_size("I"),), DTYPES["u8"]),
    )
    inputs = (inputs[0], replace(inputs[1], name="P"))
    total = Reduce(
        "add",
        ("j",),
        Map("add", (before, Map("mul", (Access("X", (Access("P", (i,)), j)), inner)))),
    )
    ranks = (Rank("N"), Rank("J"), Rank("I"), Rank("K", n))
    einsum = Einsum(Access("Y", (i,)), total, where=where, dtype=DTYPES["f64"])
    return Cascade("general", ranks, inputs, (einsum,), ("Y",))


def test_a_cascade_of_every_construct(golden: Golden) -> None:
    golden("passes/loops/general.txt", f"{lowered(general())}\n")


def test_the_unit_axis_decides_the_vector() -> None:
    cascade = classic("ij,jk->ik", sizes=SMALL)
    for axis, variable in ((0, "i"), (1, "k")):
        text = str(lowered(cascade, {"Y": axis}))
        assert f"{variable} in {variable}'..{variable}'+" in text
        line = next(line for line in text.split("\n") if "vector {" in line)
        assert line.split(", ")[-1].startswith(f"{variable} in")


def test_nothing_is_copied_where_it_lies_well() -> None:
    """A small product of matrices in C or Fortran order reads its operands as they are."""
    cascade = classic("ij,jk->ik", sizes=SMALL)
    assert not lowered(cascade).scratch
    assert not lowered(cascade, {"A_": 0}).scratch
    assert not lowered(cascade, {"A_": 0, "B_": 0, "Y": 0}).scratch
    assert [s.name for s in lowered(cascade, {"B_": 0}).scratch] == ["Y.B_.copy"]


def test_a_scattered_diagonal_is_summed_element_by_element() -> None:
    """Several columns at a time would fetch what lies between; in a cache it does no harm.

    Each element's line is asked for before it is summed, those of neighbours at the same time.
    """
    for side, vectors in ((64, False), (8, True)):
        text = str(lowered(classic("abcb->ac", sizes=dict.fromkeys("abc", side))))
        assert ("vector" in text) == vectors
        asked = "fetch A_[a,b+8,c,b+8]" in text and "c'..c'+4" in text
        assert asked == (not vectors)


@pytest.mark.parametrize(
    ("subscripts", "extents", "across"),
    [
        # Long runs: in the operand's order, which is the larger.
        ("ebad,ce->abcd", {"a": 96, "b": 84, "c": 24, "d": 84, "e": 96}, ("b", "a", "d")),
        # A copy of all of it beforehand would go through memory twice.
        ("dbea,ec->abcd", dict.fromkeys("abde", 72) | {"c": 24}, ("b", "a", "d")),
    ],
)
def test_large_operands_are_packed_however_small_their_panels(
    subscripts: str, extents: dict[str, int], across: tuple[str, ...]
) -> None:
    (contract,) = contracts(lowered(classic(subscripts, sizes=extents)))
    assert contract.columns.variables == across
    for small in (dict.fromkeys(extents, 12) | {"d": 96}, {**extents, "d": 96, "c": 7}):
        assert not contracts(lowered(classic(subscripts, sizes=small)))


@pytest.mark.parametrize(
    ("subscripts", "extents", "packed"),
    [
        # Vectors along d alone would be short, and each element of T1[f,b,e,c] from another line.
        ("eafd,fbec->abcd", dict.fromkeys("abcdef", 16), True),
        ("eafd,fbec->abcd", dict.fromkeys("abcdef", 8), True),
        ("eafd,fbec->abcd", dict.fromkeys("abcdef", 4), False),  # little to do
        ("iajb,jcid->abcd", dict.fromkeys("abcdij", 20), True),
        ("iajb,jcid->abcd", dict.fromkeys("abcdij", 20) | {"d": 64}, True),  # lines
        ("cfed,fcdghb->gheb", dict.fromkeys("fcdghb", 10) | {"e": 8}, True),  # of few rows too
        ("ij,jk->ik", dict.fromkeys("ijk", 33), False),  # no columns to be joined
        ("ij,jk->ik", dict.fromkeys("ijk", 64), False),
    ],
)
def test_small_operands_are_packed_that_are_read_in_scraps(
    subscripts: str, extents: dict[str, int], packed: bool
) -> None:
    assert bool(contracts(lowered(classic(subscripts, sizes=extents)))) == packed


@pytest.mark.parametrize(
    "subscripts", ["bnhd,bmhd->bhnm", "hnbd,hmbd->bhnm", "bnhd,bmhd->hnm", "nhbd,hmd->hnbm"]
)
def test_a_rank_of_one_coordinate_is_no_hindrance(subscripts: str) -> None:
    sizes = {"b": 1, "n": 600, "m": 600, "h": 8, "d": 64}
    assert contracts(lowered(classic(subscripts, sizes=sizes)))
    assert contracts(lowered(squeeze()(verify(classic(subscripts, sizes=sizes)))))


def test_columns_that_stay_near_are_read_as_they_lie() -> None:
    """By all rows, before the next columns. Steps a power of two apart push each other out."""

    def of(i: int, j: int, k: int) -> LoopProgram:
        return lowered(classic("ij,jk->ik", "f64", sizes={"i": i, "j": j, "k": k}))

    for sides in ((100, 150, 150), (50, 100, 150)):
        assert not contracts(of(*sides))
        assert "for k' in" in str(of(*sides))
    assert "for i' in" in str(of(40, 40, 40))
    # What is summed of the rows' operand alone is no step of the columns.
    for subscripts in ("ijm,jk->ik", "ijm,k->ik"):
        assert lowered(classic(subscripts, sizes=dict.fromkeys("ijkm", 30))).nests
    # Columns: a power of two apart; too many steps for the cache. Rows: too many of them.
    for sides in ((128, 128, 128), (100, 600, 70), (4000, 150, 100)):
        assert contracts(of(*sides))


@pytest.mark.parametrize(
    ("subscripts", "extents", "packed"),
    [
        ("ij,jk->ik", sizes(i=1000, j=1000, k=128), False),
        ("ij,jk->ik", sizes(i=1000, j=1000, k=160), True),  # no longer few
        ("ij,jk->ik", sizes(i=1000, j=3000, k=128), True),  # more than a level-2 cache holds
        ("ji,jk->ik", sizes(i=1000, j=1000, k=64), True),  # steps of the depth lie far apart
        ("ji,jk->ik", sizes(i=24, j=4000, k=24), False),
    ],
)
def test_few_columns_are_read_as_they_lie(
    subscripts: str, extents: dict[str, int], packed: bool
) -> None:
    assert bool(contracts(lowered(classic(subscripts, sizes=extents)))) == packed


@pytest.mark.parametrize(
    ("value", "elements", "wide"),
    [
        ("exp(X[i,j] - G[i])", 1000, 4),
        ("exp2(X[i,j])", 64, 4),
        ("exp(X[i,j])", 16, 1),
        ("exp(X[i,j])", 48, 3),
        ("exp(X[i,j])", 16 * 5, 1),  # 2, 3 or 4 at a time are six or eight
        ("exp(X[i,j]) + exp(G[i])", 1000, 1),
        ("tanh(X[i,j])", 1000, 1),
    ],
)
def test_exponentials_wait_side_by_side(value: str, elements: int, wide: int) -> None:
    text = f"cascade c(X[I,J]: f32, G[I]: f32) -> Y {{ Y[i] = max[j] ({value}) }}"
    program = el.compile(text, shapes=[(9, elements), (9,)], threads=1).steps[-1]
    assert re.findall(r"for j' in 0..J step (\S+),", str(program)) == [
        "Lanes" if wide == 1 else f"{wide}*Lanes"
    ]


def contracts(program: LoopProgram) -> list[Contract]:
    return [s for nest in program.nests for s in nest.body if isinstance(s, Contract)]


def test_sizes_come_from_inputs_then_declarations() -> None:
    cascade = classic("ij->ij", sizes={"i": 3, "j": 4})
    found = {size.name: size.source for size in lowered(cascade).sizes}
    assert found == {"I": ArrayAxis("A_", 0), "J": ArrayAxis("A_", 1)}
    declared = general()
    found = {size.name: size.source for size in lowered(declared).sizes}
    assert found["K"] == RankExpr.of_size("N")
    alone = Einsum(Access("Y", (RankExpr.of_variable("i"),)), Literal(1.0))
    lonely = Cascade("c", (Rank("I", 5),), (), (alone,), ("Y",))
    assert lowered(lonely).sizes[0].source == RankExpr((), 5)
    unknown = replace(lonely, ranks=(Rank("I"),))
    assert lowered(unknown).sizes[0].source == ArrayAxis("Y", 0)


def test_sizes_are_hints() -> None:
    """A program names no extent of its Cascade; only how it is cut may differ."""
    one, other = (str(lowered(classic("ij,jk->ik", sizes=s))) for s in (SMALL, {**SMALL, "i": 128}))
    assert one == other
    assert "64" not in one


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_host_only], ids=str)
def test_the_hosts_own_dtypes_are_refused(dtype: object) -> None:
    with pytest.raises(UnsupportedError, match="NumPy backend"):
        lowered(classic("ij,jk->ik", str(dtype)))


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("f", "f"), ("malloc", "malloc"), ("Größe", "GruF6uDFe")],
)
def test_the_symbol_is_a_name_in_c(name: str, symbol: str) -> None:
    found = lowered(replace(classic("i->i"), name=name)).name
    assert found.lower() == symbol.lower()


def test_an_unknown_extent_is_refused() -> None:
    inner = Reduce("add", ("k",), Access("A", (RankExpr.of_variable("i"),)))
    einsum = Einsum(Access("Y", (RankExpr.of_variable("i"),)), inner)
    decl = TensorDecl("A", (RankExpr.of_size("I"),), F32)
    cascade = Cascade("c", (Rank("I"), Rank("K")), (decl,), (einsum,), ("Y",))
    with pytest.raises(UnsupportedError, match="rank K"):
        lowered(cascade)
