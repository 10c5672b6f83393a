"""The simulator: what it computes, its noise, its silence about overflow, its secrets."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from einloom.backends.ckks.engine import Ciphertext
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.seal import Seal
from einloom.backends.ckks.simulator import Simulator
from einloom.ir.errors import OperandError, SlotError

from .engines import DEEP, SMALL, pair, vector


def test_rotation_is_left_and_cyclic() -> None:
    it = pair(Simulator(DEEP), (1, 2, 5))
    x = np.arange(DEEP.slots) / DEEP.slots
    one = it.client.encrypt(it.client.encode(x))
    for step in (1, 5, -DEEP.slots + 2, DEEP.slots + 1):
        got = it.client.decrypt(it.server.rotate(one, step))
        np.testing.assert_allclose(got.real, np.roll(x, -step), atol=1e-5)
    assert it.server.rotate(one, 0) is one
    assert it.server.rotate(one, DEEP.slots) is one
    assert it.server.counts.rotations == {1: 2, 5: 1, 2: 1}


def test_one_seed_gives_one_result_in_any_order() -> None:
    def run(seed: int, *, first: int = 1) -> list[bytes]:
        it = pair(Simulator(DEEP, seed=seed))
        one = it.client.encrypt(it.client.encode(vector(DEEP)))
        done = {step: it.server.rotate(one, step) for step in (first, 3 - first)}
        return [it.client.decrypt(done[step]).tobytes() for step in (1, 2)]

    assert run(7) == run(7)
    assert run(7) == run(7, first=2)
    assert run(7)[0] != run(8)[0]


def test_padding_holds_noise() -> None:
    it = pair(Simulator(DEEP))
    got = it.client.decrypt(it.client.encrypt(it.client.encode([1.0, 2.0])))
    assert (got[2:].real != 0).all()
    assert (got[2:].imag != 0).all()
    assert 0 < got[2:].real.std() < 1e-6


def test_two_encryptions_differ() -> None:
    it = pair(Simulator(DEEP))
    plain = it.client.encode([1.0])
    a, b = it.client.encrypt(plain), it.client.encrypt(plain)
    assert (it.client.decrypt(a) != it.client.decrypt(b)).all()


def test_without_noise_only_rounding_is_left() -> None:
    it = pair(Simulator(DEEP, noise=False))
    x = np.zeros(DEEP.slots)
    x[3] = 1
    one = it.client.encrypt(it.client.encode(x))
    got = it.client.decrypt(it.server.rotate(one, 2))
    assert np.array_equal(got, np.roll(it.client.decrypt(one), -2))


def test_a_value_that_outgrows_the_modulus_wraps_in_silence() -> None:
    engine = Simulator(SMALL)
    it = pair(engine)
    room = 2.0 ** (SMALL.log2_modulus(0) - 1) / SMALL.scale
    x = it.client.encrypt(it.client.encode(np.full(SMALL.slots, 0.4 * room), level=0))
    thrice = it.server.add(it.server.add(x, x), x)
    assert (thrice.level, thrice.scale) == (0, x.scale)
    np.testing.assert_allclose(it.client.decrypt(thrice).real, -0.8 * room, rtol=1e-3)
    assert engine.expected_error(thrice) == math.inf


def test_what_no_float_holds_is_garbage_within_the_modulus() -> None:
    wide = Parameters.create(1024, [60] * 12, scale=2.0**20, insecure=True)
    it = pair(Simulator(wide))
    x = it.client.encrypt(it.client.encode([1e150] * wide.slots))
    product = it.server.multiply(x, x)
    again = it.server.multiply(it.server.relinearize(product), x)
    got = it.client.decrypt(it.server.add(again, again))
    assert np.isfinite(got).all()


def test_the_expected_error_is_the_one_measured() -> None:
    engine = Simulator(DEEP, seed=3)
    it = pair(engine)
    x, y = vector(DEEP, 1), vector(DEEP, 2)
    a, b = (it.client.encrypt(it.client.encode(z)) for z in (x, y))
    server = it.server
    product = server.multiply(a, b)
    cases = {
        "fresh": (a, x),
        "add": (server.add(a, b), x + y),
        "multiply": (product, x * y),
        "square": (server.square(a), x * x),
        "plain": (server.multiply_plain(a, server.encode(y)), x * y),
        "rescale of size 3": (server.rescale(product), x * y),
        "rescale": (server.rescale(server.relinearize(product)), x * y),
        "rotate": (server.rotate(a, 5), np.roll(x, -5)),
    }
    for name, (ciphertext, exact) in cases.items():
        measured = float((it.client.decrypt(ciphertext) - exact).real.std())
        assert measured == pytest.approx(engine.expected_error(ciphertext), rel=0.15), name


def test_noise_is_not_alike_on_all_slots() -> None:
    """It follows the secret's value on each slot, as in a real scheme."""
    client = Simulator(DEEP).client()
    errors = [client.decrypt(client.encrypt(client.encode([0.0]))).real for _ in range(60)]
    each = np.std(errors, axis=0)
    assert each.max() / each.min() > 10


