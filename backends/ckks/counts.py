"""What an evaluation did: operations by kind, key switches, the keys' size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(slots=True)
class Counts:
    """The operations of one evaluator so far; it counts what has succeeded.

    `key_switches` are all of them (relinearisations, and rotations by their weight in keys);
    `hoisted` are those among them that shared the decomposition that another paid for.
    """

    adds: int = 0
    plain_adds: int = 0
    negations: int = 0
    ct_mults: int = 0
    squares: int = 0
    pt_mults: int = 0
    relinearizations: int = 0
    rescales: int = 0
    mod_switches: int = 0
    encodes: int = 0
    key_switches: int = 0
    hoisted: int = 0
    key_bytes: int = 0
    rotations: Counter[int] = field(default_factory=Counter[int])
    engine: str = field(default="", compare=False)

    @property
    def multiplies(self) -> int:
        """Products of two ciphertexts, squares among them."""
        return self.ct_mults + self.squares

    def since(self, before: Counts) -> Counts:
        """What was done after an earlier copy of these counts; the keys are those held."""
        numbers = {
            each.name: getattr(self, each.name) - getattr(before, each.name)
            for each in fields(self)
            if each.name not in ("key_bytes", "rotations", "engine")
        }
        rotations = self.rotations - before.rotations
        return Counts(**numbers, key_bytes=self.key_bytes, rotations=rotations, engine=self.engine)

    def copy(self) -> Counts:
        """The counts as they are now."""
        return replace(self, rotations=self.rotations.copy())

    def as_dict(self) -> dict[str, Any]:
        """The numbers by name, rotations by step: what JSON takes."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        steps = {str(step): count for step, count in sorted(self.rotations.items())}
        return found | {"rotations": steps}

    def __str__(self) -> str:
        rows = [
            ("engine", self.engine),
            ("multiplies", f"{self.ct_mults} ct·ct, {self.squares} squares, {self.pt_mults} ct·pt"),
            ("adds", f"{self.adds} ct, {self.plain_adds} pt, {self.negations} negations"),
            ("rotations", f"{self.rotations.total()} by {len(self.rotations)} steps"),
            ("relinearizations", str(self.relinearizations)),
            ("key switches", f"{self.key_switches}, of them {self.hoisted} hoisted"),
            ("rescales", f"{self.rescales}, and {self.mod_switches} modulus switches"),
            ("encodes", str(self.encodes)),
            ("key bytes", f"{self.key_bytes:,}"),
        ]
        return "\n".join(f"{name:<17}{text}" for name, text in rows)
