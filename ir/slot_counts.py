"""What a SlotProgram costs: operations by kind and level, keys, and a weighted total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .slot_verify import State, trace
from .slots import SlotProgram

#: Costs for one limb, a key switch being 1: from timings at N = 2^15 (OpenFHE, one thread).
#: A rotation and a relinearisation are a key switch each; `encode` and `encrypt` are for a whole
#: vector, `encrypt` with its encoding and for each limb.
WEIGHTS: Mapping[str, float] = {
    "key_switch": 1.0,
    "mul": 0.15,
    "rescale": 0.2,
    "mul_plain": 0.006,
    "add": 0.002,
    "encode": 1.0,
    "encrypt": 1.0,
}


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """How many operations a SlotProgram has; `str` is a table of them.

    `rotations` by step; `hoisted` of them can share the decomposition that another rotation of the
    same value pays for: all but one of each rotate. `encodes` counts pairs of a plain vector and a
    level, `constant_encodes` those that are the same in every run; `levels` is the depth,
    `ciphertexts` those of inputs and outputs, `cost` the total by WEIGHTS in key switches of one
    limb, encodes that are the same in every run left out.
    """

    rotations_by_step: tuple[tuple[int, int], ...]
    hoisted: int
    relinearizations: int
    ct_mults: int
    pt_mults: int
    adds: int
    rescales: int
    mod_switches: int
    encodes: int
    constant_encodes: int
    levels: int
    ciphertexts: int
    cost: float

    @property
    def rotations(self) -> int:
        return sum(count for _, count in self.rotations_by_step)

    @property
    def key_switches(self) -> int:
        """Rotations and relinearisations."""
        return self.rotations + self.relinearizations

    @property
    def rotation_keys(self) -> tuple[int, ...]:
        """The steps of which a rotation key is needed."""
        return tuple(step for step, _ in self.rotations_by_step)

    @property
    def summary(self) -> str:
        """What distinguishes plans, on one line."""
        return (
            f"{self.key_switches} key switches, {self.pt_mults} pt, {self.ct_mults} ct, "
            f"{self.levels} levels, cost {self.cost:.1f}"
        )

    def key_bytes(self, degree: int, special: int = 1) -> int:
        """Bytes of the rotation keys and the relinearisation key, as SEAL keeps them.

        2 * digits * limbs * degree * 8 each: a digit for each of levels+1 primes, and `special`
        primes besides.
        """
        limbs = self.levels + 1
        keys = len(self.rotation_keys) + (self.relinearizations > 0)
        return keys * 2 * limbs * (limbs + special) * degree * 8

    def as_dict(self) -> dict[str, Any]:
        """The numbers by name, rotations by step: what JSON takes."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        steps = {str(step): count for step, count in found.pop("rotations_by_step")}
        totals = {"rotations": self.rotations, "key_switches": self.key_switches}
        return {**totals, "rotations_by_step": steps, **found}

    def __str__(self) -> str:
        rows = [
            ("rotations", f"{self.rotations} ({self.hoisted} hoisted)"),
            ("rotation keys", str(len(self.rotation_keys))),
            ("relinearizations", str(self.relinearizations)),
            ("ct multiplies", str(self.ct_mults)),
            ("pt multiplies", str(self.pt_mults)),
            ("encodes", f"{self.encodes} ({self.constant_encodes} constant)"),
            ("rescales", str(self.rescales)),
            ("levels", str(self.levels)),
            ("ciphertexts", str(self.ciphertexts)),
            ("cost", f"{self.cost:.1f}"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def count(program: SlotProgram) -> SlotCounts:
    """The counts of a program.

    Raises:
        SlotError, LevelError: the program breaks a rule.
    """
    states = trace(program)
    steps: Counter[int] = Counter()
    ops: Counter[str] = Counter()
    hoisted = 0
    cost = 0.0
    encoded: set[tuple[int, int, bool]] = set()
    made = program.encrypted
    for op in program.ops:
        limbs = states[op.args[0]].level + 1
        ops[op.op] += 1
        if op.op == "rotate":
            steps.update(op.steps)
            hoisted += len(op.steps) - 1
            cost += WEIGHTS["key_switch"] * limbs * len(op.steps)
        elif op.op == "relinearize":
            cost += WEIGHTS["key_switch"] * limbs
        else:
            cost += WEIGHTS.get(op.op, WEIGHTS["add"]) * limbs
        if op.plain is not None:
            encoded.add((op.plain, limbs, op.op == "mul_plain"))
        made += op.results
    constant = sum(program.plains[plain].constant for plain, _, _ in encoded)
    cost += WEIGHTS["encode"] * (len(encoded) - constant)
    return SlotCounts(
        tuple(sorted(steps.items())),
        hoisted,
        ops["relinearize"],
        ops["mul"],
        ops["mul_plain"],
        ops["add"] + ops["sub"] + ops["add_plain"],
        ops["rescale"],
        ops["mod_switch"],
        len(encoded),
        constant,
        depth(program, states),
        program.encrypted + sum(len(output.values) for output in program.outputs),
        cost,
    )


def depth(program: SlotProgram, states: tuple[State, ...]) -> int:
    """How many levels the program uses up."""
    least = min((state.level for state in states), default=program.levels)
    return program.levels - least
