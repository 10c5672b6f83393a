"""Parameters: SEAL's primes, SEAL's security budget, a choice that is large enough."""

import math
from typing import Any

import numpy as np
import pytest

from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.primes import is_prime, ntt_primes
from einloom.backends.ckks.seal import sealapi
from einloom.backends.ckks.security import STANDARD_2018
from einloom.backends.ckks.simulator import Simulator
from einloom.ir.errors import ArgumentError, OperandError

from .engines import SMALL, pair


@pytest.mark.parametrize("degree", [1024, 8192, 32768])
@pytest.mark.parametrize("bits", [(60, 40, 40, 60), (30, 25, 25, 35, 45, 60), (22, 22, 60, 60)])
def test_the_primes_are_those_of_seal(degree: int, bits: tuple[int, ...]) -> None:
    theirs = [q.value() for q in sealapi().CoeffModulus.Create(degree, list(bits))]
    assert list(ntt_primes(degree, bits)) == theirs


def test_primality() -> None:
    sieve = [all(n % d for d in range(2, math.isqrt(n) + 1)) for n in range(2, 2000)]
    assert [is_prime(n) for n in range(2, 2000)] == sieve
    assert not is_prime(3215031751)  # a strong pseudoprime to 2, 3, 5 and 7
    assert not is_prime(0)
    assert not is_prime(1)


@pytest.mark.parametrize(("degree", "bits"), STANDARD_2018.items())
def test_the_budget_is_that_of_seal(degree: int, bits: int) -> None:
    api = sealapi()
    assert api.CoeffModulus.MaxBitCount(degree, api.SEC_LEVEL_TYPE.TC128) == bits


def test_a_modulus_over_the_budget_needs_the_flag() -> None:
    with pytest.raises(ArgumentError, match=r"200 bits is over the budget of 128-bit security"):
        Parameters.create(4096, [60, 40, 40, 60])
    parameters = Parameters.create(4096, [60, 40, 40, 60], insecure=True)
    assert not parameters.secure
    assert "NOT SECURE" in str(parameters)


@pytest.mark.parametrize(
    ("degree", "bits", "message"),
    [
        (5000, (40, 40), "ring degree 5000"),
        (8192, (61, 40), "2 to 60 bits, not 61"),
        (8192, (40,), "two primes or more"),
        (8192, (15, 15, 40), "there are only . primes of 15 bits"),
    ],
)
def test_what_is_not_a_chain(degree: int, bits: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Parameters.create(degree, bits)


def test_primes_that_do_not_fit() -> None:
    good = Parameters.create(8192, [40, 40, 41])
    q, p = good.primes[0], good.special
    for primes, special in [((q, q), p), ((q,), q), ((q + 16384,), p), ((12289,), p), ((), p)]:
        with pytest.raises(ArgumentError):
            Parameters(8192, primes, special, 2.0**40)
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ArgumentError, match="scale"):
            Parameters(8192, (q,), p, scale)


def test_a_round_trip_by_json() -> None:
    parameters = Parameters.create(8192, [60, 40, 40, 60], scale=2.0**40 * 1.1)
    again = Parameters.from_json(parameters.to_json())
    assert again == parameters
    assert hash(again) == hash(parameters)
    assert again.digest == parameters.digest
    assert Parameters.create(8192, [60, 40, 40, 59]).digest != parameters.digest
    for text in ("", "[]", "{}", '{"degree": "x"}', parameters.to_json().replace("8192", "4096")):
        with pytest.raises(ArgumentError):
            Parameters.from_json(text)


@pytest.mark.parametrize("slots", [1, 3000, 16384])
@pytest.mark.parametrize("depth", [0, 1, 7])
def test_the_choice_has_room(slots: int, depth: int) -> None:
    parameters = Parameters.choose(slots=slots, depth=depth, precision=20, magnitude=100)
    assert parameters.slots >= slots
    assert parameters.top_level == depth
    assert parameters.secure
    half = parameters.degree // 2
    if half >= 2 * slots and half in STANDARD_2018:  # a ring of half the degree would not do
        assert parameters.bits > STANDARD_2018[half]


@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_precise_enough(seed: int) -> None:
    """20 bits on every slot, after each kind of noise."""
    parameters = Parameters.choose(slots=4096, depth=1, precision=20)
    it = pair(Simulator(parameters, seed=seed), (3,))
    x = np.random.default_rng(seed).uniform(-1, 1, parameters.slots)
    fresh = it.client.encrypt(it.client.encode(x))
    half = it.server.encode(np.full(parameters.slots, 0.5))
    halved = it.server.rescale(it.server.multiply_plain(fresh, half))
    rotated = it.server.rotate(halved, 3)
    for ciphertext, exact in ((fresh, x), (halved, x / 2), (rotated, np.roll(x / 2, -3))):
        error = np.abs(it.client.decrypt(ciphertext).real - exact).max()
        assert 2.0**-26 < error < 2.0**-20


def test_no_ring_is_large_enough() -> None:
    with pytest.raises(ArgumentError, match="no ring is large enough"):
        Parameters.choose(slots=1024, depth=200)


def test_how_it_prints() -> None:
    assert str(Parameters.create(8192, [60, 40, 40, 60])) == (
        "CKKS: N = 8192, 4096 slots, levels 2 to 0\n"
        "  primes: 60 40 40 bits, special 60 bits\n"
        "  modulus: 200 bits of 218 allowed, 128-bit security; newer estimates allow 214\n"
        "  scale: 2^40"
    )


@pytest.mark.parametrize("wrong", ["no", 1, None, np.True_])
def test_insecure_is_true_or_false(wrong: Any) -> None:
    with pytest.raises(OperandError, match="insecure="):
        Parameters.create(1024, [40, 40, 40], insecure=wrong)
    with pytest.raises(OperandError, match="insecure="):
        Parameters.choose(slots=512, depth=0, insecure=wrong)
    text = SMALL.to_json().replace("false", '"no"')
    with pytest.raises(ArgumentError, match="not CKKS parameters"):
        Parameters.from_json(text)
