"""CKKS operation by operation: the simulator against SEAL, in time and in the error it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from einloom.backends.ckks.engine import Ciphertext, Client, Evaluator, Slots
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.seal import Seal
from einloom.backends.ckks.simulator import Simulator

from .measure import Row, Table, compare

PARAMETERS = {
    8192: Parameters.create(8192, [45, 36, 36, 60]),
    32768: Parameters.create(32768, [50, 40, 40, 40, 40, 60]),
}


class Workload:
    """One engine with two fresh ciphertexts and what comes of them."""

    def __init__(self, engine: Simulator | Seal, seed: int) -> None:
        client: Client = engine.client()
        server: Evaluator = engine.evaluator(client.evaluation_keys((5,)))
        generator = np.random.default_rng(seed)
        self.client, self.server = client, server
        self.x, self.y = generator.uniform(-1, 1, (2, engine.parameters.slots))
        self.a, self.b = (client.encrypt(client.encode(z)) for z in (self.x, self.y))
        self.plain = server.encode(self.y)
        self.product = server.multiply(self.a, self.b)
        self.wide = server.relinearize(self.product)

    def operations(self) -> dict[str, tuple[Callable[[], Ciphertext], Slots]]:
        """Each operation, and what it gives exactly."""
        server, x, y = self.server, self.x, self.y
        exact: dict[str, tuple[Callable[[], Ciphertext], Slots]] = {
            "encode and encrypt": (lambda: self.client.encrypt(self.client.encode(x)), x),
            "add": (lambda: server.add(self.a, self.b), x + y),
            "ct·pt": (lambda: server.multiply_plain(self.a, self.plain), x * y),
            "ct·ct": (lambda: server.multiply(self.a, self.b), x * y),
            "relinearize": (lambda: server.relinearize(self.product), x * y),
            "rescale": (lambda: server.rescale(self.wide), x * y),
            "rotate": (lambda: server.rotate(self.a, 5), np.roll(x, -5)),
            "rotate and add": (
                lambda: server.add(self.a, server.rotate(self.a, 5)),
                x + np.roll(x, -5),
            ),
        }
        return exact


def tables(quick: bool) -> Sequence[Table]:
    """Times for each ring, and the standard deviation of the real parts' errors over 5 keys."""
    degrees = [8192] if quick else list(PARAMETERS)
    return [table for degree in degrees for table in (times(degree), errors(degree))]


def times(degree: int) -> Table:
    """One call of each operation."""
    parameters = PARAMETERS[degree]
    simulated = Workload(Simulator(parameters), 0).operations()
    seal = Workload(Seal(parameters), 0).operations()
    rows = [
        compare(name, {"simulated": simulated[name][0], "SEAL": seal[name][0]}) for name in seal
    ]
    limbs = len(parameters.primes)
    return Table(f"N = {degree}, {limbs} limbs", "ms", rows)


def errors(degree: int) -> Table:
    """What the simulator says that SEAL's noise is, and what it is."""
    parameters, seeds = PARAMETERS[degree], range(5)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        engines: dict[str, Simulator | Seal] = {
            "simulated": Simulator(parameters, seed=seed),
            "SEAL": Seal(parameters),
        }
        for engine, made in engines.items():
            work = Workload(made, seed)
            for name, (run, exact) in work.operations().items():
                error = (work.client.decrypt(run()) - exact).real
                found.setdefault(name, {}).setdefault(engine, []).append(float(np.mean(error**2)))
    rows: list[Row] = []
    for name, squares in found.items():
        ours, theirs = (float(np.sqrt(np.mean(squares[engine]))) for engine in squares)
        figures = {"simulated": ours, "SEAL": theirs, "simulated / SEAL": ours / theirs}
        rows.append(Row(name, {}, figures))
    return Table(f"N = {degree}: standard deviation of the error", "s", rows)
