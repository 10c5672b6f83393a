"""What a LoopProgram costs: counted by hand for each kind of nest."""

from __future__ import annotations

import pytest

import einloom as el
from einloom.ir.infer import infer_dtypes
from einloom.passes.loops.cost import LoopCost, cost_of
from einloom.passes.loops.lower import lower


def cost(text: str, **sizes: int) -> LoopCost:
    cascade = el.parse(text)
    names = (*(decl.name for decl in cascade.inputs), *cascade.outputs)
    extents = cascade.extents()
    layouts = {name: len(extents[name]) - 1 if extents[name] else None for name in names}
    program = lower(cascade, infer_dtypes(cascade, {}), layouts)
    return cost_of(program, sizes)


HEAD = "cascade f(A[I,J]: f32, B[J,K]: f32, b[K]: f32) -> Y {"
SIZES = {"I": 300, "J": 200, "K": 1000}


def test_a_product() -> None:
    found = cost(f"{HEAD} Y[i,k] = A[i,j]*B[j,k] }}", **SIZES)
    assert found.operations == 2 * 300 * 200 * 1000
    assert found.moved == 4 * (300 * 200 + 200 * 1000 + 300 * 1000)
    # Columns are packed once; rows again for each of two blocks of 24 tiles of two vectors.
    assert found.packed == 4 * (200 * 1000 + 2 * 300 * 200)


def test_what_is_done_around_a_product() -> None:
    apart = f"{HEAD} T[i,k] = A[i,j]*B[j,k]\n Y[i,k] = relu(T[i,k] + b[k]) }}"
    together = cost(apart, **SIZES)
    assert [nest.name for nest in together.nests] == ["Y"]
    assert together.operations == 2 * 300 * 200 * 1000 + 2 * 300 * 1000
    assert together.moved == 4 * (300 * 200 + 200 * 1000 + 1000 + 300 * 1000)
    scaled = cost(f"{HEAD} C[j,k] = B[j,k]*b[k]\n Y[i,k] = A[i,j]*C[j,k] }}", **SIZES)
    assert scaled.operations == 2 * 300 * 200 * 1000 + 200 * 1000


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_loops(size: int) -> None:
    text = "cascade f(A[I]: f64, B[I]: f64) -> Y { Y[i] = 2*A[i] + B[i] }"
    found = cost(text, I=size)
    assert found.operations == pytest.approx(2 * size)
    assert found.moved == 3 * 8 * size
    assert found.packed == 0


def test_what_is_written_past_the_caches() -> None:
    text = "cascade f(A[I,J]: f64, B[I,J]: f64) -> Y { Y[i,j] = A[i,j] * B[i,j] }"
    found = cost(text, I=1024, J=1024)
    assert found.operations == 1 << 20
    assert found.moved == 3 * 8 << 20


def test_a_scan() -> None:
    text = "cascade f(A[T,I]: f32) -> X { X[0,i] = 0.0\n X[t+1,i] = X[t,i] + A[t,i] }"
    assert cost(text, T=5, I=64).operations == pytest.approx(5 * 64)


def test_it_prints() -> None:
    found = cost("cascade f(A[I,J]: f32) -> Y { Y[j,i] = A[i,j] }", I=64, J=64)
    assert str(found).splitlines()[0].split() == ["nest", "operations", "bytes", "moved", "packed"]
    assert found.summary == "0 operations, 32768 bytes moved"
    f = el.compile("ij,j->i", shapes=[(4, 5), (5,)], dtypes="f64")
    assert f.steps[-1].comment == (
        "loop nests, for C-ordered arrays: 40 operations, 232 bytes moved"
    )
