"""What `el.compile(..., backend="ckks")` gives: called, looked into, refused, and cost."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import einloom as el
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.report import engine_of, run
from einloom.backends.ckks.simulator import Simulator
from einloom.ir.errors import (
    ArgumentError,
    EinloomError,
    LevelError,
    OperandError,
    RankError,
    SlotError,
    UnsupportedError,
)
from einloom.ir.slot_parser import parse_slots

from . import encrypting

RNG = np.random.default_rng(7)
A, B, V = (RNG.uniform(-1, 1, shape) for shape in ((3, 4), (4, 2), (4,)))
ENGINES = pytest.mark.parametrize("engine", ["simulated", "seal"])
MATVEC = "ij,j->i"


def compiled(what: str = MATVEC, **options: Any) -> el.Encrypted:
    return encrypting.compiled(what, **options)


@ENGINES
def test_a_call_encrypts_runs_and_decrypts(engine: Any) -> None:
    f = compiled(shapes=[(3, 4), (4,)], secret=[0], engine=engine)
    found = f(A, V)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, A @ V, atol=f.report.errors["Y"].bound)
    assert np.isclose(f.report.error, np.abs(found - A @ V).max(), rtol=1e-6)
    np.testing.assert_array_equal(f(B=V, A=A).shape, (3,))
    said = str(f.report)
    assert ("simulated, not secure" in said) == (engine == "simulated")
    assert ("not secure" in repr(f)) == (engine == "simulated")


def test_the_report_counts_what_the_plan_says() -> None:
    f = compiled(MATVEC, secret="A", layout="free")
    f(A, V)
    report, counts = f.report, f.packed.counts
    assert (report.rotations, report.key_switches) == (counts.rotations, counts.key_switches)
    assert (report.pt_mults, report.ct_mults) == (counts.pt_mults, counts.ct_mults)
    assert (report.levels, report.ciphertexts) == (counts.levels, counts.ciphertexts)
    assert (report.encodes, report.counts.hoisted) == (counts.encodes, counts.hoisted)
    assert report.key_bytes == counts.key_bytes(report.parameters.degree)
    first = report.encodes
    f(A, V)
    assert f.report.encodes == first - counts.constant_encodes  # those are kept
    assert f.report.rotations == counts.rotations  # of this call alone
    said = json.loads(json.dumps(f.report.as_dict()))
    assert said["key_switches"] == counts.key_switches
    assert said["simulated"] is True
    assert said["errors"]["Y"]["largest"] == f.report.error
    assert sum(said["rotations"].values()) == counts.rotations
    planned = json.loads(json.dumps(counts.as_dict()))
    assert planned["rotations_by_step"].keys() == {str(step) for step in counts.rotation_keys}
    assert planned["hoisted"] == counts.hoisted


def test_it_shows_every_step(tmp_path: Path) -> None:
    f = compiled("ij->ji", shapes=[(3, 4)], passes="squeeze")
    assert [step.text for step in f.steps] == ["parse", "squeeze", "pack"]
    assert parse_slots(f.source) == f.packed.program
    assert "key switches" in f.steps[-1].comment
    assert f.cascade == el.parse(str(f.cascade))
    f.save(tmp_path / "f.slots")
    assert parse_slots((tmp_path / "f.slots").read_text()) == f.packed.program
    for name in ("f.py", "f.o", "f"):
        with pytest.raises(UnsupportedError, match="writes no"):
            f.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["f.slots"]


def test_without_shapes_it_is_packed_for_each_call() -> None:
    f = compiled("...j->...")
    for look in (lambda: f.packed, lambda: f.source, f.client):
        with pytest.raises(ArgumentError, match="not known yet"):
            look()
    with pytest.raises(ArgumentError, match="no report"):
        _ = f.report
    for shape in ((3, 4), (2, 2, 2), (4,)):
        array = RNG.uniform(-1, 1, shape)
        np.testing.assert_allclose(f(array), array.sum(-1), atol=1e-4)
        assert f.packed.program.inputs[0].shape == shape


@pytest.mark.parametrize(
    "dtype", ["i1", "u8", "?", "f2", "f4", "c8", ">f8", "longdouble", ml_dtypes.bfloat16]
)
def test_numbers_of_every_dtype(dtype: Any) -> None:
    a = np.abs(A * 3).astype(dtype)
    wide = a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)
    found = compiled()(a, V)
    assert found.dtype == wide.dtype
    np.testing.assert_allclose(found, wide @ V, atol=1e-4)


def test_complex_numbers() -> None:
    z = A + 1j * RNG.uniform(-1, 1, A.shape)
    for secret in ([0], [1], None):
        np.testing.assert_allclose(compiled(secret=secret)(z, V), z @ V, atol=1e-4)


def test_large_values_get_larger_parameters() -> None:
    f = compiled(shapes=[(3, 4), (4,)], secret=[0])
    f(A, V)
    small = f.report.parameters
    f(A / 2, V)
    assert f.report.parameters == small
    found = f(1000 * A, V)
    assert f.report.parameters.modulus_bits(0) >= small.modulus_bits(0) + 9
    np.testing.assert_allclose(found, 1000 * A @ V, atol=f.report.errors["Y"].bound)


@pytest.mark.parametrize("engine", ["simulated", "seal"])
def test_values_that_wrapped_are_told(engine: Any) -> None:
    """No bound holds of them: nothing is below NaN. What did not wrap has its own."""
    text = """cascade f(A[I,J], B[J]) -> Y, Z {
      Y[i] = A[i,j] * B[j]
      Z[j] = B[j] + B[j]
    }"""
    f = compiled(text, shapes=[(3, 4), (4,)], bound=16, engine=engine)
    f(A, V)
    assert not f.report.wrapped
    assert f.report.as_dict()["errors"]["Y"]["expected"] == f.report.errors["Y"].expected
    y, z = f(10000 * A, V)
    wrong, right = f.report.errors["Y"], f.report.errors["Z"]
    assert np.abs(y - 10000 * A @ V).max() > 1
    assert not wrong.largest < wrong.bound
    assert not np.abs(y - 10000 * A @ V).max() < wrong.expected
    np.testing.assert_allclose(z, 2 * V, atol=right.bound)
    assert list(f.report.wrapped) == ["Y"]
    assert "error of Y       WRONG, values outgrew the modulus and wrapped" in str(f.report)
    said = json.loads(json.dumps(f.report.as_dict(), allow_nan=False))
    assert said["wrapped"] == ["Y"]
    assert said["errors"]["Y"]["bound"] is None


@pytest.mark.filterwarnings("error")
def test_values_too_large_for_any_ring_or_float() -> None:
    f = compiled(shapes=[(3, 4), (4,)], secret=[0])
    with pytest.raises(SlotError, match="the inputs A, B lead to values in einsum that cannot"):
        f(A * 1e300, V * 1e300)
    with pytest.raises(ArgumentError, match="no ring is large enough") as caught:
        f(A * 1e200, V)
    assert "the inputs A, B lead to the largest values" in str(caught.value)
    assert "scale the values down" in str(caught.value)
    one = compiled("i->", shapes=[(4,)])
    with pytest.raises(SlotError, match="the input A leads to values"):
        one(np.full(4, 1.7e308))
    large = compiled(shapes=[(3, 4), (4,)], magnitude=1e308)
    for use in (large.client, lambda: large(A, V)):
        with pytest.raises(ArgumentError, match=r"magnitude=1e\+308 lead to values that no float"):
            use()


def test_an_engine_of_ones_own() -> None:
    engine = Simulator(Parameters.create(8192, [45, 36, 36, 36, 50]), noise=False)
    f = compiled(secret=[0], engine=engine)
    np.testing.assert_allclose(f(A, V), A @ V, atol=1e-7)
    assert f.report.parameters is engine.parameters
    assert f.parameters is engine.parameters


def test_insecure_parameters_are_asked_for() -> None:
    f = compiled("ij,ij->ij", shapes=[(3, 4), (3, 4)], insecure=True)
    np.testing.assert_allclose(f(A, A), A * A, atol=1e-4)
    assert not f.report.parameters.secure
    assert "NOT SECURE" in str(f.report)
    assert compiled("ij,ij->ij", shapes=[(3, 4), (3, 4)]).parameters.secure


@pytest.mark.parametrize("engine", ["simulated", "seal"])
def test_what_is_not_secure_says_so(engine: Any) -> None:
    """Wherever it is printed; what is simulated says that instead."""
    warning = "not secure" if engine == "simulated" else "NOT SECURE"
    shapes = [(3, 4), (3, 4)]
    small = compiled("ij,ij->ij", shapes=shapes, insecure=True, engine=engine)
    own = engine_of(engine, small.parameters)
    for f in (small, compiled("ij,ij->ij", shapes=shapes, engine=own)):
        client = f.client()
        keys, sent = client.keys(), client.encrypt(A, A)
        server = f.server(keys)
        inner = own.client()
        made = (own, inner, own.evaluator(inner.evaluation_keys()))
        for thing in (f, client, keys, sent, server, server.run(sent), *made):
            assert warning in repr(thing)
        assert warning in str(server.counts)
    secure = compiled("ij,ij->ij", shapes=shapes, engine=engine)
    assert "NOT SECURE" not in repr(secure) + repr(secure.client())


def test_numbers_of_numpy_are_options() -> None:
    numbers: dict[str, Any] = {
        "slots": np.int64(16),
        "seed": np.int64(1),
        "levels": np.uint8(3),
        "precision": np.int32(22),
        "magnitude": np.float32(2),
        "bound": np.int16(8),
    }
    f = compiled(shapes=[(3, 4), (4,)], **numbers)
    plain = {name: value.item() for name, value in numbers.items()}
    g = compiled(shapes=[(3, 4), (4,)], **plain)
    np.testing.assert_array_equal(f(A, V), g(A, V))
    assert json.dumps(f.packed.as_dict()) == json.dumps(g.packed.as_dict())
    json.dumps(el.pack(MATVEC, numbers["slots"], shapes=[(3, 4), (4,)]).as_dict())


def test_one_seed_gives_one_result() -> None:
    found = [compiled(seed=seed)(A, V) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).all()


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"backend": "llvm", "secret": [0]}, ArgumentError, "takes no secret="),
        ({"backend": "numpy", "slots": 8, "seed": 1}, ArgumentError, "slots=, seed="),
        ({"backend": "llvm", "secrets": [0]}, ArgumentError, "takes no secrets="),
        ({"secrets": [0]}, ArgumentError, "takes no secrets="),
        ({"dtypes": "f32"}, ArgumentError, "takes no dtypes="),
        ({"optimize": "greedy"}, ArgumentError, "takes no optimize="),
        ({"acc": "f64", "memory_limit": 5}, ArgumentError, "memory_limit=, acc="),
        ({"engine": "helib"}, ArgumentError, "'simulated' or 'seal'"),
        ({"engine": 3}, OperandError, "engine="),
        ({"engine": "seal", "seed": 1}, ArgumentError, "seed="),
        ({"engine": Simulator(Parameters.create(64, [30, 40], insecure=True)), "precision": 9},
         ArgumentError, "of its own"),
        ({"secret": [2]}, ArgumentError, "no input 2"),
        ({"secret": "Q"}, ArgumentError, "no input Q"),
        ({"secret": "A, Q"}, ArgumentError, "no input Q"),
        ({"secret": [True]}, OperandError, "secret="),
        ({"approximate": "sigmoid on -1..1 degree 3"}, ArgumentError, "approximation of sigmoid"),
        ({"approximate": "exp on -1..1 degree 3", "plan": "einhops"}, ArgumentError,
         "approximation of exp"),
        ({"levels": 0, "plan": "einhops"}, LevelError, "Y runs out of levels: EinHops takes"),
        ({"secret": []}, UnsupportedError, "nothing is encrypted"),
        ({"secret": 0.5}, OperandError, "secret="),
        ({"slots": 12}, EinloomError, "power of two"),
        ({"slots": "many"}, OperandError, "slots="),
        ({"layout": "column-major"}, ArgumentError, "row-major, free"),
        ({"plan": "worst"}, ArgumentError, "best, einhops"),
        ({"plan": "einhops", "layout": "free"}, ArgumentError, "EinHops"),
        ({"magnitude": -1}, OperandError, "magnitude="),
        ({"magnitude": True}, OperandError, "magnitude="),
        ({"magnitude": 10**400}, OperandError, "magnitude="),
        ({"bound": "2"}, OperandError, "bound="),
        ({"slots": True}, OperandError, "slots="),
        ({"slots": np.int64(-8)}, EinloomError, "power of two"),
        ({"seed": 1.0}, OperandError, "seed="),
        ({"insecure": "no"}, OperandError, "insecure="),
        ({"insecure": 0}, OperandError, "insecure="),
        ({"precision": 0}, OperandError, "precision="),
        ({"precision": 60}, ArgumentError, "no ring is large enough"),
        ({"semiring": "max_plus"}, UnsupportedError, "max_plus"),
        ({"passes": "no_such_pass"}, EinloomError, "no_such_pass"),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense(
    options: dict[str, Any], error: type[Exception], part: str
) -> None:
    asked: dict[str, Any] = {"backend": "ckks", "shapes": [(3, 4), (4,)], **options}
    with pytest.raises(error) as caught:
        el.compile(MATVEC, **asked)(A, V)
    assert isinstance(caught.value, EinloomError)
    assert part in str(caught.value)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize(
    ("arrays", "named", "error", "part"),
    [
        ((A, [1.0, np.nan, 0, 0]), {}, ArgumentError, "NaN"),
        ((A * np.inf, V), {}, ArgumentError, "infinite"),
        ((A, ["a"] * 4), {}, OperandError, "not numbers"),
        ((A, [None] * 4), {}, OperandError, "not numbers"),
        (([[1, 2], [3]], V), {}, ArgumentError, "cannot be made an array"),
        ((A, V[:3]), {}, RankError, "3"),
        ((A,), {}, EinloomError, "2"),
        ((A, V, V), {}, EinloomError, "2"),
        ((A,), {"C": V}, OperandError, "C is no input"),
        ((A, V), {"B": V}, OperandError, "given twice"),
    ],
    ids=str,
)
def test_inputs_that_are_refused(
    arrays: Any, named: Any, error: type[Exception], part: str, fixed: bool
) -> None:
    f = compiled(shapes=[(3, 4), (4,)]) if fixed else compiled()
    with pytest.raises(error) as caught:
        f(*arrays, **named)
    assert isinstance(caught.value, EinloomError)
    assert part in str(caught.value)


def test_a_refusal_names_the_operand_and_tells_no_value() -> None:
    f = compiled(shapes=[(3, 4), (4,)], secret=[0], magnitude=2.0)
    for wrong in (np.where(A > 0.9, np.nan, 123.456789), A + 123.456789):
        with pytest.raises(ArgumentError) as caught:
            f(wrong, V)
        assert "the input A " in str(caught.value)
        assert "123" not in str(caught.value)


LOGISTIC = """cascade logistic(X[B,F]: f32, W[F]: f32) -> P, N {
  Z[b] = X[b,f] * W[f]
  P[b] = sigmoid(Z[b])
  N    = W[f] * W[f]
}"""


def test_a_cascade_with_an_approximation_and_a_plain_part() -> None:
    """The error that is reported is that of encryption, and beside it that of the polynomial."""
    x, w = RNG.uniform(-1, 1, (5, 6)), RNG.uniform(-1, 1, 6)
    f = compiled(LOGISTIC, secret="X", approximate="sigmoid on -6..6 degree 7", layout="free")
    p, n = f(X=x, W=w)
    exact = 1 / (1 + np.exp(-x @ w))
    ((said, error),) = f.report.approximated.items()
    assert said.startswith("P: sigmoid on -6..6 degree 7")
    assert 1e-4 < np.abs(p - exact).max() < error + f.report.errors["P"].bound < 0.05
    assert np.isclose(n, w @ w, rtol=1e-12)  # in the clear
    assert list(f.report.errors) == ["P"]
    assert f.report.levels == f.packed.lowered.levels[-1].end
    assert "sigmoid" in str(f.report)
    asked = {"sigmoid": el.Approximation(-6, 6, 7)}
    again = compiled(LOGISTIC, secret="X", approximate=asked, layout="free")
    np.testing.assert_array_equal(again(x, w)[0], p)


def test_what_stays_plain_may_be_whole_numbers() -> None:
    """Indices of what is plain are what they are; other values become f64."""
    text = """cascade f(X[B], T[N]: f32, J[B]: i64) -> Y {
      P[b] = T[J[b]] / 2
      Y[b] = X[b] * P[b]
    }"""
    x, t, j = RNG.uniform(-1, 1, 3), RNG.uniform(-1, 1, 4), np.array([3, 0, 3])
    f = compiled(text, secret="X", shapes=[(3,), (4,), (3,)])
    np.testing.assert_allclose(f(x, t, j), x * t[j] / 2, atol=1e-4)
    client = f.client()
    reply = f.server(client.keys()).run(client.encrypt(x), t / 4, j)
    np.testing.assert_allclose(client.decrypt(reply), x * t[j] / 8, atol=1e-4)


def test_too_few_levels_and_no_approximation() -> None:
    shapes = [(5, 6), (6,)]
    with pytest.raises(UnsupportedError, match="sigmoid"):
        compiled(LOGISTIC, secret="X", shapes=shapes)
    with pytest.raises(LevelError, match="P"):
        compiled(
            LOGISTIC, secret="X", shapes=shapes, approximate="sigmoid on -6..6 degree 7", levels=2
        )
    for wrong in ("sigmoid", {"sigmoid": 3}, 3, [("sigmoid", 3)]):
        with pytest.raises(EinloomError, match="pproximation"):
            compiled(LOGISTIC, secret="X", shapes=shapes, approximate=wrong)


@pytest.mark.parametrize("secret", ["B,C", " B , C", ["C", "B"], np.array([1, 2])])
def test_secrets_by_name_and_position(secret: Any) -> None:
    f = compiled("i,i,i->i", shapes=[(2,)] * 3, secret=secret)
    assert [each.name for each in f.packed.program.inputs if each.layout is None] == ["A"]


REFUSED = {
    "A[i+1 else 1.5] * B[i]": "A is filled with 1.5: slots are filled with 0 alone",
    "max[j] M[i,j]": "CKKS has no reduction by max",
    "max(A[i], B[i])": "CKKS has no max",
    "A[i] * B[i]": "Y runs out of levels",
}


@pytest.mark.parametrize("right", list(REFUSED))
def test_a_refusal_has_its_line_and_what_to_do(right: str) -> None:
    text = f"cascade f(A[I], B[I], M[I,J]) -> Y {{\n  Y[i] = {right}\n}}"
    with pytest.raises(EinloomError) as caught:
        compiled(text, shapes=[(4,), (4,), (4, 4)], levels=0)
    assert REFUSED[right] in str(caught.value)
    assert f"line:2\n    Y[i] = {right}\n" in str(caught.value)
    assert "^" in str(caught.value)
    assert "hint: " in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(4, 0), (0,)], "axis 1 of A has extent 0"),
        ([(0, 4), (4,)], "axis 0 of A has extent 0"),
    ],
)
def test_an_extent_of_zero_is_named(shapes: Any, says: str) -> None:
    for plan in ("best", "einhops"):
        with pytest.raises(UnsupportedError, match=says):
            compiled(shapes=shapes, plan=plan)


@pytest.mark.parametrize("engine", ["simulated", "seal"])
def test_values_too_large_to_encode_name_their_input(engine: Any) -> None:
    own = engine_of(engine, Parameters.create(8192, [45, 36, 36, 60]))
    f = compiled(shapes=[(3, 4), (4,)], secret=["A"], engine=own)
    for a, v, name in ((A * 1e30, V, "A"), (A, V * 1e30, "B")):
        with pytest.raises(SlotError, match=f"{name}: the values are too large to encode"):
            f(a, v)


def test_an_approximation_that_nothing_uses_is_refused() -> None:
    text = """cascade f(X[B], W[B]) -> Y {
      P[b] = sigmoid(X[b])
      Q[b] = exp(W[b])
      Y[b] = P[b] * Q[b]
    }"""
    used = "sigmoid on -1..1 degree 3"
    compiled(text, secret="X", shapes=[(4,)] * 2, approximate=used)
    for unused in ("exp", "tanh", "Q", "Y"):
        asked = f"{used}, {unused} on -1..1 degree 3"
        with pytest.raises(ArgumentError, match=f"uses the approximation of {unused}"):
            compiled(text, secret="X", shapes=[(4,)] * 2, approximate=asked)


def test_a_bound_on_what_is_computed_on_the_way() -> None:
    f = compiled("i,i->", shapes=[(64,), (64,)], magnitude=4)
    g = compiled("i,i->", shapes=[(64,), (64,)], magnitude=4, bound=64)
    assert g.parameters.modulus_bits(0) < f.parameters.modulus_bits(0)
    x = RNG.uniform(-1, 1, 64)
    np.testing.assert_allclose(g(x, x), x @ x, atol=1e-3)
    assert isinstance(g(x, x), float)


def test_einsum_does_not_encrypt_by_the_way() -> None:
    with pytest.raises(ArgumentError, match=r"el\.compile"):
        el.einsum(MATVEC, A, V, backend="ckks")


def test_it_is_a_value_without_keys() -> None:
    f = compiled(shapes=[(3, 4), (4,)], secret=[0])
    f(A, V)
    again = pickle.loads(pickle.dumps(f))
    assert again.source == f.source
    np.testing.assert_array_equal(again(A, V), compiled(shapes=[(3, 4), (4,)], secret=[0])(A, V))
    with pytest.raises(ArgumentError, match="no report"):
        _ = pickle.loads(pickle.dumps(f)).report


def test_only_what_is_needed_is_loaded() -> None:
    code = (
        "import sys, einloom as el\n"
        "f = el.compile('i,i->', backend='ckks', shapes=[(4,), (4,)])\n"
        "f([1, 2, 3, 4], [1, 1, 1, 1])\n"
        "print(sorted({'tenseal', 'llvmlite', 'lark'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_random_shapes_are_within_the_reported_error(data: st.DataObject) -> None:
    """Shapes, paddings, secrets, layouts and slots at random."""
    what = data.draw(
        st.sampled_from(["ij,jk->ik", "ij->ji", "ij,j->i", "ii->i", "i,j->ji", "ij->j"])
    )
    size = {label: data.draw(st.integers(1, 6), label=label) for label in "ijk"}
    terms = what.partition("->")[0].split(",")
    shapes = [tuple(size[label] for label in term) for term in terms]
    secret = data.draw(
        st.lists(st.sampled_from(range(len(terms))), min_size=1, unique=True), label="secret"
    )
    layout: Any = data.draw(st.sampled_from(["row-major", "free"]))
    slots = data.draw(st.sampled_from([256, 1024]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    arrays = [rng.uniform(-1, 1, shape) for shape in shapes]
    f = el.compile(
        what,
        backend="ckks",
        shapes=shapes,
        secret=secret,
        layout=layout,
        slots=slots,
        insecure=True,
    )
    error = np.abs(f(*arrays) - np.einsum(what, *arrays)).max()
    assert error <= f.report.errors[f.cascade.outputs[0]].bound


@pytest.mark.parametrize("large", [1e308, 1e308 * (1 + 1j), 1.79e308 * (1 + 1j)])
def test_values_near_the_largest_float_are_refused_by_name(large: complex) -> None:
    f = el.compile("ij,j->i", backend="ckks", shapes=[(4, 4), (4,)])
    with pytest.raises(SlotError, match="the input A leads to values in einsum that cannot"):
        f(np.full((4, 4), large), V)
    with pytest.raises(SlotError, match="the inputs A, B lead to values in einsum that cannot"):
        f(np.full((4, 4), 1e200), V + 1e200)
    for bad in (np.inf, np.nan):
        with pytest.raises(SlotError, match="the input B leads"):
            run(f.packed.program, {"A": np.ones((4, 4)), "B": V * bad})


ACTIVATED = "cascade t(X[I], Y[I]) -> Q {\n Q[i] = tanh(8 * Y[i]) + X[i]\n}"


def test_arguments_that_leave_their_interval_are_said() -> None:
    f = el.compile(
        ACTIVATED, backend="ckks", shapes=[(7,), (7,)], approximate="tanh on -1..1 degree 7"
    )
    x, y = np.zeros(7), np.linspace(-1, 1, 7)
    f(x, y / 8)
    assert not f.report.left
    f(x, y)
    ((text, found),) = f.report.left.items()
    assert text.startswith("Q: tanh on -1..1 degree 7")
    assert found == (-8.0, 8.0)
    assert "WRONG, its arguments are from -8 to 8" in str(f.report)
    assert f.report.as_dict()["left"] == {text: [-8.0, 8.0]}


def test_arguments_of_divisions_and_maxima_are_watched() -> None:
    text = "cascade t(A[I], B[I]) -> Q {\n M[i] = max(A[i], B[i])\n Q[i] = M[i] / B[i]\n}"
    asked = "max on -2..2 degree 3, div on 0.5..2 degree 3"
    f = el.compile(text, backend="ckks", shapes=[(2,), (2,)], approximate=asked)
    f(np.ones(2), np.full(2, 1.5))
    assert not f.report.left
    f(np.array([4.0, 1]), np.array([1.5, 0.25]))
    assert sorted(f.report.left.values()) == [(0.25, 1.5), (0.75, 2.5)]


#: Texts, what is asked for, the ranges of arguments that left -1..1, of X = -0.5, 0.5 and P = 9.
LEAVING: list[tuple[str, str, list[tuple[float, float]]]] = [
    ("Q[i] = max(X[i], 0.25, -X[i] - 3)", "max on -1..1 degree 3", [(-0.75, 4.0)]),
    ("Q[i] = tripled(X[i])", "tanh on -1..1 degree 3", [(-1.5, 1.5)]),
    ("Q[i] = tanh(X[i]) * tanh(P[i])", "tanh on -1..1 degree 3", []),  # P is in the clear
    (
        "ranks V = 2\n S[0,i] = X[i]\n S[v+1,i] = 4 * tanh(S[v,i])\n Q[i] = S[V,i]",
        "tanh on -1..1 degree 3",
        [(-4 * np.tanh(0.5), 4 * np.tanh(0.5))],
    ),
]


@pytest.mark.parametrize("number", range(len(LEAVING)))
def test_arguments_in_scans_and_operators_are_watched(number: int) -> None:
    body, asked, wanted = LEAVING[number]
    text = f"op tripled(x) = tanh(3 * x)\ncascade t(X[I], P[I]) -> Q {{\n {body}\n}}"
    f = el.compile(text, backend="ckks", shapes=[(2,), (2,)], secret="X", approximate=asked)
    f(np.array([-0.5, 0.5]), np.full(2, 9.0))
    assert len(f.report.left) == len(wanted)
    for found, exact in zip(f.report.left.values(), wanted, strict=True):
        np.testing.assert_allclose(found, exact)


@pytest.mark.parametrize(
    ("body", "name", "said"),
    [
        ("X[i] / P[i]", "div", "div: a divisor is plain"),
        ("X[i] + tanh(P[i])", "tanh", "tanh: what it is of is plain"),
        ("X[i] + P[i]", "tanh", None),
    ],
)
def test_why_nothing_uses_an_approximation(body: str, name: str, said: str | None) -> None:
    text, asked = f"cascade t(X[I], P[I]) -> Q {{ Q[i] = {body} }}", f"{name} on 1..2 degree 3"
    with pytest.raises(ArgumentError, match=f"uses the approximation of {name}") as caught:
        el.compile(text, backend="ckks", shapes=[(2,), (2,)], secret="X", approximate=asked)
    deduced = [each for each in str(caught.value).split("\n") if "deduced: " in each]
    assert len(deduced) == (said is not None)
    assert said is None or said in deduced[0]


def test_values_too_large_for_any_ring_may_come_of_an_interval() -> None:
    text = "cascade t(X[I]) -> Q {\n Z[i] = tanh(X[i])\n Q[i] = tanh(Z[i])\n}"
    f = el.compile(text, backend="ckks", shapes=[(2,)], approximate="tanh on -1..1 degree 7")
    for large, error in ((99.0, ArgumentError), (1e60, SlotError)):
        with pytest.raises(error) as caught:
            f(np.array([0, large]))
        assert f"its arguments are from 0 to {large:.3g}" in str(caught.value)
        assert "outside its interval" in str(caught.value)


def test_an_approximation_takes_no_complex_inputs() -> None:
    f = el.compile(
        ACTIVATED, backend="ckks", shapes=[(7,), (7,)], approximate="tanh on -1..1 degree 5"
    )
    y = np.linspace(-1, 1, 7) / 8
    for use in (lambda: f(y, 1j * y), lambda: f.client().encrypt(y, 1j * y)):
        with pytest.raises(OperandError, match="the input Y is complex, and an approximation"):
            use()
    f(y, y + 0j)