def test_what_nobody_needs_a_key_to_read_is_refused() -> None:
    it = pair(Simulator(DEEP))
    a = it.client.encrypt(it.client.encode(vector(DEEP)))
    plain = it.server.encode(vector(DEEP, 1))
    server = it.server
    zeros = server.encode([0.0])
    attempts: list[Callable[[], Ciphertext]] = [
        lambda: server.sub(a, a),
        lambda: server.add(a, server.negate(a)),
        lambda: server.multiply_plain(a, zeros),
        lambda: server.sub(server.rotate(a, 1), server.rotate(a, 1)),
        lambda: server.sub(server.multiply_plain(a, plain), server.multiply_plain(a, plain)),
        lambda: server.sub(server.square(a), server.square(a)),
    ]
    for attempt in attempts:
        with pytest.raises(SlotError, match="transparent"):
            attempt()
    server.sub(server.rotate(a, 1), server.rotate(a, 2))
    server.sub(server.add_plain(a, zeros), server.rotate(a, 1))


def test_hoisting_is_counted() -> None:
    it = pair(Simulator(DEEP))
    a = it.client.encrypt(it.client.encode([1.0]))
    turned = it.server.rotate_many(a, (0, 1, 2, 3, 5, 1))
    assert turned[0] is a
    assert turned[1] is turned[5]
    counts = it.server.counts
    assert counts.rotations == {1: 1, 2: 1, 3: 1, 5: 1}
    assert (counts.key_switches, counts.hoisted) == (5, 2)  # 3 = 1 + 2 has no key of its own


@pytest.mark.parametrize("engine", [Simulator(SMALL), Seal(SMALL)], ids=["simulated", "seal"])
def test_rotations_are_by_whole_numbers(engine: Simulator | Seal) -> None:
    it = pair(engine)
    a = it.client.encrypt(it.client.encode([1.0, 2.0]))
    one: Any = np.int8(1)
    assert it.client.decrypt(it.server.rotate(a, one))[0] == pytest.approx(2, abs=0.1)
    wrong: Any
    for wrong in (1.5, "1", None):
        with pytest.raises(OperandError, match="whole number of slots"):
            it.server.rotate(a, wrong)
        with pytest.raises(OperandError, match="whole number of slots"):
            it.client.evaluation_keys([wrong])


def test_nothing_printed_tells_a_secret() -> None:
    it = pair(Simulator(DEEP))
    plain = it.client.encode([0.123456789])
    a = it.client.encrypt(plain)
    keys = it.client.evaluation_keys((1,))
    shown = [repr(x) for x in (it.client, it.server, it.engine, plain, a, keys, a.payload)]
    with pytest.raises(SlotError) as refused:
        it.server.rotate(a, 77)
    shown += [str(refused.value), str(it.server.counts)]
    assert not [text for text in shown if "0.1234" in text or "array" in text]
    for printed in (repr(it.engine), repr(it.client), repr(it.server), str(it.server.counts)):
        assert "simulated, not secure" in printed
    assert "simulated" in repr(a)


def test_other_keys_do_not_decrypt() -> None:
    engine = Simulator(DEEP)
    mine, other = engine.client(), engine.client()
    a: Ciphertext = mine.encrypt(mine.encode([1.0]))
    with pytest.raises(SlotError, match="under other keys"):
        other.decrypt(a)
    with pytest.raises(SlotError, match="under other keys"):
        engine.evaluator(other.evaluation_keys()).negate(a)
    assert not [name for name in dir(pair(engine).server) if "decrypt" in name or "secret" in name]
