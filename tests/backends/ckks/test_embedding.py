"""Slots and coefficients: the definition, the way back, and SEAL's own encoder."""

from typing import Any

import numpy as np
import pytest

from einloom.backends.ckks.embedding import to_coefficients, to_slots
from einloom.backends.ckks.rotations import powers_of_two, route
from einloom.ir.errors import SlotError

from .engines import SMALL, both, vector


def test_a_slot_is_a_value_of_the_polynomial() -> None:
    degree = 32
    coefficients = np.random.default_rng(0).standard_normal(degree)
    zeta = np.exp(1j * np.pi / degree)
    expected = [
        sum(c * zeta ** (i * pow(3, j, 2 * degree)) for i, c in enumerate(coefficients))
        for j in range(degree // 2)
    ]
    slots = to_slots(coefficients)
    np.testing.assert_allclose(slots, expected, atol=1e-12)
    np.testing.assert_allclose(to_coefficients(slots), coefficients, atol=1e-12)


@pytest.mark.parametrize("scale", [2.0**12, 2.0**24])
def test_the_encoders_round_alike(scale: float) -> None:
    simulated, seal = both(SMALL)
    context: Any = vars(seal.engine)["_context"]
    for values in (vector(SMALL), vector(SMALL).real, np.ones(5)):
        ours = simulated.client.encode(values, scale=scale).payload.slots
        theirs = seal.client.encode(values, scale=scale).payload
        decoded = np.array(context.encoder.decode_complex(theirs))
        np.testing.assert_allclose(ours, decoded, atol=1e-12)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 170, 255])
def test_a_route_adds_up(step: int) -> None:
    held = set(powers_of_two(256))
    parts = route(step, held, 256)
    assert sum(parts) % 256 == step
    assert set(parts) <= held
    assert len(parts) <= 4


def test_a_route_by_the_keys_that_are_there() -> None:
    assert route(7, {7, 1, 2, 4}, 256) == (7,)
    assert route(7, {8, 255}, 256) == (255, 8)
    assert route(7, {1, 2, 4}, 256) == (1, 2, 4)
    with pytest.raises(SlotError, match="no key for the rotation by 7"):
        route(7, {1, 2, 3, 8}, 256)


@pytest.mark.parametrize(
    ("step", "needed"),
    [
        (7, "the key of step 7, or those of 8, 255 together, or those of 1, 2, 4 together"),
        (4, "the key of step 4"),
        (252, "the key of step 252, or those of 4, 8, 16, 32, 64, 128 together"),
    ],
)
def test_a_missing_key_is_named_once(step: int, needed: str) -> None:
    with pytest.raises(SlotError) as caught:
        route(step, {3}, 256)
    assert caught.value.deduced == (f"it needs {needed}",)
    assert caught.value.passed == ("keys for the steps 3",)
