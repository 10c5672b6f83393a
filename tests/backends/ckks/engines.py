"""What the tests of the encrypted engines share."""

from dataclasses import dataclass

import numpy as np

from einloom.backends.ckks.engine import Client, Engine, Evaluator, Slots, Steps
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.seal import Seal
from einloom.backends.ckks.simulator import Simulator

#: Small enough to be quick; q0 and P of one size, the case in which key switches are noisy.
SMALL = Parameters.create(4096, [36, 24, 36], scale=2.0**24)
#: Two levels, and a special prime that hides the noise of key switches.
DEEP = Parameters.create(8192, [45, 36, 36, 60])


@dataclass(frozen=True)
class Pair:
    """A client and the evaluator that holds its keys."""

    engine: Engine
    client: Client
    server: Evaluator


def pair(engine: Engine, steps: Steps = (1, 2, 5), *, relinearization: bool = True) -> Pair:
    client = engine.client()
    keys = client.evaluation_keys(steps, relinearization=relinearization)
    return Pair(engine, client, engine.evaluator(keys))


def both(parameters: Parameters, seed: int = 0, steps: Steps = (1, 2, 5)) -> tuple[Pair, Pair]:
    """The simulator, counting rotations as SEAL does them, and SEAL."""
    return (
        pair(Simulator(parameters, seed=seed, hoisting=False), steps),
        pair(Seal(parameters), steps),
    )


def vector(parameters: Parameters, seed: int = 0) -> Slots:
    """Complex slots with parts in [-1, 1)."""
    generator = np.random.default_rng(seed)
    parts = generator.uniform(-1, 1, (parameters.slots, 2))
    return (parts[:, 0] + 1j * parts[:, 1]).astype(np.complex128)
