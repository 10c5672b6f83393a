"""What einloom's neighbours get wrong, or disagree with themselves on, is right here.

Each was seen in the peer that the test names.
"""

import numpy as np
import pytest

import einloom as el
from einloom.backends.registry import backend_names

pytestmark = pytest.mark.parametrize("backend", backend_names())


def test_ellipses_of_differing_ranks(backend: str) -> None:
    """opt_einsum raises on `..., ...` where the operands' ranks differ."""
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    for optimize in (False, "auto", "greedy"):
        found = el.einsum("..., ...", a, b, optimize=optimize, backend=backend)
        assert found.tolist() == (a * b).tolist()
    found = el.einsum("...,...,...->...", a, b, np.float64(2), backend=backend)
    assert found.tolist() == (a * b * 2).tolist()


def test_a_diagonal_matrix(backend: str) -> None:
    """cotengra gives a result of the wrong rank for `i,i->ii`."""
    a, b = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    found = el.einsum("i,i->ii", a, b, repeated_output=True, backend=backend)
    assert found.tolist() == np.diag(a * b).tolist()
    with pytest.raises(ValueError, match="i"):
        el.einsum("i,i->ii", a, b, backend=backend)


def test_a_diagonal_is_not_broadcast(backend: str) -> None:
    """jax gives zeros for `ii->i` on the shape (1, 3); pytblis aborts the process."""
    for text in ("ii->i", "ii", "ii->"):
        for shape in ((1, 3), (3, 1)):
            with pytest.raises(ValueError, match="i"):
                el.einsum(text, np.ones(shape), backend=backend)


def test_int8_accumulates_in_what_is_asked_for(backend: str) -> None:
    """int8 wraps in NumPy, and so here, unless a wider accumulator is asked for."""
    a = np.full((4, 300), 127, "i1")
    exact = a.astype("i8") @ a.T.astype("i8")
    wrapped = el.einsum("ij,kj->ik", a, a, backend=backend)
    assert wrapped.dtype == np.int8
    assert wrapped.tolist() == np.einsum("ij,kj->ik", a, a).tolist()
    for wider in ("i32", "i64"):
        found = el.einsum("ij,kj->ik", a, a, acc=wider, backend=backend)
        assert found.dtype == np.dtype(f"int{wider[1:]}")
        assert found.tolist() == exact.tolist()


def test_an_ellipsis_that_the_output_drops_is_summed(backend: str) -> None:
    """NumPy raises on `i...->i` and, with optimize=True, sums; opt_einsum sums."""
    a = np.arange(24.0).reshape(2, 3, 4)
    for optimize in (False, True, "auto"):
        found = el.einsum("i...->i", a, optimize=optimize, backend=backend)
        assert found.tolist() == a.sum((1, 2)).tolist()
        found = el.einsum("i...,i->i", a, [1, 2], optimize=optimize, backend=backend)
        assert found.tolist() == (a.sum((1, 2)) * [1, 2]).tolist()


def test_a_dtype_does_not_depend_on_whether_a_view_would_do(backend: str) -> None:
    """np.einsum("ij->ij", f4, dtype="f8") gives f4, np.einsum("ij->i", f4, dtype="f8") f8."""
    a = np.ones((2, 2), "f4")
    for text in ("ij->ij", "ij->ji", "ii->i", "ij->i"):
        assert el.einsum(text, a, dtype="f8", backend=backend).dtype == np.float64


def test_an_order_does_not_depend_on_whether_a_view_would_do(backend: str) -> None:
    """np.einsum("ij->ji", c_ordered, order="C") gives an array in Fortran order."""
    a = np.arange(6.0).reshape(2, 3)
    for order in ("C", "F"):
        found = el.einsum("ij->ji", a, order=order, backend=backend)
        assert found.flags[f"{order}_CONTIGUOUS"]
        assert found.tolist() == a.T.tolist()


def test_out_does_not_depend_on_the_path(backend: str) -> None:
    """NumPy refuses an unsafe cast into `out`, and with optimize= makes it in silence."""
    a = np.ones((3, 3))
    for optimize in (False, True, "optimal"):
        for text, shape in (("ij,jk->ik", (3, 3)), ("ij,ij->", ())):
            with pytest.raises(TypeError, match="cast"):
                el.einsum(text, a, a, out=np.zeros(shape, int), optimize=optimize, backend=backend)


def test_a_sum_of_small_integers_does_not_depend_on_the_order(backend: str) -> None:
    """A product of int8 alone wraps before it meets the float64 that all is computed in."""
    a, x = np.full((2, 2), 100, "i1"), np.ones((2, 2))
    for optimize in (False, "greedy", [(0, 1), (0, 1)], [(1, 2), (0, 1)]):
        found = el.einsum("ij,jk,kl->il", a, a, x, optimize=optimize, backend=backend)
        assert found.tolist() == [[40_000.0, 40_000.0]] * 2


def test_bools_count_where_the_result_is_a_number(backend: str) -> None:
    """With a path NumPy combines the diagonal of bools by `or` before it meets the floats."""
    a, x = np.ones((2, 3, 3), bool), np.ones((3, 3, 3))
    for optimize in (False, True, "greedy", ("greedy", 100)):
        assert el.einsum("jii,kkk->j", a, x, optimize=optimize, backend=backend).tolist() == [9, 9]


def test_a_result_without_axes_does_not_depend_on_the_path(backend: str) -> None:
    """np.einsum(..., optimize=True) gives an array of no axes, np.einsum a scalar."""
    a, b = np.ones((2, 2, 2)), np.ones((2, 2))
    for optimize in (False, True, ("greedy", 100)):
        assert type(el.einsum("jki,ii->", a, b, optimize=optimize, backend=backend)) is np.float64


def test_an_unsafe_dtype_does_not_depend_on_the_path_or_on_a_view(backend: str) -> None:
    """NumPy casts a longdouble where it has a path, and looks away where it gives a view."""
    x, a = np.ones((2, 2), np.longdouble), np.ones((2, 2))
    for optimize in (False, "greedy"):
        with pytest.raises(TypeError, match="cast"):
            el.einsum("ij,jk->ik", x, x, dtype="f4", optimize=optimize, backend=backend)
    with pytest.raises(TypeError, match="cast"):
        el.einsum("ij->ji", a, dtype="f4", backend=backend)
    assert el.einsum("ij->ji", a, dtype="f4", casting="unsafe", backend=backend).dtype == "f4"


def test_a_path_finder_that_does_not_exist_is_refused(backend: str) -> None:
    """NumPy does not look at optimize= where there are two operands."""
    a = np.ones((2, 2))
    for text, count in (("ij,jk->ik", 2), ("ij,jk,kl->il", 3)):
        with pytest.raises(KeyError, match="nonsense"):
            el.einsum(text, *[a] * count, optimize="nonsense", backend=backend)
