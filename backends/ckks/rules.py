"""What is refused, and in which words: the rules of SEAL, the same for both engines."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...ir.errors import ArgumentError, LevelError, OperandError, SlotError, UnsupportedError
from .engine import Ciphertext, EvaluationKeys, Plaintext, Slots
from .params import Parameters


def state(name: str, value: Ciphertext | Plaintext) -> str:
    """One line of an error message: what an operand is, never what it holds."""
    text = f"{name}: level {value.level}, scale 2^{math.log2(value.scale):.6f}"
    return f"{text}, size {value.size}" if isinstance(value, Ciphertext) else f"{text}, plaintext"


def level_exists(parameters: Parameters, level: int) -> None:
    """A level is from 0 to the top."""
    if not 0 <= level <= parameters.top_level:
        raise LevelError(
            f"there is no level {level}", deduced=(f"levels are 0 to {parameters.top_level}",)
        )


def slots_of(parameters: Parameters, values: ArrayLike) -> Slots:
    """The values as all N/2 slots, zero after the last."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "buifc":
        raise SlotError(
            "slots hold one vector of numbers", passed=(f"{array.dtype} {array.shape}",)
        )
    if array.size > parameters.slots:
        raise SlotError(
            f"a vector of {array.size} does not fit {parameters.slots} slots",
            hint="cut it into several ciphertexts, or use a larger ring degree",
        )
    if not np.isfinite(array).all():
        raise SlotError("slots hold finite numbers only")
    slots = np.zeros(parameters.slots, np.complex128)
    slots[: array.size] = array
    return slots


def encoding_scale(parameters: Parameters, level: int, scale: float) -> None:
    """A scale leaves a bit of the modulus at least."""
    bits = parameters.modulus_bits(level)
    if not (0 < scale < math.inf) or int(math.log2(scale)) + 1 >= bits:
        raise LevelError(
            f"the scale {scale:.6g} is out of bounds for encoding at level {level}",
            deduced=(f"the modulus at level {level} has {bits} bits",),
        )


def transformable(parameters: Parameters, level: int, scale: float, slots: Slots) -> None:
    """The sums that make coefficients of slots fit a float: SEAL would encode what is left."""
    with np.errstate(over="ignore"):
        largest = float(np.abs(slots).max())
    if not math.isfinite(largest * len(slots)):
        raise too_large(parameters, level, scale)


def encoded_size(parameters: Parameters, level: int, scale: float, largest: float) -> None:
    """The largest coefficient, unscaled, fits the modulus with its sign."""
    scaled = max(largest * scale, 1.0)
    if math.isinf(scaled) or math.ceil(math.log2(scaled)) + 1 >= parameters.modulus_bits(level):
        raise too_large(parameters, level, scale)


def too_large(parameters: Parameters, level: int, scale: float) -> SlotError:
    """The refusal of values that do not fit the modulus."""
    return SlotError(
        f"the values are too large to encode at scale 2^{math.log2(scale):.4g}",
        deduced=(f"the modulus at level {level} has {parameters.modulus_bits(level)} bits",),
        hint="scale the values down, or use a larger first prime or a smaller scale",
    )


def product_scale(parameters: Parameters, level: int, a: float, b: float) -> None:
    """The scale of a product fits the modulus."""
    bits, product = parameters.modulus_bits(level), a * b
    if not (0 < product < math.inf) or int(math.log2(product)) >= bits:
        raise LevelError(
            "the scale of the product is out of bounds",
            deduced=(
                f"it would be 2^{math.log2(a) + math.log2(b):.4g}; level {level} has {bits} bits",
            ),
            hint="rescale the factors first, or start with more levels",
        )


def owned(owner: str, operands: tuple[Ciphertext, ...]) -> None:
    """All ciphertexts are under the evaluator's or client's keys."""
    for operand in operands:
        if operand.owner != owner:
            raise SlotError(
                "this ciphertext is under other keys",
                passed=(f"ciphertext of {operand.owner}, keys of {owner}",),
            )


