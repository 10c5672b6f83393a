"""`contract_expression` and `einsum_path`: opt_einsum's and NumPy's calls, and more."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.backends.registry import backend_names

RNG = np.random.default_rng(11)
A, B, C = RNG.random((4, 5)), RNG.random((5, 6)), RNG.random((6, 7))
TEXT = "ab,bc,cd->ad"

#: NumPy's own types say less than it takes.
numpy_path: Any = np.einsum_path
SHAPES = (A.shape, B.shape, C.shape)


# ---- contract_expression


@pytest.mark.parametrize("backend", backend_names())
def test_an_expression_is_called_again_and_again(backend: str) -> None:
    expression = el.contract_expression(TEXT, *SHAPES, backend=backend)
    for _ in range(3):
        np.testing.assert_allclose(expression(A, B, C), A @ B @ C)
    out = np.empty((4, 7))
    assert expression(A, B, C, out=out) is out
    np.testing.assert_allclose(out, A @ B @ C)


def test_the_backend_may_be_told_at_the_call() -> None:
    expression = el.contract_expression(TEXT, *SHAPES)
    for backend in backend_names():
        np.testing.assert_allclose(expression(A, B, C, backend=backend), A @ B @ C)
    with pytest.raises(ValueError, match="torch"):
        expression(A, B, C, backend="torch")


def test_the_order_is_settled_when_the_expression_is_made() -> None:
    wide, narrow = (2, 100), (100, 2)
    assert el.contract_expression("ab,bc,cd->ad", wide, narrow, wide).path == ((0, 1), (0, 1))
    assert el.contract_expression("ab,bc,cd->ad", narrow, wide, narrow).path == ((1, 2), (0, 1))
    given = el.contract_expression("ab,bc,cd->ad", wide, narrow, wide, optimize=[(0, 2), (0, 1)])
    assert given.path == ((0, 2), (0, 1))


def test_a_path_finder_is_asked_once() -> None:
    asked: list[Any] = []

    def finder(inputs: Any, output: Any, sizes: Any, memory_limit: Any) -> Any:
        asked.append((inputs, output, sizes, memory_limit))
        return [(0, 1), (0, 1)]

    expression = el.contract_expression(TEXT, *SHAPES, optimize=finder, memory_limit=1000)
    assert len(asked) == 1
    assert asked[0][3] == 1000
    for dtype in ("f8", "f4"):
        expression(A.astype(dtype), B.astype(dtype), C.astype(dtype))
    assert len(asked) == 1


def test_other_extents_of_the_same_ranks_are_served() -> None:
    expression = el.contract_expression(TEXT, *SHAPES)
    small = [np.ones((2, 2))] * 3
    np.testing.assert_allclose(expression(*small), np.full((2, 2), 4.0))


@pytest.mark.parametrize("constants", [[0], [1], [2], [0, 1], [0, 2], [1, 2], (0, 1, 2), {1}])
def test_constants_are_given_once(constants: Any) -> None:
    arrays = (A, B, C)
    given = [array if n in constants else array.shape for n, array in enumerate(arrays)]
    rest = [array for n, array in enumerate(arrays) if n not in constants]
    expression = el.contract_expression(TEXT, *given, constants=constants)
    for _ in range(2):
        np.testing.assert_allclose(expression(*rest), A @ B @ C)
    assert f"constants={sorted(constants)}" in repr(expression)


def test_what_constants_alone_decide_is_worked_out_once() -> None:
    multiplied: list[object] = []

    class Counted:
        def __mul__(self, other: object) -> Any:
            multiplied.append(other)
            return 3

        __rmul__ = __mul__

    constants = np.array([[Counted()]]), np.array([[2]], object)
    expression = el.contract_expression(
        TEXT, *constants, (1, 1), constants=[0, 1], optimize=[(0, 1), (0, 1)]
    )
    for number in range(3):
        assert expression(np.array([[number]], object)) == 3 * number
    assert multiplied == [2]


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize(
    "text", ["ab,bc,cd->ad", "ab,bc,cd->dbc", "...ab,bc,cd...->a...", "ab,bc,cd"]
)
def test_constants_change_no_result(backend: str, text: str) -> None:
    """Nor any dtype: int8 constants do not wrap among themselves where the rest is f64."""
    dtypes = ("i1", "i1", "f8")
    arrays = [np.full((5, 5), 100).astype(dtype) for dtype in dtypes]
    for constants in ([0], [0, 1], [1, 2], [0, 1, 2]):
        for options in (
            {},
            {"dtype": "c16"},
            {"semiring": "max_plus"},
            {"optimize": [(0, 1), (0, 1)]},
        ):
            given = [a if n in constants else a.shape for n, a in enumerate(arrays)]
            rest = [array for n, array in enumerate(arrays) if n not in constants]
            both: dict[str, Any] = {"backend": backend, **options}
            expression = el.contract_expression(text, *given, constants=constants, **both)
            expected = el.einsum(text, *arrays, **both)
            for _ in range(2):
                found = expression(*rest)
                assert found.dtype == expected.dtype
                assert found.tolist() == expected.tolist()
            out = np.zeros_like(expected)
            assert expression(*rest, out=out) is out
            assert out.tolist() == expected.tolist()
            swapped = [array.astype(array.dtype.newbyteorder()) for array in rest]
            assert expression(*swapped).tolist() == expected.tolist()


def test_a_constant_that_changes_later_is_not_seen() -> None:
    """An expression holds its own copy, so that it gives the same whatever was worked out when."""
    weights = np.ones((5, 6))
    expression = el.contract_expression("ab,bc->ac", (4, 5), weights, constants=[1])
    first = expression(A)
    weights[...] = 0
    np.testing.assert_array_equal(expression(A), first)


def test_an_expression_is_a_value() -> None:
    b = np.arange(12.0).reshape(3, 4)
    f: Any = el.contract_expression("ij,jk,kl->il", (2, 3), b, (4, 5), constants=[1])
    a, c = np.ones((2, 3)), np.ones((4, 5))
    for _ in range(2):  # before it has been called, and after
        for other in (pickle.loads(pickle.dumps(f)), copy.deepcopy(f)):
            assert str(other) == str(f)
            np.testing.assert_array_equal(other(a, c), a @ b @ c)
        f(a, c)


def test_other_forms_of_subscripts() -> None:
    interleaved = el.contract_expression((4, 5), [0, 1], (5, 6), [1, 2], [2, 0])
    np.testing.assert_allclose(interleaved(A, B), (A @ B).T)
    words = el.contract_expression("row in, in col", (4, 5), (5, 6), notation="named")
    np.testing.assert_allclose(words(A, B), (A @ B).T)
    dots = el.contract_expression("...b,bc->...c", (3, 4, 5), (5, 6))
    np.testing.assert_allclose(dots(np.stack([A] * 3), B), np.stack([A @ B] * 3))
    scalars = el.contract_expression(",a->a", (), (5,))
    np.testing.assert_allclose(scalars(2, np.arange(5)), 2 * np.arange(5))


def test_further_keywords_of_einsum() -> None:
    tropical = el.contract_expression("ab,bc->ac", (4, 5), (5, 6), semiring="max_plus")
    np.testing.assert_allclose(tropical(A, B), (A[:, :, None] + B).max(1))
    single = el.contract_expression("ab,bc->ac", (4, 5), (5, 6), dtype="f4", casting="same_kind")
    assert single(A, B).dtype == np.float32


@pytest.mark.parametrize(
    ("error", "operands", "options"),
    [
        (ValueError, ("ab,bc->ac", (2, 3)), {}),
        (ValueError, ("ab,bc->ac", (2, 3), (3, 4), (42, 42)), {}),
        (ValueError, ("ab,bc->ac", (2, 3), (4, 5)), {}),
        (ValueError, ("ab,bc->ac", (2, 3, 4), (3, 4)), {}),
        (ValueError, ("ab,bc->ad", (2, 3), (3, 4)), {}),
        (ValueError, ("ab,bc->ac", (2, 3), (3, -4)), {}),
        (ValueError, ("ab,b%->ac", (2, 3), (3, 4)), {}),
        (ValueError, ("ab,bc->ac", (2, 3), (3, 4)), {"optimize": False}),
        (ValueError, ("ab,bc->ac", (2, 3), (3, 4)), {"out": np.empty((2, 4))}),
        (ValueError, ("ab,bc->ac", A, (5, 4)), {"constants": [2]}),
        (ValueError, ("ab,bc->ac", A, (5, 4)), {"constants": [-1]}),
        (ValueError, (TEXT, *SHAPES), {"optimize": [(0, 1)]}),
        (ValueError, (TEXT, *SHAPES), {"optimize": "dp", "memory_limit": 1}),
        (KeyError, (TEXT, *SHAPES), {"optimize": "optimall"}),
        (ValueError, ("ab,bc->ac", (2, 3), (3, 4)), {"backend": "fortran"}),
        (ValueError, (), {}),
        (TypeError, ("ab,bc->ac", A, (5, 4)), {}),
        (TypeError, ("ab,bc->ac", (2, 3), 7), {}),
        (TypeError, ("ab,bc->ac", (2, 3), ("x", "y")), {}),
        (TypeError, ("ab,bc->ac", (2, 3), (3, 4)), {"speed": "high"}),
        (TypeError, ("ab,bc->ac", A, (5, 4)), {"constants": ["first"]}),
    ],
)
def test_errors_appear_when_the_expression_is_made(
    error: type[Exception], operands: Any, options: Any
) -> None:
    with pytest.raises(error) as caught:
        el.contract_expression(*operands, **options)
    assert isinstance(caught.value, el.EinloomError)


def test_errors_of_a_call() -> None:
    """The checks of opt_einsum's own test_contract_expression_checks, but for its words."""
    expression: Any = el.contract_expression("ab,bc->ac", (2, 3), (3, 4))
    a, b = np.ones((2, 3)), np.ones((3, 4))
    for count in (1, 3):
        with pytest.raises(ValueError, match="`ContractExpression` takes exactly 2"):
            expression(*(a, b, b)[:count])
    for left, right in ((np.ones((2, 3, 4)), b), (np.ones((2, 4)), np.ones((3, 4, 5)))):
        with pytest.raises(ValueError, match="operand"):
            expression(left, right)
    with pytest.raises(ValueError, match="shape"):
        expression(a, b, out=np.ones((2, 4, 6)))
    with pytest.raises(TypeError, match="got an unexpected keyword"):
        expression(a, b, order="F")


