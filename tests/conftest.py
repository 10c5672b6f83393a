"""What every test stands on: generated cases that repeat, golden files, a cache of its own."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from .support import ROOT, Golden

# No deadline: the first example of a test may load LLVM. Derandomised: a run tells about the
# change that was made, not about the day. `--hypothesis-profile=explore` looks further.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")

CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """One flag renews every golden file."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


def pytest_configure(config: pytest.Config) -> None:
    """Send the user's cache folder elsewhere; xdist's workers inherit what this process sets."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="einloom-tests-")
        os.environ["XDG_CACHE_HOME"] = config.stash[CACHE].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if CACHE in config.stash:
        config.stash[CACHE].cleanup()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Holds a text to a file of tests/golden/."""
    return Golden(ROOT / "tests" / "golden", bool(request.config.getoption("--update-golden")))


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[Any, Any]:
    """Two operands, beside their files a.npy, b.npy and, together, ab.npz."""
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    np.savez(tmp_path / "ab.npz", left=a, right=b)
    return a, b
