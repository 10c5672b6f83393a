"""Each cascade of examples/ against a formula that NumPy computes, under every way to run it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import einloom as el
from einloom.__main__ import main
from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade

from .support import ROOT

Array: TypeAlias = Any
#: Inputs, and the outputs that are right for them.
Case: TypeAlias = tuple[dict[str, Array], dict[str, Array]]
Make: TypeAlias = Callable[..., Case]

FOLDER = ROOT / "examples"
CASES: dict[str, tuple[Make, list[tuple[int, ...]]]] = {}


def example(*shapes: tuple[int, ...]) -> Callable[[Make], Make]:
    """The maker of the cases of the example of its name, for each of these sizes."""

    def register(make: Make) -> Make:
        CASES[make.__name__] = (make, list(shapes))
        return make

    return register


def normal(rng: np.random.Generator, *shape: int, dtype: str = "f4") -> Array:
    return rng.standard_normal(shape).astype(dtype)


def softmax(x: Array, axis: int = -1) -> Array:
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def wide(*arrays: Array) -> list[Array]:
    return [a.astype("f8") for a in arrays]


def attended(rng: np.random.Generator, e: int, p: int, m: int, f: int) -> Case:
    q, k, v = normal(rng, e, p), normal(rng, e, m), normal(rng, f, m)
    q8, k8, v8 = wide(q, k, v)
    return {"Q": q, "K": k, "V": v}, {"AV": v8 @ softmax(q8.T @ k8).T}


ATTENTION = ((1, 1, 1, 1), (3, 5, 63, 2), (4, 2, 130, 3), (5, 1, 64, 1))


@example(*ATTENTION)
def attention(rng: np.random.Generator, *sizes: int) -> Case:
    return attended(rng, *sizes)


@example(*ATTENTION)
def attention_two_pass(rng: np.random.Generator, *sizes: int) -> Case:
    return attended(rng, *sizes)


@example(*ATTENTION)
def attention_one_pass(rng: np.random.Generator, *sizes: int) -> Case:
    return attended(rng, *sizes)


@example((1, 1, 1, 1), (2, 7, 3, 5), (3, 16, 8, 4))
def causal_attention(rng: np.random.Generator, h: int, n: int, e: int, f: int) -> Case:
    q, k, v = normal(rng, h, n, e), normal(rng, h, n, e), normal(rng, h, n, f)
    q8, k8, v8 = wide(q, k, v)
    scores = q8 @ k8.swapaxes(1, 2) / math.sqrt(e)
    scores[:, ~np.tri(n, dtype=bool)] = -np.inf
    return {"Q": q, "K": k, "V": v}, {"AV": softmax(scores) @ v8}


@example((1, 1, 1, 1, 1, 1, 1), (2, 2, 3, 5, 7, 4, 3))
def grouped_query_attention(rng: np.random.Generator, *sizes: int) -> Case:
    b, g, h, p, m, e, f = sizes
    q, k, v = normal(rng, b, g, h, p, e), normal(rng, b, g, m, e), normal(rng, b, g, m, f)
    q8, k8, v8 = wide(q, k, v)
    k8, v8 = (np.repeat(x[:, :, None], h, 2) for x in (k8, v8))
    scores = q8 @ k8.swapaxes(-1, -2) / math.sqrt(e)
    return {"Q": q, "K": k, "V": v}, {"AV": softmax(scores) @ v8}


@example((1, 1), (3, 7), (2, 64))
def layernorm(rng: np.random.Generator, b: int, d: int) -> Case:
    x, g, s = normal(rng, b, d), normal(rng, d), normal(rng, d)
    x8, g8, s8 = wide(x, g, s)
    scaled = (x8 - x8.mean(1, keepdims=True)) / np.sqrt(x8.var(1, keepdims=True) + 1e-5)
    return {"X": x, "G": g, "S": s}, {"Y": scaled * g8 + s8}


@example((1, 1), (3, 7), (2, 64))
def rmsnorm(rng: np.random.Generator, b: int, d: int) -> Case:
    x, g = normal(rng, b, d), normal(rng, d)
    x8, g8 = wide(x, g)
    return {"X": x, "G": g}, {"Y": x8 / np.sqrt((x8**2).mean(1, keepdims=True) + 1e-6) * g8}


@example((1, 1), (1, 5), (9, 4))
def softmax_cross_entropy(rng: np.random.Generator, b: int, c: int) -> Case:
    x, t = normal(rng, b, c) * 50, rng.integers(0, c, b)
    picked = softmax(x.astype("f8"))[np.arange(b), t]
    return {"X": x, "T": t}, {"LOSS": -np.log(picked).mean()}


@example((1, 1, 1, 1, 1, 1, 1, 1), (2, 3, 2, 4, 7, 8, 3, 3), (1, 2, 1, 3, 5, 9, 1, 2))
def conv2d(rng: np.random.Generator, *sizes: int) -> Case:
    n, g, k, c, h, w, r, s = sizes
    x, f = normal(rng, n, g, c, h, w), normal(rng, g, k, c, r, s)
    x8, f8 = wide(x, f)
    padded = np.pad(x8, ((0, 0),) * 3 + ((1, 1),) * 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (r, s), (3, 4))[:, :, :, ::2, ::2]
    return {"X": x, "F": f}, {"Y": np.einsum("ngcpqrs,gkcrs->ngkpq", windows, f8)}


@example((1, 1, 1, 1), (5, 7, 3, 2))
def linear_attention(rng: np.random.Generator, p: int, m: int, e: int, f: int) -> Case:
    q, k, v = normal(rng, p, e), normal(rng, m, e), normal(rng, m, f)
    q8, k8, v8 = wide(q, k, v)
    phi: list[Array] = [np.where(x > 0, x + 1, np.exp(x)) for x in (q8, k8)]
    weights: Array = phi[0] @ phi[1].T
    return {"Q": q, "K": k, "V": v}, {"AV": weights / weights.sum(1, keepdims=True) @ v8}


@example((1, 1, 1), (7, 3, 2), (12, 4, 5))
def second_order_linear_attention(rng: np.random.Generator, p: int, e: int, f: int) -> Case:
    q, k, v = normal(rng, p, e), normal(rng, p, e), normal(rng, p, f)
    q8, k8, v8 = wide(q, k, v)
    lower = np.tril(q8 @ k8.T)
    return {"Q": q, "K": k, "V": v}, {"O": np.tril(lower @ lower.T) @ v8}


@example((1, 1, 1, 1, 1), (9, 3, 4, 5, 2))
def selective_scan(rng: np.random.Generator, t: int, d: int, k: int, n: int, o: int) -> Case:
    x, w, b, c = normal(rng, t, d), normal(rng, k, d), normal(rng, n, d), normal(rng, o, n)
    a = normal(rng, k, n, n) / np.float32(n)
    x8, w8, a8, b8, c8 = wide(x, w, a, b, c)
    state, outputs = np.zeros(n), list[Array]()
    for step in x8:
        state = np.tensordot(softmax(w8 @ step), a8, 1) @ state + b8 @ step
        outputs.append(c8 @ state)
    return {"X": x, "W": w, "A": a, "B": b, "C": c}, {"Y": np.array(outputs)}


def markov(rng: np.random.Generator, n: int, s: int, t: int) -> dict[str, Array]:
    logs = {
        "PI": np.log(rng.dirichlet(np.ones(n))),
        "A": np.log(rng.dirichlet(np.ones(n), n)),
        "B": np.log(rng.dirichlet(np.ones(s), n)),
    }
    return {**logs, "X": rng.integers(0, s, t)}


def path_weights(given: dict[str, Array]) -> dict[tuple[int, ...], float]:
    """The log-probability of every path of states, one by one."""
    pi, a, b, x = (given[name] for name in ("PI", "A", "B", "X"))
    return {
        path: pi[path[0]]
        + sum(a[i, j] for i, j in itertools.pairwise(path))
        + sum(b[i, symbol] for i, symbol in zip(path, x, strict=True))
        for path in itertools.product(range(len(pi)), repeat=len(x))
    }


@example((1, 1, 1), (3, 2, 5), (2, 3, 1))
def hmm_forward(rng: np.random.Generator, n: int, s: int, t: int) -> Case:
    given = markov(rng, n, s, t)
    return given, {"LL": np.log(np.sum(np.exp(list(path_weights(given).values()))))}


@example((1, 1, 1), (3, 2, 5), (2, 3, 1))
def hmm_posterior(rng: np.random.Generator, n: int, s: int, t: int) -> Case:
    given = markov(rng, n, s, t)
    weights = {path: np.exp(weight) for path, weight in path_weights(given).items()}
    found = np.zeros((t, n))
    for path, weight in weights.items():
        found[np.arange(t), list(path)] += weight / sum(weights.values())
    return given, {"G": found}


@example((0, 0), (0, 3), (4, 0), (1, 1), (7, 5), (9, 12))
def edit_distance(rng: np.random.Generator, i: int, j: int) -> Case:
    s, t = (rng.integers(0, 3, n).astype("i4") for n in (i, j))

    @functools.cache
    def between(a: tuple[int, ...], b: tuple[int, ...]) -> int:
        if not a or not b:
            return len(a) + len(b)
        if a[-1] == b[-1]:
            return between(a[:-1], b[:-1])
        return 1 + min(between(a[:-1], b), between(a, b[:-1]), between(a[:-1], b[:-1]))

    return {"S": s, "T": t}, {"E": np.int64(between(tuple(s.tolist()), tuple(t.tolist())))}


@example((1, 1, 1), (3, 2, 5), (2, 3, 1), (2, 4, 7))
def viterbi(rng: np.random.Generator, n: int, s: int, t: int) -> Case:
    given = markov(rng, n, s, t)
    weights = path_weights(given)
    best = max(weights, key=lambda path: weights[path])
    return given, {"BEST": np.float64(weights[best]), "PATH": np.array(best)}


@example((1,), (7,), (10,))
def shortest_paths(rng: np.random.Generator, n: int) -> Case:
    w = np.where(rng.random((n, n)) < 0.4, rng.integers(1, 20, (n, n)).astype(float), np.inf)
    found = np.where(np.eye(n, dtype=bool), np.minimum(w, 0), w)
    for _ in range(n):  # one more edge: Bellman and Ford's way, not Floyd's
        found = np.minimum(found, (found[:, :, None] + np.where(np.isnan(w), 0, w)).min(1))
    cycles = (found[:, :, None] + w).min(1)  # from i to i, the language's diagonal is a real path
    answer = np.where(np.eye(n, dtype=bool), np.minimum(w, cycles), found)
    return {"W": w}, {"Y": answer}


@example((1, 1, 1), (2, 2, 3), (5, 2, 2), (4, 3, 1))
def cky(rng: np.random.Generator, n: int, a: int, w: int) -> Case:
    x, u, r = rng.integers(0, w, n), normal(rng, a, w, dtype="f8"), normal(rng, a, a, a, dtype="f8")

    def inside(words: Array) -> Array:
        if len(words) == 1:
            return np.exp(u[:, words[0]])
        total = np.zeros(a)
        for cut in range(1, len(words)):
            total += np.einsum("abc,b,c", np.exp(r), inside(words[:cut]), inside(words[cut:]))
        return total

    return {"X": x, "U": u, "R": r}, {"Z": np.log(inside(x))}


@example((1, 1, 1), (5, 3, 2), (4, 2, 3))
def sum_product_network(rng: np.random.Generator, n: int, r: int, k: int) -> Case:
    x, p = rng.random((n, 2 * r)) < 0.5, rng.uniform(0.1, 0.9, (2 * r, k))
    w = rng.dirichlet(np.ones(k * k), (r, k)).reshape(r, k, k, k)
    pi = rng.dirichlet(np.ones(k))
    leaf = np.where(x[:, :, None], p, 1 - p)
    mixed = np.einsum("rkij,nri,nrj->nrk", w, leaf[:, ::2], leaf[:, 1::2])
    given = {"X": x, "P": p, "W": np.log(w), "PI": np.log(pi)}
    return given, {"LL": np.log(mixed.prod(1) @ pi)}


@example((1, 1), (3, 5), (8, 4))
def stabiliser(rng: np.random.Generator, p: int, n: int) -> Case:
    names = ("X", "Z", "XX", "XZ", "ZX", "ZZ")
    given = {name: rng.random((p if len(name) == 1 else n, n)) < 0.5 for name in names}
    x, z, xx, xz, zx, zz = (array.astype(int) for array in given.values())
    nx, nz = (x @ xx + z @ zx) % 2, (x @ xz + z @ zz) % 2
    anti = (nx @ nz.T + nz @ nx.T) % 2
    return given, {"NX": nx == 1, "NZ": nz == 1, "ANTI": anti == 1}


@example((1, 1), (9, 4), (300, 299))
def hamming(rng: np.random.Generator, n: int, m: int) -> Case:
    t, p = rng.integers(0, 3, n).astype("u1"), rng.integers(0, 3, m).astype("u1")
    windows = np.lib.stride_tricks.sliding_window_view(t, m)
    return {"T": t, "P": p}, {"D": np.count_nonzero(windows != p, axis=1)}


@example((1, 1, 1), (3, 127, 5), (5, 301, 9))
def vector_symbolic(rng: np.random.Generator, r: int, d: int, i: int) -> Case:
    k, m = (rng.choice(np.array([-1, 1], "i1"), (n, d)) for n in (r, i))
    v = m[rng.integers(0, i, r)]
    bundle = np.sign(np.sum(k.astype(int) * v, 0))
    return {"K": k, "V": v, "M": m}, {"B": bundle, "BEST": np.argmax(k * bundle @ m.T, 1)}


def products_of_two() -> tuple[Array, Array, Array]:
    """U and V of Strassen's and Winograd's products, with two more that others add up to; W."""
    ours = "1001 1001|0011 1000|1000 010m|0001 m010|1100 0001|m010 1100|010m 0011"
    theirs = "1000 1000|0100 0010|11mm 0001|0001 1mm1|0011 m100|m011 1m01|10m0 0m01"
    digits = {"0": 0.0, "1": 1.0, "m": -1.0}
    pairs: list[Any] = [
        tuple(np.array([digits[c] for c in side]) for side in pair.split())
        for pair in f"{ours}|{theirs}".split("|")
    ]
    span: Array = np.array([np.outer(*pair).ravel() for pair in pairs])
    linalg: Any = np.linalg
    parity: list[tuple[Array, Array]] = []
    signs = np.array(list(itertools.product((0.0, 1.0, -1.0), repeat=4)))[1:]
    for a, b in itertools.product(signs, signs):
        product: Array = np.outer(a, b).ravel()
        known = any(np.array_equal(abs(product), abs(old)) for old in span)
        made = span.T @ linalg.lstsq(span.T, product)[0]
        if not known and np.allclose(made, product, rtol=0, atol=1e-9):
            parity.append((a, b))
        if len(parity) == 2:
            break
    pairs += parity
    u, v = (np.asarray(side).reshape(-1, 2, 2) for side in zip(*pairs, strict=True))
    targets: Array = np.zeros((2, 2, 16))
    for i, j, k in np.ndindex(2, 2, 2):
        targets[i, k, np.ravel_multi_index((2 * i + j, 2 * j + k), (4, 4))] = 1
    # By Strassen's products alone, so that every one of these is missed where it is lost.
    w = np.zeros((2, 2, len(u)))
    first = linalg.pinv(span[:7])
    w[:, :, :7] = np.einsum("iks,sr->ikr", targets, first)
    return u, v, w


@example(*((2, 3, 2, lost) for lost in range(16)), (1, 1, 1, 4))
def strassen(rng: np.random.Generator, x: int, y: int, z: int, lost: int) -> Case:
    a, b = normal(rng, 2, 2, x, y, dtype="f8"), normal(rng, 2, 2, y, z, dtype="f8")
    u, v, w = products_of_two()
    products: Array = np.einsum("rij,rkl->ijklr", u, v).reshape(16, -1)
    checks = np.linalg.svd(products)[2][np.linalg.matrix_rank(products) :]
    given = {"A": a, "B": b, "U": u, "V": v, "W": w, "H": checks, "LOST": np.int64(lost)}
    return given, {"C": np.einsum("ijxy,jkyz->ikxz", a, b)}


@example((1, 1, 1, 1), (3, 4, 5, 2))
def mttkrp(rng: np.random.Generator, i: int, j: int, k: int, r: int) -> Case:
    x, b, c = (normal(rng, *s, dtype="f8") for s in ((i, j, k), (j, r), (k, r)))
    khatri_rao: Array = (b[:, None] * c[None]).reshape(j * k, r)
    return {"X": x, "B": b, "C": c}, {"Y": x.reshape(i, j * k) @ khatri_rao}


@example((1, 1, 1, 1, 1, 1), (2, 3, 2, 5, 4, 3))
def tucker(rng: np.random.Generator, *sizes: int) -> Case:
    a, b, c, i, j, k = sizes
    g, u, v, w = (normal(rng, *s, dtype="f8") for s in ((a, b, c), (i, a), (j, b), (k, c)))
    core: Array = g.reshape(a, b * c)
    kron: Any = np.kron
    both = kron(v, w)
    return {"G": g, "U": u, "V": v, "W": w}, {
        "X": np.reshape(u @ core @ both.T, (i, j, k)),
    }


@example((1, 1), (4, 2), (5, 3))
def kalman_predict(rng: np.random.Generator, n: int, c: int) -> Case:
    f, b, x, u, p, q = (
        normal(rng, *s, dtype="f8") for s in ((n, n), (n, c), (n,), (c,), (n, n), (n, n))
    )
    given = {"F": f, "B": b, "X": x, "U": u, "P": p, "Q": q}
    return given, {"XP": f @ x + b @ u, "PP": f @ p @ f.T + q}


@example((1, 1, 1), (3, 7, 5), (2, 16, 3))
def lmul(rng: np.random.Generator, i: int, j: int, k: int) -> Case:
    a, b = normal(rng, i, j), normal(rng, j, k)
    a[0, 0] = 0

    def times(x: Array, y: Array) -> Array:
        where: Any = np.where
        frexp: Any = np.frexp
        (p, e), (q, d) = (frexp(abs(z.astype("f8"))) for z in (x, y))
        part: Array = (2 * p - 1) + (2 * q - 1) + 1 / 16
        # What runs over adds to the exponent.
        carried = where(part < 1, 1 + part, 2 * part)
        scale = np.exp2(e + d - 2.0)
        return where((x == 0) | (y == 0), 0, np.sign(x) * np.sign(y) * carried * scale)

    return {"A": a, "B": b}, {"C": times(a[:, :, None], b[None]).sum(1)}


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.ein"


def test_every_example_has_a_formula() -> None:
    assert {path.stem for path in FOLDER.glob("*.ein")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_it_is_read_back(name: str) -> None:
    cascade = parse_cascade(path_of(name).read_text("utf-8"))
    assert parse_cascade(str(cascade)) == cascade
    assert Cascade.from_json(cascade.to_json()) == cascade


@pytest.mark.parametrize("how", ["interpreter", "numpy", "llvm"])
@pytest.mark.parametrize(
    ("name", "sizes"),
    [(name, sizes) for name, (_, all_sizes) in CASES.items() for sizes in all_sizes],
)
def test_it_computes_what_it_says(name: str, sizes: tuple[int, ...], how: str) -> None:
    cascade = parse_cascade(path_of(name).read_text("utf-8"))
    given, wanted = CASES[name][0](np.random.default_rng(sum(sizes)), *sizes)
    before = el.fallbacks()
    if how == "interpreter":
        found = el.evaluate(cascade, **given)
    else:
        found = el.compile(cascade, backend=how)(**given)
    if len(cascade.outputs) == 1:
        found = {cascade.outputs[0]: found}
    elif how != "interpreter":
        found = dict(zip(cascade.outputs, found, strict=True))
    assert el.fallbacks() == before
    single = any(np.asarray(array).dtype == np.float32 for array in given.values())
    for output, value in wanted.items():
        got = np.asarray(found[output])
        assert got.shape == np.shape(value)
        assert got.dtype.kind == np.asarray(value).dtype.kind
        assert not single or got.dtype == np.float32
        np.testing.assert_allclose(got, value, *((2e-5, 2e-5) if single else (1e-10, 1e-10)))


def test_the_command_line_finds_what_a_file_uses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "twice.ein").write_text("cascade twice(A[I]: f64) -> B { B[i] = 2 * A[i] }")
    (tmp_path / "four.ein").write_text(
        'use "twice.ein"\ncascade four(A[I]: f64) -> C {\n  B = twice(A)\n  C = twice(B)\n}'
    )
    np.save(tmp_path / "a.npy", np.arange(3.0))
    assert main(["run", str(tmp_path / "four.ein"), str(tmp_path / "a.npy")]) == 0
    assert "[0. 4. 8.]" in capsys.readouterr().out
    assert main(["show", str(path_of("attention"))]) == 0
    assert "cascade attention(" in capsys.readouterr().out