# ---- einsum_path


def test_a_path_is_numpys_own() -> None:
    for optimize in (True, False, "greedy", "optimal", ("greedy", 0), ["einsum_path", (0, 1, 2)]):
        ours = el.einsum_path(TEXT, A, B, C, optimize=optimize)
        assert ours == numpy_path(TEXT, A, B, C, optimize=optimize)
    assert el.einsum_path(A, [0, 1], B, [1, 2]) == numpy_path(A, [0, 1], B, [1, 2])
    assert (
        el.einsum_path("ij,jk", A, B, einsum_call=True)[1]
        == numpy_path("ij,jk", A, B, einsum_call=True)[1]
    )


def test_other_symbols_are_reported_as_letters() -> None:
    wanted = numpy_path("zy,yx,xw->zw", A, B, C)
    assert el.einsum_path("αβ,βγ,γδ", A, B, C) == wanted
    assert el.einsum_path("1_,_2,23->13", A, B, C) == wanted
    words = "row in, in mid, mid col -> row col"
    assert el.einsum_path(words, A, B, C, notation="named") == wanted
    assert el.einsum_path(A, [100, 200], B, [200, 300], C, [300, 400]) == wanted
    labels = (("a", 1), ("b", 2))
    assert el.einsum_path(A, labels, B, (labels[1], "c")[:2], [labels[0], "c"])[0] == [
        "einsum_path",
        (0, 1),
    ]
    mixed = el.einsum_path("aβ...,βc->...ac", A, B)[1]
    assert mixed.splitlines()[0] == numpy_path("az...,zc->...ac", A, B)[1].splitlines()[0]


