"""The emitted source: golden texts, and that it runs on its own for every shape."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from einloom.backends.numpy.emit import emit
from einloom.backends.numpy.helpers import HELPERS
from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.dtypes import DTYPES, F16, F32, I32
from einloom.ir.einsum import Access, Coordinate, Einsum, Expr, Literal, Map, Reduce
from einloom.ir.errors import OperandError, RankError, UnsupportedError
from einloom.ir.interpreter import evaluate
from einloom.ir.ranks import Rank, RankExpr, Term
from einloom.ir.verify import verify
from einloom.passes.registry import default_pipeline

from ...cascades import Sample, access, classic, declaration, generals, index, products
from ...support import Golden

GOLDENS = [
    ("ij,jk->ik", "f32", "sum_product"),
    ("ij,jk->ki", "f32", "sum_product"),
    ("ijk,jkl->li", "f64", "sum_product"),
    ("bij,bjk->bik", "f32", "sum_product"),
    ("bqhd,bkhd->bhqk", "f16", "sum_product"),
    ("bij,bj->bi", "c64", "sum_product"),
    ("bi,bi->b", "f32", "sum_product"),
    ("ij,jk->ik", "bool", "sum_product"),
    ("ij,jk->ik", "i8", "sum_product"),
    ("ij,jk->ik", "object", "sum_product"),
    ("ij,jk->ik", "f32", "max_plus"),
    ("ij,jk->ik", "f32", "max_times"),
    ("ij,jk->ik", "f64", "log"),
    ("ij,jk->ik", "u8", "xor_and"),
    ("ij,jk,kl->il", "f32", "sum_product"),
    ("i,j->ij", "i8,f32", "sum_product"),
    ("ij->ji", "f32", "sum_product"),
    ("iij->j", "bf16", "sum_product"),
    ("ij->", "i16", "sum_product"),
    ("i->iji", "f32", "max_plus"),
    ("0j,jk->k0", "f32", "sum_product"),
]


def function_of(source: str) -> str:
    """The emitted function without the helpers before it."""
    return source[source.rindex("@np.errstate") :]


def test_classic_golden(golden: Golden) -> None:
    shown: list[str] = []
    for equation, dtypes, semiring in GOLDENS:
        cascade = classic(equation, dtypes, semiring, {"j": 3} if equation == "i->iji" else None)
        shown.append(function_of(emit(cascade)))
    golden("numpy/classic.txt", "\n\n".join(shown))


def attention() -> Cascade:
    """Softmax attention, with a causal filter."""

    def tensor(name: str, indices: str) -> Access:
        return access(name, list(indices))

    def einsum(output: Access, expr: Expr, where: Expr | None = None) -> Einsum:
        otherwise = Literal(float("-inf")) if where and not isinstance(expr, Reduce) else None
        return Einsum(output, expr, where=where, otherwise=otherwise)

    causal = Map("le", (Coordinate("m"), Coordinate("p")))
    qk, masked, sn = tensor("QK", "mp"), tensor("S", "mp"), tensor("SN", "mp")
    score = Map("mul", (tensor("Q", "ep"), tensor("K", "em")))
    scaled = Map("div", (Reduce("add", ("e",), score), Map("sqrt", (Coordinate("E"),))))
    shifted = Map("sub", (masked, tensor("GM", "p")))
    weighted = Map("mul", (Map("div", (sn, tensor("SD", "p"))), tensor("V", "fm")))
    einsums = (
        einsum(qk, scaled),
        einsum(masked, qk, causal),
        einsum(tensor("GM", "p"), Reduce("max", ("m",), masked)),
        einsum(sn, Map("exp", (shifted,))),
        einsum(tensor("SD", "p"), Reduce("add", ("m",), sn)),
        einsum(tensor("AV", "fp"), Reduce("add", ("m",), weighted)),
    )
    inputs = tuple(declaration(n, i, F32) for n, i in (("Q", "ep"), ("K", "em"), ("V", "fm")))
    ranks = tuple(Rank(name) for name in ("E", "P", "M", "F"))
    return verify(Cascade("attention", ranks, inputs, einsums, ("AV",)))


def convolution() -> Cascade:
    """A padded convolution by windows, an embedding lookup, and a piece read out of range."""
    window = RankExpr((Term(1, (), "p"), Term(1, (), "r")), -1)
    padded = Access("X", (index("b"), window), Literal(0))
    looked_up = Access("D", (Access("J", (index("b"),)), index("c")))
    shifted = Access("X", (index("b"), RankExpr((Term(1, (), "p"),), 1)))
    body = Map("mul", (padded, access("W", "r")))
    einsums = (
        Einsum(access("Y", "bp"), Reduce("add", ("r",), body)),
        Einsum(access("Z", "bc"), looked_up),
        Einsum(access("S", "b"), Reduce("max", ("p",), shifted)),
    )
    inputs = (
        declaration("X", "bh", F32),
        declaration("W", "r", F32),
        declaration("D", "vc", F16),
        declaration("J", "b", I32),
    )
    size = RankExpr((Term(1, ("H",)), Term(-1, ("R",))), 1)
    ranks = (*map(Rank, ("B", "H", "R", "V", "C")), Rank("P", size))
    return verify(Cascade("convolution", ranks, inputs, einsums, ("Y", "Z", "S")))


def test_cascade_golden(golden: Golden) -> None:
    golden("numpy/attention.py.txt", emit(attention()))
    golden("numpy/convolution.py.txt", emit(convolution()))


def test_attention_runs() -> None:
    rng = np.random.default_rng(0)
    shapes = {"Q": (4, 5), "K": (4, 6), "V": (3, 6)}
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    got = run_alone(emit(attention()))(*arrays.values())
    np.testing.assert_allclose(got, evaluate(attention(), arrays)["AV"], rtol=1e-5)


# ---- it stands alone


def run_alone(source: str) -> Any:
    """The function of a module that has nothing but what it imports itself."""
    scope: dict[str, Any] = {"__name__": "emitted"}
    exec(compile(source, "emitted.py", "exec"), scope)
    tree = ast.parse(source)
    (*_, function) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return scope[function.name]


def check_alone(source: str) -> None:
    """It imports NumPy and little else, uses every name it defines, and leaves einsum alone."""
    tree = ast.parse(source)
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert {"numpy"} <= imported <= {"numpy", "math", "ml_dtypes"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not re.search(r"np\s*\.\s*einsum|opt_einsum|einloom", source.replace("def einsum", ""))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for helper in functions[:-1]:
        assert helper.name in HELPERS
        assert helper.name in names
    stored = [
        node.id
        for node in ast.walk(functions[-1])
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    loaded = {
        node.id
        for node in ast.walk(functions[-1])
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert set(stored) <= loaded, "a name that nothing reads"


@given(products())
def test_products_stand_alone(sample: Sample) -> None:
    after, _ = default_pipeline().run(sample.cascade)
    for cascade in (sample.cascade, after):
        source = emit(cascade)
        check_alone(source)
        with np.errstate(all="ignore"):
            got = run_alone(source)(*sample.arrays.values())
        assert np.shape(got) == evaluate(cascade, sample.arrays)["Y"].shape


@settings(max_examples=30)
@given(generals())
def test_general_cascades_stand_alone(sample: Sample) -> None:
    check_alone(emit(sample.cascade))


def test_it_runs_as_a_file(tmp_path: Path) -> None:
    """In a Python that does not find einloom."""
    source = emit(classic("ij,jk->ik", "bf16"))
    (tmp_path / "emitted.py").write_text(source)
    script = (
        "import sys, numpy as np, ml_dtypes, emitted\n"
        "a = np.ones((2, 3), ml_dtypes.bfloat16)\n"
        "print(emitted.einsum(a, a.T).tolist(), 'einloom' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[[3.0, 3.0], [3.0, 3.0]] False\n", done.stderr


@given(products())
def test_one_text_serves_all_shapes(sample: Sample) -> None:
    """Sizes are read off the inputs; only a rank that no input has is a number in the text."""
    plain = sample.cascade
    held = {e.rank for decl in plain.inputs for e in decl.extents}
    other = Cascade(
        plain.name,
        tuple(Rank(r.name, 7 if r.name in held else r.shape) for r in plain.ranks),
        plain.inputs,
        plain.einsums,
        plain.outputs,
    )
    assert emit(other) == emit(plain)


def test_a_vector_of_sizes() -> None:
    """`P = H - R + 1` stays a formula in the text."""
    source = emit(convolution())
    assert "P = max(H - R + 1, 0)" in source
    convolve = run_alone(source)
    for width in (3, 8):
        x, w = np.ones((2, width), np.float32), np.ones(3, np.float32)
        d, j = np.ones((4, 2), np.float16), np.zeros(2, np.int32)
        y, _, _ = convolve(x, w, d, j)
        assert y.shape == (2, width - 2)


# ---- names


def test_names_that_mean_something_in_python() -> None:
    names = ["np", "lambda", "out", "range", "I", "blocks", "ﬁ", "fi", "None", "i"]
    inputs = tuple(TensorDecl(n, (RankExpr.of_size("I_"),), F32) for n in names)
    read = tuple(access(n, ["i_"]) for n in names)
    einsum = Einsum(access("def", []), Reduce("max", ("i_",), Map("add", read)))
    cascade = verify(Cascade("while", (Rank("I_"),), inputs, (einsum,), ("def",)))
    source = emit(cascade)
    got = run_alone(source)(*(np.full(2, 10.0**n, np.float32) for n in range(len(names))))
    assert got == np.float32(1111111111)


def test_a_cascade_without_a_name() -> None:
    cascade = classic("i->i")
    source = emit(Cascade("", cascade.ranks, cascade.inputs, cascade.einsums, cascade.outputs))
    assert "def cascade(A_):" in source


# ---- what cannot be emitted


def test_errors() -> None:
    with pytest.raises(OperandError, match="dtype of A_ is not known"):
        emit(classic("i->i", ""))
    assert emit(classic("i->i", ""), {"A_": F32}) == emit(classic("i->i", "f32"))
    with pytest.raises(RankError, match="rank J follows from no input"):
        emit(classic("i->ij"))
    variables = [f"v{n}" for n in range(65)]
    window = RankExpr(tuple(Term(1, (), v) for v in variables))
    cascade = Cascade(
        "c",
        tuple(Rank(v.upper(), 2) for v in variables),
        (TensorDecl("A", (RankExpr((), 100),), F32),),
        (Einsum(access("Y", []), Reduce("add", tuple(variables), Access("A", (window,)))),),
        ("Y",),
    )
    with pytest.raises(UnsupportedError, match="64 axes"):
        emit(verify(cascade))


def test_every_dtype_is_named() -> None:
    for name in DTYPES:
        assert run_alone(emit(classic("i->i", name)))(np.zeros(2, DTYPES[name].numpy)).shape == (2,)
