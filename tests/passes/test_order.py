"""Contraction order: every form of `optimize=`, what comes out, what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import permutations
from itertools import product as combinations
from typing import Any

import numpy as np
import opt_einsum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import DTYPES
from einloom.ir.errors import ArgumentError, EinloomError, OperandError, PassError, PathError
from einloom.ir.interpreter import evaluate
from einloom.ir.verify import verify
from einloom.passes.base import iteration_points
from einloom.passes.rewrites.order import PATH_FINDERS, Order

from ..cascades import Array, Sample, array, assert_close, classic, known_sizes, product, products
from ..support import Golden

CHAIN = "ij,jk,kl,lm->im"
SIZES = {"i": 8, "j": 3, "k": 9, "l": 2, "m": 7}


def sample(cascade: Cascade) -> Sample:
    """Random inputs for a cascade of known sizes."""
    rng = np.random.default_rng(0)
    sizes = known_sizes(cascade)
    arrays: dict[str, Array] = {}
    for decl in cascade.inputs:
        assert decl.dtype is not None
        shape = [extent.value(sizes) for extent in decl.extents]
        arrays[decl.name] = array(rng, decl.dtype, shape)
    return Sample(cascade, arrays)


def check(before: Cascade, after: Cascade) -> None:
    """Both mean the same on random inputs, up to rounding."""
    verify(after)
    case = sample(before)
    assert_close(case, evaluate(after, case.arrays), evaluate(before, case.arrays))


# ---- the forms of optimize=


@pytest.mark.parametrize("name", [*PATH_FINDERS, True, "GREEDY", ("greedy", 10), ("optimal", 1e9)])
def test_path_finders_by_name(name: Any) -> None:
    before = classic(CHAIN, "f64", sizes=SIZES)
    after = Order(name)(before)
    assert len(after.einsums) > 1
    check(before, after)


@pytest.mark.parametrize("optimize", [False, None])
def test_no_order(optimize: Any) -> None:
    before = classic(CHAIN, sizes=SIZES)
    assert Order(optimize)(before) is before


@pytest.mark.parametrize(
    "path",
    [
        [(0, 1), (0, 1), (0, 1)],
        ["einsum_path", (0, 1), (0, 1), (0, 1)],
        ["einsum_path", (0, 3), (0, 1), (0, 1)],
        [(1, 0), (2, 1), (1, 0)],
        [(0, 1, 2), (0, 1)],
        [(0,), (1,), (0, 1, 3), (0, 1)],
        [(2, 3), (0, 1, 2)],
        [(0, 1), (0, 1), (0, 1), (0,)],
        ((0, 1), (0, 1), (0, 1)),
        [np.array([0, 1]), np.array([0, 1]), np.array([0, 1])],
        [[0, 1], [0, 1], [0, 1]],
    ],
)
def test_explicit_paths(path: Any) -> None:
    for equation, semiring in (
        (CHAIN, "sum_product"),
        ("ij,jk,kl,lm->mi", "max_plus"),
        ("ij,ij,jk,i->k", "sum_product"),
        ("ii,jk,0k,lm->iji", "sum_product"),
    ):
        before = classic(equation, "f64", semiring, SIZES)
        after = Order(path)(before)
        assert after is not before
        check(before, after)


def test_a_path_of_one_step_changes_nothing() -> None:
    before = classic(CHAIN, sizes=SIZES)
    for path in ([(0, 1, 2, 3)], ["einsum_path", (3, 1, 2, 0)], [(0, 1, 2, 3), (0,)]):
        assert Order(path)(before) is before
    two = classic("ij,jk->ik", sizes=SIZES)
    assert Order([(0, 1)])(two) is two
    assert Order([(0,), (0, 1)])(two) is two


def test_a_single_operand_is_summed_at_its_step() -> None:
    before = classic("ij,jk,k->j", sizes=SIZES)
    after = Order([(0,), (1,), (0, 1, 2)])(before)
    assert [str(e.output.tensor) for e in after.einsums] == ["T", "Y"]
    check(before, after)


def test_finders_as_objects() -> None:
    before = classic(CHAIN, "f64", sizes=SIZES)
    seen: list[Any] = []

    def finder(
        inputs: list[frozenset[str]],
        output: frozenset[str],
        sizes: Mapping[str, int],
        memory_limit: int | None,
    ) -> list[tuple[int, int]]:
        seen.append((inputs, output, dict(sizes), memory_limit))
        return [(2, 3), (1, 2), (0, 1)]

    check(before, Order(finder, 500)(before))
    ((inputs, output, sizes, limit),) = seen
    assert [sorted(term) for term in inputs] == [["a", "b"], ["b", "c"], ["c", "d"], ["d", "e"]]
    assert output == {"a", "e"}
    assert sizes == {"a": 8, "b": 3, "c": 9, "d": 2, "e": 7}
    assert limit == 500
    for optimizer in (opt_einsum.RandomGreedy(max_repeats=4), opt_einsum.DynamicProgramming()):
        check(before, Order(optimizer)(before))


def test_a_registered_finder() -> None:
    def last_first(*_: Any) -> list[tuple[int, int]]:
        return [(2, 3), (1, 2), (0, 1)]

    opt_einsum.paths._PATH_OPTIONS.pop("einloom-test", None)
    opt_einsum.paths.register_path_fn("einloom-test", last_first)
    before = classic(CHAIN, "f64", sizes=SIZES)
    check(before, Order("einloom-test")(before))


# ---- memory limits


def intermediates(cascade: Cascade) -> list[int]:
    sizes = known_sizes(cascade)
    return [math.prod(sizes[v.upper()] for v in e.free) for e in cascade.einsums[:-1]]


@pytest.mark.parametrize("name", ["auto", "greedy", "optimal", "branch-2"])
def test_memory_limit(name: str) -> None:
    before = classic("ab,cd,ef,fdb->ace", "f64", sizes=dict.fromkeys("abcdef", 4))
    free = Order(name)(before)
    assert max(intermediates(free)) > 16
    tight = Order(name, 16)(before)
    assert max(intermediates(tight), default=0) <= 16
    check(before, tight)
    assert max(intermediates(Order(name, "max_input")(before)), default=0) <= 64
    for unlimited in (None, -1, float("inf")):
        assert Order(name, unlimited)(before) == free
    assert Order((name, 0))(before) is before


def test_a_limit_that_nothing_meets() -> None:
    with pytest.raises(PathError, match="No contraction found") as caught:
        Order("dp", 1)(classic(CHAIN, sizes=SIZES))
    assert isinstance(caught.value, RuntimeError)  # as opt_einsum's


# ---- mistakes


@pytest.mark.parametrize(
    ("optimize", "limit", "error", "builtin"),
    [
        ("fastest", None, PathError, KeyError),
        (("fastest", 10), None, PathError, KeyError),
        (3, None, OperandError, TypeError),
        (1.5, None, OperandError, TypeError),
        ([(0, 1), "x"], None, OperandError, TypeError),
        (["einsum_path", 0, 1], None, OperandError, TypeError),
        ({"greedy": 1}, None, OperandError, TypeError),
        ("greedy", "much", ArgumentError, ValueError),
        ("greedy", -2, ArgumentError, ValueError),
        ("greedy", float("nan"), ArgumentError, ValueError),
        ("greedy", [1], ArgumentError, ValueError),
        ("greedy", True, ArgumentError, ValueError),
    ],
)
def test_options_that_make_no_sense(
    optimize: Any, limit: Any, error: type[EinloomError], builtin: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        Order(optimize, limit)
    assert isinstance(caught.value, builtin)


PATHS: list[Any] = [
    [(0, 1)],
    [],
    [(0, 1), (0, 1), (0, 1), (0, 1)],
    [(0, 4), (0, 1), (0, 1)],
    [(0, 0), (0, 1), (0, 1)],
    [(), (0, 1, 2, 3)],
    [(-1, 0), (0, 1), (0, 1)],
]


def test_paths_that_do_not_fit(golden: Golden) -> None:
    said: list[str] = []
    for path in PATHS:
        with pytest.raises(PathError) as caught:
            Order(path)(classic(CHAIN, sizes=SIZES))
        assert isinstance(caught.value, RuntimeError)  # as NumPy's
        assert isinstance(caught.value, ValueError)
        said.append(f"{path}\n{caught.value}\n")
    golden("passes/path_mistakes.txt", "\n".join(said))
    with pytest.raises(PathError):
        Order([(0, 1)])(classic("ii->i"))
    with pytest.raises(PathError):
        Order(lambda *_: [(0, 1)])(classic(CHAIN, sizes=SIZES))


def test_unknown_dtypes_are_an_error() -> None:
    with pytest.raises(PassError, match="A_, B_, C_, D_") as caught:
        Order()(classic(CHAIN, ""))
    assert "declare them" in str(caught.value)
    two = classic("ij,jk->ik", "")
    assert Order()(two) is two


# ---- what is left alone


@pytest.mark.parametrize(
    ("equation", "dtype", "semiring", "sizes"),
    [
        (CHAIN, "f32", "max_times", SIZES),  # negative factors
        (CHAIN, "i32", "max_plus", SIZES),  # sums that wrap
        (CHAIN, "f32", "sum_product", {**SIZES, "k": 0}),  # 0 times infinity is not 0
        ("ij,jk->ik", "f32", "sum_product", SIZES),
    ],
)
def test_left_alone(equation: str, dtype: str, semiring: str, sizes: dict[str, int]) -> None:
    before = classic(equation, dtype, semiring, sizes)
    assert Order()(before) is before
    assert Order([(0, 1)] * (equation.count(",")))(before) is before or "->ik" in equation


# ---- the intermediates


def test_intermediates_golden(golden: Golden) -> None:
    shown: list[str] = []
    path = [(0, 1), (0, 1)]
    for equation, dtypes, semiring in (
        ("ij,jk,kl->il", "f32", "sum_product"),
        ("ij,jk,kl->li", "f32", "sum_product"),
        ("ij,jk,kl->il", "f16", "sum_product"),
        ("ij,jk,kl->il", "bf16,i8,i8", "sum_product"),
        ("ij,jk,kl->il", "i8,i8,f64", "sum_product"),
        ("ij,jk,kl->il", "bool", "boolean"),
        ("bij,bjk,bkl->bil", "f32", "max_plus"),
        ("i,i,i->ii", "f32", "sum_product"),
        ("0j,jk,k0->k", "f32", "sum_product"),
        ("i,j,k->", "f64", "log"),
    ):
        before = classic(equation, dtypes, semiring)
        shown.append(f"{before}\n->\n{Order(path)(before)}\n")
    golden("passes/order.txt", "\n".join(shown))


def test_the_last_index_of_an_intermediate_is_the_readers_last() -> None:
    """Where the intermediate has that index: its axis and the result's then run at unit stride."""
    letters = "abcd"
    for terms in combinations(["ab", "bc", "cd", "abc", "bd"], repeat=3):
        output = "".join(v for v in letters if v in "".join(terms))[:2]
        cascade = Order([(0, 1), (0, 1)])(
            classic(f"{','.join(terms)}->{output}", sizes=dict.fromkeys(letters, 2))
        )
        for einsum, reader in zip(cascade.einsums, cascade.einsums[1:], strict=False):
            last = reader.free[-1]
            if last in einsum.free:
                assert einsum.free[-1] == last


