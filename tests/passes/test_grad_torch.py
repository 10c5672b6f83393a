"""Adjoint cascades against torch's own gradients, where torch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import einloom as el

from .test_grad_cascades import ATTENTION, CONVOLUTION, LAYERNORM

torch: Any = pytest.importorskip("torch")
RNG = np.random.default_rng(0)


def compare(text: str, function: Any, seed: Any, **arrays: Any) -> None:
    """Holds the adjoint by every input to torch's backward pass of `function`."""
    adjoint = el.grad(text, wrt=list(arrays))
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    function(**tensors).backward(torch.tensor(seed))
    (cotangent,) = (decl.name for decl in adjoint.inputs[len(arrays) :])
    results = el.compile(adjoint)(**arrays, **{cotangent: seed})
    for number, name in enumerate(arrays):
        result = results[number] if len(arrays) > 1 else results
        np.testing.assert_allclose(result, tensors[name].grad.numpy(), rtol=1e-9, atol=1e-12)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def test_attention() -> None:
    def attention(Q: Any, K: Any, V: Any) -> Any:
        scores = torch.einsum("ep,em->pm", Q, K) / Q.shape[0] ** 0.5
        kept = torch.arange(6)[None, :] <= torch.arange(5)[:, None] + 1
        weights = torch.softmax(scores.masked_fill(~kept, -torch.inf), dim=1)
        return torch.einsum("pm,fm->fp", weights, V)

    compare(ATTENTION, attention, normal(3, 5), Q=normal(4, 5), K=normal(4, 6), V=normal(3, 6))


def test_layernorm() -> None:
    def layernorm(X: Any, G: Any, C: Any) -> Any:
        return torch.nn.functional.layer_norm(X, (7,), G, C, eps=1e-5)

    compare(LAYERNORM, layernorm, normal(3, 7), X=normal(3, 7), G=normal(7), C=normal(7))


def test_convolution() -> None:
    def conv(X: Any, F: Any) -> Any:
        return torch.nn.functional.conv2d(X[None], F, stride=2, padding=1)[0]

    compare(CONVOLUTION, conv, normal(3, 4, 3), X=normal(2, 7, 6), F=normal(3, 2, 3, 3))


def test_products_and_maxima() -> None:
    text = "cascade f(X[I,J]: f64) -> Y { Y[i] = prod[j] (X[i,j]) + max[j] (X[i,j]) }"
    X = normal(4, 3)
    X[1, 2] = X[2, 0] = X[2, 1] = 0

    def function(X: Any) -> Any:
        return X.prod(1) + X.amax(1)

    compare(text, function, normal(4), X=X)


def test_the_first_of_equal_maxima() -> None:
    adjoint = el.grad("cascade f(X[I]: f64) -> Y { Y = max[i] X[i] }", wrt="X")
    x = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64, requires_grad=True)
    x.max(dim=0).values.backward()
    np.testing.assert_array_equal(el.evaluate(adjoint, X=[1.0, 2.0, 2.0]), x.grad.numpy())
