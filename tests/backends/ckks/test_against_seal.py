"""The simulator against Microsoft SEAL on the same primes: traces, verdicts, counts, noise."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from einloom.backends.ckks.engine import Ciphertext, Slots
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.seal import Seal
from einloom.backends.ckks.simulator import Simulator
from einloom.ir.errors import EinloomError

from .engines import DEEP, SMALL, Pair, both, pair, vector

UNARY = ("negate", "square", "relinearize", "rescale", "mod_switch")
BINARY = ("add", "sub", "multiply")
PLAIN = ("add_plain", "sub_plain", "multiply_plain")


def trace(it: Pair, seed: int, length: int = 60) -> tuple[list[str], list[Ciphertext]]:
    """A random program, mistakes included: what each step gave, or how it was refused."""
    choose = np.random.default_rng(seed)
    held = [it.client.encrypt(it.client.encode(vector(DEEP, k))) for k in (1, 2)]
    held.append(it.client.encrypt(it.client.encode(vector(DEEP, 3), level=1)))
    seen: list[str] = []
    made: Ciphertext
    for _ in range(length):
        a, b = (held[int(choose.integers(0, len(held)))] for _ in range(2))
        operation = str(choose.choice([*UNARY, *BINARY, *PLAIN, "rotate"]))
        scale = float(choose.choice([a.scale, DEEP.scale, 2.0**20]))
        level = int(choose.choice([a.level, a.level, 0]))
        step = int(choose.choice([0, 1, 3, -1, 4, 5]))
        try:
            if operation in UNARY:
                made = getattr(it.server, operation)(a)
            elif operation in BINARY:
                made = getattr(it.server, operation)(a, b)
            elif operation in PLAIN:
                plain = it.server.encode(vector(DEEP, 4), level=level, scale=scale)
                made = getattr(it.server, operation)(a, plain)
            else:
                made = it.server.rotate(a, step)
        except EinloomError as refused:
            text = str(refused).replace(a.owner, "owner")
            seen.append(f"{operation}: {type(refused).__name__}: {text}")
        else:
            held.append(made)
            seen.append(f"{operation}: {made.level} {made.scale.hex()} {made.size}")
    return seen, held


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_leave_the_same_trace(seed: int) -> None:
    simulated, seal = both(DEEP, seed)
    ours, mine = trace(simulated, seed)
    theirs, real = trace(seal, seed)
    assert ours == theirs
    assert simulated.server.counts == seal.server.counts
    assert any("Error" in step for step in ours)
    expected = Simulator(DEEP).expected_error
    for a, b in zip(mine, real, strict=True):
        x, y = simulated.client.decrypt(a), seal.client.decrypt(b)
        if np.abs(x).max() < 1e3:  # neither wrapped, nor lost at a scale that is too small
            error = expected(a)
            assert (x - y).real.std() < 20 * error


Run: TypeAlias = Callable[[Pair, Ciphertext, Ciphertext], Ciphertext]
#: What is done with a = x, b = y; what exactly comes of it; by how much the noise may differ.
NOISE: dict[str, tuple[Run, Callable[[Slots, Slots], Slots], float]] = {
    "fresh": (lambda it, a, b: a, lambda x, y: x, 0.15),
    "add": (lambda it, a, b: it.server.add(a, b), lambda x, y: x + y, 0.15),
    "ct·pt": (
        lambda it, a, b: it.server.multiply_plain(a, it.server.encode(vector(DEEP, 2))),
        lambda x, y: x * y,
        0.15,
    ),
    "ct·ct": (
        lambda it, a, b: it.server.relinearize(it.server.multiply(a, b)),
        lambda x, y: x * y,
        0.15,
    ),
    "rescale": (
        lambda it, a, b: it.server.rescale(it.server.relinearize(it.server.multiply(a, b))),
        lambda x, y: x * y,
        0.15,
    ),
    "rescale of size 3": (
        lambda it, a, b: it.server.rescale(it.server.multiply(a, b)),
        lambda x, y: x * y,
        0.15,
    ),
    "rotate": (lambda it, a, b: it.server.rotate(a, 5), lambda x, y: np.roll(x, -5), 1.0),
}


@pytest.mark.parametrize("name", NOISE)
def test_the_noise_is_that_of_seal(name: str) -> None:
    """Standard deviations over 5 keys, real and imaginary parts alike."""
    run, exact, tolerance = NOISE[name]
    x, y = vector(DEEP, 1), vector(DEEP, 2)
    wanted = exact(x, y)
    squares: dict[str, list[float]] = {"simulated": [], "seal": []}
    for seed in range(5):
        for it in both(DEEP, seed):
            a, b = (it.client.encrypt(it.client.encode(z)) for z in (x, y))
            error = it.client.decrypt(run(it, a, b)) - wanted
            squares[it.engine.name] += [
                float(np.mean(error.real**2)),
                float(np.mean(error.imag**2)),
            ]
    ours, theirs = (np.sqrt(np.mean(squares[name])) for name in ("simulated", "seal"))
    assert 1 / (1 + tolerance) < ours / theirs < 1 + tolerance


def test_a_key_switch_with_a_small_special_prime() -> None:
    """q0 as large as P: the digits' noise outweighs the rounding.

    The median over the slots: in a few of them, where the digits' mean stands out, the error is a
    multiple of one random number a key.
    """
    found: dict[str, list[float]] = {"simulated": [], "seal": []}
    for seed in range(5):
        for it in both(SMALL, seed):
            a = it.client.encrypt(it.client.encode(vector(SMALL, 1)))
            before, after = it.client.decrypt(a), it.client.decrypt(it.server.rotate(a, 5))
            found[it.engine.name].append(float(np.median(np.abs(after - np.roll(before, -5)))))
    ours, theirs = (np.mean(found[name]) for name in ("simulated", "seal"))
    assert 0.85 < ours / theirs < 1.15
    assert ours > 2 * np.sqrt(np.log(2)) * SMALL.degree / 6 / SMALL.scale  # of the rounding alone


def misuses(it: Pair) -> dict[str, Callable[[], object]]:
    """What may not be done."""
    client, server, p = it.client, it.server, it.server.parameters
    x = vector(p, 1)
    a = client.encrypt(client.encode(x))
    low = server.mod_switch(a)
    bottom = server.mod_switch(low)
    product = server.multiply(a, a)
    wide = client.encrypt(client.encode(x, scale=2.0**60))
    return {
        "missing rotation key": lambda: server.rotate(a, 16),
        "missing negative key": lambda: server.rotate(a, -1),
        "level mismatch": lambda: server.add(a, low),
        "level mismatch of a product": lambda: server.multiply(a, low),
        "level mismatch of a plaintext": lambda: server.add_plain(low, server.encode(x)),
        "level mismatch of a plain product": lambda: server.multiply_plain(
            a, server.encode(x, level=0)
        ),
        "scale mismatch": lambda: server.sub(a, wide),
        "scale mismatch of a plaintext": lambda: server.sub_plain(
            a, server.encode(x, scale=2.0**30)
        ),
        "exhaustion by rescale": lambda: server.rescale(bottom),
        "exhaustion by mod_switch": lambda: server.mod_switch(bottom),
        "scale out of bounds of a product": lambda: server.multiply(wide, wide),
        "scale out of bounds of a square": lambda: server.square(wide),
        "scale out of bounds of a plain product": lambda: server.multiply_plain(
            wide, server.encode(x, scale=2.0**60)
        ),
        "scale out of bounds below": lambda: server.mod_switch(
            server.mod_switch(client.encrypt(client.encode(x, scale=2.0**50)))
        ),
        "scale out of bounds at encoding": lambda: server.encode(x, scale=2.0**116),
        "scale of nothing": lambda: server.encode(x, scale=0),
        "rotation of size 3": lambda: server.rotate(product, 1),
        "oversize vector": lambda: server.encode(np.ones(p.slots + 1)),
        "oversize value": lambda: server.encode([2.0**10] * p.slots, level=0),
        "value that is no number": lambda: server.encode([np.nan]),
        "transparent difference": lambda: server.sub(a, a),
        "transparent product": lambda: server.multiply_plain(a, server.encode([0.0])),
        "no such level": lambda: server.encode(x, level=3),
    }


@pytest.mark.parametrize("name", misuses(pair(Simulator(DEEP))))
def test_a_misuse_is_refused_in_the_same_words(name: str) -> None:
    said: list[tuple[type[Exception], str]] = []
    for it in both(DEEP):
        attempt = misuses(it)[name]
        with pytest.raises(EinloomError) as refused:
            attempt()
        said.append((type(refused.value), str(refused.value)))
    assert said[0] == said[1]


def raw_misuses(it: Pair) -> dict[str, Callable[[], object]]:
    """The same put to SEAL itself, past the rules that both engines share."""
    p, client, server = it.server.parameters, it.client, it.server
    context: Any = vars(it.engine)["_context"]
    api, raw = context.api, vars(server)["_seal"]
    x = vector(p, 1)

    def fresh(scale: float = p.scale) -> Any:
        return client.encrypt(client.encode(x, scale=scale)).payload

    def encode(values: Any, level: int, scale: float) -> Any:
        return context.encode(np.asarray(values, np.complex128), level, scale).payload

    a, wide, top = fresh(), fresh(2.0**60), p.top_level
    product = server.multiply(*2 * [client.encrypt(client.encode(x))]).payload
    low = server.mod_switch(client.encrypt(client.encode(x)))
    bottom = server.mod_switch(low).payload
    galois = vars(server)["_galois"]

    def out(method: Any, *operands: Any) -> Any:
        return method(*operands, api.Ciphertext())

    return {
        "missing rotation key": lambda: out(raw.rotate_vector, a, 16, galois),
        "missing negative key": lambda: out(raw.rotate_vector, a, -1, galois),
        "level mismatch": lambda: out(raw.add, a, low.payload),
        "level mismatch of a product": lambda: out(raw.multiply, a, low.payload),
        "level mismatch of a plaintext": lambda: out(
            raw.add_plain, low.payload, encode(x, top, p.scale)
        ),
        "level mismatch of a plain product": lambda: out(
            raw.multiply_plain, a, encode(x, 0, p.scale)
        ),
        "scale mismatch": lambda: out(raw.sub, a, wide),
        "scale mismatch of a plaintext": lambda: out(raw.sub_plain, a, encode(x, top, 2.0**30)),
        "exhaustion by rescale": lambda: out(raw.rescale_to_next, bottom),
        "exhaustion by mod_switch": lambda: out(raw.mod_switch_to_next, bottom),
        "scale out of bounds of a product": lambda: out(raw.multiply, wide, wide),
        "scale out of bounds of a square": lambda: out(raw.square, wide),
        "scale out of bounds of a plain product": lambda: out(
            raw.multiply_plain, wide, encode(x, top, 2.0**60)
        ),
        "scale out of bounds below": lambda: out(
            raw.mod_switch_to_next,
            server.mod_switch(client.encrypt(client.encode(x, scale=2.0**50))).payload,
        ),
        "scale out of bounds at encoding": lambda: encode(x, top, 2.0**116),
        "scale of nothing": lambda: encode(x, top, 0.0),
        "rotation of size 3": lambda: out(raw.rotate_vector, product, 1, galois),
        "oversize vector": lambda: encode(np.ones(p.slots + 1), top, p.scale),
        "oversize value": lambda: encode([2.0**10] * p.slots, 0, p.scale),
        "value that is no number": lambda: encode([np.nan], top, p.scale),
        "transparent difference": lambda: out(raw.sub, a, a),
        "transparent product": lambda: out(raw.multiply_plain, a, encode([0.0], top, p.scale)),
        "no such level": lambda: encode(x, 3, p.scale),
    }


def test_seal_itself_refuses_every_misuse() -> None:
    it = pair(Seal(DEEP))
    attempts = raw_misuses(it)
    assert set(attempts) == set(misuses(it))
    for name, attempt in attempts.items():
        refused = False
        try:
            attempt()
        except (ValueError, RuntimeError, KeyError):  # KeyError: a level that its chain has not
            refused = True
        assert refused, name


def test_without_a_relinearisation_key() -> None:
    said = list[str]()
    for engine in (Simulator(DEEP), Seal(DEEP)):
        it = pair(engine, (), relinearization=False)
        a = it.client.encrypt(it.client.encode([1.0]))
        with pytest.raises(EinloomError) as refused:
            it.server.relinearize(it.server.square(a))
        said.append(str(refused.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("bits", [(60, 60), (36, 24, 37), (36, 36, 37)])
def test_seal_judges_the_budget_alike(bits: tuple[int, ...]) -> None:
    """109 bits are allowed at N = 4096."""
    parameters = Parameters.create(4096, bits, insecure=True)
    context: Any = vars(Seal(parameters))["_context"]
    api = context.api
    wanted = api.EncryptionParameters(api.SCHEME_TYPE.CKKS)
    wanted.set_poly_modulus_degree(4096)
    wanted.set_coeff_modulus([api.Modulus(q) for q in (*parameters.primes, parameters.special)])
    judged = api.SEALContext(wanted, True, api.SEC_LEVEL_TYPE.TC128)
    assert judged.parameters_set() == parameters.secure


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_bounds_at_encoding_are_those_of_seal(level: int) -> None:
    """Scales and values around the largest that fit, given to SEAL past the rules."""
    simulated, seal = both(DEEP)
    context: Any = vars(seal.engine)["_context"]
    bits = DEEP.modulus_bits(level)

    def verdict(run: Callable[[], object]) -> bool:
        try:
            run()
        except (ValueError, EinloomError):
            return False
        return True

    verdicts = list[bool]()
    for scale in (bits - 2, bits - 1.5, bits - 1.01, bits - 1, bits - 0.5, bits):
        x = np.zeros(DEEP.slots, np.complex128)
        ours = verdict(lambda: simulated.client.encode(x, level=level, scale=2.0**scale))  # noqa: B023
        assert ours == verdict(lambda: context.encode(x, level, 2.0**scale)), scale  # noqa: B023
        verdicts.append(ours)
    for size in (bits - 34, bits - 33, bits - 32.5, bits - 32, bits - 31.9, bits - 31):
        x = np.full(DEEP.slots, 2.0**size, np.complex128)
        x[::2] *= 0.999
        ours = verdict(lambda: simulated.client.encode(x, level=level, scale=2.0**30))  # noqa: B023
        assert ours == verdict(lambda: context.encode(x, level, 2.0**30)), size  # noqa: B023
        verdicts.append(ours)
    assert set(verdicts) == {True, False}


def test_powers_of_two_serve_every_rotation() -> None:
    x = vector(DEEP, 1)
    for it in both(DEEP, steps="powers-of-two"):
        a = it.client.encrypt(it.client.encode(x))
        turned = it.server.rotate_many(a, (7, 11, -3))
        for step, got in zip((7, 11, -3), turned, strict=True):
            np.testing.assert_allclose(it.client.decrypt(got), np.roll(x, -step), atol=1e-5)
        assert it.server.counts.key_switches == 2 + 3 + 2  # 8 - 1, 8 + 4 - 1, -4 + 1
        assert it.server.counts.hoisted == 0


def test_the_size_of_a_key_is_what_seal_holds() -> None:
    keys = pair(Seal(DEEP)).client.evaluation_keys(())
    parts: Any = keys.payload.relinearization.data(0)
    assert sum(8 * part.data().dyn_array().size() for part in parts) == keys.bytes
    fresh = pair(Seal(DEEP)).client
    held: Any = fresh.encrypt(fresh.encode([1.0])).payload
    assert 8 * held.dyn_array().size() == DEEP.ciphertext_bytes