def test_the_order_is_cheaper() -> None:
    sizes = dict.fromkeys("abcdefg", 10)
    before = classic("abc,cde,efg,gab->df", sizes=sizes)
    after = Order()(before)
    points = iteration_points(before), iteration_points(after)
    assert points[0] == 10**7
    assert points[1] is not None
    assert points[1] < 10**5 * 3
    assert "points 10,000,000 -> " in Order().comment(before, after)


@pytest.mark.parametrize("name", PATH_FINDERS)
def test_a_path_names_the_operands_as_they_were_given(name: str) -> None:
    """In whatever order its finder came to them: another pair of these would cost much more."""
    sizes = {"i": 50, "j": 2, "k": 40, "l": 3, "m": 60}
    for terms in permutations(["ij", "jk", "kl", "lm"]):
        before = classic(f"{','.join(terms)}->im", "f64", sizes=sizes)
        assert iteration_points(Order(name)(before)) == 2 * 40 * 3 + 2 * 3 * 60 + 50 * 2 * 60


@pytest.mark.parametrize("name", [n for n in PATH_FINDERS if n[:2] not in ("dp", "dy", "ra")])
def test_of_orders_that_cost_the_same_the_largest_factor_is_read_as_it_lies(name: str) -> None:
    """The finders left out are those that do not give the first of such orders."""
    for terms in permutations(["abc", "ai", "bj", "ck"]):
        before = classic(f"{','.join(terms)}->ijk", sizes=dict.fromkeys("abcijk", 8))
        left, met = [*terms], list[set[str]]()
        for step in Order(name).path(before):
            met.append({left[position] for position in step})
            left = [*(t for n, t in enumerate(left) if n not in step), "made"]
        assert met == [{"abc", "ck"}, {"made", "bj"}, {"made", "ai"}]


