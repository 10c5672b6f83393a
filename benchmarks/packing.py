"""Einsums in encrypted slots: what EinHops' packing takes, what einloom's does, and SEAL's seconds.

Every input is encrypted. "known" is what the literature has: EinHops' own rotations; for row-major
inputs and outputs, a baby-step giant-step product at the stride of its diagonals; for layouts that
are free, rotating and adding alone. The larger products are beside Jiang et al. (CCS 2018), 3d +
5√d rotations of d² slots, and the bicyclic product, d + 2√d - 3: each for as many d x d products as
there are, divided by how many a ciphertext holds at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

import einloom as el
from einloom.backends.ckks.foresight import largest, parameters_for
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.run import ProgramClient, ProgramServer
from einloom.backends.ckks.seal import Seal
from einloom.passes.fhe.choice import Packed

from .measure import Row, Table

_T = TypeVar("_T")
Shapes = Sequence[tuple[int, ...]]
SLOTS = 16384
#: Ways to pack, and what `el.pack` is asked for.
WAYS: Mapping[str, dict[str, Any]] = {
    "EinHops": {"plan": "einhops"},
    "row-major": {},
    "free": {"layout": "free"},
}
#: An einsum, its shapes, and the rotations that are known for each of the WAYS.
KNOWN: Sequence[tuple[str, Shapes, tuple[int, int, int]]] = [
    ("ij->ji", [(128, 128)], (254, 30, 0)),
    ("ij->", [(128, 128)], (14, 14, 14)),
    ("ij->j", [(128, 128)], (7, 7, 7)),
    ("ij->i", [(128, 128)], (261, 37, 7)),
    ("ik,k->i", [(128, 128), (128,)], (522, 65, 7)),
    ("ik,kj->ij", [(16, 32), (32, 32)], (110, 34, 5)),
    ("i,i->", [(16384,), (16384,)], (14, 14, 14)),
    ("ij,ij->ij", [(128, 128), (128, 128)], (0, 0, 0)),
    ("i,j->ij", [(128,), (128,)], (268, 35, 0)),
]
#: Those that are timed in a hurry, too.
_FEW = ("ij->ji", "ik,k->i")


@dataclass(frozen=True)
class Large:
    """A larger product: one of square matrices of `side`, so many times one after another."""

    subscripts: str
    shapes: Shapes
    slots: int
    side: int
    times: int


#: What has more plaintexts than these is not run on SEAL: encoding them would take an hour.
_MOST_ENCODES = 10_000

D = 64
LARGE = [
    Large("ik,kj->ij", [(D, D), (D, D)], SLOTS, D, 1),
    Large("ik,kj->ij", [(D, D), (D, D)], 1024, 32, 8),
    # 64 products of 64 x 64: four of them in one ciphertext of 16384 slots.
    Large("ijl,kl->ijk", [(D, D, D), (D, D)], SLOTS, D, 16),
    Large("ilk,jk,lj->ij", [(D, D, D), (D, D), (D, D)], SLOTS, D, 16),
]


def tables(quick: bool) -> Iterator[Table]:
    """Counts and SEAL's seconds; not in a hurry, the larger products, too: they take minutes."""
    yield counts()
    yield seconds([(text, shapes) for text, shapes, _ in KNOWN if text in _FEW or not quick])
    if not quick:
        yield larger()


def counts() -> Table:
    """What each way to pack takes, of single ciphertexts."""
    rows = [
        Row(f"{named(text, shapes)}, {way}", {}, {**figures(packed), "known": float(known[n])})
        for text, shapes, known in KNOWN
        for n, (way, packed) in enumerate(ways(text, shapes).items())
    ]
    return Table(f"{SLOTS} slots", "s", rows)


def ways(text: str, shapes: Shapes) -> dict[str, Packed]:
    """The packing of an einsum in each way."""
    return {way: el.pack(text, SLOTS, shapes=shapes, **asked) for way, asked in WAYS.items()}


