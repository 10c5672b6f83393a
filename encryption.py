"""What is asked of encryption, and the packing of a Cascade as it is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict, cast

from einloom.arguments import extents_known, positive, whole
from einloom.backends.ckks.engine import Engine
from einloom.backends.ckks.params import Parameters
from einloom.backends.ckks.report import EngineName
from einloom.ir.cascade import Cascade
from einloom.ir.errors import ArgumentError, LevelError, OperandError
from einloom.ir.layouts import padded
from einloom.passes.fhe.approximate import Approximation, parse_approximations
from einloom.passes.fhe.choice import LayoutName, Packed, PlanName, choose
from einloom.passes.fhe.rotation_keys import KeysName

#: Inputs by name or position: one, or several.
Inputs: TypeAlias = "str | int | Sequence[str | int]"
#: Functions and what stands for them, or the text of that.
Approximations: TypeAlias = "Mapping[str, Approximation] | str"
#: So many slots are taken by default where fewer do not hold all points of the largest product.
MOST_SLOTS = 16384


class EncryptionOptions(TypedDict, total=False):
    """What `compile` takes for backend="ckks", besides; `Encryption` says what each means."""

    secret: Inputs | None
    slots: int | None
    layout: LayoutName
    plan: PlanName
    keys: KeysName
    engine: EngineName | Engine
    precision: int | None
    magnitude: float | None
    bound: float | None
    approximate: Approximations | None
    levels: int | None
    seed: int | None
    insecure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """How a Cascade is packed and encrypted.

    Args:
        secret: the inputs that are encrypted, by name or position; None: all of them.
        slots: of the program, a power of two; None: as many as the points of the largest product,
            16384 at most.
        layout: "row-major": encrypted inputs and outputs are row-major and compact; "free": they
            lie where they are needed.
        plan: "best", or "einhops": everything as EinHops does it.
        keys: "each": a rotation key for each step of the program; "few": as few as no further
            rotation is needed for; "powers-of-two": those alone, with more rotations.
        engine: "simulated", not secure; "seal"; or an engine with parameters of its own.
        precision: bits after the binary point that an operation's noise leaves right; None: 20.
        magnitude: the largest absolute value of any input; larger ones are refused. None: for a
            call, what its inputs need; for a client and a server, 1.
        bound: the largest absolute value of what is computed on the way; None: what inputs of that
            magnitude can lead to.
        approximate: functions that CKKS has not, as polynomials, by the function's name or the
            tensor's: {"sigmoid": el.Approximation(-8, 8, 7)}, or "sigmoid on -8..8 degree 7".
        levels: the most that there are; None: as many as it takes.
        seed: of the simulator's keys and noise; None: 0.
        insecure: takes the smallest ring, whatever its security: for experiments.
    """

    secret: Inputs | None = None
    slots: int | None = None
    layout: LayoutName = "row-major"
    plan: PlanName = "best"
    keys: KeysName = "each"
    engine: EngineName | Engine = "simulated"
    precision: int | None = None
    magnitude: float | None = None
    bound: float | None = None
    approximate: Approximations | None = None
    levels: int | None = None
    seed: int | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        for name, least in (("slots", None), ("precision", 1), ("levels", 0), ("seed", 0)):
            self._set(name, whole(name, getattr(self, name), least))
        for name in ("magnitude", "bound"):
            self._set(name, positive(name, getattr(self, name)))
        insecure: Any = self.insecure
        if not isinstance(insecure, bool):
            raise OperandError(f"insecure= is True or False, not {insecure!r}")
        asked: Any = self.approximate
        if isinstance(asked, Mapping):
            entries = cast("Mapping[Any, Any]", asked).items()
            if all(isinstance(k, str) and isinstance(v, Approximation) for k, v in entries):
                asked = None
        if not (asked is None or isinstance(asked, str)):
            raise OperandError(
                f"approximate= is a dict of Approximations by name, or its text, not {asked!r}"
            )
        if isinstance(self.engine, str):
            if self.engine not in ("simulated", "seal"):
                raise ArgumentError(
                    f"there is no engine {self.engine!r}", hint="'simulated' or 'seal'"
                )
            if self.engine == "seal" and self.seed is not None:
                raise ArgumentError("SEAL draws its own randomness: it takes no seed=")
            return
        if not isinstance(getattr(self.engine, "parameters", None), Parameters):
            raise OperandError(f"engine= is a name or an engine, not {self.engine!r}")
        asked = (self.precision, self.bound, self.seed, self.insecure or None)
        if any(each is not None for each in asked):
            raise ArgumentError(
                "an engine has parameters and a seed of its own",
                hint="precision=, bound=, seed= and insecure= go with an engine's name alone",
            )

    def _set(self, name: str, value: float | None) -> None:
        """A number as Python's own: it goes into texts and JSON."""
        object.__setattr__(self, name, value)

    def __str__(self) -> str:
        engine = self.engine
        if not isinstance(engine, str):
            return repr(engine).strip("<>")
        warning = ", NOT SECURE" if self.insecure else ""
        return f"{engine}, not secure" if engine == "simulated" else f"{engine}{warning}"


def pack_cascade(cascade: Cascade, secret: Sequence[str] | None, encryption: Encryption) -> Packed:
    """The packing of a Cascade whose extents are all declared.

    Raises:
        ArgumentError: an extent is not known, or there is no such input, layout or plan.
        SlotError, UnsupportedError: as `passes.fhe.choice.choose`.
    """
    sizes = extents_known(cascade)
    shapes = {
        decl.name: tuple(extent.value(sizes) for extent in decl.extents) for decl in cascade.inputs
    }
    slots = _enough(cascade, sizes) if encryption.slots is None else encryption.slots
    asked = encryption.approximate
    if isinstance(asked, str):
        asked = parse_approximations(asked)
    if asked and encryption.plan == "einhops":
        raise ArgumentError(
            f"EinHops packs one product: nothing uses the approximation of {', '.join(asked)}"
        )
    layout, plan, levels = encryption.layout, encryption.plan, encryption.levels
    most = _levels_there(encryption)
    try:
        chosen = choose(cascade, shapes, secret, slots, layout, plan, asked, levels, most)
    except LevelError as error:
        if levels is not None and levels <= most:
            raise
        named = isinstance(encryption.engine, str)
        raise LevelError(
            error.message,
            span=error.span,
            deduced=(*error.deduced, "no ring has more" if named else "the engine has no more"),
            hint="decrypt on the way and encrypt anew, in two cascades; or approximate functions "
            "by lower degrees",
        ) from None
    return chosen.with_keys(encryption.keys)


def _levels_there(encryption: Encryption) -> int:
    """How many levels a ring can have; an engine's parameters, those that it has."""
    if not isinstance(encryption.engine, str):
        return encryption.engine.parameters.top_level
    precision = 20 if encryption.precision is None else encryption.precision
    return Parameters.most_depth(precision, encryption.insecure)


def _enough(cascade: Cascade, sizes: Mapping[str, int]) -> int:
    """Slots for every tensor and all points of every Einsum, axes padded to powers of two."""
    spaces = [
        [sizes.get(v.upper(), 1) for v in (*einsum.free, *einsum.reduced)]
        for einsum in cascade.einsums
    ]
    tensors = (*(decl.extents for decl in cascade.inputs), *cascade.extents().values())
    spaces += [[extent.value(sizes) for extent in extents] for extents in tensors]
    most = max(math.prod(padded(extent, "power") for extent in space) for space in spaces)
    return min(max(most, 1), MOST_SLOTS)