@given(products(most=5, exact=True), st.data())
def test_any_path_keeps_the_meaning(case: Sample, data: st.DataObject) -> None:
    left = len(case.arrays)
    path: list[Sequence[int]] = []
    while left > 1:
        step = data.draw(
            st.lists(st.integers(0, left - 1), min_size=1, max_size=3, unique=True), label="step"
        )
        if len(step) > 1 or len(path) < 4:
            path.append(tuple(step))
            left += 1 - len(step)
    after = verify(Order(path)(case.cascade))
    want, got = evaluate(case.cascade, case.arrays), evaluate(after, case.arrays)
    assert {n: a.dtype for n, a in got.items()} == {n: a.dtype for n, a in want.items()}
    assert_close(case, got, want)


def test_many_symbols_and_operands() -> None:
    """More symbols than opt_einsum has letters for, more operands than NumPy has arguments."""
    count = 90
    names = [f"v{n}" for n in range(count + 1)]
    terms = [[names[n], names[n + 1]] for n in range(count)]
    before = product(
        terms, [names[0], names[-1]], [DTYPES["f64"]] * count, "sum_product",
        dict.fromkeys(names, 2), None,
    )  # fmt: skip
    after = verify(Order()(before))
    assert len(after.einsums) == count - 1
    case = sample(before)
    want = np.linalg.multi_dot(list(case.arrays.values()))
    np.testing.assert_allclose(evaluate(after, case.arrays)["Y"], want, rtol=1e-9)


def test_symbolic_ranks() -> None:
    before = classic("ij,jk,kl->i")
    after = Order()(before)
    assert len(after.einsums) == 2  # k, l first, then j: a path is found for nominal extents
    assert "points" not in Order().comment(before, after)


def test_opt_einsum_is_not_loaded_for_two_operands() -> None:
    script = (
        "import sys\n"
        "from einloom.passes.registry import default_pipeline\n"
        "from einloom.passes.rewrites.order import Order\n"
        "for optimize in ('auto', True, 'greedy', False, [(0, 1)]): default_pipeline(optimize)\n"
        "assert 'opt_einsum' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
