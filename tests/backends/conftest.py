"""What tests of the backends share."""

from __future__ import annotations

from pathlib import Path

import pytest

from einloom.backends.llvm import cache, loaded


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cache.ObjectCache:
    """Nothing in memory, and an empty folder."""
    monkeypatch.setattr(cache, "_current", cache.ObjectCache(tmp_path / "objects"))
    monkeypatch.setattr(loaded, "_loaded", type(loaded._loaded)())
    return cache.current()