def test_more_symbols_than_numpy_has_letters() -> None:
    many = np.ones((1,) * 53)
    with pytest.raises(ValueError, match="53 symbols") as caught:
        el.einsum_path(many, list(range(53)))
    assert isinstance(caught.value, el.EinloomError)


WRONG_PATHS: list[tuple[type[Exception], tuple[Any, ...], dict[str, Any]]] = [
    (ValueError, (), {}),
    (ValueError, ("ij,jk", A), {}),
    (ValueError, ("ij,jk", A, A), {}),
    (ValueError, ("αβ,βγ", A), {}),
    (ValueError, ("αβ,βγ", A, A), {}),
    (ValueError, ("αβ->αα", A), {}),
    (ValueError, ("αβ->αγ", A), {}),
    (ValueError, ("α%", A), {}),
    (TypeError, (A, [0, []]), {}),
    (TypeError, (0, 0), {}),
    (RuntimeError, (TEXT, A, B, C), {"optimize": ["einsum_path", (0, 1)]}),
    (KeyError, (TEXT, A, B, C), {"optimize": "optimall"}),
    (TypeError, (TEXT, A, B, C), {"optimize": [1, 2, 3]}),
    (TypeError, (TEXT, A, B, C), {"speed": "high"}),
]


@pytest.mark.parametrize(("error", "operands", "options"), WRONG_PATHS)
def test_wrong_calls_of_einsum_path(error: type[Exception], operands: Any, options: Any) -> None:
    with pytest.raises(error):
        el.einsum_path(*operands, **options)
