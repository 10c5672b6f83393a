"""Ciphertexts and keys as bytes and in files: versioned, checked, written whole or not at all.

Nothing is unpickled. The bytes are: the magic line, a version, the header's length and the header
(JSON: what it is, of which engine, parameters and owner), the payload's length and the payload, and
a SHA-256 of all that. The digest finds damage; it does not prove who made them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ...ir.errors import ArgumentError
from .engine import Ciphertext, EvaluationKeys
from .params import Parameters

_MAGIC = b"einloom-ckks\n"
_VERSION = 1
_MOST_HEADER = 1 << 20
_DIGEST = 32


def dump(
    engine: str, parameters: Parameters, item: Ciphertext | EvaluationKeys, payload: bytes
) -> bytes:
    """A ciphertext or evaluation keys, whose payload an engine has made bytes of, as bytes."""
    if isinstance(item, Ciphertext):
        kind = "ciphertext"
        meta = {"level": item.level, "scale": item.scale.hex(), "size": item.size}
    else:
        kind = "evaluation keys"
        meta = {"relinearization": item.relinearization, "steps": sorted(item.steps)}
    return content(kind, engine, parameters, {"owner": item.owner, **meta}, payload)


def save_secret(
    path: str | Path, engine: str, parameters: Parameters, owner: str, payload: bytes
) -> None:
    """Write a secret key to a file that its owner alone may read."""
    write(path, content("secret key", engine, parameters, {"owner": owner}, payload), 0o600)


def content(
    kind: str, engine: str, parameters: Parameters, meta: dict[str, Any], payload: bytes
) -> bytes:
    """The bytes of something of a kind, with its header, payload and digest."""
    about = {**description(kind, engine, parameters), **meta}
    header = json.dumps(about).encode()
    body = b"".join(
        (
            _MAGIC,
            struct.pack("<HI", _VERSION, len(header)),
            header,
            struct.pack("<Q", len(payload)),
            payload,
        )
    )
    return body + hashlib.sha256(body).digest()


def write(path: str | Path, content: bytes, mode: int = 0o666) -> None:
    """Write a new file, whole or not at all, that those may read whom `mode` lets.

    Raises:
        OSError: the system refused; it names the file that was asked for.
    """
    path = Path(path)
    # Beside its target: a rename is atomic within one file system alone.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def read(
    data: bytes, source: str, kind: str, engine: str, parameters: Parameters
) -> tuple[dict[str, Any], bytes]:
    """The header and payload of bytes of this kind, engine and parameters; `source` names them.

    Raises:
        ArgumentError: they are others, of another version, cut short, or damaged.
    """
    meta, payload = _opened(data, source)
    check(meta, source, kind, engine, parameters)
    return meta, payload


def check(
    about: Mapping[str, Any], source: str, kind: str, engine: str, parameters: Parameters
) -> None:
    """What something says of itself is what is asked for.

    Raises:
        ArgumentError: it is of another kind, engine, or of other parameters.
    """
    for key, value in description(kind, engine, parameters).items():
        if about.get(key) != value:
            another = f"other {key}" if key == "parameters" else f"another {key}"
            raise ArgumentError(
                f"{source} is of {another}",
                passed=(f"its {key}: {about.get(key)}", f"asked for: {value}"),
            )


def description(kind: str, engine: str, parameters: Parameters) -> dict[str, str]:
    """What a header says of everything."""
    return {"kind": kind, "engine": engine, "parameters": parameters.to_json()}


def read_parameters(path: str | Path) -> Parameters:
    """The parameters that a file's content was made with.

    Raises:
        ArgumentError: the file is damaged or not of this format.
    """
    meta, _ = _opened(Path(path).read_bytes(), str(path))
    return Parameters.from_json(str(meta.get("parameters")))


def _opened(data: bytes, source: str) -> tuple[dict[str, Any], bytes]:
    start = len(_MAGIC) + 6
    if not data.startswith(_MAGIC) or len(data) < start:
        raise ArgumentError(f"{source} is not a file of CKKS keys or ciphertexts")
    version, length = struct.unpack_from("<HI", data, len(_MAGIC))
    if version != _VERSION:
        raise ArgumentError(
            f"{source} is of version {version} of the format", deduced=(f"known is {_VERSION}",)
        )
    at = start + length
    if length > _MOST_HEADER or len(data) < at + 8:
        raise ArgumentError(f"{source} is cut short")
    (size,) = struct.unpack_from("<Q", data, at)
    end = at + 8 + size
    if len(data) != end + _DIGEST:
        raise ArgumentError(
            f"{source} has another length than it says",
            passed=(f"{len(data)} bytes, {end + _DIGEST} expected",),
        )
    if hashlib.sha256(memoryview(data)[:end]).digest() != data[end:]:
        raise ArgumentError(f"{source} is damaged: its digest differs")
    try:
        meta: Any = json.loads(data[start:at])
    except ValueError as error:
        raise ArgumentError(f"{source} has a header that is no JSON") from error
    if not isinstance(meta, dict):
        raise ArgumentError(f"{source} has a header that says nothing")
    return cast("dict[str, Any]", meta), data[at + 8 : end]


def owner_of(meta: dict[str, Any]) -> str:
    """Whose keys a header names."""
    return str(meta.get("owner"))


def ciphertext(meta: dict[str, Any], parameters: Parameters, payload: object) -> Ciphertext:
    """The ciphertext that a header describes.

    Raises:
        ArgumentError: the description is not of a ciphertext of these parameters.
    """
    try:
        level, size = int(meta["level"]), int(meta["size"])
        scale = float.fromhex(meta["scale"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArgumentError("the header describes no ciphertext") from error
    if not 0 <= level <= parameters.top_level or size not in (2, 3) or not 0 < scale < 2.0**1023:
        raise ArgumentError("the header describes no ciphertext of these parameters")
    return Ciphertext(owner_of(meta), level, scale, size, payload)


def keys(meta: dict[str, Any], parameters: Parameters, payload: object) -> EvaluationKeys:
    """The evaluation keys that a header describes.

    Raises:
        ArgumentError: the description is not of evaluation keys of these parameters.
    """
    try:
        steps = frozenset(int(step) for step in meta["steps"])
        relinearization = bool(meta["relinearization"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError("the header describes no evaluation keys") from error
    if not all(0 < step < parameters.slots for step in steps):
        raise ArgumentError("the header names steps that these parameters have not")
    return EvaluationKeys(owner_of(meta), parameters, relinearization, steps, payload)
