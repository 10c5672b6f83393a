"""What both engines do with files, by what each makes of bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from . import store
from .engine import Ciphertext, EvaluationKeys
from .params import Parameters


class Files(ABC):
    """The files of an engine: what its `to_bytes` gives, and `ciphertext_of`, `keys_of` read."""

    name: ClassVar[str]
    parameters: Parameters

    @abstractmethod
    def to_bytes(self, item: Ciphertext | EvaluationKeys) -> bytes: ...

    @abstractmethod
    def ciphertext_of(self, data: bytes, source: str = "this") -> Ciphertext: ...

    @abstractmethod
    def keys_of(self, data: bytes, source: str = "this") -> EvaluationKeys: ...

    def save(self, item: Ciphertext | EvaluationKeys, path: str | Path) -> None:
        """Write a ciphertext or evaluation keys to a file."""
        store.write(path, self.to_bytes(item))

    def load_ciphertext(self, path: str | Path) -> Ciphertext:
        """The ciphertext in a file."""
        return self.ciphertext_of(Path(path).read_bytes(), str(path))

    def load_keys(self, path: str | Path) -> EvaluationKeys:
        """The evaluation keys in a file."""
        return self.keys_of(Path(path).read_bytes(), str(path))

    def _read(self, data: bytes, kind: str, source: str) -> tuple[dict[str, Any], bytes]:
        return store.read(data, source, kind, self.name, self.parameters)