def figures(packed: Packed) -> dict[str, float]:
    """What a packing takes, by name."""
    found = packed.counts
    return {
        "rotations": found.rotations,
        "key switches": found.key_switches,
        "pt": found.pt_mults,
        "ct": found.ct_mults,
        "levels": found.levels,
    }


def named(text: str, shapes: Shapes) -> str:
    """An einsum with its shapes."""
    sizes = ", ".join("x".join(map(str, shape)) for shape in shapes)
    return f"`{text}` {sizes}"


# ---- seconds


def seconds(cases: Sequence[tuple[str, Shapes]]) -> Table:
    """The server's seconds, each program on the parameters that EinHops' needs.

    A run after the first, so that plaintexts which are always the same are encoded already, and
    the keys' size beside it.
    """
    rows: list[Row] = []
    for text, shapes in cases:
        times, sizes = dict[str, float](), dict[str, float]()
        parameters: Parameters | None = None
        for way, packed in ways(text, shapes).items():
            program = packed.program
            if parameters is None:
                parameters = parameters_for(program, magnitude=largest(program))
            times[way], keys = on_seal(packed, text, shapes, parameters)
            sizes[f"{way}, MB of keys"] = keys / 1e6
        if times["row-major"]:
            sizes["EinHops / row-major"] = times["EinHops"] / times["row-major"]
        rows.append(Row(named(text, shapes), times, sizes))
    return Table(f"SEAL, N = {2 * SLOTS}", "s", rows)


def on_seal(packed: Packed, text: str, shapes: Shapes, parameters: Parameters) -> tuple[float, int]:
    """Seconds of one run, and bytes of keys; the result is held to what NumPy says."""
    program, rng = packed.program, np.random.default_rng(0)
    arrays = [rng.uniform(-1, 1, shape) for shape in shapes]
    inputs = {each.name: array for each, array in zip(program.inputs, arrays, strict=True)}
    engine = Seal(parameters)
    client = ProgramClient(program, engine)
    server = ProgramServer(program, engine.evaluator(client.keys()))
    sent = client.encrypt(inputs)
    server.run(sent)
    taken, done = clocked(partial(server.run, sent))
    (output,) = client.decrypt(done.outputs).values()
    error = float(np.abs(output - np.einsum(text, *arrays, optimize=True)).max())
    if error > 1e-2:
        raise ArithmeticError(f"{text} on SEAL is {error} off")
    return taken if program.ops else 0.0, server.counts.key_bytes


# ---- larger products


def larger() -> Table:
    """Several ciphertexts for each tensor: seconds to plan and on SEAL, counts, known formulas."""
    rows: list[Row] = []
    for each in LARGE:
        jiang = each.times * (3 * each.side + 5 * math.sqrt(each.side))
        bicyclic = each.times * (each.side + 2 * math.sqrt(each.side) - 3)
        for way in ("row-major", "free"):
            pack = partial(el.pack, each.subscripts, each.slots, shapes=each.shapes, **WAYS[way])
            taken, packed = clocked(pack)
            name = f"{named(each.subscripts, each.shapes)}, {each.slots} slots, {way}"
            rotations = packed.counts.rotations
            ratios = {"/ Jiang": rotations / jiang, "/ bicyclic": rotations / bicyclic}
            held, times = {"ciphertexts": float(packed.counts.ciphertexts)}, {"planned": taken}
            if packed.counts.pt_mults <= _MOST_ENCODES:
                program = packed.program
                parameters = parameters_for(program, magnitude=largest(program))
                times["SEAL"], keys = on_seal(packed, each.subscripts, each.shapes, parameters)
                held["MB of keys"] = keys / 1e6
            rows.append(Row(name, times, {**held, **figures(packed), **ratios}))
    return Table("larger", "s", rows)


def clocked(call: Callable[[], _T]) -> tuple[float, _T]:
    """Thread CPU seconds of one call, and what it gave."""
    start = time.thread_time()
    found = call()
    return time.thread_time() - start, found
