"""Element types, under einloom's short names, with NumPy's promotion.

`f16` and `bf16` are storage types: an Einsum computes them in f32 and rounds once, where it
stores. The host types (`object`, `longdouble`, `clongdouble`) run on the NumPy backend only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from .errors import OperandError

#: A Python number, whose type yields to that of an array beside it (NEP 50).
Number = bool | int | float | complex

Kind = Literal["bool", "signed", "unsigned", "float", "complex", "object"]


@dataclass(frozen=True, slots=True)
class DType:
    """An element type: its name in the language, its kind, its size in bits.

    That of an expression of sizes and numbers alone is `weak`: beside floats it yields to theirs.
    """

    name: str
    kind: Kind
    bits: int
    weak: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype, in native byte order."""
        return _numpy_dtype(self.name)

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return self.bits // 8

    @property
    def is_integer(self) -> bool:
        return self.kind in ("signed", "unsigned")

    @property
    def is_inexact(self) -> bool:
        return self.kind in ("float", "complex")

    @property
    def is_host_only(self) -> bool:
        """Whether only NumPy can compute with it."""
        return self.name in _HOST

    @property
    def compute(self) -> DType:
        """The type an Einsum computes in: f32 for f16 and bf16, else the type itself."""
        return F32 if self.name in ("f16", "bf16") else self


BOOL = DType("bool", "bool", 8)
I8, I16, I32, I64 = (DType(f"i{bits}", "signed", bits) for bits in (8, 16, 32, 64))
U8, U16, U32, U64 = (DType(f"u{bits}", "unsigned", bits) for bits in (8, 16, 32, 64))
F16, F32, F64 = (DType(f"f{bits}", "float", bits) for bits in (16, 32, 64))
BF16 = DType("bf16", "float", 16)
C64, C128 = (DType(f"c{bits}", "complex", bits) for bits in (64, 128))

_LONG = 8 * np.dtype(np.longdouble).itemsize
_HOST = {
    "longdouble": DType("longdouble", "float", _LONG),
    "clongdouble": DType("clongdouble", "complex", 2 * _LONG),
    "object": DType("object", "object", 64),
}

#: Every dtype of the language by name.
DTYPES: dict[str, DType] = {
    dtype.name: dtype
    for dtype in (
        *(BOOL, I8, I16, I32, I64, U8, U16, U32, U64),
        *(F16, BF16, F32, F64, C64, C128),
        *_HOST.values(),
    )
}

_NUMPY_NAMES = {
    "bool": "bool",
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "c64": "complex64",
    "c128": "complex128",
    **{name: name for name in _HOST},
}
_BY_NUMPY_NAME = {numpy: name for name, numpy in _NUMPY_NAMES.items()} | {"bfloat16": "bf16"}


@cache
def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bf16":
        import ml_dtypes  # only bf16 needs it

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(_NUMPY_NAMES[name])


@cache
def of_numpy(dtype: np.dtype[Any]) -> DType:
    """einloom's name for a NumPy dtype, of either byte order.

    Raises:
        OperandError: no arithmetic is defined on it (strings, dates, records).
    """
    if dtype.kind in "biufcO":
        native = dtype.newbyteorder("=")
        if native == np.dtype(np.longdouble) and native.itemsize != 8:
            return _HOST["longdouble"]
        if native == np.dtype(np.clongdouble) and native.itemsize != 16:
            return _HOST["clongdouble"]
        name = "object" if dtype.kind == "O" else native.name
        if name in _BY_NUMPY_NAME:
            return DTYPES[_BY_NUMPY_NAME[name]]
    if dtype.name == "bfloat16":
        return BF16
    raise OperandError(
        f"dtype {dtype} has no einsum arithmetic",
        hint=f"use one of {', '.join(DTYPES)}",
    )


def as_dtype(spec: object) -> DType:
    """A DType from a DType, a name ("f32", "float32") or anything that `np.dtype` takes."""
    if isinstance(spec, DType):
        return spec
    if isinstance(spec, str):
        if spec in DTYPES:
            return DTYPES[spec]
        if spec in _BY_NUMPY_NAME:
            return DTYPES[_BY_NUMPY_NAME[spec]]
    try:
        given: Any = spec
        return of_numpy(np.dtype(given))
    except TypeError as error:
        if isinstance(error, OperandError):
            raise
        raise OperandError(
            f"{spec!r} is not a dtype", hint=f"use one of {', '.join(DTYPES)}"
        ) from None


def settle(operands: Sequence[DType | Number]) -> list[DType | Number]:
    """The dtypes of operands as NumPy takes them: a weak one is a number beside floats.

    Beside integers it is as it is, since a size may be more than theirs hold.

    >>> [str(found) for found in settle([replace(I64, weak=True), F32])]
    ['1', 'f32']
    """
    strongest = (dtype for dtype in operands if isinstance(dtype, DType) and not dtype.weak)
    floats = any(dtype.is_inexact for dtype in strongest)
    return [
        (_SAMPLES[found.kind] if floats else replace(found, weak=False))
        if isinstance(found, DType) and found.weak
        else found
        for found in operands
    ]


_SAMPLES: dict[Kind, Number] = {"signed": 1, "unsigned": 1, "float": 1.0, "complex": 1j}


def promote(*dtypes: DType) -> DType:
    """NumPy's common type; bf16 promotes as f16 does, and bf16 with f16 gives f32.

    >>> str(promote(I16, F16)), str(promote(BF16, F16)), str(promote(I8, BF16))
    ('f32', 'f32', 'bf16')
    """
    stand_ins = [F16 if dtype == BF16 else dtype for dtype in dtypes]
    result = of_numpy(np.result_type(*(dtype.numpy for dtype in stand_ins)))
    return resolve_bf16(result, dtypes)


def resolve_bf16(result: DType, operands: tuple[DType, ...]) -> DType:
    """What `result`, worked out with f16 in the place of bf16, is with bf16 itself."""
    if result.name != "f16" or all(dtype.name != "bf16" for dtype in operands):
        return result
    return F32 if any(dtype.name == "f16" for dtype in operands) else BF16