def same_level(operation: str, a: Ciphertext, b: Ciphertext | Plaintext) -> None:
    """Both operands of any operation are at one level."""
    if a.level != b.level:
        raise LevelError(
            f"{operation} needs operands at one level",
            passed=(state("a", a), state("b", b)),
            hint="mod_switch the higher one down, or encode at the ciphertext's level",
        )


def same_scale(operation: str, a: Ciphertext, b: Ciphertext | Plaintext) -> None:
    """Both operands of an addition have one scale, within a rounding (SEAL's are_close)."""
    if abs(a.scale - b.scale) >= sys.float_info.epsilon * max(a.scale, b.scale, 1.0):
        raise LevelError(
            f"{operation} needs operands at one scale",
            deduced=(f"their scales differ by the factor {a.scale / b.scale:.9g}",),
            passed=(state("a", a), state("b", b)),
            hint="rescale both, or encode a plaintext at the ciphertext's scale",
        )


def whole_steps(steps: Iterable[Any]) -> list[int]:
    """Rotations are by whole numbers of slots."""
    found: list[int] = []
    for step in steps:
        try:
            found.append(operator.index(step))
        except TypeError:
            raise OperandError(f"a rotation is by a whole number of slots, not {step!r}") from None
    return found


def size_two(operation: str, a: Ciphertext) -> None:
    """A rotation, and a factor of a product, are relinearised."""
    if a.size != 2:
        raise SlotError(
            f"{operation} needs a ciphertext of size 2",
            passed=(state("a", a),),
            hint="relinearize it first",
        )


def one_below(operation: str, a: Ciphertext) -> None:
    """A level is left to go down to."""
    if a.level == 0:
        raise LevelError(
            f"{operation}: no level is left",
            passed=(state("a", a),),
            hint="start with more levels: Parameters.choose(depth=...)",
        )


def switched_scale(parameters: Parameters, a: Ciphertext) -> None:
    """The scale still fits one level down."""
    bits = parameters.modulus_bits(a.level - 1)
    if int(math.log2(a.scale)) >= bits:
        raise LevelError(
            f"the scale is out of bounds at level {a.level - 1}",
            deduced=(f"level {a.level - 1} has {bits} bits",),
            passed=(state("a", a),),
        )


def decodable(parameters: Parameters, a: Ciphertext) -> None:
    """The scale fits the modulus when it is decrypted."""
    if int(math.log2(a.scale)) >= parameters.modulus_bits(a.level):
        raise LevelError("the scale is out of bounds for decoding", passed=(state("a", a),))


def can_relinearize(keys: EvaluationKeys) -> None:
    """The key for it is held."""
    if not keys.relinearization:
        raise SlotError(
            "there is no key for relinearisation",
            hint="ask the client for evaluation_keys(relinearization=True)",
        )


def fits(parameters: Parameters, keys: EvaluationKeys, engine: str, known: bool) -> None:
    """Keys are of this engine and these parameters."""
    if not known or keys.parameters != parameters:
        raise ArgumentError(
            "these evaluation keys are of another engine or other parameters",
            passed=(
                f"engine {engine}, parameters {parameters.digest[:16]}",
                f"keys of {keys.owner}, parameters {keys.parameters.digest[:16]}",
            ),
        )


def encoded_for(parameters: Parameters, plaintext: Plaintext, known: bool) -> None:
    """A plaintext is of this engine and these parameters."""
    if not known or (plaintext.parameters is not parameters and plaintext.parameters != parameters):
        raise SlotError("this plaintext was encoded by another engine or for other parameters")


def no_copy() -> UnsupportedError:
    """The refusal to copy or pickle a client."""
    return UnsupportedError(
        "a client holds a secret key, which no copy and no pickle may take along",
        hint="save_secret_key(path) writes it to a file that only its owner may read",
    )


def transparent() -> SlotError:
    """The refusal of a result that anyone could read."""
    return SlotError(
        "the result would not be encrypted at all: its random part cancels (transparent)",
        hint="a product with 0 and a - a are known to be 0: leave them out",
    )
